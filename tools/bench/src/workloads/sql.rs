/*!
A script of SQL: its statements one after another, each an operation of its own, again and again; each client has a session.

The database is used as it is. What a statement must answer nobody has said, so what is checked is that it succeeds, and, where the
whole script only asks, that it gives as many rows as the first time.
*/

use super::sessions::Sessions;
use crate::failure::Failure;
use crate::settings::Settings;
use crate::workload::{Client, Entry, Kind, Workload};
use omendb_engine::db::Db;
use omendb_sql::{Outcome, Session, split};
use std::path::PathBuf;
use std::sync::OnceLock;

/// See the module.
pub(crate) const ENTRY: Entry = Entry {
    name: "sql",
    about: "the statements of a script, timed one by one: `run sql FILE`",
    kind: Kind::Driven(open),
    not_cold: Some("its statements may be any"),
};

/// Bytes of a script at most.
const SCRIPT_BYTES_MAX: u64 = 64 << 20;

/// Letters of a statement in its operation's name.
const NAME_LETTERS: usize = 40;

struct Sql {
    file: PathBuf,
    statements: Vec<Statement>,
    clients: usize,
    sessions: Sessions,
}

/// A statement, and how many rows it gave when it was first run, if it gives rows.
struct Statement {
    text: String,
    rows: OnceLock<Option<u64>>,
}

fn open(settings: &Settings) -> Result<Box<dyn Workload + '_>, Failure> {
    let missing = || Failure::Usage("which script? `omendb-bench run sql FILE --db DIR`".into());
    let file = settings.file.clone().ok_or_else(missing)?;
    settings.dir()?;
    let length = std::fs::metadata(&file).map_err(|e| Failure::file("read", &file, e))?.len();
    if length > SCRIPT_BYTES_MAX {
        return Err(Failure::file("read", &file, format!("{length} bytes are too many for a script")));
    }
    let text = std::fs::read_to_string(&file).map_err(|e| Failure::file("read", &file, e))?;
    let cut = split(&text);
    let ranges = cut.statements.into_iter().chain(Some(cut.rest).filter(|rest| !rest.is_empty()));
    let statement = |text: &str| Statement { text: text.to_owned(), rows: OnceLock::new() };
    let statements: Vec<Statement> = ranges.filter_map(|range| text.get(range)).map(statement).collect();
    if statements.is_empty() {
        return Err(Failure::Usage(format!("there is no statement in \"{}\"", file.display())));
    }
    let sessions = Sessions::open(settings)?;
    Ok(Box::new(Sql { file, statements, clients: settings.clients, sessions }))
}

/// `3: SELECT count(*) FROM t WHERE …`
fn name(number: usize, text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut: String = words.chars().take(NAME_LETTERS).collect();
    let rest = if cut.len() < words.len() { " …" } else { "" };
    format!("{number}: {cut}{rest}")
}

/// Whether a statement's first word is this one.
fn begins_with(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphabetic())
        .find(|part| !part.is_empty())
        .is_some_and(|first| first.eq_ignore_ascii_case(word))
}

impl Workload for Sql {
    fn db(&self) -> Option<Db> {
        Some(self.sessions.engine().clone())
    }

    fn operations(&self) -> Vec<String> {
        self.statements.iter().zip(1..).map(|(statement, number)| name(number, &statement.text)).collect()
    }

    fn commits(&self, operation: usize) -> bool {
        let reads = |text: &str| ["SELECT", "WITH", "VALUES"].iter().any(|word| begins_with(text, word));
        !self.statements.get(operation).is_some_and(|statement| reads(&statement.text))
    }

    fn parameters(&self) -> Vec<(&'static str, serde_json::Value)> {
        let texts: Vec<&str> = self.statements.iter().map(|statement| statement.text.as_str()).collect();
        vec![("file", self.file.display().to_string().into()), ("statements", texts.into())]
    }

    fn prepare(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn client(&self, number: usize) -> Result<Box<dyn Client + '_>, Failure> {
        // Clients begin at different statements, so that they are not all at the same.
        let place = number * self.statements.len() / self.clients.max(1);
        Ok(Box::new(SqlClient { sql: self, session: self.sessions.session(), place, next: place, rows: None }))
    }

    fn verify(&mut self) -> Result<String, Failure> {
        let only_asks = self.only_asks();
        let what = if only_asks {
            "every statement has succeeded, with as many rows as the first time"
        } else {
            "every statement has succeeded"
        };
        Ok(what.into())
    }
}

impl Sql {
    /// Whether all statements that were run have given rows.
    fn only_asks(&self) -> bool {
        self.statements.iter().all(|statement| !matches!(statement.rows.get(), Some(None)))
    }
}

struct SqlClient<'a> {
    sql: &'a Sql,
    session: Session,
    /// Which statement is run.
    place: usize,
    next: usize,
    rows: Option<u64>,
}

impl SqlClient<'_> {
    fn statement(&self) -> Option<&Statement> {
        self.sql.statements.get(self.place)
    }
}

impl Client for SqlClient<'_> {
    fn draw(&mut self) -> Result<usize, Failure> {
        self.place = self.next % self.sql.statements.len().max(1);
        self.next = self.place + 1;
        Ok(self.place)
    }

    fn run(&mut self) -> Result<u64, Failure> {
        let text = self.statement().map_or("", |statement| statement.text.as_str());
        match self.session.execute(text)? {
            Outcome::Done(done) => {
                self.rows = None;
                Ok(done.rows.unwrap_or(0))
            }
            Outcome::Rows(batches) => {
                let mut rows = 0;
                for batch in batches {
                    rows += u64::try_from(batch?.num_rows()).unwrap_or(0);
                }
                self.rows = Some(rows);
                Ok(rows)
            }
        }
    }

    fn check(&mut self) -> Result<(), Failure> {
        let Some(statement) = self.statement() else { return Ok(()) };
        let first = *statement.rows.get_or_init(|| self.rows);
        match first == self.rows || !self.sql.only_asks() {
            true => Ok(()),
            false => {
                let rows = |rows: Option<u64>| rows.map_or("none".to_owned(), |rows| rows.to_string());
                let (place, now, first) = (self.place + 1, rows(self.rows), rows(first));
                Err(Failure::Wrong(format!("statement {place} has given {now} rows, and {first} the first time")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_statement_has_a_short_name() {
        assert_eq!(name(3, "SELECT\n  1"), "3: SELECT 1");
        let long = name(12, "SELECT run_id, count(*) FROM metrics GROUP BY run_id");
        assert_eq!(long, "12: SELECT run_id, count(*) FROM metrics GRO …");
    }
}
