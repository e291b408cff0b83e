/*!
SQL types, engine types and Arrow fields, and the way between them.

A column has three faces. The *engine* stores a physical [`ColumnType`]. *DataFusion* sees an Arrow field: the engine's
own Arrow type, except that a UUID is canonical lower-case text, since DataFusion compares, groups and casts text well
and fixed-size binary hardly at all. *SQL* names it: what Arrow cannot say (uuid, json, varchar(n)) stands in the field's
metadata under [`TYPE_KEY`], and in the column's attributes under [`TYPE_ATTRIBUTE`].

NUMERIC without precision is NUMERIC(38, 10): 38 digits are what Arrow's 128-bit decimals hold. CHAR(n), SERIAL, arrays
and types with a precision that is not microseconds are refused rather than stored as something else.
*/

use crate::error::{Result, SqlError, state};
use arrow::array::{Array, ArrayRef, FixedSizeBinaryArray, FixedSizeBinaryBuilder, StringViewArray, StringViewBuilder};
use arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};
use datafusion::sql::sqlparser::ast::{self, CharacterLength, ExactNumberInfo, TimezoneInfo};
use omendb_engine::types::{Attributes, ColumnDef, ColumnType};
use std::collections::HashMap;
use std::sync::Arc;

/// The metadata key of an Arrow field that names its SQL type where the Arrow type does not: `uuid`, `json`, `varchar(n)`.
pub const TYPE_KEY: &str = "omendb.type";
/// The attribute of a stored column that says the same.
pub const TYPE_ATTRIBUTE: &str = "type";
/// The attribute of a stored column that holds its DEFAULT expression as SQL text.
pub const DEFAULT_ATTRIBUTE: &str = "default";

/// The scale of NUMERIC without precision; its precision is 38.
pub const NUMERIC_SCALE_DEFAULT: i8 = 10;

/// An SQL type that a column can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlType {
    /// How it is stored.
    pub column: ColumnType,
    /// The n of VARCHAR(n), in characters.
    pub length: Option<u32>,
}

impl From<ColumnType> for SqlType {
    fn from(column: ColumnType) -> Self {
        SqlType { column, length: None }
    }
}

impl SqlType {
    /// The type of a stored column.
    pub fn of_column(column: &ColumnDef) -> SqlType {
        let length = column.attributes.get(TYPE_ATTRIBUTE).and_then(|t| varchar_length(t));
        SqlType { column: column.ty, length }
    }

    /// The type that an Arrow field stands for: of a query's result, of a file's column.
    ///
    /// # Errors
    /// 0A000 for Arrow types that no column can have (lists, structs, …).
    pub fn of_field(field: &Field) -> Result<SqlType> {
        let named = field.metadata().get(TYPE_KEY).map(String::as_str);
        let column = match (field.data_type(), named) {
            (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View, Some("uuid")) => ColumnType::Uuid,
            (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View, Some("json")) => ColumnType::Json,
            (ty, _) => of_arrow(ty).ok_or_else(|| {
                SqlError::unsupported(format!("a column cannot have type {ty} (column \"{}\")", field.name()))
            })?,
        };
        Ok(SqlType { column, length: named.and_then(varchar_length) })
    }

