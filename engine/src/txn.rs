/*!
One atomic change: rows buffered in memory or staged as runs, expectations about what is there, and a commit that checks
them and makes everything durable and visible at once.

```text
    store      what transactions and background work share
    catalog    which tables there are, and their system tables
    snapshot   a consistent view
    incoming   batches as callers hand them in
    buffer     rows while they are few
    record     a commit as a record of the log
    gate       a table's write gate
    pace       how fast writers may go while flushes, merges or the log have fallen behind
    sort       rows gathered and sorted
    stage      staged runs, held against the table
    commit     the two ways of a commit: through the log, and by publishing runs
    ingest     a bulk load
```

A transaction's rows lie in a buffer of its own, under numbers that follow its snapshot's: so it reads its own writes,
and the last write of a key wins. Once they pass a bound they are staged as runs instead (`stage`).

A deleted range lies behind all of the transaction's own rows, and before the table's: those that the transaction itself has
written into the range before are deleted one by one. Whoever deletes a range deletes the rows that its snapshot sees; if
others have committed to the range since, its commit is refused with `WriteConflict`, as for a single row. A row put by
others that the snapshot does not see could be spared only by writing down each row that is not: that would not be one
deletion any more.
*/

mod buffer;
pub(crate) mod catalog;
mod commit;
mod gate;
mod incoming;
pub(crate) mod ingest;
pub(crate) mod pace;
pub(crate) mod record;
pub(crate) mod reserve;
pub(crate) mod snapshot;
mod sort;
mod stage;
pub(crate) mod store;

pub use ingest::{Ingest, IngestReport, OnConflict};
pub use snapshot::Snapshot;

use crate::error::{Error, ErrorKind, Result};
use crate::io::sync::Mutex;
use crate::key::{Key, KeyRange};
use crate::limits::{ERASED_RANGES_MAX, KEY_BYTES_MAX};
use crate::manifest::LoadRecord;
use crate::memtable::Kind;
use crate::row::BatchRows;
use crate::run::RunSchema;
use crate::scan::expiry::Expiry;
use crate::scan::merge::{EXPECT_ABSENT, EXPECT_ERASED};
use crate::scan::plan::{Edge, Span};
use crate::scan::tree::{Erased, RunRef, Source};
use crate::scan::{Layer, Scan, ScanRequest};
use crate::types::{ColumnId, NewTable, NewTtl, RunChoices, Seq, StorageId, TableDef, TableId, Value};
use arrow::array::{ArrayRef, RecordBatch};
use buffer::Buffer;
use catalog::{Catalog, Change, Changes, define, define_ttl, no_such_table, table_exists};
use gate::Pass;
use incoming::Incoming;
use snapshot::Overlay;
use sort::{Doubles, Expects, columns_bytes};
use stage::{Stager, changed_row, duplicate_row};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use store::{Storage, Store};

/// What becomes of rows in a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteKind {
    /// They are stored.
    Put,
    /// They go.
    Delete,
}

/// What must hold for each row at commit, checked atomically with it.
#[derive(Debug, Clone, Copy)]
pub enum Expectation<'a> {
    /// Nothing: put or delete whatever is there.
    None,
    /// No row has this key (or it is deleted by this same transaction): else `DuplicateKey`. One that has expired is none, but
    /// for those that this same transaction has put.
    Absent,
    /// The row is the one that has this sequence number: else `WriteConflict`. One number per row of the batch.
    Unchanged(&'a [Seq]),
}

/// What a transaction does to one storage.
#[derive(Debug)]
struct TableWrites {
    table: Arc<TableDef>,
    storage: Storage,
    schema: Arc<RunSchema>,
    /// Which of the table's rows are there no more, for this transaction.
    expiry: Option<Expiry>,
    /// Rows while they are few.
    buffer: Buffer,
    /// What the first write of a key expects, as in [`stage`].
    expects: Vec<(Key, Seq)>,
    /// Deleted ranges of keys, older than all rows here, ascending and disjoint.
    erased: Vec<Span>,
    /// Rows since they became many. Behind a lock because a snapshot has to stage what was gathered.
    stager: Mutex<Option<Stager>>,
    /// Runs of a bulk load, older than the rest and held against the table already.
    loaded: Vec<Arc<RunRef>>,
    /// Closed since the load was held against the table.
    pass: Option<Pass>,
}

