//! Tables, rows and runs of all kinds, made from seeds.

use crate::cache::Cache;
use crate::column::{ColumnSink, value_at};
use crate::io::{self, IoRef};
use crate::key::{EncodedKeys, KeyRange, KeySchema};
use crate::run::*;
use crate::types::*;
use arrow::array::Array;
use arrow::datatypes::IntervalMonthDayNano;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// A small generator with a seed (splitmix64).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is not 0.
    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub(super) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

pub(super) const DECIMAL: ColumnType = ColumnType::Decimal { precision: 20, scale: 2 };

/// All types, those that order first.
pub(super) const TYPES: [ColumnType; 16] = [
    ColumnType::Boolean,
    ColumnType::Int16,
    ColumnType::Int32,
    ColumnType::Int64,
    ColumnType::Float32,
    ColumnType::Float64,
    DECIMAL,
    ColumnType::Text,
    ColumnType::Bytes,
    ColumnType::Date,
    ColumnType::Time,
    ColumnType::Timestamp,
    ColumnType::TimestampTz,
    ColumnType::Interval,
    ColumnType::Uuid,
    ColumnType::Json,
];

/// A value of a type, from a few hundred, some of them nasty.
pub(super) fn value(ty: ColumnType, random: &mut Random) -> Value {
    let small = random.below(200) as i64 - 100;
    match ty {
        ColumnType::Boolean => Value::Boolean(small > 0),
        ColumnType::Int64 | ColumnType::Timestamp | ColumnType::TimestampTz if random.chance(3) => {
            Value::Int([i64::MIN, i64::MAX, 1 << 62][random.below(3)])
        }
        ColumnType::Int16 | ColumnType::Int32 | ColumnType::Date | ColumnType::Time | ColumnType::Int64 => {
            Value::Int(small)
        }
        ColumnType::Timestamp | ColumnType::TimestampTz => Value::Int(1_700_000_000_000_000 + small * 1000),
        ColumnType::Float32 => Value::Float32(float(small, random) as f32),
        ColumnType::Float64 => Value::Float64(float(small, random)),
        ColumnType::Decimal { .. } => Value::Decimal(i128::from(small) * 1_000_000_007),
        ColumnType::Text | ColumnType::Json => Value::Text(text(small, random)),
        ColumnType::Bytes => Value::Bytes(text(small, random).into_bytes()),
        ColumnType::Interval => Value::Interval(IntervalMonthDayNano::new(small as i32 / 30, small as i32, small)),
        ColumnType::Uuid => {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&random.next().to_be_bytes());
            bytes[15] = small as u8;
            Value::Uuid(bytes)
        }
    }
}

fn float(small: i64, random: &mut Random) -> f64 {
    match random.below(40) {
        0 => f64::NAN,
        1 => -0.0,
        2 => f64::INFINITY,
        3 => f64::NEG_INFINITY,
        4 => 1e300,
        _ => small as f64 / 4.0,
    }
}

fn text(small: i64, random: &mut Random) -> String {
    match random.below(12) {
        0 => String::new(),
        1 => format!("{}\u{10ffff}é{small}", "long ".repeat(20)),
        2 => format!("a\0b{small}"),
        _ => format!("text {small}"),
    }
}

/// One row of the model.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) key: Vec<u8>,
    pub(super) seq: Seq,
    pub(super) tombstone: bool,
    pub(super) values: Vec<Value>,
}

/// A table: how its runs are laid out, and its rows in key order.
pub(super) struct Table {
    pub(super) schema: RunSchema,
    pub(super) rows: Vec<Row>,
}

/// How rows differ from plain ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kinds {
    pub(super) nulls: usize,
    pub(super) tombstones: usize,
    pub(super) one_seq: bool,
}

pub(super) const PLAIN: Kinds = Kinds { nulls: 0, tombstones: 0, one_seq: true };
pub(super) const MIXED: Kinds = Kinds { nulls: 20, tombstones: 10, one_seq: false };

/// A schema with these key columns and these others.
pub(super) fn schema(key: &[ColumnType], others: &[ColumnType]) -> RunSchema {
    let id = |place: usize| ColumnId(ColumnId::FIRST_USER.0 + place as u32);
    let columns: Vec<_> = key.iter().chain(others).enumerate().map(|(place, ty)| (id(place), *ty)).collect();
    let key_columns = (0..key.len()).map(id).collect();
    RunSchema { key: KeySchema::new(key.iter().map(|ty| (*ty, false)).collect()).unwrap(), key_columns, columns }
}

