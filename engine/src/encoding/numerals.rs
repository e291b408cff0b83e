/*!
Strings of one length as numbers: codes, digits, hex, dates.

```text
    +------------+-------------------------------------+--------------------------------------------+
    | length: 1 B| for each position: least byte, 1 B; | for each group of positions: the strings'  |
    | 1 to 64    | greatest byte above it, 1 B         | numbers, as integers                       |
    +------------+-------------------------------------+--------------------------------------------+
    a position's radix is the second byte + 1; its digit is the string's byte − least
    least 0xff stands for lower-case hex digits: radix 16
    positions make one group, first to last, while the product of their radixes is at most 2^62
    a group's number is its digits, the first one the most significant
```

An airport's code of three letters takes 15 bits instead of 24, 32 hex digits 16 bytes, and a separator that never varies
nothing. Positions that hold decimal digits always have radix 10: so `"00000099"` and `"00000100"` are neighbours, and ids
that count up are a line.
*/

use super::bits::{bit_width, low_byte};
use super::integers::{Integers, Plan};
use crate::bytes::Input;
use crate::error::{Error, Result};
use crate::limits::SLICE_ROWS_MAX;
use std::ops::Range;

/// The most positions; longer strings are rarely of one length.
const LENGTH_MAX: usize = 64;
/// The most that a group's number can be, so that it is never negative.
const NUMBER_MAX: u64 = 1 << 62;

/// What the strings have at one position.
#[derive(Debug, Clone, Copy)]
struct Position {
    least: u8,
    above: u8,
}

impl Position {
    /// No byte is above 0xff, so a position that varies cannot have it for its least.
    const HEX: Position = Position { least: 0xff, above: 15 };

    fn of([least, above]: [u8; 2]) -> Position {
        Position { least, above }
    }

    #[inline]
    fn radix(self) -> u64 {
        u64::from(self.above) + 1
    }

    fn is_hex(self) -> bool {
        self.least == Self::HEX.least && self.above == Self::HEX.above
    }

    /// The byte that a digit stands for.
    #[inline]
    fn byte(self, digit: u8) -> u8 {
        match digit {
            10.. if self.is_hex() => (b'a' - 10).wrapping_add(digit),
            _ if self.is_hex() => b'0' + digit,
            _ => self.least.wrapping_add(digit),
        }
    }

    /// The digit that a byte is.
    #[inline]
    fn digit(self, byte: u8) -> u8 {
        match byte {
            b'a'.. if self.is_hex() => byte.wrapping_sub(b'a' - 10),
            _ if self.is_hex() => byte.wrapping_sub(b'0'),
            _ => byte.wrapping_sub(self.least),
        }
    }
}

/// Strings as numbers, read in place: groups are found anew for each read, which costs less than to keep them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numerals<'a> {
    /// Least byte and greatest above it of each position.
    positions: &'a [[u8; 2]],
    count: usize,
    /// The groups' integers, one after another.
    body: &'a [u8],
}

/// The groups of some numerals, first to last.
struct Groups<'a> {
    positions: &'a [[u8; 2]],
    count: usize,
    body: Input<'a>,
}

/// A group: its positions and its integers.
type Group<'a> = (&'a [[u8; 2]], Integers<'a>);

impl<'a> Groups<'a> {
    /// The next group's positions and integers; `None` after the last.
    #[inline]
    fn next(&mut self) -> Result<Option<Group<'a>>> {
        if self.positions.is_empty() {
            return Ok(None);
        }
        let len = group_len(self.positions.iter().map(|position| Position::of(*position)));
        let (group, rest) = self.positions.split_at_checked(len).unwrap_or((self.positions, &[]));
        self.positions = rest;
        Ok(Some((group, Integers::open(&mut self.body, self.count)?)))
    }
}

impl<'a> Numerals<'a> {
    /// Takes `count` strings off the input.
    pub(super) fn open(input: &mut Input<'a>, count: usize) -> Result<Self> {
        let length = usize::from(input.byte()?);
        if length == 0 || length > LENGTH_MAX {
            return Err(Error::corruption(format!("numerals of {length} positions")));
        }
        let (positions, _) = input.take(2 * length)?.as_chunks::<2>();
        let mut groups = Groups { positions, count, body: input.clone() };
        while groups.next()?.is_some() {}
        let body = input.take(input.left() - groups.body.left())?;
        Ok(Numerals { positions, count, body })
    }

