/*!
Byte strings: text, bytes, and the sixteen bytes of intervals and UUIDs.

```text
    +-------+------------------+-----------------+---------------------+--------------+
    | shape | common prefix    | symbol table    | lengths             | data         |
    | 1 B   | varint and bytes | shape 2 only    |                     |              |
    +-------+------------------+-----------------+---------------------+--------------+
    shape 0, fixed      every string has the same stored length: a varint; no offsets
    shape 1, plain      where each string ends in the data: integers
    shape 2, symbols    the same, and the data are compressed with the symbol table
    shape 4, numerals   `numerals` in place of lengths and data
    shape 3             the same in runs of format 1, without a directory
    string(i) = prefix + what is stored of i
```

Strings that are all the same are a prefix and nothing else. Offsets of strings of similar length are a line with a small
residual, so they cost bits, not bytes.
*/

use super::Encoding;
use super::heads::{Heads, Source};
use super::integers::{Integers, Plan};
use super::numerals::{Numerals, NumeralsPlan};
use super::symbols::{Compressed, Symbols, TRAIN_BYTES_MIN, Table, Trainer};
use crate::bytes::{Input, put_varint, varint_len};
use crate::column::Spans;
use crate::error::{Error, Result};
use crate::limits::VALUE_BYTES_MAX;
use std::borrow::Cow;
use std::cmp::Ordering;
use std::ops::Range;

const FIXED: u8 = 0;
const PLAIN: u8 = 1;
const SYMBOLS: u8 = 2;
const NUMERALS_1: u8 = 3;
const NUMERALS: u8 = 4;

/// Byte strings, read in place.
#[derive(Debug, Clone)]
pub(super) struct Strings<'a> {
    count: usize,
    prefix: &'a [u8],
    stored: Stored<'a>,
}

/// What is stored of each string after the prefix.
#[derive(Debug, Clone)]
enum Stored<'a> {
    Fixed { length: usize, data: &'a [u8] },
    Plain { ends: Integers<'a>, data: &'a [u8] },
    Symbols(Box<Compact<'a>>),
    Numerals(Numerals<'a>),
}

/// Strings under a symbol table, and where each ends.
#[derive(Debug, Clone)]
struct Compact<'a> {
    table: Symbols<'a>,
    ends: Integers<'a>,
    data: &'a [u8],
}

/// A stretch of strings, ready to be appended to a column.
#[derive(Debug)]
pub(super) struct Stretch<'a> {
    data: Cow<'a, [u8]>,
    ends: Vec<usize>,
}

impl Stretch<'_> {
    /// The strings, borrowed.
    pub(super) fn spans(&self) -> Spans<'_> {
        Spans { data: &self.data, ends: &self.ends }
    }
}

impl<'a> Strings<'a> {
    /// Takes `count` strings off the input.
    ///
    /// # Errors
    /// `Corruption` when the bytes cannot be `count` strings.
    pub(super) fn open(input: &mut Input<'a>, count: usize) -> Result<Self> {
        let shape = input.byte()?;
        let prefix = input.count(VALUE_BYTES_MAX, "bytes of a common prefix")?;
        let prefix = input.take(prefix)?;
        let stored = match shape {
            FIXED => {
                let length = input.count(VALUE_BYTES_MAX, "bytes of a string")?;
                Stored::Fixed { length, data: input.take(length * count)? }
            }
            PLAIN => {
                let (ends, data) = open_data(input, count)?;
                Stored::Plain { ends, data }
            }
            SYMBOLS => {
                let table = Symbols::open(input)?;
                let (ends, data) = open_data(input, count)?;
                Stored::Symbols(Box::new(Compact { table, ends, data }))
            }
            NUMERALS_1 | NUMERALS => Stored::Numerals(Numerals::open(input, count, shape == NUMERALS)?),
            _ => return Err(Error::corruption(format!("strings of unknown shape {shape}"))),
        };
        Ok(Strings { count, prefix, stored })
    }

