/*!
A file into batches: one door for COPY FROM, direct queries and the loader.

[`read`] starts the threads that fit the format and gives batches in the file's order, in the engine's own Arrow types. A
row that cannot be stored goes to the caller's [`OnReject`], or is the error that ends the reading where there is none.
*/

use super::csv::{Cutter, Parsed, RecordParser};
use super::parse::FieldSink;
use super::pipeline::ordered;
use super::rejects::RejectedRow;
use super::sniff::{FileColumn, Sniffed};
use super::source::Source;
use super::{Format, ndjson, parquet};
use crate::error::{SqlError, nearest, state};
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use std::sync::Arc;

/// A column to fill, and which of the file's columns fills it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetColumn {
    /// Its name, type and whether it takes NULL.
    pub column: FileColumn,
    /// The place among the file's columns ([`Sniffed::columns`]). NDJSON goes by name and ignores it.
    pub field: usize,
}

impl TargetColumn {
    pub(super) fn sink(&self, capacity: usize) -> FieldSink {
        let chars_max = self.column.ty.length.and_then(|n| usize::try_from(n).ok());
        FieldSink::new(self.column.ty.column, chars_max, capacity)
    }
}

/// How to read.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// Threads that parse; one a core if 0.
    pub threads: usize,
    /// The targets are some of the file's own columns, and the others are passed over. Otherwise NDJSON's records
    /// may hold no other keys than the targets.
    pub projected: bool,
    /// The types were sniffed, not declared: what does not fit them may be the sample's fault, and errors say so.
    pub types_sniffed: bool,
}

/// What is done with a row that cannot be stored; an error ends the reading.
pub type OnReject = Box<dyn FnMut(&RejectedRow) -> Result<(), SqlError> + Send>;

/// The batches of one file. Dropping it ends its threads.
pub struct Batches {
    parsed: Box<dyn Iterator<Item = Result<Parsed, SqlError>> + Send>,
    schema: SchemaRef,
    file: String,
    by_row: bool,
    lines: u64,
    rejected: u64,
    on_reject: Option<OnReject>,
    late_type_hint: Option<String>,
    failed: bool,
}

impl std::fmt::Debug for Batches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batches").field("file", &self.file).field("lines", &self.lines).finish_non_exhaustive()
    }
}

/// Reads a file into batches with the columns of `targets`, in their order.
///
/// # Errors
/// When the file cannot be opened or its head makes no sense; 42804 when a column cannot become its target's type.
pub fn read(
    source: &Source,
    sniffed: &Sniffed,
    targets: &[TargetColumn],
    options: &ReadOptions,
    on_reject: Option<OnReject>,
) -> Result<Batches, SqlError> {
    let threads = match options.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    };
    let parsed: Box<dyn Iterator<Item = _> + Send> = match sniffed.format {
        Format::Csv | Format::Tsv => {
            let parser = RecordParser::new(sniffed.dialect.clone(), targets.to_vec(), sniffed.columns.len());
            let pieces = Cutter::new(source.reader()?, source.name(), sniffed.dialect.clone());
            let mut first = true;
            let pieces = pieces.map(move |piece| piece.map(|p| (p, std::mem::replace(&mut first, false))));
            Box::new(ordered(threads, pieces, move |(piece, first)| parser.parse(&piece.bytes, first))?)
        }
        Format::NdJson => {
            let known = if options.projected { sniffed.columns.as_slice() } else { &[] };
            let parser = ndjson::LineParser::new(targets.to_vec(), known);
            let pieces = Cutter::new(source.reader()?, source.name(), ndjson::lines());
            Box::new(ordered(threads, pieces, move |piece| parser.parse(&piece.bytes))?)
        }
        Format::Parquet => parquet::read(source, sniffed, targets, threads)?,
    };
    let fields = targets.iter().map(|t| Field::new(&t.column.name, t.column.ty.column.arrow(), true));
    let late = options.types_sniffed && !sniffed.whole;
    let late_type_hint = late.then(|| {
        format!(
            "The types were taken from the first {} bytes of the file; declare this column's type, or read a larger sample.",
            sniffed.sample_bytes
        )
    });
    Ok(Batches {
        parsed,
        schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
        file: source.name().to_owned(),
        by_row: sniffed.format == Format::Parquet,
        lines: 0,
        rejected: 0,
        on_reject,
        late_type_hint,
        failed: false,
    })
}

