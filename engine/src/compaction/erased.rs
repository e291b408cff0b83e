/*!
What deleted ranges mean to merges, and when a range has done its work. All of this looks at keys and at the order of sources;
it reads no rows.

- A merge leaves out what ranges in front of its inputs hide ([`layers`]). Its output takes the place of its newest input, in
  front of the ranges that lay between: of their keys it holds nothing older.
- What goes into the last level comes to lie behind every range. So a range that is older than one of the inputs must end
  where the input lies: [`cut`] says what is left of it. It may be cut where nothing older than the range lies outside of the
  merge. Policies move a run to the last level only together with all older runs that it meets, which is the same condition.
- A run all of whose keys were deleted goes without being read, and a range behind which there is nothing, or which lies
  under newer ones, goes with it ([`sweep`]).
- A range stays for as long as it covers parts of runs only: it costs readers little, and goes with the next merge of those
  runs. Where it hides much of a run, or where there are many ranges, the run is written again ([`rewrites`]).

A range in a memtable is no concern of merges: it comes to the tree when the memtable is flushed ([`of_mem`]).
*/

use crate::compaction::policy::Job;
use crate::error::{Error, Result};
use crate::key::KeyRange;
use crate::manifest::ErasedRange;
use crate::scan::plan::{Span, outside};
use crate::scan::tree::{Erased, LAST_LEVEL, Mem, RunRef, Source, Tree};
use crate::scan::{Layer, split};
use crate::types::{RunId, Seq, StorageId};
use std::sync::Arc;

/// Ranges of a tree that are left alone. Every lookup asks each that is in front of its row.
const RANGES_MAX: usize = 8;

/// A run is written again when a range hides this fraction of it.
const HIDDEN_FRACTION: u64 = 4;

/// A range and what is left of it.
#[derive(Debug, Clone)]
pub(crate) struct Cut {
    pub(crate) erased: Arc<Erased>,
    pub(crate) left: Vec<Arc<Erased>>,
}

/// What may go without being read.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    pub(crate) runs: Vec<Arc<RunRef>>,
    pub(crate) cuts: Vec<Cut>,
}

impl Sweep {
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.cuts.is_empty()
    }
}

/// The manifest's entry of a range.
pub(crate) fn entry(erased: &Erased) -> ErasedRange {
    ErasedRange { seq: erased.seq, range: erased.span.range() }
}

/// Cuts as the manifest has them: the ranges that go.
pub(crate) fn gone(storage: StorageId, cuts: &[Cut]) -> Vec<(StorageId, ErasedRange)> {
    cuts.iter().map(|cut| (storage, entry(&cut.erased))).collect()
}

/// The ranges that come in their place.
pub(crate) fn left(storage: StorageId, cuts: &[Cut]) -> Vec<(StorageId, ErasedRange)> {
    cuts.iter().flat_map(|cut| &cut.left).map(|erased| (storage, entry(erased))).collect()
}

/// Everything behind the active memtable, newest first, and the last level behind.
fn aged(tree: &Tree) -> Vec<Source> {
    tree.upper.iter().cloned().chain(tree.last.iter().cloned().map(Source::Run)).collect()
}

fn is_input(source: &Source, inputs: &[RunId]) -> bool {
    matches!(source, Source::Run(run) if inputs.contains(&run.id()))
}

fn ids(inputs: &[Arc<RunRef>]) -> Vec<RunId> {
    inputs.iter().map(|run| run.id()).collect()
}

/// The inputs of a merge among the ranges of their tree, newest first.
pub(crate) fn layers(tree: &Tree, inputs: &[Arc<RunRef>]) -> Vec<Layer> {
    let ids = ids(inputs);
    let belongs = |source: &Source| matches!(source, Source::Erased(_)) || is_input(source, &ids);
    aged(tree).into_iter().filter(belongs).map(|source| Layer { source, at: Seq::MAX }).collect()
}

/// Whether a source may have rows in `span`.
fn holds(source: &Source, span: &Span) -> bool {
    match source {
        Source::Mem(mem) => mem.table.range(&span.range(), Seq::MAX, false).next().is_some(),
        Source::Run(run) => run.span().overlaps(span),
        Source::Erased(_) => false,
    }
}

