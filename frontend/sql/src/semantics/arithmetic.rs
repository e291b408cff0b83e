/*!
Checked arithmetic: `+ - * / %` and unary minus as functions that fail where PostgreSQL fails.

DataFusion's own `BinaryExpr` wraps integers on overflow, answers infinity for `1.0 / 0`, and folds constants with the
same wrapping kernels before any physical plan exists, so a switch on the physical expression comes too late. Each
operator is therefore a scalar function of its own, immutable so that constants still fold, and named by its schema
exactly as the operator it stands for, so that no column changes its name.

What holds:
- integers: overflow is 22003 with PostgreSQL's words (`bigint out of range`), a zero divisor 22012, and the smallest
  value `% -1` is 0;
- floats: a finite pair that gives infinity is 22003 (overflow), one that gives zero though neither is zero is 22003
  (underflow), a zero divisor 22012; NaN and infinity in, NaN and infinity out;
- decimals: at most 38 digits, more is 22003. A product keeps its exact scale while that leaves room for its integer
  digits and is rounded half away from zero below it; a quotient has at least [`QUOTIENT_SCALE`] digits after the point;
- intervals times numbers and divided by them: [`super::intervals`].

Rows that are NULL on either side are never looked at. The loops run over whole columns without a branch per row and
look again, row by row, only if something was suspicious.
*/

use super::raise;
use crate::error::state;
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, Datum, PrimitiveArray, Scalar};
use arrow::buffer::NullBuffer;
use arrow::compute::kernels::numeric;
use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type, i256,
};
use datafusion::common::{DFSchema, Result, ScalarValue, internal_err};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// Digits after the point that a decimal quotient has at least: what PostgreSQL gives for quotients between 1 and 10.
pub(crate) const QUOTIENT_SCALE: i8 = 16;

/// Digits a decimal can have.
const MAX_DIGITS: u8 = DECIMAL128_MAX_PRECISION;

/// Which operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Negate,
}

impl Op {
    /// How SQL writes it.
    fn symbol(self) -> &'static str {
        match self {
            Op::Add => "+",
            Op::Subtract | Op::Negate => "-",
            Op::Multiply => "*",
            Op::Divide => "/",
            Op::Remainder => "%",
        }
    }

    /// The function's name, which EXPLAIN shows in physical plans.
    fn function(self) -> &'static str {
        match self {
            Op::Add => "checked_add",
            Op::Subtract => "checked_subtract",
            Op::Multiply => "checked_multiply",
            Op::Divide => "checked_divide",
            Op::Remainder => "checked_remainder",
            Op::Negate => "checked_negate",
        }
    }
}

/// One operator with the type of its result; its arguments are already of the types it works on.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Arithmetic {
    op: Op,
    result: DataType,
    signature: Signature,
}

/// The checked form of `left op right`, whose result has type `result`.
pub(crate) fn binary(op: Op, left: Expr, right: Expr, result: DataType) -> Expr {
    call(op, vec![left, right], result)
}

/// The checked form of `-operand`.
pub(crate) fn negate(operand: Expr, result: DataType) -> Expr {
    call(Op::Negate, vec![operand], result)
}

fn call(op: Op, args: Vec<Expr>, result: DataType) -> Expr {
    let signature = Signature::any(args.len(), Volatility::Immutable);
    let udf = Arc::new(ScalarUDF::new_from_impl(Arithmetic { op, result, signature }));
    Expr::ScalarFunction(ScalarFunction::new_udf(udf, args))
}

/// The type of a product or quotient of decimals; `None` where one of the two is no decimal or integer.
pub(crate) fn decimal_result(op: Op, left: &DataType, right: &DataType) -> Option<DataType> {
    let (left_digits, left_scale) = decimal_shape(left)?;
    let (right_digits, right_scale) = decimal_shape(right)?;
    match op {
        Op::Multiply => {
            let whole = whole_digits(left_digits, left_scale) + whole_digits(right_digits, right_scale);
            let exact = i16::from(left_scale) + i16::from(right_scale);
            let room = i16::from(MAX_DIGITS) - whole;
            let scale = if exact <= room { exact } else { room.max(exact.min(i16::from(QUOTIENT_SCALE))) };
            let digits = (whole + scale).clamp(1, i16::from(MAX_DIGITS));
            Some(DataType::Decimal128(u8::try_from(digits).ok()?, i8::try_from(scale).ok()?))
        }
        Op::Divide => Some(DataType::Decimal128(MAX_DIGITS, left_scale.max(right_scale).max(QUOTIENT_SCALE))),
        Op::Add | Op::Subtract | Op::Remainder | Op::Negate => None,
    }
}

