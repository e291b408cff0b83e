/*!
What the first use of a run brings into memory, and how parts of the file are found and read from then on.

Opening a run touches no file. The first use reads the file's end in one read (trailer, footer, schema, locators, index), and
keeps what it needs: the index, the locators, and a place in the cache for each unit.

A *unit* is what scans read, verify and cache as a whole: in column shape one column's chunk of a tile, in row shape a
whole tile. Point reads go through the cache; a value is found in a unit by its locator and read from its vector
by position. Of a chunk of more than two pages a point read takes its slice's frame alone, until a quarter of the chunk has been
read in that way; a unit of few pages it takes whole.
*/

use super::filter::FilterBlocks;
use super::format::{
    Footer, Guard, HEADER_BYTES, Section, SectionKind, TRAILER_BYTES, Trailer, decode_schema, open_frame, placed,
    split_frame,
};
use super::locators::{Extent, Locators, Spot};
use super::search::KeyColumn;
use super::statistics::{BLOCK_SLICES, Needs, SliceStats, StatsBlock, StatsDirectory};
use super::{KIND_TYPE, Layout, RunMeta, RunSchema, SEQ_TYPE, offset_of, seq_to_int, small, wide};
use crate::cache::{Cache, Frame, Handle, Pin, Slots};
use crate::encoding::Vector;
use crate::error::{Error, Result};
use crate::io::File;
use crate::key::Key;
use crate::model::SliceIndex;
use crate::types::{ColumnId, ColumnType, RunId, Value};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes read from the file's end at first use: enough for all but large runs.
const TAIL_BYTES: u64 = 128 * 1024;

/// Bytes of a unit that is read whole for any part of it: two of a device's pages, which a part alone may touch as well.
const FEW_PAGES: usize = 8192;
/// Once parts come to such a part of a unit, it is read whole.
const PARTS_MAX: usize = 4;

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

