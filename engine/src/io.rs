/*!
The only door to files, clocks, randomness, locks, channels and threads.

Everything that can differ between two runs of the same program comes in here, so that the whole engine can be run by
[`sim`] on one thread at a time, under a virtual clock, on a disk that forgets what was not synced, and be run again
from the same seed. `clippy.toml` forbids the standard library's own doors elsewhere in the engine.

```text
    platform    which back end a database in a directory gets
    uring       the operating system's files through io_uring, past the page cache where that can be done
    posix       the operating system's files, clock and randomness, by blocking system calls
    memory      a whole file system in memory: databases without a directory, and tests
    sim         the simulator: scheduler, virtual clock, crashable disk, faults
    store       the file tree that memory and sim share
    steady      a back end around another, whose directories stay failed once a sync has failed
    sync, channel, thread
                locks, queues and threads: the standard library's, or the simulator's inside a simulation
    buffer      owned, page-aligned bytes: what an operation carries to the device and back
    collections hash maps whose order is the same in every run (the standard ones' is not); for keys that users choose,
                use a `BTreeMap`
    random      a small generator with a seed
```

# Files

[`File::submit`] is the one primitive: an [`Op`] owns its [`Buffer`] until the [`Completion`] gives it back, because a
kernel that completes operations later (io_uring) writes into that memory meanwhile. A back end may execute an
operation when it is submitted, when it is waited for, or at any time between; two operations in flight have no order.
A sync covers exactly the writes whose completions were *reaped* before it was submitted.

The provided methods (`read_at`, `write_all_at`, …) submit and wait, and loop over short transfers.

A file is opened in one of two ways, and by all who open it in the same. [`Io::open`] goes through the system's page cache:
files of a few bytes, and writes of any length. [`Io::open_direct`] may pass it by, so that the engine's own cache is the only one,
writes are paced by the device, and reads tell what the device holds: writes are whole blocks of [`BUFFER_ALIGN`] bytes there.

# What is durable

- Bytes and length of a file: after [`File::sync_data`] or [`File::sync_all`] came back without an error.
- An entry of a directory (a created, renamed or removed file): after [`Io::sync_dir`] of that directory came back.
- A failed sync proves nothing, then and later: the kernel may have dropped the dirty pages, so that a second sync
  succeeds without having written them. Whoever sees one must treat all writes since the last good sync as lost.

# What it does not know

Formats, checksums, retries (only EINTR is retried) and what a file is for.
*/

mod blocks;
mod buffer;
pub mod channel;
pub mod collections;
#[cfg(test)]
mod conformance;
mod memory;
mod pages;
mod platform;
mod posix;
pub mod random;
pub mod sim;
mod steady;
mod store;
pub mod sync;
pub mod thread;
#[cfg(target_os = "linux")]
mod uring;

pub use buffer::{BUFFER_ALIGN, Buffer};
pub use memory::memory;
pub use pages::vec_in_huge_pages;
pub use platform::{machine_memory_bytes, platform};
pub use posix::posix;
pub use steady::steady;
#[cfg(target_os = "linux")]
pub use uring::uring;

use crate::error::{Error, ErrorKind, Result};
use blocks::WholeBlocks;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

/// A back end, shared by all who use it.
pub type IoRef = Arc<dyn Io>;

/// Reads longer than this ask for the file's length first, so that a damaged length can't ask for absurd memory.
const UNCHECKED_READ_BYTES_MAX: usize = 1024 * 1024;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading only.
    Read,
    /// An existing file, for reading and writing.
    ReadWrite,
    /// For reading and writing; created empty where it is absent.
    Create,
    /// For reading and writing; an error where it is there already.
    CreateNew,
}

/// What a directory entry stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// Anything else: a socket, a device, a symbolic link that was listed.
    Other,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// Its name, without the directory. Bytes that are not UTF-8 are replaced.
    pub name: String,
    /// What it stands for. Symbolic links are not followed.
    pub kind: EntryKind,
    /// Bytes of a file; 0 for anything else.
    pub len: u64,
}

