/*!
One column's part of a key: how a value becomes bytes whose order is the value's order, and back.

Knows one component at a time. [`Visitor`] is how whole Arrow columns are walked without a [`Value`] per cell.
*/

use crate::error::{Error, Result};
use crate::types::{ColumnType, Value};
use arrow::array::*;
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, IntervalMonthDayNano};
use std::borrow::Cow;

/// Before a value of a nullable column.
pub(super) const PRESENT: u8 = 1;
/// In place of a NULL of a nullable column.
pub(super) const NULL: u8 = 2;
/// Ends a Text or Bytes component.
pub(super) const TERMINATOR: [u8; 2] = [0, 0];
/// Follows a zero byte that is part of the value.
const ESCAPE: u8 = 0xFF;

const DAY_NANOS: i128 = 86_400 * 1_000_000_000;
const MONTH_NANOS: i128 = 30 * DAY_NANOS;
const SIGN_64: u64 = 1 << 63;
const SIGN_128: u128 = 1 << 127;
const CANONICAL_NAN: f64 = f64::from_bits(0x7FF8_0000_0000_0000);

/// The bytes of a value's encoding, where all values of the type agree on them.
pub(super) fn fixed_width(ty: ColumnType) -> Option<usize> {
    match ty {
        ColumnType::Boolean => Some(1),
        ColumnType::Decimal { .. } | ColumnType::Interval | ColumnType::Uuid => Some(16),
        ColumnType::Text | ColumnType::Bytes | ColumnType::Json => None,
        _ => Some(8),
    }
}

pub(super) fn from_i64(value: i64) -> [u8; 8] {
    (value.cast_unsigned() ^ SIGN_64).to_be_bytes()
}

pub(super) fn from_f64(value: f64) -> [u8; 8] {
    let canonical = if value.is_nan() { CANONICAL_NAN } else { value + 0.0 };
    let bits = canonical.to_bits();
    let negative = (bits.cast_signed() >> 63).cast_unsigned();
    (bits ^ (negative | SIGN_64)).to_be_bytes()
}

pub(super) fn from_i128(value: i128) -> [u8; 16] {
    (value.cast_unsigned() ^ SIGN_128).to_be_bytes()
}

pub(super) fn from_interval(value: IntervalMonthDayNano) -> [u8; 16] {
    let nanos =
        i128::from(value.months) * MONTH_NANOS + i128::from(value.days) * DAY_NANOS + i128::from(value.nanoseconds);
    from_i128(nanos)
}

/// Bytes of the encoding of a Text or Bytes value.
pub(super) fn escaped_len(value: &[u8]) -> usize {
    value.len() + value.iter().filter(|byte| **byte == 0).count() + TERMINATOR.len()
}

/// Appends a Text or Bytes value.
pub(super) fn push_escaped(value: &[u8], out: &mut Vec<u8>) {
    out.reserve(value.len() + TERMINATOR.len());
    if value.contains(&0) {
        let mut parts = value.split(|byte| *byte == 0);
        out.extend_from_slice(parts.next().unwrap_or_default());
        for part in parts {
            out.extend_from_slice(&[0, ESCAPE]);
            out.extend_from_slice(part);
        }
    } else {
        out.extend_from_slice(value);
    }
    out.extend_from_slice(&TERMINATOR);
}

/// Appends the component of one value. An integer may exceed its column's width: a bound of a range may.
///
/// # Errors
/// `InvalidArgument` when the value is not of the type's class. NULL is the caller's.
pub(super) fn push(value: &Value, ty: ColumnType, out: &mut Vec<u8>) -> Result<()> {
    match (ty, value) {
        (ColumnType::Boolean, Value::Boolean(v)) => out.push(u8::from(*v)),
        (
            ColumnType::Int16
            | ColumnType::Int32
            | ColumnType::Int64
            | ColumnType::Date
            | ColumnType::Time
            | ColumnType::Timestamp
            | ColumnType::TimestampTz,
            Value::Int(v),
        ) => out.extend_from_slice(&from_i64(*v)),
        (ColumnType::Float32 | ColumnType::Float64, Value::Float32(v)) => {
            out.extend_from_slice(&from_f64(f64::from(*v)));
        }
        (ColumnType::Float32 | ColumnType::Float64, Value::Float64(v)) => out.extend_from_slice(&from_f64(*v)),
        (ColumnType::Decimal { .. }, Value::Decimal(v)) => out.extend_from_slice(&from_i128(*v)),
        (ColumnType::Interval, Value::Interval(v)) => out.extend_from_slice(&from_interval(*v)),
        (ColumnType::Uuid, Value::Uuid(v)) => out.extend_from_slice(v),
        (ColumnType::Text, Value::Text(v)) => push_escaped(v.as_bytes(), out),
        (ColumnType::Bytes, Value::Bytes(v)) => push_escaped(v, out),
        _ => return Err(Error::invalid(format!("value {value:?} in a key column of type {ty:?}"))),
    }
    Ok(())
}

