/*!
Threads: every one has a name, and one that panics gives an error to whoever joins it.

They are the system's; those of a simulation are started inside it, run when its scheduler says, and sleep by its clock.
*/
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "what the rest of the engine uses instead is made of these"
)]

use super::posix;
use super::sim::scheduler::{self, Peer, Wait};
use crate::error::{Error, ErrorKind, Result};
use std::any::Any;
use std::fmt;
use std::time::Duration;

/// How much a thread steps back, in steps of `nice`: to a third of the share that another has of a core that both want.
///
/// A core that is given to a merge is gone for a whole time slice, 4 ms; that was the longest that one commit of a
/// thousand waited, with a writer, a flush and a merge on two cores. ARCHITECTURE has the figures.
const BACKGROUND_NICE: i32 = 5;

/// Starts a thread named `name` (no NUL bytes). Errors: `Io` when the system has no more.
pub fn spawn<T, F>(name: &str, run: F) -> Result<JoinHandle<T>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let spawned = match scheduler::current() {
        Some(context) => context.spawn(name, run).map(|(peer, inner)| (Some(peer), inner)),
        None => std::thread::Builder::new().name(name.to_owned()).spawn(run).map(|inner| (None, inner)),
    };
    let failed = |e| Error::new(ErrorKind::Io, format!("cannot start thread {name}: {e}"));
    let (peer, inner) = spawned.map_err(failed)?;
    Ok(JoinHandle { name: name.to_owned(), inner, peer })
}

/// Lets threads that somebody waits for go before this one, and before those that it starts, from now on, where there are fewer
/// cores than threads that want to run.
pub fn step_back() {
    if scheduler::current().is_none() {
        posix::step_back(BACKGROUND_NICE);
    }
}

/// Waits for `duration`.
pub fn sleep(duration: Duration) {
    match scheduler::current() {
        Some(context) => drop(context.block(Wait::Sleep, Some(duration))),
        None => std::thread::sleep(duration),
    }
}

/// Lets another thread run, if one wants to.
pub fn yield_now() {
    match scheduler::current() {
        Some(context) => context.point(),
        None => std::thread::yield_now(),
    }
}

/// Waits until another thread has called [`Thread::unpark`] on this one; at once if it has since the last `park`.
/// May come back without.
pub fn park() {
    match scheduler::current() {
        Some(context) => context.park(None),
        None => std::thread::park(),
    }
}

/// As [`park`], for at most `timeout`.
pub fn park_timeout(timeout: Duration) {
    match scheduler::current() {
        Some(context) => context.park(Some(timeout)),
        None => std::thread::park_timeout(timeout),
    }
}

/// This thread.
pub fn current() -> Thread {
    Thread { inner: std::thread::current(), peer: scheduler::current().map(|context| context.peer()) }
}

/// How many threads can do useful work at once; at least 1. Always 2 in a simulation, lest it depend on the machine.
pub fn parallelism() -> usize {
    if scheduler::current().is_some() {
        return 2;
    }
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Names a thread, to wake it.
#[derive(Clone)]
pub struct Thread {
    inner: std::thread::Thread,
    peer: Option<Peer>,
}

impl Thread {
    /// Ends the thread's [`park`], or its next one.
    pub fn unpark(&self) {
        match &self.peer {
            Some(peer) => peer.unpark(),
            None => self.inner.unpark(),
        }
    }
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Thread")
    }
}

/// A started thread. Dropping it lets the thread run on.
pub struct JoinHandle<T> {
    name: String,
    inner: std::thread::JoinHandle<T>,
    /// Its place in a simulation.
    peer: Option<Peer>,
}

impl<T> JoinHandle<T> {
    /// Waits for the thread's end. Errors: `Internal` if it panicked, with what it said.
    pub fn join(self) -> Result<T> {
        if let (Some(peer), Some(context)) = (&self.peer, scheduler::current()) {
            context.join(peer);
        }
        self.inner.join().map_err(|panic| {
            Error::internal(format!("thread {} panicked: {}", self.name, panic_message(panic.as_ref())))
        })
    }

    /// Whether the thread has ended.
    pub fn is_finished(&self) -> bool {
        self.peer.as_ref().map_or_else(|| self.inner.is_finished(), Peer::is_finished)
    }

    /// Names the thread, to wake it.
    pub fn thread(&self) -> Thread {
        Thread { inner: self.inner.thread().clone(), peer: self.peer.clone() }
    }

    /// The thread's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinHandle({})", self.name)
    }
}

/// What a panic said.
pub(super) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
