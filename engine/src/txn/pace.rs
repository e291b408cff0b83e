/*!
How fast writers may go while flushes, merges or the log have fallen behind.

*Pressure* says how far behind they are, from 0 (not at all) to [`PRESSURE_MAX`]. It is measured anew whenever a tree
changes, so a commit reads one number. Under pressure all writers share one allowance of bytes a second, which halves with
every step of pressure, from [`RATE_MAX`] to [`RATE_MIN`]: a commit waits until those before it have been paid for. Who
writes more slowly than that never waits; and nobody waits longer than [`DELAY_MAX`] for the sake of pace.

Only where memtables outgrow their memory by half does a commit wait for a flush: that is the one hard limit, and the
store's.
*/

use crate::compaction::policy::PRESSURE_MAX;
use crate::io::sync::Mutex;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The longest wait for the sake of pace.
const DELAY_MAX: Duration = Duration::from_millis(20);

/// What is not worth a sleep, which takes longer than it is told to: it is waited for together with what comes next.
const DELAY_MIN: Duration = Duration::from_micros(200);

/// Bytes a second of all writers together where pressure begins, and where it is worst.
const RATE_MAX: u64 = RATE_MIN << RATE_STEPS;
const RATE_MIN: u64 = 4 << 20;
/// How often the rate halves between the two.
const RATE_STEPS: u64 = 6;

/// Why commits are slowed down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DelayCause {
    /// They are not.
    #[default]
    None,
    /// Full memtables wait to be written into runs.
    Flush,
    /// Runs wait to be merged.
    MergeDebt,
    /// Memtables that are not flushed need much of the log.
    LogSpace,
}

impl fmt::Display for DelayCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DelayCause::None => "none",
            DelayCause::Flush => "flush: full memtables wait to be written into runs",
            DelayCause::MergeDebt => "merge debt: runs wait to be merged",
            DelayCause::LogSpace => "log space: memtables that are not flushed need much of the log",
        })
    }
}

/// How far behind what is: of several the worst counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Pressure {
    pub(crate) level: u64,
    pub(crate) cause: DelayCause,
}

impl Pressure {
    /// The worse of the two.
    pub(crate) fn or(self, level: u64, cause: DelayCause) -> Pressure {
        if level > self.level { Pressure { level: level.min(PRESSURE_MAX), cause } } else { self }
    }
}

/// Bytes a second at some pressure.
fn rate(level: u64) -> u64 {
    let place = level.min(PRESSURE_MAX) * RATE_STEPS;
    let (halved, within) = (place / PRESSURE_MAX, place % PRESSURE_MAX);
    let rate = RATE_MAX >> halved;
    (rate - rate / 2 * within / PRESSURE_MAX).max(RATE_MIN)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    pressure: Mutex<Pressure>,
    /// The pressure's level once more, to be read by every commit.
    level: AtomicU64,
    /// When what was written so far is paid for, by the monotonic clock.
    paid_at: Mutex<u64>,
    /// Nanoseconds that the last commit waited, and all have.
    last: AtomicU64,
    total: AtomicU64,
}

impl Pace {
    pub(crate) fn set(&self, pressure: Pressure) {
        *self.pressure.lock() = pressure;
        self.level.store(pressure.level, Ordering::Release);
        if pressure.level == 0 {
            self.last.store(0, Ordering::Release);
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.level.load(Ordering::Acquire) > 0
    }

    pub(crate) fn cause(&self) -> DelayCause {
        self.pressure.lock().cause
    }

    /// How long a commit of so many bytes waits before it goes on: not at all, or [`DELAY_MIN`] at least.
    pub(crate) fn take(&self, now: u64, bytes: u64) -> Duration {
        let level = self.level.load(Ordering::Acquire);
        if level == 0 {
            return Duration::ZERO;
        }
        let cost = u128::from(bytes) * 1_000_000_000 / u128::from(rate(level));
        let mut paid_at = self.paid_at.lock();
        // Idle time is not saved up, and no debt is carried beyond the longest wait.
        let begins = (*paid_at).clamp(now, now.saturating_add(nanos(DELAY_MAX)));
        *paid_at = begins.saturating_add(u64::try_from(cost).unwrap_or(u64::MAX));
        match Duration::from_nanos(begins - now) {
            short if short < DELAY_MIN => Duration::ZERO,
            wait => wait,
        }
    }

    /// Notes what a commit has waited.
    pub(crate) fn waited(&self, wait: Duration) {
        self.last.store(nanos(wait), Ordering::Release);
        self.total.fetch_add(nanos(wait), Ordering::AcqRel);
    }

    /// What the last commit waited, and all have.
    pub(crate) fn waits(&self) -> (Duration, Duration) {
        let of = |nanos: &AtomicU64| Duration::from_nanos(nanos.load(Ordering::Acquire));
        (of(&self.last), of(&self.total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_falls_smoothly_from_most_to_least() {
        assert_eq!((rate(0), rate(PRESSURE_MAX), rate(u64::MAX)), (RATE_MAX, RATE_MIN, RATE_MIN));
        for level in 1..=PRESSURE_MAX {
            let (before, now) = (rate(level - 1), rate(level));
            assert!(now < before && before - now <= before / 50, "from {before} to {now} at {level}");
        }
    }

    #[test]
    fn commits_share_one_allowance_and_none_waits_long() {
        let pace = Pace::default();
        assert_eq!(pace.take(7, 1 << 30), Duration::ZERO, "there is no pressure");
        pace.set(Pressure::default().or(PRESSURE_MAX, DelayCause::MergeDebt));
        assert!(pace.is_on());
        let millisecond = RATE_MIN / 1000;
        assert_eq!(pace.take(1_000_000, millisecond), Duration::ZERO, "nobody came before");
        let second = pace.take(1_000_000, millisecond);
        let third = pace.take(1_000_000, 1 << 30);
        assert!(second > Duration::from_micros(900) && second < Duration::from_micros(1100), "{second:?}");
        assert_eq!(third, second * 2);
        assert_eq!(pace.take(1_000_000, 1), DELAY_MAX);
        let later = 1_000_000 + nanos(DELAY_MAX) * 2;
        assert_eq!(pace.take(later, millisecond), Duration::ZERO, "a gigabyte is not paid for by all who come later");
        let (cause, before) = (pace.cause(), pace.waits());
        pace.waited(second);
        pace.waited(third);
        assert_eq!((cause, before), (DelayCause::MergeDebt, (Duration::ZERO, Duration::ZERO)));
        assert_eq!(pace.waits(), (third, second + third));
        pace.set(Pressure::default());
        assert_eq!((pace.is_on(), pace.waits()), (false, (Duration::ZERO, second + third)));
    }

    #[test]
    fn the_worst_pressure_counts() {
        let none = Pressure::default();
        let some = none.or(5, DelayCause::Flush).or(3, DelayCause::LogSpace).or(9, DelayCause::MergeDebt);
        assert_eq!(some, Pressure { level: 9, cause: DelayCause::MergeDebt });
        assert_eq!(none.or(0, DelayCause::Flush), none);
    }
}
