/*!
`\watch` and `\g`: the last statement, run again.
*/

use super::words::Arguments;
use crate::shell::{Shell, Step, Stop};
use omendb_cli::report::say;
use std::time::{Duration, Instant};

/// Seconds between runs when nothing is said.
const EVERY_DEFAULT: &str = "2";

/// How soon a wait notices Ctrl-C.
const STEP: Duration = Duration::from_millis(50);

/// `\g`.
pub(super) fn again(shell: &mut Shell, arguments: &Arguments<'_>) -> Step {
    let sql = shell.last_statement(arguments.place)?;
    shell.statement(&sql, arguments.place)
}

/// `\watch`: ends with Ctrl-C, which is no failure.
pub(super) fn watch(shell: &mut Shell, arguments: &Arguments<'_>) -> Step {
    let place = arguments.place;
    let sql = shell.last_statement(place)?;
    let words = arguments.optional(shell)?;
    let text = words.as_deref().unwrap_or(EVERY_DEFAULT);
    let every = text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let every = every.filter(|every| !every.is_zero());
    let every = every.ok_or_else(|| shell.fail(place, &format!("{text:?} is no number of seconds"), None))?;
    for number in 1_u64.. {
        say(&shell.colour.faint(&format!("run {number}, every {text} s until Ctrl-C")));
        let next = Instant::now().checked_add(every);
        match shell.statement(&sql, place) {
            Err(Stop::Interrupted) if shell.interactive => return Ok(()),
            other => other?,
        }
        loop {
            if shell.interrupt.happened() {
                return if shell.interactive { Ok(()) } else { Err(Stop::Interrupted) };
            }
            if next.is_some_and(|next| Instant::now() >= next) {
                break;
            }
            std::thread::sleep(STEP.min(every));
        }
    }
    Ok(())
}
