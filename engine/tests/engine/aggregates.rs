/*!
Aggregates and filters against the rows that they are about: random tables with memtables, runs of upper levels over a last level, deleted
ranges, tombstones and rows that expire; random ranges, groups and filters. What statistics answer, what is read and what is added up
here must agree, and a filter must let through what passes and nothing else.
*/

use crate::support::*;
use arrow::array::{ArrayRef, RecordBatch};
use omendb_engine::column::value_at;
use omendb_engine::db::{Aggregate, AggregateMetrics, AggregateRequest, Db, Options, ScanRequest, Snapshot};
use omendb_engine::io::sim::SimDisk;
use omendb_engine::key::{Key, KeyRange};
use omendb_engine::run::{ColumnPredicate, CompareOp, Test};
use omendb_engine::types::{ColumnType, NewTable, NewTtl, TableDef, Value};
use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::Arc;

const HOUR: i64 = 3_600_000_000;
const SERIES: u64 = 6;
const STEPS: u64 = 700;
const DECIMAL: ColumnType = ColumnType::Decimal { precision: 30, scale: 3 };

struct World {
    seed: u64,
    random: Random,
    disk: SimDisk,
    db: Db,
    table: Arc<TableDef>,
    /// Whether series are named by text.
    named: bool,
    /// Whether doubles may be NaN, infinite or −0.
    odd: bool,
}

impl World {
    fn new(seed: u64) -> World {
        let disk = SimDisk::new(seed);
        let options = Options {
            dir: Some("/aggregates".into()),
            io: Some(disk.io()),
            background: false,
            memtable_bytes: 4 << 20,
            run_bytes: [64 << 10, 1 << 20][(seed % 2) as usize],
            memory_bytes: 64 << 20,
            ..Options::memory()
        };
        let db = Db::open(options).unwrap();
        let named = seed.is_multiple_of(3);
        let series = if named { ColumnType::Text } else { ColumnType::Int32 };
        let columns = [
            ("series", series),
            ("step", ColumnType::Int64),
            ("int", ColumnType::Int64),
            ("small", ColumnType::Int16),
            ("double", ColumnType::Float64),
            ("real", ColumnType::Float32),
            ("decimal", DECIMAL),
            ("text", ColumnType::Text),
            ("at", ColumnType::Timestamp),
            ("pad", ColumnType::Uuid),
        ];
        let expires = seed % 4 == 1;
        let ttl = expires.then(|| NewTtl { column: "at".to_owned(), micros: HOUR });
        let mut txn = db.begin().unwrap();
        let table = txn.create_table(NewTable { ttl, ..new_table("t", &columns, &["series", "step"]) }).unwrap();
        txn.commit().unwrap();
        World { seed, random: Random(seed), disk, db, table, named, odd: seed.is_multiple_of(2) }
    }

    fn series(&self, series: u64) -> Value {
        match self.named {
            true => Value::Text(format!("series {series}")),
            false => Value::Int(series as i64 - 2),
        }
    }

    fn key(&self, series: u64, step: u64) -> Vec<Value> {
        vec![self.series(series), Value::Int(step as i64)]
    }

    fn row(&mut self, series: u64, step: u64) -> Vec<Value> {
        let mut row = self.key(series, step);
        let random = &mut self.random;
        let small = random.below(200) as i64 - 100;
        let double = match random.below(60) {
            0 if self.odd => [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0][random.below(4) as usize],
            _ => (step as i64 * 3 + small) as f64 / 4.0,
        };
        let text = match random.below(10) {
            0 => format!("{}{small}", "a long text that statistics cut ".repeat(4)),
            _ => format!("t{small}"),
        };
        let int =
            if random.below(100) == 0 { [i64::MAX, i64::MIN][random.below(2) as usize] } else { small + step as i64 };
        let at = self.disk.io().unix_micros() - 2 * HOUR + (step * 3) as i64 * HOUR / STEPS as i64 + 30_000_000;
        let mut pad = [0; 16];
        pad[..8].copy_from_slice(&random.next().to_le_bytes());
        let values = [
            Value::Int(int),
            Value::Int(small),
            Value::Float64(double),
            Value::Float32((small as f32) / 2.0),
            Value::Decimal(i128::from(small) * 10i128.pow(20)),
            Value::Text(text),
            Value::Int(at),
            Value::Uuid(pad),
        ];
        let rarely_null = |value: Value| if random.below(25) == 0 { Value::Null } else { value };
        row.extend(values.map(rarely_null));
        row
    }

