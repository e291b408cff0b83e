/*!
Tests of one column against constants, and what slice statistics say about them.

A scan hands predicates to a run only to skip slices: a slice is skipped when its statistics prove that no row of it
passes. Whoever asked applies the test to the rows that come. So every doubt here keeps the slice: a constant of another
type, a NaN on either side, a bound that was cut short.
*/

use super::statistics::SliceStats;
use crate::types::{ColumnId, Value};
use arrow::datatypes::IntervalMonthDayNano;
use std::cmp::Ordering;

/// A test of one column against constants: what zone maps can prune by.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnPredicate {
    /// The column.
    pub column: ColumnId,
    /// What its value must be.
    pub test: Test,
}

/// What a value must be.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// `value op constant`; no NULL passes, and nothing passes a NULL constant.
    Compare(CompareOp, Value),
    /// Equal to one of these.
    In(Vec<Value>),
    /// NULL.
    IsNull,
    /// Not NULL.
    IsNotNull,
    /// NULL, or not less than the constant: what rows that have not expired are.
    NullOrAtLeast(Value),
}

/// How a value compares with a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompareOp {
    /// Equal.
    Eq,
    /// Less.
    Lt,
    /// Less or equal.
    LtEq,
    /// Greater.
    Gt,
    /// Greater or equal.
    GtEq,
}

impl Test {
    /// Whether some row of a slice with these statistics may pass. `false` is a proof, `true` is not.
    pub fn may_match(&self, stats: &SliceStats) -> bool {
        let values = stats.rows.saturating_sub(stats.nulls);
        match self {
            Test::IsNull => stats.nulls > 0,
            Test::IsNotNull => values > 0,
            Test::Compare(op, constant) => values > 0 && may_compare(*op, constant, stats),
            Test::NullOrAtLeast(constant) => {
                stats.nulls > 0 || (values > 0 && may_compare(CompareOp::GtEq, constant, stats))
            }
            Test::In(constants) => {
                values > 0 && constants.iter().any(|constant| may_compare(CompareOp::Eq, constant, stats))
            }
        }
    }

    /// Whether every row of a slice with these statistics passes. `true` is a proof, `false` is not.
    pub fn must_match(&self, stats: &SliceStats) -> bool {
        let no_nulls = stats.nulls == 0;
        match self {
            Test::IsNull => stats.nulls == stats.rows,
            Test::IsNotNull => no_nulls,
            Test::Compare(op, constant) => no_nulls && must_compare(*op, constant, stats),
            Test::NullOrAtLeast(constant) => {
                stats.nulls == stats.rows || must_compare(CompareOp::GtEq, constant, stats)
            }
            Test::In(constants) => {
                no_nulls && constants.iter().any(|constant| must_compare(CompareOp::Eq, constant, stats))
            }
        }
    }

    /// Whether a column that a run does not have, all NULL, may pass.
    pub fn may_match_absent(&self) -> bool {
        matches!(self, Test::IsNull | Test::NullOrAtLeast(_))
    }
}

fn may_compare(op: CompareOp, constant: &Value, stats: &SliceStats) -> bool {
    if stats.nan || is_nan(constant) {
        return true;
    }
    let min = stats.min.as_ref().and_then(|min| compare(min, constant));
    let max = stats.max.as_ref().and_then(|max| compare(max, constant));
    let zeros = is_zero(constant);
    // Zeros of both signs are one value here; whoever tells them apart must still get the slice.
    let below = min.is_none_or(|order| order == Ordering::Less || (zeros && order == Ordering::Equal));
    let above = max.is_none_or(|order| order == Ordering::Greater || (zeros && order == Ordering::Equal));
    let not_above = min != Some(Ordering::Greater);
    let not_below = max != Some(Ordering::Less);
    match op {
        CompareOp::Eq => not_above && not_below,
        CompareOp::Lt => below,
        CompareOp::LtEq => not_above,
        CompareOp::Gt => above,
        CompareOp::GtEq => not_below,
    }
}

/// Whether every value does. Both bounds bound, also where they were cut; a doubt about NaN and zeros is no proof.
fn must_compare(op: CompareOp, constant: &Value, stats: &SliceStats) -> bool {
    if stats.nan || is_nan(constant) || is_zero(constant) {
        return false;
    }
    let min = stats.min.as_ref().and_then(|min| compare(min, constant));
    let max = stats.max.as_ref().and_then(|max| compare(max, constant));
    match op {
        CompareOp::Eq => min == Some(Ordering::Equal) && max == Some(Ordering::Equal),
        CompareOp::Lt => max == Some(Ordering::Less),
        CompareOp::LtEq => max.is_some_and(Ordering::is_le),
        CompareOp::Gt => min == Some(Ordering::Greater),
        CompareOp::GtEq => min.is_some_and(Ordering::is_ge),
    }
}

fn is_nan(value: &Value) -> bool {
    match value {
        Value::Float32(value) => value.is_nan(),
        Value::Float64(value) => value.is_nan(),
        _ => false,
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Float32(value) => *value == 0.0,
        Value::Float64(value) => *value == 0.0,
        _ => false,
    }
}

