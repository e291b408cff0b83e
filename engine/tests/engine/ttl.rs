/*!
Rows that expire: who sees them no more, what can be put in their place, how they leave the files, and what a clock that goes back
can and cannot bring again.
*/

use crate::support::*;
use omendb_engine::ErrorKind;
use omendb_engine::db::{Db, Expectation, OnConflict, Options, Row, ScanRequest, Snapshot, WriteKind};
use omendb_engine::io::sim::SimDisk;
use omendb_engine::types::{ColumnType, NewTable, NewTtl, TableDef, Value};
use std::sync::Arc;

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;

/// A disk whose clock the tests move, and a database without background work on it.
struct World {
    disk: SimDisk,
    db: Db,
}

impl World {
    fn new() -> World {
        let disk = SimDisk::new(11);
        let db = open(&disk);
        World { disk, db }
    }

    fn now(&self) -> i64 {
        self.disk.io().unix_micros()
    }

    fn reopen(&mut self) {
        let other = Db::open(Options { background: false, ..small() }).unwrap();
        std::mem::replace(&mut self.db, other).close().unwrap();
        self.db = open(&self.disk);
    }
}

fn open(disk: &SimDisk) -> Db {
    Db::open(Options { dir: Some("/ttl".into()), io: Some(disk.io()), background: false, ..small() }).unwrap()
}

fn ttl(micros: i64) -> Option<NewTtl> {
    Some(NewTtl { column: "at".to_owned(), micros })
}

/// Key k, a moment, and a value; rows live for an hour.
fn expiring(db: &Db, name: &str, ty: ColumnType, key: &[&str]) -> Arc<TableDef> {
    let columns = [("k", ColumnType::Int64), ("at", ty), ("v", ColumnType::Int64)];
    let mut txn = db.begin().unwrap();
    let table = txn.create_table(NewTable { ttl: ttl(HOUR), ..new_table(name, &columns, key) }).unwrap();
    txn.commit().unwrap();
    table
}

fn row(k: i64, at: i64, v: i64) -> Vec<Value> {
    vec![Value::Int(k), Value::Int(at), Value::Int(v)]
}

/// What every way of reading says of the values of keys from 0 on; they must agree.
fn values(snapshot: &Snapshot, table: &TableDef, keys: i64) -> Vec<Option<i64>> {
    let columns = table.column_ids();
    let int = |value: &Value| match value {
        Value::Int(value) => *value,
        other => panic!("{other:?} is no integer"),
    };
    let of_scan = |reverse: bool, places: &[usize]| {
        let projection = places.iter().map(|place| columns[*place]).collect();
        let mut rows = scan(snapshot, table, ScanRequest { projection, reverse, ..ScanRequest::default() });
        if reverse {
            rows.reverse();
        }
        rows
    };
    let rows = of_scan(false, &[0, 2]);
    assert_eq!(rows, of_scan(true, &[0, 2]));
    assert_eq!(of_scan(false, &[2, 1, 0]).len(), rows.len());
    let counted: usize =
        snapshot.scan(table, ScanRequest::default()).unwrap().map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(counted, rows.len());
    let seen: Vec<(i64, i64)> = rows.iter().map(|row| (int(&row[0]), int(&row[1]))).collect();
    let wanted: Vec<_> = (0..keys).map(|k| key(table, &[Value::Int(k)])).collect();
    let (found, which) = snapshot.multi_get(table, &wanted, &columns[2..]).unwrap();
    assert_eq!((found.num_rows(), found.num_columns()), (which.len(), 1));
    assert_eq!(
        which.iter().map(|k| i64::from(*k)).collect::<Vec<_>>(),
        seen.iter().map(|row| row.0).collect::<Vec<_>>()
    );
    let get = |k: &i64| {
        let mut row = Row::default();
        let there = snapshot.get(table, &wanted[*k as usize], &columns[2..], &mut row).unwrap();
        there.then(|| {
            assert_eq!(row.values.len(), 1);
            int(&row.values[0])
        })
    };
    let values: Vec<Option<i64>> = (0..keys).collect::<Vec<_>>().iter().map(get).collect();
    assert_eq!(values.iter().flatten().count(), seen.len());
    seen.iter().for_each(|(k, v)| assert_eq!(values[*k as usize], Some(*v)));
    values
}

fn now_values(world: &World, table: &TableDef, keys: i64) -> Vec<Option<i64>> {
    values(&world.db.snapshot().unwrap(), table, keys)
}

