/*!
The crash campaign: six workloads lose power after every operation of the disk.

A workload runs once to its end. At each operation the disk is forked, and the fork is crashed in at least eight ways: all
that was pending lost, all kept, and subsets at random, of sectors and of directory entries alike. Each distinct result is
opened and held against the history of commits: what was acknowledged is there, what is there is the history up to one
commit, and the database works on: a write, a read, a close, and a second look.

The recovery workload crashes in the same way while it opens what a first crash left.
*/

use crate::model::{self, Change, History, World, difference, read};
use crate::setting;
use crate::workloads::{self, ALL, Workload};
use omendb_engine::db::{Db, Options};
use omendb_engine::io::IoRef;
use omendb_engine::io::random::{Random, mix};
use omendb_engine::io::sim::{Operation, SimDisk, SimOptions, Simulation, Survivors};
use omendb_engine::types::Seq;
use std::any::Any;
use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Distinct crash states of an ordinary run; `OMENDB_CRASH_STATES` asks for another number.
const STATES: u64 = 100_000;

/// Random subsets at each operation: at least so many are drawn …
const SUBSETS_MIN: u64 = 6;

/// … and at most so many, as long as they go on to differ; `OMENDB_CRASH_SUBSETS` asks for another number.
const SUBSETS_MAX: u64 = 40;

/// A moment of a run.
struct Shot {
    moment: u64,
    acknowledged: Seq,
    /// Whether a released segment of the log becomes another one here.
    renames_segment: bool,
    disk: SimDisk,
}

/// What a run came to.
struct Observed {
    shots: Vec<Shot>,
    history: Arc<History>,
    counts: Counts,
}

/// What happened in runs.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    operations: u64,
    states: u64,
    flushes: u64,
    compactions: u64,
    segments: u64,
    /// Segments that were made of released ones.
    reused: u64,
    manifests: u64,
    runs: u64,
}

impl Counts {
    fn add(&mut self, other: Counts) {
        self.operations += other.operations;
        self.states += other.states;
        self.flushes += other.flushes;
        self.compactions += other.compactions;
        self.segments += other.segments;
        self.reused += other.reused;
        self.manifests += other.manifests;
        self.runs += other.runs;
    }
}

/// The number in the last name of this sort in the database's directory: how many files of the sort there have been.
fn highest(disk: &SimDisk, prefix: &str) -> u64 {
    let entries = disk.fork().io().list(Path::new("/db")).unwrap_or_default();
    let numbers = entries.iter().filter_map(|entry| {
        let digits: String = entry.name.strip_prefix(prefix)?.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    });
    numbers.max().unwrap_or(0)
}

/// Takes a fork at every operation of `disk`.
fn watch(disk: &SimDisk, world: &Arc<World>) -> Arc<Mutex<Vec<Shot>>> {
    let shots = Arc::new(Mutex::new(Vec::new()));
    let (taken, world) = (Arc::clone(&shots), Arc::clone(world));
    disk.observe(move |moment| {
        let renames_segment = moment.operation == Operation::Rename && moment.path.to_string_lossy().contains("wal-");
        let (acknowledged, disk) = (world.acknowledged(), moment.disk.fork());
        let shot = Shot { moment: moment.number, acknowledged, renames_segment, disk };
        taken.lock().unwrap().push(shot);
    });
    shots
}

fn observed(disk: &SimDisk, shots: &Mutex<Vec<Shot>>, world: &World) -> Observed {
    let mut shots = std::mem::take(&mut *shots.lock().unwrap());
    let operations = shots.len() as u64;
    let (acknowledged, disk_after) = (world.acknowledged(), disk.fork());
    shots.push(Shot { moment: operations + 1, acknowledged, renames_segment: false, disk: disk_after });
    let counts = Counts {
        operations,
        states: 0,
        flushes: world.flushes.load(Ordering::Relaxed),
        compactions: world.compactions.load(Ordering::Relaxed),
        segments: highest(disk, "wal-"),
        reused: shots.iter().map(|shot| u64::from(shot.renames_segment)).sum(),
        manifests: highest(disk, "manifest-"),
        runs: highest(disk, "run-"),
    };
    Observed { shots, history: Arc::new(world.history()), counts }
}