/// Whether the column itself can hold the value, so that a key decodes to what was encoded.
pub(super) fn fits(value: &Value, ty: ColumnType) -> bool {
    match (ty, value) {
        (ColumnType::Int16, Value::Int(v)) => i16::try_from(*v).is_ok(),
        (ColumnType::Int32 | ColumnType::Date, Value::Int(v)) => i32::try_from(*v).is_ok(),
        (ColumnType::Float32, Value::Float64(_)) | (ColumnType::Float64, Value::Float32(_)) => false,
        _ => true,
    }
}

/// Takes one value's component off the front of `bytes`.
///
/// # Errors
/// `Corruption` when the bytes are not one.
pub(super) fn take(bytes: &mut &[u8], ty: ColumnType) -> Result<Value> {
    let value = match ty {
        ColumnType::Boolean => match take_array::<1>(bytes)? {
            [0] => Value::Boolean(false),
            [1] => Value::Boolean(true),
            [other] => return Err(Error::corruption(format!("key has the boolean {other}"))),
        },
        ColumnType::Float64 => Value::Float64(to_f64(take_array(bytes)?)),
        ColumnType::Float32 => Value::Float32(to_f32(take_array(bytes)?)?),
        ColumnType::Decimal { .. } => Value::Decimal(to_i128(take_array(bytes)?)),
        ColumnType::Interval => Value::Interval(to_interval(take_array(bytes)?)?),
        ColumnType::Uuid => Value::Uuid(take_array(bytes)?),
        ColumnType::Text | ColumnType::Json => {
            let text = String::from_utf8(take_escaped(bytes)?);
            Value::Text(text.map_err(|_| Error::corruption("key has text that is not UTF-8"))?)
        }
        ColumnType::Bytes => Value::Bytes(take_escaped(bytes)?),
        _ => Value::Int((u64::from_be_bytes(take_array(bytes)?) ^ SIGN_64).cast_signed()),
    };
    match fits(&value, ty) {
        true => Ok(value),
        false => Err(Error::corruption(format!("key has {value:?} in a column of type {ty:?}"))),
    }
}

/// Takes `N` bytes off the front.
pub(super) fn take_array<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or_else(|| Error::corruption("key is cut short"))?;
    *bytes = rest;
    Ok(*head)
}

fn take_escaped(bytes: &mut &[u8]) -> Result<Vec<u8>> {
    take_bytes(bytes).map(Cow::into_owned)
}

/// Takes a Text or Bytes component off the front of `bytes`: the value as it was given, borrowed where no byte of it is zero.
///
/// # Errors
/// `Corruption` when there is none.
#[inline]
pub(crate) fn take_bytes<'k>(bytes: &mut &'k [u8]) -> Result<Cow<'k, [u8]>> {
    let first = take_part(bytes)?;
    if take_array::<2>(bytes)? == TERMINATOR {
        return Ok(Cow::Borrowed(first));
    }
    let mut value = first.to_vec();
    loop {
        value.push(0);
        value.extend_from_slice(take_part(bytes)?);
        if take_array::<2>(bytes)? == TERMINATOR {
            return Ok(Cow::Owned(value));
        }
    }
}

/// Takes what stands before a zero byte that ends a component or is part of its value.
#[inline]
fn take_part<'k>(bytes: &mut &'k [u8]) -> Result<&'k [u8]> {
    let zero = bytes.iter().position(|byte| *byte == 0).ok_or_else(|| Error::corruption("key text has no end"))?;
    let (part, rest) = bytes.split_at_checked(zero).unwrap_or((bytes, &[]));
    match rest.get(1) {
        Some(0 | &ESCAPE) => {
            *bytes = rest;
            Ok(part)
        }
        Some(_) => Err(Error::corruption("key text has a stray zero byte")),
        None => Err(Error::corruption("key is cut short")),
    }
}

fn to_f64(bytes: [u8; 8]) -> f64 {
    let ordered = u64::from_be_bytes(bytes);
    f64::from_bits(if ordered & SIGN_64 == 0 { !ordered } else { ordered ^ SIGN_64 })
}

#[expect(clippy::cast_possible_truncation, reason = "what does not survive the way back is refused")]
fn to_f32(bytes: [u8; 8]) -> Result<f32> {
    let wide = to_f64(bytes);
    let narrow = wide as f32;
    match from_f64(f64::from(narrow)) == bytes {
        true => Ok(narrow),
        false => Err(Error::corruption(format!("key has {wide} in a column of type Float32"))),
    }
}

