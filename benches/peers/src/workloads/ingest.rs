/*!
Rows with random keys from one writer, as many as were asked for, without a sync for each commit: how fast, how evenly, and what
it costs the device, both when the last commit returns and when background work has come to rest.
*/

use super::{Report, STALL, Second, Stall, check_count, check_samples, latencies, nanos};
use crate::process::{disk_bytes, peak_memory_bytes, processor_seconds, written_bytes};
use crate::rows::{ROW_BYTES, Row};
use crate::systems::{Durability, PERIOD, Result, Setup, Store};
use hdrhistogram::Histogram;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often progress is noted.
const SECOND: Duration = Duration::from_secs(1);

/// Nothing written for so long, and nothing known to be going on: background work has come to rest.
const REST: Duration = Duration::from_secs(3);

/// Background work that has not come to rest by then will not.
const SETTLE_MAX: Duration = Duration::from_secs(900);

/// What the writer tells whoever watches.
#[derive(Default)]
struct Progress {
    rows: AtomicU64,
    commit_nanos_max: AtomicU64,
    is_done: AtomicBool,
}

/// What the writer did.
struct Written {
    rows: u64,
    took: Duration,
    nanos: Histogram<u64>,
    stalls: Vec<Stall>,
}

pub(super) fn ingest(store: &dyn Store, setup: &Setup, rows: u64, batch: u64, length_max: Duration) -> Result<Report> {
    let progress = Progress::default();
    let begun = Instant::now();
    let (bytes, cpu) = (written_bytes()?, processor_seconds()?);
    let (written, seconds) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(store, &progress, begun));
        let hardener = scope.spawn(|| harden(store, setup, &progress));
        let written = write(store, &progress, rows, batch, length_max);
        progress.is_done.store(true, Ordering::Release);
        hardener.join().map_err(|_| "the thread that syncs panicked")??;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>((
            written?,
            watcher.join().map_err(|_| "the thread that watches panicked")??,
        ))
    })?;
    let mut report = Report::default();
    let user_bytes = (written.rows * ROW_BYTES) as f64;
    report.set("rows", written.rows as f64);
    report.set("rows_per_s", written.rows as f64 / written.took.as_secs_f64());
    report.set("cpu_us_per_row", (processor_seconds()? - cpu) * 1e6 / written.rows as f64);
    report.set_latencies(&written.nanos);
    report.set("stalls", written.stalls.len() as f64);
    report.set("write_amplification_at_end", (written_bytes()? - bytes) as f64 / user_bytes);
    report.set("space_amplification_at_end", disk_bytes(&setup.dir)? as f64 / user_bytes);
    set_quarters(&mut report, &seconds, &written);
    let settling = Instant::now();
    settle(store)?;
    report.set("settle_s", settling.elapsed().saturating_sub(REST).as_secs_f64());
    report.set("write_amplification", (written_bytes()? - bytes) as f64 / user_bytes);
    report.set("space_amplification", disk_bytes(&setup.dir)? as f64 / user_bytes);
    report.set("cpu_us_per_row_settled", (processor_seconds()? - cpu) * 1e6 / written.rows as f64);
    report.set("peak_memory_mib", (peak_memory_bytes()? >> 20) as f64);
    report.seconds = seconds;
    report.stalls = written.stalls;
    let reading = Instant::now();
    check_count(store, written.rows)?;
    report.set("scan_rows_per_s", written.rows as f64 / reading.elapsed().as_secs_f64());
    check_samples(store, written.rows, |row| row)?;
    Ok(report)
}

fn write(store: &dyn Store, progress: &Progress, rows: u64, batch: u64, length_max: Duration) -> Result<Written> {
    let mut buffer = Vec::new();
    let mut nanos_all = latencies()?;
    let mut stalls = Vec::new();
    let begun = Instant::now();
    let mut next = 0;
    while next < rows {
        buffer.clear();
        let end = rows.min(next + batch.max(1));
        buffer.extend((next..end).map(Row::of));
        let start = Instant::now();
        store.commit(&buffer)?;
        let took = start.elapsed();
        next = end;
        nanos_all.record(nanos(took))?;
        progress.rows.store(next, Ordering::Relaxed);
        progress.commit_nanos_max.fetch_max(nanos(took), Ordering::Relaxed);
        if took > STALL {
            stalls.push(Stall { at_s: (start - begun).as_secs_f64(), ms: took.as_secs_f64() * 1e3 });
        }
        if begun.elapsed() > length_max {
            break;
        }
    }
    Ok(Written { rows: next, took: begun.elapsed(), nanos: nanos_all, stalls })
}

