/*!
What reads cost: rows are loaded and merged into one level, then read by key, by many keys, and by short ranges, on one thread.

```text
    cargo bench -p omendb-engine --bench reads -- [rows=5000000] [rounds=5] [only=get] [keys=bytes|int] [upper=0] [filter=auto|on|off] [dir=PATH]
```

The rows are those of `benches/peers`: a key of 16 random bytes and a value of 32 of which half is random; or, with
`keys=int`, a random 64-bit integer for a key. With `upper=3` a fiftieth of them is written once more, three times, and each time flushed: so
many runs lie above the one level, over all its keys. `filter=` is what the database is opened with. A row is a function of its number, so every answer is held against what it must
be; a wrong one ends the program. Each line gives the median of the rounds, and the least and the greatest beside it, by the
clock and by the time that the one thread had a processor. `only=` takes the name of one line, for a profiler. With `dir=` the database lies there and stays, and is loaded only if it is not there.
*/
#![expect(clippy::disallowed_methods, reason = "clock and files of a benchmark are the system's")]

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int64Array, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef};
use omendb_engine::db::{Db, Expectation, Options, Row, ScanRequest, Snapshot, SyncMode, WriteKind};
use omendb_engine::key::{Key, KeyRange, KeySchema};
use omendb_engine::types::{Attributes, ColumnId, ColumnType, FilterChoice, NewColumn, NewTable, TableDef, Value};
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// The allocator of OmenDB's programs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const TABLE: &str = "rows";
/// Rows of a commit while loading.
const BATCH: u64 = 10_000;
/// One row in so many is written once more, for each run above the one level.
const UPPER_SHARE: usize = 50;
/// Keys of a `multi_get`, and rows of a scan.
const MANY: u64 = 100;
/// Reads of a round.
const GETS: u64 = 300_000;
const MULTI_GETS: u64 = 6_000;
const SCANS: u64 = 20_000;

/// The half of each value that packs.
const STEADY: [u8; 16] = *b"a steady part...";

