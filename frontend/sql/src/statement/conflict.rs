/*!
INSERT … ON CONFLICT: what becomes of rows whose key is there already.

The key is the only constraint that can be in conflict. Rows that are there are read from the statement's snapshot, and
written with the expectation that they are still the same; when another statement got in between, the whole statement is
run again.
*/

use super::assign::{self, Writer};
use super::context::{Transacted, fold};
use super::{Context, ddl, insert};
use crate::catalog::key_name;
use crate::error::{Result, SqlError, no_such_column, state};
use crate::provider::seen_by_datafusion;
use crate::types::{SqlType, field_of};
use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{filter_record_batch, interleave_record_batch, take_record_batch};
use arrow::datatypes::{Int64Type, Schema};
use datafusion::common::{DFSchema, TableReference};
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::sql::sqlparser::ast::{self, AssignmentTarget, ConflictTarget, OnConflict, OnConflictAction};
use omendb_engine::column::value_at;
use omendb_engine::db::{Expectation, WriteKind};
use omendb_engine::key::{Key, KeySchema};
use omendb_engine::types::{ColumnId, Seq, TableDef};
use std::collections::HashSet;
use std::sync::Arc;

/// The name by which DO UPDATE means the row that was to be inserted.
const EXCLUDED: &str = "excluded";

/// An ON CONFLICT clause, bound.
pub(crate) struct Conflict {
    table: Arc<TableDef>,
    keys: KeySchema,
    action: Action,
    /// Keys that this statement has written.
    written: HashSet<Key>,
}

enum Action {
    Nothing,
    Update {
        /// Expressions over the row that is there and the one that was to be inserted.
        schema: DFSchema,
        /// New values, each for the column at a place, in its type.
        values: Vec<(usize, Expr)>,
        selection: Option<Expr>,
    },
}

/// Binds an ON CONFLICT clause.
pub(crate) fn bind(context: &Context, table: &Arc<TableDef>, alias: Option<&str>, on: &OnConflict) -> Result<Conflict> {
    check_target(table, on)?;
    let action = match &on.action {
        OnConflictAction::DoNothing => Action::Nothing,
        OnConflictAction::DoUpdate(update) => {
            let schema = both_rows(table, alias.unwrap_or(&table.name))?;
            let mut values = Vec::new();
            for assignment in &update.assignments {
                values.push(new_value(context, table, &schema, assignment)?);
            }
            let selection = match &update.selection {
                Some(expr) => Some(context.plan_expr(expr.clone(), &schema)?),
                None => None,
            };
            Action::Update { schema, values, selection }
        }
    };
    Ok(Conflict { table: table.clone(), keys: KeySchema::of(table)?, action, written: HashSet::new() })
}

fn check_target(table: &TableDef, on: &OnConflict) -> Result<()> {
    let no_match = || {
        SqlError::new(
            state::INVALID_COLUMN_REFERENCE,
            "there is no unique or exclusion constraint matching the ON CONFLICT specification",
        )
    };
    match &on.conflict_target {
        None => match on.action {
            OnConflictAction::DoNothing => Ok(()),
            OnConflictAction::DoUpdate(_) => Err(SqlError::new(
                state::SYNTAX_ERROR,
                "ON CONFLICT DO UPDATE requires inference specification or constraint name",
            )
            .with_hint("For example, ON CONFLICT (column_name).")),
        },
        Some(ConflictTarget::Columns(columns)) => {
            let mut named: Vec<String> = columns.iter().map(fold).collect();
            if let Some(missing) = named.iter().find(|name| table.column(name).is_none()) {
                return Err(no_such_column(missing, &table.name));
            }
            let mut key: Vec<String> =
                table.key.iter().filter_map(|id| table.column_by_id(*id)).map(|c| c.name.clone()).collect();
            named.sort_unstable();
            named.dedup();
            key.sort_unstable();
            if named == key && !key.is_empty() { Ok(()) } else { Err(no_match()) }
        }
        Some(ConflictTarget::OnConstraint(name)) => match super::context::table_name(name)? == key_name(table) {
            true if !table.has_hidden_key() => Ok(()),
            _ => Err(SqlError::new(
                state::UNDEFINED_OBJECT,
                format!("constraint \"{name}\" for table \"{}\" does not exist", table.name),
            )),
        },
    }
}

