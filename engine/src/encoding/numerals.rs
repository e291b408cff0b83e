/*!
Strings of one length as numbers: codes, digits, hex, dates, and what varies in every bit.

```text
    +------------+-------------------------------------+-----------------------------+------------------------+
    | length: 1 B| for each position: least byte, 1 B; | directory: groups, 1 B;     | the groups' bodies,    |
    | 1 to 64    | greatest byte above it, 1 B         | for each what it is, 1 B,   | first to last          |
    |            |                                     | and a number's body, varint |                        |
    +------------+-------------------------------------+-----------------------------+------------------------+
    a position's radix is the second byte + 1; its digit is the string's byte − least
    least 0xff stands for lower-case hex digits: radix 16
    what a group is: positions − 1 in bits 0–5; bits 6–7
        0 number     the strings' numbers as integers; their bytes stand in the directory
        1 raw        the strings' bytes, string after string
        2 constant   nothing: every position has its least byte
    the product of a number's radixes is at most 2^62; a group's number is its digits, the first one the most significant
```

An airport's code of three letters takes 15 bits instead of 24, 32 hex digits 16 bytes, and a separator that never varies
nothing. Positions that hold decimal digits always have radix 10: so `"00000099"` and `"00000100"` are neighbours, and ids
that count up are a line. Where nearly all 256 bytes occur, as in hashes and random ids, numbers save nothing and cost a
division a byte: four such positions and more are stored as they are, and fewer of them have radix 256.

Numbers and bytes are in the order of the strings, so that a sorted vector is searched by its first group (`heads`).

Runs of format 1 (shape 3) have no directory: there positions make one number, first to last, while the product of their radixes is
at most 2^62.
*/

use super::bits::{bit_width, low_byte};
use super::heads::{Heads, Source};
use super::integers::{Integers, Plan};
use crate::bytes::{Input, put_varint, varint_len};
use crate::error::{Error, Result};
use std::ops::Range;

/// The most positions; longer strings are rarely of one length.
const LENGTH_MAX: usize = 64;
/// The most that a group's number can be, so that it is never negative.
const NUMBER_MAX: u64 = 1 << 62;
/// A position whose bytes spread so far has all 256 for its digits: that costs less than a tenth of a bit.
const ABOVE_FULL: u8 = 240;
/// So many full positions are stored as they are.
const RAW_MIN: usize = 4;

const NUMBER: u8 = 0;
const RAW: u8 = 1;
const CONSTANT: u8 = 2;

/// What the strings have at one position.
#[derive(Debug, Clone, Copy)]
struct Position {
    least: u8,
    above: u8,
}

impl Position {
    /// No byte is above 0xff, so a position that varies cannot have it for its least.
    const HEX: Position = Position { least: 0xff, above: 15 };

    /// Every byte is its own digit.
    const FULL: Position = Position { least: 0, above: u8::MAX };

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

    fn is_full(self) -> bool {
        self.above == u8::MAX
    }

    /// How many digits stand for lesser bytes, and whether one stands for this byte.
    fn rank(self, byte: u8) -> (u64, bool) {
        let (digit, exact) = match byte {
            _ if !self.is_hex() && byte < self.least => (0, false),
            _ if !self.is_hex() => {
                return (u64::from(byte - self.least).min(self.radix()), byte - self.least <= self.above);
            }
            b'0'..=b'9' => (byte - b'0', true),
            b'a'..=b'f' => (byte - b'a' + 10, true),
            ..b'0' => (0, false),
            b':'..b'a' => (10, false),
            _ => (16, false),
        };
        (u64::from(digit), exact)
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
    /// What the groups are; `None` in runs of format 1.
    directory: Option<&'a [u8]>,
    /// The groups' bodies, one after another.
    body: &'a [u8],
}

/// The groups of some numerals, first to last.
struct Groups<'a> {
    positions: &'a [[u8; 2]],
    count: usize,
    directory: Option<Input<'a>>,
    body: Input<'a>,
}

/// A group's positions, and what it stores for them.
type Group<'a> = (&'a [[u8; 2]], Body<'a>);

