/*!
Direct I/O: between the device and our memory, past the page cache.

Devices transfer whole blocks, to memory that is aligned. Which blocks a file wants, `statx` says since Linux 6.1
(`STATX_DIOALIGN`); on older kernels, and on file systems that do not say (tmpfs, some overlays and network file systems), nothing is
guessed: files are buffered there. The flag is set on the descriptor that is open already.

A read of any bytes becomes a read of the [`Window`] of blocks that they lie in, from which they are cut.
*/
#![expect(clippy::disallowed_types, reason = "a part of the back end that meets the operating system")]

use crate::io::BUFFER_ALIGN;
use std::fs;
use std::os::fd::AsRawFd;

/// Makes all further reads and writes of `file` direct, if its file system can do that, and gives the bytes that their
/// offsets, lengths and memory must be multiples of: a power of two, at most [`BUFFER_ALIGN`].
///
/// What the page cache has of the file is dropped, so that nothing finds it there later; pages in use stay.
pub(super) fn enable(file: &fs::File) -> Option<usize> {
    let align = alignment(file)?;
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and no memory is passed.
    let set = unsafe {
        let flags = libc::fcntl(file.as_raw_fd(), libc::F_GETFL);
        flags >= 0 && libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags | libc::O_DIRECT) == 0
    };
    if !set {
        return None;
    }
    // SAFETY: as above.
    let _ = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    Some(align)
}

fn alignment(file: &fs::File) -> Option<usize> {
    // SAFETY: the structure consists of integers, for which zeros are a value.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    let (flags, mask) = (libc::AT_EMPTY_PATH, libc::STATX_DIOALIGN);
    // SAFETY: the path ends with a zero byte, and `found` is as large as the kernel takes it for.
    let outcome = unsafe { libc::statx(file.as_raw_fd(), c"".as_ptr(), flags, mask, &raw mut found) };
    if outcome != 0 || found.stx_mask & libc::STATX_DIOALIGN == 0 {
        return None;
    }
    usable(found.stx_dio_mem_align, found.stx_dio_offset_align)
}

/// The alignment that serves memory and offsets, if our buffers have it. Zero means that direct I/O is not to be had.
fn usable(memory: u32, offset: u32) -> Option<usize> {
    let fits = |align: u32| align.is_power_of_two() && usize::try_from(align).is_ok_and(|align| align <= BUFFER_ALIGN);
    if !fits(memory) || !fits(offset) {
        return None;
    }
    usize::try_from(memory.max(offset)).ok()
}

/// The blocks that some bytes of a file lie in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    /// Where the first block begins.
    pub(super) offset: u64,
    /// Bytes of all blocks.
    pub(super) len: usize,
    /// Bytes before those that are wanted.
    pub(super) skip: usize,
}

impl Window {
    /// The blocks of `align` bytes, a power of two, around `len` bytes at `offset`; `None` where they pass the largest
    /// offset that a file can have.
    pub(super) fn around(offset: u64, len: usize, align: usize) -> Option<Window> {
        let step = u64::try_from(align).ok()?;
        let end = offset.checked_add(u64::try_from(len).ok()?)?.checked_next_multiple_of(step)?;
        let start = offset - offset % step;
        if i64::try_from(end).is_err() {
            return None;
        }
        let (len, skip) = (usize::try_from(end - start).ok()?, usize::try_from(offset - start).ok()?);
        Some(Window { offset: start, len, skip })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_the_fewest_blocks_around_the_bytes() {
        let window = |offset, len| Window::around(offset, len, 512).unwrap();
        assert_eq!(window(0, 512), Window { offset: 0, len: 512, skip: 0 });
        assert_eq!(window(1, 511), Window { offset: 0, len: 512, skip: 1 });
        assert_eq!(window(511, 2), Window { offset: 0, len: 1024, skip: 511 });
        assert_eq!(window(1024, 1), Window { offset: 1024, len: 512, skip: 0 });
        for offset in 0..1100 {
            for len in 1..1100 {
                let window = window(offset, len);
                assert!(window.offset % 512 == 0 && window.len % 512 == 0 && window.skip < 512);
                assert_eq!(window.offset + window.skip as u64, offset);
                assert!(window.skip + len <= window.len && window.len < window.skip + len + 512);
            }
        }
        assert_eq!(Window::around(i64::MAX as u64 - 100, 10, 512), None);
        assert_eq!(Window::around(u64::MAX, 1, 512), None);
    }

    #[test]
    fn only_alignments_that_buffers_have_are_used() {
        assert_eq!(usable(4, 512), Some(512));
        assert_eq!(usable(4096, 512), Some(4096));
        assert_eq!(usable(0, 512), None);
        assert_eq!(usable(512, 0), None);
        assert_eq!(usable(4, 8192), None);
        assert_eq!(usable(4, 1536), None);
    }
}
