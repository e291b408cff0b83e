/*!
CSV and TSV: bytes cut at record ends, and each piece parsed into typed columns.

A record ends at a line end (LF or CR LF) outside quotes. A quote opens only at the start of a field; inside, a doubled
quote (or the escape character before it) stands for one. An unquoted field equal to the NULL string is NULL; a quoted one
never is, as in PostgreSQL. Empty lines are passed over unless the file has one column.

A record that cannot be stored is a [`Reject`]: its line, its raw text, the reason. The others of the piece are kept.
*/

use super::parse::{FieldSink, Reason};
use super::read::TargetColumn;
use super::source::read_error;
use crate::error::{SqlError, state};
use arrow::array::{ArrayRef, BooleanArray};
use arrow::compute::filter;
use std::io::Read;

/// Bytes that one piece has at least, where the file has as many.
pub const PIECE_BYTES: usize = 4 << 20;

/// Longest record: one that never ends must not eat the memory.
pub const RECORD_BYTES_MAX: usize = 64 << 20;

/// How fields and records are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvDialect {
    /// Between fields.
    pub delimiter: u8,
    /// Around fields that hold delimiters or line ends; `None` where quotes mean nothing.
    pub quote: Option<u8>,
    /// Before a quote inside quotes; usually the quote itself.
    pub escape: u8,
    /// Whether the first record names the columns.
    pub header: bool,
    /// The unquoted field that means NULL.
    pub null: String,
}

impl Default for CsvDialect {
    fn default() -> Self {
        CsvDialect { delimiter: b',', quote: Some(b'"'), escape: b'"', header: true, null: String::new() }
    }
}

/// A record that was not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// The line it starts on, from 1.
    pub line: u64,
    /// As it stands in the file, without its line end.
    pub raw: Vec<u8>,
    /// The column whose field is bad, if it is one field's fault.
    pub column: Option<String>,
    /// What is wrong.
    pub reason: Reason,
}

/// A piece of a file: whole records.
#[derive(Debug, Clone)]
pub struct Piece {
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// What became of a piece.
#[derive(Debug)]
pub struct Parsed {
    /// One array a target, of type `ty.arrow()`, all as long.
    pub columns: Vec<ArrayRef>,
    /// Rows in `columns`.
    pub rows: usize,
    /// Records that were not stored, their lines counted from the piece's own first line, 1.
    pub rejects: Vec<Reject>,
    /// Line ends in the piece.
    pub lines: u64,
    /// Bytes of the piece.
    pub bytes: u64,
}

/// Cuts a stream into pieces of whole records.
pub struct Cutter<R> {
    source: R,
    name: String,
    dialect: CsvDialect,
    rest: Vec<u8>,
    started: bool,
    ended: bool,
}

impl<R: Read> Cutter<R> {
    /// Reads `source`, which messages call `name`.
    pub fn new(source: R, name: impl Into<String>, dialect: CsvDialect) -> Self {
        Cutter { source, name: name.into(), dialect, rest: Vec::new(), started: false, ended: false }
    }

    /// Reads until `rest` has `wanted` bytes or the source ends.
    fn fill(&mut self, wanted: usize) -> Result<(), SqlError> {
        let missing = wanted.saturating_sub(self.rest.len());
        let limit = u64::try_from(missing).unwrap_or(u64::MAX);
        self.rest.reserve_exact(missing);
        let read =
            self.source.by_ref().take(limit).read_to_end(&mut self.rest).map_err(|e| read_error(&self.name, &e))?;
        self.ended = read < missing;
        if !std::mem::replace(&mut self.started, true) {
            let mark = byte_order_mark(&self.rest, &self.name)?;
            self.rest.drain(..mark);
        }
        Ok(())
    }

