/*!
Memory of which much is read at random: huge pages for it, where the system has them.

A processor remembers where a few thousand pages lie. A search that ends anywhere in hundreds of megabytes of 4 KiB pages
pays for a walk through the page tables beside its cache miss; with pages of 2 MiB it does not.

**Invariant:** `madvise` with `MADV_HUGEPAGE` is a wish. It changes no byte, and what it is refused is as it was; it is
given whole pages inside of one allocation, of which nobody else has a part.
*/

/// Below this, memory is reached by the page tables that a processor remembers anyway.
const HUGE_BYTES_MIN: usize = 4 << 20;

/// No elements, with room for `capacity`, in huge pages where it is large enough for them and the system has them.
pub fn vec_in_huge_pages<T>(capacity: usize) -> Vec<T> {
    let vec: Vec<T> = Vec::with_capacity(capacity);
    #[cfg(target_os = "linux")]
    if vec.capacity().saturating_mul(size_of::<T>()) >= HUGE_BYTES_MIN {
        /// What any page size in use divides.
        const PAGE: usize = 1 << 16;
        let start = vec.as_ptr().cast::<u8>();
        let skipped = start.align_offset(PAGE);
        let whole = (vec.capacity() * size_of::<T>()).saturating_sub(skipped) / PAGE * PAGE;
        // SAFETY: the range lies within the vector's own allocation and is of whole pages; see the module's invariant. An
        // error is no harm: the memory is there with small pages.
        unsafe { libc::madvise(start.wrapping_add(skipped).cast_mut().cast(), whole, libc::MADV_HUGEPAGE) };
    }
    vec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_in_huge_pages_is_memory() {
        for bytes in [0, 1, HUGE_BYTES_MIN - 1, HUGE_BYTES_MIN, HUGE_BYTES_MIN * 3 + 12345] {
            let mut vec: Vec<u8> = vec_in_huge_pages(bytes);
            assert!(vec.is_empty() && vec.capacity() >= bytes);
            vec.extend((0..bytes).map(|i| (i / 4096) as u8));
            assert!(vec.iter().enumerate().all(|(i, byte)| *byte == (i / 4096) as u8), "{bytes}");
        }
    }
}
