/*!
How a database is opened: all that can be set, each with its bounds. What is outside of them is refused, never bent into them, so
that whoever sets something has what was set.
*/

use crate::error::{Error, Result};
use crate::io::{self, IoRef};
use crate::manifest::EDITS_BYTES_MIN;
use crate::model::IndexChoice;
use crate::types::FilterChoice;
use crate::wal::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SyncMode};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// Memtables smaller than a page of the device would make runs of a few rows; larger ones make recovery take minutes.
const MEMTABLE_BYTES: RangeInclusive<usize> = 1 << 10..=4 << 30;
/// Below this a load could not hold a row, its sorted copy and a run's writer at the same time.
const MEMORY_BYTES_MIN: usize = 16 << 20;
const RUN_BYTES: RangeInclusive<u64> = 1 << 10..=1 << 40;
const MANIFEST_BYTES: RangeInclusive<u64> = 4 << 10..=1 << 30;
const THREADS: RangeInclusive<usize> = 1..=1024;

/// How to open a database.
#[derive(Debug, Clone)]
pub struct Options {
    /// The directory; `None` for a database in memory.
    pub dir: Option<PathBuf>,
    /// Make the database if the directory is absent or empty.
    pub create: bool,
    /// Open for reading only, beside a writer, at the state as at open.
    pub read_only: bool,
    /// When a commit is acknowledged.
    pub sync: SyncMode,
    /// Bytes of one memtable before it is flushed: 1 KiB to 4 GiB.
    pub memtable_bytes: usize,
    /// Bytes of the cache at most, 0 for none; it has what others leave of `memory_bytes`.
    pub cache_bytes: usize,
    /// Bytes that the database may take in all, at least 16 MiB: cache, memtables, loads, merges, and what statements reserve
    /// through [`super::Db::memory`]. A quarter of the machine's by default.
    pub memory_bytes: usize,
    /// Bytes of one segment of the log: 16 KiB to 1 GiB, cut to whole blocks.
    pub log_segment_bytes: u64,
    /// Bytes of a run at which the next one is begun, 1 KiB to 1 TiB. A merge takes about as much at a time.
    pub run_bytes: u64,
    /// Bytes of edits that gather in a manifest file before the next one is begun, unless the state is larger: 4 KiB to 1 GiB.
    pub manifest_bytes: u64,
    /// Which index runs get.
    pub index: IndexChoice,
    /// Whether runs get filters, where their table leaves that open.
    pub filter: FilterChoice,
    /// Threads that a load may use: 1 to 1,024.
    pub threads: usize,
    /// Whether threads of the engine's own flush, merge and look after the log. Without them that is done by
    /// [`super::Db::flush`] and [`super::Db::compact`] only: for tests that must run on one thread.
    pub background: bool,
    /// Files, clocks and randomness; `None` for those of the system ([`io::platform`]), or of memory where there is no
    /// directory.
    pub io: Option<IoRef>,
}

impl Options {
    /// A database in memory.
    pub fn memory() -> Self {
        let memory_bytes = default_memory_bytes();
        Options {
            dir: None,
            create: true,
            read_only: false,
            sync: SyncMode::Always,
            memtable_bytes: 64 << 20,
            cache_bytes: memory_bytes / 2,
            memory_bytes,
            log_segment_bytes: 64 << 20,
            run_bytes: 256 << 20,
            manifest_bytes: EDITS_BYTES_MIN,
            index: IndexChoice::Auto,
            filter: FilterChoice::Auto,
            threads: io::thread::parallelism().clamp(*THREADS.start(), *THREADS.end()),
            background: true,
            io: None,
        }
    }

    /// A database in `dir`, made if it is not there.
    pub fn dir(dir: impl Into<PathBuf>) -> Self {
        Options { dir: Some(dir.into()), ..Options::memory() }
    }

    /// That everything is within its bounds. `InvalidArgument` names what is not, and its bounds.
    pub(super) fn check(&self) -> Result<()> {
        within("memtable_bytes", self.memtable_bytes, &MEMTABLE_BYTES)?;
        if self.memory_bytes < MEMORY_BYTES_MIN {
            let sentence =
                format!("memory_bytes is {}; it must be {MEMORY_BYTES_MIN} (16 MiB) at least", self.memory_bytes);
            return Err(Error::invalid(sentence));
        }
        within("log_segment_bytes", self.log_segment_bytes, &(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX))?;
        within("run_bytes", self.run_bytes, &RUN_BYTES)?;
        within("manifest_bytes", self.manifest_bytes, &MANIFEST_BYTES)?;
        within("threads", self.threads, &THREADS)
    }
}

fn within<T: PartialOrd + Display>(name: &str, value: T, bounds: &RangeInclusive<T>) -> Result<()> {
    if bounds.contains(&value) {
        return Ok(());
    }
    let (least, most) = (bounds.start(), bounds.end());
    Err(Error::invalid(format!("{name} is {value}; it can be from {least} to {most}")))
}

/// A quarter of what the machine has, or lets this process have.
fn default_memory_bytes() -> usize {
    let quarter = io::machine_memory_bytes().and_then(|bytes| usize::try_from(bytes / 4).ok());
    quarter.unwrap_or(1 << 30).max(256 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::db::Db;

    #[test]
    fn what_is_out_of_its_bounds_is_refused_by_name() {
        let cases: [(&str, Options); 10] = [
            ("memtable_bytes", Options { memtable_bytes: 1023, ..Options::memory() }),
            ("memtable_bytes", Options { memtable_bytes: (4 << 30) + 1, ..Options::memory() }),
            ("memory_bytes", Options { memory_bytes: (16 << 20) - 1, ..Options::memory() }),
            ("log_segment_bytes", Options { log_segment_bytes: (16 << 10) - 1, ..Options::memory() }),
            ("log_segment_bytes", Options { log_segment_bytes: (1 << 30) + 1, ..Options::memory() }),
            ("run_bytes", Options { run_bytes: 1023, ..Options::memory() }),
            ("run_bytes", Options { run_bytes: (1 << 40) + 1, ..Options::memory() }),
            ("manifest_bytes", Options { manifest_bytes: 4095, ..Options::memory() }),
            ("threads", Options { threads: 0, ..Options::memory() }),
            ("threads", Options { threads: 1025, ..Options::memory() }),
        ];
        for (name, options) in cases {
            let error = Db::open(options).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn the_bounds_themselves_are_accepted() {
        let least = Options {
            memtable_bytes: 1 << 10,
            cache_bytes: 0,
            memory_bytes: 16 << 20,
            log_segment_bytes: 16 << 10,
            run_bytes: 1 << 10,
            manifest_bytes: 4 << 10,
            threads: 1,
            ..Options::memory()
        };
        Db::open(least).unwrap().close().unwrap();
    }
}
