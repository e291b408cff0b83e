/*!
Small databases with every kind of file, and what they hold after each commit.
*/

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{IntervalMonthDayNano, Schema};
use omendb_engine::Result;
use omendb_engine::column::{ColumnSink, value_at};
use omendb_engine::db::{Db, Expectation, Options, Row, ScanRequest, Snapshot, WriteKind};
use omendb_engine::io::{self, Buffer, IoRef, OpenMode};
use omendb_engine::key::KeySchema;
use omendb_engine::types::{Attributes, ColumnId, ColumnType, FilterChoice, NewColumn, NewTable, TableDef, Value};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// All files of a directory.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// All rows of all tables, as text: floats that are NaN are equal here.
pub(crate) type State = BTreeMap<String, Vec<String>>;

pub(crate) fn dir() -> &'static Path {
    Path::new("/db")
}

pub(crate) fn options(io: &IoRef) -> Options {
    Options {
        dir: Some(dir().into()),
        io: Some(Arc::clone(io)),
        memtable_bytes: 1 << 20,
        memory_bytes: 16 << 20,
        cache_bytes: 1 << 20,
        log_segment_bytes: 16 << 10,
        threads: 1,
        // Every run has all sections that there are.
        filter: FilterChoice::On,
        ..Options::memory()
    }
}

pub(crate) fn reader(io: &IoRef) -> Result<Db> {
    Db::open(Options { read_only: true, ..options(io) })
}

/// All files but the reserve, whose bytes nobody ever reads.
pub(crate) fn files(io: &IoRef) -> Files {
    let read = |name: &str| {
        let file = io.open(&dir().join(name), OpenMode::Read).ok()?;
        Some(file.read_at(0, file.len().unwrap() as usize).unwrap().to_vec())
    };
    let all = || -> Option<Files> {
        let entries = io.list(dir()).unwrap().into_iter().filter(|entry| entry.name != "RESERVE");
        entries.map(|entry| Some((entry.name.clone(), read(&entry.name)?))).collect()
    };
    // An open database merges runs meanwhile, whose files go.
    (0..100).find_map(|_| all()).expect("files go faster than they are read")
}

pub(crate) fn disk_of(files: &Files) -> IoRef {
    let io = io::memory();
    io.create_dir_all(dir()).unwrap();
    files.iter().for_each(|(name, bytes)| put(&io, name, bytes));
    io
}

/// Makes a file be just `bytes`.
pub(crate) fn put(io: &IoRef, name: &str, bytes: &[u8]) {
    let file = io.open(&dir().join(name), OpenMode::Create).unwrap();
    file.set_len(0).unwrap();
    file.write_all_at(0, Buffer::from_slice(bytes)).unwrap();
}

/// Everything that can be read, by scans and by lookups.
pub(crate) fn state(db: &Db) -> Result<State> {
    let snapshot = db.snapshot()?;
    let mut state = State::new();
    for table in snapshot.tables()? {
        state.insert(table.name.clone(), rows(&snapshot, &table)?);
    }
    Ok(state)
}

fn rows(snapshot: &Snapshot, table: &TableDef) -> Result<Vec<String>> {
    let mut projection = table.column_ids();
    if table.has_hidden_key() {
        projection.push(ColumnId::ROW_ID);
    }
    let type_of = |id: &ColumnId| table.column_by_id(*id).map_or(ColumnType::Int64, |column| column.ty);
    let keys = KeySchema::of(table)?;
    let mut out = Vec::new();
    for batch in snapshot.scan(table, ScanRequest { projection: projection.clone(), ..ScanRequest::default() })? {
        let batch = batch?;
        for row in 0..batch.num_rows() {
            let value = |(id, array): (&ColumnId, &ArrayRef)| value_at(array.as_ref(), row, type_of(id));
            let values: Vec<Value> = projection.iter().zip(batch.columns()).map(value).collect::<Result<_>>()?;
            let key_of = |(id, _): &(ColumnId, ColumnType)| {
                values[projection.iter().position(|column| column == id).unwrap()].clone()
            };
            let key: Vec<Value> = table.key_columns()?.iter().map(key_of).collect();
            let mut again = Row::default();
            assert!(snapshot.get(table, &keys.encode(&key)?, &projection, &mut again)?, "a scanned row is not found");
            let text = format!("{values:?}");
            assert_eq!(format!("{:?}", again.values), text, "a lookup and a scan differ");
            out.push(text);
        }
    }
    Ok(out)
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
        attributes: Attributes::from([("comment".to_owned(), "a table".to_owned())]),
        ..NewTable::default()
    }
}

