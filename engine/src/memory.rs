/*!
The one accountant of a database's memory: every memtable, write, merge and statement takes its part of one limit here, and
the cache has what they leave.

```text
    0 ───────────────────────────────────────────────────────────── limit
    │ memtables │ writes │ merges │ statements │        cache        │
    └─────────── others, at most 15/16 ────────┘└─ at least a 16th ──┘
```

Who can do with less asks for *up to* so much and gets what is there: a load sorts smaller pieces. Who can't, and can stop, asks
for exactly so much and may be refused: a statement then writes to disk, or ends with an error that says who has the memory.
What is there already, such as a memtable's rows, is only *noted*; its owner keeps it small by other means.

It counts what it is told; the allocator's own overhead and what is small and many are not in it.
*/

use crate::cache::Cache;
use crate::error::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What memory is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryUse {
    /// Rows that are in the log and in no run yet.
    Memtables,
    /// Rows of loads and large transactions, gathered and sorted.
    Writes,
    /// Runs that are merged.
    Merges,
    /// What the layer above needs to carry out statements.
    Statements,
}

impl MemoryUse {
    const ALL: [MemoryUse; 4] = [MemoryUse::Memtables, MemoryUse::Writes, MemoryUse::Merges, MemoryUse::Statements];

    fn name(self) -> &'static str {
        match self {
            MemoryUse::Memtables => "memtables",
            MemoryUse::Writes => "writes",
            MemoryUse::Merges => "merges",
            MemoryUse::Statements => "statements",
        }
    }
}

/// Changes smaller than this do not move the cache's share.
const CACHE_STEP: usize = 1 << 20;

/// The cache keeps this fraction of the limit, whatever others ask for.
const CACHE_FRACTION: usize = 16;

/// See the module.
#[derive(Debug)]
pub struct Memory {
    limit: usize,
    cache: Arc<Cache>,
    /// The cache takes no more, however much is free.
    cache_max: usize,
    /// What the others had when the cache's share was last set.
    settled: AtomicUsize,
    used: [AtomicUsize; MemoryUse::ALL.len()],
}

impl Memory {
    pub(crate) fn new(limit: usize, cache_max: usize) -> Arc<Memory> {
        let cache = Cache::new(cache_max.min(limit));
        Arc::new(Memory { limit, cache, cache_max, settled: AtomicUsize::new(0), used: Default::default() })
    }

    /// The cache that has what is left.
    pub(crate) fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// Bytes that all uses together may come to, the cache included.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes in use for one purpose.
    pub fn used(&self, by: MemoryUse) -> usize {
        self.slot(by).map_or(0, |slot| slot.load(Ordering::Relaxed))
    }

    /// Takes `bytes`, or nothing.
    ///
    /// # Errors
    /// `OutOfMemory`, which names who has how much.
    pub fn reserve(self: &Arc<Self>, by: MemoryUse, bytes: usize) -> Result<Reservation> {
        let mut reservation = Reservation { memory: Arc::clone(self), by, bytes: 0 };
        reservation.grow(bytes)?;
        Ok(reservation)
    }

    /// Takes as much of `wanted` as is there, but `least` in any case.
    pub fn reserve_up_to(self: &Arc<Self>, by: MemoryUse, wanted: usize, least: usize) -> Reservation {
        let bytes = wanted.min(self.free()).max(least.min(wanted));
        self.add(by, bytes);
        Reservation { memory: Arc::clone(self), by, bytes }
    }

    /// Notes that what is there anyway comes to `bytes`.
    pub(crate) fn note(&self, by: MemoryUse, bytes: usize) {
        if let Some(slot) = self.slot(by) {
            slot.store(bytes, Ordering::Relaxed);
        }
        self.settle_cache();
    }

    fn slot(&self, by: MemoryUse) -> Option<&AtomicUsize> {
        self.used.iter().zip(MemoryUse::ALL).find(|(_, of)| *of == by).map(|(slot, _)| slot)
    }

    /// What all but the cache have.
    fn others(&self) -> usize {
        self.used.iter().map(|slot| slot.load(Ordering::Relaxed)).fold(0, usize::saturating_add)
    }

    fn free(&self) -> usize {
        (self.limit - self.limit / CACHE_FRACTION).saturating_sub(self.others())
    }

    fn add(&self, by: MemoryUse, bytes: usize) {
        if let Some(slot) = self.slot(by) {
            slot.fetch_add(bytes, Ordering::Relaxed);
        }
        self.settle_cache();
    }