/// One atomic change: everything or nothing, at commit. Dropped without commit, it leaves nothing.
#[derive(Debug)]
pub struct Transaction {
    store: Arc<Store>,
    base: Snapshot,
    /// The catalog as this transaction sees it.
    catalog: Arc<Catalog>,
    changes: Changes,
    /// Storages that this transaction made.
    fresh: BTreeMap<StorageId, Storage>,
    writes: BTreeMap<StorageId, TableWrites>,
    loads: Vec<(StorageId, LoadRecord)>,
    /// Writes so far.
    writes_done: u64,
    /// A write failed half-way: what is buffered is not to be committed.
    failed: bool,
}

impl Transaction {
    pub(crate) fn new(store: Arc<Store>) -> Result<Self> {
        store.check_writable()?;
        let base = store.snapshot();
        let catalog = Arc::clone(&base.view().catalog);
        Ok(Transaction {
            store,
            base,
            catalog,
            changes: Changes::new(),
            fresh: BTreeMap::new(),
            writes: BTreeMap::new(),
            loads: Vec::new(),
            writes_done: 0,
            failed: false,
        })
    }

    /// What this transaction sees: its snapshot and its own writes so far.
    pub fn snapshot(&self) -> Snapshot {
        if self.writes.is_empty() && self.changes.is_empty() {
            return self.base.clone();
        }
        let mut overlay = Overlay::new();
        let mut broken = None;
        for (storage, writes) in &self.writes {
            match writes.layers(self.last_own_seq()) {
                Ok(layers) => {
                    overlay.insert(*storage, layers);
                }
                Err(error) => broken = Some(error.to_string()),
            }
        }
        let mut trees = Arc::clone(&self.base.view().trees);
        if !self.fresh.is_empty() {
            let mut own = (*trees).clone();
            own.extend(self.fresh.iter().map(|(id, storage)| (*id, storage.clone())));
            trees = Arc::new(own);
        }
        self.base.over(Arc::clone(&self.catalog), trees, overlay, broken)
    }

    /// The number under which this transaction's latest write is seen by itself.
    fn last_own_seq(&self) -> Seq {
        self.base.seq() + self.writes_done
    }

    /// Makes a table.
    ///
    /// # Errors
    /// `TableExists`; `InvalidArgument` for column names that are empty, doubled or unknown and for key columns without
    /// an order; `LimitExceeded` for too many columns.
    pub fn create_table(&mut self, new: NewTable) -> Result<Arc<TableDef>> {
        self.store.check_writable()?;
        if self.catalog.by_name(&new.name).is_some() {
            return Err(table_exists(&new.name));
        }
        let (id, storage) = (TableId(self.store.take_id()), StorageId(self.store.take_id()));
        let table = Arc::new(define(new, id, storage)?);
        self.fresh.insert(storage, self.store.fresh_storage(&table)?);
        self.change(id, Some(Arc::clone(&table)))?;
        Ok(table)
    }

    /// Drops a table. `NoSuchTable`.
    pub fn drop_table(&mut self, id: TableId) -> Result<()> {
        self.store.check_writable()?;
        let table = self.catalog.by_id(id).cloned().ok_or_else(|| no_such_table(id))?;
        self.forget(table.storage);
        self.change(id, None)
    }

    /// Empties a table: it gets a new storage, and the definition that names it. `NoSuchTable`.
    pub fn truncate(&mut self, id: TableId) -> Result<Arc<TableDef>> {
        self.store.check_writable()?;
        let mut table = self.catalog.by_id(id).ok_or_else(|| no_such_table(id))?.as_ref().clone();
        self.forget(table.storage);
        table.storage = StorageId(self.store.take_id());
        let table = Arc::new(table);
        self.fresh.insert(table.storage, self.store.fresh_storage(&table)?);
        self.change(id, Some(Arc::clone(&table)))?;
        Ok(table)
    }

    /// Says anew when a table's rows expire: `None` that they don't. Rows that merges have removed by then stay away.
    ///
    /// # Errors
    /// `NoSuchTable`, `NoSuchColumn`, `InvalidArgument` for a column that is no moment and for a time that is not positive.
    pub fn set_ttl(&mut self, id: TableId, ttl: Option<NewTtl>) -> Result<Arc<TableDef>> {
        self.store.check_writable()?;
        let mut table = self.catalog.by_id(id).ok_or_else(|| no_such_table(id))?.as_ref().clone();
        table.ttl = ttl.map(|ttl| define_ttl(&table.name, &table.columns, &ttl)).transpose()?;
        let table = Arc::new(table);
        self.change(id, Some(Arc::clone(&table)))?;
        Ok(table)
    }

