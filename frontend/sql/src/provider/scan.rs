/*!
The plan node that reads a stored table.

Each partition is a group of key ranges, read in key order or in reverse. The engine's calls may block, so a partition is
scanned on one of the runtime's blocking threads and its batches come through a short channel; when the reader goes
away, the scan stops at its next batch. A few single keys are read where they are asked for.
*/

use super::filter::{self, Analysis};
use crate::error::{Result, SqlError};
use crate::types::from_engine;
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{ConstExpr, EquivalenceProperties, Partitioning, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::{RecordBatchReceiverStreamBuilder, RecordBatchStreamAdapter};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, SortOrderPushdownResult};
use omendb_engine::db::{Firsts, Scan, ScanMetrics, ScanRequest, Snapshot};
use omendb_engine::key::KeyRange;
use omendb_engine::types::{ColumnId, ColumnType, TableDef};
use std::fmt;
use std::sync::Arc;

/// Batches of one partition that may wait for their reader.
const BATCHES_WAITING_MAX: usize = 2;

/// Single keys that are read where they are asked for, without a thread of their own.
const KEYS_INLINE_MAX: usize = 16;

/// Rows that a filter is taken to let through, as DataFusion takes it of filters of its own.
const FILTERED_PERCENT: usize = 20;

/// What to read.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) snapshot: Snapshot,
    pub(super) table: Arc<TableDef>,
    /// The columns, in the order of `schema`.
    pub(super) columns: Vec<ColumnId>,
    /// What DataFusion sees of them.
    pub(super) schema: SchemaRef,
    /// Key ranges, in key order from partition to partition.
    pub(super) partitions: Vec<Vec<KeyRange>>,
    /// About how many rows they hold.
    pub(super) rows: u64,
    pub(super) analysis: Arc<Analysis>,
    /// Whether the order of the rows is declared.
    pub(super) ordered: bool,
    /// From the last key to the first.
    pub(super) reverse: bool,
    /// Rows of each partition that are wanted.
    pub(super) limit: Option<usize>,
    /// Of the rows with the same values of so many first columns of the key, only the one that comes first.
    pub(super) firsts: Option<usize>,
}

