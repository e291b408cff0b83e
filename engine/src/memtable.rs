/*!
Rows that are in the log but not yet in a run: a concurrent skip list over (key bytes ascending, sequence number
descending), so that the first version at or after `(key, snapshot)` is the newest one which that snapshot sees.

Any number of threads insert and read at the same time; nobody waits. A version never changes and never leaves: the
whole memtable is dropped at once when its run is published. So what a snapshot saw once, it sees again.

One version costs two allocations: the list's node, and one block that holds key and row together, which readers share
by reference count and may keep for as long as they like. The key's first eight bytes stand in the node itself, as a
number: most comparisons of a search end there, without touching the block. An eight-byte key (one integer or time
column) is compared by them alone.

A lookup allocates nothing. The list searches through `Borrow`, so stored versions and probes meet as `dyn Place`.

It knows no row format, no snapshot rules beyond "at or below this number", and no limit of its own: [`Memtable::bytes`]
says what it holds, and the owner decides when that is enough.
*/

use crate::io::thread;
use crate::key::{Key, KeyRange};
use crate::types::Seq;
use crossbeam_skiplist::SkipMap;
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering as Memory};

/// What a version beside its key and row costs: its node with a tower of two links on average, the block's two
/// counts, and the allocator's own bytes for both.
const VERSION_BYTES: usize = size_of::<Version>() + 72;

/// Bytes of memory that a version takes whose key and row have so many together, about.
pub fn version_bytes(key_and_row: usize) -> usize {
    key_and_row + VERSION_BYTES
}

/// Versions of one key that a scan steps over before it searches for the next key instead.
const STEPS_MAX: usize = 4;

/// Versions a [`Cursor`] takes at once: few at first, for readers that want only a few, then more.
const CURSOR_BLOCK_FIRST: usize = 16;
const CURSOR_BLOCK_MAX: usize = 1024;

/// What a version says of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The key has this row.
    Put,
    /// The key has no row.
    Tombstone,
}

/// A range of encoded keys, borrowed.
type Keys<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

fn borrow(keys: &KeyRange) -> Keys<'_> {
    (keys.start.as_ref().map(Key::as_bytes), keys.end.as_ref().map(Key::as_bytes))
}

/// One version of one key. Cheap to clone; stays good after the memtable is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    seq: Seq,
    kind: Kind,
    key_bytes: usize,
    block: Arc<[u8]>,
}

impl Entry {
    /// A version that no memtable has yet.
    pub fn new(key: &[u8], seq: Seq, kind: Kind, row: &[u8]) -> Self {
        // Filled where it lies: `Arc::from(vec)` would allocate and copy a second time.
        let mut block: Arc<[u8]> = std::iter::repeat_n(0, key.len() + row.len()).collect();
        if let Some((key_place, row_place)) = Arc::get_mut(&mut block).and_then(|b| b.split_at_mut_checked(key.len())) {
            key_place.copy_from_slice(key);
            row_place.copy_from_slice(row);
        }
        Entry { seq, kind, key_bytes: key.len(), block }
    }

    /// The same, written by another commit.
    #[must_use]
    pub fn at(self, seq: Seq) -> Self {
        Entry { seq, ..self }
    }

    /// The encoded key.
    pub fn key(&self) -> &[u8] {
        self.block.get(..self.key_bytes).unwrap_or_default()
    }

    /// The encoded row; whatever was inserted with a tombstone, mostly nothing.
    pub fn row(&self) -> &[u8] {
        self.block.get(self.key_bytes..).unwrap_or_default()
    }

    /// The commit that wrote it.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// Put or tombstone.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether it says that the key has no row.
    pub fn is_tombstone(&self) -> bool {
        self.kind == Kind::Tombstone
    }
}

/// A place in the list's order, of a stored version or of a probe.
#[derive(Clone, Copy)]
struct View<'a> {
    head: u64,
    key: &'a [u8],
    seq: Seq,
}

trait Place {
    fn view(&self) -> View<'_>;
}

impl Place for View<'_> {
    fn view(&self) -> View<'_> {
        *self
    }
}

impl<'a> View<'a> {
    fn new(key: &'a [u8], seq: Seq) -> Self {
        View { head: head(key), key, seq }
    }

    fn compare_keys(&self, other: &Self) -> Ordering {
        self.head.cmp(&other.head).then_with(|| {
            // Equal heads: keys that fit in them differ at most in trailing zeros, so the shorter one is less.
            match self.key.len().max(other.key.len()) <= size_of::<u64>() {
                true => self.key.len().cmp(&other.key.len()),
                false => self.key.cmp(other.key),
            }
        })
    }

