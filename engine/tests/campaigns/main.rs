/*!
Campaigns: the engine on a simulated disk that loses power at every operation, fails any call, and runs many threads from
one seed. docs/testing.md says what each one shows, how to run it longer, and how to run one failure again.

```text
    model        what a database must hold after each commit, and how to compare
    workloads    what is done to a database while it is being tormented
    crash        power loss at every I/O operation
    fault        a fault at every call
    blocks       power loss below a real file system, where the machine allows it
    simulation   threads, faults and crashes from one seed
    conflicts    transactions of which one must lose
    ranges       deleted ranges through flushes, merges and reopenings
    teeth        seeded bugs, each of which the others must find
```
*/
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a campaign's own threads and clocks are the system's
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

#[cfg(target_os = "linux")]
mod blocks;
mod conflicts;
mod crash;
mod fault;
mod model;
mod ranges;
mod simulation;
#[cfg(feature = "mutants")]
mod teeth;
mod workloads;

#[cfg(target_os = "linux")]
use std::sync::atomic::{AtomicUsize, Ordering};

/// A quarter of a simulation's time went to the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A number from the environment.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

/// Keeps this thread, and what it starts, on one of its processors, each caller on the next one: a simulation runs one thread at
/// a time, and handing over is several times faster where none has to be woken on another processor.
#[cfg(target_os = "linux")]
fn stay_on_one_processor() {
    static CALLERS: AtomicUsize = AtomicUsize::new(0);
    // SAFETY: a set of processors is plain bits, and the calls read or write just the one that is given.
    unsafe {
        let mut allowed: libc::cpu_set_t = std::mem::zeroed();
        let bytes = size_of::<libc::cpu_set_t>();
        if libc::sched_getaffinity(0, bytes, &raw mut allowed) != 0 {
            return;
        }
        let all: Vec<usize> = (0..libc::CPU_SETSIZE as usize).filter(|cpu| libc::CPU_ISSET(*cpu, &allowed)).collect();
        // Processes that run at once begin at different ones.
        let caller = std::process::id() as usize + CALLERS.fetch_add(1, Ordering::Relaxed);
        let mut one: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(all[caller % all.len()], &mut one);
        // Where it may not, it is only slower.
        libc::sched_setaffinity(0, bytes, &raw const one);
    }
}

#[cfg(not(target_os = "linux"))]
fn stay_on_one_processor() {}
