/*!
The two ways of a commit.

*Through the log*: the usual one. Expectations are checked against the newest rows, durable or not, mostly before the
commit lock is taken; under it only against what came since. Then number, record and memtables; the sync follows outside.

*By publishing runs*: for loads and large transactions. Everything the transaction wrote, catalog rows too, becomes runs,
and one edit of the manifest makes them all part of the database. The log is synced before, so that history stays a
prefix.
*/

use crate::compaction::erased;
use crate::compaction::output::Manner;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;
use crate::manifest::Edit;
use crate::memtable::Entry;
use crate::run::RunSchema;
use crate::scan::merge::{EXPECT_ABSENT, EXPECT_ERASED, RowStream};
use crate::scan::plan::{Edge, Span};
use crate::scan::point::{self, Place};
use crate::scan::source::{Columns, RunReading, RunStream};
use crate::scan::tree::{Erased, LAST_LEVEL, Mem, RunRef, Source, Tree};
use crate::txn::buffer::Buffer;
use crate::txn::catalog::{Catalog, SystemRow, no_such_table, table_changed};
use crate::txn::gate::Pass;
use crate::txn::record::RecordBuilder;
use crate::txn::sort::Doubles;
use crate::txn::stage::{Rule, changed_row, duplicate_row};
use crate::txn::store::{Commits, Shared, Storage, Store, Trees};
use crate::txn::{TableWrites, Transaction};
use crate::types::{Seq, StorageId, TableDef};
use crate::wal::Lsn;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The newest version of `key` that is newer than `since`; runs that have nothing so new are not asked.
fn newest_since(tree: &Tree, key: &[u8], since: Seq) -> Result<Option<Place>> {
    for source in tree.sources() {
        let newest = match &source {
            Source::Mem(mem) => mem.max_seq(),
            Source::Run(run) => run.max_seq(),
            Source::Erased(erased) => erased.seq,
        };
        if newest <= since {
            continue;
        }
        if let Some(place) = point::find_in(&source, key, Seq::MAX)? {
            return Ok((place.seq() > since).then_some(place));
        }
    }
    Ok(None)
}

/// A key in `span` that the source has a version of which is newer than `since`.
fn changed_since(schema: &RunSchema, source: &Source, span: &Span, since: Seq) -> Result<Option<Vec<u8>>> {
    let range = span.range();
    match source {
        Source::Mem(mem) if mem.table.max_seq() <= since => Ok(None),
        Source::Mem(mem) => {
            let newer = mem.table.range(&range, Seq::MAX, false).find(|entry| entry.seq() > since);
            Ok(newer.map(|entry| entry.key().to_vec()))
        }
        Source::Erased(erased) => {
            let both = erased.span.intersect(span);
            let changed = erased.seq > since && !both.is_empty();
            Ok(changed.then(|| match both.from {
                Edge::At(key, _) => key.into_bytes(),
                Edge::Start | Edge::End => Vec::new(),
            }))
        }
        Source::Run(run) if run.max_seq() <= since || !run.overlaps(span) => Ok(None),
        Source::Run(run) => {
            let columns = Columns::none(schema);
            let reading = RunReading { with_keys: true, drop_tombstones: false, predicates: &[], filter: &[] };
            let mut rows = RunStream::new(run, range, &columns, reading);
            while let Some(batch) = rows.next()? {
                if let Some(row) = batch.seqs.iter().position(|seq| *seq > since) {
                    return Ok(Some(batch.keys.get(row).to_vec()));
                }
            }
            Ok(None)
        }
    }
}

impl TableWrites {
    /// Holds an expectation against the newest version that was found; none stands for no change.
    fn hold(&self, key: &Key, expects: Seq, found: Option<Place>) -> Result<()> {
        let Some(place) = found.filter(|_| expects != EXPECT_ERASED) else { return Ok(()) };
        match place.is_live(&self.schema, self.expiry.as_ref())? {
            true if expects == EXPECT_ABSENT => Err(duplicate_row(&self.table, key.as_ref())),
            true if place.seq() == expects => Ok(()),
            false if expects == EXPECT_ABSENT => Ok(()),
            _ => Err(changed_row(&self.table, key.as_ref())),
        }
    }

    /// Checks all expectations against a tree that has all commits up to some moment.
    fn check_all(&self, tree: &Tree) -> Result<()> {
        for (key, expects) in &self.expects {
            let there = point::find(&[], tree, key.as_ref(), Seq::MAX)?;
            if there.is_none() && *expects != EXPECT_ABSENT && *expects != EXPECT_ERASED {
                return Err(changed_row(&self.table, key.as_ref()));
            }
            self.hold(key, *expects, there)?;
        }
        Ok(())
    }

