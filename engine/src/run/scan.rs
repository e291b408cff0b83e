/*!
Reading a range of a run in key order, or in reverse.

A scan goes batch by batch. For each it *plans* which slices come (leaving out those that statistics exclude) and where
their columns lie, takes what the cache has, merges the rest into few large reads and submits them; one batch ahead of the
one being decoded. Decoding then goes column by column, vector after vector, straight into Arrow buffers.

A long scan does not push others' data out of the cache: its units are admitted only while half of the budget is free. A
short one is a point read in disguise and goes through the cache.
*/

use super::format::{Guard, open_frame, split_frame};
use super::locators::Extent;
use super::predicate::ColumnPredicate;
use super::reader::{ColumnStatistics, Loaded, Run, part};
use super::search::Place;
use super::{KIND_TYPE, Layout, RunBatch, SEQ_TYPE, offset_of, seq_from_int, seq_to_int, small, wide};
use crate::cache::Frame;
use crate::column::ColumnSink;
use crate::error::{Error, Result};
use crate::io::{Buffer, Completion, Op};
use crate::key::{EncodedKeys, KeyRange};
use crate::limits::TILE_ROWS;
use crate::types::{ColumnId, ColumnType, Seq, Value};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::Int64Type;
use std::collections::VecDeque;
use std::ops::{Bound, Range};
use std::sync::Arc;

/// Rows of one batch.
pub const SCAN_ROWS_MAX: usize = TILE_ROWS;

/// Bytes of the frames of one batch, unless one slice has more.
const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of one read.
const READ_BYTES_MAX: usize = 1024 * 1024;
/// Bytes between two frames that are read along rather than asked for apart.
const READ_GAP_MAX: u64 = 8 * 1024;
/// Batches whose reads are in flight while one is decoded.
const AHEAD: usize = 2;
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
    /// What rows must pass. A scan does not filter by it.
    pub predicates: Vec<ColumnPredicate>,
    /// Whether slices of which no row passes all predicates may be left out, tombstones and all. Only for a caller who
    /// knows that no older version of their rows can come to light.
    pub prune: bool,
    /// From the last key to the first.
    pub reverse: bool,
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
    /// The file's columns to read, ascending.
    columns: Vec<usize>,
    /// For each column of the projection where it comes from.
    sources: Vec<Source>,
    pruner: Option<Pruner>,
    /// Slices that have not been planned, and the rows of the first and the last of all that are in the range.
    rest: Range<u32>,
    first: (u32, u32),
    last: (u32, u32),
    admission: Admission,
    planned: VecDeque<Batch>,
    /// Batches to plan ahead: none until one was asked for after the first.
    ahead: usize,
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

/// Whether units that a scan reads enter the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Admission {
    Always,
    WhileRoom,
}

/// Rows of one slice.
#[derive(Debug, Clone)]
struct Piece {
    slice: u32,
    rows: Range<usize>,
}

/// A batch on its way: pieces in key order, and where their bytes are.
#[derive(Debug)]
struct Batch {
    pieces: Vec<Piece>,
    rows: usize,
    /// Verified units by their slots, ascending, each with its offset.
    units: Vec<(usize, u64, Arc<Frame>)>,
    /// Reads by offset, ascending.
    reads: Vec<Read>,
}

#[derive(Debug)]
struct Read {
    offset: u64,
    bytes: usize,
    state: ReadState,
}

