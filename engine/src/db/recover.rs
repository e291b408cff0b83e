/*!
From what a manifest and a log say to trees and a catalog: the common part of opening for writing and for reading.

Records of the log go into memtables again, but for those whose rows lie in runs already. Where runs or deleted ranges were
published between two records of a table, the records before and after go into different memtables, so that age stays the
order of sources.
*/

use crate::compaction::output::Output;
use crate::error::{Error, Result};
use crate::key::{KeyRange, KeySchema};
use crate::manifest::{self, LoadRecord, StorageState};
use crate::memtable::{Kind, head};
use crate::run::RunSchema;
use crate::scan::plan::Span;
use crate::scan::tree::{Erased, LAST_LEVEL, Mem, RunRef, Source, Tree};
use crate::scan::{Scan, ScanRequest};
use crate::txn::catalog::{Catalog, CatalogLoader, SystemTables};
use crate::txn::record::{self, RowChange, What};
use crate::txn::snapshot::Snapshot;
use crate::txn::store::{Shared, Storage, Trees, View};
use crate::types::{ColumnId, Seq, StorageId, TableDef, Value};
use crate::wal::Lsn;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// The rows of one storage that the log has and no run.
#[derive(Debug, Default)]
struct Tail {
    /// Numbers of commits that published runs and that records may lie before, ascending.
    boundaries: Vec<Seq>,
    flushed: Seq,
    /// By how many boundaries lie before them, and then by age: a full one is followed by another.
    mems: BTreeMap<(usize, usize), Arc<Mem>>,
    /// The number of the one among those behind the same boundaries that is being filled.
    part: usize,
    last_commit: Seq,
}

/// Bytes of rows that are gathered and sorted before they are put into memtables: neighbours in a list of millions are found in
/// half the time where they come one after the other.
const GATHER_BYTES: usize = 64 << 20;

/// Rows on their way into memtables.
#[derive(Debug, Default)]
struct Gathered {
    /// Their keys and rows.
    bytes: Vec<u8>,
    rows: Vec<GatheredRow>,
}

#[derive(Debug)]
struct GatheredRow {
    mem: Arc<Mem>,
    seq: Seq,
    kind: Kind,
    key: Range<usize>,
    row: Range<usize>,
}

impl Gathered {
    fn push(&mut self, mem: &Arc<Mem>, seq: Seq, change: &RowChange<'_>) {
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(change.key);
        let middle = self.bytes.len();
        self.bytes.extend_from_slice(change.row);
        let (key, row) = (begin..middle, middle..self.bytes.len());
        self.rows.push(GatheredRow { mem: Arc::clone(mem), seq, kind: change.kind, key, row });
    }

    /// Puts the rows where they belong, in key order: what is sorted is small, and mostly its keys' heads tell.
    fn settle(&mut self) {
        let bytes = |range: &Range<usize>| self.bytes.get(range.clone()).unwrap_or_default();
        let mut order: Vec<(u64, &GatheredRow)> = self.rows.iter().map(|row| (head(bytes(&row.key)), row)).collect();
        order.sort_by(|(a_head, a), (b_head, b)| a_head.cmp(b_head).then_with(|| bytes(&a.key).cmp(bytes(&b.key))));
        for (_, row) in order {
            row.mem.table.insert(bytes(&row.key), row.seq, row.kind, bytes(&row.row));
        }
        self.rows.clear();
        self.bytes.clear();
    }
}

/// Takes the records of the log.
#[derive(Debug)]
pub(crate) struct Replay {
    tails: BTreeMap<StorageId, Tail>,
    memtable_bytes: usize,
    gathered: Gathered,
    /// Where the next record begins.
    position: Lsn,
    pub(crate) last_seq: Seq,
    /// Whether a number is missing between the manifest's last and the log's.
    gap: bool,
    pub(crate) next_mem: u64,
}

fn boundaries(state: &StorageState) -> Vec<Seq> {
    let upper = state.runs.iter().filter(|run| run.level != LAST_LEVEL);
    let published = upper.filter_map(|run| run.fixed_seq).chain(state.erased.iter().map(|erased| erased.seq));
    let mut seqs: Vec<Seq> = published.filter(|seq| *seq > state.flushed_seq).collect();
    seqs.sort_unstable();
    seqs.dedup();
    seqs
}

