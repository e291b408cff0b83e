#![allow(missing_docs, clippy::all, clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]
//! Stub of the key room (throwaway).
use crate::error::{Error, ErrorKind, Result};
use crate::types::*;
use std::ops::Bound;
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Box<[u8]>);
impl AsRef<[u8]> for Key { fn as_ref(&self) -> &[u8] { &self.0 } }
impl From<Vec<u8>> for Key { fn from(v: Vec<u8>) -> Self { Key(v.into()) } }
#[derive(Debug, Clone)]
pub struct KeySchema { columns: Vec<(ColumnType, bool)> }
impl KeySchema {
    pub fn new(columns: Vec<(ColumnType, bool)>) -> Result<Self> { Ok(Self { columns }) }
    pub fn of(t: &TableDef) -> Result<Self> { Self::new(t.key_columns()?.into_iter().map(|c| (c.1, false)).collect()) }
    pub fn columns(&self) -> &[(ColumnType, bool)] { &self.columns }
    pub fn encode(&self, values: &[Value]) -> Result<Key> { Ok(self.encode_prefix(values)?.into()) }
    pub fn encode_prefix(&self, values: &[Value]) -> Result<Vec<u8>> {
        let mut out = vec![];
        for ((ty, _), v) in self.columns.iter().zip(values) {
            match v {
                Value::Null => return Err(Error::new(ErrorKind::NullViolation, "NULL in a key column")),
                Value::Boolean(b) => out.push(u8::from(*b)),
                Value::Int(i) => out.extend(((*i as u64) ^ (1 << 63)).to_be_bytes()),
                Value::Float32(_) | Value::Float64(_) => {
                    let f = match v { Value::Float32(f) => f64::from(*f), Value::Float64(f) => *f, _ => 0.0 };
                    let f = if f == 0.0 { 0.0 } else { f };
                    let b = f.to_bits();
                    out.extend((if b >> 63 == 1 { !b } else { b | (1 << 63) }).to_be_bytes());
                }
                Value::Decimal(d) => out.extend(((*d as u128) ^ (1 << 127)).to_be_bytes()),
                Value::Interval(i) => { let n = (i128::from(i.months) * 30 + i128::from(i.days)) * 86_400_000_000_000 + i128::from(i.nanoseconds); out.extend(((n as u128) ^ (1 << 127)).to_be_bytes()) }
                Value::Text(s) => { for b in s.bytes() { out.push(b); if b == 0 { out.push(255) } } out.extend([0, 0]) }
                Value::Bytes(s) => { for b in s { out.push(*b); if *b == 0 { out.push(255) } } out.extend([0, 0]) }
                Value::Uuid(u) => out.extend(u),
            }
            let _ = ty;
        }
        Ok(out)
    }
    pub fn decode(&self, key: &[u8]) -> Result<Vec<Value>> {
        let mut out = vec![]; let mut k = key;
        for (ty, _) in &self.columns {
            out.push(match ty {
                ColumnType::Boolean => { let v = k[0] == 1; k = &k[1..]; Value::Boolean(v) }
                ColumnType::Text => { let mut s = vec![]; loop { let b = k[0]; let n = k[1]; if b == 0 { k = &k[2..]; if n == 0 { break } s.push(0) } else { s.push(b); k = &k[1..] } } Value::Text(String::from_utf8(s).unwrap()) }
                ColumnType::Uuid => { let v: [u8; 16] = k[..16].try_into().unwrap(); k = &k[16..]; Value::Uuid(v) }
                ColumnType::Decimal { .. } => { let v = u128::from_be_bytes(k[..16].try_into().unwrap()) ^ (1 << 127); k = &k[16..]; Value::Decimal(v as i128) }
                ColumnType::Float64 => { let b = u64::from_be_bytes(k[..8].try_into().unwrap()); k = &k[8..]; Value::Float64(f64::from_bits(if b >> 63 == 1 { b & !(1 << 63) } else { !b })) }
                _ => { let v = u64::from_be_bytes(k[..8].try_into().unwrap()) ^ (1 << 63); k = &k[8..]; Value::Int(v as i64) }
            });
        }
        Ok(out)
    }
    /// First columns equal to `prefix`, next column within the bounds.
    pub fn prefix_range(&self, prefix: &[Value], lower: Bound<&Value>, upper: Bound<&Value>) -> Result<KeyRange> {
        let p = self.encode_prefix(prefix)?;
        let with = |v: &Value| -> Result<Vec<u8>> { let mut all = prefix.to_vec(); all.push(v.clone()); self.encode_prefix(&all) };
        let after = |b: Vec<u8>| successor(&b).map_or(Bound::Unbounded, |k| Bound::Included(Key::from(k)));
        let until = |b: Vec<u8>| successor(&b).map_or(Bound::Unbounded, |k| Bound::Excluded(Key::from(k)));
        Ok(KeyRange {
            start: match lower { Bound::Unbounded if p.is_empty() => Bound::Unbounded, Bound::Unbounded => Bound::Included(p.clone().into()), Bound::Included(v) => Bound::Included(with(v)?.into()), Bound::Excluded(v) => after(with(v)?) },
            end: match upper { Bound::Unbounded if p.is_empty() => Bound::Unbounded, Bound::Unbounded => until(p), Bound::Included(v) => until(with(v)?), Bound::Excluded(v) => Bound::Excluded(with(v)?.into()) },
        })
    }
}
pub fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut p = prefix.to_vec();
    while let Some(last) = p.pop() { if last < 255 { p.push(last + 1); return Some(p) } }
    None
}
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange { pub start: Bound<Key>, pub end: Bound<Key> }
impl KeyRange {
    pub fn all() -> Self { KeyRange { start: Bound::Unbounded, end: Bound::Unbounded } }
    pub fn point(key: Key) -> Self { KeyRange { start: Bound::Included(key.clone()), end: Bound::Included(key) } }
    pub fn contains(&self, key: &[u8]) -> bool {
        (match &self.start { Bound::Unbounded => true, Bound::Included(k) => key >= k.as_ref(), Bound::Excluded(k) => key > k.as_ref() })
            && (match &self.end { Bound::Unbounded => true, Bound::Included(k) => key <= k.as_ref(), Bound::Excluded(k) => key < k.as_ref() })
    }
}
