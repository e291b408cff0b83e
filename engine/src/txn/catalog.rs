/*!
The catalog: which tables there are. It is kept in system tables under the same log and in the same kind of runs as any
other table, so that a table and its first rows become durable in one commit.

```text
    storage 1  tables    id* | name | storage | key (column ids, u32 each) | attributes
    storage 2  columns   table* | column* | ordinal | name | type | precision | scale | nullable | collation | attributes
    storage 3  counters  name* | next
    (* key; attributes: pairs of u32 length and bytes, key then value; all numbers in them little-endian)
```

The row of the column by which a table's rows expire is of version 2: its type is 256 higher, and its attributes begin with the time
to live in microseconds (i64). A release that knows only version 1 says that it does not know the type, and opens nothing: it would
show rows that are gone.

Where a table says how its runs are written, its attributes have more, whose keys begin with the byte 0: `filter`, `on` or `off`, and
`layout`, `row` or `column`. No layer above has such keys. A release that does not know one keeps it with the others and writes it back.

Ids below [`FIRST_USER_ID`] are the system's own. Ids of tables and storages are never reused, also after a drop: the
next one is a row of `counters`, written with every commit that takes one.

In memory it is an immutable map, replaced at commit; a snapshot keeps the one it began with.
*/

use crate::error::{Error, ErrorKind, Result};
use crate::key::KeySchema;
use crate::limits::{COLUMNS_MAX, KEY_COLUMNS_MAX};
use crate::memtable::Kind;
use crate::row::encode_row;
use crate::scan::expiry::Expiry;
use crate::types::{
    Attributes, Collation, ColumnDef, ColumnId, ColumnType, FilterChoice, LayoutChoice, NewTable, NewTtl, RunChoices,
    StorageId, TableDef, TableId, Ttl, Value,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The first id of tables and storages that are not the system's.
pub(crate) const FIRST_USER_ID: u64 = 100;

/// The names of the counters.
const COUNTER_IDS: &str = "ids";

/// What the type of a column is raised by where the table's rows expire by it.
const EXPIRES_BY: i64 = 256;

/// Among a table's attributes, whether its runs get filters, and what shape they have.
const FILTER_ATTRIBUTE: &str = "\0filter";
const FILTER_ON: &str = "on";
const FILTER_OFF: &str = "off";
const LAYOUT_ATTRIBUTE: &str = "\0layout";
const LAYOUT_ROW: &str = "row";
const LAYOUT_COLUMN: &str = "column";

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
    /// The tables whose rows expire, by storage.
    expiring: BTreeMap<StorageId, TableId>,
    /// What tables say about their runs, by storage, where they say anything.
    runs: BTreeMap<StorageId, RunChoices>,
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

    /// When the rows of a storage expire, if they do.
    pub(crate) fn ttl_of(&self, storage: StorageId) -> Option<Ttl> {
        self.expiring.get(&storage).and_then(|id| self.tables.get(id)).and_then(|table| table.ttl)
    }

    /// What has expired of a storage at `clock`; nothing where rows don't.
    pub(crate) fn expiry(&self, storage: StorageId, clock: i64) -> Option<Expiry> {
        self.expiring.get(&storage).and_then(|id| self.tables.get(id)).and_then(|table| Expiry::of(table, clock))
    }

    fn insert(&mut self, table: Arc<TableDef>) {
        if table.ttl.is_some() {
            self.expiring.insert(table.storage, table.id);
        }
        if table.runs != RunChoices::default() {
            self.runs.insert(table.storage, table.runs);
        }
        self.tables.insert(table.id, table);
    }

    /// How the runs of a storage are written, as far as its table says.
    pub(crate) fn runs_of(&self, storage: StorageId) -> RunChoices {
        self.runs.get(&storage).copied().unwrap_or_default()
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
                return Err(table_changed(name));
            }
            if let Some(before) = &change.before {
                next.tables.remove(id);
                next.names.remove(&before.name);
                next.expiring.remove(&before.storage);
                next.runs.remove(&before.storage);
            }
        }
        for after in changes.values().filter_map(|change| change.after.as_ref()) {
            if next.names.insert(after.name.clone(), after.id).is_some() {
                return Err(table_exists(&after.name));
            }
            next.insert(Arc::clone(after));
        }
        Ok(next)
    }
}

pub(crate) fn table_exists(name: &str) -> Error {
    Error::new(ErrorKind::TableExists, format!("table {name} exists already"))
}

pub(crate) fn table_changed(name: &str) -> Error {
    Error::new(ErrorKind::WriteConflict, format!("another transaction changed table {name}"))
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
    let ttl = new.ttl.map(|ttl| define_ttl(&name, &columns, &ttl)).transpose()?;
    Ok(TableDef { id, storage, name, columns, key, ttl, runs: new.runs, attributes: new.attributes })
}

