/*!
Heads: keys as numbers of the same order, so that a line can be laid through them.

Let F be the first keys of a run's slices. A [`HeadMap`] gives each of them its head, and maps *any* byte string `k` to the
greatest head that `k` reaches, so that for every f in F

```text
    f ≤ k   if and only if   head(f) ≤ reach(k)
```

with `reach(k) = None` for a key before all of F. That holds for present and absent keys, and for strings that are no key
at all: too short, too long, with a prefix that the run has never seen. From then on only numbers are compared.

**Int.** head(f) is the 8-byte key. A longer `k` reaches what its first 8 bytes say (f is shorter, hence smaller, when
they are equal); a shorter one is padded with zeros and reaches one less (f is longer, hence greater, when equal).

**Series.** A key is a prefix and 8 bytes of time. The directory holds the distinct prefixes of F, sorted: a prefix's place
in it is its ordinal. With all times of F in [t0, t0 + span],

```text
    head(f) = ordinal · (span + 1) + (t − t0)
```

which is dense: series of one extent in time lie on one line. (A shift by whole bits would leave a gap between them.) No
prefix in the directory starts with another, so at most one is the start of `k`, and it is then the greatest one ≤ `k`. If
there is one, with ordinal o, the rest of `k` is compared as an Int: it reaches o · (span + 1) + min(t − t0, span), or, being
before t0, all of the ordinals below o and nothing of o. If there is none, `k` reaches all ordinals whose prefix is < `k`, and
nothing beyond. So prefixes that lie wholly inside a slice need no entry; and entries that no slice starts with do no harm,
so that 8-byte prefixes that lie close together are not listed at all: the directory is then all numbers from the first to
the last, and costs nothing.

```text
    1: int             u8 1
    2: series, dense   u8 2 │ u64 t0 │ u64 span │ u64 first prefix │ u64 prefixes
    3: series, listed  u8 3 │ u64 t0 │ u64 span │ the prefixes, front-coded (model/front.rs)
```
*/

use super::front::{FrontCoded, FrontWriter};
use super::wire::{damaged, head};
use crate::bytes::Input;
use crate::error::Result;
use crate::key::{EncodedKeys, KeyShape};

/// Maps keys to heads. See the module's words.
#[derive(Debug, Clone)]
pub(super) enum HeadMap {
    Int,
    Series { directory: Directory, first_time: u64, span: u64 },
}

/// The prefixes of a series directory.
#[derive(Debug, Clone)]
pub(super) enum Directory {
    /// 8-byte prefixes that lie close together: a prefix's ordinal is a subtraction, and has room for those between.
    Dense { first: u64, count: u64 },
    /// Any others.
    Listed(FrontCoded),
}

/// Where a key stands in a directory.
enum Standing<'a> {
    /// It starts with the prefix of this ordinal; the rest of it follows.
    In(u64, &'a [u8]),
    /// It starts with none, and so many prefixes are smaller.
    After(u64),
}

const INT: u8 = 1;
const SERIES_DENSE: u8 = 2;
const SERIES_LISTED: u8 = 3;

/// A dense directory may have so many ordinals for each prefix that is really there.
const DENSE_ROOM: u64 = 16;

/// A prefix of 8 bytes is itself a number.
const DENSE_WIDTH: usize = 8;

/// The greatest 8-byte number that is ≤ these bytes, compared as bytes.
#[inline]
fn reach_int(key: &[u8]) -> Option<u64> {
    if key.len() >= 8 { Some(head(key)) } else { head(key).checked_sub(1) }
}

/// The greatest 16-byte number that is ≤ these bytes, compared as bytes.
#[inline]
pub(super) fn reach_wide(key: &[u8]) -> Option<u128> {
    match key.first_chunk::<16>() {
        Some(whole) => Some(u128::from_be_bytes(*whole)),
        None => wide(key).checked_sub(1),
    }
}

/// A 16-byte key as a number.
pub(super) fn wide(key: &[u8]) -> u128 {
    let rest = key.get(8..).unwrap_or_default();
    u128::from(head(key)) << 64 | u128::from(head(rest))
}

impl HeadMap {
    /// The greatest head that `key` reaches; `None` where it reaches none.
    #[inline]
    pub(super) fn reach(&self, key: &[u8]) -> Option<u64> {
        match self {
            HeadMap::Int => reach_int(key),
            HeadMap::Series { directory, first_time, span } => {
                let (ordinal, time) = match directory.standing(key) {
                    Standing::In(ordinal, rest) => (ordinal, reach_int(rest).and_then(|t| t.checked_sub(*first_time))),
                    Standing::After(ordinals) => (ordinals, None),
                };
                let series = u128::from(ordinal) * (u128::from(*span) + 1);
                let reach = match time {
                    Some(time) => Some(series + u128::from(time.min(*span))),
                    None => series.checked_sub(1),
                };
                // `fits` saw to it that the last head does.
                reach.map(|reach| u64::try_from(reach).unwrap_or(u64::MAX))
            }
        }
    }

    /// The bytes of a map for these first keys, where their shape permits one.
    pub(super) fn build(shape: KeyShape, firsts: &EncodedKeys) -> Result<Option<Vec<u8>>> {
        match shape {
            KeyShape::Int => Ok(firsts.iter().all(|key| key.len() == 8).then(|| vec![INT])),
            KeyShape::Series { .. } => build_series(firsts),
            KeyShape::Bytes => Ok(None),
        }
    }

