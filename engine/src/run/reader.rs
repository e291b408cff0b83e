/*!
An open run: lookups by key and reads by position.

Opening touches no file. The first use reads the file's end in one read (trailer, footer, schema, locators, index), and
keeps what it needs in memory: the index, the locators, and a place in the cache for each unit.

A *unit* is what is read, verified and cached as a whole: in column shape one column's chunk of a tile, in row shape a
whole tile. Point reads go through the cache; a value is found in a unit by its locator and read from its vector
by position.

Every slice stores its neighbours' keys, so a lookup knows whether the index sent it to the right slice. If not, that is
counted and a binary search over the slices answers.
*/

use super::format::{
    Footer, Guard, HEADER_BYTES, Section, SectionKind, TRAILER_BYTES, Trailer, decode_schema, open_frame, placed,
    split_frame,
};
use super::locators::{Extent, Locators};
use super::scan::{RunScan, RunScanOptions};
use super::search::{KeyColumn, Place};
use super::spread::Spread;
use super::statistics::{BLOCK_SLICES, Needs, SliceStats, StatsBlock, StatsDirectory};
use super::{
    KIND_TYPE, Layout, RunMeta, RunSchema, SEQ_TYPE, file_path, offset_of, seq_from_int, seq_to_int, small, wide,
};
use crate::cache::{Cache, Frame, Handle, Slots};
use crate::column::ColumnSink;
use crate::encoding::Vector;
use crate::error::{Error, Result};
use crate::io::sync::{Mutex, OnceCell};
use crate::io::{File, IoRef};
use crate::key::Key;
use crate::model::{IndexStats, SliceIndex};
use crate::types::{ColumnId, ColumnType, Seq, Value};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes read from the file's end at first use: enough for all but large runs.
const TAIL_BYTES: u64 = 128 * 1024;

/// Residuals that [`Run::index_stats`] samples.
const RESIDUALS_MAX: usize = 4096;

/// Where a key's row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Its slice.
    pub slice: u32,
    /// Its row within the slice.
    pub row: u32,
    /// The sequence number stored with it.
    pub seq: Seq,
    /// Whether it is a tombstone.
    pub tombstone: bool,
}

/// The index of a run, as `\index` shows it.
#[derive(Debug, Clone)]
pub struct RunIndexStats {
    /// What was built, and how large it is.
    pub index: IndexStats,
    /// For slices spread evenly over the run: the slice where the model's line alone would look, minus the actual one.
    /// All 0 for fences.
    pub residuals: Vec<i32>,
    /// Lookups that the index sent to the wrong slice since the run was opened. More than none is a defect.
    pub breaches: u64,
    /// Bytes that stay in memory for this run: index, locators, places in the cache.
    pub memory_bytes: u64,
}

/// An open run. All methods may be called from many threads.
#[derive(Debug)]
pub struct Run {
    file: Arc<Handle>,
    meta: RunMeta,
    cache: Arc<Cache>,
    loaded: OnceCell<Loaded>,
    /// See [`Run::spread`]: every scan of a table whose rows expire asks, so that asking for the one column takes no lock.
    pub(super) first_spread: OnceCell<(ColumnId, Spread)>,
    pub(super) spread: Mutex<Option<(ColumnId, Spread)>>,
    breaches: AtomicU64,
}

/// What the first use brings into memory.
#[derive(Debug)]
pub(super) struct Loaded {
    file: Arc<Handle>,
    pub(super) random: u64,
    pub(super) footer: Footer,
    pub(super) schema: RunSchema,
    /// The stored columns with SEQ and KIND after them: what the file has.
    pub(super) columns: Vec<(ColumnId, ColumnType)>,
    /// Places in `columns`, by id.
    by_id: Vec<(ColumnId, usize)>,
    pub(super) key: Vec<KeyColumn>,
    pub(super) locators: Locators,
    pub(super) index: SliceIndex,
    pub(super) slots: Slots,
    /// The statistics' section of each column.
    pub(super) statistics: Vec<Option<Section>>,
}

