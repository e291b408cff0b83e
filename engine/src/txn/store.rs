/*!
What an open database shares between its transactions and its background work: the log, the manifest, the trees of all
storages, the catalog, and the one number that says how far history is visible.

Two locks order everything. The *commit lock* ([`Store::commits`]) is held while a commit is checked, numbered, appended
to the log and put into memtables, so that all three agree on the order. The *state lock* is held for moments only, to
take or replace the catalog and the trees. Neither is held while a log record is synced: commits queue up behind one
sync.

A commit becomes visible when its record is durable, and all commits before it with it: the log syncs in order. Runs are
published with their own durable manifest edit, under the commit lock, after the log before them was synced; so what is
recovered is always a prefix of history.

After a failed write or sync the store is poisoned: reads go on, writes are refused until it is reopened.
*/

use crate::compaction::erased::Cut;
use crate::compaction::output::{Manner, Output};
use crate::compaction::policy::{self, Round};
use crate::error::{Error, ErrorKind, Result};
use crate::io::IoRef;
use crate::io::sync::{Condvar, FirstFailure, Mutex};
use crate::io::thread;
use crate::lease::Leases;
use crate::manifest::{Edit, LoadRecord, Manifest, RunEntry};
use crate::memory::{Memory, MemoryUse};
use crate::run::RunSchema;
use crate::scan::probes::Part;
use crate::scan::tree::{Erased, Mem, RunRef, Source, Tree};
use crate::txn::catalog::{Catalog, SystemTables};
use crate::txn::gate::Gate;
use crate::txn::pace::{DelayCause, Pace, Pressure};
use crate::txn::reserve::Reserve;
use crate::txn::snapshot::Snapshot;
use crate::types::{FilterChoice, RunChoices, RunId, Seq, StorageId, TableDef};
use crate::wal::{Lsn, Wal};
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Memtables that may fill up while others are flushed, where memory is not scarcer.
const MEMTABLES_MAX: usize = 4;

/// Deleted ranges of a memtable that is not set aside for it: every lookup asks each.
const MEMTABLE_RANGES_MAX: usize = 32;

/// How long a commit waits for a flush, where memtables have outgrown their memory by half, before it goes on regardless:
/// it is slowed down, never stopped.
const FLUSH_WAIT_MAX: Duration = Duration::from_secs(1);

/// Sizes that the store keeps to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes of one memtable.
    pub(crate) memtable_bytes: usize,
    /// Bytes of all memtables together.
    pub(crate) memtables_bytes: usize,
    /// Bytes of log that may be needed for memtables.
    pub(crate) log_bytes: u64,
    /// Bytes that the log's files may have beside such records. A commit that is synced alone takes a block.
    pub(crate) log_air_bytes: u64,
    /// Bytes of a segment of the log.
    pub(crate) log_segment_bytes: u64,
    /// Bytes of rows that a transaction keeps in memory before it stages runs.
    pub(crate) buffer_bytes: usize,
    /// Bytes of rows that are sorted at once when they are staged.
    pub(crate) stage_bytes: usize,
    /// Threads that a load may use.
    pub(crate) threads: usize,
    /// Whether runs get filters, where their table leaves that open.
    pub(crate) filter: FilterChoice,
}

/// What all trees of one storage share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The next hidden row id.
    next_row_id: AtomicI64,
    /// The last commit that wrote to it.
    last_commit: AtomicU64,
    pub(crate) gate: Arc<Gate>,
}

impl Shared {
    pub(crate) fn new(next_row_id: i64, last_commit: Seq) -> Arc<Self> {
        Arc::new(Shared {
            next_row_id: AtomicI64::new(next_row_id.max(1)),
            last_commit: AtomicU64::new(last_commit),
            gate: Gate::new(),
        })
    }

    /// Takes `count` row ids that follow each other, and gives the first.
    pub(crate) fn take_row_ids(&self, count: i64) -> i64 {
        self.next_row_id.fetch_add(count, Ordering::AcqRel)
    }

    /// Never gives out `id` or one before it.
    pub(crate) fn skip_row_id(&self, id: i64) {
        self.next_row_id.fetch_max(id.saturating_add(1), Ordering::AcqRel);
    }