    /// Some rows of one series one after another, or here and there.
    fn keys(&mut self) -> Vec<(u64, u64)> {
        let (series, first) = (self.random.below(SERIES), self.random.below(STEPS));
        let count = 1 + self.random.below(400);
        match self.random.below(3) {
            0 => (0..count / 8).map(|_| (self.random.below(SERIES), self.random.below(STEPS))).collect(),
            _ => (first..STEPS.min(first + count)).map(|step| (series, step)).collect(),
        }
    }

    fn put(&mut self) {
        let mut keys = self.keys();
        keys.sort_unstable();
        keys.dedup();
        let rows: Vec<Vec<Value>> = keys.into_iter().map(|(series, step)| self.row(series, step)).collect();
        put(&self.db, &self.table, &rows);
    }

    fn delete(&mut self) {
        let mut keys = self.keys();
        keys.truncate(1 + self.random.below(60) as usize);
        keys.sort_unstable();
        keys.dedup();
        let keys: Vec<Vec<Value>> = keys.into_iter().map(|(series, step)| self.key(series, step)).collect();
        delete(&self.db, &self.table, &keys);
    }

    fn delete_range(&mut self) {
        let (series, first) = (self.random.below(SERIES), self.random.below(STEPS));
        let last = first + self.random.below(300);
        let bound = |step| Bound::Included(key(&self.table, &self.key(series, step)));
        let range = KeyRange { start: bound(first), end: bound(last) };
        let mut txn = self.db.begin().unwrap();
        txn.delete_range(&self.table, &range).unwrap();
        txn.commit().unwrap();
    }

    fn step(&mut self) {
        match self.random.below(12) {
            0..=5 => self.put(),
            6 => self.delete(),
            7 => self.delete_range(),
            8 | 9 => self.db.flush().unwrap(),
            10 => self.db.compact(None).unwrap(),
            _ => self.disk.jump_clock(HOUR / 20),
        }
    }

    fn bound(&mut self) -> Bound<Key> {
        let (series, step) = (self.random.below(SERIES), self.random.below(STEPS));
        let key = key(&self.table, &self.key(series, step));
        match self.random.below(4) {
            0 => Bound::Unbounded,
            1 => Bound::Excluded(key),
            _ => Bound::Included(key),
        }
    }

    fn ranges(&mut self) -> Vec<KeyRange> {
        match self.random.below(3) {
            0 => Vec::new(),
            1 => vec![KeyRange { start: self.bound(), end: self.bound() }],
            _ => {
                let places: Vec<_> = (0..4).map(|_| (self.random.below(SERIES), self.random.below(STEPS))).collect();
                let edge = |(series, step): &(u64, u64)| key(&self.table, &self.key(*series, *step));
                let mut edges: Vec<Key> = places.iter().map(edge).collect();
                edges.sort();
                edges.dedup();
                let range = |pair: &[Key]| KeyRange {
                    start: Bound::Included(pair[0].clone()),
                    end: Bound::Excluded(pair[1].clone()),
                };
                edges.chunks_exact(2).map(range).collect()
            }
        }
    }

    fn filter(&mut self) -> Vec<ColumnPredicate> {
        let count = [0, 0, 1, 1, 2][self.random.below(5) as usize];
        (0..count).map(|_| self.predicate()).collect()
    }

