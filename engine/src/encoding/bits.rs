/*!
Bit packing: numbers of 0 to 64 bits, one after another, with no gaps.

```text
    value i lies at bits [i × width, (i + 1) × width), little-endian: bit b of the section is bit b % 8 of byte b / 8
    the last byte's spare bits are zero; there is no padding
```

Eight values fill `width` bytes exactly, so unpacking goes in groups of eight whose loads, shifts and masks are constants
of the width; the compiler unrolls one loop for each width. A single value is one unaligned eight-byte load (and one
more byte where 57 bits or more straddle it).
*/

use crate::bytes::Input;
use crate::error::{Error, Result};

/// Packed numbers, read in place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packed<'a> {
    width: u32,
    bytes: &'a [u8],
}

/// Bytes that `count` values of `width` bits take.
pub(super) fn packed_len(count: usize, width: u32) -> usize {
    (count * width as usize).div_ceil(8)
}

/// Appends `values`, `width` bits each; higher bits are cut off.
pub(super) fn pack(values: impl Iterator<Item = u64>, width: u32, out: &mut Vec<u8>) {
    if width == 0 {
        return;
    }
    let mask = mask_of(width);
    let mut word = 0u64;
    let mut filled = 0u32;
    for value in values {
        let value = value & mask;
        word |= value << filled;
        filled += width;
        if filled >= 64 {
            out.extend_from_slice(&word.to_le_bytes());
            filled -= 64;
            word = value.checked_shr(width - filled).unwrap_or(0);
        }
    }
    out.extend_from_slice(word.to_le_bytes().get(..(filled as usize).div_ceil(8)).unwrap_or_default());
}

/// The lowest `width` bits set.
pub(super) fn mask_of(width: u32) -> u64 {
    u64::MAX.checked_shr(64 - width.min(64)).unwrap_or(0)
}

impl<'a> Packed<'a> {
    /// Takes `count` values of `width` bits off the input.
    ///
    /// # Errors
    /// `Corruption` when the width is over 64 or the bytes are not there.
    pub(super) fn open(input: &mut Input<'a>, count: usize, width: u32) -> Result<Self> {
        if width > 64 {
            return Err(Error::corruption(format!("a vector packs values of {width} bits")));
        }
        Ok(Packed { width, bytes: input.take(packed_len(count, width))? })
    }

    /// Bits of one value.
    pub(super) fn width(&self) -> u32 {
        self.width
    }

    /// The value at `index`; 0 past the end.
    #[inline]
    pub(super) fn get(&self, index: usize) -> u64 {
        let bit = index as u64 * u64::from(self.width);
        let at = index * self.width as usize / 8;
        let shift = u32::from(low_byte(bit) % 8);
        let low = self.word(at) >> shift;
        let value = match shift + self.width {
            0..=64 => low,
            _ => low | u64::from(self.bytes.get(at + 8).copied().unwrap_or(0)) << (64 - shift),
        };
        value & mask_of(self.width)
    }

    #[inline]
    fn word(&self, at: usize) -> u64 {
        let rest = self.bytes.get(at..).unwrap_or_default();
        match rest.first_chunk::<8>() {
            Some(whole) => u64::from_le_bytes(*whole),
            None => {
                let mut padded = [0u8; 8];
                padded.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
                u64::from_le_bytes(padded)
            }
        }
    }

    /// Unpacks `out.len()` values from `start` on.
    pub(super) fn unpack(&self, start: usize, out: &mut [u64]) {
        let before = start.next_multiple_of(8) - start;
        let (head, body) = out.split_at_mut(before.min(out.len()));
        head.iter_mut().enumerate().for_each(|(i, to)| *to = self.get(start + i));
        let from = (start + before) / 8 * self.width as usize;
        unpack_groups(self.bytes.get(from..).unwrap_or_default(), self.width, body);
    }
}

