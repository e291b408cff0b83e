/*!
Databases on the operating system's files, through every back end that it offers.
*/

use crate::support::*;
use omendb_engine::db::{Db, Options};
use omendb_engine::io::{self, IoRef};
use omendb_engine::types::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Rows of one commit of the writer that is killed.
const ROWS: i64 = 40;

/// Back ends that work here, by name.
fn back_ends() -> Vec<(&'static str, IoRef)> {
    let mut all = vec![("posix", io::posix())];
    #[cfg(target_os = "linux")]
    match io::uring() {
        Ok(uring) => all.push(("uring", uring)),
        Err(reason) => eprintln!("not tested, for there is no io_uring: {reason}"),
    }
    all
}

fn options(dir: &Path, io: &IoRef) -> Options {
    Options { dir: Some(dir.to_owned()), io: Some(io.clone()), ..small() }
}

#[test]
fn statistics_name_the_back_end_and_why_it_is_not_a_better_one() {
    let dir = tempfile::tempdir().unwrap();
    for (name, io) in back_ends() {
        let stats = Db::open(options(dir.path(), &io)).unwrap().stats().unwrap();
        assert_eq!((stats.io, stats.io_notice), (name, None));
    }
    let stats = Db::open(Options::memory()).unwrap().stats().unwrap();
    assert_eq!((stats.io, stats.io_notice), ("memory", None));
    let stats = Db::open(Options::dir(dir.path())).unwrap().stats().unwrap();
    assert!(stats.io == "uring" || stats.io_notice.is_some() || std::env::var_os("OMENDB_IO").is_some());
}

#[test]
fn what_one_back_end_wrote_every_other_reads() {
    let dirs = [tempfile::tempdir().ok(), tempfile::tempdir_in("/dev/shm").ok()];
    for dir in dirs.iter().flatten() {
        let mut expect = Vec::new();
        for round in 0..4 {
            for (_, io) in back_ends() {
                let db = Db::open(options(dir.path(), &io)).unwrap();
                let table = db.snapshot().unwrap().table("t").unwrap().unwrap_or_else(|| create_kv(&db, "t"));
                assert!(all(&db, &table) == ints(&expect));
                let from = expect.len() as i64;
                let rows: Vec<_> = (from..from + 1500).map(|k| (k, k * round)).collect();
                for rows in rows.chunks(100) {
                    put(&db, &table, &ints(rows));
                }
                expect.extend(rows);
                if round % 2 == 0 {
                    db.compact(None).unwrap();
                }
                assert!(all(&db, &table) == ints(&expect));
                assert_eq!(value_of(&db, &table, from + 7), Some((from + 7) * round));
                if round < 3 {
                    db.close().unwrap();
                }
            }
        }
    }
}

/// Commits for ever; a line for each acknowledged commit.
#[test]
#[ignore = "run, and killed, by acknowledged_commits_survive_kills_through_every_back_end"]
fn a_writer_that_is_killed() {
    let dir = std::env::var_os("OMENDB_TEST_DIR").unwrap();
    let db = Db::open(Options { dir: Some(dir.into()), ..small() }).unwrap();
    let table = db.snapshot().unwrap().table("t").unwrap().unwrap_or_else(|| create_kv(&db, "t"));
    let from = all(&db, &table).len() as i64 / ROWS;
    for commit in from.. {
        let rows: Vec<_> = (0..ROWS).map(|row| (commit * ROWS + row, commit)).collect();
        put(&db, &table, &ints(&rows));
        println!("acknowledged {commit}");
        std::io::stdout().flush().unwrap();
    }
}

fn start_writer(dir: &Path, back_end: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "files::a_writer_that_is_killed", "--ignored", "--nocapture"])
        .env("OMENDB_TEST_DIR", dir)
        .env("OMENDB_IO", back_end)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn acknowledged_commits_survive_kills_through_every_back_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random(8);
    for round in 0..3 {
        for (name, io) in back_ends() {
            let commits = 20 + random.below(150);
            let mut writer = start_writer(dir.path(), name);
            let lines = BufReader::new(writer.stdout.take().unwrap()).lines().map_while(Result::ok);
            let mut acknowledged = None;
            // What it said before it was killed counts too.
            for (seen, line) in lines.filter(|line| line.starts_with("acknowledged ")).enumerate() {
                acknowledged = line.split(' ').nth(1).and_then(|number| number.parse::<i64>().ok());
                if seen as u64 == commits {
                    writer.kill().unwrap();
                }
            }
            writer.wait().unwrap();
            let acknowledged = acknowledged.unwrap() + 1;

            let db = Db::open(options(dir.path(), &io)).unwrap();
            let table = db.snapshot().unwrap().table("t").unwrap().unwrap();
            let rows = all(&db, &table);
            let what = format!("round {round}, {name}: {acknowledged} commits acknowledged, {} rows", rows.len());
            let commits = rows.len() as i64 / ROWS;
            assert_eq!(rows.len() as i64 % ROWS, 0, "{what}");
            assert!((acknowledged..=acknowledged + 1).contains(&commits), "{what}");
            let right = |(at, row): (usize, &Vec<Value>)| *row == [Value::Int(at as i64), Value::Int(at as i64 / ROWS)];
            assert!(rows.iter().enumerate().all(right), "{what}");
        }
    }
}
