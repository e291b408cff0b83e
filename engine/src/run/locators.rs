/*!
Where each vector lies: lengths in the file, bit-packed; in memory, ends within their chunk, bit-packed too.

```text
    locators = varint columns │ varint slices
             │ varint short tiles │ short tiles × (varint tile, varint rows), ascending
             │ columns × packed lengths
    packed   = varint least │ u8 width │ ⌈slices × width ÷ 8⌉ bytes: length − least, low bits first
```

A length is that of the whole frame; 0 is a frame that was left out. In memory, the end of slice s within its chunk gives
where s + 1 begins, in O(1). A tile's start takes 8 bytes, a chunk's start 4; in row shape, where a chunk is one
frame, chunk starts are summed from the tile's lengths instead.
*/

use super::format::{Footer, HEADER_BYTES};
use super::{offset_of, small, wide};
use crate::bytes::{Input, put_varint};
use crate::error::{Error, Result};
use std::ops::Range;

/// Unsigned numbers of one width each, packed.
#[derive(Debug, Clone, Default)]
struct Packed {
    least: u64,
    width: u32,
    words: Vec<u64>,
}

impl Packed {
    fn of(values: &[u64]) -> Packed {
        let least = values.iter().copied().min().unwrap_or(0);
        let width = values.iter().map(|value| 64 - (value - least).leading_zeros()).max().unwrap_or(0);
        let mut packed = Packed { least, width, words: vec![0; (values.len() * wide(width)).div_ceil(64)] };
        for (index, value) in values.iter().enumerate() {
            packed.set(index, value - least);
        }
        packed
    }

    fn set(&mut self, index: usize, value: u64) {
        let bit = index * wide(self.width);
        let (word, shift) = (bit / 64, bit % 64);
        if let Some(low) = self.words.get_mut(word) {
            *low |= value << shift;
        }
        if shift + wide(self.width) > 64
            && let Some(high) = self.words.get_mut(word + 1)
        {
            *high |= value >> (64 - shift);
        }
    }

    /// The number at `index`, which must be one of those packed.
    #[inline]
    fn get(&self, index: usize) -> u64 {
        if self.width == 0 {
            return self.least;
        }
        let bit = index * wide(self.width);
        let (word, shift) = (bit / 64, bit % 64);
        let low = self.words.get(word).copied().unwrap_or(0) >> shift;
        let high = if shift + wide(self.width) > 64 {
            self.words.get(word + 1).copied().unwrap_or(0) << (64 - shift)
        } else {
            0
        };
        self.least.wrapping_add((low | high) & (u64::MAX >> (64 - self.width)))
    }

    fn encode(&self, count: usize, out: &mut Vec<u8>) {
        put_varint(out, self.least);
        out.push(self.width.to_le_bytes()[0]);
        let bytes = self.words.iter().flat_map(|word| word.to_le_bytes());
        out.extend(bytes.take((count * wide(self.width)).div_ceil(8)));
    }

    /// Reads `count` numbers, which must come to no more than 32 bits each.
    fn decode(input: &mut Input<'_>, count: usize) -> Result<Packed> {
        let least = input.varint32()?.into();
        let width = u32::from(input.byte()?);
        if width > 32 {
            return Err(Error::corruption(format!("the run's locators have a width of {width} bits")));
        }
        let bytes = input.take((count * wide(width)).div_ceil(8))?;
        let word = |chunk: &[u8]| {
            let mut word = [0; 8];
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            u64::from_le_bytes(word)
        };
        Ok(Packed { least, width, words: bytes.chunks(8).map(word).collect() })
    }

    fn memory_bytes(&self) -> usize {
        self.words.len() * 8 + size_of::<Packed>()
    }
}

/// A tile that has fewer rows than a whole one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ShortTile {
    pub(super) tile: u32,
    pub(super) rows: u32,
}

