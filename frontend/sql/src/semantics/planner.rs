/*!
Operators, while a statement is planned: what PostgreSQL decides by the types of both sides.

- An integer literal beside an integer is as narrow as PostgreSQL's: `i + 1` of an integer column is an integer, and
  overflows as one. (DataFusion's literals are all 64 bits wide.)
- `real` beside another numeric type becomes `double precision`.
- Products and quotients of numerics get the type that [`super::arithmetic`] computes them in: DataFusion's quotient has
  four digits more than its dividend, so that `10.0 / 3` would be 3.33333.
- A date and an interval make a timestamp, an interval and a number an interval ([`super::intervals`]).
- Ranks and row numbers are bigint, not unsigned.

All this happens before the schema of any node exists, so that every node agrees; where a type is not known yet (a
parameter), DataFusion's expression stays and is made checked later.
*/

use super::arithmetic::{self, Op};
use super::intervals;
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{ScalarFunction, WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr, RawWindowExpr};
use datafusion::logical_expr::{Expr, WindowFunctionDefinition, cast};
use datafusion::sql::sqlparser::ast::BinaryOperator;

#[derive(Debug)]
pub(crate) struct Operators;

impl ExprPlanner for Operators {
    fn plan_binary_op(&self, mut raw: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let op = match raw.op {
            BinaryOperator::Plus => Op::Add,
            BinaryOperator::Minus => Op::Subtract,
            BinaryOperator::Multiply => Op::Multiply,
            BinaryOperator::Divide => Op::Divide,
            BinaryOperator::Modulo => Op::Remainder,
            _ => return Ok(PlannerResult::Original(raw)),
        };
        let types = (arithmetic::type_of(&raw.left, schema), arithmetic::type_of(&raw.right, schema));
        let (Ok(left), Ok(right)) = types else {
            return Ok(PlannerResult::Original(raw));
        };
        let is_interval = |ty: &DataType| matches!(ty, DataType::Interval(_));
        if matches!(op, Op::Multiply | Op::Divide) && is_interval(&left) && intervals::is_factor(&right) {
            return Ok(PlannerResult::Planned(intervals::operator(op, raw.left, raw.right)));
        }
        if op == Op::Multiply && intervals::is_factor(&left) && is_interval(&right) {
            return Ok(PlannerResult::Planned(intervals::operator(op, raw.right, raw.left)));
        }
        if has_parameter(&raw.left) || has_parameter(&raw.right) {
            return Ok(PlannerResult::Original(raw));
        }
        if matches!((&left, &right), (DataType::Date32, DataType::Interval(_))) {
            raw.left = cast(raw.left, DataType::Timestamp(TimeUnit::Microsecond, None));
            return Ok(PlannerResult::Original(raw));
        }
        if matches!((&left, &right), (DataType::Interval(_), DataType::Date32)) {
            raw.right = cast(raw.right, DataType::Timestamp(TimeUnit::Microsecond, None));
            return Ok(PlannerResult::Original(raw));
        }
        let left = narrowed(&mut raw.left, left, &right);
        let right = narrowed(&mut raw.right, right, &left);
        if !left.is_numeric() || !right.is_numeric() {
            return Ok(PlannerResult::Original(raw));
        }
        if left.is_floating() || right.is_floating() {
            raw.left = as_float(raw.left, &left, &right);
            raw.right = as_float(raw.right, &right, &left);
            return Ok(PlannerResult::Original(raw));
        }
        if !left.is_decimal() && !right.is_decimal() {
            return Ok(PlannerResult::Original(raw));
        }
        match arithmetic::decimal_result(op, &left, &right) {
            Some(result) => {
                let (left, right) = (as_decimal(raw.left, &left), as_decimal(raw.right, &right));
                Ok(PlannerResult::Planned(arithmetic::binary(op, left, right, result)))
            }
            None => Ok(PlannerResult::Original(raw)),
        }
    }

    fn plan_extract(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        let extract = ScalarFunction::new_udf(crate::functions::extract(), args);
        Ok(PlannerResult::Planned(Expr::ScalarFunction(extract)))
    }

    fn plan_window(&self, raw: RawWindowExpr) -> Result<PlannerResult<RawWindowExpr>> {
        let unsigned = match &raw.func_def {
            WindowFunctionDefinition::WindowUDF(function) => {
                matches!(function.name(), "row_number" | "rank" | "dense_rank" | "ntile")
            }
            WindowFunctionDefinition::AggregateUDF(_) => false,
        };
        if !unsigned {
            return Ok(PlannerResult::Original(raw));
        }
        let window = Expr::from(WindowFunction {
            fun: raw.func_def,
            params: WindowFunctionParams {
                args: raw.args,
                partition_by: raw.partition_by,
                order_by: raw.order_by,
                window_frame: raw.window_frame,
                filter: raw.filter,
                null_treatment: raw.null_treatment,
                distinct: raw.distinct,
            },
        });
        Ok(PlannerResult::Planned(cast(window, DataType::Int64)))
    }
}

fn has_parameter(expr: &Expr) -> bool {
    matches!(expr, Expr::Placeholder(_))
}

/// Makes a 64-bit literal beside an integer a 32-bit one, if it fits; gives its type.
fn narrowed(expr: &mut Expr, ty: DataType, other: &DataType) -> DataType {
    if let Expr::Literal(value, _) = expr
        && other.is_integer()
        && let ScalarValue::Int64(Some(long)) = value
        && let Ok(int) = i32::try_from(*long)
    {
        *value = ScalarValue::Int32(Some(int));
        return DataType::Int32;
    }
    ty
}

/// One side of an operator of which at least one is a float: all are doubles unless both are reals.
fn as_float(expr: Expr, ty: &DataType, other: &DataType) -> Expr {
    if *ty == DataType::Float64 || *ty == DataType::Float32 && *other == DataType::Float32 {
        return expr;
    }
    if let Expr::Literal(value, _) = &expr
        && let Some(double) = super::literals::exact_double(value)
    {
        return Expr::Literal(ScalarValue::Float64(Some(double)), None);
    }
    cast(expr, DataType::Float64)
}

fn as_decimal(expr: Expr, ty: &DataType) -> Expr {
    match (ty, arithmetic::decimal_shape(ty)) {
        (DataType::Decimal128(_, _), _) | (_, None) => expr,
        (_, Some((digits, scale))) => cast(expr, DataType::Decimal128(digits, scale)),
    }
}
