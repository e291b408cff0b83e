/*!
Which runs make up which tree: an append-only log of edits, small and synced at every change.

# Files

`CURRENT` is one line of text that names the live manifest file; its last word is the CRC32C of what precedes it:

```text
    omendb 1 manifest-00000007 3f2a…(database id, 32 hex digits) 8e12c0aa
```

`manifest-<number>` is a header and edits, each at a multiple of 8 bytes and with a seal behind it, at the next multiple
of 4,096. The first edit is the whole state. Numbers are little-endian. What lies between and behind is zero. The file has
its full length from the beginning.

```text
    header │ edit │ zeros │ seal │ edit │ zeros │ seal │ … │ zeros
                          4,096 × n             4,096 × m
```

```text
    header, 64 bytes                               edit
     0  u32  CRC32C of all that follows             0  u32  CRC32C of all that follows, filling included
     4  [8]  "OMENMANI"                             4  [4]  "OMED"
    12  u32  format version                         8  u64  offset of this edit in the file
    16 [16]  database id                           16  u32  bytes of the fields
    32  u64  number of this file                   20  u32  CRC of the file's header
    40  u64  bytes of this file                    24       fields, filled up to 8 bytes with zeros
    48       zeros

    fields: a tag byte and                  1  storage u64, level u8, 0 or 1 and fixed seq u64, RunMeta
     2  removed run u64                     3  moved run u64, level u8         4  dropped storage u64
     5  next run id u64                     6  last seq u64                    7  log released to u64
     8  storage u64, next row id u64        9  storage u64, hash [32], source, options, rows u64, micros i64
    10  storage u64, flushed seq u64      11  deleted range: storage u64, seq u64, start, end
    12  deleted range that goes: as 11; start and end are a length u32 and an end as in `key/bound.rs`
    13  log durable to u64
    RunMeta, source and options are a length u32 and bytes. A seal is an edit without fields: 24 bytes.
```

# What it promises

- An edit is atomic and durable when [`Manifest::apply`] comes back.
- *A writer appends only to a file that it began itself.* Its first edit goes, with the whole state, to a new file; so
  does one after enough edits have gathered. What a crash left at an old file's end is never written over or revived.
- Publication: the new file, its sync, its directory's sync; then `CURRENT` under another name, its sync, the rename, and
  the directory's sync. At every moment `CURRENT` names a complete file. Older files go last.
- *A torn edit is cut; damage is an error* with file and offset. An edit is synced before its seal is written, and
  acknowledged after its seal was synced: so an edit that was acknowledged has a seal behind it, in another block, which
  proves damage to it and to all before. The length in the header tells a file that was cut short. So no damage to one
  block is mistaken for a crash.
- *What an open read is durable.* If the last edit has no seal, file and `CURRENT` are written once more, synced, and
  sealed: a failed sync may have left bytes in the system's memory that the device lacks, and callers remove files on the
  manifest's word.
- A full disk leaves everything as it was (`DiskFull`): space is there before an edit is written. Any other failed
  write or sync poisons the manifest: whether the edit counts is decided when it is opened again, so no file that either
  outcome needs may be removed.

It knows no run's contents, and opens none.

Format 2 is format 1 with fields 11 and 12. A writer's first edit goes to a new file, which has format 2; so an older release
refuses a database that this one has written to, and this one reads both.
*/

mod edit;
mod file;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod inspect;
mod state;
#[cfg(test)]
mod tests;

pub use edit::LOAD_TEXT_BYTES_MAX;
pub use state::{Edit, ErasedRange, LoadRecord, RunEntry, State, StorageState};

use crate::error::{Error, ErrorKind, Result};
use crate::io::{Buffer, File, IoRef, OpenMode};
use crate::lease::{Leases, Numbered};
use file::{Contents, Current, FILE_BYTES_MAX, Header};
pub(crate) use inspect::Inspection;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Names the live file.
pub(crate) const CURRENT: &str = "CURRENT";
/// Its name until it is complete.
pub(crate) const CURRENT_TEMPORARY: &str = "CURRENT.tmp";

/// Bytes of `CURRENT` at most; it has about 80.
const CURRENT_BYTES_MAX: usize = 4096;

/// Bytes that a file has behind its first edit at least; as many as that edit where it is larger, and other than these where
/// [`Manifest::limit_edits`] says so. When they are used up, the next edit begins a new file.
pub const EDITS_BYTES_MIN: u64 = 64 * 1024;

/// How often a reader process tries again when a writer was faster.
const READ_ATTEMPTS_MAX: usize = 20;

/// The manifest, open for writing.
#[derive(Debug)]
pub struct Manifest {
    io: IoRef,
    dir: PathBuf,
    /// Files that some of these keep outlive their time.
    leases: Arc<Leases>,
    database_id: [u8; 16],
    state: State,
    /// Above the number of every manifest file there is.
    next_number: u64,
    /// The file that this writer began, if it did yet.
    log: Option<Log>,
    /// Bytes that a file has behind its first edit at least.
    edits_bytes: u64,
    /// Why it takes no more edits.
    poison: Option<String>,
}