    fn predicate(&mut self) -> ColumnPredicate {
        let random = &mut self.random;
        let op =
            [CompareOp::Eq, CompareOp::Lt, CompareOp::LtEq, CompareOp::Gt, CompareOp::GtEq][random.below(5) as usize];
        let step = random.below(STEPS) as i64;
        let (name, constant) = match random.below(6) {
            0 => ("step", Value::Int(step)),
            1 => ("int", Value::Int(step)),
            2 => ("double", Value::Float64(step as f64 * 0.75 + 0.25)),
            3 => ("text", Value::Text(format!("t{}", random.below(90)))),
            4 => ("small", Value::Int(random.below(90) as i64)),
            _ => ("decimal", Value::Decimal(i128::from(step) * 10i128.pow(19))),
        };
        let test = match random.below(8) {
            0 => Test::IsNull,
            1 => Test::IsNotNull,
            2 => Test::In(vec![constant.clone(), constant]),
            3 => Test::NullOrAtLeast(constant),
            _ => Test::Compare(op, constant),
        };
        ColumnPredicate { column: self.table.column(name).unwrap().id, test }
    }

    /// Compares answers; gives what statistics answered and what they left out.
    fn check(&mut self) -> (u64, u64) {
        let snapshot = self.db.snapshot().unwrap();
        let rows =
            scan(&snapshot, &self.table, ScanRequest { projection: self.table.column_ids(), ..Default::default() });
        let (ranges, filter) = (self.ranges(), self.filter());
        let places: Vec<usize> =
            filter.iter().map(|p| self.table.columns.iter().position(|c| c.id == p.column).unwrap()).collect();
        let kept: Vec<&Vec<Value>> = rows
            .iter()
            .filter(|row| {
                let key = key(&self.table, &row[..2]);
                ranges.is_empty() || ranges.iter().any(|range| range.contains(key.as_ref()))
            })
            .filter(|row| filter.iter().zip(&places).all(|(p, place)| passes(&p.test, &row[*place])))
            .collect();
        self.check_filter(&snapshot, &ranges, &filter, &kept);
        self.check_firsts(&snapshot, &ranges, &filter, &kept);
        self.check_aggregates(&snapshot, ranges, filter, &kept)
    }

    /// Columns, by their places, of rows of ranges that pass a filter.
    fn request(&self, ranges: &[KeyRange], filter: &[ColumnPredicate], places: &[usize]) -> ScanRequest {
        ScanRequest {
            ranges: ranges.to_vec(),
            projection: places.iter().map(|place| self.table.columns[*place].id).collect(),
            filter: filter.to_vec(),
            ..Default::default()
        }
    }

    fn check_filter(
        &mut self,
        snapshot: &Snapshot,
        ranges: &[KeyRange],
        filter: &[ColumnPredicate],
        kept: &[&Vec<Value>],
    ) {
        let what = format!("seed {}: {ranges:?}, {filter:?}", self.seed);
        let places: Vec<usize> = (0..self.table.columns.len()).filter(|_| self.random.below(3) == 0).collect();
        let reverse = self.random.below(2) == 0;
        let limit = (self.random.below(3) == 0).then(|| self.random.below(200) as usize);
        let request = ScanRequest { reverse, limit, ..self.request(ranges, filter, &places) };
        let got = scan(snapshot, &self.table, request);
        let mut expected: Vec<Vec<Value>> =
            kept.iter().map(|row| places.iter().map(|place| row[*place].clone()).collect()).collect();
        if reverse {
            expected.reverse();
        }
        expected.truncate(limit.unwrap_or(usize::MAX));
        assert_eq!(got.len(), expected.len(), "{what}");
        for (got, expected) in got.iter().zip(&expected) {
            assert!(got.iter().zip(expected).all(|(a, b)| same(a, b)), "{what}: {got:?}, {expected:?}");
        }
    }