/// Files, clocks and randomness of one back end.
pub trait Io: Send + Sync + Debug {
    /// "uring", "posix", "memory" or "sim".
    fn name(&self) -> &'static str;

    /// Why it is this back end and not a better one: a sentence for whoever looks after the database.
    fn notice(&self) -> Option<&str> {
        None
    }

    /// Opens a file. The handle stays good when the file is renamed or removed.
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn File>>;

    /// As [`Io::open`], for a file that is read and written past the system's page cache where that can be done. Writes
    /// to the handle are whole blocks: offset and length are multiples of [`BUFFER_ALIGN`], or the write is refused with
    /// [`ErrorKind::InvalidArgument`]; so is [`File::allocate`]. Reads are free.
    ///
    /// A file that is opened so once is opened so always, but by tests: two ways into one file are two opinions of
    /// what it holds, once a sync has failed.
    fn open_direct(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn File>> {
        Ok(Arc::new(WholeBlocks::new(self.open(path, mode)?)))
    }

    /// Creates a directory and what is missing above it. Durable once each parent is synced.
    fn create_dir_all(&self, path: &Path) -> Result<()>;

    /// The entries of a directory, sorted by name.
    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>>;

    /// The names of a directory's entries, sorted: as [`Io::list`], without a look at each of them where that is dearer.
    fn names(&self, dir: &Path) -> Result<Vec<String>> {
        Ok(self.list(dir)?.into_iter().map(|entry| entry.name).collect())
    }

    /// What stands at `path` (links followed), or `None` if nothing does.
    fn exists(&self, path: &Path) -> Result<Option<EntryKind>>;

    /// Renames a file or directory, replacing a file at `to` atomically. Durable once the directories are synced.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;

    /// Removes a file; open handles of it stay good. Durable once the directory is synced.
    fn remove_file(&self, path: &Path) -> Result<()>;

    /// Removes a directory and all below it.
    fn remove_dir_all(&self, path: &Path) -> Result<()>;

    /// Makes the entries of a directory durable.
    fn sync_dir(&self, dir: &Path) -> Result<()>;

    /// Takes the exclusive lock on the file at `path`, created where absent, and writes the process id into it.
    /// Fails at once with [`ErrorKind::Locked`], naming the holder's process id, while another holds it.
    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>>;

    /// Takes the same lock on a file that is there, and neither creates nor writes it; `None` where there is none.
    /// Fails at once with [`ErrorKind::Locked`] while another holds it.
    fn lock_existing(&self, path: &Path) -> Result<Option<Box<dyn Lock>>>;

    /// Microseconds since 1970-01-01 00:00 UTC by the wall clock, which may jump.
    fn unix_micros(&self) -> i64;

    /// Nanoseconds since some fixed moment, never less than before.
    fn monotonic_nanos(&self) -> u64;

    /// An unpredictable number; under the simulator, the seed's next one.
    fn random_u64(&self) -> u64;

    /// This process's id.
    fn process_id(&self) -> u32;
}

/// An exclusive lock; dropping it lets go.
pub trait Lock: Send + Sync + Debug {}

/// One operation on an open file.
#[derive(Debug)]
pub enum Op {
    /// Reads up to `buffer.len()` bytes at `offset`. The buffer comes back as long as what was read.
    Read {
        /// Bytes from the start of the file.
        offset: u64,
        /// Where the bytes go; what it held is lost.
        buffer: Buffer,
    },
    /// Writes the buffer's bytes at `offset`, growing the file where need be. May come back short.
    Write {
        /// Bytes from the start of the file.
        offset: u64,
        /// The bytes; comes back unchanged.
        buffer: Buffer,
    },
    /// Makes bytes and length durable.
    SyncData,
    /// Makes bytes, length and all other metadata of the file durable.
    SyncAll,
}

/// What an operation that succeeded came to.
#[derive(Debug)]
pub struct Done {
    /// The operation's buffer, if it had one.
    pub buffer: Option<Buffer>,
    /// Bytes that were read or written; fewer than asked for at the end of the file, or whenever the system likes.
    pub bytes: usize,
}

/// An operation that is not done at submission: what a back end hands out to be waited for.
pub trait Pending: Send + Debug {
    /// Whether [`Pending::wait`] would come back at once. Asking again and again lets it become true.
    fn is_ready(&self) -> bool;