fn to_i128(bytes: [u8; 16]) -> i128 {
    (u128::from_be_bytes(bytes) ^ SIGN_128).cast_signed()
}

/// The interval with as many whole months, then whole days, as the fields can hold. Whatever three fields were
/// encoded, their sum fits again: what months cannot hold was in days, and what days cannot hold was in nanoseconds.
fn to_interval(bytes: [u8; 16]) -> Result<IntervalMonthDayNano> {
    let nanos = to_i128(bytes);
    let months = clamp_i32(nanos / MONTH_NANOS);
    let nanos = nanos.saturating_sub(i128::from(months) * MONTH_NANOS);
    let days = clamp_i32(nanos / DAY_NANOS);
    let nanos = nanos.saturating_sub(i128::from(days) * DAY_NANOS);
    let nanos = i64::try_from(nanos).map_err(|_| Error::corruption("key has an interval that is out of range"))?;
    Ok(IntervalMonthDayNano::new(months, days, nanos))
}

fn clamp_i32(value: i128) -> i32 {
    i32::try_from(value).unwrap_or(if value < 0 { i32::MIN } else { i32::MAX })
}

/// Is shown one whole column: the encoded values in row order, those of NULL rows being anything at all.
pub(super) trait Visitor {
    /// Values of `N` bytes each.
    fn fixed<const N: usize>(&mut self, nulls: Option<&NullBuffer>, values: impl Iterator<Item = [u8; N]>);
    /// Text or Bytes values, not yet escaped.
    fn bytes<'a>(&mut self, nulls: Option<&NullBuffer>, values: impl Iterator<Item = &'a [u8]>);
}

/// Shows `array` to `visitor`.
///
/// # Errors
/// `InvalidArgument` when the array is not of type `ty.arrow()`.
pub(super) fn visit(array: &dyn Array, ty: ColumnType, visitor: &mut impl Visitor) -> Result<()> {
    let wrong = || Error::invalid(format!("array of type {} in a key column of type {ty:?}", array.data_type()));
    macro_rules! of {
        ($t:ty) => {
            array.as_any().downcast_ref::<$t>().ok_or_else(wrong)?
        };
    }
    macro_rules! fixed {
        ($t:ty, $encode:expr) => {
            visitor.fixed(array.nulls(), of!($t).values().iter().map(|value| $encode(*value)))
        };
    }
    match ty {
        ColumnType::Boolean => {
            visitor.fixed(array.nulls(), of!(BooleanArray).values().iter().map(|value| [u8::from(value)]));
        }
        ColumnType::Int16 => fixed!(Int16Array, |v: i16| from_i64(v.into())),
        ColumnType::Int32 => fixed!(Int32Array, |v: i32| from_i64(v.into())),
        ColumnType::Int64 => fixed!(Int64Array, from_i64),
        ColumnType::Date => fixed!(Date32Array, |v: i32| from_i64(v.into())),
        ColumnType::Time => fixed!(Time64MicrosecondArray, from_i64),
        ColumnType::Timestamp | ColumnType::TimestampTz => fixed!(TimestampMicrosecondArray, from_i64),
        ColumnType::Float32 => fixed!(Float32Array, |v: f32| from_f64(v.into())),
        ColumnType::Float64 => fixed!(Float64Array, from_f64),
        ColumnType::Decimal { scale, .. } => {
            match array.data_type() {
                DataType::Decimal128(_, actual) if *actual == scale => {}
                _ => return Err(wrong()),
            }
            fixed!(Decimal128Array, from_i128);
        }
        ColumnType::Interval => fixed!(IntervalMonthDayNanoArray, from_interval),
        ColumnType::Uuid => {
            let uuids = of!(FixedSizeBinaryArray);
            if uuids.value_length() != 16 {
                return Err(wrong());
            }
            let value = |row| <[u8; 16]>::try_from(uuids.value(row)).unwrap_or_default();
            visitor.fixed(array.nulls(), (0..uuids.len()).map(value));
        }
        ColumnType::Text => {
            let texts = of!(StringViewArray);
            visitor.bytes(array.nulls(), (0..texts.len()).map(|row| texts.value(row).as_bytes()));
        }
        ColumnType::Bytes => {
            let blobs = of!(BinaryArray);
            visitor.bytes(array.nulls(), (0..blobs.len()).map(|row| blobs.value(row)));
        }
        ColumnType::Json => return Err(wrong()),
    }
    Ok(())
}
