/*!
Columns of values in Arrow form: one value read out, or a column built up.

[`value_at`] reads one value of an Arrow array that has a [`ColumnType`]'s own Arrow type; [`ColumnSink`] is appended to
value by value or in bulk and ends as such an array. Neither converts: an array of another type is an error.

A sink is plain vectors of values and a null bitmap that is not there until the first NULL comes. Decoders of vectors
append whole stretches through the `extend_…` methods, which check what stored bytes cannot promise: that an integer fits
its column, that text is UTF-8, that sixteen bytes are sixteen.
*/

mod views;

use crate::error::{Error, ErrorKind, Result};
use crate::types::{ColumnType, Value};
use arrow::array::*;
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::IntervalMonthDayNano;
use std::ops::Range;
use std::sync::Arc;
use views::Views;

/// The value at `row` of `array`, whose type must be `ty.arrow()`.
///
/// # Errors
/// `InvalidArgument` when the array has another type or the row is out of range.
pub fn value_at(array: &dyn Array, row: usize, ty: ColumnType) -> Result<Value> {
    if row >= array.len() {
        return Err(Error::invalid(format!("row {row} of an array of {}", array.len())));
    }
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    let wrong = || Error::invalid(format!("array of type {} where {ty:?} is stored", array.data_type()));
    macro_rules! of {
        ($t:ty) => {
            array.as_any().downcast_ref::<$t>().ok_or_else(wrong)?.value(row)
        };
    }
    Ok(match ty {
        ColumnType::Boolean => Value::Boolean(of!(BooleanArray)),
        ColumnType::Int16 => Value::Int(of!(Int16Array).into()),
        ColumnType::Int32 => Value::Int(of!(Int32Array).into()),
        ColumnType::Int64 => Value::Int(of!(Int64Array)),
        ColumnType::Float32 => Value::Float32(of!(Float32Array)),
        ColumnType::Float64 => Value::Float64(of!(Float64Array)),
        ColumnType::Decimal { .. } => Value::Decimal(of!(Decimal128Array)),
        ColumnType::Text | ColumnType::Json => Value::Text(of!(StringViewArray).to_owned()),
        ColumnType::Bytes => Value::Bytes(of!(BinaryArray).to_owned()),
        ColumnType::Date => Value::Int(of!(Date32Array).into()),
        ColumnType::Time => Value::Int(of!(Time64MicrosecondArray)),
        ColumnType::Timestamp | ColumnType::TimestampTz => Value::Int(of!(TimestampMicrosecondArray)),
        ColumnType::Interval => Value::Interval(of!(IntervalMonthDayNanoArray)),
        ColumnType::Uuid => {
            let bytes: [u8; 16] = of!(FixedSizeBinaryArray).try_into().map_err(|_| wrong())?;
            Value::Uuid(bytes)
        }
    })
}

/// A column under construction.
#[derive(Debug)]
pub struct ColumnSink {
    ty: ColumnType,
    values: Values,
    nulls: NullBufferBuilder,
}

/// The values; rows that are NULL have a default. As many rows as `nulls` has, whenever a method of the sink returns.
#[derive(Debug)]
enum Values {
    Boolean(BooleanBufferBuilder),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal(Vec<i128>),
    Text(Views),
    /// Where each row ends in `data`, after a leading 0.
    Bytes {
        ends: Vec<i32>,
        data: Vec<u8>,
    },
    Interval(Vec<IntervalMonthDayNano>),
    Uuid(Vec<[u8; 16]>),
}

/// Byte strings one after another: `data[..ends[0]]`, `data[ends[0]..ends[1]]` and so on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spans<'a> {
    /// The bytes.
    pub(crate) data: &'a [u8],
    /// Where each string ends; never falling, never past the data.
    pub(crate) ends: &'a [usize],
}

