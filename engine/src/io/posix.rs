/*!
The operating system's files, clock and randomness, by blocking system calls.

It works on every Unix and wherever io_uring is forbidden. An operation is executed when it is submitted. Files are
opened close-on-exec; the lock is `flock`, which the kernel drops with the process, so that a lock never outlives a
crash.
*/
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the one place where the engine meets the operating system"
)]

use super::{Completion, DirEntry, Done, EntryKind, File, Io, IoRef, Lock, Op, OpenMode, locked};
use crate::error::{Error, Result};
use crate::io::Buffer;
use std::fs;
use std::io::{ErrorKind as Cause, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Bytes of zeros that [`File::allocate`] writes at once: what a commit may wait behind that comes meanwhile, so tens of microseconds'
/// worth.
const ZEROS_BYTES: usize = 64 * 1024;

/// The operating system's files, clock and randomness.
pub fn posix() -> IoRef {
    Arc::new(Posix { start: Instant::now(), notice: None })
}

/// The same, because a better back end is not to be had.
pub(super) fn posix_because(notice: String) -> IoRef {
    Arc::new(Posix { start: Instant::now(), notice: Some(notice) })
}

#[derive(Debug)]
struct Posix {
    /// What [`Io::monotonic_nanos`] counts from.
    start: Instant,
    notice: Option<String>,
}

/// An open file and the path it was opened by.
#[derive(Debug)]
pub(super) struct PosixFile {
    pub(super) file: fs::File,
    pub(super) path: PathBuf,
}

#[derive(Debug)]
struct PosixLock {
    /// Holds the `flock`.
    file: fs::File,
}

impl Drop for PosixLock {
    fn drop(&mut self) {
        // Closing it would let go too, but not while a process that was forked and has not yet run another program
        // shares the descriptor. If it fails, closing is what remains.
        let _ = flock(&self.file, libc::LOCK_UN);
    }
}

impl Lock for PosixLock {}

impl Io for Posix {
    fn name(&self) -> &'static str {
        "posix"
    }

    fn notice(&self) -> Option<&str> {
        self.notice.as_deref()
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn File>> {
        Ok(Arc::new(PosixFile::open(path, mode)?))
    }

    fn create_dir_all(&self, path: &Path) -> Result<()> {
        fs::create_dir_all(path).map_err(|e| Error::io("create directory", path, e))
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>> {
        let failed = |e| Error::io("list directory", dir, e);
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                // Removed since the directory was read.
                Err(e) if e.kind() == Cause::NotFound => continue,
                Err(e) => return Err(failed(e)),
            };
            let kind = kind_of(&metadata);
            let len = if kind == EntryKind::File { metadata.len() } else { 0 };
            entries.push(DirEntry { name: entry.file_name().to_string_lossy().into_owned(), kind, len });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn names(&self, dir: &Path) -> Result<Vec<String>> {
        let failed = |e| Error::io("list directory", dir, e);
        let entries = fs::read_dir(dir).map_err(failed)?;
        let name =
            |entry: std::io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names = entries.map(name).collect::<std::io::Result<Vec<String>>>().map_err(failed)?;
        names.sort_unstable();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> Result<Option<EntryKind>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(kind_of(&metadata))),
            Err(e) if matches!(e.kind(), Cause::NotFound | Cause::NotADirectory) => Ok(None),
            Err(e) => Err(Error::io("look up", path, e)),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        fs::rename(from, to).map_err(|e| Error::io(&format!("rename to {}", to.display()), from, e))
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        fs::remove_file(path).map_err(|e| Error::io("remove file", path, e))
    }

    fn remove_dir_all(&self, path: &Path) -> Result<()> {
        fs::remove_dir_all(path).map_err(|e| Error::io("remove directory", path, e))
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| Error::io("sync directory", dir, e))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>> {
        let failed = |e| Error::io("lock", path, e);
        let mut file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|e| Error::io("open lock file", path, e))?;
        match flock(&file, libc::LOCK_EX | libc::LOCK_NB) {
            Ok(()) => {}
            Err(e) if e.kind() == Cause::WouldBlock => return Err(locked(path, read_process_id(&mut file))),
            Err(e) => return Err(failed(e)),
        }
        file.set_len(0).map_err(failed)?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes()).map_err(failed)?;
        Ok(Box::new(PosixLock { file }))
    }

    fn lock_existing(&self, path: &Path) -> Result<Option<Box<dyn Lock>>> {
        let mut file = match fs::File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == Cause::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("open lock file", path, e)),
        };
        match flock(&file, libc::LOCK_EX | libc::LOCK_NB) {
            Ok(()) => Ok(Some(Box::new(PosixLock { file }))),
            Err(e) if e.kind() == Cause::WouldBlock => Err(locked(path, read_process_id(&mut file))),
            Err(e) => Err(Error::io("lock", path, e)),
        }
    }

    fn unix_micros(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros),
        }
    }

    fn monotonic_nanos(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn random_u64(&self) -> u64 {
        let mut bytes = [0u8; 8];
        // SAFETY: the pointer is good for exactly the length given.
        let outcome = unsafe { libc::getentropy(bytes.as_mut_ptr().cast(), bytes.len()) };
        if outcome == 0 {
            return u64::from_ne_bytes(bytes);
        }
        // A kernel without it: ids must still differ between processes and moments, if not be secret.
        let now = u64::from_ne_bytes(self.unix_micros().to_ne_bytes());
        now.rotate_left(32) ^ self.monotonic_nanos() ^ (u64::from(std::process::id()) << 40)
    }

    fn process_id(&self) -> u32 {
        std::process::id()
    }
}

