/*!
Parquet: row groups decoded by several threads, columns converted to the engine's types.

A file says itself what its columns are; what it says is kept, with times in microseconds and text as text. A value
that has no place in its target (a nanosecond date past the range, a number too large for the table's column) makes its
row a reject, like a bad field of CSV. What could only be stored as something else (a fraction in an integer column)
is refused for the column as a whole.

A damaged file ends in an error. Decoding runs on threads of its own, so that even a panic of a decoder is one.
*/

use super::csv::{Parsed, Reject, null_violation};
use super::parse::{FieldSink, Reason};
use super::pipeline::{Emit, streams};
use super::read::TargetColumn;
use super::sniff::{FileColumn, Sniffed};
use super::source::Source;
use crate::error::{SqlError, state};
use crate::text;
use crate::types::{SqlType, TYPE_KEY};
use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use ::parquet::basic::LogicalType;
use ::parquet::errors::ParquetError;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options, filter};
use arrow::datatypes::{DataType, Field, Schema};
use omendb_engine::types::ColumnType;
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows of a batch: many, since each costs the consumer a sort of its own.
const BATCH_ROWS: usize = 64 << 10;

/// Opens the file and reads its footer.
fn open(path: &Path, name: &str) -> Result<(File, ArrowReaderMetadata), SqlError> {
    let file =
        File::open(path).map_err(|e| SqlError::new(SqlError::from(e).sqlstate(), format!("cannot open \"{name}\"")))?;
    // The footer of a damaged file is the one part that is not decoded on a thread of its own.
    let options = ArrowReaderOptions::new();
    let loaded = std::panic::catch_unwind(|| ArrowReaderMetadata::load(&file, options));
    match loaded {
        Ok(Ok(metadata)) => Ok((file, metadata)),
        Ok(Err(e)) => Err(damaged(name, &e)),
        Err(_) => Err(SqlError::new(state::BAD_COPY_FILE_FORMAT, format!("\"{name}\" is a damaged Parquet file"))),
    }
}

fn damaged(name: &str, e: &ParquetError) -> SqlError {
    if let ParquetError::External(inner) = e
        && let Some(io) = inner.downcast_ref::<std::io::Error>()
        && io.kind() != std::io::ErrorKind::UnexpectedEof
    {
        return super::source::read_error(name, io);
    }
    SqlError::new(state::BAD_COPY_FILE_FORMAT, format!("\"{name}\" is a damaged or truncated Parquet file: {e}"))
}

fn path_of(source: &Source) -> Result<&Path, SqlError> {
    source.path().ok_or_else(|| {
        SqlError::unsupported("Parquet cannot be read from stdin: its footer stands at the end")
            .with_hint("Save it to a file first.")
    })
}

/// The Arrow schema of the file, with uuid and json named in the fields' metadata.
pub(super) fn schema(source: &Source) -> Result<Schema, SqlError> {
    let (_, metadata) = open(path_of(source)?, source.name())?;
    Ok(named_schema(&metadata))
}

fn named_schema(metadata: &ArrowReaderMetadata) -> Schema {
    let roots = metadata.parquet_schema().root_schema().get_fields();
    let fields = metadata.schema().fields().iter().enumerate().map(|(i, field)| {
        let logical = roots.get(i).and_then(|root| root.get_basic_info().logical_type_ref());
        let label = match (logical, field.data_type()) {
            (Some(LogicalType::Uuid), DataType::FixedSizeBinary(16)) => Some("uuid"),
            (Some(LogicalType::Json), _) => Some("json"),
            _ => None,
        };
        let own = field.metadata().get(TYPE_KEY).cloned();
        let metadata = own.or_else(|| label.map(str::to_owned)).map(|label| (TYPE_KEY.to_owned(), label));
        Field::new(field.name(), field.data_type().clone(), field.is_nullable())
            .with_metadata(metadata.into_iter().collect::<HashMap<_, _>>())
    });
    Schema::new(fields.collect::<Vec<_>>())
}

/// The type of a field of a file.
///
/// # Errors
/// 0A000 for lists, structs and maps.
fn type_of(field: &Field) -> Result<SqlType, SqlError> {
    match (field.data_type(), field.metadata().get(TYPE_KEY).map(String::as_str)) {
        (DataType::FixedSizeBinary(16), Some("uuid")) => Ok(ColumnType::Uuid.into()),
        (DataType::Binary | DataType::LargeBinary | DataType::BinaryView, Some("json")) => Ok(ColumnType::Json.into()),
        _ => SqlType::of_field(field),
    }
}