    /// Checks them against what was committed since that moment.
    fn check_since(&self, tree: &Tree, since: Seq) -> Result<()> {
        if self.storage.shared.last_commit() <= since || mutant!(ConflictMissed) {
            return Ok(());
        }
        self.expects
            .iter()
            .try_for_each(|(key, expects)| self.hold(key, *expects, newest_since(tree, key.as_ref(), since)?))
    }

    /// That nobody has committed to the deleted ranges since this transaction began. The gate is closed meanwhile, and until the
    /// commit has its number. (A row that another deleted since, and that a merge has forgotten already, is no conflict: it is
    /// gone either way.)
    fn check_ranges(&self, tree: &Tree, since: Seq) -> Result<()> {
        if self.storage.shared.last_commit() <= since || mutant!(RangeConflictMissed) {
            return Ok(());
        }
        for span in &self.erased {
            for source in tree.sources() {
                if let Some(key) = changed_since(&tree.schema, &source, span, since)? {
                    return Err(changed_row(&self.table, &key));
                }
            }
        }
        Ok(())
    }
}

/// What a commit puts into one storage's memtable.
struct Delivery {
    storage: StorageId,
    erased: Vec<Span>,
    rows: Vec<Entry>,
}

impl Transaction {
    /// Every table that was written to must still be what the definition said, or be made by this transaction; and its rows must
    /// expire as this transaction took them to.
    fn check_tables(&self, catalog: &Catalog) -> Result<()> {
        for (storage, writes) in self.writes.iter().filter(|(storage, _)| !self.fresh.contains_key(storage)) {
            if !catalog.is_live(writes.table.id, *storage) {
                return Err(no_such_table(writes.table.id));
            }
            if catalog.ttl_of(*storage) != self.base.view().catalog.ttl_of(*storage) {
                return Err(table_changed(&writes.table.name));
            }
        }
        Ok(())
    }

    /// The newest catalog with this transaction's changes; `None` where it makes none.
    fn next_catalog(&self, newest: &Catalog) -> Result<Option<Arc<Catalog>>> {
        match self.changes.is_empty() {
            true => Ok(None),
            false => newest.with(&self.changes).map(|catalog| Some(Arc::new(catalog))),
        }
    }

    /// Whether all it does is to remove tables or what is in them.
    fn gives_space_back(&self) -> bool {
        self.writes.is_empty() && self.changes.values().all(|change| change.before.is_some())
    }

    fn system_rows(&self) -> Result<Vec<SystemRow>> {
        match self.changes.is_empty() {
            true => Ok(Vec::new()),
            false => self.store.system.rows(&self.changes, self.store.next_id()),
        }
    }

    /// Through the log.
    pub(super) fn commit_record(&mut self) -> Result<Seq> {
        let store = Arc::clone(&self.store);
        store.throttle(self.writes.values().map(|writes| writes.buffer.bytes()).sum());
        let mut record = RecordBuilder::new();
        let mut deliveries = Vec::new();
        let mut passes: Vec<Pass> = Vec::new();
        for (storage, writes) in &mut self.writes {
            let gate = &writes.storage.shared.gate;
            // Whoever deletes a range passes alone: it is looked through for what others changed.
            passes.push(if writes.erased.is_empty() { gate.share()? } else { gate.close()? });
            let rows = writes.buffer.take();
            for span in &writes.erased {
                record.push_range(*storage, &span.range());
            }
            for row in &rows {
                record.push(*storage, row.kind(), row.key(), row.row());
            }
            deliveries.push(Delivery { storage: *storage, erased: writes.erased.clone(), rows });
        }
        // Merges remove what has expired: none does so by what this commit changes, once it is visible.
        let alone = self.changes_ttl().then(|| store.maintenance.lock());
        let checked = self.precheck(&store)?;
        let (seq, lsn) = self.append(&store, record, deliveries, checked)?;
        drop(passes);
        if mutant!(VisibleBeforeDurable) {
            store.publish(seq);
        }
        if !mutant!(AcknowledgedBeforeDurable) {
            store.log()?.commit(lsn).map_err(|error| store.poison(error))?;
        }
        let gone = store.publish(seq);
        drop(alone);
        store.drop_storages(gone);
        Ok(seq)
    }

