/*!
Exit codes, the same for every program: scripts rely on them.
*/

use omendb_sql::SqlError;
use omendb_sql::engine::ErrorKind;

/// How a program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Failed.
    Failed,
    /// Wrong usage.
    Usage,
    /// Finished, but with rejected rows or findings.
    Findings,
    /// The database cannot be opened.
    CannotOpen,
    /// A comparison shows a regression.
    Regression,
    /// Interrupted by the user.
    Interrupted,
}

impl Exit {
    /// The number the operating system is told.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Findings => 3,
            Exit::CannotOpen => 4,
            Exit::Regression => 5,
            Exit::Interrupted => 130,
        }
    }

    /// The code for a statement or job that ended with this error: a database that cannot be opened is told apart, and so is an interruption.
    pub fn of_error(error: &SqlError) -> Exit {
        match error.engine_kind() {
            Some(ErrorKind::NotADatabase | ErrorKind::NewerFormat | ErrorKind::Locked) => Exit::CannotOpen,
            _ if error.sqlstate() == omendb_sql::error::state::QUERY_CANCELED => Exit::Interrupted,
            _ => Exit::Failed,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        std::process::ExitCode::from(exit.code())
    }
}
