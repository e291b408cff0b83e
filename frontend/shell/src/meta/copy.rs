/*!
`\copy T FROM FILE`: the COPY statement, whose file is on this side anyway. The name of the file may go without quotes.
*/

use super::words::Arguments;
use crate::lexer::{Kind, tokens};
use crate::shell::{Shell, Step};

/// The command.
pub(super) fn copy(shell: &mut Shell, arguments: &Arguments<'_>) -> Step {
    if arguments.text.is_empty() {
        return Err(shell.fail(arguments.place, "this command wants what COPY wants", Some("\\copy t FROM 'x.csv'")));
    }
    shell.statement(&statement(arguments.text), arguments.place)
}

fn statement(text: &str) -> String {
    let text = text.trim().trim_end_matches(';').trim_end();
    let (tokens, _) = tokens(text);
    let mut depth = 0_usize;
    for token in &tokens {
        match token.text(text) {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            word if depth == 0 && (word.eq_ignore_ascii_case("from") || word.eq_ignore_ascii_case("to")) => {
                let (before, behind) = text.split_at_checked(token.range.end).unwrap_or((text, ""));
                return format!("COPY {before} {}", quoted(behind.trim_start()));
            }
            _ => {}
        }
    }
    format!("COPY {text}")
}

/// The name of the file in quotes, and what follows it.
fn quoted(behind: &str) -> String {
    let is_quoted = tokens(behind).0.first().is_some_and(|first| first.kind == Kind::Text);
    let end = behind.find(char::is_whitespace).unwrap_or(behind.len());
    let (name, rest) = behind.split_at_checked(end).unwrap_or((behind, ""));
    let is_stream = name.eq_ignore_ascii_case("stdin") || name.eq_ignore_ascii_case("stdout");
    if is_quoted || is_stream || name.is_empty() {
        return behind.to_owned();
    }
    format!("'{}'{rest}", name.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_file_name_gets_its_quotes() {
        assert_eq!(statement("t FROM x.csv;"), "COPY t FROM 'x.csv'");
        assert_eq!(statement("t (a, b) from 'x y.csv' (HEADER)"), "COPY t (a, b) from 'x y.csv' (HEADER)");
        assert_eq!(
            statement("(SELECT a FROM t) TO /tmp/x.csv WITH CSV"),
            "COPY (SELECT a FROM t) TO '/tmp/x.csv' WITH CSV"
        );
        assert_eq!(statement("t TO STDOUT"), "COPY t TO STDOUT");
    }
}
