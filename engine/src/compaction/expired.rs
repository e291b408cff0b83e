/*!
When rows that have expired leave the files. Statistics tell; no row is read to find out.

- A merge into the last level leaves them out, like tombstones: nothing older stays behind it that could come back. One into an
  upper level keeps them, as they hide older versions.
- A run all of whose rows have expired goes without being read ([`drops`]), where nothing older among its keys stays. That is so of
  every run of the last level; of an upper run, if all older runs among its keys go with it. Were an older version left
  behind, it would come to the top once the time to live is made longer, or after an opening under an earlier clock.
- A run of the last level is written again ([`renewals`]) once about a quarter of its rows have expired: so each row is written a
  few times in its life at most. What makes up less goes once it has been expired for as long as it has lived, and for
  a day at least, if it is worth writing the run.

What has been left out by a merge that was never published is there still: for the next merge, the clock is another one.
*/

use crate::error::Result;
use crate::scan::expiry::Expiry;
use crate::scan::tree::{LAST_LEVEL, RunRef, Source, Tree};
use std::sync::Arc;

/// Whether every row of a run has expired. The rows of tombstones have no values but those of the key.
fn is_gone(run: &RunRef, expiry: &Expiry) -> Result<bool> {
    Ok(run.run.spread(expiry.column())?.is_below(expiry.cutoff, run.run.meta().tombstones))
}

/// Upper runs older than every memtable, oldest first.
fn settled<'t>(tree: &'t Tree) -> impl Iterator<Item = &'t Arc<RunRef>> {
    let run_of = |source: &'t Source| match source {
        Source::Run(run) => Some(Some(run)),
        Source::Erased(_) => Some(None),
        Source::Mem(_) => None,
    };
    tree.upper.iter().rev().map_while(run_of).flatten()
}

/// Runs that go without being read.
///
/// # Errors
/// Those of reading statistics.
pub(crate) fn drops(tree: &Tree, expiry: &Expiry) -> Result<Vec<Arc<RunRef>>> {
    let mut gone: Vec<Arc<RunRef>> = Vec::new();
    let mut kept: Vec<&Arc<RunRef>> = Vec::new();
    for run in tree.last.iter().chain(settled(tree)) {
        let bottom = run.level == LAST_LEVEL || !kept.iter().any(|older| older.overlaps(&run.span()));
        match bottom && is_gone(run, expiry)? {
            true => gone.push(Arc::clone(run)),
            false => kept.push(run),
        }
    }
    Ok(gone)
}

/// Runs of the last level that are to be written again without what has expired of them. `all`: every one that has any.
///
/// # Errors
/// Those of reading statistics.
pub(crate) fn renewals(tree: &Tree, expiry: &Expiry, all: bool) -> Result<Vec<Arc<RunRef>>> {
    let mut due = Vec::new();
    for run in &tree.last {
        let spread = run.run.spread(expiry.column())?;
        let worth_it = spread.quarter_is_below(expiry.cutoff) || spread.trace_is_below(expiry.overdue);
        if worth_it || (all && spread.may_be_below(expiry.cutoff)) {
            due.push(Arc::clone(run));
        }
    }
    Ok(due)
}
