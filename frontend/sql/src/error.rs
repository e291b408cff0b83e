/*!
The one error type of the SQL layer: what PostgreSQL calls an error report.

An error is an SQLSTATE, a sentence, and where they help a detail, a hint and a position in the statement. Errors of
the engine, of DataFusion, of Arrow and of the parser are turned into it here and nowhere else. DataFusion's own errors
carry no SQLSTATE: they are told apart by variant where there is one and by their wording where there is not, and every
wording that this file relies on has a test, so that an upgrade that rewords them is noticed.

An [`SqlError`] that is raised inside DataFusion (by a function, a rule, a scan) travels as `DataFusionError::External`
and comes out unchanged, however deeply it was wrapped on its way.
*/

use arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;
use omendb_engine::ErrorKind;
use std::fmt;

/// The result of this crate.
pub type Result<T, E = SqlError> = std::result::Result<T, E>;

/// The SQLSTATEs that this crate raises, by PostgreSQL's names (its appendix A).
pub mod state {
    /// Something else needs what is to be dropped.
    pub const DEPENDENT_OBJECTS_STILL_EXIST: &str = "2BP01";
    /// The feature is not supported.
    pub const FEATURE_NOT_SUPPORTED: &str = "0A000";
    /// A value has no place in its type, and nothing more special fits.
    pub const DATA_EXCEPTION: &str = "22000";
    /// The text is longer than varchar(n) takes.
    pub const STRING_DATA_RIGHT_TRUNCATION: &str = "22001";
    /// The number is outside its type's range.
    pub const NUMERIC_VALUE_OUT_OF_RANGE: &str = "22003";
    /// The text is not a date or time.
    pub const INVALID_DATETIME_FORMAT: &str = "22007";
    /// The date or time is outside its type's range.
    pub const DATETIME_FIELD_OVERFLOW: &str = "22008";
    /// Division by zero.
    pub const DIVISION_BY_ZERO: &str = "22012";
    /// The parameter of a statement or function makes no sense.
    pub const INVALID_PARAMETER_VALUE: &str = "22023";
    /// The regular expression does not parse.
    pub const INVALID_REGULAR_EXPRESSION: &str = "2201B";
    /// The bytes are not text in UTF-8.
    pub const CHARACTER_NOT_IN_REPERTOIRE: &str = "22021";
    /// The text does not stand for a value of the type.
    pub const INVALID_TEXT_REPRESENTATION: &str = "22P02";
    /// The data of COPY are not what its options say.
    pub const BAD_COPY_FILE_FORMAT: &str = "22P04";
    /// A subquery used as a value gave more than one row.
    pub const CARDINALITY_VIOLATION: &str = "21000";
    /// NULL in a column that takes none.
    pub const NOT_NULL_VIOLATION: &str = "23502";
    /// A row with this key is there already.
    pub const UNIQUE_VIOLATION: &str = "23505";
    /// The transaction is in no state for this.
    pub const INVALID_TRANSACTION_STATE: &str = "25000";
    /// The database is open for reading only.
    pub const READ_ONLY_TRANSACTION: &str = "25006";
    /// Another transaction changed what this one read.
    pub const SERIALIZATION_FAILURE: &str = "40001";
    /// The statement is wrong, and nothing more special fits.
    pub const SYNTAX_OR_ACCESS_RULE: &str = "42000";
    /// The statement does not parse.
    pub const SYNTAX_ERROR: &str = "42601";
    /// The column is named twice.
    pub const DUPLICATE_COLUMN: &str = "42701";
    /// The name could mean several columns.
    pub const AMBIGUOUS_COLUMN: &str = "42702";
    /// There is no such column.
    pub const UNDEFINED_COLUMN: &str = "42703";
    /// There is no such type, or no such setting.
    pub const UNDEFINED_OBJECT: &str = "42704";
    /// The alias is used twice.
    pub const DUPLICATE_ALIAS: &str = "42712";
    /// A column is neither grouped nor aggregated.
    pub const GROUPING_ERROR: &str = "42803";
    /// The types do not fit.
    pub const DATATYPE_MISMATCH: &str = "42804";
    /// The type cannot be cast to that type.
    pub const CANNOT_COERCE: &str = "42846";
    /// There is no such function, or none for these types.
    pub const UNDEFINED_FUNCTION: &str = "42883";
    /// There is no such table.
    pub const UNDEFINED_TABLE: &str = "42P01";
    /// There is no such parameter.
    pub const UNDEFINED_PARAMETER: &str = "42P02";
    /// The table is there already.
    pub const DUPLICATE_TABLE: &str = "42P07";
    /// The column cannot be referred to in this way.
    pub const INVALID_COLUMN_REFERENCE: &str = "42P10";
    /// The table's definition makes no sense.
    pub const INVALID_TABLE_DEFINITION: &str = "42P16";
    /// The parameter's type cannot be told.
    pub const INDETERMINATE_DATATYPE: &str = "42P18";
    /// There is no such schema.
    pub const INVALID_SCHEMA_NAME: &str = "3F000";
    /// The disk is full.
    pub const DISK_FULL: &str = "53100";
    /// The memory limit was reached.
    pub const OUT_OF_MEMORY: &str = "53200";
    /// A limit of this program was exceeded.
    pub const PROGRAM_LIMIT_EXCEEDED: &str = "54000";
    /// The statement is nested too deeply.
    pub const STATEMENT_TOO_COMPLEX: &str = "54001";
    /// The object is in use, by another process for instance.
    pub const OBJECT_IN_USE: &str = "55006";
    /// The setting cannot be changed now.
    pub const CANT_CHANGE_RUNTIME_PARAM: &str = "55P02";
    /// The statement was cancelled, by its user or by its timeout.
    pub const QUERY_CANCELED: &str = "57014";
    /// The database takes no writes until it is reopened.
    pub const CANNOT_CONNECT_NOW: &str = "57P03";
    /// The operating system failed an operation.
    pub const IO_ERROR: &str = "58030";
    /// The file is not there.
    pub const UNDEFINED_FILE: &str = "58P01";
    /// The directory is no database, or one that this release cannot read.
    pub const SYSTEM_ERROR: &str = "58000";
    /// An invariant of this program is broken.
    pub const INTERNAL_ERROR: &str = "XX000";
    /// Stored data are damaged.
    pub const DATA_CORRUPTED: &str = "XX001";
}

