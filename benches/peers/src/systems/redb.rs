/*!
redb: a copy-on-write B-tree in one file. It has no log and no memtables: its one cache gets the memory of both.

*Periodic* is `Durability::None`, with a commit of `Durability::Immediate` by whoever writes once the period has passed. Its
writers take turns, and a durable commit is a sync of its own.
*/

use super::{Durability, MEMTABLES, PERIOD, Reader, Result, Setup, Store};
use crate::rows::{KEY_BYTES, Row, VALUE_BYTES};
use redb::{Builder, Database, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The table.
const ROWS: TableDefinition<'_, &[u8; KEY_BYTES], &[u8; VALUE_BYTES]> = TableDefinition::new("rows");

/// The most that its cache gets instead of memtables: where those are made huge to hold a log, it has none.
const MEMTABLES_BYTES_MAX: usize = 1 << 30;

/// See the module.
pub(super) struct Redb {
    db: Database,
    durability: Durability,
    /// When a commit was durable last.
    hardened: Mutex<Instant>,
}

impl Redb {
    pub(super) fn open(setup: &Setup) -> Result<Self> {
        let memtables = setup.memtable_bytes.saturating_mul(MEMTABLES).min(MEMTABLES_BYTES_MAX);
        let db = Builder::new().set_cache_size(setup.cache_bytes + memtables).create(setup.dir.join("rows.redb"))?;
        let store = Redb { db, durability: setup.durability, hardened: Mutex::new(Instant::now()) };
        if store.db.begin_read()?.list_tables()?.next().is_none() {
            store.write(&[], redb::Durability::Immediate)?;
        }
        Ok(store)
    }

    fn write(&self, rows: &[Row], durability: redb::Durability) -> Result<()> {
        let mut txn = self.db.begin_write()?;
        txn.set_durability(durability)?;
        {
            let mut table = txn.open_table(ROWS)?;
            for row in rows {
                table.insert(&row.key, &row.value)?;
            }
        }
        Ok(txn.commit()?)
    }

    /// How durable the next commit is.
    fn next(&self) -> redb::Durability {
        if self.durability == Durability::Synced {
            return redb::Durability::Immediate;
        }
        let mut hardened = self.hardened.lock().unwrap_or_else(PoisonError::into_inner);
        if hardened.elapsed() < PERIOD {
            return redb::Durability::None;
        }
        *hardened = Instant::now();
        redb::Durability::Immediate
    }
}

impl Store for Redb {
    fn commit(&self, rows: &[Row]) -> Result<()> {
        self.write(rows, self.next())
    }

    fn harden(&self) -> Result<()> {
        self.write(&[], redb::Durability::Immediate)
    }

    fn wants_hardening(&self) -> bool {
        false
    }

    fn get(&self, key: &[u8; KEY_BYTES]) -> Result<Option<Vec<u8>>> {
        let table = self.db.begin_read()?.open_table(ROWS)?;
        Ok(table.get(key)?.map(|value| value.value().to_vec()))
    }

    fn read(&self, with: &mut dyn FnMut(&mut dyn Reader) -> Result<()>) -> Result<()> {
        with(&mut Reading { table: self.db.begin_read()?.open_table(ROWS)? })
    }

    fn count(&self) -> Result<u64> {
        let table = self.db.begin_read()?.open_table(ROWS)?;
        let mut rows = 0;
        for row in table.iter()? {
            row?;
            rows += 1;
        }
        match rows == table.len()? {
            true => Ok(rows),
            false => Err(format!("{rows} rows read, {} said", table.len()?).into()),
        }
    }

    fn flush(&self) -> Result<()> {
        self.harden()
    }

    fn note(&self) -> Result<String> {
        Ok("a B-tree without log, compression or background work; its writers take turns".to_owned())
    }
}

/// In one transaction.
struct Reading {
    table: ReadOnlyTable<&'static [u8; KEY_BYTES], &'static [u8; VALUE_BYTES]>,
}

impl Reader for Reading {
    fn get(&mut self, key: &[u8; KEY_BYTES], each: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let value = self.table.get(key)?;
        value.iter().for_each(|value| each(value.value()));
        Ok(value.is_some())
    }

    fn scan(&mut self, from: &[u8; KEY_BYTES], rows: usize, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<()> {
        for row in self.table.range::<&[u8; KEY_BYTES]>(from..)?.take(rows) {
            let (key, value) = row?;
            each(key.value(), value.value());
        }
        Ok(())
    }
}
