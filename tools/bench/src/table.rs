/*!
Tables for people: columns under their names, the first one to the left, numbers to the right.
*/

use crate::result::TableOfFigures;
use serde_json::Value;

/// Rows under `header`. Cells that a row does not have are empty.
pub(crate) fn render(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(String::as_str);
        let widest = cells.chain(header.get(column).copied()).map(|cell| cell.chars().count()).max();
        widest.unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut out = String::new();
        for (column, (width, cell)) in widths.iter().zip(cells).enumerate() {
            out.push_str(if column == 0 { "" } else { "  " });
            let fill = " ".repeat(width.saturating_sub(cell.chars().count()));
            match column {
                0 => out.extend([cell, &fill]),
                _ => out.extend([&fill, cell]),
            }
        }
        out.truncate(out.trim_end().len());
        out + "\n"
    };
    let mut out = line(&mut header.iter().copied());
    rows.iter().for_each(|row| out.push_str(&line(&mut row.iter().map(String::as_str))));
    out
}

/// So many a second: whole from ten on.
pub(crate) fn rate(a_second: f64) -> String {
    if a_second >= 10.0 || a_second == 0.0 { format!("{a_second:.0}") } else { format!("{a_second:.2}") }
}

/// A workload's own table with its title and notes.
pub(crate) fn render_figures(table: &TableOfFigures) -> String {
    let header: Vec<&str> = table.columns.iter().map(String::as_str).collect();
    let rows: Vec<Vec<String>> = table.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
    let mut out = format!("{}\n{}", table.title, render(&header, &rows));
    table.notes.iter().for_each(|note| out.push_str(&format!("{note}\n")));
    out
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "—".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_left_and_numbers_right() {
        let rows = [vec!["get".to_owned(), "1.2 µs".to_owned()], vec!["longer".to_owned(), "17 ns".to_owned()]];
        assert_eq!(render(&["what", "p50"], &rows), "what       p50\nget     1.2 µs\nlonger   17 ns\n");
    }

    #[test]
    fn slow_operations_have_a_rate_too() {
        assert_eq!([0.0, 0.5, 9.999, 10.4, 1234.5].map(rate), ["0", "0.50", "10.00", "10", "1234"]);
    }

    #[test]
    fn figures_keep_their_digits() {
        let table = TableOfFigures {
            title: "t".into(),
            columns: vec!["a".into(), "ns".into()],
            rows: vec![vec![Value::from("x"), Value::from(1.25)], vec![Value::from("y"), Value::Null]],
            notes: vec!["of one run".into()],
        };
        assert_eq!(render_figures(&table), "t\na    ns\nx  1.25\ny     —\nof one run\n");
    }
}
