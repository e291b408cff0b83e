/*!
What a file holds, found out by looking: its format, its dialect, its columns and their types.

A file within the sample budget is looked at as a whole, and then its types hold for every row. Of a larger one the
first bytes are looked at; a row further on that does not fit is an error, never a silent change.

A type is given only where it loses nothing: `00501` and a number of more than 64 bits stay TEXT, booleans are the words
true, false, t and f, dates and times are ISO. An unquoted empty field is NULL, and a column of NULLs only is TEXT. Parquet
says itself what it holds.
*/

use super::csv::{CsvDialect, Visit, byte_order_mark, records_end, visit};
use super::parse::{is_date, is_timestamp};
use super::read::TargetColumn;
use super::source::Source;
use super::{Format, ndjson, parquet};
use crate::error::{SqlError, state};
use crate::types::SqlType;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use omendb_engine::limits::COLUMNS_MAX;
use omendb_engine::types::ColumnType;
use std::collections::{HashMap, HashSet};

/// Bytes of a file that are looked at unless the caller says otherwise.
pub const SAMPLE_BYTES: usize = 16 << 20;

/// Bytes of a sample that are enough to tell delimiter and quote.
const DIALECT_BYTES: usize = 256 << 10;

/// Of many files, the first so many get the whole budget each, the others [`SAMPLE_BYTES_LATER`].
const FILES_SAMPLED_WHOLE: usize = 8;
const SAMPLE_BYTES_LATER: usize = 1 << 20;

/// What the user has said of a CSV file; the rest is sniffed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CsvOptions {
    /// Between fields.
    pub delimiter: Option<u8>,
    /// Around fields; `Some(None)` for no quoting at all.
    pub quote: Option<Option<u8>>,
    /// Before a quote inside quotes.
    pub escape: Option<u8>,
    /// Whether the first record names the columns.
    pub header: Option<bool>,
    /// The unquoted field that means NULL.
    pub null: Option<String>,
}

/// What is known before looking.
#[derive(Debug, Clone)]
pub struct SniffOptions {
    /// The format; by name and content if not given.
    pub format: Option<Format>,
    /// The dialect.
    pub csv: CsvOptions,
    /// Bytes to look at.
    pub sample_bytes: usize,
    /// Names of the columns, in order, in place of the file's own.
    pub names: Vec<String>,
    /// Declared types of columns by name; the others are sniffed.
    pub types: Vec<(String, SqlType)>,
    /// Columns of the table that the file goes to: a first record of these names is a header.
    pub table: Vec<String>,
}

impl Default for SniffOptions {
    fn default() -> Self {
        SniffOptions {
            format: None,
            csv: CsvOptions::default(),
            sample_bytes: SAMPLE_BYTES,
            names: Vec::new(),
            types: Vec::new(),
            table: Vec::new(),
        }
    }
}

/// A column of a file or of the table it goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileColumn {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: SqlType,
    /// Whether it takes NULL.
    pub nullable: bool,
}

/// What a file holds.
#[derive(Debug, Clone)]
pub struct Sniffed {
    /// The format.
    pub format: Format,
    /// How fields are told apart, for CSV and TSV.
    pub dialect: CsvDialect,
    /// The columns, in the file's order.
    pub columns: Vec<FileColumn>,
    /// Whether the columns' names are the file's own or the user's, not made up.
    pub named: bool,
    /// Whether the whole file was looked at.
    pub whole: bool,
    /// Bytes that were looked at.
    pub sample_bytes: usize,
    /// What was seen of each column, where types are sniffed.
    evidence: Vec<Evidence>,
}

impl Sniffed {
    /// All columns, as targets of their own.
    pub fn targets(&self) -> Vec<TargetColumn> {
        let target = |(field, column): (usize, &FileColumn)| TargetColumn { column: column.clone(), field };
        self.columns.iter().enumerate().map(target).collect()
    }
}

/// Finds out what a file holds.
///
/// # Errors
/// When it cannot be read, is empty, or is not what its name or the options say.
pub fn sniff(source: &Source, options: &SniffOptions) -> Result<Sniffed, SqlError> {
    let format = match options.format.or_else(|| Format::of_name(source.name())) {
        Some(format) => format,
        None => format_of_content(&source.sample(DIALECT_BYTES)?.0),
    };
    let mut sniffed = match format {
        Format::Parquet => Sniffed {
            format,
            dialect: CsvDialect::default(),
            columns: parquet::columns(source)?,
            named: true,
            whole: true,
            sample_bytes: 0,
            evidence: Vec::new(),
        },
        Format::Csv | Format::Tsv => sniff_csv(source, format, options)?,
        Format::NdJson => sniff_ndjson(source, options)?,
    };
    if sniffed.columns.len() > COLUMNS_MAX {
        let message = format!("\"{}\" has {} columns, more than {COLUMNS_MAX}", source.name(), sniffed.columns.len());
        return Err(SqlError::new(state::PROGRAM_LIMIT_EXCEEDED, message));
    }
    declare(&mut sniffed, source.name(), options)?;
    Ok(sniffed)
}

