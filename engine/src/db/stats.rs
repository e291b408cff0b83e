/*!
Counts of a database, its tables and its runs, for planners and for people.
*/

use crate::compaction::{erased, expired, policy};
use crate::error::{Error, ErrorKind, Result};
use crate::key::KeyRange;
use crate::memory::MemoryUse;
use crate::run::{Layout, RunFilterStats};
use crate::scan::plan::{Span, stretches};
use crate::scan::probes::{Part, Probed};
use crate::scan::tree::{RunRef, Tree};
use crate::scan::{Layer, split};
use crate::txn::catalog::Catalog;
use crate::txn::pace::DelayCause;
use crate::txn::store::{Storage, Store, Trees};
use crate::types::{Seq, StorageId, TableDef};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Rows of memtables that are counted one by one.
const COUNTED_MAX: usize = 100_000;

/// Counts of one table, for planners and people. Rows are exact when nothing is overwritten or deleted in upper levels, and none
/// expire; those that have expired are counted until they are removed.
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
    /// Whether all columns of a few rows lie together in it, and not the values of each column.
    pub row_shape: bool,
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
    /// Bytes of its filter; 0 where it has none.
    pub filter_bytes: u64,
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
    /// Bytes of the filters of runs that have been read from since the database was opened; what others have, their files tell.
    pub filter_bytes: u64,
    /// Bytes of them that are in the cache, a part of `cache_bytes`.
    pub filter_cached_bytes: u64,
    /// Keys that they are about.
    pub filter_keys: u64,
    /// Lookups in runs, since the database was opened, that a filter was asked about first.
    pub filter_probes: u64,
    /// Those of them that the filter answered: nothing of the run was read.
    pub filter_refusals: u64,
    /// Those that the filter let pass although the key was not there.
    pub filter_errors: u64,
    /// Lookups in runs since then, of tables that are there, filters or not, that found their key in an upper level.
    pub upper_probes_found: u64,
    /// Those that did not.
    pub upper_probes_vain: u64,
    /// Those that found it in the last level.
    pub last_probes_found: u64,
    /// Those that did not.
    pub last_probes_vain: u64,
    /// Memtables flushed since the database was opened.
    pub flushes: u64,
    /// Merges since then.
    pub compactions: u64,
    /// Bytes of runs that loads wrote since then.
    pub bytes_ingested: u64,
    /// Bytes of all runs written since then.
    pub bytes_written: u64,
    /// Bytes of the runs of upper levels: what deleted rows, old versions and the rows that replace them come to at most.
    /// The rest of `run_bytes` is in last levels, where every row is there once.
    pub upper_bytes: u64,
    /// Bytes of runs that flushes wrote since the database was opened.
    pub bytes_flushed: u64,
    /// Bytes of runs that merges wrote since then.
    pub bytes_merged: u64,
    /// Rows, old versions and tombstones included, that merges have removed since then because they had expired.
    pub expired_rows: u64,
    /// Runs that went so without being read.
    pub expired_runs: u64,
    /// Bytes of records written to the log since then; headers and filling of its frames are not counted.
    pub bytes_logged: u64,
    /// Bytes of user data committed since then: keys and rows of commits that went through the log, and the runs that loads
    /// and large transactions published.
    pub bytes_committed: u64,
    /// Bytes that merges must still read and write until every table is in good order, and full memtables to be flushed. 0
    /// where nothing is due.
    pub debt_bytes: u64,
    /// What the last commit waited because flushes, merges or the log had fallen behind; zero once they have caught up.
    pub delay: Duration,
    /// What all commits since the database was opened have waited so.
    pub delay_total: Duration,
    /// Why commits are slowed down now, if they are.
    pub delay_cause: DelayCause,
}

impl DbStats {
    /// Bytes written to log and runs, by all who write, for each byte of user data since the database was opened; `None` before
    /// there was any.
    pub fn write_amplification(&self) -> Option<f64> {
        let written = self.bytes_written.saturating_add(self.bytes_logged);
        (self.bytes_committed > 0).then(|| ratio(written, self.bytes_committed))
    }

    /// Bytes of runs for each byte of their last levels: how much space versions and deleted rows that are not merged yet take
    /// at most. `None` where last levels are empty.
    pub fn space_amplification(&self) -> Option<f64> {
        let last = self.run_bytes.saturating_sub(self.upper_bytes);
        (last > 0).then(|| ratio(self.run_bytes, last))
    }

