/*!
Rows of a run by their places: pieces of slices, read, decoded and filtered.

A [`PieceReader`] takes *pieces* (some rows of one slice) in ascending order and gives their columns as Arrow arrays. It takes what the
cache has, merges the rest into few large reads, and submits them at once; decoding goes column by column, vector after vector,
straight into Arrow buffers.

**Late materialisation.** A reader that filters reads in two stages: first the columns that tests look at, and whether rows are tombstones;
then the other columns, of those slices alone that have a row left. So a slice without survivors costs no read and no decoding of its
other columns, and where few rows of a slice are left, only those are decoded.

Beside it stand the places of keys ([`RowPlace`]): where a range of keys begins and ends, and the key at a place.
*/

use super::format::{Guard, open_frame, split_frame};
use super::loaded::{Loaded, part};
use super::locators::Extent;
use super::predicate::ColumnPredicate;
use super::reader::Run;
use super::scan::RunScanMetrics;
use super::search::Place;
use super::select::RowTest;
use super::{SEQ_TYPE, offset_of, seq_to_int, small, wide};
use crate::cache::Frame;
use crate::column::ColumnSink;
use crate::error::{Error, Result};
use crate::io::{Buffer, Completion, Op, thread};
use crate::key::{Key, KeyRange};
use crate::types::{ColumnId, ColumnType, Value};
use arrow::array::{ArrayRef, AsArray, BooleanArray, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter;
use std::ops::{Bound, Range};
use std::sync::Arc;

/// Bytes of one read.
const READ_BYTES_MAX: usize = 1024 * 1024;
/// Bytes between two frames that are read along rather than asked for apart.
const READ_GAP_MAX: u64 = 8 * 1024;
/// Of a piece that keeps fewer rows than this part, rows are decoded one by one: one so found costs about as much as sixteen in a row.
const SPARSE: usize = 16;

/// The place of a row: its slice, and its row within the slice, which is below the slice's rows unless the slice is the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RowPlace {
    pub(crate) slice: u32,
    pub(crate) row: u32,
}

impl Run {
    /// The places where the keys of a range begin and end.
    pub(crate) fn places_of(&self, range: &KeyRange) -> Result<(RowPlace, RowPlace)> {
        // A range that covers the run needs no look at its keys.
        let begin = match &range.start {
            _ if range.starts_at_or_before(&self.meta().min_key) => RowPlace { slice: 0, row: 0 },
            Bound::Unbounded => RowPlace { slice: 0, row: 0 },
            Bound::Included(key) => self.place_of_key(key.as_ref(), false)?,
            Bound::Excluded(key) => self.place_of_key(key.as_ref(), true)?,
        };
        let last = RowPlace { slice: self.loaded()?.locators.slices(), row: 0 };
        let end = match &range.end {
            _ if range.ends_at_or_after(&self.meta().max_key) => last,
            Bound::Unbounded => last,
            Bound::Included(key) => self.place_of_key(key.as_ref(), true)?,
            Bound::Excluded(key) => self.place_of_key(key.as_ref(), false)?,
        };
        Ok((begin, end))
    }

    /// The first row that is not before `key`, or, with `after`, the first behind it.
    pub(crate) fn place_of_key(&self, key: &[u8], after: bool) -> Result<RowPlace> {
        let loaded = self.loaded()?;
        let Place { slice, row, exact } = self.locate(loaded, key)?;
        Ok(loaded.normal(RowPlace { slice, row: if exact && after { row + 1 } else { row } }))
    }

    /// The key at a place, which is not the end.
    pub(crate) fn key_at_place(&self, place: RowPlace) -> Result<Key> {
        let loaded = self.loaded()?;
        loaded.key_at(&loaded.locators.spot(place.slice), place.row, &self.cache().pin())
    }

    /// Rows from one place to another.
    pub(crate) fn rows_between(&self, from: RowPlace, to: RowPlace) -> Result<u64> {
        if from.slice == to.slice {
            return Ok(to.row.saturating_sub(from.row).into());
        }
        let locators = &self.loaded()?.locators;
        let between: u64 = (from.slice..to.slice).map(|slice| u64::from(locators.rows_of(slice))).sum();
        Ok((between + u64::from(to.row)).saturating_sub(from.row.into()))
    }

