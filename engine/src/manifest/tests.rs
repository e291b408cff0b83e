/*!
The manifest against its promises: atomic, durable edits, whatever fails or breaks.
*/

use super::*;
use crate::io::sim::{Fault, FaultKind, Operation, SimDisk, Survivors};
use crate::io::{memory, thread};
use crate::key::KeyRange;
use crate::run::meta::RunMeta;
use crate::types::{RunId, StorageId};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

const ID: [u8; 16] = *b"a database's id.";

fn dir() -> &'static Path {
    Path::new("/db")
}

fn with_dir(io: &IoRef) -> Result<()> {
    io.create_dir_all(dir())?;
    io.sync_dir(Path::new("/"))
}

fn created(io: &IoRef) -> Manifest {
    with_dir(io).unwrap();
    Manifest::create(&Leases::new(io, dir()), ID).unwrap()
}

fn open(io: &IoRef) -> Manifest {
    let (manifest, state) = Manifest::open(&Leases::new(io, dir())).unwrap();
    assert_eq!(manifest.state(), &state);
    assert_eq!(manifest.database_id(), ID);
    manifest
}

fn run(id: u64, max_seq: u64) -> RunEntry {
    let meta = RunMeta {
        id: RunId(id),
        random_id: id * 7,
        rows: 10,
        tombstones: 1,
        bytes: 4096,
        footer_offset: 4000,
        footer_bytes: 96,
        layout: crate::run::Layout::Column,
        min_key: vec![1; id as usize % 5],
        max_key: vec![9; 8],
        min_seq: 1,
        max_seq,
    };
    RunEntry { level: 0, meta, fixed_seq: id.is_multiple_of(3).then_some(max_seq + 1) }
}

fn add(id: u64) -> Edit {
    Edit { add_runs: vec![(StorageId(id % 3), run(id, id))], last_seq: Some(id + 1), ..Edit::default() }
}

fn load(rows: u64) -> LoadRecord {
    LoadRecord {
        content_hash: [rows as u8; 32],
        source: "s3://bücket/a.csv".to_owned(),
        options: "delimiter=;".to_owned(),
        rows,
        unix_micros: -5,
    }
}

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

/// The one manifest file: its name, and where its edits and their seals begin, by turns, with the end last.
fn live(files: &BTreeMap<String, Vec<u8>>) -> (String, Vec<usize>) {
    let (name, bytes) = files.iter().find(|(name, _)| file::number_of(name).is_some()).unwrap();
    let crc = u32::from_le_bytes(bytes[..4].try_into().unwrap());
    let mut offsets = vec![64];
    loop {
        let at = *offsets.last().unwrap();
        let Some(header) = bytes.get(at..at + 24).filter(|header| header[4..8] == *b"OMED") else { break };
        let len = u32::from_le_bytes(header[16..20].try_into().unwrap()) as usize;
        let whole = &bytes[at..at + (24 + len).next_multiple_of(8)];
        if crc32c::crc32c(&whole[4..]).to_le_bytes() != whole[..4] {
            break;
        }
        assert_eq!(header[20..24], crc.to_le_bytes());
        assert_eq!(len == 0, offsets.len() % 2 == 0, "a seal follows each edit, and an edit each seal");
        let end = at + (24 + len).next_multiple_of(8);
        offsets.push(if len == 0 { end } else { end.next_multiple_of(4096) });
    }
    (name.clone(), offsets)
}

fn erased(seq: u64, prefix: &[u8]) -> ErasedRange {
    ErasedRange { seq, range: KeyRange::prefix(prefix) }
}

fn everything() -> Edit {
    Edit {
        remove_runs: vec![RunId(1)],
        drop_storages: vec![StorageId(9)],
        add_runs: vec![(StorageId(2), run(12, 30)), (StorageId(4), run(13, 31))],
        move_runs: vec![(RunId(2), 6)],
        remove_erased: vec![(StorageId(2), erased(3, b"x"))],
        add_erased: vec![(StorageId(2), erased(4, b"")), (StorageId(4), erased(4, b"yz"))],
        next_run_id: Some(77),
        last_seq: Some(55),
        wal_released_to: Some(1 << 50),
        wal_durable_to: Some(1 << 51),
        next_row_ids: vec![(StorageId(2), 1000), (StorageId(8), 1)],
        flushed_seqs: vec![(StorageId(2), 54)],
        loads: vec![(StorageId(2), load(3)), (StorageId(2), load(4))],
    }
}

