/*!
Clients that work until their time is over.

In a *closed loop* a client begins an operation when it has ended another. At a *rate* operations are due at fixed moments,
whether earlier ones have ended or not; a client that is free takes the next one that is due. Response times count from when an
operation was due, so one that had to wait behind a stall shows it ("coordinated omission" is leaving that out: Gil Tene, "How NOT
to measure latency"). The service time, from begin to end, is kept beside it.

What is due before the end but can't be begun within a grace after it is not begun any more, and counted.
*/

use crate::clock::Clock;
use crate::cold::Cold;
use crate::failure::Failure;
use crate::record::{Done, Recorder};
use crate::workload::{Client, is_retry};
use crate::yardstick::Yardstick;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How often an operation is begun anew before that counts as an error.
const RETRIES_MAX: u64 = 100;

/// How long a client waits before it begins an operation anew: twice as long each time, up to the greatest. A change that others have
/// made is seen once it is on the device, so there is no use in asking at once.
const RETRY_WAIT: Duration = Duration::from_micros(50);
const RETRY_WAIT_MAX: Duration = Duration::from_millis(5);

/// Errors of all clients together after which the run ends.
const ERRORS_MAX: u64 = 100;

/// How clients are paced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// One operation after another.
    Closed,
    /// So many operations a second become due.
    Rate(f64),
}

/// What the clients of a run share.
pub(crate) struct Driver<'a, C> {
    pub(crate) clock: &'a C,
    pub(crate) recorder: &'a Recorder,
    pub(crate) pace: Pace,
    /// When the run ends.
    pub(crate) end: Duration,
    /// How long after the end operations that were due before are still begun.
    pub(crate) grace: Duration,
    /// Makes operations cold, one at a time.
    cold: Option<Cold>,
    yardstick: Yardstick,
    /// Set when all are to stop.
    stop: AtomicBool,
    /// The next operation that becomes due.
    next: AtomicU64,
    begun: AtomicU64,
    errors: AtomicU64,
    first_error: Mutex<Option<Failure>>,
}

impl<'a, C: Clock> Driver<'a, C> {
    /// For a run that ends at `end`.
    pub(crate) fn new(clock: &'a C, recorder: &'a Recorder, pace: Pace, end: Duration, grace: Duration) -> Self {
        let (next, begun, errors) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        let stop = AtomicBool::new(false);
        let (cold, first_error) = (None, Mutex::new(None));
        let yardstick = Yardstick::new();
        Driver { clock, recorder, pace, end, grace, cold, yardstick, stop, next, begun, errors, first_error }
    }

    /// The same with cold operations, if they are to be.
    pub(crate) fn with_cold(self, cold: Option<Cold>) -> Self {
        Driver { cold, ..self }
    }

    /// Tells all clients to stop after what they are at.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether they were told so.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Operations that became due before the end and were not begun.
    pub(crate) fn unserved(&self) -> u64 {
        match self.pace {
            Pace::Closed => 0,
            Pace::Rate(rate) => whole(self.end.as_secs_f64() * rate).saturating_sub(self.begun.load(Ordering::Relaxed)),
        }
    }

