/*!
`CHECK DATABASE`: reads everything that a directory holds and names what is wrong.

```text
    the directory   every file is known, every file that should be there is, and nothing else is
    OMENDB, CURRENT, manifest
                    checksums, the database's id, every edit against the rules
    the log         every frame's checksum, place and predecessor; every record; every row of it against its table
    the catalog     its rows among themselves, and against the trees
    trees           the last level disjoint, no older version of a row above a newer one, numbers within their bounds
    runs            every byte's checksum; the order of keys over slices and tiles; guards; the index's answer for every
                    slice; statistics against values; locators; sequence numbers; the footer against the manifest
```

**Promises.** It writes nothing and takes no lock, so it works on a database that does not open, and beside a writer: what
a writer removes meanwhile is not missed. It goes on after a problem. It holds one run's index and locators at a time, a
cache of fixed size, the manifest's state and the catalog, whatever the size of the database. What a crash may leave behind,
such as a torn tail of the log or a run that no manifest names, is a [`Note`] and no [`Problem`].

**What it does not know**: what was never written. A log whose damage can't be told from a torn tail is a note too.
*/

mod log;
mod report;
mod trees;

pub use report::{CheckReport, Note, Problem};

use super::identity;
use super::open::LOCK_FILE;
use crate::cache::Cache;
use crate::error::{Error, ErrorKind, Result};
use crate::io::{DirEntry, EntryKind, IoRef};
use crate::lease::LEASE_DIR;
use crate::manifest::{self, Manifest, State};
use crate::txn::reserve::RESERVE_FILE;
use crate::{run, wal};
use std::path::Path;
use std::sync::Arc;

/// How often a check begins again because a writer has overtaken it.
const ATTEMPTS_MAX: usize = 1000;

/// Bytes of the cache through which one run is read.
const CACHE_BYTES: usize = 32 * 1024 * 1024;

/// What the layers above keep in a database's directory: spilled data and settings. The engine knows nothing of their contents.
const GUESTS: [&str; 2] = ["tmp", "omendb.toml"];

/// Checks the database in `dir`, reading only; it need not open, and a writer may be at work in it.
///
/// # Errors
/// `NotADatabase` where there is nothing of a database; `Io` where the directory cannot be listed, or a writer changes it
/// faster than its log can be read. Everything else is in the report.
pub fn check_directory(io: &IoRef, dir: &Path) -> Result<CheckReport> {
    check_directory_until(io, dir, &|| false)
}

/// The same, but ends soon after `stop` says so; the report says then that it is not of everything.
///
/// # Errors
/// As [`check_directory`].
pub fn check_directory_until(io: &IoRef, dir: &Path, stop: &dyn Fn() -> bool) -> Result<CheckReport> {
    for _ in 0..ATTEMPTS_MAX {
        if let Some(report) = attempt(io, dir, stop)? {
            return Ok(report);
        }
    }
    Err(Error::new(ErrorKind::Io, "the database changes faster than it can be checked"))
}

/// One check; nothing where a writer published another manifest before the log could be read.
fn attempt(io: &IoRef, dir: &Path, stop: &dyn Fn() -> bool) -> Result<Option<CheckReport>> {
    let entries = list(io, dir)?;
    let mut check = Check { io, dir, cache: Cache::new(CACHE_BYTES), report: CheckReport::new(dir), stop };
    check.count(&entries);
    let id = check.identity();
    let manifest = check.manifest(id);
    if let Some(id) = id.or(manifest.as_ref().map(|manifest| manifest.database_id)) {
        let empty = State::default();
        let state = manifest.as_ref().map_or(&empty, |manifest| &manifest.state);
        let Some(catalog) = check.log_and_catalog(&id, state) else { return Ok(None) };
        if let Some(manifest) = &manifest {
            check.trees(&manifest.state, catalog.as_ref());
        }
    }
    check.strangers(&entries, manifest.as_ref());
    check.report.is_whole = !stop();
    Ok(Some(check.report))
}

/// The directory's entries, where it may be a database.
fn list(io: &IoRef, dir: &Path) -> Result<Vec<DirEntry>> {
    let none = |why: &str| Error::new(ErrorKind::NotADatabase, format!("{} is not a database: {why}", dir.display()));
    match io.exists(dir)? {
        None => return Err(none("it is not there")),
        Some(EntryKind::Dir) => {}
        Some(_) => return Err(none("it is not a directory")),
    }
    let entries = io.list(dir)?;
    let is_ours = |entry: &DirEntry| entry.name == identity::FILE || is_log_manifest_or_run(&entry.name);
    match entries.iter().any(is_ours) {
        true => Ok(entries),
        false => Err(none("it has none of a database's files")),
    }
}