#[derive(Debug)]
enum ReadState {
    InFlight(Completion),
    Done(Buffer),
    Failed,
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
        while course.planned.len() <= course.ahead {
            match self.plan(loaded, &mut course)? {
                Some(batch) => course.planned.push_back(batch),
                None => break,
            }
        }
        course.ahead = AHEAD;
        let Some(batch) = course.planned.pop_front() else { return Ok(None) };
        let rows = self.decode(loaded, &course, batch)?;
        self.metrics.rows += offset_of(rows.len());
        self.state = State::Going(course);
        Ok(Some(rows))
    }

    /// Finds the range's slices; `None` if it is empty.
    fn begin(&mut self) -> Result<Option<Course>> {
        let range = &self.options.range;
        if range.is_empty() || self.misses_run() {
            return Ok(None);
        }
        let run = Arc::clone(&self.run);
        let loaded = run.loaded()?;
        let meta = run.meta();
        let first = match &range.start {
            _ if range.starts_at_or_before(&meta.min_key) => (0, 0),
            Bound::Unbounded => (0, 0),
            Bound::Included(key) => first_row(loaded, run.locate(loaded, key.as_ref())?, false),
            Bound::Excluded(key) => first_row(loaded, run.locate(loaded, key.as_ref())?, true),
        };
        let end = match &range.end {
            _ if range.ends_at_or_after(&meta.max_key) => (loaded.locators.slices(), 0),
            Bound::Unbounded => (loaded.locators.slices(), 0),
            Bound::Included(key) => first_row(loaded, run.locate(loaded, key.as_ref())?, true),
            Bound::Excluded(key) => first_row(loaded, run.locate(loaded, key.as_ref())?, false),
        };
        if first >= end {
            return Ok(None);
        }
        // The last slice, and where in it the range ends.
        let last = match end {
            (slice, 0) => (slice - 1, loaded.locators.rows_of(slice - 1)),
            end => end,
        };
        let rest = first.0..last.0 + 1;
        let (columns, sources) = self.sources(loaded)?;
        let prune = self.options.prune && !self.options.predicates.is_empty();
        let pruner = if prune { Some(Pruner::new(loaded, &self.options.predicates)?) } else { None };
        let short = rest.end - rest.start <= SHORT_SLICES;
        let admission = if short { Admission::Always } else { Admission::WhileRoom };
        let planned = VecDeque::new();
        Ok(Some(Course { columns, sources, pruner, rest, first, last, admission, planned, ahead: 0 }))
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
        columns.sort_unstable();
        columns.dedup();
        Ok((columns, sources))
    }

    /// Chooses the next batch's slices and submits its reads; `None` at the end.
    fn plan(&mut self, loaded: &Loaded, course: &mut Course) -> Result<Option<Batch>> {
        let mut pieces: Vec<Piece> = Vec::new();
        let (mut rows, mut bytes) = (0, 0);
        let locators = &loaded.locators;
        while !course.rest.is_empty() {
            let slice = if self.options.reverse { course.rest.end - 1 } else { course.rest.start };
            if let Some(pruner) = &course.pruner
                && !pruner.may_match(loaded, slice)?
            {
                self.metrics.slices_pruned += 1;
                self.metrics.rows_pruned += offset_of(course.piece(slice, wide(locators.rows_of(slice))).rows.len());
                course.skip(self.options.reverse);
                continue;
            }
            let piece = course.piece(slice, wide(locators.rows_of(slice)));
            let size: usize = course.columns.iter().map(|column| locators.frame(slice, *column).bytes).sum();
            let full = rows + piece.rows.len() > SCAN_ROWS_MAX || bytes + size > BATCH_BYTES_MAX;
            // A batch of large tiles ends with its tile, so that no tile is read in two parts.
            let other_tile = pieces.last().is_some_and(|last| locators.tile_of(last.slice) != locators.tile_of(slice));
            let large_tiles = loaded.footer.layout == Layout::Column && rows >= SCAN_ROWS_MAX / 4;
            if !pieces.is_empty() && (full || (other_tile && large_tiles)) {
                break;
            }
            course.skip(self.options.reverse);
            rows += piece.rows.len();
            bytes += size;
            pieces.push(piece);
        }
        if pieces.is_empty() {
            return Ok(None);
        }
        if self.options.reverse {
            pieces.reverse();
        }
        self.metrics.slices_read += offset_of(pieces.len());
        self.gather(loaded, course, pieces, rows).map(Some)
    }

    /// Takes a batch's units from the cache, and submits reads for the others.
    fn gather(&mut self, loaded: &Loaded, course: &Course, pieces: Vec<Piece>, rows: usize) -> Result<Batch> {
        let mut batch = Batch { pieces: Vec::new(), rows, units: Vec::new(), reads: Vec::new() };
        let mut wanted: Vec<Extent> = Vec::new();
        let mut seen = None;
        for piece in &pieces {
            let tile = loaded.locators.tile_of(piece.slice);
            let new_tile = seen != Some(tile);
            seen = Some(tile);
            for column in &course.columns {
                let (slot, unit) = loaded.unit_of(tile, *column);
                if unit.bytes == 0 {
                    continue;
                }
                if batch.units.binary_search_by_key(&slot, |(slot, _, _)| *slot).is_ok() {
                    continue;
                }
                let frame = if !new_tile { None } else { loaded.slots.peek(slot) };
                if let Some(frame) = frame {
                    self.metrics.cache_hits += 1;
                    batch.add_unit(slot, unit.offset, frame);
                } else if course.admits(loaded, unit.bytes) {
                    wanted.push(unit);
                } else {
                    wanted.push(loaded.locators.frame(piece.slice, *column));
                }
            }
        }
        let wanted = merged(wanted);
        let read =
            |Extent { offset, bytes }: &Extent| Op::Read { offset: *offset, buffer: Buffer::for_read(*offset, *bytes) };
        let completions = match wanted.is_empty() {
            true => Vec::new(),
            false => loaded.file()?.submit_all(wanted.iter().map(read).collect()),
        };
        for (Extent { offset, bytes }, completion) in wanted.into_iter().zip(completions) {
            self.metrics.bytes_read += offset_of(bytes);
            batch.reads.push(Read { offset, bytes, state: ReadState::InFlight(completion) });
        }
        batch.pieces = pieces;
        Ok(batch)
    }

    fn decode(&self, loaded: &Loaded, course: &Course, mut batch: Batch) -> Result<RunBatch> {
        for read in &mut batch.reads {
            read.wait(loaded)?;
        }
        batch.admit(loaded, course)?;
        let decoder = Decoder { loaded, batch: &batch };
        let mut arrays: Vec<(usize, ArrayRef)> = Vec::with_capacity(course.columns.len());
        for column in &course.columns {
            arrays.push((*column, decoder.column(*column)?));
        }
        let of = |place: usize| -> Result<ArrayRef> {
            let found = arrays.iter().find(|(column, _)| *column == place);
            found.map(|(_, array)| Arc::clone(array)).ok_or_else(|| Error::internal("a scan left out a column"))
        };
        let seqs: Vec<Seq> = match arrays.iter().find(|(column, _)| *column == loaded.seq_column()) {
            Some((_, array)) => {
                let ints = array.as_primitive_opt::<Int64Type>().ok_or_else(|| Error::internal("SEQ is no integer"))?;
                ints.values().iter().copied().map(seq_from_int).collect()
            }
            None => vec![loaded.footer.min_seq; batch.rows],
        };
        let kinds = arrays.iter().find(|(column, _)| *column == loaded.kind_column());
        let kinds = kinds.and_then(|(_, array)| array.as_boolean_opt().cloned());
        let mut columns = Vec::with_capacity(course.sources.len());
        for source in &course.sources {
            columns.push(match source {
                Source::File(place) => of(*place)?,
                Source::Absent(ty) => {
                    let mut sink = ColumnSink::new(*ty, batch.rows);
                    sink.append_nulls(batch.rows);
                    sink.finish()
                }
                Source::Seq => Arc::new(Int64Array::from_iter_values(seqs.iter().copied().map(seq_to_int))),
                Source::Kind => match &kinds {
                    Some(kinds) => Arc::new(kinds.clone()),
                    None => Arc::new(BooleanArray::from(vec![false; batch.rows])),
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
    /// Leaves the next slice behind.
    fn skip(&mut self, reverse: bool) {
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
        Piece { slice, rows: start.min(end)..end }
    }

    /// Whether a unit is read as a whole, to enter the cache.
    fn admits(&self, loaded: &Loaded, bytes: usize) -> bool {
        self.admission == Admission::Always || loaded.slots.has_room_to_spare(bytes)
    }
}

/// The first row of a range that begins at a place, or, if `after`, behind its row.
fn first_row(loaded: &Loaded, place: Place, after: bool) -> (u32, u32) {
    let row = if place.exact && after { place.row + 1 } else { place.row };
    if row >= loaded.locators.rows_of(place.slice) { (place.slice + 1, 0) } else { (place.slice, row) }
}

/// As few extents as cover these without much between them.
fn merged(mut extents: Vec<Extent>) -> Vec<Extent> {
    extents.retain(|extent| extent.bytes > 0);
    extents.sort_unstable_by_key(|extent| extent.offset);
    let mut merged: Vec<Extent> = Vec::new();
    for extent in extents {
        if let Some(last) = merged.last_mut() {
            let end = extent.end().max(last.end());
            let bytes = usize::try_from(end - last.offset).unwrap_or(usize::MAX);
            let inside = extent.end() <= last.end();
            if inside || (extent.offset <= last.end().saturating_add(READ_GAP_MAX) && bytes <= READ_BYTES_MAX) {
                last.bytes = bytes;
                continue;
            }
        }
        merged.push(extent);
    }
    merged
}

impl Read {
    /// Waits for the bytes, all of them.
    fn wait(&mut self, loaded: &Loaded) -> Result<()> {
        let completion = match std::mem::replace(&mut self.state, ReadState::Failed) {
            ReadState::InFlight(completion) => completion,
            state => {
                self.state = state;
                return Ok(());
            }
        };
        let done = completion.wait()?;
        let buffer = match done.buffer {
            Some(buffer) if buffer.len() == self.bytes => buffer,
            // Short: read it again, patiently.
            _ => loaded.file()?.read_exact_at(self.offset, self.bytes)?,
        };
        self.state = ReadState::Done(buffer);
        Ok(())
    }

    fn end(&self) -> u64 {
        self.offset.saturating_add(offset_of(self.bytes))
    }
}

impl Batch {
    fn add_unit(&mut self, slot: usize, offset: u64, frame: Arc<Frame>) {
        if let Err(at) = self.units.binary_search_by_key(&slot, |(slot, _, _)| *slot) {
            self.units.insert(at, (slot, offset, frame));
        }
    }

    /// The bytes of an extent among what was read.
    fn read_part(&self, extent: Extent) -> Result<Option<&[u8]>> {
        let after = self.reads.partition_point(|read| read.offset <= extent.offset);
        let Some(read) = after.checked_sub(1).and_then(|at| self.reads.get(at)) else { return Ok(None) };
        match &read.state {
            ReadState::Done(buffer) if extent.end() <= read.end() => part(buffer, read.offset, extent).map(Some),
            _ => Ok(None),
        }
    }

    /// Puts units that were read as a whole into the cache.
    fn admit(&mut self, loaded: &Loaded, course: &Course) -> Result<()> {
        let mut units = Vec::new();
        let mut seen = None;
        for piece in &self.pieces {
            let tile = loaded.locators.tile_of(piece.slice);
            if seen == Some(tile) {
                continue;
            }
            seen = Some(tile);
            for column in &course.columns {
                let (slot, extent) = loaded.unit_of(tile, *column);
                let known = self.units.binary_search_by_key(&slot, |(slot, _, _)| *slot).is_ok()
                    || units.last().is_some_and(|(last, _, _)| *last == slot);
                if known || extent.bytes == 0 || !course.admits(loaded, extent.bytes) {
                    continue;
                }
                let Some(bytes) = self.read_part(extent)? else { continue };
                loaded.verify_unit(tile, *column, bytes, extent.offset)?;
                units.push((slot, extent.offset, loaded.slots.insert(slot, bytes.into())));
            }
        }
        for (slot, offset, frame) in units {
            self.add_unit(slot, offset, frame);
        }
        Ok(())
    }
}

/// Turns a batch's bytes into columns.
struct Decoder<'a> {
    loaded: &'a Loaded,
    batch: &'a Batch,
}

impl Decoder<'_> {
    fn column(&self, column: usize) -> Result<ArrayRef> {
        let loaded = self.loaded;
        let ty = loaded.columns.get(column).map_or(SEQ_TYPE, |column| column.1);
        let mut sink = ColumnSink::new(ty, self.batch.rows);
        for piece in &self.batch.pieces {
            match self.payload(piece.slice, column)? {
                Some(payload) => {
                    let vector = loaded.open_vector(payload, piece.slice, column)?;
                    let offset = || loaded.locators.frame(piece.slice, column).offset;
                    vector.decode(piece.rows.clone(), &mut sink).map_err(|e| e.at(loaded.path(), offset()))?;
                }
                None if column == loaded.seq_column() => {
                    let seq = Value::Int(seq_to_int(loaded.footer.default_seq));
                    piece.rows.clone().try_for_each(|_| sink.append(&seq))?;
                }
                None if column == loaded.kind_column() => {
                    piece.rows.clone().try_for_each(|_| sink.append(&Value::Boolean(false)))?;
                }
                None => sink.append_nulls(piece.rows.len()),
            }
        }
        Ok(sink.finish())
    }

    /// A vector's bytes, verified; `None` if it was left out.
    fn payload(&self, slice: u32, column: usize) -> Result<Option<&[u8]>> {
        let loaded = self.loaded;
        let extent = loaded.locators.frame(slice, column);
        if extent.bytes == 0 {
            return Ok(None);
        }
        let (slot, _) = loaded.unit_of(loaded.locators.tile_of(slice), column);
        let payload = match self.batch.units.binary_search_by_key(&slot, |(slot, _, _)| *slot) {
            Ok(at) => {
                let unit = self.batch.units.get(at).map(|(_, offset, frame)| part(frame.bytes(), *offset, extent));
                let bytes = unit.unwrap_or_else(|| Err(Error::internal("a unit of a scan was lost")))?;
                split_frame(bytes).map(|(_, payload)| payload)
            }
            Err(_) => {
                let bytes = self.batch.read_part(extent)?;
                let bytes = bytes.ok_or_else(|| Error::internal("a scan did not read a vector that it needs"))?;
                open_frame(bytes, loaded.random, extent.offset)
            }
        };
        let payload = loaded.at(payload, extent.offset)?;
        if column == loaded.guard_column() {
            return loaded.at(Guard::decode(payload), extent.offset).map(|(_, vector)| Some(vector));
        }
        Ok(Some(payload))
    }
}

/// The rows in the opposite order.
fn reversed(batch: RunBatch) -> Result<RunBatch> {
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
