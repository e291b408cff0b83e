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
use std::cell::Cell;
use std::fmt;
use std::time::{Duration, Instant};

/// How much a thread steps back, in steps of `nice`: to a third of the share that another has of a core that both want.
///
/// A core that is given to a merge is gone for a whole time slice, 4 ms; that was the longest that one commit of a
/// thousand waited, with a writer, a flush and a merge on two cores. ARCHITECTURE has the figures.
const BACKGROUND_NICE: i32 = 5;

/// How long a thread that has stepped back works at least before it asks whether another wants its core. A turn also lasts as long as the
/// last one's end has cost: where others never rest, a thread that gives way has the share that its priority gives it, and is not pushed
/// aside by its courtesy.
const TURN: Duration = Duration::from_micros(200);

/// Short steps, of a microsecond at most, after which a look at the clock, some fifty nanoseconds, is due.
const STEPS_A_LOOK: usize = 256;

/// A stretch of work of a thread that has stepped back.
#[derive(Debug, Clone, Copy)]
struct Turn {
    began: Instant,
    length: Duration,
}

thread_local! {
    /// `None` in threads that have not stepped back.
    static TURN_NOW: Cell<Option<Turn>> = const { Cell::new(None) };
}

/// Starts a thread named `name` (no NUL bytes). Errors: `Io` when the system has no more.
pub fn spawn<T, F>(name: &str, run: F) -> Result<JoinHandle<T>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let spawned = match scheduler::current() {
        Some(context) => context.spawn(name, run).map(|(peer, inner)| (Some(peer), inner)),
        None => {
            let turn = TURN_NOW.get();
            let run = move || {
                TURN_NOW.set(turn);
                run()
            };
            std::thread::Builder::new().name(name.to_owned()).spawn(run).map(|inner| (None, inner))
        }
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
        TURN_NOW.set(Some(Turn { began: Instant::now(), length: TURN }));
    }
}

/// In the midst of long work: a thread that has stepped back lets others go first where its turn has lasted long enough. To be called
/// every hundred microseconds or so; it looks at the clock then, and nothing else is done in threads that somebody waits for.
///
/// The system takes a core from a thread only at its next tick, up to 4 ms after another was woken for it, and does not always look
/// for an idle core. ARCHITECTURE has the figures.
pub fn give_way() {
    let Some(turn) = TURN_NOW.get() else { return };
    let end = Instant::now();
    if end.duration_since(turn.began) >= turn.length {
        std::thread::yield_now();
        let began = Instant::now();
        TURN_NOW.set(Some(Turn { began, length: TURN.max(began.duration_since(end)) }));
    }
}

/// As [`give_way`], in a loop of short steps: asks at some of them, by their number.
pub fn give_way_at(step: usize) {
    if step.is_multiple_of(STEPS_A_LOOK) {
        give_way();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_steps_back_gives_way_and_so_do_those_it_starts() {
        let turn = || TURN_NOW.get().map(|turn| turn.began);
        let stepping = move || {
            give_way();
            let before = turn();
            step_back();
            let inherited = spawn("inherits", turn).unwrap().join().unwrap();
            let began = turn();
            std::thread::sleep(TURN);
            give_way_at(STEPS_A_LOOK + 1);
            let same = turn();
            give_way_at(STEPS_A_LOOK);
            (before, inherited, began, same, turn())
        };
        let (before, inherited, began, same, next) = spawn("steps-back", stepping).unwrap().join().unwrap();
        assert_eq!(before, None);
        assert!(began.is_some() && inherited == began && same == began && next > began, "{began:?} {next:?}");
        assert_eq!(turn(), None);
    }
}
