/*!
Where tiles end early, so that they end with a series.

The rows of a key `(run, step)` are series: all that have the same values in front of the last column. A slice that has rows of two series
says by its statistics what neither of them comes to, so an aggregate by series reads its rows, and so does a lookup of a series' last row of
two slices. Tiles may be short ([`super::locators`]), and a tile that ends where a series does costs a slice that is not full, and no more.

A tile ends with a series where that is worth it: series shorter than a slice would share slices anyway; a tile must not be much
smaller than others, for its columns' chunks are what a scan reads at once; and the last slice's empty places must be few
beside the rows since the last such end.
*/

use super::tile::TilePlan;
use crate::key::{EncodedKeys, KeyShape};
use std::ops::Range;

/// Bytes of the key's last column, where there are series.
const LAST_BYTES: usize = 8;

/// Of the rows since the last end, one empty place of a slice is left for so many at most.
const ROWS_A_PLACE: usize = 4;

/// See the module.
#[derive(Debug)]
pub(super) struct SeriesEnds {
    slice_rows: usize,
    /// Rows between two ends at least.
    rows_min: usize,
    /// Rows since the last end, or since the run began.
    since: usize,
    /// The series of the last row, and how many rows it has so far.
    last: Vec<u8>,
    rows_of_last: usize,
}

/// The series of a key.
fn series(key: &[u8]) -> &[u8] {
    key.get(..key.len().saturating_sub(LAST_BYTES)).unwrap_or_default()
}

impl SeriesEnds {
    /// For a run of this plan; `None` where keys are no series, or each tile is a slice anyway.
    pub(super) fn new(shape: KeyShape, plan: &TilePlan) -> Option<SeriesEnds> {
        let is_series = matches!(shape, KeyShape::Series { .. }) && plan.tile_slices > 1;
        is_series.then(|| SeriesEnds {
            slice_rows: plan.slice_rows,
            rows_min: plan.tile_rows() / 2,
            since: 0,
            last: Vec::new(),
            rows_of_last: 0,
        })
    }

    /// Whether a tile that has `in_tile` rows ends before the row with this key.
    pub(super) fn ends_before(&mut self, key: &[u8], in_tile: usize) -> bool {
        if self.rows_of_last == 0 || series(key) == self.last {
            return false;
        }
        let ends = in_tile > 0 && self.rows_to_end(in_tile) == 0;
        if ends || in_tile == 0 {
            self.since = 0;
        }
        ends
    }

    /// How many rows must come before a tile that has `in_tile` rows may end.
    fn rows_to_end(&self, in_tile: usize) -> usize {
        let more = self.rows_min.saturating_sub(self.since).max(self.slice_rows.saturating_sub(self.rows_of_last));
        let (since, empty) = (self.since + more, self.empty(in_tile + more));
        // Each row fills a place, and makes up for a part of another.
        more + (empty * ROWS_A_PLACE).saturating_sub(since).div_ceil(ROWS_A_PLACE + 1)
    }

    /// Empty places of the last slice of a tile.
    fn empty(&self, in_tile: usize) -> usize {
        in_tile.next_multiple_of(self.slice_rows.max(1)) - in_tile
    }

    /// How many of `rows` of `keys` may be laid into a tile that has `in_tile` before it is asked again whether it ends; one at least.
    pub(super) fn rows_before_next_look(&self, keys: &EncodedKeys, rows: &Range<usize>, in_tile: usize) -> usize {
        let to_end = self.rows_to_end(in_tile);
        if to_end > 0 {
            return to_end.min(rows.len());
        }
        // It may end with this series, if that ends before the slice does.
        let same = keys.partition_point(|key| series(key) <= self.last.as_slice());
        let places = if self.empty(in_tile) == 0 { 1 } else { self.empty(in_tile) };
        same.saturating_sub(rows.start).min(places).clamp(1, rows.len().max(1))
    }