/// The order of two values of one type; `None` for NULL and for values of different types.
/// Floats: zeros of both signs are equal, NaN is equal to itself and after all else. Text by bytes.
pub fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    Some(match (a, b) {
        (Value::Boolean(a), Value::Boolean(b)) => a.cmp(b),
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Float32(a), Value::Float32(b)) => compare_floats((*a).into(), (*b).into()),
        (Value::Float64(a), Value::Float64(b)) => compare_floats(*a, *b),
        (Value::Float32(a), Value::Float64(b)) => compare_floats((*a).into(), *b),
        (Value::Float64(a), Value::Float32(b)) => compare_floats(*a, (*b).into()),
        (Value::Decimal(a), Value::Decimal(b)) => a.cmp(b),
        (Value::Interval(a), Value::Interval(b)) => interval_nanos(*a).cmp(&interval_nanos(*b)),
        (Value::Text(a), Value::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
        (Value::Uuid(a), Value::Uuid(b)) => a.cmp(b),
        _ => return None,
    })
}

/// As [`compare`], with NULLs last and equal: the order of a key's column. `None` for values of different types.
pub(super) fn compare_in_key(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Null, Value::Null) => Some(Ordering::Equal),
        (Value::Null, _) => Some(Ordering::Greater),
        (_, Value::Null) => Some(Ordering::Less),
        (a, b) => compare(a, b),
    }
}

pub(super) fn compare_floats(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// An interval's place in the order: a month is 30 days, a day 24 hours.
pub(super) fn interval_nanos(interval: IntervalMonthDayNano) -> i128 {
    const DAY: i128 = 86_400_000_000_000;
    (i128::from(interval.months) * 30 + i128::from(interval.days)) * DAY + i128::from(interval.nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(rows: u32, nulls: u32, min: Value, max: Value) -> SliceStats {
        let known = |value: Value| Some(value).filter(|value| *value != Value::Null);
        SliceStats { rows, nulls, min: known(min), max: known(max), ..SliceStats::default() }
    }

    fn passes(op: CompareOp, constant: Value, of: &SliceStats) -> bool {
        Test::Compare(op, constant).may_match(of)
    }

    #[test]
    fn bounds_decide_comparisons() {
        let of = stats(10, 0, Value::Int(5), Value::Int(9));
        for (op, constant, expected) in [
            (CompareOp::Eq, 4, false),
            (CompareOp::Eq, 5, true),
            (CompareOp::Eq, 10, false),
            (CompareOp::Lt, 5, false),
            (CompareOp::LtEq, 5, true),
            (CompareOp::Gt, 9, false),
            (CompareOp::GtEq, 9, true),
        ] {
            assert_eq!(passes(op, Value::Int(constant), &of), expected, "{op:?} {constant}");
        }
        assert!(!Test::In(vec![Value::Int(1), Value::Int(20)]).may_match(&of));
        assert!(Test::In(vec![Value::Int(1), Value::Int(7)]).may_match(&of));
    }

    #[test]
    fn nulls_decide_null_tests_and_exclude_comparisons() {
        let all = stats(4, 4, Value::Null, Value::Null);
        assert!(Test::IsNull.may_match(&all) && !Test::IsNotNull.may_match(&all));
        assert!(!passes(CompareOp::Eq, Value::Int(1), &all));
        let none = stats(4, 0, Value::Int(1), Value::Int(1));
        assert!(!Test::IsNull.may_match(&none) && Test::IsNotNull.may_match(&none));
    }

    #[test]
    fn a_proof_that_all_rows_pass_is_one_for_every_value() {
        let (low, high) = (3i64, 6i64);
        let of = stats(4, 0, Value::Int(low), Value::Int(high));
        for constant in 1..9 {
            for (op, holds) in [
                (CompareOp::Eq, i64::eq as fn(&i64, &i64) -> bool),
                (CompareOp::Lt, i64::lt),
                (CompareOp::LtEq, i64::le),
                (CompareOp::Gt, i64::gt),
                (CompareOp::GtEq, i64::ge),
            ] {
                let test = Test::Compare(op, Value::Int(constant));
                assert_eq!(test.must_match(&of), (low..=high).all(|value| holds(&value, &constant)), "{test:?}");
                assert_eq!(test.may_match(&of), (low..=high).any(|value| holds(&value, &constant)), "{test:?}");
            }
        }
        let mixed = stats(4, 1, Value::Int(5), Value::Int(5));
        assert!(!Test::Compare(CompareOp::Eq, Value::Int(5)).must_match(&mixed));
        assert!(Test::NullOrAtLeast(Value::Int(5)).must_match(&mixed));
        assert!(!Test::IsNull.must_match(&mixed) && !Test::IsNotNull.must_match(&mixed));
        let mut floats = stats(4, 0, Value::Float64(1.0), Value::Float64(2.0));
        assert!(Test::Compare(CompareOp::Gt, Value::Float64(0.5)).must_match(&floats));
        floats.nan = true;
        assert!(!Test::Compare(CompareOp::LtEq, Value::Float64(2.0)).must_match(&floats));
    }

    #[test]
    fn a_doubt_keeps_the_slice() {
        let ints = stats(4, 0, Value::Int(5), Value::Int(9));
        assert!(passes(CompareOp::Eq, Value::Text("x".into()), &ints));
        assert!(passes(CompareOp::Gt, Value::Null, &ints));
        let mut floats = stats(4, 0, Value::Float64(1.0), Value::Float64(2.0));
        assert!(!passes(CompareOp::Gt, Value::Float64(5.0), &floats));
        assert!(passes(CompareOp::Gt, Value::Float64(f64::NAN), &floats));
        floats.nan = true;
        assert!(passes(CompareOp::Gt, Value::Float64(5.0), &floats));
        let zeros = stats(4, 0, Value::Float64(-0.0), Value::Float64(-0.0));
        assert!(passes(CompareOp::Lt, Value::Float64(0.0), &zeros));
        assert!(passes(CompareOp::Eq, Value::Float64(0.0), &zeros));
    }
}
