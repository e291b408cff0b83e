/*!
The rows that the benchmarks of reads have, and the table that holds them.

They are those of `benches/peers`: a key of 16 random bytes and a value of 32 of which half is random; or, with [`Keys::Int`], a
random 64-bit integer for a key. A row is a function of its number, so every answer is held against what it must be.
*/

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int64Array, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef};
use omendb_engine::db::{Db, Expectation, Options, Row, Snapshot, WriteKind};
use omendb_engine::key::{Key, KeySchema};
use omendb_engine::types::{Attributes, ColumnId, ColumnType, NewColumn, NewTable, RunChoices, TableDef, Value};
use std::sync::Arc;
use std::time::Instant;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const TABLE: &str = "rows";
/// Rows of a commit while loading.
const BATCH: u64 = 10_000;
/// One row in so many is written once more, for each run above the one level.
const UPPER_SHARE: usize = 50;

/// The half of each value that packs.
const STEADY: [u8; 16] = *b"a steady part...";

/// SplitMix64's finisher: a bijection, so that no two numbers get the same key.
pub(crate) fn mix(number: u64) -> u64 {
    let z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn pair(first: u64, second: u64) -> [u8; 16] {
    (u128::from(first) << 64 | u128::from(second)).to_be_bytes()
}

pub(crate) fn value_of(number: u64) -> [u8; 32] {
    let mut value = [0; 32];
    let (left, right) = value.split_at_mut(16);
    left.copy_from_slice(&pair(mix(number ^ (0x5bd1_e995 << 32)), mix(number ^ (0xc2b2_ae35 << 32))));
    right.copy_from_slice(&STEADY);
    value
}

pub(crate) fn bytes_key(number: u64) -> [u8; 16] {
    pair(mix(number), mix(number ^ (0x85eb_ca6b << 32)))
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Keys {
    Bytes,
    Int,
}

/// Which rows there are.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    pub(crate) count: u64,
    pub(crate) keys: Keys,
    /// So many runs lie above the one level, over all its keys: a fiftieth of the rows is written once more for each.
    pub(crate) upper: u64,
}

/// The table and what is known of it.
pub(crate) struct Bench {
    pub(crate) db: Db,
    pub(crate) table: Arc<TableDef>,
    pub(crate) columns: Vec<ColumnId>,
    pub(crate) rows: u64,
    schema: SchemaRef,
    key_schema: KeySchema,
    keys: Keys,
}

impl Bench {
    /// Opens the database, and loads and merges the rows if they are not there.
    pub(crate) fn open(options: Options, rows: Rows, runs: RunChoices) -> Result<Bench> {
        let db = Db::open(options)?;
        let there = db.snapshot()?.table(TABLE)?;
        let fresh = there.is_none();
        let table = match there {
            Some(table) => table,
            None => make_table(&db, rows.keys, runs)?,
        };
        let columns = table.column_ids();
        let schema = table.projected_schema(&columns)?;
        let key_schema = KeySchema::of(&table)?;
        let bench = Bench { db, table, columns, schema, key_schema, keys: rows.keys, rows: rows.count };
        if fresh {
            bench.load(rows.upper)?;
        }
        Ok(bench)
    }

    fn load(&self, upper: u64) -> Result<()> {
        let begin = Instant::now();
        self.put(0..self.rows)?;
        self.db.compact(Some(self.table.id))?;
        for first in 0..upper {
            self.put((first..self.rows).step_by(UPPER_SHARE))?;
            self.db.flush()?;
        }
        println!("loaded and merged in {:.1} s", begin.elapsed().as_secs_f64());
        Ok(())
    }

    /// Writes the rows of these numbers.
    fn put(&self, mut all: impl Iterator<Item = u64>) -> Result<()> {
        loop {
            let numbers: Vec<u64> = all.by_ref().take(usize::try_from(BATCH)?).collect();
            if numbers.is_empty() {
                return Ok(());
            }
            let numbers = numbers.into_iter();
            let keys: ArrayRef = match self.keys {
                Keys::Bytes => Arc::new(BinaryArray::from_iter_values(numbers.clone().map(bytes_key))),
                Keys::Int => {
                    Arc::new(Int64Array::from_iter_values(numbers.clone().map(|number| mix(number).cast_signed())))
                }
            };
            let values: ArrayRef = Arc::new(BinaryArray::from_iter_values(numbers.map(value_of)));
            let batch = RecordBatch::try_new(Arc::clone(&self.schema), vec![keys, values])?;
            let mut txn = self.db.begin()?;
            txn.write(&self.table, WriteKind::Put, &self.columns, &batch, Expectation::None)?;
            txn.commit()?;
        }
    }

    pub(crate) fn key(&self, number: u64) -> Result<Key> {
        Ok(self.key_schema.encode(&[match self.keys {
            Keys::Bytes => Value::Bytes(bytes_key(number).to_vec()),
            Keys::Int => Value::Int(mix(number).cast_signed()),
        }])?)
    }

    pub(crate) fn value_column(&self) -> &[ColumnId] {
        self.columns.get(1..).unwrap_or_default()
    }

    /// Looks up a row that must be there; the row is reused.
    pub(crate) fn get(&self, snapshot: &Snapshot, number: u64, row: &mut Row) -> Result<()> {
        let there = snapshot.get(&self.table, &self.key(number)?, self.value_column(), row)?;
        match row.values.first() {
            Some(Value::Bytes(value)) if there && *value == value_of(number) => Ok(()),
            other => Err(format!("row {number}: {other:?}").into()),
        }
    }

    /// Looks up rows that must be there, together.
    pub(crate) fn multi_get(&self, snapshot: &Snapshot, numbers: &[u64]) -> Result<()> {
        let keys: Vec<Key> = numbers.iter().map(|number| self.key(*number)).collect::<Result<_>>()?;
        let (batch, answers) = snapshot.multi_get(&self.table, &keys, self.value_column())?;
        if answers.len() != numbers.len() {
            return Err(format!("{} of {} rows were found", answers.len(), numbers.len()).into());
        }
        let of = |which: &u32| numbers.get(usize::try_from(*which).unwrap_or(usize::MAX)).copied();
        self.check(&batch, answers.iter().filter_map(of))
    }

    /// Holds the rows of a batch against the numbers that they should have.
    pub(crate) fn check(&self, batch: &RecordBatch, numbers: impl Iterator<Item = u64>) -> Result<()> {
        let values = batch.columns().last().and_then(|c| c.as_binary_opt::<i32>()).ok_or("no values")?;
        let whole = batch.num_columns() == 2;
        for (row, number) in numbers.enumerate() {
            let keys = batch.columns().first().filter(|_| whole);
            let key_is_right = match (keys, self.keys) {
                (None, _) => true,
                (Some(keys), Keys::Bytes) => {
                    keys.as_binary_opt::<i32>().is_some_and(|keys| keys.value(row) == bytes_key(number))
                }
                (Some(keys), Keys::Int) => {
                    keys.as_primitive_opt::<Int64Type>().is_some_and(|k| k.value(row) == mix(number).cast_signed())
                }
            };
            if row >= values.len() || values.value(row) != value_of(number) || !key_is_right {
                return Err(format!("row {number} is not as it was written").into());
            }
        }
        Ok(())
    }
}

fn make_table(db: &Db, keys: Keys, runs: RunChoices) -> Result<Arc<TableDef>> {
    let column =
        |name: &str, ty| NewColumn { name: name.to_owned(), ty, nullable: false, attributes: Attributes::new() };
    let key = match keys {
        Keys::Bytes => ColumnType::Bytes,
        Keys::Int => ColumnType::Int64,
    };
    let mut txn = db.begin()?;
    let table = txn.create_table(NewTable {
        name: TABLE.to_owned(),
        columns: vec![column("k", key), column("v", ColumnType::Bytes)],
        key: vec!["k".to_owned()],
        runs,
        ..NewTable::default()
    })?;
    txn.commit()?;
    Ok(table)
}

/// Draws row numbers.
pub(crate) struct Draw {
    state: u64,
    rows: u64,
}

impl Draw {
    pub(crate) fn new(seed: u64, rows: u64) -> Draw {
        Draw { state: seed, rows }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(1);
        mix(self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)) % self.rows
    }
}

/// The median, least and greatest of some figures.
pub(crate) fn spread(mut figures: Vec<f64>) -> (f64, f64, f64) {
    figures.sort_by(f64::total_cmp);
    let at = |place: usize| figures.get(place).copied().unwrap_or_default();
    (at(figures.len() / 2), at(0), at(figures.len().saturating_sub(1)))
}
