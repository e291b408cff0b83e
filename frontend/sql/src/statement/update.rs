/*!
UPDATE and DELETE: planned as queries over the target that yield its rows with what they become, then applied with the
expectation that each row is the one that was read.

The target stands in the query with its hidden row id and the number of the commit that wrote each row
([`super::context::TARGET_SCHEMA`]). UPDATE … FROM and DELETE … USING may find a row several times; the first counts, as
PostgreSQL leaves it open which.

A row whose key changes is deleted under the old key and put under the new one, which must be free.
*/

use super::assign::{self, Writer};
use super::context::{Context, TARGET_SCHEMA, Transacted, fold};
use super::{ddl, insert, query, returning};
use crate::error::{Result, SqlError, no_such_column, state};
use crate::provider::{ROW_ID_COLUMN, SEQ_COLUMN, filter};
use crate::session::{Done, Outcome};
use crate::types::to_engine;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int64Type;
use datafusion::common::Column;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{
    self, AssignmentTarget, Delete, FromTable, Ident, ObjectName, ObjectNamePart, Query, SelectItem, SetExpr,
    TableAlias, TableFactor, TableWithJoins, Update, UpdateTableFromKind,
};
use omendb_engine::column::value_at;
use omendb_engine::db::{Expectation, ScanRequest, WriteKind};
use omendb_engine::key::{KeyRange, KeySchema};
use omendb_engine::types::{ColumnDef, ColumnId, ColumnType, Seq, TableDef};
use std::collections::HashSet;
use std::sync::Arc;

/// Rows that a DELETE of whole ranges of keys has at least, to be one entry in the log: that sets the table's memtable aside.
const RANGE_ROWS_MIN: u64 = 10_000;

/// Ranges of one DELETE; with more, its rows go one by one.
const RANGES_MAX: usize = 16;

/// A target of UPDATE or DELETE, as it stands in the statement.
struct Target {
    table: Arc<TableDef>,
    /// The name by which the statement's expressions mean it.
    name: Ident,
    alias: Option<String>,
}

impl Target {
    fn bind(context: &Context, relation: &TableWithJoins) -> Result<Target> {
        let refused = || SqlError::unsupported("the target of UPDATE and DELETE is one table");
        if !relation.joins.is_empty() {
            return Err(refused());
        }
        let TableFactor::Table { name, alias, args: None, version: None, sample: None, .. } = &relation.relation else {
            return Err(refused());
        };
        let table = context.table(name)?;
        let alias = match alias {
            Some(alias) if !alias.columns.is_empty() => return Err(refused()),
            alias => alias.as_ref().map(|alias| alias.name.clone()),
        };
        let name = alias.clone().unwrap_or_else(|| Ident::with_quote('"', table.name.clone()));
        Ok(Target { table, name, alias: alias.as_ref().map(fold) })
    }

    /// The target in a FROM clause, with what a write must know of its rows.
    fn relation(&self) -> Result<TableWithJoins> {
        let mut relation = from_of(&format!("SELECT 1 FROM \"{TARGET_SCHEMA}\".\"t\" AS \"t\""))?;
        if let TableFactor::Table { name, alias: Some(TableAlias { name: alias, .. }), .. } = &mut relation.relation {
            let part = |text: &str| ObjectNamePart::Identifier(Ident::with_quote('"', text));
            *name = ObjectName(vec![part(TARGET_SCHEMA), part(&self.table.name)]);
            *alias = self.name.clone();
        }
        Ok(relation)
    }

    /// One of its columns.
    fn column(&self, name: &str) -> ast::Expr {
        ast::Expr::CompoundIdentifier(vec![self.name.clone(), Ident::with_quote('"', name)])
    }

    /// The query: its declared columns, the hidden row id if it has one, its sequence number, and then `more`.
    fn query(&self, others: &[TableWithJoins], selection: Option<&ast::Expr>, more: Vec<ast::Expr>) -> Result<Query> {
        let mut query = query_of("SELECT 1 FROM t")?;
        let SetExpr::Select(select) = query.body.as_mut() else {
            return Err(SqlError::internal("a SELECT became something else"));
        };
        let mut items: Vec<ast::Expr> = self.table.columns.iter().map(|c| self.column(&c.name)).collect();
        if self.table.has_hidden_key() {
            items.push(self.column(ROW_ID_COLUMN));
        }
        items.push(self.column(SEQ_COLUMN));
        items.extend(more);
        let named = |(at, expr)| SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', format!("c{at}")) };
        select.projection = items.into_iter().enumerate().map(named).collect();
        select.from = std::iter::once(self.relation()?).chain(others.iter().cloned()).collect();
        select.selection = selection.cloned();
        Ok(query)
    }

