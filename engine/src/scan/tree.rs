/*!
A table's rows at one moment: its memtables and runs, newest first. A tree never changes; a new one takes its place. Who
holds one, reads on from what it names, and a run's file goes once the last tree that names it is gone.

Age decides which version of a key counts: [`Tree::sources`] stand newest first, and of the sources that hold a key the first
one has the newest version. So a reader needs no sequence number but within a memtable. A run holds only
what was visible when it was published, and of each key only the newest.

The runs of the last level are disjoint and sorted by key.

A deleted range of keys is a source like another: it has no rows, and whoever meets it knows that no row of its keys lies
behind it. A memtable holds ranges of its own, each with the number of its commit: there alone a row may be older than a
range beside it. They stand behind the memtable, whose readers leave out the rows that its own ranges have deleted. When it
is flushed, those rows are gone, and its ranges take their place behind its runs. Sorted by their highest numbers, runs
before ranges, sources keep their order through reopening: a run with rows newer than a range has a number no lower, and in
any other the range deletes nothing, wherever it stands.
*/

use crate::io::sync::Mutex;
use crate::lease::{Leases, Numbered};
use crate::memtable::Memtable;
use crate::run::{Found, Run, RunSchema, file_path};
use crate::scan::plan::Span;
use crate::scan::probes::Probes;
use crate::types::{RunId, Seq};
use crate::wal::Lsn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// The level of the one sorted sequence of disjoint runs that holds most of a table.
pub const LAST_LEVEL: u8 = 7;

/// A run's file, removed when this is dropped once the run is no longer wanted. In a reader process it holds the lease that
/// keeps it.
#[derive(Debug)]
pub(crate) struct RunFile {
    leases: Arc<Leases>,
    id: RunId,
    doomed: AtomicBool,
}

impl RunFile {
    pub(crate) fn new(leases: &Arc<Leases>, id: RunId, doomed: bool) -> Arc<Self> {
        Arc::new(RunFile { leases: Arc::clone(leases), id, doomed: AtomicBool::new(doomed) })
    }
}

impl Drop for RunFile {
    fn drop(&mut self) {
        if self.doomed.load(Ordering::Acquire) {
            // A file that stays is an orphan, which the next open removes.
            let _ = self.leases.remove([(Numbered::Run(self.id.0), file_path(self.leases.dir(), self.id))]);
        }
    }
}

/// A run in its place in a tree.
#[derive(Debug)]
pub(crate) struct RunRef {
    pub(crate) run: Arc<Run>,
    pub(crate) level: u8,
    /// The number of the commit that published it, where its rows were written before that was known.
    pub(crate) fixed_seq: Option<Seq>,
    pub(crate) file: Arc<RunFile>,
}

impl RunRef {
    pub(crate) fn id(&self) -> RunId {
        self.run.meta().id
    }

    pub(crate) fn span(&self) -> Span {
        Span::closed(self.first_key(), self.last_key())
    }

    /// Whether it may have rows in `span`.
    pub(crate) fn overlaps(&self, span: &Span) -> bool {
        span.overlaps_keys(self.first_key(), self.last_key())
    }

    pub(crate) fn first_key(&self) -> &[u8] {
        self.run.meta().min_key.as_ref()
    }

    pub(crate) fn last_key(&self) -> &[u8] {
        self.run.meta().max_key.as_ref()
    }

    pub(crate) fn max_seq(&self) -> Seq {
        self.fixed_seq.unwrap_or(self.run.meta().max_seq)
    }

    pub(crate) fn rows(&self) -> u64 {
        self.run.meta().rows
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.run.meta().bytes
    }

    /// The number of a row that was found, if it was asked for.
    pub(crate) fn seq_of(&self, found: &Found) -> Option<Seq> {
        self.fixed_seq.or(found.seq)
    }

    /// The file goes with the last reference to the run.
    pub(crate) fn doom(&self) {
        self.file.doomed.store(true, Ordering::Release);
    }