/// Digits and scale of a decimal, or of the decimal that holds every value of an integer type.
pub(crate) fn decimal_shape(ty: &DataType) -> Option<(u8, i8)> {
    match ty {
        DataType::Decimal32(digits, scale)
        | DataType::Decimal64(digits, scale)
        | DataType::Decimal128(digits, scale) => Some((*digits, *scale)),
        DataType::Int8 | DataType::UInt8 => Some((3, 0)),
        DataType::Int16 | DataType::UInt16 => Some((5, 0)),
        DataType::Int32 | DataType::UInt32 => Some((10, 0)),
        DataType::Int64 => Some((19, 0)),
        DataType::UInt64 => Some((20, 0)),
        _ => None,
    }
}

fn whole_digits(digits: u8, scale: i8) -> i16 {
    i16::from(digits) - i16::from(scale)
}

/// Operators within operators that a name spells out; what is deeper goes in by its hash. DataFusion asks every level of an
/// expression for its name, over and over: the names of a long chain, spelt out, take time by the cube of its length.
const NAMED_LEVELS: usize = 16;

impl Arithmetic {
    fn put_name(&self, args: &[Expr], levels: usize, out: &mut String) -> Result<()> {
        match args {
            [operand] => {
                out.push_str("(- ");
                put_operand(operand, levels, out)?;
                out.push(')');
            }
            [left, right, ..] => {
                put_operand(left, levels, out)?;
                out.extend([" ", self.op.symbol(), " "]);
                put_operand(right, levels, out)?;
            }
            [] => return internal_err!("{} has one to three arguments", self.name()),
        }
        Ok(())
    }
}

fn put_operand(operand: &Expr, levels: usize, out: &mut String) -> Result<()> {
    if let Expr::ScalarFunction(function) = operand
        && let Some(inner) = function.func.inner().downcast_ref::<Arithmetic>()
    {
        if let Some(levels) = levels.checked_sub(1) {
            return inner.put_name(&function.args, levels, out);
        }
        let mut hasher = DefaultHasher::new();
        operand.hash(&mut hasher);
        out.push_str(&format!("#{:016x}", hasher.finish()));
        return Ok(());
    }
    out.push_str(&operand.schema_name().to_string());
    Ok(())
}

impl ScalarUDFImpl for Arithmetic {
    fn name(&self) -> &str {
        self.op.function()
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        match args {
            [operand] => Ok(format!("(- {operand})")),
            [left, right, ..] => Ok(format!("{left} {} {right}", self.op.symbol())),
            [] => internal_err!("{} has one to three arguments", self.name()),
        }
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let mut name = String::new();
        self.put_name(args, NAMED_LEVELS, &mut name)?;
        Ok(name)
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.result.clone())
    }

    fn is_strict(&self) -> bool {
        self.signature != Signature::any(3, Volatility::Immutable)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [operand] => unary(operand, args.number_rows, &self.result),
            [left, right] => evaluate(self.op, left, right, &self.result),
            [left, right, guard] => evaluate(self.op, left, right, &self.result).or_else(|_| {
                let left = masked(left, guard, args.number_rows)?;
                evaluate(self.op, &left, right, &self.result)
            }),
            _ => internal_err!("{} has one to three arguments", self.name()),
        }
    }
}

