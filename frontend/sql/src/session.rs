/*!
Sessions: one user's settings, statements, and what statements give back.

The interface blocks and may be used from any thread. A query runs on the database's runtime and hands its batches over
through a bounded channel, so that a result that is read slowly is computed slowly and never held as a whole.
*/

use crate::database;
use crate::error::{Result, SqlError};
use crate::fast_path;
use crate::memory::StatementPool;
use crate::optimizer;
use crate::running::{CancelHandle, Running, Statements};
use crate::semantics;
use crate::settings::Settings;
use crate::statement;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::TrackConsumersPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::prelude::SessionConfig;
use futures::future::{Either, select};
use std::fmt;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// The one catalog and the one schema that tables are in.
pub(crate) const CATALOG: &str = "omendb";
/// See [`CATALOG`].
pub(crate) const SCHEMA: &str = "public";

/// Consumers of memory that an error about it names.
const MEMORY_CONSUMERS_NAMED: usize = 5;

/// One user of a database.
#[derive(Debug)]
pub struct Session {
    inner: Arc<Inner>,
}

/// What a statement gives back.
#[derive(Debug)]
pub enum Outcome {
    /// Rows, to be fetched.
    Rows(Rows),
    /// No rows: it is done.
    Done(Done),
}

/// A statement without rows, done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Done {
    /// PostgreSQL's command tag: `INSERT 0 3`, `CREATE TABLE`, `COPY 10000`.
    pub tag: String,
    /// How many rows it wrote, where it writes rows.
    pub rows: Option<u64>,
    /// What the user should know though it is no error: `relation "t" already exists, skipping`.
    pub notices: Vec<String>,
}

impl Done {
    pub(crate) fn tag(tag: impl Into<String>) -> Outcome {
        Outcome::Done(Done { tag: tag.into(), ..Done::default() })
    }

    pub(crate) fn rows(verb: &str, rows: u64) -> Outcome {
        Outcome::Done(Done { tag: format!("{verb} {rows}"), rows: Some(rows), notices: Vec::new() })
    }
}

/// Names that a statement may use, for completion and for "did you mean".
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    /// Tables and the names of their columns, by name.
    pub tables: Vec<(String, Vec<String>)>,
    /// Functions of all kinds, by name.
    pub functions: Vec<String>,
    /// Keywords in upper case, by name.
    pub keywords: Vec<String>,
}

impl Session {
    pub(crate) fn new(database: Arc<database::Shared>) -> Session {
        Session { inner: Arc::new(Inner::new(database)) }
    }

    /// Runs one statement; a semicolon after it is fine.
    ///
    /// # Errors
    /// An [`SqlError`] with its SQLSTATE, and with its position in `sql` where that is known. A failed statement leaves
    /// nothing behind. A query may also fail later, while its rows are fetched.
    pub fn execute(&self, sql: &str) -> Result<Outcome> {
        self.inner.execute(sql).map_err(|e| e.locate(sql))
    }

    /// Prepares one statement with parameters `$1`, `$2` … to be run many times.
    ///
    /// # Errors
    /// What is wrong with it before it runs: syntax, and for queries names and types too.
    pub fn prepare(&self, sql: &str) -> Result<Prepared> {
        statement::Prepared::new(&self.inner, sql)
            .map(|statement| Prepared { session: self.inner.clone(), statement })
            .map_err(|e| e.locate(sql))
    }

    /// For tests inside this crate.
    #[cfg(test)]
    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// A handle that stops this session's running statements from any thread.
    pub fn cancel_handle(&self) -> CancelHandle {
        CancelHandle(Arc::downgrade(&self.inner.statements))
    }

    /// The value of a setting as SHOW gives it; `None` for a name that is no setting.
    pub fn setting(&self, name: &str) -> Option<String> {
        self.inner.settings().get(name)
    }

    /// The names that a statement may use now; none when the catalog cannot be read.
    pub fn names(&self) -> Names {
        statement::names(&self.inner).unwrap_or_default()
    }
}

/// A statement prepared in a session, to be run many times with parameters.
#[derive(Debug)]
pub struct Prepared {
    session: Arc<Inner>,
    statement: statement::Prepared,
}

impl Prepared {
    /// Runs it with the values of `$1`, `$2` …
    ///
    /// # Errors
    /// As [`Session::execute`]; 42P02 when there are too few values.
    pub fn execute(&self, params: &[ScalarValue]) -> Result<Outcome> {
        self.statement.execute(&self.session, params).map_err(|e| e.locate(self.statement.sql()))
    }

    /// How many parameters it takes: the highest number after a `$`.
    pub fn parameters(&self) -> usize {
        self.statement.parameters()
    }

    /// The types of its parameters, as far as they can be told.
    pub fn parameter_types(&self) -> &[Option<DataType>] {
        self.statement.parameter_types()
    }
}

/// What a session's statements share.
pub(crate) struct Inner {
    pub(crate) database: Arc<database::Shared>,
    pub(crate) fast_path: fast_path::Cache,
    statements: Arc<Statements>,
    settings: Mutex<Settings>,
    template: Mutex<Option<Arc<Template>>>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// DataFusion's session, made once for each set of settings and copied for each statement.
pub(crate) struct Template {
    pub(crate) state: SessionState,
    pub(crate) type_planner: Option<Arc<dyn TypePlanner>>,
}

impl Inner {
    fn new(database: Arc<database::Shared>) -> Inner {
        Inner {
            database,
            fast_path: fast_path::Cache::default(),
            statements: Arc::default(),
            settings: Mutex::default(),
            template: Mutex::default(),
        }
    }

