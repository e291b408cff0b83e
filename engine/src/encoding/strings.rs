/*!
Byte strings: text, bytes, and the sixteen bytes of intervals and UUIDs.

```text
    +-------+------------------+-----------------+---------------------+--------------+
    | shape | common prefix    | symbol table    | lengths             | data         |
    | 1 B   | varint and bytes | if shape bit 1  |                     |              |
    +-------+------------------+-----------------+---------------------+--------------+
    shape bit 0 = 0   every string has the same stored length: a varint; no offsets
    shape bit 0 = 1   where each string ends in the data: integers
    string(i) = prefix + data of i, expanded by the symbols where there are any
```

Strings that are all the same are a prefix and nothing else. Offsets of strings of similar length are a line with a small
residual, so they cost bits, not bytes.
*/

use super::cursor::{Cursor, put_varint, varint_len};
use super::integers::{Integers, Plan};
use super::symbols::{Compressed, Symbols, TRAIN_BYTES_MIN};
use crate::column::Spans;
use crate::error::{Error, Result};
use crate::limits::{SLICE_ROWS_MAX, VALUE_BYTES_MAX};
use std::borrow::Cow;
use std::ops::Range;

const WITH_ENDS: u8 = 1;
const WITH_SYMBOLS: u8 = 2;

/// Byte strings, read in place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strings<'a> {
    count: usize,
    prefix: &'a [u8],
    symbols: Option<Symbols<'a>>,
    lengths: Lengths<'a>,
    data: &'a [u8],
}

#[derive(Debug, Clone, Copy)]
enum Lengths<'a> {
    Fixed(usize),
    Ends(Integers<'a>),
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
    /// Takes `count` strings off the cursor.
    ///
    /// # Errors
    /// `Corruption` when the bytes cannot be `count` strings.
    pub(super) fn open(cursor: &mut Cursor<'a>, count: usize) -> Result<Self> {
        let shape = cursor.byte()?;
        if shape & !(WITH_ENDS | WITH_SYMBOLS) != 0 {
            return Err(Error::corruption(format!("strings of unknown shape {shape}")));
        }
        let prefix = cursor.count(VALUE_BYTES_MAX, "bytes of a common prefix")?;
        let prefix = cursor.take(prefix)?;
        let symbols = if shape & WITH_SYMBOLS == 0 { None } else { Some(Symbols::open(cursor)?) };
        let (lengths, bytes) = if shape & WITH_ENDS == 0 {
            let length = cursor.count(VALUE_BYTES_MAX, "bytes of a string")?;
            (Lengths::Fixed(length), length * count)
        } else {
            let ends = Integers::open(cursor, count)?;
            let bytes = if count == 0 { 0 } else { offset(ends.get(count - 1))? };
            (Lengths::Ends(ends), bytes)
        };
        Ok(Strings { count, prefix, symbols, lengths, data: cursor.take(bytes)? })
    }

    /// The one string that all are, where they are one.
    pub(super) fn constant(&self) -> Option<&'a [u8]> {
        (matches!(self.lengths, Lengths::Fixed(0)) && self.symbols.is_none()).then_some(self.prefix)
    }

    /// Whether there is a symbol table.
    pub(super) fn has_symbols(&self) -> bool {
        self.symbols.is_some()
    }

    /// Whether no offsets are stored.
    pub(super) fn has_fixed_length(&self) -> bool {
        matches!(self.lengths, Lengths::Fixed(_))
    }

    /// How many strings.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The string at `index`, which must be below the count.
    pub(super) fn get(&self, index: usize) -> Result<Cow<'a, [u8]>> {
        let stored = self.stored(index)?;
        if self.prefix.is_empty() && self.symbols.is_none() {
            return Ok(Cow::Borrowed(stored));
        }
        let mut out = self.prefix.to_vec();
        match &self.symbols {
            Some(symbols) => symbols.expand(stored, &mut out)?,
            None => out.extend_from_slice(stored),
        }
        Ok(Cow::Owned(out))
    }

    /// The strings of `rows`, which must be below the count.
    pub(super) fn stretch(&self, rows: Range<usize>) -> Result<Stretch<'a>> {
        let bounds = self.bounds(&rows)?;
        let first = bounds.first().copied().unwrap_or(0);
        let stored = bounds.last().and_then(|last| self.data.get(first..*last)).ok_or_else(out_of_order)?;
        if self.prefix.is_empty() && self.symbols.is_none() {
            let ends = bounds.iter().skip(1).map(|end| end.wrapping_sub(first)).collect();
            return Ok(Stretch { data: Cow::Borrowed(stored), ends });
        }
        let mut data = Vec::with_capacity(rows.len() * self.prefix.len() + stored.len());
        let mut ends = Vec::with_capacity(rows.len());
        let table = self.symbols.map(|symbols| symbols.spread());
        for pair in bounds.windows(2) {
            let &[start, end] = pair else { continue };
            let stored = self.data.get(start..end).ok_or_else(out_of_order)?;
            data.extend_from_slice(self.prefix);
            match &table {
                Some(table) => table.expand(stored, &mut data)?,
                None => data.extend_from_slice(stored),
            }
            ends.push(data.len());
        }
        Ok(Stretch { data: Cow::Owned(data), ends })
    }

    /// Where the strings of `rows` lie in the data: the first one's start, then each one's end.
    fn bounds(&self, rows: &Range<usize>) -> Result<Vec<usize>> {
        match &self.lengths {
            Lengths::Fixed(length) => Ok((rows.start..=rows.end).map(|row| row * length).collect()),
            Lengths::Ends(ends) => {
                let mut raw = [0i64; SLICE_ROWS_MAX];
                let raw = raw.get_mut(..rows.len()).ok_or_else(out_of_order)?;
                ends.decode(rows.start, raw);
                let mut bounds = Vec::with_capacity(rows.len() + 1);
                bounds.push(if rows.start == 0 { 0 } else { offset(ends.get(rows.start - 1))? });
                // What is out of order is found where a string is cut out of the data.
                bounds.extend(raw.iter().map(|end| usize::try_from(*end).unwrap_or(usize::MAX)));
                Ok(bounds)
            }
        }
    }

    fn stored(&self, index: usize) -> Result<&'a [u8]> {
        let (start, end) = match &self.lengths {
            Lengths::Fixed(length) => (index * length, (index + 1) * length),
            Lengths::Ends(ends) => {
                let start = if index == 0 { 0 } else { offset(ends.get(index - 1))? };
                (start, offset(ends.get(index))?)
            }
        };
        self.data.get(start..end).ok_or_else(out_of_order)
    }
}

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
    fixed: Option<usize>,
    ends: Vec<i64>,
    ends_plan: Plan,
    compressed: Option<(Compressed, Plan)>,
    bytes: usize,
}