    /// The type that a statement names.
    ///
    /// # Errors
    /// 42704 for a name that is no type, 0A000 for one that OmenDB does not have, 22023 for senseless numbers in it.
    pub fn parse(ty: &ast::DataType) -> Result<SqlType> {
        use ast::DataType as T;
        let plain = |column: ColumnType| Ok(SqlType::from(column));
        match ty {
            T::Bool | T::Boolean => plain(ColumnType::Boolean),
            T::SmallInt(None) | T::Int2(None) => plain(ColumnType::Int16),
            T::Int(None) | T::Integer(None) | T::Int4(None) => plain(ColumnType::Int32),
            T::BigInt(None) | T::Int8(None) => plain(ColumnType::Int64),
            T::Real | T::Float4 => plain(ColumnType::Float32),
            T::DoublePrecision | T::Float8 | T::Double(ExactNumberInfo::None) => plain(ColumnType::Float64),
            T::Float(info) => float(info),
            T::Numeric(info) | T::Decimal(info) | T::Dec(info) => numeric(info),
            T::Text => plain(ColumnType::Text),
            T::Varchar(n) | T::CharacterVarying(n) | T::CharVarying(n) => varchar(n),
            T::Char(_) | T::Character(_) => Err(SqlError::unsupported("type character(n) is not supported")
                .with_hint("Use varchar(n) or text, which are not padded with blanks.")),
            T::Bytea => plain(ColumnType::Bytes),
            T::Date => plain(ColumnType::Date),
            T::Time(p, zone) => match zone {
                TimezoneInfo::None | TimezoneInfo::WithoutTimeZone => micros(*p, "time", ColumnType::Time),
                _ => Err(SqlError::unsupported("type time with time zone is not supported")
                    .with_hint("Use timestamp with time zone.")),
            },
            T::Timestamp(p, zone) => match zone {
                TimezoneInfo::None | TimezoneInfo::WithoutTimeZone => micros(*p, "timestamp", ColumnType::Timestamp),
                _ => micros(*p, "timestamp", ColumnType::TimestampTz),
            },
            T::Interval { fields: None, precision: None } => plain(ColumnType::Interval),
            T::Interval { .. } => Err(SqlError::unsupported("an interval with fields or precision is not supported")
                .with_hint("Use interval alone.")),
            T::Uuid => plain(ColumnType::Uuid),
            T::JSON => plain(ColumnType::Json),
            T::JSONB => Err(SqlError::unsupported("type jsonb is not supported").with_hint("Use json.")),
            T::Custom(name, modifiers) => custom(&name.to_string().to_lowercase(), modifiers),
            T::Array(_) => Err(SqlError::unsupported("columns of arrays are not supported")),
            other => Err(SqlError::unsupported(format!("type {} is not supported", other.to_string().to_lowercase()))),
        }
    }

    /// PostgreSQL's name of the type.
    pub fn name(&self) -> String {
        match (self.column, self.length) {
            (ColumnType::Boolean, _) => "boolean".into(),
            (ColumnType::Int16, _) => "smallint".into(),
            (ColumnType::Int32, _) => "integer".into(),
            (ColumnType::Int64, _) => "bigint".into(),
            (ColumnType::Float32, _) => "real".into(),
            (ColumnType::Float64, _) => "double precision".into(),
            (ColumnType::Decimal { precision, scale }, _) => format!("numeric({precision},{scale})"),
            (ColumnType::Text, Some(n)) => format!("character varying({n})"),
            (ColumnType::Text, None) => "text".into(),
            (ColumnType::Bytes, _) => "bytea".into(),
            (ColumnType::Date, _) => "date".into(),
            (ColumnType::Time, _) => "time without time zone".into(),
            (ColumnType::Timestamp, _) => "timestamp without time zone".into(),
            (ColumnType::TimestampTz, _) => "timestamp with time zone".into(),
            (ColumnType::Interval, _) => "interval".into(),
            (ColumnType::Uuid, _) => "uuid".into(),
            (ColumnType::Json, _) => "json".into(),
            (other, _) => format!("{other:?}"),
        }
    }

    /// The Arrow type that DataFusion sees.
    pub fn arrow(&self) -> DataType {
        match self.column {
            ColumnType::Uuid => DataType::Utf8View,
            other => other.arrow(),
        }
    }

    /// What a field's metadata say of it: nothing where the Arrow type says it all.
    pub fn metadata(&self) -> HashMap<String, String> {
        self.label().map(|label| (TYPE_KEY.to_owned(), label)).into_iter().collect()
    }

    /// What a stored column's attributes say of it.
    pub fn attributes(&self) -> Attributes {
        self.label().map(|label| (TYPE_ATTRIBUTE.to_owned(), label)).into_iter().collect()
    }

    /// A field of this type, as DataFusion sees it.
    pub fn field(&self, name: &str, nullable: bool) -> Field {
        Field::new(name, self.arrow(), nullable).with_metadata(self.metadata())
    }

    fn label(&self) -> Option<String> {
        match (self.column, self.length) {
            (ColumnType::Uuid, _) => Some("uuid".into()),
            (ColumnType::Json, _) => Some("json".into()),
            (ColumnType::Text, Some(n)) => Some(format!("varchar({n})")),
            _ => None,
        }
    }
}