    /// The next piece, `None` at the end.
    fn cut(&mut self) -> Result<Option<Piece>, SqlError> {
        let mut wanted = PIECE_BYTES;
        loop {
            self.fill(wanted)?;
            if self.ended {
                let bytes = std::mem::take(&mut self.rest);
                return Ok((!bytes.is_empty()).then_some(Piece { bytes }));
            }
            let end = records_end(&self.rest, &self.dialect);
            if end > 0 {
                let tail = self.rest.split_off(end);
                return Ok(Some(Piece { bytes: std::mem::replace(&mut self.rest, tail) }));
            }
            if wanted >= RECORD_BYTES_MAX {
                return Err(SqlError::new(
                    state::BAD_COPY_FILE_FORMAT,
                    format!("{}: a record is longer than {} MiB", self.name, RECORD_BYTES_MAX >> 20),
                )
                .with_hint("a quote that is never closed looks like this; check the quote and delimiter options"));
            }
            wanted *= 2;
        }
    }
}

impl<R: Read> Iterator for Cutter<R> {
    type Item = Result<Piece, SqlError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.cut().transpose()
    }
}

/// Bytes of UTF-8's byte order mark at the start of a file.
///
/// # Errors
/// 22P04 for UTF-16.
pub(super) fn byte_order_mark(bytes: &[u8], name: &str) -> Result<usize, SqlError> {
    match bytes {
        [0xef, 0xbb, 0xbf, ..] => Ok(3),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            Err(SqlError::new(state::BAD_COPY_FILE_FORMAT, format!("\"{name}\" is UTF-16, not UTF-8"))
                .with_hint("Convert it first, for instance with iconv -f UTF-16 -t UTF-8."))
        }
        _ => Ok(0),
    }
}

/// Where the last whole record of `bytes` ends; 0 if none does. `bytes` starts a record.
pub(super) fn records_end(bytes: &[u8], dialect: &CsvDialect) -> usize {
    let quoted = dialect.quote.filter(|q| memchr::memchr(*q, bytes).is_some());
    let Some(quote) = quoted else {
        return memchr::memrchr(b'\n', bytes).map_or(0, |at| at + 1);
    };
    let (mut end, mut at) = (0, 0);
    while let Some(next) = skip_record(bytes, at, quote, dialect) {
        end = next;
        at = next;
    }
    end
}

/// The start of the record after the one at `at`, if that one ends in `bytes`.
fn skip_record(bytes: &[u8], mut at: usize, quote: u8, dialect: &CsvDialect) -> Option<usize> {
    loop {
        if bytes.get(at) == Some(&quote) {
            at = closing_quote(bytes, at + 1, quote, dialect.escape)? + 1;
        }
        let rest = bytes.get(at..)?;
        let stop = at + memchr::memchr2(dialect.delimiter, b'\n', rest)?;
        if bytes.get(stop) == Some(&b'\n') {
            return Some(stop + 1);
        }
        at = stop + 1;
    }
}

/// The place of the quote that closes the field whose text starts at `at`.
fn closing_quote(bytes: &[u8], mut at: usize, quote: u8, escape: u8) -> Option<usize> {
    loop {
        let rest = bytes.get(at..)?;
        let found = at + memchr::memchr2(quote, escape, rest)?;
        let here = *bytes.get(found)?;
        let next = bytes.get(found + 1);
        let escaped = here == escape && next.is_some_and(|n| *n == quote || (*n == escape && escape != quote));
        if escaped {
            at = found + 2;
        } else if here == quote {
            return Some(found);
        } else {
            at = found + 1;
        }
    }
}

/// One field of a record.
struct Field<'a> {
    text: &'a [u8],
    quoted: bool,
}

/// Walks over the fields of one record.
struct Fields<'a, 's> {
    bytes: &'a [u8],
    at: usize,
    dialect: &'a CsvDialect,
    scratch: &'s mut Vec<u8>,
    /// Set once the record's last field was given.
    done: bool,
    /// Where the record's text ends, without its line end; valid once done.
    end: usize,
    /// Where the next record starts; valid once done.
    next: usize,
}

/// What is wrong with a record's quoting.
enum Misquoted {
    Unclosed,
    TextAfterQuote,
}