impl ColumnSink {
    /// An empty column with room for `capacity` rows.
    pub fn new(ty: ColumnType, capacity: usize) -> Self {
        let values = match ty {
            ColumnType::Boolean => Values::Boolean(BooleanBufferBuilder::new(capacity)),
            ColumnType::Int16 => Values::Int16(Vec::with_capacity(capacity)),
            ColumnType::Int32 | ColumnType::Date => Values::Int32(Vec::with_capacity(capacity)),
            ColumnType::Int64 | ColumnType::Time | ColumnType::Timestamp | ColumnType::TimestampTz => {
                Values::Int64(Vec::with_capacity(capacity))
            }
            ColumnType::Float32 => Values::Float32(Vec::with_capacity(capacity)),
            ColumnType::Float64 => Values::Float64(Vec::with_capacity(capacity)),
            ColumnType::Decimal { .. } => Values::Decimal(Vec::with_capacity(capacity)),
            ColumnType::Text | ColumnType::Json => Values::Text(Views::with_capacity(capacity)),
            ColumnType::Bytes => {
                let mut ends = Vec::with_capacity(capacity + 1);
                ends.push(0);
                Values::Bytes { ends, data: Vec::new() }
            }
            ColumnType::Interval => Values::Interval(Vec::with_capacity(capacity)),
            ColumnType::Uuid => Values::Uuid(Vec::with_capacity(capacity)),
        };
        ColumnSink { ty, values, nulls: NullBufferBuilder::new(capacity) }
    }

    /// The column's type.
    pub fn column_type(&self) -> ColumnType {
        self.ty
    }

    /// Rows so far.
    pub fn len(&self) -> usize {
        self.nulls.len()
    }

    /// Whether there are no rows yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes room for `rows` more rows.
    pub fn reserve(&mut self, rows: usize) {
        match &mut self.values {
            Values::Boolean(v) => v.reserve(rows),
            Values::Int16(v) => v.reserve(rows),
            Values::Int32(v) => v.reserve(rows),
            Values::Int64(v) => v.reserve(rows),
            Values::Float32(v) => v.reserve(rows),
            Values::Float64(v) => v.reserve(rows),
            Values::Decimal(v) => v.reserve(rows),
            Values::Text(v) => v.reserve(rows),
            Values::Bytes { ends, .. } => ends.reserve(rows),
            Values::Interval(v) => v.reserve(rows),
            Values::Uuid(v) => v.reserve(rows),
        }
    }

    /// Appends one value.
    ///
    /// # Errors
    /// `InvalidArgument` when the value is not one of this column's type; `LimitExceeded` when an Arrow column cannot
    /// hold so many bytes. The column stays as it was.
    pub fn append(&mut self, value: &Value) -> Result<()> {
        let ty = self.ty;
        let wrong = || Error::invalid(format!("value {value:?} in a column of type {ty:?}"));
        match (&mut self.values, value) {
            (_, Value::Null) => {
                self.append_nulls(1);
                return Ok(());
            }
            (Values::Boolean(v), Value::Boolean(value)) => v.append(*value),
            (Values::Int16(v), Value::Int(value)) => v.push(i16::try_from(*value).map_err(|_| wrong())?),
            (Values::Int32(v), Value::Int(value)) => v.push(i32::try_from(*value).map_err(|_| wrong())?),
            (Values::Int64(v), Value::Int(value)) => v.push(*value),
            (Values::Float32(v), Value::Float32(value)) => v.push(*value),
            (Values::Float64(v), Value::Float64(value)) => v.push(*value),
            (Values::Decimal(v), Value::Decimal(value)) => v.push(*value),
            (Values::Text(v), Value::Text(value)) => v.push(value),
            (Values::Bytes { ends, data }, Value::Bytes(value)) => push_bytes(ends, data, value)?,
            (Values::Interval(v), Value::Interval(value)) => v.push(*value),
            (Values::Uuid(v), Value::Uuid(value)) => v.push(*value),
            _ => return Err(wrong()),
        }
        self.nulls.append_non_null();
        Ok(())
    }