    fn compare(&self, other: &Self) -> Ordering {
        self.compare_keys(other).then_with(|| other.seq.cmp(&self.seq))
    }
}

/// The first eight bytes of `key` as a number, filled up with zeros: keys are in the order of these, or equal in them.
pub(crate) fn head(key: &[u8]) -> u64 {
    match key.first_chunk::<8>() {
        Some(first) => u64::from_be_bytes(*first),
        None => key.iter().zip((0..8).rev()).fold(0, |head, (byte, place)| head | u64::from(*byte) << (8 * place)),
    }
}

impl PartialEq for dyn Place + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for dyn Place + '_ {}

impl PartialOrd for dyn Place + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for dyn Place + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.view().compare(&other.view())
    }
}

/// A stored version: the list's key. Its order is that of its [`View`].
struct Version {
    head: u64,
    entry: Entry,
}

impl Place for Version {
    fn view(&self) -> View<'_> {
        View { head: self.head, key: self.entry.key(), seq: self.entry.seq }
    }
}

impl<'a> Borrow<dyn Place + 'a> for Version {
    fn borrow(&self) -> &(dyn Place + 'a) {
        self
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.view().compare(&other.view())
    }
}

type Node<'a> = crossbeam_skiplist::map::Entry<'a, Version, ()>;

/// Rows not yet in a run.
pub struct Memtable {
    id: u64,
    versions: SkipMap<Version, ()>,
    bytes: AtomicUsize,
    max_seq: AtomicU64,
}

impl std::fmt::Debug for Memtable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memtable").field("id", &self.id).field("rows", &self.rows()).finish_non_exhaustive()
    }
}

/// Version by version, so that a thread that has stepped back can give way meanwhile: a full memtable takes tens of milliseconds.
impl Drop for Memtable {
    fn drop(&mut self) {
        for (step, version) in std::mem::take(&mut self.versions).into_iter().enumerate() {
            drop(version);
            thread::give_way_at(step);
        }
    }
}

impl Memtable {
    /// An empty memtable, called `id` by its owner.
    pub fn new(id: u64) -> Self {
        Memtable { id, versions: SkipMap::new(), bytes: AtomicUsize::new(0), max_seq: AtomicU64::new(0) }
    }

    /// What its owner calls it.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Adds a version. A commit has one version of a key: the same (key, seq) again replaces the first, is counted
    /// twice in [`Memtable::bytes`], and a reader may for a moment see neither.
    pub fn insert(&self, key: &[u8], seq: Seq, kind: Kind, row: &[u8]) {
        self.insert_entry(Entry::new(key, seq, kind, row));
    }

    /// As [`Memtable::insert`], of a version that is made already.
    pub fn insert_entry(&self, entry: Entry) {
        // Counted first, so that a reader of the counters never sees too little.
        self.bytes.fetch_add(version_bytes(entry.block.len()), Memory::Relaxed);
        self.max_seq.fetch_max(entry.seq, Memory::Relaxed);
        self.versions.insert(Version { head: head(entry.key()), entry }, ());
    }

    /// The newest version of `key` at or below `at`, be it a put or a tombstone.
    pub fn get(&self, key: &[u8], at: Seq) -> Option<Entry> {
        let probe = View::new(key, at);
        let node = self.first_from(Bound::Included(probe))?;
        let version = node.key();
        version.view().compare_keys(&probe).is_eq().then(|| version.entry.clone())
    }

    /// The newest version of `key`.
    pub fn latest(&self, key: &[u8]) -> Option<Entry> {
        self.get(key, Seq::MAX)
    }

    /// The newest version at or below `at` of every key in `keys`, in key order or, `reverse`, from the last to the
    /// first. Versions inserted meanwhile may or may not come.
    pub fn range<'a>(&'a self, keys: &'a KeyRange, at: Seq, reverse: bool) -> Range<'a> {
        let (start, end) = borrow(keys);
        match reverse {
            false => Range(Walk::Forward(Forward { table: self, next: self.first_of(start), end, at })),
            true => Range(Walk::Backward(Backward { table: self, start, end: End::Key(end), at })),
        }
    }

    /// As [`Memtable::range`], but it keeps the memtable alive and borrows nothing.
    pub fn cursor(self: &Arc<Self>, keys: KeyRange, at: Seq, reverse: bool) -> Cursor {
        Cursor {
            table: Arc::clone(self),
            keys,
            at,
            reverse,
            block: VecDeque::new(),
            block_len: CURSOR_BLOCK_FIRST,
            done: false,
        }
    }