    /// Says anew how a table's runs are written: those that are written from then on. `NoSuchTable`.
    pub fn set_run_choices(&mut self, id: TableId, runs: RunChoices) -> Result<Arc<TableDef>> {
        self.store.check_writable()?;
        let mut table = self.catalog.by_id(id).ok_or_else(|| no_such_table(id))?.as_ref().clone();
        table.runs = runs;
        let table = Arc::new(table);
        self.change(id, Some(Arc::clone(&table)))?;
        Ok(table)
    }

    /// What was written into a storage that goes.
    fn forget(&mut self, storage: StorageId) {
        self.fresh.remove(&storage);
        self.writes.remove(&storage);
        self.loads.retain(|(other, _)| *other != storage);
    }

    fn change(&mut self, id: TableId, after: Option<Arc<TableDef>>) -> Result<()> {
        let before = self.base.view().catalog.by_id(id).cloned();
        if before.is_none() && after.is_none() {
            self.changes.remove(&id);
        } else {
            self.changes.insert(id, Change { before, after });
        }
        self.catalog = Arc::new(self.base.view().catalog.with(&self.changes)?);
        Ok(())
    }

    /// Buffers rows. `columns` says what the batch's columns are. Put: every declared column, or those named (the others
    /// are NULL); `ROW_ID` where a row of a keyless table is rewritten, else new ids are given. Delete: the key's columns
    /// (or `ROW_ID`), others are ignored. A later write of the same key in this transaction wins over an earlier one, but
    /// two `Absent` puts of one key are a `DuplicateKey`.
    ///
    /// After an error the transaction can only be rolled back.
    ///
    /// # Errors
    /// `NullViolation` (names the column), `DuplicateKey` / `WriteConflict` (may also come only at commit),
    /// `InvalidArgument`, `NoSuchTable` where the definition is not the current one.
    pub fn write(
        &mut self,
        table: &TableDef,
        kind: WriteKind,
        columns: &[ColumnId],
        batch: &RecordBatch,
        expectation: Expectation<'_>,
    ) -> Result<()> {
        self.store.check_writable()?;
        let done = self.try_write(table, kind, columns, batch, expectation);
        self.failed = self.failed || done.is_err();
        done
    }

    fn try_write(
        &mut self,
        table: &TableDef,
        kind: WriteKind,
        columns: &[ColumnId],
        batch: &RecordBatch,
        expectation: Expectation<'_>,
    ) -> Result<()> {
        let buffer_bytes = self.store.limits.buffer_bytes;
        let buffered: usize = self.writes.values().map(|writes| writes.buffer.bytes()).sum();
        self.writes_done += 1;
        let (seq, base_seq) = (self.last_own_seq(), self.base.seq());
        let (store, writes) = self.writes_of(table)?;
        let incoming = Incoming::new(table, &writes.schema, &writes.storage.shared, kind, columns, batch)?;
        let expects = match expectation {
            // Nobody else can have a row id that was just given out.
            Expectation::Absent if table.has_hidden_key() && !columns.contains(&ColumnId::ROW_ID) => Expects::All(0),
            Expectation::None => Expects::All(0),
            Expectation::Absent => Expects::All(EXPECT_ABSENT),
            Expectation::Unchanged(seqs) if seqs.len() == incoming.len() => Expects::Each(seqs.to_vec()),
            Expectation::Unchanged(seqs) => {
                let message = format!("{} sequence numbers for {} rows", seqs.len(), incoming.len());
                return Err(Error::invalid(message));
            }
        };
        let expects = writes.expect_of_erased(&incoming, expects, base_seq)?;
        let many = buffered + columns_bytes(&incoming.columns) > buffer_bytes;
        if many && writes.stager.lock().is_none() {
            writes.stage(&store)?;
        }
        if let Some(stager) = writes.stager.lock().as_mut() {
            return stager.push(incoming, kind == WriteKind::Delete, expects);
        }
        writes.buffer(&incoming, kind, &expects, seq)
    }

    /// Stores one row: `values` are those of the table's columns in their declared order. What [`Transaction::write`] does with a
    /// batch of one row that expects nothing, for callers that have values and no arrays.
    ///
    /// After an error the transaction can only be rolled back.
    ///
    /// # Errors
    /// As [`Transaction::write`].
    pub fn put(&mut self, table: &TableDef, values: &[Value]) -> Result<()> {
        self.store.check_writable()?;
        let done = self.try_put(table, values);
        self.failed = self.failed || done.is_err();
        done
    }