/// SplitMix64's finisher: a bijection, so that no two numbers get the same key.
fn mix(number: u64) -> u64 {
    let z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn pair(first: u64, second: u64) -> [u8; 16] {
    (u128::from(first) << 64 | u128::from(second)).to_be_bytes()
}

fn value_of(number: u64) -> [u8; 32] {
    let mut value = [0; 32];
    let (left, right) = value.split_at_mut(16);
    left.copy_from_slice(&pair(mix(number ^ (0x5bd1_e995 << 32)), mix(number ^ (0xc2b2_ae35 << 32))));
    right.copy_from_slice(&STEADY);
    value
}

fn bytes_key(number: u64) -> [u8; 16] {
    pair(mix(number), mix(number ^ (0x85eb_ca6b << 32)))
}

#[derive(Clone, Copy, PartialEq)]
enum Keys {
    Bytes,
    Int,
}

struct Settings {
    rows: u64,
    rounds: usize,
    only: Option<String>,
    keys: Keys,
    upper: u64,
    filter: FilterChoice,
    dir: Option<PathBuf>,
}

impl Settings {
    fn of_arguments() -> Result<Settings> {
        let mut settings = Settings {
            rows: 5_000_000,
            rounds: 5,
            only: None,
            keys: Keys::Bytes,
            upper: 0,
            filter: FilterChoice::Auto,
            dir: None,
        };
        // Cargo says that it is a benchmark.
        for argument in std::env::args().skip(1).filter(|argument| argument != "--bench") {
            match argument.split_once('=') {
                Some(("rows", rows)) => settings.rows = rows.parse()?,
                Some(("rounds", rounds)) => settings.rounds = rounds.parse()?,
                Some(("only", only)) => settings.only = Some(only.to_owned()),
                Some(("keys", "bytes")) => settings.keys = Keys::Bytes,
                Some(("keys", "int")) => settings.keys = Keys::Int,
                Some(("upper", upper)) => settings.upper = upper.parse()?,
                Some(("filter", "auto")) => settings.filter = FilterChoice::Auto,
                Some(("filter", "on")) => settings.filter = FilterChoice::On,
                Some(("filter", "off")) => settings.filter = FilterChoice::Off,
                Some(("dir", dir)) => settings.dir = Some(dir.into()),
                _ => return Err(format!("unknown argument {argument:?}").into()),
            }
        }
        if settings.rows < MANY || settings.rounds == 0 {
            return Err(format!("at least {MANY} rows and one round").into());
        }
        Ok(settings)
    }
}

/// The table and what is known of it.
struct Bench {
    db: Db,
    table: Arc<TableDef>,
    columns: Vec<ColumnId>,
    schema: SchemaRef,
    key_schema: KeySchema,
    keys: Keys,
    rows: u64,
    /// Numbers of all rows, in the order of their keys.
    sorted: Vec<u32>,
}

impl Bench {
    fn open(settings: &Settings) -> Result<Bench> {
        let base = match &settings.dir {
            Some(dir) => Options::dir(dir),
            None => Options::memory(),
        };
        let filter = settings.filter;
        let db =
            Db::open(Options { sync: SyncMode::None, memory_bytes: 6 << 30, cache_bytes: 3 << 30, filter, ..base })?;
        let there = db.snapshot()?.table(TABLE)?;
        let fresh = there.is_none();
        let table = match there {
            Some(table) => table,
            None => make_table(&db, settings.keys)?,
        };
        let columns = table.column_ids();
        let schema = table.projected_schema(&columns)?;
        let key_schema = KeySchema::of(&table)?;
        let mut sorted: Vec<u32> = (0..u32::try_from(settings.rows)?).collect();
        match settings.keys {
            Keys::Bytes => sorted.sort_by_key(|number| bytes_key(u64::from(*number))),
            Keys::Int => sorted.sort_by_key(|number| mix(u64::from(*number)).cast_signed()),
        }
        let (keys, rows) = (settings.keys, settings.rows);
        let bench = Bench { db, table, columns, schema, key_schema, keys, rows, sorted };
        if fresh {
            bench.load(settings.upper)?;
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

    fn key(&self, number: u64) -> Result<Key> {
        Ok(self.key_schema.encode(&[match self.keys {
            Keys::Bytes => Value::Bytes(bytes_key(number).to_vec()),
            Keys::Int => Value::Int(mix(number).cast_signed()),
        }])?)
    }

    fn value_column(&self) -> &[ColumnId] {
        self.columns.get(1..).unwrap_or_default()
    }

    /// Holds the rows of a batch against the numbers that they should have.
    fn check(&self, batch: &RecordBatch, numbers: impl Iterator<Item = u64>) -> Result<()> {
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

fn make_table(db: &Db, keys: Keys) -> Result<Arc<TableDef>> {
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
        ..NewTable::default()
    })?;
    txn.commit()?;
    Ok(table)
}

/// Draws row numbers.
struct Draw {
    state: u64,
    rows: u64,
}

impl Draw {
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(1);
        mix(self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)) % self.rows
    }
}

/// Gets of rows that are there. As a user has them: the key is encoded, the row is reused.
fn get(bench: &Bench, draw: &mut Draw) -> Result<u64> {
    let snapshot = bench.db.snapshot()?;
    let mut row = Row::default();
    for _ in 0..GETS {
        let number = draw.next();
        let there = snapshot.get(&bench.table, &bench.key(number)?, bench.value_column(), &mut row)?;
        match row.values.first() {
            Some(Value::Bytes(value)) if there && *value == value_of(number) => {}
            other => return Err(format!("row {number}: {other:?}").into()),
        }
    }
    Ok(GETS)
}

/// The same with a snapshot for each.
fn get_fresh(bench: &Bench, draw: &mut Draw) -> Result<u64> {
    let mut row = Row::default();
    for _ in 0..GETS {
        let number = draw.next();
        let snapshot = bench.db.snapshot()?;
        let there = snapshot.get(&bench.table, &bench.key(number)?, bench.value_column(), &mut row)?;
        match row.values.first() {
            Some(Value::Bytes(value)) if there && *value == value_of(number) => {}
            other => return Err(format!("row {number}: {other:?}").into()),
        }
    }
    Ok(GETS)
}

/// Gets of keys that no row has.
fn get_absent(bench: &Bench, draw: &mut Draw) -> Result<u64> {
    let snapshot = bench.db.snapshot()?;
    let mut row = Row::default();
    for _ in 0..GETS {
        let number = u64::MAX - draw.next();
        if snapshot.get(&bench.table, &bench.key(number)?, bench.value_column(), &mut row)? {
            return Err(format!("row {number} is there, and was never written").into());
        }
    }
    Ok(GETS)
}

/// What the benchmark itself costs: keys, expected values and their comparison.
fn nothing(bench: &Bench, draw: &mut Draw) -> Result<u64> {
    let mut row = Row::default();
    for _ in 0..GETS {
        let number = draw.next();
        let key = bench.key(number)?;
        row.values.clear();
        row.values.push(Value::Bytes(value_of(number).to_vec()));
        match row.values.first() {
            Some(Value::Bytes(value)) if *value == value_of(number) && !key.as_bytes().is_empty() => {}
            other => return Err(format!("row {number}: {other:?}").into()),
        }
    }
    Ok(GETS)
}

fn multi_get(bench: &Bench, draw: &mut Draw) -> Result<u64> {
    let snapshot = bench.db.snapshot()?;
    for _ in 0..MULTI_GETS {
        let numbers: Vec<u64> = (0..MANY).map(|_| draw.next()).collect();
        let keys: Vec<Key> = numbers.iter().map(|number| bench.key(*number)).collect::<Result<_>>()?;
        let (batch, answers) = snapshot.multi_get(&bench.table, &keys, bench.value_column())?;
        if answers.len() != numbers.len() {
            return Err(format!("{} of {MANY} rows were found", answers.len()).into());
        }
        let of = |which: &u32| numbers.get(usize::try_from(*which).unwrap_or(usize::MAX)).copied();
        bench.check(&batch, answers.iter().filter_map(of))?;
    }
    Ok(MULTI_GETS * MANY)
}

/// Scans from a key that is there.
fn scan(bench: &Bench, draw: &mut Draw, many: u64, scans: u64) -> Result<u64> {
    let snapshot: Snapshot = bench.db.snapshot()?;
    let mut rows = 0;
    for _ in 0..scans {
        let first = draw.next() % (bench.rows - many + 1);
        let numbers = bench.sorted.iter().skip(usize::try_from(first)?).take(usize::try_from(many)?);
        let numbers: Vec<u64> = numbers.map(|number| u64::from(*number)).collect();
        let start = bench.key(numbers.first().copied().unwrap_or_default())?;
        let request = ScanRequest {
            ranges: vec![KeyRange { start: Bound::Included(start), end: Bound::Unbounded }],
            projection: bench.columns.clone(),
            limit: Some(usize::try_from(many)?),
            ..ScanRequest::default()
        };
        let mut rest = numbers.as_slice();
        for batch in snapshot.scan(&bench.table, request)? {
            let batch = batch?;
            let (now, later) = rest.split_at_checked(batch.num_rows()).ok_or("too many rows")?;
            bench.check(&batch, now.iter().copied())?;
            rest = later;
        }
        if !rest.is_empty() {
            return Err("too few rows".into());
        }
        rows += many;
    }
    Ok(rows)
}

fn scan_many(bench: &Bench, draw: &mut Draw) -> Result<u64> {
    scan(bench, draw, MANY, SCANS)
}

type Phase = fn(&Bench, &mut Draw) -> Result<u64>;

const PHASES: [(&str, Phase); 6] = [
    ("nothing", nothing),
    ("get", get),
    ("get_fresh", get_fresh),
    ("get_absent", get_absent),
    ("multi_get", multi_get),
    ("scan", scan_many),
];

/// Nanoseconds that this thread has had a processor: what is left of the truth on a machine that others use too.
fn processor_nanos() -> Result<u64> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(stat.split(' ').next().ok_or("no time in schedstat")?.parse()?)
}

