/*!
Values on their way into columns: PostgreSQL's assignment casts and the checks of a column.

A write's source is a plan whose columns are put into the types of the table's columns by [`cast`], where PostgreSQL
allows that without being asked (any number into any number, anything into text, a timestamp into a date …), else 42804.
What a plan cannot say is done on its batches by [`Writer`]: the n of varchar(n), JSON that parses, UUIDs that are some,
NOT NULL; and there they leave DataFusion's types for the engine's.
*/

use crate::catalog::key_name;
use crate::error::{Result, SqlError, state};
use crate::provider::filter::scalar_of;
use crate::text;
use crate::types::{SqlType, field_of, from_engine, to_engine};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringViewArray, StringViewBuilder};
use arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::logical_expr::{Expr, cast as cast_expr};
use omendb_engine::ErrorKind;
use omendb_engine::db::Snapshot;
use omendb_engine::key::KeySchema;
use omendb_engine::types::{ColumnDef, ColumnId, ColumnType, TableDef};
use std::sync::Arc;

/// The expression as a value of the column's type.
///
/// # Errors
/// 42804 when PostgreSQL would want a cast to be written.
pub(crate) fn cast(expr: Expr, from: &Field, to: &ColumnDef) -> Result<Expr> {
    let target = SqlType::of_column(to);
    if !assignable(from, to.ty) {
        let source = text::type_name(from);
        return Err(SqlError::new(
            state::DATATYPE_MISMATCH,
            format!("column \"{}\" is of type {} but expression is of type {source}", to.name, target.name()),
        )
        .with_hint("You will need to rewrite or cast the expression."));
    }
    let arrow = target.arrow();
    Ok(match *from.data_type() == arrow {
        true => expr,
        false => cast_expr(expr, arrow),
    })
}

/// PostgreSQL's assignment casts. Text goes into uuid and json too: DataFusion does not always know that text is one.
fn assignable(from: &Field, to: ColumnType) -> bool {
    use ColumnType as C;
    use DataType as D;
    let is_number = matches!(to, C::Int16 | C::Int32 | C::Int64 | C::Float32 | C::Float64 | C::Decimal { .. });
    match (from.data_type(), to) {
        (D::Null, _) => true,
        (D::List(_) | D::LargeList(_) | D::FixedSizeList(..) | D::Struct(_) | D::Map(..), C::Text) => false,
        (_, C::Text) => true,
        (from, _) if from.is_numeric() => is_number,
        (D::Boolean, to) => to == C::Boolean,
        (D::Utf8 | D::LargeUtf8 | D::Utf8View, to) => matches!(to, C::Uuid | C::Json),
        (D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_), to) => to == C::Bytes,
        (D::Date32 | D::Date64, to) => matches!(to, C::Date | C::Timestamp | C::TimestampTz),
        (D::Timestamp(..), to) => matches!(to, C::Date | C::Time | C::Timestamp | C::TimestampTz),
        (D::Time32(_) | D::Time64(_), to) => matches!(to, C::Time | C::Interval),
        (D::Interval(_) | D::Duration(_), to) => to == C::Interval,
        (D::Dictionary(_, value), to) => assignable(
            &Field::new(from.name(), value.as_ref().clone(), true).with_metadata(from.metadata().clone()),
            to,
        ),
        _ => false,
    }
}

/// Checks batches of a table's rows and turns them into the engine's.
pub(crate) struct Writer {
    table: Arc<TableDef>,
    columns: Vec<ColumnId>,
    schema: SchemaRef,
}

impl Writer {
    pub(crate) fn new(table: Arc<TableDef>) -> Result<Writer> {
        let columns = table.column_ids();
        let schema = table.projected_schema(&columns)?;
        Ok(Writer { table, columns, schema })
    }

    /// The columns of the batches: all that are declared.
    pub(crate) fn columns(&self) -> &[ColumnId] {
        &self.columns
    }

    /// Rows as the engine takes them. `arrays` are all declared columns, as DataFusion sees them.
    ///
    /// # Errors
    /// 22001, 22P02, 23502: what the columns do not take.
    pub(crate) fn batch(&self, arrays: &[ArrayRef]) -> Result<RecordBatch> {
        let mut columns = Vec::with_capacity(arrays.len());
        for (array, column) in arrays.iter().zip(&self.table.columns) {
            columns.push(accepted(array, column)?);
        }
        self.stored(columns)
    }

