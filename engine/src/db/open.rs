/*!
Opening a directory, for writing or for reading only.

```text
    OMENDB           what the directory is; written last when a database is made
    LOCK             held by the one process that writes
    CURRENT, manifest-*                which runs make up which tree
    wal-*.log        what is not in runs yet
    run-*.omen       rows
    RESERVE          zeros: space for what gives space back when the disk is full
```

A writer takes the lock, and removes what a crash left behind: runs that the manifest does not name, half-made files.
A reader takes no lock and writes nothing. It opens every run file at once, so that what a writer removes stays readable,
and begins again when the database changed under it meanwhile. It sees the state as at open.
*/

use super::Options;
use super::identity;
use super::recover::{Recovered, Replay, hold_files, recover};
use crate::cache::Cache;
use crate::compaction::output::Output;
use crate::error::{Error, ErrorKind, Result};
use crate::io::{EntryKind, IoRef, Lock};
use crate::manifest::{self, Edit, Manifest};
use crate::memory::Memory;
use crate::run;
use crate::txn::reserve::RESERVE_FILE;
use crate::txn::store::{Limits, Parts, Store};
use crate::wal::{self, ReadOnly, Wal, WalOptions};
use std::path::Path;
use std::sync::Arc;

pub(super) const LOCK_FILE: &str = "LOCK";

/// Bytes of rows that are sorted at once: more would make runs longer, and nothing faster.
const STAGE_BYTES_MAX: usize = 512 << 20;

/// Bytes that an engine works with at least.
const MEMORY_BYTES_MIN: usize = 16 << 20;

/// How often a reader begins again because a writer changed the database meanwhile.
const READ_ATTEMPTS_MAX: usize = 20;

fn not_a_database(dir: &Path, why: &str) -> Error {
    Error::new(ErrorKind::NotADatabase, format!("{} is not an OmenDB database: {why}", dir.display()))
}

/// What a directory is.
enum Found {
    Database,
    /// Absent, empty, or what a crash left of making a database.
    Nothing,
}

/// Files that making a database leaves before the identity file is there. A log and runs are not among them: they come
/// later, so a directory that has them has lost its identity file, and they must not be taken for rubbish.
fn is_unfinished(name: &str) -> bool {
    name == LOCK_FILE
        || name == identity::FILE_UNFINISHED
        || name == RESERVE_FILE
        || name.starts_with("CURRENT")
        || name.starts_with("manifest-")
}

fn look(io: &IoRef, dir: &Path) -> Result<Found> {
    match io.exists(dir)? {
        None => return Ok(Found::Nothing),
        Some(EntryKind::Dir) => {}
        Some(_) => return Err(not_a_database(dir, "it is not a directory")),
    }
    if io.exists(&dir.join(identity::FILE))?.is_some() {
        return Ok(Found::Database);
    }
    match io.names(dir)?.iter().find(|name| !is_unfinished(name)) {
        Some(other) => Err(not_a_database(dir, &format!("it holds other things, as {other}"))),
        None => Ok(Found::Nothing),
    }
}

fn memory(options: &Options) -> Arc<Memory> {
    Memory::new(options.memory_bytes.max(MEMORY_BYTES_MIN), options.cache_bytes)
}

fn limits(options: &Options) -> Limits {
    let memory = options.memory_bytes.max(MEMORY_BYTES_MIN);
    let memtable_bytes = options.memtable_bytes.max(1 << 10);
    let log_bytes = u64::try_from(memtable_bytes).unwrap_or(u64::MAX).saturating_mul(4).max(options.log_segment_bytes);
    Limits {
        memtable_bytes,
        memtables_bytes: (memory / 4).max(memtable_bytes),
        log_bytes,
        log_segment_bytes: options.log_segment_bytes,
        buffer_bytes: memtable_bytes.min(memory / 16),
        stage_bytes: (memory / 5 * 2).min(STAGE_BYTES_MAX),
        threads: options.threads.max(1),
    }
}

/// An open database's store, and the lock that goes with it; a reader has none.
pub(super) type Opened = (Arc<Store>, Option<Box<dyn Lock>>);

/// Opens the database in `dir`, or makes one.
pub(super) fn open(io: &IoRef, dir: &Path, options: &Options) -> Result<Opened> {
    let found = look(io, dir)?;
    if options.read_only {
        return match found {
            Found::Database => Ok((open_reader(io, dir, options)?, None)),
            Found::Nothing => Err(not_a_database(dir, "it is empty or not there")),
        };
    }
    if matches!(found, Found::Nothing) {
        if !options.create {
            return Err(not_a_database(dir, "it is empty or not there"));
        }
        io.create_dir_all(dir)?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            io.sync_dir(parent)?;
        }
    }
    let lock = io.lock(&dir.join(LOCK_FILE))?;
    // Looked at again: another process may have made it since.
    if matches!(look(io, dir)?, Found::Nothing) {
        make(io, dir)?;
    }
    Ok((open_writer(io, dir, options)?, Some(lock)))
}

/// Makes an empty database.
fn make(io: &IoRef, dir: &Path) -> Result<()> {
    for entry in io.list(dir)?.iter().filter(|entry| entry.name != LOCK_FILE) {
        io.remove_file(&dir.join(&entry.name))?;
    }
    let id = u128::from(io.random_u64()) << 64 | u128::from(io.random_u64());
    let id = id.to_be_bytes();
    let mut manifest = Manifest::create(io, dir, id)?;
    identity::write(io, dir, id)?;
    manifest.apply(made())?;
    manifest.close()
}

