/*!
The engine's one error type.

Inside the engine an error carries everything that helps a person act on it: what was attempted, on which file and at
which offset, and the cause. Outside, callers match on [`ErrorKind`], whose meaning never changes between releases.

An error is never mistaken for the end of the data, and an iterator that has failed stays failed.
*/

use crate::types::TableId;
use std::fmt;
use std::path::PathBuf;

/// The engine's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of trouble it is: stable between releases, and all that a caller should branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused or failed an operation on a file.
    Io,
    /// Stored bytes are not what was written: a checksum, an order or a proof does not hold.
    Corruption,
    /// The directory is not a database.
    NotADatabase,
    /// The database, or one of its files, was written by a newer release.
    NewerFormat,
    /// Another process has the database open.
    Locked,
    /// The database was opened for reading only.
    ReadOnly,
    /// An earlier write or sync failed; the database must be reopened before it takes writes.
    Poisoned,
    /// There is no space left on the device.
    DiskFull,
    /// A row that should have been absent is there.
    DuplicateKey,
    /// A row changed after the transaction read it.
    WriteConflict,
    /// A table with that name or id is there already.
    TableExists,
    /// There is no such table.
    NoSuchTable,
    /// There is no such column.
    NoSuchColumn,
    /// NULL in a column that does not take NULL.
    NullViolation,
    /// The caller's arguments make no sense together.
    InvalidArgument,
    /// A documented limit was exceeded.
    LimitExceeded,
    /// The memory limit was reached.
    OutOfMemory,
    /// The caller asked for the operation to stop.
    Cancelled,
    /// The engine broke one of its own invariants.
    Internal,
}

/// An error of the engine: a kind, a sentence, and where it happened.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    place: Option<Box<Place>>,
    row: Option<Box<ConflictingRow>>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Where in the store an error happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The byte offset in it, where one is known.
    pub offset: Option<u64>,
}

/// Which row an expectation failed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConflictingRow {
    /// Its table.
    pub table: TableId,
    /// Its encoded key; `KeySchema::decode` gives the values.
    pub key: Vec<u8>,
}

impl Error {
    /// An error of `kind` with a sentence that says what happened.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), place: None, row: None, source: None }
    }

    /// Damage found in stored bytes.
    pub fn corruption(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Corruption, message)
    }

    /// A broken invariant of the engine itself.
    pub fn internal(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Internal, message)
    }

    /// Arguments that make no sense together.
    pub fn invalid(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::InvalidArgument, message)
    }

    /// A failed operation of the operating system on `file`. `what` is a verb phrase: "read", "create directory".
    pub fn io(what: &str, file: impl Into<PathBuf>, source: std::io::Error) -> Self {
        let kind = match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::DiskFull,
            _ => ErrorKind::Io,
        };
        let file = file.into();
        let message = format!("cannot {what}: {source}");
        Error {
            kind,
            message,
            place: Some(Box::new(Place { file, offset: None })),
            row: None,
            source: Some(Box::new(source)),
        }
    }

    /// The same error, placed in `file` at `offset`; a place that is already known stays.
    #[must_use]
    pub fn at(mut self, file: impl Into<PathBuf>, offset: impl Into<Option<u64>>) -> Self {
        if self.place.is_none() {
            self.place = Some(Box::new(Place { file: file.into(), offset: offset.into() }));
        }
        self
    }

    /// The same error, about the row with this key.
    #[must_use]
    pub fn about_row(mut self, table: TableId, key: &[u8]) -> Self {
        self.row = Some(Box::new(ConflictingRow { table, key: key.to_vec() }));
        self
    }

    /// The same error with `context` put before its sentence.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// What kind of trouble it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The sentence, without the place.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The row that an expectation failed on: set for `DuplicateKey` and `WriteConflict`.
    pub fn row(&self) -> Option<&ConflictingRow> {
        self.row.as_deref()
    }

    /// Where it happened, where that is known.
    pub fn place(&self) -> Option<&Place> {
        self.place.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(place) = &self.place {
            write!(f, " (file {}", place.file.display())?;
            if let Some(offset) = place.offset {
                write!(f, ", offset {offset}")?;
            }
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|e| e.as_ref() as &(dyn std::error::Error + 'static))
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(e: arrow::error::ArrowError) -> Self {
        Error {
            kind: ErrorKind::Internal,
            message: format!("columns do not fit together: {e}"),
            place: None,
            row: None,
            source: Some(Box::new(e)),
        }
    }
}
