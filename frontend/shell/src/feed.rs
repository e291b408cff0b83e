/*!
Lines in, whole statements and backslash commands out.

A backslash command begins with a backslash where no statement is under way, and goes to the end of its line; a line that
begins with a dot and a letter is one too. A statement ends at its semicolon, wherever the line ends; what is left at the
end of the input is a statement too. Each line is looked at once, however long the statement is that it belongs to.
*/

use crate::lexer::{Kind, Lexer, State};

/// Bytes that a statement may have before its end is given up on: several times what a session takes.
const STATEMENT_BYTES_MAX: usize = 64 << 20;

/// One thing to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unit {
    /// What it is.
    pub what: What,
    /// The line on which it begins, from 1.
    pub line: usize,
}

/// What there is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// A statement, without its semicolon and without blanks and comments around it.
    Statement(String),
    /// A backslash command, with its backslash (or dot).
    Meta(String),
}

/// Text that has not been run yet.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    /// From the first byte of the statement under way.
    pending: String,
    /// Where its content ends: comments and blanks behind it do not belong to it.
    content_end: usize,
    state: State,
    /// Lines taken so far.
    lines: usize,
    /// The line on which `pending` begins.
    first_line: usize,
}

impl Feed {
    /// Takes a line, with its line end unless it is the last; gives what is complete now.
    ///
    /// # Errors
    /// A sentence, when a statement grows past [`STATEMENT_BYTES_MAX`] without an end.
    pub(crate) fn line(&mut self, line: &str) -> Result<Vec<Unit>, String> {
        self.lines += 1;
        let mut units = Vec::new();
        if self.is_empty() && self.state == State::Plain && is_dot_command(line) {
            units.push(self.meta(line));
            return Ok(units);
        }
        let mut lexer = Lexer::new(line, std::mem::take(&mut self.state));
        let mut meta = None;
        for token in lexer.by_ref() {
            let text = token.text(line);
            match token.kind {
                Kind::Semicolon => units.extend(self.statement()),
                Kind::Other if text == "\\" && self.is_empty() => {
                    meta = line.get(token.range.start..);
                    break;
                }
                _ if token.is_content() => {
                    if self.is_empty() {
                        self.first_line = self.lines;
                    }
                    self.pending.push_str(text);
                    self.content_end = self.pending.len();
                }
                _ if self.is_empty() => {}
                _ => self.pending.push_str(text),
            }
        }
        match meta {
            Some(command) => units.push(self.meta(command)),
            None => self.state = lexer.into_state(),
        }
        if self.pending.len() > STATEMENT_BYTES_MAX {
            let line = self.first_line;
            self.clear();
            return Err(format!("the statement on line {line} has no end within {} MiB", STATEMENT_BYTES_MAX >> 20));
        }
        Ok(units)
    }

    /// The statement that is under way, at the end of the input.
    pub(crate) fn finish(&mut self) -> Option<Unit> {
        // A comment that is left open is for the parser to complain about, if there is anything before it.
        if matches!(self.state, State::Comment(_)) {
            self.content_end = self.pending.len();
        }
        self.state = State::Plain;
        self.statement()
    }

    fn statement(&mut self) -> Option<Unit> {
        let mut text = std::mem::take(&mut self.pending);
        text.truncate(std::mem::take(&mut self.content_end));
        let line = self.first_line;
        (!text.is_empty()).then_some(Unit { what: What::Statement(text), line })
    }

    fn meta(&self, text: &str) -> Unit {
        Unit { what: What::Meta(text.trim().to_owned()), line: self.lines }
    }

    /// Whether no statement is under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether a line that follows would begin something new: no statement and no comment is under way.
    pub(crate) fn is_complete(&self) -> bool {
        self.is_empty() && self.state == State::Plain
    }

    /// Forgets what is under way.
    pub(crate) fn clear(&mut self) {
        *self = Feed { lines: self.lines, ..Feed::default() };
    }
}

/// `.tables`, but not `.5`.
fn is_dot_command(line: &str) -> bool {
    let mut chars = line.trim_start().chars();
    chars.next() == Some('.') && chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '?')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(text: &str) -> Vec<Unit> {
        let mut feed = Feed::default();
        let mut got: Vec<Unit> = text.split_inclusive('\n').flat_map(|line| feed.line(line).unwrap()).collect();
        got.extend(feed.finish());
        got
    }

    fn check(text: &str, expected: &[(usize, What)]) {
        let got: Vec<_> = units(text).into_iter().map(|u| (u.line, u.what)).collect();
        assert_eq!(got, expected, "{text:?}");
    }

    fn sql(text: &str) -> What {
        What::Statement(text.into())
    }

    fn meta(text: &str) -> What {
        What::Meta(text.into())
    }

    #[test]
    fn statements_end_at_semicolons_and_at_the_end() {
        check("SELECT 1; SELECT\n2;\nSELECT 3", &[(1, sql("SELECT 1")), (1, sql("SELECT\n2")), (3, sql("SELECT 3"))]);
        check("SELECT ';\n';", &[(1, sql("SELECT ';\n'"))]);
        check("-- only a comment\n;;\n", &[]);
        check("/* a\n;\n*/ SELECT 1 -- b;\n;", &[(3, sql("SELECT 1"))]);
    }

    #[test]
    fn a_backslash_command_is_one_only_between_statements() {
        check("\\dt\nSELECT\n\\x\n;", &[(1, meta("\\dt")), (2, sql("SELECT\n\\x"))]);
        check(
            "SELECT 1;\n  \\x  \nSELECT 2; \\q",
            &[(1, sql("SELECT 1")), (2, meta("\\x")), (3, sql("SELECT 2")), (3, meta("\\q"))],
        );
        check(".tables\nSELECT\n.5;", &[(1, meta(".tables")), (2, sql("SELECT\n.5"))]);
    }

    #[test]
    fn what_is_open_at_the_end_is_left_to_the_parser_to_complain_about() {
        check("SELECT 'a;", &[(1, sql("SELECT 'a;"))]);
        check("SELECT 1 /* b;", &[(1, sql("SELECT 1 /* b;"))]);
        check("/* b;", &[]);
    }

    #[test]
    fn it_cuts_where_a_session_cuts() {
        let alphabet = ["'", "\"", "$", "$a$", "/*", "*/", "--", "\n", ";", "e'", "é", "x", " ", "1", "."];
        let mut seed = 7_u64;
        for _ in 0..3000 {
            let mut text = String::new();
            for _ in 0..20 {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                text.push_str(alphabet[usize::try_from(seed >> 33).unwrap() % alphabet.len()]);
            }
            if text.lines().any(is_dot_command) {
                continue;
            }
            let cut = omendb_sql::split(&text);
            let expected: Vec<_> = cut.statements.iter().map(|r| text[r.clone()].to_owned()).collect();
            let mut feed = Feed::default();
            let got: Vec<_> = text.split_inclusive('\n').flat_map(|line| feed.line(line).unwrap()).collect();
            let got: Vec<_> = got
                .into_iter()
                .map(|u| match u.what {
                    What::Statement(s) | What::Meta(s) => s,
                })
                .collect();
            assert_eq!(got, expected, "{text:?}");
            assert_eq!(feed.is_complete(), cut.open.is_none() && cut.rest.is_empty(), "{text:?}");
        }
    }
}
