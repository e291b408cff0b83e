/*!
What byte strings begin with, as numbers of the same order: sorted strings are searched by these first, which costs neither a
comparison of bytes nor, for strings that are stored as numbers, their bytes.
*/

use super::integers::{Course, Integers};
use super::numerals::number_dividing;
use super::strings::between;
use crate::bytes::head;
use crate::error::Result;

/// The heads of some strings: a lesser one's is not greater.
#[derive(Debug, Clone)]
pub struct Heads<'v, 'a>(pub(super) Source<'v, 'a>);

/// Where heads come from.
#[derive(Debug, Clone)]
pub(super) enum Source<'v, 'a> {
    /// The first eight bytes, or all there are, of strings of this length.
    Fixed { data: &'a [u8], length: usize },
    /// The first eight bytes, missing ones being 0.
    Plain { ends: &'v Integers<'a>, data: &'a [u8] },
    /// The numbers of the first positions.
    Numbers { integers: Integers<'a>, positions: &'a [[u8; 2]] },
}

impl<'a> Heads<'_, 'a> {
    /// The line that they follow, where there is one.
    #[inline]
    pub fn course(&self) -> Option<Course> {
        match &self.0 {
            Source::Numbers { integers, .. } => integers.course(),
            Source::Fixed { .. } | Source::Plain { .. } => None,
        }
    }

    /// That of the string at `index`.
    ///
    /// # Errors
    /// `Corruption` where the string lies outside of the vector.
    #[inline]
    pub fn at(&self, index: usize) -> Result<i64> {
        Ok(match &self.0 {
            Source::Fixed { data, length } => {
                let start = index * length;
                signed(head(data.get(start..start + length).unwrap_or_default()))
            }
            Source::Plain { ends, data } => signed(head(between(ends, data, index)?)),
            Source::Numbers { integers, .. } => integers.get(index),
        })
    }

    /// The number that divides strings as `target` does: those with a lesser head are less, those with a greater one are greater.
    pub fn dividing(&self, target: &[u8]) -> i64 {
        match &self.0 {
            Source::Fixed { length, .. } => signed(head(target.get(..*length).unwrap_or(target))),
            Source::Plain { .. } => signed(head(target)),
            Source::Numbers { positions, .. } => number_dividing(target, positions),
        }
    }
}

/// An unsigned number as the signed one of the same order.
#[inline]
fn signed(number: u64) -> i64 {
    (number ^ (1 << 63)).cast_signed()
}
