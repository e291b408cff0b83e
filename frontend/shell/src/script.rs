/*!
Scripts: what a file, a pipe or a `-c` holds is run as it arrives, and stops at the first error.
*/

use crate::feed::{Feed, Unit};
use crate::shell::{Place, Shell, Step, Stop};
use omendb_cli::report::Source;
use omendb_sql::SqlError;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// Bytes of one line. A line that is longer is no script.
const LINE_BYTES_MAX: usize = 64 << 20;

/// Scripts that run scripts: deeper than this, a script runs itself.
const DEPTH_MAX: usize = 16;

/// Runs the text of a `-c`.
pub(crate) fn text(shell: &mut Shell, text: &str) -> Step {
    run(shell, text.as_bytes(), None)
}

/// Runs standard input.
pub(crate) fn stdin(shell: &mut Shell) -> Step {
    run(shell, BufReader::new(std::io::stdin()), Some("stdin"))
}

/// Runs a file.
pub(crate) fn file(shell: &mut Shell, path: &Path) -> Step {
    let name = path.display().to_string();
    let unreadable = |e: std::io::Error| shell.fail(Place::default(), &format!("cannot read {name}: {e}"), None);
    if shell.script_depth >= DEPTH_MAX {
        let message = format!("{name}: scripts are nested more than {DEPTH_MAX} deep");
        return Err(shell.fail(Place::default(), &message, Some("does the script run itself?")));
    }
    let file = File::open(path).map_err(unreadable)?;
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Err(unreadable(std::io::ErrorKind::IsADirectory.into()));
    }
    shell.script_depth += 1;
    let result = run(shell, BufReader::new(file), Some(&name));
    shell.script_depth -= 1;
    result
}

/// Runs text that a person has put together: a submission of the prompt, or what an editor left.
pub(crate) fn units(shell: &mut Shell, units: &[Unit]) -> Step {
    units.iter().try_for_each(|unit| shell.run(unit, None))
}

fn run(shell: &mut Shell, mut reader: impl BufRead, name: Option<&str>) -> Step {
    let (mut feed, mut bytes, mut number) = (Feed::default(), Vec::new(), 0);
    loop {
        bytes.clear();
        number += 1;
        let place = Place { file: name, line: number };
        let taken = read_line(&mut reader, &mut bytes).map_err(|e| {
            let name = name.unwrap_or("the command");
            shell.fail(Place::default(), &format!("cannot read {name}: {e}"), None)
        })?;
        if taken == 0 {
            break;
        }
        let line = std::str::from_utf8(&bytes).map_err(|e| not_utf8(shell, e.valid_up_to(), place))?;
        let line = if number == 1 { line.strip_prefix('\u{feff}').unwrap_or(line) } else { line };
        let units = feed.line(line).map_err(|message| shell.fail(place, &message, None))?;
        units.iter().try_for_each(|unit| shell.run(unit, name))?;
    }
    feed.finish().map_or(Ok(()), |unit| shell.run(&unit, name))
}

fn read_line(reader: &mut impl BufRead, bytes: &mut Vec<u8>) -> std::io::Result<usize> {
    let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
    let taken = reader.take(limit).read_until(b'\n', bytes)?;
    if taken >= LINE_BYTES_MAX {
        let message = format!("a line is longer than {} MiB", LINE_BYTES_MAX >> 20);
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, message));
    }
    Ok(taken)
}

fn not_utf8(shell: &Shell, column: usize, place: Place<'_>) -> Stop {
    let state = omendb_sql::error::state::CHARACTER_NOT_IN_REPERTOIRE;
    let message =
        format!("the script is not UTF-8: byte {} of line {} is part of no character", column + 1, place.line);
    let source = Source { sql: "", file: place.file, line: place.line };
    omendb_cli::report::say(&omendb_cli::report::render_at(&SqlError::new(state, message), Some(source), shell.colour));
    Stop::Failed
}
