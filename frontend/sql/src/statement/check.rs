/*!
CHECK DATABASE: the engine reads everything that it has on the device, and each thing that is wrong becomes a row.

The parser does not know the statement, so it is recognised before it is parsed.
*/

use crate::error::Result;
use crate::running::Running;
use crate::session::{Inner, Outcome, Rows};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use omendb_engine::db::CheckReport;
use std::sync::Arc;

/// A statement longer than this is another one, whatever its comments say.
const TEXT_BYTES_MAX: usize = 4096;

/// Whether the text is this statement.
pub(crate) fn is_check(sql: &str) -> bool {
    if sql.len() > TEXT_BYTES_MAX || !sql.as_bytes().windows(5).any(|word| word.eq_ignore_ascii_case(b"check")) {
        return false;
    }
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize().unwrap_or_default();
    let mut tokens = tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_) | Token::SemiColon));
    let mut is_word = |word: &str| match tokens.next() {
        Some(Token::Word(found)) => found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word),
        _ => false,
    };
    is_word("check") && is_word("database") && tokens.next().is_none()
}

/// Runs it.
///
/// # Errors
/// 57014 when it is stopped; 58030 when the directory cannot be read.
pub(crate) fn run(session: &Arc<Inner>) -> Result<Outcome> {
    let running: Arc<Running> = session.begin_statement()?;
    let report = session.database.engine.check_until(&|| running.check().is_err())?;
    running.check()?;
    rows(&report)
}

fn rows(report: &CheckReport) -> Result<Outcome> {
    let problems = report.problems.iter().map(|p| ("problem", &p.file, p.offset, &p.what, p.advice.as_str()));
    let notes = report.notes.iter().map(|n| ("note", &n.file, n.offset, &n.what, ""));
    let (mut kinds, mut files, mut offsets, mut whats, mut advices) = (vec![], vec![], vec![], vec![], vec![]);
    for (kind, file, offset, what, advice) in problems.chain(notes) {
        kinds.push(kind);
        files.push(file.display().to_string());
        offsets.push(offset.and_then(|offset| i64::try_from(offset).ok()));
        whats.push(what.as_str());
        advices.push(Some(advice).filter(|advice| !advice.is_empty()));
    }
    let text = |name: &str, nullable| Field::new(name, DataType::Utf8View, nullable);
    let schema = Arc::new(Schema::new(vec![
        text("kind", false),
        text("file", false),
        Field::new("file_offset", DataType::Int64, true),
        text("what", false),
        text("advice", true),
    ]));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from_iter_values(kinds)),
        Arc::new(StringViewArray::from_iter_values(files)),
        Arc::new(Int64Array::from(offsets)),
        Arc::new(StringViewArray::from_iter_values(whats)),
        Arc::new(StringViewArray::from_iter(advices)),
    ];
    let batch = RecordBatch::try_new(schema.clone(), columns)?;
    Ok(Outcome::Rows(Rows::ready(schema, vec![batch])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_is_known_in_any_spelling() {
        for sql in ["CHECK DATABASE", "check  database ;", "-- all of it\nCheck /* now */ Database"] {
            assert!(is_check(sql), "{sql}");
        }
        for sql in ["CHECK", "CHECK TABLE t", "CHECK DATABASE x", "SELECT 'check database'", "\"check\" database"] {
            assert!(!is_check(sql), "{sql}");
        }
    }
}
