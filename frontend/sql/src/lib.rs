/*!
SQL for OmenDB: sessions, catalog, planning and execution over the engine.

DataFusion plans and executes queries, and lives in this crate only. Everything else is ours: parsing and its limits, the
catalog, every write, the types and errors that PostgreSQL has, cancelling, and a fast path beside DataFusion for
statements that are a key lookup or a key range.

```text
    database      opens an engine and the runtime that queries run on; hands out sessions
    session       one user: settings, execute, prepare, cancel; what a statement gives back
    statement     from text to outcome: parse, plan, and one file for each kind of statement
    fast_path     key lookups and key ranges on the engine itself, without DataFusion
    provider      tables of the engine as DataFusion sees them: key ranges, zone-map predicates, order
    catalog       information_schema
    semantics     what makes DataFusion's answers PostgreSQL's; functions are part of it
    optimizer     rules beside DataFusion's
    cancel        plans that stop when they are told to
    files         CSV, NDJSON and Parquet, read and written
    types, text   SQL types against the engine's and Arrow's; values as PostgreSQL writes them
    settings      SET and SHOW
    script        statements cut out of a script
    error         the one error report, with its SQLSTATE
```

**The interface blocks.** A [`Session`] may be used from any thread; queries run on a runtime of their own, and
their batches come through a bounded channel.
*/
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]
#![cfg_attr(test, allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap))]

pub mod cancel;
mod catalog;
mod database;
pub mod error;
mod fast_path;
pub mod files;
mod functions;
mod memory;
mod optimizer;
mod provider;
mod running;
mod script;
pub mod semantics;
mod session;
mod settings;
mod statement;
pub mod text;
pub mod types;

pub use database::{Database, OpenOptions};
pub use datafusion::common::ScalarValue;
pub use error::SqlError;
pub use omendb_engine as engine;
pub use omendb_engine::db::{FORMAT_VERSION, SyncMode};
pub use running::CancelHandle;
pub use script::{Split, split};
pub use session::{Done, Names, Outcome, Prepared, Rows, Session};
