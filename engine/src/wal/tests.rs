/*!
The log against its promises: what comes back after closes, kills, power failures, damage and full disks.
*/

mod reuse;

use super::frame::Frame;
use super::*;
use crate::io::Buffer;
use crate::io::sim::{Fault, FaultKind, Operation, SimDisk, SimOptions, Simulation, Survivors};
use crate::io::{memory, thread};
use std::collections::BTreeMap;
use std::sync::Arc;

const ID: [u8; 16] = [0xD8; 16];
const SMALL: u64 = 32 * 1024;

type Records = Vec<(Lsn, Vec<u8>)>;

fn dir() -> &'static Path {
    Path::new("/db")
}

fn small(sync: SyncMode) -> WalOptions {
    WalOptions { segment_bytes: SMALL, sync }
}

fn always() -> WalOptions {
    small(SyncMode::Always)
}

fn try_open(io: &IoRef, options: WalOptions, from: Lsn) -> Result<(Wal, Records, Replay)> {
    io.create_dir_all(dir())?;
    io.sync_dir(Path::new("/"))?;
    let mut records = Vec::new();
    let (wal, replay) = Wal::open(&Leases::new(io, dir()), ID, options, from, &mut |lsn, record| {
        records.push((lsn, record.to_vec()));
        Ok(())
    })?;
    assert_eq!(replay.records, records.len() as u64);
    Ok((wal, records, replay))
}

fn open(io: &IoRef) -> (Wal, Records) {
    let (wal, records, _) = try_open(io, always(), 0).unwrap();
    (wal, records)
}

fn read_only(io: &IoRef, from: Lsn) -> (ReadOnly, Records) {
    let mut records = Vec::new();
    let result = open_read_only(io, dir(), ID, from, &mut |lsn, record| {
        records.push((lsn, record.to_vec()));
        Ok(())
    });
    (result.unwrap(), records)
}

/// A record whose length and bytes follow from `n`.
fn record(n: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (n.wrapping_mul(131).wrapping_add(i * 7) >> 2) as u8).collect()
}

fn append_synced(wal: &Wal, record: &[u8]) -> (Lsn, Vec<u8>) {
    let lsn = wal.append(record).unwrap();
    wal.sync_to(lsn).unwrap();
    (lsn, record.to_vec())
}

/// All files of the directory with their bytes.
fn files(io: &IoRef) -> BTreeMap<String, Vec<u8>> {
    let read = |name: &str| {
        let file = io.open(&dir().join(name), OpenMode::Read).unwrap();
        file.read_at(0, file.len().unwrap() as usize).unwrap().to_vec()
    };
    io.list(dir()).unwrap().into_iter().map(|entry| (entry.name.clone(), read(&entry.name))).collect()
}

fn disk_of(files: &BTreeMap<String, Vec<u8>>) -> IoRef {
    let io = memory();
    io.create_dir_all(dir()).unwrap();
    for (name, bytes) in files {
        let file = io.open(&dir().join(name), OpenMode::Create).unwrap();
        file.write_all_at(0, Buffer::from_slice(bytes)).unwrap();
    }
    io
}

fn overwrite(io: &IoRef, name: &str, at: u64, bytes: &[u8]) {
    let file = io.open(&dir().join(name), OpenMode::ReadWrite).unwrap();
    file.write_all_at(at, Buffer::from_slice(bytes)).unwrap();
}

#[test]
fn records_come_back_in_order_after_a_kill_and_after_a_close() {
    for closes in [false, true] {
        let io = memory();
        let mut expect = Vec::new();
        for round in 0..4 {
            let (wal, records) = open(&io);
            assert_eq!(records, expect);
            assert_eq!(wal.appended(), expect.last().map_or(0, |(lsn, _)| *lsn));
            for n in 0..5 {
                expect.push(append_synced(&wal, &record(n, (n * 100 + round) as usize)));
            }
            assert_eq!(wal.durable(), wal.appended());
            if closes {
                wal.close().unwrap();
                wal.close().unwrap();
                assert_eq!(wal.append(b"late").unwrap_err().kind(), ErrorKind::InvalidArgument);
            }
        }
    }
}

#[test]
fn opening_without_writing_changes_nothing_of_a_closed_log() {
    let io = memory();
    let (wal, _) = open(&io);
    append_synced(&wal, b"one");
    wal.close().unwrap();
    let before = files(&io);
    for _ in 0..3 {
        let (wal, records) = open(&io);
        assert_eq!(records.len(), 1);
        wal.close().unwrap();
    }
    assert_eq!(files(&io), before);
    assert_eq!(before.values().map(Vec::len).sum::<usize>(), 3 * 4096, "header, frame, watermark");
}

