/*!
An open run: lookups by key and reads by position.

Opening touches no file. The first use reads the file's end in one read (trailer, footer, schema, locators, index), and
keeps what it needs in memory: the index, the locators, and a place in the cache for each unit.

A *unit* is what scans read, verify and cache as a whole: in column shape one column's chunk of a tile, in row shape a
whole tile. Point reads go through the cache; a value is found in a unit by its locator and read from its vector
by position. Of a chunk of more than two pages a point read takes its slice's frame alone, until a quarter of the chunk has been
read in that way; a unit of few pages it takes whole. Where the run has a [`filter`](super::filter) and the cache has its block,
that is asked first. What the cache lacks is read together ([`bring`](super::bring)); then the lookup pins the cache, asks the
processor for all that it will look at, and searches.

Every slice stores its neighbours' keys, so a lookup knows whether the index sent it to the right slice. If not, that is
counted and a binary search over the slices answers.
*/

use super::bring::Misses;
use super::filter::{self, FilterBlocks, Says};
use super::format::{
    Footer, Guard, HEADER_BYTES, Section, SectionKind, TRAILER_BYTES, Trailer, decode_schema, open_frame, placed,
    split_frame,
};
use super::locators::{Extent, Locators, Spot};
use super::scan::{RunScan, RunScanOptions};
use super::search::{KeyColumn, Place};
use super::spread::Spread;
use super::statistics::{BLOCK_SLICES, Needs, SliceStats, StatsBlock, StatsDirectory};
use super::{
    KIND_TYPE, Layout, RunMeta, RunSchema, SEQ_TYPE, file_path, offset_of, seq_from_int, seq_to_int, small, wide,
};
use crate::cache::{Cache, Frame, Handle, Pin, Slots};
use crate::column::ColumnSink;
use crate::encoding::Vector;
use crate::error::{Error, Result};
use crate::io::sync::{Mutex, OnceCell};
use crate::io::{File, IoRef};
use crate::key::Key;
use crate::model::{IndexStats, SliceIndex, prefetch};
use crate::types::{ColumnId, ColumnType, Seq, Value};
use smallvec::SmallVec;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Bytes read from the file's end at first use: enough for all but large runs.
const TAIL_BYTES: u64 = 128 * 1024;

/// Residuals that [`Run::index_stats`] samples.
const RESIDUALS_MAX: usize = 4096;

/// Keys of a batch that are looked for together: enough to hide the memory's latency.
const GROUP: usize = 16;
/// Keys of a batch whose units are brought into the cache before they are looked for.
const BRING_KEYS_MAX: usize = 256;
/// Columns of a lookup that take no allocation.
const CELLS: usize = 8;
/// Bytes of a unit that is read whole for any part of it: two of a device's pages, which a part alone may touch as well.
const FEW_PAGES: usize = 8192;
/// Once parts come to such a part of a unit, it is read whole.
const PARTS_MAX: usize = 4;
/// Bytes of a processor's cache line.
const CACHE_LINE: usize = 64;

/// Where a key's row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Its slice.
    pub slice: u32,
    /// Its row within the slice.
    pub row: u32,
    /// The sequence number stored with it, where that was asked for.
    pub seq: Option<Seq>,
    /// Whether it is a tombstone.
    pub tombstone: bool,
}

/// What a lookup is to tell of a row.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'c> {
    /// Columns that are read, now or soon: their units come into the cache along with the key's. One that the run does not have is
    /// NULL.
    pub columns: &'c [(ColumnId, ColumnType)],
    /// Whether the row's sequence number is told, which lies in a column of its own.
    pub seq: bool,
}

impl Wanted<'static> {
    /// Where the row is, and its number.
    pub const NUMBER: Wanted<'static> = Wanted { columns: &[], seq: true };
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

/// What is to be said of a run's filter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunFilterStats {
    /// Bytes of it in the file; 0 where the run has none.
    pub bytes: u64,
    /// Bytes of it in the cache.
    pub cached_bytes: u64,
    /// Keys that it is about: all of the run's rows, or none.
    pub keys: u64,
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
    pub(super) filter: FilterBlocks,
    /// Whether a block of the filter turned out to be damaged: then none is asked for any more.
    filter_is_damaged: AtomicBool,
    /// The statistics' section of each column.
    pub(super) statistics: Vec<Option<Section>>,
}

