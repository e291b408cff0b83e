/*!
OmenDB's engine: a table of two columns of bytes, the first one its key. Single rows go in as values, several as Arrow
batches, which are made within the time of a commit, since a caller would have to.
*/

use super::{Durability, Gauge, MEMTABLES, PERIOD, Reader, Result, Setup, Store};
use crate::rows::{KEY_BYTES, Row};
use arrow::array::{ArrayRef, AsArray, BinaryArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use omendb_engine::db::{Db, Expectation, Options, ScanRequest, Snapshot, SyncMode, WriteKind};
use omendb_engine::key::{Key, KeyRange, KeySchema};
use omendb_engine::types::{Attributes, ColumnId, ColumnType, NewColumn, NewTable, TableDef, Value};
use std::ops::Bound;
use std::sync::Arc;

/// The table's name.
const TABLE: &str = "rows";

/// See the module.
pub(super) struct Omen {
    db: Db,
    table: Arc<TableDef>,
    columns: Vec<ColumnId>,
    schema: SchemaRef,
    keys: KeySchema,
}

impl Omen {
    pub(super) fn open(setup: &Setup) -> Result<Self> {
        let usual = Options::dir(&setup.dir);
        let db = Db::open(Options {
            sync: match setup.durability {
                Durability::Synced => SyncMode::Always,
                Durability::Periodic => SyncMode::Interval(PERIOD),
            },
            cache_bytes: setup.cache_bytes,
            memtable_bytes: setup.memtable_bytes,
            // A quarter of it is for memtables.
            memory_bytes: usual
                .memory_bytes
                .max(setup.memtable_bytes.saturating_mul(MEMTABLES))
                .max(setup.cache_bytes.saturating_mul(2)),
            ..usual
        })?;
        let table = table(&db)?;
        let columns = table.column_ids();
        let schema = table.projected_schema(&columns)?;
        let keys = KeySchema::of(&table)?;
        Ok(Omen { db, table, columns, schema, keys })
    }
}

/// The table, made where it is not there.
fn table(db: &Db) -> Result<Arc<TableDef>> {
    if let Some(table) = db.snapshot()?.table(TABLE)? {
        return Ok(table);
    }
    let column = |name: &str| NewColumn {
        name: name.to_owned(),
        ty: ColumnType::Bytes,
        nullable: false,
        attributes: Attributes::new(),
    };
    let mut txn = db.begin()?;
    let table = txn.create_table(NewTable {
        name: TABLE.to_owned(),
        columns: vec![column("k"), column("v")],
        key: vec!["k".to_owned()],
        ..NewTable::default()
    })?;
    txn.commit()?;
    Ok(table)
}

impl Store for Omen {
    fn commit(&self, rows: &[Row]) -> Result<()> {
        let mut txn = self.db.begin()?;
        if let [row] = rows {
            txn.put(&self.table, &[Value::Bytes(row.key.to_vec()), Value::Bytes(row.value.to_vec())])?;
            txn.commit()?;
            return Ok(());
        }
        let keys: ArrayRef = Arc::new(BinaryArray::from_iter_values(rows.iter().map(|row| row.key)));
        let values: ArrayRef = Arc::new(BinaryArray::from_iter_values(rows.iter().map(|row| row.value)));
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), vec![keys, values])?;
        txn.write(&self.table, WriteKind::Put, &self.columns, &batch, Expectation::None)?;
        txn.commit()?;
        Ok(())
    }

    fn harden(&self) -> Result<()> {
        // The engine's own thread does it within the period; one more is the proof's.
        std::thread::sleep(PERIOD * 3);
        Ok(())
    }

    fn wants_hardening(&self) -> bool {
        false
    }

    fn get(&self, key: &[u8; KEY_BYTES]) -> Result<Option<Vec<u8>>> {
        let key = self.keys.encode(&[Value::Bytes(key.to_vec())])?;
        let mut row = omendb_engine::db::Row::default();
        let wanted = self.columns.get(1..).unwrap_or_default();
        if !self.db.snapshot()?.get(&self.table, &key, wanted, &mut row)? {
            return Ok(None);
        }
        match row.values.into_iter().next() {
            Some(Value::Bytes(value)) => Ok(Some(value)),
            other => Err(format!("a value of another type: {other:?}").into()),
        }
    }

    fn read(&self, with: &mut dyn FnMut(&mut dyn Reader) -> Result<()>) -> Result<()> {
        let snapshot = self.db.snapshot()?;
        with(&mut Reading { omen: self, snapshot, row: omendb_engine::db::Row::default() })
    }

    fn count(&self) -> Result<u64> {
        let request = ScanRequest { projection: self.columns.clone(), ..ScanRequest::default() };
        let mut rows = 0;
        for batch in self.db.snapshot()?.scan(&self.table, request)? {
            rows += batch?.num_rows() as u64;
        }
        Ok(rows)
    }

    fn flush(&self) -> Result<()> {
        Ok(self.db.flush()?)
    }

    fn compact(&self) -> Result<()> {
        Ok(self.db.compact(None)?)
    }

    fn log_bytes(&self) -> Result<u64> {
        Ok(self.db.stats()?.log_bytes)
    }

    fn gauges(&self) -> Result<Vec<Gauge>> {
        let stats = self.db.stats()?;
        Ok(vec![
            ("runs", stats.runs),
            ("run_bytes", stats.run_bytes),
            ("memtable_bytes", stats.memtable_bytes),
            ("log_bytes", stats.log_bytes),
            ("flushes", stats.flushes),
            ("compactions", stats.compactions),
            ("bytes_written", stats.bytes_written),
            ("debt_bytes", stats.debt_bytes),
            ("delay_total_ms", u64::try_from(stats.delay_total.as_millis())?),
        ])
    }

    fn note(&self) -> Result<String> {
        Ok(format!("files through {}; commits that wait share a sync", self.db.stats()?.io))
    }
}

