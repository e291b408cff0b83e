/*!
YCSB's core workloads, as Cooper, Silberstein, Tam, Ramakrishnan and Sears define them ("Benchmarking cloud serving systems with
YCSB", SoCC 2010):

| workload | operations | records |
|---|---|---|
| ycsb-a | 50 % read, 50 % update | Zipf |
| ycsb-b | 95 % read, 5 % update | Zipf |
| ycsb-c | 100 % read | Zipf |
| ycsb-d | 95 % read, 5 % insert | latest |
| ycsb-e | 95 % scan, 5 % insert | Zipf; scans of 1 to 100 rows, uniform |
| ycsb-f | 50 % read, 50 % read-modify-write | Zipf |

A record is a key of 24 bytes ("user" and a hash of its number) and ten fields of 100 bytes; `--narrow` has a BIGINT key (the same
hash) and one BIGINT. Reads read all fields, updates write one. Zipf's exponent is 0.99, and popular records are scattered over the
keys; `--distribution` takes another. The engine stores rows whole, so an update has to read the row that it changes, just like a
read-modify-write: both are one transaction, begun anew where another client has changed the row meanwhile.

**Checks.** Each field says how often it was written and follows from key, field and that number. A client that has read a record adds up
these numbers: they must come to at least what had been acknowledged of that record before, and at most what had been begun after.
Scans are compared with the keys that were loaded. At the end every row is read: as many as were loaded and inserted, and all
numbers together are the updates that were acknowledged, so none was lost.
*/

use super::{OwnTable, come_to_rest, note};
use crate::failure::Failure;
use crate::settings::Settings;
use crate::workload::{Client, Entry, Kind, WRITES, Workload, named};
use crate::zipf::{Zipf, scattered};
use arrow::array::RecordBatch;
use clap::ValueEnum;
use omendb_cli::size::count;
use omendb_engine::Error;
use omendb_engine::column::{ColumnSink, value_at};
use omendb_engine::db::{Db, Expectation, OnConflict, Row, ScanRequest, WriteKind};
use omendb_engine::io::random::{Random, mix};
use omendb_engine::key::{Key, KeyRange, KeySchema};
use omendb_engine::types::{ColumnId, ColumnType, TableDef, Value};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Which records are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Distribution {
    /// Some often, most seldom, scattered over the keys.
    Zipf,
    /// The newest ones most often.
    Latest,
    /// All alike.
    Uniform,
}

/// One of the six.
struct Mix {
    operations: &'static [&'static str],
    /// Of a hundred operations, how many are which.
    shares: &'static [u64],
    distribution: Distribution,
}

const MIXES: &[Mix] = &[
    Mix { operations: &["read", "update"], shares: &[50, 50], distribution: Distribution::Zipf },
    Mix { operations: &["read", "update"], shares: &[95, 5], distribution: Distribution::Zipf },
    Mix { operations: &["read"], shares: &[100], distribution: Distribution::Zipf },
    Mix { operations: &["read", "insert"], shares: &[95, 5], distribution: Distribution::Latest },
    Mix { operations: &["scan", "insert"], shares: &[95, 5], distribution: Distribution::Zipf },
    Mix { operations: &["read", "read-modify-write"], shares: &[50, 50], distribution: Distribution::Zipf },
];

/// See the module.
pub(crate) const A: Entry = Entry {
    name: "ycsb-a",
    about: "YCSB: half reads, half updates",
    kind: Kind::Driven(|settings| open(settings, 0)),
    not_cold: WRITES,
};
/// See the module.
pub(crate) const B: Entry = Entry {
    name: "ycsb-b",
    about: "YCSB: reads, a twentieth updates",
    kind: Kind::Driven(|settings| open(settings, 1)),
    not_cold: WRITES,
};
/// See the module.
pub(crate) const C: Entry = Entry {
    name: "ycsb-c",
    about: "YCSB: reads only",
    kind: Kind::Driven(|settings| open(settings, 2)),
    not_cold: None,
};
/// See the module.
pub(crate) const D: Entry = Entry {
    name: "ycsb-d",
    about: "YCSB: reads of the latest records, a twentieth inserts",
    kind: Kind::Driven(|settings| open(settings, 3)),
    not_cold: WRITES,
};
/// See the module.
pub(crate) const E: Entry = Entry {
    name: "ycsb-e",
    about: "YCSB: short scans, a twentieth inserts",
    kind: Kind::Driven(|settings| open(settings, 4)),
    not_cold: WRITES,
};
/// See the module.
pub(crate) const F: Entry = Entry {
    name: "ycsb-f",
    about: "YCSB: half reads, half read-modify-writes",
    kind: Kind::Driven(|settings| open(settings, 5)),
    not_cold: WRITES,
};

