/*!
Background work: flushes, merges, and the log's own chores, each on a thread of its own: a flush never waits for a merge.

Merges go step by step ([`policy`]); every step is published by itself, and between two of them the tables take turns.

A failure poisons the store: the next write reports it. A full disk does not; the work is tried again when it is called
for.
*/

use crate::compaction::erased::{self, Cut};
use crate::compaction::output::Manner;
use crate::compaction::policy::{self, Job, Round, Step};
use crate::compaction::survey::Fences;
use crate::compaction::{self, Merged, expired};
use crate::error::{ErrorKind, Result};
use crate::io::thread::{self, JoinHandle};
use crate::manifest::Edit;
use crate::memory::MemoryUse;
use crate::scan::expiry::Expiry;
use crate::scan::probes::Part;
use crate::scan::tree::{LAST_LEVEL, Mem, RunRef, Source, Tree};
use crate::txn::store::{Calls, Storage, Store};
use crate::types::{RunId, StorageId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often the log is looked after.
const TICK: Duration = Duration::from_millis(20);

/// After how many looks at the log the reserve is looked after.
const RESERVE_TICKS: u64 = 50;

/// After how many there is a look whether readers have let go of files.
const SWEEP_TICKS: u64 = 50;

/// How long work that found the disk full rests.
const FULL_DISK_REST: Duration = Duration::from_secs(1);

/// What a merge takes: batches and chunks on the way out, and a batch of each run on the way in.
const MERGE_BYTES: usize = 8 << 20;
const MERGE_INPUT_BYTES: usize = 2 << 20;

/// How long a run may stay in an upper level while the database is open, and how long one that was there at the opening may:
/// deleted rows and old versions are gone from the files after that.
const RUN_AGE_MAX: Duration = Duration::from_secs(24 * 3600);
const FOUND_RUN_AGE_MAX: Duration = Duration::from_secs(3600);

/// How often there is a look round, where nobody calls.
const REST_MAX: Duration = Duration::from_secs(600);

/// What a thread does until it is stopped.
type Task = fn(&Store);

/// The threads; stopped and waited for by [`Workers::stop`].
#[derive(Debug)]
pub(super) struct Workers {
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    pub(super) fn start(store: &Arc<Store>) -> Result<Workers> {
        let mut workers = Workers { threads: Vec::new() };
        let tasks: [(&str, Task); 3] =
            [("omendb-log", tick), ("omendb-flush", flush_when_called), ("omendb-merge", merge_when_called)];
        for (name, task) in tasks {
            let own = Arc::clone(store);
            match thread::spawn(name, move || task(&own)) {
                Ok(thread) => workers.threads.push(thread),
                Err(error) => {
                    workers.stop(store);
                    return Err(error);
                }
            }
        }
        store.calls.lock().attended = true;
        Ok(workers)
    }

    pub(super) fn stop(self, store: &Store) {
        {
            let mut calls = store.calls.lock();
            (calls.attended, calls.stop) = (false, true);
        }
        store.called.notify_all();
        for thread in self.threads {
            // A thread that panicked has nothing more to say: what it did not publish is not there.
            let _ = thread.join();
        }
    }
}

/// Waits for a call that was not heard yet, or for a long rest to be over; false when it is time to stop.
fn wait(store: &Store, heard: &mut u64, count: fn(&Calls) -> u64) -> bool {
    let mut calls = store.calls.lock();
    let mut rested = false;
    while !calls.stop && !rested && count(&calls) == *heard {
        (calls, rested) = store.called.wait_timeout(calls, REST_MAX);
    }
    *heard = count(&calls);
    !calls.stop
}

/// What to do about an error in the background.
fn rest_after(store: &Store, result: Result<()>) {
    match result {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::DiskFull => {
            if let Err(error) = store.log().and_then(|log| log.give_up_spares()) {
                store.poison(error);
            }
            let calls = store.calls.lock();
            if !calls.stop {
                drop(store.called.wait_timeout(calls, FULL_DISK_REST));
            }
        }
        Err(error) => {
            store.poison(error);
        }
    }
}

fn tick(store: &Store) {
    let mut ticks = 0_u64;
    loop {
        if ticks.is_multiple_of(RESERVE_TICKS)
            && let Err(error) = store.reserve.keep()
        {
            store.poison(error);
            return;
        }
        if ticks.is_multiple_of(SWEEP_TICKS) {
            store.leases.sweep();
        }
        ticks += 1;
        {
            let calls = store.calls.lock();
            if calls.stop {
                return;
            }
            let (calls, _) = store.called.wait_timeout(calls, TICK);
            if calls.stop {
                return;
            }
        }
        if store.has_to_bury() {
            store.call_flush();
        }
        match store.log().and_then(|log| log.tick()) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::DiskFull => {}
            Err(error) => {
                store.poison(error);
                return;
            }
        }
    }
}

