/*!
CSV as RFC 4180 has it, and TSV.

CSV: NULL is an empty field, an empty text is `""`, so that a reader can tell them apart. TSV has no quotes: tabs, line
ends and backslashes are written `\t`, `\n`, `\r`, `\\`.
*/

use super::{Batches, RenderError, as_u64, cell, is_null};
use arrow::datatypes::SchemaRef;
use std::io::Write;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Comma-separated.
    Csv,
    /// Tab-separated.
    Tsv,
}

/// Writes header and rows.
pub(super) fn render(
    kind: Kind,
    schema: &SchemaRef,
    rows: Batches<'_>,
    out: &mut dyn Write,
) -> Result<u64, RenderError> {
    let separator = if kind == Kind::Csv { ',' } else { '\t' };
    let mut line = String::new();
    for (place, field) in schema.fields().iter().enumerate() {
        if place > 0 {
            line.push(separator);
        }
        push(kind, field.name(), &mut line);
    }
    line.push('\n');
    out.write_all(line.as_bytes())?;
    let (mut count, mut value) = (0, String::new());
    for batch in rows {
        let batch = batch?;
        line.clear();
        for row in 0..batch.num_rows() {
            for (place, (array, field)) in batch.columns().iter().zip(schema.fields()).enumerate() {
                if place > 0 {
                    line.push(separator);
                }
                if !is_null(array, row) {
                    value.clear();
                    cell(array, row, field, "", &mut value);
                    push(kind, &value, &mut line);
                }
            }
            line.push('\n');
        }
        out.write_all(line.as_bytes())?;
        out.flush()?;
        count += as_u64(batch.num_rows());
    }
    Ok(count)
}

fn push(kind: Kind, value: &str, line: &mut String) {
    match kind {
        Kind::Csv if value.is_empty() || value.contains([',', '"', '\n', '\r']) => {
            line.push('"');
            line.push_str(&value.replace('"', "\"\""));
            line.push('"');
        }
        Kind::Csv => line.push_str(value),
        Kind::Tsv => {
            for c in value.chars() {
                match c {
                    '\t' => line.push_str("\\t"),
                    '\n' => line.push_str("\\n"),
                    '\r' => line.push_str("\\r"),
                    '\\' => line.push_str("\\\\"),
                    c => line.push(c),
                }
            }
        }
    }
}
