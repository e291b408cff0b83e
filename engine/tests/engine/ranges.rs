/*!
Deleted ranges of keys: what is seen of them, what they cost, whom they conflict with, and that they last for as long as there
is something to hide and no longer.
*/

use crate::support::*;
use omendb_engine::ErrorKind;
use omendb_engine::db::{Db, Expectation, OnConflict, Options, ScanRequest, Transaction, WriteKind, check_directory};
use omendb_engine::key::{Key, KeyRange};
use omendb_engine::types::{ColumnType, TableDef, Value};
use std::ops::Bound;
use std::path::Path;

/// Keys from `from` to `to`, without `to`.
fn range(table: &TableDef, from: i64, to: i64) -> KeyRange {
    let at = |k: i64| key(table, &[Value::Int(k)]);
    KeyRange { start: Bound::Included(at(from)), end: Bound::Excluded(at(to)) }
}

fn delete_range(db: &Db, table: &TableDef, from: i64, to: i64) {
    let mut txn = db.begin().unwrap();
    txn.delete_range(table, &range(table, from, to)).unwrap();
    txn.commit().unwrap();
}

fn write(txn: &mut Transaction, table: &TableDef, rows: &[(i64, i64)], expectation: Expectation<'_>) {
    txn.write(table, WriteKind::Put, &table.column_ids(), &batch(table, &table.column_ids(), &ints(rows)), expectation)
        .unwrap();
}

fn keys(db: &Db, table: &TableDef) -> Vec<i64> {
    let int = |row: Vec<Value>| match row[0] {
        Value::Int(k) => k,
        _ => panic!("not an integer"),
    };
    all(db, table).into_iter().map(int).collect()
}

fn fill(db: &Db, table: &TableDef, keys: std::ops::Range<i64>) {
    put(db, table, &ints(&keys.map(|k| (k, k)).collect::<Vec<_>>()));
}

fn load(db: &Db, table: &TableDef, keys: std::ops::Range<i64>) {
    let mut txn = db.begin().unwrap();
    let mut ingest = txn.ingest(table, OnConflict::Replace, 1 << 20).unwrap();
    // Values that nothing compresses.
    let mut random = Random(7);
    let rows: Vec<(i64, i64)> = keys.map(|k| (k, random.next() as i64)).collect();
    ingest.write(&table.column_ids(), &batch(table, &table.column_ids(), &ints(&rows))).unwrap();
    ingest.finish().unwrap();
    txn.commit().unwrap();
}

fn slices_read(db: &Db, table: &TableDef) -> u64 {
    let mut scan = db.snapshot().unwrap().scan(table, ScanRequest::default()).unwrap();
    while scan.next().is_some() {}
    scan.metrics().slices_read
}

/// Memory that outlives the database.
fn on(io: &omendb_engine::io::IoRef) -> Options {
    Options { dir: Some("/ranges".into()), io: Some(io.clone()), ..small() }
}

#[test]
fn a_deleted_range_is_gone_for_later_snapshots_only() {
    let db = Db::open(small()).unwrap();
    let table = create_kv(&db, "t");
    fill(&db, &table, 0..100);
    let before = db.snapshot().unwrap();
    delete_range(&db, &table, 20, 80);
    let left: Vec<i64> = (0..20).chain(80..100).collect();
    for step in 0..4 {
        assert_eq!(keys(&db, &table), left, "step {step}");
        assert_eq!(
            (value_of(&db, &table, 19), value_of(&db, &table, 20), value_of(&db, &table, 79)),
            (Some(19), None, None)
        );
        assert_eq!(scan(&before, &table, ScanRequest::default()).len(), 100, "step {step}");
        match step {
            0 => db.flush().unwrap(),
            1 => db.compact(None).unwrap(),
            _ => {}
        }
    }
    fill(&db, &table, 50..52);
    assert_eq!((value_of(&db, &table, 50), keys(&db, &table).len()), (Some(50), 42));
}

