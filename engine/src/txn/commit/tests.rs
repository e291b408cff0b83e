/*!
What comes between a commit's two looks: the first without the commit lock, the second under it.
*/

use super::*;
use crate::db::{Db, Expectation, Options, WriteKind};
use crate::types::{Attributes, ColumnId, ColumnType, NewColumn, NewTable};
use arrow::array::{ArrayRef, Int64Array, RecordBatch};

fn open() -> (Db, Arc<TableDef>) {
    let db = Db::open(Options { background: false, ..Options::memory() }).unwrap();
    let column = |name: &str| NewColumn {
        name: name.to_owned(),
        ty: ColumnType::Int64,
        nullable: false,
        attributes: Attributes::new(),
    };
    let table = NewTable {
        name: "t".to_owned(),
        columns: vec![column("k"), column("v")],
        key: vec!["k".to_owned()],
        ..NewTable::default()
    };
    let mut txn = db.begin().unwrap();
    let table = txn.create_table(table).unwrap();
    txn.commit().unwrap();
    (db, table)
}

/// Writes one row, `values` long: all of it, or its key alone.
fn write(txn: &mut Transaction, table: &TableDef, kind: WriteKind, values: &[i64], expects: Expectation<'_>) {
    let columns: Vec<ColumnId> = table.column_ids().into_iter().take(values.len()).collect();
    let arrays = values.iter().map(|value| Arc::new(Int64Array::from_iter_values([*value])) as ArrayRef);
    let batch = RecordBatch::try_new(table.projected_schema(&columns).unwrap(), arrays.collect()).unwrap();
    txn.write(table, kind, &columns, &batch, expects).unwrap();
}

fn put(db: &Db, table: &TableDef, k: i64, v: i64) -> Seq {
    let mut txn = db.begin().unwrap();
    write(&mut txn, table, WriteKind::Put, &[k, v], Expectation::None);
    txn.commit().unwrap()
}

fn delete(db: &Db, table: &TableDef, k: i64) {
    let mut txn = db.begin().unwrap();
    write(&mut txn, table, WriteKind::Delete, &[k], Expectation::None);
    txn.commit().unwrap();
}

/// Whether no run has a tombstone.
fn is_forgotten(db: &Db, table: &TableDef) -> bool {
    db.run_stats(table).unwrap().iter().all(|run| run.tombstones == 0)
}

/// The second look of a transaction that has written a row which must not have changed, and whose first look came before
/// `between`.
fn second_look(flushed: bool, between: impl FnOnce(&Db, &TableDef)) -> Result<Seq> {
    let (db, table) = open();
    put(&db, &table, 1, 10);
    let seq = put(&db, &table, 2, 20);
    if flushed {
        db.flush().unwrap();
    }
    let mut txn = db.begin().unwrap();
    write(&mut txn, &table, WriteKind::Put, &[2, 21], Expectation::Unchanged(&[seq]));
    let store = Arc::clone(&txn.store);
    let mut record = RecordBuilder::new();
    let rows = txn.writes.values_mut().flat_map(|writes| writes.buffer.take()).collect::<Vec<_>>();
    for row in &rows {
        record.push(table.storage, row.kind(), row.key(), row.row());
    }
    let deliveries = vec![Delivery { storage: table.storage, erased: Vec::new(), rows }];
    let first = txn.precheck(&store).unwrap();
    between(&db, &table);
    txn.append(&store, record, deliveries, first).map(|(seq, _)| seq)
}

#[test]
fn what_was_deleted_and_forgotten_between_the_looks_is_a_conflict() {
    // The flush drops row and tombstone together, since nothing older is there.
    let forgotten_by_a_flush = second_look(false, |db, table| {
        delete(db, table, 2);
        db.flush().unwrap();
        assert!(is_forgotten(db, table));
    });
    assert_eq!(forgotten_by_a_flush.unwrap_err().kind(), ErrorKind::WriteConflict);
    let forgotten_by_a_merge = second_look(true, |db, table| {
        delete(db, table, 2);
        db.compact(None).unwrap();
        assert!(is_forgotten(db, table));
    });
    assert_eq!(forgotten_by_a_merge.unwrap_err().kind(), ErrorKind::WriteConflict);
}

#[test]
fn what_was_only_rewritten_between_the_looks_is_none() {
    for flushed in [false, true] {
        let rewritten = second_look(flushed, |db, table| {
            delete(db, table, 1);
            db.compact(None).unwrap();
        });
        assert!(rewritten.is_ok(), "{rewritten:?}");
    }
    let deleted = second_look(true, |db, table| delete(db, table, 2));
    assert_eq!(deleted.unwrap_err().kind(), ErrorKind::WriteConflict, "and remembered");
}