fn flush_when_called(store: &Store) {
    thread::step_back();
    let mut heard = 0;
    while wait(store, &mut heard, |calls| calls.flush) {
        if !store.is_poisoned() {
            rest_after(store, flush_immutables(store));
        }
    }
}

fn merge_when_called(store: &Store) {
    thread::step_back();
    let mut heard = 0;
    let mut ages = Ages::default();
    ages.look(store, FOUND_RUN_AGE_MAX);
    while wait(store, &mut heard, |calls| calls.compact) {
        ages.look(store, RUN_AGE_MAX);
        if !store.is_poisoned() {
            rest_after(store, merge_due(store, &ages));
        }
    }
}

/// When upper runs will be old, by the monotonic clock.
#[derive(Debug, Default)]
struct Ages {
    now: u64,
    old_at: BTreeMap<RunId, u64>,
}

impl Ages {
    /// Runs that are new here will be old in `left`.
    fn look(&mut self, store: &Store, left: Duration) {
        self.now = store.io.monotonic_nanos();
        let old_at = self.now.saturating_add(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX));
        let trees = store.view().trees;
        let runs = trees.values().flat_map(|storage| storage.tree.upper_runs()).map(|run| run.id());
        self.old_at = runs.map(|id| (id, self.old_at.get(&id).copied().unwrap_or(old_at))).collect();
    }

    fn is_old(&self, run: &RunRef) -> bool {
        self.old_at.get(&run.id()).is_some_and(|at| *at <= self.now)
    }
}

fn is_stopping(store: &Store) -> bool {
    store.calls.lock().stop
}

/// The oldest full memtable of some storage.
fn oldest_immutable(store: &Store) -> Option<(StorageId, Storage, Arc<Mem>)> {
    let trees = store.view().trees;
    trees.iter().find_map(|(id, storage)| {
        let mem = storage.tree.immutables().next_back()?;
        Some((*id, storage.clone(), Arc::clone(mem)))
    })
}

/// Flushes all full memtables.
pub(super) fn flush_immutables(store: &Store) -> Result<()> {
    let _one = store.flushing.lock();
    store.bury();
    while let Some((id, storage, mem)) = oldest_immutable(store) {
        flush(store, id, &storage, &mem)?;
        drop((storage, mem));
        store.tell_flushed();
        store.call_compact();
        store.bury();
        if is_stopping(store) {
            break;
        }
    }
    Ok(())
}

/// Whether `mem` is the oldest source of its tree.
fn is_oldest(tree: &Tree, mem: &Arc<Mem>) -> bool {
    let last = tree.upper.last();
    tree.last.is_empty() && matches!(last, Some(Source::Mem(other)) if Arc::ptr_eq(other, mem))
}

fn flush(store: &Store, id: StorageId, storage: &Storage, mem: &Arc<Mem>) -> Result<()> {
    // A run holds only what is durable and visible.
    store.settle()?;
    let oldest = is_oldest(&storage.tree, mem);
    let manner = store.manner(id, &storage.tree, Part::Upper, || false);
    let runs = compaction::flush(&store.output, &storage.tree.schema, mem, oldest, manner)?;
    let ranges = if mutant!(ErasedRangeForgottenAtFlush) { Vec::new() } else { erased::of_mem(&storage.tree, mem) };
    let _alone = store.maintenance.lock();
    if !store.view().trees.contains_key(&id) {
        return Ok(());
    }
    let released = {
        let commits = store.commits.lock();
        store.first_needed(&commits, std::slice::from_ref(mem))?
    };
    let edit = Edit {
        add_runs: runs.iter().map(|run| (id, Store::entry(run))).collect(),
        add_erased: ranges.iter().map(|range| (id, erased::entry(range))).collect(),
        flushed_seqs: vec![(id, mem.max_seq())],
        wal_released_to: Some(released),
        ..Edit::default()
    };
    store.publish_runs(runs.iter(), edit, &[(id, Arc::clone(&storage.shared))])?;
    store.replace_mem(id, mem, &runs, &ranges);
    store.retire(Source::Mem(Arc::clone(mem)));
    store.counters.bytes_flushed.fetch_add(runs.iter().map(|run| run.bytes()).sum(), Ordering::Relaxed);
    store.counters.flushes.fetch_add(1, Ordering::Relaxed);
    store.log()?.release_before(released).map_err(|error| store.poison(error))
}