    /// Appends `rows` NULLs.
    pub fn append_nulls(&mut self, rows: usize) {
        match &mut self.values {
            Values::Boolean(v) => v.append_n(rows, false),
            Values::Int16(v) => v.resize(v.len() + rows, 0),
            Values::Int32(v) => v.resize(v.len() + rows, 0),
            Values::Int64(v) => v.resize(v.len() + rows, 0),
            Values::Float32(v) => v.resize(v.len() + rows, 0.0),
            Values::Float64(v) => v.resize(v.len() + rows, 0.0),
            Values::Decimal(v) => v.resize(v.len() + rows, 0),
            Values::Text(v) => v.push_empty(rows),
            Values::Bytes { ends, .. } => {
                let last = ends.last().copied().unwrap_or(0);
                ends.resize(ends.len() + rows, last);
            }
            Values::Interval(v) => v.resize(v.len() + rows, IntervalMonthDayNano::ZERO),
            Values::Uuid(v) => v.resize(v.len() + rows, [0; 16]),
        }
        self.nulls.append_n_nulls(rows);
    }

    /// Appends rows `rows` of `array`, whose type must be `ty.arrow()`.
    ///
    /// # Errors
    /// `InvalidArgument` when the array has another type or fewer rows; `LimitExceeded` when an Arrow column cannot
    /// hold so many bytes. The column stays as it was.
    pub fn append_array(&mut self, array: &dyn Array, rows: Range<usize>) -> Result<()> {
        if rows.start > rows.end || rows.end > array.len() {
            return Err(Error::invalid(format!("rows {rows:?} of an array of {}", array.len())));
        }
        let slice = array.slice(rows.start, rows.len());
        let ty = self.ty;
        let wrong = || Error::invalid(format!("array of type {} where {ty:?} is stored", array.data_type()));
        macro_rules! of {
            ($t:ty) => {
                slice.as_any().downcast_ref::<$t>().ok_or_else(wrong)?
            };
        }
        match (&mut self.values, self.ty) {
            (Values::Boolean(v), _) => v.append_buffer(of!(BooleanArray).values()),
            (Values::Int16(v), _) => v.extend_from_slice(of!(Int16Array).values()),
            (Values::Int32(v), ColumnType::Date) => v.extend_from_slice(of!(Date32Array).values()),
            (Values::Int32(v), _) => v.extend_from_slice(of!(Int32Array).values()),
            (Values::Int64(v), ColumnType::Int64) => v.extend_from_slice(of!(Int64Array).values()),
            (Values::Int64(v), ColumnType::Time) => v.extend_from_slice(of!(Time64MicrosecondArray).values()),
            (Values::Int64(v), _) => v.extend_from_slice(of!(TimestampMicrosecondArray).values()),
            (Values::Float32(v), _) => v.extend_from_slice(of!(Float32Array).values()),
            (Values::Float64(v), _) => v.extend_from_slice(of!(Float64Array).values()),
            (Values::Decimal(v), _) => v.extend_from_slice(of!(Decimal128Array).values()),
            (Values::Text(v), _) => {
                let array = of!(StringViewArray);
                v.reserve(array.len());
                for row in 0..array.len() {
                    v.push(if array.is_valid(row) { array.value(row) } else { "" });
                }
            }
            (Values::Bytes { ends, data }, _) => extend_bytes(ends, data, of!(BinaryArray))?,
            (Values::Interval(v), _) => v.extend_from_slice(of!(IntervalMonthDayNanoArray).values()),
            (Values::Uuid(v), _) => {
                let array = of!(FixedSizeBinaryArray);
                if array.value_length() != 16 {
                    return Err(wrong());
                }
                let (values, _) = array.value_data().as_chunks::<16>();
                v.extend_from_slice(values);
            }
        }
        self.note_validity(rows.len(), slice.nulls());
        Ok(())
    }

