/*!
A database with SQL on top: the engine, the runtime that its queries run on, and the watchdog of their timeouts.

Queries run on threads of their own with large stacks, since DataFusion walks expressions recursively; scans of the
engine, which block, run on that runtime's blocking threads. Spilled data go to `tmp` in the database's directory, or
to the system's temporary directory for a database in memory or opened for reading only.
*/

use crate::error::{Result, SqlError};
use crate::running::Watchdog;
use crate::session::Session;
use omendb_engine::db::{Db, Options, SyncMode};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of stack for each thread that runs queries. Address space only: what is not touched is not memory. A statement
/// within the limits of `statement::parse` makes expressions some thousands deep, at about a KiB a level.
const QUERY_STACK_BYTES: usize = 128 << 20;

/// The directory for spilled data, inside the database's own.
const SPILL_DIR: &str = "tmp";

/// How to open a database.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// The directory; `None` for a database in memory.
    pub dir: Option<PathBuf>,
    /// Make the database if the directory is absent or empty.
    pub create: bool,
    /// Open for reading only, beside a writer, at the state as at open.
    pub read_only: bool,
    /// When a commit is acknowledged.
    pub sync: SyncMode,
    /// Bytes of the engine's cache at most; `None` for its default.
    pub cache_bytes: Option<usize>,
    /// Bytes that all of the database may take, see [`Options::memory_bytes`]; `None` for the engine's default.
    pub memory_bytes: Option<usize>,
    /// Threads that a query may use; `None` for one a core.
    pub threads: Option<usize>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        OpenOptions {
            dir: None,
            create: true,
            read_only: false,
            sync: SyncMode::Always,
            cache_bytes: None,
            memory_bytes: None,
            threads: None,
        }
    }
}

impl OpenOptions {
    /// A database in memory.
    pub fn memory() -> Self {
        OpenOptions::default()
    }

    /// A database in `dir`, made if it is not there.
    pub fn dir(dir: impl Into<PathBuf>) -> Self {
        OpenOptions { dir: Some(dir.into()), ..OpenOptions::default() }
    }

    fn engine(&self) -> Options {
        let mut options = match &self.dir {
            Some(dir) => Options::dir(dir),
            None => Options::memory(),
        };
        options.create = self.create;
        options.read_only = self.read_only;
        options.sync = self.sync;
        options.cache_bytes = self.cache_bytes.unwrap_or(options.cache_bytes);
        options.memory_bytes = self.memory_bytes.unwrap_or(options.memory_bytes);
        options
    }
}

/// An open database. Its sessions keep it alive.
#[derive(Debug)]
pub struct Database {
    shared: Arc<Shared>,
}

/// What the sessions of a database share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) engine: Db,
    pub(crate) watchdog: Watchdog,
    pub(crate) threads: usize,
    pub(crate) load_memory_bytes: usize,
    pub(crate) spill_dir: Option<PathBuf>,
    handle: tokio::runtime::Handle,
    runtime: Mutex<Option<tokio::runtime::Runtime>>,
}

impl Database {
    /// Opens a database.
    ///
    /// # Errors
    /// What the engine says: the directory is no database (58000), is in use by another process (55006), is damaged
    /// (XX001), cannot be read (58030); 58030 when no thread can be started.
    pub fn open(options: OpenOptions) -> Result<Database> {
        let engine_options = options.engine();
        let load_memory_bytes = engine_options.memory_bytes;
        let engine = Db::open(engine_options)?;
        let threads = options.threads.unwrap_or_else(cores).max(1);
        let spill_dir = match (&options.dir, options.read_only) {
            (Some(dir), false) => Some(dir.join(SPILL_DIR)),
            _ => None,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("omendb-query")
            .thread_stack_size(QUERY_STACK_BYTES)
            .enable_time()
            .build()?;
        let shared = Shared {
            engine,
            watchdog: Watchdog::default(),
            threads,
            load_memory_bytes,
            spill_dir,
            handle: runtime.handle().clone(),
            runtime: Mutex::new(Some(runtime)),
        };
        Ok(Database { shared: Arc::new(shared) })
    }

    /// The engine underneath.
    pub fn engine(&self) -> &Db {
        &self.shared.engine
    }

    /// A new session with default settings.
    pub fn session(&self) -> Session {
        Session::new(self.shared.clone())
    }

    /// Flushes the log and releases the directory's lock at once, also for sessions that are left. Dropping does the same
    /// when the last session and its last query have ended, and cannot report errors.
    ///
    /// # Errors
    /// What the engine says.
    pub fn close(self) -> Result<()> {
        let engine = self.shared.engine.clone();
        drop(self);
        engine.close().map_err(SqlError::from)
    }
}

impl Shared {
    /// The runtime that queries run on.
    pub(crate) fn runtime(&self) -> &tokio::runtime::Handle {
        &self.handle
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Waiting for tasks here could wait for ever, and is an error inside another runtime.
        if let Some(runtime) = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take() {
            runtime.shutdown_background();
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
