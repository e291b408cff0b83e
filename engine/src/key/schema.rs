/*!
The columns of a key, and keys made from values and read back.

A [`KeySchema`] is all that the engine knows of a key: types in order, and whether each takes NULL. It knows no names and
no table; it is cheap to clone.
*/

use super::batch::EncodedKeys;
use super::component::{self, NULL, PRESENT};
use super::{Key, KeyRange, KeyShape, successor};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{KEY_BYTES_MAX, KEY_COLUMNS_MAX};
use crate::types::{ColumnType, TableDef, Value};
use arrow::array::ArrayRef;
use std::ops::Bound;
use std::sync::Arc;

/// One column of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyColumn {
    /// Its type.
    pub ty: ColumnType,
    /// Whether it takes NULL, which sorts last.
    pub nullable: bool,
}

impl KeyColumn {
    /// The bytes of its component, where all keys agree on them.
    pub(super) fn fixed_width(self) -> Option<usize> {
        component::fixed_width(self.ty).filter(|_| !self.nullable)
    }

    fn push(self, value: &Value, number: usize, out: &mut Vec<u8>) -> Result<()> {
        match (value, self.nullable) {
            (Value::Null, true) => out.push(NULL),
            (Value::Null, false) => return Err(null_violation(number)),
            (_, nullable) => {
                if nullable {
                    out.push(PRESENT);
                }
                component::push(value, self.ty, out)?;
            }
        }
        Ok(())
    }

    fn take(self, bytes: &mut &[u8]) -> Result<Value> {
        if self.nullable {
            match component::take_array::<1>(bytes)? {
                [NULL] => return Ok(Value::Null),
                [PRESENT] => {}
                [other] => return Err(Error::corruption(format!("key has the null marker {other}"))),
            }
        }
        component::take(bytes, self.ty)
    }
}

/// NULL in key column `number`, counted from 1.
pub(super) fn null_violation(number: usize) -> Error {
    Error::new(ErrorKind::NullViolation, format!("NULL in column {number} of the key"))
}

/// Checks one key's length.
pub(super) fn check_len(len: usize) -> Result<()> {
    match len <= KEY_BYTES_MAX {
        true => Ok(()),
        false => {
            let message = format!("a key of {len} bytes when encoded; the limit is {KEY_BYTES_MAX} (KEY_BYTES_MAX)");
            Err(Error::new(ErrorKind::LimitExceeded, message))
        }
    }
}

/// The columns of a key, first to last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySchema {
    columns: Arc<[KeyColumn]>,
    fixed_width: Option<usize>,
}

impl KeySchema {
    /// The key of a table: its declared key, or the hidden row id.
    ///
    /// # Errors
    /// As [`KeySchema::new`].
    pub fn of(table: &TableDef) -> Result<KeySchema> {
        let columns = table.key_columns()?;
        let nullable = |id| table.column_by_id(id).is_some_and(|column| column.nullable);
        KeySchema::new(columns.into_iter().map(|(id, ty)| (ty, nullable(id))).collect())
    }

    /// A key of these columns: type, and whether it takes NULL.
    ///
    /// # Errors
    /// `InvalidArgument` for no columns or one that has no order, `LimitExceeded` for more than `KEY_COLUMNS_MAX`.
    pub fn new(columns: Vec<(ColumnType, bool)>) -> Result<KeySchema> {
        if columns.is_empty() {
            return Err(Error::invalid("a key without columns"));
        }
        if columns.len() > KEY_COLUMNS_MAX {
            let message = format!("a key of {} columns; the limit is {KEY_COLUMNS_MAX}", columns.len());
            return Err(Error::new(ErrorKind::LimitExceeded, message));
        }
        if let Some((ty, _)) = columns.iter().find(|(ty, _)| !ty.is_orderable()) {
            return Err(Error::invalid(format!("a key column of type {ty:?}, which has no order")));
        }
        let columns: Arc<[KeyColumn]> = columns.into_iter().map(|(ty, nullable)| KeyColumn { ty, nullable }).collect();
        let fixed_width = columns.iter().map(|column| column.fixed_width()).sum();
        Ok(KeySchema { columns, fixed_width })
    }

    /// The columns.
    pub fn columns(&self) -> &[KeyColumn] {
        &self.columns
    }

    /// The bytes of every key, where all agree on them.
    pub fn fixed_width(&self) -> Option<usize> {
        self.fixed_width
    }

    /// What an index may assume of the keys.
    pub fn shape(&self) -> KeyShape {
        let eight = |column: &KeyColumn| column.fixed_width() == Some(8);
        match self.columns.split_last() {
            Some((last, [])) if eight(last) => KeyShape::Int,
            Some((last, prefix)) if !prefix.is_empty() && eight(last) => {
                KeyShape::Series { prefix_fixed_width: prefix.iter().map(|column| column.fixed_width()).sum() }
            }
            _ => KeyShape::Bytes,
        }
    }

