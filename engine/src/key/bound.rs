/*!
An end of a range of keys as bytes: a kind, 0 for none, 1 for "this key and on", 2 for "not this key itself", and behind it the
key, but for kind 0.

The length is told by whoever keeps them: the log's record and the manifest's edit.
*/

use crate::error::{Error, Result};
use crate::key::{Key, KeyRange};
use crate::limits::KEY_BYTES_MAX;
use std::ops::Bound;

/// Bytes of one end at most.
pub(crate) const BOUND_BYTES_MAX: usize = KEY_BYTES_MAX + 1;

/// One end as bytes.
pub(crate) fn encode_bound(bound: &Bound<Key>) -> Vec<u8> {
    let (kind, key) = match bound {
        Bound::Unbounded => (0, &[][..]),
        Bound::Included(key) => (1, key.as_bytes()),
        Bound::Excluded(key) => (2, key.as_bytes()),
    };
    let mut out = Vec::with_capacity(key.len() + 1);
    out.push(kind);
    out.extend_from_slice(key);
    out
}

/// Reads what [`encode_bound`] wrote.
fn decode_bound(bytes: &[u8]) -> Result<Bound<Key>> {
    if bytes.len() > BOUND_BYTES_MAX {
        return Err(Error::corruption("an end of a range of keys is too long"));
    }
    match bytes.split_first() {
        Some((0, [])) => Ok(Bound::Unbounded),
        Some((1, key)) => Ok(Bound::Included(key.into())),
        Some((2, key)) => Ok(Bound::Excluded(key.into())),
        _ => Err(Error::corruption("an end of a range of keys is of no known kind")),
    }
}

/// A range out of its ends. `Corruption` where they are none, or no key can lie between them.
pub(crate) fn decode_range(start: &[u8], end: &[u8]) -> Result<KeyRange> {
    let range = KeyRange { start: decode_bound(start)?, end: decode_bound(end)? };
    match range.is_empty() {
        true => Err(Error::corruption("a range of keys is empty")),
        false => Ok(range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let ends = [Bound::Unbounded, Bound::Included(Key::from(&b"a"[..])), Bound::Excluded(Key::from(&b"b\0"[..]))];
        for start in &ends {
            for end in &ends {
                let range = KeyRange { start: start.clone(), end: end.clone() };
                let read = decode_range(&encode_bound(start), &encode_bound(end));
                assert_eq!(read.ok(), (!range.is_empty()).then_some(range));
            }
        }
    }

    #[test]
    fn anything_else_is_an_error() {
        for wrong in [&[][..], &[0, 1], &[3, 1]] {
            assert!(decode_range(wrong, &[0]).is_err(), "{wrong:?}");
        }
        assert!(decode_range(&vec![1; BOUND_BYTES_MAX + 1], &[0]).is_err());
    }
}
