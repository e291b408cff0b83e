/*!
Bulk loads: whole or absent, sorted, held against what is there.
*/

use crate::support::*;
use omendb_engine::ErrorKind;
use omendb_engine::Result;
use omendb_engine::db::{Db, Expectation, IngestReport, LoadRecord, OnConflict, Options, WriteKind};
use omendb_engine::types::{ColumnId, ColumnType, TableDef, Value};

fn load(
    db: &Db,
    table: &TableDef,
    rows: &[Vec<Value>],
    on_conflict: OnConflict,
    memory: usize,
) -> Result<IngestReport> {
    let columns = table.column_ids();
    let mut txn = db.begin()?;
    let mut ingest = txn.ingest(table, on_conflict, memory)?;
    for chunk in rows.chunks(1000) {
        ingest.write(&columns, &batch(table, &columns, chunk))?;
    }
    let report = ingest.finish()?;
    txn.commit()?;
    Ok(report)
}

/// Keys 0..n in a scattered order.
fn scattered(n: i64) -> Vec<Vec<Value>> {
    let step = 7_919; // coprime to n in these tests
    ints(&(0..n).map(|i| (i * step % n, i)).collect::<Vec<_>>())
}

fn sorted(mut rows: Vec<Vec<Value>>) -> Vec<Vec<Value>> {
    rows.sort_by_key(|row| match row[0] {
        Value::Int(k) => k,
        _ => 0,
    });
    rows
}

#[test]
fn rows_in_any_order_come_out_sorted() {
    for memory in [64 << 20, 1 << 20] {
        let db = Db::open(Options::memory()).unwrap();
        let t = create_kv(&db, "t");
        let rows = scattered(120_000);
        let report = load(&db, &t, &rows, OnConflict::Error, memory).unwrap();
        assert_eq!((report.rows_read, report.rows_stored), (120_000, 120_000));
        assert!(report.runs >= 1 && report.bytes_on_disk > 0);
        assert_eq!(all(&db, &t), sorted(rows));
        let stats = db.table_stats(&t).unwrap();
        assert_eq!((stats.rows, stats.rows_exact), (120_000, true));
        assert!(db.run_stats(&t).unwrap().iter().all(|run| run.level == 7), "a load into an empty table is in order");
    }
}

#[test]
fn loads_in_key_order_are_never_rewritten() {
    let db = Db::open(Options::memory()).unwrap();
    let t = create_kv(&db, "t");
    for part in 0..8 {
        let rows = ints(&(part * 3000..(part + 1) * 3000).map(|k| (k, k)).collect::<Vec<_>>());
        load(&db, &t, &rows, OnConflict::Error, 1 << 20).unwrap();
    }
    db.compact(None).unwrap();
    assert_eq!(db.run_stats(&t).unwrap().len(), 8);
    assert_eq!(all(&db, &t).len(), 24_000);
}

#[test]
fn a_key_that_is_there_fails_stays_or_is_replaced() {
    for (memory, settle) in [(64 << 20, true), (1 << 20, true), (64 << 20, false), (1 << 20, false)] {
        let db = Db::open(Options::memory()).unwrap();
        let t = create_kv(&db, "t");
        let there = ints(&[(500, -1), (70_001, -1), (200_000, -1)]);
        put(&db, &t, &there);
        delete(&db, &t, &[vec![Value::Int(70_001)]]);
        if settle {
            db.flush().unwrap();
        }
        let rows = scattered(80_000);
        let error = load(&db, &t, &rows, OnConflict::Error, memory).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DuplicateKey);
        assert_eq!(error.row().unwrap().key, key(&t, &[Value::Int(500)]).as_ref());
        assert_eq!(all(&db, &t).len(), 2, "a load that fails leaves nothing");

        let report = load(&db, &t, &rows, OnConflict::Skip, memory).unwrap();
        assert_eq!((report.rows_read, report.rows_stored, report.rows_skipped), (80_000, 79_999, 1));
        assert_eq!(value_of(&db, &t, 500), Some(-1));
        assert_eq!(all(&db, &t).len(), 80_001);

        let report = load(&db, &t, &rows[..5000], OnConflict::Replace, memory).unwrap();
        assert_eq!((report.rows_stored, report.rows_replaced), (5000, 5000));
        let replaced = rows[..5000].iter().all(|row| match row[..] {
            [Value::Int(k), Value::Int(v)] => value_of(&db, &t, k) == Some(v),
            _ => false,
        });
        assert!(replaced);
        assert_eq!(all(&db, &t).len(), 80_001);
        db.compact(None).unwrap();
        assert_eq!(all(&db, &t).len(), 80_001);
    }
}

