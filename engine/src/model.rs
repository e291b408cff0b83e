/*!
The index of a run's slices: plain fences, or a learned function proved at build. Names the slice of a key.

A run is sorted by key and cut into slices; this room gets each slice's first and last key and, later, names for any
byte string the slice to look into. It reads no file and knows no row.

**Promise.** Let `first[b]` and `last[b]` be the keys of slice b. [`SliceIndex::find`] gives for a key k

```text
    b     where first[b] ≤ k ≤ last[b]: every key that is in the run, and every absent one that falls inside a slice
    b     or b + 1, where last[b] < k < first[b + 1]: k is in no slice, and there is nothing between the two
    0     where k < first[0]
```

so that `last[s − 1] < k < first[s + 1]` always holds for the slice s that it names, and in exactly one slice has k to be
looked for. As the start or the end of a range, s is right as well: no key from k on lies before slice s, and none up to
k lies behind it. Fences of numbers always give b, the last slice whose first key is ≤ k; separators and models may give
b + 1 in the gap, because they keep only what tells `last[b]` from `first[b + 1]`. (To keep more, a model would have to spend the
bits of the whole gap on it: the fence.) `find` is monotone in k.

**Kinds.** Keys that are numbers, or (series, time), have a *head*, an u64 of the same order (`model/head.rs`).

```text
    Model        lines through the heads, 16 bits a slice for what is off them   about 2 bytes a slice   model/line.rs
    STree        all heads, as a search tree whose nodes are cache lines         8                       model/stree.rs
    Eytzinger    16-byte keys, as a branch-free binary search tree               16                      model/eytzinger.rs
    Separators   shortest separating strings, front-coded, with 8-byte heads     what the keys ask for   model/front.rs
                 in memory the heads alone, where those say everything           9                       model/short.rs
```

**Choice.** `Auto` takes fences for a run of up to 16,384 slices: they fit a processor's cache and are the fastest there. Above
that it takes the model if it comes to at most 4 bytes a slice with at most 5 % exceptions, and else fences. The choice, its
reason and the figures are in the bytes and in [`IndexStats`].

**Searches** are written once and compiled for AVX-512, AVX2 and plain Rust; which one runs is seen when an index is opened
(`model/simd.rs`). [`SliceIndex::find_batch`] takes 32 keys together through every step (segments or tree levels, then
residuals), so that their cache misses overlap. Which layout fences have in memory depends on the processor (`model/fences.rs`):
Eytzinger order for single lookups where nothing compares vectors, else an S+-tree.

[`LearnedMap`] is the same index over rows in memory.

[`filter`] is no index: it says of most keys that are not there that they are not.

**Bytes.** All numbers are little-endian. They are checked from end to end when they are opened.

```text
    version u8 (1) | kind u8 (0 Model, 1 fences, 2 Separators) | choice u8 | reason u8 | slices u32 | heads | body | CRC32C u32 of all before
    heads   0: byte keys    1: int    2, 3: series, with their directory (model/head.rs)    4: 16-byte keys
    body    Model: see model/line.rs    fences: slices × u64 or u128, ascending    Separators: see model/front.rs
```
*/

mod build;
#[cfg(test)]
mod campaign;
mod eytzinger;
mod fences;
pub mod filter;
mod front;
mod head;
mod line;
mod map;
mod prefetch;
mod short;
mod simd;
mod stree;
#[cfg(test)]
mod tests;
mod wire;

pub use build::IndexBuilder;
pub use map::{LearnedMap, MapStats};
pub(crate) use prefetch::prefetch;

use crate::bytes::Input;
use crate::error::{Error, ErrorKind, Result};
use eytzinger::Eytzinger;
use fences::Fences;
use front::FrontCoded;
use head::{HeadMap, reach_wide};
use line::Lines;
use short::ShortStrings;
use std::fmt;
use stree::BATCH;
use wire::{WHAT, cut_short, damaged};

/// The number under which this form is named in each index.
pub const INDEX_VERSION: u8 = 1;

/// Tag of the heads: byte keys have none.
const BYTES: u8 = 0;
/// Tag of the heads: keys of 16 bytes are their own.
const WIDE: u8 = 4;

