/*!
Completion: what may stand at the cursor, told from the tokens before it.

The statement around the cursor is cut into tokens as everywhere else, so that an unfinished quote or a comment is no
trouble. Then: inside a quote behind FROM, TO or COPY, files; behind `x.`, the columns of `x`, which may be an alias;
behind FROM, JOIN, INTO, UPDATE, TABLE and COPY, tables; at the start, words that begin a statement; everywhere else the columns
of the tables that the statement names, functions, and keywords. Behind a backslash, commands and what each is about.
*/

use crate::keywords;
use crate::lexer::{Kind, Token, tokens};
use crate::meta::{self, About};
use omendb_sql::Names;
use reedline::{Completer, CompletionResult, Span, Suggestion};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Most that is suggested at once.
const SUGGESTIONS_MAX: usize = 200;

/// Words behind which a table stands.
const BEFORE_TABLE: &[&str] =
    &["FROM", "JOIN", "INTO", "UPDATE", "TABLE", "COPY", "DESCRIBE", "TRUNCATE", "EXISTS", "ONLY"];

/// Words behind which a quote holds the name of a file.
const BEFORE_FILE: &[&str] = &["FROM", "TO", "COPY", "JOIN"];

/// reedline's side of it.
pub(super) struct Complete {
    names: Arc<Mutex<Names>>,
}

impl Complete {
    /// Completes with these names, which may change.
    pub(super) fn new(names: Arc<Mutex<Names>>) -> Complete {
        Complete { names }
    }
}

impl Completer for Complete {
    fn complete(&mut self, line: &str, pos: usize) -> CompletionResult {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let found = complete(line, pos, &names, &list_files);
        let span = Span { start: found.range.start, end: found.range.end.max(found.range.start) };
        let suggestions: Vec<Suggestion> = found
            .candidates
            .into_iter()
            .take(SUGGESTIONS_MAX)
            .map(|c| Suggestion { value: c.text, append_whitespace: c.then_blank, span, ..Suggestion::default() })
            .collect();
        CompletionResult::fresh(suggestions)
    }
}

/// What may replace a range of the text.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    range: Range<usize>,
    candidates: Vec<Candidate>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    text: String,
    /// Whether something follows after a blank.
    then_blank: bool,
}

/// Names of files in a directory; a directory ends with a slash.
type ListFiles<'a> = &'a dyn Fn(&Path) -> Vec<String>;

fn list_files(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let name = |entry: std::fs::DirEntry| {
        let is_dir = std::fs::metadata(entry.path()).is_ok_and(|m| m.is_dir());
        Some(format!("{}{}", entry.file_name().to_str()?, if is_dir { "/" } else { "" }))
    };
    let mut names: Vec<String> = entries.flatten().filter_map(name).collect();
    names.sort();
    names
}

fn complete(text: &str, cursor: usize, names: &Names, files: ListFiles<'_>) -> Found {
    let cursor = cursor.min(text.len());
    let Some(before) = text.get(..cursor) else { return Found::default() };
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = before.get(line_start..).unwrap_or_default();
    let command = line.trim_start();
    let is_first = tokens(before.get(..line_start).unwrap_or_default()).0.iter().all(|t| !t.is_content());
    if is_first && command.starts_with(['\\', '.']) {
        return complete_command(command, cursor - command.len(), names, files);
    }
    complete_sql(text, cursor, names, files)
}

/// A backslash command that begins at `start` and goes up to the cursor.
fn complete_command(command: &str, start: usize, names: &Names, files: ListFiles<'_>) -> Found {
    let mark = if command.starts_with('.') { '.' } else { '\\' };
    let Some(blank) = command.find(char::is_whitespace) else {
        let name = |c: &&'static meta::Command| c.names.first().copied();
        let all = meta::COMMANDS.iter().filter_map(|c| name(&c)).map(|name| format!("{mark}{name}"));
        return matching(start..start + command.len(), command, all, true);
    };
    let name = command.get(1..blank).unwrap_or_default();
    let about = meta::find(name).map_or(About::Nothing, |c| c.about);
    let argument_start = command.rfind(char::is_whitespace).map_or(blank, |at| at + 1);
    let argument = command.get(argument_start..).unwrap_or_default();
    let range = start + argument_start..start + command.len();
    match about {
        About::Nothing => Found::default(),
        About::Words(words) => matching(range, argument, words.iter().map(|w| (*w).to_owned()), true),
        About::Table => matching(range, argument, names.tables.iter().map(|(name, _)| quoted(name)), true),
        About::File => complete_file(range.start, argument, files),
        About::Sql => {
            let text = format!("COPY{}", command.get(blank..).unwrap_or_default());
            let mut found = complete_sql(&text, text.len(), names, files);
            // The word COPY is as much shorter or longer than what was typed.
            let shift = |at: usize| (at + start + blank).saturating_sub("COPY".len());
            found.range = shift(found.range.start)..shift(found.range.end);
            found
        }
    }
}

