/*!
SQL for OmenDB: sessions, catalog, planning and execution over the engine.
*/
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]
pub mod error;
pub mod types;
mod session {
    pub(crate) const NESTING_MAX: usize = 128;
}
pub use error::SqlError;
