/*!
Fences that are numbers: every slice's head, laid out for the search that is fastest here.

```text
    processors that compare vectors    an S+-tree                                                        9 bytes a slice in memory
    others, up to 16,384 slices        Eytzinger order for single lookups, an S+-tree for batches       17
    others, more slices                an S+-tree                                                        9
```

Where one instruction compares a line, a lookup takes a ninth of what is left with each line, and a walk in Eytzinger order a half
with each step. Without vectors, eight comparisons a line are more work than three steps of that walk, and as long as all
lines are in the cache nothing is won back. The bytes are the same for all: the heads in ascending order.
*/

use super::eytzinger::Eytzinger;
use super::stree::{BATCH, STree};

/// Up to so many slices, fences are small and fast anyway: 128 KiB, which stays in a processor's second-level cache.
pub(super) const FEW_SLICES: usize = 16 * 1024;

/// The heads of all slices, ascending.
#[derive(Debug, Clone)]
pub(super) struct Fences {
    /// For single lookups among few, without vectors.
    few: Option<Eytzinger<u64>>,
    tree: STree,
}

impl Fences {
    pub(super) fn new(heads: &[u64]) -> Fences {
        let tree = STree::new(heads);
        let walks = heads.len() <= FEW_SLICES && !tree.simd().has_vectors();
        Fences { few: walks.then(|| Eytzinger::new(heads)), tree }
    }

    /// The last slice whose head is ≤ `k`; 0 where there is none.
    #[inline]
    pub(super) fn find(&self, k: u64) -> usize {
        let count = match &self.few {
            Some(few) => few.count_le(k),
            None => self.tree.count_le(k),
        };
        count.saturating_sub(1)
    }

    /// As [`Self::find`], for many at once.
    pub(super) fn find_batch(&self, ks: &[u64; BATCH]) -> [usize; BATCH] {
        self.tree.count_le_batch(ks).map(|count| count.saturating_sub(1))
    }

    /// Whether single lookups walk in Eytzinger order.
    pub(super) fn are_walked(&self) -> bool {
        self.few.is_some()
    }

    /// The same fences, searched with other instructions.
    #[cfg(test)]
    pub(super) fn searched_with(&self, simd: super::simd::Simd) -> Fences {
        let heads: Vec<u64> = (0..self.tree.len()).map(|place| self.tree.number(place)).collect();
        let few = (!simd.has_vectors()).then(|| Eytzinger::new(&heads));
        Fences { few, tree: self.tree.searched_with(simd) }
    }

    /// Bytes in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.few.as_ref().map_or(0, Eytzinger::memory_bytes) + self.tree.memory_bytes()
    }
}