/// A column of each type.
pub(crate) const COLUMNS: [(&str, ColumnType); 16] = [
    ("k", ColumnType::Int64),
    ("boolean", ColumnType::Boolean),
    ("int16", ColumnType::Int16),
    ("int32", ColumnType::Int32),
    ("float32", ColumnType::Float32),
    ("float64", ColumnType::Float64),
    ("decimal", ColumnType::Decimal { precision: 30, scale: 3 }),
    ("text", ColumnType::Text),
    ("bytes", ColumnType::Bytes),
    ("date", ColumnType::Date),
    ("time", ColumnType::Time),
    ("timestamp", ColumnType::Timestamp),
    ("timestamptz", ColumnType::TimestampTz),
    ("interval", ColumnType::Interval),
    ("uuid", ColumnType::Uuid),
    ("json", ColumnType::Json),
];

/// Row `k` of the table with all types, in its `version`.
pub(crate) fn row(k: i64, version: i64) -> Vec<Value> {
    let n = k * 7 + version;
    let mut row = vec![
        Value::Int(k),
        Value::Boolean(n % 2 == 0),
        Value::Int(n % 300),
        Value::Int(n * 1000),
        Value::Float32(n as f32 / 3.0),
        Value::Float64(if n % 5 == 0 { f64::NAN } else { n as f64 / 10.0 }),
        Value::Decimal(i128::from(n) * if n % 3 == 0 { 1 << 70 } else { 1 }),
        Value::Text(format!("text {}", "xyz".repeat((n % 4) as usize))),
        Value::Bytes(vec![n as u8; (n % 9) as usize]),
        Value::Int(19_000 + n),
        Value::Int(n * 1_000_000),
        Value::Int(1_700_000_000_000_000 + n),
        Value::Int(1_700_000_000_000_000 - n * n),
        Value::Interval(IntervalMonthDayNano::new(n as i32, -(n as i32), n)),
        Value::Uuid((n as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_0c6f).to_le_bytes()),
        Value::Text(format!("{{\"n\": {n}}}")),
    ];
    let null = 1 + (n as usize % 31);
    row.iter_mut().skip(null).step_by(5).for_each(|value| *value = Value::Null);
    row
}

