/*!
The filter of a run: which keys it does not have, without reading their slices. A run has one where it was asked for when the run was
written; all of its reading does without.

Slices stand in *blocks* of as many as have up to 65,536 rows, and each block has a filter of its own ([`crate::model::filter`]), a
section of the file. Which block to ask follows from the slice that the index names, before anything is read.

```text
    slices    0 ┄┄┄┄┄┄ 511 │ 512 ┄┄┄┄┄ 1023 │ 1024 ┄ 1100
    sections  filter 0     │ filter 512     │ filter 1024        about 72 KiB, 72 KiB, 11 KiB
    payload   varint length │ last key of the slice before the block (0: none)
              varint length │ first key of the slice after it (0: none)
              filter (model/filter.rs) over the keys of the block's rows, tombstones too
```

**Why blocks.** One filter over all rows would be some 3 % smaller at best, and then a lookup in a cold run would read megabytes for
one answer, and building it would take some thirty bytes of memory a row. A block is read, verified, cached and let go of as one unit,
its probe reads four bytes that lie within 2 KiB, and it is built while the run is written, with some 2.5 MiB of memory for the building
and nine bits a row for what waits until the tiles are written.

**What lookups do.** A filter that the cache has is asked first. One that it has not costs no round trip of its own: what the cache lacks
of the row is read in one submission, and the filter's block comes along with it, for those who come later. Where the cache has the row
and not the filter, the row is looked for; if it is not there, the block is read afterwards. Blocks that take more than a
sixty-fourth of the cache's budget are never read for that.

**Promises.** A filter never hides a key of its run: guards hold the block to its keys, as a slice's do, so that an index that
named a wrong slice would still be found out; the check holds every row against its filter. A block that is damaged is not asked
any more, and the rows answer: only the check reports it.

A release that does not know filters skips their sections.
*/

use super::format::{Footer, Guard, SectionKind, split_frame};
use super::locators::Extent;
use super::{offset_of, small};
use crate::error::{Error, Result};
use crate::model::filter::{self, FILTER_KEYS_MAX, Filter};
use crate::types::RunId;

/// Keys of a run with a filter at most: what it comes to is kept in memory until the tiles are written.
const RUN_KEYS_MAX: usize = 1 << 25;

/// Builds a run's filter from its keys in their order.
#[derive(Debug)]
pub(super) struct FilterBuilder {
    run: RunId,
    /// The first slice of the block that is being gathered.
    first_slice: u32,
    slices: usize,
    keys: usize,
    hashes: Vec<u64>,
    /// Last key of the block before.
    prev_last: Vec<u8>,
    last: Vec<u8>,
    blocks: Built,
}

/// Blocks of a filter, each with its first slice.
pub(super) type Built = Vec<(u32, Vec<u8>)>;

impl FilterBuilder {
    pub(super) fn new(run: RunId) -> Self {
        FilterBuilder {
            run,
            first_slice: 0,
            slices: 0,
            keys: 0,
            hashes: Vec::new(),
            prev_last: Vec::new(),
            last: Vec::new(),
            blocks: Vec::new(),
        }
    }

    /// The next slice begins with `key`, and has at most `rows` rows.
    pub(super) fn begin_slice(&mut self, key: &[u8], rows: usize) -> Result<()> {
        if self.is_too_large() {
            return Ok(());
        }
        if !self.hashes.is_empty() && self.hashes.len().saturating_add(rows) > FILTER_KEYS_MAX {
            self.end_block(key)?;
        }
        self.slices += 1;
        Ok(())
    }

