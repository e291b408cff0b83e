/*!
COPY TO: the rows of a query into a file.

The file is written under a name of its own beside the target, synced, and renamed when whole: whoever looks sees the old
file or the new one, and a write that fails leaves nothing. `.gz` and `.zst` in the name compress (not Parquet, which
compresses its own pages).

CSV has values as [`crate::text`] writes them, quoted where RFC 4180 asks for it; NULL is an empty field, and an empty text
is quoted so that it stays one. NDJSON has numbers and JSON as they are, NULL as `null`, everything else as strings.
*/

use super::Format;
use super::csv::CsvDialect;
use crate::error::{SqlError, state};
use crate::text;
use crate::types::TYPE_KEY;
use ::parquet::arrow::ArrowWriter;
use ::parquet::arrow::arrow_writer::ArrowWriterOptions;
use ::parquet::basic::{Compression, ZstdLevel};
use ::parquet::file::properties::WriterProperties;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, SchemaRef};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes gathered before one system call.
const WRITE_BYTES: usize = 256 << 10;

/// Rows of one row group: enough to compress well, few enough that readers can share a file.
const GROUP_ROWS: usize = 256 << 10;

/// How to write.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// The format.
    pub format: Format,
    /// Delimiter, quote, escape, header and NULL of CSV and TSV; NDJSON and Parquet ignore it.
    pub dialect: CsvDialect,
}

impl WriteOptions {
    /// The usual way to write a format.
    pub fn of(format: Format) -> WriteOptions {
        let delimiter = if format == Format::Tsv { b'\t' } else { b',' };
        WriteOptions { format, dialect: CsvDialect { delimiter, ..CsvDialect::default() } }
    }
}

/// Writes rows to `path`; says how many.
///
/// # Errors
/// The rows' own errors; 58030 and 53100 when the file cannot be written. The target is untouched then.
pub fn write(
    rows: impl Iterator<Item = Result<RecordBatch, SqlError>>,
    schema: SchemaRef,
    path: &Path,
    options: &WriteOptions,
) -> Result<u64, SqlError> {
    let draft = Draft::new(path)?;
    let file = File::create_new(&draft.path).map_err(|e| draft.error(&e))?;
    let out = BufWriter::with_capacity(WRITE_BYTES, file);
    let name = path.to_string_lossy().to_ascii_lowercase();
    let io = |e: io::Error| draft.error(&e);
    let (count, file) = if options.format == Format::Parquet {
        let (count, out) = parquet(rows, schema, out)?;
        (count, out.into_inner().map_err(|e| io(e.into_error()))?)
    } else if name.ends_with(".gz") {
        let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::default());
        let count = text_rows(rows, &schema, &mut encoder, options, &draft)?;
        (count, encoder.finish().map_err(io)?.into_inner().map_err(|e| io(e.into_error()))?)
    } else if name.ends_with(".zst") {
        let mut encoder = zstd::stream::write::Encoder::new(out, 0).map_err(io)?;
        let count = text_rows(rows, &schema, &mut encoder, options, &draft)?;
        (count, encoder.finish().map_err(io)?.into_inner().map_err(|e| io(e.into_error()))?)
    } else {
        let mut out = out;
        let count = text_rows(rows, &schema, &mut out, options, &draft)?;
        (count, out.into_inner().map_err(|e| io(e.into_error()))?)
    };
    file.sync_all().map_err(io)?;
    draft.publish()?;
    Ok(count)
}

/// A file under a name of its own until it is whole. Dropped before that, it is gone.
struct Draft {
    path: PathBuf,
    target: PathBuf,
    published: bool,
}

impl Draft {
    fn new(target: &Path) -> Result<Draft, SqlError> {
        static DRAFTS: AtomicU64 = AtomicU64::new(0);
        let wrong = |why: &str| SqlError::new(state::IO_ERROR, format!("cannot write \"{}\": {why}", target.display()));
        if target.is_dir() {
            return Err(wrong("it is a directory"));
        }
        let name = target.file_name().ok_or_else(|| wrong("it is no name of a file"))?;
        let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
        let mut draft = std::ffi::OsString::from(".");
        draft.push(name);
        draft.push(format!(".{}-{number}.partial", std::process::id()));
        Ok(Draft { path: target.with_file_name(draft), target: target.to_owned(), published: false })
    }

    fn error(&self, e: &io::Error) -> SqlError {
        let state = match e.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => state::DISK_FULL,
            _ => state::IO_ERROR,
        };
        SqlError::new(state, format!("cannot write \"{}\": {e}", self.target.display()))
    }

    fn publish(mut self) -> Result<(), SqlError> {
        std::fs::rename(&self.path, &self.target).map_err(|e| self.error(&e))?;
        self.published = true;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.published {
            // It may never have been made; there is nothing more to be done about one that stays.
            let _absent = std::fs::remove_file(&self.path);
        }
    }
}