/// The type of an expression. DataFusion's `get_type` goes through everything below a function each time, and builds
/// names on its way; asked at each level of a long chain of operators that takes minutes. The operators' types are at hand.
pub(crate) fn type_of(expr: &Expr, schema: &DFSchema) -> Result<DataType> {
    match expr {
        Expr::ScalarFunction(function) => {
            if let Some(Arithmetic { result, .. }) = function.func.inner().downcast_ref::<Arithmetic>() {
                return Ok(result.clone());
            }
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if op.is_numerical_operators() => {
            let (left, right) = (type_of(left, schema)?, type_of(right, schema)?);
            if left == right && (left.is_integer() || left.is_floating()) {
                return Ok(left);
            }
        }
        _ => {}
    }
    expr.get_type(schema)
}

/// The same function with a guard: rows for which it is not true cannot fail, and what they give means nothing.
pub(crate) fn guarded(mut function: ScalarFunction, guard: Expr) -> ScalarFunction {
    let Some(Arithmetic { op, result, .. }) = function.func.inner().downcast_ref::<Arithmetic>() else {
        return function;
    };
    function.args.push(guard);
    let signature = Signature::any(function.args.len(), Volatility::Immutable);
    let udf = Arithmetic { op: *op, result: result.clone(), signature };
    ScalarFunction::new_udf(Arc::new(ScalarUDF::new_from_impl(udf)), function.args)
}

/// `value`, NULL where `guard` is not true.
pub(crate) fn masked(value: &ColumnarValue, guard: &ColumnarValue, rows: usize) -> Result<ColumnarValue> {
    let guard = guard.to_array(rows)?;
    let guard = guard.as_boolean();
    let keep = match guard.nulls() {
        Some(nulls) => guard.values() & nulls.inner(),
        None => guard.values().clone(),
    };
    let drop = arrow::array::BooleanArray::new(!&keep, None);
    Ok(ColumnarValue::Array(arrow::compute::nullif(&value.to_array(rows)?, &drop)?))
}

fn unary(operand: &ColumnarValue, rows: usize, result: &DataType) -> Result<ColumnarValue> {
    let constant = matches!(operand, ColumnarValue::Scalar(_));
    let array = operand.to_array(if constant { 1 } else { rows })?;
    let ty = array.data_type().clone();
    // 0 - x: one kernel for both, and the smallest integer overflows as it must; but 0 - 0.0 is not -0.0.
    let negated: ArrayRef = match &ty {
        DataType::Float64 => Arc::new(array.as_primitive::<Float64Type>().unary::<_, Float64Type>(|x| -x)),
        DataType::Float32 => Arc::new(array.as_primitive::<Float32Type>().unary::<_, Float32Type>(|x| -x)),
        ty if ty.is_signed_integer() => {
            let zero = ColumnarValue::Scalar(ScalarValue::new_zero(ty)?);
            evaluate(Op::Subtract, &zero, &ColumnarValue::Array(array), result)?.to_array(rows.max(1))?
        }
        _ => numeric::neg(&array).map_err(|error| arrow_error(error, &ty))?,
    };
    finish(negated, constant)
}

fn finish(array: ArrayRef, constant: bool) -> Result<ColumnarValue> {
    if constant {
        return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
    }
    Ok(ColumnarValue::Array(array))
}

fn evaluate(op: Op, left: &ColumnarValue, right: &ColumnarValue, result: &DataType) -> Result<ColumnarValue> {
    let constant = matches!((left, right), (ColumnarValue::Scalar(_), ColumnarValue::Scalar(_)));
    let rows = match (left, right) {
        (ColumnarValue::Array(array), _) | (_, ColumnarValue::Array(array)) => array.len(),
        _ => 1,
    };
    macro_rules! with {
        ($function:ident, $type:ty) => {{
            let left = Side::<$type>::of(left)?;
            let right = Side::<$type>::of(right)?;
            Arc::new($function::<$type>(op, &left, &right, rows)?) as ArrayRef
        }};
    }
    let (left_type, right_type) = (left.data_type(), right.data_type());
    let array = match (&left_type, &right_type) {
        (DataType::Int64, DataType::Int64) => with!(integers, Int64Type),
        (DataType::Int32, DataType::Int32) => with!(integers, Int32Type),
        (DataType::Int16, DataType::Int16) => with!(integers, Int16Type),
        (DataType::Int8, DataType::Int8) => with!(integers, Int8Type),
        (DataType::UInt64, DataType::UInt64) => with!(integers, UInt64Type),
        (DataType::UInt32, DataType::UInt32) => with!(integers, UInt32Type),
        (DataType::UInt16, DataType::UInt16) => with!(integers, UInt16Type),
        (DataType::UInt8, DataType::UInt8) => with!(integers, UInt8Type),
        (DataType::Float64, DataType::Float64) => with!(floats, Float64Type),
        (DataType::Float32, DataType::Float32) => with!(floats, Float32Type),
        (DataType::Decimal128(_, left_scale), DataType::Decimal128(_, right_scale))
            if matches!(op, Op::Multiply | Op::Divide) && matches!(result, DataType::Decimal128(_, _)) =>
        {
            let left = Side::<Decimal128Type>::of(left)?;
            let right = Side::<Decimal128Type>::of(right)?;
            let scales = Scales { left: *left_scale, right: *right_scale, result: scale_of(result) };
            Arc::new(decimals(op, &left, &right, rows, scales)?.with_data_type(result.clone()))
        }
        (DataType::Interval(_), DataType::Float64) => {
            super::intervals::scale(op, &left.to_array(rows)?, &right.to_array(rows)?)?
        }
        _ => return by_arrow(op, left, right, result, constant),
    };
    finish(array, constant)
}

fn scale_of(ty: &DataType) -> i8 {
    match ty {
        DataType::Decimal128(_, scale) => *scale,
        _ => 0,
    }
}

/// Sums, differences and remainders of decimals, and whatever else is rare: arrow's checked kernels.
fn by_arrow(
    op: Op,
    left: &ColumnarValue,
    right: &ColumnarValue,
    result: &DataType,
    constant: bool,
) -> Result<ColumnarValue> {
    let (left, right) = (datum(left)?, datum(right)?);
    let (left, right) = (left.as_ref(), right.as_ref());
    let array = match op {
        Op::Add => numeric::add(left, right),
        Op::Subtract | Op::Negate => numeric::sub(left, right),
        Op::Multiply => numeric::mul(left, right),
        Op::Divide => numeric::div(left, right),
        Op::Remainder => numeric::rem(left, right),
    };
    let array = array.map_err(|error| arrow_error(error, result))?;
    check_digits(&array)?;
    let array = if array.data_type() == result {
        array
    } else {
        let strict = arrow::compute::CastOptions { safe: false, ..Default::default() };
        arrow::compute::cast_with_options(&array, result, &strict).map_err(|error| arrow_error(error, result))?
    };
    finish(array, constant)
}

fn datum(value: &ColumnarValue) -> Result<Box<dyn Datum>> {
    Ok(match value {
        ColumnarValue::Array(array) => Box::new(Arc::clone(array)),
        ColumnarValue::Scalar(scalar) => Box::new(Scalar::new(scalar.to_array()?)),
    })
}

/// arrow checks that a decimal fits its 128 bits, which hold a little more than 38 digits.
fn check_digits(array: &ArrayRef) -> Result<()> {
    if let DataType::Decimal128(MAX_DIGITS, _) = array.data_type() {
        let values = array.as_primitive::<Decimal128Type>();
        if values.iter().flatten().any(|value| value.unsigned_abs() >= TEN_TO_38) {
            return Err(raise(state::NUMERIC_VALUE_OUT_OF_RANGE, overflow_message(array.data_type())));
        }
    }
    Ok(())
}

/// 10^38: the first value with more than 38 digits.
pub(crate) const TEN_TO_38: u128 = 10u128.pow(38);

fn arrow_error(error: arrow::error::ArrowError, ty: &DataType) -> DataFusionError {
    use arrow::error::ArrowError;
    match error {
        ArrowError::DivideByZero => division_by_zero(),
        ArrowError::ArithmeticOverflow(_) | ArrowError::ComputeError(_) | ArrowError::InvalidArgumentError(_) => {
            raise(state::NUMERIC_VALUE_OUT_OF_RANGE, overflow_message(ty))
        }
        ArrowError::CastError(_) => raise(state::NUMERIC_VALUE_OUT_OF_RANGE, overflow_message(ty)),
        other => DataFusionError::from(other),
    }
}

/// PostgreSQL's words for a value outside a type.
pub(crate) fn overflow_message(ty: &DataType) -> &'static str {
    match ty {
        DataType::Int16 => "smallint out of range",
        DataType::Int32 => "integer out of range",
        DataType::Int64 | DataType::UInt64 => "bigint out of range",
        DataType::Float32 | DataType::Float64 => "value out of range: overflow",
        DataType::Decimal128(_, _) => "numeric out of range: more than 38 digits",
        _ => "value out of range",
    }
}