#[test]
fn doubles_within_a_load_fail_or_the_first_or_the_last_counts() {
    let t_rows = |n: i64| {
        let mut rows = scattered(n);
        rows.extend(ints(&[(17, -1), (17, -2)]));
        rows
    };
    for (memory, n) in [(64 << 20, 50_000), (1 << 20, 50_000), (64 << 20, 100)] {
        let db = Db::open(Options::memory()).unwrap();
        let rows = t_rows(n);
        let first = rows.iter().find(|row| row[0] == Value::Int(17)).map(|row| row[1].clone()).unwrap();
        let t = create_kv(&db, "e");
        let error = load(&db, &t, &rows, OnConflict::Error, memory).unwrap_err();
        assert_eq!((error.kind(), error.row().unwrap().table), (ErrorKind::DuplicateKey, t.id));
        let t = create_kv(&db, "s");
        let report = load(&db, &t, &rows, OnConflict::Skip, memory).unwrap();
        assert_eq!((report.rows_stored, report.rows_skipped), (n as u64, 2));
        assert_eq!(get(&db, &t, &[Value::Int(17)]).unwrap().values[1], first);
        let t = create_kv(&db, "r");
        let report = load(&db, &t, &rows, OnConflict::Replace, memory).unwrap();
        assert_eq!((report.rows_stored, report.rows_replaced), (n as u64, 2));
        assert_eq!(value_of(&db, &t, 17), Some(-2));
    }
}

#[test]
fn a_table_is_made_and_loaded_in_one_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Db::open(Options::dir(dir.path().join("db"))).unwrap();
    let db = open();
    let mut txn = db.begin().unwrap();
    let t = txn.create_table(new_table("t", &[("a", ColumnType::Text), ("b", ColumnType::Int64)], &[])).unwrap();
    let columns = t.column_ids();
    let rows: Vec<Vec<Value>> = (0..5000).map(|i| vec![Value::Text(format!("r{i}")), Value::Int(i)]).collect();
    let mut ingest = txn.ingest(&t, OnConflict::Error, 64 << 20).unwrap();
    ingest.write(&columns, &batch(&t, &columns, &rows)).unwrap();
    ingest.finish().unwrap();
    let record = LoadRecord {
        content_hash: [7; 32],
        source: "file.csv".to_owned(),
        options: "header".to_owned(),
        rows: 5000,
        unix_micros: 1,
    };
    txn.record_load(&t, record.clone()).unwrap();
    assert!(db.snapshot().unwrap().table("t").unwrap().is_none());
    txn.commit().unwrap();
    assert_eq!(all(&db, &t), rows);
    // Row ids go on behind those of the load, also after reopening.
    put(&db, &t, &[vec![Value::Text("late".to_owned()), Value::Int(-1)]]);
    db.close().unwrap();
    let db = open();
    let t = db.snapshot().unwrap().table("t").unwrap().unwrap();
    assert_eq!(db.loads(&t).unwrap(), vec![record]);
    put(&db, &t, &[vec![Value::Text("later".to_owned()), Value::Int(-2)]]);
    let got = all(&db, &t);
    assert_eq!(got.len(), 5002);
    assert_eq!(got[5000][1], Value::Int(-1));
    assert_eq!(got[5001][1], Value::Int(-2));
}

#[test]
fn a_load_without_rows_is_a_load() {
    let db = Db::open(Options::memory()).unwrap();
    let t = create_kv(&db, "t");
    let columns = t.column_ids();
    assert_eq!(load(&db, &t, &[], OnConflict::Error, 1 << 20).unwrap(), IngestReport::default());
    let mut txn = db.begin().unwrap();
    txn.ingest(&t, OnConflict::Error, 1 << 20).unwrap().finish().unwrap();
    let again = txn.ingest(&t, OnConflict::Error, 1 << 20).map(drop);
    assert_eq!(again.unwrap_err().kind(), ErrorKind::InvalidArgument);
    txn.write(&t, WriteKind::Put, &columns, &batch(&t, &columns, &ints(&[(1, 1)])), Expectation::Absent).unwrap();
    txn.commit().unwrap();
    assert_eq!(all(&db, &t), ints(&[(1, 1)]));
}

#[test]
fn rows_written_after_a_load_in_its_transaction_count() {
    let db = Db::open(small()).unwrap();
    let t = create_kv(&db, "t");
    put(&db, &t, &ints(&[(5, 0)]));
    let columns = t.column_ids();
    let mut txn = db.begin().unwrap();
    let mut ingest = txn.ingest(&t, OnConflict::Replace, 64 << 20).unwrap();
    ingest.write(&columns, &batch(&t, &columns, &scattered(1000))).unwrap();
    ingest.finish().unwrap();
    let k: [ColumnId; 1] = [columns[0]];
    txn.write(&t, WriteKind::Delete, &k, &batch(&t, &k, &[vec![Value::Int(5)]]), Expectation::None).unwrap();
    txn.write(&t, WriteKind::Put, &columns, &batch(&t, &columns, &ints(&[(6, -6), (2000, 1)])), Expectation::None)
        .unwrap();
    txn.commit().unwrap();
    assert_eq!(value_of(&db, &t, 5), None);
    assert_eq!(value_of(&db, &t, 6), Some(-6));
    assert_eq!(all(&db, &t).len(), 1000);
    let mut txn = db.begin().unwrap();
    txn.write(&t, WriteKind::Put, &columns, &batch(&t, &columns, &ints(&[(7, 7)])), Expectation::None).unwrap();
    assert_eq!(txn.ingest(&t, OnConflict::Error, 1 << 20).unwrap_err().kind(), ErrorKind::InvalidArgument);
}
