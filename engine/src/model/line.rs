/*!
The learned part: lines through the heads of slices, and what each slice is off its line.

A *segment* is a stretch of slices, from slice `start` with head `x0`, whose heads lie within ε slices of one line. With F
fraction bits, the line says of a head k ≥ x0 at which slice of the segment it lies, in units of 2⁻ᶠ slice:

```text
    m(k) = ((k − x0) as u128 · slope) >> shift
```

Integers only: subtracted first, exactly monotone, the same on every machine. A slice's *residual* is m(its head) less its
own place: 16 bits, since F is chosen so that ε slices are 2¹⁵ units. Line and residual together give a threshold

```text
    T[b] = (b << F) + residual[b]      and      the slice of k is the last b with T[b] ≤ m(k)
```

All thresholds of slices more than ε away from m(k) are on their side of it, so 2ε residuals are compared, at once, and lie in one
cache line or two. A segment's first slice is exact: segments are found by x0 itself, in an S+-tree (model/stree.rs).

Where a slice's threshold cannot tell its first key from the last key before it (m is equal for both), the slice is an
*exception*: its residual is [`EXCEPTION`], its head is kept whole, and k is compared with that. Since m is monotone, to
separate these two keys is to separate all keys on either side.

```text
    u8 ε: a power of two, at most 64 │ u32 segments │ u32 exceptions
    segments × u64 x0, ascending │ segments × u64 slope │ segments × u32 start, ascending from 0
    slices × i16 residual; −32768 marks an exception │ exceptions × u32 slice │ exceptions × u64 head, both ascending
    slope: its low 7 bits are the shift, the others the factor; F = log2(2¹⁵ / ε)
```

The fit is the anchored greedy cone: one pass, constant work a slice, at most 1.4 times the segments of the optimum on
measured data (FITing-tree, SIGMOD 2019; `pgm` spends five times as long on the optimum).
*/

use super::prefetch::prefetch;
use super::simd::{Kernel, Search, Simd, WINDOW};
use super::stree::{BATCH, STree};
use super::wire::damaged;
use crate::bytes::Input;
use crate::error::Result;

/// Marks a slice whose head is kept whole.
const EXCEPTION: i16 = i16::MIN;
/// Bits of a slope's word that hold its shift.
const SHIFT_BITS: u32 = 7;
/// Residuals span this many units of the line to either side.
const RESIDUAL_SPAN: u64 = 1 << 15;
/// Widest window that a search may have to read.
pub(super) const EPSILON_MAX: usize = 64;

/// Serialized bytes of a segment: head, slope, first slice.
pub(super) const SEGMENT_BYTES: usize = 8 + 8 + 4;
/// Serialized bytes of an exception: slice, head.
pub(super) const EXCEPTION_BYTES: usize = 4 + 8;

/// Lines over the heads of slices.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    epsilon: usize,
    fraction: u32,
    /// Heads of the segments' first slices.
    origins: STree,
    segments: Vec<Segment>,
    /// One a slice, and a window's worth of zeros, so that a whole window can be read anywhere.
    residuals: Vec<i16>,
    exceptions: Exceptions,
}

/// A segment's line and its slices.
#[derive(Debug, Clone, Copy, Default)]
struct Segment {
    slope: Slope,
    start: u32,
    end: u32,
}

/// Slices whose heads are kept whole, ascending.
#[derive(Debug, Clone, Default)]
struct Exceptions {
    slices: Vec<u32>,
    heads: Vec<u64>,
}

/// A slope of at most 57 bits above its shift.
#[derive(Debug, Clone, Copy, Default)]
struct Slope(u64);

/// What a search found on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Found {
    pub(super) segment: usize,
    /// The slice that the line alone names.
    pub(super) predicted: usize,
    pub(super) slice: usize,
    pub(super) exception: bool,
}

impl Slope {
    const FLAT: Slope = Slope(0);

    fn new(slope: u64, shift: u32) -> Slope {
        Slope(slope << SHIFT_BITS | u64::from(shift))
    }

