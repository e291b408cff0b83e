/*!
The decoders of everything that is stored, one function each, for fuzzing: `engine/fuzz` calls them with what it makes up,
and the tests below with the corpus that it keeps and with mutations of it.

Each function must come back, whatever the bytes: no panic, no endless loop, no memory beyond what the bytes justify. Where
bytes carry a checksum, a function takes them twice: as they are, and with the checksum set right, so that what stands behind
it is reached. This is no part of the engine's interface: it is there for tests and with the feature `fuzzing` only.
*/

#[cfg(test)]
mod corpus;

use crate::column::ColumnSink;
use crate::encoding::Vector;
use crate::io::{self, Buffer, OpenMode};
use crate::key::KeySchema;
use crate::model::SliceIndex;
use crate::row::RowReader;
use crate::types::{ColumnId, ColumnType};
use crate::{db, manifest, run, txn, wal};
use std::path::Path;

/// A decoder under test.
pub type Target = fn(&[u8]);

/// All of them, with the names that `engine/fuzz` and the corpus have for them.
pub const TARGETS: [(&str, Target); 18] = [
    ("log_frame", log_frame),
    ("log_segment", log_segment),
    ("log_record", log_record),
    ("manifest_edit", manifest_edit),
    ("manifest_file", manifest_file),
    ("text_files", text_files),
    ("run_footer", run_footer),
    ("run_schema", run_schema),
    ("run_statistics", run_statistics),
    ("run_filter", run_filter),
    ("run_tile", run_tile),
    ("vector_integers", vector_integers),
    ("vector_floats", vector_floats),
    ("vector_decimals", vector_decimals),
    ("vector_strings", vector_strings),
    ("model", model),
    ("row", row),
    ("key", key),
];

/// A frame of the log, or a segment's header.
pub fn log_frame(bytes: &[u8]) {
    wal::fuzz::frame(bytes);
}

/// A whole segment: its frames in their order, its records put together.
pub fn log_segment(bytes: &[u8]) {
    let io = io::memory();
    let dir = Path::new("/log");
    let put = || {
        io.create_dir_all(dir)?;
        let file = io.open(&dir.join("wal-00000001.log"), OpenMode::Create)?;
        file.write_all_at(0, Buffer::from_slice(&wal::fuzz::sealed(bytes)))?;
        let id = bytes.get(16..32).and_then(|id| id.try_into().ok()).unwrap_or_default();
        let mut take = |_, record: &[u8]| {
            log_record(record);
            Ok(())
        };
        wal::inspect::inspect(&io, dir, &id, 0.into(), &mut take).map(drop)
    };
    let _ = put();
}

/// A commit as a log record, and the rows in it.
pub fn log_record(bytes: &[u8]) {
    if let Ok(record) = txn::record::decode(bytes) {
        for operation in record.operations.flatten() {
            if let txn::record::What::Row(change) = operation.what {
                key(change.key);
                row(change.row);
            }
        }
    }
}

/// The fields of an edit.
pub fn manifest_edit(bytes: &[u8]) {
    manifest::fuzz::edit(bytes);
}

/// A whole manifest.
pub fn manifest_file(bytes: &[u8]) {
    manifest::fuzz::file(bytes);
}

/// `CURRENT` and `OMENDB`.
pub fn text_files(bytes: &[u8]) {
    manifest::fuzz::current(bytes);
    db::fuzz_identity(bytes);
}

/// A run's trailer, footer and locators.
pub fn run_footer(bytes: &[u8]) {
    run::fuzz::footer(bytes);
}

/// A run's schema, and its description in the manifest.
pub fn run_schema(bytes: &[u8]) {
    run::fuzz::schema(bytes);
}

/// A column's statistics. The first byte chooses the type.
pub fn run_statistics(bytes: &[u8]) {
    if let Some((choice, rest)) = bytes.split_first() {
        run::fuzz::statistics(rest, chosen(*choice, &ALL));
    }
}

/// A block of a run's filter, and the filter in it.
pub fn run_filter(bytes: &[u8]) {
    run::fuzz::filter(bytes);
}

/// A frame of a tile: guards and a vector. The first byte chooses the vector's type.
pub fn run_tile(bytes: &[u8]) {
    if let Some((choice, rest)) = bytes.split_first()
        && let Some(vector) = run::fuzz::tile(rest)
    {
        read_vector(vector, chosen(*choice, &ALL));
    }
}

const INTEGERS: [ColumnType; 8] = [
    ColumnType::Boolean,
    ColumnType::Int16,
    ColumnType::Int32,
    ColumnType::Int64,
    ColumnType::Date,
    ColumnType::Time,
    ColumnType::Timestamp,
    ColumnType::TimestampTz,
];
const FLOATS: [ColumnType; 2] = [ColumnType::Float32, ColumnType::Float64];
const DECIMALS: [ColumnType; 2] =
    [ColumnType::Decimal { precision: 12, scale: 2 }, ColumnType::Decimal { precision: 38, scale: 10 }];