/// Runs a workload on an empty disk, and looks at every operation.
fn run(workload: Workload, seed: u64) -> Result<Observed, String> {
    let simulation = Simulation::new(seed, SimOptions::default());
    let disk = simulation.disk();
    let world = Arc::new(workload.world(seed));
    let shots = watch(&disk, &world);
    let inside = Arc::clone(&world);
    let report = simulation.run(move |io| workload.run(seed, &io, &inside));
    match report.outcome {
        Ok(Ok(())) => Ok(observed(&disk, &shots, &world)),
        Ok(Err(error)) => Err(format!("the run without a crash failed: {error}")),
        Err(_) => Err(report.to_string()),
    }
}

/// Runs a workload, crashes it somewhere, and looks at every operation of what opens the result.
fn run_recovery(seed: u64) -> Result<Observed, String> {
    let first = run(Workload::Recovery, seed)?;
    let mut random = Random::new(mix(seed));
    let shot = &first.shots[random.index(first.shots.len())];
    let disk = shot.disk.crash(Survivors::Random(random.next_u64()));
    let simulation = Simulation::on_disk(mix(seed), SimOptions::default(), disk);
    let disk = simulation.disk();
    let world = Arc::new(World::default());
    world.acknowledge(shot.acknowledged);
    let shots = watch(&disk, &world);
    let (inside, before) = (Arc::clone(&world), Arc::clone(&first.history));
    let report = simulation.run(move |io| {
        let db = Db::open(workloads::options(&io))?;
        let seq = db.snapshot()?.seq();
        inside.go_on(&before, seq);
        inside.acknowledge(seq);
        workloads::after_recovery(&db, &inside, &mut Random::new(seed))?;
        inside.count(&db);
        db.close()
    });
    match report.outcome {
        Ok(Ok(())) => {
            let mut observed = observed(&disk, &shots, &world);
            observed.counts.flushes += first.counts.flushes;
            observed.counts.compactions += first.counts.compactions;
            Ok(observed)
        }
        Ok(Err(error)) => Err(format!("the first recovery failed: {error}")),
        Err(_) => Err(report.to_string()),
    }
}

fn observe(workload: Workload, seed: u64) -> Result<Observed, String> {
    match workload {
        Workload::Recovery => run_recovery(seed),
        _ => run(workload, seed),
    }
}

/// What a crash state is held against.
#[derive(Clone)]
struct Expected {
    history: Arc<History>,
    acknowledged: Seq,
    /// Commits came back before they were durable.
    lazy: bool,
}

/// Opens what a crash left, and holds it against the history. Most are looked at on this thread alone, which is fast; one in
/// 16 with the engine's own threads about, in a simulation.
fn check(disk: &SimDisk, expected: &Expected, seed: u64) -> Result<(), String> {
    if !seed.is_multiple_of(16) {
        let look = || look(&disk.io(), expected, seed, false);
        return catch_unwind(AssertUnwindSafe(look)).unwrap_or_else(|panic| Err(format!("a panic: {}", said(&*panic))));
    }
    let options = SimOptions { points_max: 1_000_000, ..SimOptions::default() };
    let expected = expected.clone();
    let report = Simulation::on_disk(seed, options, disk.clone()).run(move |io| look(&io, &expected, seed, true));
    match report.outcome {
        Ok(outcome) => outcome,
        Err(_) => Err(report.to_string()),
    }
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default()
}

