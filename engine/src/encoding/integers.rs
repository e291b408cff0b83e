/*!
Integers: a prediction by position, plus a bit-packed residual.

```text
    +-------+-------+----------------+------------+----------------+---------------------+
    | shape | width | scale          | prediction | patches        | packed residuals    |
    | 1 B   | 1 B   | if shape bit 6 |            | if shape bit 7 | count × width bits  |
    +-------+-------+----------------+------------+----------------+---------------------+
    shape 0, frame   base: signed varint              value(i) = base + residual(i)
    shape 1, line    base, slope: signed varints      value(i) = base + (slope × i >> 10) + residual(i)
    shape 2, lines   count of pieces k: varint;       each piece is a line of its own, i counted from its start
                     k − 1 starts, 10 bits each; slopes and bases of the k pieces, each a frame
    patches          count: varint; width: 1 B; positions, 10 bits each, rising; the residuals' high bits, packed
    residual(i)      = packed(i) + (patch(i) << width)
    scale            unit: varint; origin: signed varint; what is stored are (integer − origin) ÷ unit
```

The scale takes out what all steps have in common: microseconds that are whole minutes, steps that go by hundreds.

All arithmetic wraps modulo 2^64, in the reader and in the writer alike, so that any bytes decode to some integers and
what was written comes back exactly. The line is LeCo's (SIGMOD 2024): as small as deltas for times, steps and ids, and
every value is still found by its position alone. Patches are those of patched frame of reference (PFOR, ICDE 2006).
*/

use super::bits::bit_width;
use super::bits::{Packed, pack, packed_len, put_width};
use crate::bytes::{Input, put_signed, put_varint, signed_len, varint_len};
use crate::error::{Error, Result};
use crate::limits::SLICE_ROWS_MAX;

/// Slopes are in units of 2^-10: over 1,024 rows a rounded one is half a unit off at most.
const SLOPE_BITS: u32 = 10;
/// Positions within a vector.
const POSITION_BITS: u32 = 10;
/// A line is tried only below this spread of values, so that slope × 2^10 × rows cannot overflow.
const LINE_SPREAD_MAX: u64 = 1 << 52;
/// Pieces of a piecewise line. A search among so many costs six steps.
const PIECES_MAX: usize = 64;

const FRAME: u8 = 0;
const LINE: u8 = 1;
const LINES: u8 = 2;
const SCALED: u8 = 0x40;
const PATCHED: u8 = 0x80;

/// Integers, read in place. What is rare is boxed: a point read opens a vector for each column, and pays for its size.
#[derive(Debug, Clone)]
pub(super) struct Integers<'a> {
    prediction: Prediction<'a>,
    residuals: Packed<'a>,
    patches: Option<Box<Patches<'a>>>,
    scale: Option<Box<Scale>>,
}

/// Integers that are `origin` and multiples of `unit` above it.
#[derive(Debug, Clone, Copy)]
struct Scale {
    origin: i64,
    unit: u64,
}

impl Scale {
    fn open(input: &mut Input<'_>) -> Result<Self> {
        let unit = input.varint()?;
        Ok(Scale { origin: input.signed()?, unit })
    }

    #[inline]
    fn apply(self, stored: i64) -> i64 {
        self.origin.wrapping_add(stored.wrapping_mul(self.unit.cast_signed()))
    }

    fn bytes(self) -> usize {
        varint_len(self.unit) + signed_len(self.origin)
    }
}

#[derive(Debug, Clone)]
enum Prediction<'a> {
    Frame(i64),
    Line(Line),
    Lines(Box<Lines<'a>>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Line {
    base: i64,
    slope: i64,
}

/// A frame without patches: what a piecewise line keeps its slopes and bases in.
#[derive(Debug, Clone, Copy)]
struct Frame<'a> {
    base: i64,
    residuals: Packed<'a>,
}

#[derive(Debug, Clone, Copy)]
struct Lines<'a> {
    pieces: usize,
    starts: Packed<'a>,
    slopes: Frame<'a>,
    bases: Frame<'a>,
}

#[derive(Debug, Clone, Copy)]
struct Patches<'a> {
    count: usize,
    positions: Packed<'a>,
    highs: Packed<'a>,
}

