/*!
Reading lines as they come, for terminals that cannot move their cursor. The terminal itself does the editing.
*/

use super::{CONTINUATION, Input, PROMPT, Reader};
use crate::feed::Feed;
use crate::shell::Shell;
use std::io::{BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The reader.
pub(super) struct Plain {
    /// Set by Ctrl-C: the lines before are not wanted.
    cleared: Arc<AtomicBool>,
}

impl Plain {
    /// Takes over what Ctrl-C does at the prompt.
    pub(super) fn new(shell: &Shell) -> Plain {
        let cleared = Arc::new(AtomicBool::new(false));
        let flag = cleared.clone();
        shell.when_idle(move || {
            flag.store(true, Ordering::SeqCst);
            // The read goes on; the terminal has thrown the line away already.
            prompt(&format!("\n{PROMPT}"));
        });
        Plain { cleared }
    }
}

fn prompt(text: &str) {
    let mut stderr = std::io::stderr();
    let _ = write!(stderr, "{text}");
    let _ = stderr.flush();
}

impl Reader for Plain {
    fn read(&mut self, _: &mut Shell, feed: &mut Feed) -> std::io::Result<Input> {
        self.cleared.store(false, Ordering::SeqCst);
        prompt(if feed.is_complete() { PROMPT } else { CONTINUATION });
        let mut line = String::new();
        let taken = std::io::stdin().lock().read_line(&mut line)?;
        if self.cleared.swap(false, Ordering::SeqCst) {
            // The line that came was begun after Ctrl-C: only what is before it goes.
            feed.clear();
        }
        if taken == 0 {
            prompt("\n");
            return Ok(Input::End);
        }
        Ok(Input::Text(line))
    }
}
