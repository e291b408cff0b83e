/*!
`kill -9` in the middle of statements: what was acknowledged is there afterwards, a statement is whole or absent.

Each scenario pipes statements into the shell, each followed by a query that answers with its number: an answer on stdout
means that the statement before it was acknowledged. The shell is killed after a drawn number of answers, and the database
is opened by the library and compared.
*/
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use omendb_sql::{Database, OpenOptions, Outcome};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// Pipes `setup` and then `statement(0)`, `statement(1)`, … into the shell and kills it after `answers` acknowledgements;
/// gives how many statements were acknowledged.
fn run_and_kill(dir: &Path, setup: &str, statement: impl Fn(u64) -> String + Send + 'static, answers: u64) -> u64 {
    let mut child = Command::new(env!("CARGO_BIN_EXE_omendb"))
        .arg(dir)
        .args(["--format", "csv"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let setup = setup.to_owned();
    // The writer ends when the killed shell's pipe breaks.
    let writer = std::thread::spawn(move || {
        let _broken = stdin.write_all(setup.as_bytes());
        for i in 0.. {
            let text = format!("{};\nSELECT {i} AS acknowledged;\n", statement(i));
            if stdin.write_all(text.as_bytes()).is_err() {
                return;
            }
        }
    });
    let mut acknowledged = 0;
    for line in stdout.lines() {
        let Ok(line) = line else { break };
        if line.parse::<u64>().is_ok() {
            acknowledged += 1;
            if acknowledged == answers {
                // What the shell does next is cut off at some point of its own.
                std::thread::sleep(std::time::Duration::from_micros(answers * 137 % 3_000));
                child.kill().unwrap();
            }
        }
    }
    child.wait().unwrap();
    writer.join().unwrap();
    assert!(acknowledged >= answers, "the shell ended by itself after {acknowledged} answers");
    acknowledged
}

fn number(dir: &Path, sql: &str) -> i64 {
    let database = Database::open(OpenOptions { dir: Some(dir.into()), ..OpenOptions::default() }).unwrap();
    let session = database.session();
    let Outcome::Rows(rows) = session.execute(sql).unwrap() else { panic!("no rows: {sql}") };
    let batch = rows.map(Result::unwrap).find(|b| b.num_rows() > 0).unwrap();
    let text = arrow::util::display::array_value_to_string(batch.column(0), 0).unwrap();
    database.close().unwrap();
    text.parse().unwrap_or_else(|_| panic!("{sql} gave {text:?}"))
}

#[test]
fn single_rows_with_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let mut first = 0u64;
    for (round, answers) in [40u64, 3, 120].into_iter().enumerate() {
        let setup = if round == 0 { "CREATE TABLE t (id BIGINT PRIMARY KEY, v TEXT);\n" } else { "" };
        let from = first;
        let acknowledged =
            run_and_kill(&path, setup, move |i| format!("INSERT INTO t VALUES ({}, 'row {i}')", from + i), answers);
        let rows = u64::try_from(number(&path, "SELECT count(*) FROM t")).unwrap();
        let highest = u64::try_from(number(&path, "SELECT max(id) FROM t")).unwrap();
        assert_eq!(rows, highest + 1, "rows are a prefix of history");
        assert!(rows >= first + acknowledged, "{rows} rows, {acknowledged} acknowledged after {first}");
        first = rows;
    }
}

#[test]
fn rows_without_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let acknowledged =
        run_and_kill(&path, "CREATE TABLE t (v BIGINT);\n", |i| format!("INSERT INTO t VALUES ({i}), ({i})"), 60);
    let rows = u64::try_from(number(&path, "SELECT count(*) FROM t")).unwrap();
    assert!(rows % 2 == 0 && rows >= acknowledged * 2, "{rows} rows of {acknowledged} pairs");
    assert_eq!(number(&path, "SELECT count(*) FROM (SELECT v FROM t GROUP BY v HAVING count(*) <> 2) odd"), 0);
}

#[test]
fn statements_of_many_rows_are_whole_or_absent() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let acknowledged = run_and_kill(
        &path,
        "CREATE TABLE t (batch BIGINT, i BIGINT, PRIMARY KEY (batch, i));\n",
        |b| format!("INSERT INTO t SELECT {b}, value FROM generate_series(1, 5000) AS g(value)"),
        12,
    );
    assert_eq!(number(&path, "SELECT count(*) FROM (SELECT batch FROM t GROUP BY batch HAVING count(*) <> 5000) p"), 0);
    let batches = u64::try_from(number(&path, "SELECT count(DISTINCT batch) FROM t")).unwrap();
    assert!(batches >= acknowledged, "{batches} of {acknowledged}");
}

#[test]
fn updates_of_every_row_keep_them_equal() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let setup = "CREATE TABLE t (id BIGINT PRIMARY KEY, v BIGINT);\n\
                 INSERT INTO t SELECT value, 0 FROM generate_series(1, 500) AS g(value);\n";
    let acknowledged = run_and_kill(&path, setup, |_| "UPDATE t SET v = v + 1".to_owned(), 25);
    assert_eq!(number(&path, "SELECT max(v) - min(v) FROM t"), 0);
    assert!(u64::try_from(number(&path, "SELECT min(v) FROM t")).unwrap() >= acknowledged);
    assert_eq!(number(&path, "SELECT count(*) FROM t"), 500);
}

#[test]
fn deleted_rows_stay_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let setup = "CREATE TABLE t (id BIGINT PRIMARY KEY);\n\
                 INSERT INTO t SELECT value FROM generate_series(0, 9999) AS g(value);\n";
    let acknowledged = run_and_kill(&path, setup, |i| format!("DELETE FROM t WHERE id = {i}"), 50);
    let least = u64::try_from(number(&path, "SELECT min(id) FROM t")).unwrap();
    assert!(least >= acknowledged, "{least} is there, {acknowledged} deletes were acknowledged");
    assert_eq!(number(&path, "SELECT count(*) FROM t"), 10_000 - i64::try_from(least).unwrap());
}

#[test]
fn tables_are_there_with_their_rows_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let acknowledged = run_and_kill(
        &path,
        "",
        |i| format!("CREATE TABLE t{i} AS SELECT value FROM generate_series(1, 2000) AS g(value)"),
        15,
    );
    let tables = number(&path, "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'");
    let tables = u64::try_from(tables).unwrap();
    assert!(tables >= acknowledged);
    for i in 0..tables {
        assert_eq!(number(&path, &format!("SELECT count(*) FROM t{i}")), 2_000, "t{i}");
    }
}