/// A verified unit, and where in the file it begins.
#[derive(Debug, Clone)]
pub(super) struct Unit {
    frame: Arc<Frame>,
    offset: u64,
}

impl Run {
    /// Opens the run of `meta` in `dir`. The file is first touched when something of it is needed.
    pub fn open(io: &IoRef, dir: &Path, meta: RunMeta, cache: &Arc<Cache>) -> Result<Arc<Run>> {
        Ok(Arc::new(Run {
            file: cache.files().handle(io, file_path(dir, meta.id)),
            meta,
            cache: Arc::clone(cache),
            loaded: OnceCell::new(),
            first_spread: OnceCell::new(),
            spread: Mutex::new(None),
            breaches: AtomicU64::new(0),
        }))
    }

    /// What the manifest keeps about it.
    pub fn meta(&self) -> &RunMeta {
        &self.meta
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Opens the file for as long as the run is there, so that it may be removed meanwhile.
    pub(crate) fn hold(&self) -> Result<()> {
        self.file.hold()
    }

    /// What it stores.
    pub fn schema(&self) -> Result<&RunSchema> {
        Ok(&self.loaded()?.schema)
    }

    /// Slices.
    pub fn slices(&self) -> Result<usize> {
        Ok(wide(self.loaded()?.locators.slices()))
    }

    /// The slice where `key` is or would be; the first for keys before all.
    pub fn slice_of(&self, key: &[u8]) -> Result<usize> {
        let loaded = self.loaded()?;
        Ok(loaded.index.find(key).min(wide(loaded.locators.slices() - 1)))
    }

    /// The first key of a slice.
    pub fn first_key_of(&self, slice: usize) -> Result<Key> {
        let loaded = self.loaded()?;
        loaded.first_key_of(loaded.checked_slice(slice)?)
    }

    /// Finds the row of `key`.
    ///
    /// # Errors
    /// `Corruption` for bytes that are not what was written; `Io`.
    pub fn find(&self, key: &[u8]) -> Result<Option<Found>> {
        if key < self.meta.min_key.as_slice() || key > self.meta.max_key.as_slice() {
            return Ok(None);
        }
        let loaded = self.loaded()?;
        self.find_from(loaded, key, loaded.index.find(key))
    }

    /// Finds the rows of many keys: a result for each, in their order.
    ///
    /// # Errors
    /// As [`Run::find`].
    pub fn find_many(&self, keys: &[&[u8]], out: &mut Vec<Option<Found>>) -> Result<()> {
        let loaded = self.loaded()?;
        let mut slices = Vec::with_capacity(keys.len());
        loaded.index.find_batch(keys, &mut slices);
        out.clear();
        for (key, slice) in keys.iter().zip(slices) {
            out.push(self.find_from(loaded, key, slice)?);
        }
        Ok(())
    }

    pub(super) fn find_from(&self, loaded: &Loaded, key: &[u8], slice: usize) -> Result<Option<Found>> {
        let place = self.locate_from(loaded, key, slice)?;
        if !place.exact {
            return Ok(None);
        }
        let (seq, tombstone) = (loaded.seq(place.slice, place.row)?, loaded.tombstone(place.slice, place.row)?);
        Ok(Some(Found { slice: place.slice, row: place.row, seq, tombstone }))
    }

    /// The first row whose key is not less than `key`, which need not be a whole key.
    pub(super) fn locate(&self, loaded: &Loaded, key: &[u8]) -> Result<Place> {
        self.locate_from(loaded, key, loaded.index.find(key))
    }

    fn locate_from(&self, loaded: &Loaded, key: &[u8], slice: usize) -> Result<Place> {
        let slice = small(slice)?.min(loaded.locators.slices() - 1);
        let unit = loaded.unit(loaded.locators.tile_of(slice), loaded.guard_column())?;
        let (guard, _) = loaded.guarded(&unit, slice)?;
        if guard.admits(key) {
            return loaded.search(slice, key, &unit);
        }
        self.breaches.fetch_add(1, Ordering::Relaxed);
        let slice = loaded.slice_by_bisection(key)?;
        let unit = loaded.unit(loaded.locators.tile_of(slice), loaded.guard_column())?;
        loaded.search(slice, key, &unit)
    }

    /// Appends to `out` the values of a row's columns. A column that the run does not have is NULL.
    ///
    /// # Errors
    /// `Internal` for a type other than the stored one; otherwise as [`Run::find`].
    pub fn read_row(&self, found: &Found, projection: &[(ColumnId, ColumnType)], out: &mut Vec<Value>) -> Result<()> {
        let loaded = self.loaded()?;
        out.reserve(projection.len());
        loaded.values(found, projection, out)
    }

    /// As [`Run::read_row`], into columns under construction, one for each of the projection.
    ///
    /// # Errors
    /// As [`Run::read_row`].
    pub fn append_row(
        &self,
        found: &Found,
        projection: &[(ColumnId, ColumnType)],
        sinks: &mut [ColumnSink],
    ) -> Result<()> {
        let loaded = self.loaded()?;
        for ((id, ty), sink) in projection.iter().zip(sinks) {
            loaded.append_value(found, *id, *ty, sink)?;
        }
        Ok(())
    }

    /// What is known of a column in a slice; `None` if the run does not have the column.
    pub fn slice_stats(&self, slice: usize, column: ColumnId) -> Result<Option<SliceStats>> {
        let loaded = self.loaded()?;
        let slice = loaded.checked_slice(slice)?;
        let Some(statistics) = loaded.column_statistics(column)? else { return Ok(None) };
        statistics.get(loaded, slice).map(Some)
    }

    /// Begins to read the rows of a range.
    pub fn scan(self: &Arc<Self>, options: RunScanOptions) -> RunScan {
        RunScan::new(Arc::clone(self), options)
    }

    /// The index, with sampled residuals.
    pub fn index_stats(&self) -> Result<RunIndexStats> {
        let loaded = self.loaded()?;
        let slices = wide(loaded.locators.slices());
        let mut residuals = Vec::new();
        for slice in (0..slices).step_by(slices.div_ceil(RESIDUALS_MAX).max(1)) {
            let key = loaded.first_key_of(small(slice)?)?;
            residuals.push(loaded.residual(key.as_ref(), slice));
        }
        let memory = loaded.index.memory_bytes() + loaded.locators.memory_bytes() + loaded.slots.memory_bytes();
        Ok(RunIndexStats {
            index: loaded.index.stats().clone(),
            residuals,
            breaches: self.breaches.load(Ordering::Relaxed),
            memory_bytes: offset_of(memory),
        })
    }

    /// What the first use brings into memory.
    pub(super) fn loaded(&self) -> Result<&Loaded> {
        self.loaded.get_or_try_init(|| Loaded::read(self))
    }
}

impl Loaded {
    fn read(run: &Run) -> Result<Loaded> {
        let (file, path) = (run.file.get()?, run.path());
        let file_bytes = file.len()?;
        let tail = Tail::read(file.as_ref(), file_bytes)?;
        let trailer = placed(tail.trailer(run, file_bytes), path, file_bytes.saturating_sub(offset_of(TRAILER_BYTES)))?;
        if trailer.random != run.meta.random_id {
            return Err(Error::corruption("the run's file is not the one that the manifest describes").at(path, None));
        }
        let footer_extent = Extent { offset: trailer.footer_offset, bytes: length(trailer.footer_bytes)? };
        let payload = tail.frame(file.as_ref(), footer_extent, trailer.random)?;
        let footer = placed(Footer::decode(&payload, &trailer), path, trailer.footer_offset)?;
        check_meta(&run.meta, &footer).map_err(|e| e.at(path, trailer.footer_offset))?;
        let section = |kind| -> Result<(Vec<u8>, u64)> {
            let section = placed(footer.section(kind), path, trailer.footer_offset)?;
            let extent = Extent { offset: section.offset, bytes: length(section.bytes)? };
            Ok((tail.frame(file.as_ref(), extent, trailer.random)?, section.offset))
        };
        let (schema, at) = section(SectionKind::Schema)?;
        let schema = placed(decode_schema(&schema), path, at)?;
        let mut columns = schema.columns.clone();
        columns.extend([(ColumnId::SEQ, SEQ_TYPE), (ColumnId::KIND, KIND_TYPE)]);
        let (locators, at) = section(SectionKind::Locators)?;
        let locators = placed(Locators::decode(&locators, &footer, columns.len()), path, at)?;
        let (index, at) = section(SectionKind::Index)?;
        let index = placed(SliceIndex::open(&index), path, at)?;
        if index.slices() != wide(locators.slices()) {
            return Err(Error::corruption("the run's index is about another number of slices").at(path, at));
        }
        let units = match footer.layout {
            Layout::Row => wide(locators.tiles()),
            Layout::Column => wide(locators.tiles()) * columns.len(),
        };
        let statistics = columns.iter().map(|(id, _)| {
            let of_column = |section: &&Section| section.kind == SectionKind::Statistics && section.column == *id;
            footer.sections.iter().find(of_column).copied()
        });
        let statistics: Vec<_> = statistics.collect();
        let mut by_id: Vec<_> = columns.iter().enumerate().map(|(place, (id, _))| (*id, place)).collect();
        by_id.sort_unstable();
        Ok(Loaded {
            random: trailer.random,
            key: KeyColumn::all(&schema)?,
            slots: run.cache.slots(units + columns.len()),
            file: Arc::clone(&run.file),
            footer,
            schema,
            columns,
            by_id,
            locators,
            index,
            statistics,
        })
    }

