//! Filters of runs: which runs get them, what they save, and that no answer differs.

use crate::support::*;
use omendb_engine::db::{Db, Expectation, Options};
use omendb_engine::io::IoRef;
use omendb_engine::key::{Key, KeyRange};
use omendb_engine::types::{FilterChoice, NewTable, RunChoices, TableDef, Value};
use std::ops::Bound;
use std::sync::Arc;

/// Without background work: what is flushed and merged, the tests say.
fn options(io: &IoRef, filter: FilterChoice) -> Options {
    Options {
        dir: Some("/db".into()),
        io: Some(Arc::clone(io)),
        background: false,
        memtable_bytes: 4 << 20,
        filter,
        ..small()
    }
}

/// Which runs have filters, newest first, with their levels.
fn filtered(db: &Db, table: &TableDef) -> Vec<(u8, bool)> {
    db.run_stats(table).unwrap().iter().map(|run| (run.level, run.filter_bytes > 0)).collect()
}

/// Rows with keys that are `number` modulo 10, spread over the same stretch each time.
fn spread(number: i64) -> Vec<Vec<Value>> {
    ints(&(0..1500).map(|n| (n * 10 + number, n)).collect::<Vec<_>>())
}

fn read_evenly(db: &Db, table: &TableDef, number: i64) -> usize {
    (0..1500).filter(|n| value_of(db, table, n * 10 + number).is_some()).count()
}

#[test]
fn runs_get_filters_where_lookups_look_in_vain() {
    let io = omendb_engine::io::memory();
    let db = Db::open(options(&io, FilterChoice::Auto)).unwrap();
    let table = create_kv(&db, "t");
    put(&db, &table, &spread(0));
    db.compact(None).unwrap();
    put(&db, &table, &spread(1));
    db.flush().unwrap();
    assert_eq!(filtered(&db, &table), [(0, false), (7, false)], "nobody has asked");
    // Whoever reads the last level looks into the upper run in vain.
    assert_eq!(read_evenly(&db, &table, 0), 1500);
    put(&db, &table, &spread(2));
    db.flush().unwrap();
    assert_eq!(filtered(&db, &table), [(0, true), (0, false), (7, false)]);
    let stats = db.stats().unwrap();
    assert_eq!((stats.last_probes_found, stats.last_probes_vain), (1500, 0));
    assert!(stats.upper_probes_vain >= 1490 && stats.upper_probes_found == 0, "{stats:?}");
    // Keys of the last level alone are asked for: it needs no filter.
    db.compact(None).unwrap();
    assert_eq!(filtered(&db, &table), [(7, false)]);
    // Keys that nobody has are.
    assert_eq!(read_evenly(&db, &table, 3), 0);
    put(&db, &table, &spread(4));
    db.compact(None).unwrap();
    assert_eq!(filtered(&db, &table), [(7, true)]);
    assert_eq!(read_evenly(&db, &table, 3), 0);
    let before = db.stats().unwrap();
    assert_eq!(read_evenly(&db, &table, 3), 0);
    let after = db.stats().unwrap();
    let refused = after.filter_refusals - before.filter_refusals;
    assert!((1450..=1500).contains(&refused), "{after:?}");
    assert_eq!(after.last_probes_vain - before.last_probes_vain, after.filter_probes - before.filter_probes);
    assert!(after.filter_bytes > 0 && after.filter_cached_bytes == after.filter_bytes);
    assert!(after.filter_bits_per_key().unwrap() < 10.5, "{:?}", after.filter_bits_per_key());
    assert_eq!(db.check().unwrap().problems, []);
    // What was found out about it goes with the process; merges do as before.
    db.close().unwrap();
    let db = Db::open(options(&io, FilterChoice::Auto)).unwrap();
    put(&db, &table, &spread(5));
    db.compact(None).unwrap();
    assert_eq!(filtered(&db, &table), [(7, true)]);
    // Once only keys that are there are asked for, filters go.
    assert_eq!(read_evenly(&db, &table, 5), 1500);
    put(&db, &table, &spread(6));
    db.compact(None).unwrap();
    assert_eq!(filtered(&db, &table), [(7, false)]);
}

#[test]
fn rows_that_must_be_new_ask_for_absent_keys() {
    let io = omendb_engine::io::memory();
    let db = Db::open(options(&io, FilterChoice::Auto)).unwrap();
    let table = create_kv(&db, "t");
    put(&db, &table, &spread(0));
    db.flush().unwrap();
    try_put(&db, &table, &spread(1), Expectation::Absent).unwrap();
    db.flush().unwrap();
    assert_eq!(filtered(&db, &table).first(), Some(&(0, true)));
    assert!(try_put(&db, &table, &spread(1)[700..701], Expectation::Absent).is_err());
}

