/*!
Hash maps and sets whose order is the same in every run.

The standard ones seed their hash from the system's randomness, so that their iteration order differs between two runs
of the same program, and a simulation could not be repeated. These hash with a fixed seed.

A fixed seed lets whoever chooses the keys choose collisions. So: these are for keys that *we* choose (ids, offsets,
numbers); for keys that users choose (row keys, names), use a `BTreeMap`. Construct them with `default()`; the standard
`new` exists for the standard hasher only.
*/
#![expect(clippy::disallowed_types, reason = "these are the standard maps under a hasher with a fixed seed")]

use super::random::mix;
use std::hash::{BuildHasher, Hasher};

/// A hash map with the same order in every run.
pub type HashMap<K, V> = std::collections::HashMap<K, V, FixedState>;

/// A hash set with the same order in every run.
pub type HashSet<K> = std::collections::HashSet<K, FixedState>;

/// Makes hashers that all start alike.
#[derive(Debug, Clone, Copy, Default)]
pub struct FixedState;

/// Mixes one word at a time.
#[derive(Debug, Clone, Copy)]
pub struct FixedHasher {
    state: u64,
}

impl BuildHasher for FixedState {
    type Hasher = FixedHasher;

    fn build_hasher(&self) -> FixedHasher {
        FixedHasher { state: 0x243F_6A88_85A3_08D3 }
    }
}

impl Hasher for FixedHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            self.write_u64(u64::from_le_bytes(word));
        }
        self.write_usize(bytes.len());
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.state = mix(self.state.rotate_left(23) ^ value);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(u64::try_from(value).unwrap_or(u64::MAX));
    }

    fn finish(&self) -> u64 {
        self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_maps_with_the_same_history_have_the_same_order() {
        let keys =
            |_| (0..1000u64).map(|key| (key * 77, ())).collect::<HashMap<_, _>>().into_keys().collect::<Vec<_>>();
        assert_eq!(keys(0), keys(1));
        assert_eq!(keys(0).len(), 1000);
    }

    #[test]
    fn texts_hash_by_all_their_bytes() {
        let hash = |text: &str| FixedState.hash_one(text);
        assert_eq!(hash("a"), hash("a"));
        assert_ne!(hash("12345678a"), hash("12345678b"));
        assert_ne!(hash("a"), hash("a\0"));
    }
}
