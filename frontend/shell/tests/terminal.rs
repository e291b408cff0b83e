/*!
The shell as a person sees it, on a pseudo-terminal: editing over several lines, completion, history across sessions,
Ctrl-C at the prompt and in a statement, progress, the pager.

Nothing here measures time: what is waited for comes, or the test fails after a very long while.
*/
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![cfg(unix)]

use expectrl::Session;
use expectrl::process::unix::WaitStatus;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(240);
const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const TAB: &str = "\t";
const CTRL_END: &str = "\x1b[1;5F";
const UP: &str = "\x1b[A";
/// A terminal asks for its cursor like this; whoever reads the screen must answer.
const CURSOR_QUERY: &str = "\x1b[6n";

/// A terminal with a shell on it.
struct Terminal {
    session: expectrl::session::OsSession,
    /// All that came out, without what was waited for already.
    seen: String,
    answered: usize,
}

impl Terminal {
    fn open(home: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Terminal {
        let mut command = Command::new(env!("CARGO_BIN_EXE_omendb"));
        command.args(arguments).current_dir(home).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", home).env("TERM", "xterm").env("NO_COLOR", "1").env("LANG", "C.UTF-8");
        command.envs(environment.iter().copied());
        let mut session = Session::spawn(command).unwrap();
        session.get_process_mut().set_window_size(100, 30).unwrap();
        Terminal { session, seen: String::new(), answered: 0 }
    }

    fn send(&mut self, keys: &str) {
        self.session.write_all(keys.as_bytes()).unwrap();
        self.session.flush().unwrap();
    }

    /// Types a line.
    fn line(&mut self, text: &str) {
        self.send(&format!("{text}\r"));
    }

    /// Reads what is there; false at the end.
    fn read(&mut self) -> bool {
        let mut bytes = [0; 4096];
        match self.session.try_read(&mut bytes) {
            Ok(0) => return false,
            Ok(n) => self.seen.push_str(&String::from_utf8_lossy(&bytes[..n])),
            Err(e) if e.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(5)),
            Err(_) => return false,
        }
        while let Some(at) = self.seen[self.answered..].find(CURSOR_QUERY) {
            self.answered += at + CURSOR_QUERY.len();
            self.send("\x1b[1;1R");
        }
        true
    }

    /// Waits until this text has come, and forgets everything up to it.
    fn wait_for(&mut self, text: &str) -> String {
        let started = Instant::now();
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                self.answered = self.answered.saturating_sub(self.seen.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            let is_open = self.read();
            assert!(is_open || self.seen.contains(text), "the shell ended before {text:?}; it said {:?}", self.seen);
            assert!(started.elapsed() < PATIENCE, "waited in vain for {text:?}; there was {:?}", self.seen);
        }
    }

    /// Waits until the editor asks for a line: it looks for its cursor then, and at no other time. Gives what came before.
    fn prompt(&mut self) -> String {
        let before = self.wait_for(CURSOR_QUERY);
        self.wait_for("omendb> ");
        before
    }

    /// Waits until the shell's threads do nothing any more.
    #[cfg(target_os = "linux")]
    fn wait_until_idle(&mut self) {
        let stat = format!("/proc/{}/stat", self.session.get_process().pid());
        // Ticks spent in the program and in the kernel for it: fields 14 and 15, counted behind the name in parentheses.
        let spent = || {
            let stat = std::fs::read_to_string(&stat).unwrap();
            let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
            fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
        };
        let started = Instant::now();
        let mut before = spent();
        loop {
            std::thread::sleep(Duration::from_millis(500));
            let now = spent();
            if now == before {
                return;
            }
            before = now;
            assert!(started.elapsed() < PATIENCE, "the processor is busy long after the statement was stopped");
        }
    }

    /// Waits for the end; gives the exit code.
    fn end(mut self) -> i32 {
        let started = Instant::now();
        while self.read() {
            assert!(started.elapsed() < PATIENCE, "the shell does not end; it said {:?}", self.seen);
        }
        match self.session.get_process().wait().unwrap() {
            WaitStatus::Exited(_, code) => code,
            other => panic!("the shell ended with {other:?}"),
        }
    }
}

fn home() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A cross join that takes hours.
const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 1000000) AS a(x) CROSS JOIN generate_series(1, 1000000) AS b(y) WHERE a.x + b.y = 0;";

