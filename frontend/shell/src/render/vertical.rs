/*!
One line a column, one block a row: for rows too wide to read across.
*/

use super::{Batches, Options, RenderError, as_u64, cell, rows_text};
use arrow::datatypes::SchemaRef;
use std::io::Write;
use unicode_width::UnicodeWidthStr;

/// Writes the blocks.
pub(super) fn render(
    schema: &SchemaRef,
    rows: Batches<'_>,
    options: &Options,
    out: &mut dyn Write,
) -> Result<u64, RenderError> {
    let name_width = schema.fields().iter().map(|f| f.name().width()).max().unwrap_or(0);
    let (mut count, mut value) = (0u64, String::new());
    for batch in rows {
        let batch = batch?;
        let mut text = String::new();
        for row in 0..batch.num_rows() {
            let heading = format!("─[ row {} ]", count + as_u64(row) + 1);
            let rule = (name_width + 20).saturating_sub(heading.width());
            text.push_str(&format!("{heading}{}\n", "─".repeat(rule.max(1))));
            for (array, field) in batch.columns().iter().zip(schema.fields()) {
                value.clear();
                cell(array, row, field, &options.null, &mut value);
                let blank = " ".repeat(name_width - field.name().width().min(name_width));
                text.push_str(&format!("{}{blank} │ ", field.name()));
                text.push_str(&value.replace('\n', &format!("\n{} │ ", " ".repeat(name_width))));
                text.push('\n');
            }
        }
        out.write_all(text.as_bytes())?;
        out.flush()?;
        count += as_u64(batch.num_rows());
    }
    if options.footer {
        writeln!(out, "{}", rows_text(count))?;
    }
    Ok(count)
}
