/*!
A statement before it is planned.

What DataFusion's planner would read past is refused here by name (0A000): row locks, samples, hints, versions of tables,
dialects' clauses. What it lacks and is only another spelling is respelt: `FETCH FIRST n ROWS ONLY` is LIMIT, `AT TIME ZONE`
the function that it is in PostgreSQL, `generate_series(…) AS i` has a column i. Number literals that its planner reads otherwise than PostgreSQL (exponents, integers
past 64 bits, more than 38 digits) become what PostgreSQL makes of them, as far as 38 digits go.

A long chain of AND or OR, which programs write by the thousand, is made a balanced tree: the parser's leans to the left and is as deep as
the chain is long, and planning asks every level of it for its type.
*/

use crate::error::{CHAIN_MAX, Result, SqlError, state};
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, DataType, ExactNumberInfo, Expr, Fetch, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentList, FunctionArguments, Ident, Interval, LimitClause, ObjectName, Query, Select, SetExpr,
    Statement, TableAlias, TableAliasColumnDef, TableFactor, UnaryOperator, Value, ValueWithSpan, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use std::ops::ControlFlow;

/// Digits that a numeric can have.
const MAX_DIGITS: usize = 38;

/// Refuses what would be ignored and respells what would not be understood.
///
/// # Errors
/// 0A000 for what is refused, 22003 for a number literal of more than 38 digits before the point.
pub fn rewrite(statement: &mut Statement) -> Result<()> {
    let mut rewriter = Rewriter { negated: false, renamed: 0, depth: 0 };
    match statement.visit(&mut rewriter) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Rewriter {
    /// The expression at hand stands behind a minus.
    negated: bool,
    /// Subqueries that were given a name of their own.
    renamed: usize,
    /// Expressions around the one at hand.
    depth: usize,
}

fn refuse(what: &str) -> ControlFlow<SqlError> {
    ControlFlow::Break(SqlError::unsupported(format!("{what} is not supported")))
}

/// Goes on unless `is_there`.
fn refuse_if(is_there: bool, what: &str) -> ControlFlow<SqlError> {
    if is_there { refuse(what) } else { ControlFlow::Continue(()) }
}

impl VisitorMut for Rewriter {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<SqlError> {
        if let Some(lock) = query.locks.first() {
            return refuse(&format!("FOR {}", lock.lock_type));
        }
        refuse_if(query.for_clause.is_some(), "FOR XML or FOR JSON")?;
        refuse_if(query.settings.is_some(), "SETTINGS")?;
        refuse_if(query.format_clause.is_some(), "FORMAT")?;
        refuse_if(!query.pipe_operators.is_empty(), "the pipe operator")?;
        super::names::name_columns(query);
        match query.fetch.take() {
            Some(fetch) => fetch_as_limit(query, fetch),
            None => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<SqlError> {
        refuse_if(select.into.is_some(), "SELECT INTO")?;
        refuse_if(select.top.is_some(), "TOP")?;
        refuse_if(select.exclude.is_some(), "EXCLUDE")?;
        refuse_if(!select.optimizer_hints.is_empty(), "an optimizer hint")?;
        refuse_if(select.select_modifiers.is_some(), "a modifier of SELECT")?;
        refuse_if(!select.lateral_views.is_empty(), "LATERAL VIEW")?;
        refuse_if(select.prewhere.is_some(), "PREWHERE")?;
        refuse_if(!select.connect_by.is_empty(), "CONNECT BY")?;
        refuse_if(!select.cluster_by.is_empty(), "CLUSTER BY")?;
        refuse_if(!select.distribute_by.is_empty(), "DISTRIBUTE BY")?;
        refuse_if(!select.sort_by.is_empty(), "SORT BY")?;
        refuse_if(select.value_table_mode.is_some(), "SELECT AS STRUCT or VALUE")
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<SqlError> {
        match factor {
            TableFactor::Table {
                with_hints,
                version,
                partitions,
                json_path,
                sample,
                index_hints,
                with_ordinality,
                ..
            } => {
                refuse_if(sample.is_some(), "TABLESAMPLE")?;
                refuse_if(version.is_some(), "reading a table as of a version")?;
                refuse_if(!with_hints.is_empty() || !index_hints.is_empty(), "a table hint")?;
                refuse_if(!partitions.is_empty(), "PARTITION")?;
                refuse_if(json_path.is_some(), "a path behind a table")?;
                refuse_if(*with_ordinality, "WITH ORDINALITY")?;
                name_series(factor);
                ControlFlow::Continue(())
            }
            TableFactor::Derived { sample, .. } => refuse_if(sample.is_some(), "TABLESAMPLE"),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        let negated = std::mem::take(&mut self.negated);
        balance(expr);
        self.depth += 1;
        if self.depth > CHAIN_MAX {
            return ControlFlow::Break(crate::error::too_deep());
        }
        match expr {
            Expr::UnaryOp { op: UnaryOperator::Minus, .. } => self.negated = true,
            Expr::Cast { kind: CastKind::TryCast | CastKind::SafeCast, .. } => return refuse("TRY_CAST"),
            Expr::Cast { format: Some(_), .. } => return refuse("CAST with FORMAT"),
            Expr::Interval(interval) => {
                if let Some(text) = plain_interval(interval) {
                    *expr = cast_of_text(text, DataType::Interval { fields: None, precision: None });
                }
            }
            Expr::Value(ValueWithSpan { value: Value::Number(digits, _), .. }) => match number(digits, negated) {
                Ok(Number::AsWritten) => {}
                Ok(Number::Plain(plain)) => *digits = plain,
                Ok(Number::Cast(text, ty)) => *expr = cast_of_text(text, ty),
                Err(error) => return ControlFlow::Break(error),
            },
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        self.depth -= 1;
        if let Expr::AtTimeZone { timestamp, time_zone } = expr {
            let null = || Expr::Value(Value::Null.into());
            let timestamp = std::mem::replace(timestamp.as_mut(), null());
            let time_zone = std::mem::replace(time_zone.as_mut(), null());
            *expr = call("timezone", [time_zone, timestamp]);
        }
        if let Expr::AnyOp { right, .. } | Expr::AllOp { right, .. } = expr
            && let Expr::Subquery(query) = right.as_mut()
        {
            self.renamed += 1;
            match renamed(query, self.renamed) {
                Ok(apart) => **query = apart,
                Err(error) => return ControlFlow::Break(error),
            }
        }
        ControlFlow::Continue(())
    }
}

/// Names the one column of `generate_series(…) AS i` i, and without a name as the function, as PostgreSQL does.
fn name_series(factor: &mut TableFactor) {
    const NAME: &str = "generate_series";
    let TableFactor::Table { name, args: Some(_), alias, .. } = factor else { return };
    if !name.to_string().eq_ignore_ascii_case(NAME) {
        return;
    }
    let unnamed = || TableAlias { explicit: true, name: Ident::new(NAME), columns: Vec::new(), at: None };
    let alias = alias.get_or_insert_with(unnamed);
    if alias.columns.is_empty() {
        alias.columns.push(TableAliasColumnDef { name: alias.name.clone(), data_type: None });
    }
}

/// Operands from which a chain is balanced; shorter ones stay as they are written.
const LONG_CHAIN: usize = 32;

/// Makes a long chain of one of AND and OR, leaning to the left, a balanced tree with the same operands in the same order.
fn balance(expr: &mut Expr) {
    let Expr::BinaryOp { op: chained @ (BinaryOperator::And | BinaryOperator::Or), .. } = &*expr else { return };
    let chained = chained.clone();
    let mut length = 1;
    let mut next = &*expr;
    while let Expr::BinaryOp { left, op, .. } = next
        && *op == chained
    {
        length += 1;
        next = left.as_ref();
    }
    if length < LONG_CHAIN {
        return;
    }
    let null = || Expr::Value(Value::Null.into());
    let mut operands = Vec::with_capacity(length);
    let mut rest = std::mem::replace(expr, null());
    loop {
        match rest {
            Expr::BinaryOp { left, op, right } if op == chained => {
                operands.push(*right);
                rest = *left;
            }
            first => {
                operands.push(first);
                break;
            }
        }
    }
    operands.reverse();
    // Neighbours are joined in pairs, until one is left.
    while operands.len() > 1 {
        let mut joined = Vec::with_capacity(operands.len().div_ceil(2));
        let mut pairs = operands.into_iter();
        while let Some(left) = pairs.next() {
            joined.push(match pairs.next() {
                Some(right) => Expr::BinaryOp { left: Box::new(left), op: chained.clone(), right: Box::new(right) },
                None => left,
            });
        }
        operands = joined;
    }
    if let Some(balanced) = operands.pop() {
        *expr = balanced;
    }
}

/// The query as a table with a name that no other has. DataFusion compares the left side of ANY and ALL with the
/// subquery's column by name, and takes one for the other where both come from a table of the same name.
fn renamed(query: &Query, number: usize) -> Result<Query> {
    let sql = format!("SELECT * FROM (SELECT 1) AS \"compared {number}\"");
    let mut outer = Parser::new(&PostgreSqlDialect {}).try_with_sql(&sql)?.parse_query()?;
    if let SetExpr::Select(select) = outer.body.as_mut()
        && let Some(TableFactor::Derived { subquery, .. }) = select.from.first_mut().map(|from| &mut from.relation)
    {
        **subquery = query.clone();
    }
    Ok(*outer)
}

/// The text of `interval '1 day'`; none with fields behind it, or for an expression.
fn plain_interval(interval: &Interval) -> Option<String> {
    let Interval { value, leading_field: None, leading_precision: None, last_field: None, .. } = interval else {
        return None;
    };
    match value.as_ref() {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => Some(text.clone()),
        _ => None,
    }
}

fn fetch_as_limit(query: &mut Query, fetch: Fetch) -> ControlFlow<SqlError> {
    refuse_if(fetch.with_ties, "FETCH … WITH TIES")?;
    refuse_if(fetch.percent, "FETCH … PERCENT")?;
    let one = || Expr::Value(Value::Number("1".to_owned(), false).into());
    let rows = fetch.quantity.unwrap_or_else(one);
    match &mut query.limit_clause {
        None => {
            query.limit_clause =
                Some(LimitClause::LimitOffset { limit: Some(rows), offset: None, limit_by: Vec::new() });
        }
        Some(LimitClause::LimitOffset { limit: limit @ None, .. }) => *limit = Some(rows),
        Some(_) => {
            let message = "multiple LIMIT clauses not allowed";
            return ControlFlow::Break(SqlError::new(state::SYNTAX_ERROR, message));
        }
    }
    ControlFlow::Continue(())
}

fn call<const N: usize>(name: &str, args: [Expr; N]) -> Expr {
    let args = args.map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).to_vec();
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

fn cast_of_text(text: String, data_type: DataType) -> Expr {
    Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(Expr::Value(Value::SingleQuotedString(text).into())),
        data_type,
        array: false,
        format: None,
    }
}

/// What becomes of a number literal.
enum Number {
    AsWritten,
    /// The same number without an exponent.
    Plain(String),
    Cast(String, DataType),
}

fn number(text: &str, negated: bool) -> Result<Number> {
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if is_digits(text) && (text.len() < 19 || text.parse::<i64>().is_ok()) {
        return Ok(Number::AsWritten);
    }
    // The smallest bigint: the planner reads its minus and its digits together.
    if negated && text == "9223372036854775808" {
        return Ok(Number::AsWritten);
    }
    let text = text.replace('_', "");
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()),
        None => (text.as_str(), Some(0)),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let (Some(exponent), true) = (exponent, is_digits(whole) && is_digits(fraction)) else {
        return Ok(Number::AsWritten);
    };
    let Some((whole, fraction)) = shifted(whole, fraction, exponent) else {
        // 1e300: more digits than a numeric has, and a double then.
        return Ok(Number::Cast(text.clone(), DataType::DoublePrecision));
    };
    let whole = whole.trim_start_matches('0');
    if whole.len() > MAX_DIGITS {
        let message = format!("number {text} has more than {MAX_DIGITS} digits");
        return Err(SqlError::new(state::NUMERIC_VALUE_OUT_OF_RANGE, message));
    }
    let places = fraction.len().min(MAX_DIGITS - whole.len());
    if fraction.is_empty() || fraction.len() > places {
        let plain = format!("{}.{fraction}", if whole.is_empty() { "0" } else { whole });
        let info = ExactNumberInfo::PrecisionAndScale(digits_of(whole, places), i64::try_from(places).unwrap_or(0));
        return Ok(Number::Cast(plain.trim_end_matches('.').to_owned(), DataType::Numeric(info)));
    }
    Ok(match exponent {
        0 => Number::AsWritten,
        _ => Number::Plain(format!("{}.{fraction}", if whole.is_empty() { "0" } else { whole })),
    })
}

fn digits_of(whole: &str, places: usize) -> u64 {
    u64::try_from((whole.len() + places).max(1)).unwrap_or(1)
}

/// The digits before and behind the point once it has moved by `exponent`; `None` if that takes more digits than a
/// numeric has.
fn shifted(whole: &str, fraction: &str, exponent: i64) -> Option<(String, String)> {
    if exponent == 0 {
        return Some((whole.to_owned(), fraction.to_owned()));
    }
    let by = usize::try_from(exponent.unsigned_abs()).ok().filter(|by| *by <= MAX_DIGITS)?;
    let zeros = |count: usize| "0".repeat(count);
    let (whole, fraction) = if exponent > 0 {
        let fraction = format!("{fraction}{}", zeros(by.saturating_sub(fraction.len())));
        let (moved, rest) = fraction.split_at_checked(by)?;
        (format!("{whole}{moved}"), rest.to_owned())
    } else {
        let whole = format!("{}{whole}", zeros(by.saturating_sub(whole.len())));
        let (rest, moved) = whole.split_at_checked(whole.len() - by)?;
        (rest.to_owned(), format!("{moved}{fraction}"))
    };
    (whole.trim_start_matches('0').len() + fraction.len() <= MAX_DIGITS).then_some((whole, fraction))
}