    /// Bytes of memory it takes, about.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Memory::Relaxed)
    }

    /// Versions it holds.
    pub fn rows(&self) -> usize {
        self.versions.len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.versions.is_empty()
    }

    /// The highest sequence number in it; 0 when empty.
    pub fn max_seq(&self) -> Seq {
        self.max_seq.load(Memory::Relaxed)
    }

    fn first_from(&self, bound: Bound<View<'_>>) -> Option<Node<'_>> {
        match &bound {
            Bound::Included(probe) => self.versions.lower_bound(Bound::Included(probe as &dyn Place)),
            Bound::Excluded(probe) => self.versions.lower_bound(Bound::Excluded(probe as &dyn Place)),
            Bound::Unbounded => self.versions.front(),
        }
    }

    fn last_before(&self, bound: Bound<View<'_>>) -> Option<Node<'_>> {
        match &bound {
            Bound::Included(probe) => self.versions.upper_bound(Bound::Included(probe as &dyn Place)),
            Bound::Excluded(probe) => self.versions.upper_bound(Bound::Excluded(probe as &dyn Place)),
            Bound::Unbounded => self.versions.back(),
        }
    }

    /// The newest version of the first key that `start` lets in.
    fn first_of(&self, start: Bound<&[u8]>) -> Option<Node<'_>> {
        self.first_from(match start {
            Bound::Included(key) => Bound::Included(View::new(key, Seq::MAX)),
            Bound::Excluded(key) => Bound::Excluded(View::new(key, 0)),
            Bound::Unbounded => Bound::Unbounded,
        })
    }

    /// The oldest version of the last key that `end` lets in.
    fn last_of(&self, end: Bound<&[u8]>) -> Option<Node<'_>> {
        self.last_before(match end {
            Bound::Included(key) => Bound::Included(View::new(key, 0)),
            Bound::Excluded(key) => Bound::Excluded(View::new(key, Seq::MAX)),
            Bound::Unbounded => Bound::Unbounded,
        })
    }
}

/// What [`Memtable::range`] gives.
pub struct Range<'a>(Walk<'a>);

enum Walk<'a> {
    Forward(Forward<'a>),
    Backward(Backward<'a>),
}

impl Iterator for Range<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        match &mut self.0 {
            Walk::Forward(walk) => walk.next(),
            Walk::Backward(walk) => walk.next(),
        }
    }
}

struct Forward<'a> {
    table: &'a Memtable,
    /// Where the walk stands; `None` when it is over.
    next: Option<Node<'a>>,
    end: Bound<&'a [u8]>,
    at: Seq,
}

impl<'a> Forward<'a> {
    fn next(&mut self) -> Option<Entry> {
        loop {
            let node = self.next.take()?;
            let version = node.key();
            if is_past(self.end, version.entry.key()) {
                return None;
            }
            if version.entry.seq > self.at {
                // The newest ones are too new: on to the first that is not, or to the next key.
                let probe = View { seq: self.at, ..version.view() };
                self.next = self.skip(&node, Bound::Included(probe));
                continue;
            }
            let probe = View { seq: 0, ..version.view() };
            self.next = self.skip(&node, Bound::Excluded(probe));
            return Some(version.entry.clone());
        }
    }

    /// The first version after `node` that `to` lets in: a few steps, then a search.
    fn skip(&self, node: &Node<'a>, to: Bound<View<'_>>) -> Option<Node<'a>> {
        let mut next = node.next()?;
        for _ in 0..STEPS_MAX {
            let place = next.key().view();
            let inside = match &to {
                Bound::Included(probe) => place.compare(probe).is_ge(),
                Bound::Excluded(probe) => place.compare(probe).is_gt(),
                Bound::Unbounded => true,
            };
            if inside {
                return Some(next);
            }
            next = next.next()?;
        }
        self.table.first_from(to)
    }
}

/// Whether `key` lies behind `end`.
fn is_past(end: Bound<&[u8]>, key: &[u8]) -> bool {
    match end {
        Bound::Included(end) => key > end,
        Bound::Excluded(end) => key >= end,
        Bound::Unbounded => false,
    }
}

/// Whether `key` lies before `start`.
fn is_before(start: Bound<&[u8]>, key: &[u8]) -> bool {
    match start {
        Bound::Included(start) => key < start,
        Bound::Excluded(start) => key <= start,
        Bound::Unbounded => false,
    }
}