    /// The one string that all are, where they are one.
    pub(super) fn constant(&self) -> Option<&'a [u8]> {
        matches!(self.stored, Stored::Fixed { length: 0, .. }).then_some(self.prefix)
    }

    /// How they are laid out.
    pub(super) fn encoding(&self) -> Encoding {
        match self.stored {
            Stored::Fixed { length: 0, .. } => Encoding::Constant,
            Stored::Fixed { .. } => Encoding::Fixed,
            Stored::Plain { .. } => Encoding::Plain,
            Stored::Symbols(_) => Encoding::Symbols,
            Stored::Numerals(_) => Encoding::Numerals,
        }
    }

    /// How many strings.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Appends the string at `index`, which must be below the count.
    #[inline]
    pub(super) fn append(&self, index: usize, out: &mut Vec<u8>) -> Result<()> {
        out.extend_from_slice(self.prefix);
        self.append_rest(index, out)
    }

    /// Appends what follows the prefix.
    #[inline]
    fn append_rest(&self, index: usize, out: &mut Vec<u8>) -> Result<()> {
        match &self.stored {
            Stored::Fixed { .. } | Stored::Plain { .. } => {
                out.extend_from_slice(self.plain(index)?.unwrap_or_default());
            }
            Stored::Symbols(of) => of.table.expand(between(&of.ends, of.data, index)?, out)?,
            Stored::Numerals(numerals) => numerals.get(index, out)?,
        }
        Ok(())
    }

    /// What follows the prefix, where it is stored as it is.
    #[inline]
    pub(super) fn plain(&self, index: usize) -> Result<Option<&'a [u8]>> {
        match &self.stored {
            Stored::Fixed { length, data } => cut(data, index * length, (index + 1) * length).map(Some),
            Stored::Plain { ends, data } => between(ends, data, index).map(Some),
            Stored::Symbols(_) | Stored::Numerals(_) => Ok(None),
        }
    }

    /// Where they are quick to come by, what follows the prefix begins with, as numbers of the same order.
    pub(super) fn heads(&self) -> Result<Option<Heads<'_, 'a>>> {
        match &self.stored {
            Stored::Fixed { length, data } => Ok(Some(Heads(Source::Fixed { data, length: *length }))),
            Stored::Numerals(numerals) => numerals.heads().map(Some),
            Stored::Plain { ends, data } => Ok(Some(Heads(Source::Plain { ends, data }))),
            Stored::Symbols(_) => Ok(None),
        }
    }

    /// What all strings begin with.
    pub(super) fn prefix(&self) -> &'a [u8] {
        self.prefix
    }

    /// How what follows the prefix at `index` compares with `rest`.
    #[inline]
    pub(super) fn compare_rest(&self, index: usize, rest: &[u8], scratch: &mut Vec<u8>) -> Result<Ordering> {
        if let Some(plain) = self.plain(index)? {
            return Ok(plain.cmp(rest));
        }
        scratch.clear();
        self.append_rest(index, scratch)?;
        Ok(scratch.as_slice().cmp(rest))
    }

    /// The strings of `rows`, which must be below the count.
    pub(super) fn stretch(&self, rows: Range<usize>) -> Result<Stretch<'a>> {
        match &self.stored {
            Stored::Fixed { length, data } => {
                let ends = (rows.start + 1..=rows.end).map(|row| row * length).collect();
                self.copied(data, Bounds { first: rows.start * length, ends })
            }
            Stored::Plain { ends, data } => self.copied(data, Bounds::of(ends, &rows)?),
            Stored::Symbols(of) => self.expanded(&of.table, of.data, &Bounds::of(&of.ends, &rows)?),
            Stored::Numerals(numerals) => {
                let stride = self.prefix.len() + numerals.length();
                let data = numerals.decode(self.prefix, &rows)?;
                Ok(Stretch { data: Cow::Owned(data), ends: (1..=rows.len()).map(|row| row * stride).collect() })
            }
        }
    }

    /// Strings stored as they are: borrowed where there is no prefix to be put before each.
    fn copied(&self, data: &'a [u8], mut bounds: Bounds) -> Result<Stretch<'a>> {
        let first = bounds.first;
        if self.prefix.is_empty() {
            let all = cut(data, first, bounds.last())?;
            bounds.ends.iter_mut().for_each(|end| *end = end.wrapping_sub(first));
            return Ok(Stretch { data: Cow::Borrowed(all), ends: bounds.ends });
        }
        let mut out =
            Vec::with_capacity(bounds.ends.len() * self.prefix.len() + cut(data, first, bounds.last())?.len());
        let mut start = first;
        for end in &mut bounds.ends {
            out.extend_from_slice(self.prefix);
            out.extend_from_slice(cut(data, start, *end)?);
            start = std::mem::replace(end, out.len());
        }
        Ok(Stretch { data: Cow::Owned(out), ends: bounds.ends })
    }

    fn expanded(&self, symbols: &Symbols<'a>, data: &'a [u8], bounds: &Bounds) -> Result<Stretch<'a>> {
        let table = symbols.spread();
        let room = Table::room(cut(data, bounds.first, bounds.last())?.len());
        let mut out = vec![0; bounds.ends.len() * self.prefix.len() + room];
        let mut ends = Vec::with_capacity(bounds.ends.len());
        let (mut at, mut start) = (0, bounds.first);
        for end in &bounds.ends {
            if let Some(to) = out.get_mut(at..at + self.prefix.len()) {
                to.copy_from_slice(self.prefix);
            }
            at = table.expand(cut(data, start, *end)?, &mut out, at + self.prefix.len())?;
            ends.push(at);
            start = *end;
        }
        out.truncate(at);
        Ok(Stretch { data: Cow::Owned(out), ends })
    }
}