    /// The file stays: the run was published.
    pub(crate) fn keep(&self) {
        self.file.doomed.store(false, Ordering::Release);
    }

    /// The same run in another place.
    pub(crate) fn moved(&self, level: u8, fixed_seq: Option<Seq>) -> Arc<RunRef> {
        Arc::new(RunRef { run: Arc::clone(&self.run), level, fixed_seq, file: Arc::clone(&self.file) })
    }
}

/// A range of keys whose rows were deleted by one commit. Older rows of these keys do not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Erased {
    pub(crate) span: Span,
    pub(crate) seq: Seq,
}

/// Whether a row of number `row` was deleted by a range of number `erased` in the same memtable. A commit's own rows are newer
/// than its ranges.
pub(crate) fn is_erased(row: Seq, erased: Seq) -> bool {
    row < erased || mutant!(ErasedRangeAppliedToNewer)
}

/// A memtable with what the log must keep for it.
#[derive(Debug)]
pub(crate) struct Mem {
    pub(crate) table: Arc<Memtable>,
    /// Deleted ranges, oldest first.
    erased: Mutex<Vec<Arc<Erased>>>,
    /// How many there are, so that those who meet none take no lock.
    erased_len: AtomicUsize,
    /// Where the log record of its first row or range begins; `u64::MAX` while it is empty.
    first_lsn: AtomicU64,
}

impl Mem {
    pub(crate) fn new(id: u64) -> Arc<Self> {
        Arc::new(Mem {
            table: Arc::new(Memtable::new(id)),
            erased: Mutex::new(Vec::new()),
            erased_len: AtomicUsize::new(0),
            first_lsn: AtomicU64::new(u64::MAX),
        })
    }

    /// Deletes a range. Numbers must not go back from call to call, and nobody may read at this one before it is done.
    pub(crate) fn erase(&self, span: Span, seq: Seq) {
        let mut erased = self.erased.lock();
        erased.push(Arc::new(Erased { span, seq }));
        self.erased_len.store(erased.len(), Ordering::Release);
    }

    /// Deleted ranges, newest first.
    pub(crate) fn erased(&self) -> Vec<Arc<Erased>> {
        match self.erased_len() {
            0 => Vec::new(),
            _ => self.erased.lock().iter().rev().cloned().collect(),
        }
    }

    pub(crate) fn erased_len(&self) -> usize {
        self.erased_len.load(Ordering::Acquire)
    }

    /// The newest range at or below `at` that holds `key`: its number.
    pub(crate) fn erased_at(&self, key: &[u8], at: Seq) -> Option<Seq> {
        if self.erased_len() == 0 {
            return None;
        }
        let erased = self.erased.lock();
        erased.iter().rev().find(|erased| erased.seq <= at && erased.span.contains(key)).map(|erased| erased.seq)
    }

    /// Whether it has neither rows nor deleted ranges.
    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty() && self.erased_len() == 0
    }

    /// The highest number of a row or a range; 0 where there is none.
    pub(crate) fn max_seq(&self) -> Seq {
        let newest = self.erased().first().map_or(0, |erased| erased.seq);
        self.table.max_seq().max(newest)
    }

    /// Notes that a record at `lsn` is about to be put in.
    pub(crate) fn needs(&self, lsn: Lsn) {
        self.first_lsn.fetch_min(lsn, Ordering::AcqRel);
    }

    /// The first record of the log that is needed for it.
    pub(crate) fn first_lsn(&self) -> Option<Lsn> {
        Some(self.first_lsn.load(Ordering::Acquire)).filter(|lsn| *lsn != u64::MAX)
    }
}

/// One source of rows.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Mem(Arc<Mem>),
    Run(Arc<RunRef>),
    /// Nothing behind it counts, of its keys.
    Erased(Arc<Erased>),
}

