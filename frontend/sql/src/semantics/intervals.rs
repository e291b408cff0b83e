/*!
Intervals times numbers, and divided by them: `5 * INTERVAL '1 minute'`, `n * INTERVAL '1 day'`, `INTERVAL '1 hour' / 4`. DataFusion
has no such operators. They are operators of [`super::arithmetic`], named and guarded as those of numbers are.

The answers are PostgreSQL's (`interval_mul` and `interval_div`): months, days and time are scaled each for itself, and what
is left over of a month becomes days, 30 to a month, what is left over of a day time, 24 hours to a day, both rounded to
microseconds. Numbers are doubles. What no interval holds is 22008, a zero divisor 22012.
*/

use super::arithmetic::{self, Op};
use super::raise;
use crate::error::state;
use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::compute::try_binary;
use arrow::datatypes::{DataType, Float64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit};
use arrow::error::ArrowError;
use datafusion::common::{Result, internal_err};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, cast};
use std::sync::Arc;

const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);
const DAYS_OF_MONTH: f64 = 30.0;
const SECONDS_OF_DAY: f64 = 86_400.0;
const MICROS_OF_SECOND: f64 = 1e6;
const NANOS_OF_MICRO: i64 = 1_000;

/// Whether an interval is multiplied with, or divided by, what has this type: numbers; a parameter beside an interval is one, and so is a
/// bare NULL.
pub(super) fn is_factor(ty: &DataType) -> bool {
    ty.is_numeric() || ty.is_null()
}

/// An interval times a number, or divided by it, as a checked operator.
pub(super) fn operator(op: Op, interval: Expr, number: Expr) -> Expr {
    arithmetic::binary(op, cast(interval, INTERVAL), cast(number, DataType::Float64), INTERVAL)
}

/// The same of columns, row by row.
pub(super) fn scale(op: Op, intervals: &ArrayRef, numbers: &ArrayRef) -> Result<ArrayRef> {
    let (Some(intervals), Some(numbers)) =
        (intervals.as_primitive_opt::<IntervalMonthDayNanoType>(), numbers.as_primitive_opt::<Float64Type>())
    else {
        return internal_err!(
            "{} {op:?} {} where an interval and a number were planned",
            intervals.data_type(),
            numbers.data_type()
        );
    };
    let scaled = |interval, number| scaled(op, interval, number).map_err(|e| ArrowError::ExternalError(e.into()));
    let scaled: PrimitiveArray<IntervalMonthDayNanoType> = try_binary(intervals, numbers, scaled)?;
    Ok(Arc::new(scaled))
}

/// An interval times a number, or divided by it.
fn scaled(op: Op, interval: IntervalMonthDayNano, number: f64) -> Result<IntervalMonthDayNano> {
    if op == Op::Divide && number == 0.0 {
        return Err(arithmetic::division_by_zero());
    }
    let by = |value: f64| if op == Op::Divide { value / number } else { value * number };
    let (exact_months, exact_days) = (by(interval.months.into()), by(interval.days.into()));
    let (months, days) = (exact_months.trunc(), exact_days.trunc());
    let days_of_months = to_micros((exact_months - months) * DAYS_OF_MONTH);
    let mut seconds = to_micros((exact_days - days + days_of_months - days_of_months.trunc()) * SECONDS_OF_DAY);
    // Rounding may have made a whole day of it.
    let whole = if seconds.abs() >= SECONDS_OF_DAY { (seconds / SECONDS_OF_DAY).trunc() } else { 0.0 };
    seconds -= whole * SECONDS_OF_DAY;
    let micros = interval.nanoseconds as f64 / NANOS_OF_MICRO as f64;
    let micros = (by(micros) + seconds * MICROS_OF_SECOND).round_ties_even();
    let nanoseconds = whole_number(micros)?.checked_mul(NANOS_OF_MICRO).ok_or_else(out_of_range)?;
    let days = whole_number(days + whole + days_of_months.trunc())?;
    Ok(IntervalMonthDayNano {
        months: i32::try_from(whole_number(months)?).map_err(|_| out_of_range())?,
        days: i32::try_from(days).map_err(|_| out_of_range())?,
        nanoseconds,
    })
}

fn to_micros(seconds: f64) -> f64 {
    (seconds * MICROS_OF_SECOND).round_ties_even() / MICROS_OF_SECOND
}

/// A double without a fraction as an integer.
fn whole_number(value: f64) -> Result<i64> {
    const TOO_LARGE: f64 = 9_223_372_036_854_775_808.0;
    if !(-TOO_LARGE..TOO_LARGE).contains(&value) {
        return Err(out_of_range());
    }
    #[expect(clippy::cast_possible_truncation, reason = "it has no fraction and is in range")]
    Ok(value as i64)
}

fn out_of_range() -> DataFusionError {
    raise(state::DATETIME_FIELD_OVERFLOW, "interval out of range")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_scaled_as_postgresql_does() {
        let interval =
            |months, days, seconds: i64| IntervalMonthDayNano { months, days, nanoseconds: seconds * 1_000_000_000 };
        let cases = [
            (Op::Multiply, interval(0, 0, 60), 5.0, Some(interval(0, 0, 300))),
            (Op::Multiply, interval(0, 1, 0), 1.5, Some(interval(0, 1, 43_200))),
            (Op::Multiply, interval(1, 0, 0), 0.5, Some(interval(0, 15, 0))),
            (Op::Multiply, interval(-1, 0, 0), 0.25, Some(interval(0, -7, -43_200))),
            (Op::Multiply, interval(0, 3, 0), 0.1, Some(interval(0, 0, 25_920))),
            (Op::Divide, interval(0, 0, 3_600), 4.0, Some(interval(0, 0, 900))),
            (Op::Divide, interval(1, 0, 0), 7.0, Some(IntervalMonthDayNano::new(0, 4, 24_685_689_600_000))),
            (Op::Divide, interval(0, 1, 0), 0.0, None),
            (Op::Multiply, interval(1 << 30, 0, 0), 4.0, None),
            (Op::Multiply, interval(0, 0, 1), 1e18, None),
            (Op::Multiply, interval(0, 0, 1), f64::NAN, None),
            (Op::Multiply, interval(1, 0, 0), f64::INFINITY, None),
        ];
        for (op, interval, number, wanted) in cases {
            assert_eq!(scaled(op, interval, number).ok(), wanted, "{interval:?} {op:?} {number}");
        }
    }
}