    /// The pieces from one place to another.
    pub(crate) fn pieces_between(&self, from: RowPlace, to: RowPlace) -> Result<impl Iterator<Item = Piece> + '_> {
        let locators = &self.loaded()?.locators;
        let end = if to.row == 0 { to.slice } else { to.slice.saturating_add(1) };
        Ok((from.slice..end).map(move |slice| {
            let start = if slice == from.slice { wide(from.row) } else { 0 };
            let rows = wide(locators.rows_of(slice));
            let end = if slice == to.slice { wide(to.row) } else { rows };
            Piece { slice, rows: start..end, whole: start == 0 && end == rows }
        }))
    }
}

impl Loaded {
    /// A place behind a slice's rows is the next slice's first.
    fn normal(&self, place: RowPlace) -> RowPlace {
        if place.slice < self.locators.slices() && place.row >= self.locators.rows_of(place.slice) {
            return RowPlace { slice: place.slice + 1, row: 0 };
        }
        place
    }
}

/// Rows of one slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) slice: u32,
    pub(crate) rows: Range<usize>,
    /// Whether these are all of the slice's rows.
    pub(crate) whole: bool,
}

impl Piece {
    /// Whether `next` is of the same slice and begins where this one ends.
    fn goes_on_in(&self, next: &Piece) -> bool {
        self.slice == next.slice && self.rows.end == next.rows.start
    }
}

/// Whether units that are read enter the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    Always,
    WhileRoom,
}

impl Admission {
    /// Whether a unit is read as a whole, to enter the cache.
    fn admits(self, loaded: &Loaded, bytes: usize) -> bool {
        self == Admission::Always || loaded.slots.has_room_to_spare(bytes)
    }
}

/// Reads pieces of one run. See the module.
#[derive(Debug)]
pub(crate) struct PieceReader {
    run: Arc<Run>,
    admission: Admission,
    /// The file's columns that are wanted, ascending.
    wanted: Vec<usize>,
    /// The columns of each stage, ascending, no column in both.
    first: Vec<usize>,
    second: Vec<usize>,
    filter: Option<Filter>,
}

/// What rows must be to be kept.
#[derive(Debug)]
struct Filter {
    tests: Vec<(usize, RowTest)>,
    /// The column of tombstones, where there are any.
    kinds: Option<usize>,
    /// No row passes, by a column that the run does not have.
    none: bool,
}

/// Pieces on their way: what was asked for, and what is known of it so far.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) pieces: Vec<Piece>,
    pub(crate) rows: usize,
    fetch: Fetch,
    selected: Option<Selected>,
}

/// What the first stage left.
#[derive(Debug)]
struct Selected {
    /// Rows kept of each piece.
    kept: Vec<usize>,
    /// Which rows of all pieces are kept.
    mask: BooleanBuffer,
    /// The pieces of which some are.
    pieces: Vec<Piece>,
    arrays: Vec<(usize, ArrayRef)>,
    fetch: Fetch,
}

/// Columns of pieces.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) rows: usize,
    /// Rows of each piece.
    pub(crate) kept: Vec<usize>,
    /// By their places in the file, ascending.
    arrays: Vec<(usize, ArrayRef)>,
}

impl Decoded {
    /// A column, by its place among the file's.
    pub(crate) fn column(&self, place: usize) -> Option<&ArrayRef> {
        let at = self.arrays.binary_search_by_key(&place, |(column, _)| *column).ok()?;
        self.arrays.get(at).map(|(_, array)| array)
    }
}

/// Where the bytes of some columns of some pieces are.
#[derive(Debug, Default)]
struct Fetch {
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

impl PieceReader {
    /// A reader of the file's columns `columns`.
    pub(super) fn new(run: Arc<Run>, mut columns: Vec<usize>, admission: Admission) -> PieceReader {
        columns.sort_unstable();
        columns.dedup();
        PieceReader { run, admission, wanted: columns.clone(), first: columns, second: Vec::new(), filter: None }
    }

