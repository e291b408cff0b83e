/*!
Queries: planned, run on the database's runtime, handed over batch by batch.

A hash join that runs out of memory fails at once, since DataFusion's does not spill. If no row has been handed over by
then, the query is planned again with sort-merge joins, which spill, and run from the start.
*/

use super::context::Context;
use crate::cancel;
use crate::error::{Result, SqlError};
use crate::provider::Unordered;
use crate::semantics::names;
use crate::session::{Outcome, Rows, Source, wait};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::sql::sqlparser::ast::Query;
use futures::StreamExt;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Batches that may wait for a reader.
const BATCHES_WAITING_MAX: usize = 4;

/// What DataFusion says of its own plan when it has lost an order that it relied on.
const LOST_ORDER: &str = "does not satisfy order requirements";

/// Runs a query.
pub(crate) fn run(context: Context, query: &Query) -> Result<Outcome> {
    let plan = context.plan(query)?;
    start(context, plan).map(Outcome::Rows)
}

/// The types of a query's parameters, as far as the planner can tell.
pub(crate) fn parameter_types(context: &Context, query: &Query, count: usize) -> Result<Vec<Option<DataType>>> {
    let mut types = vec![None; count];
    if count == 0 {
        return Ok(types);
    }
    let plan = context.plan_with_parameters(query)?;
    for (name, ty) in plan.get_parameter_types()? {
        let number = name.strip_prefix('$').and_then(|n| n.parse::<usize>().ok());
        if let Some(slot) = number.and_then(|n| types.get_mut(n.checked_sub(1)?)) {
            *slot = ty;
        }
    }
    Ok(types)
}

/// Starts a query, and comes back when it is planned.
pub(crate) fn start(context: Context, plan: LogicalPlan) -> Result<Rows> {
    let running = context.running.clone();
    let (planned, mut schema) = mpsc::channel(1);
    let (batches, rows) = mpsc::channel(BATCHES_WAITING_MAX);
    let runtime = context.session.database.runtime().clone();
    runtime.spawn(async move {
        let running = context.running.clone();
        let query = Running { context, planned, batches: batches.clone(), sent: 0 };
        tokio::select! {
            biased;
            why = running.stopped() => { let _ = batches.try_send(Err(why)); }
            () = batches.closed() => {}
            () = query.run(plan) => {}
        }
    });
    match wait(&mut schema, &running) {
        Some(Ok(schema)) => Ok(Rows::new(schema, Source::Query(rows), Some(running))),
        Some(Err(e)) => Err(e),
        None => Err(SqlError::internal("a query ended before it was planned")),
    }
}

/// A query on the runtime.
struct Running {
    context: Context,
    planned: mpsc::Sender<Result<SchemaRef>>,
    batches: mpsc::Sender<Result<RecordBatch>>,
    /// Batches handed over.
    sent: usize,
}

impl Running {
    async fn run(mut self, plan: LogicalPlan) {
        let first = self.attempt(&self.context.state.clone(), &plan).await;
        let outcome = match first {
            Err(e) if self.sent == 0 && is_out_of_memory(&e) => {
                let mut state = self.context.state.as_ref().clone();
                state.config_mut().options_mut().optimizer.prefer_hash_join = false;
                self.attempt(&state, &plan).await
            }
            outcome => outcome,
        };
        if let Err(e) = outcome {
            let e = SqlError::from(e);
            // One of the two is still waited for; the other takes nothing any more.
            if self.planned.send(Err(e.clone())).await.is_err() {
                let _ = self.batches.send(Err(e)).await;
            }
        }
    }

    async fn attempt(&mut self, state: &SessionState, plan: &LogicalPlan) -> Result<(), DataFusionError> {
        let physical = physical(&self.context, state, plan).await?;
        let shown = names::shown(&physical.schema());
        let schema = shown.clone().unwrap_or_else(|| physical.schema());
        let mut stream = execute_stream(physical, state.task_ctx())?;
        // On a second attempt the columns are known already.
        if self.planned.send(Ok(schema)).await.is_ok() {
            self.planned.closed().await;
        }
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            if batch.num_rows() == 0 {
                continue;
            }
            let batch = match &shown {
                Some(schema) => RecordBatch::try_new(schema.clone(), batch.columns().to_vec())?,
                None => batch,
            };
            if self.batches.send(Ok(batch)).await.is_err() {
                return Ok(());
            }
            self.sent += 1;
        }
        Ok(())
    }
}

/// The plan that runs, with its guards for cancelling.
pub(crate) async fn physical(
    context: &Context,
    state: &SessionState,
    plan: &LogicalPlan,
) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
    let physical = match state.create_physical_plan(plan).await {
        Err(e) if e.message().contains(LOST_ORDER) => {
            let mut state = state.clone();
            state.config_mut().set_extension(Arc::new(Unordered));
            state.create_physical_plan(plan).await?
        }
        physical => physical?,
    };
    cancel::protect(physical, context.running.token())
}

fn is_out_of_memory(e: &DataFusionError) -> bool {
    matches!(e.find_root(), DataFusionError::ResourcesExhausted(_))
}

/// All the rows of a query, for callers that need them before they go on.
pub(crate) fn collect(context: Context, plan: LogicalPlan) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let rows = start(context, plan)?;
    Ok((rows.schema(), rows.collect::<Result<_>>()?))
}
