/*!
The crash campaign on a real file system: what a power failure leaves of ext4 and of the database on it, block by block.

```text
    engine -> ext4 -> loop device -> FUSE file -> qemu-storage-daemon -> image, and a log of every write and flush
```

A workload runs once on a disk whose writes and flushes are logged. A crash image is then the state at some place of the log:
all that was written before the last flush, and of what came after it none, all, or any sectors of 512 B. Each image is
mounted, which replays ext4's own journal, and the database on it is opened and held against the history of commits, as in
`crash`. What the simulated disk only claims of a file system is so put to the test.

It needs root, loop devices, FUSE, mkfs.ext4 and qemu-storage-daemon (Debian: qemu-utils), and says so where it has not got
them. It is no part of the ordinary run:

    cargo test -p omendb-engine --test campaigns blocks:: -- --ignored --nocapture
*/

use crate::model::{self, Change, History, World, difference, read};
use crate::{setting, workloads};
use omendb_engine::db::{Db, Options};
use omendb_engine::io::random::{Random, mix};
use omendb_engine::io::{self, IoRef};
use omendb_engine::types::Seq;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Crash images; `OMENDB_BLOCK_IMAGES` asks for another number.
const IMAGES: u64 = 100;

const DISK_BYTES: u64 = 32 << 20;

/// Sparse; the daemon does not make it longer.
const LOG_BYTES: u64 = 4 << 30;

const SECTOR: u64 = 512;

/// An entry of the log, as dm-log-writes defined it.
#[derive(Debug, Clone, Copy)]
struct Entry {
    sector: u64,
    sectors: u64,
    flags: u64,
    /// Where its data are in the log.
    data: u64,
}

impl Entry {
    fn is_flush(&self) -> bool {
        self.flags & 1 != 0
    }

    fn is_durable(&self) -> bool {
        self.flags & 2 != 0
    }

    fn is_discard(&self) -> bool {
        self.flags & 4 != 0
    }
}

/// What the daemon has logged so far.
struct BlockLog {
    file: File,
    next: u64,
    entries: Vec<Entry>,
}

impl BlockLog {
    fn open(path: &Path) -> BlockLog {
        BlockLog { file: File::open(path).unwrap(), next: SECTOR, entries: Vec::new() }
    }

    /// Reads on; how many entries there are.
    fn read_on(&mut self) -> usize {
        loop {
            let mut head = [0u8; 32];
            self.file.read_exact_at(&mut head, self.next).unwrap();
            let field = |place: usize| u64::from_le_bytes(head[place * 8..place * 8 + 8].try_into().unwrap());
            let entry = Entry { sector: field(0), sectors: field(1), flags: field(2), data: self.next + SECTOR };
            if entry.sectors == 0 && entry.flags == 0 {
                return self.entries.len();
            }
            let stored = if entry.is_discard() { 0 } else { entry.sectors };
            self.next = entry.data + stored * SECTOR;
            self.entries.push(entry);
        }
    }

    /// Applies an entry's sectors that `keeps` chooses.
    fn apply(&self, entry: &Entry, image: &mut [u8], mut keeps: impl FnMut() -> bool) {
        for number in 0..entry.sectors {
            let start = ((entry.sector + number) * SECTOR) as usize;
            let to = &mut image[start..start + SECTOR as usize];
            if !keeps() {
            } else if entry.is_discard() {
                to.fill(0);
            } else {
                self.file.read_exact_at(to, entry.data + number * SECTOR).unwrap();
            }
        }
    }
}