impl Batches {
    /// The batches' schema: names and the engine's types, all nullable.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Rows that were rejected so far.
    pub fn rejected(&self) -> u64 {
        self.rejected
    }

    fn take(&mut self, parsed: Parsed) -> Result<RecordBatch, SqlError> {
        for mut reject in parsed.rejects {
            reject.line += self.lines;
            self.rejected += 1;
            let row = RejectedRow { file: self.file.clone(), reject, by_row: self.by_row };
            let outcome = match &mut self.on_reject {
                Some(on_reject) => on_reject(&row),
                None => Err(row.error()),
            };
            outcome.map_err(|e| match (&self.late_type_hint, &row.reject.column) {
                (Some(hint), Some(_)) if e.hint().is_none() => e.with_hint(hint.clone()),
                _ => e,
            })?;
        }
        self.lines += parsed.lines;
        let options = RecordBatchOptions::new().with_row_count(Some(parsed.rows));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), parsed.columns, &options)?)
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, SqlError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.failed {
            let batch = match self.parsed.next()? {
                Ok(parsed) => self.take(parsed),
                Err(e) => Err(e),
            };
            match batch {
                Ok(batch) if batch.num_rows() == 0 => {}
                other => {
                    self.failed = other.is_err();
                    return Some(other);
                }
            }
        }
        None
    }
}

/// Finds for a table's columns those of a file that fill them: by name where the file has names, else by place. A
/// name is matched as it is, or else without regard to case where that leaves no doubt. Columns of the table that the file
/// has not are left out.
///
/// # Errors
/// 42703 for a column of the file that the table has not, 22P04 where a file without names has another number of columns.
pub fn match_columns(sniffed: &Sniffed, file: &str, table: &[FileColumn]) -> Result<Vec<TargetColumn>, SqlError> {
    let target = |column: &FileColumn, field: usize| TargetColumn { column: column.clone(), field };
    if sniffed.format == Format::NdJson {
        // Records are free to leave keys out, so the sample does not tell which columns there are.
        return Ok(table.iter().map(|c| target(c, 0)).collect());
    }
    if !sniffed.named {
        if sniffed.columns.len() != table.len() {
            let (has, wanted) = (sniffed.columns.len(), table.len());
            let message = format!("\"{file}\" has {has} columns where {wanted} are expected");
            return Err(SqlError::new(state::BAD_COPY_FILE_FORMAT, message).with_hint(
                "A file without a header is matched by position; check the delimiter, or name the columns.",
            ));
        }
        return Ok(table.iter().enumerate().map(|(i, c)| target(c, i)).collect());
    }
    let mut places = vec![None; table.len()];
    for (field, column) in sniffed.columns.iter().enumerate() {
        let place = find_column(&column.name, table).ok_or_else(|| unknown_column(&column.name, file, table))?;
        match places.get_mut(place) {
            Some(slot @ None) => *slot = Some(field),
            _ => {
                let message = format!("two columns of \"{file}\" stand for column \"{}\"", column.name);
                return Err(SqlError::new(state::DUPLICATE_COLUMN, message));
            }
        }
    }
    Ok(table.iter().zip(places).filter_map(|(c, place)| Some(target(c, place?))).collect())
}

/// The place of the column of that name, or of the only one that differs from it in case alone.
pub(super) fn find_column(name: &str, table: &[FileColumn]) -> Option<usize> {
    if let Some(exact) = table.iter().position(|c| c.name == name) {
        return Some(exact);
    }
    let mut alike = table.iter().enumerate().filter(|(_, c)| c.name.eq_ignore_ascii_case(name.trim()));
    let (place, _) = alike.next()?;
    alike.next().is_none().then_some(place)
}

