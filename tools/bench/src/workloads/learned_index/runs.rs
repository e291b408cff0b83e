/*!
Whole runs: what stays in memory of one for each slice, and what its index costs beside everything else that is written.

Runs are written into memory, as a flush or a merge writes them to a disk (encoded, checksummed, with statistics), by one thread; the
index is then built once more by itself, over the same slices.
*/

use super::machine;
use super::measure::{ROUNDS, Spread};
use super::{range, rounded};
use crate::failure::Failure;
use crate::result::TableOfFigures;
use crate::settings::Settings;
use crate::workloads::note;
use arrow::array::{ArrayRef, Float64Array, Int64Array, TimestampMicrosecondArray};
use omendb_engine::cache::Cache;
use omendb_engine::io::random::Random;
use omendb_engine::io::{IoRef, memory};
use omendb_engine::key::{EncodedKeys, KeySchema};
use omendb_engine::model::{IndexBuilder, IndexChoice};
use omendb_engine::run::{Layout, Run, RunBatch, RunMeta, RunOptions, RunSchema, RunWriter};
use omendb_engine::types::{ColumnId, ColumnType, RunId, Value};
use std::path::Path;
use std::sync::Arc;

/// Rows of a run.
const ROWS: usize = 2_000_000;
/// Rows that are handed over together.
const BATCH: usize = 8192;
/// Rows of a series.
const SERIES: usize = 50_000;
/// Enough for all of a run's units.
const CACHE_BYTES: usize = 256 << 20;

/// A table's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rows {
    /// `ts`, and four measurements.
    Time,
    /// `(series, ts)`, and three.
    Series,
    /// A key of 8 bytes, and a value of 8.
    Pair,
}

impl Rows {
    fn name(self) -> &'static str {
        match self {
            Rows::Time => "ts → 4 floats",
            Rows::Series => "(series, ts) → 3 floats",
            Rows::Pair => "integer → integer",
        }
    }

    fn schema(self) -> Result<RunSchema, Failure> {
        let (key, others): (&[ColumnType], &[ColumnType]) = match self {
            Rows::Time => (&[ColumnType::Timestamp], &[ColumnType::Float64; 4]),
            Rows::Series => (&[ColumnType::Int64, ColumnType::Timestamp], &[ColumnType::Float64; 3]),
            Rows::Pair => (&[ColumnType::Int64], &[ColumnType::Int64]),
        };
        let ids = (ColumnId::FIRST_USER.0..).map(ColumnId);
        let columns: Vec<(ColumnId, ColumnType)> = ids.zip(key.iter().chain(others).copied()).collect();
        let key_columns = columns.iter().take(key.len()).map(|column| column.0).collect();
        let key = KeySchema::new(key.iter().map(|ty| (*ty, false)).collect())?;
        Ok(RunSchema { key, key_columns, columns })
    }

    /// Rows `from` to `from + many`.
    fn batch(self, schema: &RunSchema, from: usize, many: usize) -> Result<RunBatch, Failure> {
        let mut keys = EncodedKeys::with_capacity(schema.key.fixed_width(), many);
        let mut columns: Vec<Vec<i64>> = vec![Vec::with_capacity(many); schema.key_columns.len()];
        for row in from..from + many {
            let key = self.key(row);
            columns.iter_mut().zip(&key).for_each(|(column, part)| column.push(*part));
            let values: Vec<Value> = key.into_iter().map(Value::Int).collect();
            keys.push(schema.key.encode(&values)?.as_bytes());
        }
        let mut arrays: Vec<ArrayRef> = Vec::new();
        let types = schema.columns.iter().map(|column| column.1);
        for (place, ty) in types.enumerate() {
            let integers = columns.get(place).cloned();
            let mut random = Random::new((from * 16 + place) as u64);
            arrays.push(match (ty, integers) {
                (ColumnType::Timestamp, Some(integers)) => Arc::new(TimestampMicrosecondArray::from(integers)),
                (_, Some(integers)) => Arc::new(Int64Array::from(integers)),
                (ColumnType::Int64, None) => {
                    let value = |_| random.next_u64().cast_signed() >> 40;
                    Arc::new((0..many).map(value).collect::<Int64Array>())
                }
                // Three digits behind the point, as measurements are logged.
                (_, None) => {
                    let value = |_| random.below(50_000) as f64 / 1000.0;
                    Arc::new((0..many).map(value).collect::<Float64Array>())
                }
            });
        }
        Ok(RunBatch { keys, seqs: vec![1; many], tombstones: None, columns: arrays })
    }

    fn key(self, row: usize) -> Vec<i64> {
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        // A second apart, with up to a tenth of it as jitter.
        let time = |step: usize, salt: usize| {
            let jitter = omendb_engine::io::random::mix((step ^ salt << 32) as u64) % 100_000;
            1_700_000_000_000_000 + number(step) * 1_000_000 + i64::try_from(jitter).unwrap_or(0)
        };
        match self {
            Rows::Time => vec![time(row, 0)],
            Rows::Series => vec![number(row / SERIES), time(row % SERIES, row / SERIES)],
            Rows::Pair => vec![time(row, 1) / 250_000],
        }
    }
}

