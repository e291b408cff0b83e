/*!
A run from the command line to the summary.
*/

use crate::args::{Args, OnConflictArg};
use crate::failure::Failure;
use crate::file::Run;
use crate::summary::{Totals, count_rows};
use crate::table::Target;
use omendb_cli::Exit;
use omendb_cli::interrupt::Interrupt;
use omendb_cli::progress::Progress;
use omendb_cli::report::say;
use omendb_cli::settings::FileSettings;
use omendb_sql::engine::db::{Db, LoadRecord};
use omendb_sql::error::state;
use omendb_sql::files::{RejectLog, Source, expand};
use omendb_sql::{Database, SqlError};
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Memory of a load unless `--memory` says otherwise: with what reading takes, well under a GiB.
const MEMORY_BYTES: usize = 512 << 20;

/// Loads what the arguments say.
pub(crate) fn run(args: &Args, settings: &FileSettings) -> Result<Exit, Failure> {
    let started = Instant::now();
    check_usage(args)?;
    let options = args.database.open_options(Some(args.db.clone()), settings);
    let mut options = options.map_err(|e| Failure::Usage(e.to_string()))?;
    let memory_bytes = options.memory_bytes.unwrap_or(MEMORY_BYTES);
    let sources = sources(args)?;
    let there = args.db.exists();
    if !there && !args.create {
        let message = format!("there is no database in \"{}\"", args.db.display());
        return Err(Failure::CannotOpen(
            SqlError::new(state::SYSTEM_ERROR, message).with_hint("To make it, and the table, add --create."),
        ));
    }
    // Files that make no table must not leave a new database behind.
    let target = if there { None } else { Some(Target::decide(args, None, &sources)?) };
    options.create = args.create;
    options.read_only = args.dry_run;
    let database = match args.dry_run && !there {
        true => None,
        false => Some(Database::open(options).map_err(Failure::CannotOpen)?),
    };
    let outcome = Job { args, memory_bytes, sources, target, started }.run(database.as_ref().map(Database::engine));
    match (outcome, database) {
        (Ok(exit), Some(database)) => {
            database.close()?;
            Ok(exit)
        }
        (outcome, _) => outcome,
    }
}

/// What clap cannot know.
fn check_usage(args: &Args) -> Result<(), Failure> {
    let stdin = args.files.iter().filter(|f| *f == "-").count();
    if stdin > 0 && args.resume {
        let message = "stdin cannot be resumed: it has no content to compare with what was loaded before";
        return Err(Failure::Usage(message.into()));
    }
    if stdin > 1 {
        return Err(Failure::Usage("stdin can be read only once".into()));
    }
    if args.create && args.primary_key.is_empty() && args.on_conflict != OnConflictArg::Error {
        return Err(Failure::Usage("--on-conflict needs a table with a primary key: add --primary-key".into()));
    }
    Ok(())
}

fn sources(args: &Args) -> Result<Vec<Source>, Failure> {
    let mut sources = Vec::new();
    for pattern in &args.files {
        sources.extend(expand(pattern)?);
    }
    Ok(sources)
}

struct Job<'a> {
    args: &'a Args,
    memory_bytes: usize,
    sources: Vec<Source>,
    /// The table, where it was decided on before the database was made.
    target: Option<Target>,
    started: Instant,
}

