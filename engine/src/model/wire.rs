/*!
Little-endian numbers in and out of bytes. Reading bounds every length by what is there before it allocates.
*/

use crate::error::{Error, Result};

pub(super) fn cut_short() -> Error {
    Error::corruption("a slice index is cut short")
}

pub(super) fn damaged(what: &str) -> Error {
    Error::corruption(format!("a slice index is damaged: {what}"))
}

/// Bytes still to be read.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len).ok_or_else(cut_short)?;
        self.0 = rest;
        Ok(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or_else(cut_short)?;
        self.0 = rest;
        Ok(*head)
    }

    /// `count` items of `N` bytes each.
    pub(super) fn list<const N: usize, T>(&mut self, count: usize, read: impl Fn([u8; N]) -> T) -> Result<Vec<T>> {
        let bytes = self.take(count.checked_mul(N).ok_or_else(cut_short)?)?;
        let (items, _) = bytes.as_chunks::<N>();
        Ok(items.iter().map(|item| read(*item)).collect())
    }

    pub(super) fn u8(&mut self) -> Result<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A u32 used as a count or a place.
    pub(super) fn count(&mut self) -> Result<usize> {
        usize::try_from(self.array().map(u32::from_le_bytes)?).map_err(|_| cut_short())
    }
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

/// The first 8 bytes as a number, missing ones being 0.
#[inline]
pub(super) fn head(bytes: &[u8]) -> u64 {
    match bytes.first_chunk::<8>() {
        Some(whole) => u64::from_be_bytes(*whole),
        None => {
            let mut padded = [0; 8];
            padded.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            u64::from_be_bytes(padded)
        }
    }
}
