/*!
DuckDB: its Python wheel, in a process that a small script (`duckdb.py`) makes of it. The crate would build DuckDB's C++ for tens of
minutes, and the wheel is what most of its users have.

Its settings are its own but for threads and memory: a commit syncs its log, and no two share a sync; beyond 16 MiB of log it checkpoints.
A writer is a thread of the script's with a connection and a prepared INSERT of its own. Python itself takes some microseconds a call.

The metrics table comes in two layouts: with the primary key that all other systems have, and, since DuckDB's manual advises against a
key where there is no need for one, without a key, its rows sorted while they are loaded, so that the statistics of its row groups tell
where a run is.
*/

use super::{Reader, Result, Setup, Store, System, Tools};
use crate::rows::{KEY_BYTES, Row};
use crate::sql::{Answer, Format, Loaded, METRICS_COLUMNS, Sql, SqlSetup, create_metrics};
use crate::workloads::{Done, WRITER_STRIDE, histogram};
use serde::Deserialize;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const DRIVER: &str = include_str!("duckdb.py");

/// The database's file.
const FILE: &str = "rows.duckdb";

/// Threads that DuckDB may have besides the writers.
const THREADS: usize = 2;

/// Whether there is a DuckDB.
pub(super) fn look(tools: &Tools) -> Result<()> {
    let python = tools.python.display();
    let advice =
        "`./run` makes a venv with it (Debian: `apt-get install python3-venv`), or --python names one that has it";
    let found = Command::new(&tools.python).args(["-c", "import duckdb"]).output();
    match found {
        Err(error) => Err(format!("{python} does not run ({error}): {advice}").into()),
        Ok(done) if !done.status.success() => Err(format!("{python} has no module duckdb: {advice}").into()),
        Ok(_) => Ok(()),
    }
}

/// A process with the database open. It ends with its input.
struct Driver {
    process: Child,
    /// None once it shall end.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    version: String,
}

