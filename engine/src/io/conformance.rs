/*!
What every back end promises, tested on each of them.
*/

use super::*;

type Promise = fn(&IoRef, &Path);

/// Runs every promise in a directory of its own under `root`, which exists.
pub(super) fn check_all(io: &IoRef, root: &Path) {
    let promises: [(&str, Promise); 15] = [
        ("written_bytes_are_read_back", written_bytes_are_read_back),
        ("bytes_are_written_durably_in_one_step", bytes_are_written_durably_in_one_step),
        ("a_read_ends_at_the_end_of_the_file", a_read_ends_at_the_end_of_the_file),
        ("lengths_change_and_gaps_are_zeros", lengths_change_and_gaps_are_zeros),
        ("open_modes_mean_what_they_say", open_modes_mean_what_they_say),
        ("directories_list_sorted_and_go_with_all_below", directories_list_sorted_and_go_with_all_below),
        ("a_rename_replaces_a_file", a_rename_replaces_a_file),
        ("open_files_outlive_their_names", open_files_outlive_their_names),
        ("a_lock_has_one_holder_and_names_it", a_lock_has_one_holder_and_names_it),
        ("a_lock_on_what_is_there_leaves_it_as_it_is", a_lock_on_what_is_there_leaves_it_as_it_is),
        ("clocks_and_randomness_move", clocks_and_randomness_move),
        ("direct_files_take_whole_blocks", direct_files_take_whole_blocks),
        ("any_bytes_of_a_direct_file_can_be_read", any_bytes_of_a_direct_file_can_be_read),
        ("more_operations_than_a_queue_holds_are_done", more_operations_than_a_queue_holds_are_done),
        ("completions_may_be_dropped_or_waited_for_elsewhere", completions_may_be_dropped_or_waited_for_elsewhere),
    ];
    for (name, promise) in &promises {
        let dir = root.join(name);
        io.create_dir_all(&dir).unwrap();
        promise(io, &dir);
        io.sync_dir(&dir).unwrap();
    }
    assert_eq!(io.list(root).unwrap().len(), promises.len());
}

fn create(io: &IoRef, path: &Path, bytes: &[u8]) -> Arc<dyn File> {
    let file = io.open(path, OpenMode::CreateNew).unwrap();
    file.write_all_at(0, Buffer::from_slice(bytes)).unwrap();
    file
}

fn read(io: &IoRef, path: &Path) -> Vec<u8> {
    let file = io.open(path, OpenMode::Read).unwrap();
    file.read_at(0, 1 << 20).unwrap().to_vec()
}

fn written_bytes_are_read_back(io: &IoRef, dir: &Path) {
    let file = io.open(&dir.join("f"), OpenMode::CreateNew).unwrap();
    let mut random = random::Random::new(3);
    let mut model = Vec::new();
    for _ in 0..60 {
        let (offset, len) = (random.index(20_000), random.index(9_000));
        let bytes = vec![random.next_u64() as u8; len];
        if len > 0 && model.len() < offset + len {
            model.resize(offset + len, 0);
        }
        let at = offset.min(model.len());
        model[at..][..len].copy_from_slice(&bytes);
        let buffer = file.write_all_at(offset as u64, Buffer::from_slice(&bytes)).unwrap();
        assert_eq!(*buffer, *bytes);
    }
    assert_eq!(file.len().unwrap(), model.len() as u64);
    assert_eq!(*file.read_at(0, 1 << 20).unwrap(), *model);
    assert_eq!(*file.read_exact_at(777, 5_000).unwrap(), model[777..5_777]);
    let ops = (0..4).map(|i| Op::Read { offset: i * 100, buffer: Buffer::zeroed(100) }).collect();
    for (i, completion) in file.submit_all(ops).into_iter().enumerate() {
        let done = completion.wait().unwrap();
        assert_eq!(*done.buffer.unwrap(), model[i * 100..][..done.bytes]);
    }
    file.sync_data().unwrap();
    file.sync_all().unwrap();
}