#[test]
fn a_deleted_range_lasts_through_every_way_of_reopening() {
    for flushed in 0..4 {
        let io = omendb_engine::io::memory();
        let db = Db::open(on(&io)).unwrap();
        let table = create_kv(&db, "t");
        fill(&db, &table, 0..50);
        if flushed > 0 {
            db.flush().unwrap();
        }
        delete_range(&db, &table, 10, 40);
        if flushed > 1 {
            db.flush().unwrap();
        }
        fill(&db, &table, 20..22);
        if flushed > 2 {
            db.flush().unwrap();
        }
        let expect: Vec<i64> = (0..10).chain(20..22).chain(40..50).collect();
        let mut db = db;
        for _ in 0..3 {
            assert_eq!(keys(&db, &table), expect, "{flushed} flushed");
            db.close().unwrap();
            let report = check_directory(&io, Path::new("/ranges")).unwrap();
            assert!(report.is_sound(), "{report:?}");
            db = Db::open(on(&io)).unwrap();
        }
        db.compact(None).unwrap();
        assert_eq!((keys(&db, &table), db.stats().unwrap().erased_ranges), (expect, 0));
    }
}

#[test]
fn a_scan_over_a_deleted_range_reads_nothing_and_whole_runs_go_unread() {
    let db = Db::open(Options { run_bytes: 8 << 10, background: false, ..small() }).unwrap();
    let table = create_kv(&db, "t");
    load(&db, &table, 0..40_000);
    let runs = db.table_stats(&table).unwrap().runs;
    assert!(runs > 1, "{runs} runs");
    delete_range(&db, &table, -5, 50_000);
    assert_eq!((keys(&db, &table).len(), slices_read(&db, &table)), (0, 0));
    let stats = db.table_stats(&table).unwrap();
    assert_eq!((stats.rows, stats.rows_exact, stats.erased_ranges), (0, false, 1));
    // The catalog's rows, too, are in runs then.
    db.flush().unwrap();
    let written = db.stats().unwrap().bytes_written;
    db.compact(Some(table.id)).unwrap();
    let stats = db.table_stats(&table).unwrap();
    assert_eq!((stats.runs, stats.erased_ranges, stats.rows_exact), (0, 0, true));
    assert_eq!(db.stats().unwrap().bytes_written, written, "nothing was written to get rid of it");
}

#[test]
fn merges_apply_a_range_to_what_is_older_alone() {
    let db = Db::open(Options { run_bytes: 8 << 10, background: false, ..small() }).unwrap();
    let table = create_kv(&db, "t");
    load(&db, &table, 0..5_000);
    delete_range(&db, &table, 1_000, 4_500);
    db.flush().unwrap();
    fill(&db, &table, 2_000..2_010);
    db.flush().unwrap();
    delete_range(&db, &table, 2_005, 2_100);
    load(&db, &table, 2_050..2_060);
    let expect: Vec<i64> = (0..1_000).chain(2_000..2_005).chain(2_050..2_060).chain(4_500..5_000).collect();
    assert_eq!(keys(&db, &table), expect);
    for _ in 0..2 {
        db.compact(None).unwrap();
        assert_eq!(keys(&db, &table), expect);
        assert_eq!(db.table_stats(&table).unwrap().erased_ranges, 0);
    }
    assert_eq!(db.table_stats(&table).unwrap().rows, expect.len() as u64);
}

#[test]
fn a_run_that_meets_only_a_range_is_moved_over_it_and_stays_visible() {
    let io = omendb_engine::io::memory();
    let db = Db::open(Options { background: false, ..on(&io) }).unwrap();
    let table = create_kv(&db, "t");
    load(&db, &table, 0..100);
    load(&db, &table, 200..300);
    delete_range(&db, &table, 50, 250);
    db.flush().unwrap();
    // Lies in the gap: nothing but the range is there.
    load(&db, &table, 150..160);
    let expect: Vec<i64> = (0..50).chain(150..160).chain(250..300).collect();
    db.compact(None).unwrap();
    assert_eq!(keys(&db, &table), expect);
    drop(db);
    let db = Db::open(on(&io)).unwrap();
    assert_eq!(keys(&db, &table), expect);
}

