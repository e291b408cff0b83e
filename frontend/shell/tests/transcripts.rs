/*!
Runs the transcripts in `tests/transcripts`: command lines, and what they print.

```text
# What this transcript shows.
$ omendb --format csv -c "SELECT 1 AS a"      a command line for sh, in an empty directory of the transcript's own
< a line of standard input
| a line of standard output
! a line of standard error
? 1                                           the exit code, when it is not 0
```

In expected lines `[..]` stands for any text, and `[...]` alone on a line for any number of lines. With
`UPDATE_TRANSCRIPTS=1` in the environment the expectations are rewritten from what really came out (lines with `[..]` that
still fit are kept), to be read as a diff.
*/
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Long enough for a busy machine; a transcript never waits for it.
const TIMEOUT: Duration = Duration::from_secs(300);

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Step {
    /// Comments and blank lines before it.
    before: Vec<String>,
    command: String,
    stdin: Vec<String>,
    stdout: Vec<String>,
    stderr: Vec<String>,
    code: i32,
}

fn parse(text: &str) -> (Vec<Step>, Vec<String>) {
    let (mut steps, mut before) = (Vec::<Step>::new(), Vec::new());
    for line in text.lines() {
        let (mark, rest) = match line.split_at_checked(1) {
            Some((mark, rest)) => (mark, rest.strip_prefix(' ').unwrap_or(rest).to_owned()),
            None => ("", String::new()),
        };
        if matches!(mark, "" | "#") {
            before.push(line.to_owned());
            continue;
        }
        if mark == "$" {
            steps.push(Step { before: std::mem::take(&mut before), command: rest, ..Step::default() });
            continue;
        }
        let step = steps.last_mut().expect("a transcript begins with a command");
        match mark {
            "<" => step.stdin.push(rest),
            "|" => step.stdout.push(rest),
            "!" => step.stderr.push(rest),
            "?" => step.code = rest.trim().parse().expect("an exit code"),
            _ => panic!("a line that is none of # $ < | ! ?: {line}"),
        }
    }
    (steps, before)
}

fn print(steps: &[Step], after: &[String]) -> String {
    let mut out = String::new();
    for step in steps {
        step.before.iter().for_each(|line| writeln!(out, "{line}").unwrap());
        writeln!(out, "$ {}", step.command).unwrap();
        for (mark, lines) in [("<", &step.stdin), ("|", &step.stdout), ("!", &step.stderr)] {
            lines.iter().for_each(|line| writeln!(out, "{}", format!("{mark} {line}").trim_end()).unwrap());
        }
        if step.code != 0 {
            writeln!(out, "? {}", step.code).unwrap();
        }
    }
    after.iter().for_each(|line| writeln!(out, "{line}").unwrap());
    out
}

/// Runs a command in `dir`; its standard streams are files, so that nothing can block on a full pipe.
fn run(step: &Step, dir: &Path, streams: &Path) -> Step {
    let [stdin, stdout, stderr] = ["stdin", "stdout", "stderr"].map(|name| streams.join(name));
    let input: String = step.stdin.iter().map(|line| format!("{line}\n")).collect();
    File::create(&stdin).unwrap().write_all(input.as_bytes()).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_omendb"));
    let path = std::env::join_paths(
        std::iter::once(program.parent().unwrap().to_owned())
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    );
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(&step.command)
        .current_dir(dir)
        .env_clear()
        .env("PATH", path.unwrap())
        .env("HOME", dir)
        .env("TERM", "xterm")
        .env("LANG", "C.UTF-8")
        .stdin(Stdio::from(File::open(&stdin).unwrap()))
        .stdout(Stdio::from(File::create(&stdout).unwrap()))
        .stderr(Stdio::from(File::create(&stderr).unwrap()))
        .spawn()
        .unwrap();
    let started = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if started.elapsed() > TIMEOUT => {
                child.kill().unwrap();
                break child.wait().unwrap();
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let lines = |path: &Path| -> Vec<String> {
        let text = String::from_utf8_lossy(&fs::read(path).unwrap()).replace(&*dir.to_string_lossy(), "[DIR]");
        text.lines().map(str::to_owned).collect()
    };
    Step { stdout: lines(&stdout), stderr: lines(&stderr), code: status.code().unwrap_or(-1), ..step.clone() }
}

/// Whether a line is what is expected of it.
fn line_fits(expected: &str, line: &str) -> bool {
    let expected = expected.trim_end();
    let Some((before, after)) = expected.split_once("[..]") else { return line.trim_end() == expected };
    let Some(rest) = line.strip_prefix(before) else { return false };
    after.is_empty() || (0..=rest.len()).any(|at| rest.get(at..).is_some_and(|rest| line_fits(after, rest)))
}

fn fits(expected: &[String], lines: &[String]) -> bool {
    match (expected.split_first(), lines.split_first()) {
        (None, None) => true,
        (Some((any, rest)), _) if any.trim() == "[...]" => (0..=lines.len()).any(|at| fits(rest, &lines[at..])),
        (Some((expected, rest)), Some((line, lines))) => line_fits(expected, line) && fits(rest, lines),
        _ => false,
    }
}

/// What is wrong with one transcript.
fn check(path: &Path) -> Result<(), String> {
    let text = fs::read_to_string(path).unwrap();
    let (steps, after) = parse(&text);
    let (dir, streams) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut trouble, mut updated) = (String::new(), Vec::new());
    for step in &steps {
        let mut got = run(step, dir.path(), streams.path());
        if fits(&step.stdout, &got.stdout) {
            got.stdout.clone_from(&step.stdout);
        }
        if fits(&step.stderr, &got.stderr) {
            got.stderr.clone_from(&step.stderr);
        }
        if got != *step {
            let show = |step: &Step| print(std::slice::from_ref(step), &[]);
            write!(trouble, "{}:\nexpected\n{}\ngot\n{}\n", path.display(), show(step), show(&got)).unwrap();
        }
        updated.push(got);
    }
    if std::env::var_os("UPDATE_TRANSCRIPTS").is_some() {
        fs::write(path, print(&updated, &after)).unwrap();
        return Ok(());
    }
    if trouble.is_empty() { Ok(()) } else { Err(trouble) }
}

#[test]
fn every_transcript_comes_out_as_written() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut paths: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    // One transcript alone: TRANSCRIPT=formats cargo test …
    if let Ok(only) = std::env::var("TRANSCRIPT") {
        paths.retain(|path| path.to_string_lossy().contains(&only));
    }
    assert!(!paths.is_empty());
    let trouble: Vec<String> = paths.iter().filter_map(|path| check(path).err()).collect();
    assert!(trouble.is_empty(), "{}", trouble.join("\n"));
}

#[test]
fn expectations_may_leave_text_out() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(line_fits("a [..] c", "a b c") && line_fits("[..]", "") && !line_fits("a [..] c", "a b"));
    assert!(fits(&lines("a\n[...]\nd"), &lines("a\nb\nc\nd")) && !fits(&lines("a\n[...]\nd"), &lines("a\nb")));
    let text = "# about\n\n$ x\n< in\n| out\n! err\n? 3\n# end\n";
    let (steps, after) = parse(text);
    assert_eq!(print(&steps, &after), text);
}
