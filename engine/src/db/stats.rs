/*!
Counts of a database, its tables and its runs, for planners and for people.
*/

use crate::error::{Error, ErrorKind, Result};
use crate::key::KeyRange;
use crate::memory::MemoryUse;
use crate::scan::plan::{Span, stretches};
use crate::scan::tree::{RunRef, Tree};
use crate::scan::{Layer, split};
use crate::txn::store::Store;
use crate::types::{Seq, TableDef};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Rows of memtables that are counted one by one.
const COUNTED_MAX: usize = 100_000;

/// Counts of one table, for planners and people. Rows are exact when nothing is overwritten or deleted in upper levels.
#[derive(Debug, Clone, Default)]
pub struct TableStats {
    /// Rows; about so many where they are not exact.
    pub rows: u64,
    /// Whether there are exactly so many rows.
    pub rows_exact: bool,
    /// Bytes of its runs.
    pub bytes_on_disk: u64,
    /// Its runs.
    pub runs: u64,
    /// Bytes of its memtables.
    pub memtable_bytes: u64,
    /// Deleted ranges of keys that may still hide rows.
    pub erased_ranges: u64,
}

/// One run, as `\index` and the loader's summary show it.
#[derive(Debug, Clone, Default)]
pub struct RunStats {
    /// Its id, which names its file.
    pub id: u64,
    /// Its level; the highest number is the last level.
    pub level: u8,
    /// Rows, tombstones included.
    pub rows: u64,
    /// Tombstones.
    pub tombstones: u64,
    /// Bytes of its file.
    pub bytes: u64,
    /// Slices.
    pub slices: u64,
    /// What its index is.
    pub index_kind: String,
    /// Segments of the model.
    pub index_segments: u64,
    /// Slices that the model has as exceptions.
    pub index_exceptions: u64,
    /// How far the model's lines may be off, in slices, before residuals mend it.
    pub index_epsilon: u64,
    /// Bytes of the index.
    pub index_bytes: u64,
    /// How far the model's lines are off, in slices: samples.
    pub residuals: Vec<i32>,
}

