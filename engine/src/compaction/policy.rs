/*!
Which runs to merge: lazy leveling. A few upper levels of overlapping runs, each about four times the one before, over
one last level of disjoint runs that holds most of the table.

- An upper run with nothing older among its keys is moved into the last level as it is: loads in key order are never
  rewritten.
- Four flushed runs are merged into the next level; so are the runs of a higher level once four of them lie over one key.
- Once the upper runs over some keys come to a third of what the last level has there, they are merged into it.
  Tombstones and old versions end there. A tombstone weighs as much as the row that it may hide: tombstones alone send a
  run down, however few its bytes are.
- An upper run that has become old goes down whatever its size.

# Rounds and steps

A merge is a *round*, and a round is worked off in *steps* along the key. A step reads one stretch of keys: of the last
level about one run, and about as much of what lies above it or in a gap between runs. Its output is published at once, *beside* the round's inputs, and
these go when their last key is done. That is sound, for what is published twice is published as the same version, and
an input goes only after every older input among its keys: so whichever source is asked first has the newest version. A
round that is given up, by a crash or by [`all`], has done no harm, and is chosen again.

So whatever the size of the table, a job is bounded, the space that a merge takes for a while is too, and between two steps
more urgent work comes first: rounds of lower levels begin and end while one of a higher level is under way. They take
only runs newer than all that it has.

# Windows

Runs of the last level are the windows of a table whose keys follow time, and of any other: what is not touched is not
rewritten. A step leaves out runs of the last level where the round has no row, and outputs of an upper level end where a
gap of the last level begins or ends, if the gap is worth a run: new data goes its own way, and late data rewrites the
windows that it falls into, once it comes to a third of them. No column is looked at; the keys say enough.

# Age

Upper runs that share keys have numbers that do not mix: all of one are newer than all of the other. A round therefore
takes every run that lies over its keys and whose numbers mix with its own; runs of a round under way are the exception.
Then the order by highest number is the order of age, now and after the next opening, however runs are cut.

Only runs older than every memtable are touched.
*/

use crate::error::Result;
use crate::key::Key;
use crate::scan::plan::{Edge, Span, union};
use crate::scan::tree::{LAST_LEVEL, RunRef, Source, Tree};
use crate::types::{RunId, Seq};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Runs over one key in an upper level that are left alone.
pub(crate) const LEVEL_RUNS_MAX: usize = 4;

/// The upper levels are merged into the last one when they come to this fraction of it.
///
/// Random inserts rewrite the last level once for each such part that it grows by: 20 M rows were written 4.6 times with a quarter and
/// 4.3 times with a third, the log included (`benches/peers`). The larger the part, the more space old versions take.
const LAST_FRACTION: u64 = 3;

/// Tombstones go down when they come to this fraction of the rows that they may hide.
const TOMBSTONE_FRACTION: u64 = 4;

/// A gap of the last level is worth runs of its own from this fraction of a run on.
const PIECE_FRACTION: u64 = 8;

/// A step into an upper level ends, where it can, once it has this fraction of a run.
const STEP_FRACTION: u64 = 4;

/// Flushed runs over one key at which writers begin to be slowed down, and at which they are as slow as they get.
const BACKLOG_RUNS: (usize, usize) = (12, 36);

/// Memtables' worth of upper runs that are no debt, however small the last level is.
const BACKLOG_MEMTABLES: u64 = 16;

/// What stands for "as bad as it gets" in [`pressure`].
pub(crate) const PRESSURE_MAX: u64 = 1000;

/// What the policy must know of the inside of runs.
pub(crate) trait Survey {
    /// About how many bytes `run` has within `span`; 0 only where it has no row there.
    fn bytes_in(&self, run: &Arc<RunRef>, span: &Span) -> Result<u64>;

    /// A key before which lies about one of `parts` equal parts of what `runs` have within `span`, if there is one.
    fn cut(&self, runs: &[Arc<RunRef>], span: &Span, parts: usize) -> Result<Option<Key>>;
}

/// What is to be begun.
#[derive(Debug, Clone)]
pub(crate) enum Job {
    /// The run goes to the last level as it is.
    Move(Arc<RunRef>),
    Merge(Round),
}

