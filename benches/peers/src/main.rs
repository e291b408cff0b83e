/*!
The same workloads on OmenDB, RocksDB, fjall, redb, LMDB, SQLite, PostgreSQL and DuckDB: in one run, taking turns, each measurement in a
process and a directory of its own, with durability and memory matched and every result checked.

```text
    rows        what is stored
    systems     each system behind one trait, and how it is set up
    sql         those that speak SQL behind another, and whether their answers are the same
    workloads   what is done to it, in a child process
    process     what the kernel says of that process
    campaign    who comes when, and the parent's side of a child
    table       medians, ranges and ratios, as Markdown and JSON
```

The figures compare systems on the machine they were taken on, and nothing else: two of them from different runs say little.
*/

mod campaign;
mod process;
mod rows;
mod sql;
mod systems;
mod table;
mod workloads;

use crate::systems::{Result, System, Tools};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Everybody's, in place of `malloc` too, so that RocksDB's C++ has the same.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The same workloads on OmenDB, RocksDB, fjall, redb, LMDB, SQLite, PostgreSQL and DuckDB.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Durable commits of one row: how many a second, and how long each takes.
    Commits {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        commits: CommitsArgs,
    },
    /// Rows with random keys from one writer: pace, stalls, write and space amplification.
    Ingest {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        ingest: IngestArgs,
    },
    /// Rows read from memory: by key, by a hundred keys, in ranges of a hundred.
    Reads {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        reads: ReadsArgs,
    },
    /// Opening after a kill with a long log.
    Reopen {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        reopen: ReopenArgs,
    },
    /// Training metrics in SQL: loads, sizes, aggregates, ranges, joins, lookups.
    Metrics {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        metrics: MetricsArgs,
    },
    /// All of these.
    All {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        commits: CommitsArgs,
        #[command(flatten)]
        ingest: IngestArgs,
        #[command(flatten)]
        reads: ReadsArgs,
        #[command(flatten)]
        reopen: ReopenArgs,
        #[command(flatten)]
        metrics: MetricsArgs,
    },
    /// One measurement, for the program itself.
    #[command(hide = true)]
    Child {
        /// What to do, as JSON.
        task: String,
    },
}

/// What all workloads have.
#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// Where databases are made, each in a directory that is removed afterwards.
    #[arg(long, default_value = "peers-data")]
    dir: PathBuf,
    /// Which systems; ratios are to the first. Each takes part where it has a part.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "omendb,rocksdb,fjall,redb,lmdb,sqlite,postgresql,duckdb,duckdb-sorted"
    )]
    systems: Vec<System>,
    /// How often each measurement is taken.
    #[arg(long, default_value_t = 3)]
    repeats: u32,
    /// MiB of cache.
    #[arg(long, default_value_t = 256)]
    cache_mib: usize,
    /// MiB of one memtable.
    #[arg(long, default_value_t = 64)]
    memtable_mib: usize,
    /// Also write everything that was measured to this file, after each measurement.
    #[arg(long)]
    json: Option<PathBuf>,
    #[command(flatten)]
    tools: Tools,
}

