/*!
The figures of README: loading, size, grouping, filtering, lookups and ranges over five million rows of training metrics.

```text
    cargo build --release && cargo run --release -p omendb-benches --bin figures [-- --flights flights-3m.parquet]
    … --bin figures -- --only-queries      on the database that an earlier run has left
```

Every answer is checked against the generator or against DataFusion over the same file; a wrong one ends the program.
Comparisons alternate within one process; each figure is a median with its range. Loads are durable (synced) at their
end and run as processes of their own, `omendb-load`, whose peak memory is read from the kernel.
*/

use arrow::array::{Array, Float64Array, Int64Array};
use arrow::util::pretty::pretty_format_batches;
use clap::Parser;
use datafusion::datasource::MemTable;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use omendb_benches::metrics::MetricsOptions;
use omendb_sql::{Database, OpenOptions, Outcome, Prepared, ScalarValue, Session};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Measures what README says of the metrics table and of the flights file.
#[derive(Debug, Parser)]
struct Args {
    /// Where the generated files and the databases go; kept, so that a second run need not generate again.
    #[arg(long, default_value = "/tmp/omendb-figures")]
    dir: PathBuf,
    /// Rows of the metrics table.
    #[arg(long, default_value_t = 5_000_000)]
    rows: u64,
    /// Rounds of each figure.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// A flights file in Parquet to load as well.
    #[arg(long)]
    flights: Option<PathBuf>,
    /// Leave out the loads.
    #[arg(long)]
    only_queries: bool,
}

fn main() -> std::process::ExitCode {
    match run(&Args::parse()) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    std::fs::create_dir_all(&args.dir)?;
    let metrics = MetricsOptions { rows: args.rows, runs: 1_000, seed: 42 };
    let parquet = generated(args, "parquet")?;
    println!("| figure | median | range |\n|---|---|---|");
    let database = match args.only_queries {
        true => args.dir.join("metrics.omendb"),
        false => loads(args, &parquet)?,
    };
    let database = Database::open(OpenOptions { dir: Some(database), ..OpenOptions::default() })?;
    let session = database.session();
    grouping(args, &session, &parquet)?;
    aggregates(args, &database, &parquet)?;
    lookups(args, &session, metrics)?;
    ranges(args, &session, metrics)?;
    Ok(())
}

/// Loads and sizes; gives the metrics' database.
fn loads(args: &Args, parquet: &Path) -> Result<PathBuf> {
    let csv = generated(args, "csv")?;
    let key = ["--primary-key", "run_id,step"];
    load(args, "metrics", "load from CSV, key (run_id, step)", &csv, &key, args.rows)?;
    let database = load(args, "metrics", "load from Parquet, key (run_id, step)", parquet, &key, args.rows)?;
    let on_disk = bytes_below(&database)?;
    let in_parquet = std::fs::metadata(parquet)?.len();
    println!(
        "| size on disk against the zstd Parquet file | {:.2} | {:.1} MiB, {:.1} MiB |",
        ratio(on_disk, in_parquet),
        mib(on_disk),
        mib(in_parquet)
    );
    if let Some(flights) = &args.flights {
        let database = load(args, "flights", "load flights from Parquet, no key", flights, &[], 3_000_000)?;
        let (ours, theirs) = (bytes_below(&database)?, std::fs::metadata(flights)?.len());
        println!(
            "| flights on disk against Parquet | {:.2} | {:.1} MiB, {:.1} MiB |",
            ratio(ours, theirs),
            mib(ours),
            mib(theirs)
        );
    }
    Ok(database)
}

/// The metrics file with this extension, generated if it is not there.
fn generated(args: &Args, extension: &str) -> Result<PathBuf> {
    let file = args.dir.join(format!("metrics-{}.{extension}", args.rows));
    if !file.exists() {
        let part = args.dir.join(format!("part.{extension}"));
        let status =
            Command::new(beside("metrics-data")?).arg("--rows").arg(args.rows.to_string()).arg(&part).status()?;
        if !status.success() {
            return Err("metrics-data failed".into());
        }
        std::fs::rename(part, &file)?;
    }
    Ok(file)
}

/// A program that was built beside this one.
fn beside(program: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(program);
    match path.exists() {
        true => Ok(path),
        false => Err(format!("{} is not built: run `cargo build --release` first", path.display()).into()),
    }
}

