/*!
Runs one statement and shows what it gives; holds what the shell remembers between statements.

Errors are reported where they happen, on stderr; what travels up is only that, and why, the work stops ([`Stop`]).
*/

use crate::feed::{Unit, What};
use crate::meta;
use crate::output::{self, Output, Paged};
use crate::render::{self, Format, Options, RenderError, as_u64, table};
use crate::ticker::Ticker;
use crate::variables::Variables;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use omendb_cli::interrupt::Interrupt;
use omendb_cli::report::{self, Source, say};
use omendb_cli::{Colour, ColourChoice};
use omendb_sql::{CancelHandle, Database, Done, Names, Outcome, Rows, Session, SqlError};
use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Rows of a table that a terminal shows; `\pset rows` changes it.
const ROWS_SHOWN: usize = 40;

/// How often a run that was told to stop is told again.
const CANCEL_EVERY: Duration = Duration::from_millis(20);

/// Why work stops. What there was to say about it has been said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The user wants to leave.
    Quit,
    /// A statement or command failed.
    Failed,
    /// Ctrl-C.
    Interrupted,
    /// Nobody reads standard output any more.
    OutputClosed,
}

/// One statement's or command's fate.
pub(crate) type Step = Result<(), Stop>;

/// Where a statement stands.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place<'a> {
    /// The script.
    pub(crate) file: Option<&'a str>,
    /// The line on which it begins, from 1; 0 where there are no lines to speak of.
    pub(crate) line: usize,
}

/// Whether results are shown as one block a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Expanded {
    /// No.
    #[default]
    Off,
    /// Yes.
    On,
    /// When a table would be wider than the terminal.
    Auto,
}

/// How results are shown.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// The format.
    pub(crate) format: Format,
    /// `\x`.
    pub(crate) expanded: Expanded,
    /// `\timing`.
    pub(crate) timing: bool,
    /// How NULL looks in tables.
    pub(crate) null: String,
    /// Most rows of a table on a terminal; `None` for all.
    pub(crate) rows_max: Option<usize>,
    /// Whether the number of rows follows a table.
    pub(crate) footer: bool,
    /// The pager's command; `None` for no pager.
    pub(crate) pager: Option<String>,
}

impl View {
    /// Chooses the pager: what the environment says, else the settings files, else the usual one.
    pub(crate) fn set_pager(&mut self, from_files: Option<&str>) {
        self.pager = output::choose_pager(from_files);
    }
}

impl Default for View {
    fn default() -> Self {
        View {
            format: Format::default(),
            expanded: Expanded::default(),
            timing: false,
            null: "NULL".into(),
            rows_max: Some(ROWS_SHOWN),
            footer: true,
            pager: None,
        }
    }
}

/// The shell: a session, and what the user has set.
pub(crate) struct Shell {
    /// The database.
    pub(crate) database: Database,
    session: Session,
    /// Ctrl-C.
    pub(crate) interrupt: Interrupt,
    /// Odd while something runs that Ctrl-C should stop; a number stands for one run and no other.
    runs: Arc<AtomicU64>,
    /// How results are shown.
    pub(crate) view: View,
    /// `\set`.
    pub(crate) variables: Variables,
    /// Where results go.
    pub(crate) output: Output,
    /// What the user said about colour.
    pub(crate) colour_choice: ColourChoice,
    /// Colour on standard error.
    pub(crate) colour: Colour,
    /// Whether a person is at the keyboard.
    pub(crate) interactive: bool,
    /// The statement that ran last.
    pub(crate) last: Option<String>,
    /// Text that the next prompt begins with.
    pub(crate) draft: Option<String>,
    /// How many scripts are being run inside one another.
    pub(crate) script_depth: usize,
    names: Arc<Mutex<Names>>,
    names_are_stale: bool,
}

/// While this lives, Ctrl-C stops what runs.
pub(crate) struct Runs(Arc<AtomicU64>);

