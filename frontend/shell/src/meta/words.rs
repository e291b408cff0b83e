/*!
A command's arguments cut into words: at blanks, but not inside `'…'` or `"…"`. A semicolon at the end is a habit, and
does not matter.
*/

use crate::shell::{Place, Shell, Stop};

/// What stands behind a command's name.
pub(super) struct Arguments<'a> {
    /// All of it.
    pub(super) text: &'a str,
    /// Where the command stands.
    pub(super) place: Place<'a>,
}

/// `\d flights` → `d`, ` flights`. `\!ls` and `\?` have names of one character that needs no blank behind it.
pub(super) fn split_name(text: &str) -> (&str, &str) {
    let body = text.trim().trim_start_matches(['\\', '.']);
    if body.starts_with(['!', '?']) {
        return body.split_at_checked(1).unwrap_or((body, ""));
    }
    let end = body.find(|c: char| c.is_whitespace() || c == ';').unwrap_or(body.len());
    body.split_at_checked(end).unwrap_or((body, ""))
}

impl Arguments<'_> {
    /// The words.
    ///
    /// # Errors
    /// A quote that is not closed, reported.
    pub(super) fn words(&self, shell: &Shell) -> Result<Vec<String>, Stop> {
        words(self.text).map_err(|message| shell.fail(self.place, &message, None))
    }

    /// At most one word.
    pub(super) fn optional(&self, shell: &Shell) -> Result<Option<String>, Stop> {
        let words = self.words(shell)?;
        match words.as_slice() {
            [] => Ok(None),
            [word] => Ok(Some(word.clone())),
            [_, extra, ..] => Err(shell.fail(self.place, &format!("there is a word too many: {extra}"), None)),
        }
    }

    /// Exactly one word; `what` it is.
    pub(super) fn one(&self, shell: &Shell, what: &str) -> Result<String, Stop> {
        self.optional(shell)?.ok_or_else(|| shell.fail(self.place, &format!("this command wants {what}"), None))
    }

    /// On or off; the other of `now` when nothing is said.
    pub(super) fn switch(&self, shell: &Shell, now: bool) -> Result<bool, Stop> {
        match self.optional(shell)?.as_deref() {
            None => Ok(!now),
            Some(word) => {
                on_or_off(word).ok_or_else(|| shell.fail(self.place, &format!("{word:?} is neither on nor off"), None))
            }
        }
    }
}

/// What a word says that means yes or no.
pub(super) fn on_or_off(word: &str) -> Option<bool> {
    match word.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Some(true),
        "off" | "false" | "no" | "0" => Some(false),
        _ => None,
    }
}

fn words(text: &str) -> Result<Vec<String>, String> {
    let text = text.trim().trim_end_matches(';').trim_end();
    let (mut words, mut chars) = (Vec::new(), text.chars().peekable());
    while let Some(first) = chars.next() {
        if first.is_whitespace() {
            continue;
        }
        let mut word = String::new();
        let mut next = Some(first);
        while let Some(c) = next {
            match c {
                c if c.is_whitespace() => break,
                quote @ ('\'' | '"') => loop {
                    match chars.next() {
                        Some(c) if c == quote && chars.peek() == Some(&quote) => word.extend(chars.next()),
                        Some(c) if c == quote => break,
                        Some(c) => word.push(c),
                        None => return Err(format!("a quote {quote} is not closed")),
                    }
                },
                c => word.push(c),
            }
            next = chars.next();
        }
        words.push(word);
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_end_at_blanks_outside_quotes() {
        assert_eq!(words(" a  'b c' d'e'\"f\" 'it''s' ''; ").unwrap(), ["a", "b c", "def", "it's", ""]);
        assert!(words("'a").is_err());
    }

    #[test]
    fn a_name_ends_at_a_blank() {
        assert_eq!(split_name("\\d flights"), ("d", " flights"));
        assert_eq!(split_name(".tables"), ("tables", ""));
        assert_eq!(split_name("\\!ls -l"), ("!", "ls -l"));
        assert_eq!(split_name("\\q;"), ("q", ";"));
    }
}
