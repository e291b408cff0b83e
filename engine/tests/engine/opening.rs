/*!
What a directory may be, and what opening says of it.
*/

use crate::support::*;
use omendb_engine::ErrorKind;
use omendb_engine::db::{Db, Expectation, Options, ScanRequest};
use std::path::Path;

fn kind(options: Options) -> ErrorKind {
    Db::open(options).unwrap_err().kind()
}

#[test]
fn other_directories_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("letter.txt"), "dear").unwrap();
    assert_eq!(kind(Options::dir(dir.path())), ErrorKind::NotADatabase);
    let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["letter.txt"]);
    assert_eq!(kind(Options::dir(dir.path().join("letter.txt"))), ErrorKind::NotADatabase);
    let absent = dir.path().join("absent");
    assert_eq!(kind(Options { create: false, ..Options::dir(&absent) }), ErrorKind::NotADatabase);
    assert_eq!(kind(Options { read_only: true, ..Options::dir(&absent) }), ErrorKind::NotADatabase);
    assert!(!absent.exists());
}

#[test]
fn a_newer_format_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    Db::open(Options::dir(&path)).unwrap().close().unwrap();
    let identity = path.join("OMENDB");
    let text = std::fs::read_to_string(&identity).unwrap();
    std::fs::write(&identity, text.replace("format 1", "format 9")).unwrap();
    let error = Db::open(Options::dir(&path)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NewerFormat);
    assert!(error.to_string().contains("format 9"), "{error}");
    std::fs::write(&identity, "not ours").unwrap();
    assert_eq!(kind(Options::dir(&path)), ErrorKind::NotADatabase);
}

#[test]
fn one_process_writes_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let db = Db::open(Options::dir(&path)).unwrap();
    let error = Db::open(Options::dir(&path)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    db.close().unwrap();
    Db::open(Options::dir(&path)).unwrap();
}

fn listing(path: &Path) -> Vec<(String, u64)> {
    let mut all: Vec<_> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len()))
        .collect();
    all.sort();
    all
}

#[test]
fn a_reader_sees_the_state_as_at_open_beside_a_writer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let db = Db::open(Options { dir: Some(path.clone()), ..small() }).unwrap();
    let t = create_kv(&db, "t");
    let rows: Vec<_> = ints(&(0..3000).map(|k| (k, k)).collect::<Vec<_>>());
    rows.chunks(100).for_each(|chunk| {
        put(&db, &t, chunk);
    });
    db.flush().unwrap();
    put(&db, &t, &ints(&[(5000, 1)]));
    let reader = Db::open(Options { read_only: true, ..Options::dir(&path) }).unwrap();
    assert!(reader.is_read_only());
    assert_eq!(try_put(&reader, &t, &ints(&[(1, 1)]), Expectation::None).unwrap_err().kind(), ErrorKind::ReadOnly);
    assert_eq!(reader.flush().unwrap_err().kind(), ErrorKind::ReadOnly);
    assert_eq!(all(&reader, &t).len(), 3001);
    // Runs that the writer removes stay readable here.
    for k in 0..3000 {
        if k % 3 == 0 {
            put(&db, &t, &ints(&[(k, -1)]));
        }
    }
    db.compact(None).unwrap();
    let mut expect = rows;
    expect.extend(ints(&[(5000, 1)]));
    assert_eq!(all(&reader, &t), expect);
    let request = ScanRequest { projection: t.column_ids(), reverse: true, limit: Some(1), ..ScanRequest::default() };
    assert_eq!(scan(&reader.snapshot().unwrap(), &t, request), ints(&[(5000, 1)]));
}

#[test]
fn a_reader_writes_nothing_but_its_lease() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let db = Db::open(Options { dir: Some(path.clone()), ..small() }).unwrap();
    let t = create_kv(&db, "t");
    put(&db, &t, &ints(&[(1, 1)]));
    db.flush().unwrap();
    put(&db, &t, &ints(&[(2, 2)]));
    db.close().unwrap();
    let before = listing(&path);
    let reader = Db::open(Options { read_only: true, ..Options::dir(&path) }).unwrap();
    assert_eq!(all(&reader, &t), ints(&[(1, 1), (2, 2)]));
    reader.close().unwrap();
    let after: Vec<_> = listing(&path).into_iter().filter(|(name, _)| name != "leases").collect();
    assert_eq!(after, before);
    assert_eq!(listing(&path.join("leases")), [], "its own lease, which is gone, lay there");
}

#[test]
fn what_a_crash_left_of_making_a_database_is_no_obstacle() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    Db::open(Options::dir(&path)).unwrap().close().unwrap();
    std::fs::rename(path.join("OMENDB"), path.join("OMENDB.new")).unwrap();
    let db = Db::open(Options::dir(&path)).unwrap();
    create_kv(&db, "t");
}

