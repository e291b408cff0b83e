/*!
A key's place within a slice, found on the encoded vectors.

Rows of a slice are sorted by the key's columns, so each column narrows the range of rows that the ones before it left.
A column of integers is searched by value: where they follow a line that line predicts the row, else the least and the greatest do; a few
steps of interpolation bound it, and a bisection ends the search. Byte strings are searched in the same way by what they begin with as a number, and compared where they
lie. A key's components of these two kinds are taken from its bytes as they are; with others among them the key is decoded, and
values are compared. A bound of a range may be a prefix or a successor of a key and need not decode; then keys of rows are
built and compared as bytes.
*/

use super::loaded::Loaded;
use super::locators::Spot;
use super::predicate::compare_in_key;
use super::{RunSchema, small, wide};
use crate::cache::Pin;
use crate::encoding::{Course, StringsAt, Vector};
use crate::error::{Error, Result};
use crate::key::take_bytes;
use crate::types::{ColumnType, Value};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::ops::Range;

/// Steps of interpolation before bisection: three end the search in even data, and cost little in other.
const INTERPOLATIONS_MAX: usize = 4;
/// Rows among which bisection is at least as fast as another interpolation.
const BISECT_ROWS: usize = 4;

/// A row, or where one would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) slice: u32,
    /// The slice's number of rows if all are less.
    pub(super) row: u32,
    /// Whether the row has the key that was looked for.
    pub(super) exact: bool,
}

/// A column of the key, as the file has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyColumn {
    /// Its place among the file's columns.
    pub(super) place: usize,
    component: Component,
}

/// What a column's part of a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Component {
    /// Eight bytes that are an integer.
    Int,
    /// A byte string that ends itself.
    Bytes,
    /// Sixteen bytes as they are stored.
    Sixteen,
    /// Only its value can be compared with what is stored.
    Value,
}

impl KeyColumn {
    /// The key's columns of a schema.
    pub(super) fn all(schema: &RunSchema) -> Result<Vec<KeyColumn>> {
        let lost = || Error::corruption("the run's key names a column that it does not store");
        let column = |(id, column): (&_, &crate::key::KeyColumn)| {
            let place = schema.position(*id).ok_or_else(lost)?;
            let component = if column.nullable { Component::Value } else { Component::of(column.ty) };
            Ok(KeyColumn { place, component })
        };
        schema.key_columns.iter().zip(schema.key.columns()).map(column).collect()
    }
}

impl Component {
    fn of(ty: ColumnType) -> Component {
        match ty {
            ColumnType::Int16
            | ColumnType::Int32
            | ColumnType::Int64
            | ColumnType::Date
            | ColumnType::Time
            | ColumnType::Timestamp
            | ColumnType::TimestampTz => Component::Int,
            ColumnType::Text | ColumnType::Bytes => Component::Bytes,
            ColumnType::Uuid => Component::Sixteen,
            _ => Component::Value,
        }
    }

    /// Takes it off the front of a key; `None` where the key does not begin with one, or only its value tells.
    #[inline]
    fn take<'k>(self, rest: &mut &'k [u8]) -> Option<Target<'k>> {
        match self {
            Component::Int => {
                let (bytes, tail) = rest.split_first_chunk::<8>()?;
                *rest = tail;
                Some(Target::Int(int_of(*bytes)))
            }
            Component::Bytes => take_bytes(rest).ok().map(Target::Bytes),
            Component::Sixteen => {
                let (bytes, tail) = rest.split_at_checked(16)?;
                *rest = tail;
                Some(Target::Bytes(Cow::Borrowed(bytes)))
            }
            Component::Value => None,
        }
    }
}

/// What a column is searched for.
#[derive(Debug)]
enum Target<'k> {
    Int(i64),
    Bytes(Cow<'k, [u8]>),
    Value(Value),
}

