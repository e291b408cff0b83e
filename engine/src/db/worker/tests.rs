/*!
Random histories against a model, with no background work but what the test asks for: one step of a merge at a time, and a look
at everything after each. Deleted ranges, rounds half done, loads and reopenings meet here.
*/

use super::*;
use crate::db::{Db, Expectation, OnConflict, Options, ScanRequest, Snapshot, Transaction, WriteKind};
use crate::io::random::Random;
use crate::io::{self, IoRef};
use crate::key::{KeyRange, KeySchema};
use crate::types::{Attributes, ColumnType, NewColumn, NewTable, TableDef, Value};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use std::collections::BTreeMap;
use std::ops::Bound;

const KEYS: u64 = 3000;

/// Columns that only make rows large: a run has some hundred.
const PADS: usize = 7;

type Rows = BTreeMap<i64, i64>;

struct World {
    seed: u64,
    random: Random,
    io: IoRef,
    db: Db,
    table: Arc<TableDef>,
    rows: Rows,
    values: i64,
    snapshots: Vec<(Snapshot, Rows)>,
    steps: u64,
    /// How often ranges stood among the inputs of a round under way, and reopenings found one.
    between: u64,
    given_up: u64,
}

fn options(io: &IoRef) -> Options {
    Options {
        dir: Some("/steps".into()),
        io: Some(Arc::clone(io)),
        background: false,
        run_bytes: 16 << 10,
        memtable_bytes: 1 << 20,
        memory_bytes: 64 << 20,
        ..Options::memory()
    }
}

impl World {
    fn new(seed: u64) -> World {
        let io = io::memory();
        let db = Db::open(options(&io)).unwrap();
        let column =
            |name: &str, ty| NewColumn { name: name.to_owned(), ty, nullable: true, attributes: Attributes::new() };
        let mut txn = db.begin().unwrap();
        let pads = (0..PADS).map(|number| format!("pad{number}"));
        let names = ["k".to_owned(), "v".to_owned()].into_iter().chain(pads);
        let columns = names.map(|name| column(&name, ColumnType::Int64)).collect();
        let key = vec!["k".to_owned()];
        let table = txn.create_table(NewTable { name: "t".to_owned(), columns, key, ..NewTable::default() }).unwrap();
        txn.commit().unwrap();
        World {
            seed,
            random: Random::new(seed),
            io,
            db,
            table,
            rows: Rows::new(),
            values: 0,
            snapshots: Vec::new(),
            steps: 0,
            between: 0,
            given_up: 0,
        }
    }

    fn batch(&mut self, rows: &[(i64, i64)]) -> RecordBatch {
        let keys = Int64Array::from_iter_values(rows.iter().map(|row| row.0));
        let values = Int64Array::from_iter_values(rows.iter().map(|row| row.1));
        let mut columns: Vec<ArrayRef> = vec![Arc::new(keys), Arc::new(values)];
        // What nothing compresses, and takes no time to try: text would have symbols trained for every run.
        columns.extend((0..PADS).map(|_| {
            let numbers = rows.iter().map(|_| self.random.next_u64().cast_signed());
            Arc::new(Int64Array::from_iter_values(numbers)) as ArrayRef
        }));
        RecordBatch::try_new(self.table.projected_schema(&self.table.column_ids()).unwrap(), columns).unwrap()
    }

    fn key(&mut self) -> i64 {
        i64::try_from(self.random.below(KEYS)).unwrap()
    }

    /// Some keys: a stretch of them, or here and there.
    fn keys(&mut self, most: u64) -> Vec<i64> {
        let (first, count) = (self.key(), 1 + self.random.below(most));
        let stride = if self.random.below(2) == 0 { 1 } else { 1 + self.random.below(40) };
        let (count, stride) = (i64::try_from(count).unwrap(), i64::try_from(stride).unwrap());
        (0..count).map(|n| first + n * stride).filter(|key| *key < KEYS as i64).collect()
    }

    fn fresh_rows(&mut self, most: u64) -> Vec<(i64, i64)> {
        let keys = self.keys(most);
        keys.into_iter()
            .map(|key| {
                self.values += 1;
                (key, self.values)
            })
            .collect()
    }

    fn write_into(&mut self, txn: &mut Transaction, kind: WriteKind, rows: &[(i64, i64)]) {
        let batch = self.batch(rows);
        txn.write(&self.table, kind, &self.table.column_ids(), &batch, Expectation::None).unwrap();
        for (key, value) in rows {
            match kind {
                WriteKind::Put => self.rows.insert(*key, *value),
                WriteKind::Delete => self.rows.remove(key),
            };
        }
    }

