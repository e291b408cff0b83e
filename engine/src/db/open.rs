/*!
Opening a directory, for writing or for reading only.

```text
    OMENDB           what the directory is; written last when a database is made
    LOCK             held by the one process that writes
    CURRENT, manifest-*                which runs make up which tree
    wal-*.log        what is not in runs yet
    run-*.omen       rows
    leases/          one file for each reader process
    RESERVE          zeros: space for what gives space back when the disk is full
```

A writer takes the lock, and removes what a crash left behind: runs that the manifest does not name, half-made files; but for
those that a living reader's lease keeps ([`crate::lease`]).

A reader takes no lock on the database and writes nothing but its lease, which keeps the files of the state that it has read, and lets
it open them when it needs them. It begins again when the database changed under it while it read manifest and log. It sees
the state as at open. Where it may not write into the directory, or has no space, it opens every run's file at once instead, and
holds them: an open file stays readable when it is removed.
*/

use super::Options;
use super::identity;
use super::recover::{Recovered, Replay, hold_files, recover};
use crate::cache::Cache;
use crate::compaction::output::Output;
use crate::error::{Error, ErrorKind, Result};
use crate::io::{EntryKind, IoRef, Lock};
use crate::lease::{Bounds, Lease, Leases, Numbered};
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
    Memory::new(options.memory_bytes, options.cache_bytes)
}

fn limits(options: &Options) -> Limits {
    let (memory, memtable_bytes) = (options.memory_bytes, options.memtable_bytes);
    let log_bytes = u64::try_from(memtable_bytes).unwrap_or(u64::MAX).saturating_mul(4).max(options.log_segment_bytes);
    Limits {
        memtable_bytes,
        memtables_bytes: (memory / 4).max(memtable_bytes),
        log_bytes,
        log_air_bytes: u64::try_from(memtable_bytes).unwrap_or(u64::MAX).max(options.log_segment_bytes) / 2,
        log_segment_bytes: options.log_segment_bytes,
        buffer_bytes: memtable_bytes.min(memory / 16),
        stage_bytes: (memory / 5 * 2).min(STAGE_BYTES_MAX),
        threads: options.threads,
        filter: options.filter,
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
    let mut manifest = Manifest::create(&Leases::new(io, dir), id)?;
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

fn output(leases: &Arc<Leases>, options: &Options, cache: &Arc<Cache>, state: &manifest::State) -> Output {
    let next_run = state.next_run_id.max(1);
    Output::new(Arc::clone(leases), Arc::clone(cache), options.index, options.run_bytes, next_run)
}

fn parts(leases: &Arc<Leases>, options: &Options, memory: Arc<Memory>, output: Output, recovered: Recovered) -> Parts {
    Parts {
        leases: Arc::clone(leases),
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
    let leases = Leases::new(io, dir);
    let id = identity::read(io, dir)?;
    let (mut manifest, state) = Manifest::open(&leases)?;
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
    let output = output(&leases, options, memory.cache(), &state);
    let mut replay = Replay::new(&state, limits(options).memtable_bytes);
    let log_options = WalOptions { segment_bytes: options.log_segment_bytes, sync: options.sync };
    let mut take = |end, bytes: &[u8]| replay.take(end, bytes);
    let (log, _) = Wal::open(&leases, id, log_options, log_known(&state), &mut take)?;
    let recovered = recover(&state, replay, &output)?;
    if !recovered.orphans.is_empty() {
        manifest.apply(Edit { drop_storages: recovered.orphans.clone(), ..Edit::default() })?;
    }
    remove_orphans(&leases, manifest.state())?;
    let parts = parts(&leases, options, memory, output, recovered);
    Ok(Store::new(Parts { log: Some(log), manifest: Some(manifest), ..parts }))
}

/// Removes run files that the manifest does not name, half-made files, and what dead readers left.
fn remove_orphans(leases: &Leases, state: &manifest::State) -> Result<()> {
    let (io, dir) = (leases.io(), leases.dir());
    let mut runs = Vec::new();
    for name in io.names(dir)? {
        let path = dir.join(&name);
        let is_file = || Ok::<_, Error>(io.exists(&path)? == Some(EntryKind::File));
        match run::parse_file_name(&name) {
            Some(id) if !state.has_run(id) && is_file()? => runs.push((Numbered::Run(id.0), path)),
            None if name == identity::FILE_UNFINISHED && is_file()? => io.remove_file(&path)?,
            _ => {}
        }
    }
    leases.remove(runs).map(drop)
}

fn open_reader(io: &IoRef, dir: &Path, options: &Options) -> Result<Arc<Store>> {
    let id = identity::read(io, dir)?;
    let refusal = match Lease::take(io, dir) {
        Err(refusal) => refusal,
        Ok(lease) => {
            let leases = Leases::with(io, dir, Some(lease));
            let (store, bounds) = read_until_whole(&leases, id, options)?;
            match leases.own().map_or(Ok(()), |lease| lease.keep(bounds)) {
                Ok(()) => return Ok(store),
                Err(refusal) => refusal,
            }
        }
    };
    let (store, _) = read_until_whole(&Leases::with(io, dir, None), id, options)
        .map_err(|error| error.context(format!("without a lease ({refusal}), every run's file is to be held open")))?;
    Ok(store)
}

/// Reads the state, again and again until no writer has come between. The files of its runs are kept by a lease, or held.
fn read_until_whole(leases: &Arc<Leases>, id: [u8; 16], options: &Options) -> Result<(Arc<Store>, Bounds)> {
    let (io, dir) = (leases.io(), leases.dir());
    let mut last = None;
    for _ in 0..READ_ATTEMPTS_MAX {
        let version = match Manifest::open_read_only(io, dir) {
            Ok(version) => version,
            Err(error) => {
                // A new manifest may have taken the place of the one that was named.
                last = Some(error);
                continue;
            }
        };
        check_id(dir, id, version.database_id)?;
        match read(leases, options, &version) {
            Ok(Some(whole)) => return Ok(whole),
            Ok(None) => {}
            Err(error) if error.kind() != ErrorKind::Corruption && version.is_live(io, dir) => return Err(error),
            Err(error) => last = Some(error),
        }
    }
    let busy = || Error::new(ErrorKind::Io, "the database changed faster than it could be opened for reading");
    Err(last.unwrap_or_else(busy))
}

/// What a version of the manifest and the log behind it make up; nothing where the log goes on after a load that the version
/// does not know. Flushes and merges since do no harm: they change no row.
fn read(leases: &Arc<Leases>, options: &Options, version: &manifest::Version) -> Result<Option<(Arc<Store>, Bounds)>> {
    let state = &version.state;
    let memory = memory(options);
    let output = output(leases, options, memory.cache(), state);
    let mut replay = Replay::new(state, limits(options).memtable_bytes);
    let mut take = |end, bytes: &[u8]| replay.take(end, bytes);
    let (io, dir) = (leases.io(), leases.dir());
    let log = match wal::open_read_only(io, dir, version.database_id, log_known(state), &mut take)? {
        ReadOnly::Complete(log) => log,
        ReadOnly::Overtaken(error) => return Err(error),
    };
    if replay.has_gap() {
        return Ok(None);
    }
    let recovered = recover(state, replay, &output)?;
    if leases.own().is_none() {
        hold_files(&recovered.view.trees)?;
    }
    let bounds =
        Bounds { runs: state.next_run_id, segments: log.next_segment, manifests: version.number.saturating_add(1) };
    Ok(Some((Store::new(parts(leases, options, memory, output, recovered)), bounds)))
}
