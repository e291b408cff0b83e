/*!
What the machine itself is worth from moment to moment: work of one kind that has nothing to do with the database, timed between
operations.

On a machine that others use too, the same program's lookups take a quarter longer for minutes, and then do not: others fill the caches, and
who wakes up finds them cold. What slows lookups down slows down any walk through memory. So clients take such a walk between operations,
every half of a millisecond, each step to a place that only the step before it tells. `compare` takes out of its measures what the walk shows of
the machine ([`crate::compare`]); so two programs are held against each other, and not the hours in which they ran.

A walk costs some microseconds, and a client takes a hundredth of its time for them at most. At a rate, it is taken before an operation is due.
*/

use crate::clock::Clock;
use omendb_engine::io::random::mix;
use std::hint::black_box;
use std::time::Duration;

/// Places to walk through: 32 MiB, which do not stay in a core's own caches while a database works beside them.
const PLACES: usize = 1 << 22;

/// Steps of a walk: about as many places as a lookup of a row looks at.
const STEPS: usize = 32;

/// How long a client does other things between two walks at least.
const EVERY: Duration = Duration::from_micros(500);

/// The places, for all clients.
#[derive(Debug)]
pub(crate) struct Yardstick(Vec<u64>);

/// Where one client is.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    yardstick: &'a Yardstick,
    at: u64,
    last: Duration,
}

impl Yardstick {
    pub(crate) fn new() -> Yardstick {
        Yardstick((1..=PLACES).map(|place| mix(place as u64)).collect())
    }

    /// Walks of one client. From 0 there is no way: it stands for itself.
    pub(crate) fn walk(&self, client: usize) -> Walk<'_> {
        Walk { yardstick: self, at: mix(client as u64 + 1), last: Duration::ZERO }
    }
}

impl Walk<'_> {
    /// Takes a walk if it is time for one, and says how long it took.
    pub(crate) fn take(&mut self, clock: &impl Clock) -> Option<Duration> {
        let begin = clock.now();
        if begin.saturating_sub(self.last) < EVERY {
            return None;
        }
        for _ in 0..STEPS {
            self.step();
        }
        self.last = clock.now();
        Some(self.last.saturating_sub(begin))
    }

    /// To a place that what stands here tells. What stands where alone would soon lead in a circle.
    fn step(&mut self) {
        let places = &self.yardstick.0;
        let here = usize::try_from(self.at).unwrap_or(usize::MAX) % places.len().max(1);
        self.at = mix(black_box(self.at ^ places.get(here).copied().unwrap_or_default()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::collections::HashSet;

    /// A clock that goes on by a microsecond whenever it is looked at.
    #[derive(Default)]
    struct Ticking(std::sync::atomic::AtomicU64);

    impl Clock for Ticking {
        fn now(&self) -> Duration {
            Duration::from_micros(self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
        }

        fn wait_until(&self, _: Duration) {}
    }

    #[test]
    fn a_walk_never_goes_in_a_circle_and_clients_go_different_ways() {
        let yardstick = Yardstick::new();
        let mut seen = HashSet::new();
        for client in 0..4 {
            let mut walk = yardstick.walk(client);
            for _ in 0..50_000 {
                walk.step();
                assert!(seen.insert(walk.at));
            }
        }
    }

    #[test]
    fn walks_are_half_a_millisecond_apart() {
        let (yardstick, clock) = (Yardstick::new(), Ticking::default());
        let (mut walk, taken) = (yardstick.walk(0), Cell::new(0));
        for _ in 0..100_000 {
            if let Some(time) = walk.take(&clock) {
                assert_eq!(time, Duration::from_micros(1));
                taken.set(taken.get() + 1);
            }
        }
        assert!((190..=200).contains(&taken.get()), "{taken:?}");
    }
}