    /// These rows have been laid into a tile.
    pub(super) fn laid(&mut self, keys: &EncodedKeys, rows: Range<usize>) {
        let Some(last) = rows.end.checked_sub(1).map(|row| series(keys.get(row))) else { return };
        let first = keys.partition_point(|key| series(key) < last).max(rows.start);
        let goes_on = first == rows.start && self.last == last;
        self.rows_of_last = if goes_on { self.rows_of_last } else { 0 } + (rows.end - first);
        self.since += rows.len();
        if !goes_on {
            self.last.clear();
            self.last.extend_from_slice(last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::random::Random;

    /// Lays series of these lengths into tiles, batch by batch, and gives the tiles' rows and how often it was asked.
    fn tiles(lengths: &[usize], batch: usize, slice_rows: usize, tile_slices: usize) -> (Vec<usize>, usize) {
        let plan = TilePlan { slice_rows, tile_slices, columns: Vec::new(), default_seq: 0, short_lived: false };
        let mut ends = SeriesEnds::new(KeyShape::Series { prefix_fixed_width: Some(8) }, &plan).unwrap();
        let mut all = EncodedKeys::with_capacity(Some(16), 0);
        for (series, length) in (0u64..).zip(lengths) {
            for step in 0..*length as u64 {
                all.push(&[series.to_be_bytes(), step.to_be_bytes()].concat());
            }
        }
        let (mut tiles, mut tile, mut looks) = (Vec::new(), 0, 0);
        for from in (0..all.len()).step_by(batch) {
            let keys = all.slice(from..all.len().min(from + batch));
            let mut row = 0;
            while row < keys.len() {
                looks += 1;
                if ends.ends_before(keys.get(row), tile) {
                    tiles.push(std::mem::take(&mut tile));
                }
                let end = keys.len().min(row + plan.tile_rows() - tile);
                let rows = row..row + ends.rows_before_next_look(&keys, &(row..end), tile);
                ends.laid(&keys, rows.clone());
                tile += rows.len();
                row = rows.end;
                if tile == plan.tile_rows() {
                    tiles.push(std::mem::take(&mut tile));
                }
            }
        }
        tiles.extend((tile > 0).then_some(tile));
        assert_eq!(tiles.iter().sum::<usize>(), all.len());
        assert!(tiles.iter().all(|rows| *rows <= plan.tile_rows()));
        (tiles, looks)
    }

    #[test]
    fn series_of_some_slices_have_tiles_of_their_own() {
        for batch in [1, 100, 8192, 1 << 20] {
            assert_eq!(tiles(&[5000; 6], batch, 1024, 8).0, [5000; 6], "{batch}");
            assert_eq!(tiles(&[4096; 6], batch, 1024, 8).0, [4096; 6], "{batch}");
            let long = [8192, 8192, 3616];
            assert_eq!(tiles(&[20_000; 3], batch, 1024, 8).0, [long, long, long].concat(), "{batch}");
        }
    }

    #[test]
    fn short_series_share_tiles_and_cost_few_looks() {
        for length in [1, 10, 900] {
            let (tiles, looks) = tiles(&vec![length; 90_000 / length], 8192, 1024, 8);
            assert!(tiles.iter().rev().skip(1).all(|rows| *rows == 8192), "{length}: {tiles:?}");
            assert!(looks < 300, "{length}: {looks}");
        }
    }

    #[test]
    fn slices_are_a_quarter_more_at_most_and_long_series_begin_with_a_tile() {
        let random = &mut Random::new(5);
        for round in 0..300 {
            let scale = 1 + random.index(4000);
            let lengths: Vec<usize> = (0..1 + random.index(40)).map(|_| 1 + random.index(scale)).collect();
            let (slice_rows, tile_slices) = (1 << random.index(7), 2 << random.index(3));
            let batch = 1 + random.index(3000);
            let (tiles, looks) = tiles(&lengths, batch, slice_rows, tile_slices);
            let rows: usize = lengths.iter().sum();
            let slices: usize = tiles.iter().map(|rows| rows.div_ceil(slice_rows)).sum();
            assert!(slices * 4 <= rows.div_ceil(slice_rows) * 5 + 4, "round {round}: {slices} for {rows} rows");
            let begins = tiles.iter().scan(0, |sum, rows| Some(std::mem::replace(sum, *sum + rows)));
            let begins: std::collections::BTreeSet<usize> = begins.collect();
            let mut at = 0;
            for length in &lengths {
                at += length;
                let is_long = *length >= 5 * slice_rows * tile_slices;
                assert!(!is_long || at == rows || begins.contains(&at), "round {round}: the end of {length} at {at}");
            }
            // Whatever a row costs by itself would show here.
            let looks_max = rows.div_ceil(batch) + 3 * slices + 2 * lengths.len();
            assert!(looks <= looks_max, "round {round}: {looks} looks, {looks_max} at most");
        }
    }
}