/// Runs a program; its first line, or what went wrong.
fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let first = |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().next().unwrap_or_default().to_owned();
    match output.status.success() {
        true => Ok(first(&output.stdout)),
        false => Err(format!("{program} {}: {}", arguments.join(" "), first(&output.stderr))),
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A file as a mounted disk, until it is dropped.
struct Mounted {
    device: String,
    at: PathBuf,
}

impl Mounted {
    fn new(file: &Path, at: &Path) -> Result<Mounted, String> {
        fs::create_dir_all(at).map_err(|error| error.to_string())?;
        let device = run("losetup", &["--find", "--show", text(file)])?;
        match run("mount", &["-t", "ext4", &device, text(at)]) {
            Ok(_) => Ok(Mounted { device, at: at.to_owned() }),
            Err(what) => run("losetup", &["-d", &device]).and(Err(what)),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let gone = run("umount", &[text(&self.at)]).and_then(|_| run("losetup", &["-d", &self.device]));
        if let Err(what) = gone {
            eprintln!("{what}");
        }
    }
}

/// The daemon, until it is dropped.
struct Daemon(Child);

impl Daemon {
    /// Shows `disk` as `export`, and logs in `log` what is done to it.
    fn start(disk: &Path, log: &Path, export: &Path) -> Result<Daemon, String> {
        File::create(export).unwrap();
        let file = |name: &str, path: &Path| format!("driver=file,node-name={name},filename={}", text(path));
        let child = Command::new("qemu-storage-daemon")
            .args(["--blockdev", &file("disk", disk), "--blockdev", &file("log", log), "--blockdev"])
            .arg(format!("driver=blklogwrites,node-name=logged,file=disk,log=log,log-sector-size={SECTOR}"))
            .arg("--export")
            .arg(format!("type=fuse,id=export,node-name=logged,mountpoint={},writable=on", text(export)))
            .stdin(Stdio::null())
            .spawn();
        let mut daemon = Daemon(child.map_err(|error| format!("qemu-storage-daemon: {error}"))?);
        let began = Instant::now();
        while fs::metadata(export).map_or(0, |file| file.len()) != DISK_BYTES {
            if daemon.0.try_wait().unwrap().is_some() || began.elapsed() > Duration::from_secs(20) {
                return Err("qemu-storage-daemon does not export the disk".to_owned());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(daemon)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // SAFETY: the child has not been waited for, so the number is still its own.
        unsafe { libc::kill(self.0.id() as libc::pid_t, libc::SIGTERM) };
        let _ = self.0.wait();
    }
}

fn real_io() -> IoRef {
    io::uring().unwrap_or_else(|_| io::posix())
}

fn options(at: &Path) -> Options {
    Options { dir: Some(at.join("db")), ..workloads::options(&real_io()) }
}

/// What one run of the workload left.
struct Recorded {
    log: BlockLog,
    history: History,
    /// Entries of the log, and the commit that was acknowledged at that moment.
    acknowledged: Vec<(usize, Seq)>,
    begin: usize,
}

/// Runs the workload on a logged disk. `Err` for what this machine has not got.
fn record(dir: &Path, seed: u64) -> Result<Recorded, String> {
    let (disk, log, export, at) = (dir.join("disk"), dir.join("log"), dir.join("export"), dir.join("at"));
    for (path, bytes) in [(&disk, DISK_BYTES), (&log, LOG_BYTES)] {
        File::create(path).unwrap().set_len(bytes).unwrap();
    }
    run("mkfs.ext4", &["-q", "-F", "-J", "size=4", text(&disk)])?;
    fs::copy(&disk, dir.join("base")).unwrap();
    let daemon = Daemon::start(&disk, &log, &export)?;
    let mounted = Mounted::new(&export, &at)?;
    let mut log = BlockLog::open(&log);
    run("sync", &["-f", text(&at)])?;
    let begin = log.read_on();
    let (world, stop) = (Arc::new(World::default()), AtomicBool::new(false));
    let mut acknowledged = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                // In this order: what was acknowledged is in the entries that are read afterwards.
                let seq = world.acknowledged();
                let entries = log.read_on();
                if acknowledged.last().is_none_or(|(_, last)| *last < seq) {
                    acknowledged.push((entries, seq));
                }
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        let work = || -> omendb_engine::Result<()> {
            let mut random = Random::new(mix(seed));
            for _ in 0..4 {
                let db = Db::open(options(&at))?;
                for _ in 0..3 {
                    workloads::mixed(&db, &world, &mut random)?;
                }
                db.close()?;
            }
            Ok(())
        };
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        stop.store(true, Ordering::SeqCst);
        outcome.expect("the workload panicked").expect("the workload failed");
    });
    drop(mounted);
    drop(daemon);
    log.read_on();
    Ok(Recorded { log, history: world.history(), acknowledged, begin })
}

/// Opens the database of an image that is mounted, and holds it against the history.
fn look(at: &Path, history: &History, acknowledged: Seq, tag: u64) -> Result<(), String> {
    let failed = |what: &'static str| move |error: omendb_engine::Error| format!("{what}: {error}");
    let db = Db::open(options(at)).map_err(failed("open"))?;
    let report = db.check().map_err(failed("check"))?;
    if !report.problems.is_empty() {
        return Err(format!("the check says: {:?}", report.problems));
    }
    let snapshot = db.snapshot().map_err(failed("snapshot"))?;
    let seq = snapshot.seq();
    if seq < acknowledged {
        return Err(format!("commits up to {acknowledged} were acknowledged; there are those up to {seq}"));
    }
    let found = read(&snapshot).map_err(failed("read"))?;
    let mut expect = history.at(seq).clone();
    if let Some(lines) = difference(&found, &expect) {
        return Err(format!("after commit {seq} (acknowledged {acknowledged}):\n{lines}"));
    }
    drop(snapshot);
    let mut changes = vec![Change::Put("t", 7777, tag)];
    if !expect.contains_key("t") {
        changes.insert(0, Change::Create("t", true));
    }
    model::commit(&db, &changes).map_err(failed("write"))?;
    changes.iter().for_each(|change| model::apply(&mut expect, change));
    db.close().map_err(failed("close"))?;
    let db = Db::open(options(at)).map_err(failed("second open"))?;
    let found = db.snapshot().and_then(|snapshot| read(&snapshot)).map_err(failed("second read"))?;
    difference(&found, &expect).map_or(Ok(()), |lines| Err(format!("at the second open:\n{lines}")))?;
    db.close().map_err(failed("second close"))
}

#[test]
#[ignore = "needs root, loop devices, FUSE and qemu-storage-daemon"]
fn block_images_of_ext4_recover_to_a_prefix_of_history() {
    let (images, seed) = (setting("OMENDB_BLOCK_IMAGES", IMAGES), setting("OMENDB_BLOCK_SEED", 1));
    // In memory, where that is possible: what is below the loop device need not survive anything.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let recorded = match record(dir.path(), seed) {
        Ok(recorded) => recorded,
        Err(reason) => return eprintln!("not run, for this machine has not got what it takes: {reason}"),
    };
    let Recorded { log, history, acknowledged, begin } = recorded;
    let mut random = Random::new(mix(seed ^ 0xb10c));
    let span = log.entries.len() - begin;
    let mut places: Vec<usize> = (0..images).map(|_| begin + 1 + random.index(span)).collect();
    places.sort_unstable();
    // The image as of the last flush, and the place in the log up to which it was applied.
    let (mut durable, mut done) = (fs::read(dir.path().join("base")).unwrap(), 0);
    let (file, at) = (dir.path().join("crashed"), dir.path().join("after"));
    let began = Instant::now();
    for place in places {
        let flushed = log.entries[..place].iter().rposition(Entry::is_flush).map_or(0, |at| at + 1);
        log.entries[done..flushed.max(done)].iter().for_each(|entry| log.apply(entry, &mut durable, || true));
        done = done.max(flushed);
        let of_8 = [0, 8, 1 + random.below(7)][random.index(3)];
        let mut image = durable.clone();
        for entry in &log.entries[done..place] {
            let mut kept = || entry.is_durable() || random.chance(of_8, 8);
            log.apply(entry, &mut image, &mut kept);
        }
        fs::write(&file, &image).unwrap();
        let sure = acknowledged.iter().rfind(|(entries, _)| *entries <= place).map_or(0, |(_, seq)| *seq);
        let mounted = Mounted::new(&file, &at).unwrap();
        let outcome = look(&at, &history, sure, random.next_u64() >> 2 | 3);
        drop(mounted);
        if let Err(what) = outcome {
            panic!(
                "block image at entry {place} of {}, {of_8} eighths kept: {what}\nto run one like it:\n    OMENDB_BLOCK_SEED={seed} \
                 OMENDB_BLOCK_IMAGES={images} cargo test -p omendb-engine --test campaigns blocks:: -- --ignored",
                log.entries.len()
            );
        }
    }
    let (entries, commits) = (log.entries.len(), history.commits.len());
    let flushes = log.entries.iter().filter(|entry| entry.is_flush()).count();
    writeln!(
        std::io::stderr(),
        "{images} crash images of {entries} writes and flushes ({flushes}) and {commits} commits, in {:.0} s",
        began.elapsed().as_secs_f64()
    )
    .unwrap();
    assert!(acknowledged.len() > 20 && flushes > 50);
}
