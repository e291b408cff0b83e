/*!
A count that many threads add to at once: each has a lane of its own, on a cache line of its own, so that none waits for the line of
another. The sum is exact once nobody is adding.
*/

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Lanes; threads share them beyond that.
const LANES: usize = 16;

/// The next thread's lane.
static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// This thread's lane; beyond all lanes until it first counts.
    static OWN: Cell<usize> = const { Cell::new(usize::MAX) };
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Lane(AtomicU64);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Counter([Lane; LANES]);

impl Counter {
    pub(super) fn add(&self, count: u64) {
        // A thread that is ending has no lane any more.
        let lane = OWN.try_with(own_lane).unwrap_or(0);
        if let Some(lane) = self.0.get(lane % LANES) {
            lane.0.fetch_add(count, Ordering::Relaxed);
        }
    }

    pub(super) fn sum(&self) -> u64 {
        self.0.iter().map(|lane| lane.0.load(Ordering::Relaxed)).sum()
    }
}

fn own_lane(own: &Cell<usize>) -> usize {
    if own.get() == usize::MAX {
        own.set(NEXT.fetch_add(1, Ordering::Relaxed) % LANES);
    }
    own.get()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn nothing_is_lost_between_threads() {
        let counter = Arc::new(Counter::default());
        let threads: Vec<_> = (0..2 * LANES)
            .map(|_| {
                let counter = Arc::clone(&counter);
                crate::io::thread::spawn("counter", move || (0..1000).for_each(|_| counter.add(3))).unwrap()
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(counter.sum(), 2 * 16 * 3000);
    }
}
