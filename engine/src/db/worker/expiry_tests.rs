/*!
Random histories of a table whose rows expire, against a model: a clock that is moved forward and back, one step of a merge at a time,
loads, deleted ranges, reopenings, and other times to live. Of each key the model knows the newest version only: an older one must
never be seen, whatever the clock does.
*/

use super::*;
use crate::db::{Db, Expectation, OnConflict, Options, ScanRequest, Snapshot, WriteKind};
use crate::io::sim::SimDisk;
use crate::key::{Key, KeyRange, KeySchema};
use crate::types::{Attributes, ColumnType, NewColumn, NewTable, NewTtl, TableDef, Value};
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::Int64Type;
use std::ops::Bound;

const KEYS: i64 = 400;
const MINUTE: i64 = 60_000_000;

/// The newest version of a row.
#[derive(Debug, Clone, Copy)]
struct Version {
    /// `None` for a row that never expires.
    at: Option<i64>,
    value: i64,
    /// It had expired at some time, so that a merge may have removed it.
    may_be_gone: bool,
}

type Rows = BTreeMap<i64, Version>;

struct World {
    what: String,
    random: crate::io::random::Random,
    disk: SimDisk,
    db: Db,
    table: Arc<TableDef>,
    rows: Rows,
    values: i64,
    ttl: i64,
    /// The latest that this process has seen, in whole minutes; moments lie between minutes, so that nothing depends on less.
    clock: i64,
    /// Where the disk's clock is.
    disk_clock: i64,
    snapshot: Option<(Snapshot, BTreeMap<i64, i64>)>,
    seen: (u64, u64),
}

fn options(disk: &SimDisk) -> Options {
    Options {
        dir: Some("/expiry".into()),
        io: Some(disk.io()),
        background: false,
        run_bytes: 2 << 10,
        memtable_bytes: 1 << 20,
        memory_bytes: 64 << 20,
        ..Options::memory()
    }
}

impl World {
    fn new(seed: u64) -> World {
        let disk = SimDisk::new(seed);
        let db = Db::open(options(&disk)).unwrap();
        let column =
            |name: &str, ty| NewColumn { name: name.to_owned(), ty, nullable: true, attributes: Attributes::new() };
        // Every third time the moment is in the key: then each version of a key has the same one.
        let in_key = seed.is_multiple_of(3);
        let columns =
            vec![column("k", ColumnType::Int64), column("at", ColumnType::TimestampTz), column("v", ColumnType::Int64)];
        let key = if in_key { vec!["at".to_owned(), "k".to_owned()] } else { vec!["k".to_owned()] };
        let ttl = Some(NewTtl { column: "at".to_owned(), micros: 60 * MINUTE });
        let mut txn = db.begin().unwrap();
        let new = NewTable { name: "t".to_owned(), columns, key, ttl, ..NewTable::default() };
        let table = txn.create_table(new).unwrap();
        txn.commit().unwrap();
        let clock = disk.io().unix_micros() / MINUTE * MINUTE;
        World {
            what: format!("seed {seed}"),
            random: crate::io::random::Random::new(seed),
            disk,
            db,
            table,
            rows: Rows::new(),
            values: 0,
            ttl: 60 * MINUTE,
            clock,
            disk_clock: clock,
            snapshot: None,
            seen: (0, 0),
        }
    }

    fn in_key(&self) -> bool {
        self.table.key.len() > 1
    }

    fn is_live(&self, version: &Version) -> bool {
        version.at.is_none_or(|at| at >= self.clock - self.ttl)
    }

    /// Notes what merges may remove from now on.
    fn age(&mut self) {
        let cutoff = self.clock - self.ttl;
        for version in self.rows.values_mut() {
            version.may_be_gone |= version.at.is_some_and(|at| at < cutoff);
        }
    }

    fn below(&mut self, n: i64) -> i64 {
        i64::try_from(self.random.below(n.cast_unsigned())).unwrap()
    }

    /// A moment from a while ago to a while ahead; where it is in the key, each key has its own.
    fn moment(&mut self, key: i64) -> Option<i64> {
        if self.in_key() {
            return Some(1_767_225_600_000_000 + key * 7 * MINUTE + MINUTE / 2);
        }
        match self.below(12) {
            0 => None,
            _ => Some(self.clock + (self.below(240) - 120) * MINUTE + MINUTE / 2),
        }
    }

    fn fresh(&mut self, most: i64) -> Vec<(i64, Version)> {
        let (first, count, stride) = (self.below(KEYS), 1 + self.below(most), 1 + self.below(3));
        let keys = (0..count).map(|n| first + n * stride).filter(|key| *key < KEYS);
        let mut rows = Vec::new();
        for key in keys {
            self.values += 1;
            rows.push((key, Version { at: self.moment(key), value: self.values, may_be_gone: false }));
        }
        rows
    }

