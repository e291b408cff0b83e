/*!
Which statements the fast path takes, read from their trees.

Every part of a statement is looked at: one that is not expected here sends it the long way.
*/

use super::{Condition, Limit, PREFIXES_MAX, Plan, Term};
use crate::error::Result;
use crate::session::{Inner, SCHEMA};
use crate::statement::context::{fold, table_name};
use crate::statement::literal;
use crate::types::field_of;
use arrow::datatypes::Schema;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, GroupByExpr, Ident, LimitClause, OrderBy, OrderByKind, Query, Select, SelectFlavor,
    SelectItem, SetExpr, Statement, TableFactor, Value as Literal, WildcardAdditionalOptions,
};
use omendb_engine::key::KeySchema;
use omendb_engine::types::{ColumnDef, TableDef, Value};
use std::ops::Bound;
use std::sync::Arc;

/// The plan of a statement that the fast path takes.
///
/// # Errors
/// What the engine says when it cannot read its catalog.
pub(crate) fn recognise(session: &Arc<Inner>, statement: &Statement) -> Result<Option<Arc<Plan>>> {
    let Statement::Query(query) = statement else { return Ok(None) };
    let Some((select, factor)) = simple(query) else { return Ok(None) };
    let TableFactor::Table { name, alias, .. } = factor else { return Ok(None) };
    let Ok(table_name) = table_name(name) else { return Ok(None) };
    let Some(table) = session.database.engine.snapshot()?.table(&table_name)? else { return Ok(None) };
    if table.has_hidden_key() {
        return Ok(None);
    }
    let scope = match alias {
        Some(alias) if !alias.columns.is_empty() => return Ok(None),
        Some(alias) => fold(&alias.name),
        None => table_name,
    };
    let keys = KeySchema::of(&table)?;
    Ok(Names { table: &table, scope }.plan(query, select, keys).map(Arc::new))
}

/// A query that is one SELECT from one table, without anything that is not looked at later.
fn simple(query: &Query) -> Option<(&Select, &TableFactor)> {
    let Query {
        with: None,
        body,
        order_by: _,
        limit_clause: _,
        fetch: None,
        locks,
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators,
    } = query
    else {
        return None;
    };
    let SetExpr::Select(select) = body.as_ref() else { return None };
    let Select {
        select_token: _,
        optimizer_hints,
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: _,
        projection: _,
        exclude: None,
        into: None,
        from,
        lateral_views,
        prewhere: None,
        selection: Some(_),
        connect_by,
        group_by: GroupByExpr::Expressions(group_by, group_modifiers),
        cluster_by,
        distribute_by,
        sort_by,
        having: None,
        named_window,
        qualify: None,
        window_before_qualify: _,
        value_table_mode: None,
        flavor: SelectFlavor::Standard,
    } = select.as_ref()
    else {
        return None;
    };
    let plain = locks.is_empty()
        && pipe_operators.is_empty()
        && optimizer_hints.is_empty()
        && lateral_views.is_empty()
        && connect_by.is_empty()
        && group_by.is_empty()
        && group_modifiers.is_empty()
        && cluster_by.is_empty()
        && distribute_by.is_empty()
        && sort_by.is_empty()
        && named_window.is_empty();
    let [from] = from.as_slice() else { return None };
    if !plain || !from.joins.is_empty() {
        return None;
    }
    match &from.relation {
        TableFactor::Table {
            name: _,
            alias: _,
            args: None,
            with_hints,
            version: None,
            with_ordinality: false,
            partitions,
            json_path: None,
            sample: None,
            index_hints,
        } if with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty() => Some((select, &from.relation)),
        _ => None,
    }
}

/// A table, and the name by which the statement means it.
struct Names<'a> {
    table: &'a Arc<TableDef>,
    scope: String,
}

/// What WHERE says of one column of the key.
#[derive(Default)]
struct Said {
    /// It equals one of these.
    among: Option<Vec<Term>>,
    lower: Option<Bound<Term>>,
    upper: Option<Bound<Term>>,
}

