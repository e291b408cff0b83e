/*!
The command line.
*/

use crate::workloads::ycsb::Distribution;
use clap::{Parser, Subcommand};
use omendb_cli::{ColourChoice, DatabaseArgs};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  omendb-bench list
  omendb-bench run metrics --db bench.omendb --duration 30s -o a.json
  omendb-bench run metrics --db bench.omendb --clients 4 --rate 2000      latency at 2,000 operations a second
  omendb-bench run sql queries.sql --db runs.omendb
  omendb-bench run tpch --db bench.omendb --scale 0.1
  omendb-bench run devops --db bench.omendb --clients 2
  omendb-bench run ycsb-c --db bench.omendb --cold                        every read from the device, or no result
  omendb-bench run durable-commit --db bench.omendb --clients 16
  omendb-bench compare a.json b.json                                      exit code 5 where b is worse
  omendb-bench report a.json b.json -o report.html
";

/// The OmenDB bench runner: workloads whose every answer is checked.
#[derive(Debug, Parser)]
#[command(
    name = "omendb-bench",
    version = omendb_cli::version::version(),
    before_long_help = EXAMPLES,
    after_help = "`omendb-bench completions SHELL` prints completions, `omendb-bench man` the man page.",
)]
pub(crate) struct Args {
    /// Colour: auto is on a terminal, unless NO_COLOR is set [default: auto]
    #[arg(long, global = true, env = "OMENDB_COLOR", value_enum, value_name = "WHEN")]
    pub(crate) color: Option<ColourChoice>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print the workloads
    List,
    /// Run a workload, print what came of it
    Run(Box<RunArgs>),
    /// Compare results: exit code 5 where the second is worse
    Compare(CompareArgs),
    /// Write one or two results as an HTML page that needs no network
    Report(ReportArgs),
}

/// `report`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReportArgs {
    /// Results of `run -o`
    #[arg(required = true, num_args = 1..=2, value_names = ["A.json", "B.json"])]
    pub(crate) files: Vec<PathBuf>,
    /// The page
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
}

/// `compare`.
#[derive(Debug, clap::Args)]
pub(crate) struct CompareArgs {
    /// Results of `run -o`: one of the old program, one of the new; more runs of each follow in pairs
    #[arg(required = true, num_args = 2.., value_names = ["A.json", "B.json"])]
    pub(crate) files: Vec<PathBuf>,
    /// Differences below this many per cent are none
    #[arg(long, value_name = "PERCENT", default_value = "2", value_parser = percent)]
    pub(crate) threshold: f64,
    /// Seed of the bootstrap
    #[arg(long, value_name = "S", default_value = "1")]
    pub(crate) seed: u64,
    /// Print JSON in place of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// `run`.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// Which workload, see `omendb-bench list`
    #[arg(value_name = "WORKLOAD")]
    pub(crate) workload: String,
    /// The workload `sql` runs this script
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Database directory, made if it is not there; tables named bench_… in it are the runner's, and are made anew
    #[arg(long, env = "OMENDB_DB", value_name = "DIR")]
    pub(crate) db: Option<PathBuf>,
    /// Clients that work at the same time, a thread each
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) clients: u16,
    /// How long to measure
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// How long to work before that, unmeasured [default: a fifth of the duration, at most 10s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) warmup: Option<Duration>,
    /// Operations a second that begin whether earlier ones have ended or not, all clients together [default: each client
    /// begins one when it has ended another]
    #[arg(long, value_name = "R", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// Rows of the workload's tables at the start [default: the workload's own]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rows: Option<u64>,
    /// Scale of tpch: 1 is 8.7 million rows, 1 GB as text [default: 0.1]
    #[arg(long, value_name = "S", value_parser = scale)]
    pub(crate) scale: Option<f64>,
    /// Empty the database's cache and the system's before each operation; refused where the kernel does not count reads of the
    /// device
    #[arg(long)]
    pub(crate) cold: bool,
    /// YCSB with two BIGINT a row in place of 1 KB
    #[arg(long)]
    pub(crate) narrow: bool,
    /// Which records of YCSB are wanted [default: the workload's own]
    #[arg(long, value_enum, value_name = "NAME")]
    pub(crate) distribution: Option<Distribution>,
    /// Equal seeds give equal rows, and equal operations of each client
    #[arg(long, value_name = "S", default_value = "1")]
    pub(crate) seed: u64,
    /// Write the result as JSON into this file; `-` is standard output, without the table
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Print errors only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
}

impl Args {
    /// Parses a command line.
    ///
    /// # Errors
    /// clap's, which knows how to print itself (help and version are errors too).
    pub(crate) fn parse_from(arguments: impl IntoIterator<Item = OsString>) -> Result<Args, clap::Error> {
        Args::try_parse_from(arguments)
    }

    /// The database that the command is about, whose settings file counts.
    pub(crate) fn database_dir(&self) -> Option<&Path> {
        match &self.command {
            Command::Run(run) => run.db.as_deref(),
            Command::List | Command::Compare(_) | Command::Report(_) => None,
        }
    }
}

/// `300ms`, `30s`, `2m`, `1h`; more than nothing.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time: write for example 500ms, 30s or 2m");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
    let factor = match unit.trim() {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * factor).ok().filter(|time| *time <= DURATION_MAX).ok_or_else(wrong)
}

/// The longest time that a run may be asked for: a week.
const DURATION_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

fn rate(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok().filter(|rate| (0.001..=1e8).contains(rate));
    number.ok_or_else(|| format!("{text:?} is not a rate: write operations a second, 0.001 to 100000000"))
}

/// Scales at which TPC-H's generator makes tables whose keys are unique. The four suppliers of a part are told apart by a formula that counts
/// on many suppliers: at smaller scales some parts have the same one twice.
fn scale(text: &str) -> Result<f64, String> {
    let has_unique_keys = |scale: &f64| *scale == 0.01 || (0.03..=1000.0).contains(scale);
    let number: Option<f64> = text.parse().ok().filter(has_unique_keys);
    number.ok_or_else(|| format!("{text:?} is not a scale of tpch: write 0.01, or a number from 0.03 to 1000"))
}

fn percent(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok().filter(|percent| (0.0..=1000.0).contains(percent));
    number.ok_or_else(|| format!("{text:?} is not a number of per cent"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(words: &[&str]) -> Result<Args, clap::Error> {
        Args::parse_from(["omendb-bench"].iter().chain(words).map(OsString::from))
    }

    #[test]
    fn the_definitions_are_sound() {
        Args::command().debug_assert();
        assert!(parse(&[]).is_err());
        assert!(parse(&["run"]).is_err());
        assert!(parse(&["run", "metrics", "--clients", "0"]).is_err());
        assert!(parse(&["run", "metrics", "--duration", "30"]).is_err());
        assert!(parse(&["run", "metrics", "--rate", "-1"]).is_err());
        assert!(parse(&["run", "metrics", "--rate", "nan"]).is_err());
    }

    #[test]
    fn times_are_read_as_written() {
        for (text, millis) in [("300ms", 300), ("30s", 30_000), ("1.5m", 90_000), ("1 h", 3_600_000), ("0s", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "-1s", "1d", "1.2.3s", "99999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
