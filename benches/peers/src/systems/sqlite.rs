/*!
SQLite, built from its own source: a table `WITHOUT ROWID` whose key is its B-tree, in WAL mode, statements prepared once.

A durable commit has `synchronous=FULL`; *periodic* is `OFF`, with a commit under `FULL` by a thread. All go through one connection:
SQLite has one writer at a time in any case. Its page cache has the size of everybody's.
*/

use super::{Durability, Reader, Result, Setup, Store, bytes_of};
use crate::rows::{KEY_BYTES, Row};
use rusqlite::{Connection, OptionalExtension};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

const INSERT: &str = "INSERT OR REPLACE INTO rows VALUES (?1, ?2)";
const SELECT: &str = "SELECT v FROM rows WHERE k = ?1";
const RANGE: &str = "SELECT k, v FROM rows WHERE k >= ?1 ORDER BY k LIMIT ?2";

/// See the module.
pub(super) struct Sqlite {
    db: Mutex<Connection>,
    dir: PathBuf,
}

impl Sqlite {
    pub(super) fn open(setup: &Setup) -> Result<Self> {
        let db = Connection::open(setup.dir.join("rows.sqlite"))?;
        let synchronous = match setup.durability {
            Durability::Synced => "FULL",
            Durability::Periodic => "OFF",
        };
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", synchronous)?;
        if setup.keeps_log {
            // A checkpoint begins the log anew, which would never be long.
            db.pragma_update(None, "wal_autocheckpoint", 0)?;
        }
        // Negative: KiB instead of pages.
        db.pragma_update(None, "cache_size", -i64::try_from(setup.cache_bytes >> 10)?)?;
        db.execute_batch(
            "CREATE TABLE IF NOT EXISTS rows (k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID;
             CREATE TABLE IF NOT EXISTS hardened (id INTEGER PRIMARY KEY, times INTEGER);
             INSERT OR IGNORE INTO hardened VALUES (1, 0);",
        )?;
        Ok(Sqlite { db: Mutex::new(db), dir: setup.dir.clone() })
    }

    fn db(&self) -> MutexGuard<'_, Connection> {
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Sqlite {
    fn commit(&self, rows: &[Row]) -> Result<()> {
        let mut db = self.db();
        let txn = db.transaction()?;
        {
            let mut insert = txn.prepare_cached(INSERT)?;
            for row in rows {
                insert.execute((&row.key, &row.value))?;
            }
        }
        Ok(txn.commit()?)
    }

    fn harden(&self) -> Result<()> {
        let db = self.db();
        db.pragma_update(None, "synchronous", "FULL")?;
        db.execute("UPDATE hardened SET times = times + 1", ())?;
        Ok(db.pragma_update(None, "synchronous", "OFF")?)
    }

    fn wants_hardening(&self) -> bool {
        true
    }

    fn get(&self, key: &[u8; KEY_BYTES]) -> Result<Option<Vec<u8>>> {
        let db = self.db();
        let mut select = db.prepare_cached(SELECT)?;
        Ok(select.query_row((key,), |row| row.get(0)).optional()?)
    }

    fn read(&self, with: &mut dyn FnMut(&mut dyn Reader) -> Result<()>) -> Result<()> {
        let mut db = self.db();
        let txn = db.transaction()?;
        let mut reading = Reading { select: txn.prepare(SELECT)?, range: txn.prepare(RANGE)? };
        with(&mut reading)
    }

    fn count(&self) -> Result<u64> {
        let db = self.db();
        // The values are read, too.
        let rows: i64 = db.query_row("SELECT count(*) FROM rows WHERE length(v) >= 0", (), |row| row.get(0))?;
        Ok(u64::try_from(rows)?)
    }

    fn flush(&self) -> Result<()> {
        self.db().query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))?;
        Ok(())
    }

    fn log_bytes(&self) -> Result<u64> {
        bytes_of(&self.dir, "-wal")
    }

    fn note(&self) -> Result<String> {
        Ok("a B-tree behind a log (WAL mode), no compression; one connection".to_owned())
    }
}

/// In one transaction.
struct Reading<'c> {
    select: rusqlite::Statement<'c>,
    range: rusqlite::Statement<'c>,
}

impl Reader for Reading<'_> {
    fn get(&mut self, key: &[u8; KEY_BYTES], each: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let mut rows = self.select.query((key,))?;
        match rows.next()? {
            Some(row) => {
                each(row.get_ref(0)?.as_blob()?);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn scan(&mut self, from: &[u8; KEY_BYTES], rows: usize, each: &mut dyn FnMut(&[u8], &[u8])) -> Result<()> {
        let mut found = self.range.query((from, i64::try_from(rows)?))?;
        while let Some(row) = found.next()? {
            each(row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?);
        }
        Ok(())
    }
}
