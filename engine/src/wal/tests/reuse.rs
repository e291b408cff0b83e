/*!
Released segments that are used again: what a file held before never comes back, whatever a crash, damage, a reader or a full disk
meets it in the middle of.
*/

use super::super::frame::{BLOCK_BYTES, HeaderBlock, SegmentHeader};
use super::*;
use crate::lease::Lease;
use std::collections::BTreeSet;

/// The segments' files with their bytes.
fn logs(io: &IoRef) -> BTreeMap<String, Vec<u8>> {
    let read = |name: &String| {
        let file = io.open(&dir().join(name), OpenMode::Read).unwrap();
        file.read_at(0, file.len().unwrap() as usize).unwrap().to_vec()
    };
    let names = io.names(dir()).unwrap();
    names.iter().filter(|name| is_file_name(name)).map(|name| (name.clone(), read(name))).collect()
}

/// The segments with a header, by number, and whether they are reused ones.
fn headers(io: &IoRef) -> Vec<(u64, bool)> {
    let header = |bytes: &Vec<u8>| match SegmentHeader::decode(&bytes[..BLOCK_BYTES]) {
        HeaderBlock::Valid(header, _) => Some((header.number, header.reused)),
        HeaderBlock::Newer(_) | HeaderBlock::Bad => None,
    };
    logs(io).values().filter_map(header).collect()
}

fn log_files(io: &IoRef) -> usize {
    logs(io).len()
}

/// A log whose newest segment is a reused one that is about half full, with what it held before behind that.
fn reused_log(io: &IoRef) -> (Wal, Records, Lsn) {
    let (wal, _) = open(io);
    let mut records: Records = (0..30).map(|n| append_synced(&wal, &record(n, 3000))).collect();
    let released = records.last().unwrap().0;
    wal.release_before(released).unwrap();
    let is_half_full = |bytes: &[u8]| bytes[40..48] == bytes[3 * 4096 + 24..][..8];
    for n in 30.. {
        let newest = headers(io).last().copied().unwrap();
        if newest.1 && is_half_full(&logs(io)[&segment::file_name(newest.0)]) {
            break;
        }
        records.push(append_synced(&wal, &record(n, 3000)));
    }
    records.push(append_synced(&wal, &record(99, 3000)));
    records.retain(|(lsn, _)| *lsn > released);
    (wal, records, released)
}

fn reopen(io: &IoRef, from: Lsn) -> Result<Records> {
    try_open(io, always(), from).map(|(_, records, _)| records)
}

#[test]
fn a_log_in_a_steady_state_writes_no_zeros() {
    let disk = SimDisk::new(1);
    let io = disk.io();
    let zeroed = Arc::new(Mutex::new(0));
    let count = Arc::clone(&zeroed);
    disk.observe(move |moment| *count.lock() += u64::from(moment.operation == Operation::Allocate));
    let (wal, _) = open(&io);
    let mut expect: Records = Vec::new();
    let mut at_half = 0;
    for n in 0..400 {
        expect.push(append_synced(&wal, &record(n, 3000)));
        wal.tick().unwrap();
        if n % 6 == 5 {
            let released = expect[expect.len() - 3].0;
            wal.release_before(released).unwrap();
            expect.retain(|(lsn, _)| *lsn > released);
        }
        if n == 200 {
            at_half = *zeroed.lock();
        }
    }
    assert_eq!(*zeroed.lock(), at_half, "zeros are written for the first segments only");
    assert!(headers(&io).iter().any(|(_, reused)| *reused));
    let released = expect[0].0;
    let io = disk.crash(Survivors::AllLost).io();
    assert_eq!(reopen(&io, released).unwrap(), expect[1..]);
}

#[test]
fn a_log_that_rests_for_long_keeps_no_spares() {
    let simulation = Simulation::new(5, SimOptions::default());
    let disk = simulation.disk();
    let report = simulation.run(move |io| {
        let (wal, _) = open(&io);
        let records: Records = (0..30).map(|n| append_synced(&wal, &record(n, 3000))).collect();
        let released = records.last().unwrap().0;
        wal.release_before(released).unwrap();
        wal.tick().unwrap();
        let with_spares = log_files(&io);
        thread::sleep(LONG_REST / 2);
        wal.tick().unwrap();
        assert_eq!(log_files(&io), with_spares);
        thread::sleep(LONG_REST);
        wal.tick().unwrap();
        assert_eq!(log_files(&io), with_spares - SPARES_MAX);
        let mut expect = vec![append_synced(&wal, &record(30, 3000))];
        expect.extend((31..60).map(|n| append_synced(&wal, &record(n, 3000))));
        drop(wal);
        assert_eq!(reopen(&io, released).unwrap(), expect);
    });
    report.into_result().unwrap();
    assert!(log_files(&disk.crash(Survivors::AllLost).io()) > 0);
}