    /// Whether rows that there are will expire otherwise.
    fn changes_ttl(&self) -> bool {
        let ttl = |table: &Option<Arc<TableDef>>| table.as_ref().and_then(|table| table.ttl);
        self.changes.values().any(|change| change.before.is_some() && ttl(&change.before) != ttl(&change.after))
    }

    /// Checks expectations against everything there is, outside of the commit lock; gives the number up to which they
    /// hold, and nothing where there are none.
    fn precheck(&self, store: &Store) -> Result<Option<(Seq, Arc<Trees>)>> {
        if self.writes.values().all(|writes| writes.expects.is_empty() && writes.erased.is_empty()) {
            return Ok(None);
        }
        let (since, trees) = {
            let commits = store.commits.lock();
            (commits.last_seq, store.view().trees)
        };
        for (storage, writes) in &self.writes {
            if let Some(storage) = trees.get(storage) {
                writes.check_all(&storage.tree)?;
                writes.check_ranges(&storage.tree, self.base.seq())?;
            }
        }
        Ok(Some((since, trees)))
    }

    /// Checks them against what was committed since. Under the commit lock.
    fn check_since(&self, trees: &Trees, (since, checked): &(Seq, Arc<Trees>)) -> Result<()> {
        for (id, writes) in &self.writes {
            let Some(storage) = trees.get(id) else { continue };
            // What was deleted since and is forgotten already would look like no change.
            match checked.get(id).map(|before| before.tree.rewrites) == Some(storage.tree.rewrites) {
                true => writes.check_since(&storage.tree, *since)?,
                false => writes.check_all(&storage.tree)?,
            }
        }
        Ok(())
    }

    /// The part under the commit lock.
    fn append(
        &self,
        store: &Store,
        mut record: RecordBuilder,
        deliveries: Vec<Delivery>,
        checked: Option<(Seq, Arc<Trees>)>,
    ) -> Result<(Seq, Lsn)> {
        let log = store.log()?;
        let mut commits = store.commits.lock();
        store.check_writable()?;
        self.check_tables(&commits.catalog)?;
        let catalog = self.next_catalog(&commits.catalog)?;
        let mut trees = store.view().trees;
        if let Some(checked) = &checked {
            self.check_since(&trees, checked)?;
        }
        let system = self.system_rows()?;
        for row in &system {
            record.push(row.storage, row.kind, &row.key, &row.row);
        }
        let seq = commits.last_seq + 1;
        let start = log.appended();
        let record = record.seal(seq, store.io.unix_micros());
        let mut appended = log.append(record);
        if matches!(&appended, Err(error) if error.kind() == ErrorKind::DiskFull) && self.gives_space_back() {
            store.reserve.spend();
            appended = log.append(record);
        }
        let lsn = appended.map_err(|error| match error.kind() {
            ErrorKind::DiskFull | ErrorKind::LimitExceeded => error,
            _ => store.poison(error),
        })?;
        commits.last_seq = seq;
        if !self.fresh.is_empty() {
            store.change_trees(|trees| trees.extend(self.fresh.iter().map(|(id, new)| (*id, new.clone()))));
            trees = store.view().trees;
        }
        let bytes = deliveries.iter().flat_map(|delivery| &delivery.rows).map(|row| row.key().len() + row.row().len());
        store.counters.bytes_committed.fetch_add(u64::try_from(bytes.sum::<usize>()).unwrap_or(0), Ordering::Relaxed);
        let written: Vec<StorageId> = deliveries.iter().map(|delivery| delivery.storage).collect();
        for delivery in deliveries {
            deliver(&trees, delivery.storage, start, seq, &delivery.erased, delivery.rows)?;
        }
        for row in &system {
            deliver(&trees, row.storage, start, seq, &[], [Entry::new(&row.key, seq, row.kind, &row.row)])?;
        }
        if let Some(catalog) = catalog {
            commits.catalog = Arc::clone(&catalog);
            store.await_catalog(seq, catalog);
        }
        store.rotate_full(&commits, &trees, &written)?;
        Ok((seq, lsn))
    }