/// A merge of upper runs, with what the last level has there or into a higher level: see the module.
#[derive(Debug, Clone)]
pub(crate) struct Round {
    /// What is left of the upper runs, newest first.
    inputs: Vec<Arc<RunRef>>,
    /// Where their rows go.
    level: u8,
    /// The level that was full; the last one for what goes there. Lower ones come first.
    source: u8,
    /// Keys before this are done.
    done: Edge,
    /// The last key of all inputs.
    end: Edge,
    /// The highest number in them.
    newest: Seq,
    /// Keys whose rows were merged, of inputs that are there still or have gone.
    merged: Vec<Span>,
}

/// One bounded part of a round.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// The keys that are merged.
    pub(crate) span: Span,
    /// The upper runs that have them, newest first; none where nothing is left to be merged.
    pub(crate) upper: Vec<Arc<RunRef>>,
    /// The runs of the last level that take them in; none where nothing is to be merged, for then nothing is written. What
    /// these have before and behind the span is written again as it is.
    pub(crate) last: Vec<Arc<RunRef>>,
    pub(crate) level: u8,
    /// Runs that go when the step's output is published.
    pub(crate) gone: Vec<Arc<RunRef>>,
}

impl Step {
    /// A run of the last level, written again without what deleted ranges hide of it.
    pub(crate) fn rewrite(run: &Arc<RunRef>) -> Step {
        let runs = || vec![Arc::clone(run)];
        Step { span: run.span(), upper: Vec::new(), last: runs(), level: LAST_LEVEL, gone: runs() }
    }

    /// The keys where deleted ranges do their work in this step: those that its upper runs cover. What the last level has
    /// elsewhere may be newer than a range in front of it, put there by another round whose inputs hide it still.
    pub(crate) fn merged(&self) -> Vec<Span> {
        let runs = if self.upper.is_empty() { &self.last } else { &self.upper };
        let spans = runs.iter().map(|run| run.span().intersect(&self.span));
        union(spans.filter(|span| !span.is_empty()))
    }
}

fn min_seq(run: &RunRef) -> Seq {
    run.fixed_seq.unwrap_or(run.run.meta().min_seq)
}

fn meet(a: &RunRef, b: &RunRef) -> bool {
    a.first_key() <= b.last_key() && b.first_key() <= a.last_key()
}

fn bytes_of<'a>(runs: impl IntoIterator<Item = &'a Arc<RunRef>>) -> u64 {
    runs.into_iter().map(|run| run.bytes()).sum()
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
    runs.sort_by_key(|run| Reverse((run.max_seq(), run.id())));
    runs
}

/// The runs of the last level among the keys from `first` to `last`.
fn last_within<'a>(tree: &'a Tree, first: &[u8], last: &[u8]) -> &'a [Arc<RunRef>] {
    let from = tree.last.partition_point(|run| run.last_key() < first);
    let to = tree.last.partition_point(|run| run.first_key() <= last);
    tree.last.get(from..to.max(from)).unwrap_or_default()
}

/// The most runs that lie over one key.
fn depth<'a>(runs: impl IntoIterator<Item = &'a Arc<RunRef>>) -> usize {
    // Of a key's edges the first keys come first.
    let mut edges: Vec<(&[u8], bool)> = Vec::new();
    for run in runs {
        edges.extend([(run.first_key(), false), (run.last_key(), true)]);
    }
    edges.sort_unstable();
    let (mut open, mut most) = (0usize, 0);
    for (_, ends) in edges {
        open = if ends { open.saturating_sub(1) } else { open + 1 };
        most = open.max(most);
    }
    most
}

/// Runs by the stretches of keys that they cover together.
fn clusters(mut runs: Vec<&Arc<RunRef>>) -> Vec<Vec<&Arc<RunRef>>> {
    runs.sort_by_key(|run| run.first_key());
    let mut out: Vec<Vec<&Arc<RunRef>>> = Vec::new();
    let mut end: &[u8] = &[];
    for run in runs {
        match out.last_mut() {
            Some(cluster) if run.first_key() <= end => cluster.push(run),
            _ => {
                end = &[];
                out.push(vec![run]);
            }
        }
        end = end.max(run.last_key());
    }
    out
}

/// Runs, the keys between their first and last, and their numbers.
#[derive(Debug, Clone)]
struct Group<'a> {
    /// Newest first.
    runs: Vec<&'a Arc<RunRef>>,
    first: &'a [u8],
    last: &'a [u8],
    oldest: Seq,
    newest: Seq,
}