/// Where strings lie in their data, one after the other. What is out of order is found where a string is cut out of the data.
#[derive(Debug)]
struct Bounds {
    /// Where the first one begins.
    first: usize,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Bounds {
    /// Those of `rows`.
    fn of(ends: &Integers<'_>, rows: &Range<usize>) -> Result<Bounds> {
        let first = if rows.start == 0 { 0 } else { offset(ends.get(rows.start - 1))? };
        let mut raw = vec![0i64; rows.len()];
        ends.decode(rows.start, &mut raw);
        Ok(Bounds { first, ends: raw.into_iter().map(|end| usize::try_from(end).unwrap_or(usize::MAX)).collect() })
    }

    fn last(&self) -> usize {
        self.ends.last().copied().unwrap_or(self.first)
    }
}

fn open_data<'a>(input: &mut Input<'a>, count: usize) -> Result<(Integers<'a>, &'a [u8])> {
    let ends = Integers::open(input, count)?;
    let bytes = if count == 0 { 0 } else { offset(ends.get(count - 1))? };
    Ok((ends, input.take(bytes)?))
}

#[inline]
fn cut(data: &[u8], start: usize, end: usize) -> Result<&[u8]> {
    data.get(start..end).ok_or_else(out_of_order)
}

/// The bytes of the string at `index`, by where each ends.
#[inline]
pub(super) fn between<'a>(ends: &Integers<'_>, data: &'a [u8], index: usize) -> Result<&'a [u8]> {
    let start = if index == 0 { 0 } else { offset(ends.get(index - 1))? };
    cut(data, start, offset(ends.get(index))?)
}

#[inline]
fn offset(raw: i64) -> Result<usize> {
    usize::try_from(raw).map_err(|_| out_of_order())
}

fn out_of_order() -> Error {
    Error::corruption("the strings of a vector are out of order or past its end")
}

/// Strings about to be written.
#[derive(Debug)]
pub(super) struct StringsPlan<'a> {
    prefix: &'a [u8],
    strings: Vec<&'a [u8]>,
    /// Bytes of all strings after the prefix.
    data: usize,
    layout: Layout<'a>,
    /// Bytes of the layout.
    bytes: usize,
}