/// An error report.
#[derive(Debug, Clone)]
pub struct SqlError(Box<Report>);

#[derive(Debug, Clone)]
struct Report {
    state: &'static str,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
    position: Option<usize>,
    /// Line and column, both from 1, as the parser and the planner count: a position once the statement is at hand.
    line_column: Option<(u64, u64)>,
    engine_kind: Option<ErrorKind>,
}

impl SqlError {
    /// An error with an SQLSTATE (one of [`state`]) and a sentence, lower case and without a full stop as PostgreSQL's are.
    pub fn new(state: &'static str, message: impl Into<String>) -> Self {
        SqlError(Box::new(Report {
            state,
            message: message.into(),
            detail: None,
            hint: None,
            position: None,
            line_column: None,
            engine_kind: None,
        }))
    }

    /// Something that SQL has and OmenDB has not: 0A000.
    pub fn unsupported(message: impl Into<String>) -> Self {
        SqlError::new(state::FEATURE_NOT_SUPPORTED, message)
    }

    /// A broken invariant of this program: XX000.
    pub fn internal(message: impl Into<String>) -> Self {
        SqlError::new(state::INTERNAL_ERROR, message)
    }

    /// The same error with a sentence of detail.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// The same error with a sentence that says what to do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// The same error at a byte offset of the statement.
    #[must_use]
    pub fn with_position(mut self, position: usize) -> Self {
        self.0.position = Some(position);
        self
    }

