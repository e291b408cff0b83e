/*!
Reader processes beside a writer: what a lease keeps, and for how long.
*/

use crate::support::*;
use omendb_engine::ErrorKind;
use omendb_engine::db::{Db, Options, check_directory};
use omendb_engine::io::{self, IoRef};
use omendb_engine::types::{TableDef, Value};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

const DIR: &str = "/leased";

fn options(io: &IoRef) -> Options {
    Options { dir: Some(DIR.into()), io: Some(Arc::clone(io)), background: false, ..small() }
}

fn reading(options: &Options) -> Options {
    Options { read_only: true, ..options.clone() }
}

fn named(io: &IoRef, dir: &Path, prefix: &str) -> Vec<String> {
    io.names(dir).unwrap().into_iter().filter(|name| name.starts_with(prefix)).collect()
}

fn runs(io: &IoRef) -> Vec<String> {
    named(io, DIR.as_ref(), "run-")
}

fn leases(io: &IoRef, dir: &Path) -> usize {
    io.names(&dir.join("leases")).unwrap().len()
}

/// Rows of key and value in several runs; the last few in the log alone.
fn fill(db: &Db, table: &TableDef, value: i64) -> Vec<Vec<Value>> {
    let rows: Vec<_> = (0..2000).map(|k| (k, value)).collect();
    for (number, chunk) in rows.chunks(400).enumerate() {
        put(db, table, &ints(chunk));
        if number < 4 {
            db.flush().unwrap();
        }
    }
    ints(&rows)
}

#[test]
fn a_reader_reads_on_while_the_writer_merges_and_drops_everything() {
    let io = io::memory();
    let db = Db::open(options(&io)).unwrap();
    let (t, other) = (create_kv(&db, "t"), create_kv(&db, "other"));
    let (rows, others) = (fill(&db, &t, 1), fill(&db, &other, 2));
    let reader = Db::open(reading(&options(&io))).unwrap();
    let there = runs(&io);
    // Nothing of `other` has been read when its files would go.
    assert_eq!(all(&reader, &t), rows);
    fill(&db, &t, 3);
    db.compact(None).unwrap();
    let mut txn = db.begin().unwrap();
    txn.drop_table(t.id).unwrap();
    txn.drop_table(other.id).unwrap();
    txn.commit().unwrap();
    db.compact(None).unwrap();
    let now = runs(&io);
    assert!(there.iter().all(|run| now.contains(run)), "{there:?} were there, {now:?} are");
    assert_eq!(all(&reader, &other), others);
    assert_eq!(all(&reader, &t), rows);
    // What is kept is no damage, to whoever looks.
    for report in [db.check().unwrap(), reader.check().unwrap(), check_directory(&io, DIR.as_ref()).unwrap()] {
        assert_eq!(report.problems, []);
        assert!(report.notes.iter().all(|note| !note.file.ends_with("leases")), "{report}");
    }
    // A snapshot holds the lease too.
    let snapshot = reader.snapshot().unwrap();
    reader.close().unwrap();
    db.flush().unwrap();
    assert!(there.iter().all(|run| runs(&io).contains(run)));
    assert_eq!(snapshot.table("other").unwrap().map(|table| table.id), Some(other.id));
    drop(snapshot);
    assert_eq!(leases(&io, DIR.as_ref()), 0);
    let u = create_kv(&db, "u");
    fill(&db, &u, 5);
    db.compact(None).unwrap();
    assert!(there.iter().all(|run| !runs(&io).contains(run)), "what waited goes with the next that goes");
    db.close().unwrap();
    assert_eq!(check_directory(&io, DIR.as_ref()).unwrap().notes.len(), 0);
}

#[test]
fn every_reader_has_its_own_state() {
    let io = io::memory();
    let db = Db::open(options(&io)).unwrap();
    let t = create_kv(&db, "t");
    let mut readers = Vec::new();
    for value in 0..5 {
        fill(&db, &t, value);
        readers.push((Db::open(reading(&options(&io))).unwrap(), value));
        db.compact(None).unwrap();
    }
    assert_eq!(leases(&io, DIR.as_ref()), 5);
    for closed in [2, 0, 1] {
        readers.remove(closed);
        fill(&db, &t, 9);
        db.compact(None).unwrap();
        for (reader, value) in &readers {
            let expect: Vec<_> = (0..2000).map(|k| (k, *value)).collect();
            assert_eq!(all(reader, &t), ints(&expect));
        }
    }
    drop(readers);
    db.close().unwrap();
    let report = check_directory(&io, DIR.as_ref()).unwrap();
    assert_eq!((report.problems.len(), report.notes.len()), (0, 0), "{report}");
}

