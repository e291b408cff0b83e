/*!
From the text of a statement to its outcome.

A statement is parsed ([`parse`]), tried on the fast path, and else dispatched to the file of its kind. Whatever DataFusion
plans goes through [`context::Context::plan`], which rewrites it for PostgreSQL's semantics and binds names on one
snapshot.

*Writes are reads first.* INSERT, UPDATE and DELETE are planned as queries that yield the rows to write ([`insert`],
[`update`]), run on the snapshot of a transaction, and applied to that transaction with expectations that are checked
at commit. A transaction is one statement long. When another one got in between, the statement is run again.

*Deep statements.* Everything that handles a statement's tree, its destructor included, recurses. It all runs on a stack
that is large enough for what [`parse`] lets through.
*/

pub(crate) mod assign;
mod check;
mod conflict;
pub(crate) mod context;
mod copy;
mod ddl;
mod dialect;
mod explain;
mod insert;
pub(crate) mod literal;
mod parameters;
pub(crate) mod parse;
mod query;
mod returning;
mod show;
mod update;

use crate::error::{Result, SqlError, state};
use crate::fast_path;
use crate::session::{Inner, Names, Outcome};
use arrow::datatypes::DataType;
use context::{Context, Transacted};
use datafusion::common::ScalarValue;
use datafusion::sql::sqlparser::ast::{ObjectType, Statement};
use datafusion::sql::sqlparser::keywords::ALL_KEYWORDS;
use omendb_engine::ErrorKind;
use std::sync::Arc;

/// Bytes of stack that a statement is handled on. Address space only: what is not touched is not memory.
const STATEMENT_STACK_BYTES: usize = 256 << 20;

/// How often a statement is run when other transactions keep changing what it read.
const WRITE_ATTEMPTS_MAX: u32 = 10;

/// Runs `work` on a stack that takes the deepest statement which [`parse`] lets through.
pub(crate) fn on_large_stack<T>(work: impl FnOnce() -> T) -> T {
    stacker::grow(STATEMENT_STACK_BYTES, work)
}

/// Runs one statement.
pub(crate) fn execute(session: &Arc<Inner>, sql: &str) -> Result<Outcome> {
    if check::is_check(sql) {
        return check::run(session);
    }
    on_large_stack(|| {
        let statement = parse::statement(sql)?;
        if let Some(plan) = fast_path::recognise(session, &statement)? {
            session.fast_path.remember(sql, &plan);
            if let Some(outcome) = plan.run(session, &[])? {
                return Ok(outcome);
            }
        }
        run(session, &statement, &[])
    })
}

fn run(session: &Arc<Inner>, statement: &Statement, params: &[ScalarValue]) -> Result<Outcome> {
    let read = || Context::read(session, params);
    let write = |work: &dyn Fn(&mut Transacted) -> Result<Outcome>| with_retries(session, params, work);
    match statement {
        Statement::Query(query) => query::run(read()?, query),
        Statement::Insert(insert) => match insert::quick(session, insert, params)? {
            Some(outcome) => Ok(outcome),
            None => write(&|t| insert::run(t, insert)),
        },
        Statement::Update(update) => write(&|t| update::update(t, update)),
        Statement::Delete(delete) => write(&|t| update::delete(t, delete)),
        Statement::CreateTable(create) => write(&|t| ddl::create_table(t, create)),
        Statement::AlterTable(_) => write(&|t| parameters::alter_table(t, statement)),
        Statement::Drop { object_type: ObjectType::Table, .. } => write(&|t| ddl::drop_tables(t, statement)),
        Statement::Truncate(truncate) => write(&|t| ddl::truncate(t, truncate)),
        Statement::Copy { to: false, .. } => write(&|t| copy::from(t, statement)),
        Statement::Copy { .. } => copy::to(read()?, statement),
        Statement::Explain { .. } => explain::run(read()?, statement),
        Statement::Set(set) => show::set(session, set),
        Statement::Reset(reset) => show::reset(session, reset),
        Statement::ShowVariable { variable } => show::variable(session, variable),
        Statement::ShowTables { .. } => show::tables(&read()?, statement),
        Statement::StartTransaction { .. }
        | Statement::Commit { .. }
        | Statement::Rollback { .. }
        | Statement::Savepoint { .. }
        | Statement::ReleaseSavepoint { .. } => {
            Err(SqlError::unsupported("transactions of several statements are not supported")
                .with_detail("Each statement is a transaction of its own, committed when it succeeds."))
        }
        other => Err(refused(other)),
    }
}