    fn try_put(&mut self, table: &TableDef, values: &[Value]) -> Result<()> {
        if values.len() != table.columns.len() {
            let (given, wanted) = (values.len(), table.columns.len());
            return Err(Error::invalid(format!("{given} values for table {} of {wanted} columns", table.name)));
        }
        let buffer_bytes = self.store.limits.buffer_bytes;
        let buffered: usize = self.writes.values().map(|writes| writes.buffer.bytes()).sum();
        let (_, writes) = self.writes_of(table)?;
        if buffered > buffer_bytes || writes.stager.lock().is_some() {
            let batch = incoming::of_one_row(table, values)?;
            return self.try_write(table, WriteKind::Put, &table.column_ids(), &batch, Expectation::None);
        }
        let (key, row) = incoming::encode(table, &writes.schema, &writes.storage.shared, values)?;
        self.writes_done += 1;
        let seq = self.last_own_seq();
        let writes = self.writes.get_mut(&table.storage).ok_or_else(|| no_such_table(table.id))?;
        writes.buffer.push(&key, seq, Kind::Put, &row);
        Ok(())
    }

    /// Deletes every row whose key lies in the range, as this transaction sees it, without reading the table: what was
    /// written into the range by this transaction goes row by row, the table's rows go with one entry in the log. Rows that
    /// this transaction writes into the range afterwards stay.
    ///
    /// After an error the transaction can only be rolled back.
    ///
    /// # Errors
    /// `NoSuchTable` where the definition is not the current one, `LimitExceeded` for a bound that is longer than a key may
    /// be and for more than [`ERASED_RANGES_MAX`] ranges that do not meet. At commit `WriteConflict` where another
    /// transaction has committed a change of a row of the range since this one began, whether its snapshot saw the row or not.
    pub fn delete_range(&mut self, table: &TableDef, range: &KeyRange) -> Result<()> {
        self.store.check_writable()?;
        let done = self.try_delete_range(table, range);
        self.failed = self.failed || done.is_err();
        done
    }

    fn try_delete_range(&mut self, table: &TableDef, range: &KeyRange) -> Result<()> {
        let long = |bound: &Bound<Key>| match bound {
            Bound::Included(key) | Bound::Excluded(key) => key.as_bytes().len() > KEY_BYTES_MAX,
            Bound::Unbounded => false,
        };
        if long(&range.start) || long(&range.end) {
            let message = format!("a bound of a range of keys has more than {KEY_BYTES_MAX} bytes");
            return Err(Error::new(ErrorKind::LimitExceeded, message));
        }
        let seq = self.last_own_seq();
        let (_, writes) = self.writes_of(table)?;
        if range.is_empty() {
            return Ok(());
        }
        let keys: Vec<ColumnId> = match writes.is_hidden_key() {
            true => vec![ColumnId::ROW_ID],
            false => writes.table.key.clone(),
        };
        let request = ScanRequest { ranges: vec![range.clone()], projection: keys.clone(), ..ScanRequest::default() };
        // Those that have expired already, too: nothing of the range is to come back.
        let own = Scan::new(writes.layers(seq)?, &writes.table, request, None)?;
        for batch in own {
            self.try_write(table, WriteKind::Delete, &keys, &batch?, Expectation::None)?;
        }
        self.writes_done += 1;
        self.writes_of(table)?.1.erase(Span::of(range))
    }

    /// The storage's writes so far.
    fn writes_of(&mut self, table: &TableDef) -> Result<(Arc<Store>, &mut TableWrites)> {
        let now = self.catalog.by_id(table.id).filter(|now| now.storage == table.storage);
        let now = now.ok_or_else(|| no_such_table(table.id))?;
        if !self.writes.contains_key(&table.storage) {
            let known = self.fresh.get(&table.storage).or_else(|| self.base.view().trees.get(&table.storage));
            let storage = known.cloned().ok_or_else(|| Error::internal("a table without a storage"))?;
            let schema = Arc::clone(&storage.tree.schema);
            let expiry = self.base.expiry(table.storage);
            let writes = TableWrites {
                table: Arc::clone(now),
                storage,
                schema,
                expiry,
                buffer: Buffer::new(),
                expects: Vec::new(),
                erased: Vec::new(),
                stager: Mutex::new(None),
                loaded: Vec::new(),
                pass: None,
            };
            self.writes.insert(table.storage, writes);
        }
        let writes = self.writes.get_mut(&table.storage).ok_or_else(|| no_such_table(table.id))?;
        Ok((Arc::clone(&self.store), writes))
    }

