/*!
Lines in, whole statements and backslash commands out.

A backslash command is a line that starts with a backslash where no statement is under way. A statement ends at its
semicolon, wherever the line ends; what is left at the end of the input is a statement too.
*/

use omendb_sql::split;

/// One thing to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unit {
    /// A statement, without its semicolon.
    Statement(String),
    /// A backslash command, with its backslash.
    Meta(String),
}

/// Text that has not been run yet.
#[derive(Debug, Default)]
pub struct Feed {
    pending: String,
}

impl Feed {
    /// Takes a line (with or without its line end); gives what is complete now.
    pub fn line(&mut self, line: &str) -> Vec<Unit> {
        if self.is_empty() && line.trim_start().starts_with('\\') {
            self.pending.clear();
            return vec![Unit::Meta(line.trim().to_owned())];
        }
        self.pending.push_str(line);
        if !line.ends_with('\n') {
            self.pending.push('\n');
        }
        // Only a semicolon can complete a statement: long statements of many lines are not cut again at each line.
        if !line.contains(';') {
            return vec![];
        }
        let cut = split(&self.pending);
        let text = |range: std::ops::Range<usize>| self.pending.get(range).unwrap_or_default().to_owned();
        let units = cut.statements.iter().cloned().map(text).map(Unit::Statement).collect();
        let rest = text(cut.rest.start..self.pending.len());
        if cut.open.is_none() || !cut.statements.is_empty() {
            self.pending = if cut.rest.is_empty() && cut.open.is_none() { String::new() } else { rest };
        }
        units
    }

    /// The statement that is under way, at the end of the input.
    pub fn finish(&mut self) -> Option<Unit> {
        let text = std::mem::take(&mut self.pending);
        let cut = split(&text);
        let open = cut.open.is_some();
        let rest = if open { text.get(cut.rest.start..) } else { text.get(cut.rest) };
        rest.map(str::trim).filter(|rest| !rest.is_empty()).map(|rest| Unit::Statement(rest.to_owned()))
    }

    /// Whether no statement is under way.
    pub fn is_empty(&self) -> bool {
        self.pending.trim().is_empty() || {
            let cut = split(&self.pending);
            cut.rest.is_empty() && cut.open.is_none()
        }
    }

    /// Forgets what is under way.
    pub fn clear(&mut self) {
        self.pending.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &[&str], expected: &[Unit]) {
        let mut feed = Feed::default();
        let mut got: Vec<Unit> = lines.iter().flat_map(|line| feed.line(line)).collect();
        got.extend(feed.finish());
        assert_eq!(got, expected, "{lines:?}");
    }

    fn sql(text: &str) -> Unit {
        Unit::Statement(text.into())
    }

    #[test]
    fn statements_end_at_semicolons_and_at_the_end() {
        check(&["SELECT 1; SELECT", "2;", "SELECT 3"], &[sql("SELECT 1"), sql("SELECT\n2"), sql("SELECT 3")]);
        check(&["SELECT ';", "';"], &[sql("SELECT ';\n'")]);
        check(&["-- only a comment", ";;", ""], &[]);
    }

    #[test]
    fn a_backslash_command_is_one_only_between_statements() {
        check(&["\\dt", "SELECT", "\\x", ";"], &[Unit::Meta("\\dt".into()), sql("SELECT\n\\x")]);
        check(&["SELECT 1;", "  \\x  "], &[sql("SELECT 1"), Unit::Meta("\\x".into())]);
    }

    #[test]
    fn an_open_quote_at_the_end_is_left_to_the_parser_to_complain_about() {
        check(&["SELECT 'a;"], &[sql("SELECT 'a;")]);
    }
}
