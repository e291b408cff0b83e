/*!
The fault campaign: at every call index of three workloads, once and for good, an operation of the disk fails with EIO or
ENOSPC, is interrupted, comes back short, or goes wrong without a word.

What must hold, beside that nothing panics:

- Each error says what was tried and where.
- Once a write or sync has failed, writes are refused until the database is reopened, and reads go on. A full disk alone heals
  by itself.
- Nothing acknowledged is lost, what was not acknowledged is whole or absent, in the database as it was left, in what a power
  failure makes of it, and in what a power failure makes of it once it was opened again: a failed sync's pages
  read new until the crash and old after.
- Interruptions and short transfers change nothing at all.
- A write that is lost, lands elsewhere or is stored wrong, a log all of whose writes are lost from there on, and a read that
  gives other bytes, never lead to a wrong answer: the right one, or an error. What a clean close had sealed is never cut away
  silently, nor is one lost write of the log, once the log has rested.
*/

use crate::model::{self, Change, State, difference, read};
use crate::workloads;
use omendb_engine::db::{Db, Options};
use omendb_engine::io::random::{Random, mix};
use omendb_engine::io::sim::{Fault, FaultKind, Operation, SimDisk, SimOptions, Simulation, Survivors};
use omendb_engine::io::{IoRef, thread};
use omendb_engine::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A step of a workload.
#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<Change>),
    Flush,
    Compact,
    Rest,
}

const WORKLOADS: [&str; 3] = ["commits", "runs", "loads"];

fn steps(workload: &str, seed: u64) -> Vec<Step> {
    let mut random = Random::new(mix(seed));
    let random = &mut random;
    let tag = |random: &mut Random| random.next_u64() >> 2;
    let put = |random: &mut Random| Change::Put("t", random.below(20) as i64, random.next_u64() >> 2);
    let delete = |random: &mut Random| Change::Delete("t", random.below(20) as i64);
    let mut steps = vec![Step::Commit(vec![Change::Create("t", true), Change::Create("h", false)])];
    match workload {
        // Segments come and go.
        "commits" => {
            for round in 0..14 {
                steps.push(Step::Commit(vec![put(random), put(random), Change::Append("h", tag(random))]));
                if round == 7 {
                    steps.extend([Step::Rest, Step::Flush]);
                }
            }
        }
        // Flushes and merges.
        "runs" => {
            for round in 0..7 {
                steps.push(Step::Commit(vec![put(random), put(random), delete(random)]));
                steps.push(Step::Commit(vec![Change::Append("h", tag(random)), put(random)]));
                if round == 0 {
                    steps.push(Step::Rest);
                }
                if round % 3 != 0 {
                    steps.push(Step::Flush);
                }
                if round % 3 == 2 {
                    steps.push(Step::Compact);
                }
            }
        }
        // Loads, large commits, tables.
        _ => {
            for round in 0..3i64 {
                let rows = (0..8).map(|k| (round * 6 + k, tag(random))).collect();
                steps.push(Step::Commit(vec![put(random)]));
                steps.push(Step::Commit(vec![Change::Load("t", rows)]));
                steps.push(Step::Commit((0..8).map(|k| Change::Put("t", k * 2, tag(random) | 3)).collect()));
                steps.push(Step::Commit(vec![Change::Create("x", true), Change::Put("x", 1, tag(random))]));
                steps.push(Step::Commit(vec![Change::Drop("x"), delete(random)]));
            }
            steps.push(Step::Compact);
        }
    }
    steps.push(Step::Commit(vec![put(random)]));
    steps
}

fn options(workload: &str, io: &IoRef) -> Options {
    let small = workloads::options(io);
    match workload {
        "commits" => Options { memtable_bytes: 1 << 20, ..small },
        // A segment with space for what the log writes when it rests.
        "runs" => Options { log_segment_bytes: 64 << 10, ..small },
        _ => small,
    }
}

/// How the disk misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Io,
    DiskFull,
    Interrupted,
    Short,
    /// Nobody is told: what is read or written is not what should be.
    Silent(FaultKind),
}

