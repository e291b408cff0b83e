/*!
What deleted ranges mean to merges, and when a range has done its work. All of this looks at keys and at the order of sources;
it reads no rows.

- A merge leaves out what ranges in front of its inputs hide ([`layers`]). What it writes into an upper level may take any
  place behind rows newer than its own: of a range's keys it holds nothing older than the range.
- What goes into the last level comes to lie behind every range. So a range that is older than an input must end where the
  input has rows, before the input goes. It may end where nothing older lies behind it: among keys that were merged
  with all that the last level had there, once no older upper run covers them ([`cut_for_step`]). An input goes after all older
  ones among its keys, so the one comes no later than the other.
- Until then the last level may have rows that are newer than a range in front of it; inputs in front of the range have them,
  too. Another merge must not take them for deleted: ranges count only among the keys of a step's upper runs
  ([`Step::merged`]), and of one run under a range only if it is older as a whole ([`sweep`]). A round that is given up leaves
  its inputs, and the next one writes their rows again.
- A run all of whose keys were deleted goes without being read, and a range behind which there is nothing, or which lies
  under newer ones, goes with it ([`sweep`]).
- A range stays for as long as it covers parts of runs only: it costs readers little, and goes with the next merge of those
  runs. Where it hides much of a run, or where there are many ranges, the run is written again ([`rewrites`]).

A range in a memtable is no concern of merges: it comes to the tree when the memtable is flushed ([`of_mem`]).
*/

use crate::compaction::policy::{Round, Step};
use crate::error::{Error, Result};
use crate::key::KeyRange;
use crate::manifest::ErasedRange;
use crate::scan::plan::{Span, outside, union};
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

/// Runs of a merge among the ranges of their tree, newest first; ranges as far as they lie `within`.
pub(crate) fn layers(tree: &Tree, runs: &[Arc<RunRef>], within: &[Span]) -> Vec<Layer> {
    let ids = ids(runs);
    let mut layers = Vec::new();
    let mut push = |source| layers.push(Layer { source, at: Seq::MAX });
    for source in aged(tree) {
        match &source {
            Source::Erased(erased) => {
                let parts = within.iter().map(|span| erased.span.intersect(span)).filter(|span| !span.is_empty());
                parts.for_each(|span| push(Source::Erased(Arc::new(Erased { span, seq: erased.seq }))));
            }
            Source::Run(_) if is_input(&source, &ids) => push(source),
            Source::Run(_) | Source::Mem(_) => {}
        }
    }
    layers
}

/// Whether a source may have rows in `span`.
fn holds(source: &Source, span: &Span) -> bool {
    match source {
        Source::Mem(mem) => mem.table.range(&span.range(), Seq::MAX, false).next().is_some(),
        Source::Run(run) => run.overlaps(span),
        Source::Erased(_) => false,
    }
}

/// What becomes of ranges when a run goes to the last level as it is, where nothing is among its keys.
///
/// # Errors
/// As for [`cut`].
pub(crate) fn cut_for_move(tree: &Tree, run: &Arc<RunRef>) -> Result<Vec<Cut>> {
    // What is hidden of it stays hidden.
    let older = |erased: &Erased| erased.seq <= run.max_seq();
    cut(tree, &[run.id()], &|erased| if older(erased) { vec![run.span()] } else { Vec::new() })
}

/// What becomes of ranges with a step into the last level; `round` as it was before.
///
/// # Errors
/// As for [`cut`].
pub(crate) fn cut_for_step(tree: &Tree, step: &Step, round: Option<&Round>) -> Result<Vec<Cut>> {
    if step.level != LAST_LEVEL {
        return Ok(Vec::new());
    }
    let now = step.merged();
    let before = |seq| round.map(|round| round.merged_under(seq)).unwrap_or_default();
    cut(tree, &ids(&step.gone), &|erased| union(now.iter().chain(before(erased.seq)).cloned()))
}

