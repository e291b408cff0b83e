/*!
Text to syntax tree, within limits.

The parser is sqlparser's, with PostgreSQL's dialect ([`super::dialect`]). It recurses, and so does everything that handles its trees, so the
text is measured before it is parsed: no node of a tree can be deeper than the number of tokens that lead to it without
a comma between, summed over the parentheses that are open around it. That number, and the parentheses, are bounded here.
`VALUES` of a million rows, or `IN` of a million values, are wide and not deep, and pass.
*/

use super::dialect::Postgres;
use crate::error::{NESTING_MAX, Result, SqlError, state};
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    AlterTable, AlterTableOperation, CreateTable, Expr, LimitClause, SqlOption, Statement, Value,
};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, TokenizerError};

/// Bytes of one statement.
pub(crate) const STATEMENT_BYTES_MAX: usize = 10 << 20;

/// Tokens on the way to one node of the tree: `a OR b OR …` with ten thousand operators takes twenty thousand.
const TOKENS_DEEP_MAX: usize = 30_000;

/// Parameters of one statement, PostgreSQL's limit.
const PARAMETERS_MAX: usize = 65_535;

/// The one statement of a text; it may not have parameters.
///
/// # Errors
/// 54000 when it is too long, 54001 when it is nested too deeply, 42601 when it does not parse or there is not exactly
/// one, 42P02 when it has a parameter.
pub(crate) fn statement(sql: &str) -> Result<Statement> {
    match statement_with_parameters(sql)? {
        (statement, 0) => Ok(statement),
        _ => Err(SqlError::new(state::UNDEFINED_PARAMETER, "there is no value for parameter $1")
            .with_hint("Prepare the statement and give it values.")),
    }
}

/// The one statement of a text, and the highest number of its parameters `$1`, `$2` …
///
/// # Errors
/// As [`statement`], without 42P02.
pub(crate) fn statement_with_parameters(sql: &str) -> Result<(Statement, usize)> {
    if sql.len() > STATEMENT_BYTES_MAX {
        return Err(SqlError::new(
            state::PROGRAM_LIMIT_EXCEEDED,
            format!("the statement has {} bytes, more than the limit of {STATEMENT_BYTES_MAX}", sql.len()),
        )
        .with_hint("Load large data with COPY … FROM 'file', or with omendb-load."));
    }
    let mut tokens = Tokenizer::new(&Postgres::new(0), sql).tokenize_with_location().map_err(token_error)?;
    if let Some(deep) = too_deep(&tokens) {
        // What begins like no statement is garbage rather than a deep statement: its first token alone tells.
        let first = tokens.iter().position(|token| !matches!(token.token, Token::Whitespace(_))).unwrap_or(0);
        tokens.truncate(first + 1);
        return Err(match parse(tokens) {
            Err(e) if e.sqlstate() == state::SYNTAX_ERROR && !e.is_at_end() => e,
            _ => deep,
        });
    }
    let parameters = highest_parameter(&tokens)?;
    Ok((parse(tokens)?, parameters))
}

fn parse(tokens: Vec<TokenWithSpan>) -> Result<Statement> {
    let dialect = Postgres::new(tokens.len());
    let mut parser = Parser::new(&dialect).with_recursion_limit(4 * NESTING_MAX).with_tokens_with_locations(tokens);
    only_statement(&mut parser)
}

fn only_statement(parser: &mut Parser<'_>) -> Result<Statement> {
    while parser.consume_token(&Token::SemiColon) {}
    if parser.peek_token_ref().token == Token::EOF {
        return Err(SqlError::new(state::SYNTAX_ERROR, "there is no statement"));
    }
    let mut statement = match reset_of_table(parser)? {
        Some(reset) => reset,
        None => parser.parse_statement()?,
    };
    with_or_without_data(parser, &mut statement)?;
    let mut ended = false;
    while parser.consume_token(&Token::SemiColon) {
        ended = true;
    }
    let next = parser.peek_token();
    match next.token {
        Token::EOF => Ok(statement),
        _ if ended => Err(SqlError::new(state::SYNTAX_ERROR, "only one statement can be run at a time")
            .with_line_column(next.span.start.line, next.span.start.column)),
        _ => {
            let expected: Result<Statement, ParserError> = parser.expected("end of statement", next);
            Ok(expected?)
        }
    }
}

