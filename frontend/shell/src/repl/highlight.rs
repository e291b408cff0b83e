/*!
Colours for what is being typed. An unfinished quote keeps the colours of everything before it.
*/

use crate::keywords;
use crate::lexer::{Kind, tokens};
use nu_ansi_term::{Color, Style};
use reedline::{Highlighter, StyledText};

/// The highlighter; without colour it leaves text as it is.
pub(super) struct Highlight {
    /// Whether there is colour.
    pub(super) on: bool,
}

impl Highlighter for Highlight {
    fn highlight(&self, line: &str, _cursor: usize) -> StyledText {
        let mut styled = StyledText::new();
        if !self.on {
            styled.push((Style::new(), line.to_owned()));
            return styled;
        }
        if line.trim_start().starts_with('\\') {
            styled.push((Color::Cyan.normal(), line.to_owned()));
            return styled;
        }
        for token in tokens(line).0 {
            let text = token.text(line);
            styled.push((style(token.kind, text), text.to_owned()));
        }
        styled
    }
}

fn style(kind: Kind, text: &str) -> Style {
    match kind {
        Kind::Word if keywords::is_keyword(text) => Color::Blue.bold(),
        Kind::Text => Color::Green.normal(),
        Kind::Number | Kind::Parameter => Color::Purple.normal(),
        Kind::Comment => Style::new().dimmed(),
        Kind::Name => Color::Yellow.normal(),
        Kind::Blank | Kind::Word | Kind::Semicolon | Kind::Other => Style::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_the_same_whatever_its_colours() {
        for line in ["SELECT 'a' -- b", "SELECT 'open", "\\d t", "", "é \"n\" $1 1.5"] {
            let plain: String = Highlight { on: true }.highlight(line, 0).buffer.into_iter().map(|(_, t)| t).collect();
            assert_eq!(plain, line);
        }
    }

    #[test]
    fn keywords_and_quotes_are_coloured() {
        let styled = Highlight { on: true }.highlight("select x, 'y", 0);
        let style_of = |text: &str| styled.buffer.iter().find(|(_, t)| t == text).unwrap().0;
        assert_eq!(style_of("select"), Color::Blue.bold());
        assert_eq!(style_of("x"), Style::new());
        assert_eq!(style_of("'y"), Color::Green.normal());
    }
}
