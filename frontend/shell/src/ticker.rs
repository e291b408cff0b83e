/*!
Progress of a long statement: after a second, a line on stderr with the time and the rows so far, until it ends or
its first rows appear on the same terminal.
*/

use omendb_cli::size;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a statement runs before it is talked about.
const SILENCE: Duration = Duration::from_secs(1);

/// How often the line is drawn anew.
const EVERY: Duration = Duration::from_millis(200);

/// Erases the line and goes to its beginning.
const ERASE: &str = "\r\x1b[K";

/// One statement's progress. Dropping it takes the line away.
#[derive(Debug, Default)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    rows: AtomicU64,
    line: Mutex<Line>,
    wake: Condvar,
}

/// The line on the terminal. Whoever draws or erases holds its lock, so that nothing is drawn after the end.
#[derive(Debug, Default)]
struct Line {
    is_drawn: bool,
    is_over: bool,
}

impl Ticker {
    /// Starts to watch a statement; a ticker that is not `shown` only counts.
    pub(crate) fn start(shown: bool) -> Ticker {
        let ticker = Ticker::default();
        if shown {
            let shared = ticker.shared.clone();
            // Without the thread there is no progress to be seen, and nothing else is missing.
            let _ = std::thread::Builder::new().name("ticker".into()).spawn(move || shared.draw());
        }
        ticker
    }

    /// So many rows more.
    pub(crate) fn add(&self, rows: u64) {
        self.shared.rows.fetch_add(rows, Ordering::Relaxed);
    }

    /// Takes the line away for good.
    pub(crate) fn stop(&self) {
        let mut line = self.shared.line.lock().unwrap_or_else(PoisonError::into_inner);
        if line.is_drawn {
            let _ = write!(std::io::stderr(), "{ERASE}");
        }
        *line = Line { is_drawn: false, is_over: true };
        self.shared.wake.notify_all();
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn draw(&self) {
        let started = Instant::now();
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        while !line.is_over {
            if started.elapsed() >= SILENCE {
                let rows = match self.rows.load(Ordering::Relaxed) {
                    0 => String::new(),
                    rows => format!(", {} rows so far", size::count(rows)),
                };
                let seconds = started.elapsed().as_secs();
                let _ = write!(std::io::stderr(), "{ERASE}running for {seconds} s{rows}; Ctrl-C stops it");
                line.is_drawn = true;
            }
            line = self.wake.wait_timeout(line, EVERY).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
