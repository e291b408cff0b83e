/*!
Work on pieces of a file by several threads, results in the file's order.

One thread cuts pieces, `workers` turn each into results (usually one; a row group of Parquet gives many), and the
consumer sees results in order. Queues are bounded, so memory is too: at most `2 × workers` pieces wait, and each holds
at most [`RESULTS_WAITING`] results. Dropping the consumer ends all threads. An error, the cutter's or a worker's, is
delivered in its place and is the last thing delivered.
*/

use crate::error::SqlError;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Results of one piece that may wait for the consumer.
const RESULTS_WAITING: usize = 8;

/// What comes out of a piece: results, and at last its end. A thread that panics leaves no end.
enum Message<R> {
    Result(Result<R, SqlError>),
    End,
}

type Slot<R> = Receiver<Message<R>>;

/// Where a worker puts the results of its piece.
pub(super) struct Emit<R>(SyncSender<Message<R>>);

impl<R> Emit<R> {
    /// Hands a result over; false when nobody waits for it any more.
    pub(super) fn send(&self, result: Result<R, SqlError>) -> bool {
        self.0.send(Message::Result(result)).is_ok()
    }
}

/// Results in order.
pub(super) struct Ordered<R> {
    /// One receiver a piece, in the order of pieces.
    slots: Option<Receiver<Slot<R>>>,
    /// The piece whose results come now.
    slot: Option<Slot<R>>,
    threads: Vec<JoinHandle<()>>,
    failed: bool,
}

/// Starts `workers` threads that apply `work` to the pieces that `cut` gives; one result a piece.
///
/// # Errors
/// When a thread cannot be started.
pub(super) fn ordered<P, R>(
    workers: usize,
    cut: impl Iterator<Item = Result<P, SqlError>> + Send + 'static,
    work: impl Fn(P) -> Result<R, SqlError> + Send + Sync + 'static,
) -> Result<Ordered<R>, SqlError>
where
    P: Send + 'static,
    R: Send + 'static,
{
    streams(workers, cut, move |piece, emit| {
        emit.send(work(piece));
    })
}

/// The same where a piece gives any number of results.
///
/// # Errors
/// When a thread cannot be started.
pub(super) fn streams<P, R>(
    workers: usize,
    cut: impl Iterator<Item = Result<P, SqlError>> + Send + 'static,
    work: impl Fn(P, &Emit<R>) + Send + Sync + 'static,
) -> Result<Ordered<R>, SqlError>
where
    P: Send + 'static,
    R: Send + 'static,
{
    let workers = workers.max(1);
    let (task_in, task_out) = sync_channel::<(P, Emit<R>)>(workers);
    let (slot_in, slot_out) = sync_channel::<Slot<R>>(workers * 2);
    let (task_out, work) = (Arc::new(Mutex::new(task_out)), Arc::new(work));
    let mut threads = Vec::with_capacity(workers + 1);
    threads.push(spawn("cut", move || {
        for piece in cut {
            let (result_in, result_out) = sync_channel(RESULTS_WAITING);
            if slot_in.send(result_out).is_err() {
                return;
            }
            match piece {
                Ok(piece) => {
                    if task_in.send((piece, Emit(result_in))).is_err() {
                        return;
                    }
                }
                Err(e) => {
                    // The consumer may be gone; then nobody needs the error.
                    let _gone = Emit(result_in).send(Err(e));
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
                let Ok((piece, emit)) = task else { return };
                work(piece, &emit);
                // A consumer that is gone ends the cutter, and that ends this loop.
                let _gone = emit.0.send(Message::End);
            }
        })?);
    }
    Ok(Ordered { slots: Some(slot_out), slot: None, threads, failed: false })
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
        while !self.failed {
            if self.slot.is_none() {
                self.slot = Some(self.slots.as_ref()?.recv().ok()?);
            }
            let result = match self.slot.as_ref()?.recv() {
                Ok(Message::Result(result)) => result,
                Ok(Message::End) => {
                    self.slot = None;
                    continue;
                }
                Err(_) => Err(SqlError::internal("a reading thread ended without its result")),
            };
            self.failed = result.is_err();
            return Some(result);
        }
        None
    }
}

impl<R> Drop for Ordered<R> {
    fn drop(&mut self) {
        self.slots = None;
        self.slot = None;
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
            std::thread::sleep(std::time::Duration::from_micros(if n.is_multiple_of(7) { 900 } else { 10 }));
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
    fn a_piece_may_give_many_results_or_none() {
        let work = |n: u32, emit: &Emit<u32>| (0..n).for_each(|i| assert!(emit.send(Ok(n * 100 + i))));
        let got: Vec<u32> = streams(2, [20, 0, 2].into_iter().map(Ok), work).unwrap().map(Result::unwrap).collect();
        assert_eq!(got.len(), 22);
        assert!(got.is_sorted_by_key(|n| (n / 100 == 2, *n)));
    }

    #[test]
    fn a_thread_that_panics_is_an_error() {
        let work = |n: u32| if n == 3 { panic!("three") } else { Ok(n) };
        let got: Vec<_> = ordered(1, (0..10).map(Ok), work).unwrap().collect();
        assert_eq!(got.len(), 4);
        assert!(got.last().unwrap().is_err());
    }

    #[test]
    fn dropping_the_consumer_ends_the_threads() {
        let mut endless = ordered(2, (0u64..).map(Ok), Ok).unwrap();
        assert_eq!(endless.next().unwrap().unwrap(), 0);
        drop(endless);
    }
}