impl Driver {
    fn start(tools: &Tools, dir: &Path, threads: usize, memory_bytes: usize) -> Result<Driver> {
        std::fs::create_dir_all(dir)?;
        let mut command = Command::new(&tools.python);
        command.args(["-c", DRIVER]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let input = process.stdin.take();
        let output = BufReader::new(process.stdout.take().ok_or("a process without output")?);
        let mut driver = Driver { process, input, output, version: String::new() };
        let file = dir.join(FILE).display().to_string();
        let opened = driver.request(&json!({ "file": file, "threads": threads, "memory_mib": memory_bytes >> 20 }))?;
        driver.version = opened.get("version").and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(driver)
    }

    fn request(&mut self, request: &Value) -> Result<Value> {
        let input = self.input.as_mut().ok_or("DuckDB is closed")?;
        input.write_all(format!("{request}\n").as_bytes())?;
        input.flush()?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        if line.is_empty() {
            return Err("DuckDB's process has ended".into());
        }
        let answer: Value = serde_json::from_str(&line)?;
        match answer.get("error").and_then(Value::as_str) {
            Some(error) => Err(error.to_owned().into()),
            None => Ok(answer),
        }
    }

    fn ask(&mut self, sql: &str) -> Result<Answer> {
        #[derive(Deserialize)]
        struct Told {
            nanos: u64,
            rows: Vec<Vec<String>>,
        }
        let told: Told = serde_json::from_value(self.request(&json!({ "do": "ask", "sql": sql }))?)?;
        Ok(Answer { took: Duration::from_nanos(told.nanos), rows: told.rows })
    }

    /// Closes the database, and waits for that.
    fn stop(&mut self) -> Result<()> {
        self.input = None;
        match self.process.wait()? {
            status if status.success() => Ok(()),
            status => Err(format!("DuckDB's process ended with {status}").into()),
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Whoever wants to know has called `stop`.
        let _ = self.stop();
    }
}

/// Rows by key.
pub(super) struct Duck {
    driver: Mutex<Driver>,
}

impl Duck {
    pub(super) fn open(setup: &Setup) -> Result<Self> {
        let mut driver = Driver::start(&setup.tools, &setup.dir, THREADS, setup.cache_bytes)?;
        driver.ask("CREATE TABLE IF NOT EXISTS rows (k BLOB PRIMARY KEY, v BLOB NOT NULL)")?;
        Ok(Duck { driver: Mutex::new(driver) })
    }

    fn ask(&self, sql: &str) -> Result<Answer> {
        self.driver.lock().unwrap_or_else(PoisonError::into_inner).ask(sql)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The first cell of an answer.
fn first(answer: &Answer) -> Option<&String> {
    answer.rows.first().and_then(|row| row.first())
}

impl Store for Duck {
    fn commit(&self, rows: &[Row]) -> Result<()> {
        let row = |row: &Row| format!("(from_hex('{}'), from_hex('{}'))", hex(&row.key), hex(&row.value));
        let rows: Vec<String> = rows.iter().map(row).collect();
        self.ask(&format!("INSERT INTO rows VALUES {}", rows.join(", ")))?;
        Ok(())
    }

    fn commit_loops(&self, writers: u64, warmup: Duration, length: Duration) -> Result<Option<Vec<Done>>> {
        #[derive(Deserialize)]
        struct Told {
            writers: Vec<Writer>,
        }
        #[derive(Deserialize)]
        struct Writer {
            commits: u64,
            nanos: Vec<u64>,
        }
        let request = json!({
            "do": "commits",
            "writers": writers,
            "stride": WRITER_STRIDE,
            "warmup_nanos": u64::try_from(warmup.as_nanos())?,
            "length_nanos": u64::try_from(length.as_nanos())?,
        });
        let told = self.driver.lock().unwrap_or_else(PoisonError::into_inner).request(&request)?;
        let told: Told = serde_json::from_value(told)?;
        let done = |writer: &Writer| Ok(Done { commits: writer.commits, nanos: histogram(&writer.nanos)? });
        Ok(Some(told.writers.iter().map(done).collect::<Result<_>>()?))
    }

    fn harden(&self) -> Result<()> {
        // Every commit is.
        Ok(())
    }

    fn wants_hardening(&self) -> bool {
        false
    }

    fn get(&self, key: &[u8; KEY_BYTES]) -> Result<Option<Vec<u8>>> {
        let answer = self.ask(&format!("SELECT hex(v) FROM rows WHERE k = from_hex('{}')", hex(key)))?;
        let byte = |pair: &[u8]| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?);
        first(&answer).map(|text| text.as_bytes().chunks(2).map(byte).collect()).transpose()
    }

    fn read(&self, _: &mut dyn FnMut(&mut dyn Reader) -> Result<()>) -> Result<()> {
        Err("only its commits and its SQL are measured".into())
    }

    fn count(&self) -> Result<u64> {
        // The values are read, too.
        let answer = self.ask("SELECT count(*) FROM rows WHERE octet_length(v) >= 0")?;
        Ok(first(&answer).ok_or("no answer")?.parse()?)
    }

    fn flush(&self) -> Result<()> {
        self.ask("CHECKPOINT").map(|_| ())
    }

    fn processes(&self) -> Vec<u32> {
        vec![self.driver.lock().unwrap_or_else(PoisonError::into_inner).process.id()]
    }

    fn note(&self) -> Result<String> {
        let version = self.driver.lock().unwrap_or_else(PoisonError::into_inner).version.clone();
        Ok(format!("{version} from Python; a sync for each commit; a writer is a thread of Python's"))
    }
}

/// Tables.
pub(super) struct DuckSql {
    driver: Option<Driver>,
    setup: SqlSetup,
    is_sorted: bool,
}

impl DuckSql {
    pub(super) fn open(system: System, setup: &SqlSetup) -> Result<Self> {
        let mut sql = DuckSql { driver: None, setup: setup.clone(), is_sorted: system == System::DuckdbSorted };
        sql.start()?;
        Ok(sql)
    }

    fn driver(&mut self) -> Result<&mut Driver> {
        Ok(self.driver.as_mut().ok_or("DuckDB is closed")?)
    }

    fn file(&self) -> PathBuf {
        self.setup.dir.join(FILE)
    }
}

impl Sql for DuckSql {
    fn start(&mut self) -> Result<()> {
        let SqlSetup { tools, dir, threads, memory_bytes, .. } = &self.setup;
        self.driver = Some(Driver::start(tools, dir, *threads, *memory_bytes)?);
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.driver.take().map_or(Ok(()), |mut driver| driver.stop())
    }

    fn load(&mut self, file: &Path, format: Format) -> Result<Option<Loaded>> {
        let is_sorted = self.is_sorted;
        let path = file.canonicalize()?.display().to_string().replace('\'', "''");
        let (copied, rows) = match format {
            Format::Csv => ("csv, HEADER", format!("read_csv('{path}')")),
            Format::Parquet => ("parquet", format!("read_parquet('{path}')")),
        };
        let driver = self.driver()?;
        let load = if is_sorted {
            driver.ask(&format!("CREATE TABLE metrics ({METRICS_COLUMNS})"))?;
            driver.ask(&format!("INSERT INTO metrics SELECT * FROM {rows} ORDER BY run_id, step"))?
        } else {
            driver.ask(&create_metrics())?;
            driver.ask(&format!("COPY metrics FROM '{path}' (FORMAT {copied})"))?
        };
        let tidy = driver.ask("CHECKPOINT")?;
        Ok(Some(Loaded { load: load.took, tidy: tidy.took }))
    }

    fn ask(&mut self, sql: &str) -> Result<Answer> {
        self.driver()?.ask(sql)
    }

    fn table_bytes(&mut self) -> Result<u64> {
        Ok(std::fs::metadata(self.file())?.len())
    }

    fn note(&mut self) -> Result<String> {
        let version = self.driver()?.version.clone();
        Ok(format!(
            "{version} from Python, rows fetched as Python's; statements as text, timed around execute and fetchall"
        ))
    }
}
