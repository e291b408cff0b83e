/*!
`list` and `run`: from the command line to the result.
*/

use crate::args::RunArgs;
use crate::clock::SystemClock;
use crate::cold::Cold;
use crate::drive::{Driver, Pace};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::latency::{Distribution, show};
use crate::live::Live;
use crate::record::{Recorder, Tally};
use crate::result::{Operation, RunResult, RunSettings, SCHEMA};
use crate::settings::Settings;
use crate::table;
use crate::watch::{Watched, indexes, watch};
use crate::workload::{Entry, Kind, WORKLOADS, Workload, find};
use crate::workloads::note;
use omendb_cli::report::say;
use omendb_cli::settings::FileSettings;
use omendb_cli::size::{self, count};
use omendb_cli::{Colour, Exit};
use omendb_engine::Error;
use omendb_sql::SyncMode;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// How long after the end operations that were due before are still begun: so much of the duration.
const GRACE_SHARE: u32 = 4;

/// Prints the workloads.
pub(crate) fn list() -> Result<Exit, Failure> {
    let width = WORKLOADS.iter().map(|entry| entry.name.len()).max().unwrap_or(0);
    let line = |entry: &&Entry| format!("{:width$}  {}\n", entry.name, entry.about);
    print(&WORKLOADS.iter().map(line).collect::<String>())?;
    Ok(Exit::Done)
}

/// Runs what the arguments say.
pub(crate) fn run(args: &RunArgs, files: &FileSettings, colour: Colour) -> Result<Exit, Failure> {
    let entry = find(&args.workload)?;
    let settings = Settings::new(args, files)?;
    if let Some(why) = entry.not_cold.filter(|_| args.cold) {
        let taken: Vec<&str> = WORKLOADS.iter().filter(|e| e.not_cold.is_none()).map(|e| e.name).collect();
        let message = format!("{} is not run cold: {why}. {} are.", entry.name, taken.join(", "));
        return Err(Failure::Usage(message));
    }
    if cfg!(debug_assertions) && !args.quiet {
        say(&format!("{} this program was built without optimisation; its figures say little", colour.note("note:")));
    }
    let mut result = RunResult {
        schema: SCHEMA.to_owned(),
        workload: entry.name.to_owned(),
        started_unix_seconds: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        git_revision: omendb_cli::version::git_revision().to_owned(),
        ..RunResult::default()
    };
    let outcome = match entry.kind {
        Kind::Tables(run) => run(&settings).map(|tables| result.tables = tables),
        Kind::Driven(open) => open(&settings).and_then(|mut workload| {
            result.settings = run_settings(&settings)?;
            drive(&settings, workload.as_mut(), &mut result)
        }),
    };
    result.environment = Environment::look(settings.open.dir.as_deref());
    match &outcome {
        // There was no run.
        Err(Failure::Usage(_) | Failure::CannotOpen(_) | Failure::Interrupted) => {}
        Err(failure) => {
            result.failure = Some(failure.sentence());
            write(&result, args.output.as_deref())?;
        }
        Ok(()) => {
            write(&result, args.output.as_deref())?;
            if !args.output.as_deref().is_some_and(is_stdout) {
                print(&text(&result))?;
            }
        }
    }
    outcome.map(|()| Exit::Done)
}

fn run_settings(settings: &Settings) -> Result<RunSettings, Failure> {
    let options = settings.options()?;
    let bytes = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    Ok(RunSettings {
        clients: settings.clients,
        duration_seconds: settings.duration.as_secs_f64(),
        warmup_seconds: settings.warmup.as_secs_f64(),
        interval_seconds: settings.interval().as_secs_f64(),
        rate: match settings.pace {
            Pace::Closed => None,
            Pace::Rate(rate) => Some(rate),
        },
        seed: settings.seed,
        cold: settings.cold,
        sync: match options.sync {
            SyncMode::Always => "always".to_owned(),
            SyncMode::None => "none".to_owned(),
            SyncMode::Interval(time) => format!("{}ms", time.as_millis()),
        },
        cache_bytes: bytes(options.cache_bytes),
        memory_bytes: bytes(options.memory_bytes),
    })
}

