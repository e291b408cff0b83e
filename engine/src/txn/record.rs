/*!
A commit as one record of the log.

```text
    version u8 = 3 | sequence number u64 | unix microseconds i64 | operation*
    operation      = kind u8 (0 put, 1 tombstone) | storage | key | row
      or           = kind u8 = 2 (deleted range)  | storage | start | end
    storage        = varint
    key, row       = length varint | bytes
    start, end     = length varint | an end of a range, as in `key/bound.rs`
```

Numbers are little-endian, varints LEB128. The record's length, which the log knows, ends the operations. A record is whole or
absent: the log's frames see to that. The decoder trusts nothing all the same, so that a foreign record is an error and never a
wrong row.

A commit's rows are newer than its deleted ranges, whatever their order in the record.

Earlier releases wrote versions 1 and 2, which are read for ever: behind the time stands a u32 count of operations, each of them
storage u64 | kind u8 | length u32 | bytes | length u32 | bytes. Only version 2 has deleted ranges.
*/

use crate::bytes::{Input, put_counted, put_varint};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{KeyRange, decode_range, encode_bound};
use crate::memtable::Kind;
use crate::types::{Seq, StorageId};

/// What is written.
const VERSION: u8 = 3;
/// Fixed-width fields, rows only.
const VERSION_FIXED_ROWS: u8 = 1;
/// Fixed-width fields, rows and deleted ranges.
const VERSION_FIXED: u8 = 2;

const PUT: u8 = 0;
const TOMBSTONE: u8 = 1;
const ERASE: u8 = 2;

/// What errors call a record.
const WHAT: &str = "a commit record";

/// Operations gathered for one record. The sequence number is put in at the end, when the commit's place is known.
#[derive(Debug)]
pub(crate) struct RecordBuilder {
    bytes: Vec<u8>,
}

const HEAD_BYTES: usize = 1 + 8 + 8;

impl RecordBuilder {
    pub(crate) fn new() -> Self {
        RecordBuilder { bytes: vec![0; HEAD_BYTES] }
    }

    pub(crate) fn push(&mut self, storage: StorageId, kind: Kind, key: &[u8], row: &[u8]) {
        let kind = match kind {
            Kind::Put => PUT,
            Kind::Tombstone => TOMBSTONE,
        };
        self.put(storage, kind, key, row);
    }

    /// A deleted range.
    pub(crate) fn push_range(&mut self, storage: StorageId, range: &KeyRange) {
        self.put(storage, ERASE, &encode_bound(&range.start), &encode_bound(&range.end));
    }

    fn put(&mut self, storage: StorageId, kind: u8, key: &[u8], row: &[u8]) {
        self.bytes.push(kind);
        put_varint(&mut self.bytes, storage.0);
        put_counted(&mut self.bytes, key);
        put_counted(&mut self.bytes, row);
    }

    /// The whole record.
    pub(crate) fn seal(&mut self, seq: Seq, unix_micros: i64) -> &[u8] {
        let head = [VERSION].into_iter().chain(seq.to_le_bytes()).chain(unix_micros.to_le_bytes());
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
    pub(crate) operations: Operations<'a>,
}

/// The operations of a record, read one by one: a record may be long, and its operations take more memory than its bytes.
#[derive(Debug)]
pub(crate) struct Operations<'a> {
    input: Input<'a>,
    version: u8,
    /// How many there still must be, in versions that say so.
    left: Option<u32>,
}

/// Reads a record's head. Its operations are read as they are taken, each of which may be an error.
///
/// # Errors
/// `NewerFormat` for another version; `Corruption` where the bytes are no record.
pub(crate) fn decode(bytes: &[u8]) -> Result<Record<'_>> {
    let mut input = Input::new(bytes, WHAT);
    let version = input.byte()?;
    if ![VERSION_FIXED_ROWS, VERSION_FIXED, VERSION].contains(&version) {
        return Err(Error::new(ErrorKind::NewerFormat, format!("commit record of version {version}")));
    }
    let seq = input.u64()?;
    let _unix_micros = input.i64()?;
    let left = if version == VERSION { None } else { Some(input.u32()?) };
    Ok(Record { seq, operations: Operations { input, version, left } })
}

impl<'a> Iterator for Operations<'a> {
    type Item = Result<Operation<'a>>;

    fn next(&mut self) -> Option<Result<Operation<'a>>> {
        let is_over = self.left.map_or(self.input.left() == 0, |left| left == 0);
        if is_over {
            return self.end().err().map(Err);
        }
        let next = match &mut self.left {
            None => self.take(),
            Some(left) => {
                *left -= 1;
                self.take_fixed()
            }
        };
        if next.is_err() {
            self.stop();
        }
        Some(next)
    }
}

impl<'a> Operations<'a> {
    fn take(&mut self) -> Result<Operation<'a>> {
        let kind = self.input.byte()?;
        let storage = StorageId(self.input.varint()?);
        operation(storage, kind, self.input.counted()?, self.input.counted()?, true)
    }

    /// As versions 1 and 2 have them.
    fn take_fixed(&mut self) -> Result<Operation<'a>> {
        let storage = StorageId(self.input.u64()?);
        let kind = self.input.byte()?;
        let mut counted = || {
            let len = self.input.u32()?;
            self.input.take(usize::try_from(len).unwrap_or(usize::MAX))
        };
        operation(storage, kind, counted()?, counted()?, self.version == VERSION_FIXED)
    }

    /// Nothing may follow the last one.
    fn end(&mut self) -> Result<()> {
        let ended = self.input.clone().end();
        self.stop();
        ended
    }

    /// Gives no more.
    fn stop(&mut self) {
        (self.input, self.left) = (Input::new(&[], WHAT), None);
    }
}

