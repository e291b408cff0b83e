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

All thresholds of slices more than ε away from m(k) are on their side of it, so 2ε + 1 residuals are read at most: one cache
line. A segment's first slice is exact: segments are found by x0 itself.

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

use super::eytzinger::{BATCH, Eytzinger};
use super::prefetch::prefetch;
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
    origins: Eytzinger<u64>,
    /// Slope and shift of each segment.
    slopes: Vec<Slope>,
    /// First slice of each segment, and the number of slices.
    starts: Vec<u32>,
    residuals: Vec<i16>,
    exceptions: Exceptions,
}

/// Slices whose heads are kept whole, ascending.
#[derive(Debug, Clone, Default)]
struct Exceptions {
    slices: Vec<u32>,
    heads: Vec<u64>,
}

/// A slope of at most 57 bits above its shift.
#[derive(Debug, Clone, Copy)]
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
    #[inline]
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

/// A segment as a search sees it.
#[derive(Clone, Copy)]
struct Segment {
    number: usize,
    start: usize,
    len: usize,
    /// m(k), clamped to just beyond the segment.
    units: u64,
}

impl Lines {
    /// The slice whose head is the last one ≤ `k`; 0 where there is none.
    #[inline]
    pub(super) fn find(&self, k: u64) -> usize {
        let (count, origin) = self.origins.floor(k);
        match count.checked_sub(1).and_then(|number| self.segment(number, k - origin)) {
            Some(segment) => self.settle(segment, k).slice,
            None => 0,
        }
    }

    /// As [`Self::find`], and how it came about.
    pub(super) fn explain(&self, k: u64) -> Found {
        let (count, origin) = self.origins.floor(k);
        match count.checked_sub(1).and_then(|number| self.segment(number, k - origin)) {
            Some(segment) => self.settle(segment, k),
            None => Found::default(),
        }
    }

    /// Finds many at once: first the segments, then their lines of residuals, so that cache misses overlap.
    pub(super) fn find_batch(&self, ks: &[u64; BATCH]) -> [usize; BATCH] {
        let mut segments = [None; BATCH];
        for ((segment, (count, origin)), k) in segments.iter_mut().zip(self.origins.floor_batch(ks)).zip(ks) {
            *segment = count.checked_sub(1).and_then(|number| self.segment(number, k - origin));
            if let Some(segment) = segment {
                prefetch(&self.residuals, segment.start + self.whole(segment.units));
            }
        }
        let mut found = [0; BATCH];
        for ((found, segment), k) in found.iter_mut().zip(segments).zip(ks) {
            *found = segment.map_or(0, |segment| self.settle(segment, *k).slice);
        }
        found
    }

    /// The whole slices in so many units.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "segment() clamped the units to a segment's, whose length is a u32"
    )]
    fn whole(&self, units: u64) -> usize {
        (units >> self.fraction) as usize
    }

    #[inline]
    fn segment(&self, number: usize, distance: u64) -> Option<Segment> {
        let (start, end) = (*self.starts.get(number)? as usize, *self.starts.get(number + 1)? as usize);
        let len = end.saturating_sub(start);
        let beyond = (len + self.epsilon + 1) as u64;
        let units = self.slopes.get(number)?.at(distance, beyond << self.fraction);
        Some(Segment { number, start, len, units })
    }

    /// Reads the residuals around m(k): counts the thresholds that it reaches.
    #[inline]
    fn settle(&self, segment: Segment, k: u64) -> Found {
        let Segment { number, start, len, units } = segment;
        let middle = self.whole(units);
        let (low, high) = (middle.saturating_sub(self.epsilon).min(len), (middle + self.epsilon + 1).min(len));
        let window = self.residuals.get(start + low..start + high).unwrap_or_default();
        // Relative to the window's first slice, everything fits an i32: 2ε + 2 slices of 2^15 / ε units, and a residual.
        let units = i32::try_from(units - ((low as u64) << self.fraction)).unwrap_or(i32::MAX);
        let (mut reached, mut exception, mut place) = (0, false, 0);
        for residual in window {
            reached += usize::from(place + i32::from(*residual) <= units);
            exception |= *residual == EXCEPTION;
            place += 1 << self.fraction;
        }
        if exception {
            reached = self.count_exactly(window, start + low, units, k);
        }
        let slice = (start + low + reached).saturating_sub(1);
        Found { segment: number, predicted: start + middle.min(len.saturating_sub(1)), slice, exception }
    }

    /// As `settle` counts, with the exceptions' heads in place of their residuals.
    #[cold]
    fn count_exactly(&self, window: &[i16], first: usize, units: i32, k: u64) -> usize {
        let places = (0..).step_by(1 << self.fraction);
        let reached = |((slice, place), residual): &((usize, i32), &i16)| match **residual {
            EXCEPTION => self.exceptions.reached(*slice, k),
            residual => place + i32::from(residual) <= units,
        };
        (first..).zip(places).zip(window).filter(reached).count()
    }

    pub(super) fn segments(&self) -> usize {
        self.slopes.len()
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
            + self.slopes.capacity() * 8
            + self.starts.capacity() * 4
            + self.residuals.capacity() * 2
            + self.exceptions.slices.capacity() * 4
            + self.exceptions.heads.capacity() * 8
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
        let residuals = reader.list(slices, i16::from_le_bytes)?;
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
        let fraction = (RESIDUAL_SPAN / epsilon as u64).ilog2();
        Ok(Lines { epsilon, fraction, origins: Eytzinger::new(&origins), slopes, starts, residuals, exceptions })
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
