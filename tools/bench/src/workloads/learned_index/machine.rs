/*!
What plain Rust has no word for: asking for a cache line early, staying on one processor, and how long this thread was on it.

**Invariants:** a prefetch reads nothing that the program can see, and may be of any address (Intel SDM vol. 2, PREFETCHh).
The processors' set and the time that are handed to the system are whole, initialised values, and no pointer to them stays.
*/

/// Hints that the element at `place` will be read soon; `place` may lie beyond the end.
#[inline(always)]
pub(super) fn prefetch<T>(values: &[T], place: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the address is not dereferenced, and a prefetch of any address is harmless.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(values.as_ptr().wrapping_add(place).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (values, place);
}

/// Keeps this thread on the processor that it is on. Whether it could.
pub(super) fn pin_to_one_processor() -> bool {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: takes nothing and touches no memory.
        let Ok(here) = usize::try_from(unsafe { libc::sched_getcpu() }) else { return false };
        // SAFETY: all zeros are a set without members; `CPU_SET` ignores numbers that a set has no room for; the system
        // reads the set during the call, and 0 is this thread.
        unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(here, &mut set);
            libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) == 0
        }
    }
    #[cfg(not(target_os = "linux"))]
    false
}

/// Nanoseconds that this thread has been running: what other programs take of the processor does not count.
pub(super) fn thread_nanos() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the system writes one `timespec`, during the call. It fails for no clock that every POSIX system has.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// How many nanoseconds this thread was running for something, and what came of it.
pub(super) fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = thread_nanos();
    let done = work();
    (done, thread_nanos() - start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threads_time_passes_only_while_it_runs() {
        let (sum, busy) = timed(|| (0..3_000_000_u64).fold(0, |sum, n| std::hint::black_box(sum ^ n)));
        assert!(sum < 1 << 22 && busy > 0.0);
        let ((), asleep) = timed(|| std::thread::sleep(std::time::Duration::from_millis(30)));
        assert!(asleep < 20e6, "{asleep}");
    }
}
