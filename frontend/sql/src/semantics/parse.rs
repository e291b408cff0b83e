/*!
Text to values, as PostgreSQL reads it.

Each function takes the whole text of one value and gives the value or PostgreSQL's error: 22P02 for what is no number,
boolean or bytes, 22007 for what is no date or time, 22008 for a date that no calendar has, 22003 for a number outside
its type. Blanks around a value are skipped.

Dates and times are read in ISO form (`2024-02-29`, `20240229`, `2024-02-29 12:30:00.25+02`, `T` for the blank,
`infinity` not at all); of the words only `epoch`. Intervals are read in PostgreSQL's and ISO's forms.
*/

use super::raise;
use crate::error::state;
use crate::semantics::arithmetic::{TEN_TO_38, power_of_ten};
use arrow::datatypes::IntervalMonthDayNano;
use datafusion::common::Result;
use datafusion::error::DataFusionError;

/// Microseconds in a second.
const MICROS: i64 = 1_000_000;
/// Microseconds in a day.
const MICROS_PER_DAY: i64 = 86_400 * MICROS;

/// 22P02 in PostgreSQL's words.
pub(crate) fn invalid(ty: &str, text: &str) -> DataFusionError {
    raise(state::INVALID_TEXT_REPRESENTATION, format!("invalid input syntax for type {ty}: \"{text}\""))
}

fn out_of_range(ty: &str, text: &str) -> DataFusionError {
    raise(state::NUMERIC_VALUE_OUT_OF_RANGE, format!("value \"{text}\" is out of range for type {ty}"))
}

fn invalid_time(ty: &str, text: &str) -> DataFusionError {
    raise(state::INVALID_DATETIME_FORMAT, format!("invalid input syntax for type {ty}: \"{text}\""))
}

fn time_out_of_range(text: &str) -> DataFusionError {
    raise(state::DATETIME_FIELD_OVERFLOW, format!("date/time field value out of range: \"{text}\""))
}

/// An integer of type `ty`, which holds `min` to `max`.
pub(crate) fn integer(text: &str, ty: &str, min: i64, max: i64) -> Result<i64> {
    let bare = text.trim();
    let digits = bare.strip_prefix(['-', '+']).unwrap_or(bare);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid(ty, text));
    }
    match bare.parse::<i64>() {
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        _ => Err(out_of_range(ty, text)),
    }
}

/// A double; `NaN`, `Infinity` and `inf` in any case.
pub(crate) fn double(text: &str, ty: &str) -> Result<f64> {
    let bare = text.trim();
    let value = special_float(bare).map_or_else(|| bare.parse::<f64>(), Ok).map_err(|_| invalid(ty, text))?;
    if value.is_infinite() && !bare.to_ascii_lowercase().contains("inf") || value == 0.0 && has_digit_above_zero(bare) {
        return Err(raise(state::NUMERIC_VALUE_OUT_OF_RANGE, format!("\"{text}\" is out of range for type {ty}")));
    }
    Ok(value)
}

/// A real; as [`double`].
pub(crate) fn real(text: &str) -> Result<f32> {
    let bare = text.trim();
    let value: f32 = match special_float(bare) {
        Some(value) if value.is_nan() => f32::NAN,
        Some(value) if value > 0.0 => f32::INFINITY,
        Some(_) => f32::NEG_INFINITY,
        None => bare.parse().map_err(|_| invalid("real", text))?,
    };
    if value.is_infinite() && special_float(bare).is_none() || value == 0.0 && has_digit_above_zero(bare) {
        return Err(raise(state::NUMERIC_VALUE_OUT_OF_RANGE, format!("\"{text}\" is out of range for type real")));
    }
    Ok(value)
}

