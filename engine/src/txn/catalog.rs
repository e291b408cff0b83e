/*!
The catalog: which tables there are. It is kept in system tables under the same log and in the same kind of runs as any
other table, so that a table and its first rows become durable in one commit.

```text
    storage 1  tables    id* | name | storage | key (column ids, u32 each) | attributes
    storage 2  columns   table* | column* | ordinal | name | type | precision | scale | nullable | collation | attributes
    storage 3  counters  name* | next
    (* key; attributes: pairs of u32 length and bytes, key then value; all numbers in them little-endian)
```

Ids below [`FIRST_USER_ID`] are the system's own. Ids of tables and storages are never reused, also after a drop: the
next one is a row of `counters`, written with every commit that takes one.

In memory it is an immutable map, replaced at commit; a snapshot keeps the one it began with.
*/

use crate::error::{Error, ErrorKind, Result};
use crate::key::KeySchema;
use crate::limits::{COLUMNS_MAX, KEY_COLUMNS_MAX};
use crate::memtable::Kind;
use crate::row::encode_row;
use crate::types::{
    Attributes, Collation, ColumnDef, ColumnId, ColumnType, NewTable, StorageId, TableDef, TableId, Value,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The first id of tables and storages that are not the system's.
pub(crate) const FIRST_USER_ID: u64 = 100;

/// The names of the counters.
const COUNTER_IDS: &str = "ids";

/// One row of a system table on its way into the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SystemRow {
    pub(crate) storage: StorageId,
    pub(crate) kind: Kind,
    pub(crate) key: Vec<u8>,
    pub(crate) row: Vec<u8>,
}

/// All tables at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalog {
    tables: BTreeMap<TableId, Arc<TableDef>>,
    names: BTreeMap<String, TableId>,
}

/// What a transaction does to one table.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) before: Option<Arc<TableDef>>,
    pub(crate) after: Option<Arc<TableDef>>,
}

/// What a transaction does to the catalog.
pub(crate) type Changes = BTreeMap<TableId, Change>;

impl Catalog {
    pub(crate) fn by_name(&self, name: &str) -> Option<&Arc<TableDef>> {
        self.names.get(name).and_then(|id| self.tables.get(id))
    }

    pub(crate) fn by_id(&self, id: TableId) -> Option<&Arc<TableDef>> {
        self.tables.get(&id)
    }

    /// By name.
    pub(crate) fn by_names(&self) -> Vec<Arc<TableDef>> {
        self.names.values().filter_map(|id| self.tables.get(id)).cloned().collect()
    }

    pub(crate) fn tables(&self) -> impl Iterator<Item = &Arc<TableDef>> {
        self.tables.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.tables.len()
    }

    /// Whether `storage` holds the rows of `table`.
    pub(crate) fn is_live(&self, table: TableId, storage: StorageId) -> bool {
        self.tables.get(&table).is_some_and(|def| def.storage == storage)
    }

    pub(crate) fn storages(&self) -> BTreeSet<StorageId> {
        self.tables.values().map(|table| table.storage).collect()
    }

    /// This catalog with `changes` made.
    ///
    /// # Errors
    /// `WriteConflict` where a table is no longer what the changes began from; `TableExists` where a name is taken.
    pub(crate) fn with(&self, changes: &Changes) -> Result<Catalog> {
        let mut next = self.clone();
        for (id, change) in changes {
            if next.tables.get(id) != change.before.as_ref() {
                let name = change.before.as_ref().or(change.after.as_ref()).map_or("", |table| &table.name);
                let message = format!("another transaction changed table {name}");
                return Err(Error::new(ErrorKind::WriteConflict, message));
            }
            if let Some(before) = &change.before {
                next.tables.remove(id);
                next.names.remove(&before.name);
            }
        }
        for after in changes.values().filter_map(|change| change.after.as_ref()) {
            if next.names.insert(after.name.clone(), after.id).is_some() {
                return Err(table_exists(&after.name));
            }
            next.tables.insert(after.id, Arc::clone(after));
        }
        Ok(next)
    }
}

pub(crate) fn table_exists(name: &str) -> Error {
    Error::new(ErrorKind::TableExists, format!("table {name} exists already"))
}

pub(crate) fn no_such_table(id: TableId) -> Error {
    Error::new(ErrorKind::NoSuchTable, format!("there is no table with id {}", id.0))
}

