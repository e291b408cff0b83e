/*!
FSST: a table of up to 255 short byte strings; a string is a sequence of their numbers.

```text
    table     +-----------------------------+-------------------------------+
              | symbols of 1, 2, … 8 bytes: | the symbols, shortest first   |
              | 8 counts, 1 B each          |                               |
              +-----------------------------+-------------------------------+
    string    bytes: n < symbols = the symbol's bytes; 255 = the next byte as it is
```

FSST (VLDB 2020) compresses each string alone, so that any of them can be read without its neighbours. The `fsst-rs` crate
trains the table and compresses. We keep only the symbols that were used, in an order that needs no lengths, and expand
them ourselves: the crate's own expansion trusts its input.
*/

use crate::bytes::Input;
use crate::error::{Error, Result};
use fsst::{Compressor, ESCAPE_CODE};
use std::fmt;

/// A symbol's most bytes.
const SYMBOL_BYTES_MAX: usize = 8;

/// A table of symbols, read in place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Symbols<'a> {
    counts: [u8; SYMBOL_BYTES_MAX],
    bytes: &'a [u8],
}

impl<'a> Symbols<'a> {
    /// Takes a table off the input.
    pub(super) fn open(input: &mut Input<'a>) -> Result<Self> {
        let mut counts = [0u8; SYMBOL_BYTES_MAX];
        counts.copy_from_slice(input.take(SYMBOL_BYTES_MAX)?);
        if counts.iter().map(|count| usize::from(*count)).sum::<usize>() > usize::from(ESCAPE_CODE) {
            return Err(Error::corruption("a symbol table has more than 255 symbols"));
        }
        let bytes = counts.iter().zip(1..).map(|(count, length)| usize::from(*count) * length).sum();
        Ok(Symbols { counts, bytes: input.take(bytes)? })
    }

    /// Appends what `compressed` stands for: at most eight times as many bytes.
    pub(super) fn expand(&self, compressed: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let mut codes = compressed.iter();
        while let Some(code) = codes.next() {
            if *code == ESCAPE_CODE {
                out.push(*codes.next().ok_or_else(|| Error::corruption("a compressed string ends in an escape"))?);
            } else {
                out.extend_from_slice(self.symbol(*code)?);
            }
        }
        Ok(())
    }

    /// The table spread out, for expanding many strings.
    pub(super) fn spread(&self) -> Table {
        let mut table = Table { symbols: Vec::with_capacity(usize::from(ESCAPE_CODE)) };
        let mut rest = self.bytes;
        for (count, length) in self.counts.iter().zip(1..) {
            for _ in 0..*count {
                let (symbol, after) = rest.split_at_checked(length).unwrap_or_default();
                let mut padded = [0u8; SYMBOL_BYTES_MAX];
                padded.iter_mut().zip(symbol).for_each(|(to, from)| *to = *from);
                table.symbols.push((padded, symbol.len()));
                rest = after;
            }
        }
        table
    }

    fn symbol(&self, code: u8) -> Result<&'a [u8]> {
        let (mut index, mut at) = (usize::from(code), 0);
        for (count, length) in self.counts.iter().zip(1..) {
            let count = usize::from(*count);
            if index < count {
                let start = at + index * length;
                return Ok(self.bytes.get(start..start + length).unwrap_or_default());
            }
            index -= count;
            at += count * length;
        }
        Err(no_symbol(code))
    }
}

/// A table of symbols in a form that expands quickly.
#[derive(Debug)]
pub(super) struct Table {
    symbols: Vec<([u8; SYMBOL_BYTES_MAX], usize)>,
}

impl Table {
    /// Writes what `compressed` stands for to `out` from `end` on, and returns where it ends. There must be room for
    /// [`Table::room`] bytes; what is written past the end means nothing.
    #[inline]
    pub(super) fn expand(&self, compressed: &[u8], out: &mut [u8], mut end: usize) -> Result<usize> {
        let mut codes = compressed.iter();
        while let Some(code) = codes.next() {
            // Eight bytes are always written, and the next symbol overwrites what is too much.
            let (symbol, length) = match self.symbols.get(usize::from(*code)) {
                Some(symbol) => *symbol,
                None if *code == ESCAPE_CODE => {
                    let byte =
                        codes.next().ok_or_else(|| Error::corruption("a compressed string ends in an escape"))?;
                    (u64::from(*byte).to_le_bytes(), 1)
                }
                None => return Err(no_symbol(*code)),
            };
            if let Some(to) = out.get_mut(end..end + SYMBOL_BYTES_MAX) {
                to.copy_from_slice(&symbol);
            }
            end += length;
        }
        Ok(end)
    }

    /// The most bytes that [`Table::expand`] touches for so many compressed ones.
    pub(super) fn room(compressed: usize) -> usize {
        compressed.saturating_mul(SYMBOL_BYTES_MAX)
    }
}

fn no_symbol(code: u8) -> Error {
    Error::corruption(format!("a compressed string uses symbol {code}, which its table does not have"))
}

/// Strings compressed with a table of their own.
#[derive(Debug)]
pub(super) struct Compressed {
    /// The table as [`Symbols::open`] reads it.
    pub(super) table: Vec<u8>,
    /// The compressed strings, one after another.
    pub(super) data: Vec<u8>,
    /// Where each ends in the data.
    pub(super) ends: Vec<i64>,
}

