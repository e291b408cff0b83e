#![allow(missing_docs, clippy::all, clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]
/*!
A database: opened from a directory or made in memory, it hands out snapshots to read and transactions to write.
STUB of the public interface: signatures and documentation are final, bodies are an in-memory map.
*/
use crate::column::{ColumnSink, value_at};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{Key, KeyRange, KeySchema};
use crate::run::ColumnPredicate;
use crate::types::*;
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// When a commit is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncMode {
    /// After its log record is on the device.
    #[default]
    Always,
    /// At once; the log is synced at least this often.
    Interval(Duration),
    /// At once; the operating system writes when it likes.
    None,
}

/// How to open a database.
#[derive(Debug, Clone)]
pub struct Options {
    /// The directory; `None` for a database in memory.
    pub dir: Option<PathBuf>,
    /// Make the database if the directory is absent or empty.
    pub create: bool,
    /// Open for reading only, beside a writer, at the state as at open.
    pub read_only: bool,
    /// When a commit is acknowledged.
    pub sync: SyncMode,
    /// Bytes of one memtable before it is flushed.
    pub memtable_bytes: usize,
    /// Bytes of the cache.
    pub cache_bytes: usize,
    /// Bytes that all of the engine may take; staged writes spill into runs before they reach it.
    pub memory_bytes: usize,
    // the real one also has: `io: Option<IoRef>`, `log_segment_bytes`, `index: IndexChoice` …
}
impl Options {
    /// A database in memory.
    pub fn memory() -> Self { Options { dir: None, create: true, read_only: false, sync: SyncMode::Always, memtable_bytes: 64 << 20, cache_bytes: 256 << 20, memory_bytes: 1 << 30 } }
    /// A database in `dir`, made if it is not there.
    pub fn dir(dir: impl Into<PathBuf>) -> Self { Options { dir: Some(dir.into()), ..Options::memory() } }
}

#[derive(Debug, Clone, Default)]
struct Data { rows: BTreeMap<Vec<u8>, (Seq, Vec<Value>)>, next_row_id: i64, loads: Vec<LoadRecord> }
#[derive(Debug, Clone, Default)]
struct World { tables: BTreeMap<TableId, Arc<TableDef>>, data: BTreeMap<StorageId, Arc<Data>>, next_id: u64, seq: Seq }

/// An open database. Cheap to clone; the last clone closes it.
#[derive(Debug, Clone)]
pub struct Db { world: Arc<Mutex<Arc<World>>>, options: Arc<Options> }

/// What a load left behind, so that it is not done twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadRecord { pub content_hash: [u8; 32], pub source: String, pub options: String, pub rows: u64, pub unix_micros: i64 }

/// Counts of one table, for planners and people. Rows are exact when nothing is overwritten or deleted in upper levels.
#[derive(Debug, Clone, Default)]
pub struct TableStats { pub rows: u64, pub rows_exact: bool, pub bytes_on_disk: u64, pub runs: u64, pub memtable_bytes: u64 }
/// One run, as `\index` and the loader's summary show it.
#[derive(Debug, Clone, Default)]
pub struct RunStats { pub id: u64, pub level: u8, pub rows: u64, pub tombstones: u64, pub bytes: u64, pub slices: u64, pub index_kind: String, pub index_segments: u64, pub index_exceptions: u64, pub index_epsilon: u64, pub index_bytes: u64, pub residuals: Vec<i32> /* sampled, in slices */ }
/// Counts of the whole database.
#[derive(Debug, Clone, Default)]
pub struct DbStats { pub tables: u64, pub runs: u64, pub run_bytes: u64, pub memtable_bytes: u64, pub log_bytes: u64, pub cache_bytes: u64, pub cache_hits: u64, pub cache_misses: u64, pub flushes: u64, pub compactions: u64, pub bytes_ingested: u64, pub bytes_written: u64 }

