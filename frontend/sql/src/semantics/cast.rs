/*!
Casts as PostgreSQL makes them.

Arrow's casts truncate fractions, read looser text, forget the offset of a timestamp, keep the letters of a bytea
literal, and report what failed in words of their own. Where the answer or the error would differ, a cast becomes the
function [`Convert`]; where it would not (a wider integer, integers to floats, text to text, time units), it stays
DataFusion's `Cast`, which the optimizer knows how to unwrap in predicates.

- text to anything: [`super::parse`], 22P02, 22007, 22008 or 22003 with value and type in the message;
- float and decimal to integer: rounded (floats half to even, decimals half away from zero), 22003 outside;
- to numeric(p,s): rounded half away from zero, 22003 outside, with PostgreSQL's detail;
- anything to text: [`crate::text`], except that booleans become `true` and `false`;
- text to varchar(n): an explicit cast cuts silently, as PostgreSQL's does;
- text to uuid and json: checked, uuids in canonical lower case.
*/

use super::arithmetic::{TEN_TO_38, divide_rounding, masked, power_of_ten};
use super::{parse, raise};
use crate::error::state;
use crate::types::TYPE_KEY;
use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryBuilder, BooleanBuilder, PrimitiveArray, PrimitiveBuilder,
    StringViewBuilder,
};
use arrow::compute::CastOptions;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, FieldRef, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNanoType, IntervalUnit, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

/// A cast to the type (and the metadata) of a field.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Convert {
    to: FieldRef,
    signature: Signature,
}

/// `CAST(expr AS to)`, PostgreSQL's way.
pub(crate) fn convert(expr: Expr, to: FieldRef) -> Expr {
    let udf = Convert { to, signature: Signature::any(1, Volatility::Immutable) };
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(ScalarUDF::new_from_impl(udf)), vec![expr]))
}

/// The same conversion with a guard: rows for which it is not true are not converted.
pub(crate) fn guarded(mut function: ScalarFunction, guard: Expr) -> ScalarFunction {
    let Some(Convert { to, .. }) = function.func.inner().downcast_ref::<Convert>() else { return function };
    function.args.push(guard);
    let udf = Convert { to: Arc::clone(to), signature: Signature::any(function.args.len(), Volatility::Immutable) };
    ScalarFunction::new_udf(Arc::new(ScalarUDF::new_from_impl(udf)), function.args)
}

/// Whether a cast between these needs [`Convert`] to be PostgreSQL's.
pub(crate) fn needs_convert(from: &DataType, to: &Field) -> bool {
    let target = to.data_type();
    if is_text(from) {
        return !is_text(target) || to.metadata().contains_key(TYPE_KEY);
    }
    match (from, target) {
        (DataType::Null, _) => false,
        (from, to) if from == to => false,
        (from, to) if is_text(to) => !matches!(from, DataType::Dictionary(_, _)),
        (from, DataType::Int16 | DataType::Int32 | DataType::Int64) => {
            from.is_floating() || from.is_decimal() || narrows(from, target)
        }
        (from, DataType::Decimal128(_, _)) => from.is_numeric(),
        (DataType::Float64, DataType::Float32) => true,
        _ => false,
    }
}

fn narrows(from: &DataType, to: &DataType) -> bool {
    let width = |ty: &DataType| ty.primitive_width().unwrap_or(0);
    from.is_integer() && (width(from) > width(to) || from.is_unsigned_integer() && width(from) == width(to))
}

