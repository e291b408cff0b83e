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
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What [`Io::process_id`] says on a simulated disk.
const PROCESS_ID: u32 = 4242;

/// How far a misdirected block goes astray.
const BLOCK_BYTES: u64 = 4096;

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
    /// What was added to the wall clock.
    clock_jumps_micros: AtomicI64,
    /// Bytes that all files together may have.
    space: AtomicU64,
    state: Mutex<State>,
}

/// An operation of a disk that is about to happen.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// Its number, counted from 1 and the disk's beginning.
    pub number: u64,
    /// What it does.
    pub operation: Operation,
    /// To which file or directory.
    pub path: &'a Path,
    /// The disk, from which [`SimDisk::fork`] takes what a power failure at this moment would meet.
    pub disk: &'a SimDisk,
}

/// Who is told of every operation.
#[derive(Clone)]
struct Observer(Arc<dyn Fn(Moment<'_>) + Send + Sync>);

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observer")
    }
}

#[derive(Debug)]
struct State {
    random: Random,
    operations: u64,
    faults: Vec<Fault>,
    faults_fired: u64,
    power_off: Option<PowerOff>,
    observer: Option<Observer>,
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
        let state =
            State { random, operations: 0, faults: Vec::new(), faults_fired: 0, power_off: None, observer: None };
        let (store, clock_jumps_micros) = (Arc::new(store), AtomicI64::new(0));
        let state = Mutex::new(state);
        SimDisk {
            inner: Arc::new(Inner {
                store,
                clock,
                start_unix_micros,
                in_flight,
                clock_jumps_micros,
                space: AtomicU64::new(u64::MAX),
                state,
            }),
        }
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

    /// The same disk with all that is pending, on its own from now on: for many crashes of one moment. It has no locks,
    /// no faults, a clock of its own that begins where this one's is, and costs little.
    pub fn fork(&self) -> SimDisk {
        let inner = &self.inner;
        let clock = Arc::new(Clock::default());
        clock.advance(inner.clock.nanos());
        let forked = SimDisk::over(inner.store.fork(), clock, 3, inner.start_unix_micros, inner.in_flight);
        forked.jump_clock(inner.clock_jumps_micros.load(Ordering::SeqCst));
        forked
    }

    /// A hash of all names and bytes that programs see; equal for equal trees. On a disk that survived a crash: of the
    /// crash state.
    pub fn fingerprint(&self) -> u64 {
        self.inner.store.fingerprint()
    }