impl Db {
    /// Opens (or makes) a database. Errors: NotADatabase, NewerFormat, Locked (names the process id), Io, Corruption.
    pub fn open(options: Options) -> Result<Db> {
        Ok(Db { world: Arc::new(Mutex::new(Arc::new(World { next_id: 100, ..World::default() }))), options: Arc::new(options) })
    }
    pub fn dir(&self) -> Option<&Path> { self.options.dir.as_deref() }
    pub fn is_read_only(&self) -> bool { self.options.read_only }
    /// What has been committed so far, to read from.
    pub fn snapshot(&self) -> Result<Snapshot> { Ok(Snapshot { world: self.world.lock().unwrap().clone() }) }
    /// A transaction on the present snapshot. `ReadOnly` for a database opened read-only, `Poisoned` after a failed write.
    pub fn begin(&self) -> Result<Transaction> {
        let w = self.world.lock().unwrap().clone();
        Ok(Transaction { db: self.clone(), base: w.clone(), world: (*w).clone(), expects: vec![] })
    }
    /// Writes every memtable into runs.
    pub fn flush(&self) -> Result<()> { Ok(()) }
    /// Merges the runs of one table (or all) into one sorted level; deleted rows and old versions go.
    pub fn compact(&self, _table: Option<TableId>) -> Result<()> { Ok(()) }
    pub fn stats(&self) -> Result<DbStats> { Ok(DbStats::default()) }
    pub fn table_stats(&self, table: &TableDef) -> Result<TableStats> {
        let w = self.world.lock().unwrap(); let n = w.data.get(&table.storage).map_or(0, |d| d.rows.len() as u64);
        Ok(TableStats { rows: n, rows_exact: true, ..Default::default() })
    }
    pub fn run_stats(&self, _table: &TableDef) -> Result<Vec<RunStats>> { Ok(vec![]) }
    pub fn loads(&self, table: &TableDef) -> Result<Vec<LoadRecord>> { Ok(self.world.lock().unwrap().data.get(&table.storage).map_or(vec![], |d| d.loads.clone())) }
    /// Flushes the log, writes its watermark, releases the lock. Dropping the last clone does the same and cannot report errors.
    pub fn close(self) -> Result<()> { Ok(()) }
}

/// What to read: the union of `ranges` (sorted, disjoint; empty means everything) in key order, or in reverse.
#[derive(Debug, Clone, Default)]
pub struct ScanRequest {
    pub ranges: Vec<KeyRange>,
    /// Columns of the batches, in this order; `ColumnId::ROW_ID` and `ColumnId::SEQ` may be asked for. May be empty (row counts only).
    pub projection: Vec<ColumnId>,
    /// All must hold for a row to matter: used to leave out slices by their zone maps; rows that fail may still come.
    pub predicates: Vec<ColumnPredicate>,
    pub reverse: bool,
    /// At most so many rows. Only sound when the predicates are not needed to be exact by the caller.
    pub limit: Option<usize>,
}
/// A row the caller owns and reuses.
#[derive(Debug, Clone, Default)]
pub struct Row { pub seq: Seq, pub values: Vec<Value> }

/// A consistent view: everything committed up to a sequence number and nothing after. Cheap to clone, never blocks.
#[derive(Debug, Clone)]
pub struct Snapshot { world: Arc<World> }
/// What a scan has done so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct ScanMetrics { pub slices_read: u64, pub slices_pruned: u64, pub rows: u64, pub bytes_read: u64, pub cache_hits: u64 }
/// Batches of a scan, at most 8,192 rows each. Fused on error.
#[derive(Debug)]
pub struct Scan { batches: std::vec::IntoIter<RecordBatch>, metrics: ScanMetrics }
impl Scan { pub fn metrics(&self) -> ScanMetrics { self.metrics } }
impl Iterator for Scan { type Item = Result<RecordBatch>; fn next(&mut self) -> Option<Self::Item> { self.batches.next().map(Ok) } }