    /// How many columns of the query belong to the row as it is.
    fn width(&self) -> usize {
        self.table.columns.len() + usize::from(self.table.has_hidden_key()) + 1
    }
}

fn query_of(sql: &str) -> Result<Query> {
    match super::parse::statement(sql)? {
        ast::Statement::Query(query) => Ok(*query),
        _ => Err(SqlError::internal(format!("not a query: {sql}"))),
    }
}

fn from_of(sql: &str) -> Result<TableWithJoins> {
    match *query_of(sql)?.body {
        SetExpr::Select(select) => {
            select.from.into_iter().next().ok_or_else(|| SqlError::internal("a FROM clause went missing"))
        }
        _ => Err(SqlError::internal("a FROM clause went missing")),
    }
}

/// Runs an UPDATE.
pub(crate) fn update(t: &mut Transacted, update: &Update) -> Result<Outcome> {
    let (target, plan) = plan_update(&t.context, update)?;
    let rows = query::start(t.context.clone(), plan)?;
    let mut changes = Changes::new(&target, update.from.is_some())?;
    let writer = Writer::new(target.table.clone())?;
    let mut returned = Vec::new();
    let mut count = 0_u64;
    // Rows are put when all deletions of changed keys are in place: `SET id = id + 1` moves rows into each other's places.
    let mut moved: Vec<RecordBatch> = Vec::new();
    for batch in rows {
        t.context.running.check()?;
        let batch = changes.first_of_each_row(&batch?)?;
        let new = writer.batch(batch.columns().get(target.width()..).unwrap_or_default())?;
        count += u64::try_from(new.num_rows()).unwrap_or(0);
        let seqs = seqs(&batch, &target)?;
        let keys_changed = changes.keys_changed(&batch, &new)?;
        apply_in_place(t, &target, &writer, &batch, &new, &seqs, &keys_changed)?;
        if keys_changed.true_count() > 0 {
            let gone = filter_record_batch(&batch, &keys_changed)?;
            delete_rows(t, &target, &gone)?;
            moved.push(filter_record_batch(&new, &keys_changed)?);
        }
        if update.returning.is_some() {
            returned.push(new);
        }
    }
    for batch in &moved {
        t.transaction
            .write(&target.table, WriteKind::Put, writer.columns(), batch, Expectation::Absent)
            .map_err(|e| t.context.engine_error(e))?;
    }
    match &update.returning {
        Some(items) => {
            returning::rows(&t.context, &target.table, target.alias.as_deref(), items, &returned).map(Outcome::Rows)
        }
        None => Ok(Done::rows("UPDATE", count)),
    }
}

/// Puts the rows whose key stays.
fn apply_in_place(
    t: &mut Transacted,
    target: &Target,
    writer: &Writer,
    old: &RecordBatch,
    new: &RecordBatch,
    seqs: &[Seq],
    keys_changed: &BooleanArray,
) -> Result<()> {
    let stays: BooleanArray = keys_changed.iter().map(|changed| changed.map(|c| !c)).collect();
    let kept: Vec<Seq> =
        seqs.iter().zip(stays.iter()).filter(|(_, stays)| *stays == Some(true)).map(|(s, _)| *s).collect();
    if kept.is_empty() {
        return Ok(());
    }
    let mut columns = writer.columns().to_vec();
    let mut arrays = new.columns().to_vec();
    if target.table.has_hidden_key() {
        columns.push(ColumnId::ROW_ID);
        arrays.extend(old.columns().get(target.table.columns.len()).cloned());
    }
    let schema = target.table.projected_schema(&columns)?;
    let batch = filter_record_batch(&RecordBatch::try_new(schema, arrays)?, &stays)?;
    t.transaction
        .write(&target.table, WriteKind::Put, &columns, &batch, Expectation::Unchanged(&kept))
        .map_err(|e| t.context.engine_error(e))
}

/// Deletes rows that were read, given as the query gives them.
fn delete_rows(t: &mut Transacted, target: &Target, batch: &RecordBatch) -> Result<()> {
    let keys = key_columns(&target.table, batch)?;
    let columns: Vec<ColumnId> = target.table.key_columns()?.into_iter().map(|(id, _)| id).collect();
    let schema = target.table.projected_schema(&columns)?;
    let seqs = seqs(batch, target)?;
    t.transaction
        .write(
            &target.table,
            WriteKind::Delete,
            &columns,
            &RecordBatch::try_new(schema, keys)?,
            Expectation::Unchanged(&seqs),
        )
        .map_err(|e| t.context.engine_error(e))
}

