/*!
One file, one transaction: sniffed, read, staged in the engine, committed; or nothing of it.
*/

use crate::args::Args;
use crate::failure::Failure;
use crate::table::Target;
use omendb_cli::progress::Progress;
use omendb_sql::SqlError;
use omendb_sql::engine::column::ColumnSink;
use omendb_sql::engine::db::{Db, IngestReport, LoadRecord};
use omendb_sql::engine::key::KeySchema;
use omendb_sql::engine::types::{ColumnId, TableDef};
use omendb_sql::engine::{Error, ErrorKind};
use omendb_sql::files::{
    Batches, ReadOptions, RejectLog, RejectedRow, Sniffed, Source, TargetColumn, match_columns, read,
};
use omendb_sql::text;
use omendb_sql::types::{SqlType, from_engine};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

/// What all files of a run share.
pub(crate) struct Run<'a> {
    pub(crate) args: &'a Args,
    /// `None` in a dry run over a database that is not there.
    pub(crate) db: Option<&'a Db>,
    pub(crate) memory_bytes: usize,
    pub(crate) rejects: Arc<Mutex<RejectLog>>,
    /// Whether the user wants it to end.
    pub(crate) interrupted: Box<dyn Fn() -> bool + 'a>,
}

/// What became of one file.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Loaded {
    pub(crate) report: IngestReport,
    pub(crate) rejected: u64,
}

impl Run<'_> {
    /// Loads the file at `place` among the sources, or only reads it in a dry run.
    pub(crate) fn load(
        &self,
        target: &mut Target,
        place: usize,
        source: &Source,
        before: (u64, u64),
        progress: &mut Progress,
    ) -> Result<Loaded, Failure> {
        let sniffed = target.sniffed(self.args, place, source)?;
        let columns = match_columns(&sniffed, source.name(), &target.columns)?;
        let filled: Vec<&str> = columns.iter().map(|c| c.column.name.as_str()).collect();
        target.check_missing(source.name(), &filled)?;
        let last_reject = Arc::new(Mutex::new(None));
        let batches = self.batches(source, &sniffed, &columns, &last_reject)?;
        let mut feed = Feed { run: self, source, batches, before, rows: 0, progress };
        let outcome = match (self.args.dry_run, self.db) {
            (false, Some(db)) => self.store(db, target, &columns, &mut feed),
            _ => self.check(&mut feed),
        };
        let advise = |failure| self.advise(failure, target, &sniffed, &last_reject);
        outcome.map_err(advise)
    }

    fn batches(
        &self,
        source: &Source,
        sniffed: &Sniffed,
        columns: &[TargetColumn],
        last_reject: &Arc<Mutex<Option<RejectedRow>>>,
    ) -> Result<Batches, Failure> {
        let (log, last) = (self.rejects.clone(), last_reject.clone());
        let on_reject = Box::new(move |row: &RejectedRow| {
            let taken = log.lock().unwrap_or_else(PoisonError::into_inner).take(row);
            if taken.is_err() {
                *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(row.clone());
            }
            taken
        });
        let options = ReadOptions { threads: self.args.threads.map_or(0, usize::from), ..ReadOptions::default() };
        Ok(read(source, sniffed, columns, &options, Some(on_reject))?)
    }

    fn store(
        &self,
        db: &Db,
        target: &mut Target,
        columns: &[TargetColumn],
        feed: &mut Feed<'_, '_>,
    ) -> Result<Loaded, Failure> {
        let hash = hash_of(feed.source.clone());
        let mut transaction = db.begin()?;
        let table = target.within(&mut transaction)?;
        let id = |c: &TargetColumn| table.column(&c.column.name).map(|c| c.id);
        let ids: Vec<ColumnId> = columns.iter().filter_map(id).collect();
        let source = feed.source;
        let fail = |e: Error| store_error(e, &table, source.name());
        let mut ingest = transaction.ingest(&table, self.args.on_conflict.into(), self.memory_bytes).map_err(fail)?;
        while let Some(batch) = feed.next()? {
            ingest.write(&ids, &batch).map_err(fail)?;
        }
        let report = ingest.finish().map_err(fail)?;
        if let Some(content_hash) = hash.and_then(|h| h.join().ok()).transpose()? {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let record = LoadRecord {
                content_hash,
                source: feed.source.name().to_owned(),
                options: self.args.fingerprint(),
                rows: report.rows_stored,
                unix_micros: i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            };
            transaction.record_load(&table, record)?;
        }
        feed.stop_if_interrupted()?;
        transaction.commit().map_err(fail)?;
        if target.def.is_none() {
            target.def = db.snapshot()?.table(&target.name)?;
        }
        Ok(Loaded { report, rejected: feed.batches.rejected() })
    }

    /// Reads everything and stores nothing.
    fn check(&self, feed: &mut Feed<'_, '_>) -> Result<Loaded, Failure> {
        while feed.next()?.is_some() {}
        let report = IngestReport { rows_read: feed.rows, rows_stored: feed.rows, ..IngestReport::default() };
        Ok(Loaded { report, rejected: feed.batches.rejected() })
    }

    /// Says what helps against one bad row too many.
    fn advise(
        &self,
        failure: Failure,
        target: &Target,
        sniffed: &Sniffed,
        last: &Mutex<Option<RejectedRow>>,
    ) -> Failure {
        let last = last.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (Failure::Failed(e), Some(row)) = (&failure, last) else { return failure };
        if e.hint().is_some() {
            return failure;
        }
        let late = target.is_new() && !sniffed.whole && row.reject.column.is_some();
        let hint = match (late, &row.reject.column, self.args.reject_limit()) {
            (true, Some(column), _) => format!(
                "The types were taken from the first {} bytes. Declare this one with --types '{column}=TEXT', look at more \
                 with --sample, or keep going past such rows with --rejects FILE.",
                sniffed.sample_bytes
            ),
            (_, _, Some(0)) => "To keep going past bad rows, add --rejects FILE or --max-rejects N.".to_owned(),
            _ => "More rows were rejected than --max-rejects allows.".to_owned(),
        };
        Failure::Failed(e.clone().with_hint(hint))
    }
}

