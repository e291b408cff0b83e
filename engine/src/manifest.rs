/*!
Which runs make up which tree: an append-only log of edits, small and synced at every change.

# Files

`CURRENT` is one line of text that names the live manifest file; its last word is the CRC32C of what precedes it:

```text
    omendb 1 manifest-00000007 3f2a…(database id, 32 hex digits) 8e12c0aa
```

`manifest-<number>` is a header and edits, each at a multiple of 8 bytes; the first one is the whole state. Numbers are
little-endian. Space behind the last edit is zero.

```text
    header, 64 bytes                               edit
     0  u32  CRC32C of all that follows             0  u32  CRC32C of all that follows, filling included
     4  [8]  "OMENMANI"                             4  [4]  "OMED"
    12  u32  format version                         8  u64  offset of this edit in the file
    16 [16]  database id                           16  u32  bytes of the fields
    32  u64  number of this file                   20  u32  CRC of the file's header
    40       zeros                                 24       fields, filled up to 8 bytes with zeros

    fields: a tag byte and                  1  storage u64, level u8, 0 or 1 and fixed seq u64, RunMeta
     2  removed run u64                     3  moved run u64, level u8         4  dropped storage u64
     5  next run id u64                     6  last seq u64                    7  log released to u64
     8  storage u64, next row id u64        9  storage u64, hash [32], source, options, rows u64, micros i64
    10  storage u64, flushed seq u64
    RunMeta, source and options are a length u32 and bytes. No fields: a seal, written by a clean close.
```

# What it promises

- An edit is atomic and durable when [`Manifest::apply`] comes back.
- *A writer appends only to a file that it began itself.* Its first edit goes, with the whole state, to a new file; so
  does one after enough edits have gathered. What a crash left at an old file's end is never written over or revived.
- Publication: the new file, its sync, its directory's sync; then `CURRENT` under another name, its sync, the rename, and
  the directory's sync. At every moment `CURRENT` names a complete file. Older files go last.
- *A torn last edit is cut; damage before it is an error* with file and offset. An edit that was once valid proves
  damage to all before it; a clean close appends a seal, which proves the last edit too.
- *What an open read is durable.* If the file has no seal, it and `CURRENT` are written once more and synced: a failed sync
  may have left bytes in the system's memory that the device lacks, and callers remove files on the manifest's word.
- A full disk leaves everything as it was (`DiskFull`): space is there before an edit is written. Any other failed
  write or sync poisons the manifest: whether the edit counts is decided when it is opened again, so no file that either
  outcome needs may be removed.

It knows no run's contents, and opens none.
*/

mod edit;
mod file;
mod state;
#[cfg(test)]
mod tests;

pub use edit::LOAD_TEXT_BYTES_MAX;
pub use state::{Edit, LoadRecord, RunEntry, State, StorageState};

use crate::error::{Error, ErrorKind, Result};
use crate::io::{Buffer, File, IoRef, OpenMode};
use file::{Contents, Current, FILE_BYTES_MAX, Header};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const CURRENT: &str = "CURRENT";
const CURRENT_TEMPORARY: &str = "CURRENT.tmp";

/// Bytes of `CURRENT` at most; it has about 80.
const CURRENT_BYTES_MAX: usize = 4096;

/// Bytes of edits behind the first one, from which on the next edit begins a new file, unless the state is larger or
/// [`Manifest::limit_edits`] says otherwise.
const EDITS_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Steps in which a file's space is taken.
const SPACE_BYTES: u64 = 64 * 1024;

/// How often a reader process tries again when a writer was faster.
const READ_ATTEMPTS_MAX: usize = 20;

/// The manifest, open for writing.
#[derive(Debug)]
pub struct Manifest {
    io: IoRef,
    dir: PathBuf,
    database_id: [u8; 16],
    state: State,
    /// Above the number of every manifest file there is.
    next_number: u64,
    /// The file that this writer began, if it did yet.
    log: Option<Log>,
    /// Bytes of edits behind a file's first one, from which on the next edit begins a new file.
    edits_bytes_max: u64,
    /// Why it takes no more edits.
    poison: Option<String>,
}

