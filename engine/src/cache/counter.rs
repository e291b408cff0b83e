/*!
Counts that many threads add to at once: each has a lane of its own, on a cache line of its own, so that none waits for the line of
another. Up to eight counts that belong together share the lines. The sums are exact once nobody is adding.
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

#[derive(Debug)]
#[repr(align(64))]
struct Lane<const N: usize>([AtomicU64; N]);

/// `N` counts. See the module.
#[derive(Debug)]
pub(crate) struct Counters<const N: usize>([Lane<N>; LANES]);

/// One count.
pub(super) type Counter = Counters<1>;

impl<const N: usize> Default for Counters<N> {
    fn default() -> Self {
        Counters(std::array::from_fn(|_| Lane(std::array::from_fn(|_| AtomicU64::new(0)))))
    }
}

impl<const N: usize> Counters<N> {
    /// Adds to each; nothing is touched where nothing is to be added.
    pub(crate) fn add_all(&self, counts: [u64; N]) {
        if counts == [0; N] {
            return;
        }
        // A thread that is ending has no lane any more.
        let lane = OWN.try_with(own_lane).unwrap_or(0);
        if let Some(lane) = self.0.get(lane % LANES) {
            for (total, count) in lane.0.iter().zip(counts).filter(|(_, count)| *count > 0) {
                total.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    /// What each has come to.
    pub(crate) fn sums(&self) -> [u64; N] {
        let mut sums = [0u64; N];
        for lane in &self.0 {
            sums.iter_mut()
                .zip(&lane.0)
                .for_each(|(sum, count)| *sum = sum.wrapping_add(count.load(Ordering::Relaxed)));
        }
        sums
    }
}

impl Counter {
    pub(super) fn add(&self, count: u64) {
        self.add_all([count]);
    }

    pub(super) fn sum(&self) -> u64 {
        let [sum] = self.sums();
        sum
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
