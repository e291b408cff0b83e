/*!
Lookups of many keys at once. The index is asked for all of them, what the cache lacks of all that will be looked at is on its way to the
device before the first key is looked for, and the keys are looked for in groups: as soon as what a group needs is there, while the
device is at work for the groups behind it. Within a group the memory's latency is hidden, as that of the device is among groups.

```text
    keys ── index ── slices ── filter ──► Sought, Sought, Sought, …     of one run or of several that share no key
                                  │            each knows how much must have been read before it
                              Misses ── Reading ──► 64 reads in flight ──► cache
    group ── wait for its reads ── search the keys' vectors ── append the values of rows ── next group
```

A row's values are read while its slice is at hand. What a group was brought it finds, whether the cache has kept it or not, and nothing of
it is needed once the group is over: so a batch may be larger than the cache.
*/

use super::bring::{Misses, Reading};
use super::filter::Says;
use super::loaded::Loaded;
use super::locators::Spot;
use super::lookup::{CELLS, Found, Wanted, prefetch_payload};
use super::reader::Run;
use super::wide;
use crate::cache::Pin;
use crate::column::ColumnSink;
use crate::encoding::Vector;
use crate::error::Result;
#[cfg(test)]
use arrow::array::ArrayRef;
use smallvec::SmallVec;

/// Keys that are looked for together: enough to hide the memory's latency.
const GROUP: usize = 16;
/// Payloads of a group that take no allocation.
const PAYLOADS: usize = 2 * GROUP;

/// A key that is looked for among others.
struct Sought<'k> {
    key: &'k [u8],
    /// Which of the keys it is.
    which: usize,
    /// Where the index looks.
    spot: Spot,
    says: Says,
    /// So many of what is read must have been read before it is looked for.
    needs: usize,
}

/// Keys that are looked for in one run.
pub(crate) struct Search<'r, 'k> {
    run: &'r Run,
    loaded: &'r Loaded,
    wanted: Wanted<'k>,
    /// Those that the filter has not refused, in the order of the keys.
    sought: Vec<Sought<'k>>,
    /// Whether the cache had everything from the start.
    is_here: bool,
}

/// What a search found of a key: which one, and its row.
pub(crate) type Answer = (usize, Found);