fn bytes_are_written_durably_in_one_step(io: &IoRef, dir: &Path) {
    let path = dir.join("f");
    let buffered = io.open(&path, OpenMode::CreateNew).unwrap();
    let bytes = buffered.write_durably_at(3, Buffer::from_slice(b"odd")).unwrap();
    assert_eq!(*bytes, *b"odd");
    assert_eq!(read(io, &path), b"\0\0\0odd");

    let direct = io.open_direct(&path, OpenMode::ReadWrite).unwrap();
    let blocks: Vec<u8> = (0..3 * BUFFER_ALIGN).map(|at| (at / 7) as u8).collect();
    for _ in 0..2 {
        let written = direct.write_durably_at(BUFFER_ALIGN as u64, Buffer::from_slice(&blocks)).unwrap();
        assert_eq!(*written, *blocks);
    }
    assert_eq!(*direct.read_exact_at(BUFFER_ALIGN as u64, blocks.len()).unwrap(), *blocks);
    assert!(direct.write_durably_at(7, Buffer::zeroed(BUFFER_ALIGN)).is_err());
    assert!(direct.write_durably_at(0, Buffer::zeroed(7)).is_err());
    assert!(direct.write_durably_at(u64::MAX - 4095, Buffer::zeroed(BUFFER_ALIGN)).is_err());
    let reader = io.open_direct(&path, OpenMode::Read).unwrap();
    assert!(reader.write_durably_at(0, Buffer::zeroed(BUFFER_ALIGN)).is_err());
    assert_eq!(*direct.read_exact_at(BUFFER_ALIGN as u64, blocks.len()).unwrap(), *blocks);
}

fn a_read_ends_at_the_end_of_the_file(io: &IoRef, dir: &Path) {
    let file = create(io, &dir.join("f"), b"0123456789");
    assert_eq!(*file.read_at(7, 10).unwrap(), *b"789");
    assert_eq!(*file.read_at(10, 10).unwrap(), *b"");
    assert_eq!(*file.read_at(1 << 40, 10).unwrap(), *b"");
    assert_eq!(*file.read_at(0, 0).unwrap(), *b"");
    let error = file.read_exact_at(7, 10).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption);
    assert_eq!(error.place().unwrap().offset, Some(7));
    // A damaged length asks for no more memory than the file has bytes.
    assert_eq!(file.read_exact_at(7, usize::MAX / 2).unwrap_err().kind(), ErrorKind::Corruption);
}

fn lengths_change_and_gaps_are_zeros(io: &IoRef, dir: &Path) {
    let file = create(io, &dir.join("f"), &[7; 6000]);
    file.set_len(5000).unwrap();
    file.set_len(9000).unwrap();
    let bytes = file.read_exact_at(0, 9000).unwrap();
    assert!(bytes[..5000].iter().all(|byte| *byte == 7) && bytes[5000..].iter().all(|byte| *byte == 0));
    file.allocate(3_000_000).unwrap();
    assert_eq!(file.len().unwrap(), 3_000_000);
    file.allocate(10).unwrap();
    assert_eq!(file.len().unwrap(), 3_000_000);
    let bytes = file.read_exact_at(0, 3_000_000).unwrap();
    assert!(bytes[..5000].iter().all(|byte| *byte == 7) && bytes[5000..].iter().all(|byte| *byte == 0));
    file.set_len(0).unwrap();
    assert!(file.is_empty().unwrap());
}

fn open_modes_mean_what_they_say(io: &IoRef, dir: &Path) {
    let path = dir.join("f");
    assert_eq!(io.open(&path, OpenMode::Read).unwrap_err().kind(), ErrorKind::Io);
    assert!(io.open(&path, OpenMode::ReadWrite).is_err());
    assert_eq!(io.exists(&path).unwrap(), None);
    create(io, &path, b"x");
    assert!(io.open(&path, OpenMode::CreateNew).is_err());
    assert_eq!(io.open(&path, OpenMode::Create).unwrap().len().unwrap(), 1);
    assert_eq!(io.open(&path, OpenMode::ReadWrite).unwrap().path(), path);
    let reader = io.open(&path, OpenMode::Read).unwrap();
    assert!(reader.write_all_at(0, Buffer::from_slice(b"y")).is_err());
    assert!(reader.set_len(0).is_err());
    assert_eq!(read(io, &path), b"x");
    assert!(io.open(dir, OpenMode::Read).is_err());
    assert!(io.open(&path.join("below"), OpenMode::Create).is_err());
    assert!(io.open(&dir.join("none").join("f"), OpenMode::Create).is_err());
    assert_eq!(io.exists(&path.join("below")).unwrap(), None);
}

