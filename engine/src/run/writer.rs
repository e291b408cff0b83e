/*!
Writing a run: rows in key order in, one durable file out.

Rows gather in a tile; a whole tile is encoded (here, or on threads of the writer's own) and written when the tile after it is
known, because a slice carries its successor's first key. In memory are at most a few tiles, and a few bytes for each vector.

The size of slices is chosen from the first thousand rows. A tile ends early when large values would swell it, and where a series of
several slices ends ([`super::series`]).
*/

use super::filter::FilterBuilder;
use super::format::{
    FRAME_OVERHEAD, Footer, Guard, Section, SectionKind, TRAILER_BYTES, Trailer, encode_header, encode_schema,
    frame_crc,
};
use super::locators::{self, ShortTile};
use super::series::SeriesEnds;
use super::statistics::StatsBuilder;
use super::tile::{EncodedColumn, EncodedTile, Piece, TilePlan, TileRows, sample};
use super::{
    ENCODER_THREADS_MAX, KIND_TYPE, Layout, RunBatch, RunMeta, RunOptions, RunSchema, SEQ_TYPE, file_path, offset_of,
    seq_to_int, small,
};
use crate::error::{Error, ErrorKind, Result};
use crate::io::channel::{self, Receiver, Sender};
use crate::io::thread::{self, JoinHandle};
use crate::io::{BUFFER_ALIGN, Buffer, Completion, File, IoRef, Op, OpenMode};
use crate::key::EncodedKeys;
use crate::limits::{SLICE_BYTES_TARGET, SLICE_ROWS_MAX, TILE_ROWS};
use crate::model::IndexBuilder;
use crate::types::{ColumnId, ColumnType, RunId, Seq};
use arrow::array::{Array, ArrayRef, Int64Array};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes that are gathered before they are written.
const WRITE_BYTES: usize = 1024 * 1024;
/// Room for them, and for what the last frame has too many.
const BUFFER_BYTES: usize = WRITE_BYTES + WRITE_BYTES / 4;
/// Room at first: most runs of a small table never fill more. Doubled six times, it is the room for a whole write.
const FIRST_BUFFER_BYTES: usize = BUFFER_BYTES / 64;
/// Writes in flight, so that the device works while the next tile is encoded.
const WRITES_MAX: usize = 2;
/// Bytes of a tile's rows in memory at which a tile should aim, by the first rows.
const TILE_RAW_BYTES_TARGET: f64 = 4.0 * 1024.0 * 1024.0;
/// Bytes of a tile's rows in memory at which it ends early.
const TILE_RAW_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Writes one run. Dropped without [`RunWriter::finish`], it removes the file.
#[derive(Debug)]
pub struct RunWriter {
    io: IoRef,
    dir: PathBuf,
    id: RunId,
    schema: RunSchema,
    options: RunOptions,
    /// Set once the first rows have been measured.
    plan: Option<Arc<TilePlan>>,
    /// The first rows, until then.
    first_rows: Vec<RunBatch>,
    tile: TileRows,
    /// Where tiles end with a series; `None` where they don't.
    series: Option<SeriesEnds>,
    pool: Option<Pool>,
    /// Encoded tiles whose turn has not come.
    ready: BTreeMap<u32, EncodedTile>,
    out: Output,
    /// Taken when it is finished.
    index: Option<IndexBuilder>,
    /// `None` where the run is to have no filter.
    filter: Option<FilterBuilder>,
    lengths: Vec<Vec<u32>>,
    stats: Vec<StatsBuilder>,
    short: Vec<ShortTile>,
    tiles_written: u32,
    slices_written: usize,
    /// Last key of the last slice written.
    written_key: Vec<u8>,
    min_key: Vec<u8>,
    last_key: Vec<u8>,
    rows: u64,
    tombstones: u64,
    seqs: Option<(Seq, Seq)>,
    finished: bool,
}