/// When a table's rows expire, from what a caller says of it.
///
/// # Errors
/// `NoSuchColumn`; `InvalidArgument` for a column that is no moment, and for a time that is not positive.
pub(crate) fn define_ttl(table: &str, columns: &[ColumnDef], new: &NewTtl) -> Result<Ttl> {
    let column = columns.iter().find(|column| column.name == new.column).ok_or_else(|| {
        let message = format!("rows of table {table} are to expire by column {}, which it has not", new.column);
        Error::new(ErrorKind::NoSuchColumn, message)
    })?;
    if !column.ty.is_moment() {
        let message = format!("column {} holds no points in time, and rows cannot expire by it", new.column);
        return Err(Error::invalid(message));
    }
    if new.micros <= 0 {
        return Err(Error::invalid(format!("rows of table {table} must live for more than no time")));
    }
    Ok(Ttl { column: column.id, micros: new.micros })
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
    Arc::new(TableDef {
        id: TableId(id),
        storage: StorageId(id),
        name,
        columns,
        key,
        ttl: None,
        runs: RunChoices::default(),
        attributes: Attributes::new(),
    })
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
        let mut attributes = Vec::new();
        encode_attributes(&with_choices(table), &mut attributes);
        let values = [
            number(table.id.0)?,
            Value::Text(table.name.clone()),
            number(table.storage.0)?,
            Value::Bytes(key),
            Value::Bytes(attributes),
        ];
        rows.push(system_row(&self.tables, kind, &values)?);
        for (column, ordinal) in table.columns.iter().zip(0i64..) {
            let (mut ty, precision, scale) = type_code(column.ty);
            let mut attributes = Vec::new();
            if let Some(ttl) = table.ttl.filter(|ttl| ttl.column == column.id) {
                ty += EXPIRES_BY;
                attributes.extend_from_slice(&ttl.micros.to_le_bytes());
            }
            encode_attributes(&column.attributes, &mut attributes);
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
                Value::Bytes(attributes),
            ];
            rows.push(system_row(&self.columns, kind, &values)?);
        }
        Ok(())
    }
}

/// A table's attributes as they are stored.
fn with_choices(table: &TableDef) -> Attributes {
    let filter = match table.runs.filter {
        FilterChoice::Auto => None,
        FilterChoice::On => Some(FILTER_ON),
        FilterChoice::Off => Some(FILTER_OFF),
    };
    let layout = match table.runs.layout {
        LayoutChoice::Auto => None,
        LayoutChoice::Row => Some(LAYOUT_ROW),
        LayoutChoice::Column => Some(LAYOUT_COLUMN),
    };
    let mut attributes = table.attributes.clone();
    for (name, said) in [(FILTER_ATTRIBUTE, filter), (LAYOUT_ATTRIBUTE, layout)] {
        if let Some(said) = said {
            attributes.insert(name.to_owned(), said.to_owned());
        }
    }
    attributes
}

