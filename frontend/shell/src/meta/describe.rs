/*!
`\d`, `\dt`, `\di`, `\conninfo`: what there is, read from the engine's catalog.
*/

use super::sheet::Sheet;
use super::words::Arguments;
use super::{nearest, print};
use crate::render::{Format, rows_text};
use crate::shell::{Place, Shell, Step, Stop};
use omendb_cli::size;
use omendb_sql::engine::db::{Db, RunStats, TableStats};
use omendb_sql::engine::types::{ColumnDef, FilterChoice, LayoutChoice, TableDef};
use omendb_sql::types::{DEFAULT_ATTRIBUTE, SqlType};
use omendb_sql::{SqlError, engine, text};
use std::collections::BTreeMap;
use std::sync::Arc;

/// `\d`: a table, or all.
pub(super) fn describe(shell: &mut Shell, arguments: &Arguments<'_>) -> Step {
    let Some(name) = arguments.optional(shell)? else { return tables(shell, arguments) };
    let table = table(shell, &name, arguments.place)?;
    let stats = told(shell, arguments.place, |db| Ok((db.table_stats(&table)?, db.run_stats(&table)?)))?;
    let for_people = shell.view.format == Format::Table;
    if for_people {
        print(shell, arguments.place, &format!("Table \"{}\"\n", table.name))?;
    }
    columns(&table).show(shell, arguments.place)?;
    if for_people {
        print(shell, arguments.place, &summary(&table, &stats.0, &stats.1))?;
    }
    Ok(())
}

fn columns(table: &TableDef) -> Sheet {
    let each = |text: &dyn Fn(&ColumnDef) -> Option<String>| table.columns.iter().map(text).collect::<Vec<_>>();
    let key_place = |c: &ColumnDef| table.key.iter().position(|id| *id == c.id).map(|place| (place + 1).to_string());
    Sheet::default()
        .text("column", each(&|c| Some(c.name.clone())))
        .text("type", each(&|c| Some(SqlType::of_column(c).name())))
        .text("nullable", each(&|c| Some(if c.nullable { "yes" } else { "no" }.into())))
        .text("default", each(&|c| c.attributes.get(DEFAULT_ATTRIBUTE).cloned()))
        .text("key", each(&key_place))
}

fn summary(table: &TableDef, stats: &TableStats, runs: &[RunStats]) -> String {
    let key = match table.has_hidden_key() {
        true => "none (rows have a hidden id)".to_owned(),
        false => format!("({})", key_names(table).join(", ")),
    };
    let about = if stats.rows_exact { "" } else { "about " };
    let expiry = match table.ttl.and_then(|ttl| Some((ttl, table.column_by_id(ttl.column)?))) {
        Some((ttl, column)) => format!("Rows expire: {} after {}\n", text::duration(ttl.micros), column.name),
        None => String::new(),
    };
    format!(
        "Primary key: {key}\n{expiry}Index: {}\n{}{}Rows: {about}{}, {} on disk\n",
        kinds(runs),
        layout(table, runs),
        filters(table, runs),
        size::count(stats.rows),
        size::show(stats.bytes_on_disk)
    )
}

/// "Layout: row, 2 of 3 runs"; nothing where the table says nothing.
fn layout(table: &TableDef, runs: &[RunStats]) -> String {
    let (said, by_rows) = match table.runs.layout {
        LayoutChoice::Auto => return String::new(),
        LayoutChoice::Row => ("row", true),
        LayoutChoice::Column => ("column", false),
    };
    let so = runs.iter().filter(|run| run.row_shape == by_rows).count();
    format!("Layout: {said}, {so} of {} runs\n", runs.len())
}

/// "Filters: on, 2 of 3 runs (1.1 MiB)"; nothing where no run has one and the table says nothing.
fn filters(table: &TableDef, runs: &[RunStats]) -> String {
    let said = match table.runs.filter {
        FilterChoice::Auto => "auto",
        FilterChoice::On => "on",
        FilterChoice::Off => "off",
    };
    let bytes: u64 = runs.iter().map(|run| run.filter_bytes).sum();
    if bytes == 0 && table.runs.filter == FilterChoice::Auto {
        return String::new();
    }
    let with = runs.iter().filter(|run| run.filter_bytes > 0).count();
    format!("Filters: {said}, {with} of {} runs ({})\n", runs.len(), size::show(bytes))
}

/// "Model (3 runs), Separators (1 run)".
fn kinds(runs: &[RunStats]) -> String {
    let mut counts = BTreeMap::<&str, usize>::new();
    for run in runs {
        *counts.entry(run.index_kind.as_str()).or_default() += 1;
    }
    let unit = |count: usize| if count == 1 { "run" } else { "runs" };
    let kinds: Vec<String> = counts.iter().map(|(kind, n)| format!("{kind} ({n} {})", unit(*n))).collect();
    if kinds.is_empty() { "no run yet, all rows are in memory".to_owned() } else { kinds.join(", ") }
}