pub(crate) fn is_text(ty: &DataType) -> bool {
    matches!(ty, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

impl ScalarUDFImpl for Convert {
    fn name(&self) -> &str {
        "convert"
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        match args {
            [arg, ..] => Ok(format!("CAST({arg} AS {})", crate::text::type_name(&self.to))),
            [] => internal_err!("convert has one or two arguments"),
        }
    }

    /// That of `Cast`: the name of what is cast.
    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        match args {
            [arg, ..] => Ok(arg.schema_name().to_string()),
            [] => internal_err!("convert has one or two arguments"),
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.to.data_type().clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let nullable = args.arg_fields.len() > 1 || args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(self.to.as_ref().clone().with_name(self.name()).with_nullable(nullable)))
    }

    fn is_strict(&self) -> bool {
        self.signature == Signature::any(1, Volatility::Immutable)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [ColumnarValue::Array(array)] => Ok(ColumnarValue::Array(convert_array(array, &self.to)?)),
            [ColumnarValue::Scalar(value)] => Ok(ColumnarValue::Scalar(convert_scalar(value, &self.to)?)),
            [value, guard] => {
                let value = masked(value, guard, args.number_rows)?.to_array(args.number_rows)?;
                Ok(ColumnarValue::Array(convert_array(&value, &self.to)?))
            }
            _ => internal_err!("convert has one or two arguments"),
        }
    }
}

/// One value, converted.
pub(crate) fn convert_scalar(value: &ScalarValue, to: &Field) -> Result<ScalarValue> {
    ScalarValue::try_from_array(&convert_array(&value.to_array()?, to)?, 0)
}

/// A column, converted.
pub(crate) fn convert_array(array: &ArrayRef, to: &Field) -> Result<ArrayRef> {
    let from = array.data_type();
    if !needs_convert(from, to) {
        return plain_cast(array, to.data_type());
    }
    if is_text(from) {
        return from_text(array, to);
    }
    if is_text(to.data_type()) {
        let text = to_text(array, to.data_type())?;
        return if to.metadata().contains_key(TYPE_KEY) { from_text(&text, to) } else { Ok(text) };
    }
    match (from, to.data_type()) {
        (_, DataType::Int16) => to_integer::<Int16Type>(array),
        (_, DataType::Int32) => to_integer::<Int32Type>(array),
        (_, DataType::Int64) => to_integer::<Int64Type>(array),
        (_, DataType::Decimal128(precision, scale)) => to_decimal(array, *precision, *scale),
        (DataType::Float64, DataType::Float32) => to_real(array),
        (from, to) => internal_err!("no conversion from {from} to {to}"),
    }
}

fn plain_cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let strict = CastOptions { safe: false, ..Default::default() };
    Ok(arrow::compute::cast_with_options(array, to, &strict)?)
}

/// A text column of any of the three kinds, value by value.
fn each_text(array: &ArrayRef, mut f: impl FnMut(Option<&str>) -> Result<()>) -> Result<()> {
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().iter().try_for_each(&mut f),
        DataType::LargeUtf8 => array.as_string::<i64>().iter().try_for_each(&mut f),
        DataType::Utf8View => array.as_string_view().iter().try_for_each(&mut f),
        other => internal_err!("{other} is no text"),
    }
}

fn parse_each<T: ArrowPrimitiveType>(
    array: &ArrayRef,
    f: impl Fn(&str) -> Result<T::Native>,
) -> Result<PrimitiveArray<T>> {
    let mut out = PrimitiveBuilder::<T>::with_capacity(array.len());
    each_text(array, |text| {
        out.append_option(text.map(&f).transpose()?);
        Ok(())
    })?;
    Ok(out.finish())
}

