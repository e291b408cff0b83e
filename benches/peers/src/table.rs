/*!
What was measured, as one Markdown table and as JSON: the median of each figure, its range, and the ratio of the medians to the
first system's.
*/

use crate::Common;
use crate::campaign::{Figure, Job, Measured, Outcome};
use crate::systems::{Result, System};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;

/// The middle and both ends of some values.
#[derive(Debug, Clone, Copy)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Spread> {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let upper = *values.get(middle)?;
        let median = match values.len() % 2 {
            0 => (upper + *values.get(middle - 1)?) / 2.0,
            _ => upper,
        };
        Some(Spread { median, min: *values.first()?, max: *values.last()? })
    }
}

/// A number with as many digits as people read.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 1e6 => format!("{:.2} M", value / 1e6),
        size if size >= 1e4 => format!("{:.1} k", value / 1e3),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// The jobs that were measured, each with its figures.
fn jobs(measured: &[Measured]) -> Vec<(&str, &'static [Figure])> {
    let mut jobs: Vec<(&str, &'static [Figure])> = Vec::new();
    for one in measured {
        if !jobs.iter().any(|(title, _)| *title == one.job.title) {
            jobs.push((&one.job.title, one.job.figures));
        }
    }
    jobs
}

fn spread(measured: &[Measured], job: &str, system: System, figure: &str) -> Option<Spread> {
    let of_it = measured.iter().filter(|one| one.job.title == job && one.system == system);
    Spread::of(of_it.filter_map(|one| one.report.figures.get(figure).copied()).collect())
}

/// A cell: the median, the range, and the ratio to the first system's.
fn cell(spread: Option<Spread>, first: Option<Spread>, is_first: bool) -> String {
    let Some(spread) = spread else { return "–".to_owned() };
    let mut text = number(spread.median);
    if spread.min != spread.max {
        let _ = write!(text, " ({}–{})", number(spread.min), number(spread.max));
    }
    if let Some(first) = first.filter(|first| !is_first && first.median > 0.0) {
        let _ = write!(text, " **{:.2} ×**", spread.median / first.median);
    }
    text
}

/// All of it as one table, and under it what was set, what is missing, and what the machine is.
pub(crate) fn markdown(common: &Common, all: &[Job], outcome: &Outcome) -> String {
    let measured = outcome.measured.as_slice();
    let has_figures = |system: &&System| measured.iter().any(|one| one.system == **system);
    let systems: Vec<System> = common.systems.iter().filter(has_figures).copied().collect();
    let mut text = String::from("| workload | figure |");
    systems.iter().for_each(|system| {
        let _ = write!(text, " {} |", system.title());
    });
    text.push_str("\n|---|---|");
    text.push_str(&"---|".repeat(systems.len()));
    text.push('\n');
    for (job, figures) in jobs(measured) {
        for (place, figure) in figures.iter().enumerate() {
            let title = if place == 0 { job } else { "" };
            let _ = write!(text, "| {title} | {} |", figure.title);
            let first = systems.first().and_then(|system| spread(measured, job, *system, figure.name));
            for (column, system) in systems.iter().enumerate() {
                let own = spread(measured, job, *system, figure.name);
                let _ = write!(text, " {} |", cell(own, first, column == 0));
            }
            text.push('\n');
        }
    }
    let _ = writeln!(
        text,
        "\nMedians of up to {} rounds (and their range), **×** the ratio to {}; – where a system has no part.",
        common.repeats,
        systems.first().map_or("the first", |system| system.title()),
    );
    for job in all {
        let _ = writeln!(text, "- {}: {}", job.title, job.terms);
    }
    for (name, value) in environment(&common.dir) {
        let _ = writeln!(text, "- {name}: {value}");
    }
    for system in &systems {
        let mut notes: Vec<&str> =
            measured.iter().filter(|one| one.system == *system).map(|one| one.report.note.as_str()).collect();
        notes.sort_unstable();
        notes.dedup();
        let _ = writeln!(text, "- {}: {}", system.title(), notes.join("; "));
    }
    for (system, job, reason) in &outcome.absent {
        let _ = writeln!(text, "- {} has no figures of \"{job}\": {reason}", system.title());
    }
    for failure in &outcome.failures {
        let _ = writeln!(text, "- **failed**: {failure}");
    }
    text
}

/// Everything, second by second.
pub(crate) fn json(common: &Common, outcome: &Outcome) -> Result<Value> {
    let mut runs = Vec::new();
    for one in &outcome.measured {
        runs.push(json!({
            "workload": one.job.title,
            "system": one.system,
            "repeat": one.repeat,
            "figures": one.report.figures,
            "note": one.report.note,
            "stalls": serde_json::to_value(&one.report.stalls)?,
            "seconds": serde_json::to_value(&one.report.seconds)?,
        }));
    }
    let environment: serde_json::Map<String, Value> =
        environment(&common.dir).into_iter().map(|(name, value)| (name.to_owned(), Value::String(value))).collect();
    Ok(json!({
        "environment": environment,
        "settings": { "cache_mib": common.cache_mib, "memtable_mib": common.memtable_mib },
        "command": std::env::args().collect::<Vec<_>>(),
        "runs": runs,
        "absent": outcome.absent.iter().map(|(system, job, reason)| json!([system, job, reason])).collect::<Vec<_>>(),
        "failures": outcome.failures,
    }))
}

/// What the figures were taken on.
fn environment(dir: &Path) -> Vec<(&'static str, String)> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let processor = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    vec![
        ("processor", format!("{} × {}", cores, processor.map_or("unknown", |(_, name)| name))),
        ("kernel", read("/proc/sys/kernel/osrelease").trim().to_owned()),
        ("file system", file_system(dir, &read("/proc/self/mounts"))),
        ("load at the end (1, 5, 15 minutes)", read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")),
    ]
}

/// Type and device of the file system that has a directory.
fn file_system(dir: &Path, mounts: &str) -> String {
    let dir = dir.canonicalize().unwrap_or_default();
    let mount = |line: &str| {
        let mut words = line.split(' ').map(str::to_owned);
        let (device, point, kind) = (words.next()?, words.next()?, words.next()?);
        dir.starts_with(&point).then(|| (point.len(), format!("{kind} on {device}")))
    };
    mounts.lines().filter_map(mount).max_by_key(|(length, _)| *length).map_or_else(String::new, |(_, text)| text)
}
