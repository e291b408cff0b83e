/*!
Runs every `.slt` file of `tests/slt`: SQL and its answers, as PostgreSQL gives them.

Each file starts on an empty database in memory; `statement error` matches on `SQLSTATE: message`.
*/
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use omendb_sql::{Database, OpenOptions, Session};
use omendb_tests::answer::ask;
use omendb_tests::root;
use sqllogictest::{DB, DBOutput, DefaultColumnType};
use std::fmt;

struct Connection {
    session: Session,
    _database: Database,
}

#[derive(Debug)]
struct Told(String);

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Told {}

impl DB for Connection {
    type Error = Told;
    type ColumnType = DefaultColumnType;

    fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Told> {
        let answer = ask(&self.session, sql).map_err(Told)?;
        if answer.names == ["tag"] {
            // A tag ends with the rows that it touched.
            let tag = answer.rows.first().and_then(|row| row.first()).cloned().unwrap_or_default();
            let count = tag.rsplit(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0);
            return Ok(DBOutput::StatementComplete(count));
        }
        let shown = |cell: String| if cell.is_empty() { "(empty)".to_owned() } else { cell };
        let rows = answer.rows.into_iter().map(|row| row.into_iter().map(shown).collect()).collect();
        Ok(DBOutput::Rows { types: vec![DefaultColumnType::Any; answer.names.len()], rows })
    }

    fn engine_name(&self) -> &str {
        "omendb"
    }
}

fn run_file(name: &str) {
    let path = root().join("tests/slt").join(name);
    let mut runner = sqllogictest::Runner::new(|| async {
        let database = Database::open(OpenOptions::default()).map_err(|e| Told(e.to_string()))?;
        Ok(Connection { session: database.session(), _database: database })
    });
    if let Err(e) = runner.run_file(&path) {
        panic!("{}", e.display(false));
    }
}

macro_rules! files {
    ($($name:ident)*) => {
        $(#[test] fn $name() { run_file(concat!(stringify!($name), ".slt")); })*

        #[test]
        fn every_slt_file_is_run() {
            let listed = [$(concat!(stringify!($name), ".slt")),*];
            for entry in std::fs::read_dir(root().join("tests/slt")).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                assert!(listed.contains(&name.as_str()), "{name} is not run");
            }
        }
    };
}

files! {
    tables keys inserts updates_and_deletes types nulls arithmetic casts text_and_time aggregates joins subqueries windows
    set_operations refused catalog delete_ranges ttl storage_parameters slice_aggregates first_rows
}