    /// The first or last rows of all series, of each key, or of all.
    fn check_firsts(&self, snapshot: &Snapshot, ranges: &[KeyRange], filter: &[ColumnPredicate], kept: &[&Vec<Value>]) {
        // Numbers of its own, so that the other checks have theirs.
        let mut random = Random(self.seed * 1_000_003 + kept.len() as u64);
        let places: Vec<usize> = (0..self.table.columns.len()).filter(|_| random.below(3) == 0).collect();
        let group = [1, 1, 1, 0, 2][random.below(5) as usize];
        let reverse = random.below(2) == 0;
        let limit = (random.below(3) == 0).then(|| random.below(8) as usize);
        let what = format!("seed {}: {group} columns, {reverse}, {ranges:?}, {filter:?}", self.seed);
        let request = ScanRequest { reverse, limit, ..self.request(ranges, filter, &places) };
        let mut rows: Vec<&Vec<Value>> = kept.to_vec();
        if reverse {
            rows.reverse();
        }
        let groups = rows.chunk_by(|a, b| a[..group] == b[..group]);
        let expected: Vec<&Vec<Value>> = groups.map(|rows| rows[0]).take(limit.unwrap_or(usize::MAX)).collect();
        let (mut row, mut firsts) = (0, snapshot.firsts(&self.table, request, group).unwrap());
        for batch in &mut firsts {
            let batch = batch.unwrap();
            assert!(batch.num_rows() > 0 && batch.num_columns() == places.len(), "{what}");
            for at in 0..batch.num_rows() {
                for (column, place) in batch.columns().iter().zip(&places) {
                    let value = value_at(column.as_ref(), at, self.table.columns[*place].ty).unwrap();
                    assert!(same(&value, &expected[row][*place]), "{what}: row {row}, {value:?}");
                }
                row += 1;
            }
        }
        assert_eq!(row, expected.len(), "{what}");
        assert!(firsts.metrics().rows >= row as u64, "{what}");
    }

    fn check_aggregates(
        &mut self,
        snapshot: &Snapshot,
        ranges: Vec<KeyRange>,
        filter: Vec<ColumnPredicate>,
        kept: &[&Vec<Value>],
    ) -> (u64, u64) {
        let group_columns = self.random.below(3) as usize;
        let mut aggregates = vec![Aggregate::Rows];
        for column in &self.table.columns {
            let sums = !matches!(column.ty, ColumnType::Text | ColumnType::Uuid);
            let all = [
                Aggregate::Count(column.id),
                Aggregate::Min(column.id),
                Aggregate::Max(column.id),
                Aggregate::Sum(column.id),
            ];
            let possible = all.into_iter().filter(|a| sums || !matches!(a, Aggregate::Sum(_)));
            // Long texts keep statistics from answering, so that they are asked for rarely.
            let often = if column.ty == ColumnType::Text { 12 } else { 3 };
            aggregates.extend(possible.filter(|_| self.random.below(often) == 0).collect::<Vec<_>>());
        }
        let expected = aggregated(&self.table, kept, group_columns, &aggregates);
        let mut counts = (0, 0);
        for statistics in [true, false] {
            let request = AggregateRequest {
                ranges: ranges.clone(),
                group_columns,
                aggregates: aggregates.clone(),
                filter: filter.clone(),
                statistics,
            };
            let what = format!("seed {}: {request:?}", self.seed);
            let (got, metrics) = run(snapshot, &self.table, &request);
            assert_eq!(got.len(), expected.len(), "{what}");
            for (got, expected) in got.iter().zip(&expected) {
                assert!(got.iter().zip(expected).all(|(a, b)| same(a, b)), "{what}:\n{got:?}\n{expected:?}");
            }
            if statistics {
                counts = (metrics.slices_answered, metrics.read.slices_pruned);
            } else {
                assert_eq!(metrics.slices_answered, 0, "{what}");
            }
        }
        counts
    }
}