fn parquet<W: Write + Send>(
    rows: impl Iterator<Item = Result<RecordBatch, SqlError>>,
    schema: SchemaRef,
    out: W,
) -> Result<(u64, W), SqlError> {
    let failed =
        |e: ::parquet::errors::ParquetError| SqlError::new(state::IO_ERROR, format!("cannot write Parquet: {e}"));
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .build();
    let options = ArrowWriterOptions::new().with_properties(properties);
    let mut writer = ArrowWriter::try_new_with_options(out, schema, options).map_err(failed)?;
    let mut count = 0;
    for batch in rows {
        let batch = batch?;
        writer.write(&batch).map_err(failed)?;
        count += u64::try_from(batch.num_rows()).unwrap_or(0);
    }
    Ok((count, writer.into_inner().map_err(failed)?))
}

fn text_rows(
    rows: impl Iterator<Item = Result<RecordBatch, SqlError>>,
    schema: &SchemaRef,
    out: &mut impl Write,
    options: &WriteOptions,
    draft: &Draft,
) -> Result<u64, SqlError> {
    let mut line = Vec::new();
    let csv = options.format != Format::NdJson;
    if csv && options.dialect.header {
        for (i, field) in schema.fields().iter().enumerate() {
            separate(i, options.dialect.delimiter, &mut line);
            quote(field.name().as_bytes(), &options.dialect, &mut line);
        }
        line.push(b'\n');
        out.write_all(&line).map_err(|e| draft.error(&e))?;
    }
    let (mut count, mut value) = (0, String::new());
    for batch in rows {
        let batch = batch?;
        for row in 0..batch.num_rows() {
            line.clear();
            match csv {
                true => csv_row(&batch, schema, row, &options.dialect, &mut value, &mut line),
                false => json_row(&batch, schema, row, &mut value, &mut line),
            }
            line.push(b'\n');
            out.write_all(&line).map_err(|e| draft.error(&e))?;
        }
        count += u64::try_from(batch.num_rows()).unwrap_or(0);
    }
    Ok(count)
}

fn separate(i: usize, delimiter: u8, line: &mut Vec<u8>) {
    if i > 0 {
        line.push(delimiter);
    }
}

fn csv_row(
    batch: &RecordBatch,
    schema: &SchemaRef,
    row: usize,
    dialect: &CsvDialect,
    value: &mut String,
    line: &mut Vec<u8>,
) {
    for (i, (array, field)) in batch.columns().iter().zip(schema.fields()).enumerate() {
        separate(i, dialect.delimiter, line);
        if array.is_null(row) {
            line.extend_from_slice(dialect.null.as_bytes());
            continue;
        }
        value.clear();
        text::format(array, row, field, value);
        quote(value.as_bytes(), dialect, line);
    }
}

/// A field that is not NULL, in quotes where it would be misread without.
fn quote(field: &[u8], dialect: &CsvDialect, line: &mut Vec<u8>) {
    let special = |b: &u8| *b == dialect.delimiter || matches!(b, b'\n' | b'\r') || Some(*b) == dialect.quote;
    let quote = match dialect.quote {
        Some(quote) if field == dialect.null.as_bytes() || field.iter().any(special) => quote,
        _ => {
            line.extend_from_slice(field);
            return;
        }
    };
    line.push(quote);
    for byte in field {
        if *byte == quote || *byte == dialect.escape {
            line.push(dialect.escape);
        }
        line.push(*byte);
    }
    line.push(quote);
}

fn json_row(batch: &RecordBatch, schema: &SchemaRef, row: usize, value: &mut String, line: &mut Vec<u8>) {
    line.push(b'{');
    for (i, (array, field)) in batch.columns().iter().zip(schema.fields()).enumerate() {
        separate(i, b',', line);
        json_string(field.name(), line);
        line.push(b':');
        json_value(array, row, field, value, line);
    }
    line.push(b'}');
}

fn json_value(array: &dyn Array, row: usize, field: &Field, value: &mut String, line: &mut Vec<u8>) {
    if array.is_null(row) {
        line.extend_from_slice(b"null");
        return;
    }
    match array.data_type() {
        DataType::Boolean => line.extend_from_slice(if array.as_boolean().value(row) { b"true" } else { b"false" }),
        DataType::List(item) => json_list(&array.as_list::<i32>().value(row), item, value, line),
        DataType::LargeList(item) => json_list(&array.as_list::<i64>().value(row), item, value, line),
        DataType::FixedSizeList(item, _) => json_list(&array.as_fixed_size_list().value(row), item, value, line),
        DataType::Struct(fields) => {
            line.push(b'{');
            for (i, (column, field)) in array.as_struct().columns().iter().zip(fields).enumerate() {
                separate(i, b',', line);
                json_string(field.name(), line);
                line.push(b':');
                json_value(column, row, field, value, line);
            }
            line.push(b'}');
        }
        ty => {
            value.clear();
            text::format(array, row, field, value);
            let number = ty.is_numeric() && value.bytes().next_back().is_some_and(|b| b.is_ascii_digit());
            let json = field.metadata().get(TYPE_KEY).is_some_and(|t| t == "json");
            match (number, json) {
                (true, _) => line.extend_from_slice(value.as_bytes()),
                // Outside of strings a line end in JSON is a blank like any other; inside it cannot stand.
                (_, true) => line.extend(value.bytes().map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { b })),
                // NaN and Infinity are no JSON numbers.
                _ => json_string(value, line),
            }
        }
    }
}

