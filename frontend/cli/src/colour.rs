/*!
Whether to colour, and the few styles there are.

Colour appears on a terminal only, unless it is asked for; `NO_COLOR` and `TERM=dumb` are honoured. Every style here is
a no-op when colour is off, so callers need not ask.
*/

use clap::ValueEnum;
use nu_ansi_term::{Color, Style};
use std::io::IsTerminal;

/// What the user said about colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ColourChoice {
    /// On a terminal, unless NO_COLOR or TERM=dumb says otherwise.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Colour for one stream, on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colour {
    on: bool,
}

impl Colour {
    /// Colour for a stream of which is known whether it is a terminal.
    pub fn new(choice: ColourChoice, is_terminal: bool) -> Colour {
        let allowed = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let on = match choice {
            ColourChoice::Always => true,
            ColourChoice::Never => false,
            ColourChoice::Auto => is_terminal && allowed,
        };
        Colour { on }
    }

    /// Colour for standard error.
    pub fn stderr(choice: ColourChoice) -> Colour {
        Colour::new(choice, std::io::stderr().is_terminal())
    }

    /// Colour for standard output.
    pub fn stdout(choice: ColourChoice) -> Colour {
        Colour::new(choice, std::io::stdout().is_terminal())
    }

    /// Whether it is on.
    pub fn is_on(self) -> bool {
        self.on
    }

    fn paint(self, style: Style, text: &str) -> String {
        if self.on { style.paint(text).to_string() } else { text.to_owned() }
    }

    /// The word "error" and what matters as much.
    pub fn error(self, text: &str) -> String {
        self.paint(Color::Red.bold(), text)
    }

    /// Hints and notes.
    pub fn note(self, text: &str) -> String {
        self.paint(Color::Cyan.normal(), text)
    }

    /// Headings.
    pub fn strong(self, text: &str) -> String {
        self.paint(Style::new().bold(), text)
    }

    /// What is there but not the point.
    pub fn faint(self, text: &str) -> String {
        self.paint(Style::new().dimmed(), text)
    }
}