/// Records at the start unless somebody said otherwise.
const ROWS: u64 = 100_000;
const ROWS_NARROW: u64 = 1_000_000;

/// Fields of a record, and bytes of each.
const FIELDS: usize = 10;
const FIELD_BYTES: usize = 100;

/// Digits at the begin of a field: how often it was written.
const VERSION_DIGITS: usize = 8;

/// Rows of a scan at most.
const SCAN_ROWS: u64 = 100;

/// Rows of a batch of the load.
const LOAD_ROWS: u64 = 8 * 1024;

/// The tables' names.
const TABLE: &str = "bench_ycsb";
const TABLE_NARROW: &str = "bench_ycsb_narrow";

/// A record's number as its key has it. One of each other's.
fn hash(number: u64) -> u64 {
    mix(number.wrapping_add(0x5851_F42D_4C95_7F2D))
}

/// How a record looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Wide,
    Narrow,
}

impl Shape {
    fn fields(self) -> usize {
        match self {
            Shape::Wide => FIELDS,
            Shape::Narrow => 1,
        }
    }

    fn key(self, hash: u64) -> Value {
        match self {
            Shape::Wide => Value::Text(format!("user{hash:020}")),
            Shape::Narrow => Value::Int(i64::from_ne_bytes(hash.to_ne_bytes())),
        }
    }

    /// Which hash a key has.
    fn hash(self, key: &Value) -> Option<u64> {
        match (self, key) {
            (Shape::Wide, Value::Text(text)) => text.strip_prefix("user")?.parse().ok(),
            (Shape::Narrow, Value::Int(key)) => Some(u64::from_ne_bytes(key.to_ne_bytes())),
            _ => None,
        }
    }

    /// What field number `field` holds after it was written `version` times.
    fn field(self, hash: u64, field: usize, version: u64) -> Value {
        let of_field = mix(hash ^ u64::try_from(field).unwrap_or(0));
        if self == Shape::Narrow {
            return Value::Int(i64::from_ne_bytes((of_field ^ version).to_ne_bytes()));
        }
        let mut text = String::with_capacity(FIELD_BYTES);
        // Writing into a string cannot fail.
        let _written = write!(text, "{version:08x}");
        let mut stream = Random::new(of_field.wrapping_add(version));
        while text.len() < FIELD_BYTES {
            let mut bits = stream.next_u64();
            for _ in 0..10 {
                let letter = LETTERS.get(usize::try_from(bits & 63).unwrap_or(0)).copied().unwrap_or(b'a');
                text.push(char::from(letter));
                bits >>= 6;
            }
        }
        text.truncate(FIELD_BYTES);
        Value::Text(text)
    }

    /// How often a field was written, if it holds what it must then.
    fn version(self, hash: u64, field: usize, value: &Value) -> Option<u64> {
        let version = match (self, value) {
            (Shape::Wide, Value::Text(text)) => u64::from_str_radix(text.get(..VERSION_DIGITS)?, 16).ok()?,
            (Shape::Narrow, Value::Int(value)) => {
                mix(hash ^ u64::try_from(field).unwrap_or(0)) ^ u64::from_ne_bytes(value.to_ne_bytes())
            }
            _ => return None,
        };
        // A narrow field that is not what it must be shows as a number that nobody has counted to.
        (version < 1 << 32 && self.field(hash, field, version) == *value).then_some(version)
    }