/// The columns of the file. A column that is never NULL there may still take NULL in a table.
///
/// # Errors
/// 22P04 for a damaged file, 0A000 for columns that have no type here.
pub(super) fn columns(source: &Source) -> Result<Vec<FileColumn>, SqlError> {
    let schema = schema(source)?;
    let column = |field: &Arc<Field>| {
        let ty = type_of(field).map_err(|e| {
            SqlError::new(e.sqlstate(), format!("\"{}\": {}", source.name(), e.message())).with_hint(
                "Query the file directly and store what can be stored: CREATE TABLE … AS SELECT … FROM the file.",
            )
        })?;
        Ok(FileColumn { name: field.name().clone(), ty, nullable: true })
    };
    schema.fields().iter().map(column).collect()
}

/// Whether the file holds nothing that DataFusion's own reader could not give in the engine's types.
pub(super) fn is_plain(schema: &Schema) -> bool {
    schema.fields().iter().all(|f| !f.metadata().contains_key(TYPE_KEY))
}

/// What every worker needs.
struct Plan {
    path: PathBuf,
    name: String,
    metadata: ArrowReaderMetadata,
    mask: ProjectionMask,
    /// For each target, its place among the columns that are read, and how the file types it.
    columns: Vec<(TargetColumn, usize, SqlType)>,
    source: Source,
}

/// Starts reading: results in the file's order.
///
/// # Errors
/// 22P04 for a damaged file, 42804 for a column that cannot become its target's type.
pub(super) fn read(
    source: &Source,
    sniffed: &Sniffed,
    targets: &[TargetColumn],
    threads: usize,
) -> Result<Box<dyn Iterator<Item = Result<Parsed, SqlError>> + Send>, SqlError> {
    let path = path_of(source)?.to_owned();
    let (_, metadata) = open(&path, source.name())?;
    let schema = named_schema(&metadata);
    let mut roots: Vec<usize> = targets.iter().map(|t| t.field).collect();
    roots.sort_unstable();
    roots.dedup();
    let mut columns = Vec::with_capacity(targets.len());
    for target in targets {
        let field = schema.fields().get(target.field).filter(|_| target.field < sniffed.columns.len());
        let field = field.ok_or_else(|| SqlError::internal(format!("no column {} in the file", target.field)))?;
        let from = type_of(field)?;
        converts(from, target, source.name())?;
        let place = roots.binary_search(&target.field).unwrap_or_default();
        columns.push((target.clone(), place, from));
    }
    let mask = ProjectionMask::roots(metadata.parquet_schema(), roots);
    let groups = metadata.metadata().num_row_groups();
    let source = source.clone();
    let plan = Plan { path, name: source.name().to_owned(), metadata, mask, columns, source };
    Ok(Box::new(streams(threads, (0..groups).map(Ok), move |group, emit| plan.group(group, emit))?))
}

/// Whether values of `from` become the target's without being changed.
fn converts(from: SqlType, target: &TargetColumn, file: &str) -> Result<(), SqlError> {
    use ColumnType as T;
    let to = target.column.ty.column;
    let fits = match (from.column, to) {
        (from, to) if from == to => true,
        (T::Text, _) | (_, T::Text) => true,
        (
            T::Int16 | T::Int32 | T::Int64,
            T::Int16 | T::Int32 | T::Int64 | T::Float32 | T::Float64 | T::Decimal { .. },
        ) => true,
        (T::Float32 | T::Float64, T::Float32 | T::Float64) => true,
        (T::Decimal { .. }, T::Decimal { .. } | T::Float32 | T::Float64) => true,
        (T::Decimal { scale: 0, .. }, T::Int16 | T::Int32 | T::Int64) => true,
        (T::Date | T::Timestamp | T::TimestampTz, T::Timestamp | T::TimestampTz) => true,
        (T::Bytes, T::Uuid) => true,
        _ => false,
    };
    if fits {
        return Ok(());
    }
    let (name, from, to) = (&target.column.name, from.name(), target.column.ty.name());
    Err(SqlError::new(state::DATATYPE_MISMATCH, format!("column \"{name}\" is {to}, but {from} in \"{file}\""))
        .with_hint("Convert it in a query over the file: INSERT INTO … SELECT … FROM the file."))
}

impl Plan {
    fn group(&self, group: usize, emit: &Emit<Parsed>) {
        let bytes = self.metadata.metadata().row_groups().get(group).map_or(0, |g| g.compressed_size());
        let reader = match self.reader(group) {
            Ok(reader) => reader,
            Err(e) => {
                emit.send(Err(e));
                return;
            }
        };
        for batch in reader {
            let parsed = match batch {
                Ok(batch) => self.convert(&batch),
                Err(e) => Err(SqlError::new(
                    state::BAD_COPY_FILE_FORMAT,
                    format!("\"{}\" is a damaged or truncated Parquet file: {e}", self.name),
                )),
            };
            let failed = parsed.is_err();
            if !emit.send(parsed) || failed {
                return;
            }
        }
        self.source.count(u64::try_from(bytes).unwrap_or(0));
    }

