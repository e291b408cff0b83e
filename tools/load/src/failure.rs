/*!
How a run ends when it does not end well: why, and with which exit code.
*/

use omendb_cli::report::{render, say};
use omendb_cli::{Colour, Exit};
use omendb_sql::SqlError;

/// Why a run ended.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments make no sense together.
    Usage(String),
    /// The database cannot be opened.
    CannotOpen(SqlError),
    /// Ctrl-C; nothing of the named file was stored.
    Interrupted(String),
    /// Anything else.
    Failed(SqlError),
}

impl From<SqlError> for Failure {
    fn from(e: SqlError) -> Self {
        Failure::Failed(e)
    }
}

impl From<omendb_sql::engine::Error> for Failure {
    fn from(e: omendb_sql::engine::Error) -> Self {
        Failure::Failed(e.into())
    }
}

impl Failure {
    /// Prints it; gives the exit code.
    pub(crate) fn report(&self, colour: Colour) -> Exit {
        match self {
            Failure::Usage(message) => {
                say(&format!("{} {message}", colour.error("error:")));
                Exit::Usage
            }
            Failure::CannotOpen(e) => {
                say(&render(e, None, colour));
                Exit::CannotOpen
            }
            Failure::Interrupted(file) => {
                say(&format!("interrupted: nothing of \"{file}\" was stored"));
                Exit::Interrupted
            }
            Failure::Failed(e) => {
                say(&render(e, None, colour));
                Exit::of_error(e)
            }
        }
    }
}