impl Drop for Runs {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Shell {
    /// A shell with one session on a database.
    pub(crate) fn new(database: Database, interrupt: Interrupt, choice: ColourChoice, output: Output) -> Shell {
        let shell = Shell {
            session: database.session(),
            database,
            interrupt,
            runs: Arc::default(),
            view: View::default(),
            variables: Variables::default(),
            output,
            colour_choice: choice,
            colour: Colour::stderr(choice),
            interactive: false,
            last: None,
            draft: None,
            script_depth: 0,
            names: Arc::default(),
            names_are_stale: true,
        };
        let code = omendb_cli::Exit::Interrupted.code();
        shell.when_idle(move || std::process::exit(i32::from(code)));
        shell
    }

    /// What Ctrl-C does while nothing runs; while something does, it is stopped.
    pub(crate) fn when_idle(&self, idle: impl Fn() + Send + 'static) {
        let (runs, cancel) = (self.runs.clone(), self.session.cancel_handle());
        self.interrupt.on_interrupt(move || match runs.load(Ordering::SeqCst) {
            run if run % 2 == 1 => stop_run(&runs, run, &cancel),
            _ => idle(),
        });
    }

    /// Something runs from now on that Ctrl-C should stop.
    pub(crate) fn begin(&self) -> Runs {
        self.runs.fetch_add(1, Ordering::SeqCst);
        Runs(self.runs.clone())
    }

    /// Gives the session up and closes the database.
    pub(crate) fn close(self) -> Result<(), SqlError> {
        drop(self.session);
        self.database.close()
    }

    /// Sets the session's `statement_timeout`, as a settings file says.
    pub(crate) fn set_timeout(&mut self, timeout: &str) -> Step {
        let sql = format!("SET statement_timeout = '{}'", timeout.replace('\'', "''"));
        match self.session.execute(&sql) {
            Ok(_) => Ok(()),
            Err(e) => Err(self.fail(Place::default(), &format!("statement_timeout: {}", e.message()), e.hint())),
        }
    }

    /// Runs a statement or a command.
    pub(crate) fn run(&mut self, unit: &Unit, file: Option<&str>) -> Step {
        let place = Place { file, line: unit.line };
        match &unit.what {
            What::Statement(sql) => self.statement(sql, place),
            What::Meta(command) => meta::run(self, command, place),
        }
    }

    /// Runs a statement and shows what it gives.
    pub(crate) fn statement(&mut self, sql: &str, place: Place<'_>) -> Step {
        let sql = self.variables.interpolate(sql);
        let runs = self.begin();
        if self.interrupt.happened() {
            // Between two statements: what was asked for next is not wanted any more.
            return Err(Stop::Interrupted);
        }
        let ticker = Ticker::start(self.shows_progress());
        let started = Instant::now();
        let result = self.session.execute(&sql).map_err(RenderError::Sql).and_then(|outcome| match outcome {
            Outcome::Rows(rows) => self.show(rows, &ticker).map(Some),
            Outcome::Done(done) => {
                ticker.stop();
                self.tell(&done);
                Ok(done.rows)
            }
        });
        ticker.stop();
        drop(runs);
        self.names_are_stale = true;
        let result = result.map_err(|e| self.stop(e, Some(&sql), place));
        if self.view.timing {
            let rows = result.as_ref().ok().copied().flatten();
            say(&format!("Time: {}", time_text(started.elapsed(), rows)));
        }
        self.last = Some(sql);
        result.map(|_| ())
    }

    fn shows_progress(&self) -> bool {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        self.view_is_for_people() && !is_dumb && std::io::stderr().is_terminal()
    }

    /// Whether a person waits for results, rather than a program.
    fn view_is_for_people(&self) -> bool {
        self.interactive || self.output.is_terminal() || matches!(self.output, Output::File { .. })
    }