impl Compressed {
    /// Compresses `strings` with the symbols of `compressor`.
    pub(super) fn of(strings: &[&[u8]], compressor: &Compressor) -> Compressed {
        let mut compressed = compressor.compress_bulk(&strings.to_vec());
        let (table, renumber) = used_symbols(compressor, &mut compressed);
        let mut out = Compressed { table, data: Vec::new(), ends: Vec::with_capacity(strings.len()) };
        for string in &mut compressed {
            each_code(string, |code| *code = renumber.get(usize::from(*code)).copied().unwrap_or(ESCAPE_CODE));
            out.data.extend_from_slice(string);
            out.ends.push(i64::try_from(out.data.len()).unwrap_or(i64::MAX));
        }
        out
    }
}

/// The table of those symbols that are used, and each old number's new one.
fn used_symbols(compressor: &Compressor, compressed: &mut [Vec<u8>]) -> (Vec<u8>, [u8; 256]) {
    let mut used = [false; 256];
    for string in compressed {
        each_code(string, |code| {
            if let Some(used) = used.get_mut(usize::from(*code)) {
                *used = true;
            }
        });
    }
    let (mut counts, mut bytes, mut renumber, mut next) = ([0u8; 8], Vec::new(), [ESCAPE_CODE; 256], 0u8);
    let symbols = || compressor.symbol_table().iter().zip(compressor.symbol_lengths()).enumerate();
    for (count, length) in counts.iter_mut().zip(1u8..) {
        for (code, (symbol, _)) in symbols().filter(|(_, (_, symbol_length))| **symbol_length == length) {
            if used.get(code) == Some(&true) {
                bytes.extend_from_slice(symbol.to_u64().to_le_bytes().get(..usize::from(length)).unwrap_or_default());
                if let Some(to) = renumber.get_mut(code) {
                    *to = next;
                }
                next += 1;
                *count += 1;
            }
        }
    }
    let mut table = counts.to_vec();
    table.append(&mut bytes);
    (table, renumber)
}

/// Symbols carried from one vector of a column to the next.
///
/// Training takes about a millisecond, far longer than compressing a vector, and neighbours are alike. So a table is
/// trained on one vector and used for the following ones (each still stores the symbols that it uses), until they come
/// out clearly longer than the first one did; and where compression does not pay, or nothing repeats, it is not tried again
/// for a while. The crate breaks ties by the symbols themselves: equal strings give equal bytes.
#[derive(Default)]
pub(super) struct Trainer {
    compressor: Option<Compressor>,
    /// Compressed bytes per thousand in the vector that the table was trained on.
    trained: usize,
    /// Vectors for which nothing is to be tried.
    rest: usize,
}

impl fmt::Debug for Trainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trainer").field("trained", &self.trained).field("rest", &self.rest).finish_non_exhaustive()
    }
}

impl Trainer {
    /// Compresses `strings`, if that may make them smaller than `bytes`.
    pub(super) fn compress(&mut self, strings: &[&[u8]], bytes: usize) -> Option<Compressed> {
        const REST: usize = 32;
        if self.rest > 0 {
            self.rest -= 1;
            return None;
        }
        let share = |compressed: &Compressed| (compressed.data.len() + compressed.table.len()) * 1000 / bytes.max(1);
        if let Some(compressor) = &self.compressor {
            let compressed = Compressed::of(strings, compressor);
            if share(&compressed) <= self.trained + self.trained / 8 {
                return Some(compressed);
            }
        }
        if !repeats(strings) {
            (self.compressor, self.rest) = (None, REST);
            return None;
        }
        let compressor = Compressor::train(&strings.to_vec());
        let compressed = Compressed::of(strings, &compressor);
        self.trained = share(&compressed);
        if self.trained > 900 {
            (self.compressor, self.rest) = (None, REST);
            return None;
        }
        self.compressor = Some(compressor);
        Some(compressed)
    }
}

/// Whether training may pay: in the first bytes, at least one triple in eight has been there before. Text, numbers, names and
/// addresses have two to six of eight, bytes that look random hardly any, and to see it takes microseconds.
fn repeats(strings: &[&[u8]]) -> bool {
    const LOOK: usize = 4096;
    let mut seen = [0u64; 1024];
    let (mut triples, mut again) = (0usize, 0usize);
    for triple in strings.iter().flat_map(|string| string.windows(3)).take(LOOK) {
        let number = triple.iter().fold(0u32, |number, byte| number << 8 | u32::from(*byte));
        // The 16 bits that Fibonacci hashing mixes best.
        let place = number.wrapping_mul(0x9E37_79B1) >> 16;
        let bit = 1u64 << (place % 64);
        if let Some(word) = usize::try_from(place / 64).ok().and_then(|word| seen.get_mut(word)) {
            again += usize::from(*word & bit != 0);
            *word |= bit;
        }
        triples += 1;
    }
    again * 8 >= triples
}

/// Calls `f` on each symbol's number in a compressed string, escapes left out.
fn each_code(compressed: &mut [u8], mut f: impl FnMut(&mut u8)) {
    let mut codes = compressed.iter_mut();
    while let Some(code) = codes.next() {
        if *code == ESCAPE_CODE {
            codes.next();
        } else {
            f(code);
        }
    }
}

/// Bytes of text below which a table cannot pay.
pub(super) const TRAIN_BYTES_MIN: usize = 256;

/// Kept so that the format's own byte for "as it is" stays the crate's.
const _: () = assert!(ESCAPE_CODE == 255);
