/*!
Ctrl-C: the first cancels what runs, cleanly; a second one, while that is still going on, quits with 130.

A program that shares the terminal with another one (a pager, an editor) holds that quitting back: see
[`Interrupt::keep_alive`].

A thread waits for the signal and calls whatever handler stands at that moment.
*/

use crate::Exit;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

type Handler = Box<dyn Fn() + Send>;

/// The process's handler of interruptions. Clones share it.
#[derive(Clone, Default)]
pub struct Interrupt {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Interruptions since the last [`Interrupt::reset`].
    count: AtomicU32,
    /// How many [`KeepAlive`]s there are.
    kept_alive: AtomicU32,
    handler: Mutex<Option<Handler>>,
}

/// While this lives, a second interruption does not quit.
pub struct KeepAlive(Interrupt);

impl Drop for KeepAlive {
    fn drop(&mut self) {
        self.0.shared.kept_alive.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Interrupt {
    /// Starts to listen for SIGINT and SIGTERM.
    ///
    /// # Errors
    /// When the operating system refuses the handler.
    pub fn listen() -> std::io::Result<Interrupt> {
        let interrupt = Interrupt::default();
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let shared = interrupt.shared.clone();
        std::thread::Builder::new().name("interrupt".into()).spawn(move || {
            for signal in signals.forever() {
                let earlier = shared.count.fetch_add(1, Ordering::SeqCst);
                let again = earlier > 0 && shared.kept_alive.load(Ordering::SeqCst) == 0;
                if again || signal == SIGTERM {
                    std::process::exit(i32::from(Exit::Interrupted.code()));
                }
                if let Some(handler) = shared.handler.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
                    handler();
                }
            }
        })?;
        Ok(interrupt)
    }

    /// What the first interruption does from now on.
    pub fn on_interrupt(&self, handler: impl Fn() + Send + 'static) {
        *self.shared.handler.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(handler));
    }

    /// Holds quitting back for as long as the result lives.
    #[must_use]
    pub fn keep_alive(&self) -> KeepAlive {
        self.shared.kept_alive.fetch_add(1, Ordering::SeqCst);
        KeepAlive(self.clone())
    }

    /// Whether there was an interruption since the last reset.
    pub fn happened(&self) -> bool {
        self.shared.count.load(Ordering::SeqCst) > 0
    }

    /// Forgets interruptions: the next one is a first one again.
    pub fn reset(&self) {
        self.shared.count.store(0, Ordering::SeqCst);
    }
}
