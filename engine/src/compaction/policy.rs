/*!
Which runs to merge: lazy leveling. A few upper levels of overlapping runs, each about four times the one before, over
one last level of disjoint runs that holds most of the table.

- An upper run that overlaps nothing is moved into the last level as it is: loads in key order are never rewritten.
- Four runs in an upper level are merged into one of the next, with all that is newer.
- Once the upper levels come to a quarter of the last one, they are merged into it, key range by key range: what
  overlaps is merged, what does not stays. Tombstones and old versions end there.

Only runs older than every memtable are touched, so that age stays the order of sources.
*/

use crate::scan::plan::Span;
use crate::scan::tree::{LAST_LEVEL, RunRef, Source, Tree};
use std::sync::Arc;

/// Runs of one upper level that are left alone.
pub(crate) const LEVEL_RUNS_MAX: usize = 4;

/// The upper levels are merged into the last one when they come to this fraction of it.
const LAST_FRACTION: u64 = 4;

/// One merge.
#[derive(Debug, Clone)]
pub(crate) enum Job {
    /// The run goes to the last level as it is.
    Move(Arc<RunRef>),
    /// The runs, newest first, become one of the level.
    Merge { inputs: Vec<Arc<RunRef>>, level: u8 },
}

/// Upper runs older than every memtable, newest first.
fn settled(tree: &Tree) -> Vec<&Arc<RunRef>> {
    let mut runs = Vec::new();
    for source in &tree.upper {
        match source {
            Source::Mem(_) => runs.clear(),
            Source::Run(run) => runs.push(run),
            Source::Erased(_) => {}
        }
    }
    runs
}

/// Upper runs grouped with all that they overlap, directly or through others; newest first in each group, the last
/// level's runs behind.
fn groups(upper: &[&Arc<RunRef>], last: &[Arc<RunRef>]) -> Vec<Vec<Arc<RunRef>>> {
    // The place in age: upper runs by their order, then those of the last level, which are disjoint.
    let aged = upper.iter().copied().chain(last).enumerate();
    let mut spans: Vec<(Span, usize, &Arc<RunRef>)> = aged.map(|(age, run)| (run.span(), age, run)).collect();
    spans.sort_by(|a, b| a.0.from.cmp(&b.0.from));
    type Aged<'a> = (usize, &'a Arc<RunRef>);
    let mut groups: Vec<(Span, Vec<Aged<'_>>)> = Vec::new();
    for (span, age, run) in spans {
        match groups.last_mut() {
            Some((hull, members)) if hull.overlaps(&span) => {
                hull.to = (&hull.to).max(&span.to).clone();
                members.push((age, run));
            }
            _ => groups.push((span, vec![(age, run)])),
        }
    }
    let mut out = Vec::new();
    for (_, mut members) in groups {
        members.sort_by_key(|(age, _)| *age);
        if members.first().is_some_and(|(age, _)| *age < upper.len()) {
            out.push(members.into_iter().map(|(_, run)| Arc::clone(run)).collect());
        }
    }
    out
}

/// Flushed memtables are in row shape; the last level is in column shape.
fn can_move(run: &RunRef) -> bool {
    let in_columns = run.fixed_seq.is_some() || run.level > 0;
    run.run.meta().tombstones == 0 && in_columns
}

fn into_last(groups: Vec<Vec<Arc<RunRef>>>) -> Vec<Job> {
    let job = |inputs: Vec<Arc<RunRef>>| match inputs.as_slice() {
        [only] if can_move(only) => Job::Move(Arc::clone(only)),
        _ => Job::Merge { inputs, level: LAST_LEVEL },
    };
    groups.into_iter().map(job).collect()
}

/// Everything that forces a table into its last level.
pub(crate) fn all(tree: &Tree) -> Vec<Job> {
    into_last(groups(&settled(tree), &tree.last))
}

/// What should be done now; nothing where the table is in good order.
pub(crate) fn pick(tree: &Tree) -> Vec<Job> {
    let upper = settled(tree);
    if upper.is_empty() {
        return Vec::new();
    }
    let groups = groups(&upper, &tree.last);
    let alone = |group: &&Vec<Arc<RunRef>>| matches!(group.as_slice(), [only] if can_move(only));
    let moves: Vec<Job> = groups.iter().filter(alone).flatten().map(|run| Job::Move(Arc::clone(run))).collect();
    if !moves.is_empty() {
        return moves;
    }
    let in_level = |level: u8| upper.iter().filter(|run| run.level == level).count();
    let Some(full) = (0..LAST_LEVEL).find(|level| in_level(*level) >= LEVEL_RUNS_MAX) else {
        return Vec::new();
    };
    let bytes = |runs: &mut dyn Iterator<Item = &Arc<RunRef>>| runs.map(|run| run.bytes()).sum::<u64>();
    let last_bytes = bytes(&mut tree.last.iter());
    if full + 1 >= LAST_LEVEL || bytes(&mut upper.iter().copied()) >= last_bytes / LAST_FRACTION {
        return into_last(groups);
    }
    let inputs = upper.into_iter().filter(|run| run.level <= full).cloned().collect();
    vec![Job::Merge { inputs, level: full + 1 }]
}
