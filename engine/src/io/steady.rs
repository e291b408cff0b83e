/*!
A back end whose directories stay failed: once the sync of a directory has failed, all later ones fail.

Several threads make files in one directory, and each syncs it for its own. A failed sync may have dropped the entries of all
of them, and a later one that succeeds would prove nothing: so the thread whose own sync came later must not take its file for
durable. Syncs of directories wait for each other here, which makes "later" mean something. Opening the database again
begins anew, with what is there then.
*/

use super::sync::Mutex;
use super::{DirEntry, EntryKind, File, Io, IoRef, Lock, OpenMode};
use crate::error::{Error, ErrorKind, Result};
use std::path::Path;
use std::sync::Arc;

/// `io` with directories that stay failed.
pub fn steady(io: &IoRef) -> IoRef {
    Arc::new(Steady { io: Arc::clone(io), failed: Mutex::new(None) })
}

#[derive(Debug)]
struct Steady {
    io: IoRef,
    /// What the first sync of a directory that failed said.
    failed: Mutex<Option<String>>,
}

impl Io for Steady {
    fn name(&self) -> &'static str {
        self.io.name()
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn File>> {
        self.io.open(path, mode)
    }

    fn notice(&self) -> Option<&str> {
        self.io.notice()
    }

    fn open_direct(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn File>> {
        self.io.open_direct(path, mode)
    }

    fn create_dir_all(&self, path: &Path) -> Result<()> {
        self.io.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>> {
        self.io.list(dir)
    }

    fn names(&self, dir: &Path) -> Result<Vec<String>> {
        self.io.names(dir)
    }

    fn exists(&self, path: &Path) -> Result<Option<EntryKind>> {
        self.io.exists(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.io.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        self.io.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> Result<()> {
        self.io.remove_dir_all(path)
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        let mut failed = self.failed.lock();
        if let Some(cause) = failed.as_ref() {
            let sentence = format!("cannot sync directory: an earlier sync failed and may have lost entries ({cause})");
            return Err(Error::new(ErrorKind::Io, sentence).at(dir, None));
        }
        self.io.sync_dir(dir).inspect_err(|error| *failed = Some(error.to_string()))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>> {
        self.io.lock(path)
    }

    fn lock_existing(&self, path: &Path) -> Result<Option<Box<dyn Lock>>> {
        self.io.lock_existing(path)
    }

    fn unix_micros(&self) -> i64 {
        self.io.unix_micros()
    }

    fn monotonic_nanos(&self) -> u64 {
        self.io.monotonic_nanos()
    }

    fn random_u64(&self) -> u64 {
        self.io.random_u64()
    }

    fn process_id(&self) -> u32 {
        self.io.process_id()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::sim::{Fault, FaultKind, Operation, SimDisk};

    #[test]
    fn a_directory_whose_sync_failed_is_never_synced_again() {
        let disk = SimDisk::new(1);
        let io = steady(&disk.io());
        io.sync_dir(Path::new("/")).unwrap();
        disk.inject(Fault::new(FaultKind::Io).on(Operation::SyncDir));
        assert_eq!(io.sync_dir(Path::new("/")).unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(io.sync_dir(Path::new("/")).unwrap_err().kind(), ErrorKind::Io, "though the disk would");
        steady(&disk.io()).sync_dir(Path::new("/")).unwrap();
    }
}
