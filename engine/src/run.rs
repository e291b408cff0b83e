//! Stub (throwaway): predicates live here for good.
pub mod predicate {
    use crate::types::{ColumnId, Value};
    /// A test of one column against constants: what zone maps can prune by.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ColumnPredicate { pub column: ColumnId, pub test: Test }
    #[derive(Debug, Clone, PartialEq)]
    pub enum Test { Compare(CompareOp, Value), In(Vec<Value>), IsNull, IsNotNull }
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum CompareOp { Eq, Lt, LtEq, Gt, GtEq }
}
pub use predicate::{ColumnPredicate, CompareOp, Test};
