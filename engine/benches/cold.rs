/*!
What lookups cost whose rows are on the device: device reads, bytes and lookups a second, with so many in flight at a time, and
beside them what `fio` reaches on the same file.

```text
    cargo bench -p omendb-engine --bench cold -- dir=PATH [rows=5000000] [keys=bytes|int] [layout=row|column|auto] [in_flight=64] [lookups=200000] [rounds=3]
```

The rows are those of [`rows`], merged into one level, in a table of the given layout. The database is opened with a cache of 1 MiB, which
answers one lookup in a hundred, and its files for direct I/O, past the system's cache. In flight are the lookups of threads that look up one
row at a time, or of fewer threads that look up several at once. A row is a function of its number; a wrong answer ends the program.

Bytes are those that the kernel counts for this process (`read_bytes` in `/proc/self/io`); device reads are those of the whole device
(`/sys/dev/block`), so nobody else should be reading it. After each round `fio`, if it is installed, reads random blocks of the same
file with as many in flight: blocks of the size that a device read of ours had, in whole pages.
*/
#![expect(clippy::disallowed_methods, reason = "clock, threads and files of a benchmark are the system's")]

mod rows;

use omendb_engine::db::{Options, Row, SyncMode};
use omendb_engine::types::{LayoutChoice, RunChoices};
use rows::{Bench, Draw, Keys, Result, Rows, spread};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// The allocator of OmenDB's programs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CACHE_BYTES: usize = 1 << 20;
const PAGE_BYTES: u64 = 4096;
/// How long `fio` reads, in seconds.
const FIO_SECONDS: u32 = 3;

struct Settings {
    dir: PathBuf,
    rows: Rows,
    layout: LayoutChoice,
    in_flight: u64,
    lookups: u64,
    rounds: usize,
}

impl Settings {
    fn of_arguments() -> Result<Settings> {
        let mut settings = Settings {
            dir: PathBuf::new(),
            rows: Rows { count: 5_000_000, keys: Keys::Bytes, upper: 0 },
            layout: LayoutChoice::Row,
            in_flight: 64,
            lookups: 200_000,
            rounds: 3,
        };
        // Cargo says that it is a benchmark.
        for argument in std::env::args().skip(1).filter(|argument| argument != "--bench") {
            match argument.split_once('=') {
                Some(("dir", dir)) => settings.dir = dir.into(),
                Some(("rows", rows)) => settings.rows.count = rows.parse()?,
                Some(("keys", "bytes")) => settings.rows.keys = Keys::Bytes,
                Some(("keys", "int")) => settings.rows.keys = Keys::Int,
                Some(("layout", "row")) => settings.layout = LayoutChoice::Row,
                Some(("layout", "column")) => settings.layout = LayoutChoice::Column,
                Some(("layout", "auto")) => settings.layout = LayoutChoice::Auto,
                Some(("in_flight", in_flight)) => settings.in_flight = in_flight.parse()?,
                Some(("lookups", lookups)) => settings.lookups = lookups.parse()?,
                Some(("rounds", rounds)) => settings.rounds = rounds.parse()?,
                _ => return Err(format!("unknown argument {argument:?}").into()),
            }
        }
        if settings.dir.as_os_str().is_empty() {
            return Err("dir=PATH says where the database lies; it is made there and stays".into());
        }
        if settings.rows.count == 0 || settings.in_flight == 0 || settings.lookups == 0 || settings.rounds == 0 {
            return Err("rows, in_flight, lookups and rounds are at least 1".into());
        }
        Ok(settings)
    }

    /// Threads, and the rows that each looks up at once, of which there are so many in flight, or fewer.
    fn forms(&self) -> Vec<(u64, u64)> {
        let mut forms = vec![(1, 1)];
        for threads in [1, 2, 4, self.in_flight] {
            let at_once = (self.in_flight / threads).max(1);
            if !forms.contains(&(threads, at_once)) {
                forms.push((threads, at_once));
            }
        }
        forms
    }
}

