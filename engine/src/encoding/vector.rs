/*!
Reads a vector: by position, by range, by list of positions.

[`Vector::open`] borrows the bytes and keeps a few numbers of each section; it allocates only for rare shapes. Rows that are NULL have
no value stored, so a row number becomes the number of values before it ([`nulls`](super::nulls)) before it reaches a body.
*/

use super::bits::Packed;
use super::floats::{Bits, Decimals, Float};
use super::heads::Heads;
use super::integers::{Course, Integers, Shape};
use super::nulls::{Nulls, spread};
use super::strings::Strings;
use super::wide::Wide;
use super::writer::code_width;
use super::{Class, Encoding, Tag};
use crate::bytes::Input;
use crate::column::{ColumnSink, Spans, interval_of};
use crate::error::{Error, Result};
use crate::types::{ColumnType, Value};
use arrow::buffer::NullBuffer;
use std::cmp::Ordering;
use std::ops::Range;

/// One column's values of one slice, opened over their bytes. A point read opens one for each column and hands it on, and pays for its
/// size: what is large and rarer than the rest is boxed.
#[derive(Debug, Clone)]
pub struct Vector<'a> {
    ty: ColumnType,
    rows: usize,
    values: usize,
    nulls: Option<Nulls<'a>>,
    body: Body<'a>,
}

