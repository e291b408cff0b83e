/*!
SQL for OmenDB: sessions, catalog, planning and execution over the engine.
*/
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]
pub mod cancel;
pub mod error;
mod functions;
pub mod semantics;
pub mod text;
pub mod types;
mod session {
    pub(crate) const NESTING_MAX: usize = 128;
}
pub use error::SqlError;
pub mod files;
