/*!
LMDB, through heed: a copy-on-write B-tree in one file that is mapped into memory. It has no cache, log or memtables of its own: the
operating system's memory is its cache, as large as it likes.

*Periodic* is `MDB_NOSYNC` and a thread that syncs. Its writers take turns, and a durable commit is a sync of its own. `MDB_NORDAHEAD`
is set, as its documentation advises for random reads of what may be larger than memory.
*/

use super::{Durability, Reader, Result, Setup, Store};
use crate::rows::{KEY_BYTES, Row};
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, RoTxn};

/// The most that it may grow to: address space, not memory.
const MAP_BYTES: usize = 64 << 30;

/// See the module.
pub(super) struct Lmdb {
    /// For as long as the process lives, which is as long as a measurement: what is in it borrows it.
    env: &'static Env,
    rows: Database<'static, Bytes, Bytes>,
}

impl Lmdb {
    pub(super) fn open(setup: &Setup) -> Result<Self> {
        let mut flags = EnvFlags::NO_READ_AHEAD;
        flags.set(EnvFlags::NO_SYNC, setup.durability == Durability::Periodic);
        let mut options = EnvOpenOptions::new();
        options.map_size(MAP_BYTES);
        // SAFETY: nobody else opens the directory, which was made for this measurement, or truncates its files; what a crash makes of it
        // without syncs, nobody reads.
        let env = unsafe { options.flags(flags).open(&setup.dir)? };
        let env: &'static Env = Box::leak(Box::new(env));
        let txn = env.write_txn()?;
        let made = env.create_databases_and_commit(txn, |opener, txn| {
            opener.create_database::<Bytes, Bytes>(txn, None).map(CommitOrAbort::<_, ()>::Commit)
        });
        let rows = made?.unwrap_commit();
        Ok(Lmdb { env, rows })
    }
}

impl Store for Lmdb {
    fn commit(&self, rows: &[Row]) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        for row in rows {
            self.rows.put(&mut txn, &row.key, &row.value)?;
        }
        Ok(txn.commit()?)
    }

    fn harden(&self) -> Result<()> {
        Ok(self.env.force_sync()?)
    }

    fn wants_hardening(&self) -> bool {
        true
    }

    fn get(&self, key: &[u8; KEY_BYTES]) -> Result<Option<Vec<u8>>> {
        let txn = self.env.read_txn()?;
        Ok(self.rows.get(&txn, key)?.map(<[u8]>::to_vec))
    }

    fn read(&self, with: &mut dyn FnMut(&mut dyn Reader) -> Result<()>) -> Result<()> {
        let txn = self.env.read_txn()?;
        with(&mut Reading { rows: self.rows, txn: &txn })
    }

    fn count(&self) -> Result<u64> {
        let txn = self.env.read_txn()?;
        let mut rows = 0;
        for row in self.rows.iter(&txn)? {
            row?;
            rows += 1;
        }
        Ok(rows)
    }

    fn flush(&self) -> Result<()> {
        self.harden()
    }

    fn note(&self) -> Result<String> {
        Ok("a B-tree in mapped memory, without log, compression or background work; its writers take turns".to_owned())
    }
}

/// In one transaction.
struct Reading<'t> {
    rows: Database<'static, Bytes, Bytes>,
    txn: &'t RoTxn<'t>,
}

impl Reader for Reading<'_> {
    fn get(&mut self, key: &[u8; KEY_BYTES], each: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let value = self.rows.get(self.txn, key)?;
        value.inspect(|value| each(value));
        Ok(value.is_some())
    }

    fn scan(&mut self, from: &[u8; KEY_BYTES], rows: usize, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<()> {
        let from = (std::ops::Bound::Included(from.as_slice()), std::ops::Bound::Unbounded);
        for row in self.rows.range(self.txn, &from)?.take(rows) {
            let (key, value) = row?;
            each(key, value);
        }
        Ok(())
    }
}
