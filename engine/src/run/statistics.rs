/*!
Slice statistics: for each column of each slice how many values are NULL, the least, the greatest, and the sum.

A column's statistics are one section of the file, read when first asked for and cached like data. Within it each part
is a row of the encoding room's vectors, 1,024 slices each:

```text
    section = varint parts │ parts × (u8 part, varint vectors, vectors × varint length) │ vectors
    part 1    nulls: Int32
    part 2    least value, of the column's type; NULL if there is none
    part 3    greatest value, likewise
    part 4    marks: Int16; 1: the least was cut, 2: the greatest was cut, 4: there is a NaN
    part 5    sum: Decimal(38, 0) of integers, times and decimals (unscaled), Float64 of floats, added in row order;
              NULL if it passes 38 digits' worth of bits or no value is there
```

Parts that a reader does not know are skipped. A least or greatest text or byte string is cut to 64 bytes: a prefix is a lower bound; with
its last character raised by one it is an upper bound, and where nothing can be raised there is none. NaN is neither least nor greatest,
only marked. JSON has no order, so no bounds.
*/

use super::predicate::{compare_floats, interval_nanos};
use super::{offset_of, wide};
use crate::bytes::{Input, put_varint};
use crate::column::{ColumnSink, value_at};
use crate::encoding::{self, Vector};
use crate::error::{Error, Result};
use crate::limits::SLICE_ROWS_MAX;
use crate::types::{ColumnType, Value};
use arrow::array::*;
use arrow::datatypes::{ArrowPrimitiveType, Float32Type, Float64Type};
use std::ops::Range;

/// Bytes of a least or greatest text or byte string that are kept.
const BOUND_BYTES_MAX: usize = 64;
/// Parts that a section may have.
const PARTS_MAX: usize = 64;
const SUM_TYPE: ColumnType = ColumnType::Decimal { precision: 38, scale: 0 };

const CUT_MIN: i64 = 1;
const CUT_MAX: i64 = 2;
const NAN: i64 = 4;

/// What is known of one column in one slice.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SliceStats {
    /// Rows of the slice, tombstones included.
    pub rows: u32,
    /// NULLs among them.
    pub nulls: u32,
    /// No value that is not NaN is less; `None` if there is no value, or no bound.
    pub min: Option<Value>,
    /// No value that is not NaN is greater; `None` if there is no value, or no bound.
    pub max: Option<Value>,
    /// Whether `min` is a value of the slice, not only a bound.
    pub min_exact: bool,
    /// Whether `max` is a value of the slice, not only a bound.
    pub max_exact: bool,
    /// Whether there is a NaN.
    pub nan: bool,
    /// Sum of the values: `Decimal` (unscaled) of integers, times and decimals, `Float64` of floats, in row order.
    pub sum: Option<Value>,
}

/// Measures rows `rows` of a column.
pub(super) fn measure(array: &dyn Array, rows: Range<usize>, ty: ColumnType) -> Result<SliceStats> {
    let slice = array.slice(rows.start, rows.len());
    let count = |n: usize| u32::try_from(n).map_err(|_| Error::internal("a slice of more than 32 bits"));
    let mut stats = SliceStats {
        rows: count(slice.len())?,
        nulls: count(slice.null_count())?,
        min_exact: true,
        max_exact: true,
        ..SliceStats::default()
    };
    if slice.null_count() == slice.len() {
        return Ok(stats);
    }
    match ty {
        ColumnType::Int16 => integers::<arrow::datatypes::Int16Type>(&slice, &mut stats)?,
        ColumnType::Int32 => integers::<arrow::datatypes::Int32Type>(&slice, &mut stats)?,
        ColumnType::Date => integers::<arrow::datatypes::Date32Type>(&slice, &mut stats)?,
        ColumnType::Int64 => integers::<arrow::datatypes::Int64Type>(&slice, &mut stats)?,
        ColumnType::Time => integers::<arrow::datatypes::Time64MicrosecondType>(&slice, &mut stats)?,
        ColumnType::Timestamp | ColumnType::TimestampTz => {
            integers::<arrow::datatypes::TimestampMicrosecondType>(&slice, &mut stats)?;
        }
        ColumnType::Float32 => {
            let bounds = floats(primitive::<Float32Type>(&slice)?, &mut stats);
            // Least and greatest are values of the column, so that nothing is lost by narrowing them again.
            let narrow = |value: f64| Value::Float32(narrow(value));
            (stats.min, stats.max) = (bounds.0.map(narrow), bounds.1.map(narrow));
        }
        ColumnType::Float64 => {
            let bounds = floats(primitive::<Float64Type>(&slice)?, &mut stats);
            (stats.min, stats.max) = (bounds.0.map(Value::Float64), bounds.1.map(Value::Float64));
        }
        ColumnType::Decimal { .. } => decimals(primitive(&slice)?, &mut stats),
        ColumnType::Text => texts(slice.as_string_view_opt().ok_or_else(wrong_type)?, &mut stats),
        ColumnType::Bytes => bytes(slice.as_binary_opt::<i32>().ok_or_else(wrong_type)?, &mut stats),
        ColumnType::Boolean | ColumnType::Interval | ColumnType::Uuid => others(&slice, ty, &mut stats)?,
        ColumnType::Json => (stats.min_exact, stats.max_exact) = (false, false),
    }
    Ok(stats)
}