fn look(io: &IoRef, expected: &Expected, seed: u64, background: bool) -> Result<(), String> {
    let failed = |what: &'static str| move |error: omendb_engine::Error| format!("{what}: {error}");
    let Expected { history, acknowledged, lazy } = expected;
    let open = || Db::open(Options { background, ..workloads::options(io) });
    let db = open().map_err(failed("open"))?;
    let snapshot = db.snapshot().map_err(failed("snapshot"))?;
    let seq = snapshot.seq();
    if seq < *acknowledged {
        return Err(format!("commits up to {acknowledged} were acknowledged; there are those up to {seq}"));
    }
    let found = read(&snapshot).map_err(failed("read"))?;
    // The number may run ahead where commits come back before they are durable.
    let earlier = history.between(*acknowledged, seq).find(|state| *lazy && difference(&found, state).is_none());
    let mut expect = earlier.unwrap_or_else(|| history.at(seq)).clone();
    if let Some(lines) = difference(&found, &expect) {
        return Err(format!("after commit {seq} (acknowledged {acknowledged}):\n{lines}"));
    }
    drop(snapshot);
    let tag = seed >> 2 | 3;
    let mut changes = vec![Change::Put("t", 7777, tag)];
    if !expect.contains_key("t") {
        changes.insert(0, Change::Create("t", true));
    }
    if expect.contains_key("h") {
        changes.push(Change::Append("h", tag));
    }
    let wrote = model::commit(&db, &changes).map_err(failed("write"))?;
    if wrote <= seq {
        return Err(format!("commit {wrote} follows commit {seq}"));
    }
    changes.iter().for_each(|change| model::apply(&mut expect, change));
    let snapshot = db.snapshot().map_err(failed("snapshot"))?;
    let table = snapshot.table("t").map_err(failed("table"))?.ok_or("table t is missing")?;
    let got = model::get(&snapshot, &table, 7777).map_err(failed("get"))?;
    if got != Some(tag) {
        return Err(format!("the row just written reads as {got:?}"));
    }
    drop(snapshot);
    if (seed / 16).is_multiple_of(16) {
        db.compact(None).map_err(failed("compact"))?;
    }
    db.close().map_err(failed("close"))?;
    let db = open().map_err(failed("second open"))?;
    let found = db.snapshot().and_then(|snapshot| read(&snapshot)).map_err(failed("second read"))?;
    if let Some(lines) = difference(&found, &expect) {
        return Err(format!("at the second open, after commit {wrote}:\n{lines}"));
    }
    db.close().map_err(failed("second close"))
}

fn describe(survivors: Survivors) -> String {
    match survivors {
        Survivors::AllLost => "lost".to_owned(),
        Survivors::AllKept => "kept".to_owned(),
        Survivors::Random(seed) => seed.to_string(),
    }
}

fn failure(workload: Workload, seed: u64, moment: u64, survivors: Survivors, what: &str) -> String {
    let state = format!("{}/{seed}/{moment}/{}", workload.name(), describe(survivors));
    format!(
        "crash state {state}: {what}\nto replay:\n    OMENDB_CRASH_REPLAY={state} cargo test -p omendb-engine --test \
         campaigns crash::"
    )
}

/// The seed of a check, so that a replay runs the very same.
fn check_seed(moment: u64, survivors: Survivors) -> u64 {
    match survivors {
        Survivors::AllLost => mix(moment),
        Survivors::AllKept => mix(moment ^ 1 << 40),
        Survivors::Random(seed) => mix(seed),
    }
}

/// All crash states of one run.
fn crash_everywhere(workload: Workload, seed: u64, distinct: &Mutex<HashSet<u64>>) -> Result<Counts, String> {
    let mut observed =
        observe(workload, seed).map_err(|what| format!("{} with seed {seed}: {what}", workload.name()))?;
    let mut checked: HashSet<(u64, Seq)> = HashSet::new();
    let subsets_max = setting("OMENDB_CRASH_SUBSETS", SUBSETS_MAX);
    for shot in &observed.shots {
        let mut try_one = |survivors: Survivors| -> Result<bool, String> {
            let crashed = shot.disk.fork().crash(survivors);
            let print = crashed.fingerprint();
            distinct.lock().unwrap().insert(print);
            if !checked.insert((print, shot.acknowledged)) {
                return Ok(false);
            }
            observed.counts.states += 1;
            let (history, acknowledged) = (Arc::clone(&observed.history), shot.acknowledged);
            let expected = Expected { history, acknowledged, lazy: workload.is_lazy(seed) };
            check(&crashed, &expected, check_seed(shot.moment, survivors))
                .map_err(|what| failure(workload, seed, shot.moment, survivors, &what))?;
            Ok(true)
        };
        try_one(Survivors::AllLost)?;
        try_one(Survivors::AllKept)?;
        let mut random = Random::new(mix(seed ^ shot.moment << 20));
        let mut known = 0;
        for drawn in 0..subsets_max {
            known += u64::from(!try_one(Survivors::Random(random.next_u64()))?);
            if drawn + 1 >= SUBSETS_MIN && known * 2 > drawn {
                break;
            }
        }
    }
    Ok(observed.counts)
}

