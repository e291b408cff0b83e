/*!
Rows of a file that were not stored: counted, kept, and limited.

A [`RejectLog`] takes them until there are more than its limit, which is an error. Where it has a file, each goes there
as one record of CSV:

```text
line,column,sqlstate,reason,raw,file
```

`line` counts from 1 and is where the record starts (the row's number for Parquet); `column` is empty where the record as
a whole is bad; `raw` is the record as it stands in the file, byte for byte.
*/

use super::csv::Reject;
use crate::error::SqlError;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Most characters of a bad record that an error shows.
const SHOWN_CHARS_MAX: usize = 200;

/// A row that was not stored, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedRow {
    /// The file.
    pub file: String,
    /// The record; its line counts from the start of the file.
    pub reject: Reject,
    /// Whether the file has rows but no lines (Parquet).
    pub by_row: bool,
}

impl RejectedRow {
    /// `x.csv, line 3, column "a"`.
    pub fn place(&self) -> String {
        let unit = if self.by_row { "row" } else { "line" };
        let column = self.reject.column.as_ref().map(|c| format!(", column \"{c}\"")).unwrap_or_default();
        format!("{}, {unit} {}{column}", self.file, self.reject.line)
    }

    /// The error of a statement that stops at this row.
    pub fn error(&self) -> SqlError {
        let raw = String::from_utf8_lossy(&self.reject.raw);
        let mut shown: String = raw.chars().take(SHOWN_CHARS_MAX).collect();
        if shown.len() < raw.len() {
            shown.push('…');
        }
        let reason = &self.reject.reason;
        SqlError::new(reason.sqlstate, format!("{}: {}", self.place(), reason.message))
            .with_detail(format!("The record reads: {}", shown.escape_debug().to_string().replace("\\\"", "\"")))
    }
}

/// Counts rejected rows, keeps them in a file, and knows how many are too many.
#[derive(Debug)]
pub struct RejectLog {
    limit: Option<u64>,
    count: u64,
    file: Option<(PathBuf, BufWriter<File>)>,
}

impl RejectLog {
    /// A log that takes at most `limit` rows (`None`: any number), and keeps them in `path`, which is made anew.
    ///
    /// # Errors
    /// 58030 when the file cannot be made.
    pub fn new(path: Option<&Path>, limit: Option<u64>) -> Result<RejectLog, SqlError> {
        let file = path.map(|path| {
            let file = File::create(path).map_err(|e| file_error(path, &e))?;
            let mut file = BufWriter::new(file);
            file.write_all(b"line,column,sqlstate,reason,raw,file\n").map_err(|e| file_error(path, &e))?;
            Ok::<_, SqlError>((path.to_owned(), file))
        });
        Ok(RejectLog { limit, count: 0, file: file.transpose()? })
    }

    /// Takes a row.
    ///
    /// # Errors
    /// The row's own error when it is one too many; 58030 when it cannot be written.
    pub fn take(&mut self, row: &RejectedRow) -> Result<(), SqlError> {
        self.count += 1;
        if let Some((path, file)) = &mut self.file {
            write_row(file, row).map_err(|e| file_error(path, &e))?;
        }
        match self.limit {
            Some(limit) if self.count > limit => {
                // What was kept so far helps to mend the file, though the load fails.
                self.flush()?;
                Err(row.error())
            }
            _ => Ok(()),
        }
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How many it takes; `None` for any number.
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Writes what is still in memory.
    ///
    /// # Errors
    /// 58030.
    pub fn flush(&mut self) -> Result<(), SqlError> {
        match &mut self.file {
            Some((path, file)) => file.flush().map_err(|e| file_error(path, &e)),
            None => Ok(()),
        }
    }
}

fn file_error(path: &Path, e: &io::Error) -> SqlError {
    let state = SqlError::from(io::Error::from(e.kind())).sqlstate();
    SqlError::new(state, format!("cannot write rejected rows to \"{}\": {e}", path.display()))
}

fn write_row(out: &mut impl Write, row: &RejectedRow) -> io::Result<()> {
    let reject = &row.reject;
    write!(out, "{},", reject.line)?;
    for text in [reject.column.as_deref().unwrap_or_default(), reject.reason.sqlstate, &reject.reason.message] {
        write_field(out, text.as_bytes())?;
        out.write_all(b",")?;
    }
    write_field(out, &reject.raw)?;
    out.write_all(b",")?;
    write_field(out, row.file.as_bytes())?;
    out.write_all(b"\n")
}

/// One field as RFC 4180 has it: quoted where it holds a comma, a quote or a line end.
pub(super) fn write_field(out: &mut impl Write, field: &[u8]) -> io::Result<()> {
    if !field.iter().any(|b| matches!(b, b',' | b'"' | b'\n' | b'\r')) {
        return out.write_all(field);
    }
    out.write_all(b"\"")?;
    for (i, part) in field.split(|b| *b == b'"').enumerate() {
        if i > 0 {
            out.write_all(b"\"\"")?;
        }
        out.write_all(part)?;
    }
    out.write_all(b"\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::parse::Reason;

    fn row(line: u64, raw: &str) -> RejectedRow {
        let reason = Reason::new("22P02", "invalid input syntax for type bigint: \"z\"");
        let reject = Reject { line, raw: raw.into(), column: Some("a".into()), reason };
        RejectedRow { file: "x.csv".into(), reject, by_row: false }
    }

    #[test]
    fn rows_are_kept_until_there_are_too_many() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bad.csv");
        let mut log = RejectLog::new(Some(&path), Some(2)).unwrap();
        log.take(&row(3, "z,1")).unwrap();
        log.take(&row(9, "z,\"two\nlines\"")).unwrap();
        let error = log.take(&row(12, "z")).unwrap_err();
        assert_eq!(error.message(), "x.csv, line 12, column \"a\": invalid input syntax for type bigint: \"z\"");
        assert_eq!(log.count(), 3);
        let text = std::fs::read_to_string(&path).unwrap();
        let reason = "\"invalid input syntax for type bigint: \"\"z\"\"\"";
        let expected = format!(
            "line,column,sqlstate,reason,raw,file\n3,a,22P02,{reason},\"z,1\",x.csv\n9,a,22P02,{reason},\"z,\"\"two\nlines\"\"\",x.csv\n12,a,22P02,{reason},z,x.csv\n"
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn without_a_limit_any_number_is_taken_and_with_none_allowed_the_first_fails() {
        let mut all = RejectLog::new(None, None).unwrap();
        (0..1000).for_each(|i| all.take(&row(i, "z")).unwrap());
        assert!(RejectLog::new(None, Some(0)).unwrap().take(&row(1, "z")).is_err());
    }
}
