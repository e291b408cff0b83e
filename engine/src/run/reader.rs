/*!
An open run. Opening touches no file; what the first use brings into memory is [`loaded`](super::loaded)'s, lookups by key are
[`lookup`](super::lookup)'s, scans [`scan`](super::scan)'s.
*/

use super::loaded::{Loaded, RunFilterStats};
use super::scan::{RunScan, RunScanOptions};
use super::spread::Spread;
use super::statistics::SliceStats;
use super::{RunMeta, RunSchema, file_path, offset_of, small, wide};
use crate::cache::{Cache, Handle};
use crate::error::Result;
use crate::io::IoRef;
use crate::io::sync::{Mutex, OnceCell};
use crate::key::Key;
use crate::model::IndexStats;
use crate::types::ColumnId;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Residuals that [`Run::index_stats`] samples.
const RESIDUALS_MAX: usize = 4096;

/// The index of a run, as `\index` shows it.
#[derive(Debug, Clone)]
pub struct RunIndexStats {
    /// What was built, and how large it is.
    pub index: IndexStats,
    /// For slices spread evenly over the run: the slice where the model's line alone would look, minus the actual one.
    /// All 0 for fences.
    pub residuals: Vec<i32>,
    /// Lookups that the index sent to the wrong slice since the run was opened. More than none is a defect.
    pub breaches: u64,
    /// Bytes that stay in memory for this run: index, locators, places in the cache.
    pub memory_bytes: u64,
}

/// An open run. All methods may be called from many threads.
#[derive(Debug)]
pub struct Run {
    file: Arc<Handle>,
    meta: RunMeta,
    cache: Arc<Cache>,
    loaded: OnceCell<Loaded>,
    /// See [`Run::spread`]: every scan of a table whose rows expire asks, so that asking for the one column takes no lock.
    pub(super) first_spread: OnceCell<(ColumnId, Spread)>,
    pub(super) spread: Mutex<Option<(ColumnId, Spread)>>,
    pub(super) breaches: AtomicU64,
}

impl Run {
    /// Opens the run of `meta` in `dir`. The file is first touched when something of it is needed.
    pub fn open(io: &IoRef, dir: &Path, meta: RunMeta, cache: &Arc<Cache>) -> Result<Arc<Run>> {
        Ok(Arc::new(Run {
            file: cache.files().handle(io, file_path(dir, meta.id)),
            meta,
            cache: Arc::clone(cache),
            loaded: OnceCell::new(),
            first_spread: OnceCell::new(),
            spread: Mutex::new(None),
            breaches: AtomicU64::new(0),
        }))
    }

    /// What the manifest keeps about it.
    pub fn meta(&self) -> &RunMeta {
        &self.meta
    }

    /// What keeps its units.
    pub(super) fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Opens the file for as long as the run is there, so that it may be removed meanwhile.
    pub(crate) fn hold(&self) -> Result<()> {
        self.file.hold()
    }

    /// What it stores.
    pub fn schema(&self) -> Result<&RunSchema> {
        Ok(&self.loaded()?.schema)
    }

    /// Slices.
    pub fn slices(&self) -> Result<usize> {
        Ok(wide(self.loaded()?.locators.slices()))
    }

    /// The slice where `key` is or would be; the first for keys before all.
    pub fn slice_of(&self, key: &[u8]) -> Result<usize> {
        let loaded = self.loaded()?;
        Ok(loaded.index.find(key).min(wide(loaded.locators.slices() - 1)))
    }

    /// The first key of a slice.
    pub fn first_key_of(&self, slice: usize) -> Result<Key> {
        let (loaded, pin) = (self.loaded()?, self.cache.pin());
        loaded.first_key_of(loaded.checked_slice(slice)?, &pin)
    }

    /// What is known of a column in a slice; `None` if the run does not have the column.
    pub fn slice_stats(&self, slice: usize, column: ColumnId) -> Result<Option<SliceStats>> {
        let loaded = self.loaded()?;
        let slice = loaded.checked_slice(slice)?;
        let Some(statistics) = loaded.column_statistics(column)? else { return Ok(None) };
        statistics.get(loaded, slice).map(Some)
    }

    /// Begins to read the rows of a range.
    pub fn scan(self: &Arc<Self>, options: RunScanOptions) -> RunScan {
        RunScan::new(Arc::clone(self), options)
    }

    /// The index, with sampled residuals.
    pub fn index_stats(&self) -> Result<RunIndexStats> {
        let loaded = self.loaded()?;
        let slices = wide(loaded.locators.slices());
        let mut residuals = Vec::new();
        for slice in (0..slices).step_by(slices.div_ceil(RESIDUALS_MAX).max(1)) {
            let key = loaded.first_key_of(small(slice)?, &self.cache.pin())?;
            residuals.push(loaded.residual(key.as_ref(), slice));
        }
        let memory = loaded.index.memory_bytes()
            + loaded.locators.memory_bytes()
            + loaded.slots.memory_bytes()
            + loaded.filter.memory_bytes();
        Ok(RunIndexStats {
            index: loaded.index.stats().clone(),
            residuals,
            breaches: self.breaches.load(Ordering::Relaxed),
            memory_bytes: offset_of(memory),
        })
    }

    /// The filter. Reads the file's end, if nothing has yet.
    ///
    /// # Errors
    /// As [`Run::find`].
    pub fn filter_stats(&self) -> Result<RunFilterStats> {
        self.loaded().map(|loaded| loaded.filter_stats())
    }

    /// The filter, where the run has been read from already; nothing is known of others.
    pub(crate) fn known_filter_stats(&self) -> RunFilterStats {
        self.loaded.get().map(Loaded::filter_stats).unwrap_or_default()
    }

    /// What the first use brings into memory.
    pub(super) fn loaded(&self) -> Result<&Loaded> {
        self.loaded.get_or_try_init(|| Loaded::read(&self.file, &self.meta, &self.cache))
    }
}
