/*!
Trees and their runs: each run by itself, and runs against each other.
*/

use super::log::CATALOG_ADVICE;
use super::{Check, Problem};
use crate::error::{Error, ErrorKind, Result};
use crate::io::EntryKind;
use crate::key::{Key, KeyRange};
use crate::manifest::{ErasedRange, Manifest, RunEntry, State, StorageState};
use crate::run::{Run, RunBatch, RunScan, RunScanOptions, RunSchema};
use crate::scan::plan::Span;
use crate::scan::tree::LAST_LEVEL;
use crate::txn::catalog::{Catalog, FIRST_USER_ID, SystemTables};
use crate::types::{Seq, StorageId, TableDef};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

const RUN_ADVICE: &str = "Put the file back from a backup, or drop the table and load it again; \
                          other tables are not affected.";
const MANIFEST_ADVICE: &str = "The manifest holds what must not be: restore the database from a backup.";

/// Tables by the trees that hold them.
type Tables = BTreeMap<StorageId, Arc<TableDef>>;

impl Check<'_> {
    pub(super) fn trees(&mut self, state: &State, catalog: Option<&Catalog>) {
        let mut tables: Tables = SystemTables::new().all().map(|table| (table.storage, Arc::clone(table))).into();
        tables.extend(catalog.iter().flat_map(|catalog| catalog.tables()).map(|t| (t.storage, Arc::clone(t))));
        for (id, storage) in &state.storages {
            let table = tables.get(id).map(Arc::as_ref);
            self.levels(state, *id, storage, table);
            for entry in &storage.runs {
                if (self.stop)() {
                    return;
                }
                self.run(entry, table);
            }
            self.ages(storage, table);
            self.ranges(storage, table);
        }
    }

    /// What the manifest alone tells of a tree.
    fn levels(&mut self, state: &State, id: StorageId, storage: &StorageState, table: Option<&TableDef>) {
        for run in &storage.runs {
            let number = run.meta.id.0;
            if run.level > LAST_LEVEL {
                self.wrong_manifest(format!("run {number} is on level {}, and {LAST_LEVEL} is the last", run.level));
            }
            if run.max_seq() > state.last_seq {
                let (seq, last) = (run.max_seq(), state.last_seq);
                self.wrong_manifest(format!("run {number} goes up to commit {seq}, and runs only to commit {last}"));
            }
            if number >= state.next_run_id {
                self.wrong_manifest(format!("run {number} is there, and the next one is {}", state.next_run_id));
            }
        }
        for erased in &storage.erased {
            let (seq, last, of) = (erased.seq, state.last_seq, name_of(id, table));
            if seq > last {
                self.wrong_manifest(format!("commit {seq} deleted a range of {of}, and runs go only to commit {last}"));
            }
            if erased.range.is_empty() {
                self.wrong_manifest(format!("the range of {of} that commit {seq} deleted is empty"));
            }
        }
        let mut last: Vec<&RunEntry> = storage.runs.iter().filter(|run| run.level == LAST_LEVEL).collect();
        last.sort_by(|a, b| a.meta.min_key.cmp(&b.meta.min_key));
        for (before, after) in last.iter().zip(last.iter().skip(1)) {
            if before.meta.max_key >= after.meta.min_key {
                let (a, b, of) = (before.meta.id.0, after.meta.id.0, name_of(id, table));
                self.wrong_manifest(format!("runs {a} and {b} of {of} overlap in the last level"));
            }
        }
    }

    fn wrong_manifest(&mut self, what: String) {
        self.report.problem(&Error::corruption(what), MANIFEST_ADVICE);
    }

    /// One run from end to end.
    fn run(&mut self, entry: &RunEntry, table: Option<&TableDef>) {
        let run = match Run::open(self.io, self.dir, entry.meta.clone(), &self.cache) {
            Ok(run) => run,
            Err(error) => return self.report.problem(&error, RUN_ADVICE),
        };
        let findings = match run.verify_until(self.stop) {
            Ok(findings) => findings,
            Err(error) => {
                let missing = !matches!(self.io.exists(run.path()), Ok(Some(EntryKind::File)));
                // A merge may have replaced it since the manifest was read.
                if missing
                    && Manifest::inspect(self.io, self.dir).is_ok_and(|now| now.state.run(run.meta().id).is_none())
                {
                    return;
                }
                let error =
                    if missing { Error::corruption(format!("run {} is missing", run.meta().id.0)) } else { error };
                return self.report.problem(&error.at(run.path(), None), &advice(table));
            }
        };
        for finding in findings {
            let advice = advice(table);
            self.report.push(Problem { file: finding.file, offset: finding.offset, what: finding.message, advice });
        }
        if let Some(table) = table
            && let Err(error) = check_schema(&run, table)
        {
            self.report.problem(&error.at(run.path(), None), &advice(Some(table)));
        }
        if let Ok(slices) = run.slices() {
            self.report.runs += 1;
            self.report.rows += entry.meta.rows;
            self.report.slices += u64::try_from(slices).unwrap_or(u64::MAX);
        }
    }

    /// That no run hides a newer version of a row in one behind it. Numbers nearly always tell; where they do not, the
    /// keys that two runs have in common are compared. A merge under way publishes rows before its inputs are gone: then a
    /// run may have an older version than one behind it, if one before it has the newer one too.
    fn ages(&mut self, storage: &StorageState, table: Option<&TableDef>) {
        let (last, upper): (Vec<&RunEntry>, Vec<&RunEntry>) =
            storage.runs.iter().partition(|run| run.level == LAST_LEVEL);
        for (place, newer) in upper.iter().enumerate() {
            for older in upper.iter().skip(place + 1).chain(&last) {
                let (a, b) = (&newer.meta, &older.meta);
                let apart = a.max_key < b.min_key || b.max_key < a.min_key;
                if apart || newer.min_seq() > older.max_seq() {
                    continue;
                }
                let before = upper.get(..place).unwrap_or_default();
                if let Err(error) = self.compare_versions(storage, before, newer, older)
                    && matches!(error.kind(), ErrorKind::Internal)
                {
                    self.report.problem(&Error::corruption(error.message()), &advice(table));
                }
            }
        }
    }

    /// That no deleted range hides newer rows: the last level lies behind all of them. Numbers nearly always tell here, too. A
    /// merge under way publishes rows there before the range ends: then an upper run has them, too.
    fn ranges(&mut self, storage: &StorageState, table: Option<&TableDef>) {
        let upper: Vec<&RunEntry> = storage.runs.iter().filter(|run| run.level != LAST_LEVEL).collect();
        for erased in &storage.erased {
            let span = Span::of(&erased.range);
            let in_last = storage.runs.iter().filter(|run| run.level == LAST_LEVEL && run.max_seq() > erased.seq);
            for entry in in_last.filter(|run| Span::closed(&run.meta.min_key, &run.meta.max_key).overlaps(&span)) {
                if let Ok(true) = self.hides_newer(storage, &upper, entry, erased) {
                    let (number, seq) = (entry.meta.id.0, erased.seq);
                    let what = format!("the range that commit {seq} deleted hides newer rows of run {number}");
                    self.report.problem(&Error::corruption(what), &advice(table));
                }
            }
        }
    }

    /// Whether the run has newer rows in the range that nothing else hides. Runs that can't be read were named already.
    fn hides_newer(
        &self,
        storage: &StorageState,
        upper: &[&RunEntry],
        entry: &RunEntry,
        erased: &ErasedRange,
    ) -> Result<bool> {
        let run = Run::open(self.io, self.dir, entry.meta.clone(), &self.cache)?;
        let mut rows = Versions {
            scan: run.scan(RunScanOptions::all(erased.range.clone(), Vec::new())),
            batch: None,
            row: 0,
            fixed_seq: entry.fixed_seq,
        };
        while let Some((key, seq)) = rows.peek()? {
            if seq > erased.seq && !self.is_hidden(storage, upper, key, seq)? {
                return Ok(true);
            }
            rows.row += 1;
        }
        Ok(false)
    }

    /// Whether one of these runs has a version of the row that is no older than `seq`, or a newer range holds it.
    fn is_hidden(&self, storage: &StorageState, runs: &[&RunEntry], key: &[u8], seq: Seq) -> Result<bool> {
        if storage.erased.iter().any(|erased| erased.seq > seq && erased.range.contains(key)) {
            return Ok(true);
        }
        for entry in runs {
            let run = Run::open(self.io, self.dir, entry.meta.clone(), &self.cache)?;
            if run.find(key)?.is_some_and(|found| entry.fixed_seq.or(found.seq) >= Some(seq)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// `Internal` where the newer run has an older version, and none of those before it the newer. Runs that can't be read
    /// were named already.
    fn compare_versions(
        &self,
        storage: &StorageState,
        before: &[&RunEntry],
        newer: &RunEntry,
        older: &RunEntry,
    ) -> Result<()> {
        let from = Key::from((&newer.meta.min_key).max(&older.meta.min_key).as_slice());
        let to = Key::from((&newer.meta.max_key).min(&older.meta.max_key).as_slice());
        let range = KeyRange { start: Bound::Included(from), end: Bound::Included(to) };
        let open = |entry: &RunEntry| {
            let run = Run::open(self.io, self.dir, entry.meta.clone(), &self.cache)?;
            Ok::<_, Error>(Versions {
                scan: run.scan(RunScanOptions::all(range.clone(), Vec::new())),
                batch: None,
                row: 0,
                fixed_seq: entry.fixed_seq,
            })
        };
        let (mut above, mut below) = (open(newer)?, open(older)?);
        while let (Some((key, seq)), Some((other, under))) = (above.peek()?, below.peek()?) {
            match key.cmp(other) {
                std::cmp::Ordering::Less => above.row += 1,
                std::cmp::Ordering::Greater => below.row += 1,
                std::cmp::Ordering::Equal if seq < under && !self.is_hidden(storage, before, key, under)? => {
                    let (a, b) = (newer.meta.id.0, older.meta.id.0);
                    let what = format!("run {a} has an older version of a row, and hides the newer one in run {b}");
                    return Err(Error::internal(what));
                }
                std::cmp::Ordering::Equal => {
                    above.row += 1;
                    below.row += 1;
                }
            }
        }
        Ok(())
    }
}

/// Keys and sequence numbers of a run, one by one.
struct Versions {
    scan: RunScan,
    batch: Option<RunBatch>,
    row: usize,
    fixed_seq: Option<Seq>,
}

impl Versions {
    fn peek(&mut self) -> Result<Option<(&[u8], Seq)>> {
        if self.batch.as_ref().is_none_or(|batch| self.row >= batch.len()) {
            self.batch = self.scan.next()?;
            self.row = 0;
        }
        let Some(batch) = &self.batch else { return Ok(None) };
        let stored = batch.seqs.get(self.row).copied().unwrap_or_default();
        Ok(Some((batch.keys.get(self.row), self.fixed_seq.unwrap_or(stored))))
    }
}

fn name_of(id: StorageId, table: Option<&TableDef>) -> String {
    table.map_or_else(|| format!("storage {}", id.0), |table| format!("table {}", table.name))
}

fn advice(table: Option<&TableDef>) -> String {
    match table {
        Some(table) if table.storage.0 < FIRST_USER_ID => CATALOG_ADVICE.to_owned(),
        Some(table) => format!("Rows of table {} are affected. {RUN_ADVICE}", table.name),
        None => RUN_ADVICE.to_owned(),
    }
}

/// That a run's key and columns are its table's.
fn check_schema(run: &Run, table: &TableDef) -> Result<()> {
    // A run that can't be opened was named already.
    let Ok(stored) = run.schema() else { return Ok(()) };
    let expected = RunSchema::of(table)?;
    let columns = |schema: &RunSchema| schema.key.columns().to_vec();
    if stored.key_columns != expected.key_columns || columns(stored) != columns(&expected) {
        return Err(Error::corruption(format!("the run's key is not that of table {}", table.name)));
    }
    for (id, ty) in &stored.columns {
        let other = expected.columns.iter().find(|(column, _)| column == id).filter(|(_, own)| own != ty);
        if let Some((_, own)) = other {
            let what = format!("column {} of table {} is {own:?}, and the run has {ty:?}", id.0, table.name);
            return Err(Error::corruption(what));
        }
    }
    Ok(())
}
