/*!
The simulation: writers, readers, flushes, merges, faults, clock jumps and power failures at once, all from one seed.

A seed draws how many threads there are, how long they run before the database is closed, dropped or loses power, which sizes
and sync mode it has, whether runs have filters, and a rate for every sort of fault, often zero: too many faults would keep a database from ever growing.

Every commit also writes its writer's own counter, so that a commit in doubt is known by its traces. Then:

- a reader's snapshot at a number holds exactly the commits up to that number;
- what is opened holds every acknowledged commit, each doubtful one whole or not at all, and exactly as many commits as its
  number says: no hole. Where commits come back before they are durable, it holds a first part of them;
- no increment of the one row that all writers share is lost.
*/

use crate::model::{self, Change, State, difference, read};
use crate::workloads;
use omendb_engine::db::{Db, Expectation, Options, Row, Snapshot, SyncMode, WriteKind};
use omendb_engine::io::random::{Random, mix};
use omendb_engine::io::sim::{Fault, FaultKind, Operation, SimDisk, SimOptions, Simulation, Survivors};
use omendb_engine::io::{IoRef, thread};
use omendb_engine::key::KeySchema;
use omendb_engine::types::{FilterChoice, Seq, Value};
use omendb_engine::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Seeds of an ordinary run; `OMENDB_SIM_SEEDS` asks for another number.
const SEEDS: u64 = 100;

/// One seed in so many runs twice; `OMENDB_SIM_TWICE` asks for another number.
const TWICE: u64 = 100;

/// Operations that each seed does at least.
const OPERATIONS_MIN: u64 = 2_000;

/// The shared row.
const SHARED: i64 = -1;

/// Who makes the table, among writers from 1 on.
const CREATOR: i64 = 0;

/// Paths that every ordinary run must reach.
const PATHS: [&str; 15] = [
    "power cut",
    "clean close",
    "dropped without a close",
    "writes refused",
    "disk full",
    "disk full, healed",
    "write conflict",
    "doubtful commit survived",
    "doubtful commit lost",
    "unacknowledged history cut",
    "read error",
    "opening failed",
    "clock jump",
    "flush",
    "compaction",
];

/// How often rare paths were reached.
#[derive(Debug, Default)]
struct Reached {
    counts: Mutex<BTreeMap<&'static str, u64>>,
}

impl Reached {
    fn note(&self, path: &'static str) {
        *self.counts.lock().unwrap().entry(path).or_default() += 1;
    }
}

/// What a seed decides.
#[derive(Debug, Clone)]
struct Plan {
    writers: u64,
    readers: u64,
    sync: SyncMode,
    memtable_bytes: usize,
    /// Whether runs have filters.
    filter: FilterChoice,
    faults: Vec<Fault>,
    /// Whether reads may fail, or give wrong bytes below.
    reads_fail: bool,
}

fn plan(seed: u64) -> Plan {
    let mut random = Random::new(mix(seed ^ 0x51));
    let mut rate = |max: u64| if random.chance(1, 2) { 0 } else { 1 + random.below(max) };
    let mut faults = Vec::new();
    let mut add = |rate: u64, fault: Fault| {
        if rate > 0 {
            faults.push(fault.rate(rate));
        }
        rate > 0
    };
    add(rate(2), Fault::new(FaultKind::Io).on(Operation::Write));
    add(rate(4), Fault::new(FaultKind::Io).on(Operation::Sync));
    add(rate(10), Fault::new(FaultKind::Io).on(Operation::SyncDir));
    add(rate(60), Fault::new(FaultKind::DiskFull).on(Operation::Allocate));
    add(rate(60), Fault::new(FaultKind::DiskFull).on(Operation::Write).path_with("run-"));
    add(rate(100), Fault::new(FaultKind::Short).on(Operation::Write));
    add(rate(100), Fault::new(FaultKind::Short).on(Operation::Read));
    add(rate(50), Fault::new(FaultKind::Interrupted));
    let mut reads_fail = add(rate(5), Fault::new(FaultKind::Io).on(Operation::Read));
    reads_fail |= add(rate(5), Fault::new(FaultKind::Flip).on(Operation::Read).path_with("run-"));
    reads_fail |= add(rate(5), Fault::new(FaultKind::Misdirected).on(Operation::Read).path_with("run-"));
    let sync = match random.below(4) {
        0 => SyncMode::Interval(Duration::from_millis(2)),
        1 => SyncMode::None,
        _ => SyncMode::Always,
    };
    Plan {
        writers: 1 + random.below(4),
        readers: 1 + random.below(2),
        sync,
        memtable_bytes: [2 << 10, 8 << 10, 64 << 10][random.index(3)],
        filter: if seed.is_multiple_of(2) { FilterChoice::On } else { FilterChoice::Auto },
        faults,
        reads_fail,
    }
}

