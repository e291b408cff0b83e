/*!
NDJSON: one JSON object a line, into typed columns.

A line is checked by serde_json as a whole; the object's members are then found by a scanner that relies on that, so that
numbers keep all their digits and nested values stay as they were written. A key that is missing is NULL, and so is
`null`; of a key given twice the last value counts. A key that is no column is a reject.
*/

use super::csv::{CsvDialect, Parsed, Reject, null_violation};
use super::parse::{FieldSink, Reason, quoted};
use super::read::{TargetColumn, find_column};
use super::sniff::FileColumn;
use crate::error::{SqlError, state};
use arrow::array::{ArrayRef, BooleanArray};
use arrow::compute::filter;
use omendb_engine::types::ColumnType;
use std::collections::HashMap;
use std::ops::Range;

/// The dialect that cuts at line ends and nowhere else: JSON writes a line end within a string as `\n`.
pub(super) fn lines() -> CsvDialect {
    CsvDialect { quote: None, header: false, ..CsvDialect::default() }
}

/// How lines become columns.
pub(super) struct LineParser {
    targets: Vec<TargetColumn>,
    columns: Vec<FileColumn>,
    /// What to do with a key: fill a target, or pass it over.
    keys: HashMap<String, Option<usize>>,
}

impl LineParser {
    /// A parser that fills `targets` and passes over the other columns that are `known`.
    pub(super) fn new(targets: Vec<TargetColumn>, known: &[FileColumn]) -> LineParser {
        let mut keys: HashMap<String, Option<usize>> = known.iter().map(|c| (c.name.clone(), None)).collect();
        keys.extend(targets.iter().enumerate().map(|(i, t)| (t.column.name.clone(), Some(i))));
        let columns = targets.iter().map(|t| t.column.clone()).collect();
        LineParser { targets, columns, keys }
    }

    /// Parses a piece of whole lines.
    ///
    /// # Errors
    /// Only when columns do not fit together, which would be a defect here: bad lines are rejects.
    pub(super) fn parse(&self, piece: &[u8]) -> Result<Parsed, SqlError> {
        let capacity = piece.len() / (self.targets.len().max(1) * 16) + 16;
        let mut sinks: Vec<FieldSink> = self.targets.iter().map(|t| t.sink(capacity)).collect();
        let (mut keep, mut rejects, mut lines) = (Vec::new(), Vec::new(), 0u64);
        let mut record = Record::default();
        for line in piece.split_inclusive(|b| *b == b'\n') {
            lines += 1;
            let text = line.trim_ascii();
            if text.is_empty() {
                continue;
            }
            let trouble = self.line(text, &mut record, &mut sinks);
            keep.push(trouble.is_none());
            if let Some((column, reason)) = trouble {
                rejects.push(Reject { line: lines, raw: text.to_vec(), column, reason });
            }
        }
        let mut columns: Vec<ArrayRef> = sinks.into_iter().map(FieldSink::finish).collect();
        let rows = keep.len() - rejects.len();
        if !rejects.is_empty() {
            let keep = BooleanArray::from(keep);
            columns = columns.iter().map(|c| filter(c, &keep)).collect::<Result<_, _>>()?;
        }
        Ok(Parsed { columns, rows, rejects, lines, bytes: u64::try_from(piece.len()).unwrap_or(u64::MAX) })
    }

    /// Appends one value to every sink; a bad line appends NULLs where it must and says what is wrong.
    fn line(&self, line: &[u8], record: &mut Record, sinks: &mut [FieldSink]) -> Option<(Option<String>, Reason)> {
        record.values.clear();
        record.values.resize(self.targets.len(), None);
        let mut trouble = self.members(line, record).err();
        for ((target, sink), span) in self.targets.iter().zip(sinks).zip(&record.values) {
            let raw = span.clone().and_then(|span| line.get(span)).filter(|raw| *raw != b"null");
            let pushed = match raw {
                Some(raw) if trouble.is_none() => push(sink, raw, &mut record.scratch),
                _ => {
                    sink.push_null();
                    let wrong = trouble.is_none() && !target.column.nullable;
                    if wrong { Err(null_violation(&target.column.name)) } else { Ok(()) }
                }
            };
            if let Err(reason) = pushed
                && trouble.is_none()
            {
                trouble = Some((Some(target.column.name.clone()), reason));
            }
        }
        trouble
    }