/// Finds out what several files hold that go to one table: their columns by name, with types that fit them all.
///
/// # Errors
/// As [`sniff`], and 42804 where a column has types that do not go together.
pub fn sniff_all(sources: &[Source], options: &SniffOptions) -> Result<(Vec<FileColumn>, Vec<Sniffed>), SqlError> {
    let mut all = Vec::with_capacity(sources.len());
    for (i, source) in sources.iter().enumerate() {
        let mut options = options.clone();
        if i >= FILES_SAMPLED_WHOLE {
            options.sample_bytes = options.sample_bytes.min(SAMPLE_BYTES_LATER);
        }
        all.push(sniff(source, &options)?);
    }
    let mut merged: Vec<(FileColumn, Option<Evidence>)> = Vec::new();
    for (sniffed, source) in all.iter().zip(sources) {
        for (i, column) in sniffed.columns.iter().enumerate() {
            let evidence = sniffed.evidence.get(i).copied();
            match merged.iter_mut().find(|(c, _)| c.name == column.name) {
                Some((into, seen)) => merge(into, seen, column, evidence, source.name())?,
                None => merged.push((column.clone(), evidence)),
            }
        }
    }
    for (name, ty) in &options.types {
        if let Some((column, _)) = merged.iter_mut().find(|(c, _)| c.name == *name) {
            column.ty = *ty;
        }
    }
    let columns: Vec<FileColumn> = merged.into_iter().map(|(column, _)| column).collect();
    for sniffed in &mut all {
        for column in &mut sniffed.columns {
            if let Some(common) = columns.iter().find(|c| c.name == column.name) {
                column.ty = common.ty;
            }
        }
    }
    Ok((columns, all))
}

fn merge(
    into: &mut FileColumn,
    seen: &mut Option<Evidence>,
    other: &FileColumn,
    evidence: Option<Evidence>,
    file: &str,
) -> Result<(), SqlError> {
    into.nullable |= other.nullable;
    match (seen, evidence) {
        (Some(seen), Some(evidence)) => {
            *seen = seen.and(evidence);
            into.ty = seen.ty().into();
        }
        (None, None) if into.ty != other.ty => {
            into.ty = wider(into.ty, other.ty).ok_or_else(|| {
                let message = format!("column \"{}\" of \"{file}\" is {}", other.name, other.ty.name());
                SqlError::new(state::DATATYPE_MISMATCH, format!("{message}, but {} in another file", into.ty.name()))
            })?;
        }
        // Parquet says what it is; text follows.
        (seen @ Some(_), None) => {
            *seen = None;
            into.ty = other.ty;
        }
        _ => {}
    }
    Ok(())
}

/// The number type that holds the values of both.
fn wider(a: SqlType, b: SqlType) -> Option<SqlType> {
    use ColumnType::{Float32, Float64, Int16, Int32, Int64};
    let rank = |t: SqlType| [Int16, Int32, Int64, Float32, Float64].iter().position(|c| *c == t.column);
    match (rank(a)?, rank(b)?) {
        // A real does not hold all integers.
        (0..=2, 3) | (3, 0..=2) => Some(Float64.into()),
        (x, y) => Some(if x >= y { a } else { b }),
    }
}

/// Puts declared names and types in place of what was found.
fn declare(sniffed: &mut Sniffed, file: &str, options: &SniffOptions) -> Result<(), SqlError> {
    if !options.names.is_empty() && sniffed.format != Format::NdJson {
        if options.names.len() != sniffed.columns.len() {
            let (has, named) = (sniffed.columns.len(), options.names.len());
            let message = format!("\"{file}\" has {has} columns, but {named} names are given");
            return Err(SqlError::new(state::INVALID_PARAMETER_VALUE, message));
        }
        for (column, name) in sniffed.columns.iter_mut().zip(&options.names) {
            column.name.clone_from(name);
        }
        sniffed.named = true;
    }
    for (name, ty) in &options.types {
        match sniffed.columns.iter_mut().find(|c| c.name == *name) {
            Some(column) => column.ty = *ty,
            None => {
                let message = format!("a type is given for column \"{name}\", which \"{file}\" does not have");
                return Err(SqlError::new(state::UNDEFINED_COLUMN, message));
            }
        }
    }
    Ok(())
}

