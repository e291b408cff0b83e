/*!
What reads cost: rows are loaded and merged into one level, then read by key, by many keys, and by short ranges, on one thread.

```text
    cargo bench -p omendb-engine --bench reads -- [rows=5000000] [rounds=5] [only=get] [keys=bytes|int] [upper=0] [filter=auto|on|off] [dir=PATH]
```

The rows are those of [`rows`], all in memory. With `upper=3` a fiftieth of them is written once more, three times, and each time flushed: so
many runs lie above the one level, over all its keys. `filter=` is what the database is opened with. A wrong answer ends the program. Each line gives the median of the rounds, and the least and the greatest beside it, by the
clock and by the time that the one thread had a processor. `only=` takes the name of one line, for a profiler. With `dir=` the database lies there and stays, and is loaded only if it is not there.
*/
#![expect(clippy::disallowed_methods, reason = "clock and files of a benchmark are the system's")]

mod rows;

use omendb_engine::db::{Options, Row, ScanRequest, Snapshot, SyncMode};
use omendb_engine::key::KeyRange;
use omendb_engine::types::{FilterChoice, RunChoices, Value};
use rows::{Bench, Draw, Keys, Result, Rows, bytes_key, mix, spread, value_of};
use std::ops::Bound;
use std::path::PathBuf;
use std::time::Instant;

/// The allocator of OmenDB's programs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Keys of a `multi_get`, and rows of a scan.
const MANY: u64 = 100;
/// Reads of a round.
const GETS: u64 = 300_000;
const MULTI_GETS: u64 = 6_000;
const SCANS: u64 = 20_000;
const LASTS: u64 = 20_000;

struct Settings {
    rows: Rows,
    rounds: usize,
    only: Option<String>,
    filter: FilterChoice,
    dir: Option<PathBuf>,
}

impl Settings {
    fn of_arguments() -> Result<Settings> {
        let mut settings = Settings {
            rows: Rows { count: 5_000_000, keys: Keys::Bytes, upper: 0 },
            rounds: 5,
            only: None,
            filter: FilterChoice::Auto,
            dir: None,
        };
        // Cargo says that it is a benchmark.
        for argument in std::env::args().skip(1).filter(|argument| argument != "--bench") {
            match argument.split_once('=') {
                Some(("rows", rows)) => settings.rows.count = rows.parse()?,
                Some(("rounds", rounds)) => settings.rounds = rounds.parse()?,
                Some(("only", only)) => settings.only = Some(only.to_owned()),
                Some(("keys", "bytes")) => settings.rows.keys = Keys::Bytes,
                Some(("keys", "int")) => settings.rows.keys = Keys::Int,
                Some(("upper", upper)) => settings.rows.upper = upper.parse()?,
                Some(("filter", "auto")) => settings.filter = FilterChoice::Auto,
                Some(("filter", "on")) => settings.filter = FilterChoice::On,
                Some(("filter", "off")) => settings.filter = FilterChoice::Off,
                Some(("dir", dir)) => settings.dir = Some(dir.into()),
                _ => return Err(format!("unknown argument {argument:?}").into()),
            }
        }
        if settings.rows.count < MANY || settings.rounds == 0 {
            return Err(format!("at least {MANY} rows and one round").into());
        }
        Ok(settings)
    }

    fn options(&self) -> Options {
        let base = match &self.dir {
            Some(dir) => Options::dir(dir),
            None => Options::memory(),
        };
        Options { sync: SyncMode::None, memory_bytes: 6 << 30, cache_bytes: 3 << 30, filter: self.filter, ..base }
    }
}

/// The rows, and their numbers in the order of their keys.
struct Reads {
    bench: Bench,
    sorted: Vec<u32>,
}

/// Numbers of all rows, in the order of their keys.
fn sorted(rows: Rows) -> Result<Vec<u32>> {
    let mut sorted: Vec<u32> = (0..u32::try_from(rows.count)?).collect();
    match rows.keys {
        Keys::Bytes => sorted.sort_by_key(|number| bytes_key(u64::from(*number))),
        Keys::Int => sorted.sort_by_key(|number| mix(u64::from(*number)).cast_signed()),
    }
    Ok(sorted)
}

/// Gets of rows that are there. As a user has them: the key is encoded, the row is reused.
fn get(Reads { bench, .. }: &Reads, draw: &mut Draw) -> Result<u64> {
    let snapshot = bench.db.snapshot()?;
    let mut row = Row::default();
    for _ in 0..GETS {
        bench.get(&snapshot, draw.next(), &mut row)?;
    }
    Ok(GETS)
}