enum Body<'a> {
    /// Of each string a number: not yet opened.
    Number(Input<'a>),
    /// Of each string as many bytes as the group has positions.
    Raw(&'a [u8]),
    Constant,
}

impl<'a> Groups<'a> {
    /// The next group's positions and body; `None` after the last.
    #[inline]
    fn next(&mut self) -> Result<Option<Group<'a>>> {
        if self.positions.is_empty() {
            return Ok(None);
        }
        let (len, kind) = match &mut self.directory {
            Some(directory) => {
                let what = directory.byte()?;
                (usize::from(what & 0x3f) + 1, what >> 6)
            }
            None => (group_len(self.positions.iter().map(|position| Position::of(*position))), NUMBER),
        };
        let short = || Error::corruption("a group of numerals has more positions than are left");
        let (group, rest) = self.positions.split_at_checked(len).ok_or_else(short)?;
        self.positions = rest;
        let body = match (kind, &mut self.directory) {
            (NUMBER, Some(directory)) => {
                let bytes = directory.count(self.body.left(), "bytes of numbers")?;
                Body::Number(Input::new(self.body.take(bytes)?, "numerals"))
            }
            (NUMBER, None) => {
                let from = self.body.clone();
                Integers::open(&mut self.body, self.count)?;
                Body::Number(from)
            }
            (RAW, _) => Body::Raw(self.body.take(len * self.count)?),
            (CONSTANT, _) => Body::Constant,
            (kind, _) => return Err(Error::corruption(format!("a group of numerals of unknown kind {kind}"))),
        };
        Ok(Some((group, body)))
    }
}

impl<'a> Numerals<'a> {
    /// Takes `count` strings off the input; `with_directory` but in runs of format 1.
    pub(super) fn open(input: &mut Input<'a>, count: usize, with_directory: bool) -> Result<Self> {
        let length = usize::from(input.byte()?);
        if length == 0 || length > LENGTH_MAX {
            return Err(Error::corruption(format!("numerals of {length} positions")));
        }
        let (positions, _) = input.take(2 * length)?.as_chunks::<2>();
        let mut numerals = Numerals { positions, count, directory: None, body: &[] };
        if with_directory {
            let entries = input.clone();
            let bytes = numerals.take_directory(input)?;
            let read = entries.left() - input.left();
            numerals.directory = Some(entries.clone().take(read)?.get(1..).unwrap_or_default());
            numerals.body = input.take(bytes)?;
        } else {
            let mut groups = Groups { body: input.clone(), ..numerals.groups() };
            while groups.next()?.is_some() {}
            numerals.body = input.take(input.left() - groups.body.left())?;
        }
        Ok(numerals)
    }

    /// Takes the directory off the input, and gives the bytes of all bodies.
    #[inline]
    fn take_directory(&self, input: &mut Input<'a>) -> Result<usize> {
        let (mut positions, mut bytes) = (0, 0usize);
        for _ in 0..input.byte()? {
            let what = input.byte()?;
            let len = usize::from(what & 0x3f) + 1;
            positions += len;
            bytes += match what >> 6 {
                NUMBER => input.count(input.left(), "bytes of numbers")?,
                RAW => len * self.count,
                CONSTANT => 0,
                kind => return Err(Error::corruption(format!("a group of numerals of unknown kind {kind}"))),
            };
        }
        if positions != self.positions.len() {
            return Err(Error::corruption("the groups of numerals have other positions than they should"));
        }
        Ok(bytes)
    }

