/*!
The time that clients go by. Tests have one that only moves when it is told to.
*/

use std::time::{Duration, Instant};

/// A clock that never goes back.
pub(crate) trait Clock: Sync {
    /// Time since the run began.
    fn now(&self) -> Duration;
    /// Returns at `time`, or at once if that has passed.
    fn wait_until(&self, time: Duration);
}

/// How long before its end a wait stops to sleep and asks the clock again and again instead: the system wakes a sleeper up
/// some 60 µs late, which would count as the database's own time.
const AWAKE: Duration = Duration::from_micros(100);

/// The system's clock.
#[derive(Debug)]
pub(crate) struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// The run begins now.
    pub(crate) fn start() -> SystemClock {
        SystemClock { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn wait_until(&self, time: Duration) {
        loop {
            let left = time.saturating_sub(self.now());
            if left.is_zero() {
                return;
            }
            match left.checked_sub(AWAKE) {
                Some(sleep) => std::thread::sleep(sleep),
                None => std::thread::yield_now(),
            }
        }
    }
}