    pub(crate) fn next_row_id(&self) -> i64 {
        self.next_row_id.load(Ordering::Acquire)
    }

    pub(crate) fn last_commit(&self) -> Seq {
        self.last_commit.load(Ordering::Acquire)
    }

    pub(crate) fn committed(&self, seq: Seq) {
        self.last_commit.fetch_max(seq, Ordering::AcqRel);
    }
}

/// One storage: its tree, replaced as it changes, and what stays.
#[derive(Debug, Clone)]
pub(crate) struct Storage {
    pub(crate) tree: Arc<Tree>,
    pub(crate) shared: Arc<Shared>,
}

/// The trees of all storages at one moment.
pub(crate) type Trees = BTreeMap<StorageId, Storage>;

/// What readers see.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) seq: Seq,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) trees: Arc<Trees>,
}

#[derive(Debug)]
struct State {
    view: View,
    /// Catalogs of commits that are not visible yet, in their order.
    catalogs: VecDeque<(Seq, Arc<Catalog>)>,
}

/// What the commit lock guards.
#[derive(Debug)]
pub(crate) struct Commits {
    /// The last number that was given.
    pub(crate) last_seq: Seq,
    /// With all commits so far, visible or not.
    pub(crate) catalog: Arc<Catalog>,
}

/// Counts for `stats`.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) flushes: AtomicU64,
    pub(crate) compactions: AtomicU64,
    pub(crate) bytes_ingested: AtomicU64,
    /// Bytes of keys and rows of commits that went through the log.
    pub(crate) bytes_committed: AtomicU64,
    /// Bytes of runs that commits published.
    pub(crate) bytes_published: AtomicU64,
    /// Bytes of runs that flushes and merges wrote.
    pub(crate) bytes_flushed: AtomicU64,
    pub(crate) bytes_merged: AtomicU64,
    /// Rows that merges left out because they had expired, and those of runs that went unread.
    pub(crate) expired_rows: AtomicU64,
    pub(crate) expired_runs: AtomicU64,
}

/// Calls for background work.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// Grows with every call for flushes.
    pub(crate) flush: u64,
    /// Grows with every call for merges.
    pub(crate) compact: u64,
    /// Whether there are threads that hear them.
    pub(crate) attended: bool,
    pub(crate) stop: bool,
}

/// Everything that opening a database finds out.
pub(crate) struct Parts {
    pub(crate) leases: Arc<Leases>,
    pub(crate) limits: Limits,
    pub(crate) memory: Arc<Memory>,
    pub(crate) output: Output,
    pub(crate) log: Option<Wal>,
    pub(crate) manifest: Option<Manifest>,
    pub(crate) view: View,
    pub(crate) next_id: u64,
    pub(crate) next_mem: u64,
    pub(crate) loads: BTreeMap<StorageId, Vec<LoadRecord>>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) io: IoRef,
    pub(crate) dir: PathBuf,
    pub(crate) leases: Arc<Leases>,
    pub(crate) limits: Limits,
    pub(crate) memory: Arc<Memory>,
    pub(crate) output: Output,
    pub(crate) reserve: Reserve,
    pub(crate) system: SystemTables,
    /// `None` where the database was opened for reading only.
    log: Option<Wal>,
    manifest: Mutex<Option<Manifest>>,
    /// Held while runs are published or dropped, so that none is published into a dropped storage, and none into the last level
    /// among keys that another has taken meanwhile. Taken before the commit lock.
    pub(crate) maintenance: Mutex<()>,
    /// Held by whoever flushes: memtables of a storage go in their order, and the log is released in order.
    pub(crate) flushing: Mutex<()>,
    /// Sources that no tree has any more, and that somebody may still read: see [`Store::bury`].
    retired: Mutex<Vec<Source>>,
    /// Held by whoever merges, for one step: two merges of one storage never choose the same runs.
    pub(crate) compacting: Mutex<()>,
    /// Merges under way. Changed by the holder of [`Store::compacting`] only; held for moments.
    pub(crate) rounds: Mutex<BTreeMap<StorageId, Vec<Round>>>,
    state: Mutex<State>,
    pub(crate) commits: Mutex<Commits>,
    loads: Mutex<BTreeMap<StorageId, Vec<LoadRecord>>>,
    next_id: AtomicU64,
    next_mem: AtomicU64,
    poison: FirstFailure,
    closed: AtomicBool,
    /// The latest that the clock has said, in microseconds since 1970-01-01 UTC.
    clock: AtomicI64,
    pub(crate) calls: Mutex<Calls>,
    pub(crate) called: Condvar,
    /// Told whenever a flush is done.
    flushed: Condvar,
    pub(crate) counters: Counters,
    pub(crate) pace: Pace,
    /// Held while the pace is measured, so that an older look never replaces a newer one.
    measuring: Mutex<()>,
    /// Whether memtables have outgrown their memory.
    overfull: AtomicBool,
    /// Where the log ended when the database was opened.
    log_start: Lsn,
}

