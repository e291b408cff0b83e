/*!
fjall as its users open it: levelled compaction with its defaults, LZ4 from the third level on.

A durable commit is a batch with `PersistMode::SyncData` (an `fdatasync`, which all of the others use). fjall syncs while it holds
its journal's lock, so that commits of several threads do not share a sync. *Periodic* is its `manual_journal_persist`, and a
thread that calls `persist`.
*/

use super::{Durability, Gauge, Reader, Result, Setup, Store, bytes_of};
use crate::rows::{KEY_BYTES, Row};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::path::PathBuf;

/// Bytes that its journals may always take: its own default.
const JOURNAL_BYTES: u64 = 512 << 20;

/// See the module.
pub(super) struct Fjall {
    db: Database,
    rows: Keyspace,
    dir: PathBuf,
    durability: Durability,
}

impl Fjall {
    pub(super) fn open(setup: &Setup) -> Result<Self> {
        let is_manual = setup.durability == Durability::Periodic;
        let db = Database::builder(&setup.dir)
            .cache_size(setup.cache_bytes as u64)
            .max_journaling_size(setup.log_bytes_max().max(JOURNAL_BYTES))
            .manual_journal_persist(is_manual)
            .open()?;
        let memtable_bytes = setup.memtable_bytes as u64;
        let rows = db.keyspace("rows", || {
            KeyspaceCreateOptions::default().max_memtable_size(memtable_bytes).manual_journal_persist(is_manual)
        })?;
        Ok(Fjall { db, rows, dir: setup.dir.clone(), durability: setup.durability })
    }
}

impl Store for Fjall {
    fn commit(&self, rows: &[Row]) -> Result<()> {
        let mode = match (self.durability, rows) {
            (Durability::Periodic, [row]) => return Ok(self.rows.insert(row.key, row.value)?),
            (Durability::Periodic, _) => None,
            (Durability::Synced, _) => Some(PersistMode::SyncData),
        };
        let mut batch = self.db.batch().durability(mode);
        rows.iter().for_each(|row| batch.insert(&self.rows, row.key, row.value));
        Ok(batch.commit()?)
    }

    fn harden(&self) -> Result<()> {
        Ok(self.db.persist(PersistMode::SyncData)?)
    }

    fn wants_hardening(&self) -> bool {
        true
    }

    fn get(&self, key: &[u8; KEY_BYTES]) -> Result<Option<Vec<u8>>> {
        Ok(self.rows.get(key)?.map(|value| value.to_vec()))
    }

    fn read(&self, with: &mut dyn FnMut(&mut dyn Reader) -> Result<()>) -> Result<()> {
        with(&mut Reading { rows: &self.rows })
    }

    fn count(&self) -> Result<u64> {
        Ok(self.rows.len()? as u64)
    }

    fn flush(&self) -> Result<()> {
        Ok(self.rows.rotate_memtable_and_wait()?)
    }

    fn compact(&self) -> Result<()> {
        Ok(self.rows.major_compact()?)
    }

    fn is_busy(&self) -> Result<bool> {
        Ok(self.db.active_compactions() > 0 || self.db.outstanding_flushes() > 0)
    }

    fn log_bytes(&self) -> Result<u64> {
        bytes_of(&self.dir, ".jnl")
    }

    fn gauges(&self) -> Result<Vec<Gauge>> {
        Ok(vec![
            ("level0_files", self.rows.l0_table_count() as u64),
            ("files", self.rows.table_count() as u64),
            ("immutable_memtables", self.rows.sealed_memtable_count() as u64),
            ("run_bytes", self.rows.disk_space()),
            ("journals", self.db.journal_count() as u64),
            ("compactions", self.db.compactions_completed() as u64),
        ])
    }

    fn note(&self) -> Result<String> {
        Ok("LZ4 below the second level, levelled; a sync for each commit, under the journal's lock".to_owned())
    }
}

/// What is newest, each time: a view of its own would only take longer.
struct Reading<'k> {
    rows: &'k Keyspace,
}

impl Reader for Reading<'_> {
    fn get(&mut self, key: &[u8; KEY_BYTES], each: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let value = self.rows.get(key)?;
        value.iter().for_each(|value| each(value));
        Ok(value.is_some())
    }

    fn scan(&mut self, from: &[u8; KEY_BYTES], rows: usize, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<()> {
        for row in self.rows.range(from.as_slice()..).take(rows) {
            let (key, value) = row.into_inner()?;
            each(&key, &value);
        }
        Ok(())
    }
}