impl Source {
    /// Whether nobody else has it: then nobody will, since only trees hand it out.
    pub(crate) fn is_ours_alone(&self) -> bool {
        match self {
            Source::Mem(mem) => Arc::strong_count(mem) == 1 && Arc::strong_count(&mem.table) == 1,
            Source::Run(run) => {
                [Arc::strong_count(run), Arc::strong_count(&run.run), Arc::strong_count(&run.file)] == [1; 3]
            }
            Source::Erased(erased) => Arc::strong_count(erased) == 1,
        }
    }

    /// The source, and behind a memtable its deleted ranges.
    fn with_ranges(self) -> impl Iterator<Item = Source> {
        let ranges = match &self {
            Source::Mem(mem) => mem.erased(),
            Source::Run(_) | Source::Erased(_) => Vec::new(),
        };
        std::iter::once(self).chain(ranges.into_iter().map(Source::Erased))
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    pub(crate) schema: Arc<RunSchema>,
    /// Takes the rows of commits.
    pub(crate) active: Arc<Mem>,
    /// Full memtables and the runs of the upper levels, newest first.
    pub(crate) upper: Vec<Source>,
    /// The last level, by key.
    pub(crate) last: Vec<Arc<RunRef>>,
    /// How often memtables were flushed and runs merged: what was deleted may be forgotten since.
    pub(crate) rewrites: u64,
    /// What lookups came to, of this tree and those before it.
    pub(crate) probes: Arc<Probes>,
}

impl Tree {
    /// Everything, newest first.
    pub(crate) fn sources(&self) -> impl Iterator<Item = Source> + '_ {
        let last = self.last.iter().map(|run| Source::Run(Arc::clone(run)));
        let active = std::iter::once(Source::Mem(Arc::clone(&self.active)));
        active.chain(self.upper.iter().cloned()).flat_map(Source::with_ranges).chain(last)
    }

    pub(crate) fn mems(&self) -> impl Iterator<Item = &Arc<Mem>> {
        std::iter::once(&self.active).chain(self.immutables())
    }

    /// Full memtables, newest first.
    pub(crate) fn immutables(&self) -> impl DoubleEndedIterator<Item = &Arc<Mem>> {
        self.upper.iter().filter_map(|source| match source {
            Source::Mem(mem) => Some(mem),
            Source::Run(_) | Source::Erased(_) => None,
        })
    }

    pub(crate) fn upper_runs(&self) -> impl Iterator<Item = &Arc<RunRef>> {
        self.upper.iter().filter_map(|source| match source {
            Source::Run(run) => Some(run),
            Source::Mem(_) | Source::Erased(_) => None,
        })
    }

    /// Deleted ranges, those of memtables too.
    pub(crate) fn erased_ranges(&self) -> usize {
        let own = self.upper.iter().filter(|source| matches!(source, Source::Erased(_))).count();
        own + self.mems().map(|mem| mem.erased_len()).sum::<usize>()
    }

    pub(crate) fn runs(&self) -> impl Iterator<Item = &Arc<RunRef>> {
        self.upper_runs().chain(&self.last)
    }

    /// The run of the last level that may hold `key`.
    pub(crate) fn last_run_of(&self, key: &[u8]) -> Option<&Arc<RunRef>> {
        let after = self.last.partition_point(|run| run.first_key() <= key);
        let run = self.last.get(after.checked_sub(1)?)?;
        (key <= run.last_key()).then_some(run)
    }

    /// With the active memtable set aside and an empty one in its place; the same where it is empty.
    #[must_use]
    pub(crate) fn rotated(&self, fresh: Arc<Mem>) -> Tree {
        let mut next = self.clone();
        if !self.active.is_empty() {
            next.upper.insert(0, Source::Mem(Arc::clone(&self.active)));
            next.active = fresh;
        }
        next
    }

    /// Puts runs into the last level, which they must not overlap.
    pub(crate) fn add_last(&mut self, runs: impl IntoIterator<Item = Arc<RunRef>>) {
        self.last.extend(runs);
        self.last.sort_by(|a, b| a.first_key().cmp(b.first_key()));
    }
}