/// The section's payload: `lengths` of all frames of each column, slice by slice.
pub(super) fn encode(lengths: &[Vec<u32>], slices: usize, short: &[ShortTile]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, offset_of(lengths.len()));
    put_varint(&mut out, offset_of(slices));
    put_varint(&mut out, offset_of(short.len()));
    for tile in short {
        put_varint(&mut out, tile.tile.into());
        put_varint(&mut out, tile.rows.into());
    }
    for column in lengths {
        let column: Vec<u64> = column.iter().map(|length| u64::from(*length)).collect();
        Packed::of(&column).encode(slices, &mut out);
    }
    out
}

/// A stretch of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) offset: u64,
    pub(super) bytes: usize,
}

impl Extent {
    pub(super) fn end(&self) -> u64 {
        self.offset.saturating_add(offset_of(self.bytes))
    }
}

/// Where a slice stands among tiles, worked out once for all that is asked about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) slice: u32,
    pub(super) tile: u32,
    /// The tile's first slice.
    first: u32,
    /// Rows of the slice.
    pub(super) rows: u32,
}

/// Where everything lies. Slices, tiles and columns handed to its methods must be in range.
#[derive(Debug)]
pub(super) struct Locators {
    slices: u32,
    tiles: u32,
    slice_rows: u32,
    tile_slices: u32,
    /// The first slice of each tile and the number of slices, where tiles before the last are short.
    tile_slice_starts: Option<Box<[u32]>>,
    short: Vec<ShortTile>,
    /// Offset of each tile, and where the last ends.
    tile_starts: Box<[u64]>,
    /// Offset of each chunk in its tile, tile by tile; not kept for tiles of one slice.
    chunk_starts: Box<[u32]>,
    /// For each column, where each slice's frame ends within its chunk.
    ends: Vec<Packed>,
}

impl Locators {
    /// Reads the section's payload and checks it against the footer.
    pub(super) fn decode(payload: &[u8], footer: &Footer, columns: usize) -> Result<Locators> {
        let mut input = Input::new(payload, "a part of the run");
        if input.varint()? != offset_of(columns) || input.varint()? != u64::from(footer.slices) {
            return Err(Error::corruption("the run's locators are not those of its schema"));
        }
        let short = decode_short(&mut input, footer)?;
        let lengths: Vec<Packed> =
            (0..columns).map(|_| Packed::decode(&mut input, wide(footer.slices))).collect::<Result<_>>()?;
        input.end()?;
        let mut locators = Locators {
            slices: footer.slices,
            tiles: footer.tiles,
            slice_rows: footer.slice_rows,
            tile_slices: footer.tile_slices,
            tile_slice_starts: None,
            short,
            tile_starts: Box::default(),
            chunk_starts: Box::default(),
            ends: Vec::new(),
        };
        locators.count_slices(footer)?;
        locators.sum_lengths(&lengths, footer.data_end)?;
        Ok(locators)
    }

    /// Checks that the tiles' slices and rows come to the footer's.
    fn count_slices(&mut self, footer: &Footer) -> Result<()> {
        let full = u64::from(self.slice_rows) * u64::from(self.tile_slices);
        let missing: u64 = self.short.iter().map(|tile| full - u64::from(tile.rows)).sum();
        let rows = (full * u64::from(self.tiles)).checked_sub(missing);
        let mut slices = u64::from(self.tile_slices) * u64::from(self.tiles);
        for tile in &self.short {
            slices -= u64::from(self.tile_slices - tile.rows.div_ceil(self.slice_rows));
        }
        if rows != Some(footer.rows) || slices != u64::from(self.slices) {
            return Err(Error::corruption("the run's tiles do not come to its rows"));
        }
        if self.short.iter().any(|tile| tile.tile + 1 != self.tiles) {
            let mut starts = Vec::with_capacity(wide(self.tiles) + 1);
            let mut next = 0;
            for tile in 0..self.tiles {
                starts.push(next);
                next += self.tile_rows(tile).div_ceil(self.slice_rows);
            }
            starts.push(next);
            self.tile_slice_starts = Some(starts.into());
        }
        Ok(())
    }