fn narrow<T: TryFrom<i64>>(value: i64) -> Result<T> {
    // The parser has checked the range already.
    T::try_from(value).map_err(|_| raise(state::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range"))
}

fn from_text(array: &ArrayRef, to: &Field) -> Result<ArrayRef> {
    let target = to.data_type();
    let array: ArrayRef = match target {
        DataType::Int16 => Arc::new(parse_each::<Int16Type>(array, |text| {
            narrow(parse::integer(text, "smallint", i64::from(i16::MIN), i64::from(i16::MAX))?)
        })?),
        DataType::Int32 => Arc::new(parse_each::<Int32Type>(array, |text| {
            narrow(parse::integer(text, "integer", i64::from(i32::MIN), i64::from(i32::MAX))?)
        })?),
        DataType::Int64 => {
            Arc::new(parse_each::<Int64Type>(array, |text| parse::integer(text, "bigint", i64::MIN, i64::MAX))?)
        }
        DataType::Float32 => Arc::new(parse_each::<Float32Type>(array, parse::real)?),
        DataType::Float64 => {
            Arc::new(parse_each::<Float64Type>(array, |text| parse::double(text, "double precision"))?)
        }
        DataType::Decimal128(precision, scale) => Arc::new(
            parse_each::<Decimal128Type>(array, |text| parse::numeric(text, *precision, *scale))?
                .with_data_type(target.clone()),
        ),
        DataType::Date32 => Arc::new(parse_each::<Date32Type>(array, parse::date)?),
        DataType::Time64(TimeUnit::Microsecond) => Arc::new(parse_each::<Time64MicrosecondType>(array, parse::time)?),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => Arc::new(
            parse_each::<TimestampMicrosecondType>(array, |text| parse::timestamp(text, zone.is_some()))?
                .with_timezone_opt(zone.clone()),
        ),
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            Arc::new(parse_each::<IntervalMonthDayNanoType>(array, parse::interval)?)
        }
        DataType::Boolean => {
            let mut out = BooleanBuilder::with_capacity(array.len());
            each_text(array, |text| {
                out.append_option(text.map(parse::boolean).transpose()?);
                Ok(())
            })?;
            Arc::new(out.finish())
        }
        DataType::Binary => {
            let mut out = BinaryBuilder::new();
            each_text(array, |text| {
                out.append_option(text.map(parse::bytea).transpose()?);
                Ok(())
            })?;
            Arc::new(out.finish())
        }
        to_type if is_text(to_type) => return labelled_text(array, to),
        // Times in other units, the other kinds of binary: by way of the one that is ours.
        DataType::Time32(_) | DataType::Time64(_) => {
            let ours = Field::new("", DataType::Time64(TimeUnit::Microsecond), true);
            return plain_cast(&from_text(array, &ours)?, target);
        }
        DataType::Timestamp(_, zone) => {
            let ours = Field::new("", DataType::Timestamp(TimeUnit::Microsecond, zone.clone()), true);
            return plain_cast(&from_text(array, &ours)?, target);
        }
        DataType::LargeBinary | DataType::BinaryView => {
            return plain_cast(&from_text(array, &Field::new("", DataType::Binary, true))?, target);
        }
        DataType::Dictionary(_, value) => {
            let inner = Field::new("", value.as_ref().clone(), true);
            return plain_cast(&convert_array(array, &inner)?, target);
        }
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _) | DataType::Struct(_) => {
            let name = crate::text::type_name(to);
            return Err(raise(state::FEATURE_NOT_SUPPORTED, format!("text cannot be cast to {name}")));
        }
        _ => return plain_cast(array, target),
    };
    Ok(array)
}

/// Text to text whose field says that it is a uuid, JSON or at most n characters long.
fn labelled_text(array: &ArrayRef, to: &Field) -> Result<ArrayRef> {
    let label = to.metadata().get(TYPE_KEY).map(String::as_str).unwrap_or_default();
    let mut out = StringViewBuilder::with_capacity(array.len());
    match label {
        "uuid" => {
            let mut buffer = [0; uuid::fmt::Hyphenated::LENGTH];
            each_text(array, |text| {
                match text {
                    Some(text) => out.append_value(canonical_uuid(text, &mut buffer)?),
                    None => out.append_null(),
                }
                Ok(())
            })?;
        }
        "json" => {
            each_text(array, |text| {
                text.map(parse::json).transpose()?;
                Ok(())
            })?;
            return plain_cast(array, to.data_type());
        }
        _ => {
            let Some(limit) = varchar_limit(label) else { return plain_cast(array, to.data_type()) };
            each_text(array, |text| {
                out.append_option(text.map(|text| first_characters(text, limit)));
                Ok(())
            })?;
        }
    }
    plain_cast(&(Arc::new(out.finish()) as ArrayRef), to.data_type())
}