impl Loaded {
    /// The first row of the slice whose key is not less than `key`, and whether it has it. `first` is the first key column's
    /// vector.
    pub(super) fn search(&self, spot: &Spot, key: &[u8], first: &[u8], pin: &Pin<'_>) -> Result<(u32, bool)> {
        let found = if self.key.iter().any(|column| column.component == Component::Value) {
            match self.schema.key.decode(key).ok() {
                Some(values) if self.schema.key.encode(&values).is_ok_and(|encoded| encoded.as_ref() == key) => {
                    let mut values = values.into_iter().map(Target::Value);
                    self.narrow(spot, first, pin, |_, _| values.next())?
                }
                _ => None,
            }
        } else {
            let mut rest = key;
            self.narrow(spot, first, pin, |column, last| {
                column.component.take(&mut rest).filter(|_| !last || rest.is_empty())
            })?
        };
        match found {
            Some(found) => Ok(found),
            None => self.search_bytes(spot, key, pin),
        }
    }

    /// Column by column; `None` where the key turns out to be none.
    fn narrow<'k>(
        &self,
        spot: &Spot,
        first: &[u8],
        pin: &Pin<'_>,
        mut target: impl FnMut(&KeyColumn, bool) -> Option<Target<'k>>,
    ) -> Result<Option<(u32, bool)>> {
        let mut rows = 0..wide(spot.rows);
        let mut columns = self.key.iter().peekable();
        while let Some(column) = columns.next() {
            let last = columns.peek().is_none();
            let Some(target) = target(column, last) else { return Ok(None) };
            let vector = if column.place == self.guard_column() {
                self.in_frame(self.vector_of(first, spot.rows, column.place), spot, column.place)?
            } else {
                self.vector(spot, column.place, pin)?.ok_or_else(|| Error::corruption("a key is left out"))?
            };
            let found = match &target {
                Target::Int(target) => narrow_ints(&vector, rows.clone(), *target, last),
                Target::Bytes(target) => narrow_bytes(&vector, rows.clone(), target, last),
                Target::Value(target) => narrow_values(&vector, rows.clone(), target, last),
            };
            rows = self.in_frame(found, spot, column.place)?;
            if rows.is_empty() {
                return Ok(Some((small(rows.start)?, false)));
            }
        }
        Ok(Some((small(rows.start)?, true)))
    }

    /// As `search`, for bytes that are no key.
    fn search_bytes(&self, spot: &Spot, bound: &[u8], pin: &Pin<'_>) -> Result<(u32, bool)> {
        let (mut low, mut high) = (0, spot.rows);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.key_at(spot, middle, pin)?.as_ref() < bound {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok((low, false))
    }
}

/// The integer of a key's eight bytes: sign flipped, big-endian.
#[inline]
fn int_of(bytes: [u8; 8]) -> i64 {
    (u64::from_be_bytes(bytes) ^ (1 << 63)).cast_signed()
}

fn has_null() -> Error {
    Error::corruption("a key's column has a NULL")
}

/// The rows among `rows` that have `target`; if none has, the empty range where it would be.
#[inline]
fn narrow_ints(vector: &Vector<'_>, rows: Range<usize>, target: i64, last: bool) -> Result<Range<usize>> {
    match vector.ints_at() {
        Some(ints) => narrow_ints_by(|row| Ok(ints.get(row)), rows, target, last, ints.course()),
        None => narrow_ints_by(|row| vector.int(row)?.ok_or_else(has_null), rows, target, last, None),
    }
}

#[inline]
fn narrow_ints_by(
    at: impl Fn(usize) -> Result<i64>,
    rows: Range<usize>,
    target: i64,
    last: bool,
    course: Option<Course>,
) -> Result<Range<usize>> {
    let start = first_not_less(&at, rows.clone(), target, course)?;
    if start == rows.end || at(start)? != target {
        return Ok(start..start);
    }
    if last {
        return Ok(start..start + 1);
    }
    let end = match target.checked_add(1) {
        Some(next) => first_not_less(&at, start..rows.end, next, None)?,
        None => rows.end,
    };
    Ok(start..end)
}