#[test]
fn edits_come_back_from_their_bytes_and_arbitrary_bytes_are_refused() {
    let mut bytes = Vec::new();
    everything().encode(&mut bytes).unwrap();
    assert_eq!(Edit::decode(&bytes).unwrap(), everything());
    assert_eq!(Edit::decode(&[]).unwrap(), Edit::default());
    for len in 0..bytes.len() {
        if let Ok(edit) = Edit::decode(&bytes[..len]) {
            assert_ne!(edit, everything());
        }
        let mut flipped = bytes.clone();
        flipped[len] ^= 0x80;
        assert_ne!(Edit::decode(&flipped).ok(), Some(everything()));
    }
    assert_eq!(Edit::decode(&[200]).unwrap_err().kind(), ErrorKind::Corruption);
    let long = LoadRecord { source: "x".repeat(LOAD_TEXT_BYTES_MAX + 1), ..load(1) };
    let edit = Edit { loads: vec![(StorageId(1), long)], ..Edit::default() };
    assert_eq!(edit.encode(&mut Vec::new()).unwrap_err().kind(), ErrorKind::LimitExceeded);
}

#[test]
fn an_edit_changes_the_state_as_it_says() {
    let mut state = State::default();
    for id in 1..=8 {
        state.apply(add(id)).unwrap();
    }
    state.apply(Edit { add_runs: vec![(StorageId(9), run(9, 9))], ..Edit::default() }).unwrap();
    let before = vec![(StorageId(2), erased(3, b"x")), (StorageId(2), erased(7, b"x"))];
    state.apply(Edit { add_erased: before, ..Edit::default() }).unwrap();
    state.apply(everything()).unwrap();
    assert_eq!(state.storages[&StorageId(2)].erased, [erased(7, b"x"), erased(4, b"")], "newest first");
    let ids = |storage: u64| -> Vec<u64> {
        state.storages[&StorageId(storage)].runs.iter().map(|run| run.meta.id.0).collect()
    };
    assert_eq!((ids(1), ids(2), ids(4)), (vec![7, 4], vec![12, 8, 5, 2], vec![13]));
    assert_eq!(ids(0), [6, 3], "newest first");
    assert!(!state.storages.contains_key(&StorageId(9)) && state.run(RunId(9)).is_none());
    let (storage, moved) = state.run(RunId(2)).unwrap();
    assert_eq!((storage, moved.level), (StorageId(2), 6));
    assert_eq!((state.next_run_id, state.last_seq, state.wal_released_to), (77, 55, 1 << 50));
    assert_eq!(state.storages[&StorageId(2)].next_row_id, 1000);
    assert_eq!(state.storages[&StorageId(2)].loads, [load(3), load(4)]);
    assert_eq!(state.run_ids().count(), 9);

    let mut copy = State::default();
    copy.apply(state.as_edit()).unwrap();
    assert_eq!(copy, state);
}

#[test]
fn an_edit_that_breaks_a_rule_changes_nothing() {
    let mut state = State::default();
    for id in 1..=3 {
        state.apply(add(id)).unwrap();
    }
    state.apply(Edit { next_row_ids: vec![(StorageId(1), 10)], ..Edit::default() }).unwrap();
    let one = || vec![(StorageId(1), erased(5, b"a"))];
    state.apply(Edit { add_erased: one(), ..Edit::default() }).unwrap();
    let twice = |seq: u64| vec![(StorageId(1), erased(seq, b"a")); 2];
    let empty = ErasedRange { seq: 6, range: KeyRange::empty() };
    let before = state.clone();
    let runs = |ids: &[u64]| ids.iter().map(|id| RunId(*id)).collect::<Vec<_>>();
    let adds = |ids: &[u64]| ids.iter().map(|id| (StorageId(1), run(*id, 1))).collect::<Vec<_>>();
    let none = Edit::default;
    for broken in [
        Edit { remove_runs: runs(&[4]), ..none() },
        Edit { remove_runs: runs(&[1, 1]), ..none() },
        Edit { add_runs: adds(&[2]), ..none() },
        Edit { add_runs: adds(&[5, 5]), ..none() },
        Edit { remove_runs: runs(&[2]), add_runs: adds(&[2]), ..none() },
        Edit { move_runs: vec![(RunId(4), 1)], ..none() },
        Edit { remove_runs: runs(&[1]), move_runs: vec![(RunId(1), 1)], ..none() },
        Edit { drop_storages: vec![StorageId(1)], move_runs: vec![(RunId(1), 1)], ..none() },
        Edit { next_run_id: Some(3), ..none() },
        Edit { last_seq: Some(1), ..none() },
        Edit { next_row_ids: vec![(StorageId(1), 9)], ..none() },
        Edit { add_erased: one(), ..none() },
        Edit { add_erased: twice(6), ..none() },
        Edit { add_erased: vec![(StorageId(1), empty)], ..none() },
        Edit { remove_erased: twice(5), ..none() },
        Edit { remove_erased: vec![(StorageId(2), erased(5, b"a"))], ..none() },
    ] {
        assert_eq!(state.apply(broken.clone()).unwrap_err().kind(), ErrorKind::Internal, "{broken:?}");
        assert_eq!(state, before);
    }
}