#[test]
fn records_of_any_length_span_frames_and_segments() {
    let io = memory();
    let (wal, _) = open(&io);
    let lengths = [0, 1, 4027, 4028, 4029, 4032, 8192, 100_000, 5, 300_000, 0, 3_000_000, 17];
    let expect: Records = (0..).zip(lengths).map(|(n, len)| append_synced(&wal, &record(n, len))).collect();
    assert!(wal.segments() > 100);
    drop(wal);
    assert_eq!(open(&io).1, expect);

    let large = memory();
    let options = WalOptions { segment_bytes: 8 << 20, sync: SyncMode::Always };
    let (wal, ..) = try_open(&large, options, 0).unwrap();
    let expect: Records = (0..).zip(lengths).map(|(n, len)| append_synced(&wal, &record(n, len))).collect();
    drop(wal);
    assert_eq!(try_open(&large, options, 0).unwrap().1, expect);
}

#[test]
fn many_records_share_a_frame_and_their_space_is_given_back() {
    let io = memory();
    let (wal, _) = open(&io);
    let mut expect: Records = Vec::new();
    for batch in 0..50 {
        for n in 0..20 {
            let bytes = record(batch * 20 + n, 30);
            expect.push((wal.append(&bytes).unwrap(), bytes));
        }
        wal.sync_to(wal.appended()).unwrap();
    }
    assert!(wal.segments() <= 9, "{} segments for 50 frames", wal.segments());
    drop(wal);
    assert_eq!(open(&io).1, expect);
}

/// A log of `n` frames with one record each, in one segment, killed.
fn killed_log(n: u64) -> (BTreeMap<String, Vec<u8>>, Records) {
    let io = memory();
    let (wal, _) = open(&io);
    let expect = (0..n).map(|n| append_synced(&wal, &record(n, 50))).collect();
    assert_eq!(wal.segments(), 1);
    (files(&io), expect)
}

const SEGMENT: &str = "wal-00000001.log";

/// What a damaged log gives, and gives again after a new record was added.
fn check_recovery(io: &IoRef, expect: &[(Lsn, Vec<u8>)], what: &str) {
    let (wal, records) = open(io);
    assert_eq!(records, expect, "{what}");
    let mut expect = records;
    expect.push(append_synced(&wal, b"after the crash"));
    drop(wal);
    for _ in 0..2 {
        assert_eq!(open(io).1, expect, "{what}, second time");
    }
}

#[test]
fn a_log_cut_anywhere_gives_the_records_before_the_cut() {
    let (mut files, expect) = killed_log(4);
    let whole = files[SEGMENT].clone();
    for len in (0..=6 * 4096usize).filter(|len| len % 61 == 0 || (len + 3) % 4096 < 8) {
        files.insert(SEGMENT.to_owned(), whole[..len].to_vec());
        let frames = (len / 4096).saturating_sub(1).min(expect.len());
        check_recovery(&disk_of(&files), &expect[..frames], &format!("cut to {len} bytes"));
    }
}

#[test]
fn a_flipped_bit_is_damage_where_a_watermark_covers_it_and_a_torn_tail_elsewhere() {
    let (files, expect) = killed_log(3);
    for at in 0..5 * 4096 {
        let mut damaged = files.clone();
        damaged.get_mut(SEGMENT).unwrap()[at] ^= 1 << (at % 8);
        let io = disk_of(&damaged);
        // Header, three frames, zeros. The third frame proves the two before it; nothing proves the third.
        let frame = at / 4096;
        if frame <= 2 {
            let error = try_open(&io, always(), 0).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption, "byte {at}");
            let place = error.place().unwrap();
            assert_eq!((place.file.as_path(), place.offset), (&*dir().join(SEGMENT), Some(frame as u64 * 4096)));
            let (outcome, _) = read_only(&io, 0);
            assert!(matches!(outcome, ReadOnly::Overtaken(_)), "byte {at}");
        } else if at % 16 == 0 {
            check_recovery(&io, &expect[..if frame == 3 { 2 } else { 3 }], &format!("byte {at}"));
        } else {
            assert_eq!(open(&io).1.len(), if frame == 3 { 2 } else { 3 }, "byte {at}");
        }
    }
}

#[test]
fn after_a_clean_close_every_flipped_bit_of_a_record_is_damage() {
    let io = memory();
    let (wal, _) = open(&io);
    let expect: Records = (0..3).map(|n| append_synced(&wal, &record(n, 50))).collect();
    wal.close().unwrap();
    let files = files(&io);
    for at in 0..files[SEGMENT].len() {
        let mut damaged = files.clone();
        damaged.get_mut(SEGMENT).unwrap()[at] ^= 1 << (at % 8);
        match try_open(&disk_of(&damaged), always(), 0) {
            Ok((_, records, _)) => assert!(at >= 4 * 4096 && records == expect, "byte {at}"),
            Err(error) => assert!(at < 4 * 4096 && error.kind() == ErrorKind::Corruption, "byte {at}: {error}"),
        }
    }
}

#[test]
fn a_damaged_header_of_a_later_segment_is_damage() {
    let io = memory();
    let (wal, _) = open(&io);
    for n in 0..30 {
        append_synced(&wal, &record(n, 3000));
    }
    assert!(wal.segments() >= 3);
    wal.close().unwrap();
    let names: Vec<String> = files(&io).into_keys().collect();
    for name in &names {
        let io = disk_of(&files(&io));
        overwrite(&io, name, 50, &[0xEE]);
        assert_eq!(try_open(&io, always(), 0).unwrap_err().kind(), ErrorKind::Corruption, "{name}");
        io.remove_file(&dir().join(name)).unwrap();
        let last = Some(name) == names.last();
        assert_eq!(try_open(&io, always(), 0).is_ok(), last, "{name} removed");
    }
}