    /// How often all fields together were written.
    fn versions(self, hash: u64, values: &[Value]) -> Option<u64> {
        let each = values.iter().enumerate().map(|(field, value)| self.version(hash, field, value));
        (values.len() == self.fields()).then(|| each.sum::<Option<u64>>()).flatten()
    }
}

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// How often a record's fields were written.
#[derive(Debug, Default)]
struct Writes {
    acknowledged: AtomicU64,
    begun: AtomicU64,
}

/// Records that were added while clients worked.
#[derive(Debug, Default)]
struct Inserts {
    /// All of the first so many numbers are acknowledged,
    below: u64,
    /// and these beyond.
    beyond: BTreeSet<u64>,
}

impl Inserts {
    fn acknowledge(&mut self, number: u64) {
        self.beyond.insert(number);
        while self.beyond.remove(&self.below) {
            self.below += 1;
        }
    }
}

struct Ycsb<'a> {
    settings: &'a Settings,
    mix: &'static Mix,
    shape: Shape,
    distribution: Distribution,
    db: Db,
    table: Option<Table>,
    loaded: Vec<Writes>,
    /// Hashes of what was loaded, ascending as keys are.
    sorted: Vec<Key>,
    zipf: Zipf,
    next_insert: AtomicU64,
    inserts: Mutex<Inserts>,
}

/// The table and what is asked of it.
#[derive(Clone)]
struct Table {
    def: Arc<TableDef>,
    columns: Vec<ColumnId>,
    keys: KeySchema,
}

fn open(settings: &Settings, place: usize) -> Result<Box<dyn Workload + '_>, Failure> {
    let mix = MIXES.get(place).ok_or_else(|| Error::internal("there is no such workload of YCSB"))?;
    let (shape, usual) = if settings.narrow { (Shape::Narrow, ROWS_NARROW) } else { (Shape::Wide, ROWS) };
    let rows = settings.rows.unwrap_or(usual);
    let inserts = Inserts { below: rows, ..Inserts::default() };
    Ok(Box::new(Ycsb {
        settings,
        mix,
        shape,
        distribution: settings.distribution.unwrap_or(mix.distribution),
        db: settings.open_engine()?,
        table: None,
        loaded: (0..rows).map(|_| Writes::default()).collect(),
        sorted: Vec::new(),
        zipf: Zipf::new(rows),
        next_insert: AtomicU64::new(rows),
        inserts: Mutex::new(inserts),
    }))
}

impl Ycsb<'_> {
    fn table(&self) -> Result<&Table, Failure> {
        self.table.as_ref().ok_or_else(|| Error::internal("the workload has not made its table").into())
    }

    fn rows(&self) -> u64 {
        u64::try_from(self.loaded.len()).unwrap_or(u64::MAX)
    }

    fn acknowledged_inserts(&self) -> u64 {
        self.inserts.lock().unwrap_or_else(PoisonError::into_inner).below
    }

    fn make_table(&self) -> Result<Table, Failure> {
        let names: Vec<String> = (0..self.shape.fields()).map(|field| format!("field{field}")).collect();
        let ty = if self.shape == Shape::Wide { ColumnType::Text } else { ColumnType::Int64 };
        let columns: Vec<(&str, ColumnType)> =
            std::iter::once(("key", ty)).chain(names.iter().map(|name| (name.as_str(), ty))).collect();
        let name = if self.shape == Shape::Wide { TABLE } else { TABLE_NARROW };
        let def = OwnTable { name, columns: &columns, key: &["key"] }.make(&self.db)?;
        Ok(Table { columns: def.column_ids(), keys: KeySchema::of(&def)?, def })
    }

    fn load(&self, table: &Table) -> Result<(), Failure> {
        let memory = self.settings.options()?.memory_bytes;
        let mut transaction = self.db.begin()?;
        let mut ingest = transaction.ingest(&table.def, OnConflict::Error, memory)?;
        let mut from = 0;
        while from < self.rows() {
            self.settings.stop_if_interrupted()?;
            let to = (from + LOAD_ROWS).min(self.rows());
            let rows: Vec<Vec<Value>> = (from..to).map(|number| self.record(number)).collect();
            ingest.write(&table.columns, &table.batch(&rows)?)?;
            from = to;
        }
        ingest.finish()?;
        transaction.commit()?;
        Ok(())
    }

    /// A record as it is loaded or inserted: no field was written since.
    fn record(&self, number: u64) -> Vec<Value> {
        let hash = hash(number);
        let fields = (0..self.shape.fields()).map(|field| self.shape.field(hash, field, 0));
        std::iter::once(self.shape.key(hash)).chain(fields).collect()
    }

    /// The values of a row of a batch.
    fn values(&self, table: &Table, batch: &RecordBatch, row: usize) -> Result<Vec<Value>, Failure> {
        let column = |(array, column): (&arrow::array::ArrayRef, &omendb_engine::types::ColumnDef)| {
            value_at(array.as_ref(), row, column.ty)
        };
        Ok(batch.columns().iter().zip(&table.def.columns).map(column).collect::<Result<_, _>>()?)
    }

    /// Key hash and number of writes of a row that is what it must be.
    fn valid(&self, values: &[Value]) -> Result<(u64, u64), Failure> {
        let found = values.split_first().and_then(|(key, fields)| {
            let hash = self.shape.hash(key)?;
            Some((hash, self.shape.versions(hash, fields)?))
        });
        found.ok_or_else(|| Failure::Wrong(format!("a row is not what was written: {values:?}")))
    }
}

