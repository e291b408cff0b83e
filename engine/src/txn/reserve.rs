/*!
Space on the disk that is set aside for what gives space back.

On a full disk a table must still go that makes it full: its removal wants a record in the log and an edit of the manifest, and
both may want a new file. So a file of zeros stands by, `RESERVE`, which is removed when such a change finds no space, and made
again when there is room. Nothing depends on it: where it can't be made, the change is refused like any other.
*/

use crate::error::{ErrorKind, Result};
use crate::io::sync::Mutex;
use crate::io::{EntryKind, IoRef, OpenMode};
use std::path::{Path, PathBuf};

/// Its name.
pub(crate) const RESERVE_FILE: &str = "RESERVE";

/// Its size: a small segment of the log, and a manifest of some hundred runs.
const RESERVE_BYTES: u64 = 512 * 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Reserve {
    io: IoRef,
    path: PathBuf,
    bytes: u64,
    is_kept: Mutex<bool>,
}

impl Reserve {
    /// The reserve of the database in `dir`, which is not looked at; smaller where segments of the log are.
    pub(crate) fn new(io: &IoRef, dir: &Path, log_segment_bytes: u64) -> Self {
        let (path, bytes) = (dir.join(RESERVE_FILE), RESERVE_BYTES.min(log_segment_bytes));
        Reserve { io: io.clone(), path, bytes, is_kept: Mutex::new(false) }
    }

    /// Sets the space aside, if there is room and that was not done yet. An error is that of a device which is not to be trusted
    /// with more.
    pub(crate) fn keep(&self) -> Result<()> {
        let mut is_kept = self.is_kept.lock();
        if *is_kept {
            return Ok(());
        }
        match self.io.open(&self.path, OpenMode::Create).and_then(|file| file.allocate(self.bytes)) {
            Ok(()) => *is_kept = true,
            Err(error) => {
                // Best effort: what stays is written over the next time.
                let _ = self.io.remove_file(&self.path);
                if error.kind() != ErrorKind::DiskFull {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Gives the space free; false where there was none.
    pub(crate) fn spend(&self) -> bool {
        let mut is_kept = self.is_kept.lock();
        *is_kept = false;
        matches!(self.io.exists(&self.path), Ok(Some(EntryKind::File))) && self.io.remove_file(&self.path).is_ok()
    }
}
