/*!
Rows of a whole batch as bytes, straight from Arrow columns: types are looked at once a batch, not once a cell.
*/

use super::*;
use arrow::array::*;

/// The columns of a batch, ready to be written row by row.
#[derive(Debug)]
pub struct BatchRows {
    /// Ascending by id.
    columns: Vec<(ColumnId, Cells)>,
    rows: usize,
}

/// A column's array by its type. Arrays are reference counted: a clone copies no values.
#[derive(Debug)]
enum Cells {
    Boolean(BooleanArray),
    Int16(Int16Array),
    Int32(Int32Array),
    Int64(Int64Array),
    Float32(Float32Array),
    Float64(Float64Array),
    Decimal(Decimal128Array),
    Text(StringViewArray),
    Bytes(BinaryArray),
    Date(Date32Array),
    Time(Time64MicrosecondArray),
    Timestamp(TimestampMicrosecondArray),
    Interval(IntervalMonthDayNanoArray),
    Uuid(FixedSizeBinaryArray),
}

impl BatchRows {
    /// `rows` rows of these arrays, one for each column, of its Arrow type, all of that length. Columns come in any order.
    ///
    /// # Errors
    /// `InvalidArgument` for a column named twice, and for arrays of other types, lengths or number.
    pub fn new(columns: &[(ColumnId, ColumnType)], arrays: &[ArrayRef], rows: usize) -> Result<Self> {
        if columns.len() != arrays.len() {
            return Err(Error::invalid(format!("{} arrays for {} columns", arrays.len(), columns.len())));
        }
        if let Some(array) = arrays.iter().find(|array| array.len() != rows) {
            return Err(Error::invalid(format!("arrays of {rows} and of {} rows", array.len())));
        }
        let cells = |((id, ty), array): (&(ColumnId, ColumnType), &ArrayRef)| Ok((*id, Cells::of(array, *ty)?));
        let mut columns = columns.iter().zip(arrays).map(cells).collect::<Result<Vec<_>>>()?;
        columns.sort_by_key(|(id, _)| *id);
        match columns.is_sorted_by(|(a, _), (b, _)| a < b) {
            true => Ok(BatchRows { columns, rows }),
            false => Err(Error::invalid("a column comes twice in a batch")),
        }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Appends row number `row` to `out`.
    ///
    /// # Errors
    /// `InvalidArgument` when there are not that many; `LimitExceeded` as [`encode_row`]. `out` is then as it was.
    pub fn encode(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        if row >= self.rows {
            return Err(Error::invalid(format!("row {row} of a batch of {}", self.rows)));
        }
        whole_row(out, |out| self.columns.iter().try_for_each(|(id, cells)| cells.put(out, *id, row)))
    }
}

impl Cells {
    fn of(array: &ArrayRef, ty: ColumnType) -> Result<Cells> {
        let wrong = || Error::invalid(format!("array of type {} in a column of type {ty:?}", array.data_type()));
        if array.data_type() != &ty.arrow() {
            return Err(wrong());
        }
        macro_rules! of {
            ($cells:ident, $t:ty) => {
                Cells::$cells(array.as_any().downcast_ref::<$t>().ok_or_else(wrong)?.clone())
            };
        }
        Ok(match ty {
            ColumnType::Boolean => of!(Boolean, BooleanArray),
            ColumnType::Int16 => of!(Int16, Int16Array),
            ColumnType::Int32 => of!(Int32, Int32Array),
            ColumnType::Int64 => of!(Int64, Int64Array),
            ColumnType::Float32 => of!(Float32, Float32Array),
            ColumnType::Float64 => of!(Float64, Float64Array),
            ColumnType::Decimal { .. } => of!(Decimal, Decimal128Array),
            ColumnType::Text | ColumnType::Json => of!(Text, StringViewArray),
            ColumnType::Bytes => of!(Bytes, BinaryArray),
            ColumnType::Date => of!(Date, Date32Array),
            ColumnType::Time => of!(Time, Time64MicrosecondArray),
            ColumnType::Timestamp | ColumnType::TimestampTz => of!(Timestamp, TimestampMicrosecondArray),
            ColumnType::Interval => of!(Interval, IntervalMonthDayNanoArray),
            ColumnType::Uuid => of!(Uuid, FixedSizeBinaryArray),
        })
    }

    fn put(&self, out: &mut Vec<u8>, id: ColumnId, row: usize) -> Result<()> {
        macro_rules! put {
            ($array:expr, $value:ident => $put:expr) => {
                if $array.is_valid(row) {
                    let $value = $array.value(row);
                    $put
                }
            };
        }
        match self {
            Cells::Boolean(array) => put!(array, v => put_head(out, id, if v { TRUE } else { FALSE })),
            Cells::Int16(array) => put!(array, v => put_int(out, id, v.into())),
            Cells::Int32(array) => put!(array, v => put_int(out, id, v.into())),
            Cells::Int64(array) => put!(array, v => put_int(out, id, v)),
            Cells::Date(array) => put!(array, v => put_int(out, id, v.into())),
            Cells::Time(array) => put!(array, v => put_int(out, id, v)),
            Cells::Timestamp(array) => put!(array, v => put_int(out, id, v)),
            Cells::Float32(array) => put!(array, v => put_array(out, id, F32, v.to_le_bytes())),
            Cells::Float64(array) => put!(array, v => put_array(out, id, F64, v.to_le_bytes())),
            Cells::Decimal(array) => put!(array, v => put_array(out, id, DEC, v.to_le_bytes())),
            Cells::Interval(array) => put!(array, v => put_array(out, id, IVL, interval_bytes(v))),
            Cells::Text(array) => put!(array, v => put_bytes(out, id, TEXT, v.as_bytes())?),
            Cells::Bytes(array) => put!(array, v => put_bytes(out, id, BYTES, v)?),
            Cells::Uuid(array) => put!(array, v => {
                put_head(out, id, UUID);
                out.extend_from_slice(v);
            }),
        }
        Ok(())
    }
}