    fn groups(&self) -> Groups<'a> {
        Groups { positions: self.positions, count: self.count, body: Input::new(self.body, "numerals") }
    }

    /// Bytes of each string.
    pub(super) fn length(&self) -> usize {
        self.positions.len()
    }

    /// Appends the string at `index`.
    pub(super) fn get(&self, index: usize, out: &mut Vec<u8>) -> Result<()> {
        let mut string = [0u8; LENGTH_MAX];
        let mut rest = string.as_mut_slice();
        let mut groups = self.groups();
        while let Some((positions, integers)) = groups.next()? {
            let mut number = integers.get(index).cast_unsigned();
            let (bytes, tail) = rest.split_at_mut_checked(positions.len()).unwrap_or_default();
            for (to, position) in bytes.iter_mut().zip(positions).rev() {
                let position = Position::of(*position);
                let digit = match position.radix() {
                    1 => 0,
                    radix => {
                        let digit = number % radix;
                        number /= radix;
                        digit
                    }
                };
                *to = position.byte(low_byte(digit));
            }
            rest = tail;
        }
        out.extend_from_slice(string.get(..self.length()).unwrap_or_default());
        Ok(())
    }

    /// Writes the strings from `start` on into the last bytes of each `stride` bytes of `out`.
    /// Position by position, because all strings share a position's radix.
    pub(super) fn decode(&self, start: usize, out: &mut [u8], stride: usize) -> Result<()> {
        let before = stride.saturating_sub(self.length());
        let mut raw = [0i64; SLICE_ROWS_MAX];
        let raw = raw.get_mut(..(out.len() / stride.max(1)).min(SLICE_ROWS_MAX)).unwrap_or_default();
        let mut first = before;
        let mut groups = self.groups();
        while let Some((positions, integers)) = groups.next()? {
            integers.decode(start, raw);
            for (at, position) in positions.iter().enumerate().rev() {
                let position = Position::of(*position);
                let bytes = out.iter_mut().skip(first + at).step_by(stride.max(1));
                match position.radix() {
                    1 => bytes.for_each(|to| *to = position.least),
                    10 => digits(bytes, raw, position, |number| (number / 10, number % 10)),
                    16 => digits(bytes, raw, position, |number| (number / 16, number % 16)),
                    26 => digits(bytes, raw, position, |number| (number / 26, number % 26)),
                    radix => digits(bytes, raw, position, divider(radix)),
                }
            }
            first += positions.len();
        }
        Ok(())
    }
}

/// Splits the last digit off each number.
#[inline]
fn digits<'b>(
    bytes: impl Iterator<Item = &'b mut u8>,
    numbers: &mut [i64],
    position: Position,
    split: impl Fn(u64) -> (u64, u64),
) {
    for (to, number) in bytes.zip(numbers) {
        let (rest, digit) = split(number.cast_unsigned());
        *to = position.byte(low_byte(digit));
        *number = rest.cast_signed();
    }
}

/// Divides by `radix`, from 2 to 256, where a machine's own division would take most of the time: quotient and rest. The quotient by
/// the rounded-down reciprocal is at most one too small.
#[inline]
fn divider(radix: u64) -> impl Fn(u64) -> (u64, u64) {
    let reciprocal = (1u128 << 64) / u128::from(radix);
    move |number| {
        let quotient = low_u64((u128::from(number) * reciprocal) >> 64);
        let rest = number.wrapping_sub(quotient.wrapping_mul(radix));
        let one = u64::from(rest >= radix);
        (quotient + one, rest.wrapping_sub(one * radix))
    }
}

/// The lower half.
#[inline]
fn low_u64(wide: u128) -> u64 {
    u64::try_from(wide & u128::from(u64::MAX)).unwrap_or_default()
}

/// How many of these positions the first group has.
#[inline]
fn group_len(positions: impl Iterator<Item = Position>) -> usize {
    let (mut len, mut product) = (0, 1u64);
    for position in positions {
        product = product.saturating_mul(position.radix());
        // One position always fits.
        if product > NUMBER_MAX {
            break;
        }
        len += 1;
    }
    len
}

