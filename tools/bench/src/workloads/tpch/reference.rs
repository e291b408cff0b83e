/*!
The answers that queries must give: DataFusion's own, of the same rows in memory.

DataFusion plans and runs our queries too, so this says nothing of DataFusion. It says that what the SQL layer puts in between changes
no answer: scans that prune, filter, order and add up, ranges by key, PostgreSQL's arithmetic, our rules of the optimizer.
*/

use super::queries::Query;
use crate::failure::Failure;
use crate::workloads::answer::{Expected, rows};
use arrow::array::RecordBatch;
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use omendb_sql::SqlError;
use std::sync::Arc;

/// Answers queries of rows in memory.
pub(super) struct Reference {
    context: SessionContext,
    runtime: tokio::runtime::Runtime,
}

impl Reference {
    /// Without tables.
    pub(super) fn new() -> Result<Reference, Failure> {
        let mut config = SessionConfig::new();
        // As SQL has it: 0.06 + 0.01 is 0.07, not a float beside it.
        config.options_mut().sql_parser.parse_float_as_decimal = true;
        let runtime = tokio::runtime::Builder::new_multi_thread().build().map_err(SqlError::from)?;
        Ok(Reference { context: SessionContext::new_with_config(config), runtime })
    }

    /// Adds a table.
    pub(super) fn add(&self, name: &str, batches: Vec<RecordBatch>) -> Result<(), Failure> {
        let Some(schema) = batches.first().map(RecordBatch::schema) else { return Ok(()) };
        let table = MemTable::try_new(schema, vec![batches]).map_err(SqlError::from)?;
        self.context.register_table(name, Arc::new(table)).map_err(SqlError::from)?;
        Ok(())
    }

    /// What a query must answer.
    pub(super) fn answer(&self, query: &Query, scale: f64) -> Result<Expected, Failure> {
        let sql = query.text_without_limit(scale);
        let batches = self.runtime.block_on(async { self.context.sql(&sql).await?.collect().await });
        let rows = rows(&batches.map_err(SqlError::from)?)?;
        Ok(Expected { rows, order: query.order.to_vec(), limit: query.limit, units: 1 })
    }
}
