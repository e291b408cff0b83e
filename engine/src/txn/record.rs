/*!
A commit as one record of the log.

```text
    version u8 = 1 or 2 | sequence number u64 | unix microseconds i64 | operations u32
    operation           = storage u64 | kind u8 (0 put, 1 tombstone) | key length u32 | key | row length u32 | row
      or, in version 2, = storage u64 | kind u8 = 2 (deleted range) | start length u32 | start | end length u32 | end
    start, end          = an end of a range, as in `key/bound.rs`
```

All numbers are little-endian. A record is whole or absent: the log's frames see to that. The decoder trusts nothing
all the same, so that a foreign record is an error and never a wrong row.

A commit's rows are newer than its deleted ranges, whatever their order in the record. A record has version 2 only where it
has a deleted range: older releases read what they understand, and refuse the rest.
*/

use crate::error::{Error, ErrorKind, Result};
use crate::key::{KeyRange, decode_range, encode_bound};
use crate::memtable::Kind;
use crate::types::{Seq, StorageId};

/// Rows only.
const VERSION_ROWS: u8 = 1;
/// Rows and deleted ranges.
const VERSION_RANGES: u8 = 2;

const PUT: u8 = 0;
const TOMBSTONE: u8 = 1;
const ERASE: u8 = 2;

/// Operations gathered for one record. The sequence number is put in at the end, when the commit's place is known.
#[derive(Debug)]
pub(crate) struct RecordBuilder {
    version: u8,
    bytes: Vec<u8>,
    operations: u32,
}

const HEAD_BYTES: usize = 1 + 8 + 8 + 4;

impl RecordBuilder {
    pub(crate) fn new() -> Self {
        RecordBuilder { version: VERSION_ROWS, bytes: vec![0; HEAD_BYTES], operations: 0 }
    }

    pub(crate) fn push(&mut self, storage: StorageId, kind: Kind, key: &[u8], row: &[u8]) -> Result<()> {
        let kind = match kind {
            Kind::Put => PUT,
            Kind::Tombstone => TOMBSTONE,
        };
        self.put(storage, kind, key, row)
    }

    /// A deleted range.
    pub(crate) fn push_range(&mut self, storage: StorageId, range: &KeyRange) -> Result<()> {
        self.version = VERSION_RANGES;
        self.put(storage, ERASE, &encode_bound(&range.start), &encode_bound(&range.end))
    }

    fn put(&mut self, storage: StorageId, kind: u8, key: &[u8], row: &[u8]) -> Result<()> {
        let len = |bytes: &[u8]| {
            u32::try_from(bytes.len()).map_err(|_| Error::new(ErrorKind::LimitExceeded, "a row of more than 4 GiB"))
        };
        let (key_len, row_len) = (len(key)?, len(row)?);
        self.bytes.extend_from_slice(&storage.0.to_le_bytes());
        self.bytes.push(kind);
        self.bytes.extend_from_slice(&key_len.to_le_bytes());
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(&row_len.to_le_bytes());
        self.bytes.extend_from_slice(row);
        self.operations = self
            .operations
            .checked_add(1)
            .ok_or_else(|| Error::new(ErrorKind::LimitExceeded, "more than 4 billion rows in one commit"))?;
        Ok(())
    }

    /// The whole record.
    pub(crate) fn seal(&mut self, seq: Seq, unix_micros: i64) -> &[u8] {
        let head = [self.version]
            .into_iter()
            .chain(seq.to_le_bytes())
            .chain(unix_micros.to_le_bytes())
            .chain(self.operations.to_le_bytes());
        self.bytes.iter_mut().zip(head).for_each(|(place, byte)| *place = byte);
        &self.bytes
    }
}

/// One change of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operation<'a> {
    pub(crate) storage: StorageId,
    pub(crate) what: What<'a>,
}

/// What an operation does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What<'a> {
    Row(RowChange<'a>),
    /// All rows of the range go.
    Erase(KeyRange),
}

/// A row that comes or goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowChange<'a> {
    pub(crate) kind: Kind,
    pub(crate) key: &'a [u8],
    pub(crate) row: &'a [u8],
}

/// A record as read: its number and its operations in the order they were written.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    pub(crate) seq: Seq,
    pub(crate) operations: Vec<Operation<'a>>,
}

