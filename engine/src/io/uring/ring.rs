/*!
One submission queue and one completion queue shared with the kernel, and the memory that it works on meanwhile.

```text
    submit ──► queued ──► pushed (in the submission queue) ──► in the kernel ──► landed ──► Ticket::wait
                                       ▲                            │
                                       └── EINTR, EAGAIN, ECANCELED ┘
```

A [`Job`] owns its file and its buffer. It goes into a slot of the ring when it is submitted, and leaves it when the kernel
has said that it is done, for whoever holds the [`Ticket`]. A ticket that is dropped leaves the job in its slot until then.

A thread submits to a ring of its own, but any thread may wait for any job. One of those who wait for the same ring, the
*watcher*, sleeps in the kernel; the others sleep until it has looked at what came. So nobody can take from the completion queue
the very entry that another is about to sleep for.

A job that a signal or a passing lack of memory ended is submitted again, [`TRIES_MAX`] times. So is one that the kernel cancelled,
which it does to what a thread leaves behind in its queues when it ends; the engine itself cancels nothing. What a kernel does not
take that refuses the ring from some moment on is done at once, by an ordinary system call.

This is the one module of the back end with unsafe code that touches memory. Its invariants:

1. The submission and the completion queue are only touched under the lock of `queue`; and the completion queue by nobody but
   the watcher, while there is one.
2. An entry in the submission queue or in the kernel has its slot's number as user data, and that slot is `Flying` and keeps
   buffer and file until the entry's completion was taken from the completion queue. Nothing else empties a flying slot, and
   a buffer's bytes do not move with it.
3. No more than [`IN_FLIGHT_MAX`] slots fly, which the completion queue has room for: no completion is ever dropped.
4. A ring that is dropped has nothing in flight, or leaks the slots: the kernel never writes to memory that was given back.
*/
#![expect(clippy::disallowed_types, reason = "io_uring meets the operating system's threads, never the simulator's")]

use crate::io::Buffer;
use crate::io::posix::{PosixFile, retried};
use io_uring::{EnterFlags, IoUring, Probe, opcode, squeue, types};
use std::collections::VecDeque;
use std::fmt;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Entries of the submission queue; more jobs than this take more than one system call.
const ENTRIES: u32 = 64;

/// Jobs in flight on one ring, and entries of the completion queue. Who submits more waits for earlier ones.
pub(super) const IN_FLIGHT_MAX: u32 = 256;

/// Bytes of one transfer; the rest of a longer one is a short transfer's. The kernel's own limit is a little under 2 GiB.
const TRANSFER_BYTES_MAX: usize = 1 << 30;

/// How often a job is submitted again before its error is given to its owner.
const TRIES_MAX: u32 = 1000;

/// How long to wait where the kernel gives nothing to wait for.
const PAUSE: Duration = Duration::from_millis(1);

/// How often a submission is tried while the system is short of memory.
const PAUSES_MAX: u32 = 5000;

/// How often the end of what is in flight is waited for on a ring that the kernel refuses.
const DRAINS_MAX: u32 = 2000;

/// One system call's worth of work, and all that it needs until it is done.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) file: Arc<PosixFile>,
    pub(super) call: Call,
    /// Read into, or written from, as long as it is. Empty for a sync.
    pub(super) buffer: Buffer,
}

/// What to do with the file. Offsets are at most [`i64::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Read { offset: u64 },
    Write { offset: u64 },
    SyncData,
    SyncAll,
}

impl Job {
    /// Does it now, without a ring.
    pub(super) fn execute(&mut self) -> std::io::Result<usize> {
        let file = &self.file.file;
        match self.call {
            Call::Read { offset } => retried(|| file.read_at(&mut self.buffer, offset)),
            Call::Write { offset } => retried(|| file.write_at(&self.buffer, offset)),
            Call::SyncData => file.sync_data().map(|()| 0),
            Call::SyncAll => file.sync_all().map(|()| 0),
        }
    }

    /// Its entry for the submission queue, which points into its buffer.
    fn entry(&mut self, slot: usize) -> squeue::Entry {
        let file = types::Fd(self.file.file.as_raw_fd());
        let len = u32::try_from(self.buffer.len().min(TRANSFER_BYTES_MAX)).unwrap_or_default();
        let entry = match self.call {
            Call::Read { offset } => opcode::Read::new(file, self.buffer.as_mut_ptr(), len).offset(offset).build(),
            Call::Write { offset } => opcode::Write::new(file, self.buffer.as_ptr(), len).offset(offset).build(),
            Call::SyncData => opcode::Fsync::new(file).flags(types::FsyncFlags::DATASYNC).build(),
            Call::SyncAll => opcode::Fsync::new(file).build(),
        };
        entry.user_data(u64::try_from(slot).unwrap_or(u64::MAX))
    }
}

/// A job that is done, and what the kernel said: bytes, or a negative error number.
pub(super) type Landed = (Job, i32);

#[derive(Debug)]
enum Slot {
    Free,
    Flying(Flight),
    Landed(Landed),
}