/// `ALTER TABLE … RESET (…)`, which the parser does not know: parameters are set that have no values.
fn reset_of_table(parser: &mut Parser<'_>) -> Result<Option<Statement>> {
    let begin = parser.maybe_parse(|parser| {
        parser.expect_keyword(Keyword::ALTER)?;
        parser.expect_keyword(Keyword::TABLE)?;
        let if_exists = parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
        let only = parser.parse_keyword(Keyword::ONLY);
        let name = parser.parse_object_name(false)?;
        parser.expect_keyword(Keyword::RESET)?;
        Ok((if_exists, only, name))
    })?;
    let Some((if_exists, only, name)) = begin else { return Ok(None) };
    parser.expect_token(&Token::LParen)?;
    let names = parser.parse_comma_separated(Parser::parse_identifier)?;
    parser.expect_token(&Token::RParen)?;
    let options = names.into_iter().map(SqlOption::Ident).collect();
    Ok(Some(Statement::AlterTable(AlterTable {
        name,
        if_exists,
        only,
        operations: vec![AlterTableOperation::SetOptionsParens { options }],
        location: None,
        on_cluster: None,
        table_type: None,
        end_token: AttachedToken::empty(),
    })))
}

/// `WITH [NO] DATA` after CREATE TABLE AS, which the parser does not know: without data, the query gives no rows.
fn with_or_without_data(parser: &mut Parser<'_>, statement: &mut Statement) -> Result<()> {
    let Statement::CreateTable(CreateTable { query: Some(query), .. }) = statement else { return Ok(()) };
    if !parser.parse_keyword(Keyword::WITH) {
        return Ok(());
    }
    let without = parser.parse_keyword(Keyword::NO);
    parser.expect_keyword(Keyword::DATA)?;
    if without {
        let none = Expr::value(Value::Number("0".into(), false));
        query.limit_clause = Some(LimitClause::LimitOffset { limit: Some(none), offset: None, limit_by: Vec::new() });
        query.fetch = None;
    }
    Ok(())
}

fn token_error(e: TokenizerError) -> SqlError {
    SqlError::new(state::SYNTAX_ERROR, format!("syntax error: {}", e.message.to_lowercase()))
        .with_line_column(e.location.line, e.location.column)
}

/// What is open around a token.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Parenthesis,
    Case,
}

/// The error for a tree that would be too deep, at the first token that would make it so.
fn too_deep(tokens: &[TokenWithSpan]) -> Option<SqlError> {
    // For each open parenthesis, the tokens in it since the last comma; and their sum.
    let mut levels: Vec<(Open, usize)> = vec![(Open::Parenthesis, 0)];
    let mut deep = 0_usize;
    // Operators before an operand, one after the other: the parser goes down a level for each.
    let mut prefixes = 0;
    for token in tokens {
        let inside = levels.last().map(|level| level.0);
        match &token.token {
            Token::Whitespace(_) => continue,
            Token::LParen | Token::LBracket | Token::LBrace => levels.push((Open::Parenthesis, 0)),
            Token::Word(word) if word.keyword == Keyword::CASE => levels.push((Open::Case, 0)),
            Token::Word(word) if word.keyword == Keyword::END && inside == Some(Open::Case) => {
                deep -= levels.pop().map_or(0, |level| level.1);
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                while levels.len() > 1 {
                    let Some((open, tokens)) = levels.pop() else { break };
                    deep -= tokens;
                    if open == Open::Parenthesis {
                        break;
                    }
                }
            }
            Token::Comma | Token::SemiColon => {
                if let Some(level) = levels.last_mut() {
                    deep -= std::mem::take(&mut level.1);
                }
            }
            _ => {}
        }
        prefixes = if is_prefix(&token.token) { prefixes + 1 } else { 0 };
        if let Some(level) = levels.last_mut() {
            level.1 += 1;
        }
        deep += 1;
        if deep > TOKENS_DEEP_MAX || levels.len() > NESTING_MAX || prefixes > NESTING_MAX {
            return Some(at(token));
        }
    }
    None
}