fn special_float(text: &str) -> Option<f64> {
    let (negative, name) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    if name.eq_ignore_ascii_case("nan") && name.len() == text.len() {
        return Some(f64::NAN);
    }
    if name.eq_ignore_ascii_case("infinity") || name.eq_ignore_ascii_case("inf") {
        return Some(if negative { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    None
}

/// Whether a number that parsed to zero was written as something else: it was too small.
fn has_digit_above_zero(text: &str) -> bool {
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    mantissa.bytes().any(|byte| (b'1'..=b'9').contains(&byte))
}

/// A numeric of `scale` digits after the point and `precision` in all, rounded half away from zero.
pub(crate) fn numeric(text: &str, precision: u8, scale: i8) -> Result<i128> {
    let bad = || invalid("numeric", text);
    let bare = text.trim();
    let (negative, rest) = match bare.strip_prefix(['-', '+']) {
        Some(rest) => (bare.starts_with('-'), rest),
        None => (false, bare),
    };
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| bad())?),
        None => (rest, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !all_digits(whole) || !all_digits(fraction) {
        if ["nan", "infinity", "inf"].iter().any(|name| rest.eq_ignore_ascii_case(name)) {
            let message = format!("numeric value \"{text}\" is not supported");
            return Err(raise(state::FEATURE_NOT_SUPPORTED, message));
        }
        return Err(bad());
    }
    let overflow = || numeric_overflow(precision, scale);
    // How many digits to keep, counted from the first; what follows rounds.
    let whole_len = i64::try_from(whole.len()).unwrap_or(i64::MAX);
    let keep = whole_len.saturating_add(i64::from(exponent)).saturating_add(i64::from(scale));
    let mut value: i128 = 0;
    let mut seen: i64 = 0;
    for digit in whole.bytes().chain(fraction.bytes()).map(|byte| i128::from(byte - b'0')) {
        if seen >= keep {
            if seen == keep && digit >= 5 {
                value += 1;
            }
            seen += 1;
            break;
        }
        value = value.checked_mul(10).and_then(|value| value.checked_add(digit)).ok_or_else(overflow)?;
        seen += 1;
    }
    if seen < keep && value != 0 {
        let factor = i16::try_from(keep - seen).ok().and_then(power_of_ten).ok_or_else(overflow)?;
        value = value.checked_mul(factor).ok_or_else(overflow)?;
    }
    let limit = power_of_ten(i16::from(precision)).ok_or_else(overflow)?;
    if value >= limit || value.unsigned_abs() >= TEN_TO_38 {
        return Err(overflow());
    }
    Ok(if negative { -value } else { value })
}

/// 22003 as PostgreSQL says it of `numeric(precision, scale)`.
pub(crate) fn numeric_overflow(precision: u8, scale: i8) -> DataFusionError {
    let whole = i16::from(precision) - i16::from(scale);
    crate::error::SqlError::new(state::NUMERIC_VALUE_OUT_OF_RANGE, "numeric field overflow")
        .with_detail(format!(
            "A field with precision {precision}, scale {scale} must round to an absolute value less than {}.",
            if whole == 0 { "1".to_owned() } else { format!("10^{whole}") }
        ))
        .into()
}

/// A boolean: any prefix of true, false, yes, no; on, of, off; 1, 0.
pub(crate) fn boolean(text: &str) -> Result<bool> {
    let bare = text.trim().to_ascii_lowercase();
    let prefix_of = |word: &str, least: usize| bare.len() >= least && word.starts_with(&bare);
    if prefix_of("true", 1) || prefix_of("yes", 1) || bare == "on" || bare == "1" {
        return Ok(true);
    }
    if prefix_of("false", 1) || prefix_of("no", 1) || prefix_of("off", 2) || bare == "0" {
        return Ok(false);
    }
    Err(invalid("boolean", text))
}

/// Bytes: `\xdeadbeef`, or the older form with `\\` and `\ooo`.
pub(crate) fn bytea(text: &str) -> Result<Vec<u8>> {
    let Some(hex) = text.strip_prefix("\\x") else { return escaped_bytes(text) };
    let nibble = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let wrong = |what: String| raise(state::INVALID_TEXT_REPRESENTATION, what);
    if !digits.len().is_multiple_of(2) {
        return Err(wrong("invalid hexadecimal data: odd number of digits".into()));
    }
    digits
        .chunks_exact(2)
        .map(|pair| match pair {
            [high, low] => match (nibble(*high), nibble(*low)) {
                (Some(high), Some(low)) => Ok(high << 4 | low),
                (None, _) => Err(wrong(format!("invalid hexadecimal digit: \"{}\"", char::from(*high)))),
                _ => Err(wrong(format!("invalid hexadecimal digit: \"{}\"", char::from(*low)))),
            },
            _ => Err(invalid("bytea", text)),
        })
        .collect()
}

fn escaped_bytes(text: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [] => return Ok(bytes),
            [b'\\', b'\\', tail @ ..] => {
                bytes.push(b'\\');
                tail
            }
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                tail
            }
            [b'\\', ..] => return Err(invalid("bytea", text)),
            [byte, tail @ ..] => {
                bytes.push(*byte);
                tail
            }
        };
    }
}