/// The columns of the row that is there, under the table's name, and of the one that was to be inserted.
fn both_rows(table: &TableDef, name: &str) -> Result<DFSchema> {
    let fields = |qualifier: &str| {
        let qualifier = TableReference::bare(qualifier);
        table.columns.iter().map(move |c| (Some(qualifier.clone()), Arc::new(field_of(c)))).collect::<Vec<_>>()
    };
    let all = fields(name).into_iter().chain(fields(EXCLUDED)).collect();
    Ok(DFSchema::new_with_metadata(all, Default::default())?)
}

fn new_value(
    context: &Context,
    table: &TableDef,
    schema: &DFSchema,
    assignment: &ast::Assignment,
) -> Result<(usize, Expr)> {
    let AssignmentTarget::ColumnName(name) = &assignment.target else {
        return Err(SqlError::unsupported("assigning to several columns at once in DO UPDATE is not supported"));
    };
    let name = match name.0.as_slice() {
        [ast::ObjectNamePart::Identifier(ident)] => fold(ident),
        _ => return Err(SqlError::new(state::SYNTAX_ERROR, format!("{name} cannot be assigned to"))),
    };
    let found = table.columns.iter().enumerate().find(|(_, c)| c.name == name);
    let (place, column) = found.ok_or_else(|| no_such_column(&name, &table.name))?;
    if table.key.contains(&column.id) {
        return Err(SqlError::unsupported(format!("DO UPDATE cannot change the key column \"{name}\"")));
    }
    let expr = match insert::is_default(&assignment.value) {
        true => ddl::default_of(context, column)?,
        false => {
            let planned = context.plan_expr(insert::literal_as(assignment.value.clone(), column), schema)?;
            let (_, field) = planned.to_field(schema)?;
            assign::cast(planned, &field, column)?
        }
    };
    Ok((place, expr))
}

impl Conflict {
    /// Puts rows; gives those that were put, as they are now.
    pub(crate) fn put(&mut self, t: &mut Transacted, writer: &Writer, batch: &RecordBatch) -> Result<RecordBatch> {
        t.retries_duplicates = true;
        let keys = match self.table.has_hidden_key() {
            true => Vec::new(),
            false => self.keys_of(batch)?,
        };
        if keys.is_empty() {
            self.write(t, writer, batch, Expectation::Absent)?;
            return Ok(batch.clone());
        }
        let there = self.rows_there(t, &keys)?;
        let mut new = Vec::new();
        let mut in_conflict = Vec::new();
        for (row, key) in keys.iter().enumerate() {
            let place = there.place_of(row);
            match (self.written.contains(key), place) {
                (true, _) => match self.action {
                    Action::Nothing => {}
                    Action::Update { .. } => {
                        return Err(SqlError::new(
                            state::CARDINALITY_VIOLATION,
                            "ON CONFLICT DO UPDATE command cannot affect row a second time",
                        )
                        .with_hint("Ensure that no rows proposed for insertion have duplicate constrained values."));
                    }
                },
                (false, None) => new.push(u32::try_from(row).unwrap_or(u32::MAX)),
                (false, Some(place)) => in_conflict.push((u32::try_from(row).unwrap_or(u32::MAX), place)),
            }
            if place.is_none() || matches!(self.action, Action::Update { .. }) {
                self.written.insert(key.clone());
            }
        }
        let inserted = take_record_batch(batch, &UInt32Array::from(new))?;
        self.write(t, writer, &inserted, Expectation::Absent)?;
        let updated = self.update(t, writer, batch, &there, &in_conflict)?;
        match updated {
            Some(updated) => {
                let batches = [&inserted, &updated];
                let order: Vec<(usize, usize)> = batches
                    .iter()
                    .enumerate()
                    .flat_map(|(b, batch)| (0..batch.num_rows()).map(move |r| (b, r)))
                    .collect();
                Ok(interleave_record_batch(&batches, &order)?)
            }
            None => Ok(inserted),
        }
    }

    fn write(&self, t: &mut Transacted, writer: &Writer, batch: &RecordBatch, expected: Expectation<'_>) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        t.transaction
            .write(&self.table, WriteKind::Put, writer.columns(), batch, expected)
            .map_err(|e| t.context.engine_error(e))
    }

    fn keys_of(&self, batch: &RecordBatch) -> Result<Vec<Key>> {
        let mut columns: Vec<(&ArrayRef, _)> = Vec::new();
        for (id, ty) in self.table.key_columns()? {
            let place = self.table.columns.iter().position(|c| c.id == id);
            let array = place.and_then(|place| batch.columns().get(place));
            columns.push((array.ok_or_else(|| SqlError::internal("a row without its key"))?, ty));
        }
        (0..batch.num_rows())
            .map(|row| {
                let values = columns.iter().map(|(c, ty)| value_at(c, row, *ty)).collect::<Result<Vec<_>, _>>()?;
                Ok(self.keys.encode(&values)?)
            })
            .collect()
    }