/// The Arrow field of a stored column, as DataFusion sees it.
pub fn field_of(column: &ColumnDef) -> Field {
    SqlType::of_column(column).field(&column.name, column.nullable)
}

/// The n of `varchar(n)`.
fn varchar_length(label: &str) -> Option<u32> {
    label.strip_prefix("varchar(")?.strip_suffix(')')?.parse().ok()
}

fn of_arrow(ty: &DataType) -> Option<ColumnType> {
    Some(match ty {
        DataType::Boolean => ColumnType::Boolean,
        DataType::Int8 | DataType::UInt8 | DataType::Int16 => ColumnType::Int16,
        DataType::UInt16 | DataType::Int32 => ColumnType::Int32,
        DataType::UInt32 | DataType::Int64 => ColumnType::Int64,
        DataType::UInt64 => ColumnType::Decimal { precision: 20, scale: 0 },
        DataType::Float16 | DataType::Float32 => ColumnType::Float32,
        DataType::Float64 => ColumnType::Float64,
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
            if *scale >= 0 =>
        {
            ColumnType::Decimal { precision: *precision, scale: *scale }
        }
        DataType::Decimal256(_, scale) if *scale >= 0 => ColumnType::Decimal { precision: 38, scale: (*scale).min(38) },
        DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => ColumnType::Text,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            ColumnType::Bytes
        }
        DataType::Date32 | DataType::Date64 => ColumnType::Date,
        DataType::Time32(_) | DataType::Time64(_) => ColumnType::Time,
        DataType::Timestamp(_, None) => ColumnType::Timestamp,
        DataType::Timestamp(_, Some(_)) => ColumnType::TimestampTz,
        DataType::Interval(_) | DataType::Duration(_) => ColumnType::Interval,
        DataType::Dictionary(_, value) => of_arrow(value)?,
        DataType::RunEndEncoded(_, values) => of_arrow(values.data_type())?,
        _ => return None,
    })
}

fn float(info: &ExactNumberInfo) -> Result<SqlType> {
    match info {
        ExactNumberInfo::None => Ok(ColumnType::Float64.into()),
        ExactNumberInfo::Precision(1..=24) => Ok(ColumnType::Float32.into()),
        ExactNumberInfo::Precision(25..=53) => Ok(ColumnType::Float64.into()),
        _ => {
            Err(SqlError::new(state::INVALID_PARAMETER_VALUE, "precision of type float must be between 1 and 53 bits"))
        }
    }
}

fn numeric(info: &ExactNumberInfo) -> Result<SqlType> {
    let (precision, scale) = match info {
        ExactNumberInfo::None => (38, i64::from(NUMERIC_SCALE_DEFAULT)),
        ExactNumberInfo::Precision(p) => (*p, 0),
        ExactNumberInfo::PrecisionAndScale(p, s) => (*p, *s),
    };
    if precision > 38 {
        return Err(SqlError::unsupported(format!(
            "numeric precision {precision} is more than the 38 digits supported"
        )));
    }
    let wrong = || {
        let message = format!("numeric({precision},{scale}): precision must be 1 to 38 and scale 0 to the precision");
        SqlError::new(state::INVALID_PARAMETER_VALUE, message)
    };
    let precision = u8::try_from(precision).map_err(|_| wrong())?;
    let scale = i8::try_from(scale).map_err(|_| wrong())?;
    match precision >= 1 && scale >= 0 && i16::from(scale) <= i16::from(precision) {
        true => Ok(ColumnType::Decimal { precision, scale }.into()),
        false => Err(wrong()),
    }
}

fn varchar(length: &Option<CharacterLength>) -> Result<SqlType> {
    let length = match length {
        None | Some(CharacterLength::Max) => None,
        Some(CharacterLength::IntegerLength { length, .. }) => {
            let n = u32::try_from(*length).ok().filter(|n| (1..=10_485_760).contains(n)).ok_or_else(|| {
                SqlError::new(state::INVALID_PARAMETER_VALUE, "length of type varchar must be between 1 and 10485760")
            })?;
            Some(n)
        }
    };
    Ok(SqlType { column: ColumnType::Text, length })
}

