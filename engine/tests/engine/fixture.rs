/*!
Databases of released formats, kept in `tests/fixtures`, open for ever and give the answers that are kept beside them.

- `format-1` has tables with every type, with a hidden key and with a key of two columns; runs of both shapes, flushed, loaded
  and merged; a tombstone above what it deletes; and a log that must still be replayed, as a killed process leaves it.
- `format-1-ranges` has a manifest of version 2, with deleted ranges that came and that went, and log records of version 2,
  whose deleted ranges no manifest knows of.
- `format-1-numerals` has runs with byte strings as numerals with a directory: numbers, bytes as they are, and constant parts.
- `format-1-filters` has runs with filters, of a table that says so in the catalog, and runs without, of one that says the contrary.

`OMENDB_WRITE_FIXTURE=format-1-ranges cargo test -p omendb-engine --test engine fixture` writes one of them anew. Only while its format
has not been released: afterwards a fixture never changes, and a new format gets a new one.
*/

use crate::support::*;
use arrow::datatypes::IntervalMonthDayNano;
use omendb_engine::db::{Db, LoadRecord, OnConflict, Options, check_directory};
use omendb_engine::io::{self, Buffer, IoRef, OpenMode};
use omendb_engine::key::KeyRange;
use omendb_engine::types::{ColumnId, ColumnType, FilterChoice, NewTable, RunChoices, TableDef, Value};
use std::fmt::Write;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DIR: &str = "/fixture";

fn home(fixture: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture)
}

fn options(io: &IoRef) -> Options {
    Options {
        dir: Some(DIR.into()),
        create: false,
        io: Some(Arc::clone(io)),
        log_segment_bytes: 16 << 10,
        threads: 1,
        ..Options::memory()
    }
}