fn canonical_uuid<'a>(text: &str, buffer: &'a mut [u8; uuid::fmt::Hyphenated::LENGTH]) -> Result<&'a str> {
    let bytes = crate::types::parse_uuid(text).map_err(DataFusionError::from)?;
    Ok(uuid::Uuid::from_bytes(bytes).hyphenated().encode_lower(buffer))
}

fn varchar_limit(label: &str) -> Option<usize> {
    label.strip_prefix("varchar(")?.strip_suffix(')')?.parse().ok()
}

fn first_characters(text: &str, limit: usize) -> &str {
    match text.char_indices().nth(limit) {
        Some((end, _)) => text.get(..end).unwrap_or(text),
        None => text,
    }
}

fn to_text(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let field = Field::new("", array.data_type().clone(), true);
    let mut out = StringViewBuilder::with_capacity(array.len());
    let mut text = String::new();
    for row in 0..array.len() {
        if array.is_null(row) {
            out.append_null();
            continue;
        }
        text.clear();
        match array.as_boolean_opt() {
            Some(values) => text.push_str(if values.value(row) { "true" } else { "false" }),
            None => crate::text::format(array.as_ref(), row, &field, &mut text),
        }
        out.append_value(&text);
    }
    plain_cast(&(Arc::new(out.finish()) as ArrayRef), to)
}

/// What an integer target needs: its bounds as exact floats, and its way from wider integers.
trait Target: ArrowPrimitiveType {
    const NAME: &'static str;
    /// The least double that is too large, and the least that is not too small.
    const ABOVE: f64;
    const LEAST: f64;
    fn from_i128(value: i128) -> Option<Self::Native>;
}

macro_rules! target {
    ($type:ty, $native:ty, $name:literal, $above:expr) => {
        impl Target for $type {
            const NAME: &'static str = $name;
            const ABOVE: f64 = $above;
            const LEAST: f64 = -$above;
            fn from_i128(value: i128) -> Option<$native> {
                <$native>::try_from(value).ok()
            }
        }
    };
}
target!(Int16Type, i16, "smallint", 32_768.0);
target!(Int32Type, i32, "integer", 2_147_483_648.0);
target!(Int64Type, i64, "bigint", 9_223_372_036_854_775_808.0);

fn integer_out_of_range<T: Target>() -> DataFusionError {
    raise(state::NUMERIC_VALUE_OUT_OF_RANGE, format!("{} out of range", T::NAME))
}

fn to_integer<T: Target>(array: &ArrayRef) -> Result<ArrayRef> {
    match array.data_type() {
        DataType::Float64 => {
            let rounded = array.as_primitive::<Float64Type>().try_unary::<_, T, DataFusionError>(whole_of::<T>)?;
            Ok(Arc::new(rounded))
        }
        DataType::Float16 | DataType::Float32 => to_integer::<T>(&plain_cast(array, &DataType::Float64)?),
        DataType::Decimal128(_, scale) => {
            let scale = i16::from(*scale);
            let divisor = power_of_ten(scale.max(0)).unwrap_or(1);
            let factor = power_of_ten((-scale).max(0)).unwrap_or(1);
            let integers = array.as_primitive::<Decimal128Type>().try_unary::<_, T, DataFusionError>(|value| {
                let whole = divide_rounding(value, divisor).checked_mul(factor);
                whole.and_then(T::from_i128).ok_or_else(integer_out_of_range::<T>)
            })?;
            Ok(Arc::new(integers))
        }
        from if from.is_decimal() => {
            let scale = match from {
                DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) | DataType::Decimal256(_, scale) => {
                    *scale
                }
                _ => 0,
            };
            to_integer::<T>(&plain_cast(array, &DataType::Decimal128(38, scale))?)
        }
        DataType::UInt64 => {
            let wide = plain_cast(array, &DataType::Decimal128(20, 0))?;
            to_integer::<T>(&wide)
        }
        _ => {
            let wide = plain_cast(array, &DataType::Int64)?;
            let integers = wide.as_primitive::<Int64Type>().try_unary::<_, T, DataFusionError>(|value| {
                T::from_i128(i128::from(value)).ok_or_else(integer_out_of_range::<T>)
            })?;
            Ok(Arc::new(integers))
        }
    }
}

