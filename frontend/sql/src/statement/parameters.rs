/*!
Storage parameters of tables: `CREATE TABLE … WITH (…)`, `ALTER TABLE … SET (…)` and `RESET (…)`.

```text
    ttl          an interval as text, '30 days': rows whose ttl_column lies further back are gone
    ttl_column   a column of type timestamp, timestamptz or date
    filter       auto, on, off: whether runs get filters, which tell most absent keys without reading rows
    layout       auto, row, column: whether all columns of a few rows lie together in runs, or the values of each column
    index        auto
```

A time to live has no months: how long a month is depends on where it begins, and rows would expire out of their order.
*/

use super::context::{Transacted, fold, table_name};
use crate::error::{Result, SqlError, state};
use crate::semantics::parse::interval;
use crate::session::{Done, Outcome};
use crate::types::SqlType;
use datafusion::sql::sqlparser::ast::{
    AlterTable, AlterTableOperation, CreateTableOptions, Expr, Ident, SqlOption, Statement, Value,
};
use omendb_engine::types::{ColumnType, FilterChoice, LayoutChoice, NewTtl, RunChoices, TableDef};

const NANOS_PER_MICRO: i128 = 1_000;
const NANOS_PER_DAY: i128 = 86_400_000_000_000;

/// What is said of a table.
#[derive(Debug, Default)]
struct Parameters {
    ttl_micros: Option<i64>,
    ttl_column: Option<String>,
    runs: RunChoices,
}

impl Parameters {
    fn of(table: &TableDef) -> Parameters {
        let column = table.ttl.and_then(|ttl| table.column_by_id(ttl.column));
        Parameters {
            ttl_micros: table.ttl.map(|ttl| ttl.micros),
            ttl_column: column.map(|c| c.name.clone()),
            runs: table.runs,
        }
    }

    fn set(&mut self, options: &[SqlOption]) -> Result<()> {
        let mut seen = Vec::with_capacity(options.len());
        for option in options {
            let SqlOption::KeyValue { key, value } = option else {
                return Err(SqlError::unsupported(format!("table option {option} is not supported")));
            };
            let name = fold(key);
            if seen.contains(&name) {
                let message = format!("parameter \"{name}\" specified more than once");
                return Err(SqlError::new(state::INVALID_PARAMETER_VALUE, message));
            }
            match name.as_str() {
                "ttl" => self.ttl_micros = Some(micros(value)?),
                "ttl_column" => self.ttl_column = Some(column_name(value)?),
                "filter" => self.runs.filter = filter(value)?,
                "layout" => self.runs.layout = layout(value)?,
                "index" => only_auto(&name, value)?,
                _ => return Err(unrecognized(&name)),
            }
            seen.push(name);
        }
        Ok(())
    }

    fn reset(&mut self, names: &[&Ident]) -> Result<()> {
        for name in names {
            match fold(name).as_str() {
                "ttl" => self.ttl_micros = None,
                "ttl_column" => self.ttl_column = None,
                "filter" => self.runs.filter = FilterChoice::Auto,
                "layout" => self.runs.layout = LayoutChoice::Auto,
                "index" => {}
                other => return Err(unrecognized(other)),
            }
        }
        Ok(())
    }

    /// When rows expire, of a table with these columns.
    fn ttl(self, table: &str, columns: &[(&str, ColumnType)]) -> Result<Option<NewTtl>> {
        let (micros, column) = match (self.ttl_micros, self.ttl_column) {
            (None, None) => return Ok(None),
            (Some(micros), Some(column)) => (micros, column),
            (Some(_), None) => return Err(half("ttl", "ttl_column")),
            (None, Some(_)) => return Err(half("ttl_column", "ttl")),
        };
        let Some((_, ty)) = columns.iter().find(|(name, _)| *name == column) else {
            let message = format!("column \"{column}\" of relation \"{table}\" does not exist");
            return Err(SqlError::new(state::UNDEFINED_COLUMN, message).with_detail("It is named in ttl_column."));
        };
        if !ty.is_moment() {
            let name = SqlType::from(*ty).name();
            let message = format!("ttl_column \"{column}\" is of type {name}");
            return Err(SqlError::new(state::DATATYPE_MISMATCH, message)
                .with_hint("Rows can expire by a column of type timestamp, timestamp with time zone or date."));
        }
        Ok(Some(NewTtl { column, micros }))
    }
}

fn unrecognized(name: &str) -> SqlError {
    SqlError::new(state::INVALID_PARAMETER_VALUE, format!("unrecognized parameter \"{name}\""))
        .with_hint("Tables have the parameters ttl, ttl_column, filter, layout and index.")
}

fn half(there: &str, missing: &str) -> SqlError {
    SqlError::new(state::INVALID_PARAMETER_VALUE, format!("parameter \"{there}\" needs \"{missing}\" beside it"))
        .with_detail("Rows expire once the value of ttl_column is older than ttl.")
        .with_hint("Set both, as in (ttl = '30 days', ttl_column = created_at), or RESET (ttl, ttl_column).")
}