impl File for PosixFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn submit(&self, op: Op) -> Completion {
        Completion::ready(match op {
            Op::Read { offset, buffer } => self.read(offset, buffer),
            Op::Write { offset, buffer } => self.write(offset, buffer),
            Op::SyncData => self.synced(self.file.sync_data()),
            Op::SyncAll => self.synced(self.file.sync_all()),
        })
    }

    fn len(&self) -> Result<u64> {
        self.file.metadata().map(|metadata| metadata.len()).map_err(|e| Error::io("get the length", &self.path, e))
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len).map_err(|e| Error::io("set the length", &self.path, e))
    }

    fn reserve(&self, len: u64) -> Result<()> {
        let offset = self.len()?;
        if offset < len {
            reserve(&self.file, offset, len - offset).map_err(|e| Error::io("reserve", &self.path, e))?;
            self.set_len(len)?;
        }
        Ok(())
    }

    fn allocate(&self, len: u64) -> Result<()> {
        let mut offset = self.len()?;
        if offset >= len {
            return Ok(());
        }
        reserve(&self.file, offset, len - offset).map_err(|e| Error::io("allocate", &self.path, e))?;
        // Reserved space is marked unwritten until its first write, which changes metadata: so write it now.
        let zeros = Buffer::zeroed(usize::try_from(len - offset).map_or(ZEROS_BYTES, |bytes| bytes.min(ZEROS_BYTES)));
        while offset < len {
            let step = usize::try_from(len - offset).map_or(zeros.len(), |left| left.min(zeros.len()));
            let zeros = zeros.get(..step).unwrap_or(&zeros);
            let written = retried(|| self.file.write_at(zeros, offset));
            offset += u64::try_from(written.map_err(|e| Error::io("allocate", &self.path, e))?).unwrap_or(0);
        }
        Ok(())
    }
}

impl PosixFile {
    pub(super) fn open(path: &Path, mode: OpenMode) -> Result<PosixFile> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => &mut options,
            OpenMode::ReadWrite => options.write(true),
            OpenMode::Create => options.write(true).create(true),
            OpenMode::CreateNew => options.write(true).create_new(true),
        };
        let file = options.open(path).map_err(|e| Error::io("open file", path, e))?;
        let is_dir = file.metadata().map_err(|e| Error::io("open file", path, e))?.is_dir();
        if is_dir {
            return Err(Error::io("open file", path, Cause::IsADirectory.into()));
        }
        Ok(PosixFile { file, path: path.to_owned() })
    }

    /// Reads into `bytes`; gives how many.
    pub(super) fn read_into(&self, offset: u64, bytes: &mut [u8]) -> std::io::Result<usize> {
        retried(|| self.file.read_at(bytes, offset))
    }

    fn read(&self, offset: u64, mut buffer: Buffer) -> Result<Done> {
        let bytes = self
            .read_into(offset, &mut buffer)
            .map_err(|e| Error::io(&format!("read at offset {offset}"), &self.path, e))?;
        buffer.truncate(bytes);
        Ok(Done { buffer: Some(buffer), bytes })
    }

    fn write(&self, offset: u64, buffer: Buffer) -> Result<Done> {
        let bytes = retried(|| self.file.write_at(&buffer, offset))
            .map_err(|e| Error::io(&format!("write at offset {offset}"), &self.path, e))?;
        Ok(Done { buffer: Some(buffer), bytes })
    }

    /// Writes `bytes` at `offset`, which is at most [`i64::MAX`], and has those that it wrote on the device when it comes back; gives how
    /// many. Errors: also `Unsupported`, with nothing written, where there is no such call.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    pub(super) fn write_durably(&self, offset: u64, bytes: &[u8]) -> std::io::Result<usize> {
        let offset = i64::try_from(offset).map_err(|_| std::io::Error::from(Cause::InvalidInput))?;
        let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        retried(|| {
            // SAFETY: the descriptor is open, and the bytes stay, for as long as both are borrowed; they are only read.
            let written = unsafe { libc::pwritev2(self.file.as_raw_fd(), &raw const part, 1, offset, libc::RWF_DSYNC) };
            usize::try_from(written).map_err(|_| match std::io::Error::last_os_error() {
                error if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Cause::Unsupported.into(),
                error => error,
            })
        })
    }

    /// Other systems write, and sync.
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    pub(super) fn write_durably(&self, _offset: u64, _bytes: &[u8]) -> std::io::Result<usize> {
        Err(Cause::Unsupported.into())
    }

    fn synced(&self, outcome: std::io::Result<()>) -> Result<Done> {
        outcome.map_err(|e| Error::io("sync", &self.path, e))?;
        Ok(Done { buffer: None, bytes: 0 })
    }
}

