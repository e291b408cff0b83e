/*!
Finding the distinct values of a vector: a small hash table that gives up where a dictionary would not pay.
*/

use crate::limits::SLICE_ROWS_MAX;

/// Slots of the table: twice the rows, so that probes stay short.
const SLOTS: usize = 2 * SLICE_ROWS_MAX;
const EMPTY: u16 = u16::MAX;

/// The distinct values of a vector and each row's code.
#[derive(Debug)]
pub(super) struct Distinct {
    /// For each distinct value, the row in which it is first seen.
    pub(super) firsts: Vec<usize>,
    /// For each row, which distinct value it has.
    pub(super) codes: Vec<u16>,
}

impl Distinct {
    /// The distinct values of `rows` rows, of which `hash` gives the hash and `same` tells whether two are equal; nothing
    /// where there are more than `max`.
    pub(super) fn of(
        rows: usize,
        max: usize,
        hash: impl Fn(usize) -> u64,
        same: impl Fn(usize, usize) -> bool,
    ) -> Option<Self> {
        let mut slots = [EMPTY; SLOTS];
        let mut distinct = Distinct { firsts: Vec::new(), codes: Vec::with_capacity(rows) };
        for row in 0..rows {
            let mut at = usize::try_from(hash(row) % SLOTS as u64).unwrap_or(0);
            let code = loop {
                let slot = slots.get_mut(at)?;
                if *slot == EMPTY {
                    if distinct.firsts.len() >= max.min(SLICE_ROWS_MAX) {
                        return None;
                    }
                    *slot = u16::try_from(distinct.firsts.len()).ok()?;
                    distinct.firsts.push(row);
                    break *slot;
                }
                if same(*distinct.firsts.get(usize::from(*slot))?, row) {
                    break *slot;
                }
                at = (at + 1) % SLOTS;
            };
            distinct.codes.push(code);
        }
        Some(distinct)
    }

    /// The same with the distinct values in rising order, which makes a dictionary smaller.
    pub(super) fn sorted_by_key<K: Ord>(mut self, key: impl Fn(usize) -> K) -> Self {
        let mut order: Vec<u16> = (0u16..).take(self.firsts.len()).collect();
        let first = |code: &u16| self.firsts.get(usize::from(*code)).copied().unwrap_or(0);
        order.sort_by_cached_key(|code| key(first(code)));
        let firsts = order.iter().map(first).collect();
        let mut renumber = vec![0u16; order.len()];
        for (new, old) in (0u16..).zip(&order) {
            if let Some(to) = renumber.get_mut(usize::from(*old)) {
                *to = new;
            }
        }
        for code in &mut self.codes {
            *code = renumber.get(usize::from(*code)).copied().unwrap_or(0);
        }
        Distinct { firsts, codes: self.codes }
    }
}

/// A hash of one number (the finaliser of SplitMix64).
#[inline]
pub(super) fn hash_number(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A hash of a byte string, eight bytes at a time.
#[inline]
pub(super) fn hash_bytes(bytes: &[u8]) -> u64 {
    let (words, tail) = bytes.as_chunks::<8>();
    let seed = hash_number(bytes.len() as u64);
    let hash = words.iter().fold(seed, |hash, word| hash_number(hash ^ u64::from_le_bytes(*word)));
    let last = tail.iter().fold(0u64, |last, byte| last << 8 | u64::from(*byte));
    hash_number(hash ^ last)
}
