/*! Placeholder of the cancel room. */
use crate::error::{SqlError, state};
use datafusion::error::Result;
use datafusion::physical_plan::ExecutionPlan;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Says to a running query that it should stop.
#[derive(Debug, Clone, Default)]
pub struct CancelToken(Arc<AtomicU8>);

impl CancelToken {
    /// A token that nobody has cancelled.
    pub fn new() -> Self {
        Self::default()
    }
    /// Stops at the user's wish.
    pub fn cancel(&self) {
        let _ = self.0.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Acquire);
    }
    /// Stops because time is up.
    pub fn time_out(&self) {
        let _ = self.0.compare_exchange(0, 2, Ordering::AcqRel, Ordering::Acquire);
    }
    /// Whether it was stopped.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire) != 0
    }
    /// 57014 once stopped.
    pub fn check(&self) -> Result<(), SqlError> {
        match self.0.load(Ordering::Acquire) {
            0 => Ok(()),
            2 => Err(SqlError::new(state::QUERY_CANCELED, "canceling statement due to statement timeout")),
            _ => Err(SqlError::new(state::QUERY_CANCELED, "canceling statement due to user request")),
        }
    }
}

/// The plan as it is.
pub fn protect(plan: Arc<dyn ExecutionPlan>, _token: &CancelToken) -> Result<Arc<dyn ExecutionPlan>> {
    Ok(plan)
}

/// The text as it is.
pub fn without_guards(text: &str) -> String {
    text.to_owned()
}
