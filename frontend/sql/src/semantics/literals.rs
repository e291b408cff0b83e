/*!
A literal takes the type of what it is compared with.

PostgreSQL reads `ts >= '2024-01-01'` as a timestamp literal and `loss < 0.5` with a double. DataFusion's coercion
would move the column instead where it can: to nanoseconds, which end in 2262, or by way of a rounded decimal. So before
it runs, literals in comparisons, BETWEEN and IN lists are turned into the other side's type, with PostgreSQL's readings and
errors; what is left of the comparison is `column op literal` of one type, which prunes and pushes down.
*/

use super::cast::{convert, convert_scalar, is_text};
use crate::types::TYPE_KEY;
use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{Between, InList};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator};
use datafusion::optimizer::AnalyzerRule;
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct TypedLiterals;

impl AnalyzerRule for TypedLiterals {
    fn name(&self) -> &str {
        "typed_literals"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(analyze_node)?.data)
    }
}

fn analyze_node(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if !any_expression(&plan, is_candidate)? {
        return Ok(Transformed::no(plan));
    }
    let schema = super::checked::input_schema(&plan)?;
    let names = super::checked::names(&plan);
    plan.map_expressions(|expr| {
        if !expr.exists(|expr| Ok(is_candidate(expr)))? {
            return Ok(Transformed::no(expr));
        }
        let saved = names.save(&expr);
        Ok(expr.transform_up(|expr| retype(expr, &schema))?.update_data(|expr| saved.restore(expr)))
    })
}

/// Whether some expression of a plan's node satisfies `wanted`.
pub(crate) fn any_expression(plan: &LogicalPlan, wanted: impl Fn(&Expr) -> bool) -> Result<bool> {
    let mut found = false;
    plan.apply_expressions(|expr| {
        found = expr.exists(|expr| Ok(wanted(expr)))?;
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

fn is_candidate(expr: &Expr) -> bool {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => is_comparison(*op) && (is_open(left) || is_open(right)),
        Expr::Between(Between { expr, low, high, .. }) => is_open(expr) || is_open(low) || is_open(high),
        Expr::InList(InList { list, .. }) => list.iter().any(is_open),
        _ => false,
    }
}

fn is_comparison(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// Whether a literal's type depends on where it stands: text, and decimals, which may be doubles.
fn is_open(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(value, _) => {
            matches!(
                value,
                ScalarValue::Utf8(Some(_))
                    | ScalarValue::Utf8View(Some(_))
                    | ScalarValue::LargeUtf8(Some(_))
                    | ScalarValue::Decimal128(Some(_), _, _)
            )
        }
        _ => false,
    }
}

fn retype(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    if !is_candidate(&expr) {
        return Ok(Transformed::no(expr));
    }
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (left, right) = match (is_open(&left), is_open(&right)) {
                (false, true) => {
                    let field = field_of(&left, schema);
                    let right = retyped(*right, field.as_ref())?;
                    (*left, right)
                }
                (true, false) => {
                    let field = field_of(&right, schema);
                    (retyped(*left, field.as_ref())?, *right)
                }
                _ => (*left, *right),
            };
            Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))))
        }
        Expr::Between(Between { expr, negated, low, high }) => {
            let field = field_of(&expr, schema);
            let low = retyped(*low, field.as_ref())?;
            let high = retyped(*high, field.as_ref())?;
            Ok(Transformed::yes(Expr::Between(Between { expr, negated, low: Box::new(low), high: Box::new(high) })))
        }
        Expr::InList(InList { expr, list, negated }) => {
            let field = field_of(&expr, schema);
            let list = list.into_iter().map(|item| retyped(item, field.as_ref())).collect::<Result<Vec<_>>>()?;
            Ok(Transformed::yes(Expr::InList(InList { expr, list, negated })))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// The field of what a literal is compared with, if it is no open literal itself.
fn field_of(expr: &Expr, schema: &DFSchema) -> Option<FieldRef> {
    if is_open(expr) {
        return None;
    }
    expr.to_field(schema).ok().map(|(_, field)| field)
}

fn retyped(expr: Expr, field: Option<&FieldRef>) -> Result<Expr> {
    let (Some(field), Expr::Literal(value, metadata)) = (field, &expr) else { return Ok(expr) };
    if !is_open(&expr) {
        return Ok(expr);
    }
    let literal = |value: ScalarValue| Expr::Literal(value, metadata.clone());
    let ty = field.data_type();
    if is_text(&value.data_type()) {
        return match ty {
            _ if is_text(ty) => match field.metadata().get(TYPE_KEY).map(String::as_str) {
                Some("uuid") => Ok(literal(convert_scalar(value, field)?)),
                _ => Ok(expr),
            },
            DataType::Boolean
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Float32
            | DataType::Float64
            | DataType::Date32
            | DataType::Time64(TimeUnit::Microsecond)
            | DataType::Timestamp(TimeUnit::Microsecond, _)
            | DataType::Interval(_)
            | DataType::Binary => Ok(literal(convert_scalar(value, &Field::new("", ty.clone(), true))?)),
            // Not to the column's own scale: 0.005 is not 0.01.
            DataType::Decimal128(_, _) => {
                let widest = Field::new("", DataType::Decimal128(38, super::arithmetic::QUOTIENT_SCALE), true);
                Ok(literal(convert_scalar(value, &widest)?))
            }
            DataType::Timestamp(_, zone) => {
                let to = DataType::Timestamp(TimeUnit::Microsecond, zone.clone());
                Ok(convert(expr, Arc::new(Field::new("", to, true))))
            }
            _ => Ok(expr),
        };
    }
    match (ty, exact_double(value)) {
        (DataType::Float64, Some(double)) => Ok(literal(ScalarValue::Float64(Some(double)))),
        (DataType::Float32, Some(double)) => Ok(literal(as_real(double))),
        _ => Ok(expr),
    }
}

/// A double beside a real: as a real where that is exactly the same number, so that the column need not be widened.
fn as_real(double: f64) -> ScalarValue {
    #[expect(clippy::cast_possible_truncation, reason = "compared with the double below")]
    let real = double as f32;
    if f64::from(real) == double { ScalarValue::Float32(Some(real)) } else { ScalarValue::Float64(Some(double)) }
}

/// The double nearest to a decimal literal, by way of its digits and not of a division.
pub(crate) fn exact_double(value: &ScalarValue) -> Option<f64> {
    match value {
        ScalarValue::Decimal128(Some(digits), _, scale) => {
            let mut text = String::new();
            crate::text::decimal(*digits, *scale, &mut text);
            text.parse().ok()
        }
        ScalarValue::Int64(Some(value)) => value.to_string().parse().ok(),
        ScalarValue::Int32(Some(value)) => Some(f64::from(*value)),
        _ => None,
    }
}

/// The schema that a node's expressions are written over.
pub(crate) fn schema_of_inputs(plan: &LogicalPlan) -> DFSchema {
    merge_schema(&plan.inputs())
}