/// Rounded half to even, as PostgreSQL's `rint`.
fn whole_of<T: Target>(value: f64) -> Result<T::Native> {
    let rounded = value.round_ties_even();
    if !(rounded >= T::LEAST && rounded < T::ABOVE) {
        return Err(integer_out_of_range::<T>());
    }
    #[expect(clippy::cast_possible_truncation, reason = "a whole number, and within 64 bits by the bounds above")]
    let whole = rounded as i128;
    T::from_i128(whole).ok_or_else(integer_out_of_range::<T>)
}

fn to_real(array: &ArrayRef) -> Result<ArrayRef> {
    let reals = array.as_primitive::<Float64Type>().try_unary::<_, Float32Type, DataFusionError>(|value| {
        #[expect(clippy::cast_possible_truncation, reason = "what is lost is checked below")]
        let real = value as f32;
        if real.is_infinite() && value.is_finite() {
            return Err(raise(state::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range: overflow"));
        }
        if real == 0.0 && value != 0.0 {
            return Err(raise(state::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range: underflow"));
        }
        Ok(real)
    })?;
    Ok(Arc::new(reals))
}

fn to_decimal(array: &ArrayRef, precision: u8, scale: i8) -> Result<ArrayRef> {
    let target = DataType::Decimal128(precision, scale);
    let overflow = || parse::numeric_overflow(precision, scale);
    let limit = power_of_ten(i16::from(precision)).ok_or_else(overflow)?.unsigned_abs().min(TEN_TO_38);
    let fits = |value: i128| (value.unsigned_abs() < limit).then_some(value);
    let decimals = match array.data_type() {
        DataType::Decimal128(_, from) => {
            let shift = i16::from(scale) - i16::from(*from);
            let (factor, divisor) = (power_of_ten(shift.max(0)), power_of_ten((-shift).max(0)).unwrap_or(i128::MAX));
            array.as_primitive::<Decimal128Type>().try_unary::<_, Decimal128Type, DataFusionError>(|value| {
                let moved = if shift < 0 {
                    Some(divide_rounding(value, divisor))
                } else if value == 0 {
                    Some(0)
                } else {
                    factor.and_then(|factor| value.checked_mul(factor))
                };
                moved.and_then(fits).ok_or_else(overflow)
            })?
        }
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            // By way of its text, as PostgreSQL does: 0.1 is 0.1 and not 0.1000000000000000055.
            let field = Field::new("", array.data_type().clone(), true);
            let mut out = PrimitiveBuilder::<Decimal128Type>::with_capacity(array.len());
            let mut text = String::new();
            for row in 0..array.len() {
                if array.is_null(row) {
                    out.append_null();
                    continue;
                }
                text.clear();
                crate::text::format(array.as_ref(), row, &field, &mut text);
                out.append_value(parse::numeric(&text, precision, scale)?);
            }
            out.finish()
        }
        from if from.is_decimal() => {
            let wide = DataType::Decimal128(38, decimal_scale(from));
            return to_decimal(&plain_cast(array, &wide)?, precision, scale);
        }
        DataType::UInt64 => return to_decimal(&plain_cast(array, &DataType::Decimal128(20, 0))?, precision, scale),
        _ => {
            let factor = power_of_ten(i16::from(scale)).ok_or_else(overflow)?;
            let wide = plain_cast(array, &DataType::Int64)?;
            wide.as_primitive::<Int64Type>().try_unary::<_, Decimal128Type, DataFusionError>(|value| {
                i128::from(value).checked_mul(factor).and_then(fits).ok_or_else(overflow)
            })?
        }
    };
    Ok(Arc::new(decimals.with_data_type(target)))
}

fn decimal_scale(ty: &DataType) -> i8 {
    match ty {
        DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) | DataType::Decimal256(_, scale) => *scale,
        _ => 0,
    }
}
