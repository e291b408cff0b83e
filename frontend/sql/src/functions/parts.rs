/*!
Whole parts of numerics, and seconds with their fraction.

DataFusion's `floor(2.7)` of a numeric is 2.0, and its `extract(second …)` an integer; PostgreSQL's are 2 and 5.25.
All else about these functions is DataFusion's.
*/

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::{DatePart, date_part};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int32Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use std::sync::Arc;

/// `function` wrapped, if it is one of those.
pub(super) fn wrapped(function: &Arc<ScalarUDF>) -> Option<Arc<ScalarUDF>> {
    let inner = Arc::clone(function);
    match function.name() {
        "floor" | "ceil" => Some(Arc::new(ScalarUDF::new_from_impl(Whole { inner }))),
        "date_part" => Some(Arc::new(ScalarUDF::new_from_impl(Seconds { inner }))),
        _ => None,
    }
}

/// `floor` or `ceil`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Whole {
    inner: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for Whole {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(match self.inner.return_type(types)? {
            DataType::Decimal128(precision, 1..) => DataType::Decimal128(precision, 0),
            other => other,
        })
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.output_ordering(inputs)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let wanted = Arc::clone(&args.return_field);
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let own = self.inner.return_type(&types)?;
        args.return_field = Arc::new(Field::new(self.name(), own, true));
        self.inner.invoke_with_args(args)?.cast_to(wanted.data_type(), None)
    }
}

/// `date_part`, which `extract` is.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Seconds {
    inner: Arc<ScalarUDF>,
}

fn is_second(part: Option<&ScalarValue>) -> bool {
    let part = part.and_then(|part| part.try_as_str().flatten()).unwrap_or_default();
    ["second", "seconds", "sec", "secs", "s"].iter().any(|name| part.eq_ignore_ascii_case(name))
}

fn has_fraction(ty: Option<&DataType>) -> bool {
    matches!(ty, Some(DataType::Timestamp(_, _) | DataType::Time32(_) | DataType::Time64(_)))
}

impl ScalarUDFImpl for Seconds {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let part = args.scalar_arguments.first().copied().flatten();
        if is_second(part) && has_fraction(args.arg_fields.get(1).map(|field| field.data_type())) {
            return Ok(Arc::new(Field::new(self.name(), DataType::Float64, true)));
        }
        self.inner.return_field_from_args(args)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.inner.simplify(args, info)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let [ColumnarValue::Scalar(part), times] = args.args.as_slice()
            && is_second(Some(part))
            && has_fraction(Some(&times.data_type()))
        {
            let constant = matches!(times, ColumnarValue::Scalar(_));
            let seconds = seconds(&times.to_array(if constant { 1 } else { args.number_rows })?)?;
            if constant {
                return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&seconds, 0)?));
            }
            return Ok(ColumnarValue::Array(seconds));
        }
        self.inner.invoke_with_args(args)
    }
}

fn seconds(times: &ArrayRef) -> Result<ArrayRef> {
    let whole = date_part(times, DatePart::Second)?;
    let nanos = date_part(times, DatePart::Nanosecond)?;
    let whole = whole.as_primitive::<Int32Type>();
    let nanos = nanos.as_primitive::<Int32Type>();
    let sum = arrow::compute::binary::<_, _, _, Float64Type>(whole, nanos, |whole, nanos| {
        (f64::from(whole) * 1e9 + f64::from(nanos)) / 1e9
    })?;
    Ok(Arc::new(sum))
}