/// One version of the manifest, as a reader process found it.
#[derive(Debug)]
pub struct Version {
    /// What it says.
    pub state: State,
    /// The database's id.
    pub database_id: [u8; 16],
    /// The number of its file.
    pub number: u64,
    bytes: Buffer,
}

impl Version {
    /// Whether it is the live one still.
    pub fn is_live(&self, io: &IoRef, dir: &Path) -> bool {
        let current = Current { database_id: self.database_id, number: self.number };
        let unchanged = || -> Result<bool> {
            Ok(read_current(io, dir)? == current && *read_bytes(io, &file_of(dir, &current))? == *self.bytes)
        };
        unchanged().unwrap_or(false)
    }
}

/// A file that is being appended to.
#[derive(Debug)]
struct Log {
    file: Arc<dyn File>,
    header_crc: u32,
    /// Where the next edit goes.
    end: u64,
    /// Bytes the file has, all of them written once.
    space: u64,
}

impl Manifest {
    /// Whether there is a database in `dir`.
    pub fn exists(io: &IoRef, dir: &Path) -> Result<bool> {
        Ok(io.exists(&dir.join(CURRENT))?.is_some())
    }

    /// Begins a database in an existing directory. What an attempt left behind that never got to the end is
    /// replaced.
    ///
    /// # Errors
    /// `InvalidArgument` if there is a database already.
    pub fn create(leases: &Arc<Leases>, database_id: [u8; 16]) -> Result<Manifest> {
        let (io, dir) = (leases.io(), leases.dir());
        if Manifest::exists(io, dir)? {
            return Err(Error::invalid("there is a database already").at(dir.join(CURRENT), None));
        }
        let mut manifest = Manifest {
            io: io.clone(),
            dir: dir.to_owned(),
            leases: Arc::clone(leases),
            database_id,
            state: State::default(),
            next_number: next_number(io, dir)?,
            log: None,
            edits_bytes: EDITS_BYTES_MIN,
            poison: None,
        };
        manifest.publish(&State::default())?;
        Ok(manifest)
    }

    /// Opens the manifest of a database for its writer, and makes what it read durable.
    ///
    /// # Errors
    /// `NotADatabase` without a `CURRENT`; `NewerFormat`; `Corruption` with file and offset.
    pub fn open(leases: &Arc<Leases>) -> Result<(Manifest, State)> {
        let (io, dir) = (leases.io(), leases.dir());
        let current = read_current(io, dir)?;
        let (contents, _) = read_contents(io, dir, &current)?;
        if !contents.sealed && !mutant!(RecoveredManifestNotHardened) {
            harden(io, dir, &current, &contents)?;
        }
        let manifest = Manifest {
            io: io.clone(),
            dir: dir.to_owned(),
            leases: Arc::clone(leases),
            database_id: current.database_id,
            state: contents.state.clone(),
            next_number: next_number(io, dir)?,
            log: None,
            edits_bytes: EDITS_BYTES_MIN,
            poison: None,
        };
        Ok((manifest, contents.state))
    }