/// Numerals about to be written.
#[derive(Debug)]
pub(super) struct NumeralsPlan {
    positions: Vec<Position>,
    groups: Vec<(Vec<i64>, Plan)>,
}

impl NumeralsPlan {
    /// How to write `strings`, all of `length` bytes, as numbers; nothing where that would save little.
    pub(super) fn of(strings: &[&[u8]], length: usize) -> Option<NumeralsPlan> {
        if length == 0 || length > LENGTH_MAX || strings.len() < 2 {
            return None;
        }
        let positions = positions_of(strings, length);
        let bits: u32 = positions.iter().map(|position| bit_width(u64::from(position.above))).sum();
        if bits as usize * 16 > length * 8 * 15 {
            return None;
        }
        let mut groups = Vec::new();
        let mut first = 0;
        while first < length {
            let length = group_len(positions.iter().skip(first).copied());
            let numbers = numbers_of(strings, &positions, first..first + length);
            let plan = Plan::of(&numbers);
            groups.push((numbers, plan));
            first += length;
        }
        Some(NumeralsPlan { positions, groups })
    }

    /// Bytes that [`NumeralsPlan::write`] appends.
    pub(super) fn bytes(&self) -> usize {
        1 + 2 * self.positions.len() + self.groups.iter().map(|(_, plan)| plan.bytes()).sum::<usize>()
    }

    /// Appends the strings that the plan was made of.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(low_byte(self.positions.len() as u64));
        for position in &self.positions {
            out.extend_from_slice(&[position.least, position.above]);
        }
        self.groups.iter().for_each(|(numbers, plan)| plan.write(numbers, out));
    }
}

/// The strings' numbers in one group of positions. Position by position, because all strings share a position's radix; what never
/// varies there adds nothing.
fn numbers_of(strings: &[&[u8]], positions: &[Position], group: Range<usize>) -> Vec<i64> {
    let mut numbers = vec![0u64; strings.len()];
    for at in group {
        let Some(position) = positions.get(at).filter(|position| position.above > 0) else { continue };
        let radix = position.radix();
        for (number, string) in numbers.iter_mut().zip(strings) {
            let digit = position.digit(string.get(at).copied().unwrap_or_default());
            *number = number.wrapping_mul(radix).wrapping_add(u64::from(digit));
        }
    }
    numbers.into_iter().map(u64::cast_signed).collect()
}

fn positions_of(strings: &[&[u8]], length: usize) -> Vec<Position> {
    // Apart from each other, so that many positions are looked at at once.
    let (mut lows, mut highs, mut others) = (vec![u8::MAX; length], vec![u8::MIN; length], vec![false; length]);
    for string in strings {
        lows.iter_mut().zip(*string).for_each(|(low, byte)| *low = (*low).min(*byte));
        highs.iter_mut().zip(*string).for_each(|(high, byte)| *high = (*high).max(*byte));
        let is_other = |byte: u8| byte.wrapping_sub(b'0') > 9 && byte.wrapping_sub(b'a') > 5;
        others.iter_mut().zip(*string).for_each(|(other, byte)| *other |= is_other(*byte));
    }
    let seen = lows.into_iter().zip(highs).zip(others).map(|((low, high), other)| (low, high, !other));
    let position = |(low, high, hex): (u8, u8, bool)| match high.saturating_sub(low) {
        0 => Position { least: low, above: 0 },
        _ if low >= b'0' && high <= b'9' => Position { least: b'0', above: 9 },
        16.. if hex => Position::HEX,
        above => Position { least: low, above },
    };
    seen.map(position).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divisions_come_out_right() {
        for radix in 2..=256u64 {
            let divide = divider(radix);
            let around = |number: u64| (number.saturating_sub(2)..=number + 2).map(move |number| (number, radix));
            let edges = (0..62).map(|bit| 1 << bit).chain((0..55).map(|bit| radix << bit)).flat_map(around);
            for (number, radix) in edges.chain(around(NUMBER_MAX)).filter(|(number, _)| *number <= NUMBER_MAX) {
                assert_eq!(divide(number), (number / radix, number % radix), "{number} by {radix}");
            }
        }
    }
}
