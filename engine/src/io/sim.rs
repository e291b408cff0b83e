/*!
The simulator: runs a program's threads one at a time, in an order that follows from a seed, under a clock that never
waits, on a disk that can lose what was not synced.

```no_run
use omendb_engine::io::sim::{Simulation, SimOptions, Survivors};

let simulation = Simulation::new(42, SimOptions::default());
let disk = simulation.disk();
let report = simulation.run(|io| { /* the program; every file, lock and thread through io */ });
assert!(report.outcome.is_ok(), "{report}");
let after_the_crash = disk.crash(Survivors::Random(7)).io();
```

# Threads

Inside [`Simulation::run`], `io`'s locks, condition variables, channels, threads and files are *points*: places where
the scheduler may hand the baton to another thread. Real threads carry the program, but only the one with the baton
runs. Equal seeds and programs give equal orders, and so equal [`Report::trace`]s; a failure prints its seed.

The clock moves by a microsecond at each point and each look at it, by a latency of the seed's choosing at each file operation, and straight
to the next deadline when every thread waits. When nothing ever can go on, the run ends with [`Failure::Deadlock`], which
says who waits for what. Threads that are left at the end of a run stay where they are, as if the process were gone;
[`Report::threads_left`] names them.

Atomics are not points: put a [`super::thread::yield_now`] where a race on one is to be explored. A thread that blocks by
other means than `io`'s stops the simulation for good; so does a lock of `io` shared with a thread outside of it.

# The disk

[`SimDisk`] counts operations, fails those that a [`Fault`] asks for, may keep an operation in flight until it is waited
for, and gives at any moment, without disturbing the program, a disk that [`Survivors`] of a power failure make up:
[`SimDisk::crash`], or [`SimDisk::power_off_at`] for the moment of the n-th operation. `store` says what may survive. The
disk also works outside of a run, where threads are the system's and the order is not repeatable.

A campaign that tries every moment of one run lets [`SimDisk::observe`] show it each operation, and takes a
[`SimDisk::fork`] there: cheap, since files share their pages until they are written.

# What it does not know

Several processes on one disk; sectors that are torn inside.
*/
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the simulator itself runs on real threads and locks"
)]

mod disk;
mod fault;
pub(super) mod scheduler;
#[cfg(test)]
mod tests;

pub use disk::{Moment, SimDisk, Survivors};
pub use fault::{Fault, FaultKind, Operation};

use super::IoRef;
use super::random::mix;
use super::thread::panic_message;
use crate::error::{Error, Result};
use scheduler::{End, Scheduler};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What a simulation may do besides what its seed chooses.
#[derive(Debug, Clone)]
pub struct SimOptions {
    /// The wall clock at the start: microseconds since 1970 UTC.
    pub start_unix_micros: i64,
    /// Points after which a run is given up as [`Failure::Endless`].
    pub points_max: u64,
    /// Whether file operations may stay in flight until they are waited for.
    pub in_flight: bool,
}

impl Default for SimOptions {
    /// 2026-01-01, 100 million points, operations in flight.
    fn default() -> Self {
        SimOptions { start_unix_micros: 1_767_225_600_000_000, points_max: 100_000_000, in_flight: true }
    }
}

/// One run to be.
#[derive(Debug)]
pub struct Simulation {
    seed: u64,
    options: SimOptions,
    disk: SimDisk,
}

/// Why a run came to no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// All threads wait, and none for a moment: a line for each.
    Deadlock(String),
    /// The program panicked, with this message.
    Panicked(String),
    /// The program passed [`SimOptions::points_max`].
    Endless,
    /// The system gave no thread to run the program on.
    NoThread(String),
}

/// What a run came to.
#[derive(Debug)]
pub struct Report<T> {
    /// What the program returned.
    pub outcome: Result<T, Failure>,
    /// The seed, to repeat it.
    pub seed: u64,
    /// Hash of every choice and operation in order, with the paths, offsets and written bytes; equal for equal seeds and
    /// programs.
    pub trace: u64,
    /// Points that were passed.
    pub points: u64,
    /// Virtual time that passed.
    pub elapsed: Duration,
    /// Names of the threads that had not ended when the program did.
    pub threads_left: Vec<String>,
}

impl Simulation {
    /// A run with an empty disk.
    pub fn new(seed: u64, options: SimOptions) -> Self {
        let disk = SimDisk::with_options(mix(seed), &options);
        Simulation { seed, options, disk }
    }

    /// A run on a disk that is there already, such as one that survived a crash. Its clock goes on.
    pub fn on_disk(seed: u64, options: SimOptions, disk: SimDisk) -> Self {
        Simulation { seed, options, disk }
    }

    /// The disk, for faults and crashes during and after the run.
    pub fn disk(&self) -> SimDisk {
        self.disk.clone()
    }

    /// Runs `program` as the first thread, until it returns or nothing can go on.
    pub fn run<T, F>(self, program: F) -> Report<T>
    where
        F: FnOnce(IoRef) -> T + Send + 'static,
        T: Send + 'static,
    {
        let scheduler = Scheduler::new(self.seed, self.disk.clock(), self.options.points_max);
        let start = self.disk.clock().nanos();
        let returned = Arc::new(Mutex::new(None));
        let (io, place) = (self.disk.io(), Arc::clone(&returned));
        let started = scheduler.start("main", move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| program(io)));
            let outcome = outcome.map_err(|panic| Failure::Panicked(panic_message(panic.as_ref())));
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        });
        if let Err(e) = started {
            scheduler.give_up(End::NoThread(e.to_string()));
        }
        let outcome = match scheduler.wait_for_end() {
            End::Returned => match returned.lock().unwrap_or_else(PoisonError::into_inner).take() {
                Some(outcome) => outcome,
                None => Err(Failure::Panicked("the program left no result".to_owned())),
            },
            End::Deadlock(waits) => Err(Failure::Deadlock(waits)),
            End::Endless => Err(Failure::Endless),
            End::NoThread(message) => Err(Failure::NoThread(message)),
        };
        let elapsed = Duration::from_nanos(self.disk.clock().nanos().saturating_sub(start));
        let (trace, points, threads_left) = scheduler.summary();
        Report { outcome, seed: self.seed, trace, points, elapsed, threads_left }
    }
}

impl<T> Report<T> {
    /// What the program returned. Errors: `Internal`, with the failure and the seed that repeats it.
    pub fn into_result(self) -> Result<T> {
        let head = self.to_string();
        self.outcome.map_err(|_| Error::internal(head))
    }
}

impl<T> fmt::Display for Report<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "simulation with seed {}: ", self.seed)?;
        match &self.outcome {
            Ok(_) => f.write_str("returned")?,
            Err(Failure::Deadlock(waits)) => write!(f, "deadlock\n{waits}")?,
            Err(Failure::Panicked(message)) => write!(f, "panicked: {message}")?,
            Err(Failure::Endless) => f.write_str("endless")?,
            Err(Failure::NoThread(message)) => write!(f, "no thread to run on: {message}")?,
        }
        if !self.threads_left.is_empty() {
            write!(f, "; threads left: {}", self.threads_left.join(", "))?;
        }
        Ok(())
    }
}
