/*!
What lookups need and the cache does not have, read at once: the index names a key's slice before anything is read, so the frames of all
columns that will be looked at, in all runs that will be asked, are known from the start and go out together. Of a large chunk a frame is read
alone; where lookups want much of the chunk, it is read whole.

```text
    index ── slice ── frames of key, sequence number, kind and projection ── those that are missing ── one submission ── cache
                   └─ block of the filter, for lookups to come
```

Of many, 64 are in flight at a time, and come into the cache in the order in which they are needed: who waits for the first ones goes on
while the device reads the others.

Frames are read before a lookup [pins](crate::cache::Pin) what it reads, so that no pin waits for a device. What one key was brought and
left the cache again in the meantime is read once more, by itself; what many were brought they find in any case.
*/

use super::filter::Block;
use super::format::open_frame;
use super::loaded::Loaded;
use super::locators::{Extent, Spot};
use crate::cache::{Frame, Pin};
use crate::error::{ErrorKind, Result};
use crate::io::{Buffer, Completion, File, Op};
use std::collections::VecDeque;
use std::sync::Arc;

/// Reads in flight at once: enough for a device, and a bound on the memory that they take.
const IN_FLIGHT_MAX: usize = 64;

/// What the cache does not have.
#[derive(Clone, Copy)]
struct Miss<'r> {
    loaded: &'r Loaded,
    what: What,
    slot: usize,
    extent: Extent,
}

#[derive(Clone, Copy)]
enum What {
    Unit {
        tile: u32,
        column: usize,
    },
    /// A column's frame of one slice, at this place in its unit.
    Frame {
        at: usize,
    },
    /// A block of the run's filter.
    Filter,
}

/// What the cache does not have, of some runs, in the order in which it is needed.
#[derive(Default)]
pub(crate) struct Misses<'r> {
    all: Vec<Miss<'r>>,
    /// Since frames of a unit became the unit, which stands behind them: nothing may be taken to be there before so many are read.
    at_least: usize,
}

impl<'r> Misses<'r> {
    /// Adds what is missing of a slice, of these columns of the file.
    pub(super) fn add(&mut self, loaded: &'r Loaded, spot: &Spot, columns: impl Iterator<Item = usize>, pin: &Pin<'_>) {
        for column in columns {
            let Some(missing) = loaded.missing(spot, column, pin) else { continue };
            let (slot, unit) = loaded.unit_of(spot.tile, column);
            let of_unit = |miss: &&Miss<'_>| miss.slot == slot && std::ptr::eq(miss.loaded, loaded);
            // Keys come in order, and a slice's columns together: what is the same is near.
            let near = || self.all.iter().rev().take(IN_FLIGHT_MAX).filter(of_unit);
            if near().any(|miss| miss.extent == unit || miss.extent == missing.extent) {
                continue;
            }
            let asked: usize = near().map(|miss| miss.extent.bytes).sum();
            if loaded.reads_whole(unit, missing.held.saturating_add(asked), missing.extent.bytes) {
                let before = self.all.len();
                self.all.retain(|miss| !of_unit(&miss));
                let is_in_place_of_frames = self.all.len() < before;
                self.all.push(Miss { loaded, what: What::Unit { tile: spot.tile, column }, slot, extent: unit });
                if is_in_place_of_frames {
                    self.at_least = self.all.len();
                }
            } else {
                self.all.push(Miss { loaded, what: What::Frame { at: missing.at }, slot, extent: missing.extent });
            }
        }
    }

