/*!
What is particular to the bytes of an index: its errors, its short varints, and keys' heads as numbers.
*/

use crate::error::Error;

pub(super) use crate::bytes::head;

/// What errors call the bytes of an index.
pub(super) const WHAT: &str = "a slice index";

pub(super) fn cut_short() -> Error {
    damaged("it is cut short")
}

pub(super) fn damaged(what: &str) -> Error {
    Error::corruption(format!("{WHAT} is damaged: {what}"))
}

/// A LEB128 number of at most 32 bits off the front of `bytes`; `None` where there is none.
#[inline]
pub(super) fn take_varint(bytes: &mut &[u8]) -> Option<usize> {
    let mut value = 0;
    for shift in [0, 7, 14, 21, 28] {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= usize::from(byte & 0x7F) << shift;
        if *byte < 0x80 {
            return Some(value);
        }
    }
    None
}