/// Reads a stored table.
#[derive(Debug)]
pub(crate) struct OmenScan {
    request: Request,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl OmenScan {
    pub(super) fn new(request: Request) -> Result<OmenScan> {
        let properties = PlanProperties::new(
            request.equivalences()?,
            Partitioning::UnknownPartitioning(request.partitions.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(OmenScan { request, properties: Arc::new(properties), metrics: ExecutionPlanMetricsSet::new() })
    }

    /// What it reads.
    pub(super) fn request(&self) -> &Request {
        &self.request
    }

    pub(super) fn changed(&self, change: impl FnOnce(&mut Request)) -> Result<Arc<dyn ExecutionPlan>> {
        let mut request = self.request.clone();
        change(&mut request);
        Ok(Arc::new(OmenScan::new(request)?))
    }
}

impl Request {
    /// Where a column of the table is in the schema.
    fn column(&self, id: ColumnId) -> Option<Arc<dyn PhysicalExpr>> {
        let index = self.columns.iter().position(|c| *c == id)?;
        let name = self.schema.fields().get(index)?.name();
        Some(Arc::new(Column::new(name, index)))
    }

    /// The order that rows come in: by the key's columns, as far as they are read, without those that have one value.
    fn ordering(&self) -> Vec<PhysicalSortExpr> {
        let options = SortOptions { descending: self.reverse, nulls_first: self.reverse };
        let mut ordering = Vec::new();
        if !self.ordered {
            return ordering;
        }
        for id in &self.table.key {
            if self.analysis.constants.contains(id) {
                continue;
            }
            let orderable = self.table.column_by_id(*id).is_some_and(|c| c.ty != ColumnType::Interval);
            match self.column(*id).filter(|_| orderable) {
                Some(expr) => ordering.push(PhysicalSortExpr { expr, options }),
                None => break,
            }
        }
        ordering
    }

    fn equivalences(&self) -> Result<EquivalenceProperties> {
        let ordering = self.ordering();
        let orderings = (!ordering.is_empty()).then_some(ordering);
        let mut properties = EquivalenceProperties::new_with_orderings(self.schema.clone(), orderings);
        let constants = self.analysis.constants.iter().filter_map(|id| self.column(*id)).map(ConstExpr::from);
        properties.add_constants(constants.collect::<Vec<_>>())?;
        Ok(properties)
    }

    /// Whether rows come in this order when they are read from the last to the first; `None` for neither direction.
    fn direction_of(&self, order: &[PhysicalSortExpr]) -> Option<bool> {
        if !self.ordered {
            return None;
        }
        let descending = order.first()?.options.descending;
        let is_constant = |sort: &&PhysicalSortExpr| {
            self.analysis.constants.iter().filter_map(|id| self.column(*id)).any(|c| c.as_ref() == sort.expr.as_ref())
        };
        let wanted: Vec<_> = order.iter().filter(|sort| !is_constant(sort)).collect();
        let descending = wanted.first().map_or(descending, |sort| sort.options.descending);
        let own = self.ordering();
        // Key columns are never NULL, so where NULLs go makes no difference.
        let same = |(wanted, own): (&&PhysicalSortExpr, &PhysicalSortExpr)| {
            wanted.expr.as_ref() == own.expr.as_ref() && wanted.options.descending == descending
        };
        (wanted.len() <= own.len() && wanted.iter().zip(&own).all(same)).then_some(descending)
    }

    fn open(&self, partition: usize) -> Result<Reader> {
        let ranges = self.partitions.get(partition).cloned();
        let ranges = ranges.ok_or_else(|| SqlError::internal(format!("a scan without partition {partition}")))?;
        let request = ScanRequest {
            ranges,
            projection: self.columns.clone(),
            // Where first rows are sought, all is exact: these say nothing that ranges and filter don't.
            predicates: if self.firsts.is_some() { Vec::new() } else { self.analysis.predicates.clone() },
            filter: self.analysis.filter.clone(),
            reverse: self.reverse,
            limit: self.limit,
        };
        let rows = match self.firsts {
            Some(columns) => Rows::Firsts(Box::new(self.snapshot.firsts(&self.table, request, columns)?)),
            None => Rows::All(Box::new(self.snapshot.scan(&self.table, request)?)),
        };
        let types = self.columns.iter().map(|id| type_of(&self.table, *id)).collect();
        Ok(Reader { rows, schema: self.schema.clone(), types, left: self.limit })
    }
}

pub(super) fn type_of(table: &TableDef, id: ColumnId) -> ColumnType {
    table.column_by_id(id).map_or(ColumnType::Int64, |c| c.ty)
}

/// What the engine reads.
enum Rows {
    All(Box<Scan>),
    Firsts(Box<Firsts>),
}

impl Rows {
    fn next(&mut self) -> Option<omendb_engine::Result<RecordBatch>> {
        match self {
            Rows::All(scan) => scan.next(),
            Rows::Firsts(firsts) => firsts.next(),
        }
    }

    fn metrics(&self) -> ScanMetrics {
        match self {
            Rows::All(scan) => scan.metrics(),
            Rows::Firsts(firsts) => firsts.metrics(),
        }
    }
}

/// Batches of the engine, as DataFusion sees them.
struct Reader {
    rows: Rows,
    schema: SchemaRef,
    types: Vec<ColumnType>,
    left: Option<usize>,
}

impl Iterator for Reader {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == Some(0) {
            return None;
        }
        let batch = match self.rows.next()? {
            Ok(batch) => seen_by_datafusion(&batch, &self.schema, &self.types),
            Err(e) => Err(e.into()),
        };
        Some(batch.map(|batch| match &mut self.left {
            Some(left) => {
                let batch = batch.slice(0, batch.num_rows().min(*left));
                *left -= batch.num_rows();
                batch
            }
            None => batch,
        }))
    }
}

/// A batch of the engine with the schema that DataFusion sees; `types` are the engine's.
pub(crate) fn seen_by_datafusion(batch: &RecordBatch, schema: &SchemaRef, types: &[ColumnType]) -> Result<RecordBatch> {
    let columns: Vec<ArrayRef> =
        batch.columns().iter().zip(types).map(|(array, ty)| from_engine(array, *ty)).collect::<Result<_>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

/// What EXPLAIN ANALYZE shows of a partition.
struct Counts {
    rows: Count,
    slices_read: Count,
    slices_pruned: Count,
    bytes: Count,
    before: ScanMetrics,
}

impl Counts {
    fn new(metrics: &ExecutionPlanMetricsSet, partition: usize) -> Counts {
        Counts {
            rows: MetricBuilder::new(metrics).output_rows(partition),
            slices_read: MetricBuilder::new(metrics).counter("slices_read", partition),
            slices_pruned: MetricBuilder::new(metrics).counter("slices_pruned", partition),
            bytes: MetricBuilder::new(metrics).counter("bytes_read", partition),
            before: ScanMetrics::default(),
        }
    }

    fn add(&mut self, rows: usize, now: ScanMetrics) {
        let count = |counter: &Count, now: u64, before: u64| {
            counter.add(usize::try_from(now.saturating_sub(before)).unwrap_or(usize::MAX));
        };
        self.rows.add(rows);
        count(&self.slices_read, now.slices_read, self.before.slices_read);
        count(&self.slices_pruned, now.slices_pruned, self.before.slices_pruned);
        count(&self.bytes, now.bytes_read, self.before.bytes_read);
        self.before = now;
    }
}

impl DisplayAs for OmenScan {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Request { table, analysis, schema, partitions, .. } = &self.request;
        write!(f, "OmenScan: table={}", table.name)?;
        if !analysis.ranges.is_empty() {
            let kind = if analysis.points { "point" } else { "range" };
            write!(f, ", key=[{kind} {}] | ranges={}", analysis.description, analysis.ranges.len())?;
        }
        let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, ", projection=[{}]", columns.join(", "))?;
        if !analysis.filter.is_empty() {
            write!(f, ", filter=[{}]", filter::describe(table, &analysis.filter))?;
        }
        if !analysis.predicates.is_empty() {
            write!(f, ", pruning=[{}]", filter::describe(table, &analysis.predicates))?;
        }
        if self.request.reverse {
            write!(f, ", reverse")?;
        }
        if let Some(columns) = self.request.firsts {
            let name = |id: &ColumnId| table.column_by_id(*id).map_or("", |column| column.name.as_str());
            let names: Vec<&str> = table.key.iter().take(columns).map(name).collect();
            write!(f, ", first_of=[{}]", names.join(", "))?;
        }
        if let Some(limit) = self.request.limit {
            write!(f, ", limit={limit}")?;
        }
        if partitions.len() > 1 {
            write!(f, ", partitions={}", partitions.len())?;
        }
        Ok(())
    }
}

impl ExecutionPlan for OmenScan {
    fn name(&self) -> &'static str {
        "OmenScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn replace_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        Ok(self)
    }