impl<'a> Group<'a> {
    /// `seeds` with all of `settled` that lies over their keys and whose numbers mix with theirs, or, where `older` says
    /// so, are lower.
    fn around(seeds: &[&'a Arc<RunRef>], settled: &[&'a Arc<RunRef>], older: bool) -> Option<Group<'a>> {
        let one = *seeds.first()?;
        let (first, last) = (one.first_key(), one.last_key());
        let mut group = Group { runs: Vec::new(), first, last, oldest: min_seq(one), newest: one.max_seq() };
        seeds.iter().copied().for_each(|run| group.take(run));
        let ids: BTreeSet<RunId> = seeds.iter().map(|run| run.id()).collect();
        let mut rest: Vec<&'a Arc<RunRef>> = settled.iter().copied().filter(|run| !ids.contains(&run.id())).collect();
        loop {
            let before = group.runs.len();
            rest.retain(|&run| {
                let over = run.first_key() <= group.last && group.first <= run.last_key();
                let mixed = min_seq(run) <= group.newest && (older || run.max_seq() >= group.oldest);
                if over && mixed {
                    group.take(run);
                }
                !(over && mixed)
            });
            if group.runs.len() == before {
                break;
            }
        }
        group.runs.sort_by_key(|run| Reverse((run.max_seq(), run.id())));
        Some(group)
    }

    fn take(&mut self, run: &'a Arc<RunRef>) {
        self.first = self.first.min(run.first_key());
        self.last = self.last.max(run.last_key());
        self.oldest = self.oldest.min(min_seq(run));
        self.newest = self.newest.max(run.max_seq());
        self.runs.push(run);
    }

    fn tombstones(&self) -> u64 {
        self.runs.iter().map(|run| run.run.meta().tombstones).sum()
    }

    /// Whether its runs come to so much that they are worth being merged with what is below.
    fn is_heavy(&self, below: &[Arc<RunRef>]) -> bool {
        let rows: u64 = below.iter().map(|run| run.rows()).sum();
        let below = bytes_of(below);
        let hidden = self.tombstones().saturating_mul(below.checked_div(rows).unwrap_or(0));
        bytes_of(self.runs.iter().copied()).saturating_add(hidden) >= below / LAST_FRACTION
    }

    /// Whether its tombstones alone do.
    fn is_dead(&self, below: &[Arc<RunRef>]) -> bool {
        let rows: u64 = below.iter().map(|run| run.rows()).sum();
        self.tombstones() >= rows / TOMBSTONE_FRACTION
    }

    fn round(&self, source: u8, level: u8) -> Round {
        let source = if level == LAST_LEVEL { LAST_LEVEL } else { source };
        let end = Edge::At(self.last.into(), true);
        let inputs = self.runs.iter().copied().cloned().collect();
        Round { inputs, level, source, done: Edge::Start, end, newest: self.newest, merged: Vec::new() }
    }
}

/// A run whose tombstones are a good part of it.
fn is_mostly_dead(run: &RunRef) -> bool {
    let meta = run.run.meta();
    meta.tombstones > 0 && meta.tombstones >= meta.rows / TOMBSTONE_FRACTION
}

/// Flushed memtables are in row shape; the last level is in column shape.
fn can_move(run: &RunRef) -> bool {
    let in_columns = run.fixed_seq.is_some() || run.level > 0;
    run.run.meta().tombstones == 0 && in_columns
}

/// Everything that forces a table into its last level. Rounds that were under way must be given up before.
pub(crate) fn all(tree: &Tree) -> Vec<Job> {
    let mut jobs = Vec::new();
    let mut left = settled(tree);
    while let Some(seed) = left.first().copied() {
        let Some(group) = Group::around(&[seed], &left, true) else { break };
        let taken: BTreeSet<RunId> = group.runs.iter().map(|run| run.id()).collect();
        left.retain(|run| !taken.contains(&run.id()));
        jobs.push(match group.runs.as_slice() {
            [only] if can_move(only) && last_within(tree, group.first, group.last).is_empty() => {
                Job::Move(Arc::clone(only))
            }
            _ => Job::Merge(group.round(LAST_LEVEL, LAST_LEVEL)),
        });
    }
    jobs
}

