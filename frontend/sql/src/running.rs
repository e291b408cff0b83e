/*!
Statements under way: how they are told to stop.

A statement may be stopped by its user ([`CancelHandle`]) or by its timeout (the watchdog, a thread of its own, so that a
runtime whose threads are all busy cannot keep it from firing). Either way the statement's [`CancelToken`] is set, which
the operators of its plan look at, and everyone who waits for the statement is woken.
*/

use crate::cancel::CancelToken;
use crate::error::{Result, SqlError};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// One statement under way.
#[derive(Debug)]
pub(crate) struct Running {
    token: CancelToken,
    stopped: watch::Sender<bool>,
}

impl Running {
    fn new() -> Arc<Running> {
        Arc::new(Running { token: CancelToken::new(), stopped: watch::Sender::new(false) })
    }

    pub(crate) fn token(&self) -> &CancelToken {
        &self.token
    }

    fn cancel(&self) {
        self.token.cancel();
        self.stopped.send_replace(true);
    }

    fn time_out(&self) {
        self.token.time_out();
        self.stopped.send_replace(true);
    }

    /// # Errors
    /// 57014 once the statement was told to stop.
    pub(crate) fn check(&self) -> Result<()> {
        self.token.check()
    }

    /// Comes back when the statement is told to stop, with the error that says why.
    pub(crate) async fn stopped(&self) -> SqlError {
        let mut receiver = self.stopped.subscribe();
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = receiver.wait_for(|stopped| *stopped).await;
        match self.check() {
            Err(e) => e,
            Ok(()) => SqlError::internal("a statement was stopped for no reason"),
        }
    }
}

/// The statements of one session that are under way.
#[derive(Debug, Default)]
pub(crate) struct Statements(Mutex<Vec<Weak<Running>>>);

impl Statements {
    /// A new statement. It is under way for as long as the `Arc` is held.
    pub(crate) fn begin(&self) -> Arc<Running> {
        let running = Running::new();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|r| r.strong_count() > 0);
        all.push(Arc::downgrade(&running));
        running
    }

    fn cancel(&self) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter_map(Weak::upgrade).for_each(|running| running.cancel());
    }
}

/// Stops what a session is doing, from any thread. Cheap to clone; it does not keep the session alive.
#[derive(Debug, Clone)]
pub struct CancelHandle(pub(crate) Weak<Statements>);

impl CancelHandle {
    /// Stops the session's running statements: they end with 57014, and leave nothing behind. Does nothing when none runs.
    pub fn cancel(&self) {
        if let Some(statements) = self.0.upgrade() {
            statements.cancel();
        }
    }
}

/// Stops statements whose time is up. Its thread starts with the first deadline and ends with the watchdog.
#[derive(Debug, Default)]
pub(crate) struct Watchdog {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    deadlines: Vec<(Instant, Weak<Running>)>,
    started: bool,
    closed: bool,
}

impl Watchdog {
    /// Stops `running` after `timeout`, unless it has ended by then.
    ///
    /// # Errors
    /// 58030 when the thread cannot be started.
    pub(crate) fn watch(&self, running: &Arc<Running>, timeout: Duration) -> Result<()> {
        let Some(deadline) = Instant::now().checked_add(timeout) else { return Ok(()) };
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.deadlines.retain(|(_, running)| running.strong_count() > 0);
        state.deadlines.push((deadline, Arc::downgrade(running)));
        if !state.started {
            let shared = self.shared.clone();
            std::thread::Builder::new().name("omendb-watchdog".into()).spawn(move || shared.run())?;
            state.started = true;
        }
        self.shared.changed.notify_one();
        Ok(())
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn run(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while !state.closed {
            let now = Instant::now();
            state.deadlines.retain(|(deadline, running)| match running.upgrade() {
                Some(running) if *deadline <= now => {
                    running.time_out();
                    false
                }
                Some(_) => true,
                None => false,
            });
            state = match state.deadlines.iter().map(|(deadline, _)| *deadline).min() {
                Some(next) => {
                    let wait = next.saturating_duration_since(now);
                    self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancelled_statement_says_why() {
        let statements = Arc::new(Statements::default());
        let running = statements.begin();
        assert!(running.check().is_ok());
        CancelHandle(Arc::downgrade(&statements)).cancel();
        let e = futures::executor::block_on(running.stopped());
        assert_eq!((e.sqlstate(), e.message()), ("57014", "canceling statement due to user request"));
        assert!(statements.begin().check().is_ok(), "the next statement is not cancelled");
    }

    #[test]
    fn the_watchdog_stops_a_statement_whose_time_is_up() {
        let watchdog = Watchdog::default();
        let running = Running::new();
        watchdog.watch(&running, Duration::from_millis(1)).unwrap();
        let e = futures::executor::block_on(running.stopped());
        assert_eq!((e.sqlstate(), e.message()), ("57014", "canceling statement due to statement timeout"));
    }
}
