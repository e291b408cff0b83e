/*!
Commits are atomic: expectations hold, or nothing happens.
*/

use crate::support::*;
use arrow::datatypes::IntervalMonthDayNano;
use omendb_engine::ErrorKind;
use omendb_engine::db::{Db, Expectation, Options, ScanRequest, WriteKind};
use omendb_engine::types::{ColumnId, ColumnType, Value};

fn rows(n: std::ops::Range<i64>) -> Vec<Vec<Value>> {
    ints(&n.map(|k| (k, k * 10)).collect::<Vec<_>>())
}

#[test]
fn a_key_that_is_there_is_a_duplicate_wherever_it_lies() {
    let db = Db::open(Options::memory()).unwrap();
    let t = create_kv(&db, "t");
    put(&db, &t, &ints(&[(1, 10)]));
    for _ in 0..3 {
        let error = try_put(&db, &t, &ints(&[(2, 20), (1, 11)]), Expectation::Absent).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DuplicateKey);
        assert_eq!(error.row().unwrap().key, key(&t, &[Value::Int(1)]).as_ref());
        assert_eq!(error.row().unwrap().table, t.id);
        assert_eq!(all(&db, &t), ints(&[(1, 10)]), "a failed statement leaves nothing");
        db.compact(None).unwrap();
    }
    // Twice in one batch, and twice in one transaction.
    assert_eq!(
        try_put(&db, &t, &ints(&[(5, 1), (5, 2)]), Expectation::Absent).unwrap_err().kind(),
        ErrorKind::DuplicateKey
    );
    let columns = t.column_ids();
    let mut txn = db.begin().unwrap();
    txn.write(&t, WriteKind::Put, &columns, &batch(&t, &columns, &ints(&[(6, 1)])), Expectation::Absent).unwrap();
    let again = txn.write(&t, WriteKind::Put, &columns, &batch(&t, &columns, &ints(&[(6, 2)])), Expectation::Absent);
    assert_eq!(again.unwrap_err().kind(), ErrorKind::DuplicateKey);
    assert!(txn.commit().is_err(), "a transaction that failed can't commit");
    // Deleted by the same transaction, it may come again.
    let mut txn = db.begin().unwrap();
    let k = [columns[0]];
    txn.write(&t, WriteKind::Delete, &k, &batch(&t, &k, &[vec![Value::Int(1)]]), Expectation::None).unwrap();
    txn.write(&t, WriteKind::Put, &columns, &batch(&t, &columns, &ints(&[(1, 99)])), Expectation::Absent).unwrap();
    txn.commit().unwrap();
    assert_eq!(all(&db, &t), ints(&[(1, 99)]));
}

#[test]
fn of_two_transactions_that_change_a_row_the_second_fails() {
    let db = Db::open(Options::memory()).unwrap();
    let t = create_kv(&db, "t");
    let columns = t.column_ids();
    for settle in [false, true] {
        let seq = put(&db, &t, &ints(&[(1, 10)]));
        if settle {
            db.flush().unwrap();
        }
        let change = |value: i64| {
            let mut txn = db.begin().unwrap();
            let rows = batch(&t, &columns, &ints(&[(1, value)]));
            txn.write(&t, WriteKind::Put, &columns, &rows, Expectation::Unchanged(&[seq])).unwrap();
            txn
        };
        let (first, second, third) = (change(11), change(12), change(13));
        first.commit().unwrap();
        assert_eq!(second.commit().unwrap_err().kind(), ErrorKind::WriteConflict);
        db.compact(None).unwrap();
        assert_eq!(third.commit().unwrap_err().kind(), ErrorKind::WriteConflict);
        assert_eq!(value_of(&db, &t, 1), Some(11));
    }
    // A row that was deleted meanwhile has changed, too.
    let seq = put(&db, &t, &ints(&[(1, 10)]));
    let mut txn = db.begin().unwrap();
    delete(&db, &t, &[vec![Value::Int(1)]]);
    txn.write(&t, WriteKind::Put, &columns, &batch(&t, &columns, &ints(&[(1, 1)])), Expectation::Unchanged(&[seq]))
        .unwrap();
    assert_eq!(txn.commit().unwrap_err().kind(), ErrorKind::WriteConflict);
}