const CLASSES: [Class; 7] = [
    Class::Io,
    Class::DiskFull,
    Class::Interrupted,
    Class::Short,
    Class::Silent(FaultKind::Lost),
    Class::Silent(FaultKind::Misdirected),
    Class::Silent(FaultKind::Flip),
];

/// What an operation of the run without faults was.
#[derive(Debug, Clone)]
struct Call {
    number: u64,
    operation: Operation,
    path: String,
}

/// The faults of a class at the call and, `sticky`, from there on; none where it makes no difference there.
fn faults(class: Class, call: &Call, sticky: bool) -> Vec<Fault> {
    let at = |kind: FaultKind| {
        let fault = Fault::new(kind).not_before(call.number);
        if sticky { fault.sticky() } else { fault }
    };
    let transfers = matches!(call.operation, Operation::Read | Operation::Write);
    match class {
        Class::Io => vec![at(FaultKind::Io)],
        Class::Interrupted => vec![at(FaultKind::Interrupted)],
        Class::Short if transfers => {
            vec![at(FaultKind::Short).on(Operation::Read), at(FaultKind::Short).on(Operation::Write)]
        }
        // What needs space: the log and the manifest take theirs beforehand.
        Class::DiskFull => {
            let needs = match call.operation {
                Operation::Allocate | Operation::CreateDir => true,
                Operation::Write => call.path.contains("run-") || call.path.contains("CURRENT"),
                _ => false,
            };
            let on = |operation, part: &str| at(FaultKind::DiskFull).on(operation).path_with(part);
            match needs {
                true => vec![
                    on(Operation::Allocate, ""),
                    on(Operation::CreateDir, ""),
                    on(Operation::Write, "run-"),
                    on(Operation::Write, "CURRENT"),
                ],
                false => Vec::new(),
            }
        }
        Class::Silent(kind) if transfers && !sticky => vec![at(kind)],
        // From there on the log keeps nothing, while all else is as it should be: what is missing in the end is its end.
        Class::Silent(FaultKind::Lost) if call.operation == Operation::Write && call.path.contains("wal-") => {
            vec![at(FaultKind::Lost).on(Operation::Write).path_with("wal-")]
        }
        Class::Short | Class::Silent(_) => Vec::new(),
    }
}

/// Whether a failure of the call is one of a write or sync that the database relies on. Old files that are not removed
/// are not.
fn is_write(call: &Call) -> bool {
    use Operation::{Allocate, Rename, Sync, SyncDir, Write};
    matches!(call.operation, Write | Sync | SyncDir | Rename | Allocate)
}

/// One run.
#[derive(Debug, Clone)]
struct Torment {
    workload: &'static str,
    seed: u64,
    class: Class,
    sticky: bool,
    call: Call,
}

impl Torment {
    fn describe(&self) -> String {
        let (class, sticky) = (self.class, if self.sticky { "sticky" } else { "once" });
        let Call { number, operation, path } = &self.call;
        format!("{}/{}/{class:?}/{sticky}/{number} ({operation:?} of {path})", self.workload, self.seed)
    }
}

fn says_what_and_where(error: &Error) -> std::result::Result<(), String> {
    let needs_place = matches!(error.kind(), ErrorKind::Io | ErrorKind::DiskFull);
    let placed = error.place().is_some() || error.message().contains("/db") || !needs_place;
    match placed && error.message().len() > 10 {
        true => Ok(()),
        false => Err(format!("an error that does not say where: {error}")),
    }
}

fn matches(found: &BTreeMap<String, model::Table>, allowed: &[State]) -> std::result::Result<(), String> {
    let differences: Vec<String> = allowed.iter().filter_map(|state| difference(found, state)).collect();
    match differences.len() < allowed.len() {
        true => Ok(()),
        false => Err(differences.join("\nor\n")),
    }
}

/// What the run knows of what must be there.
#[derive(Default)]
struct Known {
    acknowledged: Vec<Change>,
    /// All states there have been.
    states: Vec<State>,
    /// Commits that failed before writes were refused: nobody knows the fate of the one that met the log's failure.
    doubtful: Vec<Vec<Change>>,
    /// The disk as it was when the log rested, and what had been acknowledged.
    rested: Option<(SimDisk, State)>,
}

