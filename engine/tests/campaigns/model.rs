/*!
The model: what the database holds after each commit, as plain maps, and the comparison with what a database gives.

A row's payload follows from its tag, so that a state is a small map and a wrong byte is seen all the same.
*/

use arrow::array::{
    Array, ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringViewArray, TimestampMicrosecondArray,
};
use arrow::datatypes::Schema;
use omendb_engine::db::{Db, Expectation, OnConflict, Row, ScanRequest, Snapshot, Transaction, WriteKind};
use omendb_engine::io::random::{Random, mix};
use omendb_engine::key::{KeyRange, KeySchema};
use omendb_engine::types::{Attributes, ColumnId, ColumnType, NewColumn, NewTable, NewTtl, Seq, TableDef, Value};
use omendb_engine::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// One change of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// A table: with a key of its own, or with hidden row ids.
    Create(&'static str, bool),
    Drop(&'static str),
    Truncate(&'static str),
    Put(&'static str, i64, u64),
    Delete(&'static str, i64),
    /// A row that has expired when it is written: nobody sees it, nor what it replaces.
    Expire(&'static str, i64, u64),
    /// A row of a table without a key.
    Append(&'static str, u64),
    /// All rows from the first key up to the second, which stays.
    DeleteRange(&'static str, i64, i64),
    /// Rows by bulk load.
    Load(&'static str, Vec<(i64, u64)>),
}

/// A table's rows: key and tag. A table without a key counts its rows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Table {
    pub(crate) keyed: bool,
    pub(crate) rows: BTreeMap<i64, u64>,
}

/// All tables.
pub(crate) type State = BTreeMap<&'static str, Table>;

pub(crate) fn apply(state: &mut State, change: &Change) {
    assert!(try_apply(state, change), "{change:?} of a table that is not there");
}

/// False where the table is not there.
pub(crate) fn try_apply(state: &mut State, change: &Change) -> bool {
    let (Change::Create(name, _)
    | Change::Drop(name)
    | Change::Truncate(name)
    | Change::Put(name, ..)
    | Change::Delete(name, _)
    | Change::Expire(name, ..)
    | Change::Append(name, _)
    | Change::DeleteRange(name, ..)
    | Change::Load(name, _)) = change;
    match (change, state.get_mut(name)) {
        (Change::Create(name, keyed), None) => {
            state.insert(name, Table { keyed: *keyed, rows: BTreeMap::new() });
        }
        (Change::Create(..), Some(_)) | (_, None) => return false,
        (Change::Drop(name), Some(_)) => drop(state.remove(name)),
        (Change::Truncate(_), Some(table)) => table.rows.clear(),
        (Change::Put(_, k, tag), Some(table)) => drop(table.rows.insert(*k, *tag)),
        (Change::Delete(_, k) | Change::Expire(_, k, _), Some(table)) => drop(table.rows.remove(k)),
        (Change::DeleteRange(_, from, to), Some(table)) => table.rows.retain(|k, _| !(*from..*to).contains(k)),
        (Change::Append(_, tag), Some(table)) => drop(table.rows.insert(table.rows.len() as i64, *tag)),
        (Change::Load(_, rows), Some(table)) => table.rows.extend(rows.iter().copied()),
    }
    true
}

/// The payload of a row: none, or short and long ones, that nothing compresses.
pub(crate) fn payload(tag: u64) -> Option<String> {
    if tag.is_multiple_of(4) {
        return None;
    }
    let len = [0, 60, 300, 1500][(tag % 4) as usize] + (tag / 4 % 50) as usize;
    let mut random = Random::new(mix(tag));
    let mut text = Vec::with_capacity(len + 8);
    while text.len() < len {
        // Eight characters from '0' on, of 64.
        let word = (random.next_u64() & 0x3f3f_3f3f_3f3f_3f3f) + 0x3030_3030_3030_3030;
        text.extend_from_slice(&word.to_le_bytes());
    }
    text.truncate(len);
    Some(String::from_utf8(text).unwrap())
}

/// The commits of one history, in the order of their numbers, and what the database was told of them.
#[derive(Debug, Default)]
pub(crate) struct World {
    commits: Mutex<Vec<(Seq, Vec<Change>)>>,
    /// The highest number that was acknowledged as durable.
    acknowledged: AtomicU64,
    pub(crate) flushes: AtomicU64,
    pub(crate) compactions: AtomicU64,
    /// Commits are not durable when they come back.
    pub(crate) lazy: bool,
}

impl World {
    pub(crate) fn lazy() -> World {
        World { lazy: true, ..World::default() }
    }

    /// Goes on from what was recovered of another history.
    pub(crate) fn go_on(&self, history: &History, seq: Seq) {
        let recovered = history.commits.iter().filter(|(at, _)| *at <= seq).cloned().collect();
        *self.commits.lock().unwrap() = recovered;
    }

    pub(crate) fn acknowledged(&self) -> Seq {
        self.acknowledged.load(Ordering::SeqCst)
    }

    pub(crate) fn acknowledge(&self, seq: Seq) {
        self.acknowledged.fetch_max(seq, Ordering::SeqCst);
    }

    /// Notes a commit that came back.
    pub(crate) fn committed(&self, seq: Seq, changes: Vec<Change>) {
        self.commits.lock().unwrap().push((seq, changes));
        if !self.lazy {
            self.acknowledge(seq);
        }
    }

    /// Commits `changes` in one transaction.
    pub(crate) fn commit(&self, db: &Db, changes: Vec<Change>) -> Result<Seq> {
        let seq = commit(db, &changes)?;
        self.committed(seq, changes);
        Ok(seq)
    }

    pub(crate) fn count(&self, db: &Db) {
        let stats = db.stats().unwrap();
        self.flushes.fetch_add(stats.flushes, Ordering::Relaxed);
        self.compactions.fetch_add(stats.compactions, Ordering::Relaxed);
    }

    pub(crate) fn history(&self) -> History {
        History::new(self.commits.lock().unwrap().clone())
    }
}

/// What the database must hold after each commit.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) commits: Vec<(Seq, Vec<Change>)>,
    /// The state before the first commit, then after each.
    states: Vec<State>,
}

impl History {
    pub(crate) fn new(mut commits: Vec<(Seq, Vec<Change>)>) -> History {
        commits.sort_by_key(|(seq, _)| *seq);
        let mut states = vec![State::new()];
        for (_, changes) in &commits {
            let mut state = states.last().unwrap().clone();
            changes.iter().for_each(|change| apply(&mut state, change));
            states.push(state);
        }
        History { commits, states }
    }

    /// The state after all commits up to `seq`.
    pub(crate) fn at(&self, seq: Seq) -> &State {
        &self.states[self.commits.partition_point(|(at, _)| *at <= seq)]
    }

    /// The states after each commit from `first` to `last`, the latest first.
    pub(crate) fn between(&self, first: Seq, last: Seq) -> impl Iterator<Item = &State> {
        let place = |seq: Seq| self.commits.partition_point(|(at, _)| *at <= seq);
        self.states[place(first)..=place(last)].iter().rev()
    }
}

pub(crate) fn commit(db: &Db, changes: &[Change]) -> Result<Seq> {
    let mut txn = db.begin()?;
    changes.iter().try_for_each(|change| perform(&mut txn, change))?;
    txn.commit()
}

fn new_table(name: &str, keyed: bool) -> NewTable {
    let column =
        |name: &str, ty| NewColumn { name: name.to_owned(), ty, nullable: true, attributes: Attributes::new() };
    NewTable {
        name: name.to_owned(),
        columns: vec![
            column("k", ColumnType::Int64),
            column("tag", ColumnType::Int64),
            column("payload", ColumnType::Text),
            // NULL, so that the row stays, or long ago, whatever the clock says.
            column("at", ColumnType::TimestampTz),
        ],
        key: if keyed { vec!["k".to_owned()] } else { Vec::new() },
        ttl: Some(NewTtl { column: "at".to_owned(), micros: 3_600_000_000 }),
        ..NewTable::default()
    }
}

pub(crate) fn perform(txn: &mut Transaction, change: &Change) -> Result<()> {
    let table = |txn: &Transaction, name: &str| {
        let missing = || Error::new(ErrorKind::NoSuchTable, format!("table {name} is not there"));
        txn.snapshot().table(name)?.ok_or_else(missing)
    };
    match change {
        Change::Create(name, keyed) => txn.create_table(new_table(name, *keyed)).map(drop),
        Change::Drop(name) => {
            let table = table(txn, name)?;
            txn.drop_table(table.id)
        }
        Change::Truncate(name) => {
            let table = table(txn, name)?;
            txn.truncate(table.id).map(drop)
        }
        Change::Put(name, k, tag) => {
            let table = table(txn, name)?;
            let batch = rows(&table, &[(*k, *tag)]);
            txn.write(&table, WriteKind::Put, &table.column_ids(), &batch, Expectation::None)
        }
        Change::Expire(name, k, tag) => {
            let table = table(txn, name)?;
            let batch = moments(&table, &[(*k, *tag)], Some(0));
            txn.write(&table, WriteKind::Put, &table.column_ids(), &batch, Expectation::None)
        }
        Change::Append(name, tag) => {
            let table = table(txn, name)?;
            let batch = rows(&table, &[(0, *tag)]);
            txn.write(&table, WriteKind::Put, &table.column_ids(), &batch, Expectation::None)
        }
        Change::Delete(name, k) => {
            let table = table(txn, name)?;
            let key = [table.column_ids()[0]];
            let schema = Arc::new(Schema::new(table.projected_schema(&key)?.fields().clone()));
            let batch = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(vec![*k]))]).unwrap();
            txn.write(&table, WriteKind::Delete, &key, &batch, Expectation::None)
        }
        Change::DeleteRange(name, from, to) => {
            let table = table(txn, name)?;
            let keys = KeySchema::of(&table)?;
            let at = |k: &i64| keys.encode(&[Value::Int(*k)]);
            let range = KeyRange { start: Bound::Included(at(from)?), end: Bound::Excluded(at(to)?) };
            txn.delete_range(&table, &range)
        }
        Change::Load(name, all) => {
            let table = table(txn, name)?;
            let mut ingest = txn.ingest(&table, OnConflict::Replace, 1 << 20)?;
            for part in all.chunks(16) {
                ingest.write(&table.column_ids(), &rows(&table, part))?;
            }
            ingest.finish().map(drop)
        }
    }
}

pub(crate) fn rows(table: &TableDef, rows: &[(i64, u64)]) -> RecordBatch {
    moments(table, rows, None)
}

/// Rows of one moment.
fn moments(table: &TableDef, rows: &[(i64, u64)], at: Option<i64>) -> RecordBatch {
    let keys: Int64Array = rows.iter().map(|(k, _)| Some(*k)).collect();
    let tags: Int64Array = rows.iter().map(|(_, tag)| Some(*tag as i64)).collect();
    let payloads: StringViewArray = rows.iter().map(|(_, tag)| payload(*tag)).collect();
    let schema = table.projected_schema(&table.column_ids()).unwrap();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    let moments = TimestampMicrosecondArray::from(vec![at; rows.len()]).with_timezone("UTC");
    let columns: Vec<ArrayRef> = vec![Arc::new(keys), Arc::new(tags), Arc::new(payloads), Arc::new(moments)];
    RecordBatch::try_new_with_options(schema, columns, &options).unwrap()
}

/// All that a snapshot sees. `Err` for an error of the engine; a wrong payload or order is a panic.
pub(crate) fn read(snapshot: &Snapshot) -> Result<BTreeMap<String, Table>> {
    let mut state = BTreeMap::new();
    for table in snapshot.tables()? {
        state.insert(table.name.clone(), read_table(snapshot, &table)?);
    }
    Ok(state)
}

pub(crate) fn read_table(snapshot: &Snapshot, table: &TableDef) -> Result<Table> {
    let keyed = !table.has_hidden_key();
    let mut rows = BTreeMap::new();
    let mut last = i64::MIN;
    let request = ScanRequest { projection: table.column_ids(), ..ScanRequest::default() };
    for batch in snapshot.scan(table, request)? {
        let batch = batch?;
        let keys = batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
        let tags = batch.column(1).as_any().downcast_ref::<Int64Array>().unwrap();
        let payloads = batch.column(2).as_any().downcast_ref::<StringViewArray>().unwrap();
        for row in 0..batch.num_rows() {
            let tag = tags.value(row) as u64;
            let there = payloads.is_valid(row).then(|| payloads.value(row));
            assert_eq!(there, payload(tag).as_deref(), "table {}: a wrong payload", table.name);
            let key = if keyed { keys.value(row) } else { rows.len() as i64 };
            assert!(key > last, "table {}: key {key} after {last}", table.name);
            last = key;
            rows.insert(key, tag);
        }
    }
    Ok(Table { keyed, rows })
}

/// The tag of one row, by its key.
pub(crate) fn get(snapshot: &Snapshot, table: &TableDef, k: i64) -> Result<Option<u64>> {
    let key = KeySchema::of(table)?.encode(&[Value::Int(k)])?;
    let mut row = Row::default();
    let columns: Vec<ColumnId> = table.column_ids();
    if !snapshot.get(table, &key, &columns, &mut row)? {
        return Ok(None);
    }
    let Value::Int(tag) = row.values[1] else { panic!("a tag that is no number") };
    let there = match &row.values[2] {
        Value::Text(text) => Some(text.clone()),
        Value::Null => None,
        _ => panic!("a payload that is no text"),
    };
    assert_eq!(there, payload(tag as u64), "table {}: a wrong payload", table.name);
    Ok(Some(tag as u64))
}

/// What differs, in a few lines; `None` where nothing does.
pub(crate) fn difference(found: &BTreeMap<String, Table>, expect: &State) -> Option<String> {
    let mut lines = Vec::new();
    for (name, table) in expect {
        let Some(there) = found.get(*name) else {
            lines.push(format!("table {name} is missing"));
            continue;
        };
        if there.keyed != table.keyed {
            lines.push(format!("table {name} has another key"));
        }
        let keys = table.rows.keys().chain(there.rows.keys());
        let mut wrong: Vec<i64> = keys.filter(|k| table.rows.get(k) != there.rows.get(k)).copied().collect();
        wrong.sort_unstable();
        wrong.dedup();
        for k in wrong.iter().take(5) {
            let (is, should) = (there.rows.get(k), table.rows.get(k));
            lines.push(format!("table {name}, row {k}: is {is:?}, should be {should:?}"));
        }
        if wrong.len() > 5 {
            lines.push(format!("table {name}: {} rows differ", wrong.len()));
        }
    }
    lines.extend(
        found.keys().filter(|name| !expect.contains_key(name.as_str())).map(|name| format!("table {name} is there")),
    );
    (!lines.is_empty()).then(|| lines.join("\n"))
}
