/*!
Byte strings, sorted and front-coded: each is stored as what it does not share with its predecessor. This holds the
separators of byte keys and the prefixes of a series directory.

```text
    strings u32 | data length u32 | block offset u32 × blocks | data
    block   = string | (shared | string) × up to 15      every number a varint (LEB128)
    string  = length | bytes                             the bytes after the shared ones
```

A search finds the block through 8-byte heads of the blocks' first strings (what all strings share being cut off first),
in Eytzinger order; only where heads are equal does it compare whole strings. Within the block it never rebuilds a string:
how many bytes of the key have matched so far, against how many a string shares with its predecessor, settles most
comparisons without looking at a byte.
*/

use super::eytzinger::Eytzinger;
use super::wire::{cut_short, damaged, head, take_varint};
use crate::bytes::{Input, put_varint};
use crate::error::{Error, ErrorKind, Result};
use std::cmp::Ordering;

/// Strings of one block.
const BLOCK: usize = 16;

/// A sorted set of byte strings, searched by rank.
#[derive(Debug, Clone)]
pub(super) struct FrontCoded {
    count: usize,
    data: Vec<u8>,
    /// Where each block begins.
    blocks: Vec<u32>,
    /// What all strings start with.
    common: Vec<u8>,
    /// The 8 bytes after `common` of each block's first string.
    heads: Eytzinger<u64>,
}

/// Where a key stands among the strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rank {
    /// How many strings are ≤ the key.
    pub(super) count: usize,
    /// The length of the last of them, where the key starts with it.
    pub(super) prefix: Option<usize>,
}

/// Writes a set of strings, given in ascending order.
#[derive(Debug, Default)]
pub(super) struct FrontWriter {
    count: usize,
    data: Vec<u8>,
    blocks: Vec<u32>,
    last: Vec<u8>,
}

impl FrontWriter {
    pub(super) fn push(&mut self, string: &[u8]) -> Result<()> {
        let shared = if self.count.is_multiple_of(BLOCK) {
            self.blocks.push(to_u32(self.data.len())?);
            0
        } else {
            let shared = shared(&self.last, string);
            put_varint(&mut self.data, shared as u64);
            shared
        };
        let rest = string.get(shared..).unwrap_or_default();
        put_varint(&mut self.data, rest.len() as u64);
        self.data.extend_from_slice(rest);
        self.last.clear();
        self.last.extend_from_slice(string);
        self.count += 1;
        Ok(())
    }

    /// The set's bytes.
    pub(super) fn finish(self) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(8 + self.blocks.len() * 4 + self.data.len());
        out.extend_from_slice(&to_u32(self.count)?.to_le_bytes());
        out.extend_from_slice(&to_u32(self.data.len())?.to_le_bytes());
        self.blocks.iter().for_each(|offset| out.extend_from_slice(&offset.to_le_bytes()));
        out.extend_from_slice(&self.data);
        Ok(out)
    }
}

fn to_u32(len: usize) -> Result<u32> {
    u32::try_from(len).map_err(|_| Error::new(ErrorKind::LimitExceeded, "a slice index of more than 4 GiB"))
}

/// How many bytes two strings share at the front.
#[inline]
pub(super) fn shared(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl FrontCoded {
    /// Reads a set, and checks all of it: lengths, order, sharing.
    pub(super) fn open(reader: &mut Input<'_>) -> Result<FrontCoded> {
        let count = reader.size()?;
        let data_len = reader.size()?;
        let blocks: Vec<u32> = reader.list(count.div_ceil(BLOCK), u32::from_le_bytes)?;
        let data = reader.take(data_len)?.to_vec();
        let (mut first, mut last) = (Vec::new(), Vec::new());
        walk(&data, &blocks, count, |number, string| {
            if number == 0 {
                first = string.to_vec();
            }
            last.clear();
            last.extend_from_slice(string);
        })?;
        let common = first.get(..shared(&first, &last)).unwrap_or_default().to_vec();
        let mut set = FrontCoded { count, data, blocks, common, heads: Eytzinger::new(&[]) };
        let after_common = |block| head(set.first_of(block).get(set.common.len()..).unwrap_or_default());
        let heads: Vec<u64> = (0..set.blocks.len()).map(after_common).collect();
        set.heads = Eytzinger::new(&heads);
        Ok(set)
    }

    /// How many strings there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// What all strings start with.
    pub(super) fn common(&self) -> &[u8] {
        &self.common
    }

    /// Shows every string, in order.
    pub(super) fn each(&self, mut show: impl FnMut(&[u8])) {
        // They were all walked through when the set was opened.
        let _ = walk(&self.data, &self.blocks, self.count, |_, string| show(string));
    }

    /// Whether no string starts with another one.
    pub(super) fn is_prefix_free(&self) -> bool {
        let mut last = Vec::new();
        let mut free = true;
        // In sorted order all strings that start with one follow it directly.
        let walked = walk(&self.data, &self.blocks, self.count, |number, string| {
            free &= number == 0 || !string.starts_with(&last);
            last.clear();
            last.extend_from_slice(string);
        });
        walked.is_ok() && free
    }

    /// Bytes in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.data.capacity() + self.blocks.capacity() * 4 + self.common.capacity() + self.heads.memory_bytes()
    }

    /// Where `key` stands.
    pub(super) fn rank(&self, key: &[u8]) -> Rank {
        let after_common = match key.strip_prefix(self.common.as_slice()) {
            Some(rest) => rest,
            None if key < self.common.as_slice() => return Rank { count: 0, prefix: None },
            None => return Rank { count: self.count, prefix: None },
        };
        match self.blocks_le(key, after_common).checked_sub(1) {
            Some(block) => self.rank_in(block, key),
            None => Rank { count: 0, prefix: None },
        }
    }

    /// How many blocks' first strings are ≤ `key`.
    fn blocks_le(&self, key: &[u8], after_common: &[u8]) -> usize {
        let wanted = head(after_common);
        let (mut high, floor) = self.heads.floor(wanted);
        if floor != wanted || high == 0 {
            return high; // No head is equal, and a smaller head is a smaller string.
        }
        let mut low = wanted.checked_sub(1).map_or(0, |below| self.heads.count_le(below));
        while low < high {
            let middle = low + (high - low) / 2;
            if self.first_of(middle) <= key { low = middle + 1 } else { high = middle }
        }
        low
    }

    fn block(&self, block: usize) -> &[u8] {
        let start = self.blocks.get(block).and_then(|start| usize::try_from(*start).ok());
        start.and_then(|start| self.data.get(start..)).unwrap_or_default()
    }

    fn first_of(&self, block: usize) -> &[u8] {
        take_string(&mut self.block(block)).unwrap_or_default()
    }

    /// The rank of a key that is ≥ the block's first string.
    fn rank_in(&self, block: usize, key: &[u8]) -> Rank {
        let mut rest = self.block(block);
        let first = take_string(&mut rest).unwrap_or_default();
        let (mut matched, mut len) = (shared(first, key), first.len());
        let before = block * BLOCK;
        let mut count = 1;
        while count < BLOCK.min(self.count - before) {
            let Some(same) = take_varint(&mut rest) else { break };
            let Some(suffix) = take_string(&mut rest) else { break };
            match same.cmp(&matched) {
                // It has the byte at which its predecessor turned out smaller than the key.
                Ordering::Greater => {}
                // It grew where its predecessor still matched the key.
                Ordering::Less => break,
                Ordering::Equal => {
                    let key_rest = key.get(matched..).unwrap_or_default();
                    if suffix > key_rest {
                        break;
                    }
                    matched += shared(suffix, key_rest);
                }
            }
            len = same + suffix.len();
            count += 1;
        }
        Rank { count: before + count, prefix: (matched == len).then_some(len) }
    }
}

