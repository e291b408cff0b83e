/*!
A filter: says of a key that is not in a set that it is not there, mostly; of one that is there, never.

It is a binary fuse filter of four probes with fingerprints of eight bits (Graf and Lemire, "Binary fuse filters", ACM JEA 27, 2022). A
table of bytes is cut into segments of a power of two; a key's four places lie in four neighbouring segments, one in each, and the
bytes at the four come to the key's fingerprint under XOR. Of absent keys one in 256 does so by chance. That is about 9 bits a key where
a Bloom filter of the same error takes 11.5, and a probe looks at four bytes that lie near each other.

**Hash.** For ever the same, as it is in files. `mix` is the finisher of SplitMix64, a bijection:

```text
    mix(z)    z ^= z >> 30;  z *= 0xbf58476d1ce4e5b9;  z ^= z >> 27;  z *= 0x94d049bb133111eb;  z ^ z >> 31
    hash(key) h = mix(bytes of the key + 0x9e3779b97f4a7c15)
              for each 8 bytes of the key, little-endian, the last ones filled up with zeros: h = mix(h ^ them)
    x         mix(hash(key) + seed)        all additions and products modulo 2^64
```

**Bytes.** All numbers are little-endian.

```text
     0  u8   4: a binary fuse filter of four probes and eight bits; 0: none, every key may be there, and nothing follows
     1  u8   k: a segment has 2^k bytes, k at most 16
     2  u16  0
     4  u32  s: segments in which a first probe may fall, at least 1
     8  u64  seed
    16       (s + 3) × 2^k fingerprints

    places       p0 = (x × s × 2^k) >> 64
                 pi = (p0 + i × 2^k) ^ ((x >> 16 (i - 1)) mod 2^k)      for i = 1, 2, 3
    fingerprint  the low eight bits of x ^ x >> 32, which is f[p0] ^ f[p1] ^ f[p2] ^ f[p3]
```

**How it is built.** Which table holds a set is a system of equations, one a key, solved by peeling: a place that one key alone has is
that key's to set, whatever the others come to. A table with few spare bytes is solved by luck, so seed after seed is tried, and a
little more room from time to time, a bounded number of times; then there is no filter. Seeds follow from a number that the caller
gives, so the same keys give the same bytes. Two keys of one hash are one key here, and do no harm.
*/

use crate::bytes::Input;
use crate::error::{Error, Result};

/// Keys of one filter at most. Larger ones pack hardly better, and are read as a whole.
pub const FILTER_KEYS_MAX: usize = 1 << 16;

/// Tag of a filter that lets every key pass.
const NONE: u8 = 0;
/// Tag of a binary fuse filter of four probes and eight bits.
const FUSE_4_8: u8 = 4;
/// Bytes before the fingerprints.
const HEADER_BYTES: usize = 16;
/// Segments have at most so many bits.
const SEGMENT_BITS_MAX: u32 = 16;
/// Places of a key.
const PROBES: usize = 4;
/// Seeds that are tried.
const SEEDS_MAX: u32 = 32;
/// Seeds after which there is a little more room.
const SEEDS_OF_A_SIZE: u32 = 2;
/// By how many thousandths of the keys.
const ROOM_STEP: usize = 10;
/// How many bytes a thousand keys get at first, by the number of keys' highest bit: with so many about every second seed succeeds
/// (measured; small sets have no room to spread out in).
const ROOM: [usize; 17] =
    [4000, 3000, 2500, 2200, 2000, 1900, 1750, 1600, 1500, 1400, 1340, 1290, 1240, 1200, 1165, 1135, 1120];

/// What errors call the bytes.
const WHAT: &str = "a filter";

/// SplitMix64's finisher.
#[inline]
fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The hash of a key's bytes. See the module.
#[inline]
pub fn hash(key: &[u8]) -> u64 {
    let mut h = mix((key.len() as u64).wrapping_add(0x9e37_79b9_7f4a_7c15));
    let (words, rest) = key.as_chunks::<8>();
    for word in words {
        h = mix(h ^ u64::from_le_bytes(*word));
    }
    if !rest.is_empty() {
        let mut word = [0; 8];
        word.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        h = mix(h ^ u64::from_le_bytes(word));
    }
    h
}

/// A table's measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    /// A segment has two to this power of bytes.
    segment_bits: u32,
    /// Segments in which a first probe may fall.
    segments: u32,
}

