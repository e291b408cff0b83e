/*!
The programs' allocator, told to give memory back soon.

mimalloc keeps freed pages for a moment, and gives them back when the thread that freed them allocates again. The threads of a
query that was stopped do not: its gigabytes would stay with the process until the next statement. So a thread of the programs' own
gives back what is free, once a second.

To give every page back as soon as it is free costs more than it seems: a scan frees a batch's memory and takes as much for the
next one, and each time the system would have to fill it with zeros. A filtered aggregate over five million rows took a quarter longer.
*/

use std::ffi::{c_int, c_long};
use std::thread;
use std::time::Duration;

/// What programs declare as their `#[global_allocator]`.
pub use mimalloc::MiMalloc as Allocator;

/// How long freed memory is kept at most.
const KEPT: Duration = Duration::from_secs(1);

/// `mi_option_purge_delay` of `mimalloc.h`: how many milliseconds freed pages are kept.
const PURGE_DELAY: c_int = 15;

unsafe extern "C" {
    /// mimalloc's own; takes any option and any value, at any time, from any thread.
    safe fn mi_option_set(option: c_int, value: c_long);
    /// Gives back this thread's free memory and, if it is forced, all pages that threads have freed. At any time, from any thread.
    safe fn mi_collect(force: bool);
}

/// Freed memory goes back to the system within a second, from now on.
pub fn return_soon() {
    let collect = || {
        loop {
            thread::sleep(KEPT);
            mi_collect(true);
        }
    };
    if thread::Builder::new().name("omendb-memory".into()).spawn(collect).is_err() {
        mi_option_set(PURGE_DELAY, 0);
    }
}
