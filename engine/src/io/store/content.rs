/*!
The bytes of one file in memory, and, in a tracked store, which of them are durable.

A disk writes sectors, and between two syncs in any order: so a crash may leave any sector as it was at the last sync or
as any write since then left it, whatever became of its neighbours; and the file's length may be any it has had since,
whether or not the bytes below it arrived (they are zeros then). That is what the pending state keeps.

```text
    page = 4,096 bytes, shared between images until one writes it; an absent page is zeros
    sector = 512 bytes, the unit that survives or is lost as a whole
```
*/

use crate::io::random::{Random, mix};
use std::collections::BTreeMap;
use std::sync::Arc;

const PAGE_BYTES: usize = 4096;
const PAGE_BYTES_U64: u64 = 4096;
const SECTOR_BYTES: usize = 512;
const SECTOR_BYTES_U64: u64 = 512;

/// Versions of one sector, or of the length, that are told apart between two syncs; the oldest go first. Only bounds
/// memory.
const VERSIONS_MAX: usize = 4;

/// Decides what of the pending state a crash leaves.
#[derive(Debug)]
pub(in crate::io) enum Survival {
    /// Nothing.
    AllLost,
    /// Everything.
    AllKept,
    /// Each part with `of_8` eighths' probability.
    Some {
        /// Where the decisions come from.
        random: Random,
        /// Eighths.
        of_8: u64,
    },
}

impl Survival {
    /// Decisions that follow from `seed`; how much survives on the whole does too, from hardly anything to nearly all.
    pub(in crate::io) fn random(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let of_8 = 1 + random.below(7);
        Survival::Some { random, of_8 }
    }

    /// Whether the next part survives.
    pub(in crate::io) fn keeps(&mut self) -> bool {
        match self {
            Survival::AllLost => false,
            Survival::AllKept => true,
            Survival::Some { random, of_8 } => random.chance(*of_8, 8),
        }
    }

    /// Which of the versions of the next part survives, if any does.
    fn choose<'a, T>(&mut self, versions: &'a [T]) -> Option<&'a T> {
        if !self.keeps() {
            return None;
        }
        match self {
            Survival::Some { random, .. } => versions.get(random.index(versions.len())),
            _ => versions.last(),
        }
    }
}

/// Sparse bytes.
#[derive(Debug, Clone, Default)]
struct Image {
    pages: BTreeMap<u64, Arc<[u8; PAGE_BYTES]>>,
    len: u64,
}

/// A file's bytes as programs see them, and what is known of their durability.
#[derive(Debug, Clone)]
pub(super) struct Content {
    live: Image,
    durability: Option<Durability>,
}

#[derive(Debug, Clone, Default)]
struct Durability {
    /// As of the last sync.
    durable: Image,
    /// What each sector has been since, oldest first.
    sectors: BTreeMap<u64, Vec<[u8; SECTOR_BYTES]>>,
    /// What the length has been since, oldest first.
    lengths: Vec<u64>,
}

impl Content {
    pub(super) fn new(tracked: bool) -> Self {
        Content { live: Image::default(), durability: tracked.then(Durability::default) }
    }

    pub(super) fn len(&self) -> u64 {
        self.live.len
    }

    pub(super) fn read(&self, offset: u64, to: &mut [u8]) -> usize {
        let there = usize::try_from(self.live.len.saturating_sub(offset)).unwrap_or(usize::MAX).min(to.len());
        if let Some(to) = to.get_mut(..there) {
            self.live.copy_to(offset, to);
        }
        there
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + length(bytes);
        self.live.write(offset, bytes);
        if let Some(durability) = &mut self.durability {
            for sector in offset / SECTOR_BYTES_U64..end.div_ceil(SECTOR_BYTES_U64) {
                durability.changed(sector, &self.live);
            }
        }
        self.grow(end);
    }

    pub(super) fn set_len(&mut self, len: u64) {
        let shorter = len < self.live.len;
        self.live.set_len(len);
        let Some(durability) = &mut self.durability else { return };
        if shorter {
            for sector in durability.sectors_from(len / SECTOR_BYTES_U64) {
                durability.changed(sector, &self.live);
            }
        }
        push_version(&mut durability.lengths, len);
    }

    pub(super) fn allocate(&mut self, len: u64) {
        // Pages that are absent read as zeros on either side of a crash: only the length is pending.
        self.grow(len);
    }

    fn grow(&mut self, len: u64) {
        if len <= self.live.len {
            return;
        }
        self.live.len = len;
        if let Some(durability) = &mut self.durability {
            push_version(&mut durability.lengths, len);
        }
    }

    pub(super) fn sync(&mut self) {
        self.settle(&mut Survival::AllKept);
    }