    /// The same for rows alone that pass all of `predicates` and are no tombstones.
    ///
    /// # Errors
    /// `InvalidArgument` for predicates by which rows cannot be told; see [`super::select::decides`].
    pub(super) fn filtering(mut self, predicates: &[ColumnPredicate]) -> Result<PieceReader> {
        let run = Arc::clone(&self.run);
        let loaded = run.loaded()?;
        let mut filter = Filter { tests: Vec::new(), kinds: None, none: false };
        for predicate in predicates {
            match loaded.place_of_id(predicate.column) {
                Some(place) => {
                    let ty = loaded.columns.get(place).map_or(SEQ_TYPE, |column| column.1);
                    filter.tests.push((place, RowTest::new(predicate, ty)?));
                }
                None => filter.none |= !predicate.test.may_match_absent(),
            }
        }
        filter.kinds = (loaded.footer.tombstones > 0).then(|| loaded.kind_column());
        let mut first: Vec<usize> = filter.tests.iter().map(|(place, _)| *place).chain(filter.kinds).collect();
        first.sort_unstable();
        first.dedup();
        if !first.is_empty() {
            self.second = self.first.iter().copied().filter(|column| first.binary_search(column).is_err()).collect();
            self.first = first;
        }
        if filter.none || !filter.tests.is_empty() || filter.kinds.is_some() {
            self.filter = Some(filter);
        }
        Ok(self)
    }

    /// A reader of these columns for whoever counts rows: filtered by `predicates`, tombstones left out.
    ///
    /// # Errors
    /// As [`PieceReader::filtering`]; `Internal` for a column asked for as another type.
    pub(crate) fn of_columns(
        run: &Arc<Run>,
        columns: &[(ColumnId, ColumnType)],
        predicates: &[ColumnPredicate],
        admission: Admission,
    ) -> Result<PieceReader> {
        let loaded = run.loaded()?;
        let mut places = Vec::with_capacity(columns.len());
        for (id, ty) in columns {
            places.extend(loaded.place_of(*id, *ty)?);
        }
        PieceReader::new(Arc::clone(run), places, admission).filtering(predicates)
    }

    /// The columns that were decoded, as [`PieceReader::of_columns`] named them; all NULL where the run does not have one.
    pub(crate) fn columns(&self, decoded: &Decoded, columns: &[(ColumnId, ColumnType)]) -> Result<Vec<ArrayRef>> {
        let loaded = self.run.loaded()?;
        let column = |(id, ty): &(ColumnId, ColumnType)| match loaded.place_of(*id, *ty)? {
            None => Ok(new_null_array(&ty.arrow(), decoded.rows)),
            Some(place) => {
                decoded.column(place).cloned().ok_or_else(|| Error::internal("a reader of pieces left out a column"))
            }
        };
        columns.iter().map(column).collect()
    }

    /// Bytes of the columns of a slice, both stages.
    pub(super) fn bytes_of(&self, loaded: &Loaded, slice: u32) -> usize {
        self.first.iter().chain(&self.second).map(|column| loaded.locators.frame(slice, *column).bytes).sum()
    }

    /// Takes pieces on, in ascending order: what the first stage needs is on its way when this returns.
    pub(crate) fn submit(&self, pieces: Vec<Piece>, metrics: &mut RunScanMetrics) -> Result<Batch> {
        metrics.slices_read += offset_of(pieces.len());
        let rows = pieces.iter().map(|piece| piece.rows.len()).sum();
        let fetch = Fetch::submit(self.run.loaded()?, &pieces, &self.first, self.admission, metrics)?;
        Ok(Batch { pieces, rows, fetch, selected: None })
    }