fn format_of_content(sample: &[u8]) -> Format {
    if sample.starts_with(b"PAR1") {
        return Format::Parquet;
    }
    match sample.trim_ascii_start().first() {
        Some(b'{') => Format::NdJson,
        _ => Format::Csv,
    }
}

fn empty(file: &str) -> SqlError {
    SqlError::new(state::BAD_COPY_FILE_FORMAT, format!("\"{file}\" is empty: there are no columns to be found in it"))
}

fn sniff_csv(source: &Source, format: Format, options: &SniffOptions) -> Result<Sniffed, SqlError> {
    let (sample, whole) = source.sample(options.sample_bytes)?;
    refuse_binary(&sample, source.name(), format)?;
    let sample = sample.get(byte_order_mark(&sample, source.name())?..).unwrap_or_default();
    let (mut dialect, guessed) = dialect_of(sample, whole, format, &options.csv);
    let end = if whole { sample.len() } else { records_end(sample, &dialect) };
    let records = sample.get(..end).filter(|r| !r.is_empty()).unwrap_or(sample);
    let survey = Survey::of(records, &dialect);
    if survey.first.is_empty() {
        return Err(empty(source.name()));
    }
    dialect.header = options.csv.header.unwrap_or_else(|| survey.has_header(&options.table));
    let mut evidence = survey.rest;
    evidence.resize(survey.first.len(), Evidence::default());
    if !dialect.header {
        for (seen, (text, quoted)) in evidence.iter_mut().zip(&survey.first) {
            if *quoted || *text != dialect.null.as_bytes() {
                seen.field(text);
            }
        }
    }
    let names = match dialect.header {
        true => unique(survey.first.iter().map(|(text, _)| String::from_utf8_lossy(text).into_owned())),
        false => unique(survey.first.iter().map(|_| String::new())),
    };
    let column = |(name, seen): (String, &Evidence)| FileColumn { name, ty: seen.ty().into(), nullable: true };
    let columns = names.into_iter().zip(&evidence).map(column).collect();
    let named = dialect.header;
    let sample_bytes = records.len();
    Ok(Sniffed { format: guessed, dialect, columns, named, whole, sample_bytes, evidence })
}

/// A file of zeros and control characters is no text, whatever its name says.
fn refuse_binary(sample: &[u8], file: &str, format: Format) -> Result<(), SqlError> {
    let head = sample.get(..sample.len().min(4096)).unwrap_or_default();
    if head.starts_with(b"PAR1") {
        let message = format!("\"{file}\" is a Parquet file, not {}", format.name());
        return Err(SqlError::new(state::BAD_COPY_FILE_FORMAT, message));
    }
    // UTF-16 is full of zeros and gets a message of its own.
    if head.contains(&0) && byte_order_mark(sample, file).is_ok() {
        let message = format!("\"{file}\" is no text: it holds zero bytes");
        return Err(SqlError::new(state::BAD_COPY_FILE_FORMAT, message));
    }
    Ok(())
}

/// Tells delimiter, quote and escape from the first records, where the user has not.
fn dialect_of(sample: &[u8], whole: bool, format: Format, said: &CsvOptions) -> (CsvDialect, Format) {
    let head = sample.get(..sample.len().min(DIALECT_BYTES)).unwrap_or_default();
    let cut = head.len() < sample.len() || !whole;
    let mut dialect = CsvDialect::default();
    if let Some(null) = &said.null {
        dialect.null.clone_from(null);
    }
    dialect.quote = said.quote.unwrap_or(dialect.quote);
    dialect.escape = said.escape.or(dialect.quote).unwrap_or(b'"');
    dialect.delimiter = match (said.delimiter, format) {
        (Some(delimiter), _) => delimiter,
        (None, Format::Tsv) => b'\t',
        _ => delimiter_of(head, cut, &dialect),
    };
    if said.quote.is_none() && single_quotes(head, cut, &dialect) {
        dialect.quote = Some(b'\'');
        dialect.escape = said.escape.unwrap_or(b'\'');
    }
    if said.escape.is_none() && dialect.quote.is_some() && misquoted(head, cut, &dialect) > 0 {
        let backslash = CsvDialect { escape: b'\\', ..dialect.clone() };
        if misquoted(head, cut, &backslash) == 0 {
            dialect = backslash;
        }
    }
    (dialect, format)
}

