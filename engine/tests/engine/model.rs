/*!
Random operations against the engine and against a plain map: they must agree, at every moment, through flushes, merges
and reopening, for all shapes of keys, in memory and on disk.
*/

use crate::support::*;
use omendb_engine::column::value_at;
use omendb_engine::db::{Db, Expectation, OnConflict, Options, Row, ScanRequest, Snapshot, WriteKind};
use omendb_engine::key::{Key, KeyRange};
use omendb_engine::run::{ColumnPredicate, CompareOp, Test};
use omendb_engine::types::{ColumnId, ColumnType, FilterChoice, LayoutChoice, NewTable, RunChoices, TableDef, Value};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

type Model = BTreeMap<Key, Vec<Value>>;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    Int,
    Series,
    Text,
    Float,
    Hidden,
}

const SHAPES: [Shape; 5] = [Shape::Int, Shape::Series, Shape::Text, Shape::Float, Shape::Hidden];

impl Shape {
    fn columns(self) -> (Vec<(&'static str, ColumnType)>, Vec<&'static str>) {
        let payload = [("a", ColumnType::Int64), ("b", ColumnType::Text)];
        let (mut columns, key) = match self {
            Shape::Int => (vec![("k", ColumnType::Int64)], vec!["k"]),
            Shape::Series => (vec![("s", ColumnType::Int32), ("t", ColumnType::Timestamp)], vec!["s", "t"]),
            Shape::Text => (vec![("n", ColumnType::Text), ("z", ColumnType::Boolean)], vec!["n", "z"]),
            Shape::Float => (vec![("f", ColumnType::Float64)], vec!["f"]),
            Shape::Hidden => (vec![], vec![]),
        };
        columns.extend(payload);
        (columns, key)
    }

    fn key(self, n: u64) -> Vec<Value> {
        match self {
            Shape::Int => vec![Value::Int(n as i64 * 7 - 900)],
            Shape::Series => vec![Value::Int((n % 5) as i64), Value::Int((n / 5) as i64 * 1_000_000)],
            Shape::Text => vec![
                Value::Text("x\0".repeat((n % 3) as usize) + &format!("{}", n / 2)),
                Value::Boolean(n.is_multiple_of(2)),
            ],
            Shape::Float => vec![Value::Float64(n as f64 / 8.0 - 20.0)],
            Shape::Hidden => vec![Value::Int(n as i64 + 1)],
        }
    }
}

struct World {
    db: Option<Db>,
    options: Options,
    table: Arc<TableDef>,
    shape: Shape,
    model: Model,
    /// Older snapshots with what they must show.
    kept: Vec<(Snapshot, Model)>,
    keys: u64,
}

impl World {
    fn new(options: Options, shape: Shape, layout: LayoutChoice, keys: u64) -> World {
        let db = Db::open(options.clone()).unwrap();
        let (columns, key) = shape.columns();
        let runs = RunChoices { layout, ..RunChoices::default() };
        let mut txn = db.begin().unwrap();
        let table = txn.create_table(NewTable { runs, ..new_table("t", &columns, &key) }).unwrap();
        txn.commit().unwrap();
        World { db: Some(db), options, table, shape, model: Model::new(), kept: Vec::new(), keys }
    }

    fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    fn columns(&self) -> Vec<ColumnId> {
        let mut columns = self.table.column_ids();
        if self.shape == Shape::Hidden {
            columns.insert(0, ColumnId::ROW_ID);
        }
        columns
    }

    fn random_row(&self, random: &mut Random) -> (Key, Vec<Value>) {
        let mut row = self.shape.key(random.below(self.keys));
        let key = key(&self.table, &row);
        row.push(if random.below(9) == 0 { Value::Null } else { Value::Int(random.below(1000) as i64) });
        row.push(match random.below(4) {
            0 => Value::Null,
            1 => Value::Text("long text that does not fit a view ".repeat(random.below(8) as usize)),
            _ => Value::Text(format!("t{}", random.below(50))),
        });
        (key, row)
    }