/// Nanoseconds a row: the median, least and greatest of the rounds, and rows a second.
fn figure(mut nanos: Vec<f64>) -> String {
    nanos.sort_by(f64::total_cmp);
    let at = |place: usize| nanos.get(place).copied().unwrap_or_default();
    let (least, median, most) = (at(0), at(nanos.len() / 2), at(nanos.len().saturating_sub(1)));
    format!("{median:>7.0} ns a row ({least:.0} to {most:.0}), {:>6.2} M rows/s", 1e3 / median)
}

fn main() -> Result<()> {
    let settings = Settings::of_arguments()?;
    let bench = Bench::open(&settings)?;
    // Everything into the cache, and every row looked at once.
    let everything = ScanRequest { projection: bench.columns.clone(), ..ScanRequest::default() };
    let mut rest = bench.sorted.as_slice();
    for batch in bench.db.snapshot()?.scan(&bench.table, everything)? {
        let batch = batch?;
        let (now, later) = rest.split_at_checked(batch.num_rows()).ok_or("too many rows")?;
        bench.check(&batch, now.iter().map(|number| u64::from(*number)))?;
        rest = later;
    }
    let stats = bench.db.stats()?;
    println!(
        "{} rows in {} runs of {} bytes, {} bytes cached",
        bench.rows, stats.runs, stats.run_bytes, stats.cache_bytes
    );
    for (name, phase) in PHASES {
        if settings.only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let mut draw = Draw { state: 1, rows: bench.rows };
        let (mut wall, mut processor) = (Vec::new(), Vec::new());
        phase(&bench, &mut draw)?;
        for _ in 0..settings.rounds {
            let (begin, used) = (Instant::now(), processor_nanos()?);
            let rows = phase(&bench, &mut draw)? as f64;
            wall.push(begin.elapsed().as_nanos() as f64 / rows);
            processor.push((processor_nanos()? - used) as f64 / rows);
        }
        println!("{name:<10} {}   processor {}", figure(wall), figure(processor));
    }
    let stats = bench.db.stats()?;
    println!(
        "filters: {} bytes, {:.2} bits a key, {} cached; {} probes, {} refused, {} let pass in vain",
        stats.filter_bytes,
        stats.filter_bits_per_key().unwrap_or_default(),
        stats.filter_cached_bytes,
        stats.filter_probes,
        stats.filter_refusals,
        stats.filter_errors
    );
    Ok(())
}
