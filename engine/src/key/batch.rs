/*!
Many encoded keys in one buffer, and their making from Arrow columns.

Keys of one width lie side by side without offsets, and are written column by column with that stride; others are
measured first, so that each is written once into its final place. No [`Value`](crate::types::Value) is made per cell.
*/

use super::component::{self, NULL, PRESENT, TERMINATOR, Visitor};
use super::schema::{KeySchema, check_len, null_violation};
use crate::error::{Error, Result};
use arrow::array::{Array, ArrayRef};
use arrow::buffer::NullBuffer;
use std::ops::Range;

/// Encoded keys, in the order of their rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedKeys {
    data: Vec<u8>,
    places: Places,
}

/// Where in the buffer each key lies.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Places {
    /// All keys have this width, which is not 0.
    Fixed { width: usize, count: usize },
    /// Each key's end; it begins where its predecessor ends.
    Ends(Vec<usize>),
}

impl EncodedKeys {
    /// No keys yet, with room for some; `fixed_width` is [`KeySchema::fixed_width`].
    pub fn with_capacity(fixed_width: Option<usize>, keys: usize) -> Self {
        match fixed_width {
            Some(width) if width > 0 => {
                EncodedKeys { data: Vec::with_capacity(width * keys), places: Places::Fixed { width, count: 0 } }
            }
            _ => EncodedKeys { data: Vec::new(), places: Places::Ends(Vec::with_capacity(keys)) },
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match &self.places {
            Places::Fixed { count, .. } => *count,
            Places::Ends(ends) => ends.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all keys together.
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// Key number `row`.
    ///
    /// # Panics
    /// As a slice does, when there are not that many.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "row < len is the caller's duty, as with a slice")]
    pub fn get(&self, row: usize) -> &[u8] {
        match &self.places {
            Places::Fixed { width, .. } => &self.data[row * width..(row + 1) * width],
            Places::Ends(ends) => {
                let start = if row == 0 { 0 } else { ends[row - 1] };
                &self.data[start..ends[row]]
            }
        }
    }

    /// The first key.
    pub fn first(&self) -> Option<&[u8]> {
        (!self.is_empty()).then(|| self.get(0))
    }

    /// The last key.
    pub fn last(&self) -> Option<&[u8]> {
        self.len().checked_sub(1).map(|row| self.get(row))
    }

    /// Appends a key. One of another width than the others costs a copy of the places, once.
    pub fn push(&mut self, key: &[u8]) {
        if let Places::Fixed { width, count } = &mut self.places {
            if key.len() == *width {
                *count += 1;
                self.data.extend_from_slice(key);
                return;
            }
            self.places = Places::Ends((1..=*count).map(|row| row * *width).collect());
        }
        self.data.extend_from_slice(key);
        if let Places::Ends(ends) = &mut self.places {
            ends.push(self.data.len());
        }
    }

    /// Appends some keys of `other`.
    pub fn extend(&mut self, other: &EncodedKeys, rows: Range<usize>) {
        match (&mut self.places, &other.places) {
            (Places::Fixed { width, count }, Places::Fixed { width: theirs, .. }) if width == theirs => {
                let bytes = other.data.get(rows.start * *width..rows.end * *width).unwrap_or_default();
                *count += bytes.len() / *width;
                self.data.extend_from_slice(bytes);
            }
            _ => rows.for_each(|row| self.push(other.get(row))),
        }
    }

    /// Some of the keys, copied.
    #[must_use]
    pub fn slice(&self, rows: Range<usize>) -> EncodedKeys {
        let mut part = self.empty_like(rows.len());
        part.extend(self, rows);
        part
    }

    /// The keys of these rows, in the order asked for.
    #[must_use]
    pub fn take(&self, rows: &[u32]) -> EncodedKeys {
        let mut part = self.empty_like(rows.len());
        rows.iter().filter_map(|row| usize::try_from(*row).ok()).for_each(|row| part.push(self.get(row)));
        part
    }

    fn empty_like(&self, capacity: usize) -> EncodedKeys {
        let width = match self.places {
            Places::Fixed { width, .. } => Some(width),
            Places::Ends(_) => None,
        };
        EncodedKeys::with_capacity(width, capacity)
    }

    /// Forgets the keys and keeps the memory.
    pub fn clear(&mut self) {
        self.data.clear();
        match &mut self.places {
            Places::Fixed { count, .. } => *count = 0,
            Places::Ends(ends) => ends.clear(),
        }
    }

    /// All keys in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &[u8]> + ExactSizeIterator + '_ {
        (0..self.len()).map(|row| self.get(row))
    }

    /// Whether no key is smaller than its predecessor.
    pub fn is_sorted(&self) -> bool {
        self.every_step(|a, b| a <= b)
    }

    /// Whether every key is greater than its predecessor: sorted, and none twice.
    pub fn is_strictly_sorted(&self) -> bool {
        self.every_step(|a, b| a < b)
    }

    fn every_step(&self, holds: impl Fn(&[u8], &[u8]) -> bool) -> bool {
        if let Places::Fixed { width: 8, .. } = self.places {
            // Big-endian numbers compare as their bytes do, in one instruction.
            let (heads, _) = self.data.as_chunks::<8>();
            return heads.iter().zip(heads.iter().skip(1)).all(|(a, b)| holds(a, b));
        }
        self.iter().zip(self.iter().skip(1)).all(|(a, b)| holds(a, b))
    }

    /// How many keys come before the first one for which `before` is false; keys must be sorted by it.
    pub fn partition_point(&self, before: impl Fn(&[u8]) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if before(self.get(middle)) { low = middle + 1 } else { high = middle }
        }
        low
    }
}

/// Encodes a whole batch; see [`KeySchema::encode_arrays`].
pub(super) fn encode(schema: &KeySchema, arrays: &[ArrayRef]) -> Result<EncodedKeys> {
    if arrays.len() != schema.columns().len() {
        return Err(Error::invalid(format!("{} arrays for a key of {} columns", arrays.len(), schema.columns().len())));
    }
    let rows = arrays.first().map_or(0, |array| array.len());
    for (number, (array, column)) in (1..).zip(arrays.iter().zip(schema.columns())) {
        if array.len() != rows {
            return Err(Error::invalid(format!("key arrays of {rows} and of {} rows", array.len())));
        }
        if !column.nullable && array.null_count() > 0 {
            return Err(null_violation(number));
        }
    }
    match schema.fixed_width() {
        Some(width) => encode_fixed(schema, arrays, rows, width),
        None => encode_variable(schema, arrays, rows),
    }
}

fn encode_fixed(schema: &KeySchema, arrays: &[ArrayRef], rows: usize, width: usize) -> Result<EncodedKeys> {
    check_len(width)?;
    let mut writer = Strided { data: vec![0; rows * width], width, offset: 0 };
    for (array, column) in arrays.iter().zip(schema.columns()) {
        component::visit(array, column.ty, &mut writer)?;
        writer.offset += column.fixed_width().unwrap_or(0);
    }
    Ok(EncodedKeys { data: writer.data, places: Places::Fixed { width, count: rows } })
}

/// Writes one column's components at `offset` of every key.
struct Strided {
    data: Vec<u8>,
    width: usize,
    offset: usize,
}

impl Visitor for Strided {
    fn fixed<const N: usize>(&mut self, _: Option<&NullBuffer>, values: impl Iterator<Item = [u8; N]>) {
        if self.width == N {
            let (places, _) = self.data.as_chunks_mut::<N>();
            places.iter_mut().zip(values).for_each(|(place, value)| *place = value);
            return;
        }
        for (key, value) in self.data.chunks_exact_mut(self.width).zip(values) {
            if let Some(place) = key.get_mut(self.offset..self.offset + N) {
                place.copy_from_slice(&value);
            }
        }
    }