impl Known {
    fn state(&self) -> State {
        self.states.last().cloned().unwrap_or_default()
    }

    fn acknowledge(&mut self, changes: &[Change]) {
        let mut state = self.state();
        changes.iter().for_each(|change| model::apply(&mut state, change));
        self.acknowledged.extend_from_slice(changes);
        self.states.push(state);
    }

    /// The last state, and it with one of the commits in doubt.
    fn allowed(&self) -> Vec<State> {
        let state = self.state();
        let mut allowed = vec![state.clone()];
        for changes in &self.doubtful {
            let mut with = state.clone();
            // One that wants a table which was never made did not happen.
            if changes.iter().all(|change| model::try_apply(&mut with, change)) {
                allowed.push(with);
            }
        }
        allowed
    }
}

fn perform(db: &Db, step: &Step) -> Result<()> {
    match step {
        Step::Commit(changes) => model::commit(db, changes).map(drop),
        Step::Flush => db.flush(),
        Step::Compact => db.compact(None),
        Step::Rest => {
            thread::sleep(Duration::from_millis(130));
            Ok(())
        }
    }
}

/// The part with faults: what is known in the end, and whether the database was closed cleanly.
fn with_faults(torment: &Torment, disk: &SimDisk, io: &IoRef) -> std::result::Result<(Known, bool), String> {
    let mut known = Known::default();
    let silent = matches!(torment.class, Class::Silent(_));
    let harmless = matches!(torment.class, Class::Interrupted | Class::Short);
    let db = match Db::open(options(torment.workload, io)) {
        Ok(db) => db,
        Err(error) if harmless => return Err(format!("open: {error}")),
        Err(error) => {
            says_what_and_where(&error)?;
            return Ok((known, false));
        }
    };
    let fired_at_open = disk.faults_fired() > 0;
    let mut refused = false;
    for step in steps(torment.workload, torment.seed) {
        let outcome = perform(&db, &step);
        match (&outcome, &step) {
            (Ok(()), Step::Commit(_)) if refused => return Err("a write was taken after one had failed".to_owned()),
            (Ok(()), Step::Commit(changes)) => known.acknowledge(changes),
            (Ok(()), Step::Rest) if torment.workload == "runs" => known.rested = Some((disk.fork(), known.state())),
            (Ok(()), _) => {}
            (Err(error), _) if harmless => return Err(format!("{step:?}: {error}")),
            (Err(error), _) => {
                says_what_and_where(error)?;
                if let (Step::Commit(changes), false) = (&step, refused) {
                    match error.kind() {
                        // Nothing happened.
                        ErrorKind::DiskFull | ErrorKind::NoSuchTable | ErrorKind::TableExists => {}
                        _ => known.doubtful.push(changes.clone()),
                    }
                }
                // Reads may fail where the disk does not read; a failed write is final.
                let wrote = (torment.sticky || is_write(&torment.call)) && matches!(step, Step::Commit(_));
                refused |= error.kind() == ErrorKind::Poisoned || (error.kind() == ErrorKind::Io && wrote);
                if silent {
                    break;
                }
            }
        }
        match db.snapshot().and_then(|snapshot| read(&snapshot)) {
            Ok(found) => matches(&found, &[known.state()]).map_err(|lines| format!("a wrong read: {lines}"))?,
            Err(error) if torment.sticky && torment.class == Class::Io => says_what_and_where(&error)?,
            Err(error) if silent => says_what_and_where(&error)?,
            // A fault of one read, met by this one.
            Err(error) if torment.class == Class::Io && !refused => says_what_and_where(&error)?,
            Err(error) => return Err(format!("reads do not go on: {error}")),
        }
    }
    let fired = disk.faults_fired() > 0;
    if torment.class == Class::DiskFull {
        // There is space again.
        disk.clear_faults();
    }
    let mut extra = vec![Change::Put("t", 5000, torment.seed)];
    if !known.state().contains_key("t") {
        extra.insert(0, Change::Create("t", true));
    }
    match model::commit(&db, &extra) {
        Ok(_) if refused => return Err("a write was taken after one had failed".to_owned()),
        Ok(_) if torment.class == Class::Io && fired && !fired_at_open && is_write(&torment.call) => {
            return Err("a write or sync failed, and writes are still taken".to_owned());
        }
        Ok(_) => known.acknowledge(&extra),
        Err(error) if matches!(torment.class, Class::Io | Class::Silent(_)) => {
            says_what_and_where(&error)?;
            if !refused {
                known.doubtful.push(extra);
            }
        }
        Err(error) => return Err(format!("with space on the disk again: {error}")),
    }
    if torment.class == Class::DiskFull {
        db.flush().map_err(|error| format!("flush with space on the disk again: {error}"))?;
        let found = db.snapshot().and_then(|snapshot| read(&snapshot)).map_err(|error| error.to_string())?;
        matches(&found, &[known.state()])?;
    }
    let closed = db.close();
    if let (Err(error), true) = (&closed, harmless) {
        return Err(format!("close: {error}"));
    }
    Ok((known, closed.is_ok()))
}