    fn batch(&self, rows: &[(i64, Version)]) -> RecordBatch {
        let keys = Int64Array::from_iter_values(rows.iter().map(|row| row.0));
        let moments = TimestampMicrosecondArray::from_iter(rows.iter().map(|row| row.1.at)).with_timezone("UTC");
        let values = Int64Array::from_iter_values(rows.iter().map(|row| row.1.value));
        let columns: Vec<ArrayRef> = vec![Arc::new(keys), Arc::new(moments), Arc::new(values)];
        RecordBatch::try_new(self.table.projected_schema(&self.table.column_ids()).unwrap(), columns).unwrap()
    }

    fn key(&mut self, key: i64) -> Key {
        let values = match self.in_key() {
            true => vec![Value::Int(self.moment(key).unwrap()), Value::Int(key)],
            false => vec![Value::Int(key)],
        };
        KeySchema::of(&self.table).unwrap().encode(&values).unwrap()
    }

    fn write(&mut self) {
        let rows = self.fresh(40);
        let mut txn = self.db.begin().unwrap();
        let (kind, columns) = match self.below(4) {
            0 => (WriteKind::Delete, self.table.column_ids()),
            _ => (WriteKind::Put, self.table.column_ids()),
        };
        txn.write(&self.table, kind, &columns, &self.batch(&rows), Expectation::None).unwrap();
        txn.commit().unwrap();
        for (key, version) in rows {
            match kind {
                WriteKind::Put => self.rows.insert(key, version),
                WriteKind::Delete => self.rows.remove(&key),
            };
        }
        self.age();
    }

    /// One row where none may be.
    fn insert(&mut self) {
        let rows = self.fresh(1);
        let there = self.rows.get(&rows[0].0).is_some_and(|version| self.is_live(version));
        let mut txn = self.db.begin().unwrap();
        let batch = self.batch(&rows);
        txn.write(&self.table, WriteKind::Put, &self.table.column_ids(), &batch, Expectation::Absent).unwrap();
        match txn.commit() {
            Ok(_) => {
                assert!(!there, "{}: row {} was there", self.what, rows[0].0);
                self.rows.extend(rows);
                self.age();
            }
            Err(error) => assert!(there && error.kind() == ErrorKind::DuplicateKey, "{}: {error}", self.what),
        }
    }

    fn load(&mut self) {
        let rows = self.fresh(200);
        let rule = if self.below(2) == 0 { OnConflict::Skip } else { OnConflict::Replace };
        let mut txn = self.db.begin().unwrap();
        let mut ingest = txn.ingest(&self.table, rule, 1 << 20).unwrap();
        let batch = self.batch(&rows);
        ingest.write(&self.table.column_ids(), &batch).unwrap();
        ingest.finish().unwrap();
        txn.commit().unwrap();
        for (key, version) in rows {
            let stays = rule == OnConflict::Skip && self.rows.get(&key).is_some_and(|there| self.is_live(there));
            if !stays {
                self.rows.insert(key, version);
            }
        }
        self.age();
    }

    fn delete_range(&mut self) {
        let from = self.below(KEYS);
        let to = from + 1 + self.below(60);
        let range = KeyRange { start: Bound::Included(self.key(from)), end: Bound::Excluded(self.key(to)) };
        let mut txn = self.db.begin().unwrap();
        txn.delete_range(&self.table, &range).unwrap();
        txn.commit().unwrap();
        self.rows.retain(|key, _| *key < from || *key >= to);
    }

    fn move_clock(&mut self) {
        let by = (self.below(90) - 25) * MINUTE;
        self.disk.jump_clock(by);
        self.disk_clock += by;
        // Which the database sees with the look that follows.
        self.clock = self.clock.max(self.disk_clock);
        self.age();
    }

    fn change_ttl(&mut self) {
        self.ttl = (20 + self.below(100)) * MINUTE;
        let mut txn = self.db.begin().unwrap();
        let ttl = Some(NewTtl { column: "at".to_owned(), micros: self.ttl });
        self.table = txn.set_ttl(self.table.id, ttl).unwrap();
        txn.commit().unwrap();
        self.age();
    }

    fn reopen(&mut self) {
        self.snapshot = None;
        let stats = self.db.stats().unwrap();
        self.seen = (self.seen.0 + stats.expired_rows, self.seen.1 + stats.expired_runs);
        let other = Db::open(options(&SimDisk::new(1))).unwrap();
        std::mem::replace(&mut self.db, other).close().unwrap();
        self.db = Db::open(options(&self.disk)).unwrap();
        self.clock = self.disk_clock;
        self.age();
    }

    fn step(&mut self) -> bool {
        let store = &self.db.inner.store;
        let mut ages = Ages::default();
        if self.random.chance(1, 4) {
            ages.look(store, Duration::ZERO);
        }
        let _one = store.compacting.lock();
        merge_some(store, self.table.storage, &ages).unwrap_or_else(|error| panic!("{}: {error}", self.what))
    }