    fn put(&mut self, random: &mut Random) {
        let rows: BTreeMap<Key, Vec<Value>> = (0..=random.below(40)).map(|_| self.random_row(random)).collect();
        let mut shuffled: Vec<Vec<Value>> = rows.values().cloned().collect();
        for i in (1..shuffled.len()).rev() {
            shuffled.swap(i, random.below(i as u64 + 1) as usize);
        }
        let columns = self.columns();
        let mut txn = self.db().begin().unwrap();
        txn.write(&self.table, WriteKind::Put, &columns, &batch(&self.table, &columns, &shuffled), Expectation::None)
            .unwrap();
        if random.below(10) == 0 {
            return; // not committed
        }
        txn.commit().unwrap();
        self.model.extend(rows);
    }

    fn insert_new(&mut self, random: &mut Random) {
        let (key, row) = self.random_row(random);
        let columns = self.columns();
        let mut txn = self.db().begin().unwrap();
        let done = txn
            .write(
                &self.table,
                WriteKind::Put,
                &columns,
                &batch(&self.table, &columns, std::slice::from_ref(&row)),
                Expectation::Absent,
            )
            .and_then(|()| txn.commit());
        assert_eq!(done.is_ok(), !self.model.contains_key(&key), "{done:?}");
        self.model.entry(key).or_insert(row);
    }

    fn delete(&mut self, random: &mut Random) {
        let from = random.below(self.keys);
        let numbers: Vec<u64> = (from..(from + random.below(30) + 1).min(self.keys)).collect();
        let keys: Vec<Vec<Value>> = numbers.iter().map(|n| self.shape.key(*n)).collect();
        delete(self.db(), &self.table, &keys);
        keys.iter().for_each(|values| {
            self.model.remove(&key(&self.table, values));
        });
    }

    /// A range goes, now and then with rows of the same transaction before and behind.
    fn delete_range(&mut self, random: &mut Random) {
        let mut txn = self.db().begin().unwrap();
        let columns = self.columns();
        let mut model = self.model.clone();
        for _ in 0..=random.below(2) {
            let rows: Vec<(Key, Vec<Value>)> =
                (0..random.below(3) * random.below(20)).map(|_| self.random_row(random)).collect();
            let values: Vec<Vec<Value>> = rows.iter().map(|(_, row)| row.clone()).collect();
            let put = batch(&self.table, &columns, &values);
            txn.write(&self.table, WriteKind::Put, &columns, &put, Expectation::None).unwrap();
            model.extend(rows);
            // Mostly small ones: else the table is empty all the time.
            let mut range = self.random_range(random);
            if random.below(4) > 0 {
                let from = random.below(self.keys);
                let to = (from + random.below(60)).min(self.keys - 1);
                range.start = Bound::Included(key(&self.table, &self.shape.key(from)));
                range.end = Bound::Excluded(key(&self.table, &self.shape.key(to)));
            }
            txn.delete_range(&self.table, &range).unwrap();
            model.retain(|key, _| !range.contains(key.as_ref()));
        }
        let (key, row) = self.random_row(random);
        if random.below(2) == 0 {
            let put = batch(&self.table, &columns, std::slice::from_ref(&row));
            txn.write(&self.table, WriteKind::Put, &columns, &put, Expectation::None).unwrap();
            model.insert(key, row);
        }
        self.check_scan(&txn.snapshot(), &model, random);
        self.check_gets(&txn.snapshot(), &model, random);
        if random.below(10) > 0 {
            txn.commit().unwrap();
            self.model = model;
        }
    }

