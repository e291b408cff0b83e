/*!
OmenDB as its users have it: `omendb-load` loads a file, and the shell, `omendb`, is fed statements through a pipe, one process for all
of them. It times them itself (`--timing`): from the statement's text to the last byte of its answer as CSV.

The programs have no part in this workspace, which would compile DataFusion for them: they are found in a directory.
*/

use super::{Result, Tools, bytes_of};
use crate::sql::{Answer, Format, Loaded, Rows, Sql, SqlSetup, create_metrics};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// What the shell is told to write behind each answer.
const END: &str = "--end of the answer--";

/// A program in the directory of all.
pub(crate) fn program(tools: &Tools, name: &str) -> Result<PathBuf> {
    let advice = "`./run` builds it, or --programs names the directory that has it";
    let dir = tools.programs.as_ref().ok_or_else(|| format!("{name} is needed: {advice}"))?;
    match dir.join(name) {
        path if path.exists() => Ok(path),
        path => Err(format!("there is no {}: {advice}", path.display()).into()),
    }
}

/// See the module.
pub(super) struct Programs {
    shell: Option<Shell>,
    setup: SqlSetup,
}

/// The shell's process. It ends with its input.
struct Shell {
    process: Child,
    /// None once it shall end.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    errors: BufReader<ChildStderr>,
}

impl Programs {
    pub(super) fn open(setup: &SqlSetup) -> Result<Self> {
        let mut programs = Programs { shell: None, setup: setup.clone() };
        programs.start()?;
        Ok(programs)
    }

    fn command(&self, name: &str) -> Result<Command> {
        let mut command = Command::new(program(&self.setup.tools, name)?);
        let mib = |bytes: usize| format!("{}MiB", bytes >> 20);
        command.args(["--memory", &mib(self.setup.memory_bytes), "--cache", &mib(self.setup.cache_bytes)]);
        Ok(command)
    }
}

impl Shell {
    fn start(mut command: Command, dir: &Path) -> Result<Shell> {
        command.arg(dir).args(["--format", "csv", "--timing", "--color", "never"]);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let output = BufReader::new(process.stdout.take().ok_or("a shell without output")?);
        let errors = BufReader::new(process.stderr.take().ok_or("a shell without errors")?);
        Ok(Shell { input: process.stdin.take(), process, output, errors })
    }

    fn ask(&mut self, sql: &str) -> Result<Answer> {
        let input = self.input.as_mut().ok_or("the shell is closed")?;
        input.write_all(format!("{sql};\n\\echo {END}\n").as_bytes())?;
        input.flush()?;
        let mut rows = Rows::new();
        let mut line = String::new();
        loop {
            line.clear();
            if self.output.read_line(&mut line)? == 0 {
                return Err(self.last_words()?.into());
            }
            match line.trim_end() {
                END => break,
                row => rows.push(row.split(',').map(str::to_owned).collect()),
            }
        }
        // The first line has the names.
        if !rows.is_empty() {
            rows.remove(0);
        }
        Ok(Answer { took: self.time()?, rows })
    }

    /// What it says of the statement's time, notes before that passed over.
    fn time(&mut self) -> Result<Duration> {
        let mut line = String::new();
        while self.errors.read_line(&mut line)? > 0 {
            if let Some(time) = line.strip_prefix("Time: ") {
                return duration(time);
            }
            line.clear();
        }
        Err("the shell said no time".into())
    }

    /// Why it ended.
    fn last_words(&mut self) -> Result<String> {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut self.errors, &mut text)?;
        Ok(text.trim().to_owned())
    }

    fn stop(&mut self) -> Result<()> {
        self.input = None;
        match self.process.wait()? {
            status if status.success() => Ok(()),
            status => Err(format!("the shell ended with {status}: {}", self.last_words()?).into()),
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // Whoever wants to know has called `stop`.
        let _ = self.stop();
    }
}

/// `12.345 ms (1 row)`
fn duration(text: &str) -> Result<Duration> {
    let mut words = text.split_whitespace();
    let number: f64 = words.next().unwrap_or_default().parse()?;
    let seconds = match words.next() {
        Some("ms") => number / 1e3,
        Some("s") => number,
        _ => return Err(format!("{text:?} is no time").into()),
    };
    Ok(Duration::try_from_secs_f64(seconds)?)
}

impl Sql for Programs {
    fn start(&mut self) -> Result<()> {
        self.shell = Some(Shell::start(self.command("omendb")?, &self.setup.dir)?);
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.shell.take().map_or(Ok(()), |mut shell| shell.stop())
    }

    fn load(&mut self, file: &Path, _: Format) -> Result<Option<Loaded>> {
        self.ask(&create_metrics())?;
        self.stop()?;
        let mut loader = self.command("omendb-load")?;
        loader.arg("--db").arg(&self.setup.dir).args(["--table", "metrics", "--quiet"]).arg(file);
        loader.args(["--threads", &self.setup.threads.to_string()]).stdin(Stdio::null());
        let begun = Instant::now();
        let done = loader.output()?;
        let load = begun.elapsed();
        if !done.status.success() {
            return Err(format!("omendb-load: {}", String::from_utf8_lossy(&done.stderr).trim()).into());
        }
        self.start()?;
        Ok(Some(Loaded { load, tidy: Duration::ZERO }))
    }

    fn ask(&mut self, sql: &str) -> Result<Answer> {
        self.shell.as_mut().ok_or("the shell is closed")?.ask(sql)
    }

    fn table_bytes(&mut self) -> Result<u64> {
        bytes_of(&self.setup.dir, ".omen")
    }

    fn note(&mut self) -> Result<String> {
        let version = Command::new(program(&self.setup.tools, "omendb")?).arg("--version").output()?;
        let version = String::from_utf8_lossy(&version.stdout).lines().next().unwrap_or_default().to_owned();
        Ok(format!(
            "metrics by its programs ({version}); statements as text, timed by the shell up to the last byte of CSV"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_shell_are_read() {
        assert_eq!(duration("12.345 ms (1 row)\n").ok(), Some(Duration::from_micros(12_345)));
        assert_eq!(duration("61.002 s").ok(), Some(Duration::from_millis(61_002)));
        assert!(duration("12 h").is_err());
    }
}
