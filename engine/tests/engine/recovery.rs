/*!
Crashes, failed writes and full disks: what was acknowledged is there, the rest is whole or absent, and nothing is wrong.
*/

use crate::support::*;
use omendb_engine::db::{Db, Expectation, OnConflict, Options, Row, SyncMode, WriteKind};
use omendb_engine::io::sim::{Fault, FaultKind, Operation, SimDisk, SimOptions, Simulation, Survivors};
use omendb_engine::io::{IoRef, thread};
use omendb_engine::types::{ColumnType, TableDef, Value};
use omendb_engine::{ErrorKind, Result};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn options(io: &IoRef) -> Options {
    Options {
        dir: Some("/db".into()),
        io: Some(Arc::clone(io)),
        memtable_bytes: 1 << 10,
        log_segment_bytes: 16 << 10,
        threads: 1,
        ..Options::memory()
    }
}

/// What the tables `t` (keys and values) and `h` (no key) hold.
type State = (BTreeMap<i64, i64>, Vec<i64>);

#[derive(Clone, Copy)]
enum Step {
    CreateTables,
    Put(i64, i64),
    Delete(i64),
    Append(i64),
    Load(i64),
    Large(i64),
    Flush,
    Compact,
    Truncate,
}

fn steps() -> Vec<Step> {
    let mut steps = vec![Step::CreateTables];
    for round in 0..4 {
        steps.extend((0..6).map(|k| Step::Put(k * 3 + round, round)));
        steps.extend([Step::Delete(round * 3), Step::Append(round), Step::Load(round), Step::Append(10 + round)]);
        steps.extend([Step::Put(1000 + round * 50, -1), Step::Flush, Step::Large(round), Step::Put(2000 + round, -2)]);
    }
    steps.extend([Step::Compact, Step::Truncate, Step::Append(99), Step::Put(1, 1)]);
    steps
}

fn loaded(round: i64) -> Vec<(i64, i64)> {
    (0..120).map(|i| (1000 + round * 50 + i * 7 % 120, round)).collect()
}

fn large(round: i64) -> Vec<(i64, i64)> {
    (0..200).map(|i| (2000 + i, round)).collect()
}

fn apply(state: &mut State, step: Step) {
    match step {
        Step::Put(k, v) => drop(state.0.insert(k, v)),
        Step::Delete(k) => drop(state.0.remove(&k)),
        Step::Append(v) => state.1.push(v),
        Step::Load(round) => state.0.extend(loaded(round)),
        Step::Large(round) => state.0.extend(large(round)),
        Step::Truncate => state.1.clear(),
        Step::CreateTables | Step::Flush | Step::Compact => {}
    }
}

fn table(db: &Db, name: &str) -> Option<Arc<TableDef>> {
    db.snapshot().unwrap().table(name).unwrap()
}

fn perform(db: &Db, step: Step) -> Result<()> {
    let t = || table(db, "t").unwrap();
    let h = || table(db, "h").unwrap();
    match step {
        Step::CreateTables => {
            let mut txn = db.begin()?;
            txn.create_table(new_table("t", &[("k", ColumnType::Int64), ("v", ColumnType::Int64)], &["k"]))?;
            txn.create_table(new_table("h", &[("v", ColumnType::Int64)], &[]))?;
            txn.commit().map(drop)
        }
        Step::Put(k, v) => try_put(db, &t(), &ints(&[(k, v)]), Expectation::None).map(drop),
        Step::Delete(k) => try_delete(db, &t(), &[vec![Value::Int(k)]], Expectation::None).map(drop),
        Step::Append(v) => try_put(db, &h(), &[vec![Value::Int(v)]], Expectation::None).map(drop),
        Step::Load(round) => {
            let t = t();
            let columns = t.column_ids();
            let mut txn = db.begin()?;
            let mut ingest = txn.ingest(&t, OnConflict::Replace, 1 << 20)?;
            ingest.write(&columns, &batch(&t, &columns, &ints(&loaded(round))))?;
            ingest.finish()?;
            txn.commit().map(drop)
        }
        // More than a memtable: staged.
        Step::Large(round) => try_put(db, &t(), &ints(&large(round)), Expectation::None).map(drop),
        Step::Flush => db.flush(),
        Step::Compact => db.compact(None),
        Step::Truncate => {
            let mut txn = db.begin()?;
            txn.truncate(h().id)?;
            txn.commit().map(drop)
        }
    }
}

