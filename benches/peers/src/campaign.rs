/*!
Which measurements are taken, in which order: systems take turns, and each round another one begins, so that what else goes on
on the machine meets all of them. Each measurement is a child process in a fresh directory.
*/

use crate::process::forget_pages;
use crate::sql::Rows;
use crate::systems::{Durability, Part, Result, Setup, System, programs};
use crate::workloads::{self, Plan, Report, Task, Work};
use crate::{CommitsArgs, Common, IngestArgs, MetricsArgs, ReadsArgs, ReopenArgs};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// Bytes of a MiB.
const MIB: usize = 1 << 20;

/// Seconds before durable commits are counted.
const WARMUP_SECONDS: f64 = 1.0;

/// Memtables that hold the whole log: rows in memory take several times their bytes in the log.
const LOG_TO_MEMTABLE: u64 = 4;
/// The largest that OmenDB takes.
const MEMTABLE_BYTES_MAX: u64 = 4 << 30;

/// A workload with its settings.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// As the table calls it.
    pub(crate) title: String,
    /// Figures of the table, by name.
    pub(crate) figures: &'static [Figure],
    /// What is the same for all systems in it, for the notes beneath the table.
    pub(crate) terms: String,
    /// Which systems have a part in it.
    pub(crate) part: Part,
    /// How often, where it is not as often as is usual.
    repeats: Option<u32>,
    kind: Kind,
}

/// What a job does.
#[derive(Debug, Clone)]
enum Kind {
    Work(Durability, Work),
    Reads { rows: u64, seconds: f64, cache_bytes: usize },
    Reopen { log_bytes: u64, batch: u64 },
    Metrics(MetricsArgs),
}

/// A figure as the table shows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
}

pub(crate) const fn figure(name: &'static str, title: &'static str) -> Figure {
    Figure { name, title }
}

const COMMITS: &[Figure] = &[
    figure("commits_per_s", "commits/s"),
    figure("p50_ms", "p50, ms"),
    figure("p99_ms", "p99, ms"),
    figure("p999_ms", "p99.9, ms"),
    figure("max_ms", "longest, ms"),
    figure("cpu_us_per_commit", "processor, µs a commit"),
    figure("bytes_per_commit", "bytes written a commit, as the kernel counts them by process"),
    figure("device_bytes_per_commit", "bytes that the device got a commit"),
];

const INGEST: &[Figure] = &[
    figure("rows", "rows"),
    figure("rows_per_s", "rows/s"),
    figure("rows_per_s_q1", "rows/s, first quarter"),
    figure("rows_per_s_q4", "rows/s, last quarter"),
    figure("rows_per_s_slowest_second", "rows/s, slowest second"),
    figure("p50_ms", "commit p50, ms"),
    figure("p999_ms", "commit p99.9, ms"),
    figure("max_ms", "longest commit, ms"),
    figure("stalls", "commits over 100 ms"),
    figure("cpu_us_per_row_settled", "processor, µs a row"),
    figure("write_amplification_at_end", "write amplification at the last commit"),
    figure("write_amplification", "write amplification, settled"),
    figure("space_amplification_at_end", "space amplification at the last commit"),
    figure("space_amplification", "space amplification, settled"),
    figure("settle_s", "time to settle, s"),
    figure("peak_memory_mib", "peak memory, MiB"),
    figure("scan_rows_per_s", "rows/s read back in order"),
];

const READS: &[Figure] = &[
    figure("get_per_s", "gets/s"),
    figure("multi_get_per_s", "rows/s by 100 keys at once"),
    figure("scan_per_s", "rows/s in ranges of 100"),
    figure("disk_mib", "on disk, MiB"),
    figure("load_rows_per_s", "rows/s loaded by 10,000"),
    figure("peak_memory_mib", "peak memory, MiB"),
];

