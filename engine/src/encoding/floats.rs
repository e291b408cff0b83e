/*!
Floats: decimals where they are decimals, else the bits.

```text
    decimal (ALP)   +----------+-------------------------------------------+----------+
                    | exponent | exceptions: count varint, positions of 10 | integers |
                    | 1 B      | bits, each one's bits in 4 or 8 bytes     |          |
                    +----------+-------------------------------------------+----------+
                    value(i) = integer(i) / 10^exponent, but for exceptions
    bits            +-------+----------+
                    | shift | integers |   bits of value(i) = integer(i) << shift
                    | 1 B   |          |
                    +-------+----------+
```

Most floats people store were decimals once: 0.0125 is the double nearest to 125 / 10^4. ALP (SIGMOD 2024) finds the
exponent and stores the integer. We divide by the power of ten where ALP multiplies by its inverse: a correctly rounded
quotient of two exact doubles *is* the double nearest to the decimal, so one exponent does where ALP needs two factors.
Every value is checked bit for bit while it is encoded; NaNs, infinities, −0 and what is no short decimal are exceptions.

Floats that are no decimals keep their bits, as integers: neighbours mostly share sign and exponent, which the frame takes
off, and floats that were once narrower share zeros at the end, which the shift takes off.
*/

use super::bits::low_byte;
use super::bits::{Packed, pack, packed_len};
use super::integers::{Integers, Plan};
use crate::bytes::{Input, put_varint, varint_len};
use crate::error::{Error, Result};
use crate::limits::SLICE_ROWS_MAX;

/// Digits after the point, at most. Doubles hold powers of ten exactly up to 10^22; decimals with more than 17 digits are rare.
const EXPONENT_MAX: usize = 17;
/// Integers of decimals stay below 2^51, where adding and subtracting 1.5 × 2^52 rounds and converts.
const DECIMAL_MAX: f64 = (1u64 << 51) as f64;
const MAGIC: f64 = 6_755_399_441_055_744.0;
const POSITION_BITS: u32 = 10;
const POWERS: [f64; EXPONENT_MAX + 1] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17];

/// A float of 32 or 64 bits.
pub(super) trait Float: Copy + Default {
    /// Its bytes.
    const BYTES: usize;
    /// Its bits, in the low bits of the number.
    fn bits(self) -> u64;
    /// The float with these bits.
    fn of_bits(bits: u64) -> Self;
    /// The same as a double.
    fn widen(self) -> f64;
    /// The nearest float of this kind.
    fn nearest(value: f64) -> Self;
}

impl Float for f64 {
    const BYTES: usize = 8;
    fn bits(self) -> u64 {
        self.to_bits()
    }
    fn of_bits(bits: u64) -> Self {
        f64::from_bits(bits)
    }
    fn widen(self) -> f64 {
        self
    }
    fn nearest(value: f64) -> Self {
        value
    }
}

impl Float for f32 {
    const BYTES: usize = 4;
    fn bits(self) -> u64 {
        self.to_bits().into()
    }
    #[expect(clippy::cast_possible_truncation, reason = "the bits of a 32-bit float are the low 32")]
    fn of_bits(bits: u64) -> Self {
        f32::from_bits(bits as u32)
    }
    fn widen(self) -> f64 {
        self.into()
    }
    #[expect(clippy::cast_possible_truncation, reason = "rounding to the nearest is what is asked for")]
    fn nearest(value: f64) -> Self {
        value as f32
    }
}

/// Decimal floats, read in place.
#[derive(Debug, Clone)]
pub(super) struct Decimals<'a> {
    power: f64,
    integers: Integers<'a>,
    exceptions: usize,
    positions: Packed<'a>,
    bits: Packed<'a>,
}

impl<'a> Decimals<'a> {
    /// Takes `count` decimals of `bytes` bytes each off the input.
    pub(super) fn open(input: &mut Input<'a>, count: usize, bytes: usize) -> Result<Self> {
        let exponent = usize::from(input.byte()?);
        let power = POWERS
            .get(exponent)
            .copied()
            .ok_or_else(|| Error::corruption(format!("decimal floats with {exponent} digits after the point")))?;
        let exceptions = input.count(count, "exceptions")?;
        let positions = Packed::open(input, exceptions, POSITION_BITS)?;
        let bits = Packed::open(input, exceptions, if bytes == 4 { 32 } else { 64 })?;
        Ok(Decimals { power, integers: Integers::open(input, count)?, exceptions, positions, bits })
    }