    /// m(x0 + distance), at most `max`.
    #[inline(always)]
    fn at(self, distance: u64, max: u64) -> u64 {
        let shift = self.0 & ((1 << SHIFT_BITS) - 1);
        let product = (u128::from(distance) * u128::from(self.0 >> SHIFT_BITS)) >> shift;
        u64::try_from(product).map_or(max, |units| units.min(max))
    }
}

impl Exceptions {
    /// Whether `k` reaches the head of this slice, which is an exception.
    #[cold]
    fn reached(&self, slice: usize, k: u64) -> bool {
        let place = self.slices.partition_point(|other| (*other as usize) < slice);
        self.heads.get(place).is_some_and(|head| *head <= k)
    }
}

/// Where a line says that a key lies.
#[derive(Clone, Copy, Default)]
pub(super) struct Guess {
    start: usize,
    len: usize,
    /// m(k), clamped to just beyond the segment.
    units: u64,
}

impl Lines {
    /// The slice whose head is the last one ≤ `k`; 0 where there is none.
    #[inline]
    pub(super) fn find(&self, k: u64) -> usize {
        self.explain(k).slice
    }

    /// As [`Self::find`], and how it came about.
    #[inline]
    pub(super) fn explain(&self, k: u64) -> Found {
        self.simd().run(Find { lines: self, k })
    }

    /// Finds many at once: first the segments, then their lines of residuals, so that cache misses overlap.
    pub(super) fn find_batch(&self, ks: &[u64; BATCH]) -> [usize; BATCH] {
        self.simd().run(FindBatch { lines: self, ks })
    }

    /// As [`Self::find`], with a kernel that the caller has; and where the line said that the key lies.
    #[inline(always)]
    pub(super) fn find_with<K: Kernel>(&self, kernel: K, k: u64) -> (usize, Guess) {
        let (_, guess) = self.guess_with(kernel, k);
        (self.settle(kernel, guess, k).0, guess)
    }

    #[inline(always)]
    fn guess_with<K: Kernel>(&self, kernel: K, k: u64) -> (usize, Guess) {
        let segment = self.origins.count_with(kernel, k).saturating_sub(1);
        (segment, self.guess(segment, k))
    }

    /// As [`Self::find_batch`], with a kernel that the caller has; and where the lines said that the keys lie.
    #[inline(always)]
    pub(super) fn find_batch_with<K: Kernel>(&self, kernel: K, ks: &[u64; BATCH]) -> ([usize; BATCH], [Guess; BATCH]) {
        let mut found = self.origins.count_batch_with(kernel, ks);
        for count in &mut found {
            *count = count.saturating_sub(1);
            prefetch(&self.segments, *count);
        }
        let mut guesses = [Guess::default(); BATCH];
        for ((guess, number), k) in guesses.iter_mut().zip(&found).zip(ks) {
            *guess = self.guess(*number, *k);
            prefetch(&self.residuals, guess.start + self.whole(guess.units));
        }
        for ((found, guess), k) in found.iter_mut().zip(&guesses).zip(ks) {
            *found = self.settle(kernel, *guess, *k).0;
        }
        (found, guesses)
    }

    /// Whether the guess lies in the second half of the slice that it was settled to, a slice being as wide as its line says.
    #[inline(always)]
    pub(super) fn in_second_half(&self, slice: usize, guess: Guess) -> bool {
        let place = (slice.saturating_sub(guess.start) as u64) << self.fraction;
        let residual = self.residuals.get(slice).copied().unwrap_or(0);
        let threshold = place.cast_signed() + i64::from(residual);
        guess.units.cast_signed() - threshold >= 1 << (self.fraction - 1)
    }

