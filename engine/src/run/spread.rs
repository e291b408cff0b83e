/*!
How a column of integers or moments is spread over a run: its bounds, and about how many of its values lie below another. Reckoned
once from the slices' statistics, without reading a row.

Within a slice values are taken to be spread evenly: between its least and its greatest, but about their mean. So one value
that lies far off counts for one.
*/

use super::reader::Run;
use super::statistics::SliceStats;
use super::wide;
use crate::error::Result;
use crate::types::{ColumnId, Value};

/// What is known of a column of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Spread {
    /// Whether the run's statistics say anything of the column.
    known: bool,
    /// NULLs, those of tombstones included.
    nulls: u64,
    /// The least and the greatest value; `None` where all are NULL.
    bounds: Option<(i64, i64)>,
    /// What about a quarter, and about a sixty-fourth, of the rows lies below.
    quarter: i64,
    trace: i64,
}

/// The values of one slice.
struct Stretch {
    values: u64,
    low: i64,
    high: i64,
    /// Where most of them lie.
    from: i128,
    to: i128,
}

impl Stretch {
    fn of(stats: &SliceStats) -> Option<Stretch> {
        let (Some(Value::Int(low)), Some(Value::Int(high))) = (&stats.min, &stats.max) else { return None };
        let values = u64::from(stats.rows.saturating_sub(stats.nulls));
        let (least, greatest) = (i128::from(*low), i128::from(*high));
        let mean = match &stats.sum {
            Some(Value::Decimal(sum)) => sum.checked_div(values.into()).unwrap_or(least),
            _ => i128::midpoint(least, greatest),
        };
        let (from, to) = (least.max(2 * mean - greatest), greatest.min(2 * mean - least));
        Some(Stretch { values, low: *low, high: *high, from, to })
    }

    /// About how many values lie below `bound`.
    fn below(&self, bound: i64) -> u64 {
        let bound = i128::from(bound);
        if bound <= self.low.into() {
            return 0;
        }
        if bound > self.high.into() {
            return self.values;
        }
        let part = (bound - self.from).clamp(0, self.to - self.from + 1);
        let values = i128::from(self.values) * part / (self.to - self.from + 1).max(1);
        u64::try_from(values).unwrap_or(0)
    }
}

/// The least bound below which about so many values lie; where there are not so many, one beyond all.
fn bound_of(stretches: &[Stretch], (low, high): (i64, i64), values: u64) -> i64 {
    let (mut from, mut to) = (low, high.saturating_add(1));
    while from < to {
        // Rounded down, for values before 1970, too.
        let middle = (from & to) + ((from ^ to) >> 1);
        let below: u64 = stretches.iter().map(|stretch| stretch.below(middle)).sum();
        match below >= values.max(1) {
            true => to = middle,
            false => from = middle.saturating_add(1),
        }
    }
    from
}

impl Spread {
    fn of(slices: &[SliceStats]) -> Spread {
        let nulls = slices.iter().map(|stats| u64::from(stats.nulls)).sum();
        let rows: u64 = slices.iter().map(|stats| u64::from(stats.rows)).sum();
        let stretches: Vec<Stretch> = slices.iter().filter_map(Stretch::of).collect();
        // A slice without bounds has no values, or nothing is known of it.
        let known = slices.iter().all(|stats| stats.nulls >= stats.rows || Stretch::of(stats).is_some());
        let low = stretches.iter().map(|stretch| stretch.low).min();
        let bounds = low.zip(stretches.iter().map(|stretch| stretch.high).max());
        let bound = |fraction| bounds.map_or(i64::MAX, |bounds| bound_of(&stretches, bounds, rows / fraction));
        Spread { known, nulls, bounds, quarter: bound(4), trace: bound(64) }
    }

    /// Whether some value may be less than `bound`.
    pub(crate) fn may_be_below(&self, bound: i64) -> bool {
        !self.known || self.bounds.is_some_and(|(low, _)| low < bound)
    }

