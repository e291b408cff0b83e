/*!
SET, RESET, SHOW.
*/

use super::context::{Context, fold};
use crate::error::{Result, SqlError, state};
use crate::session::{Done, Inner, Outcome, Rows};
use arrow::array::{ArrayRef, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::sql::sqlparser::ast::{
    ContextModifier, Expr, Ident, ObjectName, Reset, ResetStatement, Set, Statement, UnaryOperator, Value,
};
use std::sync::Arc;

/// SET.
pub(crate) fn set(session: &Inner, set: &Set) -> Result<Outcome> {
    match set {
        Set::SingleAssignment { scope, hivevar: false, variable, values } => {
            only_session(scope.as_ref())?;
            let name = setting_name(variable)?;
            match values.as_slice() {
                [value] if super::insert::is_default(value) => session.change_settings(|s| s.reset(&name))?,
                values => {
                    let texts = values.iter().map(value_text).collect::<Result<Vec<_>>>()?;
                    session.change_settings(|s| s.set(&name, &texts.join(", ")))?;
                }
            }
        }
        Set::SetTimeZone { local: false, value } => {
            let text = value_text(value)?;
            match text.eq_ignore_ascii_case("local") || super::insert::is_default(value) {
                true => session.change_settings(|s| s.reset("timezone"))?,
                false => session.change_settings(|s| s.set("timezone", &text))?,
            }
        }
        Set::SetNames { charset_name, collation_name: None } => {
            session.change_settings(|s| s.set("client_encoding", &charset_name.value))?;
        }
        other => return Err(SqlError::unsupported(format!("SET {other} is not supported"))),
    }
    Ok(Done::tag("SET"))
}

fn only_session(scope: Option<&ContextModifier>) -> Result<()> {
    match scope {
        None | Some(ContextModifier::Session) => Ok(()),
        Some(_) => Err(SqlError::unsupported("SET LOCAL is not supported: each statement is a transaction of its own")),
    }
}

fn setting_name(name: &ObjectName) -> Result<String> {
    let parts: Vec<String> = name.0.iter().filter_map(|part| part.as_ident()).map(fold).collect();
    match parts.len() == name.0.len() {
        true => Ok(parts.join(".")),
        false => Err(SqlError::new(state::SYNTAX_ERROR, format!("{name} is not the name of a setting"))),
    }
}

/// A value as it is written after SET: a text, a number, or a bare word.
fn value_text(value: &Expr) -> Result<String> {
    let wrong = || SqlError::new(state::SYNTAX_ERROR, format!("{value} is not a value for a setting"));
    match value {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(s) | Value::DoubleQuotedString(s) => Ok(s.clone()),
            Value::Number(n, _) => Ok(n.clone()),
            Value::Boolean(b) => Ok(if *b { "on" } else { "off" }.into()),
            _ => Err(wrong()),
        },
        Expr::Identifier(ident) => Ok(ident.value.clone()),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => Ok(format!("-{}", value_text(expr)?)),
        _ => Err(wrong()),
    }
}

/// RESET.
pub(crate) fn reset(session: &Inner, reset: &ResetStatement) -> Result<Outcome> {
    match &reset.reset {
        Reset::ALL => session.change_settings(|s| {
            s.reset_all();
            Ok(())
        })?,
        Reset::ConfigurationParameter(name) => {
            let name = setting_name(name)?;
            session.change_settings(|s| s.reset(&name))?;
        }
    }
    Ok(Done::tag("RESET"))
}

/// SHOW of a setting, or of all.
pub(crate) fn variable(session: &Inner, variable: &[Ident]) -> Result<Outcome> {
    let words: Vec<String> = variable.iter().map(|ident| ident.value.to_lowercase()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let settings = session.settings();
    match words.as_slice() {
        ["all"] => {
            let all: Vec<_> = settings.all().collect();
            table(&[
                ("name", all.iter().map(|s| s.name.to_owned()).collect()),
                ("setting", all.iter().map(|s| s.value.clone()).collect()),
                ("description", all.iter().map(|s| s.about.to_owned()).collect()),
            ])
        }
        ["time", "zone"] => one(&settings.show("timezone")?),
        ["transaction", "isolation", "level"] => one(&settings.show("transaction_isolation")?),
        words => one(&settings.show(&words.join("."))?),
    }
}

fn one((name, value): &(&'static str, String)) -> Result<Outcome> {
    table(&[(name, vec![value.clone()])])
}

/// SHOW TABLES.
pub(crate) fn tables(context: &Context, statement: &Statement) -> Result<Outcome> {
    let Statement::ShowTables {
        terse: false,
        history: false,
        extended: false,
        full: false,
        external: false,
        show_options,
    } = statement
    else {
        return Err(SqlError::unsupported("this form of SHOW TABLES is not supported"));
    };
    let plain = show_options.show_in.is_none()
        && show_options.starts_with.is_none()
        && show_options.limit.is_none()
        && show_options.limit_from.is_none()
        && show_options.filter_position.is_none();
    if !plain {
        return Err(SqlError::unsupported("SHOW TABLES takes no options").with_hint("Ask information_schema.tables."));
    }
    let names = context.snapshot.tables()?.iter().map(|table| table.name.clone()).collect();
    table(&[("table_name", names)])
}

/// Columns of text as rows.
fn table(columns: &[(&str, Vec<String>)]) -> Result<Outcome> {
    let fields: Vec<Field> = columns.iter().map(|(name, _)| Field::new(*name, DataType::Utf8View, false)).collect();
    let arrays: Vec<ArrayRef> =
        columns.iter().map(|(_, values)| Arc::new(StringViewArray::from_iter_values(values)) as ArrayRef).collect();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(schema.clone(), arrays)?;
    Ok(Outcome::Rows(Rows::ready(schema, vec![batch])))
}