/// Opens the disk without threads of the engine's own, and gives what it holds.
fn reopen(torment: &Torment, io: &IoRef) -> Result<BTreeMap<String, model::Table>> {
    let db = Db::open(Options { background: false, ..options(torment.workload, io) })?;
    let found = read(&db.snapshot()?)?;
    db.close()?;
    Ok(found)
}

fn run(torment: &Torment) -> std::result::Result<u64, String> {
    let simulation = Simulation::new(torment.seed, SimOptions { points_max: 5_000_000, ..SimOptions::default() });
    let disk = simulation.disk();
    for fault in faults(torment.class, &torment.call, torment.sticky) {
        disk.inject(fault);
    }
    let (inside, own) = (disk.clone(), torment.clone());
    let report = simulation.run(move |io| -> std::result::Result<(), String> {
        let (known, closed) = with_faults(&own, &inside, &io)?;
        inside.clear_faults();
        if let Some((rested, state)) =
            known.rested.as_ref().filter(|_| own.class == Class::Silent(FaultKind::Lost) && !own.sticky)
        {
            // One write of the log is lost; those after it prove that it was durable, before any edit of the manifest does.
            match reopen(&own, &rested.crash(Survivors::AllKept).io()) {
                Ok(found) => matches(&found, std::slice::from_ref(state))
                    .map_err(|lines| format!("the power failed while the log rested: {lines}"))?,
                Err(error) => says_what_and_where(&error)?,
            }
        }
        if let Class::Silent(_) = own.class {
            return match reopen(&own, &io) {
                Ok(found) if closed => matches(&found, &known.allowed()),
                // What no watermark and no edit of the manifest covers may be cut: the log's one documented case.
                Ok(found) => {
                    let all: Vec<State> =
                        [State::new()].into_iter().chain(known.states.clone()).chain(known.allowed()).collect();
                    matches(&found, &all)
                }
                Err(error) => says_what_and_where(&error),
            };
        }
        let allowed = known.allowed();
        for survivors in [Survivors::AllLost, Survivors::AllKept, Survivors::Random(own.call.number)] {
            let crashed = inside.fork().crash(survivors);
            let found =
                reopen(&own, &crashed.io()).map_err(|error| format!("after a crash, {survivors:?}: {error}"))?;
            matches(&found, &allowed).map_err(|lines| format!("after a crash, {survivors:?}: {lines}"))?;
        }
        let db = Db::open(options(own.workload, &io)).map_err(|error| format!("reopen: {error}"))?;
        let found = db.snapshot().and_then(|snapshot| read(&snapshot)).map_err(|error| format!("reopen: {error}"))?;
        matches(&found, &allowed).map_err(|lines| format!("reopened: {lines}"))?;
        // What was read once is there for good.
        let crashed = inside.fork().crash(Survivors::AllLost);
        let after = reopen(&own, &crashed.io()).map_err(|error| format!("opened, then crashed: {error}"))?;
        if after != found {
            return Err("what a reopened database had shown was gone after a crash".to_owned());
        }
        model::commit(&db, &[Change::Create("again", true)])
            .map_err(|error| format!("a write after reopening: {error}"))?;
        db.close().map_err(|error| format!("close after reopening: {error}"))
    });
    match report.outcome {
        Ok(outcome) => outcome.map(|()| disk.faults_fired()),
        Err(_) => Err(report.to_string()),
    }
}