/// A table from what a caller says of it.
///
/// # Errors
/// `InvalidArgument` for column names that are empty, doubled or unknown and key columns without order;
/// `LimitExceeded` for too many columns.
pub(crate) fn define(new: NewTable, id: TableId, storage: StorageId) -> Result<TableDef> {
    let name = new.name;
    if name.is_empty() {
        return Err(Error::invalid("a table needs a name"));
    }
    if new.columns.is_empty() {
        return Err(Error::invalid(format!("table {name} has no columns")));
    }
    if new.columns.len() > COLUMNS_MAX || new.key.len() > KEY_COLUMNS_MAX {
        let message = format!("table {name}: at most {COLUMNS_MAX} columns and {KEY_COLUMNS_MAX} key columns");
        return Err(Error::new(ErrorKind::LimitExceeded, message));
    }
    let mut names = BTreeSet::new();
    let mut columns = Vec::with_capacity(new.columns.len());
    for (column, id) in new.columns.into_iter().zip(ColumnId::FIRST_USER.0..) {
        if column.name.is_empty() || !names.insert(column.name.clone()) {
            return Err(Error::invalid(format!("table {name} has two columns named \"{}\"", column.name)));
        }
        columns.push(ColumnDef {
            id: ColumnId(id),
            nullable: column.nullable && !new.key.contains(&column.name),
            name: column.name,
            ty: column.ty,
            collation: Collation::C,
            attributes: column.attributes,
        });
    }
    let mut key = Vec::with_capacity(new.key.len());
    for wanted in &new.key {
        let column = columns.iter().find(|column| column.name == *wanted).ok_or_else(|| {
            Error::invalid(format!("the key of table {name} names column {wanted}, which it has not"))
        })?;
        if !column.ty.is_orderable() {
            return Err(Error::invalid(format!("column {wanted} has no order and cannot be in a key")));
        }
        if key.contains(&column.id) {
            return Err(Error::invalid(format!("the key of table {name} names column {wanted} twice")));
        }
        key.push(column.id);
    }
    Ok(TableDef { id, storage, name, columns, key, attributes: new.attributes })
}

fn column(id: u32, name: &str, ty: ColumnType) -> ColumnDef {
    ColumnDef {
        id: ColumnId(ColumnId::FIRST_USER.0 + id),
        name: name.to_owned(),
        ty,
        nullable: true,
        collation: Collation::C,
        attributes: Attributes::new(),
    }
}

fn system_table(id: u64, name: &str, columns: &[(&str, ColumnType)], key_columns: usize) -> Arc<TableDef> {
    let mut columns: Vec<_> = columns.iter().zip(0..).map(|((name, ty), id)| column(id, name, *ty)).collect();
    columns.iter_mut().take(key_columns).for_each(|column| column.nullable = false);
    let key = columns.iter().take(key_columns).map(|column| column.id).collect();
    let name = format!("omendb.{name}");
    Arc::new(TableDef { id: TableId(id), storage: StorageId(id), name, columns, key, attributes: Attributes::new() })
}

/// The system tables, in the order of their storages.
#[derive(Debug, Clone)]
pub(crate) struct SystemTables {
    pub(crate) tables: Arc<TableDef>,
    pub(crate) columns: Arc<TableDef>,
    pub(crate) counters: Arc<TableDef>,
}

impl SystemTables {
    pub(crate) fn new() -> Self {
        use ColumnType::{Boolean, Bytes, Int16, Int32, Int64, Text};
        let tables =
            [("id", Int64), ("name", Text), ("storage", Int64), ("key", Bytes), ("attributes", Bytes)].as_slice();
        let columns = [
            ("table", Int64),
            ("column", Int64),
            ("ordinal", Int32),
            ("name", Text),
            ("type", Int16),
            ("precision", Int16),
            ("scale", Int16),
            ("nullable", Boolean),
            ("collation", Text),
            ("attributes", Bytes),
        ];
        SystemTables {
            tables: system_table(1, "tables", tables, 1),
            columns: system_table(2, "columns", &columns, 2),
            counters: system_table(3, "counters", &[("name", Text), ("next", Int64)], 1),
        }
    }

    pub(crate) fn all(&self) -> [&Arc<TableDef>; 3] {
        [&self.tables, &self.columns, &self.counters]
    }

    /// The rows that carry out `changes`, and with them the ids given out so far.
    pub(crate) fn rows(&self, changes: &Changes, next_id: u64) -> Result<Vec<SystemRow>> {
        let mut rows = Vec::new();
        for change in changes.values() {
            if let Some(before) = &change.before {
                self.table_rows(before, Kind::Tombstone, &mut rows)?;
            }
            if let Some(after) = &change.after {
                // A row that is put after its tombstone wins: the last one of a key counts.
                self.table_rows(after, Kind::Put, &mut rows)?;
            }
        }
        let values = [Value::Text(COUNTER_IDS.to_owned()), number(next_id)?];
        rows.push(system_row(&self.counters, Kind::Put, &values)?);
        let mut last: BTreeMap<(StorageId, Vec<u8>), SystemRow> = BTreeMap::new();
        for row in rows {
            last.insert((row.storage, row.key.clone()), row);
        }
        Ok(last.into_values().collect())
    }

