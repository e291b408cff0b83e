/*!
Sets each operation of a workload beside the others of the same intervals.

What makes one operation of a run slower mostly makes the others slower, too: another user of the machine, where memory happens to lie, how far
the database has grown and what it is merging. So the second program's time for an operation is set against the first one's *in the same interval
of their runs*, and this difference beside those of the other operations: what is left is the operation's own. Between runs of one program
an operation's median differs by one to three per cent; this by half of one. A slower `get` that drowns in the differences of runs is plain beside operations that
are as they were.

The others are a yardstick that may itself have changed. So it is the *median* of their differences: it stays where it is if fewer than half of them
are faster or slower. And to be slower beside the others is not enough: an operation is found so only if it is by its own times, too ([`agrees`]).

Operations that commit wait for the device, which has its own days: they are among the others, and are not set beside them.
*/

use crate::bootstrap::median_of;
use crate::machine::Reading;

/// Other operations at least, for their median to be one.
const OTHERS_MIN: usize = 3;

/// How many times the threshold of other measures a difference beside the others must come to: what is left to differ between runs is in no interval of
/// confidence of one run of each.
const THRESHOLDS: f64 = 2.0;

/// The medians of a run's operations in one interval, by their places; `None` for one that was not there.
pub(crate) type Interval = Vec<Option<f64>>;

/// Readings of each run of a program.
type Runs = Vec<Vec<Reading>>;

/// The times of operation `place` in each interval of the runs of both programs, taken in pairs, as they would have been if the other operations
/// had been as fast as they were with the first program; nothing where there are too few others. The first program's are its usual time.
pub(crate) fn beside(place: usize, a: &[Vec<Interval>], b: &[Vec<Interval>]) -> Option<(Runs, Runs)> {
    let own = |run: &Vec<Interval>| run.iter().filter_map(|interval| logarithm(interval, place)).collect();
    let usual = median_of(&a.iter().map(own).collect::<Vec<Vec<f64>>>())?;
    let reading = |logarithm: f64| Reading { value: logarithm.exp(), walk: None };
    let pair = |(a, b): (&Vec<Interval>, &Vec<Interval>)| -> Vec<Reading> {
        a.iter().zip(b).filter_map(|(a, b)| difference(place, a, b)).map(|by| reading(usual + by)).collect()
    };
    let b: Runs = a.iter().zip(b).map(pair).collect();
    let a = b.iter().map(|run| vec![reading(usual); run.len()]).collect();
    b.iter().all(|run| !run.is_empty()).then_some((a, b))
}

/// By how much an operation differs more than the others.
fn difference(place: usize, a: &Interval, b: &Interval) -> Option<f64> {
    let of = |place| Some(logarithm(b, place)? - logarithm(a, place)?);
    let mut others: Vec<f64> = (0..a.len()).filter(|other| *other != place).filter_map(of).collect();
    if others.len() < OTHERS_MIN {
        return None;
    }
    Some(of(place)? - middle(&mut others)?)
}

/// The least difference that counts, where `threshold` is that of other measures.
pub(crate) fn threshold(threshold: f64) -> f64 {
    threshold * THRESHOLDS
}

/// Whether an operation's own times differ in the same direction as its times beside the others, by a `threshold` at least.
pub(crate) fn agrees(beside: f64, own: f64, threshold: f64) -> bool {
    (own - 1.0).abs() >= threshold && (own > 1.0) == (beside > 1.0)
}

fn logarithm(interval: &Interval, place: usize) -> Option<f64> {
    interval.get(place).copied().flatten().filter(|time| *time > 0.0).map(f64::ln)
}

/// The median; of an even number the mean of the two in the middle: the lower one ([`crate::bootstrap::median`]) would have every operation slower
/// than the others.
fn middle(numbers: &mut [f64]) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    let at = numbers.len() / 2;
    let upper = *numbers.get(at)?;
    Some(if numbers.len() % 2 == 1 { upper } else { f64::midpoint(*numbers.get(at.checked_sub(1)?)?, upper) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two intervals of four operations, with times of 1 to 4 times these factors, on a machine of this slowness.
    fn run(factors: [f64; 4], slowness: f64) -> Vec<Interval> {
        let interval = |slow: f64| (1_u32..).zip(factors).map(|(n, f)| Some(f64::from(n) * f * slow)).collect();
        vec![interval(slowness), interval(slowness * 1.7)]
    }

    fn ratio(place: usize, factors: [f64; 4]) -> f64 {
        let (a, b) = beside(place, &[run([1.0; 4], 1.0)], &[run(factors, 1.37)]).unwrap();
        assert!((b[0][0].value / b[0][1].value - 1.0).abs() < 1e-9, "both grew alike: {b:?}");
        b[0][1].value / a[0][1].value
    }

    fn is_about(x: f64, expected: f64) -> bool {
        (x / expected - 1.0).abs() < 1e-9
    }

    #[test]
    fn a_slower_operation_is_told_from_a_slower_machine() {
        assert!(is_about(ratio(0, [1.0; 4]), 1.0));
        assert!(is_about(ratio(0, [1.05, 1.0, 1.0, 1.0]), 1.05));
        assert!((1..4).all(|other| is_about(ratio(other, [1.05, 1.0, 1.0, 1.0]), 1.0)));
        // One of the others got much faster.
        assert!(is_about(ratio(0, [1.05, 1.0, 0.3, 1.0]), 1.05));
    }

    #[test]
    fn two_operations_are_no_yardstick_for_a_third() {
        let three = |runs: Vec<Interval>| runs.into_iter().map(|interval| interval[..3].to_vec()).collect::<Vec<_>>();
        let a = three(run([1.0; 4], 1.0));
        assert!(beside(0, std::slice::from_ref(&a), std::slice::from_ref(&a)).is_none());
        assert!(beside(0, &[], &[]).is_none());
    }

    #[test]
    fn who_is_slower_beside_the_others_only_is_not_slower() {
        assert!(agrees(1.05, 1.04, 0.02) && agrees(0.9, 0.95, 0.02));
        assert!(!agrees(1.05, 1.01, 0.02) && !agrees(1.05, 0.9, 0.02) && !agrees(0.9, 1.1, 0.02));
    }
}
