/*!
`--check`: reads everything that the directory holds, without opening the database, and names what is wrong.

The counts go to standard output, problems and notes to standard error.
*/

use omendb_cli::interrupt::Interrupt;
use omendb_cli::report::{self, say};
use omendb_cli::{Colour, Exit};
use omendb_sql::SqlError;
use omendb_sql::engine::db::check_directory_until;
use omendb_sql::engine::io;
use std::io::Write;
use std::path::Path;

/// Checks the database in `dir`.
pub(crate) fn run(dir: &Path, colour: Colour) -> Exit {
    match check(dir, colour) {
        Ok(exit) => exit,
        Err(e) => {
            say(&report::render(&e, None, colour));
            Exit::of_error(&e)
        }
    }
}

fn check(dir: &Path, colour: Colour) -> Result<Exit, SqlError> {
    let interrupt = Interrupt::listen()?;
    let report = check_directory_until(&io::platform()?, dir, &|| interrupt.happened())?;
    if !report.is_whole {
        return Ok(Exit::Interrupted);
    }
    for problem in &report.problems {
        say(&format!("{} {problem}", colour.error("problem:")));
    }
    for note in &report.notes {
        say(&format!("{} {note}", colour.note("note:")));
    }
    match writeln!(std::io::stdout(), "{report}") {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => return Err(e.into()),
        _ => {}
    }
    Ok(if report.is_sound() { Exit::Done } else { Exit::Findings })
}