/// A file that is being appended to.
#[derive(Debug)]
struct Log {
    file: Arc<dyn File>,
    header_crc: u32,
    /// Where the next edit goes.
    end: u64,
    /// Bytes the file has space for.
    space: u64,
    /// The end of the first edit.
    first_end: u64,
}

impl Manifest {
    /// Whether there is a database in `dir`.
    pub fn exists(io: &IoRef, dir: &Path) -> Result<bool> {
        Ok(io.exists(&dir.join(CURRENT))?.is_some())
    }

    /// Begins a database in `dir`, an existing directory. What an attempt left behind that never got to the end is
    /// replaced.
    ///
    /// # Errors
    /// `InvalidArgument` if there is a database already.
    pub fn create(io: &IoRef, dir: &Path, database_id: [u8; 16]) -> Result<Manifest> {
        if Manifest::exists(io, dir)? {
            return Err(Error::invalid("there is a database already").at(dir.join(CURRENT), None));
        }
        let mut manifest = Manifest {
            io: io.clone(),
            dir: dir.to_owned(),
            database_id,
            state: State::default(),
            next_number: next_number(io, dir)?,
            log: None,
            edits_bytes_max: EDITS_BYTES_MAX,
            poison: None,
        };
        manifest.publish(&State::default())?;
        Ok(manifest)
    }

    /// Opens the manifest of the database in `dir`, and makes what it read durable.
    ///
    /// # Errors
    /// `NotADatabase` without a `CURRENT`; `NewerFormat`; `Corruption` with file and offset.
    pub fn open(io: &IoRef, dir: &Path) -> Result<(Manifest, State)> {
        let current = read_current(io, dir)?;
        let contents = read_contents(io, dir, &current)?;
        if !contents.sealed && !mutant!(RecoveredManifestNotHardened) {
            harden(io, dir, &current, &contents)?;
        }
        let manifest = Manifest {
            io: io.clone(),
            dir: dir.to_owned(),
            database_id: current.database_id,
            state: contents.state.clone(),
            next_number: next_number(io, dir)?,
            log: None,
            edits_bytes_max: EDITS_BYTES_MAX,
            poison: None,
        };
        Ok((manifest, contents.state))
    }

