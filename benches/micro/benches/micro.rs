/*!
What the parts of the engine cost, each by itself, on one thread and in memory: the slice index, the encodings, the memtable, the
cache and the log.

```text
    cargo bench                                   all of them
    cargo bench -- encoding/decode                those whose name has it
    cargo run --release -- HEAD~1 HEAD            two revisions, taking turns (`src/main.rs`)
```

What is timed is held against what it must come to, once and before; an error while the clock runs ends the program. Figures are
Criterion's: of one process, so that they tell two revisions apart only where processes take turns.
*/

use arrow::array::{ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringViewArray};
use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput};
use omendb_engine::column::{ColumnSink, value_at};
use omendb_engine::db::{Db, Expectation, Options, Row, WriteKind};
use omendb_engine::encoding::{Encoder, Vector};
use omendb_engine::io;
use omendb_engine::key::{KeySchema, KeyShape};
use omendb_engine::lease::Leases;
use omendb_engine::memtable::{Kind, Memtable};
use omendb_engine::model::{IndexBuilder, IndexChoice, SliceIndex};
use omendb_engine::types::{Attributes, ColumnType, NewColumn, NewTable, Seq, Value};
use omendb_engine::wal::{SyncMode, Wal, WalOptions};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

/// The allocator of OmenDB's programs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
type Group<'a> = BenchmarkGroup<'a, WallTime>;

/// Slices of an index: more than a processor's second-level cache has room for.
const SLICES: u64 = 100_000;
/// Keys of a batch, and lookups of a round.
const LOOKUPS: usize = 1024;
/// Rows of a vector: a slice's.
const ROWS: usize = 1024;
/// Rows of a memtable, and of the table that the cache's figures are of.
const MANY_ROWS: u64 = 20_000;
/// Commits after which the log's segments are let go.
const RELEASE: u32 = 1024;