impl Table {
    fn batch(&self, rows: &[Vec<Value>]) -> Result<RecordBatch, Error> {
        let mut sinks: Vec<ColumnSink> = self.def.columns.iter().map(|c| ColumnSink::new(c.ty, rows.len())).collect();
        for row in rows {
            for (sink, value) in sinks.iter_mut().zip(row) {
                sink.append(value)?;
            }
        }
        let arrays = sinks.into_iter().map(ColumnSink::finish).collect();
        Ok(RecordBatch::try_new(self.def.projected_schema(&self.columns)?, arrays)?)
    }

    fn key(&self, shape: Shape, hash: u64) -> Result<Key, Failure> {
        Ok(self.keys.encode(&[shape.key(hash)])?)
    }
}

impl Workload for Ycsb<'_> {
    fn db(&self) -> Option<Db> {
        Some(self.db.clone())
    }

    fn operations(&self) -> Vec<String> {
        named(self.mix.operations)
    }

    fn commits(&self, operation: usize) -> bool {
        !matches!(self.mix.operations.get(operation), Some(&"read" | &"scan"))
    }

    fn parameters(&self) -> Vec<(&'static str, serde_json::Value)> {
        let shares = self.mix.operations.iter().zip(self.mix.shares).map(|(name, share)| format!("{name} {share} %"));
        let record = match self.shape {
            Shape::Wide => format!("a key of 24 bytes, {FIELDS} fields of {FIELD_BYTES}"),
            Shape::Narrow => "two BIGINT, one of them the key".to_owned(),
        };
        vec![
            ("rows at the start", self.rows().into()),
            ("record", record.into()),
            ("operations", shares.collect::<Vec<_>>().join(", ").into()),
            ("distribution", format!("{:?}", self.distribution).to_lowercase().into()),
        ]
    }

    fn prepare(&mut self) -> Result<(), Failure> {
        let table = self.make_table()?;
        note(self.settings, &format!("loading {} rows", count(self.rows())));
        self.load(&table)?;
        let keys = (0..self.rows()).map(|number| table.key(self.shape, hash(number)));
        self.sorted = keys.collect::<Result<_, _>>()?;
        self.sorted.sort_unstable();
        come_to_rest(&self.db, self.settings)?;
        self.table = Some(table);
        Ok(())
    }

    fn client(&self, number: usize) -> Result<Box<dyn Client + '_>, Failure> {
        let number = u64::try_from(number).unwrap_or(u64::MAX);
        Ok(Box::new(YcsbClient {
            ycsb: self,
            table: self.table()?.clone(),
            random: Random::new(mix(self.settings.seed).wrapping_add(mix(number))),
            latest: self.zipf.clone(),
            drawn: Drawn::Nothing,
            insert_in_doubt: None,
            row: Row::default(),
            found: false,
            answer: Vec::new(),
        }))
    }

    fn verify(&mut self) -> Result<String, Failure> {
        let table = self.table()?;
        let inserts = self.inserts.lock().unwrap_or_else(PoisonError::into_inner);
        let right_rows = inserts.below + u64::try_from(inserts.beyond.len()).unwrap_or(0);
        let right_writes: u64 = self.loaded.iter().map(|writes| writes.acknowledged.load(Ordering::Acquire)).sum();
        let (mut rows, mut writes) = (0u64, 0u64);
        let request = ScanRequest { projection: table.columns.clone(), ..ScanRequest::default() };
        for batch in self.db.snapshot()?.scan(&table.def, request)? {
            let batch = batch?;
            for row in 0..batch.num_rows() {
                writes += self.valid(&self.values(table, &batch, row)?)?.1;
                rows += 1;
            }
        }
        if (rows, writes) != (right_rows, right_writes) {
            let message = format!(
                "the table has {rows} rows, whose fields were written {writes} times; {right_rows} rows and {right_writes} \
                 updates were acknowledged"
            );
            return Err(Failure::Wrong(message));
        }
        Ok(format!("all {} rows, value by value, and that none of {} updates is lost", count(rows), count(writes)))
    }
}

