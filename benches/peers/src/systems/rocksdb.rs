/*!
RocksDB as its users open it: levelled compaction with its defaults, LZ4, a block cache of the size that all have, four memtables
instead of two since two stall sooner.

*Periodic* keeps the log in memory until a thread writes and syncs it (`manual_wal_flush`), as the other systems do; with the
default each commit would also be a system call.
*/

use super::{Durability, Gauge, MEMTABLES, Reader, Result, Setup, Store, bytes_of};
use crate::rows::{KEY_BYTES, Row};
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, DB, DBCompressionType, IteratorMode, Options, WaitForCompactOptions,
    WriteBatch, WriteOptions,
};
use std::path::PathBuf;

/// Where rows are if nobody says otherwise.
const DEFAULT: &str = "default";

/// See the module.
pub(super) struct Rocks {
    db: DB,
    dir: PathBuf,
    durability: Durability,
}

impl Rocks {
    pub(super) fn open(setup: &Setup) -> Result<Self> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_write_buffer_size(setup.memtable_bytes);
        options.set_max_write_buffer_number(i32::try_from(MEMTABLES)?);
        options.set_max_total_wal_size(setup.log_bytes_max());
        options.set_max_background_jobs(2);
        options.set_manual_wal_flush(setup.durability == Durability::Periodic);
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&Cache::new_lru_cache(setup.cache_bytes));
        options.set_block_based_table_factory(&blocks);
        // As `DB::open` does, but with a handle, which reads of many keys need.
        let db = DB::open_cf_with_opts(&options, &setup.dir, [(DEFAULT, options.clone())])?;
        Ok(Rocks { db, dir: setup.dir.clone(), durability: setup.durability })
    }

    fn property(&self, name: &str) -> Result<u64> {
        Ok(self.db.property_int_value(name)?.unwrap_or_default())
    }
}

impl Store for Rocks {
    fn commit(&self, rows: &[Row]) -> Result<()> {
        let mut options = WriteOptions::default();
        options.set_sync(self.durability == Durability::Synced);
        if let [row] = rows {
            return Ok(self.db.put_opt(row.key, row.value, &options)?);
        }
        let mut batch = WriteBatch::default();
        rows.iter().for_each(|row| batch.put(row.key, row.value));
        Ok(self.db.write_opt(batch, &options)?)
    }

    fn harden(&self) -> Result<()> {
        Ok(self.db.flush_wal(true)?)
    }

    fn wants_hardening(&self) -> bool {
        true
    }

    fn get(&self, key: &[u8; KEY_BYTES]) -> Result<Option<Vec<u8>>> {
        Ok(self.db.get(key)?)
    }

    fn read(&self, with: &mut dyn FnMut(&mut dyn Reader) -> Result<()>) -> Result<()> {
        let rows = self.db.cf_handle(DEFAULT).ok_or("RocksDB has no default column family")?;
        with(&mut Reading { db: &self.db, rows })
    }

    fn count(&self) -> Result<u64> {
        let mut rows = 0;
        for row in self.db.iterator(IteratorMode::Start) {
            row?;
            rows += 1;
        }
        Ok(rows)
    }

    fn flush(&self) -> Result<()> {
        let mut options = WaitForCompactOptions::default();
        options.set_flush(true);
        Ok(self.db.wait_for_compact(&options)?)
    }

    fn compact(&self) -> Result<()> {
        self.db.compact_range(None::<&[u8]>, None::<&[u8]>);
        Ok(())
    }

    fn is_busy(&self) -> Result<bool> {
        Ok(self.property("rocksdb.num-running-compactions")? + self.property("rocksdb.num-running-flushes")? > 0)
    }

    fn log_bytes(&self) -> Result<u64> {
        bytes_of(&self.dir, ".log")
    }

    fn gauges(&self) -> Result<Vec<Gauge>> {
        Ok(vec![
            ("level0_files", self.property("rocksdb.num-files-at-level0")?),
            ("immutable_memtables", self.property("rocksdb.num-immutable-mem-table")?),
            ("memtable_bytes", self.property("rocksdb.cur-size-all-mem-tables")?),
            ("debt_bytes", self.property("rocksdb.estimate-pending-compaction-bytes")?),
            ("run_bytes", self.property("rocksdb.total-sst-files-size")?),
            ("is_stopped", self.property("rocksdb.is-write-stopped")?),
            ("delayed_bytes_per_s", self.property("rocksdb.actual-delayed-write-rate")?),
        ])
    }

    fn note(&self) -> Result<String> {
        Ok("LZ4, levelled; commits that wait share a sync".to_owned())
    }
}

/// Values are read where they lie in the block cache.
struct Reading<'d> {
    db: &'d DB,
    rows: &'d ColumnFamily,
}

impl Reader for Reading<'_> {
    fn get(&mut self, key: &[u8; KEY_BYTES], each: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let value = self.db.get_pinned(key)?;
        value.iter().for_each(|value| each(value));
        Ok(value.is_some())
    }

    fn get_many(&mut self, keys: &[[u8; KEY_BYTES]], each: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        for (place, value) in self.db.batched_multi_get_cf(self.rows, keys, false).into_iter().enumerate() {
            value?.iter().for_each(|value| each(place, value));
        }
        Ok(())
    }

    fn scan(&mut self, from: &[u8; KEY_BYTES], rows: usize, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<()> {
        let mut found = self.db.raw_iterator();
        found.seek(from);
        for _ in 0..rows {
            let Some((key, value)) = found.item() else { break };
            each(key, value);
            found.next();
        }
        Ok(found.status()?)
    }
}