impl Replay {
    /// Fills memtables of about `memtable_bytes`.
    pub(crate) fn new(state: &manifest::State, memtable_bytes: usize) -> Replay {
        let tail = |state: &StorageState| Tail {
            boundaries: boundaries(state),
            flushed: state.flushed_seq,
            ..Tail::default()
        };
        let tails = state.storages.iter().map(|(id, state)| (*id, tail(state))).collect();
        let newest_of = |storage: &StorageState| {
            let ranges = storage.erased.iter().map(|erased| erased.seq);
            storage.runs.iter().map(manifest::RunEntry::max_seq).chain(ranges).max()
        };
        let newest = state.storages.values().filter_map(newest_of).max();
        let last_seq = state.last_seq.max(newest.unwrap_or(0));
        Replay {
            tails,
            memtable_bytes,
            gathered: Gathered::default(),
            position: state.wal_released_to,
            last_seq,
            gap: false,
            next_mem: 1,
        }
    }

    /// Takes the record that ends at `end`.
    pub(crate) fn take(&mut self, end: Lsn, bytes: &[u8]) -> Result<()> {
        self.take_of(end, bytes, |_| true)
    }

    /// Takes of the record that ends at `end` the rows of those storages that are `wanted`.
    pub(crate) fn take_of(&mut self, end: Lsn, bytes: &[u8], wanted: impl Fn(StorageId) -> bool) -> Result<()> {
        let start = std::mem::replace(&mut self.position, end);
        let record = record::decode(bytes)?;
        self.gap |= record.seq > self.last_seq.saturating_add(1);
        self.last_seq = self.last_seq.max(record.seq);
        for operation in record.operations {
            let operation = operation?;
            if !wanted(operation.storage) {
                continue;
            }
            let tail = self.tails.entry(operation.storage).or_default();
            let begins = record.seq > tail.last_commit;
            tail.last_commit = tail.last_commit.max(record.seq);
            if record.seq <= tail.flushed {
                continue;
            }
            let place = tail.boundaries.partition_point(|seq| *seq < record.seq);
            // A commit's rows stay together, so that age stays the order of sources.
            let full = |mem: &Arc<Mem>| mem.table.bytes() >= self.memtable_bytes;
            if begins && tail.mems.get(&(place, tail.part)).is_some_and(full) {
                tail.part += 1;
            }
            let next_mem = &mut self.next_mem;
            let mem = tail.mems.entry((place, tail.part)).or_insert_with(|| {
                *next_mem += 1;
                Mem::new(*next_mem)
            });
            mem.needs(start);
            match &operation.what {
                What::Row(change) => self.gathered.push(mem, record.seq, change),
                What::Erase(range) => mem.erase(Span::of(range), record.seq),
            }
        }
        if self.gathered.bytes.len() >= self.memtable_bytes.min(GATHER_BYTES) {
            self.gathered.settle();
        }
        Ok(())
    }

    /// Whether a commit lies before the log's last that neither log nor manifest have: a load, which a later version of the
    /// manifest has.
    pub(crate) fn has_gap(&self) -> bool {
        self.gap
    }

    fn fresh_mem(&mut self) -> Arc<Mem> {
        self.next_mem += 1;
        Mem::new(self.next_mem)
    }
}

/// What was recovered.
pub(crate) struct Recovered {
    pub(crate) view: View,
    pub(crate) next_id: u64,
    pub(crate) loads: BTreeMap<StorageId, Vec<LoadRecord>>,
    /// Storages that no table has any more.
    pub(crate) orphans: Vec<StorageId>,
}

/// Builds trees and catalog.
pub(crate) fn recover(state: &manifest::State, mut replay: Replay, output: &Output) -> Result<Recovered> {
    replay.gathered.settle();
    let system = SystemTables::new();
    let mut trees = Trees::new();
    for table in system.all() {
        trees.insert(table.storage, storage(table, state, &mut replay, output)?);
    }
    let (catalog, next_id) = load_catalog(&trees, replay.last_seq)?;
    for table in catalog.tables() {
        trees.insert(table.storage, storage(table, state, &mut replay, output)?);
    }
    let known = |id: &&StorageId| !trees.contains_key(id);
    let orphans = state.storages.keys().filter(known).copied().collect();
    let loads = state.storages.iter().map(|(id, storage)| (*id, storage.loads.clone())).collect();
    let view = View { seq: replay.last_seq, catalog: Arc::new(catalog), trees: Arc::new(trees) };
    Ok(Recovered { view, next_id, loads, orphans })
}

