/*!
The workloads, one file each, and what they share: tables of their own, a database at rest, sessions, and answers to hold
others against.
*/

mod answer;
pub(crate) mod devops;
pub(crate) mod durable_commit;
pub(crate) mod learned_index;
pub(crate) mod metrics;
pub(crate) mod open_close;
mod sessions;
pub(crate) mod sql;
pub(crate) mod tpch;
pub(crate) mod ycsb;

use crate::failure::Failure;
use crate::settings::Settings;
use omendb_cli::report::say;
use omendb_engine::db::Db;
use omendb_engine::types::{Attributes, ColumnType, NewColumn, NewTable, TableDef};
use omendb_sql::SqlError;
use omendb_sql::error::state;
use std::sync::Arc;
use std::time::Duration;

/// The attribute that marks tables as the runner's own. Only such are dropped.
const MARK: &str = "omendb-bench";

/// How often it is looked whether a database is at rest.
const REST_EVERY: Duration = Duration::from_millis(20);

/// A table of a workload: columns with their types, none of which takes NULL, and the columns of the key.
pub(crate) struct OwnTable<'a> {
    pub(crate) name: &'a str,
    pub(crate) columns: &'a [(&'a str, ColumnType)],
    pub(crate) key: &'a [&'a str],
}

impl OwnTable<'_> {
    /// Makes it empty. One that an earlier run has left is dropped.
    ///
    /// # Errors
    /// That a table of this name is there which the runner has not made; the engine's.
    pub(crate) fn make(&self, db: &Db) -> Result<Arc<TableDef>, Failure> {
        if let Some(old) = left_by_earlier_run(db, self.name)? {
            let mut transaction = db.begin()?;
            transaction.drop_table(old.id)?;
            transaction.commit()?;
        }
        let column = |(name, ty): &(&str, ColumnType)| NewColumn {
            name: (*name).to_owned(),
            ty: *ty,
            nullable: false,
            attributes: Attributes::new(),
        };
        let mut transaction = db.begin()?;
        let table = transaction.create_table(NewTable {
            name: self.name.to_owned(),
            columns: self.columns.iter().map(column).collect(),
            key: self.key.iter().map(|name| (*name).to_owned()).collect(),
            attributes: [(MARK.to_owned(), "made by omendb-bench, which drops it at the next run".to_owned())].into(),
            ..NewTable::default()
        })?;
        transaction.commit()?;
        Ok(table)
    }
}

/// The table of this name that an earlier run has left.
///
/// # Errors
/// That there is one which the runner has not made; the engine's.
pub(crate) fn left_by_earlier_run(db: &Db, name: &str) -> Result<Option<Arc<TableDef>>, Failure> {
    let old = db.snapshot()?.table(name)?;
    if old.as_ref().is_some_and(|old| !old.attributes.contains_key(MARK)) {
        let message = format!("the database has a table \"{name}\" that omendb-bench has not made");
        let hint = "It is left alone. Name another directory with --db, or rename the table.";
        return Err(SqlError::new(state::DUPLICATE_TABLE, message).with_hint(hint).into());
    }
    Ok(old)
}

/// Writes out what is in memory, and waits until nothing is left to merge: so every run begins alike.
pub(crate) fn come_to_rest(db: &Db, settings: &Settings) -> Result<(), Failure> {
    db.flush()?;
    while db.stats()?.debt_bytes > 0 {
        settings.stop_if_interrupted()?;
        std::thread::sleep(REST_EVERY);
    }
    Ok(())
}

/// Says what is being made ready.
pub(crate) fn note(settings: &Settings, text: &str) {
    if !settings.quiet {
        say(text);
    }
}
