/*!
What is done to a system, each in a process of its own: the parent writes a [`Task`] to the child's arguments and reads its
[`Report`] from its output.
*/

mod commits;
mod ingest;
mod metrics;
mod reads;
mod reopen;

pub(crate) use metrics::{FIGURES as METRICS, Plan, difference};

use crate::rows::{Row, mix};
use crate::sql::Rows;
use crate::systems::{Result, Setup, Store, System, open};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Rows that are read back after a workload.
const SAMPLES: u64 = 10_000;

/// Latencies are kept to three digits, up to ten minutes.
const NANOS_MAX: u64 = 600_000_000_000;

/// What to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "workload")]
pub(crate) enum Work {
    /// Commits of one row, each durable.
    Commits { writers: u64, seconds: f64, warmup_seconds: f64 },
    /// Rows with random keys, one writer.
    Ingest { rows: u64, batch: u64, seconds_max: f64 },
    /// Rows are loaded, merged, and read from memory in three ways, each for so many seconds.
    Reads { rows: u64, seconds: f64 },
    /// Rows until the log has so many bytes, all durable; then waits to be killed.
    Fill { log_bytes: u64, batch: u64 },
    /// Opens what was filled.
    Reopen { rows: u64 },
    /// The metrics table, in SQL.
    Metrics(Plan),
}

/// What to do with which system.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) system: System,
    pub(crate) setup: Setup,
    pub(crate) work: Work,
}

/// One second of a workload.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Second {
    /// Since the beginning.
    pub(crate) at_s: f64,
    /// Rows so far.
    pub(crate) rows: u64,
    /// The longest commit since the second before.
    pub(crate) commit_max_ms: f64,
    /// Bytes written to the device so far.
    pub(crate) written_bytes: u64,
    /// Processor time so far.
    pub(crate) cpu_s: f64,
    /// How the system was.
    pub(crate) gauges: BTreeMap<String, u64>,
}

/// A commit that took longer than [`STALL`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stall {
    /// When it began, since the beginning.
    pub(crate) at_s: f64,
    /// How long it took.
    pub(crate) ms: f64,
}

/// From when on a commit is a stall.
const STALL: Duration = Duration::from_millis(100);

/// What came of it: figures by name, and what they were over time.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) figures: BTreeMap<String, f64>,
    pub(crate) note: String,
    pub(crate) seconds: Vec<Second>,
    pub(crate) stalls: Vec<Stall>,
    /// What statements answered, by their figure: for the parent, who holds them against the other systems'.
    #[serde(default)]
    pub(crate) answers: BTreeMap<String, Vec<Rows>>,
    /// What went wrong with a statement, where the rest goes on.
    #[serde(default)]
    pub(crate) failures: Vec<String>,
}

impl Report {
    fn set(&mut self, name: &str, figure: f64) {
        self.figures.insert(name.to_owned(), figure);
    }

    /// Quantiles of commits, in milliseconds.
    fn set_latencies(&mut self, nanos: &Histogram<u64>) {
        let ms = |nanos: u64| nanos as f64 / 1e6;
        self.set("p50_ms", ms(nanos.value_at_quantile(0.5)));
        self.set("p99_ms", ms(nanos.value_at_quantile(0.99)));
        self.set("p999_ms", ms(nanos.value_at_quantile(0.999)));
        self.set("max_ms", ms(nanos.max()));
    }
}

/// Rows of one writer are numbered from here on, times its own number.
pub(crate) const WRITER_STRIDE: u64 = 1 << 40;

/// What one writer of durable commits did.
pub(crate) struct Done {
    /// All of its commits, those of the warm-up too.
    pub(crate) commits: u64,
    /// How long each took after that.
    pub(crate) nanos: Histogram<u64>,
}

/// Times that somebody else has taken.
pub(crate) fn histogram(nanos: &[u64]) -> Result<Histogram<u64>> {
    let mut all = latencies()?;
    for one in nanos {
        all.record((*one).clamp(1, NANOS_MAX))?;
    }
    Ok(all)
}

fn latencies() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, NANOS_MAX, 3)?)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).clamp(1, NANOS_MAX)
}

/// Does what the task says. The report goes to the parent.
pub(crate) fn run(task: &Task) -> Result<()> {
    match &task.work {
        Work::Reopen { rows } => return send(&reopen::reopen(task, *rows)?),
        Work::Metrics(plan) => return send(&metrics::metrics(task, plan)?),
        _ => {}
    }
    let store = open(task.system, &task.setup)?;
    let store = store.as_ref();
    let mut report = match task.work {
        Work::Commits { writers, seconds, warmup_seconds } => {
            let (warmup, length) =
                (Duration::try_from_secs_f64(warmup_seconds)?, Duration::try_from_secs_f64(seconds)?);
            commits::commits(store, &task.setup, writers, warmup, length)?
        }
        Work::Ingest { rows, batch, seconds_max } => {
            ingest::ingest(store, &task.setup, rows, batch, Duration::try_from_secs_f64(seconds_max)?)?
        }
        Work::Reads { rows, seconds } => reads::reads(store, &task.setup, rows, Duration::try_from_secs_f64(seconds)?)?,
        Work::Fill { log_bytes, batch } => return reopen::fill(store, log_bytes, batch),
        Work::Reopen { .. } | Work::Metrics(_) => return Ok(()),
    };
    report.note = store.note()?;
    send(&report)
}

fn send(report: &Report) -> Result<()> {
    println!("{}", serde_json::to_string(&serde_json::json!({ "Ok": report }))?);
    Ok(())
}

/// Holds a database's rows against how many were written.
fn check_count(store: &dyn Store, rows: u64) -> Result<()> {
    match store.count()? {
        found if found == rows => Ok(()),
        found => Err(format!("{found} rows are there, {rows} were written").into()),
    }
}

/// Reads rows by key, and keys that no row has. `number` says which number the first, second, … row has.
fn check_samples(store: &dyn Store, rows: u64, number: impl Fn(u64) -> u64) -> Result<()> {
    for sample in 0..SAMPLES.min(rows) {
        let row = Row::of(number(mix(sample) % rows));
        if store.get(&row.key)?.as_deref() != Some(row.value.as_slice()) {
            return Err(format!("the row with key {:02x?} is not as it was written", row.key).into());
        }
        let absent = Row::of(u64::MAX - sample);
        if store.get(&absent.key)?.is_some() {
            return Err("a row is there that was never written".into());
        }
    }
    Ok(())
}
