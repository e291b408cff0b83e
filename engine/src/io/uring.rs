/*!
The operating system's files through io_uring, past the page cache where that can be done.

```text
    ring      one pair of queues shared with the kernel; owns what the kernel works on; all unsafe code about memory
    rings     one ring for each thread and class: reads, and writes with syncs
    direct    which files can be read and written past the page cache, and the blocks around a read
```

Names, directories, locks, clocks and randomness are those of [`posix`](super::posix).

# Several at once, and one alone

[`File::submit`] and [`File::submit_all`] hand operations to the kernel in one system call and come back; so reads are
prefetched and batched, and several writes are in flight. [`File::run`], and all that is made of it, does one operation as one
ordinary system call: whoever waits at once gains nothing from a queue.

That is how it was measured: random direct reads of 4 and 8 KiB, ext4 on virtio, kernel 6.18. One at a time, `pread` and a ring took the
same (87 to 115 µs, 34 to 52 µs of them processor time); 8 and 32 at a time on a ring took 30 and 22 µs each (9 and 5.5 µs).
Registered files and buffers saved less than a microsecond of each, which the copy out of a registered buffer would take
again, and nothing of the time that passed: so there are none.

A write that is to be durable before anything else is done, [`File::write_durably_at`], is one system call on direct files, too
(`pwritev2` with `RWF_DSYNC`): blocks of 4 KiB one after the other took 43 µs each in place of 45, and 11.5 µs of the processor in
place of 12.5; where a device can write through its cache the kernel asks for that, in place of a flush. On buffered files it
took longer than the two calls did. A write and a sync that are linked on a ring took 55 µs.

# Direct and buffered files

A handle of [`Io::open`] is buffered for all it does, one of [`Io::open_direct`] direct for all it does, if the file system can
do that, else buffered. Nothing ever switches, because mixing the two on one file is where wrong bytes come from:

- A direct write beside a buffered one of the same page may leave the page cache with old bytes, and fails the next sync when it does.
- After a failed sync the page cache may hold bytes that the device does not have. Who reads the one and writes back the other brings
  bytes to life that nobody has checked.

So the engine opens log segments and runs direct, always; manifests, `CURRENT` and the identity, which are small and written in
odd lengths, buffered, always. A direct handle takes whole blocks only, so that no write of it must go another way.

What others do to the same file stays sound: the kernel writes dirty pages before it reads their blocks directly, and drops
pages whose blocks were written directly. Bytes of a direct read are cut from the blocks around them; the end of the file is where the
kernel says it is. A direct read that comes back short of the first byte that was wanted is not the end of the file: it goes on.

# What it promises

What every back end does. In particular an operation's buffer belongs to the kernel until it is done, whatever becomes of
completion, file and thread meanwhile, and a completion may be waited for on any thread.
*/

mod direct;
mod ring;
mod rings;
#[cfg(test)]
mod tests;

use super::posix::PosixFile;
use super::{Buffer, Completion, DirEntry, Done, EntryKind, File, Io, IoRef, Lock, Op, OpenMode, Pending};
use super::{is_whole_blocks, not_whole_blocks, posix, write_then_sync};
use crate::error::{Error, Result};
use direct::Window;
use ring::{Call, Job, Ticket};
use std::path::Path;
use std::sync::Arc;

/// The operating system's files through io_uring. Errors: why the system refuses it.
pub fn uring() -> Result<IoRef, String> {
    rings::probe()?;
    Ok(Arc::new(Uring { system: posix() }))
}

#[derive(Debug)]
struct Uring {
    /// Does all that needs no ring.
    system: IoRef,
}

#[derive(Debug)]
struct UringFile {
    file: Arc<PosixFile>,
    access: Access,
}

/// How a handle was opened, and what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// Anything goes, through the page cache.
    Buffered,
    /// Writes are whole blocks.
    Blocks {
        /// The alignment that direct I/O wants; `None` where there is none, and the page cache is used.
        direct: Option<usize>,
    },
}

/// What an operation's outcome is made of.
#[derive(Debug, Clone, Copy)]
struct Plan {
    /// What was asked for.
    offset: u64,
    len: usize,
    /// Bytes of the window before that.
    skip: usize,
    /// What a transfer that ends early is a multiple of, unless the file ends there; 1 where it is buffered.
    align: usize,
}

/// An operation in flight.
#[derive(Debug)]
struct InFlight {
    ticket: Ticket,
    plan: Plan,
}

impl Io for Uring {
    fn name(&self) -> &'static str {
        "uring"
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn File>> {
        let file = Arc::new(PosixFile::open(path, mode)?);
        Ok(Arc::new(UringFile { file, access: Access::Buffered }))
    }

