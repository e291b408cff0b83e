/*!
`information_schema`: the catalog as the SQL standard shows it, made from one snapshot when it is asked for.

There is one database, one schema (`public`), and tables in it.
*/

use crate::error::Result;
use crate::session::{CATALOG, SCHEMA};
use crate::types::{DEFAULT_ATTRIBUTE, SqlType};
use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use omendb_engine::db::Snapshot;
use omendb_engine::types::{ColumnDef, ColumnType, TableDef};
use std::sync::Arc;

/// The schema's name.
pub(crate) const INFORMATION_SCHEMA: &str = "information_schema";

/// The attribute of a table that names its key, where the user named it.
pub(crate) const KEY_NAME_ATTRIBUTE: &str = "key_name";

/// The tables in it, by name.
pub(crate) const TABLES: [&str; 5] = ["columns", "key_column_usage", "schemata", "table_constraints", "tables"];

/// One of its tables; `None` for a name that it does not have.
pub(crate) fn table(snapshot: &Snapshot, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
    let tables = snapshot.tables()?;
    let rows = match name {
        "tables" => of_tables(&tables),
        "columns" => of_columns(&tables),
        "schemata" => of_schemata(),
        "table_constraints" => of_constraints(&tables),
        "key_column_usage" => of_key_columns(&tables),
        _ => return Ok(None),
    };
    let batch = rows.batch()?;
    Ok(Some(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?)))
}

/// The name of a table's primary key.
pub(crate) fn key_name(table: &TableDef) -> String {
    table.attributes.get(KEY_NAME_ATTRIBUTE).cloned().unwrap_or_else(|| format!("{}_pkey", table.name))
}

/// A table under construction, column by column.
#[derive(Default)]
struct Columns {
    fields: Vec<Field>,
    arrays: Vec<ArrayRef>,
}

impl Columns {
    fn text(mut self, name: &str, values: impl Iterator<Item = Option<String>>) -> Self {
        self.fields.push(Field::new(name, DataType::Utf8View, true));
        self.arrays.push(Arc::new(values.collect::<StringViewArray>()));
        self
    }

    fn int(mut self, name: &str, values: impl Iterator<Item = Option<i32>>) -> Self {
        self.fields.push(Field::new(name, DataType::Int32, true));
        self.arrays.push(Arc::new(values.collect::<Int32Array>()));
        self
    }

    fn batch(self) -> Result<RecordBatch> {
        Ok(RecordBatch::try_new(Arc::new(Schema::new(self.fields)), self.arrays)?)
    }
}