    /// Adds the slice's block of the filter, if it is missing and worth its place.
    pub(super) fn add_filter(&mut self, loaded: &'r Loaded, spot: &Spot) {
        if let Some((slot, extent)) = loaded.wanted_filter(spot) {
            let is_same = |miss: &Miss<'_>| miss.slot == slot && std::ptr::eq(miss.loaded, loaded);
            if !self.all.iter().rev().take(IN_FLIGHT_MAX).any(is_same) {
                self.all.push(Miss { loaded, what: What::Filter, slot, extent });
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// How many there are so far: what was added until now is there once so many are read.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Begins to read them, a bounded number at a time.
    pub(crate) fn start(self) -> Reading<'r> {
        let mut reading =
            Reading { misses: self, started: 0, in_flight: VecDeque::new(), done: 0, brought: Vec::new() };
        reading.submit();
        reading
    }

    /// Reads them all.
    pub(crate) fn read(self) {
        self.start().finish();
    }
}

/// A read under way; `None` where the run's file could not be opened.
type Flight = Option<(Arc<dyn File>, Completion)>;

/// Reads on their way into the cache. What can't be read or is not what was written stays missing: whoever needs it reads it again and gets
/// the error; nobody else does.
pub(crate) struct Reading<'r> {
    misses: Misses<'r>,
    started: usize,
    in_flight: VecDeque<Flight>,
    done: usize,
    /// What was waited for last, which may have left the cache again.
    brought: Vec<Arc<Frame>>,
}

impl Reading<'_> {
    /// Waits until so many of the misses are in the cache, and what was added before them.
    pub(crate) fn wait_for(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        let count = count.max(self.misses.at_least).min(self.misses.all.len());
        if self.done < count {
            self.brought.clear();
        }
        while self.done < count {
            self.submit();
            let Some(miss) = self.misses.all.get(self.done) else { return };
            self.done += 1;
            self.brought.extend(miss.arrive(self.in_flight.pop_front().flatten()));
        }
    }

    /// What was waited for last.
    pub(super) fn brought(&self) -> &[Arc<Frame>] {
        &self.brought
    }

    /// Waits for all.
    pub(crate) fn finish(mut self) {
        self.wait_for(self.misses.len());
    }

    /// Asks for more once half of what may be in flight is there.
    fn submit(&mut self) {
        if self.in_flight.len() > IN_FLIGHT_MAX / 2 {
            return;
        }
        let room = IN_FLIGHT_MAX - self.in_flight.len();
        let rest = self.misses.all.get(self.started..).unwrap_or_default();
        let now = rest.get(..room).unwrap_or(rest);
        self.started += now.len();
        for of_run in now.chunk_by(|a, b| std::ptr::eq(a.loaded, b.loaded)) {
            let Some(file) = of_run.first().and_then(|miss| miss.loaded.file().ok()) else {
                self.in_flight.extend(of_run.iter().map(|_| None));
                continue;
            };
            let completions = match of_run {
                // Whoever waits at once gains nothing from a queue.
                [only] if self.misses.all.len() == 1 => vec![Completion::ready(file.run(only.op()))],
                _ => file.submit_all(of_run.iter().map(Miss::op).collect()),
            };
            self.in_flight.extend(completions.into_iter().map(|completion| Some((Arc::clone(&file), completion))));
        }
    }
}

impl Miss<'_> {
    fn op(&self) -> Op {
        let Extent { offset, bytes } = self.extent;
        Op::Read { offset, buffer: Buffer::for_read(offset, bytes) }
    }

    /// Waits for what was asked of the device.
    fn arrive(&self, flight: Flight) -> Option<Arc<Frame>> {
        let (file, completion) = flight?;
        let whole = completion.wait().map(|done| done.buffer.filter(|buffer| buffer.len() == self.extent.bytes));
        self.keep(match whole {
            Ok(Some(buffer)) => Ok(buffer),
            // Short: read it again, patiently.
            Ok(None) => self.read_alone(file.as_ref()),
            Err(e) => Err(e),
        })
    }

    fn read_alone(&self, file: &dyn File) -> Result<Buffer> {
        file.read_exact_at(self.extent.offset, self.extent.bytes)
    }

    /// Checks the bytes and puts them into the cache.
    fn keep(&self, bytes: Result<Buffer>) -> Option<Arc<Frame>> {
        let bytes = bytes.ok()?;
        let checked = match self.what {
            What::Unit { tile, column } => self.loaded.verify_unit(tile, column, &bytes, self.extent.offset),
            What::Frame { .. } => open_frame(&bytes, self.loaded.random, self.extent.offset).map(drop),
            What::Filter => self.check_filter(&bytes),
        };
        checked.ok()?;
        Some(match self.what {
            What::Frame { at } => self.loaded.slots.insert_part(self.slot, at, &bytes),
            What::Unit { .. } | What::Filter => self.loaded.slots.insert(self.slot, bytes[..].into()),
        })
    }

    fn check_filter(&self, bytes: &[u8]) -> Result<()> {
        let payload = open_frame(bytes, self.loaded.random, self.extent.offset);
        let checked = payload.and_then(Block::open).map(drop);
        if checked.as_ref().is_err_and(|error| error.kind() == ErrorKind::Corruption) {
            self.loaded.give_filter_up();
        }
        checked
    }
}