/// At one snapshot.
struct Reading<'o> {
    omen: &'o Omen,
    snapshot: Snapshot,
    row: omendb_engine::db::Row,
}

impl Reading<'_> {
    fn key(&self, key: &[u8; KEY_BYTES]) -> Result<Key> {
        Ok(self.omen.keys.encode(&[Value::Bytes(key.to_vec())])?)
    }
}

/// A column of a batch.
fn bytes_of(batch: &RecordBatch, column: usize) -> Result<&BinaryArray> {
    let array = batch.columns().get(column).and_then(|array| array.as_binary_opt::<i32>());
    Ok(array.ok_or("a column of another type")?)
}

impl Reader for Reading<'_> {
    fn get(&mut self, key: &[u8; KEY_BYTES], each: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let (key, wanted) = (self.key(key)?, self.omen.columns.get(1..).unwrap_or_default());
        if !self.snapshot.get(&self.omen.table, &key, wanted, &mut self.row)? {
            return Ok(false);
        }
        match self.row.values.first() {
            Some(Value::Bytes(value)) => each(value),
            other => return Err(format!("a value of another type: {other:?}").into()),
        }
        Ok(true)
    }

    fn get_many(&mut self, keys: &[[u8; KEY_BYTES]], each: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        let keys: Vec<Key> = keys.iter().map(|key| self.key(key)).collect::<Result<_>>()?;
        let wanted = self.omen.columns.get(1..).unwrap_or_default();
        let (batch, places) = self.snapshot.multi_get(&self.omen.table, &keys, wanted)?;
        let values = bytes_of(&batch, 0)?;
        for (place, value) in places.iter().zip(values.iter()) {
            each(usize::try_from(*place)?, value.ok_or("a value is NULL")?);
        }
        Ok(())
    }

    fn scan(&mut self, from: &[u8; KEY_BYTES], rows: usize, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<()> {
        let request = ScanRequest {
            ranges: vec![KeyRange { start: Bound::Included(self.key(from)?), end: Bound::Unbounded }],
            projection: self.omen.columns.clone(),
            limit: Some(rows),
            ..ScanRequest::default()
        };
        for batch in self.snapshot.scan(&self.omen.table, request)? {
            let batch = batch?;
            let (keys, values) = (bytes_of(&batch, 0)?, bytes_of(&batch, 1)?);
            (0..batch.num_rows()).for_each(|row| each(keys.value(row), values.value(row)));
        }
        Ok(())
    }
}
