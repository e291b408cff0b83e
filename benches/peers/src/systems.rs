/*!
The systems, behind one small trait, and what is the same for all of them: how durable a commit is, and how much memory there
is for cache and memtables.

What a system has under another name is chosen as its users would and as near to the others as it comes; each module says what
was chosen. Nothing is tuned for these workloads.
*/

mod duckdb;
mod fjall;
mod lmdb;
mod omendb;
mod postgresql;
pub(crate) mod programs;
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;
mod sqlite;

use crate::rows::{KEY_BYTES, Row};
use crate::sql::{Sql, SqlSetup};
use crate::workloads::Done;
use serde::{Deserialize, Serialize};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Errors are for people: the program stops at the first.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How long a commit may wait for its sync where that is periodic.
pub(crate) const PERIOD: Duration = Duration::from_millis(100);

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum System {
    /// OmenDB's engine.
    Omendb,
    /// RocksDB.
    Rocksdb,
    /// fjall.
    Fjall,
    /// redb.
    Redb,
    /// LMDB.
    Lmdb,
    /// SQLite.
    Sqlite,
    /// PostgreSQL's server.
    Postgresql,
    /// DuckDB.
    Duckdb,
    /// DuckDB without a key, its rows sorted while they are loaded; SQL only.
    #[serde(rename = "duckdb-sorted")]
    DuckdbSorted,
}

/// What is measured of a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Durable commits.
    Commits,
    /// Everything else that is done to a store of keys and values.
    Store,
    /// SQL.
    Sql,
}

impl System {
    /// As it is called, with the version that is compared.
    pub(crate) fn title(self) -> &'static str {
        match self {
            System::Omendb => "OmenDB",
            System::Rocksdb => "RocksDB 11.8",
            System::Fjall => "fjall 3.1",
            System::Redb => "redb 4.6",
            System::Lmdb => "LMDB 0.9",
            System::Sqlite => "SQLite 3.54",
            System::Postgresql => "PostgreSQL",
            System::Duckdb => "DuckDB",
            System::DuckdbSorted => "DuckDB, sorted, no key",
        }
    }

    /// As its directory is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            System::Omendb => "omendb",
            System::Rocksdb => "rocksdb",
            System::Fjall => "fjall",
            System::Redb => "redb",
            System::Lmdb => "lmdb",
            System::Sqlite => "sqlite",
            System::Postgresql => "postgresql",
            System::Duckdb => "duckdb",
            System::DuckdbSorted => "duckdb-sorted",
        }
    }

    /// Whether it has a part in this. Those with a server or a process of their own are asked for what their users ask of them, and not
    /// for single reads through a pipe.
    pub(crate) fn takes(self, part: Part) -> bool {
        match self {
            System::Omendb => true,
            System::Postgresql | System::Duckdb => part != Part::Store,
            System::DuckdbSorted => part == Part::Sql,
            System::Rocksdb | System::Fjall | System::Redb | System::Lmdb | System::Sqlite => part != Part::Sql,
        }
    }

    /// Looks for what it needs on this machine; the error says what is missing, and how to get it.
    pub(crate) fn look(self, part: Part, tools: &Tools) -> Result<()> {
        match self {
            System::Omendb if part == Part::Sql => {
                programs::program(tools, "omendb")?;
                programs::program(tools, "omendb-load").map(|_| ())
            }
            #[cfg(not(feature = "rocksdb"))]
            System::Rocksdb => Err("this was built without it (--no-default-features)".into()),
            System::Postgresql => postgresql::programs(tools).map(|_| ()),
            System::Duckdb | System::DuckdbSorted => duckdb::look(tools),
            _ => Ok(()),
        }
    }
}

/// When a commit is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Durability {
    /// When it is on the device.
    Synced,
    /// At once; it is on the device [`PERIOD`] later.
    Periodic,
}

/// Where systems are that are programs.
#[derive(Debug, Clone, Serialize, Deserialize, clap::Args)]
pub(crate) struct Tools {
    /// Directory with OmenDB's programs omendb, omendb-load and metrics-data, for the workload in SQL.
    #[arg(long, env = "PEERS_PROGRAMS")]
    pub(crate) programs: Option<PathBuf>,
    /// A Python that has the module duckdb.
    #[arg(long, env = "PEERS_PYTHON", default_value = "python3")]
    pub(crate) python: PathBuf,
    /// Directory with PostgreSQL's programs postgres and initdb [default: the newest in /usr/lib/postgresql].
    #[arg(long, env = "PEERS_POSTGRESQL")]
    pub(crate) postgresql: Option<PathBuf>,
}

/// What every system is opened with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) tools: Tools,
    pub(crate) dir: PathBuf,
    pub(crate) durability: Durability,
    /// Bytes of the cache of what is on disk.
    pub(crate) cache_bytes: usize,
    /// Bytes of one memtable.
    pub(crate) memtable_bytes: usize,
    /// Nothing leaves the log: memtables hold all of it, and there is no checkpoint.
    pub(crate) keeps_log: bool,
}

/// Full memtables that may wait for their flush, everywhere.
const MEMTABLES: usize = 4;

impl Setup {
    /// Bytes of log that are never too many: all memtables' worth and more.
    fn log_bytes_max(&self) -> u64 {
        self.memtable_bytes as u64 * MEMTABLES as u64 * 2
    }
}