    fn delete_range_in(&mut self, txn: &mut Transaction) {
        let from = self.key();
        let width = match self.random.below(3) {
            0 => 20,
            1 => 300,
            _ => KEYS,
        };
        let to = from + 1 + i64::try_from(self.random.below(width)).unwrap();
        let at = |key: i64| KeySchema::of(&self.table).unwrap().encode(&[Value::Int(key)]).unwrap();
        let range = KeyRange { start: Bound::Included(at(from)), end: Bound::Excluded(at(to)) };
        txn.delete_range(&self.table, &range).unwrap();
        self.rows.retain(|key, _| *key < from || *key >= to);
    }

    /// A transaction of a few changes.
    fn commit(&mut self) {
        let mut txn = self.db.begin().unwrap();
        for _ in 0..1 + self.random.below(2) {
            match self.random.below(8) {
                0..5 => {
                    let rows = self.fresh_rows(60);
                    self.write_into(&mut txn, WriteKind::Put, &rows);
                }
                5..7 => {
                    let rows = self.fresh_rows(60);
                    self.write_into(&mut txn, WriteKind::Delete, &rows);
                }
                _ => self.delete_range_in(&mut txn),
            }
        }
        txn.commit().unwrap();
    }

    fn load(&mut self) {
        let rows = self.fresh_rows(400);
        let batch = self.batch(&rows);
        let mut txn = self.db.begin().unwrap();
        let mut ingest = txn.ingest(&self.table, OnConflict::Replace, 1 << 20).unwrap();
        ingest.write(&self.table.column_ids(), &batch).unwrap();
        ingest.finish().unwrap();
        txn.commit().unwrap();
        self.rows.extend(rows);
    }

    fn step(&mut self) -> bool {
        let store = &self.db.inner.store;
        let id = self.table.storage;
        let mut ages = Ages::default();
        if self.random.below(4) == 0 {
            // Everything is old.
            ages.look(store, Duration::ZERO);
        }
        let did = {
            let _one = store.compacting.lock();
            merge_some(store, id, &ages).unwrap_or_else(|error| panic!("seed {}: {error}", self.seed))
        };
        self.steps += u64::from(did);
        let tree = store.view().trees.get(&id).map(|storage| Arc::clone(&storage.tree)).unwrap();
        let ranges = tree.upper.iter().any(|source| matches!(source, Source::Erased(_)));
        self.between += u64::from(ranges && store.rounds.lock().contains_key(&id));
        did
    }

    fn reopen(&mut self) {
        self.snapshots.clear();
        self.given_up += u64::from(!self.db.inner.store.rounds.lock().is_empty());
        let fresh = Db::open(options(&io::memory())).unwrap();
        std::mem::replace(&mut self.db, fresh).close().unwrap();
        self.db = Db::open(options(&self.io)).unwrap();
    }

    fn look_at(&self, snapshot: &Snapshot, rows: &Rows, what: &str) {
        let columns = self.table.column_ids();
        let request = ScanRequest { projection: columns[..2].to_vec(), ..ScanRequest::default() };
        let mut seen: Vec<(i64, i64)> = Vec::with_capacity(rows.len());
        for batch in snapshot.scan(&self.table, request).unwrap() {
            let batch = batch.unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
            let ints = |column: usize| batch.column(column).as_primitive::<Int64Type>().clone();
            let (keys, values) = (ints(0), ints(1));
            assert_eq!(keys.null_count() + values.null_count(), 0);
            seen.extend(keys.values().iter().copied().zip(values.values().iter().copied()));
        }
        if seen.iter().copied().eq(rows.iter().map(|(key, value)| (*key, *value))) {
            return;
        }
        let seen = Rows::from_iter(seen);
        let wrong: Vec<_> = (0..KEYS as i64 * 2).filter(|key| seen.get(key) != rows.get(key)).take(5).collect();
        let is = |rows: &Rows| wrong.iter().map(|key| rows.get(key).copied()).collect::<Vec<_>>();
        panic!("seed {}, {what}: {wrong:?} are {:?} and not {:?}", self.seed, is(&seen), is(rows));
    }

    fn look(&mut self, what: &str) {
        let snapshot = self.db.snapshot().unwrap();
        self.look_at(&snapshot, &self.rows, what);
        let mut row = crate::db::Row::default();
        for _ in 0..4 {
            let number = self.key();
            let key = KeySchema::of(&self.table).unwrap().encode(&[Value::Int(number)]).unwrap();
            let columns = self.table.column_ids();
            let found = snapshot.get(&self.table, &key, &columns[1..2], &mut row).unwrap();
            let value = self.rows.get(&number).map(|value| vec![Value::Int(*value)]);
            assert_eq!(found.then(|| row.values.clone()), value, "seed {}, {what}: row {number}", self.seed);
        }
        if let Some((snapshot, rows)) = self.snapshots.last() {
            self.look_at(snapshot, rows, "a snapshot");
        }
    }