    /// By publishing runs.
    pub(super) fn commit_runs(&mut self) -> Result<Seq> {
        let store = Arc::clone(&self.store);
        let mut runs: Vec<(StorageId, Vec<Arc<RunRef>>)> = Vec::new();
        for (id, writes) in &mut self.writes {
            writes.settle(&store, *id, self.base.seq())?;
            runs.push((*id, writes.loaded.clone()));
        }
        // A run that goes to the last level meets nothing there, and no merge or flush comes between the look and the edit: what
        // these see of the tree may be merged over the run's keys.
        let alone = store.maintenance.lock();
        let mut commits = store.commits.lock();
        store.check_writable()?;
        self.check_tables(&commits.catalog)?;
        let catalog = self.next_catalog(&commits.catalog)?;
        runs.extend(self.system_runs(&store)?);
        let log = store.log()?;
        if !mutant!(LoadBeforeLog) {
            log.sync_to(log.appended()).map_err(|error| store.poison(error))?;
        }
        let seq = commits.last_seq + 1;
        let published = self.place(&store, runs, seq);
        let edit = self.edit(&published, seq);
        store.publish_runs(published.iter().flat_map(|(_, runs)| runs), edit, &self.row_ids(&store, &published))?;
        commits.last_seq = seq;
        let bytes = published.iter().flat_map(|(_, runs)| runs).map(|run| run.bytes()).sum();
        store.counters.bytes_published.fetch_add(bytes, Ordering::Relaxed);
        let gone = self.publish(&store, &mut commits, published, catalog, seq);
        drop(commits);
        drop(alone);
        store.measure();
        store.add_loads(&self.loads);
        store.call_flush();
        store.call_compact();
        store.drop_storages(gone);
        Ok(seq)
    }

    /// Rows of system tables as runs.
    fn system_runs(&self, store: &Arc<Store>) -> Result<Vec<(StorageId, Vec<Arc<RunRef>>)>> {
        let mut mems: BTreeMap<StorageId, Arc<Mem>> = BTreeMap::new();
        for row in self.system_rows()? {
            let mem = mems.entry(row.storage).or_insert_with(|| Mem::new(0));
            mem.table.insert(&row.key, 0, row.kind, &row.row);
        }
        let mut runs = Vec::new();
        for (id, mem) in mems {
            let trees = store.view().trees;
            let tree = trees.get(&id).map(|storage| &storage.tree);
            let tree = tree.ok_or_else(|| Error::internal("a system table has no storage"))?;
            // Nobody looks rows of system tables up by their keys, which a filter would be for.
            let manner = Manner::default();
            runs.push((id, crate::compaction::flush(&store.output, &tree.schema, &mem, false, manner)?));
        }
        Ok(runs)
    }

    /// Gives the runs their number and their levels: the last one for those that meet nothing.
    fn place(&self, store: &Store, runs: Vec<(StorageId, Vec<Arc<RunRef>>)>, seq: Seq) -> Published {
        let trees = store.view().trees;
        let place = |(id, runs): (StorageId, Vec<Arc<RunRef>>)| {
            let tree = self.fresh.get(&id).or_else(|| trees.get(&id)).map(|storage| Arc::clone(&storage.tree));
            let erases = self.writes.get(&id).is_some_and(|writes| !writes.erased.is_empty());
            let lonely = |run: &Arc<RunRef>| {
                !erases && run.run.meta().tombstones == 0 && tree.as_ref().is_none_or(|tree| meets_nothing(tree, run))
            };
            let level = |run: &Arc<RunRef>| if lonely(run) { LAST_LEVEL } else { 0 };
            (id, runs.iter().map(|run| run.moved(level(run), Some(seq))).collect())
        };
        runs.into_iter().map(place).collect()
    }

    fn edit(&self, published: &Published, seq: Seq) -> Edit {
        let entries = |(id, runs): &(StorageId, Vec<Arc<RunRef>>)| {
            let id = *id;
            runs.iter().map(move |run| (id, Store::entry(run))).collect::<Vec<_>>()
        };
        Edit {
            add_runs: published.iter().flat_map(entries).collect(),
            add_erased: self.erased(seq).iter().map(|(id, erased)| (*id, erased::entry(erased))).collect(),
            last_seq: Some(seq),
            loads: self.loads.clone(),
            ..Edit::default()
        }
    }

    /// The deleted ranges of all tables, with the commit's number.
    fn erased(&self, seq: Seq) -> Vec<(StorageId, Arc<Erased>)> {
        let of = |(id, writes): (&StorageId, &TableWrites)| {
            let id = *id;
            let range = move |span: &Span| (id, Arc::new(Erased { span: span.clone(), seq }));
            writes.erased.iter().map(range).collect::<Vec<_>>()
        };
        self.writes.iter().flat_map(of).collect()
    }

    fn row_ids(&self, store: &Store, published: &Published) -> Vec<(StorageId, Arc<Shared>)> {
        let trees = store.view().trees;
        let shared = |id: &StorageId| self.fresh.get(id).or_else(|| trees.get(id)).map(|s| Arc::clone(&s.shared));
        let hidden = published.iter().filter(|(id, _)| self.writes.get(id).is_some_and(TableWrites::is_hidden_key));
        hidden.filter_map(|(id, _)| shared(id).map(|shared| (*id, shared))).collect()
    }

