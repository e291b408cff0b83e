/*!
The command line.

`-c` and `-f` may be mixed and repeated; they run in the order in which they were written, which is why the order of
their places on the command line is kept.
*/

use crate::render::Format;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};
use omendb_cli::{ColourChoice, DatabaseArgs};
use std::ffi::OsString;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  omendb runs.omendb                       open the shell (a new database if absent)
  omendb runs.omendb -c 'SELECT count(*) FROM metrics'
  omendb --format csv -c \"SELECT * FROM 'flights.parquet' LIMIT 5\"
  omendb runs.omendb -f a.sql -f b.sql     run scripts, stop at the first error
  echo 'SELECT 1' | omendb                 run what comes in, in memory
  omendb runs.omendb --read-only           look while another process writes
  omendb runs.omendb --check               verify every byte, also of a database that does not open
";

/// The OmenDB shell: SQL on a database directory, or in memory.
#[derive(Debug, Parser)]
#[command(
    name = "omendb",
    version = omendb_cli::version::version(),
    before_long_help = EXAMPLES,
    after_help = "`omendb completions SHELL` prints completions, `omendb man` the man page; \\? in the shell lists its commands.",
)]
pub(crate) struct Args {
    /// Database directory; made if it does not exist. Without one the database is in memory
    pub dir: Option<PathBuf>,
    /// Run this SQL (or one \command) and exit; may be repeated
    #[arg(short = 'c', long = "command", value_name = "SQL", allow_hyphen_values = true)]
    pub commands: Vec<String>,
    /// Run this script and exit; `-` is standard input; may be repeated
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// How results are written [default: table]
    #[arg(long, env = "OMENDB_FORMAT", value_enum)]
    pub format: Option<Format>,
    /// Write results to this file instead of standard output
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Open for reading only, beside a writer, at the state as at open
    #[arg(long)]
    pub read_only: bool,
    /// Read everything in the database, verify it, name what is wrong, and exit: 3 if something is
    #[arg(long, requires = "dir", conflicts_with_all = ["commands", "files", "read_only"])]
    pub check: bool,
    /// Tell how long each statement took
    #[arg(long)]
    pub timing: bool,
    /// Colour: auto is on a terminal, unless NO_COLOR is set [default: auto]
    #[arg(long, env = "OMENDB_COLOR", value_enum, value_name = "WHEN")]
    pub color: Option<ColourChoice>,
    /// Settings of the database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// What `-c` and `-f` said, in their order.
    #[arg(skip)]
    pub tasks: Vec<Task>,
}

/// One `-c` or `-f`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Task {
    /// SQL, or one backslash command.
    Command(String),
    /// A script; `-` is standard input.
    File(PathBuf),
}

impl Args {
    /// Parses a command line.
    ///
    /// # Errors
    /// clap's, which knows how to print itself and its exit code (help and version are errors too).
    pub(crate) fn parse_from(arguments: impl IntoIterator<Item = OsString>) -> Result<Args, clap::Error> {
        let matches = Args::command().try_get_matches_from(arguments)?;
        let mut args = Args::from_arg_matches(&matches)?;
        args.tasks = tasks(&matches, &args);
        Ok(args)
    }
}

fn tasks(matches: &ArgMatches, args: &Args) -> Vec<Task> {
    let places = |name: &str| matches.indices_of(name).into_iter().flatten();
    let commands = places("commands").zip(args.commands.iter().cloned().map(Task::Command));
    let files = places("files").zip(args.files.iter().cloned().map(Task::File));
    let mut all: Vec<(usize, Task)> = commands.chain(files).collect();
    all.sort_by_key(|(place, _)| *place);
    all.into_iter().map(|(_, task)| task).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Args, clap::Error> {
        Args::parse_from(std::iter::once("omendb").chain(words.iter().copied()).map(OsString::from))
    }

    #[test]
    fn commands_and_files_keep_their_order() {
        let args = parse(&["d", "-c", "one", "-f", "two.sql", "-c", "three"]).unwrap();
        let command = |text: &str| Task::Command(text.into());
        assert_eq!(args.tasks, [command("one"), Task::File("two.sql".into()), command("three")]);
        assert_eq!(args.dir, Some("d".into()));
    }

    #[test]
    fn the_definitions_are_sound() {
        Args::command().debug_assert();
        assert!(parse(&["--format", "xml"]).is_err());
    }
}