    fn load(&mut self, random: &mut Random) {
        let rows: Vec<(Key, Vec<Value>)> = (0..random.below(600)).map(|_| self.random_row(random)).collect();
        let on_conflict = [OnConflict::Error, OnConflict::Skip, OnConflict::Replace][random.below(3) as usize];
        let columns = self.columns();
        let mut txn = self.db().begin().unwrap();
        let mut ingest = txn.ingest(&self.table, on_conflict, 1 << 20).unwrap();
        for chunk in rows.chunks(97) {
            let chunk: Vec<Vec<Value>> = chunk.iter().map(|(_, row)| row.clone()).collect();
            ingest.write(&columns, &batch(&self.table, &columns, &chunk)).unwrap();
        }
        let report = ingest.finish();
        let mut expect = self.model.clone();
        let mut conflicts = 0;
        for (key, row) in rows.iter().cloned() {
            match on_conflict {
                OnConflict::Skip if expect.contains_key(&key) => conflicts += 1,
                _ => conflicts += u64::from(expect.insert(key, row).is_some()),
            }
        }
        if on_conflict == OnConflict::Error && conflicts > 0 {
            assert_eq!(report.unwrap_err().kind(), omendb_engine::ErrorKind::DuplicateKey);
            assert!(txn.commit().is_err());
            return;
        }
        let report = report.unwrap();
        assert_eq!(report.rows_read, rows.len() as u64);
        assert_eq!(report.rows_skipped + report.rows_replaced, conflicts, "{on_conflict:?} {report:?}");
        txn.commit().unwrap();
        self.model = expect;
    }

    fn random_range(&self, random: &mut Random) -> KeyRange {
        let bound = |random: &mut Random, n: u64| match random.below(5) {
            0 => Bound::Unbounded,
            1 | 2 => Bound::Included(key(&self.table, &self.shape.key(n))),
            _ => Bound::Excluded(key(&self.table, &self.shape.key(n))),
        };
        let (a, b) = (random.below(self.keys), random.below(self.keys));
        KeyRange { start: bound(random, a), end: bound(random, b) }
    }

    fn check_scan(&self, snapshot: &Snapshot, model: &Model, random: &mut Random) {
        let mut ranges: Vec<KeyRange> = Vec::new();
        if random.below(3) > 0 {
            let range = self.random_range(random);
            ranges.push(range);
        }
        let reverse = random.below(2) == 0;
        let limit = (random.below(4) == 0).then(|| random.below(50) as usize);
        let columns = self.columns();
        let mut expect: Vec<Vec<Value>> = model
            .iter()
            .filter(|(key, _)| ranges.iter().all(|r| r.contains(key.as_ref())))
            .map(|(_, row)| row.clone())
            .collect();
        if reverse {
            expect.reverse();
        }
        expect.truncate(limit.unwrap_or(usize::MAX));
        let request = ScanRequest { ranges, projection: columns, reverse, limit, ..ScanRequest::default() };
        let got = scan(snapshot, &self.table, request.clone());
        assert_eq!(got.len(), expect.len(), "{:?} {request:?}", self.shape);
        assert_eq!(got, expect, "{:?} {request:?}", self.shape);
        // Counting needs no columns.
        let counted: usize = snapshot
            .scan(&self.table, ScanRequest { projection: vec![], ..request })
            .unwrap()
            .map(|batch| batch.unwrap().num_rows())
            .sum();
        assert_eq!(counted, expect.len());
    }

    /// Zone maps may leave out rows that fail, and nothing else.
    fn check_predicate(&self, snapshot: &Snapshot, model: &Model, random: &mut Random) {
        let a = self.table.column("a").unwrap().id;
        let least = random.below(1000) as i64;
        let predicates = vec![ColumnPredicate { column: a, test: Test::Compare(CompareOp::GtEq, Value::Int(least)) }];
        let columns = self.columns();
        let place = columns.iter().position(|id| *id == a).unwrap();
        let passes = |row: &&Vec<Value>| matches!(row[place], Value::Int(v) if v >= least);
        let request = ScanRequest { projection: columns, predicates, ..ScanRequest::default() };
        let got = scan(snapshot, &self.table, request);
        let got: Vec<&Vec<Value>> = got.iter().filter(passes).collect();
        let expect: Vec<&Vec<Value>> = model.values().filter(passes).collect();
        assert_eq!(got, expect);
    }