    fn table_rows(&self, table: &TableDef, kind: Kind, rows: &mut Vec<SystemRow>) -> Result<()> {
        let key: Vec<u8> = table.key.iter().flat_map(|id| id.0.to_le_bytes()).collect();
        let values = [
            number(table.id.0)?,
            Value::Text(table.name.clone()),
            number(table.storage.0)?,
            Value::Bytes(key),
            Value::Bytes(encode_attributes(&table.attributes)),
        ];
        rows.push(system_row(&self.tables, kind, &values)?);
        for (column, ordinal) in table.columns.iter().zip(0i64..) {
            let (ty, precision, scale) = type_code(column.ty);
            let values = [
                number(table.id.0)?,
                Value::Int(column.id.0.into()),
                Value::Int(ordinal),
                Value::Text(column.name.clone()),
                Value::Int(ty),
                Value::Int(precision),
                Value::Int(scale),
                Value::Boolean(column.nullable),
                Value::Text("C".to_owned()),
                Value::Bytes(encode_attributes(&column.attributes)),
            ];
            rows.push(system_row(&self.columns, kind, &values)?);
        }
        Ok(())
    }
}

fn number(id: u64) -> Result<Value> {
    i64::try_from(id).map(Value::Int).map_err(|_| Error::internal("an id passes 2^63"))
}

fn system_row(table: &TableDef, kind: Kind, values: &[Value]) -> Result<SystemRow> {
    let key_values = values.get(..table.key.len()).unwrap_or_default();
    let key = KeySchema::of(table)?.encode(key_values)?.into_bytes();
    let mut row = Vec::new();
    let stored = match kind {
        Kind::Put => values,
        Kind::Tombstone => key_values,
    };
    encode_row(&mut row, table.columns.iter().zip(stored).map(|(column, value)| (column.id, column.ty, value)))?;
    Ok(SystemRow { storage: table.storage, kind, key, row })
}

/// A column type as (code, precision, scale). Codes are for ever.
fn type_code(ty: ColumnType) -> (i64, i64, i64) {
    let code = match ty {
        ColumnType::Boolean => 1,
        ColumnType::Int16 => 2,
        ColumnType::Int32 => 3,
        ColumnType::Int64 => 4,
        ColumnType::Float32 => 5,
        ColumnType::Float64 => 6,
        ColumnType::Decimal { precision, scale } => return (7, precision.into(), scale.into()),
        ColumnType::Text => 8,
        ColumnType::Bytes => 9,
        ColumnType::Date => 10,
        ColumnType::Time => 11,
        ColumnType::Timestamp => 12,
        ColumnType::TimestampTz => 13,
        ColumnType::Interval => 14,
        ColumnType::Uuid => 15,
        ColumnType::Json => 16,
    };
    (code, 0, 0)
}

fn type_of(code: i64, precision: i64, scale: i64) -> Result<ColumnType> {
    Ok(match code {
        1 => ColumnType::Boolean,
        2 => ColumnType::Int16,
        3 => ColumnType::Int32,
        4 => ColumnType::Int64,
        5 => ColumnType::Float32,
        6 => ColumnType::Float64,
        7 => match (u8::try_from(precision), i8::try_from(scale)) {
            (Ok(precision @ 1..=38), Ok(scale)) => ColumnType::Decimal { precision, scale },
            _ => return Err(Error::corruption(format!("the catalog has a decimal({precision},{scale})"))),
        },
        8 => ColumnType::Text,
        9 => ColumnType::Bytes,
        10 => ColumnType::Date,
        11 => ColumnType::Time,
        12 => ColumnType::Timestamp,
        13 => ColumnType::TimestampTz,
        14 => ColumnType::Interval,
        15 => ColumnType::Uuid,
        16 => ColumnType::Json,
        other => {
            let message = format!("the catalog has a column of type {other}, which this release does not know");
            return Err(Error::new(ErrorKind::NewerFormat, message));
        }
    })
}