    /// The first error that an operation ended with.
    pub(crate) fn first_error(&self) -> Option<Failure> {
        self.first_error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Works as client `number` until the end.
    ///
    /// # Errors
    /// A wrong answer, which stops the other clients too. Errors of the database are counted, and stop all once they are many.
    pub(crate) fn drive(&self, number: usize, client: &mut dyn Client) -> Result<(), Failure> {
        let outcome = self.work(number, client);
        if outcome.is_err() {
            self.stop();
        }
        outcome
    }

    fn work(&self, number: usize, client: &mut dyn Client) -> Result<(), Failure> {
        let mut walk = self.yardstick.walk(number);
        while !self.is_stopped() {
            let operation = client.draw()?;
            if let Some(time) = walk.take(self.clock) {
                self.recorder.walked(number, time);
            }
            let cold = self.cold.as_ref().map(Cold::begin).transpose()?;
            let Some(due) = self.next_due() else { break };
            let begin = self.clock.now();
            let response_from = match self.pace {
                Pace::Closed => None,
                Pace::Rate(_) => Some(due),
            };
            let (outcome, retries) = self.run_with_retries(client);
            let end = self.clock.now();
            match outcome {
                Ok(rows) => {
                    let device = cold.map(|cold| cold.read(operation)).transpose()?;
                    let response = response_from.map(|due| end.saturating_sub(due));
                    self.recorder.done(
                        number,
                        operation,
                        Done { service: end.saturating_sub(begin), response, rows, retries, device },
                    );
                    client.check()?;
                }
                Err(failure) => {
                    if !matches!(failure, Failure::Failed(_)) {
                        return Err(failure);
                    }
                    self.recorder.error(number, operation);
                    self.first_error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
                    if self.errors.fetch_add(1, Ordering::Relaxed) + 1 >= ERRORS_MAX {
                        self.stop();
                    }
                }
            }
        }
        Ok(())
    }

    /// Waits until the next operation is due, and says when that was; `None` at the end of the run.
    fn next_due(&self) -> Option<Duration> {
        let Pace::Rate(rate) = self.pace else {
            let now = self.clock.now();
            return (now < self.end).then_some(now);
        };
        // Good for 2^53 operations.
        let due = Duration::from_secs_f64(self.next.fetch_add(1, Ordering::Relaxed) as f64 / rate);
        if due >= self.end {
            return None;
        }
        self.clock.wait_until(due);
        if self.clock.now() >= self.end + self.grace {
            return None;
        }
        self.begun.fetch_add(1, Ordering::Relaxed);
        Some(due)
    }

    /// Waiting belongs to the operation's time.
    fn run_with_retries(&self, client: &mut dyn Client) -> (Result<u64, Failure>, u64) {
        let (mut retries, mut wait) = (0, RETRY_WAIT);
        loop {
            match client.run() {
                Err(failure) if is_retry(&failure) && retries < RETRIES_MAX => {
                    retries += 1;
                    self.clock.wait_until(self.clock.now() + wait);
                    wait = (wait * 2).min(RETRY_WAIT_MAX);
                }
                outcome => return (outcome, retries),
            }
        }
    }
}

/// The next whole number, of one that is neither negative nor huge.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast of a float saturates")]
fn whole(x: f64) -> u64 {
    x.ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use omendb_engine::{Error, ErrorKind};

    /// Moves when it is waited for, and when an operation takes time.
    #[derive(Default)]
    struct TestClock(Mutex<Duration>);

    impl TestClock {
        fn pass(&self, time: Duration) {
            *self.0.lock().unwrap() += time;
        }
    }

    impl Clock for TestClock {
        fn now(&self) -> Duration {
            *self.0.lock().unwrap()
        }

        fn wait_until(&self, time: Duration) {
            let mut now = self.0.lock().unwrap();
            *now = time.max(*now);
        }
    }

    /// Takes 100 µs a time, but for one that takes a second.
    struct Stalling<'a> {
        clock: &'a TestClock,
        runs: u64,
        stall_at: Option<u64>,
        conflicts: u64,
        errors: bool,
        wrong_at: Option<u64>,
    }

    impl<'a> Stalling<'a> {
        fn new(clock: &'a TestClock) -> Self {
            Stalling { clock, runs: 0, stall_at: None, conflicts: 0, errors: false, wrong_at: None }
        }
    }

    impl Client for Stalling<'_> {
        fn draw(&mut self) -> Result<usize, Failure> {
            Ok(0)
        }

        fn run(&mut self) -> Result<u64, Failure> {
            self.runs += 1;
            let stalls = self.stall_at == Some(self.runs);
            self.clock.pass(if stalls { Duration::from_secs(1) } else { Duration::from_micros(100) });
            if self.conflicts > 0 {
                self.conflicts -= 1;
                return Err(Error::new(ErrorKind::WriteConflict, "others were faster").into());
            }
            match self.errors {
                true => Err(Error::new(ErrorKind::DiskFull, "no room").into()),
                false => Ok(3),
            }
        }