/// What is to be done next.
#[derive(Debug, Clone)]
enum Drawn {
    Nothing,
    Read { number: u64, key: Key, floor: u64 },
    Update { number: u64, key: Key, field: usize },
    Insert { number: u64, batch: RecordBatch, again: bool },
    Scan { start: Key, range: KeyRange, rows: u64 },
}

struct YcsbClient<'a> {
    ycsb: &'a Ycsb<'a>,
    table: Table,
    random: Random,
    /// Distances from the newest record.
    latest: Zipf,
    drawn: Drawn,
    /// An insert that ended with an error: whether it happened is not known. It is sent again, over whatever is there.
    insert_in_doubt: Option<u64>,
    row: Row,
    found: bool,
    answer: Vec<RecordBatch>,
}

impl YcsbClient<'_> {
    /// Any record that is there.
    fn some_record(&mut self) -> u64 {
        let ycsb = self.ycsb;
        match ycsb.distribution {
            Distribution::Zipf => scattered(ycsb.zipf.draw(&mut self.random), ycsb.rows()),
            Distribution::Uniform => self.random.below(ycsb.acknowledged_inserts()),
            Distribution::Latest => {
                let records = ycsb.acknowledged_inserts();
                self.latest.grow(records);
                (records - 1).saturating_sub(self.latest.draw(&mut self.random))
            }
        }
    }

    /// How often a record's fields were written; none of what was inserted is.
    fn writes(&self, number: u64) -> Option<&Writes> {
        usize::try_from(number).ok().and_then(|number| self.ycsb.loaded.get(number))
    }

    fn draw_insert(&mut self) -> Result<Drawn, Failure> {
        let (number, again) = match self.insert_in_doubt.take() {
            Some(number) => (number, true),
            None => (self.ycsb.next_insert.fetch_add(1, Ordering::AcqRel), false),
        };
        let batch = self.table.batch(&[self.ycsb.record(number)])?;
        Ok(Drawn::Insert { number, batch, again })
    }

    fn update(&mut self, key: &Key, number: u64, field: usize) -> Result<u64, Error> {
        let ycsb = self.ycsb;
        let mut transaction = ycsb.db.begin()?;
        // The number is for the commit to hold the row against.
        self.row.seq = Some(0);
        self.found = transaction.snapshot().get(&self.table.def, key, &self.table.columns, &mut self.row)?;
        if !self.found {
            // `check` says so.
            return Ok(0);
        }
        let hash = hash(number);
        let written = self.row.values.get_mut(field + 1).and_then(|value| {
            let version = ycsb.shape.version(hash, field, value)?;
            *value = ycsb.shape.field(hash, field, version + 1);
            Some(())
        });
        if written.is_none() {
            self.found = false;
            return Ok(0);
        }
        let batch = self.table.batch(std::slice::from_ref(&self.row.values))?;
        let seqs = [self.row.seq.unwrap_or_default()];
        transaction.write(
            &self.table.def,
            WriteKind::Put,
            &self.table.columns,
            &batch,
            Expectation::Unchanged(&seqs),
        )?;
        transaction.commit()?;
        Ok(1)
    }

    fn insert(&self, batch: &RecordBatch, again: bool) -> Result<u64, Error> {
        let expects = if again { Expectation::None } else { Expectation::Absent };
        let mut transaction = self.ycsb.db.begin()?;
        transaction.write(&self.table.def, WriteKind::Put, &self.table.columns, batch, expects)?;
        transaction.commit()?;
        Ok(1)
    }

    fn scan(&mut self, range: KeyRange, limit: u64) -> Result<u64, Error> {
        self.answer.clear();
        let request = ScanRequest {
            ranges: vec![range],
            projection: self.table.columns.clone(),
            limit: usize::try_from(limit).ok(),
            ..ScanRequest::default()
        };
        let mut rows = 0;
        for batch in self.ycsb.db.snapshot()?.scan(&self.table.def, request)? {
            let batch = batch?;
            rows += u64::try_from(batch.num_rows()).unwrap_or(0);
            self.answer.push(batch);
        }
        Ok(rows)
    }

    fn check_read(&self, number: u64, floor: u64) -> Result<(), Failure> {
        if !self.found {
            return Err(Failure::Wrong(format!("record {number} was not found, or is not what was written")));
        }
        let (found, writes) = self.ycsb.valid(&self.row.values)?;
        let ceiling = self.writes(number).map_or(0, |writes| writes.begun.load(Ordering::Acquire));
        match found == hash(number) && (floor..=ceiling).contains(&writes) {
            true => Ok(()),
            false => Err(Failure::Wrong(format!(
                "record {number} was read as written {writes} times; {floor} were acknowledged and {ceiling} begun"
            ))),
        }
    }

    /// Rows ascend from the start; none that was loaded is left out.
    fn check_scan(&self, start: &Key, limit: u64) -> Result<(), Failure> {
        let mut loaded = self.ycsb.sorted.iter().skip(self.ycsb.sorted.partition_point(|key| key < start)).peekable();
        let (mut rows, mut last) = (0u64, None);
        for batch in &self.answer {
            for row in 0..batch.num_rows() {
                let values = self.ycsb.values(&self.table, batch, row)?;
                let (hash, _) = self.ycsb.valid(&values)?;
                let key = self.table.key(self.ycsb.shape, hash)?;
                if last.as_ref().is_some_and(|last| *last >= key) || key < *start {
                    return Err(Failure::Wrong(format!("a scan's row {rows} is not after the one before it")));
                }
                match loaded.peek() {
                    Some(next) if **next < key => return Err(Failure::Wrong("a scan has left out a row".into())),
                    Some(next) if **next == key => {
                        loaded.next();
                    }
                    _ => {}
                }
                last = Some(key);
                rows += 1;
            }
        }
        match rows == limit || (rows < limit && loaded.peek().is_none()) {
            true => Ok(()),
            false => Err(Failure::Wrong(format!("a scan of {limit} rows has given {rows}"))),
        }
    }
}