/// What a manifest says once the identity is durable: runs count from 1. Until it does, every open writes the identity again.
fn made() -> Edit {
    Edit { next_run_id: Some(1), ..Edit::default() }
}

/// What the manifest knows of the log.
pub(super) fn log_known(state: &manifest::State) -> wal::Known {
    wal::Known { from: state.wal_released_to, durable_to: state.wal_durable_to }
}

fn check_id(dir: &Path, id: [u8; 16], manifest_id: [u8; 16]) -> Result<()> {
    match id == manifest_id {
        true => Ok(()),
        false => Err(Error::corruption("the manifest is of another database").at(dir, None)),
    }
}

fn output(io: &IoRef, dir: &Path, options: &Options, cache: &Arc<Cache>, state: &manifest::State) -> Output {
    let next_run = state.next_run_id.max(1);
    Output::new(Arc::clone(io), dir.to_owned(), Arc::clone(cache), options.index, options.run_bytes, next_run)
}

fn parts(
    io: &IoRef,
    dir: &Path,
    options: &Options,
    memory: Arc<Memory>,
    output: Output,
    recovered: Recovered,
) -> Parts {
    Parts {
        io: Arc::clone(io),
        dir: dir.to_owned(),
        limits: limits(options),
        memory,
        output,
        log: None,
        manifest: None,
        view: recovered.view,
        next_id: recovered.next_id,
        next_mem: 1 << 32,
        loads: recovered.loads,
    }
}

fn open_writer(io: &IoRef, dir: &Path, options: &Options) -> Result<Arc<Store>> {
    let id = identity::read(io, dir)?;
    let (mut manifest, state) = Manifest::open(io, dir)?;
    manifest.limit_edits(options.manifest_bytes);
    if state.next_run_id == 0 {
        match identity::write(io, dir, id).and_then(|()| manifest.apply(made())) {
            // As for the manifest: a full disk must not keep a database from being read.
            Err(error) if error.kind() == ErrorKind::DiskFull => {}
            done => done?,
        }
    }
    check_id(dir, id, manifest.database_id())?;
    let memory = memory(options);
    let output = output(io, dir, options, memory.cache(), &state);
    let mut replay = Replay::new(&state, limits(options).memtable_bytes);
    let log_options = WalOptions { segment_bytes: options.log_segment_bytes, sync: options.sync };
    let mut take = |end, bytes: &[u8]| replay.take(end, bytes);
    let (log, _) = Wal::open(io, dir, id, log_options, log_known(&state), &mut take)?;
    let recovered = recover(&state, replay, &output)?;
    if !recovered.orphans.is_empty() {
        manifest.apply(Edit { drop_storages: recovered.orphans.clone(), ..Edit::default() })?;
    }
    remove_orphans(io, dir, manifest.state())?;
    let parts = parts(io, dir, options, memory, output, recovered);
    Ok(Store::new(Parts { log: Some(log), manifest: Some(manifest), ..parts }))
}

/// Removes run files that the manifest does not name, and half-made files.
fn remove_orphans(io: &IoRef, dir: &Path, state: &manifest::State) -> Result<()> {
    for name in io.names(dir)? {
        let orphan = match run::parse_file_name(&name) {
            Some(id) => !state.has_run(id),
            None => name == identity::FILE_UNFINISHED,
        };
        let path = dir.join(&name);
        if orphan && io.exists(&path)? == Some(EntryKind::File) {
            io.remove_file(&path)?;
        }
    }
    Ok(())
}

fn open_reader(io: &IoRef, dir: &Path, options: &Options) -> Result<Arc<Store>> {
    let id = identity::read(io, dir)?;
    let mut last = None;
    for _ in 0..READ_ATTEMPTS_MAX {
        let before = Manifest::open_read_only(io, dir);
        let (state, manifest_id) = match before {
            Ok(before) => before,
            Err(error) => {
                // A new manifest may have taken the place of the one that was named.
                last = Some(error);
                continue;
            }
        };
        check_id(dir, id, manifest_id)?;
        let attempt = read(io, dir, options, id, &state);
        // What was read belongs together if nothing has changed since.
        let unchanged = Manifest::open_read_only(io, dir).is_ok_and(|(now, _)| now == state);
        match attempt {
            Ok(store) if unchanged => return Ok(store),
            Ok(_) => {}
            Err(error) if unchanged && error.kind() != ErrorKind::Corruption => return Err(error),
            Err(error) => last = Some(error),
        }
    }
    let busy = || Error::new(ErrorKind::Io, "the database changed faster than it could be opened for reading");
    Err(last.unwrap_or_else(busy))
}

fn read(io: &IoRef, dir: &Path, options: &Options, id: [u8; 16], state: &manifest::State) -> Result<Arc<Store>> {
    let memory = memory(options);
    let output = output(io, dir, options, memory.cache(), state);
    let mut replay = Replay::new(state, limits(options).memtable_bytes);
    let mut take = |end, bytes: &[u8]| replay.take(end, bytes);
    match wal::open_read_only(io, dir, id, log_known(state), &mut take)? {
        ReadOnly::Complete(_) => {}
        ReadOnly::Overtaken(error) => return Err(error),
    }
    let recovered = recover(state, replay, &output)?;
    hold_files(&recovered.view.trees)?;
    Ok(Store::new(parts(io, dir, options, memory, output, recovered)))
}
