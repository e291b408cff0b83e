/*!
Batches and single rows as callers hand them in, checked and brought into the shape in which a table stores them: every stored column in
the order of its schema, and a key for each row.
*/

use crate::column::ColumnSink;
use crate::error::{Error, ErrorKind, Result};
use crate::key::EncodedKeys;
use crate::limits::VALUE_BYTES_MAX;
use crate::row::encode_row;
use crate::run::RunSchema;
use crate::scan::projected_type;
use crate::txn::WriteKind;
use crate::txn::store::Shared;
use crate::types::{ColumnDef, ColumnId, ColumnType, TableDef, Value};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, new_null_array};
use arrow::datatypes::Int64Type;
use std::sync::Arc;

/// Rows ready to be stored.
#[derive(Debug, Clone)]
pub(crate) struct Incoming {
    pub(crate) keys: EncodedKeys,
    /// All columns of the run schema, in its order; for a delete all but the key's are NULL.
    pub(crate) columns: Vec<ArrayRef>,
}

fn null_violation(column: &str) -> Error {
    Error::new(ErrorKind::NullViolation, format!("column {column} takes no NULL"))
}

/// The array of a column in a batch.
fn given(columns: &[ColumnId], batch: &RecordBatch, id: ColumnId) -> Option<ArrayRef> {
    columns.iter().position(|other| *other == id).and_then(|place| batch.columns().get(place)).cloned()
}

fn check_shape(table: &TableDef, columns: &[ColumnId], batch: &RecordBatch) -> Result<()> {
    if columns.len() != batch.num_columns() {
        let message = format!("{} column ids for a batch of {} columns", columns.len(), batch.num_columns());
        return Err(Error::invalid(message));
    }
    for (place, (id, array)) in columns.iter().zip(batch.columns()).enumerate() {
        let ty = projected_type(table, *id)?;
        if *array.data_type() != ty.arrow() {
            let name = table.column_by_id(*id).map_or("_rowid", |column| &column.name);
            let message = format!("column {name} takes {}, not {}", ty.arrow(), array.data_type());
            return Err(Error::invalid(message));
        }
        if columns.iter().skip(place + 1).any(|other| other == id) {
            return Err(Error::invalid("a column comes twice in a batch"));
        }
    }
    Ok(())
}

fn check_column(column: &ColumnDef, array: &dyn Array) -> Result<()> {
    if !column.nullable && array.null_count() > 0 {
        return Err(null_violation(&column.name));
    }
    let longest = match column.ty {
        ColumnType::Text | ColumnType::Json => {
            array.as_string_view().views().iter().map(|view| usize::try_from(*view & 0xffff_ffff).unwrap_or(0)).max()
        }
        ColumnType::Bytes => array.as_binary::<i32>().offsets().windows(2).map(span).max(),
        _ => None,
    };
    match longest {
        Some(bytes) if bytes > VALUE_BYTES_MAX => {
            let message = format!("a value of {bytes} bytes in column {}; {VALUE_BYTES_MAX} is the limit", column.name);
            Err(Error::new(ErrorKind::LimitExceeded, message))
        }
        _ => Ok(()),
    }
}

fn span(pair: &[i32]) -> usize {
    match pair {
        [start, end] => usize::try_from(end.saturating_sub(*start)).unwrap_or(0),
        _ => 0,
    }
}

/// The row ids of a batch: those given, or new ones.
fn row_ids(given: Option<ArrayRef>, rows: usize, kind: WriteKind, shared: &Shared) -> Result<ArrayRef> {
    let Some(ids) = given else {
        if kind == WriteKind::Delete {
            return Err(Error::invalid("rows of a table without a key are deleted by their row ids"));
        }
        let rows = i64::try_from(rows).map_err(|_| Error::invalid("too many rows in a batch"))?;
        let first = shared.take_row_ids(rows);
        return Ok(Arc::new(Int64Array::from_iter_values(first..first.saturating_add(rows))));
    };
    let values = ids.as_primitive::<Int64Type>();
    if values.null_count() > 0 || values.values().iter().any(|id| *id < 1 || *id == i64::MAX) {
        return Err(Error::invalid("a row id must be a positive number"));
    }
    if let Some(most) = values.values().iter().max() {
        shared.skip_row_id(*most);
    }
    Ok(ids)
}