    /// What the manifest says, read without changing anything, while another process may be writing.
    /// Errors as [`Manifest::open`].
    pub fn open_read_only(io: &IoRef, dir: &Path) -> Result<Version> {
        let mut attempts = READ_ATTEMPTS_MAX;
        loop {
            attempts -= 1;
            let read = read_current(io, dir).and_then(|current| Ok((read_contents(io, dir, &current)?, current)));
            match read {
                Ok(((contents, bytes), current)) => {
                    let Current { database_id, number } = current;
                    return Ok(Version { state: contents.state, database_id, number, bytes });
                }
                // A file that is gone, or half an edit with another behind it: the writer was at work meanwhile.
                Err(error) if attempts > 0 && matches!(error.kind(), ErrorKind::Io | ErrorKind::Corruption) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Bytes of edits for which a file begun from now on has space, if its first edit is not larger; else 64 KiB.
    pub fn limit_edits(&mut self, bytes: u64) {
        self.edits_bytes = bytes;
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
        if self.append(&edit)? {
            return self.state.apply(edit);
        }
        let mut state = self.state.clone();
        state.apply(edit)?;
        self.publish(&state)?;
        self.state = state;
        Ok(())
    }

    /// Ends the file: every edit has its seal, so there is nothing to write. Further edits go to a new file.
    pub fn close(&mut self) -> Result<()> {
        self.usable()?;
        self.log = None;
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

    /// Writes an edit to the file that this writer began, and then its seal; false where there is no such file or no space
    /// in it, and nothing was written.
    fn append(&mut self, edit: &Edit) -> Result<bool> {
        let Some(log) = &mut self.log else { return Ok(false) };
        let bytes = file::encode_edit(edit, log.end, log.header_crc)?;
        let edit_end = log.end + length(bytes.len());
        if file::seal_end(edit_end) > log.space {
            return Ok(false);
        }
        let written = log.write(log.end, &bytes).and_then(|()| log.seal(edit_end));
        self.poisoned(written).map(|()| true)
    }

    /// Begins a new file with the whole of `state` and makes it the live one.
    fn publish(&mut self, state: &State) -> Result<()> {
        let number = self.next_number;
        self.next_number = number.saturating_add(1);
        let path = self.dir.join(file::file_name(number));
        let begun = self.begin(&path, number, state);
        let current = Current { database_id: self.database_id, number };
        match begun.and_then(|log| Ok((write_current(&self.io, &self.dir, &current)?, log))) {
            Ok((temporary, mut log)) => {
                let published = publish_current(&self.io, &self.dir, &temporary).and_then(|()| log.seal(log.end));
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

    /// Writes a new file, durably, but for the seal: that says that `CURRENT` names the file.
    fn begin(&self, path: &Path, number: u64, state: &State) -> Result<Log> {
        let first = file::encode_edit(&state.as_edit(), length(file::HEADER_BYTES), 0)?;
        let first_end = length(file::HEADER_BYTES + first.len());
        let space = file::seal_end(first_end) + self.edits_bytes.max(first_end);
        let space = space.next_multiple_of(file::BLOCK).min(length(FILE_BYTES_MAX));
        if file::seal_end(first_end) > space {
            return Err(Error::new(ErrorKind::LimitExceeded, "the manifest's state is larger than its file can be"));
        }
        let header = Header { database_id: self.database_id, number, bytes: space };
        let (mut bytes, header_crc) = header.encode();
        bytes.extend_from_slice(&file::encode_edit(&state.as_edit(), length(file::HEADER_BYTES), header_crc)?);
        let file = self.io.open(path, OpenMode::CreateNew)?;
        let log = Log { file, header_crc, end: length(bytes.len()), space: header.bytes };
        log.file.allocate(log.space)?;
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
        let names = self.io.names(&self.dir).unwrap_or_default();
        let others = names.iter().filter_map(|name| {
            let number = file::number_of(name).filter(|number| *number != live)?;
            Some((Numbered::Manifest(number), self.dir.join(name)))
        });
        let _ = self.leases.remove(others);
    }
}

impl Log {
    /// Writes, durably.
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(offset, Buffer::from_slice(bytes))?;
        if mutant!(SkipManifestSync) { Ok(()) } else { self.file.sync_data() }
    }

    /// Writes the seal of the edit that ends at `edit_end`, which is durable, and counts both in.
    fn seal(&mut self, edit_end: u64) -> Result<()> {
        let at = file::seal_offset(edit_end);
        self.write(at, &file::encode_edit(&Edit::default(), at, self.header_crc)?)?;
        self.end = file::seal_end(edit_end);
        Ok(())
    }
}

/// Whether a file of this name is a manifest, live or not.
pub(crate) fn is_file_name(name: &str) -> bool {
    file::number_of(name).is_some()
}

/// One above the highest number that a manifest file has.
fn next_number(io: &IoRef, dir: &Path) -> Result<u64> {
    let highest = io.names(dir)?.iter().filter_map(|name| file::number_of(name)).max();
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

/// The file that `CURRENT` names.
fn file_of(dir: &Path, current: &Current) -> PathBuf {
    dir.join(file::file_name(current.number))
}

fn read_bytes(io: &IoRef, path: &Path) -> Result<Buffer> {
    let file = io.open(path, OpenMode::Read)?;
    let len = usize::try_from(file.len()?).unwrap_or(usize::MAX);
    if len > FILE_BYTES_MAX {
        let sentence = format!("the manifest has {len} bytes; at most {FILE_BYTES_MAX} there can be");
        return Err(Error::corruption(sentence).at(path, None));
    }
    file.read_at(0, len)
}

fn read_contents(io: &IoRef, dir: &Path, current: &Current) -> Result<(Contents, Buffer)> {
    let path = file_of(dir, current);
    let bytes = read_bytes(io, &path)?;
    let contents = file::read(&bytes).map_err(|(error, offset)| error.at(&path, length(offset)))?;
    if (contents.header.database_id, contents.header.number) != (current.database_id, current.number) {
        return Err(Error::corruption("the manifest is not the one that CURRENT names").at(path, 0));
    }
    Ok((contents, bytes))
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

/// Makes durable what was read, whatever a failed sync may have left undone, and seals it.
fn harden(io: &IoRef, dir: &Path, current: &Current, contents: &Contents) -> Result<()> {
    let file = io.open(&file_of(dir, current), OpenMode::ReadWrite)?;
    let bytes = file.read_exact_at(0, contents.end)?;
    file.write_all_at(0, bytes)?;
    file.sync_all()?;
    match write_current(io, dir, current) {
        Ok(temporary) => publish_current(io, dir, &temporary)?,
        // A full disk must not keep a database from being read. Nothing can be published on it either.
        Err(error) if error.kind() == ErrorKind::DiskFull => io.sync_dir(dir)?,
        Err(error) => return Err(error),
    }
    let (header_crc, space) = (contents.header_crc, contents.header.bytes);
    Log { file, header_crc, end: 0, space }.seal(length(contents.end))
}

/// A length in memory as one in a file.
fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