    /// A file handle for each row group: handles that are cloned share their position.
    fn reader(&self, group: usize) -> Result<ParquetRecordBatchReader, SqlError> {
        let file = File::open(&self.path)?;
        ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
            .with_projection(self.mask.clone())
            .with_row_groups(vec![group])
            .with_batch_size(BATCH_ROWS)
            .build()
            .map_err(|e| damaged(&self.name, &e))
    }

    /// The batch in the targets' types; rows with a value that does not fit are rejects, "line" being the row.
    fn convert(&self, batch: &RecordBatch) -> Result<Parsed, SqlError> {
        let rows = batch.num_rows();
        let mut bad: HashMap<usize, (String, Reason)> = HashMap::new();
        let mut columns = Vec::with_capacity(self.columns.len());
        for (target, place, from) in &self.columns {
            let array = batch.columns().get(*place).ok_or_else(|| SqlError::internal("a column was not decoded"))?;
            let mut reject = |row: usize, reason: Reason| {
                bad.entry(row).or_insert_with(|| (target.column.name.clone(), reason));
            };
            let converted = convert(array, *from, target, &mut reject)?;
            if !target.column.nullable && array.null_count() > 0 {
                (0..rows)
                    .filter(|row| array.is_null(*row))
                    .for_each(|row| reject(row, null_violation(&target.column.name)));
            }
            columns.push(converted);
        }
        let lines = u64::try_from(rows).unwrap_or(u64::MAX);
        if bad.is_empty() {
            return Ok(Parsed { columns, rows, rejects: Vec::new(), lines, bytes: 0 });
        }
        let keep: BooleanArray = (0..rows).map(|row| Some(!bad.contains_key(&row))).collect();
        let columns = columns.iter().map(|c| filter(c, &keep)).collect::<Result<_, _>>()?;
        let kept = rows - bad.len();
        let mut rejects: Vec<Reject> = bad
            .into_iter()
            .map(|(row, (column, reason))| {
                let line = u64::try_from(row).unwrap_or(u64::MAX).saturating_add(1);
                Reject { line, raw: self.raw(batch, row), column: Some(column), reason }
            })
            .collect();
        rejects.sort_by_key(|r| r.line);
        Ok(Parsed { columns, rows: kept, rejects, lines, bytes: 0 })
    }

    /// A row as a record of CSV, for the file of rejects.
    fn raw(&self, batch: &RecordBatch, row: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let mut value = String::new();
        let schema = batch.schema();
        for (i, (array, field)) in batch.columns().iter().zip(schema.fields()).enumerate() {
            value.clear();
            text::format(array, row, field, &mut value);
            if i > 0 {
                out.push(b',');
            }
            // Writing into memory cannot fail.
            let _infallible = super::rejects::write_field(&mut out, value.as_bytes());
        }
        out
    }
}

/// One column in its target's type. A value that does not fit becomes NULL and is told to `reject`.
fn convert(
    array: &ArrayRef,
    from: SqlType,
    target: &TargetColumn,
    reject: &mut impl FnMut(usize, Reason),
) -> Result<ArrayRef, SqlError> {
    let to = target.column.ty;
    let wanted = to.column.arrow();
    if array.data_type() == &wanted && to.length.is_none() {
        return Ok(array.clone());
    }
    if from.column == ColumnType::Text && (to.column != ColumnType::Text || to.length.is_some()) {
        return parse_text(array, target, reject);
    }
    if to.column == ColumnType::Uuid && !matches!(array.data_type(), DataType::FixedSizeBinary(16)) {
        return bytes_to_uuid(array, reject);
    }
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let unpacked = match array.data_type() {
        DataType::Dictionary(_, value) => &cast_with_options(array, value, &options)?,
        _ => array,
    };
    let converted = match (unpacked.data_type(), &wanted) {
        (DataType::FixedSizeBinary(_), DataType::Binary) => {
            let values: Vec<Option<&[u8]>> = unpacked.as_fixed_size_binary().iter().collect();
            Arc::new(arrow::array::BinaryArray::from(values)) as ArrayRef
        }
        _ if to.column == ColumnType::Text && from.column != ColumnType::Text => as_text(unpacked, from),
        _ => cast_with_options(unpacked, &wanted, &options)?,
    };
    if converted.null_count() > unpacked.null_count() {
        for row in (0..converted.len()).filter(|row| converted.is_null(*row) && unpacked.is_valid(*row)) {
            reject(row, no_place(unpacked, row, to));
        }
    }
    Ok(converted)
}

