/*!
The table: names, types under them, numbers to the right, fitted to the terminal.

```text
┌────────┬────────┬──────────────────┐
│ origin │      n │                d │
│ text   │ bigint │ double precision │
├────────┼────────┼──────────────────┤
│ ORD    │ 176224 │              9.5 │
└────────┴────────┴──────────────────┘
5 rows
```

Too wide: the widest columns are cut first, then columns are left out of the middle. Too long: the middle is left out, and
the last line says how many rows there are and how many are shown. Where every row is shown, widths come from the first
[`LOOK_AHEAD_ROWS`]; a later cell that is wider pushes its line out rather than being cut.
*/

use super::{Batches, Options, RenderError, as_u64, cell, is_number, one_line, rows_text};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use omendb_sql::text;
use std::collections::VecDeque;
use std::io::Write;
use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// Rows that are read before the first is written, to know the widths.
pub(crate) const LOOK_AHEAD_ROWS: usize = 1_000;

/// Narrowest that a column is cut to before columns are left out.
const COLUMN_WIDTH_MIN: usize = 8;

type Cells = Vec<String>;

/// Writes the table.
pub(super) fn render(
    schema: &SchemaRef,
    rows: Batches<'_>,
    options: &Options,
    out: &mut dyn Write,
) -> Result<u64, RenderError> {
    match options.rows_max {
        Some(max) => cut_in_the_middle(schema, rows, options, max.max(2), out),
        None => every_row(schema, rows, options, out),
    }
}

/// How wide the table would be if nothing were cut.
pub(crate) fn natural_width(schema: &SchemaRef, batches: &[RecordBatch], options: &Options) -> usize {
    let rows = |batch: &RecordBatch| (0..batch.num_rows()).map(|row| cells(schema, batch, row, options)).collect();
    let rows: Vec<Cells> = batches.iter().flat_map(|batch| -> Vec<Cells> { rows(batch) }).collect();
    Layout::new(schema, rows.iter(), &Options { width: None, ..options.clone() }).width()
}

/// The first and the last rows, with a gap between when there are more than `max`.
fn cut_in_the_middle(
    schema: &SchemaRef,
    rows: Batches<'_>,
    options: &Options,
    max: usize,
    out: &mut dyn Write,
) -> Result<u64, RenderError> {
    let (mut first, mut last, mut count) = (Vec::<Cells>::new(), VecDeque::<Cells>::new(), 0usize);
    let keep_first = max / 2;
    for batch in rows {
        let batch = batch?;
        let total = batch.num_rows();
        // Only rows that may end up shown are turned into text.
        for row in 0..total {
            if first.len() < keep_first {
                first.push(cells(schema, &batch, row, options));
            } else if total - row <= max - keep_first {
                last.push_back(cells(schema, &batch, row, options));
                if last.len() > max - keep_first {
                    last.pop_front();
                }
            }
        }
        count += total;
    }
    let shown = first.len() + last.len();
    let layout = Layout::new(schema, first.iter().chain(&last), options);
    layout.head(out)?;
    first.iter().try_for_each(|row| layout.row(row, out))?;
    if count > shown {
        layout.gap(out)?;
    }
    last.iter().try_for_each(|row| layout.row(row, out))?;
    layout.foot(out)?;
    layout.summary(as_u64(count), (count > shown).then_some(as_u64(shown)), options, out)?;
    Ok(as_u64(count))
}

/// Every row, written as they come once the widths are known.
fn every_row(
    schema: &SchemaRef,
    rows: Batches<'_>,
    options: &Options,
    out: &mut dyn Write,
) -> Result<u64, RenderError> {
    let (mut ahead, mut layout, mut count) = (Vec::<Cells>::new(), None, 0u64);
    for batch in rows {
        let batch = batch?;
        for row in 0..batch.num_rows() {
            let cells = cells(schema, &batch, row, options);
            match &layout {
                Some(layout) => Layout::row(layout, &cells, out)?,
                None => ahead.push(cells),
            }
            if layout.is_none() && ahead.len() >= LOOK_AHEAD_ROWS {
                layout = Some(begin(schema, &mut ahead, options, out)?);
            }
        }
        count += as_u64(batch.num_rows());
    }
    let layout = match layout {
        Some(layout) => layout,
        None => begin(schema, &mut ahead, options, out)?,
    };
    layout.foot(out)?;
    layout.summary(count, None, options, out)?;
    Ok(count)
}