/// Ends ranges where no upper run has anything older, among keys where the last level has nothing older either: `clean` says
/// where, for each range. `gone`: runs that leave the upper levels with this.
///
/// # Errors
/// `Internal` where a range would come to hide rows newer than it.
fn cut(tree: &Tree, gone: &[RunId], clean: &dyn Fn(&Erased) -> Vec<Span>) -> Result<Vec<Cut>> {
    let mut cuts = Vec::new();
    for (place, source) in tree.upper.iter().enumerate() {
        let Source::Erased(erased) = source else { continue };
        let mut clean: Vec<Span> = clean(erased).iter().map(|span| span.intersect(&erased.span)).collect();
        clean.retain(|span| !span.is_empty());
        if clean.is_empty() {
            continue;
        }
        let older = || tree.upper.iter().skip(place + 1).filter(|source| !is_input(source, gone));
        let meets = |run: &&Arc<RunRef>| clean.iter().any(|span| run.overlaps(span));
        let of_runs: Vec<Span> = older().filter_map(run_of).filter(meets).map(|run| run.span()).collect();
        let mut ends = outside(clean.clone(), &of_runs);
        ends.retain(|span| !older().any(|source| matches!(source, Source::Mem(_)) && holds(source, span)));
        for newer in tree.upper.iter().take(place).filter(|source| is_input(source, gone)).filter_map(run_of) {
            let its = clean.iter().map(|span| span.intersect(&newer.span())).filter(|span| !span.is_empty());
            if !outside(its.collect(), &ends).is_empty() {
                return Err(Error::internal("a merge would let a deleted range hide newer rows"));
            }
        }
        if ends.is_empty() || mutant!(ErasedRangeNotCut) {
            continue;
        }
        let mut left = outside(vec![erased.span.clone()], &ends);
        // Behind which there is nothing. What the last level has there stays, also where its runs are written again.
        let below = |span: &Span| tree.last.iter().any(|run| run.overlaps(span));
        left.retain(|span| below(span) || older().any(|source| holds(source, span)));
        let left = left.into_iter().map(|span| Arc::new(Erased { span, seq: erased.seq })).collect();
        cuts.push(Cut { erased: Arc::clone(erased), left });
    }
    Ok(cuts)
}

fn run_of(source: &Source) -> Option<&Arc<RunRef>> {
    match source {
        Source::Run(run) => Some(run),
        Source::Mem(_) | Source::Erased(_) => None,
    }
}

/// See the module.
pub(crate) fn sweep(tree: &Tree) -> Sweep {
    if !tree.upper.iter().any(|source| matches!(source, Source::Erased(_))) {
        return Sweep::default();
    }
    let sources = aged(tree);
    let mut ranges: Vec<&Arc<Erased>> = Vec::new();
    let mut runs: Vec<Arc<RunRef>> = Vec::new();
    for source in &sources {
        match source {
            Source::Erased(erased) => ranges.push(erased),
            Source::Run(run) => {
                // The last level may have rows of a round under way that are newer than a range before it.
                let newer = ranges.iter().filter(|erased| erased.seq > run.max_seq() && run.overlaps(&erased.span));
                let mut newer = newer.map(|erased| &erased.span).peekable();
                if newer.peek().is_some() && outside(vec![run.span()], newer).is_empty() {
                    runs.push(Arc::clone(run));
                }
            }
            Source::Mem(_) => {}
        }
    }
    let gone = ids(&runs);
    let mut cuts = Vec::new();
    let mut newer: Vec<Span> = Vec::new();
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

/// Runs of the last level to write again, so that ranges end. `all`: every one that a range covers in part. No round may be
/// under way.
pub(crate) fn rewrites(tree: &Tree, all: bool) -> Result<Vec<Arc<RunRef>>> {
    let sources = aged(tree);
    let ranges = sources.iter().filter(|source| matches!(source, Source::Erased(_))).count();
    let mut chosen: Vec<Arc<RunRef>> = Vec::new();
    for (place, source) in sources.iter().enumerate() {
        let Source::Erased(erased) = source else { continue };
        for run in tree.last.iter().filter(|run| run.overlaps(&erased.span)) {
            let both = erased.span.intersect(&run.span());
            let other = |source: &Source| !is_input(source, &[run.id()]);
            let alone = !sources.iter().skip(place + 1).any(|source| other(source) && holds(source, &both));
            if !alone || chosen.iter().any(|other| other.id() == run.id()) {
                continue;
            }
            if all || ranges > RANGES_MAX || hides_much(run, &both.range())? {
                chosen.push(Arc::clone(run));
            }
        }
    }
    Ok(chosen)
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