fn load(db: &Db, table: &TableDef, rows: &[Vec<Value>], on_conflict: OnConflict) -> omendb_engine::Result<u64> {
    let mut txn = db.begin()?;
    let mut ingest = txn.ingest(table, on_conflict, 1 << 20)?;
    ingest.write(&table.column_ids(), &batch(table, &table.column_ids(), rows))?;
    let report = ingest.finish()?;
    txn.commit()?;
    Ok(report.rows_stored)
}

#[test]
fn an_expired_newest_version_never_brings_an_older_one_back() {
    let mut world = World::new();
    let table = expiring(&world.db, "t", ColumnType::TimestampTz, &["k"]);
    let now = world.now();
    // Older versions that live for long, in the last level, an upper run and the memtable; over each a version that ends soon.
    let (long, soon) = (now + 30 * DAY, now - HOUR / 2);
    put(&world.db, &table, &(0..6).map(|k| row(k, long, k)).collect::<Vec<_>>());
    world.db.compact(None).unwrap();
    put(&world.db, &table, &[row(0, soon, 100), row(3, long, 103)]);
    world.db.flush().unwrap();
    put(&world.db, &table, &[row(1, soon, 101), row(3, soon, 203)]);
    world.db.flush().unwrap();
    put(&world.db, &table, &[row(2, soon, 102)]);
    assert_eq!(now_values(&world, &table, 6), [100, 101, 102, 203, 4, 5].map(Some));
    let left = [None, None, None, None, Some(4), Some(5)];
    world.disk.jump_clock(HOUR);
    for step in 0..4 {
        assert_eq!(now_values(&world, &table, 6), left, "step {step}");
        match step {
            0 => world.db.flush().unwrap(),
            1 => world.db.compact(None).unwrap(),
            _ => world.reopen(),
        }
    }
    // Neither an earlier clock nor a longer life brings anything of them again.
    world.disk.jump_clock(-2 * HOUR);
    world.reopen();
    assert_eq!(now_values(&world, &table, 6), left);
    let mut txn = world.db.begin().unwrap();
    txn.set_ttl(table.id, None).unwrap();
    txn.commit().unwrap();
    assert_eq!(now_values(&world, &table, 6), left);
    assert_eq!(world.db.check().unwrap().problems, []);
}

#[test]
fn a_row_without_a_moment_stays_and_one_at_the_cutoff_too() {
    let world = World::new();
    let table = expiring(&world.db, "t", ColumnType::Timestamp, &["k"]);
    let now = world.now();
    let rows = [
        vec![Value::Int(0), Value::Null, Value::Int(0)],
        row(1, now - HOUR + 60_000_000, 1),
        row(2, now - 2 * HOUR, 2),
    ];
    put(&world.db, &table, &rows);
    for step in 0..3 {
        assert_eq!(now_values(&world, &table, 3), [Some(0), Some(1), None], "step {step}");
        if step == 0 { world.db.flush().unwrap() } else { world.db.compact(None).unwrap() }
    }
    world.disk.jump_clock(1000 * DAY);
    world.db.compact(None).unwrap();
    assert_eq!(now_values(&world, &table, 3), [Some(0), None, None]);
    assert_eq!(world.db.table_stats(&table).unwrap().rows, 1);
}

#[test]
fn a_date_stands_for_its_first_moment() {
    let world = World::new();
    let table = expiring(&world.db, "t", ColumnType::Date, &["k"]);
    // The simulated clock begins at midnight.
    let today = world.now() / DAY;
    put(&world.db, &table, &[row(0, today - 1, 0), row(1, today, 1), row(2, today + 1, 2)]);
    assert_eq!(now_values(&world, &table, 3), [None, Some(1), Some(2)]);
    world.disk.jump_clock(HOUR);
    world.db.compact(None).unwrap();
    assert_eq!(now_values(&world, &table, 3), [None, None, Some(2)]);
}

#[test]
fn a_snapshot_has_one_clock_and_time_never_goes_back() {
    let world = World::new();
    let table = expiring(&world.db, "t", ColumnType::TimestampTz, &["k"]);
    put(&world.db, &table, &[row(0, world.now(), 0)]);
    let before = world.db.snapshot().unwrap();
    let txn = world.db.begin().unwrap();
    world.disk.jump_clock(2 * HOUR);
    let after = world.db.snapshot().unwrap();
    world.disk.jump_clock(-2 * HOUR);
    world.db.compact(None).unwrap();
    for (snapshot, there) in
        [(&before, Some(0)), (&txn.snapshot(), Some(0)), (&after, None), (&world.db.snapshot().unwrap(), None)]
    {
        assert_eq!(values(snapshot, &table, 1), [there]);
    }
    // A row of that time has expired as soon as it is written.
    put(&world.db, &table, &[row(0, world.now(), 1)]);
    assert_eq!(now_values(&world, &table, 1), [None]);
}