const REOPEN: &[Figure] = &[
    figure("log_mib", "log, MiB"),
    figure("rows", "rows in it"),
    figure("open_s", "open, s"),
    figure("first_read_s", "open and first read, s"),
    figure("cpu_s", "processor, s"),
    figure("peak_memory_mib", "peak memory, MiB"),
];

/// Durable commits.
pub(crate) fn commits(common: &Common, args: &CommitsArgs) -> Vec<Job> {
    let job = |writers: &u64| Job {
        title: format!("durable commits of one row, {writers} writer{}", if *writers == 1 { "" } else { "s" }),
        figures: COMMITS,
        terms: format!(
            "on the device before they are acknowledged; {}; of PostgreSQL the cache is `shared_buffers`, besides the kernel's memory, of \
             DuckDB `memory_limit`",
            stores(common, common.cache_mib)
        ),
        part: Part::Commits,
        repeats: None,
        kind: Kind::Work(
            Durability::Synced,
            Work::Commits { writers: *writers, seconds: args.seconds, warmup_seconds: WARMUP_SECONDS },
        ),
    };
    args.writers.iter().map(job).collect()
}

/// Ingests.
pub(crate) fn ingests(common: &Common, args: &IngestArgs) -> Vec<Job> {
    let job = |batch: &u64| Job {
        title: format!(
            "random-key ingest, {batch} row{} a commit, synced every 100 ms",
            if *batch == 1 { "" } else { "s" }
        ),
        figures: INGEST,
        terms: format!("on the device 100 ms after they are acknowledged; {}", stores(common, common.cache_mib)),
        part: Part::Store,
        repeats: args.ingest_repeats,
        kind: Kind::Work(
            Durability::Periodic,
            Work::Ingest { rows: args.rows, batch: *batch, seconds_max: args.seconds_max },
        ),
    };
    args.batch.iter().map(job).collect()
}

/// Reads from memory.
pub(crate) fn reads(common: &Common, args: &ReadsArgs) -> Vec<Job> {
    vec![Job {
        title: format!("reads of {} rows from memory, one thread", args.read_rows),
        figures: READS,
        terms: format!("warm, all rows read once before; {}", stores(common, args.read_cache_mib)),
        part: Part::Store,
        repeats: args.read_repeats,
        kind: Kind::Reads { rows: args.read_rows, seconds: args.read_seconds, cache_bytes: args.read_cache_mib * MIB },
    }]
}

/// Reopening.
pub(crate) fn reopens(common: &Common, args: &ReopenArgs) -> Vec<Job> {
    vec![Job {
        title: format!("reopen after SIGKILL, {} MiB of log not flushed", args.log_mib),
        figures: REOPEN,
        terms: format!(
            "all rows durable before the kill; cold, files forgotten by the kernel; {} MiB of cache, memtables that hold the log",
            common.cache_mib
        ),
        part: Part::Store,
        repeats: args.reopen_repeats,
        kind: Kind::Reopen { log_bytes: args.log_mib << 20, batch: args.log_batch },
    }]
}

/// The metrics table in SQL.
pub(crate) fn metrics(args: &MetricsArgs) -> Vec<Job> {
    vec![Job {
        title: format!("metrics in SQL, {} rows of {} runs", args.metrics_rows, args.metrics_runs),
        figures: workloads::METRICS,
        terms: format!(
            "loads durable when they end, their files in the kernel's memory; {threads} threads on as many cores; {memory} MiB \
             of memory, of which {cache} MiB of cache where the two are told apart (OmenDB; PostgreSQL, which has the kernel's \
             memory besides); warm: everything asked once before; cold: process just started, files forgotten by the kernel",
            threads = args.metrics_threads,
            memory = args.metrics_memory_mib,
            cache = args.metrics_cache_mib,
        ),
        part: Part::Sql,
        repeats: args.metrics_repeats,
        kind: Kind::Metrics(args.clone()),
    }]
}

/// What stores of keys and values have.
fn stores(common: &Common, cache_mib: usize) -> String {
    format!(
        "{cache_mib} MiB of cache, memtables of {} MiB (redb: the memory of both as its cache), keys of 16 random bytes, values of 32 of \
         which half are random",
        common.memtable_mib
    )
}