/// The delimiter that cuts most records into the same number of fields; of equals, the one that gives more fields.
fn delimiter_of(head: &[u8], cut: bool, dialect: &CsvDialect) -> u8 {
    let mut best = (0, 0, b',');
    for delimiter in *b",;\t|" {
        let dialect = CsvDialect { delimiter, ..dialect.clone() };
        let end = if cut { records_end(head, &dialect) } else { head.len() };
        let mut counts: HashMap<usize, usize> = HashMap::new();
        visit(head.get(..end).unwrap_or_default(), &dialect, |seen| {
            if let Visit::End(fields) = seen {
                *counts.entry(fields).or_default() += 1;
            }
            true
        });
        let records: usize = counts.values().sum();
        let (fields, alike) = counts.into_iter().max_by_key(|(fields, n)| (*n, *fields)).unwrap_or((1, 0));
        // In percent, so that one ragged record does not outweigh a better cut.
        let share = if fields > 1 { alike * 100 / records.max(1) } else { 0 };
        if (share, fields) > (best.0, best.1) && share > 0 {
            best = (share, fields, delimiter);
        }
    }
    best.2
}

/// Whether fields stand in single quotes: none stands in double quotes, some do in single ones, and all of those close.
fn single_quotes(head: &[u8], cut: bool, dialect: &CsvDialect) -> bool {
    let quoted_fields = |dialect: &CsvDialect| {
        let mut count = 0;
        visit(head, dialect, |seen| {
            count += usize::from(matches!(seen, Visit::Field(_, _, true)));
            true
        });
        count
    };
    let single = CsvDialect { quote: Some(b'\''), escape: b'\'', ..dialect.clone() };
    quoted_fields(dialect) == 0 && quoted_fields(&single) > 0 && misquoted(head, cut, &single) == 0
}

fn misquoted(head: &[u8], cut: bool, dialect: &CsvDialect) -> usize {
    let end = if cut { records_end(head, dialect) } else { head.len() };
    let mut count = 0;
    visit(head.get(..end).unwrap_or_default(), dialect, |seen| {
        count += usize::from(matches!(seen, Visit::Misquoted));
        true
    });
    count
}

/// What a sample of CSV shows: its first record, and what the fields of the others are.
struct Survey {
    first: Vec<(Vec<u8>, bool)>,
    rest: Vec<Evidence>,
    records: usize,
}

impl Survey {
    fn of(sample: &[u8], dialect: &CsvDialect) -> Survey {
        let mut survey = Survey { first: Vec::new(), rest: Vec::new(), records: 0 };
        visit(sample, dialect, |seen| {
            match seen {
                Visit::Field(_, text, quoted) if survey.records == 0 => survey.first.push((text.to_vec(), quoted)),
                Visit::Field(i, text, quoted) => {
                    if i >= survey.rest.len() && i < survey.first.len() {
                        survey.rest.resize(i + 1, Evidence::default());
                    }
                    if let Some(seen) = survey.rest.get_mut(i)
                        && (quoted || text != dialect.null.as_bytes())
                    {
                        seen.field(text);
                    }
                }
                // A first record that is misquoted is no header; it will be a reject.
                Visit::End(_) => survey.records += 1,
                Visit::Misquoted if survey.records == 0 => survey.first.clear(),
                Visit::Misquoted => {}
            }
            true
        });
        survey
    }

    /// Whether the first record names the columns: it says so in the table's own words, or its fields are not of the
    /// types of those below them; where all is text, if its fields are words of their own.
    fn has_header(&self, table: &[String]) -> bool {
        let text = |field: &[u8]| String::from_utf8_lossy(field).trim().to_owned();
        let known = |(field, _): &&(Vec<u8>, bool)| table.iter().any(|name| name.eq_ignore_ascii_case(&text(field)));
        if self.first.iter().filter(known).count() * 2 > self.first.len() {
            return true;
        }
        let mut typed = false;
        for (i, (field, _)) in self.first.iter().enumerate() {
            let ty = self.rest.get(i).map_or(ColumnType::Text, Evidence::ty);
            let mut seen = Evidence::default();
            seen.field(field);
            match (ty, seen.ty()) {
                // Text below tells nothing, but a number on top is no name.
                (ColumnType::Text, ColumnType::Text) => {}
                (ColumnType::Text, _) => return false,
                // An empty field over numbers may be either.
                (_, ColumnType::Text) => typed |= !field.is_empty(),
                _ => return false,
            }
        }
        let mut names = HashSet::new();
        typed || self.first.iter().all(|(field, _)| !field.is_empty() && names.insert(field.to_ascii_lowercase()))
    }
}