impl Line {
    #[inline]
    fn at(self, offset: usize) -> i64 {
        self.base.wrapping_add(self.slope.wrapping_mul((offset as u64).cast_signed()) >> SLOPE_BITS)
    }
}

impl<'a> Frame<'a> {
    fn open(input: &mut Input<'a>, count: usize) -> Result<Self> {
        let width = u32::from(input.byte()?);
        let base = input.signed()?;
        Ok(Frame { base, residuals: Packed::open(input, count, width)? })
    }

    fn get(&self, index: usize) -> i64 {
        self.base.wrapping_add(self.residuals.get(index).cast_signed())
    }

    fn put(values: &[i64], out: &mut Vec<u8>) {
        let (base, width) = frame_of(values);
        put_width(out, width);
        put_signed(out, base);
        pack(values.iter().map(|value| value.wrapping_sub(base).cast_unsigned()), width, out);
    }

    fn bytes(values: &[i64]) -> usize {
        let (base, width) = frame_of(values);
        1 + signed_len(base) + packed_len(values.len(), width)
    }
}

impl<'a> Lines<'a> {
    fn open(input: &mut Input<'a>) -> Result<Self> {
        let pieces = input.count(PIECES_MAX, "pieces")?;
        if pieces == 0 {
            return Err(Error::corruption("a piecewise line has no pieces"));
        }
        let starts = Packed::open(input, pieces - 1, POSITION_BITS)?;
        let lines = Lines { pieces, starts, slopes: Frame::open(input, pieces)?, bases: Frame::open(input, pieces)? };
        if (1..pieces).any(|piece| lines.start(piece) <= lines.start(piece - 1)) {
            return Err(Error::corruption("the pieces of a piecewise line are out of order"));
        }
        Ok(lines)
    }

    /// Where a piece begins; the row count's limit for the piece after the last.
    fn start(&self, piece: usize) -> usize {
        match piece {
            0 => 0,
            _ if piece >= self.pieces => SLICE_ROWS_MAX,
            _ => position(self.starts.get(piece - 1)),
        }
    }

    fn line(&self, piece: usize) -> Line {
        Line { base: self.bases.get(piece), slope: self.slopes.get(piece) }
    }

    /// The last piece that begins at or before `index`.
    fn piece_of(&self, index: usize) -> usize {
        let (mut low, mut high) = (0, self.pieces);
        while high - low > 1 {
            let middle = (low + high) / 2;
            if self.start(middle) <= index { low = middle } else { high = middle }
        }
        low
    }

    fn at(&self, index: usize) -> i64 {
        let piece = self.piece_of(index);
        self.line(piece).at(index - self.start(piece))
    }

    /// Adds the predictions for the rows from `start` on.
    fn add(&self, start: usize, out: &mut [i64]) {
        let mut piece = self.piece_of(start);
        let (mut at, mut rest) = (start, out);
        while !rest.is_empty() {
            let rows = self.start(piece + 1).saturating_sub(at).min(rest.len()).max(1);
            let (head, tail) = rest.split_at_mut(rows);
            add_line(self.line(piece), at - self.start(piece), head);
            (piece, at, rest) = (piece + 1, at + rows, tail);
        }
    }
}

impl<'a> Patches<'a> {
    fn open(input: &mut Input<'a>, rows: usize) -> Result<Self> {
        let count = input.count(rows, "patches")?;
        let width = u32::from(input.byte()?);
        let positions = Packed::open(input, count, POSITION_BITS)?;
        Ok(Patches { count, positions, highs: Packed::open(input, count, width)? })
    }

    /// The first patch at or after `index`.
    fn first(&self, index: usize) -> usize {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = (low + high) / 2;
            if position(self.positions.get(middle)) < index { low = middle + 1 } else { high = middle }
        }
        low
    }

    #[inline]
    fn high(&self, index: usize) -> u64 {
        let patch = self.first(index);
        if patch < self.count && position(self.positions.get(patch)) == index { self.highs.get(patch) } else { 0 }
    }
}

