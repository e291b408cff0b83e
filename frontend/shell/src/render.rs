/*!
Results as text: one file a format.

Every format streams: a result larger than memory can be written, and the first rows are out before the last are read. The
table alone looks ahead, at most [`table::LOOK_AHEAD_ROWS`] rows, to know how wide its columns are.
*/

pub(crate) mod delimited;
pub(crate) mod json;
pub(crate) mod markdown;
pub(crate) mod table;
pub(crate) mod vertical;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use clap::ValueEnum;
use omendb_sql::{SqlError, text};
use std::io::Write;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// A table fitted to the terminal, types under names
    #[default]
    Table,
    /// One line a column, a block a row
    Vertical,
    /// Comma-separated, with a header
    Csv,
    /// Tab-separated, with a header
    Tsv,
    /// One array of objects
    Json,
    /// One object a line
    Ndjson,
    /// A Markdown table
    Markdown,
}

/// What a format may take into account.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Columns of the terminal; `None` away from one, where nothing is cut.
    pub width: Option<usize>,
    /// Most rows of a table that are shown; `None` for all.
    pub rows_max: Option<usize>,
    /// How NULL looks in tables.
    pub null: String,
    /// Whether "n rows" follows a table.
    pub footer: bool,
    /// Whether types stand under the names of a table.
    pub types: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { width: None, rows_max: None, null: "NULL".into(), footer: true, types: true }
    }
}

/// Why a result could not be written to its end.
#[derive(Debug)]
pub(crate) enum RenderError {
    /// The query failed on the way.
    Sql(SqlError),
    /// The reader of our output went away, or the disk is full.
    Output(std::io::Error),
}

impl From<SqlError> for RenderError {
    fn from(e: SqlError) -> Self {
        RenderError::Sql(e)
    }
}

impl From<std::io::Error> for RenderError {
    fn from(e: std::io::Error) -> Self {
        RenderError::Output(e)
    }
}

/// Batches of a result, or the error that ends it.
pub(crate) type Batches<'a> = &'a mut dyn Iterator<Item = Result<RecordBatch, SqlError>>;

/// Writes a whole result; gives the number of rows.
///
/// # Errors
/// The query's, or the output's; what was written before it stays written.
pub(crate) fn render(
    format: Format,
    schema: &SchemaRef,
    rows: Batches<'_>,
    options: &Options,
    out: &mut dyn Write,
) -> Result<u64, RenderError> {
    let count = match format {
        Format::Table => table::render(schema, rows, options, out),
        Format::Vertical => vertical::render(schema, rows, options, out),
        Format::Csv => delimited::render(delimited::Kind::Csv, schema, rows, out),
        Format::Tsv => delimited::render(delimited::Kind::Tsv, schema, rows, out),
        Format::Json => json::render(json::Kind::Array, schema, rows, out),
        Format::Ndjson => json::render(json::Kind::Lines, schema, rows, out),
        Format::Markdown => markdown::render(schema, rows, out),
    }?;
    out.flush()?;
    Ok(count)
}

/// Whether a cell is NULL. A column of type NULL has no bits that say so, and a dictionary may hold NULL among its values.
pub(crate) fn is_null(array: &ArrayRef, row: usize) -> bool {
    match array.data_type() {
        DataType::Null => true,
        DataType::Dictionary(..) | DataType::RunEndEncoded(..) | DataType::Union(..) => {
            array.slice(row, 1).logical_null_count() > 0
        }
        _ => array.is_null(row),
    }
}

/// Appends the cell's text, or `null`.
pub(crate) fn cell(array: &ArrayRef, row: usize, field: &FieldRef, null: &str, out: &mut String) {
    if is_null(array, row) {
        out.push_str(null);
    } else {
        text::format(array, row, field, out);
    }
}

/// Whether a column's values are numbers: written to the right of their column, and bare in JSON.
pub(crate) fn is_number(ty: &DataType) -> bool {
    ty.is_numeric()
}

/// Text on one line: line ends, tabs and other control characters are written as escapes.
pub(crate) fn one_line(cell: &str, out: &mut String) {
    for c in cell.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
}

/// "1 row", "3,000 rows".
pub(crate) fn rows_text(count: u64) -> String {
    let unit = if count == 1 { "row" } else { "rows" };
    format!("{} {unit}", omendb_cli::size::count(count))
}

pub(crate) fn as_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use arrow::array::{BooleanArray, Float64Array, Int64Array, StringViewArray};
    use arrow::datatypes::{Field, Schema};
    use std::sync::Arc;

    /// Three rows of four types, with a NULL in each column of the last.
    pub(crate) fn sample() -> (SchemaRef, Vec<RecordBatch>) {
        let schema = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("name", DataType::Utf8View, true),
            Field::new("loss", DataType::Float64, true),
            Field::new("ok", DataType::Boolean, true),
        ]));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![Some(1), Some(-20), None])),
            Arc::new(StringViewArray::from(vec![Some("plain"), Some("a, \"b\"\n|c|"), None])),
            Arc::new(Float64Array::from(vec![Some(0.5), Some(f64::NAN), None])),
            Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
        ];
        let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
        (schema, vec![batch.slice(0, 2), batch.slice(2, 1)])
    }

    pub(crate) fn rendered(format: Format, options: &Options) -> String {
        let (schema, batches) = sample();
        let mut out = Vec::new();
        let count = render(format, &schema, &mut batches.into_iter().map(Ok), options, &mut out).unwrap();
        assert_eq!(count, 3);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn csv_quotes_what_must_be_and_tells_empty_from_null() {
        let text = rendered(Format::Csv, &Options::default());
        assert_eq!(text, "id,name,loss,ok\n1,plain,0.5,t\n-20,\"a, \"\"b\"\"\n|c|\",NaN,f\n,,,\n");
    }

    #[test]
    fn tsv_escapes_tabs_and_line_ends() {
        let text = rendered(Format::Tsv, &Options::default());
        assert_eq!(text, "id\tname\tloss\tok\n1\tplain\t0.5\tt\n-20\ta, \"b\"\\n|c|\tNaN\tf\n\t\t\t\n");
    }

    #[test]
    fn json_keeps_numbers_bare_and_nan_as_text() {
        let text = rendered(Format::Json, &Options::default());
        assert_eq!(
            text,
            "[{\"id\":1,\"name\":\"plain\",\"loss\":0.5,\"ok\":true},\n{\"id\":-20,\"name\":\"a, \\\"b\\\"\\n|c|\",\"loss\":\"NaN\",\"ok\":false},\n{\"id\":null,\"name\":null,\"loss\":null,\"ok\":null}]\n"
        );
        assert_eq!(rendered(Format::Ndjson, &Options::default()).lines().count(), 3);
    }

    #[test]
    fn markdown_escapes_pipes() {
        let text = rendered(Format::Markdown, &Options::default());
        assert_eq!(
            text,
            "| id | name | loss | ok |\n|---:|---|---:|---|\n| 1 | plain | 0.5 | t |\n| -20 | a, \"b\"\\n\\|c\\| | NaN | f |\n|  |  |  |  |\n"
        );
    }

    #[test]
    fn vertical_writes_a_block_a_row() {
        let text = rendered(Format::Vertical, &Options::default());
        assert!(text.starts_with("─[ row 1 ]─"), "{text}");
        assert!(text.contains("name │ a, \"b\"\n     │ |c|\n"), "{text}");
    }
}