    /// Finds the rows that are kept, and submits what the second stage needs of them. Done once; nothing where nothing is filtered.
    pub(crate) fn select(&self, batch: &mut Batch, metrics: &mut RunScanMetrics) -> Result<()> {
        let Some(filter) = self.filter.as_ref().filter(|_| batch.selected.is_none()) else { return Ok(()) };
        let loaded = self.run.loaded()?;
        let mut fetch = std::mem::take(&mut batch.fetch);
        fetch.wait(loaded, &batch.pieces, &self.first, self.admission)?;
        let decoder = Decoder { loaded, fetch: &fetch };
        let mut arrays = Vec::with_capacity(self.first.len());
        for column in &self.first {
            arrays.push((*column, decoder.column(&batch.pieces, *column)?));
        }
        let mask = filter.mask(&arrays, batch.rows)?;
        let mut kept = Vec::with_capacity(batch.pieces.len());
        let mut pieces = Vec::new();
        let mut start = 0;
        for piece in &batch.pieces {
            let rows = mask.slice(start, piece.rows.len()).count_set_bits();
            start += piece.rows.len();
            kept.push(rows);
            if rows > 0 {
                pieces.push(piece.clone());
            }
        }
        let fetch = Fetch::submit(loaded, &pieces, &self.second, self.admission, metrics)?;
        batch.selected = Some(Selected { kept, mask, pieces, arrays, fetch });
        Ok(())
    }