/// Times are stored in microseconds; a coarser precision would have to round, and is refused.
fn micros(precision: Option<u64>, name: &str, column: ColumnType) -> Result<SqlType> {
    match precision {
        None | Some(6) => Ok(column.into()),
        Some(p @ 0..=5) => {
            Err(SqlError::unsupported(format!("type {name}({p}) is not supported: times are microseconds")))
        }
        Some(p) => {
            Err(SqlError::new(state::INVALID_PARAMETER_VALUE, format!("{name}({p}) precision must be at most 6")))
        }
    }
}

fn custom(name: &str, modifiers: &[String]) -> Result<SqlType> {
    match (name, modifiers) {
        ("timestamptz", []) => Ok(ColumnType::TimestampTz.into()),
        ("timestamptz", [p]) => micros(p.parse().ok(), "timestamptz", ColumnType::TimestampTz),
        ("string", []) => Ok(ColumnType::Text.into()),
        ("serial" | "serial4" | "bigserial" | "serial8" | "smallserial" | "serial2", _) => Err(SqlError::unsupported(
            format!("type {name} is not supported"),
        )
        .with_hint("Use an integer type and give the values; a table without a primary key numbers its rows itself.")),
        (
            "bpchar" | "timetz" | "money" | "inet" | "cidr" | "xml" | "jsonb" | "point" | "box" | "tsvector" | "name"
            | "oid",
            _,
        ) => Err(SqlError::unsupported(format!("type {name} is not supported"))),
        _ => Err(SqlError::new(state::UNDEFINED_OBJECT, format!("type \"{name}\" does not exist"))),
    }
}

/// A column of the engine's Arrow type as DataFusion sees it: UUIDs become text, all else stays.
///
/// # Errors
/// XX000 when the array is not of the engine's type.
pub fn from_engine(array: &ArrayRef, ty: ColumnType) -> Result<ArrayRef> {
    if ty != ColumnType::Uuid {
        return Ok(array.clone());
    }
    let bytes = array
        .as_any()
        .downcast_ref::<FixedSizeBinaryArray>()
        .ok_or_else(|| SqlError::internal(format!("a uuid column of type {}", array.data_type())))?;
    let mut text = StringViewBuilder::with_capacity(bytes.len());
    let mut buffer = [0; uuid::fmt::Hyphenated::LENGTH];
    for value in bytes {
        match value {
            None => text.append_null(),
            Some(value) => {
                let id = uuid::Uuid::from_slice(value).map_err(|e| SqlError::internal(e.to_string()))?;
                text.append_value(id.hyphenated().encode_lower(&mut buffer));
            }
        }
    }
    Ok(Arc::new(text.finish()))
}

/// The way back: a column as DataFusion sees it (its type is `SqlType::arrow`) in the engine's Arrow type.
///
/// # Errors
/// 22P02 for text that is no UUID, XX000 for an array of another type.
pub fn to_engine(array: &ArrayRef, ty: ColumnType) -> Result<ArrayRef> {
    if ty != ColumnType::Uuid {
        return match *array.data_type() == ty.arrow() {
            true => Ok(array.clone()),
            false => Err(SqlError::internal(format!("a column of type {} where {ty:?} is stored", array.data_type()))),
        };
    }
    let text = array
        .as_any()
        .downcast_ref::<StringViewArray>()
        .ok_or_else(|| SqlError::internal(format!("a uuid column of type {}", array.data_type())))?;
    let mut bytes = FixedSizeBinaryBuilder::with_capacity(text.len(), 16);
    for value in text {
        match value {
            None => bytes.append_null(),
            Some(value) => bytes.append_value(parse_uuid(value)?)?,
        }
    }
    Ok(Arc::new(bytes.finish()))
}

/// The bytes of a UUID in any of the forms that PostgreSQL takes.
///
/// # Errors
/// 22P02.
pub fn parse_uuid(text: &str) -> Result<[u8; 16]> {
    let bare = text.trim();
    uuid::Uuid::try_parse(bare).map(uuid::Uuid::into_bytes).map_err(|_| {
        SqlError::new(state::INVALID_TEXT_REPRESENTATION, format!("invalid input syntax for type uuid: \"{text}\""))
    })
}