    fn bytes<'a>(&mut self, _: Option<&NullBuffer>, _: impl Iterator<Item = &'a [u8]>) {
        // A key with a Text or Bytes column has no fixed width and never comes here.
    }
}

fn encode_variable(schema: &KeySchema, arrays: &[ArrayRef], rows: usize) -> Result<EncodedKeys> {
    let mut measure = Measure { lens: vec![0; rows], nullable: false };
    for (array, column) in arrays.iter().zip(schema.columns()) {
        measure.nullable = column.nullable;
        component::visit(array, column.ty, &mut measure)?;
    }
    let mut places = measure.lens;
    check_len(places.iter().copied().max().unwrap_or(0))?;
    let mut total = 0;
    for place in &mut places {
        total += std::mem::replace(place, total);
    }
    // From here on a place is where the key's next component goes; in the end it is where the key ends.
    let mut writer = Scattered { data: vec![0; total], places, nullable: false };
    for (array, column) in arrays.iter().zip(schema.columns()) {
        writer.nullable = column.nullable;
        component::visit(array, column.ty, &mut writer)?;
    }
    Ok(EncodedKeys { data: writer.data, places: Places::Ends(writer.places) })
}

/// Adds up the bytes of each row's key.
struct Measure {
    lens: Vec<usize>,
    nullable: bool,
}