/// Days since 1970-01-01. A time behind the date is read and dropped, as PostgreSQL does.
pub(crate) fn date(text: &str) -> Result<i32> {
    let (days, rest) = date_part(text.trim(), text, "date")?;
    if !rest.is_empty() {
        clock(rest, text, "date")?;
    }
    i32::try_from(days).map_err(|_| time_out_of_range(text))
}

/// Microseconds since midnight.
pub(crate) fn time(text: &str) -> Result<i64> {
    Ok(time_of_day(text.trim(), text, "time")?.0)
}

/// Microseconds since 1970-01-01 00:00. With `zoned`, of UTC: an offset in the text is taken off; without, it is
/// read and ignored, as PostgreSQL does.
pub(crate) fn timestamp(text: &str, zoned: bool) -> Result<i64> {
    let ty = if zoned { "timestamp with time zone" } else { "timestamp" };
    let (days, rest) = date_part(text.trim(), text, ty)?;
    let (micros, offset) = if rest.is_empty() { (0, None) } else { clock(rest, text, ty)? };
    let shift = if zoned { offset.unwrap_or(0) * MICROS } else { 0 };
    let at = days.checked_mul(MICROS_PER_DAY).and_then(|at| at.checked_add(micros)?.checked_sub(shift));
    at.ok_or_else(|| time_out_of_range(text))
}

/// The time behind a date, after a blank or `T`.
fn clock(rest: &str, text: &str, ty: &str) -> Result<(i64, Option<i64>)> {
    let bare = rest.strip_prefix(['T', 't']).unwrap_or(rest).trim_start();
    time_of_day(bare, text, ty)
}

/// `2024-02-29`, `2024-2-9`, `2024/02/29` or `20240229`: days since 1970-01-01, and what follows.
fn date_part<'a>(bare: &'a str, text: &str, ty: &str) -> Result<(i64, &'a str)> {
    let bad = || invalid_time(ty, text);
    if bare.eq_ignore_ascii_case("epoch") {
        return Ok((0, ""));
    }
    let (first, rest) = number(bare).ok_or_else(bad)?;
    let (year, month, day, rest) = match rest.strip_prefix(['-', '/']) {
        None if first.len() == 8 => {
            let (year, tail) = first.split_at_checked(4).ok_or_else(bad)?;
            let (month, day) = tail.split_at_checked(2).ok_or_else(bad)?;
            (year, month, day, rest)
        }
        Some(tail) if first.len() >= 3 => {
            let (month, tail) = number(tail).ok_or_else(bad)?;
            let (day, tail) = tail.strip_prefix(['-', '/']).and_then(number).ok_or_else(bad)?;
            (first, month, day, tail)
        }
        _ => return Err(bad()),
    };
    let (rest, before_christ) = match rest.trim_end().strip_suffix("BC") {
        Some(rest) => (rest.trim_end(), true),
        None => (rest, false),
    };
    let parse = |part: &str| part.parse::<i32>().map_err(|_| time_out_of_range(text));
    let year = parse(year)?;
    let year = if before_christ { 1 - year } else { year };
    let (month, day) = (u32::try_from(parse(month)?).unwrap_or(0), u32::try_from(parse(day)?).unwrap_or(0));
    let found = chrono::NaiveDate::from_ymd_opt(year, month, day).ok_or_else(|| time_out_of_range(text))?;
    let days = found.signed_duration_since(chrono::NaiveDate::default()).num_days();
    Ok((days, rest))
}

/// The digits at the start of `text`, and the rest.
fn number(text: &str) -> Option<(&str, &str)> {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    text.split_at_checked(end).filter(|(digits, _)| !digits.is_empty())
}

/// `12:30`, `12:30:00.25`, `12:30:00+02:00`, `24:00`: microseconds since midnight, and seconds east of UTC.
fn time_of_day(bare: &str, text: &str, ty: &str) -> Result<(i64, Option<i64>)> {
    let bad = || invalid_time(ty, text);
    let (hours, rest) = number(bare).ok_or_else(bad)?;
    let (minutes, rest) = rest.strip_prefix(':').and_then(number).ok_or_else(bad)?;
    let (seconds, rest) = match rest.strip_prefix(':') {
        Some(rest) => number(rest).ok_or_else(bad)?,
        None => ("0", rest),
    };
    let (micros, rest) = match rest.strip_prefix('.') {
        Some(rest) => {
            let (digits, rest) = number(rest).unwrap_or(("", rest));
            (fraction_micros(digits), rest)
        }
        None => (0, rest),
    };
    let parse = |part: &str| part.parse::<i64>().map_err(|_| time_out_of_range(text));
    let (mut hours, minutes, seconds) = (parse(hours)?, parse(minutes)?, parse(seconds)?);
    let mut rest = rest.trim_start();
    for (suffix, afternoon) in [("am", false), ("pm", true)] {
        if let Some((head, tail)) = rest.split_at_checked(2)
            && head.eq_ignore_ascii_case(suffix)
            && (1..=12).contains(&hours)
        {
            hours = hours % 12 + if afternoon { 12 } else { 0 };
            rest = tail.trim_start();
        }
    }
    if minutes > 59 || seconds > 60 || hours > 24 || hours == 24 && minutes + seconds + micros > 0 {
        return Err(time_out_of_range(text));
    }
    let at = ((hours * 60 + minutes) * 60 + seconds) * MICROS + micros;
    Ok((at, zone(rest, text, ty)?))
}