impl RunWriter {
    /// Begins the file of run `id` in `dir`.
    ///
    /// # Errors
    /// `Io` also if the file is there already; `InvalidArgument` for options that make no sense.
    pub fn create(io: &IoRef, dir: &Path, id: RunId, schema: &RunSchema, options: RunOptions) -> Result<RunWriter> {
        if options.slice_rows.is_some_and(|rows| !rows.is_power_of_two() || rows > SLICE_ROWS_MAX) {
            return Err(Error::invalid("rows of a slice must be a power of two up to 1,024"));
        }
        let first_key = schema.key_columns.first().and_then(|id| schema.position(*id));
        if first_key.is_none() || schema.key_columns.len() != schema.key.columns().len() {
            return Err(Error::internal("a run's schema does not hold its key"));
        }
        let path = file_path(dir, id);
        let random = io.random_u64();
        let file = io.open_direct(&path, OpenMode::CreateNew)?;
        let mut types: Vec<ColumnType> = schema.columns.iter().map(|column| column.1).collect();
        types.extend([SEQ_TYPE, KIND_TYPE]);
        let mut writer = RunWriter {
            io: Arc::clone(io),
            dir: dir.to_owned(),
            id,
            plan: None,
            first_rows: Vec::new(),
            tile: TileRows::default(),
            series: None,
            pool: None,
            ready: BTreeMap::new(),
            out: Output::new(file, random),
            index: Some(IndexBuilder::new(schema.key.shape(), options.index)),
            filter: options.filter.then(|| FilterBuilder::new(id)),
            lengths: vec![Vec::new(); types.len()],
            stats: types.into_iter().map(StatsBuilder::new).collect(),
            short: Vec::new(),
            tiles_written: 0,
            slices_written: 0,
            written_key: Vec::new(),
            min_key: Vec::new(),
            last_key: Vec::new(),
            rows: 0,
            tombstones: 0,
            seqs: None,
            finished: false,
            schema: schema.clone(),
            options,
        };
        writer.out.put(&encode_header(id, random))?;
        Ok(writer)
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes of the file so far; rows of the last tiles are not in it yet.
    pub fn bytes(&self) -> u64 {
        self.out.position()
    }

    /// Adds rows. Keys must be strictly ascending, over all calls; `columns` those of the schema, in its order.
    ///
    /// # Errors
    /// `Internal` for keys out of order or columns that are not the schema's; after an error the writer is of no use.
    pub fn write(&mut self, batch: &RunBatch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        self.check(batch)?;
        self.count(batch);
        match self.plan.clone() {
            Some(plan) => self.add(batch, &plan),
            None => {
                self.first_rows.push(batch.clone());
                let rows: usize = self.first_rows.iter().map(RunBatch::len).sum();
                if rows >= SLICE_ROWS_MAX { self.begin() } else { Ok(()) }
            }
        }
    }

    fn check(&self, batch: &RunBatch) -> Result<()> {
        let rows = batch.len();
        let kinds_fit = batch.tombstones.as_ref().is_none_or(|kinds| kinds.len() == rows && kinds.null_count() == 0);
        let columns = &self.schema.columns;
        let fits = |(array, (_, ty)): (&ArrayRef, &(ColumnId, ColumnType))| {
            array.len() == rows && *array.data_type() == ty.arrow()
        };
        let columns_fit = batch.columns.len() == columns.len() && batch.columns.iter().zip(columns).all(fits);
        if batch.keys.len() != rows || !kinds_fit || !columns_fit {
            return Err(Error::internal("a batch for a run has not the run's columns, or columns of unequal lengths"));
        }
        let follows = batch.keys.first().is_some_and(|first| self.rows == 0 || self.last_key.as_slice() < first);
        if !follows || !batch.keys.is_strictly_sorted() {
            return Err(Error::internal("rows for a run do not come in strictly ascending key order"));
        }
        Ok(())
    }

    fn count(&mut self, batch: &RunBatch) {
        if self.rows == 0 {
            self.min_key = batch.keys.first().unwrap_or_default().to_vec();
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(batch.keys.last().unwrap_or_default());
        self.rows += offset_of(batch.len());
        self.tombstones += batch.tombstones.as_ref().map_or(0, |kinds| offset_of(kinds.true_count()));
        let (mut min, mut max) = self.seqs.unwrap_or((Seq::MAX, Seq::MIN));
        match self.options.fixed_seq {
            Some(seq) => (min, max) = (seq, seq),
            None => batch.seqs.iter().for_each(|seq| (min, max) = (min.min(*seq), max.max(*seq))),
        }
        self.seqs = Some((min, max));
    }

    /// Measures the first rows, and lays them down.
    fn begin(&mut self) -> Result<()> {
        let batches = std::mem::take(&mut self.first_rows);
        let Some(first) = batches.first() else { return Ok(()) };
        let default_seq = self.options.fixed_seq.or(first.seqs.first().copied()).unwrap_or_default();
        let key_columns = &self.schema.key_columns;
        let columns: Vec<_> = self.schema.columns.iter().map(|(id, ty)| (*ty, key_columns.contains(id))).collect();
        // Of many small batches, the largest stands for all.
        let largest = batches.iter().max_by_key(|batch| batch.len()).unwrap_or(first);
        let (encoded, raw) = sample(&piece_of(largest, None, default_seq), &columns)?;
        let slice_rows = self.options.slice_rows.unwrap_or_else(|| slice_rows_for(encoded));
        let tile_slices = match self.options.layout {
            Layout::Row => 1,
            Layout::Column => tile_slices_for(slice_rows, raw),
        };
        let plan =
            Arc::new(TilePlan { slice_rows, tile_slices, columns, default_seq, short_lived: self.options.short_lived });
        if self.options.threads > 0 {
            self.pool = Some(Pool::start(self.options.threads.min(ENCODER_THREADS_MAX), self.id, &plan)?);
        }
        self.series = SeriesEnds::new(self.schema.key.shape(), &plan);
        self.plan = Some(Arc::clone(&plan));
        batches.iter().try_for_each(|batch| self.add(batch, &plan))
    }

    /// Lays rows into tiles.
    fn add(&mut self, batch: &RunBatch, plan: &TilePlan) -> Result<()> {
        let piece = piece_of(batch, self.options.fixed_seq, plan.default_seq);
        let mut start = 0;
        while start < piece.rows {
            if let Some(series) = &mut self.series
                && series.ends_before(batch.keys.get(start), self.tile.rows)
            {
                self.close_tile(plan)?;
            }
            let mut take = (plan.tile_rows() - self.tile.rows).min(piece.rows - start);
            if let Some(series) = &self.series {
                take = series.rows_before_next_look(&batch.keys, &(start..start + take), self.tile.rows);
            }
            let mut bytes = piece.raw_bytes(start..start + take);
            while take > 1 && self.tile.bytes + bytes > TILE_RAW_BYTES_MAX {
                take /= 2;
                bytes = piece.raw_bytes(start..start + take);
            }
            if self.tile.rows > 0 && self.tile.bytes + bytes > TILE_RAW_BYTES_MAX {
                self.close_tile(plan)?;
                continue;
            }
            self.extend_tile(&piece, &batch.keys, start..start + take, plan)?;
            if let Some(series) = &mut self.series {
                series.laid(&batch.keys, start..start + take);
            }
            self.tile.bytes += bytes;
            start += take;
            if self.tile.rows == plan.tile_rows() {
                self.close_tile(plan)?;
            }
        }
        Ok(())
    }

    fn extend_tile(&mut self, piece: &Piece, keys: &EncodedKeys, rows: Range<usize>, plan: &TilePlan) -> Result<()> {
        let tile = &mut self.tile;
        let mut row = rows.start;
        while row < rows.end {
            let in_slice = tile.rows % plan.slice_rows;
            if in_slice == 0 {
                tile.firsts.push(keys.get(row).to_vec());
                tile.lasts.push(Vec::new());
                if let Some(filter) = &mut self.filter {
                    filter.begin_slice(keys.get(row), plan.slice_rows)?;
                }
            }
            let take = (plan.slice_rows - in_slice).min(rows.end - row);
            if let Some(filter) = &mut self.filter {
                filter.push((row..row + take).map(|row| keys.get(row)), keys.get(row + take - 1));
            }
            row += take;
            tile.rows += take;
            if let Some(last) = tile.lasts.last_mut() {
                last.clear();
                last.extend_from_slice(keys.get(row - 1));
            }
        }
        tile.pieces.push(piece.slice(rows));
        Ok(())
    }

    /// Sends the tile to be encoded, and writes what has come back.
    fn close_tile(&mut self, plan: &TilePlan) -> Result<()> {
        let number = self.tile.number;
        let next = TileRows { number: number + 1, ..TileRows::default() };
        let tile = std::mem::replace(&mut self.tile, next);
        match &mut self.pool {
            None => {
                self.ready.insert(number, tile.encode(plan)?);
            }
            Some(pool) => {
                for encoded in pool.submit(tile)? {
                    self.ready.insert(encoded.number, encoded);
                }
            }
        }
        self.write_ready(false)
    }

    /// Writes the encoded tiles whose successor is known; all of them `at_end`.
    fn write_ready(&mut self, at_end: bool) -> Result<()> {
        while let Some(tile) = self.ready.remove(&self.tiles_written) {
            let next = self.ready.get(&(self.tiles_written + 1)).and_then(|next| next.firsts.first()).cloned();
            if next.is_none() && !at_end {
                self.ready.insert(tile.number, tile);
                break;
            }
            self.write_tile(&tile, &next.unwrap_or_default())?;
        }
        Ok(())
    }

    fn write_tile(&mut self, tile: &EncodedTile, next_first: &[u8]) -> Result<()> {
        let plan = self.plan.clone().ok_or_else(|| Error::internal("a tile without a plan"))?;
        let guards = self.guards(tile, next_first);
        let first_key = self.schema.key_columns.first().and_then(|id| self.schema.position(*id));
        for (place, column) in tile.columns.iter().enumerate() {
            let guards = if Some(place) == first_key { guards.as_slice() } else { &[] };
            self.write_chunk(place, column, guards)?;
        }
        if let Some(index) = &mut self.index {
            for (first, last) in tile.firsts.iter().zip(&tile.lasts) {
                index.push(first, last);
            }
        }
        if tile.rows < plan.tile_rows() {
            self.short.push(ShortTile { tile: tile.number, rows: small(tile.rows)? });
        }
        self.written_key = tile.lasts.last().cloned().unwrap_or_default();
        self.slices_written += tile.firsts.len();
        self.tiles_written += 1;
        Ok(())
    }

    /// The guard of each slice of a tile, encoded.
    fn guards(&self, tile: &EncodedTile, next_first: &[u8]) -> Vec<Vec<u8>> {
        let prevs = std::iter::once(self.written_key.as_slice()).chain(tile.lasts.iter().map(Vec::as_slice));
        let nexts = tile.firsts.iter().skip(1).map(Vec::as_slice).chain(std::iter::once(next_first));
        let guard = |(prev_last, next_first)| {
            let mut out = Vec::new();
            Guard { prev_last, next_first }.encode(&mut out);
            out
        };
        prevs.zip(nexts).map(guard).collect()
    }

    fn write_chunk(&mut self, place: usize, column: &EncodedColumn, guards: &[Vec<u8>]) -> Result<()> {
        let mut vectors = column.vectors.as_slice();
        for (slice, length) in column.lengths.iter().enumerate() {
            let mut bytes = 0;
            if let Some(length) = length {
                let (vector, rest) =
                    vectors.split_at_checked(*length).ok_or_else(|| Error::internal("a vector is missing"))?;
                vectors = rest;
                let guard = guards.get(slice).map_or(&[][..], Vec::as_slice);
                bytes = self.out.frame(&[guard, vector])?;
            }
            if let Some(lengths) = self.lengths.get_mut(place) {
                lengths.push(small(bytes)?);
            }
        }
        let builder = self.stats.get_mut(place).ok_or_else(|| Error::internal("a column without statistics"))?;
        column.stats.iter().try_for_each(|stats| builder.push(stats))
    }

    /// Writes what is left, and makes file and directory durable.
    ///
    /// # Errors
    /// `InvalidArgument` if no row was written: a run has at least one.
    pub fn finish(mut self) -> Result<RunMeta> {
        if self.rows == 0 {
            return Err(Error::new(ErrorKind::InvalidArgument, "a run without rows"));
        }
        if self.plan.is_none() {
            self.begin()?;
        }
        let plan = self.plan.clone().ok_or_else(|| Error::internal("a run without a plan"))?;
        if self.tile.rows > 0 {
            self.close_tile(&plan)?;
        }
        if let Some(pool) = self.pool.take() {
            for encoded in pool.finish()? {
                self.ready.insert(encoded.number, encoded);
            }
        }
        self.write_ready(true)?;
        if self.tiles_written != self.tile.number {
            return Err(Error::internal("a tile of a run was lost"));
        }
        let (bytes, trailer) = self.write_end(&plan)?;
        if !mutant!(SkipRunDirSync) {
            self.io.sync_dir(&self.dir)?;
        }
        self.finished = true;
        let (min_seq, max_seq) = self.seqs.unwrap_or_default();
        Ok(RunMeta {
            id: self.id,
            rows: self.rows,
            tombstones: self.tombstones,
            bytes,
            random_id: trailer.random,
            footer_offset: trailer.footer_offset,
            footer_bytes: trailer.footer_bytes,
            layout: self.options.layout,
            min_key: std::mem::take(&mut self.min_key),
            max_key: std::mem::take(&mut self.last_key),
            min_seq,
            max_seq,
        })
    }

    /// Sections, footer and trailer; gives the file's length.
    fn write_end(&mut self, plan: &TilePlan) -> Result<(u64, Trailer)> {
        let data_end = self.out.position();
        let mut sections = Vec::new();
        if let Some(filter) = self.filter.take() {
            for (slice, block) in filter.finish()? {
                sections.push(self.out.section(SectionKind::Filter, ColumnId(slice), &block)?);
            }
        }
        let mut ids = self.schema.column_ids();
        ids.extend([ColumnId::SEQ, ColumnId::KIND]);
        for (id, builder) in ids.into_iter().zip(std::mem::take(&mut self.stats)) {
            sections.push(self.out.section(SectionKind::Statistics, id, &builder.finish()?)?);
        }
        let none = ColumnId(0);
        let builder = self.index.take().ok_or_else(|| Error::internal("a run's index was finished twice"))?;
        let (index, _) = builder.finish()?;
        sections.push(self.out.section(SectionKind::Index, none, &index)?);
        let locators = locators::encode(&self.lengths, self.slices_written, &self.short);
        sections.push(self.out.section(SectionKind::Locators, none, &locators)?);
        sections.push(self.out.section(SectionKind::Schema, none, &encode_schema(&self.schema)?)?);
        let (min_seq, max_seq) = self.seqs.unwrap_or_default();
        let footer = Footer {
            layout: self.options.layout,
            slice_rows: small(plan.slice_rows)?,
            tile_slices: small(plan.tile_slices)?,
            rows: self.rows,
            tombstones: self.tombstones,
            slices: small(self.slices_written)?,
            tiles: self.tiles_written,
            min_seq,
            max_seq,
            default_seq: plan.default_seq,
            data_end,
            min_key: self.min_key.clone(),
            max_key: self.last_key.clone(),
            sections,
        };
        let footer_offset = self.out.position();
        let footer_bytes = offset_of(self.out.frame(&[&footer.encode()])?);
        let file_bytes = self.out.position() + offset_of(TRAILER_BYTES);
        let trailer = Trailer { footer_offset, footer_bytes, id: self.id, random: self.out.random, file_bytes };
        self.out.put(&trailer.encode())?;
        self.out.finish()?;
        Ok((file_bytes, trailer))
    }
}

impl Drop for RunWriter {
    fn drop(&mut self) {
        if !self.finished {
            // The tiles that are being encoded are of no use to anyone; only their threads must end.
            drop(self.pool.take().map(Pool::finish));
            // Nobody knows of the file yet, and whoever opens the directory removes it if this fails.
            let _ = self.io.remove_file(&file_path(&self.dir, self.id));
        }
    }
}

/// A batch as the columns to store. `fixed` or not, numbers that are all `default` are not there.
fn piece_of(batch: &RunBatch, fixed: Option<Seq>, default: Seq) -> Piece {
    let constant = fixed.is_some() || batch.seqs.iter().all(|seq| *seq == default);
    let seqs = || -> ArrayRef { Arc::new(Int64Array::from_iter_values(batch.seqs.iter().copied().map(seq_to_int))) };
    let kinds = batch.tombstones.as_ref().filter(|kinds| kinds.true_count() > 0);
    Piece {
        rows: batch.len(),
        columns: batch.columns.clone(),
        seqs: (!constant).then(seqs),
        kinds: kinds.map(|kinds| -> ArrayRef { Arc::new(kinds.clone()) }),
    }
}

/// The power of two of rows that comes nearest to a slice's bytes, by ratio.
fn slice_rows_for(row_bytes: f64) -> usize {
    let target = f64::from(u32::try_from(SLICE_BYTES_TARGET).unwrap_or(u32::MAX)) / row_bytes;
    let mut rows = 1;
    while rows < SLICE_ROWS_MAX && approximate(rows) * std::f64::consts::SQRT_2 < target {
        rows *= 2;
    }
    rows
}

/// Slices of a tile in column shape: 8,192 rows, or fewer where rows are large.
fn tile_slices_for(slice_rows: usize, row_bytes: f64) -> usize {
    let mut slices = (TILE_ROWS / slice_rows).max(1);
    while slices > 1 && approximate(slices * slice_rows) * row_bytes > TILE_RAW_BYTES_TARGET {
        slices /= 2;
    }
    slices
}

fn approximate(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

/// The file, and what has not been written to it yet. Writes are whole blocks; the last one is filled up, and the file cut
/// to its length afterwards.
#[derive(Debug)]
struct Output {
    file: Arc<dyn File>,
    random: u64,
    /// Where `buffer` belongs, a whole number of blocks.
    written: u64,
    buffer: Buffer,
    /// Oldest first.
    writes: VecDeque<Write>,
    /// A buffer that came back from a write.
    spare: Buffer,
}

/// A write in flight.
#[derive(Debug)]
struct Write {
    offset: u64,
    completion: Completion,
}

impl Output {
    fn new(file: Arc<dyn File>, random: u64) -> Self {
        let buffer = Buffer::with_capacity(FIRST_BUFFER_BYTES);
        Output { file, random, written: 0, buffer, writes: VecDeque::new(), spare: Buffer::new() }
    }

    fn position(&self) -> u64 {
        self.written + offset_of(self.buffer.len())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    /// Appends a frame; gives its length.
    fn frame(&mut self, parts: &[&[u8]]) -> Result<usize> {
        let crc = frame_crc(self.random, self.position(), parts);
        self.buffer.extend_from_slice(&crc.to_le_bytes());
        parts.iter().for_each(|part| self.buffer.extend_from_slice(part));
        self.put(&[])?;
        Ok(FRAME_OVERHEAD + parts.iter().map(|part| part.len()).sum::<usize>())
    }

    fn section(&mut self, kind: SectionKind, column: ColumnId, payload: &[u8]) -> Result<Section> {
        let offset = self.position();
        let bytes = offset_of(self.frame(&[payload])?);
        Ok(Section { kind, column, offset, bytes })
    }

    /// Begins to write the whole blocks that have gathered.
    fn flush(&mut self) -> Result<()> {
        let rest = self.buffer.len() % BUFFER_ALIGN;
        let whole = self.buffer.len() - rest;
        if whole == 0 {
            return Ok(());
        }
        let mut next = std::mem::take(&mut self.spare);
        next.clear();
        // What has filled one buffer will go on; what ends before needs no second one.
        if whole >= WRITE_BYTES {
            next.reserve(BUFFER_BYTES);
        }
        next.extend_from_slice(self.buffer.get(whole..).unwrap_or_default());
        let mut buffer = std::mem::replace(&mut self.buffer, next);
        buffer.truncate(whole);
        let offset = self.written;
        self.written += offset_of(whole);
        self.writes.push_back(Write { offset, completion: self.file.submit(Op::Write { offset, buffer }) });
        self.await_writes(WRITES_MAX)
    }

    /// Waits until no more than `left` writes are in flight.
    fn await_writes(&mut self, left: usize) -> Result<()> {
        while self.writes.len() > left {
            let Some(write) = self.writes.pop_front() else { break };
            let done = write.completion.wait()?;
            let buffer = done.buffer.ok_or_else(|| Error::internal("a write lost its buffer"))?;
            let written = done.bytes - done.bytes % BUFFER_ALIGN;
            if let Some(rest) = buffer.get(written..).filter(|rest| !rest.is_empty()) {
                self.file.write_all_at(write.offset + offset_of(written), Buffer::from_slice(rest))?;
            }
            self.spare = buffer;
        }
        Ok(())
    }

    /// Writes what is left and makes the file durable.
    fn finish(&mut self) -> Result<()> {
        let len = self.position();
        self.buffer.resize(self.buffer.len().next_multiple_of(BUFFER_ALIGN), 0);
        self.flush()?;
        self.await_writes(0)?;
        if self.written > len {
            self.file.set_len(len)?;
        }
        if mutant!(SkipRunSync) { Ok(()) } else { self.file.sync_all() }
    }
}

/// Threads that encode tiles.
#[derive(Debug)]
struct Pool {
    jobs: Sender<TileRows>,
    results: Receiver<Result<EncodedTile>>,
    threads: Vec<JoinHandle<()>>,
    in_flight: usize,
}

impl Pool {
    fn start(threads: usize, id: RunId, plan: &Arc<TilePlan>) -> Result<Pool> {
        let (jobs, queue) = channel::unbounded::<TileRows>();
        let (done, results) = channel::unbounded();
        let worker = |number: usize| {
            let (queue, done, plan) = (queue.clone(), done.clone(), Arc::clone(plan));
            thread::spawn(&format!("encode-{}-{number}", id.0), move || {
                while let Some(tile) = queue.recv() {
                    if done.send(tile.encode(&plan)).is_err() {
                        break;
                    }
                }
            })
        };
        let threads = (0..threads).map(worker).collect::<Result<Vec<_>>>()?;
        Ok(Pool { jobs, results, threads, in_flight: 0 })
    }

    /// Hands a tile to a thread, waiting while all have enough to do; gives the tiles that are done.
    fn submit(&mut self, tile: TileRows) -> Result<Vec<EncodedTile>> {
        self.jobs.send(tile).map_err(|_| lost())?;
        self.in_flight += 1;
        let mut done = Vec::new();
        while self.in_flight > 2 * self.threads.len() {
            done.push(self.receive()?);
        }
        while let Ok(result) = self.results.try_recv() {
            self.in_flight -= 1;
            done.push(result?);
        }
        Ok(done)
    }

    fn receive(&mut self) -> Result<EncodedTile> {
        let result = self.results.recv().ok_or_else(lost)?;
        self.in_flight -= 1;
        result
    }

    /// The rest of the tiles; ends the threads.
    fn finish(mut self) -> Result<Vec<EncodedTile>> {
        let mut done = Vec::with_capacity(self.in_flight);
        while self.in_flight > 0 {
            done.push(self.receive()?);
        }
        let Pool { jobs, threads, .. } = self;
        drop(jobs);
        threads.into_iter().try_for_each(JoinHandle::join)?;
        Ok(done)
    }
}

fn lost() -> Error {
    Error::internal("an encoder thread of a run's writer ended early")
}