#[test]
fn a_tail_that_was_cut_never_comes_back() {
    let (mut files, expect) = killed_log(3);
    let whole = files[SEGMENT].clone();
    // The last frame is torn when the log is opened …
    files.get_mut(SEGMENT).unwrap()[3 * 4096 + 100] ^= 1;
    let io = disk_of(&files);
    let (wal, records, replay) = try_open(&io, always(), 0).unwrap();
    assert_eq!(records, expect[..2]);
    assert_eq!(replay.torn.unwrap().offset, Some(3 * 4096));
    let new = append_synced(&wal, b"new");
    assert_eq!(new.0, expect[1].0 + 7);
    drop(wal);
    // … and whole again later, as after a read that failed once.
    overwrite(&io, SEGMENT, 0, &whole);
    let (_, records) = open(&io);
    assert_eq!(records, [expect[0].clone(), expect[1].clone(), new]);
}

#[test]
fn a_record_cut_in_half_does_not_go_on_in_the_next_segment() {
    let io = memory();
    let options = WalOptions { segment_bytes: 8 << 20, sync: SyncMode::Always };
    let (wal, ..) = try_open(&io, options, 0).unwrap();
    let first = append_synced(&wal, b"whole");
    append_synced(&wal, &record(1, 2_500_000));
    drop(wal);
    // The long record has three frames, the last of which is lost.
    let mut files = files(&io);
    let (name, bytes) = files.iter_mut().next_back().unwrap();
    let last_frame = (0..bytes.len()).step_by(4096).rfind(|at| bytes[at + 4..at + 8] == *b"OMWF").unwrap();
    bytes[last_frame] ^= 1;
    let name = name.clone();
    let io = disk_of(&files);
    let (wal, records, replay) = try_open(&io, options, 0).unwrap();
    assert_eq!(records, std::slice::from_ref(&first));
    assert_eq!(replay.torn.unwrap(), Place { file: dir().join(name), offset: Some(last_frame as u64) });
    let next = append_synced(&wal, b"next");
    assert!(next.0 > 2_000_000, "positions that were written are not used again");
    drop(wal);
    assert_eq!(try_open(&io, options, 0).unwrap().1, [first, next]);
}

#[test]
fn frames_of_another_place_segment_or_database_do_not_pass() {
    let (files, expect) = killed_log(3);
    let whole = files[SEGMENT].clone();
    let (other, _) = killed_log(3);
    for replacement in [&whole[4096..8192], &whole[8192..12288], &other[SEGMENT][3 * 4096..4 * 4096]] {
        let mut files = files.clone();
        files.get_mut(SEGMENT).unwrap()[3 * 4096..4 * 4096].copy_from_slice(replacement);
        check_recovery(&disk_of(&files), &expect[..2], "a frame from elsewhere");
    }
    // Not even a frame with a checksum of its own, if it is bound to anything else.
    let third = Frame::decode(&whole[3 * 4096..4 * 4096]).unwrap().frame;
    let payload = &whole[3 * 4096 + 64..][..54];
    for forged in [
        Frame { database_id: [0; 16], ..third },
        Frame { epoch: third.epoch + 1, ..third },
        Frame { offset: third.offset + 4096, ..third },
        Frame { lsn: third.lsn + 1, ..third },
        Frame { previous: third.previous ^ 1, ..third },
        third,
    ] {
        let mut out = Buffer::new();
        forged.encode(payload, &mut out);
        let mut files = files.clone();
        files.get_mut(SEGMENT).unwrap()[3 * 4096..4 * 4096].copy_from_slice(&out);
        let frames = if forged == third { 3 } else { 2 };
        check_recovery(&disk_of(&files), &expect[..frames], "a forged frame");
    }
    let misnamed = BTreeMap::from([("wal-00000002.log".to_owned(), whole)]);
    assert_eq!(try_open(&disk_of(&misnamed), always(), 0).unwrap_err().kind(), ErrorKind::Corruption);
    let io = disk_of(&files);
    let error = Wal::open(&Leases::new(&io, dir()), [1; 16], always(), 0, &mut |_, _| Ok(())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption);
}

#[test]
fn a_log_of_a_newer_release_is_refused_and_left_alone() {
    let (mut files, _) = killed_log(1);
    let block = &mut files.get_mut(SEGMENT).unwrap()[..4096];
    block[8] = 2;
    let crc = crc32c::crc32c(&block[4..]);
    block[..4].copy_from_slice(&crc.to_le_bytes());
    let io = disk_of(&files);
    assert_eq!(try_open(&io, always(), 0).unwrap_err().kind(), ErrorKind::NewerFormat);
    assert_eq!(super::tests::files(&io), files);
}