    fn groups(&self) -> Groups<'a> {
        let directory = self.directory.map(|entries| Input::new(entries, "a directory of numerals"));
        Groups { positions: self.positions, count: self.count, directory, body: Input::new(self.body, "numerals") }
    }

    /// Bytes of each string.
    pub(super) fn length(&self) -> usize {
        self.positions.len()
    }

    /// What the strings begin with, as numbers of the same order.
    pub(super) fn heads<'v>(&self) -> Result<Heads<'v, 'a>> {
        match self.groups().next()? {
            Some((positions, Body::Number(mut body))) => {
                Ok(Heads(Source::Numbers { integers: Integers::open(&mut body, self.count)?, positions }))
            }
            Some((positions, Body::Raw(data))) => Ok(Heads(Source::Fixed { data, length: positions.len() })),
            // They all begin alike, which says nothing.
            Some((_, Body::Constant)) | None => Ok(Heads(Source::Fixed { data: &[], length: 0 })),
        }
    }

    /// Appends the string at `index`.
    pub(super) fn get(&self, index: usize, out: &mut Vec<u8>) -> Result<()> {
        let mut string = [0u8; LENGTH_MAX];
        let mut rest = string.as_mut_slice();
        let mut groups = self.groups();
        while let Some((positions, body)) = groups.next()? {
            let (bytes, tail) = rest.split_at_mut_checked(positions.len()).unwrap_or_default();
            match body {
                Body::Number(mut body) => {
                    write_number(Integers::open(&mut body, self.count)?.get(index), positions, bytes);
                }
                Body::Raw(data) => {
                    let start = index * positions.len();
                    bytes.copy_from_slice(data.get(start..start + positions.len()).ok_or_else(no_string)?);
                }
                Body::Constant => bytes.iter_mut().zip(positions).for_each(|(to, [least, _])| *to = *least),
            }
            rest = tail;
        }
        out.extend_from_slice(string.get(..self.length()).unwrap_or_default());
        Ok(())
    }

    /// The strings of `rows`, `prefix` before each. Position by position, because all strings share a position's radix.
    pub(super) fn decode(&self, prefix: &[u8], rows: &Range<usize>) -> Result<Vec<u8>> {
        // What varies is written over this.
        let constant: Vec<u8> = prefix.iter().chain(self.positions.iter().map(|[least, _]| least)).copied().collect();
        let mut out = constant.repeat(rows.len());
        let mut raw = Vec::new();
        let mut first = prefix.len();
        let mut groups = self.groups();
        while let Some((positions, body)) = groups.next()? {
            match body {
                Body::Number(mut body) => {
                    raw.resize(rows.len(), 0);
                    Integers::open(&mut body, self.count)?.decode(rows.start, &mut raw);
                    write_numbers(&mut raw, positions, first, constant.len(), &mut out);
                }
                Body::Raw(data) => {
                    let data = data.get(rows.start * positions.len()..).ok_or_else(no_string)?;
                    let strings = out.chunks_exact_mut(constant.len()).zip(data.chunks_exact(positions.len()));
                    for (to, from) in
                        strings.filter_map(|(to, from)| Some((to.get_mut(first..first + from.len())?, from)))
                    {
                        to.copy_from_slice(from);
                    }
                }
                Body::Constant => {}
            }
            first += positions.len();
        }
        Ok(out)
    }
}

fn no_string() -> Error {
    Error::corruption("a string lies outside of its numerals")
}

/// The number that divides those of these positions as `target` divides their strings: lesser ones are of lesser strings, greater ones
/// of greater strings.
pub(super) fn number_dividing(target: &[u8], positions: &[[u8; 2]]) -> i64 {
    let mut bytes = target.iter();
    // Whether there can be a string that begins like the target as far as this.
    let mut alike = true;
    let mut number = 0u64;
    for position in positions {
        let position = Position::of(*position);
        let next = if alike { bytes.next() } else { None };
        let (digit, exact) = next.map_or((0, false), |byte| position.rank(*byte));
        number = number.wrapping_mul(position.radix()).wrapping_add(digit);
        alike = exact;
    }
    number.cast_signed()
}

/// The bytes that a group's number stands for.
#[inline]
fn write_number(number: i64, positions: &[[u8; 2]], bytes: &mut [u8]) {
    let mut number = number.cast_unsigned();
    for (to, position) in bytes.iter_mut().zip(positions).rev() {
        let position = Position::of(*position);
        let digit = match position.radix() {
            1 => 0,
            256 => {
                let digit = number & 0xff;
                number >>= 8;
                digit
            }
            radix => {
                let digit = number % radix;
                number /= radix;
                digit
            }
        };
        *to = position.byte(low_byte(digit));
    }
}

/// The bytes that the numbers of a group stand for, from byte `first` of each `stride` bytes on, where each position has its least byte.
fn write_numbers(numbers: &mut [i64], positions: &[[u8; 2]], first: usize, stride: usize, out: &mut [u8]) {
    for (at, position) in positions.iter().enumerate().rev() {
        let position = Position::of(*position);
        let bytes = out.iter_mut().skip(first + at).step_by(stride);
        match position.radix() {
            1 => {}
            10 => digits(bytes, numbers, position, |number| (number / 10, number % 10)),
            16 => digits(bytes, numbers, position, |number| (number / 16, number % 16)),
            26 => digits(bytes, numbers, position, |number| (number / 26, number % 26)),
            256 => digits(bytes, numbers, position, |number| (number >> 8, number & 0xff)),
            radix => digits(bytes, numbers, position, divider(radix)),
        }
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
pub(super) struct NumeralsPlan<'s> {
    positions: Vec<Position>,
    groups: Vec<GroupPlan<'s>>,
}

/// A group about to be written, and how many positions it has.
#[derive(Debug)]
enum GroupPlan<'s> {
    Number { positions: usize, numbers: Vec<i64>, plan: Plan },
    Raw(Vec<&'s [u8]>),
    Constant(usize),
}

impl GroupPlan<'_> {
    fn positions(&self) -> usize {
        match self {
            GroupPlan::Number { positions, .. } | GroupPlan::Constant(positions) => *positions,
            GroupPlan::Raw(strings) => strings.first().map_or(0, |string| string.len()),
        }
    }

    /// Bytes of its entry in the directory and of its body.
    fn bytes(&self) -> usize {
        1 + match self {
            GroupPlan::Number { plan, .. } => varint_len(plan.bytes() as u64) + plan.bytes(),
            GroupPlan::Raw(strings) => strings.len() * self.positions(),
            GroupPlan::Constant(_) => 0,
        }
    }
}

