/*!
Owned bytes at a page-aligned address: what an operation carries to the device and back.

Direct I/O wants addresses, and often lengths, that are multiples of the device's page, and an operation in flight wants
memory that stays where it is. A `Vec<u8>` promises neither alignment nor, across a reallocation, its place.

This is one of the few modules with unsafe code. Its invariants, each held by every function here and tested below:

1. `capacity` is 0 or a multiple of [`BUFFER_ALIGN`] no larger than `isize::MAX`; `len <= capacity`.
2. With `capacity > 0`, `start` comes from the global allocator with exactly `layout(capacity)`, and nobody else has it.
3. All `capacity` bytes are initialised, always: memory is asked for zeroed. So lengthening within the capacity
   exposes stale bytes at worst, never uninitialised ones.
*/

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Alignment of a buffer's address and step of its capacity, in bytes.
pub const BUFFER_ALIGN: usize = 4096;

/// Owned bytes at an address aligned to [`BUFFER_ALIGN`]. Dereferences to its `len()` bytes.
pub struct Buffer {
    start: NonNull<u8>,
    len: usize,
    capacity: usize,
}

// SAFETY: a buffer owns its memory alone (invariant 2), as a `Vec<u8>` does; shared access only reads.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// No bytes, and no memory.
    pub const fn new() -> Self {
        Buffer { start: NonNull::dangling(), len: 0, capacity: 0 }
    }

    /// No bytes, with room for `capacity`, rounded up to whole pages.
    pub fn with_capacity(capacity: usize) -> Self {
        if capacity == 0 {
            return Buffer::new();
        }
        let layout = layout(capacity);
        // SAFETY: the layout's size is not 0.
        let memory = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(memory) else { handle_alloc_error(layout) };
        Buffer { start, len: 0, capacity: layout.size() }
    }

    /// `len` zero bytes.
    pub fn zeroed(len: usize) -> Self {
        let mut buffer = Buffer::with_capacity(len);
        buffer.len = len;
        buffer
    }

    /// `len` zero bytes to read into from `offset` of a file, with room for the blocks that these bytes lie in, which is
    /// what a direct read takes.
    pub fn for_read(offset: u64, len: usize) -> Self {
        let align = u64::try_from(BUFFER_ALIGN).unwrap_or(1);
        let before = usize::try_from(offset % align).unwrap_or_default();
        let mut buffer = Buffer::with_capacity(if len == 0 { 0 } else { len.saturating_add(before) });
        buffer.len = len;
        buffer
    }

    /// A copy of `bytes`.
    pub fn from_slice(bytes: &[u8]) -> Self {
        let mut buffer = Buffer::with_capacity(bytes.len());
        buffer.extend_from_slice(bytes);
        buffer
    }

    /// Bytes there is memory for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Makes room for `more` bytes after the present ones; moves them where it must grow, to twice the size or more.
    pub fn reserve(&mut self, more: usize) {
        let wanted = self.len.saturating_add(more);
        if wanted <= self.capacity {
            return;
        }
        let mut grown = Buffer::with_capacity(wanted.max(self.capacity.saturating_mul(2)));
        grown.len = self.len;
        grown.copy_from_slice(self);
        *self = grown;
    }

    /// Appends a copy of `bytes`.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        let old = self.len;
        self.reuse(old + bytes.len());
        if let Some(new) = self.get_mut(old..) {
            new.copy_from_slice(bytes);
        }
    }

    /// Cuts to `len` bytes, or fills up to it with `byte`.
    pub fn resize(&mut self, len: usize, byte: u8) {
        let old = self.len;
        self.reuse(len);
        if let Some(new) = self.get_mut(old..) {
            new.fill(byte);
        }
    }

    /// Makes it `len` bytes long without touching them: bytes past the old length hold whatever was there before.
    /// For buffers that are about to be read into.
    pub fn reuse(&mut self, len: usize) {
        self.reserve(len.saturating_sub(self.len));
        self.len = len;
    }

    /// Cuts to at most `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Cuts to no bytes; the memory stays.
    pub fn clear(&mut self) {
        self.len = 0;
    }
}

/// The layout of `capacity > 0` bytes rounded up to whole pages. More than an address space is treated as memory that
/// ran out.
fn layout(capacity: usize) -> Layout {
    capacity
        .checked_next_multiple_of(BUFFER_ALIGN)
        .and_then(|size| Layout::from_size_align(size, BUFFER_ALIGN).ok())
        .unwrap_or_else(|| handle_alloc_error(Layout::new::<u8>()))
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.capacity > 0 {
            // SAFETY: invariant 2; `capacity` is a whole number of pages, so the layout is the same.
            unsafe { dealloc(self.start.as_ptr(), layout(self.capacity)) }
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: invariants 1 to 3; a dangling pointer is fine for no bytes.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: invariants 1 to 3; a dangling pointer is fine for no bytes.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Buffer::new()
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        Buffer::from_slice(self)
    }
}

impl PartialEq for Buffer {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Buffer {}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("len", &self.len).field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(buffer: &Buffer, model: &[u8]) {
        assert_eq!(&**buffer, model);
        assert_eq!(buffer.capacity() % BUFFER_ALIGN, 0);
        assert!(buffer.len() <= buffer.capacity());
        if buffer.capacity() > 0 {
            assert_eq!(buffer.as_ptr() as usize % BUFFER_ALIGN, 0);
        }
    }

    #[test]
    fn a_buffer_behaves_as_a_vec_and_stays_aligned() {
        let (mut buffer, mut model) = (Buffer::new(), Vec::new());
        let mut state = 7u64;
        for step in 0..2000 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let n = (state >> 33) as usize % 9000;
            match step % 6 {
                0 => (buffer.resize(n, 3), model.resize(n, 3)),
                1 => (buffer.truncate(n), model.truncate(n)),
                2 => (buffer.clear(), model.clear()),
                3 => (buffer.reserve(n), ()),
                _ => {
                    let bytes = vec![n as u8; n];
                    (buffer.extend_from_slice(&bytes), model.extend_from_slice(&bytes))
                }
            };
            check(&buffer, &model);
        }
        check(&buffer.clone(), &model);
    }

    #[test]
    fn bytes_are_initialised_however_a_buffer_gets_its_length() {
        check(&Buffer::zeroed(5000), &[0; 5000]);
        check(&Buffer::zeroed(0), &[]);
        check(&Buffer::for_read(4090, 5000), &[0; 5000]);
        assert_eq!(Buffer::for_read(4090, 5000).capacity(), 3 * BUFFER_ALIGN);
        check(&Buffer::for_read(7, 0), &[]);
        let mut buffer = Buffer::from_slice(b"stale");
        buffer.clear();
        buffer.reuse(6);
        check(&buffer, b"stale\0");
        buffer.reuse(10_000);
        assert_eq!(buffer.len(), 10_000);
        assert!(buffer[6..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn growing_keeps_the_bytes() {
        let mut buffer = Buffer::from_slice(&[9; 4096]);
        let place = buffer.as_ptr();
        buffer.extend_from_slice(&[8]);
        assert_ne!(buffer.as_ptr(), place);
        assert_eq!(buffer.capacity(), 8192);
        assert_eq!(buffer[4095..], [9, 8]);
    }
}