    /// Whether every row has a value, and one less than `bound`; but for so many rows that may be NULL.
    pub(crate) fn is_below(&self, bound: i64, nulls: u64) -> bool {
        self.known && self.nulls <= nulls && self.bounds.is_some_and(|(_, high)| high < bound)
    }

    /// Whether about a quarter of the rows lie below `bound`.
    pub(crate) fn quarter_is_below(&self, bound: i64) -> bool {
        self.may_be_below(bound) && self.quarter < bound
    }

    /// Whether about a sixty-fourth of them do.
    pub(crate) fn trace_is_below(&self, bound: i64) -> bool {
        self.may_be_below(bound) && self.trace < bound
    }
}

impl Run {
    /// How a column of integers or moments is spread; reckoned once for the column that is asked for first, and for the other one
    /// that was asked for last.
    ///
    /// # Errors
    /// `Corruption` for bytes that are not what was written; `Io`.
    pub(crate) fn spread(&self, column: ColumnId) -> Result<Spread> {
        let (of, spread) = self.first_spread.get_or_try_init(|| self.reckon(column).map(|spread| (column, spread)))?;
        if *of == column {
            return Ok(*spread);
        }
        if let Some((of, spread)) = *self.spread.lock()
            && of == column
        {
            return Ok(spread);
        }
        let spread = self.reckon(column)?;
        *self.spread.lock() = Some((column, spread));
        Ok(spread)
    }

    fn reckon(&self, column: ColumnId) -> Result<Spread> {
        let loaded = self.loaded()?;
        let slices = loaded.locators.slices();
        let Some(statistics) = loaded.column_statistics(column)? else {
            // A column that the run does not have is NULL in every row.
            let absent = loaded.place_of_id(column).is_none();
            return Ok(Spread { known: absent, nulls: self.meta().rows, ..Spread::default() });
        };
        let mut stats = Vec::with_capacity(wide(slices));
        for slice in 0..slices {
            stats.push(statistics.get(loaded, slice)?);
        }
        Ok(Spread::of(&stats))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(values: &[i64], nulls: u32) -> SliceStats {
        SliceStats {
            rows: u32::try_from(values.len()).unwrap() + nulls,
            nulls,
            min: values.iter().min().map(|value| Value::Int(*value)),
            max: values.iter().max().map(|value| Value::Int(*value)),
            sum: Some(Value::Decimal(values.iter().map(|value| i128::from(*value)).sum())),
            ..SliceStats::default()
        }
    }

    #[test]
    fn even_values_are_counted_about_right() {
        let spread =
            Spread::of(&[slice(&(0..1000).collect::<Vec<_>>(), 0), slice(&(500..1500).collect::<Vec<_>>(), 0)]);
        assert!(spread.may_be_below(1) && !spread.may_be_below(0));
        assert!(!spread.quarter_is_below(450) && spread.quarter_is_below(550));
        assert!(!spread.trace_is_below(20) && spread.trace_is_below(50));
        assert!(!spread.is_below(1499, 0) && spread.is_below(1500, 0));
    }

    #[test]
    fn a_value_far_off_counts_for_one() {
        let mut values: Vec<i64> = (1_000_000..1_001_000).collect();
        values.push(-1);
        let spread = Spread::of(&[slice(&values, 0)]);
        assert!(spread.may_be_below(0) && !spread.trace_is_below(990_000));
    }

    #[test]
    fn nulls_are_never_below() {
        let spread = Spread::of(&[slice(&[1, 2, 3], 1), slice(&[], 4)]);
        assert!(!spread.is_below(100, 0) && spread.is_below(100, 5));
        let nothing = Spread::of(&[slice(&[], 4)]);
        assert!(!nothing.may_be_below(i64::MAX) && !nothing.is_below(i64::MAX, 4));
        let unknown = Spread::of(&[SliceStats { rows: 4, ..SliceStats::default() }]);
        assert!(unknown.may_be_below(0) && !unknown.is_below(i64::MAX, 0));
    }
}