#[test]
fn segments_below_a_released_position_go_and_are_not_needed_any_more() {
    let io = memory();
    let (wal, _) = open(&io);
    let mut records: Records = (0..40).map(|n| append_synced(&wal, &record(n, 3000))).collect();
    let before = wal.segments();
    let released = records[20].0;
    wal.release_before(released).unwrap();
    assert!(wal.segments() < before && wal.retained_bytes() < wal.appended());
    drop(wal);

    let (wal, got, _) = try_open(&io, always(), released).unwrap();
    assert_eq!(got, records[21..]);
    assert_eq!(read_only(&io, released).1, records[21..]);
    assert_eq!(try_open(&io, always(), 0).unwrap_err().kind(), ErrorKind::Corruption);
    assert!(matches!(read_only(&io, 0).0, ReadOnly::Overtaken(_)));

    // The last segment stays, and with it the position, even if all of it is released.
    let end = wal.rotate().unwrap();
    assert_eq!(end, records[39].0);
    wal.release_before(end).unwrap();
    assert_eq!(wal.segments(), 1);
    records = vec![append_synced(&wal, b"next")];
    wal.release_before(end).unwrap();
    assert_eq!(wal.segments(), 1);
    wal.close().unwrap();
    assert_eq!(try_open(&io, always(), end).unwrap().1, records);
}

#[test]
fn a_log_that_lost_all_its_segments_is_damaged() {
    let io = memory();
    assert_eq!(try_open(&io, always(), 77).unwrap_err().kind(), ErrorKind::Corruption);
    assert!(matches!(read_only(&io, 77).0, ReadOnly::Overtaken(_)));
    assert!(matches!(read_only(&io, 0).0, ReadOnly::Complete(_)));
}

#[test]
fn without_syncs_the_log_may_end_before_what_is_stored_elsewhere() {
    let (files, _) = killed_log(3);
    let io = disk_of(&files);
    let (wal, records, replay) = try_open(&io, always(), 1_000_000).unwrap();
    assert!(records.is_empty());
    assert_eq!(replay.end, 1_000_000);
    let next = append_synced(&wal, b"next");
    drop(wal);
    assert_eq!(try_open(&io, always(), 1_000_000).unwrap().1, [next]);
    assert_eq!(try_open(&io, always(), 0).unwrap_err().kind(), ErrorKind::Corruption);
}

#[test]
fn reading_only_changes_nothing() {
    let (mut files, expect) = killed_log(3);
    files.get_mut(SEGMENT).unwrap()[3 * 4096 + 9] ^= 1;
    files.insert("wal-00000002.log".to_owned(), vec![0; 8192]);
    let io = disk_of(&files);
    let (outcome, records) = read_only(&io, 0);
    assert!(matches!(outcome, ReadOnly::Complete(replay) if replay.torn.is_some()));
    assert_eq!(records, expect[..2]);
    assert_eq!(super::tests::files(&io), files);
}

#[test]
fn what_the_callback_returns_ends_the_replay() {
    let (files, _) = killed_log(3);
    let io = disk_of(&files);
    let fail = || Err(Error::corruption("no room for it"));
    assert_eq!(
        Wal::open(&Leases::new(&io, dir()), ID, always(), 0, &mut |_, _| fail()).unwrap_err().message(),
        "no room for it"
    );
    assert!(open_read_only(&io, dir(), ID, 0, &mut |_, _| fail()).is_err());
}

#[test]
fn a_failed_write_or_sync_poisons_and_reopening_decides() {
    for (operation, seed) in [(Operation::Sync, 1), (Operation::Write, 2), (Operation::Sync, 3), (Operation::Write, 4)]
    {
        let disk = SimDisk::new(seed);
        let io = disk.io();
        let (wal, _) = open(&io);
        let kept = append_synced(&wal, b"kept");
        disk.inject(Fault::new(FaultKind::Io).on(operation).path_with("wal-"));
        let lost = wal.append(b"in doubt").unwrap();
        assert_eq!(wal.sync_to(lost).unwrap_err().kind(), ErrorKind::Io);
        for error in [wal.sync_to(lost).unwrap_err(), wal.append(b"more").unwrap_err(), wal.close().unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Poisoned);
            assert!(error.message().contains("cannot"), "it names the cause: {error}");
        }
        wal.sync_to(kept.0).unwrap();
        assert_eq!(wal.durable(), kept.0);
        drop(wal);
        disk.clear_faults();

        // The same machine goes on: what the system's memory shows may not be on the device. What is handed out stays.
        let (wal, records) = open(&io);
        assert_eq!(records[0], kept);
        let mut expect = records;
        assert_eq!(open(&disk.crash(Survivors::AllLost).io()).1, expect);
        expect.push(append_synced(&wal, b"new"));
        assert_eq!(open(&disk.crash(Survivors::AllLost).io()).1, expect);
    }
}

