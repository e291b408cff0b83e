/*!
Streams of rows from one source: a memtable at a sequence number, or a run.
*/

use crate::column::ColumnSink;
use crate::error::Result;
use crate::io::thread;
use crate::key::{EncodedKeys, KeyRange, KeySchema};
use crate::memtable::{Cursor, Entry};
use crate::row::RowReader;
use crate::run::{ColumnPredicate, GROWTH, RunBatch, RunScan, RunScanOptions, RunSchema, SCAN_ROWS_MAX};
use crate::scan::ScanMetrics;
use crate::scan::merge::{BATCH_ROWS, RowStream};
use crate::scan::plan::Span;
use crate::scan::rows::without_tombstones;
use crate::scan::tree::{Erased, Mem, RunRef, is_erased};
use crate::types::{ColumnId, ColumnType, Seq, Value};
use arrow::array::{ArrayRef, BooleanArray, BooleanBufferBuilder};
use std::sync::Arc;

/// Rows of a memtable's first batch at most: of a merge of many sources, few may come from this one.
const FIRST_ROWS: usize = 64;

/// What to read of every source.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    pub(crate) projection: Vec<(ColumnId, ColumnType)>,
    pub(crate) reverse: bool,
    /// Rows that are wanted at first.
    pub(crate) first_rows: usize,
    key: KeySchema,
    key_columns: Vec<ColumnId>,
}

impl Columns {
    /// These columns, of a source with this schema.
    pub(crate) fn new(schema: &RunSchema, projection: Vec<(ColumnId, ColumnType)>, reverse: bool) -> Columns {
        let (key, key_columns) = (schema.key.clone(), schema.key_columns.clone());
        Columns { projection, reverse, first_rows: SCAN_ROWS_MAX, key, key_columns }
    }

    /// For a reader who wants no more than so many rows, or few more.
    pub(crate) fn at_first(mut self, rows: usize) -> Columns {
        self.first_rows = rows.max(1);
        self
    }

    /// All columns, forwards.
    pub(crate) fn all(schema: &RunSchema) -> Columns {
        Columns::new(schema, schema.columns.clone(), false)
    }

    /// None, forwards: keys and numbers only.
    pub(crate) fn none(schema: &RunSchema) -> Columns {
        Columns::new(schema, Vec::new(), false)
    }
}

/// Columns of rows as bytes, some of which lie in the row and some in its key.
#[derive(Debug)]
struct RowSinks {
    key: KeySchema,
    in_row: Vec<(ColumnId, ColumnType)>,
    /// Place in the key.
    in_key: Vec<(usize, ColumnType)>,
    /// For each column of the projection its place among those in rows and those in keys, one behind the other.
    order: Vec<usize>,
    row_sinks: Vec<ColumnSink>,
    key_sinks: Vec<ColumnSink>,
    values: Vec<Value>,
}

impl RowSinks {
    fn new(columns: &Columns) -> RowSinks {
        let (mut in_row, mut in_key) = (Vec::new(), Vec::new());
        let mut places = Vec::with_capacity(columns.projection.len());
        for (id, ty) in &columns.projection {
            match columns.key_columns.iter().position(|other| other == id).filter(|_| ty.is_exact_in_keys()) {
                Some(place) => {
                    places.push((true, in_key.len()));
                    in_key.push((place, *ty));
                }
                None => {
                    places.push((false, in_row.len()));
                    in_row.push((*id, *ty));
                }
            }
        }
        let order = places.iter().map(|(is_key, place)| if *is_key { in_row.len() + place } else { *place }).collect();
        let (key, values) = (columns.key.clone(), Vec::new());
        RowSinks { key, in_row, in_key, order, row_sinks: Vec::new(), key_sinks: Vec::new(), values }
    }

    /// Begins a batch of about so many rows.
    fn begin(&mut self, rows: usize) {
        self.row_sinks = self.in_row.iter().map(|(_, ty)| ColumnSink::new(*ty, rows)).collect();
        self.key_sinks = self.in_key.iter().map(|(_, ty)| ColumnSink::new(*ty, rows)).collect();
    }

    fn push(&mut self, entry: &Entry) -> Result<()> {
        if !self.in_row.is_empty() {
            RowReader::open(entry.row())?.append_to(&self.in_row, &mut self.row_sinks)?;
        }
        if !self.in_key.is_empty() {
            self.key.decode_to(entry.key(), &mut self.values)?;
            for ((place, _), sink) in self.in_key.iter().zip(&mut self.key_sinks) {
                sink.append(self.values.get(*place).unwrap_or(&Value::Null))?;
            }
        }
        Ok(())
    }

    /// The batch's columns.
    fn finish(&mut self) -> Vec<ArrayRef> {
        let row_sinks = std::mem::take(&mut self.row_sinks);
        let key_sinks = std::mem::take(&mut self.key_sinks);
        let arrays: Vec<ArrayRef> = row_sinks.into_iter().chain(key_sinks).map(ColumnSink::finish).collect();
        self.order.iter().filter_map(|place| arrays.get(*place).cloned()).collect()
    }
}

/// The rows of a memtable.
#[derive(Debug)]
pub(crate) struct MemStream {
    cursor: Cursor,
    sinks: RowSinks,
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
            sinks: RowSinks::new(columns),
            rows: FIRST_ROWS.min(columns.first_rows),
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
        self.sinks.begin(self.rows);
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
            self.sinks.push(&entry)?;
            keys.push(entry.key());
            seqs.push(entry.seq());
            kinds.append(entry.is_tombstone());
            thread::give_way_at(seqs.len());
        }
        if seqs.is_empty() {
            return Ok(None);
        }
        self.rows = (self.rows * GROWTH).min(BATCH_ROWS);
        self.metrics.rows += u64::try_from(seqs.len()).unwrap_or(u64::MAX);
        let tombstones = tombstones.then(|| BooleanArray::new(kinds.finish(), None));
        Ok(Some(RunBatch { keys, seqs, tombstones, columns: self.sinks.finish() }))
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
    /// Rows that do not pass are left out, and then tombstones too. Only for a run that nothing older stands behind.
    pub(crate) filter: &'a [ColumnPredicate],
}

impl RunStream {
    pub(crate) fn new(run: &Arc<RunRef>, range: KeyRange, columns: &Columns, reading: RunReading<'_>) -> Self {
        let scan = run.run.scan(RunScanOptions {
            range,
            projection: columns.projection.clone(),
            with_keys: reading.with_keys,
            predicates: reading.predicates.to_vec(),
            prune: !reading.predicates.is_empty(),
            filter: reading.filter.to_vec(),
            reverse: columns.reverse,
            first_rows: columns.first_rows,
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
