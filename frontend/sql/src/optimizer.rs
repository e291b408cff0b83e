/*!
Rules of the optimizer beside DataFusion's own.

[`DistinctKeys`]: `x IN (SELECT k …)`, `NOT IN`, `EXISTS` and their like become semi, anti and mark joins, which ask only whether a
row has a partner. DataFusion's hash join nevertheless walks all the partners of each row, so that two columns of a million rows with
ten values between them take 10¹¹ steps. The rule lets each combination of the columns that the join looks at through once. Where
a key says that they are distinct already, it does nothing.

[`ApartFromSums`] holds DataFusion's rewrite of `count(DISTINCT a)` into a grouping by `a` back where a sum stands beside it: the sum
would be taken of the groups' sums, which are of a wider type.

[`FirstRows`](crate::provider::firsts::FirstRows) and [`SliceAggregates`](crate::provider::aggregate::SliceAggregates), of physical plans:
first and last rows of groups, and aggregates, by a prefix of the key go to the engine.
*/

use crate::provider::aggregate::SliceAggregates;
use crate::provider::firsts::FirstRows;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Dependency, JoinType, Result};
use datafusion::logical_expr::utils::expr_to_columns;
use datafusion::logical_expr::{Expr, Join, LogicalPlan, LogicalPlanBuilder};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use std::collections::HashSet;
use std::sync::Arc;

type Rules = Vec<Arc<dyn OptimizerRule + Send + Sync>>;

/// DataFusion's rules with ours in their places.
pub(crate) fn with_our_rules(rules: Rules) -> Rules {
    let mut all: Rules = Vec::with_capacity(rules.len() + 1);
    for rule in rules {
        // Before it the keys of a join are still hidden in its filter.
        let finds_keys = rule.name() == "extract_equijoin_predicate";
        match rule.name() {
            "single_distinct_aggregation_to_group_by" => all.push(Arc::new(ApartFromSums(rule))),
            _ => all.push(rule),
        }
        if finds_keys {
            all.push(Arc::new(DistinctKeys));
        }
    }
    all
}

type PhysicalRules = Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>;

/// DataFusion's rules of physical plans with ours in their places, as far as they are wanted.
pub(crate) fn with_our_physical_rules(rules: PhysicalRules, seek: bool, aggregate: bool) -> PhysicalRules {
    let mut all: PhysicalRules = Vec::with_capacity(rules.len() + 2);
    if seek {
        // Before any other, so that these see the order in which rows come then.
        all.push(Arc::new(FirstRows));
    }
    for rule in rules {
        // From here on scans are wrapped.
        if aggregate && rule.name() == "EnsureCooperative" {
            all.push(Arc::new(SliceAggregates));
        }
        all.push(rule);
    }
    all
}

#[derive(Debug)]
struct ApartFromSums(Arc<dyn OptimizerRule + Send + Sync>);

impl OptimizerRule for ApartFromSums {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match &plan {
            LogicalPlan::Aggregate(aggregate) if aggregate.aggr_expr.iter().any(is_sum) => Ok(Transformed::no(plan)),
            _ => self.0.rewrite(plan, config),
        }
    }
}

/// Whether this is a sum, but for one of distinct values.
fn is_sum(expr: &Expr) -> bool {
    matches!(expr, Expr::AggregateFunction(call) if call.func.name() == "sum" && !call.params.distinct)
}

#[derive(Debug)]
struct DistinctKeys;

impl OptimizerRule for DistinctKeys {
    fn name(&self) -> &str {
        "distinct_keys"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Join(join) = plan else { return Ok(Transformed::no(plan)) };
        if !matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark) {
            return Ok(Transformed::no(LogicalPlan::Join(join)));
        }
        let looked_at = looked_at(&join)?;
        if looked_at.is_empty() || are_distinct(&join.right, &looked_at) {
            return Ok(Transformed::no(LogicalPlan::Join(join)));
        }
        let columns = looked_at.into_iter().map(Expr::Column);
        let once = LogicalPlanBuilder::new_from_arc(join.right).aggregate(columns, Vec::<Expr>::new())?.build()?;
        Ok(Transformed::yes(LogicalPlan::Join(Join { right: Arc::new(once), ..join })))
    }
}

/// The columns of the right side that decide whether a row is a partner, in the side's order.
fn looked_at(join: &Join) -> Result<Vec<Column>> {
    let mut used = HashSet::new();
    for (_, right) in &join.on {
        expr_to_columns(right, &mut used)?;
    }
    if let Some(filter) = &join.filter {
        expr_to_columns(filter, &mut used)?;
    }
    Ok(join.right.schema().columns().into_iter().filter(|column| used.contains(column)).collect())
}

/// Whether no two rows agree in all of `columns`: by a key, or because this rule has been here before.
fn are_distinct(plan: &LogicalPlan, columns: &[Column]) -> bool {
    if matches!(plan, LogicalPlan::Aggregate(aggregate) if aggregate.aggr_expr.is_empty()) {
        return true;
    }
    let all = plan.schema().columns();
    let is_key = |sources: &[usize]| sources.iter().all(|i| all.get(*i).is_some_and(|column| columns.contains(column)));
    let dependencies = plan.schema().functional_dependencies();
    dependencies.iter().any(|d| d.mode == Dependency::Single && !d.nullable && is_key(&d.source_indices))
}
