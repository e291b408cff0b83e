/*!
Deleted rows and old versions give their space back, and never come back themselves.
*/

use crate::support::*;
use omendb_engine::db::{Db, Options, ScanRequest};
use omendb_engine::io::memory;
use omendb_engine::io::sim::SimDisk;
use omendb_engine::run::{ColumnPredicate, CompareOp, Test};
use omendb_engine::types::{ColumnType, Value};
use omendb_engine::{ErrorKind, io};

#[test]
fn compaction_removes_tombstones_and_old_versions() {
    let db = Db::open(small()).unwrap();
    let t = create_kv(&db, "t");
    for round in 0..5 {
        let rows = ints(&(0..2000).map(|k| (k, k * 7919 % 1000 + round)).collect::<Vec<_>>());
        rows.chunks(200).for_each(|chunk| {
            put(&db, &t, chunk);
        });
    }
    db.flush().unwrap();
    let before = db.table_stats(&t).unwrap();
    delete(&db, &t, &(0..1990).map(|k| vec![Value::Int(k)]).collect::<Vec<_>>());
    db.compact(Some(t.id)).unwrap();
    let after = db.table_stats(&t).unwrap();
    assert_eq!((after.rows, after.rows_exact), (10, true));
    assert!(after.bytes_on_disk * 3 < before.bytes_on_disk, "{before:?} {after:?}");
    let runs = db.run_stats(&t).unwrap();
    assert!(runs.iter().all(|run| run.tombstones == 0 && run.level == 7));
    delete(&db, &t, &(1990..2000).map(|k| vec![Value::Int(k)]).collect::<Vec<_>>());
    db.compact(Some(t.id)).unwrap();
    assert_eq!(db.table_stats(&t).unwrap().runs, 0);
    assert!(all(&db, &t).is_empty());
}

/// Runs that begin with the same key are together more than one step's worth: the step may be cut before that key.
#[test]
fn rows_before_those_that_are_merged_stay() {
    let db = Db::open(Options { background: false, run_bytes: 4 << 10, ..small() }).unwrap();
    let t = create(&db, "t", &[("k", ColumnType::Int64), ("v", ColumnType::Text)], &["k"]);
    let mut random = Random(1);
    let mut text = |length: u64| Value::Text((0..length).map(|_| char::from(b'0' + random.below(64) as u8)).collect());
    let mut rows: Vec<Vec<Value>> = (0..40).map(|k| vec![Value::Int(k), text(8)]).collect();
    put(&db, &t, &rows);
    db.compact(None).unwrap();
    for _ in 0..4 {
        for row in &mut rows[20..23] {
            row[1] = text(1000);
        }
        put(&db, &t, &rows[20..23]);
        db.flush().unwrap();
    }
    db.compact(None).unwrap();
    assert_eq!(all(&db, &t), rows);
}

#[test]
fn files_go_with_their_runs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let db = Db::open(Options { dir: Some(path.clone()), ..small() }).unwrap();
    let t = create_kv(&db, "t");
    let u = create_kv(&db, "u");
    for k in 0..3000 {
        put(&db, if k % 3 == 0 { &u } else { &t }, &ints(&[(k * 37 % 1000, k)]));
    }
    let files = || {
        let names = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("run-")).count() as u64
    };
    let snapshot = db.snapshot().unwrap();
    db.compact(None).unwrap();
    let mut txn = db.begin().unwrap();
    txn.drop_table(u.id).unwrap();
    txn.commit().unwrap();
    let request = ScanRequest { projection: u.column_ids(), ..ScanRequest::default() };
    assert!(!scan(&snapshot, &u, request).is_empty(), "who reads a dropped table reads on");
    drop(snapshot);
    // A thread in the background removes them; closing leaves it none.
    let runs = db.stats().unwrap().runs;
    db.close().unwrap();
    assert_eq!(files(), runs);
}

/// The newest row of many asks each of its sources for one row, not for all that it could merge.
#[test]
fn a_limit_takes_few_rows_of_each_source() {
    let db = Db::open(Options { background: false, ..small() }).unwrap();
    let t = create_kv(&db, "t");
    let of_source = |source: i64| ints(&(0..900).map(|k| (k * 4 + source, source)).collect::<Vec<_>>());
    for source in 0..4 {
        put(&db, &t, &of_source(source));
        if source < 3 {
            db.flush().unwrap();
        }
    }
    assert!(db.stats().unwrap().runs >= 3);
    for (reverse, limit) in [(true, 1), (false, 1), (true, 10), (false, 100)] {
        let request = ScanRequest { projection: t.column_ids(), reverse, limit: Some(limit), ..ScanRequest::default() };
        let snapshot = db.snapshot().unwrap();
        let mut scan = snapshot.scan(&t, request).unwrap();
        let rows: usize = scan.by_ref().map(|batch| batch.unwrap().num_rows()).sum();
        assert_eq!(rows, limit);
        // Where a run ends, the next one is begun with.
        assert!(scan.metrics().rows <= 6 * limit as u64, "{limit}: {:?}", scan.metrics());
    }
}