fn encode_attributes(attributes: &Attributes) -> Vec<u8> {
    let mut out = Vec::new();
    for text in attributes.iter().flat_map(|(key, value)| [key, value]) {
        // Attributes are short texts of the layer above; VALUE_BYTES_MAX bounds the whole.
        out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(text.as_bytes());
    }
    out
}

fn decode_attributes(mut bytes: &[u8]) -> Result<Attributes> {
    let mut texts = Vec::new();
    while !bytes.is_empty() {
        let cut = || Error::corruption("attributes in the catalog are cut short");
        let (len, rest) = bytes.split_first_chunk::<4>().ok_or_else(cut)?;
        let len = usize::try_from(u32::from_le_bytes(*len)).unwrap_or(usize::MAX);
        let (text, rest) = rest.split_at_checked(len).ok_or_else(cut)?;
        let text =
            std::str::from_utf8(text).map_err(|_| Error::corruption("attributes in the catalog are not UTF-8"))?;
        texts.push(text.to_owned());
        bytes = rest;
    }
    let mut attributes = Attributes::new();
    let mut texts = texts.into_iter();
    while let Some(key) = texts.next() {
        let value = texts.next().ok_or_else(|| Error::corruption("an attribute in the catalog has no value"))?;
        attributes.insert(key, value);
    }
    Ok(attributes)
}

/// Builds the catalog from the rows of the system tables, given as their encoded form or as values.
#[derive(Debug, Default)]
pub(crate) struct CatalogLoader {
    tables: Vec<Vec<Value>>,
    columns: BTreeMap<u64, Vec<(i64, ColumnDef)>>,
    next_id: u64,
}

impl CatalogLoader {
    pub(crate) fn table(&mut self, values: Vec<Value>) {
        self.tables.push(values);
    }

    pub(crate) fn column(&mut self, values: &[Value]) -> Result<()> {
        let [table, id, ordinal, name, ty, precision, scale, nullable, collation, attributes] = values else {
            return Err(bad());
        };
        if text(collation)? != "C" {
            return Err(Error::new(ErrorKind::NewerFormat, "the catalog has a collation this release does not know"));
        }
        let def = ColumnDef {
            id: ColumnId(u32::try_from(int(id)?).map_err(|_| bad())?),
            name: text(name)?.to_owned(),
            ty: type_of(int(ty)?, int(precision)?, int(scale)?)?,
            nullable: *nullable == Value::Boolean(true),
            collation: Collation::C,
            attributes: decode_attributes(bytes(attributes)?)?,
        };
        self.columns.entry(id_of(table)?).or_default().push((int(ordinal)?, def));
        Ok(())
    }

    pub(crate) fn counter(&mut self, values: &[Value]) -> Result<()> {
        let [name, next] = values else { return Err(bad()) };
        if text(name)? == COUNTER_IDS {
            self.next_id = id_of(next)?;
        }
        Ok(())
    }

    /// What the rows say that can't be true together: a sentence each. `next_id` is what [`CatalogLoader::finish`] gave.
    pub(crate) fn contradictions(&self, next_id: u64) -> Vec<String> {
        let mut found = Vec::new();
        let (mut ids, mut names, mut storages) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for values in &self.tables {
            let [Value::Int(id), Value::Text(name), Value::Int(storage), Value::Bytes(key), _] = values.as_slice()
            else {
                found.push("a table of the catalog lacks a value".to_owned());
                continue;
            };
            let (id, storage) = (id.cast_unsigned(), storage.cast_unsigned());
            ids.insert(id);
            if !names.insert(name) || !storages.insert(storage) {
                found.push(format!("the catalog has two tables with the name {name} or the storage {storage}"));
            }
            if id.max(storage) >= next_id || id.min(storage) < FIRST_USER_ID {
                found.push(format!("table {name} has id {id} and storage {storage}, of {FIRST_USER_ID} to {next_id}"));
            }
            let columns = self.columns.get(&id).map_or(&[][..], Vec::as_slice);
            let named: BTreeSet<_> = columns.iter().map(|(_, column)| &column.name).collect();
            if columns.is_empty() || named.len() != columns.len() {
                found.push(format!("table {name} has no columns, or two of one name"));
            }
            let in_key = |id: &[u8; 4]| columns.iter().find(|(_, column)| column.id.0 == u32::from_le_bytes(*id));
            let sound =
                key.as_chunks().0.iter().all(|id| in_key(id).is_some_and(|(_, c)| c.ty.is_orderable() && !c.nullable));
            if !sound {
                found.push(format!("the key of table {name} has a column without order, or none"));
            }
        }
        let lost = self.columns.keys().filter(|id| !ids.contains(id));
        found.extend(lost.map(|id| format!("the catalog has columns of table {id}, and no such table")));
        found
    }