impl<'s> NumeralsPlan<'s> {
    /// How to write `strings`, all of `length` bytes, as numbers; nothing where that would save little.
    pub(super) fn of(strings: &[&'s [u8]], length: usize) -> Option<NumeralsPlan<'s>> {
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
            let rest = positions.get(first..).unwrap_or_default();
            let leading = |is: fn(&Position) -> bool| rest.iter().take_while(|position| is(position)).count();
            let (constant, full) = (leading(|position| position.above == 0), leading(|position| position.is_full()));
            let group = match (constant, full) {
                (1.., _) => GroupPlan::Constant(constant),
                (_, RAW_MIN..) => {
                    let part = |string: &&'s [u8]| string.get(first..first + full).unwrap_or_default();
                    GroupPlan::Raw(strings.iter().map(part).collect())
                }
                _ => {
                    let len = group_len(rest.iter().copied());
                    let numbers = numbers_of(strings, &positions, first..first + len);
                    let plan = Plan::of(&numbers);
                    GroupPlan::Number { positions: len, numbers, plan }
                }
            };
            first += group.positions();
            groups.push(group);
        }
        Some(NumeralsPlan { positions, groups })
    }

    /// Bytes that [`NumeralsPlan::write`] appends.
    pub(super) fn bytes(&self) -> usize {
        2 + 2 * self.positions.len() + self.groups.iter().map(GroupPlan::bytes).sum::<usize>()
    }

    /// Appends the strings that the plan was made of.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(low_byte(self.positions.len() as u64));
        for position in &self.positions {
            out.extend_from_slice(&[position.least, position.above]);
        }
        out.push(low_byte(self.groups.len() as u64));
        for group in &self.groups {
            let kind = match group {
                GroupPlan::Number { .. } => NUMBER,
                GroupPlan::Raw(_) => RAW,
                GroupPlan::Constant(_) => CONSTANT,
            };
            out.push(kind << 6 | low_byte(group.positions().saturating_sub(1) as u64));
            if let GroupPlan::Number { plan, .. } = group {
                put_varint(out, plan.bytes() as u64);
            }
        }
        for group in &self.groups {
            match group {
                GroupPlan::Number { numbers, plan, .. } => plan.write(numbers, out),
                GroupPlan::Raw(strings) => strings.iter().for_each(|string| out.extend_from_slice(string)),
                GroupPlan::Constant(_) => {}
            }
        }
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
        ABOVE_FULL.. => Position::FULL,
        above => Position { least: low, above },
    };
    seen.map(position).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Strings as runs of format 1 have them: no directory, and one number after another.
    #[test]
    fn numerals_without_a_directory_are_read() {
        let mix = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        let strings: Vec<Vec<u8>> = (0..50).map(|n| [&mix(n)[..], b"--", &mix(n + 50)[..]].concat()).collect();
        let strings: Vec<&[u8]> = strings.iter().map(Vec::as_slice).collect();
        let positions = positions_of(&strings, 18);
        let mut bytes = vec![18];
        positions.iter().for_each(|position| bytes.extend([position.least, position.above]));
        let mut first = 0;
        while first < 18 {
            let len = group_len(positions[first..].iter().copied());
            let numbers = numbers_of(&strings, &positions, first..first + len);
            Plan::of(&numbers).write(&numbers, &mut bytes);
            first += len;
        }
        let mut input = Input::new(&bytes, "a test");
        let numerals = Numerals::open(&mut input, 50, false).unwrap();
        input.end().unwrap();
        assert_eq!(numerals.decode(&[], &(0..50)).unwrap(), strings.concat());
        let mut each = Vec::new();
        (0..50).for_each(|index| numerals.get(index, &mut each).unwrap());
        assert_eq!(each, strings.concat());
    }

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