/// Reads a record.
///
/// # Errors
/// `NewerFormat` for another version; `Corruption` where the bytes are no record.
pub(crate) fn decode(bytes: &[u8]) -> Result<Record<'_>> {
    let mut reader = Reader(bytes);
    let [version] = reader.array()?;
    if ![VERSION_ROWS, VERSION_RANGES].contains(&version) {
        return Err(Error::new(ErrorKind::NewerFormat, format!("commit record of version {version}")));
    }
    let seq = u64::from_le_bytes(reader.array()?);
    let _unix_micros = i64::from_le_bytes(reader.array()?);
    let count = u32::from_le_bytes(reader.array()?);
    // The count is not believed for the allocation: each operation takes at least 17 bytes.
    let mut operations = Vec::with_capacity(usize::try_from(count).unwrap_or(usize::MAX).min(bytes.len() / 17));
    for _ in 0..count {
        let storage = StorageId(u64::from_le_bytes(reader.array()?));
        let [kind] = reader.array()?;
        let key = reader.counted()?;
        let row = reader.counted()?;
        let what = match kind {
            PUT => What::Row(RowChange { kind: Kind::Put, key, row }),
            TOMBSTONE => What::Row(RowChange { kind: Kind::Tombstone, key, row }),
            ERASE if version == VERSION_RANGES => What::Erase(decode_range(key, row)?),
            other => return Err(Error::corruption(format!("operation of kind {other} in a commit record"))),
        };
        operations.push(Operation { storage, what });
    }
    match reader.0.is_empty() {
        true => Ok(Record { seq, operations }),
        false => Err(Error::corruption("bytes behind the last operation of a commit record")),
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) =
            self.0.split_at_checked(len).ok_or_else(|| Error::corruption("a commit record is cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| Error::corruption("a commit record is cut short"))
    }

    fn counted(&mut self) -> Result<&'a [u8]> {
        let len = u32::from_le_bytes(self.array()?);
        self.take(usize::try_from(len).unwrap_or(usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::Bound;

    fn sample() -> RecordBuilder {
        let mut builder = RecordBuilder::new();
        builder.push(StorageId(100), Kind::Put, b"key", b"row").unwrap();
        builder.push(StorageId(7), Kind::Tombstone, b"gone", b"").unwrap();
        builder
    }

    #[test]
    fn what_is_written_is_read() {
        let mut builder = sample();
        let record = decode(builder.seal(42, -5)).unwrap();
        assert_eq!(record.seq, 42);
        assert_eq!(record.operations.len(), 2);
        let put = What::Row(RowChange { kind: Kind::Put, key: b"key", row: b"row" });
        assert_eq!(record.operations[0], Operation { storage: StorageId(100), what: put });
        assert!(matches!(record.operations[1].what, What::Row(RowChange { kind: Kind::Tombstone, .. })));
    }

    #[test]
    fn a_deleted_range_is_read_and_raises_the_version() {
        let mut builder = sample();
        assert_eq!(builder.seal(1, 1)[0], VERSION_ROWS);
        let range = KeyRange { start: Bound::Excluded((&b"a"[..]).into()), end: Bound::Unbounded };
        builder.push_range(StorageId(5), &range).unwrap();
        let bytes = builder.seal(2, 1).to_vec();
        assert_eq!(bytes[0], VERSION_RANGES);
        let record = decode(&bytes).unwrap();
        assert_eq!(record.operations[2], Operation { storage: StorageId(5), what: What::Erase(range) });
        // A record of rows only has none, whatever a damaged byte says; and what is newer is refused.
        let mut older = bytes.clone();
        older[0] = VERSION_ROWS;
        assert_eq!(decode(&older).unwrap_err().kind(), ErrorKind::Corruption);
        older[0] = 3;
        assert_eq!(decode(&older).unwrap_err().kind(), ErrorKind::NewerFormat);
    }

    #[test]
    fn damaged_records_are_errors() {
        let mut builder = sample();
        let whole = builder.seal(1, 1).to_vec();
        for len in 0..whole.len() {
            assert!(decode(&whole[..len]).is_err(), "cut at {len}");
        }
        let mut huge = whole.clone();
        huge[17..21].fill(0xff);
        assert!(decode(&huge).is_err());
        let longer = [whole.as_slice(), &[0]].concat();
        assert_eq!(decode(&longer).unwrap_err().kind(), ErrorKind::Corruption);
    }
}