impl Store {
    pub(crate) fn new(parts: Parts) -> Arc<Store> {
        let commits = Commits { last_seq: parts.view.seq, catalog: Arc::clone(&parts.view.catalog) };
        let log_start = parts.log.as_ref().map_or(0, Wal::appended);
        Arc::new(Store {
            reserve: Reserve::new(parts.leases.io(), parts.leases.dir(), parts.limits.log_segment_bytes),
            io: Arc::clone(parts.leases.io()),
            dir: parts.leases.dir().to_owned(),
            leases: parts.leases,
            limits: parts.limits,
            memory: parts.memory,
            output: parts.output,
            system: SystemTables::new(),
            log: parts.log,
            manifest: Mutex::new(parts.manifest),
            maintenance: Mutex::new(()),
            flushing: Mutex::new(()),
            retired: Mutex::default(),
            compacting: Mutex::new(()),
            rounds: Mutex::default(),
            state: Mutex::new(State { view: parts.view, catalogs: VecDeque::new() }),
            commits: Mutex::new(commits),
            loads: Mutex::new(parts.loads),
            next_id: AtomicU64::new(parts.next_id),
            next_mem: AtomicU64::new(parts.next_mem),
            poison: FirstFailure::default(),
            closed: AtomicBool::new(false),
            clock: AtomicI64::new(i64::MIN),
            calls: Mutex::new(Calls::default()),
            called: Condvar::new(),
            flushed: Condvar::new(),
            counters: Counters::default(),
            pace: Pace::default(),
            measuring: Mutex::new(()),
            overfull: AtomicBool::new(false),
            log_start,
        })
    }

    /// What is visible now.
    pub(crate) fn view(&self) -> View {
        self.state.lock().view.clone()
    }

    /// The time by which rows expire. It never goes back while the database is open, whatever the system's clock does: what has
    /// expired for one reader has expired for all who come later.
    pub(crate) fn now(&self) -> i64 {
        let now = self.io.unix_micros();
        self.clock.fetch_max(now, Ordering::AcqRel).max(now)
    }

