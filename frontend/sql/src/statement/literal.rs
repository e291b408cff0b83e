/*!
Rows of literals, read without DataFusion: what INSERT … VALUES mostly is.

Only what both ways read alike is read here: a whole number for an integer column, a decimal number whose digits fit, a
text, a date written as ISO 8601 has it. Anything else — an expression, a number that would have to be rounded, a
value that a column would not take — and the whole statement goes the long way, which also knows every error.
*/

use super::insert::is_default;
use crate::error::Result;
use crate::provider::filter::value_of;
use crate::types::{DEFAULT_ATTRIBUTE, from_engine, parse_uuid};
use arrow::array::ArrayRef;
use chrono::{NaiveDate, NaiveDateTime};
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast::{self, Query, SetExpr, UnaryOperator};
use omendb_engine::column::ColumnSink;
use omendb_engine::types::{ColumnDef, ColumnType, TableDef, Value};

/// The rows of a VALUES list that gives `columns` of the table: all declared columns, as DataFusion sees them. `None`
/// when the list is not made of plain literals.
pub(crate) fn rows(
    table: &TableDef,
    columns: &[usize],
    query: &Query,
    params: &[ScalarValue],
) -> Result<Option<Vec<ArrayRef>>> {
    let Some(rows) = values_of(query) else { return Ok(None) };
    let named = |place: usize| columns.contains(&place);
    let unnamed_default = |(place, column): (usize, &ColumnDef)| !named(place) && has_default(column);
    if table.columns.iter().enumerate().any(unnamed_default) {
        return Ok(None);
    }
    let mut sinks: Vec<ColumnSink> = table.columns.iter().map(|c| ColumnSink::new(c.ty, rows.len())).collect();
    for row in rows {
        for (place, (column, sink)) in table.columns.iter().zip(&mut sinks).enumerate() {
            let cell = columns.iter().position(|c| *c == place).and_then(|from| row.content.get(from));
            let value = match cell {
                Some(cell) => value(cell, column, params),
                None => Some(Value::Null),
            };
            match value {
                Some(value) => sink.append(&value)?,
                None => return Ok(None),
            }
        }
    }
    let arrays = sinks.into_iter().zip(&table.columns).map(|(sink, column)| from_engine(&sink.finish(), column.ty));
    arrays.collect::<Result<_>>().map(Some)
}

fn values_of(query: &Query) -> Option<&[ast::Parens<Vec<ast::Expr>>]> {
    let Query { with, body, order_by, limit_clause, fetch, locks, for_clause, settings, format_clause, pipe_operators } =
        query;
    let plain = with.is_none()
        && order_by.is_none()
        && limit_clause.is_none()
        && fetch.is_none()
        && locks.is_empty()
        && for_clause.is_none()
        && settings.is_none()
        && format_clause.is_none()
        && pipe_operators.is_empty();
    match body.as_ref() {
        SetExpr::Values(values) if plain => Some(&values.rows),
        _ => None,
    }
}

fn has_default(column: &ColumnDef) -> bool {
    column.attributes.contains_key(DEFAULT_ATTRIBUTE)
}

/// A literal, or the value of a parameter, as a value of the column. `None` when it takes the long way.
fn value(cell: &ast::Expr, column: &ColumnDef, params: &[ScalarValue]) -> Option<Value> {
    match cell {
        ast::Expr::Value(ast::ValueWithSpan { value: ast::Value::Placeholder(name), .. }) => {
            let number: usize = name.strip_prefix('$')?.parse().ok()?;
            parameter(params.get(number.checked_sub(1)?)?, column.ty)
        }
        other if is_default(other) => (!has_default(column)).then_some(Value::Null),
        other => constant(other, column.ty),
    }
}

