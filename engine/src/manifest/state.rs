/*!
The state that the manifest describes, the edits that change it, and the rules which an edit must keep.
*/

use crate::error::{Error, Result};
use crate::key::KeyRange;
use crate::run::meta::RunMeta;
use crate::types::{RunId, Seq, StorageId};
use crate::wal::Lsn;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// A run in its tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEntry {
    /// The level it lies on: 0 is what memtables are flushed to.
    pub level: u8,
    /// What is known of it.
    pub meta: RunMeta,
    /// The sequence number of all its rows, where that was known only when it was published; overrides stored ones.
    pub fixed_seq: Option<Seq>,
}

impl RunEntry {
    /// The highest sequence number of its rows.
    pub fn max_seq(&self) -> Seq {
        self.fixed_seq.unwrap_or(self.meta.max_seq)
    }

    /// The lowest sequence number of its rows.
    pub fn min_seq(&self) -> Seq {
        self.fixed_seq.unwrap_or(self.meta.min_seq)
    }
}

/// A bulk load that was published: what tells a second load of the same file from a first one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadRecord {
    /// A hash of what was loaded.
    pub content_hash: [u8; 32],
    /// Where it came from, as the loader was told.
    pub source: String,
    /// How it was read, as the loader writes it down.
    pub options: String,
    /// Rows it had.
    pub rows: u64,
    /// When it was published, in microseconds since 1970-01-01 00:00 UTC.
    pub unix_micros: i64,
}

/// A range of keys whose rows were deleted at once: older rows of these keys in the tree do not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasedRange {
    /// The commit that deleted it, which is its place among runs: behind those that have no lower number.
    pub seq: Seq,
    /// The keys.
    pub range: KeyRange,
}

/// One tree of runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StorageState {
    /// Its runs: the highest sequence number first, then the highest id.
    pub runs: Vec<RunEntry>,
    /// Deleted ranges that may still hide rows of its runs, the highest sequence number first.
    pub erased: Vec<ErasedRange>,
    /// The next hidden row id to give out. Those handed out since are found again in the log.
    pub next_row_id: u64,
    /// Records of the log up to this number are in its runs, what they say of this tree: they are not replayed into it.
    pub flushed_seq: Seq,
    /// Loads, in the order they were published.
    pub loads: Vec<LoadRecord>,
}

/// All that the manifest says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// The trees that have runs, row ids or loads.
    pub storages: BTreeMap<StorageId, StorageState>,
    /// The next run id to give out; above every run there is.
    pub next_run_id: u64,
    /// The highest sequence number that runs may hold.
    pub last_seq: Seq,
    /// Log records that end at or before this are in runs.
    pub wal_released_to: Lsn,
    /// The log was durable up to here.
    pub wal_durable_to: Lsn,
    /// Which tree a run is in.
    places: BTreeMap<RunId, StorageId>,
}

/// One change, atomic: all of it is there after a crash or nothing is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Edit {
    /// Runs that leave their trees.
    pub remove_runs: Vec<RunId>,
    /// Trees that go, with all that is in them.
    pub drop_storages: Vec<StorageId>,
    /// Runs that come, and where.
    pub add_runs: Vec<(StorageId, RunEntry)>,
    /// Runs that change their level.
    pub move_runs: Vec<(RunId, u8)>,
    /// Deleted ranges that hide nothing any more.
    pub remove_erased: Vec<(StorageId, ErasedRange)>,
    /// Ranges that were deleted.
    pub add_erased: Vec<(StorageId, ErasedRange)>,
    /// The next run id; grows by itself past every run that is added.
    pub next_run_id: Option<u64>,
    /// The highest sequence number in runs.
    pub last_seq: Option<Seq>,
    /// Log records that end at or before this are in runs.
    pub wal_released_to: Option<Lsn>,
    /// The log was durable up to here.
    pub wal_durable_to: Option<Lsn>,
    /// Next hidden row ids.
    pub next_row_ids: Vec<(StorageId, u64)>,
    /// Numbers up to which a tree's part of the log is in its runs.
    pub flushed_seqs: Vec<(StorageId, Seq)>,
    /// Loads that were published.
    pub loads: Vec<(StorageId, LoadRecord)>,
}