    /// Turns lengths into ends and starts, and checks that they fill the tiles' part of the file.
    fn sum_lengths(&mut self, lengths: &[Packed], data_end: u64) -> Result<()> {
        let too_long = || Error::corruption("the run's vectors are longer than its file");
        let mut tile_bytes = vec![0u64; wide(self.tiles)];
        let mut chunk_starts = vec![0u32; if self.tile_slices == 1 { 0 } else { wide(self.tiles) * lengths.len() }];
        for (column, lengths_of_column) in lengths.iter().enumerate() {
            let mut ends = Vec::with_capacity(wide(self.slices));
            for (tile, bytes) in tile_bytes.iter_mut().enumerate() {
                if let Some(start) = chunk_starts.get_mut(tile * lengths.len() + column) {
                    *start = u32::try_from(*bytes).map_err(|_| too_long())?;
                }
                let mut end = 0u64;
                for slice in self.slices_of(small(tile)?) {
                    end += lengths_of_column.get(wide(slice));
                    ends.push(end);
                }
                *bytes += end;
            }
            self.ends.push(Packed::of(&ends));
        }
        let mut starts = Vec::with_capacity(tile_bytes.len() + 1);
        let mut next = offset_of(HEADER_BYTES);
        for bytes in tile_bytes {
            starts.push(next);
            next = next.checked_add(bytes).ok_or_else(too_long)?;
        }
        starts.push(next);
        if next != data_end {
            return Err(Error::corruption("the run's vectors do not fill its tiles"));
        }
        self.tile_starts = starts.into();
        self.chunk_starts = chunk_starts.into();
        Ok(())
    }

    pub(super) fn slices(&self) -> u32 {
        self.slices
    }

    pub(super) fn tiles(&self) -> u32 {
        self.tiles
    }

    pub(super) fn columns(&self) -> usize {
        self.ends.len()
    }

    /// The tile that a slice lies in.
    #[inline]
    pub(super) fn tile_of(&self, slice: u32) -> u32 {
        match &self.tile_slice_starts {
            None => slice / self.tile_slices,
            Some(starts) => {
                let after = starts.partition_point(|start| *start <= slice);
                u32::try_from(after.saturating_sub(1)).unwrap_or(u32::MAX)
            }
        }
    }

    /// The slices of a tile.
    #[inline]
    pub(super) fn slices_of(&self, tile: u32) -> Range<u32> {
        match self.tile_slice_starts.as_deref().and_then(|starts| starts.get(wide(tile)..wide(tile) + 2)) {
            Some([start, end]) => *start..*end,
            _ => {
                let start = tile.saturating_mul(self.tile_slices);
                start..start.saturating_add(self.tile_slices).min(self.slices)
            }
        }
    }

    fn tile_rows(&self, tile: u32) -> u32 {
        match self.short.binary_search_by_key(&tile, |short| short.tile) {
            Ok(at) => self.short.get(at).map_or(0, |short| short.rows),
            Err(_) => self.slice_rows * self.tile_slices,
        }
    }

    /// Where a slice stands.
    #[inline]
    pub(super) fn spot(&self, slice: u32) -> Spot {
        let tile = self.tile_of(slice);
        let slices = self.slices_of(tile);
        let rows = if slice + 1 < slices.end {
            self.slice_rows
        } else {
            self.tile_rows(tile).saturating_sub((slice - slices.start) * self.slice_rows)
        };
        Spot { slice, tile, first: slices.start, rows }
    }

    /// Rows of a slice.
    #[inline]
    pub(super) fn rows_of(&self, slice: u32) -> u32 {
        self.spot(slice).rows
    }