fn wrong_type() -> Error {
    Error::internal("a column has not its type's array")
}

fn primitive<T: ArrowPrimitiveType>(array: &ArrayRef) -> Result<&PrimitiveArray<T>> {
    array.as_primitive_opt::<T>().ok_or_else(wrong_type)
}

fn integers<T: ArrowPrimitiveType>(array: &ArrayRef, stats: &mut SliceStats) -> Result<()>
where
    T::Native: Into<i64>,
{
    let array = primitive::<T>(array)?;
    let mut bounds = (i64::MAX, i64::MIN);
    let mut sum = 0i128;
    let mut add = |value: i64| {
        bounds = (bounds.0.min(value), bounds.1.max(value));
        sum += i128::from(value);
    };
    if array.null_count() == 0 {
        array.values().iter().for_each(|value| add((*value).into()));
    } else {
        array.iter().flatten().for_each(|value| add(value.into()));
    }
    (stats.min, stats.max) = (Some(Value::Int(bounds.0)), Some(Value::Int(bounds.1)));
    stats.sum = Some(Value::Decimal(sum));
    Ok(())
}

/// Least and greatest of what is not NaN; marks NaN and adds up.
fn floats<T: ArrowPrimitiveType>(array: &PrimitiveArray<T>, stats: &mut SliceStats) -> (Option<f64>, Option<f64>)
where
    T::Native: Into<f64>,
{
    let (mut min, mut max, mut sum, mut nan) = (f64::INFINITY, f64::NEG_INFINITY, 0.0f64, false);
    let mut numbers = 0usize;
    let mut add = |value: f64| {
        nan |= value.is_nan();
        numbers += usize::from(!value.is_nan());
        min = if value < min { value } else { min };
        max = if value > max { value } else { max };
        sum += value;
    };
    if array.null_count() == 0 {
        array.values().iter().for_each(|value| add((*value).into()));
    } else {
        array.iter().flatten().for_each(|value| add(value.into()));
    }
    stats.nan = nan;
    stats.sum = Some(Value::Float64(sum));
    if numbers == 0 { (None, None) } else { (Some(min), Some(max)) }
}

#[expect(clippy::cast_possible_truncation, reason = "the value was an f32 before it was widened")]
fn narrow(value: f64) -> f32 {
    value as f32
}

fn decimals(array: &Decimal128Array, stats: &mut SliceStats) {
    let mut sum = Some(0i128);
    for value in array.iter().flatten() {
        sum = sum.and_then(|sum| sum.checked_add(value));
    }
    stats.min = array.iter().flatten().min().map(Value::Decimal);
    stats.max = array.iter().flatten().max().map(Value::Decimal);
    stats.sum = sum.map(Value::Decimal);
}

fn texts(array: &StringViewArray, stats: &mut SliceStats) {
    if let Some(min) = array.iter().flatten().min() {
        let bound = cut_text(min);
        stats.min_exact = bound.len() == min.len();
        stats.min = Some(Value::Text(bound.to_owned()));
    }
    if let Some(max) = array.iter().flatten().max() {
        stats.max_exact = max.len() <= BOUND_BYTES_MAX;
        let raised = if stats.max_exact { Some(max.to_owned()) } else { raise_text(cut_text(max)) };
        stats.max = raised.map(Value::Text);
    }
}

fn bytes(array: &BinaryArray, stats: &mut SliceStats) {
    if let Some(min) = array.iter().flatten().min() {
        let bound = min.get(..BOUND_BYTES_MAX).unwrap_or(min);
        stats.min_exact = bound.len() == min.len();
        stats.min = Some(Value::Bytes(bound.to_vec()));
    }
    if let Some(max) = array.iter().flatten().max() {
        let cut = max.get(..BOUND_BYTES_MAX).filter(|cut| cut.len() < max.len());
        stats.max_exact = cut.is_none();
        let raised = cut.map_or_else(|| Some(max.to_vec()), crate::key::successor);
        stats.max = raised.map(Value::Bytes);
    }
}