impl Loaded {
    pub(super) fn read(handle: &Arc<Handle>, meta: &RunMeta, cache: &Arc<Cache>) -> Result<Loaded> {
        let (file, path) = (handle.get()?, handle.path());
        let file_bytes = file.len()?;
        let tail = Tail::read(file.as_ref(), file_bytes)?;
        let trailer =
            placed(tail.trailer(meta.id, file_bytes), path, file_bytes.saturating_sub(offset_of(TRAILER_BYTES)))?;
        if trailer.random != meta.random_id {
            return Err(Error::corruption("the run's file is not the one that the manifest describes").at(path, None));
        }
        let footer_extent = Extent { offset: trailer.footer_offset, bytes: length(trailer.footer_bytes)? };
        let payload = tail.frame(file.as_ref(), footer_extent, trailer.random)?;
        let footer = placed(Footer::decode(&payload, &trailer), path, trailer.footer_offset)?;
        check_meta(meta, &footer).map_err(|e| e.at(path, trailer.footer_offset))?;
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
            slots: cache.slots(units + columns.len() + filter.len()),
            filter,
            filter_is_damaged: AtomicBool::new(false),
            file: Arc::clone(handle),
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
    pub(super) fn spot_of(&self, slice: usize) -> Result<Spot> {
        Ok(self.locators.spot(small(slice)?.min(self.locators.slices() - 1)))
    }

    pub(super) fn checked_slice(&self, slice: usize) -> Result<u32> {
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

    pub(super) fn filter_slot(&self, block: usize) -> usize {
        self.unit_count() + self.columns.len() + block
    }

    pub(super) fn filter_stats(&self) -> RunFilterStats {
        let blocks = self.filter.iter().enumerate();
        let cached = blocks.filter(|(block, _)| self.slots.has(self.filter_slot(*block)));
        RunFilterStats {
            bytes: self.filter.bytes(),
            cached_bytes: cached.map(|(_, (_, extent))| offset_of(extent.bytes)).sum(),
            keys: if self.filter.len() > 0 { self.footer.rows } else { 0 },
        }
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
        match self.slots.get(slot, pin).and_then(|frame| cut(frame, unit, extent)) {
            Some(bytes) => bytes,
            None => self.read_frame(spot, column, extent, pin),
        }
    }

    #[cold]
    fn read_frame<'p>(&'p self, spot: &Spot, column: usize, extent: Extent, pin: &'p Pin<'_>) -> Result<&'p [u8]> {
        let (slot, unit) = self.unit_of(spot.tile, column);
        if let Some(bytes) = self.slots.brought(slot, pin).find_map(|frame| cut(frame, unit, extent)) {
            return bytes;
        }
        let held = self.slots.look(slot, pin).map_or(0, Frame::len);
        if self.reads_whole(unit, held, extent.bytes) {
            let bytes = self.file()?.read_exact_at(unit.offset, unit.bytes)?;
            self.verify_unit(spot.tile, column, &bytes, unit.offset)?;
            return part(pin.keep(self.slots.insert(slot, bytes[..].into())).bytes(), unit.offset, extent);
        }
        let bytes = self.file()?.read_exact_at(extent.offset, extent.bytes)?;
        self.at(open_frame(&bytes, self.random, extent.offset), extent.offset)?;
        let frame = pin.keep(self.slots.insert_part(slot, place_in(unit, extent), &bytes));
        cut(frame, unit, extent).unwrap_or_else(|| Err(Error::internal("the cache has lost a part")))
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
    pub(super) fn payload<'p>(&'p self, spot: &Spot, column: usize, pin: &'p Pin<'_>) -> Result<Option<&'p [u8]>> {
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
    pub(super) fn guard_of<'u>(&self, spot: &Spot, payload: Option<&'u [u8]>) -> Result<(Guard<'u>, &'u [u8])> {
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
    pub(super) fn vector_in<'u>(
        &self,
        spot: &Spot,
        column: usize,
        payload: Option<&'u [u8]>,
    ) -> Result<Option<Vector<'u>>> {
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

    /// Puts one value of a stored column into `out`, from the column's payload of the slice.
    #[inline]
    pub(super) fn value_in(
        &self,
        spot: &Spot,
        row: u32,
        column: usize,
        payload: Option<&[u8]>,
        out: &mut Value,
    ) -> Result<()> {
        match self.vector_in(spot, column, payload)? {
            Some(vector) => self.in_frame(vector.value_into(wide(row), out), spot, column)?,
            None => *out = self.default_of(column),
        }
        Ok(())
    }

    pub(super) fn value(&self, spot: &Spot, row: u32, column: usize, pin: &Pin<'_>) -> Result<Value> {
        let mut value = Value::Null;
        self.value_in(spot, row, column, self.payload(spot, column, pin)?, &mut value)?;
        Ok(value)
    }

    /// What a left-out vector's values are.
    pub(super) fn default_of(&self, column: usize) -> Value {
        if column == self.seq_column() {
            Value::Int(seq_to_int(self.footer.default_seq))
        } else if column == self.kind_column() {
            Value::Boolean(false)
        } else {
            Value::Null
        }
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

    /// Where the model's line alone would look, minus the actual slice.
    pub(super) fn residual(&self, key: &[u8], slice: usize) -> i32 {
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
    pub(super) fn check_header(&self, id: RunId) -> Result<()> {
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

/// The bytes of `extent` in a frame of its unit, if the frame has them.
#[inline]
fn cut(frame: &Frame, unit: Extent, extent: Extent) -> Option<Result<&[u8]>> {
    match frame.whole() {
        Some(whole) => Some(part(whole, unit.offset, extent)),
        None => frame.part(place_in(unit, extent)).map(Ok),
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

    fn trailer(&self, id: RunId, file_bytes: u64) -> Result<Trailer> {
        let start = self.bytes.len().saturating_sub(TRAILER_BYTES);
        Trailer::decode(self.bytes.get(start..).unwrap_or_default(), id, file_bytes)
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
