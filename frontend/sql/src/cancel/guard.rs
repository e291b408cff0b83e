/*!
The guard over one operator: a plan node that passes batches on, and the stream that does it.
*/

use super::CancelToken;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::internal_err;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, RecordBatchStream, SendableRecordBatchStream,
};
use futures::{Stream, StreamExt};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// How EXPLAIN names a guard.
pub(super) const GUARD: &str = "CancelGuard";

/// How long a stream may work before it gives its thread back.
pub(super) const TURN: Duration = Duration::from_millis(10);

/// A slice that a join has spent less on than this is followed by one of twice as many rows.
const SLICE_MIN: Duration = Duration::from_millis(8);

/// A slice that a join has spent more on than this is followed by one of half as many.
pub(super) const SLICE_MAX: Duration = Duration::from_millis(40);

/// What a guard does besides watching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Duty {
    /// Nothing.
    Watch,
    /// Cut batches into slices.
    Feed,
}

/// A guard over `input`.
#[derive(Debug, Clone)]
pub(super) struct GuardExec {
    input: Arc<dyn ExecutionPlan>,
    token: CancelToken,
    duty: Duty,
}

impl GuardExec {
    /// A guard that looks at the token and yields.
    pub(super) fn watch(input: Arc<dyn ExecutionPlan>, token: CancelToken) -> Self {
        GuardExec { input, token, duty: Duty::Watch }
    }

    /// A guard that also cuts batches into slices, as small as their consumer is slow.
    pub(super) fn feed(input: Arc<dyn ExecutionPlan>, token: CancelToken) -> Self {
        GuardExec { input, token, duty: Duty::Feed }
    }
}

impl DisplayAs for GuardExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(GUARD)
    }
}

impl ExecutionPlan for GuardExec {
    fn name(&self) -> &str {
        GUARD
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match <[_; 1]>::try_from(children) {
            Ok([input]) => Ok(Arc::new(GuardExec { input, token: self.token.clone(), duty: self.duty })),
            Err(children) => internal_err!("a guard has one child, not {}", children.len()),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        Ok(Box::pin(GuardStream {
            schema: input.schema(),
            input: Some(input),
            token: self.token.clone(),
            duty: self.duty,
            rest: None,
            rows: 1,
            handed_on: None,
            turn_began: Instant::now(),
        }))
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }
}

struct GuardStream {
    schema: SchemaRef,
    /// `None` once it has ended or failed: what it holds is freed at once.
    input: Option<SendableRecordBatchStream>,
    token: CancelToken,
    duty: Duty,
    /// A batch of which slices are still to be handed on.
    rest: Option<RecordBatch>,
    /// Rows of the next slice.
    rows: usize,
    /// When the last slice was handed on.
    handed_on: Option<Instant>,
    turn_began: Instant,
}

impl GuardStream {
    /// Learns from how long the consumer took for the last slice.
    fn adapt(&mut self, now: Instant) {
        let Some(then) = self.handed_on.take() else { return };
        let spent = now.duration_since(then);
        if spent > SLICE_MAX {
            self.rows = (self.rows / 2).max(1);
        } else if spent < SLICE_MIN {
            self.rows = self.rows.saturating_mul(2);
        }
    }

    fn next_slice(&mut self, batch: RecordBatch, now: Instant) -> RecordBatch {
        self.handed_on = Some(now);
        if batch.num_rows() <= self.rows {
            // What fits is no proof that more would.
            self.rows = batch.num_rows().max(1);
            return batch;
        }
        let slice = batch.slice(0, self.rows);
        self.rest = Some(batch.slice(self.rows, batch.num_rows() - self.rows));
        slice
    }

    fn failed(&mut self, error: DataFusionError) -> Poll<Option<Result<RecordBatch>>> {
        self.input = None;
        self.rest = None;
        Poll::Ready(Some(Err(error)))
    }
}

impl Stream for GuardStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.input.is_none() {
            return Poll::Ready(None);
        }
        if let Err(error) = self.token.check() {
            return self.failed(error.into());
        }
        let now = Instant::now();
        if now.duration_since(self.turn_began) > TURN {
            // The adapter must not take the pause for the consumer's work.
            self.adapt(now);
            self.turn_began = now;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.duty == Duty::Feed {
            self.adapt(now);
            if let Some(batch) = self.rest.take() {
                return Poll::Ready(Some(Ok(self.next_slice(batch, now))));
            }
        }
        let Some(input) = self.input.as_mut() else { return Poll::Ready(None) };
        match ready!(input.poll_next_unpin(cx)) {
            Some(Ok(batch)) if self.duty == Duty::Feed => {
                let now = Instant::now();
                Poll::Ready(Some(Ok(self.next_slice(batch, now))))
            }
            Some(Ok(batch)) => Poll::Ready(Some(Ok(batch))),
            Some(Err(error)) => self.failed(error),
            None => {
                self.input = None;
                Poll::Ready(None)
            }
        }
    }
}

impl RecordBatchStream for GuardStream {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}