/// Runs a DELETE.
pub(crate) fn delete(t: &mut Transacted, delete: &Delete) -> Result<Outcome> {
    let (target, plan) = plan_delete(&t.context, delete)?;
    // A range conflicts with rows that others put into it meanwhile; one by one, rows do not.
    if t.retries == 0
        && let Some(count) = delete_ranges(t, &target, &plan, delete)?
    {
        return Ok(Done::rows("DELETE", count));
    }
    let mut changes = Changes::new(&target, delete.using.is_some())?;
    let mut returned = Vec::new();
    let mut count = 0_u64;
    for batch in query::start(t.context.clone(), plan)? {
        t.context.running.check()?;
        let batch = changes.first_of_each_row(&batch?)?;
        count += u64::try_from(batch.num_rows()).unwrap_or(0);
        delete_rows(t, &target, &batch)?;
        if delete.returning.is_some() {
            let columns = target.table.column_ids();
            let arrays = target.table.columns.iter().zip(batch.columns()).map(|(c, array)| to_engine(array, c.ty));
            let schema = target.table.projected_schema(&columns)?;
            returned.push(RecordBatch::try_new(schema, arrays.collect::<Result<_>>()?)?);
        }
    }
    match &delete.returning {
        Some(items) => {
            returning::rows(&t.context, &target.table, target.alias.as_deref(), items, &returned).map(Outcome::Rows)
        }
        None => Ok(Done::rows("DELETE", count)),
    }
}

/// Deletes whole ranges of keys without reading their rows, where the statement asks for just that and the ranges hold many
/// rows; gives how many, or `None` where rows are to be deleted one by one.
fn delete_ranges(t: &mut Transacted, target: &Target, plan: &LogicalPlan, delete: &Delete) -> Result<Option<u64>> {
    if delete.using.is_some() || delete.returning.is_some() {
        return Ok(None);
    }
    let ranges = match &delete.selection {
        None => vec![KeyRange::all()],
        Some(_) => match scanned_ranges(&t.context.state.optimize(plan)?, &target.table)? {
            Some(ranges) if (1..=RANGES_MAX).contains(&ranges.len()) => ranges,
            _ => return Ok(None),
        },
    };
    let request = ScanRequest { ranges: ranges.clone(), ..ScanRequest::default() };
    let rows = t.context.snapshot.scan(&target.table, request).map_err(|e| t.context.engine_error(e))?;
    let mut count = 0_u64;
    for batch in rows {
        t.context.running.check()?;
        count += u64::try_from(batch.map_err(|e| t.context.engine_error(e))?.num_rows()).unwrap_or(0);
    }
    if count < RANGE_ROWS_MIN {
        return Ok(None);
    }
    for range in &ranges {
        t.transaction.delete_range(&target.table, range).map_err(|e| t.context.engine_error(e))?;
    }
    Ok(Some(count))
}

/// The ranges of keys whose rows a query gives, all of them and no others; `None` where it looks at more than keys.
fn scanned_ranges(plan: &LogicalPlan, table: &TableDef) -> Result<Option<Vec<KeyRange>>> {
    match plan {
        LogicalPlan::Projection(projection) => scanned_ranges(&projection.input, table),
        LogicalPlan::SubqueryAlias(alias) => scanned_ranges(&alias.input, table),
        LogicalPlan::TableScan(scan) if scan.fetch.is_none() => {
            let analysis = filter::analyze(table, &scan.filters.iter().collect::<Vec<_>>())?;
            let by_keys = analysis.filter.is_empty() && analysis.exact.iter().all(|exact| *exact);
            let exact = !analysis.is_empty && by_keys;
            Ok(exact.then_some(analysis.ranges))
        }
        _ => Ok(None),
    }
}

/// What EXPLAIN shows of an UPDATE.
pub(crate) fn explained_update(context: &Context, update: &Update) -> Result<(Arc<TableDef>, LogicalPlan)> {
    plan_update(context, update).map(|(target, plan)| (target.table, plan))
}

/// What EXPLAIN shows of a DELETE.
pub(crate) fn explained_delete(context: &Context, delete: &Delete) -> Result<(Arc<TableDef>, LogicalPlan)> {
    plan_delete(context, delete).map(|(target, plan)| (target.table, plan))
}

