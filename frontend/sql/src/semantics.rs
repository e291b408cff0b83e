/*!
What makes DataFusion's answers PostgreSQL's.

DataFusion plans and runs queries well, and differs from PostgreSQL in what numbers and times do at their edges: it wraps
integers, divides by zero into infinity, reads `0.1` as a double, forgets time zones, ignores FOR UPDATE. This room
corrects that in the places where DataFusion lets one in, in the order in which a statement meets them:

```text
    rewrite      statement (sqlparser's tree): what would be silently ignored is refused with 0A000,
                 FETCH FIRST becomes LIMIT, number literals get PostgreSQL's types
    names        what columns of a result are called that the statement does not name
    type_names   type names in casts: uuid, json, timestamps in microseconds, numeric(p,s)
    planner      operators while they are planned: literals as narrow as PostgreSQL's, decimal products and quotients
    literals     analyzer, before types are coerced: a literal takes the type of what it is compared with
    checked      analyzer, after: arithmetic and casts become checked functions (arithmetic, intervals, cast)
    sum          the aggregate that does not wrap
    extremes     min and max of floats, NaN among them
```

[`configure`] and [`register`] put all of it into a session; [`rewrite`] is called on each statement before planning.
Comparisons stay DataFusion's own expressions throughout, so that predicates still reach the provider.

What it does not do: integer literals on their own are bigint, where PostgreSQL has integer; numerics have at most 38
digits; avg of integers is a double.
*/

pub(crate) mod arithmetic;
pub(crate) mod cast;
mod checked;
mod extremes;
mod intervals;
mod literals;
pub(crate) mod names;
pub(crate) mod parse;
mod planner;
mod rewrite;
pub(crate) mod sum;
mod type_names;

use crate::error::SqlError;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::AggregateUDF;
use datafusion::optimizer::AnalyzerRule;
use datafusion::optimizer::analyzer::Analyzer;
use datafusion::prelude::SessionConfig;
use std::sync::Arc;

pub use rewrite::rewrite;

/// The time zone of every session, as Arrow names it in types.
pub(crate) const TIME_ZONE: &str = "UTC";

/// An error with an SQLSTATE, as it travels through DataFusion.
pub(crate) fn raise(state: &'static str, message: impl Into<String>) -> DataFusionError {
    SqlError::new(state, message).into()
}

/// Settings of DataFusion that its answers depend on.
pub fn configure(mut config: SessionConfig) -> SessionConfig {
    let options = config.options_mut();
    options.sql_parser.parse_float_as_decimal = true;
    options.sql_parser.map_string_types_to_utf8view = true;
    options.sql_parser.support_varchar_with_length = true;
    options.sql_parser.dialect = datafusion::common::config::Dialect::PostgreSQL;
    options.execution.time_zone = Some(TIME_ZONE.to_owned());
    config
}

/// Puts rules, types and functions into a session. The builder must already have DataFusion's own
/// (`with_default_features`), which these come before or replace.
pub fn register(mut builder: SessionStateBuilder) -> SessionStateBuilder {
    let mut planners: Vec<Arc<dyn datafusion::logical_expr::planner::ExprPlanner>> = vec![Arc::new(planner::Operators)];
    planners.extend(builder.expr_planners().take().unwrap_or_default());
    let mut aggregates = builder.aggregate_functions().take().unwrap_or_default();
    aggregates.retain(|function| !matches!(function.name(), "sum" | "min" | "max"));
    aggregates.push(Arc::new(AggregateUDF::new_from_impl(sum::Sum::new())));
    let extremes = [extremes::Extreme::min(), extremes::Extreme::max()];
    aggregates.extend(extremes.map(|extreme| Arc::new(AggregateUDF::new_from_impl(extreme))));
    let functions = crate::functions::scalar(builder.scalar_functions().take().unwrap_or_default());
    let rules = builder.analyzer().take().unwrap_or_default().rules;
    builder
        .with_expr_planners(planners)
        .with_aggregate_functions(aggregates)
        .with_scalar_functions(functions)
        .with_type_planner(Arc::new(type_names::TypeNames))
        .with_analyzer_rules(with_our_rules(rules))
}

fn with_our_rules(rules: Vec<Arc<dyn AnalyzerRule + Send + Sync>>) -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    let rules = if rules.is_empty() { Analyzer::new().rules } else { rules };
    let mut all: Vec<Arc<dyn AnalyzerRule + Send + Sync>> = Vec::with_capacity(rules.len() + 2);
    for rule in rules {
        let coerces = rule.name() == "type_coercion";
        if coerces {
            all.push(Arc::new(literals::TypedLiterals));
        }
        all.push(rule);
        if coerces {
            all.push(Arc::new(checked::Checked));
        }
    }
    all
}