/// Runs the steps until one fails, and counts those that were acknowledged.
fn work(io: &IoRef, done: &AtomicUsize) -> Result<()> {
    let db = Db::open(options(io))?;
    for step in steps() {
        perform(&db, step)?;
        done.fetch_add(1, Ordering::SeqCst);
    }
    db.close()
}

fn read(db: &Db) -> Option<State> {
    let int = |value: &Value| match value {
        Value::Int(v) => *v,
        other => panic!("{other:?}"),
    };
    let (t, h) = (table(db, "t")?, table(db, "h")?);
    let t = all(db, &t).iter().map(|row| (int(&row[0]), int(&row[1]))).collect();
    let h = all(db, &h).iter().map(|row| int(&row[0])).collect();
    Some((t, h))
}

/// The state after each number of steps; `None` where there are no tables yet.
fn history() -> Vec<Option<State>> {
    let mut state = State::default();
    let mut history = vec![None];
    for step in steps() {
        apply(&mut state, step);
        history.push(Some(state.clone()));
    }
    history
}

/// Opens what a crash left, twice: recovery must not lose anything either. And it must take writes.
fn reopen(disk: SimDisk, seed: u64, acknowledged: usize, moment: u64) {
    let history = history();
    let now = history[acknowledged].clone();
    let next = history.get(acknowledged + 1).cloned().unwrap_or_else(|| now.clone());
    let report = Simulation::on_disk(seed, SimOptions::default(), disk).run(move |io| {
        let db = Db::open(options(&io)).unwrap();
        let first = read(&db);
        assert!(
            first == now || first == next,
            "moment {moment}: {acknowledged} acknowledged\n{first:?}\n{now:?}\n{next:?}"
        );
        db.close().unwrap();
        let db = Db::open(options(&io)).unwrap();
        assert_eq!(read(&db), first, "moment {moment}");
        if let Some(mut expect) = first {
            perform(&db, Step::Put(77, 77)).unwrap();
            perform(&db, Step::Append(77)).unwrap();
            expect.0.insert(77, 77);
            expect.1.push(77);
            assert_eq!(read(&db), Some(expect), "moment {moment}");
        }
        db.compact(None).unwrap();
        db.close().unwrap();
    });
    assert!(report.outcome.is_ok(), "moment {moment}: {report}");
}

fn crash_at(seed: u64, moment: u64, survivors: Survivors) -> bool {
    let simulation = Simulation::new(seed, SimOptions::default());
    let disk = simulation.disk();
    disk.power_off_at(moment, survivors);
    let done = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&done);
    let report = simulation.run(move |io| work(&io, &count).is_ok());
    let ended = report.outcome.unwrap_or_else(|failure| panic!("seed {seed}, moment {moment}: {failure:?}"));
    if let Some(survived) = disk.survived() {
        reopen(survived, seed + moment, done.load(Ordering::SeqCst), moment);
    }
    ended
}

#[test]
fn acknowledged_commits_survive_a_crash_at_every_operation() {
    let simulation = Simulation::new(5, SimOptions::default());
    let disk = simulation.disk();
    let done = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&done);
    assert!(simulation.run(move |io| work(&io, &count).is_ok()).outcome.unwrap());
    assert_eq!(done.load(Ordering::SeqCst), steps().len());
    let operations = disk.operations();
    assert!(operations > 300, "{operations}");
    // Each moment once, with one of three ways to fail; a campaign of all ways is the tests crate's.
    for moment in 1..=operations {
        let survivors = match moment % 3 {
            0 => Survivors::AllLost,
            1 => Survivors::AllKept,
            _ => Survivors::Random(moment),
        };
        crash_at(5, moment, survivors);
    }
}

