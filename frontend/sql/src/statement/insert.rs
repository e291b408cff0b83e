/*!
INSERT: its source is planned as a query, its rows are put with the expectation that their keys are absent.

A string literal that stands for a column's value takes the column's type, as PostgreSQL's unknown literals do; any other
expression must fit by an assignment cast. Columns that are not named, and the word DEFAULT, take the column's default.
*/

use super::assign::{self, Writer};
use super::conflict::{self, Conflict};
use super::context::{Context, Transacted, fold, table_name};
use super::{ddl, literal, query, returning};
use crate::error::{Result, SqlError, no_such_column, state};
use crate::session::{Done, Inner, Outcome};
use arrow::array::RecordBatch;
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{
    self, CastKind, ExactNumberInfo, Insert, OnInsert, Query, SelectItem, SetExpr, TableObject, TimezoneInfo,
};
use omendb_engine::ErrorKind;
use omendb_engine::db::{Expectation, WriteKind};
use omendb_engine::types::{ColumnDef, ColumnType, TableDef};
use std::sync::Arc;

/// An INSERT, bound.
struct Bound<'a> {
    table: Arc<TableDef>,
    /// Places of the columns that the source gives, in its order.
    columns: Vec<usize>,
    /// None for DEFAULT VALUES.
    query: Option<&'a Query>,
    alias: Option<String>,
}

/// Runs an INSERT of plain literals without DataFusion. `None` when it takes the long way, which knows all errors.
pub(crate) fn quick(session: &Inner, insert: &Insert, params: &[ScalarValue]) -> Result<Option<Outcome>> {
    let TableObject::TableName(name) = &insert.table else { return Ok(None) };
    let Ok(name) = table_name(name) else { return Ok(None) };
    if insert.on.is_some() || insert.returning.is_some() || refuse_the_rest(insert).is_err() {
        return Ok(None);
    }
    let mut transaction = session.database.engine.begin()?;
    let snapshot = transaction.snapshot();
    let Some(table) = snapshot.table(&name)? else { return Ok(None) };
    let Ok(Bound { table, columns, query: Some(query), .. }) = bind_to(table, insert) else { return Ok(None) };
    let Some(arrays) = literal::rows(&table, &columns, query, params)? else { return Ok(None) };
    let writer = Writer::new(table.clone())?;
    let batch = writer.batch(&arrays)?;
    let written = transaction
        .write(&table, WriteKind::Put, writer.columns(), &batch, Expectation::Absent)
        .and_then(|()| transaction.commit());
    match written {
        Ok(_) => Ok(Some(Done::rows("INSERT 0", u64::try_from(batch.num_rows()).unwrap_or(u64::MAX)))),
        Err(e) if e.kind() == ErrorKind::WriteConflict => Ok(None),
        Err(e) => Err(assign::engine_error(&snapshot, e)),
    }
}

/// Runs an INSERT.
pub(crate) fn run(t: &mut Transacted, insert: &Insert) -> Result<Outcome> {
    let bound = bind(&t.context, insert)?;
    let mut conflict = match &insert.on {
        None => None,
        Some(OnInsert::OnConflict(on)) => Some(conflict::bind(&t.context, &bound.table, bound.alias.as_deref(), on)?),
        Some(_) => {
            return Err(SqlError::unsupported("ON DUPLICATE KEY is not supported")
                .with_hint("Use ON CONFLICT (…) DO UPDATE SET …"));
        }
    };
    let mut returned = Vec::new();
    let keeps = insert.returning.is_some();
    let mut rows = 0;
    let writer = Writer::new(bound.table.clone())?;
    let mut apply = |t: &mut Transacted, batch: &RecordBatch| -> Result<()> {
        let written = put(t, &writer, &bound.table, batch, conflict.as_mut())?;
        rows += u64::try_from(written.num_rows()).unwrap_or(0);
        if keeps {
            returned.push(written);
        }
        Ok(())
    };
    let plan = source(&t.context, &bound)?;
    for batch in query::start(t.context.clone(), plan)? {
        apply(t, &writer.batch(batch?.columns())?)?;
    }
    match &insert.returning {
        Some(items) => {
            returning::rows(&t.context, &bound.table, bound.alias.as_deref(), items, &returned).map(Outcome::Rows)
        }
        None => Ok(Done::rows("INSERT 0", rows)),
    }
}

