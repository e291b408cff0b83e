/*!
Cancelling a running query, and time limits: within half a second, inside joins too.

Dropping a DataFusion stream stops it only where it returns to the runtime, and some operators rarely do: a nested-loop
join works through its whole left side for every batch of its right side within one poll (8,192 × 1,000,000 pairs), and
a join that always has a batch ready keeps the aggregate above it looping, for nothing below is asked often enough to
yield. [`protect`] puts a guard ([`guard::GuardExec`]) over every operator that works on its own, which

- asks a [`CancelToken`] before each batch and fails with 57014, which ends every task that feeds the query and frees
  what they hold;
- gives the thread back to the runtime after [`guard::TURN`] of work;

and one over the side that drives a join, which besides hands on its batches in slices small enough that the join spends
about [`guard::SLICE_MAX`] on each: it starts with one row, doubles while that is quick and halves while it is not.

What stays long is one poll of an operator that works on all of its input at once: building the hash table of a join, or
a window function over one huge partition. They end by themselves, at the speed of a sort of that size.

EXPLAIN ANALYZE shows the plan that ran; [`without_guards`] takes the guards out of its text.
*/

mod guard;

use crate::error::{SqlError, state};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::{ExecutionPlan, replace_children_if_necessary};
use guard::{GUARD, GuardExec};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const RUNNING: u8 = 0;
const CANCELLED: u8 = 1;
const TIMED_OUT: u8 = 2;

/// Says to a running query that it should stop. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct CancelToken(Arc<AtomicU8>);

impl CancelToken {
    /// A token that nobody has cancelled.
    pub fn new() -> Self {
        CancelToken::default()
    }

    /// Stops what runs under this token, at its user's wish.
    pub fn cancel(&self) {
        self.stop(CANCELLED);
    }

    /// Stops what runs under this token because its time is up.
    pub fn time_out(&self) {
        self.stop(TIMED_OUT);
    }

    fn stop(&self, why: u8) {
        // The first reason is the one that is told.
        let _ = self.0.compare_exchange(RUNNING, why, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Whether it was cancelled or its time is up.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire) != RUNNING
    }

    /// Ready for the next statement.
    pub fn reset(&self) {
        self.0.store(RUNNING, Ordering::Release);
    }

    /// # Errors
    /// 57014 once it was cancelled or its time is up.
    pub fn check(&self) -> Result<(), SqlError> {
        let why = match self.0.load(Ordering::Acquire) {
            RUNNING => return Ok(()),
            TIMED_OUT => "canceling statement due to statement timeout",
            _ => "canceling statement due to user request",
        };
        Err(SqlError::new(state::QUERY_CANCELED, why))
    }
}

/// Operators that hand on each batch as it comes: what is below them is guarded already.
const PASSING: [&str; 8] = [
    "FilterExec",
    "ProjectionExec",
    "CoalesceBatchesExec",
    "CooperativeExec",
    "GlobalLimitExec",
    "LocalLimitExec",
    "UnnestExec",
    "EmptyExec",
];

/// The plan with guards, to be run under `token`. To be called last, on what will run: nothing that optimizes plans
/// knows the guards.
///
/// # Errors
/// What DataFusion reports when a node does not take new children.
pub fn protect(plan: Arc<dyn ExecutionPlan>, token: &CancelToken) -> Result<Arc<dyn ExecutionPlan>> {
    let guarded = plan.transform_up(|node| {
        if PASSING.contains(&node.name()) {
            return Ok(Transformed::no(node));
        }
        let node = match driving_side(&node) {
            Some(side) => feed(node, side, token)?,
            None => node,
        };
        Ok(Transformed::yes(Arc::new(GuardExec::watch(node, token.clone())) as Arc<dyn ExecutionPlan>))
    })?;
    Ok(guarded.data)
}

/// Which child of a join it takes batch by batch, working on each for as long as the other side is large.
fn driving_side(node: &Arc<dyn ExecutionPlan>) -> Option<usize> {
    use datafusion::common::JoinType;
    if node.is::<HashJoinExec>() || node.is::<NestedLoopJoinExec>() {
        return Some(1);
    }
    let right = |join: &SortMergeJoinExec| {
        matches!(join.join_type(), JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark)
    };
    node.downcast_ref::<SortMergeJoinExec>().map(|join| usize::from(right(join)))
}

fn feed(node: Arc<dyn ExecutionPlan>, side: usize, token: &CancelToken) -> Result<Arc<dyn ExecutionPlan>> {
    let children = node.children().into_iter().enumerate();
    let children = children
        .map(|(at, child)| match at == side {
            true => Arc::new(GuardExec::feed(Arc::clone(child), token.clone())) as Arc<dyn ExecutionPlan>,
            false => Arc::clone(child),
        })
        .collect();
    replace_children_if_necessary(node, children)
}

/// The text of an indented plan without the lines of guards; what was below them moves to their place.
pub fn without_guards(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // The depths, as they were, of the guards above the line at hand.
    let mut above: Vec<usize> = Vec::new();
    for line in text.lines() {
        let bare = line.trim_start();
        let depth = line.len() - bare.len();
        while above.last().is_some_and(|guard| *guard >= depth) {
            above.pop();
        }
        if bare.starts_with(GUARD) {
            above.push(depth);
            continue;
        }
        let shown = depth.saturating_sub(2 * above.len());
        out.extend(std::iter::repeat_n(' ', shown));
        out.push_str(bare);
        out.push('\n');
    }
    out
}