    /// The finished column, of type `ty.arrow()`.
    pub fn finish(mut self) -> ArrayRef {
        let nulls = self.nulls.finish();
        match self.values {
            Values::Boolean(mut v) => Arc::new(BooleanArray::new(v.finish(), nulls)),
            Values::Int16(v) => Arc::new(Int16Array::new(ScalarBuffer::from(v), nulls)),
            Values::Int32(v) => match self.ty {
                ColumnType::Date => Arc::new(Date32Array::new(ScalarBuffer::from(v), nulls)),
                _ => Arc::new(Int32Array::new(ScalarBuffer::from(v), nulls)),
            },
            Values::Int64(v) => {
                let v = ScalarBuffer::from(v);
                match self.ty {
                    ColumnType::Time => Arc::new(Time64MicrosecondArray::new(v, nulls)),
                    ColumnType::Timestamp => Arc::new(TimestampMicrosecondArray::new(v, nulls)),
                    ColumnType::TimestampTz => Arc::new(TimestampMicrosecondArray::new(v, nulls).with_timezone("UTC")),
                    _ => Arc::new(Int64Array::new(v, nulls)),
                }
            }
            Values::Float32(v) => Arc::new(Float32Array::new(ScalarBuffer::from(v), nulls)),
            Values::Float64(v) => Arc::new(Float64Array::new(ScalarBuffer::from(v), nulls)),
            Values::Decimal(v) => {
                Arc::new(Decimal128Array::new(ScalarBuffer::from(v), nulls).with_data_type(self.ty.arrow()))
            }
            Values::Text(v) => Arc::new(v.finish(nulls)),
            Values::Bytes { ends, data } => {
                let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
                Arc::new(BinaryArray::new(offsets, Buffer::from_vec(data), nulls))
            }
            Values::Interval(v) => Arc::new(IntervalMonthDayNanoArray::new(ScalarBuffer::from(v), nulls)),
            Values::Uuid(v) => Arc::new(FixedSizeBinaryArray::new(16, Buffer::from_vec(v.into_flattened()), nulls)),
        }
    }

    fn note_validity(&mut self, rows: usize, nulls: Option<&NullBuffer>) {
        match nulls {
            Some(nulls) => self.nulls.append_buffer(nulls),
            None => self.nulls.append_n_non_nulls(rows),
        }
    }
}

/// What decoders of stored bytes append. `nulls`, where given, has a bit for each row; NULL rows' values are ignored.
impl ColumnSink {
    /// Appends integers: for the integer class, booleans (0 and 1) and decimals.
    ///
    /// # Errors
    /// `Corruption` when one does not fit the column; `InvalidArgument` when the column takes no integers.
    pub(crate) fn extend_ints(&mut self, values: &[i64], nulls: Option<&NullBuffer>) -> Result<()> {
        let ty = self.ty;
        let misfit = || Error::corruption(format!("a stored integer does not fit a column of type {ty:?}"));
        match &mut self.values {
            Values::Int64(v) => v.extend_from_slice(values),
            Values::Int32(v) => {
                narrow(values, v, truncate_to_i32).then_some(()).ok_or_else(misfit)?;
            }
            Values::Int16(v) => {
                narrow(values, v, truncate_to_i16).then_some(()).ok_or_else(misfit)?;
            }
            Values::Decimal(v) => v.extend(values.iter().map(|value| i128::from(*value))),
            Values::Boolean(v) => {
                if values.iter().fold(0, |all, value| all | value) & !1 != 0 {
                    return Err(misfit());
                }
                let is_true = |row: usize| values.get(row) == Some(&1);
                v.append_buffer(&BooleanBuffer::collect_bool(values.len(), is_true));
            }
            _ => return Err(self.takes_no("integers")),
        }
        self.note_validity(values.len(), nulls);
        Ok(())
    }

    /// Appends 64-bit floats.
    pub(crate) fn extend_f64(&mut self, values: &[f64], nulls: Option<&NullBuffer>) -> Result<()> {
        match &mut self.values {
            Values::Float64(v) => v.extend_from_slice(values),
            _ => return Err(self.takes_no("64-bit floats")),
        }
        self.note_validity(values.len(), nulls);
        Ok(())
    }

    /// Appends 32-bit floats.
    pub(crate) fn extend_f32(&mut self, values: &[f32], nulls: Option<&NullBuffer>) -> Result<()> {
        match &mut self.values {
            Values::Float32(v) => v.extend_from_slice(values),
            _ => return Err(self.takes_no("32-bit floats")),
        }
        self.note_validity(values.len(), nulls);
        Ok(())
    }

    /// Appends decimals.
    pub(crate) fn extend_decimals(&mut self, values: &[i128], nulls: Option<&NullBuffer>) -> Result<()> {
        match &mut self.values {
            Values::Decimal(v) => v.extend_from_slice(values),
            _ => return Err(self.takes_no("decimals")),
        }
        self.note_validity(values.len(), nulls);
        Ok(())
    }