impl World {
    fn value(table: &TableDef, key: &[u8], seq: Seq, values: &[Value], id: ColumnId) -> Result<Value> {
        Ok(match id {
            ColumnId::SEQ => Value::Int(seq as i64),
            ColumnId::ROW_ID => KeySchema::of(table)?.decode(key)?.remove(0),
            id => values[table.columns.iter().position(|c| c.id == id).ok_or_else(|| Error::internal("column"))?].clone(),
        })
    }
    fn ty(table: &TableDef, id: ColumnId) -> ColumnType { table.column_by_id(id).map_or(ColumnType::Int64, |c| c.ty) }
}
impl Snapshot {
    pub fn seq(&self) -> Seq { self.world.seq }
    pub fn table(&self, name: &str) -> Result<Option<Arc<TableDef>>> { Ok(self.world.tables.values().find(|t| t.name == name).cloned()) }
    pub fn table_by_id(&self, id: TableId) -> Result<Option<Arc<TableDef>>> { Ok(self.world.tables.get(&id).cloned()) }
    /// By name.
    pub fn tables(&self) -> Result<Vec<Arc<TableDef>>> { let mut t: Vec<_> = self.world.tables.values().cloned().collect(); t.sort_by(|a, b| a.name.cmp(&b.name)); Ok(t) }
    /// The row with this key: its projected values and sequence number go into `row`. False when there is none.
    pub fn get(&self, table: &TableDef, key: &Key, projection: &[ColumnId], row: &mut Row) -> Result<bool> {
        let Some(d) = self.world.data.get(&table.storage) else { return Ok(false) };
        let Some((seq, values)) = d.rows.get(key.as_ref()) else { return Ok(false) };
        row.seq = *seq; row.values.clear();
        for id in projection { row.values.push(World::value(table, key.as_ref(), *seq, values, *id)?) }
        Ok(true)
    }
    /// Rows of many keys at once: the batch holds those found, and beside it, per row, which key it answers.
    pub fn multi_get(&self, table: &TableDef, keys: &[Key], projection: &[ColumnId]) -> Result<(RecordBatch, Vec<u32>)> {
        let mut sinks: Vec<_> = projection.iter().map(|id| ColumnSink::new(World::ty(table, *id), keys.len())).collect();
        let mut which = vec![]; let mut row = Row::default();
        for (i, k) in keys.iter().enumerate() {
            if self.get(table, k, projection, &mut row)? { which.push(i as u32); for (s, v) in sinks.iter_mut().zip(&row.values) { s.append(v)? } }
        }
        let arrays: Vec<ArrayRef> = sinks.into_iter().map(ColumnSink::finish).collect();
        let o = arrow::array::RecordBatchOptions::new().with_row_count(Some(which.len()));
        Ok((RecordBatch::try_new_with_options(table.projected_schema(projection)?, arrays, &o)?, which))
    }
    /// Rows of key ranges.
    pub fn scan(&self, table: &TableDef, request: ScanRequest) -> Result<Scan> {
        let mut out = vec![];
        if let Some(d) = self.world.data.get(&table.storage) {
            let mut keys: Vec<_> = d.rows.iter().filter(|(k, _)| request.ranges.is_empty() || request.ranges.iter().any(|r| r.contains(k))).collect();
            if request.reverse { keys.reverse() }
            if let Some(n) = request.limit { keys.truncate(n) }
            for chunk in keys.chunks(8192) {
                let mut arrays: Vec<ArrayRef> = vec![];
                for id in &request.projection {
                    let mut s = ColumnSink::new(World::ty(table, *id), chunk.len());
                    for (k, (seq, v)) in chunk { s.append(&World::value(table, k, *seq, v, *id)?)? }
                    arrays.push(s.finish());
                }
                let o = arrow::array::RecordBatchOptions::new().with_row_count(Some(chunk.len()));
                out.push(RecordBatch::try_new_with_options(table.projected_schema(&request.projection)?, arrays, &o)?);
            }
        }
        Ok(Scan { batches: out.into_iter(), metrics: ScanMetrics::default() })
    }
    /// Cuts a range into at most `parts` ranges of about as many rows each, in order.
    pub fn split(&self, _table: &TableDef, range: &KeyRange, _parts: usize) -> Result<Vec<KeyRange>> { Ok(vec![range.clone()]) }
    /// About how many rows the range holds (for plans only).
    pub fn estimate_rows(&self, table: &TableDef, _range: &KeyRange) -> Result<u64> { Ok(self.world.data.get(&table.storage).map_or(0, |d| d.rows.len() as u64)) }
}

