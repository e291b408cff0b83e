/*!
A key's place within a slice, found on the encoded vectors.

Rows of a slice are sorted by the key's columns, so each column narrows the range of rows that the ones before it left.
A column of integers is searched by value: its own line predicts the row, a few interpolation steps bound it, and a bisection
ends the search. Other columns compare values. A bound of a range may be a prefix or a successor of a key and need not
decode; then keys of rows are built and compared as bytes.
*/

use super::predicate::compare_in_key;
use super::reader::{Loaded, Unit};
use super::{RunSchema, small, wide};
use crate::encoding::Vector;
use crate::error::{Error, Result};
use crate::types::{ColumnType, Value};
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
    /// Whether its component of a key is eight bytes that are an integer.
    is_int: bool,
}

impl KeyColumn {
    /// The key's columns of a schema.
    pub(super) fn all(schema: &RunSchema) -> Result<Vec<KeyColumn>> {
        let lost = || Error::corruption("the run's key names a column that it does not store");
        let column = |(id, column): (&_, &crate::key::KeyColumn)| {
            let place = schema.position(*id).ok_or_else(lost)?;
            Ok(KeyColumn { place, is_int: !column.nullable && is_int(column.ty) })
        };
        schema.key_columns.iter().zip(schema.key.columns()).map(column).collect()
    }
}

fn is_int(ty: ColumnType) -> bool {
    matches!(
        ty,
        ColumnType::Int16
            | ColumnType::Int32
            | ColumnType::Int64
            | ColumnType::Date
            | ColumnType::Time
            | ColumnType::Timestamp
            | ColumnType::TimestampTz
    )
}

/// What a column is searched for.
enum Target {
    Int(i64),
    Value(Value),
}

impl Loaded {
    /// The first row of the slice whose key is not less than `key`. `unit` holds the first key column.
    pub(super) fn search(&self, slice: u32, key: &[u8], unit: &Unit) -> Result<Place> {
        if self.key.iter().all(|column| column.is_int) && key.len() == self.key.len() * 8 {
            let ints = key.chunks_exact(8).map(|bytes| Target::Int(int_of(bytes)));
            return self.narrow(slice, ints, unit);
        }
        let whole = self
            .schema
            .key
            .decode(key)
            .ok()
            .filter(|values| self.schema.key.encode(values).is_ok_and(|encoded| encoded.as_ref() == key));
        match whole {
            Some(values) => self.narrow(slice, values.into_iter().map(Target::Value), unit),
            None => self.search_bytes(slice, key),
        }
    }

    fn narrow(&self, slice: u32, targets: impl Iterator<Item = Target>, unit: &Unit) -> Result<Place> {
        let mut rows = 0..wide(self.locators.rows_of(slice));
        let tile = self.locators.tile_of(slice);
        let mut columns = self.key.iter().zip(targets).peekable();
        while let Some((column, target)) = columns.next() {
            let own;
            let unit = if column.place == self.guard_column() {
                unit
            } else {
                own = self.unit(tile, column.place)?;
                &own
            };
            let vector =
                self.vector(unit, slice, column.place)?.ok_or_else(|| Error::corruption("a key is left out"))?;
            let last = columns.peek().is_none();
            let found = match &target {
                Target::Int(target) => narrow_ints(&vector, rows.clone(), *target, last),
                Target::Value(target) => narrow_values(&vector, rows.clone(), target, last),
            };
            rows = self.at(found, self.locators.frame(slice, column.place).offset)?;
            if rows.is_empty() {
                return Ok(Place { slice, row: small(rows.start)?, exact: false });
            }
        }
        Ok(Place { slice, row: small(rows.start)?, exact: true })
    }

    /// As `search`, for bytes that are no key.
    fn search_bytes(&self, slice: u32, bound: &[u8]) -> Result<Place> {
        let (mut low, mut high) = (0, self.locators.rows_of(slice));
        while low < high {
            let middle = low + (high - low) / 2;
            if self.key_at(slice, middle)?.as_ref() < bound {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(Place { slice, row: low, exact: false })
    }
}

/// The integer of a key's eight bytes: sign flipped, big-endian.
fn int_of(bytes: &[u8]) -> i64 {
    let bytes = bytes.try_into().unwrap_or([0; 8]);
    (u64::from_be_bytes(bytes) ^ (1 << 63)).cast_signed()
}

/// The rows among `rows` that have `target`; if none has, the empty range where it would be.
fn narrow_ints(vector: &Vector<'_>, rows: Range<usize>, target: i64, last: bool) -> Result<Range<usize>> {
    let at = |row| vector.int(row)?.ok_or_else(|| Error::corruption("a key's column has a NULL"));
    let start = first_not_less(at, rows.clone(), target)?;
    if start == rows.end || at(start)? != target {
        return Ok(start..start);
    }
    if last {
        return Ok(start..start + 1);
    }
    let end = match target.checked_add(1) {
        Some(next) => first_not_less(at, start..rows.end, next)?,
        None => rows.end,
    };
    Ok(start..end)
}

/// The first of `rows` whose value is not less than `target`; their end if all are less.
fn first_not_less(at: impl Fn(usize) -> Result<i64>, rows: Range<usize>, target: i64) -> Result<usize> {
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
        let (ahead, span) = (u128::from(target.abs_diff(least)), u128::from(most.abs_diff(least)).max(1));
        let steps = ahead * u128::from(super::offset_of(high - low)) / span;
        let guess = low.saturating_add(usize::try_from(steps).unwrap_or(usize::MAX)).clamp(low + 1, high - 1);
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

fn narrow_values(vector: &Vector<'_>, rows: Range<usize>, target: &Value, last: bool) -> Result<Range<usize>> {
    let order = |row| {
        let value = vector.value(row)?;
        compare_in_key(&value, target).ok_or_else(|| Error::corruption("a key's column has a value of another type"))
    };
    let start = partition(&order, rows.clone(), Ordering::is_lt)?;
    if start == rows.end || order(start)? != Ordering::Equal {
        return Ok(start..start);
    }
    let end = if last { start + 1 } else { partition(&order, start..rows.end, Ordering::is_le)? };
    Ok(start..end)
}

/// The first of `rows` for which `before` does not hold.
fn partition(
    order: &impl Fn(usize) -> Result<Ordering>,
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

    #[test]
    fn the_first_value_not_less_is_found_in_data_of_all_shapes() {
        let even: Vec<i64> = (0..1000).map(|i| i * 10).collect();
        let steps: Vec<i64> = (0..1000).map(|i| i / 300).collect();
        let bent: Vec<i64> = (0..1000).map(|i: i64| i.pow(5)).collect();
        let wide = vec![i64::MIN, i64::MIN + 1, -5, 0, 3, i64::MAX - 1, i64::MAX];
        for values in [even, steps, bent, wide, vec![4], vec![]] {
            let mut targets = values.clone();
            targets.extend(values.iter().flat_map(|v| [v.saturating_sub(1), v.saturating_add(1)]));
            targets.extend([i64::MIN, 0, i64::MAX]);
            for target in targets {
                let found = first_not_less(|row| Ok(values[row]), 0..values.len(), target).unwrap();
                assert_eq!(found, values.partition_point(|value| *value < target), "{target}");
            }
        }
    }
}
