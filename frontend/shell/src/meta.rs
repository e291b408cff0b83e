/*!
Backslash commands. Each may begin with a dot instead, and a few have the names that other shells gave them.

One table ([`COMMANDS`]) says what there is: dispatch, help, completion and "did you mean" all read it.
*/

mod copy;
mod describe;
mod edit;
mod index;
mod sheet;
mod view;
mod watch;
mod words;

use crate::shell::{Place, Shell, Step, Stop};
use omendb_cli::report::say;
use words::Arguments;

/// What a command may be about: its argument is completed accordingly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    /// Nothing that can be completed.
    Nothing,
    /// A table.
    Table,
    /// A file.
    File,
    /// SQL.
    Sql,
    /// One of a few words.
    Words(&'static [&'static str]),
}

/// One command.
pub(crate) struct Command {
    /// Its names without the backslash, the usual one first.
    pub(crate) names: &'static [&'static str],
    /// Its arguments, for the help.
    arguments: &'static str,
    help: &'static str,
    /// What its argument is.
    pub(crate) about: About,
    run: fn(&mut Shell, &Arguments<'_>) -> Step,
}

const ON_OFF: About = About::Words(&["off", "on"]);
const FORMATS: About = About::Words(&["csv", "json", "markdown", "ndjson", "table", "tsv", "vertical"]);

/// All commands, in the order of the help.
pub(crate) const COMMANDS: &[Command] = &[
    command(&["?", "help", "h"], "", "this list", About::Nothing, help),
    command(&["q", "quit", "exit"], "", "leave", About::Nothing, |_, _| Err(Stop::Quit)),
    command(
        &["d", "describe", "schema"],
        "[TABLE]",
        "a table's columns, key and indexes; all tables",
        About::Table,
        describe::describe,
    ),
    command(&["dt", "tables"], "", "the tables", About::Nothing, describe::tables),
    command(&["di", "indexes", "indices"], "", "the primary keys and their indexes", About::Nothing, describe::indexes),
    command(&["index"], "TABLE", "the learned models of a table's runs", About::Table, index::show),
    command(&["format", "mode"], "[FORMAT]", "how results are written", FORMATS, view::format),
    command(
        &["x"],
        "[on|off|auto]",
        "one block a row instead of a table",
        About::Words(&["auto", "off", "on"]),
        view::expanded,
    ),
    command(&["timing", "timer"], "[on|off]", "tell how long statements take", ON_OFF, view::timing),
    command(
        &["pset"],
        "[NAME VALUE]",
        "footer, format, null, pager, rows: how results look",
        About::Words(view::PSET),
        view::pset,
    ),
    command(&["o", "output"], "[FILE]", "write results to a file; back to standard output", About::File, view::output),
    command(&["i", "include", "read"], "FILE", "run a script", About::File, edit::include),
    command(&["e", "edit"], "[FILE]", "edit the last statement, or a file, and run it", About::File, edit::edit),
    command(
        &["watch"],
        "[SECONDS]",
        "run the last statement again and again until Ctrl-C",
        About::Nothing,
        watch::watch,
    ),
    command(&["g"], "", "run the last statement again", About::Nothing, watch::again),
    command(&["p", "print"], "", "print the last statement", About::Nothing, edit::print_last),
    command(&["copy"], "TABLE FROM|TO FILE …", "COPY; the file's name needs no quotes", About::Sql, copy::copy),
    command(
        &["set"],
        "[NAME [VALUE]]",
        "set a variable, for :NAME, :'NAME' and :\"NAME\"; list them",
        About::Nothing,
        set,
    ),
    command(&["unset"], "NAME", "forget a variable", About::Nothing, unset),
    command(&["echo"], "TEXT", "write a line to the results", About::Nothing, echo),
    command(&["conninfo"], "", "which database this is", About::Nothing, describe::database),
    command(&["!", "shell"], "COMMAND", "run a command of the system", About::File, edit::system),
];

const fn command(
    names: &'static [&'static str],
    arguments: &'static str,
    help: &'static str,
    about: About,
    run: fn(&mut Shell, &Arguments<'_>) -> Step,
) -> Command {
    Command { names, arguments, help, about, run }
}

/// The command of this name, which has no backslash.
pub(crate) fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.names.contains(&name))
}

