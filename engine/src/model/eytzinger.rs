/*!
Sorted numbers in Eytzinger order: the array is a binary search tree laid out level by level, so that a search is a
branch-free walk whose next cache lines are known early (Khuong and Morin, "Array layouts for comparison-based
searching", 2017).

The tree is complete. All levels but the last are full, so a walk over them ends in one of the gaps between their
numbers; the gap's number says how many of the last level's numbers lie before it. Hence the rank needs no table.
*/

use super::prefetch::prefetch;

/// A set of numbers, searched by rank.
#[derive(Debug, Clone)]
pub(super) struct Eytzinger<T> {
    /// The root is at 1; the children of `i` are at `2i` and `2i + 1`. Place 0 is unused.
    tree: Vec<T>,
    /// Levels that are full whatever the last one holds.
    full_levels: u32,
    /// How many numbers the last level has.
    leaves: usize,
}

impl<T: Copy + Ord + Default> Eytzinger<T> {
    /// Numbers of a cache line: the descendants of one node, a few levels down, lie about so close together.
    const LINE: usize = 64 / size_of::<T>();

    /// The set of these numbers, which ascend (equal ones are welcome).
    pub(super) fn new(sorted: &[T]) -> Self {
        let count = sorted.len();
        let full_levels = count.checked_ilog2().unwrap_or(0);
        let leaves = if count == 0 { 0 } else { count + 1 - (1 << full_levels) };
        let mut tree = vec![T::default(); count + 1];
        let mut rest = sorted.iter();
        fill(&mut tree, 1, &mut rest);
        Eytzinger { tree, full_levels, leaves }
    }

    /// How many numbers are ≤ `x`.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "below the full levels, i < 2^full_levels ≤ count < tree.len()")]
    pub(super) fn count_le(&self, x: T) -> usize {
        let mut i = 1;
        for _ in 0..self.full_levels {
            prefetch(&self.tree, i * Self::LINE);
            i = 2 * i + usize::from(self.tree[i] <= x);
        }
        self.rank(i, x)
    }

    /// As [`Self::count_le`], and the greatest number that is ≤ `x` (the default where there is none).
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "as in count_le")]
    pub(super) fn floor(&self, x: T) -> (usize, T) {
        let (mut i, mut floor) = (1, T::default());
        for _ in 0..self.full_levels {
            prefetch(&self.tree, i * Self::LINE);
            let node = self.tree[i];
            let right = node <= x;
            floor = if right { node } else { floor };
            i = 2 * i + usize::from(right);
        }
        if let Some(leaf) = self.tree.get(i).filter(|leaf| **leaf <= x) {
            floor = *leaf;
        }
        (self.rank(i, x), floor)
    }

    /// The count for a walk that ended at place `i` of the last level.
    #[inline]
    fn rank(&self, i: usize, x: T) -> usize {
        let gap = i - (1 << self.full_levels);
        let leaf = self.tree.get(i).is_some_and(|leaf| *leaf <= x);
        gap + gap.min(self.leaves) + usize::from(leaf)
    }

    /// Bytes in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.tree.capacity() * size_of::<T>()
    }
}

/// Fills the subtree at `i` in order. The depth is the logarithm of the count.
fn fill<T: Copy>(tree: &mut [T], i: usize, rest: &mut std::slice::Iter<'_, T>) {
    if i < tree.len() {
        fill(tree, 2 * i, rest);
        if let (Some(place), Some(next)) = (tree.get_mut(i), rest.next()) {
            *place = *next;
        }
        fill(tree, 2 * i + 1, rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::tests::Rng;

    #[test]
    fn a_rank_is_that_of_binary_search_for_every_size() {
        let mut rng = Rng(1);
        for count in 0..140_u64 {
            let mut sorted: Vec<u64> = (0..count).map(|_| rng.below(3 * count + 1)).collect();
            if count % 3 == 0 {
                sorted.extend([0, u64::MAX, u64::MAX]);
            }
            sorted.sort_unstable();
            let tree = Eytzinger::new(&sorted);
            let probes: Vec<u64> = (0..=3 * count + 2).chain([u64::MAX - 1, u64::MAX]).collect();
            for x in &probes {
                let expected = sorted.partition_point(|y| y <= x);
                let floor = expected.checked_sub(1).map_or(0, |i| sorted[i]);
                assert_eq!(tree.count_le(*x), expected, "{count} numbers, {x}");
                assert_eq!(tree.floor(*x), (expected, floor), "{count} numbers, {x}");
            }
        }
    }
}