    /// The file.
    pub(super) fn file(&self) -> Result<Arc<dyn File>> {
        self.file.get()
    }

    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// The same error, placed in this file.
    pub(super) fn at<T>(&self, result: Result<T>, offset: u64) -> Result<T> {
        placed(result, self.path(), offset)
    }

    fn checked_slice(&self, slice: usize) -> Result<u32> {
        let in_range = |slice: &u32| *slice < self.locators.slices();
        small(slice)
            .ok()
            .filter(in_range)
            .ok_or_else(|| Error::invalid(format!("slice {slice} of a run that ends before")))
    }

    /// The place of a column among the file's; `None` if the run does not have it.
    ///
    /// # Errors
    /// `Internal` if it is stored with another type.
    pub(super) fn place_of(&self, id: ColumnId, ty: ColumnType) -> Result<Option<usize>> {
        let Some(place) = self.place_of_id(id) else { return Ok(None) };
        match self.columns.get(place) {
            Some((_, stored)) if *stored == ty => Ok(Some(place)),
            stored => Err(Error::internal(format!("column {} is asked for as {ty:?}, stored as {stored:?}", id.0))),
        }
    }

    pub(super) fn place_of_id(&self, id: ColumnId) -> Option<usize> {
        let at = self.by_id.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        self.by_id.get(at).map(|(_, place)| *place)
    }

