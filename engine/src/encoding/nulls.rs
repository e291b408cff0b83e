/*!
Which rows of a vector are NULL, and where the others' values lie.

```text
    bitmap: one bit a row, row r is bit r % 8 of byte r / 8; 1 = value, 0 = NULL; spare bits are zero
```

Only values that are there are stored, so a row's value lies at its *rank*: the number of values before it. Counting set
bits of at most 1,024 makes that 16 machine instructions at worst.
*/

use crate::bytes::Input;
use crate::error::{Error, Result};
use crate::limits::SLICE_ROWS_MAX;
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};
use std::ops::Range;

/// The NULLs of a vector that has some values and some NULLs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nulls<'a> {
    bitmap: &'a [u8],
}

impl<'a> Nulls<'a> {
    /// Takes the bitmap of `rows` rows off the input.
    pub(super) fn open(input: &mut Input<'a>, rows: usize) -> Result<Self> {
        let nulls = Nulls { bitmap: input.take(rows.div_ceil(8))? };
        if nulls.rank(SLICE_ROWS_MAX) != nulls.rank(rows) {
            return Err(Error::corruption("a vector's null bitmap has bits past its last row"));
        }
        Ok(nulls)
    }

    /// Whether `row` has a value.
    #[inline]
    pub(super) fn is_valid(&self, row: usize) -> bool {
        self.bitmap.get(row / 8).is_some_and(|byte| byte >> (row % 8) & 1 == 1)
    }

    /// How many of the first `row` rows have a value.
    #[inline]
    pub(super) fn rank(&self, row: usize) -> usize {
        let whole = (row / 8).min(self.bitmap.len());
        let (words, tail) = self.bitmap.get(..whole).unwrap_or_default().as_chunks::<8>();
        let mut ones: u32 = words.iter().map(|word| u64::from_le_bytes(*word).count_ones()).sum();
        ones += tail.iter().map(|byte| byte.count_ones()).sum::<u32>();
        if let Some(last) = self.bitmap.get(row / 8) {
            ones += (last & !(u8::MAX << (row % 8))).count_ones();
        }
        ones as usize
    }

    /// The NULLs of `rows` in Arrow's form.
    pub(super) fn arrow(&self, rows: &Range<usize>) -> NullBuffer {
        NullBuffer::new(BooleanBuffer::new(Buffer::from(self.bitmap), rows.start, rows.len()))
    }
}

/// Appends the bitmap of `nulls`, or of all values where there is none.
pub(super) fn put_bitmap(nulls: &NullBuffer, out: &mut Vec<u8>) {
    for start in (0..nulls.len()).step_by(8) {
        let end = nulls.len().min(start + 8);
        out.push((start..end).fold(0u8, |byte, row| byte | u8::from(nulls.is_valid(row)) << (row - start)));
    }
}

/// Moves `count` values at the front of `values` to the rows that are valid; rows that are NULL get the default.
pub(super) fn spread<T: Copy + Default>(values: &mut [T], mut count: usize, nulls: &NullBuffer) {
    for row in (0..nulls.len().min(values.len())).rev() {
        let value = if nulls.is_valid(row) {
            count = count.saturating_sub(1);
            values.get(count).copied().unwrap_or_default()
        } else {
            T::default()
        };
        if let Some(to) = values.get_mut(row) {
            *to = value;
        }
    }
}