/// What a lookup has to read of a unit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Missing {
    /// Where it lies in the file.
    pub(super) extent: Extent,
    /// Where it begins in the unit.
    pub(super) at: usize,
    /// Bytes of the unit's other parts that the cache has.
    pub(super) held: usize,
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

    /// What keeps its units.
    pub(super) fn cache(&self) -> &Arc<Cache> {
        &self.cache
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
        let (loaded, pin) = (self.loaded()?, self.cache.pin());
        loaded.first_key_of(loaded.checked_slice(slice)?, &pin)
    }

    /// Finds the row of `key`, and its sequence number.
    ///
    /// # Errors
    /// `Corruption` for bytes that are not what was written; `Io`.
    pub fn find(&self, key: &[u8]) -> Result<Option<Found>> {
        self.look_up(key, Wanted::NUMBER, |_, _| Ok(()), || self.bring(key, Wanted::NUMBER))
    }

    /// Finds the row of `key`, and puts the values of its columns into `out`, in place of those that are there. The values of a
    /// tombstone are not read.
    ///
    /// # Errors
    /// As [`Run::read_row`].
    pub fn get(&self, key: &[u8], wanted: Wanted<'_>, out: &mut Vec<Value>) -> Result<Option<Found>> {
        self.get_bringing(key, wanted, out, || self.bring(key, wanted))
    }

    /// As [`Run::get`]; where the cache lacks something, `bring` should see to it first.
    pub(crate) fn get_bringing(
        &self,
        key: &[u8],
        wanted: Wanted<'_>,
        out: &mut Vec<Value>,
        bring: impl FnOnce(),
    ) -> Result<Option<Found>> {
        self.look_up(key, wanted, |cells, (loaded, spot, row)| cells.read(loaded, spot, row, out), bring)
    }

    fn look_up(
        &self,
        key: &[u8],
        wanted: Wanted<'_>,
        read: impl FnOnce(&Cells<'_>, (&Loaded, &Spot, u32)) -> Result<()>,
        bring: impl FnOnce(),
    ) -> Result<Option<Found>> {
        if !self.spans(key) {
            return Ok(None);
        }
        let loaded = self.loaded()?;
        let spot = loaded.spot_of(loaded.index.find(key))?;
        let mut pin = self.cache.pin();
        let says = loaded.ask_filter(&spot, key, &pin);
        if says == Says::Absent {
            return Ok(None);
        }
        let unread = Cells::of(loaded, wanted.columns)?;
        let is_here =
            loaded.needs(unread.places(), wanted.seq).all(|column| loaded.missing(&spot, column, &pin).is_none());
        if !is_here {
            // Nobody waits for a device under a pin.
            drop(pin);
            bring();
            pin = self.cache.pin();
        }
        let mut cells = unread;
        // What comes after the search is asked for before it.
        let guarded = loaded.payload(&spot, loaded.guard_column(), &pin)?;
        prefetch_payload(guarded);
        cells.locate(loaded, &spot, &pin)?;
        let (at, row, exact) = self.locate_in(loaded, key, spot, guarded, &pin)?;
        if !exact {
            match says {
                Says::Maybe => pin.filter_erred(),
                Says::Missing if is_here => {
                    drop(cells);
                    drop(pin);
                    bring_filter(loaded, &spot);
                }
                _ => {}
            }
            return Ok(None);
        }
        let found = loaded.found(&at, row, wanted.seq, &pin)?;
        if !found.tombstone {
            if at.slice != spot.slice {
                cells.locate(loaded, &at, &pin)?;
            }
            read(&cells, (loaded, &at, row))?;
        }
        Ok(Some(found))
    }

    /// Reads what a lookup of a key needs and the cache does not have.
    #[cold]
    fn bring(&self, key: &[u8], wanted: Wanted<'_>) {
        let mut misses = Misses::default();
        // The lookup itself meets the same error.
        let _ = self.add_misses(key, wanted, &mut misses);
        misses.read();
    }

    /// Adds what a lookup of `key` needs and the cache does not have.
    ///
    /// # Errors
    /// As [`Run::read_row`].
    pub(crate) fn add_misses<'r>(&'r self, key: &[u8], wanted: Wanted<'_>, misses: &mut Misses<'r>) -> Result<()> {
        if self.spans(key) {
            let loaded = self.loaded()?;
            let spot = loaded.spot_of(loaded.index.find(key))?;
            if loaded.filter_refuses(&spot, key) {
                return Ok(());
            }
            let cells = Cells::of(loaded, wanted.columns)?;
            misses.add(loaded, &spot, loaded.needs(cells.places(), wanted.seq), &self.cache.pin());
            if !misses.is_empty() {
                misses.add_filter(loaded, &spot);
            }
        }
        Ok(())
    }

    /// Whether the key lies within the run's bounds.
    fn spans(&self, key: &[u8]) -> bool {
        self.meta.min_key.as_slice() <= key && key <= self.meta.max_key.as_slice()
    }

    /// Finds the rows of many keys: a result for each, in their order; in key order it is fastest.
    ///
    /// # Errors
    /// As [`Run::read_row`].
    pub fn find_many(&self, keys: &[&[u8]], wanted: Wanted<'_>, out: &mut Vec<Option<Found>>) -> Result<()> {
        let loaded = self.loaded()?;
        let mut slices = Vec::with_capacity(keys.len());
        loaded.index.find_batch(keys, &mut slices);
        let cells = Cells::of(loaded, wanted.columns)?;
        out.clear();
        out.resize(keys.len(), None);
        let mut open: Vec<Sought<'_, '_>> = Vec::new();
        let each = keys.chunks(BRING_KEYS_MAX).zip(slices.chunks(BRING_KEYS_MAX)).zip(out.chunks_mut(BRING_KEYS_MAX));
        for ((keys, slices), out) in each {
            open.clear();
            {
                let pin = self.cache.pin();
                for ((key, slice), out) in keys.iter().zip(slices).zip(out) {
                    let spot = loaded.spot_of(*slice)?;
                    let says = loaded.ask_filter(&spot, key, &pin);
                    if says != Says::Absent {
                        open.push(Sought { key, spot, says, out });
                    }
                }
            }
            let mut misses = Misses::default();
            {
                let pin = self.cache.pin();
                for Sought { spot, .. } in &open {
                    misses.add(loaded, spot, loaded.needs(cells.places(), wanted.seq), &pin);
                }
            }
            let is_here = misses.is_empty();
            if !is_here {
                open.iter().for_each(|sought| misses.add_filter(loaded, &sought.spot));
            }
            misses.read();
            for group in open.chunks_mut(GROUP) {
                self.find_group(loaded, group, wanted.seq)?;
            }
            if is_here {
                let in_vain = |sought: &&Sought<'_, '_>| sought.says == Says::Missing && sought.out.is_none();
                let mut misses = Misses::default();
                open.iter().filter(in_vain).for_each(|sought| misses.add_filter(loaded, &sought.spot));
                misses.read();
            }
        }
        Ok(())
    }

    /// Finds a few keys in the slices where the index looks, the memory of all of which is asked for first.
    fn find_group(&self, loaded: &Loaded, group: &mut [Sought<'_, '_>], with_seq: bool) -> Result<()> {
        let pin = self.cache.pin();
        let mut payloads: SmallVec<[Option<&[u8]>; GROUP]> = SmallVec::new();
        for Sought { spot, .. } in &*group {
            let guarded = loaded.payload(spot, loaded.guard_column(), &pin)?;
            prefetch_payload(guarded);
            payloads.push(guarded);
        }
        for (sought, guarded) in group.iter_mut().zip(payloads) {
            let (at, row, exact) = self.locate_in(loaded, sought.key, sought.spot, guarded, &pin)?;
            if exact {
                *sought.out = Some(loaded.found(&at, row, with_seq, &pin)?);
            } else if sought.says == Says::Maybe {
                pin.filter_erred();
            }
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn find_from(&self, loaded: &Loaded, key: &[u8], slice: usize, pin: &Pin<'_>) -> Result<Option<Found>> {
        let (at, row, exact) = self.locate_from(loaded, key, slice, pin)?;
        if exact { loaded.found(&at, row, true, pin).map(Some) } else { Ok(None) }
    }

    /// The first row whose key is not less than `key`, which need not be a whole key.
    pub(super) fn locate(&self, loaded: &Loaded, key: &[u8]) -> Result<Place> {
        let (spot, row, exact) = self.locate_from(loaded, key, loaded.index.find(key), &self.cache.pin())?;
        Ok(Place { slice: spot.slice, row, exact })
    }

    fn locate_from(&self, loaded: &Loaded, key: &[u8], slice: usize, pin: &Pin<'_>) -> Result<(Spot, u32, bool)> {
        let spot = loaded.spot_of(slice)?;
        self.locate_in(loaded, key, spot, loaded.payload(&spot, loaded.guard_column(), pin)?, pin)
    }

    /// The slice, the row in it, and whether it has the key. `guarded` is the first key column's payload of the slice where the index
    /// looks.
    fn locate_in(
        &self,
        loaded: &Loaded,
        key: &[u8],
        spot: Spot,
        guarded: Option<&[u8]>,
        pin: &Pin<'_>,
    ) -> Result<(Spot, u32, bool)> {
        let (guard, vector) = loaded.guard_of(&spot, guarded)?;
        if guard.admits(key) {
            let (row, exact) = loaded.search(&spot, key, vector, pin)?;
            return Ok((spot, row, exact));
        }
        self.breaches.fetch_add(1, Ordering::Relaxed);
        let spot = loaded.locators.spot(loaded.slice_by_bisection(key, pin)?);
        let (_, vector) = loaded.guarded(&spot, pin)?;
        let (row, exact) = loaded.search(&spot, key, vector, pin)?;
        Ok((spot, row, exact))
    }

    /// Appends to `out` the values of a row's columns. A column that the run does not have is NULL.
    ///
    /// # Errors
    /// `Internal` for a type other than the stored one; otherwise as [`Run::find`].
    pub fn read_row(&self, found: &Found, projection: &[(ColumnId, ColumnType)], out: &mut Vec<Value>) -> Result<()> {
        let (loaded, pin) = (self.loaded()?, self.cache.pin());
        let mut values = Vec::with_capacity(projection.len());
        loaded.values(&loaded.locators.spot(found.slice), found.row, projection, &mut values, &pin)?;
        out.append(&mut values);
        Ok(())
    }

    /// As [`Run::read_row`] for many rows, into columns under construction, one for each of the projection. A slice whose rows stand
    /// together is opened once.
    ///
    /// # Errors
    /// As [`Run::read_row`]; columns may then have got some of their values.
    pub fn append_rows(
        &self,
        rows: &[Found],
        projection: &[(ColumnId, ColumnType)],
        sinks: &mut [ColumnSink],
    ) -> Result<()> {
        let loaded = self.loaded()?;
        for rows in rows.chunks(GROUP) {
            let pin = self.cache.pin();
            let mut spots: SmallVec<[(Spot, &[Found]); GROUP]> = SmallVec::new();
            for of_slice in rows.chunk_by(|a, b| a.slice == b.slice) {
                if let Some(first) = of_slice.first() {
                    spots.push((loaded.spot_of(wide(first.slice))?, of_slice));
                }
            }
            for ((id, ty), sink) in projection.iter().zip(sinks.iter_mut()) {
                loaded.append_column(&spots, loaded.place_of(*id, *ty)?, sink, &pin)?;
            }
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
            let key = loaded.first_key_of(small(slice)?, &self.cache.pin())?;
            residuals.push(loaded.residual(key.as_ref(), slice));
        }
        let memory = loaded.index.memory_bytes()
            + loaded.locators.memory_bytes()
            + loaded.slots.memory_bytes()
            + loaded.filter.memory_bytes();
        Ok(RunIndexStats {
            index: loaded.index.stats().clone(),
            residuals,
            breaches: self.breaches.load(Ordering::Relaxed),
            memory_bytes: offset_of(memory),
        })
    }

    /// The filter. Reads the file's end, if nothing has yet.
    ///
    /// # Errors
    /// As [`Run::find`].
    pub fn filter_stats(&self) -> Result<RunFilterStats> {
        self.loaded().map(|loaded| loaded.filter_stats())
    }

    /// The filter, where the run has been read from already; nothing is known of others.
    pub(crate) fn known_filter_stats(&self) -> RunFilterStats {
        self.loaded.get().map(Loaded::filter_stats).unwrap_or_default()
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
        let filter = placed(FilterBlocks::of(&footer), path, trailer.footer_offset)?;
        let mut by_id: Vec<_> = columns.iter().enumerate().map(|(place, (id, _))| (*id, place)).collect();
        by_id.sort_unstable();
        Ok(Loaded {
            random: trailer.random,
            key: KeyColumn::all(&schema)?,
            slots: run.cache.slots(units + columns.len() + filter.len()),
            filter,
            filter_is_damaged: AtomicBool::new(false),
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

    /// The place of the slice that an index names.
    #[inline]
    fn spot_of(&self, slice: usize) -> Result<Spot> {
        Ok(self.locators.spot(small(slice)?.min(self.locators.slices() - 1)))
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
        let extent = match self.footer.layout {
            Layout::Row => self.locators.tile(tile),
            Layout::Column => self.locators.chunk(tile, column),
        };
        (self.slot_of(tile, column), extent)
    }

    /// The cache's slot alone.
    #[inline]
    fn slot_of(&self, tile: u32, column: usize) -> usize {
        match self.footer.layout {
            Layout::Row => wide(tile),
            Layout::Column => wide(tile) * self.columns.len() + column,
        }
    }

    /// What the filter says of a key in a slice, as far as the cache has it.
    #[inline]
    fn ask_filter(&self, spot: &Spot, key: &[u8], pin: &Pin<'_>) -> Says {
        let Some((block, _)) = self.filter.of_slice(spot.slice) else { return Says::Nothing };
        let slot = self.filter_slot(block);
        // What is not there is no miss: nobody waits for it.
        let frame = if self.slots.has(slot) { self.slots.get(slot, pin) } else { None };
        let Some(frame) = frame else { return Says::Missing };
        let says = filter::ask(frame.bytes(), key);
        if says != Says::Nothing {
            pin.filter_asked(says == Says::Absent);
        }
        says
    }

    /// Whether the cache has a filter that says that the key is not there. This look is not counted: a lookup follows it.
    fn filter_refuses(&self, spot: &Spot, key: &[u8]) -> bool {
        let Some((block, _)) = self.filter.of_slice(spot.slice) else { return false };
        self.slots.peek(self.filter_slot(block)).is_some_and(|frame| filter::ask(frame.bytes(), key) == Says::Absent)
    }

    /// The slot and the extent of the slice's block of the filter, if the cache does not have it and it is worth its place there.
    pub(super) fn wanted_filter(&self, spot: &Spot) -> Option<(usize, Extent)> {
        let (block, extent) = self.filter.of_slice(spot.slice)?;
        let slot = self.filter_slot(block);
        let wanted = !self.slots.has(slot) && self.slots.affords(extent.bytes);
        (wanted && !self.filter_is_damaged.load(Ordering::Relaxed)).then_some((slot, extent))
    }

    /// A block of the filter is not what was written: lookups do without.
    pub(super) fn give_filter_up(&self) {
        self.filter_is_damaged.store(true, Ordering::Relaxed);
    }

    fn filter_slot(&self, block: usize) -> usize {
        self.unit_count() + self.columns.len() + block
    }

    fn filter_stats(&self) -> RunFilterStats {
        let blocks = self.filter.iter().enumerate();
        let cached = blocks.filter(|(block, _)| self.slots.has(self.filter_slot(*block)));
        RunFilterStats {
            bytes: self.filter.bytes(),
            cached_bytes: cached.map(|(_, (_, extent))| offset_of(extent.bytes)).sum(),
            keys: if self.filter.len() > 0 { self.footer.rows } else { 0 },
        }
    }

    /// The columns that a lookup looks at: those of the key, those at `places`, the kind where rows differ in it, and so the sequence
    /// number if it is wanted.
    fn needs(&self, places: impl Iterator<Item = usize>, with_seq: bool) -> impl Iterator<Item = usize> {
        let seq = (with_seq && self.footer.min_seq != self.footer.max_seq).then(|| self.seq_column());
        let kind = (self.footer.tombstones > 0).then(|| self.kind_column());
        self.key.iter().map(|column| column.place).chain(seq).chain(kind).chain(places)
    }

    /// What a lookup of a column in a slice reads and the cache does not have; `None` for nothing.
    #[inline]
    pub(super) fn missing(&self, spot: &Spot, column: usize, pin: &Pin<'_>) -> Option<Missing> {
        let frame = self.slots.look(self.slot_of(spot.tile, column), pin);
        if frame.is_some_and(|frame| frame.whole().is_some()) {
            return None;
        }
        let (_, unit) = self.unit_of(spot.tile, column);
        let extent = self.locators.frame_at(spot, column);
        let at = place_in(unit, extent);
        let is_here = extent.bytes == 0 || frame.is_some_and(|frame| frame.part(at).is_some());
        (!is_here).then(|| Missing { extent, at, held: frame.map_or(0, Frame::len) })
    }

    /// Whether a lookup should read a unit whole where it wants a frame of `bytes` of it and the cache has `held` bytes: the unit is of few
    /// pages, or much of it is read already.
    pub(super) fn reads_whole(&self, unit: Extent, held: usize, bytes: usize) -> bool {
        self.footer.layout == Layout::Row
            || unit.bytes <= FEW_PAGES
            || held.saturating_add(bytes).saturating_mul(PARTS_MAX) >= unit.bytes
    }

    /// The frame at `extent`, that of a column of a slice, from the cache or the file.
    #[inline]
    fn frame<'p>(&'p self, spot: &Spot, column: usize, extent: Extent, pin: &'p Pin<'_>) -> Result<&'p [u8]> {
        let (slot, unit) = self.unit_of(spot.tile, column);
        let frame = self.slots.get(slot, pin);
        if let Some(whole) = frame.and_then(Frame::whole) {
            return part(whole, unit.offset, extent);
        }
        match frame.and_then(|frame| frame.part(place_in(unit, extent))) {
            Some(bytes) => Ok(bytes),
            None => self.read_frame(spot, column, extent, pin),
        }
    }

    #[cold]
    fn read_frame<'p>(&'p self, spot: &Spot, column: usize, extent: Extent, pin: &'p Pin<'_>) -> Result<&'p [u8]> {
        let (slot, unit) = self.unit_of(spot.tile, column);
        let held = self.slots.look(slot, pin).map_or(0, Frame::len);
        if self.reads_whole(unit, held, extent.bytes) {
            let bytes = self.file()?.read_exact_at(unit.offset, unit.bytes)?;
            self.verify_unit(spot.tile, column, &bytes, unit.offset)?;
            return part(pin.keep(self.slots.insert(slot, bytes[..].into())).bytes(), unit.offset, extent);
        }
        let bytes = self.file()?.read_exact_at(extent.offset, extent.bytes)?;
        self.at(open_frame(&bytes, self.random, extent.offset), extent.offset)?;
        let frame = pin.keep(self.slots.insert_part(slot, place_in(unit, extent), &bytes));
        match frame.whole() {
            Some(whole) => part(whole, unit.offset, extent),
            None => frame.part(place_in(unit, extent)).ok_or_else(|| Error::internal("the cache has lost a part")),
        }
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

    /// A column's payload of a slice, and where its frame lies; `None` if it was left out.
    #[inline]
    fn payload<'p>(&'p self, spot: &Spot, column: usize, pin: &'p Pin<'_>) -> Result<Option<&'p [u8]>> {
        let extent = self.locators.frame_at(spot, column);
        if extent.bytes == 0 {
            return Ok(None);
        }
        let (_, payload) = split_frame(self.frame(spot, column, extent, pin)?)?;
        Ok(Some(payload))
    }

    /// The guard and the first key column's vector of a slice.
    pub(super) fn guarded<'p>(&'p self, spot: &Spot, pin: &'p Pin<'_>) -> Result<(Guard<'p>, &'p [u8])> {
        self.guard_of(spot, self.payload(spot, self.guard_column(), pin)?)
    }

    /// The same of the first key column's payload.
    #[inline]
    fn guard_of<'u>(&self, spot: &Spot, payload: Option<&'u [u8]>) -> Result<(Guard<'u>, &'u [u8])> {
        let payload = payload.ok_or_else(|| Error::corruption("a key is left out"));
        self.in_frame(payload.and_then(Guard::decode), spot, self.guard_column())
    }

    /// A column's vector of a slice; `None` if it was left out.
    #[inline]
    pub(super) fn vector<'p>(&'p self, spot: &Spot, column: usize, pin: &'p Pin<'_>) -> Result<Option<Vector<'p>>> {
        self.vector_in(spot, column, self.payload(spot, column, pin)?)
    }

    /// The same of the column's payload.
    #[inline]
    fn vector_in<'u>(&self, spot: &Spot, column: usize, payload: Option<&'u [u8]>) -> Result<Option<Vector<'u>>> {
        let Some(payload) = payload else { return Ok(None) };
        let bytes = if column == self.guard_column() { self.guard_of(spot, Some(payload))?.1 } else { payload };
        self.in_frame(self.vector_of(bytes, spot.rows, column), spot, column).map(Some)
    }

    /// Opens a vector and checks that it has its slice's rows.
    pub(super) fn open_vector<'u>(&self, bytes: &'u [u8], slice: u32, column: usize) -> Result<Vector<'u>> {
        let spot = self.locators.spot(slice);
        self.in_frame(self.vector_of(bytes, spot.rows, column), &spot, column)
    }

    #[inline]
    pub(super) fn vector_of<'u>(&self, bytes: &'u [u8], rows: u32, column: usize) -> Result<Vector<'u>> {
        let ty = self.columns.get(column).map_or(SEQ_TYPE, |column| column.1);
        let vector = Vector::open(bytes, ty)?;
        if vector.len() == wide(rows) {
            return Ok(vector);
        }
        Err(Error::corruption(format!("a vector has {} rows, not its slice's", vector.len())))
    }

    /// The same error, placed in the frame of a column of a slice.
    #[inline]
    pub(super) fn in_frame<T>(&self, result: Result<T>, spot: &Spot, column: usize) -> Result<T> {
        result.map_err(|e| e.at(self.path(), self.locators.frame_at(spot, column).offset))
    }

    /// Puts one value of a stored column into `out`.
    #[inline]
    fn value_into(&self, spot: &Spot, row: u32, column: usize, out: &mut Value, pin: &Pin<'_>) -> Result<()> {
        match self.vector(spot, column, pin)? {
            Some(vector) => self.in_frame(vector.value_into(wide(row), out), spot, column),
            None => {
                *out = self.default_of(column);
                Ok(())
            }
        }
    }

    fn value(&self, spot: &Spot, row: u32, column: usize, pin: &Pin<'_>) -> Result<Value> {
        let mut value = Value::Null;
        self.value_into(spot, row, column, &mut value, pin)?;
        Ok(value)
    }

    /// The values of a row's columns, in place of what `out` has.
    fn values(
        &self,
        spot: &Spot,
        row: u32,
        projection: &[(ColumnId, ColumnType)],
        out: &mut Vec<Value>,
        pin: &Pin<'_>,
    ) -> Result<()> {
        out.resize(projection.len(), Value::Null);
        for ((id, ty), value) in projection.iter().zip(out) {
            match self.place_of(*id, *ty)? {
                Some(column) => self.value_into(spot, row, column, value, pin)?,
                None => *value = Value::Null,
            }
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

    /// Appends the values of a column, by its place, of rows in slices.
    fn append_column(
        &self,
        slices: &[(Spot, &[Found])],
        column: Option<usize>,
        sink: &mut ColumnSink,
        pin: &Pin<'_>,
    ) -> Result<()> {
        let Some(column) = column else {
            sink.append_nulls(slices.iter().map(|(_, rows)| rows.len()).sum());
            return Ok(());
        };
        let mut payloads: SmallVec<[Option<&[u8]>; GROUP]> = SmallVec::new();
        for (spot, _) in slices {
            let payload = self.payload(spot, column, pin)?;
            prefetch_payload(payload);
            payloads.push(payload);
        }
        let mut scratch = Vec::new();
        for ((spot, rows), payload) in slices.iter().zip(payloads) {
            let Some(vector) = self.vector_in(spot, column, payload)? else {
                rows.iter().try_for_each(|_| sink.append(&self.default_of(column)))?;
                continue;
            };
            let append = |row: &Found| vector.append_row(wide(row.row), sink, &mut scratch);
            self.in_frame(rows.iter().try_for_each(append), spot, column)?;
        }
        Ok(())
    }

    /// What is to be said of a row that was found.
    #[inline]
    fn found(&self, spot: &Spot, row: u32, with_seq: bool, pin: &Pin<'_>) -> Result<Found> {
        let seq = if with_seq { Some(self.seq(spot, row, pin)?) } else { None };
        Ok(Found { slice: spot.slice, row, seq, tombstone: self.tombstone(spot, row, pin)? })
    }

    fn seq(&self, spot: &Spot, row: u32, pin: &Pin<'_>) -> Result<Seq> {
        if self.footer.min_seq == self.footer.max_seq {
            return Ok(self.footer.min_seq);
        }
        let column = self.seq_column();
        let Some(vector) = self.vector(spot, column, pin)? else { return Ok(self.footer.default_seq) };
        match self.in_frame(vector.int(wide(row)), spot, column)? {
            Some(seq) => Ok(seq_from_int(seq)),
            None => Err(Error::corruption("a row has no sequence number").at(self.path(), None)),
        }
    }

    fn tombstone(&self, spot: &Spot, row: u32, pin: &Pin<'_>) -> Result<bool> {
        if self.footer.tombstones == 0 {
            return Ok(false);
        }
        Ok(self.value(spot, row, self.kind_column(), pin)? == Value::Boolean(true))
    }

    /// The first key of a slice.
    pub(super) fn first_key_of(&self, slice: u32, pin: &Pin<'_>) -> Result<Key> {
        self.key_at(&self.locators.spot(slice), 0, pin)
    }

    /// The last key of a slice.
    pub(super) fn last_key_of(&self, slice: u32, pin: &Pin<'_>) -> Result<Key> {
        let spot = self.locators.spot(slice);
        self.key_at(&spot, spot.rows.saturating_sub(1), pin)
    }

    /// The key of a row.
    pub(super) fn key_at(&self, spot: &Spot, row: u32, pin: &Pin<'_>) -> Result<Key> {
        let values = self.key.iter().map(|column| self.value(spot, row, column.place, pin));
        let values = values.collect::<Result<Vec<_>>>()?;
        let key = self.schema.key.encode(&values).map_err(|e| Error::corruption(e.to_string()));
        self.in_frame(key, spot, self.guard_column())
    }

    /// The last slice whose first key is not after `key`, without the index.
    fn slice_by_bisection(&self, key: &[u8], pin: &Pin<'_>) -> Result<u32> {
        let (mut low, mut high) = (0, self.locators.slices());
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.first_key_of(middle, pin)?.as_ref() <= key {
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
        let frame = match self.slots.hold(slot) {
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

/// A column's place among the file's, and its payload in a slice.
type Cell<'u> = (Option<usize>, Option<&'u [u8]>);

/// The cells of a row that a lookup will read: asked for before it is known which row it is.
struct Cells<'u> {
    /// For each column of the projection its place, if the run has it, and its payload in the slice.
    columns: SmallVec<[Cell<'u>; CELLS]>,
}

impl<'u> Cells<'u> {
    fn of(loaded: &Loaded, projection: &[(ColumnId, ColumnType)]) -> Result<Self> {
        let mut columns = SmallVec::with_capacity(projection.len());
        for (id, ty) in projection {
            columns.push((loaded.place_of(*id, *ty)?, None));
        }
        Ok(Cells { columns })
    }

    /// The places of the columns that the run has.
    fn places(&self) -> impl Iterator<Item = usize> {
        self.columns.iter().filter_map(|(place, _)| *place)
    }

    /// Finds the payloads in a slice.
    #[inline]
    fn locate(&mut self, loaded: &'u Loaded, spot: &Spot, pin: &'u Pin<'_>) -> Result<()> {
        for (place, payload) in &mut self.columns {
            if let Some(place) = place {
                *payload = loaded.payload(spot, *place, pin)?;
                prefetch_payload(*payload);
            }
        }
        Ok(())
    }

    /// The values of a row of the slice.
    #[inline]
    fn read(&self, loaded: &Loaded, spot: &Spot, row: u32, out: &mut Vec<Value>) -> Result<()> {
        out.resize(self.columns.len(), Value::Null);
        for ((place, payload), value) in self.columns.iter().zip(out) {
            match place {
                None => *value = Value::Null,
                Some(column) => match loaded.vector_in(spot, *column, *payload)? {
                    Some(vector) => loaded.in_frame(vector.value_into(wide(row), value), spot, *column)?,
                    None => *value = loaded.default_of(*column),
                },
            }
        }
        Ok(())
    }
}

/// A key that is looked for among others.
struct Sought<'k, 'o> {
    key: &'k [u8],
    /// Where the index looks.
    spot: Spot,
    says: Says,
    out: &'o mut Option<Found>,
}

/// Reads a slice's block of the filter, which would have answered.
#[cold]
fn bring_filter(loaded: &Loaded, spot: &Spot) {
    let mut misses = Misses::default();
    misses.add_filter(loaded, spot);
    misses.read();
}

/// Asks for what every reader of a vector reads first.
#[inline]
fn prefetch_payload(payload: Option<&[u8]>) {
    if let Some(payload) = payload {
        prefetch(payload, 0);
        prefetch(payload, CACHE_LINE);
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

/// Where in a unit a part of it begins.
#[inline]
fn place_in(unit: Extent, part: Extent) -> usize {
    usize::try_from(part.offset.saturating_sub(unit.offset)).unwrap_or(usize::MAX)
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
