/*!
The corpus: kept in `engine/fuzz/corpus`, a folder a target, and replayed here with mutations of each file.

`OMENDB_WRITE_CORPUS=1 cargo test -p omendb-engine corpus` writes the seeds, made by the encoders themselves, once more.
What a fuzzer found and is worth keeping lies beside them under its own name.
*/

use super::*;
use crate::io::IoRef;
use crate::io::random::Random;
use crate::key::{KeyRange, KeyShape};
use crate::manifest::{Edit, ErasedRange, LoadRecord, RunEntry};
use crate::memtable::Kind;
use crate::model::{IndexBuilder, IndexChoice};
use crate::row::encode_row;
use crate::run::RunMeta;
use crate::txn::record::RecordBuilder;
use crate::types::{RunId, StorageId, Value};
use arrow::datatypes::IntervalMonthDayNano;
use std::path::PathBuf;

/// Mutations of all of a target's files together.
const MUTATIONS: usize = 3000;

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

fn read(io: &IoRef, path: &Path) -> Vec<u8> {
    let file = io.open(path, OpenMode::Read).unwrap();
    file.read_at(0, file.len().unwrap() as usize).unwrap().to_vec()
}

/// A file of the corpus, changed a little, as fuzzers do.
fn mutated(bytes: &[u8], others: &[(String, Vec<u8>)], random: &mut Random) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..1 + random.index(4) {
        let at = random.index(out.len());
        match random.index(7) {
            0 | 1 if at < out.len() => out[at] ^= 1 << random.index(8),
            2 if at < out.len() => out[at] = [0, 1, 0x7f, 0x80, 0xff][random.index(5)],
            3 if at + 4 <= out.len() => {
                let number = [u32::MAX, 0, 1 << 31, 1 << 16, random.next_u64() as u32][random.index(5)];
                out[at..at + 4].copy_from_slice(&number.to_le_bytes());
            }
            4 => out.truncate(at),
            5 => drop(out.splice(at..at, vec![random.next_u64() as u8; random.index(9)])),
            _ => {
                let (_, other) = &others[random.index(others.len())];
                let from = random.index(other.len());
                let piece = &other[from..other.len().min(from + random.index(64))];
                drop(out.splice(at..(at + piece.len()).min(out.len()), piece.iter().copied()));
            }
        }
    }
    out
}

#[test]
fn the_corpus_and_mutations_of_it_come_back_from_every_decoder() {
    let io = io::posix();
    if std::env::var("OMENDB_WRITE_CORPUS").is_ok() {
        write_seeds(&io);
    }
    for (number, (name, target)) in (0u64..).zip(TARGETS) {
        let names = io.list(&folder(name)).unwrap();
        let files: Vec<_> = names.iter().map(|e| (e.name.clone(), read(&io, &folder(name).join(&e.name)))).collect();
        assert!(!files.is_empty(), "{name} has no corpus");
        // A panic names the target and the file, or the seed.
        for (file, bytes) in &files {
            println!("{name}/{file}");
            target(bytes);
        }
        for round in 0..MUTATIONS {
            let seed = number << 32 | round as u64;
            let mut random = Random::new(seed);
            let (file, bytes) = &files[round % files.len()];
            println!("{name}/{file}, mutation {seed:#x}");
            target(&mutated(bytes, &files, &mut random));
        }
    }
}

#[test]
fn seeds_are_what_decoders_take() {
    // Else a format has changed, and the corpus with its old seeds reaches nothing any more.
    for (_, bytes) in seeds().iter().filter(|(name, _)| name.starts_with("log_record/")) {
        assert!(txn::record::decode(bytes).unwrap().operations.all(|operation| operation.is_ok()));
    }
    for (name, bytes) in seeds().iter().filter(|(name, _)| name.starts_with("vector_")) {
        let types: &[ColumnType] = match name.split_once('/').unwrap().0 {
            "vector_integers" => &INTEGERS,
            "vector_floats" => &FLOATS,
            "vector_decimals" => &DECIMALS,
            _ => &STRINGS,
        };
        assert!(Vector::open(&bytes[1..], chosen(bytes[0], types)).is_ok(), "{name}");
    }
    for (name, bytes) in run::fuzz::filter_seeds() {
        assert!(run::fuzz::is_filter(&bytes), "{name}");
    }
    for (name, bytes) in seeds().iter().filter(|(name, _)| name.starts_with("model/")) {
        assert!(SliceIndex::open(bytes).is_ok(), "{name}");
    }
}