impl<'a> StringsPlan<'a> {
    /// The way to write `strings` without a symbol table.
    pub(super) fn of(strings: &[&'a [u8]]) -> StringsPlan<'a> {
        let prefix = common_prefix(strings);
        let strings: Vec<&[u8]> = strings.iter().map(|string| string.get(prefix.len()..).unwrap_or_default()).collect();
        let length = strings.first().map_or(0, |string| string.len());
        let fixed = strings.iter().all(|string| string.len() == length).then_some(length);
        let ends = ends_of(&strings);
        let ends_plan = Plan::of(&ends);
        let lengths = fixed.map_or(ends_plan.bytes(), |length| varint_len(length as u64));
        let data: usize = strings.iter().map(|string| string.len()).sum();
        let bytes = 1 + varint_len(prefix.len() as u64) + prefix.len() + lengths + data;
        StringsPlan { prefix, strings, fixed, ends, ends_plan, compressed: None, bytes }
    }

    /// The same with a symbol table, where that is smaller.
    pub(super) fn or_with_symbols(mut self) -> Self {
        let data: usize = self.strings.iter().map(|string| string.len()).sum();
        if data < TRAIN_BYTES_MIN {
            return self;
        }
        let compressed = Compressed::of(&self.strings);
        let plan = Plan::of(&compressed.ends);
        let prefix = 1 + varint_len(self.prefix.len() as u64) + self.prefix.len();
        let bytes = prefix + compressed.table.len() + plan.bytes() + compressed.data.len();
        // Expanding costs time: it must save an eighth.
        if bytes < self.bytes - self.bytes / 8 {
            self.bytes = bytes;
            self.compressed = Some((compressed, plan));
        }
        self
    }

    /// Bytes that [`StringsPlan::write`] appends.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends the strings that the plan was made of.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let shape = match (&self.compressed, self.fixed) {
            (Some(_), _) => WITH_ENDS | WITH_SYMBOLS,
            (None, None) => WITH_ENDS,
            (None, Some(_)) => 0,
        };
        out.push(shape);
        put_varint(out, self.prefix.len() as u64);
        out.extend_from_slice(self.prefix);
        if let Some((compressed, plan)) = &self.compressed {
            out.extend_from_slice(&compressed.table);
            plan.write(&compressed.ends, out);
            out.extend_from_slice(&compressed.data);
            return;
        }
        match self.fixed {
            Some(length) => put_varint(out, length as u64),
            None => self.ends_plan.write(&self.ends, out),
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
