/*!
OmenDB's storage engine: tables whose rows lie sorted by key in immutable, columnar, learned-index runs.

The engine knows tables, keys, transactions and runs. **It knows no SQL, has no async, and prints nothing.** Data cross
its border as Arrow `RecordBatch`es, typed [`types::Value`]s and encoded [`key::Key`]s. Its calls may block.

Rooms, top to bottom; arrows point down only:

```text
    db            opens a directory, owns background work, hands out tables and transactions
    txn           one atomic commit: buffered writes, row expectations, staged runs, snapshot reads
    compaction    memtables into runs, runs into fewer; the only place where rows disappear
    scan          merges memtables and runs under a snapshot, newest version of each key
    memtable      rows not yet in a run: a concurrent skip list over key bytes and descending sequence number
    wal           the write-ahead log: framed, checksummed, group-committed, replayed
    manifest      which runs make up which tree: an append-only log of edits
    run           one immutable file: tiles of vectors, fences or model, filter, slice statistics, footer
    lease         keeps the files that reader processes need from the writer
    model         finds a key's slice: fences (Eytzinger order, S+-tree), or a learned function proved at build; filters
    encoding      a column's values of one slice as bytes, and back, by position
    cache         one byte budget for encoded bytes of runs
    memory        the accountant: who has how much of one limit
    row, key      rows and keys as bytes, ours and versioned
    column        columns of values in Arrow form, appended to value by value or in bulk
    bytes         the small things formats are made of: bounded input, varints
    types, error  what all of the above speak of
    io            the only door to files, clocks, randomness, locks and threads
```
*/
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]
#![cfg_attr(test, allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap))]

#[macro_use]
mod mutants;

mod bytes;
pub mod cache;
pub mod column;
pub mod compaction;
pub mod db;
pub mod encoding;
pub mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod io;
pub mod key;
pub mod lease;
pub mod limits;
pub mod manifest;
pub mod memory;
pub mod memtable;
pub mod model;
pub mod row;
pub mod run;
pub mod scan;
pub mod txn;
pub mod types;
pub mod wal;

pub use error::{Error, ErrorKind, Result};
#[cfg(feature = "mutants")]
pub use mutants::Mutant;