    /// The float at `index`, which must be below the count.
    pub(super) fn get<F: Float>(&self, index: usize) -> F {
        let exception = self.first(index);
        if exception < self.exceptions && self.position(exception) == index {
            return F::of_bits(self.bits.get(exception));
        }
        F::nearest(whole(self.integers.get(index)) / self.power)
    }

    /// Decodes `out.len()` floats from `start` on.
    pub(super) fn decode<F: Float>(&self, start: usize, out: &mut [F]) {
        let mut block = [0i64; 128];
        let mut at = start;
        for chunk in out.chunks_mut(block.len()) {
            let block = block.get_mut(..chunk.len()).unwrap_or_default();
            self.integers.decode(at, block);
            chunk.iter_mut().zip(block.iter()).for_each(|(to, from)| *to = F::nearest(whole(*from) / self.power));
            at += chunk.len();
        }
        for exception in self.first(start)..self.exceptions {
            let Some(to) = out.get_mut(self.position(exception).wrapping_sub(start)) else { break };
            *to = F::of_bits(self.bits.get(exception));
        }
    }

    fn position(&self, exception: usize) -> usize {
        usize::try_from(self.positions.get(exception)).unwrap_or(SLICE_ROWS_MAX)
    }

    /// The first exception at or after `index`.
    fn first(&self, index: usize) -> usize {
        let (mut low, mut high) = (0, self.exceptions);
        while low < high {
            let middle = (low + high) / 2;
            if self.position(middle) < index { low = middle + 1 } else { high = middle }
        }
        low
    }
}

/// The double equal to an integer below 2^51 in size; some double for any other, which only damaged bytes hold.
#[inline]
fn whole(integer: i64) -> f64 {
    f64::from_bits(MAGIC.to_bits().wrapping_add(integer.cast_unsigned())) - MAGIC
}

/// Decimal floats about to be written.
#[derive(Debug)]
pub(super) struct DecimalPlan {
    exponent: usize,
    integers: Vec<i64>,
    plan: Plan,
    exceptions: Vec<(usize, u64)>,
    bytes: usize,
}

impl DecimalPlan {
    /// The smallest way to write `values` as decimals; nothing where most of them are none.
    pub(super) fn of<F: Float>(values: &[F]) -> Option<DecimalPlan> {
        let exponent = exponent_of(values)?;
        let power = POWERS.get(exponent).copied()?;
        let mut integers = Vec::with_capacity(values.len());
        let mut all_exact = true;
        for value in values {
            let (integer, exact) = decimal(*value, power);
            integers.push(integer);
            all_exact &= exact;
        }
        let mut exceptions = Vec::new();
        if !all_exact {
            take_exceptions(values, power, &mut integers, &mut exceptions)?;
        }
        let plan = Plan::of(&integers);
        let count = exceptions.len();
        let bytes = 1 + varint_len(count as u64) + packed_len(count, POSITION_BITS) + count * F::BYTES + plan.bytes();
        Some(DecimalPlan { exponent, integers, plan, exceptions, bytes })
    }

    /// Bytes that [`DecimalPlan::write`] appends.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends the floats that the plan was made of.
    pub(super) fn write<F: Float>(&self, out: &mut Vec<u8>) {
        out.push(low_byte(self.exponent as u64));
        put_varint(out, self.exceptions.len() as u64);
        pack(self.exceptions.iter().map(|(at, _)| *at as u64), POSITION_BITS, out);
        pack(self.exceptions.iter().map(|(_, bits)| *bits), if F::BYTES == 4 { 32 } else { 64 }, out);
        self.plan.write(&self.integers, out);
    }
}

/// The integer that `value` is at this power of ten, and whether it comes back from it bit for bit.
#[inline]
fn decimal<F: Float>(value: F, power: f64) -> (i64, bool) {
    let scaled = value.widen() * power;
    let magic = scaled + MAGIC;
    let integer = magic.to_bits().wrapping_sub(MAGIC.to_bits()).cast_signed();
    let exact = (scaled.abs() < DECIMAL_MAX) & (F::nearest((magic - MAGIC) / power).bits() == value.bits());
    (integer, exact)
}

