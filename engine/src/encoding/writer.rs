/*!
Picks a vector's encoding and writes it.

Candidates are planned, not written: a plan knows its size to the byte. Cheap ones are planned first, and dear ones (a
dictionary, a symbol table) only where the cheap ones leave something to gain.
*/

use super::bits::bit_width;
use super::bits::{pack, packed_len};
use super::distinct::{Distinct, hash_bytes, hash_number};
use super::floats::{BitsPlan, DecimalPlan, Float};
use super::integers::Plan;
use super::nulls::put_bitmap;
use super::strings::StringsPlan;
use super::symbols::Trainer;
use super::vector::Vector;
use super::{Encoding, Tag, wide};
use crate::bytes::{put_varint, varint_len};
use crate::column::interval_bytes;
use crate::error::{Error, Result};
use crate::limits::{SLICE_ROWS_MAX, VALUE_BYTES_MAX};
use crate::types::ColumnType;
use arrow::array::*;
use arrow::buffer::NullBuffer;
use std::ops::Range;

/// Entries of a dictionary of numbers; with more, codes are hardly narrower than a frame's residuals.
const NUMBERS_MAX: usize = 256;

/// Encodes vectors of one column, one after another, and learns from each for the next.
///
/// What is learned (a table of symbols for text) only saves time and bytes: every vector decodes alone.
#[derive(Debug)]
pub struct Encoder {
    ty: ColumnType,
    /// Where bytes are worth more than time: tables of symbols are tried for text.
    trains: bool,
    trainer: Trainer,
    entries_trainer: Trainer,
}

/// Appends rows `rows` of `array` to `out` as one vector: [`Encoder::encode`] for a single one. Many vectors of one
/// column of text are encoded much faster by one [`Encoder`].
///
/// # Errors
/// As [`Encoder::encode`].
pub fn encode(array: &dyn Array, rows: Range<usize>, ty: ColumnType, out: &mut Vec<u8>) -> Result<Encoding> {
    Encoder::new(ty).encode(array, rows, out)
}

impl Encoder {
    /// An encoder for vectors of a column of type `ty`.
    pub fn new(ty: ColumnType) -> Self {
        Encoder { ty, trains: true, trainer: Trainer::default(), entries_trainer: Trainer::default() }
    }

    /// An encoder for vectors that will soon be written again: text gets no tables of symbols, whose training takes far
    /// longer than all the rest.
    pub fn for_short_lived(ty: ColumnType) -> Self {
        Encoder { trains: false, ..Encoder::new(ty) }
    }

    /// Appends rows `rows` of `array` to `out` as one vector, and says how they are laid out.
    ///
    /// # Errors
    /// `InvalidArgument` when there are no rows, more than `SLICE_ROWS_MAX`, or more than the array has, or when its type is
    /// not the column's; `LimitExceeded` for a value over `VALUE_BYTES_MAX`. `out` stays as it was.
    pub fn encode(&mut self, array: &dyn Array, rows: Range<usize>, out: &mut Vec<u8>) -> Result<Encoding> {
        let ty = self.ty;
        if rows.is_empty() || rows.end > array.len() || rows.len() > SLICE_ROWS_MAX {
            return Err(Error::invalid(format!("rows {rows:?} of an array of {} as one vector", array.len())));
        }
        let start = out.len();
        let slice = array.slice(rows.start, rows.len());
        let nulls = slice.nulls().filter(|nulls| nulls.null_count() > 0);
        let all_null = nulls.is_some_and(|nulls| nulls.null_count() == nulls.len());
        out.extend_from_slice(&[0, 0]);
        if let Some(nulls) = nulls.filter(|_| !all_null) {
            put_bitmap(nulls, out);
        }
        let tag = match Values::of(&*slice, nulls, ty) {
            Ok(_) if all_null => Tag::Nothing,
            Ok(values) => values.write(self, out),
            Err(e) => {
                out.truncate(start);
                return Err(e);
            }
        };
        let count = u16::try_from(rows.len() - 1).map_err(|_| Error::internal("rows of a vector"))?;
        let bitmap = u16::from(nulls.is_some() && !all_null);
        let head = count | bitmap << 10 | (tag as u16) << 11;
        out.iter_mut().skip(start).zip(head.to_le_bytes()).for_each(|(to, from)| *to = from);
        Vector::open(out.get(start..).unwrap_or_default(), ty).map(|vector| vector.encoding())
    }
}

