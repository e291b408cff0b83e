/*!
Values as PostgreSQL writes them, and the names that it gives to their types.

[`format`] appends one value of any Arrow array that a query can give to a `String`, allocating nothing per value:
floats shortest that reads back (`0.1`, `1e+20`, `Infinity`), numerics with all digits of their scale, times without
trailing zeros, timestamps with time zone in UTC (`+00`), intervals in PostgreSQL's own style (`1 mon 2 days 03:04:05.6`),
bytes as `\xdead`, arrays `{a,"b c",NULL}`, rows `(a,b)`.

Arrow has types that PostgreSQL lacks (durations, nanoseconds, dictionaries, maps): they are written as what is nearest,
a duration as an interval of hours. It does not know the session's time zone; there is one, UTC.
*/

use crate::types::TYPE_KEY;
use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, GenericListArray, MapArray, OffsetSizeTrait, StructArray,
};
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type,
    DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType, DurationSecondType, Field, Float16Type,
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, IntervalDayTimeType, IntervalMonthDayNanoType,
    IntervalUnit, IntervalYearMonthType, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
    Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use std::fmt::Write;

const NANOS_PER_SECOND: i128 = 1_000_000_000;
const SECONDS_PER_DAY: i128 = 86_400;

/// Appends the text of row `row` of `array` to `out`; NULL appends nothing. `field` says what the Arrow type does not
/// (`json`, `uuid`); the text is the same for both kinds of text.
pub fn format(array: &dyn Array, row: usize, field: &Field, out: &mut String) {
    if row < array.len() && array.is_valid(row) {
        value(array, row, field, out);
    }
}