/// SplitMix64's finisher: a bijection.
fn mix(number: u64) -> u64 {
    let z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Times `work`. Errors: the last one of `work`.
fn time<T>(group: &mut Group<'_>, name: &str, mut work: impl FnMut() -> Result<T>) -> Result<()> {
    let mut failure = None;
    group.bench_function(name, |bencher| bencher.iter(|| work().map_err(|error| failure = Some(error)).ok()));
    failure.map_or(Ok(()), Err)
}

fn main() -> Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    model(&mut criterion)?;
    encodings(&mut criterion)?;
    memtable(&mut criterion)?;
    cache(&mut criterion)?;
    log(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}

/// First keys of slices, ascending, and their shape.
fn fences(of: &str) -> Result<(KeyShape, Vec<Vec<u8>>)> {
    let time = |slice: u64| 1_700_000_000_000_000 + slice * 1_024_000 + mix(slice) % 300_000;
    Ok(match of {
        "timestamps" => (KeyShape::Int, (0..SLICES).map(|slice| time(slice).to_be_bytes().to_vec()).collect()),
        "series" => {
            let key = |slice: u64| [(slice / 100).to_be_bytes(), time(slice % 100).to_be_bytes()].concat();
            (KeyShape::Series { prefix_fixed_width: Some(8) }, (0..SLICES).map(key).collect())
        }
        "ids" => {
            let mut keys: Vec<_> =
                (0..SLICES).map(|n| [mix(n), mix(n + SLICES)].map(u64::to_be_bytes).concat()).collect();
            keys.sort_unstable();
            (KeyShape::Bytes, keys)
        }
        other => return Err(format!("no fences of {other}").into()),
    })
}

fn model(criterion: &mut Criterion) -> Result<()> {
    let mut group = criterion.benchmark_group("model");
    for of in ["timestamps", "series", "ids"] {
        let (shape, keys) = fences(of)?;
        let build = || -> Result<Vec<u8>> {
            let mut builder = IndexBuilder::new(shape, IndexChoice::Auto);
            keys.iter().for_each(|key| builder.push(key, key));
            Ok(builder.finish()?.0)
        };
        let index = SliceIndex::open(&build()?)?;
        let drawn: Vec<usize> =
            (0..LOOKUPS as u64).map(|n| Ok(usize::try_from(mix(n) % SLICES)?)).collect::<Result<_>>()?;
        let asked: Vec<&[u8]> = drawn.iter().filter_map(|slice| Some(keys.get(*slice)?.as_slice())).collect();
        let mut found = Vec::new();
        index.find_batch(&asked, &mut found);
        if found != drawn || asked.iter().map(|key| index.find(key)).ne(drawn) {
            return Err(format!("the index of {of} names another slice").into());
        }
        group.throughput(Throughput::Elements(SLICES));
        time(&mut group, &format!("build/{of}"), build)?;
        group.throughput(Throughput::Elements(LOOKUPS as u64));
        time(&mut group, &format!("find/{of}"), || {
            Ok(asked.iter().map(|key| index.find(black_box(key))).sum::<usize>())
        })?;
        time(&mut group, &format!("find_batch/{of}"), || {
            index.find_batch(black_box(&asked), &mut found);
            Ok(found.len())
        })?;
    }
    Ok(())
}

/// A slice's values of one column, as they come in practice.
fn columns() -> Vec<(&'static str, ColumnType, ArrayRef)> {
    let numbers = || 0..ROWS as u64;
    let ints = |of: &dyn Fn(u64) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(numbers().map(of))) };
    let floats = |of: &dyn Fn(u64) -> f64| -> ArrayRef { Arc::new(Float64Array::from_iter_values(numbers().map(of))) };
    let texts =
        |of: &dyn Fn(u64) -> String| -> ArrayRef { Arc::new(StringViewArray::from_iter_values(numbers().map(of))) };
    let hundredths = |n: u64| f64::from(u16::try_from(mix(n) % 10_000).unwrap_or_default()) / 100.0;
    let any = |n: u64| f64::from_bits(mix(n) >> 12 | 0x3ff0_0000_0000_0000);
    let message = |n: u64| format!("request {n} of host-{} took {} ms", mix(n) % 40, mix(n + 7) % 1000);
    let id = |n: u64| [mix(n), mix(n + 99)].map(u64::to_be_bytes).concat();
    vec![
        ("steps", ColumnType::Int64, ints(&|n| (n * 10).cast_signed())),
        ("small_integers", ColumnType::Int64, ints(&|n| (mix(n) % 1000).cast_signed())),
        ("any_integers", ColumnType::Int64, ints(&|n| mix(n).cast_signed())),
        ("hundredths", ColumnType::Float64, floats(&hundredths)),
        ("any_doubles", ColumnType::Float64, floats(&any)),
        (
            "flags",
            ColumnType::Boolean,
            Arc::new(BooleanArray::from_iter(numbers().map(|n| Some(mix(n).is_multiple_of(8))))),
        ),
        ("hosts", ColumnType::Text, texts(&|n| format!("host-{}", mix(n) % 40))),
        ("messages", ColumnType::Text, texts(&message)),
        ("ids", ColumnType::Bytes, Arc::new(BinaryArray::from_iter_values(numbers().map(id)))),
    ]
}

fn encodings(criterion: &mut Criterion) -> Result<()> {
    let mut group = criterion.benchmark_group("encoding");
    group.throughput(Throughput::Elements(ROWS as u64));
    for (of, ty, array) in columns() {
        let mut encoder = Encoder::new(ty);
        let mut bytes = Vec::new();
        encoder.encode(array.as_ref(), 0..ROWS, &mut bytes)?;
        let vector = Vector::open(&bytes, ty)?;
        let mut sink = ColumnSink::new(ty, ROWS);
        vector.decode(0..ROWS, &mut sink)?;
        if sink.finish().as_ref() != array.as_ref() {
            return Err(format!("{of} come back as something else").into());
        }
        let mut again = Vec::new();
        time(&mut group, &format!("encode/{of}"), || {
            again.clear();
            Ok(encoder.encode(array.as_ref(), 0..ROWS, &mut again)?)
        })?;
        time(&mut group, &format!("decode/{of}"), || {
            let mut sink = ColumnSink::new(ty, ROWS);
            Vector::open(black_box(&bytes), ty)?.decode(0..ROWS, &mut sink)?;
            Ok(sink.finish())
        })?;
        // One after another, and far apart.
        let rows: Vec<usize> = (0..ROWS).map(|n| n * 389 % ROWS).collect();
        let mut value = Value::Null;
        for row in &rows {
            vector.value_into(*row, &mut value)?;
            if value != value_at(array.as_ref(), *row, ty)? {
                return Err(format!("{of} have another value at {row}").into());
            }
        }
        time(&mut group, &format!("value/{of}"), || {
            let vector = Vector::open(black_box(&bytes), ty)?;
            Ok(rows.iter().try_for_each(|row| vector.value_into(*row, &mut value))?)
        })?;
    }
    Ok(())
}

