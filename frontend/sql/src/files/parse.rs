/*!
One field of text into one value of a column, for files.

A [`FieldSink`] builds a column of a [`ColumnType`] from the bytes of fields, without a value or a string between. What it
accepts is what PostgreSQL's input functions accept in files: ISO dates and times, `t`/`true`/`yes`/`on`/`1` for
booleans, `\x…` for bytea, exponents and `NaN`/`Infinity` for floats. A field it does not accept is a [`Reason`]: an
SQLSTATE and a sentence that quotes the field. The column then holds NULL in that row, and the reader drops the row.
*/

use crate::error::state;
use arrow::array::*;
use arrow::compute::kernels::cast_utils::parse_interval_month_day_nano;
use chrono::{Datelike, NaiveDate};
use omendb_engine::types::ColumnType;
use std::sync::Arc;

/// Longest part of a bad field that a message quotes.
const QUOTED_CHARS_MAX: usize = 60;

/// Days from 0001-01-01 to 1970-01-01, as chrono counts them.
const DAYS_BEFORE_1970: i32 = 719_163;

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// Why a field is not a value of its column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The SQLSTATE that a statement with this value would raise.
    pub sqlstate: &'static str,
    /// The sentence.
    pub message: String,
}

impl Reason {
    /// A reason.
    pub fn new(sqlstate: &'static str, message: impl Into<String>) -> Reason {
        Reason { sqlstate, message: message.into() }
    }
}