/// A number that says how a system is at a moment.
pub(crate) type Gauge = (&'static str, u64);

/// A view for many reads, as their users have it: a snapshot, a transaction, prepared statements.
pub(crate) trait Reader {
    /// Hands the value of a key to `each`; false where there is none.
    fn get(&mut self, key: &[u8; KEY_BYTES], each: &mut dyn FnMut(&[u8])) -> Result<bool>;
    /// Hands the values of many keys to `each`, with the place of their key among `keys`. One by one where the system has nothing for
    /// that.
    fn get_many(&mut self, keys: &[[u8; KEY_BYTES]], each: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        for (place, key) in keys.iter().enumerate() {
            self.get(key, &mut |value| each(place, value))?;
        }
        Ok(())
    }
    /// Hands so many rows from a key on to `each`, in order.
    fn scan(&mut self, from: &[u8; KEY_BYTES], rows: usize, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<()>;
}

/// An open database of keys and values. What a plain B-tree has nothing of is nothing, unless a system says otherwise.
pub(crate) trait Store: Sync {
    /// Writes rows in one transaction of their own.
    fn commit(&self, rows: &[Row]) -> Result<()>;
    /// Makes everything that was acknowledged durable. Called every [`PERIOD`] by a thread, where the system has none of its own
    /// for that and durability is periodic.
    fn harden(&self) -> Result<()>;
    /// Whether somebody has to call [`Store::harden`].
    fn wants_hardening(&self) -> bool;
    /// The value of a key.
    fn get(&self, key: &[u8; KEY_BYTES]) -> Result<Option<Vec<u8>>>;
    /// Hands a view for many reads to `with`.
    fn read(&self, with: &mut dyn FnMut(&mut dyn Reader) -> Result<()>) -> Result<()>;
    /// Rows, counted by reading all of them where the system lets one.
    fn count(&self) -> Result<u64>;
    /// Writes what is in memory to where it stays, and has begun what is to be merged.
    fn flush(&self) -> Result<()>;
    /// Merges everything into as few levels as there can be, and waits for that.
    fn compact(&self) -> Result<()> {
        Ok(())
    }
    /// Whether background work is known to go on. A system that cannot say answers no; whoever asks also looks at the bytes
    /// that are written.
    fn is_busy(&self) -> Result<bool> {
        Ok(false)
    }
    /// Bytes of log that recovery would read.
    fn log_bytes(&self) -> Result<u64> {
        Ok(0)
    }
    /// Has so many writers commit single rows, each in a loop, and says what they did. None where [`Store::commit`] does that as well:
    /// it doesn't where the system is a library of another process.
    fn commit_loops(&self, _writers: u64, _warmup: Duration, _length: Duration) -> Result<Option<Vec<Done>>> {
        Ok(None)
    }
    /// Other processes that work for it.
    fn processes(&self) -> Vec<u32> {
        Vec::new()
    }
    /// How it is now.
    fn gauges(&self) -> Result<Vec<Gauge>> {
        Ok(Vec::new())
    }
    /// What else is to be known about it: its back end for files, how commits are grouped.
    fn note(&self) -> Result<String>;
}

/// Opens or makes a database.
pub(crate) fn open(system: System, setup: &Setup) -> Result<Box<dyn Store>> {
    std::fs::create_dir_all(&setup.dir)?;
    Ok(match system {
        System::Omendb => Box::new(omendb::Omen::open(setup)?),
        #[cfg(feature = "rocksdb")]
        System::Rocksdb => Box::new(rocksdb::Rocks::open(setup)?),
        #[cfg(not(feature = "rocksdb"))]
        System::Rocksdb => return Err("this was built without RocksDB".into()),
        System::Fjall => Box::new(fjall::Fjall::open(setup)?),
        System::Redb => Box::new(redb::Redb::open(setup)?),
        System::Lmdb => Box::new(lmdb::Lmdb::open(setup)?),
        System::Sqlite => Box::new(sqlite::Sqlite::open(setup)?),
        System::Postgresql => Box::new(postgresql::Postgres::open(setup)?),
        System::Duckdb => Box::new(duckdb::Duck::open(setup)?),
        System::DuckdbSorted => return Err("a table without a key is measured in SQL alone".into()),
    })
}

/// Opens or makes a database of tables.
pub(crate) fn open_sql(system: System, setup: &SqlSetup) -> Result<Box<dyn Sql>> {
    std::fs::create_dir_all(&setup.dir)?;
    Ok(match system {
        System::Omendb => Box::new(programs::Programs::open(setup)?),
        System::Postgresql => Box::new(postgresql::PostgresSql::open(setup)?),
        System::Duckdb | System::DuckdbSorted => Box::new(duckdb::DuckSql::open(system, setup)?),
        other => return Err(format!("{} has no SQL here", other.title()).into()),
    })
}

/// Bytes of the files in a directory and below whose names end in `suffix`: those that were written.
fn bytes_of(dir: &Path, suffix: &str) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        // A file may go while it is looked at.
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() {
            bytes += bytes_of(&entry.path(), suffix)?;
        } else if entry.file_name().to_string_lossy().ends_with(suffix) {
            // A log that is longer than its blocks has a hole at its end, one with more blocks than bytes has some in reserve.
            bytes += meta.len().min(meta.blocks() * 512);
        }
    }
    Ok(bytes)
}