    /// The whole slices in so many units.
    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "guess() clamped the units to a segment's, whose length is a u32"
    )]
    fn whole(&self, units: u64) -> usize {
        (units >> self.fraction) as usize
    }

    /// Where the line of a segment says that `k` lies. What is before the first segment lies at its start.
    #[inline(always)]
    fn guess(&self, number: usize, k: u64) -> Guess {
        let Some(segment) = self.segments.get(number) else { return Guess::default() };
        let (start, len) = (segment.start as usize, segment.end.saturating_sub(segment.start) as usize);
        let beyond = (len + self.epsilon + 1) as u64;
        let distance = k.saturating_sub(self.origins.number(number));
        Guess { start, len, units: segment.slope.at(distance, beyond << self.fraction) }
    }

    /// Reads the residuals around m(k), and counts the thresholds that it reaches: the slice, and whether an exception had
    /// to be looked up.
    ///
    /// Of thresholds, which are less than ε slices off their own place, those up to ε slices before m(k) are reached for
    /// certain, and those more than ε slices after it are not; a segment's first slice always is. So 2ε are compared.
    #[inline(always)]
    fn settle<K: Kernel>(&self, kernel: K, guess: Guess, k: u64) -> (usize, bool) {
        let Guess { start, len, units } = guess;
        let middle = self.whole(units);
        let low = (middle + 1).saturating_sub(self.epsilon).max(1).min(len);
        let high = (middle + self.epsilon + 1).min(len);
        let units = self.relative(units, low);
        let (mut reached, mut at) = (0, low);
        // One turn for every ε that builds use.
        while at < high {
            let window = self.residuals.get(start + at..).and_then(|rest| rest.first_chunk::<WINDOW>());
            let (window, many) = (window.unwrap_or(&[0; WINDOW]), (high - at).min(WINDOW));
            let skipped = ((at - low) << self.fraction) as u64;
            let units = units - i32::try_from(skipped).unwrap_or(i32::MAX);
            let (count, marked) =
                kernel.count_thresholds(window, self.fraction, u32::try_from(many).unwrap_or(0), units);
            if marked {
                return (self.settle_exactly(guess, low..high, k), true);
            }
            reached += count as usize;
            at += WINDOW;
        }
        ((start + low + reached).saturating_sub(1), false)
    }

    /// Units from the slice `low` of a segment on: 2ε + 2 slices of 2¹⁵ / ε units at most, which fit an i32.
    #[inline(always)]
    fn relative(&self, units: u64, low: usize) -> i32 {
        let from = (low as u64) << self.fraction;
        i32::try_from(units.cast_signed() - from.cast_signed()).unwrap_or(i32::MAX)
    }

    /// As `settle`, with the exceptions' heads in place of their residuals.
    #[cold]
    fn settle_exactly(&self, guess: Guess, window: std::ops::Range<usize>, k: u64) -> usize {
        let low = window.start;
        let units = self.relative(guess.units, low);
        let first = guess.start + low;
        let residuals = self.residuals.get(first..guess.start + window.end).unwrap_or_default();
        let places = (0..).step_by(1 << self.fraction);
        let reached = |((slice, place), residual): &((usize, i32), &i16)| match **residual {
            EXCEPTION => self.exceptions.reached(*slice, k),
            residual => place + i32::from(residual) <= units,
        };
        (first + (first..).zip(places).zip(residuals).filter(reached).count()).saturating_sub(1)
    }

    /// The instructions that searches use.
    #[inline(always)]
    pub(super) fn simd(&self) -> Simd {
        self.origins.simd()
    }

    pub(super) fn segments(&self) -> usize {
        self.segments.len()
    }

    pub(super) fn exceptions(&self) -> usize {
        self.exceptions.slices.len()
    }

    pub(super) fn epsilon(&self) -> usize {
        self.epsilon
    }

    /// Bytes in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.origins.memory_bytes()
            + self.segments.capacity() * size_of::<Segment>()
            + self.residuals.capacity() * 2
            + self.exceptions.slices.capacity() * 4
            + self.exceptions.heads.capacity() * 8
    }

    /// The same lines, searched with other instructions.
    #[cfg(test)]
    pub(super) fn searched_with(&self, simd: Simd) -> Lines {
        Lines { origins: self.origins.searched_with(simd), ..self.clone() }
    }
}

struct Find<'a> {
    lines: &'a Lines,
    k: u64,
}

impl Search for Find<'_> {
    type Found = Found;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> Found {
        let Find { lines, k } = self;
        let (segment, guess) = lines.guess_with(kernel, k);
        let (slice, exception) = lines.settle(kernel, guess, k);
        let predicted = guess.start + lines.whole(guess.units).min(guess.len.saturating_sub(1));
        Found { segment, predicted, slice, exception }
    }
}

