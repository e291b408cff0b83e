/*!
Tables come and go with commits, and ids are never used twice.
*/

use crate::support::*;
use omendb_engine::ErrorKind;
use omendb_engine::db::{Db, Expectation, Options, WriteKind};
use omendb_engine::types::{ColumnType, TableId};
use std::collections::BTreeSet;

#[test]
fn ids_are_never_reused_after_drop_and_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Db::open(Options::dir(dir.path().join("db"))).unwrap();
    let mut tables = BTreeSet::new();
    let mut storages = BTreeSet::new();
    for round in 0..4 {
        let db = open();
        let t = create_kv(&db, "t");
        assert!(tables.insert(t.id) && storages.insert(t.storage), "round {round}");
        put(&db, &t, &ints(&[(1, round)]));
        let mut txn = db.begin().unwrap();
        let emptied = txn.truncate(t.id).unwrap();
        txn.commit().unwrap();
        assert!(storages.insert(emptied.storage));
        assert_eq!(emptied.id, t.id);
        assert!(all(&db, &emptied).is_empty());
        let mut txn = db.begin().unwrap();
        txn.drop_table(t.id).unwrap();
        txn.commit().unwrap();
        if round % 2 == 0 {
            db.compact(None).unwrap();
        }
        db.close().unwrap();
    }
}

#[test]
fn row_ids_are_never_reused() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Db::open(Options::dir(dir.path().join("db"))).unwrap();
    let db = open();
    let t = create(&db, "t", &[("v", ColumnType::Int64)], &[]);
    let row = |v: i64| vec![vec![omendb_engine::types::Value::Int(v)]];
    put(&db, &t, &row(1));
    put(&db, &t, &row(2));
    delete(&db, &t, &row(2));
    db.compact(None).unwrap();
    db.close().unwrap();
    let db = open();
    put(&db, &t, &row(3));
    assert!(get(&db, &t, &row(2)[0]).is_none());
    assert!(get(&db, &t, &row(3)[0]).is_some());
}

#[test]
fn a_table_is_there_for_all_or_for_none() {
    let db = Db::open(Options::memory()).unwrap();
    let new = || new_table("t", &[("k", ColumnType::Int64), ("v", ColumnType::Int64)], &["k"]);
    let mut txn = db.begin().unwrap();
    let t = txn.create_table(new()).unwrap();
    assert_eq!(txn.create_table(new()).unwrap_err().kind(), ErrorKind::TableExists);
    let columns = t.column_ids();
    txn.write(&t, WriteKind::Put, &columns, &batch(&t, &columns, &ints(&[(1, 1)])), Expectation::Absent).unwrap();
    assert_eq!(txn.snapshot().table("t").unwrap(), Some(t.clone()));
    assert_eq!(db.snapshot().unwrap().table("t").unwrap(), None);
    let mut other = db.begin().unwrap();
    other.create_table(new()).unwrap();
    txn.commit().unwrap();
    assert_eq!(other.commit().unwrap_err().kind(), ErrorKind::TableExists);
    assert_eq!(all(&db, &t), ints(&[(1, 1)]));
    assert_eq!(db.snapshot().unwrap().tables().unwrap(), vec![t.clone()]);
    assert_eq!(db.snapshot().unwrap().table_by_id(t.id).unwrap(), Some(t.clone()));
    assert_eq!(db.begin().unwrap().drop_table(TableId(9999)).unwrap_err().kind(), ErrorKind::NoSuchTable);
}

#[test]
fn a_table_that_was_dropped_takes_no_rows() {
    let db = Db::open(Options::memory()).unwrap();
    let t = create_kv(&db, "t");
    put(&db, &t, &ints(&[(1, 1)]));
    let before = db.snapshot().unwrap();
    let columns = t.column_ids();
    let mut writer = db.begin().unwrap();
    writer.write(&t, WriteKind::Put, &columns, &batch(&t, &columns, &ints(&[(2, 2)])), Expectation::None).unwrap();
    let mut txn = db.begin().unwrap();
    txn.drop_table(t.id).unwrap();
    txn.commit().unwrap();
    assert_eq!(writer.commit().unwrap_err().kind(), ErrorKind::NoSuchTable);
    assert_eq!(try_put(&db, &t, &ints(&[(3, 3)]), Expectation::None).unwrap_err().kind(), ErrorKind::NoSuchTable);
    // Who saw it before still does.
    let request = omendb_engine::db::ScanRequest { projection: columns, ..Default::default() };
    assert_eq!(scan(&before, &t, request), ints(&[(1, 1)]));
}