    /// Keys with their values as a scan gives them.
    fn scan(&self, snapshot: &Snapshot) -> BTreeMap<i64, i64> {
        let columns = self.table.column_ids();
        let request = ScanRequest { projection: vec![columns[0], columns[2]], ..ScanRequest::default() };
        let mut seen = BTreeMap::new();
        for batch in snapshot.scan(&self.table, request).unwrap() {
            let batch = batch.unwrap_or_else(|error| panic!("{}: {error}", self.what));
            let ints = |column: usize| batch.column(column).as_primitive::<Int64Type>().clone();
            let (keys, values) = (ints(0), ints(1));
            for (key, value) in keys.values().iter().zip(values.values()) {
                assert!(seen.insert(*key, *value).is_none(), "{}: row {key} comes twice", self.what);
            }
        }
        seen
    }

    fn look(&mut self, after: &str) {
        let snapshot = self.db.snapshot().unwrap();
        let seen = self.scan(&snapshot);
        let columns = self.table.column_ids();
        for number in 0..KEYS {
            let found = seen.get(&number).copied();
            let version = self.rows.get(&number).copied().filter(|version| self.is_live(version));
            let right = match version {
                None => found.is_none(),
                Some(version) => found == Some(version.value) || (found.is_none() && version.may_be_gone),
            };
            assert!(right, "{}, {after}: row {number} is {found:?}, and {version:?} is right", self.what);
            if version.is_some() && found.is_none() {
                // It would be seen if it were there.
                self.rows.remove(&number);
            }
        }
        let (keys, numbers): (Vec<Key>, Vec<i64>) =
            (0..6).map(|_| self.below(KEYS)).collect::<Vec<_>>().into_iter().map(|n| (self.key(n), n)).unzip();
        let (_, which) = snapshot.multi_get(&self.table, &keys, &columns[2..]).unwrap();
        let mut row = crate::db::Row::default();
        for (place, number) in numbers.iter().enumerate() {
            let found = snapshot.get(&self.table, &keys[place], &columns[2..], &mut row).unwrap();
            assert_eq!(found, which.contains(&u32::try_from(place).unwrap()), "{}, {after}", self.what);
            assert_eq!(
                found.then_some(row.values.as_slice()),
                seen.get(number).map(|v| [Value::Int(*v)]).as_ref().map(|v| &v[..])
            );
        }
        if let Some((snapshot, before)) = &self.snapshot {
            assert_eq!(self.scan(snapshot), *before, "{}, {after}: a snapshot", self.what);
        }
    }

    fn turn(&mut self) {
        let after = match self.below(24) {
            0..5 => {
                self.write();
                "a commit"
            }
            5..7 => {
                self.insert();
                "an insert"
            }
            7..9 => {
                self.load();
                "a load"
            }
            9 => {
                self.delete_range();
                "a deleted range"
            }
            10..13 => {
                self.move_clock();
                "a move of the clock"
            }
            13..16 => {
                self.db.flush().unwrap();
                "a flush"
            }
            16..20 => {
                self.step();
                "a step"
            }
            20 => {
                let snapshot = self.db.snapshot().unwrap();
                let rows = self.scan(&snapshot);
                self.snapshot = Some((snapshot, rows));
                "a snapshot"
            }
            21 => {
                self.change_ttl();
                "another time to live"
            }
            22 => {
                self.reopen();
                "reopened"
            }
            _ => {
                let mut steps = 0;
                while self.step() {
                    steps += 1;
                    assert!(steps < 1000, "{}: merges do not come to an end", self.what);
                    self.look("one of many steps");
                }
                "many steps"
            }
        };
        self.look(after);
    }
}

#[test]
fn no_clock_and_no_merge_shows_an_older_version_of_a_row() {
    let number = |name: &str, or: u64| std::env::var(name).ok().and_then(|it| it.parse().ok()).unwrap_or(or);
    let (first, count) = (number("OMENDB_STEPS_SEED", 1), number("OMENDB_STEPS_SEEDS", 12));
    let (mut rows, mut runs) = (0, 0);
    for seed in first..first + count {
        let mut world = World::new(seed);
        for turn in 0..300 {
            world.what = format!("seed {seed}, turn {turn}");
            world.turn();
            if turn % 100 == 99 {
                let report = world.db.check().unwrap();
                assert!(report.problems.is_empty(), "seed {seed}: {:?}", report.problems);
            }
        }
        world.db.compact(None).unwrap();
        world.look("compacted");
        let live = world.rows.values().filter(|version| world.is_live(version)).count();
        assert_eq!(world.db.table_stats(&world.table).unwrap().rows, live as u64, "seed {seed}");
        world.reopen();
        rows += world.seen.0;
        runs += world.seen.1;
    }
    assert!(count < 12 || (rows > 1000 && runs > 10), "{rows} rows and {runs} runs have expired");
}
