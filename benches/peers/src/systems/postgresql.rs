/*!
PostgreSQL: a server of its own on a directory of its own, which a process here starts, asks over a unix socket, stops, and leaves
nothing of behind. There is no port.

The server is Debian's. It refuses to run as root, so that root starts it as the user `postgres`, which Debian's package makes (else as
`nobody`); that user has to be able to reach the directory. Whoever isn't root starts it as themselves. It is the server process itself
that is started, not `pg_ctl`: when the process here ends, however it does, the kernel has the server shut down.

Settings are PostgreSQL's own (`fsync`, `full_page_writes` and `synchronous_commit` on; commits that wait share a sync) but for the memory
and the threads that are matched. A commit is a prepared INSERT on a connection of the writer's own. A process is a thread here: of two
threads one is the session's and one helps it.
*/

use super::{Reader, Result, Setup, Store, Tools};
use crate::process::children_of;
use crate::rows::{KEY_BYTES, Row};
use crate::sql::{Answer, Format, Loaded, Sql, SqlSetup, create_metrics};
use postgres::{Client, NoTls, SimpleQueryMessage, Statement};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Where Debian has the programs of each version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// Users that a server of root's runs as: the first that there is.
const USERS: [&str; 2] = ["postgres", "nobody"];

/// The user within the database.
const ROLE: &str = "peers";

/// A server that takes no connection by then will not.
const START_MAX: Duration = Duration::from_secs(60);

/// A server that has not shut down by then is ended.
const STOP_MAX: Duration = Duration::from_secs(120);

/// A path of a unix socket may have 107 bytes; PostgreSQL adds its own name to the directory's.
const SOCKET_DIR_BYTES_MAX: usize = 90;

const INSERT: &str = "INSERT INTO rows VALUES ($1, $2)";
const SELECT: &str = "SELECT v FROM rows WHERE k = $1";

/// The directory with `postgres` and `initdb`: what was named, or the newest of Debian's.
pub(super) fn programs(tools: &Tools) -> Result<PathBuf> {
    if let Some(dir) = &tools.postgresql {
        return match dir.join("postgres").exists() && dir.join("initdb").exists() {
            true => Ok(dir.clone()),
            false => Err(format!("there is no postgres and initdb in {}", dir.display()).into()),
        };
    }
    let version = |dir: &Path| dir.file_name()?.to_str()?.parse::<f64>().ok();
    let entries = std::fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let dirs = entries.filter_map(|entry| Some((version(&entry.path())?, entry.path().join("bin"))));
    let newest = dirs.filter(|(_, bin)| bin.join("postgres").exists()).max_by(|(a, _), (b, _)| a.total_cmp(b));
    Ok(newest.ok_or("it is not installed: `apt-get install postgresql`, or --postgresql DIR with its programs")?.1)
}

/// Who runs the server.
#[derive(Debug, Clone, Copy)]
struct User {
    uid: u32,
    gid: u32,
}

/// Somebody else where we are root; nobody else otherwise.
fn user() -> Result<Option<User>> {
    // SAFETY: reads a number of this process and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return Ok(None);
    }
    let passwd = std::fs::read_to_string("/etc/passwd")?;
    let of = |name: &str| {
        let line = passwd.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":"))?;
        let mut words = line.split(':').skip(1);
        Some(User { uid: words.next()?.parse().ok()?, gid: words.next()?.parse().ok()? })
    };
    let found = USERS.iter().find_map(|name| of(name));
    Ok(Some(found.ok_or("it does not run as root, and there is no user postgres or nobody to run it")?))
}

/// A running server. Stopped when this goes.
struct Server {
    process: Child,
    dir: PathBuf,
}