impl<'a> Integers<'a> {
    /// Takes `count` integers off the input.
    ///
    /// # Errors
    /// `Corruption` when the bytes cannot be `count` integers.
    pub(super) fn open(input: &mut Input<'a>, count: usize) -> Result<Self> {
        let shape = input.byte()?;
        let width = u32::from(input.byte()?);
        let scale = if shape & SCALED == 0 { None } else { Some(Box::new(Scale::open(input)?)) };
        let prediction = match shape & !(PATCHED | SCALED) {
            FRAME => Prediction::Frame(input.signed()?),
            LINE => {
                let base = input.signed()?;
                Prediction::Line(Line { base, slope: input.signed()? })
            }
            LINES => Prediction::Lines(Box::new(Lines::open(input)?)),
            _ => return Err(Error::corruption(format!("integers of unknown shape {shape}"))),
        };
        let patches = if shape & PATCHED == 0 { None } else { Some(Box::new(Patches::open(input, count)?)) };
        Ok(Integers { prediction, residuals: Packed::open(input, count, width)?, patches, scale })
    }

    /// Which shape they have.
    pub(super) fn shape(&self) -> Shape {
        match self.prediction {
            Prediction::Frame(_) if self.residuals.width() == 0 && self.patches.is_none() => Shape::Constant,
            Prediction::Frame(_) => Shape::Frame,
            Prediction::Line(_) => Shape::Line,
            Prediction::Lines(_) => Shape::Lines,
        }
    }

    /// The integer at `index`, which must be below the count.
    #[inline]
    pub(super) fn get(&self, index: usize) -> i64 {
        let mut residual = self.residuals.get(index);
        if let Some(patches) = &self.patches {
            residual |= patches.high(index).checked_shl(self.residuals.width()).unwrap_or(0);
        }
        let predicted = match &self.prediction {
            Prediction::Frame(base) => *base,
            Prediction::Line(line) => line.at(index),
            Prediction::Lines(lines) => lines.at(index),
        };
        let stored = predicted.wrapping_add(residual.cast_signed());
        self.scale.as_ref().map_or(stored, |scale| scale.apply(stored))
    }

    /// The line that they follow, where it rises: integers in order are searched along it.
    #[inline]
    pub(super) fn course(&self) -> Option<Course> {
        match &self.prediction {
            Prediction::Line(line) if line.slope > 0 && self.scale.is_none() => Some(Course(*line)),
            _ => None,
        }
    }

    /// Decodes `out.len()` integers from `start` on.
    pub(super) fn decode(&self, start: usize, out: &mut [i64]) {
        let mut block = [0u64; 128];
        let mut at = start;
        for chunk in out.chunks_mut(block.len()) {
            let block = block.get_mut(..chunk.len()).unwrap_or_default();
            self.residuals.unpack(at, block);
            self.patch(at, block);
            match &self.prediction {
                Prediction::Frame(base) => add_frame(*base, block, chunk),
                Prediction::Line(line) => {
                    add_frame(0, block, chunk);
                    add_line(*line, at, chunk);
                }
                Prediction::Lines(lines) => {
                    add_frame(0, block, chunk);
                    lines.add(at, chunk);
                }
            }
            if let Some(scale) = &self.scale {
                chunk.iter_mut().for_each(|stored| *stored = scale.apply(*stored));
            }
            at += chunk.len();
        }
    }

    fn patch(&self, start: usize, out: &mut [u64]) {
        let Some(patches) = &self.patches else { return };
        for patch in patches.first(start)..patches.count {
            let offset = position(patches.positions.get(patch)).wrapping_sub(start);
            let Some(residual) = out.get_mut(offset) else { break };
            *residual |= patches.highs.get(patch).checked_shl(self.residuals.width()).unwrap_or(0);
        }
    }
}

/// A rising line that integers follow.
#[derive(Debug, Clone, Copy)]
pub struct Course(Line);

impl Course {
    /// The row where the line reaches `value`, about; none is before the first.
    #[inline]
    pub fn row_of(self, value: i64) -> usize {
        self.rows(self.0.base, value)
    }

    /// How many rows the line takes from one value up to another one, about; none where that is not above.
    #[inline]
    pub fn rows(self, from: i64, to: i64) -> usize {
        let ahead = to.saturating_sub(from).clamp(0, LINE_SPREAD_MAX.cast_signed());
        usize::try_from((ahead << SLOPE_BITS) / self.0.slope.max(1)).unwrap_or(0)
    }
}

