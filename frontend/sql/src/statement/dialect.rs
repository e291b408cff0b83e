/*!
sqlparser's PostgreSQL dialect, made to end.

The parser tries one reading of an expression after another, each from the start: nested calls take it twice as long for
every level, and a mistake deep inside `CASE` or `CAST` three times. This dialect leaves out the reading that makes
well-formed calls slow (`json_object(expression: value)`, which is not supported anyway), and counts the expressions that
are begun: a text that makes the parser begin many more than it has tokens is given up as too complex.

In all else it is sqlparser's own: every method that `PostgreSqlDialect` has is passed on, and a test compares them.
*/

use datafusion::sql::sqlparser::ast::Expr;
use datafusion::sql::sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use std::any::TypeId;
use std::cell::Cell;

/// Expressions that may be begun for each token.
const BEGUN_PER_TOKEN: usize = 8;
/// Expressions that may be begun in any statement.
const BEGUN_MIN: usize = 10_000;

/// PostgreSQL's dialect with a bound on the parser's work.
#[derive(Debug)]
pub(super) struct Postgres {
    inner: PostgreSqlDialect,
    /// Expressions that may still be begun.
    left: Cell<usize>,
}

impl Postgres {
    /// For a text of so many tokens.
    pub(super) fn new(tokens: usize) -> Postgres {
        let most = tokens.saturating_mul(BEGUN_PER_TOKEN).saturating_add(BEGUN_MIN);
        Postgres { inner: PostgreSqlDialect {}, left: Cell::new(most) }
    }
}

macro_rules! pass_on {
    ($($name:ident),+ $(,)?) => {
        $(fn $name(&self) -> bool {
            self.inner.$name()
        })+
    };
}

impl Dialect for Postgres {
    fn dialect(&self) -> TypeId {
        self.inner.dialect()
    }

    fn parse_prefix(&self, _parser: &mut Parser<'_>) -> Option<Result<Expr, ParserError>> {
        match self.left.get().checked_sub(1) {
            Some(left) => {
                self.left.set(left);
                None
            }
            None => Some(Err(ParserError::RecursionLimitExceeded)),
        }
    }

    fn supports_named_fn_args_with_expr_name(&self) -> bool {
        false
    }

    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        self.inner.identifier_quote_style(identifier)
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        self.inner.is_delimited_identifier_start(ch)
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        self.inner.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        self.inner.is_identifier_part(ch)
    }

    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        self.inner.is_reserved_for_identifier(keyword)
    }

    fn is_custom_operator_part(&self, ch: char) -> bool {
        self.inner.is_custom_operator_part(ch)
    }

    fn get_next_precedence(&self, parser: &Parser<'_>) -> Option<Result<u8, ParserError>> {
        self.inner.get_next_precedence(parser)
    }

    fn prec_value(&self, precedence: Precedence) -> u8 {
        self.inner.prec_value(precedence)
    }

    pass_on!(
        supports_unicode_string_literal,
        supports_filter_during_aggregation,
        supports_group_by_expr,
        allow_extract_custom,
        allow_extract_single_quotes,
        supports_create_index_with_clause,
        supports_explain_with_utility_options,
        supports_listen_notify,
        supports_factorial_operator,
        supports_bitwise_shift_operators,
        supports_comment_on,
        supports_load_extension,
        supports_named_fn_args_with_colon_operator,
        supports_empty_projections,
        supports_nested_comments,
        supports_string_escape_constant,
        supports_numeric_literal_underscores,
        supports_array_typedef_with_brackets,
        supports_geometric_types,
        supports_set_names,
        supports_alter_column_type_using,
        supports_notnull_operator,
        supports_interval_options,
        supports_insert_table_alias,
        supports_create_table_like_parenthesized,
        supports_select_wildcard_with_alias,
        supports_comma_separated_trim,
        supports_xml_expressions,
        supports_comment_optimizer_hint,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_parse_as_with_the_dialect_itself() {
        for sql in [
            "SELECT a, \"B\", 'x''y', E'\\n', $$z$$, U&'d\\0061t', 1_000, 1e5, :x FROM t",
            "SELECT a::int[], b[1], x -> 'y' ->> 'z', a ~* 'b', a !~ 'b', a @> b, a || b, 2 ^ 3 * 4, NOT a IS NULL",
            "SELECT count(*) FILTER (WHERE a > 1), sum(a) OVER (PARTITION BY b ORDER BY c ROWS 1 PRECEDING), f(1)",
            "SELECT extract(epoch FROM a), extract('year' FROM a), interval '1 day', interval '1' day, trim(both 'x' from y)",
            "SELECT /* a /* b */ c */ 1 << 2 >> 1 # 3, a NOTNULL, array[1, 2], (1, 2), ROW (1, 2), case a when 1 then 2 end",
            "SELECT FROM t GROUP BY GROUPING SETS ((a), ()), ROLLUP (b)",
            "INSERT INTO t AS x (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET a = excluded.a RETURNING *",
            "EXPLAIN (ANALYZE, VERBOSE false) SELECT 1",
            "CREATE TABLE t (a int PRIMARY KEY, b numeric(3, 1)[] DEFAULT 1) WITH (x = 'y')",
            "COPY t FROM 'x' (FORMAT csv, HEADER)",
            "SET NAMES 'utf8'",
            "SELECT 1 OPERATOR(pg_catalog.+) 2",
        ] {
            let own = Parser::parse_sql(&Postgres::new(1000), sql).map_err(|e| e.to_string());
            let theirs = Parser::parse_sql(&PostgreSqlDialect {}, sql).map_err(|e| e.to_string());
            assert_eq!(own, theirs, "{sql}");
        }
    }

    #[test]
    fn nested_calls_take_no_more_than_their_length() {
        let sql = format!("SELECT {}1{}", "abs(".repeat(60), ")".repeat(60));
        let dialect = Postgres::new(0);
        assert!(Parser::parse_sql(&dialect, &sql).is_err(), "the parser's own limit of 50");
        let parsed =
            Parser::new(&dialect).with_recursion_limit(1000).try_with_sql(&sql).and_then(|mut p| p.parse_statements());
        assert!(parsed.is_ok() && dialect.left.get() > BEGUN_MIN - 500);
    }

    #[test]
    fn a_mistake_deep_inside_ends_the_parser() {
        for (before, after) in [("case when true then ", ""), ("cast(", ""), ("array[", " 1]"), ("abs(", "")] {
            let sql = format!("SELECT {}1{}", before.repeat(100), after.repeat(100));
            let dialect = Postgres::new(1000);
            let parsed = Parser::new(&dialect)
                .with_recursion_limit(1000)
                .try_with_sql(&sql)
                .and_then(|mut p| p.parse_statements());
            assert!(parsed.is_err(), "{before}");
        }
    }
}