fn write_seeds(io: &IoRef) {
    for (name, bytes) in seeds() {
        let (target, file) = name.split_once('/').unwrap();
        io.create_dir_all(&folder(target)).unwrap();
        let file = io.open(&folder(target).join(file), OpenMode::Create).unwrap();
        file.set_len(0).unwrap();
        file.write_all_at(0, Buffer::from_slice(&bytes)).unwrap();
    }
}

/// A value of a type, from a number.
fn value(ty: ColumnType, n: i64) -> Value {
    match ty {
        ColumnType::Boolean => Value::Boolean(n % 3 == 0),
        ColumnType::Float32 => Value::Float32(n as f32 / 4.0),
        ColumnType::Float64 => Value::Float64(n as f64 / 10.0),
        ColumnType::Decimal { .. } => Value::Decimal(i128::from(n) * 1_000_003),
        ColumnType::Text => Value::Text(format!("text number {n}")),
        ColumnType::Json => Value::Text(format!("[{n}]")),
        ColumnType::Bytes => Value::Bytes(vec![n as u8; (n % 7).unsigned_abs() as usize]),
        ColumnType::Interval => Value::Interval(IntervalMonthDayNano::new(n as i32, 1, n)),
        ColumnType::Uuid => Value::Uuid((n as u128).wrapping_mul(77).to_be_bytes()),
        _ => Value::Int(n),
    }
}

/// Vectors of every shape that the encoder knows: name, type's place, bytes.
fn vectors(types: &[ColumnType]) -> Vec<(String, Vec<u8>)> {
    type Shape = fn(i64) -> Option<i64>;
    let shapes: [(&str, Shape); 8] = [
        ("constant", |_| Some(42)),
        ("line", |i| Some(1000 + 60 * i)),
        ("rough-line", |i| Some(5 * i + i * i % 7)),
        ("lines", |i| Some(if i < 50 { 3 * i } else { 9000 - 7 * i })),
        ("few", |i| Some([3, 300, 7, 11_111][(i * i % 4) as usize])),
        ("random", |i| Some(i.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64) >> 50)),
        ("nulls", |i| (i % 3 > 0).then_some(i)),
        ("all-null", |_| None),
    ];
    let mut out = Vec::new();
    for (place, ty) in (0u8..).zip(types) {
        for (name, shape) in shapes {
            let mut sink = ColumnSink::new(*ty, 100);
            for i in 0..100 {
                sink.append(&shape(i).map_or(Value::Null, |n| value(*ty, n % 30_000))).unwrap();
            }
            let mut bytes = vec![place];
            crate::encoding::encode(&sink.finish(), 0..100, *ty, &mut bytes).unwrap();
            out.push((format!("{place}-{name}"), bytes));
        }
    }
    out
}

fn indexes() -> Vec<(&'static str, Vec<u8>)> {
    let build = |shape, choice, keys: Vec<Vec<u8>>| {
        let mut builder = IndexBuilder::new(shape, choice);
        keys.chunks_exact(2).for_each(|pair| builder.push(&pair[0], &pair[1]));
        builder.finish().unwrap().0
    };
    let ints = |step: fn(u64) -> u64| (0..400u64).map(|i| step(i).to_be_bytes().to_vec()).collect::<Vec<_>>();
    let texts = (0..200).map(|i| format!("customer-{i:05}-é").into_bytes()).collect::<Vec<_>>();
    let series = |i: u64| [format!("s{:02}\0\x01", i / 40).as_bytes(), &(i * 60).to_be_bytes()].concat();
    let series: Vec<_> = (0..400u64).map(series).collect();
    let wide = (0..100u128).map(|i| (i << 90).to_be_bytes().to_vec()).collect();
    let prefixed = KeyShape::Series { prefix_fixed_width: None };
    vec![
        ("ints-fences", build(KeyShape::Int, IndexChoice::Fences, ints(|i| i * 7))),
        ("ints-model", build(KeyShape::Int, IndexChoice::Model, ints(|i| i * 1000 + i % 13))),
        ("ints-bent", build(KeyShape::Int, IndexChoice::Model, ints(|i| i * i * i))),
        ("texts", build(KeyShape::Bytes, IndexChoice::Auto, texts)),
        ("series-model", build(prefixed, IndexChoice::Model, series.clone())),
        ("series-fences", build(prefixed, IndexChoice::Fences, series)),
        ("wide", build(KeyShape::Bytes, IndexChoice::Auto, wide)),
    ]
}