    /// Reads a map and checks what `reach` relies on: a tag, then for series `first time u64 | span u64` and the
    /// directory: `first prefix u64 | prefixes u64` when dense, else the front-coded prefixes.
    pub(super) fn open(reader: &mut Input<'_>) -> Result<HeadMap> {
        let tag = reader.byte()?;
        if tag == INT {
            return Ok(HeadMap::Int);
        }
        let (first_time, span) = (reader.u64()?, reader.u64()?);
        let directory = match tag {
            SERIES_DENSE => Directory::Dense { first: reader.u64()?, count: reader.u64()? },
            SERIES_LISTED => Directory::Listed(FrontCoded::open(reader)?),
            _ => return Err(damaged("an unknown kind of heads")),
        };
        let sound = match &directory {
            Directory::Dense { first, count } => *count > 0 && first.checked_add(count - 1).is_some(),
            Directory::Listed(prefixes) => prefixes.is_prefix_free(),
        };
        match sound && fits(directory.len(), span) && first_time.checked_add(span).is_some() {
            true => Ok(HeadMap::Series { directory, first_time, span }),
            false => Err(damaged("a series directory that cannot be")),
        }
    }

    /// How many prefixes the directory has.
    pub(super) fn prefixes(&self) -> usize {
        match self {
            HeadMap::Int => 0,
            HeadMap::Series { directory, .. } => usize::try_from(directory.len()).unwrap_or(usize::MAX),
        }
    }

    /// Whether ordinals are computed, not looked up.
    pub(super) fn is_arithmetic(&self) -> bool {
        !matches!(self, HeadMap::Series { directory: Directory::Listed(_), .. })
    }

    /// Bytes in memory beyond the map itself.
    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            HeadMap::Series { directory: Directory::Listed(prefixes), .. } => prefixes.memory_bytes(),
            _ => 0,
        }
    }
}

impl Directory {
    fn len(&self) -> u64 {
        match self {
            Directory::Dense { count, .. } => *count,
            Directory::Listed(prefixes) => prefixes.len() as u64,
        }
    }

    #[inline]
    fn standing<'a>(&self, key: &'a [u8]) -> Standing<'a> {
        match self {
            Directory::Dense { first, count } => match key.split_at_checked(DENSE_WIDTH) {
                Some((prefix, rest)) => match head(prefix).checked_sub(*first) {
                    Some(ordinal) if ordinal < *count => Standing::In(ordinal, rest),
                    Some(_) => Standing::After(*count),
                    None => Standing::After(0),
                },
                // Shorter than any prefix, it is greater than those below it when padded, and than no other.
                None => Standing::After(head(key).saturating_sub(*first).min(*count)),
            },
            Directory::Listed(prefixes) => {
                let rank = prefixes.rank(key);
                let count = rank.count as u64;
                match rank.prefix.and_then(|len| key.get(len..)) {
                    Some(rest) => Standing::In(count.saturating_sub(1), rest),
                    None => Standing::After(count),
                }
            }
        }
    }
}

/// The prefix and the time of a series key.
fn parts(key: &[u8]) -> Option<(&[u8], u64)> {
    let (prefix, time) = key.split_last_chunk::<8>()?;
    Some((prefix, u64::from_be_bytes(*time)))
}

/// The bytes of a series map; `None` where these are no series keys, or their heads need more than 64 bits.
fn build_series(firsts: &EncodedKeys) -> Result<Option<Vec<u8>>> {
    let (mut first_time, mut last_time) = (u64::MAX, 0);
    let mut prefixes: Vec<&[u8]> = Vec::new();
    for key in firsts.iter() {
        let Some((prefix, time)) = parts(key) else { return Ok(None) };
        (first_time, last_time) = (first_time.min(time), last_time.max(time));
        match prefixes.last() {
            Some(last) if *last == prefix => {}
            Some(last) if prefix < *last || prefix.starts_with(last) => return Ok(None),
            _ => prefixes.push(prefix),
        }
    }
    let Some(span) = last_time.checked_sub(first_time) else { return Ok(None) };
    let mut out = Vec::new();
    if let Some((first, count)) = dense(&prefixes).filter(|(_, count)| fits(*count, span)) {
        out.push(SERIES_DENSE);
        [first_time, span, first, count].iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
    } else if fits(prefixes.len() as u64, span) {
        out.push(SERIES_LISTED);
        [first_time, span].iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
        let mut writer = FrontWriter::default();
        prefixes.iter().try_for_each(|prefix| writer.push(prefix))?;
        out.extend(writer.finish()?);
    } else {
        return Ok(None);
    }
    Ok(Some(out))
}

/// The first of these prefixes, which ascend, and how many numbers there are from it to the last one; `None` where
/// they are no numbers or lie too far apart.
fn dense(prefixes: &[&[u8]]) -> Option<(u64, u64)> {
    let (first, last) = (head(prefixes.first()?), head(prefixes.last()?));
    let count = last.checked_sub(first)?.checked_add(1)?;
    let is_dense = prefixes.iter().all(|prefix| prefix.len() == DENSE_WIDTH)
        && count <= DENSE_ROOM.saturating_mul(prefixes.len() as u64);
    is_dense.then_some((first, count))
}

/// Whether all heads fit 64 bits.
fn fits(prefixes: u64, span: u64) -> bool {
    u128::from(prefixes) * (u128::from(span) + 1) <= 1 << 64
}