fn key_names(table: &TableDef) -> Vec<String> {
    table.key.iter().filter_map(|id| table.column_by_id(*id)).map(|c| c.name.clone()).collect()
}

/// `\dt`.
pub(super) fn tables(shell: &mut Shell, arguments: &Arguments<'_>) -> Step {
    let place = arguments.place;
    let all = told(shell, place, |db| {
        let with_stats = |t: Arc<TableDef>| Ok((db.table_stats(&t)?, t));
        db.snapshot()?.tables()?.into_iter().map(with_stats).collect::<engine::Result<Vec<_>>>()
    })?;
    Sheet::default()
        .text("table", all.iter().map(|(_, t)| Some(t.name.clone())))
        .count("columns", all.iter().map(|(_, t)| crate::render::as_u64(t.columns.len())))
        .text("primary key", all.iter().map(|(_, t)| (!t.has_hidden_key()).then(|| key_names(t).join(", "))))
        .count("rows", all.iter().map(|(stats, _)| stats.rows))
        .count("runs", all.iter().map(|(stats, _)| stats.runs))
        .count("bytes on disk", all.iter().map(|(stats, _)| stats.bytes_on_disk))
        .show(shell, place)
}

/// `\di`.
pub(super) fn indexes(shell: &mut Shell, arguments: &Arguments<'_>) -> Step {
    let place = arguments.place;
    let all = told(shell, place, |db| {
        let tables = db.snapshot()?.tables()?.into_iter().filter(|t| !t.has_hidden_key());
        tables.map(|t| Ok((db.run_stats(&t)?, t))).collect::<engine::Result<Vec<_>>>()
    })?;
    let bytes = |runs: &[RunStats]| runs.iter().map(|run| run.index_bytes).sum();
    Sheet::default()
        .text("table", all.iter().map(|(_, t)| Some(t.name.clone())))
        .text("columns", all.iter().map(|(_, t)| Some(key_names(t).join(", "))))
        .text("index", all.iter().map(|(runs, _)| Some(kinds(runs))))
        .count("bytes", all.iter().map(|(runs, _)| bytes(runs)))
        .show(shell, place)
}

/// `\conninfo`.
pub(super) fn database(shell: &mut Shell, arguments: &Arguments<'_>) -> Step {
    let place = arguments.place;
    let stats = told(shell, place, Db::stats)?;
    let db = shell.database.engine();
    let name = db.dir().map_or_else(|| "in memory".to_owned(), |dir| dir.display().to_string());
    let mode = if db.is_read_only() { "reading only" } else { "reading and writing" };
    let files = match &stats.io_notice {
        Some(why) => format!("{}: {why}", stats.io),
        None => stats.io.to_owned(),
    };
    let lines = [
        ("database", name),
        ("opened for", mode.to_owned()),
        ("omendb", omendb_cli::version::version().to_owned()),
        ("process", std::process::id().to_string()),
        ("tables", stats.tables.to_string()),
        ("runs", format!("{}, {}", stats.runs, size::show(stats.run_bytes))),
        ("in memory", size::show(stats.memtable_bytes)),
        ("log", size::show(stats.log_bytes)),
        ("files through", files),
    ];
    Sheet::default()
        .text("what", lines.iter().map(|(what, _)| Some((*what).to_owned())))
        .text("is", lines.iter().map(|(_, is)| Some(is.clone())))
        .show(shell, place)
}

/// The table of this name; an error names the nearest one there is. A name without quotes is in lower case, as in SQL.
pub(super) fn table(shell: &Shell, name: &str, place: Place<'_>) -> Result<Arc<TableDef>, Stop> {
    let tables = told(shell, place, |db| db.snapshot()?.tables())?;
    let name = name.strip_prefix("public.").unwrap_or(name);
    let found = tables.iter().find(|t| t.name == name);
    if let Some(table) = found.or_else(|| tables.iter().find(|t| t.name == name.to_lowercase())) {
        return Ok(table.clone());
    }
    let hint = match nearest(name, tables.iter().map(|t| t.name.as_str())) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => "\\dt lists the tables".to_owned(),
    };
    Err(shell.fail(place, &format!("there is no table \"{name}\""), Some(&hint)))
}

/// What the engine says, or its error reported.
pub(super) fn told<T>(shell: &Shell, place: Place<'_>, ask: impl FnOnce(&Db) -> engine::Result<T>) -> Result<T, Stop> {
    ask(shell.database.engine()).map_err(|e| shell.stop(SqlError::from(e).into(), None, place))
}

/// "3 rows in memory".
pub(super) fn rows_in_memory(stats: &TableStats) -> String {
    format!("{} in memory", rows_text(stats.rows))
}