/// Does what the policy asks for, until it asks for nothing: a step of each storage in turn.
fn merge_due(store: &Store, ages: &Ages) -> Result<()> {
    loop {
        let storages: Vec<StorageId> = store.view().trees.keys().copied().collect();
        store.rounds.lock().retain(|id, _| storages.contains(id));
        let mut idle = true;
        for id in storages {
            if is_stopping(store) {
                return Ok(());
            }
            let _one = store.compacting.lock();
            idle &= !merge_some(store, id, ages)?;
            store.bury();
        }
        if idle {
            return Ok(());
        }
    }
}

/// Drops what deleted ranges hide whole, begins what is due, and does one step of what is most urgent; false where there is
/// nothing to do. Under the lock of merges.
fn merge_some(store: &Store, id: StorageId, ages: &Ages) -> Result<bool> {
    let Some(storage) = swept(store, id)? else { return Ok(false) };
    let mut rounds = store.rounds.lock().get(&id).cloned().unwrap_or_default();
    rounds.iter_mut().for_each(|round| round.keep_those_in(&storage.tree));
    rounds.retain(|round| !round.is_done());
    match policy::due(&storage.tree, &rounds, &|run| ages.is_old(run)) {
        Some(Job::Move(run)) => return move_down(store, id, &run).map(|()| true),
        Some(Job::Merge(round)) => rounds.push(round),
        None => {}
    }
    let did_something = match rounds.iter_mut().min_by_key(|round| round.source()) {
        Some(urgent) => step(store, id, urgent).map(|()| true)?,
        None => match erased::rewrites(&storage.tree, false)?.first() {
            Some(run) => rewrite(store, id, run).map(|()| true)?,
            None => renew_some(store, id, &storage.tree)?,
        },
    };
    rounds.retain(|round| !round.is_done());
    let mut all = store.rounds.lock();
    match rounds.is_empty() {
        true => all.remove(&id),
        false => all.insert(id, rounds),
    };
    Ok(did_something)
}

/// Forces a storage into its last level.
pub(super) fn merge_all(store: &Store, id: StorageId) -> Result<()> {
    let _one = store.compacting.lock();
    store.rounds.lock().remove(&id);
    let Some(storage) = swept(store, id)? else { return Ok(()) };
    for job in policy::all(&storage.tree) {
        match job {
            Job::Move(run) => move_down(store, id, &run)?,
            Job::Merge(mut round) => {
                while !round.is_done() {
                    step(store, id, &mut round)?;
                }
            }
        }
    }
    // What deleted ranges hide of runs that met nothing else.
    let Some(storage) = store.view().trees.get(&id).cloned() else { return Ok(()) };
    erased::rewrites(&storage.tree, true)?.iter().try_for_each(|run| rewrite(store, id, run))?;
    let Some(storage) = swept(store, id)? else { return Ok(()) };
    let Some(expiry) = expiry(store, id) else { return Ok(()) };
    expired::renewals(&storage.tree, &expiry, true)?.iter().try_for_each(|run| renew(store, id, run, expiry))
}

/// What has expired of a storage by now.
fn expiry(store: &Store, id: StorageId) -> Option<Expiry> {
    let catalog = store.view().catalog;
    catalog.ttl_of(id).and_then(|_| catalog.expiry(id, store.now()))
}

