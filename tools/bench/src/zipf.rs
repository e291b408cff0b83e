/*!
Which record an operation is about: skewed as YCSB has it.

Zipf numbers are drawn by the method of Gray, Sundaresan, Englert, Baclawski and Weinberger, "Quickly generating billion-record
synthetic databases" (SIGMOD 1994), as YCSB does: exact for the first two ranks, and close for the others.
*/

use omendb_engine::io::random::{Random, mix};

/// YCSB's exponent.
pub(crate) const THETA: f64 = 0.99;

/// Draws ranks 0 to n − 1, rank r with a probability in proportion to 1/(r + 1)^0.99. The number of ranks may grow.
#[derive(Debug, Clone)]
pub(crate) struct Zipf {
    ranks: u64,
    /// The sum of 1/i^θ for i from 1 to `ranks`.
    zeta: f64,
}

impl Zipf {
    /// Of so many ranks; takes time in proportion.
    pub(crate) fn new(ranks: u64) -> Zipf {
        let mut zipf = Zipf { ranks: 0, zeta: 0.0 };
        zipf.grow(ranks.max(1));
        zipf
    }

    /// Adds ranks at the end, until there are so many.
    pub(crate) fn grow(&mut self, ranks: u64) {
        while self.ranks < ranks {
            self.ranks += 1;
            self.zeta += (self.ranks as f64).powf(-THETA);
        }
    }

    /// The next rank.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast of a float saturates")]
    pub(crate) fn draw(&self, random: &mut Random) -> u64 {
        let uniform = (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let at = uniform * self.zeta;
        if at < 1.0 {
            return 0;
        }
        let second = 0.5f64.powf(THETA);
        if at < 1.0 + second {
            return 1.min(self.ranks - 1);
        }
        let ranks = self.ranks as f64;
        let eta = (1.0 - (2.0 / ranks).powf(1.0 - THETA)) / (1.0 - (1.0 + second) / self.zeta);
        let rank = ranks * (eta * uniform - eta + 1.0).powf(1.0 / (1.0 - THETA));
        (rank as u64).min(self.ranks - 1)
    }
}

/// Spreads ranks over records, so that popular ones do not lie together.
pub(crate) fn scattered(rank: u64, records: u64) -> u64 {
    mix(rank.wrapping_add(0x9E37_79B9_7F4A_7C15)) % records.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often each rank was drawn.
    fn counts(zipf: &Zipf, draws: u64) -> Vec<f64> {
        let mut random = Random::new(1);
        let mut counts = vec![0.0; usize::try_from(zipf.ranks).unwrap()];
        (0..draws).for_each(|_| counts[usize::try_from(zipf.draw(&mut random)).unwrap()] += 1.0);
        counts
    }

    #[test]
    fn ranks_come_as_often_as_zipf_has_it() {
        let zipf = Zipf::new(1000);
        let counts = counts(&zipf, 200_000);
        let share = |from: usize, to: usize| counts[from..to].iter().sum::<f64>() / 200_000.0;
        let exact = |from: u32, to: u32| (from + 1..=to).map(|i| f64::from(i).powf(-THETA)).sum::<f64>() / zipf.zeta;
        for (from, to) in [(0, 1), (1, 2), (2, 10), (10, 100), (100, 1000)] {
            let (drawn, right) = (share(from, to), exact(u32::try_from(from).unwrap(), u32::try_from(to).unwrap()));
            assert!((drawn / right - 1.0).abs() < 0.1, "{from} to {to}: {drawn} for {right}");
        }
    }

    #[test]
    fn few_ranks_and_ranks_that_are_added_are_drawn() {
        assert_eq!(counts(&Zipf::new(1), 10), [10.0]);
        assert!(counts(&Zipf::new(2), 100).iter().all(|count| *count > 0.0));
        let mut grown = Zipf::new(10);
        grown.grow(500);
        assert_eq!(counts(&grown, 1000), counts(&Zipf::new(500), 1000));
    }

    #[test]
    fn popular_ranks_are_scattered() {
        let first: Vec<u64> = (0..3).map(|rank| scattered(rank, 1_000_000)).collect();
        assert!(first.windows(2).all(|pair| pair[0].abs_diff(pair[1]) > 100), "{first:?}");
    }
}
