/*!
Rows gathered in memory and sorted by key, to be written as a run.

Rows stay where they came in; sorted are entries of 24 bytes: the first sixteen bytes of the key as two numbers, and the
row's place. Keys of one length of at most sixteen bytes, which most are, are compared by these alone, and their bytes are
not kept. Rows that came in order are not sorted at all.

For two threads the entries are cut at the middle key before they are sorted, so that each thread sorts, gathers and
writes its own half, and nothing is merged afterwards.
*/

use crate::error::Result;
use crate::key::EncodedKeys;
use crate::run::RunBatch;
use crate::scan::merge::{BATCH_ROWS, EXPECT_ABSENT, RowStream, duplicate};
use crate::types::Seq;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder};
use arrow::datatypes::DataType;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of a key that an entry holds.
const ENTRY_KEY_BYTES: usize = 16;

/// Rows from which it pays to sort on several threads.
const PARALLEL_ROWS_MIN: usize = 100_000;

/// What becomes of rows with one key, by the order in which they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubles {
    /// They are an error.
    Refuse,
    /// The first one counts.
    First,
    /// The last one counts.
    Last,
    /// The last one counts with the first one's expectation; see [`Ties::Fold`](crate::scan::merge::Ties).
    Fold,
}

/// What rows expect of what is there already: 0 nothing, [`EXPECT_ABSENT`] no row, else the number of the row.
#[derive(Debug, Clone)]
pub(crate) enum Expects {
    All(Seq),
    Each(Vec<Seq>),
}

impl Expects {
    pub(crate) fn of(&self, row: usize) -> Seq {
        match self {
            Expects::All(seq) => *seq,
            Expects::Each(seqs) => seqs.get(row).copied().unwrap_or(0),
        }
    }
}

#[derive(Debug)]
struct Gathered {
    keys: EncodedKeys,
    columns: Vec<ArrayRef>,
    delete: bool,
    expects: Expects,
}

/// Rows gathered so far.
#[derive(Debug)]
pub(crate) struct Rows {
    batches: Vec<Gathered>,
    rows: usize,
    bytes: usize,
    /// All keys ascend strictly so far.
    sorted: bool,
    /// The length of all keys so far, where it is one that an entry holds.
    width: Option<usize>,
}

impl Default for Rows {
    fn default() -> Self {
        Rows { batches: Vec::new(), rows: 0, bytes: 0, sorted: true, width: None }
    }
}

/// Bytes that the rows of an array take, shared buffers counted by share.
fn array_bytes(array: &dyn Array) -> usize {
    let own = array.to_data().get_slice_memory_size().unwrap_or(0);
    let long = match array.data_type() {
        DataType::Utf8View => array
            .as_string_view()
            .views()
            .iter()
            .map(|view| usize::try_from(*view & 0xffff_ffff).unwrap_or(0))
            .filter(|len| *len > 12)
            .sum(),
        _ => 0,
    };
    own.max(array.len()) + long
}

/// Bytes that columns take in memory.
pub(crate) fn columns_bytes(columns: &[ArrayRef]) -> usize {
    columns.iter().map(|column| array_bytes(column.as_ref())).sum()
}