/// What the kernel has counted.
#[derive(Clone, Copy)]
struct Counts {
    /// Reads that the device has completed, whoever asked for them.
    device_reads: u64,
    /// Bytes read from devices for this process.
    bytes: u64,
    /// Nanoseconds of processor time of this process.
    processor_nanos: u64,
}

impl Counts {
    fn now(dir: &Path) -> Result<Counts> {
        let device = std::fs::metadata(dir)?.dev();
        let (major, minor) = (libc::major(device), libc::minor(device));
        let stat = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat"))?;
        let device_reads = stat.split_whitespace().next().ok_or("the device does not count its reads")?.parse()?;
        let io = std::fs::read_to_string("/proc/self/io")?;
        let bytes = io.lines().find_map(|line| line.strip_prefix("read_bytes: "));
        let bytes = bytes.ok_or("the kernel does not count the bytes that are read")?.trim().parse()?;
        let schedules = std::fs::read_dir("/proc/self/task")?.map(|task| {
            // A thread that has ended meanwhile has been counted by nobody; the threads of a phase are counted by themselves.
            std::fs::read_to_string(task?.path().join("schedstat"))
        });
        let mut processor_nanos = 0;
        for schedule in schedules.filter_map(std::io::Result::ok) {
            processor_nanos += schedule.split(' ').next().ok_or("no time in schedstat")?.parse::<u64>()?;
        }
        Ok(Counts { device_reads, bytes, processor_nanos })
    }
}

/// What a round has measured.
struct Measured {
    lookups_a_second: f64,
    /// Of the device, for each lookup.
    reads: f64,
    bytes: f64,
    processor_nanos: f64,
    /// What a device read had, in whole pages.
    block_bytes: u64,
}

/// Looks up `lookups` random rows.
fn look_up(bench: &Bench, settings: &Settings, (threads, at_once): (u64, u64), seed: u64) -> Result<Measured> {
    let batches = (settings.lookups / threads / at_once).max(1);
    let before = Counts::now(&settings.dir)?;
    let begin = Instant::now();
    let outcomes: Vec<Result<u64>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || client(bench, Draw::new(seed ^ (thread << 40), bench.rows), batches, at_once))
            })
            .collect();
        handles.into_iter().map(|handle| handle.join().unwrap_or_else(|_| Err("a thread panicked".into()))).collect()
    });
    let seconds = begin.elapsed().as_secs_f64();
    let after = Counts::now(&settings.dir)?;
    let mut of_threads = 0;
    for outcome in outcomes {
        of_threads += outcome?;
    }
    let lookups = (batches * at_once * threads) as f64;
    let (device_reads, bytes) = (after.device_reads - before.device_reads, after.bytes - before.bytes);
    if device_reads == 0 || bytes == 0 {
        return Err("the lookups have read nothing from the device".into());
    }
    let each = |after: u64, before: u64| after.saturating_sub(before) as f64 / lookups;
    Ok(Measured {
        lookups_a_second: lookups / seconds,
        reads: each(after.device_reads, before.device_reads),
        bytes: each(after.bytes, before.bytes),
        processor_nanos: each(after.processor_nanos, before.processor_nanos) + of_threads as f64 / lookups,
        block_bytes: ((bytes / device_reads + PAGE_BYTES / 2) / PAGE_BYTES).max(1) * PAGE_BYTES,
    })
}

/// One thread's lookups: nanoseconds of processor time.
fn client(bench: &Bench, mut draw: Draw, batches: u64, at_once: u64) -> Result<u64> {
    let snapshot = bench.db.snapshot()?;
    let mut row = Row::default();
    for _ in 0..batches {
        if at_once == 1 {
            bench.get(&snapshot, draw.next(), &mut row)?;
        } else {
            let numbers: Vec<u64> = (0..at_once).map(|_| draw.next()).collect();
            bench.multi_get(&snapshot, &numbers)?;
        }
    }
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(stat.split(' ').next().ok_or("no time in schedstat")?.parse()?)
}

