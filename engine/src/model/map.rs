/*!
A map of numbers in memory that is made once and never changed: what a run is on disk, with two cache lines for a slice.

```text
    index     a learned model of the slices' first keys, or an S+-tree of them; the same code as a run's
    slice     8 rows in two cache lines, side by side:  key value key value key value key value │ key value …
```

The index names the slice exactly, for present and for absent keys. Where the model's line is so good that it also names
the half of the slice for nearly all rows, which is found out when the map is made, one cache line is asked for, and
else both. So a lookup takes one line or two beyond the index, which is small: an eighth of the keys, or two bytes a slice.

[`LearnedMap::get_batch`] takes 32 keys together through each step, so that the memory's latency is paid once for all of
them: segments, residuals or tree levels, rows. In a map that is larger than the caches that is most of a lookup's time.

Which index a map has: the model where its lines are few and long enough that finding the line costs less than walking
the S+-tree would, and else the tree.
*/

use super::build::best_fit;
use super::line::Lines;
use super::prefetch::prefetch;
use super::simd::{Kernel, Line, Search, Simd};
use super::stree::{BATCH, STree, unsigned};
use super::wire::WHAT;
use super::{IndexChoice, IndexKind};
use crate::bytes::Input;
use crate::error::{Error, ErrorKind, Result};
use crate::io::vec_in_huge_pages;
use std::hint::select_unpredictable;

/// Rows of a slice.
const SLICE: usize = 8;
/// Rows of a line.
const HALF: usize = SLICE / 2;
/// The bits of a line's keys among those of its numbers.
const KEYS: u32 = 0b0101_0101;
/// A model must have this many slices for each of its lines and exceptions. An S+-tree takes a step for a ninth of what is
/// left; with fewer lines than this, the model's search for the right one saves two steps, which pays for its residuals.
const SLICES_PER_LINE_MIN: usize = 64;
/// One line is asked for where the model names the right one for all rows but one of so many.
const ROWS_PER_MISS_MIN: usize = 64;

/// A map from `i64` to `u64`, made once from sorted rows. See the module's words.
#[derive(Debug, Clone)]
pub struct LearnedMap {
    index: Index,
    /// Two for each slice. What is left of the last slice repeats the last row.
    lines: Vec<Line>,
    rows: usize,
    /// Whether the model names the half of a slice as well.
    names_half: bool,
}

#[derive(Debug, Clone)]
enum Index {
    Model(Lines),
    Tree(STree),
}

/// What is to be said of a map.
#[derive(Debug, Clone, PartialEq)]
pub struct MapStats {
    /// `Model` or `STree`.
    pub kind: IndexKind,
    /// Rows.
    pub rows: usize,
    /// Slices.
    pub slices: usize,
    /// Lines of the model.
    pub segments: usize,
    /// Slices whose first keys the model keeps whole.
    pub exceptions: usize,
    /// Whether a lookup asks for one cache line of a slice instead of both.
    pub names_half: bool,
    /// The instructions that searches use: `scalar`, `AVX2` or `AVX-512`.
    pub instructions: &'static str,
    /// Bytes in memory.
    pub bytes: usize,
}

