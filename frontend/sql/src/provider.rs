/*!
Tables of the engine as DataFusion sees them.

A [`Table`] is a stored table on one snapshot. What a query asks of it reaches the engine as such:

- filters that say which keys ([`filter`]) become key ranges, and the engine gives exactly those rows (`Exact`);
- comparisons of columns with constants become a filter of the engine, which decodes other columns only for rows that pass (`Exact`); what is
  more than that becomes predicates for zone maps, which leave out slices without a hit (`Inexact`: DataFusion filters what comes);
- aggregates by a prefix of the key are added up by the engine, from slice statistics where they say them ([`aggregate`]);
- where a group by a prefix of the key wants its first or last row, the engine seeks from group to group ([`firsts`]);
- the projection names the columns that are read, the limit how many rows;
- the primary key is declared, so that what it makes distinct is not made so again;
- the ranges are cut into partitions of about as many rows each, and each partition comes in key order, which is
  declared, so that ORDER BY, GROUP BY, merge joins and DISTINCT on the key need no sort; in reverse too.

It is for reading only: DataFusion's hooks for INSERT, UPDATE and DELETE are not used (see [`crate::statement`]).
Row counts are given as estimates, never as exact, since they belong to no snapshot; so no aggregate is answered from them.
*/

pub(crate) mod aggregate;
pub(crate) mod filter;
pub(crate) mod firsts;
mod scan;

pub(crate) use scan::seen_by_datafusion;

use crate::error::{Result, SqlError};
use crate::types::field_of;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Constraint, Constraints, DataFusionError};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::prelude::SessionConfig;
use filter::Analysis;
use omendb_engine::db::Snapshot;
use omendb_engine::key::{KeyRange, KeySchema};
use omendb_engine::types::{ColumnId, TableDef};
use scan::{OmenScan, Request};
use std::sync::Arc;

/// The name under which a target of a write shows its hidden row id.
pub(crate) const ROW_ID_COLUMN: &str = "__omendb_rowid";
/// The name under which a target of a write shows the number of the commit that wrote the row.
pub(crate) const SEQ_COLUMN: &str = "__omendb_seq";

/// Rows below which a scan is not worth a second thread.
const ROWS_PER_PARTITION_MIN: u64 = 16 * 1024;

/// In a session's configuration: tables do not declare their order. DataFusion sometimes loses an order that it relied on
/// (where a filter makes the key equal to an expression) and then refuses its own plan; without an order there is nothing to lose.
#[derive(Debug)]
pub(crate) struct Unordered;

/// A stored table on a snapshot.
#[derive(Debug)]
pub(crate) struct Table {
    snapshot: Snapshot,
    table: Arc<TableDef>,
    /// The columns shown, in the order of the schema.
    columns: Vec<ColumnId>,
    schema: SchemaRef,
    constraints: Constraints,
}

impl Table {
    /// The table with its declared columns.
    pub(crate) fn new(snapshot: Snapshot, table: Arc<TableDef>) -> Result<Table> {
        Table::showing(snapshot, table, Vec::new())
    }

    /// The table as the target of a write: with its hidden row id, if it has one, and its sequence number.
    pub(crate) fn target(snapshot: Snapshot, table: Arc<TableDef>) -> Result<Table> {
        let hidden = table.has_hidden_key().then_some((ColumnId::ROW_ID, ROW_ID_COLUMN));
        Table::showing(snapshot, table, hidden.into_iter().chain([(ColumnId::SEQ, SEQ_COLUMN)]).collect())
    }

    fn showing(snapshot: Snapshot, table: Arc<TableDef>, more: Vec<(ColumnId, &str)>) -> Result<Table> {
        let mut columns = table.column_ids();
        let mut fields: Vec<Field> = table.columns.iter().map(field_of).collect();
        for (id, name) in more {
            columns.push(id);
            fields.push(Field::new(name, DataType::Int64, false));
        }
        let key: Option<Vec<usize>> = table.key.iter().map(|id| columns.iter().position(|c| c == id)).collect();
        let key = key.filter(|key| !key.is_empty()).map(Constraint::PrimaryKey);
        let constraints = Constraints::new_unverified(key.into_iter().collect());
        Ok(Table { snapshot, table, columns, schema: Arc::new(Schema::new(fields)), constraints })
    }