impl Run {
    /// Begins to look for keys, which lie within the run's bounds and come with a number each; in their order it is fastest. What the
    /// cache lacks for it is added to `misses`, which are to be read before the search goes on.
    ///
    /// # Errors
    /// As [`Run::get`].
    pub(crate) fn search_for<'r, 'k>(
        &'r self,
        keys: &[(usize, &'k [u8])],
        wanted: Wanted<'k>,
        misses: &mut Misses<'r>,
    ) -> Result<Search<'r, 'k>> {
        let loaded = self.loaded()?;
        let plain: Vec<&[u8]> = keys.iter().map(|(_, key)| *key).collect();
        let mut slices = Vec::with_capacity(keys.len());
        loaded.index.find_batch(&plain, &mut slices);
        let places = places_of(loaded, wanted)?;
        let mut sought = Vec::with_capacity(keys.len());
        let before = misses.len();
        let pin = self.cache().pin();
        for ((which, key), slice) in keys.iter().zip(slices) {
            let spot = loaded.spot_of(slice)?;
            let says = loaded.ask_filter(&spot, key, &pin);
            if says != Says::Absent {
                misses.add(loaded, &spot, loaded.needs(places.iter().flatten().copied(), wanted.seq), &pin);
                sought.push(Sought { key, which: *which, spot, says, needs: misses.len() });
            }
        }
        let is_here = misses.len() == before;
        if !is_here {
            sought.iter().for_each(|sought| misses.add_filter(loaded, &sought.spot));
        }
        Ok(Search { run: self, loaded, wanted, sought, is_here })
    }
}

#[cfg(test)]
impl Run {
    /// The rows of keys, a place for each, and the wanted columns of those that are no tombstones.
    pub(super) fn get_many(&self, keys: &[&[u8]], wanted: Wanted<'_>) -> Result<(Vec<Option<Found>>, Vec<ArrayRef>)> {
        let mut misses = Misses::default();
        let numbered: Vec<(usize, &[u8])> = keys.iter().copied().enumerate().collect();
        let search = self.search_for(&numbered, wanted, &mut misses)?;
        let mut reading = misses.start();
        let mut found = vec![None; keys.len()];
        let mut sinks: Vec<ColumnSink> = wanted.columns.iter().map(|(_, ty)| ColumnSink::new(*ty, 0)).collect();
        search.go_on(&mut reading, &mut sinks, |(which, row)| found[which] = Some(row))?;
        reading.finish();
        Ok((found, sinks.into_iter().map(ColumnSink::finish).collect()))
    }
}

impl Search<'_, '_> {
    /// Looks for the keys. The values of rows that are no tombstones are appended to `sinks`, one for each of the columns that were wanted, or
    /// none at all; `found` is told of every key that is there, tombstones too, in the same order.
    ///
    /// # Errors
    /// As [`Run::get`]; the sinks may then have got some of their values.
    pub(crate) fn go_on(
        self,
        reading: &mut Reading<'_>,
        sinks: &mut [ColumnSink],
        mut found: impl FnMut(Answer),
    ) -> Result<()> {
        let mut places = places_of(self.loaded, self.wanted)?;
        places.truncate(sinks.len());
        let mut in_vain = Misses::default();
        for group in self.sought.chunks(GROUP) {
            reading.wait_for(group.last().map_or(0, |sought| sought.needs));
            let pin = self.run.cache().pin_with(reading.brought());
            let hits = look_for(self.run, self.loaded, group, self.wanted.seq, &places, sinks, &pin)?;
            if self.is_here {
                let mut hits = hits.iter().peekable();
                for sought in group {
                    let is_hit = hits.next_if(|(which, _)| *which == sought.which).is_some();
                    if !is_hit && sought.says == Says::Missing {
                        in_vain.add_filter(self.loaded, &sought.spot);
                    }
                }
            }
            hits.into_iter().for_each(&mut found);
        }
        // The filter would have answered.
        in_vain.read();
        Ok(())
    }
}

/// The places of the columns that are wanted, of those that the run has.
fn places_of(loaded: &Loaded, wanted: Wanted<'_>) -> Result<SmallVec<[Option<usize>; CELLS]>> {
    wanted.columns.iter().map(|(id, ty)| loaded.place_of(*id, *ty)).collect()
}

/// Looks for a few keys in the slices where the index looks, the memory of all of which is asked for first, and appends the values of their
/// rows.
fn look_for(
    run: &Run,
    loaded: &Loaded,
    group: &[Sought<'_>],
    with_seq: bool,
    places: &[Option<usize>],
    sinks: &mut [ColumnSink],
    pin: &Pin<'_>,
) -> Result<SmallVec<[Answer; GROUP]>> {
    let mut guards: SmallVec<[Option<&[u8]>; GROUP]> = SmallVec::new();
    for sought in group {
        let payload = loaded.payload(&sought.spot, loaded.guard_column(), pin)?;
        prefetch_payload(payload);
        guards.push(payload);
    }
    let mut payloads: SmallVec<[Option<&[u8]>; PAYLOADS]> = SmallVec::new();
    for place in places.iter().flatten() {
        for sought in group {
            let payload = loaded.payload(&sought.spot, *place, pin)?;
            prefetch_payload(payload);
            payloads.push(payload);
        }
    }
    let mut hits: SmallVec<[Answer; GROUP]> = SmallVec::new();
    // Rows with values, and which of the group they are.
    let mut rows: SmallVec<[(Spot, u32, usize); GROUP]> = SmallVec::new();
    for ((at, sought), guard) in group.iter().enumerate().zip(guards) {
        let (spot, row, exact) = run.locate_in(loaded, sought.key, sought.spot, guard, pin)?;
        if exact {
            let found = loaded.found(&spot, row, with_seq, pin)?;
            if !found.tombstone {
                rows.push((spot, row, at));
            }
            hits.push((sought.which, found));
        } else if sought.says == Says::Maybe {
            pin.filter_erred();
        }
    }
    let mut of_columns = payloads.chunks(group.len().max(1));
    for (place, sink) in places.iter().zip(sinks) {
        let Some(place) = *place else {
            sink.append_nulls(rows.len());
            continue;
        };
        let of_column = of_columns.next().unwrap_or_default();
        append_column(loaded, (place, of_column), group, &rows, sink, pin)?;
    }
    Ok(hits)
}

/// Appends the values of a column, whose payloads in the slices where the index looked are at hand, of rows in the order of their keys.
/// A slice whose rows stand together is opened once.
fn append_column(
    loaded: &Loaded,
    (place, payloads): (usize, &[Option<&[u8]>]),
    group: &[Sought<'_>],
    rows: &[(Spot, u32, usize)],
    sink: &mut ColumnSink,
    pin: &Pin<'_>,
) -> Result<()> {
    let mut scratch = Vec::new();
    let mut open: Option<(u32, Option<Vector<'_>>)> = None;
    for (spot, row, at) in rows {
        if open.as_ref().is_none_or(|(slice, _)| *slice != spot.slice) {
            let is_at_hand = group.get(*at).is_some_and(|sought| sought.spot.slice == spot.slice);
            let payload = match payloads.get(*at) {
                Some(payload) if is_at_hand => *payload,
                _ => loaded.payload(spot, place, pin)?,
            };
            open = Some((spot.slice, loaded.vector_in(spot, place, payload)?));
        }
        match &open {
            Some((_, Some(vector))) => {
                loaded.in_frame(vector.append_row(wide(*row), sink, &mut scratch), spot, place)?;
            }
            _ => sink.append(&loaded.default_of(place))?,
        }
    }
    Ok(())
}
