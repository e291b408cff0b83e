use super::*;
use crate::error::ErrorKind;
use crate::io::sync::{Condvar, Mutex, OnceCell, RwLock};
use crate::io::{Buffer, EntryKind, Io, Op, OpenMode, channel, conformance, thread};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn simulate<T: Send + 'static>(seed: u64, program: impl FnOnce(IoRef) -> T + Send + 'static) -> Report<T> {
    Simulation::new(seed, SimOptions::default()).run(program)
}

fn path(text: &str) -> &Path {
    Path::new(text)
}

/// Writes `bytes` to a new file and syncs them, but not the directory.
fn create(io: &IoRef, name: &str, bytes: &[u8]) {
    let file = io.open(path(name), OpenMode::Create).unwrap();
    file.write_all_at(0, Buffer::from_slice(bytes)).unwrap();
    file.sync_data().unwrap();
}

fn read(disk: &SimDisk, name: &str) -> Option<Vec<u8>> {
    let file = disk.io().open(path(name), OpenMode::Read).ok()?;
    Some(file.read_at(0, 1 << 20).unwrap().to_vec())
}

/// Two threads read a counter, then write it back one higher: an update is lost if they alternate.
fn lost_update(seed: u64) -> Report<u64> {
    simulate(seed, |_io| {
        let counter = Arc::new(Mutex::new(0));
        let add = |counter: Arc<Mutex<u64>>| {
            move || {
                let seen = *counter.lock();
                *counter.lock() = seen + 1;
            }
        };
        let threads = [0, 1].map(|_| thread::spawn("adder", add(Arc::clone(&counter))).unwrap());
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let total = counter.lock();
        *total
    })
}

#[test]
fn the_simulated_disk_keeps_every_back_ends_promises() {
    for seed in 0..5 {
        let run = || simulate(seed, |io| conformance::check_all(&io, Path::new("/")));
        let report = run();
        assert!(report.outcome.is_ok(), "{report}");
        assert_eq!((report.trace, report.elapsed), {
            let again = run();
            (again.trace, again.elapsed)
        });
    }
    conformance::check_all(&SimDisk::new(1).io(), Path::new("/"));
}

#[test]
fn equal_seeds_give_equal_traces_and_different_seeds_different_orders() {
    let outcome = |seed| {
        let report = lost_update(seed);
        (report.trace, report.points, report.elapsed, report.outcome.unwrap())
    };
    let runs: Vec<_> = (0..40).map(outcome).collect();
    assert_eq!(runs, (0..40).map(outcome).collect::<Vec<_>>());
    let totals: BTreeSet<u64> = runs.iter().map(|run| run.3).collect();
    assert_eq!(totals, BTreeSet::from([1, 2]), "both the race and its absence are found");
    assert!(runs.iter().map(|run| run.0).collect::<BTreeSet<_>>().len() > 10);
}

#[test]
fn a_deadlock_is_reported_with_who_waits_for_what() {
    let run = |seed| {
        simulate(seed, |_io| {
            let (a, b) = (Arc::new(Mutex::new(())), Arc::new(Mutex::new(())));
            let (a2, b2) = (Arc::clone(&a), Arc::clone(&b));
            let other = thread::spawn("other", move || {
                let _b = b2.lock();
                let _a = a2.lock();
            })
            .unwrap();
            {
                let _a = a.lock();
                let _b = b.lock();
            }
            other.join().unwrap();
        })
    };
    let mut deadlocks = 0;
    for seed in 0..60 {
        let report = run(seed);
        match &report.outcome {
            Ok(()) => assert!(report.threads_left.is_empty()),
            Err(Failure::Deadlock(waits)) => {
                deadlocks += 1;
                assert!(waits.contains("thread main waits for a lock"), "{waits}");
                assert!(waits.contains("thread other waits for a lock"), "{waits}");
                assert_eq!(report.threads_left, ["main", "other"]);
            }
            Err(failure) => panic!("{failure:?}"),
        }
    }
    assert!((1..60).contains(&deadlocks), "{deadlocks} of 60");
}

