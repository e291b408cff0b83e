/*!
Reading a range of a run in key order, or in reverse.

A scan goes batch by batch. For each it *plans* which slices come (leaving out those that statistics exclude) and hands them to a
[`PieceReader`], whose reads are in flight for a few batches ahead of the one being decoded. Where it filters, the rows that are kept of
the next batch are found before this one is decoded, so that what remains to be read of them is on its way too.

A long scan does not push others' data out of the cache: its units are admitted only while half of the budget is free. A
short one is a point read in disguise and goes through the cache.
*/

use super::loaded::{ColumnStatistics, Loaded};
use super::pieces::{Admission, Batch, Decoded, Piece, PieceReader};
use super::predicate::ColumnPredicate;
use super::reader::Run;
use super::{KIND_TYPE, Layout, RunBatch, SEQ_TYPE, offset_of, seq_from_int, seq_to_int, small, wide};
use crate::error::{Error, Result};
use crate::key::{EncodedKeys, KeyRange};
use crate::limits::TILE_ROWS;
use crate::types::{ColumnId, ColumnType, Seq};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, UInt32Array, new_null_array};
use arrow::compute::take;
use arrow::datatypes::Int64Type;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// Rows of one batch.
pub const SCAN_ROWS_MAX: usize = TILE_ROWS;

/// Bytes of the frames of one batch, unless one slice has more.
const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Batches whose reads are in flight while one is decoded.
const AHEAD: usize = 2;
/// By how much a batch may be larger than the one before it, where few rows were wanted at first.
pub(crate) const GROWTH: usize = 4;
/// Slices up to which a scan is read through the cache.
const SHORT_SLICES: u32 = 32;

/// What to read of a run.
#[derive(Debug, Clone)]
pub struct RunScanOptions {
    /// Which keys.
    pub range: KeyRange,
    /// Which columns, in which order; `SEQ` as `Int64` and `KIND` as `Boolean` may be among them. One that the run does
    /// not have is NULL.
    pub projection: Vec<(ColumnId, ColumnType)>,
    /// Whether batches carry keys.
    pub with_keys: bool,
    /// What rows must pass, for `prune`.
    pub predicates: Vec<ColumnPredicate>,
    /// Whether slices of which no row passes all predicates may be left out, tombstones and all. Only for a caller who
    /// knows that no older version of their rows can come to light.
    pub prune: bool,
    /// What rows must pass to come: others are left out, and so are tombstones, where there is such a predicate. For the same callers.
    pub filter: Vec<ColumnPredicate>,
    /// From the last key to the first.
    pub reverse: bool,
    /// Rows that are wanted at first, for a reader who may want no more: the first batch has no more, be they a part of a slice. Later
    /// ones grow, up to [`SCAN_ROWS_MAX`].
    pub first_rows: usize,
}

impl RunScanOptions {
    /// All rows of a range in their order, of these columns and with their keys.
    pub fn all(range: KeyRange, projection: Vec<(ColumnId, ColumnType)>) -> Self {
        RunScanOptions {
            range,
            projection,
            with_keys: true,
            predicates: Vec::new(),
            prune: false,
            filter: Vec::new(),
            reverse: false,
            first_rows: SCAN_ROWS_MAX,
        }
    }
}

/// What a scan has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunScanMetrics {
    /// Slices of which rows were read.
    pub slices_read: u64,
    /// Slices that statistics excluded.
    pub slices_pruned: u64,
    /// Rows of them.
    pub rows_pruned: u64,
    /// Rows handed out.
    pub rows: u64,
    /// Bytes read from the file.
    pub bytes_read: u64,
    /// Units that the cache had.
    pub cache_hits: u64,
}

/// A scan of a run. After an error it hands out the end.
#[derive(Debug)]
pub struct RunScan {
    run: Arc<Run>,
    options: RunScanOptions,
    /// `None` until the first batch is asked for, and after the end.
    state: State,
    metrics: RunScanMetrics,
}

#[derive(Debug)]
enum State {
    Begin,
    Going(Box<Course>),
    Ended,
}