/// What a reader may want to tell of integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// All the same.
    Constant,
    /// Frame of reference.
    Frame,
    /// One line.
    Line,
    /// Several lines.
    Lines,
}

#[inline]
fn add_frame(base: i64, residuals: &[u64], out: &mut [i64]) {
    out.iter_mut().zip(residuals).for_each(|(to, from)| *to = base.wrapping_add(from.cast_signed()));
}

#[inline]
fn add_line(line: Line, offset: usize, out: &mut [i64]) {
    let mut run = line.slope.wrapping_mul((offset as u64).cast_signed());
    for to in out {
        *to = to.wrapping_add(line.base.wrapping_add(run >> SLOPE_BITS));
        run = run.wrapping_add(line.slope);
    }
}

/// A position read from ten bits.
#[inline]
fn position(raw: u64) -> usize {
    usize::try_from(raw).unwrap_or(SLICE_ROWS_MAX)
}

/// How integers will be written, and how many bytes that takes.
#[derive(Debug)]
pub(super) struct Plan {
    pieces: Vec<Piece>,
    width: u32,
    patch_width: u32,
    patches: usize,
    bytes: usize,
    /// The scale, and what is stored of each value under it.
    scaled: Option<(Scale, Vec<i64>)>,
}

/// A stretch of rows and the line that predicts them from below.
#[derive(Debug, Clone, Copy)]
struct Piece {
    start: usize,
    line: Line,
    width: u32,
}

impl Plan {
    /// Looks at `values`, at most `SLICE_ROWS_MAX`, and picks the smallest way to write them.
    pub(super) fn of(values: &[i64]) -> Plan {
        let best = Plan::as_they_are(values);
        // Below two bits a value there is little to take out.
        if best.bytes <= 24 + values.len() / 4 {
            return best;
        }
        let Some((scale, stored)) = scaled(values) else { return best };
        let mut plan = Plan::as_they_are(&stored);
        plan.bytes += scale.bytes();
        plan.scaled = Some((scale, stored));
        if plan.bytes < best.bytes - best.bytes / 16 { plan } else { best }
    }

    fn as_they_are(values: &[i64]) -> Plan {
        let (base, width) = frame_of(values);
        let mut best = Plan::plain(vec![Piece { start: 0, line: Line { base, slope: 0 }, width }], values.len());
        if width > 0 {
            let piece = fit(values, 0);
            let line = Plan::plain(vec![piece], values.len());
            if line.bytes < best.bytes {
                best = line;
            }
            if best.width > 0 && best.bytes > 24 {
                best.consider_patches(values);
                if let Some(mut lines) = Plan::in_pieces(values) {
                    lines.consider_patches(values);
                    // Several lines take a search for each value that is read alone.
                    if lines.bytes < best.bytes - best.bytes / 16 {
                        best = lines;
                    }
                }
            }
        }
        best
    }

    /// Bytes that [`Plan::write`] appends.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends `values`, which the plan was made of.
    pub(super) fn write(&self, values: &[i64], out: &mut Vec<u8>) {
        let values = self.scaled.as_ref().map_or(values, |(_, stored)| stored.as_slice());
        let shape = match self.pieces.as_slice() {
            [Piece { line: Line { slope: 0, .. }, .. }] => FRAME,
            [_] => LINE,
            _ => LINES,
        };
        let patched = if self.patches > 0 { PATCHED } else { 0 };
        out.push(shape | patched | if self.scaled.is_some() { SCALED } else { 0 });
        put_width(out, self.width);
        if let Some((scale, _)) = &self.scaled {
            put_varint(out, scale.unit);
            put_signed(out, scale.origin);
        }
        match self.pieces.as_slice() {
            [Piece { line: Line { base, slope: 0 }, .. }] => put_signed(out, *base),
            [Piece { line, .. }] => {
                put_signed(out, line.base);
                put_signed(out, line.slope);
            }
            pieces => {
                put_varint(out, pieces.len() as u64);
                pack(pieces.iter().skip(1).map(|piece| piece.start as u64), POSITION_BITS, out);
                Frame::put(&slopes(pieces), out);
                Frame::put(&bases(pieces), out);
            }
        }
        let mut residuals = [0u64; SLICE_ROWS_MAX];
        let residuals = residuals.get_mut(..values.len()).unwrap_or_default();
        residuals_of(&self.pieces, values, residuals);
        if self.patches > 0 {
            self.write_patches(residuals, out);
        }
        out.reserve(packed_len(residuals.len(), self.width));
        pack(residuals.iter().copied(), self.width, out);
    }