/// What becomes of ranges when `inputs` go into the last level. `applied`: the merge has left out what ranges in front of
/// them hide; a run that is moved as it is keeps it.
///
/// # Errors
/// `Internal` where a range would come to hide rows newer than it.
pub(crate) fn cut(tree: &Tree, inputs: &[Arc<RunRef>], applied: bool) -> Result<Vec<Cut>> {
    let sources = aged(tree);
    let ids = ids(inputs);
    let mut cuts = Vec::new();
    for (place, source) in sources.iter().enumerate() {
        let Source::Erased(erased) = source else { continue };
        let older: Vec<&Source> = sources.iter().skip(place + 1).filter(|source| !is_input(source, &ids)).collect();
        let mut gone: Vec<Span> = Vec::new();
        for (at, input) in sources.iter().enumerate().filter(|(_, source)| is_input(source, &ids)) {
            let Source::Run(run) = input else { continue };
            let (newer, span) = (at < place, run.span());
            let both = erased.span.intersect(&span);
            if both.is_empty() || !(newer || applied) {
                continue;
            }
            let alone = !older.iter().any(|source| holds(source, &both));
            match alone {
                true => gone.push(span),
                false if newer => return Err(Error::internal("a merge would let a deleted range hide newer rows")),
                false => {}
            }
        }
        if mutant!(ErasedRangeNotCut) {
            continue;
        }
        if !gone.is_empty() {
            let mut left = outside(vec![erased.span.clone()], &gone);
            // Behind which there is nothing.
            left.retain(|span| older.iter().any(|source| holds(source, span)));
            let left = left.into_iter().map(|span| Arc::new(Erased { span, seq: erased.seq })).collect();
            cuts.push(Cut { erased: Arc::clone(erased), left });
        }
    }
    Ok(cuts)
}

/// See the module.
pub(crate) fn sweep(tree: &Tree) -> Sweep {
    let sources = aged(tree);
    let mut newer: Vec<Span> = Vec::new();
    let mut runs: Vec<Arc<RunRef>> = Vec::new();
    for source in &sources {
        match source {
            Source::Erased(erased) => newer.push(erased.span.clone()),
            Source::Run(run) if !newer.is_empty() && outside(vec![run.span()], &newer).is_empty() => {
                runs.push(Arc::clone(run));
            }
            Source::Mem(_) | Source::Run(_) => {}
        }
    }
    let gone = ids(&runs);
    let mut cuts = Vec::new();
    newer.clear();
    for (place, source) in sources.iter().enumerate() {
        let Source::Erased(erased) = source else { continue };
        let visible = outside(vec![erased.span.clone()], &newer);
        newer.push(erased.span.clone());
        let mut older = sources.iter().skip(place + 1).filter(|source| !is_input(source, &gone));
        if !older.any(|source| visible.iter().any(|span| holds(source, span))) {
            cuts.push(Cut { erased: Arc::clone(erased), left: Vec::new() });
        }
    }
    Sweep { runs, cuts }
}

/// Runs of the last level to write again, so that ranges end. `all`: every one that a range covers in part.
pub(crate) fn rewrites(tree: &Tree, all: bool) -> Result<Vec<Job>> {
    let sources = aged(tree);
    let ranges = sources.iter().filter(|source| matches!(source, Source::Erased(_))).count();
    let mut jobs: Vec<Job> = Vec::new();
    let mut chosen: Vec<RunId> = Vec::new();
    for (place, source) in sources.iter().enumerate() {
        let Source::Erased(erased) = source else { continue };
        for run in tree.last.iter().filter(|run| run.span().overlaps(&erased.span)) {
            let both = erased.span.intersect(&run.span());
            let other = |source: &Source| !is_input(source, &[run.id()]);
            let alone = !sources.iter().skip(place + 1).any(|source| other(source) && holds(source, &both));
            if !alone || chosen.contains(&run.id()) {
                continue;
            }
            if all || ranges > RANGES_MAX || hides_much(run, &both.range())? {
                chosen.push(run.id());
                jobs.push(Job::Merge { inputs: vec![Arc::clone(run)], level: LAST_LEVEL });
            }
        }
    }
    Ok(jobs)
}

fn hides_much(run: &Arc<RunRef>, range: &KeyRange) -> Result<bool> {
    let layer = Layer { source: Source::Run(Arc::clone(run)), at: Seq::MAX };
    Ok(split::estimate(&[layer], range)? >= run.rows() / HIDDEN_FRACTION)
}

/// The ranges that a memtable leaves behind when it is flushed, newest first: those that hide something still.
pub(crate) fn of_mem(tree: &Tree, mem: &Arc<Mem>) -> Vec<Arc<Erased>> {
    let is_mem = |source: &Source| matches!(source, Source::Mem(other) if Arc::ptr_eq(other, mem));
    let sources = aged(tree);
    let older: Vec<&Source> = sources.iter().skip_while(|source| !is_mem(source)).skip(1).collect();
    let mut newer: Vec<Span> = Vec::new();
    let mut kept = Vec::new();
    for erased in mem.erased() {
        let visible = outside(vec![erased.span.clone()], &newer);
        newer.push(erased.span.clone());
        if older.iter().any(|source| visible.iter().any(|span| holds(source, span))) {
            kept.push(erased);
        }
    }
    kept
}