/// 22012 in PostgreSQL's words.
pub(crate) fn division_by_zero() -> DataFusionError {
    raise(state::DIVISION_BY_ZERO, "division by zero")
}

/// One operand: a column, or one value for all rows.
enum Side<T: ArrowPrimitiveType> {
    Column(PrimitiveArray<T>),
    Constant(Option<T::Native>),
}

impl<T: ArrowPrimitiveType> Side<T> {
    fn of(value: &ColumnarValue) -> Result<Self> {
        match value {
            ColumnarValue::Array(array) => match array.as_primitive_opt::<T>() {
                Some(array) => Ok(Side::Column(array.clone())),
                None => internal_err!("{} where {} was planned", array.data_type(), T::DATA_TYPE),
            },
            ColumnarValue::Scalar(scalar) => {
                let array = scalar.to_array()?;
                match array.as_primitive_opt::<T>() {
                    Some(array) => Ok(Side::Constant(array.iter().next().flatten())),
                    None => internal_err!("{} where {} was planned", array.data_type(), T::DATA_TYPE),
                }
            }
        }
    }

    fn nulls(&self) -> Option<&NullBuffer> {
        match self {
            Side::Column(array) => array.nulls(),
            Side::Constant(_) => None,
        }
    }

    fn is_null_constant(&self) -> bool {
        matches!(self, Side::Constant(None))
    }
}