/// Microseconds of the digits behind a point, rounded.
fn fraction_micros(digits: &str) -> i64 {
    let mut micros = 0;
    let mut bytes = digits.bytes();
    for _ in 0..6 {
        micros = micros * 10 + i64::from(bytes.next().unwrap_or(b'0') - b'0');
    }
    micros + i64::from(bytes.next().is_some_and(|next| next >= b'5'))
}

/// `Z`, `UTC`, `GMT`, `+02`, `-05:30`, `+0530`, or a zone's name that has one offset: seconds east of UTC.
fn zone(rest: &str, text: &str, ty: &str) -> Result<Option<i64>> {
    let rest = rest.trim();
    if rest.is_empty() {
        return Ok(None);
    }
    if ["z", "utc", "gmt", "zulu"].iter().any(|name| rest.eq_ignore_ascii_case(name)) {
        return Ok(Some(0));
    }
    let bad = || invalid_time(ty, text);
    let negative = rest.starts_with('-');
    let offset = rest.strip_prefix(['+', '-']).ok_or_else(bad)?;
    let (first, tail) = number(offset).ok_or_else(bad)?;
    let (hours, minutes, seconds) = match (first.len(), tail.strip_prefix(':')) {
        (1 | 2, None) if tail.is_empty() => (first, "0", "0"),
        (4, None) if tail.is_empty() => {
            let (hours, minutes) = first.split_at_checked(2).ok_or_else(bad)?;
            (hours, minutes, "0")
        }
        (1 | 2, Some(tail)) => match tail.split_once(':') {
            Some((minutes, seconds)) => (first, minutes, seconds),
            None => (first, tail, "0"),
        },
        _ => return Err(bad()),
    };
    let parse = |part: &str| part.parse::<i64>().ok().filter(|part| (0..60).contains(part)).ok_or_else(bad);
    let (hours, minutes, seconds) = (parse(hours)?, parse(minutes)?, parse(seconds)?);
    if hours > 15 {
        return Err(time_out_of_range(text));
    }
    let seconds = (hours * 60 + minutes) * 60 + seconds;
    Ok(Some(if negative { -seconds } else { seconds }))
}

/// An interval: `1 year 2 mons -3 days 04:05:06.7`, `1.5 hours ago`, `04:05`, or ISO's `P1Y2M3DT4H5M6.7S`.
pub(crate) fn interval(text: &str) -> Result<IntervalMonthDayNano> {
    let bad = || invalid_time("interval", text);
    let bare = text.trim().to_ascii_lowercase();
    let mut sum = Parts::default();
    if let Some(iso) = bare.strip_prefix('p') {
        iso_interval(iso, &mut sum).ok_or_else(bad)?;
        return sum.finish(false).ok_or_else(|| time_out_of_range(text));
    }
    let bare = bare.strip_prefix('@').unwrap_or(&bare);
    let mut words = bare.split_ascii_whitespace().peekable();
    let mut ago = false;
    let mut any = false;
    while let Some(word) = words.next() {
        if any && word == "ago" && words.peek().is_none() {
            ago = true;
        } else if word.contains(':') {
            sum.nanos += clock_nanos(word).ok_or_else(bad)?;
        } else {
            let split = word.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(word.len());
            let (number, unit) = word.split_at_checked(split).ok_or_else(bad)?;
            let unit = match unit {
                "" => words.next().unwrap_or("seconds"),
                unit => unit,
            };
            sum.add(decimal_nanos(number).ok_or_else(bad)?, unit).ok_or_else(bad)?;
        }
        any = true;
    }
    if !any {
        return Err(bad());
    }
    sum.finish(ago).ok_or_else(|| time_out_of_range(text))
}

const NANOS: i128 = 1_000_000_000;