    fn execute(self: &Arc<Self>, sql: &str) -> Result<Outcome> {
        if let Some(outcome) = self.fast_path.run_text(self, sql)? {
            return Ok(outcome);
        }
        statement::execute(self, sql)
    }

    /// The settings as they are now.
    pub(crate) fn settings(&self) -> Settings {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes settings, all or nothing.
    pub(crate) fn change_settings(&self, change: impl FnOnce(&mut Settings) -> Result<()>) -> Result<()> {
        let mut settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = settings.clone();
        change(&mut changed)?;
        *settings = changed;
        *self.template.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }

    /// A new statement under way, watched by its timeout.
    pub(crate) fn begin_statement(&self) -> Result<Arc<Running>> {
        let running = self.statements.begin();
        let timeout = self.settings.lock().unwrap_or_else(PoisonError::into_inner).statement_timeout();
        if let Some(timeout) = timeout {
            self.database.watchdog.watch(&running, timeout)?;
        }
        Ok(running)
    }

    /// DataFusion's session for the settings as they are now.
    pub(crate) fn template(&self) -> Result<Arc<Template>> {
        let settings = self.settings();
        let mut template = self.template.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(template) = &*template {
            return Ok(template.clone());
        }
        let made = Arc::new(make_template(&self.database, &settings)?);
        *template = Some(made.clone());
        Ok(made)
    }
}

fn make_template(database: &database::Shared, settings: &Settings) -> Result<Template> {
    let mut config = SessionConfig::new()
        .with_target_partitions(settings.threads().unwrap_or(database.threads))
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(false);
    config.options_mut().sql_parser.collect_spans = true;
    let config = semantics::configure(config);

    let disk = match &database.spill_dir {
        Some(dir) => {
            std::fs::create_dir_all(dir)?;
            DiskManagerMode::Directories(vec![dir.clone()])
        }
        None => DiskManagerMode::OsTmpDirectory,
    };
    let pool = StatementPool::new(settings.work_mem_bytes(), database.engine.memory());
    let named = NonZeroUsize::new(MEMORY_CONSUMERS_NAMED).unwrap_or(NonZeroUsize::MIN);
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(TrackConsumersPool::new(pool, named)))
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(disk))
        .build_arc()?;

    let builder = SessionStateBuilder::new().with_config(config).with_runtime_env(runtime).with_default_features();
    let mut builder = semantics::register(builder);
    let rules = builder.optimizer().take().unwrap_or_default().rules;
    let mut builder = builder.with_optimizer_rules(optimizer::with_our_rules(rules));
    let rules = builder.physical_optimizers().take().unwrap_or_default().rules;
    let rules = optimizer::with_our_physical_rules(rules, settings.group_seek(), settings.slice_aggregate());
    builder = builder.with_physical_optimizer_rules(rules);
    let type_planner = builder.type_planner().clone();
    Ok(Template { state: builder.build(), type_planner })
}

/// The rows of a query, in batches. Dropping it stops the query.
pub struct Rows {
    schema: SchemaRef,
    source: Source,
    running: Option<Arc<Running>>,
}

/// Where rows come from.
pub(crate) enum Source {
    /// A query on the runtime.
    Query(mpsc::Receiver<Result<RecordBatch>>),
    /// Rows that are there already.
    Ready(std::vec::IntoIter<RecordBatch>),
    /// A scan of the engine, on the reader's own thread.
    Scan(Box<dyn Iterator<Item = Result<RecordBatch>> + Send>),
    /// Nothing more will come.
    End,
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Rows {
    pub(crate) fn new(schema: SchemaRef, source: Source, running: Option<Arc<Running>>) -> Rows {
        Rows { schema, source, running }
    }

    pub(crate) fn ready(schema: SchemaRef, batches: Vec<RecordBatch>) -> Rows {
        Rows::new(schema, Source::Ready(batches.into_iter()), None)
    }

    /// The columns: names, Arrow types, and in the metadata what SQL calls them (see [`crate::types`]).
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn fetch(&mut self) -> Option<Result<RecordBatch>> {
        match &mut self.source {
            Source::Query(receiver) => match &self.running {
                Some(running) => wait(receiver, running),
                None => None,
            },
            Source::Ready(batches) => batches.next().map(Ok),
            Source::Scan(batches) => match self.running.as_ref().map(|running| running.check()) {
                Some(Err(stopped)) => Some(Err(stopped)),
                _ => batches.next(),
            },
            Source::End => None,
        }
    }
}

impl Iterator for Rows {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let next = self.fetch();
            match &next {
                Some(Ok(batch)) if batch.num_rows() == 0 => continue,
                Some(Ok(_)) => {}
                // Letting go of the source frees what the query holds.
                Some(Err(_)) | None => {
                    self.source = Source::End;
                    self.running = None;
                }
            }
            return next;
        }
    }
}

/// What the query sends next, or the reason why it was stopped, whichever comes first.
pub(crate) fn wait<T>(receiver: &mut mpsc::Receiver<Result<T>>, running: &Running) -> Option<Result<T>> {
    if let Ok(message) = receiver.try_recv() {
        return Some(message);
    }
    block_on(async {
        let stopped = pin!(running.stopped());
        let received = pin!(receiver.recv());
        match select(received, stopped).await {
            Either::Left((received, _)) => received,
            Either::Right((why, _)) => Some(Err::<T, SqlError>(why)),
        }
    })
}

/// Waits for a future on this thread, whatever else the thread is doing: the runtimes' own ways refuse to be nested, and a
/// caller may well be inside one.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}