/// The longest prefix of whole characters within the limit.
fn cut_text(text: &str) -> &str {
    let mut end = text.len().min(BOUND_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or(text)
}

/// A text greater than everything that starts with `prefix`: its last character that has a successor, raised by one.
fn raise_text(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        // Character ranges leave out the surrogates, which text cannot hold.
        if let Some(next) = (last..=char::MAX).nth(1) {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

fn others(array: &ArrayRef, ty: ColumnType, stats: &mut SliceStats) -> Result<()> {
    for row in 0..array.len() {
        let value = value_at(array, row, ty)?;
        if value == Value::Null {
            continue;
        }
        if stats.min.as_ref().is_none_or(|min| less(&value, min)) {
            stats.min = Some(value.clone());
        }
        if stats.max.as_ref().is_none_or(|max| less(max, &value)) {
            stats.max = Some(value);
        }
    }
    Ok(())
}

fn less(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Interval(a), Value::Interval(b)) => interval_nanos(*a) < interval_nanos(*b),
        (Value::Float64(a), Value::Float64(b)) => compare_floats(*a, *b).is_lt(),
        (a, b) => super::predicate::compare(a, b).is_some_and(std::cmp::Ordering::is_lt),
    }
}

/// What a part holds.
const NULLS: u8 = 1;
const MIN: u8 = 2;
const MAX: u8 = 3;
const MARKS: u8 = 4;
const SUM: u8 = 5;

/// The parts of a column of type `ty`.
fn parts_of(ty: ColumnType) -> Vec<(u8, ColumnType)> {
    let mut parts = vec![(NULLS, ColumnType::Int32)];
    if ty.is_orderable() {
        parts.extend([(MIN, ty), (MAX, ty), (MARKS, ColumnType::Int16)]);
    }
    parts.extend(sum_type(ty).map(|sum| (SUM, sum)));
    parts
}

/// What sums of a column of type `ty` are kept as; `None` where none are.
pub(crate) fn sum_type(ty: ColumnType) -> Option<ColumnType> {
    match ty {
        ColumnType::Float32 | ColumnType::Float64 => Some(ColumnType::Float64),
        ColumnType::Int16
        | ColumnType::Int32
        | ColumnType::Int64
        | ColumnType::Decimal { .. }
        | ColumnType::Date
        | ColumnType::Time
        | ColumnType::Timestamp
        | ColumnType::TimestampTz => Some(SUM_TYPE),
        _ => None,
    }
}

fn part_value(part: u8, stats: &SliceStats) -> Value {
    let or_null = |value: &Option<Value>| value.clone().unwrap_or(Value::Null);
    match part {
        NULLS => Value::Int(stats.nulls.into()),
        MIN => or_null(&stats.min),
        MAX => or_null(&stats.max),
        MARKS => {
            let mark = |set: bool, mark: i64| if set { mark } else { 0 };
            Value::Int(mark(!stats.min_exact, CUT_MIN) + mark(!stats.max_exact, CUT_MAX) + mark(stats.nan, NAN))
        }
        _ => or_null(&stats.sum),
    }
}

/// A column's statistics under construction.
#[derive(Debug)]
pub(super) struct StatsBuilder {
    parts: Vec<PartBuilder>,
    pending: usize,
}

#[derive(Debug)]
struct PartBuilder {
    part: u8,
    ty: ColumnType,
    sink: ColumnSink,
    lengths: Vec<usize>,
    vectors: Vec<u8>,
}

impl PartBuilder {
    fn flush(&mut self) -> Result<()> {
        let sink = std::mem::replace(&mut self.sink, ColumnSink::new(self.ty, 0));
        let array = sink.finish();
        let before = self.vectors.len();
        encoding::encode(&array, 0..array.len(), self.ty, &mut self.vectors)?;
        self.lengths.push(self.vectors.len() - before);
        Ok(())
    }
}

impl StatsBuilder {
    pub(super) fn new(ty: ColumnType) -> StatsBuilder {
        let part = |(part, ty): (u8, ColumnType)| PartBuilder {
            part,
            ty,
            sink: ColumnSink::new(ty, 0),
            lengths: Vec::new(),
            vectors: Vec::new(),
        };
        StatsBuilder { parts: parts_of(ty).into_iter().map(part).collect(), pending: 0 }
    }

    /// Adds the next slice's.
    pub(super) fn push(&mut self, stats: &SliceStats) -> Result<()> {
        for part in &mut self.parts {
            part.sink.append(&part_value(part.part, stats))?;
        }
        self.pending += 1;
        if self.pending == SLICE_ROWS_MAX { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.pending = 0;
        self.parts.iter_mut().try_for_each(PartBuilder::flush)
    }

    /// The section's payload.
    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        if self.pending > 0 {
            self.flush()?;
        }
        let mut out = Vec::new();
        put_varint(&mut out, offset_of(self.parts.len()));
        for part in &self.parts {
            out.push(part.part);
            put_varint(&mut out, offset_of(part.lengths.len()));
            part.lengths.iter().for_each(|length| put_varint(&mut out, offset_of(*length)));
        }
        self.parts.iter().for_each(|part| out.extend_from_slice(&part.vectors));
        Ok(out)
    }
}

/// A column's statistics, opened: where each part's vectors lie in the section's payload.
#[derive(Debug)]
pub(super) struct StatsDirectory {
    ty: ColumnType,
    parts: Vec<(u8, Vec<Range<usize>>)>,
}

impl StatsDirectory {
    /// Reads the directory of a section about `slices` slices of a column of type `ty`.
    pub(super) fn open(payload: &[u8], ty: ColumnType, slices: u32) -> Result<StatsDirectory> {
        let vectors = wide(slices).div_ceil(SLICE_ROWS_MAX);
        let mut input = Input::new(payload, "a part of the run");
        let mut parts = Vec::new();
        for _ in 0..input.count(PARTS_MAX, "parts")? {
            let part = input.byte()?;
            let count = input.count(vectors, "vectors")?;
            if count != vectors {
                return Err(Error::corruption("a part of a column's statistics has not a vector for every slice"));
            }
            let lengths = (0..count).map(|_| input.count(payload.len(), "bytes")).collect::<Result<Vec<_>>>()?;
            parts.push((part, lengths));
        }
        let mut end = payload.len() - input.rest().len();
        let mut place = |length: usize| {
            let start = end;
            end = end.saturating_add(length);
            start..end
        };
        let parts: Vec<_> =
            parts.into_iter().map(|(part, lengths)| (part, lengths.into_iter().map(&mut place).collect())).collect();
        if end != payload.len() {
            return Err(Error::corruption("a column's statistics are not as long as they say"));
        }
        Ok(StatsDirectory { ty, parts })
    }

    /// The statistics of one slice, which has `rows` rows. `payload` is what the directory was opened over.
    pub(super) fn get(&self, payload: &[u8], slice: u32, rows: u32) -> Result<SliceStats> {
        let mut stats = SliceStats { rows, ..SliceStats::default() };
        let known = |value: Value| Some(value).filter(|value| *value != Value::Null);
        for (part, ty) in parts_of(self.ty) {
            let Some(value) = self.value(payload, part, ty, slice)? else { continue };
            match (part, value) {
                (NULLS, Value::Int(nulls)) => stats.nulls = u32::try_from(nulls).unwrap_or(u32::MAX).min(rows),
                (MIN, value) => stats.min = known(value),
                (MAX, value) => stats.max = known(value),
                (MARKS, Value::Int(marks)) => {
                    stats.min_exact = marks & CUT_MIN == 0;
                    stats.max_exact = marks & CUT_MAX == 0;
                    stats.nan = marks & NAN != 0;
                }
                (SUM, value) => stats.sum = known(value),
                _ => return Err(Error::corruption("a column's statistics hold NULL where a number must be")),
            }
        }
        Ok(stats)
    }

    fn value(&self, payload: &[u8], part: u8, ty: ColumnType, slice: u32) -> Result<Option<Value>> {
        let (vector, row) = (wide(slice) / SLICE_ROWS_MAX, wide(slice) % SLICE_ROWS_MAX);
        let Some(vector) = self.vector(payload, part, ty, vector)? else { return Ok(None) };
        if row >= vector.len() { Err(short()) } else { vector.value(row).map(Some) }
    }

    /// A part's vector about one block of slices.
    fn vector<'p>(&self, payload: &'p [u8], part: u8, ty: ColumnType, block: usize) -> Result<Option<Vector<'p>>> {
        let Some((_, vectors)) = self.parts.iter().find(|(id, _)| *id == part) else { return Ok(None) };
        let bytes = vectors.get(block).and_then(|range| payload.get(range.clone()));
        Vector::open(bytes.ok_or_else(short)?, ty).map(Some)
    }

    /// What is known of a block of [`BLOCK_SLICES`] slices, of which there are `slices`, as columns.
    pub(super) fn block(&self, payload: &[u8], block: usize, slices: usize, needs: Needs) -> Result<StatsBlock> {
        let mut columns = StatsBlock::default();
        for (part, ty) in parts_of(self.ty) {
            let column = match part {
                NULLS => &mut columns.nulls,
                MIN if needs.min => &mut columns.min,
                MAX if needs.max => &mut columns.max,
                MARKS if needs.min || needs.max => &mut columns.marks,
                SUM if needs.sum => &mut columns.sum,
                _ => continue,
            };
            let Some(vector) = self.vector(payload, part, ty, block)? else { continue };
            if vector.len() != slices {
                return Err(short());
            }
            let mut sink = ColumnSink::new(ty, slices);
            vector.decode(0..slices, &mut sink)?;
            *column = Some(sink.finish());
        }
        Ok(columns)
    }
}

