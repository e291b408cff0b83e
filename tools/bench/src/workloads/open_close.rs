/*!
Opening and closing: how long a program waits for its database, and how long until it has let go of it.

A client opens the database, looks one row up, and closes the database, in turn; since one process has it open for writing at a time,
there is one client. The rows are those of YCSB's narrow records in spirit: a BIGINT key and a BIGINT that follows from it.
*/

use super::{OwnTable, come_to_rest, note};
use crate::failure::Failure;
use crate::settings::Settings;
use crate::workload::{Client, Entry, Kind, Workload, named};
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use omendb_cli::size::count;
use omendb_engine::Error;
use omendb_engine::db::{Db, OnConflict, Row};
use omendb_engine::io::random::{Random, mix};
use omendb_engine::key::KeySchema;
use omendb_engine::types::{ColumnType, Value};
use std::sync::Arc;

/// See the module.
pub(crate) const ENTRY: Entry = Entry {
    name: "open-close",
    about: "opening the database, its first lookup, closing it",
    kind: Kind::Driven(open),
    not_cold: Some("what an opening reads is small, and its files are written by closing"),
};

/// The table.
const TABLE: OwnTable<'_> =
    OwnTable { name: "bench_open", columns: &[("k", ColumnType::Int64), ("v", ColumnType::Int64)], key: &["k"] };

/// Rows unless somebody said otherwise.
const ROWS: u64 = 1_000_000;

/// Rows of a batch of the load.
const LOAD_ROWS: u64 = 64 * 1024;

struct OpenClose<'a> {
    settings: &'a Settings,
    rows: u64,
    /// Open before and after the run.
    db: Option<Db>,
}

fn open(settings: &Settings) -> Result<Box<dyn Workload + '_>, Failure> {
    if settings.clients != 1 {
        return Err(Failure::Usage("open-close has one client: one process has a database open at a time".into()));
    }
    let db = settings.open_engine()?;
    Ok(Box::new(OpenClose { settings, rows: settings.rows.unwrap_or(ROWS), db: Some(db) }))
}

/// What stands beside a key.
fn value(seed: u64, key: u64) -> i64 {
    i64::from_ne_bytes(mix(seed.wrapping_add(mix(key))).to_ne_bytes())
}

/// Keys are far below 2^63.
fn signed(key: u64) -> i64 {
    i64::try_from(key).unwrap_or(i64::MAX)
}

impl OpenClose<'_> {
    fn load(&self, db: &Db) -> Result<(), Failure> {
        let table = TABLE.make(db)?;
        let columns = table.column_ids();
        let schema = table.projected_schema(&columns)?;
        let mut transaction = db.begin()?;
        let mut ingest = transaction.ingest(&table, OnConflict::Error, self.settings.options()?.memory_bytes)?;
        let mut from = 0;
        while from < self.rows {
            self.settings.stop_if_interrupted()?;
            let to = (from + LOAD_ROWS).min(self.rows);
            let ints =
                |of: &dyn Fn(u64) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values((from..to).map(of))) };
            let arrays = vec![ints(&signed), ints(&|key| value(self.settings.seed, key))];
            ingest.write(&columns, &RecordBatch::try_new(Arc::clone(&schema), arrays)?)?;
            from = to;
        }
        ingest.finish()?;
        transaction.commit()?;
        Ok(())
    }
}

impl Workload for OpenClose<'_> {
    fn db(&self) -> Option<Db> {
        self.db.clone()
    }

    fn operations(&self) -> Vec<String> {
        named(&["open", "first lookup", "close"])
    }

    fn commits(&self, _operation: usize) -> bool {
        true
    }

    fn parameters(&self) -> Vec<(&'static str, serde_json::Value)> {
        vec![("rows", self.rows.into())]
    }

    fn prepare(&mut self) -> Result<(), Failure> {
        note(self.settings, &format!("loading {} rows", count(self.rows)));
        if let Some(db) = self.db.take() {
            self.load(&db)?;
            come_to_rest(&db, self.settings)?;
            db.close()?;
        }
        Ok(())
    }

    fn client(&self, _number: usize) -> Result<Box<dyn Client + '_>, Failure> {
        Ok(Box::new(OpenClient {
            workload: self,
            random: Random::new(mix(self.settings.seed)),
            turn: 2,
            key: 0,
            db: None,
            found: None,
        }))
    }

    fn verify(&mut self) -> Result<String, Failure> {
        let db = self.settings.open_engine()?;
        let table = db.snapshot()?.table(TABLE.name)?;
        let stats = table.map(|table| db.table_stats(&table)).transpose()?.unwrap_or_default();
        self.db = Some(db);
        match stats.rows_exact && stats.rows == self.rows {
            true => Ok(format!("every row that was looked up, and that {} rows are there", count(stats.rows))),
            false => Err(Failure::Wrong(format!("the table has {} rows, not {}", stats.rows, self.rows))),
        }
    }
}

struct OpenClient<'a> {
    workload: &'a OpenClose<'a>,
    random: Random,
    /// 0 opens, 1 looks up, 2 closes.
    turn: usize,
    key: u64,
    db: Option<Db>,
    found: Option<Value>,
}

impl OpenClient<'_> {
    fn open_db(&self) -> Result<&Db, Failure> {
        self.db.as_ref().ok_or_else(|| Error::internal("the database is not open").into())
    }

    fn look_up(&mut self) -> Result<(), Failure> {
        let db = self.open_db()?;
        let snapshot = db.snapshot()?;
        let missing = || Failure::Wrong("the table is gone".into());
        let table = snapshot.table(TABLE.name)?.ok_or_else(missing)?;
        let key = KeySchema::of(&table)?.encode(&[Value::Int(signed(self.key))])?;
        let mut row = Row::default();
        let wanted: Vec<_> = table.column_ids().into_iter().skip(1).collect();
        let found = snapshot.get(&table, &key, &wanted, &mut row)?;
        self.found = row.values.pop().filter(|_| found);
        Ok(())
    }
}

impl Client for OpenClient<'_> {
    fn draw(&mut self) -> Result<usize, Failure> {
        // What ended with an error is not done again: a database that is not open can't be closed.
        self.turn = if self.db.is_none() { 0 } else { (self.turn + 1) % 3 };
        self.key = self.random.below(self.workload.rows);
        Ok(self.turn)
    }

    fn run(&mut self) -> Result<u64, Failure> {
        match self.turn {
            0 => self.db = Some(Db::open(self.workload.settings.options()?)?),
            1 => {
                self.look_up()?;
                return Ok(1);
            }
            _ => {
                if let Some(db) = self.db.take() {
                    db.close()?;
                }
            }
        }
        Ok(0)
    }

    fn check(&mut self) -> Result<(), Failure> {
        if self.turn != 1 {
            return Ok(());
        }
        let right = Value::Int(value(self.workload.settings.seed, self.key));
        match self.found.take() {
            Some(found) if found == right => Ok(()),
            other => Err(Failure::Wrong(format!("key {} has {other:?}, not {right:?}", self.key))),
        }
    }
}
