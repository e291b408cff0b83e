/*!
Columns of values in Arrow form: one value read out, or a column built up.

[`value_at`] reads one value of an Arrow array that has a [`ColumnType`]'s own Arrow type; [`ColumnSink`] is appended to
value by value or in bulk and ends as such an array. Neither converts: an array of another type is an error.
*/

use crate::error::{Error, Result};
use crate::types::{ColumnType, Value};
use arrow::array::*;
use std::sync::Arc;

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
    builder: Builder,
}

#[derive(Debug)]
enum Builder {
    Boolean(BooleanBuilder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal(Decimal128Builder),
    Text(StringViewBuilder),
    Bytes(BinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    Interval(IntervalMonthDayNanoBuilder),
    Uuid(FixedSizeBinaryBuilder),
}

impl ColumnSink {
    /// An empty column with room for `capacity` rows.
    pub fn new(ty: ColumnType, capacity: usize) -> Self {
        let builder = match ty {
            ColumnType::Boolean => Builder::Boolean(BooleanBuilder::with_capacity(capacity)),
            ColumnType::Int16 => Builder::Int16(Int16Builder::with_capacity(capacity)),
            ColumnType::Int32 => Builder::Int32(Int32Builder::with_capacity(capacity)),
            ColumnType::Int64 => Builder::Int64(Int64Builder::with_capacity(capacity)),
            ColumnType::Float32 => Builder::Float32(Float32Builder::with_capacity(capacity)),
            ColumnType::Float64 => Builder::Float64(Float64Builder::with_capacity(capacity)),
            ColumnType::Decimal { .. } => {
                Builder::Decimal(Decimal128Builder::with_capacity(capacity).with_data_type(ty.arrow()))
            }
            ColumnType::Text | ColumnType::Json => Builder::Text(StringViewBuilder::with_capacity(capacity)),
            ColumnType::Bytes => Builder::Bytes(BinaryBuilder::with_capacity(capacity, capacity * 16)),
            ColumnType::Date => Builder::Date(Date32Builder::with_capacity(capacity)),
            ColumnType::Time => Builder::Time(Time64MicrosecondBuilder::with_capacity(capacity)),
            ColumnType::Timestamp | ColumnType::TimestampTz => {
                Builder::Timestamp(TimestampMicrosecondBuilder::with_capacity(capacity).with_data_type(ty.arrow()))
            }
            ColumnType::Interval => Builder::Interval(IntervalMonthDayNanoBuilder::with_capacity(capacity)),
            ColumnType::Uuid => Builder::Uuid(FixedSizeBinaryBuilder::with_capacity(capacity, 16)),
        };
        ColumnSink { ty, builder }
    }

    /// Appends one value.
    ///
    /// # Errors
    /// `InvalidArgument` when the value is not one of this column's type.
    pub fn append(&mut self, value: &Value) -> Result<()> {
        let ty = self.ty;
        let wrong = || Error::invalid(format!("value {value:?} in a column of type {ty:?}"));
        match (&mut self.builder, value) {
            (Builder::Boolean(b), Value::Boolean(v)) => b.append_value(*v),
            (Builder::Int16(b), Value::Int(v)) => b.append_value(i16::try_from(*v).map_err(|_| wrong())?),
            (Builder::Int32(b), Value::Int(v)) => b.append_value(i32::try_from(*v).map_err(|_| wrong())?),
            (Builder::Int64(b), Value::Int(v)) => b.append_value(*v),
            (Builder::Float32(b), Value::Float32(v)) => b.append_value(*v),
            (Builder::Float64(b), Value::Float64(v)) => b.append_value(*v),
            (Builder::Decimal(b), Value::Decimal(v)) => b.append_value(*v),
            (Builder::Text(b), Value::Text(v)) => b.append_value(v),
            (Builder::Bytes(b), Value::Bytes(v)) => b.append_value(v),
            (Builder::Date(b), Value::Int(v)) => b.append_value(i32::try_from(*v).map_err(|_| wrong())?),
            (Builder::Time(b), Value::Int(v)) => b.append_value(*v),
            (Builder::Timestamp(b), Value::Int(v)) => b.append_value(*v),
            (Builder::Interval(b), Value::Interval(v)) => b.append_value(*v),
            (Builder::Uuid(b), Value::Uuid(v)) => b.append_value(v)?,
            (builder, Value::Null) => match builder {
                Builder::Boolean(b) => b.append_null(),
                Builder::Int16(b) => b.append_null(),
                Builder::Int32(b) => b.append_null(),
                Builder::Int64(b) => b.append_null(),
                Builder::Float32(b) => b.append_null(),
                Builder::Float64(b) => b.append_null(),
                Builder::Decimal(b) => b.append_null(),
                Builder::Text(b) => b.append_null(),
                Builder::Bytes(b) => b.append_null(),
                Builder::Date(b) => b.append_null(),
                Builder::Time(b) => b.append_null(),
                Builder::Timestamp(b) => b.append_null(),
                Builder::Interval(b) => b.append_null(),
                Builder::Uuid(b) => b.append_null(),
            },
            _ => return Err(wrong()),
        }
        Ok(())
    }

    /// The finished column, of type `ty.arrow()`.
    pub fn finish(mut self) -> ArrayRef {
        match &mut self.builder {
            Builder::Boolean(b) => Arc::new(b.finish()),
            Builder::Int16(b) => Arc::new(b.finish()),
            Builder::Int32(b) => Arc::new(b.finish()),
            Builder::Int64(b) => Arc::new(b.finish()),
            Builder::Float32(b) => Arc::new(b.finish()),
            Builder::Float64(b) => Arc::new(b.finish()),
            Builder::Decimal(b) => Arc::new(b.finish()),
            Builder::Text(b) => Arc::new(b.finish()),
            Builder::Bytes(b) => Arc::new(b.finish()),
            Builder::Date(b) => Arc::new(b.finish()),
            Builder::Time(b) => Arc::new(b.finish()),
            Builder::Timestamp(b) => Arc::new(b.finish()),
            Builder::Interval(b) => Arc::new(b.finish()),
            Builder::Uuid(b) => Arc::new(b.finish()),
        }
    }
}