#[derive(Debug)]
struct Flight {
    job: Job,
    tries: u32,
    /// Whether nobody holds its ticket any more.
    abandoned: bool,
}

/// See the module.
pub(super) struct Ring {
    uring: IoUring,
    queue: Mutex<Queue>,
    /// Told when the watcher has looked.
    looked: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    slots: Vec<Slot>,
    /// Slots that are free.
    free: Vec<usize>,
    /// Flying slots whose entries are to be pushed.
    queued: VecDeque<usize>,
    /// Flying slots whose entries the kernel has not taken from the submission queue.
    pushed: VecDeque<usize>,
    /// Flying slots.
    in_flight: u32,
    /// Whether a watcher is in the kernel.
    watched: bool,
    /// Whether the kernel refused the ring once; nothing is submitted to it from then on.
    broken: bool,
}

/// The right to a job's outcome.
#[derive(Debug)]
pub(super) struct Ticket {
    ring: Arc<Ring>,
    slot: usize,
    /// Whether the outcome was taken.
    used: bool,
}

impl Ring {
    /// A new ring, tried out. Errors: which of the system's calls refused, and why.
    pub(super) fn new() -> Result<Ring, String> {
        let refused = |what: &'static str| move |e: std::io::Error| format!("{what}: {e}");
        let mut uring: IoUring =
            IoUring::builder().setup_cqsize(IN_FLIGHT_MAX).build(ENTRIES).map_err(refused("io_uring_setup"))?;
        let mut probe = Probe::new();
        uring.submitter().register_probe(&mut probe).map_err(refused("io_uring_register"))?;
        if ![opcode::Read::CODE, opcode::Write::CODE, opcode::Fsync::CODE].iter().all(|op| probe.is_supported(*op)) {
            return Err("the kernel's io_uring is too old to read, write and sync".to_owned());
        }
        // SAFETY: the entry points to nothing, and nobody else knows of the ring.
        unsafe { uring.submission().push(&opcode::Nop::new().build()) }.map_err(|e| e.to_string())?;
        retried(|| uring.submit_and_wait(1)).map_err(refused("io_uring_enter"))?;
        if uring.completion().next().is_none_or(|entry| entry.result() != 0) {
            return Err("io_uring did not do nothing when asked to".to_owned());
        }
        Ok(Ring { uring, queue: Mutex::new(Queue::default()), looked: Condvar::new() })
    }

    /// Whether the kernel refused it once; such a ring must not be given more jobs.
    pub(super) fn is_broken(&self) -> bool {
        self.queue().broken
    }

    /// Starts jobs, in one system call where there is room; a ticket for each, in order.
    pub(super) fn submit(self: &Arc<Self>, jobs: Vec<Job>) -> Vec<Ticket> {
        let mut tickets = Vec::with_capacity(jobs.len());
        let mut queue = self.queue();
        for job in jobs {
            while queue.in_flight >= IN_FLIGHT_MAX {
                queue = self.look(queue);
                if queue.in_flight >= IN_FLIGHT_MAX {
                    queue = self.watch(queue);
                }
            }
            let slot = queue.enter(job);
            tickets.push(Ticket { ring: Arc::clone(self), slot, used: false });
        }
        drop(self.flush(queue));
        tickets
    }

    /// Waits until nothing is in flight; false where the kernel does not let that be known.
    pub(super) fn drain(&self) -> bool {
        let mut queue = self.queue();
        for _ in 0..DRAINS_MAX {
            queue = self.look(queue);
            while queue.in_flight > 0 && !queue.broken {
                queue = self.look(self.watch(queue));
            }
            if queue.in_flight == 0 {
                return true;
            }
            queue = self.watch(queue);
        }
        false
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what has completed, unless the watcher will, and submits what is to be submitted again.
    fn look<'a>(&'a self, mut queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        if !queue.watched {
            self.reap(&mut queue);
        }
        self.flush(queue)
    }

    /// Sleeps until something has completed.
    fn watch<'a>(&'a self, mut queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        if queue.watched {
            return self.looked.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.watched = true;
        drop(queue);
        // SAFETY: nothing is submitted here and no argument is passed, so the kernel reads no memory of ours.
        let outcome =
            unsafe { self.uring.submitter().enter::<libc::sigset_t>(0, 1, EnterFlags::GETEVENTS.bits(), None) };
        if outcome.is_err_and(|e| e.raw_os_error() != Some(libc::EINTR)) {
            pause();
        }
        let mut queue = self.queue();
        queue.watched = false;
        self.reap(&mut queue);
        self.looked.notify_all();
        queue
    }

    fn reap(&self, queue: &mut Queue) {
        // SAFETY: invariant 1: `queue` is locked, and there is no watcher but the caller.
        for entry in unsafe { self.uring.completion_shared() } {
            queue.land(entry.user_data(), entry.result());
        }
    }

