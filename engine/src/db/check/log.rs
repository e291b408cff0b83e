/*!
The log and the catalog: twice through the log, since only its end says which tables there are.

The first time its system rows are gathered, and with the system tables' runs they make up the catalog. The second time each
row is held against its table.
*/

use super::super::open::log_known;
use super::super::recover::{Recovered, Replay, catalog_loader, recover};
use super::Check;
use crate::compaction::output::Output;
use crate::error::{Error, ErrorKind, Result};
use crate::key::KeySchema;
use crate::lease::Leases;
use crate::manifest::{Manifest, State};
use crate::memtable::Kind;
use crate::model::IndexChoice;
use crate::row::RowReader;
use crate::txn::catalog::{Catalog, FIRST_USER_ID};
use crate::txn::record::{self, RowChange, What};
use crate::types::{Seq, StorageId, TableDef, Value};
use crate::wal::Lsn;
use crate::wal::inspect::{self, Inspection};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How often the log is read again because it looked damaged each time, and each time otherwise.
const ATTEMPTS_MAX: usize = 20;

/// What reading the log came to.
enum Log<T> {
    Whole(T, Inspection),
    /// What was read before the damage.
    Damaged(T, Error),
    /// A writer has published another manifest meanwhile, and the log need not fit the old one any more.
    Overtaken,
}

const LOG_ADVICE: &str = "Commits from there on are in doubt: restore the database from a backup, or set the log's files aside to go on without.";
pub(super) const CATALOG_ADVICE: &str = "Tables may be missing or wrong: restore the database from a backup.";

/// Takes a record into what was read so far.
type Take<'a, T> = &'a mut dyn FnMut(&mut T, Lsn, &[u8]) -> Result<()>;

impl Check<'_> {
    /// Gives the catalog, if it could be read; nothing at all where a writer has overtaken the check.
    pub(super) fn log_and_catalog(&mut self, id: &[u8; 16], state: &State) -> Option<Option<Catalog>> {
        let begin = || (Replay::new(state, usize::MAX), 0);
        let mut take = |(replay, last_seq): &mut (Replay, Seq), end: Lsn, bytes: &[u8]| {
            in_order(bytes, last_seq)?;
            replay.take_of(end, bytes, |storage| storage.0 < FIRST_USER_ID)
        };
        let (replay, whole) = match self.read_log(id, state, begin, &mut take) {
            Log::Overtaken => return None,
            Log::Whole((replay, _), found) => {
                self.note_log(found);
                (replay, true)
            }
            Log::Damaged((replay, _), error) => {
                self.damaged_log(id, state, &error);
                (replay, false)
            }
        };
        let output = Output::new(Leases::new(self.io, self.dir), self.cache.clone(), IndexChoice::Auto, 0, 0);
        let recovered = match recover(state, replay, &output) {
            Ok(recovered) => recovered,
            Err(_) if self.is_overtaken(state) => return None,
            Err(error) => {
                self.report.problem(&error, CATALOG_ADVICE);
                return Some(None);
            }
        };
        let catalog = (*recovered.view.catalog).clone();
        self.report.tables = u64::try_from(catalog.len()).unwrap_or(u64::MAX);
        if whole {
            self.catalog(recovered);
            match self.sound(Rows::new(&catalog), CATALOG_ADVICE) {
                None => {}
                Some(rows) => match self.read_log(id, state, || (), &mut |(), _, bytes| rows.check(bytes)) {
                    Log::Overtaken => return None,
                    Log::Damaged((), error) => self.report.problem(&error, LOG_ADVICE),
                    Log::Whole((), _) => {}
                },
            }
        }
        Some(Some(catalog))
    }

    /// The catalog's rows among themselves and against the trees.
    fn catalog(&mut self, recovered: Recovered) {
        let next_id = recovered.next_id;
        for storage in &recovered.orphans {
            let what = format!("storage {} has runs and no table: it was dropped; opening removes it", storage.0);
            self.report.note(self.dir, None, what);
        }
        if let Some(loader) = self.sound(catalog_loader(recovered.view), CATALOG_ADVICE) {
            for what in loader.contradictions(next_id) {
                self.report.problem(&Error::corruption(what), CATALOG_ADVICE);
            }
        }
    }

    /// Reads the log into what `begin` gives. What looks damaged is read once more: a writer may be at work.
    fn read_log<T>(&self, id: &[u8; 16], state: &State, begin: impl Fn() -> T, take: Take<'_, T>) -> Log<T> {
        let mut before = None;
        let mut attempts = ATTEMPTS_MAX;
        loop {
            attempts -= 1;
            let mut so_far = begin();
            let mut apply = |end, bytes: &[u8]| take(&mut so_far, end, bytes);
            let error = match inspect::inspect(self.io, self.dir, id, log_known(state), &mut apply) {
                Ok(found) => return Log::Whole(so_far, found),
                Err(error) => error,
            };
            if self.is_overtaken(state) {
                return Log::Overtaken;
            }
            let said = Some(error.to_string());
            if attempts == 0 || before == said {
                return Log::Damaged(so_far, error);
            }
            before = said;
        }
    }

    /// Whether a writer has published another manifest than that of `state`.
    fn is_overtaken(&self, state: &State) -> bool {
        Manifest::inspect(self.io, self.dir).is_ok_and(|now| now.state != *state)
    }

    fn note_log(&mut self, found: Inspection) {
        self.report.log_segments = found.segments;
        self.report.log_frames = found.frames;
        self.report.log_records = found.replay.records;
        if let Some(torn) = found.replay.torn {
            let what = "the log ends here with bytes that are no frame: a write that a crash cut short, or damage to what \
                        no later frame proves";
            self.report.note(&torn.file, torn.offset, what);
        }
        for path in found.unused {
            self.report.note(
                &path,
                None,
                "this segment of the log is not in use; opening removes it, unless a reader's lease keeps it",
            );
        }
    }

    fn damaged_log(&mut self, id: &[u8; 16], state: &State, error: &Error) {
        self.report.problem(error, LOG_ADVICE);
        match inspect::sweep(self.io, self.dir, id, log_known(state).from) {
            Ok(sweep) => {
                self.report.log_segments = sweep.segments;
                self.report.log_frames = sweep.frames;
                sweep.damage.iter().for_each(|damage| self.report.problem(damage, LOG_ADVICE));
            }
            Err(error) => self.report.problem(&error, LOG_ADVICE),
        }
    }
}