/// What a tree asks for, beside the rounds that are under way.
struct Choice<'a> {
    tree: &'a Tree,
    settled: Vec<&'a Arc<RunRef>>,
    /// The highest number that a round under way has, if there is one.
    taken: Option<Seq>,
}

impl<'a> Choice<'a> {
    fn new(tree: &'a Tree, rounds: &[Round]) -> Choice<'a> {
        let taken = rounds.iter().map(|round| round.newest).max();
        Choice { tree, settled: settled(tree), taken }
    }

    /// Whether it belongs to no round, and is newer than all that do.
    fn is_free(&self, run: &RunRef) -> bool {
        self.taken.is_none_or(|newest| min_seq(run) > newest)
    }

    fn free(&self) -> impl Iterator<Item = &'a Arc<RunRef>> + '_ {
        self.settled.iter().copied().filter(|run| self.is_free(run))
    }

    fn below(&self, group: &Group<'_>) -> &'a [Arc<RunRef>] {
        last_within(self.tree, group.first, group.last)
    }

    /// A run that may go to the last level as it is.
    fn movable(&self) -> Option<&'a Arc<RunRef>> {
        let alone = |run: &&Arc<RunRef>| {
            let newer_or_apart =
                |other: &&Arc<RunRef>| other.id() == run.id() || min_seq(other) > run.max_seq() || !meet(other, run);
            last_within(self.tree, run.first_key(), run.last_key()).is_empty()
                && self.settled.iter().all(newer_or_apart)
        };
        self.free().filter(|run| can_move(run)).find(alone)
    }

    /// The runs of a level that are too many. They cover their keys without a gap: a load may put a run into a gap of the last
    /// level while a step is being written, and the step's output must not reach over it.
    fn full(&self, level: u8) -> Option<Vec<&'a Arc<RunRef>>> {
        let runs: Vec<&Arc<RunRef>> = self.free().filter(|run| run.level == level).collect();
        if level > 0 {
            return clusters(runs).into_iter().find(|cluster| depth(cluster.iter().copied()) >= LEVEL_RUNS_MAX);
        }
        match runs.len() >= LEVEL_RUNS_MAX {
            true => clusters(runs).into_iter().max_by_key(Vec::len),
            false => None,
        }
    }