fn sniff_ndjson(source: &Source, options: &SniffOptions) -> Result<Sniffed, SqlError> {
    let (sample, whole) = source.sample(options.sample_bytes)?;
    refuse_binary(&sample, source.name(), Format::NdJson)?;
    let sample = sample.get(byte_order_mark(&sample, source.name())?..).unwrap_or_default();
    let end = if whole { sample.len() } else { memchr::memrchr(b'\n', sample).map_or(sample.len(), |at| at + 1) };
    let records = sample.get(..end).unwrap_or_default();
    let mut names: Vec<String> = Vec::new();
    let mut evidence: Vec<Evidence> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let (mut good, mut first_bad) = (0usize, None);
    for line in records.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()) {
        let seen = ndjson::members(line, |key, value| {
            let place = *places.entry(key.to_owned()).or_insert_with(|| {
                names.push(key.to_owned());
                evidence.push(Evidence::default());
                names.len() - 1
            });
            if let (Some(seen), Some(raw)) = (evidence.get_mut(place), line.get(value)) {
                seen.json(raw);
            }
        });
        match seen {
            Ok(()) => good += 1,
            Err(reason) => first_bad = first_bad.or(Some(reason)),
        }
    }
    if names.is_empty() {
        return Err(match first_bad {
            Some(reason) if good == 0 => {
                SqlError::new(reason.sqlstate, format!("\"{}\" is not NDJSON: {}", source.name(), reason.message))
                    .with_hint("There must be one JSON object a line.")
            }
            _ => empty(source.name()),
        });
    }
    let names = unique(names.into_iter());
    let column = |(name, seen): (String, &Evidence)| FileColumn { name, ty: seen.ty().into(), nullable: true };
    let columns = names.into_iter().zip(&evidence).map(column).collect();
    let (dialect, sample_bytes) = (ndjson::lines(), records.len());
    Ok(Sniffed { format: Format::NdJson, dialect, columns, named: true, whole, sample_bytes, evidence })
}

/// Names without empty ones and without doubles: `column2`, `a_1`.
fn unique(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut taken = HashSet::new();
    let mut out = Vec::new();
    for (i, name) in names.enumerate() {
        let base = match name.trim() {
            "" => format!("column{}", i + 1),
            name => name.to_owned(),
        };
        let mut name = base.clone();
        let mut n = 0;
        while !taken.insert(name.clone()) {
            n += 1;
            name = format!("{base}_{n}");
        }
        out.push(name);
    }
    out
}

/// Which types all values of a column so far can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Evidence {
    possible: u8,
    seen: bool,
    /// A number with digits was seen; words such as NaN alone make no number column.
    digits: bool,
    /// A JSON object or array was seen.
    nested: bool,
}

const BOOLEAN: u8 = 1;
const INTEGER: u8 = 1 << 1;
const DOUBLE: u8 = 1 << 2;
const DATE: u8 = 1 << 3;
const TIMESTAMP: u8 = 1 << 4;
const TIMESTAMPTZ: u8 = 1 << 5;
const UUID: u8 = 1 << 6;

impl Default for Evidence {
    fn default() -> Self {
        Evidence { possible: u8::MAX, seen: false, digits: false, nested: false }
    }
}

impl Evidence {
    fn field(&mut self, field: &[u8]) {
        self.seen = true;
        if self.possible != 0 {
            let classes = classes(field.trim_ascii());
            self.digits |= classes & (INTEGER | DOUBLE) != 0 && field.iter().any(u8::is_ascii_digit);
            self.possible &= classes;
        }
    }

    fn json(&mut self, raw: &[u8]) {
        match raw.first() {
            Some(b'"') => {
                self.seen = true;
                let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
                // A string that looks like a number is meant to be text.
                self.possible &= classes(inner) & !(BOOLEAN | INTEGER | DOUBLE);
            }
            Some(b'{' | b'[') => {
                self.seen = true;
                self.nested = true;
                self.possible = 0;
            }
            Some(b'n') | None => {}
            _ => self.field(raw),
        }
    }

    fn and(self, other: Evidence) -> Evidence {
        Evidence {
            possible: self.possible & other.possible,
            seen: self.seen || other.seen,
            digits: self.digits || other.digits,
            nested: self.nested || other.nested,
        }
    }

    fn ty(&self) -> ColumnType {
        let can = |class: u8| self.possible & class != 0;
        match () {
            () if self.nested => ColumnType::Json,
            () if !self.seen => ColumnType::Text,
            () if can(BOOLEAN) => ColumnType::Boolean,
            () if can(INTEGER) => ColumnType::Int64,
            () if can(DOUBLE) && self.digits => ColumnType::Float64,
            () if can(DATE) => ColumnType::Date,
            () if can(TIMESTAMP) => ColumnType::Timestamp,
            () if can(TIMESTAMPTZ) => ColumnType::TimestampTz,
            () if can(UUID) => ColumnType::Uuid,
            () => ColumnType::Text,
        }
    }
}