/// That a record's number follows those before it.
fn in_order(bytes: &[u8], last: &mut Seq) -> Result<()> {
    let seq = record::decode(bytes)?.seq;
    if seq <= *last {
        return Err(Error::corruption(format!("commit {seq} stands behind commit {last} in the log")));
    }
    *last = seq;
    Ok(())
}

/// Holds rows of the log against their tables.
struct Rows {
    tables: BTreeMap<StorageId, (Arc<TableDef>, KeySchema)>,
}

impl Rows {
    fn new(catalog: &Catalog) -> Result<Rows> {
        let table = |table: &Arc<TableDef>| Ok((table.storage, (Arc::clone(table), KeySchema::of(table)?)));
        Ok(Rows { tables: catalog.tables().map(table).collect::<Result<_>>()? })
    }

    fn check(&self, bytes: &[u8]) -> Result<()> {
        let record = record::decode(bytes)?;
        for operation in record.operations {
            let operation = operation?;
            // Others are of tables that were dropped later, or the system's, which the catalog was read from.
            if let Some((table, keys)) = self.tables.get(&operation.storage)
                && let What::Row(change) = &operation.what
            {
                let checked = check_row(table, keys, change);
                checked.map_err(|error| damage(&error, record.seq, &table.name))?;
            }
        }
        Ok(())
    }
}

fn damage(error: &Error, seq: Seq, table: &str) -> Error {
    let message = format!("a row of table {table} in commit {seq}: {}", error.message());
    Error::new(if error.kind() == ErrorKind::NewerFormat { error.kind() } else { ErrorKind::Corruption }, message)
}

/// That a row has its table's types, and its key is that of its columns.
fn check_row(table: &TableDef, keys: &KeySchema, change: &RowChange<'_>) -> Result<()> {
    let values = keys.decode(change.key)?;
    if keys.encode(&values)?.as_ref() != change.key {
        return Err(Error::corruption("its key is not as it is written"));
    }
    if change.kind == Kind::Tombstone {
        return Ok(());
    }
    let row = RowReader::open(change.row)?;
    let mut key = Vec::with_capacity(table.key.len());
    for column in &table.columns {
        let mut value = row.value(column.id, column.ty)?;
        // What the key says exactly is in rows of earlier releases only.
        let place = table.key.iter().position(|id| *id == column.id).filter(|_| column.ty.is_exact_in_keys());
        if let Some(said) = place.and_then(|place| values.get(place)).filter(|_| value == Value::Null) {
            value = said.clone();
        }
        if value == Value::Null && !column.nullable {
            return Err(Error::corruption(format!("column {} is NULL and must not be", column.name)));
        }
        if table.key.contains(&column.id) {
            key.push((column.id, value));
        }
    }
    let in_key_order = table.key.iter().filter_map(|id| key.iter().find(|(column, _)| column == id));
    let key: Vec<Value> = in_key_order.map(|(_, value)| value.clone()).collect();
    if !table.has_hidden_key() && keys.encode(&key)?.as_ref() != change.key {
        return Err(Error::corruption("its key is not that of its columns"));
    }
    Ok(())
}