    fn with_new_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        Ok(self)
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion, DataFusionError>,
    ) -> Result<TreeNodeRecursion, DataFusionError> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(
        &self,
        partition: usize,
        _context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream, DataFusionError> {
        let request = self.request.clone();
        let schema = request.schema.clone();
        let mut counts = Counts::new(&self.metrics, partition);
        if request.analysis.points && request.partitions.get(partition).is_some_and(|p| p.len() <= KEYS_INLINE_MAX) {
            let mut reader = request.open(partition)?;
            let batches = std::iter::from_fn(move || {
                let batch = reader.next()?.map_err(DataFusionError::from);
                counts.add(batch.as_ref().map_or(0, RecordBatch::num_rows), reader.rows.metrics());
                Some(batch)
            });
            return Ok(Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter(batches))));
        }
        let mut builder = RecordBatchReceiverStreamBuilder::new(schema, BATCHES_WAITING_MAX);
        let sender = builder.tx();
        builder.spawn_blocking(move || {
            let mut reader = request.open(partition)?;
            while !sender.is_closed() {
                let Some(batch) = reader.next() else { break };
                let batch = batch?;
                counts.add(batch.num_rows(), reader.rows.metrics());
                if sender.blocking_send(Ok(batch)).is_err() {
                    break;
                }
            }
            counts.add(0, reader.rows.metrics());
            Ok(())
        });
        Ok(builder.build())
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(
        &self,
        _inputs: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>, DataFusionError> {
        let parts = match args.partition() {
            Some(_) => u64::try_from(self.request.partitions.len()).unwrap_or(1).max(1),
            None => 1,
        };
        let mut rows = usize::try_from(self.request.rows / parts).unwrap_or(usize::MAX);
        if !self.request.analysis.filter.is_empty() {
            rows = rows / 100 * FILTERED_PERCENT;
        }
        rows = self.request.limit.map_or(rows, |limit| rows.min(limit));
        let mut statistics = Statistics::new_unknown(&self.request.schema);
        statistics.num_rows = Precision::Inexact(rows);
        statistics.calculate_total_byte_size(&self.request.schema);
        Ok(Arc::new(statistics))
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        self.changed(|request| request.limit = limit).ok()
    }

    fn fetch(&self) -> Option<usize> {
        self.request.limit
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
    ) -> Result<SortOrderPushdownResult<Arc<dyn ExecutionPlan>>, DataFusionError> {
        // Where rows are chosen by their order, the other direction would give other ones.
        let chosen = self.request.limit.is_some() || self.request.firsts.is_some();
        match self.request.direction_of(order) {
            Some(reverse) if !chosen || reverse == self.request.reverse => {
                let inner = self.changed(|request| {
                    request.reverse = reverse;
                })?;
                Ok(SortOrderPushdownResult::Exact { inner })
            }
            _ => Ok(SortOrderPushdownResult::Unsupported),
        }
    }
}