impl Names<'_> {
    fn plan(&self, query: &Query, select: &Select, keys: KeySchema) -> Option<Plan> {
        let output = self.output(&select.projection)?;
        let condition = self.condition(select.selection.as_ref()?)?;
        let reverse = match &query.order_by {
            None => false,
            Some(order_by) => {
                let fixed = condition.prefix.iter().take_while(|(_, terms)| terms.len() == 1).count();
                self.direction(order_by, &output, fixed)?
            }
        };
        let fields: Vec<_> = output.iter().map(|(name, column)| field_of(column).with_name(name)).collect();
        Some(Plan {
            table: self.table.clone(),
            keys,
            columns: output.iter().map(|(_, column)| column.id).collect(),
            types: output.iter().map(|(_, column)| column.ty).collect(),
            schema: Arc::new(Schema::new(fields)),
            condition,
            reverse,
            limit: limit(query.limit_clause.as_ref())?,
        })
    }

    fn column(&self, expr: &Expr) -> Option<&ColumnDef> {
        match expr {
            Expr::Identifier(name) => self.table.column(&fold(name)),
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [scope, name] if fold(scope) == self.scope => self.table.column(&fold(name)),
                [schema, scope, name]
                    if fold(schema) == SCHEMA && fold(scope) == self.table.name && self.scope == self.table.name =>
                {
                    self.table.column(&fold(name))
                }
                _ => None,
            },
            Expr::Nested(inner) => self.column(inner),
            _ => None,
        }
    }

    /// The result's columns and their names, which must differ.
    fn output(&self, projection: &[SelectItem]) -> Option<Vec<(String, &ColumnDef)>> {
        let mut output: Vec<(String, &ColumnDef)> = Vec::with_capacity(projection.len());
        for item in projection {
            match item {
                SelectItem::UnnamedExpr(expr) => {
                    let column = self.column(expr)?;
                    output.push((column.name.clone(), column));
                }
                SelectItem::ExprWithAlias { expr, alias } => output.push((fold(alias), self.column(expr)?)),
                SelectItem::Wildcard(options) if plain_wildcard(options) => {
                    output.extend(self.table.columns.iter().map(|column| (column.name.clone(), column)));
                }
                _ => return None,
            }
        }
        let repeats = |at: usize, name: &String| output.iter().skip(at + 1).any(|(other, _)| other == name);
        match output.iter().enumerate().any(|(at, (name, _))| repeats(at, name)) {
            true => None,
            false => Some(output),
        }
    }

    /// A condition that says what the first columns of the key equal, perhaps bounds the next one, and says nothing else.
    fn condition(&self, selection: &Expr) -> Option<Condition> {
        let key: Vec<&ColumnDef> = self.table.key.iter().filter_map(|id| self.table.column_by_id(*id)).collect();
        let mut said: Vec<Said> = key.iter().map(|_| Said::default()).collect();
        let mut open = vec![selection];
        while let Some(expr) = open.pop() {
            match expr {
                Expr::Nested(inner) => open.push(inner),
                Expr::BinaryOp { left, op: BinaryOperator::And, right } => open.extend([left.as_ref(), right.as_ref()]),
                Expr::BinaryOp { left, op, right } => match self.column(left) {
                    Some(column) => say(&key, &mut said, column, op, right)?,
                    None => say(&key, &mut said, self.column(right)?, &mirrored(op)?, left)?,
                },
                Expr::Between { expr, negated: false, low, high } => {
                    let column = self.column(expr)?;
                    say(&key, &mut said, column, &BinaryOperator::GtEq, low)?;
                    say(&key, &mut said, column, &BinaryOperator::LtEq, high)?;
                }
                Expr::InList { expr, list, negated: false } => {
                    let column = self.column(expr)?;
                    let terms = list.iter().map(|to| term(to, column)).collect::<Option<Vec<_>>>()?;
                    let place = key.iter().position(|c| c.id == column.id)?;
                    if said.get_mut(place)?.among.replace(terms).is_some() {
                        return None;
                    }
                }
                _ => return None,
            }
        }
        let mut prefix = Vec::new();
        let mut bounds = None;
        let mut ended = false;
        for (column, said) in key.iter().zip(said) {
            let ty = column.ty;
            match said {
                Said { among: None, lower: None, upper: None } => ended = true,
                _ if ended => return None,
                Said { among: Some(terms), lower: None, upper: None } => prefix.push((ty, terms)),
                Said { among: None, lower, upper } => {
                    bounds = Some((ty, lower.unwrap_or(Bound::Unbounded), upper.unwrap_or(Bound::Unbounded)));
                    ended = true;
                }
                Said { among: Some(_), .. } => return None,
            }
        }
        let count = prefix.iter().try_fold(1_usize, |count, (_, terms)| count.checked_mul(terms.len()));
        if count.is_none_or(|count| count == 0 || count > PREFIXES_MAX) {
            return None;
        }
        (!prefix.is_empty() || bounds.is_some()).then_some(Condition { prefix, bounds })
    }

    /// Whether ORDER BY goes along the key (`false`) or against it (`true`); `None` for neither.
    fn direction(&self, order_by: &OrderBy, output: &[(String, &ColumnDef)], fixed: usize) -> Option<bool> {
        let OrderBy { kind: OrderByKind::Expressions(exprs), interpolate: None } = order_by else { return None };
        let mut key = self.table.key.iter();
        let fixed: Vec<_> = key.by_ref().take(fixed).collect();
        let mut reverse = None;
        for order in exprs {
            if order.with_fill.is_some() {
                return None;
            }
            let column = self.column(&order.expr)?;
            // A bare name means a column of the result first.
            let shadowed = |name: &Ident| output.iter().any(|(n, c)| *n == fold(name) && c.id != column.id);
            if matches!(&order.expr, Expr::Identifier(name) if shadowed(name)) {
                return None;
            }
            if fixed.contains(&&column.id) {
                continue;
            }
            let descending = order.options.asc == Some(false);
            if key.next() != Some(&column.id) || reverse.is_some_and(|r| r != descending) {
                return None;
            }
            reverse = Some(descending);
        }
        Some(reverse.unwrap_or(false))
    }
}