#[test]
fn a_full_disk_refuses_records_and_poisons_nothing() {
    let disk = SimDisk::new(5);
    let io = disk.io();
    let (wal, _) = open(&io);
    let mut expect = vec![append_synced(&wal, &record(0, 3000))];
    disk.inject(Fault::new(FaultKind::DiskFull).on(Operation::Allocate).sticky());
    let refused = loop {
        match wal.append(&record(1, 3000)) {
            Ok(lsn) => expect.push((lsn, record(1, 3000))),
            Err(error) => break error,
        }
        wal.sync_to(wal.appended()).unwrap();
    };
    assert_eq!(refused.kind(), ErrorKind::DiskFull);
    assert!(expect.len() >= 5, "the space that was there was used");
    assert_eq!(wal.append(&record(2, 30_000)).unwrap_err().kind(), ErrorKind::DiskFull);
    wal.tick().unwrap();
    disk.clear_faults();
    expect.push(append_synced(&wal, &record(3, 30_000)));
    assert_eq!(open(&disk.crash(Survivors::AllLost).io()).1, expect);
}

#[test]
fn what_was_accepted_on_a_filling_disk_finds_its_space() {
    for seed in 0..200u64 {
        let disk = SimDisk::new(seed);
        let io = disk.io();
        let (wal, ..) = try_open(&io, WalOptions { segment_bytes: 5 * 4096, sync: SyncMode::Always }, 0).unwrap();
        disk.inject(Fault::new(FaultKind::DiskFull).on(Operation::Allocate).nth(1 + seed % 17).sticky());
        let mut expect = Records::new();
        let mut random = seed;
        loop {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let bytes = record(random, (random >> 33) as usize % [100, 4100, 60_000][seed as usize % 3]);
            match wal.append(&bytes) {
                Ok(lsn) => expect.push((lsn, bytes)),
                Err(error) => break assert_eq!(error.kind(), ErrorKind::DiskFull),
            }
            if (random >> 40).is_multiple_of(3) {
                wal.sync_to(wal.appended()).unwrap();
            }
        }
        wal.sync_to(wal.appended()).unwrap();
        assert_eq!(open(&disk.crash(Survivors::AllLost).io()).1, expect, "seed {seed}");
    }
}

