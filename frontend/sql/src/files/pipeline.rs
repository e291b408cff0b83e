/*!
Work on pieces of a file by several threads, results in the file's order.

One thread cuts pieces, `workers` turn each into a result, and the consumer sees results in order. Queues are bounded, so
memory is too: at most `2 × workers` pieces wait. Dropping the consumer ends all threads. An error, the cutter's or a
worker's, is delivered in its place and is the last thing delivered.
*/

use crate::error::SqlError;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

type Slot<R> = Receiver<Result<R, SqlError>>;
type Task<P, R> = (P, SyncSender<Result<R, SqlError>>);

/// Results in order.
pub struct Ordered<R> {
    /// One receiver a piece, in the order of pieces.
    slots: Option<Receiver<Slot<R>>>,
    threads: Vec<JoinHandle<()>>,
    failed: bool,
}

/// Starts `workers` threads that apply `work` to the pieces that `cut` gives.
///
/// # Errors
/// When a thread cannot be started.
pub fn ordered<P, R>(
    workers: usize,
    cut: impl Iterator<Item = Result<P, SqlError>> + Send + 'static,
    work: impl Fn(P) -> Result<R, SqlError> + Send + Sync + 'static,
) -> Result<Ordered<R>, SqlError>
where
    P: Send + 'static,
    R: Send + 'static,
{
    let workers = workers.max(1);
    let (task_in, task_out) = sync_channel::<Task<P, R>>(workers);
    let (slot_in, slot_out) = sync_channel::<Slot<R>>(workers * 2);
    let (task_out, work) = (Arc::new(Mutex::new(task_out)), Arc::new(work));
    let mut threads = Vec::with_capacity(workers + 1);
    threads.push(spawn("cut", move || {
        for piece in cut {
            let (result_in, result_out) = sync_channel(1);
            if slot_in.send(result_out).is_err() {
                return;
            }
            match piece {
                Ok(piece) => {
                    if task_in.send((piece, result_in)).is_err() {
                        return;
                    }
                }
                Err(e) => {
                    // The consumer may be gone; then nobody needs the error.
                    let _gone = result_in.send(Err(e));
                    return;
                }
            }
        }
    })?);
    for _ in 0..workers {
        let (tasks, work) = (task_out.clone(), work.clone());
        threads.push(spawn("parse", move || {
            loop {
                let task = tasks.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok((piece, result)) = task else { return };
                // A consumer that is gone ends the cutter, and that ends this loop.
                let _gone = result.send(work(piece));
            }
        })?);
    }
    Ok(Ordered { slots: Some(slot_out), threads, failed: false })
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, SqlError> {
    std::thread::Builder::new()
        .name(format!("files-{name}"))
        .spawn(body)
        .map_err(|e| SqlError::internal(format!("cannot start a thread: {e}")))
}

impl<R> Iterator for Ordered<R> {
    type Item = Result<R, SqlError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let slot = self.slots.as_ref()?.recv().ok()?;
        let result = slot.recv().unwrap_or_else(|_| Err(SqlError::internal("a reading thread ended without its result")));
        self.failed = result.is_err();
        Some(result)
    }
}

impl<R> Drop for Ordered<R> {
    fn drop(&mut self) {
        self.slots = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked has already failed the read through its missing result.
            let _ended = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_whoever_is_faster() {
        let cut = (0..200u64).map(Ok);
        let slow_first = |n: u64| {
            std::thread::sleep(std::time::Duration::from_micros(if n % 7 == 0 { 900 } else { 10 }));
            Ok(n * 2)
        };
        let got: Vec<u64> = ordered(3, cut, slow_first).unwrap().map(Result::unwrap).collect();
        assert_eq!(got, (0..200).map(|n| n * 2).collect::<Vec<_>>());
    }

    #[test]
    fn an_error_comes_in_its_place_and_last() {
        let cut = (0..100).map(Ok);
        let work = |n: i32| if n == 5 { Err(SqlError::internal("five")) } else { Ok(n) };
        let got: Vec<_> = ordered(4, cut, work).unwrap().collect();
        assert_eq!(got.len(), 6);
        assert!(got.last().unwrap().is_err());
    }

    #[test]
    fn dropping_the_consumer_ends_the_threads() {
        let mut endless = ordered(2, (0u64..).map(Ok), Ok).unwrap();
        assert_eq!(endless.next().unwrap().unwrap(), 0);
        drop(endless);
    }
}