/// What stored attributes say about runs, taken out of them. What a later release may say more is passed over: it changes no answer.
fn take_choices(attributes: &mut Attributes) -> RunChoices {
    let filter = match attributes.remove(FILTER_ATTRIBUTE).as_deref() {
        Some(FILTER_ON) => FilterChoice::On,
        Some(FILTER_OFF) => FilterChoice::Off,
        _ => FilterChoice::Auto,
    };
    let layout = match attributes.remove(LAYOUT_ATTRIBUTE).as_deref() {
        Some(LAYOUT_ROW) => LayoutChoice::Row,
        Some(LAYOUT_COLUMN) => LayoutChoice::Column,
        _ => LayoutChoice::Auto,
    };
    RunChoices { filter, layout }
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

fn encode_attributes(attributes: &Attributes, out: &mut Vec<u8>) {
    for text in attributes.iter().flat_map(|(key, value)| [key, value]) {
        // Attributes are short texts of the layer above; VALUE_BYTES_MAX bounds the whole.
        out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(text.as_bytes());
    }
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
    /// When rows of tables expire.
    ttls: BTreeMap<u64, Vec<Ttl>>,
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
        let (mut ty, mut attributes) = (int(ty)?, bytes(attributes)?);
        let id = ColumnId(u32::try_from(int(id)?).map_err(|_| bad())?);
        if (EXPIRES_BY..2 * EXPIRES_BY).contains(&ty) {
            let (micros, rest) = attributes.split_first_chunk().ok_or_else(bad)?;
            self.ttls.entry(id_of(table)?).or_default().push(Ttl { column: id, micros: i64::from_le_bytes(*micros) });
            (ty, attributes) = (ty - EXPIRES_BY, rest);
        }
        let def = ColumnDef {
            id,
            name: text(name)?.to_owned(),
            ty: type_of(ty, int(precision)?, int(scale)?)?,
            nullable: *nullable == Value::Boolean(true),
            collation: Collation::C,
            attributes: decode_attributes(attributes)?,
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
            let by_moment = |ttl: &Ttl| columns.iter().any(|(_, c)| c.id == ttl.column && c.ty.is_moment());
            let ttls = self.ttls.get(&id).map_or(&[][..], Vec::as_slice);
            if ttls.len() > 1 || !ttls.iter().all(|ttl| ttl.micros > 0 && by_moment(ttl)) {
                found.push(format!("rows of table {name} expire by two columns, by one of no moments, or at once"));
            }
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
            let ttl = match self.ttls.remove(&id_of(id)?).unwrap_or_default().as_slice() {
                [] => None,
                [ttl] if ttl.micros > 0 => Some(*ttl),
                _ => return Err(bad()),
            };
            let mut attributes = decode_attributes(bytes(attributes)?)?;
            let def = TableDef {
                id: TableId(id_of(id)?),
                storage: StorageId(id_of(storage)?),
                name: text(name)?.to_owned(),
                columns: columns.into_iter().map(|(_, column)| column).collect(),
                key: key_ids.iter().map(|id| ColumnId(u32::from_le_bytes(*id))).collect(),
                ttl,
                runs: take_choices(&mut attributes),
                attributes,
            };
            def.key_columns()?;
            if ttl.is_some_and(|ttl| !def.column_by_id(ttl.column).is_some_and(|column| column.ty.is_moment())) {
                return Err(bad());
            }
            catalog.names.insert(def.name.clone(), def.id);
            catalog.insert(Arc::new(def));
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
                column("d", ColumnType::Date),
            ],
            key: vec!["b".to_owned(), "a".to_owned()],
            ttl: Some(NewTtl { column: "d".to_owned(), micros: 86_400_000_000 }),
            runs: RunChoices { filter: FilterChoice::On, layout: LayoutChoice::Row },
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
        assert_eq!(catalog.runs_of(StorageId(101)), new_table().runs);
        assert_eq!(catalog.runs_of(StorageId(102)), RunChoices::default());
    }

    #[test]
    fn what_is_said_about_runs_is_attributes_to_those_who_do_not_know_them() {
        let system = SystemTables::new();
        let stored = |runs| {
            let def = Arc::new(define(NewTable { runs, ..new_table() }, TableId(100), StorageId(101)).unwrap());
            let rows = system.rows(&Changes::from([(def.id, Change { before: None, after: Some(def) })]), 102).unwrap();
            let row = rows.iter().find(|row| row.storage == system.tables.storage).unwrap();
            let Value::Bytes(attributes) = values(&system.tables, &row.row)[4].clone() else { panic!("no bytes") };
            decode_attributes(&attributes).unwrap()
        };
        assert_eq!(stored(RunChoices::default()), new_table().attributes);
        let filter = |filter| RunChoices { filter, ..RunChoices::default() };
        let layout = |layout| RunChoices { layout, ..RunChoices::default() };
        for (choice, name, said) in [
            (filter(FilterChoice::On), "\0filter", "on"),
            (filter(FilterChoice::Off), "\0filter", "off"),
            (layout(LayoutChoice::Row), "\0layout", "row"),
            (layout(LayoutChoice::Column), "\0layout", "column"),
        ] {
            let mut attributes = stored(choice);
            assert_eq!(attributes.get(name).unwrap(), said);
            assert_eq!(take_choices(&mut attributes), choice);
            assert_eq!(attributes, new_table().attributes);
        }
        let said = |name: &str, said: &str| (name.to_owned(), said.to_owned());
        let mut later = Attributes::from([said("\0filter", "learned"), said("\0layout", "mixed")]);
        assert_eq!((take_choices(&mut later), later.len()), (RunChoices::default(), 0));
    }

    #[test]
    fn a_release_that_knows_no_expiry_refuses_the_table() {
        let system = SystemTables::new();
        let rows_of = |new: NewTable| {
            let def = Arc::new(define(new, TableId(100), StorageId(101)).unwrap());
            let rows = system.rows(&Changes::from([(def.id, Change { before: None, after: Some(def) })]), 102).unwrap();
            let columns = rows.into_iter().filter(|row| row.storage == system.columns.storage);
            columns.map(|row| values(&system.columns, &row.row)).collect::<Vec<_>>()
        };
        let expiring = rows_of(new_table());
        let (types, attributes): (Vec<_>, Vec<_>) = expiring.iter().map(|row| (row[4].clone(), row[9].clone())).unzip();
        // The codes that such a release knows end far below.
        assert_eq!(types, [8, 7, 16, 256 + 10].map(Value::Int));
        assert_eq!(type_of(256 + 10, 0, 0).unwrap_err().kind(), ErrorKind::NewerFormat);
        let plain = rows_of(NewTable { ttl: None, ..new_table() });
        assert_eq!(plain[3][4], Value::Int(10));
        let (Value::Bytes(with), Value::Bytes(without)) = (&attributes[3], &plain[3][9]) else { panic!("no bytes") };
        assert_eq!(*with, [&86_400_000_000_i64.to_le_bytes()[..], without].concat());
        assert_eq!(expiring[..3], plain[..3]);
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
        assert_eq!(check(|t| t.columns[3].ty = ColumnType::Int64), ErrorKind::InvalidArgument);
        assert_eq!(check(|t| t.ttl.iter_mut().for_each(|ttl| ttl.micros = 0)), ErrorKind::InvalidArgument);
        assert_eq!(check(|t| t.columns[3].name = "e".to_owned()), ErrorKind::NoSuchColumn);
        assert_eq!(check(|t| t.columns = vec![t.columns[0].clone(); 1601]), ErrorKind::LimitExceeded);
    }
}