/// `f` over all pairs, NULL rows included, whose values mean nothing.
fn zip<T: ArrowPrimitiveType>(
    left: &Side<T>,
    right: &Side<T>,
    rows: usize,
    mut f: impl FnMut(T::Native, T::Native) -> T::Native,
) -> Vec<T::Native> {
    let nothing = T::Native::default();
    match (left, right) {
        (Side::Column(l), Side::Column(r)) => l.values().iter().zip(r.values()).map(|(l, r)| f(*l, *r)).collect(),
        (Side::Column(l), Side::Constant(r)) => {
            let r = r.unwrap_or(nothing);
            l.values().iter().map(|l| f(*l, r)).collect()
        }
        (Side::Constant(l), Side::Column(r)) => {
            let l = l.unwrap_or(nothing);
            r.values().iter().map(|r| f(l, *r)).collect()
        }
        (Side::Constant(l), Side::Constant(r)) => {
            vec![f(l.unwrap_or(nothing), r.unwrap_or(nothing)); rows]
        }
    }
}

/// `f` over the pairs of rows that are not NULL, until one fails.
fn try_each<T: ArrowPrimitiveType>(
    left: &Side<T>,
    right: &Side<T>,
    rows: usize,
    mut f: impl FnMut(T::Native, T::Native) -> Result<()>,
) -> Result<()> {
    let at = |side: &Side<T>, row: usize| match side {
        Side::Column(array) => array.is_valid(row).then(|| array.value(row)),
        Side::Constant(value) => *value,
    };
    for row in 0..rows {
        if let (Some(l), Some(r)) = (at(left, row), at(right, row)) {
            f(l, r)?;
        }
    }
    Ok(())
}

/// What the integer kernels need of a native type.
trait Whole: Copy + Default + PartialEq {
    fn add(self, other: Self) -> (Self, bool);
    fn subtract(self, other: Self) -> (Self, bool);
    fn multiply(self, other: Self) -> (Self, bool);
    /// Quotient; true if there is none. A zero divisor gives `(0, true)`.
    fn divide(self, other: Self) -> (Self, bool);
    /// Remainder; true if there is none. A zero divisor gives `(0, true)`.
    fn remainder(self, other: Self) -> (Self, bool);
}