impl Measure {
    fn add(&mut self, nulls: Option<&NullBuffer>, lens: impl Iterator<Item = usize>) {
        let marker = usize::from(self.nullable);
        for (row, (total, len)) in self.lens.iter_mut().zip(lens).enumerate() {
            *total += if nulls.is_some_and(|nulls| nulls.is_null(row)) { marker } else { marker + len };
        }
    }
}

impl Visitor for Measure {
    fn fixed<const N: usize>(&mut self, nulls: Option<&NullBuffer>, values: impl Iterator<Item = [u8; N]>) {
        self.add(nulls, values.map(|_| N));
    }

    fn bytes<'a>(&mut self, nulls: Option<&NullBuffer>, values: impl Iterator<Item = &'a [u8]>) {
        self.add(nulls, values.map(component::escaped_len));
    }
}

/// Writes each row's component where the row's key has got to.
struct Scattered {
    data: Vec<u8>,
    places: Vec<usize>,
    nullable: bool,
}

impl Scattered {
    fn write<T>(&mut self, nulls: Option<&NullBuffer>, values: impl Iterator<Item = T>, put: impl Fn(&mut Cursor, T)) {
        for (row, (place, value)) in self.places.iter_mut().zip(values).enumerate() {
            let mut cursor = Cursor { data: &mut self.data, at: *place };
            if nulls.is_some_and(|nulls| nulls.is_null(row)) {
                cursor.put(&[NULL]);
            } else {
                if self.nullable {
                    cursor.put(&[PRESENT]);
                }
                put(&mut cursor, value);
            }
            *place = cursor.at;
        }
    }
}

impl Visitor for Scattered {
    fn fixed<const N: usize>(&mut self, nulls: Option<&NullBuffer>, values: impl Iterator<Item = [u8; N]>) {
        self.write(nulls, values, |cursor, value| cursor.put(&value));
    }

    fn bytes<'a>(&mut self, nulls: Option<&NullBuffer>, values: impl Iterator<Item = &'a [u8]>) {
        self.write(nulls, values, |cursor, value| {
            if value.contains(&0) {
                let mut escaped = Vec::with_capacity(component::escaped_len(value));
                component::push_escaped(value, &mut escaped);
                cursor.put(&escaped);
            } else {
                cursor.put(value);
                cursor.put(&TERMINATOR);
            }
        });
    }
}

struct Cursor<'a> {
    data: &'a mut [u8],
    at: usize,
}

impl Cursor<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let end = self.at + bytes.len();
        if let Some(place) = self.data.get_mut(self.at..end) {
            place.copy_from_slice(bytes);
        }
        self.at = end;
    }
}
