/*!
Reading a whole run, and reporting what does not hold: checksums of every byte, the order of keys over slices and tiles,
guards, the index's answer for every slice, statistics against values, the filter against every key, sequence numbers against their
bounds, and the counts of the footer.

Every byte of the file belongs to the header, a frame or the trailer, and each of them has its checksum: a byte that no
checksum covers is a finding too.
*/

use super::filter::Block;
use super::format::open_frame;
use super::loaded::Loaded;
use super::reader::Run;
use super::scan::RunScanOptions;
use super::statistics;
use super::{RunBatch, offset_of, small, wide};
use crate::error::{Error, ErrorKind, Result};
use crate::key::KeyRange;
use crate::types::{ColumnId, Seq};
use std::path::PathBuf;
use std::sync::Arc;

/// Findings after which a run is not looked at further.
const FINDINGS_MAX: usize = 100;

/// Something about a run that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub file: PathBuf,
    /// Where in it, as far as that is known.
    pub offset: Option<u64>,
    /// What does not hold.
    pub message: String,
}

impl Run {
    /// Reads everything and reports what does not hold; nothing, for a sound run.
    ///
    /// # Errors
    /// `Io` where the file cannot be read. Corruption is a finding.
    pub fn verify(self: &Arc<Self>) -> Result<Vec<Finding>> {
        self.verify_until(&|| false)
    }

    /// The same, as far as it gets until `stop` says so.
    ///
    /// # Errors
    /// As [`Run::verify`].
    pub fn verify_until(self: &Arc<Self>, stop: &dyn Fn() -> bool) -> Result<Vec<Finding>> {
        let mut check = Check { run: self, findings: Vec::new(), stop };
        if let Some(loaded) = check.sound(self.loaded())? {
            check.all(loaded)?;
        }
        Ok(check.findings)
    }
}

struct Check<'a> {
    run: &'a Arc<Run>,
    findings: Vec<Finding>,
    stop: &'a dyn Fn() -> bool,
}