/// The field as a message quotes it: cut, and with what is not text replaced.
pub fn quoted(field: &[u8]) -> String {
    let text = String::from_utf8_lossy(field);
    let mut out: String = text.chars().take(QUOTED_CHARS_MAX).collect();
    if out.len() < text.len() {
        out.push('…');
    }
    format!("\"{}\"", out.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'"))
}

fn invalid(name: &str, field: &[u8]) -> Reason {
    Reason::new(state::INVALID_TEXT_REPRESENTATION, format!("invalid input syntax for type {name}: {}", quoted(field)))
}

fn out_of_range(name: &str, field: &[u8]) -> Reason {
    Reason::new(state::NUMERIC_VALUE_OUT_OF_RANGE, format!("value {} is out of range for type {name}", quoted(field)))
}

/// A column under construction from fields.
#[derive(Debug)]
pub struct FieldSink {
    ty: ColumnType,
    builder: Builder,
    /// Most characters that text may have (VARCHAR(n)).
    chars_max: Option<usize>,
}

#[derive(Debug)]
enum Builder {
    Boolean(BooleanBuilder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal(Decimal128Builder, u8, i8),
    Text(StringViewBuilder),
    Json(StringViewBuilder),
    Bytes(BinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    TimestampTz(TimestampMicrosecondBuilder),
    Interval(IntervalMonthDayNanoBuilder),
    Uuid(FixedSizeBinaryBuilder),
}

macro_rules! for_each_builder {
    ($builder:expr, $b:ident => $body:expr) => {
        match $builder {
            Builder::Boolean($b) => $body,
            Builder::Int16($b) => $body,
            Builder::Int32($b) => $body,
            Builder::Int64($b) => $body,
            Builder::Float32($b) => $body,
            Builder::Float64($b) => $body,
            Builder::Decimal($b, _, _) => $body,
            Builder::Text($b) | Builder::Json($b) => $body,
            Builder::Bytes($b) => $body,
            Builder::Date($b) => $body,
            Builder::Time($b) => $body,
            Builder::Timestamp($b) | Builder::TimestampTz($b) => $body,
            Builder::Interval($b) => $body,
            Builder::Uuid($b) => $body,
        }
    };
}

impl FieldSink {
    /// An empty column with room for `capacity` rows; `chars_max` for VARCHAR(n).
    pub fn new(ty: ColumnType, chars_max: Option<usize>, capacity: usize) -> FieldSink {
        let stamp = || TimestampMicrosecondBuilder::with_capacity(capacity).with_data_type(ty.arrow());
        let builder = match ty {
            ColumnType::Boolean => Builder::Boolean(BooleanBuilder::with_capacity(capacity)),
            ColumnType::Int16 => Builder::Int16(Int16Builder::with_capacity(capacity)),
            ColumnType::Int32 => Builder::Int32(Int32Builder::with_capacity(capacity)),
            ColumnType::Int64 => Builder::Int64(Int64Builder::with_capacity(capacity)),
            ColumnType::Float32 => Builder::Float32(Float32Builder::with_capacity(capacity)),
            ColumnType::Float64 => Builder::Float64(Float64Builder::with_capacity(capacity)),
            ColumnType::Decimal { precision, scale } => {
                let builder = Decimal128Builder::with_capacity(capacity).with_data_type(ty.arrow());
                Builder::Decimal(builder, precision, scale)
            }
            ColumnType::Json => Builder::Json(StringViewBuilder::with_capacity(capacity)),
            ColumnType::Bytes => Builder::Bytes(BinaryBuilder::with_capacity(capacity, capacity)),
            ColumnType::Date => Builder::Date(Date32Builder::with_capacity(capacity)),
            ColumnType::Time => Builder::Time(Time64MicrosecondBuilder::with_capacity(capacity)),
            ColumnType::Timestamp => Builder::Timestamp(stamp()),
            ColumnType::TimestampTz => Builder::TimestampTz(stamp()),
            ColumnType::Interval => Builder::Interval(IntervalMonthDayNanoBuilder::with_capacity(capacity)),
            ColumnType::Uuid => Builder::Uuid(FixedSizeBinaryBuilder::with_capacity(capacity, 16)),
            _ => Builder::Text(StringViewBuilder::with_capacity(capacity)),
        };
        FieldSink { ty, builder, chars_max }
    }

    /// Appends NULL.
    pub fn push_null(&mut self) {
        for_each_builder!(&mut self.builder, b => b.append_null());
    }

    /// Appends the value that `field` stands for; on an error NULL is appended, so that columns stay level.
    ///
    /// # Errors
    /// The reason why the field stands for no value of this column.
    #[inline]
    pub fn push(&mut self, field: &[u8]) -> Result<(), Reason> {
        let pushed = self.try_push(field);
        if pushed.is_err() {
            self.push_null();
        }
        pushed
    }

    #[inline]
    fn try_push(&mut self, field: &[u8]) -> Result<(), Reason> {
        match &mut self.builder {
            Builder::Int64(b) => b.append_value(integer::<i64>("bigint", field)?),
            Builder::Float64(b) => b.append_value(float::<f64>("double precision", field)?),
            Builder::Text(b) => b.append_value(text(field, self.chars_max)?),
            Builder::Int32(b) => b.append_value(integer::<i32>("integer", field)?),
            Builder::Int16(b) => b.append_value(integer::<i16>("smallint", field)?),
            Builder::Float32(b) => b.append_value(float::<f32>("real", field)?),
            Builder::Boolean(b) => b.append_value(boolean(field).ok_or_else(|| invalid("boolean", field))?),
            Builder::Decimal(b, precision, scale) => b.append_value(decimal(field, *precision, *scale)?),
            Builder::Json(b) => b.append_value(json(field)?),
            Builder::Bytes(b) => b.append_value(bytea(field)?),
            Builder::Date(b) => b.append_value(date(field)?),
            Builder::Time(b) => b.append_value(time(field)?),
            Builder::Timestamp(b) => b.append_value(timestamp(field, false)?),
            Builder::TimestampTz(b) => b.append_value(timestamp(field, true)?),
            Builder::Interval(b) => {
                let trouble = || {
                    Reason::new(
                        state::INVALID_DATETIME_FORMAT,
                        format!("invalid input syntax for type interval: {}", quoted(field)),
                    )
                };
                let text = std::str::from_utf8(field).map_err(|_| trouble())?;
                b.append_value(parse_interval_month_day_nano(text.trim()).map_err(|_| trouble())?);
            }
            Builder::Uuid(b) => {
                let parsed = uuid::Uuid::try_parse_ascii(trim(field)).map_err(|_| invalid("uuid", field))?;
                b.append_value(parsed.as_bytes()).map_err(|_| invalid("uuid", field))?;
            }
        }
        Ok(())
    }

    /// The finished column, of type `ty.arrow()`.
    pub fn finish(mut self) -> ArrayRef {
        for_each_builder!(&mut self.builder, b => Arc::new(b.finish()))
    }

    /// Which type it builds.
    pub fn column_type(&self) -> ColumnType {
        self.ty
    }
}

fn trim(field: &[u8]) -> &[u8] {
    field.trim_ascii()
}

#[inline]
fn integer<T: lexical_core::FromLexical>(name: &str, field: &[u8]) -> Result<T, Reason> {
    lexical_core::parse::<T>(field).or_else(|_| {
        let field = trim(field);
        lexical_core::parse::<T>(field).map_err(|e| match e {
            lexical_core::Error::Overflow(_) | lexical_core::Error::Underflow(_) => out_of_range(name, field),
            _ => invalid(name, field),
        })
    })
}

#[inline]
fn float<T: lexical_core::FromLexical + Finite>(name: &str, field: &[u8]) -> Result<T, Reason> {
    let value = lexical_core::parse::<T>(field)
        .or_else(|_| lexical_core::parse::<T>(trim(field)))
        .map_err(|_| invalid(name, field))?;
    // A written number that is too large comes back as infinity; only the word may mean it.
    if value.is_infinite_value() && field.iter().any(u8::is_ascii_digit) {
        return Err(out_of_range(name, field));
    }
    Ok(value)
}

trait Finite {
    fn is_infinite_value(&self) -> bool;
}

impl Finite for f64 {
    fn is_infinite_value(&self) -> bool {
        self.is_infinite()
    }
}

impl Finite for f32 {
    fn is_infinite_value(&self) -> bool {
        self.is_infinite()
    }
}

/// PostgreSQL's words for true and false.
pub fn boolean(field: &[u8]) -> Option<bool> {
    match trim(field).to_ascii_lowercase().as_slice() {
        b"t" | b"true" | b"yes" | b"y" | b"on" | b"1" => Some(true),
        b"f" | b"false" | b"no" | b"n" | b"off" | b"0" => Some(false),
        _ => None,
    }
}

#[inline]
fn text(field: &[u8], chars_max: Option<usize>) -> Result<&str, Reason> {
    let text = std::str::from_utf8(field).map_err(|e| {
        let bad: Vec<String> = field.iter().skip(e.valid_up_to()).take(4).map(|b| format!("0x{b:02x}")).collect();
        Reason::new(
            state::CHARACTER_NOT_IN_REPERTOIRE,
            format!("invalid byte sequence for encoding UTF-8: {}", bad.join(" ")),
        )
    })?;
    match chars_max {
        Some(max) if text.len() > max && text.chars().count() > max => Err(Reason::new(
            state::STRING_DATA_RIGHT_TRUNCATION,
            format!("value too long for type character varying({max}): {}", quoted(field)),
        )),
        _ => Ok(text),
    }
}

fn json(field: &[u8]) -> Result<&str, Reason> {
    let text = text(field, None)?;
    match serde_json::from_str::<serde::de::IgnoredAny>(text) {
        Ok(_) => Ok(text),
        Err(e) => Err(Reason::new(
            state::INVALID_TEXT_REPRESENTATION,
            format!("invalid input syntax for type json ({e}): {}", quoted(field)),
        )),
    }
}

fn bytea(field: &[u8]) -> Result<Vec<u8>, Reason> {
    let Some(hex) = field.strip_prefix(b"\\x") else {
        return Ok(field.to_vec());
    };
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    hex.chunks(2).map(byte).collect::<Option<Vec<u8>>>().ok_or_else(|| invalid("bytea", field))
}

/// An exact decimal, rounded half away from zero to `scale` digits after the point.
fn decimal(field: &[u8], precision: u8, scale: i8) -> Result<i128, Reason> {
    let name = || format!("numeric({precision},{scale})");
    let bad = || invalid("numeric", field);
    let body = trim(field);
    let (negative, body) = match body.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, body),
    };
    let (mantissa, exponent) = match body.iter().position(|b| matches!(b, b'e' | b'E')) {
        Some(at) => {
            let (m, e) = body.split_at_checked(at).ok_or_else(bad)?;
            (m, lexical_core::parse::<i32>(e.get(1..).unwrap_or_default()).map_err(|_| bad())?)
        }
        None => (body, 0),
    };
    let (whole, fraction) = match mantissa.iter().position(|b| *b == b'.') {
        Some(at) => mantissa.split_at_checked(at).ok_or_else(bad)?,
        None => (mantissa, [].as_slice()),
    };
    let fraction = fraction.strip_prefix(b".").unwrap_or(fraction);
    if whole.is_empty() && fraction.is_empty() || !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
        return Err(bad());
    }
    // Digits that stay: those before position whole.len() + exponent + scale; the next one rounds.
    let kept = i64::try_from(whole.len())
        .unwrap_or(i64::MAX)
        .saturating_add(i64::from(exponent))
        .saturating_add(i64::from(scale));
    let mut value: i128 = 0;
    let mut digits = whole.iter().chain(fraction).map(|b| i128::from(b - b'0'));
    let mut taken = 0i64;
    let limit = 10i128.checked_pow(u32::from(precision)).ok_or_else(|| out_of_range(&name(), field))?;
    while taken < kept {
        let digit = digits.next();
        if digit.is_none() && value == 0 {
            break;
        }
        value = value
            .checked_mul(10)
            .and_then(|v| v.checked_add(digit.unwrap_or(0)))
            .filter(|v| *v < limit)
            .ok_or_else(|| out_of_range(&name(), field))?;
        taken += 1;
    }
    if taken == kept && kept >= 0 && digits.next().is_some_and(|d| d >= 5) {
        value += 1;
    }
    if value >= limit {
        return Err(out_of_range(&name(), field));
    }
    Ok(if negative { -value } else { value })
}

fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || digits.len() > 6 {
        return None;
    }
    digits.iter().try_fold(0u32, |n, b| b.is_ascii_digit().then(|| n * 10 + u32::from(b - b'0')))
}

/// Why a date or time is none.
enum DateTrouble {
    Format,
    Range,
}

impl DateTrouble {
    fn reason(&self, name: &str, field: &[u8]) -> Reason {
        match self {
            DateTrouble::Format => Reason::new(
                state::INVALID_DATETIME_FORMAT,
                format!("invalid input syntax for type {name}: {}", quoted(field)),
            ),
            DateTrouble::Range => Reason::new(
                state::DATETIME_FIELD_OVERFLOW,
                format!("date/time field value out of range: {}", quoted(field)),
            ),
        }
    }
}

/// `YYYY-MM-DD` and nothing else, days since 1970: the way of nearly all dates in files. `None` sends the rest to [`days`].
#[inline]
fn plain_days(field: &[u8]) -> Option<i64> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = field else { return None };
    let (year, month, day) = (two(*y1, *y2)? * 100 + two(*y3, *y4)?, two(*m1, *m2)?, two(*d1, *d2)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => 31,
    };
    if year < 1 || !(1..=12).contains(&month) || !(1..=last).contains(&day) {
        return None;
    }
    // Howard Hinnant's days_from_civil: years begin in March, so that leap days come last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year / 400, year % 400);
    let day_of_era = of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5 + day - 1;
    Some(era * 146_097 + day_of_era - 719_468)
}