/// The three parts of an interval, wide enough to add up in.
#[derive(Default)]
struct Parts {
    months: i128,
    days: i128,
    nanos: i128,
}

impl Parts {
    /// Adds `amount` billionths of a unit. What is no whole month goes to the days, of which it has 30; what is no whole
    /// day to the time.
    fn add(&mut self, amount: i128, unit: &str) -> Option<()> {
        let months = match unit.strip_suffix('s').filter(|unit| unit.len() > 1).unwrap_or(unit) {
            "y" | "yr" | "year" => 12,
            "mon" | "month" => 1,
            "decade" => 120,
            "c" | "cent" | "century" | "centurie" => 1_200,
            "millennium" | "mil" | "millennia" => 12_000,
            "w" | "week" => return self.add_days(amount * 7),
            "d" | "day" => return self.add_days(amount),
            "h" | "hr" | "hour" => return self.add_nanos(amount, 3_600),
            "m" | "min" | "minute" => return self.add_nanos(amount, 60),
            "s" | "sec" | "second" => return self.add_nanos(amount, 1),
            "ms" | "msec" | "millisecond" => return self.add_nanos(amount / 1_000, 1),
            "us" | "u" | "usec" | "microsecond" => return self.add_nanos(amount / 1_000_000, 1),
            _ => return None,
        };
        let total = amount.checked_mul(months)?;
        self.months += total / NANOS;
        self.add_days((total % NANOS) * 30)
    }

    fn add_days(&mut self, amount: i128) -> Option<()> {
        self.days += amount / NANOS;
        self.add_nanos(amount % NANOS, 86_400)
    }

    fn add_nanos(&mut self, amount: i128, seconds: i128) -> Option<()> {
        self.nanos = self.nanos.checked_add(amount.checked_mul(seconds)?)?;
        Some(())
    }

    fn finish(self, ago: bool) -> Option<IntervalMonthDayNano> {
        let sign = if ago { -1 } else { 1 };
        Some(IntervalMonthDayNano::new(
            i32::try_from(self.months * sign).ok()?,
            i32::try_from(self.days * sign).ok()?,
            // To microseconds, which is what is stored.
            i64::try_from(self.nanos * sign).ok()? / 1_000 * 1_000,
        ))
    }
}

/// `-12.5` in billionths; digits past the ninth are dropped.
fn decimal_nanos(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || whole.len() > 15 || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let mut value: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut places = fraction.bytes();
    for _ in 0..9 {
        value = value * 10 + i128::from(places.next().unwrap_or(b'0') - b'0');
    }
    Some(if negative { -value } else { value })
}

/// `-04:05:06.7` or `04:05`.
fn clock_nanos(text: &str) -> Option<i128> {
    let (negative, rest) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    let (hours, rest) = rest.split_once(':')?;
    let (minutes, seconds) = rest.split_once(':').unwrap_or((rest, "0"));
    let whole = |part: &str| part.parse::<u32>().ok().map(i128::from);
    let (hours, minutes) = (whole(hours)?, whole(minutes).filter(|minutes| *minutes < 60)?);
    let seconds = decimal_nanos(seconds).filter(|seconds| (0..60 * NANOS).contains(seconds))?;
    let nanos = (hours * 60 + minutes) * 60 * NANOS + seconds;
    Some(if negative { -nanos } else { nanos })
}

/// What follows the P of ISO 8601's durations.
fn iso_interval(text: &str, sum: &mut Parts) -> Option<()> {
    let (date, time) = text.split_once('t').unwrap_or((text, ""));
    for (mut part, units) in [
        (date, [('y', "year"), ('m', "month"), ('w', "week"), ('d', "day")].as_slice()),
        (time, [('h', "hour"), ('m', "minute"), ('s', "second")].as_slice()),
    ] {
        while !part.is_empty() {
            let at = part.find(|c: char| c.is_ascii_alphabetic())?;
            let (number, rest) = part.split_at_checked(at)?;
            let mut letters = rest.chars();
            let letter = letters.next()?;
            let unit = units.iter().find(|(short, _)| *short == letter)?.1;
            sum.add(decimal_nanos(number)?, unit)?;
            part = letters.as_str();
        }
    }
    (!date.is_empty() || !time.is_empty()).then_some(())
}

/// JSON text as it stands, if it is JSON.
pub(crate) fn json(text: &str) -> Result<()> {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(_) => Ok(()),
        Err(error) => {
            Err(crate::error::SqlError::new(state::INVALID_TEXT_REPRESENTATION, "invalid input syntax for type json")
                .with_detail(error.to_string())
                .into())
        }
    }
}