#[test]
fn orphans_are_removed_by_a_writer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    Db::open(Options::dir(&path)).unwrap().close().unwrap();
    std::fs::write(path.join("run-77.omen"), "half a run").unwrap();
    Db::open(Options { read_only: true, ..Options::dir(&path) }).unwrap();
    assert!(path.join("run-77.omen").exists());
    Db::open(Options::dir(&path)).unwrap();
    assert!(!path.join("run-77.omen").exists());
}

#[test]
fn a_database_that_lost_its_identity_file_is_not_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let db = Db::open(Options::dir(&path)).unwrap();
    let t = create_kv(&db, "t");
    put(&db, &t, &ints(&[(1, 1)]));
    db.close().unwrap();
    let identity = std::fs::read(path.join("OMENDB")).unwrap();
    std::fs::remove_file(path.join("OMENDB")).unwrap();
    let before = listing(&path);
    assert_eq!(kind(Options::dir(&path)), ErrorKind::NotADatabase);
    assert_eq!(listing(&path), before);
    std::fs::write(path.join("OMENDB"), identity).unwrap();
    assert_eq!(all(&Db::open(Options::dir(&path)).unwrap(), &t), ints(&[(1, 1)]));
}

fn is_run(name: &str) -> bool {
    name.starts_with("run-")
}

#[test]
fn opening_touches_no_run() {
    let dir = tempfile::tempdir().unwrap();
    let (path, aside) = (dir.path().join("db"), dir.path().join("aside"));
    std::fs::create_dir(&aside).unwrap();
    let options = Options { dir: Some(path.clone()), background: false, ..small() };
    let db = Db::open(options.clone()).unwrap();
    let t = create_kv(&db, "t");
    for k in 0..20 {
        load(&db, std::slice::from_ref(&t), &[(k * 2, k), (k * 2 + 1, k)]);
    }
    db.close().unwrap();
    let runs: Vec<_> = listing(&path).into_iter().filter(|(name, _)| is_run(name)).collect();
    assert_eq!(runs.len(), 20);
    let carry = |from: &Path, to: &Path| {
        runs.iter().for_each(|(name, _)| std::fs::rename(from.join(name), to.join(name)).unwrap());
    };
    carry(&path, &aside);
    let db = Db::open(options).unwrap();
    assert_eq!((db.stats().unwrap().runs, db.table_stats(&t).unwrap().rows), (20, 40));
    carry(&aside, &path);
    assert_eq!(all(&db, &t).len(), 40);
}

#[test]
#[cfg(target_os = "linux")]
fn a_limited_number_of_run_files_is_open_however_many_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let options = Options { background: false, ..Options::dir(&path) };
    let db = Db::open(options.clone()).unwrap();
    let tables: Vec<_> = (0..70).map(|number| create_kv(&db, &format!("t{number}"))).collect();
    for round in 0..10 {
        load(&db, &tables, &[(round * 2, round), (round * 2 + 1, round)]);
    }
    db.close().unwrap();
    for read_only in [false, true] {
        let db = Db::open(Options { read_only, ..options.clone() }).unwrap();
        let scans: Vec<_> = tables.iter().map(|table| (table, all(&db, table))).collect();
        assert!(scans.iter().all(|(_, rows)| rows.len() == 20));
        let open = open_files(&path, "run-");
        assert!((400..=omendb_engine::limits::RUN_FILES_MAX).contains(&open), "{open} of 700");
        assert!(scans.iter().all(|(table, rows)| all(&db, table) == *rows), "what was closed is opened again");
    }
}

/// How long it takes, which a test can't say: `cargo test -p omendb-engine --test engine -- --ignored --nocapture ten_thousand`,
/// with the directory's file system chosen by TMPDIR.
#[test]
#[ignore = "a measurement"]
fn how_long_a_database_of_ten_thousand_runs_takes_to_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let options = Options { background: false, ..Options::dir(&path) };
    let db = Db::open(options.clone()).unwrap();
    let tables: Vec<_> = (0..100).map(|number| create_kv(&db, &format!("t{number}"))).collect();
    for round in 0..100 {
        load(&db, &tables, &[(round * 2, round), (round * 2 + 1, round)]);
    }
    db.close().unwrap();
    assert_eq!(listing(&path).into_iter().filter(|(name, _)| is_run(name)).count(), 10_000);
    for _ in 0..5 {
        let began = std::time::Instant::now();
        let db = Db::open(options.clone()).unwrap();
        let opened = began.elapsed();
        assert_eq!(value_of(&db, &tables[7], 150), Some(75));
        println!("opened in {opened:?}, first row after {:?}", began.elapsed());
        db.close().unwrap();
    }
    let db = Db::open(options.clone()).unwrap();
    assert!(tables.iter().all(|table| all(&db, table).len() == 200));
    #[cfg(target_os = "linux")]
    println!("{} files are open when all were read", open_files(&path, ""));
    db.close().unwrap();
    for _ in 0..2 {
        let began = std::time::Instant::now();
        let reader = Db::open(Options { read_only: true, ..options.clone() }).unwrap();
        println!("opened for reading only in {:?}", began.elapsed());
        assert_eq!(value_of(&reader, &tables[7], 150), Some(75));
    }
}