    /// Bits that the known filters take for each of their keys; `None` where there are none.
    pub fn filter_bits_per_key(&self) -> Option<f64> {
        (self.filter_keys > 0).then(|| ratio(self.filter_bytes.saturating_mul(8), self.filter_keys))
    }
}

/// Good to some fifteen digits.
fn ratio(a: u64, b: u64) -> f64 {
    a as f64 / b as f64
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
    let upper = |tree: &Tree| tree.upper_runs().map(|run| run.bytes()).sum::<u64>();
    let counted = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let counters = &store.counters;
    let (delay, delay_total) = store.pace.waits();
    let filters = trees().flat_map(|tree| tree.runs()).fold(RunFilterStats::default(), |all, run| {
        let one = run.run.known_filter_stats();
        RunFilterStats {
            bytes: all.bytes + one.bytes,
            cached_bytes: all.cached_bytes + one.cached_bytes,
            keys: all.keys + one.keys,
        }
    });
    let probed = |part| {
        trees().fold(Probed::default(), |all, tree| {
            let one = tree.probes.so_far(part);
            Probed { found: all.found.wrapping_add(one.found), vain: all.vain.wrapping_add(one.vain) }
        })
    };
    let (upper_probes, last_probes) = (probed(Part::Upper), probed(Part::Last));
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
        filter_bytes: filters.bytes,
        filter_cached_bytes: filters.cached_bytes,
        filter_keys: filters.keys,
        filter_probes: cache.filter_probes,
        filter_refusals: cache.filter_refusals,
        filter_errors: cache.filter_errors,
        upper_probes_found: upper_probes.found,
        upper_probes_vain: upper_probes.vain,
        last_probes_found: last_probes.found,
        last_probes_vain: last_probes.vain,
        flushes: counted(&counters.flushes),
        compactions: counted(&counters.compactions),
        bytes_ingested: counted(&counters.bytes_ingested),
        bytes_written: store.output.written(),
        upper_bytes: trees().map(|tree| upper(tree)).sum(),
        bytes_flushed: counted(&counters.bytes_flushed),
        bytes_merged: counted(&counters.bytes_merged),
        expired_rows: counted(&counters.expired_rows),
        expired_runs: counted(&counters.expired_runs),
        bytes_logged: store.logged(),
        bytes_committed: counted(&counters.bytes_committed) + counted(&counters.bytes_published),
        debt_bytes: debt(store, &view.catalog, &view.trees),
        delay,
        delay_total,
        delay_cause: store.pace.cause(),
    }
}

fn debt(store: &Store, catalog: &Catalog, trees: &Trees) -> u64 {
    let now = store.now();
    let rounds = store.rounds.lock().clone();
    let of_merges = |(id, storage): (&StorageId, &Storage)| {
        let rounds = rounds.get(id).map(Vec::as_slice).unwrap_or_default();
        match policy::debt(&storage.tree, rounds) {
            // These have their turn when nothing else is due. Who can't read a run's fences will hear of it elsewhere.
            0 => {
                let mut due = erased::rewrites(&storage.tree, false).unwrap_or_default();
                let expiry = catalog.expiry(*id, now);
                due.extend(
                    expiry.into_iter().flat_map(|e| expired::renewals(&storage.tree, &e, false).unwrap_or_default()),
                );
                due.iter().map(|run| run.bytes()).sum()
            }
            debt => debt,
        }
    };
    let immutables = trees.values().flat_map(|storage| storage.tree.immutables());
    trees.iter().map(of_merges).sum::<u64>() + immutables.map(|mem| count(mem.table.bytes())).sum::<u64>()
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
        // Which rows have expired, only reading them tells.
        rows_exact: table.ttl.is_none() && tree.runs().all(|run| run.run.meta().tombstones == 0),
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
    let alone = || stretches(&spans, &[]).iter().all(|stretch| stretch.sources.len() == 1);
    stats.rows_exact = stats.rows == 0 || (stats.rows_exact && alone());
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
        row_shape: meta.layout == Layout::Row,
        slices: count(run.run.slices()?),
        index_kind: format!("{:?}", stats.index.kind).to_lowercase(),
        index_segments: count(stats.index.segments),
        index_exceptions: count(stats.index.exceptions),
        index_epsilon: count(stats.index.epsilon),
        index_bytes: count(stats.index.bytes),
        residuals: stats.residuals,
        filter_bytes: run.run.filter_stats()?.bytes,
    })
}
