/*!
Tables as the engine sees them: ids, column types, definitions, single values.

The engine stores *physical* types and orders them; it knows no SQL. What the SQL layer wants to remember about a column
or a table (a DEFAULT expression, the n of VARCHAR(n)) travels in `attributes`, which the engine keeps and never reads.

Invariants:
- Ids of tables, storages, columns and runs are never reused. Files name columns by id, not by name or place.
- Ids below [`ColumnId::FIRST_USER`] belong to the engine's own columns.
- Timestamps are microseconds since 1970-01-01 00:00 UTC; times are microseconds since midnight; dates are days since
  1970-01-01. There is one collation, C (bytes of UTF-8), and it is named per column, so that others can come.
*/

use crate::error::{Error, ErrorKind, Result};
use arrow::datatypes::{DataType, Field, IntervalMonthDayNano, IntervalUnit, Schema, SchemaRef, TimeUnit};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which table: what a name means in the catalog. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u64);

/// Which tree of runs holds a table's rows. TRUNCATE gives a table a new one. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorageId(pub u64);

/// Which run: names its file, `run-<id>.omen`. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub u64);

/// Which column of a table. Never reused within the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColumnId(pub u32);

impl ColumnId {
    /// The sequence number of the commit that wrote the row (unsigned 64 bits, shown as `Int64`).
    pub const SEQ: ColumnId = ColumnId(0);
    /// Put (0) or tombstone (1).
    pub const KIND: ColumnId = ColumnId(1);
    /// The hidden row id of a table without a primary key (`Int64`, positive, never reused within a storage).
    pub const ROW_ID: ColumnId = ColumnId(2);
    /// The first id that a table's own columns may have.
    pub const FIRST_USER: ColumnId = ColumnId(16);
}

/// A commit's place in history. 0 is before all commits.
pub type Seq = u64;

/// A column's physical type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ColumnType {
    /// true or false; false sorts first.
    Boolean,
    /// 16-bit integer.
    Int16,
    /// 32-bit integer.
    Int32,
    /// 64-bit integer.
    Int64,
    /// 32-bit float. −0 = 0; one NaN, which sorts last.
    Float32,
    /// 64-bit float. −0 = 0; one NaN, which sorts last.
    Float64,
    /// Exact decimal of at most 38 digits, `scale` of them after the point.
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point, 0 to `precision`.
        scale: i8,
    },
    /// UTF-8 text.
    Text,
    /// Bytes.
    Bytes,
    /// Days since 1970-01-01.
    Date,
    /// Microseconds since midnight.
    Time,
    /// Microseconds since 1970-01-01 00:00, no zone.
    Timestamp,
    /// Microseconds since 1970-01-01 00:00 UTC.
    TimestampTz,
    /// Months, days and nanoseconds; ordered as if a month had 30 days and a day 24 hours, as PostgreSQL does.
    Interval,
    /// 16 bytes.
    Uuid,
    /// JSON text, kept as it was written. Not orderable: no key column can be JSON.
    Json,
}

impl ColumnType {
    /// The Arrow type in which columns of this type cross the engine's border.
    pub fn arrow(self) -> DataType {
        match self {
            ColumnType::Boolean => DataType::Boolean,
            ColumnType::Int16 => DataType::Int16,
            ColumnType::Int32 => DataType::Int32,
            ColumnType::Int64 => DataType::Int64,
            ColumnType::Float32 => DataType::Float32,
            ColumnType::Float64 => DataType::Float64,
            ColumnType::Decimal { precision, scale } => DataType::Decimal128(precision, scale),
            ColumnType::Text | ColumnType::Json => DataType::Utf8View,
            ColumnType::Bytes => DataType::Binary,
            ColumnType::Date => DataType::Date32,
            ColumnType::Time => DataType::Time64(TimeUnit::Microsecond),
            ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            ColumnType::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            ColumnType::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
            ColumnType::Uuid => DataType::FixedSizeBinary(16),
        }
    }

    /// Whether its values are moments, by which rows can expire.
    pub fn is_moment(self) -> bool {
        matches!(self, ColumnType::Timestamp | ColumnType::TimestampTz | ColumnType::Date)
    }

    /// Whether a key may contain a column of this type.
    pub fn is_orderable(self) -> bool {
        self != ColumnType::Json
    }

    /// Whether a key says a value of this type as it was written, not only its place in the order: 0 and −0 have one, and so
    /// have a month and thirty days.
    pub fn is_exact_in_keys(self) -> bool {
        !matches!(self, ColumnType::Float32 | ColumnType::Float64 | ColumnType::Interval | ColumnType::Json)
    }
}

/// How text compares. Named per column in every file that orders text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Collation {
    /// By the bytes of UTF-8.
    #[default]
    C,
}

/// Free text that the layer above keeps with a table or a column; the engine stores it and never reads it.
pub type Attributes = BTreeMap<String, String>;

/// A column of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnDef {
    /// Its id, which files use.
    pub id: ColumnId,
    /// Its name, as written or folded by the layer above; compared byte by byte.
    pub name: String,
    /// Its type.
    pub ty: ColumnType,
    /// Whether it takes NULL.
    pub nullable: bool,
    /// How its text compares.
    pub collation: Collation,
    /// What the layer above remembers about it.
    pub attributes: Attributes,
}

impl ColumnDef {
    /// The Arrow field: name, type, nullability; no metadata.
    pub fn arrow_field(&self) -> Field {
        Field::new(&self.name, self.ty.arrow(), self.nullable)
    }
}