/// The operations of the workload without faults.
fn calls(workload: &'static str, seed: u64) -> Vec<Call> {
    let simulation = Simulation::new(seed, SimOptions::default());
    let disk = simulation.disk();
    let calls = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&calls);
    disk.observe(move |moment| {
        let (number, operation) = (moment.number, moment.operation);
        seen.lock().unwrap().push(Call { number, operation, path: moment.path.display().to_string() });
    });
    let call = Call { number: u64::MAX, operation: Operation::Read, path: String::new() };
    let torment = Torment { workload, seed, class: Class::Io, sticky: false, call };
    let inside = disk.clone();
    let report = simulation.run(move |io| with_faults(&torment, &inside, &io).map(drop));
    report.outcome.unwrap_or_else(|failure| panic!("{failure:?}")).unwrap_or_else(|what| panic!("{workload}: {what}"));
    std::mem::take(&mut *calls.lock().unwrap())
}

fn fail(torment: &Torment, what: &str) -> String {
    let name = torment.describe();
    let replay = name.split(' ').next().unwrap_or_default();
    format!(
        "fault {name}: {what}\nto replay:\n    OMENDB_FAULT_REPLAY='{replay}' cargo test -p omendb-engine --test campaigns fault::"
    )
}

#[test]
fn faults_at_every_call_are_told_survived_and_healed() {
    let replay = std::env::var("OMENDB_FAULT_REPLAY").ok();
    let seed = crate::setting("OMENDB_FAULT_SEED", 1);
    let every = crate::setting("OMENDB_FAULT_EVERY", 1);
    let only = std::env::var("OMENDB_FAULT_ONLY").unwrap_or_default();
    let began = Instant::now();
    let mut torments = Vec::new();
    for workload in WORKLOADS {
        for call in calls(workload, seed) {
            for (class, sticky) in CLASSES.into_iter().flat_map(|class| [(class, false), (class, true)]) {
                let torment = Torment { workload, seed, class, sticky, call: call.clone() };
                let chosen = match &replay {
                    Some(wanted) => torment.describe().split(' ').next() == Some(wanted),
                    None => call.number % every == 0 && torment.describe().starts_with(&only),
                };
                if chosen && !faults(class, &call, sticky).is_empty() {
                    torments.push(torment);
                }
            }
        }
    }
    assert!(!torments.is_empty());
    let (next, fired) = (AtomicU64::new(0), AtomicU64::new(0));
    let failures: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..crate::setting("OMENDB_CAMPAIGN_THREADS", 2) {
            scope.spawn(|| {
                crate::stay_on_one_processor();
                while !stop.load(Ordering::SeqCst) {
                    let Some(torment) = torments.get(next.fetch_add(1, Ordering::SeqCst) as usize) else { return };
                    match run(torment) {
                        Ok(count) => drop(fired.fetch_add(u64::from(count > 0), Ordering::SeqCst)),
                        Err(what) => {
                            let mut failures = failures.lock().unwrap();
                            failures.push(fail(torment, &what));
                            stop.store(failures.len() >= 5, Ordering::SeqCst);
                        }
                    }
                }
            });
        }
    });
    let (runs, fired, seconds) = (torments.len(), fired.into_inner(), began.elapsed().as_secs_f64());
    writeln!(std::io::stderr(), "{runs} runs with faults, {fired} met one, in {seconds:.0} s").unwrap();
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(fired as usize * 10 > runs * 9, "{fired} of {runs} runs met their fault");
}