    /// Waits for the operation.
    fn wait(self: Box<Self>) -> Result<Done>;
}

/// A submitted operation. It owns the buffer until [`Completion::wait`] gives it back; a completion that is dropped
/// instead lets the operation run to its end and loses the result.
#[derive(Debug)]
#[must_use = "an operation's outcome is known only by waiting for it"]
pub struct Completion {
    state: CompletionState,
}

#[derive(Debug)]
enum CompletionState {
    Ready(Result<Done>),
    Pending(Box<dyn Pending>),
}

impl Completion {
    /// An operation that was done at submission.
    pub fn ready(result: Result<Done>) -> Self {
        Completion { state: CompletionState::Ready(result) }
    }

    /// An operation still in flight.
    pub fn pending(pending: Box<dyn Pending>) -> Self {
        Completion { state: CompletionState::Pending(pending) }
    }

    /// Whether [`Completion::wait`] would come back at once.
    pub fn is_ready(&self) -> bool {
        match &self.state {
            CompletionState::Ready(_) => true,
            CompletionState::Pending(pending) => pending.is_ready(),
        }
    }

    /// Waits until the operation is done.
    pub fn wait(self) -> Result<Done> {
        match self.state {
            CompletionState::Ready(result) => result,
            CompletionState::Pending(pending) => pending.wait(),
        }
    }
}

/// An open file.
pub trait File: Send + Sync + Debug {
    /// The path it was opened by.
    fn path(&self) -> &Path;

    /// Starts an operation. EINTR is retried by the back end; short transfers are not.
    fn submit(&self, op: Op) -> Completion;

    /// Executes an operation and waits for it, which may cost less than to submit it and wait.
    fn run(&self, op: Op) -> Result<Done> {
        self.submit(op).wait()
    }

    /// Its length in bytes.
    fn len(&self) -> Result<u64>;

    /// Cuts it short, or lengthens it with zeros that need no space. Durable once the file is synced.
    fn set_len(&self, len: u64) -> Result<()>;

    /// Lengthens it to at least `len` with zeros that are really written, so that after one [`File::sync_all`] writes
    /// within `len` need neither space nor changes of metadata. What is there stays. Errors: `DiskFull`.
    fn allocate(&self, len: u64) -> Result<()>;

    /// As [`File::allocate`], but the zeros need not be written: a first write there takes no space, and may change metadata.
    fn reserve(&self, len: u64) -> Result<()> {
        self.allocate(len)
    }

    /// Whether it has no bytes.
    fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Starts several operations, which have no order among them; a back end may take them in one submission.
    fn submit_all(&self, ops: Vec<Op>) -> Vec<Completion> {
        ops.into_iter().map(|op| self.submit(op)).collect()
    }

    /// Reads `len` bytes at `offset`; fewer only at the end of the file.
    fn read_at(&self, offset: u64, len: usize) -> Result<Buffer> {
        let len = bounded_read(self, offset, len)?;
        let mut buffer = read_once(self, offset, Buffer::for_read(offset, len))?;
        while !buffer.is_empty() && buffer.len() < len && !mutant!(ShortReadIgnored) {
            let at = advance(self, offset, buffer.len())?;
            let rest = read_once(self, at, Buffer::for_read(at, len - buffer.len()))?;
            if rest.is_empty() {
                break;
            }
            buffer.extend_from_slice(&rest);
        }
        Ok(buffer)
    }

    /// Reads exactly `len` bytes at `offset`. Errors: `Corruption` where the file ends before.
    fn read_exact_at(&self, offset: u64, len: usize) -> Result<Buffer> {
        let buffer = self.read_at(offset, len)?;
        if buffer.len() < len {
            let got = buffer.len();
            return Err(Error::corruption(format!("the file is cut short: {got} of {len} bytes are there"))
                .at(self.path(), offset));
        }
        Ok(buffer)
    }