fn is_prefix(token: &Token) -> bool {
    match token {
        Token::Minus | Token::Plus | Token::Tilde | Token::AtSign | Token::ExclamationMark => true,
        Token::Word(word) => word.keyword == Keyword::NOT,
        _ => false,
    }
}

fn at(token: &TokenWithSpan) -> SqlError {
    crate::error::too_deep().with_line_column(token.span.start.line, token.span.start.column)
}

fn highest_parameter(tokens: &[TokenWithSpan]) -> Result<usize> {
    let mut highest = 0;
    for token in tokens {
        let Token::Placeholder(name) = &token.token else { continue };
        let number = name.strip_prefix('$').and_then(|n| n.parse::<usize>().ok());
        match number {
            Some(n @ 1..=PARAMETERS_MAX) => highest = highest.max(n),
            _ => {
                return Err(SqlError::new(state::UNDEFINED_PARAMETER, format!("there is no parameter {name}"))
                    .with_line_column(token.span.start.line, token.span.start.column));
            }
        }
    }
    Ok(highest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::on_large_stack;

    fn state_of(sql: &str) -> &'static str {
        on_large_stack(|| match statement(sql) {
            Ok(statement) => {
                assert!(!statement.to_string().is_empty());
                drop(statement.clone());
                "00000"
            }
            Err(e) => e.sqlstate(),
        })
    }

    #[test]
    fn exactly_one_statement_is_taken() {
        assert_eq!(state_of("select 1"), "00000");
        assert_eq!(state_of(" ; select 1 ; ; -- done"), "00000");
        assert_eq!(state_of(""), "42601");
        assert_eq!(state_of("select 1; select 2"), "42601");
        assert_eq!(state_of("select 1 select 2"), "42601");
        assert_eq!(state_of("select $1"), "42P02");
    }

    #[test]
    fn deep_nesting_is_refused_and_never_overflows_the_stack() {
        for (before, after) in
            [("(", ")"), ("not ", ""), ("- ", ""), ("array[", "]"), ("abs(", ")"), ("case when true then ", " end")]
        {
            let sql = format!("select {}1{}", before.repeat(10_000), after.repeat(10_000));
            assert_eq!(state_of(&sql), "54001", "{before}");
        }
        let subqueries = format!("{} select 1 {}", "select * from (".repeat(10_000), ") t".repeat(10_000));
        assert_eq!(state_of(&subqueries), "54001");
        assert_eq!(state_of(&format!("select 1{}", " + 1".repeat(1_000_000))), "54001");
        assert_eq!(state_of(&format!("select 1{}", " union select 1".repeat(500_000))), "54001");
    }

    #[test]
    fn a_tree_within_the_limits_is_handled() {
        assert_eq!(state_of(&format!("select 1{}", " + 1".repeat(10_000))), "00000");
        let nested = NESTING_MAX - 10;
        assert_eq!(state_of(&format!("select {}1{}", "(".repeat(nested), ")".repeat(nested))), "00000");
        assert_eq!(state_of(&format!("insert into t values (1, -2.5){}", ", (1, -2.5)".repeat(50_000))), "00000");
    }

    #[test]
    fn a_statement_that_is_too_long_is_not_even_read() {
        assert_eq!(state_of(&format!("select '{}'", "x".repeat(11 << 20))), "54000");
    }

    #[test]
    fn garbage_is_a_syntax_error_with_a_position() {
        let mut seed = 1_u64;
        let mut next = || {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            char::from(32 + u8::try_from((seed >> 33) % 95).unwrap())
        };
        for _ in 0..20 {
            let text: String = (0..50_000).map(|_| next()).collect();
            let e = statement(&text).unwrap_err().locate(&text);
            assert!(["42601", "54001", "42P02"].contains(&e.sqlstate()), "{e:?}");
            assert!(e.position().is_some_and(|p| p <= text.len()), "{e:?}");
            assert!(e.message().len() < 1000);
        }
    }
}