fn memtable(criterion: &mut Criterion) -> Result<()> {
    let mut group = criterion.benchmark_group("memtable");
    let row = [7_u8; 48];
    let keys: Vec<[u8; 8]> = (0..MANY_ROWS).map(|n| mix(n).to_be_bytes()).collect();
    let fill = |memtable: &Memtable| {
        for (seq, key) in (1..).zip(&keys) {
            memtable.insert(key, seq, Kind::Put, &row);
        }
    };
    let full = Memtable::new(0);
    fill(&full);
    let all: Seq = MANY_ROWS + 1;
    if full.rows() != keys.len() || keys.iter().any(|key| full.get(key, all).is_none_or(|entry| entry.row() != row)) {
        return Err("the memtable has other rows".into());
    }
    group.throughput(Throughput::Elements(MANY_ROWS));
    group.bench_function("insert", |bencher| {
        bencher.iter_batched_ref(|| Memtable::new(1), |memtable| fill(memtable), BatchSize::PerIteration);
    });
    time(&mut group, "get", || Ok(keys.iter().filter(|key| full.get(key.as_slice(), all).is_some()).count()))
}

/// A get of a row whose units the cache has, and of one whose units it has to be given, of a file in memory.
fn cache(criterion: &mut Criterion) -> Result<()> {
    let db = Db::open(Options { sync: SyncMode::None, ..Options::memory() })?;
    let mut txn = db.begin()?;
    let column = |name: &str| NewColumn {
        name: name.to_owned(),
        ty: ColumnType::Int64,
        nullable: false,
        attributes: Attributes::new(),
    };
    let (columns, key) = (vec![column("k"), column("v")], vec!["k".to_owned()]);
    let table = txn.create_table(NewTable { name: "rows".to_owned(), columns, key, ..NewTable::default() })?;
    txn.commit()?;
    let ids = table.column_ids();
    let numbers = || 0..i64::try_from(MANY_ROWS).unwrap_or_default();
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(numbers())),
        Arc::new(Int64Array::from_iter_values(numbers().map(|n| mix(n.cast_unsigned()).cast_signed()))),
    ];
    let batch = RecordBatch::try_new(table.projected_schema(&ids)?, arrays)?;
    let mut txn = db.begin()?;
    txn.write(&table, WriteKind::Put, &ids, &batch, Expectation::None)?;
    txn.commit()?;
    db.compact(Some(table.id))?;

    let schema = KeySchema::of(&table)?;
    let keys = numbers().take(LOOKUPS).map(|n| schema.encode(&[Value::Int(n * 19)]));
    let keys = keys.collect::<std::result::Result<Vec<_>, _>>()?;
    let snapshot = db.snapshot()?;
    let mut row = Row::default();
    let mut get = |n: usize| -> Result<()> {
        let key = keys.get(n).ok_or("no key")?;
        let there = snapshot.get(&table, key, ids.get(1..).unwrap_or_default(), &mut row)?;
        let wanted = Value::Int(mix(u64::try_from(n)? * 19).cast_signed());
        if there && row.values.first() == Some(&wanted) { Ok(()) } else { Err("another row".into()) }
    };
    let mut group = criterion.benchmark_group("cache");
    group.throughput(Throughput::Elements(LOOKUPS as u64));
    time(&mut group, "hit", || (0..keys.len()).try_for_each(&mut get))?;
    group.throughput(Throughput::Elements(1));
    time(&mut group, "miss", || {
        db.clear_cache();
        get(LOOKUPS / 2)
    })
}

/// A record of 100 bytes, appended, and made durable by a disk in memory.
fn log(criterion: &mut Criterion) -> Result<()> {
    let mut group = criterion.benchmark_group("log");
    let record = [7_u8; 100];
    for (name, sync) in [("append", SyncMode::None), ("commit", SyncMode::Always)] {
        let io = io::memory();
        let dir = Path::new("/log");
        io.create_dir_all(dir)?;
        let options = WalOptions { sync, ..WalOptions::default() };
        let (wal, _) = Wal::open(&Leases::new(&io, dir), [7; 16], options, 0, &mut |_, _| Ok(()))?;
        let mut records = 0_u32;
        time(&mut group, name, || {
            let lsn = wal.append(&record)?;
            wal.commit(lsn)?;
            records = records.wrapping_add(1);
            if records.is_multiple_of(RELEASE) {
                wal.tick()?;
                wal.release_before(lsn)?;
            }
            Ok(lsn)
        })?;
        wal.close()?;
    }
    Ok(())
}