/// The types that a field can have without losing anything.
fn classes(field: &[u8]) -> u8 {
    match field.first() {
        Some(b'0'..=b'9' | b'-' | b'.') => match number(field) {
            0 => moment(field),
            classes => classes,
        },
        Some(b't' | b'T' | b'f' | b'F') => {
            let word = [&b"true"[..], b"false", b"t", b"f"].iter().any(|w| field.eq_ignore_ascii_case(w));
            if word { BOOLEAN } else { moment(field) }
        }
        Some(b'n' | b'N' | b'i' | b'I') => {
            let word = [&b"nan"[..], b"inf", b"infinity"].iter().any(|w| field.eq_ignore_ascii_case(w));
            if word { DOUBLE } else { 0 }
        }
        Some(_) => moment(field),
        None => 0,
    }
}

/// Integers of 64 bits, decimals and exponents; nothing that a number would write otherwise.
fn number(field: &[u8]) -> u8 {
    let digits = field.strip_prefix(b"-").unwrap_or(field);
    let whole = digits.iter().take_while(|b| b.is_ascii_digit()).count();
    let (before, after) = digits.split_at_checked(whole).unwrap_or((digits, &[]));
    if before.len() > 1 && before.first() == Some(&b'0') {
        return 0;
    }
    if after.is_empty() {
        return match lexical_core::parse::<i64>(field) {
            Ok(_) if field != b"-0" => INTEGER | DOUBLE,
            _ => 0,
        };
    }
    if digits.eq_ignore_ascii_case(b"inf") || digits.eq_ignore_ascii_case(b"infinity") {
        return DOUBLE;
    }
    let numeric = after.iter().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    let value = if numeric { lexical_core::parse::<f64>(field).ok() } else { None };
    if value.is_some_and(f64::is_finite) { DOUBLE } else { 0 }
}

/// Dates, timestamps and UUIDs, told by their shape first.
fn moment(field: &[u8]) -> u8 {
    let dashes = field.get(4) == Some(&b'-') && field.get(7) == Some(&b'-');
    match field.len() {
        10 if dashes && is_date(field) => DATE | TIMESTAMP,
        16.. if dashes && matches!(field.get(10), Some(b' ' | b'T')) => match is_timestamp(field) {
            Some(true) => TIMESTAMPTZ,
            Some(false) => TIMESTAMP,
            None => 0,
        },
        36 if field.get(8) == Some(&b'-') && uuid::Uuid::try_parse_ascii(field).is_ok() => UUID,
        _ => 0,
    }
}

/// The type that a text such as `NUMERIC(10,2)` names.
///
/// # Errors
/// 42601 for text that is no type, 42704 and 0A000 for types that are not there.
pub fn parse_type(text: &str) -> Result<SqlType, SqlError> {
    let mut parser = Parser::new(&PostgreSqlDialect {}).try_with_sql(text)?;
    let ty = parser.parse_data_type()?;
    parser.expect_token(&datafusion::sql::sqlparser::tokenizer::Token::EOF)?;
    SqlType::parse(&ty)
}

/// The statement that makes a table of these columns; it can be replayed.
pub fn create_table(table: &str, columns: &[FileColumn], key: &[String]) -> String {
    let mut parts: Vec<String> = Vec::with_capacity(columns.len() + 1);
    for column in columns {
        let null = if column.nullable || key.contains(&column.name) { "" } else { " NOT NULL" };
        parts.push(format!("    {} {}{null}", identifier(&column.name), type_word(column.ty)));
    }
    if !key.is_empty() {
        let key: Vec<String> = key.iter().map(|name| identifier(name)).collect();
        parts.push(format!("    PRIMARY KEY ({})", key.join(", ")));
    }
    format!("CREATE TABLE {} (\n{}\n);", identifier(table), parts.join(",\n"))
}

fn type_word(ty: SqlType) -> String {
    match (ty.column, ty.length) {
        (ColumnType::Time, _) => "TIME".to_owned(),
        (ColumnType::Timestamp, _) => "TIMESTAMP".to_owned(),
        (ColumnType::TimestampTz, _) => "TIMESTAMPTZ".to_owned(),
        (ColumnType::Text, Some(n)) => format!("VARCHAR({n})"),
        _ => ty.name().to_uppercase(),
    }
}

/// Words that cannot name a table or a column unless quoted (PostgreSQL's list of reserved words).
const RESERVED: &str = " all analyse analyze and any array as asc asymmetric authorization binary both case cast check \
collate collation column concurrently constraint create cross current_catalog current_date current_role \
current_schema current_time current_timestamp current_user default deferrable desc distinct do else end except false \
fetch for foreign freeze from full grant group having ilike in initially inner intersect into is isnull join lateral \
leading left like limit localtime localtimestamp natural not notnull null offset on only or order outer overlaps \
placing primary references returning right select session_user similar some symmetric table tablesample then to \
trailing true union unique user using variadic verbose when where window with ";