/// Which index a table's runs should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IndexChoice {
    /// Whichever suits the run.
    #[default]
    Auto,
    /// The learned one, where the keys permit it.
    Model,
    /// Plain fences.
    Fences,
}

/// Which index a run has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexKind {
    /// Learned lines with residuals.
    Model,
    /// Fences that are numbers, in Eytzinger order.
    Eytzinger,
    /// Fences that are numbers, as an S+-tree.
    STree,
    /// Front-coded byte strings.
    Separators,
}

impl fmt::Display for IndexKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IndexKind::Model => "model",
            IndexKind::Eytzinger => "fences",
            IndexKind::STree => "fences in an S+-tree",
            IndexKind::Separators => "separators",
        })
    }
}

/// Why a run has the index that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It was asked for.
    Asked,
    /// Fences: the run has too few slices for anything else to matter.
    FewSlices,
    /// The model: it is at most half as large as fences.
    ModelIsSmaller,
    /// Fences: the model would have been too large.
    ModelIsLarge,
    /// Fences: too many slices would have been exceptions.
    ManyExceptions,
    /// Fences: a model needs keys that map to 64-bit numbers, and these do not.
    KeyHasNoHead,
    /// Fences: the model did not pass its proof.
    ProofFailed,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Asked => "asked for",
            Reason::FewSlices => "few slices",
            Reason::ModelIsSmaller => "model is smaller",
            Reason::ModelIsLarge => "model is too large",
            Reason::ManyExceptions => "model has too many exceptions",
            Reason::KeyHasNoHead => "keys do not map to numbers",
            Reason::ProofFailed => "model failed its proof",
        })
    }
}

/// What is to be said of an index.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexStats {
    /// What it is.
    pub kind: IndexKind,
    /// What was asked for.
    pub choice: IndexChoice,
    /// Why it is what it is.
    pub reason: Reason,
    /// Slices that it names.
    pub slices: usize,
    /// Lines of the model.
    pub segments: usize,
    /// Slices whose fences the model keeps whole.
    pub exceptions: usize,
    /// How many slices the model's lines may be off before the residuals set them right.
    pub epsilon: usize,
    /// Prefixes in the series directory.
    pub prefixes: usize,
    /// Serialized bytes.
    pub bytes: usize,
    /// Serialized bytes for each slice; 0 without slices.
    pub bytes_per_slice: f64,
}

/// How an index came to a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prediction {
    /// What kind of index it is.
    pub kind: IndexKind,
    /// The model's segment that the key falls in, counted from 0.
    pub segment: Option<usize>,
    /// The slice that the line alone names; the final one where there is no line.
    pub predicted: usize,
    /// The slice named in the end.
    pub slice: usize,
    /// Whether a fence that the model keeps whole was looked at.
    pub exception: bool,
}

/// A run's slice index, opened.
#[derive(Debug, Clone)]
pub struct SliceIndex {
    stats: IndexStats,
    body: Body,
}

#[derive(Debug, Clone)]
enum Body {
    Model(HeadMap, Lines),
    Heads(HeadMap, Fences),
    Wide(Eytzinger<u128>),
    Separators(FrontCoded),
    /// Separators, too.
    Short(ShortStrings),
}

/// What every index begins with.
struct Header {
    kind: IndexKind,
    choice: IndexChoice,
    reason: Reason,
    slices: u32,
}

/// By their codes in the bytes, where all fences that are numbers are one kind.
const KINDS: [IndexKind; 3] = [IndexKind::Model, IndexKind::Eytzinger, IndexKind::Separators];
const CHOICES: [IndexChoice; 3] = [IndexChoice::Auto, IndexChoice::Model, IndexChoice::Fences];
const REASONS: [Reason; 7] = [
    Reason::Asked,
    Reason::FewSlices,
    Reason::ModelIsSmaller,
    Reason::ModelIsLarge,
    Reason::ManyExceptions,
    Reason::KeyHasNoHead,
    Reason::ProofFailed,
];