    /// The same error at a line and a column, both from 1, the column in characters; [`SqlError::locate`] makes a
    /// position of them.
    #[must_use]
    pub fn with_line_column(mut self, line: u64, column: u64) -> Self {
        if line > 0 {
            self.0.line_column = Some((line, column));
        }
        self
    }

    /// The same error, raised by the engine as this kind.
    #[must_use]
    pub(crate) fn with_engine_kind(mut self, kind: ErrorKind) -> Self {
        self.0.engine_kind = Some(kind);
        self
    }

    /// The same error with its position found in the statement's text, where it is known by line and column only.
    #[must_use]
    pub fn locate(mut self, sql: &str) -> Self {
        if self.0.position.is_none()
            && let Some((line, column)) = self.0.line_column
        {
            self.0.position = Some(offset_of(sql, line, column));
        }
        self
    }

    /// Whether the parser came to the end of the text.
    pub(crate) fn is_at_end(&self) -> bool {
        self.0.line_column.is_some_and(|(line, _)| line == u64::MAX)
    }

    /// The five characters of the SQLSTATE.
    pub fn sqlstate(&self) -> &'static str {
        self.0.state
    }

    /// What is wrong, in a sentence.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// More about it.
    pub fn detail(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The byte offset in the statement where it shows.
    pub fn position(&self) -> Option<usize> {
        self.0.position
    }

    /// The engine's kind, where the engine raised it.
    pub fn engine_kind(&self) -> Option<ErrorKind> {
        self.0.engine_kind
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for SqlError {}

/// The byte offset of a line and a column (both from 1, the column in characters); the text's end when it is shorter.
fn offset_of(sql: &str, line: u64, column: u64) -> usize {
    let mut start = 0;
    for _ in 1..line {
        match sql.get(start..).and_then(|rest| rest.find('\n')) {
            Some(newline) => start += newline + 1,
            None => return sql.len(),
        }
    }
    let skip = usize::try_from(column.saturating_sub(1)).unwrap_or(usize::MAX);
    let rest = sql.get(start..).unwrap_or_default();
    rest.char_indices().nth(skip).map_or(sql.len(), |(at, _)| start + at)
}

impl From<omendb_engine::Error> for SqlError {
    fn from(e: omendb_engine::Error) -> Self {
        let state = match e.kind() {
            ErrorKind::Io => state::IO_ERROR,
            ErrorKind::Corruption => state::DATA_CORRUPTED,
            ErrorKind::NotADatabase | ErrorKind::NewerFormat => state::SYSTEM_ERROR,
            ErrorKind::Locked => state::OBJECT_IN_USE,
            ErrorKind::ReadOnly => state::READ_ONLY_TRANSACTION,
            ErrorKind::Poisoned => state::CANNOT_CONNECT_NOW,
            ErrorKind::DiskFull => state::DISK_FULL,
            ErrorKind::DuplicateKey => state::UNIQUE_VIOLATION,
            ErrorKind::WriteConflict => state::SERIALIZATION_FAILURE,
            ErrorKind::TableExists => state::DUPLICATE_TABLE,
            ErrorKind::NoSuchTable => state::UNDEFINED_TABLE,
            ErrorKind::NoSuchColumn => state::UNDEFINED_COLUMN,
            ErrorKind::NullViolation => state::NOT_NULL_VIOLATION,
            ErrorKind::InvalidArgument => state::INVALID_PARAMETER_VALUE,
            ErrorKind::LimitExceeded => state::PROGRAM_LIMIT_EXCEEDED,
            ErrorKind::OutOfMemory => state::OUT_OF_MEMORY,
            ErrorKind::Cancelled => state::QUERY_CANCELED,
            _ => state::INTERNAL_ERROR,
        };
        let mut error = SqlError::new(state, e.to_string());
        error.0.engine_kind = Some(e.kind());
        error
    }
}

impl From<SqlError> for DataFusionError {
    fn from(e: SqlError) -> Self {
        DataFusionError::External(Box::new(e))
    }
}

impl From<SqlError> for ArrowError {
    fn from(e: SqlError) -> Self {
        ArrowError::ExternalError(Box::new(e))
    }
}

impl From<std::io::Error> for SqlError {
    fn from(e: std::io::Error) -> Self {
        let state = match e.kind() {
            std::io::ErrorKind::NotFound => state::UNDEFINED_FILE,
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => state::DISK_FULL,
            _ => state::IO_ERROR,
        };
        SqlError::new(state, e.to_string())
    }
}

impl From<ParserError> for SqlError {
    fn from(e: ParserError) -> Self {
        match e {
            ParserError::RecursionLimitExceeded => too_deep(),
            ParserError::TokenizerError(message) | ParserError::ParserError(message) => parse_error(&message),
        }
    }
}

/// How deep expressions, subqueries and parentheses may be nested.
pub(crate) const NESTING_MAX: usize = 256;

/// Operators in a chain, `a + b + …`: planning takes seconds for two thousand, and grows faster than the chain.
pub(crate) const CHAIN_MAX: usize = 2_000;

/// A statement nested more deeply than the parser or the planner takes: 54001.
pub(crate) fn too_deep() -> SqlError {
    SqlError::new(state::STATEMENT_TOO_COMPLEX, "the statement is nested too deeply")
        .with_hint(format!(
            "Expressions and subqueries may be nested {NESTING_MAX} deep, and a chain of operators may have {CHAIN_MAX} of them."
        ))
}

/// The parser's message ends in ` at Line: 3, Column: 7`, and says `Expected: an expression, found: )`.
fn parse_error(message: &str) -> SqlError {
    let (text, place) = match message.rfind(" at Line: ") {
        Some(at) => message.split_at(at),
        None => (message, ""),
    };
    let mut numbers = place.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<u64>().ok());
    let (line, column) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let text = match text.strip_prefix("Expected: ").and_then(|t| t.split_once(", found: ")) {
        Some((wanted, "EOF")) => {
            let text = format!("syntax error at end of input: {wanted} is missing");
            return SqlError::new(state::SYNTAX_ERROR, text).with_line_column(u64::MAX, 1);
        }
        Some((wanted, found)) => format!("syntax error at or near \"{}\": expected {wanted}", shortened(found)),
        None => format!("syntax error: {}", shortened(text)),
    };
    SqlError::new(state::SYNTAX_ERROR, text).with_line_column(line, column)
}

/// At most a line's worth of `text`: what is quoted from a megabyte of garbage need not be all of it.
fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 120;
    let mut chars = text.chars();
    let mut short: String = chars.by_ref().take(CHARS_MAX).collect();
    if chars.next().is_some() {
        short.push('…');
    }
    short
}