#[test]
fn absurd_options_and_records_are_refused() {
    let io = memory();
    for segment_bytes in [0, SEGMENT_BYTES_MIN - 1, SEGMENT_BYTES_MAX + 1] {
        let options = WalOptions { segment_bytes, sync: SyncMode::Always };
        assert_eq!(try_open(&io, options, 0).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    let (wal, _) = open(&io);
    assert_eq!(wal.sync_to(1).unwrap_err().kind(), ErrorKind::InvalidArgument);
    let error = wal.append(&vec![0; RECORD_BYTES_MAX + 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
}

#[test]
fn a_small_log_stays_small_and_a_busy_one_gets_whole_segments() {
    let io = memory();
    let (wal, ..) = try_open(&io, WalOptions::default(), 0).unwrap();
    append_synced(&wal, b"first");
    assert_eq!(files(&io).values().map(Vec::len).collect::<Vec<_>>(), [1 << 20]);
    for n in 0..7 {
        append_synced(&wal, &record(n, 1 << 20));
    }
    assert_eq!(files(&io).values().map(Vec::len).collect::<Vec<_>>(), [1 << 20, 2 << 20, 4 << 20, 8 << 20]);
}

#[test]
fn eight_threads_are_told_only_what_is_durable() {
    for seed in 0..12 {
        let simulation = Simulation::new(seed, SimOptions::default());
        let disk = simulation.disk();
        let moment = 40 + seed * 37;
        disk.power_off_at(moment, Survivors::Random(seed));
        let report = simulation.run(move |io| {
            let acknowledged = Arc::new(Mutex::new(Vec::new()));
            let Ok((wal, ..)) = try_open(&io, always(), 0) else { return Vec::new() };
            let wal = Arc::new(wal);
            let threads: Vec<_> = (0..8u64)
                .map(|t| {
                    let (wal, acknowledged) = (Arc::clone(&wal), Arc::clone(&acknowledged));
                    let run = move || {
                        for n in 0..20 {
                            let bytes = record(t * 100 + n, (t * 150 + n) as usize);
                            let Ok(lsn) = wal.append(&bytes) else { return };
                            let Ok(()) = wal.sync_to(lsn) else { return };
                            acknowledged.lock().push((lsn, bytes));
                        }
                    };
                    thread::spawn("writer", run).unwrap()
                })
                .collect();
            for thread in threads {
                thread.join().unwrap();
            }
            std::mem::take(&mut *acknowledged.lock())
        });
        let mut acknowledged = report.into_result().unwrap();
        acknowledged.sort();
        let survived = disk.survived().unwrap_or_else(|| disk.crash(Survivors::AllLost));
        let (_, records) = open(&survived.io());
        for told in &acknowledged {
            assert!(records.contains(told), "seed {seed}: the record ending at {} is lost", told.0);
        }
    }
}

#[test]
fn threads_that_commit_at_once_share_their_syncs() {
    let simulation = Simulation::new(3, SimOptions::default());
    let disk = simulation.disk();
    let report = simulation.run(move |io| {
        let (wal, ..) = try_open(&io, WalOptions::default(), 0).unwrap();
        let wal = Arc::new(wal);
        let run = |t: u64| {
            let wal = Arc::clone(&wal);
            thread::spawn("writer", move || {
                for n in 0..25 {
                    append_synced(&wal, &record(t * 100 + n, 20));
                }
            })
        };
        let threads: Vec<_> = (0..8).map(|t| run(t).unwrap()).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    report.into_result().unwrap();
    // 200 commits, a write and a sync each, would be 400 operations.
    assert!(disk.operations() < 200, "{} operations", disk.operations());
    assert_eq!(open(&disk.crash(Survivors::AllLost).io()).1.len(), 200);
}

/// Found by the simulation: a thread that only wrote left another waiting, which was to sync what it had written.
#[test]
fn who_writes_without_waiting_leaves_nobody_waiting() {
    for seed in 0..60 {
        let report = Simulation::new(seed, SimOptions::default()).run(move |io| {
            let (wal, ..) = try_open(&io, WalOptions { segment_bytes: 8 << 20, sync: SyncMode::None }, 0).unwrap();
            let wal = Arc::new(wal);
            let run = |t: u64| {
                let wal = Arc::clone(&wal);
                thread::spawn("writer", move || {
                    for n in 0..5 {
                        let lsn = wal.append(&record(t * 100 + n, GATHER_BYTES / 2)).unwrap();
                        wal.tick().unwrap();
                        if t == 0 {
                            wal.sync_to(lsn).unwrap();
                        }
                    }
                })
            };
            let threads: Vec<_> = (0..3).map(|t| run(t).unwrap()).collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
        report.into_result().unwrap();
    }
}

#[test]
fn an_interval_log_is_durable_after_the_interval_and_not_before() {
    let simulation = Simulation::new(4, SimOptions::default());
    let disk = simulation.disk();
    let report = simulation.run(move |io| {
        let (wal, ..) = try_open(&io, small(SyncMode::Interval(Duration::from_millis(50))), 0).unwrap();
        let lsn = wal.append(b"soon").unwrap();
        wal.commit(lsn).unwrap();
        wal.tick().unwrap();
        assert!(wal.durable() < lsn);
        thread::sleep(Duration::from_millis(51));
        wal.tick().unwrap();
        assert_eq!(wal.durable(), lsn);
        thread::sleep(Duration::from_millis(51));
        let lsn = wal.append(b"the interval has passed, but whose turn it is has not come").unwrap();
        wal.commit(lsn).unwrap();
        assert!(wal.durable() < lsn);
        wal.tick().unwrap();
        assert_eq!(wal.durable(), lsn);
    });
    report.into_result().unwrap();
    assert_eq!(open(&disk.crash(Survivors::AllLost).io()).1.len(), 2);
}

#[test]
fn commits_wait_for_an_interval_log_that_stays_behind() {
    let simulation = Simulation::new(4, SimOptions::default());
    let disk = simulation.disk();
    let report = simulation.run(move |io| {
        let interval = Duration::from_millis(50);
        let (wal, ..) = try_open(&io, small(SyncMode::Interval(interval)), 0).unwrap();
        thread::sleep(Duration::from_secs(10));
        let first = wal.append(b"an idle log is not behind").unwrap();
        wal.commit(first).unwrap();
        assert!(wal.durable() < first);
        thread::sleep(interval + LAG_MAX);
        let second = wal.append(b"nobody has synced").unwrap();
        wal.commit(second).unwrap();
        assert_eq!(wal.durable(), second);
        let third = wal.append(b"and now it is not behind any more").unwrap();
        wal.commit(third).unwrap();
        assert!(wal.durable() < third);
    });
    report.into_result().unwrap();
    assert_eq!(open(&disk.crash(Survivors::AllLost).io()).1.len(), 2);
}

#[test]
fn a_log_without_syncs_writes_what_has_gathered_at_each_tick() {
    let disk = SimDisk::new(6);
    let io = disk.io();
    let (wal, ..) = try_open(&io, WalOptions { segment_bytes: 8 << 20, sync: SyncMode::None }, 0).unwrap();
    wal.commit(wal.append(b"small").unwrap()).unwrap();
    assert_eq!(open(&disk.crash(Survivors::AllKept).io()).1.len(), 0);
    wal.tick().unwrap();
    assert_eq!(open(&disk.crash(Survivors::AllKept).io()).1.len(), 1);
    wal.commit(wal.append(&vec![1; GATHER_BYTES]).unwrap()).unwrap();
    wal.tick().unwrap();
    assert_eq!(open(&disk.crash(Survivors::AllKept).io()).1.len(), 2);
    assert_eq!(open(&disk.crash(Survivors::AllLost).io()).1.len(), 0);
    wal.sync_to(wal.appended()).unwrap();
    assert_eq!(open(&disk.crash(Survivors::AllLost).io()).1.len(), 2);
}

#[test]
fn more_than_a_frame_that_no_watermark_covers_is_written_again() {
    let disk = SimDisk::new(6);
    let io = disk.io();
    let (wal, ..) = try_open(&io, WalOptions { segment_bytes: 8 << 20, sync: SyncMode::None }, 0).unwrap();
    let lsn = wal.append(&record(1, 3_000_000)).unwrap();
    wal.sync_to(lsn).unwrap();
    drop(wal);
    let (_, records) = open(&io);
    assert_eq!(records, [(lsn, record(1, 3_000_000))]);
}

#[test]
fn after_a_rest_a_watermark_proves_the_last_record() {
    let simulation = Simulation::new(8, SimOptions::default());
    let disk = simulation.disk();
    let report = simulation.run(move |io| {
        let (wal, _) = open(&io);
        append_synced(&wal, b"last");
        wal.tick().unwrap();
        thread::sleep(REST);
        wal.tick().unwrap();
        wal.tick().unwrap();
    });
    report.into_result().unwrap();
    let io = disk.crash(Survivors::AllLost).io();
    assert_eq!(files(&io)[SEGMENT].chunks(4096).filter(|block| block[4..8] == *b"OMWF").count(), 2);
    overwrite(&io, SEGMENT, 4096 + 70, &[0xFF]);
    assert_eq!(try_open(&io, always(), 0).unwrap_err().kind(), ErrorKind::Corruption);
}

#[test]
fn a_busy_log_has_its_next_segment_prepared_by_the_tick() {
    let disk = SimDisk::new(9);
    let io = disk.io();
    let (wal, _) = open(&io);
    for n in 0..5 {
        append_synced(&wal, &record(n, 3000));
    }
    wal.tick().unwrap();
    assert_eq!(files(&io).len(), 2);
    disk.inject(Fault::new(FaultKind::DiskFull).on(Operation::Allocate).sticky());
    for n in 0..6 {
        append_synced(&wal, &record(n, 3000));
    }
    assert_eq!(wal.segments(), 2);
}

/// What a program knows of its log when the power goes.
#[derive(Default)]
struct Known {
    appended: Records,
    /// Acknowledged up to here.
    durable: Lsn,
    /// Released, and so never asked for again, up to here.
    released: Lsn,
}

/// Uses a log in ways that follow from the seed, until it fails.
fn use_log(io: &IoRef, seed: u64, known: &mut Known) -> Result<()> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for _ in 0..3 {
        let (wal, records, _) = try_open(io, always(), known.released)?;
        known.appended.truncate(known.appended.iter().filter(|(lsn, _)| *lsn <= known.released).count());
        known.appended.extend(records);
        known.durable = wal.durable();
        for n in 0..next(25) {
            match next(12) {
                0 => known.durable = wal.rotate()?,
                1 => wal.tick()?,
                2 => {
                    if let Some((lsn, _)) = known.appended.get(next(known.appended.len().max(1) as u64) as usize) {
                        known.released = known.released.max((*lsn).min(known.durable));
                        wal.release_before(known.released)?;
                    }
                }
                3..=6 => {
                    wal.sync_to(wal.appended())?;
                    known.durable = wal.appended();
                }
                _ => {
                    let bytes = record(n + seed, next(9000) as usize);
                    known.appended.push((wal.append(&bytes)?, bytes));
                }
            }
        }
        if next(2) == 0 {
            wal.close()?;
            known.durable = wal.appended();
        }
    }
    Ok(())
}

/// That a disk has all that was acknowledged, nothing that was not appended, and no holes; and goes on to.
fn check_survivor(disk: &SimDisk, known: &Known, what: &str) {
    let opened = try_open(&disk.io(), always(), known.released);
    let (wal, records, _) = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
    let wanted: Records = known.appended.iter().filter(|(lsn, _)| *lsn > known.released).cloned().collect();
    assert!(wanted.starts_with(&records), "{what}: not a prefix");
    let end = records.last().map_or(known.released, |(lsn, _)| *lsn);
    let acknowledged = wanted.iter().filter(|(lsn, _)| *lsn <= known.durable).count();
    assert!(records.len() >= acknowledged, "{what}: ends at {end}, acknowledged up to {}", known.durable);
    // What was handed out stays, also if the power goes again at once, and new records follow it.
    let again = try_open(&disk.crash(Survivors::AllLost).io(), always(), known.released).unwrap().1;
    assert_eq!(again, records, "{what}: handed out and lost");
    let mut expect = records;
    expect.push(append_synced(&wal, b"goes on"));
    let again = try_open(&disk.crash(Survivors::AllLost).io(), always(), known.released).unwrap().1;
    assert_eq!(again, expect, "{what}: after going on");
}

#[test]
fn acknowledged_records_survive_a_power_failure_at_every_operation_also_of_the_recovery() {
    for seed in 0..6 {
        let dry = SimDisk::new(seed);
        use_log(&dry.io(), seed, &mut Known::default()).unwrap();
        for at in 1..=dry.operations() {
            for survivors in [Survivors::AllLost, Survivors::AllKept, Survivors::Random(at), Survivors::Random(at + 1)]
            {
                let what = format!("seed {seed}, power off at {at}, {survivors:?}");
                let disk = SimDisk::new(seed);
                let mut known = Known::default();
                disk.power_off_at(at, survivors);
                let result = use_log(&disk.io(), seed, &mut known);
                let Some(survived) = disk.survived() else { continue };
                // The last thing a close does is to remove segments that serve for nothing, as well as it can.
                let removals = u64::try_from(1 + SPARES_MAX).unwrap();
                assert!(result.is_err() || at + removals > dry.operations(), "{what}");

                // The recovery is cut off too, at one operation or another, and then goes through.
                survived.power_off_at(1 + at % 23, Survivors::Random(at));
                let recovered = try_open(&survived.io(), always(), known.released);
                drop(recovered.and_then(|(wal, ..)| wal.append(b"lost").and_then(|lsn| wal.sync_to(lsn))));
                let twice = survived.survived().unwrap_or_else(|| survived.crash(Survivors::AllLost));
                let lost = (Lsn::MAX, b"lost".to_vec());
                let (_, mut records, _) = try_open(&twice.io(), always(), known.released).unwrap();
                if let Some((lsn, _)) = records.pop_if(|(_, bytes)| *bytes == lost.1) {
                    known.appended.retain(|(appended, _)| *appended < lsn);
                    known.appended.push((lsn, lost.1));
                }
                check_survivor(&twice, &known, &what);
            }
        }
    }
}

#[test]
fn every_fault_at_every_operation_is_an_error_and_loses_nothing() {
    for kind in [FaultKind::Io, FaultKind::DiskFull, FaultKind::Short] {
        let seed = 7;
        let dry = SimDisk::new(seed);
        // A look for leases that fails is no failure of the log: what can't be told to be free is kept. Nor is a segment that a close
        // can't remove: the next open does.
        let looks = Arc::new(crate::io::sync::Mutex::new(Vec::new()));
        let seen = Arc::clone(&looks);
        dry.observe(move |moment| {
            if moment.path.ends_with(crate::lease::LEASE_DIR) || moment.operation == Operation::Remove {
                seen.lock().push(moment.number);
            }
        });
        use_log(&dry.io(), seed, &mut Known::default()).unwrap();
        let is_look = |at: &u64| looks.lock().contains(at);
        for at in 1..=dry.operations() {
            let what = format!("{kind:?} at {at}");
            let disk = SimDisk::new(seed);
            disk.inject(Fault::new(kind).nth(at));
            let mut known = Known::default();
            let result = use_log(&disk.io(), seed, &mut known);
            disk.clear_faults();
            let harmless = kind != FaultKind::Io || disk.faults_fired() == 0 || is_look(&at);
            assert!(result.is_err() || harmless, "{what}: swallowed");
            // The power goes, or the same machine opens it again.
            check_survivor(&disk.crash(Survivors::AllLost), &known, &what);
            check_survivor(&disk, &known, &what);
        }
    }
}

#[test]
fn a_segment_that_is_exactly_full_is_closed_with_a_watermark() {
    let io = memory();
    let options = WalOptions { segment_bytes: SEGMENT_BYTES_MIN, sync: SyncMode::Always };
    let (wal, ..) = try_open(&io, options, 0).unwrap();
    // Two blocks of frames: what a segment of four has beside its header and the block for the watermark.
    let expect: Records = (0..2).map(|n| append_synced(&wal, &record(n, 4000))).collect();
    assert_eq!(wal.segments(), 1);
    wal.close().unwrap();
    let files = files(&io);
    assert_eq!(files[SEGMENT].len(), 4 * 4096);
    assert_eq!(try_open(&disk_of(&files), options, 0).unwrap().1, expect);
    for at in 2 * 4096..3 * 4096 {
        let mut damaged = files.clone();
        damaged.get_mut(SEGMENT).unwrap()[at] ^= 1 << (at % 8);
        assert_eq!(try_open(&disk_of(&damaged), options, 0).unwrap_err().kind(), ErrorKind::Corruption, "byte {at}");
    }
}

#[test]
fn a_log_that_ends_before_where_it_was_durable_is_damaged() {
    let io = memory();
    let (wal, _) = open(&io);
    let expect: Records = (0..3).map(|n| append_synced(&wal, &record(n, 50))).collect();
    wal.close().unwrap();
    let known = super::Known { from: 0, durable_to: wal.durable() };
    let reopen = |files: &BTreeMap<String, Vec<u8>>| {
        let mut records = Records::new();
        let opened = Wal::open(&Leases::new(&disk_of(files), dir()), ID, always(), known, &mut |lsn, record: &[u8]| {
            records.push((lsn, record.to_vec()));
            Ok(())
        });
        opened.map(|_| records)
    };
    let whole = files(&io);
    assert_eq!(reopen(&whole).unwrap(), expect);
    for blocks in 0..4 {
        let mut cut = whole.clone();
        cut.get_mut(SEGMENT).unwrap().truncate(blocks * 4096);
        let error = reopen(&cut).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "{blocks} blocks");
        assert!(error.place().is_some(), "{blocks} blocks: {error}");
    }
    let mut none = whole;
    none.remove(SEGMENT);
    assert_eq!(reopen(&none).unwrap_err().kind(), ErrorKind::Corruption);
}