/// The values that are there, in the form their class is encoded from.
enum Values<'a> {
    Integers(Vec<i64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimals(Vec<i128>),
    Strings(Vec<&'a [u8]>),
    /// Intervals have no bytes of their own to be borrowed.
    Sixteens(Vec<[u8; 16]>),
}

impl<'a> Values<'a> {
    fn of(array: &'a dyn Array, nulls: Option<&NullBuffer>, ty: ColumnType) -> Result<Values<'a>> {
        let wrong = || Error::invalid(format!("array of type {} where {ty:?} is stored", array.data_type()));
        macro_rules! of {
            ($t:ty) => {
                array.as_any().downcast_ref::<$t>().ok_or_else(wrong)?
            };
        }
        macro_rules! integers {
            ($t:ty) => {
                Values::Integers(dense(of!($t).values().iter().map(|value| i64::from(*value)), nulls))
            };
        }
        Ok(match ty {
            ColumnType::Boolean => Values::Integers(dense(of!(BooleanArray).values().iter().map(i64::from), nulls)),
            ColumnType::Int16 => integers!(Int16Array),
            ColumnType::Int32 => integers!(Int32Array),
            ColumnType::Int64 => integers!(Int64Array),
            ColumnType::Date => integers!(Date32Array),
            ColumnType::Time => integers!(Time64MicrosecondArray),
            ColumnType::Timestamp | ColumnType::TimestampTz => integers!(TimestampMicrosecondArray),
            ColumnType::Float32 => Values::Float32(dense(of!(Float32Array).values().iter().copied(), nulls)),
            ColumnType::Float64 => Values::Float64(dense(of!(Float64Array).values().iter().copied(), nulls)),
            ColumnType::Decimal { .. } => Values::Decimals(dense(of!(Decimal128Array).values().iter().copied(), nulls)),
            ColumnType::Text | ColumnType::Json => {
                let array = of!(StringViewArray);
                strings((0..array.len()).map(|row| array.value(row).as_bytes()), nulls)?
            }
            ColumnType::Bytes => {
                let array = of!(BinaryArray);
                strings((0..array.len()).map(|row| array.value(row)), nulls)?
            }
            ColumnType::Uuid => {
                let array = of!(FixedSizeBinaryArray);
                if array.value_length() != 16 {
                    return Err(wrong());
                }
                strings((0..array.len()).map(|row| array.value(row)), nulls)?
            }
            ColumnType::Interval => {
                let values = of!(IntervalMonthDayNanoArray).values().iter();
                Values::Sixteens(dense(values.map(|value| interval_bytes(*value)), nulls))
            }
        })
    }

    fn write(&self, encoder: &mut Encoder, out: &mut Vec<u8>) -> Tag {
        match self {
            Values::Integers(values) => write_integers(values, out),
            Values::Float32(values) => write_floats(values, out),
            Values::Float64(values) => write_floats(values, out),
            Values::Decimals(values) => write_decimals(values, out),
            Values::Strings(values) => write_strings(values, encoder, out),
            Values::Sixteens(values) => {
                write_strings(&values.iter().map(|v| v.as_slice()).collect::<Vec<_>>(), encoder, out)
            }
        }
    }
}

/// The values of rows that are not NULL.
fn dense<T>(values: impl ExactSizeIterator<Item = T>, nulls: Option<&NullBuffer>) -> Vec<T> {
    match nulls {
        None => values.collect(),
        Some(nulls) => values.zip(nulls).filter_map(|(value, valid)| valid.then_some(value)).collect(),
    }
}

fn strings<'a>(values: impl ExactSizeIterator<Item = &'a [u8]>, nulls: Option<&NullBuffer>) -> Result<Values<'a>> {
    let values = dense(values, nulls);
    match values.iter().find(|value| value.len() > VALUE_BYTES_MAX) {
        Some(value) => Err(Error::new(
            crate::error::ErrorKind::LimitExceeded,
            format!("a value of {} bytes; a value has at most {VALUE_BYTES_MAX}", value.len()),
        )),
        None => Ok(Values::Strings(values)),
    }
}

fn write_integers(values: &[i64], out: &mut Vec<u8>) -> Tag {
    let plan = Plan::of(values);
    if let Some(distinct) = few_numbers(values.len(), plan.bytes(), |row| number(values, row)) {
        let distinct = distinct.sorted_by_key(|row| values.get(row).copied());
        let entries: Vec<i64> = distinct.firsts.iter().filter_map(|row| values.get(*row).copied()).collect();
        let entries_plan = Plan::of(&entries);
        if codes_bytes(&distinct) + entries_plan.bytes() < plan.bytes() {
            write_codes(&distinct, out);
            entries_plan.write(&entries, out);
            return Tag::Dictionary;
        }
    }
    plan.write(values, out);
    Tag::Plain
}

