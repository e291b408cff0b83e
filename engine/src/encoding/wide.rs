/*!
Decimals that do not fit 64 bits: whole bytes above a base.

```text
    +------+-------+---------------------------+
    | base | width | count × width bytes       |   value(i) = base + number(i), modulo 2^128; width is 0 to 16
    | 16 B | 1 B   | little-endian             |
    +------+-------+---------------------------+
```

Such values are rare, so the layout is the plainest that has positions: whole bytes.
*/

use super::bits::low_byte;
use crate::bytes::Input;
use crate::error::{Error, Result};

/// Wide decimals, read in place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wide<'a> {
    base: i128,
    width: usize,
    bytes: &'a [u8],
}

impl<'a> Wide<'a> {
    /// Takes `count` decimals off the input.
    pub(super) fn open(input: &mut Input<'a>, count: usize) -> Result<Self> {
        let base = input.i128()?;
        let width = usize::from(input.byte()?);
        if width > 16 {
            return Err(Error::corruption(format!("a vector has decimals of {width} bytes")));
        }
        Ok(Wide { base, width, bytes: input.take(count * width)? })
    }

    /// The decimal at `index`, which must be below the count.
    pub(super) fn get(&self, index: usize) -> i128 {
        let at = index * self.width;
        let mut number = [0u8; 16];
        let bytes = self.bytes.get(at..at + self.width).unwrap_or_default();
        number.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        self.base.wrapping_add(i128::from_le_bytes(number))
    }
}

/// Appends `values`.
pub(super) fn write(values: &[i128], out: &mut Vec<u8>) {
    let base = values.iter().copied().min().unwrap_or(0);
    let most = values.iter().map(|value| value.wrapping_sub(base).cast_unsigned()).max().unwrap_or(0);
    let width = (128 - most.leading_zeros()).div_ceil(8);
    out.extend_from_slice(&base.to_le_bytes());
    out.push(low_byte(width.into()));
    for value in values {
        let number = value.wrapping_sub(base).to_le_bytes();
        out.extend_from_slice(number.get(..width as usize).unwrap_or_default());
    }
}
