/*!
How the program ends when it does not end well: why, and with which exit code.
*/

use omendb_cli::report::{render, say};
use omendb_cli::{Colour, Exit};
use omendb_sql::SqlError;
use std::path::Path;

/// Why it ended.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments make no sense together.
    Usage(String),
    /// The database cannot be opened.
    CannotOpen(SqlError),
    /// An answer was not what it must be.
    Wrong(String),
    /// What was asked for as a cold run is none, and why.
    Cold(String),
    /// A file that should hold a result cannot be used, or not be written.
    File(String),
    /// Ctrl-C; there is no result.
    Interrupted,
    /// Anything else.
    Failed(SqlError),
}

impl From<SqlError> for Failure {
    fn from(e: SqlError) -> Self {
        Failure::Failed(e)
    }
}

impl From<omendb_engine::Error> for Failure {
    fn from(e: omendb_engine::Error) -> Self {
        Failure::Failed(e.into())
    }
}

impl From<arrow::error::ArrowError> for Failure {
    fn from(e: arrow::error::ArrowError) -> Self {
        omendb_engine::Error::from(e).into()
    }
}

impl Failure {
    /// A file that could not be read or written.
    pub(crate) fn file(what: &str, path: &Path, why: impl std::fmt::Display) -> Failure {
        Failure::File(format!("cannot {what} \"{}\": {why}", path.display()))
    }

    /// The same in one sentence, for the result.
    pub(crate) fn sentence(&self) -> String {
        match self {
            Failure::Usage(message) | Failure::File(message) => message.clone(),
            Failure::Wrong(what) => format!("wrong result: {what}"),
            Failure::Cold(why) => format!("this is no cold run: {why}"),
            Failure::CannotOpen(e) | Failure::Failed(e) => format!("{} [{}]", e.message(), e.sqlstate()),
            Failure::Interrupted => "interrupted".to_owned(),
        }
    }

    /// Prints it; gives the exit code.
    pub(crate) fn report(&self, colour: Colour) -> Exit {
        let error = |message: &str| say(&format!("{} {message}", colour.error("error:")));
        match self {
            Failure::Usage(message) => {
                error(message);
                Exit::Usage
            }
            Failure::CannotOpen(e) => {
                say(&render(e, None, colour));
                Exit::CannotOpen
            }
            Failure::Wrong(_) | Failure::Cold(_) => {
                error(&self.sentence());
                Exit::Failed
            }
            Failure::File(message) => {
                error(message);
                Exit::Failed
            }
            Failure::Interrupted => {
                say("interrupted: there is no result");
                Exit::Interrupted
            }
            Failure::Failed(e) => {
                say(&render(e, None, colour));
                Exit::of_error(e)
            }
        }
    }
}