    /// What is visible now, to read from.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let view = self.view();
        Snapshot::new(view, self.now())
    }

    pub(crate) fn log(&self) -> Result<&Wal> {
        self.log.as_ref().ok_or_else(|| Error::new(ErrorKind::ReadOnly, "the database was opened for reading only"))
    }

    /// Refuses writes to a store that takes none.
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.log()?;
        if let Some(cause) = self.cause() {
            let message = format!("an earlier write failed ({cause}); the database must be reopened to take writes");
            return Err(Error::new(ErrorKind::Poisoned, message));
        }
        match self.closed.load(Ordering::Acquire) {
            true => Err(Error::invalid("the database is closed")),
            false => Ok(()),
        }
    }

    /// After this, writes are refused.
    pub(crate) fn poison(&self, error: Error) -> Error {
        self.poison.note(|| error.to_string());
        self.called.notify_all();
        self.flushed.notify_all();
        error
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.cause().is_some()
    }

    /// Which write or sync failed, if one did.
    fn cause(&self) -> Option<String> {
        self.poison.cause().or_else(|| self.output.failure())
    }

    /// Closes the log. Later writes are refused.
    pub(crate) fn close(&self) -> Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.bury();
        self.leases.sweep();
        let Some(log) = self.log.as_ref() else { return Ok(()) };
        if self.is_poisoned() {
            // Commits that were acknowledged before they were durable are not: nobody else has told their writers.
            return if log.owes() { self.check_writable() } else { Ok(()) };
        }
        log.close()?;
        let mut manifest = self.manifest.lock();
        let Some(manifest) = manifest.as_mut() else { return Ok(()) };
        // Where the log ends, so that losing its end is seen.
        let end = log.durable();
        if end > manifest.state().wal_durable_to {
            match manifest.apply(Edit { wal_durable_to: Some(end), ..Edit::default() }) {
                // The log's own watermark says so too, unless that is what gets lost.
                Err(error) if error.kind() == ErrorKind::DiskFull => {}
                applied => applied?,
            }
        }
        manifest.close()
    }

    /// A new id for a table or a storage.
    pub(crate) fn take_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::AcqRel)
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.load(Ordering::Acquire)
    }

    pub(crate) fn fresh_mem(&self) -> Arc<Mem> {
        Mem::new(self.next_mem.fetch_add(1, Ordering::AcqRel))
    }

    /// A storage without rows.
    pub(crate) fn fresh_storage(&self, table: &TableDef) -> Result<Storage> {
        let tree = Tree {
            schema: Arc::new(RunSchema::of(table)?),
            active: self.fresh_mem(),
            upper: Vec::new(),
            last: Vec::new(),
            rewrites: 0,
            probes: Arc::default(),
        };
        Ok(Storage { tree: Arc::new(tree), shared: Shared::new(1, 0) })
    }

    /// How new runs of a part of a storage's tree are written. They get filters as the table says, else as the database was opened, else
    /// where lookups look in vain, else as `known` says, which is asked where few have looked.
    pub(crate) fn manner(&self, storage: StorageId, tree: &Tree, part: Part, known: impl FnOnce() -> bool) -> Manner {
        let RunChoices { filter, layout } = self.view().catalog.runs_of(storage);
        let filter = self.filters_as_said(filter).or_else(|| tree.probes.are_in_vain(part));
        Manner { filter: filter.unwrap_or_else(known), layout }
    }

    /// How runs of loads and of large transactions are written, which lie in the upper levels or the last, and mostly in both one after
    /// the other. The table and its tree may be the transaction's own.
    pub(crate) fn manner_of_loads(&self, table: &TableDef) -> Manner {
        let trees = self.view().trees;
        let in_vain = |part| {
            let tree = trees.get(&table.storage).map(|storage| &storage.tree);
            tree.and_then(|tree| tree.probes.are_in_vain(part)).unwrap_or(false)
        };
        let filter = self.filters_as_said(table.runs.filter);
        Manner {
            filter: filter.unwrap_or_else(|| in_vain(Part::Upper) || in_vain(Part::Last)),
            layout: table.runs.layout,
        }
    }

    /// What a table says about filters, or else the database's options; `None` where both leave it open.
    fn filters_as_said(&self, of_table: FilterChoice) -> Option<bool> {
        match if of_table == FilterChoice::Auto { self.limits.filter } else { of_table } {
            FilterChoice::On => Some(true),
            FilterChoice::Off => Some(false),
            FilterChoice::Auto => None,
        }
    }

    /// Replaces trees under the state lock.
    pub(crate) fn change_trees<T>(&self, change: impl FnOnce(&mut Trees) -> T) -> T {
        let mut state = self.state.lock();
        let mut trees = (*state.view.trees).clone();
        let result = change(&mut trees);
        state.view.trees = Arc::new(trees);
        result
    }

    /// Replaces one tree, if its storage is still there.
    pub(crate) fn change_tree(&self, storage: StorageId, change: impl FnOnce(&mut Tree)) {
        self.change_trees(|trees| {
            if let Some(storage) = trees.get_mut(&storage) {
                let mut tree = (*storage.tree).clone();
                change(&mut tree);
                storage.tree = Arc::new(tree);
            }
        });
    }

    /// Notes the catalog of a commit that will be visible later. Under the commit lock.
    pub(crate) fn await_catalog(&self, seq: Seq, catalog: Arc<Catalog>) {
        self.state.lock().catalogs.push_back((seq, catalog));
    }

    /// Makes all commits up to `seq` visible; their log records are durable as far as the mode promises. Gives the trees
    /// that no table has any more.
    pub(crate) fn publish(&self, seq: Seq) -> Vec<(StorageId, Arc<Tree>)> {
        self.publish_trees(seq, None::<fn(&mut Trees)>)
    }

    /// As [`Store::publish`], with a change of trees in the same moment.
    pub(crate) fn publish_with(&self, seq: Seq, change: impl FnOnce(&mut Trees)) -> Vec<(StorageId, Arc<Tree>)> {
        self.publish_trees(seq, Some(change))
    }

    fn publish_trees(&self, seq: Seq, change: Option<impl FnOnce(&mut Trees)>) -> Vec<(StorageId, Arc<Tree>)> {
        let mut state = self.state.lock();
        state.view.seq = state.view.seq.max(seq);
        let before = Arc::clone(&state.view.catalog);
        while state.catalogs.front().is_some_and(|(at, _)| *at <= seq) {
            if let Some((_, catalog)) = state.catalogs.pop_front() {
                state.view.catalog = catalog;
            }
        }
        let after = Arc::clone(&state.view.catalog);
        let mut gone = Vec::new();
        let now = Arc::clone(&state.view.trees);
        let mut trees = Cow::Borrowed(&*now);
        if let Some(change) = change {
            change(trees.to_mut());
        }
        if !Arc::ptr_eq(&before, &after) {
            for id in before.storages().difference(&after.storages()) {
                gone.extend(trees.to_mut().remove(id).map(|storage| (*id, storage.tree)));
            }
        }
        if let Cow::Owned(trees) = trees {
            state.view.trees = Arc::new(trees);
        }
        gone
    }

    /// Makes everything that was appended so far durable and visible, in every sync mode.
    pub(crate) fn settle(&self) -> Result<()> {
        let log = self.log()?;
        let (lsn, seq) = {
            let commits = self.commits.lock();
            (log.appended(), commits.last_seq)
        };
        log.sync_to(lsn).map_err(|error| self.poison(error))?;
        self.drop_storages(self.publish(seq));
        Ok(())
    }

    /// Makes an edit of the manifest durable, the directory's entries before it. `row_ids`: storages whose next row id is
    /// to be noted. A failure poisons: whether the edit is there, only reopening tells.
    pub(crate) fn edit(&self, mut edit: Edit, row_ids: &[(StorageId, Arc<Shared>)]) -> Result<()> {
        if !mutant!(SkipRunDirSync) {
            self.io.sync_dir(&self.dir).map_err(|error| self.poison(error))?;
        }
        let mut manifest = self.manifest.lock();
        let Some(manifest) = manifest.as_mut() else { return self.log().map(drop) };
        edit.wal_durable_to = Some(manifest.state().wal_durable_to.max(self.log()?.durable()));
        // Read under the manifest's lock: these numbers never go back.
        edit.next_run_id = Some(self.output.next_run());
        edit.last_seq = Some(manifest.state().last_seq.max(self.view().seq).max(edit.last_seq.unwrap_or(0)));
        for (storage, shared) in row_ids.iter().filter(|_| !mutant!(RowIdsForgotten)) {
            edit.next_row_ids.push((*storage, u64::try_from(shared.next_row_id()).unwrap_or(0)));
        }
        manifest.apply(edit).map_err(|error| match error.kind() {
            // Everything is as it was.
            ErrorKind::DiskFull | ErrorKind::LimitExceeded => error,
            _ => self.poison(error),
        })
    }

    /// As [`Store::edit`], for an edit that adds `runs`. Their files stay unless it is certain that the edit is not there.
    pub(crate) fn publish_runs<'a>(
        &self,
        runs: impl Iterator<Item = &'a Arc<RunRef>> + Clone,
        edit: Edit,
        row_ids: &[(StorageId, Arc<Shared>)],
    ) -> Result<()> {
        runs.clone().for_each(|run| run.keep());
        self.edit(edit, row_ids).inspect_err(|_| {
            if !self.is_poisoned() {
                runs.for_each(|run| run.doom());
            }
        })
    }

    /// The first position of the log that some memtable needs, but for those in `without`. Under the commit lock, or
    /// later commits might lie before it.
    pub(crate) fn first_needed(&self, _commits: &Commits, without: &[Arc<Mem>]) -> Result<Lsn> {
        let end = self.log()?.appended();
        let trees = self.view().trees;
        let mems = trees.values().flat_map(|storage| storage.tree.mems());
        let needed = mems.filter(|mem| !without.iter().any(|other| Arc::ptr_eq(other, mem)));
        if mutant!(LogReleasedEarly) {
            return Ok(end);
        }
        Ok(needed.filter_map(|mem| mem.first_lsn()).min().unwrap_or(end).min(end))
    }

    /// Calls for flushes.
    pub(crate) fn call_flush(&self) {
        self.calls.lock().flush += 1;
        self.called.notify_all();
    }

    /// Calls for merges.
    pub(crate) fn call_compact(&self) {
        self.calls.lock().compact += 1;
        self.called.notify_all();
    }

    /// Tells commits that wait for a flush.
    pub(crate) fn tell_flushed(&self) {
        // Taken so that nobody misses it between looking and waiting.
        drop(self.calls.lock());
        self.flushed.notify_all();
    }

    /// Bytes of records that went into the log since the database was opened.
    pub(crate) fn logged(&self) -> u64 {
        self.log.as_ref().map_or(0, |log| log.appended().saturating_sub(self.log_start))
    }

    /// Makes a commit of about so many bytes wait where flushes, merges or the log have fallen behind.
    pub(crate) fn throttle(&self, bytes: usize) {
        if !self.pace.is_on() {
            return;
        }
        let begin = self.io.monotonic_nanos();
        if self.overfull.load(Ordering::Acquire) {
            self.await_flush();
        }
        let now = self.io.monotonic_nanos();
        let wait = self.pace.take(now, u64::try_from(bytes).unwrap_or(u64::MAX));
        if !wait.is_zero() {
            thread::sleep(wait);
        }
        self.pace.waited(Duration::from_nanos(now - begin) + wait);
    }

    fn await_flush(&self) {
        let mut calls = self.calls.lock();
        calls.flush += 1;
        self.called.notify_all();
        while self.overfull.load(Ordering::Acquire) && !self.is_poisoned() {
            let timed_out;
            (calls, timed_out) = self.flushed.wait_timeout(calls, FLUSH_WAIT_MAX);
            if timed_out {
                return;
            }
        }
    }

    /// Measures anew how far flushes, merges and the log have fallen behind, after a tree has changed.
    pub(crate) fn measure(&self) {
        let _one = self.measuring.lock();
        let trees = self.view().trees;
        let wide = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        let full = trees.values().flat_map(|s| s.tree.immutables()).map(|mem| wide(mem.table.bytes())).sum::<u64>();
        let memtable = wide(self.limits.memtable_bytes);
        let allowed = wide(self.limits.memtables_bytes).min(memtable.saturating_mul(wide(MEMTABLES_MAX)));
        self.overfull.store(full > allowed + allowed / 2, Ordering::Release);
        let needed = self.log.as_ref().map_or(0, Wal::retained_bytes);
        let log = self.limits.log_bytes;
        let pressure = Pressure::default()
            .or(policy::share(full, allowed / 4, allowed), DelayCause::Flush)
            .or(policy::share(needed, log.saturating_mul(2), log.saturating_mul(4)), DelayCause::LogSpace);
        let of_merges = trees.values().map(|storage| policy::pressure(&storage.tree, memtable)).max();
        self.pace.set(pressure.or(of_merges.unwrap_or(0), DelayCause::MergeDebt));
    }

    /// Sets full memtables aside, and those that pin too much log or memory. Under the commit lock, with the newest trees.
    pub(crate) fn rotate_full(&self, commits: &Commits, trees: &Trees, written: &[StorageId]) -> Result<()> {
        let log = self.log()?;
        let mut full: Vec<StorageId> = Vec::new();
        for id in written {
            let full_mem =
                |mem: &Mem| mem.table.bytes() >= self.limits.memtable_bytes || mem.erased_len() >= MEMTABLE_RANGES_MAX;
            if trees.get(id).is_some_and(|s| full_mem(&s.tree.active)) {
                full.push(*id);
            }
        }
        // Looked at now and then only: all trees are walked.
        if full.is_empty() && !commits.last_seq.is_multiple_of(64) {
            return Ok(());
        }
        let pinned =
            log.appended().saturating_sub(self.limits.log_bytes).max(log.airy_before(self.limits.log_air_bytes));
        let pins = |mem: &Mem| mem.first_lsn().is_some_and(|lsn| lsn < pinned);
        full.extend(trees.iter().filter(|(_, storage)| pins(&storage.tree.active)).map(|(id, _)| *id));
        let bytes: usize = trees.values().flat_map(|s| s.tree.mems()).map(|mem| mem.table.bytes()).sum();
        self.memory.note(MemoryUse::Memtables, bytes);
        // What is being flushed already is not helped by small runs.
        let quarter = self.limits.memtable_bytes / 4;
        if full.is_empty() && bytes > self.limits.memtables_bytes {
            let largest = trees.iter().max_by_key(|(_, s)| s.tree.active.table.bytes());
            full.extend(largest.filter(|(_, s)| s.tree.active.table.bytes() >= quarter).map(|(id, _)| *id));
        }
        // Small ones that are older go along, or the log that these needed could not be released.
        let begins = |id: &StorageId| trees.get(id).and_then(|s| s.tree.active.first_lsn());
        if let Some(newest) = full.iter().filter_map(begins).max() {
            let older = |mem: &Mem| mem.first_lsn().is_some_and(|lsn| lsn < newest) && mem.table.bytes() < quarter;
            let along = trees.iter().filter(|(id, s)| older(&s.tree.active) && !full.contains(id));
            full.extend(along.map(|(id, _)| *id).collect::<Vec<_>>());
        }
        if !full.is_empty() {
            self.rotate(&full);
            self.call_flush();
        }
        Ok(())
    }

    /// Sets the active memtables of storages aside. Under the commit lock.
    pub(crate) fn rotate(&self, storages: &[StorageId]) {
        for id in storages {
            let fresh = self.fresh_mem();
            self.change_tree(*id, |tree| *tree = tree.rotated(fresh));
        }
        self.measure();
    }

    pub(crate) fn loads(&self, storage: StorageId) -> Vec<LoadRecord> {
        self.loads.lock().get(&storage).cloned().unwrap_or_default()
    }

    pub(crate) fn add_loads(&self, loads: &[(StorageId, LoadRecord)]) {
        let mut all = self.loads.lock();
        for (storage, load) in loads {
            all.entry(*storage).or_default().push(load.clone());
        }
    }

    /// Removes runs of storages that no table has any more. The commit that dropped them stands whatever comes of it: the next
    /// open finds that no table has them, and a failure other than a full disk has poisoned the store.
    pub(crate) fn drop_storages(&self, storages: Vec<(StorageId, Arc<Tree>)>) {
        if storages.is_empty() {
            return;
        }
        let _alone = self.maintenance.lock();
        let ids: Vec<StorageId> = storages.iter().map(|(id, _)| *id).collect();
        let drop = || self.edit(Edit { drop_storages: ids.clone(), ..Edit::default() }, &[]);
        let dropped = drop().or_else(|error| match error.kind() {
            ErrorKind::DiskFull if self.reserve.spend() => drop(),
            _ => Err(error),
        });
        if dropped.is_err() {
            return;
        }
        for (_, tree) in &storages {
            tree.runs().for_each(|run| self.doom(run));
        }
        let mut loads = self.loads.lock();
        ids.iter().for_each(|id| {
            loads.remove(id);
        });
    }

    /// Has a run's file go once nobody reads it: by a thread in the background, or where there is none, with its last reader.
    pub(crate) fn doom(&self, run: &Arc<RunRef>) {
        run.doom();
        if self.calls.lock().attended {
            self.retire(Source::Run(Arc::clone(run)));
        }
    }

    /// The manifest's entry of a run.
    pub(crate) fn entry(run: &RunRef) -> RunEntry {
        RunEntry { level: run.level, meta: run.run.meta().clone(), fixed_seq: run.fixed_seq }
    }

    /// Puts a flushed memtable's runs in its place, and behind them its deleted ranges.
    pub(crate) fn replace_mem(&self, storage: StorageId, mem: &Arc<Mem>, runs: &[Arc<RunRef>], erased: &[Arc<Erased>]) {
        self.change_tree(storage, |tree| {
            tree.rewrites += 1;
            let place = tree.upper.iter().position(|s| matches!(s, Source::Mem(other) if Arc::ptr_eq(other, mem)));
            if let Some(place) = place {
                let ranges = erased.iter().cloned().map(Source::Erased);
                tree.upper.splice(place..=place, runs.iter().cloned().map(Source::Run).chain(ranges));
            }
        });
        self.measure();
    }

    /// Keeps a memtable or a run that no tree has any more until [`Store::bury`] finds nobody who reads it.
    pub(crate) fn retire(&self, source: Source) {
        self.retired.lock().push(source);
    }

    /// Gives back what retired sources hold that nobody reads any more: a memtable's memory, a run's file and its part of the cache.
    /// That takes a tenth of a second for each, and is not for whoever happens to be the last to look at one: a commit, mostly.
    pub(crate) fn bury(&self) {
        let free: Vec<Source> = self.retired.lock().extract_if(.., |source| source.is_ours_alone()).collect();
        drop(free);
    }

    /// Whether [`Store::bury`] would give something back.
    pub(crate) fn has_to_bury(&self) -> bool {
        self.retired.lock().iter().any(Source::is_ours_alone)
    }

    /// Takes runs out of a tree and puts others in, by age, and of deleted ranges what is left: the order is that which
    /// recovery finds.
    pub(crate) fn replace_runs(
        &self,
        storage: StorageId,
        old: &[RunId],
        new: &[Arc<RunRef>],
        to_last: bool,
        cuts: &[Cut],
    ) {
        self.change_tree(storage, |tree| {
            tree.rewrites += 1;
            tree.upper = cut_ranges(&tree.upper, cuts);
            let is_old = |run: &Arc<RunRef>| old.contains(&run.id());
            tree.upper.retain(|source| !matches!(source, Source::Run(run) if is_old(run)));
            tree.last.retain(|run| !is_old(run));
            if to_last {
                tree.add_last(new.iter().cloned());
            } else {
                tree.upper.extend(new.iter().cloned().map(Source::Run));
                sort_by_age(&mut tree.upper);
            }
        });
        self.measure();
    }
}

/// Newest first, as recovery sorts them: runs before ranges of the same number, for a commit's rows are newer than its ranges.
fn sort_by_age(sources: &mut [Source]) {
    sources.sort_by_key(|source| match source {
        Source::Mem(mem) => Reverse((mem.max_seq(), 2, RunId(0))),
        Source::Run(run) => Reverse((run.max_seq(), 1, run.id())),
        Source::Erased(erased) => Reverse((erased.seq, 0, RunId(0))),
    });
}

/// The sources with what is left of the ranges that were cut.
fn cut_ranges(sources: &[Source], cuts: &[Cut]) -> Vec<Source> {
    let mut out = Vec::with_capacity(sources.len());
    for source in sources {
        let cut = match source {
            Source::Erased(erased) => cuts.iter().find(|cut| Arc::ptr_eq(&cut.erased, erased)),
            Source::Mem(_) | Source::Run(_) => None,
        };
        match cut {
            Some(cut) => out.extend(cut.left.iter().cloned().map(Source::Erased)),
            None => out.push(source.clone()),
        }
    }
    out
}