impl LearnedMap {
    /// The map of these rows, whose keys ascend strictly. `Fences` asks for the S+-tree.
    ///
    /// # Errors
    /// `InvalidArgument` for keys that do not ascend; `LimitExceeded` for 2³² slices or more.
    pub fn new(rows: &[(i64, u64)], choice: IndexChoice) -> Result<LearnedMap> {
        if !rows.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(Error::invalid("the keys of a map do not ascend"));
        }
        if u32::try_from(rows.len().div_ceil(SLICE)).is_err() {
            return Err(Error::new(ErrorKind::LimitExceeded, "a map of more than 2^35 rows"));
        }
        let slices = || rows.chunks(SLICE);
        let heads: Vec<u64> = slices().filter_map(|slice| slice.first()).map(|row| unsigned(row.0)).collect();
        let mut map = LearnedMap {
            index: Index::Tree(STree::new(&heads)),
            lines: lines_of(rows),
            rows: rows.len(),
            names_half: false,
        };
        if choice != IndexChoice::Fences && !heads.is_empty() {
            let lasts: Vec<u64> = slices().filter_map(|slice| slice.last()).map(|row| unsigned(row.0)).collect();
            if let Some(lines) = model(&heads, &lasts, choice)? {
                map.names_half = names_half(&lines, rows);
                map.index = Index::Model(lines);
            }
        }
        Ok(map)
    }

    /// The value of a key.
    #[inline]
    pub fn get(&self, key: i64) -> Option<u64> {
        self.simd().run(Get { map: self, key })
    }

    /// The values of many keys; `out` is cleared first.
    pub fn get_batch(&self, keys: &[i64], out: &mut Vec<Option<u64>>) {
        out.clear();
        out.reserve(keys.len());
        let mut groups = keys.chunks_exact(BATCH);
        for group in &mut groups {
            if let Some(group) = group.first_chunk() {
                out.extend_from_slice(&self.simd().run(GetBatch { map: self, keys: group }));
            }
        }
        out.extend(groups.remainder().iter().map(|key| self.get(*key)));
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// What is to be said of the map.
    pub fn stats(&self) -> MapStats {
        let lines = match &self.index {
            Index::Model(lines) => Some(lines),
            Index::Tree(_) => None,
        };
        MapStats {
            kind: lines.map_or(IndexKind::STree, |_| IndexKind::Model),
            rows: self.rows,
            slices: self.lines.len() / 2,
            segments: lines.map_or(0, Lines::segments),
            exceptions: lines.map_or(0, Lines::exceptions),
            names_half: self.names_half,
            instructions: self.simd().name(),
            bytes: self.memory_bytes(),
        }
    }

    /// Bytes in memory.
    pub fn memory_bytes(&self) -> usize {
        let index = match &self.index {
            Index::Model(lines) => lines.memory_bytes(),
            Index::Tree(tree) => tree.memory_bytes(),
        };
        size_of::<Self>() + index + self.lines.capacity() * size_of::<Line>()
    }

    #[inline(always)]
    fn simd(&self) -> Simd {
        match &self.index {
            Index::Model(lines) => lines.simd(),
            Index::Tree(tree) => tree.simd(),
        }
    }

    /// The value of `key` in a slice.
    #[inline(always)]
    fn value_in<K: Kernel>(&self, kernel: K, slice: usize, key: i64) -> Option<u64> {
        let [left, right] = self.lines.get(2 * slice..)?.first_chunk()?;
        let (left_keys, right_keys) = (kernel.equal(left, key) & KEYS, kernel.equal(right, key) & KEYS);
        // Without a branch on the half, which no processor could foretell.
        let (line, keys) = select_unpredictable(left_keys != 0, (left, left_keys), (right, right_keys));
        value_at(line, keys)
    }

    /// As [`Self::value_in`], where the key is most likely to be in one half.
    #[inline(always)]
    fn value_in_half<K: Kernel>(&self, kernel: K, slice: usize, second: bool, key: i64) -> Option<u64> {
        let line = self.lines.get(2 * slice + usize::from(second))?;
        let keys = kernel.equal(line, key) & KEYS;
        if keys != 0 { value_at(line, keys) } else { self.value_in(kernel, slice, key) }
    }

    /// The same map, searched with other instructions.
    #[cfg(test)]
    fn searched_with(&self, simd: Simd) -> LearnedMap {
        let index = match &self.index {
            Index::Model(lines) => Index::Model(lines.searched_with(simd)),
            Index::Tree(tree) => Index::Tree(tree.searched_with(simd)),
        };
        LearnedMap { index, ..self.clone() }
    }
}

/// The value after the first of these keys.
#[inline(always)]
fn value_at(line: &Line, keys: u32) -> Option<u64> {
    let value = line.0.get(keys.trailing_zeros() as usize + 1)?;
    Some(value.cast_unsigned())
}

