/*!
Reading and writing the small things a vector is made of: bytes, varints, counted pieces.

A [`Cursor`] takes bytes off the front of a slice and never looks past its end: what is not there is corruption. Varints
are LEB128 (seven bits a byte, low first, at most ten bytes); signed ones are zigzag first.
*/

use crate::error::{Error, Result};

/// The part of a vector that has not been read yet.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// A cursor at the start of `bytes`.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Cursor { rest: bytes }
    }

    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or_else(|| short(count, self.rest.len()))?;
        self.rest = rest;
        Ok(head)
    }

    /// The next byte.
    pub(super) fn byte(&mut self) -> Result<u8> {
        let (head, rest) = self.rest.split_first().ok_or_else(|| short(1, 0))?;
        self.rest = rest;
        Ok(*head)
    }

    /// The next varint.
    pub(super) fn varint(&mut self) -> Result<u64> {
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
        Err(Error::corruption("a varint of a vector is longer than 64 bits"))
    }

    /// The next zigzag varint.
    pub(super) fn signed(&mut self) -> Result<i64> {
        let raw = self.varint()?;
        Ok((raw >> 1).cast_signed() ^ -((raw & 1).cast_signed()))
    }

    /// The next varint, which counts something of which there are at most `max`.
    pub(super) fn count(&mut self, max: usize, what: &str) -> Result<usize> {
        let raw = self.varint()?;
        usize::try_from(raw)
            .ok()
            .filter(|count| *count <= max)
            .ok_or_else(|| Error::corruption(format!("a vector claims {raw} {what} where at most {max} can be")))
    }

    /// The next sixteen bytes, little-endian.
    pub(super) fn i128(&mut self) -> Result<i128> {
        let bytes: [u8; 16] = self.take(16)?.try_into().map_err(|_| short(16, 0))?;
        Ok(i128::from_le_bytes(bytes))
    }

    /// Checks that nothing is left.
    pub(super) fn end(self) -> Result<()> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(Error::corruption(format!("{left} bytes follow the end of a vector"))),
        }
    }
}

fn short(wanted: usize, have: usize) -> Error {
    Error::corruption(format!("a vector ends early: {wanted} bytes wanted, {have} left"))
}

/// Appends a varint.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(low_byte(value) | 0x80);
        value >>= 7;
    }
    out.push(low_byte(value));
}

/// Appends a zigzag varint.
pub(super) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, zigzag(value));
}

/// Bytes that [`put_varint`] takes.
pub(super) fn varint_len(value: u64) -> usize {
    (bit_width(value).max(1) as usize).div_ceil(7)
}

/// Bytes that [`put_signed`] takes.
pub(super) fn signed_len(value: i64) -> usize {
    varint_len(zigzag(value))
}

/// Bits that `value` needs: 0 for 0, 64 at most.
pub(super) fn bit_width(value: u64) -> u32 {
    64 - value.leading_zeros()
}

/// The lowest eight bits.
pub(super) fn low_byte(value: u64) -> u8 {
    value.to_le_bytes()[0]
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_come_back_and_their_length_is_foretold() {
        for value in (0..64).flat_map(|s| [1u64 << s, (1u64 << s) - 1, u64::MAX >> s]) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value));
            assert_eq!(Cursor::new(&out).varint().unwrap(), value);
            for signed in [value.cast_signed(), value.cast_signed().wrapping_neg()] {
                let mut out = Vec::new();
                put_signed(&mut out, signed);
                assert_eq!(out.len(), signed_len(signed));
                assert_eq!(Cursor::new(&out).signed().unwrap(), signed);
            }
        }
    }

    #[test]
    fn a_varint_that_never_ends_is_corruption() {
        assert!(Cursor::new(&[0xff; 20]).varint().is_err());
        assert!(Cursor::new(&[0x80; 3]).varint().is_err());
    }
}