    fn plan(
        &self,
        config: &SessionConfig,
        projection: Option<&[usize]>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let filters: Vec<&Expr> = filters.iter().collect();
        let analysis = filter::analyze(&self.table, &filters)?;
        let all: Vec<usize> = (0..self.columns.len()).collect();
        let projection = projection.unwrap_or(&all);
        let schema: SchemaRef = Arc::new(self.schema.project(projection)?);
        if analysis.is_empty {
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let columns = projection.iter().filter_map(|i| self.columns.get(*i)).copied().collect();
        // A limit is sound only where no row that comes can fail a filter.
        let limit = limit.filter(|_| analysis.exact.iter().all(|exact| *exact));
        let (partitions, rows) = self.partitions(&analysis, config.target_partitions())?;
        let request = Request {
            snapshot: self.snapshot.clone(),
            table: self.table.clone(),
            columns,
            schema,
            partitions,
            rows,
            analysis: Arc::new(analysis),
            ordered: config.get_extension::<Unordered>().is_none(),
            reverse: false,
            limit,
            firsts: None,
        };
        Ok(Arc::new(OmenScan::new(request)?))
    }

    /// The ranges to be read, cut into at most `most` groups in key order, and about how many rows they hold.
    fn partitions(&self, analysis: &Analysis, most: usize) -> Result<(Vec<Vec<KeyRange>>, u64)> {
        let all = [KeyRange::all()];
        let ranges: &[KeyRange] = if analysis.ranges.is_empty() { &all } else { &analysis.ranges };
        if analysis.points {
            return Ok((vec![ranges.to_vec()], u64::try_from(ranges.len()).unwrap_or(u64::MAX)));
        }
        let mut rows = 0_u64;
        for range in ranges {
            rows = rows.saturating_add(self.snapshot.estimate_rows(&self.table, range)?);
        }
        let worth = usize::try_from(rows.div_ceil(ROWS_PER_PARTITION_MIN)).unwrap_or(usize::MAX);
        let parts = most.min(worth).max(1);
        if parts == 1 {
            return Ok((vec![ranges.to_vec()], rows));
        }
        if let [range] = ranges {
            let cut = self.snapshot.split(&self.table, range, parts)?;
            let cut: Vec<_> = cut.into_iter().map(|range| vec![range]).collect();
            return Ok((if cut.is_empty() { vec![vec![range.clone()]] } else { cut }, rows));
        }
        let per_part = ranges.len().div_ceil(parts);
        Ok((ranges.chunks(per_part).map(<[KeyRange]>::to_vec).collect(), rows))
    }
}

#[async_trait]
impl TableProvider for Table {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn constraints(&self) -> Option<&Constraints> {
        Some(&self.constraints)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>, DataFusionError> {
        let analysis = filter::analyze(&self.table, filters)?;
        let of = |(exact, useful): (&bool, &bool)| match (exact, useful) {
            (true, _) => TableProviderFilterPushDown::Exact,
            (false, true) => TableProviderFilterPushDown::Inexact,
            (false, false) => TableProviderFilterPushDown::Unsupported,
        };
        Ok(analysis.exact.iter().zip(&analysis.useful).map(of).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        Ok(self.plan(state.config(), projection.map(Vec::as_slice), filters, limit)?)
    }
}

/// The range of keys that begin with `prefix` and whose next column lies within two bounds.
pub(crate) fn key_range(
    keys: &KeySchema,
    prefix: &[omendb_engine::types::Value],
    lower: std::ops::Bound<&omendb_engine::types::Value>,
    upper: std::ops::Bound<&omendb_engine::types::Value>,
) -> Result<KeyRange> {
    use omendb_engine::key::{Key, successor};
    use std::ops::Bound;
    let start = keys.encode_prefix(prefix)?;
    let with = |value: &omendb_engine::types::Value| -> Result<Vec<u8>> {
        let mut values = prefix.to_vec();
        values.push(value.clone());
        keys.encode_prefix(&values).map_err(SqlError::from)
    };
    let from = |bytes: Vec<u8>| Bound::Included(Key::from(bytes));
    let until = |bytes: Option<Vec<u8>>| bytes.map_or(Bound::Unbounded, |bytes| Bound::Excluded(Key::from(bytes)));
    // A bound on the first bytes of a key: what begins with `v` comes before `successor(v)`.
    let empty = KeyRange { start: Bound::Included(Key::from(vec![0])), end: Bound::Excluded(Key::from(vec![0])) };
    let lower = match lower {
        Bound::Unbounded if start.is_empty() => Bound::Unbounded,
        Bound::Unbounded => from(start.clone()),
        Bound::Included(value) => from(with(value)?),
        Bound::Excluded(value) => match successor(&with(value)?) {
            Some(bytes) => from(bytes),
            None => return Ok(empty),
        },
    };
    let upper = match upper {
        Bound::Unbounded if start.is_empty() => Bound::Unbounded,
        Bound::Unbounded => until(successor(&start)),
        Bound::Included(value) => until(successor(&with(value)?)),
        Bound::Excluded(value) => until(Some(with(value)?)),
    };
    Ok(KeyRange { start: lower, end: upper })
}
