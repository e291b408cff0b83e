/*!
Cuts a stretch of keys into parts: those of which one run alone has the rows, and those that must be merged.

Where sources take turns in long stretches (the newest steps of every series in an upper run, the older ones below) each turn is a part
of its own, found by searching one run for the other's next key: no row between is looked at. Where they take turns row by row,
searching costs more than merging, so that whole slices of the largest run go to the merge, twice as many each time.

Sources whose next keys are one (a row and its newer version) are merged at that key.
*/

use crate::error::{Error, Result};
use crate::key::{Key, KeyRange};
use crate::run::pieces::RowPlace;
use crate::scan::Layer;
use crate::scan::plan::{Edge, Span, Stretch};
use crate::scan::tree::{Mem, RunRef, Source};
use crate::types::Seq;
use std::ops::Bound;
use std::sync::Arc;

/// Rows from which a turn is long.
const TURN_ROWS_LONG: u64 = 64;
/// Short turns one after another that are still searched for.
const SHORT_TURNS_MAX: u32 = 4;
/// Slices that are merged at once, at most.
const SLICES_MAX: u32 = 64;

/// Keys of a stretch, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The rows of the run at this place among the layers, from here to there: nobody else has any between.
    Run(usize, RowPlace, RowPlace),
    /// Keys, and the places of the layers that may have rows of them, ascending.
    Merged(KeyRange, Vec<usize>),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Cutter {
    /// Newest first.
    sources: Vec<Side>,
    /// Where the stretch ends.
    end: Edge,
    /// Short turns so far, one after another.
    short: u32,
    /// Slices to merge next.
    slices: u32,
}

/// A source of the stretch, and its next key; `None` where it has no more.
#[derive(Debug)]
struct Side {
    place: usize,
    kind: Kind,
    key: Option<Key>,
}

#[derive(Debug)]
enum Kind {
    Run { run: Arc<RunRef>, at: RowPlace, end: RowPlace },
    Mem { mem: Arc<Mem>, at: Seq },
}

impl Cutter {
    pub(super) fn new(stretch: &Stretch, layers: &[Layer]) -> Result<Cutter> {
        let range = stretch.span.range();
        let mut sources = Vec::with_capacity(stretch.sources.len());
        for place in &stretch.sources {
            let Some(layer) = layers.get(*place) else { continue };
            let kind = match &layer.source {
                Source::Erased(_) => continue,
                Source::Mem(mem) => Kind::Mem { mem: Arc::clone(mem), at: layer.at },
                Source::Run(run) => {
                    let (at, end) = run.run.places_of(&range)?;
                    Kind::Run { run: Arc::clone(run), at, end }
                }
            };
            let mut side = Side { place: *place, kind, key: None };
            match &side.kind {
                // Alone, a run is taken as it is: any key will do.
                Kind::Run { run, at, end } if stretch.sources.len() == 1 => {
                    side.key = (at < end).then(|| Key::from(run.first_key()));
                }
                _ => side.find(&range.start, &stretch.span.to)?,
            }
            sources.push(side);
        }
        Ok(Cutter { sources, end: stretch.span.to.clone(), short: 0, slices: 1 })
    }