pub(crate) fn batch(table: &TableDef, columns: &[ColumnId], rows: &[Vec<Value>]) -> RecordBatch {
    let mut arrays: Vec<ArrayRef> = Vec::new();
    let mut fields = Vec::new();
    for (place, id) in columns.iter().enumerate() {
        let column = table.column_by_id(*id).unwrap();
        let mut sink = ColumnSink::new(column.ty, rows.len());
        rows.iter().for_each(|row| sink.append(&row[place]).unwrap());
        arrays.push(sink.finish());
        fields.push(column.arrow_field().with_nullable(true));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

pub(crate) fn write(db: &Db, table: &TableDef, kind: WriteKind, rows: &[Vec<Value>]) {
    let columns = match kind {
        WriteKind::Put => table.column_ids(),
        WriteKind::Delete => table.key.clone(),
    };
    let mut txn = db.begin().unwrap();
    txn.write(table, kind, &columns, &batch(table, &columns, rows), Expectation::None).unwrap();
    txn.commit().unwrap();
}

/// A database, and how it came to be.
pub(crate) struct Built {
    pub(crate) files: Files,
    /// The files after each step.
    pub(crate) versions: Vec<Files>,
    /// What there was after each commit, the last one last.
    pub(crate) history: Vec<State>,
}

impl Built {
    pub(crate) fn state(&self) -> &State {
        self.history.last().unwrap()
    }
}

/// Builds a database step by step.
pub(crate) struct Builder {
    io: IoRef,
    db: Option<Db>,
    versions: Vec<Files>,
    history: Vec<State>,
}

impl Builder {
    pub(crate) fn new() -> Builder {
        let io = io::memory();
        let db = Db::open(options(&io)).unwrap();
        Builder { io, db: Some(db), versions: Vec::new(), history: vec![State::new()] }
    }

    pub(crate) fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    /// Notes files and rows as they are now.
    pub(crate) fn noted(&mut self) {
        let state = state(self.db()).unwrap();
        if self.history.last() != Some(&state) {
            self.history.push(state);
        }
        self.versions.push(files(&self.io));
    }

    pub(crate) fn table(&mut self, new: NewTable) -> Arc<TableDef> {
        let mut txn = self.db().begin().unwrap();
        let table = txn.create_table(new).unwrap();
        txn.commit().unwrap();
        self.noted();
        table
    }

    pub(crate) fn put(&mut self, table: &TableDef, rows: &[Vec<Value>]) {
        write(self.db(), table, WriteKind::Put, rows);
        self.noted();
    }

    pub(crate) fn delete(&mut self, table: &TableDef, keys: &[i64]) {
        let keys: Vec<_> = keys.iter().map(|key| vec![Value::Int(*key)]).collect();
        write(self.db(), table, WriteKind::Delete, &keys);
        self.noted();
    }

    pub(crate) fn flush(&mut self) {
        self.db().flush().unwrap();
        self.noted();
    }

    pub(crate) fn compact(&mut self, table: &TableDef) {
        self.db().compact(Some(table.id)).unwrap();
        self.noted();
    }

    pub(crate) fn reopen(&mut self) {
        self.db.take().unwrap().close().unwrap();
        self.versions.push(files(&self.io));
        self.db = Some(Db::open(options(&self.io)).unwrap());
    }

    /// As if the process were killed now.
    pub(crate) fn killed(mut self) -> Built {
        self.noted();
        let files = self.versions.pop().unwrap();
        Built { files, versions: self.versions, history: self.history }
    }

    pub(crate) fn closed(mut self) -> Built {
        self.noted();
        self.db.take().unwrap().close().unwrap();
        Built { files: files(&self.io), versions: self.versions, history: self.history }
    }
}

/// Runs of both shapes and on two levels, with tombstones, NULLs, several numbers, and an empty log.
pub(crate) fn with_runs() -> Built {
    let mut builder = Builder::new();
    let types = builder.table(new_table("types", &COLUMNS, &["k"]));
    let pairs = builder.table(new_table("pairs", &[("a", ColumnType::Text), ("b", ColumnType::Float64)], &[]));
    builder.put(&types, &(0..20).map(|k| row(k, 0)).collect::<Vec<_>>());
    builder.put(&pairs, &(0..9).map(|n| vec![Value::Text(format!("{n}")), Value::Float64(0.5)]).collect::<Vec<_>>());
    builder.compact(&types);
    builder.put(&types, &(5..9).map(|k| row(k, 1)).collect::<Vec<_>>());
    builder.delete(&types, &[3, 15]);
    builder.put(&types, &[row(30, 2)]);
    builder.flush();
    builder.closed()
}

/// A log of several segments over a small run, and a second session of it.
fn with_log() -> Builder {
    let mut builder = Builder::new();
    let types = builder.table(new_table("types", &COLUMNS, &["k"]));
    builder.put(&types, &[row(0, 0), row(1, 0)]);
    builder.flush();
    for k in 1..4 {
        builder.put(&types, &[row(k, k)]);
    }
    builder.reopen();
    builder.delete(&types, &[1]);
    for k in 4..7 {
        builder.put(&types, &[row(k, k)]);
    }
    builder
}

/// A log whose last commits no watermark covers.
pub(crate) fn with_log_killed() -> Built {
    with_log().killed()
}

/// A log that was closed.
pub(crate) fn with_log_closed() -> Built {
    with_log().closed()
}

/// Whether a file of this name is a segment of the log.
pub(crate) fn is_log(name: &str) -> bool {
    name.starts_with("wal-")
}

/// Whether a file is a segment that was prepared and never used: the next open removes it.
pub(crate) fn is_unused_segment(name: &str, bytes: &[u8]) -> bool {
    is_log(name) && bytes.get(4..8) != Some(b"OMWS")
}