#[test]
fn a_statement_is_edited_over_several_lines() {
    let home = home();
    let mut terminal = Terminal::open(home.path(), &[], &[]);
    let banner = terminal.prompt();
    assert!(banner.contains("in memory"), "{banner:?}");
    terminal.line("SELECT 20 +");
    terminal.wait_for("     -> ");
    terminal.line("22 AS answer;");
    terminal.wait_for("42 │");
    terminal.wait_for("1 row");
    terminal.prompt();
    // The whole statement comes back as one, and its end can be edited.
    terminal.send(UP);
    terminal.wait_for("answer;");
    terminal.send(CTRL_END);
    terminal.send("\x7f\x7f");
    terminal.line("s;");
    terminal.wait_for("answes │");
    terminal.prompt();
    terminal.send(CTRL_D);
    assert_eq!(terminal.end(), 0);
}

#[test]
fn tab_completes_tables_columns_and_commands() {
    let home = home();
    let mut terminal = Terminal::open(home.path(), &[], &[]);
    terminal.prompt();
    terminal.line("CREATE TABLE observations (wavelength_nm INTEGER);");
    terminal.wait_for("CREATE TABLE");
    terminal.prompt();
    terminal.line("INSERT INTO observations VALUES (656);");
    terminal.wait_for("INSERT 0 1");
    terminal.prompt();
    terminal.send("SELECT * FROM obs");
    terminal.send(TAB);
    terminal.wait_for("observations");
    terminal.line(";");
    terminal.wait_for("656 │");
    terminal.prompt();
    terminal.send("SELECT o.wav");
    // The table is only known behind the cursor: columns of every table are offered, this one is the only match.
    terminal.send(CTRL_C);
    terminal.prompt();
    terminal.send("SELECT wavel");
    terminal.send(TAB);
    terminal.wait_for("wavelength_nm");
    terminal.line(" + 1 AS next FROM observations;");
    terminal.wait_for("657");
    terminal.prompt();
    terminal.send("\\conn");
    terminal.send(TAB);
    terminal.wait_for("\\conninfo");
    terminal.line("");
    terminal.wait_for("opened for");
    terminal.prompt();
    terminal.line("\\q");
    assert_eq!(terminal.end(), 0);
}

#[test]
fn history_lasts_from_one_session_to_the_next() {
    let home = home();
    for variables in [vec![], vec![("OMENDB_HISTORY", "my-history")]] {
        let mut first = Terminal::open(home.path(), &[], &variables);
        first.prompt();
        first.line("SELECT 'once upon';");
        first.wait_for("1 row");
        first.prompt();
        first.send(CTRL_D);
        assert_eq!(first.end(), 0);

        let mut second = Terminal::open(home.path(), &[], &variables);
        second.prompt();
        second.send(UP);
        second.wait_for("once upon");
        second.line("");
        second.wait_for("1 row");
        second.prompt();
        second.send(CTRL_D);
        assert_eq!(second.end(), 0);
    }
    assert!(home.path().join(".local/state/omendb/history").is_file());
    assert!(home.path().join("my-history").is_file());
}

#[test]
fn ctrl_c_at_the_prompt_clears_the_line() {
    let home = home();
    let mut terminal = Terminal::open(home.path(), &[], &[]);
    terminal.prompt();
    for _ in 0..3 {
        terminal.send("SELECT nonsense");
        terminal.wait_for("nonsense");
        terminal.send(CTRL_C);
        terminal.prompt();
    }
    terminal.line("SELECT 6 * 7 AS answer;");
    terminal.wait_for("42 │");
    terminal.prompt();
    terminal.send(CTRL_D);
    assert_eq!(terminal.end(), 0);
}

#[test]
fn ctrl_c_stops_a_statement_and_the_shell_goes_on() {
    let home = home();
    let mut terminal = Terminal::open(home.path(), &[], &[]);
    terminal.prompt();
    terminal.line(ENDLESS);
    terminal.wait_for("Ctrl-C stops it");
    terminal.send(CTRL_C);
    terminal.wait_for("57014");
    terminal.prompt();
    #[cfg(target_os = "linux")]
    terminal.wait_until_idle();
    terminal.line("SELECT 6 * 7 AS answer;");
    terminal.wait_for("42 │");
    terminal.prompt();
    terminal.send(CTRL_D);
    assert_eq!(terminal.end(), 0);
}

