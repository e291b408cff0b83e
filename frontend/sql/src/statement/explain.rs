/*!
EXPLAIN and EXPLAIN ANALYZE.

The plan that would run is shown one line a row, as PostgreSQL does; a scan of a stored table says which keys it reads
and by what it prunes. A write is shown as the query that it reads first, and is never executed: ANALYZE of a write is refused.
*/

use super::context::Context;
use super::{insert, query, update};
use crate::cancel;
use crate::error::{Result, SqlError};
use crate::semantics::names::shown_text;
use crate::session::{Outcome, Rows};
use arrow::array::{RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::sql::sqlparser::ast::{Statement, UtilityOption};
use futures::StreamExt;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc;

/// What EXPLAIN was asked for.
#[derive(Debug, Clone, Copy, Default)]
struct Wanted {
    analyze: bool,
    verbose: bool,
}

/// Runs an EXPLAIN.
pub(crate) fn run(context: Context, statement: &Statement) -> Result<Outcome> {
    let Statement::Explain { statement, analyze, verbose, format, options, query_plan, estimate, .. } = statement
    else {
        return Err(SqlError::internal("EXPLAIN expected"));
    };
    if *query_plan || *estimate || format.as_ref().is_some_and(|f| !f.to_string().to_uppercase().contains("TEXT")) {
        return Err(SqlError::unsupported("this form of EXPLAIN is not supported"));
    }
    let mut wanted = Wanted { analyze: *analyze, verbose: *verbose };
    for option in options.iter().flatten() {
        set_option(&mut wanted, option)?;
    }
    let started = Instant::now();
    let (heading, plan) = match statement.as_ref() {
        Statement::Query(query) => (None, context.plan(query)?),
        Statement::Insert(insert) => of_write("Insert", insert::explained(&context, insert)?),
        Statement::Update(update) => of_write("Update", update::explained_update(&context, update)?),
        Statement::Delete(delete) => of_write("Delete", update::explained_delete(&context, delete)?),
        _ => return Err(SqlError::unsupported("only queries, INSERT, UPDATE and DELETE can be explained")),
    };
    if heading.is_some() && wanted.analyze {
        return Err(SqlError::unsupported("EXPLAIN ANALYZE of a statement that writes is not supported")
            .with_hint("EXPLAIN alone shows its plan."));
    }
    let lines = on_runtime(context, plan, wanted, heading, started)?;
    text(lines)
}

fn of_write(
    verb: &str,
    (table, plan): (Arc<omendb_engine::types::TableDef>, LogicalPlan),
) -> (Option<String>, LogicalPlan) {
    (Some(format!("{verb}: table={}", table.name)), plan)
}

fn set_option(wanted: &mut Wanted, option: &UtilityOption) -> Result<()> {
    let name = option.name.value.to_lowercase();
    let value = option.arg.as_ref().map(|arg| arg.to_string().trim_matches('\'').to_lowercase());
    let on = match value.as_deref() {
        None | Some("true" | "on" | "1") => Some(true),
        Some("false" | "off" | "0") => Some(false),
        Some(_) => None,
    };
    match (name.as_str(), on, value.as_deref()) {
        ("analyze", Some(on), _) => wanted.analyze = on,
        ("verbose", Some(on), _) => wanted.verbose = on,
        // Costs and times are as they are.
        ("costs" | "timing" | "summary", Some(_), _) | ("format", _, Some("text")) => {}
        _ => return Err(SqlError::unsupported(format!("EXPLAIN option {option} is not supported"))),
    }
    Ok(())
}

/// Plans, and runs if that is wanted, on the runtime; gives the lines.
fn on_runtime(
    context: Context,
    plan: LogicalPlan,
    wanted: Wanted,
    heading: Option<String>,
    started: Instant,
) -> Result<Vec<String>> {
    let running = context.running.clone();
    let (sender, mut receiver) = mpsc::channel(1);
    let runtime = context.session.database.runtime().clone();
    runtime.spawn(async move {
        let running = context.running.clone();
        let lines = tokio::select! {
            biased;
            why = running.stopped() => Err(why),
            lines = explain(context, plan, wanted, heading, started) => lines,
        };
        let _ = sender.send(lines).await;
    });
    match crate::session::wait(&mut receiver, &running) {
        Some(lines) => lines,
        None => Err(SqlError::internal("EXPLAIN ended before it began")),
    }
}

async fn explain(
    context: Context,
    plan: LogicalPlan,
    wanted: Wanted,
    heading: Option<String>,
    started: Instant,
) -> Result<Vec<String>> {
    let state = context.state.clone();
    let mut lines = Vec::new();
    if wanted.verbose {
        let optimized = state.optimize(&plan)?;
        lines.push("Logical plan:".to_owned());
        lines.extend(shown_text(optimized.display_indent().to_string()).lines().map(|line| format!("  {line}")));
        lines.push("Physical plan:".to_owned());
    }
    let physical = query::physical(&context, &state, &plan).await?;
    let planned = started.elapsed();
    let mut depth = usize::from(wanted.verbose);
    if let Some(heading) = heading {
        lines.push(format!("{}{heading}", "  ".repeat(depth)));
        depth += 1;
    }
    let executing = Instant::now();
    let rows = match wanted.analyze {
        true => Some(drain(&physical, &state).await?),
        false => None,
    };
    let displayed = match (wanted.analyze, wanted.verbose) {
        (true, true) => DisplayableExecutionPlan::with_full_metrics(physical.as_ref()),
        (true, false) => DisplayableExecutionPlan::with_metrics(physical.as_ref()),
        (false, _) => DisplayableExecutionPlan::new(physical.as_ref()),
    };
    let shown = shown_text(cancel::without_guards(&displayed.indent(false).to_string()));
    lines.extend(shown.lines().map(|line| format!("{}{line}", "  ".repeat(depth))));
    if let Some(rows) = rows {
        lines.push(format!("Rows: {rows}"));
        lines.push(format!("Planning time: {:.3} ms", planned.as_secs_f64() * 1000.0));
        lines.push(format!("Execution time: {:.3} ms", executing.elapsed().as_secs_f64() * 1000.0));
    }
    Ok(lines)
}

async fn drain(
    physical: &Arc<dyn ExecutionPlan>,
    state: &datafusion::execution::session_state::SessionState,
) -> Result<usize> {
    let mut stream = execute_stream(physical.clone(), state.task_ctx())?;
    let mut rows = 0;
    while let Some(batch) = stream.next().await {
        rows += batch?.num_rows();
    }
    Ok(rows)
}

fn text(lines: Vec<String>) -> Result<Outcome> {
    let schema = Arc::new(Schema::new(vec![Field::new("QUERY PLAN", DataType::Utf8View, false)]));
    let column = Arc::new(StringViewArray::from_iter_values(lines));
    let batch = RecordBatch::try_new(schema.clone(), vec![column])?;
    Ok(Outcome::Rows(Rows::ready(schema, vec![batch])))
}