/// The storage without what deleted ranges hide whole, without ranges that hide nothing any more, and without runs all of
/// whose rows have expired.
fn swept(store: &Store, id: StorageId) -> Result<Option<Storage>> {
    let Some(storage) = store.view().trees.get(&id).cloned() else { return Ok(None) };
    let sweep = erased::sweep(&storage.tree);
    if !sweep.is_empty() {
        replace(store, id, &sweep.runs, &[], LAST_LEVEL, &sweep.cuts, None)?;
    }
    if let Some(expiry) = expiry(store, id) {
        drop_expired(store, id, expiry)?;
    }
    Ok(store.view().trees.get(&id).cloned())
}

/// Drops runs all of whose rows have expired.
fn drop_expired(store: &Store, id: StorageId, expiry: Expiry) -> Result<()> {
    let Some(storage) = store.view().trees.get(&id).cloned() else { return Ok(()) };
    let gone = expired::drops(&storage.tree, &expiry)?;
    if !gone.is_empty() && replace(store, id, &gone, &[], LAST_LEVEL, &[], Some(expiry))? {
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        store.counters.expired_runs.fetch_add(count(gone.len()), Ordering::Relaxed);
        store.counters.expired_rows.fetch_add(gone.iter().map(|run| run.rows()).sum(), Ordering::Relaxed);
    }
    Ok(())
}

/// Writes a run of the last level again of which much has expired; false where there is none.
fn renew_some(store: &Store, id: StorageId, tree: &Tree) -> Result<bool> {
    let Some(expiry) = expiry(store, id) else { return Ok(false) };
    match expired::renewals(tree, &expiry, false)?.first() {
        Some(run) => renew(store, id, run, expiry).map(|()| true),
        None => Ok(false),
    }
}

/// Writes a run of the last level again, without what has expired of it. While no round is under way, as that may write the run
/// anyway.
fn renew(store: &Store, id: StorageId, run: &Arc<RunRef>, expiry: Expiry) -> Result<()> {
    let Some(storage) = store.view().trees.get(&id).cloned() else { return Ok(()) };
    let wanted = MERGE_BYTES.saturating_add(MERGE_INPUT_BYTES);
    let _memory = store.memory.reserve_up_to(MemoryUse::Merges, wanted, wanted);
    let manner = manner(store, id, &storage.tree, LAST_LEVEL, [run]);
    let merged = compaction::renew(&store.output, &storage.tree, run, expiry, manner)?;
    if replace(store, id, std::slice::from_ref(run), &merged.runs, LAST_LEVEL, &[], Some(expiry))? {
        count(store, &merged);
    }
    Ok(())
}

/// How a merge writes into a level. Where nobody has asked for enough keys to tell whether filters are worth it, as after an opening, it
/// is as what that level had before.
fn manner<'r>(
    store: &Store,
    id: StorageId,
    tree: &Tree,
    level: u8,
    inputs: impl IntoIterator<Item = &'r Arc<RunRef>>,
) -> Manner {
    let is_last = level == LAST_LEVEL;
    let part = if is_last { Part::Last } else { Part::Upper };
    // A run that can't be read says so to the merge itself.
    let has_filter = |run: &&Arc<RunRef>| run.run.filter_stats().is_ok_and(|stats| stats.bytes > 0);
    let known = || inputs.into_iter().filter(|run| (run.level == LAST_LEVEL) == is_last).any(|run| has_filter(&run));
    store.manner(id, tree, part, known)
}

fn count(store: &Store, merged: &Merged) {
    let bytes = merged.runs.iter().map(|run| run.bytes()).sum();
    store.counters.bytes_merged.fetch_add(bytes, Ordering::Relaxed);
    store.counters.compactions.fetch_add(1, Ordering::Relaxed);
    store.counters.expired_rows.fetch_add(merged.expired, Ordering::Relaxed);
}

/// Writes a run of the last level again, without what deleted ranges hide of it. While no round is under way.
fn rewrite(store: &Store, id: StorageId, run: &Arc<RunRef>) -> Result<()> {
    let Some(storage) = store.view().trees.get(&id).cloned() else { return Ok(()) };
    let step = Step::rewrite(run);
    let cuts = erased::cut_for_step(&storage.tree, &step, None)?;
    merge(store, id, &storage.tree, &step, &cuts).map(drop)
}