    /// The round that such runs need.
    fn round(&self, level: u8, seeds: &[&'a Arc<RunRef>]) -> Option<Round> {
        let down = Group::around(seeds, &self.settled, true)?;
        let may_go_down = down.runs.iter().all(|run| self.is_free(run));
        let group = Group::around(seeds, &self.settled, false)?;
        let next = group.runs.iter().map(|run| run.level).max().unwrap_or(level).max(level + 1);
        match may_go_down && (next >= LAST_LEVEL || down.is_heavy(self.below(&down))) {
            true => Some(down.round(level, LAST_LEVEL)),
            false if next < LAST_LEVEL => Some(group.round(level, next)),
            false => None,
        }
    }

    /// The round of the lowest level below `ceiling` that is full.
    fn fullest(&self, ceiling: u8) -> Option<Round> {
        (0..ceiling).find_map(|level| self.round(level, &self.full(level)?))
    }

    /// A round for tombstones.
    fn burial(&self) -> Option<Round> {
        let dead = self.free().filter(|run| is_mostly_dead(run));
        let mut groups = dead.filter_map(|run| Group::around(&[run], &self.settled, true));
        groups.find(|group| group.is_dead(self.below(group))).map(|group| group.round(LAST_LEVEL, LAST_LEVEL))
    }

    /// A round for what is old.
    fn aged(&self, is_old: &dyn Fn(&RunRef) -> bool) -> Option<Round> {
        let old = self.free().find(|run| is_old(run))?;
        Group::around(&[old], &self.settled, true).map(|group| group.round(LAST_LEVEL, LAST_LEVEL))
    }
}

/// What should be begun now, beside `rounds`; nothing where the table is in good order, or what is under way comes first.
pub(crate) fn due(tree: &Tree, rounds: &[Round], is_old: &dyn Fn(&RunRef) -> bool) -> Option<Job> {
    if tree.upper.is_empty() {
        return None;
    }
    let choice = Choice::new(tree, rounds);
    if let Some(run) = choice.movable() {
        return Some(Job::Move(Arc::clone(run)));
    }
    // Rounds of higher levels wait for those of lower ones.
    let ceiling = rounds.iter().map(|round| round.source).min().unwrap_or(LAST_LEVEL);
    let quiet = || if rounds.is_empty() { choice.burial().or_else(|| choice.aged(is_old)) } else { None };
    choice.fullest(ceiling.min(LAST_LEVEL)).or_else(quiet).map(Job::Merge)
}

/// Bytes that are to be read and written again until the table is in good order.
pub(crate) fn debt(tree: &Tree, rounds: &[Round]) -> u64 {
    let left: u64 = rounds.iter().map(|round| round.left(tree)).sum();
    let choice = Choice::new(tree, rounds);
    let next = choice.fullest(LAST_LEVEL).or_else(|| choice.burial());
    left + next.map_or(0, |round| round.left(tree))
}

/// How far `now` is on the way from `from` to `to`, out of [`PRESSURE_MAX`].
pub(crate) fn share(now: u64, from: u64, to: u64) -> u64 {
    let way = u128::from(to.max(from.saturating_add(1)) - from);
    let gone = u128::from(now.saturating_sub(from)) * u128::from(PRESSURE_MAX) / way;
    u64::try_from(gone).unwrap_or(u64::MAX).min(PRESSURE_MAX)
}

/// How far merges of a table have fallen behind, out of [`PRESSURE_MAX`]: 0 in ordinary operation.
pub(crate) fn pressure(tree: &Tree, memtable_bytes: u64) -> u64 {
    let wide = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let flushed = wide(depth(tree.upper_runs().filter(|run| run.level == 0)));
    let by_runs = share(flushed, wide(BACKLOG_RUNS.0), wide(BACKLOG_RUNS.1));
    let allowed = (bytes_of(&tree.last) / 2).max(memtable_bytes.saturating_mul(BACKLOG_MEMTABLES)).max(1);
    let by_bytes = share(bytes_of(tree.upper_runs()), allowed, allowed.saturating_mul(2));
    by_runs.max(by_bytes)
}

/// A stretch of keys of a round, on the way to a step.
struct Gathered {
    from: Edge,
    to: Edge,
    bytes: u64,
    last: Vec<Arc<RunRef>>,
}

impl Round {
    /// The level that it relieves: rounds of lower ones come first.
    pub(crate) fn source(&self) -> u8 {
        self.source
    }

    pub(crate) fn is_done(&self) -> bool {
        self.inputs.is_empty()
    }

    /// Bytes of its inputs, and of what the last level has there, that are not done.
    fn left(&self, tree: &Tree) -> u64 {
        let ahead = |run: &&Arc<RunRef>| run.span().to > self.done;
        let within = |run: &&Arc<RunRef>| self.level == LAST_LEVEL && run.span().from < self.end;
        let upper = bytes_of(self.inputs.iter().filter(ahead));
        let first = self.inputs.iter().map(|run| run.first_key()).min().unwrap_or_default();
        let last = self.inputs.iter().map(|run| run.last_key()).max().unwrap_or_default();
        upper + bytes_of(last_within(tree, first, last).iter().filter(ahead).filter(within))
    }

    /// Its next step in `tree`, with runs of about `run_bytes`.
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) fn step(&self, tree: &Tree, survey: &dyn Survey, run_bytes: u64) -> Result<Step> {
        let gathered = self.gather(tree, survey, run_bytes)?;
        let span = Span { from: gathered.from, to: gathered.to };
        let has_rows = |run: &&Arc<RunRef>| gathered.bytes > 0 && run.overlaps(&span);
        let upper: Vec<_> = self.inputs.iter().filter(has_rows).cloned().collect();
        // A stretch may have been cut before the first row of all inputs: then the last level keeps what it has.
        let last = if upper.is_empty() { Vec::new() } else { gathered.last };
        let gone = self.gone(&span.to).into_iter().chain(last.iter().cloned()).collect();
        Ok(Step { span, upper, last, level: self.level, gone })
    }

    /// Keys that were merged with all that the last level had there, without what a range of number `seq` hides. It was there
    /// from the round's first step on if it is no newer than the inputs.
    pub(crate) fn merged_under(&self, seq: Seq) -> &[Span] {
        if seq <= self.newest { &self.merged } else { &[] }
    }

    /// Forgets inputs that `tree` has no more, as all their rows were deleted.
    pub(crate) fn keep_those_in(&mut self, tree: &Tree) {
        self.inputs.retain(|run| tree.upper_runs().any(|other| other.id() == run.id()));
    }

