/*!
Aggregates that the engine adds up.

`SELECT run_id, count(*), avg(loss) FROM metrics GROUP BY run_id` needs few rows: every slice of a run keeps how many rows and NULLs it has, the
least and greatest values and the sum of each column. The engine answers from them where they say it exactly, and reads rows elsewhere
([`omendb_engine::db::Aggregation`]).

[`SliceAggregates`] is a rule of physical plans. Where an aggregation stands right over a scan of a stored table, it puts an
[`OmenAggregate`] in the place of both: a leaf that gives what DataFusion's partial aggregation would give, group by group in key order, partition by
partition. What was above it, the final aggregation, stays, and so do names, types and errors. The rule applies where

- rows are grouped by nothing, or by columns that with those of one value make a prefix of the key, short of the whole key;
- every aggregate is `count(*)`, or `count`, `min`, `max`, `sum` or `avg` of a column, widened at most, without DISTINCT, FILTER or ORDER BY;
- the scan does all of the filtering, in key order and without a limit.

The order in which doubles are added is not specified, as in PostgreSQL: sums and averages of the same rows may differ in their last digits.
*/

use super::filter;
use super::scan::{OmenScan, Request, type_of};
use crate::error::{Result, SqlError};
use crate::semantics::sum;
use crate::types::from_engine;
use arrow::array::{ArrayRef, AsArray, Decimal128Array, Float64Array, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::datatypes::{DataType, Decimal128Type, Int64Type, SchemaRef};
use datafusion::common::DataFusionError;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column, Literal};
use datafusion::physical_expr::{Partitioning, PhysicalExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::execution_plan::ReplaceChildrenOptions;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use omendb_engine::db::{Aggregate, AggregateMetrics, AggregateRequest};
use omendb_engine::types::{ColumnId, ColumnType};
use std::fmt;
use std::sync::Arc;

/// Batches of one partition that may wait for their reader.
const BATCHES_WAITING_MAX: usize = 2;

/// See the module.
#[derive(Debug)]
pub(crate) struct SliceAggregates;

impl PhysicalOptimizerRule for SliceAggregates {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        in_place_of_aggregations(plan, |_, aggregate| replaced(aggregate))
    }

    fn name(&self) -> &str {
        "slice_aggregates"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Puts into the place of each aggregation what `replace` gives for it, if it gives something.
pub(super) fn in_place_of_aggregations(
    plan: Arc<dyn ExecutionPlan>,
    replace: impl Fn(&Arc<dyn ExecutionPlan>, &AggregateExec) -> Result<Option<Arc<dyn ExecutionPlan>>, DataFusionError>,
) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
    let replaced = |node: Arc<dyn ExecutionPlan>| match node.downcast_ref::<AggregateExec>() {
        Some(aggregate) => Ok(replace(&node, aggregate)?.map_or(Transformed::no(node), Transformed::yes)),
        None => Ok(Transformed::no(node)),
    };
    plan.transform_up(replaced).data()
}

/// What stands for an aggregation and the scan below it; `None` where the rule does not apply.
fn replaced(aggregate: &AggregateExec) -> Result<Option<Arc<dyn ExecutionPlan>>, DataFusionError> {
    let input = without_round_robin(aggregate.input());
    let Some(scan) = input.downcast_ref::<OmenScan>() else { return Ok(None) };
    let single = match aggregate.mode() {
        AggregateMode::Partial => false,
        AggregateMode::Single if scan.request().partitions.len() == 1 => true,
        _ => return Ok(None),
    };
    if aggregate.limit_options().is_some() {
        return Ok(None);
    }
    // As if nothing stood between: what the scan's partitions and their order make of the groups.
    let below = AggregateExec::try_new(
        AggregateMode::Partial,
        aggregate.group_expr().clone(),
        aggregate.aggr_expr().to_vec(),
        aggregate.filter_expr().to_vec(),
        Arc::clone(input),
        aggregate.input_schema(),
    )?;
    let Some(node) = partial(&below, scan) else { return Ok(None) };
    let node: Arc<dyn ExecutionPlan> = Arc::new(node);
    if !single {
        return Ok((node.schema() == aggregate.schema()).then_some(node));
    }
    let above = AggregateExec::try_new(
        AggregateMode::Final,
        aggregate.group_expr().as_final(),
        aggregate.aggr_expr().to_vec(),
        aggregate.filter_expr().to_vec(),
        node,
        aggregate.input_schema(),
    )?;
    Ok((above.schema() == aggregate.schema()).then(|| Arc::new(above) as Arc<dyn ExecutionPlan>))
}

/// What hands rows to more threads than there are partitions goes: groups are few.
pub(super) fn without_round_robin(input: &Arc<dyn ExecutionPlan>) -> &Arc<dyn ExecutionPlan> {
    match input.downcast_ref::<RepartitionExec>() {
        Some(node) if matches!(node.partitioning(), Partitioning::RoundRobinBatch(_)) => node.input(),
        _ => input,
    }
}

/// What stands for a partial aggregation.
fn partial(aggregate: &AggregateExec, scan: &OmenScan) -> Option<OmenAggregate> {
    let request = scan.request();
    let plain = !aggregate.group_expr().has_grouping_set() && aggregate.filter_expr().iter().all(Option::is_none);
    if !plain || request.limit.is_some() || request.reverse || request.firsts.is_some() {
        return None;
    }
    let mut plan = Plan { group_columns: 0, aggregates: Vec::new(), columns: Vec::new() };
    plan.group_by(aggregate, request)?;
    for function in aggregate.aggr_expr() {
        plan.add(function, request)?;
    }
    let schema = aggregate.schema();
    (schema.fields().len() == plan.columns.len()).then(|| OmenAggregate {
        request: request.clone(),
        plan: Arc::new(plan),
        schema,
        properties: Arc::clone(aggregate.properties()),
        metrics: ExecutionPlanMetricsSet::new(),
    })
}

/// What is asked of the engine, and what becomes of its answer.
#[derive(Debug)]
struct Plan {
    group_columns: usize,
    aggregates: Vec<Aggregate>,
    /// The columns that DataFusion sees.
    columns: Vec<Made>,
}

/// How a column that DataFusion sees is made of the engine's.
#[derive(Debug, Clone)]
enum Made {
    /// A column of the group, by its place in the key.
    Key(usize, ColumnType),
    /// The engine's aggregate with this place, as the column has it.
    Same(usize, ColumnType),
    /// The same as an unsigned integer.
    Unsigned(usize),
    /// An exact sum as a decimal of this type.
    Sum(usize, DataType),
    /// A sum as a double.
    Double(usize),
}

impl Plan {
    /// Takes the columns of the group; `None` where they make no prefix of the key, or all of it.
    fn group_by(&mut self, aggregate: &AggregateExec, request: &Request) -> Option<()> {
        let key = &request.table.key;
        let place = |id: ColumnId| key.iter().position(|other| *other == id);
        for (expr, _) in aggregate.group_expr().expr() {
            let id = column_of(expr, request)?;
            let place = place(id)?;
            self.columns.push(Made::Key(place, type_of(&request.table, id)));
            self.group_columns = self.group_columns.max(place + 1);
        }
        let is_fixed = |place: usize, id: &ColumnId| {
            let grouped = self.columns.iter().any(|made| matches!(made, Made::Key(own, _) if *own == place));
            let exact = type_of(&request.table, *id).is_exact_in_keys();
            exact && (grouped || request.analysis.constants.contains(id))
        };
        let fixed = key.iter().enumerate().take(self.group_columns).all(|(place, id)| is_fixed(place, id));
        (fixed && (self.group_columns == 0 || self.group_columns < key.len())).then_some(())
    }

    /// The place of an aggregate among those that the engine is asked for.
    fn place(&mut self, aggregate: Aggregate) -> usize {
        let known = self.aggregates.iter().position(|other| *other == aggregate);
        known.unwrap_or_else(|| {
            self.aggregates.push(aggregate);
            self.aggregates.len() - 1
        })
    }

    /// Takes a function and its state's columns; `None` for one that the engine does not know.
    fn add(&mut self, function: &AggregateFunctionExpr, request: &Request) -> Option<()> {
        if function.is_distinct() || !function.order_bys().is_empty() || function.ignore_nulls() {
            return None;
        }
        let arguments = function.expressions();
        let [argument] = arguments.as_slice() else { return None };
        let state: Vec<DataType> =
            function.state_fields().ok()?.iter().map(|field| field.data_type().clone()).collect();
        let name = function.fun().name();
        if let ("count", Some(literal)) = (name, argument.downcast_ref::<Literal>()) {
            let made =
                (!literal.value().is_null()).then(|| Made::Same(self.place(Aggregate::Rows), ColumnType::Int64))?;
            self.columns.push(made);
            return (state == [DataType::Int64]).then_some(());
        }
        let (id, widened) = widened_column(argument, request)?;
        let ty = type_of(&request.table, id);
        match (name, state.as_slice(), widened) {
            ("count", [DataType::Int64], None) => {
                let place = self.place(Aggregate::Count(id));
                self.columns.push(Made::Same(place, ColumnType::Int64));
            }
            ("min" | "max", [seen], None) if has_bounds(ty, seen) => {
                let aggregate = if name == "min" { Aggregate::Min(id) } else { Aggregate::Max(id) };
                let place = self.place(aggregate);
                self.columns.push(Made::Same(place, ty));
            }
            ("sum", [sum], _) => {
                let made = self.sum(id, ty, sum)?;
                self.columns.push(made);
            }
            ("avg", [DataType::UInt64, sum], _) => {
                let count = self.place(Aggregate::Count(id));
                self.columns.push(Made::Unsigned(count));
                let made = self.sum(id, ty, sum)?;
                self.columns.push(made);
            }
            _ => return None,
        }
        Some(())
    }

    fn sum(&mut self, id: ColumnId, ty: ColumnType, state: &DataType) -> Option<Made> {
        let integer = matches!(ty, ColumnType::Int16 | ColumnType::Int32 | ColumnType::Int64);
        let place = self.place(Aggregate::Sum(id));
        match (state, ty) {
            (DataType::Decimal128(_, 0), _) if integer => Some(Made::Sum(place, state.clone())),
            (DataType::Decimal128(_, scale), ColumnType::Decimal { scale: own, .. }) if *scale == own => {
                Some(Made::Sum(place, state.clone()))
            }
            (DataType::Float64, ColumnType::Float32 | ColumnType::Float64) => Some(Made::Double(place)),
            (DataType::Float64, _) if integer => Some(Made::Double(place)),
            _ => None,
        }
    }

    /// What DataFusion sees of a batch of the engine.
    fn seen(&self, batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
        let missing = || SqlError::internal("the engine left out an aggregate");
        let column = |place: usize| batch.columns().get(place).ok_or_else(missing);
        let aggregate = |place: usize| column(self.group_columns + place);
        let made = |made: &Made| -> Result<ArrayRef> {
            match made {
                Made::Key(place, ty) => from_engine(column(*place)?, *ty),
                Made::Same(place, ty) => from_engine(aggregate(*place)?, *ty),
                Made::Unsigned(place) => {
                    let counts = aggregate(*place)?.as_primitive_opt::<Int64Type>().ok_or_else(missing)?;
                    let counts = counts.values().iter().map(|count| u64::try_from(*count).unwrap_or(0));
                    Ok(Arc::new(UInt64Array::from_iter_values(counts)))
                }
                Made::Sum(place, ty) => {
                    let sums: &Decimal128Array =
                        aggregate(*place)?.as_primitive_opt::<Decimal128Type>().ok_or_else(missing)?;
                    Ok(sum::partial(sums, ty)?)
                }
                Made::Double(place) => double(aggregate(*place)?),
            }
        };
        let columns = self.columns.iter().map(made).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
    }
}

/// Sums as doubles: of floats they are; those of integers are rounded once.
#[expect(clippy::cast_precision_loss, reason = "the nearest double is what an average of integers is made of")]
fn double(sums: &ArrayRef) -> Result<ArrayRef> {
    let Some(exact) = sums.as_primitive_opt::<Decimal128Type>() else { return Ok(Arc::clone(sums)) };
    Ok(Arc::new(exact.iter().map(|sum| sum.map(|sum| sum as f64)).collect::<Float64Array>()))
}

/// Whether `min` and `max` of the engine's type are what DataFusion sees as `seen`.
fn has_bounds(ty: ColumnType, seen: &DataType) -> bool {
    let ordered_alike = !matches!(ty, ColumnType::Interval | ColumnType::Json | ColumnType::Boolean);
    let own = if ty == ColumnType::Uuid { DataType::Utf8View } else { ty.arrow() };
    ordered_alike && own == *seen
}

/// The table's column that an expression is.
pub(super) fn column_of(expr: &Arc<dyn PhysicalExpr>, request: &Request) -> Option<ColumnId> {
    let column = expr.downcast_ref::<Column>()?;
    request.columns.get(column.index()).copied().filter(|id| request.table.column_by_id(*id).is_some())
}

/// The column that an expression is, or widens, and the type to which it does: no value is changed or refused on the way.
fn widened_column(expr: &Arc<dyn PhysicalExpr>, request: &Request) -> Option<(ColumnId, Option<DataType>)> {
    let Some(cast) = expr.downcast_ref::<CastExpr>() else { return column_of(expr, request).map(|id| (id, None)) };
    let id = column_of(cast.expr(), request)?;
    let target = cast.cast_type();
    let widens = match (type_of(&request.table, id), target) {
        (ColumnType::Int16, DataType::Int32 | DataType::Int64 | DataType::Float64) => true,
        (ColumnType::Int32, DataType::Int64 | DataType::Float64) => true,
        // Past 2^53 an average of integers rounds in either way.
        (ColumnType::Int64 | ColumnType::Float32, DataType::Float64) => true,
        _ => false,
    };
    widens.then(|| (id, Some(target.clone())))
}

/// Groups of a stored table's rows, as DataFusion's partial aggregation would give them. See the module.
#[derive(Debug)]
pub(crate) struct OmenAggregate {
    request: Request,
    plan: Arc<Plan>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// What EXPLAIN ANALYZE shows of a partition.
struct Counts {
    rows: Count,
    slices_answered: Count,
    rows_answered: Count,
    slices_read: Count,
    rows_read: Count,
    slices_pruned: Count,
    bytes: Count,
    before: AggregateMetrics,
}

impl Counts {
    fn new(metrics: &ExecutionPlanMetricsSet, partition: usize) -> Counts {
        let counter = |name: &'static str| MetricBuilder::new(metrics).counter(name, partition);
        Counts {
            rows: MetricBuilder::new(metrics).output_rows(partition),
            slices_answered: counter("slices_answered"),
            rows_answered: counter("rows_answered"),
            slices_read: counter("slices_read"),
            rows_read: counter("rows_read"),
            slices_pruned: counter("slices_pruned"),
            bytes: counter("bytes_read"),
            before: AggregateMetrics::default(),
        }
    }

    fn add(&mut self, rows: usize, now: AggregateMetrics) {
        let count = |counter: &Count, now: u64, before: u64| {
            counter.add(usize::try_from(now.saturating_sub(before)).unwrap_or(usize::MAX));
        };
        self.rows.add(rows);
        count(&self.slices_answered, now.slices_answered, self.before.slices_answered);
        count(&self.rows_answered, now.rows_answered, self.before.rows_answered);
        count(&self.slices_read, now.read.slices_read, self.before.read.slices_read);
        count(&self.rows_read, now.rows_read, self.before.rows_read);
        count(&self.slices_pruned, now.read.slices_pruned, self.before.read.slices_pruned);
        count(&self.bytes, now.read.bytes_read, self.before.read.bytes_read);
        self.before = now;
    }
}

impl DisplayAs for OmenAggregate {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Request { table, analysis, partitions, .. } = &self.request;
        let name = |id: &ColumnId| table.column_by_id(*id).map_or("?", |column| column.name.as_str());
        write!(f, "OmenAggregate: table={}", table.name)?;
        let group: Vec<&str> = table.key.iter().take(self.plan.group_columns).map(name).collect();
        write!(f, ", group=[{}]", group.join(", "))?;
        let aggregate = |aggregate: &Aggregate| match aggregate {
            Aggregate::Rows => "count(*)".to_owned(),
            Aggregate::Count(id) => format!("count({})", name(id)),
            Aggregate::Min(id) => format!("min({})", name(id)),
            Aggregate::Max(id) => format!("max({})", name(id)),
            Aggregate::Sum(id) => format!("sum({})", name(id)),
        };
        let aggregates: Vec<String> = self.plan.aggregates.iter().map(aggregate).collect();
        write!(f, ", aggregates=[{}]", aggregates.join(", "))?;
        if !analysis.ranges.is_empty() {
            write!(f, ", key=[range {}] | ranges={}", analysis.description, analysis.ranges.len())?;
        }
        if !analysis.filter.is_empty() {
            write!(f, ", filter=[{}]", filter::describe(table, &analysis.filter))?;
        }
        if partitions.len() > 1 {
            write!(f, ", partitions={}", partitions.len())?;
        }
        Ok(())
    }
}

impl ExecutionPlan for OmenAggregate {
    fn name(&self) -> &'static str {
        "OmenAggregate"
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
        let Request { snapshot, table, partitions, analysis, .. } = self.request.clone();
        let ranges = partitions.get(partition).cloned();
        let ranges =
            ranges.ok_or_else(|| SqlError::internal(format!("an aggregation without partition {partition}")))?;
        let request = AggregateRequest {
            ranges,
            group_columns: self.plan.group_columns,
            aggregates: self.plan.aggregates.clone(),
            filter: analysis.filter.clone(),
            statistics: true,
        };
        let (schema, plan) = (Arc::clone(&self.schema), Arc::clone(&self.plan));
        let mut counts = Counts::new(&self.metrics, partition);
        let mut builder = RecordBatchReceiverStreamBuilder::new(Arc::clone(&schema), BATCHES_WAITING_MAX);
        let sender = builder.tx();
        builder.spawn_blocking(move || {
            let mut groups = snapshot.aggregate(&table, &request).map_err(SqlError::from)?;
            while let Some(batch) = groups.next_unless(&|| sender.is_closed()) {
                let batch = plan.seen(&batch.map_err(SqlError::from)?, &schema)?;
                counts.add(batch.num_rows(), groups.metrics());
                if sender.blocking_send(Ok(batch)).is_err() {
                    break;
                }
            }
            counts.add(0, groups.metrics());
            Ok(())
        });
        Ok(builder.build())
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