fn complete_sql(text: &str, cursor: usize, names: &Names, files: ListFiles<'_>) -> Found {
    let (all, _) = tokens(text);
    let statement = statement_around(&all, cursor);
    let before: Vec<&Token> = statement.iter().filter(|t| t.is_content() && t.range.start < cursor).collect();
    // The token that the cursor is in or behind, if it can grow.
    let grows = |t: &&&Token| t.range.end >= cursor && matches!(t.kind, Kind::Word | Kind::Text | Kind::Name);
    let current = before.last().filter(grows).copied();
    if statement.iter().any(|t| t.kind == Kind::Comment && t.range.start < cursor && cursor < t.range.end) {
        return Found::default();
    }
    let words: Vec<&str> = before.iter().filter(|t| current != Some(**t)).map(|t| t.text(text)).collect();
    let (start, typed) = match current {
        Some(token) => (token.range.start, text.get(token.range.start..cursor).unwrap_or_default()),
        None => (cursor, ""),
    };
    let is_behind = |known: &[&str]| words.last().is_some_and(|w| known.iter().any(|k| k.eq_ignore_ascii_case(w)));
    match current.map(|token| token.kind) {
        Some(Kind::Text) => match typed.strip_prefix('\'') {
            Some(typed) if is_behind(BEFORE_FILE) => complete_file(start + 1, typed, files),
            _ => Found::default(),
        },
        _ => {
            let typed_name = typed.trim_start_matches('"');
            let mut candidates = candidates(&words, typed_name, statement, text, names);
            candidates.retain(|c| !typed.starts_with('"') || c.text.starts_with('"'));
            match_words(start..cursor, typed_name, candidates)
        }
    }
}

/// What may stand behind these words, best first.
fn candidates(words: &[&str], typed: &str, statement: &[Token], text: &str, names: &Names) -> Vec<Candidate> {
    let plain = |text: String| Candidate { text, then_blank: false };
    let word = |text: &str| Candidate { text: in_case_of(text, typed), then_blank: true };
    let tables = || names.tables.iter().map(|(name, _)| plain(quoted(name)));
    match words {
        [] => return keywords::STARTS.iter().map(|w| word(w)).collect(),
        [.., table, "."] => return columns_of(table, statement, text, names).map(|c| plain(quoted(c))).collect(),
        _ => {}
    }
    let last = words.last().copied().unwrap_or_default();
    if BEFORE_TABLE.iter().any(|known| known.eq_ignore_ascii_case(last)) || is_in_from_list(words) {
        return tables().collect();
    }
    let named: Vec<&str> = statement.iter().filter(|t| is_name(t)).map(|t| t.text(text)).collect();
    let is_named = |table: &str| named.iter().any(|n| same_name(n, table));
    let mut columns: Vec<&String> =
        names.tables.iter().filter(|(table, _)| is_named(table)).flat_map(|(_, columns)| columns).collect();
    if columns.is_empty() && !typed.is_empty() {
        columns = names.tables.iter().flat_map(|(_, columns)| columns).collect();
    }
    columns.sort();
    columns.dedup();
    let columns = columns.into_iter().map(|c| plain(quoted(c)));
    let functions = names.functions.iter().map(|f| plain(format!("{f}(")));
    let keywords = keywords::ALL.iter().map(|w| word(w));
    if typed.is_empty() {
        // Nothing typed yet: all functions and keywords would only hide the columns.
        return columns.collect();
    }
    columns.chain(tables()).chain(functions).chain(keywords).collect()
}