/// One storage out of its runs and its tail.
fn storage(table: &TableDef, state: &manifest::State, replay: &mut Replay, output: &Output) -> Result<Storage> {
    let empty = StorageState::default();
    let stored = state.storages.get(&table.storage).unwrap_or(&empty);
    let tail = replay.tails.remove(&table.storage).unwrap_or_default();
    let mut runs: Vec<Arc<RunRef>> = Vec::with_capacity(stored.runs.len());
    for entry in &stored.runs {
        runs.push(output.open(entry.meta.clone(), entry.level, entry.fixed_seq)?);
    }
    let (last, upper): (Vec<_>, Vec<_>) = runs.iter().cloned().partition(|run| run.level == LAST_LEVEL);
    let mut mems = tail.mems;
    // Only records behind all boundaries are newer than all runs.
    let newest = mems.last_entry().filter(|entry| entry.key().0 == tail.boundaries.len());
    let active = newest.map_or_else(|| replay.fresh_mem(), |entry| entry.remove());
    let mut sources: Vec<(Seq, Source)> = upper.into_iter().map(|run| (run.max_seq(), Source::Run(run))).collect();
    // Behind runs of the same number: a commit's rows are newer than its ranges.
    sources.extend(stored.erased.iter().map(|erased| {
        let range = Erased { span: Span::of(&erased.range), seq: erased.seq };
        (erased.seq, Source::Erased(Arc::new(range)))
    }));
    sources.extend(mems.into_values().map(|mem| (mem.max_seq(), Source::Mem(mem))));
    sources.sort_by_key(|(seq, _)| Reverse(*seq));
    let mut tree = Tree {
        schema: Arc::new(RunSchema::of(table)?),
        active,
        upper: sources.into_iter().map(|(_, source)| source).collect(),
        last: Vec::new(),
        rewrites: 0,
        probes: Arc::default(),
    };
    tree.add_last(last);
    let next_row_id = match table.has_hidden_key() {
        true => next_row_id(table, &tree, stored)?,
        false => 1,
    };
    let newest_run = runs.iter().map(|run| run.max_seq()).max().unwrap_or(0);
    let newest_range = stored.erased.iter().map(|erased| erased.seq).max().unwrap_or(0);
    let shared = Shared::new(next_row_id, tail.last_commit.max(newest_run).max(newest_range));
    Ok(Storage { tree: Arc::new(tree), shared })
}

/// The first row id that nobody has had: what the manifest knows, and what the log has given out since.
fn next_row_id(table: &TableDef, tree: &Tree, stored: &StorageState) -> Result<i64> {
    let mut next = i64::try_from(stored.next_row_id).map_err(|_| Error::corruption("a row id passes 2^63"))?;
    let keys = KeySchema::of(table)?;
    for mem in tree.mems() {
        let last = mem.table.range(&KeyRange::all(), Seq::MAX, true).next();
        let Some(last) = last else { continue };
        if let [Value::Int(id)] = keys.decode(last.key())?.as_slice() {
            next = next.max(id.saturating_add(1));
        }
    }
    Ok(next)
}

fn load_catalog(trees: &Trees, seq: Seq) -> Result<(Catalog, u64)> {
    catalog_loader(View { seq, catalog: Arc::default(), trees: Arc::new(trees.clone()) })?.finish()
}

/// The rows of the system tables in a view.
pub(crate) fn catalog_loader(view: View) -> Result<CatalogLoader> {
    let system = SystemTables::new();
    // Rows of the catalog don't expire.
    let snapshot = Snapshot::new(view, i64::MIN);
    let mut loader = CatalogLoader::default();
    for values in rows(&snapshot, &system.columns)? {
        loader.column(&values)?;
    }
    for values in rows(&snapshot, &system.tables)? {
        loader.table(values);
    }
    for values in rows(&snapshot, &system.counters)? {
        loader.counter(&values)?;
    }
    Ok(loader)
}

/// All rows of a small table as values.
fn rows(snapshot: &Snapshot, table: &TableDef) -> Result<Vec<Vec<Value>>> {
    let projection: Vec<ColumnId> = table.column_ids();
    let scan: Scan = snapshot.scan(table, ScanRequest { projection, ..ScanRequest::default() })?;
    let mut out = Vec::new();
    for batch in scan {
        let batch = batch?;
        for row in 0..batch.num_rows() {
            let columns = batch.columns().iter().zip(&table.columns);
            let value = |(array, column): (&arrow::array::ArrayRef, &crate::types::ColumnDef)| {
                crate::column::value_at(array.as_ref(), row, column.ty)
            };
            out.push(columns.map(value).collect::<Result<Vec<_>>>()?);
        }
    }
    Ok(out)
}

/// Opens every file for good, so that it stays readable when it is removed.
pub(crate) fn hold_files(trees: &Trees) -> Result<()> {
    trees.values().flat_map(|storage| storage.tree.runs()).try_for_each(|run| run.run.hold())
}
