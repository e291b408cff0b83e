/*!
The checksum of bytes that are filled up with zeros, without reading the zeros.

A commit that is synced alone is a frame of some hundred bytes in a block of 4,096. Its checksum covers the filling too, which
would be nearly all that is read for it. But zeros only shift: CRC32C works on polynomials
over GF(2), in which `n` bytes of zeros multiply what there is by x⁸ⁿ, modulo the checksum's own polynomial P. (So does zlib's
`crc32_combine`; a table of such powers makes it two products, whatever `n` is.)

```text
    register after m bytes, and n zeros  =  register after m bytes · x⁸ⁿ mod P,       x⁸ⁿ = x^(8·64·⌊n/64⌋) · x^(8·(n mod 64))
```

A polynomial is a number whose highest bit is its coefficient of x⁰, as CRCs of reflected bits have it.
*/

use super::frame::BLOCK_BYTES;

/// P without its x³² (Castagnoli, Bräuer and Herrmann, 1993).
const POLYNOMIAL: u32 = 0x82F6_3B78;

/// The polynomial 1.
const ONE: u32 = 1 << 31;

/// Powers in a row of the table.
const ROW: usize = 64;

/// x⁸ⁿ for n below [`ROW`], and for the multiples of it below a block.
const POWERS: [[u32; ROW]; 2] = {
    let byte = ONE >> 8;
    let near = powers(byte);
    let mut row = byte;
    let mut doubled = 1;
    while doubled < ROW {
        row = product(row, row);
        doubled *= 2;
    }
    [near, powers(row)]
};

const _: () = assert!(ROW * ROW == BLOCK_BYTES);

/// The powers of `base` from the zeroth on.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler alone")]
const fn powers(base: u32) -> [u32; ROW] {
    let mut powers = [ONE; ROW];
    let mut at = 1;
    while at < ROW {
        powers[at] = product(powers[at - 1], base);
        at += 1;
    }
    powers
}

/// The product of two polynomials modulo P.
const fn product(left: u32, right: u32) -> u32 {
    let (mut left, mut right, mut product) = (left, right, 0);
    let mut bit = 0;
    while bit < u32::BITS {
        // Masks in place of branches, which would be taken as if by lot.
        product ^= right & (left >> 31).wrapping_neg();
        left <<= 1;
        right = (right >> 1) ^ (POLYNOMIAL & (right & 1).wrapping_neg());
        bit += 1;
    }
    product
}

/// The checksum of bytes whose checksum is `crc`, followed by `zeros` bytes of zeros: fewer than a block.
pub(super) fn with_zeros(crc: u32, zeros: usize) -> u32 {
    let [near, far] = &POWERS;
    let power = |row: &[u32; ROW], at: usize| row.get(at).copied().unwrap_or(ONE);
    debug_assert!(zeros < BLOCK_BYTES, "more than a block is not looked up");
    let shift = product(power(near, zeros % ROW), power(far, zeros / ROW));
    !product(!crc, shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_that_are_not_read_count_as_those_that_are() {
        for (bytes, seed) in [(0_usize, 0_u8), (1, 3), (60, 1), (137, 7), (4000, 9)] {
            let mut data: Vec<u8> = (0..bytes).map(|at| u8::try_from(at % 251).unwrap().wrapping_mul(seed)).collect();
            let crc = crc32c::crc32c(&data);
            for zeros in 0..BLOCK_BYTES {
                assert_eq!(with_zeros(crc, zeros), crc32c::crc32c(&data), "{bytes} bytes and {zeros} zeros");
                data.push(0);
            }
        }
    }
}
