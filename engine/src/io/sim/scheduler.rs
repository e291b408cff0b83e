/*!
Hands the baton from thread to thread, as the seed says.

Every thread of a simulation has a number and a [`Turn`]. One may run; all others are parked, each until its turn is given to
it. A thread passes a *point* by asking who runs next, and then waits until it is
its turn again:

```text
    point   stays ready: another ready thread may go first
    block   waits for a wake-up or a deadline: others go first, and if none is ready, the clock jumps to the next
            deadline; if there is no deadline either, that is a deadlock
    wake    makes those who wait for something ready; does not hand over by itself
```

Since only one thread runs, nothing happens between a thread's decision to block and its blocking, and the primitives in
`sync` need no more than `try_lock` and these three. Once the run has ended, nobody is given the baton again.

How eager the baton is to change hands is drawn by the seed too: some orders show only when threads run long, some only
when they alternate.
*/

use crate::io::random::{Random, mix};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::Duration;

/// Nanoseconds by which each point, and each look at the clock, moves it, so that a thread that polls gets somewhere.
const POINT_NANOS: u64 = 1_000;

/// Simulations under way in this process; 0 spares everyone else the look at their thread-local context.
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static CONTEXT: RefCell<Option<Context>> = const { RefCell::new(None) };
}

/// Virtual time: nanoseconds since the simulated machine was switched on.
#[derive(Debug, Default)]
pub(super) struct Clock {
    nanos: AtomicU64,
}

impl Clock {
    pub(super) fn nanos(&self) -> u64 {
        self.nanos.load(Ordering::SeqCst)
    }

    /// The time, for the program: looking takes time too.
    pub(super) fn read(&self) -> u64 {
        self.nanos.fetch_add(POINT_NANOS, Ordering::SeqCst) + POINT_NANOS
    }

    pub(super) fn advance(&self, nanos: u64) {
        self.nanos.fetch_add(nanos, Ordering::SeqCst);
    }

    fn advance_to(&self, nanos: u64) {
        self.nanos.fetch_max(nanos, Ordering::SeqCst);
    }
}

/// What a thread waits for. Addresses tell the waits of one run apart and go into no decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::io) enum Wait {
    /// The lock at this address.
    Lock(usize),
    /// The condition variable at this address.
    Condition(usize),
    /// The end of the thread with this number.
    Join(usize),
    /// An unpark.
    Park,
    /// Only time.
    Sleep,
}

impl Wait {
    fn describe(self) -> &'static str {
        match self {
            Wait::Lock(_) => "a lock",
            Wait::Condition(_) => "a condition variable or channel",
            Wait::Join(_) => "the end of another thread",
            Wait::Park => "being unparked",
            Wait::Sleep => "time to pass",
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone)]
pub(super) enum End {
    Returned,
    Deadlock(String),
    Endless,
    NoThread(String),
}

/// The right to run, as one thread gives it to another. It is given without the scheduler's lock, which the other one
/// would else meet as soon as it woke.
#[derive(Debug, Default)]
struct Turn {
    given: AtomicBool,
    /// Who waits for it, once there is one to be woken.
    thread: OnceLock<Thread>,
}

