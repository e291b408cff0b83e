/*!
Which ring a job goes to: one that only this thread submits to, and only for jobs of this class.

A thread makes its rings when it first needs them, or takes such as an ended thread left. When it ends, it waits until
what it submitted is done: the kernel would cancel some of it. Outcomes stay in the ring for whoever holds the tickets.

Where the system gives no ring (its limits are reached, or it refuses since) jobs are not taken, and the caller does them itself.
*/
#![expect(clippy::disallowed_types, reason = "io_uring meets the operating system's threads, never the simulator's")]

use super::ring::{Call, Job, Ring, Ticket};
use std::cell::OnceCell;
use std::sync::{Arc, Mutex, PoisonError};

/// Idle rings that are kept for threads to come. Each is a descriptor and some tens of KiB.
const IDLE_RINGS_MAX: usize = 64;

/// Rings whose threads have ended.
static IDLE: Mutex<Vec<Arc<Ring>>> = Mutex::new(Vec::new());

thread_local! {
    static OWN: Own = const { Own { reads: OnceCell::new(), writes: OnceCell::new() } };
}

/// A thread's rings, once it has asked; `None` where there was none to be had.
struct Own {
    reads: OnceCell<Option<Lease>>,
    writes: OnceCell<Option<Lease>>,
}

/// A ring that one thread submits to.
struct Lease(Arc<Ring>);

impl Lease {
    fn take() -> Result<Lease, String> {
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(ring) => Ok(Lease(ring)),
            None => Ok(Lease(Arc::new(Ring::new()?))),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.0.drain() && !self.0.is_broken() {
            let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < IDLE_RINGS_MAX {
                idle.push(Arc::clone(&self.0));
            }
        }
    }
}

/// Whether this process may use io_uring. Errors: why not.
pub(super) fn probe() -> Result<(), String> {
    Ring::new().map(|ring| drop(Lease(Arc::new(ring))))
}

/// Starts jobs of one class on this thread's ring. Gives them back where there is none.
pub(super) fn submit(jobs: Vec<Job>) -> Result<Vec<Ticket>, Vec<Job>> {
    let is_read = jobs.first().is_some_and(|job| matches!(job.call, Call::Read { .. }));
    let ring = OWN.try_with(|own| {
        let place = if is_read { &own.reads } else { &own.writes };
        place.get_or_init(|| Lease::take().ok()).as_ref().map(|lease| Arc::clone(&lease.0))
    });
    // A thread that is ending has none any more.
    match ring.ok().flatten().filter(|ring| !ring.is_broken()) {
        Some(ring) => Ok(ring.submit(jobs)),
        None => Err(jobs),
    }
}
