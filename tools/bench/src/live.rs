/*!
Progress of a run on stderr: a line that is written over on a terminal, a plain line every few seconds elsewhere.
*/

use crate::latency::show;
use crate::record::{Tally, tallies};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use omendb_cli::report::say;
use omendb_cli::size::count;
use std::io::IsTerminal;
use std::time::Duration;

/// How often a plain line is printed.
const PLAIN_LINE_EVERY: Duration = Duration::from_secs(5);

/// How often the line on a terminal is written over.
const TERMINAL_LINE_EVERY: Duration = Duration::from_millis(500);

/// Progress of a run. Quiet shows nothing.
pub(crate) struct Live<'a> {
    operations: &'a [String],
    quiet: bool,
    bar: Option<ProgressBar>,
    every: Duration,
    last: Duration,
    /// What was done since the last line.
    since: Vec<Tally>,
}

impl<'a> Live<'a> {
    /// Of a run that takes `total`.
    pub(crate) fn new(operations: &'a [String], total: Duration, quiet: bool) -> Live<'a> {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let millis = u64::try_from(total.as_millis()).unwrap_or(u64::MAX);
            let bar = ProgressBar::with_draw_target(Some(millis), ProgressDrawTarget::stderr_with_hz(10));
            if let Ok(style) = ProgressStyle::with_template("{bar:20} {wide_msg}") {
                bar.set_style(style);
            }
            bar
        });
        let every = if bar.is_some() { TERMINAL_LINE_EVERY } else { PLAIN_LINE_EVERY };
        Live { operations, quiet, bar, every, last: Duration::ZERO, since: tallies(operations.len()) }
    }

    /// At `now`, clients have done this since the last call.
    pub(crate) fn at(&mut self, now: Duration, phase: &str, done: &[Tally]) {
        self.since.iter_mut().zip(done).for_each(|(sum, tally)| sum.add(tally));
        if self.quiet || now.saturating_sub(self.last) < self.every {
            return;
        }
        let line = line(now, now.saturating_sub(self.last), phase, self.operations, &self.since);
        self.last = now;
        self.since = tallies(self.operations.len());
        match &self.bar {
            Some(bar) => {
                bar.set_position(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
                bar.set_message(line);
            }
            None => say(&line),
        }
    }

    /// Takes the line away.
    pub(crate) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

fn line(now: Duration, took: Duration, phase: &str, operations: &[String], done: &[Tally]) -> String {
    let total: u64 = done.iter().map(Tally::count).sum();
    let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
    let errors: u64 = done.iter().map(|tally| tally.errors).sum();
    let mut out = format!("{:>4} s{phase}  {} operations/s", now.as_secs(), count(total.saturating_mul(1000) / millis));
    for (name, tally) in operations.iter().zip(done).filter(|(_, tally)| tally.count() > 0) {
        let times = if tally.response.len() > 0 { &tally.response } else { &tally.service };
        let quantiles = times.quantiles();
        out.push_str(&format!("; {name} p50 {} p99 {}", show(quantiles.p50), show(quantiles.p99)));
    }
    if errors > 0 {
        out.push_str(&format!("; {errors} errors"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Done, Recorder};

    #[test]
    fn a_line_has_the_rate_and_percentiles_of_each_operation_that_there_was() {
        let recorder = Recorder::new(1, 3);
        let time = Duration::from_micros(500);
        let done = Done { service: time, response: None, rows: 1, retries: 0, device: None };
        (0..2500).for_each(|_| recorder.done(0, 0, done));
        recorder.done(0, 1, Done { response: Some(Duration::from_micros(7000)), ..done });
        recorder.error(0, 2);
        let (now, took) = (Duration::from_secs(12), Duration::from_secs(2));
        let text =
            line(now, took, " (warm-up)", &["get", "put", "none"].map(str::to_owned), &recorder.take().operations);
        assert_eq!(
            text,
            "  12 s (warm-up)  1,250 operations/s; get p50 500 µs p99 500 µs; put p50 7.00 ms p99 7.00 ms; 1 errors"
        );
    }
}
