/*!
Small helpers: a seeded source of numbers, tables, batches and rows.
*/

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::Schema;
use omendb_engine::Result;
use omendb_engine::column::{ColumnSink, value_at};
use omendb_engine::db::{Db, Expectation, OnConflict, Options, Row, ScanRequest, Snapshot, WriteKind};
use omendb_engine::key::{Key, KeySchema};
use omendb_engine::types::{Attributes, ColumnId, ColumnType, NewColumn, NewTable, Seq, TableDef, Value};
use std::sync::Arc;

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// Small memtables, so that flushes and merges happen.
pub(crate) fn small() -> Options {
    Options { memtable_bytes: 16 << 10, log_segment_bytes: 64 << 10, memory_bytes: 16 << 20, ..Options::memory() }
}

pub(crate) fn new_table(name: &str, columns: &[(&str, ColumnType)], key: &[&str]) -> NewTable {
    let column = |(name, ty): &(&str, ColumnType)| NewColumn {
        name: (*name).to_owned(),
        ty: *ty,
        nullable: true,
        attributes: Attributes::new(),
    };
    NewTable {
        name: name.to_owned(),
        columns: columns.iter().map(column).collect(),
        key: key.iter().map(|name| (*name).to_owned()).collect(),
        ..NewTable::default()
    }
}

pub(crate) fn create(db: &Db, name: &str, columns: &[(&str, ColumnType)], key: &[&str]) -> Arc<TableDef> {
    let mut txn = db.begin().unwrap();
    let table = txn.create_table(new_table(name, columns, key)).unwrap();
    txn.commit().unwrap();
    table
}

/// Key k, value v.
pub(crate) fn create_kv(db: &Db, name: &str) -> Arc<TableDef> {
    create(db, name, &[("k", ColumnType::Int64), ("v", ColumnType::Int64)], &["k"])
}

pub(crate) fn type_of(table: &TableDef, id: ColumnId) -> ColumnType {
    table.column_by_id(id).map_or(ColumnType::Int64, |column| column.ty)
}

/// A batch of `rows`, whose values are those of `columns`.
pub(crate) fn batch(table: &TableDef, columns: &[ColumnId], rows: &[Vec<Value>]) -> RecordBatch {
    let mut arrays: Vec<ArrayRef> = Vec::new();
    for (place, id) in columns.iter().enumerate() {
        let mut sink = ColumnSink::new(type_of(table, *id), rows.len());
        rows.iter().for_each(|row| sink.append(&row[place]).unwrap());
        arrays.push(sink.finish());
    }
    let fields: Vec<_> = table.projected_schema(columns).unwrap().fields().iter().cloned().collect();
    let fields: Vec<_> = fields.into_iter().map(|field| Arc::new(field.as_ref().clone().with_nullable(true))).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options).unwrap()
}

pub(crate) fn ints(rows: &[(i64, i64)]) -> Vec<Vec<Value>> {
    rows.iter().map(|(k, v)| vec![Value::Int(*k), Value::Int(*v)]).collect()
}

/// Writes whole rows in a transaction of their own.
pub(crate) fn try_put(db: &Db, table: &TableDef, rows: &[Vec<Value>], expectation: Expectation<'_>) -> Result<Seq> {
    let columns = table.column_ids();
    let mut txn = db.begin()?;
    txn.write(table, WriteKind::Put, &columns, &batch(table, &columns, rows), expectation)?;
    txn.commit()
}

pub(crate) fn put(db: &Db, table: &TableDef, rows: &[Vec<Value>]) -> Seq {
    try_put(db, table, rows, Expectation::None).unwrap()
}

pub(crate) fn try_delete(db: &Db, table: &TableDef, keys: &[Vec<Value>], expectation: Expectation<'_>) -> Result<Seq> {
    let columns: Vec<ColumnId> = table.key_columns().unwrap().into_iter().map(|(id, _)| id).collect();
    let mut txn = db.begin()?;
    txn.write(table, WriteKind::Delete, &columns, &batch(table, &columns, keys), expectation)?;
    txn.commit()
}

pub(crate) fn delete(db: &Db, table: &TableDef, keys: &[Vec<Value>]) -> Seq {
    try_delete(db, table, keys, Expectation::None).unwrap()
}

/// Loads the same rows into some tables: a run each.
pub(crate) fn load(db: &Db, tables: &[Arc<TableDef>], rows: &[(i64, i64)]) {
    let mut txn = db.begin().unwrap();
    for table in tables {
        let columns = table.column_ids();
        let mut ingest = txn.ingest(table, OnConflict::Error, 1 << 20).unwrap();
        ingest.write(&columns, &batch(table, &columns, &ints(rows))).unwrap();
        ingest.finish().unwrap();
    }
    txn.commit().unwrap();
}

pub(crate) fn key(table: &TableDef, values: &[Value]) -> Key {
    KeySchema::of(table).unwrap().encode(values).unwrap()
}

/// All rows as a scan gives them.
pub(crate) fn scan(snapshot: &Snapshot, table: &TableDef, request: ScanRequest) -> Vec<Vec<Value>> {
    let projection = request.projection.clone();
    let mut rows = Vec::new();
    for batch in snapshot.scan(table, request).unwrap() {
        let batch = batch.unwrap();
        assert!(batch.num_rows() > 0 && batch.num_rows() <= 8192);
        for row in 0..batch.num_rows() {
            let value = |(place, id): (usize, &ColumnId)| {
                value_at(batch.column(place).as_ref(), row, type_of(table, *id)).unwrap()
            };
            rows.push(projection.iter().enumerate().map(value).collect());
        }
    }
    rows
}

/// All rows, declared columns.
pub(crate) fn all(db: &Db, table: &TableDef) -> Vec<Vec<Value>> {
    let request = ScanRequest { projection: table.column_ids(), ..ScanRequest::default() };
    scan(&db.snapshot().unwrap(), table, request)
}

pub(crate) fn get(db: &Db, table: &TableDef, values: &[Value]) -> Option<Row> {
    let mut row = Row::default();
    let found = db.snapshot().unwrap().get(table, &key(table, values), &table.column_ids(), &mut row).unwrap();
    found.then_some(row)
}

/// The value of `k` in a table of keys and values.
pub(crate) fn value_of(db: &Db, table: &TableDef, k: i64) -> Option<i64> {
    get(db, table, &[Value::Int(k)]).map(|row| match row.values[1] {
        Value::Int(v) => v,
        _ => panic!("not an integer"),
    })
}

/// Files below `dir` with `part` in their paths that this process has open.
#[cfg(target_os = "linux")]
pub(crate) fn open_files(dir: &std::path::Path, part: &str) -> usize {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = entries.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    targets.filter(|path| path.starts_with(dir) && path.to_string_lossy().contains(part)).count()
}