fn is(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn of_tables(tables: &[Arc<TableDef>]) -> Columns {
    // What the schema itself shows is listed too, as PostgreSQL does.
    let stored = tables.iter().map(|t| (SCHEMA, t.name.as_str(), "BASE TABLE"));
    let views = TABLES.iter().map(|t| (INFORMATION_SCHEMA, *t, "VIEW"));
    let all: Vec<_> = views.chain(stored).collect();
    Columns::default()
        .text("table_catalog", all.iter().map(|_| is(CATALOG)))
        .text("table_schema", all.iter().map(|t| is(t.0)))
        .text("table_name", all.iter().map(|t| is(t.1)))
        .text("table_type", all.iter().map(|t| is(t.2)))
        .text("is_insertable_into", all.iter().map(|t| is(if t.2 == "VIEW" { "NO" } else { "YES" })))
}

fn of_schemata() -> Columns {
    let all = [INFORMATION_SCHEMA, SCHEMA];
    Columns::default()
        .text("catalog_name", all.iter().map(|_| is(CATALOG)))
        .text("schema_name", all.iter().map(|s| is(s)))
        .text("schema_owner", all.iter().map(|_| is(CATALOG)))
}

/// A column, its table, and its place in it from 0.
type Placed<'a> = (&'a TableDef, usize, &'a ColumnDef);

fn of_columns(tables: &[Arc<TableDef>]) -> Columns {
    let all: Vec<Placed<'_>> =
        tables.iter().flat_map(|t| t.columns.iter().enumerate().map(move |(i, c)| (t.as_ref(), i, c))).collect();
    let types: Vec<SqlType> = all.iter().map(|c| SqlType::of_column(c.2)).collect();
    let text = |f: &dyn Fn(&Placed<'_>) -> Option<String>| all.iter().map(f).collect::<Vec<_>>();
    let int = |f: &dyn Fn(&SqlType) -> Option<i32>| types.iter().map(f).collect::<Vec<_>>();
    Columns::default()
        .text("table_catalog", text(&|_| is(CATALOG)).into_iter())
        .text("table_schema", text(&|_| is(SCHEMA)).into_iter())
        .text("table_name", text(&|c| is(&c.0.name)).into_iter())
        .text("column_name", text(&|c| is(&c.2.name)).into_iter())
        .int("ordinal_position", all.iter().map(|c| i32::try_from(c.1 + 1).ok()))
        .text("column_default", text(&|c| c.2.attributes.get(DEFAULT_ATTRIBUTE).cloned()).into_iter())
        .text("is_nullable", text(&|c| is(if c.2.nullable { "YES" } else { "NO" })).into_iter())
        .text("data_type", types.iter().map(|t| Some(bare_name(t))))
        .int("character_maximum_length", int(&|t| t.length.and_then(|n| i32::try_from(n).ok())).into_iter())
        .int("numeric_precision", int(&precision).into_iter())
        .int("numeric_scale", int(&scale).into_iter())
        .text("udt_name", types.iter().map(|t| is(short_name(t))))
}

/// The name without its modifiers, which have columns of their own.
fn bare_name(ty: &SqlType) -> String {
    match ty.column {
        ColumnType::Decimal { .. } => "numeric".into(),
        ColumnType::Text if ty.length.is_some() => "character varying".into(),
        _ => ty.name(),
    }
}

fn short_name(ty: &SqlType) -> &'static str {
    match ty.column {
        ColumnType::Boolean => "bool",
        ColumnType::Int16 => "int2",
        ColumnType::Int32 => "int4",
        ColumnType::Int64 => "int8",
        ColumnType::Float32 => "float4",
        ColumnType::Float64 => "float8",
        ColumnType::Decimal { .. } => "numeric",
        ColumnType::Text if ty.length.is_some() => "varchar",
        ColumnType::Text => "text",
        ColumnType::Bytes => "bytea",
        ColumnType::Date => "date",
        ColumnType::Time => "time",
        ColumnType::Timestamp => "timestamp",
        ColumnType::TimestampTz => "timestamptz",
        ColumnType::Interval => "interval",
        ColumnType::Uuid => "uuid",
        ColumnType::Json => "json",
        _ => "unknown",
    }
}

/// In bits for binary numbers, in digits for decimals.
fn precision(ty: &SqlType) -> Option<i32> {
    match ty.column {
        ColumnType::Int16 => Some(16),
        ColumnType::Int32 => Some(32),
        ColumnType::Int64 => Some(64),
        ColumnType::Float32 => Some(24),
        ColumnType::Float64 => Some(53),
        ColumnType::Decimal { precision, .. } => Some(precision.into()),
        _ => None,
    }
}

fn scale(ty: &SqlType) -> Option<i32> {
    match ty.column {
        ColumnType::Int16 | ColumnType::Int32 | ColumnType::Int64 => Some(0),
        ColumnType::Decimal { scale, .. } => Some(scale.into()),
        _ => None,
    }
}

fn of_constraints(tables: &[Arc<TableDef>]) -> Columns {
    let keyed: Vec<_> = tables.iter().filter(|t| !t.has_hidden_key()).collect();
    Columns::default()
        .text("constraint_catalog", keyed.iter().map(|_| is(CATALOG)))
        .text("constraint_schema", keyed.iter().map(|_| is(SCHEMA)))
        .text("constraint_name", keyed.iter().map(|t| Some(key_name(t))))
        .text("table_catalog", keyed.iter().map(|_| is(CATALOG)))
        .text("table_schema", keyed.iter().map(|_| is(SCHEMA)))
        .text("table_name", keyed.iter().map(|t| is(&t.name)))
        .text("constraint_type", keyed.iter().map(|_| is("PRIMARY KEY")))
}

fn of_key_columns(tables: &[Arc<TableDef>]) -> Columns {
    let key = |t: &Arc<TableDef>| -> Vec<(Arc<TableDef>, String, usize)> {
        let names = t.key.iter().filter_map(|id| t.column_by_id(*id)).map(|c| c.name.clone());
        names.enumerate().map(|(i, name)| (t.clone(), name, i + 1)).collect()
    };
    let all: Vec<_> = tables.iter().flat_map(key).collect();
    Columns::default()
        .text("constraint_catalog", all.iter().map(|_| is(CATALOG)))
        .text("constraint_schema", all.iter().map(|_| is(SCHEMA)))
        .text("constraint_name", all.iter().map(|k| Some(key_name(&k.0))))
        .text("table_catalog", all.iter().map(|_| is(CATALOG)))
        .text("table_schema", all.iter().map(|_| is(SCHEMA)))
        .text("table_name", all.iter().map(|k| is(&k.0.name)))
        .text("column_name", all.iter().map(|k| is(&k.1)))
        .int("ordinal_position", all.iter().map(|k| i32::try_from(k.2).ok()))
}