fn value(array: &dyn Array, row: usize, field: &Field, out: &mut String) {
    macro_rules! number {
        ($type:ty) => {
            integer(i128::from(array.as_primitive::<$type>().value(row)), out)
        };
    }
    macro_rules! scaled {
        ($type:ty, $scale:expr) => {
            decimal(i128::from(array.as_primitive::<$type>().value(row)), *$scale, out)
        };
    }
    macro_rules! nanos {
        ($type:ty, $unit:expr) => {
            i128::from(array.as_primitive::<$type>().value(row)) * nanos_per($unit)
        };
    }
    match array.data_type() {
        DataType::Null => {}
        DataType::Boolean => out.push(if array.as_boolean().value(row) { 't' } else { 'f' }),
        DataType::Int8 => number!(Int8Type),
        DataType::Int16 => number!(Int16Type),
        DataType::Int32 => number!(Int32Type),
        DataType::Int64 => number!(Int64Type),
        DataType::UInt8 => number!(UInt8Type),
        DataType::UInt16 => number!(UInt16Type),
        DataType::UInt32 => number!(UInt32Type),
        DataType::UInt64 => number!(UInt64Type),
        DataType::Float16 => float4(array.as_primitive::<Float16Type>().value(row).to_f32(), out),
        DataType::Float32 => float4(array.as_primitive::<Float32Type>().value(row), out),
        DataType::Float64 => float8(array.as_primitive::<Float64Type>().value(row), out),
        DataType::Decimal32(_, scale) => scaled!(Decimal32Type, scale),
        DataType::Decimal64(_, scale) => scaled!(Decimal64Type, scale),
        DataType::Decimal128(_, scale) => decimal(array.as_primitive::<Decimal128Type>().value(row), *scale, out),
        DataType::Decimal256(_, _) => out.push_str(&array.as_primitive::<Decimal256Type>().value_as_string(row)),
        DataType::Utf8 => out.push_str(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => out.push_str(array.as_string::<i64>().value(row)),
        DataType::Utf8View => out.push_str(array.as_string_view().value(row)),
        DataType::Binary => bytes(array.as_binary::<i32>().value(row), out),
        DataType::LargeBinary => bytes(array.as_binary::<i64>().value(row), out),
        DataType::BinaryView => bytes(array.as_binary_view().value(row), out),
        DataType::FixedSizeBinary(_) => bytes(array.as_fixed_size_binary().value(row), out),
        DataType::Date32 => date(i64::from(array.as_primitive::<Date32Type>().value(row)), out),
        DataType::Date64 => date(array.as_primitive::<Date64Type>().value(row).div_euclid(86_400_000), out),
        DataType::Time32(TimeUnit::Second) => time(nanos!(Time32SecondType, TimeUnit::Second), out),
        DataType::Time32(_) => time(nanos!(Time32MillisecondType, TimeUnit::Millisecond), out),
        DataType::Time64(TimeUnit::Microsecond) => time(nanos!(Time64MicrosecondType, TimeUnit::Microsecond), out),
        DataType::Time64(_) => time(nanos!(Time64NanosecondType, TimeUnit::Nanosecond), out),
        DataType::Timestamp(unit, zone) => {
            let nanos = match unit {
                TimeUnit::Second => nanos!(TimestampSecondType, TimeUnit::Second),
                TimeUnit::Millisecond => nanos!(TimestampMillisecondType, TimeUnit::Millisecond),
                TimeUnit::Microsecond => nanos!(TimestampMicrosecondType, TimeUnit::Microsecond),
                TimeUnit::Nanosecond => nanos!(TimestampNanosecondType, TimeUnit::Nanosecond),
            };
            timestamp(nanos, zone.is_some(), out);
        }
        DataType::Duration(unit) => {
            let nanos = match unit {
                TimeUnit::Second => nanos!(DurationSecondType, TimeUnit::Second),
                TimeUnit::Millisecond => nanos!(DurationMillisecondType, TimeUnit::Millisecond),
                TimeUnit::Microsecond => nanos!(DurationMicrosecondType, TimeUnit::Microsecond),
                TimeUnit::Nanosecond => nanos!(DurationNanosecondType, TimeUnit::Nanosecond),
            };
            let day = SECONDS_PER_DAY * NANOS_PER_SECOND;
            interval(0, i64::try_from(nanos / day).unwrap_or(i64::MAX), nanos % day, out);
        }
        DataType::Interval(IntervalUnit::YearMonth) => {
            interval(i64::from(array.as_primitive::<IntervalYearMonthType>().value(row)), 0, 0, out);
        }
        DataType::Interval(IntervalUnit::DayTime) => {
            let value = array.as_primitive::<IntervalDayTimeType>().value(row);
            interval(0, i64::from(value.days), i128::from(value.milliseconds) * nanos_per(TimeUnit::Millisecond), out);
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let value = array.as_primitive::<IntervalMonthDayNanoType>().value(row);
            interval(i64::from(value.months), i64::from(value.days), i128::from(value.nanoseconds), out);
        }
        DataType::List(item) => list(array.as_list::<i32>(), row, item, out),
        DataType::LargeList(item) => list(array.as_list::<i64>(), row, item, out),
        DataType::ListView(item) => elements(&array.as_list_view::<i32>().value(row), item, out),
        DataType::LargeListView(item) => elements(&array.as_list_view::<i64>().value(row), item, out),
        DataType::FixedSizeList(item, _) => fixed_list(array.as_fixed_size_list(), row, item, out),
        DataType::Struct(_) => record(array.as_struct(), row, out),
        DataType::Map(_, _) => map(array.as_map(), row, out),
        DataType::Dictionary(_, _) => {
            let dictionary = array.as_any_dictionary();
            if let Some(key) = dictionary.normalized_keys().get(row) {
                format(dictionary.values().as_ref(), *key, field, out);
            }
        }
        _ => {
            // Unions and run-end encoded columns: no query of ours gives them.
            if let Ok(text) = arrow::util::display::array_value_to_string(array, row) {
                out.push_str(&text);
            }
        }
    }
}

fn nanos_per(unit: TimeUnit) -> i128 {
    match unit {
        TimeUnit::Second => NANOS_PER_SECOND,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

/// `write!` to a `String` cannot fail.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => {
        let _ = write!($out, $($arg)*);
    };
}

fn integer(value: i128, out: &mut String) {
    match i64::try_from(value) {
        Ok(value) => {
            put!(out, "{value}");
        }
        Err(_) => {
            put!(out, "{value}");
        }
    }
}

/// A decimal of `scale` digits after the point.
pub(crate) fn decimal(value: i128, scale: i8, out: &mut String) {
    let Ok(places) = usize::try_from(scale) else {
        // A negative scale: so many zeros more.
        put!(out, "{value}");
        if value != 0 {
            out.extend(std::iter::repeat_n('0', usize::from(scale.unsigned_abs())));
        }
        return;
    };
    if value < 0 {
        out.push('-');
    }
    let magnitude = value.unsigned_abs();
    let unit = 10u128.checked_pow(u32::try_from(places).unwrap_or(0));
    match unit {
        _ if places == 0 => {
            put!(out, "{magnitude}");
        }
        Some(unit) => {
            put!(out, "{}.{:0places$}", magnitude / unit, magnitude % unit);
        }
        None => {
            put!(out, "0.{magnitude:0places$}");
        }
    }
}

/// A double, in the fewest digits that read back as the same one.
pub(crate) fn float8(value: f64, out: &mut String) {
    if special(value, out) {
        return;
    }
    let mut digits = Digits::default();
    let _ = write!(digits, "{value:e}");
    scientific(&digits, 15, out);
}

fn float4(value: f32, out: &mut String) {
    if special(f64::from(value), out) {
        return;
    }
    let mut digits = Digits::default();
    let _ = write!(digits, "{value:e}");
    scientific(&digits, 6, out);
}

fn special(value: f64, out: &mut String) -> bool {
    if value.is_finite() {
        return false;
    }
    out.push_str(match (value.is_nan(), value < 0.0) {
        (true, _) => "NaN",
        (false, true) => "-Infinity",
        (false, false) => "Infinity",
    });
    true
}

/// Room for what `{:e}` writes of a float: at most 17 digits, a point, two signs and an exponent of three digits.
#[derive(Default)]
struct Digits {
    bytes: [u8; 32],
    len: usize,
}

impl Digits {
    fn as_str(&self) -> &str {
        self.bytes.get(..self.len).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

impl Write for Digits {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

/// Rewrites `-1.5e-7` as PostgreSQL does: plain between 1e-4 and 10^`plain_below`, with `e-07` outside.
fn scientific(digits: &Digits, plain_below: i32, out: &mut String) {
    let text = digits.as_str();
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let mantissa = match mantissa.strip_prefix('-') {
        Some(rest) => {
            out.push('-');
            rest
        }
        None => mantissa,
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if exponent < -4 || exponent >= plain_below {
        out.push_str(mantissa);
        put!(out, "e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.unsigned_abs());
        return;
    }
    let shift = usize::try_from(exponent.unsigned_abs()).unwrap_or(0);
    if exponent < 0 {
        out.push_str("0.");
        out.extend(std::iter::repeat_n('0', shift - 1));
        out.push_str(whole);
        out.push_str(fraction);
        return;
    }
    out.push_str(whole);
    match fraction.split_at_checked(shift) {
        Some((before, "")) => out.push_str(before),
        Some((before, after)) => {
            out.push_str(before);
            out.push('.');
            out.push_str(after);
        }
        None => {
            out.push_str(fraction);
            out.extend(std::iter::repeat_n('0', shift - fraction.len()));
        }
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn bytes(value: &[u8], out: &mut String) {
    out.reserve(2 + 2 * value.len());
    out.push_str("\\x");
    for byte in value {
        for nibble in [byte >> 4, byte & 15] {
            out.push(HEX.get(usize::from(nibble)).map_or('0', |digit| char::from(*digit)));
        }
    }
}

/// Year, month and day of a day since 1970-01-01, by the proleptic Gregorian calendar (Hinnant's `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let days = i128::from(days) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i128::from(month <= 2);
    let narrow = |value: i128| i64::try_from(value).unwrap_or(0);
    (narrow(year), narrow(month), narrow(day))
}

fn date(days: i64, out: &mut String) {
    if date_part(days, out) {
        out.push_str(" BC");
    }
}

/// Writes a date and says whether it lies before the year 1.
fn date_part(days: i64, out: &mut String) -> bool {
    let (year, month, day) = civil(days);
    let before_christ = year <= 0;
    let shown = if before_christ { 1 - year } else { year };
    put!(out, "{shown:04}-{month:02}-{day:02}");
    before_christ
}

/// A time of day in nanoseconds since midnight.
fn time(nanos: i128, out: &mut String) {
    let seconds = nanos.div_euclid(NANOS_PER_SECOND);
    put!(out, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    fraction(nanos.rem_euclid(NANOS_PER_SECOND), out);
}

/// `.25` for 250 million nanoseconds; nothing for none.
fn fraction(nanos: i128, out: &mut String) {
    if nanos == 0 {
        return;
    }
    let (mut shown, mut width) = (nanos, 9);
    while shown % 10 == 0 {
        shown /= 10;
        width -= 1;
    }
    put!(out, ".{shown:0width$}");
}

fn timestamp(nanos: i128, zoned: bool, out: &mut String) {
    let day = SECONDS_PER_DAY * NANOS_PER_SECOND;
    let before_christ = date_part(i64::try_from(nanos.div_euclid(day)).unwrap_or(0), out);
    out.push(' ');
    time(nanos.rem_euclid(day), out);
    if zoned {
        out.push_str("+00");
    }
    if before_christ {
        out.push_str(" BC");
    }
}

/// A time in microseconds as an interval of days and hours: `30 days`, `1 day 12:00:00`.
pub fn duration(micros: i64) -> String {
    let nanos_per_day = SECONDS_PER_DAY * NANOS_PER_SECOND;
    let nanos = i128::from(micros) * nanos_per(TimeUnit::Microsecond);
    let mut out = String::new();
    interval(0, i64::try_from(nanos / nanos_per_day).unwrap_or(i64::MAX), nanos % nanos_per_day, &mut out);
    out
}

/// PostgreSQL's `intervalstyle = postgres`.
fn interval(months: i64, days: i64, nanos: i128, out: &mut String) {
    let start = out.len();
    // A part that follows a negative one shows its own sign, plus too.
    let mut negative_before = false;
    let mut part = |value: i64, unit: &str, out: &mut String| {
        if value == 0 {
            return;
        }
        if out.len() > start {
            out.push(' ');
        }
        let sign = if negative_before && value > 0 { "+" } else { "" };
        put!(out, "{sign}{value} {unit}{}", if value == 1 { "" } else { "s" });
        negative_before = value < 0;
    };
    part(months / 12, "year", out);
    part(months % 12, "mon", out);
    part(days, "day", out);
    if nanos == 0 && out.len() > start {
        return;
    }
    if out.len() > start {
        out.push(' ');
    }
    if nanos < 0 {
        out.push('-');
    } else if negative_before {
        out.push('+');
    }
    time(nanos.abs(), out);
}

fn list<O: OffsetSizeTrait>(array: &GenericListArray<O>, row: usize, item: &Field, out: &mut String) {
    elements(&array.value(row), item, out);
}

fn fixed_list(array: &FixedSizeListArray, row: usize, item: &Field, out: &mut String) {
    elements(&array.value(row), item, out);
}

fn elements(values: &ArrayRef, item: &Field, out: &mut String) {
    out.push('{');
    let nested = matches!(item.data_type(), DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _));
    let mut text = String::new();
    for row in 0..values.len() {
        if row > 0 {
            out.push(',');
        }
        if values.is_null(row) {
            out.push_str("NULL");
        } else if nested {
            value(values.as_ref(), row, item, out);
        } else {
            text.clear();
            value(values.as_ref(), row, item, &mut text);
            element(&text, out);
        }
    }
    out.push('}');
}

/// One element, quoted if it could be read as something else.
fn element(text: &str, out: &mut String) {
    let special = |c: char| matches!(c, '{' | '}' | ',' | '"' | '\\') || c.is_ascii_whitespace();
    if !text.is_empty() && !text.eq_ignore_ascii_case("null") && !text.contains(special) {
        out.push_str(text);
        return;
    }
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
}

fn record(array: &StructArray, row: usize, out: &mut String) {
    out.push('(');
    let mut text = String::new();
    for (at, (column, field)) in array.columns().iter().zip(array.fields()).enumerate() {
        if at > 0 {
            out.push(',');
        }
        if column.is_null(row) {
            continue;
        }
        text.clear();
        value(column.as_ref(), row, field, &mut text);
        record_value(&text, out);
    }
    out.push(')');
}

/// One field of a row, in which quotes and backslashes are doubled.
fn record_value(text: &str, out: &mut String) {
    let special = |c: char| matches!(c, '(' | ')' | ',' | '"' | '\\') || c.is_ascii_whitespace();
    if !text.is_empty() && !text.contains(special) {
        out.push_str(text);
        return;
    }
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push(c);
        }
        out.push(c);
    }
    out.push('"');
}

/// A map, which PostgreSQL lacks: `{key=value,…}`.
fn map(array: &MapArray, row: usize, out: &mut String) {
    let entries = array.value(row);
    let (Some(keys), Some(values)) = (entries.columns().first(), entries.columns().get(1)) else { return };
    let (Some(key), Some(item)) = (entries.fields().first(), entries.fields().get(1)) else { return };
    out.push('{');
    for at in 0..entries.len() {
        if at > 0 {
            out.push(',');
        }
        format(keys.as_ref(), at, key, out);
        out.push('=');
        if values.is_null(at) {
            out.push_str("NULL");
        } else {
            value(values.as_ref(), at, item, out);
        }
    }
    out.push('}');
}

/// PostgreSQL's name of a field's type: `bigint`, `numeric(10,2)`, `character varying(20)`, `timestamp with time zone`.
pub fn type_name(field: &Field) -> String {
    if let Some(label) = field.metadata().get(TYPE_KEY) {
        return match label.strip_prefix("varchar(") {
            Some(length) => format!("character varying({length}"),
            None => label.clone(),
        };
    }
    match field.data_type() {
        DataType::Null => "unknown".into(),
        DataType::Boolean => "boolean".into(),
        DataType::Int8 | DataType::UInt8 | DataType::Int16 => "smallint".into(),
        DataType::UInt16 | DataType::Int32 => "integer".into(),
        DataType::UInt32 | DataType::Int64 | DataType::UInt64 => "bigint".into(),
        DataType::Float16 | DataType::Float32 => "real".into(),
        DataType::Float64 => "double precision".into(),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => format!("numeric({precision},{scale})"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "bytea".into()
        }
        DataType::Date32 | DataType::Date64 => "date".into(),
        DataType::Time32(_) | DataType::Time64(_) => "time without time zone".into(),
        DataType::Timestamp(_, None) => "timestamp without time zone".into(),
        DataType::Timestamp(_, Some(_)) => "timestamp with time zone".into(),
        DataType::Duration(_) | DataType::Interval(_) => "interval".into(),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => format!("{}[]", type_name(item)),
        DataType::Struct(_) => "record".into(),
        DataType::Map(_, _) => "map".into(),
        DataType::Dictionary(_, value) => type_name(&Field::new("", value.as_ref().clone(), true)),
        DataType::RunEndEncoded(_, values) => type_name(values),
        DataType::Union(_, _) => "record".into(),
    }
}
