/*!
The simulated disk: a tracked store behind faults, latencies and operations in flight.
*/

use super::fault::{Fault, FaultKind, Operation};
use super::scheduler::{self, Clock, Wait};
use super::{SimOptions, mix};
use crate::error::{Error, Result};
use crate::io::memory::{StoreLock, read};
use crate::io::random::Random;
use crate::io::store::{FileNode, Store, Survival};
use crate::io::{Buffer, Completion, DirEntry, Done, EntryKind, File, Io, IoRef, Lock, Op, OpenMode, Pending};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What [`Io::process_id`] says on a simulated disk.
const PROCESS_ID: u32 = 4242;

/// Which of the pending changes survive a power failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survivors {
    /// None: the state of the last syncs.
    AllLost,
    /// All: the state that programs saw.
    AllKept,
    /// A subset that follows from this seed.
    Random(u64),
}

/// A simulated disk; clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct SimDisk {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Arc<Store>,
    clock: Arc<Clock>,
    start_unix_micros: i64,
    in_flight: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    random: Random,
    operations: u64,
    faults: Vec<Fault>,
    faults_fired: u64,
    power_off: Option<PowerOff>,
}

#[derive(Debug)]
struct PowerOff {
    at: u64,
    survivors: Survivors,
    survived: Option<SimDisk>,
}

impl SimDisk {
    /// An empty disk, for use outside of a run too.
    pub fn new(seed: u64) -> Self {
        SimDisk::with_options(seed, &SimOptions::default())
    }

    pub(super) fn with_options(seed: u64, options: &SimOptions) -> Self {
        let (store, clock) = (Store::new(true), Arc::new(Clock::default()));
        SimDisk::over(store, clock, seed, options.start_unix_micros, options.in_flight)
    }

    fn over(store: Store, clock: Arc<Clock>, seed: u64, start_unix_micros: i64, in_flight: bool) -> Self {
        let random = Random::new(seed);
        let state = State { random, operations: 0, faults: Vec::new(), faults_fired: 0, power_off: None };
        let store = Arc::new(store);
        SimDisk { inner: Arc::new(Inner { store, clock, start_unix_micros, in_flight, state: Mutex::new(state) }) }
    }

    /// The disk as a back end.
    pub fn io(&self) -> IoRef {
        Arc::new(self.clone())
    }

    /// The disk as a power failure at this moment leaves it. This one goes on as if nothing had happened; the new one
    /// has no locks, no faults, and shares the clock.
    pub fn crash(&self, survivors: Survivors) -> SimDisk {
        let (mut survival, salt) = match survivors {
            Survivors::AllLost => (Survival::AllLost, 1),
            Survivors::AllKept => (Survival::AllKept, 2),
            Survivors::Random(seed) => (Survival::random(seed), mix(seed)),
        };
        let inner = &self.inner;
        let store = inner.store.crash(&mut survival);
        SimDisk::over(store, Arc::clone(&inner.clock), salt, inner.start_unix_micros, inner.in_flight)
    }

    /// Switches the power off just before the `operation`-th operation, counted from 1 and the disk's beginning: it and
    /// all later ones fail. [`SimDisk::survived`] then gives what is left.
    pub fn power_off_at(&self, operation: u64, survivors: Survivors) {
        self.state().power_off = Some(PowerOff { at: operation, survivors, survived: None });
    }

    /// What [`SimDisk::power_off_at`] left, once that moment has come.
    pub fn survived(&self) -> Option<SimDisk> {
        self.state().power_off.as_ref().and_then(|power_off| power_off.survived.clone())
    }