/// One row, whose values are those of all declared columns, as a batch of them.
pub(crate) fn of_one_row(table: &TableDef, values: &[Value]) -> Result<RecordBatch> {
    let array = |(column, value): (&ColumnDef, &Value)| {
        let mut sink = ColumnSink::new(column.ty, 1);
        sink.append(value)?;
        Ok(sink.finish())
    };
    let arrays = table.columns.iter().zip(values).map(array).collect::<Result<Vec<_>>>()?;
    let schema = table.projected_schema(&table.column_ids())?;
    RecordBatch::try_new(schema, arrays).map_err(|error| Error::invalid(error.to_string()))
}

/// One row, whose values are those of all declared columns, as key and row.
///
/// # Errors
/// As [`Incoming::new`].
pub(crate) fn encode(
    table: &TableDef,
    schema: &RunSchema,
    shared: &Shared,
    values: &[Value],
) -> Result<(Vec<u8>, Vec<u8>)> {
    if let Some((column, _)) = table.columns.iter().zip(values).find(|(c, value)| !c.nullable && **value == Value::Null)
    {
        return Err(null_violation(&column.name));
    }
    let row_id = if table.has_hidden_key() { Value::Int(shared.take_row_ids(1)) } else { Value::Null };
    let value = |id: &ColumnId| match *id {
        ColumnId::ROW_ID => &row_id,
        id => table.columns.iter().position(|c| c.id == id).and_then(|place| values.get(place)).unwrap_or(&Value::Null),
    };
    let (mut key, mut row) = (Vec::new(), Vec::new());
    schema.key.encode_to(&mut key, schema.key_columns.iter().map(value))?;
    encode_row(&mut row, schema.row_columns().iter().map(|(id, ty)| (*id, *ty, value(id))))?;
    Ok((key, row))
}

impl Incoming {
    /// Checks `batch`, whose columns are `columns`.
    ///
    /// # Errors
    /// `InvalidArgument` for arrays of other types, unknown doubled or missing columns; `NoSuchColumn`; `NullViolation`;
    /// `LimitExceeded` for values and keys that are too large.
    pub(crate) fn new(
        table: &TableDef,
        schema: &RunSchema,
        shared: &Shared,
        kind: WriteKind,
        columns: &[ColumnId],
        batch: &RecordBatch,
    ) -> Result<Incoming> {
        check_shape(table, columns, batch)?;
        let rows = batch.num_rows();
        let mut arrays = Vec::with_capacity(schema.columns.len());
        for (id, ty) in &schema.columns {
            let array = given(columns, batch, *id);
            let is_key = schema.key_columns.contains(id);
            if *id == ColumnId::ROW_ID {
                arrays.push(row_ids(array, rows, kind, shared)?);
                continue;
            }
            let column = table.column_by_id(*id).ok_or_else(|| Error::internal("a stored column is not declared"))?;
            arrays.push(match array {
                Some(array) if is_key || kind == WriteKind::Put => {
                    check_column(column, array.as_ref())?;
                    array
                }
                None if is_key || (kind == WriteKind::Put && !column.nullable && rows > 0) => {
                    return Err(null_violation(&column.name));
                }
                _ => new_null_array(&ty.arrow(), rows),
            });
        }
        let key_arrays: Vec<ArrayRef> = schema
            .key_columns
            .iter()
            .filter_map(|id| schema.position(*id).and_then(|place| arrays.get(place)).cloned())
            .collect();
        Ok(Incoming { keys: schema.key.encode_arrays(&key_arrays)?, columns: arrays })
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }
}