/// Whether a comma continues the list behind FROM: `FROM a, b`.
fn is_in_from_list(words: &[&str]) -> bool {
    let Some((&",", before)) = words.split_last() else { return false };
    let mut depth = 0_i32;
    for word in before.iter().rev() {
        match *word {
            ")" => depth += 1,
            "(" if depth == 0 => return false,
            "(" => depth -= 1,
            word if depth == 0 && word.eq_ignore_ascii_case("from") => return true,
            word if depth == 0 && keywords::is_keyword(word) && !word.eq_ignore_ascii_case("as") => return false,
            _ => {}
        }
    }
    false
}

/// The columns of a table, by its name or by an alias: `FROM metrics m`, `FROM metrics AS m`.
fn columns_of<'n>(name: &str, statement: &[Token], text: &str, names: &'n Names) -> impl Iterator<Item = &'n String> {
    let words: Vec<&str> = statement.iter().filter(|t| t.is_content()).map(|t| t.text(text)).collect();
    let is_table = |word: &str| names.tables.iter().any(|(table, _)| same_name(word, table));
    let aliased = words.windows(3).find_map(|window| match window {
        [table, alias, _] if is_table(table) && same_name(alias, &unquoted(name)) => Some((*table).to_owned()),
        [table, word, alias]
            if is_table(table) && word.eq_ignore_ascii_case("as") && same_name(alias, &unquoted(name)) =>
        {
            Some((*table).to_owned())
        }
        _ => None,
    });
    let last = match words.as_slice() {
        [.., table, alias] if is_table(table) && same_name(alias, &unquoted(name)) => Some((*table).to_owned()),
        _ => None,
    };
    let table = aliased.or(last).unwrap_or_else(|| name.to_owned());
    names.tables.iter().filter(move |(known, _)| same_name(&table, known)).flat_map(|(_, columns)| columns)
}

/// The tokens of the statement that the cursor is in.
fn statement_around(all: &[Token], cursor: usize) -> &[Token] {
    let ends_before = |t: &Token| t.kind == Kind::Semicolon && t.range.end <= cursor;
    let start = all.iter().rposition(ends_before).map_or(0, |at| at + 1);
    let rest = all.get(start..).unwrap_or_default();
    let end = rest.iter().position(|t| t.kind == Kind::Semicolon).unwrap_or(rest.len());
    rest.get(..end).unwrap_or_default()
}

fn is_name(token: &Token) -> bool {
    matches!(token.kind, Kind::Word | Kind::Name)
}

/// Whether a name as it is written means this name.
fn same_name(written: &str, name: &str) -> bool {
    match written.starts_with('"') {
        true => unquoted(written) == name,
        false => written.to_lowercase() == name,
    }
}

fn unquoted(written: &str) -> String {
    match written.strip_prefix('"') {
        Some(inside) => inside.strip_suffix('"').unwrap_or(inside).replace("\"\"", "\""),
        None => written.to_lowercase(),
    }
}

