/*!
A whole file system in memory: for databases without a directory, and for tests that need no disk.

Clocks and randomness are the operating system's. Nothing is durable, and every sync succeeds.
*/

use super::store::{FileNode, Store};
use super::{Buffer, Completion, DirEntry, Done, EntryKind, File, Io, IoRef, Lock, Op, OpenMode, locked, posix};
use crate::error::{Error, Result};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A new, empty file system in memory. It is gone with its last reference.
pub fn memory() -> IoRef {
    Arc::new(Memory { store: Arc::new(Store::new(false)), system: posix() })
}

#[derive(Debug)]
struct Memory {
    store: Arc<Store>,
    /// Whose clock and randomness these are.
    system: IoRef,
}

#[derive(Debug)]
struct MemoryFile {
    node: Arc<FileNode>,
    path: PathBuf,
    writable: bool,
}

/// The lock on a file of a store.
#[derive(Debug)]
pub(super) struct StoreLock {
    store: Arc<Store>,
    file: Arc<FileNode>,
}

impl StoreLock {
    pub(super) fn take(store: &Arc<Store>, path: &Path, process_id: u32) -> Result<Box<dyn Lock>> {
        match store.lock(path, process_id).map_err(|e| Error::io("lock", path, e))? {
            Ok(file) => Ok(Box::new(StoreLock { store: Arc::clone(store), file })),
            Err(holder) => Err(locked(path, holder)),
        }
    }

    pub(super) fn take_existing(store: &Arc<Store>, path: &Path) -> Result<Option<Box<dyn Lock>>> {
        match store.lock_existing(path).map_err(|e| Error::io("lock", path, e))? {
            None => Ok(None),
            Some(Ok(file)) => Ok(Some(Box::new(StoreLock { store: Arc::clone(store), file }))),
            Some(Err(holder)) => Err(locked(path, holder)),
        }
    }
}

impl Drop for StoreLock {
    fn drop(&mut self) {
        self.store.unlock(&self.file);
    }
}

impl Lock for StoreLock {}

impl Io for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn File>> {
        let node = self.store.open(path, mode).map_err(|e| Error::io("open file", path, e))?;
        Ok(Arc::new(MemoryFile { node, path: path.to_owned(), writable: mode != OpenMode::Read }))
    }

    fn create_dir_all(&self, path: &Path) -> Result<()> {
        self.store.create_dir_all(path).map_err(|e| Error::io("create directory", path, e))
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>> {
        self.store.list(dir).map_err(|e| Error::io("list directory", dir, e))
    }

    fn exists(&self, path: &Path) -> Result<Option<EntryKind>> {
        Ok(self.store.exists(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.store.rename(from, to).map_err(|e| Error::io(&format!("rename to {}", to.display()), from, e))
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        self.store.remove_file(path).map_err(|e| Error::io("remove file", path, e))
    }

    fn remove_dir_all(&self, path: &Path) -> Result<()> {
        self.store.remove_dir_all(path).map_err(|e| Error::io("remove directory", path, e))
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.store.sync_dir(dir).map_err(|e| Error::io("sync directory", dir, e))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>> {
        StoreLock::take(&self.store, path, self.process_id())
    }

    fn lock_existing(&self, path: &Path) -> Result<Option<Box<dyn Lock>>> {
        StoreLock::take_existing(&self.store, path)
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

impl File for MemoryFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn submit(&self, op: Op) -> Completion {
        Completion::ready(match op {
            Op::Read { offset, buffer } => Ok(read(&self.node, offset, buffer)),
            Op::Write { offset, buffer } => self.write(offset, buffer),
            Op::SyncData | Op::SyncAll => Ok(Done { buffer: None, bytes: 0 }),
        })
    }

    fn len(&self) -> Result<u64> {
        Ok(self.node.len())
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.may_write("set the length")?;
        self.node.set_len(len).map_err(|e| Error::io("set the length", &self.path, e))
    }

    fn allocate(&self, len: u64) -> Result<()> {
        self.may_write("allocate")?;
        self.node.allocate(len).map_err(|e| Error::io("allocate", &self.path, e))
    }
}

impl MemoryFile {
    fn write(&self, offset: u64, buffer: Buffer) -> Result<Done> {
        self.may_write("write")?;
        self.node.write(offset, &buffer).map_err(|e| Error::io("write", &self.path, e))?;
        let bytes = buffer.len();
        Ok(Done { buffer: Some(buffer), bytes })
    }

    fn may_write(&self, what: &str) -> Result<()> {
        if self.writable {
            return Ok(());
        }
        Err(Error::io(what, &self.path, ErrorKind::PermissionDenied.into()))
    }
}

/// Reads into as much of `buffer` as the file has bytes for.
pub(super) fn read(node: &FileNode, offset: u64, mut buffer: Buffer) -> Done {
    let bytes = node.read(offset, &mut buffer);
    buffer.truncate(bytes);
    Done { buffer: Some(buffer), bytes }
}