#[test]
fn an_earlier_clock_after_reopening_shows_rows_that_are_there_whole() {
    let mut world = World::new();
    let table = expiring(&world.db, "t", ColumnType::TimestampTz, &["k"]);
    put(&world.db, &table, &[row(0, world.now() + 90 * DAY, 0), row(1, world.now(), 1)]);
    put(&world.db, &table, &[row(0, world.now(), 2)]);
    world.disk.jump_clock(2 * HOUR);
    assert_eq!(now_values(&world, &table, 2), [None, None]);
    world.disk.jump_clock(-2 * HOUR);
    world.reopen();
    // Nothing has removed them yet, and this process has not seen that time.
    assert_eq!(now_values(&world, &table, 2), [Some(2), Some(1)]);
}

#[test]
fn an_expired_row_is_in_nobodys_way_and_cannot_be_changed() {
    // Buffered, and staged.
    for buffered in [true, false] {
        let world = World::new();
        let table = expiring(&world.db, "t", ColumnType::TimestampTz, &["k"]);
        let old = world.now();
        let many = if buffered { 4 } else { 20_000 };
        put(&world.db, &table, &(0..many).map(|k| row(k, old, k)).collect::<Vec<_>>());
        let seqs: Vec<_> = (0..many).map(|_| world.db.snapshot().unwrap().seq()).collect();
        world.disk.jump_clock(2 * HOUR);
        let fresh: Vec<_> = (0..many).map(|k| row(k, world.now(), k + 1)).collect();
        let error = try_put(&world.db, &table, &fresh, Expectation::Unchanged(&seqs)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WriteConflict);
        try_put(&world.db, &table, &fresh, Expectation::Absent).unwrap();
        assert_eq!(now_values(&world, &table, many)[..4], [1, 2, 3, 4].map(Some));
        let error = try_put(&world.db, &table, &fresh, Expectation::Absent).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DuplicateKey);
        assert_eq!(error.row().map(|row| row.table), Some(table.id));
    }
}

#[test]
fn a_load_meets_no_expired_row() {
    for on_conflict in [OnConflict::Error, OnConflict::Skip, OnConflict::Replace] {
        let world = World::new();
        let table = expiring(&world.db, "t", ColumnType::TimestampTz, &["k"]);
        put(&world.db, &table, &(0..100).map(|k| row(k, world.now(), k)).collect::<Vec<_>>());
        world.db.flush().unwrap();
        world.disk.jump_clock(2 * HOUR);
        let rows: Vec<_> = (0..100).map(|k| row(k, world.now(), k + 1)).collect();
        assert_eq!(load(&world.db, &table, &rows, on_conflict).unwrap(), 100);
        assert_eq!(now_values(&world, &table, 100)[..3], [1, 2, 3].map(Some));
    }
}

#[test]
fn a_transaction_reads_its_own_rows_by_its_clock() {
    let world = World::new();
    let table = expiring(&world.db, "t", ColumnType::TimestampTz, &["k"]);
    put(&world.db, &table, &[row(0, world.now(), 0), row(1, world.now(), 1)]);
    let mut txn = world.db.begin().unwrap();
    let columns = table.column_ids();
    let rows = [row(0, world.now() - 2 * HOUR, 10), row(2, world.now(), 12)];
    txn.write(&table, WriteKind::Put, &columns, &batch(&table, &columns, &rows), Expectation::None).unwrap();
    let seen = [None, Some(1), Some(12)];
    assert_eq!(values(&txn.snapshot(), &table, 3), seen);
    txn.commit().unwrap();
    assert_eq!(now_values(&world, &table, 3), seen);
}

#[test]
fn runs_go_unread_once_all_their_rows_have_expired() {
    let mut world = World::new();
    // By a column of the key, and by another one.
    for (name, key) in [("in", &["at", "k"][..]), ("beside", &["k"])] {
        let table = expiring(&world.db, name, ColumnType::TimestampTz, key);
        let start = world.now();
        for hour in 0..3 {
            let rows: Vec<_> = (0..500).map(|k| row(hour * 500 + k, start + hour * HOUR, k)).collect();
            load(&world.db, &table, &rows, OnConflict::Error).unwrap();
        }
        let runs = |world: &World| world.db.table_stats(&table).unwrap().runs;
        assert_eq!(runs(&world), 3);
        for left in (0..3).rev() {
            world.disk.jump_clock(HOUR + HOUR / 10);
            let before = world.db.stats().unwrap();
            world.db.compact(Some(table.id)).unwrap();
            let after = world.db.stats().unwrap();
            assert_eq!(runs(&world), left, "{name}");
            assert_eq!(after.expired_runs - before.expired_runs, 1, "{name}");
            assert_eq!(after.expired_rows - before.expired_rows, 500, "{name}");
            assert_eq!((after.bytes_merged, after.debt_bytes), (before.bytes_merged, 0), "{name}");
        }
        world.reopen();
        assert_eq!(all(&world.db, &table), Vec::<Vec<Value>>::new());
    }
    assert_eq!(world.db.check().unwrap().problems, []);
}