/// Notes the values that are no decimals, and has the integer before (or the first that is one) stand in for each.
fn take_exceptions<F: Float>(
    values: &[F],
    power: f64,
    integers: &mut [i64],
    exceptions: &mut Vec<(usize, u64)>,
) -> Option<()> {
    let mut filler = values.iter().map(|value| decimal(*value, power)).find(|(_, exact)| *exact)?.0;
    for (at, (value, integer)) in values.iter().zip(integers).enumerate() {
        if decimal(*value, power).1 {
            filler = *integer;
        } else {
            *integer = filler;
            exceptions.push((at, value.bits()));
        }
    }
    Some(())
}

/// The number of digits after the point that takes the fewest bits, judged by a sample; nothing where most of the sample
/// are no decimals.
fn exponent_of<F: Float>(values: &[F]) -> Option<usize> {
    const SAMPLE: usize = 24;
    let stride = values.len().div_ceil(SAMPLE).max(1);
    let (mut sampled, mut found, mut of_exponent) = (0usize, 0usize, [0usize; EXPONENT_MAX + 1]);
    for value in values.iter().step_by(stride) {
        sampled += 1;
        if let Some(count) = digits(*value).and_then(|digits| of_exponent.get_mut(digits)) {
            *count += 1;
            found += 1;
        }
    }
    if found * 2 < sampled {
        return None;
    }
    // Each digit costs 3.3 bits of every value; each value left out costs about its own size and a position.
    let cost = |exponent: usize| {
        let left_out: usize = sampled - of_exponent.iter().take(exponent + 1).sum::<usize>();
        sampled * exponent * 10 + left_out * (F::BYTES * 8 + 10) * 3
    };
    (0..=EXPONENT_MAX).filter(|e| of_exponent.get(*e).is_some_and(|count| *count > 0)).min_by_key(|e| cost(*e))
}

/// The digits after the point that `value` needs.
fn digits<F: Float>(value: F) -> Option<usize> {
    POWERS.iter().position(|power| decimal(value, *power).1)
}

/// Floats kept as their bits, read in place.
#[derive(Debug, Clone)]
pub(super) struct Bits<'a> {
    shift: u32,
    integers: Integers<'a>,
}

impl<'a> Bits<'a> {
    /// Takes `count` floats off the input.
    pub(super) fn open(input: &mut Input<'a>, count: usize) -> Result<Self> {
        let shift = u32::from(input.byte()?);
        if shift > 63 {
            return Err(Error::corruption(format!("bits of floats shifted by {shift}")));
        }
        Ok(Bits { shift, integers: Integers::open(input, count)? })
    }

    /// The integers that the bits are.
    pub(super) fn integers(&self) -> &Integers<'a> {
        &self.integers
    }

    /// The float at `index`, which must be below the count.
    pub(super) fn get<F: Float>(&self, index: usize) -> F {
        F::of_bits(self.integers.get(index).cast_unsigned() << self.shift)
    }

    /// Decodes `out.len()` floats from `start` on.
    pub(super) fn decode<F: Float>(&self, start: usize, out: &mut [F]) {
        let mut block = [0i64; 128];
        let mut at = start;
        for chunk in out.chunks_mut(block.len()) {
            let block = block.get_mut(..chunk.len()).unwrap_or_default();
            self.integers.decode(at, block);
            chunk
                .iter_mut()
                .zip(block.iter())
                .for_each(|(to, from)| *to = F::of_bits(from.cast_unsigned() << self.shift));
            at += chunk.len();
        }
    }
}

/// The bits of floats about to be written.
#[derive(Debug)]
pub(super) struct BitsPlan {
    shift: u32,
    integers: Vec<i64>,
    plan: Plan,
}

impl BitsPlan {
    /// The smallest way to write the bits of `values`.
    pub(super) fn of<F: Float>(values: impl Iterator<Item = F> + Clone) -> BitsPlan {
        let shift = values.clone().fold(0, |all, value| all | value.bits()).trailing_zeros() % 64;
        let integers: Vec<i64> = values.map(|value| (value.bits() >> shift).cast_signed()).collect();
        BitsPlan { shift, plan: Plan::of(&integers), integers }
    }

    /// Bytes that [`BitsPlan::write`] appends.
    pub(super) fn bytes(&self) -> usize {
        1 + self.plan.bytes()
    }

    /// Appends the floats that the plan was made of.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(low_byte(self.shift.into()));
        self.plan.write(&self.integers, out);
    }
}
