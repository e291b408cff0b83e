/*!
Text cut into tokens without losing a byte, by PostgreSQL's lexical rules alone.

Highlighting, completion, variables and the cutting of scripts into statements all look at SQL through this one lexer, so
that they agree on what is a quote. It takes text in pieces: the [`State`] after one line is where the next one begins,
which is what makes reading a long script linear. Any text is accepted; unfinished quotes and comments are tokens like
any other, and the state says that they are open.

The pieces must end at line ends (or at the end of the text): no token but a quote or a comment goes over one.
*/

use std::ops::Range;

/// What a piece of text begins or ends inside.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum State {
    /// Nothing: a new token begins.
    #[default]
    Plain,
    /// `'…`, or `E'…` where backslashes escape.
    Quote {
        /// Whether a backslash takes the next character's meaning away.
        backslashes: bool,
    },
    /// `"…`
    Name,
    /// `$tag$…`, with the whole delimiter.
    Dollar(String),
    /// `/* …`, so many of them open.
    Comment(usize),
}

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Spaces and line ends.
    Blank,
    /// `-- …` and `/* … */`.
    Comment,
    /// A keyword or a name without quotes.
    Word,
    /// `"a name"`.
    Name,
    /// `'text'`, `E'text'`, `$$text$$`.
    Text,
    /// `12`, `1.5e-3`.
    Number,
    /// `$1`.
    Parameter,
    /// `;`
    Semicolon,
    /// Any other single character.
    Other,
}

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// What it is.
    pub kind: Kind,
    /// Where it is, in bytes of the piece.
    pub range: Range<usize>,
}

impl Token {
    /// Its text.
    pub(crate) fn text<'a>(&self, whole: &'a str) -> &'a str {
        whole.get(self.range.clone()).unwrap_or_default()
    }

    /// Whether it means something: no blank and no comment.
    pub(crate) fn is_content(&self) -> bool {
        !matches!(self.kind, Kind::Blank | Kind::Comment)
    }
}

/// All tokens of a text that begins outside quotes, and the state at its end.
pub(crate) fn tokens(text: &str) -> (Vec<Token>, State) {
    let mut lexer = Lexer::new(text, State::Plain);
    let tokens = lexer.by_ref().collect();
    (tokens, lexer.into_state())
}

/// The lexer of one piece of text.
pub(crate) struct Lexer<'a> {
    bytes: &'a [u8],
    at: usize,
    state: State,
}

impl<'a> Lexer<'a> {
    /// Begins at the state in which the piece before ended.
    pub(crate) fn new(text: &'a str, state: State) -> Self {
        Lexer { bytes: text.as_bytes(), at: 0, state }
    }

