/*!
Where results go: standard output, a file, or a pager.

A result that turns out to be longer than the screen goes to the pager, one that fits is written as it is. Quitting
the pager is no error: what is left of the result is then not wanted.
*/

use omendb_cli::interrupt::{Interrupt, KeepAlive};
use std::fs::File;
use std::io::{BufWriter, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};

/// Bytes that are gathered before they are handed to the operating system.
const BUFFER_BYTES: usize = 64 << 10;

/// What results are written to.
#[derive(Debug)]
pub(crate) enum Output {
    /// Standard output.
    Stdout,
    /// A file.
    File {
        /// Its name.
        path: PathBuf,
        /// The file.
        file: BufWriter<File>,
    },
}

impl Output {
    /// A file, made or emptied.
    pub(crate) fn file(path: &Path) -> std::io::Result<Output> {
        let file = File::create(path)?;
        Ok(Output::File { path: path.to_owned(), file: BufWriter::with_capacity(BUFFER_BYTES, file) })
    }

    /// Whether results are seen on a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        matches!(self, Output::Stdout) && std::io::stdout().is_terminal()
    }
}

/// Standard output, buffered until it is flushed.
pub(crate) fn stdout() -> BufWriter<std::io::StdoutLock<'static>> {
    BufWriter::with_capacity(BUFFER_BYTES, std::io::stdout().lock())
}

/// Columns and lines of the terminal that standard output is.
pub(crate) fn screen() -> Option<(usize, usize)> {
    let (width, height) = terminal_size::terminal_size_of(std::io::stdout())?;
    (width.0 > 0 && height.0 > 0).then(|| (usize::from(width.0), usize::from(height.0)))
}

/// The pager to use: `$OMENDB_PAGER`, the settings file's, `$PAGER`, `less`; `None` when it is switched off, or when
/// nothing was said and the terminal or the machine has no use for `less`.
pub(crate) fn choose_pager(from_files: Option<&str>) -> Option<String> {
    let variable = |name| std::env::var(name).ok();
    let said = variable("OMENDB_PAGER").or_else(|| from_files.map(str::to_owned));
    let is_dumb = variable("TERM").is_none_or(|term| term == "dumb");
    match said.or_else(|| variable("PAGER").filter(|_| !is_dumb)) {
        Some(pager) => (!matches!(pager.trim(), "" | "off" | "cat")).then_some(pager),
        None => (!is_dumb && is_on_path("less")).then(|| "less -FRSX".to_owned()),
    }
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// A command of the user's, run by the shell of the system.
pub(crate) fn system_shell(command: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command);
    shell
}

/// Whether a process was ended by Ctrl-C, or by a shell that says so of its last command.
fn is_interrupted(status: ExitStatus) -> bool {
    const INTERRUPTED: i32 = 130;
    #[cfg(unix)]
    let by_signal = {
        use std::os::unix::process::ExitStatusExt;
        status.signal() == Some(INTERRUPTED - 128)
    };
    #[cfg(not(unix))]
    let by_signal = false;
    by_signal || status.code() == Some(INTERRUPTED)
}

/// Keeps what is written until it is longer than the screen, and then hands it to a pager.
pub(crate) struct Paged {
    command: String,
    interrupt: Interrupt,
    /// Lines that may be shown without the pager.
    lines_max: usize,
    kept: Vec<u8>,
    lines: usize,
    pager: Option<Pager>,
}

struct Pager {
    child: Child,
    stdin: Option<BufWriter<ChildStdin>>,
    _keep_alive: KeepAlive,
}

impl Paged {
    /// Nothing written yet. One line of the screen is left for the prompt.
    pub(crate) fn new(command: &str, height: usize, interrupt: &Interrupt) -> Paged {
        Paged {
            command: command.to_owned(),
            interrupt: interrupt.clone(),
            lines_max: height.saturating_sub(1),
            kept: Vec::new(),
            lines: 0,
            pager: None,
        }
    }

    fn start(&mut self) -> std::io::Result<&mut Pager> {
        // Ctrl-C goes to the pager too, and must not take this program away under it.
        let keep_alive = self.interrupt.keep_alive();
        let mut child = system_shell(&self.command).stdin(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take().map(|stdin| BufWriter::with_capacity(BUFFER_BYTES, stdin));
        let pager = self.pager.insert(Pager { child, stdin, _keep_alive: keep_alive });
        if let Some(stdin) = &mut pager.stdin {
            stdin.write_all(&std::mem::take(&mut self.kept))?;
        }
        Ok(pager)
    }

    /// Writes what was kept, or waits until the pager is left; whether Ctrl-C ended it.
    ///
    /// # Errors
    /// Those of standard output; a sentence when the pager could not be run.
    pub(crate) fn finish(mut self) -> std::io::Result<bool> {
        let Some(mut pager) = self.pager.take() else {
            let mut out = stdout();
            out.write_all(&self.kept)?;
            return out.flush().map(|()| false);
        };
        if let Some(stdin) = pager.stdin.take() {
            // Dropping it flushes, as far as the pager still reads.
            drop(stdin);
        }
        let status = pager.child.wait()?;
        match status.code() {
            Some(code @ (126 | 127)) => {
                let sentence = format!("the pager `{}` could not be run (exit code {code})", self.command);
                Err(std::io::Error::other(sentence))
            }
            _ => Ok(is_interrupted(status)),
        }
    }

    /// Whether an error of writing only says that the user has left the pager.
    pub(crate) fn is_left(&self, error: &std::io::Error) -> bool {
        self.pager.is_some() && error.kind() == ErrorKind::BrokenPipe
    }
}

impl Write for Paged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.pager.is_none() {
            self.kept.extend_from_slice(bytes);
            self.lines += bytes.iter().filter(|b| **b == b'\n').count();
            if self.lines > self.lines_max {
                self.start()?;
            }
            return Ok(bytes.len());
        }
        match self.pager.as_mut().and_then(|pager| pager.stdin.as_mut()) {
            Some(stdin) => stdin.write(bytes),
            None => Err(ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self.pager.as_mut().and_then(|pager| pager.stdin.as_mut()) {
            Some(stdin) => stdin.flush(),
            None => Ok(()),
        }
    }
}