/// Where a scan that has begun stands.
#[derive(Debug)]
struct Course {
    reader: PieceReader,
    /// For each column of the projection where it comes from.
    sources: Vec<Source>,
    pruner: Option<Pruner>,
    /// Slices that have not been planned, and the rows of the first and the last of all that are in the range.
    rest: Range<u32>,
    first: (u32, u32),
    last: (u32, u32),
    planned: VecDeque<Batch>,
    /// Batches to plan ahead: none until one was asked for after the first.
    ahead: usize,
    /// Rows of the next batch at most.
    rows_max: usize,
    /// Of the next slice a part was planned already.
    cut: bool,
}

/// Where a column of the projection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// A column of the file, by its place.
    File(usize),
    /// The run does not have it.
    Absent(ColumnType),
    Seq,
    Kind,
}

/// Decides by statistics which slices may be left out.
#[derive(Debug)]
struct Pruner {
    /// No slice can have a row that passes.
    none: bool,
    tests: Vec<(ColumnPredicate, ColumnStatistics)>,
}

impl Pruner {
    fn new(loaded: &Loaded, predicates: &[ColumnPredicate]) -> Result<Pruner> {
        let mut pruner = Pruner { none: false, tests: Vec::new() };
        for predicate in predicates {
            match loaded.column_statistics(predicate.column)? {
                Some(statistics) => pruner.tests.push((predicate.clone(), statistics)),
                None if loaded.place_of_id(predicate.column).is_none() => {
                    pruner.none |= !predicate.test.may_match_absent();
                }
                None => {}
            }
        }
        Ok(pruner)
    }