fn begin(
    schema: &SchemaRef,
    ahead: &mut Vec<Cells>,
    options: &Options,
    out: &mut dyn Write,
) -> Result<Layout, RenderError> {
    let layout = Layout::new(schema, ahead.iter(), options);
    layout.head(out)?;
    ahead.drain(..).try_for_each(|row| layout.row(&row, out))?;
    Ok(layout)
}

fn cells(schema: &SchemaRef, batch: &RecordBatch, row: usize, options: &Options) -> Cells {
    let mut value = String::new();
    let text = |(array, field)| {
        value.clear();
        cell(array, row, field, &options.null, &mut value);
        let mut line = String::with_capacity(value.len());
        one_line(&value, &mut line);
        line
    };
    batch.columns().iter().zip(schema.fields()).map(text).collect()
}

/// One column as it is shown.
struct Column {
    /// Its place in the rows; `None` for the gap where columns are left out.
    place: Option<usize>,
    name: String,
    ty: String,
    width: usize,
    right: bool,
}

/// The shown columns and their widths.
struct Layout {
    columns: Vec<Column>,
    hidden: usize,
    /// Whether a cell that is wider than its column is cut.
    cuts: bool,
    /// Whether types stand under the names.
    types: bool,
}

impl Layout {
    fn new<'a>(schema: &SchemaRef, rows: impl Iterator<Item = &'a Cells>, options: &Options) -> Layout {
        let mut columns: Vec<Column> = Vec::new();
        for (place, field) in schema.fields().iter().enumerate() {
            let mut name = String::new();
            one_line(field.name(), &mut name);
            let ty = if options.types { text::type_name(field) } else { String::new() };
            let (width, right) = (name.width().max(ty.width()), is_number(field.data_type()));
            columns.push(Column { place: Some(place), name, ty, width, right });
        }
        for row in rows {
            for (column, cell) in columns.iter_mut().zip(row) {
                column.width = column.width.max(cell.width());
            }
        }
        let mut layout = Layout { columns, hidden: 0, cuts: false, types: options.types };
        if let Some(width) = options.width {
            layout.fit(width);
        }
        layout
    }

    /// Characters of a whole line: each column with its padding and its left border, and the last border.
    fn width(&self) -> usize {
        self.columns.iter().map(|c| c.width + 3).sum::<usize>() + 1
    }

    fn fit(&mut self, width: usize) {
        if self.width() <= width {
            return;
        }
        self.cuts = true;
        // The largest cap on widths with which the table fits; the narrowest cap if none does.
        let capped = |cap: usize, columns: &[Column]| columns.iter().map(|c| c.width.min(cap) + 3).sum::<usize>() + 1;
        let mut cap = COLUMN_WIDTH_MIN;
        while capped(cap + 1, &self.columns) <= width {
            cap += 1;
        }
        for column in &mut self.columns {
            column.width = column.width.min(cap);
        }
        let all = self.columns.len();
        while self.width() > width && self.columns.len() > 2 {
            let middle = self.columns.len() / 2;
            let gap = Column { place: None, name: "…".into(), ty: String::new(), width: 1, right: false };
            if self.hidden == 0
                && let Some(column) = self.columns.get_mut(middle)
            {
                *column = gap;
                self.hidden = 1;
            } else {
                let at = self.columns.iter().position(|c| c.place.is_none()).unwrap_or(middle);
                let (before, after) = (at, self.columns.len() - at - 1);
                self.columns.remove(if after > before { at + 1 } else { at.saturating_sub(1) });
                self.hidden = all - self.columns.len() + 1;
            }
        }
    }

    fn head(&self, out: &mut dyn Write) -> std::io::Result<()> {
        self.rule('┌', '┬', '┐', out)?;
        self.line(|c| c.name.clone(), out)?;
        if self.types {
            self.line(|c| c.ty.clone(), out)?;
        }
        self.rule('├', '┼', '┤', out)
    }

    fn row(&self, cells: &Cells, out: &mut dyn Write) -> Result<(), RenderError> {
        let text = |c: &Column| c.place.and_then(|p| cells.get(p)).map_or("…", String::as_str).to_owned();
        Ok(self.line(text, out)?)
    }

    fn gap(&self, out: &mut dyn Write) -> std::io::Result<()> {
        self.line(|_| "·".to_owned(), out)
    }

    fn foot(&self, out: &mut dyn Write) -> std::io::Result<()> {
        self.rule('└', '┴', '┘', out)
    }

    fn summary(&self, count: u64, shown: Option<u64>, options: &Options, out: &mut dyn Write) -> std::io::Result<()> {
        if !options.footer {
            return Ok(());
        }
        let mut line = rows_text(count);
        if let Some(shown) = shown {
            line = format!("… {line}, {} shown", omendb_cli::size::count(shown));
        }
        if self.hidden > 0 {
            line.push_str(&format!("; {} columns not shown", self.hidden));
        }
        writeln!(out, "{line}")
    }

    fn line(&self, text: impl Fn(&Column) -> String, out: &mut dyn Write) -> std::io::Result<()> {
        let mut line = String::new();
        for column in &self.columns {
            let mut cell = text(column);
            if self.cuts && cell.width() > column.width {
                cell = cut(&cell, column.width);
            }
            let blank = " ".repeat(column.width.saturating_sub(cell.width()));
            line.push_str("│ ");
            match column.right {
                true => line.extend([blank.as_str(), cell.as_str()]),
                false => line.extend([cell.as_str(), blank.as_str()]),
            }
            line.push(' ');
        }
        line.push_str("│\n");
        out.write_all(line.as_bytes())
    }

    fn rule(&self, left: char, middle: char, right: char, out: &mut dyn Write) -> std::io::Result<()> {
        let mut line = String::from(left);
        for (place, column) in self.columns.iter().enumerate() {
            if place > 0 {
                line.push(middle);
            }
            line.push_str(&"─".repeat(column.width + 2));
        }
        line.push(right);
        line.push('\n');
        out.write_all(line.as_bytes())
    }
}

