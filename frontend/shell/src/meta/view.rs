/*!
How results look and where they go: `\format`, `\x`, `\timing`, `\pset`, `\o`.
*/

use super::words::{Arguments, on_or_off};
use super::{nearest, print, tell};
use crate::output::{self, Output};
use crate::render::Format;
use crate::shell::{Expanded, Place, Shell, Step, Stop};
use clap::ValueEnum;
use std::path::Path;

/// What `\pset` knows.
pub(super) const PSET: &[&str] = &["footer", "format", "null", "pager", "rows"];

/// `\format`.
pub(super) fn format(shell: &mut Shell, arguments: &Arguments<'_>) -> Step {
    if let Some(word) = arguments.optional(shell)? {
        shell.view.format = parse_format(shell, &word, arguments.place)?;
    }
    tell(shell, &format!("Results are written as {}.", format_name(shell.view.format)));
    Ok(())
}

fn format_name(format: Format) -> String {
    format.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
}

fn parse_format(shell: &Shell, word: &str, place: Place<'_>) -> Result<Format, Stop> {
    Format::from_str(word, true).map_err(|_| {
        let names: Vec<String> = Format::value_variants().iter().map(|f| format_name(*f)).collect();
        let near = nearest(word, names.iter().map(String::as_str)).map(|near| format!("did you mean {near}? "));
        let hint = format!("{}there are {}", near.unwrap_or_default(), names.join(", "));
        shell.fail(place, &format!("there is no format {word}"), Some(&hint))
    })
}

/// `\x`.
pub(super) fn expanded(shell: &mut Shell, arguments: &Arguments<'_>) -> Step {
    shell.view.expanded = match arguments.optional(shell)?.as_deref() {
        None if shell.view.expanded == Expanded::Off => Expanded::On,
        None => Expanded::Off,
        Some(word) if word.eq_ignore_ascii_case("auto") => Expanded::Auto,
        Some(word) => match on_or_off(word) {
            Some(true) => Expanded::On,
            Some(false) => Expanded::Off,
            None => return Err(shell.fail(arguments.place, &format!("{word:?} is none of on, off, auto"), None)),
        },
    };
    let text = match shell.view.expanded {
        Expanded::Off => "Rows are shown in a table.",
        Expanded::On => "Each row is shown as a block.",
        Expanded::Auto => "Rows are shown as blocks when a table would be too wide.",
    };
    tell(shell, text);
    Ok(())
}

/// `\timing`.
pub(super) fn timing(shell: &mut Shell, arguments: &Arguments<'_>) -> Step {
    shell.view.timing = arguments.switch(shell, shell.view.timing)?;
    tell(shell, if shell.view.timing { "Timing is on." } else { "Timing is off." });
    Ok(())
}

/// `\pset`.
pub(super) fn pset(shell: &mut Shell, arguments: &Arguments<'_>) -> Step {
    let place = arguments.place;
    let words = arguments.words(shell)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => {
            let text = settings(shell);
            return print(shell, place, &text);
        }
        ["footer", word] => match on_or_off(word) {
            Some(footer) => shell.view.footer = footer,
            None => return Err(shell.fail(place, &format!("{word:?} is neither on nor off"), None)),
        },
        ["format", word] => shell.view.format = parse_format(shell, word, place)?,
        ["null"] => shell.view.null.clear(),
        ["null", text] => (*text).clone_into(&mut shell.view.null),
        ["pager"] | ["pager", "on"] => shell.view.set_pager(None),
        ["pager", "off"] => shell.view.pager = None,
        ["pager", command @ ..] => shell.view.pager = Some(command.join(" ")),
        ["rows", "all"] => shell.view.rows_max = None,
        ["rows", number] => match number.parse::<usize>() {
            Ok(rows) if rows >= 2 => shell.view.rows_max = Some(rows),
            _ => return Err(shell.fail(place, "rows is \"all\", or a number from 2", None)),
        },
        [name, ..] => {
            let near = nearest(name, PSET.iter().copied()).filter(|near| near != name);
            let near = near.map(|near| format!("did you mean {near}? ")).unwrap_or_default();
            let hint = format!("{near}there are {}", PSET.join(", "));
            return Err(shell.fail(place, &format!("\\pset cannot set {}", words.join(" ")), Some(&hint)));
        }
    }
    Ok(())
}

fn settings(shell: &Shell) -> String {
    let view = &shell.view;
    let rows = view.rows_max.map_or_else(|| "all".to_owned(), |rows| rows.to_string());
    format!(
        "footer {}\nformat {}\nnull   '{}'\npager  {}\nrows   {rows}\n",
        if view.footer { "on" } else { "off" },
        format_name(view.format),
        view.null,
        view.pager.as_deref().unwrap_or("off"),
    )
}

/// `\o`.
pub(super) fn output(shell: &mut Shell, arguments: &Arguments<'_>) -> Step {
    shell.output = match arguments.optional(shell)? {
        None => Output::Stdout,
        Some(name) => {
            let file = output::Output::file(Path::new(&name));
            file.map_err(|e| shell.fail(arguments.place, &format!("cannot write {name}: {e}"), None))?
        }
    };
    Ok(())
}