    /// The key of one row: a value for each key column.
    ///
    /// # Errors
    /// `NullViolation`; `InvalidArgument` for another number of values or one that its column cannot hold;
    /// `LimitExceeded` for more than `KEY_BYTES_MAX` bytes.
    pub fn encode(&self, values: &[Value]) -> Result<Key> {
        let mut key = Vec::with_capacity(self.fixed_width.unwrap_or(values.len() * 24));
        self.encode_to(&mut key, values.iter())?;
        Ok(key.into())
    }

    /// As [`KeySchema::encode`], of values that lie wherever they do, into memory that is there: what `out` held goes.
    ///
    /// # Errors
    /// As [`KeySchema::encode`].
    pub fn encode_to<'v>(&self, out: &mut Vec<u8>, values: impl ExactSizeIterator<Item = &'v Value>) -> Result<()> {
        if values.len() != self.columns.len() {
            let message = format!("{} values for a key of {} columns", values.len(), self.columns.len());
            return Err(Error::invalid(message));
        }
        out.clear();
        for (number, (value, column)) in (1..).zip(values.zip(&*self.columns)) {
            if !component::fits(value, column.ty) {
                return Err(Error::invalid(format!("value {value:?} in a key column of type {:?}", column.ty)));
            }
            column.push(value, number, out)?;
        }
        check_len(out.len())
    }

    /// The bytes with which all keys start whose first columns have these values. Numbers may be out of their columns'
    /// range: no key has them then.
    ///
    /// # Errors
    /// As [`KeySchema::encode`], except that fewer values are welcome.
    pub fn encode_prefix(&self, values: &[Value]) -> Result<Vec<u8>> {
        if values.len() > self.columns.len() {
            let message = format!("{} values for a key of {} columns", values.len(), self.columns.len());
            return Err(Error::invalid(message));
        }
        let mut out = Vec::with_capacity(self.fixed_width.unwrap_or(values.len() * 16));
        for (number, (value, column)) in (1..).zip(values.iter().zip(&*self.columns)) {
            column.push(value, number, &mut out)?;
        }
        check_len(out.len())?;
        Ok(out)
    }

    /// The keys of a whole batch: an array for each key column, of its column's Arrow type, all of one length.
    ///
    /// # Errors
    /// As [`KeySchema::encode`]; `InvalidArgument` for arrays of other types or lengths.
    pub fn encode_arrays(&self, columns: &[ArrayRef]) -> Result<EncodedKeys> {
        super::batch::encode(self, columns)
    }

    /// The values of a key, canonical for its place in the order (see the module's words).
    ///
    /// # Errors
    /// `Corruption` when the bytes are no key of these columns.
    pub fn decode(&self, key: &[u8]) -> Result<Vec<Value>> {
        let mut values = Vec::with_capacity(self.columns.len());
        self.decode_to(key, &mut values)?;
        Ok(values)
    }

    /// As [`KeySchema::decode`], into memory that is there: what `out` held goes.
    ///
    /// # Errors
    /// As [`KeySchema::decode`].
    pub fn decode_to(&self, key: &[u8], out: &mut Vec<Value>) -> Result<()> {
        out.clear();
        let mut rest = key;
        for column in &*self.columns {
            out.push(column.take(&mut rest)?);
        }
        match rest.is_empty() {
            true => Ok(()),
            false => Err(Error::corruption(format!("key has {} bytes too many", rest.len()))),
        }
    }

    /// All keys whose first columns have these values and whose next column lies between the bounds.
    ///
    /// NULL sorts last: with no upper bound, a nullable column's NULLs are in the range; `Excluded(&Value::Null)` keeps
    /// them out. With values for all columns, both bounds must be `Unbounded`.
    ///
    /// # Errors
    /// As [`KeySchema::encode_prefix`]; `InvalidArgument` for a bound on a column that is not there.
    pub fn prefix_range(&self, equal: &[Value], lower: Bound<&Value>, upper: Bound<&Value>) -> Result<KeyRange> {
        let prefix = self.encode_prefix(equal)?;
        let bounded = |value: &Value| {
            let column = self.columns.get(equal.len());
            let column = column.ok_or_else(|| Error::invalid("a bound after the last column of the key"))?;
            let mut key = prefix.clone();
            column.push(value, equal.len() + 1, &mut key)?;
            check_len(key.len())?;
            Ok::<_, Error>(key)
        };
        let start = match lower {
            Bound::Unbounded if prefix.is_empty() => Bound::Unbounded,
            Bound::Unbounded => Bound::Included(prefix.as_slice().into()),
            Bound::Included(value) => Bound::Included(bounded(value)?.into()),
            Bound::Excluded(value) => match successor(&bounded(value)?) {
                Some(key) => Bound::Included(key.into()),
                None => return Ok(KeyRange::empty()),
            },
        };
        let before_successor = |key: &[u8]| successor(key).map_or(Bound::Unbounded, |key| Bound::Excluded(key.into()));
        let end = match upper {
            Bound::Unbounded => before_successor(&prefix),
            Bound::Included(value) => before_successor(&bounded(value)?),
            Bound::Excluded(value) => Bound::Excluded(bounded(value)?.into()),
        };
        Ok(KeyRange { start, end })
    }
}
