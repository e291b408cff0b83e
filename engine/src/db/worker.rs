/*!
Background work: flushes, merges, and the log's own chores, each on a thread of its own.

A failure poisons the store: the next write reports it. A full disk does not; the work is tried again when it is called
for.
*/

use crate::compaction;
use crate::compaction::erased::{self, Cut};
use crate::compaction::policy::{self, Job};
use crate::error::{ErrorKind, Result};
use crate::io::thread::{self, JoinHandle};
use crate::manifest::Edit;
use crate::memory::MemoryUse;
use crate::scan::tree::{LAST_LEVEL, Mem, RunRef, Source, Tree};
use crate::txn::store::{Calls, Storage, Store};
use crate::types::StorageId;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often the log is looked after.
const TICK: Duration = Duration::from_millis(20);

/// After how many looks at the log the reserve is looked after.
const RESERVE_TICKS: u64 = 50;

/// How long work that found the disk full rests.
const FULL_DISK_REST: Duration = Duration::from_secs(1);

/// What a merge takes: batches and chunks on the way out, and a batch of each run on the way in.
const MERGE_BYTES: usize = 8 << 20;
const MERGE_INPUT_BYTES: usize = 2 << 20;

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
        Ok(workers)
    }

    pub(super) fn stop(self, store: &Store) {
        store.calls.lock().stop = true;
        store.called.notify_all();
        for thread in self.threads {
            // A thread that panicked has nothing more to say: what it did not publish is not there.
            let _ = thread.join();
        }
    }
}

/// Waits for a call that was not heard yet; false when it is time to stop.
fn wait(store: &Store, heard: &mut u64, count: fn(&Calls) -> u64) -> bool {
    let mut calls = store.calls.lock();
    while !calls.stop && count(&calls) == *heard {
        calls = store.called.wait(calls);
    }
    *heard = count(&calls);
    !calls.stop
}

/// What to do about an error in the background.
fn rest_after(store: &Store, result: Result<()>) {
    match result {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::DiskFull => {
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
    let mut heard = 0;
    while wait(store, &mut heard, |calls| calls.flush) {
        if !store.is_poisoned() {
            rest_after(store, flush_immutables(store));
        }
    }
}

fn merge_when_called(store: &Store) {
    let mut heard = 0;
    while wait(store, &mut heard, |calls| calls.compact) {
        if !store.is_poisoned() {
            rest_after(store, merge_due(store));
        }
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
    while let Some((id, storage, mem)) = oldest_immutable(store) {
        flush(store, id, &storage, &mem)?;
        store.tell_flushed();
        store.call_compact();
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
    let runs = compaction::flush(&store.output, &storage.tree.schema, mem, oldest)?;
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
    store.counters.flushes.fetch_add(1, Ordering::Relaxed);
    store.log()?.release_before(released).map_err(|error| store.poison(error))
}

/// Does what the policy asks for, until it asks for nothing.
fn merge_due(store: &Store) -> Result<()> {
    let storages: Vec<StorageId> = store.view().trees.keys().copied().collect();
    for id in storages {
        loop {
            let _one = store.compacting.lock();
            let Some(storage) = store.view().trees.get(&id).cloned() else { break };
            sweep(store, id, &storage.tree)?;
            let Some(storage) = store.view().trees.get(&id).cloned() else { break };
            let mut jobs = policy::pick(&storage.tree);
            if jobs.is_empty() {
                jobs = erased::rewrites(&storage.tree, false)?;
            }
            if jobs.is_empty() || is_stopping(store) {
                break;
            }
            for job in jobs {
                run(store, id, job)?;
            }
        }
    }
    Ok(())
}

/// Forces a storage into its last level.
pub(super) fn merge_all(store: &Store, id: StorageId) -> Result<()> {
    let _one = store.compacting.lock();
    let Some(storage) = store.view().trees.get(&id).cloned() else { return Ok(()) };
    sweep(store, id, &storage.tree)?;
    let Some(storage) = store.view().trees.get(&id).cloned() else { return Ok(()) };
    for job in policy::all(&storage.tree) {
        run(store, id, job)?;
    }
    // What deleted ranges hide of runs that met nothing else.
    let Some(storage) = store.view().trees.get(&id).cloned() else { return Ok(()) };
    for job in erased::rewrites(&storage.tree, true)? {
        run(store, id, job)?;
    }
    Ok(())
}

/// Drops what deleted ranges hide whole, and ranges that hide nothing any more.
fn sweep(store: &Store, id: StorageId, tree: &Tree) -> Result<()> {
    let sweep = erased::sweep(tree);
    match sweep.is_empty() {
        true => Ok(()),
        false => replace(store, id, &sweep.runs, &[], LAST_LEVEL, &sweep.cuts),
    }
}

/// Does a job on the tree as it is now; nobody else merges meanwhile.
fn run(store: &Store, id: StorageId, job: Job) -> Result<()> {
    let Some(storage) = store.view().trees.get(&id).cloned() else { return Ok(()) };
    let tree = &storage.tree;
    match job {
        Job::Move(run) => {
            let _alone = store.maintenance.lock();
            if !store.view().trees.contains_key(&id) {
                return Ok(());
            }
            let cuts = erased::cut(tree, std::slice::from_ref(&run), false)?;
            let edit = Edit {
                move_runs: vec![(run.id(), LAST_LEVEL)],
                remove_erased: erased::gone(id, &cuts),
                add_erased: erased::left(id, &cuts),
                ..Edit::default()
            };
            store.edit(edit, &[])?;
            let moved = run.moved(LAST_LEVEL, run.fixed_seq);
            store.replace_runs(id, &[run.id()], &[moved], true, &cuts);
        }
        Job::Merge { inputs, level } => {
            let wanted = MERGE_BYTES.saturating_add(inputs.len().saturating_mul(MERGE_INPUT_BYTES));
            let _memory = store.memory.reserve_up_to(MemoryUse::Merges, wanted, wanted);
            let cuts = if level == LAST_LEVEL { erased::cut(tree, &inputs, true)? } else { Vec::new() };
            let runs = compaction::merge(&store.output, tree, &inputs, level)?;
            replace(store, id, &inputs, &runs, level, &cuts)?;
            store.counters.compactions.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

fn replace(
    store: &Store,
    id: StorageId,
    inputs: &[Arc<RunRef>],
    runs: &[Arc<RunRef>],
    level: u8,
    cuts: &[Cut],
) -> Result<()> {
    let _alone = store.maintenance.lock();
    if !store.view().trees.contains_key(&id) {
        return Ok(());
    }
    let old: Vec<_> = inputs.iter().map(|run| run.id()).collect();
    let edit = Edit {
        add_runs: runs.iter().map(|run| (id, Store::entry(run))).collect(),
        remove_runs: old.clone(),
        remove_erased: erased::gone(id, cuts),
        add_erased: erased::left(id, cuts),
        ..Edit::default()
    };
    store.publish_runs(runs.iter(), edit, &[])?;
    store.replace_runs(id, &old, runs, level == LAST_LEVEL, cuts);
    inputs.iter().for_each(|run| run.doom());
    Ok(())
}