fn plan_update(context: &Context, update: &Update) -> Result<(Target, LogicalPlan)> {
    let Update { table, assignments, from, selection, output, or, order_by, limit, optimizer_hints, .. } = update;
    if output.is_some() || or.is_some() || !order_by.is_empty() || limit.is_some() || !optimizer_hints.is_empty() {
        return Err(SqlError::unsupported("this form of UPDATE is not supported"));
    }
    let target = Target::bind(context, table)?;
    let others = match from {
        None => &[][..],
        Some(UpdateTableFromKind::AfterSet(tables)) => tables,
        Some(UpdateTableFromKind::BeforeSet(_)) => {
            return Err(SqlError::new(state::SYNTAX_ERROR, "FROM comes after SET"));
        }
    };
    // The new values that the statement gives, by the place of their column.
    let mut given: Vec<(usize, Option<ast::Expr>)> = Vec::new();
    for assignment in assignments {
        for (name, value) in single_assignments(&assignment.target, &assignment.value)? {
            let place = target.table.columns.iter().position(|c| c.name == name);
            let place = place.ok_or_else(|| no_such_column(&name, &target.table.name))?;
            if given.iter().any(|(other, _)| *other == place) {
                return Err(SqlError::new(
                    state::SYNTAX_ERROR,
                    format!("multiple assignments to same column \"{name}\""),
                ));
            }
            let column = column_at(&target.table, place)?;
            let value = match insert::is_default(&value) {
                true => None,
                false => Some(insert::literal_as(value, column)),
            };
            given.push((place, value));
        }
    }
    let more = given.iter().filter_map(|(_, value)| value.clone()).collect();
    let plan = context.plan(&target.query(others, selection.as_ref(), more)?)?;
    let plan = with_new_values(context, &target, plan, &given)?;
    Ok((target, plan))
}

fn column_at(table: &TableDef, place: usize) -> Result<&ColumnDef> {
    table.columns.get(place).ok_or_else(|| SqlError::internal(format!("table {} without column {place}", table.name)))
}

/// `(a, b) = (1, 2)` taken apart.
fn single_assignments(target: &AssignmentTarget, value: &ast::Expr) -> Result<Vec<(String, ast::Expr)>> {
    match (target, value) {
        (AssignmentTarget::ColumnName(name), value) => Ok(vec![(assigned(name)?, value.clone())]),
        (AssignmentTarget::Tuple(names), ast::Expr::Tuple(values)) if names.len() == values.len() => {
            names.iter().zip(values).map(|(name, value)| Ok((assigned(name)?, value.clone()))).collect()
        }
        (AssignmentTarget::Tuple(names), ast::Expr::Tuple(_)) => Err(SqlError::new(
            state::SYNTAX_ERROR,
            format!("number of columns ({}) does not match number of values", names.len()),
        )),
        (AssignmentTarget::Tuple(_), _) => {
            Err(SqlError::unsupported("assigning a subquery to several columns is not supported"))
        }
    }
}

fn assigned(name: &ObjectName) -> Result<String> {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(ident)] => Ok(fold(ident)),
        _ => Err(SqlError::new(state::SYNTAX_ERROR, format!("{name} cannot be assigned to"))
            .with_hint("Name the column alone, without its table.")),
    }
}

/// The query's row as it is, and behind it all declared columns as they become.
fn with_new_values(
    context: &Context,
    target: &Target,
    plan: LogicalPlan,
    given: &[(usize, Option<ast::Expr>)],
) -> Result<LogicalPlan> {
    let width = target.width();
    let source = |at: usize| {
        let found = plan.schema().iter().nth(at);
        found.ok_or_else(|| SqlError::internal(format!("an UPDATE's query has no column {at}")))
    };
    let mut exprs = Vec::new();
    for at in 0..width {
        let (qualifier, field) = source(at)?;
        exprs.push(Expr::Column(Column::from((qualifier, field.as_ref()))));
    }
    for (place, column) in target.table.columns.iter().enumerate() {
        let new = match given.iter().position(|(given, _)| *given == place) {
            None => {
                let (qualifier, field) = source(place)?;
                Expr::Column(Column::from((qualifier, field.as_ref())))
            }
            Some(at) => {
                let before = given.iter().take(at).filter(|(_, value)| value.is_some()).count();
                match given.get(at) {
                    Some((_, Some(_))) => {
                        let (qualifier, field) = source(width + before)?;
                        assign::cast(Expr::Column(Column::from((qualifier, field.as_ref()))), field, column)?
                    }
                    _ => ddl::default_of(context, column)?,
                }
            }
        };
        exprs.push(new.alias(format!("n{place}")));
    }
    Ok(LogicalPlanBuilder::from(plan).project(exprs)?.build()?)
}