#[test]
fn edits_are_there_after_a_close_a_kill_and_a_power_failure() {
    for ending in 0..3 {
        let mut disk = SimDisk::new(1);
        let mut expect = created(&disk.io()).state().clone();
        for id in 1..=12 {
            let mut manifest = open(&disk.io());
            assert_eq!(manifest.state(), &expect);
            for edit in [add(2 * id), add(2 * id + 1)] {
                manifest.apply(edit.clone()).unwrap();
                expect.apply(edit).unwrap();
            }
            match ending {
                0 => manifest.close().unwrap(),
                1 => {}
                _ => disk = disk.crash(Survivors::AllLost),
            }
        }
        assert_eq!(open(&disk.io()).state(), &expect);
        let version = Manifest::open_read_only(&disk.io(), dir()).unwrap();
        assert_eq!((version.state, version.database_id), (expect, ID));
    }
}

#[test]
fn a_closed_database_opens_without_writing() {
    let io = memory();
    let mut manifest = created(&io);
    manifest.apply(add(1)).unwrap();
    manifest.close().unwrap();
    manifest.close().unwrap();
    let before = files(&io);
    open(&io).close().unwrap();
    assert_eq!(files(&io), before);
    // Edits after a close go to a new file.
    manifest.apply(add(2)).unwrap();
    assert_eq!(open(&io).state().run_ids().count(), 2);
    assert_eq!(files(&io).len(), 2, "CURRENT and one manifest");
}

#[test]
fn many_edits_are_folded_into_a_new_file() {
    let io = memory();
    let mut manifest = created(&io);
    let mut expect = State::default();
    let long = || load(1);
    for n in 0..120u64 {
        let text = "x".repeat(60_000);
        let edit = Edit { loads: vec![(StorageId(1), LoadRecord { options: text, ..long() })], ..add(n + 1) };
        manifest.apply(edit.clone()).unwrap();
        expect.apply(edit).unwrap();
    }
    let name = live(&files(&io)).0;
    assert!(file::number_of(&name).unwrap() > 1);
    assert_eq!(open(&io).state(), &expect);
}