/// A table of about `count` rows.
pub(super) fn table(schema: RunSchema, count: usize, kinds: Kinds, random: &mut Random) -> Table {
    let in_key = schema.key_columns.len();
    let mut rows = BTreeMap::new();
    let dense = in_key == 1 && matches!(schema.columns[0].1, ColumnType::Int64 | ColumnType::Timestamp);
    for number in 0..count {
        let mut values: Vec<Value> = schema.columns[..in_key].iter().map(|(_, ty)| value(*ty, random)).collect();
        if dense {
            values[0] = Value::Int(number as i64 * 3 + i64::from(random.chance(30)));
        }
        let Ok(key) = schema.key.encode(&values) else { continue };
        let tombstone = random.chance(kinds.tombstones);
        for (_, ty) in &schema.columns[in_key..] {
            let null = tombstone || random.chance(kinds.nulls);
            values.push(if null { Value::Null } else { value(*ty, random) });
        }
        let seq = if kinds.one_seq { 7 } else { 1 + random.below(5) as u64 * 1000 };
        rows.insert(key.as_ref().to_vec(), Row { key: key.as_ref().to_vec(), seq, tombstone, values });
    }
    Table { schema, rows: rows.into_values().collect() }
}

/// Some rows as a batch of all columns.
pub(super) fn batch(table: &Table, rows: &[Row]) -> RunBatch {
    let mut keys = EncodedKeys::with_capacity(table.schema.key.fixed_width(), rows.len());
    rows.iter().for_each(|row| keys.push(&row.key));
    let column = |(place, (_, ty)): (usize, &(ColumnId, ColumnType))| {
        let mut sink = ColumnSink::new(*ty, rows.len());
        rows.iter().for_each(|row| sink.append(&row.values[place]).unwrap());
        sink.finish()
    };
    let kinds: Vec<bool> = rows.iter().map(|row| row.tombstone).collect();
    RunBatch {
        keys,
        seqs: rows.iter().map(|row| row.seq).collect(),
        tombstones: kinds.contains(&true).then(|| kinds.into()),
        columns: table.schema.columns.iter().enumerate().map(column).collect(),
    }
}

pub(super) fn dir() -> &'static Path {
    Path::new("/runs")
}

/// A file system in memory with the directory for runs.
pub(super) fn files() -> IoRef {
    let io = io::memory();
    io.create_dir_all(dir()).unwrap();
    io
}

/// Writes a table in batches of random sizes.
pub(super) fn write(io: &IoRef, id: u64, table: &Table, options: RunOptions, random: &mut Random) -> RunMeta {
    let mut writer = RunWriter::create(io, dir(), RunId(id), &table.schema, options).unwrap();
    let mut rest = table.rows.as_slice();
    while !rest.is_empty() {
        let (now, later) = rest.split_at((1 + random.below(5000)).min(rest.len()));
        writer.write(&batch(table, now)).unwrap();
        rest = later;
    }
    writer.finish().unwrap()
}

pub(super) fn open(io: &IoRef, meta: &RunMeta) -> Arc<Run> {
    Run::open(io, dir(), meta.clone(), &Cache::new(64 << 20)).unwrap()
}

pub(super) fn options(layout: Layout, slice_rows: Option<usize>, threads: usize) -> RunOptions {
    RunOptions { layout, slice_rows, threads, ..RunOptions::default() }
}

/// Whether two values are the same, NaN and the sign of zero included.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float64(a), Value::Float64(b)) => a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()),
        (Value::Float32(a), Value::Float32(b)) => a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()),
        (a, b) => a == b,
    }
}

/// A scan of all rows, in their order, of these columns and with keys.
pub(super) fn everything(projection: &[(ColumnId, ColumnType)]) -> RunScanOptions {
    RunScanOptions::all(KeyRange::all(), projection.to_vec())
}

/// All of a scan's rows in one vector, as the model has them; values in the order of the projection.
pub(super) fn collect(scan: &mut RunScan, projection: &[(ColumnId, ColumnType)]) -> Vec<Row> {
    let mut rows = Vec::new();
    while let Some(batch) = scan.next().unwrap() {
        assert!(!batch.is_empty() && batch.len() <= SCAN_ROWS_MAX);
        for column in &batch.columns {
            assert_eq!(column.len(), batch.len());
        }
        for row in 0..batch.len() {
            let cell = |(array, (_, ty)): (&arrow::array::ArrayRef, &(ColumnId, ColumnType))| {
                value_at(array, row, *ty).unwrap()
            };
            rows.push(Row {
                key: if batch.keys.is_empty() { Vec::new() } else { batch.keys.get(row).to_vec() },
                seq: batch.seqs[row],
                tombstone: batch.is_tombstone(row),
                values: batch.columns.iter().zip(projection).map(cell).collect(),
            });
        }
    }
    assert!(scan.next().unwrap().is_none());
    rows
}