    /// Appends byte strings, one for each row that is valid: to columns of text, bytes, intervals and UUIDs.
    ///
    /// # Errors
    /// `Corruption` when they are not what the column holds, `LimitExceeded` when it cannot hold so many bytes. The column
    /// stays as it was.
    pub(crate) fn extend_spans(&mut self, spans: Spans<'_>, nulls: Option<&NullBuffer>) -> Result<()> {
        let rows = nulls.map_or(spans.ends.len(), NullBuffer::len);
        let before = self.len();
        let mut next = 0;
        let mut of_row = |row: usize| {
            nulls.is_none_or(|nulls| nulls.is_valid(row)).then(|| {
                next += 1;
                next - 1
            })
        };
        let done = match &mut self.values {
            Values::Text(views) => utf8(spans.data).and_then(|text| {
                (0..rows).try_for_each(|row| {
                    views.push(match of_row(row) {
                        Some(index) => spans.range(index).and_then(|range| text.get(range)).ok_or_else(split_text)?,
                        None => "",
                    });
                    Ok(())
                })
            }),
            Values::Bytes { ends, data } if nulls.is_none() => push_all_bytes(ends, data, spans),
            Values::Uuid(v) if nulls.is_none() && spans.are_sixteen_bytes() => {
                v.extend_from_slice(spans.data.as_chunks().0);
                Ok(())
            }
            values => {
                (0..rows).try_for_each(|row| push_binary(values, of_row(row).map(|index| spans.get(index)), self.ty))
            }
        };
        self.settle(before, rows, nulls, done)
    }

    /// Appends `choices[pick]` for each row that is valid: byte strings of which there are few.
    ///
    /// # Errors
    /// As [`ColumnSink::extend_spans`]; `Corruption` when there is no such choice.
    pub(crate) fn extend_choices(
        &mut self,
        choices: Spans<'_>,
        picks: &[u64],
        nulls: Option<&NullBuffer>,
    ) -> Result<()> {
        let rows = nulls.map_or(picks.len(), NullBuffer::len);
        let before = self.len();
        if picks.iter().any(|pick| *pick >= choices.ends.len() as u64) {
            return Err(Error::corruption("a vector picks a choice that its dictionary does not have"));
        }
        let mut rest = picks.iter().map(|pick| usize::try_from(*pick).unwrap_or(usize::MAX));
        let of_row = |row: usize| nulls.is_none_or(|nulls| nulls.is_valid(row)).then(|| rest.next()).flatten();
        let done = match &mut self.values {
            Values::Text(views) => {
                texts(choices).map(|texts| views.push_choices(texts.into_iter(), (0..rows).map(of_row)))
            }
            values => (0..rows)
                .map(of_row)
                .try_for_each(|pick| push_binary(values, pick.map(|pick| choices.get(pick)), self.ty)),
        };
        self.settle(before, rows, nulls, done)
    }

    /// Notes which of the rows just appended are NULL, or takes them back if they failed.
    fn settle(&mut self, before: usize, rows: usize, nulls: Option<&NullBuffer>, done: Result<()>) -> Result<()> {
        match done {
            Ok(()) => self.note_validity(rows, nulls),
            Err(_) => self.values.truncate(before),
        }
        done
    }

    fn takes_no(&self, what: &str) -> Error {
        Error::invalid(format!("a column of type {:?} takes no {what}", self.ty))
    }
}

impl Values {
    fn truncate(&mut self, rows: usize) {
        match self {
            Values::Boolean(v) => v.truncate(rows),
            Values::Int16(v) => v.truncate(rows),
            Values::Int32(v) => v.truncate(rows),
            Values::Int64(v) => v.truncate(rows),
            Values::Float32(v) => v.truncate(rows),
            Values::Float64(v) => v.truncate(rows),
            Values::Decimal(v) => v.truncate(rows),
            Values::Text(v) => v.truncate(rows),
            Values::Bytes { ends, data } => {
                ends.truncate(rows + 1);
                data.truncate(ends.last().map_or(0, |end| usize::try_from(*end).unwrap_or(0)));
            }
            Values::Interval(v) => v.truncate(rows),
            Values::Uuid(v) => v.truncate(rows),
        }
    }
}