#[test]
fn a_transaction_sees_its_own_range_under_its_own_rows() {
    for rows in [3, 3_000] {
        let db = Db::open(small()).unwrap();
        let table = create_kv(&db, "t");
        fill(&db, &table, 0..10);
        let mut txn = db.begin().unwrap();
        let mine: Vec<(i64, i64)> = (5..5 + rows).map(|k| (k, -k)).collect();
        write(&mut txn, &table, &mine, Expectation::None);
        txn.delete_range(&table, &range(&table, 2, 7)).unwrap();
        let seen = |txn: &Transaction| {
            let request = ScanRequest { projection: table.column_ids(), ..ScanRequest::default() };
            scan(&txn.snapshot(), &table, request)
        };
        let rest: Vec<(i64, i64)> = (0..2).map(|k| (k, k)).chain((7..5 + rows).map(|k| (k, -k))).collect();
        let rest: Vec<(i64, i64)> = rest.into_iter().chain((5 + rows..10).map(|k| (k, k))).collect();
        assert_eq!(seen(&txn), ints(&rest), "{rows} rows");
        // What comes after the deletion stays; a deleted row may be put as a new one, once.
        write(&mut txn, &table, &[(3, 33)], Expectation::Absent);
        let mut expect = rest.clone();
        expect.push((3, 33));
        expect.sort_unstable();
        assert_eq!(seen(&txn), ints(&expect), "{rows} rows");
        assert!(all(&db, &table) == ints(&(0..10).map(|k| (k, k)).collect::<Vec<_>>()));
        txn.commit().unwrap();
        assert_eq!(all(&db, &table), ints(&expect), "{rows} rows");
        db.compact(None).unwrap();
        assert_eq!(all(&db, &table), ints(&expect), "{rows} rows");
    }
}

#[test]
fn two_new_rows_with_one_key_are_refused_after_a_deletion_too() {
    for rows in [0, 3_000] {
        let db = Db::open(small()).unwrap();
        let table = create_kv(&db, "t");
        fill(&db, &table, 0..10);
        let mut txn = db.begin().unwrap();
        txn.delete_range(&table, &range(&table, 0, 100)).unwrap();
        write(&mut txn, &table, &[(3, 1)], Expectation::Absent);
        let many: Vec<(i64, i64)> = (200..200 + rows).map(|k| (k, k)).collect();
        write(&mut txn, &table, &many, Expectation::None);
        let columns = table.column_ids();
        let again = batch(&table, &columns, &ints(&[(3, 2)]));
        let done = txn.write(&table, WriteKind::Put, &columns, &again, Expectation::Absent);
        let done = done.and_then(|()| txn.commit());
        assert_eq!(done.unwrap_err().kind(), ErrorKind::DuplicateKey, "{rows} rows");
    }
}

#[test]
fn whoever_read_a_row_that_a_range_took_conflicts() {
    let db = Db::open(small()).unwrap();
    let table = create_kv(&db, "t");
    let seq = put(&db, &table, &ints(&[(1, 1), (2, 2)]));
    let mut other = db.begin().unwrap();
    write(&mut other, &table, &[(1, 5)], Expectation::Unchanged(&[seq]));
    let mut blind = db.begin().unwrap();
    write(&mut blind, &table, &[(2, 6)], Expectation::Absent);
    delete_range(&db, &table, 0, 10);
    assert_eq!(other.commit().unwrap_err().kind(), ErrorKind::WriteConflict);
    blind.commit().unwrap();
    assert_eq!(all(&db, &table), ints(&[(2, 6)]));
    // And within the transaction that deleted it.
    let mut txn = db.begin().unwrap();
    txn.delete_range(&table, &range(&table, 0, 10)).unwrap();
    let columns = table.column_ids();
    let rows = batch(&table, &columns, &ints(&[(2, 7)]));
    let done = txn.write(&table, WriteKind::Put, &columns, &rows, Expectation::Unchanged(&[seq]));
    assert_eq!(done.unwrap_err().kind(), ErrorKind::WriteConflict);
}

#[test]
fn a_range_conflicts_with_whatever_was_committed_to_it_since() {
    for (flushed, large) in [(false, false), (true, false), (false, true), (true, true)] {
        let change: [fn(&Db, &TableDef); 4] = [
            |db, table| fill(db, table, 5..6),
            |db, table| fill(db, table, 7..8),
            |db, table| {
                delete(db, table, &[vec![Value::Int(5)]]);
            },
            |db, table| delete_range(db, table, 8, 20),
        ];
        for (number, change) in change.into_iter().enumerate() {
            let db = Db::open(Options { background: false, ..small() }).unwrap();
            let table = create_kv(&db, "t");
            load(&db, &table, 5..6);
            let mut txn = db.begin().unwrap();
            txn.delete_range(&table, &range(&table, 0, 10)).unwrap();
            if large {
                write(&mut txn, &table, &(100..3_000).map(|k| (k, k)).collect::<Vec<_>>(), Expectation::None);
            }
            change(&db, &table);
            // Beside the range anything may happen.
            put(&db, &table, &ints(&[(10, 1)]));
            if flushed && number != 3 {
                db.flush().unwrap();
            }
            let error = txn.commit().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WriteConflict, "change {number}, {flushed} {large}");
            let mut txn = db.begin().unwrap();
            txn.delete_range(&table, &range(&table, 0, 10)).unwrap();
            put(&db, &table, &ints(&[(10, 2)]));
            txn.commit().unwrap();
            assert_eq!(keys(&db, &table), [10]);
        }
    }
}