    /// The state and the database's id, read without changing anything, while another process may be writing.
    /// Errors as [`Manifest::open`].
    pub fn open_read_only(io: &IoRef, dir: &Path) -> Result<(State, [u8; 16])> {
        let mut attempts = READ_ATTEMPTS_MAX;
        loop {
            attempts -= 1;
            let read = read_current(io, dir).and_then(|current| Ok((read_contents(io, dir, &current)?, current)));
            match read {
                Ok((contents, current)) => return Ok((contents.state, current.database_id)),
                // A file that is gone, or half an edit with another behind it: the writer was at work meanwhile.
                Err(error) if attempts > 0 && matches!(error.kind(), ErrorKind::Io | ErrorKind::Corruption) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Bytes of edits that gather in a file before the next one is begun, unless the state is larger; else 4 MiB.
    pub fn limit_edits(&mut self, bytes: u64) {
        self.edits_bytes_max = bytes;
    }

    /// The database's id.
    pub fn database_id(&self) -> [u8; 16] {
        self.database_id
    }

    /// The state after all edits.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Makes a change, durably.
    ///
    /// # Errors
    /// `Internal` for an edit that breaks a rule of [`State::apply`], `LimitExceeded`, `DiskFull`: nothing has changed.
    /// `Poisoned`, and any other failure of a write or sync: the edit may or may not be there at the next open.
    pub fn apply(&mut self, edit: Edit) -> Result<()> {
        self.usable()?;
        if edit.is_empty() {
            return Ok(());
        }
        self.state.check(&edit)?;
        let full = |log: &Log| log.end - log.first_end > self.edits_bytes_max.max(log.first_end);
        if self.log.as_ref().is_none_or(full) {
            let mut state = self.state.clone();
            state.apply(edit)?;
            self.publish(&state)?;
            self.state = state;
            return Ok(());
        }
        self.append(&edit)?;
        self.state.apply(edit)
    }

    /// Seals the file: a later open can tell damage to its last edit from a torn one. Further edits go to a new file.
    pub fn close(&mut self) -> Result<()> {
        self.usable()?;
        if self.log.is_some() {
            self.append(&Edit::default())?;
            self.log = None;
        }
        Ok(())
    }

    fn usable(&self) -> Result<()> {
        match &self.poison {
            None => Ok(()),
            Some(cause) => {
                let sentence =
                    format!("the manifest takes no more edits since a write failed ({cause}); reopen the database");
                Err(Error::new(ErrorKind::Poisoned, sentence))
            }
        }
    }

    fn poisoned<T>(&mut self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result {
            self.poison.get_or_insert_with(|| error.to_string());
        }
        result
    }

    /// Writes an edit to the file that this writer began.
    fn append(&mut self, edit: &Edit) -> Result<()> {
        let Some(log) = &mut self.log else { return Err(Error::internal("the manifest has no file to append to")) };
        let bytes = file::encode_edit(edit, log.end, log.header_crc)?;
        let end = log.end + length(bytes.len());
        let result = log.reserve(end).and_then(|()| {
            log.file.write_all_at(log.end, Buffer::from_slice(&bytes))?;
            if mutant!(SkipManifestSync) { Ok(()) } else { log.file.sync_data() }
        });
        match result {
            Ok(()) => log.end = end,
            // Space was not to be had, and the edit was not begun.
            Err(error) if error.kind() == ErrorKind::DiskFull && log.space < end => return Err(error),
            Err(error) => return self.poisoned(Err(error)),
        }
        Ok(())
    }

    /// Begins a new file with the whole of `state` and makes it the live one.
    fn publish(&mut self, state: &State) -> Result<()> {
        let number = self.next_number;
        self.next_number = number.saturating_add(1);
        let path = self.dir.join(file::file_name(number));
        let begun = self.begin(&path, number, state);
        let current = Current { database_id: self.database_id, number };
        match begun.and_then(|log| Ok((write_current(&self.io, &self.dir, &current)?, log))) {
            Ok((temporary, log)) => {
                let published = publish_current(&self.io, &self.dir, &temporary);
                self.poisoned(published)?;
                self.log = Some(log);
                self.remove_others(number);
                Ok(())
            }
            Err(error) => {
                // Best effort: nothing names the file.
                let _ = self.io.remove_file(&path);
                match error.kind() {
                    ErrorKind::DiskFull | ErrorKind::LimitExceeded => Err(error),
                    _ => self.poisoned(Err(error)),
                }
            }
        }
    }

    /// Writes a new file, durably.
    fn begin(&self, path: &Path, number: u64, state: &State) -> Result<Log> {
        let (mut bytes, header_crc) = Header { database_id: self.database_id, number }.encode();
        let first = file::encode_edit(&state.as_edit(), length(bytes.len()), header_crc)?;
        bytes.extend_from_slice(&first);
        let end = length(bytes.len());
        let file = self.io.open(path, OpenMode::CreateNew)?;
        let mut log = Log { file, header_crc, end, space: 0, first_end: end };
        log.reserve(end)?;
        log.file.write_all_at(0, Buffer::from_slice(&bytes))?;
        if !mutant!(SkipNewManifestSync) {
            log.file.sync_all()?;
        }
        if !mutant!(SkipManifestDirSync) {
            self.io.sync_dir(&self.dir)?;
        }
        Ok(log)
    }

    /// Removes all manifest files but the live one. Best effort: one that stays is ignored, and goes the next time.
    fn remove_others(&self, live: u64) {
        for entry in self.io.list(&self.dir).unwrap_or_default() {
            if file::number_of(&entry.name).is_some_and(|number| number != live) {
                let _ = self.io.remove_file(&self.dir.join(&entry.name));
            }
        }
    }
}

impl Log {
    /// Takes the space for the file's bytes up to `end`, so that writing them can't lack it.
    fn reserve(&mut self, end: u64) -> Result<()> {
        if end > self.space {
            let space = end.next_multiple_of(SPACE_BYTES);
            self.file.allocate(space)?;
            self.file.sync_all()?;
            self.space = space;
        }
        Ok(())
    }
}

/// One above the highest number that a manifest file has.
fn next_number(io: &IoRef, dir: &Path) -> Result<u64> {
    let highest = io.list(dir)?.iter().filter_map(|entry| file::number_of(&entry.name)).max();
    Ok(highest.map_or(1, |number| number.saturating_add(1)))
}

fn read_current(io: &IoRef, dir: &Path) -> Result<Current> {
    let path = dir.join(CURRENT);
    if io.exists(&path)?.is_none() {
        let sentence = format!("{} is not a database: it has no file CURRENT", dir.display());
        return Err(Error::new(ErrorKind::NotADatabase, sentence));
    }
    let bytes = io.open(&path, OpenMode::Read)?.read_at(0, CURRENT_BYTES_MAX)?;
    Current::decode(&bytes).map_err(|error| error.at(path, None))
}

fn read_contents(io: &IoRef, dir: &Path, current: &Current) -> Result<Contents> {
    let path = dir.join(file::file_name(current.number));
    let file = io.open(&path, OpenMode::Read)?;
    let len = usize::try_from(file.len()?).unwrap_or(usize::MAX);
    if len > FILE_BYTES_MAX {
        let sentence = format!("the manifest has {len} bytes; at most {FILE_BYTES_MAX} there can be");
        return Err(Error::corruption(sentence).at(path, None));
    }
    let bytes = file.read_at(0, len)?;
    let contents = file::read(&bytes).map_err(|(error, offset)| error.at(&path, length(offset)))?;
    let expected = Header { database_id: current.database_id, number: current.number };
    if contents.header != expected {
        return Err(Error::corruption("the manifest is not the one that CURRENT names").at(path, 0));
    }
    Ok(contents)
}

/// Writes `CURRENT` under another name, durably but for its directory entry.
fn write_current(io: &IoRef, dir: &Path, current: &Current) -> Result<PathBuf> {
    let path = dir.join(CURRENT_TEMPORARY);
    let file = io.open(&path, OpenMode::Create)?;
    file.set_len(0)?;
    file.write_all_at(0, Buffer::from_slice(current.encode().as_bytes()))?;
    if !mutant!(SkipCurrentSync) {
        file.sync_all()?;
    }
    Ok(path)
}

fn publish_current(io: &IoRef, dir: &Path, temporary: &Path) -> Result<()> {
    io.rename(temporary, &dir.join(CURRENT))?;
    if mutant!(SkipCurrentDirSync) { Ok(()) } else { io.sync_dir(dir) }
}

/// Makes durable what was read, whatever a failed sync may have left undone.
fn harden(io: &IoRef, dir: &Path, current: &Current, contents: &Contents) -> Result<()> {
    let file = io.open(&dir.join(file::file_name(current.number)), OpenMode::ReadWrite)?;
    let bytes = file.read_exact_at(0, contents.end)?;
    file.write_all_at(0, bytes)?;
    file.sync_all()?;
    match write_current(io, dir, current) {
        Ok(temporary) => publish_current(io, dir, &temporary),
        // A full disk must not keep a database from being read. Nothing can be published on it either.
        Err(error) if error.kind() == ErrorKind::DiskFull => io.sync_dir(dir),
        Err(error) => Err(error),
    }
}

/// A length in memory as one in a file.
fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
