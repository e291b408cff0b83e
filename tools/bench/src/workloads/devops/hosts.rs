/*!
Hosts that report ten metrics of their processors every ten seconds of a day.

TSBS's own values are random walks between 0 and 100. These look alike, yet each follows from seed, host, metric and step alone, so that any
answer can be computed anew without keeping the rows: straight lines between random heights every [`KNOT_STEPS`] steps, and a little
noise.
*/

use crate::failure::Failure;
use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray};
use arrow::datatypes::SchemaRef;
use omendb_engine::io::random::mix;
use std::ops::Range;
use std::sync::Arc;

/// The metrics.
pub(super) const METRICS: [&str; 10] = [
    "usage_user",
    "usage_system",
    "usage_idle",
    "usage_nice",
    "usage_iowait",
    "usage_irq",
    "usage_softirq",
    "usage_steal",
    "usage_guest",
    "usage_guest_nice",
];

/// Seconds between two reports.
pub(super) const STEP_SECONDS: u64 = 10;

/// Seconds of the day that they report on.
pub(super) const DAY_SECONDS: u64 = 24 * 3600;

/// Reports of a host.
pub(super) const STEPS: u64 = DAY_SECONDS / STEP_SECONDS;

/// Steps between two random heights.
const KNOT_STEPS: u64 = 64;

/// 2016-01-01 00:00 UTC, TSBS's first moment, in seconds since 1970.
const START_SECONDS: u64 = 1_451_606_400;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hosts {
    pub(super) seed: u64,
    pub(super) count: u64,
}

/// `host_7`
pub(super) fn name(host: u64) -> String {
    format!("host_{host}")
}

/// A second of the day as text, as SQL reads it and Arrow prints it.
pub(super) fn moment(second: u64) -> String {
    // The second after the day's last one is needed as the end of a range.
    let (day, second) = (1 + second / DAY_SECONDS, second % DAY_SECONDS);
    format!("2016-01-{day:02}T{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}

/// The steps at seconds `from` to `to`, without that one.
pub(super) fn steps(from: u64, to: u64) -> Range<u64> {
    from.div_ceil(STEP_SECONDS)..to.div_ceil(STEP_SECONDS).min(STEPS)
}

impl Hosts {
    /// What a host reports of a metric at a step. Equal on every machine.
    pub(super) fn value(&self, host: u64, metric: usize, step: u64) -> f64 {
        let metric = u64::try_from(metric).unwrap_or(u64::MAX);
        let series = mix(self.seed ^ mix(host.wrapping_mul(16).wrapping_add(metric)));
        let share =
            |n: u64| (mix(series.wrapping_add(n.wrapping_mul(0x9E37_79B9_7F4A_7C15))) & 0xFFFF) as f64 / 65_536.0;
        let (knot, place) = (step / KNOT_STEPS, (step % KNOT_STEPS) as f64 / KNOT_STEPS as f64);
        let (left, right) = (share(knot), share(knot + 1));
        let noise = 4.0 * share(u64::MAX / 2 + step) - 2.0;
        let value = (100.0 * (left + (right - left) * place) + noise).clamp(0.0, 100.0);
        (value * 100.0).round() / 100.0
    }

    /// What there is at some steps of a host, as the table has it.
    pub(super) fn batch(&self, schema: &SchemaRef, host: u64, steps: Range<u64>) -> Result<RecordBatch, Failure> {
        let micros = |step: u64| i64::try_from((START_SECONDS + step * STEP_SECONDS) * 1_000_000).unwrap_or(i64::MAX);
        let name = name(host);
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(StringViewArray::from_iter_values(steps.clone().map(|_| name.as_str()))),
            Arc::new(TimestampMicrosecondArray::from_iter_values(steps.clone().map(micros))),
        ];
        for metric in 0..METRICS.len() {
            let values = steps.clone().map(|step| self.value(host, metric, step));
            columns.push(Arc::new(Float64Array::from_iter_values(values)));
        }
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_as_sql_has_it() {
        assert_eq!(moment(0), "2016-01-01T00:00:00");
        assert_eq!(moment(86_399), "2016-01-01T23:59:59");
        assert_eq!(moment(86_400), "2016-01-02T00:00:00");
    }

    #[test]
    fn a_range_has_the_steps_at_its_begin_and_not_those_at_its_end() {
        assert_eq!(steps(0, 20), 0..2);
        assert_eq!(steps(1, 21), 1..3);
        assert_eq!(steps(86_390, 90_000), 8639..8640);
    }

    #[test]
    fn values_go_up_and_down_within_their_bounds() {
        let hosts = Hosts { seed: 1, count: 2 };
        let of = |host, metric| (0..STEPS).map(|step| hosts.value(host, metric, step)).collect::<Vec<_>>();
        let values = of(1, 0);
        assert_eq!(values, of(1, 0));
        assert!(values != of(0, 0) && values != of(1, 1));
        assert!(values.iter().all(|value| (0.0..=100.0).contains(value)));
        assert!(values.windows(2).all(|pair| (pair[0] - pair[1]).abs() < 7.0));
        let high = values.iter().filter(|value| **value > 90.0).count();
        assert!((10..2000).contains(&high), "{high}");
    }
}