impl From<ArrowError> for SqlError {
    fn from(e: ArrowError) -> Self {
        match e {
            ArrowError::ExternalError(inner) => from_external(inner),
            ArrowError::DivideByZero => SqlError::new(state::DIVISION_BY_ZERO, "division by zero"),
            ArrowError::ArithmeticOverflow(m) => SqlError::new(state::NUMERIC_VALUE_OUT_OF_RANGE, overflow(&m)),
            ArrowError::CastError(m) => cast_error(m),
            ArrowError::ParseError(m) => parse_value_error(m),
            ArrowError::NotYetImplemented(m) => SqlError::unsupported(m),
            ArrowError::MemoryError(m) => SqlError::new(state::OUT_OF_MEMORY, m),
            ArrowError::OffsetOverflowError(bytes) => SqlError::new(
                state::PROGRAM_LIMIT_EXCEEDED,
                format!("a column of {bytes} bytes is too large for one batch"),
            ),
            ArrowError::IoError(m, source) => SqlError::new(SqlError::from(source).sqlstate(), m),
            ArrowError::InvalidArgumentError(m)
                if m.contains("is too large to store in a Decimal")
                    || m.contains("is too small to store in a Decimal") =>
            {
                SqlError::new(state::NUMERIC_VALUE_OUT_OF_RANGE, format!("numeric field overflow: {m}"))
            }
            ArrowError::ComputeError(m) | ArrowError::InvalidArgumentError(m) => {
                SqlError::new(by_wording(&m).unwrap_or(state::DATA_EXCEPTION), m)
            }
            e => SqlError::internal(e.to_string()),
        }
    }
}

