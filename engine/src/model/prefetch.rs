/*!
Asking the processor for a cache line before it is needed: the one unsafe instruction of this room. Runs ask with it too.

**Invariant:** a prefetch is a hint. It reads nothing that the program can see, and an address outside the slice, or
one that is not mapped at all, does not fault (Intel SDM vol. 2, PREFETCHh). So every place is a safe argument.
*/

/// Hints that the value at `place` of `values` will be read soon; `place` may lie beyond the end.
#[inline(always)]
pub(crate) fn prefetch<T>(values: &[T], place: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the address is computed without being dereferenced, and a prefetch of any address is harmless.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(values.as_ptr().wrapping_add(place).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (values, place);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_place_is_harmless() {
        for place in [0, 1, 2, 1 << 20, usize::MAX / 2, usize::MAX] {
            prefetch(&[1_u64, 2], place);
            prefetch::<u128>(&[], place);
        }
    }
}
