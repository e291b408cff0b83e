/*!
The back end on real file systems: its promises, several threads at once, refusals, descriptors.
*/
#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // tests look at files from outside

use super::*;
use crate::error::ErrorKind;
use crate::io::random::Random;
use crate::io::{BUFFER_ALIGN, conformance, platform, thread};
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Command;

const BLOCK: usize = BUFFER_ALIGN;

/// Nothing to test where the system refuses io_uring: then posix is what there is.
fn uring_if_any() -> Option<IoRef> {
    uring().inspect_err(|reason| eprintln!("not tested, for there is no io_uring: {reason}")).ok()
}

/// A directory on a file system without direct I/O, where there is one.
fn on_tmpfs() -> Option<tempfile::TempDir> {
    tempfile::tempdir_in("/dev/shm").ok()
}

/// Whether files in `dir` are read and written past the page cache.
fn is_direct(dir: &Path) -> bool {
    let file = PosixFile::open(&dir.join("is-direct"), OpenMode::Create).unwrap();
    let direct = direct::enable(&file.file).is_some();
    fs::remove_file(&file.path).unwrap();
    direct
}

#[test]
fn uring_keeps_the_promises() {
    let Some(io) = uring_if_any() else { return };
    let dir = tempfile::tempdir().unwrap();
    conformance::check_all(&io, dir.path());
}

#[test]
fn uring_keeps_the_promises_where_there_is_no_direct_io() {
    let (Some(io), Some(dir)) = (uring_if_any(), on_tmpfs()) else { return };
    assert!(!is_direct(dir.path()), "tmpfs has no direct I/O that it tells of");
    conformance::check_all(&io, dir.path());
}

#[test]
fn threads_without_a_ring_keep_the_promises() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_owned();
    let thread = std::thread::spawn(move || {
        forbid_io_uring();
        // As if io_uring had been forbidden since the back end was chosen.
        let io: IoRef = Arc::new(Uring { system: posix() });
        conformance::check_all(&io, &root);
    });
    thread.join().unwrap();
}

#[test]
fn a_thread_whose_ring_is_refused_later_goes_on_without() {
    let Some(io) = uring_if_any() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = io.open(&dir.path().join("f"), OpenMode::CreateNew).unwrap();
    let thread = std::thread::spawn(move || {
        let write = || Op::Write { offset: 0, buffer: Buffer::from_slice(b"abc") };
        file.submit(write()).wait().unwrap();
        forbid_io_uring();
        for completion in file.submit_all(vec![write(), write(), Op::SyncData]) {
            assert!(completion.is_ready());
            completion.wait().unwrap();
        }
        for _ in 0..3 {
            assert_eq!(file.submit(write()).wait().unwrap().bytes, 3);
        }
        let full = io.open(Path::new("/dev/full"), OpenMode::ReadWrite).unwrap();
        assert_eq!(full.submit(write()).wait().unwrap_err().kind(), ErrorKind::DiskFull);
        assert_eq!(*file.read_at(0, 10).unwrap(), *b"abc");
    });
    thread.join().unwrap();
}

/// Makes io_uring's system calls fail on this thread, as a container's seccomp profile does.
fn forbid_io_uring() {
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let is_equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let give = libc::BPF_RET | libc::BPF_K;
    let step = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    // The number of the system call is the first word that a filter sees.
    let mut program = [
        step(load, 0, 0, 0),
        step(is_equal, 3, 0, libc::SYS_io_uring_setup as u32),
        step(is_equal, 2, 0, libc::SYS_io_uring_enter as u32),
        step(is_equal, 1, 0, libc::SYS_io_uring_register as u32),
        step(give, 0, 0, libc::SECCOMP_RET_ALLOW),
        step(give, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the filter is as long as it says, and is copied by the kernel.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter), 0);
    }
}

#[test]
fn a_refusal_by_seccomp_falls_back_to_posix_with_the_reason() {
    // In a process of its own, because others of this one have rings already, and it is the environment's wish that counts.
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "io::uring::tests::in_a_process_without_io_uring", "--ignored", "--nocapture"])
        .env_remove("OMENDB_IO")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "run by a_refusal_by_seccomp_falls_back_to_posix_with_the_reason"]
fn in_a_process_without_io_uring() {
    forbid_io_uring();
    let io = platform().unwrap();
    assert_eq!(io.name(), "posix");
    let notice = io.notice().unwrap();
    assert!(notice.contains("io_uring_setup: Operation not permitted"), "{notice}");
    let dir = tempfile::tempdir().unwrap();
    let file = io.open_direct(&dir.path().join("f"), OpenMode::CreateNew).unwrap();
    file.write_all_at(0, Buffer::zeroed(BLOCK)).unwrap();
    assert_eq!(file.read_at(0, 2 * BLOCK).unwrap().len(), BLOCK);
}