fn overflow(message: &str) -> String {
    format!("value out of range: {message}")
}

/// Arrow says `Cannot cast string 'x' to value of Int32 type`, and `Can't cast value 300 to type Int8` for overflow.
fn cast_error(message: String) -> SqlError {
    let state = if message.contains("Can't cast value")
        || message.contains("out of range")
        || message.contains("overflow")
    {
        state::NUMERIC_VALUE_OUT_OF_RANGE
    } else if message.contains("to value of") || message.contains("Cannot parse") || message.contains("Error parsing") {
        return parse_value_error(message);
    } else {
        state::CANNOT_COERCE
    };
    SqlError::new(state, message)
}

fn parse_value_error(message: String) -> SqlError {
    let temporal = ["timestamp", "Timestamp", "Date", "Time64", "Time32", "interval", "Interval"];
    let state = match temporal.iter().any(|t| message.contains(t)) {
        true => state::INVALID_DATETIME_FORMAT,
        false => state::INVALID_TEXT_REPRESENTATION,
    };
    if let Some((text, ty)) = cast_words(&message) {
        return SqlError::new(state, format!("invalid input syntax for type {ty}: \"{text}\""));
    }
    SqlError::new(state, message)
}

/// `Cannot cast string 'x' to value of Int32 type` → (x, integer).
fn cast_words(message: &str) -> Option<(&str, &str)> {
    let rest = message.strip_prefix("Cannot cast string '").or_else(|| message.strip_prefix("Cannot cast value '"))?;
    let (text, rest) = rest.rsplit_once("' to value of ")?;
    let ty = rest.strip_suffix(" type").unwrap_or(rest);
    let ty = match ty {
        "Int16" => "smallint",
        "Int32" => "integer",
        "Int64" => "bigint",
        "Float32" => "real",
        "Float64" => "double precision",
        "Boolean" => "boolean",
        "Date32" => "date",
        t if t.starts_with("Decimal") => "numeric",
        t if t.starts_with("Timestamp") => "timestamp",
        t if t.starts_with("Time64") => "time",
        other => other,
    };
    Some((text, ty))
}

fn from_external(e: Box<dyn std::error::Error + Send + Sync>) -> SqlError {
    let e = match e.downcast::<SqlError>() {
        Ok(e) => return *e,
        Err(e) => e,
    };
    let e = match e.downcast::<DataFusionError>() {
        Ok(e) => return SqlError::from(*e),
        Err(e) => e,
    };
    let e = match e.downcast::<ArrowError>() {
        Ok(e) => return SqlError::from(*e),
        Err(e) => e,
    };
    match e.downcast::<omendb_engine::Error>() {
        Ok(e) => SqlError::from(*e),
        Err(e) => SqlError::internal(e.to_string()),
    }
}