/// Puts rows; gives those that were put.
fn put(
    t: &mut Transacted,
    writer: &Writer,
    table: &TableDef,
    batch: &RecordBatch,
    conflict: Option<&mut Conflict>,
) -> Result<RecordBatch> {
    t.context.running.check()?;
    if let Some(conflict) = conflict {
        return conflict.put(t, writer, batch);
    }
    t.transaction
        .write(table, WriteKind::Put, writer.columns(), batch, Expectation::Absent)
        .map_err(|e| t.context.engine_error(e))?;
    Ok(batch.clone())
}

/// What EXPLAIN shows of an INSERT.
pub(crate) fn explained(context: &Context, insert: &Insert) -> Result<(Arc<TableDef>, LogicalPlan)> {
    let bound = bind(context, insert)?;
    let plan = source(context, &bound)?;
    Ok((bound.table, plan))
}

fn bind<'a>(context: &Context, insert: &'a Insert) -> Result<Bound<'a>> {
    refuse_the_rest(insert)?;
    let TableObject::TableName(name) = &insert.table else {
        return Err(SqlError::unsupported("INSERT into anything but a table is not supported"));
    };
    bind_to(context.table(name)?, insert)
}

fn bind_to(table: Arc<TableDef>, insert: &Insert) -> Result<Bound<'_>> {
    let mut columns = Vec::with_capacity(insert.columns.len());
    for column in &insert.columns {
        let name = match column.0.as_slice() {
            [part] => part.as_ident().map(fold),
            _ => None,
        };
        let name =
            name.ok_or_else(|| SqlError::unsupported(format!("{column} as a target column is not supported")))?;
        let place = table.columns.iter().position(|c| c.name == name);
        let place = place.ok_or_else(|| no_such_column(&name, &table.name))?;
        if columns.contains(&place) {
            return Err(SqlError::new(state::DUPLICATE_COLUMN, format!("column \"{name}\" specified more than once")));
        }
        columns.push(place);
    }
    let query = insert.source.as_deref();
    if let (Some(query), true) = (query, insert.columns.is_empty()) {
        // Without names, the source gives the first columns.
        let width = match query.body.as_ref() {
            SetExpr::Values(values) => values.rows.iter().map(|row| row.len()).max(),
            _ => None,
        };
        columns = (0..width.unwrap_or(usize::MAX).min(table.columns.len())).collect();
    }
    let alias = insert.table_alias.as_ref().map(|alias| fold(&alias.alias));
    let bound = Bound { table, columns, query, alias };
    check_widths(&bound, insert.columns.is_empty())?;
    Ok(bound)
}

/// Every part of the statement that is not handled here.
fn refuse_the_rest(insert: &Insert) -> Result<()> {
    let plain = insert.or.is_none()
        && !insert.ignore
        && !insert.overwrite
        && !insert.replace_into
        && insert.assignments.is_empty()
        && insert.partitioned.is_none()
        && insert.after_columns.is_empty()
        && insert.output.is_none()
        && insert.priority.is_none()
        && insert.insert_alias.is_none()
        && insert.settings.is_none()
        && insert.format_clause.is_none()
        && insert.multi_table_insert_type.is_none()
        && insert.optimizer_hints.is_empty();
    match plain {
        true => Ok(()),
        false => Err(SqlError::unsupported("this form of INSERT is not supported")),
    }
}

fn default_values() -> Result<Query> {
    match super::parse::statement("SELECT 1")? {
        ast::Statement::Query(query) => Ok(*query),
        _ => Err(SqlError::internal("SELECT 1 is not a query")),
    }
}

fn check_widths(bound: &Bound<'_>, all_columns: bool) -> Result<()> {
    let Some(SetExpr::Values(values)) = bound.query.map(|query| query.body.as_ref()) else { return Ok(()) };
    let Some(first) = values.rows.first().map(|row| row.len()) else { return Ok(()) };
    if values.rows.iter().any(|row| row.len() != first) {
        return Err(SqlError::new(state::SYNTAX_ERROR, "VALUES lists must all be the same length"));
    }
    let targets = if all_columns { bound.table.columns.len() } else { bound.columns.len() };
    too_many(first, targets)?;
    match !all_columns && first < targets {
        true => Err(SqlError::new(state::SYNTAX_ERROR, "INSERT has more target columns than expressions")),
        false => Ok(()),
    }
}

fn too_many(expressions: usize, targets: usize) -> Result<()> {
    match expressions > targets {
        true => Err(SqlError::new(state::SYNTAX_ERROR, "INSERT has more expressions than target columns")),
        false => Ok(()),
    }
}