fn number(values: &[i64], row: usize) -> u64 {
    values.get(row).map_or(0, |value| value.cast_unsigned())
}

fn write_floats<F: Float>(values: &[F], out: &mut Vec<u8>) -> Tag {
    let decimal = DecimalPlan::of(values);
    let decimal_bytes = decimal.as_ref().map_or(usize::MAX, DecimalPlan::bytes);
    // Bits are rarely under half of a float: not worth a look where decimals are.
    let bits = (decimal_bytes > values.len() * F::BYTES / 2 || values.len() < 16)
        .then(|| BitsPlan::of(values.iter().copied()));
    let bits_bytes = bits.as_ref().map_or(usize::MAX, BitsPlan::bytes);
    let best = decimal_bytes.min(bits_bytes);
    if let Some(distinct) = few_numbers(values.len(), best, |row| values.get(row).map_or(0, |value| value.bits())) {
        let distinct = distinct.sorted_by_key(|row| values.get(row).map(|value| value.bits()));
        let entries = BitsPlan::of(distinct.firsts.iter().filter_map(|row| values.get(*row).copied()));
        if codes_bytes(&distinct) + entries.bytes() < best {
            write_codes(&distinct, out);
            entries.write(out);
            return Tag::Dictionary;
        }
    }
    match (decimal, bits) {
        (Some(decimal), _) if decimal_bytes <= bits_bytes => {
            decimal.write::<F>(out);
            Tag::Decimal
        }
        (_, bits) => {
            bits.unwrap_or_else(|| BitsPlan::of(values.iter().copied())).write(out);
            Tag::Plain
        }
    }
}

fn write_decimals(values: &[i128], out: &mut Vec<u8>) -> Tag {
    match values.iter().map(|value| i64::try_from(*value)).collect::<Result<Vec<i64>, _>>() {
        Ok(narrow) => write_integers(&narrow, out),
        Err(_) => {
            wide::write(values, out);
            Tag::Wide
        }
    }
}

fn write_strings(values: &[&[u8]], encoder: &mut Encoder, out: &mut Vec<u8>) -> Tag {
    let plan = StringsPlan::of(values);
    let get = |row: usize| values.get(row).copied().unwrap_or_default();
    let worth = values.len() >= 4 && plan.bytes() > values.len() / 8 + 16;
    let distinct = worth
        .then(|| Distinct::of(values.len(), values.len() / 2, |row| hash_bytes(get(row)), |a, b| get(a) == get(b)))
        .flatten();
    if let Some(distinct) = distinct.map(|distinct| distinct.sorted_by_key(get)) {
        let entries: Vec<&[u8]> = distinct.firsts.iter().map(|row| get(*row)).collect();
        let mut entries = StringsPlan::of(&entries);
        if encoder.trains {
            entries = entries.or_with_symbols(&mut encoder.entries_trainer);
        }
        if codes_bytes(&distinct) + entries.bytes() < plan.bytes() {
            write_codes(&distinct, out);
            entries.write(out);
            return Tag::Dictionary;
        }
    }
    let plan = if encoder.trains { plan.or_with_symbols(&mut encoder.trainer) } else { plan };
    plan.write(out);
    Tag::Plain
}

/// The distinct ones of `rows` numbers, where a sample says that they are few and there are bytes to be saved.
fn few_numbers(rows: usize, best: usize, of_row: impl Fn(usize) -> u64) -> Option<Distinct> {
    const SAMPLE: usize = 32;
    if rows < 2 * SAMPLE || best <= rows * 3 / 4 {
        return None;
    }
    let mut sample = [0u64; SAMPLE];
    sample.iter_mut().enumerate().for_each(|(i, to)| *to = of_row(i * rows / SAMPLE));
    sample.sort_unstable();
    let repeats = sample.windows(2).filter(|pair| pair.first() == pair.last()).count();
    // Thirty-two draws from 256 equally likely values repeat twice on average.
    if repeats < 2 {
        return None;
    }
    Distinct::of(rows, NUMBERS_MAX, |row| hash_number(of_row(row)), |a, b| of_row(a) == of_row(b))
}

fn codes_bytes(distinct: &Distinct) -> usize {
    let count = distinct.firsts.len();
    varint_len(count as u64) + packed_len(distinct.codes.len(), code_width(count))
}

fn write_codes(distinct: &Distinct, out: &mut Vec<u8>) {
    put_varint(out, distinct.firsts.len() as u64);
    pack(distinct.codes.iter().map(|code| u64::from(*code)), code_width(distinct.firsts.len()), out);
}

/// Bits of a code among `count` entries.
pub(super) fn code_width(count: usize) -> u32 {
    bit_width((count as u64).saturating_sub(1))
}