impl Job<'_> {
    fn run(mut self, db: Option<&Db>) -> Result<Exit, Failure> {
        let args = self.args;
        let mut totals = Totals { files_done_before: self.leave_out_loaded(db)?, ..Totals::default() };
        if self.sources.is_empty() {
            self.note("every file was loaded before; there is nothing to do");
            return Ok(Exit::Done);
        }
        let mut target = match self.target.take() {
            Some(target) => target,
            None => {
                let snapshot = db.map(Db::snapshot).transpose()?;
                Target::decide(args, snapshot.as_ref(), &self.sources)?
            }
        };
        if target.key.is_empty() && args.on_conflict != OnConflictArg::Error {
            let message = format!("--on-conflict needs a primary key, and table \"{}\" has none", target.name);
            return Err(Failure::Usage(message));
        }
        if let Some(stats) = db.map(Db::stats).transpose()?
            && let Some(why) = stats.io_notice
        {
            self.note(&format!("files go through {}: {why}", stats.io));
        }
        if target.is_new() && (!args.quiet || args.dry_run) {
            print(&target.schema())?;
        }
        let before = match (db, &target.def) {
            (Some(db), Some(def)) => count_rows(db, def)?,
            _ => 0,
        };
        self.load_all(db, &mut target, &mut totals)?;
        let after = match (db, &target.def) {
            (Some(db), Some(def)) if !args.dry_run => Some(count_rows(db, def)?),
            _ => None,
        };
        if let Some(after) = after {
            totals.check(before, after)?;
        }
        self.note(&totals.text(&target.name, after, self.started.elapsed()));
        if let (Some(path), true) = (&args.rejects, totals.rejected > 0 && !args.dry_run) {
            self.note(&format!("  the rejected rows are in {}", path.display()));
        }
        Ok(if totals.rejected > 0 { Exit::Findings } else { Exit::Done })
    }

    fn load_all(&self, db: Option<&Db>, target: &mut Target, totals: &mut Totals) -> Result<(), Failure> {
        let args = self.args;
        let kept = if args.dry_run { None } else { args.rejects.as_deref() };
        let log = RejectLog::new(kept, args.reject_limit())?;
        let interrupt = Interrupt::listen().map_err(SqlError::from)?;
        if args.files.iter().any(|f| f == "-") {
            // A thread that waits for stdin cannot be woken; what is not committed is gone either way.
            interrupt.on_interrupt(|| std::process::exit(i32::from(Exit::Interrupted.code())));
        }
        let run = Run {
            args,
            db,
            memory_bytes: self.memory_bytes,
            rejects: Arc::new(Mutex::new(log)),
            interrupted: Box::new(move || interrupt.happened()),
        };
        let total = self.sources.iter().map(Source::len).sum();
        let mut progress = Progress::bytes(&args.table, total, args.quiet);
        let mut outcome = Ok(());
        for (place, source) in self.sources.iter().enumerate() {
            match run.load(target, place, source, (totals.bytes, totals.read), &mut progress) {
                Ok(loaded) => totals.add(&loaded, source.len().unwrap_or_else(|| source.bytes_read())),
                Err(failure) => {
                    outcome = Err(failure);
                    break;
                }
            }
        }
        progress.finish();
        run.rejects.lock().unwrap_or_else(PoisonError::into_inner).flush()?;
        if outcome.is_err() && self.sources.len() > 1 {
            let (done, all) = (totals.files, self.sources.len());
            self.note(&format!("{done} of {all} files are stored; --resume goes on after them"));
        }
        outcome
    }

    /// Leaves out the files that were loaded before; says how many.
    fn leave_out_loaded(&mut self, db: Option<&Db>) -> Result<u64, Failure> {
        let Some(db) = db.filter(|_| self.args.resume) else { return Ok(0) };
        let Some(table) = db.snapshot()?.table(&self.args.table)? else { return Ok(0) };
        let loads: Vec<LoadRecord> = db.loads(&table)?;
        let options = self.args.fingerprint();
        let mut left = Vec::with_capacity(self.sources.len());
        let mut done = 0;
        for source in self.sources.drain(..) {
            let hash = source.content_hash()?;
            if loads.iter().any(|l| l.content_hash == hash && l.options == options) {
                done += 1;
                if !self.args.quiet {
                    say(&format!("{} was loaded before", source.name()));
                }
            } else {
                left.push(source);
            }
        }
        self.sources = left;
        Ok(done)
    }

    fn note(&self, text: &str) {
        if !self.args.quiet {
            say(text);
        }
    }
}

/// Prints data.
fn print(text: &str) -> Result<(), Failure> {
    match writeln!(std::io::stdout(), "{text}") {
        // Whoever closed the pipe has read enough.
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(SqlError::from(e).into()),
        _ => Ok(()),
    }
}