impl Header {
    fn to_bytes(&self) -> Vec<u8> {
        fn place<T: PartialEq>(of: &T, list: &[T]) -> u8 {
            list.iter().position(|other| other == of).and_then(|place| u8::try_from(place).ok()).unwrap_or(u8::MAX)
        }
        let mut bytes = vec![
            INDEX_VERSION,
            place(&self.kind, &KINDS),
            place(&self.choice, &CHOICES),
            place(&self.reason, &REASONS),
        ];
        bytes.extend_from_slice(&self.slices.to_le_bytes());
        bytes
    }

    fn open(reader: &mut Input<'_>) -> Result<(IndexKind, IndexChoice, Reason, usize)> {
        fn at<T: Copy>(place: u8, list: &[T]) -> Result<T> {
            list.get(usize::from(place)).copied().ok_or_else(|| damaged("an unknown kind, choice or reason"))
        }
        let [version, kind, choice, reason] = reader.array()?;
        if version != INDEX_VERSION {
            let message = format!("a slice index of version {version}; this release reads {INDEX_VERSION}");
            let kind = if version > INDEX_VERSION { ErrorKind::NewerFormat } else { ErrorKind::Corruption };
            return Err(Error::new(kind, message));
        }
        Ok((at(kind, &KINDS)?, at(choice, &CHOICES)?, at(reason, &REASONS)?, reader.size()?))
    }
}