impl Client for YcsbClient<'_> {
    fn draw(&mut self) -> Result<usize, Failure> {
        let mix = self.ycsb.mix;
        let mut number = self.random.below(100);
        let mut operation = 0;
        for share in mix.shares {
            if number < *share {
                break;
            }
            number -= share;
            operation += 1;
        }
        let shape = self.ycsb.shape;
        self.drawn = match mix.operations.get(operation).copied() {
            Some("read") => {
                let number = self.some_record();
                let floor = self.writes(number).map_or(0, |writes| writes.acknowledged.load(Ordering::Acquire));
                Drawn::Read { number, key: self.table.key(shape, hash(number))?, floor }
            }
            Some("update" | "read-modify-write") => {
                // Only what was loaded is counted.
                let number = self.some_record().min(self.ycsb.rows() - 1);
                if let Some(writes) = self.writes(number) {
                    writes.begun.fetch_add(1, Ordering::AcqRel);
                }
                let field = self.random.index(shape.fields());
                Drawn::Update { number, key: self.table.key(shape, hash(number))?, field }
            }
            Some("scan") => {
                let number = self.some_record();
                let start = self.table.key(shape, hash(number))?;
                let range = KeyRange { start: Bound::Included(start.clone()), end: Bound::Unbounded };
                Drawn::Scan { start, range, rows: 1 + self.random.below(SCAN_ROWS) }
            }
            _ => self.draw_insert()?,
        };
        Ok(operation)
    }

    fn run(&mut self) -> Result<u64, Failure> {
        match self.drawn.clone() {
            Drawn::Nothing => Err(Error::internal("an operation that was not drawn").into()),
            Drawn::Read { key, .. } => {
                let columns = &self.table.columns;
                self.row.seq = None;
                self.found = self.ycsb.db.snapshot()?.get(&self.table.def, &key, columns, &mut self.row)?;
                Ok(1)
            }
            Drawn::Update { number, key, field } => Ok(self.update(&key, number, field)?),
            Drawn::Insert { number, batch, again } => {
                let outcome = self.insert(&batch, again);
                if outcome.is_err() {
                    self.insert_in_doubt = Some(number);
                }
                Ok(outcome?)
            }
            Drawn::Scan { range, rows, .. } => Ok(self.scan(range, rows)?),
        }
    }

    fn check(&mut self) -> Result<(), Failure> {
        match &self.drawn {
            Drawn::Nothing => Err(Error::internal("an operation that was not run").into()),
            Drawn::Read { number, floor, .. } => self.check_read(*number, *floor),
            Drawn::Update { number, .. } => {
                if !self.found {
                    return Err(Failure::Wrong(format!("record {number} was not found, or is not what was written")));
                }
                if let Some(writes) = self.writes(*number) {
                    writes.acknowledged.fetch_add(1, Ordering::AcqRel);
                }
                Ok(())
            }
            Drawn::Insert { number, .. } => {
                self.ycsb.inserts.lock().unwrap_or_else(PoisonError::into_inner).acknowledge(*number);
                Ok(())
            }
            Drawn::Scan { start, rows, .. } => self.check_scan(start, *rows),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_a_kilobyte_in_ten_fields_and_each_says_how_often_it_was_written() {
        let Value::Text(text) = Shape::Wide.field(hash(5), 3, 17) else { panic!("not text") };
        assert_eq!(text.len(), FIELD_BYTES);
        for shape in [Shape::Wide, Shape::Narrow] {
            let key = shape.key(hash(5));
            assert_eq!(shape.hash(&key), Some(hash(5)));
            let value = shape.field(hash(5), 0, 17);
            assert_eq!(shape.version(hash(5), 0, &value), Some(17));
            assert_eq!(shape.version(hash(6), 0, &value), None);
            let fields: Vec<Value> = (0..shape.fields()).map(|field| shape.field(hash(5), field, 2)).collect();
            assert_eq!(shape.versions(hash(5), &fields), Some(2 * u64::try_from(shape.fields()).unwrap()));
            assert_eq!(shape.versions(hash(5), &fields[1..]), None);
        }
    }

    #[test]
    fn shares_come_to_a_hundred() {
        for mix in MIXES {
            assert_eq!((mix.shares.iter().sum::<u64>(), mix.shares.len()), (100, mix.operations.len()));
        }
    }

    #[test]
    fn inserts_count_once_all_before_them_are_acknowledged() {
        let mut inserts = Inserts { below: 10, ..Inserts::default() };
        inserts.acknowledge(11);
        assert_eq!(inserts.below, 10);
        inserts.acknowledge(10);
        assert_eq!((inserts.below, inserts.beyond.len()), (12, 0));
    }
}