#[test]
fn a_wait_that_nobody_ends_is_a_deadlock_too() {
    let report = simulate(1, |_io| {
        let (sender, receiver) = channel::bounded::<()>(1);
        drop(sender);
        receiver.recv()
    });
    assert_eq!(report.outcome, Ok(None), "no sender is left");
    let report = simulate(1, |_io| {
        let (_sender, receiver) = channel::bounded::<()>(1);
        receiver.recv()
    });
    assert!(matches!(report.outcome, Err(Failure::Deadlock(_))));
    assert!(report.into_result().unwrap_err().to_string().contains("seed 1"));
    assert!(matches!(simulate(1, |_io| thread::park()).outcome, Err(Failure::Deadlock(_))));
}

#[test]
fn virtual_time_passes_without_waiting() {
    let day = Duration::from_secs(86_400);
    let report = simulate(3, move |io| {
        let (start, wall) = (io.monotonic_nanos(), io.unix_micros());
        let sleeper = thread::spawn("sleeper", move || thread::sleep(day * 2)).unwrap();
        thread::sleep(day);
        assert!(!sleeper.is_finished());
        let lock = Mutex::new(());
        assert!(Condvar::new().wait_timeout(lock.lock(), day / 2).1);
        thread::park_timeout(day / 4);
        sleeper.join().unwrap();
        assert!(io.unix_micros() - wall >= 2 * 86_400_000_000);
        io.monotonic_nanos() - start
    });
    assert!(report.elapsed >= day * 2 && report.elapsed < day * 2 + Duration::from_secs(1));
    assert!(u128::from(report.outcome.unwrap()) >= (day * 2).as_nanos());
}

#[test]
fn a_thread_that_polls_the_clock_gets_somewhere_and_an_endless_one_is_given_up() {
    let report = simulate(1, |io| {
        let end = io.monotonic_nanos() + 1_000_000;
        while io.monotonic_nanos() < end {
            thread::yield_now();
        }
    });
    assert!(report.outcome.is_ok());
    let options = SimOptions { points_max: 1_000, ..SimOptions::default() };
    let endless = |_io| loop {
        thread::yield_now();
    };
    let report: Report<()> = Simulation::new(1, options).run(endless);
    assert_eq!(report.outcome, Err(Failure::Endless));
}