    /// The next part; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Part>> {
        let Some((least, second)) = self.least() else { return Ok(None) };
        let (Some(side), bound) = (self.sources.get(least), second.and_then(|second| self.key_of(second))) else {
            return Ok(None);
        };
        let Some(first) = &side.key else { return Ok(None) };
        if bound == Some(first) {
            let first = first.clone();
            self.short += 1;
            return match self.short > SHORT_TURNS_MAX {
                true => self.merge_slices(first).map(Some),
                false => self.merge_key(first).map(Some),
            };
        }
        let place = side.place;
        let Kind::Run { run, at, end: last } = &side.kind else {
            let (first, bound) = (first.clone(), bound.cloned());
            return self.turn_of_memtable(least, first, bound).map(Some);
        };
        let (from, mut to) = (*at, *last);
        if let Some(bound) = bound {
            to = run.run.place_of_key(bound.as_ref(), false)?.min(*last);
            if run.run.rows_between(from, to)? >= TURN_ROWS_LONG {
                (self.short, self.slices) = (0, 1);
            } else {
                self.short += 1;
                if self.short > SHORT_TURNS_MAX {
                    let first = first.clone();
                    return self.merge_slices(first).map(Some);
                }
            }
        }
        self.side(least)?.go_to(to)?;
        Ok(Some(Part::Run(place, from, to)))
    }

    /// The keys of a memtable from `first` to another source's `bound`.
    fn turn_of_memtable(&mut self, least: usize, first: Key, bound: Option<Key>) -> Result<Part> {
        self.short += 1;
        if self.short > SHORT_TURNS_MAX {
            return self.merge_slices(first);
        }
        let end = self.end.clone();
        let to = bound.map_or_else(|| end.clone(), |bound| Edge::At(bound, false));
        let side = self.side(least)?;
        side.seek(&to, &end)?;
        let keys = Span { from: Edge::At(first, false), to }.range();
        Ok(Part::Merged(keys, vec![side.place]))
    }

    fn side(&mut self, at: usize) -> Result<&mut Side> {
        self.sources.get_mut(at).ok_or_else(|| Error::internal("a turn of a source that is not there"))
    }

    fn key_of(&self, side: usize) -> Option<&Key> {
        self.sources.get(side).and_then(|side| side.key.as_ref())
    }

    /// The sources with the least and the second least key.
    fn least(&self) -> Option<(usize, Option<usize>)> {
        let mut least: Option<(usize, &Key)> = None;
        let mut second: Option<(usize, &Key)> = None;
        for (at, side) in self.sources.iter().enumerate() {
            let Some(key) = &side.key else { continue };
            if least.is_none_or(|(_, other)| key < other) {
                second = least;
                least = Some((at, key));
            } else if second.is_none_or(|(_, other)| key < other) {
                second = Some((at, key));
            }
        }
        least.map(|(at, _)| (at, second.map(|(at, _)| at)))
    }

    fn places(&self) -> Vec<usize> {
        self.sources.iter().map(|side| side.place).collect()
    }

    /// One key that several sources have.
    fn merge_key(&mut self, key: Key) -> Result<Part> {
        let behind = Edge::At(key.clone(), true);
        for side in self.sources.iter_mut().filter(|side| side.key.as_ref() == Some(&key)) {
            side.seek(&behind, &self.end)?;
        }
        Ok(Part::Merged(KeyRange::point(key), self.places()))
    }

    /// The keys from `from` to where some slices of the run with the most of them end.
    fn merge_slices(&mut self, from: Key) -> Result<Part> {
        let left = |side: &Side| match &side.kind {
            Kind::Run { at, end, .. } => end.slice.saturating_sub(at.slice),
            Kind::Mem { .. } => 0,
        };
        let mut to = self.end.clone();
        if let Some(Side { kind: Kind::Run { run, at, end }, .. }) = self.sources.iter().max_by_key(|side| left(side)) {
            let behind = RowPlace { slice: at.slice.saturating_add(self.slices), row: 0 };
            if behind < *end {
                to = Edge::At(run.run.key_at_place(behind)?, false);
            }
        }
        self.slices = (self.slices * 2).min(SLICES_MAX);
        for side in &mut self.sources {
            side.seek(&to, &self.end)?;
        }
        Ok(Part::Merged(Span { from: Edge::At(from, false), to }.range(), self.places()))
    }
}

impl Side {
    /// Finds the first key from a bound on.
    fn find(&mut self, from: &Bound<Key>, end: &Edge) -> Result<()> {
        self.key = match &self.kind {
            Kind::Run { .. } => self.key_here()?,
            Kind::Mem { mem, at } => {
                let rest = KeyRange { start: from.clone(), ..Span { from: Edge::Start, to: end.clone() }.range() };
                mem.table.range(&rest, *at, false).next().map(|entry| Key::from(entry.key()))
            }
        };
        Ok(())
    }

    /// Moves to a place of a run.
    fn go_to(&mut self, place: RowPlace) -> Result<()> {
        if let Kind::Run { at, .. } = &mut self.kind {
            *at = place;
        }
        self.key = self.key_here()?;
        Ok(())
    }

    /// Moves to the first key that is not before `to`.
    fn seek(&mut self, to: &Edge, end: &Edge) -> Result<()> {
        let (key, after) = match to {
            Edge::At(key, after) => (key.clone(), *after),
            Edge::End => {
                self.key = None;
                return Ok(());
            }
            Edge::Start => return Ok(()),
        };
        if self.key.as_ref().is_none_or(|own| own > &key || (own == &key && !after)) {
            return Ok(());
        }
        if let Kind::Run { run, at, end } = &mut self.kind {
            *at = run.run.place_of_key(key.as_ref(), after)?.clamp(*at, *end);
        }
        let from = if after { Bound::Excluded(key) } else { Bound::Included(key) };
        self.find(&from, end)
    }

    /// The key where a run stands.
    fn key_here(&self) -> Result<Option<Key>> {
        match &self.kind {
            Kind::Run { run, at, end } if at < end => run.run.key_at_place(*at).map(Some),
            _ => Ok(None),
        }
    }
}
