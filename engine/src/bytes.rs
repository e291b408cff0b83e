/*!
Reading and writing the small things that formats are made of: bytes, little-endian numbers, varints, counted pieces.

An [`Input`] takes bytes off the front of a slice and never looks past its end. It knows what it reads, so that an error can say
what is damaged: what is not there is corruption. Varints are LEB128 (seven bits a byte, low first, at most ten bytes); signed
ones are zigzag first.
*/

use crate::error::{Error, Result};

/// What has not been read yet.
#[derive(Debug, Clone)]
pub(crate) struct Input<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Input<'a> {
    /// All of `bytes`, which are `what`: "a vector", for one.
    pub(crate) fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Input { rest: bytes, what }
    }

    #[cold]
    fn ends_early(&self, wanted: usize) -> Error {
        let (what, have) = (self.what, self.rest.len());
        Error::corruption(format!("{what} ends early: {wanted} bytes wanted, {have} left"))
    }

    #[cold]
    fn too_many(&self, raw: u64, max: usize, of: &str) -> Error {
        Error::corruption(format!("{} claims {raw} {of} where at most {max} can be", self.what))
    }

    /// The next `count` bytes.
    #[inline]
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or_else(|| self.ends_early(count))?;
        self.rest = rest;
        Ok(head)
    }

    /// The next byte.
    #[inline]
    pub(crate) fn byte(&mut self) -> Result<u8> {
        let (head, rest) = self.rest.split_first().ok_or_else(|| self.ends_early(1))?;
        self.rest = rest;
        Ok(*head)
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| self.ends_early(N))?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64> {
        self.array().map(i64::from_le_bytes)
    }

    pub(crate) fn i128(&mut self) -> Result<i128> {
        self.array().map(i128::from_le_bytes)
    }

    /// The next varint.
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Error::corruption(format!("{} has a number of more than 64 bits", self.what)))
    }

    /// The next varint, of at most 32 bits.
    pub(crate) fn varint32(&mut self) -> Result<u32> {
        let raw = self.varint()?;
        u32::try_from(raw)
            .map_err(|_| Error::corruption(format!("{} has the number {raw} where 32 bits are the most", self.what)))
    }

    /// The next zigzag varint.
    pub(crate) fn signed(&mut self) -> Result<i64> {
        let raw = self.varint()?;
        Ok((raw >> 1).cast_signed() ^ -((raw & 1).cast_signed()))
    }

    /// The next varint, which counts something of which there are at most `max`.
    pub(crate) fn count(&mut self, max: usize, of: &str) -> Result<usize> {
        let raw = self.varint()?;
        let count = usize::try_from(raw).ok().filter(|count| *count <= max);
        count.ok_or_else(|| self.too_many(raw, max, of))
    }

    /// A varint length and as many bytes.
    pub(crate) fn counted(&mut self) -> Result<&'a [u8]> {
        let left = self.rest.len();
        self.counted_up_to(left)
    }

    /// A varint length and as many bytes, at most `max`.
    pub(crate) fn counted_up_to(&mut self, max: usize) -> Result<&'a [u8]> {
        let count = self.count(max, "bytes")?;
        self.take(count)
    }

    /// The next u32, a count or a place.
    pub(crate) fn size(&mut self) -> Result<usize> {
        let raw = self.u32()?;
        usize::try_from(raw).map_err(|_| self.too_many(raw.into(), usize::MAX, "entries"))
    }

    /// A u32 length and as many bytes, at most `max`.
    pub(crate) fn prefixed(&mut self, max: usize) -> Result<&'a [u8]> {
        let len = self.size()?;
        match len <= max {
            true => self.take(len),
            false => Err(self.too_many(len as u64, max, "bytes")),
        }
    }

    /// The next `count` items of `N` bytes each. Nothing is allocated for items that are not there.
    pub(crate) fn list<const N: usize, T>(&mut self, count: usize, read: impl Fn([u8; N]) -> T) -> Result<Vec<T>> {
        let bytes = self.take(count.checked_mul(N).ok_or_else(|| self.ends_early(usize::MAX))?)?;
        let (items, _) = bytes.as_chunks::<N>();
        Ok(items.iter().map(|item| read(*item)).collect())
    }

    /// Bytes left.
    #[inline]
    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next byte, which stays.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// What is left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Checks that nothing is left.
    pub(crate) fn end(self) -> Result<()> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(Error::corruption(format!("{left} bytes follow the end of {}", self.what))),
        }
    }
}

/// Appends a varint.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Appends a zigzag varint.
pub(crate) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, zigzag(value));
}

/// Appends a varint length and the bytes.
pub(crate) fn put_counted(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a u32 length and the bytes, which are shorter than 4 GiB by the limits of what they are.
pub(crate) fn put_prefixed(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// The first 8 bytes as a number of the same order, missing ones being 0.
#[inline]
pub(crate) fn head(bytes: &[u8]) -> u64 {
    match bytes.first_chunk::<8>() {
        Some(whole) => u64::from_be_bytes(*whole),
        None => {
            let mut padded = [0; 8];
            padded.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            u64::from_be_bytes(padded)
        }
    }
}

/// Bytes that [`put_varint`] takes.
pub(crate) fn varint_len(value: u64) -> usize {
    ((64 - value.leading_zeros()).max(1) as usize).div_ceil(7)
}

/// Bytes that [`put_signed`] takes.
pub(crate) fn signed_len(value: i64) -> usize {
    varint_len(zigzag(value))
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(bytes: &[u8]) -> Input<'_> {
        Input::new(bytes, "a test")
    }

    #[test]
    fn varints_come_back_and_their_length_is_foretold() {
        for value in (0..64).flat_map(|s| [1u64 << s, (1u64 << s) - 1, u64::MAX >> s]) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value));
            assert_eq!(input(&out).varint().unwrap(), value);
            for signed in [value.cast_signed(), value.cast_signed().wrapping_neg()] {
                let mut out = Vec::new();
                put_signed(&mut out, signed);
                assert_eq!(out.len(), signed_len(signed));
                assert_eq!(input(&out).signed().unwrap(), signed);
            }
        }
    }

    #[test]
    fn what_is_not_there_is_corruption_that_says_where() {
        assert!(input(&[0xff; 20]).varint().is_err());
        assert!(input(&[0x80; 3]).varint().is_err());
        assert!(input(&[0xff, 0xff, 0xff, 0xff, 0x7f]).varint32().is_err());
        // A length that no memory holds is not believed.
        let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 7];
        assert!(input(&huge).counted().unwrap_err().to_string().contains("a test claims 18446744073709551615 bytes"));
        assert!(input(&[2, 7]).counted().is_err());
        assert_eq!(input(&[1, 7]).counted().unwrap(), [7]);
        assert!(input(&[1, 7]).counted_up_to(0).is_err());
        assert!(input(&[1, 2, 3]).u32().unwrap_err().to_string().contains("a test ends early: 4 bytes wanted, 3 left"));
        assert!(
            input(&[1, 0, 0, 0, 7]).prefixed(0).unwrap_err().to_string().contains("claims 1 bytes where at most 0")
        );
        assert_eq!(input(&[1, 0, 0, 0, 7]).prefixed(1).unwrap(), [7]);
        assert!(input(&[7; 4]).list(usize::MAX, u32::from_le_bytes).is_err());
        assert_eq!(input(&[7, 0, 8, 0]).list(2, u16::from_le_bytes).unwrap(), [7, 8]);
        assert!(input(&[1]).end().is_err());
        assert_eq!(input(&[1]).left(), 1);
    }
}