fn lines_of(rows: &[(i64, u64)]) -> Vec<Line> {
    let mut lines = vec_in_huge_pages(2 * rows.len().div_ceil(SLICE));
    let Some(last) = rows.last() else { return lines };
    for slice in rows.chunks(SLICE) {
        let mut numbers =
            slice.iter().chain(std::iter::repeat(last)).flat_map(|(key, value)| [*key, value.cast_signed()]);
        for _ in 0..2 {
            let mut line = Line([0; 2 * HALF]);
            line.0.iter_mut().zip(&mut numbers).for_each(|(place, number)| *place = number);
            lines.push(line);
        }
    }
    lines
}

/// The model of these slices, proved with the reader's own function; `None` where it is not to be had or not wanted.
fn model(heads: &[u64], lasts: &[u64], choice: IndexChoice) -> Result<Option<Lines>> {
    let fit = best_fit(heads, lasts);
    if choice == IndexChoice::Auto && (fit.segments() + fit.exceptions()) * SLICES_PER_LINE_MIN > heads.len() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    fit.write(&mut bytes);
    let lines = Lines::open(&mut Input::new(&bytes, WHAT), heads.len())?;
    let proved = |keys: &[u64]| {
        let groups = keys.chunks(BATCH).map(|group| {
            let mut ks = [0; BATCH];
            ks.iter_mut().zip(group).for_each(|(to, from)| *to = *from);
            lines.find_batch(&ks).into_iter().take(group.len())
        });
        groups.flatten().eq(0..keys.len())
    };
    Ok((proved(heads) && proved(lasts)).then_some(lines))
}

/// Whether the model names the right half of a slice for nearly all rows.
fn names_half(lines: &Lines, rows: &[(i64, u64)]) -> bool {
    let misses = lines.simd().run(HalfMisses { lines, rows });
    misses * ROWS_PER_MISS_MIN <= rows.len()
}

struct HalfMisses<'a> {
    lines: &'a Lines,
    rows: &'a [(i64, u64)],
}

impl Search for HalfMisses<'_> {
    type Found = usize;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> usize {
        let mut misses = 0;
        for (group, rows) in self.rows.chunks(BATCH).enumerate() {
            let mut ks = [0; BATCH];
            ks.iter_mut().zip(rows).for_each(|(k, row)| *k = unsigned(row.0));
            let (slices, guesses) = self.lines.find_batch_with(kernel, &ks);
            for ((slice, guess), row) in slices.iter().zip(guesses).zip(group * BATCH..).take(rows.len()) {
                misses += usize::from(self.lines.in_second_half(*slice, guess) != (row % SLICE >= HALF));
            }
        }
        misses
    }
}

struct Get<'a> {
    map: &'a LearnedMap,
    key: i64,
}

impl Search for Get<'_> {
    type Found = Option<u64>;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> Option<u64> {
        let k = unsigned(self.key);
        match &self.map.index {
            Index::Model(lines) => {
                let (slice, guess) = lines.find_with(kernel, k);
                match self.map.names_half {
                    true => self.map.value_in_half(kernel, slice, lines.in_second_half(slice, guess), self.key),
                    false => self.map.value_in(kernel, slice, self.key),
                }
            }
            Index::Tree(tree) => self.map.value_in(kernel, tree.count_with(kernel, k).saturating_sub(1), self.key),
        }
    }
}

struct GetBatch<'a> {
    map: &'a LearnedMap,
    keys: &'a [i64; BATCH],
}