/// Slices whose statistics are decoded at once.
pub(super) const BLOCK_SLICES: usize = SLICE_ROWS_MAX;

/// Which statistics are wanted; NULLs always are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) min: bool,
    pub(crate) max: bool,
    pub(crate) sum: bool,
}

/// Statistics of one column in a block of slices, a row each. What is not wanted or not known is not there.
#[derive(Debug, Clone, Default)]
pub(super) struct StatsBlock {
    pub(super) nulls: Option<ArrayRef>,
    pub(super) min: Option<ArrayRef>,
    pub(super) max: Option<ArrayRef>,
    pub(super) sum: Option<ArrayRef>,
    marks: Option<ArrayRef>,
}

impl StatsBlock {
    /// NULLs of a slice; 0 where nothing is known of them, as for [`StatsDirectory::get`].
    pub(super) fn nulls_of(&self, slice: usize) -> i64 {
        let nulls = self.nulls.as_ref().and_then(|nulls| nulls.as_primitive_opt::<arrow::datatypes::Int32Type>());
        nulls.filter(|nulls| nulls.is_valid(slice)).map_or(0, |nulls| nulls.value(slice).into())
    }

    fn marked(&self, slice: usize, mark: i64) -> bool {
        let marks = self.marks.as_ref().and_then(|marks| marks.as_primitive_opt::<arrow::datatypes::Int16Type>());
        marks.is_none_or(|marks| marks.is_null(slice) || i64::from(marks.value(slice)) & mark != 0)
    }