/// What durable commits have.
#[derive(Debug, Clone, Args)]
pub(crate) struct CommitsArgs {
    /// Writer threads, one measurement for each.
    #[arg(long, value_delimiter = ',', default_value = "1,16")]
    writers: Vec<u64>,
    /// Seconds of a measurement, after one of warming up.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

/// What the ingest has.
#[derive(Debug, Clone, Args)]
pub(crate) struct IngestArgs {
    /// Rows.
    #[arg(long, default_value_t = 20_000_000)]
    rows: u64,
    /// Rows of a commit, one measurement for each.
    #[arg(long, value_delimiter = ',', default_value = "1,100")]
    batch: Vec<u64>,
    /// Seconds after which a system that has not got all rows in is stopped; its figures are those of the rows it got in.
    #[arg(long, default_value_t = 900.0)]
    seconds_max: f64,
    /// How often, where it is not as often as the rest.
    #[arg(long)]
    ingest_repeats: Option<u32>,
}

/// What reads have.
#[derive(Debug, Clone, Args)]
pub(crate) struct ReadsArgs {
    /// Rows.
    #[arg(long, default_value_t = 5_000_000)]
    read_rows: u64,
    /// Seconds of each way to read.
    #[arg(long, default_value_t = 5.0)]
    read_seconds: f64,
    /// MiB of cache: enough for all rows in every system.
    #[arg(long, default_value_t = 2048)]
    read_cache_mib: usize,
    /// How often, where it is not as often as the rest.
    #[arg(long)]
    read_repeats: Option<u32>,
}

/// What reopening has.
#[derive(Debug, Clone, Args)]
pub(crate) struct ReopenArgs {
    /// MiB of log.
    #[arg(long, default_value_t = 1024)]
    log_mib: u64,
    /// Rows of a commit that went into the log.
    #[arg(long, default_value_t = 100)]
    log_batch: u64,
    /// How often, where it is not as often as the rest.
    #[arg(long)]
    reopen_repeats: Option<u32>,
}

/// What the metrics table has.
#[derive(Debug, Clone, Args)]
pub(crate) struct MetricsArgs {
    /// Rows.
    #[arg(long, default_value_t = 5_000_000)]
    metrics_rows: u64,
    /// Runs that they are of.
    #[arg(long, default_value_t = 1_000)]
    metrics_runs: u64,
    /// Threads of a statement, and cores for all of a system.
    #[arg(long, default_value_t = 2)]
    metrics_threads: usize,
    /// MiB of memory in all.
    #[arg(long, default_value_t = 2048)]
    metrics_memory_mib: usize,
    /// MiB of them for the cache.
    #[arg(long, default_value_t = 1024)]
    metrics_cache_mib: usize,
    /// How often a statement is timed that is the only one of its kind.
    #[arg(long, default_value_t = 7)]
    metrics_rounds: usize,
    /// How often all of it is done, where it is not as often as the rest.
    #[arg(long)]
    metrics_repeats: Option<u32>,
}

/// Does a task; an error goes to the parent as a report does.
fn child(task: &str) -> Result<()> {
    let done = serde_json::from_str(task).map_err(Into::into).and_then(|task| workloads::run(&task));
    done.inspect_err(|error| println!("{}", serde_json::json!({ "Err": error.to_string() })))
}

fn main() -> Result<()> {
    let (common, jobs) = match Cli::parse().command {
        Command::Child { task } => return child(&task),
        Command::Commits { common, commits } => {
            let jobs = campaign::commits(&common, &commits);
            (common, jobs)
        }
        Command::Ingest { common, ingest } => {
            let jobs = campaign::ingests(&common, &ingest);
            (common, jobs)
        }
        Command::Reads { common, reads } => {
            let jobs = campaign::reads(&common, &reads);
            (common, jobs)
        }
        Command::Reopen { common, reopen } => {
            let jobs = campaign::reopens(&common, &reopen);
            (common, jobs)
        }
        Command::Metrics { common, metrics } => (common, campaign::metrics(&metrics)),
        Command::All { common, commits, ingest, reads, reopen, metrics } => {
            let mut jobs = campaign::commits(&common, &commits);
            jobs.extend(campaign::metrics(&metrics));
            jobs.extend(campaign::ingests(&common, &ingest));
            jobs.extend(campaign::reads(&common, &reads));
            jobs.extend(campaign::reopens(&common, &reopen));
            (common, jobs)
        }
    };
    // All of it takes hours: whatever ends it, what was measured is there.
    let keep = |outcome: &campaign::Outcome| match &common.json {
        Some(path) => {
            let next = path.with_extension("next");
            std::fs::write(&next, serde_json::to_string_pretty(&table::json(&common, outcome)?)?)?;
            Ok(std::fs::rename(&next, path)?)
        }
        None => Ok(()),
    };
    let outcome = campaign::measure(&common, &jobs, keep)?;
    print!("{}", table::markdown(&common, &jobs, &outcome));
    match outcome.failures.len() {
        0 => Ok(()),
        count => Err(format!("{count} of what was measured has failed: see beneath the table").into()),
    }
}