impl SliceIndex {
    /// Opens what [`IndexBuilder::finish`] gave, and checks all of it.
    ///
    /// # Errors
    /// `Corruption`; `NewerFormat` for a version that this release does not know.
    pub fn open(bytes: &[u8]) -> Result<SliceIndex> {
        let (body, checksum) = bytes.split_last_chunk::<4>().ok_or_else(cut_short)?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*checksum) {
            return Err(damaged("its checksum does not hold"));
        }
        Self::open_unsealed(body, bytes.len())
    }

    fn open_unsealed(bytes: &[u8], total: usize) -> Result<SliceIndex> {
        let mut reader = Input::new(bytes, WHAT);
        let (kind, choice, reason, slices) = Header::open(&mut reader)?;
        let body = match (kind, reader.peek()) {
            (IndexKind::Model, _) => {
                let map = HeadMap::open(&mut reader)?;
                Body::Model(map, Lines::open(&mut reader, slices)?)
            }
            (IndexKind::Eytzinger, Some(WIDE)) => {
                reader.byte()?;
                Body::Wide(Eytzinger::new(&ascending(reader.list(slices, u128::from_le_bytes)?)?))
            }
            (IndexKind::Eytzinger | IndexKind::STree, _) => {
                let map = HeadMap::open(&mut reader)?;
                Body::Heads(map, Fences::new(&ascending(reader.list(slices, u64::from_le_bytes)?)?))
            }
            (IndexKind::Separators, _) => {
                let tag = reader.byte()?;
                let separators = FrontCoded::open(&mut reader)?;
                if tag != BYTES || separators.len() != slices {
                    return Err(damaged("separators for another number of slices"));
                }
                ShortStrings::of(&separators).map_or_else(|| Body::Separators(separators), Body::Short)
            }
        };
        if reader.left() > 0 {
            return Err(damaged("it has bytes too many"));
        }
        let kind = match &body {
            Body::Heads(_, fences) if !fences.are_walked() => IndexKind::STree,
            _ => kind,
        };
        let stats = IndexStats {
            kind,
            choice,
            reason,
            slices,
            segments: body.lines().map_or(0, Lines::segments),
            exceptions: body.lines().map_or(0, Lines::exceptions),
            epsilon: body.lines().map_or(0, Lines::epsilon),
            prefixes: body.map().map_or(0, HeadMap::prefixes),
            bytes: total,
            bytes_per_slice: if slices == 0 { 0.0 } else { total as f64 / slices as f64 },
        };
        Ok(SliceIndex { stats, body })
    }

    /// The slice to look for `key` in, below [`Self::slices`] (0 without slices). See the module's promise.
    #[inline]
    pub fn find(&self, key: &[u8]) -> usize {
        match &self.body {
            Body::Heads(map, fences) => map.reach(key).map_or(0, |k| fences.find(k)),
            Body::Model(map, lines) => map.reach(key).map_or(0, |k| lines.find(k)),
            Body::Wide(fences) => reach_wide(key).map_or(0, |k| fences.count_le(k)).saturating_sub(1),
            Body::Separators(separators) => separators.rank(key).count.saturating_sub(1),
            Body::Short(separators) => separators.find(key),
        }
    }

    /// [`Self::find`] for many keys, whose cache misses overlap; `out` is cleared first.
    pub fn find_batch(&self, keys: &[&[u8]], out: &mut Vec<usize>) {
        out.clear();
        out.reserve(keys.len());
        match &self.body {
            Body::Heads(map, fences) => {
                in_groups(keys, out, |key| map.reach(key), |ks| fences.find_batch(ks));
            }
            Body::Model(map, lines) => in_groups(keys, out, |key| map.reach(key), |ks| lines.find_batch(ks)),
            Body::Short(separators) => separators.find_batch(keys, out),
            // 16-byte numbers and strings are bound by their comparisons: taking them together gains nothing.
            Body::Wide(_) | Body::Separators(_) => out.extend(keys.iter().map(|key| self.find(key))),
        }
    }

    /// How [`Self::find`] comes to its slice, for EXPLAIN.
    pub fn predict(&self, key: &[u8]) -> Prediction {
        let kind = self.stats.kind;
        if let Body::Model(map, lines) = &self.body {
            let found = map.reach(key).map(|k| lines.explain(k)).unwrap_or_default();
            let line::Found { segment, predicted, slice, exception } = found;
            return Prediction { kind, segment: Some(segment), predicted, slice, exception };
        }
        let slice = self.find(key);
        Prediction { kind, segment: None, predicted: slice, slice, exception: false }
    }

    /// The same index, searched with other instructions.
    #[cfg(test)]
    fn searched_with(&self, simd: simd::Simd) -> SliceIndex {
        let body = match &self.body {
            Body::Model(map, lines) => Body::Model(map.clone(), lines.searched_with(simd)),
            Body::Heads(map, fences) => Body::Heads(map.clone(), fences.searched_with(simd)),
            Body::Short(separators) => Body::Short(separators.searched_with(simd)),
            other => other.clone(),
        };
        SliceIndex { stats: self.stats.clone(), body }
    }

    /// How many slices the run has.
    pub fn slices(&self) -> usize {
        self.stats.slices
    }

    /// What is to be said of the index.
    pub fn stats(&self) -> &IndexStats {
        &self.stats
    }

    /// Bytes that the index takes in memory.
    pub fn memory_bytes(&self) -> usize {
        let body = match &self.body {
            Body::Model(map, lines) => map.memory_bytes() + lines.memory_bytes(),
            Body::Heads(map, fences) => map.memory_bytes() + fences.memory_bytes(),
            Body::Wide(fences) => fences.memory_bytes(),
            Body::Separators(separators) => separators.memory_bytes(),
            Body::Short(separators) => separators.memory_bytes(),
        };
        size_of::<Self>() + body
    }
}

impl Body {
    fn lines(&self) -> Option<&Lines> {
        match self {
            Body::Model(_, lines) => Some(lines),
            _ => None,
        }
    }

    fn map(&self) -> Option<&HeadMap> {
        match self {
            Body::Model(map, _) | Body::Heads(map, _) => Some(map),
            _ => None,
        }
    }
}

/// Searches group by group; a key that reaches nothing is in slice 0, as is the smallest number.
fn in_groups(
    keys: &[&[u8]],
    out: &mut Vec<usize>,
    reach: impl Fn(&[u8]) -> Option<u64>,
    search: impl Fn(&[u64; BATCH]) -> [usize; BATCH],
) {
    for group in keys.chunks(BATCH) {
        let mut ks = [0; BATCH];
        ks.iter_mut().zip(group).for_each(|(k, key)| *k = reach(key).unwrap_or_default());
        out.extend(search(&ks).into_iter().take(group.len()));
    }
}

/// The list, if it ascends strictly.
fn ascending<T: PartialOrd>(list: Vec<T>) -> Result<Vec<T>> {
    match list.is_sorted_by(|a, b| a < b) {
        true => Ok(list),
        false => Err(damaged("its fences do not ascend")),
    }
}