impl Rows {
    /// Bytes of the rows and of what sorting them takes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn push(&mut self, keys: EncodedKeys, columns: Vec<ArrayRef>, delete: bool, expects: Expects) {
        if keys.is_empty() {
            return;
        }
        let previous = self.batches.last().and_then(|batch| batch.keys.last());
        let follows = previous.is_none_or(|previous| keys.first().is_some_and(|first| previous < first));
        self.sorted = self.sorted && follows && keys.is_strictly_sorted();
        let width = common_width(&keys);
        self.width = if self.batches.is_empty() { width } else { self.width.filter(|_| self.width == width) };
        // While entries are made, keys that need not be kept go.
        let key_bytes = if self.width.is_some() { 0 } else { keys.bytes() };
        self.bytes += columns_bytes(&columns) + key_bytes + keys.len() * size_of::<Entry>();
        self.rows += keys.len();
        self.batches.push(Gathered { keys, columns, delete, expects });
    }

    /// The rows in key order, as streams whose key ranges follow each other; at most `threads` of them. With them comes
    /// how many rows gave way to another one with the same key.
    ///
    /// # Errors
    /// `DuplicateKey`, about the key, where doubled keys are refused.
    pub(crate) fn sorted(self, doubles: Doubles, threads: usize) -> Result<Vec<Part>> {
        if self.batches.is_empty() {
            return Ok(Vec::new());
        }
        let parts = if self.rows >= PARALLEL_ROWS_MIN { threads.clamp(1, 2) } else { 1 };
        if self.sorted {
            return Ok(self.in_order(parts));
        }
        let mut entries: Vec<Entry> = Vec::with_capacity(self.rows);
        let mut batches = self.batches;
        for (place, batch) in batches.iter_mut().enumerate() {
            let base = u64::try_from(place).unwrap_or(u64::MAX) << 32;
            entries.extend(batch.keys.iter().zip(base..).map(|(key, at)| Entry::new(key, at)));
            if self.width.is_some() {
                batch.keys = EncodedKeys::with_capacity(self.width, 0);
            }
        }
        let rows = Arc::new(Table { batches, width: self.width });
        let mut cut = vec![entries];
        if parts > 1 {
            cut = rows.halves(cut.pop().unwrap_or_default());
        }
        let part = |entries| Part::Unsorted(Unsorted { rows: Arc::clone(&rows), entries, doubles });
        Ok(cut.into_iter().map(part).collect())
    }

    fn in_order(self, parts: usize) -> Vec<Part> {
        let mut first = self.batches;
        let cut = if parts > 1 { first.len() / 2 } else { first.len() };
        let second = first.split_off(cut);
        let part =
            |batches: Vec<Gathered>| Part::Sorted(InOrder { batches: batches.into_iter(), current: None, at: 0 });
        [first, second].into_iter().filter(|batches| !batches.is_empty()).map(part).collect()
    }
}

/// A key's head and a row's place: batch number in the upper half, row in the lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    high: u64,
    low: u64,
    at: u64,
}

impl Entry {
    fn new(key: &[u8], at: u64) -> Self {
        let mut head = [0u8; ENTRY_KEY_BYTES];
        head.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
        let head = u128::from_be_bytes(head);
        let [high, low] = [head >> 64, head & u128::from(u64::MAX)].map(|half| u64::try_from(half).unwrap_or(0));
        Entry { high, low, at }
    }

    fn bytes(&self) -> [u8; ENTRY_KEY_BYTES] {
        (u128::from(self.high) << 64 | u128::from(self.low)).to_be_bytes()
    }

    fn head(&self) -> (u64, u64) {
        (self.high, self.low)
    }

    fn batch(&self) -> usize {
        usize::try_from(self.at >> 32).unwrap_or(usize::MAX)
    }

    fn row(&self) -> usize {
        usize::try_from(self.at & 0xffff_ffff).unwrap_or(usize::MAX)
    }
}

/// The one length of these keys, if an entry holds it.
fn common_width(keys: &EncodedKeys) -> Option<usize> {
    let width = keys.first()?.len();
    let all =
        width <= ENTRY_KEY_BYTES && keys.bytes() == keys.len() * width && keys.iter().all(|key| key.len() == width);
    all.then_some(width)
}

/// Rows as they came, with what is needed to compare them.
#[derive(Debug)]
struct Table {
    batches: Vec<Gathered>,
    /// The length of all keys, where entries hold all of them and the keys' own bytes are gone.
    width: Option<usize>,
}

impl Table {
    fn batch(&self, entry: &Entry) -> Option<&Gathered> {
        self.batches.get(entry.batch())
    }

    fn expects(&self, entry: &Entry) -> Seq {
        self.batch(entry).map_or(0, |batch| batch.expects.of(entry.row()))
    }

    /// Hands the entry's key to `take`.
    fn with_key<T>(&self, entry: &Entry, take: impl FnOnce(&[u8]) -> T) -> T {
        match self.width {
            Some(width) => take(entry.bytes().get(..width).unwrap_or_default()),
            None => take(self.stored_key(entry)),
        }
    }

    fn stored_key(&self, entry: &Entry) -> &[u8] {
        self.batch(entry).map(|batch| batch.keys.get(entry.row())).unwrap_or_default()
    }