/// A literal as a value of a type. `None` when it takes the long way.
pub(crate) fn constant(expr: &ast::Expr, ty: ColumnType) -> Option<Value> {
    match expr {
        ast::Expr::Value(value) => match &value.value {
            ast::Value::Null => Some(Value::Null),
            ast::Value::Boolean(b) if ty == ColumnType::Boolean => Some(Value::Boolean(*b)),
            ast::Value::Number(digits, false) => number(digits, false, ty),
            ast::Value::SingleQuotedString(text) => from_text(text, ty),
            _ => None,
        },
        ast::Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match expr.as_ref() {
            ast::Expr::Value(value) => match &value.value {
                ast::Value::Number(digits, false) => number(digits, true, ty),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

/// A parameter's value in a column: of the column's own type, or a whole number that fits.
pub(crate) fn parameter(value: &ScalarValue, ty: ColumnType) -> Option<Value> {
    if value.is_null() {
        return Some(Value::Null);
    }
    let whole = match value {
        ScalarValue::Int16(Some(v)) => Some(i64::from(*v)),
        ScalarValue::Int32(Some(v)) => Some(i64::from(*v)),
        ScalarValue::Int64(Some(v)) => Some(*v),
        _ => None,
    };
    match whole {
        Some(whole) => integer(whole, ty),
        None => value_of(value, ty),
    }
}

fn integer(value: i64, ty: ColumnType) -> Option<Value> {
    let fits = match ty {
        ColumnType::Int16 => i16::try_from(value).is_ok(),
        ColumnType::Int32 => i32::try_from(value).is_ok(),
        ColumnType::Int64 => true,
        _ => false,
    };
    fits.then_some(Value::Int(value))
}

/// A number as it is written, without its sign.
fn number(digits: &str, negative: bool, ty: ColumnType) -> Option<Value> {
    // Digits that a double holds exactly; then its quotient by a power of ten is the nearest double too.
    const EXACT_DIGITS_MAX: usize = 15;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) || whole.len() + fraction.len() > 37 || digits == "." {
        return None;
    }
    match ty {
        ColumnType::Int16 | ColumnType::Int32 | ColumnType::Int64 if !digits.contains('.') => {
            let value: i128 = whole.parse().ok()?;
            integer(i64::try_from(if negative { -value } else { value }).ok()?, ty)
        }
        ColumnType::Float64 if whole.len() + fraction.len() <= EXACT_DIGITS_MAX => {
            let value: f64 = digits.parse().ok()?;
            // −0 is 0 in decimal arithmetic.
            Some(Value::Float64(if negative && value != 0.0 { -value } else { value }))
        }
        ColumnType::Decimal { precision, scale } => {
            let scale = usize::try_from(scale).ok()?;
            let padding = scale.checked_sub(fraction.len())?;
            let unscaled: i128 = format!("{whole}{fraction}{}", "0".repeat(padding)).parse().ok()?;
            let limit = 10_i128.checked_pow(precision.into())?;
            (unscaled < limit).then_some(Value::Decimal(if negative { -unscaled } else { unscaled }))
        }
        _ => None,
    }
}

/// A text as it is written between quotes.
fn from_text(text: &str, ty: ColumnType) -> Option<Value> {
    match ty {
        ColumnType::Text | ColumnType::Json => Some(Value::Text(text.to_owned())),
        ColumnType::Int16 | ColumnType::Int32 | ColumnType::Int64 => {
            let digits = text.strip_prefix('-').unwrap_or(text);
            let plain = !digits.is_empty() && digits.len() <= 18 && digits.bytes().all(|b| b.is_ascii_digit());
            match plain {
                true => integer(text.parse().ok()?, ty),
                false => None,
            }
        }
        ColumnType::Uuid => parse_uuid(text).ok().map(Value::Uuid),
        ColumnType::Date => {
            let days = date(text)?.signed_duration_since(NaiveDate::default()).num_days();
            Some(Value::Int(days))
        }
        ColumnType::Timestamp => {
            let (day, time) = text.split_at_checked(10)?;
            date(day)?;
            let plain = time.len() >= 9
                && time.len() <= 16
                && time.bytes().enumerate().all(|(i, b)| match i {
                    0 => b == b' ' || b == b'T',
                    3 | 6 => b == b':',
                    9 => b == b'.',
                    _ => b.is_ascii_digit(),
                });
            if !plain || time.ends_with('.') || time.get(7..9) == Some("60") {
                return None;
            }
            let normal = text.replacen('T', " ", 1);
            let parsed = NaiveDateTime::parse_from_str(&normal, "%Y-%m-%d %H:%M:%S%.f").ok()?;
            Some(Value::Int(parsed.and_utc().timestamp_micros()))
        }
        _ => None,
    }
}

/// `YYYY-MM-DD`.
fn date(text: &str) -> Option<NaiveDate> {
    let plain = text.len() == 10
        && text.bytes().enumerate().all(|(i, b)| if i == 4 || i == 7 { b == b'-' } else { b.is_ascii_digit() });
    if !plain || text.starts_with("0000") {
        return None;
    }
    NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_literals_are_read() {
        let decimal = ColumnType::Decimal { precision: 5, scale: 2 };
        assert_eq!(number("32767", false, ColumnType::Int16), Some(Value::Int(32767)));
        assert_eq!(number("9223372036854775808", true, ColumnType::Int64), Some(Value::Int(i64::MIN)));
        assert_eq!(number("1.5", true, decimal), Some(Value::Decimal(-150)));
        assert_eq!(number("0.1", false, ColumnType::Float64), Some(Value::Float64(0.1)));
        assert_eq!(from_text("1970-01-02", ColumnType::Date), Some(Value::Int(1)));
        assert_eq!(from_text("1970-01-01 00:00:01.5", ColumnType::Timestamp), Some(Value::Int(1_500_000)));
        assert_eq!(from_text("-5", ColumnType::Int32), Some(Value::Int(-5)));
    }

    #[test]
    fn what_could_be_read_differently_is_not_read_here() {
        let decimal = ColumnType::Decimal { precision: 5, scale: 2 };
        for (digits, ty) in [
            ("32768", ColumnType::Int16),
            ("1.5", ColumnType::Int32),
            ("1.555", decimal),
            ("1000", decimal),
            ("1e3", ColumnType::Float64),
            ("0.1234567890123456", ColumnType::Float64),
            ("1", ColumnType::Text),
        ] {
            assert_eq!(number(digits, false, ty), None, "{digits}");
        }
        for (text, ty) in [
            ("5 ", ColumnType::Int32),
            ("+5", ColumnType::Int32),
            ("", ColumnType::Int32),
            ("2024-02-30", ColumnType::Date),
            ("2024-1-1", ColumnType::Date),
            ("2024-01-01", ColumnType::Timestamp),
            ("2024-01-01 10:00:60", ColumnType::Timestamp),
            ("2024-01-01 10:00:00+01", ColumnType::Timestamp),
            ("yes", ColumnType::Boolean),
        ] {
            assert_eq!(from_text(text, ty), None, "{text}");
        }
    }
}