/// A name as it must be written: in quotes unless it is in lower case, simple, and no keyword.
fn quoted(name: &str) -> String {
    let is_simple = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !keywords::is_reserved(name);
    if is_simple { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// A keyword in the case in which the user types.
fn in_case_of(keyword: &str, typed: &str) -> String {
    let lower = typed.chars().next().is_some_and(char::is_lowercase);
    if lower { keyword.to_lowercase() } else { keyword.to_owned() }
}

fn matching(range: Range<usize>, typed: &str, all: impl Iterator<Item = String>, then_blank: bool) -> Found {
    match_words(range, typed, all.map(|text| Candidate { text, then_blank }).collect())
}

/// Those that begin with what was typed, in any case.
fn match_words(range: Range<usize>, typed: &str, all: Vec<Candidate>) -> Found {
    let typed = typed.to_lowercase();
    let fits = |c: &Candidate| {
        let lower = c.text.to_lowercase();
        lower.starts_with(&typed) || lower.trim_start_matches('"').starts_with(&typed)
    };
    Found { range, candidates: all.into_iter().filter(fits).collect() }
}

/// The name of a file that begins at `start`; what is before its last slash is its directory.
fn complete_file(start: usize, typed: &str, files: ListFiles<'_>) -> Found {
    let name_start = typed.rfind('/').map_or(0, |at| at + 1);
    let (dir, name) = typed.split_at_checked(name_start).unwrap_or(("", typed));
    let listed = files(Path::new(if dir.is_empty() { "." } else { dir }));
    // Files that begin with a dot are hidden until a dot is typed.
    let fits = |file: &String| file.starts_with(name) && (name.starts_with('.') || !file.starts_with('.'));
    let candidates = listed.into_iter().filter(fits).map(|text| Candidate { text, then_blank: false }).collect();
    Found { range: start + name_start..start + typed.len(), candidates }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let table = |name: &str, columns: &[&str]| (name.to_owned(), columns.iter().map(|c| (*c).to_owned()).collect());
        Names {
            tables: vec![table("flights", &["origin", "delay", "Order"]), table("metrics", &["run_id", "loss"])],
            functions: vec!["round".into(), "count".into()],
            keywords: vec![],
        }
    }

    /// `|` is the cursor; gives the text that would be replaced and the candidates.
    fn at(text: &str) -> (String, Vec<String>) {
        let cursor = text.find('|').unwrap();
        let text = text.replace('|', "");
        let files = |dir: &Path| match dir.to_str() {
            Some(".") => vec!["a.csv".into(), "data/".into(), ".hidden".into()],
            Some("data/") => vec!["x.parquet".into()],
            _ => vec![],
        };
        let found = complete(&text, cursor, &names(), &files);
        (text[found.range].to_owned(), found.candidates.into_iter().map(|c| c.text).collect())
    }

    fn check(text: &str, replaced: &str, candidates: &[&str]) {
        assert_eq!(at(text), (replaced.to_owned(), candidates.iter().map(|c| (*c).to_owned()).collect()), "{text}");
    }

    #[test]
    fn statements_begin_with_their_words() {
        check("SEL|", "SEL", &["SELECT"]);
        check("sel|", "sel", &["select"]);
        check("SELECT 1; upd|", "upd", &["update"]);
    }

    #[test]
    fn tables_stand_behind_from() {
        check("SELECT * FROM fl|", "fl", &["flights"]);
        check("SELECT * FROM |", "", &["flights", "metrics"]);
        check("SELECT * FROM flights, m|", "m", &["metrics"]);
        check("INSERT INTO m|", "m", &["metrics"]);
        check("COPY f|", "f", &["flights"]);
    }

    #[test]
    fn columns_come_from_the_tables_that_are_named() {
        check("SELECT lo| FROM metrics", "lo", &["loss"]);
        check("SELECT | FROM metrics", "", &["loss", "run_id"]);
        check("SELECT m.l| FROM metrics m", "l", &["loss"]);
        check("SELECT x.| FROM flights AS x WHERE 1 = 1", "", &["origin", "delay", "\"Order\""]);
        check("SELECT flights.d| FROM flights", "d", &["delay"]);
        check("SELECT \"O| FROM flights", "\"O", &["\"Order\""]);
        check("SELECT ord| FROM flights", "ord", &["\"Order\"", "order"]);
    }

    #[test]
    fn functions_and_keywords_are_there_too() {
        check("SELECT rou| FROM metrics", "rou", &["round("]);
        check("SELECT loss FROM metrics WHER|", "WHER", &["WHERE"]);
    }

    #[test]
    fn files_are_in_quotes() {
        check("SELECT * FROM 'd|", "d", &["data/"]);
        check("SELECT * FROM 'data/|", "", &["x.parquet"]);
        check("COPY flights FROM '|'", "", &["a.csv", "data/"]);
        check("SELECT '|", "", &[]);
        check("\\i a|", "a", &["a.csv"]);
        check("\\copy flights FROM 'data/x|", "x", &["x.parquet"]);
    }

    #[test]
    fn commands_are_behind_a_backslash() {
        check("\\tim|", "\\tim", &["\\timing"]);
        check(".tim|", ".tim", &[".timing"]);
        check("\\d fl|", "fl", &["flights"]);
        check("\\format js|", "js", &["json"]);
        check("\\copy fl|", "fl", &["flights"]);
    }

    #[test]
    fn nothing_is_completed_in_comments() {
        check("SELECT /* SEL| */ 1", "", &[]);
    }
}