impl Check<'_> {
    /// The value, or a finding in its place; errors that are no corruption stay errors.
    fn sound<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(e) if matches!(e.kind(), ErrorKind::Corruption | ErrorKind::Internal | ErrorKind::NewerFormat) => {
                let offset = e.place().and_then(|place| place.offset);
                self.find(e.message(), offset);
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    fn find(&mut self, message: impl Into<String>, offset: Option<u64>) {
        self.findings.push(Finding { file: self.run.path().to_owned(), offset, message: message.into() });
    }

    fn all(&mut self, loaded: &Loaded) -> Result<()> {
        self.sound(loaded.check_header(self.run.meta().id))?;
        self.sections(loaded)?;
        for tile in 0..loaded.locators.tiles() {
            if (self.stop)() {
                return Ok(());
            }
            for column in 0..loaded.columns.len() {
                self.sound(self.unit(loaded, tile, column))?;
            }
        }
        for slice in 0..loaded.locators.slices() {
            if self.findings.len() >= FINDINGS_MAX || (self.stop)() {
                return Ok(());
            }
            self.sound(self.slice(loaded, slice))?;
        }
        let breaches = self.run.index_stats().map(|stats| stats.breaches);
        if self.sound(breaches)?.is_some_and(|breaches| breaches > 0) {
            self.find("the index has sent lookups to wrong slices", None);
        }
        if self.findings.is_empty() {
            self.sound(self.rows(loaded))?;
        }
        Ok(())
    }

    /// That sections fill what lies between tiles and footer, each whole.
    fn sections(&mut self, loaded: &Loaded) -> Result<()> {
        let (footer, meta) = (&loaded.footer, self.run.meta());
        let mut sections: Vec<_> = footer.sections.iter().collect();
        sections.sort_by_key(|section| section.offset);
        let mut at = footer.data_end;
        for section in sections {
            if section.offset != at {
                self.find("the bytes here are in no section, or in two", Some(at.min(section.offset)));
            }
            let checked = usize::try_from(section.bytes)
                .map_err(|_| Error::corruption("a section is larger than memory can be"))
                .and_then(|bytes| loaded.file()?.read_exact_at(section.offset, bytes))
                .and_then(|bytes| open_frame(&bytes, loaded.random, section.offset).map(drop))
                .map_err(|error| error.at(loaded.path(), section.offset));
            self.sound(checked)?;
            at = section.offset.saturating_add(section.bytes);
        }
        if at != meta.footer_offset {
            self.find("the bytes here are in no section, or in two", Some(at));
        }
        if (meta.min_seq, meta.max_seq) != (footer.min_seq, footer.max_seq) {
            self.find("the run's sequence numbers are not those that the manifest has", Some(meta.footer_offset));
        }
        Ok(())
    }

    /// Reads a unit from the file, not from the cache, and checks its frames.
    fn unit(&self, loaded: &Loaded, tile: u32, column: usize) -> Result<()> {
        let (_, extent) = loaded.unit_of(tile, column);
        if extent.bytes == 0 || (loaded.footer.layout == super::Layout::Row && column > 0) {
            return Ok(());
        }
        let bytes = loaded.file()?.read_exact_at(extent.offset, extent.bytes)?;
        loaded.verify_unit(tile, column, &bytes, extent.offset)
    }

    /// The index's answer for a slice's first and last key, and the slice's guards.
    fn slice(&self, loaded: &Loaded, slice: u32) -> Result<()> {
        let wrong = |what: &str| {
            let offset = loaded.locators.frame(slice, loaded.guard_column()).offset;
            Err(Error::corruption(format!("slice {slice}: {what}")).at(loaded.path(), offset))
        };
        let pin = &self.run.cache().pin();
        let first = loaded.first_key_of(slice, pin)?;
        let last = loaded.last_key_of(slice, pin)?;
        if loaded.index.find(first.as_ref()) != wide(slice) || loaded.index.find(last.as_ref()) != wide(slice) {
            return wrong("the index finds its keys elsewhere");
        }
        let (guard, _) = loaded.guarded(&loaded.locators.spot(slice), pin)?;
        let prev = match slice.checked_sub(1) {
            Some(prev) => loaded.last_key_of(prev, pin)?.into_bytes(),
            None => Vec::new(),
        };
        let next = if slice + 1 < loaded.locators.slices() {
            loaded.first_key_of(slice + 1, pin)?.into_bytes()
        } else {
            Vec::new()
        };
        if guard.prev_last != prev || guard.next_first != next {
            return wrong("its guards are not its neighbours' keys");
        }
        Ok(())
    }

    /// Order of keys, statistics, counts.
    fn rows(&self, loaded: &Loaded) -> Result<()> {
        let mut projection = loaded.schema.columns.clone();
        projection.extend([(ColumnId::SEQ, super::SEQ_TYPE), (ColumnId::KIND, super::KIND_TYPE)]);
        let mut scan = self.run.scan(RunScanOptions::all(KeyRange::all(), projection));
        let mut last = Vec::new();
        let mut filter = FilterCheck::default();
        let (mut rows, mut tombstones, mut slice) = (0, 0, 0);
        let mut seqs: Option<(Seq, Seq)> = None;
        while let Some(batch) = scan.next()? {
            if (self.stop)() {
                return Ok(());
            }
            let follows = batch.keys.first().is_some_and(|first| rows == 0 || last.as_slice() < first);
            if !follows || !batch.keys.is_strictly_sorted() {
                let offset = loaded.locators.frame(slice, loaded.guard_column()).offset;
                let message = format!("keys are out of order in slice {slice} or a few after it");
                return Err(Error::corruption(message).at(loaded.path(), offset));
            }
            for seq in &batch.seqs {
                let (least, greatest) = seqs.unwrap_or((*seq, *seq));
                seqs = Some((least.min(*seq), greatest.max(*seq)));
            }
            last = batch.keys.last().unwrap_or_default().to_vec();
            rows += offset_of(batch.len());
            tombstones += batch.tombstones.as_ref().map_or(0, |kinds| offset_of(kinds.true_count()));
            filter.check(self.run, loaded, &batch, slice)?;
            slice = check_statistics(loaded, &batch, slice)?;
        }
        let footer = &loaded.footer;
        if seqs != Some((footer.min_seq, footer.max_seq)) {
            let message =
                format!("sequence numbers are {seqs:?}, not {:?} as the footer says", (footer.min_seq, footer.max_seq));
            return Err(Error::corruption(message).at(loaded.path(), self.run.meta().footer_offset));
        }
        if (rows, tombstones) != (footer.rows, footer.tombstones) || last != footer.max_key {
            let message = "the rows are not those that the footer counts";
            return Err(Error::corruption(message).at(loaded.path(), self.run.meta().footer_offset));
        }
        Ok(())
    }
}

