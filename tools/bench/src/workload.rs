/*!
What a workload is, and which there are.

Most are *driven*: they say what operations there are, make their tables, and give each client the operations one after another;
the driver takes the times. Others measure in a way of their own and give tables back.
*/

use crate::failure::Failure;
use crate::names;
use crate::result::TableOfFigures;
use crate::settings::Settings;
use crate::workloads::{devops, durable_commit, learned_index, metrics, open_close, sql, tpch, ycsb};
use omendb_engine::ErrorKind;
use omendb_engine::db::Db;
use serde_json::Value;

/// A workload by its name.
pub(crate) struct Entry {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it does, in one line.
    pub(crate) about: &'static str,
    /// How it is run.
    pub(crate) kind: Kind,
    /// Why it is not run cold; none for one that only reads rows which lie in runs, through clients.
    pub(crate) not_cold: Option<&'static str>,
}

/// Of workloads that write.
pub(crate) const WRITES: Option<&str> = Some("it writes, and what was just written lies in memory");

/// How a workload is run.
pub(crate) enum Kind {
    /// By clients; this opens the database.
    Driven(fn(&Settings) -> Result<Box<dyn Workload + '_>, Failure>),
    /// In its own way. It opens the database itself if it needs one, and takes of the settings what makes sense.
    Tables(fn(&Settings) -> Result<Vec<TableOfFigures>, Failure>),
}

/// All of them, in the order in which `list` has them.
pub(crate) const WORKLOADS: &[&Entry] = &[
    &metrics::ENTRY,
    &ycsb::A,
    &ycsb::B,
    &ycsb::C,
    &ycsb::D,
    &ycsb::E,
    &ycsb::F,
    &durable_commit::ENTRY,
    &open_close::ENTRY,
    &tpch::ENTRY,
    &devops::ENTRY,
    &sql::ENTRY,
    &learned_index::ENTRY,
];

/// The workload with this name.
///
/// # Errors
/// Wrong usage, with the name that was perhaps meant.
pub(crate) fn find(name: &str) -> Result<&'static Entry, Failure> {
    let found = WORKLOADS.iter().copied().find(|entry| entry.name == name);
    found.ok_or_else(|| {
        let hint = match names::nearest(name, WORKLOADS.iter().map(|entry| entry.name)) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => "`omendb-bench list` prints them".to_owned(),
        };
        Failure::Usage(format!("there is no workload \"{name}\"; {hint}"))
    })
}

/// A workload that clients run.
pub(crate) trait Workload: Sync {
    /// The database it works on, while it is open.
    fn db(&self) -> Option<Db>;

    /// What operations there are, always the same. Clients name them by their place here.
    fn operations(&self) -> Vec<String>;

    /// Whether an operation, by its place, commits, and so waits for the device.
    fn commits(&self, operation: usize) -> bool;

    /// What should be known of it beside the settings: rows, batches, shares of operations.
    fn parameters(&self) -> Vec<(&'static str, Value)>;

    /// Makes its tables anew, as every run of the same settings finds them.
    fn prepare(&mut self) -> Result<(), Failure>;

    /// Client number `number`, from 0.
    fn client(&self, number: usize) -> Result<Box<dyn Client + '_>, Failure>;

    /// After all clients have ended: whether everything is there that must be. Says what was looked at.
    fn verify(&mut self) -> Result<String, Failure>;
}

/// One client of a workload. Its operations follow from the seed and its number.
pub(crate) trait Client: Send {
    /// Decides on the next operation and makes ready what it needs. Not timed.
    fn draw(&mut self) -> Result<usize, Failure>;

    /// Runs it, and nothing else: this is what is timed. Gives the number of rows that it read or wrote. When it is retried,
    /// the same operation is run again.
    ///
    /// # Errors
    /// [`Failure::Failed`], which is counted; a wrong answer.
    fn run(&mut self) -> Result<u64, Failure>;

    /// Holds the answer against what must be there. Not timed.
    ///
    /// # Errors
    /// [`Failure::Wrong`], which ends the run.
    fn check(&mut self) -> Result<(), Failure>;
}

/// Whether an operation that ended so should be begun anew: others were faster.
pub(crate) fn is_retry(failure: &Failure) -> bool {
    matches!(failure, Failure::Failed(error) if error.engine_kind() == Some(ErrorKind::WriteConflict))
}

/// Operations with fixed names.
pub(crate) fn named(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