#[test]
fn slices_that_have_expired_are_not_read() {
    let world = World::new();
    let table = expiring(&world.db, "t", ColumnType::TimestampTz, &["k"]);
    let rows: Vec<_> = (0..20_000).map(|k| row(k, world.now() + k * 1_000_000, k)).collect();
    load(&world.db, &table, &rows, OnConflict::Error).unwrap();
    let read = |snapshot: &Snapshot| {
        let mut scan = snapshot.scan(&table, ScanRequest::default()).unwrap();
        let rows: usize = scan.by_ref().map(|batch| batch.unwrap().num_rows()).sum();
        (rows, scan.metrics())
    };
    let (rows, whole) = read(&world.db.snapshot().unwrap());
    assert_eq!((rows, whole.slices_pruned, whole.rows_expired), (20_000, 0, 0));
    world.disk.jump_clock(HOUR + 10_000_000_000);
    let (rows, half) = read(&world.db.snapshot().unwrap());
    assert!((9_990..=10_000).contains(&rows), "{rows}");
    assert!(half.slices_pruned > 0 && half.slices_read < whole.slices_read);
    assert!(half.rows_expired < 1024);
    assert_eq!(rows as u64 + half.rows_expired + half.rows_pruned, 20_000);
}

#[test]
fn what_is_said_of_expiry_lasts_and_can_be_changed() {
    let mut world = World::new();
    let table = expiring(&world.db, "t", ColumnType::TimestampTz, &["k"]);
    put(&world.db, &table, &[row(0, world.now() - 2 * HOUR, 0), row(1, world.now(), 1)]);
    assert_eq!(now_values(&world, &table, 2), [None, Some(1)]);
    for (micros, seen) in
        [(Some(3 * HOUR), [Some(0), Some(1)]), (Some(HOUR), [None, Some(1)]), (None, [Some(0), Some(1)])]
    {
        let mut txn = world.db.begin().unwrap();
        txn.set_ttl(table.id, micros.and_then(ttl)).unwrap();
        assert_eq!(values(&txn.snapshot(), &table, 2), seen);
        txn.commit().unwrap();
        for _ in 0..2 {
            assert_eq!(now_values(&world, &table, 2), seen);
            world.reopen();
        }
        let now = world.db.snapshot().unwrap().table("t").unwrap().unwrap();
        assert_eq!(now.ttl.map(|ttl| ttl.micros), micros);
    }
    let mut txn = world.db.begin().unwrap();
    let wrong = |column: &str, micros| Some(NewTtl { column: column.to_owned(), micros });
    assert_eq!(txn.set_ttl(table.id, wrong("v", 1)).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(txn.set_ttl(table.id, wrong("at", 0)).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(txn.set_ttl(table.id, wrong("w", 1)).unwrap_err().kind(), ErrorKind::NoSuchColumn);
}

#[test]
fn who_wrote_by_another_expiry_begins_anew() {
    let world = World::new();
    let table = expiring(&world.db, "t", ColumnType::TimestampTz, &["k"]);
    put(&world.db, &table, &[row(0, world.now() - 2 * HOUR, 0)]);
    let columns = table.column_ids();
    let mut insert = world.db.begin().unwrap();
    let rows = batch(&table, &columns, &[row(0, world.now(), 1)]);
    insert.write(&table, WriteKind::Put, &columns, &rows, Expectation::Absent).unwrap();
    // The row is there again.
    let mut alter = world.db.begin().unwrap();
    alter.set_ttl(table.id, ttl(DAY)).unwrap();
    alter.commit().unwrap();
    assert_eq!(insert.commit().unwrap_err().kind(), ErrorKind::WriteConflict);
    assert_eq!(now_values(&world, &table, 1), [Some(0)]);
}

#[test]
fn a_table_that_is_emptied_keeps_its_expiry() {
    let world = World::new();
    let table = expiring(&world.db, "t", ColumnType::TimestampTz, &["k"]);
    let mut txn = world.db.begin().unwrap();
    let emptied = txn.truncate(table.id).unwrap();
    txn.commit().unwrap();
    put(&world.db, &emptied, &[row(0, world.now() - 2 * HOUR, 0), row(1, world.now(), 1)]);
    assert_eq!(now_values(&world, &emptied, 2), [None, Some(1)]);
}