/// What came of a measurement.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    pub(crate) job: Job,
    pub(crate) system: System,
    pub(crate) repeat: u32,
    pub(crate) report: Report,
}

/// All that was measured, and what was not.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) measured: Vec<Measured>,
    /// Systems that are not on this machine, with the job that they miss and why.
    pub(crate) absent: Vec<(System, String, String)>,
    /// What went wrong.
    pub(crate) failures: Vec<String>,
}

/// Takes all measurements; `after` sees after each what there is so far. One that fails is told, and the others go on.
pub(crate) fn measure(common: &Common, jobs: &[Job], after: impl Fn(&Outcome) -> Result<()>) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for job in jobs {
        let mut systems = Vec::new();
        for system in common.systems.iter().copied().filter(|system| system.takes(job.part)) {
            match system.look(job.part, &common.tools) {
                Ok(()) => systems.push(system),
                Err(reason) => {
                    eprintln!("{}, {}: {reason}", job.title, system.title());
                    outcome.absent.push((system, job.title.clone(), reason.to_string()));
                }
            }
        }
        let mut answers = None;
        for repeat in 0..job.repeats.unwrap_or(common.repeats) {
            let turn = usize::try_from(repeat)? % systems.len().max(1);
            systems.rotate_left(turn);
            for system in &systems {
                let told = one(common, job, *system, repeat, &mut answers, &mut outcome);
                told.iter().for_each(|told| eprintln!("{told}"));
                outcome.failures.extend(told);
                after(&outcome)?;
            }
            systems.rotate_right(turn);
        }
    }
    Ok(outcome)
}

/// Whose answers all others' are held against.
type Answers = Option<(System, BTreeMap<String, Vec<Rows>>)>;

/// Takes a measurement; gives what went wrong.
fn one(
    common: &Common,
    job: &Job,
    system: System,
    repeat: u32,
    answers: &mut Answers,
    outcome: &mut Outcome,
) -> Vec<String> {
    let place = format!("{}, {}", job.title, system.title());
    let begun = Instant::now();
    let mut report = match measure_one(common, job, system) {
        Ok(report) => report,
        Err(error) => return vec![format!("{place}: {error}")],
    };
    eprintln!("{place}, round {}: {} ({:.0} s)", repeat + 1, brief(job, &report), begun.elapsed().as_secs_f64());
    let mut failures = std::mem::take(&mut report.failures);
    let own = std::mem::take(&mut report.answers);
    match (&job.kind, &answers) {
        (Kind::Metrics(args), Some((first, theirs))) => {
            failures.extend(workloads::difference(&plan(common, args), (*first, theirs), (system, &own)));
        }
        _ => *answers = Some((system, own)),
    }
    outcome.measured.push(Measured { job: job.clone(), system, repeat, report });
    failures.into_iter().map(|failure| format!("{place}: {failure}")).collect()
}

/// The figures of a measurement in a line, for whoever waits.
fn brief(job: &Job, report: &Report) -> String {
    let shown = |figure: &Figure| {
        report.figures.get(figure.name).map(|value| format!("{} {}", figure.title, crate::table::number(*value)))
    };
    job.figures.iter().filter_map(shown).collect::<Vec<_>>().join(", ")
}

