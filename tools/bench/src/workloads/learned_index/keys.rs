/*!
The distributions of keys, and the probes: all from a seed.
*/

use crate::zipf::{Zipf, scattered};
use omendb_engine::io::random::Random;

/// Probes of one measurement.
pub(super) const PROBES: usize = 1 << 18;
/// Of so many probes, one is for a key that is not there.
const PROBES_PER_ABSENT: u64 = 10;
/// Where the series of a composite key begins: above its counter.
const COUNTER_BITS: u32 = 40;

/// How keys lie, and in which order they are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Distribution {
    /// 0, 1, 2, …
    Sequential,
    /// The same, asked for one after the other.
    SequentialWalk,
    /// 100 to 999 keys in a row, then a gap of 10 to 99.
    Bursty,
    /// Ten counters that advance by 1 to 9, without their series: as the original has it. Equal keys are one.
    Tenants,
    /// So many series, each with a counter of its own: composite keys.
    Series(u32),
    /// 80 % of keys in the first fifth of the numbers: as the original has it.
    ZipfianKeys,
    /// Uniform keys, asked for with Zipf's law.
    ZipfianOrder,
    /// Uniform keys.
    Uniform,
}

impl Distribution {
    pub(super) const ALL: [Distribution; 10] = [
        Distribution::Sequential,
        Distribution::Bursty,
        Distribution::Tenants,
        Distribution::Series(10),
        Distribution::Series(1000),
        Distribution::Series(100_000),
        Distribution::ZipfianKeys,
        Distribution::ZipfianOrder,
        Distribution::Uniform,
        Distribution::SequentialWalk,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Distribution::Sequential | Distribution::SequentialWalk => "sequential sensors",
            Distribution::Bursty => "bursty training metrics",
            Distribution::Tenants => "interleaved tenants, counters",
            Distribution::Series(10) => "interleaved tenants, 10 series",
            Distribution::Series(1000) => "interleaved tenants, 1,000 series",
            Distribution::Series(_) => "interleaved tenants, 100,000 series",
            Distribution::ZipfianKeys => "zipfian keys",
            Distribution::ZipfianOrder => "uniform keys",
            Distribution::Uniform => "uniform random",
        }
    }

    /// In which order the keys are asked for.
    pub(super) fn order(self) -> &'static str {
        match self {
            Distribution::SequentialWalk => "ascending",
            Distribution::ZipfianOrder => "Zipf 0.99",
            _ => "random",
        }
    }

    /// The ratio that was published, and what ours is to be at least.
    pub(super) fn to_beat(self) -> (Option<f64>, Option<f64>) {
        match self {
            Distribution::Sequential => (Some(20.79), Some(21.0)),
            Distribution::Bursty => (Some(11.44), Some(12.0)),
            Distribution::Tenants | Distribution::Series(_) => (Some(7.39), Some(8.0)),
            Distribution::ZipfianKeys | Distribution::ZipfianOrder => (Some(7.49), Some(8.0)),
            Distribution::Uniform => (Some(2.16), Some(2.5)),
            Distribution::SequentialWalk => (None, None),
        }
    }

    /// Keys, ascending, each once; about `count`.
    fn keys(self, count: usize, random: &mut Random) -> Vec<i64> {
        let n = i64::try_from(count).unwrap_or(i64::MAX);
        let mut keys: Vec<i64> = match self {
            Distribution::Sequential | Distribution::SequentialWalk => (0..n).collect(),
            Distribution::Bursty => bursts(count, random),
            Distribution::Tenants => counters(10, count, random).into_iter().map(|(_, counter)| counter).collect(),
            Distribution::Series(series) => {
                let composite = |(series, counter): (u32, i64)| i64::from(series) << COUNTER_BITS | counter;
                counters(series, count, random).into_iter().map(composite).collect()
            }
            Distribution::ZipfianKeys => (0..count)
                .map(|_| match random.chance(4, 5) {
                    true => below(n / 5, random),
                    false => n / 5 + below(n - n / 5, random),
                })
                .collect(),
            Distribution::ZipfianOrder | Distribution::Uniform => (0..count).map(|_| below(10 * n, random)).collect(),
        };
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

fn below(bound: i64, random: &mut Random) -> i64 {
    i64::try_from(random.below(u64::try_from(bound.max(1)).unwrap_or(1))).unwrap_or(0)
}

fn bursts(count: usize, random: &mut Random) -> Vec<i64> {
    let (mut keys, mut next) = (Vec::with_capacity(count), 0);
    while keys.len() < count {
        let run = 100 + below(900, random);
        keys.extend(next..next + run);
        next += run + 10 + below(90, random);
    }
    keys.truncate(count);
    keys
}

/// Picks a series, emits its counter and advances it, so often.
fn counters(series: u32, count: usize, random: &mut Random) -> Vec<(u32, i64)> {
    let mut at = vec![0; usize::try_from(series).unwrap_or(1)];
    let mut emitted = Vec::with_capacity(count);
    for _ in 0..count {
        let pick = random.index(at.len());
        if let Some(counter) = at.get_mut(pick) {
            emitted.push((u32::try_from(pick).unwrap_or(0), *counter));
            *counter += 1 + below(9, random);
        }
    }
    emitted
}

/// The value that belongs to a key.
pub(super) fn value_of(key: i64) -> u64 {
    key.cast_unsigned().wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5151
}

/// Rows and what is asked of them.
pub(super) struct Workload {
    pub(super) distribution: Distribution,
    pub(super) rows: Vec<(i64, u64)>,
    pub(super) probes: Vec<i64>,
    /// What each probe must give.
    pub(super) answers: Vec<Option<u64>>,
}

impl Workload {
    pub(super) fn new(distribution: Distribution, count: usize, seed: u64) -> Workload {
        let mut random = Random::new(seed);
        let keys = distribution.keys(count, &mut random);
        let zipf = (distribution == Distribution::ZipfianOrder).then(|| Zipf::new(keys.len() as u64));
        let mut probes = Vec::with_capacity(PROBES);
        for number in 0..PROBES {
            let absent = random.chance(1, PROBES_PER_ABSENT);
            let place = match &zipf {
                _ if distribution == Distribution::SequentialWalk => number % keys.len(),
                Some(zipf) => {
                    let place = scattered(zipf.draw(&mut random), keys.len() as u64);
                    usize::try_from(place).unwrap_or(0)
                }
                None => random.index(keys.len()),
            };
            probes.push(match absent {
                true => absent_key(&keys, &mut random),
                false => keys.get(place).copied().unwrap_or(0),
            });
        }
        let answers = probes.iter().map(|key| keys.binary_search(key).is_ok().then(|| value_of(*key))).collect();
        let rows = keys.into_iter().map(|key| (key, value_of(key))).collect();
        Workload { distribution, rows, probes, answers }
    }
}

/// A number that is no key: between the keys, or up to as far before and after them as they are many.
fn absent_key(keys: &[i64], random: &mut Random) -> i64 {
    let (Some(first), Some(last)) = (keys.first(), keys.last()) else { return 0 };
    let around = i64::try_from(keys.len()).unwrap_or(i64::MAX);
    loop {
        let key = first - around + below(last - first + 2 * around, random);
        if keys.binary_search(&key).is_err() {
            return key;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_ascend_and_lie_as_the_distribution_says() {
        for distribution in Distribution::ALL {
            let keys = distribution.keys(20_000, &mut Random::new(7));
            assert!(keys.is_sorted_by(|a, b| a < b), "{distribution:?}");
            assert!(keys.len() > 6_000 && keys.len() <= 20_000, "{distribution:?}: {}", keys.len());
        }
        let bursty = Distribution::Bursty.keys(20_000, &mut Random::new(7));
        let gaps: Vec<i64> = bursty.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|gap| *gap == 1 || (11..=100).contains(gap)));
        let zipfian = Distribution::ZipfianKeys.keys(20_000, &mut Random::new(7));
        assert!(zipfian.partition_point(|key| *key < 4000) * 10 > zipfian.len() * 4);
    }

    #[test]
    fn a_tenth_of_the_probes_is_absent_and_answers_are_right() {
        for distribution in Distribution::ALL {
            let workload = Workload::new(distribution, 5000, 3);
            let absent = workload.answers.iter().filter(|answer| answer.is_none()).count();
            assert!((PROBES / 11..PROBES / 9).contains(&absent), "{distribution:?}: {absent}");
            let expected = |key: &i64| workload.rows.iter().find(|row| row.0 == *key).map(|row| row.1);
            let pairs = workload.probes.iter().zip(&workload.answers).step_by(9973);
            pairs.for_each(|(probe, answer)| assert_eq!(*answer, expected(probe)));
        }
    }
}