    fn write_patches(&self, residuals: &[u64], out: &mut Vec<u8>) {
        let patched = || residuals.iter().enumerate().filter(|(_, residual)| bit_width(**residual) > self.width);
        put_varint(out, self.patches as u64);
        put_width(out, self.patch_width);
        pack(patched().map(|(at, _)| at as u64), POSITION_BITS, out);
        pack(patched().map(|(_, residual)| residual >> self.width), self.patch_width, out);
    }

    fn plain(pieces: Vec<Piece>, count: usize) -> Plan {
        let width = pieces.iter().map(|piece| piece.width).max().unwrap_or(0);
        let bytes = 2 + prediction_bytes(&pieces) + packed_len(count, width);
        Plan { pieces, width, patch_width: 0, patches: 0, bytes, scaled: None }
    }

    /// One line for each stretch between jumps, if there are jumps.
    fn in_pieces(values: &[i64]) -> Option<Plan> {
        let mut pieces = Vec::new();
        let mut start = 0;
        for cut in jumps(values)?.into_iter().chain([values.len()]) {
            pieces.push(fit(values.get(start..cut).unwrap_or_default(), start));
            start = cut;
        }
        Some(Plan::plain(pieces, values.len()))
    }

    /// Cuts the width to what most residuals need, where the others' high bits cost less than that saves.
    fn consider_patches(&mut self, values: &[i64]) {
        let mut residuals = [0u64; SLICE_ROWS_MAX];
        let residuals = residuals.get_mut(..values.len()).unwrap_or_default();
        residuals_of(&self.pieces, values, residuals);
        let mut of_width = [0usize; 65];
        for residual in residuals.iter() {
            if let Some(count) = of_width.get_mut(bit_width(*residual) as usize) {
                *count += 1;
            }
        }
        let plain = self.bytes;
        let full = self.width;
        let mut wider = 0;
        for width in (0..full).rev() {
            wider += of_width.get(width as usize + 1).copied().unwrap_or(0);
            if wider > values.len() / 4 {
                break;
            }
            let patches =
                varint_len(wider as u64) + 1 + packed_len(wider, POSITION_BITS) + packed_len(wider, full - width);
            let bytes = plain - packed_len(values.len(), full) + packed_len(values.len(), width) + patches;
            if bytes < self.bytes {
                (self.bytes, self.width, self.patches, self.patch_width) = (bytes, width, wider, full - width);
            }
        }
    }
}

fn slopes(pieces: &[Piece]) -> Vec<i64> {
    pieces.iter().map(|piece| piece.line.slope).collect()
}

fn bases(pieces: &[Piece]) -> Vec<i64> {
    pieces.iter().map(|piece| piece.line.base).collect()
}

fn prediction_bytes(pieces: &[Piece]) -> usize {
    match pieces {
        [Piece { line: Line { base, slope: 0 }, .. }] => signed_len(*base),
        [Piece { line, .. }] => signed_len(line.base) + signed_len(line.slope),
        _ => {
            let starts = packed_len(pieces.len().saturating_sub(1), POSITION_BITS);
            1 + starts + Frame::bytes(&slopes(pieces)) + Frame::bytes(&bases(pieces))
        }
    }
}

fn residuals_of(pieces: &[Piece], values: &[i64], out: &mut [u64]) {
    for (at, piece) in pieces.iter().enumerate() {
        let end = pieces.get(at + 1).map_or(values.len(), |next| next.start);
        let range = piece.start..end;
        let (Some(values), Some(out)) = (values.get(range.clone()), out.get_mut(range)) else { continue };
        let mut run = 0i64;
        for (to, value) in out.iter_mut().zip(values) {
            *to = value.wrapping_sub(piece.line.base.wrapping_add(run >> SLOPE_BITS)).cast_unsigned();
            run = run.wrapping_add(piece.line.slope);
        }
    }
}