/// What becomes of rows in a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteKind { Put, Delete }
/// What must hold for each row at commit, checked atomically with it.
#[derive(Debug, Clone, Copy)]
pub enum Expectation<'a> {
    /// Nothing: put or delete whatever is there.
    None,
    /// No row has this key (or it is deleted by this same transaction): else `DuplicateKey`.
    Absent,
    /// The row is the one that had this sequence number: else `WriteConflict`. One number per row of the batch.
    Unchanged(&'a [Seq]),
}
/// What a load does about a key that is there already (in the table, or earlier in the same load).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnConflict { #[default] Error, Skip, Replace }
/// What a load did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IngestReport { pub rows_read: u64, pub rows_stored: u64, pub rows_skipped: u64, pub rows_replaced: u64, pub runs: u64, pub bytes_on_disk: u64, pub model_segments: u64 }

/// One atomic change: everything or nothing, at commit. Dropped without commit, it leaves nothing.
#[derive(Debug)]
pub struct Transaction { db: Db, base: Arc<World>, world: World, expects: Vec<(StorageId, TableId, Vec<u8>, Option<Seq>)> }

impl Transaction {
    /// What this transaction sees: its snapshot and its own writes so far.
    pub fn snapshot(&self) -> Snapshot { Snapshot { world: Arc::new(self.world.clone()) } }
    /// Makes a table. `TableExists`, `InvalidArgument` (duplicate or unknown column names, key column not orderable), `LimitExceeded`.
    pub fn create_table(&mut self, new: NewTable) -> Result<Arc<TableDef>> {
        if self.world.tables.values().any(|t| t.name == new.name) { return Err(Error::new(ErrorKind::TableExists, format!("table {} is there already", new.name))) }
        self.world.next_id += 2;
        let columns: Vec<_> = new.columns.iter().enumerate().map(|(i, c)| ColumnDef { id: ColumnId(16 + i as u32), name: c.name.clone(), ty: c.ty, nullable: c.nullable && !new.key.contains(&c.name), collation: Collation::C, attributes: c.attributes.clone() }).collect();
        let key = new.key.iter().map(|k| columns.iter().find(|c| c.name == *k).map(|c| c.id).ok_or_else(|| Error::invalid(format!("no key column {k}")))).collect::<Result<_>>()?;
        let t = Arc::new(TableDef { id: TableId(self.world.next_id), storage: StorageId(self.world.next_id + 1), name: new.name, columns, key, attributes: new.attributes });
        self.world.tables.insert(t.id, t.clone());
        self.world.data.insert(t.storage, Arc::default());
        Ok(t)
    }
    pub fn drop_table(&mut self, id: TableId) -> Result<()> {
        let t = self.world.tables.remove(&id).ok_or_else(|| Error::new(ErrorKind::NoSuchTable, "no such table"))?;
        self.world.data.remove(&t.storage); Ok(())
    }
    /// Empties a table: it gets a new storage, and the definition that names it.
    pub fn truncate(&mut self, id: TableId) -> Result<Arc<TableDef>> {
        let old = self.world.tables.get(&id).cloned().ok_or_else(|| Error::new(ErrorKind::NoSuchTable, "no such table"))?;
        self.world.next_id += 1; let mut t = (*old).clone(); t.storage = StorageId(self.world.next_id);
        self.world.data.remove(&old.storage); self.world.data.insert(t.storage, Arc::default());
        let t = Arc::new(t); self.world.tables.insert(id, t.clone()); Ok(t)
    }
    /// Replaces a table's definition but for its ids: names and attributes may change (ALTER TABLE … RENAME comes on this).
    /// Buffers rows. `columns` says what the batch's columns are. Put: every declared column, or those named (the others are NULL);
    /// `ROW_ID` where a row of a keyless table is rewritten, else new ids are given. Delete: the key's columns (or `ROW_ID`), others are ignored.
    /// A later write of the same key in this transaction wins over an earlier one, but two `Absent` puts of one key are a `DuplicateKey`.
    /// Errors: `NullViolation` (names the column), `DuplicateKey` / `WriteConflict` (may also come only at commit), `InvalidArgument`.
    pub fn write(&mut self, table: &TableDef, kind: WriteKind, columns: &[ColumnId], batch: &RecordBatch, expectation: Expectation<'_>) -> Result<()> {
        let ks = KeySchema::of(table)?;
        let data = Arc::make_mut(self.world.data.entry(table.storage).or_default());
        for r in 0..batch.num_rows() {
            let get = |id: ColumnId| -> Result<Value> { match columns.iter().position(|c| *c == id) { Some(i) => value_at(batch.column(i), r, World::ty(table, id)), None => Ok(Value::Null) } };
            let mut kv = vec![];
            for (id, _) in table.key_columns()? { let mut v = get(id)?; if id == ColumnId::ROW_ID && v == Value::Null { data.next_row_id += 1; v = Value::Int(data.next_row_id) } 
                if v == Value::Null { return Err(Error::new(ErrorKind::NullViolation, format!("column {} takes no NULL", table.column_by_id(id).map_or("", |c| &c.name)))) } kv.push(v) }
            let key = ks.encode(&kv)?;
            match expectation { Expectation::None => {}, Expectation::Absent => { if data.rows.contains_key(key.as_ref()) { return Err(Error::new(ErrorKind::DuplicateKey, format!("table {} has a row with this key already", table.name)).about_row(table.id, key.as_ref())) } self.expects.push((table.storage, table.id, key.as_ref().to_vec(), None)) }
                Expectation::Unchanged(s) => self.expects.push((table.storage, table.id, key.as_ref().to_vec(), Some(s[r]))) }
            match kind { WriteKind::Delete => { data.rows.remove(key.as_ref()); }
                WriteKind::Put => { let mut v = vec![]; for c in &table.columns { let x = get(c.id)?; if x == Value::Null && !c.nullable { return Err(Error::new(ErrorKind::NullViolation, format!("column {} takes no NULL", c.name))) } v.push(x) } data.rows.insert(key.as_ref().to_vec(), (self.base.seq + 1, v)); } }
        }
        Ok(())
    }
    /// Starts a bulk load: rows are staged in sorted runs within `memory_bytes`, seen by nobody before commit.
    pub fn ingest<'t>(&'t mut self, table: &TableDef, on_conflict: OnConflict, _memory_bytes: usize) -> Result<Ingest<'t>> {
        Ok(Ingest { txn: self, table: Arc::new(table.clone()), on_conflict, report: IngestReport::default() })
    }
    /// Remembers with this commit that a file was loaded into a table.
    pub fn record_load(&mut self, table: &TableDef, record: LoadRecord) -> Result<()> { Arc::make_mut(self.world.data.entry(table.storage).or_default()).loads.push(record); Ok(()) }
    /// Checks every expectation, makes the change durable, then visible. Returns its sequence number.
    pub fn commit(mut self) -> Result<Seq> {
        let mut w = self.db.world.lock().unwrap();
        for (s, t, k, e) in &self.expects {
            let now = w.data.get(s).and_then(|d| d.rows.get(k)).map(|r| r.0); let base = self.base.data.get(s).and_then(|d| d.rows.get(k)).map(|r| r.0);
            if now != base || e.is_some() && now != *e { return Err(Error::new(ErrorKind::WriteConflict, "a row changed since it was read").about_row(*t, k)) }
        }
        self.world.seq = w.seq + 1; *w = Arc::new(std::mem::take(&mut self.world)); Ok(w.seq)
    }
    /// Same as dropping it.
    pub fn rollback(self) {}
}

/// A bulk load under way.
#[derive(Debug)]
pub struct Ingest<'t> { txn: &'t mut Transaction, table: Arc<TableDef>, on_conflict: OnConflict, report: IngestReport }
impl Ingest<'_> {
    /// Takes rows in any order; `columns` as in [`Transaction::write`].
    pub fn write(&mut self, columns: &[ColumnId], batch: &RecordBatch) -> Result<()> {
        self.report.rows_read += batch.num_rows() as u64; self.report.rows_stored += batch.num_rows() as u64;
        let e = match self.on_conflict { OnConflict::Error => Expectation::Absent, OnConflict::Skip | OnConflict::Replace => Expectation::None };
        let t = self.table.clone(); self.txn.write(&t, WriteKind::Put, columns, batch, e)
    }
    /// Ends the load; it becomes part of the transaction. Conflicts within the load are found here at the latest, those with
    /// the table at commit at the latest: the final counts are in what `Transaction::commit_report`… (the real one: `finish` does both under the table's gate).
    pub fn finish(self) -> Result<IngestReport> { Ok(self.report) }
}