#[derive(Debug, Clone)]
enum Body<'a> {
    Nothing,
    Integers(Integers<'a>),
    IntegerDictionary(Box<(Codes<'a>, Integers<'a>)>),
    Decimals(Box<Decimals<'a>>),
    Bits(Bits<'a>),
    BitsDictionary(Box<(Codes<'a>, Bits<'a>)>),
    Wide(Box<Wide<'a>>),
    Strings(Strings<'a>),
    StringsDictionary(Box<(Codes<'a>, Strings<'a>)>),
}

/// For each value, which of a dictionary's entries it is.
#[derive(Debug, Clone, Copy)]
struct Codes<'a> {
    entries: usize,
    codes: Packed<'a>,
}

impl<'a> Codes<'a> {
    fn open(input: &mut Input<'a>, values: usize) -> Result<Self> {
        let entries = input.count(values, "entries of a dictionary")?;
        if entries == 0 {
            return Err(Error::corruption("a dictionary has no entries"));
        }
        Ok(Codes { entries, codes: Packed::open(input, values, code_width(entries))? })
    }

    fn get(&self, index: usize) -> Result<usize> {
        usize::try_from(self.codes.get(index)).ok().filter(|code| *code < self.entries).ok_or_else(no_entry)
    }

    /// The codes of the values from `start` on.
    fn decode(&self, start: usize, out: &mut [u64]) -> Result<()> {
        self.codes.unpack(start, out);
        if out.iter().copied().max().unwrap_or(0) < self.entries as u64 { Ok(()) } else { Err(no_entry()) }
    }

    /// `entries[code]` for the values from `start` on.
    fn look_up<T: Copy + Default>(&self, start: usize, entries: &[T], out: &mut [T]) -> Result<()> {
        let mut codes = vec![0u64; out.len()];
        self.decode(start, &mut codes)?;
        for (to, code) in out.iter_mut().zip(&codes) {
            *to = usize::try_from(*code).ok().and_then(|code| entries.get(code)).copied().unwrap_or_default();
        }
        Ok(())
    }
}

fn no_entry() -> Error {
    Error::corruption("a vector names an entry that its dictionary does not have")
}

impl<'a> Vector<'a> {
    /// Opens `bytes` as a vector of a column of type `ty`; they must be the vector and nothing else.
    ///
    /// # Errors
    /// `Corruption` when they are not such a vector.
    pub fn open(bytes: &'a [u8], ty: ColumnType) -> Result<Vector<'a>> {
        let mut input = Input::new(bytes, "a vector");
        let head = u16::from(input.byte()?) | u16::from(input.byte()?) << 8;
        let rows = usize::from(head & 0x3ff) + 1;
        let tag = head >> 11;
        let nulls = if head >> 10 & 1 == 0 { None } else { Some(Nulls::open(&mut input, rows)?) };
        let values = match &nulls {
            Some(nulls) => nulls.rank(rows),
            None if tag == Tag::Nothing as u16 => 0,
            None => rows,
        };
        let body = open_body(&mut input, tag, values, ty)?;
        input.end()?;
        Ok(Vector { ty, rows, values, nulls, body })
    }

    /// Rows, NULLs among them: 1 to [`SLICE_ROWS_MAX`](crate::limits::SLICE_ROWS_MAX).
    #[expect(clippy::len_without_is_empty, reason = "a vector is never empty")]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Rows that are NULL.
    pub fn null_count(&self) -> usize {
        self.rows - self.values
    }

    /// The type of the column.
    pub fn column_type(&self) -> ColumnType {
        self.ty
    }

    /// How the values are laid out.
    pub fn encoding(&self) -> Encoding {
        match &self.body {
            Body::Nothing => Encoding::Null,
            Body::Integers(integers) => match integers.shape() {
                Shape::Constant => Encoding::Constant,
                Shape::Frame => Encoding::Frame,
                Shape::Line => Encoding::Line,
                Shape::Lines => Encoding::Lines,
            },
            Body::IntegerDictionary(..) | Body::BitsDictionary(..) | Body::StringsDictionary(..) => {
                Encoding::Dictionary
            }
            Body::Decimals(_) => Encoding::Decimal,
            Body::Bits(bits) if bits.integers().shape() == Shape::Constant => Encoding::Constant,
            Body::Bits(_) => Encoding::FloatBits,
            Body::Wide(_) => Encoding::Wide,
            Body::Strings(strings) => strings.encoding(),
        }
    }

    /// Whether `row` is NULL; a row past the end is.
    #[inline]
    pub fn is_null(&self, row: usize) -> bool {
        self.index_of(row).is_none()
    }

    /// The value at `row`; its neighbours are not decoded.
    ///
    /// # Errors
    /// `InvalidArgument` when there is no such row; `Corruption` when its bytes are no value of the column's type.
    pub fn value(&self, row: usize) -> Result<Value> {
        let mut value = Value::Null;
        self.value_into(row, &mut value)?;
        Ok(value)
    }

    /// As [`Vector::value`], into one that is there: the memory of a text or of bytes is used again.
    ///
    /// # Errors
    /// As [`Vector::value`]; what was there may be lost.
    #[inline]
    pub fn value_into(&self, row: usize, out: &mut Value) -> Result<()> {
        self.check(row..row + 1)?;
        let Some(index) = self.index_of(row) else {
            *out = Value::Null;
            return Ok(());
        };
        *out = match Class::of(self.ty) {
            Class::Integer => self.integer(index).and_then(|value| self.of_integer(value))?,
            Class::Float32 => Value::Float32(self.float(index)?),
            Class::Float64 => Value::Float64(self.float(index)?),
            Class::Decimal => Value::Decimal(self.decimal(index)?),
            Class::Strings => {
                let mut bytes = match std::mem::replace(out, Value::Null) {
                    Value::Bytes(bytes) => bytes,
                    Value::Text(text) => text.into_bytes(),
                    _ => Vec::new(),
                };
                bytes.clear();
                self.append_string(index, &mut bytes)?;
                self.of_bytes(bytes)?
            }
        };
        Ok(())
    }

    /// Appends `row` to `sink`, which must be of the same type. `scratch` is anything.
    ///
    /// # Errors
    /// As [`Vector::decode`].
    pub fn append_row(&self, row: usize, sink: &mut ColumnSink, scratch: &mut Vec<u8>) -> Result<()> {
        self.check(row..row + 1)?;
        self.check_sink(sink)?;
        match self.index_of(row) {
            Some(index) => self.append_one(index, sink, scratch),
            None => {
                sink.append_nulls(1);
                Ok(())
            }
        }
    }

    /// The integers by position, where it has no NULL and they are stored as such: for searches by key.
    #[inline]
    pub fn ints_at(&self) -> Option<IntsAt<'_, 'a>> {
        match &self.body {
            Body::Integers(integers) if self.nulls.is_none() => Some(IntsAt(integers)),
            _ => None,
        }
    }

    /// The byte strings by position, where it has no NULL: for searches by key.
    #[inline]
    pub fn strings_at(&self) -> Option<StringsAt<'_, 'a>> {
        match &self.body {
            _ if self.nulls.is_some() => None,
            Body::Strings(strings) => Some(StringsAt { codes: None, strings }),
            Body::StringsDictionary(parts) => {
                let (codes, strings) = &**parts;
                Some(StringsAt { codes: Some(codes), strings })
            }
            _ => None,
        }
    }

    /// The integer at `row`, nothing where it is NULL: the integer class only, for searches by key.
    ///
    /// # Errors
    /// As [`Vector::value`]; `InvalidArgument` too where the column holds no integers.
    #[inline]
    pub fn int(&self, row: usize) -> Result<Option<i64>> {
        self.check(row..row + 1)?;
        if Class::of(self.ty) != Class::Integer || self.ty == ColumnType::Boolean {
            return Err(Error::invalid(format!("a column of type {:?} read as integers", self.ty)));
        }
        self.index_of(row).map(|index| self.integer(index)).transpose()
    }

    /// Appends the rows `rows` to `sink`, which must be of the same type.
    ///
    /// # Errors
    /// `InvalidArgument` when there are no such rows or the sink is of another type; `Corruption` when their bytes are no
    /// values of the column's type. The sink stays as it was.
    pub fn decode(&self, rows: Range<usize>, sink: &mut ColumnSink) -> Result<()> {
        self.check(rows.clone())?;
        self.check_sink(sink)?;
        if rows.is_empty() {
            return Ok(());
        }
        if self.values == 0 {
            sink.append_nulls(rows.len());
            return Ok(());
        }
        match &self.nulls {
            None => self.append(rows, None, sink),
            Some(bitmap) => {
                let nulls = bitmap.arrow(&rows);
                let dense = bitmap.rank(rows.start)..bitmap.rank(rows.end);
                self.append(dense, Some(&nulls).filter(|nulls| nulls.null_count() > 0), sink)
            }
        }
    }

    /// Appends the rows `rows`, in the order they are named, to `sink`, which must be of the same type.
    ///
    /// # Errors
    /// As [`Vector::decode`]; the rows before the one that failed may have been appended.
    pub fn gather(&self, rows: &[u32], sink: &mut ColumnSink) -> Result<()> {
        self.check_sink(sink)?;
        if let Some(past) = rows.iter().find(|row| **row as usize >= self.rows) {
            return Err(self.no_row(*past as usize));
        }
        sink.reserve(rows.len());
        let mut scratch = Vec::new();
        for row in rows {
            match self.index_of(*row as usize) {
                Some(index) => self.append_one(index, sink, &mut scratch)?,
                None => sink.append_nulls(1),
            }
        }
        Ok(())
    }

    /// Where the value of `row` lies among the values; nothing where it is NULL.
    #[inline]
    fn index_of(&self, row: usize) -> Option<usize> {
        match &self.nulls {
            _ if row >= self.rows => None,
            None => (self.values > 0).then_some(row),
            Some(nulls) => nulls.is_valid(row).then(|| nulls.rank(row)),
        }
    }

    #[inline]
    fn check(&self, rows: Range<usize>) -> Result<()> {
        if rows.start <= rows.end && rows.end <= self.rows { Ok(()) } else { Err(self.no_row(rows.end)) }
    }

    #[cold]
    fn no_row(&self, row: usize) -> Error {
        Error::invalid(format!("row {row} of a vector of {}", self.rows))
    }

    fn check_sink(&self, sink: &ColumnSink) -> Result<()> {
        match sink.column_type() {
            ty if ty == self.ty => Ok(()),
            ty => Err(Error::invalid(format!("a vector of type {:?} into a column of type {ty:?}", self.ty))),
        }
    }

    fn integer(&self, index: usize) -> Result<i64> {
        match &self.body {
            Body::Integers(integers) => Ok(integers.get(index)),
            Body::IntegerDictionary(parts) => {
                let (codes, entries) = &**parts;
                Ok(entries.get(codes.get(index)?))
            }
            _ => Err(self.misplaced()),
        }
    }

    fn float<F: Float>(&self, index: usize) -> Result<F> {
        match &self.body {
            Body::Decimals(decimals) => Ok(decimals.get(index)),
            Body::Bits(bits) => Ok(bits.get(index)),
            Body::BitsDictionary(parts) => {
                let (codes, entries) = &**parts;
                Ok(entries.get(codes.get(index)?))
            }
            _ => Err(self.misplaced()),
        }
    }

    fn decimal(&self, index: usize) -> Result<i128> {
        match &self.body {
            Body::Wide(wide) => Ok(wide.get(index)),
            _ => self.integer(index).map(i128::from),
        }
    }

    fn append_string(&self, index: usize, out: &mut Vec<u8>) -> Result<()> {
        match &self.body {
            Body::Strings(strings) => strings.append(index, out),
            Body::StringsDictionary(parts) => {
                let (codes, entries) = &**parts;
                entries.append(codes.get(index)?, out)
            }
            _ => Err(self.misplaced()),
        }
    }

    fn misplaced(&self) -> Error {
        Error::internal(format!("a vector of type {:?} has a body of another", self.ty))
    }

    fn of_integer(&self, value: i64) -> Result<Value> {
        let fits = match self.ty {
            ColumnType::Boolean => {
                return match value {
                    0 | 1 => Ok(Value::Boolean(value == 1)),
                    _ => Err(Error::corruption(format!("a boolean is stored as {value}"))),
                };
            }
            ColumnType::Int16 => i16::try_from(value).is_ok(),
            ColumnType::Int32 | ColumnType::Date => i32::try_from(value).is_ok(),
            _ => true,
        };
        if fits { Ok(Value::Int(value)) } else { Err(Error::corruption(format!("{value} is stored as {:?}", self.ty))) }
    }

    fn of_bytes(&self, bytes: Vec<u8>) -> Result<Value> {
        let sixteen = || {
            <[u8; 16]>::try_from(bytes.as_slice()).map_err(|_| {
                Error::corruption(format!("{} bytes are stored where {:?} takes 16", bytes.len(), self.ty))
            })
        };
        match self.ty {
            ColumnType::Interval => Ok(Value::Interval(interval_of(sixteen()?))),
            ColumnType::Uuid => Ok(Value::Uuid(sixteen()?)),
            ColumnType::Bytes => Ok(Value::Bytes(bytes)),
            _ => String::from_utf8(bytes)
                .map(Value::Text)
                .map_err(|e| Error::corruption(format!("stored text is not UTF-8: {e}"))),
        }
    }

    /// Appends one value that is there.
    fn append_one(&self, index: usize, sink: &mut ColumnSink, scratch: &mut Vec<u8>) -> Result<()> {
        match Class::of(self.ty) {
            Class::Integer => sink.extend_ints(&[self.integer(index)?], None),
            Class::Float32 => sink.extend_f32(&[self.float(index)?], None),
            Class::Float64 => sink.extend_f64(&[self.float(index)?], None),
            Class::Decimal => sink.extend_decimals(&[self.decimal(index)?], None),
            Class::Strings => {
                scratch.clear();
                self.append_string(index, scratch)?;
                sink.extend_spans(Spans { data: scratch, ends: &[scratch.len()] }, None)
            }
        }
    }

    /// Appends the values `dense`, with NULLs between them where `nulls` has them.
    fn append(&self, dense: Range<usize>, nulls: Option<&NullBuffer>, sink: &mut ColumnSink) -> Result<()> {
        match &self.body {
            Body::Nothing => Err(self.misplaced()),
            Body::Integers(integers) => self.append_integers(dense, nulls, sink, |start, out| {
                integers.decode(start, out);
                Ok(())
            }),
            Body::IntegerDictionary(parts) => {
                let (codes, entries) = &**parts;
                self.append_integers(dense, nulls, sink, |start, out| {
                    codes.look_up(start, &table(codes.entries, |out| entries.decode(0, out)), out)
                })
            }
            Body::Wide(wide) => {
                let mut values: Vec<i128> = dense.map(|index| wide.get(index)).collect();
                let count = values.len();
                if let Some(nulls) = nulls {
                    values.resize(nulls.len(), 0);
                    spread(&mut values, count, nulls);
                }
                sink.extend_decimals(&values, nulls)
            }
            Body::Strings(strings) => match strings.constant() {
                Some(value) => {
                    let picks = vec![0u64; dense.len()];
                    sink.extend_choices(Spans { data: value, ends: &[value.len()] }, &picks, nulls)
                }
                None => sink.extend_spans(strings.stretch(dense)?.spans(), nulls),
            },
            Body::StringsDictionary(parts) => {
                let (codes, entries) = &**parts;
                let mut picks = vec![0u64; dense.len()];
                codes.decode(dense.start, &mut picks)?;
                sink.extend_choices(entries.stretch(0..entries.count())?.spans(), &picks, nulls)
            }
            Body::Decimals(_) | Body::Bits(_) | Body::BitsDictionary(..) => match self.ty {
                ColumnType::Float32 => self.append_floats::<f32>(dense, nulls, |values| sink.extend_f32(values, nulls)),
                _ => self.append_floats::<f64>(dense, nulls, |values| sink.extend_f64(values, nulls)),
            },
        }
    }

    fn append_integers(
        &self,
        dense: Range<usize>,
        nulls: Option<&NullBuffer>,
        sink: &mut ColumnSink,
        decode: impl FnOnce(usize, &mut [i64]) -> Result<()>,
    ) -> Result<()> {
        with_values(dense, nulls, decode, |values| sink.extend_ints(values, nulls))
    }

    fn append_floats<F: Float>(
        &self,
        dense: Range<usize>,
        nulls: Option<&NullBuffer>,
        append: impl FnOnce(&[F]) -> Result<()>,
    ) -> Result<()> {
        let decode = |start: usize, out: &mut [F]| match &self.body {
            Body::Decimals(decimals) => {
                decimals.decode(start, out);
                Ok(())
            }
            Body::Bits(bits) => {
                bits.decode(start, out);
                Ok(())
            }
            Body::BitsDictionary(parts) => {
                let (codes, entries) = &**parts;
                codes.look_up(start, &table(codes.entries, |out| entries.decode(0, out)), out)
            }
            _ => Err(self.misplaced()),
        };
        with_values(dense, nulls, decode, append)
    }
}

/// The integers of a vector by position.
#[derive(Debug, Clone, Copy)]
pub struct IntsAt<'v, 'a>(&'v Integers<'a>);

impl<'a> IntsAt<'_, 'a> {
    /// The line that they follow, where there is one.
    #[inline]
    pub fn course(&self) -> Option<Course> {
        self.0.course()
    }

    /// The integer at `row`, which must be one of the vector's.
    #[inline]
    pub fn get(&self, row: usize) -> i64 {
        self.0.get(row)
    }
}

/// The byte strings of a vector by position, compared where they lie.
#[derive(Debug, Clone, Copy)]
pub struct StringsAt<'v, 'a> {
    codes: Option<&'v Codes<'a>>,
    strings: &'v Strings<'a>,
}

impl<'a> StringsAt<'_, 'a> {
    /// What of `target` is to be compared with the strings' rest after what they all begin with; or how they all compare with it.
    #[inline]
    pub fn enter<'t>(&self, target: &'t [u8]) -> Result<&'t [u8], Ordering> {
        target.strip_prefix(self.strings.prefix()).ok_or_else(|| self.strings.prefix().cmp(target))
    }

    /// The beginnings of the strings' rests as numbers of the same order, where these are quick to come by.
    ///
    /// # Errors
    /// `Corruption` where the vector's bytes are none.
    pub fn heads(&self) -> Result<Option<Heads<'_, 'a>>> {
        if self.codes.is_some() { Ok(None) } else { self.strings.heads() }
    }

    /// How the rest of the string at `row` compares with `rest`.
    ///
    /// # Errors
    /// `Corruption` where its bytes are no string.
    #[inline]
    pub fn compare(&self, row: usize, rest: &[u8], scratch: &mut Vec<u8>) -> Result<Ordering> {
        let index = match self.codes {
            Some(codes) => codes.get(row)?,
            None => row,
        };
        self.strings.compare_rest(index, rest, scratch)
    }
}