fn run(snapshot: &Snapshot, table: &TableDef, request: &AggregateRequest) -> (Vec<Vec<Value>>, AggregateMetrics) {
    let mut types: Vec<ColumnType> = table.columns[..request.group_columns].iter().map(|column| column.ty).collect();
    types.extend(request.aggregates.iter().map(|aggregate| match aggregate {
        Aggregate::Rows | Aggregate::Count(_) => ColumnType::Int64,
        Aggregate::Min(id) | Aggregate::Max(id) => type_of(table, *id),
        Aggregate::Sum(id) => match type_of(table, *id) {
            ColumnType::Float32 | ColumnType::Float64 => ColumnType::Float64,
            _ => ColumnType::Decimal { precision: 38, scale: 0 },
        },
    }));
    let mut aggregation = snapshot.aggregate(table, request).unwrap();
    let mut rows = Vec::new();
    for batch in &mut aggregation {
        let batch: RecordBatch = batch.unwrap();
        assert!(batch.num_rows() > 0);
        for row in 0..batch.num_rows() {
            let value = |(place, ty): (usize, &ColumnType)| value_at(batch.column(place).as_ref(), row, *ty).unwrap();
            rows.push(types.iter().enumerate().map(value).collect());
        }
    }
    (rows, aggregation.metrics())
}

/// The answer, added up plainly.
fn aggregated(table: &TableDef, rows: &[&Vec<Value>], group: usize, aggregates: &[Aggregate]) -> Vec<Vec<Value>> {
    let of_group = |rows: &[&Vec<Value>]| {
        let values = |id| {
            let place = table.columns.iter().position(|column| column.id == id).unwrap();
            rows.iter().map(|row| row[place].clone()).filter(|value| *value != Value::Null).collect::<Vec<_>>()
        };
        let extreme = |values: Vec<Value>, wanted| {
            values.into_iter().reduce(|a, b| if order(&b, &a) == wanted { b } else { a }).unwrap_or(Value::Null)
        };
        let answer = |aggregate: &Aggregate| match aggregate {
            Aggregate::Rows => Value::Int(rows.len() as i64),
            Aggregate::Count(id) => Value::Int(values(*id).len() as i64),
            Aggregate::Min(id) => extreme(values(*id), Ordering::Less),
            Aggregate::Max(id) => extreme(values(*id), Ordering::Greater),
            Aggregate::Sum(id) => values(*id).into_iter().map(addend).reduce(plus).unwrap_or(Value::Null),
        };
        rows[0][..group].iter().cloned().chain(aggregates.iter().map(answer)).collect()
    };
    rows.chunk_by(|a, b| a[..group] == b[..group]).map(of_group).collect()
}

fn addend(value: Value) -> Value {
    match value {
        Value::Int(value) => Value::Decimal(value.into()),
        Value::Float32(value) => Value::Float64(value.into()),
        other => other,
    }
}

fn plus(a: Value, b: Value) -> Value {
    match (a, b) {
        (Value::Decimal(a), Value::Decimal(b)) => Value::Decimal(a + b),
        (Value::Float64(a), Value::Float64(b)) => Value::Float64(a + b),
        (a, b) => panic!("{a:?} + {b:?}"),
    }
}

/// NaN is equal to itself and after all else; zeros are equal.
fn order(a: &Value, b: &Value) -> Ordering {
    let floats = |a: f64, b: f64| a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()));
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Decimal(a), Value::Decimal(b)) => a.cmp(b),
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        (Value::Uuid(a), Value::Uuid(b)) => a.cmp(b),
        (Value::Float64(a), Value::Float64(b)) => floats(*a, *b),
        (Value::Float32(a), Value::Float32(b)) => floats((*a).into(), (*b).into()),
        (a, b) => panic!("{a:?} against {b:?}"),
    }
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float64(_), Value::Float64(_)) | (Value::Float32(_), Value::Float32(_)) => order(a, b).is_eq(),
        (a, b) => a == b,
    }
}