    fn check(&self, what: &str) {
        let report = self.db.check().unwrap();
        assert!(report.problems.is_empty(), "seed {}, {what}: {:?}", self.seed, report.problems);
    }

    fn turn(&mut self) {
        let what = match self.random.below(20) {
            0..6 => {
                self.commit();
                "a commit"
            }
            6..8 => {
                self.load();
                "a load"
            }
            8..12 => {
                self.db.flush().unwrap();
                "a flush"
            }
            12..17 => {
                self.step();
                "a step"
            }
            17 => {
                let snapshot = (self.db.snapshot().unwrap(), self.rows.clone());
                self.snapshots.truncate(1);
                self.snapshots.insert(0, snapshot);
                "a snapshot"
            }
            18 if self.random.below(3) == 0 => {
                self.reopen();
                self.check("reopened");
                "reopened"
            }
            _ => {
                // Until the tree is in good order.
                for _ in 0..self.random.below(30) {
                    if !self.step() {
                        break;
                    }
                    self.look("one of many steps");
                }
                "many steps"
            }
        };
        self.look(what);
    }
}

#[test]
fn every_step_of_a_merge_leaves_all_rows_as_they_were() {
    let number = |name: &str, or: u64| std::env::var(name).ok().and_then(|it| it.parse().ok()).unwrap_or(or);
    let (first, count) = (number("OMENDB_STEPS_SEED", 1), number("OMENDB_STEPS_SEEDS", 12));
    let (mut between, mut given_up) = (0, 0);
    for seed in first..first + count {
        let mut world = World::new(seed);
        for turn in 0..160 {
            world.turn();
            if turn % 40 == 39 {
                world.check("now and then");
            }
        }
        world.check("at the end");
        world.db.compact(None).unwrap();
        world.look("compacted");
        world.check("compacted");
        let stats = world.db.table_stats(&world.table).unwrap();
        assert_eq!((stats.erased_ranges, stats.rows), (0, world.rows.len() as u64), "seed {seed}");
        assert!(world.steps > 0, "seed {seed}");
        between += world.between;
        given_up += world.given_up;
    }
    assert!(count < 12 || (between > 20 && given_up > 2), "{between} steps among ranges, {given_up} rounds given up");
}

/// Whoever reads a memtable last does not pay for giving its memory back.
#[test]
fn a_flushed_memtable_goes_with_the_flushes_and_not_with_its_last_reader() {
    let mut world = World::new(1);
    let mut txn = world.db.begin().unwrap();
    world.write_into(&mut txn, WriteKind::Put, &[(1, 1), (2, 2)]);
    txn.commit().unwrap();
    let store = Arc::clone(&world.db.inner.store);
    let memtable = Arc::downgrade(&store.view().trees.values().last().unwrap().tree.active);
    let reader = world.db.snapshot().unwrap();
    world.db.flush().unwrap();
    assert!(memtable.upgrade().is_some());
    assert!(!store.has_to_bury(), "it is read");
    drop(reader);
    assert!(memtable.upgrade().is_some(), "the reader has not freed it");
    assert!(store.has_to_bury());
    world.db.flush().unwrap();
    assert!(memtable.upgrade().is_none());
    assert!(!store.has_to_bury());
}

/// Whoever reads a merged run last does not pay for removing its file, where there is somebody else to do that.
#[test]
fn a_merged_run_goes_with_the_merges_and_not_with_its_last_reader() {
    for attended in [true, false] {
        let mut world = World::new(1);
        let store = Arc::clone(&world.db.inner.store);
        store.calls.lock().attended = attended;
        let mut write = |rows: &[(i64, i64)]| {
            let mut txn = world.db.begin().unwrap();
            world.write_into(&mut txn, WriteKind::Put, rows);
            txn.commit().unwrap();
            world.db.flush().unwrap();
        };
        write(&[(1, 1), (3, 3)]);
        let run = store.view().trees.values().last().unwrap().tree.runs().next().unwrap().id();
        let path = crate::run::file_path(&store.dir, run);
        let is_there = || store.io.exists(&path).unwrap().is_some();
        write(&[(2, 2)]);
        let reader = world.db.snapshot().unwrap();
        world.db.compact(None).unwrap();
        assert!(is_there() && !store.has_to_bury(), "it is read");
        drop(reader);
        assert_eq!((is_there(), store.has_to_bury()), (attended, attended));
        store.bury();
        assert!(!is_there() && !store.has_to_bury());
    }
}