const STRINGS: [ColumnType; 5] =
    [ColumnType::Text, ColumnType::Bytes, ColumnType::Interval, ColumnType::Uuid, ColumnType::Json];
const ALL: [ColumnType; 16] = [
    ColumnType::Boolean,
    ColumnType::Int16,
    ColumnType::Int32,
    ColumnType::Int64,
    ColumnType::Float32,
    ColumnType::Float64,
    ColumnType::Decimal { precision: 12, scale: 2 },
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

fn chosen(choice: u8, types: &[ColumnType]) -> ColumnType {
    types.get(usize::from(choice) % types.len().max(1)).copied().unwrap_or(ColumnType::Int64)
}

fn vector(bytes: &[u8], types: &[ColumnType]) {
    if let Some((choice, rest)) = bytes.split_first() {
        read_vector(rest, chosen(*choice, types));
    }
}

/// A vector of integers, dates, times or booleans; the first byte chooses the type.
pub fn vector_integers(bytes: &[u8]) {
    vector(bytes, &INTEGERS);
}

/// A vector of floats; the first byte chooses the type.
pub fn vector_floats(bytes: &[u8]) {
    vector(bytes, &FLOATS);
}

/// A vector of decimals; the first byte chooses the type.
pub fn vector_decimals(bytes: &[u8]) {
    vector(bytes, &DECIMALS);
}

/// A vector of texts, byte strings, intervals or UUIDs; the first byte chooses the type.
pub fn vector_strings(bytes: &[u8]) {
    vector(bytes, &STRINGS);
}

/// Reads a vector in every way.
fn read_vector(bytes: &[u8], ty: ColumnType) {
    let Ok(vector) = Vector::open(bytes, ty) else { return };
    let mut sink = ColumnSink::new(ty, 0);
    let _ = vector.decode(0..vector.len(), &mut sink);
    let _ = vector.decode(vector.len() / 3..vector.len() / 2, &mut sink);
    let _ = vector.gather(&[0, 7, 3, 0], &mut sink);
    drop(sink.finish());
    for row in (0..vector.len()).step_by(7).chain([vector.len() - 1, vector.len()]) {
        let _ = (vector.value(row), vector.int(row), vector.is_null(row));
    }
}

/// A slice index: fences, separators or model. The last bytes are keys to look for too.
pub fn model(bytes: &[u8]) {
    let _ = SliceIndex::open(bytes).map(|index| look_up(&index, bytes));
    let mut sealed = bytes.to_vec();
    if let Some((body, sum)) = sealed.split_last_chunk_mut::<4>() {
        *sum = crc32c::crc32c(body).to_le_bytes();
        let _ = SliceIndex::open(&sealed).map(|index| look_up(&index, &sealed));
    }
}

fn look_up(index: &SliceIndex, bytes: &[u8]) {
    let ends = [1usize, 7, 8, 9, 15, 16, 17, 24, 40, 64];
    let mut keys: Vec<&[u8]> = ends.iter().filter_map(|len| bytes.get(bytes.len().checked_sub(*len)?..)).collect();
    keys.extend(bytes.chunks(8).take(64));
    keys.push(&[]);
    let slices = index.slices().max(1);
    for key in &keys {
        assert!(index.find(key) < slices, "an index names a slice that is not there");
        assert!(index.predict(key).slice < slices, "an index explains a slice that is not there");
    }
    let mut found = Vec::new();
    index.find_batch(&keys, &mut found);
    assert!(found.len() == keys.len() && found.iter().all(|slice| *slice < slices));
}

/// An encoded row.
pub fn row(bytes: &[u8]) {
    let Ok(reader) = RowReader::open(bytes) else { return };
    let mut sinks: Vec<ColumnSink> = ALL.iter().map(|ty| ColumnSink::new(*ty, 1)).collect();
    for (ty, id) in ALL.iter().zip(ColumnId::FIRST_USER.0..) {
        let _ = reader.value(ColumnId(id), *ty);
    }
    let columns: Vec<_> = ALL.iter().zip(ColumnId::FIRST_USER.0..).map(|(ty, id)| (ColumnId(id), *ty)).collect();
    let _ = reader.append_to(&columns, &mut sinks);
}

/// An encoded key, under schemas of all types.
pub fn key(bytes: &[u8]) {
    let orderable = ALL.iter().filter(|ty| ty.is_orderable());
    let one = orderable.clone().flat_map(|ty| [vec![(*ty, false)], vec![(*ty, true)]]);
    let all = orderable.map(|ty| (*ty, true)).collect();
    let series = vec![(ColumnType::Text, false), (ColumnType::Timestamp, false)];
    for columns in one.chain([all, series]) {
        let Ok(schema) = KeySchema::new(columns) else { continue };
        if let Ok(values) = schema.decode(bytes) {
            let _ = schema.encode(&values);
        }
    }
}
