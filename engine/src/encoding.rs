/*!
A column's values of one slice as bytes, and back, by position.

A *vector* is at most 1,024 rows of one column: self-contained bytes that decode alone. [`encode`] looks at the values,
weighs the ways to write them by the bytes each takes, and writes the smallest. [`Vector::open`] checks a vector's header
and the lengths of its sections and decodes nothing; after it a value costs the same wherever it lies, because every
encoding here finds a value by its position.

```text
    +--------------------+-------------------------+------------------------------------------+
    | head, 2 B LE       | null bitmap             | body: the values that are there, dense   |
    | bits 0–9  rows − 1 | if head bit 10          | laid out as bits 11–15 and the column's  |
    | bit 10    bitmap?  | ceil(rows / 8) bytes    | type say                                 |
    | bits 11–15 body    |                         |                                          |
    +--------------------+-------------------------+------------------------------------------+

    body 0  nothing       all rows are NULL
    body 1  plain         integers and booleans: `integers`; floats: `floats` bits; text, bytes, intervals, UUIDs:
                          `strings`; decimals: `integers`, where all fit 64 bits
    body 2  dictionary    count: varint; codes, as many bits as the count needs; then the entries as a plain body
    body 3  decimal       floats: `floats` decimals
    body 4  wide          decimals that do not fit 64 bits: `wide`

    integers   prediction (frame, line, lines) + bit-packed residual + patches
    floats     decimal-scaled integers with exceptions, or the bits as integers
    strings    common prefix, offsets as integers or one length, symbol table (FSST), or numbers (`numerals`)
```

There is no checksum: the run adds one. Bytes that are not what was written give `Corruption`, or other values of the right
type, but never a panic, and never more memory than the rows asked for need: rows are at most 1,024 by the head's ten bits,
and every length is checked against the bytes that are there before it is used.
*/

mod bits;
mod distinct;
mod floats;
mod heads;
mod integers;
mod nulls;
mod numerals;
mod strings;
mod symbols;
#[cfg(test)]
mod tests;
mod vector;
mod wide;
mod writer;

pub use integers::Course;
pub use vector::{IntsAt, StringsAt, Vector};
pub use writer::{Encoder, encode};

use crate::limits::SLICE_ROWS_MAX;
use std::fmt;

// Ten bits of the head hold rows − 1.
const _: () = assert!(SLICE_ROWS_MAX == 1 << 10);

/// How a vector is laid out, for people: statistics and EXPLAIN show it. Readers go by the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Encoding {
    /// All rows are NULL.
    Null,
    /// All values are the same.
    Constant,
    /// Integers above a base, bit-packed.
    Frame,
    /// Integers along a line, with a bit-packed residual.
    Line,
    /// Integers along several lines, with a bit-packed residual.
    Lines,
    /// A few distinct values and a bit-packed code for each row.
    Dictionary,
    /// Floats as decimals (ALP).
    Decimal,
    /// Floats as their bits, bit-packed above a base.
    FloatBits,
    /// Decimals of more than 64 bits.
    Wide,
    /// Byte strings of one length.
    Fixed,
    /// Byte strings of one length as numbers.
    Numerals,
    /// Byte strings with offsets.
    Plain,
    /// Byte strings compressed with a symbol table (FSST).
    Symbols,
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Encoding::Null => "null",
            Encoding::Constant => "constant",
            Encoding::Frame => "frame",
            Encoding::Line => "line",
            Encoding::Lines => "lines",
            Encoding::Dictionary => "dictionary",
            Encoding::Decimal => "decimal",
            Encoding::FloatBits => "float bits",
            Encoding::Wide => "wide",
            Encoding::Fixed => "fixed",
            Encoding::Numerals => "numerals",
            Encoding::Plain => "plain",
            Encoding::Symbols => "symbols",
        })
    }
}

/// What follows a vector's head and bitmap; the number is the one stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag {
    Nothing = 0,
    Plain = 1,
    Dictionary = 2,
    Decimal = 3,
    Wide = 4,
}

/// What a type's values are to the encodings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Integers, dates, times, timestamps and booleans, as 64-bit integers.
    Integer,
    Float32,
    Float64,
    Decimal,
    /// Text, bytes, and the sixteen bytes of intervals and UUIDs.
    Strings,
}

impl Class {
    fn of(ty: crate::types::ColumnType) -> Class {
        use crate::types::ColumnType as T;
        match ty {
            T::Boolean | T::Int16 | T::Int32 | T::Int64 | T::Date | T::Time | T::Timestamp | T::TimestampTz => {
                Class::Integer
            }
            T::Float32 => Class::Float32,
            T::Float64 => Class::Float64,
            T::Decimal { .. } => Class::Decimal,
            T::Text | T::Json | T::Bytes | T::Interval | T::Uuid => Class::Strings,
        }
    }
}