impl From<DataFusionError> for SqlError {
    fn from(e: DataFusionError) -> Self {
        match e {
            DataFusionError::External(inner) => from_external(inner),
            DataFusionError::ArrowError(inner, _) => SqlError::from(*inner),
            DataFusionError::SQL(inner, _) => SqlError::from(*inner),
            DataFusionError::IoError(inner) => SqlError::from(inner),
            DataFusionError::Context(context, inner) => in_context(&context, *inner),
            DataFusionError::Shared(inner) => match std::sync::Arc::try_unwrap(inner) {
                Ok(inner) => SqlError::from(inner),
                Err(inner) => from_shared(&inner),
            },
            DataFusionError::Collection(errors) => errors
                .into_iter()
                .next()
                .map_or_else(|| SqlError::internal("an empty collection of errors"), SqlError::from),
            DataFusionError::Diagnostic(diagnostic, inner) => {
                let error = SqlError::from(*inner);
                match diagnostic.span {
                    Some(span) => error.with_line_column(span.start.line, span.start.column),
                    None => error,
                }
            }
            DataFusionError::SchemaError(inner, _) => from_schema(&inner),
            DataFusionError::Plan(m) => from_plan(&m),
            DataFusionError::NotImplemented(m) => SqlError::unsupported(m),
            DataFusionError::ResourcesExhausted(m) => from_exhausted(&m),
            DataFusionError::Execution(m) => match by_wording(&m) {
                Some(state) => SqlError::new(state, m),
                None => SqlError::new(state::DATA_EXCEPTION, m),
            },
            DataFusionError::Configuration(m) => SqlError::new(state::INVALID_PARAMETER_VALUE, m),
            DataFusionError::ParquetError(inner) => match *inner {
                parquet::errors::ParquetError::External(e) => from_external(e),
                e => SqlError::new(state::DATA_CORRUPTED, e.to_string()),
            },
            DataFusionError::ObjectStore(inner) => from_object_store(&inner.to_string()),
            DataFusionError::Internal(m) => SqlError::internal(first_line(&m)),
            e => SqlError::internal(e.strip_backtrace()),
        }
    }
}

/// An operator that was refused memory: by the session's pool, or by the accountant of the whole database, which says what to do.
fn from_exhausted(message: &str) -> SqlError {
    match message.lines().find(|line| line.contains("the database's memory limit")) {
        Some(line) => SqlError::new(state::OUT_OF_MEMORY, line.trim_start_matches("Error: ").to_owned())
            .with_hint("Open the database with more --memory, or let fewer statements run at once."),
        None => SqlError::new(state::OUT_OF_MEMORY, first_line(message))
            .with_hint("Raise it with SET work_mem = '…', or let the statement touch fewer rows."),
    }
}

fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}

fn from_object_store(message: &str) -> SqlError {
    let state = match message.contains("not found") {
        true => state::UNDEFINED_FILE,
        false => state::IO_ERROR,
    };
    SqlError::new(state, message)
}

/// DataFusion names the optimizer rule that failed: of no use to the user, but the cause is.
fn in_context(_context: &str, inner: DataFusionError) -> SqlError {
    SqlError::from(inner)
}

/// An error that several receivers hold: what can be copied of it is.
fn from_shared(e: &DataFusionError) -> SqlError {
    match e {
        DataFusionError::Shared(inner) => from_shared(inner),
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => from_shared(inner),
        DataFusionError::External(inner) => match inner.downcast_ref::<SqlError>() {
            Some(e) => e.clone(),
            None => SqlError::internal(inner.to_string()),
        },
        DataFusionError::ArrowError(inner, _) => from_shared_arrow(inner),
        DataFusionError::ResourcesExhausted(m) => SqlError::from(DataFusionError::ResourcesExhausted(m.clone())),
        DataFusionError::Execution(m) => SqlError::from(DataFusionError::Execution(m.clone())),
        DataFusionError::Plan(m) => from_plan(m),
        DataFusionError::NotImplemented(m) => SqlError::unsupported(m.clone()),
        e => SqlError::internal(e.strip_backtrace()),
    }
}

fn from_shared_arrow(e: &ArrowError) -> SqlError {
    match e {
        ArrowError::ExternalError(inner) => {
            match (inner.downcast_ref::<SqlError>(), inner.downcast_ref::<DataFusionError>()) {
                (Some(e), _) => e.clone(),
                (None, Some(e)) => from_shared(e),
                (None, None) => SqlError::internal(inner.to_string()),
            }
        }
        ArrowError::DivideByZero => SqlError::from(ArrowError::DivideByZero),
        ArrowError::ArithmeticOverflow(m) => SqlError::from(ArrowError::ArithmeticOverflow(m.clone())),
        ArrowError::CastError(m) => cast_error(m.clone()),
        ArrowError::ParseError(m) => parse_value_error(m.clone()),
        ArrowError::ComputeError(m) => SqlError::from(ArrowError::ComputeError(m.clone())),
        ArrowError::InvalidArgumentError(m) => SqlError::from(ArrowError::InvalidArgumentError(m.clone())),
        e => SqlError::internal(e.to_string()),
    }
}