/// One thread's work on its own blocks of a file that all share: writes, reads and syncs in flight together, some of
/// them dropped, checked against what the blocks must hold.
fn work_at_random(io: &IoRef, path: &Path, worker: usize, seed: u64) {
    const BLOCKS: usize = 32;
    let file = io.open_direct(path, OpenMode::ReadWrite).unwrap();
    let mut random = Random::new(seed);
    let mut model = vec![0u8; BLOCKS * BLOCK];
    let base = (worker * BLOCKS * BLOCK) as u64;
    // Bytes with an operation in flight: no other may touch them. Writes that were dropped are never heard of.
    let mut busy: Vec<(std::ops::Range<usize>, Completion)> = Vec::new();
    let mut expected: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
    let mut unknown: Vec<std::ops::Range<usize>> = Vec::new();
    let overlaps = |a: &std::ops::Range<usize>, b: &std::ops::Range<usize>| a.start < b.end && b.start < a.end;
    for step in 0..600 {
        if busy.len() > 24 || (!busy.is_empty() && random.chance(1, 3)) {
            let (range, completion) = busy.swap_remove(random.index(busy.len()));
            let done = completion.wait().unwrap_or_else(|e| panic!("seed {seed}, step {step}: {e}"));
            if let Some(bytes) = expected.remove(&range.start) {
                assert!(*done.buffer.unwrap() == *bytes, "seed {seed}, step {step}: wrong bytes at {range:?}");
            } else {
                assert_eq!(done.bytes, range.len(), "seed {seed}, step {step}");
            }
            continue;
        }
        let is_write = random.chance(1, 2);
        let range = if is_write {
            let start = random.index(BLOCKS);
            let blocks = 1 + random.index((BLOCKS - start).min(4));
            start * BLOCK..(start + blocks) * BLOCK
        } else {
            let start = random.index(BLOCKS * BLOCK - 1);
            start..start + 1 + random.index((BLOCKS * BLOCK - start - 1).clamp(1, 3 * BLOCK))
        };
        let is_taken = busy.iter().any(|(taken, _)| overlaps(taken, &range));
        if is_taken || unknown.iter().any(|lost| overlaps(lost, &range)) {
            continue;
        }
        let offset = base + range.start as u64;
        let op = if is_write {
            let byte = random.next_u64() as u8;
            model[range.clone()].iter_mut().enumerate().for_each(|(i, place)| *place = byte.wrapping_add(i as u8));
            Op::Write { offset, buffer: Buffer::from_slice(&model[range.clone()]) }
        } else {
            Op::Read { offset, buffer: Buffer::zeroed(range.len()) }
        };
        let completion = file.submit(op);
        if random.chance(1, 12) {
            drop(completion);
            if is_write {
                unknown.push(range);
            }
            continue;
        }
        if !is_write {
            expected.insert(range.start, model[range.clone()].to_vec());
        }
        busy.push((range, completion));
        if random.chance(1, 60) {
            file.submit(Op::SyncData).wait().unwrap();
        }
    }
    for (range, completion) in busy {
        let done = completion.wait().unwrap();
        assert!(expected.remove(&range.start).is_none_or(|bytes| *done.buffer.unwrap() == *bytes), "seed {seed}");
    }
    let bytes = file.read_exact_at(base, BLOCKS * BLOCK).unwrap();
    for at in (0..BLOCKS * BLOCK).filter(|at| !unknown.iter().any(|lost| lost.contains(at))) {
        assert_eq!(bytes[at], model[at], "seed {seed}: byte {at}");
    }
}

fn many_threads_at_random(io: &IoRef, dir: &Path, seed: u64) {
    let path = dir.join("shared");
    let file = io.open_direct(&path, OpenMode::Create).unwrap();
    file.allocate(4 * 32 * BLOCK as u64).unwrap();
    file.write_all_at(0, Buffer::zeroed(4 * 32 * BLOCK)).unwrap();
    let threads: Vec<_> = (0..4)
        .map(|worker| {
            let (io, path) = (Arc::clone(io), path.clone());
            thread::spawn("worker", move || work_at_random(&io, &path, worker, seed + worker as u64)).unwrap()
        })
        .collect();
    for thread in threads {
        thread.join().unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    }
}

#[test]
fn many_threads_with_operations_in_flight_see_their_own_bytes() {
    let Some(io) = uring_if_any() else { return };
    let dir = tempfile::tempdir().unwrap();
    for seed in [1, 100, 200, 300] {
        many_threads_at_random(&io, dir.path(), seed);
    }
    if let Some(dir) = on_tmpfs() {
        many_threads_at_random(&io, dir.path(), 400);
    }
}