    fn may_match(&self, loaded: &Loaded, slice: u32) -> Result<bool> {
        if self.none {
            return Ok(false);
        }
        for (predicate, statistics) in &self.tests {
            if !predicate.test.may_match(&statistics.get(loaded, slice)?) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl RunScan {
    pub(super) fn new(run: Arc<Run>, options: RunScanOptions) -> RunScan {
        RunScan { run, options, state: State::Begin, metrics: RunScanMetrics::default() }
    }

    /// What it has done so far.
    pub fn metrics(&self) -> RunScanMetrics {
        self.metrics
    }

    /// The next rows, at most [`SCAN_ROWS_MAX`], in key order or in reverse; `None` at the end.
    ///
    /// # Errors
    /// `Corruption` for bytes that are not what was written; `Io`; `Internal` for a column asked for as another type.
    #[expect(clippy::should_implement_trait, reason = "it can fail, and an error is not an item")]
    pub fn next(&mut self) -> Result<Option<RunBatch>> {
        let mut course = match std::mem::replace(&mut self.state, State::Ended) {
            State::Ended => return Ok(None),
            State::Going(course) => course,
            State::Begin => match self.begin()? {
                Some(course) => Box::new(course),
                None => return Ok(None),
            },
        };
        let run = Arc::clone(&self.run);
        let loaded = run.loaded()?;
        loop {
            while course.planned.len() <= course.ahead {
                match self.plan(loaded, &mut course)? {
                    Some(batch) => course.planned.push_back(batch),
                    None => break,
                }
            }
            course.ahead = AHEAD;
            let Some(mut batch) = course.planned.pop_front() else { return Ok(None) };
            course.reader.select(&mut batch, &mut self.metrics)?;
            if let Some(next) = course.planned.front_mut() {
                course.reader.select(next, &mut self.metrics)?;
            }
            let decoded = course.reader.finish(batch, &mut self.metrics)?;
            if decoded.rows > 0 {
                let rows = self.batch(loaded, &course, decoded)?;
                self.state = State::Going(course);
                return Ok(Some(rows));
            }
        }
    }

    /// Finds the range's slices; `None` if it is empty.
    fn begin(&mut self) -> Result<Option<Course>> {
        let range = &self.options.range;
        if range.is_empty() || self.misses_run() {
            return Ok(None);
        }
        let run = Arc::clone(&self.run);
        let loaded = run.loaded()?;
        let (first, end) = run.places_of(range)?;
        if first >= end {
            return Ok(None);
        }
        // The last slice, and where in it the range ends.
        let last = match (end.slice, end.row) {
            (slice, 0) => (slice - 1, loaded.locators.rows_of(slice - 1)),
            end => end,
        };
        let rest = first.slice..last.0 + 1;
        let first = (first.slice, first.row);
        let (columns, sources) = self.sources(loaded)?;
        let prune = self.options.prune && !self.options.predicates.is_empty();
        let pruner = if prune { Some(Pruner::new(loaded, &self.options.predicates)?) } else { None };
        let short = rest.end - rest.start <= SHORT_SLICES;
        let admission = if short { Admission::Always } else { Admission::WhileRoom };
        let mut reader = PieceReader::new(run, columns, admission);
        if !self.options.filter.is_empty() {
            reader = reader.filtering(&self.options.filter)?;
        }
        let rows_max = self.options.first_rows.clamp(1, SCAN_ROWS_MAX);
        Ok(Some(Course {
            reader,
            sources,
            pruner,
            rest,
            first,
            last,
            planned: VecDeque::new(),
            ahead: 0,
            rows_max,
            cut: false,
        }))
    }

    /// Whether the run's bounds alone exclude the range: then its file is not touched.
    fn misses_run(&self) -> bool {
        let meta = self.run.meta();
        !self.options.range.starts_at_or_before(&meta.max_key) || !self.options.range.ends_at_or_after(&meta.min_key)
    }

    /// The file's columns to read, and where each of the projection's comes from.
    fn sources(&self, loaded: &Loaded) -> Result<(Vec<usize>, Vec<Source>)> {
        let mut columns = Vec::new();
        let mut sources = Vec::new();
        for (id, ty) in &self.options.projection {
            let source = match (*id, loaded.place_of(*id, *ty)?) {
                (ColumnId::SEQ, _) => Source::Seq,
                (ColumnId::KIND, _) => Source::Kind,
                (_, Some(place)) => Source::File(place),
                (_, None) => Source::Absent(*ty),
            };
            if let Source::File(place) = source {
                columns.push(place);
            }
            sources.push(source);
        }
        if self.options.with_keys {
            columns.extend(loaded.key.iter().map(|column| column.place));
        }
        if loaded.footer.min_seq != loaded.footer.max_seq {
            columns.push(loaded.seq_column());
        }
        if loaded.footer.tombstones > 0 {
            columns.push(loaded.kind_column());
        }
        Ok((columns, sources))
    }

    /// Chooses the next batch's slices and submits its reads; `None` at the end.
    fn plan(&mut self, loaded: &Loaded, course: &mut Course) -> Result<Option<Batch>> {
        let mut pieces: Vec<Piece> = Vec::new();
        let (mut rows, mut bytes) = (0, 0);
        let locators = &loaded.locators;
        // A slice that was begun is not read anew.
        let begun = u64::from(course.cut);
        while !course.rest.is_empty() {
            let slice = if self.options.reverse { course.rest.end - 1 } else { course.rest.start };
            let piece = course.piece(slice, wide(locators.rows_of(slice)));
            if let Some(pruner) = course.pruner.as_ref().filter(|_| !course.cut)
                && !pruner.may_match(loaded, slice)?
            {
                self.metrics.slices_pruned += 1;
                self.metrics.rows_pruned += offset_of(piece.rows.len());
                course.skip(self.options.reverse);
                continue;
            }
            let size = course.reader.bytes_of(loaded, slice);
            let full = rows >= course.rows_max || bytes + size > BATCH_BYTES_MAX;
            // A batch of large tiles ends with its tile, so that no tile is read in two parts.
            let other_tile = pieces.last().is_some_and(|last| locators.tile_of(last.slice) != locators.tile_of(slice));
            let large_tiles = loaded.footer.layout == Layout::Column && rows >= SCAN_ROWS_MAX / 4;
            let room = course.rows_max.saturating_sub(rows);
            // Where batches are as large as they get, slices come whole.
            let too_large = piece.rows.len() > room && course.rows_max == SCAN_ROWS_MAX;
            if !pieces.is_empty() && (full || too_large || (other_tile && large_tiles)) {
                break;
            }
            let piece = if piece.rows.len() > room && !too_large {
                course.cut(&piece, room, self.options.reverse)?
            } else {
                course.skip(self.options.reverse);
                piece
            };
            rows += piece.rows.len();
            bytes += size;
            pieces.push(piece);
        }
        course.rows_max = (course.rows_max * GROWTH).min(SCAN_ROWS_MAX);
        if pieces.is_empty() {
            return Ok(None);
        }
        if self.options.reverse {
            pieces.reverse();
        }
        let batch = course.reader.submit(pieces, &mut self.metrics)?;
        self.metrics.slices_read -= begun;
        Ok(Some(batch))
    }

    /// Decoded columns as a batch.
    fn batch(&self, loaded: &Loaded, course: &Course, decoded: Decoded) -> Result<RunBatch> {
        let of = |place: usize| -> Result<ArrayRef> {
            decoded.column(place).cloned().ok_or_else(|| Error::internal("a scan left out a column"))
        };
        let seqs: Vec<Seq> = match decoded.column(loaded.seq_column()) {
            Some(array) => {
                let ints = array.as_primitive_opt::<Int64Type>().ok_or_else(|| Error::internal("SEQ is no integer"))?;
                ints.values().iter().copied().map(seq_from_int).collect()
            }
            None => vec![loaded.footer.min_seq; decoded.rows],
        };
        let kinds = decoded.column(loaded.kind_column()).and_then(|array| array.as_boolean_opt().cloned());
        let mut columns = Vec::with_capacity(course.sources.len());
        for source in &course.sources {
            columns.push(match source {
                Source::File(place) => of(*place)?,
                Source::Absent(ty) => new_null_array(&ty.arrow(), decoded.rows),
                Source::Seq => Arc::new(Int64Array::from_iter_values(seqs.iter().copied().map(seq_to_int))),
                Source::Kind => match &kinds {
                    Some(kinds) => Arc::new(kinds.clone()),
                    None => Arc::new(BooleanArray::from(vec![false; decoded.rows])),
                },
            });
        }
        let keys = if self.options.with_keys {
            let key_columns = loaded.key.iter().map(|column| of(column.place)).collect::<Result<Vec<_>>>()?;
            loaded
                .schema
                .key
                .encode_arrays(&key_columns)
                .map_err(|e| Error::corruption(e.to_string()).at(loaded.path(), None))?
        } else {
            EncodedKeys::with_capacity(loaded.schema.key.fixed_width(), 0)
        };
        let tombstones = kinds.filter(|kinds| kinds.true_count() > 0);
        let rows = RunBatch { keys, seqs, tombstones, columns };
        if self.options.reverse { reversed(rows) } else { Ok(rows) }
    }
}

impl Course {
    /// So many rows of the next piece; what is left of it comes next.
    fn cut(&mut self, piece: &Piece, rows: usize, reverse: bool) -> Result<Piece> {
        let Range { start, end } = piece.rows;
        let taken = if reverse { end - rows..end } else { start..start + rows };
        match reverse {
            true => self.last = (piece.slice, small(taken.start)?),
            false => self.first = (piece.slice, small(taken.end)?),
        }
        self.cut = true;
        Ok(Piece { slice: piece.slice, rows: taken, whole: false })
    }

    /// Leaves the next slice behind.
    fn skip(&mut self, reverse: bool) {
        self.cut = false;
        if reverse {
            self.rest.end -= 1;
        } else {
            self.rest.start += 1;
        }
    }

    /// The rows of a slice that are in the range.
    fn piece(&self, slice: u32, rows: usize) -> Piece {
        let start = if slice == self.first.0 { wide(self.first.1) } else { 0 };
        let end = if slice == self.last.0 { wide(self.last.1).min(rows) } else { rows };
        let start = start.min(end);
        Piece { slice, rows: start..end, whole: start == 0 && end == rows }
    }
}

/// The rows in the opposite order.
fn reversed(batch: RunBatch) -> Result<RunBatch> {
    if batch.len() < 2 {
        return Ok(batch);
    }
    let order: Vec<u32> = (0..small(batch.len())?).rev().collect();
    let keys = if batch.keys.is_empty() { batch.keys } else { batch.keys.take(&order) };
    let indices = UInt32Array::from(order);
    let turn = |array: &dyn Array| take(array, &indices, None);
    let columns = batch.columns.iter().map(|column| turn(column)).collect::<Result<Vec<_>, _>>()?;
    let tombstones = match &batch.tombstones {
        Some(kinds) => turn(kinds)?.as_boolean_opt().cloned(),
        None => None,
    };
    let mut seqs = batch.seqs;
    seqs.reverse();
    Ok(RunBatch { keys, seqs, tombstones, columns })
}

const _: () = assert!(matches!(KIND_TYPE, ColumnType::Boolean) && matches!(SEQ_TYPE, ColumnType::Int64));