    /// Whether a slice's least value is known, and is one of the column's.
    pub(super) fn has_min(&self, slice: usize) -> bool {
        self.min.as_ref().is_some_and(|min| min.is_valid(slice)) && !self.marked(slice, CUT_MIN | NAN)
    }

    /// Whether a slice's greatest value is known, and is one of the column's.
    pub(super) fn has_max(&self, slice: usize) -> bool {
        self.max.as_ref().is_some_and(|max| max.is_valid(slice)) && !self.marked(slice, CUT_MAX | NAN)
    }

    /// Whether a slice's sum is known.
    pub(super) fn has_sum(&self, slice: usize) -> bool {
        self.sum.as_ref().is_some_and(|sum| sum.is_valid(slice))
    }
}

fn short() -> Error {
    Error::corruption("a column's statistics end early")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_to_bounds() {
        let long = format!("{}é{}", "a".repeat(63), "z".repeat(100));
        assert_eq!(cut_text(&long), "a".repeat(63));
        let raised = raise_text(cut_text(&long)).unwrap();
        assert!(raised.as_bytes() > long.as_bytes());
        assert_eq!(raise_text("a\u{10ffff}").as_deref(), Some("b"));
        assert_eq!(raise_text("\u{d7ff}").as_deref(), Some("\u{e000}"));
        assert_eq!(raise_text("\u{10ffff}"), None);
    }

    #[test]
    fn statistics_come_back_over_many_vectors() {
        let mut builder = StatsBuilder::new(ColumnType::Float64);
        let slices = 2500u32;
        let of = |slice: u32| {
            let values = [f64::from(slice), if slice.is_multiple_of(7) { f64::NAN } else { -1.5 }, 3.0];
            measure(&Float64Array::from(values.to_vec()), 0..3, ColumnType::Float64).unwrap()
        };
        (0..slices).for_each(|slice| builder.push(&of(slice)).unwrap());
        let payload = builder.finish().unwrap();
        let directory = StatsDirectory::open(&payload, ColumnType::Float64, slices).unwrap();
        for slice in [0, 1, 1023, 1024, 2499] {
            let (stats, expected) = (directory.get(&payload, slice, 3).unwrap(), of(slice));
            assert_eq!((stats.min, stats.max, stats.nan), (expected.min, expected.max, expected.nan));
        }
        assert!(StatsDirectory::open(&payload, ColumnType::Float64, 900).is_err());
    }
}