    /// Makes the runs part of their trees and the commit visible, in one moment.
    fn publish(
        &self,
        store: &Store,
        commits: &mut Commits,
        published: Published,
        catalog: Option<Arc<Catalog>>,
        seq: Seq,
    ) -> Vec<(StorageId, Arc<Tree>)> {
        if let Some(catalog) = catalog {
            commits.catalog = Arc::clone(&catalog);
            store.await_catalog(seq, catalog);
        }
        let erased = self.erased(seq);
        store.publish_with(seq, |trees| {
            trees.extend(self.fresh.iter().map(|(id, storage)| (*id, storage.clone())));
            for (id, runs) in published {
                let Some(storage) = trees.get_mut(&id) else { continue };
                storage.shared.committed(seq);
                let ranges = erased.iter().filter(|(storage, _)| *storage == id).map(|(_, erased)| Arc::clone(erased));
                storage.tree = Arc::new(with_runs(store, storage, runs, ranges.collect()));
            }
        })
    }
}

type Published = Vec<(StorageId, Vec<Arc<RunRef>>)>;

/// The tree with new runs: in the last level, or above everything there is so far. Deleted ranges are older than the runs.
fn with_runs(store: &Store, storage: &Storage, runs: Vec<Arc<RunRef>>, erased: Vec<Arc<Erased>>) -> Tree {
    let (last, upper): (Vec<_>, Vec<_>) = runs.into_iter().partition(|run| run.level == LAST_LEVEL);
    let mut tree = (*storage.tree).clone();
    if !upper.is_empty() || !erased.is_empty() {
        tree = tree.rotated(store.fresh_mem());
        let ranges = erased.into_iter().map(Source::Erased);
        tree.upper.splice(0..0, upper.into_iter().map(Source::Run).chain(ranges));
    }
    tree.add_last(last);
    tree
}

/// Whether no source may hold a key between the run's first and last.
fn meets_nothing(tree: &Tree, run: &RunRef) -> bool {
    let span = run.span();
    let range = span.range();
    tree.sources().all(|source| match source {
        Source::Mem(mem) => mem.table.range(&range, Seq::MAX, false).next().is_none(),
        Source::Run(other) => !Span::overlaps(&other.span(), &span),
        // In the last level it would lie behind the range.
        Source::Erased(erased) => !erased.span.overlaps(&span),
    })
}

/// Puts deleted ranges and rows into a storage's memtable.
fn deliver(
    trees: &Trees,
    storage: StorageId,
    start: Lsn,
    seq: Seq,
    erased: &[Span],
    rows: impl IntoIterator<Item = Entry>,
) -> Result<()> {
    let storage = trees.get(&storage).ok_or_else(|| Error::internal("a commit into a storage that is not there"))?;
    storage.tree.active.needs(start);
    erased.iter().for_each(|span| storage.tree.active.erase(span.clone(), seq));
    rows.into_iter().for_each(|row| storage.tree.active.table.insert_entry(row.at(seq)));
    storage.shared.committed(seq);
    Ok(())
}

impl TableWrites {
    /// Makes everything written so far final runs, held against the table, whose gate stays closed.
    fn settle(&mut self, store: &Arc<Store>, id: StorageId, since: Seq) -> Result<()> {
        let buffered = !self.buffer.is_empty();
        let rows = buffered || self.stager.lock().is_some();
        if !rows && self.erased.is_empty() {
            return Ok(());
        }
        if self.pass.is_none() {
            self.pass = Some(self.storage.shared.gate.close()?);
        }
        let now = store.view().trees.get(&id).cloned();
        let tree = now.map_or_else(|| Arc::clone(&self.storage.tree), |now| now.tree);
        self.check_ranges(&tree, since)?;
        if !rows {
            return Ok(());
        }
        let later = match self.stager.lock().take() {
            Some(stager) => stager,
            None => self.stager(store, Doubles::Fold, store.limits.stage_bytes),
        };
        let mut stager = later;
        if !self.loaded.is_empty() {
            stager.put_before(std::mem::take(&mut self.loaded));
        }
        if buffered {
            stager.adopt_mem(&self.buffer.mem(), std::mem::take(&mut self.expects).into_iter().collect())?;
            self.buffer = Buffer::new();
        }
        self.loaded = stager.settle(&tree, Rule::Expect)?.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