macro_rules! whole {
    ($($native:ty),*) => {$(
        impl Whole for $native {
            #[inline]
            fn add(self, other: Self) -> (Self, bool) {
                self.overflowing_add(other)
            }
            #[inline]
            fn subtract(self, other: Self) -> (Self, bool) {
                self.overflowing_sub(other)
            }
            #[inline]
            fn multiply(self, other: Self) -> (Self, bool) {
                self.overflowing_mul(other)
            }
            #[inline]
            fn divide(self, other: Self) -> (Self, bool) {
                if other == 0 { (0, true) } else { self.overflowing_div(other) }
            }
            #[inline]
            fn remainder(self, other: Self) -> (Self, bool) {
                if other == 0 { (0, true) } else { (self.wrapping_rem(other), false) }
            }
        }
    )*};
}
whole!(i8, i16, i32, i64, u8, u16, u32, u64);

fn integers<T>(op: Op, left: &Side<T>, right: &Side<T>, rows: usize) -> Result<PrimitiveArray<T>>
where
    T: ArrowPrimitiveType,
    T::Native: Whole,
{
    if left.is_null_constant() || right.is_null_constant() {
        return Ok(PrimitiveArray::new_null(rows));
    }
    let values = match op {
        Op::Add => whole_numbers(op, left, right, rows, Whole::add),
        Op::Subtract | Op::Negate => whole_numbers(op, left, right, rows, Whole::subtract),
        Op::Multiply => whole_numbers(op, left, right, rows, Whole::multiply),
        Op::Divide => whole_numbers(op, left, right, rows, Whole::divide),
        Op::Remainder => whole_numbers(op, left, right, rows, Whole::remainder),
    }?;
    Ok(PrimitiveArray::new(values.into(), NullBuffer::union(left.nulls(), right.nulls())))
}

/// `f` over all rows; the second of its results says that there is no first.
fn whole_numbers<T>(
    op: Op,
    left: &Side<T>,
    right: &Side<T>,
    rows: usize,
    f: impl Fn(T::Native, T::Native) -> (T::Native, bool),
) -> Result<Vec<T::Native>>
where
    T: ArrowPrimitiveType,
    T::Native: Whole,
{
    let mut suspicious = false;
    let values = zip(left, right, rows, |l, r| {
        let (value, failed) = f(l, r);
        suspicious |= failed;
        value
    });
    if suspicious {
        // It may have been a row that is NULL.
        try_each(left, right, rows, |l, r| match f(l, r) {
            (_, false) => Ok(()),
            _ if matches!(op, Op::Divide | Op::Remainder) && r == T::Native::default() => Err(division_by_zero()),
            _ => Err(raise(state::NUMERIC_VALUE_OUT_OF_RANGE, overflow_message(&T::DATA_TYPE))),
        })?;
    }
    Ok(values)
}

/// What the float kernel needs of a native type.
trait Real: Copy + Default + PartialEq {
    fn apply(self, op: Op, other: Self) -> Self;
    fn is_finite(self) -> bool;
    fn is_infinite(self) -> bool;
    fn is_nan(self) -> bool;
}

macro_rules! real {
    ($($native:ty),*) => {$(
        impl Real for $native {
            #[inline(always)]
            fn apply(self, op: Op, other: Self) -> Self {
                match op {
                    Op::Add => self + other,
                    Op::Subtract | Op::Negate => self - other,
                    Op::Multiply => self * other,
                    Op::Divide => self / other,
                    Op::Remainder => self % other,
                }
            }
            #[inline]
            fn is_finite(self) -> bool {
                <$native>::is_finite(self)
            }
            #[inline]
            fn is_infinite(self) -> bool {
                <$native>::is_infinite(self)
            }
            #[inline]
            fn is_nan(self) -> bool {
                <$native>::is_nan(self)
            }
        }
    )*};
}
real!(f32, f64);