fn directories_list_sorted_and_go_with_all_below(io: &IoRef, dir: &Path) {
    io.create_dir_all(&dir.join("b").join("c")).unwrap();
    io.create_dir_all(&dir.join("b")).unwrap();
    create(io, &dir.join("z"), b"123");
    create(io, &dir.join("a"), b"");
    create(io, &dir.join("b").join("c").join("f"), b"");
    let entry = |name: &str, kind, len| DirEntry { name: name.to_owned(), kind, len };
    let expected = [entry("a", EntryKind::File, 0), entry("b", EntryKind::Dir, 0), entry("z", EntryKind::File, 3)];
    assert_eq!(io.list(dir).unwrap(), expected);
    assert_eq!(io.names(dir).unwrap(), ["a", "b", "z"]);
    assert!(io.create_dir_all(&dir.join("a").join("x")).is_err());
    assert!(io.remove_file(&dir.join("b")).is_err());
    io.remove_dir_all(&dir.join("b")).unwrap();
    assert_eq!(io.exists(&dir.join("b")).unwrap(), None);
    assert!(io.remove_dir_all(&dir.join("b")).is_err());
    io.remove_file(&dir.join("z")).unwrap();
    assert!(io.remove_file(&dir.join("z")).is_err());
    assert_eq!(io.list(dir).unwrap().len(), 1);
    assert!(io.list(&dir.join("b")).is_err() && io.names(&dir.join("b")).is_err());
    assert!(io.sync_dir(&dir.join("b")).is_err());
}

fn a_rename_replaces_a_file(io: &IoRef, dir: &Path) {
    let (a, b, sub) = (dir.join("a"), dir.join("b"), dir.join("sub"));
    create(io, &a, b"new");
    create(io, &b, b"old");
    io.rename(&a, &b).unwrap();
    assert_eq!((io.exists(&a).unwrap(), read(io, &b)), (None, b"new".to_vec()));
    assert!(io.rename(&a, &b).is_err());
    io.create_dir_all(&sub).unwrap();
    assert!(io.rename(&b, &sub).is_err());
    assert!(io.rename(&sub, &b).is_err());
    assert!(io.rename(&sub, &sub.join("below")).is_err());
    io.rename(&b, &sub.join("c")).unwrap();
    io.rename(&sub, &dir.join("moved")).unwrap();
    assert_eq!(read(io, &dir.join("moved").join("c")), b"new");
}

fn open_files_outlive_their_names(io: &IoRef, dir: &Path) {
    let (a, b) = (dir.join("a"), dir.join("b"));
    let file = create(io, &a, b"1");
    io.rename(&a, &b).unwrap();
    file.write_all_at(1, Buffer::from_slice(b"2")).unwrap();
    assert_eq!(read(io, &b), b"12");
    io.remove_file(&b).unwrap();
    assert_eq!(*file.read_exact_at(0, 2).unwrap(), *b"12");
}