/// `YYYY-MM-DD HH:MM:SS[.ffffff]` and nothing else, as [`plain_days`].
#[inline]
fn plain_micros(field: &[u8]) -> Option<i64> {
    let (date, rest) = field.split_at_checked(10)?;
    let (clock, fraction) = rest.split_at_checked(9)?;
    let [b' ' | b'T', h1, h2, b':', m1, m2, b':', s1, s2] = clock else { return None };
    let (hour, minute, second) = (two(*h1, *h2)?, two(*m1, *m2)?, two(*s1, *s2)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let micros = match fraction {
        [] => 0,
        [b'.', digits @ ..] if (1..=6).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit) => {
            let padded = digits.iter().copied().chain(std::iter::repeat(b'0')).take(6);
            padded.fold(0, |n, b| n * 10 + i64::from(b - b'0'))
        }
        _ => return None,
    };
    Some(plain_days(date)? * MICROS_PER_DAY + (hour * 3600 + minute * 60 + second) * MICROS_PER_SECOND + micros)
}

#[inline]
fn two(tens: u8, ones: u8) -> Option<i64> {
    let digits = tens.is_ascii_digit() && ones.is_ascii_digit();
    digits.then(|| i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
}

/// `YYYY-MM-DD` (also with `/`), days since 1970.
fn days(field: &[u8]) -> Result<i32, DateTrouble> {
    let mut parts = field.splitn(3, |b| *b == b'-' || *b == b'/');
    let mut next = |lengths: std::ops::RangeInclusive<usize>| {
        parts.next().filter(|p| lengths.contains(&p.len())).and_then(number).ok_or(DateTrouble::Format)
    };
    let (year, month, day) = (next(4..=5)?, next(1..=2)?, next(1..=2)?);
    let year = i32::try_from(year).map_err(|_| DateTrouble::Range)?;
    let date = NaiveDate::from_ymd_opt(year, month, day).filter(|d| d.year() >= 1).ok_or(DateTrouble::Range)?;
    Ok(date.num_days_from_ce() - DAYS_BEFORE_1970)
}

/// `HH:MM[:SS[.ffffff]]`, microseconds since midnight; digits past the sixth round.
fn micros_of_day(field: &[u8]) -> Result<i64, DateTrouble> {
    let (clock, fraction) = match field.iter().position(|b| *b == b'.') {
        Some(at) => field.split_at_checked(at).ok_or(DateTrouble::Format)?,
        None => (field, [].as_slice()),
    };
    let mut parts = clock.split(|b| *b == b':').map(|p| if p.len() <= 2 { number(p) } else { None });
    let hour = parts.next().flatten().ok_or(DateTrouble::Format)?;
    let minute = parts.next().flatten().ok_or(DateTrouble::Format)?;
    let second = match parts.next() {
        Some(part) => part.ok_or(DateTrouble::Format)?,
        None if fraction.is_empty() => 0,
        None => return Err(DateTrouble::Format),
    };
    if parts.next().is_some() {
        return Err(DateTrouble::Format);
    }
    let fraction = fraction.strip_prefix(b".").unwrap_or(fraction);
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(DateTrouble::Format);
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(6);
    let mut micros = digits.fold(0i64, |n, b| n * 10 + i64::from(b - b'0'));
    micros += i64::from(fraction.get(6).is_some_and(|b| *b >= b'5'));
    let whole_day = hour == 24 && minute == 0 && second == 0 && micros == 0;
    if !whole_day && (hour > 23 || minute > 59 || second > 59) {
        return Err(DateTrouble::Range);
    }
    Ok(i64::from(hour * 3600 + minute * 60 + second) * MICROS_PER_SECOND + micros)
}

/// `Z`, `±HH`, `±HH:MM` or `±HHMM`, seconds east of UTC.
fn zone(field: &[u8]) -> Result<i64, DateTrouble> {
    let (sign, body) = match field.split_first() {
        Some((b'Z' | b'z', [])) => return Ok(0),
        Some((b'+', rest)) => (1, rest),
        Some((b'-', rest)) => (-1, rest),
        _ if field.eq_ignore_ascii_case(b"UTC") => return Ok(0),
        _ => return Err(DateTrouble::Format),
    };
    let (hours, minutes) = match body {
        [a, b] => ([*a, *b], [b'0', b'0']),
        [a, b, b':', c, d] | [a, b, c, d] => ([*a, *b], [*c, *d]),
        _ => return Err(DateTrouble::Format),
    };
    let hours = number(&hours).ok_or(DateTrouble::Format)?;
    let minutes = number(&minutes).filter(|m| *m < 60).ok_or(DateTrouble::Format)?;
    if hours > 15 {
        return Err(DateTrouble::Range);
    }
    Ok(sign * i64::from(hours * 3600 + minutes * 60))
}

/// Whether the field is an ISO date.
pub(super) fn is_date(field: &[u8]) -> bool {
    days(field).is_ok()
}

/// Whether the field is an ISO date with a time, and if so whether it has a zone.
pub(super) fn is_timestamp(field: &[u8]) -> Option<bool> {
    let zoned = || field.iter().skip(10).any(|b| matches!(b, b'Z' | b'z' | b'+' | b'-' | b'U'));
    micros(field, true).is_ok().then(zoned)
}

fn date(field: &[u8]) -> Result<i32, Reason> {
    if let Some(days) = plain_days(field).and_then(|days| i32::try_from(days).ok()) {
        return Ok(days);
    }
    days(trim(field)).map_err(|t| t.reason("date", field))
}

fn time(field: &[u8]) -> Result<i64, Reason> {
    micros_of_day(trim(field)).map_err(|t| t.reason("time", field))
}

/// A date, optionally with a time and a zone. Without `zoned` a zone is read and ignored, as PostgreSQL does.
fn timestamp(field: &[u8], zoned: bool) -> Result<i64, Reason> {
    if let Some(micros) = plain_micros(field) {
        return Ok(micros);
    }
    let name = if zoned { "timestamp with time zone" } else { "timestamp" };
    micros(trim(field), zoned).map_err(|t| t.reason(name, field))
}

fn micros(body: &[u8], zoned: bool) -> Result<i64, DateTrouble> {
    let Some(at) = body.iter().position(|b| matches!(b, b' ' | b'T' | b't')) else {
        return Ok(i64::from(days(body)?) * MICROS_PER_DAY);
    };
    let (date, rest) = body.split_at_checked(at).ok_or(DateTrouble::Format)?;
    let rest = rest.get(1..).unwrap_or_default().trim_ascii_start();
    let zone_at = rest.iter().position(|b| matches!(b, b'Z' | b'z' | b'+' | b'-' | b' ' | b'U' | b'u'));
    let (clock, offset) = match zone_at {
        Some(at) => {
            let (clock, suffix) = rest.split_at_checked(at).ok_or(DateTrouble::Format)?;
            (clock, zone(suffix.trim_ascii())?)
        }
        None => (rest, 0),
    };
    let local = i64::from(days(date)?) * MICROS_PER_DAY + micros_of_day(clock)?;
    Ok(if zoned { local - offset * MICROS_PER_SECOND } else { local })
}

#[cfg(test)]
mod tests {
    use super::*;
    use omendb_engine::column::value_at;
    use omendb_engine::types::Value;

    fn one(ty: ColumnType, field: &str) -> Result<Value, &'static str> {
        let mut sink = FieldSink::new(ty, None, 1);
        sink.push(field.as_bytes()).map_err(|r| r.sqlstate)?;
        Ok(value_at(&sink.finish(), 0, ty).unwrap())
    }

    #[test]
    fn numbers_are_exact_or_refused() {
        assert_eq!(one(ColumnType::Int64, "-9223372036854775808"), Ok(Value::Int(i64::MIN)));
        assert_eq!(one(ColumnType::Int64, " 7 "), Ok(Value::Int(7)));
        assert_eq!(one(ColumnType::Int64, "9223372036854775808"), Err("22003"));
        assert_eq!(one(ColumnType::Int16, "32768"), Err("22003"));
        assert_eq!(one(ColumnType::Int32, "1.5"), Err("22P02"));
        assert_eq!(one(ColumnType::Int32, ""), Err("22P02"));
        assert_eq!(one(ColumnType::Float64, "1e-3"), Ok(Value::Float64(0.001)));
        assert_eq!(one(ColumnType::Float64, "-Infinity"), Ok(Value::Float64(f64::NEG_INFINITY)));
        assert_eq!(one(ColumnType::Float64, "1e400"), Err("22003"));
        assert_eq!(one(ColumnType::Float64, "0x10"), Err("22P02"));
    }

    #[test]
    fn decimals_round_half_away_and_know_their_precision() {
        let ty = ColumnType::Decimal { precision: 5, scale: 2 };
        for (text, value) in [
            ("1.005", 101),
            ("-1.005", -101),
            ("999.99", 99_999),
            (".5", 50),
            ("5.", 500),
            ("1e2", 10_000),
            ("12e-3", 1),
            ("0e99", 0),
            ("4e-3", 0),
            ("5e-3", 1),
            ("1e-9", 0),
        ] {
            assert_eq!(one(ty, text), Ok(Value::Decimal(value)), "{text}");
        }
        for text in ["1000", "999.995", "1e3", "1e999999999"] {
            assert_eq!(one(ty, text), Err("22003"), "{text}");
        }
        for text in ["", ".", "-", "1..2", "1e", "abc", "0x1"] {
            assert_eq!(one(ty, text), Err("22P02"), "{text}");
        }
    }

    #[test]
    fn dates_and_times_are_iso() {
        assert_eq!(one(ColumnType::Date, "1970-01-02"), Ok(Value::Int(1)));
        assert_eq!(one(ColumnType::Date, "2000/1/1"), Ok(Value::Int(10_957)));
        assert_eq!(one(ColumnType::Date, "2023-02-29"), Err("22008"));
        assert_eq!(one(ColumnType::Date, "29.02.2024"), Err("22007"));
        assert_eq!(one(ColumnType::Time, "23:59:59.9999995"), Ok(Value::Int(86_400_000_000)));
        assert_eq!(one(ColumnType::Time, "25:00"), Err("22008"));
        assert_eq!(one(ColumnType::Timestamp, "1969-12-31T23:59:59.5"), Ok(Value::Int(-500_000)));
        assert_eq!(one(ColumnType::Timestamp, "1970-01-01"), Ok(Value::Int(0)));
        assert_eq!(one(ColumnType::Timestamp, "1970-01-01 00:00:00+05"), Ok(Value::Int(0)));
        assert_eq!(one(ColumnType::TimestampTz, "1970-01-01 05:30:00+05:30"), Ok(Value::Int(0)));
        assert_eq!(one(ColumnType::TimestampTz, "1970-01-01T00:00:00Z"), Ok(Value::Int(0)));
        assert_eq!(one(ColumnType::Timestamp, "1970-01-01 00:00:00 nonsense"), Err("22007"));
    }

    #[test]
    fn the_short_way_for_dates_agrees_with_the_long_one() {
        for year in [1, 4, 100, 400, 1899, 1900, 1970, 1999, 2000, 2024, 2100, 9999] {
            for month in 0..=13 {
                for day in 0..=32 {
                    let text = format!("{year:04}-{month:02}-{day:02}");
                    let long = days(text.as_bytes()).ok().map(i64::from);
                    assert_eq!(plain_days(text.as_bytes()), long, "{text}");
                }
            }
        }
        for clock in [
            "00:00:00",
            "23:59:59",
            "12:34:56.7",
            "12:34:56.123456",
            "24:00:00",
            "12:60:00",
            "12:00:61",
            "1:00:00",
            "12:00",
        ] {
            for between in [" ", "T"] {
                let text = format!("2024-02-29{between}{clock}");
                if let Some(short) = plain_micros(text.as_bytes()) {
                    assert_eq!(Some(short), micros(text.as_bytes(), false).ok(), "{text}");
                }
            }
        }
        assert!(plain_micros(b"2024-02-29 12:34:56.7").is_some());
    }

    #[test]
    fn other_types_check_what_they_take() {
        assert_eq!(one(ColumnType::Boolean, "Yes"), Ok(Value::Boolean(true)));
        assert_eq!(one(ColumnType::Boolean, "2"), Err("22P02"));
        assert_eq!(one(ColumnType::Bytes, "\\x00Ff"), Ok(Value::Bytes(vec![0, 255])));
        assert_eq!(one(ColumnType::Bytes, "\\x0"), Err("22P02"));
        assert_eq!(one(ColumnType::Json, "{\"a\":[1,2]}"), Ok(Value::Text("{\"a\":[1,2]}".into())));
        assert_eq!(one(ColumnType::Json, "{a:1}"), Err("22P02"));
        assert_eq!(one(ColumnType::Uuid, "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A1"), Err("22P02"));
        let mut sink = FieldSink::new(ColumnType::Text, Some(3), 1);
        assert!(sink.push("äöü".as_bytes()).is_ok());
        assert_eq!(sink.push(b"abcd").unwrap_err().sqlstate, "22001");
        assert_eq!(sink.push(b"\xff\xfe").unwrap_err().sqlstate, "22021");
        assert_eq!(sink.finish().len(), 3);
    }
}