#[test]
fn what_a_segment_held_before_never_comes_back() {
    let io = memory();
    let (wal, expect, released) = reused_log(&io);
    drop(wal);
    let files = files(&io);
    // There is a frame behind the end, and it would hold if it were not for the epoch.
    let (name, bytes) = files.iter().rev().find(|(_, bytes)| bytes[4..8] == *b"OMWS").unwrap();
    let frames = |at: &usize| bytes[at + 4..at + 8] == *b"OMWF";
    let epochs: BTreeSet<&[u8]> =
        (4096..bytes.len()).step_by(4096).filter(frames).map(|at| &bytes[at + 24..at + 32]).collect();
    assert_eq!(epochs.len(), 2, "{name} has frames of two epochs");
    check_reused(&disk_of(&files), released, &expect);
    let (outcome, records) = read_only(&disk_of(&files), released);
    assert!(matches!(&outcome, ReadOnly::Complete(replay) if replay.torn.is_none()), "{outcome:?}");
    assert_eq!(records, expect);
    let sweep = inspect::sweep(&disk_of(&files), dir(), &ID, released).unwrap();
    assert!(sweep.damage.is_empty(), "{:?}", sweep.damage);
}

fn check_reused(io: &IoRef, released: Lsn, expect: &[(Lsn, Vec<u8>)]) {
    let (wal, records, _) = try_open(io, always(), released).unwrap();
    assert_eq!(records, expect);
    let mut expect = records;
    expect.push(append_synced(&wal, b"after the crash"));
    drop(wal);
    assert_eq!(reopen(io, released).unwrap(), expect);
}

#[test]
fn damage_in_a_reused_segment_is_reported_as_in_any_other() {
    let io = memory();
    let (wal, expect, released) = reused_log(&io);
    drop(wal);
    let files = files(&io);
    let name = files.iter().rev().find(|(_, bytes)| bytes[4..8] == *b"OMWS").unwrap().0.clone();
    let path = dir().join(&name);
    let epoch = files[&name][40..48].to_vec();
    let own = (1..).take_while(|frame| files[&name][frame * 4096 + 24..][..8] == epoch).count();
    assert!(own >= 3 && (own + 1) * 4096 < files[&name].len());
    for at in (0..(own + 2) * 4096).step_by(97) {
        let mut damaged = files.clone();
        damaged.get_mut(&name).unwrap()[at] ^= 1 << (at % 8);
        let io = disk_of(&damaged);
        let frame = at / 4096;
        if frame < own {
            let error = try_open(&io, always(), released).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption, "byte {at}");
            assert_eq!(
                error.place(),
                Some(&Place { file: path.clone(), offset: Some(frame as u64 * 4096) }),
                "byte {at}"
            );
            let sweep = inspect::sweep(&io, dir(), &ID, released).unwrap();
            assert_eq!(sweep.damage.len(), 1, "byte {at}: {:?}", sweep.damage);
        } else {
            // The last frame, which nothing proves, or what stands behind it.
            let (_, records, replay) = try_open(&io, always(), released).unwrap();
            let torn = frame == own;
            assert_eq!(records, expect[..expect.len() - usize::from(torn)], "byte {at}");
            assert_eq!(replay.torn.is_some(), torn, "byte {at}");
        }
    }
}

/// Appends, releases and goes on, so that segments are used again and again; gives what was acknowledged, and what was released.
fn use_again(io: &IoRef, known: &mut super::Known) -> Result<()> {
    let (wal, ..) = try_open(io, always(), 0)?;
    for n in 0..60 {
        let bytes = record(n, 2500 + (n as usize % 3) * 1500);
        let lsn = wal.append(&bytes)?;
        known.appended.push((lsn, bytes));
        wal.sync_to(lsn)?;
        known.durable = lsn;
        if n % 3 == 0 {
            wal.tick()?;
        }
        if n % 12 == 11 {
            known.released = known.appended[known.appended.len() - 4].0;
            wal.release_before(known.released)?;
        }
    }
    Ok(())
}