/// The table.
///
/// # Errors
/// The engine's; Ctrl-C.
pub(super) fn table(settings: &Settings) -> Result<TableOfFigures, Failure> {
    let columns = [
        "rows",
        "layout",
        "index",
        "slices",
        "rows a slice",
        "in memory, bytes a slice",
        "file bytes a slice",
        "written, µs a slice",
        "range",
        "index built, ns a slice",
        "range",
        "of writing",
    ];
    let mut table = TableOfFigures {
        title: format!("Runs of {ROWS} rows"),
        columns: columns.map(str::to_owned).into(),
        rows: Vec::new(),
        notes: vec![
            "in memory: index, locators and places in the cache of an open run, all columns touched or not. written: encoded and \
             checksummed by one thread into memory, without a disk's time. Medians and ranges."
                .into(),
        ],
    };
    for rows in [Rows::Time, Rows::Series, Rows::Pair] {
        for layout in [Layout::Row, Layout::Column] {
            settings.stop_if_interrupted()?;
            note(settings, &format!("runs: {}, {layout:?}", rows.name()));
            for choice in [IndexChoice::Model, IndexChoice::Fences] {
                table.rows.push(row(rows, layout, choice)?);
            }
        }
    }
    Ok(table)
}

fn row(rows: Rows, layout: Layout, choice: IndexChoice) -> Result<Vec<serde_json::Value>, Failure> {
    let schema = rows.schema()?;
    let (mut written, mut built) = (Vec::new(), Vec::new());
    let mut last = None;
    for _ in 0..ROUNDS.div_ceil(2) {
        let (io, meta, nanos) = write(rows, &schema, layout, choice)?;
        let run = Run::open(&io, dir(), meta, &Cache::new(CACHE_BYTES))?;
        let bounds = bounds(&run)?;
        let (index, index_nanos) = machine::timed(|| {
            let mut builder = IndexBuilder::new(schema.key.shape(), choice);
            bounds.iter().for_each(|(first, last)| builder.push(first, last));
            builder.finish()
        });
        index?;
        built.push(index_nanos / bounds.len() as f64);
        written.push(nanos / bounds.len() as f64 / 1000.0);
        last = Some((io, run));
    }
    let Some((io, run)) = last else { return Ok(Vec::new()) };
    let (stats, slices) = (run.index_stats()?, run.slices()? as f64);
    let file = io.open(run.path(), omendb_engine::io::OpenMode::Read)?.len()?;
    let (written, built) = (Spread::of(&written), Spread::of(&built));
    Ok(vec![
        rows.name().into(),
        format!("{layout:?}").to_lowercase().into(),
        stats.index.kind.to_string().into(),
        stats.index.slices.into(),
        rounded(ROWS as f64 / slices),
        rounded(stats.memory_bytes as f64 / slices),
        rounded(file as f64 / slices),
        rounded(written.median),
        range(written),
        rounded(built.median),
        range(built),
        format!("{:.2} %", built.median / 10.0 / written.median).into(),
    ])
}

fn dir() -> &'static Path {
    Path::new("/runs")
}

/// Writes a run into memory; gives how many nanoseconds the writer took.
fn write(rows: Rows, schema: &RunSchema, layout: Layout, index: IndexChoice) -> Result<(IoRef, RunMeta, f64), Failure> {
    let io = memory();
    io.create_dir_all(dir())?;
    let options = RunOptions { layout, index, fixed_seq: Some(1), ..RunOptions::default() };
    let mut writer = RunWriter::create(&io, dir(), RunId(1), schema, options)?;
    let mut nanos = 0.0;
    for from in (0..ROWS).step_by(BATCH) {
        let batch = rows.batch(schema, from, BATCH.min(ROWS - from))?;
        let (done, batch_nanos) = machine::timed(|| writer.write(&batch));
        done?;
        nanos += batch_nanos;
    }
    let (meta, end_nanos) = machine::timed(|| writer.finish());
    Ok((io, meta?, nanos + end_nanos))
}

/// A slice's first and last key.
type Bounds = (Vec<u8>, Vec<u8>);

/// The first and the last key of each slice; the last but for its place in the order is any key before the next slice's first.
fn bounds(run: &Arc<Run>) -> Result<Vec<Bounds>, Failure> {
    let slices = run.slices()?;
    let firsts = (0..slices).map(|slice| Ok(run.first_key_of(slice)?.into_bytes()));
    let firsts = firsts.collect::<Result<Vec<_>, Failure>>()?;
    let mut bounds = Vec::with_capacity(slices);
    let ends = firsts.iter().skip(1).map(Vec::as_slice).map(Some).chain([None]);
    for (first, next) in firsts.iter().zip(ends) {
        bounds.push((first.clone(), next.map_or_else(|| run.meta().max_key.clone(), before)));
    }
    Ok(bounds)
}

/// The key of the same width before one.
fn before(key: &[u8]) -> Vec<u8> {
    let mut before = key.to_vec();
    for byte in before.iter_mut().rev() {
        *byte = byte.wrapping_sub(1);
        if *byte != u8::MAX {
            break;
        }
    }
    before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_runs_ascend() {
        for rows in [Rows::Time, Rows::Series, Rows::Pair] {
            let keys: Vec<_> = (SERIES - 500..SERIES + 500).map(|row| rows.key(row)).collect();
            assert!(keys.is_sorted_by(|a, b| a < b), "{rows:?}");
        }
    }

    #[test]
    fn the_key_before_another_borrows() {
        assert_eq!(before(&[1, 0, 0]), [0, 255, 255]);
        assert_eq!(before(&[1, 2, 3]), [1, 2, 2]);
    }
}