/// The first graphemes of `cell` that fit into `width` with an ellipsis after them.
fn cut(cell: &str, width: usize) -> String {
    let (mut out, mut used) = (String::new(), 0);
    for grapheme in cell.graphemes(true) {
        if used + grapheme.width() + 1 > width {
            break;
        }
        used += grapheme.width();
        out.push_str(grapheme);
    }
    out.push('…');
    out
}

#[cfg(test)]
mod tests {
    use crate::render::tests::rendered;
    use crate::render::{Format, Options, render};
    use arrow::array::{Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Schema};
    use std::sync::Arc;
    use unicode_width::UnicodeWidthStr;

    #[test]
    fn types_stand_under_names_and_numbers_to_the_right() {
        let text = rendered(Format::Table, &Options::default());
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[2].starts_with("│ bigint │ text"), "{text}");
        assert!(lines[4].starts_with("│      1 │ plain"), "{text}");
        assert!(lines[6].starts_with("│   NULL │ NULL"), "{text}");
        assert_eq!(lines[8], "3 rows");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in 30..90 {
            let text = rendered(Format::Table, &Options { width: Some(width), ..Options::default() });
            for line in text.lines().filter(|l| l.starts_with(['│', '┌', '├', '└'])) {
                assert!(line.width() <= width, "width {width}:\n{text}");
            }
        }
    }

    #[test]
    fn a_long_result_loses_its_middle_and_says_so() {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let batch = |from: i64| {
            RecordBatch::try_new(schema.clone(), vec![Arc::new(Int64Array::from_iter_values(from..from + 500))])
                .unwrap()
        };
        let batches: Vec<_> = (0..10).map(|i| Ok(batch(i * 500))).collect();
        let mut out = Vec::new();
        let options = Options { rows_max: Some(10), ..Options::default() };
        let count = render(Format::Table, &schema, &mut batches.into_iter(), &options, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(count, 5_000);
        assert!(text.contains("│      4 │\n│      · │\n│   4995 │"), "{text}");
        assert!(text.ends_with("… 5,000 rows, 10 shown\n"), "{text}");
    }
}