fn no_place(array: &ArrayRef, row: usize, to: SqlType) -> Reason {
    let mut value = String::new();
    text::format(array, row, &Field::new("", array.data_type().clone(), true), &mut value);
    let state = match to.column {
        ColumnType::Date | ColumnType::Time | ColumnType::Timestamp | ColumnType::TimestampTz => {
            state::DATETIME_FIELD_OVERFLOW
        }
        _ => state::NUMERIC_VALUE_OUT_OF_RANGE,
    };
    Reason::new(state, format!("value \"{value}\" is out of range for type {}", to.name()))
}

/// Text into anything, by the rules that CSV has.
fn parse_text(
    array: &ArrayRef,
    target: &TargetColumn,
    reject: &mut impl FnMut(usize, Reason),
) -> Result<ArrayRef, SqlError> {
    let text = cast_with_options(array, &DataType::Utf8View, &CastOptions { safe: false, ..CastOptions::default() })?;
    let mut sink: FieldSink = target.sink(array.len());
    for (row, value) in text.as_string_view().iter().enumerate() {
        match value {
            None => sink.push_null(),
            Some(value) => {
                if let Err(reason) = sink.push(value.as_bytes()) {
                    reject(row, reason);
                }
            }
        }
    }
    Ok(sink.finish())
}

/// Any value as SQL writes it.
fn as_text(array: &ArrayRef, from: SqlType) -> ArrayRef {
    let field = from.field("", true).with_data_type(array.data_type().clone());
    let mut out = arrow::array::StringViewBuilder::with_capacity(array.len());
    let mut value = String::new();
    for row in 0..array.len() {
        if array.is_null(row) {
            out.append_null();
            continue;
        }
        value.clear();
        text::format(array, row, &field, &mut value);
        out.append_value(&value);
    }
    Arc::new(out.finish())
}

