/*!
Lookups by key: where a key's row is, and what its columns hold.

The index names the slice. Where the run has a [`filter`](super::filter) and the cache has its block, that is asked first. What
the cache lacks of all that will be looked at is read together ([`bring`](super::bring)), and nobody waits for it under a
pin; then the lookup pins the cache, asks the processor for all that it will look at, searches the key's vectors, and reads
the other columns' values by position. [`many`](super::many) does the same for many keys at once.

Every slice stores its neighbours' keys, so a lookup knows whether the index sent it to the right slice. If not, that is
counted and a binary search over the slices answers.
*/

use super::bring::Misses;
use super::filter::{self, Says};
use super::loaded::Loaded;
use super::locators::Spot;
use super::reader::Run;
use super::search::Place;
use super::{seq_from_int, wide};
use crate::cache::Pin;
use crate::error::{Error, Result};
use crate::model::prefetch;
use crate::types::{ColumnId, ColumnType, Seq, Value};
use smallvec::SmallVec;
use std::sync::atomic::Ordering;

/// Columns of a lookup that take no allocation.
pub(super) const CELLS: usize = 8;
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

impl Run {
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
        let mut pin = self.cache().pin();
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
            pin = self.cache().pin();
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
            misses.add(loaded, &spot, loaded.needs(cells.places(), wanted.seq), &self.cache().pin());
            if !misses.is_empty() {
                misses.add_filter(loaded, &spot);
            }
        }
        Ok(())
    }

    /// Whether the key lies within the run's bounds.
    fn spans(&self, key: &[u8]) -> bool {
        self.meta().min_key.as_slice() <= key && key <= self.meta().max_key.as_slice()
    }

    #[cfg(test)]
    pub(super) fn find_from(&self, loaded: &Loaded, key: &[u8], slice: usize, pin: &Pin<'_>) -> Result<Option<Found>> {
        let (at, row, exact) = self.locate_from(loaded, key, slice, pin)?;
        if exact { loaded.found(&at, row, true, pin).map(Some) } else { Ok(None) }
    }

    /// The first row whose key is not less than `key`, which need not be a whole key.
    pub(super) fn locate(&self, loaded: &Loaded, key: &[u8]) -> Result<Place> {
        let (spot, row, exact) = self.locate_from(loaded, key, loaded.index.find(key), &self.cache().pin())?;
        Ok(Place { slice: spot.slice, row, exact })
    }

    fn locate_from(&self, loaded: &Loaded, key: &[u8], slice: usize, pin: &Pin<'_>) -> Result<(Spot, u32, bool)> {
        let spot = loaded.spot_of(slice)?;
        self.locate_in(loaded, key, spot, loaded.payload(&spot, loaded.guard_column(), pin)?, pin)
    }

    /// The slice, the row in it, and whether it has the key. `guarded` is the first key column's payload of the slice where the index
    /// looks.
    pub(super) fn locate_in(
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
        let (loaded, pin) = (self.loaded()?, self.cache().pin());
        let spot = loaded.locators.spot(found.slice);
        let mut cells = Cells::of(loaded, projection)?;
        cells.locate(loaded, &spot, &pin)?;
        let mut values = Vec::with_capacity(projection.len());
        cells.read(loaded, &spot, found.row, &mut values)?;
        out.append(&mut values);
        Ok(())
    }
}

impl Loaded {
    /// What the filter says of a key in a slice, as far as the cache has it.
    #[inline]
    pub(super) fn ask_filter(&self, spot: &Spot, key: &[u8], pin: &Pin<'_>) -> Says {
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

    /// The columns that a lookup looks at: those of the key, those at `places`, the kind where rows differ in it, and so the sequence
    /// number if it is wanted.
    pub(super) fn needs(&self, places: impl Iterator<Item = usize>, with_seq: bool) -> impl Iterator<Item = usize> {
        let seq = (with_seq && self.footer.min_seq != self.footer.max_seq).then(|| self.seq_column());
        let kind = (self.footer.tombstones > 0).then(|| self.kind_column());
        self.key.iter().map(|column| column.place).chain(seq).chain(kind).chain(places)
    }

    /// What is to be said of a row that was found.
    #[inline]
    pub(super) fn found(&self, spot: &Spot, row: u32, with_seq: bool, pin: &Pin<'_>) -> Result<Found> {
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
                Some(column) => loaded.value_in(spot, row, *column, *payload, value)?,
            }
        }
        Ok(())
    }
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
pub(super) fn prefetch_payload(payload: Option<&[u8]>) {
    if let Some(payload) = payload {
        prefetch(payload, 0);
        prefetch(payload, CACHE_LINE);
    }
}