fn an_edit() -> Edit {
    let meta = RunMeta {
        id: RunId(12),
        random_id: 99,
        rows: 10,
        tombstones: 1,
        bytes: 4096,
        footer_offset: 4000,
        footer_bytes: 32,
        layout: crate::run::Layout::Column,
        min_key: vec![1; 8],
        max_key: vec![9; 8],
        min_seq: 1,
        max_seq: 5,
    };
    let load = LoadRecord {
        content_hash: [3; 32],
        source: "a.csv".to_owned(),
        options: "delimiter=;".to_owned(),
        rows: 10,
        unix_micros: -5,
    };
    Edit {
        remove_runs: vec![RunId(1)],
        drop_storages: vec![StorageId(9)],
        add_runs: vec![(StorageId(2), RunEntry { level: 7, meta, fixed_seq: Some(8) })],
        move_runs: vec![(RunId(2), 6)],
        remove_erased: vec![(StorageId(2), ErasedRange { seq: 3, range: KeyRange::all() })],
        add_erased: vec![(StorageId(2), ErasedRange { seq: 4, range: KeyRange::prefix(b"ab") })],
        next_run_id: Some(77),
        last_seq: Some(55),
        wal_released_to: Some(1 << 50),
        wal_durable_to: Some(1 << 51),
        next_row_ids: vec![(StorageId(2), 1000)],
        flushed_seqs: vec![(StorageId(2), 54)],
        loads: vec![(StorageId(2), load)],
    }
}

fn a_row(n: i64) -> Vec<u8> {
    let values: Vec<Value> = ALL.iter().map(|ty| value(*ty, n)).collect();
    let mut out = Vec::new();
    let columns = ALL.iter().zip(ColumnId::FIRST_USER.0..).zip(&values);
    encode_row(&mut out, columns.map(|((ty, id), value)| (ColumnId(id), *ty, value))).unwrap();
    out
}

fn a_record() -> Vec<u8> {
    let mut builder = RecordBuilder::new();
    builder.push(StorageId(101), Kind::Put, &(1u64 << 63 | 5).to_be_bytes(), &a_row(5));
    builder.push(StorageId(101), Kind::Tombstone, &(1u64 << 63 | 6).to_be_bytes(), &[1]);
    builder.seal(42, -5).to_vec()
}

fn a_record_with_ranges() -> Vec<u8> {
    let mut builder = RecordBuilder::new();
    builder.push_range(StorageId(101), &KeyRange::prefix(&[128, 1]));
    builder.push(StorageId(101), Kind::Put, &(1u64 << 63 | 5).to_be_bytes(), &a_row(5));
    builder.push_range(StorageId(102), &KeyRange::all());
    builder.seal(43, -5).to_vec()
}

