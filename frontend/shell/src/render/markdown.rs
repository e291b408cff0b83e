/*!
A Markdown table, numbers aligned to the right; pipes are escaped, line ends written as escapes.
*/

use super::{Batches, RenderError, as_u64, cell, is_number, one_line};
use arrow::datatypes::SchemaRef;
use std::io::Write;

/// Writes the table.
pub(super) fn render(schema: &SchemaRef, rows: Batches<'_>, out: &mut dyn Write) -> Result<u64, RenderError> {
    let mut text = String::new();
    for field in schema.fields() {
        text.push_str("| ");
        push(field.name(), &mut text);
        text.push(' ');
    }
    text.push_str("|\n");
    for field in schema.fields() {
        text.push_str(if is_number(field.data_type()) { "|---:" } else { "|---" });
    }
    text.push_str("|\n");
    out.write_all(text.as_bytes())?;
    let (mut count, mut value) = (0, String::new());
    for batch in rows {
        let batch = batch?;
        text.clear();
        for row in 0..batch.num_rows() {
            for (array, field) in batch.columns().iter().zip(schema.fields()) {
                value.clear();
                cell(array, row, field, "", &mut value);
                text.push_str("| ");
                push(&value, &mut text);
                text.push(' ');
            }
            text.push_str("|\n");
        }
        out.write_all(text.as_bytes())?;
        out.flush()?;
        count += as_u64(batch.num_rows());
    }
    Ok(count)
}

fn push(value: &str, out: &mut String) {
    let mut line = String::new();
    one_line(value, &mut line);
    out.push_str(&line.replace('|', "\\|"));
}