#[test]
fn what_is_no_database_and_what_is_one_already() {
    let io = memory();
    with_dir(&io).unwrap();
    assert!(!Manifest::exists(&io, dir()).unwrap());
    assert_eq!(Manifest::open(&Leases::new(&io, dir())).unwrap_err().kind(), ErrorKind::NotADatabase);
    assert_eq!(Manifest::open_read_only(&io, dir()).unwrap_err().kind(), ErrorKind::NotADatabase);
    created(&io);
    assert!(Manifest::exists(&io, dir()).unwrap());
    assert_eq!(Manifest::create(&Leases::new(&io, dir()), ID).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

/// A killed manifest: an empty first edit, and three more.
fn killed() -> (BTreeMap<String, Vec<u8>>, Vec<State>) {
    let io = memory();
    let mut manifest = created(&io);
    let mut states = vec![manifest.state().clone()];
    for id in 1..=3 {
        manifest.apply(add(id)).unwrap();
        states.push(manifest.state().clone());
    }
    (files(&io), states)
}

/// That a damaged database opens with `expect`, and goes on.
fn check_opens(io: &IoRef, expect: &State, what: &str) {
    assert_eq!(&Manifest::open_read_only(io, dir()).unwrap().state, expect, "{what}, read only");
    let mut manifest = open(io);
    assert_eq!(manifest.state(), expect, "{what}");
    manifest.apply(add(100)).unwrap();
    let mut expect = expect.clone();
    expect.apply(add(100)).unwrap();
    assert_eq!(open(io).state(), &expect, "{what}, after one more edit");
}

#[test]
fn a_manifest_cut_short_anywhere_is_damaged() {
    let (mut files, _) = killed();
    let (name, offsets) = live(&files);
    let whole = files[&name].clone();
    for len in (0..offsets[offsets.len() - 1] + 50).chain([whole.len() - 4096, whole.len() - 1]) {
        files.insert(name.clone(), whole[..len].to_vec());
        assert_eq!(
            Manifest::open(&Leases::new(&disk_of(&files), dir())).unwrap_err().kind(),
            ErrorKind::Corruption,
            "cut to {len}"
        );
    }
    files.insert(name.clone(), [whole.as_slice(), &[0; 100]].concat());
    assert_eq!(Manifest::open(&Leases::new(&disk_of(&files), dir())).unwrap_err().kind(), ErrorKind::Corruption);
}

#[test]
fn a_flipped_bit_is_damage_in_an_edit_and_harmless_in_the_last_seal_and_between() {
    let (files, states) = killed();
    let (name, offsets) = live(&files);
    let [.., last_seal, end] = offsets[..] else { panic!() };
    let whole = files[&name].clone();
    for at in 0..end + 100 {
        let mut damaged = files.clone();
        damaged.get_mut(&name).unwrap()[at] ^= 1 << (at % 8);
        let io = disk_of(&damaged);
        let place = offsets.iter().rposition(|offset| *offset <= at);
        let part = place.map_or(0, |place| offsets[place]);
        // An edit's bytes, or a seal's; behind them zeros.
        let used = place.is_none_or(|place| {
            let len = u32::from_le_bytes(whole[part + 16..part + 20].try_into().unwrap()) as usize;
            place + 1 < offsets.len() && at < part + (24 + len).next_multiple_of(8)
        });
        if used && at < last_seal {
            let error = Manifest::open(&Leases::new(&io, dir())).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption, "byte {at}");
            let place = error.place().unwrap();
            assert_eq!(place.file, dir().join(&name));
            // What can't be read ends where it begins; a seal that does not hold leaves its edit's end.
            assert!(place.offset.unwrap() <= at as u64 && place.offset.unwrap() + 4096 > part as u64, "byte {at}");
            assert!(Manifest::open_read_only(&io, dir()).is_err());
        } else {
            check_opens(&io, &states[3], &format!("byte {at}"));
        }
    }
}

#[test]
fn a_torn_edit_is_cut_and_one_without_its_seal_counts_and_gets_it() {
    let (before, states) = killed();
    let io = disk_of(&before);
    let (name, offsets) = live(&before);
    let end = offsets[offsets.len() - 1];
    // As a writer goes on that has begun the file itself.
    let mut manifest = Manifest::open(&Leases::new(&io, dir())).unwrap().0;
    let header_crc = u32::from_le_bytes(before[&name][..4].try_into().unwrap());
    let edit = file::encode_edit(&add(4), end as u64, header_crc).unwrap();
    let mut state = states[3].clone();
    state.apply(add(4)).unwrap();
    for written in 0..=edit.len() {
        let mut torn = before.clone();
        torn.get_mut(&name).unwrap()[end..end + written].copy_from_slice(&edit[..written]);
        let io = disk_of(&torn);
        // The filling behind an edit is zeros, written or not.
        let whole = edit[written..].iter().all(|byte| *byte == 0);
        check_opens(&io, if whole { &state } else { &states[3] }, &format!("{written} bytes"));
        let io = disk_of(&torn);
        open(&io);
        assert_eq!(live(&files(&io)).1.len(), offsets.len() + if whole { 2 } else { 0 }, "{written} bytes");
    }
    manifest.close().unwrap();
}

#[test]
fn no_damage_to_one_block_is_mistaken_for_a_crash() {
    let io = memory();
    let mut manifest = created(&io);
    let mut versions = vec![files(&io)];
    for id in 1..=4 {
        manifest.apply(add(id)).unwrap();
        versions.push(files(&io));
    }
    let now = versions.pop().unwrap();
    let (name, _) = live(&now);
    let zeros = vec![0; now[&name].len()];
    let others = versions.iter().map(|files| &files[&name]).chain([&zeros]);
    for other in others {
        for block in [512, 4096] {
            for at in (0..zeros.len()).step_by(block) {
                let mut damaged = now.clone();
                damaged.get_mut(&name).unwrap()[at..at + block].copy_from_slice(&other[at..at + block]);
                match Manifest::open(&Leases::new(&disk_of(&damaged), dir())) {
                    Ok((_, state)) => assert_eq!(&state, manifest.state(), "block of {block} at {at}"),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Corruption),
                }
            }
        }
    }
}

