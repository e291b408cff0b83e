/*!
Reads from memory by one thread: rows are loaded and merged into as few levels as the system has, all of them are read once, so that they
lie in its cache, and then rows are read by key, by many keys, and in short ranges. Every row is held against what it must be.
*/

use super::{Report, check_count, check_samples};
use crate::process::{disk_bytes, peak_memory_bytes};
use crate::rows::{KEY_BYTES, Row, mix};
use crate::systems::{Reader, Result, Setup, Store};
use std::time::{Duration, Instant};

/// Rows of a commit while they are loaded.
const LOAD_BATCH: u64 = 10_000;

/// Keys that are asked for at once, and rows of a range.
const MANY: usize = 100;

/// How often each measurement is begun anew: the best of them counts, since whatever else goes on only takes time.
const ROUNDS: u32 = 5;

/// Which rows are read: not in the order in which they were written.
struct Draw {
    state: u64,
    rows: u64,
}

impl Draw {
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(1);
        mix(self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)) % self.rows
    }
}

pub(super) fn reads(store: &dyn Store, setup: &Setup, rows: u64, length: Duration) -> Result<Report> {
    let mut batch = Vec::new();
    let begun = Instant::now();
    for first in (0..rows).step_by(usize::try_from(LOAD_BATCH)?) {
        batch.clear();
        batch.extend((first..rows.min(first + LOAD_BATCH)).map(Row::of));
        store.commit(&batch)?;
    }
    let mut report = Report::default();
    report.set("load_rows_per_s", rows as f64 / begun.elapsed().as_secs_f64());
    store.flush()?;
    store.compact()?;
    report.set("disk_mib", disk_bytes(&setup.dir)? as f64 / f64::from(1 << 20));
    let sorted = sorted(rows)?;
    check_count(store, rows)?;
    check_samples(store, rows, |row| row)?;
    store.read(&mut |reader| {
        let mut draw = Draw { state: 1, rows };
        // Once for all pages, too, that a range touches.
        scan(reader, &sorted, &mut draw, rows / MANY as u64)?;
        for (name, phase) in [("get_per_s", get as Phase), ("multi_get_per_s", multi_get), ("scan_per_s", scan)] {
            let best = best(reader, &sorted, &mut draw, length, phase)?;
            report.set(name, best);
        }
        Ok(())
    })?;
    report.set("peak_memory_mib", (peak_memory_bytes()? >> 20) as f64);
    Ok(report)
}

/// Numbers of all rows in the order of their keys.
fn sorted(rows: u64) -> Result<Vec<u32>> {
    let mut numbers: Vec<u32> = (0..u32::try_from(rows)?).collect();
    numbers.sort_unstable_by_key(|number| Row::of(u64::from(*number)).key);
    Ok(numbers)
}

/// Does so many calls, and says how many rows they were.
type Phase = fn(&mut dyn Reader, &[u32], &mut Draw, u64) -> Result<u64>;

/// Rows a second, the best of some rounds.
fn best(reader: &mut dyn Reader, sorted: &[u32], draw: &mut Draw, length: Duration, phase: Phase) -> Result<f64> {
    let mut best = 0.0f64;
    for _ in 0..ROUNDS {
        let (begun, mut rows) = (Instant::now(), 0);
        while begun.elapsed() < length / ROUNDS {
            rows += phase(reader, sorted, draw, 200)?;
        }
        best = best.max(rows as f64 / begun.elapsed().as_secs_f64());
    }
    Ok(best)
}

fn get(reader: &mut dyn Reader, _: &[u32], draw: &mut Draw, calls: u64) -> Result<u64> {
    for _ in 0..calls {
        let row = Row::of(draw.next());
        let mut same = false;
        if !reader.get(&row.key, &mut |value| same = value == row.value)? || !same {
            return Err(format!("the row with key {:02x?} is not as it was written", row.key).into());
        }
    }
    Ok(calls)
}

fn multi_get(reader: &mut dyn Reader, _: &[u32], draw: &mut Draw, calls: u64) -> Result<u64> {
    let mut rows = 0;
    for _ in 0..calls.div_ceil(MANY as u64) {
        let wanted: Vec<Row> = (0..MANY).map(|_| Row::of(draw.next())).collect();
        let keys: Vec<[u8; KEY_BYTES]> = wanted.iter().map(|row| row.key).collect();
        let mut same = 0;
        reader.get_many(&keys, &mut |which, value| {
            same += usize::from(wanted.get(which).is_some_and(|row| value == row.value));
        })?;
        if same != MANY {
            return Err(format!("{same} of {MANY} rows are as they were written").into());
        }
        rows += MANY as u64;
    }
    Ok(rows)
}

fn scan(reader: &mut dyn Reader, sorted: &[u32], draw: &mut Draw, calls: u64) -> Result<u64> {
    let mut rows = 0;
    for _ in 0..calls.div_ceil(10) {
        let first = usize::try_from(draw.next())?.min(sorted.len().saturating_sub(MANY));
        let wanted = sorted.get(first..first + MANY).ok_or("fewer rows than a range has")?;
        let mut next = wanted.iter().map(|number| Row::of(u64::from(*number)));
        let start = Row::of(wanted.first().copied().map(u64::from).unwrap_or_default());
        let mut same = 0;
        reader.scan(&start.key, MANY, &mut |key, value| {
            same += usize::from(next.next().is_some_and(|row| key == row.key && value == row.value));
        })?;
        if same != MANY {
            return Err(format!("{same} of the {MANY} rows of a range are as they were written").into());
        }
        rows += MANY as u64;
    }
    Ok(rows)
}
