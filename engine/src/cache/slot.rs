/*!
One place of a run in the cache: eight bytes that point to a frame, or to none.

A reader [pins](Pin) first and then follows pointers, without a lock and without counting. What is taken out of a slot meanwhile is let go of
only when no reader is left that had pinned before (epochs: Fraser, "Practical lock-freedom", 2004; `crossbeam-epoch`). So a frame that
was found stays for as long as the pin that it was found under, and whoever needs it longer counts it up.

```text
    reader   pin ── load ── read the bytes ──────────────── unpin
    evictor              swap out ── hand over to the epochs ┄┄┄┄┄┄┄┄► count down, when no pin from before is left
```

Nothing here blocks, takes a lock or calls into the scheduler, and when memory is given back changes no answer: so a
simulation's course does not depend on it.

This module is unsafe, and keeps these invariants:
- The pointer is null, or came from `Arc::into_raw` of an `Arc<Frame>` whose one count the slot owns.
- A count that a slot gives up is given to the epochs after the pointer was taken out, and dropped by them: never at once, except where
  the slot itself is dropped, which nobody borrows then.
- A pointer is followed only under a pin that began before it was loaded, and for no longer than the pin and the slot are borrowed.
*/

use super::Frame;
use super::counter::{Counter, Counters};
use crossbeam_epoch::{self as epoch, Guard};
use std::cell::Cell;
use std::fmt;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Keeps every frame that is found under it. Held for a lookup, not for a wait.
pub(crate) struct Pin<'c> {
    guard: Guard,
    hits: Cell<u64>,
    misses: Cell<u64>,
    /// As [`Counts::filters`].
    filters: Cell<[u64; 3]>,
    counts: &'c Counts,
    /// Frames that were brought for this lookup. They may have left the cache again.
    brought: &'c [Arc<Frame>],
}

/// How often frames were looked for, and what filters among them came to.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) hits: Counter,
    pub(super) misses: Counter,
    /// Lookups that a filter was asked about, those that it refused, and those that it let pass in vain.
    pub(super) filters: Counters<3>,
}

impl<'c> Pin<'c> {
    #[inline]
    pub(super) fn new(counts: &'c Counts, brought: &'c [Arc<Frame>]) -> Self {
        Pin {
            guard: epoch::pin(),
            hits: Cell::new(0),
            misses: Cell::new(0),
            filters: Cell::new([0; 3]),
            counts,
            brought,
        }
    }

    /// The frames that were brought for this lookup.
    pub(super) fn brought(&self) -> impl Iterator<Item = &Frame> {
        self.brought.iter().map(Arc::as_ref)
    }

    #[inline]
    pub(super) fn hit(&self) {
        self.hits.set(self.hits.get() + 1);
    }

    pub(super) fn missed(&self) {
        self.misses.set(self.misses.get() + 1);
    }

    /// A filter was asked, and refused the key or let it pass.
    #[inline]
    pub(crate) fn filter_asked(&self, refused: bool) {
        let [probes, refusals, errors] = self.filters.get();
        self.filters.set([probes + 1, refusals + u64::from(refused), errors]);
    }

    /// A filter had let a key pass that is not there.
    #[inline]
    pub(crate) fn filter_erred(&self) {
        let [probes, refusals, errors] = self.filters.get();
        self.filters.set([probes, refusals, errors + 1]);
    }

    /// The frame, for as long as the pin is borrowed, whatever slot has it.
    pub(crate) fn keep(&self, frame: Arc<Frame>) -> &Frame {
        let pointer = Arc::into_raw(frame);
        // SAFETY: the count that `into_raw` gave up is dropped once, and not before this pin ends, which outlives the borrow.
        unsafe {
            give_up(pointer, &self.guard);
            &*pointer
        }
    }
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        if self.hits.get() > 0 {
            self.counts.hits.add(self.hits.get());
        }
        if self.misses.get() > 0 {
            self.counts.misses.add(self.misses.get());
        }
        self.counts.filters.add_all(self.filters.get());
    }
}

impl fmt::Debug for Pin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin")
    }
}

/// A place for one frame.
#[derive(Default)]
pub(super) struct Slot(AtomicPtr<Frame>);

impl Slot {
    /// The frame, if there is one.
    #[inline]
    pub(super) fn get<'p>(&'p self, _pin: &'p Pin<'_>) -> Option<&'p Frame> {
        // SAFETY: null, or a frame of which the slot owned a count when it was loaded, under the pin: whoever takes it out gives
        // that count to the epochs, which keep it until the pin ends.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }

    /// Whether there is none.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed).is_null()
    }

    /// The frame, counted up: for those who keep it longer than a pin.
    pub(super) fn hold(&self) -> Option<Arc<Frame>> {
        if self.is_empty() {
            return None;
        }
        let _guard = epoch::pin();
        let frame = self.0.load(Ordering::Acquire);
        if frame.is_null() {
            return None;
        }
        // SAFETY: as in `get`; the count that the slot owned is still there, so that one more can be added.
        Some(unsafe {
            Arc::increment_strong_count(frame);
            Arc::from_raw(frame)
        })
    }

    /// Puts a frame in, and gives the weight of the one that was there.
    pub(super) fn replace(&self, frame: Arc<Frame>) -> Option<usize> {
        self.swap(Arc::into_raw(frame))
    }

    /// Takes the frame out if it is this one.
    pub(super) fn clear_if(&self, frame: &Arc<Frame>) -> bool {
        let (expected, null) = (Arc::as_ptr(frame).cast_mut(), ptr::null_mut());
        let guard = epoch::pin();
        let taken = self.0.compare_exchange(expected, null, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if taken {
            // SAFETY: the slot's count, which it has just lost.
            unsafe { give_up(expected, &guard) };
        }
        taken
    }

    /// Takes the frame out of a slot that nobody else can see, and gives its weight.
    pub(super) fn empty(&mut self) -> Option<usize> {
        let old = std::mem::replace(self.0.get_mut(), ptr::null_mut());
        if old.is_null() {
            return None;
        }
        // SAFETY: the slot's count, which it has just lost. It is borrowed mutably: no reader follows its pointer.
        let frame = unsafe { Arc::from_raw(old) };
        Some(frame.weight())
    }

    fn swap(&self, new: *const Frame) -> Option<usize> {
        let guard = epoch::pin();
        let old = self.0.swap(new.cast_mut(), Ordering::AcqRel);
        if old.is_null() {
            return None;
        }
        // SAFETY: the slot's count, which it has just lost, keeps the frame until it is given up.
        unsafe {
            let weight = (*old).weight();
            give_up(old, &guard);
            Some(weight)
        }
    }
}

/// Drops a frame's count when no pin is left that may know the frame.
///
/// # Safety
/// `frame` came from `Arc::into_raw`, and the caller gives up the count.
unsafe fn give_up(frame: *const Frame, guard: &Guard) {
    let address = frame.expose_provenance();
    // SAFETY: a frame may be dropped on any thread. By the caller's promise the count is dropped only here.
    unsafe { guard.defer_unchecked(move || drop(Arc::from_raw(ptr::with_exposed_provenance::<Frame>(address)))) };
}

/// Hands this thread's part of what waits to be let go of to all threads, so that it does not wait for this one.
pub(super) fn hand_over() {
    epoch::pin().flush();
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.empty();
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "Slot(empty)" } else { "Slot(full)" })
    }
}