#[derive(Debug)]
enum Layout<'a> {
    Fixed(usize),
    Plain { ends: Vec<i64>, plan: Plan },
    Symbols { compressed: Compressed, plan: Plan },
    Numerals(NumeralsPlan<'a>),
}

impl<'a> StringsPlan<'a> {
    /// The smallest way to write `strings` without a symbol table.
    pub(super) fn of(strings: &[&'a [u8]]) -> StringsPlan<'a> {
        let prefix = common_prefix(strings);
        let strings: Vec<&[u8]> = strings.iter().map(|string| string.get(prefix.len()..).unwrap_or_default()).collect();
        let data = strings.iter().map(|string| string.len()).sum();
        let length = strings.first().map_or(0, |string| string.len());
        if strings.iter().any(|string| string.len() != length) {
            let ends = ends_of(&strings);
            let plan = Plan::of(&ends);
            let bytes = plan.bytes() + data;
            return StringsPlan { prefix, strings, data, layout: Layout::Plain { ends, plan }, bytes };
        }
        let bytes = varint_len(length as u64) + data;
        match NumeralsPlan::of(&strings, length).filter(|numerals| numerals.bytes() < bytes) {
            Some(numerals) => {
                let bytes = numerals.bytes();
                StringsPlan { prefix, strings, data, layout: Layout::Numerals(numerals), bytes }
            }
            None => StringsPlan { prefix, strings, data, layout: Layout::Fixed(length), bytes },
        }
    }

    /// The same with a symbol table, where that is smaller.
    pub(super) fn or_with_symbols(mut self, trainer: &mut Trainer) -> Self {
        if self.data < TRAIN_BYTES_MIN || self.bytes < self.data / 8 * 5 {
            return self;
        }
        let Some(compressed) = trainer.compress(&self.strings, self.data) else { return self };
        let plan = Plan::of(&compressed.ends);
        let bytes = compressed.table.len() + plan.bytes() + compressed.data.len();
        // Expanding costs time: it must save an eighth.
        if bytes < self.bytes - self.bytes / 8 {
            self.bytes = bytes;
            self.layout = Layout::Symbols { compressed, plan };
        }
        self
    }

    /// Bytes that [`StringsPlan::write`] appends.
    pub(super) fn bytes(&self) -> usize {
        1 + varint_len(self.prefix.len() as u64) + self.prefix.len() + self.bytes
    }

    /// Appends the strings that the plan was made of.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(match &self.layout {
            Layout::Fixed(_) => FIXED,
            Layout::Plain { .. } => PLAIN,
            Layout::Symbols { .. } => SYMBOLS,
            Layout::Numerals(_) => NUMERALS,
        });
        put_varint(out, self.prefix.len() as u64);
        out.extend_from_slice(self.prefix);
        match &self.layout {
            Layout::Numerals(numerals) => return numerals.write(out),
            Layout::Symbols { compressed, plan } => {
                out.extend_from_slice(&compressed.table);
                plan.write(&compressed.ends, out);
                out.extend_from_slice(&compressed.data);
                return;
            }
            Layout::Fixed(length) => put_varint(out, *length as u64),
            Layout::Plain { ends, plan } => plan.write(ends, out),
        }
        self.strings.iter().for_each(|string| out.extend_from_slice(string));
    }
}

fn ends_of(strings: &[&[u8]]) -> Vec<i64> {
    let mut end = 0i64;
    strings
        .iter()
        .map(|string| {
            end = end.saturating_add(i64::try_from(string.len()).unwrap_or(i64::MAX));
            end
        })
        .collect()
}

/// What all strings begin with. It may end inside a character: a reader looks at whole strings only.
fn common_prefix<'a>(strings: &[&'a [u8]]) -> &'a [u8] {
    let Some((first, rest)) = strings.split_first() else { return &[] };
    let mut length = first.len();
    for string in rest {
        length = first.iter().zip(*string).take(length).take_while(|(a, b)| a == b).count();
        if length == 0 {
            return &[];
        }
    }
    first.get(..length).unwrap_or_default()
}
