/*!
The rows of every workload: a key of 16 random bytes and a value of 32, whose second half never changes and so packs well, as
values do in life. A row is a function of its number, so that whoever checks a database needs no list of what was written.
*/

/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 16;

/// Bytes of a value.
pub(crate) const VALUE_BYTES: usize = 32;

/// Bytes of a row, as its user counts them.
pub(crate) const ROW_BYTES: u64 = 48;

/// The half of each value that packs.
const STEADY: [u8; 16] = *b"a steady part...";

/// What is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) key: [u8; KEY_BYTES],
    pub(crate) value: [u8; VALUE_BYTES],
}

/// SplitMix64's finisher: a bijection of 64 bits, so that no two numbers get the same key.
pub(crate) fn mix(number: u64) -> u64 {
    let z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn join(first: [u8; 8], second: [u8; 8]) -> [u8; 16] {
    (u128::from(u64::from_be_bytes(first)) << 64 | u128::from(u64::from_be_bytes(second))).to_be_bytes()
}

impl Row {
    /// The row with this number.
    pub(crate) fn of(number: u64) -> Row {
        let half = |salt: u64| mix(number ^ salt).to_be_bytes();
        let random = join(half(0x5bd1_e995 << 32), half(0xc2b2_ae35 << 32));
        let mut value = [0; VALUE_BYTES];
        let (left, right) = value.split_at_mut(random.len());
        left.copy_from_slice(&random);
        right.copy_from_slice(&STEADY);
        Row { key: join(mix(number).to_be_bytes(), half(0x85eb_ca6b << 32)), value }
    }
}