/// A newer version that fails the predicate hides an older one that passes it, whatever zone maps say.
#[test]
fn pruning_never_brings_an_old_version_back() {
    let db = Db::open(small()).unwrap();
    let t = create_kv(&db, "t");
    let rows = |v: i64| ints(&(0..3000).map(|k| (k, v)).collect::<Vec<_>>());
    let check = |expect: usize| {
        let predicates =
            vec![ColumnPredicate { column: t.column_ids()[1], test: Test::Compare(CompareOp::Eq, Value::Int(1)) }];
        let request = ScanRequest { projection: t.column_ids(), predicates, ..ScanRequest::default() };
        let snapshot = db.snapshot().unwrap();
        let mut scan = snapshot.scan(&t, request.clone()).unwrap();
        while scan.next().is_some_and(|batch| batch.is_ok()) {}
        let metrics = scan.metrics();
        let rows = crate::support::scan(&snapshot, &t, request);
        assert_eq!(rows.iter().filter(|row| row[1] == Value::Int(1)).count(), expect);
        metrics
    };
    rows(1).chunks(500).for_each(|chunk| {
        put(&db, &t, chunk);
    });
    db.compact(None).unwrap();
    check(3000);
    rows(2).chunks(500).for_each(|chunk| {
        put(&db, &t, chunk);
    });
    db.flush().unwrap();
    check(0);
    delete(&db, &t, &(0..100).map(|k| vec![Value::Int(k)]).collect::<Vec<_>>());
    db.flush().unwrap();
    check(0);
    db.compact(None).unwrap();
    let metrics = check(0);
    assert!(metrics.slices_pruned > 0 && metrics.slices_read == 0, "{metrics:?}");
}

/// Waits for background work.
fn wait_until(what: &str, mut reached: impl FnMut() -> bool) {
    for _ in 0..20_000 {
        if reached() {
            return;
        }
        io::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("never: {what}");
}

#[test]
fn a_table_that_rests_does_not_keep_the_log() {
    let io = memory();
    let options = || Options {
        dir: Some("/db".into()),
        io: Some(io.clone()),
        memtable_bytes: 1 << 10,
        log_segment_bytes: 16 << 10,
        ..Options::memory()
    };
    let db = Db::open(options()).unwrap();
    let idle = create_kv(&db, "idle");
    let busy = create_kv(&db, "busy");
    put(&db, &idle, &ints(&[(1, 1)]));
    let kept = || db.stats().unwrap().log_bytes;
    let mut k = 0;
    wait_until("the log is short after 3,000 commits and more", || {
        k += 1;
        put(&db, &busy, &ints(&[(k, k)]));
        k > 3000 && kept() < 64 << 10
    });
    drop(db);
    let db = Db::open(options()).unwrap();
    assert_eq!(value_of(&db, &idle, 1), Some(1));
    assert_eq!(value_of(&db, &busy, k), Some(k));
}

#[test]
fn on_a_full_disk_a_table_can_be_dropped_and_writes_go_on() {
    let disk = SimDisk::new(3);
    let io = disk.io();
    let options =
        Options { dir: Some("/db".into()), io: Some(io.clone()), log_segment_bytes: 64 << 10, ..Options::memory() };
    let db = Db::open(options.clone()).unwrap();
    let (large, small) = (create_kv(&db, "large"), create_kv(&db, "small"));
    put(&db, &large, &ints(&(0..50_000_i64).map(|k| (k, k * 7_919_777_777_777 % 1_000_000_007)).collect::<Vec<_>>()));
    put(&db, &small, &ints(&[(0, 0)]));
    db.flush().unwrap();
    wait_until("there is a reserve", || io.exists("/db/RESERVE".as_ref()).unwrap().is_some());
    disk.limit_space(disk.used_space() + 5000);
    let mut k = 0;
    let refused = loop {
        k += 1;
        if let Err(error) = try_put(&db, &small, &ints(&[(k, k)]), omendb_engine::db::Expectation::None) {
            break error;
        }
    };
    assert_eq!(refused.kind(), ErrorKind::DiskFull, "{refused}");
    assert_eq!(value_of(&db, &small, k - 1), Some(k - 1), "reads go on");
    assert_eq!(value_of(&db, &small, k), None);

    let mut txn = db.begin().unwrap();
    txn.drop_table(large.id).unwrap();
    txn.commit().unwrap();
    put(&db, &small, &ints(&[(k, k)]));
    wait_until("there is a reserve again", || io.exists("/db/RESERVE".as_ref()).unwrap().is_some());
    db.close().unwrap();
    let db = Db::open(options).unwrap();
    assert_eq!(all(&db, &small).len(), usize::try_from(k + 1).unwrap());
}