    pub(super) fn fail_sync(&mut self, random: &mut Random) {
        self.settle(&mut Survival::random(random.next_u64()));
    }

    /// Makes what `survival` grants durable and forgets that the rest was ever pending.
    fn settle(&mut self, survival: &mut Survival) {
        if let Some(durability) = &mut self.durability {
            durability.durable = durability.survivor(survival);
            durability.sectors.clear();
            durability.lengths.clear();
        }
    }

    /// A hash of the bytes and the length that programs see.
    pub(super) fn fingerprint(&self) -> u64 {
        self.live.fingerprint()
    }

    pub(super) fn crash(&self, survival: &mut Survival) -> Content {
        let image = self.durability.as_ref().map_or_else(Image::default, |durability| durability.survivor(survival));
        let durability = Durability { durable: image.clone(), ..Durability::default() };
        Content { live: image, durability: Some(durability) }
    }
}

impl Durability {
    /// Notes what `sector` is in `live` as its newest version.
    fn changed(&mut self, sector: u64, live: &Image) {
        let mut bytes = [0; SECTOR_BYTES];
        live.copy_to(sector * SECTOR_BYTES_U64, &mut bytes);
        push_version(self.sectors.entry(sector).or_default(), bytes);
    }

    /// The sectors from `first` on that may hold anything but zeros.
    fn sectors_from(&self, first: u64) -> Vec<u64> {
        let a_page = PAGE_BYTES_U64 / SECTOR_BYTES_U64;
        let durable =
            self.durable.pages.range(first / a_page..).flat_map(|(page, _)| page * a_page..(page + 1) * a_page);
        let pending = self.sectors.range(first..).map(|(sector, _)| *sector);
        let all: std::collections::BTreeSet<u64> = durable.filter(|sector| *sector >= first).chain(pending).collect();
        all.into_iter().collect()
    }

    /// The durable image with what `survival` grants of the pending changes.
    fn survivor(&self, survival: &mut Survival) -> Image {
        let mut image = self.durable.clone();
        for (sector, versions) in &self.sectors {
            if let Some(bytes) = survival.choose(versions) {
                image.write(sector * SECTOR_BYTES_U64, bytes);
            }
        }
        let len = survival.choose(&self.lengths).copied().unwrap_or(image.len);
        image.set_len(len);
        image
    }
}

impl Image {
    /// Copies from `offset` on without regard to the length.
    fn copy_to(&self, mut offset: u64, mut to: &mut [u8]) {
        while !to.is_empty() {
            let (page, within) = place(offset);
            let step = to.len().min(PAGE_BYTES - within);
            let (now, rest) = to.split_at_mut(step);
            match self.pages.get(&page).and_then(|page| page.get(within..within + step)) {
                Some(bytes) => now.copy_from_slice(bytes),
                None => now.fill(0),
            }
            offset += length(now);
            to = rest;
        }
    }

    /// Writes at `offset` without regard to the length.
    fn write(&mut self, mut offset: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (page, within) = place(offset);
            let (now, rest) = bytes.split_at(bytes.len().min(PAGE_BYTES - within));
            let page = self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            if let Some(to) = Arc::make_mut(page).get_mut(within..within + now.len()) {
                to.copy_from_slice(now);
            }
            offset += length(now);
            bytes = rest;
        }
    }

    /// Equal for equal bytes and lengths, whether zeros are stored or absent.
    fn fingerprint(&self) -> u64 {
        let mut hash = mix(self.len);
        for (number, page) in &self.pages {
            let (words, _) = page.as_chunks::<8>();
            let mut sum = 0u64;
            for word in words {
                sum = (sum.rotate_left(5) ^ u64::from_le_bytes(*word)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            }
            // Zeros all through leave the sum at zero.
            if sum != 0 {
                hash = mix(hash ^ mix(*number) ^ sum);
            }
        }
        hash
    }

    /// Sets the length; bytes past it become zeros.
    fn set_len(&mut self, len: u64) {
        self.len = len;
        let (page, within) = place(len);
        drop(self.pages.split_off(&len.div_ceil(PAGE_BYTES_U64)));
        if let Some(tail) = self.pages.get_mut(&page).and_then(|page| Arc::make_mut(page).get_mut(within..)) {
            tail.fill(0);
        }
    }
}

/// The page of an offset, and the place in it.
fn place(offset: u64) -> (u64, usize) {
    (offset / PAGE_BYTES_U64, usize::try_from(offset % PAGE_BYTES_U64).unwrap_or(0))
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn push_version<T>(versions: &mut Vec<T>, version: T) {
    if versions.len() == VERSIONS_MAX {
        versions.remove(0);
    }
    versions.push(version);
}