    /// The column whose payloads begin with guards.
    #[inline]
    pub(super) fn guard_column(&self) -> usize {
        self.key.first().map_or(0, |column| column.place)
    }

    pub(super) fn seq_column(&self) -> usize {
        self.schema.columns.len()
    }

    pub(super) fn kind_column(&self) -> usize {
        self.schema.columns.len() + 1
    }

    /// The cache's slot and the extent of the unit that holds a column of a tile.
    #[inline]
    pub(super) fn unit_of(&self, tile: u32, column: usize) -> (usize, Extent) {
        match self.footer.layout {
            Layout::Row => (wide(tile), self.locators.tile(tile)),
            Layout::Column => (wide(tile) * self.columns.len() + column, self.locators.chunk(tile, column)),
        }
    }

    /// The unit that holds a column of a tile, from the cache or the file.
    pub(super) fn unit(&self, tile: u32, column: usize) -> Result<Unit> {
        let (slot, extent) = self.unit_of(tile, column);
        if let Some(frame) = self.slots.get(slot) {
            return Ok(Unit { frame, offset: extent.offset });
        }
        let bytes = self.file()?.read_exact_at(extent.offset, extent.bytes)?;
        self.verify_unit(tile, column, &bytes, extent.offset)?;
        Ok(Unit { frame: self.slots.insert(slot, bytes[..].into()), offset: extent.offset })
    }