fn replay(state: &str) {
    let parts: Vec<&str> = state.split('/').collect();
    let [workload, seed, moment, survivors] = parts.as_slice() else { panic!("OMENDB_CRASH_REPLAY={state}") };
    let (workload, seed) = (Workload::named(workload), seed.parse().unwrap());
    let moment: u64 = moment.parse().unwrap();
    let survivors = match *survivors {
        "lost" => Survivors::AllLost,
        "kept" => Survivors::AllKept,
        seed => Survivors::Random(seed.parse().unwrap()),
    };
    let observed = observe(workload, seed).unwrap_or_else(|what| panic!("{what}"));
    let shot = observed.shots.iter().find(|shot| shot.moment == moment).expect("no such operation");
    let crashed = shot.disk.fork().crash(survivors);
    for entry in crashed.fork().io().list(Path::new("/db")).unwrap_or_default() {
        eprintln!("{:>10}  {}", entry.len, entry.name);
    }
    let (history, acknowledged) = (Arc::clone(&observed.history), shot.acknowledged);
    let expected = Expected { history, acknowledged, lazy: workload.is_lazy(seed) };
    if let Err(what) = check(&crashed, &expected, check_seed(moment, survivors)) {
        panic!("{}", failure(workload, seed, moment, survivors, &what));
    }
}

#[test]
fn crash_states_recover_to_a_prefix_of_history() {
    if let Ok(state) = std::env::var("OMENDB_CRASH_REPLAY") {
        return replay(&state);
    }
    let only = std::env::var("OMENDB_CRASH_ONLY").unwrap_or_default();
    let chosen: Vec<Workload> = ALL.into_iter().filter(|workload| only.is_empty() || workload.name() == only).collect();
    assert!(!chosen.is_empty(), "OMENDB_CRASH_ONLY={only}");
    let wanted = setting("OMENDB_CRASH_STATES", STATES);
    let first_seed = setting("OMENDB_CRASH_SEED", 1);
    let began = Instant::now();
    let distinct = Mutex::new(HashSet::new());
    let failed: Mutex<Option<String>> = Mutex::new(None);
    let totals: Mutex<BTreeMap<&str, Counts>> = Mutex::new(BTreeMap::new());
    let (next, told) = (AtomicU64::new(0), AtomicU64::new(0));
    let is_done = || distinct.lock().unwrap().len() as u64 >= wanted || failed.lock().unwrap().is_some();
    let work = || {
        let kinds = chosen.len() as u64;
        loop {
            let job = next.fetch_add(1, Ordering::SeqCst);
            // Every workload at least once, however few states are wanted.
            if is_done() && (job >= kinds || failed.lock().unwrap().is_some()) {
                return;
            }
            let workload = chosen[(job % kinds) as usize];
            match crash_everywhere(workload, first_seed + job / kinds, &distinct) {
                Ok(counts) => totals.lock().unwrap().entry(workload.name()).or_default().add(counts),
                Err(what) => drop(failed.lock().unwrap().get_or_insert(what)),
            }
            let states = distinct.lock().unwrap().len() as u64;
            if told.fetch_max(states / STATES, Ordering::SeqCst) < states / STATES {
                writeln!(std::io::stderr(), "{states} distinct crash states, {:.0?}", began.elapsed()).unwrap();
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..setting("OMENDB_CAMPAIGN_THREADS", 2) {
            scope.spawn(work);
        }
    });
    if let Some(what) = failed.into_inner().unwrap() {
        panic!("{what}");
    }
    let (totals, distinct) = (totals.into_inner().unwrap(), distinct.into_inner().unwrap().len());
    let mut all = Counts::default();
    for (name, counts) in &totals {
        writeln!(std::io::stderr(), "{name}: {counts:?}").unwrap();
        all.add(*counts);
    }
    let seconds = began.elapsed().as_secs_f64();
    writeln!(std::io::stderr(), "{distinct} distinct crash states in {seconds:.0} s").unwrap();
    assert!(distinct as u64 >= wanted);
    assert_eq!(totals.len(), chosen.len());
    if only.is_empty() {
        assert!(all.flushes > 0 && all.compactions > 0 && all.segments > 10 && all.reused > 10);
        assert!(all.manifests > 10 && all.runs > 10);
    }
}