    /// Adds keys of the slice; the last of them is `last`.
    pub(super) fn push<'k>(&mut self, keys: impl Iterator<Item = &'k [u8]>, last: &[u8]) {
        let before = self.hashes.len();
        self.hashes.extend(keys.map(filter::hash));
        self.keys += self.hashes.len() - before;
        if self.is_too_large() {
            (self.hashes, self.blocks) = Default::default();
            return;
        }
        self.last.clear();
        self.last.extend_from_slice(last);
    }

    fn is_too_large(&self) -> bool {
        self.keys > RUN_KEYS_MAX
    }

    fn end_block(&mut self, next_first: &[u8]) -> Result<()> {
        if mutant!(FilterForgetsAKey) {
            drop(self.hashes.drain(..self.hashes.len().min(1)));
        }
        let mut payload = Vec::new();
        Guard { prev_last: &self.prev_last, next_first }.encode(&mut payload);
        let number = self.run.0.rotate_left(32) ^ u64::from(self.first_slice);
        payload.extend_from_slice(&filter::build(&mut self.hashes, number));
        self.blocks.push((self.first_slice, payload));
        self.hashes.clear();
        self.first_slice = small(self.slices)?;
        std::mem::swap(&mut self.prev_last, &mut self.last);
        Ok(())
    }

    /// The blocks; none where there are too many keys.
    pub(super) fn finish(mut self) -> Result<Built> {
        if self.is_too_large() {
            return Ok(Vec::new());
        }
        self.end_block(&[])?;
        Ok(self.blocks)
    }
}

/// One block's payload, opened.
#[derive(Debug)]
pub(super) struct Block<'a> {
    pub(super) guard: Guard<'a>,
    /// `None` where every key may be there.
    pub(super) filter: Option<Filter<'a>>,
}

impl<'a> Block<'a> {
    #[inline]
    pub(super) fn open(payload: &'a [u8]) -> Result<Block<'a>> {
        let (guard, filter) = Guard::decode(payload)?;
        Ok(Block { guard, filter: Filter::open(filter)? })
    }

    /// Whether the key may be there; `None` where the block can't tell.
    #[inline]
    pub(super) fn may_have(&self, key: &[u8]) -> Option<bool> {
        let filter = self.filter.filter(|_| self.guard.admits(key))?;
        Some(filter.may_have(filter::hash(key)))
    }
}

/// What a filter says of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Says {
    /// The run has no filter, or one that can't tell.
    Nothing,
    /// The cache does not have it.
    Missing,
    /// The key is not there.
    Absent,
    /// The key may be there.
    Maybe,
}

/// What a block that was read says of a key. It was checked when it was read.
#[inline]
pub(super) fn ask(frame: &[u8], key: &[u8]) -> Says {
    let block = split_frame(frame).and_then(|(_, payload)| Block::open(payload));
    match block.ok().and_then(|block| block.may_have(key)) {
        None => Says::Nothing,
        Some(false) => Says::Absent,
        Some(true) => Says::Maybe,
    }
}

/// Where a run's blocks lie.
#[derive(Debug, Default)]
pub(super) struct FilterBlocks {
    /// The first slice of each.
    starts: Box<[u32]>,
    extents: Box<[Extent]>,
}

impl FilterBlocks {
    /// Those of a footer; none where it has none.
    pub(super) fn of(footer: &Footer) -> Result<FilterBlocks> {
        let (mut starts, mut extents) = (Vec::new(), Vec::new());
        for section in footer.sections.iter().filter(|section| section.kind == SectionKind::Filter) {
            let bytes = usize::try_from(section.bytes)
                .map_err(|_| Error::corruption("a block of the run's filter is larger than memory can be"))?;
            starts.push(section.column.0);
            extents.push(Extent { offset: section.offset, bytes });
        }
        let in_order = starts.first().is_none_or(|first| *first == 0)
            && starts.is_sorted_by(|a, b| a < b)
            && starts.last().is_none_or(|last| *last < footer.slices);
        match in_order {
            true => Ok(FilterBlocks { starts: starts.into(), extents: extents.into() }),
            false => Err(Error::corruption("the blocks of the run's filter are not those of its slices")),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// The block of a slice, and where it lies; `None` where there is no filter.
    #[inline]
    pub(super) fn of_slice(&self, slice: u32) -> Option<(usize, Extent)> {
        let block = self.starts.partition_point(|start| *start <= slice).checked_sub(1)?;
        self.extents.get(block).map(|extent| (block, *extent))
    }

    /// All, each with its first slice.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, Extent)> {
        self.starts.iter().copied().zip(self.extents.iter().copied())
    }

    /// Bytes of all.
    pub(super) fn bytes(&self) -> u64 {
        self.extents.iter().map(|extent| offset_of(extent.bytes)).sum()
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.starts.len() * (size_of::<u32>() + size_of::<Extent>())
    }
}