    /// The columns of a batch's rows, without those that were not to be kept.
    pub(crate) fn finish(&self, mut batch: Batch, metrics: &mut RunScanMetrics) -> Result<Decoded> {
        self.select(&mut batch, metrics)?;
        let loaded = self.run.loaded()?;
        let decoded = match batch.selected {
            None => {
                let mut fetch = batch.fetch;
                fetch.wait(loaded, &batch.pieces, &self.first, self.admission)?;
                let decoder = Decoder { loaded, fetch: &fetch };
                let column = |column: &usize| Ok((*column, decoder.column(&batch.pieces, *column)?));
                Decoded {
                    rows: batch.rows,
                    kept: batch.pieces.iter().map(|piece| piece.rows.len()).collect(),
                    arrays: self.first.iter().map(column).collect::<Result<_>>()?,
                }
            }
            Some(mut selected) => {
                selected.fetch.wait(loaded, &selected.pieces, &self.second, self.admission)?;
                let rows: usize = selected.kept.iter().sum();
                let mut arrays = std::mem::take(&mut selected.arrays);
                arrays.retain(|(column, _)| self.wanted.binary_search(column).is_ok());
                if rows < batch.rows {
                    let mask = BooleanArray::new(selected.mask.clone(), None);
                    for (_, array) in &mut arrays {
                        *array = filter_array(array, &mask)?;
                    }
                }
                selected.decode(loaded, &batch.pieces, &self.second, &mut arrays)?;
                arrays.sort_unstable_by_key(|(column, _)| *column);
                Decoded { rows, kept: selected.kept, arrays }
            }
        };
        metrics.rows += offset_of(decoded.rows);
        Ok(decoded)
    }
}

fn filter_array(array: &ArrayRef, mask: &BooleanArray) -> Result<ArrayRef> {
    Ok(filter(array, mask)?)
}

impl Filter {
    /// Which of `rows` rows are kept.
    fn mask(&self, arrays: &[(usize, ArrayRef)], rows: usize) -> Result<BooleanBuffer> {
        if self.none {
            return Ok(BooleanBuffer::new_unset(rows));
        }
        let lost = || Error::internal("a filter left out a column");
        let column =
            |place: usize| arrays.iter().find(|(column, _)| *column == place).map(|(_, array)| array).ok_or_else(lost);
        let mut mask: Option<BooleanBuffer> = None;
        let mut and = |passing: BooleanBuffer| {
            mask = Some(match mask.take() {
                Some(mask) => &mask & &passing,
                None => passing,
            });
        };
        for (place, test) in &self.tests {
            and(test.passing(column(*place)?)?);
        }
        if let Some(kinds) = self.kinds {
            let kinds = column(kinds)?.as_boolean_opt().ok_or_else(lost)?;
            and(!kinds.values());
        }
        Ok(mask.unwrap_or_else(|| BooleanBuffer::new_set(rows)))
    }
}

impl Selected {
    /// Decodes what is kept of the second stage's columns.
    fn decode(
        &self,
        loaded: &Loaded,
        pieces: &[Piece],
        columns: &[usize],
        arrays: &mut Vec<(usize, ArrayRef)>,
    ) -> Result<()> {
        if columns.is_empty() {
            return Ok(());
        }
        // Of pieces that keep few rows, these alone are decoded; of the others all, and then the mask is laid over them.
        let mut decoded: Vec<(u32, Rows)> = Vec::with_capacity(self.pieces.len());
        let mut mask = arrow::array::BooleanBufferBuilder::new(self.mask.len());
        let mut start = 0;
        for (piece, kept) in pieces.iter().zip(&self.kept) {
            let of_piece = self.mask.slice(start, piece.rows.len());
            start += piece.rows.len();
            if *kept == 0 {
                continue;
            }
            if kept * SPARSE < piece.rows.len() {
                let first = small(piece.rows.start)?;
                let rows = of_piece.set_indices_u32().map(|row| first + row).collect();
                decoded.push((piece.slice, Rows::These(rows)));
                mask.append_n(*kept, true);
            } else {
                decoded.push((piece.slice, Rows::All(piece.rows.clone())));
                mask.append_buffer(&of_piece);
            }
        }
        let mask = BooleanArray::new(mask.finish(), None);
        let all = mask.true_count() == mask.len();
        let decoder = Decoder { loaded, fetch: &self.fetch };
        for column in columns {
            let mut sink = decoder.sink(*column, mask.len());
            for (slice, rows) in &decoded {
                decoder.append(*slice, rows, *column, &mut sink)?;
            }
            let array = sink.finish();
            arrays.push((*column, if all { array } else { filter_array(&array, &mask)? }));
        }
        Ok(())
    }
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

impl Fetch {
    /// Takes units from the cache, and submits reads for the others.
    fn submit(
        loaded: &Loaded,
        pieces: &[Piece],
        columns: &[usize],
        admission: Admission,
        metrics: &mut RunScanMetrics,
    ) -> Result<Fetch> {
        let mut fetch = Fetch::default();
        let mut wanted: Vec<Extent> = Vec::new();
        let mut seen = None;
        for piece in pieces.chunk_by(|one, next| one.slice == next.slice).filter_map(<[Piece]>::first) {
            let tile = loaded.locators.tile_of(piece.slice);
            let new_tile = seen != Some(tile);
            seen = Some(tile);
            for column in columns {
                let (slot, unit) = loaded.unit_of(tile, *column);
                if unit.bytes == 0 {
                    continue;
                }
                if fetch.units.binary_search_by_key(&slot, |(slot, _, _)| *slot).is_ok() {
                    continue;
                }
                let frame = if !new_tile { None } else { loaded.slots.peek(slot) };
                let frame = frame.filter(|frame| frame.whole().is_some());
                if let Some(frame) = frame {
                    metrics.cache_hits += 1;
                    fetch.add_unit(slot, unit.offset, frame);
                } else if admission.admits(loaded, unit.bytes) {
                    wanted.push(unit);
                } else {
                    wanted.push(loaded.locators.frame(piece.slice, *column));
                }
            }
        }
        let wanted = merged(wanted);
        if wanted.is_empty() {
            return Ok(fetch);
        }
        let read =
            |Extent { offset, bytes }: &Extent| Op::Read { offset: *offset, buffer: Buffer::for_read(*offset, *bytes) };
        let completions = loaded.file()?.submit_all(wanted.iter().map(read).collect());
        for (Extent { offset, bytes }, completion) in wanted.into_iter().zip(completions) {
            metrics.bytes_read += offset_of(bytes);
            fetch.reads.push(Read { offset, bytes, state: ReadState::InFlight(completion) });
        }
        Ok(fetch)
    }

    /// Waits for all reads, and puts units that were read as a whole into the cache.
    fn wait(&mut self, loaded: &Loaded, pieces: &[Piece], columns: &[usize], admission: Admission) -> Result<()> {
        if self.reads.is_empty() {
            return Ok(());
        }
        for read in &mut self.reads {
            read.wait(loaded)?;
        }
        self.admit(loaded, pieces, columns, admission)
    }

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