impl Search for GetBatch<'_> {
    type Found = [Option<u64>; BATCH];

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> [Option<u64>; BATCH] {
        let GetBatch { map, keys } = self;
        let mut ks = [0; BATCH];
        for (k, key) in ks.iter_mut().zip(keys) {
            *k = unsigned(*key);
        }
        let mut found = [None; BATCH];
        let slices = match &map.index {
            Index::Model(lines) if map.names_half => {
                let (slices, guesses) = lines.find_batch_with(kernel, &ks);
                let mut halves = [false; BATCH];
                for ((half, slice), guess) in halves.iter_mut().zip(&slices).zip(guesses) {
                    *half = lines.in_second_half(*slice, guess);
                    prefetch(&map.lines, 2 * slice + usize::from(*half));
                }
                for (((found, slice), half), key) in found.iter_mut().zip(slices).zip(halves).zip(keys) {
                    *found = map.value_in_half(kernel, slice, half, *key);
                }
                return found;
            }
            Index::Model(lines) => lines.find_batch_with(kernel, &ks).0,
            Index::Tree(tree) => tree.count_batch_with(kernel, &ks).map(|count| count.saturating_sub(1)),
        };
        for slice in &slices {
            prefetch(&map.lines, 2 * slice);
            prefetch(&map.lines, 2 * slice + 1);
        }
        for ((found, slice), key) in found.iter_mut().zip(slices).zip(keys) {
            *found = map.value_in(kernel, slice, *key);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::tests::Rng;

    fn check(name: &str, keys: &[i64]) {
        let rows: Vec<(i64, u64)> = keys.iter().map(|key| (*key, key.cast_unsigned().rotate_left(17) ^ 5)).collect();
        let mut probes: Vec<i64> =
            keys.iter().flat_map(|key| [key.wrapping_sub(1), *key, key.wrapping_add(1)]).collect();
        probes.extend([i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX]);
        for choice in [IndexChoice::Auto, IndexChoice::Model, IndexChoice::Fences] {
            let map = LearnedMap::new(&rows, choice).unwrap();
            assert_eq!((map.len(), map.is_empty(), map.stats().rows), (rows.len(), rows.is_empty(), rows.len()));
            for simd in Simd::available() {
                let map = map.searched_with(simd);
                let mut found = vec![None; 3];
                map.get_batch(&probes, &mut found);
                assert_eq!(found.len(), probes.len());
                for (key, found) in probes.iter().zip(found) {
                    let expected = rows.binary_search_by_key(key, |row| row.0).ok().map(|place| rows[place].1);
                    let context = || format!("{name}, {choice:?}, {}, {key}", simd.name());
                    assert_eq!((found, map.get(*key)), (expected, expected), "{}", context());
                }
            }
        }
    }

    #[test]
    fn every_key_has_its_value_and_no_other_has_one() {
        let mut rng = Rng(3);
        for count in (0..40).chain([127, 128, 129, 1000, 5000]) {
            check("dense", &(-7..count - 7).collect::<Vec<_>>());
            let mut at = i64::MIN;
            let bursts: Vec<i64> = (0..count)
                .map(|i| {
                    at += if i % 97 == 0 { 1 << 40 } else { 1 };
                    at
                })
                .collect();
            check("bursts", &bursts);
            let mut uniform: Vec<i64> = (0..count).map(|_| rng.next().cast_signed()).collect();
            uniform.extend([i64::MIN, i64::MAX]);
            uniform.sort_unstable();
            uniform.dedup();
            check("uniform", &uniform);
            let mut rough: Vec<i64> = (0..count).map(|i| (1_i64 << (i % 62)) + i / 62).collect();
            rough.sort_unstable();
            rough.dedup();
            check("exponential gaps", &rough);
        }
    }

    #[test]
    fn a_dense_map_reads_one_line_a_row_and_a_rough_one_has_a_tree() {
        let rows = |keys: &[i64]| keys.iter().map(|key| (*key, 0)).collect::<Vec<_>>();
        let dense = LearnedMap::new(&rows(&(0..10_000).collect::<Vec<_>>()), IndexChoice::Auto).unwrap().stats();
        assert_eq!((dense.kind, dense.segments, dense.names_half), (IndexKind::Model, 1, true));
        let doubling = |at: &mut i64, i: i64| {
            *at += 1 << (i * 7 % 44);
            Some(*at)
        };
        let rough: Vec<i64> = (0..10_000).scan(0, doubling).collect();
        assert_eq!(LearnedMap::new(&rows(&rough), IndexChoice::Auto).unwrap().stats().kind, IndexKind::STree);
    }

    #[test]
    fn keys_out_of_order_are_refused() {
        for rows in [vec![(1, 0), (1, 0)], vec![(2, 0), (1, 0)]] {
            assert_eq!(LearnedMap::new(&rows, IndexChoice::Auto).unwrap_err().kind(), ErrorKind::InvalidArgument);
        }
    }
}
