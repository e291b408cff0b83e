/*!
What a run has done, and the check that it is true.
*/

use crate::failure::Failure;
use crate::file::Loaded;
use omendb_cli::size::{count, show};
use omendb_sql::SqlError;
use omendb_sql::engine::db::{Db, ScanRequest};
use omendb_sql::engine::types::TableDef;
use std::time::Duration;

/// Counts of a run, over all files.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) files: u64,
    pub(crate) files_done_before: u64,
    pub(crate) bytes: u64,
    pub(crate) read: u64,
    pub(crate) stored: u64,
    pub(crate) replaced: u64,
    pub(crate) skipped: u64,
    pub(crate) rejected: u64,
    pub(crate) runs: u64,
    pub(crate) bytes_on_disk: u64,
    pub(crate) model_segments: u64,
}

impl Totals {
    pub(crate) fn add(&mut self, loaded: &Loaded, bytes: u64) {
        let report = &loaded.report;
        self.files += 1;
        self.bytes += bytes;
        self.read += report.rows_read + loaded.rejected;
        self.stored += report.rows_stored;
        self.replaced += report.rows_replaced;
        self.skipped += report.rows_skipped;
        self.rejected += loaded.rejected;
        self.runs += report.runs;
        self.bytes_on_disk += report.bytes_on_disk;
        self.model_segments += report.model_segments;
    }

    /// Checks that every row that was read is accounted for, and that the table has grown by those that are new.
    ///
    /// # Errors
    /// XX000 with the counts: a defect of the engine or of this program.
    pub(crate) fn check(&self, before: u64, after: u64) -> Result<(), Failure> {
        let accounted = self.stored + self.skipped + self.rejected;
        if accounted != self.read {
            let counts = format!("{} stored, {} skipped, {} rejected", self.stored, self.skipped, self.rejected);
            return Err(SqlError::internal(format!("{} rows were read, but {counts}", self.read)).into());
        }
        let expected = (before + self.stored).saturating_sub(self.replaced);
        if after != expected {
            return Err(SqlError::internal(format!("the table has {after} rows where {expected} were expected")).into());
        }
        Ok(())
    }

    /// The summary, several lines; `rows` is what the table has now.
    pub(crate) fn text(&self, table: &str, rows: Option<u64>, took: Duration) -> String {
        let mut out = format!(
            "{table}: {} rows read = {} stored + {} skipped + {} rejected\n",
            count(self.read),
            count(self.stored),
            count(self.skipped),
            count(self.rejected)
        );
        if self.replaced > 0 {
            out.push_str(&format!("  {} of the rows stored replaced another\n", count(self.replaced)));
        }
        match rows {
            Some(rows) => out.push_str(&format!("  checked: the table has {} rows\n", count(rows))),
            None => out.push_str("  dry run: nothing was stored, keys were not compared\n"),
        }
        let millis = took.as_millis().max(1);
        let a_second = |n: u64| u64::try_from(u128::from(n) * 1000 / millis).unwrap_or(u64::MAX);
        out.push_str(&format!(
            "  {}, {} in {}.{:03} s: {} rows/s, {}/s",
            several(self.files, "file"),
            show(self.bytes),
            millis / 1000,
            millis % 1000,
            count(a_second(self.read)),
            show(a_second(self.bytes))
        ));
        if self.files_done_before > 0 {
            out.push_str(&format!("\n  {} loaded before and passed over", several(self.files_done_before, "file")));
        }
        if rows.is_some() {
            let tenths = self.bytes_on_disk.saturating_mul(10) / self.stored.max(1);
            out.push_str(&format!(
                "\n  {}, {} on disk, {}.{} bytes per row, {}",
                several(self.runs, "run"),
                show(self.bytes_on_disk),
                tenths / 10,
                tenths % 10,
                several(self.model_segments, "model segment")
            ));
        }
        out
    }
}

fn several(n: u64, thing: &str) -> String {
    format!("{} {thing}{}", count(n), if n == 1 { "" } else { "s" })
}

/// How many rows a table has, exactly.
pub(crate) fn count_rows(db: &Db, table: &TableDef) -> Result<u64, Failure> {
    let stats = db.table_stats(table)?;
    if stats.rows_exact {
        return Ok(stats.rows);
    }
    let mut rows = 0;
    for batch in db.snapshot()?.scan(table, ScanRequest::default())? {
        rows += u64::try_from(batch?.num_rows()).unwrap_or(0);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_not_accounted_for_are_noticed() {
        let good = Totals { read: 10, stored: 6, replaced: 2, skipped: 3, rejected: 1, ..Totals::default() };
        assert!(good.check(100, 104).is_ok());
        assert!(good.check(100, 106).is_err());
        assert!(Totals { read: 11, ..good }.check(100, 104).is_err());
    }

    #[test]
    fn the_summary_says_it_in_numbers() {
        let totals = Totals {
            files: 2,
            bytes: 2048,
            read: 3000,
            stored: 2998,
            rejected: 2,
            runs: 1,
            bytes_on_disk: 29_980,
            model_segments: 4,
            ..Totals::default()
        };
        let expected = "t: 3,000 rows read = 2,998 stored + 0 skipped + 2 rejected\n  checked: the table has 2,998 rows\n  2 files, 2.0 KiB in 0.500 s: 6,000 rows/s, 4.0 KiB/s\n  1 run, 29.2 KiB on disk, 10.0 bytes per row, 4 model segments";
        assert_eq!(totals.text("t", Some(2998), Duration::from_millis(500)), expected);
    }
}
