/*!
What a column of a result is called when the statement does not say.

PostgreSQL calls it by its function, its type or its column, and `?column?` where there is none of them; DataFusion writes the
expression out. So each unnamed expression of a select list is given PostgreSQL's name here, before planning.

Two columns of a result may share a name, which no plan of DataFusion's may have. Names after the first of a kind carry a
mark and a number behind them, which [`shown`] takes off again where rows leave. Marked are also the names that another clause
of the same query could take for a column's: PostgreSQL looks at a select list's names in `ORDER BY name` only, and not in
`HAVING name > 1` or `ORDER BY name + 1`.

For the same reason `SELECT DISTINCT lower(a) … ORDER BY lower(a)` becomes `ORDER BY 1`.
*/

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::sql::sqlparser::ast::{
    AccessExpr, Array, DataType, Distinct, Expr, Ident, ObjectName, OrderByKind, Query, Select, SelectItem, SetExpr,
    TimezoneInfo, Value,
};
use std::sync::Arc;

/// What follows it does not belong to the name.
const MARK: char = '\u{1}';

/// The name of an expression that has none.
const NONE: &str = "?column?";

/// Gives the unnamed columns of a query's select lists their names.
pub(super) fn name_columns(query: &mut Query) {
    let orders = match query.order_by.as_mut().map(|order| &mut order.kind) {
        Some(OrderByKind::Expressions(orders)) => orders.as_mut_slice(),
        _ => &mut [],
    };
    if let SetExpr::Select(select) = query.body.as_ref()
        && select.distinct == Some(Distinct::Distinct)
    {
        for order in orders.iter_mut().filter(|order| !is_name_or_number(&order.expr)) {
            if let Some(place) = place_of(&order.expr, &select.projection) {
                order.expr = Expr::value(Value::Number(place.to_string(), false));
            }
        }
    }
    let hidden = orders.iter().any(|order| !is_name_or_number(&order.expr));
    name_within(query.body.as_mut(), hidden);
}

fn name_within(body: &mut SetExpr, hidden: bool) {
    match body {
        SetExpr::Select(select) => name_items(select, hidden),
        SetExpr::SetOperation { left, right, .. } => {
            name_within(left, hidden);
            name_within(right, hidden);
        }
        _ => {}
    }
}

fn is_name_or_number(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_))
}

/// Which item of the list, from one, this expression is.
fn place_of(expr: &Expr, items: &[SelectItem]) -> Option<usize> {
    let is_it = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(item) | SelectItem::ExprWithAlias { expr: item, .. } => item == expr,
        _ => false,
    };
    let place = items.iter().position(is_it)?;
    let counted = items.get(..place)?.iter().all(|item| !is_wildcard(item));
    counted.then_some(place + 1)
}

fn is_wildcard(item: &SelectItem) -> bool {
    matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..))
}

fn name_items(select: &mut Select, hidden: bool) {
    // Among the columns of a wildcard any name may be.
    let hidden = hidden || select.having.is_some() || select.projection.iter().any(is_wildcard);
    let mut taken: Vec<String> = select.projection.iter().filter_map(given_name).collect();
    let mut columns: Vec<Expr> = Vec::new();
    for (place, item) in select.projection.iter_mut().enumerate() {
        let SelectItem::UnnamedExpr(expr) = item else { continue };
        let is_column = matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
        if is_column && !columns.contains(expr) {
            columns.push(expr.clone());
            continue;
        }
        let name = name_of(expr).map_or_else(|| NONE.to_owned(), |(name, _)| name);
        let alias = match hidden || taken.contains(&name) {
            true => format!("{name}{MARK}{place}"),
            false => name.clone(),
        };
        taken.push(name);
        let expr = std::mem::replace(expr, Expr::value(Value::Null));
        *item = SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', alias) };
    }
}

/// The name that an item has without our doing.
fn given_name(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(folded(alias)),
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(folded(name)),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(names)) => names.last().map(folded),
        _ => None,
    }
}

/// How well a name fits: a type's or CASE's gives way to a better one further in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    Weak,
    Good,
}