#[test]
fn a_writer_that_opens_leaves_what_a_reader_holds() {
    let io = io::memory();
    let db = Db::open(options(&io)).unwrap();
    let t = create_kv(&db, "t");
    let rows = fill(&db, &t, 1);
    let reader = Db::open(reading(&options(&io))).unwrap();
    let there = runs(&io);
    fill(&db, &t, 2);
    db.compact(None).unwrap();
    db.close().unwrap();
    for _ in 0..2 {
        let db = Db::open(options(&io)).unwrap();
        assert!(there.iter().all(|run| runs(&io).contains(run)));
        db.close().unwrap();
    }
    assert_eq!(all(&reader, &t), rows);
    drop(reader);
    drop(Db::open(options(&io)).unwrap());
    assert!(there.iter().all(|run| !runs(&io).contains(run)));
}

#[test]
fn the_log_of_a_readers_state_stays_and_what_comes_later_goes() {
    let io = io::memory();
    let log = |io: &IoRef| named(io, DIR.as_ref(), "wal-");
    let db = Db::open(Options { log_segment_bytes: 16 << 10, ..options(&io) }).unwrap();
    let t = create_kv(&db, "t");
    put(&db, &t, &ints(&[(1, 1)]));
    let reader = Db::open(reading(&options(&io))).unwrap();
    let there = log(&io);
    let mut most = 0;
    for value in 0..20 {
        fill(&db, &t, value);
        db.flush().unwrap();
        most = most.max(log(&io).len());
    }
    assert!(there.iter().all(|segment| log(&io).contains(segment)), "{there:?} were there, {:?} are", log(&io));
    assert!(most <= there.len() + 30, "{most} segments");
    // The manifest that it opened is there, too: a copy of what the lease keeps is a database.
    assert!(named(&io, DIR.as_ref(), "manifest-").len() >= 2);
    drop(reader);
    fill(&db, &t, 0);
    db.flush().unwrap();
    assert!(there.iter().all(|segment| !log(&io).contains(segment)));
}

/// A database of 40 loaded runs, in files.
fn forty_runs(path: &Path) -> (Db, Arc<TableDef>) {
    let db = Db::open(Options { dir: Some(path.to_owned()), background: false, ..small() }).unwrap();
    let t = create_kv(&db, "t");
    for k in 0..40 {
        load(&db, std::slice::from_ref(&t), &[(k * 2, k), (k * 2 + 1, k)]);
    }
    (db, t)
}

#[test]
#[cfg(target_os = "linux")]
fn a_reader_opens_a_run_when_it_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let (db, t) = forty_runs(&path);
    db.close().unwrap();
    let reader = Db::open(Options { read_only: true, ..Options::dir(&path) }).unwrap();
    assert_eq!(open_files(&path, "run-"), 0, "nothing was asked for");
    assert_eq!(open_files(&path, "leases/"), 1);
    assert_eq!(value_of(&reader, &t, 31), Some(15));
    assert_eq!(open_files(&path, "run-"), 1);
    assert_eq!(all(&reader, &t).len(), 80);
    assert_eq!(open_files(&path, "run-"), 40);
    drop(reader);
    assert_eq!(open_files(&path, ""), 0);
    assert_eq!(std::fs::read_dir(path.join("leases")).unwrap().count(), 0);
}

#[test]
#[cfg(target_os = "linux")]
fn where_a_lease_cannot_be_taken_the_files_are_held() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let (db, t) = forty_runs(&path);
    // As good as a directory that may not be written to, which stops no root.
    std::fs::write(path.join("leases"), "in the way").unwrap();
    db.close().unwrap();
    let reader = Db::open(Options { read_only: true, ..Options::dir(&path) }).unwrap();
    assert_eq!(open_files(&path, "run-"), 40);
    let db = Db::open(Options { dir: Some(path.clone()), background: false, ..small() }).unwrap();
    let mut txn = db.begin().unwrap();
    txn.drop_table(t.id).unwrap();
    txn.commit().unwrap();
    let left = std::fs::read_dir(&path).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().starts_with("run-")
    });
    assert!(left.count() < 40, "nobody keeps them");
    let expect: Vec<_> = (0..40).flat_map(|k| [(k * 2, k), (k * 2 + 1, k)]).collect();
    assert_eq!(all(&reader, &t), ints(&expect));
}

#[test]
fn a_full_disk_keeps_no_reader_out() {
    use io::sim::{Fault, FaultKind, Operation, SimDisk};
    for operation in [Operation::CreateDir, Operation::Open, Operation::Write, Operation::Length] {
        let disk = SimDisk::new(7);
        let io = disk.io();
        let db = Db::open(options(&io)).unwrap();
        let t = create_kv(&db, "t");
        let rows = fill(&db, &t, 1);
        disk.inject(Fault::new(FaultKind::DiskFull).on(operation).path_with("leases").sticky());
        let reader = Db::open(reading(&options(&io))).unwrap();
        assert_eq!(leases_if_any(&io), 0, "{operation:?}: a lease on everything would keep everything");
        fill(&db, &t, 2);
        db.compact(None).unwrap();
        assert_eq!(all(&reader, &t), rows, "{operation:?}");
    }
}

