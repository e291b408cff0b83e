/*!
The programs' allocator, told to give memory back at once.

mimalloc keeps freed pages for a moment, and gives them back when the thread that freed them allocates again. The threads of a
query that was stopped do not: its gigabytes would stay with the process until the next statement. So pages go back to
the system when they become free. A load is no slower for it.
*/

use std::ffi::{c_int, c_long};

/// What programs declare as their `#[global_allocator]`.
pub use mimalloc::MiMalloc as Allocator;

/// `mi_option_purge_delay` of `mimalloc.h`: how many milliseconds freed pages are kept.
const PURGE_DELAY: c_int = 15;

unsafe extern "C" {
    /// mimalloc's own; takes any option and any value, at any time, from any thread.
    safe fn mi_option_set(option: c_int, value: c_long);
}

/// Freed memory goes back to the system at once, from now on.
pub fn return_at_once() {
    mi_option_set(PURGE_DELAY, 0);
}
