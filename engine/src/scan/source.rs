/*!
Streams of rows from one source: a memtable at a sequence number, or a run.
*/

use crate::column::ColumnSink;
use crate::error::Result;
use crate::key::{EncodedKeys, KeyRange};
use crate::memtable::{Cursor, Entry};
use crate::row::RowReader;
use crate::run::{ColumnPredicate, RunBatch, RunScan, RunScanOptions};
use crate::scan::ScanMetrics;
use crate::scan::merge::{BATCH_ROWS, RowStream};
use crate::scan::plan::Span;
use crate::scan::rows::without_tombstones;
use crate::scan::tree::{Erased, Mem, RunRef, is_erased};
use crate::types::{ColumnId, ColumnType, Seq};
use arrow::array::{BooleanArray, BooleanBufferBuilder};
use std::sync::Arc;

/// Rows of a memtable's first batch: readers that want few rows get few.
const FIRST_ROWS: usize = 64;

/// What to read of every source.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    pub(crate) projection: Vec<(ColumnId, ColumnType)>,
    pub(crate) reverse: bool,
}

/// The rows of a memtable.
#[derive(Debug)]
pub(crate) struct MemStream {
    cursor: Cursor,
    projection: Vec<(ColumnId, ColumnType)>,
    rows: usize,
    /// Tombstones are left out: nothing older is below.
    drop_tombstones: bool,
    /// Ranges that were deleted in this memtable; what they hide is left out.
    erased: Vec<Arc<Erased>>,
    metrics: ScanMetrics,
}

impl MemStream {
    pub(crate) fn new(mem: &Mem, range: &KeyRange, at: Seq, columns: &Columns, drop_tombstones: bool) -> Self {
        let span = Span::of(range);
        MemStream {
            cursor: mem.table.cursor(range.clone(), at, columns.reverse),
            projection: columns.projection.clone(),
            rows: FIRST_ROWS,
            drop_tombstones,
            erased: mem.erased().into_iter().filter(|erased| erased.seq <= at && erased.span.overlaps(&span)).collect(),
            metrics: ScanMetrics::default(),
        }
    }

    fn hides(&self, entry: &Entry) -> bool {
        let erases = |erased: &Arc<Erased>| is_erased(entry.seq(), erased.seq) && erased.span.contains(entry.key());
        self.erased.iter().any(erases)
    }
}

impl RowStream for MemStream {
    fn next(&mut self) -> Result<Option<RunBatch>> {
        let mut sinks: Vec<ColumnSink> =
            self.projection.iter().map(|(_, ty)| ColumnSink::new(*ty, self.rows)).collect();
        let mut keys = EncodedKeys::with_capacity(None, self.rows);
        let mut seqs = Vec::with_capacity(self.rows);
        let mut kinds = BooleanBufferBuilder::new(self.rows);
        let mut tombstones = false;
        while seqs.len() < self.rows {
            let Some(entry) = self.cursor.next() else { break };
            if self.hides(&entry) {
                continue;
            }
            if entry.is_tombstone() {
                if self.drop_tombstones {
                    continue;
                }
                tombstones = true;
            }
            if !sinks.is_empty() {
                RowReader::open(entry.row())?.append_to(&self.projection, &mut sinks)?;
            }
            keys.push(entry.key());
            seqs.push(entry.seq());
            kinds.append(entry.is_tombstone());
        }
        if seqs.is_empty() {
            return Ok(None);
        }
        self.rows = (self.rows * 4).min(BATCH_ROWS);
        self.metrics.rows += u64::try_from(seqs.len()).unwrap_or(u64::MAX);
        let tombstones = tombstones.then(|| BooleanArray::new(kinds.finish(), None));
        let columns = sinks.into_iter().map(ColumnSink::finish).collect();
        Ok(Some(RunBatch { keys, seqs, tombstones, columns }))
    }

    fn metrics(&self) -> ScanMetrics {
        self.metrics
    }
}

/// The rows of a run.
#[derive(Debug)]
pub(crate) struct RunStream {
    scan: RunScan,
    /// Keeps the run's file.
    run: Arc<RunRef>,
    drop_tombstones: bool,
}

/// How a run is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunReading<'a> {
    pub(crate) with_keys: bool,
    pub(crate) drop_tombstones: bool,
    /// Slices that no row of which passes may be left out. Empty: none may.
    pub(crate) predicates: &'a [ColumnPredicate],
}

impl RunStream {
    pub(crate) fn new(run: &Arc<RunRef>, range: KeyRange, columns: &Columns, reading: RunReading<'_>) -> Self {
        let scan = run.run.scan(RunScanOptions {
            range,
            projection: columns.projection.clone(),
            with_keys: reading.with_keys,
            predicates: reading.predicates.to_vec(),
            prune: !reading.predicates.is_empty(),
            reverse: columns.reverse,
        });
        RunStream { scan, run: Arc::clone(run), drop_tombstones: reading.drop_tombstones }
    }
}

impl RowStream for RunStream {
    fn next(&mut self) -> Result<Option<RunBatch>> {
        while let Some(mut batch) = self.scan.next()? {
            if self.drop_tombstones {
                batch = without_tombstones(batch)?;
            }
            if let Some(seq) = self.run.fixed_seq {
                batch.seqs.fill(seq);
            }
            if !batch.is_empty() {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    fn metrics(&self) -> ScanMetrics {
        self.scan.metrics().into()
    }
}