/// The values as multiples of the greatest unit that goes into all their distances from the least; nothing where that is one.
fn scaled(values: &[i64]) -> Option<(Scale, Vec<i64>)> {
    let origin = *values.iter().min()?;
    let above = |value: &i64| value.wrapping_sub(origin).cast_unsigned();
    // Where there is no unit, a few values show it.
    let unit = values.iter().map(above).try_fold(0, |unit, above| match common_divisor(unit, above) {
        1 => None,
        unit => Some(unit),
    })?;
    if unit < 2 {
        return None;
    }
    let stored = values.iter().map(|value| (above(value) / unit).cast_signed()).collect();
    Some((Scale { origin, unit }, stored))
}

/// The greatest common divisor; that of nothing and `b` is `b`.
fn common_divisor(mut a: u64, mut b: u64) -> u64 {
    while a != 0 {
        (a, b) = (b % a, a);
    }
    b
}

/// The least value, and the bits that the others are above it by.
fn frame_of(values: &[i64]) -> (i64, u32) {
    let Some(first) = values.first() else { return (0, 0) };
    let (mut low, mut high) = (*first, *first);
    for value in values {
        low = low.min(*value);
        high = high.max(*value);
    }
    (low, bit_width(high.wrapping_sub(low).cast_unsigned()))
}

/// The line through the middles of a stretch's first and last quarter, lowered until no value is below it; flat where
/// that is no worse.
fn fit(values: &[i64], start: usize) -> Piece {
    let (base, width) = frame_of(values);
    let flat = Piece { start, line: Line { base, slope: 0 }, width };
    if width == 0 || width > bit_width(LINE_SPREAD_MAX - 1) {
        return flat;
    }
    let quarter = values.len().div_ceil(4);
    let sum = |part: Option<&[i64]>| part.unwrap_or_default().iter().map(|value| value.wrapping_sub(base)).sum::<i64>();
    let rise = sum(values.get(values.len() - quarter..)) - sum(values.get(..quarter));
    let run = i128::try_from((values.len() - quarter) * quarter).unwrap_or(1);
    let Ok(slope) = i64::try_from((i128::from(rise) << SLOPE_BITS).div_euclid(run.max(1))) else { return flat };
    let (mut low, mut high, mut at) = (i64::MAX, i64::MIN, 0i64);
    for value in values {
        let off = value.wrapping_sub(base).wrapping_sub(at >> SLOPE_BITS);
        low = low.min(off);
        high = high.max(off);
        at = at.wrapping_add(slope);
    }
    let width = bit_width(high.wrapping_sub(low).cast_unsigned());
    if width < flat.width { Piece { start, line: Line { base: base.wrapping_add(low), slope }, width } } else { flat }
}

/// Where a value's step from the one before is far from the usual: the places to begin a new line at. Nothing where there
/// is no such place, or there are too many for a piecewise line.
fn jumps(values: &[i64]) -> Option<Vec<usize>> {
    let step = |at: usize| Some(values.get(at + 1)?.wrapping_sub(*values.get(at)?));
    let mut sample = [0i64; 33];
    let last = values.len().checked_sub(2)?;
    for (i, to) in sample.iter_mut().enumerate() {
        *to = step(i * last / 32)?;
    }
    sample.sort_unstable();
    let usual = sample.get(16).copied()?;
    let mut off = sample.map(|step| step.wrapping_sub(usual).unsigned_abs());
    off.sort_unstable();
    let far = off.get(24).copied()?.saturating_mul(8);
    let mut cuts = Vec::new();
    for (at, pair) in values.windows(2).enumerate() {
        if let [a, b] = pair
            && b.wrapping_sub(*a).wrapping_sub(usual).unsigned_abs() > far
        {
            if cuts.len() + 1 >= PIECES_MAX {
                return None;
            }
            cuts.push(at + 1);
        }
    }
    (!cuts.is_empty()).then_some(cuts)
}
