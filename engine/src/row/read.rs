/*!
Rows read back from bytes: checked when opened, then looked into without a copy.
*/

use super::*;
use crate::bytes::Input;
use crate::column::ColumnSink;

/// An encoded row, checked from end to end.
#[derive(Debug, Clone, Copy)]
pub struct RowReader<'a> {
    cells: &'a [u8],
}

/// One cell as it lies there.
#[derive(Debug, Clone, Copy)]
struct Cell<'a> {
    id: ColumnId,
    class: u8,
    /// Without the length of TEXT and BYTES.
    payload: &'a [u8],
}

impl<'a> RowReader<'a> {
    /// Checks `bytes` as a whole row: version, cells, ascending ids, lengths, UTF-8.
    ///
    /// # Errors
    /// `Corruption`; `NewerFormat` for a version that this release does not know.
    pub fn open(bytes: &'a [u8]) -> Result<RowReader<'a>> {
        let (version, cells) = bytes.split_first().ok_or_else(|| Error::corruption("an empty row"))?;
        if *version != ROW_VERSION {
            let kind = if *version > ROW_VERSION { ErrorKind::NewerFormat } else { ErrorKind::Corruption };
            return Err(Error::new(kind, format!("a row of version {version}; this release reads {ROW_VERSION}")));
        }
        let (mut rest, mut last) = (input(cells), None);
        while rest.left() > 0 {
            let cell = Cell::take(&mut rest)?;
            if last.replace(cell.id).is_some_and(|last| last >= cell.id) {
                return Err(Error::corruption(format!("column id {} does not ascend in a row", cell.id.0)));
            }
            if cell.class == TEXT {
                std::str::from_utf8(cell.payload).map_err(|_| Error::corruption("a row has text that is not UTF-8"))?;
            }
        }
        Ok(RowReader { cells })
    }

    /// The value of one column; NULL where the row has none.
    ///
    /// # Errors
    /// `Corruption` when the stored value is not one of type `ty`.
    pub fn value(&self, id: ColumnId, ty: ColumnType) -> Result<Value> {
        let mut rest = input(self.cells);
        while rest.left() > 0 {
            let cell = Cell::take(&mut rest)?;
            if cell.id >= id {
                return if cell.id == id { cell.value(ty) } else { Ok(Value::Null) };
            }
        }
        Ok(Value::Null)
    }

    /// Appends the value of each of `columns` to the sink at its place. Ascending ids take one walk over the row.
    ///
    /// # Errors
    /// `Corruption` as [`RowReader::value`]; `InvalidArgument` for another number of sinks, or of another type.
    pub fn append_to(&self, columns: &[(ColumnId, ColumnType)], sinks: &mut [ColumnSink]) -> Result<()> {
        if columns.len() != sinks.len() {
            return Err(Error::invalid(format!("{} sinks for {} columns", sinks.len(), columns.len())));
        }
        let mut walk = Walk { all: self.cells, rest: input(self.cells), cell: None, passed: None };
        for ((id, ty), sink) in columns.iter().zip(sinks) {
            match walk.seek(*id)? {
                Some(cell) => sink.append(&cell.value(*ty)?)?,
                None => sink.append(&Value::Null)?,
            }
        }
        Ok(())
    }
}

/// A walk over the cells that starts again only when asked for a column that it has passed.
struct Walk<'a> {
    all: &'a [u8],
    rest: Input<'a>,
    cell: Option<Cell<'a>>,
    passed: Option<ColumnId>,
}

impl<'a> Walk<'a> {
    fn seek(&mut self, id: ColumnId) -> Result<Option<Cell<'a>>> {
        if self.passed.is_some_and(|passed| passed > id) {
            (self.rest, self.cell) = (input(self.all), None);
        }
        self.passed = Some(id);
        while self.cell.is_none_or(|cell| cell.id < id) && self.rest.left() > 0 {
            self.cell = Some(Cell::take(&mut self.rest)?);
        }
        Ok(self.cell.filter(|cell| cell.id == id))
    }
}

impl<'a> Cell<'a> {
    fn take(rest: &mut Input<'a>) -> Result<Cell<'a>> {
        let (id, class) = (rest.varint32()?, rest.byte()?);
        let len = match class {
            FALSE | TRUE => 0,
            INT => {
                let mut after = rest.clone();
                after.varint()?;
                rest.left() - after.left()
            }
            F32 => 4,
            F64 => 8,
            DEC | IVL | UUID => 16,
            TEXT | BYTES => rest.count(rest.left(), "bytes")?,
            other => return Err(Error::corruption(format!("a row has a value of class {other}"))),
        };
        Ok(Cell { id: ColumnId(id), class, payload: rest.take(len)? })
    }

    fn value(self, ty: ColumnType) -> Result<Value> {
        let wrong = || {
            let (class, id) = (self.class, self.id.0);
            Error::corruption(format!("a row has a value of class {class} in column id {id} of type {ty:?}"))
        };
        Ok(match (self.class, ty) {
            (FALSE, ColumnType::Boolean) => Value::Boolean(false),
            (TRUE, ColumnType::Boolean) => Value::Boolean(true),
            (INT, _) => {
                let value = input(self.payload).signed()?;
                match int_fits(ty, value) {
                    true => Value::Int(value),
                    false => return Err(wrong()),
                }
            }
            (F32, ColumnType::Float32) => Value::Float32(f32::from_le_bytes(self.array()?)),
            (F64, ColumnType::Float64) => Value::Float64(f64::from_le_bytes(self.array()?)),
            (DEC, ColumnType::Decimal { .. }) => Value::Decimal(i128::from_le_bytes(self.array()?)),
            (IVL, ColumnType::Interval) => Value::Interval(self.interval()?),
            (TEXT, ColumnType::Text | ColumnType::Json) => {
                Value::Text(std::str::from_utf8(self.payload).map_err(|_| wrong())?.to_owned())
            }
            (BYTES, ColumnType::Bytes) => Value::Bytes(self.payload.to_vec()),
            (UUID, ColumnType::Uuid) => Value::Uuid(self.array()?),
            _ => return Err(wrong()),
        })
    }

    fn array<const N: usize>(&self) -> Result<[u8; N]> {
        input(self.payload).array()
    }

    fn interval(&self) -> Result<IntervalMonthDayNano> {
        let mut rest = input(self.payload);
        let (months, days) = (i32::from_le_bytes(rest.array()?), i32::from_le_bytes(rest.array()?));
        Ok(IntervalMonthDayNano::new(months, days, rest.i64()?))
    }
}

fn input(bytes: &[u8]) -> Input<'_> {
    Input::new(bytes, "a row")
}
