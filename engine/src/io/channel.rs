/*!
Queues between threads: many senders, many receivers, each message to one of them, in order.

Built on [`super::sync`] alone, so that a simulation schedules them without knowing them.
*/

use super::sync::{Condvar, Mutex};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A queue that holds at most `capacity` messages (at least one): senders wait while it is full.
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    channel(capacity.max(1))
}

/// A queue without a bound. For messages whose number something else bounds.
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    channel(usize::MAX)
}

/// The message of a send that failed because no receiver is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disconnected<T>(pub T);

/// Why [`Sender::try_send`] gave its message back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// The queue is full.
    Full(T),
    /// No receiver is left.
    Disconnected(T),
}

/// Why a receive came back without a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiveError {
    /// None came in time; senders are left.
    Empty,
    /// The queue is empty, and no sender is left.
    Disconnected,
}

/// The sending end; clones share it.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

/// The receiving end; clones share it.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    capacity: usize,
    /// A message came, or the last sender went.
    filled: Condvar,
    /// A message was taken, or the last receiver went.
    drained: Condvar,
}

struct State<T> {
    queue: VecDeque<T>,
    senders: usize,
    receivers: usize,
}

fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        state: Mutex::new(State { queue: VecDeque::new(), senders: 1, receivers: 1 }),
        capacity,
        filled: Condvar::new(),
        drained: Condvar::new(),
    });
    (Sender { shared: Arc::clone(&shared) }, Receiver { shared })
}

impl<T> Sender<T> {
    /// Waits for room and puts `message` at the end.
    pub fn send(&self, message: T) -> Result<(), Disconnected<T>> {
        let mut state = self.shared.state.lock();
        while state.receivers > 0 && state.queue.len() >= self.shared.capacity {
            state = self.shared.drained.wait(state);
        }
        if state.receivers == 0 {
            return Err(Disconnected(message));
        }
        state.queue.push_back(message);
        drop(state);
        self.shared.filled.notify_one();
        Ok(())
    }

    /// Puts `message` at the end if there is room now.
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let mut state = self.shared.state.lock();
        if state.receivers == 0 {
            return Err(TrySendError::Disconnected(message));
        }
        if state.queue.len() >= self.shared.capacity {
            return Err(TrySendError::Full(message));
        }
        state.queue.push_back(message);
        drop(state);
        self.shared.filled.notify_one();
        Ok(())
    }
}

impl<T> Receiver<T> {
    /// Waits for the first message; `None` once the queue is empty and no sender is left.
    pub fn recv(&self) -> Option<T> {
        let mut state = self.shared.state.lock();
        loop {
            if let Some(message) = state.queue.pop_front() {
                drop(state);
                self.shared.drained.notify_one();
                return Some(message);
            }
            if state.senders == 0 {
                return None;
            }
            state = self.shared.filled.wait(state);
        }
    }

    /// As [`Receiver::recv`], but waits at most about `timeout` without a message coming.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, ReceiveError> {
        let mut state = self.shared.state.lock();
        let mut timed_out = false;
        loop {
            if let Some(message) = state.queue.pop_front() {
                drop(state);
                self.shared.drained.notify_one();
                return Ok(message);
            }
            if state.senders == 0 {
                return Err(ReceiveError::Disconnected);
            }
            if timed_out {
                return Err(ReceiveError::Empty);
            }
            (state, timed_out) = self.shared.filled.wait_timeout(state, timeout);
        }
    }

    /// The first message, if there is one now.
    pub fn try_recv(&self) -> Result<T, ReceiveError> {
        let mut state = self.shared.state.lock();
        match state.queue.pop_front() {
            Some(message) => {
                drop(state);
                self.shared.drained.notify_one();
                Ok(message)
            }
            None if state.senders == 0 => Err(ReceiveError::Disconnected),
            None => Err(ReceiveError::Empty),
        }
    }

    /// Messages that wait now.
    pub fn len(&self) -> usize {
        self.shared.state.lock().queue.len()
    }

    /// Whether no message waits now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The messages until no sender is left.
impl<T> Iterator for Receiver<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.recv()
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.state.lock().senders += 1;
        Sender { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.shared.state.lock().receivers += 1;
        Receiver { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.senders -= 1;
        if state.senders == 0 {
            drop(state);
            self.shared.filled.notify_all();
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.receivers -= 1;
        if state.receivers == 0 {
            // Nobody will take what is left; it must not live as long as the senders.
            let left = std::mem::take(&mut state.queue);
            drop(state);
            self.shared.drained.notify_all();
            drop(left);
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver")
    }
}
