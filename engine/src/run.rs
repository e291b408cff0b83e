/*!
A run: one immutable file of rows, sorted by key, in tiles of column vectors, with its own index and statistics.

A run is written once by a [`RunWriter`], which takes rows in strictly ascending key order, and is read for ever after
through a [`Run`]: point lookups through the model room's index, scans that read only the columns asked for and skip
slices whose statistics exclude them. `run/format.rs` draws the file.

```text
    format       the file: header, frames, footer, trailer, and the checksum that ties a frame to its place
    locators     where each vector lies, in few bits
    statistics   rows, nulls, least, greatest and sum of each column of each slice
    predicate    tests of a column against constants, and what statistics say about them
    select       which rows pass such tests
    summary      what slices come to without their rows, where statistics say it exactly
    pieces       rows by their places, and the places of keys
    tile         a tile's columns as vectors
    series       where tiles end early, with a series
    writer       rows in, file out; encoders on their own threads
    loaded       what the first use brings into memory; units, frames and vectors from the cache or the file
    bring        what lookups need and the cache does not have, read at once
    reader       the open run
    lookup       rows by key, one or many, and their values
    search       a key's place within a slice, on encoded vectors
    scan         ranges, projections, pruning, read-ahead
    filter       which keys a run does not have, without reading their slices
    spread       how many rows lie below a bound, as far as statistics tell
    verify       reads everything and reports what does not hold
    meta         what the manifest keeps about a run
```

**Promises.** A byte that is not what was written is found when it is read, and is an error that names file and offset;
it is never an answer. No count or length from the file is trusted before it is checked.

**What it does not know**: snapshots, levels, other runs, and whether a row is still the newest of its key.
*/

mod bring;
mod filter;
mod format;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod loaded;
mod locators;
mod lookup;
mod many;
pub mod meta;
pub(crate) mod pieces;
pub mod predicate;
mod reader;
mod scan;
mod search;
pub(crate) mod select;
mod series;
mod spread;
mod statistics;
pub(crate) mod summary;
mod tile;
mod verify;
mod writer;

pub(crate) use bring::Misses;
pub use loaded::RunFilterStats;
pub use lookup::{Found, Wanted};
pub use meta::RunMeta;
pub use predicate::{ColumnPredicate, CompareOp, Test};
pub use reader::{Run, RunIndexStats};
pub(crate) use scan::GROWTH;
pub use scan::{RunScan, RunScanMetrics, RunScanOptions, SCAN_ROWS_MAX};
pub use select::decides;
pub use statistics::SliceStats;
pub(crate) use statistics::{Needs, sum_type};
pub use verify::Finding;
pub use writer::RunWriter;

use crate::error::{Error, Result};
use crate::key::{EncodedKeys, KeySchema};
use crate::model::IndexChoice;
use crate::types::{ColumnId, ColumnType, LayoutChoice, RunId, Seq, TableDef};
use arrow::array::{ArrayRef, BooleanArray};
use std::path::{Path, PathBuf};

/// What a run stores of a table.
#[derive(Debug, Clone)]
pub struct RunSchema {
    /// How keys are encoded.
    pub key: KeySchema,
    /// The key's columns, first to last; each is also in `columns`.
    pub key_columns: Vec<ColumnId>,
    /// All stored columns, key columns first, the hidden row id among them. Their order is the file's order.
    pub columns: Vec<(ColumnId, ColumnType)>,
}

impl RunSchema {
    /// What runs of `table` store: its key's columns, then the others as declared.
    pub fn of(table: &TableDef) -> Result<RunSchema> {
        let mut columns = table.key_columns()?;
        let key_columns: Vec<ColumnId> = columns.iter().map(|column| column.0).collect();
        let others = table.columns.iter().filter(|column| !key_columns.contains(&column.id));
        columns.extend(others.map(|column| (column.id, column.ty)));
        Ok(RunSchema { key: KeySchema::of(table)?, key_columns, columns })
    }

    /// Which column of the key this is, where the key says its values exactly.
    pub fn exact_key_place(&self, column: ColumnId) -> Option<usize> {
        let place = self.key_columns.iter().position(|id| *id == column)?;
        self.key.columns().get(place).filter(|column| column.ty.is_exact_in_keys()).map(|_| place)
    }

    /// The columns that rows as bytes have beside their keys, ascending by id: what the key says exactly is not said twice.
    pub fn row_columns(&self) -> Vec<(ColumnId, ColumnType)> {
        let said = |column: &&(ColumnId, ColumnType)| self.exact_key_place(column.0).is_none();
        let mut columns: Vec<(ColumnId, ColumnType)> = self.columns.iter().filter(said).copied().collect();
        columns.sort_by_key(|(id, _)| *id);
        columns
    }

    /// The place of a column in `columns`.
    pub fn position(&self, column: ColumnId) -> Option<usize> {
        self.columns.iter().position(|(id, _)| *id == column)
    }