#[test]
fn channels_deliver_each_message_once_and_in_order_under_every_order() {
    for seed in 0..30 {
        let report = simulate(seed, |_io| {
            let (sender, receiver) = channel::bounded(2);
            let senders = [0u32, 1].map(|from| {
                let sender = sender.clone();
                thread::spawn("sender", move || (0..10).for_each(|n| sender.send((from, n)).unwrap())).unwrap()
            });
            drop(sender);
            let got: Vec<(u32, u32)> = receiver.collect();
            senders.into_iter().for_each(|sender| sender.join().unwrap());
            got
        });
        let got = report.outcome.unwrap();
        for from in [0, 1] {
            let order: Vec<u32> = got.iter().filter(|message| message.0 == from).map(|message| message.1).collect();
            assert_eq!(order, (0..10).collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_channel_without_its_other_end_says_so() {
    let (sender, receiver) = channel::bounded(1);
    assert_eq!(sender.try_send(1), Ok(()));
    assert_eq!(sender.try_send(2), Err(channel::TrySendError::Full(2)));
    assert_eq!((receiver.len(), receiver.try_recv()), (1, Ok(1)));
    assert_eq!(receiver.try_recv(), Err(channel::ReceiveError::Empty));
    assert_eq!(receiver.recv_timeout(Duration::ZERO), Err(channel::ReceiveError::Empty));
    drop(receiver);
    assert_eq!(sender.send(3), Err(channel::Disconnected(3)));
    let (sender, receiver) = channel::unbounded::<u8>();
    drop(sender);
    assert_eq!(receiver.recv_timeout(Duration::ZERO), Err(channel::ReceiveError::Disconnected));
}

#[test]
fn locks_exclude_and_a_cell_is_made_once_under_every_order() {
    for seed in 0..30 {
        let report = simulate(seed, |_io| {
            let shared = Arc::new((RwLock::new((0, 0)), OnceCell::new(), AtomicUsize::new(0)));
            let threads = [0, 1, 2].map(|n| {
                let shared = Arc::clone(&shared);
                let run = move || {
                    let (pair, cell, made) = &*shared;
                    let value = cell.get_or_try_init(|| {
                        thread::yield_now();
                        if made.fetch_add(1, Ordering::SeqCst) == 0 { Err(()) } else { Ok(7) }
                    });
                    assert!(matches!(value, Ok(7) | Err(())));
                    for _ in 0..5 {
                        if n == 0 {
                            let mut pair = pair.write();
                            pair.0 += 1;
                            thread::yield_now();
                            pair.1 += 1;
                        } else {
                            let pair = pair.read();
                            thread::yield_now();
                            assert_eq!(pair.0, pair.1);
                        }
                    }
                };
                thread::spawn("worker", run).unwrap()
            });
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            shared.2.load(Ordering::SeqCst)
        });
        assert_eq!(report.outcome, Ok(2), "seed {seed}");
    }
}

#[test]
fn a_park_ends_by_an_unpark_before_or_during_it() {
    for seed in 0..20 {
        let report = simulate(seed, |_io| {
            let me = thread::current();
            let waker = thread::spawn("waker", move || me.unpark()).unwrap();
            thread::park();
            waker.join()
        });
        assert!(report.outcome.unwrap().is_ok());
    }
}

#[test]
fn a_panic_reaches_whoever_joins_and_threads_left_are_named() {
    let report = simulate(1, |_io| {
        let left = thread::spawn("left", || thread::sleep(Duration::from_secs(10))).unwrap();
        drop(left);
        thread::spawn("bad", || panic!("on purpose")).unwrap().join().map(|_: ()| ())
    });
    assert_eq!(report.threads_left, ["left"]);
    let error = report.outcome.unwrap().unwrap_err();
    assert_eq!(error.message(), "thread bad panicked: on purpose");
    let report: Report<()> = simulate(1, |_io| panic!("in main"));
    assert_eq!(report.outcome, Err(Failure::Panicked("in main".to_owned())));
}

#[test]
fn unsynced_bytes_may_vanish_and_synced_ones_never() {
    let disk = SimDisk::new(5);
    let io = disk.io();
    create(&io, "/f", &[1; 4096]);
    io.sync_dir(path("/")).unwrap();
    let file = io.open(path("/f"), OpenMode::ReadWrite).unwrap();
    file.write_all_at(2048, Buffer::from_slice(&[2; 4096])).unwrap();
    assert_eq!(read(&disk.crash(Survivors::AllLost), "/f").unwrap(), vec![1; 4096]);
    let all = [vec![1; 2048], vec![2; 4096]].concat();
    assert_eq!(read(&disk.crash(Survivors::AllKept), "/f").unwrap(), all);
    let mut outcomes = BTreeSet::new();
    for seed in 0..100 {
        let bytes = read(&disk.crash(Survivors::Random(seed)), "/f").unwrap();
        assert!(bytes.len() == 4096 || bytes.len() == 6144, "a length that was");
        assert!(bytes[..2048].iter().all(|byte| *byte == 1), "synced, and not written since");
        for (n, sector) in bytes.chunks(512).enumerate() {
            let whole = sector.iter().all(|byte| *byte == sector[0]);
            assert!(whole && (sector[0] == 2 || sector[0] == u8::from(n < 8)), "sectors survive as a whole");
        }
        outcomes.insert(bytes);
    }
    assert!(outcomes.len() > 20);
    assert_eq!(read(&disk, "/f").unwrap(), all, "the crashed disk is another one");
    file.sync_data().unwrap();
    assert_eq!(read(&disk.crash(Survivors::AllLost), "/f").unwrap(), all);
}

#[test]
fn a_sector_may_survive_as_any_write_since_the_sync_left_it() {
    let disk = SimDisk::new(5);
    let io = disk.io();
    create(&io, "/f", &[1; 512]);
    io.sync_dir(path("/")).unwrap();
    let file = io.open(path("/f"), OpenMode::ReadWrite).unwrap();
    for byte in [2, 3] {
        file.write_all_at(0, Buffer::from_slice(&[byte; 512])).unwrap();
    }
    let survived: BTreeSet<u8> =
        (0..60).map(|seed| read(&disk.crash(Survivors::Random(seed)), "/f").unwrap()[0]).collect();
    assert_eq!(survived, BTreeSet::from([1, 2, 3]));
}

#[test]
fn a_file_cut_short_and_lengthened_has_no_old_bytes_in_any_crash() {
    let disk = SimDisk::new(5);
    let io = disk.io();
    create(&io, "/f", &[1; 3000]);
    io.sync_dir(path("/")).unwrap();
    let file = io.open(path("/f"), OpenMode::ReadWrite).unwrap();
    file.set_len(700).unwrap();
    file.set_len(5000).unwrap();
    file.sync_all().unwrap();
    for survivors in [Survivors::AllLost, Survivors::AllKept, Survivors::Random(1)] {
        let bytes = read(&disk.crash(survivors), "/f").unwrap();
        assert_eq!(bytes, [vec![1; 700], vec![0; 4300]].concat());
    }
}

#[test]
fn an_entry_may_vanish_until_its_directory_is_synced() {
    let disk = SimDisk::new(5);
    let io = disk.io();
    create(&io, "/f", b"synced");
    let survives = |seed| read(&disk.crash(Survivors::Random(seed)), "/f").is_some();
    let outcomes: BTreeSet<bool> = (0..40).map(survives).collect();
    assert_eq!(outcomes, BTreeSet::from([false, true]));
    assert_eq!(read(&disk.crash(Survivors::AllLost), "/f"), None);
    io.sync_dir(path("/")).unwrap();
    assert_eq!(read(&disk.crash(Survivors::AllLost), "/f").unwrap(), b"synced");
    io.remove_file(path("/f")).unwrap();
    assert_eq!(read(&disk.crash(Survivors::AllLost), "/f").unwrap(), b"synced", "a removal is pending too");
    io.sync_dir(path("/")).unwrap();
    assert_eq!(read(&disk.crash(Survivors::AllLost), "/f"), None);
}

#[test]
fn a_directory_and_what_is_in_it_are_durable_separately() {
    let disk = SimDisk::new(5);
    let io = disk.io();
    io.create_dir_all(path("/a/b")).unwrap();
    create(&io, "/a/b/f", b"x");
    io.sync_dir(path("/a/b")).unwrap();
    let there = |disk: &SimDisk, name| disk.io().exists(path(name)).unwrap();
    assert_eq!(there(&disk.crash(Survivors::AllLost), "/a"), None);
    io.sync_dir(path("/")).unwrap();
    assert_eq!(there(&disk.crash(Survivors::AllLost), "/a"), Some(EntryKind::Dir));
    assert_eq!(there(&disk.crash(Survivors::AllLost), "/a/b"), None);
    io.sync_dir(path("/a")).unwrap();
    assert_eq!(read(&disk.crash(Survivors::AllLost), "/a/b/f").unwrap(), b"x");
    io.rename(path("/a/b"), path("/c")).unwrap();
    for seed in 0..40 {
        let crashed = disk.crash(Survivors::Random(seed));
        let names = [read(&crashed, "/a/b/f"), read(&crashed, "/c/f")];
        assert_eq!(names.iter().flatten().count(), 1, "a rename is whole or absent");
    }
}

#[test]
fn a_rename_over_a_file_leaves_the_old_or_the_new_one() {
    let disk = SimDisk::new(5);
    let io = disk.io();
    create(&io, "/CURRENT", b"old");
    io.sync_dir(path("/")).unwrap();
    create(&io, "/tmp", b"new");
    io.rename(path("/tmp"), path("/CURRENT")).unwrap();
    let mut outcomes = BTreeSet::new();
    for seed in 0..40 {
        let crashed = disk.crash(Survivors::Random(seed));
        outcomes.insert((read(&crashed, "/CURRENT").unwrap(), read(&crashed, "/tmp")));
    }
    let (old, new) = (b"old".to_vec(), b"new".to_vec());
    assert_eq!(outcomes, BTreeSet::from([(old.clone(), None), (old, Some(new.clone())), (new.clone(), None)]));
    io.sync_dir(path("/")).unwrap();
    assert_eq!(read(&disk.crash(Survivors::AllLost), "/CURRENT").unwrap(), new);
}

#[test]
fn a_fault_fires_once_at_its_turn_or_from_then_on() {
    let disk = SimDisk::new(5);
    let io = disk.io();
    let write = |name: &str| {
        let file = io.open(path(name), OpenMode::Create)?;
        file.write_all_at(0, Buffer::from_slice(b"0123456789"))
    };
    disk.inject(Fault::new(FaultKind::Io).on(Operation::Write).path_with("log").nth(2));
    write("/log").unwrap();
    write("/other").unwrap();
    assert_eq!(write("/log").unwrap_err().kind(), ErrorKind::Io);
    write("/log").unwrap();
    assert_eq!(disk.faults_fired(), 1);
    disk.inject(Fault::new(FaultKind::DiskFull).on(Operation::Write).nth(2).sticky());
    write("/log").unwrap();
    for _ in 0..3 {
        assert_eq!(write("/log").unwrap_err().kind(), ErrorKind::DiskFull);
    }
    disk.clear_faults();
    write("/log").unwrap();
    disk.inject(Fault::new(FaultKind::Io).on(Operation::Rename));
    assert!(io.rename(path("/log"), path("/moved")).is_err());
    assert_eq!(io.exists(path("/moved")).unwrap(), None, "a rename that failed did nothing");
}

#[test]
fn short_transfers_are_completed_by_the_provided_methods() {
    let disk = SimDisk::new(5);
    disk.inject(Fault::new(FaultKind::Short).on(Operation::Write).sticky());
    disk.inject(Fault::new(FaultKind::Short).on(Operation::Read).sticky());
    let file = disk.io().open(path("/f"), OpenMode::Create).unwrap();
    let bytes: Vec<u8> = (0..=255).collect();
    let buffer = file.write_all_at(3, Buffer::from_slice(&bytes)).unwrap();
    assert_eq!(*buffer, *bytes);
    assert_eq!(*file.read_exact_at(3, 256).unwrap(), *bytes);
    assert_eq!(file.read_at(0, 1000).unwrap().len(), 259);
    assert!(disk.faults_fired() > 10);
}

#[test]
fn a_failed_sync_is_not_mended_by_a_later_one() {
    let mut lost = 0;
    for seed in 0..40 {
        let disk = SimDisk::new(seed);
        let io = disk.io();
        create(&io, "/f", &[1; 4096]);
        io.sync_dir(path("/")).unwrap();
        let file = io.open(path("/f"), OpenMode::ReadWrite).unwrap();
        file.write_all_at(0, Buffer::from_slice(&[2; 4096])).unwrap();
        disk.inject(Fault::new(FaultKind::Io).on(Operation::Sync));
        assert_eq!(file.sync_data().unwrap_err().kind(), ErrorKind::Io);
        file.sync_data().unwrap();
        assert_eq!(read(&disk, "/f").unwrap(), vec![2; 4096], "programs still see it");
        lost += usize::from(read(&disk.crash(Survivors::AllKept), "/f").unwrap() != vec![2; 4096]);
    }
    assert!(lost > 20, "{lost} of 40");
}

#[test]
fn an_operation_in_flight_may_come_after_a_later_sync() {
    let mut uncovered = 0;
    for seed in 0..60 {
        let disk = SimDisk::new(seed);
        let io = disk.io();
        create(&io, "/f", &[1; 512]);
        io.sync_dir(path("/")).unwrap();
        let file = io.open(path("/f"), OpenMode::ReadWrite).unwrap();
        let write = file.submit(Op::Write { offset: 0, buffer: Buffer::from_slice(&[2; 512]) });
        file.sync_data().unwrap();
        while !write.is_ready() {}
        assert_eq!(write.wait().unwrap().bytes, 512);
        assert_eq!(read(&disk, "/f").unwrap()[0], 2);
        uncovered += usize::from(read(&disk.crash(Survivors::AllLost), "/f").unwrap()[0] == 1);
    }
    assert!((1..60).contains(&uncovered), "{uncovered} of 60");
}

/// The smallest program with a durability promise: a log of numbers, each acknowledged after its sync.
fn log_numbers(io: &IoRef, disk: &SimDisk) -> crate::error::Result<Vec<u64>> {
    let file = io.open(path("/log"), OpenMode::Create)?;
    io.sync_dir(path("/"))?;
    let mut acknowledged_at = Vec::new();
    for n in 0..20u64 {
        file.write_all_at(n * 8, Buffer::from_slice(&(n + 1).to_le_bytes()))?;
        file.sync_data()?;
        acknowledged_at.push(disk.operations());
    }
    Ok(acknowledged_at)
}

#[test]
fn what_was_acknowledged_survives_losing_power_at_every_operation() {
    let run = |power_off| {
        let simulation = Simulation::new(9, SimOptions::default());
        let disk = simulation.disk();
        if let Some(at) = power_off {
            disk.power_off_at(at, Survivors::Random(at));
        }
        let inside = disk.clone();
        (simulation.run(move |io| log_numbers(&io, &inside)).outcome.unwrap(), disk)
    };
    let (acknowledged_at, whole) = run(None);
    let acknowledged_at = acknowledged_at.unwrap();
    for at in 1..=whole.operations() {
        let (outcome, disk) = run(Some(at));
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Io);
        let survived = disk.survived().unwrap();
        let promised = acknowledged_at.iter().filter(|operations| **operations < at).count();
        let log = read(&survived, "/log").unwrap_or_default();
        let numbers = log.chunks_exact(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
        let kept = numbers.zip(1..).take_while(|(number, expected)| number == expected).count();
        assert!(kept >= promised, "power off at {at}: {kept} of {promised}");
    }
}

#[test]
fn a_survivor_can_be_simulated_again_and_has_no_locks() {
    let first = Simulation::new(1, SimOptions::default());
    let disk = first.disk();
    let report = first.run(|io| {
        let lock = io.lock(path("/LOCK")).unwrap();
        io.sync_dir(path("/")).unwrap();
        (lock, io.monotonic_nanos())
    });
    let (_lock, then) = report.outcome.unwrap();
    let second = Simulation::on_disk(2, SimOptions::default(), disk.crash(Survivors::AllLost));
    let report = second.run(move |io| {
        drop(io.lock(path("/LOCK")).unwrap());
        io.monotonic_nanos() > then
    });
    assert_eq!(report.outcome, Ok(true));
    assert_eq!(disk.lock(path("/LOCK")).unwrap_err().kind(), ErrorKind::Locked);
}

#[test]
fn a_directory_sync_that_failed_is_not_mended_by_a_later_one() {
    let mut lost = 0;
    for seed in 0..40 {
        let disk = SimDisk::new(seed);
        let io = disk.io();
        create(&io, "/f", b"x");
        disk.inject(Fault::new(FaultKind::Io).on(Operation::SyncDir));
        assert_eq!(io.sync_dir(path("/")).unwrap_err().kind(), ErrorKind::Io);
        io.sync_dir(path("/")).unwrap();
        assert!(read(&disk, "/f").is_some(), "programs still see it");
        lost += usize::from(read(&disk.crash(Survivors::AllKept), "/f").is_none());
    }
    assert!((5..40).contains(&lost), "{lost} of 40");
}

#[test]
fn silent_faults_change_bytes_and_say_nothing() {
    let disk = SimDisk::new(5);
    let io = disk.io();
    let file = io.open(path("/f"), OpenMode::Create).unwrap();
    let blocks = [[1; 4096], [2; 4096], [3; 4096]].concat();
    file.write_all_at(0, Buffer::from_slice(&blocks)).unwrap();

    disk.inject(Fault::new(FaultKind::Flip).on(Operation::Read));
    let flipped = file.read_exact_at(0, 4096).unwrap();
    let bits: u32 = flipped.iter().map(|byte| (byte ^ 1).count_ones()).sum();
    assert_eq!(bits, 1);
    disk.inject(Fault::new(FaultKind::Misdirected).on(Operation::Read));
    assert_ne!(file.read_exact_at(4096, 4096).unwrap()[0], 2);
    disk.inject(Fault::new(FaultKind::Interrupted));
    assert_eq!(file.read_exact_at(4096, 4096).unwrap()[0], 2, "the disk itself is as it was");

    disk.inject(Fault::new(FaultKind::Lost).on(Operation::Write));
    file.write_all_at(0, Buffer::from_slice(&[9; 4096])).unwrap();
    assert_eq!(file.read_exact_at(0, 12288).unwrap().to_vec(), blocks, "a stale block");
    disk.inject(Fault::new(FaultKind::Misdirected).on(Operation::Write));
    file.write_all_at(4096, Buffer::from_slice(&[9; 4096])).unwrap();
    let now = file.read_exact_at(0, 12288).unwrap();
    assert!(now[4096] == 2 && (now[0] == 9 || now[8192] == 9));
    assert_eq!(disk.faults_fired(), 5);
}

#[test]
fn a_fork_goes_its_own_way_and_has_all_that_was_pending() {
    let disk = SimDisk::new(5);
    let io = disk.io();
    create(&io, "/f", &[1; 4096]);
    io.sync_dir(path("/")).unwrap();
    io.open(path("/f"), OpenMode::ReadWrite).unwrap().write_all_at(0, Buffer::from_slice(&[2; 4096])).unwrap();
    let fork = disk.fork();
    assert_eq!(fork.fingerprint(), disk.fingerprint());
    assert_eq!(read(&fork.crash(Survivors::AllLost), "/f").unwrap(), vec![1; 4096]);
    assert_eq!(read(&fork.crash(Survivors::AllKept), "/f").unwrap(), vec![2; 4096]);
    create(&fork.io(), "/g", b"only here");
    assert_eq!(read(&disk, "/g"), None);
    assert_ne!(fork.fingerprint(), disk.fingerprint());
    create(&io, "/f", &[3; 4096]);
    assert_eq!(read(&fork, "/f").unwrap(), vec![2; 4096]);
    let prints: BTreeSet<u64> = (0..50).map(|seed| fork.crash(Survivors::Random(seed)).fingerprint()).collect();
    assert!(prints.len() > 20, "{} subsets of nine pending parts", prints.len());
}

#[test]
fn an_observer_sees_every_operation_before_it_happens() {
    let disk = SimDisk::new(5);
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let notes = Arc::clone(&seen);
    disk.observe(move |moment| {
        let there = moment.disk.fork().fingerprint();
        notes.lock().unwrap().push((moment.number, moment.operation, there));
    });
    create(&disk.io(), "/f", b"x");
    let seen = seen.lock().unwrap();
    let operations: Vec<Operation> = seen.iter().map(|(_, operation, _)| *operation).collect();
    assert_eq!(operations, [Operation::Open, Operation::Write, Operation::Sync]);
    assert_eq!(seen.iter().map(|(number, ..)| *number).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(seen[0].2 != seen[1].2 && seen[1].2 != seen[2].2);
}

#[test]
fn the_wall_clock_jumps_and_the_monotonic_one_does_not() {
    let disk = SimDisk::new(5);
    let (wall, monotonic) = (disk.unix_micros(), disk.monotonic_nanos());
    disk.jump_clock(-3_600_000_000);
    assert!(disk.unix_micros() < wall - 3_000_000_000);
    assert!(disk.monotonic_nanos() - monotonic < 1_000_000);
}