#[test]
fn a_large_transaction_publishes_its_ranges_with_its_runs() {
    let io = omendb_engine::io::memory();
    let db = Db::open(on(&io)).unwrap();
    let table = create_kv(&db, "t");
    fill(&db, &table, 0..2_000);
    let mut txn = db.begin().unwrap();
    txn.delete_range(&table, &range(&table, 100, 1_900)).unwrap();
    write(&mut txn, &table, &(500..4_500).map(|k| (k, -k)).collect::<Vec<_>>(), Expectation::Absent);
    let refused = txn.commit().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::DuplicateKey, "1900 is there still");
    let mut txn = db.begin().unwrap();
    txn.delete_range(&table, &range(&table, 100, 9_900)).unwrap();
    write(&mut txn, &table, &(500..4_500).map(|k| (k, -k)).collect::<Vec<_>>(), Expectation::Absent);
    txn.commit().unwrap();
    put(&db, &table, &ints(&[(200, 1)]));
    let expect: Vec<i64> = (0..100).chain(200..201).chain(500..4_500).collect();
    assert_eq!(keys(&db, &table), expect);
    drop(db);
    let db = Db::open(on(&io)).unwrap();
    assert_eq!(keys(&db, &table), expect);
    db.compact(None).unwrap();
    assert_eq!((keys(&db, &table), db.stats().unwrap().erased_ranges), (expect, 0));
}

#[test]
fn many_ranges_are_merged_away_in_the_background() {
    let db = Db::open(small()).unwrap();
    let table = create_kv(&db, "t");
    fill(&db, &table, 0..3_000);
    for round in 0..100 {
        delete_range(&db, &table, round * 30, round * 30 + 7);
        put(&db, &table, &ints(&[(round * 30 + 3, 1)]));
    }
    let expect: Vec<i64> = (0..3_000).filter(|k| k % 30 >= 7 || k % 30 == 3).collect();
    assert_eq!(keys(&db, &table), expect);
    db.compact(None).unwrap();
    assert_eq!((keys(&db, &table), db.stats().unwrap().erased_ranges), (expect, 0));
}

#[test]
fn ranges_of_tables_without_a_key_and_odd_ranges() {
    let db = Db::open(small()).unwrap();
    let hidden = create(&db, "h", &[("a", ColumnType::Int64)], &[]);
    let rows: Vec<Vec<Value>> = (0..10).map(|a| vec![Value::Int(a)]).collect();
    put(&db, &hidden, &rows);
    let mut txn = db.begin().unwrap();
    txn.write(
        &hidden,
        WriteKind::Put,
        &hidden.column_ids(),
        &batch(&hidden, &hidden.column_ids(), &rows),
        Expectation::None,
    )
    .unwrap();
    txn.delete_range(&hidden, &KeyRange::all()).unwrap();
    txn.commit().unwrap();
    assert!(all(&db, &hidden).is_empty());
    put(&db, &hidden, &rows);
    assert_eq!(all(&db, &hidden).len(), 10, "row ids are not used again");

    let table = create_kv(&db, "t");
    fill(&db, &table, 0..10);
    let mut txn = db.begin().unwrap();
    txn.delete_range(&table, &KeyRange::empty()).unwrap();
    txn.delete_range(&table, &range(&table, 5, 5)).unwrap();
    txn.commit().unwrap();
    assert_eq!(keys(&db, &table).len(), 10);
    let mut txn = db.begin().unwrap();
    let long = KeyRange { start: Bound::Included(Key::from(vec![0; 9_000])), end: Bound::Unbounded };
    assert_eq!(txn.delete_range(&table, &long).unwrap_err().kind(), ErrorKind::LimitExceeded);
    assert!(txn.commit().is_err());
    let mut txn = db.begin().unwrap();
    let more = (0..1_000).try_for_each(|k| txn.delete_range(&table, &range(&table, 10 * k, 10 * k + 1)));
    assert_eq!(more.unwrap_err().kind(), ErrorKind::LimitExceeded);
    // Ranges that meet are one.
    let mut txn = db.begin().unwrap();
    (0..1_000).for_each(|k| txn.delete_range(&table, &range(&table, k, k + 1)).unwrap());
    txn.commit().unwrap();
    assert!(keys(&db, &table).is_empty());
}