    /// Rows as the engine takes them, of columns that are in its types already.
    ///
    /// # Errors
    /// 23502.
    pub(crate) fn stored(&self, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
        for (array, column) in columns.iter().zip(&self.table.columns) {
            if !column.nullable && array.null_count() > 0 {
                return Err(self.null_violation(column, array, &columns));
            }
        }
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    fn null_violation(&self, column: &ColumnDef, array: &ArrayRef, columns: &[ArrayRef]) -> SqlError {
        let row = (0..array.len()).find(|row| array.is_null(*row)).unwrap_or(0);
        let values: Vec<String> =
            columns.iter().zip(&self.table.columns).map(|(array, column)| shown(array, row, column)).collect();
        SqlError::new(
            state::NOT_NULL_VIOLATION,
            format!(
                "null value in column \"{}\" of relation \"{}\" violates not-null constraint",
                column.name, self.table.name
            ),
        )
        .with_detail(format!("Failing row contains ({}).", values.join(", ")))
    }
}

/// One stored value as text; at most so much of it as an error message should quote.
fn shown(array: &ArrayRef, row: usize, column: &ColumnDef) -> String {
    const CHARS_MAX: usize = 64;
    if array.is_null(row) {
        return "null".into();
    }
    let mut out = String::new();
    match from_engine(array, column.ty) {
        Ok(array) => text::format(&array, row, &field_of(column), &mut out),
        Err(_) => return "?".into(),
    }
    match out.char_indices().nth(CHARS_MAX) {
        Some((at, _)) => {
            out.truncate(at);
            out + "..."
        }
        None => out,
    }
}

/// A column as the engine takes it.
pub(crate) fn accepted(array: &ArrayRef, column: &ColumnDef) -> Result<ArrayRef> {
    match (column.ty, SqlType::of_column(column).length) {
        (ColumnType::Text, Some(length)) => limited(array, usize::try_from(length).unwrap_or(usize::MAX)),
        (ColumnType::Json, _) => {
            check_json(array)?;
            Ok(array.clone())
        }
        (ty, _) => to_engine(array, ty),
    }
}

/// Text of at most `length` characters; blanks beyond them are cut off, as the standard says.
fn limited(array: &ArrayRef, length: usize) -> Result<ArrayRef> {
    let text = string_view(array)?;
    // No text has more characters than bytes.
    let fits = |value: &str| value.len() <= length || value.chars().count() <= length;
    if text.iter().flatten().all(fits) {
        return Ok(array.clone());
    }
    let mut out = StringViewBuilder::with_capacity(text.len());
    for value in text {
        let cut = match value {
            Some(value) => value.char_indices().nth(length).map_or(Some(value), |(at, _)| value.get(..at)),
            None => None,
        };
        if let (Some(value), Some(cut)) = (value, cut)
            && value.get(cut.len()..).is_some_and(|rest| rest.chars().any(|c| c != ' '))
        {
            return Err(SqlError::new(
                state::STRING_DATA_RIGHT_TRUNCATION,
                format!("value too long for type character varying({length})"),
            ));
        }
        out.append_option(cut);
    }
    Ok(Arc::new(out.finish()))
}

fn check_json(array: &ArrayRef) -> Result<()> {
    for value in string_view(array)?.iter().flatten() {
        crate::types::check_json(value)?;
    }
    Ok(())
}

fn string_view(array: &ArrayRef) -> Result<&StringViewArray> {
    array.as_string_view_opt().ok_or_else(|| SqlError::internal(format!("text of type {}", array.data_type())))
}

/// The engine's error about a row, as PostgreSQL tells it.
pub(crate) fn engine_error(snapshot: &Snapshot, e: omendb_engine::Error) -> SqlError {
    let described = match (e.kind(), e.row()) {
        (ErrorKind::DuplicateKey, Some(row)) => {
            snapshot.table_by_id(row.table).ok().flatten().and_then(|table| Some((key_text(&table, &row.key)?, table)))
        }
        _ => None,
    };
    match described {
        Some((key, table)) => SqlError::new(
            state::UNIQUE_VIOLATION,
            format!("duplicate key value violates unique constraint \"{}\"", key_name(&table)),
        )
        .with_detail(format!("Key {key} already exists."))
        .with_engine_kind(ErrorKind::DuplicateKey),
        None => SqlError::from(e),
    }
}

/// `(run_id, step)=(5, 10)`.
fn key_text(table: &TableDef, key: &[u8]) -> Option<String> {
    let values = KeySchema::of(table).ok()?.decode(key).ok()?;
    let columns: Vec<&ColumnDef> = table.key.iter().filter_map(|id| table.column_by_id(*id)).collect();
    let mut names = Vec::new();
    let mut texts = Vec::new();
    for (column, value) in columns.into_iter().zip(&values) {
        let array = scalar_of(value, column.ty)?.to_array().ok()?;
        let mut out = String::new();
        text::format(&array, 0, &field_of(column), &mut out);
        names.push(column.name.as_str());
        texts.push(out);
    }
    Some(format!("({})=({})", names.join(", "), texts.join(", ")))
}
