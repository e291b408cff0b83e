/*!
A run while it goes on: what was done in each interval, and what the engine was doing.

Intervals are as long as this thread was late or not; each sample says how long it was. What ends in an interval belongs to it.
*/

use crate::clock::Clock;
use crate::drive::Driver;
use crate::live::Live;
use crate::record::{Recorded, Tally};
use crate::result::{EngineFigures, EngineSample, IndexFigures, IndexOfRun, OperationSample, Sample};
use crate::settings::Settings;
use crate::workload::Workload;
use omendb_engine::Result;
use omendb_engine::db::{Db, DbStats, DelayCause};
use std::collections::BTreeMap;
use std::time::Duration;

/// How often it is looked whether the run is over or interrupted.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What came of a run.
pub(crate) struct Watched {
    pub(crate) totals: Recorded,
    pub(crate) samples: Vec<Sample>,
    pub(crate) elapsed: Duration,
    pub(crate) engine: Option<EngineFigures>,
}

/// Watches until `is_over`. Time runs from the clock's beginning; what was done before the warm-up's end is forgotten, but for errors.
pub(crate) fn watch<C: Clock>(
    driver: &Driver<'_, C>,
    workload: &dyn Workload,
    settings: &Settings,
    is_over: &dyn Fn() -> bool,
    live: &mut Live<'_>,
) -> Watched {
    let (clock, recorder) = (driver.clock, driver.recorder);
    let stats = || workload.db().and_then(|db| db.stats().ok());
    let mut totals = Recorded::new(workload.operations().len());
    let pause = |until: Duration| {
        while !is_over() && clock.now() < until {
            clock.wait_until(until.min(clock.now() + LOOK_EVERY));
            if settings.interrupt.happened() {
                driver.stop();
            }
        }
    };
    let mut next = Duration::ZERO;
    while next < settings.warmup && !is_over() {
        next = (next + settings.interval()).min(settings.warmup);
        pause(next);
        let done = recorder.take();
        live.at(clock.now(), " (warm-up)", &done.operations);
        let of_operations = totals.operations.iter_mut().zip(&done.operations);
        of_operations.for_each(|(total, tally)| total.errors += tally.errors);
    }
    let (begin, first) = (clock.now(), stats());
    let (mut from, mut before) = (begin, first.clone());
    let mut samples = Vec::new();
    let mut keep = |to: Duration, done: &Recorded| {
        live.at(to, "", &done.operations);
        totals.add(done);
        let after = stats();
        samples.push(Sample {
            at_seconds: from.saturating_sub(begin).as_secs_f64(),
            seconds: to.saturating_sub(from).as_secs_f64(),
            operations: done.operations.iter().map(sample).collect(),
            yardstick: (done.yardstick.len() > 0).then(|| done.yardstick.quantiles()),
            engine: before.as_ref().zip(after.as_ref()).map(|(before, after)| engine_sample(before, after)),
        });
        (from, before) = (to, after);
    };
    while !is_over() && next < driver.end {
        next += settings.interval();
        // A rest that would be too short belongs to the last one.
        if driver.end.saturating_sub(next) < settings.interval() / 2 {
            next = driver.end;
        }
        pause(next);
        keep(clock.now(), &recorder.take());
    }
    while !is_over() {
        pause(clock.now() + settings.interval());
    }
    // What was under way at the end is an interval of its own, so that the samples come to the totals.
    let (end, rest) = (clock.now(), recorder.take());
    if rest.operations.iter().any(|tally| tally.count() + tally.errors > 0) {
        keep(end, &rest);
    }
    let elapsed = end.saturating_sub(begin);
    let engine = first.zip(stats()).map(|(first, last)| figures(&first, &last));
    Watched { totals, samples, elapsed, engine }
}

fn sample(tally: &Tally) -> OperationSample {
    OperationSample {
        count: tally.count(),
        rows: tally.rows,
        service: tally.service.quantiles(),
        response: (tally.response.len() > 0).then(|| tally.response.quantiles()),
        device_bytes: tally.device.map(|reads| reads.bytes),
    }
}

fn engine_sample(before: &DbStats, after: &DbStats) -> EngineSample {
    EngineSample {
        flushes: after.flushes.saturating_sub(before.flushes),
        merges: after.compactions.saturating_sub(before.compactions),
        delay_seconds: after.delay_total.saturating_sub(before.delay_total).as_secs_f64(),
        delay_cause: match after.delay_cause {
            DelayCause::None => "",
            DelayCause::Flush => "flush",
            DelayCause::MergeDebt => "merge debt",
            DelayCause::LogSpace => "log space",
        }
        .to_owned(),
        committed_bytes: after.bytes_committed.saturating_sub(before.bytes_committed),
        logged_bytes: after.bytes_logged.saturating_sub(before.bytes_logged),
        written_bytes: after.bytes_written.saturating_sub(before.bytes_written),
        cache_hits: after.cache_hits.saturating_sub(before.cache_hits),
        cache_misses: after.cache_misses.saturating_sub(before.cache_misses),
        debt_bytes: after.debt_bytes,
        runs: after.runs,
        run_bytes: after.run_bytes,
    }
}

fn figures(first: &DbStats, last: &DbStats) -> EngineFigures {
    let whole = engine_sample(first, last);
    // Flushes and merges write runs; the log is beside them.
    let written = whole.written_bytes + whole.logged_bytes;
    let committed = whole.committed_bytes;
    EngineFigures {
        io: last.io.to_owned(),
        io_notice: last.io_notice.clone(),
        flushes: whole.flushes,
        merges: whole.merges,
        delay_seconds: whole.delay_seconds,
        committed_bytes: committed,
        logged_bytes: whole.logged_bytes,
        flushed_bytes: last.bytes_flushed.saturating_sub(first.bytes_flushed),
        merged_bytes: last.bytes_merged.saturating_sub(first.bytes_merged),
        written_bytes: written,
        write_amplification: (committed > 0).then(|| written as f64 / committed as f64),
        space_amplification: last.space_amplification(),
        cache_hits: whole.cache_hits,
        cache_misses: whole.cache_misses,
        debt_bytes: last.debt_bytes,
        runs: last.runs,
        run_bytes: last.run_bytes,
        memtable_bytes: last.memtable_bytes,
    }
}

/// The indexes of all tables.
pub(crate) fn indexes(db: &Db) -> Result<Vec<IndexFigures>> {
    let of_table = |table: &std::sync::Arc<omendb_engine::types::TableDef>| {
        let runs = db.run_stats(table)?;
        let mut residuals = BTreeMap::new();
        let models = runs.iter().filter(|run| run.index_kind == "model");
        models.flat_map(|run| &run.residuals).for_each(|off| *residuals.entry(*off).or_insert(0) += 1);
        let runs = runs.into_iter().map(|run| IndexOfRun {
            level: run.level,
            rows: run.rows,
            bytes: run.bytes,
            slices: run.slices,
            kind: run.index_kind,
            segments: run.index_segments,
            exceptions: run.index_exceptions,
            epsilon: run.index_epsilon,
            index_bytes: run.index_bytes,
        });
        Ok(IndexFigures { table: table.name.clone(), runs: runs.collect(), residuals: residuals.into_iter().collect() })
    };
    db.snapshot()?.tables()?.iter().map(of_table).collect()
}