impl<'a> Spans<'a> {
    /// Where the string at `index` lies; nothing where the ends are out of order or past the data.
    #[inline]
    fn range(&self, index: usize) -> Option<Range<usize>> {
        let start = match index {
            0 => 0,
            _ => *self.ends.get(index - 1)?,
        };
        let end = *self.ends.get(index)?;
        (start <= end && end <= self.data.len()).then_some(start..end)
    }

    /// Whether all have sixteen bytes, and nothing comes after them.
    fn are_sixteen_bytes(&self) -> bool {
        self.ends.iter().copied().eq((1..=self.ends.len()).map(|row| 16 * row))
            && self.data.len() == 16 * self.ends.len()
    }

    /// The string at `index`.
    #[inline]
    fn get(&self, index: usize) -> Option<&'a [u8]> {
        self.data.get(self.range(index)?)
    }
}

/// An interval as sixteen bytes: months, days, nanoseconds, little-endian.
pub(crate) fn interval_bytes(value: IntervalMonthDayNano) -> [u8; 16] {
    let months = u128::from(value.months.cast_unsigned());
    let days = u128::from(value.days.cast_unsigned());
    (months | days << 32 | u128::from(value.nanoseconds.cast_unsigned()) << 64).to_le_bytes()
}

/// The interval that [`interval_bytes`] wrote.
pub(crate) fn interval_of(bytes: [u8; 16]) -> IntervalMonthDayNano {
    let [a, b, c, d, e, f, g, h, nanoseconds @ ..] = bytes;
    IntervalMonthDayNano {
        months: i32::from_le_bytes([a, b, c, d]),
        days: i32::from_le_bytes([e, f, g, h]),
        nanoseconds: i64::from_le_bytes(nanoseconds),
    }
}

/// Appends a NULL (no `value`), a value, or refuses one that is not there (`Some(None)`).
#[inline]
fn push_binary(values: &mut Values, value: Option<Option<&[u8]>>, ty: ColumnType) -> Result<()> {
    let value = match value {
        Some(None) => return Err(bytes_out_of_order()),
        Some(Some(value)) => Some(value),
        None => None,
    };
    let sixteen = || match value {
        Some(value) => <[u8; 16]>::try_from(value)
            .map_err(|_| Error::corruption(format!("{} bytes are stored where {ty:?} takes 16", value.len()))),
        None => Ok([0; 16]),
    };
    match values {
        Values::Bytes { ends, data } => push_bytes(ends, data, value.unwrap_or_default())?,
        Values::Interval(v) => v.push(interval_of(sixteen()?)),
        Values::Uuid(v) => v.push(sixteen()?),
        _ => return Err(Error::invalid(format!("a column of type {ty:?} takes no byte strings"))),
    }
    Ok(())
}

#[inline]
fn push_bytes(ends: &mut Vec<i32>, data: &mut Vec<u8>, value: &[u8]) -> Result<()> {
    let end = i32::try_from(data.len().saturating_add(value.len())).map_err(|_| too_many_bytes())?;
    data.extend_from_slice(value);
    ends.push(end);
    Ok(())
}

/// Appends all strings at once, which lie one after the other.
fn push_all_bytes(ends: &mut Vec<i32>, data: &mut Vec<u8>, spans: Spans<'_>) -> Result<()> {
    let (rising, last) = spans.ends.iter().fold((true, 0), |(rising, last), end| (rising & (last <= *end), *end));
    let bytes = spans.data.get(..last).filter(|_| rising).ok_or_else(bytes_out_of_order)?;
    // Those that rise to one that fits do, too.
    i32::try_from(data.len().saturating_add(last)).map_err(|_| too_many_bytes())?;
    let before = data.len();
    data.extend_from_slice(bytes);
    ends.extend(spans.ends.iter().map(|end| i32::try_from(before + end).unwrap_or(i32::MAX)));
    Ok(())
}

fn bytes_out_of_order() -> Error {
    Error::corruption("byte strings of a vector are out of order")
}