/// PostgreSQL's name for an expression (its `FigureColname`), if it has one.
fn name_of(expr: &Expr) -> Option<(String, Fit)> {
    let good = |name: &str| Some((name.to_owned(), Fit::Good));
    match expr {
        Expr::Identifier(name) => Some((folded(name), Fit::Good)),
        Expr::CompoundIdentifier(names) => names.last().map(|name| (folded(name), Fit::Good)),
        Expr::Function(function) => last(&function.name),
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => name_of(inner),
        Expr::CompoundFieldAccess { root, access_chain } => {
            let field = access_chain.iter().rev().find_map(|access| match access {
                AccessExpr::Dot(field) => name_of(field),
                AccessExpr::Subscript(_) => None,
            });
            field.or_else(|| name_of(root))
        }
        Expr::Cast { expr, data_type, .. } => better(name_of(expr), type_name(data_type)),
        Expr::TypedString(typed) => Some((type_name(&typed.data_type), Fit::Weak)),
        Expr::Interval(_) => Some(("interval".to_owned(), Fit::Weak)),
        Expr::Case { else_result, .. } => better(else_result.as_deref().and_then(name_of), "case".to_owned()),
        Expr::Exists { negated: false, .. } => good("exists"),
        Expr::Subquery(query) => first_name(query),
        Expr::Array(Array { .. }) => good("array"),
        Expr::Tuple(_) => good("row"),
        Expr::Extract { .. } => good("extract"),
        Expr::Ceil { .. } => good("ceil"),
        Expr::Floor { .. } => good("floor"),
        Expr::Position { .. } => good("position"),
        Expr::Substring { .. } => good("substring"),
        Expr::Overlay { .. } => good("overlay"),
        Expr::AtTimeZone { .. } => good("timezone"),
        Expr::Trim { trim_where, .. } => good(match trim_where.map(|side| side.to_string()).as_deref() {
            Some("LEADING") => "ltrim",
            Some("TRAILING") => "rtrim",
            _ => "btrim",
        }),
        _ => None,
    }
}

/// The inner name if it is a good one, else this.
fn better(inner: Option<(String, Fit)>, own: String) -> Option<(String, Fit)> {
    inner.filter(|(_, fit)| *fit == Fit::Good).or(Some((own, Fit::Weak)))
}

/// The name of a subquery's one column.
fn first_name(query: &Query) -> Option<(String, Fit)> {
    let mut body = query.body.as_ref();
    loop {
        match body {
            SetExpr::Select(select) => {
                return match select.projection.first()? {
                    SelectItem::ExprWithAlias { alias, .. } => Some((folded(alias), Fit::Good)),
                    SelectItem::UnnamedExpr(expr) => name_of(expr),
                    _ => None,
                };
            }
            SetExpr::SetOperation { left, .. } => body = left.as_ref(),
            SetExpr::Query(query) => body = query.body.as_ref(),
            _ => return None,
        }
    }
}

/// PostgreSQL's own name for a type.
fn type_name(ty: &DataType) -> String {
    use DataType as T;
    let name = match ty {
        T::Int(_) | T::Integer(_) | T::Int4(_) => "int4",
        T::BigInt(_) | T::Int8(_) => "int8",
        T::SmallInt(_) | T::Int2(_) => "int2",
        T::Real | T::Float4 => "float4",
        T::Float(_) | T::Float8 | T::Double(_) | T::DoublePrecision => "float8",
        T::Numeric(_) | T::Decimal(_) | T::Dec(_) => "numeric",
        T::Varchar(_) | T::CharacterVarying(_) | T::CharVarying(_) => "varchar",
        T::Char(_) | T::Character(_) => "bpchar",
        T::Bool | T::Boolean => "bool",
        T::Time(_, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone) => "timetz",
        T::Time(..) => "time",
        T::Timestamp(_, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone) => "timestamptz",
        T::Timestamp(..) => "timestamp",
        T::Interval { .. } => "interval",
        T::Custom(name, _) => return last(name).map(|(name, _)| name).unwrap_or_default(),
        other => return other.to_string().to_lowercase(),
    };
    name.to_owned()
}

fn last(name: &ObjectName) -> Option<(String, Fit)> {
    let ident = name.0.last()?.as_ident()?;
    Some((folded(ident), Fit::Good))
}

fn folded(name: &Ident) -> String {
    match name.quote_style {
        None => name.value.to_lowercase(),
        Some(_) => name.value.clone(),
    }
}

/// The part of a name that is shown.
pub(crate) fn shown_name(name: &str) -> &str {
    name.split(MARK).next().unwrap_or(name)
}

/// A text without marks.
pub(crate) fn shown_text(text: String) -> String {
    if !text.contains(MARK) {
        return text;
    }
    let mut parts = text.split(MARK);
    let mut out = parts.next().unwrap_or_default().to_owned();
    parts.for_each(|part| out.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit())));
    out
}

/// The schema with the names that are shown; `None` where it has them already.
pub(crate) fn shown(schema: &Schema) -> Option<SchemaRef> {
    schema.fields().iter().any(|field| field.name().contains(MARK)).then(|| {
        let fields = schema.fields().iter().map(|field| {
            let name = shown_name(field.name()).to_owned();
            Field::clone(field).with_name(name)
        });
        Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone()))
    })
}
