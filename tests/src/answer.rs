/*!
Answers as text, and how two of them compare.

Answers come from different systems: a cell is equal when its text is, or when both are numbers closer than one part in
10⁹ (sums of doubles depend on their order), or when both are the same timestamp written with and without its zero time.
*/

use omendb_sql::{Outcome, Session, text};

/// A result: names of the columns, then rows of cells. NULL is `NULL`.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The columns' names.
    pub names: Vec<String>,
    /// The rows' cells.
    pub rows: Vec<Vec<String>>,
}

/// Runs one statement and gives its answer; a statement without rows gives its tag as the only cell.
///
/// # Errors
/// The statement's error, as text with its SQLSTATE.
pub fn ask(session: &Session, sql: &str) -> Result<Answer, String> {
    let told = |e: omendb_sql::SqlError| format!("{}: {}", e.sqlstate(), e.message());
    match session.execute(sql).map_err(told)? {
        Outcome::Done(done) => Ok(Answer { names: vec!["tag".into()], rows: vec![vec![done.tag]] }),
        Outcome::Rows(rows) => {
            let schema = rows.schema();
            let names = schema.fields().iter().map(|f| f.name().clone()).collect();
            let mut out = Vec::new();
            for batch in rows {
                let batch = batch.map_err(told)?;
                for row in 0..batch.num_rows() {
                    let cell = |(array, field): (&arrow::array::ArrayRef, &arrow::datatypes::FieldRef)| {
                        let mut cell = String::new();
                        match array.is_null(row) {
                            true => cell.push_str("NULL"),
                            false => text::format(array, row, field, &mut cell),
                        }
                        cell
                    };
                    out.push(batch.columns().iter().zip(schema.fields()).map(cell).collect());
                }
            }
            Ok(Answer { names, rows: out })
        }
    }
}

/// Reads an answer from CSV text, the first line of which names the columns.
pub fn from_csv(text: &str) -> Answer {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let mut lines = reader.records().map(|r| match r {
        Ok(record) => record.iter().map(str::to_owned).collect::<Vec<_>>(),
        Err(e) => vec![format!("unreadable: {e}")],
    });
    Answer { names: lines.next().unwrap_or_default(), rows: lines.collect() }
}

/// The first difference between two answers, as a sentence; `None` when they are equal.
pub fn difference(got: &Answer, expected: &Answer) -> Option<String> {
    if got.names.len() != expected.names.len() {
        return Some(format!("columns {:?}, expected {:?}", got.names, expected.names));
    }
    if got.rows.len() != expected.rows.len() {
        return Some(format!("{} rows, expected {}", got.rows.len(), expected.rows.len()));
    }
    for (number, (a, b)) in got.rows.iter().zip(&expected.rows).enumerate() {
        if a.len() != b.len() || !a.iter().zip(b).all(|(x, y)| same(x, y)) {
            return Some(format!("row {number}: {a:?}, expected {b:?}"));
        }
    }
    None
}

fn same(a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(x), Ok(y)) => (x - y).abs() <= 1e-9 * x.abs().max(y.abs()),
        _ => a.trim_end_matches(" 00:00:00") == b.trim_end_matches(" 00:00:00"),
    }
}
