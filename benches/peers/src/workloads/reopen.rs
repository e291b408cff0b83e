/*!
A process is killed when its log holds so many bytes that were not flushed, all of them durable; another one opens the database,
reads a row, and finds all of them there. The kernel forgets the files' pages between the two, so that every system reads them
from the device.

Memtables are made large enough that none is flushed; redb, which has no log, gets as many bytes of rows as the log would have.
*/

use super::{Report, Task, check_count, check_samples};
use crate::process::{disk_bytes, peak_memory_bytes, processor_seconds};
use crate::rows::{ROW_BYTES, Row};
use crate::systems::{Result, Store, System, open};
use std::io::Write;
use std::time::{Duration, Instant};

/// Commits between two looks at the log's size.
const LOOK_EVERY: u64 = 1_000;

/// A log that holds less than a part of its rows' bytes is one that rows leave.
const LEAVING: u64 = 8;

/// Commits between two syncs, where somebody has to call for them.
const HARDEN_EVERY: u64 = 20_000;

/// Fills a log, says how many rows it has, and waits.
pub(super) fn fill(store: &dyn Store, log_bytes: u64, batch: u64) -> Result<()> {
    let mut rows = 0;
    let mut buffer = Vec::new();
    for commit in 0_u64.. {
        buffer.clear();
        buffer.extend((rows..rows + batch).map(Row::of));
        store.commit(&buffer)?;
        rows += batch;
        if commit % HARDEN_EVERY == 0 && store.wants_hardening() {
            store.harden()?;
        }
        if commit % LOOK_EVERY == 0 {
            if filled_bytes(store, rows)? >= log_bytes {
                break;
            }
            if rows * ROW_BYTES / LEAVING > log_bytes {
                return Err(format!("rows leave the log: it has {} bytes of {rows} rows", store.log_bytes()?).into());
            }
        }
    }
    store.harden()?;
    let mut report = Report::default();
    report.set("rows", rows as f64);
    report.set("log_mib", store.log_bytes()? as f64 / f64::from(1 << 20));
    super::send(&report)?;
    std::io::stdout().flush()?;
    loop {
        std::thread::sleep(Duration::from_secs(60));
    }
}

/// Bytes of the log, or of the rows where there is none.
fn filled_bytes(store: &dyn Store, rows: u64) -> Result<u64> {
    Ok(match store.log_bytes()? {
        0 => rows * ROW_BYTES,
        bytes => bytes,
    })
}

pub(super) fn reopen(task: &Task, rows: u64) -> Result<Report> {
    let mut report = Report::default();
    let begun = Instant::now();
    let store = open(task.system, &task.setup)?;
    report.set("open_s", begun.elapsed().as_secs_f64());
    let last = Row::of(rows.saturating_sub(1));
    if store.get(&last.key)?.as_deref() != Some(last.value.as_slice()) {
        return Err("the last durable row is not there".into());
    }
    report.set("first_read_s", begun.elapsed().as_secs_f64());
    report.set("cpu_s", processor_seconds()?);
    report.set("peak_memory_mib", (peak_memory_bytes()? >> 20) as f64);
    report.set("disk_mib", disk_bytes(&task.setup.dir)? as f64 / f64::from(1 << 20));
    check_count(store.as_ref(), rows)?;
    check_samples(store.as_ref(), rows, |row| row)?;
    report.note = match task.system {
        System::Redb => "no log: the same rows in its file, repaired at open".to_owned(),
        _ => store.note()?,
    };
    Ok(report)
}