    /// Starts a bulk load: rows are staged in sorted runs within `memory_bytes`, seen by nobody before commit. It must be
    /// the first thing that the transaction does to the table.
    ///
    /// # Errors
    /// `InvalidArgument` where the transaction has written to the table already; `NoSuchTable`.
    pub fn ingest<'t>(
        &'t mut self,
        table: &TableDef,
        on_conflict: OnConflict,
        memory_bytes: usize,
    ) -> Result<Ingest<'t>> {
        self.store.check_writable()?;
        let budget = memory_bytes.clamp(1 << 20, self.store.limits.stage_bytes.max(1 << 20));
        let (store, writes) = self.writes_of(table)?;
        if !writes.is_untouched() {
            return Err(Error::invalid("a load must be the first thing that a transaction does to a table"));
        }
        let doubles = match on_conflict {
            OnConflict::Error => Doubles::Refuse,
            OnConflict::Skip => Doubles::First,
            OnConflict::Replace => Doubles::Last,
        };
        let stager = writes.stager(&store, doubles, budget);
        Ok(Ingest::new(self, table.storage, stager, on_conflict))
    }

    /// Remembers with this commit that a file was loaded into a table. `NoSuchTable`.
    pub fn record_load(&mut self, table: &TableDef, record: LoadRecord) -> Result<()> {
        self.store.check_writable()?;
        if !self.catalog.is_live(table.id, table.storage) {
            return Err(no_such_table(table.id));
        }
        self.loads.push((table.storage, record));
        Ok(())
    }

    /// Checks every expectation, makes the change durable, then visible. Returns its sequence number.
    ///
    /// # Errors
    /// `DuplicateKey`, `WriteConflict` (also where another transaction changed or dropped the table), `TableExists`,
    /// `DiskFull`: nothing happened then. `Poisoned` and `Io`: whether it happened, reopening tells.
    pub fn commit(mut self) -> Result<Seq> {
        self.store.check_writable()?;
        if self.failed {
            return Err(Error::invalid("a write of this transaction failed; it can only be rolled back"));
        }
        // A load without rows has closed the gate, too, which the way through the log would wait for.
        let staged = |writes: &TableWrites| writes.pass.is_some() || writes.stager.lock().is_some();
        if !self.loads.is_empty() || self.writes.values().any(staged) {
            return self.commit_runs();
        }
        if self.changes.is_empty() && self.writes.values().all(TableWrites::is_empty) {
            return Ok(self.base.seq());
        }
        self.commit_record()
    }

    /// Same as dropping it.
    pub fn rollback(self) {}
}

impl TableWrites {
    fn is_untouched(&self) -> bool {
        self.is_empty() && self.pass.is_none() && self.stager.lock().is_none()
    }