/// Has the system prefer other threads to this one, and to those that it starts, where there are fewer cores than threads that
/// want to run. Best effort.
#[cfg(target_os = "linux")]
pub(super) fn step_back(by: i32) {
    // SAFETY: it takes a number. On Linux it is this thread's priority alone that it lowers.
    unsafe { libc::nice(by) };
}

/// Elsewhere it would be the process's.
#[cfg(not(target_os = "linux"))]
pub(super) fn step_back(_by: i32) {}

/// Calls until a signal does not interrupt.
pub(super) fn retried<T>(mut call: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == Cause::Interrupted => {}
            outcome => return outcome,
        }
    }
}

fn kind_of(metadata: &fs::Metadata) -> EntryKind {
    if metadata.is_file() {
        EntryKind::File
    } else if metadata.is_dir() {
        EntryKind::Dir
    } else {
        EntryKind::Other
    }
}

fn flock(file: &fs::File, operation: i32) -> std::io::Result<()> {
    retried(|| {
        // SAFETY: the descriptor is open for as long as `file` is borrowed.
        match unsafe { libc::flock(file.as_raw_fd(), operation) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    })
}

/// The process id in a lock file, unless its holder is only just writing it.
fn read_process_id(file: &mut fs::File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Reserves space where the file system can; what it can't is found out by the writes that follow.
#[cfg(target_os = "linux")]
fn reserve(file: &fs::File, offset: u64, len: u64) -> std::io::Result<()> {
    let too_large = |_| std::io::Error::from(Cause::FileTooLarge);
    let (offset, len) = (i64::try_from(offset).map_err(too_large)?, i64::try_from(len).map_err(too_large)?);
    retried(|| {
        // SAFETY: the descriptor is open for as long as `file` is borrowed.
        match unsafe { libc::posix_fallocate(file.as_raw_fd(), offset, len) } {
            0 | libc::EOPNOTSUPP | libc::EINVAL | libc::ENODEV => Ok(()),
            code => Err(std::io::Error::from_raw_os_error(code)),
        }
    })
}

/// Other systems find out by the writes that follow.
#[cfg(not(target_os = "linux"))]
fn reserve(_file: &fs::File, _offset: u64, _len: u64) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_device_is_told_from_a_broken_one() {
        let full = posix().open(Path::new("/dev/full"), OpenMode::ReadWrite).unwrap();
        assert_eq!(full.write_all_at(0, Buffer::from_slice(b"x")).unwrap_err().kind(), ErrorKind::DiskFull);
    }

    #[test]
    fn a_lock_file_says_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        fs::write(&path, "a longer line left by an earlier holder\n").unwrap();
        let io = posix();
        let _held = io.lock(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", io.process_id()));
        let error = io.lock(&path).unwrap_err();
        assert_eq!(error.message(), format!("process {} has it open", io.process_id()));
        assert_eq!(error.place().unwrap().file, path);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_thread_steps_back_alone() {
        // SAFETY: it takes numbers.
        let priority = || unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        let before = priority();
        let lowered = crate::io::thread::spawn("lowered", move || {
            step_back(3);
            let inherits = crate::io::thread::spawn("inherits", priority).unwrap();
            (priority(), inherits.join().unwrap())
        });
        let lower = (before + 3).min(19);
        assert_eq!(lowered.unwrap().join().unwrap(), (lower, lower));
        assert_eq!(priority(), before);
    }

    #[test]
    fn a_lock_is_let_go_while_a_forked_process_shares_its_descriptor() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let file = fs::File::create(&path).unwrap();
        flock(&file, libc::LOCK_EX | libc::LOCK_NB).unwrap();
        let _shared = file.try_clone().unwrap();
        drop(PosixLock { file });
        posix().lock(&path).unwrap();
    }

    #[test]
    fn links_are_followed_when_looked_up_and_not_when_listed() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("link")).unwrap();
        let io = posix();
        assert_eq!(io.exists(&dir.path().join("link")).unwrap(), Some(EntryKind::Dir));
        assert_eq!(io.list(dir.path()).unwrap().first().unwrap().kind, EntryKind::Other);
    }
}