        fn check(&mut self) -> Result<(), Failure> {
            match self.wrong_at {
                Some(run) if run <= self.runs => Err(Failure::Wrong("no such row".into())),
                _ => Ok(()),
            }
        }
    }

    const END: Duration = Duration::from_secs(10);

    fn driven(pace: Pace, change: impl FnOnce(&mut Stalling<'_>)) -> (crate::record::Tally, u64, Result<(), Failure>) {
        let (clock, recorder) = (TestClock::default(), Recorder::new(1, 1));
        let driver = Driver::new(&clock, &recorder, pace, END, Duration::ZERO);
        let mut client = Stalling::new(&clock);
        change(&mut client);
        let outcome = driver.drive(0, &mut client);
        (recorder.take().operations.remove(0), driver.unserved(), outcome)
    }

    /// Operations of 100 µs at 1,000 a second leave nine tenths of the time idle. A stall of a second holds up a thousand of ten
    /// thousand, which then catch up at 10,000 a second while others become due.
    #[test]
    fn a_stall_at_a_fixed_rate_shows_in_response_times_and_not_in_service_times() {
        let (tally, unserved, outcome) = driven(Pace::Rate(1000.0), |client| client.stall_at = Some(2000));
        assert!(outcome.is_ok());
        assert_eq!((tally.count(), tally.response.len(), unserved), (10_000, 10_000, 0));
        let (service, response) = (tally.service.quantiles(), tally.response.quantiles());
        assert!(service.p999 < 101_000, "{service:?}");
        assert!(service.max >= 999_000_000, "{service:?}");
        // A tenth of the operations waits, and the longest waits fall to nothing evenly.
        assert!((850_000_000..=1_000_000_000).contains(&response.p99), "{response:?}");
        assert!(response.p50 < 101_000, "{response:?}");
    }

    #[test]
    fn in_a_closed_loop_there_is_only_one_time_and_a_stall_is_one_operation() {
        let (tally, _, outcome) = driven(Pace::Closed, |client| client.stall_at = Some(2000));
        assert!(outcome.is_ok());
        assert_eq!((tally.count(), tally.response.len(), tally.rows), (90_001, 0, 270_003));
        assert!(tally.service.quantiles().p999 < 101_000);
    }

    #[test]
    fn what_was_due_and_never_begun_is_counted() {
        let (tally, unserved, _) = driven(Pace::Rate(20_000.0), |_| {});
        assert_eq!(tally.count() + unserved, 200_000);
        assert!((99_000..=101_000).contains(&tally.count()), "{}", tally.count());
        // Half of what is due is served: what is served last was due at half time.
        assert!((4_900_000_000..=5_100_000_000).contains(&tally.response.quantiles().max));
    }

    #[test]
    fn retries_are_counted_and_belong_to_the_time_of_their_operation() {
        let (tally, _, outcome) = driven(Pace::Closed, |client| client.conflicts = 3);
        assert!(outcome.is_ok());
        assert_eq!((tally.retries, tally.errors), (3, 0));
        // Four times 100 µs, and waits of 50, 100 and 200.
        assert!(tally.service.quantiles().max.abs_diff(750_000) < 1000);
    }

    #[test]
    fn a_wrong_answer_ends_the_run_at_once() {
        let (tally, _, outcome) = driven(Pace::Closed, |client| client.wrong_at = Some(5));
        assert!(matches!(outcome, Err(Failure::Wrong(_))));
        assert_eq!(tally.count(), 5);
    }

    #[test]
    fn errors_are_counted_without_a_time_and_too_many_end_the_run() {
        let (tally, _, outcome) = driven(Pace::Closed, |client| client.errors = true);
        assert!(outcome.is_ok());
        assert_eq!((tally.count(), tally.errors), (0, ERRORS_MAX));
        let (tally, _, outcome) = driven(Pace::Closed, |client| client.conflicts = RETRIES_MAX + 1);
        assert!(outcome.is_ok());
        assert_eq!((tally.retries, tally.errors), (0, 1));
    }
}