/// All files of small databases: segments, manifests, texts and pieces of runs.
fn from_databases() -> Vec<(String, Vec<u8>)> {
    use crate::db::{Db, Options};
    use crate::types::{Attributes, NewColumn, NewTable};
    let io = io::memory();
    let dir = Path::new("/seeds");
    let options = || Options {
        dir: Some(dir.into()),
        io: Some(io.clone()),
        threads: 1,
        log_segment_bytes: 16 << 10,
        ..Options::memory()
    };
    let db = Db::open(options()).unwrap();
    for number in 0..3 {
        let mut txn = db.begin().unwrap();
        let attributes = Attributes::from([("a".to_owned(), "b".to_owned())]);
        let column =
            |name: &str, ty| NewColumn { name: name.to_owned(), ty, nullable: true, attributes: attributes.clone() };
        let columns = vec![column("k", ColumnType::Int64), column("t", ColumnType::Text)];
        let (name, key) = (format!("table{number}"), vec!["k".to_owned()]);
        txn.create_table(NewTable { name, columns, key, ..NewTable::default() }).unwrap();
        txn.commit().unwrap();
        if number == 1 {
            db.flush().unwrap();
        }
    }
    let mut out = Vec::new();
    for entry in io.list(dir).unwrap() {
        let bytes = read(&io, &dir.join(&entry.name));
        let name = match entry.name.as_str() {
            name if name.starts_with("wal-") => format!("log_segment/{name}"),
            name if name.starts_with("manifest-") => format!("manifest_file/{name}"),
            name @ ("CURRENT" | "OMENDB") => format!("text_files/{name}"),
            name if name.starts_with("run-") => {
                let parts = run::fuzz::parts(&io, dir, &entry.name);
                out.extend(parts.into_iter().map(|(target, bytes)| (format!("{target}/{name}"), bytes)));
                continue;
            }
            _ => continue,
        };
        // Zeros at the end need no place in the repository.
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        out.push((name, bytes[..end].to_vec()));
    }
    out
}

/// Every seed, under `target/name`.
fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut out = from_databases();
    let mut add = |name: &str, bytes: Vec<u8>| out.push((name.to_owned(), bytes));
    let lists: [(&str, &[ColumnType]); 4] = [
        ("vector_integers", &INTEGERS[3..4]),
        ("vector_floats", &FLOATS),
        ("vector_decimals", &DECIMALS),
        ("vector_strings", &STRINGS),
    ];
    for (target, types) in lists {
        for (name, mut bytes) in vectors(types) {
            // Int64 alone stands for the integers; it is the fourth of them.
            bytes[0] += if target == "vector_integers" { 3 } else { 0 };
            add(&format!("{target}/{name}"), bytes);
        }
    }
    for (name, bytes) in vectors(&ALL).into_iter().filter(|(name, _)| name.ends_with("-line")) {
        let guard = [&[2, b'a', b'b', 3][..], b"xyz"].concat();
        add(&format!("run_tile/{name}"), [&bytes[..1], &guard, &bytes[1..]].concat());
    }
    for (name, bytes) in indexes() {
        add(&format!("model/{name}"), bytes);
    }
    let mut edit = Vec::new();
    an_edit().encode(&mut edit).unwrap();
    add("manifest_edit/all-fields", edit);
    let mut meta = Vec::new();
    an_edit().add_runs[0].1.meta.encode(&mut meta);
    add("run_schema/meta", meta);
    add("row/all-types", a_row(77));
    add("log_record/two", a_record());
    add("log_record/ranges", a_record_with_ranges());
    let columns = ALL.iter().filter(|ty| ty.is_orderable()).map(|ty| (*ty, true)).collect();
    let values: Vec<Value> = ALL.iter().filter(|ty| ty.is_orderable()).map(|ty| value(*ty, 9)).collect();
    add("key/all-types", KeySchema::new(columns).unwrap().encode(&values).unwrap().into_bytes());
    let series = KeySchema::new(vec![(ColumnType::Text, false), (ColumnType::Timestamp, false)]).unwrap();
    let key = series.encode(&[Value::Text("a\0b".to_owned()), Value::Int(-1)]).unwrap();
    add("key/series", key.into_bytes());
    for (name, bytes) in wal::fuzz::seeds(&a_record()) {
        add(&format!("log_frame/{name}"), bytes);
    }
    for (name, bytes) in run::fuzz::seeds() {
        add(&format!("run_footer/{name}"), bytes);
    }
    for (name, bytes) in run::fuzz::filter_seeds() {
        add(&format!("run_filter/{name}"), bytes);
    }
    out
}
