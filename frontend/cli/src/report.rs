/*!
An error as a person reads it: what, where (a caret under the SQL), why, and what to do.

```text
error: column "lss" does not exist [42703]
  |
2 | SELECT lss FROM metrics
  |        ^
hint: did you mean "loss"?
```
*/

use crate::Colour;
use omendb_sql::SqlError;
use unicode_width::UnicodeWidthStr;

/// Widest excerpt of a statement that is shown: a longer line is cut around the caret.
const EXCERPT_WIDTH_MAX: usize = 100;

/// The report of an error in `sql`, several lines, the last without a line end. Without `sql` there is no excerpt.
pub fn render(error: &SqlError, sql: Option<&str>, colour: Colour) -> String {
    let mut out =
        format!("{} {} {}", colour.error("error:"), error.message(), colour.faint(&format!("[{}]", error.sqlstate())));
    if let (Some(sql), Some(position)) = (sql, error.position()) {
        out.push_str(&excerpt(sql, position, colour));
    }
    if let Some(detail) = error.detail() {
        out.push_str(&format!("\n{} {detail}", colour.strong("detail:")));
    }
    if let Some(hint) = error.hint() {
        out.push_str(&format!("\n{} {hint}", colour.note("hint:")));
    }
    out
}

/// The line of `sql` around byte `position`, with a caret under it.
fn excerpt(sql: &str, position: usize, colour: Colour) -> String {
    let position = floor_char_boundary(sql, position);
    let (before, after) = sql.split_at_checked(position).unwrap_or((sql, ""));
    let line_number = before.matches('\n').count() + 1;
    let before = before.rsplit('\n').next().unwrap_or("").replace('\t', " ");
    let after = after.split('\n').next().unwrap_or("").replace('\t', " ");
    let before = last_chars(&before, EXCERPT_WIDTH_MAX * 2 / 3);
    let after: String = after.chars().take(EXCERPT_WIDTH_MAX / 3).collect();
    let gutter = line_number.to_string();
    let blank = " ".repeat(gutter.len());
    let indent = " ".repeat(before.width());
    format!(
        "\n{}\n{} {before}{after}\n{} {indent}{}",
        colour.faint(&format!("{blank} |")),
        colour.faint(&format!("{gutter} |")),
        colour.faint(&format!("{blank} |")),
        colour.error("^")
    )
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
        check("SELECT '日本', x", 17, "error: no such column [42703]\n  |\n1 | SELECT '日本', x\n  |                ^\nhint: look again");
        check("x", 99, "error: no such column [42703]\n  |\n1 | x\n  |  ^\nhint: look again");
    }
}