#[test]
fn watch_runs_a_statement_until_ctrl_c() {
    let home = home();
    let mut terminal = Terminal::open(home.path(), &[], &[]);
    terminal.prompt();
    terminal.line("SELECT 6 * 7 AS answer;");
    terminal.wait_for("42 │");
    terminal.prompt();
    terminal.line("\\watch 0.05");
    terminal.wait_for("run 3,");
    terminal.send(CTRL_C);
    terminal.prompt();
    terminal.send(CTRL_D);
    assert_eq!(terminal.end(), 0);
}

#[test]
fn a_long_result_goes_to_the_pager_and_leaving_it_is_no_error() {
    let home = home();
    let pager = ("OMENDB_PAGER", "echo the pager; head -5; echo enough");
    let mut terminal = Terminal::open(home.path(), &["--format", "csv"], &[pager]);
    terminal.prompt();
    terminal.line("SELECT 1 AS short;");
    let short = terminal.prompt();
    assert!(short.contains("short") && !short.contains("the pager"), "{short:?}");
    terminal.line("SELECT x FROM generate_series(1, 10000000) AS t(x);");
    terminal.wait_for("the pager");
    let page = terminal.wait_for("enough");
    assert!(page.contains("x\r\n1\r\n2\r\n"), "{page:?}");
    let after = terminal.prompt();
    assert!(!after.contains("error"), "{after:?}");
    terminal.line("\\pset pager off");
    terminal.prompt();
    terminal.line("SELECT x FROM generate_series(1, 50) AS t(x);");
    let all = terminal.wait_for("50\r\n");
    assert!(!all.contains("the pager"), "{all:?}");
    terminal.prompt();
    terminal.send(CTRL_D);
    assert_eq!(terminal.end(), 0);
}

/// Seen by hand: Ctrl-C ended the pager first, and the statement's end was taken for the user having left it.
#[test]
fn ctrl_c_that_ends_the_pager_too_is_told() {
    let home = home();
    let pager = ("OMENDB_PAGER", "head -3; exec cat > /dev/null");
    let mut terminal = Terminal::open(home.path(), &["--format", "csv"], &[pager]);
    terminal.prompt();
    terminal.line("SELECT x FROM generate_series(1, 100000000000) AS t(x);");
    terminal.wait_for("\r\n2\r\n");
    terminal.send(CTRL_C);
    terminal.wait_for("57014");
    terminal.prompt();
    terminal.send(CTRL_D);
    assert_eq!(terminal.end(), 0);
}

#[test]
fn a_table_on_a_terminal_is_cut_in_the_middle_and_fits() {
    let home = home();
    let mut terminal = Terminal::open(home.path(), &[], &[("OMENDB_PAGER", "off")]);
    terminal.prompt();
    terminal.line("SELECT x, repeat('wide ', 100) AS w FROM generate_series(1, 5000) AS t(x) ORDER BY x;");
    terminal.wait_for("┌");
    let table = terminal.wait_for("… 5,000 rows, 40 shown");
    let widest = table.lines().map(|line| line.trim_end().chars().count()).max().unwrap();
    assert!(widest <= 100 && table.contains(" 20 │") && table.contains(" 5000 │"), "{table}");
    terminal.prompt();
    terminal.send(CTRL_D);
    assert_eq!(terminal.end(), 0);
}

#[test]
fn a_dumb_terminal_reads_lines_as_they_come() {
    let home = home();
    let mut terminal = Terminal::open(home.path(), &[], &[("TERM", "dumb")]);
    terminal.wait_for("omendb> ");
    terminal.send("SELECT 6 *\n");
    terminal.wait_for("     -> ");
    terminal.send("7 AS answer;\n");
    terminal.wait_for("42 │");
    terminal.wait_for("omendb> ");
    terminal.send("SELECT non");
    terminal.send(CTRL_C);
    terminal.wait_for("omendb> ");
    // The terminal throws away what was not read yet when Ctrl-C comes, the statement too if the shell was too slow.
    loop {
        terminal.send(&format!("{ENDLESS}\n"));
        std::thread::sleep(Duration::from_millis(500));
        terminal.send(CTRL_C);
        if terminal.wait_for("omendb> ").contains("57014") {
            break;
        }
    }
    terminal.send("SELECT 7 * 7 AS answer;\n");
    terminal.wait_for("49 │");
    terminal.wait_for("omendb> ");
    terminal.send(CTRL_D);
    assert_eq!(terminal.end(), 0);
}