    /// Tells `observer` of every operation just before it happens. It must not use `io`.
    pub fn observe(&self, observer: impl Fn(Moment<'_>) + Send + Sync + 'static) {
        self.state().observer = Some(Observer(Arc::new(observer)));
    }

    /// Sets the wall clock forward or back, as an administrator or a time server does. The monotonic one goes on.
    pub fn jump_clock(&self, micros: i64) {
        self.inner.clock_jumps_micros.fetch_add(micros, Ordering::SeqCst);
    }

    /// From now on all files together have at most so many bytes; whatever would pass that finds the disk full.
    pub fn limit_space(&self, bytes: u64) {
        self.inner.space.store(bytes, Ordering::SeqCst);
    }

    /// Bytes that all files together have.
    pub fn used_space(&self) -> u64 {
        self.inner.store.bytes()
    }

    /// That a file may grow to `end` bytes.
    fn check_space(&self, node: &FileNode, end: u64) -> std::io::Result<()> {
        let space = self.inner.space.load(Ordering::SeqCst);
        let more = end.saturating_sub(node.len());
        if space < u64::MAX && more > 0 && self.used_space().saturating_add(more) > space {
            return Err(ErrorKind::StorageFull.into());
        }
        Ok(())
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
        trace(path.as_os_str().as_encoded_bytes(), 0);
        self.pass_time(operation, from, to);
        let (count, observer) = {
            let mut state = self.state();
            state.operations += 1;
            (state.operations, state.observer.clone())
        };
        if let Some(observer) = observer {
            observer.0(Moment { number: count, operation, path, disk: self });
        }
        let mut state = self.state();
        if let Some(power_off) = state.power_off.as_mut().filter(|power_off| power_off.at <= count) {
            if power_off.survived.is_none() {
                power_off.survived = Some(self.crash(power_off.survivors));
            }
            return Some(FaultKind::Io);
        }
        // Every fault counts, also where an earlier one decides.
        let State { faults, random, .. } = &mut *state;
        let met: Vec<FaultKind> =
            faults.iter_mut().filter_map(|fault| fault.meet(count, operation, path, random)).collect();
        let kind = met.first().copied();
        state.faults_fired += u64::from(kind.is_some());
        if kind == Some(FaultKind::Interrupted) {
            // The back end's second attempt, which comes too late where the power went meanwhile.
            drop(state);
            self.pass_time(operation, from, to);
            let is_off = self.state().power_off.as_ref().is_some_and(|power_off| power_off.survived.is_some());
            return is_off.then_some(FaultKind::Io);
        }
        kind
    }

    fn pass_time(&self, operation: Operation, from: u64, to: u64) {
        let nanos = from + self.state().random.below(to - from);
        match scheduler::current() {
            Some(context) => {
                context.note(operation.code());
                context.block(Wait::Sleep, Some(Duration::from_nanos(nanos)));
            }
            None => self.inner.clock.advance(nanos),
        }
    }

    /// An operation that fails as a whole or not at all.
    fn whole<T>(
        &self,
        (operation, what): (Operation, &str),
        path: &Path,
        act: impl FnOnce(&Store) -> std::io::Result<T>,
    ) -> Result<T> {
        let outcome = match self.begin(operation, path) {
            Some(kind) if !kind.is_silent() => Err(kind.cause()),
            _ => act(self.store()),
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
        let outcome = match self.begin(Operation::SyncDir, dir) {
            Some(kind) if !kind.is_silent() => {
                let mut random = Random::new(self.random_u64());
                self.store().fail_sync_dir(dir, &mut random).and(Err(kind.cause()))
            }
            _ => self.store().sync_dir(dir),
        };
        outcome.map_err(|e| Error::io("sync directory", dir, e))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>> {
        self.whole((Operation::Open, "lock"), path, |_| Ok(()))?;
        StoreLock::take(self.store(), path, PROCESS_ID)
    }

    fn lock_existing(&self, path: &Path) -> Result<Option<Box<dyn Lock>>> {
        self.whole((Operation::Open, "lock"), path, |_| Ok(()))?;
        StoreLock::take_existing(self.store(), path)
    }

    fn unix_micros(&self) -> i64 {
        let since = i64::try_from(self.monotonic_nanos() / 1_000).unwrap_or(i64::MAX);
        let jumps = self.inner.clock_jumps_micros.load(Ordering::SeqCst);
        self.inner.start_unix_micros.saturating_add(since).saturating_add(jumps)
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

/// Puts what an operation is about into the trace: names and bytes must be equal in two runs of a seed, too.
fn trace(bytes: &[u8], offset: u64) {
    if let Some(context) = scheduler::current() {
        context.note(mix(offset) ^ u64::from(crc32c::crc32c(bytes)));
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
        self.disk.whole((Operation::Allocate, "allocate"), &self.path, |_| {
            self.disk.check_space(&self.node, len)?;
            self.node.allocate(len)
        })
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
        trace(&[], offset);
        match self.disk.begin(Operation::Read, &self.path) {
            None => {}
            // At least one byte: none would be the end of the file.
            Some(FaultKind::Short) => buffer.truncate(buffer.len().div_ceil(2)),
            Some(FaultKind::Misdirected) => return Ok(read(&self.node, self.misdirect(offset), buffer)),
            Some(FaultKind::Flip) => {
                let mut done = read(&self.node, offset, buffer);
                if let Some(buffer) = &mut done.buffer {
                    self.flip(buffer);
                }
                return Ok(done);
            }
            Some(FaultKind::Lost | FaultKind::Interrupted) => {}
            Some(kind) => return Err(Error::io(&format!("read at offset {offset}"), &*self.path, kind.cause())),
        }
        Ok(read(&self.node, offset, buffer))
    }

    fn write(&self, offset: u64, buffer: Buffer) -> Result<Done> {
        self.may_write("write")?;
        trace(&buffer, offset);
        let failed = |e| Error::io(&format!("write at offset {offset}"), &*self.path, e);
        let end = u64::try_from(buffer.len()).unwrap_or(u64::MAX).saturating_add(offset);
        self.disk.check_space(&self.node, end).map_err(failed)?;
        let half = buffer.len().div_ceil(2);
        let whole = buffer.len();
        let (bytes, fault) = match self.disk.begin(Operation::Write, &self.path) {
            None | Some(FaultKind::Interrupted) => (whole, None),
            Some(FaultKind::Lost) => return Ok(Done { buffer: Some(buffer), bytes: whole }),
            Some(FaultKind::Misdirected) => {
                self.node.write(self.misdirect(offset), &buffer).map_err(failed)?;
                return Ok(Done { buffer: Some(buffer), bytes: whole });
            }
            Some(FaultKind::Flip) => {
                let mut flipped = Buffer::from_slice(&buffer);
                self.flip(&mut flipped);
                self.node.write(offset, &flipped).map_err(failed)?;
                return Ok(Done { buffer: Some(buffer), bytes: whole });
            }
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
        if let Some(kind) = self.disk.begin(Operation::Sync, &self.path).filter(|kind| !kind.is_silent()) {
            self.node.fail_sync(&mut self.disk.state().random);
            return Err(Error::io("sync", &*self.path, kind.cause()));
        }
        self.node.sync();
        Ok(Done { buffer: None, bytes: 0 })
    }

    /// A block's width before or behind.
    fn misdirect(&self, offset: u64) -> u64 {
        match self.disk.chance(1, 2) {
            true => offset.checked_sub(BLOCK_BYTES).unwrap_or(offset + BLOCK_BYTES),
            false => offset + BLOCK_BYTES,
        }
    }

    fn flip(&self, bytes: &mut [u8]) {
        let random = &mut self.disk.state().random;
        let (place, bit) = (random.index(bytes.len()), random.below(8));
        if let Some(byte) = bytes.get_mut(place) {
            *byte ^= 1 << bit;
        }
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
