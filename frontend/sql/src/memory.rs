/*!
What statements take of the database's memory.

A session's statements share a pool of `work_mem` bytes, as fairly as DataFusion's own does; and whatever the pool grants is
taken from the engine's accountant too, which all sessions share with cache, memtables and loads. Where either refuses, an
operator writes to disk, or the statement ends with 53200.
*/

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use omendb_engine::memory::{Memory, MemoryUse, Reservation};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A session's pool, which takes what it grants from the database's memory.
#[derive(Debug)]
pub(crate) struct StatementPool {
    pool: FairSpillPool,
    taken: Mutex<Reservation>,
}

impl StatementPool {
    /// A pool of `work_mem` bytes.
    pub(crate) fn new(work_mem: usize, memory: &Arc<Memory>) -> Self {
        let nothing = memory.reserve_up_to(MemoryUse::Statements, 0, 0);
        StatementPool { pool: FairSpillPool::new(work_mem), taken: Mutex::new(nothing) }
    }

    fn taken(&self) -> MutexGuard<'_, Reservation> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for StatementPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.pool)
    }
}

impl MemoryPool for StatementPool {
    fn name(&self) -> &str {
        "statements"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.pool.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.pool.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.pool.grow(reservation, additional);
        self.taken().grow_anyway(additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.pool.shrink(reservation, shrink);
        self.taken().shrink(shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.pool.try_grow(reservation, additional)?;
        self.taken().grow(additional).map_err(|refusal| {
            self.pool.shrink(reservation, additional);
            DataFusionError::ResourcesExhausted(refusal.message().to_owned())
        })
    }

    fn reserved(&self) -> usize {
        self.pool.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.pool.memory_limit()
    }
}