fn plan_delete(context: &Context, delete: &Delete) -> Result<(Target, LogicalPlan)> {
    let Delete { tables, from, using, selection, output, order_by, limit, optimizer_hints, .. } = delete;
    if !tables.is_empty() || output.is_some() || !order_by.is_empty() || limit.is_some() || !optimizer_hints.is_empty()
    {
        return Err(SqlError::unsupported("this form of DELETE is not supported"));
    }
    let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = from;
    let [relation] = from.as_slice() else {
        return Err(SqlError::unsupported("DELETE from several tables is not supported"));
    };
    let target = Target::bind(context, relation)?;
    let others = using.as_deref().unwrap_or_default();
    let plan = context.plan(&target.query(others, selection.as_ref(), Vec::new())?)?;
    Ok((target, plan))
}

/// The sequence numbers of the rows of a target's query.
fn seqs(batch: &RecordBatch, target: &Target) -> Result<Vec<Seq>> {
    let column = batch.columns().get(target.width() - 1).and_then(|array| array.as_primitive_opt::<Int64Type>());
    let column = column.ok_or_else(|| SqlError::internal("a write's query without sequence numbers"))?;
    Ok(column.values().iter().map(|seq| seq.cast_unsigned()).collect())
}

/// The key's columns, as the engine has them, of the rows of a target's query.
fn key_columns(table: &TableDef, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
    let wrong = || SqlError::internal("a write's query without its key");
    let mut out = Vec::new();
    for (id, ty) in table.key_columns()? {
        let place = match id {
            ColumnId::ROW_ID => table.columns.len(),
            id => table.columns.iter().position(|c| c.id == id).ok_or_else(wrong)?,
        };
        out.push(to_engine(batch.columns().get(place).ok_or_else(wrong)?, ty)?);
    }
    Ok(out)
}

/// What must be known across the batches of an UPDATE or DELETE.
struct Changes {
    table: Arc<TableDef>,
    keys: KeySchema,
    types: Vec<ColumnType>,
    /// Keys seen, where a row may be found several times.
    seen: Option<HashSet<Vec<u8>>>,
}

impl Changes {
    fn new(target: &Target, joined: bool) -> Result<Changes> {
        Ok(Changes {
            table: target.table.clone(),
            keys: KeySchema::of(&target.table)?,
            types: target.table.key_columns()?.into_iter().map(|(_, ty)| ty).collect(),
            seen: joined.then(HashSet::new),
        })
    }

    fn encoded(&self, columns: &[ArrayRef], row: usize) -> Result<Vec<u8>> {
        let values: Vec<_> =
            columns.iter().zip(&self.types).map(|(c, ty)| value_at(c, row, *ty)).collect::<Result<_, _>>()?;
        Ok(self.keys.encode_prefix(&values)?)
    }

    /// The batch without rows that were in it, or in one before it, already.
    fn first_of_each_row(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        if self.seen.is_none() {
            return Ok(batch.clone());
        }
        let columns = key_columns(&self.table, batch)?;
        let mut first = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let key = self.encoded(&columns, row)?;
            first.push(self.seen.as_mut().is_none_or(|seen| seen.insert(key)));
        }
        Ok(filter_record_batch(batch, &BooleanArray::from(first))?)
    }

    /// Which rows get another key. Row ids stay.
    fn keys_changed(&self, old: &RecordBatch, new: &RecordBatch) -> Result<BooleanArray> {
        if self.table.has_hidden_key() {
            return Ok(BooleanArray::from(vec![false; old.num_rows()]));
        }
        let before = key_columns(&self.table, old)?;
        let after: Vec<ArrayRef> = self
            .table
            .key
            .iter()
            .filter_map(|id| self.table.columns.iter().position(|c| c.id == *id))
            .filter_map(|place| new.columns().get(place).cloned())
            .collect();
        if before.iter().zip(&after).all(|(a, b)| a.to_data() == b.to_data()) {
            return Ok(BooleanArray::from(vec![false; old.num_rows()]));
        }
        (0..old.num_rows()).map(|row| Ok(Some(self.encoded(&before, row)? != self.encoded(&after, row)?))).collect()
    }
}