/// Whether a text is JSON.
///
/// # Errors
/// 22P02 when it is not.
pub fn check_json(text: &str) -> Result<()> {
    serde_json::from_str::<serde_json::Value>(text).map(|_| ()).map_err(|e| {
        SqlError::new(state::INVALID_TEXT_REPRESENTATION, "invalid input syntax for type json")
            .with_detail(e.to_string())
    })
}

/// The unit of all times that are stored.
pub const TIME_UNIT: TimeUnit = TimeUnit::Microsecond;
/// The unit of all intervals that are stored.
pub const INTERVAL_UNIT: IntervalUnit = IntervalUnit::MonthDayNano;

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    fn parse(name: &str) -> Result<SqlType> {
        let mut parser = Parser::new(&PostgreSqlDialect {}).try_with_sql(name)?;
        SqlType::parse(&parser.parse_data_type()?)
    }

    #[test]
    fn every_type_of_the_issue_and_its_aliases_parse() {
        for (sql, name) in [
            ("BOOLEAN", "boolean"),
            ("bool", "boolean"),
            ("SMALLINT", "smallint"),
            ("int2", "smallint"),
            ("INT", "integer"),
            ("INTEGER", "integer"),
            ("int4", "integer"),
            ("BIGINT", "bigint"),
            ("int8", "bigint"),
            ("REAL", "real"),
            ("float4", "real"),
            ("FLOAT", "double precision"),
            ("FLOAT(24)", "real"),
            ("float8", "double precision"),
            ("DOUBLE PRECISION", "double precision"),
            ("NUMERIC", "numeric(38,10)"),
            ("NUMERIC(10)", "numeric(10,0)"),
            ("DECIMAL(10,2)", "numeric(10,2)"),
            ("TEXT", "text"),
            ("VARCHAR", "text"),
            ("VARCHAR(20)", "character varying(20)"),
            ("CHARACTER VARYING(20)", "character varying(20)"),
            ("BYTEA", "bytea"),
            ("DATE", "date"),
            ("TIME", "time without time zone"),
            ("TIMESTAMP", "timestamp without time zone"),
            ("TIMESTAMP(6)", "timestamp without time zone"),
            ("TIMESTAMPTZ", "timestamp with time zone"),
            ("TIMESTAMP WITH TIME ZONE", "timestamp with time zone"),
            ("INTERVAL", "interval"),
            ("UUID", "uuid"),
            ("JSON", "json"),
        ] {
            assert_eq!(parse(sql).map(|t| t.name()).map_err(|e| e.to_string()), Ok(name.to_owned()), "{sql}");
        }
    }

    #[test]
    fn types_that_are_not_there_are_refused_by_name() {
        for (sql, state) in [
            ("SERIAL", "0A000"),
            ("CHAR(3)", "0A000"),
            ("JSONB", "0A000"),
            ("INT[]", "0A000"),
            ("TIMESTAMP(3)", "0A000"),
            ("TIME WITH TIME ZONE", "0A000"),
            ("NUMERIC(50,2)", "0A000"),
            ("NUMERIC(3,5)", "22023"),
            ("VARCHAR(0)", "22023"),
            ("frobnitz", "42704"),
        ] {
            assert_eq!(parse(sql).map_err(|e| e.sqlstate()), Err(state), "{sql}");
        }
    }

    #[test]
    fn a_field_remembers_its_sql_type() {
        for sql in ["UUID", "JSON", "VARCHAR(7)", "TEXT", "NUMERIC(9,3)", "TIMESTAMPTZ"] {
            let ty = parse(sql).unwrap();
            assert_eq!(SqlType::of_field(&ty.field("c", true)).unwrap(), ty, "{sql}");
        }
    }

    #[test]
    fn uuids_cross_the_border_as_text_and_back() {
        let text: ArrayRef = Arc::new(StringViewArray::from(vec![Some("A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"), None]));
        let bytes = to_engine(&text, ColumnType::Uuid).unwrap();
        let back = from_engine(&bytes, ColumnType::Uuid).unwrap();
        let expected = StringViewArray::from(vec![Some("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"), None]);
        assert_eq!(back.as_any().downcast_ref::<StringViewArray>(), Some(&expected));
        assert_eq!(parse_uuid("zz").unwrap_err().sqlstate(), "22P02");
    }
}