impl<'a> Fields<'a, '_> {
    /// The next field's bytes; quoted fields that need unescaping come from the scratch buffer.
    #[inline]
    fn next(&mut self) -> Result<Option<Field<'_>>, Misquoted> {
        if self.done {
            return Ok(None);
        }
        if self.dialect.quote.is_some() && self.bytes.get(self.at).copied() == self.dialect.quote {
            return self.quoted();
        }
        let (start, rest) = (self.at, self.bytes.get(self.at..).unwrap_or_default());
        let length = memchr::memchr2(self.dialect.delimiter, b'\n', rest).unwrap_or(rest.len());
        let end = self.close(start + length);
        Ok(Some(Field { text: self.bytes.get(start..end).unwrap_or_default(), quoted: false }))
    }

    /// Notes what follows the field that ends before `stop`; gives the end of its text.
    #[inline]
    fn close(&mut self, stop: usize) -> usize {
        self.at = stop + 1;
        if self.bytes.get(stop).copied() == Some(self.dialect.delimiter) {
            return stop;
        }
        self.done = true;
        self.next = (stop + 1).min(self.bytes.len());
        let carriage = stop > 0 && self.bytes.get(stop - 1) == Some(&b'\r');
        self.end = if carriage { stop - 1 } else { stop };
        self.end
    }

    fn quoted(&mut self) -> Result<Option<Field<'_>>, Misquoted> {
        let quote = self.dialect.quote.unwrap_or(b'"');
        let escape = self.dialect.escape;
        let start = self.at + 1;
        let close = closing_quote(self.bytes, start, quote, escape).ok_or(Misquoted::Unclosed)?;
        let after = self.bytes.get(close + 1..).unwrap_or_default();
        let stop = close + 1 + memchr::memchr2(self.dialect.delimiter, b'\n', after).unwrap_or(after.len());
        let between = self.bytes.get(close + 1..stop).unwrap_or_default();
        if !between.iter().all(|b| matches!(b, b'\r' | b' ')) {
            return Err(Misquoted::TextAfterQuote);
        }
        self.close(stop);
        let raw = self.bytes.get(start..close).unwrap_or_default();
        if memchr::memchr2(quote, escape, raw).is_none() {
            return Ok(Some(Field { text: raw, quoted: true }));
        }
        self.scratch.clear();
        let mut bytes = raw.iter().copied().peekable();
        while let Some(byte) = bytes.next() {
            let escapes = byte == escape && bytes.peek().is_some_and(|n| *n == quote || *n == escape);
            self.scratch.push(if escapes { bytes.next().unwrap_or(byte) } else { byte });
        }
        Ok(Some(Field { text: self.scratch, quoted: true }))
    }
}

/// How a piece's records become columns.
#[derive(Debug, Clone)]
pub struct RecordParser {
    dialect: CsvDialect,
    targets: Vec<TargetColumn>,
    /// Target of each field of a record, by the field's place.
    by_field: Vec<Option<usize>>,
}

impl RecordParser {
    /// A parser for records of `fields` fields.
    pub fn new(dialect: CsvDialect, targets: Vec<TargetColumn>, fields: usize) -> RecordParser {
        let place = |field| targets.iter().position(|t| t.field == field);
        let by_field = (0..fields).map(place).collect();
        RecordParser { dialect, targets, by_field }
    }

