/*!
A table's rows at one moment: its memtables and runs, newest first. A tree never changes; a new one takes its place. Who
holds one, reads on from what it names, and a run's file goes when the last tree that names it is gone.

Age decides which version of a key counts: [`Tree::sources`] stand newest first, and no source holds a version older than
one of the same key in a source behind it. So a reader needs no sequence number but within a memtable. A run holds only
what was visible when it was published, and of each key only the newest.

The runs of the last level are disjoint and sorted by key.
*/

use crate::io::IoRef;
use crate::memtable::Memtable;
use crate::run::{Run, RunSchema};
use crate::scan::plan::Span;
use crate::types::{RunId, Seq};
use crate::wal::Lsn;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The level of the one sorted sequence of disjoint runs that holds most of a table.
pub const LAST_LEVEL: u8 = 7;

/// A run's file, removed with the last reader once the run is no longer wanted.
#[derive(Debug)]
pub(crate) struct RunFile {
    io: IoRef,
    path: PathBuf,
    doomed: AtomicBool,
}

impl RunFile {
    pub(crate) fn new(io: &IoRef, path: PathBuf, doomed: bool) -> Arc<Self> {
        Arc::new(RunFile { io: Arc::clone(io), path, doomed: AtomicBool::new(doomed) })
    }
}

impl Drop for RunFile {
    fn drop(&mut self) {
        if self.doomed.load(Ordering::Acquire) {
            // A file that stays is an orphan, which the next open removes.
            let _ = self.io.remove_file(&self.path);
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

    /// The file goes when the last reader does, or at once where there is none.
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

/// A memtable with what the log must keep for it.
#[derive(Debug)]
pub(crate) struct Mem {
    pub(crate) table: Arc<Memtable>,
    /// Where the log record of its first row begins; `u64::MAX` while it is empty.
    first_lsn: AtomicU64,
}

impl Mem {
    pub(crate) fn new(id: u64) -> Arc<Self> {
        Arc::new(Mem { table: Arc::new(Memtable::new(id)), first_lsn: AtomicU64::new(u64::MAX) })
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
}

impl Tree {
    /// Everything, newest first.
    pub(crate) fn sources(&self) -> impl Iterator<Item = Source> + '_ {
        let last = self.last.iter().map(|run| Source::Run(Arc::clone(run)));
        std::iter::once(Source::Mem(Arc::clone(&self.active))).chain(self.upper.iter().cloned()).chain(last)
    }

    pub(crate) fn mems(&self) -> impl Iterator<Item = &Arc<Mem>> {
        std::iter::once(&self.active).chain(self.immutables())
    }

    /// Full memtables, newest first.
    pub(crate) fn immutables(&self) -> impl DoubleEndedIterator<Item = &Arc<Mem>> {
        self.upper.iter().filter_map(|source| match source {
            Source::Mem(mem) => Some(mem),
            Source::Run(_) => None,
        })
    }

    pub(crate) fn upper_runs(&self) -> impl Iterator<Item = &Arc<RunRef>> {
        self.upper.iter().filter_map(|source| match source {
            Source::Run(run) => Some(run),
            Source::Mem(_) => None,
        })
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
        if !self.active.table.is_empty() {
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