#[test]
fn one_rings_operations_may_be_waited_for_by_many_threads() {
    let Some(io) = uring_if_any() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = io.open_direct(&dir.path().join("f"), OpenMode::CreateNew).unwrap();
    let bytes: Vec<u8> = (0..64 * BLOCK).map(|i| (i / BLOCK) as u8).collect();
    file.write_all_at(0, Buffer::from_slice(&bytes)).unwrap();
    for _ in 0..20 {
        let read = |block: usize| Op::Read { offset: (block * BLOCK) as u64, buffer: Buffer::zeroed(BLOCK) };
        let mut waiting: Vec<Vec<(usize, Completion)>> = (0..4).map(|_| Vec::new()).collect();
        for (block, completion) in file.submit_all((0..64).map(read).collect()).into_iter().enumerate() {
            waiting[block % 4].push((block, completion));
        }
        let threads = waiting.into_iter().map(|completions| {
            thread::spawn("waiter", move || {
                for (block, completion) in completions {
                    let done = completion.wait().unwrap();
                    assert!(done.buffer.unwrap().iter().all(|byte| *byte == block as u8));
                }
            })
        });
        let threads: Vec<_> = threads.map(Result::unwrap).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// A pipe's ends as files; a read of an empty pipe is in flight until something is written to it.
fn pipe() -> (Arc<PosixFile>, Arc<PosixFile>) {
    let mut ends = [0; 2];
    // SAFETY: the kernel fills both descriptors, which nobody else has.
    let (reading, writing) = unsafe {
        assert_eq!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC), 0);
        use std::os::fd::FromRawFd;
        (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
    };
    let file = |end: OwnedFd| Arc::new(PosixFile { file: fs::File::from(end), path: PathBuf::from("pipe") });
    (file(reading), file(writing))
}

fn read_of(file: &Arc<PosixFile>) -> Vec<Job> {
    let file = Arc::clone(file);
    vec![Job { file, call: Call::Read { offset: 0 }, buffer: Buffer::zeroed(BLOCK) }]
}

fn write_to(file: &PosixFile, bytes: &[u8]) {
    use std::io::Write;
    (&file.file).write_all(bytes).unwrap();
}

#[test]
fn what_a_dropped_completion_worked_on_stays_until_the_kernel_is_done() {
    let Some(_) = uring_if_any() else { return };
    let ring = Arc::new(ring::Ring::new().unwrap());
    let (reading, writing) = pipe();
    let ticket = ring.submit(read_of(&reading)).pop().unwrap();
    assert!(!ticket.is_ready());
    drop(ticket);
    // The ring still has the file, and with it the buffer.
    assert_eq!(Arc::strong_count(&reading), 2);
    write_to(&writing, b"late");
    assert!(ring.drain());
    assert_eq!(Arc::strong_count(&reading), 1);
    // Its slot serves again.
    write_to(&writing, b"again");
    let (job, result) = ring.submit(read_of(&reading)).pop().unwrap().wait();
    assert_eq!((result, &job.buffer[..5]), (5, &b"again"[..]));
}

#[test]
fn a_ring_that_goes_with_work_in_flight_leaks_what_it_worked_on() {
    let Some(_) = uring_if_any() else { return };
    let ring = Arc::new(ring::Ring::new().unwrap());
    let (reading, _writing) = pipe();
    drop(ring.submit(read_of(&reading)));
    drop(ring);
    assert_eq!(Arc::strong_count(&reading), 2, "memory that the kernel may write to was given back");
}

#[test]
fn waiters_sleep_and_each_gets_its_own() {
    let Some(_) = uring_if_any() else { return };
    let ring = Arc::new(ring::Ring::new().unwrap());
    let pipes: Vec<_> = (0..4).map(|_| pipe()).collect();
    let waiters: Vec<_> = pipes
        .iter()
        .enumerate()
        .map(|(number, (reading, _))| {
            let ticket = ring.submit(read_of(reading)).pop().unwrap();
            thread::spawn("waiter", move || {
                let (job, result) = ticket.wait();
                assert_eq!((result, job.buffer[0]), (1, number as u8));
            })
            .unwrap()
        })
        .collect();
    // In an order other than that of the waiters, whichever of them is the watcher.
    for number in [2, 0, 3, 1] {
        thread::sleep(std::time::Duration::from_millis(5));
        write_to(&pipes[number].1, &[number as u8]);
    }
    waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
}

#[test]
fn a_full_ring_waits_for_one_to_complete() {
    let Some(_) = uring_if_any() else { return };
    let ring = Arc::new(ring::Ring::new().unwrap());
    let (reading, writing) = pipe();
    let full = ring::IN_FLIGHT_MAX as usize;
    let tickets = ring.submit((0..full).flat_map(|_| read_of(&reading)).collect());
    let (other, more) = (Arc::clone(&ring), read_of(&reading));
    let submitter = thread::spawn("submitter", move || other.submit(more).pop().unwrap().wait().1).unwrap();
    // A pipe gives what it has to one reader: each byte ends one read.
    for _ in 0..=full {
        write_to(&writing, b"x");
        thread::sleep(std::time::Duration::from_micros(50));
    }
    drop(writing);
    // With the pipe's other end gone, reads that found nothing end with nothing.
    assert!(submitter.join().unwrap() >= 0);
    for ticket in tickets {
        assert!(ticket.wait().1 >= 0);
    }
    assert!(ring.drain());
}

#[test]
fn a_thousand_files_leave_no_descriptor_behind() {
    let Some(io) = uring_if_any() else { return };
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    for number in 0..1000 {
        let path = root.join(format!("f{}", number % 50));
        let file =
            if number % 2 == 0 { io.open_direct(&path, OpenMode::Create) } else { io.open(&path, OpenMode::Create) };
        let file = file.unwrap();
        let write = Op::Write { offset: 0, buffer: Buffer::zeroed(BLOCK) };
        let read = Op::Read { offset: 0, buffer: Buffer::zeroed(BLOCK) };
        match number % 3 {
            0 => drop(file.submit_all(vec![write, read])),
            1 => assert_eq!(file.submit(write).wait().unwrap().bytes, BLOCK),
            _ => {}
        }
    }
    // What was dropped is done once this thread's rings are: each class takes what has completed with its next operation.
    let deadline = io.monotonic_nanos() + 60_000_000_000;
    let file = io.open(&root.join("last"), OpenMode::Create).unwrap();
    let is_open =
        |link: fs::DirEntry| fs::read_link(link.path()).is_ok_and(|to| to.starts_with(&root) && !to.ends_with("last"));
    while fs::read_dir("/proc/self/fd").unwrap().filter_map(std::result::Result::ok).any(is_open) {
        file.submit(Op::SyncData).wait().unwrap();
        file.submit(Op::Read { offset: 0, buffer: Buffer::zeroed(1) }).wait().unwrap();
        assert!(io.monotonic_nanos() < deadline, "a descriptor was left open");
    }
}

#[test]
fn offsets_that_no_file_has_are_refused_as_posix_does() {
    let Some(io) = uring_if_any() else { return };
    let dir = tempfile::tempdir().unwrap();
    for io in [io, posix()] {
        let file = io.open(&dir.path().join("f"), OpenMode::Create).unwrap();
        file.write_all_at(0, Buffer::from_slice(b"abc")).unwrap();
        for offset in [u64::MAX, u64::MAX / 2 + 1] {
            let read = || Op::Read { offset, buffer: Buffer::zeroed(3) };
            let write = || Op::Write { offset, buffer: Buffer::zeroed(3) };
            for op in [read(), write()] {
                assert!(file.submit(op).wait().is_err());
            }
            assert!(file.run(read()).is_err() && file.run(write()).is_err());
        }
        assert_eq!(*file.read_at(0, 10).unwrap(), *b"abc");
        let direct = io.open_direct(&dir.path().join("f"), OpenMode::Read).unwrap();
        assert!(direct.submit(Op::Read { offset: u64::MAX - 5, buffer: Buffer::zeroed(3) }).wait().is_err());
    }
}

#[test]
fn what_others_do_through_the_page_cache_is_seen_directly_and_back() {
    let Some(io) = uring_if_any() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let mut random = Random::new(5);
    let mut model = vec![0u8; 16 * BLOCK];
    let direct = io.open_direct(&path, OpenMode::CreateNew).unwrap();
    direct.allocate(model.len() as u64).unwrap();
    let buffered = posix().open(&path, OpenMode::ReadWrite).unwrap();
    for round in 0..200 {
        let block = random.index(16);
        let byte = random.next_u64() as u8;
        if random.chance(1, 2) {
            model[block * BLOCK..][..BLOCK].fill(byte);
            direct.write_all_at((block * BLOCK) as u64, Buffer::from_slice(&[byte; BLOCK])).unwrap();
        } else {
            let (at, len) = (block * BLOCK + random.index(BLOCK), 1 + random.index(100));
            let len = len.min(model.len() - at);
            model[at..][..len].fill(byte);
            buffered.write_all_at(at as u64, Buffer::from_slice(&vec![byte; len])).unwrap();
        }
        for file in [&direct, &buffered] {
            let (at, len) = (random.index(model.len()), 1 + random.index(3 * BLOCK));
            let len = len.min(model.len() - at);
            assert!(*file.read_exact_at(at as u64, len).unwrap() == model[at..][..len], "round {round}");
        }
    }
}