    /// The ids of all columns, in order: the projection that [`RunWriter::write`] expects.
    pub fn column_ids(&self) -> Vec<ColumnId> {
        self.columns.iter().map(|(id, _)| *id).collect()
    }
}

/// Rows on their way into or out of a run, in key order.
#[derive(Debug, Clone)]
pub struct RunBatch {
    /// A key for each row; empty if the scan was not asked for keys.
    pub keys: EncodedKeys,
    /// The sequence number of each row.
    pub seqs: Vec<Seq>,
    /// Which rows are tombstones; `None` where none is. A tombstone has its key columns set and all others NULL.
    pub tombstones: Option<BooleanArray>,
    /// The columns asked for, each in its type's own Arrow type.
    pub columns: Vec<ArrayRef>,
}

impl RunBatch {
    /// Rows.
    pub fn len(&self) -> usize {
        self.seqs.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.seqs.is_empty()
    }

    /// Whether `row` is a tombstone.
    pub fn is_tombstone(&self, row: usize) -> bool {
        self.tombstones.as_ref().is_some_and(|kinds| row < kinds.len() && kinds.value(row))
    }
}

/// The shape of a run's tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// A tile is one slice: all columns of a few rows lie together, so that a row is one contiguous read.
    Row,
    /// A tile is 8,192 rows: each column lies together, so that a scan reads only its columns.
    #[default]
    Column,
}

impl Layout {
    /// What a table asks for, or else what goes with the run's level.
    pub(crate) fn chosen(by_table: LayoutChoice, by_level: Layout) -> Layout {
        match by_table {
            LayoutChoice::Auto => by_level,
            LayoutChoice::Row => Layout::Row,
            LayoutChoice::Column => Layout::Column,
        }
    }

    /// The number that stands for it in files.
    fn code(self) -> u8 {
        match self {
            Layout::Row => 0,
            Layout::Column => 1,
        }
    }

    fn of_code(code: u64) -> Result<Layout> {
        match code {
            0 => Ok(Layout::Row),
            1 => Ok(Layout::Column),
            code => Err(Error::corruption(format!("a run has layout {code}, which is not known"))),
        }
    }
}

/// How a run is written.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The shape of tiles.
    pub layout: Layout,
    /// Which index to build over the slices.
    pub index: IndexChoice,
    /// The sequence number of all rows, where it is one: then no numbers are stored. What the batches say is not
    /// looked at.
    pub fixed_seq: Option<Seq>,
    /// Encoder threads beside the caller's own; 0 encodes in [`RunWriter::write`]. At most [`ENCODER_THREADS_MAX`].
    pub threads: usize,
    /// The run will be merged before long: writing it fast counts for more than its size.
    pub short_lived: bool,
    /// Whether the run gets a filter, for keys that are not there.
    pub filter: bool,
    /// Rows of a slice, a power of two; `None` measures the first rows and aims at `SLICE_BYTES_TARGET`.
    pub slice_rows: Option<usize>,
}

/// Encoder threads of one writer.
pub const ENCODER_THREADS_MAX: usize = 16;

impl Default for RunOptions {
    fn default() -> Self {
        RunOptions {
            layout: Layout::Column,
            index: IndexChoice::Auto,
            fixed_seq: None,
            threads: 0,
            short_lived: false,
            filter: false,
            slice_rows: None,
        }
    }
}

/// The name of a run's file in its directory.
pub fn file_name(id: RunId) -> String {
    format!("run-{}.omen", id.0)
}

/// The path of a run's file.
pub fn file_path(dir: &Path, id: RunId) -> PathBuf {
    dir.join(file_name(id))
}

/// The run whose file has this name; `None` for any other file.
pub fn parse_file_name(name: &str) -> Option<RunId> {
    let digits = name.strip_prefix("run-")?.strip_suffix(".omen")?;
    let id = digits.parse().ok().map(RunId)?;
    (file_name(id) == name).then_some(id)
}

/// The system columns: stored like others, but left out where they say nothing.
const SEQ_TYPE: ColumnType = ColumnType::Int64;
const KIND_TYPE: ColumnType = ColumnType::Boolean;

/// A sequence number as the `Int64` in which it is stored and shown: the same bits.
fn seq_to_int(seq: Seq) -> i64 {
    seq.cast_signed()
}

/// The sequence number that [`seq_to_int`] stored.
fn seq_from_int(int: i64) -> Seq {
    int.cast_unsigned()
}

/// An index as the `u32` that the file's counts of tiles, slices and rows of a slice are.
fn small(index: usize) -> Result<u32> {
    u32::try_from(index).map_err(|_| Error::internal("a run's count passes 32 bits"))
}

/// A `u32` as an index: no platform that has files of runs has smaller addresses.
const fn wide(index: u32) -> usize {
    index as usize
}

/// A length as an offset in a file.
const fn offset_of(len: usize) -> u64 {
    len as u64
}

#[cfg(test)]
mod tests;
