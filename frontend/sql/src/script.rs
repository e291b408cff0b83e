/*!
Statements cut out of a script: `a; b; c`.

The cut is made by PostgreSQL's lexical rules alone — quotes, dollar quotes, escape strings, comments that nest — so
that it can be made while the user is still typing, and for text that is no SQL at all. A semicolon inside parentheses
ends a statement too, as psql's does not; such text is an error either way.
*/

use std::ops::Range;

/// Where the statements of a text are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Byte ranges of complete statements, without their semicolon and without blanks and comments around them.
    pub statements: Vec<Range<usize>>,
    /// What comes after the last semicolon; empty when only blanks and comments are left.
    pub rest: Range<usize>,
    /// Whether the text ends inside a quote or a comment.
    pub open: Option<Open>,
}

/// What a text ends inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// `'…`
    Quote,
    /// `"…`
    Name,
    /// `$tag$…`
    Dollar,
    /// `/* …`
    Comment,
}

/// Cuts a text into statements.
pub fn split(text: &str) -> Split {
    let mut lexer = Lexer { bytes: text.as_bytes(), at: 0, open: None };
    let mut statements = Vec::new();
    let mut content: Option<Range<usize>> = None;
    while let Some(piece) = lexer.next() {
        match piece {
            Piece::Blank => {}
            Piece::Semicolon => statements.extend(content.take()),
            Piece::Content(range) => {
                content = Some(content.map_or(range.clone(), |c| c.start..range.end));
            }
        }
    }
    let mut rest = content.unwrap_or(text.len()..text.len());
    if lexer.open == Some(Open::Comment) && rest.is_empty() {
        rest = text.len()..text.len();
    }
    Split { statements, rest, open: lexer.open }
}

enum Piece {
    Blank,
    Semicolon,
    Content(Range<usize>),
}

struct Lexer<'a> {
    bytes: &'a [u8],
    at: usize,
    open: Option<Open>,
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.at + ahead).copied()
    }

    fn next(&mut self) -> Option<Piece> {
        let start = self.at;
        let first = self.peek(0)?;
        match (first, self.peek(1)) {
            (b';', _) => {
                self.at += 1;
                return Some(Piece::Semicolon);
            }
            (b'-', Some(b'-')) => {
                self.skip_to_newline();
                return Some(Piece::Blank);
            }
            (b'/', Some(b'*')) => {
                self.comment();
                return Some(Piece::Blank);
            }
            (c, _) if c.is_ascii_whitespace() => {
                self.at += 1;
                return Some(Piece::Blank);
            }
            (b'\'', _) => self.quote(b'\'', false, Open::Quote),
            (b'"', _) => self.quote(b'"', false, Open::Name),
            (b'e' | b'E', Some(b'\'')) => {
                self.at += 1;
                self.quote(b'\'', true, Open::Quote);
            }
            (b'$', _) => self.dollar(),
            (c, _) if is_word(c) => self.word(),
            _ => self.at += 1,
        }
        Some(Piece::Content(start..self.at))
    }

    fn skip_to_newline(&mut self) {
        while self.peek(0).is_some_and(|c| c != b'\n') {
            self.at += 1;
        }
    }

    fn comment(&mut self) {
        let mut depth = 0_usize;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(b'/'), Some(b'*')) => {
                    depth += 1;
                    self.at += 2;
                }
                (Some(b'*'), Some(b'/')) => {
                    depth = depth.saturating_sub(1);
                    self.at += 2;
                    if depth == 0 {
                        return;
                    }
                }
                (Some(_), _) => self.at += 1,
                (None, _) => {
                    self.open = Some(Open::Comment);
                    return;
                }
            }
        }
    }

    /// From the opening quote to the closing one; a doubled quote is one inside.
    fn quote(&mut self, mark: u8, backslashes: bool, open: Open) {
        self.at += 1;
        loop {
            match self.peek(0) {
                None => {
                    self.open = Some(open);
                    return;
                }
                Some(b'\\') if backslashes => self.at = (self.at + 2).min(self.bytes.len()),
                Some(c) if c == mark && self.peek(1) == Some(mark) => self.at += 2,
                Some(c) if c == mark => {
                    self.at += 1;
                    return;
                }
                Some(_) => self.at += 1,
            }
        }
    }

    /// `$tag$ … $tag$`, or a parameter, or a dollar sign.
    fn dollar(&mut self) {
        let start = self.at;
        self.at += 1;
        if self.peek(0).is_some_and(|c| c.is_ascii_digit()) {
            return self.word();
        }
        while self.peek(0).is_some_and(is_word) {
            self.at += 1;
        }
        if self.peek(0) != Some(b'$') {
            return;
        }
        self.at += 1;
        let tag = self.bytes.get(start..self.at).unwrap_or_default();
        let body = self.bytes.get(self.at..).unwrap_or_default();
        match body.windows(tag.len()).position(|window| window == tag) {
            Some(end) => self.at += end + tag.len(),
            None => {
                self.at = self.bytes.len();
                self.open = Some(Open::Dollar);
            }
        }
    }

    /// A word swallows its dollar signs: `a$b$c` is one name.
    fn word(&mut self) {
        while self.peek(0).is_some_and(|c| is_word(c) || c == b'$') {
            self.at += 1;
        }
    }
}

