/*!
Rows gathered in memory and sorted by key, to be written as a run.

Rows stay where they came in; sorted are entries of 24 bytes: the first sixteen bytes of the key as two numbers, and the
row's place. Keys of at most sixteen bytes, which most are, are compared by these alone, and their bytes need not be kept.
Rows that came in order are not sorted at all.

For two threads the entries are cut at the middle key before they are sorted, so that each thread sorts, gathers and
writes its own half, and nothing is merged afterwards.
*/

use crate::error::{Error, Result};
use crate::key::EncodedKeys;
use crate::run::RunBatch;
use crate::scan::merge::{BATCH_ROWS, EXPECT_ABSENT, RowStream, duplicate};
use crate::types::Seq;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder};
use arrow::datatypes::DataType;
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
    /// No key is longer than an entry holds, so far.
    short: bool,
}

impl Default for Rows {
    fn default() -> Self {
        Rows { batches: Vec::new(), rows: 0, bytes: 0, sorted: true, short: true }
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
    pub(crate) fn len(&self) -> usize {
        self.rows
    }

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
        self.short = self.short && keys.iter().all(|key| key.len() <= ENTRY_KEY_BYTES);
        let key_bytes = if self.short { 0 } else { keys.bytes() };
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
        let short = self.short;
        let mut entries: Vec<Entry> = Vec::with_capacity(self.rows);
        let mut batches = self.batches;
        for (place, batch) in batches.iter_mut().enumerate() {
            let base = u64::try_from(place).unwrap_or(u64::MAX) << 32;
            entries.extend(batch.keys.iter().zip(base..).map(|(key, at)| Entry::new(key, at)));
        }
        let rows = Arc::new(batches);
        let mut cut = vec![entries];
        if parts > 1 {
            cut = halves(cut.pop().unwrap_or_default(), &rows, short);
        }
        Ok(cut.into_iter().map(|entries| Part::Unsorted(Unsorted { rows: Arc::clone(&rows), entries, short, doubles })).collect())
    }

    fn in_order(self, parts: usize) -> Vec<Part> {
        let mut first = self.batches;
        let cut = if parts > 1 { first.len() / 2 } else { first.len() };
        let second = first.split_off(cut);
        let part = |batches: Vec<Gathered>| Part::Sorted(InOrder { batches: batches.into_iter(), current: None, at: 0 });
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

fn key_of<'a>(rows: &'a [Gathered], entry: &Entry) -> &'a [u8] {
    rows.get(entry.batch()).map(|batch| batch.keys.get(entry.row())).unwrap_or_default()
}

/// Zeros fill up a short head, so keys of different lengths may share one; then the bytes decide.
fn compare(rows: &[Gathered], a: &Entry, b: &Entry) -> std::cmp::Ordering {
    a.head().cmp(&b.head()).then_with(|| key_of(rows, a).cmp(key_of(rows, b))).then_with(|| a.at.cmp(&b.at))
}

/// Entries with one head are of one key, if all keys are short and of one length; else their bytes are looked at.
fn same_key(rows: &[Gathered], a: &Entry, b: &Entry) -> bool {
    a.head() == b.head() && key_of(rows, a) == key_of(rows, b)
}

/// Cuts the entries at their middle key; rows with one key stay together.
fn halves(mut entries: Vec<Entry>, rows: &[Gathered], short: bool) -> Vec<Vec<Entry>> {
    let middle = entries.len() / 2;
    let pivot = match short_fixed(rows, short) {
        true => *entries.select_nth_unstable(middle).1,
        false => *entries.select_nth_unstable_by(middle, |a, b| compare(rows, a, b)).1,
    };
    // All before the middle are no greater; those of the pivot's own key go to the right.
    let mut cut = middle;
    let mut place = 0;
    while place < cut {
        match entries.get(place) {
            Some(entry) if same_key(rows, entry, &pivot) => {
                cut -= 1;
                entries.swap(place, cut);
            }
            _ => place += 1,
        }
    }
    let right = entries.split_off(cut);
    [entries, right].into_iter().filter(|half| !half.is_empty()).collect()
}

