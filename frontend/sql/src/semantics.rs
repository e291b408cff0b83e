/*! Placeholder of the semantics room. */
use crate::error::SqlError;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::SessionConfig;
use datafusion::sql::sqlparser::ast::Statement;

/// Nothing yet.
pub fn rewrite(_statement: &mut Statement) -> Result<(), SqlError> {
    Ok(())
}
/// Nothing yet.
pub fn configure(config: SessionConfig) -> SessionConfig {
    config
}
/// Nothing yet.
pub fn register(builder: SessionStateBuilder) -> SessionStateBuilder {
    builder
}