fn floats<T>(op: Op, left: &Side<T>, right: &Side<T>, rows: usize) -> Result<PrimitiveArray<T>>
where
    T: ArrowPrimitiveType,
    T::Native: Real,
{
    if left.is_null_constant() || right.is_null_constant() {
        return Ok(PrimitiveArray::new_null(rows));
    }
    // The operator is a constant of each loop, so that each is one of its own.
    let (values, suspicious) = match op {
        Op::Add => real_numbers(left, right, rows, false, |l, r| l.apply(Op::Add, r)),
        Op::Subtract | Op::Negate => real_numbers(left, right, rows, false, |l, r| l.apply(Op::Subtract, r)),
        Op::Multiply => real_numbers(left, right, rows, true, |l, r| l.apply(Op::Multiply, r)),
        Op::Divide => real_numbers(left, right, rows, true, |l, r| l.apply(Op::Divide, r)),
        Op::Remainder => real_numbers(left, right, rows, false, |l, r| l.apply(Op::Remainder, r)),
    };
    if suspicious {
        try_each(left, right, rows, |l, r| check_float(op, l, r))?;
    }
    Ok(PrimitiveArray::new(values.into(), NullBuffer::union(left.nulls(), right.nulls())))
}

/// All results, and whether one of them is worth a second look.
fn real_numbers<T>(
    left: &Side<T>,
    right: &Side<T>,
    rows: usize,
    zero_is_suspicious: bool,
    f: impl Fn(T::Native, T::Native) -> T::Native,
) -> (Vec<T::Native>, bool)
where
    T: ArrowPrimitiveType,
    T::Native: Real,
{
    let mut suspicious = false;
    let zero = T::Native::default();
    let values = zip(left, right, rows, |l, r| {
        let value = f(l, r);
        suspicious |= !value.is_finite() | (zero_is_suspicious & (value == zero));
        value
    });
    (values, suspicious)
}