/// Backwards the list has no links and meets a key's oldest version first: two searches for each key.
struct Backward<'a> {
    table: &'a Memtable,
    start: Bound<&'a [u8]>,
    end: End<'a>,
    at: Seq,
}

enum End<'a> {
    /// Nothing was given yet.
    Key(Bound<&'a [u8]>),
    /// All before this entry's key.
    Before(Entry),
    /// The walk is over.
    Over,
}

impl Backward<'_> {
    fn next(&mut self) -> Option<Entry> {
        loop {
            let oldest = match &self.end {
                End::Key(end) => self.table.last_of(*end),
                End::Before(entry) => self.table.last_of(Bound::Excluded(entry.key())),
                End::Over => None,
            };
            let oldest = oldest.map(|node| node.key().entry.clone());
            let Some(oldest) = oldest.filter(|entry| !is_before(self.start, entry.key())) else {
                self.end = End::Over;
                return None;
            };
            let visible = match oldest.seq <= self.at {
                true => self.table.get(oldest.key(), self.at),
                false => None,
            };
            self.end = End::Before(oldest);
            if visible.is_some() {
                return visible;
            }
        }
    }
}

/// A walk over a range that owns what it needs; see [`Memtable::cursor`].
#[derive(Debug)]
pub struct Cursor {
    table: Arc<Memtable>,
    /// What is still to come.
    keys: KeyRange,
    at: Seq,
    reverse: bool,
    block: VecDeque<Entry>,
    block_len: usize,
    done: bool,
}

impl Cursor {
    fn refill(&mut self) {
        self.block.extend(self.table.range(&self.keys, self.at, self.reverse).take(self.block_len));
        self.done = self.block.len() < self.block_len;
        self.block_len = (self.block_len * 4).min(CURSOR_BLOCK_MAX);
        if let Some(last) = self.block.back() {
            let beyond = Bound::Excluded(Key::from(last.key()));
            match self.reverse {
                false => self.keys.start = beyond,
                true => self.keys.end = beyond,
            }
        }
    }
}

impl Iterator for Cursor {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        if self.block.is_empty() && !self.done {
            self.refill();
        }
        self.block.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::thread;
    use proptest::prelude::*;
    use std::cmp::Reverse;
    use std::collections::BTreeMap;

    type Model = BTreeMap<(Vec<u8>, Reverse<Seq>), (Kind, Vec<u8>)>;
    type Row = (Vec<u8>, Seq, Kind, Vec<u8>);

    fn row(entry: Entry) -> Row {
        (entry.key().to_vec(), entry.seq(), entry.kind(), entry.row().to_vec())
    }

    fn model_get(model: &Model, key: &[u8], at: Seq) -> Option<Row> {
        let (found, value) = model.range((key.to_vec(), Reverse(at))..).next()?;
        (found.0 == key).then(|| (key.to_vec(), found.1.0, value.0, value.1.clone()))
    }