    /// Zeros fill up a short head, so keys of different lengths may share one; then the bytes decide.
    fn compare(&self, a: &Entry, b: &Entry) -> Ordering {
        match self.width {
            Some(_) => a.cmp(b),
            None => {
                let keys = || self.stored_key(a).cmp(self.stored_key(b));
                a.head().cmp(&b.head()).then_with(keys).then_with(|| a.at.cmp(&b.at))
            }
        }
    }

    fn same_key(&self, a: &Entry, b: &Entry) -> bool {
        a.head() == b.head() && (self.width.is_some() || self.stored_key(a) == self.stored_key(b))
    }

    fn sort(&self, entries: &mut [Entry]) {
        match self.width {
            Some(_) => entries.sort_unstable(),
            None => entries.sort_unstable_by(|a, b| self.compare(a, b)),
        }
    }

    /// Cuts the entries at their middle key; rows with one key stay together.
    fn halves(&self, mut entries: Vec<Entry>) -> Vec<Vec<Entry>> {
        let middle = entries.len() / 2;
        let pivot = match self.width {
            Some(_) => *entries.select_nth_unstable(middle).1,
            None => *entries.select_nth_unstable_by(middle, |a, b| self.compare(a, b)).1,
        };
        // All before the middle are no greater; those of the pivot's own key go to the right.
        let mut cut = middle;
        let mut place = 0;
        while place < cut {
            match entries.get(place) {
                Some(entry) if self.same_key(entry, &pivot) => {
                    cut -= 1;
                    entries.swap(place, cut);
                }
                _ => place += 1,
            }
        }
        let right = entries.split_off(cut);
        [entries, right].into_iter().filter(|half| !half.is_empty()).collect()
    }
}

/// Rows of one stretch of keys.
#[derive(Debug)]
pub(crate) enum Part {
    Sorted(InOrder),
    Unsorted(Unsorted),
}

impl Part {
    /// Sorts them, where they are not.
    pub(crate) fn stream(self) -> Result<(Box<dyn RowStream>, u64)> {
        match self {
            Part::Sorted(rows) => Ok((Box::new(rows), 0)),
            Part::Unsorted(rows) => {
                let (stream, lost) = rows.sort()?;
                Ok((Box::new(stream), lost))
            }
        }
    }

