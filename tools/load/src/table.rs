/*!
The table to load: one that is there, or a new one made from what the files hold.
*/

use crate::args::Args;
use crate::failure::Failure;
use omendb_sql::SqlError;
use omendb_sql::engine::db::{Snapshot, Transaction};
use omendb_sql::engine::types::{NewColumn, NewTable, TableDef};
use omendb_sql::error::state;
use omendb_sql::files::{FileColumn, Sniffed, Source, create_table, sniff, sniff_all};
use omendb_sql::types::{DEFAULT_ATTRIBUTE, SqlType};
use std::sync::Arc;

/// What rows go into.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) columns: Vec<FileColumn>,
    pub(crate) key: Vec<String>,
    /// Columns that a row gets a DEFAULT for, which only SQL can compute.
    defaults: Vec<String>,
    /// What the files hold, where looking at them all gave the columns; else each is looked at in its turn.
    sniffed: Option<Vec<Sniffed>>,
    /// The table, once it is there.
    pub(crate) def: Option<Arc<TableDef>>,
}

impl Target {
    /// Decides on the table.
    pub(crate) fn decide(args: &Args, snapshot: Option<&Snapshot>, sources: &[Source]) -> Result<Target, Failure> {
        let there = match snapshot {
            Some(snapshot) => snapshot.table(&args.table)?,
            None => None,
        };
        match there {
            Some(_) if args.create && !args.resume => {
                let message = format!("table \"{}\" is there already", args.table);
                let hint = "Leave out --create to load into it, or add --resume to go on with an earlier load.";
                Err(SqlError::new(state::DUPLICATE_TABLE, message).with_hint(hint).into())
            }
            Some(def) => Ok(Target::existing(def)),
            None if args.create => Target::new(args, sources),
            None => Err(no_table(&args.table, snapshot)?.into()),
        }
    }

    fn existing(def: Arc<TableDef>) -> Target {
        let column = |c: &omendb_sql::engine::types::ColumnDef| FileColumn {
            name: c.name.clone(),
            ty: SqlType::of_column(c),
            nullable: c.nullable,
        };
        let defaults = def.columns.iter().filter(|c| c.attributes.contains_key(DEFAULT_ATTRIBUTE));
        Target {
            name: def.name.clone(),
            columns: def.columns.iter().map(column).collect(),
            key: def.key.iter().filter_map(|id| Some(def.column_by_id(*id)?.name.clone())).collect(),
            defaults: defaults.map(|c| c.name.clone()).collect(),
            sniffed: None,
            def: Some(def),
        }
    }

    fn new(args: &Args, sources: &[Source]) -> Result<Target, Failure> {
        let (mut columns, sniffed) = sniff_all(sources, &args.sniff_options(Vec::new()))?;
        for name in &args.primary_key {
            let Some(column) = columns.iter_mut().find(|c| c.name == *name) else {
                let known: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
                let message = format!("there is no column \"{name}\" for the primary key");
                let hint = format!("The columns are: {}.", known.join(", "));
                return Err(SqlError::new(state::UNDEFINED_COLUMN, message).with_hint(hint).into());
            };
            column.nullable = false;
        }
        Ok(Target {
            name: args.table.clone(),
            columns,
            key: args.primary_key.clone(),
            defaults: Vec::new(),
            sniffed: Some(sniffed),
            def: None,
        })
    }

    /// Whether it is a table that this run makes.
    pub(crate) fn is_new(&self) -> bool {
        self.sniffed.is_some()
    }

    /// The statement that makes it.
    pub(crate) fn schema(&self) -> String {
        create_table(&self.name, &self.columns, &self.key)
    }

    /// What the file at `place` among the sources holds.
    pub(crate) fn sniffed(&self, args: &Args, place: usize, source: &Source) -> Result<Sniffed, Failure> {
        match self.sniffed.as_ref().and_then(|all| all.get(place)) {
            Some(sniffed) => Ok(sniffed.clone()),
            None => {
                let names = self.columns.iter().map(|c| c.name.clone()).collect();
                Ok(sniff(source, &args.sniff_options(names))?)
            }
        }
    }

    /// Checks that a row without the columns that `filled` leaves out can be stored.
    pub(crate) fn check_missing(&self, file: &str, filled: &[&str]) -> Result<(), Failure> {
        for column in self.columns.iter().filter(|c| !filled.contains(&c.name.as_str())) {
            if self.defaults.contains(&column.name) {
                let message = format!("column \"{}\" has a DEFAULT and is not in \"{file}\"", column.name);
                return Err(SqlError::unsupported(message)
                    .with_hint("The loader computes no defaults; use COPY … FROM in the shell.")
                    .into());
            }
            if !column.nullable {
                let message = format!("column \"{}\" takes no NULL and is not in \"{file}\"", column.name);
                return Err(SqlError::new(state::NOT_NULL_VIOLATION, message).into());
            }
        }
        Ok(())
    }

    /// The table within a transaction, which makes it if it is not there.
    pub(crate) fn within(&self, transaction: &mut Transaction) -> Result<Arc<TableDef>, Failure> {
        if let Some(def) = &self.def {
            return Ok(def.clone());
        }
        let column = |c: &FileColumn| NewColumn {
            name: c.name.clone(),
            ty: c.ty.column,
            nullable: c.nullable,
            attributes: c.ty.attributes(),
        };
        Ok(transaction.create_table(NewTable {
            name: self.name.clone(),
            columns: self.columns.iter().map(column).collect(),
            key: self.key.clone(),
            ..NewTable::default()
        })?)
    }
}

fn no_table(name: &str, snapshot: Option<&Snapshot>) -> Result<SqlError, Failure> {
    let tables = match snapshot {
        Some(snapshot) => snapshot.tables()?,
        None => Vec::new(),
    };
    let error = SqlError::new(state::UNDEFINED_TABLE, format!("table \"{name}\" does not exist"));
    let alike = tables.iter().find(|t| t.name.eq_ignore_ascii_case(name) || differ_by_little(&t.name, name));
    Ok(match alike {
        Some(table) => error.with_hint(format!("Did you mean \"{}\"? To make a new table, add --create.", table.name)),
        None => error.with_hint("To make it from what the files hold, add --create."),
    })
}

/// Whether one name becomes the other by a single letter put in, left out, changed or swapped with the next.
fn differ_by_little(a: &str, b: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let same = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let rest = |name: &[char], from: usize| name.get(from..).map(<[char]>::to_vec).unwrap_or_default();
    let swapped =
        a.get(same) == b.get(same + 1) && a.get(same + 1) == b.get(same) && rest(&a, same + 2) == rest(&b, same + 2);
    swapped
        || rest(&a, same + 1) == rest(&b, same + 1)
        || rest(&a, same) == rest(&b, same + 1)
        || rest(&a, same + 1) == rest(&b, same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_is_one_letter_away() {
        for (a, b) in [("metrics", "metrcs"), ("metrics", "metricss"), ("metrics", "mertics"), ("metrics", "metrixs")] {
            assert!(differ_by_little(a, b), "{a} {b}");
        }
        assert!(!differ_by_little("metrics", "flights"));
    }
}
