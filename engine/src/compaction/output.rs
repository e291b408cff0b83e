/*!
Streams of rows into run files: what flushes, merges and bulk loads share.

A run made here is nobody's until it is published: dropped before that, its file goes with it. A write or sync that fails for
another reason than space is remembered all the same ([`Output::failure`]): the device is not to be trusted with more.
*/

use crate::cache::Cache;
use crate::error::{ErrorKind, Result};
use crate::io::sync::FirstFailure;
use crate::lease::Leases;
use crate::model::IndexChoice;
use crate::run::{Layout, Run, RunMeta, RunOptions, RunSchema, RunWriter};
use crate::scan::merge::RowStream;
use crate::scan::tree::{RunFile, RunRef};
use crate::types::{LayoutChoice, RunId, Seq};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where runs are made, and their numbers.
#[derive(Debug)]
pub(crate) struct Output {
    leases: Arc<Leases>,
    cache: Arc<Cache>,
    index: IndexChoice,
    run_bytes_max: u64,
    next_run: AtomicU64,
    written: AtomicU64,
    failure: FirstFailure,
}

/// How runs are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) layout: Layout,
    pub(crate) level: u8,
    /// The number of all rows, where that is one; it may be given later.
    pub(crate) fixed_seq: Option<Seq>,
    /// Encoder threads beside the caller's.
    pub(crate) threads: usize,
    /// Whether the runs get filters.
    pub(crate) filter: bool,
    /// The runs will be merged before long: writing them fast counts for more than their size.
    pub(crate) short_lived: bool,
}

/// How a table's runs are written, whatever they come from.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Manner {
    /// Whether they get filters.
    pub(crate) filter: bool,
    pub(crate) layout: LayoutChoice,
}

impl Shape {
    /// Of a memtable's rows.
    pub(crate) fn of_flush(manner: Manner) -> Shape {
        Shape { layout: Layout::chosen(manner.layout, Layout::Row), short_lived: true, ..Shape::of_level(0, manner) }
    }

    /// Of rows that were merged or sorted.
    pub(crate) fn of_level(level: u8, manner: Manner) -> Shape {
        let layout = Layout::chosen(manner.layout, Layout::Column);
        Shape { layout, level, fixed_seq: None, threads: 0, filter: manner.filter, short_lived: false }
    }
}

impl Output {
    pub(crate) fn new(
        leases: Arc<Leases>,
        cache: Arc<Cache>,
        index: IndexChoice,
        run_bytes_max: u64,
        next_run: u64,
    ) -> Self {
        let (next_run, written) = (AtomicU64::new(next_run), AtomicU64::new(0));
        Output { leases, cache, index, run_bytes_max, next_run, written, failure: FirstFailure::default() }
    }

    /// The next run's number.
    pub(crate) fn next_run(&self) -> u64 {
        self.next_run.load(Ordering::Acquire)
    }

    /// Bytes of a run at which the next one is begun.
    pub(crate) fn run_bytes(&self) -> u64 {
        self.run_bytes_max
    }

    /// Bytes of all runs written so far.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// The first write or sync of a run that failed.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.cause()
    }

    fn noted<T>(&self, outcome: Result<T>) -> Result<T> {
        outcome.inspect_err(|error| {
            if error.kind() == ErrorKind::Io {
                self.failure.note(|| error.to_string());
            }
        })
    }

    /// A run that the manifest names.
    pub(crate) fn open(&self, meta: RunMeta, level: u8, fixed_seq: Option<Seq>) -> Result<Arc<RunRef>> {
        self.open_as(meta, level, fixed_seq, false)
    }

    fn open_as(&self, meta: RunMeta, level: u8, fixed_seq: Option<Seq>, doomed: bool) -> Result<Arc<RunRef>> {
        let file = RunFile::new(&self.leases, meta.id, doomed);
        let run = Run::open(self.leases.io(), self.leases.dir(), meta, &self.cache)?;
        Ok(Arc::new(RunRef { run, level, fixed_seq, file }))
    }

    /// Writes all rows of `stream` into as many runs as their size asks for; none where there are no rows.
    pub(crate) fn write(
        &self,
        schema: &RunSchema,
        stream: &mut dyn RowStream,
        shape: Shape,
    ) -> Result<Vec<Arc<RunRef>>> {
        let mut runs = Vec::new();
        let mut writer: Option<RunWriter> = None;
        while let Some(batch) = stream.next()? {
            let mut open = match writer.take() {
                Some(open) => open,
                None => self.noted(self.create(schema, shape))?,
            };
            self.noted(open.write(&batch))?;
            if open.bytes() >= self.run_bytes_max {
                runs.push(self.finish(open, shape)?);
            } else {
                writer = Some(open);
            }
        }
        if let Some(open) = writer {
            runs.push(self.finish(open, shape)?);
        }
        Ok(runs)
    }

    fn create(&self, schema: &RunSchema, shape: Shape) -> Result<RunWriter> {
        let id = RunId(self.next_run.fetch_add(1, Ordering::AcqRel));
        let options = RunOptions {
            layout: shape.layout,
            index: self.index,
            fixed_seq: shape.fixed_seq,
            threads: shape.threads,
            filter: shape.filter,
            short_lived: shape.short_lived,
            ..RunOptions::default()
        };
        RunWriter::create(self.leases.io(), self.leases.dir(), id, schema, options)
    }

    fn finish(&self, writer: RunWriter, shape: Shape) -> Result<Arc<RunRef>> {
        let meta = self.noted(writer.finish())?;
        self.written.fetch_add(meta.bytes, Ordering::Relaxed);
        self.open_as(meta, shape.level, shape.fixed_seq, true)
    }
}