    /// Whether nothing is buffered.
    fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.erased.is_empty()
    }

    fn stager(&self, store: &Arc<Store>, doubles: Doubles, budget: usize) -> Stager {
        Stager::new(store, &self.table, &self.schema, self.expiry, doubles, budget)
    }

    fn is_hidden_key(&self) -> bool {
        self.table.has_hidden_key()
    }

    /// Puts rows into the buffer.
    fn buffer(&mut self, incoming: &Incoming, kind: WriteKind, expects: &Expects, seq: Seq) -> Result<()> {
        let mut stored = self.schema.row_columns();
        if kind == WriteKind::Delete {
            stored.retain(|column| self.schema.key_columns.contains(&column.0));
        }
        let array = |(id, _): &(ColumnId, _)| {
            let place = self.schema.position(*id).and_then(|place| incoming.columns.get(place));
            place.cloned().ok_or_else(|| Error::internal("a stored column is missing"))
        };
        let arrays: Vec<ArrayRef> = stored.iter().map(array).collect::<Result<_>>()?;
        let rows = BatchRows::new(&stored, &arrays, incoming.len())?;
        let kind = match kind {
            WriteKind::Put => Kind::Put,
            WriteKind::Delete => Kind::Tombstone,
        };
        let mut order: Vec<usize> = (0..incoming.len()).collect();
        // Errors of what rows expect name the first that is wrong, so only those that expect nothing may come in another order.
        if matches!(expects, Expects::All(0)) && !incoming.keys.is_sorted() {
            order.sort_by(|one, other| incoming.keys.get(*one).cmp(incoming.keys.get(*other)));
        }
        let mut bytes = Vec::new();
        for row in order {
            let key = incoming.keys.get(row);
            self.expect(key, expects.of(row))?;
            bytes.clear();
            rows.encode(row, &mut bytes)?;
            self.buffer.push(key, seq, kind, &bytes);
        }
        Ok(())
    }

    /// Adds a deleted range to the others, as one with those that it meets.
    fn erase(&mut self, mut span: Span) -> Result<()> {
        let meets = |other: &Span, span: &Span| other.from <= span.to && span.from <= other.to;
        for other in self.erased.iter().filter(|other| meets(other, &span)).cloned().collect::<Vec<_>>() {
            span.from = span.from.min(other.from);
            span.to = span.to.max(other.to);
        }
        self.erased.retain(|other| !meets(other, &span));
        if self.erased.len() >= ERASED_RANGES_MAX {
            let message = format!("a transaction deletes more than {ERASED_RANGES_MAX} ranges of keys of one table");
            return Err(Error::new(ErrorKind::LimitExceeded, message));
        }
        let place = self.erased.partition_point(|other| other.from < span.from);
        self.erased.insert(place, span);
        Ok(())
    }

    fn has_erased(&self, key: &[u8]) -> bool {
        let behind = self.erased.partition_point(|span| span.to <= Edge::At(key.into(), false));
        self.erased.get(behind).is_some_and(|span| span.contains(key))
    }

    /// What rows expect of keys that this transaction has deleted with a range: of the table, nothing any more.
    fn expect_of_erased(&self, incoming: &Incoming, expects: Expects, base_seq: Seq) -> Result<Expects> {
        if self.erased.is_empty() || matches!(expects, Expects::All(0)) {
            return Ok(expects);
        }
        let mut each = Vec::with_capacity(incoming.len());
        for (row, key) in incoming.keys.iter().enumerate() {
            each.push(match expects.of(row) {
                expects if !self.has_erased(key) => expects,
                EXPECT_ABSENT => EXPECT_ERASED,
                // The table's row, which is gone; a higher number is that of an own row written since.
                seq if seq > 0 && seq <= base_seq => return Err(changed_row(&self.table, key)),
                seq => seq,
            });
        }
        Ok(Expects::Each(each))
    }

    /// Notes what a write expects, or holds it against an earlier write of the same transaction.
    fn expect(&mut self, key: &[u8], expects: Seq) -> Result<()> {
        if expects == 0 {
            return Ok(());
        }
        match self.buffer.latest(key) {
            Some(own) if expects == EXPECT_ABSENT || expects == EXPECT_ERASED => match own.is_tombstone() {
                true => Ok(()),
                false => Err(duplicate_row(&self.table, key)),
            },
            Some(own) if own.seq() != expects => Err(changed_row(&self.table, key)),
            Some(_) => Ok(()),
            None => {
                self.expects.push((key.into(), expects));
                Ok(())
            }
        }
    }

    /// Puts the buffered rows into runs, and all that follow.
    fn stage(&mut self, store: &Arc<Store>) -> Result<()> {
        let budget = store.limits.stage_bytes;
        let mut stager = self.stager(store, Doubles::Fold, budget);
        if !self.buffer.is_empty() {
            let expects: BTreeMap<Key, Seq> = std::mem::take(&mut self.expects).into_iter().collect();
            stager.adopt_mem(&self.buffer.mem(), expects)?;
            self.buffer = Buffer::new();
        }
        *self.stager.lock() = Some(stager);
        Ok(())
    }

    /// What was written, newest first, as seen by the transaction itself.
    fn layers(&self, seq: Seq) -> Result<Vec<Layer>> {
        let mut layers = Vec::new();
        if !self.buffer.is_empty() {
            layers.push(Layer { source: Source::Mem(self.buffer.mem()), at: seq });
        }
        let mut runs = self.loaded.clone();
        if let Some(stager) = self.stager.lock().as_mut() {
            stager.spill()?;
            runs.extend(stager.runs().iter().cloned());
        }
        // Their stored numbers are expectations; seen from here they are all of this transaction.
        let own = |run: &Arc<RunRef>| Layer { source: Source::Run(run.moved(0, Some(seq))), at: seq };
        layers.extend(runs.iter().rev().map(own));
        let range = |span: &Span| Source::Erased(Arc::new(Erased { span: span.clone(), seq }));
        layers.extend(self.erased.iter().map(|span| Layer { source: range(span), at: seq }));
        Ok(layers)
    }
}
