/*!
A bulk load: rows in any order, staged in sorted runs, and held against the table once, at the end.
*/

use crate::error::Result;
use crate::txn::incoming::Incoming;
use crate::txn::sort::Expects;
use crate::txn::stage::{Rule, Stager};
use crate::txn::{Transaction, WriteKind};
use crate::types::{ColumnId, StorageId};
use arrow::array::RecordBatch;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a load does about a key that is there already (in the table, or earlier in the same load).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnConflict {
    /// The load fails.
    #[default]
    Error,
    /// The row that is there stays.
    Skip,
    /// The row of the load takes its place.
    Replace,
}

/// What a load did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IngestReport {
    /// Rows handed in.
    pub rows_read: u64,
    /// Rows that are in the table now; `rows_read` less those skipped and those replaced by a later row of the load.
    pub rows_stored: u64,
    /// Rows left out because their key was there already.
    pub rows_skipped: u64,
    /// Rows, of the table or of the load itself, that a later row took the place of.
    pub rows_replaced: u64,
    /// Runs written.
    pub runs: u64,
    /// Their bytes.
    pub bytes_on_disk: u64,
    /// Segments of their models.
    pub model_segments: u64,
}

/// A bulk load under way.
#[derive(Debug)]
pub struct Ingest<'t> {
    txn: &'t mut Transaction,
    storage: StorageId,
    stager: Stager,
    on_conflict: OnConflict,
    read: u64,
}

impl<'t> Ingest<'t> {
    pub(super) fn new(
        txn: &'t mut Transaction,
        storage: StorageId,
        stager: Stager,
        on_conflict: OnConflict,
    ) -> Ingest<'t> {
        Ingest { txn, storage, stager, on_conflict, read: 0 }
    }

    /// Takes rows in any order; `columns` as in [`Transaction::write`].
    ///
    /// # Errors
    /// As [`Transaction::write`]; the transaction can only be rolled back then.
    pub fn write(&mut self, columns: &[ColumnId], batch: &RecordBatch) -> Result<()> {
        let done = self.try_write(columns, batch);
        self.txn.failed = self.txn.failed || done.is_err();
        done
    }

    fn try_write(&mut self, columns: &[ColumnId], batch: &RecordBatch) -> Result<()> {
        let Some(writes) = self.txn.writes.get(&self.storage) else { return Ok(()) };
        let kind = WriteKind::Put;
        let incoming = Incoming::new(&writes.table, &writes.schema, &writes.storage.shared, kind, columns, batch)?;
        self.read += u64::try_from(incoming.len()).unwrap_or(0);
        self.stager.push(incoming, false, Expects::All(0))
    }

    /// Ends the load; it becomes part of the transaction. Conflicts within the load and with the table are found here:
    /// from now to the end of the transaction nobody else commits to the table.
    ///
    /// # Errors
    /// `DuplicateKey` under [`OnConflict::Error`], about the row; errors of writing. The transaction can only be rolled
    /// back then.
    pub fn finish(self) -> Result<IngestReport> {
        let Ingest { txn, storage, stager, on_conflict, read } = self;
        let done = finish(txn, storage, stager, on_conflict, read);
        txn.failed = txn.failed || done.is_err();
        done
    }
}

fn finish(
    txn: &mut Transaction,
    storage: StorageId,
    stager: Stager,
    on_conflict: OnConflict,
    read: u64,
) -> Result<IngestReport> {
    let Some(writes) = txn.writes.get_mut(&storage) else { return Ok(IngestReport::default()) };
    writes.pass = Some(writes.storage.shared.gate.close()?);
    let now = txn.store.view().trees.get(&storage).cloned();
    let tree = now.map_or_else(|| Arc::clone(&writes.storage.tree), |now| now.tree);
    let rule = match on_conflict {
        OnConflict::Error => Rule::Refuse,
        OnConflict::Skip => Rule::Skip,
        OnConflict::Replace => Rule::Replace,
    };
    let (runs, tally) = stager.settle(&tree, rule)?;
    let mut report = IngestReport {
        rows_read: read,
        rows_stored: tally.stored,
        rows_skipped: tally.skipped,
        rows_replaced: tally.replaced,
        runs: u64::try_from(runs.len()).unwrap_or(0),
        ..IngestReport::default()
    };
    for run in &runs {
        report.bytes_on_disk += run.bytes();
        report.model_segments += u64::try_from(run.run.index_stats()?.index.segments).unwrap_or(0);
    }
    txn.store.counters.bytes_ingested.fetch_add(report.bytes_on_disk, Ordering::Relaxed);
    writes.loaded = runs;
    Ok(report)
}
