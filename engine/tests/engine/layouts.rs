//! Shapes of runs: which have which, and that a table's word counts for all that is written from then on.

use crate::support::*;
use omendb_engine::db::{Db, Options};
use omendb_engine::io::IoRef;
use omendb_engine::types::{LayoutChoice, NewTable, RunChoices, TableDef, Value};
use std::sync::Arc;

/// Without background work: what is flushed and merged, the tests say.
fn options(io: &IoRef) -> Options {
    Options { dir: Some("/db".into()), io: Some(Arc::clone(io)), background: false, memtable_bytes: 4 << 20, ..small() }
}

/// Which runs are in row shape, newest first, with their levels.
fn shapes(db: &Db, table: &TableDef) -> Vec<(u8, bool)> {
    db.run_stats(table).unwrap().iter().map(|run| (run.level, run.row_shape)).collect()
}

/// Rows with keys that are `number` modulo 10, spread over the same stretch each time.
fn spread(number: i64) -> Vec<Vec<Value>> {
    ints(&(0..700).map(|n| (n * 10 + number, n)).collect::<Vec<_>>())
}

fn int(value: &Value) -> i64 {
    match value {
        Value::Int(number) => *number,
        other => panic!("{other:?} is no integer"),
    }
}

fn says(layout: LayoutChoice) -> RunChoices {
    RunChoices { layout, ..RunChoices::default() }
}

fn create_with(db: &Db, name: &str, layout: LayoutChoice) -> Arc<TableDef> {
    let columns = [("k", omendb_engine::types::ColumnType::Int64), ("v", omendb_engine::types::ColumnType::Int64)];
    let mut txn = db.begin().unwrap();
    let table = txn.create_table(NewTable { runs: says(layout), ..new_table(name, &columns, &["k"]) }).unwrap();
    txn.commit().unwrap();
    table
}

#[test]
fn a_table_says_the_shape_of_its_runs() {
    for (layout, flushed, others) in
        [(LayoutChoice::Auto, true, false), (LayoutChoice::Row, true, true), (LayoutChoice::Column, false, false)]
    {
        let io = omendb_engine::io::memory();
        let db = Db::open(options(&io)).unwrap();
        let table = create_with(&db, "t", layout);
        load(&db, &[Arc::clone(&table)], &[(1, 1), (100_000, 2)]);
        assert_eq!(shapes(&db, &table), [(7, others)], "{layout:?}: loads");
        put(&db, &table, &spread(0));
        db.flush().unwrap();
        assert_eq!(shapes(&db, &table)[0], (0, flushed), "{layout:?}: flushes");
        db.compact(None).unwrap();
        assert_eq!(shapes(&db, &table), [(7, others)], "{layout:?}: merges");
        put(&db, &table, &spread(3));
        db.flush().unwrap();
        let mut rows = [spread(0), spread(3), ints(&[(1, 1), (100_000, 2)])].concat();
        rows.sort_by_key(|row| row.iter().map(int).collect::<Vec<_>>());
        assert_eq!(all(&db, &table), rows, "{layout:?}");
        for row in rows {
            assert_eq!(get(&db, &table, &row[..1]).unwrap().values, row, "{layout:?}");
        }
        assert_eq!(db.check().unwrap().problems, []);
    }
}

#[test]
fn what_is_said_later_counts_for_runs_that_are_written_later() {
    let io = omendb_engine::io::memory();
    let db = Db::open(options(&io)).unwrap();
    let table = create_with(&db, "t", LayoutChoice::Auto);
    put(&db, &table, &spread(0));
    db.compact(None).unwrap();
    let mut txn = db.begin().unwrap();
    txn.set_run_choices(table.id, says(LayoutChoice::Row)).unwrap();
    txn.commit().unwrap();
    assert_eq!(shapes(&db, &table), [(7, false)]);
    db.close().unwrap();
    let db = Db::open(options(&io)).unwrap();
    let table = db.snapshot().unwrap().table("t").unwrap().unwrap();
    assert_eq!(table.runs, says(LayoutChoice::Row));
    assert!(table.attributes.is_empty());
    put(&db, &table, &spread(1));
    db.compact(None).unwrap();
    assert_eq!(shapes(&db, &table), [(7, true)]);
    assert_eq!(value_of(&db, &table, 6_990), Some(699));
}