fn bytes_to_uuid(array: &ArrayRef, reject: &mut impl FnMut(usize, Reason)) -> Result<ArrayRef, SqlError> {
    let bytes = cast_with_options(array, &DataType::Binary, &CastOptions { safe: false, ..CastOptions::default() })?;
    let mut out = arrow::array::FixedSizeBinaryBuilder::with_capacity(array.len(), 16);
    for (row, value) in bytes.as_binary::<i32>().iter().enumerate() {
        match value {
            Some(value) if value.len() == 16 => out.append_value(value)?,
            None => out.append_null(),
            Some(value) => {
                out.append_null();
                let message = format!("a uuid has 16 bytes, this value has {}", value.len());
                reject(row, Reason::new(state::INVALID_TEXT_REPRESENTATION, message));
            }
        }
    }
    Ok(Arc::new(out.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{ReadOptions, SniffOptions, read, sniff};
    use ::parquet::arrow::ArrowWriter;
    use ::parquet::file::properties::WriterProperties;
    use arrow::array::{
        DictionaryArray, Int8Array, Int32Array, Int64Array, LargeStringArray, StringArray, TimestampNanosecondArray,
        TimestampSecondArray, UInt64Array,
    };
    use arrow::datatypes::{Int32Type, TimestampMicrosecondType};
    use std::sync::Mutex;

    fn write(path: &Path, columns: Vec<(&str, ArrayRef)>, group_rows: usize) {
        let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap();
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(group_rows)).build();
        let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }

    fn names(source: &Source) -> Vec<String> {
        sniff(source, &SniffOptions::default()).unwrap().columns.iter().map(|c| c.ty.name()).collect()
    }

    #[test]
    fn types_of_other_systems_become_the_engines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.parquet");
        let dictionary: DictionaryArray<Int32Type> = vec![Some("x"), None, Some("x")].into_iter().collect();
        write(
            &path,
            vec![
                ("i8", Arc::new(Int8Array::from(vec![1, 2, 3]))),
                ("u64", Arc::new(UInt64Array::from(vec![u64::MAX, 0, 1]))),
                ("ns", Arc::new(TimestampNanosecondArray::from(vec![1_500, -1_500, 0]))),
                ("s", Arc::new(TimestampSecondArray::from(vec![1, 2, 3]))),
                (
                    "z",
                    Arc::new(TimestampNanosecondArray::from(vec![1_000, 2_000, 3_000]).with_timezone("Europe/Berlin")),
                ),
                (
                    "large",
                    Arc::new(LargeStringArray::from(vec![Some("a"), None, Some("long enough to not be inlined")])),
                ),
                ("dict", Arc::new(dictionary)),
            ],
            2,
        );
        let source = Source::open(&path).unwrap();
        let expected = [
            "smallint",
            "numeric(20,0)",
            "timestamp without time zone",
            "timestamp without time zone",
            "timestamp with time zone",
            "text",
            "text",
        ];
        assert_eq!(names(&source), expected);
        let sniffed = sniff(&source, &SniffOptions::default()).unwrap();
        let targets = sniffed.targets();
        let batches: Vec<_> =
            read(&source, &sniffed, &targets, &ReadOptions::default(), None).unwrap().map(Result::unwrap).collect();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [2, 1]);
        for (column, target) in batches[0].columns().iter().zip(&targets) {
            assert_eq!(*column.data_type(), target.column.ty.column.arrow());
        }
        assert_eq!(batches[0].column(2).as_primitive::<TimestampMicrosecondType>().value(0), 1);
        assert_eq!(batches[0].column(4).as_primitive::<TimestampMicrosecondType>().value(1), 2);
        assert!(source.bytes_read() > 0);
    }

    #[test]
    fn values_that_do_not_fit_are_rejects_by_row() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.parquet");
        let text = StringArray::from(vec![Some("1"), Some("x"), None, Some("4")]);
        write(&path, vec![("n", Arc::new(Int64Array::from(vec![1, 2, 3, 1 << 40]))), ("t", Arc::new(text))], 3);
        let source = Source::open(&path).unwrap();
        let sniffed = sniff(&source, &SniffOptions::default()).unwrap();
        let mut targets = sniffed.targets();
        targets[0].column.ty = ColumnType::Int32.into();
        targets[1].column.ty = ColumnType::Int64.into();
        targets[1].column.nullable = false;
        let rejects = Arc::new(Mutex::new(Vec::new()));
        let kept = rejects.clone();
        let on_reject = Box::new(move |row: &crate::files::RejectedRow| {
            kept.lock().unwrap().push((
                row.reject.line,
                row.reject.reason.sqlstate,
                String::from_utf8(row.reject.raw.clone()).unwrap(),
            ));
            Ok(())
        });
        let batches: Vec<_> = read(&source, &sniffed, &targets, &ReadOptions::default(), Some(on_reject))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(batches.len(), 1);
        assert_eq!(batches[0].column(0).as_any().downcast_ref::<Int32Array>().unwrap().values(), &[1]);
        let expected =
            [(2, "22P02", "2,x".to_owned()), (3, "23502", "3,".to_owned()), (4, "22003", "1099511627776,4".to_owned())];
        assert_eq!(*rejects.lock().unwrap(), expected);
    }

    #[test]
    fn a_column_that_would_change_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.parquet");
        write(&path, vec![("x", Arc::new(arrow::array::Float64Array::from(vec![1.5])))], 10);
        let source = Source::open(&path).unwrap();
        let sniffed = sniff(&source, &SniffOptions::default()).unwrap();
        let mut targets = sniffed.targets();
        targets[0].column.ty = ColumnType::Int64.into();
        assert_eq!(read(&source, &sniffed, &targets, &ReadOptions::default(), None).unwrap_err().sqlstate(), "42804");
    }

    #[test]
    fn a_file_that_is_cut_or_damaged_anywhere_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.parquet");
        let numbers: Vec<i64> = (0..5000).map(|i| i * 7919 % 1013).collect();
        write(&path, vec![("n", Arc::new(Int64Array::from(numbers)))], 1000);
        let whole = std::fs::read(&path).unwrap();
        let outcome = |bytes: &[u8]| -> Result<usize, SqlError> {
            std::fs::write(&path, bytes).unwrap();
            let source = Source::open(&path)?;
            let sniffed = sniff(&source, &SniffOptions::default())?;
            read(&source, &sniffed, &sniffed.targets(), &ReadOptions::default(), None)?.map(|b| Ok(b?.num_rows())).sum()
        };
        assert_eq!(outcome(&whole).unwrap(), 5000);
        for cut in [0, 3, 4, 8, 100, whole.len() / 2, whole.len() - 9, whole.len() - 1] {
            let error = outcome(&whole[..cut]).unwrap_err();
            assert_eq!(error.sqlstate(), "22P04", "cut at {cut}: {error}");
        }
        for at in (0..whole.len()).step_by(97) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            // An error or an answer (Parquet's checksums are optional), but always an end.
            let _either = outcome(&bytes);
        }
    }
}