    /// The first and last key, and how many rows; found by looking at all of them.
    pub(crate) fn extent(&self) -> Option<(Vec<u8>, Vec<u8>, usize)> {
        match self {
            Part::Sorted(rows) => {
                let batches = rows.batches.as_slice();
                let first = batches.first()?.keys.first()?.to_vec();
                let last = batches.last()?.keys.last()?.to_vec();
                Some((first, last, batches.iter().map(|batch| batch.keys.len()).sum()))
            }
            Part::Unsorted(part) => {
                let least = part.entries.iter().min_by(|a, b| part.rows.compare(a, b))?;
                let most = part.entries.iter().max_by(|a, b| part.rows.compare(a, b))?;
                let key = |entry: &Entry| part.rows.with_key(entry, <[u8]>::to_vec);
                Some((key(least), key(most), part.entries.len()))
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct Unsorted {
    rows: Arc<Table>,
    entries: Vec<Entry>,
    doubles: Doubles,
}

impl Unsorted {
    fn sort(mut self) -> Result<(InKeyOrder, u64)> {
        let rows = Arc::clone(&self.rows);
        rows.sort(&mut self.entries);
        let before = self.entries.len();
        let folded = self.settle_doubles()?;
        let lost = u64::try_from(before - self.entries.len()).unwrap_or(0);
        let columns = rows.batches.first().map_or(0, |batch| batch.columns.len());
        let plain = rows.batches.iter().all(|batch| !batch.delete);
        Ok((InKeyOrder { rows, entries: self.entries, at: 0, folded, columns, plain }, lost))
    }

    /// Leaves one entry of each key, and gives the expectations that it takes over from others.
    fn settle_doubles(&mut self) -> Result<BTreeMap<u64, Seq>> {
        let rows = &self.rows;
        let mut folded = BTreeMap::new();
        let mut kept: usize = 0;
        for place in 0..self.entries.len() {
            let Some(entry) = self.entries.get(place).copied() else { break };
            let previous = kept.checked_sub(1).and_then(|place| self.entries.get(place)).copied();
            let Some(previous) = previous.filter(|previous| rows.same_key(previous, &entry)) else {
                if let Some(slot) = self.entries.get_mut(kept) {
                    *slot = entry;
                }
                kept += 1;
                continue;
            };
            match self.doubles {
                Doubles::Refuse => return Err(rows.with_key(&entry, duplicate)),
                Doubles::First => continue,
                Doubles::Last => {}
                Doubles::Fold => {
                    let was_put = rows.batch(&previous).is_some_and(|batch| !batch.delete);
                    if was_put && rows.expects(&entry) == EXPECT_ABSENT {
                        return Err(rows.with_key(&entry, duplicate));
                    }
                    let first = folded.remove(&previous.at).unwrap_or_else(|| rows.expects(&previous));
                    folded.insert(entry.at, first);
                }
            }
            if let Some(slot) = kept.checked_sub(1).and_then(|place| self.entries.get_mut(place)) {
                *slot = entry;
            }
        }
        self.entries.truncate(kept);
        Ok(folded)
    }
}

/// Rows gathered in the order of sorted entries.
#[derive(Debug)]
struct InKeyOrder {
    rows: Arc<Table>,
    entries: Vec<Entry>,
    at: usize,
    folded: BTreeMap<u64, Seq>,
    columns: usize,
    /// No row is a tombstone.
    plain: bool,
}

impl RowStream for InKeyOrder {
    fn next(&mut self) -> Result<Option<RunBatch>> {
        let end = (self.at + BATCH_ROWS).min(self.entries.len());
        let Some(entries) = self.entries.get(self.at..end).filter(|entries| !entries.is_empty()) else {
            return Ok(None);
        };
        self.at = end;
        let mut keys = EncodedKeys::with_capacity(self.rows.width, entries.len());
        let mut seqs = Vec::with_capacity(entries.len());
        let mut places = Vec::with_capacity(entries.len());
        for entry in entries {
            self.rows.with_key(entry, |key| keys.push(key));
            let folded = if self.folded.is_empty() { None } else { self.folded.get(&entry.at).copied() };
            seqs.push(folded.unwrap_or_else(|| self.rows.expects(entry)));
            places.push((entry.batch(), entry.row()));
        }
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.columns);
        for column in 0..self.columns {
            let arrays: Vec<&dyn Array> =
                self.rows.batches.iter().filter_map(|batch| batch.columns.get(column)).map(AsRef::as_ref).collect();
            columns.push(arrow::compute::interleave(&arrays, &places)?);
        }
        let tombstones = (!self.plain).then(|| {
            let mut kinds = BooleanBufferBuilder::new(entries.len());
            for entry in entries {
                kinds.append(self.rows.batch(entry).is_some_and(|batch| batch.delete));
            }
            BooleanArray::new(kinds.finish(), None)
        });
        Ok(Some(RunBatch { keys, seqs, tombstones, columns }))
    }
}

/// Rows that came in key order, handed on as they came.
#[derive(Debug)]
pub(crate) struct InOrder {
    batches: std::vec::IntoIter<Gathered>,
    current: Option<Gathered>,
    at: usize,
}

impl RowStream for InOrder {
    fn next(&mut self) -> Result<Option<RunBatch>> {
        loop {
            if self.current.as_ref().is_none_or(|batch| self.at >= batch.keys.len()) {
                self.current = self.batches.next();
                self.at = 0;
            }
            let Some(batch) = &self.current else { return Ok(None) };
            let rows = self.at..(self.at + BATCH_ROWS).min(batch.keys.len());
            self.at = rows.end;
            if rows.is_empty() {
                continue;
            }
            let len = rows.len();
            return Ok(Some(RunBatch {
                keys: batch.keys.slice(rows.clone()),
                seqs: rows.clone().map(|row| batch.expects.of(row)).collect(),
                tombstones: batch.delete.then(|| BooleanArray::from(vec![true; len])),
                columns: batch.columns.iter().map(|column| column.slice(rows.start, len)).collect(),
            }));
        }
    }
}