fn json_list(items: &dyn Array, field: &Field, value: &mut String, line: &mut Vec<u8>) {
    line.push(b'[');
    for row in 0..items.len() {
        separate(row, b',', line);
        json_value(items, row, field, value, line);
    }
    line.push(b']');
}

fn json_string(text: &str, line: &mut Vec<u8>) {
    // Writing into memory cannot fail, and every text is a JSON string.
    let _infallible = serde_json::to_writer(line, text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{SniffOptions, Source, read, sniff};
    use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringViewArray};
    use arrow::datatypes::Schema;
    use std::sync::Arc;

    fn batch() -> RecordBatch {
        let json = Field::new("j", DataType::Utf8View, true)
            .with_metadata([(TYPE_KEY.to_owned(), "json".to_owned())].into_iter().collect());
        let schema = Schema::new(vec![
            Field::new("n", DataType::Int64, true),
            Field::new("x y", DataType::Float64, true),
            Field::new("b", DataType::Boolean, true),
            Field::new("s", DataType::Utf8View, true),
            json,
        ]);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![Some(1), None, Some(-3)])),
            Arc::new(Float64Array::from(vec![Some(0.5), Some(f64::NAN), None])),
            Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
            Arc::new(StringViewArray::from(vec![Some("a,\"b\"\nc"), Some(""), None])),
            Arc::new(StringViewArray::from(vec![Some("{\"k\":\n[1]}"), None, Some("\"x\"")])),
        ];
        RecordBatch::try_new(Arc::new(schema), columns).unwrap()
    }

    fn written(name: &str, options: &WriteOptions) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        let count = write([Ok(batch())].into_iter(), batch().schema(), &path, options).unwrap();
        assert_eq!(count, 3);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let mut text = String::new();
        io::Read::read_to_string(&mut Source::open(&path).unwrap().reader().unwrap(), &mut text).unwrap();
        text
    }

    #[test]
    fn csv_is_quoted_where_it_must_be() {
        let expected =
            "n,x y,b,s,j\n1,0.5,t,\"a,\"\"b\"\"\nc\",\"{\"\"k\"\":\n[1]}\"\n,NaN,f,\"\",\n-3,,,,\"\"\"x\"\"\"\n";
        for name in ["x.csv", "x.csv.gz", "x.csv.zst"] {
            assert_eq!(written(name, &WriteOptions::of(Format::Csv)), expected, "{name}");
        }
    }

    #[test]
    fn ndjson_has_one_object_a_line() {
        let expected = "{\"n\":1,\"x y\":0.5,\"b\":true,\"s\":\"a,\\\"b\\\"\\nc\",\"j\":{\"k\": [1]}}\n\
            {\"n\":null,\"x y\":\"NaN\",\"b\":false,\"s\":\"\",\"j\":null}\n\
            {\"n\":-3,\"x y\":null,\"b\":null,\"s\":null,\"j\":\"x\"}\n";
        assert_eq!(written("x.ndjson", &WriteOptions::of(Format::NdJson)), expected);
    }

    #[test]
    fn what_is_written_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        for (name, format) in [("x.csv", Format::Csv), ("x.tsv", Format::Tsv), ("x.parquet", Format::Parquet)] {
            let path = dir.path().join(name);
            write([Ok(batch())].into_iter(), batch().schema(), &path, &WriteOptions::of(format)).unwrap();
            let source = Source::open(&path).unwrap();
            let sniffed = sniff(&source, &SniffOptions::default()).unwrap();
            let mut back = read(&source, &sniffed, &sniffed.targets(), &Default::default(), None).unwrap();
            let back = back.next().unwrap().unwrap();
            for (column, expected) in back.columns().iter().zip(batch().columns()) {
                assert_eq!(column, expected, "{name}");
            }
        }
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.csv");
        std::fs::write(&path, "old").unwrap();
        for format in [Format::Csv, Format::Parquet] {
            let rows = [Ok(batch()), Err(SqlError::new("22012", "division by zero"))];
            let error = write(rows.into_iter(), batch().schema(), &path, &WriteOptions::of(format)).unwrap_err();
            assert_eq!(error.sqlstate(), "22012");
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let nowhere = dir.path().join("no/x.csv");
        assert!(write([].into_iter(), batch().schema(), &nowhere, &WriteOptions::of(Format::Csv)).is_err());
    }
}
