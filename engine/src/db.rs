/*!
A database: opened from a directory or made in memory, it hands out snapshots to read and transactions to write.

One process writes a directory at a time; any number may read it beside, each at the state as at open. Everything in a
directory belongs to the database; `db/open.rs` lists the files.

A database's background threads flush memtables, merge runs and look after the log. They stop when it is closed.
*/

mod check;
mod identity;
mod open;
mod options;
mod recover;
mod stats;
mod worker;

pub use crate::manifest::LoadRecord;
pub use crate::scan::{
    Aggregate, AggregateMetrics, AggregateRequest, Aggregation, Firsts, Row, Scan, ScanMetrics, ScanRequest,
};
pub use crate::txn::pace::DelayCause;
pub use crate::txn::{Expectation, Ingest, IngestReport, OnConflict, Snapshot, Transaction, WriteKind};
pub use crate::wal::SyncMode;
pub use check::{CheckReport, Note, Problem, check_directory, check_directory_until};
pub use identity::FORMAT_VERSION;
pub use options::Options;
pub use stats::{DbStats, RunStats, TableStats};

use crate::error::{Error, Result};
use crate::io::sync::Mutex;
use crate::io::{self, Lock};
use crate::memory::Memory;
use crate::txn::store::Store;
use crate::types::{StorageId, TableDef, TableId};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use worker::Workers;

/// The identity file's decoder for `crate::fuzzing`.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use identity::fuzz as fuzz_identity;

/// Where a database without a directory lies in its own file system.
const MEMORY_DIR: &str = "/omendb";

/// An open database. Cheap to clone; the last clone closes it.
#[derive(Debug, Clone)]
pub struct Db {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Arc<Store>,
    dir: Option<PathBuf>,
    read_only: bool,
    workers: Mutex<Option<Workers>>,
    lock: Mutex<Option<Box<dyn Lock>>>,
}

impl Inner {
    fn close(&self) -> Result<()> {
        if let Some(workers) = self.workers.lock().take() {
            workers.stop(&self.store);
        }
        let closed = self.store.close();
        drop(self.lock.lock().take());
        closed
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Nobody is left to hear of an error; the log recovers from a close that did not end.
        let _ = self.close();
    }
}

impl Db {
    /// Opens (or makes) a database.
    ///
    /// # Errors
    /// `InvalidArgument` for options out of their bounds; `NotADatabase`, `NewerFormat`, `Locked` (names the process id),
    /// `Io`, `Corruption`.
    pub fn open(options: Options) -> Result<Db> {
        options.check()?;
        let io = io::steady(&match &options.io {
            Some(io) => Arc::clone(io),
            None if options.dir.is_some() => io::platform()?,
            None => io::memory(),
        });
        let dir = options.dir.clone().unwrap_or_else(|| PathBuf::from(MEMORY_DIR));
        let (store, lock) = open::open(&io, &dir, &options)?;
        let has_workers = options.background && !options.read_only;
        let workers = if has_workers { Some(Workers::start(&store)?) } else { None };
        if !options.read_only {
            store.call_flush();
            store.call_compact();
        }
        let inner = Inner {
            store,
            dir: options.dir,
            read_only: options.read_only,
            workers: Mutex::new(workers),
            lock: Mutex::new(lock),
        };
        Ok(Db { inner: Arc::new(inner) })
    }

    /// The directory; `None` for a database in memory.
    pub fn dir(&self) -> Option<&Path> {
        self.inner.dir.as_deref()
    }

    /// Whether it was opened for reading only.
    pub fn is_read_only(&self) -> bool {
        self.inner.read_only
    }

    /// What has been committed so far, to read from.
    pub fn snapshot(&self) -> Result<Snapshot> {
        Ok(self.inner.store.snapshot())
    }

    /// A transaction on the present snapshot. `ReadOnly` for a database opened read-only, `Poisoned` after a failed write.
    pub fn begin(&self) -> Result<Transaction> {
        Transaction::new(Arc::clone(&self.inner.store))
    }

    /// Writes every memtable into runs.
    ///
    /// # Errors
    /// `ReadOnly`, `Poisoned`; errors of writing.
    pub fn flush(&self) -> Result<()> {
        let store = &self.inner.store;
        store.check_writable()?;
        {
            let _commits = store.commits.lock();
            let storages: Vec<StorageId> = store.view().trees.keys().copied().collect();
            store.rotate(&storages);
        }
        worker::flush_immutables(store)
    }

    /// Merges the runs of one table (or all) into one sorted level; deleted rows and old versions go.
    ///
    /// # Errors
    /// `NoSuchTable`; as [`Db::flush`].
    pub fn compact(&self, table: Option<TableId>) -> Result<()> {
        self.flush()?;
        let store = &self.inner.store;
        let view = store.view();
        let storages: Vec<StorageId> = match table {
            None => view.trees.keys().copied().collect(),
            Some(id) => {
                let missing =
                    || Error::new(crate::ErrorKind::NoSuchTable, format!("there is no table with id {}", id.0));
                vec![view.catalog.by_id(id).ok_or_else(missing)?.storage]
            }
        };
        // Trees of this view keep their runs' files; they are to go.
        drop(view);
        let merged = storages.into_iter().try_for_each(|id| worker::merge_all(store, id));
        store.bury();
        merged
    }

    /// Who has how much of the database's memory; what the layer above needs is reserved there.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.inner.store.memory
    }

    /// Empties the cache, so that what is read next comes from the files. What an open run keeps beside it stays: its index, and
    /// where its vectors lie. For measurements.
    pub fn clear_cache(&self) {
        self.inner.store.memory.cache().clear();
    }

    /// Counts of the whole database.
    pub fn stats(&self) -> Result<DbStats> {
        Ok(stats::database(&self.inner.store))
    }

    /// Counts of one table. `NoSuchTable`.
    pub fn table_stats(&self, table: &TableDef) -> Result<TableStats> {
        stats::table(&self.inner.store, table)
    }

    /// The runs of one table, newest first. `NoSuchTable`.
    pub fn run_stats(&self, table: &TableDef) -> Result<Vec<RunStats>> {
        stats::runs(&self.inner.store, table)
    }

    /// The loads that the table remembers, oldest first.
    pub fn loads(&self, table: &TableDef) -> Result<Vec<LoadRecord>> {
        Ok(self.inner.store.loads(table.storage))
    }

    /// Reads everything from the files and reports what does not hold; see [`check_directory`]. Readers and writers go on
    /// meanwhile.
    ///
    /// # Errors
    /// `Io` where the directory cannot be listed. Everything else is in the report.
    pub fn check(&self) -> Result<CheckReport> {
        self.check_until(&|| false)
    }

    /// The same, but ends soon after `stop` says so.
    ///
    /// # Errors
    /// As [`Db::check`].
    pub fn check_until(&self, stop: &dyn Fn() -> bool) -> Result<CheckReport> {
        check_directory_until(&self.inner.store.io, &self.inner.store.dir, stop)
    }

    /// Flushes the log, writes its watermark, releases the lock, for all clones. Dropping the last clone does the same and
    /// cannot report errors.
    pub fn close(self) -> Result<()> {
        self.inner.close()
    }
}