    /// What a statement without rows has to say.
    fn tell(&self, done: &Done) {
        for notice in &done.notices {
            say(&format!("{} {notice}", self.colour.note("note:")));
        }
        if self.interactive {
            say(&done.tag);
        }
    }

    fn show(&mut self, rows: Rows, ticker: &Ticker) -> Result<u64, RenderError> {
        let schema = rows.schema();
        let mut rows = rows.inspect(|batch| {
            if let Ok(batch) = batch {
                ticker.add(as_u64(batch.num_rows()));
            }
        });
        let options = self.options();
        self.show_batches(&schema, &mut rows, &options, ticker)
    }

    /// Shows rows of any origin as results are shown.
    pub(crate) fn show_batches(
        &mut self,
        schema: &SchemaRef,
        rows: render::Batches<'_>,
        options: &Options,
        ticker: &Ticker,
    ) -> Result<u64, RenderError> {
        let (format, expanded) = (self.view.format, self.view.expanded);
        self.write(ticker, |out| match (format, expanded) {
            (Format::Table, Expanded::On) => render::render(Format::Vertical, schema, rows, options, out),
            (Format::Table, Expanded::Auto) => table_or_blocks(schema, rows, options, out),
            _ => render::render(format, schema, rows, options, out),
        })
    }

    /// How results are shown where they go now.
    pub(crate) fn options(&self) -> Options {
        let screen = if self.output.is_terminal() { output::screen() } else { None };
        Options {
            width: screen.map(|(width, _)| width),
            rows_max: self.view.rows_max.filter(|_| self.interactive && self.output.is_terminal()),
            null: self.view.null.clone(),
            footer: self.view.footer,
            types: true,
        }
    }

    /// Hands out what results are written to: a file, a pager if it gets long, or standard output. Flushes at the end.
    pub(crate) fn write(
        &mut self,
        ticker: &Ticker,
        write: impl FnOnce(&mut dyn Write) -> Result<u64, RenderError>,
    ) -> Result<u64, RenderError> {
        let is_terminal = self.output.is_terminal();
        let screen = if is_terminal && self.interactive { output::screen() } else { None };
        if let Output::File { file, .. } = &mut self.output {
            let count = write(file)?;
            file.flush()?;
            return Ok(count);
        }
        if let (Some((_, height)), Some(pager)) = (screen, &self.view.pager) {
            let mut paged = Paged::new(pager, height, &self.interrupt);
            let result = write(&mut Quietly { out: &mut paged, ticker });
            let left = matches!(&result, Err(RenderError::Output(e)) if paged.is_left(e));
            let interrupted = paged.finish()?;
            return match left {
                // Ctrl-C goes to the pager too, and may end it before the statement says that it was stopped.
                true if interrupted || self.interrupt.happened() => Err(RenderError::Sql(SqlError::new(
                    omendb_sql::error::state::QUERY_CANCELED,
                    "canceling statement due to user request",
                ))),
                true => Ok(0),
                false => result,
            };
        }
        let mut out = output::stdout();
        let result = match is_terminal {
            true => write(&mut Quietly { out: &mut out, ticker }),
            false => write(&mut out),
        };
        out.flush()?;
        result
    }

    /// Reports why a result could not be shown to its end.
    pub(crate) fn stop(&self, error: RenderError, sql: Option<&str>, place: Place<'_>) -> Stop {
        match error {
            RenderError::Sql(e) => {
                let source = sql.map(|sql| Source { sql, file: place.file, line: place.line.max(1) });
                say(&report::render_at(&e, source, self.colour));
                let stopped = e.sqlstate() == omendb_sql::error::state::QUERY_CANCELED && self.interrupt.happened();
                if stopped { Stop::Interrupted } else { Stop::Failed }
            }
            RenderError::Output(e) => match &self.output {
                Output::Stdout if e.kind() == ErrorKind::BrokenPipe => Stop::OutputClosed,
                Output::Stdout => self.fail(Place::default(), &format!("cannot write results: {e}"), None),
                Output::File { path, .. } => {
                    self.fail(Place::default(), &format!("cannot write {}: {e}", path.display()), None)
                }
            },
        }
    }