/// The batches of a file, watched: progress is shown, and an interruption ends them.
struct Feed<'a, 'p> {
    run: &'a Run<'a>,
    source: &'a Source,
    batches: Batches,
    /// Bytes and rows of the files before this one.
    before: (u64, u64),
    rows: u64,
    progress: &'p mut Progress,
}

impl Feed<'_, '_> {
    fn stop_if_interrupted(&self) -> Result<(), Failure> {
        match (self.run.interrupted)() {
            true => Err(Failure::Interrupted(self.source.name().to_owned())),
            false => Ok(()),
        }
    }

    fn next(&mut self) -> Result<Option<omendb_sql::files::Batch>, Failure> {
        self.stop_if_interrupted()?;
        let Some(batch) = self.batches.next().transpose()? else { return Ok(None) };
        self.rows += u64::try_from(batch.num_rows()).unwrap_or(0);
        self.progress.at(self.before.0 + self.source.bytes_read(), self.before.1 + self.rows);
        Ok(Some(batch))
    }
}

/// Hashes the file beside the loading of it; `None` for stdin.
fn hash_of(source: Source) -> Option<JoinHandle<Result<[u8; 32], SqlError>>> {
    source.path()?;
    std::thread::Builder::new().name("load-hash".into()).spawn(move || source.content_hash()).ok()
}

/// An error of the engine about a row, in the words of the table.
fn store_error(e: Error, table: &TableDef, file: &str) -> Failure {
    let key = e.row().and_then(|row| key_text(table, &row.key));
    let duplicate = e.kind() == ErrorKind::DuplicateKey;
    let error = SqlError::from(e);
    Failure::Failed(match key {
        Some(key) if duplicate => error
            .with_detail(format!("Key {key} is there already, in table \"{}\" or twice in \"{file}\".", table.name))
            .with_hint("To leave such rows out, add --on-conflict skip; to let them win, --on-conflict replace."),
        Some(key) => error.with_detail(format!("The row's key is {key}.")),
        None => error,
    })
}

/// `(run_id, step)=(1, 7)`.
fn key_text(table: &TableDef, key: &[u8]) -> Option<String> {
    let values = KeySchema::of(table).ok()?.decode(key).ok()?;
    let (mut names, mut texts) = (Vec::new(), Vec::new());
    for ((id, ty), value) in table.key_columns().ok()?.into_iter().zip(&values) {
        let mut sink = ColumnSink::new(ty, 1);
        sink.append(value).ok()?;
        let array = from_engine(&sink.finish(), ty).ok()?;
        let mut out = String::new();
        text::format(&array, 0, &SqlType::from(ty).field("", true), &mut out);
        texts.push(out);
        names.push(table.column_by_id(id).map_or("_rowid", |c| c.name.as_str()));
    }
    Some(format!("({})=({})", names.join(", "), texts.join(", ")))
}
