/*!
Every answer over a loaded file equals the same query straight over the file, and both equal DuckDB's.

Then rows are updated, deleted and inserted, and all is compared again: with DuckDB after the same changes, and with
the query over the tables written out to Parquet. The samples always; the full files where this machine has them.
*/
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use omendb_sql::{Database, OpenOptions};
use omendb_tests::answer::{Answer, ask, difference, from_csv};
use omendb_tests::root;
use omendb_tests::workload::{Files, changes, queries, read};
use std::path::{Path, PathBuf};

struct Round<'a> {
    files: &'a Files,
    expected: PathBuf,
    failures: Vec<String>,
}

impl Round<'_> {
    fn compare(&mut self, session: &omendb_sql::Session, file_of: impl Fn(&str, &str) -> PathBuf) {
        let all = queries();
        assert!(all.len() >= 30, "only {} queries", all.len());
        for (name, sql) in all {
            let expected = from_csv(&read(&self.expected.join(format!("{name}.csv"))));
            let over_table = ask(session, &self.files.over_tables(&sql));
            self.check(&name, "table against DuckDB", &over_table, &expected);
            let over_file = ask(session, &self.files.over_files(&sql, &file_of));
            match &over_table {
                Ok(answer) => self.check(&name, "file against table", &over_file, answer),
                Err(_) => self.check(&name, "file against DuckDB", &over_file, &expected),
            }
        }
    }

    fn check(&mut self, name: &str, what: &str, got: &Result<Answer, String>, expected: &Answer) {
        let trouble = match got {
            Ok(answer) => difference(answer, expected),
            Err(e) => Some(e.clone()),
        };
        self.failures.extend(trouble.map(|t| format!("{name} ({what}): {t}")));
    }
}

fn compare_everything(files: &Files, expected: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let options = OpenOptions { dir: Some(dir.path().join("db")), ..OpenOptions::default() };
    let database = Database::open(options).unwrap();
    let session = database.session();
    files.load(&session).unwrap();

    let mut first = Round { files, expected: expected.to_owned(), failures: vec![] };
    first.compare(&session, |_, file| files.dir.join(file));

    for change in changes() {
        if let Err(e) = ask(&session, &change) {
            first.failures.push(format!("{change}: {e}"));
        }
    }
    for (table, _) in files.tables {
        let out = dir.path().join(format!("{table}.parquet"));
        ask(&session, &format!("COPY {table} TO '{}'", out.display())).unwrap();
    }
    let mut second = Round { files, expected: expected.join("changed"), failures: first.failures };
    second.compare(&session, |table, _| dir.path().join(format!("{table}.parquet")));
    assert!(second.failures.is_empty(), "{} differences:\n{}", second.failures.len(), second.failures.join("\n"));
}

#[test]
fn answers_over_the_samples_equal_those_over_the_files_and_duckdbs() {
    compare_everything(&Files::samples(), &root().join("tests/expected"));
}

#[test]
fn answers_over_the_full_files_equal_those_over_the_files_and_duckdbs() {
    match Files::full() {
        Some(files) => compare_everything(&files, &root().join("tests/expected/full")),
        None => println!("skipped: the full data files are not on this machine"),
    }
}