#[test]
fn a_table_says_whether_its_runs_get_filters() {
    let io = omendb_engine::io::memory();
    let db = Db::open(options(&io, FilterChoice::Auto)).unwrap();
    let columns = [("k", omendb_engine::types::ColumnType::Int64), ("v", omendb_engine::types::ColumnType::Int64)];
    let mut txn = db.begin().unwrap();
    let says = |filter| RunChoices { filter, ..RunChoices::default() };
    let new = |name, filter| NewTable { runs: says(filter), ..new_table(name, &columns, &["k"]) };
    let on = txn.create_table(new("on", FilterChoice::On)).unwrap();
    let off = txn.create_table(new("off", FilterChoice::Off)).unwrap();
    txn.commit().unwrap();
    load(&db, &[Arc::clone(&on), Arc::clone(&off)], &[(1, 1), (100_000, 2)]);
    assert_eq!((filtered(&db, &on), filtered(&db, &off)), (vec![(7, true)], vec![(7, false)]), "loads");
    for table in [&on, &off] {
        put(&db, table, &spread(0));
    }
    db.flush().unwrap();
    assert_eq!((filtered(&db, &on)[0], filtered(&db, &off)[0]), ((0, true), (0, false)), "flushes");
    db.compact(None).unwrap();
    assert_eq!((filtered(&db, &on), filtered(&db, &off)), (vec![(7, true)], vec![(7, false)]), "merges");
    assert_eq!(db.check().unwrap().problems, []);
    db.close().unwrap();
    // Stronger than what the database is opened with, and durable.
    let db = Db::open(options(&io, FilterChoice::On)).unwrap();
    let there = |name: &str| db.snapshot().unwrap().table(name).unwrap().unwrap();
    assert_eq!((there("on").runs.filter, there("off").runs.filter), (FilterChoice::On, FilterChoice::Off));
    assert!(there("on").attributes.is_empty());
    let mut txn = db.begin().unwrap();
    let on = txn.set_run_choices(on.id, says(FilterChoice::Off)).unwrap();
    let off = txn.set_run_choices(off.id, says(FilterChoice::Auto)).unwrap();
    let emptied = txn.truncate(off.id).unwrap();
    assert_eq!(emptied.runs, RunChoices::default());
    txn.commit().unwrap();
    for table in [&on, &emptied] {
        put(&db, table, &spread(1));
    }
    db.compact(None).unwrap();
    assert_eq!((filtered(&db, &on), filtered(&db, &emptied)), (vec![(7, false)], vec![(7, true)]));
}

#[test]
fn a_deleted_range_above_hides_rows_that_an_upper_run_does_not_have() {
    let io = omendb_engine::io::memory();
    let db = Db::open(options(&io, FilterChoice::On)).unwrap();
    let table = create_kv(&db, "t");
    put(&db, &table, &spread(0));
    db.compact(None).unwrap();
    let mut txn = db.begin().unwrap();
    let at = |k: i64| key(&table, &[Value::Int(k)]);
    let range = KeyRange { start: Bound::Included(at(3000)), end: Bound::Excluded(at(6000)) };
    txn.delete_range(&table, &range).unwrap();
    txn.commit().unwrap();
    put(&db, &table, &spread(1));
    db.flush().unwrap();
    assert!(filtered(&db, &table).iter().all(|(_, has)| *has));
    for _ in 0..2 {
        for n in 0..1500 {
            let there = !(300..600).contains(&n);
            assert_eq!(value_of(&db, &table, n * 10), there.then_some(n), "{n}");
            assert_eq!(value_of(&db, &table, n * 10 + 1), Some(n));
            assert_eq!(value_of(&db, &table, n * 10 + 2), None);
        }
        let keys: Vec<Key> = (0..15_000).map(at).collect();
        let (_, answers) = db.snapshot().unwrap().multi_get(&table, &keys, &table.column_ids()).unwrap();
        let expect = (0..15_000u32).filter(|k| k % 10 == 1 || (k % 10 == 0 && !(3000..6000).contains(k)));
        assert_eq!(answers, expect.collect::<Vec<_>>());
    }
    assert_eq!(db.check().unwrap().problems, []);
}