    fn admit(&mut self, loaded: &Loaded, pieces: &[Piece], columns: &[usize], admission: Admission) -> Result<()> {
        let mut units = Vec::new();
        let mut seen = None;
        for piece in pieces {
            let tile = loaded.locators.tile_of(piece.slice);
            if seen == Some(tile) {
                continue;
            }
            seen = Some(tile);
            for column in columns {
                let (slot, extent) = loaded.unit_of(tile, *column);
                let known = self.units.binary_search_by_key(&slot, |(slot, _, _)| *slot).is_ok()
                    || units.last().is_some_and(|(last, _, _)| *last == slot);
                if known || extent.bytes == 0 || !admission.admits(loaded, extent.bytes) {
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

/// Rows of a slice to be decoded.
enum Rows {
    All(Range<usize>),
    These(Vec<u32>),
}

/// Turns a batch's bytes into columns.
struct Decoder<'a> {
    loaded: &'a Loaded,
    fetch: &'a Fetch,
}

impl Decoder<'_> {
    fn sink(&self, column: usize, rows: usize) -> ColumnSink {
        ColumnSink::new(self.loaded.columns.get(column).map_or(SEQ_TYPE, |column| column.1), rows)
    }

    /// A column of all pieces' rows.
    fn column(&self, pieces: &[Piece], column: usize) -> Result<ArrayRef> {
        let mut sink = self.sink(column, pieces.iter().map(|piece| piece.rows.len()).sum());
        // What is cut small where other runs have rows between is decoded together.
        for pieces in pieces.chunk_by(Piece::goes_on_in) {
            thread::give_way();
            let (Some(first), Some(last)) = (pieces.first(), pieces.last()) else { continue };
            self.append(first.slice, &Rows::All(first.rows.start..last.rows.end), column, &mut sink)?;
        }
        Ok(sink.finish())
    }

    /// Appends a column of some rows of a slice.
    fn append(&self, slice: u32, rows: &Rows, column: usize, sink: &mut ColumnSink) -> Result<()> {
        let loaded = self.loaded;
        let count = match rows {
            Rows::All(rows) => rows.len(),
            Rows::These(rows) => rows.len(),
        };
        match self.payload(slice, column)? {
            Some(payload) => {
                let vector = loaded.open_vector(payload, slice, column)?;
                let decoded = match rows {
                    Rows::All(rows) => vector.decode(rows.clone(), sink),
                    Rows::These(rows) => vector.gather(rows, sink),
                };
                decoded.map_err(|e| e.at(loaded.path(), loaded.locators.frame(slice, column).offset))
            }
            None if column == loaded.seq_column() => {
                let seq = Value::Int(seq_to_int(loaded.footer.default_seq));
                (0..count).try_for_each(|_| sink.append(&seq))
            }
            None if column == loaded.kind_column() => (0..count).try_for_each(|_| sink.append(&Value::Boolean(false))),
            None => {
                sink.append_nulls(count);
                Ok(())
            }
        }
    }

    /// A vector's bytes, verified; `None` if it was left out.
    fn payload(&self, slice: u32, column: usize) -> Result<Option<&[u8]>> {
        let loaded = self.loaded;
        let extent = loaded.locators.frame(slice, column);
        if extent.bytes == 0 {
            return Ok(None);
        }
        let (slot, _) = loaded.unit_of(loaded.locators.tile_of(slice), column);
        let payload = match self.fetch.units.binary_search_by_key(&slot, |(slot, _, _)| *slot) {
            Ok(at) => {
                let unit = self.fetch.units.get(at).map(|(_, offset, frame)| part(frame.bytes(), *offset, extent));
                let bytes = unit.unwrap_or_else(|| Err(Error::internal("a unit of a scan was lost")))?;
                split_frame(bytes).map(|(_, payload)| payload)
            }
            Err(_) => {
                let bytes = self.fetch.read_part(extent)?;
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
