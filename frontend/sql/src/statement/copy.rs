/*! COPY. */
use super::context::{Context, Transacted};
use crate::error::{Result, SqlError};
use crate::session::Outcome;
use datafusion::sql::sqlparser::ast::Statement;

/// COPY FROM.
pub(crate) fn from(_t: &mut Transacted, _statement: &Statement) -> Result<Outcome> {
    Err(SqlError::unsupported("COPY FROM"))
}
/// COPY TO.
pub(crate) fn to(_context: Context, _statement: &Statement) -> Result<Outcome> {
    Err(SqlError::unsupported("COPY TO"))
}