fn unknown_column(name: &str, file: &str, table: &[FileColumn]) -> SqlError {
    let message = format!("column \"{name}\" of \"{file}\" does not exist in the table");
    let error = SqlError::new(state::UNDEFINED_COLUMN, message);
    match nearest(name, table.iter().map(|c| c.name.as_str())) {
        Some(near) => error.with_hint(format!("Did you mean \"{near}\"?")),
        None => error.with_hint("If the file has no header, say so."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{CsvOptions, SniffOptions, sniff};
    use arrow::util::pretty::pretty_format_batches;
    use std::sync::{Arc, Mutex};

    fn source(text: &str) -> Source {
        Source::once("test", Box::new(std::io::Cursor::new(text.as_bytes().to_vec())))
    }

    fn all(source: &Source, options: &SniffOptions) -> Result<Vec<RecordBatch>, SqlError> {
        let sniffed = sniff(source, options)?;
        let targets = sniffed.targets();
        let how = ReadOptions { types_sniffed: true, ..ReadOptions::default() };
        read(source, &sniffed, &targets, &how, None)?.collect()
    }

    #[test]
    fn a_csv_file_comes_out_typed() {
        let csv = SniffOptions { format: Some(Format::Csv), ..SniffOptions::default() };
        let batches = all(&source("id,at,ok\n1,2024-02-29 12:00:00,t\n2,,f\n"), &csv).unwrap();
        let shown = pretty_format_batches(&batches).unwrap().to_string();
        let expected = "\
+----+---------------------+-------+
| id | at                  | ok    |
+----+---------------------+-------+
| 1  | 2024-02-29T12:00:00 | true  |
| 2  |                     | false |
+----+---------------------+-------+";
        assert_eq!(shown, expected);
    }

    #[test]
    fn rejects_carry_the_files_own_line_numbers_over_piece_borders() {
        let mut text = String::from("n,s\n");
        for i in 0..400_000 {
            let n = if i % 100_000 == 99_999 { "bad".to_owned() } else { i.to_string() };
            text.push_str(&format!("{n},some text to fill a line {i}\n"));
        }
        let csv = CsvOptions { header: Some(true), ..CsvOptions::default() };
        let types = vec![("n".to_owned(), omendb_engine::types::ColumnType::Int64.into())];
        let options = SniffOptions { format: Some(Format::Csv), csv, types, ..SniffOptions::default() };
        let source = source(&text);
        let sniffed = sniff(&source, &options).unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = lines.clone();
        let on_reject: OnReject = Box::new(move |row| {
            kept.lock().unwrap().push(row.reject.line);
            Ok(())
        });
        let batches = read(&source, &sniffed, &sniffed.targets(), &ReadOptions::default(), Some(on_reject)).unwrap();
        let rows: usize = batches.map(|b| b.unwrap().num_rows()).sum();
        assert_eq!(rows, 399_996);
        assert_eq!(*lines.lock().unwrap(), [100_001, 200_001, 300_001, 400_001]);
    }

    #[test]
    fn a_type_that_changes_past_the_sample_names_the_place_and_the_remedy() {
        let mut text = String::from("n\n");
        (0..5000).for_each(|i| text.push_str(&format!("{i}\n")));
        text.push_str("many\n");
        let options = SniffOptions { format: Some(Format::Csv), sample_bytes: 4096, ..SniffOptions::default() };
        let error = all(&source(&text), &options).unwrap_err();
        let expected = "test, line 5002, column \"n\": invalid input syntax for type bigint: \"many\"";
        assert_eq!((error.sqlstate(), error.message()), ("22P02", expected));
        assert!(error.hint().unwrap().contains("declare"), "{:?}", error.hint());
    }

    #[test]
    fn columns_are_matched_by_name_or_place() {
        let column = |name: &str| FileColumn {
            name: name.into(),
            ty: omendb_engine::types::ColumnType::Text.into(),
            nullable: true,
        };
        let table = [column("id"), column("name"), column("note")];
        let csv = SniffOptions { format: Some(Format::Csv), ..SniffOptions::default() };
        let by = |text: &str, header: bool| {
            let csv = CsvOptions { header: Some(header), ..CsvOptions::default() };
            sniff(&source(text), &SniffOptions { format: Some(Format::Csv), csv, ..SniffOptions::default() }).unwrap()
        };
        let places = |s: &Sniffed| {
            match_columns(s, "x", &table)
                .map(|t| t.iter().map(|t| (t.column.name.clone(), t.field)).collect::<Vec<_>>())
        };
        assert_eq!(places(&by("NAME,id\na,1\n", true)).unwrap(), [("id".to_owned(), 1), ("name".to_owned(), 0)]);
        assert_eq!(places(&by("1,a,b\n", false)).unwrap().len(), 3);
        assert_eq!(places(&by("1,a\n", false)).unwrap_err().sqlstate(), "22P04");
        let error = places(&by("nmae,id\na,1\n", true)).unwrap_err();
        assert_eq!((error.sqlstate(), error.hint()), ("42703", Some("Did you mean \"name\"?")));
        assert!(sniff(&source("a,b\n1,2\n"), &csv).is_ok());
    }
}
