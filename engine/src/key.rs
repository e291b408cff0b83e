/*!
Keys as bytes: one encoding, ours and versioned, for the log, the memtable, runs and their fences.

Comparing two encoded keys byte by byte gives the order of their values, column by column. The encoding is version
[`ENCODING_VERSION`]; it never changes under that number, because files and log records hold it.

```text
    key        = component of column 1 | component of column 2 | …
    component  = 01 value      of a nullable column: a value
               | 02            of a nullable column: NULL, which sorts last
               | value         of a column that takes no NULL

    Int16, Int32, Int64, Date, Time, Timestamp, TimestampTz
               8 bytes: the i64, sign flipped, big-endian
    Float32, Float64
               8 bytes: the f64's bits in total order, big-endian; −0 is 0, and there is one NaN, which sorts last
    Boolean    1 byte: 0 or 1
    Decimal    16 bytes: the i128, sign flipped, big-endian; a column's values share one scale
    Interval   16 bytes: nanoseconds as i128, a month being 30 days and a day 24 hours; sign flipped, big-endian
    Uuid       16 bytes as they are
    Text, Bytes
               the bytes, each 00 as 00 FF, then 00 00
```

Every component is self-delimiting, and none is a proper prefix of another of its column. Hence all keys whose first k
columns have given values are exactly those that start with these columns' encoding, which is what [`KeyRange::prefix`]
and [`KeySchema::prefix_range`] rest on.

The encoding keeps the value's place in the order, not its spelling: 1 month and 30 days are one key, and so are −0 and 0.
Decoding gives the canonical value of the place. What was written stays in the row's columns.
*/

mod batch;
mod bound;
mod component;
mod schema;

pub use batch::EncodedKeys;
pub(crate) use bound::{BOUND_BYTES_MAX, decode_range, encode_bound};
pub(crate) use component::take_bytes;
pub use schema::{KeyColumn, KeySchema};

use std::borrow::Borrow;
use std::fmt;
use std::ops::Bound;

/// The number under which this encoding is named in files.
pub const ENCODING_VERSION: u8 = 1;

/// One encoded key. Its order is that of its bytes, which is that of its values.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Key(Box<[u8]>);

impl Key {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, owned.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0.into_vec()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Key {
    fn from(bytes: Vec<u8>) -> Self {
        Key(bytes.into_boxed_slice())
    }
}

impl From<&[u8]> for Key {
    fn from(bytes: &[u8]) -> Self {
        Key(bytes.into())
    }
}

/// What the index of a run may assume of all keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyShape {
    /// One component of exactly 8 bytes: the key is a number.
    Int,
    /// Two columns or more, the last one a component of exactly 8 bytes: (series, time) and its like. The prefix is all
    /// but the last 8 bytes, and no prefix starts with another.
    Series {
        /// The prefix's bytes, where all keys agree on them.
        prefix_fixed_width: Option<usize>,
    },
    /// Anything else.
    Bytes,
}

/// A range of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// Where it begins.
    pub start: Bound<Key>,
    /// Where it ends.
    pub end: Bound<Key>,
}

impl KeyRange {
    /// All keys.
    pub fn all() -> Self {
        KeyRange { start: Bound::Unbounded, end: Bound::Unbounded }
    }

    /// One key.
    pub fn point(key: Key) -> Self {
        KeyRange { start: Bound::Included(key.clone()), end: Bound::Included(key) }
    }

    /// All keys that start with these bytes.
    pub fn prefix(prefix: &[u8]) -> Self {
        if prefix.is_empty() {
            return KeyRange::all();
        }
        let end = successor(prefix).map_or(Bound::Unbounded, |key| Bound::Excluded(key.into()));
        KeyRange { start: Bound::Included(prefix.into()), end }
    }

    /// No key at all.
    pub fn empty() -> Self {
        KeyRange { start: Bound::Included(Key::default()), end: Bound::Excluded(Key::default()) }
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.starts_at_or_before(key) && self.ends_at_or_after(key)
    }

    /// Whether `key` is not before the range.
    pub fn starts_at_or_before(&self, key: &[u8]) -> bool {
        match &self.start {
            Bound::Included(start) => start.as_bytes() <= key,
            Bound::Excluded(start) => start.as_bytes() < key,
            Bound::Unbounded => true,
        }
    }

    /// Whether `key` is not after the range.
    pub fn ends_at_or_after(&self, key: &[u8]) -> bool {
        match &self.end {
            Bound::Included(end) => key <= end.as_bytes(),
            Bound::Excluded(end) => key < end.as_bytes(),
            Bound::Unbounded => true,
        }
    }

    /// Whether no byte string can lie in the range.
    pub fn is_empty(&self) -> bool {
        match (&self.start, &self.end) {
            (Bound::Unbounded, Bound::Excluded(end)) => end.as_bytes().is_empty(),
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
            (Bound::Included(start), Bound::Included(end)) => start > end,
            (Bound::Included(start) | Bound::Excluded(start), Bound::Excluded(end))
            | (Bound::Excluded(start), Bound::Included(end)) => start >= end,
        }
    }

    /// The keys that lie in both ranges.
    #[must_use]
    pub fn intersect(&self, other: &KeyRange) -> KeyRange {
        let start = if later_start(&self.start, &other.start) { &self.start } else { &other.start };
        let end = if earlier_end(&self.end, &other.end) { &self.end } else { &other.end };
        KeyRange { start: start.clone(), end: end.clone() }
    }
}

/// Whether a range that starts at `a` starts no earlier than one that starts at `b`.
fn later_start(a: &Bound<Key>, b: &Bound<Key>) -> bool {
    match (a, b) {
        (_, Bound::Unbounded) => true,
        (Bound::Unbounded, _) => false,
        (Bound::Excluded(a), Bound::Included(b) | Bound::Excluded(b)) | (Bound::Included(a), Bound::Included(b)) => {
            a >= b
        }
        (Bound::Included(a), Bound::Excluded(b)) => a > b,
    }
}

/// Whether a range that ends at `a` ends no later than one that ends at `b`.
fn earlier_end(a: &Bound<Key>, b: &Bound<Key>) -> bool {
    match (a, b) {
        (_, Bound::Unbounded) => true,
        (Bound::Unbounded, _) => false,
        (Bound::Excluded(a), Bound::Included(b) | Bound::Excluded(b)) | (Bound::Included(a), Bound::Included(b)) => {
            a <= b
        }
        (Bound::Included(a), Bound::Excluded(b)) => a < b,
    }
}

/// The smallest byte string that is greater than everything that starts with `prefix`; `None` where there is none.
pub fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut next = prefix.get(..=kept)?.to_vec();
    let last = next.last_mut()?;
    *last = last.checked_add(1)?;
    Some(next)
}

#[cfg(test)]
pub(crate) mod tests;
