/*!
Scalar functions of our own.
*/

use crate::error::state;
use crate::semantics::{TIME_ZONE, raise};
use crate::types::SqlType;
use arrow::array::timezone::Tz;
use arrow::array::{Array, AsArray, PrimitiveArray, StringViewBuilder};
use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit, TimestampMicrosecondType};
use chrono::{DateTime, LocalResult, Offset, TimeZone};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use omendb_engine::types::ColumnType;
use std::sync::Arc;

/// All of them.
pub(super) fn all() -> Vec<Arc<ScalarUDF>> {
    vec![
        Arc::new(ScalarUDF::new_from_impl(PgTypeof { signature: Signature::any(1, Volatility::Stable) })),
        Arc::new(ScalarUDF::new_from_impl(GenRandomUuid { signature: Signature::nullary(Volatility::Volatile) })),
        Arc::new(ScalarUDF::new_from_impl(Now::zoned())),
        Arc::new(ScalarUDF::new_from_impl(Now::local())),
        Arc::new(ScalarUDF::new_from_impl(AtTimeZone { signature: Signature::user_defined(Volatility::Immutable) })),
    ]
}

/// The name of a value's type.
#[derive(Debug, PartialEq, Eq, Hash)]
struct PgTypeof {
    signature: Signature,
}

impl ScalarUDFImpl for PgTypeof {
    fn name(&self) -> &str {
        "pg_typeof"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8View)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(field) = args.arg_fields.first() else { return internal_err!("pg_typeof has one argument") };
        // A type, not a column's: without length and precision.
        let name = crate::text::type_name(field);
        let name = name.split('(').next().unwrap_or_default().to_owned();
        Ok(ColumnarValue::Scalar(ScalarValue::Utf8View(Some(name))))
    }
}

/// Random UUIDs of version 4.
#[derive(Debug, PartialEq, Eq, Hash)]
struct GenRandomUuid {
    signature: Signature,
}

impl ScalarUDFImpl for GenRandomUuid {
    fn name(&self) -> &str {
        "gen_random_uuid"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8View)
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(SqlType::from(ColumnType::Uuid).field(self.name(), false)))
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        args.return_field = Arc::new(Field::new(self.name(), DataType::Utf8, false));
        let text = datafusion::functions::string::uuid().invoke_with_args(args)?.to_array(rows)?;
        let mut out = StringViewBuilder::with_capacity(rows);
        for value in text.as_string::<i32>() {
            out.append_option(value);
        }
        Ok(ColumnarValue::Array(Arc::new(out.finish())))
    }
}

/// The time at which the statement began.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Now {
    name: &'static str,
    aliases: Vec<String>,
    result: DataType,
    signature: Signature,
}

impl Now {
    fn zoned() -> Self {
        let aliases = ["current_timestamp", "transaction_timestamp", "statement_timestamp"];
        Now {
            name: "now",
            aliases: aliases.map(str::to_owned).to_vec(),
            result: DataType::Timestamp(TimeUnit::Microsecond, Some(TIME_ZONE.into())),
            signature: Signature::nullary(Volatility::Stable),
        }
    }

    fn local() -> Self {
        Now {
            name: "localtimestamp",
            aliases: Vec::new(),
            result: DataType::Timestamp(TimeUnit::Microsecond, None),
            signature: Signature::nullary(Volatility::Stable),
        }
    }
}

impl ScalarUDFImpl for Now {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.result.clone())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        internal_err!("{} is replaced by its value while a statement is planned", self.name)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let Some(now) = info.query_execution_start_time() else { return Ok(ExprSimplifyResult::Original(args)) };
        let zone = match &self.result {
            DataType::Timestamp(_, zone) => zone.clone(),
            _ => None,
        };
        let value = ScalarValue::TimestampMicrosecond(Some(now.timestamp_micros()), zone);
        Ok(ExprSimplifyResult::Simplified(Expr::Literal(value, None)))
    }
}

/// `timezone(zone, time)`, which `time AT TIME ZONE zone` is: local time to timestamptz, and the other way round.
#[derive(Debug, PartialEq, Eq, Hash)]
struct AtTimeZone {
    signature: Signature,
}

impl ScalarUDFImpl for AtTimeZone {
    fn name(&self) -> &str {
        "timezone"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let micros = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
        match types {
            [_, DataType::Timestamp(_, Some(_))] => Ok(vec![DataType::Utf8View, micros(Some(TIME_ZONE))]),
            [_, DataType::Date32 | DataType::Date64 | DataType::Timestamp(_, None)] => {
                Ok(vec![DataType::Utf8View, micros(None)])
            }
            [_, ty] if crate::semantics::cast::is_text(ty) => Ok(vec![DataType::Utf8View, micros(Some(TIME_ZONE))]),
            _ => Err(raise(state::UNDEFINED_FUNCTION, "timezone takes a zone's name and a timestamp")),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [_, DataType::Timestamp(_, Some(_))] => Ok(DataType::Timestamp(TimeUnit::Microsecond, None)),
            _ => Ok(DataType::Timestamp(TimeUnit::Microsecond, Some(TIME_ZONE.into()))),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [ColumnarValue::Scalar(zone), times] = args.args.as_slice() else {
            return Err(raise(state::FEATURE_NOT_SUPPORTED, "a time zone must be a constant"));
        };
        let constant = matches!(times, ColumnarValue::Scalar(_));
        let times = times.to_array(if constant { 1 } else { args.number_rows })?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let moved = match zone.try_as_str().flatten() {
            None => PrimitiveArray::new_null(times.len()),
            Some(name) => moved(times, name)?,
        };
        let zone = match args.return_type() {
            DataType::Timestamp(_, zone) => zone.clone(),
            _ => None,
        };
        let moved = moved.with_timezone_opt(zone);
        if constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&moved, 0)?));
        }
        Ok(ColumnarValue::Array(Arc::new(moved)))
    }
}

/// Timestamps with a zone to the wall clocks of `name`; without one, taken for that wall clock, to UTC.
fn moved(
    times: &PrimitiveArray<TimestampMicrosecondType>,
    name: &str,
) -> Result<PrimitiveArray<TimestampMicrosecondType>> {
    let unknown = || raise(state::INVALID_PARAMETER_VALUE, format!("time zone \"{name}\" not recognized"));
    let zone: Tz = name.parse().map_err(|_| unknown())?;
    let outside = || raise(state::DATETIME_FIELD_OVERFLOW, "timestamp out of range");
    let zoned = matches!(times.data_type(), DataType::Timestamp(_, Some(_)));
    times.try_unary::<_, TimestampMicrosecondType, DataFusionError>(|micros| {
        let at = DateTime::from_timestamp_micros(micros).ok_or_else(outside)?.naive_utc();
        if zoned {
            let offset = zone.offset_from_utc_datetime(&at).fix().local_minus_utc();
            return Ok(micros + i64::from(offset) * 1_000_000);
        }
        // Clocks put forward skip an hour, which is read with the offset from before.
        let offset = match zone.offset_from_local_datetime(&at) {
            LocalResult::Single(offset) | LocalResult::Ambiguous(_, offset) => offset,
            LocalResult::None => {
                let before = at.checked_sub_signed(chrono::Duration::hours(3)).ok_or_else(outside)?;
                zone.offset_from_local_datetime(&before).earliest().ok_or_else(outside)?
            }
        };
        Ok(micros - i64::from(offset.fix().local_minus_utc()) * 1_000_000)
    })
}