fn measure_one(common: &Common, job: &Job, system: System) -> Result<Report> {
    let dir = common.dir.join(system.name());
    remove(&dir)?;
    std::fs::create_dir_all(&dir)?;
    let setup = |durability, memtable_bytes| Setup {
        dir: dir.clone(),
        durability,
        cache_bytes: common.cache_mib * MIB,
        memtable_bytes,
        keeps_log: false,
        tools: common.tools.clone(),
    };
    let report = match &job.kind {
        Kind::Work(durability, work) => {
            let setup = setup(*durability, common.memtable_mib * MIB);
            finish(spawn(&Task { system, setup, work: work.clone() })?)
        }
        Kind::Reads { rows, seconds, cache_bytes } => {
            let setup = Setup { cache_bytes: *cache_bytes, ..setup(Durability::Periodic, common.memtable_mib * MIB) };
            finish(spawn(&Task { system, setup, work: Work::Reads { rows: *rows, seconds: *seconds } })?)
        }
        Kind::Reopen { log_bytes, batch } => {
            let memtable_bytes = usize::try_from((log_bytes * LOG_TO_MEMTABLE).min(MEMTABLE_BYTES_MAX))?;
            let setup = Setup { keeps_log: true, ..setup(Durability::Periodic, memtable_bytes) };
            reopen(system, setup, *log_bytes, *batch)
        }
        Kind::Metrics(args) => {
            let plan = plan(common, args);
            generate(common, &plan)?;
            let setup = Setup { cache_bytes: args.metrics_cache_mib * MIB, ..setup(Durability::Synced, 0) };
            finish(spawn(&Task { system, setup, work: Work::Metrics(plan) })?)
        }
    };
    remove(&dir)?;
    report
}

/// What is measured of the metrics table.
fn plan(common: &Common, args: &MetricsArgs) -> Plan {
    let file = |kind: &str| common.dir.join(format!("metrics-{}-{}.{kind}", args.metrics_rows, args.metrics_runs));
    Plan {
        csv: file("csv"),
        parquet: file("parquet"),
        rows: args.metrics_rows,
        runs: args.metrics_runs.max(1),
        threads: args.metrics_threads,
        memory_bytes: args.metrics_memory_mib * MIB,
        rounds: args.metrics_rounds.max(1),
    }
}

/// Makes the files that are not there, which stay for the next time.
fn generate(common: &Common, plan: &Plan) -> Result<()> {
    for file in [&plan.csv, &plan.parquet] {
        if file.exists() {
            continue;
        }
        let kind = file.extension().unwrap_or_default();
        let part = common.dir.join(PathBuf::from("part").with_extension(kind));
        let mut generator = Command::new(programs::program(&common.tools, "metrics-data")?);
        generator.args(["--rows", &plan.rows.to_string(), "--runs", &plan.runs.to_string()]).arg(&part);
        match generator.status()? {
            status if status.success() => std::fs::rename(&part, file)?,
            status => return Err(format!("metrics-data ended with {status}").into()),
        }
    }
    Ok(())
}

/// Fills a log, kills the process, opens in another.
fn reopen(system: System, setup: Setup, log_bytes: u64, batch: u64) -> Result<Report> {
    let task = |work| Task { system, setup: setup.clone(), work };
    let mut child = spawn(&task(Work::Fill { log_bytes, batch }))?;
    let filled = read(&mut child);
    child.kill()?;
    child.wait()?;
    let filled = filled?;
    forget_pages(&setup.dir)?;
    let rows = filled.figures.get("rows").map(|rows| format!("{rows:.0}").parse::<u64>()).transpose()?;
    let mut report = finish(spawn(&task(Work::Reopen { rows: rows.unwrap_or_default() }))?)?;
    report.figures.extend(filled.figures);
    Ok(report)
}

fn spawn(task: &Task) -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("child").arg(serde_json::to_string(task)?).stdin(Stdio::null()).stdout(Stdio::piped());
    Ok(command.spawn()?)
}

/// A child's report, which is a line; or its error, which is one too.
fn read(child: &mut Child) -> Result<Report> {
    let output = child.stdout.take().ok_or("a child without output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    match line.is_empty() {
        true => Err("the process ended without a report".into()),
        false => serde_json::from_str::<std::result::Result<Report, String>>(&line)?.map_err(Into::into),
    }
}

fn finish(mut child: Child) -> Result<Report> {
    let report = read(&mut child);
    let status = child.wait()?;
    match status.success() {
        true => report,
        false => report.and_then(|_| Err(format!("the process ended with {status}").into())),
    }
}

fn remove(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