/// Loads a file into a new database as many times as there are rounds; prints rows/s and peak memory, leaves the last database.
fn load(args: &Args, table: &str, title: &str, file: &Path, more: &[&str], rows: u64) -> Result<PathBuf> {
    let database = args.dir.join(format!("{table}.omendb"));
    let mut rates = Vec::new();
    let mut peak = 0;
    for _ in 0..args.rounds.min(5) {
        if database.exists() {
            std::fs::remove_dir_all(&database)?;
        }
        let start = Instant::now();
        let mut child = Command::new(beside("omendb-load")?)
            .args(["--db".as_ref(), database.as_os_str(), "--table".as_ref(), table.as_ref(), "--create".as_ref()])
            .args(more)
            .arg(file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let status = loop {
            peak = peak.max(peak_memory(child.id()));
            match child.try_wait()? {
                Some(status) => break status,
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        if !status.success() {
            return Err(format!("omendb-load failed on {}: {status}", file.display()).into());
        }
        rates.push(as_f64(rows) / start.elapsed().as_secs_f64() / 1e6);
    }
    let (median, low, high) = spread(&mut rates);
    println!("| {title} | {median:.2} M rows/s | {low:.2}–{high:.2}; peak memory {:.0} MiB |", mib(peak));
    check_count(&database, table, rows)?;
    Ok(database)
}

fn check_count(database: &Path, table: &str, rows: u64) -> Result<()> {
    let database = Database::open(OpenOptions { dir: Some(database.into()), ..OpenOptions::default() })?;
    let session = database.session();
    let count = first_int(session.execute(&format!("SELECT count(*) FROM {table}"))?)?;
    if u64::try_from(count)? != rows {
        return Err(format!("{table} holds {count} rows after a load of {rows}").into());
    }
    drop(session);
    Ok(database.close()?)
}

/// `GROUP BY run_id` here and in DataFusion over the Parquet file, in turn.
fn grouping(args: &Args, session: &Session, parquet: &Path) -> Result<()> {
    let sql = GROUPED;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build()?;
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    runtime.block_on(context.register_parquet(
        "metrics",
        parquet.to_str().ok_or("the path is not UTF-8")?,
        ParquetReadOptions::default(),
    ))?;
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=args.rounds {
        let start = Instant::now();
        let mine = collect(session.execute(sql)?)?;
        let here = start.elapsed();
        let start = Instant::now();
        let reference = runtime.block_on(async { context.sql(sql).await?.collect().await })?;
        let there = start.elapsed();
        let (mine, reference) =
            (pretty_format_batches(&mine)?.to_string(), pretty_format_batches(&reference)?.to_string());
        if !close(&mine, &reference) {
            return Err("GROUP BY run_id: the answers differ".into());
        }
        if round > 0 {
            ours.push(millis(here));
            theirs.push(millis(there));
            ratios.push(millis(here) / millis(there));
        }
    }
    print_row("GROUP BY run_id, four aggregates, all rows", "ms", &mut ours);
    print_row("the same in DataFusion over the Parquet file", "ms", &mut theirs);
    print_row("ratio, pair by pair", "×", &mut ratios);
    Ok(())
}

const GROUPED: &str = "SELECT run_id, count(*) AS n, avg(loss) AS a, min(loss) AS lo, max(acc) AS hi FROM metrics \
                       GROUP BY run_id ORDER BY run_id";
const WHOLE: &str = "SELECT count(*) AS n, avg(loss) AS a, min(loss) AS lo, max(acc) AS hi FROM metrics";
const FILTERED: &str = "SELECT count(*) AS n, avg(loss) AS a FROM metrics WHERE acc > 0.9";
const SELECTIVE: &str =
    "SELECT count(*) AS n, avg(loss) AS a, min(lr) AS lo, max(ts) AS last FROM metrics WHERE loss > 7";

/// Aggregates from statistics and from rows, at rest and with a tenth of the rows in upper levels, each beside DataFusion on the same rows in
/// memory.
fn aggregates(args: &Args, database: &Database, parquet: &Path) -> Result<()> {
    let memory = Memory::of(parquet)?;
    let (session, rows) = (database.session(), database.session());
    rows.execute("SET enable_slice_aggregate = off")?;
    memory.compare(args, "GROUP BY run_id from statistics", &session, GROUPED)?;
    memory.compare(args, "GROUP BY run_id from rows", &rows, GROUPED)?;
    memory.compare(args, "the same aggregates of the whole table", &session, WHOLE)?;
    memory.compare(args, "count, avg WHERE acc > 0.9", &session, FILTERED)?;
    memory.compare(args, "count, avg WHERE acc > 0.9, from rows", &rows, FILTERED)?;
    memory.compare(args, "count, avg, min, max WHERE loss > 7", &session, SELECTIVE)?;
    let upper = with_upper_levels(args, parquet)?;
    let (session, rows) = (upper.session(), upper.session());
    rows.execute("SET enable_slice_aggregate = off")?;
    memory.compare(args, "a tenth in upper levels: GROUP BY run_id from statistics", &session, GROUPED)?;
    memory.compare(args, "a tenth in upper levels: GROUP BY run_id from rows", &rows, GROUPED)?;
    memory.compare(args, "a tenth in upper levels: count, avg WHERE acc > 0.9", &session, FILTERED)?;
    drop((session, rows));
    Ok(upper.close()?)
}

/// A database of the same rows, in which the last tenth of every run's steps lies in upper levels.
fn with_upper_levels(args: &Args, parquet: &Path) -> Result<Database> {
    let dir = args.dir.join("upper.omendb");
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    let database = Database::open(OpenOptions { dir: Some(dir), ..OpenOptions::default() })?;
    let session = database.session();
    session.execute(omendb_benches::metrics::METRICS_TABLE)?;
    let last = args.rows / 1_000 * 9 / 10;
    let insert = format!("INSERT INTO metrics SELECT * FROM '{}' WHERE step", parquet.display());
    session.execute(&format!("{insert} < {last}"))?;
    database.engine().compact(None)?;
    session.execute(&format!("{insert} >= {last}"))?;
    database.engine().flush()?;
    let table = database.engine().snapshot()?.table("metrics")?.ok_or("no table")?;
    let runs = database.engine().run_stats(&table)?;
    let below = |last: bool| {
        runs.iter()
            .filter(|run| (run.level == omendb_engine::scan::LAST_LEVEL) == last)
            .map(|run| run.rows)
            .sum::<u64>()
    };
    println!(
        "| rows in upper levels | {:.3} of all | {} runs |",
        ratio(below(false), below(false) + below(true)),
        runs.len()
    );
    drop(session);
    Ok(database)
}

/// DataFusion over the rows in memory.
struct Memory {
    runtime: tokio::runtime::Runtime,
    context: SessionContext,
}

impl Memory {
    fn of(parquet: &Path) -> Result<Memory> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build()?;
        let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
        let path = parquet.to_str().ok_or("the path is not UTF-8")?;
        let batches = runtime
            .block_on(async { context.read_parquet(path, ParquetReadOptions::default()).await?.collect().await })?;
        let schema = batches.first().ok_or("no rows")?.schema();
        let mut partitions = vec![Vec::new(), Vec::new()];
        for (at, batch) in batches.into_iter().enumerate() {
            partitions.get_mut(at % 2).ok_or("no partition")?.push(batch);
        }
        context.register_table("metrics", Arc::new(MemTable::try_new(schema, partitions)?))?;
        Ok(Memory { runtime, context })
    }

    /// A query here and there, in turn; the answers must agree.
    fn compare(&self, args: &Args, title: &str, session: &Session, sql: &str) -> Result<()> {
        let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=args.rounds {
            let start = Instant::now();
            let mine = collect(session.execute(sql)?)?;
            let here = start.elapsed();
            let start = Instant::now();
            let reference = self.runtime.block_on(async { self.context.sql(sql).await?.collect().await })?;
            let there = start.elapsed();
            let (mine, reference) =
                (pretty_format_batches(&mine)?.to_string(), pretty_format_batches(&reference)?.to_string());
            if !close(&mine, &reference) {
                return Err(format!("{title}: the answers differ").into());
            }
            if round > 0 {
                ours.push(millis(here));
                theirs.push(millis(there));
                ratios.push(millis(here) / millis(there));
            }
        }
        print_row(title, "ms", &mut ours);
        print_row("… DataFusion on the rows in memory", "ms", &mut theirs);
        print_row("… ratio, pair by pair", "×", &mut ratios);
        Ok(())
    }
}

/// Prepared lookups by key, cached: every row checked against the generator.
fn lookups(args: &Args, session: &Session, metrics: MetricsOptions) -> Result<()> {
    let prepared = session.prepare("SELECT loss, acc FROM metrics WHERE run_id = $1 AND step = $2")?;
    let mut micros = Vec::new();
    for round in 0..=args.rounds {
        let keys: Vec<(u64, u64)> = (0..2_000u64).map(|i| spot(metrics, i * 7 + 1)).collect();
        let mut answers = Vec::with_capacity(keys.len());
        let start = Instant::now();
        for (run, step) in &keys {
            answers.push(lookup(&prepared, *run, *step)?);
        }
        let each = start.elapsed().as_secs_f64() * 1e6 / 2_000.0;
        for ((run, step), answer) in keys.iter().zip(answers) {
            let row = metrics.row(*run, *step);
            if answer != (row.loss, row.acc) {
                return Err(format!("run {run}, step {step}: {answer:?}, expected {row:?}").into());
            }
        }
        if round > 0 {
            micros.push(each);
        }
    }
    print_row("prepared lookup by key through SQL, cached", "µs", &mut micros);
    Ok(())
}

/// Prepared ranges of 1,000 rows.
fn ranges(args: &Args, session: &Session, metrics: MetricsOptions) -> Result<()> {
    let prepared =
        session.prepare("SELECT step, loss, acc FROM metrics WHERE run_id = $1 AND step >= $2 AND step < $3")?;
    let mut micros = Vec::new();
    let width = 1_000.min(metrics.rows / metrics.runs);
    for round in 0..=args.rounds {
        let mut spent = Duration::ZERO;
        for i in 0..200 {
            let (run, step) = spot(metrics, i * 13 + 5);
            let from = step.min(metrics.rows / metrics.runs - width);
            let start = Instant::now();
            let parameters = [int(run + 1)?, int(from)?, int(from + width)?];
            let batches = collect(prepared.execute(&parameters)?)?;
            spent += start.elapsed();
            let rows: usize = batches.iter().map(|b| b.num_rows()).sum();
            if u64::try_from(rows)? != width {
                return Err(format!("range of {width} rows gave {rows}").into());
            }
            let first = metrics.row(run, from);
            let losses = batches.first().ok_or("no batch")?.column(1).as_any().downcast_ref::<Float64Array>();
            if losses.map(|l| l.value(0)) != Some(first.loss) {
                return Err(format!("range from run {run}, step {from}: wrong first row").into());
            }
        }
        if round > 0 {
            micros.push(spent.as_secs_f64() * 1e6 / 200.0);
        }
    }
    print_row("prepared range of 1,000 rows, 3 columns", "µs", &mut micros);
    Ok(())
}

/// The n-th key of a walk that jumps all over the table.
fn spot(metrics: MetricsOptions, n: u64) -> (u64, u64) {
    let x = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16;
    (x % metrics.runs, (x / metrics.runs) % (metrics.rows / metrics.runs))
}

fn lookup(prepared: &Prepared, run: u64, step: u64) -> Result<(f64, f64)> {
    let batches = collect(prepared.execute(&[int(run + 1)?, int(step)?])?)?;
    let batch = batches.iter().find(|b| b.num_rows() == 1).ok_or("no row")?;
    let double = |i: usize| batch.column(i).as_any().downcast_ref::<Float64Array>().map(|a| a.value(0));
    Ok((double(0).ok_or("no loss")?, double(1).ok_or("no acc")?))
}

fn int(n: u64) -> Result<ScalarValue> {
    Ok(ScalarValue::Int64(Some(i64::try_from(n)?)))
}

fn collect(outcome: Outcome) -> Result<Vec<arrow::array::RecordBatch>> {
    match outcome {
        Outcome::Rows(rows) => Ok(rows.collect::<std::result::Result<Vec<_>, _>>()?),
        Outcome::Done(done) => Err(format!("no rows: {}", done.tag).into()),
    }
}

fn first_int(outcome: Outcome) -> Result<i64> {
    let batches = collect(outcome)?;
    let column = batches.iter().find(|b| b.num_rows() > 0).ok_or("no row")?.column(0).clone();
    Ok(column.as_any().downcast_ref::<Int64Array>().ok_or("not a bigint")?.value(0))
}

/// Equal line by line, numbers within one part in 10⁹ (sums of doubles depend on their order).
fn close(a: &str, b: &str) -> bool {
    let same = |x: &str, y: &str| match (x.parse::<f64>(), y.parse::<f64>()) {
        (Ok(x), Ok(y)) => (x - y).abs() <= 1e-9 * x.abs().max(y.abs()),
        _ => x == y,
    };
    let words = |s: &str| {
        s.lines().filter(|l| !l.starts_with('+')).flat_map(str::split_whitespace).map(str::to_owned).collect::<Vec<_>>()
    };
    let (a, b) = (words(a), words(b));
    a.len() == b.len() && a.iter().zip(&b).all(|(x, y)| same(x, y))
}

fn print_row(title: &str, unit: &str, figures: &mut [f64]) {
    let (median, low, high) = spread(figures);
    println!("| {title} | {median:.2} {unit} | {low:.2}–{high:.2} |");
}

/// Median, least and greatest.
fn spread(figures: &mut [f64]) -> (f64, f64, f64) {
    figures.sort_unstable_by(f64::total_cmp);
    let at = |i: usize| figures.get(i).copied().unwrap_or(f64::NAN);
    (at(figures.len() / 2), at(0), at(figures.len().saturating_sub(1)))
}

/// The kernel's high-water mark of a process's memory, bytes; 0 once it has gone.
fn peak_memory(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Bytes of all run files below a database directory.
fn bytes_below(dir: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|e| e == "omen") {
            sum += entry.metadata()?.len();
        }
    }
    Ok(sum)
}

fn millis(d: Duration) -> f64 {
    d.as_secs_f64() * 1e3
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn as_f64(n: u64) -> f64 {
    n as f64
}

fn mib(bytes: u64) -> f64 {
    as_f64(bytes) / f64::from(1 << 20)
}

fn ratio(a: u64, b: u64) -> f64 {
    as_f64(a) / as_f64(b)
}