/// The entries of a dictionary.
fn table<T: Copy + Default>(entries: usize, decode: impl FnOnce(&mut [T])) -> Vec<T> {
    let mut table = vec![T::default(); entries];
    decode(&mut table);
    table
}

/// Decodes `dense` into a buffer, moves the values to their rows, and hands them on.
fn with_values<T: Copy + Default>(
    dense: Range<usize>,
    nulls: Option<&NullBuffer>,
    decode: impl FnOnce(usize, &mut [T]) -> Result<()>,
    append: impl FnOnce(&[T]) -> Result<()>,
) -> Result<()> {
    let count = dense.len();
    let mut values = vec![T::default(); nulls.map_or(count, NullBuffer::len)];
    decode(dense.start, values.get_mut(..count).unwrap_or_default())?;
    if let Some(nulls) = nulls {
        spread(&mut values, count, nulls);
    }
    append(&values)
}

fn open_body<'a>(input: &mut Input<'a>, tag: u16, values: usize, ty: ColumnType) -> Result<Body<'a>> {
    const NOTHING: u16 = Tag::Nothing as u16;
    const PLAIN: u16 = Tag::Plain as u16;
    const DICTIONARY: u16 = Tag::Dictionary as u16;
    const DECIMAL: u16 = Tag::Decimal as u16;
    const WIDE: u16 = Tag::Wide as u16;
    Ok(match (tag, Class::of(ty)) {
        (NOTHING, _) if values == 0 => Body::Nothing,
        _ if values == 0 => return Err(Error::corruption("a vector without values has a body")),
        (PLAIN, Class::Integer | Class::Decimal) => Body::Integers(Integers::open(input, values)?),
        (PLAIN, Class::Float32 | Class::Float64) => Body::Bits(Bits::open(input, values)?),
        (PLAIN, Class::Strings) => Body::Strings(Strings::open(input, values)?),
        (DICTIONARY, class) => {
            let codes = Codes::open(input, values)?;
            match class {
                Class::Integer | Class::Decimal => {
                    let entries = Integers::open(input, codes.entries)?;
                    Body::IntegerDictionary(Box::new((codes, entries)))
                }
                Class::Float32 | Class::Float64 => {
                    let entries = Bits::open(input, codes.entries)?;
                    Body::BitsDictionary(Box::new((codes, entries)))
                }
                Class::Strings => {
                    let entries = Strings::open(input, codes.entries)?;
                    Body::StringsDictionary(Box::new((codes, entries)))
                }
            }
        }
        (DECIMAL, Class::Float32) => Body::Decimals(Box::new(Decimals::open(input, values, 4)?)),
        (DECIMAL, Class::Float64) => Body::Decimals(Box::new(Decimals::open(input, values, 8)?)),
        (WIDE, Class::Decimal) => Body::Wide(Box::new(Wide::open(input, values)?)),
        _ => return Err(Error::corruption(format!("a vector of type {ty:?} has an unknown body {tag}"))),
    })
}