#[test]
fn simulated_threads_lose_no_update() {
    for seed in 0..12 {
        let report = Simulation::new(seed, SimOptions::default()).run(|io| {
            let db = Db::open(options(&io)).unwrap();
            let t = create_kv(&db, "t");
            put(&db, &t, &ints(&[(0, 0)]));
            let conflicts = Arc::new(Mutex::new(0));
            let workers: Vec<_> = (0..3)
                .map(|worker| {
                    let (db, t, conflicts) = (db.clone(), Arc::clone(&t), Arc::clone(&conflicts));
                    thread::spawn(&format!("worker-{worker}"), move || {
                        let mut done = 0;
                        while done < 12 {
                            let snapshot = db.snapshot().unwrap();
                            let mut row = Row::numbered();
                            assert!(snapshot.get(&t, &key(&t, &[Value::Int(0)]), &t.column_ids(), &mut row).unwrap());
                            let Value::Int(now) = row.values[1] else { panic!() };
                            let mine = ints(&[(0, now + 1)]);
                            match try_put(&db, &t, &mine, Expectation::Unchanged(&[row.seq.unwrap()])) {
                                Ok(_) => done += 1,
                                Err(error) if error.kind() == ErrorKind::WriteConflict => {
                                    *conflicts.lock().unwrap() += 1
                                }
                                Err(error) => panic!("{error}"),
                            }
                            put(&db, &t, &ints(&[(100 + worker * 100 + done, done)]));
                            if done == 6 {
                                db.flush().unwrap();
                            }
                        }
                    })
                    .unwrap()
                })
                .collect();
            workers.into_iter().for_each(|worker| worker.join().unwrap());
            db.compact(None).unwrap();
            assert_eq!(value_of(&db, &t, 0), Some(36));
            db.close().unwrap();
            let db = Db::open(options(&io)).unwrap();
            assert_eq!(value_of(&db, &t, 0), Some(36));
        });
        assert!(report.outcome.is_ok(), "{report}");
    }
}

#[test]
fn after_a_failed_sync_reads_go_on_and_writes_are_refused() {
    let disk = SimDisk::new(3);
    let io = disk.io();
    let db = Db::open(options(&io)).unwrap();
    let t = create_kv(&db, "t");
    put(&db, &t, &ints(&[(1, 1)]));
    disk.inject(Fault::new(FaultKind::Io).on(Operation::Sync).path_with("wal-"));
    assert!(try_put(&db, &t, &ints(&[(2, 2)]), Expectation::None).is_err());
    let refused = try_put(&db, &t, &ints(&[(3, 3)]), Expectation::None).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Poisoned);
    assert_eq!(db.flush().unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(all(&db, &t), ints(&[(1, 1)]), "what was not acknowledged is not seen");
    drop(db);
    let db = Db::open(options(&io)).unwrap();
    let rows = all(&db, &t);
    assert!(rows == ints(&[(1, 1)]) || rows == ints(&[(1, 1), (2, 2)]), "{rows:?}");
    put(&db, &t, &ints(&[(3, 3)]));
}

/// Found by simulation 45: a commit that came back before it was durable was gone after a close that had said nothing.
#[test]
fn a_close_says_that_acknowledged_commits_never_became_durable() {
    for (sync, says_so) in
        [(SyncMode::Always, false), (SyncMode::Interval(Duration::from_secs(60)), true), (SyncMode::None, true)]
    {
        let disk = SimDisk::new(3);
        let io = disk.io();
        let db = Db::open(Options { sync, background: false, ..options(&io) }).unwrap();
        let t = create_kv(&db, "t");
        db.flush().unwrap();
        put(&db, &t, &ints(&[(1, 1)]));
        disk.inject(Fault::new(FaultKind::Io).on(Operation::Sync).path_with("wal-"));
        // In the background, or by somebody else: nobody tells the writer of the row.
        if says_so {
            assert_eq!(db.flush().unwrap_err().kind(), ErrorKind::Io);
        } else {
            assert!(try_put(&db, &t, &ints(&[(2, 2)]), Expectation::None).is_err());
        }
        disk.clear_faults();
        match db.close() {
            Err(error) => assert!(says_so && error.kind() == ErrorKind::Poisoned, "{error}"),
            Ok(()) => assert!(!says_so, "{sync:?}"),
        }
    }
}