fn operation<'a>(
    storage: StorageId,
    kind: u8,
    key: &'a [u8],
    row: &'a [u8],
    knows_ranges: bool,
) -> Result<Operation<'a>> {
    let what = match kind {
        PUT => What::Row(RowChange { kind: Kind::Put, key, row }),
        TOMBSTONE => What::Row(RowChange { kind: Kind::Tombstone, key, row }),
        ERASE if knows_ranges => What::Erase(decode_range(key, row)?),
        other => return Err(Error::corruption(format!("operation of kind {other} in a commit record"))),
    };
    Ok(Operation { storage, what })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::Bound;

    fn sample() -> RecordBuilder {
        let mut builder = RecordBuilder::new();
        builder.push(StorageId(100), Kind::Put, b"key", b"row");
        builder.push(StorageId(u64::MAX), Kind::Tombstone, b"gone", b"");
        builder
    }

    /// Number and operations, or the first error.
    fn read(bytes: &[u8]) -> Result<(Seq, Vec<Operation<'_>>)> {
        let record = decode(bytes)?;
        Ok((record.seq, record.operations.collect::<Result<_>>()?))
    }

    fn range() -> KeyRange {
        KeyRange { start: Bound::Excluded((&b"a"[..]).into()), end: Bound::Unbounded }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut builder = sample();
        builder.push_range(StorageId(5), &range());
        let (seq, operations) = read(builder.seal(42, -5)).unwrap();
        assert_eq!(seq, 42);
        let put = What::Row(RowChange { kind: Kind::Put, key: b"key", row: b"row" });
        let gone = What::Row(RowChange { kind: Kind::Tombstone, key: b"gone", row: b"" });
        let expected = [(100, put), (u64::MAX, gone), (5, What::Erase(range()))]
            .map(|(storage, what)| Operation { storage: StorageId(storage), what });
        assert_eq!(operations, expected);
    }

    /// As releases wrote it that had fixed-width fields.
    fn fixed(version: u8, operations: &[(u64, u8, &[u8], &[u8])]) -> Vec<u8> {
        let mut bytes = vec![version];
        bytes.extend_from_slice(&42_u64.to_le_bytes());
        bytes.extend_from_slice(&(-5_i64).to_le_bytes());
        bytes.extend_from_slice(&(operations.len() as u32).to_le_bytes());
        for (storage, kind, key, row) in operations {
            bytes.extend_from_slice(&storage.to_le_bytes());
            bytes.push(*kind);
            for part in [key, row] {
                bytes.extend_from_slice(&(part.len() as u32).to_le_bytes());
                bytes.extend_from_slice(part);
            }
        }
        bytes
    }

    #[test]
    fn earlier_versions_are_read() {
        let rows: [(u64, u8, &[u8], &[u8]); 2] = [(100, PUT, b"key", b"row"), (u64::MAX, TOMBSTONE, b"gone", b"")];
        let mut new = sample();
        let new = read(new.seal(42, -5)).unwrap();
        for version in [VERSION_FIXED_ROWS, VERSION_FIXED] {
            let bytes = fixed(version, &rows);
            assert_eq!(read(&bytes).unwrap(), new);
            for len in 0..bytes.len() {
                assert!(read(&bytes[..len]).is_err(), "version {version} cut at {len}");
            }
        }
        // A record of rows only has no deleted range, whatever a damaged byte says; and what is newer is refused.
        let (start, end) = (encode_bound(&range().start), encode_bound(&range().end));
        let erased: [(u64, u8, &[u8], &[u8]); 1] = [(5, ERASE, &start, &end)];
        assert_eq!(read(&fixed(VERSION_FIXED, &erased)).unwrap().1[0].what, What::Erase(range()));
        assert_eq!(read(&fixed(VERSION_FIXED_ROWS, &erased)).unwrap_err().kind(), ErrorKind::Corruption);
        assert_eq!(read(&fixed(4, &erased)).unwrap_err().kind(), ErrorKind::NewerFormat);
        // A count is not believed.
        let mut huge = fixed(VERSION_FIXED, &rows);
        huge[17..21].fill(0xff);
        assert!(read(&huge).is_err());
    }

    #[test]
    fn damaged_records_are_errors() {
        let mut builder = sample();
        let (first, whole) = {
            let mut one = RecordBuilder::new();
            one.push(StorageId(100), Kind::Put, b"key", b"row");
            (one.seal(1, 1).len(), builder.seal(1, 1).to_vec())
        };
        // An operation more or less is a record too; the log knows where one ends.
        for len in (0..whole.len()).filter(|len| ![HEAD_BYTES, first].contains(len)) {
            assert!(read(&whole[..len]).is_err(), "cut at {len}");
        }
        let longer = [whole.as_slice(), &[0]].concat();
        assert_eq!(read(&longer).unwrap_err().kind(), ErrorKind::Corruption);
        let mut unknown = whole;
        unknown[HEAD_BYTES] = 3;
        assert_eq!(read(&unknown).unwrap_err().kind(), ErrorKind::Corruption);
    }
}