    fn open_direct(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn File>> {
        let file = Arc::new(PosixFile::open(path, mode)?);
        let direct = direct::enable(&file.file);
        Ok(Arc::new(UringFile { file, access: Access::Blocks { direct } }))
    }

    fn create_dir_all(&self, path: &Path) -> Result<()> {
        self.system.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>> {
        self.system.list(dir)
    }

    fn names(&self, dir: &Path) -> Result<Vec<String>> {
        self.system.names(dir)
    }

    fn exists(&self, path: &Path) -> Result<Option<EntryKind>> {
        self.system.exists(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.system.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        self.system.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> Result<()> {
        self.system.remove_dir_all(path)
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.system.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>> {
        self.system.lock(path)
    }

    fn lock_existing(&self, path: &Path) -> Result<Option<Box<dyn Lock>>> {
        self.system.lock_existing(path)
    }

    fn unix_micros(&self) -> i64 {
        self.system.unix_micros()
    }

    fn monotonic_nanos(&self) -> u64 {
        self.system.monotonic_nanos()
    }

    fn random_u64(&self) -> u64 {
        self.system.random_u64()
    }

    fn process_id(&self) -> u32 {
        self.system.process_id()
    }
}

impl File for UringFile {
    fn path(&self) -> &Path {
        &self.file.path
    }

    fn submit(&self, op: Op) -> Completion {
        let mut completions = self.submit_all(vec![op]);
        completions.pop().unwrap_or_else(|| Completion::ready(Err(Error::internal("an operation was not submitted"))))
    }

    fn submit_all(&self, ops: Vec<Op>) -> Vec<Completion> {
        let mut completions = Vec::with_capacity(ops.len());
        let (mut jobs, mut plans) = (Vec::new(), Vec::new());
        // Reads go to another ring than writes and syncs, so a change of class ends a batch.
        let mut reads = false;
        for op in ops {
            let is_read = matches!(op, Op::Read { .. });
            if is_read != reads {
                start(std::mem::take(&mut jobs), std::mem::take(&mut plans), &mut completions);
                reads = is_read;
            }
            match self.plan(op) {
                Ok((job, plan)) => {
                    jobs.push(job);
                    plans.push(plan);
                }
                Err(error) => {
                    start(std::mem::take(&mut jobs), std::mem::take(&mut plans), &mut completions);
                    completions.push(Completion::ready(Err(error)));
                }
            }
        }
        start(jobs, plans, &mut completions);
        completions
    }

    fn run(&self, op: Op) -> Result<Done> {
        let (mut job, plan) = self.plan(op)?;
        let outcome = job.execute();
        finish(job, plan, outcome)
    }

    fn write_durably_at(&self, offset: u64, buffer: Buffer) -> Result<Buffer> {
        let is_direct = matches!(self.access, Access::Blocks { direct: Some(_) });
        if !is_direct || !is_whole_blocks(offset, buffer.len()) {
            return write_then_sync(self, offset, buffer);
        }
        match self.file.write_durably(offset, &buffer) {
            Ok(bytes) if bytes == buffer.len() => Ok(buffer),
            // What was written already is written once more, in whole blocks.
            Ok(_) => write_then_sync(self, offset, buffer),
            Err(error) if error.kind() == std::io::ErrorKind::Unsupported => write_then_sync(self, offset, buffer),
            Err(error) => Err(Error::io(&format!("write and sync at offset {offset}"), self.path(), error)),
        }
    }

    fn len(&self) -> Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len)
    }

    fn allocate(&self, len: u64) -> Result<()> {
        if self.access != Access::Buffered {
            if !is_whole_blocks(len, 0) {
                return Err(not_whole_blocks(self.path(), len));
            }
            self.end_with_a_block()?;
        }
        self.file.allocate(len)
    }

    fn reserve(&self, len: u64) -> Result<()> {
        if self.access != Access::Buffered && !is_whole_blocks(len, 0) {
            return Err(not_whole_blocks(self.path(), len));
        }
        self.file.reserve(len)
    }
}

impl UringFile {
    /// What the kernel has to do for an operation.
    fn plan(&self, op: Op) -> Result<(Job, Plan)> {
        let plain = |offset, len| Plan { offset, len, skip: 0, align: 1 };
        let (call, buffer, plan) = match op {
            Op::SyncData => (Call::SyncData, Buffer::new(), plain(0, 0)),
            Op::SyncAll => (Call::SyncAll, Buffer::new(), plain(0, 0)),
            Op::Write { offset, buffer } => {
                if self.access != Access::Buffered && !is_whole_blocks(offset, buffer.len()) {
                    return Err(not_whole_blocks(self.path(), offset));
                }
                let plan = plain(offset, buffer.len());
                (Call::Write { offset }, buffer, plan)
            }
            Op::Read { offset, buffer } => match self.access {
                Access::Blocks { direct: Some(align) } if !buffer.is_empty() => {
                    let len = buffer.len();
                    let Some(window) = Window::around(offset, len, align) else {
                        return Err(failed("read", self.path(), offset, libc::EINVAL));
                    };
                    let plan = Plan { offset, len, skip: window.skip, align };
                    (Call::Read { offset: window.offset }, roomy(buffer, window.len), plan)
                }
                _ => {
                    let plan = plain(offset, buffer.len());
                    (Call::Read { offset }, buffer, plan)
                }
            },
        };
        // To the kernel such an offset means another thing: where the file's cursor stands.
        if i64::try_from(plan.offset).is_err() {
            return Err(failed(verb(call), self.path(), plan.offset, libc::EINVAL));
        }
        Ok((Job { file: Arc::clone(&self.file), call, buffer }, plan))
    }

    /// Lengthens a file that ends within a block to the block's end, so that zeros can be written after it.
    fn end_with_a_block(&self) -> Result<()> {
        let len = self.len()?;
        let block = u64::try_from(super::BUFFER_ALIGN).unwrap_or(u64::MAX);
        match len.checked_next_multiple_of(block) {
            Some(end) if end > len => self.set_len(end),
            _ => Ok(()),
        }
    }
}

/// Starts jobs of one class; done at once where there is no ring.
fn start(jobs: Vec<Job>, plans: Vec<Plan>, completions: &mut Vec<Completion>) {
    if jobs.is_empty() {
        return;
    }
    match rings::submit(jobs) {
        Ok(tickets) => completions.extend(
            tickets
                .into_iter()
                .zip(plans)
                .map(|(ticket, plan)| Completion::pending(Box::new(InFlight { ticket, plan }))),
        ),
        Err(jobs) => completions.extend(jobs.into_iter().zip(plans).map(|(mut job, plan)| {
            let outcome = job.execute();
            Completion::ready(finish(job, plan, outcome))
        })),
    }
}

impl Pending for InFlight {
    fn is_ready(&self) -> bool {
        self.ticket.is_ready()
    }

    fn wait(self: Box<Self>) -> Result<Done> {
        let (job, result) = self.ticket.wait();
        let outcome = usize::try_from(result).map_err(|_| std::io::Error::from_raw_os_error(result.saturating_neg()));
        finish(job, self.plan, outcome)
    }
}

/// What a job came to, as its owner sees it.
fn finish(mut job: Job, plan: Plan, outcome: std::io::Result<usize>) -> Result<Done> {
    let outcome = match job.call {
        Call::Read { offset } => outcome.and_then(|bytes| read_on(&mut job, offset, plan, bytes)),
        _ => outcome,
    };
    let done = outcome.map_err(|e| Error::io(&described(job.call, plan.offset), &job.file.path, e))?;
    Ok(match job.call {
        Call::SyncData | Call::SyncAll => Done { buffer: None, bytes: 0 },
        Call::Write { .. } => Done { buffer: Some(job.buffer), bytes: done },
        Call::Read { .. } => {
            let bytes = done.saturating_sub(plan.skip).min(plan.len);
            if plan.skip > 0 && bytes > 0 {
                job.buffer.copy_within(plan.skip..plan.skip + bytes, 0);
            }
            job.buffer.truncate(bytes);
            Done { buffer: Some(job.buffer), bytes }
        }
    })
}

/// Goes on with a direct read that ended before the first byte that was wanted, and not at the end of the file.
fn read_on(job: &mut Job, offset: u64, plan: Plan, bytes: usize) -> std::io::Result<usize> {
    let mut bytes = bytes;
    while bytes > 0 && bytes <= plan.skip && bytes.is_multiple_of(plan.align) {
        let at = offset.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        let rest = job.buffer.get_mut(bytes..).unwrap_or_default();
        match job.file.read_into(at, rest)? {
            0 => break,
            more => bytes += more,
        }
    }
    Ok(bytes)
}

/// `len` bytes of memory to read into: `buffer`'s own if it has so many, else new ones.
fn roomy(mut buffer: Buffer, len: usize) -> Buffer {
    if buffer.capacity() < len {
        return Buffer::zeroed(len);
    }
    buffer.reuse(len);
    buffer
}

fn verb(call: Call) -> &'static str {
    match call {
        Call::Read { .. } => "read",
        Call::Write { .. } => "write",
        Call::SyncData | Call::SyncAll => "sync",
    }
}

fn described(call: Call, offset: u64) -> String {
    match call {
        Call::Read { .. } | Call::Write { .. } => format!("{} at offset {offset}", verb(call)),
        Call::SyncData | Call::SyncAll => verb(call).to_owned(),
    }
}

fn failed(verb: &str, path: &Path, offset: u64, code: i32) -> Error {
    Error::io(&format!("{verb} at offset {offset}"), path, std::io::Error::from_raw_os_error(code))
}