#[test]
fn of_two_transactions_that_insert_a_key_the_second_fails() {
    let db = Db::open(Options::memory()).unwrap();
    let t = create_kv(&db, "t");
    let columns = t.column_ids();
    let insert = |value: i64| {
        let mut txn = db.begin().unwrap();
        let rows = batch(&t, &columns, &ints(&[(1, value)]));
        txn.write(&t, WriteKind::Put, &columns, &rows, Expectation::Absent).unwrap();
        txn
    };
    let (first, second) = (insert(1), insert(2));
    first.commit().unwrap();
    assert_eq!(second.commit().unwrap_err().kind(), ErrorKind::DuplicateKey);
    assert_eq!(value_of(&db, &t, 1), Some(1));
}

#[test]
fn threads_that_increment_a_counter_lose_nothing() {
    let db = Db::open(small()).unwrap();
    let t = create_kv(&db, "t");
    put(&db, &t, &ints(&[(1, 0)]));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (db, t) = (db.clone(), t.clone());
            std::thread::spawn(move || {
                let columns = t.column_ids();
                let mut done = 0;
                while done < 150 {
                    let mut row = omendb_engine::db::Row::numbered();
                    let mut txn = db.begin().unwrap();
                    assert!(txn.snapshot().get(&t, &key(&t, &[Value::Int(1)]), &columns, &mut row).unwrap());
                    let Value::Int(now) = row.values[1] else { panic!() };
                    let rows = batch(&t, &columns, &ints(&[(1, now + 1)]));
                    txn.write(&t, WriteKind::Put, &columns, &rows, Expectation::Unchanged(&[row.seq.unwrap()]))
                        .unwrap();
                    match txn.commit() {
                        Ok(_) => done += 1,
                        Err(error) => assert_eq!(error.kind(), ErrorKind::WriteConflict),
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(value_of(&db, &t, 1), Some(600));
}

#[test]
fn a_snapshot_sees_nothing_that_came_later() {
    let db = Db::open(small()).unwrap();
    let t = create_kv(&db, "t");
    put(&db, &t, &rows(0..100));
    let snapshot = db.snapshot().unwrap();
    delete(&db, &t, &(0..50).map(|k| vec![Value::Int(k)]).collect::<Vec<_>>());
    put(&db, &t, &rows(50..60).into_iter().map(|r| vec![r[0].clone(), Value::Int(-1)]).collect::<Vec<_>>());
    put(&db, &t, &rows(100..200));
    db.compact(None).unwrap();
    let request = ScanRequest { projection: t.column_ids(), ..ScanRequest::default() };
    assert_eq!(scan(&snapshot, &t, request), rows(0..100));
    assert_eq!(all(&db, &t).len(), 150);
}

#[test]
fn a_transaction_reads_its_own_writes_and_nobody_else_does() {
    let db = Db::open(small()).unwrap();
    let t = create_kv(&db, "t");
    let columns = t.column_ids();
    put(&db, &t, &rows(0..10));
    let mut txn = db.begin().unwrap();
    txn.write(&t, WriteKind::Put, &columns, &batch(&t, &columns, &rows(10..20)), Expectation::None).unwrap();
    let k = [columns[0]];
    txn.write(&t, WriteKind::Delete, &k, &batch(&t, &k, &[vec![Value::Int(3)]]), Expectation::None).unwrap();
    let own = txn.snapshot();
    txn.write(&t, WriteKind::Put, &columns, &batch(&t, &columns, &rows(20..30)), Expectation::None).unwrap();
    let request = || ScanRequest { projection: columns.clone(), ..ScanRequest::default() };
    let mut expect = rows(0..20);
    expect.remove(3);
    assert_eq!(scan(&own, &t, request()), expect);
    assert_eq!(scan(&txn.snapshot(), &t, request()).len(), 29);
    assert_eq!(all(&db, &t), rows(0..10));
    txn.rollback();
    assert_eq!(all(&db, &t), rows(0..10));
}

/// Larger than its buffer, a transaction goes through staged runs; nothing else changes.
#[test]
fn a_large_transaction_is_like_a_small_one() {
    let db = Db::open(small()).unwrap();
    let t = create_kv(&db, "t");
    let columns = t.column_ids();
    let k = [columns[0]];
    put(&db, &t, &rows(0..5000));
    let keys = |n: std::ops::Range<i64>| n.map(|k| vec![Value::Int(k)]).collect::<Vec<_>>();
    let mut txn = db.begin().unwrap();
    for chunk in 0..10 {
        let from = 10_000 + (chunk * 7 % 10) * 1000;
        txn.write(&t, WriteKind::Put, &columns, &batch(&t, &columns, &rows(from..from + 1000)), Expectation::Absent)
            .unwrap();
    }
    txn.write(&t, WriteKind::Delete, &k, &batch(&t, &k, &keys(1000..3000)), Expectation::None).unwrap();
    let seen = scan(&txn.snapshot(), &t, ScanRequest { projection: columns.clone(), ..ScanRequest::default() });
    txn.write(&t, WriteKind::Put, &columns, &batch(&t, &columns, &rows(2000..2500)), Expectation::Absent).unwrap();
    assert_eq!(seen.len(), 5000 - 2000 + 10_000);
    let mut expect = rows(0..1000);
    expect.extend(rows(2000..2500));
    expect.extend(rows(3000..5000));
    expect.extend(rows(10_000..20_000));
    txn.commit().unwrap();
    assert_eq!(all(&db, &t), expect);
    // A duplicate is found at commit at the latest, and nothing is left of it all.
    for bad in [500, 15_000, 30_500] {
        let mut txn = db.begin().unwrap();
        let whole = batch(&t, &columns, &rows(30_000..40_000));
        let mut done = txn.write(&t, WriteKind::Put, &columns, &whole, Expectation::Absent);
        done = done.and_then(|()| {
            txn.write(&t, WriteKind::Put, &columns, &batch(&t, &columns, &rows(bad..bad + 1)), Expectation::Absent)
        });
        let error = done.and_then(|()| txn.commit().map(drop)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DuplicateKey, "{bad}");
        assert_eq!(error.row().unwrap().key, key(&t, &[Value::Int(bad)]).as_ref());
        assert_eq!(error.row().unwrap().table, t.id);
        assert_eq!(all(&db, &t), expect);
    }
    // Every row rewritten as it was read; a row that somebody else changed meanwhile is a conflict.
    for meanwhile in [false, true] {
        let mut txn = db.begin().unwrap();
        let with_seq = [columns[0], columns[1], ColumnId::SEQ];
        let read = scan(&txn.snapshot(), &t, ScanRequest { projection: with_seq.to_vec(), ..ScanRequest::default() });
        let seqs: Vec<u64> = read
            .iter()
            .map(|row| match row[2] {
                Value::Int(seq) => seq as u64,
                _ => 0,
            })
            .collect();
        let rows: Vec<Vec<Value>> = read.iter().map(|row| vec![row[0].clone(), Value::Int(7)]).collect();
        txn.write(&t, WriteKind::Put, &columns, &batch(&t, &columns, &rows), Expectation::Unchanged(&seqs)).unwrap();
        if meanwhile {
            put(&db, &t, &ints(&[(12_345, 8)]));
            assert_eq!(txn.commit().unwrap_err().kind(), ErrorKind::WriteConflict);
            assert_eq!(value_of(&db, &t, 12_345), Some(8));
        } else {
            txn.commit().unwrap();
            assert!(all(&db, &t).iter().all(|row| row[1] == Value::Int(7)));
        }
        assert_eq!(all(&db, &t).len(), expect.len());
    }
}

#[test]
fn nulls_and_foreign_types_are_refused() {
    let db = Db::open(Options::memory()).unwrap();
    let mut new = new_table("t", &[("k", ColumnType::Int64), ("v", ColumnType::Int64)], &["k"]);
    new.columns[1].nullable = false;
    let mut txn = db.begin().unwrap();
    let t = txn.create_table(new).unwrap();
    txn.commit().unwrap();
    let columns = t.column_ids();
    let kind = |rows: &[Vec<Value>], columns: &[ColumnId]| {
        let mut txn = db.begin().unwrap();
        txn.write(&t, WriteKind::Put, columns, &batch(&t, columns, rows), Expectation::None).unwrap_err().kind()
    };
    assert_eq!(kind(&[vec![Value::Int(1), Value::Null]], &columns), ErrorKind::NullViolation);
    assert_eq!(kind(&[vec![Value::Null, Value::Int(1)]], &columns), ErrorKind::NullViolation);
    assert_eq!(kind(&[vec![Value::Int(1)]], &columns[..1]), ErrorKind::NullViolation);
    let other = create(&db, "u", &[("k", ColumnType::Text)], &["k"]);
    let mut txn = db.begin().unwrap();
    let text = batch(&other, &other.column_ids(), &[vec![Value::Text("x".to_owned())]]);
    let wrong = txn.write(&t, WriteKind::Put, &columns[..1], &text, Expectation::None);
    assert_eq!(wrong.unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert!(all(&db, &t).is_empty());
}

/// A row in memory leaves out what its key says, but a key says 0 for −0 and thirty days for a month.
#[test]
fn the_values_of_a_key_come_back_as_they_were_written_wherever_they_lie() {
    let db = Db::open(Options::memory()).unwrap();
    let types = [
        ("note", ColumnType::Text),
        ("text", ColumnType::Text),
        ("float", ColumnType::Float64),
        ("span", ColumnType::Interval),
        ("bytes", ColumnType::Bytes),
        ("small", ColumnType::Int16),
        ("price", ColumnType::Decimal { precision: 10, scale: 2 }),
    ];
    let t = create(&db, "t", &types, &["small", "price", "bytes", "span", "float", "text"]);
    let month = |months, days| Value::Interval(IntervalMonthDayNano::new(months, days, 0));
    let row = |text: &str, float: f64, span: Value| {
        let texts = [Value::Text("note".to_owned()), Value::Text(text.to_owned())];
        let others = [Value::Float64(float), span, Value::Bytes(vec![0, 255]), Value::Int(-3), Value::Decimal(-150)];
        texts.into_iter().chain(others).collect::<Vec<Value>>()
    };
    let rows = [row("a\0b", -0.0, month(1, 0)), row("", 1.5, month(0, 31))];
    let seen = |db: &Db| {
        let by_key: Vec<_> = rows.iter().map(|row| get(db, &t, &in_key_order(row)).unwrap().values).collect();
        assert_eq!(format!("{:?}", all(db, &t)), format!("{rows:?}"));
        assert_eq!(format!("{by_key:?}"), format!("{rows:?}"));
    };
    put(&db, &t, &rows);
    seen(&db);
    let mut txn = db.begin().unwrap();
    rows.iter().for_each(|row| txn.put(&t, row).unwrap());
    assert_eq!(
        format!(
            "{:?}",
            scan(&txn.snapshot(), &t, ScanRequest { projection: t.column_ids(), ..ScanRequest::default() })
        ),
        format!("{rows:?}")
    );
    txn.commit().unwrap();
    seen(&db);
    db.flush().unwrap();
    seen(&db);
}

/// The values of the key's columns of the table above.
fn in_key_order(row: &[Value]) -> Vec<Value> {
    [5, 6, 4, 3, 2, 1].iter().map(|place: &usize| row[*place].clone()).collect()
}

#[test]
fn a_row_put_as_values_is_as_one_put_as_a_batch() {
    let db = Db::open(Options::memory()).unwrap();
    let t = create(&db, "t", &[("v", ColumnType::Int64), ("k", ColumnType::Int64)], &["k"]);
    let hidden = create(&db, "hidden", &[("v", ColumnType::Int64)], &[]);
    let mut txn = db.begin().unwrap();
    for k in [5, 3, 5, 9] {
        txn.put(&t, &[Value::Int(k * 10), Value::Int(k)]).unwrap();
        txn.put(&hidden, &[Value::Int(k)]).unwrap();
    }
    txn.commit().unwrap();
    let rows: Vec<_> = [3, 5, 9].iter().map(|k| vec![Value::Int(k * 10), Value::Int(*k)]).collect();
    assert_eq!(all(&db, &t), rows);
    assert_eq!(all(&db, &hidden).len(), 4);
    let refused = |values: &[Value]| db.begin().unwrap().put(&t, values).unwrap_err().kind();
    assert_eq!(refused(&[Value::Int(1)]), ErrorKind::InvalidArgument);
    assert_eq!(refused(&[Value::Int(1), Value::Null]), ErrorKind::NullViolation);
    assert_eq!(refused(&[Value::Int(1), Value::Text("x".to_owned())]), ErrorKind::InvalidArgument);
    // A transaction of whose writes one failed is not committed.
    let mut txn = db.begin().unwrap();
    txn.put(&t, &[Value::Int(1), Value::Int(1)]).unwrap();
    assert!(txn.put(&t, &[]).is_err());
    assert!(txn.commit().is_err());
    assert_eq!(all(&db, &t), rows);
}

/// More rows than a transaction keeps in memory go to runs, also when they come one by one.
#[test]
fn many_rows_put_one_by_one_are_staged() {
    let db = Db::open(Options { memtable_bytes: 64 << 10, ..Options::memory() }).unwrap();
    let t = create_kv(&db, "t");
    let mut txn = db.begin().unwrap();
    (0..20_000).rev().for_each(|k| txn.put(&t, &[Value::Int(k), Value::Int(k * 10)]).unwrap());
    txn.commit().unwrap();
    assert_eq!(all(&db, &t), rows(0..20_000));
}