    /// Parses a piece. The first record of a file is passed over if the dialect has a header and `first` is set.
    ///
    /// # Errors
    /// Only when columns do not fit together, which would be a defect here: bad records are rejects.
    pub fn parse(&self, piece: &[u8], first: bool) -> Result<Parsed, SqlError> {
        let capacity = piece.len() / (self.by_field.len().max(1) * 6) + 16;
        let sink = |t: &TargetColumn| t.sink(capacity);
        let mut sinks: Vec<FieldSink> = self.targets.iter().map(sink).collect();
        let (mut rejects, mut keep, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
        let (mut at, mut skip_header, mut line_at, mut line) = (0, first && self.dialect.header, 0, 1u64);
        while at < piece.len() {
            if self.by_field.len() != 1
                && let Some(next) = after_empty_line(piece, at)
            {
                at = next;
                continue;
            }
            let mut fields = Fields {
                bytes: piece,
                at,
                dialect: &self.dialect,
                scratch: &mut scratch,
                done: false,
                end: 0,
                next: 0,
            };
            let trouble = if skip_header { drain(&mut fields) } else { self.record(&mut fields, &mut sinks) };
            let (end, next) = if fields.done { (fields.end, fields.next) } else { (piece.len(), piece.len()) };
            if !skip_header {
                keep.push(trouble.is_none());
                if let Some((column, reason)) = trouble {
                    line += newlines(piece, line_at, at);
                    line_at = at;
                    let raw = piece.get(at..end).unwrap_or_default().to_vec();
                    rejects.push(Reject { line, raw, column, reason });
                }
            }
            skip_header = false;
            at = next;
        }
        let mut columns: Vec<ArrayRef> = sinks.into_iter().map(FieldSink::finish).collect();
        let mut rows = keep.len();
        if !rejects.is_empty() {
            let keep = BooleanArray::from(keep);
            columns = columns.iter().map(|c| filter(c, &keep)).collect::<Result<_, _>>()?;
            rows -= rejects.len();
        }
        let bytes = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        Ok(Parsed { columns, rows, rejects, lines: newlines(piece, 0, piece.len()), bytes })
    }

    /// Appends one record to every sink; a bad one appends as many NULLs and says what is wrong.
    #[inline]
    fn record(&self, fields: &mut Fields<'_, '_>, sinks: &mut [FieldSink]) -> Option<(Option<String>, Reason)> {
        let (mut count, mut pushed, mut trouble) = (0, 0, None);
        loop {
            let field = match fields.next() {
                Ok(Some(field)) => field,
                Ok(None) => break,
                Err(misquoted) => {
                    trouble = Some((None, misquoted.reason()));
                    break;
                }
            };
            if let Some(Some(target)) = self.by_field.get(count)
                && let Some(sink) = sinks.get_mut(*target)
            {
                pushed += 1;
                if !field.quoted && field.text == self.dialect.null.as_bytes() {
                    sink.push_null();
                    if let Some(column) = self.targets.get(*target).map(|t| &t.column)
                        && !column.nullable
                        && trouble.is_none()
                    {
                        trouble = Some((Some(column.name.clone()), null_violation(&column.name)));
                    }
                } else if let Err(reason) = sink.push(field.text)
                    && trouble.is_none()
                {
                    trouble = Some((self.targets.get(*target).map(|t| t.column.name.clone()), reason));
                }
            }
            count += 1;
        }
        if trouble.as_ref().is_none_or(|(column, _)| column.is_some()) && count != self.by_field.len() {
            let fields = if count == 1 { "field" } else { "fields" };
            let message = format!("the record has {count} {fields}, expected {}", self.by_field.len());
            trouble = Some((None, Reason::new(state::BAD_COPY_FILE_FORMAT, message)));
        }
        if !fields.done {
            drain(fields);
        }
        if pushed < sinks.len() && trouble.is_some() {
            for (target, sink) in self.targets.iter().zip(sinks.iter_mut()) {
                if target.field >= count {
                    sink.push_null();
                }
            }
        }
        trouble
    }
}

/// Walks to the end of a record whose fields nobody needs.
fn drain(fields: &mut Fields<'_, '_>) -> Option<(Option<String>, Reason)> {
    loop {
        match fields.next() {
            Ok(Some(_)) => {}
            Ok(None) => return None,
            Err(Misquoted::Unclosed) => {
                fields.done = true;
                (fields.end, fields.next) = (fields.bytes.len(), fields.bytes.len());
                return None;
            }
            Err(Misquoted::TextAfterQuote) => {
                // The text after the quote is passed over to the next delimiter or line end.
                let rest = fields.bytes.get(fields.at + 1..).unwrap_or_default();
                let stop = memchr::memchr2(fields.dialect.delimiter, b'\n', rest).unwrap_or(rest.len());
                fields.close(fields.at + 1 + stop);
            }
        }
    }
}

impl Misquoted {
    fn reason(&self) -> Reason {
        let message = match self {
            Misquoted::Unclosed => "a quoted field is never closed",
            Misquoted::TextAfterQuote => "text follows the closing quote of a field",
        };
        Reason::new(state::BAD_COPY_FILE_FORMAT, message)
    }
}

/// The start of the next line if the one at `at` is empty.
fn after_empty_line(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at..) {
        Some([b'\n', ..]) => Some(at + 1),
        Some([b'\r', b'\n', ..]) => Some(at + 2),
        _ => None,
    }
}