    /// Hands everything that is queued to the kernel, so that nothing is left to hand over when the lock is let go.
    fn flush<'a>(&'a self, mut queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        let mut pauses = 0;
        loop {
            if queue.broken {
                queue.do_unsubmitted();
            } else {
                self.push(&mut queue);
            }
            if queue.pushed.is_empty() {
                return queue;
            }
            match self.uring.submitter().submit() {
                Ok(taken) => queue.forget_pushed(taken),
                Err(e) => match e.raw_os_error() {
                    Some(libc::EINTR) => {}
                    // The system is short of memory for it.
                    Some(libc::EAGAIN | libc::EBUSY) if pauses < PAUSES_MAX => {
                        pauses += 1;
                        pause();
                    }
                    _ => queue.broken = true,
                },
            }
        }
    }

    /// Fills the submission queue.
    fn push(&self, queue: &mut Queue) {
        // SAFETY: invariant 1: `queue` is locked.
        let mut entries = unsafe { self.uring.submission_shared() };
        while !entries.is_full() {
            let Some(slot) = queue.queued.pop_front() else { return };
            if let Some(Slot::Flying(flight)) = queue.slots.get_mut(slot) {
                let entry = flight.job.entry(slot);
                // SAFETY: invariant 2: the slot flies, and keeps the buffer and the file that the entry points to.
                if unsafe { entries.push(&entry) }.is_err() {
                    queue.queued.push_front(slot);
                    return;
                }
                queue.pushed.push_back(slot);
            }
        }
    }
}

impl Queue {
    /// Puts a job into a slot, to be pushed.
    fn enter(&mut self, job: Job) -> usize {
        let flying = Slot::Flying(Flight { job, tries: 0, abandoned: false });
        let slot = self.free.pop().unwrap_or(self.slots.len());
        match self.slots.get_mut(slot) {
            Some(free) => *free = flying,
            None => self.slots.push(flying),
        }
        self.in_flight += 1;
        self.queued.push_back(slot);
        slot
    }

    /// Takes note that the kernel took the oldest entries from the submission queue.
    fn forget_pushed(&mut self, taken: usize) {
        let taken = taken.min(self.pushed.len());
        drop(self.pushed.drain(..taken));
    }

    /// Takes note of a completion.
    fn land(&mut self, user_data: u64, result: i32) {
        let Ok(slot) = usize::try_from(user_data) else { return };
        let Some(Slot::Flying(flight)) = self.slots.get_mut(slot) else { return };
        let passing = [-libc::EINTR, -libc::EAGAIN, -libc::ECANCELED].contains(&result);
        if passing && flight.tries < TRIES_MAX && !self.broken {
            flight.tries += 1;
            self.queued.push_back(slot);
            return;
        }
        self.end(slot, result);
    }

    /// Ends the flight of a slot that the kernel does not know, or not any more.
    fn end(&mut self, slot: usize, result: i32) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        match std::mem::replace(place, Slot::Free) {
            Slot::Flying(flight) => {
                self.in_flight = self.in_flight.saturating_sub(1);
                if flight.abandoned {
                    self.free.push(slot);
                } else {
                    *place = Slot::Landed((flight.job, result));
                }
            }
            other => *place = other,
        }
    }

    /// Does the jobs that the kernel will never hear of, because the ring is broken. What it has not taken from the
    /// submission queue it would take only on a submission, and there is none any more.
    fn do_unsubmitted(&mut self) {
        let unsubmitted: Vec<usize> = self.pushed.drain(..).chain(self.queued.drain(..)).collect();
        for slot in unsubmitted {
            let Some(Slot::Flying(flight)) = self.slots.get_mut(slot) else { continue };
            let result = match flight.job.execute() {
                Ok(bytes) => i32::try_from(bytes).unwrap_or(i32::MAX),
                Err(e) => -e.raw_os_error().unwrap_or(libc::EIO),
            };
            self.end(slot, result);
        }
    }

    fn take(&mut self, slot: usize) -> Option<Landed> {
        let place = self.slots.get_mut(slot)?;
        match std::mem::replace(place, Slot::Free) {
            Slot::Landed(landed) => {
                self.free.push(slot);
                Some(landed)
            }
            other => {
                *place = other;
                None
            }
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let queue = self.queue.get_mut().unwrap_or_else(PoisonError::into_inner);
        if queue.in_flight > 0 {
            std::mem::forget(std::mem::take(&mut queue.slots));
        }
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ring")
    }
}

impl Ticket {
    /// Whether the job is done.
    pub(super) fn is_ready(&self) -> bool {
        let queue = self.ring.look(self.ring.queue());
        matches!(queue.slots.get(self.slot), Some(Slot::Landed(_)))
    }

    /// Waits until the job is done.
    pub(super) fn wait(mut self) -> Landed {
        let mut queue = self.ring.queue();
        loop {
            queue = self.ring.look(queue);
            if let Some(landed) = queue.take(self.slot) {
                drop(queue);
                self.used = true;
                return landed;
            }
            queue = self.ring.watch(queue);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.used {
            return;
        }
        let mut queue = self.ring.queue();
        if queue.take(self.slot).is_none()
            && let Some(Slot::Flying(flight)) = queue.slots.get_mut(self.slot)
        {
            flight.abandoned = true;
        }
    }
}

/// Rests for a moment.
fn pause() {
    crate::io::thread::sleep(PAUSE);
}
