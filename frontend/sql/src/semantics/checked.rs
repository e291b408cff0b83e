/*!
Arithmetic and casts become checked.

Runs after types are coerced, so that both sides of an operator have the type it works in. `+ - * / %` and unary minus
of numbers become [`super::arithmetic`]'s functions with the result type they were planned with; casts become
[`super::cast`]'s where PostgreSQL's differ, and casts of literals are made at once, so that a bad literal is an error
even if no row is read. Arithmetic with dates and intervals is DataFusion's.

A filter `x <> 0 AND 10 / x > 2` is read left to right by people and by PostgreSQL, but not by DataFusion, which computes
both sides for a batch. What may fail in a conjunct therefore gets the conjuncts before it that cannot as one more
argument, and looks at it only if it fails: then rows that are out already do not count.
*/

use super::arithmetic::{self, Op};
use super::cast;
use super::literals::any_expression;
use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{BinaryExpr, Expr, Filter, LogicalPlan, Operator};
use datafusion::optimizer::AnalyzerRule;

#[derive(Debug)]
pub(crate) struct Checked;

impl AnalyzerRule for Checked {
    fn name(&self) -> &str {
        "checked"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(analyze_node)?.data)
    }
}

/// The schema that a node's expressions are written over.
pub(crate) fn input_schema(plan: &LogicalPlan) -> Result<DFSchema> {
    let mut schema = super::literals::schema_of_inputs(plan);
    if let LogicalPlan::TableScan(scan) = plan {
        let source = DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?;
        schema.merge(&source);
    }
    Ok(schema)
}

/// How the node keeps the names of its columns.
pub(crate) fn names(plan: &LogicalPlan) -> NamePreserver {
    NamePreserver::new(plan)
}

fn analyze_node(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if !any_expression(&plan, is_candidate)? {
        return Ok(Transformed::no(plan));
    }
    let schema = input_schema(&plan)?;
    let names = names(&plan);
    let values = matches!(plan, LogicalPlan::Values(_));
    let checked = plan.map_expressions(|expr| {
        if !expr.exists(|expr| Ok(is_candidate(expr)))? {
            return Ok(Transformed::no(expr));
        }
        let saved = names.save(&expr);
        Ok(expr.transform_up(|expr| check(expr, &schema))?.update_data(|expr| saved.restore(expr)))
    })?;
    checked.map_data(|plan| match plan {
        LogicalPlan::Filter(filter) => guard(filter).map(LogicalPlan::Filter),
        plan if values => Ok(plan),
        plan => plan.recompute_schema(),
    })
}

fn is_candidate(expr: &Expr) -> bool {
    match expr {
        Expr::BinaryExpr(BinaryExpr { op, .. }) => operation(*op).is_some(),
        Expr::Negative(_) | Expr::Cast(_) => true,
        _ => false,
    }
}

fn operation(op: Operator) -> Option<Op> {
    match op {
        Operator::Plus => Some(Op::Add),
        Operator::Minus => Some(Op::Subtract),
        Operator::Multiply => Some(Op::Multiply),
        Operator::Divide => Some(Op::Divide),
        Operator::Modulo => Some(Op::Remainder),
        _ => None,
    }
}

fn check(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let planned = match operation(op) {
                Some(operation) => numeric_result(&left, op, &right, schema)?.map(|result| (operation, result)),
                None => None,
            };
            match planned {
                Some((operation, result)) => Ok(Transformed::yes(arithmetic::binary(operation, *left, *right, result))),
                None => Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr::new(left, op, right)))),
            }
        }
        Expr::Negative(operand) => {
            let ty = arithmetic::type_of(&operand, schema)?;
            if ty.is_numeric() {
                return Ok(Transformed::yes(arithmetic::negate(*operand, ty)));
            }
            Ok(Transformed::no(Expr::Negative(operand)))
        }
        Expr::Cast(Cast { expr, field }) => check_cast(*expr, field, schema),
        other => Ok(Transformed::no(other)),
    }
}

/// The type of the result if both sides are numbers of types that the functions work on.
fn numeric_result(left: &Expr, op: Operator, right: &Expr, schema: &DFSchema) -> Result<Option<DataType>> {
    let (left_type, right_type) = (arithmetic::type_of(left, schema)?, arithmetic::type_of(right, schema)?);
    if !left_type.is_numeric() || !right_type.is_numeric() {
        return Ok(None);
    }
    if left_type == right_type && !left_type.is_decimal() {
        return Ok(Some(left_type));
    }
    let coercer = datafusion::logical_expr::type_coercion::binary::BinaryTypeCoercer::new(&left_type, &op, &right_type);
    coercer.get_result_type().map(Some)
}