/// When a table's rows expire: a row whose value of `column` lies further back than `micros` is there for nobody. One whose
/// value is NULL stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ttl {
    /// A column of type Timestamp, TimestampTz or Date, which stands for its first moment in UTC.
    pub column: ColumnId,
    /// How long a row lives, in microseconds; more than 0.
    pub micros: i64,
}

/// Whether a table's runs get filters, which say of most absent keys that they are absent without reading rows. Filters change no
/// answer; runs keep what they were written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FilterChoice {
    /// Where lookups have looked in vain.
    #[default]
    Auto,
    /// All runs.
    On,
    /// None.
    Off,
}

/// The shape of a table's runs: which columns of which rows lie together. It changes no answer; runs keep what they were written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LayoutChoice {
    /// By level: flushed memtables in row shape, all others in column shape.
    #[default]
    Auto,
    /// All columns of a few rows lie together: a row is one read of the device, and a scan reads every column.
    Row,
    /// The values of each column lie together: a scan reads only its columns, and a row is a read for each.
    Column,
}

/// How a table's runs are written, as far as it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunChoices {
    /// Whether they get filters.
    pub filter: FilterChoice,
    /// Their shape.
    pub layout: LayoutChoice,
}

/// A table, as the catalog has it.
#[derive(Debug, Clone, PartialEq)]
pub struct TableDef {
    /// Its id.
    pub id: TableId,
    /// The tree that holds its rows.
    pub storage: StorageId,
    /// Its name.
    pub name: String,
    /// Its columns, in the order they were declared.
    pub columns: Vec<ColumnDef>,
    /// The key's columns, first to last; empty where rows have a hidden row id instead.
    pub key: Vec<ColumnId>,
    /// When its rows expire, if they do.
    pub ttl: Option<Ttl>,
    /// How its runs are written.
    pub runs: RunChoices,
    /// What the layer above remembers about it.
    pub attributes: Attributes,
}

impl TableDef {
    /// The column called `name`.
    pub fn column(&self, name: &str) -> Option<&ColumnDef> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// The column with this id.
    pub fn column_by_id(&self, id: ColumnId) -> Option<&ColumnDef> {
        self.columns.iter().find(|c| c.id == id)
    }

    /// Whether rows have a hidden row id instead of a declared key.
    pub fn has_hidden_key(&self) -> bool {
        self.key.is_empty()
    }

    /// Ids and types of the key's columns as stored: the declared key, or the hidden row id.
    pub fn key_columns(&self) -> Result<Vec<(ColumnId, ColumnType)>> {
        if self.key.is_empty() {
            return Ok(vec![(ColumnId::ROW_ID, ColumnType::Int64)]);
        }
        let find = |id: &ColumnId| {
            let column = self.column_by_id(*id).ok_or_else(|| {
                Error::internal(format!("key of table {} names column id {}, which is not there", self.name, id.0))
            })?;
            Ok((column.id, column.ty))
        };
        self.key.iter().map(find).collect()
    }

    /// The Arrow schema of a projection. `ROW_ID` comes as `_rowid`, `SEQ` as `_seq`, both non-null `Int64`.
    ///
    /// # Errors
    /// `NoSuchColumn` for an id that the table does not have.
    pub fn projected_schema(&self, projection: &[ColumnId]) -> Result<SchemaRef> {
        let field = |id: &ColumnId| match *id {
            ColumnId::ROW_ID => Ok(Field::new("_rowid", DataType::Int64, false)),
            ColumnId::SEQ => Ok(Field::new("_seq", DataType::Int64, false)),
            id => self.column_by_id(id).map(ColumnDef::arrow_field).ok_or_else(|| {
                Error::new(ErrorKind::NoSuchColumn, format!("table {} has no column with id {}", self.name, id.0))
            }),
        };
        Ok(Arc::new(Schema::new(projection.iter().map(field).collect::<Result<Vec<_>>>()?)))
    }

    /// Ids of all declared columns, in declared order.
    pub fn column_ids(&self) -> Vec<ColumnId> {
        self.columns.iter().map(|c| c.id).collect()
    }
}

/// What a caller says of a column when it creates a table; the engine gives the id.
#[derive(Debug, Clone, PartialEq)]
pub struct NewColumn {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: ColumnType,
    /// Whether it takes NULL. A key column never does, whatever is said here.
    pub nullable: bool,
    /// What the layer above remembers about it.
    pub attributes: Attributes,
}

/// What a caller says of when a table's rows expire: as [`Ttl`], with the column's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTtl {
    /// The name of a column of type Timestamp, TimestampTz or Date.
    pub column: String,
    /// How long a row lives, in microseconds; more than 0.
    pub micros: i64,
}

/// What a caller says of a table when it creates it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NewTable {
    /// Its name.
    pub name: String,
    /// Its columns, in order; at least one.
    pub columns: Vec<NewColumn>,
    /// Names of the key's columns, first to last; empty for a hidden row id.
    pub key: Vec<String>,
    /// When its rows expire, if they do.
    pub ttl: Option<NewTtl>,
    /// How its runs are written.
    pub runs: RunChoices,
    /// What the layer above remembers about it.
    pub attributes: Attributes,
}

/// One value of one column. Integers, dates, times and timestamps share [`Value::Int`].
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// No value.
    #[default]
    Null,
    /// Boolean.
    Boolean(bool),
    /// Int16, Int32, Int64, Date (days), Time, Timestamp and TimestampTz (microseconds).
    Int(i64),
    /// Float32.
    Float32(f32),
    /// Float64.
    Float64(f64),
    /// Decimal, scaled by the column's scale.
    Decimal(i128),
    /// Interval.
    Interval(IntervalMonthDayNano),
    /// Text and Json.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Uuid.
    Uuid([u8; 16]),
}
