/*!
First and last rows of groups that the engine seeks.

`SELECT DISTINCT ON (run_id) * FROM metrics ORDER BY run_id, step DESC` wants the last row of each run: one row of thousands. DataFusion
makes `first_value(… ORDER BY run_id, step DESC)` by groups of it, and would read them all. [`FirstRows`] is a rule of physical plans. Where such an
aggregation stands right over a scan of a stored table, the scan gives of each group the row that is wanted, and no other
([`omendb_engine::db::Firsts`]): the aggregation finds it alone. It applies where

- rows are grouped by nothing, or by columns that with those of one value make a prefix of the key, short of the whole key;
- every aggregate is `first_value` or `last_value` of whatever, without DISTINCT, FILTER or IGNORE NULLS, ordered by the key's next columns, all in one
  direction (columns of the group may stand between, they have one value), or `max` or `min` of the first of these, and all want the
  same end of the group;
- the scan does all of the filtering, and has no limit.
*/

use super::aggregate::{column_of, in_place_of_aggregations, without_round_robin};
use super::scan::{OmenScan, Request, type_of};
use crate::error::Result;
use datafusion::common::DataFusionError;
use datafusion::common::config::ConfigOptions;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use omendb_engine::types::{ColumnId, ColumnType};
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub(crate) struct FirstRows;

impl PhysicalOptimizerRule for FirstRows {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let recompute = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        in_place_of_aggregations(plan, |node, aggregate| match seeking(aggregate)? {
            Some(scan) => Arc::clone(node).replace_children(vec![scan], recompute).map(Some),
            None => Ok(None),
        })
    }

    fn name(&self) -> &str {
        "first_rows"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The scan below an aggregation, if it needs to give no more than a row of each group; `None` where the rule does not apply.
fn seeking(aggregate: &AggregateExec) -> Result<Option<Arc<dyn ExecutionPlan>>, DataFusionError> {
    let Some(scan) = without_round_robin(aggregate.input()).downcast_ref::<OmenScan>() else { return Ok(None) };
    let reads_rows =
        matches!(aggregate.mode(), AggregateMode::Partial | AggregateMode::Single | AggregateMode::SinglePartitioned);
    let plain = !aggregate.group_expr().has_grouping_set()
        && aggregate.filter_expr().iter().all(Option::is_none)
        && aggregate.limit_options().is_none();
    let request = scan.request();
    let exact = request.analysis.exact.iter().all(|exact| *exact);
    if !reads_rows || !plain || !exact || request.limit.is_some() || request.firsts.is_some() || request.analysis.points
    {
        return Ok(None);
    }
    let Some(group) = Group::of(aggregate, request) else { return Ok(None) };
    let Some(last) = group.end(aggregate.aggr_expr()) else { return Ok(None) };
    let columns = group.columns;
    Ok(Some(scan.changed(|request| {
        request.firsts = Some(columns);
        request.reverse = last;
    })?))
}

/// Rows with the same values of the key's first columns.
struct Group<'a> {
    request: &'a Request,
    grouped: Vec<ColumnId>,
    /// How many columns of the key.
    columns: usize,
}

impl<'a> Group<'a> {
    /// `None` where the columns of the group are no prefix of the key, or all of it.
    fn of(aggregate: &AggregateExec, request: &'a Request) -> Option<Group<'a>> {
        let key = &request.table.key;
        let of = |(expr, _): &(_, _)| column_of(expr, request).filter(|id| key.contains(id));
        let grouped = aggregate.group_expr().expr().iter().map(of).collect::<Option<Vec<ColumnId>>>()?;
        let mut group = Group { request, grouped, columns: 0 };
        group.columns = key.iter().take_while(|id| group.has_one(**id)).count();
        let within = |id: &ColumnId| key.iter().take(group.columns).any(|other| other == id);
        (group.columns < key.len() && group.grouped.iter().all(within)).then_some(group)
    }

    /// Whether all rows of the group have the same value of this column, in the key as well.
    fn has_one(&self, id: ColumnId) -> bool {
        type_of(&self.request.table, id).is_exact_in_keys()
            && (self.grouped.contains(&id) || self.request.analysis.constants.contains(&id))
    }

    /// Whether the aggregates want the group's last row in key order; `None` where they want more than the first or the last.
    fn end(&self, aggregates: &[Arc<AggregateFunctionExpr>]) -> Option<bool> {
        let (mut last, mut seeks) = (None, false);
        for function in aggregates {
            if function.is_distinct() || function.ignore_nulls() {
                return None;
            }
            let wanted = match function.fun().name() {
                "first_value" | "last_value" => {
                    seeks = true;
                    self.end_of_value(function)?
                }
                "max" | "min" => Some(self.end_of_extreme(function)?),
                _ => return None,
            };
            match (last, wanted) {
                (Some(one), Some(other)) if one != other => return None,
                _ => last = last.or(wanted),
            }
        }
        seeks.then_some(last.unwrap_or(false))
    }

    /// Which end `first_value` or `last_value` wants; `Some(None)` if either will do.
    fn end_of_value(&self, function: &AggregateFunctionExpr) -> Option<Option<bool>> {
        let mut rest = self.request.table.key.iter().skip(self.columns);
        let mut descending = None;
        for sort in function.order_bys() {
            let id = column_of(&sort.expr, self.request)?;
            if self.has_one(id) {
                continue;
            }
            // After the whole key no two rows are left to be ordered.
            let Some(next) = rest.next() else { break };
            let same = descending.is_none_or(|other| other == sort.options.descending);
            if *next != id || !same || type_of(&self.request.table, id) == ColumnType::Interval {
                return None;
            }
            descending = Some(sort.options.descending);
        }
        let first = function.fun().name() == "first_value";
        Some(descending.map(|descending| descending == first))
    }

    /// Which end has `max` or `min` of the first column behind the group's.
    fn end_of_extreme(&self, function: &AggregateFunctionExpr) -> Option<bool> {
        let arguments = function.expressions();
        let [argument] = arguments.as_slice() else { return None };
        let next = self.request.table.key.get(self.columns)?;
        let ordered = type_of(&self.request.table, *next) != ColumnType::Interval;
        (column_of(argument, self.request)? == *next && ordered).then(|| function.fun().name() == "max")
    }
}