    /// Where a tile lies.
    pub(super) fn tile(&self, tile: u32) -> Extent {
        match self.tile_starts.get(wide(tile)..wide(tile) + 2) {
            Some([start, end]) => Extent { offset: *start, bytes: length(end - start) },
            _ => Extent { offset: 0, bytes: 0 },
        }
    }

    /// Bytes of a column's chunk in a tile.
    fn chunk_bytes(&self, tile: u32, column: usize) -> u64 {
        let last = self.slices_of(tile).end.saturating_sub(1);
        self.ends.get(column).map_or(0, |ends| ends.get(wide(last)))
    }

    fn chunk_start(&self, tile: u32, column: usize) -> u64 {
        let in_tile: u64 = if self.tile_slices == 1 {
            (0..column).map(|before| self.chunk_bytes(tile, before)).sum()
        } else {
            self.chunk_starts.get(wide(tile) * self.columns() + column).copied().unwrap_or(0).into()
        };
        self.tile_starts.get(wide(tile)).copied().unwrap_or(0) + in_tile
    }

    /// Where a column's chunk of a tile lies.
    pub(super) fn chunk(&self, tile: u32, column: usize) -> Extent {
        Extent { offset: self.chunk_start(tile, column), bytes: length(self.chunk_bytes(tile, column)) }
    }

    /// Where a column's frame of a slice lies; no bytes if it was left out.
    #[inline]
    pub(super) fn frame(&self, slice: u32, column: usize) -> Extent {
        self.frame_at(&self.spot(slice), column)
    }

    /// The same for a slice whose place is known.
    #[inline]
    pub(super) fn frame_at(&self, spot: &Spot, column: usize) -> Extent {
        let Some(ends) = self.ends.get(column) else { return Extent { offset: 0, bytes: 0 } };
        let start = if spot.slice == spot.first { 0 } else { ends.get(wide(spot.slice) - 1) };
        let bytes = ends.get(wide(spot.slice)).saturating_sub(start);
        Extent { offset: self.chunk_start(spot.tile, column) + start, bytes: length(bytes) }
    }

    /// Bytes that this takes in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        let starts = self.tile_slice_starts.as_ref().map_or(0, |starts| starts.len() * 4);
        let ends: usize = self.ends.iter().map(Packed::memory_bytes).sum();
        starts
            + self.short.len() * size_of::<ShortTile>()
            + self.tile_starts.len() * 8
            + self.chunk_starts.len() * 4
            + ends
            + size_of::<Locators>()
    }
}

/// A length that was checked to lie within the file, as one in memory.
fn length(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn decode_short(input: &mut Input<'_>, footer: &Footer) -> Result<Vec<ShortTile>> {
    let full = footer.slice_rows * footer.tile_slices;
    let mut short: Vec<ShortTile> = Vec::new();
    for _ in 0..input.count(wide(footer.tiles), "tiles")? {
        let tile = ShortTile { tile: input.varint32()?, rows: input.varint32()? };
        let ascending = short.last().is_none_or(|last| last.tile < tile.tile);
        if !ascending || tile.tile >= footer.tiles || tile.rows == 0 || tile.rows >= full {
            return Err(Error::corruption("the run's short tiles are out of order or range"));
        }
        short.push(tile);
    }
    Ok(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_numbers_come_back_at_every_width() {
        for width in 0..=40u32 {
            let values: Vec<u64> =
                (0..100u64).map(|i| 7 + (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (63 - width) >> 1)).collect();
            let packed = Packed::of(&values);
            assert!(values.iter().enumerate().all(|(i, value)| packed.get(i) == *value), "width {width}");
            if width <= 32 {
                let mut out = Vec::new();
                packed.encode(values.len(), &mut out);
                let mut input = Input::new(&out, "a part of the run");
                let back = Packed::decode(&mut input, values.len()).unwrap();
                input.end().unwrap();
                assert!(values.iter().enumerate().all(|(i, value)| back.get(i) == *value), "width {width}");
            }
        }
    }
}