/// The same with a snapshot for each.
fn get_fresh(Reads { bench, .. }: &Reads, draw: &mut Draw) -> Result<u64> {
    let mut row = Row::default();
    for _ in 0..GETS {
        let number = draw.next();
        bench.get(&bench.db.snapshot()?, number, &mut row)?;
    }
    Ok(GETS)
}

/// Gets of keys that no row has.
fn get_absent(Reads { bench, .. }: &Reads, draw: &mut Draw) -> Result<u64> {
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
fn nothing(Reads { bench, .. }: &Reads, draw: &mut Draw) -> Result<u64> {
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

fn multi_get(Reads { bench, .. }: &Reads, draw: &mut Draw) -> Result<u64> {
    let snapshot = bench.db.snapshot()?;
    for _ in 0..MULTI_GETS {
        let numbers: Vec<u64> = (0..MANY).map(|_| draw.next()).collect();
        bench.multi_get(&snapshot, &numbers)?;
    }
    Ok(MULTI_GETS * MANY)
}

/// Scans from a key that is there.
fn scan(Reads { bench, sorted }: &Reads, draw: &mut Draw, many: u64, scans: u64) -> Result<u64> {
    let snapshot: Snapshot = bench.db.snapshot()?;
    let mut rows = 0;
    for _ in 0..scans {
        let first = draw.next() % (bench.rows - many + 1);
        let numbers = sorted.iter().skip(usize::try_from(first)?).take(usize::try_from(many)?);
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

fn scan_many(reads: &Reads, draw: &mut Draw) -> Result<u64> {
    scan(reads, draw, MANY, SCANS)
}

/// The last row up to a key that is there.
fn last(Reads { bench, .. }: &Reads, draw: &mut Draw) -> Result<u64> {
    let snapshot = bench.db.snapshot()?;
    for _ in 0..LASTS {
        let number = draw.next();
        let request = ScanRequest {
            ranges: vec![KeyRange { start: Bound::Unbounded, end: Bound::Included(bench.key(number)?) }],
            projection: bench.columns.clone(),
            reverse: true,
            limit: Some(1),
            ..ScanRequest::default()
        };
        let mut rows = 0;
        for batch in snapshot.scan(&bench.table, request)? {
            let batch = batch?;
            rows += batch.num_rows();
            bench.check(&batch, [number].into_iter())?;
        }
        if rows != 1 {
            return Err(format!("{rows} last rows").into());
        }
    }
    Ok(LASTS)
}

type Phase = fn(&Reads, &mut Draw) -> Result<u64>;

const PHASES: [(&str, Phase); 7] = [
    ("nothing", nothing),
    ("get", get),
    ("get_fresh", get_fresh),
    ("get_absent", get_absent),
    ("multi_get", multi_get),
    ("scan", scan_many),
    ("last", last),
];

/// Nanoseconds that this thread has had a processor: what is left of the truth on a machine that others use too.
fn processor_nanos() -> Result<u64> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(stat.split(' ').next().ok_or("no time in schedstat")?.parse()?)
}

/// Nanoseconds a row: the median, least and greatest of the rounds, and rows a second.
fn figure(nanos: Vec<f64>) -> String {
    let (median, least, most) = spread(nanos);
    format!("{median:>7.0} ns a row ({least:.0} to {most:.0}), {:>6.2} M rows/s", 1e3 / median)
}

fn main() -> Result<()> {
    let settings = Settings::of_arguments()?;
    let runs = RunChoices::default();
    let bench = Bench::open(settings.options(), settings.rows, runs)?;
    let sorted = sorted(settings.rows)?;
    let reads = Reads { bench, sorted };
    let Reads { bench, sorted } = &reads;
    // Everything into the cache, and every row looked at once.
    let everything = ScanRequest { projection: bench.columns.clone(), ..ScanRequest::default() };
    let mut rest = sorted.as_slice();
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
        let mut draw = Draw::new(1, bench.rows);
        let (mut wall, mut processor) = (Vec::new(), Vec::new());
        phase(&reads, &mut draw)?;
        for _ in 0..settings.rounds {
            let (begin, used) = (Instant::now(), processor_nanos()?);
            let rows = phase(&reads, &mut draw)? as f64;
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
