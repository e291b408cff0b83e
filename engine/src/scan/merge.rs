/*!
Merges streams of rows, each sorted by key, into one: of the rows with one key the newest stream's counts.

Streams rarely alternate row by row. So the merge looks how far the stream with the least key stays ahead of all others,
and takes that many rows at once, mostly a whole batch without copying it. What comes in short pieces is gathered into
batches of [`BATCH_ROWS`].

The merge knows nothing of snapshots: streams give at most one row of a key. It compares keys' bytes only.
*/

use crate::error::{Error, ErrorKind, Result};
use crate::io::thread;
use crate::run::{GROWTH, RunBatch};
use crate::scan::ScanMetrics;
use crate::scan::rows::{empty_keys, has_tombstones, seq_of, slice};
use crate::types::Seq;
use arrow::array::{Array, ArrayRef, BooleanArray, BooleanBufferBuilder};
use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

/// Rows of a batch.
pub(crate) const BATCH_ROWS: usize = 8192;

/// Pieces of so many rows are handed on as they are.
const PIECE_ROWS_LONG: usize = 1024;

/// Rows in key order, batch by batch. Batches are never empty.
pub(crate) trait RowStream: Send + std::fmt::Debug {
    fn next(&mut self) -> Result<Option<RunBatch>>;

    /// What reading has come to so far.
    fn metrics(&self) -> ScanMetrics {
        ScanMetrics::default()
    }
}

/// What becomes of rows with the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ties {
    /// The newest one counts.
    Newest,
    /// It is an error: `DuplicateKey`, about this key.
    Refuse,
    /// Staged writes of one transaction, whose sequence numbers are expectations (see `txn::stage`): the newest row
    /// counts with the oldest row's expectation, and one that expects no row must not follow a put.
    Fold,
}

/// The code of a staged row's expectation that no row has its key.
pub(crate) const EXPECT_ABSENT: Seq = Seq::MAX >> 1;

/// The code of a staged row's expectation that no row of the same transaction has its key, which the transaction has deleted
/// with a range: what the table has does not matter.
pub(crate) const EXPECT_ERASED: Seq = EXPECT_ABSENT - 1;

/// The error of two rows with one key, about that key; whoever knows the table says which.
pub(crate) fn duplicate(key: &[u8]) -> Error {
    Error::new(ErrorKind::DuplicateKey, "two rows have the same key").about_row(crate::types::TableId(0), key)
}

#[derive(Debug)]
struct Head {
    stream: Box<dyn RowStream>,
    batch: Option<Arc<RunBatch>>,
    at: usize,
}

impl Head {
    fn key(&self) -> Option<&[u8]> {
        self.batch.as_ref().filter(|batch| self.at < batch.len()).map(|batch| batch.keys.get(self.at))
    }