fn passes(test: &Test, value: &Value) -> bool {
    let compares = |op: &CompareOp, constant: &Value| {
        *value != Value::Null && {
            let order = order(value, constant);
            match op {
                CompareOp::Eq => order.is_eq(),
                CompareOp::Lt => order.is_lt(),
                CompareOp::LtEq => order.is_le(),
                CompareOp::Gt => order.is_gt(),
                CompareOp::GtEq => order.is_ge(),
            }
        }
    };
    match test {
        Test::IsNull => *value == Value::Null,
        Test::IsNotNull => *value != Value::Null,
        Test::Compare(op, constant) => compares(op, constant),
        Test::In(constants) => constants.iter().any(|constant| compares(&CompareOp::Eq, constant)),
        Test::NullOrAtLeast(constant) => *value == Value::Null || compares(&CompareOp::GtEq, constant),
    }
}

#[test]
fn statistics_rows_and_a_plain_count_agree() {
    let (mut answered, mut pruned) = (0, 0);
    for seed in 0..24 {
        let mut world = World::new(seed);
        for _ in 0..40 {
            world.step();
            if world.random.below(3) == 0 {
                let counts = world.check();
                answered += counts.0;
                pruned += counts.1;
            }
        }
        world.db.compact(None).unwrap();
        for _ in 0..5 {
            let counts = world.check();
            answered += counts.0;
            pruned += counts.1;
        }
    }
    assert!(answered > 100 && pruned > 100, "statistics answered {answered} slices and left out {pruned}");
}

#[test]
fn last_values_of_long_series_are_found_by_seeks() {
    let db = Db::open(Options { background: false, memtable_bytes: 64 << 20, ..small() }).unwrap();
    let table = create(
        &db,
        "t",
        &[("series", ColumnType::Int64), ("step", ColumnType::Int64), ("v", ColumnType::Int64)],
        &["series", "step"],
    );
    let rows = |steps: std::ops::Range<i64>| -> Vec<Vec<Value>> {
        (0..20)
            .flat_map(|series| steps.clone().map(move |step| [series, step, series * step].map(Value::Int).to_vec()))
            .collect()
    };
    put(&db, &table, &rows(0..5000));
    db.compact(None).unwrap();
    put(&db, &table, &rows(4990..5100));
    db.flush().unwrap();
    put(&db, &table, &rows(5100..5103));
    let snapshot = db.snapshot().unwrap();
    let request = ScanRequest { projection: table.column_ids(), reverse: true, ..Default::default() };
    let mut firsts = snapshot.firsts(&table, request, 1).unwrap();
    let mut got = Vec::new();
    for batch in &mut firsts {
        let batch = batch.unwrap();
        for row in 0..batch.num_rows() {
            let value = |column: &ArrayRef| value_at(column.as_ref(), row, ColumnType::Int64).unwrap();
            got.push(batch.columns().iter().map(value).collect::<Vec<_>>());
        }
    }
    let expected = |series: i64| [series, 5102, series * 5102].map(Value::Int).to_vec();
    assert_eq!(got, (0..20).rev().map(expected).collect::<Vec<_>>());
    assert!(firsts.metrics().rows < 20 * 400, "{:?}", firsts.metrics());
}

