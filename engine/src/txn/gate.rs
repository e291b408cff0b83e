/*!
A table's write gate. Ordinary commits pass it together; whoever checks many rows against a whole table and then
publishes them passes it alone, so that no row slips in between check and publication.

A gate is held for as long as a commit takes. One that does not open in [`WAIT_MAX`] is a `WriteConflict`: two
transactions that wait for each other's tables end so, and not never.
*/

use crate::error::{Error, ErrorKind, Result};
use crate::io::sync::{Condvar, Mutex};
use std::sync::Arc;
use std::time::Duration;

/// How long a commit waits at a gate.
const WAIT_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, Default, Clone, Copy)]
struct Holders {
    shared: usize,
    exclusive: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Gate {
    holders: Mutex<Holders>,
    opened: Condvar,
}

/// Leave to pass, given back when dropped.
#[derive(Debug)]
pub(crate) struct Pass {
    gate: Arc<Gate>,
    exclusive: bool,
}

impl Gate {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Gate { holders: Mutex::new(Holders::default()), opened: Condvar::new() })
    }

    /// Passes beside others that share.
    pub(crate) fn share(self: &Arc<Self>) -> Result<Pass> {
        self.pass(false)
    }

    /// Passes alone.
    pub(crate) fn close(self: &Arc<Self>) -> Result<Pass> {
        self.pass(true)
    }

    fn pass(self: &Arc<Self>, exclusive: bool) -> Result<Pass> {
        let mut holders = self.holders.lock();
        while holders.exclusive || (exclusive && holders.shared > 0) {
            let timed_out;
            (holders, timed_out) = self.opened.wait_timeout(holders, WAIT_MAX);
            if timed_out {
                return Err(Error::new(ErrorKind::WriteConflict, "another transaction holds the table for loading"));
            }
        }
        match exclusive {
            true => holders.exclusive = true,
            false => holders.shared += 1,
        }
        drop(holders);
        Ok(Pass { gate: Arc::clone(self), exclusive })
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut holders = self.gate.holders.lock();
        match self.exclusive {
            true => holders.exclusive = false,
            false => holders.shared = holders.shared.saturating_sub(1),
        }
        drop(holders);
        self.gate.opened.notify_all();
    }
}