fn is_log_manifest_or_run(name: &str) -> bool {
    manifest::is_file_name(name) || wal::is_file_name(name) || run::parse_file_name(name).is_some()
}

/// A check under way.
struct Check<'a> {
    io: &'a IoRef,
    dir: &'a Path,
    cache: Arc<Cache>,
    report: CheckReport,
    stop: &'a dyn Fn() -> bool,
}

impl Check<'_> {
    fn count(&mut self, entries: &[DirEntry]) {
        for entry in entries.iter().filter(|entry| entry.kind == EntryKind::File) {
            self.report.files += 1;
            self.report.bytes += entry.len;
        }
    }

    /// The value; or a problem in its place.
    fn sound<T>(&mut self, result: Result<T>, advice: &str) -> Option<T> {
        result.map_err(|error| self.report.problem(&error, advice)).ok()
    }

    fn identity(&mut self) -> Option<[u8; 16]> {
        let read = identity::read(self.io, self.dir).map_err(|error| error.at(self.dir.join(identity::FILE), None));
        self.sound(read, "It has no data; a copy of it from a backup of this database will do.")
    }

    fn manifest(&mut self, id: Option<[u8; 16]>) -> Option<manifest::Inspection> {
        let advice = "Without it nobody knows which runs count: restore the database from a backup.";
        let found = self.sound(Manifest::inspect(self.io, self.dir), advice)?;
        self.report.manifest_edits = found.edits;
        if id.is_some_and(|id| id != found.database_id) {
            let error = Error::corruption("CURRENT and the manifest are of another database than the file OMENDB");
            self.report
                .problem(&error.at(self.dir.join(identity::FILE), None), "Put back the files that were mixed up.");
        }
        for offset in &found.stains {
            let error = Error::corruption("bytes that are never written are not zero").at(&found.path, *offset);
            self.report.problem(&error, "No data are affected, but the device has changed what it stored.");
        }
        match found.torn {
            Some(offset) if found.sealed => {
                let what = "behind the last edit stands what a crash left of another, which was never acknowledged";
                self.report.note(&found.path, offset, what);
            }
            Some(offset) => {
                let what = "the last edit holds, its seal does not; opening the database for writing seals it again";
                self.report.note(&found.path, offset, what);
            }
            None if !found.sealed => {
                let what = "the last edit has no seal; opening the database for writing seals it";
                self.report.note(&found.path, None, what);
            }
            None => {}
        }
        Some(found)
    }

    /// Names files that nothing knows.
    fn strangers(&mut self, entries: &[DirEntry], manifest: Option<&manifest::Inspection>) {
        for entry in entries {
            let path = self.dir.join(&entry.name);
            let named = |id| manifest.is_none_or(|manifest| manifest.state.run(id).is_some());
            let is_leases = entry.name == LEASE_DIR && entry.kind == EntryKind::Dir;
            if is_leases || GUESTS.contains(&entry.name.as_str()) {
                continue;
            }
            let note = match run::parse_file_name(&entry.name) {
                _ if entry.kind != EntryKind::File => "this is no file of a database",
                Some(id) if named(id) => continue,
                Some(_) => {
                    "no manifest names this run: it is being written, or a reader's lease keeps it, or a crash left it; \
                     opening removes it, unless it is kept"
                }
                None if wal::is_file_name(&entry.name) => continue,
                None if manifest::is_file_name(&entry.name) => {
                    match manifest.is_some_and(|manifest| manifest.path != path) {
                        true => {
                            "CURRENT does not name this manifest; it means nothing, and goes with one of the next edits"
                        }
                        false => continue,
                    }
                }
                None if matches!(
                    entry.name.as_str(),
                    identity::FILE | LOCK_FILE | RESERVE_FILE | manifest::CURRENT
                ) =>
                {
                    continue;
                }
                None if matches!(entry.name.as_str(), identity::FILE_UNFINISHED | manifest::CURRENT_TEMPORARY) => {
                    "this file was never finished; it means nothing"
                }
                None => "this is no file of a database",
            };
            self.report.note(&path, None, note);
        }
    }
}
