/*!
What a run was asked for, with everything decided.
*/

use crate::args::RunArgs;
use crate::drive::Pace;
use crate::failure::Failure;
use crate::workloads::ycsb::Distribution;
use omendb_cli::interrupt::Interrupt;
use omendb_cli::settings::FileSettings;
use omendb_engine::db::{Db, Options};
use omendb_sql::{OpenOptions, SqlError};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest warm-up that nobody asked for.
const WARMUP_MAX: Duration = Duration::from_secs(10);

/// Intervals of a run at least, where they are not shorter than [`INTERVAL_MIN`] then.
const INTERVALS: u32 = 60;
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(1);

/// What a run was asked for.
pub(crate) struct Settings {
    pub(crate) workload: String,
    /// How to open the database; without a directory where none was named.
    pub(crate) open: OpenOptions,
    pub(crate) clients: usize,
    pub(crate) duration: Duration,
    pub(crate) warmup: Duration,
    pub(crate) pace: Pace,
    /// Rows of tables at the start, if anybody said so.
    pub(crate) rows: Option<u64>,
    /// Of TPC-H, if anybody said so.
    pub(crate) scale: Option<f64>,
    /// The script of `sql`.
    pub(crate) file: Option<PathBuf>,
    /// Of YCSB.
    pub(crate) narrow: bool,
    pub(crate) distribution: Option<Distribution>,
    /// Whether operations find nothing in memory.
    pub(crate) cold: bool,
    pub(crate) seed: u64,
    pub(crate) quiet: bool,
    pub(crate) interrupt: Interrupt,
}

impl Settings {
    /// Out of the command line and the settings files.
    pub(crate) fn new(args: &RunArgs, files: &FileSettings) -> Result<Settings, Failure> {
        let is_ycsb = args.workload.starts_with("ycsb-");
        let out_of_place = [
            ("FILE", "sql", args.file.is_some() && args.workload != "sql"),
            ("--scale", "tpch", args.scale.is_some() && args.workload != "tpch"),
            ("--narrow", "ycsb-…", args.narrow && !is_ycsb),
            ("--distribution", "ycsb-…", args.distribution.is_some() && !is_ycsb),
        ];
        if let Some((what, whose, _)) = out_of_place.into_iter().find(|(_, _, is)| *is) {
            return Err(Failure::Usage(format!("workload {whose} takes {what}, and {} does not", args.workload)));
        }
        if args.cold && args.clients != 1 {
            return Err(Failure::Usage("a cold run has one client: what one has read, others would find".into()));
        }
        let open = args.database.open_options(args.db.clone(), files).map_err(|e| Failure::Usage(e.to_string()))?;
        Ok(Settings {
            workload: args.workload.clone(),
            open,
            clients: usize::from(args.clients),
            duration: args.duration,
            warmup: args.warmup.unwrap_or((args.duration / 5).min(WARMUP_MAX)),
            pace: args.rate.map_or(Pace::Closed, Pace::Rate),
            rows: args.rows,
            scale: args.scale,
            file: args.file.clone(),
            narrow: args.narrow,
            distribution: args.distribution,
            cold: args.cold,
            seed: args.seed,
            quiet: args.quiet,
            interrupt: Interrupt::listen().map_err(SqlError::from)?,
        })
    }

    /// The database's directory.
    ///
    /// # Errors
    /// Wrong usage where none was named.
    pub(crate) fn dir(&self) -> Result<&Path, Failure> {
        let missing = || Failure::Usage(format!("workload \"{}\" needs a database: add --db DIR", self.workload));
        self.open.dir.as_deref().ok_or_else(missing)
    }

    /// How the engine is opened.
    ///
    /// # Errors
    /// As [`Settings::dir`].
    pub(crate) fn options(&self) -> Result<Options, Failure> {
        let usual = Options::dir(self.dir()?);
        Ok(Options {
            sync: self.open.sync,
            cache_bytes: self.open.cache_bytes.unwrap_or(usual.cache_bytes),
            memory_bytes: self.open.memory_bytes.unwrap_or(usual.memory_bytes),
            ..usual
        })
    }

    /// Opens the database.
    ///
    /// # Errors
    /// As [`Settings::dir`]; that it can't be opened.
    pub(crate) fn open_engine(&self) -> Result<Db, Failure> {
        Db::open(self.options()?).map_err(|e| Failure::CannotOpen(e.into()))
    }

    /// How long an interval is of which one sample is kept: about sixty of a run, a second at most.
    pub(crate) fn interval(&self) -> Duration {
        (self.duration / INTERVALS).clamp(INTERVAL_MIN, INTERVAL_MAX)
    }

    /// An error once the user has pressed Ctrl-C.
    pub(crate) fn stop_if_interrupted(&self) -> Result<(), Failure> {
        match self.interrupt.happened() {
            true => Err(Failure::Interrupted),
            false => Ok(()),
        }
    }
}