    fn rows_there(&self, t: &Transacted, keys: &[Key]) -> Result<There> {
        let mut columns = self.table.column_ids();
        columns.push(ColumnId::SEQ);
        let (rows, which) = t.context.snapshot.multi_get(&self.table, keys, &columns)?;
        let mut places = vec![None; keys.len()];
        for (place, key) in which.iter().enumerate() {
            if let Some(slot) = places.get_mut(usize::try_from(*key).unwrap_or(usize::MAX)) {
                *slot = Some(u32::try_from(place).unwrap_or(u32::MAX));
            }
        }
        Ok(There { rows, places })
    }

    /// DO UPDATE of rows that are in conflict: pairs of a row of the batch and one that is there.
    fn update(
        &self,
        t: &mut Transacted,
        writer: &Writer,
        batch: &RecordBatch,
        there: &There,
        pairs: &[(u32, u32)],
    ) -> Result<Option<RecordBatch>> {
        let Action::Update { schema, values, selection } = &self.action else { return Ok(None) };
        if pairs.is_empty() {
            return Ok(None);
        }
        let excluded = take_record_batch(batch, &pairs.iter().map(|p| p.0).collect::<UInt32Array>())?;
        let old = take_record_batch(&there.rows, &pairs.iter().map(|p| p.1).collect::<UInt32Array>())?;
        let mut both = self.seen(&old, &excluded)?;
        let mut seqs = seqs(&old)?;
        if let Some(selection) = selection {
            let keep = t.context.evaluate(selection.clone(), schema, &both)?;
            let keep: BooleanArray = keep
                .as_boolean_opt()
                .ok_or_else(|| SqlError::new(state::DATATYPE_MISMATCH, "argument of WHERE must be type boolean"))?
                .iter()
                .map(|keep| Some(keep == Some(true)))
                .collect();
            both = filter_record_batch(&both, &keep)?;
            seqs = seqs.into_iter().zip(keep.iter()).filter(|(_, keep)| *keep == Some(true)).map(|(s, _)| s).collect();
        }
        let width = self.table.columns.len();
        let mut arrays: Vec<ArrayRef> = both.columns().iter().take(width).cloned().collect();
        for (place, expr) in values {
            let array = t.context.evaluate(expr.clone(), schema, &both)?;
            if let (Some(slot), Some(column)) = (arrays.get_mut(*place), self.table.columns.get(*place)) {
                *slot = arrow::compute::cast(&array, &SqlType::of_column(column).arrow())?;
            }
        }
        let updated = writer.batch(&arrays)?;
        self.write(t, writer, &updated, Expectation::Unchanged(&seqs))?;
        Ok(Some(updated))
    }

    /// Both rows side by side, as DataFusion sees them.
    fn seen(&self, old: &RecordBatch, excluded: &RecordBatch) -> Result<RecordBatch> {
        let width = self.table.columns.len();
        let types: Vec<_> = self.table.columns.iter().chain(&self.table.columns).map(|c| c.ty).collect();
        let fields: Vec<_> = self.table.columns.iter().chain(&self.table.columns).map(field_of).collect();
        let arrays: Vec<_> = old.columns().iter().take(width).chain(excluded.columns()).cloned().collect();
        let raw: Vec<_> =
            arrays.iter().zip(&fields).map(|(a, f)| f.clone().with_data_type(a.data_type().clone())).collect();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(raw)), arrays)?;
        seen_by_datafusion(&batch, &Arc::new(Schema::new(fields)), &types)
    }
}

/// Rows that are there, with their sequence numbers behind them, and for each row of a batch the place of its like.
struct There {
    rows: RecordBatch,
    places: Vec<Option<u32>>,
}

impl There {
    fn place_of(&self, row: usize) -> Option<u32> {
        self.places.get(row).copied().flatten()
    }
}

fn seqs(rows: &RecordBatch) -> Result<Vec<Seq>> {
    let last = rows.columns().last().and_then(|array| array.as_primitive_opt::<Int64Type>());
    let last = last.ok_or_else(|| SqlError::internal("rows without sequence numbers"))?;
    Ok(last.values().iter().map(|seq| seq.cast_unsigned()).collect())
}
