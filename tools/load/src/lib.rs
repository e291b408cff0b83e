/*!
`omendb-load`: files into a table, each as a whole or not at all.

```text
    args       the command line
    job        a run: opens the database, decides on the table, loads file after file
    table      the table to load: one that is there, or a new one from what the files hold
    file       one file, one transaction
    summary    what was done: counts, checked against the table
    failure    how a run ends when it does not end well
```

stdout carries the schema as a `CREATE TABLE` that can be replayed, and nothing else; progress, notes, the summary and
errors go to stderr. Rows are only ever counted in one way: *read = stored + skipped + rejected*, and the table must
have grown by just the rows stored that replaced none.

The loader knows files and the engine's bulk load; it runs no SQL.
*/
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod args;
mod failure;
mod file;
mod job;
mod summary;
mod table;

use args::Args;
use clap::CommandFactory;
use omendb_cli::settings::FileSettings;
use omendb_cli::{Colour, ColourChoice, Exit};
use std::ffi::OsString;

pub use args::OnConflictArg;

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
    let settings = FileSettings::load(Some(&args.db));
    let named = settings.as_ref().ok().and_then(|s| s.color.clone());
    let choice = args.color.or_else(|| named.and_then(|c| colour_choice(&c))).unwrap_or_default();
    let colour = Colour::stderr(choice);
    let outcome = settings.map_err(|e| failure::Failure::Usage(e.to_string())).and_then(|s| job::run(&args, &s));
    match outcome {
        Ok(exit) => exit,
        Err(failure) => failure.report(colour),
    }
}

fn colour_choice(name: &str) -> Option<ColourChoice> {
    <ColourChoice as clap::ValueEnum>::from_str(name, true).ok()
}