impl Shape {
    /// For so many keys, with so many bytes for a thousand of them.
    fn of(keys: usize, room: usize) -> Shape {
        let bits = keys.max(1).ilog2();
        // ln n / ln 2.91 - 0.5, as the paper has it.
        let segment_bits = ((bits * 65).saturating_sub(50) / 100).clamp(2, SEGMENT_BITS_MAX);
        let segments = (keys.saturating_mul(room) / 1000).div_ceil(1 << segment_bits);
        let segments = u32::try_from(segments).unwrap_or(u32::MAX).saturating_sub(3).max(1);
        Shape { segment_bits, segments }
    }

    /// Bytes of the table.
    fn bytes(self) -> u64 {
        (u64::from(self.segments) + 3) << self.segment_bits
    }

    /// Where a key's fingerprint is spread to; within `bytes`.
    #[inline]
    fn places(self, x: u64) -> [u64; PROBES] {
        let segment = 1u64 << self.segment_bits;
        let reach = u64::from(self.segments) << self.segment_bits;
        let first = high_half(x, reach);
        let mask = segment - 1;
        [
            first,
            (first + segment) ^ (x & mask),
            (first + 2 * segment) ^ ((x >> 16) & mask),
            (first + 3 * segment) ^ ((x >> 32) & mask),
        ]
    }
}

/// The upper 64 bits of a product.
#[inline]
fn high_half(a: u64, b: u64) -> u64 {
    let [_, _, _, _, _, _, _, _, high @ ..] = (u128::from(a) * u128::from(b)).to_le_bytes();
    u64::from_le_bytes(high)
}

#[inline]
fn fingerprint(x: u64) -> u8 {
    (x ^ (x >> 32)).to_le_bytes()[0]
}

/// Where in memory a place is.
#[inline]
fn at(place: u64) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}

/// A filter over keys' hashes, as bytes. `number` is what its seeds follow from. A set that no seed can be found for, or of more than
/// [`FILTER_KEYS_MAX`] hashes, gets a filter that lets every key pass.
pub fn build(hashes: &mut Vec<u64>, number: u64) -> Vec<u8> {
    hashes.sort_unstable();
    hashes.dedup();
    if hashes.len() > FILTER_KEYS_MAX {
        return vec![NONE];
    }
    let highest = usize::try_from(hashes.len().max(1).ilog2()).unwrap_or(0);
    let mut room = ROOM.get(highest).or(ROOM.last()).copied().unwrap_or_default();
    for round in 0..SEEDS_MAX {
        let shape = Shape::of(hashes.len(), room);
        let seed = mix(mix(number).wrapping_add(u64::from(round)));
        if let Some(table) = solve(hashes, seed, shape) {
            return encode(shape, seed, &table);
        }
        if (round + 1) % SEEDS_OF_A_SIZE == 0 {
            room += ROOM_STEP;
        }
    }
    vec![NONE]
}

fn encode(shape: Shape, seed: u64, table: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES + table.len());
    out.extend_from_slice(&[FUSE_4_8, shape.segment_bits.to_le_bytes()[0], 0, 0]);
    out.extend_from_slice(&shape.segments.to_le_bytes());
    out.extend_from_slice(&seed.to_le_bytes());
    out.extend_from_slice(table);
    out
}

/// The table for distinct hashes under a seed, if it can be peeled.
fn solve(hashes: &[u64], seed: u64, shape: Shape) -> Option<Vec<u8>> {
    let bytes = at(shape.bytes());
    // Of each place: how many keys it has, and their XOR, which is the key itself once there is only one.
    let mut counts = vec![0u32; bytes];
    let mut keys = vec![0u64; bytes];
    for hash in hashes {
        let x = mix(hash.wrapping_add(seed));
        for place in shape.places(x).map(at) {
            *counts.get_mut(place)? += 1;
            *keys.get_mut(place)? ^= x;
        }
    }
    let alone = |counts: &[u32], place: usize| counts.get(place) == Some(&1);
    let mut stack: Vec<usize> = (0..bytes).filter(|place| alone(&counts, *place)).collect();
    let mut order = Vec::with_capacity(hashes.len());
    while let Some(place) = stack.pop() {
        if !alone(&counts, place) {
            continue;
        }
        let x = *keys.get(place)?;
        order.push((x, place));
        for other in shape.places(x).map(at) {
            let count = counts.get_mut(other)?;
            *count = count.checked_sub(1)?;
            *keys.get_mut(other)? ^= x;
            if *count == 1 {
                stack.push(other);
            }
        }
    }
    if order.len() < hashes.len() {
        return None;
    }
    let mut table = vec![0u8; bytes];
    for (x, place) in order.into_iter().rev() {
        // The place itself is still 0.
        let mut value = fingerprint(x);
        for other in shape.places(x).map(at) {
            value ^= *table.get(other)?;
        }
        *table.get_mut(place)? = value;
    }
    Some(table)
}