fn plain_wildcard(options: &WildcardAdditionalOptions) -> bool {
    *options == WildcardAdditionalOptions { wildcard_token: options.wildcard_token.clone(), ..Default::default() }
}

fn mirrored(op: &BinaryOperator) -> Option<BinaryOperator> {
    Some(match op {
        BinaryOperator::Eq => BinaryOperator::Eq,
        BinaryOperator::Lt => BinaryOperator::Gt,
        BinaryOperator::LtEq => BinaryOperator::GtEq,
        BinaryOperator::Gt => BinaryOperator::Lt,
        BinaryOperator::GtEq => BinaryOperator::LtEq,
        _ => return None,
    })
}

/// Takes a comparison down; a second one of the same kind sends the statement the long way.
fn say(key: &[&ColumnDef], said: &mut [Said], column: &ColumnDef, op: &BinaryOperator, to: &Expr) -> Option<()> {
    let place = key.iter().position(|c| c.id == column.id)?;
    let said = said.get_mut(place)?;
    let term = term(to, column)?;
    let taken = match op {
        BinaryOperator::Eq => said.among.replace(vec![term]).is_some(),
        BinaryOperator::Gt => said.lower.replace(Bound::Excluded(term)).is_some(),
        BinaryOperator::GtEq => said.lower.replace(Bound::Included(term)).is_some(),
        BinaryOperator::Lt => said.upper.replace(Bound::Excluded(term)).is_some(),
        BinaryOperator::LtEq => said.upper.replace(Bound::Included(term)).is_some(),
        _ => true,
    };
    (!taken).then_some(())
}

fn term(expr: &Expr, column: &ColumnDef) -> Option<Term> {
    if let Some(at) = parameter(expr) {
        return Some(Term::Parameter(at));
    }
    literal::constant(expr, column.ty).filter(|value| *value != Value::Null).map(Term::Value)
}

/// The place, from 0, of `$n`.
fn parameter(expr: &Expr) -> Option<usize> {
    let Expr::Value(value) = expr else { return None };
    let Literal::Placeholder(name) = &value.value else { return None };
    name.strip_prefix('$')?.parse::<usize>().ok()?.checked_sub(1)
}

fn limit(clause: Option<&LimitClause>) -> Option<Limit> {
    let limit = match clause {
        None => return Some(Limit::None),
        Some(LimitClause::LimitOffset { limit: Some(limit), offset: None, limit_by }) if limit_by.is_empty() => limit,
        _ => return None,
    };
    if let Some(at) = parameter(limit) {
        return Some(Limit::Parameter(at));
    }
    match limit {
        Expr::Value(value) => match &value.value {
            Literal::Number(digits, false) => digits.parse().ok().map(Limit::Rows),
            _ => None,
        },
        _ => None,
    }
}