    fn remove(&self, by: MemoryUse, bytes: usize) {
        if let Some(slot) = self.slot(by) {
            slot.fetch_sub(bytes, Ordering::Relaxed);
        }
        self.settle_cache();
    }

    /// Gives the cache what the others leave.
    fn settle_cache(&self) {
        let others = self.others();
        let before = self.settled.load(Ordering::Relaxed);
        if others.abs_diff(before) < CACHE_STEP {
            return;
        }
        self.settled.store(others, Ordering::Relaxed);
        let share = self.limit.saturating_sub(others).max(self.limit / CACHE_FRACTION);
        self.cache.set_budget(share.min(self.cache_max));
    }

    fn refusal(&self, by: MemoryUse, bytes: usize) -> Error {
        let shares: Vec<String> =
            MemoryUse::ALL.iter().map(|of| format!("{} {}", of.name(), mebibytes(self.used(*of)))).collect();
        let sentence = format!(
            "{} more for {} would pass the database's memory limit of {} (in use: {}); give it more memory, or do less \
             at once",
            mebibytes(bytes),
            by.name(),
            mebibytes(self.limit),
            shares.join(", ")
        );
        Error::new(ErrorKind::OutOfMemory, sentence)
    }
}

fn mebibytes(bytes: usize) -> String {
    match bytes {
        0..10_240 => format!("{bytes} B"),
        10_240..10_485_760 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

/// A part of the memory; dropping it gives it back.
#[derive(Debug)]
pub struct Reservation {
    memory: Arc<Memory>,
    by: MemoryUse,
    bytes: usize,
}

impl Reservation {
    /// Its size.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes `more`, or nothing. Errors: as [`Memory::reserve`].
    pub fn grow(&mut self, more: usize) -> Result<()> {
        // Two at once may both find the same room: a little past the limit, once, is no harm.
        if more > self.memory.free() {
            return Err(self.memory.refusal(self.by, more));
        }
        self.memory.add(self.by, more);
        self.bytes += more;
        Ok(())
    }

    /// Takes `more` whatever there is: for what can't be refused.
    pub fn grow_anyway(&mut self, more: usize) {
        self.memory.add(self.by, more);
        self.bytes += more;
    }

    /// Gives `less` of it back, at most all.
    pub fn shrink(&mut self, less: usize) {
        let less = less.min(self.bytes);
        self.memory.remove(self.by, less);
        self.bytes -= less;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.memory.remove(self.by, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn what_is_taken_comes_back_and_the_cache_has_the_rest() {
        let memory = Memory::new(160 * MIB, 100 * MIB);
        let budget = || memory.cache().stats().budget_bytes >> 20;
        assert_eq!(budget(), 100);
        let statement = memory.reserve(MemoryUse::Statements, 80 * MIB).unwrap();
        assert_eq!(budget(), 80);
        memory.note(MemoryUse::Memtables, 40 * MIB);
        assert_eq!(budget(), 40);
        let load = memory.reserve_up_to(MemoryUse::Writes, 200 * MIB, MIB);
        assert_eq!((load.bytes() / MIB, budget()), (30, 10), "a sixteenth stays the cache's");
        assert_eq!(memory.reserve_up_to(MemoryUse::Writes, 200 * MIB, MIB).bytes(), MIB, "the least is always there");
        drop(load);
        drop(statement);
        assert_eq!((budget(), memory.used(MemoryUse::Statements)), (100, 0));
    }

    #[test]
    fn a_refusal_takes_nothing_and_says_who_has_the_memory() {
        let memory = Memory::new(64 * MIB, MIB);
        let mut first = memory.reserve(MemoryUse::Statements, 50 * MIB).unwrap();
        let error = memory.reserve(MemoryUse::Statements, 20 * MIB).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfMemory);
        assert!(
            error.message().contains("limit of 64 MiB") && error.message().contains("statements 50 MiB"),
            "{error}"
        );
        assert_eq!(memory.used(MemoryUse::Statements), 50 * MIB);
        assert!(first.grow(11 * MIB).is_err());
        first.shrink(20 * MIB);
        first.grow(11 * MIB).unwrap();
        first.grow_anyway(100 * MIB);
        assert_eq!(first.bytes(), 141 * MIB);
        first.shrink(1000 * MIB);
        assert_eq!((first.bytes(), memory.used(MemoryUse::Statements)), (0, 0));
    }
}