    /// Writes all of `buffer` at `offset` and gives it back.
    fn write_all_at(&self, offset: u64, buffer: Buffer) -> Result<Buffer> {
        let (buffer, mut written) = write_once(self, offset, buffer)?;
        while let Some(rest) = buffer.get(written..).filter(|rest| !rest.is_empty() && !mutant!(ShortWriteIgnored)) {
            let (_, more) = write_once(self, advance(self, offset, written)?, Buffer::from_slice(rest))?;
            written += more;
        }
        Ok(buffer)
    }

    /// Writes all of `buffer` at `offset`, makes these bytes durable, and gives the buffer back: [`File::write_all_at`] and
    /// [`File::sync_data`] one after the other, which a back end may do in one step. Of bytes that were written before nothing is
    /// promised.
    fn write_durably_at(&self, offset: u64, buffer: Buffer) -> Result<Buffer> {
        write_then_sync(self, offset, buffer)
    }

    /// Makes bytes and length durable.
    fn sync_data(&self) -> Result<()> {
        self.run(Op::SyncData).map(|_| ())
    }

    /// Makes bytes, length and all other metadata of the file durable.
    fn sync_all(&self) -> Result<()> {
        self.run(Op::SyncAll).map(|_| ())
    }
}

/// Whether offset and length are those of whole blocks, as [`Io::open_direct`] wants them.
fn is_whole_blocks(offset: u64, len: usize) -> bool {
    usize::try_from(offset).is_ok_and(|offset| offset.is_multiple_of(BUFFER_ALIGN)) && len.is_multiple_of(BUFFER_ALIGN)
}

/// The refusal of a write that is not.
fn not_whole_blocks(path: &Path, offset: u64) -> Error {
    Error::invalid(format!("a file opened for direct access takes whole blocks of {BUFFER_ALIGN} bytes only"))
        .at(path, offset)
}

/// `len`, cut to what the file has after `offset` where it is large enough to be doubted.
fn bounded_read(file: &(impl File + ?Sized), offset: u64, len: usize) -> Result<usize> {
    if len <= UNCHECKED_READ_BYTES_MAX {
        return Ok(len);
    }
    let there = file.len()?.saturating_sub(offset);
    Ok(usize::try_from(there).map_or(len, |there| len.min(there)))
}

fn advance(file: &(impl File + ?Sized), offset: u64, by: usize) -> Result<u64> {
    u64::try_from(by)
        .ok()
        .and_then(|by| offset.checked_add(by))
        .ok_or_else(|| Error::invalid("a file offset passes 2^64").at(file.path(), offset))
}

fn read_once(file: &(impl File + ?Sized), offset: u64, buffer: Buffer) -> Result<Buffer> {
    if buffer.is_empty() {
        return Ok(buffer);
    }
    let done = file.run(Op::Read { offset, buffer })?;
    done.buffer.ok_or_else(|| Error::internal("a read lost its buffer").at(file.path(), offset))
}

fn write_once(file: &(impl File + ?Sized), offset: u64, buffer: Buffer) -> Result<(Buffer, usize)> {
    if buffer.is_empty() {
        return Ok((buffer, 0));
    }
    let done = file.run(Op::Write { offset, buffer })?;
    if done.bytes == 0 {
        let zero = std::io::Error::from(std::io::ErrorKind::WriteZero);
        return Err(Error::io("write", file.path(), zero));
    }
    let buffer = done.buffer.ok_or_else(|| Error::internal("a write lost its buffer").at(file.path(), offset))?;
    Ok((buffer, done.bytes))
}

fn write_then_sync(file: &(impl File + ?Sized), offset: u64, buffer: Buffer) -> Result<Buffer> {
    let buffer = file.write_all_at(offset, buffer)?;
    file.sync_data()?;
    Ok(buffer)
}

/// The error of a lock that another holds; `holder` is its process id, where that could be read.
fn locked(path: &Path, holder: Option<u32>) -> Error {
    let by = holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
    Error::new(ErrorKind::Locked, format!("{by} has it open")).at(path, None)
}