impl Server {
    /// Makes the database where there is none, and starts.
    fn start(programs: &Path, dir: &Path, settings: &[(&str, String)]) -> Result<Server> {
        let user = user()?;
        std::fs::create_dir_all(dir)?;
        let dir = dir.canonicalize()?;
        if dir.as_os_str().len() > SOCKET_DIR_BYTES_MAX {
            return Err(format!("{} is too long a path for a socket: choose another with --dir", dir.display()).into());
        }
        let data = dir.join("data");
        if let Some(user) = user {
            std::os::unix::fs::chown(&dir, Some(user.uid), Some(user.gid))?;
        }
        if !data.exists() {
            let mut initdb = as_user(programs.join("initdb"), user, &dir);
            initdb.arg("-D").arg(&data).args(["-U", ROLE, "-A", "trust", "-E", "UTF8", "--locale=C"]);
            let advice = format!(
                "root's server runs as the user postgres, who has to reach {}: --dir chooses another directory",
                dir.display()
            );
            let done = initdb.output().map_err(|error| format!("initdb does not run: {error} ({advice})"))?;
            if !done.status.success() {
                let said = String::from_utf8_lossy(&done.stderr);
                let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
                return Err(format!("initdb: {said} ({advice})").into());
            }
        }
        let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("log"))?;
        let mut postgres = as_user(programs.join("postgres"), user, &dir);
        postgres.arg("-D").arg(&data).arg("-k").arg(&dir).args(["-c", "listen_addresses="]);
        for (name, value) in settings {
            postgres.arg("-c").arg(format!("{name}={value}"));
        }
        postgres.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // SAFETY: between fork and exec the closure calls one function of the kernel, which reads and writes no memory of ours.
        unsafe {
            postgres.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGINT) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        let mut server = Server { process: postgres.spawn()?, dir };
        server.wait()?;
        Ok(server)
    }

    /// Until it takes connections.
    fn wait(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let error = match self.connect() {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if let Some(status) = self.process.try_wait()? {
                return Err(format!("the server ended with {status}: {}", self.last_words()).into());
            }
            if begun.elapsed() > START_MAX {
                return Err(format!("the server takes no connection: {error}").into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The end of its log.
    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(5)..).unwrap_or_default().join(" | ")
    }

    fn connect(&self) -> Result<Client> {
        let mut config = postgres::Config::new();
        config.host_path(&self.dir).user(ROLE).dbname("postgres");
        Ok(config.connect(NoTls)?)
    }

    /// Shuts down in order, with what is in memory written.
    fn stop(&mut self) -> Result<()> {
        if self.process.try_wait()?.is_none() {
            // SAFETY: the process is our child and was not waited for, so that its number is nobody else's.
            unsafe { libc::kill(libc::pid_t::try_from(self.process.id())?, libc::SIGINT) };
        }
        let begun = Instant::now();
        while self.process.try_wait()?.is_none() {
            if begun.elapsed() > STOP_MAX {
                self.process.kill()?;
                return Err("the server does not shut down, and was ended".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// The server's processes.
    fn processes(&self) -> Vec<u32> {
        let own = self.process.id();
        std::iter::once(own).chain(children_of(own)).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Whoever has an error to tell has told it; there is nothing else to be done about a server that does not stop.
        let _ = self.stop();
    }
}

/// A program of PostgreSQL's, run by whoever may.
fn as_user(program: PathBuf, user: Option<User>, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(dir);
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid);
    }
    command
}

/// What a server is started with for commits.
fn settings(cache_bytes: usize) -> Vec<(&'static str, String)> {
    vec![("shared_buffers", format!("{}MB", cache_bytes >> 20))]
}

/// Rows by key.
pub(super) struct Postgres {
    /// Those that nobody uses just now: connections go before the server does.
    idle: Mutex<Vec<Connection>>,
    server: Server,
    version: String,
}

/// A connection with what it has prepared.
struct Connection {
    client: Client,
    insert: Statement,
}

impl Postgres {
    pub(super) fn open(setup: &Setup) -> Result<Self> {
        let server = Server::start(&programs(&setup.tools)?, &setup.dir, &settings(setup.cache_bytes))?;
        let mut client = server.connect()?;
        client.batch_execute("CREATE TABLE IF NOT EXISTS rows (k BYTEA PRIMARY KEY, v BYTEA NOT NULL)")?;
        let version = version(&mut client)?;
        Ok(Postgres { idle: Mutex::default(), server, version })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with a connection that is free, or a new one.
    fn with<T>(&self, work: impl FnOnce(&mut Connection) -> Result<T>) -> Result<T> {
        let free = self.idle().pop();
        let mut connection = match free {
            Some(connection) => connection,
            None => {
                let mut client = self.server.connect()?;
                let insert = client.prepare(INSERT)?;
                Connection { client, insert }
            }
        };
        let done = work(&mut connection)?;
        self.idle().push(connection);
        Ok(done)
    }
}

/// As it calls itself.
fn version(client: &mut Client) -> Result<String> {
    Ok(client.query_one("SHOW server_version", &[])?.try_get(0)?)
}

impl Store for Postgres {
    fn commit(&self, rows: &[Row]) -> Result<()> {
        self.with(|connection| {
            if let [row] = rows {
                connection.client.execute(&connection.insert, &[&row.key.as_slice(), &row.value.as_slice()])?;
                return Ok(());
            }
            let mut txn = connection.client.transaction()?;
            for row in rows {
                txn.execute(&connection.insert, &[&row.key.as_slice(), &row.value.as_slice()])?;
            }
            Ok(txn.commit()?)
        })
    }

    fn harden(&self) -> Result<()> {
        // Every commit is.
        Ok(())
    }

    fn wants_hardening(&self) -> bool {
        false
    }

    fn get(&self, key: &[u8; KEY_BYTES]) -> Result<Option<Vec<u8>>> {
        self.with(|connection| {
            let row = connection.client.query_opt(SELECT, &[&key.as_slice()])?;
            Ok(row.map(|row| row.try_get(0)).transpose()?)
        })
    }

    fn read(&self, _: &mut dyn FnMut(&mut dyn Reader) -> Result<()>) -> Result<()> {
        Err("only its commits and its SQL are measured".into())
    }

    fn count(&self) -> Result<u64> {
        self.with(|connection| {
            // The values are read, too.
            let sql = "SELECT count(*) FROM rows WHERE length(v) >= 0";
            Ok(u64::try_from(connection.client.query_one(sql, &[])?.try_get::<_, i64>(0)?)?)
        })
    }

    fn flush(&self) -> Result<()> {
        self.with(|connection| Ok(connection.client.batch_execute("CHECKPOINT")?))
    }

    fn processes(&self) -> Vec<u32> {
        self.server.processes()
    }

    fn note(&self) -> Result<String> {
        Ok(format!(
            "{}; a server that is asked over a unix socket, by prepared statements; commits that wait share a sync",
            self.version
        ))
    }
}

/// Tables.
pub(super) struct PostgresSql {
    /// Goes before the server does.
    client: Option<Client>,
    server: Option<Server>,
    programs: PathBuf,
    setup: SqlSetup,
}

impl PostgresSql {
    pub(super) fn open(setup: &SqlSetup) -> Result<Self> {
        let mut sql =
            PostgresSql { client: None, server: None, programs: programs(&setup.tools)?, setup: setup.clone() };
        sql.start()?;
        Ok(sql)
    }

    fn client(&mut self) -> Result<&mut Client> {
        Ok(self.client.as_mut().ok_or("the server is stopped")?)
    }
}

impl Sql for PostgresSql {
    fn start(&mut self) -> Result<()> {
        let setup = &self.setup;
        let mut settings = settings(setup.cache_bytes);
        let workers = setup.threads.saturating_sub(1).to_string();
        settings.push(("max_parallel_workers_per_gather", workers.clone()));
        settings.push(("max_parallel_maintenance_workers", workers));
        settings.push(("effective_cache_size", format!("{}MB", setup.memory_bytes >> 20)));
        // What is not its cache is a sort's or a hash table's.
        let rest = setup.memory_bytes.saturating_sub(setup.cache_bytes) >> 20;
        settings.push(("work_mem", format!("{}MB", (rest / setup.threads.max(1) / 2).max(4))));
        let server = Server::start(&self.programs, &setup.dir, &settings)?;
        self.client = Some(server.connect()?);
        self.server = Some(server);
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.client = None;
        match self.server.take() {
            Some(mut server) => server.stop(),
            None => Ok(()),
        }
    }

    fn load(&mut self, file: &Path, format: Format) -> Result<Option<Loaded>> {
        if format == Format::Parquet {
            return Ok(None);
        }
        let client = self.client()?;
        client.batch_execute(&create_metrics())?;
        let path = file.canonicalize()?.display().to_string().replace('\'', "''");
        let begun = Instant::now();
        client.batch_execute(&format!("COPY metrics FROM '{path}' (FORMAT csv, HEADER)"))?;
        let load = begun.elapsed();
        let begun = Instant::now();
        client.batch_execute("VACUUM (ANALYZE) metrics")?;
        client.batch_execute("CHECKPOINT")?;
        Ok(Some(Loaded { load, tidy: begun.elapsed() }))
    }

    fn ask(&mut self, sql: &str) -> Result<Answer> {
        let client = self.client()?;
        let begun = Instant::now();
        let messages = client.simple_query(sql)?;
        let took = begun.elapsed();
        let mut rows = Vec::new();
        for message in messages {
            if let SimpleQueryMessage::Row(row) = message {
                rows.push((0..row.len()).map(|column| row.get(column).unwrap_or("NULL").to_owned()).collect());
            }
        }
        Ok(Answer { took, rows })
    }

    fn table_bytes(&mut self) -> Result<u64> {
        let answer = self.ask("SELECT pg_total_relation_size('metrics')")?;
        let cell = answer.rows.first().and_then(|row| row.first());
        Ok(cell.ok_or("no answer")?.parse()?)
    }

    fn note(&mut self) -> Result<String> {
        let version = version(self.client()?)?;
        Ok(format!("{version}; statements as text over a unix socket, timed by their client"))
    }
}