/// Whether all keys are short and of one length, so that an entry's numbers are the key.
fn short_fixed(rows: &[Gathered], short: bool) -> bool {
    let Some(len) = rows.first().and_then(|batch| batch.keys.first()).map(<[u8]>::len) else { return false };
    short && rows.iter().all(|batch| batch.keys.bytes() == batch.keys.len() * len && batch.keys.get(0).len() == len)
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
                let least = part.entries.iter().min_by(|a, b| compare(&part.rows, a, b))?;
                let most = part.entries.iter().max_by(|a, b| compare(&part.rows, a, b))?;
                Some((key_of(&part.rows, least).to_vec(), key_of(&part.rows, most).to_vec(), part.entries.len()))
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct Unsorted {
    rows: Arc<Vec<Gathered>>,
    entries: Vec<Entry>,
    short: bool,
    doubles: Doubles,
}

impl Unsorted {
    fn sort(mut self) -> Result<(InKeyOrder, u64)> {
        let rows = Arc::clone(&self.rows);
        match short_fixed(&rows, self.short) {
            true => self.entries.sort_unstable(),
            false => self.entries.sort_unstable_by(|a, b| compare(&rows, a, b)),
        }
        let before = self.entries.len();
        let folded = self.settle_doubles()?;
        let lost = u64::try_from(before - self.entries.len()).unwrap_or(0);
        let columns = rows.first().map_or(0, |batch| batch.columns.len());
        let plain = rows.iter().all(|batch| !batch.delete);
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
            let Some(previous) = previous.filter(|previous| same_key(rows, previous, &entry)) else {
                if let Some(slot) = self.entries.get_mut(kept) {
                    *slot = entry;
                }
                kept += 1;
                continue;
            };
            match self.doubles {
                Doubles::Refuse => return Err(duplicate(key_of(rows, &entry))),
                Doubles::First => continue,
                Doubles::Last => {}
                Doubles::Fold => {
                    let batch = |entry: &Entry| rows.get(entry.batch());
                    let expects = |entry: &Entry| batch(entry).map_or(0, |batch| batch.expects.of(entry.row()));
                    let was_put = batch(&previous).is_some_and(|batch| !batch.delete);
                    if was_put && expects(&entry) == EXPECT_ABSENT {
                        return Err(duplicate(key_of(rows, &entry)));
                    }
                    let first = folded.remove(&previous.at).unwrap_or_else(|| expects(&previous));
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
    rows: Arc<Vec<Gathered>>,
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
        let like = self.rows.first().ok_or_else(|| Error::internal("rows without a batch"))?;
        let mut keys = like.keys.slice(0..0);
        let mut seqs = Vec::with_capacity(entries.len());
        let mut places = Vec::with_capacity(entries.len());
        for entry in entries {
            keys.push(key_of(&self.rows, entry));
            let expects = || self.rows.get(entry.batch()).map_or(0, |batch| batch.expects.of(entry.row()));
            seqs.push(match self.folded.is_empty() {
                true => expects(),
                false => self.folded.get(&entry.at).copied().unwrap_or_else(expects),
            });
            places.push((entry.batch(), entry.row()));
        }
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.columns);
        for column in 0..self.columns {
            let arrays: Vec<&dyn Array> =
                self.rows.iter().filter_map(|batch| batch.columns.get(column)).map(AsRef::as_ref).collect();
            columns.push(arrow::compute::interleave(&arrays, &places)?);
        }
        let tombstones = (!self.plain).then(|| {
            let mut kinds = BooleanBufferBuilder::new(entries.len());
            for entry in entries {
                kinds.append(self.rows.get(entry.batch()).is_some_and(|batch| batch.delete));
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