    /// The catalog, and the next id of tables and storages.
    pub(crate) fn finish(mut self) -> Result<(Catalog, u64)> {
        let mut catalog = Catalog::default();
        for values in &self.tables {
            let [id, name, storage, key, attributes] = values.as_slice() else { return Err(bad()) };
            let mut columns = self.columns.remove(&id_of(id)?).unwrap_or_default();
            columns.sort_by_key(|(ordinal, _)| *ordinal);
            let (key_ids, rest) = bytes(key)?.as_chunks::<4>();
            if !rest.is_empty() {
                return Err(bad());
            }
            let def = TableDef {
                id: TableId(id_of(id)?),
                storage: StorageId(id_of(storage)?),
                name: text(name)?.to_owned(),
                columns: columns.into_iter().map(|(_, column)| column).collect(),
                key: key_ids.iter().map(|id| ColumnId(u32::from_le_bytes(*id))).collect(),
                attributes: decode_attributes(bytes(attributes)?)?,
            };
            def.key_columns()?;
            catalog.names.insert(def.name.clone(), def.id);
            catalog.tables.insert(def.id, Arc::new(def));
        }
        Ok((catalog, self.next_id.max(FIRST_USER_ID)))
    }
}

fn bad() -> Error {
    Error::corruption("a row of the catalog is not what it should be")
}

fn int(value: &Value) -> Result<i64> {
    match value {
        Value::Int(value) => Ok(*value),
        _ => Err(bad()),
    }
}

fn id_of(value: &Value) -> Result<u64> {
    u64::try_from(int(value)?).map_err(|_| bad())
}

fn text(value: &Value) -> Result<&str> {
    match value {
        Value::Text(value) => Ok(value),
        _ => Err(bad()),
    }
}

fn bytes(value: &Value) -> Result<&[u8]> {
    match value {
        Value::Bytes(value) => Ok(value),
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::RowReader;
    use crate::types::NewColumn;

    fn new_table() -> NewTable {
        let column = |name: &str, ty| NewColumn {
            name: name.to_owned(),
            ty,
            nullable: true,
            attributes: Attributes::from([("default".to_owned(), "1".to_owned())]),
        };
        NewTable {
            name: "t".to_owned(),
            columns: vec![
                column("a", ColumnType::Text),
                column("b", ColumnType::Decimal { precision: 10, scale: 2 }),
                column("j", ColumnType::Json),
            ],
            key: vec!["b".to_owned(), "a".to_owned()],
            attributes: Attributes::from([("x".to_owned(), String::new())]),
        }
    }

    fn values(table: &TableDef, row: &[u8]) -> Vec<Value> {
        let reader = RowReader::open(row).unwrap();
        table.columns.iter().map(|column| reader.value(column.id, column.ty).unwrap()).collect()
    }

    #[test]
    fn a_table_comes_back_from_its_rows() {
        let system = SystemTables::new();
        let def = Arc::new(define(new_table(), TableId(100), StorageId(101)).unwrap());
        let changes = Changes::from([(def.id, Change { before: None, after: Some(def.clone()) })]);
        let mut loader = CatalogLoader::default();
        for row in system.rows(&changes, 102).unwrap() {
            assert_eq!(row.kind, Kind::Put);
            match row.storage.0 {
                1 => loader.table(values(&system.tables, &row.row)),
                2 => loader.column(&values(&system.columns, &row.row)).unwrap(),
                _ => loader.counter(&values(&system.counters, &row.row)).unwrap(),
            }
        }
        let (catalog, next) = loader.finish().unwrap();
        assert_eq!(next, 102);
        assert_eq!(catalog.by_name("t"), Some(&def));
    }

    #[test]
    fn bad_definitions_are_refused() {
        let check = |change: fn(&mut NewTable)| {
            let mut new = new_table();
            change(&mut new);
            define(new, TableId(1), StorageId(1)).unwrap_err().kind()
        };
        assert_eq!(check(|t| t.key = vec!["j".to_owned()]), ErrorKind::InvalidArgument);
        assert_eq!(check(|t| t.key = vec!["nope".to_owned()]), ErrorKind::InvalidArgument);
        assert_eq!(check(|t| t.columns[1].name = "a".to_owned()), ErrorKind::InvalidArgument);
        assert_eq!(check(|t| t.columns.clear()), ErrorKind::InvalidArgument);
        assert_eq!(check(|t| t.columns = vec![t.columns[0].clone(); 1601]), ErrorKind::LimitExceeded);
    }
}