fn take_string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = take_varint(rest)?;
    let (string, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(string)
}

/// Shows every string in order, and checks all that a search relies on.
fn walk(data: &[u8], blocks: &[u32], count: usize, mut show: impl FnMut(usize, &[u8])) -> Result<()> {
    let (mut rest, mut last) = (data, Vec::new());
    for number in 0..count {
        let mut same = 0;
        if number.is_multiple_of(BLOCK) {
            let start = blocks.get(number / BLOCK).and_then(|start| usize::try_from(*start).ok());
            if start != Some(data.len() - rest.len()) {
                return Err(damaged("a block of strings is not where it should be"));
            }
        } else {
            same = take_varint(&mut rest).ok_or_else(cut_short)?;
        }
        let suffix = take_string(&mut rest).ok_or_else(cut_short)?;
        let replaced = last.get(same..).ok_or_else(|| damaged("a string shares more than there is"))?;
        let shares_more = !number.is_multiple_of(BLOCK) && !suffix.is_empty() && suffix.first() == replaced.first();
        if number > 0 && (suffix <= replaced || shares_more) {
            return Err(damaged("its strings do not ascend"));
        }
        last.truncate(same);
        last.extend_from_slice(suffix);
        show(number, &last);
    }
    if rest.is_empty() { Ok(()) } else { Err(damaged("it has bytes after its strings")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::tests::Rng;

    fn set_of(strings: &[Vec<u8>]) -> FrontCoded {
        let mut writer = FrontWriter::default();
        strings.iter().for_each(|string| writer.push(string).unwrap());
        FrontCoded::open(&mut Input::new(&writer.finish().unwrap(), "separators")).unwrap()
    }

    fn random_string(rng: &mut Rng, common: &[u8]) -> Vec<u8> {
        let alphabet = *rng.pick(&[2, 256]);
        common.iter().copied().chain((0..rng.below(14)).map(|_| rng.below(alphabet) as u8)).collect()
    }

    #[test]
    fn a_rank_is_that_of_binary_search() {
        for seed in 0..300 {
            let mut rng = Rng(seed);
            let common = random_string(&mut rng, b"");
            let mut strings: Vec<_> = (0..rng.below(100)).map(|_| random_string(&mut rng, &common)).collect();
            strings.sort();
            strings.dedup();
            let set = set_of(&strings);
            assert_eq!(set.len(), strings.len());
            let free = strings.iter().all(|a| strings.iter().all(|b| a == b || !b.starts_with(a)));
            assert_eq!(set.is_prefix_free(), free, "seed {seed}");
            for round in 0..300 {
                let mut key = match rng.below(3) {
                    0 if !strings.is_empty() => rng.pick(&strings).clone(),
                    1 => random_string(&mut rng, b""),
                    _ => random_string(&mut rng, &common),
                };
                match rng.below(3) {
                    0 => key.push(rng.next() as u8),
                    1 => key.truncate(key.len() - key.len().min(1)),
                    _ => {}
                }
                let count = strings.partition_point(|string| *string <= key);
                let last = count.checked_sub(1).map(|i| &strings[i]);
                let prefix = last.filter(|last| key.starts_with(last)).map(Vec::len);
                assert_eq!(set.rank(&key), Rank { count, prefix }, "seed {seed}, round {round}: {key:?}");
            }
        }
    }
}
