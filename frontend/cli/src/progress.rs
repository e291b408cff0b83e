/*!
Progress of a long job: a bar on a terminal, a plain line every few seconds elsewhere, always on stderr.
*/

use crate::report::say;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// How often a plain line is printed away from a terminal.
const PLAIN_LINE_EVERY: Duration = Duration::from_secs(5);

/// Progress of one job, in bytes of a known total, or of an unknown one.
#[derive(Debug)]
pub struct Progress {
    what: String,
    bar: Option<ProgressBar>,
    total: Option<u64>,
    started: Instant,
    last_line: Instant,
}

impl Progress {
    /// Starts to show progress of `what`; `total` bytes where that is known. Quiet shows nothing.
    pub fn bytes(what: &str, total: Option<u64>, quiet: bool) -> Progress {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(10));
            let template = match total {
                Some(_) => "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} ETA {eta}",
                None => "{msg} {spinner} {bytes} {bytes_per_sec}",
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_message(what.to_owned());
            bar
        });
        let now = Instant::now();
        Progress { what: what.to_owned(), bar, total: total.filter(|t| *t > 0), started: now, last_line: now }
    }

    /// `done` bytes so far, and `rows`.
    pub fn at(&mut self, done: u64, rows: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(format!("{} {} rows", self.what, crate::size::count(rows)));
        } else if self.last_line.elapsed() >= PLAIN_LINE_EVERY {
            self.last_line = Instant::now();
            let share =
                self.total.map(|total| format!(" ({} %)", done.saturating_mul(100) / total)).unwrap_or_default();
            let seconds = self.started.elapsed().as_secs();
            let (rows, bytes) = (crate::size::count(rows), crate::size::show(done));
            say(&format!("{}: {rows} rows, {bytes}{share} after {seconds} s", self.what));
        }
    }

    /// Takes the bar away.
    pub fn finish(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
