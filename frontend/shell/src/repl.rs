/*!
A person at a terminal: a banner, a prompt, and what is typed is run, until the person leaves.

Where the terminal can move its cursor there is an editor with colours, completion and history; on a dumb one, or when
standard output is not the terminal, lines are read as they come. Prompts go to stderr.
*/

mod complete;
mod editor;
mod highlight;
mod history;
mod plain;

use crate::feed::Feed;
use crate::script;
use crate::shell::{Place, Shell, Stop};
use omendb_cli::Exit;
use omendb_cli::report::say;
use std::io::IsTerminal;

/// The prompt where a statement begins.
const PROMPT: &str = "omendb> ";
/// The prompt where a statement goes on.
const CONTINUATION: &str = "     -> ";

/// What was typed.
enum Input {
    /// A whole submission: one line or many.
    Text(String),
    /// Ctrl-C: what was being typed is not wanted.
    Cleared,
    /// Ctrl-D.
    End,
}

/// Where input comes from.
trait Reader {
    /// The next submission, which goes on with what `feed` holds; a reader may have to clear that itself.
    fn read(&mut self, shell: &mut Shell, feed: &mut Feed) -> std::io::Result<Input>;
}

/// Talks until the person leaves.
pub(crate) fn run(shell: &mut Shell) -> Exit {
    banner(shell);
    let can_edit = std::io::stdout().is_terminal()
        && std::io::stderr().is_terminal()
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
    let mut reader: Box<dyn Reader> = if can_edit {
        shell.when_idle(|| {});
        Box::new(editor::Editor::new(shell))
    } else {
        Box::new(plain::Plain::new(shell))
    };
    talk(shell, reader.as_mut())
}

fn banner(shell: &Shell) {
    let what = match shell.database.engine().dir() {
        Some(dir) if shell.database.engine().is_read_only() => format!("{}, for reading only", dir.display()),
        Some(dir) => dir.display().to_string(),
        None => "a database in memory: it is gone when you leave".to_owned(),
    };
    say(&format!("{} {}", shell.colour.strong("OmenDB"), omendb_cli::version::version()));
    say(&format!("Connected to {what}."));
    say("\\? lists commands; a statement ends with a semicolon.");
}

fn talk(shell: &mut Shell, reader: &mut dyn Reader) -> Exit {
    let mut feed = Feed::default();
    loop {
        let input = {
            // At the prompt Ctrl-C clears the line, however often.
            let _keep_alive = shell.interrupt.keep_alive();
            reader.read(shell, &mut feed)
        };
        // From here on Ctrl-C is about what runs, until it is done.
        shell.interrupt.reset();
        match input {
            Ok(Input::Text(text)) => match submit(shell, &mut feed, &text) {
                Ok(()) | Err(Stop::Failed | Stop::Interrupted) => {}
                Err(Stop::Quit | Stop::OutputClosed) => return Exit::Done,
            },
            Ok(Input::Cleared) => feed.clear(),
            Ok(Input::End) => return Exit::Done,
            Err(e) => {
                shell.fail(Place::default(), &format!("cannot read from the terminal: {e}"), None);
                return Exit::Failed;
            }
        }
    }
}

/// Runs what is complete; the rest of a submission that fails is forgotten.
fn submit(shell: &mut Shell, feed: &mut Feed, text: &str) -> Result<(), Stop> {
    for line in text.split_inclusive('\n') {
        let units = feed.line(line).map_err(|message| shell.fail(Place::default(), &message, None))?;
        // Lines are counted from the submission's own beginning.
        let units: Vec<_> = units.into_iter().map(|unit| crate::feed::Unit { line: 1, ..unit }).collect();
        script::units(shell, &units).inspect_err(|_| feed.clear())?;
    }
    Ok(())
}