/// Syncs the log every period, where nobody else does.
fn harden(store: &dyn Store, setup: &Setup, progress: &Progress) -> Result<()> {
    if setup.durability == Durability::Synced || !store.wants_hardening() {
        return Ok(());
    }
    while !progress.is_done.load(Ordering::Acquire) {
        std::thread::sleep(PERIOD);
        store.harden()?;
    }
    Ok(())
}

/// Notes how far the writer is, every second.
fn watch(store: &dyn Store, progress: &Progress, begun: Instant) -> Result<Vec<Second>> {
    let mut seconds: Vec<Second> = Vec::new();
    let mut due = begun + SECOND;
    while !progress.is_done.load(Ordering::Acquire) {
        let now = Instant::now();
        if now < due {
            std::thread::sleep((due - now).min(SECOND / 20));
            continue;
        }
        due += SECOND;
        seconds.push(Second {
            at_s: begun.elapsed().as_secs_f64(),
            rows: progress.rows.load(Ordering::Relaxed),
            commit_max_ms: progress.commit_nanos_max.swap(0, Ordering::Relaxed) as f64 / 1e6,
            written_bytes: written_bytes()?,
            cpu_s: processor_seconds()?,
            gauges: store.gauges()?.into_iter().map(|(name, gauge)| (name.to_owned(), gauge)).collect(),
        });
    }
    Ok(seconds)
}

/// Rows a second in each quarter of the rows, and in the slowest second.
fn set_quarters(report: &mut Report, seconds: &[Second], written: &Written) {
    let mut points = vec![(0.0, 0.0)];
    points.extend(seconds.iter().map(|second| (second.at_s, second.rows as f64)));
    points.push((written.took.as_secs_f64(), written.rows as f64));
    // When so many rows were there, between two seconds on a straight line.
    let time_of = |rows: f64| {
        let pair = points.windows(2).find_map(|pair| match pair {
            [(t0, r0), (t1, r1)] if *r1 >= rows && r1 > r0 => Some(t0 + (t1 - t0) * (rows - r0) / (r1 - r0)),
            _ => None,
        });
        pair.unwrap_or(written.took.as_secs_f64())
    };
    let quarter = written.rows as f64 / 4.0;
    for (place, name) in ["rows_per_s_q1", "rows_per_s_q2", "rows_per_s_q3", "rows_per_s_q4"].iter().enumerate() {
        let from = time_of(quarter * place as f64);
        let to = time_of(quarter * (place + 1) as f64);
        report.set(name, quarter / (to - from).max(1e-9));
    }
    let pace = |pair: &[(f64, f64)]| match pair {
        [(t0, r0), (t1, r1)] if t1 - t0 > 0.5 => Some((r1 - r0) / (t1 - t0)),
        _ => None,
    };
    let slowest = points.windows(2).filter_map(pace).fold(f64::INFINITY, f64::min);
    if slowest.is_finite() {
        report.set("rows_per_s_slowest_second", slowest);
    }
}

/// Flushes, and waits until nothing goes on any more.
fn settle(store: &dyn Store) -> Result<()> {
    store.flush()?;
    let begun = Instant::now();
    let (mut bytes, mut since) = (written_bytes()?, Instant::now());
    while since.elapsed() < REST {
        if begun.elapsed() > SETTLE_MAX {
            return Err("background work does not come to rest".into());
        }
        std::thread::sleep(Duration::from_millis(50));
        let now = written_bytes()?;
        if now != bytes || store.is_busy()? {
            (bytes, since) = (now, Instant::now());
        }
    }
    Ok(())
}