impl Turn {
    fn give(&self) {
        self.given.store(true, Ordering::Release);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Waits for it, on the thread that it is for.
    fn take(&self) {
        while !self.given.swap(false, Ordering::Acquire) {
            std::thread::park();
        }
    }
}

#[derive(Debug)]
enum Status {
    Ready,
    Blocked { on: Wait, deadline: Option<u64> },
    Finished,
}

#[derive(Debug)]
struct ThreadState {
    name: String,
    turn: Arc<Turn>,
    status: Status,
    /// Whether its last wait ended by the deadline.
    timed_out: bool,
    /// An unpark came while it was not parked.
    unparked: bool,
}

/// Who has the baton after a point.
enum Next {
    Same,
    Other(Arc<Turn>),
    /// The run has ended.
    Nobody,
}

#[derive(Debug)]
struct State {
    threads: Vec<ThreadState>,
    /// Numbers of the threads that have not ended, ascending: a run may have had hundreds.
    live: Vec<usize>,
    random: Random,
    /// In how many of 8 cases a thread that could go on does.
    stay_of_8: u64,
    trace: u64,
    points: u64,
    points_max: u64,
    end: Option<End>,
}

/// The scheduler of one run.
#[derive(Debug)]
pub(in crate::io) struct Scheduler {
    state: Mutex<State>,
    clock: Arc<Clock>,
    ended: Condvar,
}

/// A thread's place in a simulation.
#[derive(Debug, Clone)]
pub(in crate::io) struct Context {
    scheduler: Arc<Scheduler>,
    me: usize,
}

/// A thread of a simulation as others see it.
#[derive(Debug, Clone)]
pub(in crate::io) struct Peer {
    scheduler: Arc<Scheduler>,
    number: usize,
}

/// This thread's place in a simulation, if it is in one.
pub(in crate::io) fn current() -> Option<Context> {
    if UNDER_WAY.load(Ordering::Relaxed) == 0 {
        return None;
    }
    CONTEXT.try_with(|context| context.borrow().clone()).ok().flatten()
}

impl Scheduler {
    pub(super) fn new(seed: u64, clock: Arc<Clock>, points_max: u64) -> Arc<Self> {
        let mut random = Random::new(seed);
        let stay_of_8 = [0, 4, 7].get(random.index(3)).copied().unwrap_or(0);
        let state = State {
            threads: Vec::new(),
            live: Vec::new(),
            random,
            stay_of_8,
            trace: mix(seed),
            points: 0,
            points_max,
            end: None,
        };
        UNDER_WAY.fetch_add(1, Ordering::Relaxed);
        Arc::new(Scheduler { state: Mutex::new(state), clock, ended: Condvar::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a thread that waits for its first turn; the first one has it at once.
    pub(super) fn start<T, F>(
        self: &Arc<Self>,
        name: &str,
        run: F,
    ) -> std::io::Result<(Peer, std::thread::JoinHandle<T>)>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let (number, turn) = self.register(name);
        let (context, own) = (Context { scheduler: Arc::clone(self), me: number }, Arc::clone(&turn));
        let body = move || {
            CONTEXT.with(|place| *place.borrow_mut() = Some(context.clone()));
            own.thread.get_or_init(std::thread::current);
            own.take();
            let outcome = catch_unwind(AssertUnwindSafe(run));
            // What is dropped after the last turn must not ask for another.
            CONTEXT.with(|place| *place.borrow_mut() = None);
            context.scheduler.finish(number);
            outcome.unwrap_or_else(|panic| resume_unwind(panic))
        };
        match std::thread::Builder::new().name(name.to_owned()).spawn(body) {
            Ok(handle) => {
                // Before this thread lets go of the baton: from then on the new one may be given its turn.
                turn.thread.get_or_init(|| handle.thread().clone());
                Ok((Peer { scheduler: Arc::clone(self), number }, handle))
            }
            Err(e) => {
                self.state().finished(number);
                Err(e)
            }
        }
    }

    fn register(&self, name: &str) -> (usize, Arc<Turn>) {
        let mut state = self.state();
        let (number, turn) = (state.threads.len(), Arc::new(Turn::default()));
        if number == 0 {
            turn.give();
        }
        let thread = ThreadState {
            name: name.to_owned(),
            turn: Arc::clone(&turn),
            status: Status::Ready,
            timed_out: false,
            unparked: false,
        };
        state.threads.push(thread);
        state.live.push(number);
        (number, turn)
    }

    /// Waits outside of the simulation until the run has ended.
    pub(super) fn wait_for_end(&self) -> End {
        let mut state = self.state();
        loop {
            if let Some(end) = &state.end {
                return end.clone();
            }
            state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The trace hash, the points passed, and the names of the threads that have not ended.
    pub(super) fn summary(&self) -> (u64, u64, Vec<String>) {
        let state = self.state();
        let left = state.threads.iter().filter(|thread| !matches!(thread.status, Status::Finished));
        (state.trace, state.points, left.map(|thread| thread.name.clone()).collect())
    }

    /// Passes the baton on and waits for it to come back to thread `me`.
    fn switch(&self, mut state: MutexGuard<'_, State>, me: usize) {
        let turn = state.threads.get(me).map(|thread| Arc::clone(&thread.turn));
        let next = self.hand_over(&mut state, Some(me));
        drop(state);
        match next {
            Next::Same => return,
            Next::Other(other) => other.give(),
            Next::Nobody => {}
        }
        // Where the run has ended, for ever.
        if let Some(turn) = turn {
            turn.take();
        }
    }

    /// Chooses a ready thread to have the baton, moving the clock until there is one; ends the run where none ever will be.
    #[must_use]
    fn hand_over(&self, state: &mut State, me: Option<usize>) -> Next {
        state.points += 1;
        self.clock.advance(POINT_NANOS);
        if state.points > state.points_max {
            self.end(state, End::Endless);
            return Next::Nobody;
        }
        loop {
            state.wake_due(self.clock.nanos());
            if let Some(next) = state.choose(me) {
                state.note(u64::try_from(next).unwrap_or(u64::MAX));
                return match state.threads.get(next) {
                    Some(thread) if Some(next) != me => Next::Other(Arc::clone(&thread.turn)),
                    _ => Next::Same,
                };
            }
            match state.next_deadline() {
                Some(deadline) => self.clock.advance_to(deadline),
                None => {
                    self.end(state, End::Deadlock(state.describe_waits()));
                    return Next::Nobody;
                }
            }
        }
    }

    fn finish(&self, me: usize) {
        let mut state = self.state();
        state.finished(me);
        if me == 0 {
            return self.end(&mut state, End::Returned);
        }
        state.wake(Wait::Join(me), true);
        let next = self.hand_over(&mut state, None);
        drop(state);
        if let Next::Other(other) = next {
            other.give();
        }
    }

    /// Ends a run that never began.
    pub(super) fn give_up(&self, end: End) {
        self.end(&mut self.state(), end);
    }

    fn end(&self, state: &mut State, end: End) {
        state.end = Some(end);
        UNDER_WAY.fetch_sub(1, Ordering::Relaxed);
        self.ended.notify_all();
    }
}

impl State {
    fn note(&mut self, what: u64) {
        self.trace = mix(self.trace.rotate_left(1) ^ what);
    }

    /// A ready thread: `me` where the seed says to stay, else any.
    fn choose(&mut self, me: Option<usize>) -> Option<usize> {
        let is_ready =
            |number: &usize| self.threads.get(*number).is_some_and(|thread| matches!(thread.status, Status::Ready));
        let ready = || self.live.iter().copied().filter(is_ready);
        let count = ready().count();
        let stays = me.filter(is_ready);
        match stays {
            Some(me) if count == 1 || self.random.chance(self.stay_of_8, 8) => Some(me),
            _ => {
                let place = self.random.index(count);
                ready().nth(place)
            }
        }
    }

    fn finished(&mut self, number: usize) {
        if let Some(thread) = self.threads.get_mut(number) {
            thread.status = Status::Finished;
        }
        self.live.retain(|live| *live != number);
    }

    fn wake_due(&mut self, now: u64) {
        for number in &self.live {
            let Some(thread) = self.threads.get_mut(*number) else { continue };
            if matches!(thread.status, Status::Blocked { deadline: Some(deadline), .. } if deadline <= now) {
                thread.status = Status::Ready;
                thread.timed_out = true;
            }
        }
    }

    fn next_deadline(&self) -> Option<u64> {
        let deadline = |thread: &ThreadState| match thread.status {
            Status::Blocked { deadline, .. } => deadline,
            _ => None,
        };
        self.live.iter().filter_map(|number| self.threads.get(*number)).filter_map(deadline).min()
    }

    /// Readies all threads, or one of the seed's choosing, that wait for `what`.
    fn wake(&mut self, what: Wait, all: bool) {
        let waits = |thread: &ThreadState| matches!(thread.status, Status::Blocked { on, .. } if on == what);
        let chosen = match all {
            true => None,
            false => {
                let of_live = self.live.iter().filter_map(|number| self.threads.get(*number));
                let count = of_live.filter(|thread| waits(thread)).count();
                Some(self.random.index(count))
            }
        };
        let mut place = 0;
        for number in &self.live {
            let Some(thread) = self.threads.get_mut(*number).filter(|thread| waits(thread)) else { continue };
            if chosen.is_none_or(|chosen| chosen == place) {
                thread.status = Status::Ready;
                thread.timed_out = false;
            }
            place += 1;
        }
    }

    fn describe_waits(&self) -> String {
        let line = |thread: &ThreadState| match thread.status {
            Status::Blocked { on: Wait::Join(other), .. } => {
                let other = self.threads.get(other).map_or("?", |thread| thread.name.as_str());
                Some(format!("thread {} waits for the end of thread {other}", thread.name))
            }
            Status::Blocked { on, .. } => Some(format!("thread {} waits for {}", thread.name, on.describe())),
            _ => None,
        };
        self.threads.iter().filter_map(line).collect::<Vec<_>>().join("\n")
    }
}

impl Context {
    /// Another thread may go first.
    pub(in crate::io) fn point(&self) {
        self.scheduler.switch(self.scheduler.state(), self.me);
    }

    /// Puts `what` into the trace.
    pub(in crate::io) fn note(&self, what: u64) {
        self.scheduler.state().note(what);
    }

    /// Waits to be woken, or for the deadline to pass: `true` if that was it.
    pub(in crate::io) fn block(&self, on: Wait, timeout: Option<Duration>) -> bool {
        let deadline = timeout.map(|timeout| {
            let nanos = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
            self.scheduler.clock.nanos().saturating_add(nanos)
        });
        let mut state = self.scheduler.state();
        if let Some(thread) = state.threads.get_mut(self.me) {
            thread.status = Status::Blocked { on, deadline };
        }
        self.scheduler.switch(state, self.me);
        self.scheduler.state().threads.get(self.me).is_some_and(|thread| thread.timed_out)
    }

    pub(in crate::io) fn wake_all(&self, what: Wait) {
        self.scheduler.state().wake(what, true);
    }

    /// [`Context::wake_all`], and then a [`Context::point`].
    pub(in crate::io) fn wake_all_and_point(&self, what: Wait) {
        let mut state = self.scheduler.state();
        state.wake(what, true);
        self.scheduler.switch(state, self.me);
    }

    pub(in crate::io) fn wake_one(&self, what: Wait) {
        self.scheduler.state().wake(what, false);
    }

    pub(in crate::io) fn park(&self, timeout: Option<Duration>) {
        let mut state = self.scheduler.state();
        let Some(thread) = state.threads.get_mut(self.me) else { return };
        let unparked = std::mem::take(&mut thread.unparked);
        drop(state);
        if unparked {
            self.point();
        } else {
            self.block(Wait::Park, timeout);
        }
    }

    pub(in crate::io) fn spawn<T, F>(&self, name: &str, run: F) -> std::io::Result<(Peer, std::thread::JoinHandle<T>)>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let spawned = self.scheduler.start(name, run)?;
        self.point();
        Ok(spawned)
    }

    /// This thread, as others see it.
    pub(in crate::io) fn peer(&self) -> Peer {
        Peer { scheduler: Arc::clone(&self.scheduler), number: self.me }
    }

    /// Waits until `peer` has ended, if it belongs to the same run.
    pub(in crate::io) fn join(&self, peer: &Peer) {
        if !Arc::ptr_eq(&self.scheduler, &peer.scheduler) {
            return;
        }
        self.point();
        while !peer.is_finished() {
            self.block(Wait::Join(peer.number), None);
        }
    }
}

impl Peer {
    pub(in crate::io) fn is_finished(&self) -> bool {
        let state = self.scheduler.state();
        state.threads.get(self.number).is_none_or(|thread| matches!(thread.status, Status::Finished))
    }

    pub(in crate::io) fn unpark(&self) {
        let mut state = self.scheduler.state();
        let Some(thread) = state.threads.get_mut(self.number) else { return };
        if matches!(thread.status, Status::Blocked { on: Wait::Park, .. }) {
            thread.status = Status::Ready;
            thread.timed_out = false;
        } else {
            thread.unparked = true;
        }
    }
}