/// What the seed's threads share.
#[derive(Debug)]
struct Shared {
    plan: Plan,
    reached: Arc<Reached>,
    operations: AtomicU64,
    /// Commits that came back with their numbers.
    commits: Mutex<Vec<(Seq, Vec<Change>)>>,
    /// Commits that failed in a way that leaves open whether they happened: writer, its counter, changes.
    doubtful: Mutex<Vec<(i64, u64, Vec<Change>)>>,
    /// What readers saw, with the snapshot's number.
    seen: Mutex<Vec<(Seq, Seen)>>,
    stop: AtomicBool,
    wrong: Mutex<Option<String>>,
    filled: AtomicBool,
}

impl Shared {
    fn note(&self, path: &'static str) {
        self.reached.note(path);
    }

    fn wrong(&self, what: String) {
        self.wrong.lock().unwrap().get_or_insert(what);
        self.stop.store(true, Ordering::SeqCst);
    }

    /// An error of a read; must be one that faults explain.
    fn read_failed(&self, error: &Error) {
        match self.plan.reads_fail || !matches!(error.kind(), ErrorKind::Corruption | ErrorKind::Internal) {
            true => self.note("read error"),
            false => self.wrong(format!("a read failed: {error}")),
        }
    }

    fn counted(&self) {
        self.operations.fetch_add(1, Ordering::SeqCst);
    }

