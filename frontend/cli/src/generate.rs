/*!
Completions and man pages, made from the same definitions that parse the arguments.

`PROGRAM completions SHELL` and `PROGRAM man` are recognised before anything else is parsed, since a program's own
arguments may be names of directories.
*/

use crate::Exit;
use crate::report::say;
use clap::{Command, ValueEnum};
use clap_complete::Shell;
use std::ffi::OsString;
use std::io::Write;

/// Answers `completions SHELL` and `man`; `None` for any other command line.
pub fn intercept(command: Command, arguments: &[OsString], out: &mut dyn Write) -> Option<Exit> {
    let words: Vec<&str> = arguments.iter().skip(1).map(|a| a.to_str().unwrap_or("")).collect();
    match words.as_slice() {
        ["completions"] => Some(wrong_usage("completions wants a shell")),
        ["completions", shell] => Some(completions(command, shell, out)),
        ["man"] => Some(man(command, out)),
        _ => None,
    }
}

fn completions(mut command: Command, shell: &str, out: &mut dyn Write) -> Exit {
    let Ok(shell) = Shell::from_str(shell, true) else {
        return wrong_usage(&format!("no completions for {shell:?}"));
    };
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    written(out.write_all(&script))
}

fn man(command: Command, out: &mut dyn Write) -> Exit {
    let mut page = Vec::new();
    match clap_mangen::Man::new(command).render(&mut page) {
        Ok(()) => written(out.write_all(&page)),
        Err(_) => Exit::Failed,
    }
}

fn written(result: std::io::Result<()>) -> Exit {
    match result {
        Ok(()) => Exit::Done,
        Err(_) => Exit::Failed,
    }
}

fn wrong_usage(what: &str) -> Exit {
    let names: Vec<String> = Shell::value_variants().iter().map(ToString::to_string).collect();
    say(&format!("error: {what}; shells: {}", names.join(", ")));
    Exit::Usage
}