    /// Nothing is left to be done.
    pub(crate) fn give_up(&mut self) {
        self.inputs.clear();
    }

    /// After a step was published.
    pub(crate) fn advance(&mut self, step: &Step) {
        self.merged = union(self.merged.drain(..).chain(step.merged()));
        self.done = step.span.to.clone();
        self.inputs.retain(|run| step.gone.iter().all(|gone| gone.id() != run.id()));
    }

    /// Inputs that are not needed once the keys before `done` are: every older input among their keys goes with them.
    fn gone(&self, done: &Edge) -> Vec<Arc<RunRef>> {
        let (mut gone, mut kept): (Vec<Arc<RunRef>>, Vec<&Arc<RunRef>>) = (Vec::new(), Vec::new());
        for run in self.inputs.iter().rev() {
            match run.span().to <= *done && kept.iter().all(|older| !meet(older, run)) {
                true => gone.push(Arc::clone(run)),
                false => kept.push(run),
            }
        }
        gone
    }

    fn gather(&self, tree: &Tree, survey: &dyn Survey, run_bytes: u64) -> Result<Gathered> {
        let weigh = |span: &Span| -> Result<u64> {
            if span.is_empty() {
                return Ok(0);
            }
            self.inputs.iter().try_fold(0u64, |sum, run| Ok(sum.saturating_add(survey.bytes_in(run, span)?)))
        };
        let to_last = self.level == LAST_LEVEL;
        let piece = (run_bytes / PIECE_FRACTION).max(1);
        let mut now = Gathered { from: self.done.clone(), to: self.done.clone(), bytes: 0, last: Vec::new() };
        let first = tree.last.partition_point(|run| run.span().to <= self.done);
        for run in tree.last.iter().skip(first) {
            let of_run = run.span();
            if of_run.from >= self.end {
                break;
            }
            let gap = Span { from: now.to.clone(), to: of_run.from };
            let in_gap = weigh(&gap)?;
            if in_gap >= piece {
                return if now.bytes > 0 { Ok(now) } else { self.within(gap, in_gap, survey, run_bytes) };
            }
            let stretch = Span { from: now.to.clone(), to: of_run.to };
            let upper = weigh(&stretch)?;
            if upper == 0 && (to_last || now.bytes == 0) {
                if now.bytes > 0 {
                    return Ok(now);
                }
                (now.from, now.to) = (stretch.to.clone(), stretch.to);
                continue;
            }
            let bytes = if to_last { upper.saturating_add(run.bytes()) } else { upper };
            if now.bytes > 0 && now.bytes.saturating_add(bytes) > run_bytes {
                return Ok(now);
            }
            if upper > run_bytes {
                let part = self.within(stretch, upper, survey, run_bytes)?;
                let last = if to_last { vec![Arc::clone(run)] } else { Vec::new() };
                return Ok(Gathered { last, ..part });
            }
            now.to = stretch.to;
            now.bytes = now.bytes.saturating_add(bytes);
            if to_last {
                now.last.push(Arc::clone(run));
            } else if now.bytes >= run_bytes / STEP_FRACTION {
                return Ok(now);
            }
        }
        let tail = Span { from: now.to.clone(), to: (&self.end).max(&now.to).clone() };
        let bytes = weigh(&tail)?;
        if now.bytes > 0 && bytes >= piece {
            return Ok(now);
        }
        if now.bytes == 0 && bytes > 0 {
            return self.within(tail, bytes, survey, run_bytes);
        }
        Ok(Gathered { to: tail.to, bytes: now.bytes.saturating_add(bytes), ..now })
    }

    /// The first part of a stretch, of about `run_bytes`.
    fn within(&self, span: Span, bytes: u64, survey: &dyn Survey, run_bytes: u64) -> Result<Gathered> {
        let parts = usize::try_from(bytes.div_ceil(run_bytes.max(1))).unwrap_or(usize::MAX);
        let cut = if parts > 1 { survey.cut(&self.inputs, &span, parts)? } else { None };
        let to = cut.map(|key| Edge::At(key, false)).filter(|cut| *cut > span.from && *cut < span.to);
        Ok(Gathered { from: span.from, to: to.unwrap_or(span.to), bytes, last: Vec::new() })
    }
}

#[cfg(test)]
mod tests;