    fn check_gets(&self, snapshot: &Snapshot, model: &Model, random: &mut Random) {
        let columns = self.columns();
        let keys: Vec<Key> = (0..20).map(|_| key(&self.table, &self.shape.key(random.below(self.keys + 5)))).collect();
        let mut row = Row::default();
        for key in &keys {
            let found = snapshot.get(&self.table, key, &columns, &mut row).unwrap();
            assert_eq!(found.then_some(&row.values), model.get(key));
        }
        let (rows, which) = snapshot.multi_get(&self.table, &keys, &columns).unwrap();
        let expect: Vec<u32> = (0..20u32).filter(|i| model.contains_key(&keys[*i as usize])).collect();
        assert_eq!(which, expect);
        assert_eq!(rows.num_rows(), expect.len());
        for (at, which) in which.iter().enumerate() {
            let value = |(place, id): (usize, &ColumnId)| {
                value_at(rows.column(place).as_ref(), at, type_of(&self.table, *id)).unwrap()
            };
            let row: Vec<Value> = columns.iter().enumerate().map(value).collect();
            assert_eq!(Some(&row), model.get(&keys[*which as usize]));
        }
    }

    fn check_split(&self, snapshot: &Snapshot, random: &mut Random) {
        let range = self.random_range(random);
        let parts = snapshot.split(&self.table, &range, 1 + random.below(6) as usize).unwrap();
        for key in self.model.keys() {
            let inside = parts.iter().filter(|part| part.contains(key.as_ref())).count();
            assert_eq!(inside, usize::from(range.contains(key.as_ref())), "{range:?} {parts:?}");
        }
    }

    fn check(&self, random: &mut Random) {
        let snapshot = self.db().snapshot().unwrap();
        self.check_scan(&snapshot, &self.model, random);
        self.check_predicate(&snapshot, &self.model, random);
        self.check_gets(&snapshot, &self.model, random);
        self.check_split(&snapshot, random);
        for (snapshot, model) in &self.kept {
            self.check_scan(snapshot, model, random);
            self.check_gets(snapshot, model, random);
        }
    }

    fn reopen(&mut self) {
        self.kept.clear();
        self.db.take().unwrap().close().unwrap();
        let db = Db::open(self.options.clone()).unwrap();
        let table = db.snapshot().unwrap().table("t").unwrap().unwrap();
        assert_eq!(table, self.table);
        self.db = Some(db);
    }

    fn step(&mut self, random: &mut Random) {
        match random.below(42) {
            0..=15 => self.put(random),
            16..=19 => self.insert_new(random),
            20..=25 => self.delete(random),
            26..=28 => self.load(random),
            40 | 41 => self.delete_range(random),
            29 => self.db().flush().unwrap(),
            30 => self.db().compact(Some(self.table.id)).unwrap(),
            31 => self.reopen(),
            32 => {
                let model = self.model.clone();
                self.kept.push((self.db().snapshot().unwrap(), model));
                if self.kept.len() > 3 {
                    self.kept.remove(0);
                }
            }
            _ => self.check(random),
        }
    }
}

fn run(options: Options, shape: Shape, seed: u64, steps: u64) {
    let mut random = Random(seed);
    let layout = [LayoutChoice::Auto, LayoutChoice::Row, LayoutChoice::Column][seed as usize % 3];
    let mut world = World::new(options, shape, layout, 700);
    for step in 0..steps {
        let before = random.0;
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.step(&mut random)));
        if let Err(panic) = done {
            eprintln!("shape {shape:?}, seed {seed}, step {step}, state {before}");
            std::panic::resume_unwind(panic);
        }
    }
    world.check(&mut random);
    world.reopen();
    world.check(&mut random);
    world.db().compact(None).unwrap();
    world.check(&mut random);
}

#[test]
fn the_engine_agrees_with_a_map_in_memory() {
    for shape in SHAPES {
        for seed in 0..3 {
            let io = omendb_engine::io::memory();
            let filter = [FilterChoice::Auto, FilterChoice::On][seed as usize % 2];
            run(Options { io: Some(io), filter, ..small() }, shape, seed * 31 + 5, 250);
        }
    }
}

#[test]
fn the_engine_agrees_with_a_map_on_disk() {
    for shape in [Shape::Series, Shape::Text, Shape::Hidden] {
        let dir = tempfile::tempdir().unwrap();
        run(Options { dir: Some(dir.path().join("db")), filter: FilterChoice::On, ..small() }, shape, 77, 120);
    }
}
