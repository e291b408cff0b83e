/*!
Variables: `\set name value`, and `:name`, `:'name'`, `:"name"` in statements, outside quotes and comments.

`:name` is replaced by the value as it is, `:'name'` by the value as a text literal, `:"name"` as a quoted name. A name that
is not set stays as it stands, since `a[1:n]` and `::type` are SQL.
*/

use crate::lexer::{Kind, Token, tokens};
use std::collections::BTreeMap;

/// Names and their values.
#[derive(Debug, Clone, Default)]
pub(crate) struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Sets a variable.
    ///
    /// # Errors
    /// A sentence, when the name is none.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let is_name = !name.is_empty()
            && name.chars().all(|c| c.is_alphanumeric() || c == '_')
            && !name.starts_with(|c: char| c.is_ascii_digit());
        if !is_name {
            return Err(format!("{name:?} is no name of a variable: letters, digits and _ make one"));
        }
        self.0.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    /// Forgets a variable; false if there was none.
    pub(crate) fn unset(&mut self, name: &str) -> bool {
        self.0.remove(name).is_some()
    }

    /// All of them, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The names that are near enough to be meant.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// A statement with its variables replaced.
    pub(crate) fn interpolate(&self, sql: &str) -> String {
        if self.0.is_empty() || !sql.contains(':') {
            return sql.to_owned();
        }
        let (tokens, _) = tokens(sql);
        let mut out = String::with_capacity(sql.len());
        let mut rest = tokens.as_slice();
        let mut after_colon = false;
        while let Some((token, behind)) = rest.split_first() {
            let text = token.text(sql);
            let value = (text == ":" && !after_colon).then(|| behind.first().and_then(|name| self.value(name, sql)));
            match value.flatten() {
                Some(value) => {
                    out.push_str(&value);
                    rest = behind.get(1..).unwrap_or_default();
                    after_colon = false;
                }
                None => {
                    out.push_str(text);
                    rest = behind;
                    after_colon = text == ":";
                }
            }
        }
        out
    }

    fn value(&self, name: &Token, sql: &str) -> Option<String> {
        let text = name.text(sql);
        let inside = |mark: char| text.strip_prefix(mark).and_then(|text| text.strip_suffix(mark));
        match name.kind {
            Kind::Word => self.0.get(text).cloned(),
            Kind::Text => self.0.get(inside('\'')?).map(|value| format!("'{}'", value.replace('\'', "''"))),
            Kind::Name => self.0.get(inside('"')?).map(|value| format!("\"{}\"", value.replace('"', "\"\""))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sql: &str, expected: &str) {
        let mut variables = Variables::default();
        variables.set("n", "5").unwrap();
        variables.set("who", "O'Hara").unwrap();
        assert_eq!(variables.interpolate(sql), expected, "{sql}");
    }

    #[test]
    fn variables_are_replaced_outside_quotes() {
        check("SELECT :n + :n", "SELECT 5 + 5");
        check("SELECT :'who', :\"who\"", "SELECT 'O''Hara', \"O'Hara\"");
        check("SELECT ':n' -- :n\n, \":n\"", "SELECT ':n' -- :n\n, \":n\"");
    }

    #[test]
    fn casts_slices_and_unknown_names_stay() {
        check("SELECT '1'::n, a[1:x], :unknown", "SELECT '1'::n, a[1:x], :unknown");
    }

    #[test]
    fn odd_names_are_refused() {
        let mut variables = Variables::default();
        assert!(
            variables.set("a b", "").is_err() && variables.set("1a", "").is_err() && variables.set("", "").is_err()
        );
    }
}