#[test]
fn a_table_at_rest_is_answered_without_reading_a_row() {
    let db = Db::open(Options { background: false, memtable_bytes: 64 << 20, ..small() }).unwrap();
    let table = create_kv(&db, "t");
    let rows: Vec<(i64, i64)> = (0..20_000).map(|k| (k, k % 1000)).collect();
    load(&db, std::slice::from_ref(&table), &rows);
    db.compact(None).unwrap();
    let v = table.columns[1].id;
    let request = AggregateRequest {
        ranges: Vec::new(),
        group_columns: 0,
        aggregates: vec![Aggregate::Rows, Aggregate::Min(v), Aggregate::Max(v), Aggregate::Sum(v)],
        filter: Vec::new(),
        statistics: true,
    };
    let whole = [20_000, 0, 999].map(Value::Int).into_iter().chain([Value::Decimal(9_990_000)]).collect::<Vec<_>>();
    let (got, metrics) = run(&db.snapshot().unwrap(), &table, &request);
    assert_eq!(got, [whole]);
    assert_eq!((metrics.rows_read, metrics.rows_answered), (0, 20_000));
    // Of a range, the slices at its edges are read.
    let bound = |k| key(&table, &[Value::Int(k)]);
    let range = KeyRange { start: Bound::Included(bound(5)), end: Bound::Excluded(bound(19_995)) };
    let (got, metrics) =
        run(&db.snapshot().unwrap(), &table, &AggregateRequest { ranges: vec![range], ..request.clone() });
    assert_eq!(got[0][0], Value::Int(19_990));
    assert!(metrics.rows_answered > 15_000 && metrics.read.slices_read == 2, "{metrics:?}");
    // One row in memory: its slice alone is read.
    put(&db, &table, &ints(&[(7_000, 5_000)]));
    let (got, metrics) = run(&db.snapshot().unwrap(), &table, &request);
    assert_eq!((&got[0][0], &got[0][2]), (&Value::Int(20_000), &Value::Int(5_000)));
    assert!(metrics.rows_answered > 17_000, "{metrics:?}");
}

#[test]
fn sums_of_integers_leave_64_bits_and_sums_past_128_bits_say_so() {
    let db = Db::open(Options { background: false, ..small() }).unwrap();
    let wide = ColumnType::Decimal { precision: 38, scale: 0 };
    let table = create(&db, "t", &[("k", ColumnType::Int64), ("i", ColumnType::Int64), ("d", wide)], &["k"]);
    let most = 10i128.pow(38) - 1;
    let rows = (0..4).map(|k| vec![Value::Int(k), Value::Int(i64::MAX), Value::Decimal(most)]);
    put(&db, &table, &rows.collect::<Vec<_>>());
    let sums = vec![Aggregate::Sum(table.columns[1].id), Aggregate::Sum(table.columns[2].id)];
    let expected = vec![Value::Decimal(4 * i128::from(i64::MAX)), Value::Decimal(i128::MAX)];
    for compacted in [false, true] {
        if compacted {
            db.compact(None).unwrap();
        }
        for statistics in [true, false] {
            let request = AggregateRequest {
                ranges: Vec::new(),
                group_columns: 0,
                aggregates: sums.clone(),
                filter: Vec::new(),
                statistics,
            };
            assert_eq!(run(&db.snapshot().unwrap(), &table, &request).0, std::slice::from_ref(&expected));
        }
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let db = Db::open(Options { background: false, ..small() }).unwrap();
    let columns = [("f", ColumnType::Float64), ("j", ColumnType::Json), ("t", ColumnType::Text)];
    let table = create(&db, "t", &columns, &["f"]);
    let id = |place: usize| table.columns[place].id;
    let request = AggregateRequest {
        ranges: Vec::new(),
        group_columns: 0,
        aggregates: vec![Aggregate::Rows],
        filter: Vec::new(),
        statistics: true,
    };
    let json = ColumnPredicate { column: id(1), test: Test::Compare(CompareOp::Eq, Value::Text("1".into())) };
    for wrong in [
        AggregateRequest { group_columns: 1, ..request.clone() },
        AggregateRequest { group_columns: 2, ..request.clone() },
        AggregateRequest { aggregates: vec![Aggregate::Min(id(1))], ..request.clone() },
        AggregateRequest { aggregates: vec![Aggregate::Sum(id(2))], ..request.clone() },
        AggregateRequest { filter: vec![json], ..request.clone() },
    ] {
        let refused = db.snapshot().unwrap().aggregate(&table, &wrong).unwrap_err();
        assert_eq!(refused.kind(), omendb_engine::ErrorKind::InvalidArgument, "{wrong:?}");
    }
    assert!(run(&db.snapshot().unwrap(), &table, &request).0.is_empty());
}