    /// Finds where the values of the targets stand in the line.
    fn members(&self, line: &[u8], record: &mut Record) -> Result<(), (Option<String>, Reason)> {
        let mut unknown = None;
        let found = members(line, |key, value| {
            let known = self.keys.get(key).copied().or_else(|| self.alike(key));
            match known {
                Some(Some(target)) => {
                    if let Some(slot) = record.values.get_mut(target) {
                        *slot = Some(value);
                    }
                }
                Some(None) => {}
                None => unknown = unknown.take().or_else(|| Some(key.to_owned())),
            }
        });
        found.map_err(|reason| (None, reason))?;
        match unknown {
            Some(key) => {
                let message = format!("column {} does not exist", quoted(key.as_bytes()));
                Err((Some(key), Reason::new(state::UNDEFINED_COLUMN, message)))
            }
            None => Ok(()),
        }
    }

    /// The target that the key names but for case.
    fn alike(&self, key: &str) -> Option<Option<usize>> {
        find_column(key, &self.columns).map(Some)
    }
}

/// Where the values of a line stand; reused from line to line.
#[derive(Default)]
struct Record {
    values: Vec<Option<Range<usize>>>,
    scratch: Vec<u8>,
}

/// Appends a JSON value that is not `null`.
fn push(sink: &mut FieldSink, raw: &[u8], scratch: &mut Vec<u8>) -> Result<(), Reason> {
    if raw.first() != Some(&b'"') || sink.column_type() == ColumnType::Json {
        return sink.push(raw);
    }
    if let Err(reason) = unescape(raw, scratch) {
        sink.push_null();
        return Err(reason);
    }
    sink.push(scratch)
}

