/*!
Files and other programs: `\e`, `\i`, `\p`, `\!`.
*/

use super::words::Arguments;
use super::{print, tell};
use crate::feed::Feed;
use crate::output::system_shell;
use crate::script;
use crate::shell::{Place, Shell, Step};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// `\i`.
pub(super) fn include(shell: &mut Shell, arguments: &Arguments<'_>) -> Step {
    let name = arguments.one(shell, "a file")?;
    script::file(shell, Path::new(&name))
}

/// `\p`.
pub(super) fn print_last(shell: &mut Shell, arguments: &Arguments<'_>) -> Step {
    let sql = shell.last_statement(arguments.place)?;
    print(shell, arguments.place, &format!("{sql};\n"))
}

/// `\!`.
pub(super) fn system(shell: &mut Shell, arguments: &Arguments<'_>) -> Step {
    if arguments.text.is_empty() {
        return Err(shell.fail(arguments.place, "this command wants a command of the system", None));
    }
    run_program(shell, arguments.text, arguments.place)
}

/// Runs a program on the terminal, which Ctrl-C then is for.
fn run_program(shell: &mut Shell, command: &str, place: Place<'_>) -> Step {
    let _keep_alive = shell.interrupt.keep_alive();
    let _runs = shell.begin();
    match system_shell(command).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(shell.fail(place, &format!("`{command}` failed ({status})"), None)),
        Err(e) => Err(shell.fail(place, &format!("cannot run `{command}`: {e}"), None)),
    }
}

/// `\e`: what the editor leaves is run if it is whole statements, else it is what the next prompt begins with.
pub(super) fn edit(shell: &mut Shell, arguments: &Arguments<'_>) -> Step {
    let place = arguments.place;
    let (path, draft) = match arguments.optional(shell)? {
        Some(name) => (PathBuf::from(name), None),
        None => {
            let text = shell.last.as_ref().map(|sql| format!("{sql};\n")).unwrap_or_default();
            let draft = Draft::new(&text);
            let draft = draft.map_err(|e| shell.fail(place, &format!("cannot write a file to edit: {e}"), None))?;
            (draft.0.clone(), Some(draft))
        }
    };
    let editor = ["VISUAL", "EDITOR"].iter().filter_map(|name| std::env::var(name).ok()).find(|e| !e.is_empty());
    let editor = editor.unwrap_or_else(|| "vi".to_owned());
    run_program(shell, &format!("{editor} {}", for_the_system(&path)), place)?;
    let text = std::fs::read_to_string(&path)
        .map_err(|e| shell.fail(place, &format!("cannot read {}: {e}", path.display()), None))?;
    drop(draft);
    run_edited(shell, &text, place)
}

fn run_edited(shell: &mut Shell, text: &str, place: Place<'_>) -> Step {
    let mut feed = Feed::default();
    let mut units = Vec::new();
    for line in text.split_inclusive('\n') {
        units.extend(feed.line(line).map_err(|message| shell.fail(place, &message, None))?);
    }
    if !feed.is_complete() && shell.interactive {
        shell.draft = Some(text.trim_end().to_owned());
        return Ok(());
    }
    units.extend(feed.finish());
    tell(shell, text.trim_end());
    script::units(shell, &units)
}

/// A path as one word for `sh`.
fn for_the_system(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

/// A temporary file, taken away when it is dropped.
struct Draft(PathBuf);

impl Draft {
    fn new(text: &str) -> std::io::Result<Draft> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("omendb-{}-{number}.sql", std::process::id()));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&path)?;
        let draft = Draft(path);
        file.write_all(text.as_bytes())?;
        Ok(draft)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
