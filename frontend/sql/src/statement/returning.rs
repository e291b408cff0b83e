/*!
RETURNING: a query over the rows that were written.

The rows stand in for the table under its name, and no other table can be named: `UPDATE … FROM b … RETURNING b.x` is an
unknown column. It is evaluated before the commit, so that an error in it undoes the statement.
*/

use super::context::Context;
use super::query;
use crate::error::{Result, SqlError};
use crate::provider::seen_by_datafusion;
use crate::session::Rows;
use crate::types::field_of;
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::datasource::MemTable;
use datafusion::sql::sqlparser::ast::{Ident, SelectItem, SetExpr, Statement};
use omendb_engine::types::TableDef;
use std::sync::Arc;

/// The rows of a RETURNING clause over rows that were written, which are all declared columns as the engine has them.
pub(crate) fn rows(
    context: &Context,
    table: &TableDef,
    alias: Option<&str>,
    items: &[SelectItem],
    written: &[RecordBatch],
) -> Result<Rows> {
    let schema: SchemaRef = Arc::new(Schema::new(table.columns.iter().map(field_of).collect::<Vec<_>>()));
    let types: Vec<_> = table.columns.iter().map(|c| c.ty).collect();
    let seen = written.iter().map(|batch| seen_by_datafusion(batch, &schema, &types)).collect::<Result<Vec<_>>>()?;
    let name = alias.unwrap_or(&table.name);
    let context = context.with_table(name, Arc::new(MemTable::try_new(schema, vec![seen])?));
    let quoted = Ident::with_quote('"', name);
    let mut statement = super::parse::statement(&format!("SELECT 1 FROM {quoted}"))?;
    let Statement::Query(query) = &mut statement else {
        return Err(SqlError::internal("a SELECT became something else"));
    };
    if let SetExpr::Select(select) = query.body.as_mut() {
        select.projection = items.to_vec();
    }
    let plan = context.plan(query)?;
    let (schema, batches) = query::collect(context, plan)?;
    Ok(Rows::ready(schema, batches))
}
