/*!
Text under construction: Arrow's string views.

A view is sixteen bytes: up to twelve bytes of text in place, or a length, the first four bytes, a buffer's number and an
offset in it. Text goes in as `&str` only and buffers only grow, so the invariants that the finished array's unchecked
constructor asks for hold by construction:

- every view is in place and padded with zeros, or lies wholly inside the buffer that it names;
- its first four bytes are those of the buffer;
- what it covers is UTF-8, because it was copied from a `&str`.

**This is one of the engine's few modules with unsafe code.** Its test has Arrow check the finished arrays in full.
*/

use arrow::array::StringViewArray;
use arrow::buffer::{Buffer, NullBuffer, ScalarBuffer};

/// Where a buffer is closed and the next one begun; offsets are 32 bits.
const BUFFER_BYTES_MAX: usize = 1 << 30;
/// Text of at most this many bytes lies in the view itself.
const IN_PLACE_MAX: usize = 12;

/// String views and the buffers they point into.
#[derive(Debug, Default)]
pub(super) struct Views {
    views: Vec<u128>,
    full: Vec<Buffer>,
    open: Vec<u8>,
}

impl Views {
    /// No text, with room for `capacity` rows.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Views { views: Vec::with_capacity(capacity), ..Views::default() }
    }

    /// Makes room for `rows` more rows.
    pub(super) fn reserve(&mut self, rows: usize) {
        self.views.reserve(rows);
    }

    /// Appends one row.
    #[inline]
    pub(super) fn push(&mut self, text: &str) {
        let view = self.place(text);
        self.views.push(view);
    }

    /// Appends `rows` rows of empty text, as NULLs have it.
    pub(super) fn push_empty(&mut self, rows: usize) {
        self.views.resize(self.views.len() + rows, 0);
    }

    /// Drops all rows from `rows` on; bytes that they alone point at stay.
    pub(super) fn truncate(&mut self, rows: usize) {
        self.views.truncate(rows);
    }

    /// Copies `text` to where views can point, and returns such a view.
    #[inline]
    fn place(&mut self, text: &str) -> u128 {
        let bytes = text.as_bytes();
        if bytes.len() <= IN_PLACE_MAX {
            return in_place(bytes);
        }
        if self.open.len().saturating_add(bytes.len()) > BUFFER_BYTES_MAX && !self.open.is_empty() {
            self.full.push(Buffer::from_vec(std::mem::take(&mut self.open)));
        }
        let offset = self.open.len();
        self.open.extend_from_slice(bytes);
        view_of(bytes, self.full.len(), offset)
    }

    /// Appends one row for each of `picks`: `choices[pick]`, or empty text where there is no such choice.
    pub(super) fn push_choices<'a>(
        &mut self,
        choices: impl Iterator<Item = &'a str>,
        picks: impl Iterator<Item = Option<usize>>,
    ) {
        let choices: Vec<u128> = choices.map(|text| self.place(text)).collect();
        self.views.extend(picks.map(|pick| pick.and_then(|p| choices.get(p)).copied().unwrap_or(0)));
    }

    /// The finished array.
    pub(super) fn finish(mut self, nulls: Option<NullBuffer>) -> StringViewArray {
        if !self.open.is_empty() {
            self.full.push(Buffer::from_vec(self.open));
        }
        // SAFETY: the module's prose says why views are sound; the caller keeps one bit of `nulls` for each view.
        unsafe { StringViewArray::new_unchecked(ScalarBuffer::from(self.views), self.full, nulls) }
    }
}

#[inline]
fn in_place(bytes: &[u8]) -> u128 {
    let mut view = [0u8; 16];
    let (length, text) = view.split_at_mut(4);
    length.copy_from_slice(&length_of(bytes).to_le_bytes());
    text.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    u128::from_le_bytes(view)
}

#[inline]
fn view_of(bytes: &[u8], buffer: usize, offset: usize) -> u128 {
    let first = bytes.first_chunk::<4>().map_or(0, |first| u32::from_le_bytes(*first));
    u128::from(length_of(bytes))
        | u128::from(first) << 32
        | u128::from(u32::try_from(buffer).unwrap_or(u32::MAX)) << 64
        | u128::from(u32::try_from(offset).unwrap_or(u32::MAX)) << 96
}

#[inline]
fn length_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Array;

    #[test]
    fn arrow_finds_nothing_wrong_with_the_finished_views() {
        let texts: Vec<String> = (0..40).map(|n| "aé€😀".chars().cycle().take(n).collect()).collect();
        let mut views = Views::with_capacity(1);
        texts.iter().for_each(|t| views.push(t));
        views.push_empty(2);
        views.push_choices(texts.iter().map(String::as_str), [Some(39), Some(1), None, Some(39)].into_iter());
        let array = views.finish(None);
        array.to_data().validate_full().unwrap();
        assert!(texts.iter().enumerate().all(|(i, t)| array.value(i) == t));
        assert_eq!((array.value(40), array.value(42), array.value(43)), ("", &*texts[39], "a"));
        assert_eq!((array.value(44), array.value(45)), ("", &*texts[39]));
    }
}