fn leases_if_any(io: &IoRef) -> usize {
    let dir = Path::new(DIR).join("leases");
    io.exists(&dir).unwrap().map_or(0, |_| io.names(&dir).unwrap().len())
}

/// Starts this test program once more, with one test in it.
fn start(test: &str, dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("OMENDB_TEST_DIR", dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The line of a started program that begins so.
fn line_of(lines: &mut impl Iterator<Item = String>, beginning: &str) -> String {
    lines.find(|line| line.starts_with(beginning)).unwrap_or_else(|| panic!("no line '{beginning}…'"))
}

fn lines_of(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok)
}

/// Opens for reading and waits; then reads everything, for each line that it is sent.
#[test]
#[ignore = "run, and killed, by a_readers_files_go_when_it_is_killed"]
fn a_reader_that_is_killed() {
    let dir = std::env::var_os("OMENDB_TEST_DIR").unwrap();
    let db = Db::open(Options { read_only: true, ..Options::dir(dir) }).unwrap();
    let table = db.snapshot().unwrap().table("t").unwrap().unwrap();
    println!("open");
    for _ in std::io::stdin().lines() {
        let rows = all(&db, &table);
        let sum: i64 = rows.iter().map(|row| if let Value::Int(v) = row[1] { v } else { 0 }).sum();
        println!("read {} {sum}", rows.len());
        std::io::stdout().flush().unwrap();
    }
}

#[test]
fn a_readers_files_go_when_it_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let platform = io::platform().unwrap();
    let db = Db::open(Options { dir: Some(path.clone()), background: false, ..small() }).unwrap();
    let t = create_kv(&db, "t");
    fill(&db, &t, 1);
    let mut reader = start("leases::a_reader_that_is_killed", &path);
    let mut lines = lines_of(&mut reader);
    line_of(&mut lines, "open");
    let there = named(&platform, &path, "run-");
    fill(&db, &t, 2);
    db.compact(None).unwrap();
    let is_there = |run: &String| path.join(run).exists();
    assert!(there.iter().all(is_there));
    writeln!(reader.stdin.as_ref().unwrap(), "read").unwrap();
    assert_eq!(line_of(&mut lines, "read"), "read 2000 2000");
    assert_eq!(leases(&platform, &path), 1);
    reader.kill().unwrap();
    reader.wait().unwrap();
    assert!(there.iter().any(is_there), "nothing happens by itself");
    put(&db, &t, &ints(&[(1, 3)]));
    db.compact(None).unwrap();
    assert!(!there.iter().any(is_there), "{there:?}: some are there still");
    assert_eq!(leases(&platform, &path), 0);
}

#[test]
fn readers_outlive_a_writer_that_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let platform = io::platform().unwrap();
    let mut writer = start("files::a_writer_that_is_killed", dir.path());
    let mut lines = lines_of(&mut writer);
    let mut readers = Vec::new();
    for _ in 0..4 {
        let mut acknowledged = 0;
        for _ in 0..60 {
            let line = line_of(&mut lines, "acknowledged ");
            acknowledged = line.rsplit(' ').next().unwrap().parse::<usize>().unwrap() + 1;
        }
        // Meanwhile it goes on, flushes and merges.
        let reader = Db::open(Options { read_only: true, ..Options::dir(dir.path()) }).unwrap();
        let table = reader.snapshot().unwrap().table("t").unwrap().unwrap();
        let rows = all(&reader, &table);
        assert!(
            rows.len() >= acknowledged * 40 && rows.len().is_multiple_of(40),
            "{} of {acknowledged} commits",
            rows.len()
        );
        readers.push((reader, rows));
    }
    writer.kill().unwrap();
    writer.wait().unwrap();
    assert_eq!(leases(&platform, dir.path()), 4);
    let db = Db::open(Options { dir: Some(dir.path().to_owned()), background: false, ..small() }).unwrap();
    let table = db.snapshot().unwrap().table("t").unwrap().unwrap();
    db.compact(None).unwrap();
    for (reader, rows) in &readers {
        assert_eq!(Db::open(Options::dir(dir.path())).unwrap_err().kind(), ErrorKind::Locked);
        assert!(all(reader, &table) == *rows);
    }
    drop(readers);
    put(&db, &table, &ints(&[(1, -1)]));
    db.compact(None).unwrap();
    db.close().unwrap();
    let report = check_directory(&platform, dir.path()).unwrap();
    assert_eq!((report.problems.len(), report.notes.len()), (0, 0), "{report}");
}