fn a_lock_has_one_holder_and_names_it(io: &IoRef, dir: &Path) {
    let path = dir.join("LOCK");
    let held = io.lock(&path).unwrap();
    let error = io.lock(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(error.message().contains(&io.process_id().to_string()), "{error}");
    drop(held);
    drop(io.lock(&path).unwrap());
}

fn a_lock_on_what_is_there_leaves_it_as_it_is(io: &IoRef, dir: &Path) {
    let path = dir.join("LEASE");
    assert!(io.lock_existing(&path).unwrap().is_none());
    assert_eq!(io.exists(&path).unwrap(), None, "and nothing is made");
    let file = create(io, &path, b"some text that is no number");
    let held = io.lock_existing(&path).unwrap().unwrap();
    assert_eq!(io.lock_existing(&path).unwrap_err().kind(), ErrorKind::Locked);
    assert_eq!(io.lock(&path).unwrap_err().kind(), ErrorKind::Locked);
    assert_eq!(read(io, &path), b"some text that is no number");
    drop(held);
    let held = io.lock(&path).unwrap();
    let error = io.lock_existing(&path).unwrap_err();
    assert!(error.message().contains(&io.process_id().to_string()), "{error}");
    // Who locks a file and removes it keeps others from taking it for a lock that holds.
    io.remove_file(&path).unwrap();
    drop((held, file));
    assert!(io.lock_existing(&path).unwrap().is_none());
}

fn clocks_and_randomness_move(io: &IoRef, _dir: &Path) {
    let before = io.monotonic_nanos();
    thread::sleep(std::time::Duration::from_millis(1));
    assert!(io.monotonic_nanos() > before);
    assert!(io.unix_micros() > 1_600_000_000_000_000);
    assert_ne!(io.random_u64(), io.random_u64());
}

const BLOCK: usize = BUFFER_ALIGN;

/// A block's worth of bytes that tell where they stand.
fn numbered(block: usize, round: usize) -> Vec<u8> {
    (0..BLOCK / 8).flat_map(|word| ((block << 40) + (round << 20) + word).to_le_bytes()).collect()
}

fn direct_files_take_whole_blocks(io: &IoRef, dir: &Path) {
    let path = dir.join("f");
    let file = io.open_direct(&path, OpenMode::CreateNew).unwrap();
    let refused = |offset, len| {
        let error = file.write_all_at(offset, Buffer::zeroed(len)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        let write = Op::Write { offset, buffer: Buffer::zeroed(len) };
        assert_eq!(file.submit(write).wait().unwrap_err().kind(), ErrorKind::InvalidArgument);
    };
    refused(0, 100);
    refused(512, BLOCK);
    refused(1, BLOCK - 1);
    assert_eq!(file.allocate(100).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert!(file.is_empty().unwrap());

    // One refusal among several operations leaves the others be.
    let write = |block: usize, len| Op::Write {
        offset: (block * BLOCK) as u64,
        buffer: Buffer::from_slice(&numbered(block, 0)[..len]),
    };
    let ops = vec![write(0, BLOCK), write(1, 7), write(2, BLOCK)];
    let outcomes: Vec<_> = file.submit_all(ops).into_iter().map(|completion| completion.wait().is_ok()).collect();
    assert_eq!(outcomes, [true, false, true]);
    file.allocate(8 * BLOCK as u64).unwrap();
    assert_eq!(file.len().unwrap(), 8 * BLOCK as u64);
    let mut model = vec![0; 8 * BLOCK];
    model[..BLOCK].copy_from_slice(&numbered(0, 0));
    model[2 * BLOCK..3 * BLOCK].copy_from_slice(&numbered(2, 0));
    assert_eq!(*file.read_exact_at(0, 8 * BLOCK).unwrap(), *model);

    // The end of the file may lie anywhere; what follows a cut is zeros.
    file.set_len(2 * BLOCK as u64 + 777).unwrap();
    assert_eq!(*file.read_at(0, 8 * BLOCK).unwrap(), model[..2 * BLOCK + 777]);
    file.sync_all().unwrap();
    assert_eq!(read(io, &path), model[..2 * BLOCK + 777]);
    file.allocate(4 * BLOCK as u64).unwrap();
    model[2 * BLOCK + 777..].fill(0);
    assert_eq!(*file.read_exact_at(0, 4 * BLOCK).unwrap(), model[..4 * BLOCK]);
    file.write_all_at(2 * BLOCK as u64, Buffer::from_slice(&numbered(5, 1))).unwrap();
    model[2 * BLOCK..3 * BLOCK].copy_from_slice(&numbered(5, 1));
    file.sync_data().unwrap();
    let reader = io.open_direct(&path, OpenMode::Read).unwrap();
    assert_eq!(*reader.read_exact_at(0, 4 * BLOCK).unwrap(), model[..4 * BLOCK]);
    assert!(reader.write_all_at(0, Buffer::zeroed(BLOCK)).is_err());
    assert!(io.open_direct(&path, OpenMode::CreateNew).is_err());
    assert!(io.open_direct(dir, OpenMode::Read).is_err());
}

fn any_bytes_of_a_direct_file_can_be_read(io: &IoRef, dir: &Path) {
    let path = dir.join("f");
    let len = 5 * BLOCK + 1234;
    let model: Vec<u8> = (0..6).flat_map(|block| numbered(block, 3)).take(len).collect();
    {
        let file = io.open_direct(&path, OpenMode::CreateNew).unwrap();
        let blocks = (0..6)
            .map(|block| Op::Write { offset: (block * BLOCK) as u64, buffer: Buffer::from_slice(&numbered(block, 3)) });
        for completion in file.submit_all(blocks.collect()) {
            assert_eq!(completion.wait().unwrap().bytes, BLOCK);
        }
        file.set_len(len as u64).unwrap();
        file.sync_all().unwrap();
    }
    let file = io.open_direct(&path, OpenMode::Read).unwrap();
    let mut random = random::Random::new(11);
    for _ in 0..300 {
        let (offset, wanted) = (random.index(len + 2000), random.index(3 * BLOCK));
        let expected = model.get(offset..).map_or(&[][..], |rest| &rest[..rest.len().min(wanted)]);
        assert_eq!(*file.read_at(offset as u64, wanted).unwrap(), *expected, "{wanted} bytes at {offset}");
        // Into memory that has more room, and other bytes in it.
        let mut buffer = Buffer::from_slice(&vec![0xee; 4 * BLOCK]);
        buffer.truncate(wanted);
        let done = file.submit(Op::Read { offset: offset as u64, buffer }).wait().unwrap();
        assert_eq!(done.bytes, done.buffer.as_ref().unwrap().len());
        assert_eq!(*done.buffer.unwrap(), expected[..done.bytes]);
        assert!(done.bytes > 0 || expected.is_empty(), "{wanted} bytes at {offset}");
    }
    assert_eq!(*file.read_at(1 << 40, 10).unwrap(), *b"");
    assert_eq!(file.read_exact_at(len as u64 - 5, 10).unwrap_err().kind(), ErrorKind::Corruption);
}

fn more_operations_than_a_queue_holds_are_done(io: &IoRef, dir: &Path) {
    const BLOCKS: usize = 700;
    for (name, direct) in [("buffered", false), ("direct", true)] {
        let path = dir.join(name);
        let open = |mode| if direct { io.open_direct(&path, mode) } else { io.open(&path, mode) };
        let file = open(OpenMode::CreateNew).unwrap();
        let writes = (0..BLOCKS)
            .map(|block| Op::Write { offset: (block * BLOCK) as u64, buffer: Buffer::from_slice(&numbered(block, 7)) });
        for completion in file.submit_all(writes.collect()) {
            assert_eq!(completion.wait().unwrap().bytes, BLOCK);
        }
        file.submit(Op::SyncData).wait().unwrap();
        let read = |block: usize| Op::Read { offset: (block * BLOCK) as u64, buffer: Buffer::zeroed(BLOCK) };
        let mut completions: Vec<_> = (0..BLOCKS).map(|block| (block, file.submit(read(block)))).collect();
        completions.reverse();
        for (block, completion) in completions {
            assert_eq!(*completion.wait().unwrap().buffer.unwrap(), *numbered(block, 7));
        }
    }
}

fn completions_may_be_dropped_or_waited_for_elsewhere(io: &IoRef, dir: &Path) {
    let file = io.open_direct(&dir.join("f"), OpenMode::CreateNew).unwrap();
    file.allocate(64 * BLOCK as u64).unwrap();
    // Submitted by a thread that ends at once; even blocks are waited for here, odd ones by nobody.
    let other = Arc::clone(&file);
    let submitter = thread::spawn("submitter", move || {
        let write = |block: usize| Op::Write {
            offset: (block * BLOCK) as u64,
            buffer: Buffer::from_slice(&numbered(block, 9)),
        };
        let mut kept = Vec::new();
        for (block, completion) in other.submit_all((0..64).map(write).collect()).into_iter().enumerate() {
            if block % 2 == 0 {
                kept.push(completion);
            }
        }
        kept
    });
    for completion in submitter.unwrap().join().unwrap() {
        while !completion.is_ready() {
            thread::yield_now();
        }
        assert_eq!(completion.wait().unwrap().bytes, BLOCK);
    }
    let written = |block: usize| *file.read_exact_at((block * BLOCK) as u64, BLOCK).unwrap() == *numbered(block, 9);
    assert!((0..64).step_by(2).all(written));
    // A sync waits for nothing that was not waited for, but what was dropped ends some time.
    let deadline = io.monotonic_nanos() + 60_000_000_000;
    while !(0..64).all(written) {
        assert!(io.monotonic_nanos() < deadline, "a dropped completion did not let its write run to its end");
        thread::yield_now();
    }
}

#[test]
fn posix_keeps_the_promises() {
    let dir = tempfile::tempdir().unwrap();
    check_all(&posix(), dir.path());
}

#[test]
fn memory_keeps_the_promises() {
    check_all(&memory(), Path::new("/"));
}