/// The source with literals in the types of their columns, and with defaults where DEFAULT stands.
fn typed(bound: &Bound<'_>) -> Result<Query> {
    let Some(mut query) = bound.query.cloned() else { return default_values() };
    let column = |place: usize| bound.columns.get(place).and_then(|c| bound.table.columns.get(*c));
    match query.body.as_mut() {
        SetExpr::Values(values) => {
            for row in &mut values.rows {
                for (place, cell) in row.content.iter_mut().enumerate() {
                    let Some(column) = column(place) else { continue };
                    if is_default(cell) {
                        *cell = ddl::default_ast(column)?.unwrap_or_else(null);
                    }
                    let plain = std::mem::replace(cell, null());
                    *cell = literal_as(plain, column);
                }
            }
        }
        SetExpr::Select(select) => {
            for (place, item) in select.projection.iter_mut().enumerate() {
                let Some(column) = column(place) else { continue };
                if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                    let plain = std::mem::replace(expr, null());
                    *expr = literal_as(plain, column);
                }
            }
        }
        _ => {}
    }
    Ok(query)
}

fn null() -> ast::Expr {
    ast::Expr::value(ast::Value::Null)
}

/// Whether an expression is the word DEFAULT.
pub(crate) fn is_default(expr: &ast::Expr) -> bool {
    matches!(expr, ast::Expr::Identifier(ident) if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("default"))
}

/// A literal whose type its place decides, cast to the column's type; anything else as it is.
pub(crate) fn literal_as(expr: ast::Expr, column: &ColumnDef) -> ast::Expr {
    let decided_by_place = match &expr {
        ast::Expr::Value(value) => matches!(
            value.value,
            ast::Value::SingleQuotedString(_)
                | ast::Value::EscapedStringLiteral(_)
                | ast::Value::DollarQuotedString(_)
                | ast::Value::Placeholder(_)
                | ast::Value::Null
        ),
        _ => false,
    };
    match (decided_by_place, cast_type(column.ty)) {
        (true, Some(data_type)) => {
            ast::Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
        }
        _ => expr,
    }
}

/// The type to cast a literal to; none for types that text goes into as it is.
fn cast_type(ty: ColumnType) -> Option<ast::DataType> {
    use ast::DataType as T;
    Some(match ty {
        ColumnType::Boolean => T::Boolean,
        ColumnType::Int16 => T::SmallInt(None),
        ColumnType::Int32 => T::Integer(None),
        ColumnType::Int64 => T::BigInt(None),
        ColumnType::Float32 => T::Real,
        ColumnType::Float64 => T::DoublePrecision,
        ColumnType::Decimal { precision, scale } => {
            T::Numeric(ExactNumberInfo::PrecisionAndScale(precision.into(), scale.into()))
        }
        ColumnType::Bytes => T::Bytea,
        ColumnType::Date => T::Date,
        ColumnType::Time => T::Time(None, TimezoneInfo::None),
        ColumnType::Timestamp => T::Timestamp(None, TimezoneInfo::None),
        ColumnType::TimestampTz => T::Timestamp(None, TimezoneInfo::WithTimeZone),
        ColumnType::Interval => T::Interval { fields: None, precision: None },
        _ => return None,
    })
}

/// The source's plan, giving all declared columns in their types.
fn source(context: &Context, bound: &Bound<'_>) -> Result<LogicalPlan> {
    let plan = context.plan(&typed(bound)?)?;
    let given = match bound.query {
        None => 0,
        Some(_) => plan.schema().fields().len(),
    };
    too_many(given, bound.columns.len())?;
    let all_columns = bound.columns.iter().copied().eq(0..bound.columns.len());
    if given < bound.columns.len() && !all_columns {
        return Err(SqlError::new(state::SYNTAX_ERROR, "INSERT has more target columns than expressions"));
    }
    let mut exprs = Vec::with_capacity(bound.table.columns.len());
    for (place, column) in bound.table.columns.iter().enumerate() {
        let from = bound.columns.iter().take(given).position(|c| *c == place);
        let expr = match from.and_then(|from| plan.schema().iter().nth(from)) {
            Some((qualifier, field)) => {
                let source = Expr::Column(Column::from((qualifier, field.as_ref())));
                assign::cast(source, field, column)?
            }
            None => ddl::default_of(context, column)?,
        };
        exprs.push(expr.alias(format!("c{place}")));
    }
    Ok(LogicalPlanBuilder::from(plan).project(exprs)?.build()?)
}