    /// Checks every frame of a unit.
    pub(super) fn verify_unit(&self, tile: u32, column: usize, bytes: &[u8], offset: u64) -> Result<()> {
        let columns = match self.footer.layout {
            Layout::Row => 0..self.columns.len(),
            Layout::Column => column..column + 1,
        };
        for column in columns {
            for slice in self.locators.slices_of(tile) {
                let extent = self.locators.frame(slice, column);
                if extent.bytes > 0 {
                    self.at(open_frame(part(bytes, offset, extent)?, self.random, extent.offset), extent.offset)?;
                }
            }
        }
        Ok(())
    }

    /// A column's payload of a slice within its unit; `None` if it was left out.
    #[inline]
    pub(super) fn payload<'u>(&self, unit: &'u Unit, slice: u32, column: usize) -> Result<Option<&'u [u8]>> {
        let extent = self.locators.frame(slice, column);
        if extent.bytes == 0 {
            return Ok(None);
        }
        let (_, payload) = split_frame(part(unit.frame.bytes(), unit.offset, extent)?)?;
        Ok(Some(payload))
    }

    /// The guard and the first key column's vector of a slice.
    pub(super) fn guarded<'u>(&self, unit: &'u Unit, slice: u32) -> Result<(Guard<'u>, &'u [u8])> {
        let column = self.guard_column();
        let offset = self.locators.frame(slice, column).offset;
        let payload = self.payload(unit, slice, column)?.ok_or_else(|| Error::corruption("a key is left out"));
        self.at(payload.and_then(Guard::decode), offset)
    }

    /// A column's vector of a slice within its unit; `None` if it was left out.
    pub(super) fn vector<'u>(&self, unit: &'u Unit, slice: u32, column: usize) -> Result<Option<Vector<'u>>> {
        let bytes = if column == self.guard_column() {
            Some(self.guarded(unit, slice)?.1)
        } else {
            self.payload(unit, slice, column)?
        };
        let Some(bytes) = bytes else { return Ok(None) };
        self.open_vector(bytes, slice, column).map(Some)
    }

    /// Opens a vector and checks that it has its slice's rows.
    pub(super) fn open_vector<'u>(&self, bytes: &'u [u8], slice: u32, column: usize) -> Result<Vector<'u>> {
        let ty = self.columns.get(column).map_or(SEQ_TYPE, |column| column.1);
        let vector = Vector::open(bytes, ty).and_then(|vector| {
            if vector.len() == wide(self.locators.rows_of(slice)) {
                return Ok(vector);
            }
            Err(Error::corruption(format!("a vector has {} rows, not its slice's", vector.len())))
        });
        vector.map_err(|e| e.at(self.path(), self.locators.frame(slice, column).offset))
    }

    /// One value of a stored column, by its place.
    fn value_in(&self, slice: u32, row: u32, column: usize) -> Result<Value> {
        let unit = self.unit(self.locators.tile_of(slice), column)?;
        self.value_of(&unit, slice, row, column)
    }

    fn value_of(&self, unit: &Unit, slice: u32, row: u32, column: usize) -> Result<Value> {
        match self.vector(unit, slice, column)? {
            Some(vector) => self.at(vector.value(wide(row)), self.locators.frame(slice, column).offset),
            None => Ok(self.default_of(column)),
        }
    }

    /// Appends the values of a row's columns.
    fn values(&self, found: &Found, projection: &[(ColumnId, ColumnType)], out: &mut Vec<Value>) -> Result<()> {
        let tile = self.locators.tile_of(found.slice);
        // In row shape, one unit has all columns.
        let shared = match self.footer.layout {
            Layout::Row => Some(self.unit(tile, 0)?),
            Layout::Column => None,
        };
        for (id, ty) in projection {
            out.push(match (self.place_of(*id, *ty)?, &shared) {
                (None, _) => Value::Null,
                (Some(column), Some(unit)) => self.value_of(unit, found.slice, found.row, column)?,
                (Some(column), None) => self.value_in(found.slice, found.row, column)?,
            });
        }
        Ok(())
    }

    /// What a left-out vector's values are.
    fn default_of(&self, column: usize) -> Value {
        if column == self.seq_column() {
            Value::Int(seq_to_int(self.footer.default_seq))
        } else if column == self.kind_column() {
            Value::Boolean(false)
        } else {
            Value::Null
        }
    }

    fn append_value(&self, found: &Found, id: ColumnId, ty: ColumnType, sink: &mut ColumnSink) -> Result<()> {
        let Some(column) = self.place_of(id, ty)? else {
            sink.append_nulls(1);
            return Ok(());
        };
        let unit = self.unit(self.locators.tile_of(found.slice), column)?;
        match self.vector(&unit, found.slice, column)? {
            Some(vector) => {
                let row = wide(found.row);
                self.at(vector.decode(row..row + 1, sink), self.locators.frame(found.slice, column).offset)
            }
            None => sink.append(&self.default_of(column)),
        }
    }

    fn seq(&self, slice: u32, row: u32) -> Result<Seq> {
        if self.footer.min_seq == self.footer.max_seq {
            return Ok(self.footer.min_seq);
        }
        match self.value_in(slice, row, self.seq_column())? {
            Value::Int(seq) => Ok(seq_from_int(seq)),
            _ => Err(Error::corruption("a row has no sequence number").at(self.path(), None)),
        }
    }

    fn tombstone(&self, slice: u32, row: u32) -> Result<bool> {
        if self.footer.tombstones == 0 {
            return Ok(false);
        }
        Ok(self.value_in(slice, row, self.kind_column())? == Value::Boolean(true))
    }

    /// The first key of a slice.
    pub(super) fn first_key_of(&self, slice: u32) -> Result<Key> {
        self.key_at(slice, 0)
    }

    /// The key of a row.
    pub(super) fn key_at(&self, slice: u32, row: u32) -> Result<Key> {
        let values = self.key.iter().map(|column| self.value_in(slice, row, column.place));
        let values = values.collect::<Result<Vec<_>>>()?;
        let key = self.schema.key.encode(&values).map_err(|e| Error::corruption(e.to_string()));
        self.at(key, self.locators.frame(slice, self.guard_column()).offset)
    }

    /// The last slice whose first key is not after `key`, without the index.
    fn slice_by_bisection(&self, key: &[u8]) -> Result<u32> {
        let (mut low, mut high) = (0, self.locators.slices());
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.first_key_of(middle)?.as_ref() <= key {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// Where the model's line alone would look, minus the actual slice.
    fn residual(&self, key: &[u8], slice: usize) -> i32 {
        let predicted = i64::try_from(self.index.predict(key).predicted).unwrap_or(i64::MAX);
        let residual = predicted.saturating_sub(i64::try_from(slice).unwrap_or(i64::MAX));
        i32::try_from(residual).unwrap_or(if residual < 0 { i32::MIN } else { i32::MAX })
    }

    /// A column's statistics, opened; `None` if the run does not have the column.
    pub(super) fn column_statistics(&self, id: ColumnId) -> Result<Option<ColumnStatistics>> {
        let Some(place) = self.place_of_id(id) else { return Ok(None) };
        let Some(section) = self.statistics.get(place).copied().flatten() else { return Ok(None) };
        let slot = self.unit_count() + place;
        let frame = match self.slots.get(slot) {
            Some(frame) => frame,
            None => {
                let bytes = self.file()?.read_exact_at(section.offset, length(section.bytes)?)?;
                self.at(open_frame(&bytes, self.random, section.offset), section.offset)?;
                self.slots.insert(slot, bytes[..].into())
            }
        };
        let ty = self.columns.get(place).map_or(SEQ_TYPE, |column| column.1);
        let directory = split_frame(frame.bytes())
            .and_then(|(_, payload)| StatsDirectory::open(payload, ty, self.locators.slices()));
        Ok(Some(ColumnStatistics { directory: self.at(directory, section.offset)?, frame, offset: section.offset }))
    }

    fn unit_count(&self) -> usize {
        match self.footer.layout {
            Layout::Row => wide(self.locators.tiles()),
            Layout::Column => wide(self.locators.tiles()) * self.columns.len(),
        }
    }

    /// Checks the file's header, which nothing else reads.
    pub(super) fn check_header(&self, id: crate::types::RunId) -> Result<()> {
        let header = self.file()?.read_exact_at(0, HEADER_BYTES)?;
        self.at(super::format::check_header(&header, id, self.random), 0)
    }
}

/// A column's statistics, held while they are used.
#[derive(Debug)]
pub(super) struct ColumnStatistics {
    directory: StatsDirectory,
    frame: Arc<Frame>,
    offset: u64,
}

impl ColumnStatistics {
    pub(super) fn get(&self, loaded: &Loaded, slice: u32) -> Result<SliceStats> {
        let stats = split_frame(self.frame.bytes())
            .and_then(|(_, payload)| self.directory.get(payload, slice, loaded.locators.rows_of(slice)));
        loaded.at(stats, self.offset)
    }

    /// What is known of the block of `slices` slices that begins with `first`, as columns.
    pub(super) fn block(&self, loaded: &Loaded, first: u32, slices: usize, needs: Needs) -> Result<StatsBlock> {
        let block = split_frame(self.frame.bytes())
            .and_then(|(_, payload)| self.directory.block(payload, wide(first) / BLOCK_SLICES, slices, needs));
        loaded.at(block, self.offset)
    }
}

/// The part of `bytes`, which begin at `offset` of the file, that an extent covers.
pub(super) fn part(bytes: &[u8], offset: u64, extent: Extent) -> Result<&[u8]> {
    let start = extent.offset.checked_sub(offset).and_then(|start| usize::try_from(start).ok());
    let part = start.and_then(|start| bytes.get(start..start.checked_add(extent.bytes)?));
    part.ok_or_else(|| Error::internal("a vector lies outside of what was read for it"))
}

fn length(bytes: u64) -> Result<usize> {
    usize::try_from(bytes).map_err(|_| Error::corruption("a part of the run is larger than memory can be"))
}

/// What the manifest says must be what the file says.
fn check_meta(meta: &RunMeta, footer: &Footer) -> Result<()> {
    let keys = (&meta.min_key, &meta.max_key) == (&footer.min_key, &footer.max_key);
    if !keys || meta.layout != footer.layout || (meta.rows, meta.tombstones) != (footer.rows, footer.tombstones) {
        return Err(Error::corruption("the run's file is not the one that the manifest describes"));
    }
    Ok(())
}

/// The end of the file, read at once.
struct Tail {
    offset: u64,
    bytes: crate::io::Buffer,
}

impl Tail {
    fn read(file: &dyn File, file_bytes: u64) -> Result<Tail> {
        let bytes = file_bytes.min(TAIL_BYTES);
        let offset = file_bytes - bytes;
        Ok(Tail { offset, bytes: file.read_exact_at(offset, length(bytes)?)? })
    }

    fn trailer(&self, run: &Run, file_bytes: u64) -> Result<Trailer> {
        let start = self.bytes.len().saturating_sub(TRAILER_BYTES);
        Trailer::decode(self.bytes.get(start..).unwrap_or_default(), run.meta.id, file_bytes)
    }

    /// The payload of a frame, from what was read or from the file.
    fn frame(&self, file: &dyn File, extent: Extent, random: u64) -> Result<Vec<u8>> {
        let here = if extent.offset >= self.offset { part(&self.bytes, self.offset, extent).ok() } else { None };
        let payload = match here {
            Some(frame) => open_frame(frame, random, extent.offset).map(<[u8]>::to_vec),
            None => {
                let frame = file.read_exact_at(extent.offset, extent.bytes)?;
                open_frame(&frame, random, extent.offset).map(<[u8]>::to_vec)
            }
        };
        payload.map_err(|e| e.at(file.path(), extent.offset))
    }
}