fn newlines(bytes: &[u8], from: usize, to: usize) -> u64 {
    let counted = bytes.get(from..to).map_or(0, |b| memchr::memchr_iter(b'\n', b).count());
    u64::try_from(counted).unwrap_or(u64::MAX)
}

/// What a walk over a sample meets.
pub(super) enum Visit<'a> {
    /// A field: its place in the record, its text unquoted, and whether it was quoted.
    Field(usize, &'a [u8], bool),
    /// The record's end: how many fields it had.
    End(usize),
    /// The record's quotes make no sense; the walk goes on with the next one.
    Misquoted,
}

/// Walks over the records of a sample, for sniffing; the visitor says whether to go on after each.
pub(super) fn visit(bytes: &[u8], dialect: &CsvDialect, mut visitor: impl FnMut(Visit<'_>) -> bool) {
    let (mut at, mut scratch) = (0, Vec::new());
    while at < bytes.len() {
        if let Some(next) = after_empty_line(bytes, at) {
            at = next;
            continue;
        }
        let mut fields = Fields { bytes, at, dialect, scratch: &mut scratch, done: false, end: 0, next: 0 };
        let mut count = 0;
        let whole = loop {
            match fields.next() {
                Ok(Some(field)) => {
                    visitor(Visit::Field(count, field.text, field.quoted));
                    count += 1;
                }
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        if !whole {
            drain(&mut fields);
        }
        at = fields.next;
        if !visitor(if whole { Visit::End(count) } else { Visit::Misquoted }) {
            return;
        }
    }
}

/// NULL where the column takes none.
pub(super) fn null_violation(column: &str) -> Reason {
    Reason::new(state::NOT_NULL_VIOLATION, format!("null value in column \"{column}\" violates not-null constraint"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::FileColumn;
    use arrow::array::{Array, Int64Array, StringViewArray};
    use omendb_engine::types::ColumnType;

    fn target(name: &str, ty: ColumnType, field: usize) -> TargetColumn {
        TargetColumn { column: FileColumn { name: name.into(), ty: ty.into(), nullable: true }, field }
    }

    fn parser(dialect: CsvDialect) -> RecordParser {
        RecordParser::new(dialect, vec![target("a", ColumnType::Int64, 0), target("b", ColumnType::Text, 1)], 2)
    }

    fn rows(parsed: &Parsed) -> Vec<(Option<i64>, Option<String>)> {
        let a = parsed.columns[0].as_any().downcast_ref::<Int64Array>().unwrap();
        let b = parsed.columns[1].as_any().downcast_ref::<StringViewArray>().unwrap();
        let some = |i| (!b.is_null(i)).then(|| b.value(i).to_owned());
        (0..parsed.rows).map(|i| ((!a.is_null(i)).then(|| a.value(i)), some(i))).collect()
    }

    fn check(text: &str, expected: &[(Option<i64>, Option<&str>)], rejects: &[(u64, &str)]) {
        let dialect = CsvDialect { header: false, ..CsvDialect::default() };
        let parsed = parser(dialect).parse(text.as_bytes(), true).unwrap();
        let expected: Vec<_> = expected.iter().map(|(a, b)| (*a, b.map(str::to_owned))).collect();
        assert_eq!(rows(&parsed), expected, "{text:?}");
        let got: Vec<_> = parsed.rejects.iter().map(|r| (r.line, r.reason.message.as_str())).collect();
        assert_eq!(got, rejects, "{text:?}");
    }

    #[test]
    fn fields_quotes_and_nulls() {
        check("1,x\n2,y", &[(Some(1), Some("x")), (Some(2), Some("y"))], &[]);
        check("1,\n,\"\"\r\n", &[(Some(1), None), (None, Some(""))], &[]);
        check(
            "1,\"a,b\"\n2,\"say \"\"hi\"\"\nthere\"\n",
            &[(Some(1), Some("a,b")), (Some(2), Some("say \"hi\"\nthere"))],
            &[],
        );
        check("\n1,x\n\r\n\n2,5\"\n", &[(Some(1), Some("x")), (Some(2), Some("5\""))], &[]);
    }

    #[test]
    fn bad_records_are_rejected_with_their_lines_and_the_others_stay() {
        check(
            "1,x\nz,y\n3,w\n",
            &[(Some(1), Some("x")), (Some(3), Some("w"))],
            &[(2, "invalid input syntax for type bigint: \"z\"")],
        );
        check(
            "1\n2,y\n3,x,9\n",
            &[(Some(2), Some("y"))],
            &[(1, "the record has 1 field, expected 2"), (3, "the record has 3 fields, expected 2")],
        );
        check("1,\"a\nb\"\n9,\"open\n", &[(Some(1), Some("a\nb"))], &[(3, "a quoted field is never closed")]);
        check("1,\"a\"b\n2,c\n", &[(Some(2), Some("c"))], &[(1, "text follows the closing quote of a field")]);
    }

    #[test]
    fn a_header_is_passed_over_in_the_first_piece_only() {
        let parser = parser(CsvDialect::default());
        assert_eq!(parser.parse(b"a,b\n1,x\n", true).unwrap().rows, 1);
        assert_eq!(parser.parse(b"4,b\n1,x\n", false).unwrap().rows, 2);
    }

    #[test]
    fn pieces_end_where_records_end_wherever_they_are_cut() {
        let mut text = String::new();
        for i in 0..60_000 {
            text.push_str(&format!("{i},\"line one\nline \"\"{i}\"\"\"\n"));
        }
        text.push_str(&format!("7,\"{}\"", "x".repeat(3 << 20)));
        let dialect = CsvDialect { header: false, ..CsvDialect::default() };
        let cutter = Cutter::new(text.as_bytes(), "test", dialect.clone());
        let (mut rows, mut bytes) = (0, 0);
        for piece in cutter {
            let piece = piece.unwrap();
            bytes += piece.bytes.len();
            let parsed = parser(dialect.clone()).parse(&piece.bytes, false).unwrap();
            assert!(parsed.rejects.is_empty());
            rows += parsed.rows;
        }
        assert_eq!((rows, bytes), (60_001, text.len()));
    }

    #[test]
    fn a_projection_survives_records_that_are_misquoted_later() {
        let dialect = CsvDialect { header: false, ..CsvDialect::default() };
        let parser = RecordParser::new(dialect, vec![target("a", ColumnType::Int64, 0)], 2);
        let parsed = parser.parse(b"1,\"x\"y\n2,z\n", true).unwrap();
        assert_eq!((parsed.rows, parsed.rejects.len()), (1, 1));
    }

    #[test]
    fn null_in_a_column_that_takes_none_is_a_reject() {
        let mut targets = vec![target("a", ColumnType::Int64, 0), target("b", ColumnType::Text, 1)];
        targets[1].column.nullable = false;
        let parser = RecordParser::new(CsvDialect { header: false, ..CsvDialect::default() }, targets, 2);
        let parsed = parser.parse(b"1,\n2,\"\"\n", true).unwrap();
        assert_eq!(rows(&parsed), [(Some(2), Some(String::new()))]);
        assert_eq!((parsed.rejects[0].reason.sqlstate, parsed.rejects[0].column.as_deref()), ("23502", Some("b")));
    }

    #[test]
    fn a_byte_order_mark_is_passed_over_and_utf_16_is_refused() {
        let cut = |bytes: &'static [u8]| Cutter::new(bytes, "t", CsvDialect::default()).next().unwrap();
        assert_eq!(cut(b"\xef\xbb\xbfa,b\n").unwrap().bytes, b"a,b\n");
        assert_eq!(cut(b"\xff\xfea\0").unwrap_err().sqlstate(), "22P04");
    }

    #[test]
    fn an_escape_other_than_the_quote_works() {
        let dialect = CsvDialect { header: false, escape: b'\\', ..CsvDialect::default() };
        let parsed = parser(dialect).parse(b"1,\"a\\\"b\\\\\"\n2,x\n", true).unwrap();
        assert_eq!(rows(&parsed), [(Some(1), Some("a\"b\\".into())), (Some(2), Some("x".into()))]);
    }
}