    /// Operations so far. Read by a program right after something was acknowledged, it says which moments of a power
    /// failure that must survive: all later ones.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Adds a fault; the oldest that applies to an operation decides.
    pub fn inject(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Forgets all faults.
    pub fn clear_faults(&self) {
        self.state().faults.clear();
    }

    /// Operations that failed, or were cut short, by a fault.
    pub fn faults_fired(&self) -> u64 {
        self.state().faults_fired
    }

    pub(super) fn clock(&self) -> Arc<Clock> {
        Arc::clone(&self.inner.clock)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(&self) -> &Arc<Store> {
        &self.inner.store
    }

    /// Every operation begins here: it takes its time, others may go first, and it may be told to fail.
    fn begin(&self, operation: Operation, path: &Path) -> Option<FaultKind> {
        let (from, to) = match operation {
            Operation::Sync | Operation::SyncDir => (100_000, 2_000_000),
            Operation::Read | Operation::Write | Operation::Allocate => (5_000, 200_000),
            _ => (1_000, 20_000),
        };
        let nanos = from + self.state().random.below(to - from);
        match scheduler::current() {
            Some(context) => {
                context.note(operation.code());
                context.block(Wait::Sleep, Some(Duration::from_nanos(nanos)));
            }
            None => self.inner.clock.advance(nanos),
        }
        let mut state = self.state();
        state.operations += 1;
        let count = state.operations;
        if let Some(power_off) = state.power_off.as_mut().filter(|power_off| power_off.at <= count) {
            if power_off.survived.is_none() {
                power_off.survived = Some(self.crash(power_off.survivors));
            }
            return Some(FaultKind::Io);
        }
        // Every fault counts, also where an earlier one decides.
        let met: Vec<FaultKind> = state.faults.iter_mut().filter_map(|fault| fault.meet(operation, path)).collect();
        let kind = met.first().copied();
        state.faults_fired += u64::from(kind.is_some());
        kind
    }

    /// An operation that fails as a whole or not at all.
    fn whole<T>(
        &self,
        (operation, what): (Operation, &str),
        path: &Path,
        act: impl FnOnce(&Store) -> std::io::Result<T>,
    ) -> Result<T> {
        let outcome = match self.begin(operation, path) {
            Some(kind) => Err(kind.cause()),
            None => act(self.store()),
        };
        outcome.map_err(|e| Error::io(what, path, e))
    }

    fn chance(&self, times: u64, of: u64) -> bool {
        self.state().random.chance(times, of)
    }
}

impl Io for SimDisk {
    fn name(&self) -> &'static str {
        "sim"
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn File>> {
        let node = self.whole((Operation::Open, "open file"), path, |store| store.open(path, mode))?;
        let writable = mode != OpenMode::Read;
        Ok(Arc::new(SimFile { disk: self.clone(), node, path: Arc::from(path), writable }))
    }

    fn create_dir_all(&self, path: &Path) -> Result<()> {
        self.whole((Operation::CreateDir, "create directory"), path, |store| store.create_dir_all(path))
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>> {
        self.whole((Operation::Look, "list directory"), dir, |store| store.list(dir))
    }

    fn exists(&self, path: &Path) -> Result<Option<EntryKind>> {
        self.whole((Operation::Look, "look up"), path, |store| Ok(store.exists(path)))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let what = format!("rename to {}", to.display());
        self.whole((Operation::Rename, &what), from, |store| store.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        self.whole((Operation::Remove, "remove file"), path, |store| store.remove_file(path))
    }

    fn remove_dir_all(&self, path: &Path) -> Result<()> {
        self.whole((Operation::Remove, "remove directory"), path, |store| store.remove_dir_all(path))
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.whole((Operation::SyncDir, "sync directory"), dir, |store| store.sync_dir(dir))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>> {
        self.whole((Operation::Open, "lock"), path, |_| Ok(()))?;
        StoreLock::take(self.store(), path, PROCESS_ID)
    }

    fn unix_micros(&self) -> i64 {
        let since = i64::try_from(self.monotonic_nanos() / 1_000).unwrap_or(i64::MAX);
        self.inner.start_unix_micros.saturating_add(since)
    }

    fn monotonic_nanos(&self) -> u64 {
        self.inner.clock.read()
    }

    fn random_u64(&self) -> u64 {
        self.state().random.next_u64()
    }

    fn process_id(&self) -> u32 {
        PROCESS_ID
    }
}

#[derive(Debug, Clone)]
struct SimFile {
    disk: SimDisk,
    node: Arc<FileNode>,
    path: Arc<Path>,
    writable: bool,
}

impl File for SimFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn submit(&self, op: Op) -> Completion {
        if self.disk.inner.in_flight && self.disk.chance(1, 4) {
            return Completion::pending(Box::new(InFlight { file: self.clone(), flight: Mutex::new(Flight::Up(op)) }));
        }
        Completion::ready(self.execute(op))
    }

    fn len(&self) -> Result<u64> {
        self.disk.whole((Operation::Length, "get the length"), &self.path, |_| Ok(self.node.len()))
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.may_write("set the length")?;
        self.disk.whole((Operation::Length, "set the length"), &self.path, |_| self.node.set_len(len))
    }

    fn allocate(&self, len: u64) -> Result<()> {
        self.may_write("allocate")?;
        self.disk.whole((Operation::Allocate, "allocate"), &self.path, |_| self.node.allocate(len))
    }
}

impl SimFile {
    fn execute(&self, op: Op) -> Result<Done> {
        match op {
            Op::Read { offset, buffer } => self.read(offset, buffer),
            Op::Write { offset, buffer } => self.write(offset, buffer),
            Op::SyncData | Op::SyncAll => self.sync(),
        }
    }

    fn read(&self, offset: u64, mut buffer: Buffer) -> Result<Done> {
        match self.disk.begin(Operation::Read, &self.path) {
            None => {}
            // At least one byte: none would be the end of the file.
            Some(FaultKind::Short) => buffer.truncate(buffer.len().div_ceil(2)),
            Some(kind) => return Err(Error::io(&format!("read at offset {offset}"), &*self.path, kind.cause())),
        }
        Ok(read(&self.node, offset, buffer))
    }

    fn write(&self, offset: u64, buffer: Buffer) -> Result<Done> {
        self.may_write("write")?;
        let failed = |e| Error::io(&format!("write at offset {offset}"), &*self.path, e);
        let half = buffer.len().div_ceil(2);
        let (bytes, fault) = match self.disk.begin(Operation::Write, &self.path) {
            None => (buffer.len(), None),
            Some(FaultKind::Short) => (half, None),
            Some(FaultKind::Io) if self.disk.chance(1, 2) => (half, Some(FaultKind::Io)),
            Some(kind) => (0, Some(kind)),
        };
        self.node.write(offset, buffer.get(..bytes).unwrap_or(&buffer)).map_err(failed)?;
        match fault {
            Some(kind) => Err(failed(kind.cause())),
            None => Ok(Done { buffer: Some(buffer), bytes }),
        }
    }

    fn sync(&self) -> Result<Done> {
        if let Some(kind) = self.disk.begin(Operation::Sync, &self.path) {
            self.node.fail_sync(&mut self.disk.state().random);
            return Err(Error::io("sync", &*self.path, kind.cause()));
        }
        self.node.sync();
        Ok(Done { buffer: None, bytes: 0 })
    }

    fn may_write(&self, what: &str) -> Result<()> {
        if self.writable {
            return Ok(());
        }
        Err(Error::io(what, &*self.path, ErrorKind::PermissionDenied.into()))
    }
}

/// An operation that is executed when it is waited for, asked after or given up: later than others that were submitted
/// after it.
#[derive(Debug)]
struct InFlight {
    file: SimFile,
    flight: Mutex<Flight>,
}

#[derive(Debug)]
enum Flight {
    Up(Op),
    Landed(Result<Done>),
    Reaped,
}

impl InFlight {
    fn take(&self) -> Flight {
        std::mem::replace(&mut *self.flight.lock().unwrap_or_else(PoisonError::into_inner), Flight::Reaped)
    }

    fn land(&self, flight: Flight) -> Result<Done> {
        match flight {
            Flight::Up(op) => self.file.execute(op),
            Flight::Landed(result) => result,
            Flight::Reaped => Err(Error::internal("an operation was waited for twice")),
        }
    }
}

impl Pending for InFlight {
    fn is_ready(&self) -> bool {
        let mut flight = self.take();
        if matches!(flight, Flight::Up(_)) && self.file.disk.chance(1, 2) {
            flight = Flight::Landed(self.land(flight));
        }
        let ready = matches!(flight, Flight::Landed(_));
        *self.flight.lock().unwrap_or_else(PoisonError::into_inner) = flight;
        ready
    }

    fn wait(self: Box<Self>) -> Result<Done> {
        self.land(self.take())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Flight::Up(op) = self.take() {
            // Nobody waits for how it ends.
            drop(self.file.execute(op));
        }
    }
}
