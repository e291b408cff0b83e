/*!
Durable commits: each client commits one row after another and waits for each to be on the device.

Keys are 16 bytes that look random, values 32. What clients do together is what matters: commits that wait at the same time share a
sync. Afterwards the database is closed and opened again, and every row that was acknowledged is looked up.
*/

use super::{OwnTable, come_to_rest};
use crate::failure::Failure;
use crate::settings::Settings;
use crate::workload::{Client, Entry, Kind, WRITES, Workload, named};
use arrow::array::AsArray;
use omendb_cli::size::count;
use omendb_engine::Error;
use omendb_engine::db::{Db, SyncMode};
use omendb_engine::io::random::mix;
use omendb_engine::key::{Key, KeySchema};
use omendb_engine::types::{ColumnType, TableDef, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// See the module.
pub(crate) const ENTRY: Entry = Entry {
    name: "durable-commit",
    about: "commits of one row, each on the device before it is acknowledged; for 1 to 64 clients",
    kind: Kind::Driven(open),
    not_cold: WRITES,
};

/// The table.
const TABLE: OwnTable<'_> =
    OwnTable { name: "bench_commits", columns: &[("k", ColumnType::Bytes), ("v", ColumnType::Bytes)], key: &["k"] };

/// Rows that are looked up at once.
const VERIFY_ROWS: u64 = 1024;

struct DurableCommit<'a> {
    settings: &'a Settings,
    db: Option<Db>,
    table: Option<Arc<TableDef>>,
    /// Rows that were acknowledged, by client.
    acknowledged: Vec<AtomicU64>,
}

fn open(settings: &Settings) -> Result<Box<dyn Workload + '_>, Failure> {
    if settings.open.sync != SyncMode::Always {
        let message = "durable-commit measures commits that are on the device: take --sync always";
        return Err(Failure::Usage(message.into()));
    }
    let acknowledged = (0..settings.clients).map(|_| AtomicU64::new(0)).collect();
    Ok(Box::new(DurableCommit { settings, db: Some(settings.open_engine()?), table: None, acknowledged }))
}

/// Key and value of a client's row.
fn row(seed: u64, client: u64, number: u64) -> (Vec<u8>, Vec<u8>) {
    let of_row = mix(mix(seed).wrapping_add(client).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ number);
    let words = |from: u64, to: u64| (from..to).flat_map(move |n| mix(of_row.wrapping_add(n)).to_be_bytes());
    // Client and number make keys of one run distinct, whatever is drawn.
    let last = client.wrapping_shl(48).wrapping_add(number).to_be_bytes();
    (words(0, 1).chain(last).collect(), words(1, 5).collect())
}

impl DurableCommit<'_> {
    fn open_db(&self) -> Result<&Db, Failure> {
        self.db.as_ref().ok_or_else(|| Error::internal("the workload's database is closed").into())
    }

    fn table(&self) -> Result<&Arc<TableDef>, Failure> {
        self.table.as_ref().ok_or_else(|| Error::internal("the workload has not made its table").into())
    }

    fn verify_some(&self, db: &Db, keys: &KeySchema, client: u64, from: u64, to: u64) -> Result<(), Failure> {
        let table = self.table()?;
        let rows: Vec<(Vec<u8>, Vec<u8>)> = (from..to).map(|n| row(self.settings.seed, client, n)).collect();
        let wanted: Vec<Key> =
            rows.iter().map(|(key, _)| keys.encode(&[Value::Bytes(key.clone())])).collect::<Result<_, _>>()?;
        let (batch, places) = db.snapshot()?.multi_get(table, &wanted, &table.column_ids())?;
        let column = |place: usize| batch.columns().get(place).and_then(|column| column.as_binary_opt::<i32>());
        let (Some(keys), Some(values)) = (column(0), column(1)) else {
            return Err(Failure::Wrong("a batch has other types than were asked for".into()));
        };
        let mut seen = vec![false; rows.len()];
        for ((key, value), place) in keys.iter().zip(values).zip(places) {
            let place = usize::try_from(place).unwrap_or(usize::MAX);
            let right = rows.get(place).is_some_and(|(k, v)| key == Some(k) && value == Some(v));
            match seen.get_mut(place) {
                Some(seen) if right => *seen = true,
                _ => return Err(Failure::Wrong(format!("a row of client {client} is not what was committed"))),
            }
        }
        match seen.iter().position(|seen| !seen) {
            None => Ok(()),
            Some(place) => {
                let number = from + u64::try_from(place).unwrap_or(0);
                Err(Failure::Wrong(format!("row {number} of client {client} was acknowledged and is not there")))
            }
        }
    }
}