    fn stops(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

/// What a writer does next.
fn changes(random: &mut Random, writer: i64, counter: u64) -> Vec<Change> {
    let own = |random: &mut Random| 1000 * writer + random.below(40) as i64;
    // Mostly without a payload: a seed has many operations to do.
    let tag = |random: &mut Random| (random.next_u64() >> 2 & !3) + random.below(8) / 7;
    let mut changes = vec![Change::Put("t", own_row(writer), counter << 2)];
    match random.below(20) {
        // More than a small memtable: staged.
        0 => changes.extend((0..12).map(|k| Change::Put("t", 1000 * writer + k, tag(random) | 3))),
        1 => {
            let from = own(random);
            changes.push(Change::DeleteRange("t", from, (from + 1 + random.below(20) as i64).min(1000 * writer + 40)));
            changes.push(Change::Put("t", own(random), tag(random)));
        }
        2..=3 => changes.push(Change::Delete("t", own(random))),
        4..=5 => changes.push(Change::Expire("t", own(random), tag(random))),
        6..=8 => changes.extend((0..3).map(|_| Change::Put("t", own(random), tag(random)))),
        _ => changes.push(Change::Put("t", own(random), tag(random))),
    }
    changes
}

/// Adds one to the row that all writers share, if nobody else did meanwhile.
fn increment(db: &Db, changes: &mut Vec<Change>) -> Result<Seq> {
    let mut txn = db.begin()?;
    let snapshot = db.snapshot()?;
    let table = snapshot.table("t")?.expect("the table is there");
    let key = KeySchema::of(&table)?.encode(&[Value::Int(SHARED)])?;
    let mut row = Row::numbered();
    let found = snapshot.get(&table, &key, &table.column_ids(), &mut row)?;
    let now = match row.values.get(1) {
        Some(Value::Int(tag)) if found => *tag as u64,
        _ => 0,
    };
    let batch = model::rows(&table, &[(SHARED, now + 4)]);
    let seqs = [row.seq.unwrap()];
    let expectation = if found { Expectation::Unchanged(&seqs) } else { Expectation::Absent };
    txn.write(&table, WriteKind::Put, &table.column_ids(), &batch, expectation)?;
    for change in changes.iter() {
        model::perform(&mut txn, change)?;
    }
    changes.push(Change::Put("t", SHARED, now + 4));
    txn.commit()
}

fn write(db: &Db, shared: &Shared, writer: i64, seed: u64, rounds: u64, start: u64) {
    let mut random = Random::new(seed);
    for counter in start..start + rounds {
        if shared.stops() {
            return;
        }
        let mut changes = changes(&mut random, writer, counter);
        let outcome = match random.chance(1, 6) {
            true => increment(db, &mut changes),
            false => model::commit(db, &changes),
        };
        shared.counted();
        match outcome {
            Ok(seq) => {
                if shared.filled.swap(false, Ordering::SeqCst) {
                    shared.note("disk full, healed");
                }
                shared.commits.lock().unwrap().push((seq, changes));
            }
            Err(error) => match error.kind() {
                ErrorKind::DiskFull => {
                    shared.note("disk full");
                    shared.filled.store(true, Ordering::SeqCst);
                    thread::sleep(Duration::from_millis(1));
                }
                ErrorKind::WriteConflict | ErrorKind::DuplicateKey => shared.note("write conflict"),
                ErrorKind::Io | ErrorKind::Poisoned => {
                    shared.doubtful.lock().unwrap().push((writer, counter, changes));
                    if error.kind() == ErrorKind::Poisoned {
                        shared.note("writes refused");
                    }
                    // After a read that failed the writer could go on; after anything else it could not.
                    shared.stop.store(true, Ordering::SeqCst);
                    return;
                }
                ErrorKind::Corruption if shared.plan.reads_fail => {}
                _ => return shared.wrong(format!("a commit failed: {error}")),
            },
        }
        match random.below(12) {
            0 => {
                shared.counted();
                if let Err(error) = db.flush() {
                    background_failed(shared, &error);
                }
            }
            1 if random.chance(1, 4) => {
                shared.counted();
                if let Err(error) = db.compact(None) {
                    background_failed(shared, &error);
                }
            }
            2..=7 => {
                shared.counted();
                let k = 1000 * writer + random.below(40) as i64;
                let got = db.snapshot().and_then(|snapshot| {
                    let table = snapshot.table("t")?.expect("the table is there");
                    model::get(&snapshot, &table, k)
                });
                if let Err(error) = got {
                    shared.read_failed(&error);
                }
            }
            _ => {}
        }
    }
}

fn background_failed(shared: &Shared, error: &Error) {
    match error.kind() {
        ErrorKind::DiskFull => shared.note("disk full"),
        ErrorKind::Io | ErrorKind::Poisoned => shared.stop.store(true, Ordering::SeqCst),
        ErrorKind::Corruption if shared.plan.reads_fail => {}
        _ => shared.wrong(format!("a flush or merge failed: {error}")),
    }
}

/// What a reader saw.
#[derive(Debug)]
enum Seen {
    All(BTreeMap<String, model::Table>),
    /// Keys and tags of rows of the table.
    Rows(Vec<(i64, Option<u64>)>),
}

impl Seen {
    /// Whether a doubtful commit left its traces.
    fn happened(&self, writer: i64, counter: u64) -> bool {
        match self {
            Seen::All(found) => happened(found, writer, counter),
            Seen::Rows(rows) => writer == CREATOR || rows.contains(&(own_row(writer), Some(counter << 2))),
        }
    }

    fn differs_from(&self, expect: &State) -> Option<String> {
        let rows = match self {
            Seen::All(found) => return difference(found, expect).map(|lines| format!("\n{lines}")),
            Seen::Rows(rows) => rows,
        };
        let there = |k: i64| expect.get("t").and_then(|table| table.rows.get(&k)).copied();
        let (k, tag) = rows.iter().find(|(k, tag)| there(*k) != *tag)?;
        Some(format!("row {k} is {tag:?}, expected {:?}", there(*k)))
    }
}

/// The row that says how many commits a writer has tried.
fn own_row(writer: i64) -> i64 {
    -10 - writer
}

/// Some rows by their keys, and every writer's own: a doubtful commit is known by it.
fn some_rows(snapshot: &Snapshot, shared: &Shared, random: &mut Random) -> Result<Vec<(i64, Option<u64>)>> {
    let table = snapshot.table("t")?.expect("the table is there");
    let mut keys: Vec<i64> = (1..=shared.plan.writers as i64).map(own_row).collect();
    keys.extend((0..8).map(|_| 1000 * (1 + random.below(shared.plan.writers) as i64) + random.below(40) as i64));
    keys.into_iter().map(|k| Ok((k, model::get(snapshot, &table, k)?))).collect()
}

fn look(db: &Db, shared: &Shared, seed: u64, rounds: u64) {
    let mut random = Random::new(seed);
    for _ in 0..rounds {
        if shared.stops() {
            return;
        }
        shared.counted();
        let Ok(snapshot) = db.snapshot() else { return };
        if random.chance(1, 2) {
            // Held while others go on.
            thread::sleep(Duration::from_micros(random.below(3_000)));
        }
        // Mostly some rows by their keys: all of them cost as much as some hundred of these.
        let found = match random.chance(3, 4) {
            true => some_rows(&snapshot, shared, &mut random).map(Seen::Rows),
            false => read(&snapshot).map(Seen::All),
        };
        match found {
            Ok(found) => shared.seen.lock().unwrap().push((snapshot.seq(), found)),
            Err(error) => shared.read_failed(&error),
        }
        thread::sleep(Duration::from_micros(random.below(20_000)));
    }
}

fn arm(disk: &SimDisk, plan: &Plan) {
    plan.faults.iter().for_each(|fault| disk.inject(fault.clone()));
}

/// Opens the database, with faults at first.
fn open(disk: &SimDisk, io: &IoRef, shared: &Shared) -> std::result::Result<Db, String> {
    let options = Options {
        memtable_bytes: shared.plan.memtable_bytes,
        sync: shared.plan.sync,
        filter: shared.plan.filter,
        manifest_bytes: 20 << 10,
        ..workloads::options(io)
    };
    arm(disk, &shared.plan);
    if let Ok(db) = Db::open(options.clone()) {
        return Ok(db);
    }
    shared.note("opening failed");
    disk.clear_faults();
    Db::open(options).map_err(|error| format!("open: {error}"))
}

/// The state and number that the next life begins with.
#[derive(Debug, Default)]
struct Base {
    state: State,
    seq: Seq,
    counters: BTreeMap<i64, u64>,
}

/// Holds what was opened against what is known, and makes it the new base.
/// `lost_power`: commits that were not durable when they came back may be gone.
fn recovered(db: &Db, shared: &Shared, base: &mut Base, lost_power: bool) -> std::result::Result<(), String> {
    let snapshot = db.snapshot().map_err(|error| error.to_string())?;
    let found = read(&snapshot).map_err(|error| format!("after opening: {error}"))?;
    let mut commits = std::mem::take(&mut *shared.commits.lock().unwrap());
    commits.sort_by_key(|(seq, _)| *seq);
    let doubtful = std::mem::take(&mut *shared.doubtful.lock().unwrap());
    let last = commits.last().map_or(base.seq, |(seq, _)| *seq);
    let seq = snapshot.seq();
    if seq < last && !lost_power {
        return Err(format!("commits up to {last} were acknowledged; there are those up to {seq}"));
    }
    let mut survived = Vec::new();
    for (writer, counter, changes) in doubtful {
        if happened(&found, writer, counter) {
            shared.note("doubtful commit survived");
            survived.push(changes);
        } else {
            shared.note("doubtful commit lost");
        }
    }
    let with_survivors = |state: &State| {
        let mut state = state.clone();
        survived.iter().for_each(|changes| add(&mut state, changes));
        state
    };
    let mut state = base.state.clone();
    commits.iter().flat_map(|(_, changes)| changes).for_each(|change| model::apply(&mut state, change));
    let whole = with_survivors(&state);
    match difference(&found, &whole) {
        None => base.state = whole,
        // All that came back must be there, but for commits that were not durable when they came back: of those any first part.
        Some(lines) => {
            let part = if lost_power { last_part(&base.state, &commits, &found, &with_survivors) } else { None };
            let Some(part) = part else {
                return Err(format!("recovered up to {seq} (acknowledged up to {last}):\n{lines}"));
            };
            shared.note("unacknowledged history cut");
            base.state = part;
        }
    }
    let count = (commits.len() + survived.len()) as u64;
    if !lost_power && seq != base.seq + count {
        return Err(format!("{count} commits follow {}, and the last one has number {seq}: a hole", base.seq));
    }
    base.seq = seq;
    Ok(())
}

/// The last state on the way from `state` through commits that is what was found, but for the last.
fn last_part(
    state: &State,
    commits: &[(Seq, Vec<Change>)],
    found: &BTreeMap<String, model::Table>,
    with_survivors: &dyn Fn(&State) -> State,
) -> Option<State> {
    let mut state = state.clone();
    let mut part = None;
    for (_, changes) in commits {
        let now = with_survivors(&state);
        if difference(found, &now).is_none() {
            part = Some(now);
        }
        changes.iter().for_each(|change| model::apply(&mut state, change));
    }
    part
}

/// Whether a doubtful commit left its traces.
fn happened(found: &BTreeMap<String, model::Table>, writer: i64, counter: u64) -> bool {
    let Some(table) = found.get("t") else { return false };
    writer == CREATOR || table.rows.get(&own_row(writer)) == Some(&(counter << 2))
}

/// What all increments have come to.
fn shared_row(state: &State) -> u64 {
    state.get("t").and_then(|table| table.rows.get(&SHARED)).copied().unwrap_or(0)
}

/// Adds a doubtful commit, of which only the place among the increments of the shared row matters.
fn add(state: &mut State, changes: &[Change]) {
    for change in changes {
        match change {
            Change::Create(..) => model::apply(state, change),
            Change::Put(_, SHARED, value) if *value <= shared_row(state) => {}
            _ if state.contains_key("t") => model::apply(state, change),
            _ => {}
        }
    }
}

/// Holds what readers saw against the history. Where commits come back before they are durable, one whose sync failed may
/// be seen all the same, until the database is opened again.
fn check_seen(shared: &Shared, base: &Base) -> std::result::Result<(), String> {
    let mut commits = shared.commits.lock().unwrap().clone();
    commits.sort_by_key(|(seq, _)| *seq);
    let mut seen = std::mem::take(&mut *shared.seen.lock().unwrap());
    seen.sort_by_key(|(seq, _)| *seq);
    let mut state = base.state.clone();
    let mut sum = shared_row(&state);
    for (seq, changes) in &commits {
        for change in changes {
            let Change::Put(_, SHARED, now) = change else { continue };
            if *now <= sum {
                return Err(format!(
                    "commit {seq} made {now} of the shared row, which was {sum}: an increment is lost"
                ));
            }
            sum = *now;
        }
    }
    let mut next = commits.into_iter().peekable();
    for (seq, found) in seen {
        while let Some((_, changes)) = next.next_if(|(at, _)| *at <= seq) {
            changes.iter().for_each(|change| model::apply(&mut state, change));
        }
        let mut with_doubtful = None;
        if shared.plan.sync != SyncMode::Always {
            let doubtful = shared.doubtful.lock().unwrap();
            let seen = doubtful.iter().filter(|(writer, counter, _)| found.happened(*writer, *counter));
            let expect = with_doubtful.insert(state.clone());
            seen.for_each(|(_, _, changes)| add(expect, changes));
        }
        if let Some(what) = found.differs_from(with_doubtful.as_ref().unwrap_or(&state)) {
            return Err(format!("a snapshot of commit {seq}: {what}"));
        }
    }
    Ok(())
}

/// One life of the database: opened, used, and ended in one of three ways. Gives the disk for the next.
fn live(
    disk: SimDisk,
    shared: &Arc<Shared>,
    base: &mut Base,
    random: &mut Random,
    lost_power: bool,
) -> std::result::Result<(SimDisk, bool), String> {
    let io = disk.io();
    disk.clear_faults();
    let db = open(&disk, &io, shared)?;
    // What is recovered is read without faults.
    disk.clear_faults();
    recovered(&db, shared, base, lost_power)?;
    if base.state.is_empty() {
        let changes = vec![Change::Create("t", true)];
        match model::commit(&db, &changes) {
            Ok(seq) => shared.commits.lock().unwrap().push((seq, changes)),
            // A fault of the opening has shown itself only now.
            Err(error) if matches!(error.kind(), ErrorKind::Poisoned | ErrorKind::Io) => {
                shared.doubtful.lock().unwrap().push((CREATOR, 0, changes));
                return Ok((disk, lost_power));
            }
            Err(error) => return Err(format!("the first commit: {error}")),
        }
    }
    arm(&disk, &shared.plan);
    if random.chance(1, 3) {
        let at = disk.operations() + 1 + random.below(2_000);
        disk.power_off_at(at, Survivors::Random(random.next_u64()));
    }
    if random.chance(1, 3) {
        let hours = random.below(100) as i64 - 50;
        disk.jump_clock(hours * 3_600_000_000);
        shared.note("clock jump");
    }
    shared.stop.store(false, Ordering::SeqCst);
    let rounds = 10 + random.below(150);
    let mut threads = Vec::new();
    for writer in 1..=shared.plan.writers as i64 {
        let (db, shared, seed) = (db.clone(), Arc::clone(shared), random.next_u64());
        let start = *base.counters.entry(writer).or_insert(1);
        base.counters.insert(writer, start + rounds);
        let body = move || write(&db, &shared, writer, seed, rounds, start);
        threads.push(thread::spawn("writer", body).map_err(|error| error.to_string())?);
    }
    for _ in 0..shared.plan.readers {
        let (db, shared, seed) = (db.clone(), Arc::clone(shared), random.next_u64());
        // Reading everything costs much more than a commit.
        let body = move || look(&db, &shared, seed, rounds / 6);
        threads.push(thread::spawn("reader", body).map_err(|error| error.to_string())?);
    }
    for thread in threads {
        thread.join().map_err(|error| error.to_string())?;
    }
    if let Some(what) = shared.wrong.lock().unwrap().take() {
        return Err(what);
    }
    check_seen(shared, base)?;
    let stats = db.stats().map_err(|error| error.to_string())?;
    if stats.flushes > 0 {
        shared.note("flush");
    }
    if stats.compactions > 0 {
        shared.note("compaction");
    }
    let lazy = shared.plan.sync != SyncMode::Always;
    let way = random.below(3);
    let seed = random.next_u64();
    let mut closed = false;
    let pulled = (way == 0).then(|| disk.crash(Survivors::Random(seed)));
    if way == 1 {
        disk.clear_faults();
        closed = db.close().is_ok() && !shared.stops();
    } else {
        drop(db);
    }
    // The power may have failed while it was being closed, too.
    match disk.survived().or(pulled) {
        Some(survived) => {
            shared.note("power cut");
            Ok((survived, lazy))
        }
        None => {
            shared.note(if closed { "clean close" } else { "dropped without a close" });
            disk.power_off_at(u64::MAX, Survivors::AllLost);
            Ok((disk, lazy && !closed))
        }
    }
}

/// One seed: its trace and its operations.
fn simulate(seed: u64, reached: &Arc<Reached>) -> std::result::Result<(u64, u64), String> {
    let simulation = Simulation::new(seed, SimOptions { points_max: 20_000_000, ..SimOptions::default() });
    let disk = simulation.disk();
    let shared = Arc::new(Shared {
        plan: plan(seed),
        reached: Arc::clone(reached),
        operations: AtomicU64::new(0),
        commits: Mutex::default(),
        doubtful: Mutex::default(),
        seen: Mutex::default(),
        stop: AtomicBool::new(false),
        wrong: Mutex::default(),
        filled: AtomicBool::new(false),
    });
    let report = simulation.run(move |_io| -> std::result::Result<u64, String> {
        let mut random = Random::new(mix(seed ^ 0x11fe));
        let mut base = Base::default();
        let mut now = (disk, false);
        while shared.operations.load(Ordering::SeqCst) < OPERATIONS_MIN {
            now = live(now.0, &shared, &mut base, &mut random, now.1)?;
        }
        let (disk, lost_power) = now;
        disk.clear_faults();
        let db = open(&disk, &disk.io(), &shared)?;
        disk.clear_faults();
        recovered(&db, &shared, &mut base, lost_power)?;
        db.close().map_err(|error| format!("the last close: {error}"))?;
        Ok(shared.operations.load(Ordering::SeqCst))
    });
    match &report.outcome {
        Ok(Ok(operations)) => Ok((report.trace, *operations)),
        Ok(Err(what)) => Err(what.clone()),
        Err(_) => Err(report.to_string()),
    }
}

fn fail(seed: u64, what: &str) -> String {
    format!(
        "simulation seed {seed}: {what}\n{:?}\nto replay:\n    OMENDB_SIM_SEED={seed} OMENDB_SIM_SEEDS=1 cargo test -p \
         omendb-engine --test campaigns simulation",
        plan(seed)
    )
}

#[test]
fn simulation_of_concurrent_work_and_faults_loses_nothing() {
    let first = crate::setting("OMENDB_SIM_SEED", 1);
    let seeds = crate::setting("OMENDB_SIM_SEEDS", SEEDS);
    let twice = crate::setting("OMENDB_SIM_TWICE", TWICE);
    let began = Instant::now();
    let reached = Arc::new(Reached::default());
    let (next, operations) = (AtomicU64::new(0), AtomicU64::new(0));
    let failures: Mutex<Vec<String>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..crate::setting("OMENDB_CAMPAIGN_THREADS", 2) {
            scope.spawn(|| {
                crate::stay_on_one_processor();
                while failures.lock().unwrap().is_empty() {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= seeds {
                        return;
                    }
                    let seed = first + number;
                    let outcome = simulate(seed, &reached).and_then(|(trace, count)| {
                        operations.fetch_add(count, Ordering::SeqCst);
                        // Now and then the same again, to see that it is the same.
                        match seed.is_multiple_of(twice) && simulate(seed, &reached)?.0 != trace {
                            true => Err("another trace at the second run".to_owned()),
                            false => Ok(()),
                        }
                    });
                    if let Err(what) = outcome {
                        failures.lock().unwrap().push(fail(seed, &what));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    let (operations, seconds) = (operations.into_inner(), began.elapsed().as_secs_f64());
    let counts = reached.counts.lock().unwrap().clone();
    writeln!(std::io::stderr(), "{seeds} seeds, {operations} operations in {seconds:.0} s; reached: {counts:?}")
        .unwrap();
    if seeds >= SEEDS {
        for path in PATHS {
            assert!(counts.contains_key(path), "never reached: {path}");
        }
    }
}