fn text(value: &Expr) -> Option<&str> {
    match value {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

fn only_auto(name: &str, value: &Expr) -> Result<()> {
    match word(value).as_str() {
        "auto" => Ok(()),
        other => Err(SqlError::unsupported(format!("{name} = '{other}' is not supported"))
            .with_hint(format!("The {name} is chosen by itself: '{name} = auto'."))),
    }
}

fn filter(value: &Expr) -> Result<FilterChoice> {
    match word(value).as_str() {
        "auto" => Ok(FilterChoice::Auto),
        "on" | "true" => Ok(FilterChoice::On),
        "off" | "false" => Ok(FilterChoice::Off),
        _ => Err(invalid("filter", value).with_hint("It can be auto, on or off.")),
    }
}

fn layout(value: &Expr) -> Result<LayoutChoice> {
    match word(value).as_str() {
        "auto" => Ok(LayoutChoice::Auto),
        "row" => Ok(LayoutChoice::Row),
        "column" => Ok(LayoutChoice::Column),
        _ => Err(invalid("layout", value).with_hint("It can be auto, row or column.")),
    }
}

/// One of the words that a parameter can be, quoted or not.
fn word(value: &Expr) -> String {
    let plain = value.to_string();
    text(value).unwrap_or(&plain).to_ascii_lowercase()
}

fn invalid(name: &str, value: &Expr) -> SqlError {
    SqlError::new(state::INVALID_PARAMETER_VALUE, format!("invalid value for parameter \"{name}\": {value}"))
}

fn column_name(value: &Expr) -> Result<String> {
    match value {
        Expr::Identifier(ident) => Ok(fold(ident)),
        value => text(value)
            .map(str::to_owned)
            .ok_or_else(|| invalid("ttl_column", value).with_hint("Name a column of the table.")),
    }
}

/// A time to live in microseconds.
fn micros(value: &Expr) -> Result<i64> {
    let invalid = |why: &str| invalid("ttl", value).with_detail(why);
    let text = text(value)
        .ok_or_else(|| invalid("It is no interval.").with_hint("Write an interval as text: ttl = '30 days'."))?;
    let interval = interval(text)?;
    if interval.months != 0 {
        return Err(invalid("Months and years differ in length, so rows would expire out of their order.")
            .with_hint("Say it in days: ttl = '30 days', ttl = '365 days'."));
    }
    let nanos = i128::from(interval.days) * NANOS_PER_DAY + i128::from(interval.nanoseconds);
    match i64::try_from(nanos / NANOS_PER_MICRO) {
        Ok(micros) if micros > 0 => Ok(micros),
        Ok(_) => Err(invalid("A time to live must be more than zero.")),
        Err(_) => Err(SqlError::new(state::DATETIME_FIELD_OVERFLOW, format!("interval out of range: \"{text}\""))),
    }
}

/// When rows of a table that is to be made expire, and how its runs are written.
///
/// # Errors
/// 22023 for parameters that there are not, for one of `ttl` and `ttl_column` without the other and for a time that is none;
/// 22007 for what is no interval; 42703, 42804 for the column.
pub(super) fn of_new(
    options: &CreateTableOptions,
    table: &str,
    columns: &[(&str, ColumnType)],
) -> Result<(Option<NewTtl>, RunChoices)> {
    let mut parameters = Parameters::default();
    match options {
        CreateTableOptions::None => {}
        CreateTableOptions::With(options) => parameters.set(options)?,
        _ => return Err(SqlError::unsupported("this form of table options is not supported")),
    }
    let runs = parameters.runs;
    Ok((parameters.ttl(table, columns)?, runs))
}

/// ALTER TABLE … SET (…), RESET (…). The parser makes parameters without values of RESET.
///
/// # Errors
/// As [`of_new`]; 0A000 for every other form of ALTER TABLE, 2BP01 where it would drop the column by which rows expire.
pub(super) fn alter_table(t: &mut Transacted, statement: &Statement) -> Result<Outcome> {
    let Statement::AlterTable(alter) = statement else { return Err(SqlError::internal("ALTER TABLE expected")) };
    let AlterTable { name, if_exists, only: _, operations, location, on_cluster, table_type, end_token: _ } = alter;
    if location.is_some() || on_cluster.is_some() || table_type.is_some() {
        return Err(super::refused(statement));
    }
    let table = match t.context.table(name) {
        Err(e) if *if_exists && e.sqlstate() == state::UNDEFINED_TABLE => {
            let notices = vec![format!("relation \"{}\" does not exist, skipping", table_name(name)?)];
            return Ok(Outcome::Done(Done { tag: "ALTER TABLE".into(), rows: None, notices }));
        }
        table => table?,
    };
    let before = Parameters::of(&table);
    let mut parameters = Parameters::of(&table);
    for operation in operations {
        match operation {
            AlterTableOperation::SetOptionsParens { options } => match without_values(options) {
                Some(names) => parameters.reset(&names)?,
                None => parameters.set(options)?,
            },
            AlterTableOperation::DropColumn { column_names, .. } => {
                let needed = column_names.iter().map(fold).find(|name| before.ttl_column.as_ref() == Some(name));
                return Err(needed.map_or_else(|| super::refused(statement), |name| needed_column(&name, &table)));
            }
            _ => return Err(super::refused(statement)),
        }
    }
    let columns: Vec<(&str, ColumnType)> = table.columns.iter().map(|c| (c.name.as_str(), c.ty)).collect();
    let runs = parameters.runs;
    let ttl = parameters.ttl(&table.name, &columns)?;
    t.transaction.set_ttl(table.id, ttl)?;
    if runs != before.runs {
        t.transaction.set_run_choices(table.id, runs)?;
    }
    Ok(Done::tag("ALTER TABLE"))
}

/// The names, where none has a value.
fn without_values(options: &[SqlOption]) -> Option<Vec<&Ident>> {
    fn name(option: &SqlOption) -> Option<&Ident> {
        match option {
            SqlOption::Ident(name) => Some(name),
            _ => None,
        }
    }
    options.iter().map(name).collect()
}

fn needed_column(column: &str, table: &TableDef) -> SqlError {
    let message = format!("cannot drop column \"{column}\" of table \"{}\" because rows expire by it", table.name);
    SqlError::new(state::DEPENDENT_OBJECTS_STILL_EXIST, message)
        .with_hint(format!("Let rows stay first: ALTER TABLE {} RESET (ttl, ttl_column).", table.name))
}
