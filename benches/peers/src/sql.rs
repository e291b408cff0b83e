/*!
Systems that speak SQL, behind one trait: OmenDB by its programs, PostgreSQL, DuckDB. They are asked with the same text and answer with
text, so that answers can be held against each other whoever gave them.
*/

use crate::systems::{Result, System, Tools};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The columns of the metrics table, for all systems.
pub(crate) const METRICS_COLUMNS: &str = "run_id BIGINT NOT NULL, step BIGINT NOT NULL, ts TIMESTAMP NOT NULL, \
    loss DOUBLE PRECISION NOT NULL, acc DOUBLE PRECISION NOT NULL, lr DOUBLE PRECISION NOT NULL";

/// The statement that makes the metrics table with its key.
pub(crate) fn create_metrics() -> String {
    format!("CREATE TABLE metrics ({METRICS_COLUMNS}, PRIMARY KEY (run_id, step))")
}

/// Two doubles are the same within this part of the larger: the order in which sums are added up is nobody's promise.
const RELATIVE: f64 = 1e-9;

/// What every SQL system is opened with.
#[derive(Debug, Clone)]
pub(crate) struct SqlSetup {
    pub(crate) dir: PathBuf,
    /// Threads of a statement.
    pub(crate) threads: usize,
    /// Bytes for all of it: cache, sorts, hash tables.
    pub(crate) memory_bytes: usize,
    /// Bytes of them for the cache of what is on disk, where the two are told apart.
    pub(crate) cache_bytes: usize,
    pub(crate) tools: Tools,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// With a header.
    Csv,
    /// Compressed by zstd.
    Parquet,
}

/// How long a load took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loaded {
    /// Until all rows were there, with their key, and durable.
    pub(crate) load: Duration,
    /// What a user does after it before asking: statistics, a checkpoint.
    pub(crate) tidy: Duration,
}

/// Rows as text, as PostgreSQL writes it.
pub(crate) type Rows = Vec<Vec<String>>;

/// What a statement gave, and when all of it was there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) took: Duration,
    pub(crate) rows: Rows,
}

/// A database of tables, opened.
pub(crate) trait Sql {
    /// Opens it again after [`Sql::stop`], in a process that has nothing of it in memory.
    fn start(&mut self) -> Result<()>;
    /// Closes it: what it has is in its files, and none of its processes is left.
    fn stop(&mut self) -> Result<()>;
    /// Makes the metrics table and fills it from a file. None where the system cannot read such a file.
    fn load(&mut self, file: &Path, format: Format) -> Result<Option<Loaded>>;
    /// Runs a statement, as text.
    fn ask(&mut self, sql: &str) -> Result<Answer>;
    /// Bytes on disk of the table with its key, without logs and catalogs where the system tells them apart.
    fn table_bytes(&mut self) -> Result<u64>;
    /// What else is to be known about it.
    fn note(&mut self) -> Result<String>;
}

/// Whether two cells are the same: whole numbers and texts exactly, other numbers nearly.
fn is_same(a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    if a.parse::<i64>().is_ok() && b.parse::<i64>().is_ok() {
        return false;
    }
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => (a - b).abs() <= RELATIVE * a.abs().max(b.abs()),
        _ => false,
    }
}

/// Where two systems' answers to one statement differ, in words; None if they don't.
pub(crate) fn difference(one: (System, &Rows), other: (System, &Rows)) -> Option<String> {
    let (a, b) = (one.1, other.1);
    if a.len() != b.len() {
        return Some(format!("{} gave {} rows, {} {}", one.0.title(), a.len(), other.0.title(), b.len()));
    }
    let differs = |a: &[String], b: &[String]| a.len() != b.len() || a.iter().zip(b).any(|(a, b)| !is_same(a, b));
    let (place, (a, b)) = a.iter().zip(b).enumerate().find(|(_, (a, b))| differs(a, b))?;
    let (one, other) = (one.0.title(), other.0.title());
    Some(format!("row {}: {one} gave ({}), {other} ({})", place + 1, a.join(", "), b.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_compared_exactly_and_doubles_nearly() {
        assert!(is_same("12", "12") && !is_same("1000000000000", "1000000000001"));
        assert!(is_same("0.1", "0.10000000000000001") && is_same("1e-3", "0.001") && is_same("2", "2.0"));
        assert!(!is_same("0.1", "0.1000001") && !is_same("NULL", "0"));
        assert!(is_same("2026-01-01 00:00:00", "2026-01-01 00:00:00") && !is_same("2026-01-01", "2026-01-02"));
    }

    #[test]
    fn a_difference_says_where() {
        let rows = |cells: &[&str]| -> Rows { cells.iter().map(|cell| vec![(*cell).to_owned()]).collect() };
        let told = |a: &[&str], b: &[&str]| difference((System::Omendb, &rows(a)), (System::Sqlite, &rows(b)));
        assert_eq!(told(&["1", "2.0"], &["1", "2"]), None);
        assert_eq!(told(&["1"], &["1", "2"]).as_deref(), Some("OmenDB gave 1 rows, SQLite 3.54 2"));
        let told = told(&["1", "2"], &["1", "3"]);
        assert_eq!(told.as_deref(), Some("row 2: OmenDB gave (2), SQLite 3.54 (3)"));
    }
}
