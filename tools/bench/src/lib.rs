/*!
`omendb-bench`: workloads run and checked, results compared.

```text
    args         the command line
    workload     what a workload is, and which there are
    workloads    one file a workload
    zipf         which records are wanted
    settings     what a run was asked for
    run          `run`: from the command line to the result
    drive        clients that work in a closed loop or at a rate
    clock        the time that they go by
    yardstick    what the machine is worth meanwhile
    cold         runs whose reads come from the device, by the kernel's own counts
    record       what they did, by operation and interval
    latency      distributions of times
    watch        intervals of a run: what was done in each, and what the engine was doing
    live         progress on stderr
    environment  the machine and the file system
    result       a result as JSON
    table        tables for people
    compare      `compare`: results held against each other
    machine      what of two runs' difference is the machine's
    bootstrap    how sure a ratio is
    report       `report`: results as an HTML page
    names        near misses of names
    failure      how the program ends when it does not end well
```

stdout carries data (tables, JSON), everything else goes to stderr. **A wrong or missing row is a failed run, never a fast
one**: each operation's answer is held against what it must be, outside of the time that is taken.

The runner knows the engine and works on it directly, in this process; only the workloads `sql`, `tpch` and `devops` know SQL. `tpch` also knows
DataFusion, which answers its queries once more from memory.
*/
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod args;
mod beside;
mod bootstrap;
mod clock;
mod cold;
mod compare;
mod drive;
mod environment;
mod failure;
mod latency;
mod live;
mod machine;
mod names;
mod record;
mod report;
mod result;
mod run;
mod settings;
mod table;
mod watch;
mod workload;
mod workloads;
mod yardstick;
mod zipf;

use args::{Args, Command};
use clap::CommandFactory;
use failure::Failure;
use omendb_cli::settings::FileSettings;
use omendb_cli::{Colour, ColourChoice, Exit};
use std::ffi::OsString;

/// Runs the program; says how it ends.
pub fn run(arguments: Vec<OsString>) -> Exit {
    if let Some(exit) = omendb_cli::generate::intercept(Args::command(), &arguments, &mut std::io::stdout()) {
        return exit;
    }
    let args = match Args::parse_from(arguments) {
        Ok(args) => args,
        Err(e) => {
            // Help and version go to stdout and are no failure; there is nobody to tell when printing fails.
            let _unprinted = e.print();
            return if e.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    let files = FileSettings::load(args.database_dir());
    let named = files.as_ref().ok().and_then(|s| s.color.clone());
    let choice = args.color.or_else(|| named.and_then(|c| colour_choice(&c))).unwrap_or_default();
    let outcome = files.map_err(|e| Failure::Usage(e.to_string())).and_then(|files| match &args.command {
        Command::List => run::list(),
        Command::Run(args) => run::run(args, &files, Colour::stderr(choice)),
        Command::Compare(args) => compare::compare(args, Colour::stdout(choice)),
        Command::Report(args) => report::report(args),
    });
    match outcome {
        Ok(exit) => exit,
        Err(failure) => failure.report(Colour::stderr(choice)),
    }
}

fn colour_choice(name: &str) -> Option<ColourChoice> {
    <ColourChoice as clap::ValueEnum>::from_str(name, true).ok()
}