#[test]
fn every_flipped_bit_of_current_is_damage() {
    let (files, _) = killed();
    for at in 0..files[CURRENT].len() {
        for bit in 0..8 {
            let mut damaged = files.clone();
            damaged.get_mut(CURRENT).unwrap()[at] ^= 1 << bit;
            let error = Manifest::open(&Leases::new(&disk_of(&damaged), dir())).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption, "byte {at}");
        }
    }
}

#[test]
fn files_of_a_newer_release_are_named_as_such() {
    let (mut files, _) = killed();
    let (name, _) = live(&files);
    let line = format!("omendb 2 {name} 00000000000000000000000000000001");
    let newer = format!("{line} {:08x}\n", crc32c::crc32c(line.as_bytes()));
    let current = files.insert(CURRENT.to_owned(), newer.into_bytes()).unwrap();
    assert_eq!(Manifest::open(&Leases::new(&disk_of(&files), dir())).unwrap_err().kind(), ErrorKind::NewerFormat);

    files.insert(CURRENT.to_owned(), current);
    let header = &mut files.get_mut(&name).unwrap()[..64];
    header[12] = 3;
    let crc = crc32c::crc32c(&header[4..]);
    header[..4].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(Manifest::open(&Leases::new(&disk_of(&files), dir())).unwrap_err().kind(), ErrorKind::NewerFormat);
}

#[test]
fn a_manifest_of_another_database_does_not_pass() {
    let (mut files, _) = killed();
    let io = memory();
    with_dir(&io).unwrap();
    Manifest::create(&Leases::new(&io, dir()), [1; 16]).unwrap();
    let (name, _) = live(&files);
    files.insert(name.clone(), super::tests::files(&io)[&name].clone());
    assert_eq!(Manifest::open(&Leases::new(&disk_of(&files), dir())).unwrap_err().kind(), ErrorKind::Corruption);
}

#[test]
fn a_failed_sync_poisons_and_what_the_next_open_read_stays() {
    for seed in 0..8 {
        let disk = SimDisk::new(seed);
        let io = disk.io();
        let mut manifest = created(&io);
        manifest.apply(add(1)).unwrap();
        disk.inject(Fault::new(FaultKind::Io).on(Operation::Sync));
        assert_eq!(manifest.apply(add(2)).unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(manifest.state().run_ids().count(), 1);
        for error in [manifest.apply(add(3)).unwrap_err(), manifest.close().unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Poisoned);
        }
        drop(manifest);
        let mut manifest = open(&io);
        let state = manifest.state().clone();
        assert_eq!(open(&disk.crash(Survivors::AllLost).io()).state(), &state, "seed {seed}");
        manifest.apply(add(4)).unwrap();
        assert_eq!(open(&disk.crash(Survivors::AllLost).io()).state(), manifest.state());
    }
}

#[test]
fn a_full_disk_changes_nothing_and_poisons_nothing() {
    let disk = SimDisk::new(2);
    let io = disk.io();
    let mut manifest = created(&io);
    disk.inject(Fault::new(FaultKind::DiskFull).on(Operation::Allocate).sticky());
    let mut id = 1;
    while manifest.apply(add(id)).inspect_err(|error| assert_eq!(error.kind(), ErrorKind::DiskFull)).is_ok() {
        id += 1;
    }
    assert!(id > 10, "the space that was there was used");
    let state = manifest.state().clone();
    // It opens on the full disk too.
    assert_eq!(open(&disk.crash(Survivors::AllLost).io()).state(), &state);
    assert_eq!(open(&io).state(), &state);
    disk.clear_faults();
    manifest.apply(add(id)).unwrap();
    assert_eq!(open(&disk.crash(Survivors::AllLost).io()).state(), manifest.state());
}

