/*! Placeholder of the files room. */
use crate::error::{Result, SqlError};
use datafusion::catalog::TableProvider;
use std::sync::Arc;

/// Nothing yet.
pub fn provider(pattern: &str, _threads: usize) -> Result<Arc<dyn TableProvider>> {
    Err(SqlError::unsupported(format!("file {pattern}")))
}