struct FindBatch<'a> {
    lines: &'a Lines,
    ks: &'a [u64; BATCH],
}

impl Search for FindBatch<'_> {
    type Found = [usize; BATCH];

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> [usize; BATCH] {
        self.lines.find_batch_with(kernel, self.ks).0
    }
}

/// A fitted line set, not yet bytes.
#[derive(Debug)]
pub(super) struct Fit {
    epsilon: usize,
    fraction: u32,
    origins: Vec<u64>,
    slopes: Vec<Slope>,
    starts: Vec<u32>,
    residuals: Vec<i16>,
    exceptions: Exceptions,
}

impl Fit {
    /// Lays lines through the heads of slices. `reaches` holds what each slice's last key reaches.
    ///
    /// `epsilon` is a power of two, at most [`EPSILON_MAX`]; heads ascend strictly, and `heads[b] ≤ reaches[b] <
    /// heads[b + 1]`; there are fewer than 2³² slices.
    pub(super) fn new(heads: &[u64], reaches: &[u64], epsilon: usize) -> Fit {
        let fraction = (RESIDUAL_SPAN / epsilon as u64).ilog2();
        let mut fit = Fit {
            epsilon,
            fraction,
            origins: Vec::new(),
            slopes: Vec::new(),
            starts: Vec::new(),
            residuals: Vec::with_capacity(heads.len()),
            exceptions: Exceptions::default(),
        };
        let (mut heads, mut reaches) = (heads, reaches);
        while let Some(origin) = heads.first() {
            let (len, slope) = longest_line(heads, fraction);
            let (segment, rest) = heads.split_at_checked(len).unwrap_or((heads, &[]));
            fit.close(*origin, slope, segment, reaches);
            heads = rest;
            reaches = reaches.get(len..).unwrap_or_default();
        }
        fit
    }

    fn close(&mut self, origin: u64, slope: Slope, heads: &[u64], reaches: &[u64]) {
        let start = self.residuals.len();
        self.origins.push(origin);
        self.slopes.push(slope);
        self.starts.push(u32::try_from(start).unwrap_or(u32::MAX));
        self.residuals.push(0);
        for ((place, head), before) in (1_u64..).zip(heads.iter().skip(1)).zip(reaches) {
            let units = slope.at(head - origin, u64::MAX);
            let off = i128::from(units) - i128::from(place << self.fraction);
            let told_apart = slope.at(before - origin, u64::MAX) < units;
            match i16::try_from(off) {
                Ok(residual) if residual != EXCEPTION && told_apart => self.residuals.push(residual),
                _ => {
                    self.exceptions.slices.push(u32::try_from(self.residuals.len()).unwrap_or(u32::MAX));
                    self.exceptions.heads.push(*head);
                    self.residuals.push(EXCEPTION);
                }
            }
        }
    }

    /// Bytes that [`Self::write`] will write, the two counts aside.
    pub(super) fn bytes(&self) -> usize {
        self.residuals.len() * 2 + self.slopes.len() * SEGMENT_BYTES + self.exceptions.slices.len() * EXCEPTION_BYTES
    }

    pub(super) fn segments(&self) -> usize {
        self.slopes.len()
    }

    pub(super) fn exceptions(&self) -> usize {
        self.exceptions.slices.len()
    }

    /// Writes `epsilon u8 | segments u32 | exceptions u32`, then segments' heads u64, slopes u64, first slices u32,
    /// all residuals i16, exceptions' slices u32 and heads u64.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::try_from(self.epsilon).unwrap_or(u8::MAX));
        for count in [self.slopes.len(), self.exceptions.slices.len()] {
            out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
        }
        out.extend(self.origins.iter().flat_map(|head| head.to_le_bytes()));
        out.extend(self.slopes.iter().flat_map(|slope| slope.0.to_le_bytes()));
        out.extend(self.starts.iter().flat_map(|start| start.to_le_bytes()));
        out.extend(self.residuals.iter().flat_map(|residual| residual.to_le_bytes()));
        out.extend(self.exceptions.slices.iter().flat_map(|slice| slice.to_le_bytes()));
        out.extend(self.exceptions.heads.iter().flat_map(|head| head.to_le_bytes()));
    }
}