fn from_schema(e: &SchemaError) -> SqlError {
    match e {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let missing = match &field.relation {
                Some(table) => format!("column {}.{} does not exist", table.table(), field.name),
                None => format!("column \"{}\" does not exist", field.name),
            };
            let error = SqlError::new(state::UNDEFINED_COLUMN, missing);
            match nearest(&field.name, valid_fields.iter().map(|f| f.name.as_str())) {
                Some(near) => error.with_hint(format!("Did you mean the column \"{near}\"?")),
                None => error,
            }
        }
        SchemaError::AmbiguousReference { field } => {
            SqlError::new(state::AMBIGUOUS_COLUMN, format!("column reference \"{}\" is ambiguous", field.name))
        }
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            SqlError::new(state::DUPLICATE_COLUMN, format!("column name \"{name}\" appears more than once"))
                .with_hint("Give one of them another name with AS.")
        }
    }
}

/// The name that `wanted` was probably meant to be: at most a third of its letters off.
pub(crate) fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = wanted.to_lowercase();
    let letters_off_max = (wanted.chars().count() / 3).max(1);
    names
        .map(|name| (strsim::damerau_levenshtein(&wanted, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= letters_off_max)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// What planning errors say, and the SQLSTATE that they are.
fn from_plan(message: &str) -> SqlError {
    if let Some(name) = between(message, "table '", "' not found") {
        return no_such_table(name.rsplit('.').next().unwrap_or(name));
    }
    if let Some(name) = between(message, "Invalid function '", "'") {
        return SqlError::new(state::UNDEFINED_FUNCTION, format!("function {name} does not exist"));
    }
    let (head, rest) = message.split_once('\n').unwrap_or((message, ""));
    let wording: &[(&str, &str)] = &[
        ("No function matches", state::UNDEFINED_FUNCTION),
        ("does not support", state::UNDEFINED_FUNCTION),
        ("function coercion", state::UNDEFINED_FUNCTION),
        ("must appear in the GROUP BY clause", state::GROUPING_ERROR),
        ("must be in GROUP BY", state::GROUPING_ERROR),
        ("could not be resolved from available columns", state::GROUPING_ERROR),
        ("Cannot infer common argument type", state::UNDEFINED_FUNCTION),
        ("Cannot coerce", state::DATATYPE_MISMATCH),
        ("type_coercion", state::DATATYPE_MISMATCH),
        ("UNION types", state::DATATYPE_MISMATCH),
        ("Aggregate functions are not allowed", state::GROUPING_ERROR),
        ("Cannot automatically convert", state::DATATYPE_MISMATCH),
        ("Projections require unique expression names", state::DUPLICATE_COLUMN),
        ("Invalid placeholder", state::UNDEFINED_PARAMETER),
        ("No value found for placeholder", state::UNDEFINED_PARAMETER),
        ("Placeholder", state::INDETERMINATE_DATATYPE),
    ];
    let state = wording.iter().find(|(words, _)| message.contains(words)).map(|(_, s)| *s);
    let error = SqlError::new(state.or_else(|| by_wording(message)).unwrap_or(state::SYNTAX_OR_ACCESS_RULE), head);
    match rest.trim() {
        "" => error,
        rest => error.with_detail(rest),
    }
}

/// There is no such table: 42P01.
pub(crate) fn no_such_table(name: &str) -> SqlError {
    SqlError::new(state::UNDEFINED_TABLE, format!("relation \"{name}\" does not exist"))
}

/// There is no such column: 42703.
pub(crate) fn no_such_column(name: &str, table: &str) -> SqlError {
    SqlError::new(state::UNDEFINED_COLUMN, format!("column \"{name}\" of relation \"{table}\" does not exist"))
}

/// States that DataFusion's and Arrow's free text stands for.
fn by_wording(message: &str) -> Option<&'static str> {
    let lower = message.to_lowercase();
    let wording: &[(&str, &str)] = &[
        ("divide by zero", state::DIVISION_BY_ZERO),
        ("division by zero", state::DIVISION_BY_ZERO),
        ("overflow", state::NUMERIC_VALUE_OUT_OF_RANGE),
        ("out of range", state::NUMERIC_VALUE_OUT_OF_RANGE),
        ("more than one row", state::CARDINALITY_VIOLATION),
        ("regular expression", state::INVALID_REGULAR_EXPRESSION),
        ("regex", state::INVALID_REGULAR_EXPRESSION),
        ("error parsing timestamp", state::INVALID_DATETIME_FORMAT),
        ("recursion limit", state::STATEMENT_TOO_COMPLEX),
    ];
    wording.iter().find(|(words, _)| lower.contains(words)).map(|(_, state)| *state)
}

/// What stands between two marks.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let start = text.find(before)? + before.len();
    let rest = text.get(start..)?;
    rest.get(..rest.find(after)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::common::Column;
    use std::sync::Arc;

    fn state_of(e: impl Into<SqlError>) -> &'static str {
        e.into().sqlstate()
    }

    #[test]
    fn an_error_raised_inside_datafusion_comes_out_unchanged() {
        let raised = SqlError::new(state::NUMERIC_VALUE_OUT_OF_RANGE, "bigint out of range").with_detail("d");
        let external = DataFusionError::from(raised.clone());
        let wrapped = DataFusionError::Context("rule".into(), Box::new(DataFusionError::Shared(Arc::new(external))));
        let out = SqlError::from(wrapped);
        assert_eq!((out.sqlstate(), out.message(), out.detail()), ("22003", "bigint out of range", Some("d")));

        let shared = Arc::new(DataFusionError::ArrowError(Box::new(raised.into()), None));
        let _other_holder = shared.clone();
        assert_eq!(state_of(DataFusionError::Shared(shared)), "22003");
    }

    #[test]
    fn a_parse_error_finds_its_byte_position() {
        let sql = "SELECT 'é',\n  FORM t";
        let e = SqlError::from(ParserError::ParserError("Expected: end, found: t at Line: 2, Column: 8".into()));
        let e = e.locate(sql);
        assert_eq!(e.position(), Some(sql.len() - 1));
        assert_eq!(e.message(), "syntax error at or near \"t\": expected end");
        assert_eq!(offset_of("aéb", 1, 3), 3);
        assert_eq!(offset_of("a", 9, 9), 1);
    }

    #[test]
    fn a_missing_column_hints_at_its_neighbour() {
        let e = SqlError::from(DataFusionError::SchemaError(
            Box::new(SchemaError::FieldNotFound {
                field: Box::new(Column::from_name("orgin")),
                valid_fields: vec![Column::from_name("origin"), Column::from_name("n")],
            }),
            Box::new(None),
        ));
        assert_eq!((e.sqlstate(), e.hint()), ("42703", Some("Did you mean the column \"origin\"?")));
    }

    #[test]
    fn wording_becomes_a_state() {
        assert_eq!(state_of(DataFusionError::Plan("table 'omendb.public.t' not found".into())), "42P01");
        assert_eq!(state_of(DataFusionError::Plan("Invalid function 'cuont'.\nDid you mean 'count'?".into())), "42883");
        assert_eq!(state_of(ArrowError::DivideByZero), "22012");
        assert_eq!(state_of(ArrowError::CastError("Cannot cast string 'x' to value of Int32 type".into())), "22P02");
        assert_eq!(state_of(ArrowError::CastError("Can't cast value 300 to type Int8".into())), "22003");
        assert_eq!(state_of(DataFusionError::ResourcesExhausted("pool".into())), "53200");
        assert_eq!(state_of(ParserError::RecursionLimitExceeded), "54001");
    }
}