    /// Reports an error that is the shell's own.
    pub(crate) fn fail(&self, place: Place<'_>, message: &str, hint: Option<&str>) -> Stop {
        let mut text = format!("{} {message}", self.colour.error("error:"));
        if let Some(file) = place.file {
            text.push_str(&format!("\n{} {file}:{}", self.colour.faint(" -->"), place.line));
        }
        if let Some(hint) = hint {
            text.push_str(&format!("\n{} {hint}", self.colour.note("hint:")));
        }
        say(&text);
        Stop::Failed
    }

    /// Something that the user should know, on stderr.
    pub(crate) fn note(&self, text: &str) {
        say(&format!("{} {text}", self.colour.note("note:")));
    }

    /// The names that completion knows, read again if a statement may have changed them.
    pub(crate) fn names(&mut self) -> Arc<Mutex<Names>> {
        if self.names_are_stale {
            *self.names.lock().unwrap_or_else(PoisonError::into_inner) = self.session.names();
            self.names_are_stale = false;
        }
        self.names.clone()
    }

    /// What the last statement was, for commands that run it again.
    pub(crate) fn last_statement(&self, place: Place<'_>) -> Result<String, Stop> {
        self.last.clone().ok_or_else(|| self.fail(place, "there is no statement yet", None))
    }
}

/// Cancels until the run is over: once may be too early, when the session has not begun the statement yet.
fn stop_run(runs: &Arc<AtomicU64>, run: u64, cancel: &CancelHandle) {
    cancel.cancel();
    let (runs, cancel) = (runs.clone(), cancel.clone());
    // Not on the signals' own thread, where the next Ctrl-C must be heard.
    let _ = std::thread::Builder::new().name("cancel".into()).spawn(move || {
        while runs.load(Ordering::SeqCst) == run {
            cancel.cancel();
            std::thread::sleep(CANCEL_EVERY);
        }
    });
}

/// A table if it fits, else one block a row.
fn table_or_blocks(
    schema: &SchemaRef,
    rows: render::Batches<'_>,
    options: &Options,
    out: &mut dyn Write,
) -> Result<u64, RenderError> {
    let (mut ahead, mut count) = (Vec::<RecordBatch>::new(), 0);
    while count < table::LOOK_AHEAD_ROWS
        && let Some(batch) = rows.next()
    {
        let batch = batch?;
        count += batch.num_rows();
        ahead.push(batch);
    }
    let fits = options.width.is_none_or(|width| table::natural_width(schema, &ahead, options) <= width);
    let format = if fits { Format::Table } else { Format::Vertical };
    render::render(format, schema, &mut ahead.into_iter().map(Ok).chain(rows), options, out)
}

/// Takes the progress line away before anything appears on the terminal.
struct Quietly<'a> {
    out: &'a mut dyn Write,
    ticker: &'a Ticker,
}

impl Write for Quietly<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.ticker.stop();
        self.out.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// "12.345 ms (3 rows)".
fn time_text(elapsed: Duration, rows: Option<u64>) -> String {
    let rows = rows.map(|rows| format!(" ({})", render::rows_text(rows))).unwrap_or_default();
    let micros = elapsed.as_micros();
    let (whole, thousandths, unit) = match micros {
        0..1_000_000 => (micros / 1_000, micros % 1_000, "ms"),
        _ => (micros / 1_000_000, micros / 1_000 % 1_000, "s"),
    };
    format!("{whole}.{thousandths:03} {unit}{rows}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        assert_eq!(time_text(Duration::from_micros(12_345), None), "12.345 ms");
        assert_eq!(time_text(Duration::from_micros(61_002_003), Some(1)), "61.002 s (1 row)");
    }
}