/// Statements that SQL has and OmenDB has not, by the words that they begin with.
fn refused(statement: &Statement) -> SqlError {
    let text = statement.to_string();
    let is_word = |word: &&str| word.chars().all(|c| c.is_ascii_uppercase());
    let skipped = ["OR", "REPLACE", "TEMPORARY", "IF", "NOT", "EXISTS"];
    let words: Vec<&str> =
        text.split_whitespace().take_while(is_word).filter(|word| !skipped.contains(word)).take(2).collect();
    match words.is_empty() {
        true => SqlError::unsupported("this statement is not supported"),
        false => SqlError::unsupported(format!("{} is not supported", words.join(" "))),
    }
}

/// Runs a statement that writes in a transaction of its own, again when another one got in between.
fn with_retries(
    session: &Arc<Inner>,
    params: &[ScalarValue],
    work: &dyn Fn(&mut Transacted) -> Result<Outcome>,
) -> Result<Outcome> {
    let running = session.begin_statement()?;
    let mut attempt = 1;
    loop {
        let mut transacted = Transacted::begin(session, params, running.clone())?;
        transacted.retries = attempt - 1;
        let outcome = work(&mut transacted);
        let retries_duplicates = transacted.retries_duplicates;
        let overtaken = |e: &SqlError| match e.engine_kind() {
            Some(ErrorKind::WriteConflict) => true,
            Some(ErrorKind::DuplicateKey) => retries_duplicates,
            _ => false,
        };
        match outcome.and_then(|outcome| transacted.commit().map(|()| outcome)) {
            Err(e) if overtaken(&e) => {
                running.check()?;
                if attempt >= WRITE_ATTEMPTS_MAX {
                    return Err(SqlError::new(
                        state::SERIALIZATION_FAILURE,
                        "could not serialize access due to concurrent update",
                    )
                    .with_detail(format!("Other statements changed its rows in each of {attempt} attempts."))
                    .with_hint("Run the statement again."));
                }
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}

/// A statement with parameters.
#[derive(Debug)]
pub(crate) struct Prepared {
    sql: String,
    /// `None` only while it is dropped.
    statement: Option<Statement>,
    fast: Option<Arc<fast_path::Plan>>,
    parameter_types: Vec<Option<DataType>>,
}

impl Prepared {
    pub(crate) fn new(session: &Arc<Inner>, sql: &str) -> Result<Prepared> {
        on_large_stack(|| {
            let (statement, parameters) = parse::statement_with_parameters(sql)?;
            let parameter_types = match &statement {
                Statement::Query(query) => query::parameter_types(&Context::read(session, &[])?, query, parameters)?,
                _ => vec![None; parameters],
            };
            let fast = fast_path::recognise(session, &statement)?;
            Ok(Prepared { sql: sql.to_owned(), statement: Some(statement), fast, parameter_types })
        })
    }

    pub(crate) fn execute(&self, session: &Arc<Inner>, params: &[ScalarValue]) -> Result<Outcome> {
        if let Some(missing) = (params.len() < self.parameter_types.len()).then_some(params.len() + 1) {
            return Err(SqlError::new(
                state::UNDEFINED_PARAMETER,
                format!("there is no value for parameter ${missing}"),
            ));
        }
        if let Some(plan) = &self.fast
            && let Some(outcome) = plan.run(session, params)?
        {
            return Ok(outcome);
        }
        match &self.statement {
            Some(statement) => on_large_stack(|| run(session, statement, params)),
            None => Err(SqlError::internal("a prepared statement without its statement")),
        }
    }

    pub(crate) fn sql(&self) -> &str {
        &self.sql
    }

    pub(crate) fn parameters(&self) -> usize {
        self.parameter_types.len()
    }

    pub(crate) fn parameter_types(&self) -> &[Option<DataType>] {
        &self.parameter_types
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if let Some(statement) = self.statement.take() {
            on_large_stack(|| drop(statement));
        }
    }
}

/// Names that a statement may use.
pub(crate) fn names(session: &Arc<Inner>) -> Result<Names> {
    let snapshot = session.database.engine.snapshot()?;
    let mut tables = Vec::new();
    for table in snapshot.tables()? {
        tables.push((table.name.clone(), table.columns.iter().map(|c| c.name.clone()).collect()));
    }
    let template = session.template()?;
    let state = &template.state;
    let scalar = state.scalar_functions().keys();
    let aggregate = state.aggregate_functions().keys();
    let window = state.window_functions().keys();
    let mut functions: Vec<String> =
        scalar.chain(aggregate).chain(window).chain(state.table_functions().keys()).cloned().collect();
    functions.sort_unstable();
    functions.dedup();
    let keywords = ALL_KEYWORDS.iter().map(|k| (*k).to_owned()).collect();
    Ok(Names { tables, functions, keywords })
}