fn check_float<F: Real>(op: Op, left: F, right: F) -> Result<()> {
    let zero = F::default();
    if matches!(op, Op::Divide | Op::Remainder) && right == zero && !left.is_nan() {
        return Err(division_by_zero());
    }
    let value = left.apply(op, right);
    if value.is_infinite() && left.is_finite() && right.is_finite() {
        return Err(raise(state::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range: overflow"));
    }
    let vanished = match op {
        Op::Multiply => value == zero && left != zero && right != zero,
        Op::Divide => value == zero && left != zero && !right.is_infinite(),
        _ => false,
    };
    if vanished {
        return Err(raise(state::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range: underflow"));
    }
    Ok(())
}

/// The scales of both sides and of the result.
#[derive(Clone, Copy)]
struct Scales {
    left: i8,
    right: i8,
    result: i8,
}

fn decimals(
    op: Op,
    left: &Side<Decimal128Type>,
    right: &Side<Decimal128Type>,
    rows: usize,
    scales: Scales,
) -> Result<PrimitiveArray<Decimal128Type>> {
    if left.is_null_constant() || right.is_null_constant() {
        return Ok(PrimitiveArray::new_null(rows));
    }
    let exact = i16::from(scales.left) + i16::from(scales.right);
    if op == Op::Multiply && exact == i16::from(scales.result) {
        let (values, suspicious) = exact_products(left, right, rows);
        if !suspicious {
            return Ok(PrimitiveArray::new(values.into(), NullBuffer::union(left.nulls(), right.nulls())));
        }
    }
    let failed = || raise(state::NUMERIC_VALUE_OUT_OF_RANGE, overflow_message(&DataType::Decimal128(MAX_DIGITS, 0)));
    let one = |l: i128, r: i128| -> Result<i128> {
        let value = match op {
            Op::Divide if r == 0 => return Err(division_by_zero()),
            Op::Divide => {
                let raise_by = i16::from(scales.result) - i16::from(scales.left) + i16::from(scales.right);
                quotient(l, r, raise_by)
            }
            _ => product(l, r, exact - i16::from(scales.result)),
        };
        value.filter(|value| value.unsigned_abs() < TEN_TO_38).ok_or_else(failed)
    };
    let nulls = NullBuffer::union(left.nulls(), right.nulls());
    let mut error = None;
    let mut row = 0;
    let values = zip(left, right, rows, |l, r| {
        let here = row;
        row += 1;
        if error.is_some() || nulls.as_ref().is_some_and(|nulls| nulls.is_null(here)) {
            return 0;
        }
        one(l, r).unwrap_or_else(|found| {
            error = Some(found);
            0
        })
    });
    match error {
        Some(error) => Err(error),
        None => Ok(PrimitiveArray::new(values.into(), nulls)),
    }
}

/// All products, and whether one of them may have too many digits.
fn exact_products(left: &Side<Decimal128Type>, right: &Side<Decimal128Type>, rows: usize) -> (Vec<i128>, bool) {
    let mut suspicious = false;
    let values = zip(left, right, rows, |l, r| match (i64::try_from(l), i64::try_from(r)) {
        // One instruction, where the product of any two takes several.
        (Ok(l), Ok(r)) => {
            let value = i128::from(l) * i128::from(r);
            suspicious |= value.unsigned_abs() >= TEN_TO_38;
            value
        }
        _ => {
            let (value, wrapped) = l.overflowing_mul(r);
            suspicious |= wrapped | (value.unsigned_abs() >= TEN_TO_38);
            value
        }
    });
    (values, suspicious)
}

/// `left * right / 10^lower_by`, rounded half away from zero.
fn product(left: i128, right: i128, lower_by: i16) -> Option<i128> {
    if lower_by <= 0 {
        return left.checked_mul(right)?.checked_mul(power_of_ten(lower_by.checked_neg()?)?);
    }
    let divisor = power_of_ten(lower_by)?;
    if let Some(exact) = left.checked_mul(right) {
        return Some(divide_rounding(exact, divisor));
    }
    let exact = i256::from_i128(left).checked_mul(i256::from_i128(right))?;
    divide_wide(exact, i256::from_i128(divisor))
}

/// `left * 10^raise_by / right`, rounded half away from zero; `right` is not zero.
fn quotient(left: i128, right: i128, raise_by: i16) -> Option<i128> {
    if raise_by < 0 {
        return Some(divide_rounding(left, right.checked_mul(power_of_ten(raise_by.checked_neg()?)?)?));
    }
    if let Some(raised) = power_of_ten(raise_by).and_then(|factor| left.checked_mul(factor)) {
        return Some(divide_rounding(raised, right));
    }
    // Two steps, for 10^76 is the most that fits 256 bits together with nothing else.
    let half = raise_by / 2;
    let raised = i256::from_i128(left)
        .checked_mul(i256::from_i128(power_of_ten(half)?))?
        .checked_mul(i256::from_i128(power_of_ten(raise_by - half)?))?;
    divide_wide(raised, i256::from_i128(right))
}

/// 10^`exponent`; `None` if that is more than an `i128` holds.
pub(crate) fn power_of_ten(exponent: i16) -> Option<i128> {
    10i128.checked_pow(u32::try_from(exponent).ok()?)
}

/// Quotient rounded half away from zero; the divisor is not zero.
pub(crate) fn divide_rounding(value: i128, divisor: i128) -> i128 {
    let (whole, rest) = (value.wrapping_div(divisor), value.wrapping_rem(divisor));
    // 2 * |rest| >= |divisor| without overflow.
    if rest != 0 && rest.unsigned_abs() >= divisor.unsigned_abs() - rest.unsigned_abs() {
        return whole + if (value < 0) == (divisor < 0) { 1 } else { -1 };
    }
    whole
}

fn divide_wide(value: i256, divisor: i256) -> Option<i128> {
    let (whole, rest) = (value.checked_div(divisor)?, value.checked_rem(divisor)?);
    let twice = rest.checked_abs()?.checked_mul(i256::from_i128(2))?;
    let up = rest != i256::ZERO && twice >= divisor.checked_abs()?;
    let step = match (up, (value < i256::ZERO) == (divisor < i256::ZERO)) {
        (false, _) => i256::ZERO,
        (true, true) => i256::ONE,
        (true, false) => i256::MINUS_ONE,
    };
    whole.checked_add(step)?.to_i128()
}