    fn model_range(model: &Model, keys: &KeyRange, at: Seq) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        for ((key, Reverse(seq)), (kind, row)) in model {
            let inside = keys.contains(key) && *seq <= at;
            if inside && rows.last().is_none_or(|last| last.0 != *key) {
                rows.push((key.clone(), *seq, *kind, row.clone()));
            }
        }
        rows
    }

    fn check_range(table: &Arc<Memtable>, model: &Model, keys: &KeyRange, at: Seq) {
        let mut expect = model_range(model, keys, at);
        assert_eq!(table.range(keys, at, false).map(row).collect::<Vec<_>>(), expect);
        assert_eq!(table.cursor(keys.clone(), at, false).map(row).collect::<Vec<_>>(), expect);
        expect.reverse();
        assert_eq!(table.range(keys, at, true).map(row).collect::<Vec<_>>(), expect);
        assert_eq!(table.cursor(keys.clone(), at, true).map(row).collect::<Vec<_>>(), expect);
    }

    /// Short keys of few different bytes: prefixes of each other, around the eight bytes of a head.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(255)], 0..4),
            proptest::collection::vec(prop_oneof![Just(0u8), Just(7)], 6..11),
        ]
    }

    fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
        prop_oneof![Just(Bound::Unbounded), key().prop_map(Bound::Included), key().prop_map(Bound::Excluded)]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

        #[test]
        fn it_answers_as_an_ordered_map_of_versions(
            versions in proptest::collection::vec((key(), 0u64..12, any::<bool>()), 0..120),
            probes in proptest::collection::vec((key(), 0u64..14), 1..40),
            ranges in proptest::collection::vec((bound(), bound(), 0u64..14), 1..20),
        ) {
            let table = Arc::new(Memtable::new(1));
            let mut model = Model::new();
            for (n, (key, seq, put)) in versions.into_iter().enumerate() {
                let kind = if put { Kind::Put } else { Kind::Tombstone };
                let row = n.to_string().into_bytes();
                table.insert(&key, seq, kind, &row);
                model.insert((key, Reverse(seq)), (kind, row));
            }
            prop_assert_eq!(table.rows(), model.len());
            prop_assert_eq!(table.is_empty(), model.is_empty());
            prop_assert_eq!(table.max_seq(), model.keys().map(|k| k.1.0).max().unwrap_or(0));
            for (key, at) in &probes {
                prop_assert_eq!(table.get(key, *at).map(row), model_get(&model, key, *at));
                prop_assert_eq!(table.latest(key).map(row), model_get(&model, key, Seq::MAX));
            }
            for (start, end, at) in &ranges {
                let own = |bound: &Bound<Vec<u8>>| bound.clone().map(Key::from);
                check_range(&table, &model, &KeyRange { start: own(start), end: own(end) }, *at);
            }
        }
    }

    #[test]
    fn a_key_with_very_many_versions_is_found_at_every_snapshot() {
        let table = Arc::new(Memtable::new(1));
        let mut model = Model::new();
        for key in [&b"before"[..], b"hot", b"later"] {
            let versions = if key == b"hot" { 5000 } else { 1 };
            for seq in 1..=versions {
                table.insert(key, seq, Kind::Put, &seq.to_le_bytes());
                model.insert((key.to_vec(), Reverse(seq)), (Kind::Put, seq.to_le_bytes().to_vec()));
            }
        }
        for at in [0, 1, 2, 2500, 4999, 5000, Seq::MAX] {
            check_range(&table, &model, &KeyRange::all(), at);
            assert_eq!(table.get(b"hot", at).map(|e| e.seq()), (at > 0).then(|| at.min(5000)));
        }
    }

    #[test]
    fn a_cursor_longer_than_its_blocks_misses_and_repeats_nothing() {
        let table = Arc::new(Memtable::new(1));
        let mut model = Model::new();
        for n in 0u64..5000 {
            let key = n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
            table.insert(&key, n % 7, Kind::Put, b"");
            model.insert((key.to_vec(), Reverse(n % 7)), (Kind::Put, Vec::new()));
        }
        check_range(&table, &model, &KeyRange::all(), 4);
    }

    #[test]
    fn threads_insert_at_once_and_readers_see_whole_versions_in_order() {
        let table = Arc::new(Memtable::new(1));
        let write = |thread: u64| {
            let table = Arc::clone(&table);
            move || {
                for n in 0..2000u64 {
                    let key = (n * 4 + thread).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
                    table.insert(&key, n + 1, Kind::Put, &key);
                }
            }
        };
        let read = |reverse: bool| {
            let table = Arc::clone(&table);
            move || {
                for _ in 0..10 {
                    let keys: Vec<_> = table
                        .range(&KeyRange::all(), Seq::MAX, reverse)
                        .inspect(|entry| assert_eq!(entry.key(), entry.row()))
                        .map(|entry| entry.key().to_vec())
                        .collect();
                    assert!(keys.is_sorted_by(|a, b| if reverse { a > b } else { a < b }));
                }
            }
        };
        let writers = (0..4).map(|n| thread::spawn("writer", write(n)).unwrap());
        let readers = [false, true].map(|reverse| thread::spawn("reader", read(reverse)).unwrap());
        for thread in writers.collect::<Vec<_>>().into_iter().chain(readers) {
            thread.join().unwrap();
        }
        assert_eq!(table.rows(), 8000);
        assert_eq!(table.max_seq(), 2000);
        assert_eq!(table.range(&KeyRange::all(), Seq::MAX, false).count(), 8000);
    }

    #[test]
    fn bytes_grow_by_at_least_what_was_inserted() {
        let table = Memtable::new(9);
        assert_eq!((table.bytes(), table.id()), (0, 9));
        table.insert(&[1; 100], 1, Kind::Put, &[2; 1000]);
        assert!(table.bytes() >= 1100 && table.bytes() < 1500, "{}", table.bytes());
    }

    #[test]
    fn an_entry_outlives_its_memtable() {
        let table = Memtable::new(1);
        table.insert(b"k", 3, Kind::Tombstone, b"");
        let entry = table.latest(b"k").unwrap();
        drop(table);
        assert_eq!(row(entry), (b"k".to_vec(), 3, Kind::Tombstone, Vec::new()));
    }
}