/// A filter's bytes, opened.
#[derive(Debug, Clone, Copy)]
pub struct Filter<'a> {
    shape: Shape,
    seed: u64,
    /// As many as the shape says.
    table: &'a [u8],
}

impl<'a> Filter<'a> {
    /// Opens what [`build`] gave; `None` for a filter that lets every key pass.
    ///
    /// # Errors
    /// `Corruption` for anything else.
    #[inline]
    pub fn open(bytes: &'a [u8]) -> Result<Option<Filter<'a>>> {
        let mut input = Input::new(bytes, WHAT);
        match input.byte()? {
            NONE => return input.end().map(|()| None),
            FUSE_4_8 => {}
            _ => return Err(damaged("an unknown kind")),
        }
        let shape = {
            let [segment_bits, zero, nought] = input.array()?;
            let segments = input.u32()?;
            if (zero, nought) != (0, 0) || u32::from(segment_bits) > SEGMENT_BITS_MAX || segments == 0 {
                return Err(damaged("impossible measures"));
            }
            Shape { segment_bits: segment_bits.into(), segments }
        };
        let seed = input.u64()?;
        let table = input.rest();
        match table.len() as u64 == shape.bytes() {
            true => Ok(Some(Filter { shape, seed, table })),
            false => Err(damaged("a table of another size")),
        }
    }

    /// Whether the key of this hash may be there: true for all that are, and for about one in 256 of the others.
    #[inline]
    pub fn may_have(&self, hash: u64) -> bool {
        let x = mix(hash.wrapping_add(self.seed));
        let value = |place: u64| self.table.get(at(place)).copied().unwrap_or_default();
        let found = self.shape.places(x).into_iter().fold(0, |found, place| found ^ value(place));
        found == fingerprint(x)
    }
}

fn damaged(what: &str) -> Error {
    Error::corruption(format!("{WHAT} is damaged: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use proptest::prelude::*;

    fn built(keys: &[Vec<u8>], number: u64) -> Vec<u8> {
        build(&mut keys.iter().map(|key| hash(key)).collect(), number)
    }

    fn numbered(from: u64, count: u64) -> Vec<Vec<u8>> {
        (from..from + count).map(|n| n.to_be_bytes().to_vec()).collect()
    }

    #[test]
    fn hashes_are_for_ever() {
        assert_eq!(mix(0x9e37_79b9_7f4a_7c15), 0xe220_a839_7b1d_cdaf, "the first number of SplitMix64 from 0");
        assert_eq!(hash(b""), 0xe220_a839_7b1d_cdaf);
        let known: [(&[u8], u64); 4] = [
            (b"a", 0x3e50_6e57_9633_5af0),
            (b"eight888", 0x7ce5_77fa_7bfe_3b7d),
            (b"nine99999", 0xe27f_8084_e0d5_3359),
            (&[0; 24], 0x7d23_8a24_47fc_91ca),
        ];
        for (key, expected) in known {
            assert_eq!(hash(key), expected, "{key:?}: {:#x}", hash(key));
        }
        // Zeros that fill up are not the key's own.
        assert_ne!(hash(&[1]), hash(&[1, 0]));
    }

    #[test]
    fn the_bytes_of_a_small_filter_are_as_they_always_were() {
        let bytes = built(&numbered(0, 10), 7);
        let known: [u8; 40] = [
            4, 2, 0, 0, 3, 0, 0, 0, 11, 130, 5, 77, 86, 222, 104, 98, 0, 0, 0, 14, 0, 0, 0, 0, 20, 0, 0, 0, 108, 104,
            0, 230, 124, 55, 137, 0, 0, 0, 188, 183,
        ];
        assert_eq!(bytes, known);
        assert!(numbered(0, 10).iter().all(|key| Filter::open(&bytes).unwrap().unwrap().may_have(hash(key))));
    }

    #[test]
    fn no_key_is_forgotten_at_any_size() {
        for count in (0..300).chain([511, 512, 1000, 1023, 1025, 4096, 10_000, 33_333, 65_535, 65_536]) {
            let keys = numbered(count * 1000, count);
            let bytes = built(&keys, count);
            let filter = Filter::open(&bytes).unwrap().unwrap_or_else(|| panic!("no filter for {count} keys"));
            assert!(keys.iter().all(|key| filter.may_have(hash(key))), "of {count}");
            assert_eq!(bytes, built(&keys, count), "the same keys give the same bytes");
        }
    }

    #[test]
    fn bits_and_errors_are_as_promised() {
        for (count, bits_max) in [(1000, 11.5), (10_000, 9.8), (32_768, 9.2), (65_536, 9.1)] {
            for number in 0..5 {
                let bytes = built(&numbered(0, count), number);
                let bits = bytes.len() as f64 * 8.0 / count as f64;
                assert!(bits <= bits_max, "{bits} bits for each of {count} keys");
                let filter = Filter::open(&bytes).unwrap().unwrap();
                let absent = 200_000;
                let wrong = numbered(1 << 40, absent).iter().filter(|key| filter.may_have(hash(key))).count();
                let share = wrong as f64 / absent as f64;
                assert!((0.0033..0.0046).contains(&share), "{share} of absent keys pass, of {count}");
            }
        }
    }

    /// Independent of `solve` and of how places are found: the document's formulas over the bytes.
    #[test]
    fn a_probe_is_what_the_prose_says() {
        let keys = numbered(5, 3000);
        let bytes = built(&keys, 1);
        let (k, s) = (u32::from(bytes[1]), u128::from(u32::from_le_bytes(bytes[4..8].try_into().unwrap())));
        let seed = u64::from_le_bytes(bytes[8..16].try_into().unwrap());
        let f = &bytes[16..];
        assert_eq!(f.len() as u128, (s + 3) << k);
        for key in numbered(0, 20_000) {
            let x = mix(hash(&key).wrapping_add(seed));
            let p0 = ((u128::from(x) * (s << k)) >> 64) as usize;
            let p = |i: usize| (p0 + (i << k)) ^ ((x >> (16 * (i - 1))) as usize % (1 << k));
            let there = f[p0] ^ f[p(1)] ^ f[p(2)] ^ f[p(3)] == (x ^ x >> 32) as u8;
            assert_eq!(Filter::open(&bytes).unwrap().unwrap().may_have(hash(&key)), there);
        }
    }

    /// What filters come to at several sizes: `cargo test --release -p omendb-engine --lib filter::tests::figures -- --ignored --nocapture`.
    #[test]
    #[ignore = "prints figures"]
    fn figures() {
        use crate::io;
        let io = io::posix();
        for count in [1000, 10_000, 16_384, 32_768, 65_536] {
            let (mut bytes, mut tries) = (0, 0u64);
            let rounds = 400_000 / count + 5;
            let mut nanos = 0;
            for number in 0..rounds {
                let mut hashes: Vec<u64> = numbered(number << 32, count).iter().map(|key| hash(key)).collect();
                let begin = io.monotonic_nanos();
                let built = build(&mut hashes, number);
                nanos += io.monotonic_nanos() - begin;
                bytes += built.len();
                let seed = u64::from_le_bytes(built[8..16].try_into().unwrap());
                tries +=
                    (0..SEEDS_MAX.into()).position(|n| mix(mix(number).wrapping_add(n)) == seed).unwrap() as u64 + 1;
            }
            let keys = (rounds * count) as f64;
            let (bits, tries) = (bytes as f64 * 8.0 / keys, tries as f64 / rounds as f64);
            println!("{count} keys: {bits:.2} bits a key, {tries:.1} seeds, {:.0} ns a key", nanos as f64 / keys);
        }
    }

    #[test]
    fn keys_of_one_hash_are_one_key_and_too_many_let_all_pass() {
        let bytes = build(&mut vec![5; 1000], 1);
        let filter = Filter::open(&bytes).unwrap().unwrap();
        assert!(filter.may_have(5) && bytes.len() < 100);
        assert_eq!(build(&mut (0..70_000).collect(), 1), [NONE]);
        assert!(Filter::open(&[NONE]).unwrap().is_none());
    }

    #[test]
    fn what_is_no_filter_is_corruption() {
        let good = built(&numbered(0, 100), 3);
        let refused = |bytes: &[u8]| {
            assert_eq!(Filter::open(bytes).unwrap_err().kind(), ErrorKind::Corruption, "{bytes:?}");
        };
        (0..good.len()).for_each(|len| refused(&good[..len]));
        refused(&[good.as_slice(), &[0]].concat());
        refused(&[NONE, 0]);
        let changed = |at: usize, to: u8| [&good[..at], &[to], &good[at + 1..]].concat();
        for (at, to) in [(0, 1), (0, 9), (1, 17), (1, 255), (2, 1), (3, 1), (4, 255), (7, 255)] {
            refused(&changed(at, to));
        }
        refused(&[&good[..4], &[0; 4], &good[8..]].concat());
    }

    proptest! {
        #[test]
        fn keys_of_any_bytes_are_never_forgotten(
            keys in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..400),
            number: u64,
        ) {
            let bytes = built(&keys, number);
            if let Some(filter) = Filter::open(&bytes).unwrap() {
                prop_assert!(keys.iter().all(|key| filter.may_have(hash(key))));
            }
        }
    }
}
