/*!
RocksDB as its users open it: levelled compaction with its defaults, LZ4, a block cache of the size that all have, four memtables
instead of two since two stall sooner.

*Periodic* keeps the log in memory until a thread writes and syncs it (`manual_wal_flush`), as the other systems do; with the
default each commit would also be a system call.
*/

use super::{Durability, Gauge, MEMTABLES, Result, Setup, Store, bytes_of};
use crate::rows::{KEY_BYTES, Row};
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, IteratorMode, Options, WaitForCompactOptions, WriteBatch,
    WriteOptions,
};
use std::path::PathBuf;

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
        let db = DB::open(&options, &setup.dir)?;
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
