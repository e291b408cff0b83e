/*!
Durable commits of one row each, by one writer or many in a closed loop: how many a second, and how long each takes.
*/

use super::{Done, Report, WRITER_STRIDE, check_count, check_samples, latencies, nanos};
use crate::process::{Cost, device_written_bytes};
use crate::rows::{ROW_BYTES, Row};
use crate::systems::{Result, Setup, Store};
use std::time::{Duration, Instant};

pub(super) fn commits(
    store: &dyn Store,
    setup: &Setup,
    writers: u64,
    warmup: Duration,
    length: Duration,
) -> Result<Report> {
    let begun = Instant::now();
    let (from, to) = (begun + warmup, begun + warmup + length);
    let (before, device_before) = (Cost::now(&store.processes())?, device_written_bytes(&setup.dir)?);
    let done: Vec<Done> = match store.commit_loops(writers, warmup, length)? {
        Some(done) => done,
        None => std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..writers).map(|writer| scope.spawn(move || write(store, writer, from, to))).collect();
            threads.into_iter().map(|thread| thread.join().map_err(|_| "a writer panicked")?).collect::<Result<_>>()
        })?,
    };
    let (after, device_after) = (Cost::now(&store.processes())?, device_written_bytes(&setup.dir)?);
    let mut all = latencies()?;
    let mut rows = 0;
    for writer in &done {
        all.add(&writer.nanos)?;
        rows += writer.commits;
    }
    let mut report = Report::default();
    report.set("commits_per_s", all.len() as f64 / length.as_secs_f64());
    report.set_latencies(&all);
    report.set("cpu_us_per_commit", (after.cpu_s - before.cpu_s) * 1e6 / rows as f64);
    report.set("bytes_per_commit", after.bytes.saturating_sub(before.bytes) as f64 / rows as f64);
    if let (Some(before), Some(after)) = (device_before, device_after) {
        report.set("device_bytes_per_commit", after.saturating_sub(before) as f64 / rows as f64);
    }
    report.set("user_bytes", (rows * ROW_BYTES) as f64);
    // Writers do not come equally far: each one's rows are held against its own count.
    check_count(store, rows)?;
    for (writer, done) in (0_u64..).zip(&done) {
        check_samples(store, done.commits, |row| writer * WRITER_STRIDE + row)?;
    }
    Ok(report)
}

/// One writer's loop. What begins before `from` warms up.
fn write(store: &dyn Store, writer: u64, from: Instant, to: Instant) -> Result<Done> {
    let mut done = Done { commits: 0, nanos: latencies()? };
    loop {
        let start = Instant::now();
        if start >= to {
            return Ok(done);
        }
        store.commit(&[Row::of(writer * WRITER_STRIDE + done.commits)])?;
        done.commits += 1;
        if start >= from {
            done.nanos.record(nanos(start.elapsed()))?;
        }
    }
}
