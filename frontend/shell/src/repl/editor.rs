/*!
The line editor: reedline, with our prompt, colours, completion, history, and the rule for when a submission is whole.
*/

use super::complete::Complete;
use super::highlight::Highlight;
use super::{CONTINUATION, Input, PROMPT, Reader, history};
use crate::feed::Feed;
use crate::shell::Shell;
use omendb_cli::Colour;
use reedline::{
    Color, ColumnarMenu, EditCommand, Emacs, KeyCode, KeyModifiers, MenuBuilder, Prompt, PromptEditMode,
    PromptHistorySearch, PromptHistorySearchStatus, Reedline, ReedlineEvent, ReedlineMenu, Signal, ValidationResult,
    Validator, default_emacs_keybindings,
};
use std::borrow::Cow;

/// The name under which the menu and its key know each other.
const MENU: &str = "completion";

/// The editor.
pub(super) struct Editor {
    editor: Reedline,
}

impl Editor {
    /// With the history of earlier sessions, where there is one to be had.
    pub(super) fn new(shell: &mut Shell) -> Editor {
        let mut keys = default_emacs_keybindings();
        let complete = vec![ReedlineEvent::Menu(MENU.to_owned()), ReedlineEvent::MenuNext];
        keys.add_binding(KeyModifiers::NONE, KeyCode::Tab, ReedlineEvent::UntilFound(complete));
        keys.add_binding(KeyModifiers::SHIFT, KeyCode::BackTab, ReedlineEvent::MenuPrevious);
        let colour = Colour::stdout(shell.colour_choice);
        let menu = ColumnarMenu::default().with_name(MENU);
        let mut editor = Reedline::create()
            .with_edit_mode(Box::new(Emacs::new(keys)))
            .with_completer(Box::new(Complete::new(shell.names())))
            .with_menu(ReedlineMenu::EngineCompleter(Box::new(menu)))
            .with_quick_completions(true)
            .with_partial_completions(true)
            .with_highlighter(Box::new(Highlight { on: colour.is_on() }))
            .with_ansi_colors(colour.is_on())
            .with_validator(Box::new(Whole))
            .use_bracketed_paste(true);
        match history::open() {
            Ok(Some(history)) => editor = editor.with_history(history),
            Ok(None) => {}
            Err(why) => shell.note(&why),
        }
        Editor { editor }
    }
}

impl Reader for Editor {
    fn read(&mut self, shell: &mut Shell, _: &mut Feed) -> std::io::Result<Input> {
        // Completion looks at the names that are there now.
        let _ = shell.names();
        if let Some(draft) = shell.draft.take() {
            self.editor.run_edit_commands(&[EditCommand::InsertString(draft)]);
        }
        let signal = self.editor.read_line(&Sign).map_err(std::io::Error::other)?;
        Ok(match signal {
            Signal::Success(text) => {
                // At once, so that a crash loses nothing. A history that cannot be written is not worth an error a line.
                let _ = self.editor.sync_history();
                Input::Text(text + "\n")
            }
            Signal::CtrlD => Input::End,
            _ => Input::Cleared,
        })
    }
}

/// A submission is whole when it ends no statement, quote or comment in the middle.
struct Whole;

impl Validator for Whole {
    fn validate(&self, text: &str) -> ValidationResult {
        let mut feed = Feed::default();
        let lines = text.split_inclusive('\n').try_for_each(|line| feed.line(line).map(|_| ()));
        // What comes next is told from what was typed: without its line end, `-- …` would seem to go on.
        match lines.is_err() || feed.is_complete() {
            true => ValidationResult::Complete,
            false => ValidationResult::Incomplete,
        }
    }
}

/// The prompt.
struct Sign;

impl Prompt for Sign {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_indicator(&self, _: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed(PROMPT)
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed(CONTINUATION)
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        let failing = match search.status {
            PromptHistorySearchStatus::Passing => "",
            PromptHistorySearchStatus::Failing => "no ",
        };
        Cow::Owned(format!("({failing}history: {}) ", search.term))
    }

    fn get_indicator_color(&self) -> Color {
        Color::Default
    }

    fn get_prompt_multiline_color(&self) -> Color {
        Color::Default
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_submission_is_whole_at_its_semicolon() {
        let is_whole = |text: &str| matches!(Whole.validate(text), ValidationResult::Complete);
        assert!(is_whole("SELECT 1;") && is_whole("\\d t") && is_whole("") && is_whole("SELECT\n1;\n"));
        assert!(is_whole("-- a comment") && is_whole("SELECT 1; -- done"));
        assert!(!is_whole("SELECT 1") && !is_whole("SELECT ';") && !is_whole("/* ;"));
    }
}