/// Puts a run into the last level as it is.
fn move_down(store: &Store, id: StorageId, run: &Arc<RunRef>) -> Result<()> {
    let _alone = store.maintenance.lock();
    let Some(storage) = store.view().trees.get(&id).cloned() else { return Ok(()) };
    let cuts = erased::cut_for_move(&storage.tree, run)?;
    let edit = Edit {
        move_runs: vec![(run.id(), LAST_LEVEL)],
        remove_erased: erased::gone(id, &cuts),
        add_erased: erased::left(id, &cuts),
        ..Edit::default()
    };
    store.edit(edit, &[])?;
    let moved = run.moved(LAST_LEVEL, run.fixed_seq);
    store.replace_runs(id, &[run.id()], &[moved], true, &cuts);
    Ok(())
}

/// Does a round's next step, on the tree as it is now.
fn step(store: &Store, id: StorageId, round: &mut Round) -> Result<()> {
    let Some(storage) = store.view().trees.get(&id).cloned() else {
        round.give_up();
        return Ok(());
    };
    let tree = &storage.tree;
    let step = round.step(tree, &Fences, store.output.run_bytes())?;
    let cuts = erased::cut_for_step(tree, &step, Some(round))?;
    let published = match (step.upper.is_empty(), step.gone.is_empty()) {
        (false, _) => merge(store, id, tree, &step, &cuts)?,
        (true, false) => replace(store, id, &step.gone, &[], step.level, &cuts, None)?,
        (true, true) => true,
    };
    if published {
        round.advance(&step);
    }
    Ok(())
}

/// As [`replace`].
fn merge(store: &Store, id: StorageId, tree: &Tree, step: &Step, cuts: &[Cut]) -> Result<bool> {
    let inputs = step.upper.len() + step.last.len();
    let wanted = MERGE_BYTES.saturating_add(inputs.saturating_mul(MERGE_INPUT_BYTES));
    let _memory = store.memory.reserve_up_to(MemoryUse::Merges, wanted, wanted);
    let expiry = expiry(store, id);
    let manner = manner(store, id, tree, step.level, step.upper.iter().chain(&step.last));
    let merged = compaction::merge(&store.output, tree, step, expiry, manner)?;
    let published = replace(store, id, &step.gone, &merged.runs, step.level, cuts, expiry)?;
    if published {
        count(store, &merged);
    }
    Ok(published)
}

/// Publishes runs in the place of others, without what has expired at `expiry`. False where a load has put rows among those of a
/// run meanwhile, or where rows have come to expire otherwise: what was written is dropped, and the step done again.
fn replace(
    store: &Store,
    id: StorageId,
    gone: &[Arc<RunRef>],
    runs: &[Arc<RunRef>],
    level: u8,
    cuts: &[Cut],
    expiry: Option<Expiry>,
) -> Result<bool> {
    if expiry.is_some() {
        // What was left out must not be missing after a crash that takes away the commit which said that it expires.
        store.settle()?;
    }
    // Who changes when rows expire has this, too, until it is visible: nothing goes that is there for its readers.
    let _alone = store.maintenance.lock();
    let Some(storage) = store.view().trees.get(&id).cloned() else { return Ok(true) };
    let old: Vec<_> = gone.iter().map(|run| run.id()).collect();
    let in_the_way =
        |other: &&Arc<RunRef>| !old.contains(&other.id()) && runs.iter().any(|run| run.overlaps(&other.span()));
    if level == LAST_LEVEL && storage.tree.last.iter().any(|run| in_the_way(&run)) {
        return Ok(false);
    }
    if expiry.is_some_and(|expiry| store.view().catalog.ttl_of(id) != Some(expiry.ttl)) {
        return Ok(false);
    }
    let edit = Edit {
        add_runs: runs.iter().map(|run| (id, Store::entry(run))).collect(),
        remove_runs: old.clone(),
        remove_erased: erased::gone(id, cuts),
        add_erased: erased::left(id, cuts),
        ..Edit::default()
    };
    store.publish_runs(runs.iter(), edit, &[])?;
    store.replace_runs(id, &old, runs, level == LAST_LEVEL, cuts);
    gone.iter().for_each(|run| store.doom(run));
    Ok(true)
}

#[cfg(test)]
mod expiry_tests;
#[cfg(test)]
mod tests;