/// The text of a JSON string, quotes included, into `out`.
fn unescape(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    out.clear();
    let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
    if memchr::memchr(b'\\', inner).is_none() {
        out.extend_from_slice(inner);
        return Ok(());
    }
    let text: String = serde_json::from_slice(raw).map_err(|e| not_json(&e, raw))?;
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn not_json(e: &serde_json::Error, line: &[u8]) -> Reason {
    let message = e.to_string();
    // "… at line 1 column 7": the line is always 1 here.
    let (what, column) = message.rsplit_once(" at line 1 column ").unwrap_or((&message, "1"));
    Reason::new(
        state::BAD_COPY_FILE_FORMAT,
        format!("the line is no JSON: {what} at character {column}: {}", quoted(line)),
    )
}

/// Calls `member` with each key of the object on `line` and where its value stands.
///
/// # Errors
/// The reason why the line is no JSON object.
pub(super) fn members(line: &[u8], mut member: impl FnMut(&str, Range<usize>)) -> Result<(), Reason> {
    if line.first() != Some(&b'{') {
        return Err(Reason::new(state::BAD_COPY_FILE_FORMAT, format!("the line is no JSON object: {}", quoted(line))));
    }
    serde_json::from_slice::<serde::de::IgnoredAny>(line).map_err(|e| not_json(&e, line))?;
    // serde_json passes over strings without looking whether they are UTF-8.
    let text = std::str::from_utf8(line).map_err(|_| {
        Reason::new(state::CHARACTER_NOT_IN_REPERTOIRE, "invalid byte sequence for encoding UTF-8".to_owned())
    })?;
    let mut scan = Scan { line, at: 1 };
    scan.blanks();
    while scan.peek() == Some(b'"') {
        let key = scan.value();
        scan.blanks();
        scan.at += 1;
        scan.blanks();
        let value = scan.value();
        let raw = text.get(key).unwrap_or_default();
        if raw.contains('\\') {
            let key: String = serde_json::from_str(raw).map_err(|e| not_json(&e, line))?;
            member(&key, value);
        } else {
            member(raw.trim_matches('"'), value);
        }
        scan.blanks();
        scan.at += 1;
        scan.blanks();
    }
    Ok(())
}

/// Walks over a line that is known to be a JSON object.
struct Scan<'a> {
    line: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.line.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while self.peek().is_some_and(|b| b.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    /// Steps over a value; gives where it stood.
    fn value(&mut self) -> Range<usize> {
        let start = self.at;
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'{' | b'[') => self.nested(),
            _ => {
                while self.peek().is_some_and(|b| !matches!(b, b',' | b'}' | b']') && !b.is_ascii_whitespace()) {
                    self.at += 1;
                }
            }
        }
        start..self.at
    }

    fn string(&mut self) {
        self.at += 1;
        while let Some(found) = self.line.get(self.at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
            let escape = self.line.get(self.at + found) == Some(&b'\\');
            self.at += found + if escape { 2 } else { 1 };
            if !escape {
                return;
            }
        }
        self.at = self.line.len();
    }

    fn nested(&mut self) {
        let mut depth = 0usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    self.string();
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::Int64Type;

    fn target(name: &str, ty: ColumnType, nullable: bool) -> TargetColumn {
        TargetColumn { column: FileColumn { name: name.into(), ty: ty.into(), nullable }, field: 0 }
    }

    fn parse(text: &str) -> Parsed {
        let targets = vec![
            target("a", ColumnType::Int64, true),
            target("s", ColumnType::Text, true),
            target("j", ColumnType::Json, true),
        ];
        LineParser::new(targets, &[]).parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn values_come_as_they_are_written() {
        let parsed = parse(
            "{\"a\": 9007199254740993, \"s\":\"say \\\"hi\\u00e9\\\"\", \"j\" : {\"k\":[1, \"}\", 1.50]} }\n\n{}\n{\"j\":\"x\",\"s\":1.50,\"a\":null}\n{\"a\":1,\"a\":2,\"j\":null}\n",
        );
        assert_eq!(parsed.rejects, []);
        assert_eq!((parsed.rows, parsed.lines), (4, 5));
        let a = parsed.columns[0].as_primitive::<Int64Type>();
        assert_eq!(a.iter().collect::<Vec<_>>(), [Some(9_007_199_254_740_993), None, None, Some(2)]);
        let s = parsed.columns[1].as_string_view();
        assert_eq!(s.iter().collect::<Vec<_>>(), [Some("say \"hié\""), None, Some("1.50"), None]);
        let j = parsed.columns[2].as_string_view();
        assert_eq!(j.iter().collect::<Vec<_>>(), [Some("{\"k\":[1, \"}\", 1.50]}"), None, Some("\"x\""), None]);
    }

    #[test]
    fn bad_lines_are_rejects_and_the_others_stay() {
        let text = "{\"a\":1}\n{\"a\":\"x\"}\n[1]\n{\"a\":1\n{\"b\":1}\n{\"a\":1.5}\n{\"a\":7}";
        let parsed = parse(text);
        assert_eq!(parsed.rows, 2);
        let got: Vec<_> = parsed.rejects.iter().map(|r| (r.line, r.reason.sqlstate)).collect();
        assert_eq!(got, [(2, "22P02"), (3, "22P04"), (4, "22P04"), (5, "42703"), (6, "22P02")]);
        assert_eq!(parsed.columns[0].len(), 2);
        let bad = LineParser::new(vec![target("s", ColumnType::Text, true)], &[]).parse(b"{\"s\":\"\xff\"}\n").unwrap();
        assert_eq!(bad.rejects.iter().map(|r| r.reason.sqlstate).collect::<Vec<_>>(), ["22021"]);
    }

    #[test]
    fn lone_surrogates_and_missing_values_of_not_null_columns_are_rejects() {
        let parsed = parse("{\"s\":\"\\ud800\"}\n{\"s\":\"ok\"}\n");
        assert_eq!((parsed.rows, parsed.rejects.len()), (1, 1));
        let strict = LineParser::new(vec![target("a", ColumnType::Int64, false)], &[]);
        let parsed = strict.parse(b"{\"A\":1}\n{}\n").unwrap();
        assert_eq!(parsed.rejects.iter().map(|r| (r.line, r.reason.sqlstate)).collect::<Vec<_>>(), [(2, "23502")]);
    }

    #[test]
    fn columns_that_nobody_asked_for_are_passed_over() {
        let known = [FileColumn { name: "b".into(), ty: ColumnType::Int64.into(), nullable: true }];
        let parser = LineParser::new(vec![target("a", ColumnType::Int64, true)], &known);
        let parsed = parser.parse(b"{\"a\":1,\"b\":2}\n{\"a\":1,\"c\":2}\n").unwrap();
        assert_eq!((parsed.rows, parsed.rejects.len()), (1, 1));
    }
}
