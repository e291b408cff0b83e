/*!
From the command line to an open database, and what to do with it: run what is asked for, or talk.
*/

use crate::args::{Args, Task};
use crate::output::Output;
use crate::shell::{Shell, Stop};
use crate::{check, repl, script};
use clap::{CommandFactory, ValueEnum};
use omendb_cli::interrupt::Interrupt;
use omendb_cli::report::{self, say};
use omendb_cli::settings::FileSettings;
use omendb_cli::{Colour, ColourChoice, Exit, SettingsError, generate};
use omendb_sql::Database;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::Path;

/// The whole program.
pub(crate) fn run(arguments: Vec<OsString>) -> Exit {
    if let Some(exit) = generate::intercept(Args::command(), &arguments, &mut std::io::stdout().lock()) {
        return exit;
    }
    let args = match Args::parse_from(arguments) {
        Ok(args) => args,
        Err(e) => {
            let _ = e.print();
            return if e.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    if let (true, Some(dir)) = (args.check, &args.dir) {
        return check::run(dir, Colour::stderr(args.color.unwrap_or_default()));
    }
    match open(&args) {
        Ok(mut shell) => {
            let exit = work(&args, &mut shell);
            close(shell, exit)
        }
        Err(exit) => exit,
    }
}

fn open(args: &Args) -> Result<Shell, Exit> {
    let plain = Colour::stderr(args.color.unwrap_or_default());
    let wrong = |e: SettingsError| {
        say(&format!("{} {e}", plain.error("error:")));
        Exit::Usage
    };
    let files = FileSettings::load(args.dir.as_deref()).map_err(wrong)?;
    let choice = args.color.map_or_else(|| chosen("color", files.color.as_deref()), Ok).map_err(wrong)?;
    let format = args.format.map_or_else(|| chosen("format", files.format.as_deref()), Ok).map_err(wrong)?;
    let database = open_database(args, &files, choice)?;
    let output = match &args.output {
        Some(path) => Output::file(path).map_err(|e| {
            say(&format!("{} cannot write {}: {e}", plain.error("error:"), path.display()));
            Exit::Failed
        })?,
        None => Output::Stdout,
    };
    let interrupt = Interrupt::listen().map_err(|e| {
        say(&format!("{} cannot listen for Ctrl-C: {e}", plain.error("error:")));
        Exit::Failed
    })?;
    let mut shell = Shell::new(database, interrupt, choice, output);
    shell.interactive = args.tasks.is_empty() && std::io::stdin().is_terminal();
    if shell.interactive
        && let Ok(stats) = shell.database.engine().stats()
        && let Some(why) = stats.io_notice
    {
        say(&format!("{} files go through {}: {why}", shell.colour.note("note:"), stats.io));
    }
    shell.view.format = format;
    shell.view.timing = args.timing;
    shell.view.set_pager(files.pager.as_deref());
    if let Some(timeout) = &files.statement_timeout {
        shell.set_timeout(timeout).map_err(|_| Exit::Usage)?;
    }
    Ok(shell)
}

/// A value of a settings file that is one of a few words; the default when it is not set.
fn chosen<T: ValueEnum + Default>(name: &str, value: Option<&str>) -> Result<T, SettingsError> {
    let Some(value) = value else { return Ok(T::default()) };
    T::from_str(value, true).map_err(|_| {
        let known = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
        let known: Vec<String> = known.map(|v| v.get_name().to_owned()).collect();
        SettingsError::new(format!("{name}: {value:?} is none of {}", known.join(", ")))
    })
}

fn open_database(args: &Args, files: &FileSettings, choice: ColourChoice) -> Result<Database, Exit> {
    let colour = Colour::stderr(choice);
    let mut options = args.database.open_options(args.dir.clone(), files).map_err(|e| {
        say(&format!("{} {e}", colour.error("error:")));
        Exit::Usage
    })?;
    options.read_only = args.read_only;
    options.create = !args.read_only;
    let is_new = args.dir.as_deref().is_some_and(is_absent);
    let database = Database::open(options).map_err(|e| {
        say(&report::render(&e, None, colour));
        Exit::CannotOpen
    })?;
    if let (true, Some(dir)) = (is_new && !args.read_only, &args.dir) {
        say(&format!("{} made database {}", colour.note("note:"), dir.display()));
    }
    Ok(database)
}

/// Whether nothing is there yet: no directory, or one without a file.
fn is_absent(dir: &Path) -> bool {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(e) => e.kind() == std::io::ErrorKind::NotFound,
    }
}

fn work(args: &Args, shell: &mut Shell) -> Exit {
    if shell.interactive {
        return repl::run(shell);
    }
    let result = if args.tasks.is_empty() {
        script::stdin(shell)
    } else {
        args.tasks.iter().try_for_each(|task| match task {
            Task::Command(text) => script::text(shell, text),
            Task::File(path) if path.as_os_str() == "-" => script::stdin(shell),
            Task::File(path) => script::file(shell, path),
        })
    };
    match result {
        Ok(()) | Err(Stop::Quit | Stop::OutputClosed) => Exit::Done,
        Err(Stop::Failed) => Exit::Failed,
        Err(Stop::Interrupted) => Exit::Interrupted,
    }
}

fn close(shell: Shell, exit: Exit) -> Exit {
    let colour = shell.colour;
    match shell.close() {
        Ok(()) => exit,
        Err(e) => {
            say(&report::render(&e, None, colour));
            if exit == Exit::Done { Exit::Failed } else { exit }
        }
    }
}