impl Workload for DurableCommit<'_> {
    fn db(&self) -> Option<Db> {
        self.db.clone()
    }

    fn operations(&self) -> Vec<String> {
        named(&["commit"])
    }

    fn commits(&self, _operation: usize) -> bool {
        true
    }

    fn parameters(&self) -> Vec<(&'static str, serde_json::Value)> {
        vec![("bytes of a key", 16.into()), ("bytes of a value", 32.into())]
    }

    fn prepare(&mut self) -> Result<(), Failure> {
        let db = self.open_db()?;
        let table = TABLE.make(db)?;
        come_to_rest(db, self.settings)?;
        self.table = Some(table);
        Ok(())
    }

    fn client(&self, number: usize) -> Result<Box<dyn Client + '_>, Failure> {
        let missing = || Failure::from(Error::internal("there are not so many clients"));
        Ok(Box::new(CommitClient {
            db: self.open_db()?,
            table: Arc::clone(self.table()?),
            seed: self.settings.seed,
            client: u64::try_from(number).unwrap_or(u64::MAX),
            acknowledged: self.acknowledged.get(number).ok_or_else(missing)?,
            values: Vec::new(),
        }))
    }

    fn verify(&mut self) -> Result<String, Failure> {
        if let Some(db) = self.db.take() {
            db.close()?;
        }
        let db = self.settings.open_engine()?;
        let keys = KeySchema::of(self.table()?)?;
        let mut total = 0;
        for (acknowledged, client) in self.acknowledged.iter().zip(0..) {
            let rows = acknowledged.load(Ordering::Acquire);
            for from in (0..rows).step_by(usize::try_from(VERIFY_ROWS).unwrap_or(1)) {
                self.settings.stop_if_interrupted()?;
                self.verify_some(&db, &keys, client, from, (from + VERIFY_ROWS).min(rows))?;
            }
            total += rows;
        }
        self.db = Some(db);
        Ok(format!("all {} rows that were acknowledged, after closing and opening again", count(total)))
    }
}

struct CommitClient<'a> {
    db: &'a Db,
    table: Arc<TableDef>,
    seed: u64,
    client: u64,
    acknowledged: &'a AtomicU64,
    values: Vec<Value>,
}

impl Client for CommitClient<'_> {
    fn draw(&mut self) -> Result<usize, Failure> {
        // One that ended with an error is committed again: a put changes nothing if it has happened.
        let (key, value) = row(self.seed, self.client, self.acknowledged.load(Ordering::Relaxed));
        self.values = vec![Value::Bytes(key), Value::Bytes(value)];
        Ok(0)
    }

    fn run(&mut self) -> Result<u64, Failure> {
        let mut transaction = self.db.begin()?;
        transaction.put(&self.table, &self.values)?;
        transaction.commit()?;
        Ok(1)
    }

    fn check(&mut self) -> Result<(), Failure> {
        self.acknowledged.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_their_sizes_and_no_two_have_one_key() {
        let mut keys: Vec<Vec<u8>> = (0..4).flat_map(|c| (0..500).map(move |n| row(1, c, n).0)).collect();
        assert!(keys.iter().all(|key| key.len() == 16));
        assert_eq!(row(1, 2, 3).1.len(), 32);
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 2000);
    }
}
