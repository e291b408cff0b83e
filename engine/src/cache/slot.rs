/*!
One place of a run in the cache: eight bytes that point to a frame, or to none.

The pointer's lowest bit is a lock. It is held only for as long as it takes to count one more reference or to swap the pointer: a few
nanoseconds, no call, no allocation, no other lock, so that a spin is all the waiting there is, and nothing inside can be preempted by the simulator's scheduler.

This module is unsafe, and keeps these invariants:
- The pointer without its lock bit is null, or came from `Arc::into_raw` of an `Arc<Frame>` whose one count the slot owns.
- It is dereferenced, counted up or taken only by whoever set the lock bit.
- `Frame` is aligned to at least two bytes, so that the lowest bit is free.
*/

use super::Frame;
use crate::io::thread;
use std::fmt;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

const LOCKED: usize = 1;
/// Spins before the processor is offered to another thread: the holder may have lost it.
const SPINS_MAX: u32 = 64;

const _: () = assert!(align_of::<Frame>() > LOCKED);

/// A place for one frame.
#[derive(Default)]
pub(super) struct Slot(AtomicPtr<Frame>);

impl Slot {
    /// The frame, if there is one.
    #[inline]
    pub(super) fn get(&self) -> Option<Arc<Frame>> {
        if self.0.load(Ordering::Relaxed).is_null() {
            return None;
        }
        let frame = self.lock();
        let found = if frame.is_null() {
            None
        } else {
            // SAFETY: the lock bit is ours, so `frame` is a pointer of which the slot owns a count; the clone gets one
            // of its own.
            Some(unsafe {
                Arc::increment_strong_count(frame);
                Arc::from_raw(frame)
            })
        };
        self.unlock(frame);
        found
    }

    /// Puts a frame in, and gives the one that was there.
    pub(super) fn replace(&self, frame: Arc<Frame>) -> Option<Arc<Frame>> {
        let old = self.lock();
        self.unlock(Arc::into_raw(frame));
        own(old)
    }

    /// Takes the frame out.
    pub(super) fn take(&self) -> Option<Arc<Frame>> {
        let old = self.lock();
        self.unlock(ptr::null());
        own(old)
    }

    /// Takes the frame out if it is this one.
    pub(super) fn clear_if(&self, frame: &Arc<Frame>) -> bool {
        let current = self.lock();
        if !ptr::eq(current, Arc::as_ptr(frame)) {
            self.unlock(current);
            return false;
        }
        self.unlock(ptr::null());
        drop(own(current));
        true
    }

    /// Sets the lock bit, and gives the pointer without it.
    #[inline]
    fn lock(&self) -> *const Frame {
        let mut spins = 0;
        loop {
            let current = self.0.load(Ordering::Relaxed);
            if current.addr() & LOCKED == 0 {
                let locked = current.map_addr(|addr| addr | LOCKED);
                if self.0.compare_exchange_weak(current, locked, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                    return current;
                }
            }
            spins += 1;
            if spins % SPINS_MAX == 0 {
                thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
    }

    /// Stores the pointer, without the lock bit.
    #[inline]
    fn unlock(&self, frame: *const Frame) {
        self.0.store(frame.cast_mut(), Ordering::Release);
    }
}

/// The frame of which the slot owned a count that it has given up.
fn own(frame: *const Frame) -> Option<Arc<Frame>> {
    if frame.is_null() {
        return None;
    }
    // SAFETY: the caller took the pointer out of the slot under the lock; the slot's count goes to the result.
    Some(unsafe { Arc::from_raw(frame) })
}

impl Drop for Slot {
    fn drop(&mut self) {
        drop(self.take());
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.load(Ordering::Relaxed).is_null() { "Slot(empty)" } else { "Slot(full)" })
    }
}