/// Reads a second of random blocks; `None` where there is no `fio`.
fn fio(file: &Path, block_bytes: u64, in_flight: u64) -> Result<Option<f64>> {
    let output = Command::new("fio")
        .args(["--name=cold", "--readonly", "--rw=randread", "--direct=1", "--ioengine=io_uring", "--time_based"])
        .args(["--output-format=terse", "--terse-version=3"])
        .arg(format!("--filename={}", file.display()))
        .arg(format!("--bs={block_bytes}"))
        .arg(format!("--iodepth={in_flight}"))
        .arg(format!("--runtime={FIO_SECONDS}"))
        .output();
    let output = match output {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        output => output?,
    };
    let text = String::from_utf8_lossy(&output.stdout);
    // Of the terse format 3 the eighth field is the reads a second.
    let reads = text.lines().last().and_then(|line| line.split(';').nth(7)).and_then(|field| field.parse().ok());
    match reads {
        Some(reads) if output.status.success() => Ok(Some(reads)),
        _ => Err(format!("fio: {text}{}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}

/// The largest file of a run.
fn largest_run(dir: &Path) -> Result<PathBuf> {
    let mut largest = (0, None);
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let bytes = entry.metadata()?.len();
        if entry.file_name().to_string_lossy().starts_with("run-") && bytes > largest.0 {
            largest = (bytes, Some(entry.path()));
        }
    }
    largest.1.ok_or_else(|| "there is no run".into())
}

/// Loads the rows with room, and opens them with hardly any.
fn open(settings: &Settings) -> Result<Bench> {
    let runs = RunChoices { layout: settings.layout, ..RunChoices::default() };
    let options = Options { sync: SyncMode::None, memory_bytes: 1 << 30, ..Options::dir(&settings.dir) };
    let bench = Bench::open(options.clone(), settings.rows, runs)?;
    if bench.table.runs != runs {
        return Err(format!("the table in {} has another layout", settings.dir.display()).into());
    }
    let Bench { db, .. } = bench;
    db.close()?;
    Bench::open(Options { cache_bytes: CACHE_BYTES, ..options }, settings.rows, runs)
}

fn main() -> Result<()> {
    let settings = Settings::of_arguments()?;
    let bench = open(&settings)?;
    let stats = bench.db.stats()?;
    println!("{} rows in {} runs of {} bytes, files through {}", bench.rows, stats.runs, stats.run_bytes, stats.io);
    let file = largest_run(&settings.dir)?;
    for (threads, at_once) in settings.forms() {
        let in_flight = threads * at_once;
        let mut ours = Vec::new();
        let (mut fios, mut block_bytes) = (Vec::new(), 0);
        look_up(&bench, &settings, (threads, at_once), u64::MAX >> 24)?;
        for round in 0..settings.rounds {
            let measured = look_up(&bench, &settings, (threads, at_once), u64::try_from(round)?)?;
            block_bytes = measured.block_bytes;
            fios.extend(fio(&file, block_bytes, in_flight)?);
            ours.push(measured);
        }
        let of = |what: fn(&Measured) -> f64| spread(ours.iter().map(what).collect());
        let (rate, least, most) = of(|m| m.lookups_a_second);
        println!(
            "{threads:>2} threads, {at_once:>2} at once: {rate:>8.0} lookups/s ({least:.0} to {most:.0}), {:.2} device reads and {:.1} KiB a \
             lookup, {:.1} µs of processor",
            of(|m| m.reads).0,
            of(|m| m.bytes).0 / 1024.0,
            of(|m| m.processor_nanos).0 / 1e3,
        );
        if fios.is_empty() {
            println!("    fio is not installed");
        } else {
            let (rate_of_fio, least, most) = spread(fios);
            let ratio = rate * of(|m| m.reads).0 / rate_of_fio;
            println!(
                "    fio, {block_bytes} bytes, {in_flight} in flight: {rate_of_fio:>8.0} reads/s ({least:.0} to {most:.0}); our reads \
                 beside those {ratio:.2}"
            );
        }
    }
    Ok(())
}