/// Runs a driven workload; what came of it is in `result`, also where it failed.
fn drive(settings: &Settings, workload: &mut dyn Workload, result: &mut RunResult) -> Result<(), Failure> {
    workload.prepare()?;
    settings.stop_if_interrupted()?;
    result.parameters = workload.parameters().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let Measured { watched, unserved, first_error, outcome } = measure(settings, workload)?;
    settings.stop_if_interrupted()?;
    let names = workload.operations();
    let operations = names.iter().zip(&watched.totals.operations).enumerate();
    result.operations =
        operations.map(|(place, (name, tally))| operation(name, workload.commits(place), tally)).collect();
    result.yardstick = (watched.totals.yardstick.len() > 0).then(|| watched.totals.yardstick.distribution());
    result.elapsed_seconds = watched.elapsed.as_secs_f64();
    (result.samples, result.engine, result.unserved) = (watched.samples, watched.engine, unserved);
    outcome?;
    if let Some(failure) = first_error {
        let errors: u64 = result.operations.iter().map(|operation| operation.errors).sum();
        let detail = format!("{} operations ended with an error; this was the first.", count(errors));
        return Err(match failure {
            Failure::Failed(error) => Failure::Failed(error.with_detail(detail)),
            other => other,
        });
    }
    note(settings, "checking what is there");
    result.verified = workload.verify()?;
    if let Some(db) = workload.db() {
        result.indexes = indexes(&db)?;
    }
    Ok(())
}

/// What came of the clients' work.
struct Measured {
    watched: Watched,
    /// Operations that became due and were not begun.
    unserved: u64,
    /// The first error that an operation ended with.
    first_error: Option<Failure>,
    /// A wrong answer.
    outcome: Result<(), Failure>,
}

/// Lets clients work, and watches them.
fn measure(settings: &Settings, workload: &dyn Workload) -> Result<Measured, Failure> {
    let names = workload.operations();
    let recorder = Recorder::new(settings.clients, names.len());
    let cold = match workload.db().filter(|_| settings.cold) {
        Some(db) => Some(Cold::new(db, names.clone())?),
        None => None,
    };
    let clients = (0..settings.clients).map(|number| workload.client(number)).collect::<Result<Vec<_>, _>>()?;
    let end = settings.warmup + settings.duration;
    let mut live = Live::new(&names, end, settings.quiet);
    let clock = SystemClock::start();
    let driver = Driver::new(&clock, &recorder, settings.pace, end, settings.duration / GRACE_SHARE).with_cold(cold);
    let working = AtomicUsize::new(clients.len());
    let (watched, outcome) = std::thread::scope(|scope| {
        let mut threads = Vec::with_capacity(settings.clients);
        for (number, mut client) in clients.into_iter().enumerate() {
            let (driver, working) = (&driver, &working);
            let work = move || {
                let outcome = driver.drive(number, client.as_mut());
                working.fetch_sub(1, Ordering::AcqRel);
                outcome
            };
            let started = std::thread::Builder::new().name(format!("client-{number}")).spawn_scoped(scope, work);
            if started.is_err() {
                working.fetch_sub(1, Ordering::AcqRel);
                driver.stop();
            }
            threads.push(started);
        }
        let watched = watch(&driver, workload, settings, &|| working.load(Ordering::Acquire) == 0, &mut live);
        // All of them are waited for, whichever failed.
        let mut outcome = Ok(());
        for thread in threads {
            let ended = match thread {
                Ok(thread) => {
                    thread.join().unwrap_or_else(|_| Err(Error::internal("a client's thread panicked").into()))
                }
                Err(e) => Err(Error::internal(format!("cannot start a client: {e}")).into()),
            };
            outcome = outcome.and(ended);
        }
        (watched, outcome)
    });
    live.finish();
    Ok(Measured { watched, unserved: driver.unserved(), first_error: driver.first_error(), outcome })
}