const TYPES: [(&str, ColumnType); 16] = [
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

/// Row `k` of the table with all types; `n` is what its values are made of.
fn row(k: i64, n: i64) -> Vec<Value> {
    let mut row = vec![
        Value::Int(k),
        Value::Boolean(n % 2 == 0),
        Value::Int(n - 500),
        Value::Int(n * 1000),
        Value::Float32(n as f32 / 4.0),
        Value::Float64([f64::NAN, -0.0, f64::NEG_INFINITY, n as f64 / 10.0][n as usize % 4]),
        Value::Decimal(i128::from(n) * if n % 3 == 0 { 1 << 70 } else { 1 }),
        Value::Text(format!("tëxt {}", "xyz".repeat(n as usize % 30))),
        Value::Bytes(vec![n as u8; n as usize % 9]),
        Value::Int(19_000 + n),
        Value::Int(n * 1_000_000),
        Value::Int(1_700_000_000_000_000 + 60 * n),
        Value::Int(1_700_000_000_000_000 - n * n),
        Value::Interval(IntervalMonthDayNano::new(n as i32, -(n as i32), n)),
        Value::Uuid((n as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_0c6f).to_le_bytes()),
        Value::Text(format!("{{\"n\": {n}}}")),
    ];
    row.iter_mut().skip(1 + n as usize % 31).step_by(5).for_each(|value| *value = Value::Null);
    row
}

/// What a fixture answers, as text.
fn answers(db: &Db) -> String {
    let snapshot = db.snapshot().unwrap();
    let mut out = String::new();
    for table in snapshot.tables().unwrap() {
        writeln!(out, "table {} id {} storage {}", table.name, table.id.0, table.storage.0).unwrap();
        for column in &table.columns {
            let key = table.key.iter().position(|id| *id == column.id);
            let (id, name, ty, nullable) = (column.id.0, &column.name, column.ty, column.nullable);
            writeln!(out, "  column {id} {name} {ty:?} nullable {nullable} key {key:?} {:?}", column.attributes)
                .unwrap();
        }
        for load in db.loads(&table).unwrap() {
            writeln!(out, "  load of {} rows from {} with {}", load.rows, load.source, load.options).unwrap();
        }
        for row in rows(db, &table) {
            writeln!(out, "  {row:?}").unwrap();
        }
    }
    out
}

fn rows(db: &Db, table: &TableDef) -> Vec<Vec<Value>> {
    let mut projection = table.column_ids();
    projection.push(ColumnId::SEQ);
    if table.has_hidden_key() {
        projection.push(ColumnId::ROW_ID);
    }
    let request = omendb_engine::db::ScanRequest { projection, ..Default::default() };
    scan(&db.snapshot().unwrap(), table, request)
}

/// Leaves the database open, as a killed process does.
fn make_format_1(io: &IoRef) -> Db {
    let db = Db::open(Options { create: true, ..options(io) }).unwrap();
    let types = create(&db, "types", &TYPES, &["k"]);
    let hidden = create(&db, "hidden", &[("a", ColumnType::Text), ("b", ColumnType::Float64)], &[]);
    let series =
        create(&db, "series", &[("at", ColumnType::Timestamp), ("sensor", ColumnType::Text)], &["sensor", "at"]);
    let gone = create(&db, "gone", &[("k", ColumnType::Int64)], &["k"]);
    put(&db, &types, &(0..40).map(|k| row(k, k * 7)).collect::<Vec<_>>());
    put(&db, &hidden, &(0..9).map(|n| vec![Value::Text(format!("{n}")), Value::Float64(0.5)]).collect::<Vec<_>>());
    put(&db, &gone, &[vec![Value::Int(1)]]);
    db.compact(None).unwrap();
    let mut txn = db.begin().unwrap();
    let columns = series.column_ids();
    let loaded: Vec<_> = (0..300).map(|n| vec![Value::Int(n * 60), Value::Text(format!("sensor {}", n % 3))]).collect();
    let mut ingest = txn.ingest(&series, OnConflict::Error, 64 << 20).unwrap();
    ingest.write(&columns, &batch(&series, &columns, &loaded)).unwrap();
    ingest.finish().unwrap();
    let load = LoadRecord {
        content_hash: [5; 32],
        source: "sensors.csv".to_owned(),
        options: "delimiter=;".to_owned(),
        rows: 300,
        unix_micros: 1_700_000_000_000_000,
    };
    txn.record_load(&series, load).unwrap();
    txn.drop_table(gone.id).unwrap();
    txn.commit().unwrap();
    put(&db, &types, &(5..9).map(|k| row(k, k * 11)).collect::<Vec<_>>());
    delete(&db, &types, &[vec![Value::Int(3)], vec![Value::Int(15)]]);
    db.flush().unwrap();
    put(&db, &types, &[row(100, 5)]);
    db.close().unwrap();
    // What follows lies in the log alone.
    let db = Db::open(options(io)).unwrap();
    put(&db, &types, &[row(6, 600), row(101, 6)]);
    delete(&db, &types, &[vec![Value::Int(7)]]);
    put(&db, &hidden, &[vec![Value::Null, Value::Float64(-1.5)]]);
    let late = create(&db, "late", &[("k", ColumnType::Uuid)], &["k"]);
    put(&db, &late, &[vec![Value::Uuid([9; 16])]]);
    db
}

fn delete_range(db: &Db, table: &TableDef, from: i64, to: i64) {
    let range = KeyRange {
        start: Bound::Included(key(table, &[Value::Int(from)])),
        end: Bound::Excluded(key(table, &[Value::Int(to)])),
    };
    let mut txn = db.begin().unwrap();
    txn.delete_range(table, &range).unwrap();
    txn.commit().unwrap();
}

/// The same, with deleted ranges.
fn make_format_1_ranges(io: &IoRef) -> Db {
    let options = Options { create: true, background: false, ..options(io) };
    let db = Db::open(options.clone()).unwrap();
    let (cut, whole) = (create_kv(&db, "cut"), create_kv(&db, "whole"));
    let rows: Vec<_> = (0..600).map(|k| (k, k * k)).collect();
    for table in [&cut, &whole] {
        put(&db, table, &ints(&rows));
    }
    db.compact(None).unwrap();
    // Rows that a range hides in the last level, and younger rows in front of it.
    delete_range(&db, &cut, 100, 200);
    db.flush().unwrap();
    put(&db, &cut, &ints(&[(150, -1), (199, -2), (200, -3)]));
    db.flush().unwrap();
    // A range that comes and goes, with all that it hides.
    delete_range(&db, &whole, 0, 1000);
    db.flush().unwrap();
    db.compact(Some(whole.id)).unwrap();
    put(&db, &whole, &ints(&[(1, 1), (2, 2), (3, 3)]));
    delete_range(&db, &cut, 400, 420);
    db.close().unwrap();
    // What follows lies in the log alone.
    let db = Db::open(options).unwrap();
    delete_range(&db, &whole, 2, 3);
    put(&db, &cut, &ints(&[(405, -4)]));
    delete_range(&db, &cut, 590, 10_000);
    put(&db, &cut, &ints(&[(595, -5)]));
    db
}

/// Sixteen bytes of which nearly every bit is as likely as not.
fn scattered(n: i64) -> [u8; 16] {
    (n as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes()
}

/// Byte strings of one length: ids, hex digits, numbers, and texts of such parts.
fn numeral_row(n: i64) -> Vec<Value> {
    let id = scattered(n);
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    vec![
        Value::Bytes([&id[..], b"|end"].concat()),
        Value::Uuid(scattered(n * n)),
        Value::Text(format!("{:08}/{hex}", n * 37 % 1000)),
        Value::Bytes([b"the same", &scattered(n + 7)[..7], b"??", &scattered(n / 2)[..3]].concat()),
    ]
}

/// The same, with byte strings that are stored as numerals with a directory.
fn make_format_1_numerals(io: &IoRef) -> Db {
    let db = Db::open(Options { create: true, background: false, ..options(io) }).unwrap();
    let columns = [
        ("id", ColumnType::Bytes),
        ("uuid", ColumnType::Uuid),
        ("hex", ColumnType::Text),
        ("mixed", ColumnType::Bytes),
    ];
    let table = create(&db, "ids", &columns, &["id"]);
    put(&db, &table, &(0..400).map(numeral_row).collect::<Vec<_>>());
    db.compact(None).unwrap();
    put(&db, &table, &(350..500).map(numeral_row).collect::<Vec<_>>());
    db.flush().unwrap();
    db
}

/// The same, with filters.
fn make_format_1_filters(io: &IoRef) -> Db {
    let db = Db::open(Options { create: true, background: false, ..options(io) }).unwrap();
    let mut tables = Vec::new();
    for (name, filter) in [("filtered", FilterChoice::On), ("plain", FilterChoice::Off)] {
        let mut txn = db.begin().unwrap();
        let new = new_table(name, &[("k", ColumnType::Text), ("v", ColumnType::Int64)], &["k"]);
        let runs = RunChoices { filter, ..RunChoices::default() };
        tables.push(txn.create_table(NewTable { runs, ..new }).unwrap());
        txn.commit().unwrap();
    }
    for table in &tables {
        put(&db, table, &(0..3000).map(filter_row).collect::<Vec<_>>());
        db.compact(Some(table.id)).unwrap();
        put(&db, table, &(0..3000).step_by(60).map(filter_row).collect::<Vec<_>>());
        delete(&db, table, &[filter_row(70)[..1].to_vec()]);
        db.flush().unwrap();
    }
    db
}

fn filter_row(n: i64) -> Vec<Value> {
    vec![Value::Text(format!("key {}", n * 7)), Value::Int(n)]
}

/// Writes a fixture anew, if that is asked for.
fn write_if_asked(fixture: &str, make: fn(&IoRef) -> Db) {
    if std::env::var("OMENDB_WRITE_FIXTURE").as_deref() != Ok(fixture) {
        return;
    }
    let io = io::memory();
    let db = make(&io);
    let database = home(fixture).join("database");
    std::fs::remove_dir_all(&database).ok();
    std::fs::create_dir_all(&database).unwrap();
    for entry in io.list(Path::new(DIR)).unwrap().iter().filter(|entry| entry.name != "LOCK") {
        let file = io.open(&Path::new(DIR).join(&entry.name), OpenMode::Read).unwrap();
        let bytes = file.read_at(0, file.len().unwrap() as usize).unwrap();
        std::fs::write(database.join(&entry.name), &bytes[..]).unwrap();
    }
    std::fs::write(home(fixture).join("answers.txt"), answers(&db)).unwrap();
}

fn copied(fixture: &str) -> IoRef {
    let io = io::memory();
    io.create_dir_all(Path::new(DIR)).unwrap();
    for entry in std::fs::read_dir(home(fixture).join("database")).unwrap() {
        let path = entry.unwrap().path();
        let file = io.open(&Path::new(DIR).join(path.file_name().unwrap()), OpenMode::CreateNew).unwrap();
        file.write_all_at(0, Buffer::from_slice(&std::fs::read(path).unwrap())).unwrap();
    }
    io
}

/// That it is sound and answers as it did, to a reader and to a writer; gives both.
fn opened(fixture: &str) -> (Db, IoRef) {
    let expected = std::fs::read_to_string(home(fixture).join("answers.txt")).unwrap();
    let io = copied(fixture);
    assert_eq!(check_directory(&io, Path::new(DIR)).unwrap().problems, []);
    let reader = Db::open(Options { read_only: true, ..options(&io) }).unwrap();
    assert_eq!(answers(&reader), expected, "read only");
    let db = Db::open(options(&io)).unwrap();
    assert_eq!(answers(&db), expected);
    (db, io)
}

#[test]
fn a_database_of_format_1_opens_for_ever() {
    write_if_asked("format-1", make_format_1);
    let report = check_directory(&copied("format-1"), Path::new(DIR)).unwrap();
    assert!(report.log_records >= 4 && report.runs >= 5 && report.tables == 4, "{report}");
    let (db, io) = opened("format-1");
    db.compact(None).unwrap();
    let types = db.snapshot().unwrap().table("types").unwrap().unwrap();
    put(&db, &types, &[row(1000, 1)]);
    db.close().unwrap();
    let db = Db::open(options(&io)).unwrap();
    assert!(get(&db, &types, &[Value::Int(7)]).is_none(), "what was deleted stays deleted");
    assert!(get(&db, &types, &[Value::Int(1000)]).is_some());
    assert_eq!(db.check().unwrap().problems, []);
}

#[test]
fn a_database_of_format_1_with_deleted_ranges_opens_for_ever() {
    write_if_asked("format-1-ranges", make_format_1_ranges);
    let (db, io) = opened("format-1-ranges");
    let table = |db: &Db, name: &str| db.snapshot().unwrap().table(name).unwrap().unwrap();
    let (cut, whole) = (table(&db, "cut"), table(&db, "whole"));
    let version = |io: &IoRef| {
        let name = io.names(Path::new(DIR)).unwrap().into_iter().find(|name| name.starts_with("manifest-")).unwrap();
        io.open(&Path::new(DIR).join(name), OpenMode::Read).unwrap().read_exact_at(12, 4).unwrap()[0]
    };
    assert_eq!(version(&copied("format-1-ranges")), 2);
    let rows: Vec<_> = (0..600).filter(|k| !matches!(k, 100..200 | 400..420 | 590..)).map(|k| (k, k * k)).collect();
    let mut expect = std::collections::BTreeMap::from_iter(rows);
    expect.extend([(150, -1), (199, -2), (200, -3), (405, -4), (595, -5)]);
    let expect = ints(&expect.into_iter().collect::<Vec<_>>());
    let holds = |db: &Db| {
        assert_eq!(all(db, &cut), expect);
        assert_eq!(all(db, &whole), ints(&[(1, 1), (3, 3)]));
    };
    holds(&db);
    db.compact(None).unwrap();
    holds(&db);
    assert_eq!(db.stats().unwrap().erased_ranges, 0, "nothing is left behind them");
    db.close().unwrap();
    let db = Db::open(options(&io)).unwrap();
    holds(&db);
    assert_eq!(db.check().unwrap().problems, []);
}

#[test]
fn the_ranges_of_the_fixture_are_in_manifest_and_log() {
    // Without background work, which would merge them away.
    let io = copied("format-1-ranges");
    let reader = Db::open(Options { read_only: true, ..options(&io) }).unwrap();
    assert!(reader.stats().unwrap().erased_ranges >= 4, "{:?}", reader.stats().unwrap().erased_ranges);
    assert!(check_directory(&io, Path::new(DIR)).unwrap().log_records >= 4);
}

#[test]
fn a_database_of_format_1_with_numerals_in_directories_opens_for_ever() {
    write_if_asked("format-1-numerals", make_format_1_numerals);
    let (db, _) = opened("format-1-numerals");
    let table = db.snapshot().unwrap().table("ids").unwrap().unwrap();
    let found = |n: i64| get(&db, &table, &numeral_row(n)[..1]).is_some();
    assert!((0..500).all(found) && !(500..600).any(found));
    db.compact(None).unwrap();
    assert!((0..500).all(found) && !(500..600).any(found));
}

#[test]
fn a_database_of_format_1_with_filters_opens_for_ever() {
    write_if_asked("format-1-filters", make_format_1_filters);
    let (db, _) = opened("format-1-filters");
    let table = |name: &str| db.snapshot().unwrap().table(name).unwrap().unwrap();
    let has_filter =
        |name: &str| db.run_stats(&table(name)).unwrap().iter().map(|run| run.filter_bytes > 0).collect::<Vec<_>>();
    assert_eq!(has_filter("filtered"), [true, true], "an upper run and one of the last level");
    assert_eq!(has_filter("plain"), [false, false]);
    // First the filters are brought in, then they are asked.
    for _ in 0..2 {
        for name in ["filtered", "plain"] {
            let table = table(name);
            let found = |n: i64| get(&db, &table, &filter_row(n)[..1]).is_some();
            assert!((0..3000).all(|n| found(n) == (n != 70)));
            let absent = |n: i64| get(&db, &table, &[Value::Text(format!("key {}", n * 7 + 1))]).is_none();
            assert!((0..3000).all(absent));
        }
    }
    let stats = db.stats().unwrap();
    assert!(stats.filter_refusals > 8000 && stats.filter_errors < 80, "{stats:?}");
    db.compact(None).unwrap();
    assert_eq!((has_filter("filtered"), has_filter("plain")), (vec![true], vec![false]));
    assert_eq!(db.check().unwrap().problems, []);
}
