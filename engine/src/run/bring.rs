/*!
What lookups need and the cache does not have, read at once: the index names a key's slice before anything is read, so the frames of all
columns that will be looked at, in all runs that will be asked, are known from the start and go out together. Of a large chunk a frame is read
alone; where lookups want much of the chunk, it is read whole.

```text
    index ── slice ── frames of key, sequence number, kind and projection ── those that are missing ── one submission ── cache
                   └─ block of the filter, for lookups to come
```

Frames are read before a lookup [pins](crate::cache::Pin) what it reads, so that no pin waits for a device. What left the cache
again in the meantime is read once more, by itself.
*/

use super::filter::Block;
use super::format::open_frame;
use super::loaded::Loaded;
use super::locators::{Extent, Spot};
use crate::cache::Pin;
use crate::error::{ErrorKind, Result};
use crate::io::{Buffer, File, Op};
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

/// What the cache does not have, of some runs.
#[derive(Default)]
pub(crate) struct Misses<'r>(Vec<Miss<'r>>);

impl<'r> Misses<'r> {
    /// Adds what is missing of a slice, of these columns of the file.
    pub(super) fn add(&mut self, loaded: &'r Loaded, spot: &Spot, columns: impl Iterator<Item = usize>, pin: &Pin<'_>) {
        for column in columns {
            let Some(missing) = loaded.missing(spot, column, pin) else { continue };
            let (slot, unit) = loaded.unit_of(spot.tile, column);
            let of_unit = |miss: &&Miss<'_>| miss.slot == slot && std::ptr::eq(miss.loaded, loaded);
            // Keys come in order, and a slice's columns together: what is the same is near.
            let near = || self.0.iter().rev().take(IN_FLIGHT_MAX).filter(of_unit);
            if near().any(|miss| miss.extent == unit || miss.extent == missing.extent) {
                continue;
            }
            let asked: usize = near().map(|miss| miss.extent.bytes).sum();
            if loaded.reads_whole(unit, missing.held.saturating_add(asked), missing.extent.bytes) {
                self.0.retain(|miss| !of_unit(&miss));
                self.0.push(Miss { loaded, what: What::Unit { tile: spot.tile, column }, slot, extent: unit });
            } else {
                self.0.push(Miss { loaded, what: What::Frame { at: missing.at }, slot, extent: missing.extent });
            }
        }
    }

    /// Adds the slice's block of the filter, if it is missing and worth its place.
    pub(super) fn add_filter(&mut self, loaded: &'r Loaded, spot: &Spot) {
        if let Some((slot, extent)) = loaded.wanted_filter(spot) {
            let is_same = |miss: &Miss<'_>| miss.slot == slot && std::ptr::eq(miss.loaded, loaded);
            if !self.0.iter().rev().take(IN_FLIGHT_MAX).any(is_same) {
                self.0.push(Miss { loaded, what: What::Filter, slot, extent });
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads them, a bounded number at a time, and puts them into the cache. What can't be read or is not what was written stays missing:
    /// whoever needs it reads it again and gets the error; nobody else does.
    pub(crate) fn read(self) {
        for misses in self.0.chunks(IN_FLIGHT_MAX) {
            match misses {
                [only] => only.keep(only.loaded.file().and_then(|file| only.read_alone(file.as_ref()))),
                _ => read_together(misses),
            }
        }
    }
}

fn read_together(misses: &[Miss<'_>]) {
    let mut reads = Vec::with_capacity(misses.len());
    for of_run in misses.chunk_by(|a, b| std::ptr::eq(a.loaded, b.loaded)) {
        let Some(file) = of_run.first().and_then(|miss| miss.loaded.file().ok()) else { continue };
        let read = |Miss { extent, .. }: &Miss<'_>| Op::Read {
            offset: extent.offset,
            buffer: Buffer::for_read(extent.offset, extent.bytes),
        };
        let completions = file.submit_all(of_run.iter().map(read).collect());
        reads.extend(of_run.iter().zip(completions).map(|(miss, completion)| (miss, Arc::clone(&file), completion)));
    }
    for (miss, file, completion) in reads {
        let whole = completion.wait().map(|done| done.buffer.filter(|buffer| buffer.len() == miss.extent.bytes));
        miss.keep(match whole {
            Ok(Some(buffer)) => Ok(buffer),
            // Short: read it again, patiently.
            Ok(None) => miss.read_alone(file.as_ref()),
            Err(e) => Err(e),
        });
    }
}

impl Miss<'_> {
    fn read_alone(&self, file: &dyn File) -> Result<Buffer> {
        file.read_exact_at(self.extent.offset, self.extent.bytes)
    }

    /// Checks the bytes and puts them into the cache.
    fn keep(&self, bytes: Result<Buffer>) {
        let Ok(bytes) = bytes else { return };
        let checked = match self.what {
            What::Unit { tile, column } => self.loaded.verify_unit(tile, column, &bytes, self.extent.offset),
            What::Frame { .. } => open_frame(&bytes, self.loaded.random, self.extent.offset).map(drop),
            What::Filter => self.check_filter(&bytes),
        };
        match (checked, self.what) {
            (Ok(()), What::Frame { at }) => drop(self.loaded.slots.insert_part(self.slot, at, &bytes)),
            (Ok(()), _) => drop(self.loaded.slots.insert(self.slot, bytes[..].into())),
            (Err(_), _) => {}
        }
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
