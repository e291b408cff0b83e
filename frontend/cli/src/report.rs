/*!
An error as a person reads it: what, where (a caret under the SQL), why, and what to do.

```text
error: column "lss" does not exist [42703]
 --> report.sql:2:8
  |
2 | SELECT lss FROM metrics
  |        ^
hint: did you mean "loss"?
```
*/

use crate::Colour;
use omendb_sql::SqlError;
use std::io::Write;
use unicode_width::UnicodeWidthStr;

/// Widest excerpt of a statement that is shown: a longer line is cut around the caret.
const EXCERPT_WIDTH_MAX: usize = 100;

/// The statement that an error is about, and where it stands.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Its text.
    pub sql: &'a str,
    /// The script it comes from.
    pub file: Option<&'a str>,
    /// The script's line on which it begins, from 1.
    pub line: usize,
}

/// The report of an error in `sql`, several lines, the last without a line end. Without `sql` there is no excerpt.
pub fn render(error: &SqlError, sql: Option<&str>, colour: Colour) -> String {
    render_at(error, sql.map(|sql| Source { sql, file: None, line: 1 }), colour)
}

/// The same for a statement of a script: the report names the file, and the lines are the script's.
pub fn render_at(error: &SqlError, source: Option<Source<'_>>, colour: Colour) -> String {
    let mut out =
        format!("{} {} {}", colour.error("error:"), error.message(), colour.faint(&format!("[{}]", error.sqlstate())));
    if let Some(source) = source {
        match error.position() {
            Some(position) => out.push_str(&excerpt(source, position, colour)),
            None => out.push_str(&place(source.file, source.line, None, colour)),
        }
    }
    if let Some(detail) = error.detail() {
        out.push_str(&format!("\n{} {detail}", colour.strong("detail:")));
    }
    if let Some(hint) = error.hint() {
        out.push_str(&format!("\n{} {hint}", colour.note("hint:")));
    }
    out
}

/// Writes a line to standard error; nobody there to read it is no trouble.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// ` --> schema.sql:12:8`, on a line of its own; nothing without a file.
fn place(file: Option<&str>, line: usize, column: Option<usize>, colour: Colour) -> String {
    let Some(file) = file else { return String::new() };
    let column = column.map(|column| format!(":{column}")).unwrap_or_default();
    format!("\n{} {file}:{line}{column}", colour.faint(" -->"))
}

/// The line of the statement around byte `position`, with a caret under it.
fn excerpt(source: Source<'_>, position: usize, colour: Colour) -> String {
    let position = floor_char_boundary(source.sql, position);
    let (before, after) = source.sql.split_at_checked(position).unwrap_or((source.sql, ""));
    let line = source.line + before.matches('\n').count();
    let before = before.rsplit('\n').next().unwrap_or("");
    let column = before.chars().count() + 1;
    let before = last_chars(&plain(before), EXCERPT_WIDTH_MAX * 2 / 3);
    let after: String = plain(after.split('\n').next().unwrap_or("")).chars().take(EXCERPT_WIDTH_MAX / 3).collect();
    let gutter = line.to_string();
    let blank = " ".repeat(gutter.len());
    let indent = " ".repeat(before.width());
    format!(
        "{}\n{}\n{} {before}{after}\n{} {indent}{}",
        place(source.file, line, Some(column), colour),
        colour.faint(&format!("{blank} |")),
        colour.faint(&format!("{gutter} |")),
        colour.faint(&format!("{blank} |")),
        colour.error("^")
    )
}

/// Text without characters that would move the cursor or change the terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn floor_char_boundary(text: &str, position: usize) -> usize {
    let mut position = position.min(text.len());
    while position > 0 && !text.is_char_boundary(position) {
        position -= 1;
    }
    position
}

fn last_chars(text: &str, count: usize) -> String {
    let skipped = text.chars().count().saturating_sub(count);
    text.chars().skip(skipped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ColourChoice;

    fn check(sql: &str, position: usize, expected: &str) {
        let error = SqlError::new("42703", "no such column").with_position(position).with_hint("look again");
        let colour = Colour::new(ColourChoice::Never, false);
        assert_eq!(render(&error, Some(sql), colour), expected);
    }

    #[test]
    fn the_caret_stands_under_the_place() {
        check(
            "SELECT a,\n  bb FROM t",
            12,
            "error: no such column [42703]\n  |\n2 |   bb FROM t\n  |   ^\nhint: look again",
        );
    }

    #[test]
    fn wide_characters_and_positions_past_the_end_are_no_trouble() {
        check(
            "SELECT '日本', x",
            17,
            "error: no such column [42703]\n  |\n1 | SELECT '日本', x\n  |                ^\nhint: look again",
        );
        check("x", 99, "error: no such column [42703]\n  |\n1 | x\n  |  ^\nhint: look again");
    }

    #[test]
    fn a_script_is_named_with_its_own_lines() {
        let error = SqlError::new("42703", "no such column").with_position(12);
        let colour = Colour::new(ColourChoice::Never, false);
        let source = Source { sql: "SELECT a,\n  bb FROM t", file: Some("q.sql"), line: 9 };
        let expected = "error: no such column [42703]\n --> q.sql:10:3\n   |\n10 |   bb FROM t\n   |   ^";
        assert_eq!(render_at(&error, Some(source), colour), expected);
    }
}