#[test]
fn a_full_disk_heals_by_itself() {
    let disk = SimDisk::new(4);
    let io = disk.io();
    let db = Db::open(Options { log_segment_bytes: 16 << 10, memtable_bytes: 1 << 20, ..options(&io) }).unwrap();
    let t = create_kv(&db, "t");
    for kind in [Operation::Allocate, Operation::Write] {
        disk.inject(Fault::new(FaultKind::DiskFull).on(kind).path_with("wal-").sticky());
        disk.inject(Fault::new(FaultKind::DiskFull).on(kind).path_with("run-").sticky());
        if kind == Operation::Allocate {
            let full = (0..500).find_map(|k| try_put(&db, &t, &ints(&[(k, k)]), Expectation::None).err());
            assert_eq!(full.unwrap().kind(), ErrorKind::DiskFull);
            disk.clear_faults();
        } else {
            disk.clear_faults();
            disk.inject(Fault::new(FaultKind::DiskFull).on(kind).path_with("run-").sticky());
            let columns = t.column_ids();
            let mut txn = db.begin().unwrap();
            let mut ingest = txn.ingest(&t, OnConflict::Replace, 1 << 20).unwrap();
            ingest.write(&columns, &batch(&t, &columns, &ints(&[(9000, 1)]))).unwrap();
            assert_eq!(ingest.finish().unwrap_err().kind(), ErrorKind::DiskFull);
            drop(txn);
            disk.clear_faults();
        }
        put(&db, &t, &ints(&[(1000, 1)]));
        assert_eq!(value_of(&db, &t, 1000), Some(1));
        assert_eq!(value_of(&db, &t, 9000), None);
    }
}

/// Found by the fault campaign: a look at the transaction's own rows staged them, failed, and lost them.
#[test]
fn a_transaction_whose_rows_could_not_be_staged_does_not_commit_without_them() {
    let disk = SimDisk::new(6);
    let io = disk.io();
    let db = Db::open(options(&io)).unwrap();
    let t = create_kv(&db, "t");
    let columns = t.column_ids();
    let mut txn = db.begin().unwrap();
    txn.write(&t, WriteKind::Put, &columns, &batch(&t, &columns, &ints(&large(0))), Expectation::None).unwrap();
    disk.inject(Fault::new(FaultKind::DiskFull).on(Operation::Write).path_with("run-").sticky());
    drop(txn.snapshot());
    disk.clear_faults();
    assert_eq!(txn.commit().unwrap_err().kind(), ErrorKind::DiskFull);
    assert!(all(&db, &t).is_empty());
    put(&db, &t, &ints(&[(1, 1)]));
}

/// Found by the fault campaign: the commit stood, and its caller was told that nothing had happened.
#[test]
fn a_drop_that_is_durable_is_not_refused_for_want_of_space() {
    let disk = SimDisk::new(7);
    let io = disk.io();
    let db = Db::open(options(&io)).unwrap();
    let t = create_kv(&db, "t");
    put(&db, &t, &ints(&[(1, 1)]));
    disk.inject(Fault::new(FaultKind::DiskFull).on(Operation::Allocate).path_with("manifest-").sticky());
    let mut txn = db.begin().unwrap();
    txn.drop_table(t.id).unwrap();
    txn.commit().unwrap();
    disk.clear_faults();
    assert!(table(&db, "t").is_none());
    db.close().unwrap();
    let db = Db::open(options(&io)).unwrap();
    assert!(table(&db, "t").is_none());
}

/// Found by the fault campaign: the flush came back with an error, and the next commit was taken.
#[test]
fn after_a_run_could_not_be_written_writes_are_refused() {
    let disk = SimDisk::new(8);
    let io = disk.io();
    let db = Db::open(Options { background: false, ..options(&io) }).unwrap();
    let t = create_kv(&db, "t");
    put(&db, &t, &ints(&[(1, 1)]));
    disk.inject(Fault::new(FaultKind::Io).on(Operation::Sync).path_with("run-"));
    assert_eq!(db.flush().unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(try_put(&db, &t, &ints(&[(2, 2)]), Expectation::None).unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(all(&db, &t), ints(&[(1, 1)]));
}