#[test]
fn a_crash_at_every_operation_loses_nothing_and_brings_nothing_back() {
    let dry = SimDisk::new(1);
    let renames = Arc::new(Mutex::new(0));
    let count = Arc::clone(&renames);
    dry.observe(move |moment| *count.lock() += u64::from(moment.operation == Operation::Rename));
    use_again(&dry.io(), &mut super::Known::default()).unwrap();
    let renames = *renames.lock();
    assert!(renames >= 5, "segments were used again {renames} times");
    for at in 1..=dry.operations() {
        for survivors in [Survivors::AllLost, Survivors::AllKept, Survivors::Random(at), Survivors::Random(at + 7)] {
            let disk = SimDisk::new(1);
            let mut known = super::Known::default();
            disk.power_off_at(at, survivors);
            let _ = use_again(&disk.io(), &mut known);
            let Some(survived) = disk.survived() else { continue };
            check_survivor(&survived, &known, &format!("power off at {at}, {survivors:?}"));
        }
    }
}

#[test]
fn every_fault_while_a_segment_is_used_again_is_an_error_and_loses_nothing() {
    for kind in [FaultKind::Io, FaultKind::DiskFull, FaultKind::Short] {
        let dry = SimDisk::new(1);
        use_again(&dry.io(), &mut super::Known::default()).unwrap();
        for at in 1..=dry.operations() {
            let disk = SimDisk::new(1);
            disk.inject(Fault::new(kind).nth(at));
            let mut known = super::Known::default();
            let _ = use_again(&disk.io(), &mut known);
            disk.clear_faults();
            let what = format!("{kind:?} at {at}");
            check_survivor(&disk.crash(Survivors::AllLost), &known, &what);
            check_survivor(&disk, &known, &what);
        }
    }
}

#[test]
fn few_spares_are_kept_and_none_after_a_close() {
    let io = memory();
    let (wal, _) = open(&io);
    let records: Records = (0..60).map(|n| append_synced(&wal, &record(n, 3000))).collect();
    let before = wal.segments();
    assert!(before > 6);
    wal.release_before(records[59].0).unwrap();
    assert!(log_files(&io) <= wal.segments() + 1 + SPARES_MAX, "{} files", log_files(&io));
    assert!(log_files(&io) >= wal.segments() + SPARES_MAX, "{} files", log_files(&io));
    wal.close().unwrap();
    assert_eq!(log_files(&io), wal.segments());
}

#[test]
fn spares_that_a_kill_left_behind_go_with_the_next_open() {
    let io = memory();
    let (wal, expect, released) = reused_log(&io);
    wal.release_before(expect.last().unwrap().0).unwrap();
    assert!(log_files(&io) > wal.segments());
    drop(wal);
    let (wal, records, _) = try_open(&io, always(), released.max(expect[expect.len() - 2].0)).unwrap();
    assert_eq!(records, expect[expect.len() - 1..]);
    assert_eq!(log_files(&io), wal.segments());
}

#[test]
fn a_segment_that_a_reader_needs_is_not_used_again() {
    let io = memory();
    let (wal, _) = open(&io);
    let records: Records = (0..30).map(|n| append_synced(&wal, &record(n, 3000))).collect();
    let lease = Lease::take(&io, dir()).unwrap();
    let before = logs(&io);
    wal.release_before(records[29].0).unwrap();
    for n in 0..60 {
        append_synced(&wal, &record(n, 3000));
        wal.tick().unwrap();
    }
    let after = logs(&io);
    let newest = before.keys().next_back().unwrap();
    for name in before.keys().filter(|name| *name != newest) {
        assert_eq!(after.get(name), before.get(name), "{name} is as it was");
    }
    assert_eq!(read_only(&io, 0).1[..30], records[..30]);
    drop(lease);
    wal.release_before(wal.durable()).unwrap();
    assert!(!logs(&io).contains_key(before.keys().next().unwrap()), "it goes with the lease");
}