/// The same for byte strings.
fn narrow_bytes(vector: &Vector<'_>, rows: Range<usize>, target: &[u8], last: bool) -> Result<Range<usize>> {
    let strings = vector.strings_at().ok_or_else(has_null)?;
    let rest = match strings.enter(target) {
        Ok(rest) => rest,
        // What all strings begin with is on one side of the target.
        Err(Ordering::Less) => return Ok(rows.end..rows.end),
        Err(_) => return Ok(rows.start..rows.start),
    };
    let mut scratch = Vec::new();
    let (start, found) = seek(&strings, rows.clone(), rest, &mut scratch)?;
    if !found {
        return Ok(start..start);
    }
    let end = match last {
        true => start + 1,
        false => partition(&mut |row| strings.compare(row, rest, &mut scratch), start + 1..rows.end, Ordering::is_le)?,
    };
    Ok(start..end)
}

/// The first of `rows` whose string is not less than `target`, and whether it is equal: by heads as far as they tell.
fn seek(
    strings: &StringsAt<'_, '_>,
    rows: Range<usize>,
    target: &[u8],
    scratch: &mut Vec<u8>,
) -> Result<(usize, bool)> {
    let mut start = rows.start;
    if let Some(heads) = strings.heads()? {
        let wanted = heads.dividing(target);
        let at = |row| heads.at(row);
        start = first_not_less(at, rows.clone(), wanted, heads.course())?;
        if start == rows.end || at(start)? != wanted {
            return Ok((start, false));
        }
        match strings.compare(start, target, scratch)? {
            Ordering::Equal => return Ok((start, true)),
            Ordering::Greater => return Ok((start, false)),
            Ordering::Less => start += 1,
        }
    }
    start = partition(&mut |row| strings.compare(row, target, scratch), start..rows.end, Ordering::is_lt)?;
    Ok((start, start < rows.end && strings.compare(start, target, scratch)? == Ordering::Equal))
}

/// The first of `rows` whose value is not less than `target`; their end if all are less.
#[inline]
fn first_not_less(
    at: impl Fn(usize) -> Result<i64>,
    rows: Range<usize>,
    target: i64,
    course: Option<Course>,
) -> Result<usize> {
    match course {
        Some(course) => first_along(at, rows, target, course),
        None => first_between(at, rows, target),
    }
}

