/*!
A consistent view of all tables: the catalog and the trees of one moment, and the number of the last commit that counts.

A snapshot of a transaction also sees what the transaction itself has written: its own layers lie over the trees.

Its clock says which rows have expired: it stands still, so that one statement sees one answer, and is read after the view (see
[`crate::scan::expiry`]).
*/

use crate::error::{Error, ErrorKind, Result};
use crate::key::{Key, KeyRange};
use crate::scan::expiry::Expiry;
use crate::scan::tree::Source;
use crate::scan::{AggregateRequest, Aggregation, Firsts, Layer, Projection, Row, Scan, ScanRequest, point, split};
use crate::txn::catalog::Catalog;
use crate::txn::store::{Trees, View};
use crate::types::{ColumnId, Seq, StorageId, TableDef, TableId};
use arrow::array::RecordBatch;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a transaction wrote into each storage, newest first.
pub(crate) type Overlay = BTreeMap<StorageId, Vec<Layer>>;

/// A consistent view: everything committed up to a sequence number and nothing after. Cheap to clone, never blocks.
#[derive(Debug, Clone)]
pub struct Snapshot {
    view: View,
    /// Microseconds since 1970-01-01 UTC.
    clock: i64,
    overlay: Arc<Overlay>,
    /// Why the transaction's own rows can't be read.
    broken: Option<Arc<str>>,
}

impl Snapshot {
    /// `clock` must have been read after `view` was taken.
    pub(crate) fn new(view: View, clock: i64) -> Self {
        Snapshot { view, clock, overlay: Arc::default(), broken: None }
    }

    /// With a transaction's own catalog, new trees and rows.
    pub(crate) fn over(
        &self,
        catalog: Arc<Catalog>,
        trees: Arc<Trees>,
        overlay: Overlay,
        broken: Option<String>,
    ) -> Snapshot {
        let view = View { seq: self.view.seq, catalog, trees };
        Snapshot { view, clock: self.clock, overlay: Arc::new(overlay), broken: broken.map(Arc::from) }
    }

    /// Which rows of a storage have expired for it.
    pub(crate) fn expiry(&self, storage: StorageId) -> Option<Expiry> {
        self.view.catalog.expiry(storage, self.clock)
    }

    fn check(&self) -> Result<()> {
        match &self.broken {
            Some(cause) => {
                Err(Error::new(ErrorKind::Io, format!("the transaction's rows could not be staged: {cause}")))
            }
            None => Ok(()),
        }
    }

    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// The number of the last commit that it sees.
    pub fn seq(&self) -> Seq {
        self.view.seq
    }

    /// The table with this name.
    pub fn table(&self, name: &str) -> Result<Option<Arc<TableDef>>> {
        Ok(self.view.catalog.by_name(name).cloned())
    }

    /// The table with this id.
    pub fn table_by_id(&self, id: TableId) -> Result<Option<Arc<TableDef>>> {
        Ok(self.view.catalog.by_id(id).cloned())
    }

    /// All tables, by name.
    pub fn tables(&self) -> Result<Vec<Arc<TableDef>>> {
        Ok(self.view.catalog.by_names())
    }

    fn own_layers(&self, storage: StorageId) -> &[Layer] {
        self.overlay.get(&storage).map(Vec::as_slice).unwrap_or_default()
    }

    /// All layers of a storage, newest first.
    fn layers(&self, storage: StorageId) -> Vec<Layer> {
        let mut layers = self.own_layers(storage).to_vec();
        if let Some(storage) = self.view.trees.get(&storage) {
            layers.extend(
                storage
                    .tree
                    .sources()
                    .map(|source| Layer { source, at: self.view.seq + u64::from(mutant!(SnapshotOffByOne)) }),
            );
        }
        layers.retain(|layer| match &layer.source {
            Source::Mem(mem) => !mem.table.is_empty(),
            Source::Run(_) | Source::Erased(_) => true,
        });
        layers
    }

    /// The row with this key: its projected values go into `row`, and its sequence number if `row` asks for one. False when there is
    /// none.
    ///
    /// # Errors
    /// `NoSuchColumn`; errors of reading.
    pub fn get(&self, table: &TableDef, key: &Key, projection: &[ColumnId], row: &mut Row) -> Result<bool> {
        let projection = Projection::of(table, projection)?.expiring(self.expiry(table.storage));
        self.check()?;
        let Some(storage) = self.view.trees.get(&table.storage) else { return Ok(false) };
        let own = self.own_layers(table.storage);
        point::get(own, &storage.tree, key.as_ref(), self.view.seq, &projection, row)
    }

    /// Rows of many keys at once: the batch holds those found, and beside it, per row, which key it answers.
    ///
    /// # Errors
    /// `NoSuchColumn`; errors of reading.
    pub fn multi_get(
        &self,
        table: &TableDef,
        keys: &[Key],
        projection: &[ColumnId],
    ) -> Result<(RecordBatch, Vec<u32>)> {
        self.check()?;
        let schema = table.projected_schema(projection)?;
        let projection = Projection::of(table, projection)?.expiring(self.expiry(table.storage));
        let Some(storage) = self.view.trees.get(&table.storage) else {
            return Ok((RecordBatch::new_empty(schema), Vec::new()));
        };
        point::read_many(self.own_layers(table.storage), &storage.tree, keys, self.view.seq, &projection, &schema)
    }

    /// Rows of key ranges.
    ///
    /// # Errors
    /// `NoSuchColumn`; `InvalidArgument` for ranges that overlap or do not ascend.
    pub fn scan(&self, table: &TableDef, request: ScanRequest) -> Result<Scan> {
        self.check()?;
        Scan::new(self.layers(table.storage), table, request, self.expiry(table.storage))
    }

    /// The first row of each group of keys with the same first `group_columns` columns, in the order of the request, whose limit is of such
    /// rows: in reverse, the last value of each series.
    ///
    /// # Errors
    /// As [`Snapshot::scan`]; `InvalidArgument` for more columns than the key has, and for predicates that are no exact filter.
    pub fn firsts(&self, table: &Arc<TableDef>, request: ScanRequest, group_columns: usize) -> Result<Firsts> {
        self.check()?;
        Firsts::new(self.layers(table.storage), table, request, group_columns, self.expiry(table.storage))
    }

    /// Counts, least and greatest values and sums of groups of rows, from statistics where they say them.
    ///
    /// # Errors
    /// `NoSuchColumn`; `InvalidArgument` for ranges that overlap or do not ascend, for columns that cannot be grouped by or have no such
    /// aggregate, and for predicates by which rows cannot be told.
    pub fn aggregate(&self, table: &TableDef, request: &AggregateRequest) -> Result<Aggregation> {
        self.check()?;
        Aggregation::new(self.layers(table.storage), table, request, self.expiry(table.storage))
    }

    /// Cuts a range into at most `parts` ranges of about as many rows each, in order.
    pub fn split(&self, table: &TableDef, range: &KeyRange, parts: usize) -> Result<Vec<KeyRange>> {
        split::split(&self.layers(table.storage), range, parts)
    }

    /// About how many rows the range holds, those that have expired included (for plans only).
    pub fn estimate_rows(&self, table: &TableDef, range: &KeyRange) -> Result<u64> {
        split::estimate(&self.layers(table.storage), range)
    }
}