    /// The state at the end, once all tokens are taken.
    pub(crate) fn into_state(self) -> State {
        self.state
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.at + ahead).copied()
    }

    fn skip_while(&mut self, wanted: impl Fn(u8) -> bool) {
        while self.peek(0).is_some_and(&wanted) {
            self.at += 1;
        }
    }

    /// A token that the piece before left open.
    fn resume(&mut self, state: State) -> Kind {
        match state {
            State::Plain => Kind::Other,
            State::Quote { backslashes } => self.quote(b'\'', backslashes),
            State::Name => self.quote(b'"', false),
            State::Dollar(tag) => self.dollar_body(tag),
            State::Comment(depth) => self.comment(depth),
        }
    }

    fn begin(&mut self, first: u8) -> Kind {
        match (first, self.peek(1)) {
            (b';', _) => self.one(Kind::Semicolon),
            (b'-', Some(b'-')) => {
                self.skip_while(|c| c != b'\n');
                Kind::Comment
            }
            (b'/', Some(b'*')) => self.comment(0),
            (b'\'', _) => {
                self.at += 1;
                self.quote(b'\'', false)
            }
            (b'"', _) => {
                self.at += 1;
                self.quote(b'"', false)
            }
            (b'e' | b'E', Some(b'\'')) => {
                self.at += 2;
                self.quote(b'\'', true)
            }
            (b'$', _) => self.dollar(),
            (b'.', Some(b'0'..=b'9')) | (b'0'..=b'9', _) => self.number(),
            (c, _) if c.is_ascii_whitespace() => {
                self.skip_while(|c| c.is_ascii_whitespace());
                Kind::Blank
            }
            (c, _) if is_word(c) => {
                self.skip_while(|c| is_word(c) || c == b'$');
                Kind::Word
            }
            _ => self.one(Kind::Other),
        }
    }

    fn one(&mut self, kind: Kind) -> Kind {
        self.at += 1;
        kind
    }

    /// Behind the opening quote, up to the closing one; a doubled quote is one inside.
    fn quote(&mut self, mark: u8, backslashes: bool) -> Kind {
        loop {
            match self.peek(0) {
                None => {
                    self.state = if mark == b'"' { State::Name } else { State::Quote { backslashes } };
                    break;
                }
                Some(b'\\') if backslashes => self.at = (self.at + 2).min(self.bytes.len()),
                Some(c) if c == mark && self.peek(1) == Some(mark) => self.at += 2,
                Some(c) if c == mark => {
                    self.at += 1;
                    break;
                }
                Some(_) => self.at += 1,
            }
        }
        if mark == b'"' { Kind::Name } else { Kind::Text }
    }

    fn comment(&mut self, mut depth: usize) -> Kind {
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
                        break;
                    }
                }
                (Some(_), _) => self.at += 1,
                (None, _) => {
                    self.state = State::Comment(depth);
                    break;
                }
            }
        }
        Kind::Comment
    }

    /// `$1`, `$tag$…$tag$`, or a dollar sign alone.
    fn dollar(&mut self) -> Kind {
        let start = self.at;
        self.at += 1;
        if self.peek(0).is_some_and(|c| c.is_ascii_digit()) {
            self.skip_while(|c| is_word(c) || c == b'$');
            return Kind::Parameter;
        }
        self.skip_while(is_word);
        if self.peek(0) != Some(b'$') {
            return if self.at > start + 1 { Kind::Word } else { Kind::Other };
        }
        self.at += 1;
        let tag = self.bytes.get(start..self.at).unwrap_or_default();
        self.dollar_body(String::from_utf8_lossy(tag).into_owned())
    }

    fn dollar_body(&mut self, tag: String) -> Kind {
        let body = self.bytes.get(self.at..).unwrap_or_default();
        match body.windows(tag.len()).position(|window| window == tag.as_bytes()) {
            Some(end) => self.at += end + tag.len(),
            None => {
                self.at = self.bytes.len();
                self.state = State::Dollar(tag);
            }
        }
        Kind::Text
    }

    fn number(&mut self) -> Kind {
        self.skip_while(|c| c.is_ascii_digit() || c == b'_');
        if self.peek(0) == Some(b'.') && self.peek(1).is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
            self.skip_while(|c| c.is_ascii_digit());
        }
        if matches!(self.peek(0), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(self.peek(1), Some(b'+' | b'-')));
            if self.peek(1 + sign).is_some_and(|c| c.is_ascii_digit()) {
                self.at += 1 + sign;
                self.skip_while(|c| c.is_ascii_digit());
            }
        }
        // `1e'x'` and `0x1F`: what sticks to a number is part of it, so that no quote begins with the letter before it.
        self.skip_while(|c| is_word(c) || c == b'$');
        Kind::Number
    }
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let start = self.at;
        let first = self.peek(0)?;
        let kind = match std::mem::take(&mut self.state) {
            State::Plain => self.begin(first),
            open => self.resume(open),
        };
        Some(Token { kind, range: start..self.at })
    }
}

fn is_word(c: u8) -> bool {
    c.is_ascii_alphanumeric() || c == b'_' || c >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(Kind, &str)]) {
        let (tokens, _) = tokens(text);
        let got: Vec<_> = tokens.iter().filter(|t| t.kind != Kind::Blank).map(|t| (t.kind, t.text(text))).collect();
        assert_eq!(got, expected, "{text:?}");
    }

    #[test]
    fn tokens_are_told_apart() {
        use Kind::{Comment, Name, Number, Other, Parameter, Semicolon, Text, Word};
        check(
            "SELECT a1, 1.5e-3;",
            &[(Word, "SELECT"), (Word, "a1"), (Other, ","), (Number, "1.5e-3"), (Semicolon, ";")],
        );
        check("'it''s' E'\\'' \"a\"\"b\"", &[(Text, "'it''s'"), (Text, "E'\\''"), (Name, "\"a\"\"b\"")]);
        check("$1 $$;$$ $x$ $$ $x$", &[(Parameter, "$1"), (Text, "$$;$$"), (Text, "$x$ $$ $x$")]);
        check("a--;\n/* /* ; */ ; */b", &[(Word, "a"), (Comment, "--;"), (Comment, "/* /* ; */ ; */"), (Word, "b")]);
        check("'open;", &[(Text, "'open;")]);
    }

    #[test]
    fn nothing_is_lost_and_lines_give_what_the_whole_gives() {
        let alphabet = ["'", "\"", "$", "$a$", "/*", "*/", "--", "\n", ";", "e'", "\\", "é", "x", " ", "1", ".", "1e"];
        let mut seed = 42_u64;
        for _ in 0..3000 {
            let mut text = String::new();
            for _ in 0..20 {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                text.push_str(alphabet[usize::try_from(seed >> 33).unwrap() % alphabet.len()]);
            }
            let (whole, end) = tokens(&text);
            assert_eq!(whole.iter().map(|t| t.text(&text)).collect::<String>(), text);

            let mut state = State::Plain;
            let mut semicolons = 0;
            for line in text.split_inclusive('\n') {
                let mut lexer = Lexer::new(line, state);
                semicolons += lexer.by_ref().filter(|t| t.kind == Kind::Semicolon).count();
                state = lexer.into_state();
            }
            assert_eq!(semicolons, whole.iter().filter(|t| t.kind == Kind::Semicolon).count(), "{text:?}");
            assert_eq!(state, end, "{text:?}");
        }
    }
}