fn check_cast(expr: Expr, field: arrow::datatypes::FieldRef, schema: &DFSchema) -> Result<Transformed<Expr>> {
    if let Expr::Literal(value, metadata) = &expr {
        // The cast's type stands in the literal; its metadata (uuid, json) does not, so those stay functions.
        if field.metadata().is_empty() && !value.is_null() && cast::needs_convert(&value.data_type(), &field) {
            let value = cast::convert_scalar(value, &field)?;
            return Ok(Transformed::yes(Expr::Literal(value, metadata.clone())));
        }
        if !field.metadata().is_empty() && !value.is_null() {
            cast::convert_scalar(value, &field)?;
        }
    }
    if cast::needs_convert(&arithmetic::type_of(&expr, schema)?, &field) {
        return Ok(Transformed::yes(cast::convert(expr, field)));
    }
    Ok(Transformed::no(Expr::Cast(Cast { expr: Box::new(expr), field })))
}

/// Guards the conjuncts of a filter that may fail by those before them that cannot.
fn guard(filter: Filter) -> Result<Filter> {
    let conjuncts = split_conjunction(&filter.predicate);
    if conjuncts.len() < 2 {
        return Ok(filter);
    }
    let mut safe: Vec<Expr> = Vec::new();
    let mut all: Vec<Expr> = Vec::with_capacity(conjuncts.len());
    let mut guarded = false;
    for conjunct in conjuncts {
        let fallible = conjunct.exists(|expr| Ok(may_fail(expr)))?;
        let usable = safe.iter().filter(|guard| stays_where_it_is(guard, conjunct)).cloned();
        match conjunction(usable) {
            Some(condition) if fallible => {
                all.push(conjunct.clone().transform_up(|expr| Ok(guarded_by(expr, &condition)))?.data);
                guarded = true;
            }
            _ => all.push(conjunct.clone()),
        }
        if !fallible && can_guard(conjunct)? {
            safe.push(conjunct.clone());
        }
    }
    match conjunction(all) {
        Some(predicate) if guarded => Filter::try_new(predicate, filter.input),
        _ => Ok(filter),
    }
}

/// Whether a conjunct may be computed twice: cheap enough, with one answer, and of this query's own columns.
fn can_guard(conjunct: &Expr) -> Result<bool> {
    let query = |expr: &Expr| {
        Ok(matches!(expr, Expr::InSubquery(_) | Expr::Exists(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_)))
    };
    Ok(!conjunct.is_volatile() && !conjunct.contains_outer() && !conjunct.exists(query)?)
}

/// Whether `conjunct` can still be pushed to the same side of a join with `guard` in it.
fn stays_where_it_is(guard: &Expr, conjunct: &Expr) -> bool {
    let own = conjunct.column_refs();
    guard.column_refs().iter().all(|column| own.iter().any(|other| other.relation == column.relation))
}

/// Whether an expression can fail on a row: any arithmetic but by a constant that divides everything, and text read as
/// another type.
fn may_fail(expr: &Expr) -> bool {
    let Expr::ScalarFunction(function) = expr else { return false };
    match (function.func.name(), function.args.as_slice()) {
        ("checked_divide" | "checked_remainder", [_, Expr::Literal(divisor, _)]) => is_zero(divisor),
        ("convert", [_]) => true,
        (name, [_, _]) => name.starts_with("checked_"),
        _ => false,
    }
}

fn guarded_by(expr: Expr, condition: &Expr) -> Transformed<Expr> {
    if !may_fail(&expr) {
        return Transformed::no(expr);
    }
    match expr {
        Expr::ScalarFunction(function) if function.func.name() == "convert" => {
            Transformed::yes(Expr::ScalarFunction(cast::guarded(function, condition.clone())))
        }
        Expr::ScalarFunction(function) => {
            Transformed::yes(Expr::ScalarFunction(arithmetic::guarded(function, condition.clone())))
        }
        other => Transformed::no(other),
    }
}

fn is_zero(value: &ScalarValue) -> bool {
    ScalarValue::new_zero(&value.data_type()).is_ok_and(|zero| zero == *value)
}