    fn fill(&mut self) -> Result<()> {
        if self.key().is_none() {
            let next = self.stream.next();
            let next = if mutant!(ErrorTakenForTheEnd) { Ok(next.unwrap_or(None)) } else { next };
            self.batch = next?.map(Arc::new);
            self.at = 0;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Piece {
    batch: usize,
    rows: Range<usize>,
    seq: Option<Seq>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Merge {
    heads: Vec<Head>,
    reverse: bool,
    ties: Ties,
    /// Leave out tombstones: there is nothing older that they would hide.
    drop_tombstones: bool,
    /// Batches that pieces stand for.
    batches: Vec<Arc<RunBatch>>,
    pieces: Vec<Piece>,
    rows: usize,
    /// Rows of the next batch.
    rows_max: usize,
    failed: bool,
    /// How often rows were taken from a head, to give way now and then.
    steps: usize,
    /// Rows of a key that lost to a newer one.
    pub(crate) hidden: u64,
}

impl Merge {
    /// Merges `streams`, newest first. They must carry keys.
    pub(crate) fn new(streams: Vec<Box<dyn RowStream>>, reverse: bool, ties: Ties, drop_tombstones: bool) -> Self {
        let heads = streams.into_iter().map(|stream| Head { stream, batch: None, at: 0 }).collect();
        Merge {
            heads,
            reverse,
            ties,
            drop_tombstones,
            batches: Vec::new(),
            pieces: Vec::new(),
            rows: 0,
            rows_max: BATCH_ROWS,
            failed: false,
            steps: 0,
            hidden: 0,
        }
    }

    /// For a reader who wants so many rows at first: the first batch has no more, later ones grow up to [`BATCH_ROWS`].
    pub(crate) fn at_first(mut self, rows: usize) -> Self {
        self.rows_max = rows.clamp(1, BATCH_ROWS);
        self
    }

    fn order(&self, a: &[u8], b: &[u8]) -> Ordering {
        match self.reverse {
            false => a.cmp(b),
            true => b.cmp(a),
        }
    }

    /// The heads with the least and the second least key; of equal ones the newest first.
    fn least(&self) -> Option<(usize, Option<usize>)> {
        let mut least: Option<(usize, &[u8])> = None;
        let mut second: Option<(usize, &[u8])> = None;
        for (place, head) in self.heads.iter().enumerate() {
            let Some(key) = head.key() else { continue };
            if least.is_none_or(|(_, other)| self.order(key, other).is_lt()) {
                second = least;
                least = Some((place, key));
            } else if second.is_none_or(|(_, other)| self.order(key, other).is_lt()) {
                second = Some((place, key));
            }
        }
        least.map(|(place, _)| (place, second.map(|(place, _)| place)))
    }

    /// Rows of head `least` that come before the key at head `second`.
    fn ahead(&self, least: usize, second: Option<usize>) -> usize {
        let Some((head, batch)) = self.heads.get(least).and_then(|head| head.batch.as_ref().map(|b| (head, b))) else {
            return 0;
        };
        let Some(bound) = second.and_then(|place| self.heads.get(place)).and_then(Head::key) else {
            return batch.len() - head.at;
        };
        let before = |row: usize| self.order(batch.keys.get(row), bound).is_lt();
        // Gallop: where streams alternate, the bound is near.
        let mut step = 1;
        let mut low = head.at;
        while low + step < batch.len() && before(low + step) {
            low += step;
            step *= 2;
        }
        if !before(low) {
            return low - head.at;
        }
        let mut high = (low + step).min(batch.len());
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            match before(middle) {
                true => low = middle,
                false => high = middle,
            }
        }
        high - head.at
    }

    fn take(&mut self, head: usize, rows: usize, seq: Option<Seq>) {
        let Some(head) = self.heads.get_mut(head) else { return };
        let Some(batch) = &head.batch else { return };
        let taken = head.at..head.at + rows;
        head.at = taken.end;
        let place = match self.batches.iter().rposition(|other| Arc::ptr_eq(other, batch)) {
            Some(place) => place,
            None => {
                self.batches.push(Arc::clone(batch));
                self.batches.len() - 1
            }
        };
        let batch = Arc::clone(batch);
        let mut push = |rows: Range<usize>| {
            if rows.is_empty() {
                return;
            }
            self.rows += rows.len();
            match self.pieces.last_mut() {
                Some(last) if last.batch == place && last.rows.end == rows.start && last.seq == seq => {
                    last.rows.end = rows.end;
                }
                _ => self.pieces.push(Piece { batch: place, rows, seq }),
            }
        };
        if !self.drop_tombstones || !has_tombstones(&batch, taken.clone()) {
            return push(taken);
        }
        let mut from = taken.start;
        for row in taken.clone() {
            if batch.is_tombstone(row) {
                push(from..row);
                from = row + 1;
            }
        }
        push(from..taken.end);
    }

    /// The row at head `newest` and older ones with the same key: one row comes of them.
    fn tie(&mut self, newest: usize) -> Result<()> {
        let Some(head) = self.heads.get(newest) else { return Ok(()) };
        let (Some(batch), Some(key)) = (&head.batch, head.key()) else { return Ok(()) };
        let mut same: Vec<usize> = Vec::new();
        for (place, other) in self.heads.iter().enumerate() {
            if place != newest && other.key() == Some(key) {
                same.push(place);
            }
        }
        let seq = match self.ties {
            Ties::Newest => None,
            Ties::Refuse => return Err(duplicate(key)),
            Ties::Fold => {
                let mut newer = (seq_of(batch, head.at), batch.is_tombstone(head.at));
                for place in &same {
                    let Some((older, batch)) = self.heads.get(*place).and_then(|h| h.batch.as_ref().map(|b| (h, b)))
                    else {
                        continue;
                    };
                    let (seq, tombstone) = (seq_of(batch, older.at), batch.is_tombstone(older.at));
                    if (newer.0 == EXPECT_ABSENT || newer.0 == EXPECT_ERASED) && !tombstone {
                        return Err(duplicate(key));
                    }
                    newer = (seq, tombstone);
                }
                Some(newer.0)
            }
        };
        self.take(newest, 1, seq);
        for place in same {
            self.hidden += 1;
            if let Some(head) = self.heads.get_mut(place) {
                head.at += 1;
            }
        }
        Ok(())
    }

    /// Takes rows until a batch is full; false at the end of all streams.
    fn advance(&mut self) -> Result<bool> {
        for head in &mut self.heads {
            head.fill()?;
        }
        let Some((least, second)) = self.least() else { return Ok(false) };
        match self.ahead(least, second) {
            0 => self.tie(least)?,
            rows => self.take(least, rows.min(self.rows_max.saturating_sub(self.rows).max(1)), None),
        }
        Ok(true)
    }

    fn gather(&mut self) -> Result<Option<RunBatch>> {
        let pieces = std::mem::take(&mut self.pieces);
        let batches = std::mem::take(&mut self.batches);
        self.rows = 0;
        self.rows_max = (self.rows_max * GROWTH).min(BATCH_ROWS);
        if let [piece] = pieces.as_slice()
            && piece.seq.is_none()
            && let Some(batch) = batches.get(piece.batch)
        {
            return Ok(Some(slice(batch, piece.rows.clone())));
        }
        gather(&batches, &pieces)
    }
}

impl RowStream for Merge {
    fn next(&mut self) -> Result<Option<RunBatch>> {
        if self.failed {
            return Err(Error::internal("a merge was read on after it had failed"));
        }
        loop {
            let long = matches!(self.pieces.as_slice(), [piece] if piece.rows.len() >= PIECE_ROWS_LONG);
            if long || self.rows >= self.rows_max {
                return self.gather();
            }
            self.steps = self.steps.wrapping_add(1);
            thread::give_way_at(self.steps);
            let more = self.advance().inspect_err(|_| self.failed = true)?;
            if !more {
                return if self.pieces.is_empty() { Ok(None) } else { self.gather() };
            }
        }
    }

    fn metrics(&self) -> ScanMetrics {
        self.heads.iter().fold(ScanMetrics::default(), |sum, head| sum + head.stream.metrics())
    }
}

/// One batch of all pieces, in their order.
fn gather(batches: &[Arc<RunBatch>], pieces: &[Piece]) -> Result<Option<RunBatch>> {
    let Some(first) = batches.first() else { return Ok(None) };
    let rows: usize = pieces.iter().map(|piece| piece.rows.len()).sum();
    let mut keys = empty_keys(&first.keys);
    let mut seqs = Vec::with_capacity(rows);
    let mut tombstones =
        batches.iter().any(|batch| batch.tombstones.is_some()).then(|| BooleanBufferBuilder::new(rows));
    let mut places: Vec<(usize, usize)> = Vec::with_capacity(rows);
    for piece in pieces {
        let Some(batch) = batches.get(piece.batch) else { continue };
        keys.extend(&batch.keys, piece.rows.clone());
        for row in piece.rows.clone() {
            seqs.push(piece.seq.unwrap_or_else(|| seq_of(batch, row)));
            if let Some(tombstones) = &mut tombstones {
                tombstones.append(batch.is_tombstone(row));
            }
            places.push((piece.batch, row));
        }
    }
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(first.columns.len());
    for column in 0..first.columns.len() {
        let arrays: Vec<&dyn Array> =
            batches.iter().filter_map(|batch| batch.columns.get(column)).map(AsRef::as_ref).collect();
        thread::give_way();
        columns.push(arrow::compute::interleave(&arrays, &places)?);
    }
    let tombstones = tombstones.map(|mut kinds| BooleanArray::new(kinds.finish(), None));
    Ok(Some(RunBatch { keys, seqs, tombstones, columns }))
}