impl Lines {
    /// Reads what [`Fit::write`] wrote for so many slices.
    pub(super) fn open(reader: &mut Input<'_>, slices: usize) -> Result<Lines> {
        let epsilon = usize::from(reader.byte()?);
        if !epsilon.is_power_of_two() || epsilon > EPSILON_MAX {
            return Err(damaged("an epsilon that cannot be"));
        }
        let (segments, exceptions) = (reader.size()?, reader.size()?);
        let origins = reader.list(segments, u64::from_le_bytes)?;
        let slopes = reader.list(segments, |word| Slope(u64::from_le_bytes(word)))?;
        let mut starts = reader.list(segments, u32::from_le_bytes)?;
        starts.push(u32::try_from(slices).map_err(|_| damaged("too many slices"))?);
        let mut residuals = reader.list(slices, i16::from_le_bytes)?;
        let exceptions = Exceptions {
            slices: reader.list(exceptions, u32::from_le_bytes)?,
            heads: reader.list(exceptions, u64::from_le_bytes)?,
        };
        let marked = (0_u32..).zip(&residuals).filter(|(_, residual)| **residual == EXCEPTION).map(|(slice, _)| slice);
        let sound = starts.first() == Some(&0)
            && starts.is_sorted_by(|a, b| a < b)
            && origins.is_sorted_by(|a, b| a < b)
            && exceptions.heads.is_sorted_by(|a, b| a < b)
            && marked.eq(exceptions.slices.iter().copied());
        if !sound {
            return Err(damaged("lines that cannot be"));
        }
        residuals.reserve_exact(WINDOW);
        residuals.extend([0; WINDOW]);
        let ends = starts.iter().skip(1);
        let segments = slopes.iter().zip(&starts).zip(ends);
        let segments =
            segments.map(|((slope, start), end)| Segment { slope: *slope, start: *start, end: *end }).collect();
        let fraction = (RESIDUAL_SPAN / epsilon as u64).ilog2();
        Ok(Lines { epsilon, fraction, origins: STree::new(&origins), segments, residuals, exceptions })
    }
}

/// The two slopes, as fractions, between which all lines through the origin pass every point so far within ε.
struct Cone {
    low: (u64, u64),
    high: (u64, u64),
}

/// How many of these slices, from the first on, one line through the first can serve, and its slope.
fn longest_line(heads: &[u64], fraction: u32) -> (usize, Slope) {
    let Some(origin) = heads.first() else { return (0, Slope::FLAT) };
    // Two units stay in hand for the rounding of the slope and of the line.
    let tolerance = RESIDUAL_SPAN - 2;
    let mut cone: Option<Cone> = None;
    let mut len = 1;
    for (place, head) in (1_u64..).zip(heads.iter().skip(1)) {
        let distance = head - origin;
        let height = place << fraction;
        let (low, high) = ((height.saturating_sub(tolerance), distance), (height + tolerance, distance));
        cone = Some(match cone {
            None => Cone { low, high },
            Some(cone) if less(cone.high, low) || less(high, cone.low) => {
                return (len, middle(&cone));
            }
            Some(cone) => Cone {
                low: if less(cone.low, low) { low } else { cone.low },
                high: if less(high, cone.high) { high } else { cone.high },
            },
        });
        len += 1;
    }
    (len, cone.map_or(Slope::FLAT, |cone| middle(&cone)))
}

/// a < b, exactly.
fn less(a: (u64, u64), b: (u64, u64)) -> bool {
    u128::from(a.0) * u128::from(b.1) < u128::from(b.0) * u128::from(a.1)
}

/// The slope half-way up the cone, with 54 bits or more. Heights are below 2⁴⁷, so no shift overflows.
fn middle(cone: &Cone) -> Slope {
    let shift = 55 + cone.high.1.ilog2() - cone.high.0.ilog2();
    let scaled = |(height, distance): (u64, u64)| (u128::from(height) << shift) / u128::from(distance);
    let slope = (scaled(cone.low) + scaled(cone.high)) / 2;
    Slope::new(u64::try_from(slope).unwrap_or(0), shift)
}
