/*!
Type names in casts and typed literals: the same names, with the same meaning, as in CREATE TABLE ([`crate::types`]).
*/

use crate::types::SqlType;
use arrow::datatypes::FieldRef;
use datafusion::common::Result;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::sql::sqlparser::ast::DataType;
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct TypeNames;

impl TypePlanner for TypeNames {
    fn plan_type_field(&self, name: &DataType) -> Result<Option<FieldRef>> {
        match name {
            // Arrays have no columns of their own, but queries may make them.
            DataType::Array(_) => Ok(None),
            _ => Ok(Some(Arc::new(SqlType::parse(name)?.field("", true)))),
        }
    }
}