fn extend_bytes(ends: &mut Vec<i32>, data: &mut Vec<u8>, array: &BinaryArray) -> Result<()> {
    let offsets = array.value_offsets();
    let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else { return Ok(()) };
    let before = i32::try_from(data.len()).map_err(|_| too_many_bytes())?;
    before.checked_add(last - first).ok_or_else(too_many_bytes)?;
    let range = usize::try_from(*first).unwrap_or(0)..usize::try_from(*last).unwrap_or(0);
    data.extend_from_slice(array.value_data().get(range).unwrap_or_default());
    ends.extend(offsets.iter().skip(1).map(|end| before + (end - first)));
    Ok(())
}

fn too_many_bytes() -> Error {
    Error::new(ErrorKind::LimitExceeded, "a column of bytes would be larger than 2 GiB")
}

fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|e| Error::corruption(format!("stored text is not UTF-8: {e}")))
}

fn texts(spans: Spans<'_>) -> Result<Vec<&str>> {
    let text = utf8(spans.data)?;
    let one = |index| spans.range(index).and_then(|range| text.get(range)).ok_or_else(split_text);
    (0..spans.ends.len()).map(one).collect()
}

fn split_text() -> Error {
    Error::corruption("stored text is out of order or cut inside a character")
}

/// Appends all values narrowed, or none and `false` where one does not fit.
#[inline]
fn narrow<T: Copy + Into<i64>>(values: &[i64], out: &mut Vec<T>, truncate: impl Fn(i64) -> T) -> bool {
    let lost = values.iter().fold(0, |lost, value| lost | (truncate(*value).into() ^ value));
    if lost == 0 {
        out.extend(values.iter().map(|value| truncate(*value)));
    }
    lost == 0
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the caller compares the result with the original")]
fn truncate_to_i32(value: i64) -> i32 {
    value as i32
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the caller compares the result with the original")]
fn truncate_to_i16(value: i64) -> i16 {
    value as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a column of type `ty` that holds `before` makes of spans: how many rows it has then, and its array, or the error.
    fn extended(ty: ColumnType, before: &[u8], data: &[u8], ends: &[usize]) -> (usize, Result<ArrayRef>) {
        let mut sink = ColumnSink::new(ty, 0);
        sink.extend_spans(Spans { data: before, ends: &[before.len()] }, None).unwrap();
        let done = sink.extend_spans(Spans { data, ends }, None);
        (sink.len(), done.map(|()| sink.finish()))
    }

    #[test]
    fn byte_strings_come_all_at_once_or_not_at_all() {
        let (rows, array) = extended(ColumnType::Bytes, b"xy", b"abcdef?", &[0, 3, 3, 6]);
        let array = array.unwrap();
        let strings: Vec<_> = array.as_binary::<i32>().iter().flatten().collect();
        assert_eq!((rows, strings), (5, vec![&b"xy"[..], b"", b"abc", b"", b"def"]));
        let (rows, array) = extended(ColumnType::Bytes, b"xy", b"", &[]);
        assert_eq!((rows, array.unwrap().len()), (1, 1));
        for ends in [&[3, 2][..], &[0, 7], &[usize::MAX, 1], &[2, usize::MAX]] {
            let (rows, array) = extended(ColumnType::Bytes, b"xy", b"abcdef", ends);
            assert_eq!((rows, array.unwrap_err().kind()), (1, ErrorKind::Corruption), "{ends:?}");
        }
    }

    #[test]
    fn ids_have_sixteen_bytes_each() {
        let ids: Vec<u8> = (0..48).collect();
        let (rows, array) = extended(ColumnType::Uuid, &[7; 16], &ids, &[16, 32, 48]);
        let array = array.unwrap();
        let bytes: Vec<u8> = array.as_fixed_size_binary().iter().flatten().flatten().copied().collect();
        assert_eq!((rows, bytes), (4, [&[7; 16], ids.as_slice()].concat()));
        for ends in [&[15, 32, 48][..], &[16, 48], &[16, 32, 64], &[48, 32, 16]] {
            let (rows, array) = extended(ColumnType::Uuid, &[7; 16], &ids, ends);
            assert_eq!((rows, array.unwrap_err().kind()), (1, ErrorKind::Corruption), "{ends:?}");
        }
        // What comes after the last one is nobody's.
        assert_eq!(extended(ColumnType::Uuid, &[7; 16], &ids, &[16, 32]).1.unwrap().len(), 3);
    }
}