/// A name as SQL writes it: quoted where it would be folded, misread or refused otherwise.
pub(crate) fn identifier(name: &str) -> String {
    let mut chars = name.chars();
    let starts = chars.next().is_some_and(|c| c.is_ascii_lowercase() || c == '_');
    let plain = starts && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain && !RESERVED.contains(&format!(" {name} ")) {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn csv(text: &str, csv: CsvOptions) -> Result<Sniffed, SqlError> {
        let source = Source::once("test.csv", Box::new(std::io::Cursor::new(text.as_bytes().to_vec())));
        sniff(&source, &SniffOptions { csv, ..SniffOptions::default() })
    }

    fn shape(sniffed: &Sniffed) -> String {
        let column = |c: &FileColumn| format!("{} {}", identifier(&c.name), type_word(c.ty));
        sniffed.columns.iter().map(column).collect::<Vec<_>>().join(", ")
    }

    fn check(text: &str, expected: &str) {
        let sniffed = csv(text, CsvOptions::default()).unwrap();
        assert_eq!(shape(&sniffed), expected, "{text:?}");
    }

    #[test]
    fn a_type_is_given_where_it_loses_nothing() {
        let one = |values: &[&str]| {
            let text = format!("c\n{}\n", values.join("\n"));
            csv(&text, CsvOptions { header: Some(true), ..CsvOptions::default() }).unwrap().columns[0].ty.column
        };
        assert_eq!(one(&["1", "-2", "0"]), ColumnType::Int64);
        assert_eq!(one(&["00501", "98101"]), ColumnType::Text);
        assert_eq!(one(&["9223372036854775807"]), ColumnType::Int64);
        assert_eq!(one(&["9223372036854775808"]), ColumnType::Text);
        assert_eq!(one(&["1", "9223372036854775808"]), ColumnType::Text);
        assert_eq!(one(&["1", "2.5", "-1e-3", ".5", "5."]), ColumnType::Float64);
        assert_eq!(one(&["1.5", "NaN", "-Infinity"]), ColumnType::Float64);
        assert_eq!(one(&["nan", "NaN"]), ColumnType::Text);
        assert_eq!(one(&["1e400"]), ColumnType::Text);
        assert_eq!(one(&["+4912345"]), ColumnType::Text);
        assert_eq!(one(&["00.5"]), ColumnType::Text);
        assert_eq!(one(&["true", "F", "t"]), ColumnType::Boolean);
        assert_eq!(one(&["yes", "no"]), ColumnType::Text);
        assert_eq!(one(&["0", "1"]), ColumnType::Int64);
        assert_eq!(one(&["2024-02-29"]), ColumnType::Date);
        assert_eq!(one(&["2023-02-29"]), ColumnType::Text);
        assert_eq!(one(&["2024-02-29", "2024-02-29T23:59:59.123456"]), ColumnType::Timestamp);
        assert_eq!(one(&["2024-02-29 10:00"]), ColumnType::Timestamp);
        assert_eq!(one(&["2024-02-29T10:00:00Z", "2024-02-29 10:00:00+02:00"]), ColumnType::TimestampTz);
        assert_eq!(one(&["2024-02-29T10:00:00Z", "2024-02-29 10:00:00"]), ColumnType::Text);
        assert_eq!(one(&["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]), ColumnType::Uuid);
        assert_eq!(one(&["1", "", "x"]), ColumnType::Text);
        assert_eq!(one(&["1,", "2,"]), ColumnType::Int64);
    }

    #[test]
    fn empty_unquoted_fields_are_null_and_columns_of_nulls_are_text() {
        check("a,b,c\n1,,\n,,\"\"\n3,,\n", "a BIGINT, b TEXT, c TEXT");
    }

    #[test]
    fn delimiters_and_quotes_are_found() {
        check("a;b\n1,5;x\n2,5;y\n", "a TEXT, b TEXT");
        check("a\tb\n1\tx\n", "a BIGINT, b TEXT");
        check("a|b|c\n1|2|x,y\n", "a BIGINT, b BIGINT, c TEXT");
        check("one\n1\n2\n", "one BIGINT");
        check("a,b\n\"x\ny\",\"1\"\n\"p,q\",2\n", "a TEXT, b BIGINT");
        check("a,b\n'x,y',1\n'z',2\n", "a TEXT, b BIGINT");
        check("a,b\n\"say \\\"hi\\\", you\",1\n\"z\",2\n", "a TEXT, b BIGINT");
        check("a,b\nit's,1\n'tis,2\n", "a TEXT, b BIGINT");
    }

    #[test]
    fn headers_are_told_from_data() {
        check("1,2\n3,4\n", "column1 BIGINT, column2 BIGINT");
        check("city,state\nHoltsville,NY\nAdjuntas,PR\n", "city TEXT, state TEXT");
        check(
            "id,,id,ID,Cost Total $\n1,2,3,4,5\n",
            "id BIGINT, column2 BIGINT, id_1 BIGINT, \"ID\" BIGINT, \"Cost Total $\" BIGINT",
        );
        check("2024,x\n2025,y\n", "column1 BIGINT, column2 TEXT");
        check("a,b\n", "a TEXT, b TEXT");
        check("\u{feff}select,b\r\n1,x\r\n", "\"select\" BIGINT, b TEXT");
        let options = SniffOptions { table: vec!["Name".into(), "town".into()], ..SniffOptions::default() };
        let source = |text: &str| Source::once("x.csv", Box::new(std::io::Cursor::new(text.as_bytes().to_vec())));
        assert!(sniff(&source("name,town\nname,town\n"), &options).unwrap().dialect.header);
        assert!(!csv("x,\ny,z\n", CsvOptions::default()).unwrap().dialect.header);
    }

    #[test]
    fn what_the_user_says_wins() {
        let said =
            CsvOptions { delimiter: Some(b'x'), header: Some(false), null: Some("NA".into()), ..CsvOptions::default() };
        let sniffed = csv("1xNA\n2x3\n", said).unwrap();
        assert_eq!(shape(&sniffed), "column1 BIGINT, column2 BIGINT");
        let source = Source::once("x.csv", Box::new(std::io::Cursor::new(b"a,b\n1,2\n".to_vec())));
        let options = SniffOptions {
            names: vec!["p".into(), "q".into()],
            types: vec![("q".into(), parse_type("NUMERIC(10,2)").unwrap())],
            ..SniffOptions::default()
        };
        assert_eq!(shape(&sniff(&source, &options).unwrap()), "p BIGINT, q NUMERIC(10,2)");
        assert_eq!(parse_type("BIGINT; DROP").unwrap_err().sqlstate(), "42601");
    }

    #[test]
    fn ndjson_strings_stay_text_unless_all_are_one_kind_of_moment() {
        let text = "{\"n\":1,\"x\":1.5,\"s\":\"7\",\"t\":\"2024-01-01T00:00:00Z\",\"b\":true,\"j\":[1]}\n{\"n\":2,\"x\":3,\"t\":\"2024-01-02T00:00:00+01:00\",\"late\":null}\n{\"m\":1,\"j\":2}\n{\"m\":\"x\"}\n";
        let source = Source::once("x.ndjson", Box::new(std::io::Cursor::new(text.as_bytes().to_vec())));
        let sniffed = sniff(&source, &SniffOptions::default()).unwrap();
        assert_eq!(
            shape(&sniffed),
            "n BIGINT, x DOUBLE PRECISION, s TEXT, t TIMESTAMPTZ, b BOOLEAN, j JSON, late TEXT, m TEXT"
        );
    }

    #[test]
    fn files_that_are_not_what_they_claim_are_errors() {
        assert_eq!(csv("", CsvOptions::default()).unwrap_err().sqlstate(), "22P04");
        assert!(csv("a\0b\n", CsvOptions::default()).unwrap_err().message().contains("zero bytes"));
        assert!(csv("PAR1....", CsvOptions::default()).unwrap_err().message().contains("Parquet"));
        let source = Source::once("x.ndjson", Box::new(std::io::Cursor::new(b"a,b\n1,2\n".to_vec())));
        assert_eq!(sniff(&source, &SniffOptions::default()).unwrap_err().sqlstate(), "22P04");
    }

    #[test]
    fn a_schema_can_be_replayed() {
        let sniffed = csv("zip code,order,at\n00501,1,2024-01-01\n", CsvOptions::default()).unwrap();
        let expected = "CREATE TABLE \"Zips\" (\n    \"zip code\" TEXT,\n    \"order\" BIGINT,\n    at DATE,\n    PRIMARY KEY (\"zip code\")\n);";
        assert_eq!(create_table("Zips", &sniffed.columns, &["zip code".into()]), expected);
    }

    #[test]
    fn several_files_get_types_that_fit_them_all() {
        let source = |text: &str| Source::once("x.csv", Box::new(std::io::Cursor::new(text.as_bytes().to_vec())));
        let (columns, all) =
            sniff_all(&[source("a,b\n1,2\n"), source("b,a\nx,1.5\n")], &SniffOptions::default()).unwrap();
        assert_eq!(columns.iter().map(|c| c.ty.column).collect::<Vec<_>>(), [ColumnType::Float64, ColumnType::Text]);
        assert_eq!(all[1].columns[1].ty.column, ColumnType::Float64);
    }
}
