/*!
Distributions of times: HDR histograms (Gil Tene's), in nanoseconds, with three digits. So a percentile is good to a thousandth
of itself.
*/

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The longest time that is told from longer ones: an hour.
const NANOS_MAX: u64 = 3_600_000_000_000;

/// Digits that are kept.
const DIGITS: u8 = 3;

/// How long things took.
#[derive(Debug, Clone)]
pub(crate) struct Latencies(Option<Histogram<u64>>);

/// Percentiles of one interval, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Quantiles {
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) max: u64,
}

/// A whole distribution, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Distribution {
    pub(crate) mean: f64,
    pub(crate) min: u64,
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) p9999: u64,
    pub(crate) max: u64,
    /// What times were counted, ascending, each with how often. A time stands for those that agree with it in three digits.
    pub(crate) counts: Vec<(u64, u64)>,
}

impl Latencies {
    /// Nothing took any time yet.
    pub(crate) fn new() -> Latencies {
        // It grows with what it is given. An error would say that there can't be so many digits.
        Latencies(Histogram::new(DIGITS).ok())
    }

    /// Counts one more. Times over an hour count as an hour.
    pub(crate) fn record(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).clamp(1, NANOS_MAX);
        if let Some(histogram) = &mut self.0 {
            // An error says that a value has no place, and it grows until there is one.
            let _grown = histogram.record(nanos);
        }
    }

    /// Adds all that `other` has.
    pub(crate) fn add(&mut self, other: &Latencies) {
        if let (Some(own), Some(other)) = (&mut self.0, &other.0) {
            // As in `record`.
            let _grown = own.add(other);
        }
    }

    /// Forgets everything; keeps the memory.
    pub(crate) fn clear(&mut self) {
        if let Some(histogram) = &mut self.0 {
            histogram.reset();
        }
    }

    /// How many were counted.
    pub(crate) fn len(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::len)
    }

    fn at(&self, quantile: f64) -> u64 {
        self.0.as_ref().map_or(0, |histogram| histogram.value_at_quantile(quantile).min(histogram.max()))
    }

    /// The percentiles of an interval.
    pub(crate) fn quantiles(&self) -> Quantiles {
        Quantiles { p50: self.at(0.5), p90: self.at(0.9), p99: self.at(0.99), p999: self.at(0.999), max: self.at(1.0) }
    }

    /// All of it.
    pub(crate) fn distribution(&self) -> Distribution {
        let Some(histogram) = self.0.as_ref().filter(|histogram| !histogram.is_empty()) else {
            return Distribution::default();
        };
        let counts = histogram.iter_recorded().map(|value| (value.value_iterated_to(), value.count_at_value()));
        Distribution {
            mean: histogram.mean(),
            min: histogram.min(),
            p50: self.at(0.5),
            p90: self.at(0.9),
            p99: self.at(0.99),
            p999: self.at(0.999),
            p9999: self.at(0.9999),
            max: histogram.max(),
            counts: counts.collect(),
        }
    }
}

/// A time in nanoseconds, in three digits: `1.23 ms`.
pub(crate) fn show(nanos: u64) -> String {
    let units = [(1_000_000_000u64, "s"), (1_000_000, "ms"), (1_000, "µs")];
    let Some((unit, name)) = units.into_iter().find(|(unit, _)| nanos >= *unit) else {
        return format!("{nanos} ns");
    };
    let whole = nanos / unit;
    let hundredths = nanos % unit / (unit / 100).max(1);
    match whole {
        0..10 => format!("{whole}.{hundredths:02} {name}"),
        10..100 => format!("{whole}.{} {name}", hundredths / 10),
        _ => format!("{whole} {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_was_recorded_to_a_thousandth() {
        let mut latencies = Latencies::new();
        (1..=100_000).for_each(|micros| latencies.record(Duration::from_micros(micros)));
        let all = latencies.distribution();
        for (got, micros) in [(all.p50, 50_000), (all.p90, 90_000), (all.p99, 99_000), (all.p9999, 99_990)] {
            let exact: u64 = micros * 1000;
            assert!(got.abs_diff(exact) <= exact / 1000, "{got} for {exact}");
        }
        assert!(all.max.abs_diff(100_000_000) <= 100_000);
        assert_eq!(all.counts.iter().map(|(_, count)| count).sum::<u64>(), 100_000);
        assert!(all.counts.is_sorted());
    }

    #[test]
    fn what_is_added_up_is_what_would_have_been_recorded_in_one() {
        let (mut one, mut other, mut both) = (Latencies::new(), Latencies::new(), Latencies::new());
        for i in 0..5000u64 {
            let time = Duration::from_nanos(i * i * 977 % 10_000_000_000);
            if i % 3 == 0 {
                one.record(time)
            } else {
                other.record(time)
            }
            both.record(time);
        }
        one.add(&other);
        assert_eq!(one.distribution(), both.distribution());
        one.clear();
        assert_eq!((one.len(), one.distribution()), (0, Distribution::default()));
    }

    #[test]
    fn times_are_shown_in_three_digits() {
        let shown = [7, 1_234, 45_678, 999_999, 1_500_000, 61_000_000_000].map(show);
        assert_eq!(shown, ["7 ns", "1.23 µs", "45.6 µs", "999 µs", "1.50 ms", "61.0 s"]);
    }
}