/// Counts of the whole database.
#[derive(Debug, Clone, Default)]
pub struct DbStats {
    /// The back end that files go through: "uring", "posix", "memory" or "sim".
    pub io: &'static str,
    /// Why it is this one and not a better one.
    pub io_notice: Option<String>,
    /// Tables.
    pub tables: u64,
    /// Runs.
    pub runs: u64,
    /// Bytes of all runs.
    pub run_bytes: u64,
    /// Bytes of all memtables.
    pub memtable_bytes: u64,
    /// Deleted ranges of keys that may still hide rows.
    pub erased_ranges: u64,
    /// Bytes of log that are kept.
    pub log_bytes: u64,
    /// Bytes that cache, memtables, loads, merges and statements may take together.
    pub memory_limit: u64,
    /// Bytes of it that loads and large transactions have.
    pub memory_writes: u64,
    /// Bytes of it that merges have.
    pub memory_merges: u64,
    /// Bytes of it that statements have.
    pub memory_statements: u64,
    /// Bytes in the cache.
    pub cache_bytes: u64,
    /// Reads that the cache answered.
    pub cache_hits: u64,
    /// Reads that it did not.
    pub cache_misses: u64,
    /// Memtables flushed since the database was opened.
    pub flushes: u64,
    /// Merges since then.
    pub compactions: u64,
    /// Bytes of runs that loads wrote since then.
    pub bytes_ingested: u64,
    /// Bytes of all runs written since then.
    pub bytes_written: u64,
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn memtable_bytes(tree: &Tree) -> u64 {
    tree.mems().filter(|mem| !mem.table.is_empty()).map(|mem| count(mem.table.bytes())).sum()
}

pub(super) fn database(store: &Store) -> DbStats {
    let view = store.view();
    let cache = store.memory.cache().stats();
    let trees = || view.trees.values().map(|storage| &storage.tree);
    DbStats {
        io: store.io.name(),
        io_notice: store.io.notice().map(str::to_owned),
        tables: count(view.catalog.len()),
        runs: count(trees().map(|tree| tree.runs().count()).sum()),
        run_bytes: trees().flat_map(|tree| tree.runs()).map(|run| run.bytes()).sum(),
        memtable_bytes: trees().map(|tree| memtable_bytes(tree)).sum(),
        erased_ranges: trees().map(|tree| count(tree.erased_ranges())).sum(),
        log_bytes: store.log().map_or(0, |log| log.retained_bytes()),
        memory_limit: count(store.memory.limit()),
        memory_writes: count(store.memory.used(MemoryUse::Writes)),
        memory_merges: count(store.memory.used(MemoryUse::Merges)),
        memory_statements: count(store.memory.used(MemoryUse::Statements)),
        cache_bytes: cache.bytes,
        cache_hits: cache.hits,
        cache_misses: cache.misses,
        flushes: store.counters.flushes.load(Ordering::Relaxed),
        compactions: store.counters.compactions.load(Ordering::Relaxed),
        bytes_ingested: store.counters.bytes_ingested.load(Ordering::Relaxed),
        bytes_written: store.output.written(),
    }
}

fn tree_of(store: &Store, table: &TableDef) -> Result<Arc<Tree>> {
    let missing = || Error::new(ErrorKind::NoSuchTable, format!("table {} is not there any more", table.name));
    store.view().trees.get(&table.storage).map(|storage| Arc::clone(&storage.tree)).ok_or_else(missing)
}

pub(super) fn table(store: &Store, table: &TableDef) -> Result<TableStats> {
    let tree = tree_of(store, table)?;
    let mut stats = TableStats {
        bytes_on_disk: tree.runs().map(|run| run.bytes()).sum(),
        runs: count(tree.runs().count()),
        memtable_bytes: memtable_bytes(&tree),
        erased_ranges: count(tree.erased_ranges()),
        rows: tree.runs().map(|run| run.rows().saturating_sub(run.run.meta().tombstones)).sum(),
        rows_exact: tree.runs().all(|run| run.run.meta().tombstones == 0),
    };
    let mut spans: Vec<Span> = tree.runs().map(|run| run.span()).collect();
    let seq = store.view().seq;
    if stats.erased_ranges > 0 {
        let layers: Vec<Layer> = tree.sources().map(|source| Layer { source, at: seq }).collect();
        stats.rows = split::estimate(&layers, &KeyRange::all())?;
        stats.rows_exact = false;
        return Ok(stats);
    }
    for mem in tree.mems().filter(|mem| !mem.table.is_empty()) {
        let all = KeyRange::all();
        let rows = || mem.table.range(&all, seq, false);
        if mem.table.rows() > COUNTED_MAX {
            stats.rows += count(mem.table.rows());
            stats.rows_exact = false;
            continue;
        }
        let puts = rows().filter(|entry| !entry.is_tombstone()).count();
        stats.rows += count(puts);
        stats.rows_exact = stats.rows_exact && puts == rows().count();
        let last = mem.table.range(&all, Seq::MAX, true).next();
        spans.extend(rows().next().zip(last).map(|(first, last)| Span::closed(first.key(), last.key())));
    }
    stats.rows_exact = stats.rows_exact && stretches(&spans, &[]).iter().all(|stretch| stretch.sources.len() == 1);
    Ok(stats)
}

pub(super) fn runs(store: &Store, table: &TableDef) -> Result<Vec<RunStats>> {
    let tree = tree_of(store, table)?;
    tree.runs().map(run_stats).collect()
}

fn run_stats(run: &Arc<RunRef>) -> Result<RunStats> {
    let meta = run.run.meta();
    let stats = run.run.index_stats()?;
    Ok(RunStats {
        id: meta.id.0,
        level: run.level,
        rows: meta.rows,
        tombstones: meta.tombstones,
        bytes: meta.bytes,
        slices: count(run.run.slices()?),
        index_kind: format!("{:?}", stats.index.kind).to_lowercase(),
        index_segments: count(stats.index.segments),
        index_exceptions: count(stats.index.exceptions),
        index_epsilon: count(stats.index.epsilon),
        index_bytes: count(stats.index.bytes),
        residuals: stats.residuals,
    })
}