/// The same, where the line that values follow says where to look, and how far on from there.
fn first_along(at: impl Fn(usize) -> Result<i64>, rows: Range<usize>, target: i64, course: Course) -> Result<usize> {
    // What is before low is less than the target, and from high on nothing is.
    let (mut low, mut high) = (rows.start, rows.end);
    let mut guess = course.row_of(target);
    for _ in 0..INTERPOLATIONS_MAX {
        if low == high {
            return Ok(low);
        }
        let row = guess.clamp(low, high - 1);
        let value = at(row)?;
        // On a straight line the next row ends the search.
        if value < target {
            low = row + 1;
            if low == high {
                return Ok(low);
            }
            let next = at(low)?;
            if next >= target {
                return Ok(low);
            }
            low += 1;
            guess = row + 1 + course.rows(next, target);
        } else {
            high = row;
            if row == low {
                return Ok(row);
            }
            let before = at(row - 1)?;
            if before < target {
                return Ok(row);
            }
            high -= 1;
            guess = high.saturating_sub(course.rows(target, before));
        }
    }
    while low < high {
        let middle = low + (high - low) / 2;
        if at(middle)? < target {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// The same by the least and the greatest of them.
fn first_between(at: impl Fn(usize) -> Result<i64>, rows: Range<usize>, target: i64) -> Result<usize> {
    if rows.is_empty() {
        return Ok(rows.start);
    }
    // From here on, low's value is less than the target, and high's is not.
    let (mut low, mut high) = (rows.start, rows.end - 1);
    let (mut least, mut most) = (at(low)?, at(high)?);
    if least >= target {
        return Ok(low);
    }
    if most < target {
        return Ok(rows.end);
    }
    for _ in 0..INTERPOLATIONS_MAX {
        if high - low <= BISECT_ROWS {
            break;
        }
        let guess = (low + between(least, target, most, high - low)).clamp(low + 1, high - 1);
        let value = at(guess)?;
        if value < target {
            // In even data the next row ends the search.
            let next = at(guess + 1)?;
            if next >= target {
                return Ok(guess + 1);
            }
            (low, least) = (guess + 1, next);
        } else {
            let before = at(guess - 1)?;
            if before < target {
                return Ok(guess);
            }
            (high, most) = (guess - 1, before);
        }
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if at(middle)? < target {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(high)
}

/// How far into `steps` even steps from `least` to `most` the target lies, about. There are at most as many as rows of a slice.
#[inline]
fn between(least: i64, target: i64, most: i64, steps: usize) -> usize {
    let (ahead, span) = (target.abs_diff(least), most.abs_diff(least));
    // So few bits that the product with the steps has room.
    let shift = (64 - span.leading_zeros()).saturating_sub(48);
    let guess = (ahead >> shift).wrapping_mul(super::offset_of(steps)) / (span >> shift).max(1);
    usize::try_from(guess).unwrap_or(steps)
}

fn narrow_values(vector: &Vector<'_>, rows: Range<usize>, target: &Value, last: bool) -> Result<Range<usize>> {
    let mut order = |row| {
        let value = vector.value(row)?;
        compare_in_key(&value, target).ok_or_else(|| Error::corruption("a key's column has a value of another type"))
    };
    let start = partition(&mut order, rows.clone(), Ordering::is_lt)?;
    if start == rows.end || order(start)? != Ordering::Equal {
        return Ok(start..start);
    }
    let end = if last { start + 1 } else { partition(&mut order, start..rows.end, Ordering::is_le)? };
    Ok(start..end)
}

/// The first of `rows` for which `before` does not hold.
fn partition(
    order: &mut impl FnMut(usize) -> Result<Ordering>,
    rows: Range<usize>,
    before: impl Fn(Ordering) -> bool,
) -> Result<usize> {
    let (mut low, mut high) = (rows.start, rows.end);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(order(middle)?) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::encode;
    use arrow::array::{ArrayRef, BinaryArray, Int64Array};
    use std::sync::Arc;

    /// Sorted strings, some equal, of all the shapes that byte strings are stored in.
    fn strings() -> Vec<Vec<Vec<u8>>> {
        let mut random = crate::key::tests::Rng(7);
        let hash = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        let mut all: Vec<Vec<Vec<u8>>> = vec![
            (0..500).map(|n| [hash(n), hash(n + 1000)].concat()).collect(),
            (0..500).map(|n| [b"the same ".as_slice(), &hash(n / 3), &[0, 0]].concat()).collect(),
            (0..400).map(|n| format!("{n:08}").into_bytes()).collect(),
            (0..400).map(|n| b"word and word ".repeat(1 + n % 40).split_off(n % 7)).collect(),
            (0..300).map(|n| format!("equal heads of strings {}", n / 2).into_bytes()).collect(),
            (0..300).map(|n| vec![b"abc"[n % 3]; 1 + n % 2]).collect(),
            vec![Vec::new(), b"a".to_vec(), vec![0xff; 30]],
            vec![b"only".to_vec(); 9],
        ];
        // What is stored as numbers, as bytes, and as both.
        all.push((0..500).map(|n| [&hash(n)[..1], b"-", &hash(n)[1..4]].concat()).collect());
        all.push((0..500).map(|n| [&[n as u8 % 3], &hash(n)[..], &hash(n + 7)[..], b" and an end"].concat()).collect());
        all.push(
            (0..500)
                .map(|n| hash(n).iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes())
                .collect(),
        );
        all.push((0..400).map(|n| format!("{:03}/{:02}", n % 7 * 100, n % 60).into_bytes()).collect());
        all.push((0..600).map(|_| (0..random.below(12)).map(|_| random.below(3) as u8).collect()).collect());
        all.iter_mut().for_each(|strings| strings.sort());
        all
    }

    #[test]
    fn byte_strings_are_found_where_binary_search_finds_them() {
        let mut random = crate::key::tests::Rng(8);
        for strings in strings() {
            let array: ArrayRef = Arc::new(BinaryArray::from_iter_values(&strings));
            let mut bytes = Vec::new();
            encode(&array, 0..strings.len(), ColumnType::Bytes, &mut bytes).unwrap();
            let vector = Vector::open(&bytes, ColumnType::Bytes).unwrap();
            let mut targets = strings.clone();
            targets.extend(strings.iter().flat_map(|string| {
                let (mut longer, mut next) = (string.clone(), string.clone());
                longer.push(0);
                if let Some(last) = next.last_mut() {
                    *last = last.wrapping_add(1);
                }
                let mut other = string.clone();
                let at = random.below(string.len().max(1) as u64) as usize;
                if let Some(byte) = other.get_mut(at) {
                    *byte = random.below(256) as u8;
                }
                [longer, next, other, string.iter().copied().take(string.len() / 2).collect()]
            }));
            for target in &targets {
                let start = strings.partition_point(|string| string < target);
                let end = strings.partition_point(|string| string <= target);
                let all = narrow_bytes(&vector, 0..strings.len(), target, false).unwrap();
                assert_eq!(all, start..end, "{target:?} in {:?}", vector.encoding());
                let first = narrow_bytes(&vector, 0..strings.len(), target, true).unwrap();
                assert_eq!(first, start..end.min(start + 1), "{target:?} in {:?}", vector.encoding());
            }
        }
    }

    #[test]
    fn the_first_value_not_less_is_found_in_data_of_all_shapes() {
        let even: Vec<i64> = (0..1000).map(|i| i * 10).collect();
        let line = |start: i64, step: i64| {
            let mut bytes = Vec::new();
            let array: ArrayRef = Arc::new(Int64Array::from_iter_values((0..1000).map(|i| start + i * step + i % 2)));
            encode(&array, 0..1000, ColumnType::Int64, &mut bytes).unwrap();
            Vector::open(&bytes, ColumnType::Int64).unwrap().ints_at().unwrap().course().unwrap()
        };
        let courses = [line(0, 10), line(-100_000, 3), line(1 << 61, 1 << 40), line(i64::MIN, 7_000)];
        let steps: Vec<i64> = (0..1000).map(|i| i / 300).collect();
        let bent: Vec<i64> = (0..1000).map(|i: i64| i.pow(5)).collect();
        let wide = vec![i64::MIN, i64::MIN + 1, -5, 0, 3, i64::MAX - 1, i64::MAX];
        for values in [even, steps, bent, wide, vec![4], vec![]] {
            let mut targets = values.clone();
            targets.extend(values.iter().flat_map(|v| [v.saturating_sub(1), v.saturating_add(1)]));
            targets.extend([i64::MIN, 0, i64::MAX]);
            for target in targets {
                let expected = values.partition_point(|value| *value < target);
                let found = first_not_less(|row| Ok(values[row]), 0..values.len(), target, None).unwrap();
                assert_eq!(found, expected, "{target}");
                // However wrong the line is, it ends where it must.
                for course in &courses {
                    let found = first_not_less(|row| Ok(values[row]), 0..values.len(), target, Some(*course)).unwrap();
                    assert_eq!(found, expected, "{target} along {course:?}");
                }
            }
        }
    }
}