fn operation(name: &str, commits: bool, tally: &Tally) -> Operation {
    Operation {
        name: name.to_owned(),
        count: tally.count(),
        rows: tally.rows,
        retries: tally.retries,
        errors: tally.errors,
        commits: Some(commits),
        service: tally.service.distribution(),
        response: (tally.response.len() > 0).then(|| tally.response.distribution()),
        device_reads: tally.device,
    }
}

/// The result for people.
fn text(result: &RunResult) -> String {
    let own: String = result.tables.iter().map(|table| table::render_figures(table) + "\n").collect();
    if result.operations.is_empty() {
        return own;
    }
    let settings = &result.settings;
    let pace = match settings.rate {
        Some(rate) => format!("{rate} operations due a second"),
        None => "closed loop".to_owned(),
    };
    let clients = if settings.clients == 1 { "1 client".to_owned() } else { format!("{} clients", settings.clients) };
    let mut out = format!(
        "{}: {clients}, {pace}, sync {}, {:.1} s after {:.1} s of warm-up, seed {}\n\n",
        result.workload, settings.sync, result.elapsed_seconds, settings.warmup_seconds, settings.seed
    );
    let header = [
        "operation",
        "count",
        "per second",
        "rows/s",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "p99.99",
        "max",
        "retries",
        "errors",
        "read each",
    ];
    // Only a cold run says what was read.
    let header = header.get(..header.len() - usize::from(!settings.cold)).unwrap_or(&header);
    let mut rows = Vec::new();
    for operation in &result.operations {
        rows.push(row(result, &operation.name, operation, &operation.service));
        if let Some(response) = &operation.response {
            rows.push(row(result, "… from when due", operation, response));
        }
    }
    out.push_str(&table::render(header, &rows));
    out.push_str(&format!("\n{} operations/s in all\n", table::rate(result.throughput())));
    if let Some(bytes) = result.device_bytes() {
        let least = result.operations.iter().filter_map(|operation| Some(operation.device_reads?.bytes_min)).min();
        out.push_str(&format!(
            "cold: by the kernel's counts {} came from the device, {} for the operation that read least\n",
            size::show(bytes),
            size::show(least.unwrap_or(0))
        ));
    }
    if result.unserved > 0 {
        out.push_str(&format!(
            "too fast for the database: {} operations that became due were not begun\n",
            count(result.unserved)
        ));
    }
    if let Some(engine) = &result.engine {
        let times = |x: Option<f64>| x.map_or("—".to_owned(), |x| format!("{x:.2}"));
        out.push_str(&format!(
            "{} flushes, {} merges, {:.3} s of delay; write amplification {}, space amplification {}; files through {}\n",
            engine.flushes,
            engine.merges,
            engine.delay_seconds,
            times(engine.write_amplification),
            times(engine.space_amplification),
            engine.io
        ));
    }
    out.push_str(&format!("checked: {}\n", result.verified));
    own + &out
}

fn row(result: &RunResult, name: &str, operation: &Operation, times: &Distribution) -> Vec<String> {
    let a_second = |n: u64| table::rate(n as f64 / result.elapsed_seconds.max(1e-9));
    let mut cells = vec![name.to_owned(), count(operation.count), a_second(operation.count), a_second(operation.rows)];
    let time = |nanos| if operation.count > 0 { show(nanos) } else { "—".to_owned() };
    cells.extend([times.p50, times.p90, times.p99, times.p999, times.p9999, times.max].map(time));
    cells.extend([count(operation.retries), count(operation.errors)]);
    if result.settings.cold {
        cells.push(operation.device_bytes_each().map_or("—".to_owned(), size::show));
    }
    cells
}

fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

fn write(result: &RunResult, output: Option<&Path>) -> Result<(), Failure> {
    let Some(path) = output else { return Ok(()) };
    let json = result.to_json()?;
    match is_stdout(path) {
        true => print(&json),
        false => std::fs::write(path, json).map_err(|e| Failure::file("write", path, e)),
    }
}

/// Prints data.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever closed the pipe has read enough.
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::File(format!("cannot write to stdout: {e}")))
        }
        _ => Ok(()),
    }
}