/// Holds rows against the run's filter, block after block.
#[derive(Default)]
struct FilterCheck {
    /// The block that was read last, by its first slice, and its frame.
    block: Option<(u32, Vec<u8>)>,
}

impl FilterCheck {
    /// The rows of a batch's slices, which begin with `slice`.
    fn check(&mut self, run: &Run, loaded: &Loaded, batch: &RunBatch, slice: u32) -> Result<()> {
        let mut keys = batch.keys.iter();
        let (mut left, mut slice) = (batch.len(), slice);
        while left > 0 {
            let rows = wide(loaded.locators.rows_of(slice)).clamp(1, left);
            self.check_slice(run, loaded, slice, keys.by_ref().take(rows))?;
            left -= rows;
            slice += 1;
        }
        Ok(())
    }

    fn check_slice<'k>(
        &mut self,
        run: &Run,
        loaded: &Loaded,
        slice: u32,
        mut keys: impl Iterator<Item = &'k [u8]>,
    ) -> Result<()> {
        let Some((block, extent)) = loaded.filter.of_slice(slice) else { return Ok(()) };
        let wrong = |what: &str| Err(Error::corruption(format!("the filter of slice {slice}: {what}")));
        let mut checked = || -> Result<()> {
            let first = loaded.filter.iter().nth(block).map_or(0, |(first, _)| first);
            let is_new = self.block.as_ref().is_none_or(|(known, _)| *known != first);
            if is_new {
                self.block = Some((first, loaded.file()?.read_exact_at(extent.offset, extent.bytes)?.to_vec()));
            }
            let frame = self.block.as_ref().map_or(&[][..], |(_, frame)| frame);
            let opened = Block::open(open_frame(frame, loaded.random, extent.offset)?)?;
            if is_new && !guards_hold(run, loaded, block, &opened)? {
                return wrong("its guards are not its neighbours' keys");
            }
            match opened.filter.is_none() || keys.all(|key| opened.may_have(key) == Some(true)) {
                true => Ok(()),
                false => wrong("a key of the run is not in it"),
            }
        };
        loaded.at(checked(), extent.offset)
    }
}

/// Whether a block's guards are the last key before it and the first behind it.
fn guards_hold(run: &Run, loaded: &Loaded, block: usize, opened: &Block<'_>) -> Result<bool> {
    let pin = run.cache().pin();
    let mut starts = loaded.filter.iter().map(|(first, _)| first).skip(block);
    let prev_last = match starts.next().unwrap_or_default().checked_sub(1) {
        Some(before) => loaded.last_key_of(before, &pin)?.into_bytes(),
        None => Vec::new(),
    };
    let next_first = match starts.next() {
        Some(behind) => loaded.first_key_of(behind, &pin)?.into_bytes(),
        None => Vec::new(),
    };
    Ok(opened.guard.prev_last == prev_last && opened.guard.next_first == next_first)
}

/// Measures a batch's slices, which begin with `slice`, and compares; gives the slice after them.
fn check_statistics(loaded: &Loaded, batch: &RunBatch, slice: u32) -> Result<u32> {
    let mut next = slice;
    let mut start = 0;
    while start < batch.len() {
        let rows = wide(loaded.locators.rows_of(next));
        for ((id, ty), array) in loaded.columns.iter().zip(&batch.columns) {
            let Some(stored) = loaded.column_statistics(*id)? else { continue };
            let stored = stored.get(loaded, next)?;
            let measured = statistics::measure(array.as_ref(), start..start + rows, *ty)?;
            let system = *id == ColumnId::SEQ || *id == ColumnId::KIND;
            let same = (&stored.min, &stored.max, stored.nulls) == (&measured.min, &measured.max, measured.nulls)
                && stored.nan == measured.nan
                && (system || same_sum(&stored.sum, &measured.sum));
            if !same {
                let message = format!("slice {next}: statistics of column {} are not those of its values", id.0);
                return Err(Error::corruption(message).at(loaded.path(), loaded.locators.frame(next, 0).offset));
            }
        }
        start += rows;
        next = small(wide(next) + 1)?;
    }
    Ok(next)
}

fn same_sum(a: &Option<crate::types::Value>, b: &Option<crate::types::Value>) -> bool {
    use crate::types::Value::Float64;
    match (a, b) {
        (Some(Float64(a)), Some(Float64(b))) => a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()),
        (a, b) => a == b,
    }
}