/// Unpacks from a group's first bit on.
fn unpack_groups(bytes: &[u8], width: u32, out: &mut [u64]) {
    macro_rules! by_width {
        ($($w:literal)*) => {
            match width {
                $($w => groups::<$w>(bytes, out),)*
                _ => out.fill(0),
            }
        };
    }
    by_width!(
        1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32
        33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64
    );
}

fn groups<const WIDTH: usize>(mut bytes: &[u8], out: &mut [u64]) {
    let mut chunks = out.chunks_exact_mut(8);
    for chunk in &mut chunks {
        match bytes.get(..WIDTH + 8) {
            Some(window) => group::<WIDTH>(window, chunk),
            None => last_group::<WIDTH>(bytes, chunk),
        }
        bytes = bytes.get(WIDTH..).unwrap_or_default();
    }
    let rest = chunks.into_remainder();
    if !rest.is_empty() {
        last_group::<WIDTH>(bytes, rest);
    }
}

/// Eight values from a window of at least `WIDTH + 8` bytes.
#[inline(always)]
#[expect(
    clippy::indexing_slicing,
    reason = "all offsets are constants below WIDTH + 8, checked where the window is cut"
)]
fn group<const WIDTH: usize>(window: &[u8], out: &mut [u64]) {
    let mask = u64::MAX >> (64 - WIDTH);
    for (i, to) in out.iter_mut().enumerate().take(8) {
        let (at, shift) = (i * WIDTH / 8, i * WIDTH % 8);
        let mut word = [0u8; 8];
        word.copy_from_slice(&window[at..at + 8]);
        let mut value = u64::from_le_bytes(word) >> shift;
        if shift + WIDTH > 64 {
            value |= u64::from(window[at + 8]) << (64 - shift);
        }
        *to = value & mask;
    }
}

/// Up to eight values near the section's end, where a whole window is not there to be read.
#[cold]
fn last_group<const WIDTH: usize>(bytes: &[u8], out: &mut [u64]) {
    let mut window = [0u8; 72];
    window.iter_mut().zip(bytes.iter().take(WIDTH)).for_each(|(to, from)| *to = *from);
    let mut values = [0u64; 8];
    group::<WIDTH>(&window, &mut values);
    out.iter_mut().zip(values).for_each(|(to, from)| *to = from);
}

/// Appends one byte that holds a width.
pub(super) fn put_width(out: &mut Vec<u8>, width: u32) {
    out.push(low_byte(u64::from(width)));
}

/// Bits that `value` needs: 0 for 0, 64 at most.
pub(super) fn bit_width(value: u64) -> u32 {
    64 - value.leading_zeros()
}

/// The lowest eight bits.
pub(super) fn low_byte(value: u64) -> u8 {
    value.to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_and_count_comes_back_by_position_and_in_bulk() {
        let mut state = 7u64;
        for width in 0..=64u32 {
            for count in [0usize, 1, 7, 8, 9, 63, 64, 65, 200, 1024] {
                let values: Vec<u64> = (0..count)
                    .map(|_| {
                        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                        (state ^ (state >> 29)) & mask_of(width)
                    })
                    .collect();
                let mut bytes = Vec::new();
                pack(values.iter().copied(), width, &mut bytes);
                assert_eq!(bytes.len(), packed_len(count, width));
                let packed = Packed::open(&mut Input::new(&bytes, "a vector"), count, width).unwrap();
                assert!(values.iter().enumerate().all(|(i, v)| packed.get(i) == *v), "width {width}");
                for start in [0, 1, 5, 8, 64].into_iter().filter(|s| *s <= count) {
                    let mut out = vec![1u64; count - start];
                    packed.unpack(start, &mut out);
                    assert_eq!(out, values[start..], "width {width} from {start}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_there_is_corruption() {
        assert!(Packed::open(&mut Input::new(&[0; 9], "a vector"), 10, 8).is_err());
        assert!(Packed::open(&mut Input::new(&[0; 900], "a vector"), 10, 65).is_err());
    }
}