/// Makes a database and changes it until something fails. Gives every state that was acknowledged, and the one that
/// was being made.
fn use_manifest(io: &IoRef, states: &mut Vec<State>) -> Result<()> {
    with_dir(io)?;
    states.push(State::default());
    let mut manifest = Manifest::create(&Leases::new(io, dir()), ID)?;
    for id in 1..=9 {
        let mut next = manifest.state().clone();
        next.apply(add(id))?;
        states.push(next);
        manifest.apply(add(id))?;
        match id % 4 {
            0 => manifest.close()?,
            2 => manifest = Manifest::open(&Leases::new(io, dir()))?.0,
            _ => {}
        }
    }
    Ok(())
}

/// That the disk has the last state that was acknowledged or the one that was being made, and goes on.
fn check_survivor(disk: &SimDisk, states: &[State], what: &str) {
    let io = disk.io();
    if !Manifest::exists(&io, dir()).unwrap() {
        assert!(states.len() <= 1, "{what}: the database is gone");
        created(&io);
    }
    let mut manifest = open(&io);
    let known = states.len().saturating_sub(2);
    let allowed = states.get(known..).unwrap_or_default();
    assert!(allowed.is_empty() || allowed.contains(manifest.state()), "{what}");
    assert_eq!(open(&disk.crash(Survivors::AllLost).io()).state(), manifest.state(), "{what}: what was read is lost");
    manifest.apply(add(50)).unwrap();
    assert_eq!(open(&disk.crash(Survivors::AllLost).io()).state(), manifest.state(), "{what}: after going on");
    let strangers = io.list(dir()).unwrap().len();
    assert!(strangers <= 3, "{what}: {strangers} files are left");
}

#[test]
fn acknowledged_edits_survive_a_power_failure_at_every_operation_also_of_the_next_open() {
    let dry = SimDisk::new(1);
    use_manifest(&dry.io(), &mut Vec::new()).unwrap();
    for at in 1..=dry.operations() {
        for survivors in [Survivors::AllLost, Survivors::AllKept, Survivors::Random(at), Survivors::Random(at + 99)] {
            let what = format!("power off at {at}, {survivors:?}");
            let disk = SimDisk::new(1);
            disk.power_off_at(at, survivors);
            let mut states = Vec::new();
            if use_manifest(&disk.io(), &mut states).is_ok() {
                // Only the last removal of an old file met it.
                states = vec![states.pop().unwrap()];
            }
            let survived = disk.survived().unwrap();
            check_survivor(&survived.crash(Survivors::AllLost), &states, &what);
            for again in [1 + at % 16, 1 + (at + 7) % 16] {
                let survived = survived.crash(Survivors::AllKept);
                survived.power_off_at(again, Survivors::Random(again));
                drop(Manifest::open(&Leases::new(&survived.io(), dir())));
                if let Some(twice) = survived.survived() {
                    check_survivor(&twice, &states, &format!("{what}, and again at {again}"));
                }
            }
        }
    }
}

#[test]
fn every_fault_at_every_operation_is_an_error_and_loses_nothing() {
    for kind in [FaultKind::Io, FaultKind::DiskFull, FaultKind::Short] {
        for seed in 0..2 {
            let dry = SimDisk::new(seed);
            use_manifest(&dry.io(), &mut Vec::new()).unwrap();
            for at in 1..=dry.operations() {
                let what = format!("{kind:?} at {at}, seed {seed}");
                let disk = SimDisk::new(seed);
                disk.inject(Fault::new(kind).nth(at));
                let mut states = Vec::new();
                let result = use_manifest(&disk.io(), &mut states);
                disk.clear_faults();
                if result.is_ok() {
                    // Only what is done as well as can be, such as removing old files, may fail unheard.
                    states = vec![states.pop().unwrap()];
                }
                check_survivor(&disk.crash(Survivors::AllLost), &states, &what);
                check_survivor(&disk, &states, &what);
            }
        }
    }
}

#[test]
fn a_reader_is_not_disturbed_by_a_writer() {
    let io = memory();
    let mut manifest = created(&io);
    let reader = io.clone();
    let done = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&done);
    let read = move || {
        let mut runs = 0;
        while !told.load(Ordering::Relaxed) {
            let state = Manifest::open_read_only(&reader, dir()).unwrap().state;
            assert!(state.run_ids().count() >= runs);
            runs = state.run_ids().count();
        }
    };
    let reader = thread::spawn("reader", read).unwrap();
    for id in 1..200 {
        manifest.apply(add(id)).unwrap();
        if id % 5 == 0 {
            manifest.close().unwrap();
        }
    }
    done.store(true, Ordering::Relaxed);
    reader.join().unwrap();
}