#[test]
fn a_reader_without_a_lease_is_told_that_a_segment_became_another_under_it() {
    let io = memory();
    let (wal, _) = open(&io);
    for n in 0..30 {
        append_synced(&wal, &record(n, 3000));
    }
    let mut taken = 0;
    let outcome = open_read_only(&io, dir(), ID, 0, &mut |_, _| {
        taken += 1;
        if taken == 1 {
            wal.release_before(wal.durable()).unwrap();
            for n in 0..30 {
                append_synced(&wal, &record(n, 3000));
            }
        }
        Ok(())
    });
    assert!(matches!(&outcome, Ok(ReadOnly::Overtaken(_))), "{outcome:?}");
}

#[test]
fn a_full_disk_gets_the_space_of_spares() {
    let disk = SimDisk::new(3);
    let io = disk.io();
    // Spares of four blocks, too small for what comes.
    let (wal, ..) = try_open(&io, WalOptions { segment_bytes: SEGMENT_BYTES_MIN, sync: SyncMode::Always }, 0).unwrap();
    let records: Records = (0..12).map(|n| append_synced(&wal, &record(n, 3000))).collect();
    wal.release_before(records[11].0).unwrap();
    let with_spares = log_files(&io);
    disk.limit_space(disk.used_space());
    assert!(wal.give_up_spares().unwrap());
    assert!(!wal.give_up_spares().unwrap());
    assert_eq!(log_files(&io), with_spares - SPARES_MAX);
    append_synced(&wal, &record(12, 3000));
    append_synced(&wal, &record(13, 3000));
    assert_eq!(reopen(&disk.crash(Survivors::AllLost).io(), records[11].0).unwrap().len(), 2);
}

#[test]
fn on_a_full_disk_spares_serve_before_anything_is_refused() {
    let disk = SimDisk::new(4);
    let io = disk.io();
    let (wal, _) = open(&io);
    let mut records: Records = (0..60).map(|n| append_synced(&wal, &record(n, 3000))).collect();
    let released = records[59].0;
    wal.release_before(released).unwrap();
    disk.limit_space(disk.used_space());
    records.clear();
    let refused = loop {
        match wal.append(&record(7, 3000)) {
            Ok(lsn) => records.push((lsn, record(7, 3000))),
            Err(error) => break error,
        }
        wal.sync_to(wal.appended()).unwrap();
    };
    assert_eq!(refused.kind(), ErrorKind::DiskFull);
    // Eight blocks a segment: a header, and one that is kept for a watermark.
    assert!(records.len() >= SPARES_MAX * 5, "{} records", records.len());
    wal.release_before(records[records.len() - 1].0).unwrap();
    let last = append_synced(&wal, &record(8, 3000));
    let io = disk.crash(Survivors::AllLost).io();
    let from = records[records.len() - 1].0;
    assert_eq!(reopen(&io, from).unwrap(), [last]);
}

#[test]
fn an_airy_log_says_what_to_let_go_of_and_keeps_its_segments_small() {
    let io = memory();
    let (wal, ..) = try_open(&io, WalOptions { segment_bytes: 64 << 20, sync: SyncMode::Always }, 0).unwrap();
    assert_eq!(wal.airy_before(0), 0);
    let mut lsns = Vec::new();
    for n in 0..3000 {
        lsns.push(append_synced(&wal, &record(n, 20)).0);
    }
    // Segments of 1, 2, 4 and 8 MiB, 256 frames a MiB less the header and the block that is kept.
    let starts = [254, 254 + 510, 254 + 510 + 1022];
    assert_eq!(wal.airy_before(64 << 20), 0);
    assert_eq!(wal.airy_before(3 << 20), lsns[starts[2] - 1], "the newest segment alone has more");
    assert_eq!(wal.airy_before(8 << 20), lsns[starts[2] - 1], "with the one before it there is more");
    assert_eq!(wal.airy_before(10 << 20), lsns[starts[1] - 1], "with the two before it there is more");
    let held = wal.segments();
    wal.release_before(wal.airy_before(10 << 20)).unwrap();
    assert_eq!((held, wal.segments()), (4, 2));
    for n in 0..20_000 {
        append_synced(&wal, &record(n, 20));
        if n % 64 == 0 {
            wal.release_before(wal.airy_before(32 << 20)).unwrap();
        }
    }
    let sizes: Vec<usize> = files(&io).values().map(Vec::len).collect();
    assert!(sizes.iter().all(|bytes| *bytes as u64 <= SEGMENT_BYTES_AIRY), "{sizes:?}");
    assert!(sizes.iter().sum::<usize>() <= 6 * SEGMENT_BYTES_AIRY as usize, "{sizes:?}");
}
