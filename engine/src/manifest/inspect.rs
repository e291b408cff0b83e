/*!
The manifest as a checker reads it: everything, changing nothing, and with what an open need not look at.
*/

use super::file::{Contents, Current, first_stain};
use super::{Manifest, READ_ATTEMPTS_MAX, State, file_of, length, read_contents, read_current};
use crate::error::{ErrorKind, Result};
use crate::io::IoRef;
use std::path::{Path, PathBuf};

/// What reading a manifest from end to end found.
#[derive(Debug)]
pub(crate) struct Inspection {
    pub(crate) path: PathBuf,
    pub(crate) database_id: [u8; 16],
    pub(crate) state: State,
    pub(crate) edits: u64,
    /// Bytes that are not zero where nothing is ever written: they mean nothing.
    pub(crate) stains: Vec<u64>,
    /// Bytes that a crash may have left behind the last edit, or of its seal: they mean nothing either.
    pub(crate) torn: Option<u64>,
    /// Whether the last edit has its seal.
    pub(crate) sealed: bool,
}

impl Manifest {
    /// Reads `CURRENT` and the file that it names. Errors as [`Manifest::open`].
    pub(crate) fn inspect(io: &IoRef, dir: &Path) -> Result<Inspection> {
        let mut attempts = READ_ATTEMPTS_MAX;
        loop {
            attempts -= 1;
            let read = read_current(io, dir).and_then(|current| inspect(io, dir, &current));
            match read {
                // The writer may have been at work meanwhile.
                Err(error) if attempts > 0 && matches!(error.kind(), ErrorKind::Io | ErrorKind::Corruption) => {}
                read => return read,
            }
        }
    }
}

fn inspect(io: &IoRef, dir: &Path, current: &Current) -> Result<Inspection> {
    let (contents, bytes) = read_contents(io, dir, current)?;
    let torn = first_stain(&bytes, contents.unproven()..bytes.len()).map(length);
    let Contents { state, edits, sealed, stains, .. } = contents;
    let stains = stains.into_iter().map(length).collect();
    Ok(Inspection { path: file_of(dir, current), database_id: current.database_id, state, edits, stains, torn, sealed })
}