/// Runs a command with its backslash.
pub(crate) fn run(shell: &mut Shell, text: &str, place: Place<'_>) -> Step {
    let (name, rest) = words::split_name(text);
    match find(name) {
        Some(command) => {
            let rest = shell.variables.interpolate(rest);
            (command.run)(shell, &Arguments { text: rest.trim(), place })
        }
        None => {
            let known = COMMANDS.iter().flat_map(|command| command.names.iter().copied());
            let hint = match nearest(name, known) {
                Some(near) => format!("did you mean \\{near}? \\? lists all commands"),
                None => "\\? lists all commands".to_owned(),
            };
            Err(shell.fail(place, &format!("there is no command \\{name}"), Some(&hint)))
        }
    }
}

/// The name that was probably meant.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let far = (name.chars().count() / 3).max(1);
    let lower = name.to_lowercase();
    let distance = |known: &&str| strsim::damerau_levenshtein(&lower, &known.to_lowercase());
    known.map(|known| (distance(&known), known)).filter(|(d, _)| *d <= far).min().map(|(_, known)| known)
}

fn help(shell: &mut Shell, arguments: &Arguments<'_>) -> Step {
    let mut text = String::from("Commands (a dot may stand for the backslash)\n");
    let usage = |c: &Command| format!("\\{} {}", c.names.first().unwrap_or(&""), c.arguments);
    let width = COMMANDS.iter().map(|c| usage(c).chars().count()).max().unwrap_or(0);
    for command in COMMANDS {
        let usage = usage(command);
        let blank = " ".repeat(width.saturating_sub(usage.chars().count()));
        let others: Vec<String> = command.names.iter().skip(1).map(|name| format!("\\{name}")).collect();
        let others = if others.is_empty() { String::new() } else { format!(" ({})", others.join(", ")) };
        text.push_str(&format!("  {usage}{blank}  {}{others}\n", command.help));
    }
    text.push_str("\nStatements end with a semicolon. Tab completes; Ctrl-R searches the history; Ctrl-C stops a statement; Ctrl-D leaves.\n");
    text.push_str(
        "Files are tables: SELECT * FROM 'x.parquet'; COPY t FROM 'x.csv'; COPY (SELECT …) TO 'x.parquet'.\n",
    );
    print(shell, arguments.place, &text)
}

/// Writes text to where results go.
fn print(shell: &mut Shell, place: Place<'_>, text: &str) -> Step {
    let ticker = crate::ticker::Ticker::start(false);
    let written = shell.write(&ticker, |out| {
        out.write_all(text.as_bytes())?;
        Ok(0)
    });
    written.map(|_| ()).map_err(|e| shell.stop(e, None, place))
}

fn set(shell: &mut Shell, arguments: &Arguments<'_>) -> Step {
    let words = arguments.words(shell)?;
    match words.split_first() {
        None => {
            let text: String = shell.variables.iter().map(|(name, value)| format!("{name} = '{value}'\n")).collect();
            print(shell, arguments.place, &text)
        }
        Some((name, values)) => {
            let result = shell.variables.set(name, &values.concat());
            result.map_err(|message| shell.fail(arguments.place, &message, None))
        }
    }
}

fn unset(shell: &mut Shell, arguments: &Arguments<'_>) -> Step {
    let name = arguments.one(shell, "the name of a variable")?;
    if shell.variables.unset(&name) {
        return Ok(());
    }
    let hint = nearest(&name, shell.variables.names()).map(|near| format!("did you mean {near}?"));
    Err(shell.fail(arguments.place, &format!("there is no variable {name}"), hint.as_deref()))
}

fn echo(shell: &mut Shell, arguments: &Arguments<'_>) -> Step {
    let words = arguments.words(shell)?;
    print(shell, arguments.place, &format!("{}\n", words.join(" ")))
}

/// Says how a setting stands now, to a person only.
fn tell(shell: &Shell, text: &str) {
    if shell.interactive {
        say(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = COMMANDS.iter().flat_map(|c| c.names).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn a_near_miss_finds_what_was_meant() {
        let known = || COMMANDS.iter().flat_map(|c| c.names.iter().copied());
        assert_eq!(nearest("timng", known()), Some("timing"));
        assert_eq!(nearest("indx", known()), Some("index"));
        assert_eq!(nearest("wibble", known()), None);
    }
}
