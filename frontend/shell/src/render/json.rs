/*!
JSON: one array of objects, or one object a line.

Numbers are bare, as PostgreSQL's `to_json` writes them; NaN and infinities, which JSON has not, are strings. Booleans are
`true` and `false`, JSON columns are embedded as they are, everything else is a string of its text form.
*/

use super::{Batches, RenderError, as_u64, cell, is_null, is_number};
use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use std::io::Write;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One array.
    Array,
    /// One object a line.
    Lines,
}

/// Writes all rows.
pub(super) fn render(
    kind: Kind,
    schema: &SchemaRef,
    rows: Batches<'_>,
    out: &mut dyn Write,
) -> Result<u64, RenderError> {
    let names: Vec<String> = schema.fields().iter().map(|f| quoted(f.name())).collect();
    let (mut count, mut text, mut value) = (0u64, String::new(), String::new());
    if kind == Kind::Array {
        out.write_all(b"[")?;
    }
    for batch in rows {
        let batch = batch?;
        text.clear();
        for row in 0..batch.num_rows() {
            if kind == Kind::Array && count + as_u64(row) > 0 {
                text.push_str(",\n");
            }
            text.push('{');
            for (place, (array, field)) in batch.columns().iter().zip(schema.fields()).enumerate() {
                if place > 0 {
                    text.push(',');
                }
                text.push_str(names.get(place).map_or("\"\"", String::as_str));
                text.push(':');
                push(array, row, field, &mut value, &mut text);
            }
            text.push('}');
            if kind == Kind::Lines {
                text.push('\n');
            }
        }
        out.write_all(text.as_bytes())?;
        out.flush()?;
        count += as_u64(batch.num_rows());
    }
    if kind == Kind::Array {
        out.write_all(b"]\n")?;
    }
    Ok(count)
}

fn push(array: &ArrayRef, row: usize, field: &FieldRef, value: &mut String, out: &mut String) {
    if is_null(array, row) {
        out.push_str("null");
        return;
    }
    value.clear();
    cell(array, row, field, "", value);
    let is_json = field.metadata().get("omendb.type").is_some_and(|t| t == "json");
    if *array.data_type() == DataType::Boolean {
        out.push_str(if value.starts_with('t') { "true" } else { "false" });
    } else if is_json || is_number(array.data_type()) && value.ends_with(|c: char| c.is_ascii_digit()) {
        out.push_str(value);
    } else {
        out.push_str(&quoted(value));
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
