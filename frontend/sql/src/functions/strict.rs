/*!
DataFusion's mathematical functions, failing where PostgreSQL's fail.

A wrapped function computes as before; only where its answer is NaN or infinite though no argument was, the row is looked
at, and the error is PostgreSQL's: 2201F for roots of negative numbers, 2201E for logarithms of what has none, 22003 for
overflow and for what lies outside a function's domain.
*/

use crate::error::state;
use crate::semantics::raise;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, FieldRef, Float64Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use std::sync::Arc;

const INVALID_ARGUMENT_FOR_LOGARITHM: &str = "2201E";
const INVALID_ARGUMENT_FOR_POWER: &str = "2201F";

/// The functions that are wrapped.
const WRAPPED: [&str; 17] = [
    "sqrt", "cbrt", "ln", "log", "log2", "log10", "exp", "power", "sinh", "cosh", "tan", "cot", "asin", "acos",
    "acosh", "atanh", "abs",
];

/// `function` wrapped, if it is one of those.
pub(super) fn wrapped(function: &Arc<ScalarUDF>) -> Option<Arc<ScalarUDF>> {
    WRAPPED
        .contains(&function.name())
        .then(|| Arc::new(ScalarUDF::new_from_impl(Strict { inner: Arc::clone(function) })))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Strict {
    inner: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for Strict {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.inner.simplify(args, info)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.output_ordering(inputs)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let given = args.args.clone();
        let rows = args.number_rows;
        let answer = self.inner.invoke_with_args(args).map_err(|error| overflow_of(error, &given))?;
        if suspicious(&answer) {
            check(self.name(), &given, &answer, rows)?;
        }
        Ok(answer)
    }
}

/// What fails in a function of integers is its overflow; some functions know their domain already.
fn overflow_of(error: DataFusionError, args: &[ColumnarValue]) -> DataFusionError {
    let ty = args.first().map(ColumnarValue::data_type);
    match (error.find_root(), ty) {
        (DataFusionError::ArrowError(_, _), Some(ty)) if ty.is_integer() => {
            raise(state::NUMERIC_VALUE_OUT_OF_RANGE, crate::semantics::arithmetic::overflow_message(&ty))
        }
        (root, _) => {
            let message = root.to_string();
            let says = |words: &str| message.contains(words);
            if says("square root of a negative") {
                failure("sqrt", &[])
            } else if says("logarithm of zero") {
                failure("ln", &[0.0])
            } else if says("logarithm of a negative") {
                failure("ln", &[-1.0])
            } else if says("zero raised to a negative power") {
                failure("power", &[0.0, -1.0])
            } else if says("raised to a non-integer power") {
                failure("power", &[-1.0, 0.5])
            } else {
                error
            }
        }
    }
}

fn suspicious(answer: &ColumnarValue) -> bool {
    match answer {
        ColumnarValue::Scalar(ScalarValue::Float64(Some(value))) => !value.is_finite(),
        ColumnarValue::Scalar(ScalarValue::Float32(Some(value))) => !value.is_finite(),
        ColumnarValue::Scalar(_) => false,
        ColumnarValue::Array(array) => match array.data_type() {
            DataType::Float64 => array.as_primitive::<Float64Type>().values().iter().any(|value| !value.is_finite()),
            DataType::Float32 => {
                array.as_primitive::<arrow::datatypes::Float32Type>().values().iter().any(|value| !value.is_finite())
            }
            _ => false,
        },
    }
}

fn check(name: &str, args: &[ColumnarValue], answer: &ColumnarValue, rows: usize) -> Result<()> {
    let doubles = |value: &ColumnarValue| -> Result<ArrayRef> {
        Ok(arrow::compute::cast(&value.to_array(rows)?, &DataType::Float64)?)
    };
    let answer = doubles(answer)?;
    let answer = answer.as_primitive::<Float64Type>();
    let args = args.iter().map(doubles).collect::<Result<Vec<_>>>()?;
    for row in (0..answer.len()).filter(|row| answer.is_valid(*row) && !answer.value(*row).is_finite()) {
        let given: Vec<f64> = args
            .iter()
            .map(|array| array.as_primitive::<Float64Type>())
            .filter(|array| array.is_valid(row))
            .map(|array| array.value(row))
            .collect();
        if given.iter().all(|value| value.is_finite()) {
            return Err(failure(name, &given));
        }
    }
    Ok(())
}

fn failure(name: &str, args: &[f64]) -> DataFusionError {
    let first = args.first().copied().unwrap_or_default();
    let last = args.last().copied().unwrap_or_default();
    match name {
        "sqrt" => raise(INVALID_ARGUMENT_FOR_POWER, "cannot take square root of a negative number"),
        "ln" | "log" | "log2" | "log10" if args.contains(&0.0) => {
            raise(INVALID_ARGUMENT_FOR_LOGARITHM, "cannot take logarithm of zero")
        }
        "ln" | "log" | "log2" | "log10" if args.iter().any(|value| *value < 0.0) => {
            raise(INVALID_ARGUMENT_FOR_LOGARITHM, "cannot take logarithm of a negative number")
        }
        "log" => raise(state::DIVISION_BY_ZERO, "division by zero"),
        "power" if first == 0.0 && last < 0.0 => {
            raise(INVALID_ARGUMENT_FOR_POWER, "zero raised to a negative power is undefined")
        }
        "power" if first < 0.0 && last.fract() != 0.0 => {
            raise(INVALID_ARGUMENT_FOR_POWER, "a negative number raised to a non-integer power yields a complex result")
        }
        "asin" | "acos" | "acosh" | "atanh" => raise(state::NUMERIC_VALUE_OUT_OF_RANGE, "input is out of range"),
        _ => raise(state::NUMERIC_VALUE_OUT_OF_RANGE, "value out of range: overflow"),
    }
}
