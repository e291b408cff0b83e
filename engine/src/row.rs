/*!
Rows as bytes, for the log and the memtable: self-describing, so that a row outlives changes of its table.

```text
    row     = version (01) | cell | cell | …        cells ascending by column id; NULL has no cell
    cell    = column id (varint) | class | payload
    class     payload
    01 FALSE  —
    02 TRUE   —
    03 INT    zigzag varint              Int16, Int32, Int64, Date, Time, Timestamp, TimestampTz
    04 F32    4 bytes, little-endian     the bits as they were given, unlike in a key
    05 F64    8 bytes, little-endian
    06 DEC    16 bytes, little-endian    i128
    07 IVL    4 + 4 + 8 bytes, little-endian: months, days, nanoseconds
    08 TEXT   length (varint), UTF-8     Text, Json
    09 BYTES  length (varint), bytes
    0A UUID   16 bytes
```

A varint is LEB128, at most 10 bytes. A column that a row does not have reads as NULL, be it NULL or younger than the row. Reading
checks everything and copies only what is asked for; damaged bytes are `Corruption`. The bytes carry no checksum: whoever
stores them does.

A table's rows lie beside their keys, and leave out the columns that the key says exactly
([`RunSchema::row_columns`](crate::run::RunSchema::row_columns)). Log records of versions 1 and 2 have rows with these too.
*/

mod batch;
mod read;
#[cfg(test)]
mod tests;

pub use batch::BatchRows;
pub use read::RowReader;

use crate::bytes::{put_counted, put_signed, put_varint};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{ROW_BYTES_MAX, VALUE_BYTES_MAX};
use crate::types::{ColumnId, ColumnType, Value};
use arrow::datatypes::IntervalMonthDayNano;

/// The number under which this form is named in each row.
pub const ROW_VERSION: u8 = 1;

const FALSE: u8 = 1;
const TRUE: u8 = 2;
const INT: u8 = 3;
const F32: u8 = 4;
const F64: u8 = 5;
const DEC: u8 = 6;
const IVL: u8 = 7;
const TEXT: u8 = 8;
const BYTES: u8 = 9;
const UUID: u8 = 10;

/// Appends a row to `out`: its columns ascending by id, NULLs among them or left out.
///
/// # Errors
/// `InvalidArgument` for ids that do not ascend or a value that is not of its type; `LimitExceeded` beyond
/// `VALUE_BYTES_MAX` or `ROW_BYTES_MAX`. `out` is then as it was.
pub fn encode_row<'a>(
    out: &mut Vec<u8>,
    values: impl Iterator<Item = (ColumnId, ColumnType, &'a Value)>,
) -> Result<()> {
    whole_row(out, |out| {
        let mut last = None;
        for (id, ty, value) in values {
            if last.replace(id).is_some_and(|last| last >= id) {
                return Err(Error::invalid(format!("column id {} does not ascend in a row", id.0)));
            }
            put_value(out, id, ty, value)?;
        }
        Ok(())
    })
}

/// Writes the version, then what `cells` writes; leaves no trace of a row that failed.
fn whole_row(out: &mut Vec<u8>, cells: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
    let start = out.len();
    out.push(ROW_VERSION);
    let done = cells(out).and_then(|()| match out.len() - start {
        0..=ROW_BYTES_MAX => Ok(()),
        len => Err(limit("row", len, "ROW_BYTES_MAX", ROW_BYTES_MAX)),
    });
    if done.is_err() {
        out.truncate(start);
    }
    done
}

fn limit(what: &str, len: usize, name: &str, max: usize) -> Error {
    Error::new(ErrorKind::LimitExceeded, format!("a {what} of {len} bytes; the limit is {max} ({name})"))
}

fn put_value(out: &mut Vec<u8>, id: ColumnId, ty: ColumnType, value: &Value) -> Result<()> {
    match (ty, value) {
        (_, Value::Null) => {}
        (ColumnType::Boolean, Value::Boolean(v)) => put_head(out, id, if *v { TRUE } else { FALSE }),
        (_, Value::Int(v)) if int_fits(ty, *v) => put_int(out, id, *v),
        (ColumnType::Float32, Value::Float32(v)) => put_array(out, id, F32, v.to_le_bytes()),
        (ColumnType::Float64, Value::Float64(v)) => put_array(out, id, F64, v.to_le_bytes()),
        (ColumnType::Decimal { .. }, Value::Decimal(v)) => put_array(out, id, DEC, v.to_le_bytes()),
        (ColumnType::Interval, Value::Interval(v)) => put_array(out, id, IVL, interval_bytes(*v)),
        (ColumnType::Text | ColumnType::Json, Value::Text(v)) => put_bytes(out, id, TEXT, v.as_bytes())?,
        (ColumnType::Bytes, Value::Bytes(v)) => put_bytes(out, id, BYTES, v)?,
        (ColumnType::Uuid, Value::Uuid(v)) => put_array(out, id, UUID, *v),
        _ => return Err(Error::invalid(format!("value {value:?} in a column of type {ty:?}"))),
    }
    Ok(())
}

fn put_head(out: &mut Vec<u8>, id: ColumnId, class: u8) {
    put_varint(out, id.0.into());
    out.push(class);
}

fn put_int(out: &mut Vec<u8>, id: ColumnId, value: i64) {
    put_head(out, id, INT);
    put_signed(out, value);
}

fn put_array<const N: usize>(out: &mut Vec<u8>, id: ColumnId, class: u8, payload: [u8; N]) {
    put_head(out, id, class);
    out.extend_from_slice(&payload);
}

fn put_bytes(out: &mut Vec<u8>, id: ColumnId, class: u8, payload: &[u8]) -> Result<()> {
    if payload.len() > VALUE_BYTES_MAX {
        return Err(limit("value", payload.len(), "VALUE_BYTES_MAX", VALUE_BYTES_MAX));
    }
    put_head(out, id, class);
    put_counted(out, payload);
    Ok(())
}

/// Whether a column of this type holds integers, and this one too.
fn int_fits(ty: ColumnType, value: i64) -> bool {
    match ty {
        ColumnType::Int16 => i16::try_from(value).is_ok(),
        ColumnType::Int32 | ColumnType::Date => i32::try_from(value).is_ok(),
        ColumnType::Int64 | ColumnType::Time | ColumnType::Timestamp | ColumnType::TimestampTz => true,
        _ => false,
    }
}

fn interval_bytes(v: IntervalMonthDayNano) -> [u8; 16] {
    let fields = u128::from(v.months.cast_unsigned())
        | u128::from(v.days.cast_unsigned()) << 32
        | u128::from(v.nanoseconds.cast_unsigned()) << 64;
    fields.to_le_bytes()
}