impl Edit {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Edit::default()
    }
}

impl State {
    /// The run with this id, and its tree.
    pub fn run(&self, id: RunId) -> Option<(StorageId, &RunEntry)> {
        let storage = *self.places.get(&id)?;
        let run = self.storages.get(&storage)?.runs.iter().find(|run| run.meta.id == id)?;
        Some((storage, run))
    }

    /// Whether a run with this id is in some tree.
    pub fn has_run(&self, id: RunId) -> bool {
        self.places.contains_key(&id)
    }

    /// Ids of all runs, ascending.
    pub fn run_ids(&self) -> impl Iterator<Item = RunId> + '_ {
        self.places.keys().copied()
    }

    /// Changes the state: removals first, then dropped trees, then the rest.
    ///
    /// # Errors
    /// `Internal`, with the state unchanged, for an edit that adds a run or a deleted range which is there, removes or moves
    /// one which is not, names one twice, or sets a number back.
    pub fn apply(&mut self, edit: Edit) -> Result<()> {
        self.check(&edit)?;
        for id in &edit.remove_runs {
            self.remove(*id);
        }
        for (storage, erased) in &edit.remove_erased {
            if let Some(storage) = self.storages.get_mut(storage) {
                storage.erased.retain(|other| other != erased);
            }
        }
        for storage in &edit.drop_storages {
            for run in self.storages.remove(storage).unwrap_or_default().runs {
                self.places.remove(&run.meta.id);
            }
        }
        for (storage, entry) in edit.add_runs {
            self.next_run_id = self.next_run_id.max(entry.meta.id.0.saturating_add(1));
            self.places.insert(entry.meta.id, storage);
            let runs = &mut self.storages.entry(storage).or_default().runs;
            let age = |run: &RunEntry| Reverse((run.max_seq(), run.meta.id));
            let place = runs.partition_point(|run| age(run) < age(&entry));
            runs.insert(place, entry);
        }
        for (id, level) in edit.move_runs {
            self.set_level(id, level);
        }
        for (id, erased) in edit.add_erased {
            let storage = self.storages.entry(id).or_default();
            storage.erased.push(erased);
            storage.erased.sort_by_key(|erased| Reverse(erased.seq));
        }
        for (storage, next) in edit.next_row_ids {
            self.storages.entry(storage).or_default().next_row_id = next;
        }
        for (storage, seq) in edit.flushed_seqs {
            self.storages.entry(storage).or_default().flushed_seq = seq;
        }
        for (storage, load) in edit.loads {
            self.storages.entry(storage).or_default().loads.push(load);
        }
        self.next_run_id = self.next_run_id.max(edit.next_run_id.unwrap_or(0));
        self.last_seq = edit.last_seq.unwrap_or(self.last_seq);
        self.wal_released_to = edit.wal_released_to.unwrap_or(self.wal_released_to);
        self.wal_durable_to = edit.wal_durable_to.unwrap_or(self.wal_durable_to);
        Ok(())
    }

    /// The edit that makes this state out of nothing.
    pub fn as_edit(&self) -> Edit {
        let mut edit = Edit {
            next_run_id: Some(self.next_run_id),
            last_seq: Some(self.last_seq),
            wal_released_to: Some(self.wal_released_to),
            wal_durable_to: Some(self.wal_durable_to),
            ..Edit::default()
        };
        for (id, storage) in &self.storages {
            edit.add_runs.extend(storage.runs.iter().map(|run| (*id, run.clone())));
            edit.add_erased.extend(storage.erased.iter().map(|erased| (*id, erased.clone())));
            edit.next_row_ids.push((*id, storage.next_row_id));
            edit.flushed_seqs.push((*id, storage.flushed_seq));
            edit.loads.extend(storage.loads.iter().map(|load| (*id, load.clone())));
        }
        edit
    }

    /// The rules of [`State::apply`].
    pub(super) fn check(&self, edit: &Edit) -> Result<()> {
        self.check_departures(edit)?;
        self.check_arrivals(edit)?;
        self.check_erased(edit)?;
        let forward = [
            ("run id", self.next_run_id, edit.next_run_id),
            ("sequence number", self.last_seq, edit.last_seq),
            ("log position", self.wal_released_to, edit.wal_released_to),
            ("durable position of the log", self.wal_durable_to, edit.wal_durable_to),
        ];
        for (what, now, then) in forward {
            never_back(what, now, then.unwrap_or(now))?;
        }
        let kept = |storage: &StorageId| match edit.drop_storages.contains(storage) {
            true => None,
            false => self.storages.get(storage),
        };
        for (storage, next) in &edit.next_row_ids {
            never_back("row id", kept(storage).map_or(0, |storage| storage.next_row_id), *next)?;
        }
        for (storage, seq) in &edit.flushed_seqs {
            never_back("flushed number", kept(storage).map_or(0, |storage| storage.flushed_seq), *seq)?;
        }
        Ok(())
    }

    fn check_departures(&self, edit: &Edit) -> Result<()> {
        let mut gone = BTreeSet::new();
        for id in &edit.remove_runs {
            if !self.places.contains_key(id) || !gone.insert(*id) {
                return Err(broken(format!("run {} is removed and is not there", id.0)));
            }
        }
        for (id, _) in &edit.move_runs {
            let storage = self.places.get(id).filter(|storage| !edit.drop_storages.contains(storage));
            if storage.is_none() || gone.contains(id) {
                return Err(broken(format!("run {} changes its level and is not there", id.0)));
            }
        }
        Ok(())
    }

    fn check_arrivals(&self, edit: &Edit) -> Result<()> {
        let mut added = BTreeSet::new();
        for (_, entry) in &edit.add_runs {
            let id = entry.meta.id;
            // Ids are never reused: one that is being removed can't come back in the same edit either.
            if self.places.contains_key(&id) || !added.insert(id) {
                return Err(broken(format!("run {} is added and is there already", id.0)));
            }
        }
        Ok(())
    }

    fn check_erased(&self, edit: &Edit) -> Result<()> {
        let there = |storage: &StorageId, erased: &ErasedRange| {
            self.storages.get(storage).is_some_and(|storage| storage.erased.contains(erased))
        };
        for (place, (storage, erased)) in edit.remove_erased.iter().enumerate() {
            let twice = edit.remove_erased.iter().take(place).any(|other| (&other.0, &other.1) == (storage, erased));
            if twice || !there(storage, erased) {
                return Err(broken(format!("a range that commit {} deleted goes and is not there", erased.seq)));
            }
        }
        for (place, (storage, erased)) in edit.add_erased.iter().enumerate() {
            let twice = edit.add_erased.iter().take(place).any(|other| (&other.0, &other.1) == (storage, erased));
            if twice || (there(storage, erased) && !edit.drop_storages.contains(storage)) || erased.range.is_empty() {
                return Err(broken(format!("a range that commit {} deleted comes twice or is empty", erased.seq)));
            }
        }
        Ok(())
    }

    fn remove(&mut self, id: RunId) {
        if let Some(storage) = self.places.remove(&id).and_then(|storage| self.storages.get_mut(&storage)) {
            storage.runs.retain(|run| run.meta.id != id);
        }
    }

    fn set_level(&mut self, id: RunId, level: u8) {
        let Some(storage) = self.places.get(&id).and_then(|storage| self.storages.get_mut(storage)) else { return };
        if let Some(run) = storage.runs.iter_mut().find(|run| run.meta.id == id) {
            run.level = level;
        }
    }
}

fn never_back(what: &str, now: u64, then: u64) -> Result<()> {
    if then < now {
        return Err(broken(format!("a {what} goes back from {now} to {then}")));
    }
    Ok(())
}

fn broken(what: String) -> Error {
    Error::internal(format!("an edit of the manifest breaks a rule: {what}"))
}