fn is_word(c: u8) -> bool {
    c.is_ascii_alphanumeric() || c == b'_' || c >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, statements: &[&str], rest: &str, open: Option<Open>) {
        let s = split(text);
        let found: Vec<_> = s.statements.iter().map(|r| &text[r.clone()]).collect();
        assert_eq!((found.as_slice(), &text[s.rest], s.open), (statements, rest, open), "{text:?}");
    }

    #[test]
    fn statements_end_at_semicolons_outside_quotes_and_comments() {
        check("", &[], "", None);
        check(" ;; ; ", &[], "", None);
        check("a; b ;c", &["a", "b"], "c", None);
        check("select ';' ; -- x;\n b", &["select ';'"], "b", None);
        check("a /* ; /* ; */ ; */ b; ", &["a /* ; /* ; */ ; */ b"], "", None);
        check("select \"a;b\";", &["select \"a;b\""], "", None);
        check("select 'it''s;';", &["select 'it''s;'"], "", None);
        check(r"select e'a\';b';c", &[r"select e'a\';b'"], "c", None);
        check(r"select 'a\';b", &[r"select 'a\'"], "b", None);
        check("select $$a;b$$; select $x$ $$ ; $x$;", &["select $$a;b$$", "select $x$ $$ ; $x$"], "", None);
        check("select a$b$c; d", &["select a$b$c"], "d", None);
        check("select $1;", &["select $1"], "", None);
        check("sélect 'é;';ü", &["sélect 'é;'"], "ü", None);
    }

    #[test]
    fn what_is_unfinished_is_the_rest() {
        check("a; select 'b;", &["a"], "select 'b;", Some(Open::Quote));
        check("select \"b;", &[], "select \"b;", Some(Open::Name));
        check("select $f$ ; $g$;", &[], "select $f$ ; $g$;", Some(Open::Dollar));
        check("a; /* b;", &["a"], "", Some(Open::Comment));
        check("a -- comment", &[], "a", None);
    }

    #[test]
    fn any_bytes_are_cut_without_a_panic() {
        let alphabet = ["'", "\"", "$", "$a$", "/*", "*/", "--", "\n", ";", "e'", "\\", "é", "x", " ", "1"];
        let mut seed = 42_u64;
        for _ in 0..2000 {
            let mut text = String::new();
            for _ in 0..20 {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                text.push_str(alphabet[(seed >> 33) as usize % alphabet.len()]);
            }
            let s = split(&text);
            assert!(s.statements.iter().all(|r| !text[r.clone()].is_empty()));
            assert!(text.get(s.rest).is_some());
        }
    }
}
