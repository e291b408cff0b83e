/*!
The cache: one byte budget for encoded bytes of all runs.

A run numbers the units it caches (chunks or tiles, statistics, and blocks of its filter) and holds a [`Slots`] with a place for
each, so a lookup is an array index, without hashing; and under a [`Pin`] a hit takes no lock and counts no reference ([`slot`]). A place points to a [`Frame`]: bytes whose
checksums were verified when they were read. Runs never change, so a frame is never stale. It has its unit whole, or parts of it, each as
it was read; with another part a new frame takes its place.

```text
    run ──► Slots [ ● │ ○ │ ● │ … ] ──► Frame { bytes, how often used }
                     ▲                        ▲
    cache ── small ──┴── main ────────────────┘      queues of weak references, under one lock that hits never take
              └─ ghost: what small let go of lately
```

Who stays is decided as in S3-FIFO (Yang et al., SOSP 2023): new frames enter a small queue with a tenth of the budget; those used again while there
move on to the main queue, others leave and are remembered by number only, and enter main directly if they come back.
A large scan therefore washes through the small queue and leaves main alone; it does not even enter, but while there is room to spare.

The slots hold the only lasting references. Dropping a run's slots frees its frames at once.

Beside the frames it keeps the runs' files open, some of them ([`files`]).
*/

mod counter;
mod files;
mod slot;

pub(crate) use counter::Counters;
pub(crate) use files::Handle;
pub(crate) use slot::Pin;

use crate::io::sync::Mutex;
use files::OpenFiles;
use slot::{Counts, Slot, hand_over};
use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// How often a frame's use is counted: S3-FIFO needs two bits.
const USES_MAX: u8 = 3;
/// Bytes that a frame takes beside its own: itself, its counters and its place in a queue.
const FRAME_BYTES: usize = size_of::<Frame>() + 16 + size_of::<Queued>();
/// Bytes that a part takes beside its own: its entry and the counters before its bytes.
const PART_BYTES: usize = size_of::<Part>() + 16;
/// Entries of frames that are gone are swept out when they outnumber the others by this factor.
const QUEUE_SLACK: usize = 2;
/// What is brought in beside what a lookup needs is at most this part of the budget.
const AFFORDED: usize = 64;

/// What a frame has of its unit.
#[derive(Debug)]
enum Content {
    Whole(Box<[u8]>),
    /// By where they begin.
    Parts(Box<[Part]>),
}

/// A part of a unit.
#[derive(Debug, Clone)]
struct Part {
    at: usize,
    bytes: Arc<[u8]>,
}

/// Bytes of a run, verified.
#[derive(Debug)]
pub(crate) struct Frame {
    content: Content,
    uses: AtomicU8,
    home: Weak<Home>,
    slot: usize,
}

impl Frame {
    /// All bytes of the unit, if they are there.
    #[inline]
    pub(crate) fn whole(&self) -> Option<&[u8]> {
        match &self.content {
            Content::Whole(bytes) => Some(bytes),
            Content::Parts(_) => None,
        }
    }

    /// The bytes of a unit that is only ever put in whole.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.whole().unwrap_or_default()
    }

    /// The part of the unit that begins at byte `at` and was read by itself.
    #[inline]
    pub(crate) fn part(&self, at: usize) -> Option<&[u8]> {
        let Content::Parts(parts) = &self.content else { return None };
        let place = parts.binary_search_by_key(&at, |part| part.at).ok()?;
        parts.get(place).map(|part| &*part.bytes)
    }

    /// How many of the unit's bytes are there.
    pub(crate) fn len(&self) -> usize {
        match &self.content {
            Content::Whole(bytes) => bytes.len(),
            Content::Parts(parts) => parts.iter().map(|part| part.bytes.len()).sum(),
        }
    }

    fn weight(&self) -> usize {
        let parts = match &self.content {
            Content::Whole(_) => 0,
            Content::Parts(parts) => parts.len() * PART_BYTES,
        };
        self.len() + parts + FRAME_BYTES
    }

    #[inline]
    fn used(&self) {
        // A lost count is harmless, so no read-modify-write.
        let uses = self.uses.load(Ordering::Relaxed);
        if uses < USES_MAX {
            self.uses.store(uses + 1, Ordering::Relaxed);
        }
    }
}

/// One frame in a queue.
#[derive(Debug)]
struct Queued {
    frame: Weak<Frame>,
    weight: usize,
}

/// The order in which frames leave.
#[derive(Debug, Default)]
struct Queues {
    small: VecDeque<Queued>,
    main: VecDeque<Queued>,
    /// Bytes of `small`, frames that are gone included.
    small_bytes: usize,
    /// Number of run and slot, oldest first, of frames that left `small` unused.
    ghosts: VecDeque<(u64, usize)>,
    ghost_set: BTreeSet<(u64, usize)>,
}

/// Counts of a cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Lookups that found their frame.
    pub hits: u64,
    /// Lookups that did not.
    pub misses: u64,
    /// Bytes of all frames, with what it takes to keep them.
    pub bytes: u64,
    /// Bytes that they may come to.
    pub budget_bytes: u64,
    /// Frames that had to leave.
    pub evictions: u64,
    /// Lookups in runs that a filter was asked about first.
    pub filter_probes: u64,
    /// Those of them that the filter answered: the key is not there.
    pub filter_refusals: u64,
    /// Those that the filter let pass, of keys that were not there.
    pub filter_errors: u64,
}

/// One byte budget, shared by all runs of a database.
#[derive(Debug)]
pub struct Cache {
    budget: AtomicUsize,
    resident: AtomicUsize,
    counts: Counts,
    evictions: AtomicU64,
    homes: AtomicU64,
    queues: Mutex<Queues>,
    files: Arc<OpenFiles>,
}

impl Cache {
    /// An empty cache that may hold `budget_bytes`.
    pub fn new(budget_bytes: usize) -> Arc<Cache> {
        Arc::new(Cache {
            budget: AtomicUsize::new(budget_bytes),
            resident: AtomicUsize::new(0),
            counts: Counts::default(),
            evictions: AtomicU64::new(0),
            homes: AtomicU64::new(0),
            queues: Mutex::new(Queues::default()),
            files: OpenFiles::new(),
        })
    }

    /// The open files of the runs.
    pub(crate) fn files(&self) -> &Arc<OpenFiles> {
        &self.files
    }

    /// Keeps what a lookup finds until it is dropped.
    #[inline]
    pub(crate) fn pin(&self) -> Pin<'_> {
        Pin::new(&self.counts, &[])
    }

    /// The same for lookups that were brought frames: these are found, too, where they have left the cache already.
    pub(crate) fn pin_with<'c>(&'c self, brought: &'c [Arc<Frame>]) -> Pin<'c> {
        Pin::new(&self.counts, brought)
    }

    /// What it holds, and how it does.
    pub fn stats(&self) -> CacheStats {
        let wide = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let [filter_probes, filter_refusals, filter_errors] = self.counts.filters.sums();
        CacheStats {
            hits: self.counts.hits.sum(),
            misses: self.counts.misses.sum(),
            bytes: wide(self.resident.load(Ordering::Relaxed)),
            budget_bytes: wide(self.budget.load(Ordering::Relaxed)),
            evictions: self.evictions.load(Ordering::Relaxed),
            filter_probes,
            filter_refusals,
            filter_errors,
        }
    }

    /// Changes the budget; frames leave at once if it is smaller than what is there.
    pub fn set_budget(&self, budget_bytes: usize) {
        self.budget.store(budget_bytes, Ordering::Relaxed);
        let mut queues = self.queues.lock();
        self.shrink(&mut queues);
    }

    /// Lets every frame go, however often it was used; what is pinned or held stays readable. The budget stays.
    pub fn clear(&self) {
        let mut queues = self.queues.lock();
        let Queues { small, main, .. } = std::mem::take(&mut *queues);
        for frame in small.iter().chain(&main).filter_map(|queued| queued.frame.upgrade()) {
            self.let_go(&frame);
        }
        hand_over();
    }

    /// Places for a run's units, all empty.
    pub(crate) fn slots(self: &Arc<Self>, count: usize) -> Slots {
        let number = self.homes.fetch_add(1, Ordering::Relaxed);
        let slots = (0..count).map(|_| Slot::default()).collect();
        Slots { home: Arc::new(Home { number, slots, cache: Arc::clone(self) }) }
    }

    /// Whether `bytes` more would leave half of the budget free: what scans may take.
    fn has_room_to_spare(&self, bytes: usize) -> bool {
        let after = self.resident.load(Ordering::Relaxed).saturating_add(bytes);
        after <= self.budget.load(Ordering::Relaxed) / 2
    }

    fn admit(&self, frame: &Arc<Frame>, home: &Home) {
        let queued = Queued { frame: Arc::downgrade(frame), weight: frame.weight() };
        let mut queues = self.queues.lock();
        if queues.ghost_set.contains(&(home.number, frame.slot)) {
            queues.main.push_back(queued);
        } else {
            queues.small_bytes += queued.weight;
            queues.small.push_back(queued);
        }
        self.shrink(&mut queues);
    }

    /// Lets frames go until the budget holds, and sweeps the queues when they hold mostly frames that are gone.
    fn shrink(&self, queues: &mut Queues) {
        let budget = self.budget.load(Ordering::Relaxed);
        let evictions = self.evictions.load(Ordering::Relaxed);
        while self.resident.load(Ordering::Relaxed) > budget {
            let more = if queues.main.is_empty() || queues.small_bytes > budget / 10 {
                self.evict_small(queues)
            } else {
                self.evict_main(queues)
            };
            if !more && queues.main.is_empty() && queues.small.is_empty() {
                break;
            }
        }
        if self.evictions.load(Ordering::Relaxed) > evictions {
            hand_over();
        }
        let entries = queues.small.len() + queues.main.len();
        let bytes_queued = entries.saturating_mul(FRAME_BYTES);
        if entries > 1024 && bytes_queued > QUEUE_SLACK.saturating_mul(self.resident.load(Ordering::Relaxed)) {
            queues.sweep();
        }
    }

    /// Takes one frame off the small queue; `false` if there is none.
    fn evict_small(&self, queues: &mut Queues) -> bool {
        let Some(queued) = queues.small.pop_front() else { return false };
        queues.small_bytes = queues.small_bytes.saturating_sub(queued.weight);
        let Some(frame) = queued.frame.upgrade() else { return true };
        if frame.uses.swap(0, Ordering::Relaxed) > 1 {
            queues.main.push_back(queued);
            return true;
        }
        if let Some(home) = self.let_go(&frame) {
            queues.remember((home, frame.slot));
        }
        true
    }

    /// Takes one frame off the main queue, or gives it another turn; `false` if there is none.
    fn evict_main(&self, queues: &mut Queues) -> bool {
        let Some(queued) = queues.main.pop_front() else { return false };
        let Some(frame) = queued.frame.upgrade() else { return true };
        let uses = frame.uses.load(Ordering::Relaxed);
        if uses > 0 {
            frame.uses.store(uses - 1, Ordering::Relaxed);
            queues.main.push_back(queued);
        } else {
            self.let_go(&frame);
        }
        true
    }

    /// Empties the frame's slot; gives the number of its run.
    fn let_go(&self, frame: &Arc<Frame>) -> Option<u64> {
        let home = frame.home.upgrade()?;
        if home.slots.get(frame.slot)?.clear_if(frame) {
            self.resident.fetch_sub(frame.weight(), Ordering::Relaxed);
            self.evictions.fetch_add(1, Ordering::Relaxed);
        }
        Some(home.number)
    }
}

impl Queues {
    fn remember(&mut self, ghost: (u64, usize)) {
        let ghosts_max = self.main.len() + self.small.len() + 16;
        if self.ghost_set.insert(ghost) {
            self.ghosts.push_back(ghost);
        }
        while self.ghosts.len() > ghosts_max {
            if let Some(oldest) = self.ghosts.pop_front() {
                self.ghost_set.remove(&oldest);
            }
        }
    }

    fn sweep(&mut self) {
        self.small.retain(|queued| queued.frame.strong_count() > 0);
        self.main.retain(|queued| queued.frame.strong_count() > 0);
        self.small_bytes = self.small.iter().map(|queued| queued.weight).sum();
    }
}

/// The places of one run.
#[derive(Debug)]
struct Home {
    number: u64,
    slots: Box<[Slot]>,
    cache: Arc<Cache>,
}

impl Drop for Home {
    fn drop(&mut self) {
        let freed: usize = self.slots.iter_mut().filter_map(Slot::empty).sum();
        self.cache.resident.fetch_sub(freed, Ordering::Relaxed);
    }
}

/// A run's places in the cache; dropping it frees what they hold.
#[derive(Debug)]
pub(crate) struct Slots {
    home: Arc<Home>,
}

impl Slots {
    /// The frame in `slot`, counted as a use of it.
    #[inline]
    pub(crate) fn get<'p>(&'p self, slot: usize, pin: &'p Pin<'_>) -> Option<&'p Frame> {
        match self.home.slots.get(slot).and_then(|slot| slot.get(pin)) {
            Some(frame) => {
                frame.used();
                pin.hit();
                Some(frame)
            }
            None => {
                pin.missed();
                None
            }
        }
    }

    /// The frames for `slot` that were brought for the lookup that pins, each with a part of its own perhaps; not counted.
    pub(crate) fn brought<'p>(&self, slot: usize, pin: &'p Pin<'_>) -> impl Iterator<Item = &'p Frame> {
        let home = Arc::as_ptr(&self.home);
        pin.brought().filter(move |frame| frame.slot == slot && std::ptr::eq(frame.home.as_ptr(), home))
    }

    /// The frame in `slot`, not counted.
    #[inline]
    pub(crate) fn look<'p>(&'p self, slot: usize, pin: &'p Pin<'_>) -> Option<&'p Frame> {
        self.home.slots.get(slot).and_then(|slot| slot.get(pin))
    }

    /// Whether there is a frame in `slot`; it may leave at any time.
    #[inline]
    pub(crate) fn has(&self, slot: usize) -> bool {
        self.home.slots.get(slot).is_some_and(|slot| !slot.is_empty())
    }

    /// As [`Slots::get`], for those who keep the frame longer than a pin.
    pub(crate) fn hold(&self, slot: usize) -> Option<Arc<Frame>> {
        let frame = self.peek(slot);
        let pin = self.home.cache.pin();
        match &frame {
            Some(frame) => {
                frame.used();
                pin.hit();
            }
            None => pin.missed(),
        }
        frame
    }

    /// The frame in `slot`, not counted as a use: what a large scan asks.
    pub(crate) fn peek(&self, slot: usize) -> Option<Arc<Frame>> {
        self.home.slots.get(slot).and_then(Slot::hold)
    }

    /// Puts verified bytes into `slot`. They may leave again before this returns; the frame handed out stays good.
    pub(crate) fn insert(&self, slot: usize, bytes: Box<[u8]>) -> Arc<Frame> {
        self.put(slot, Content::Whole(bytes), 0)
    }

    /// Puts a verified part of a unit into `slot`, where it begins at byte `at`, beside the parts that are there. A frame that has the
    /// unit whole stays as it is. Of two parts that come at the same time one may be lost.
    pub(crate) fn insert_part(&self, slot: usize, at: usize, bytes: &[u8]) -> Arc<Frame> {
        let (mut parts, mut uses) = (Vec::new(), 0);
        if let Some(frame) = self.peek(slot) {
            match &frame.content {
                Content::Whole(_) => return frame,
                Content::Parts(there) => parts.extend(there.iter().filter(|part| part.at != at).cloned()),
            }
            uses = frame.uses.load(Ordering::Relaxed);
        }
        let place = parts.partition_point(|part| part.at < at);
        parts.insert(place, Part { at, bytes: bytes.into() });
        self.put(slot, Content::Parts(parts.into()), uses)
    }

    fn put(&self, slot: usize, content: Content, uses: u8) -> Arc<Frame> {
        let frame = Arc::new(Frame { content, uses: AtomicU8::new(uses), home: Arc::downgrade(&self.home), slot });
        if let Some(place) = self.home.slots.get(slot) {
            let cache = &self.home.cache;
            cache.resident.fetch_add(frame.weight(), Ordering::Relaxed);
            if let Some(old) = place.replace(Arc::clone(&frame)) {
                cache.resident.fetch_sub(old, Ordering::Relaxed);
            }
            cache.admit(&frame, &self.home);
        }
        frame
    }

    /// Whether a scan may put `bytes` into the cache: only while half of the budget stays free.
    pub(crate) fn has_room_to_spare(&self, bytes: usize) -> bool {
        self.home.cache.has_room_to_spare(bytes)
    }

    /// Whether the budget is so large that `bytes` more, which many lookups share, hardly show.
    pub(crate) fn affords(&self, bytes: usize) -> bool {
        bytes <= self.home.cache.budget.load(Ordering::Relaxed) / AFFORDED
    }

    /// Bytes that the places themselves take.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.home.slots.len() * size_of::<Slot>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(fill: u8) -> Box<[u8]> {
        vec![fill; 1000].into()
    }

    #[test]
    fn a_frame_is_found_until_its_run_is_dropped() {
        let cache = Cache::new(1 << 20);
        let slots = cache.slots(4);
        let pin = cache.pin();
        assert!(slots.get(2, &pin).is_none());
        slots.insert(2, bytes(7));
        assert_eq!(slots.get(2, &pin).unwrap().bytes()[0], 7);
        assert!(slots.get(1, &pin).is_none() && slots.get(9, &pin).is_none());
        drop(pin);
        let stats = cache.stats();
        assert_eq!((stats.hits, stats.misses), (1, 3));
        assert!(stats.bytes > 1000);
        drop(slots);
        assert_eq!(cache.stats().bytes, 0);
    }

    #[test]
    fn what_was_brought_for_a_lookup_is_there_for_it() {
        let cache = Cache::new(4000);
        let (slots, others) = (cache.slots(10), cache.slots(10));
        let brought: Vec<Arc<Frame>> = (0..10).map(|slot| slots.insert(slot, bytes(1))).collect();
        assert!(cache.stats().bytes <= 4000);
        let pin = cache.pin_with(&brought[..9]);
        assert!((0..9).all(|slot| slots.brought(slot, &pin).all(|frame| frame.bytes()[0] == 1)));
        let count = |slots: &Slots, slot, pin: &Pin<'_>| slots.brought(slot, pin).count();
        assert!((0..9).all(|slot| count(&slots, slot, &pin) == 1));
        assert_eq!((count(&slots, 9, &pin), count(&others, 3, &pin), count(&slots, 3, &cache.pin())), (0, 0, 0));
    }

    #[test]
    fn the_budget_holds_and_a_frame_in_use_stays_readable() {
        let cache = Cache::new(20_000);
        let slots = cache.slots(1000);
        let held = slots.insert(0, bytes(1));
        for slot in 1..1000 {
            slots.insert(slot, bytes(2));
            assert!(cache.stats().bytes <= 20_000);
        }
        assert!(slots.get(0, &cache.pin()).is_none());
        assert_eq!(held.bytes()[999], 1);
        cache.set_budget(0);
        assert_eq!(cache.stats().bytes, 0);
    }

    #[test]
    fn a_cleared_cache_has_no_frame_and_takes_new_ones() {
        let cache = Cache::new(200_000);
        let slots = cache.slots(1000);
        let held = slots.insert(0, bytes(1));
        (1..50).for_each(|slot| drop(slots.insert(slot, bytes(1))));
        let pin = cache.pin();
        assert!((0..50).all(|slot| slots.get(slot, &pin).is_some()));
        drop(pin);
        cache.clear();
        assert_eq!(cache.stats().bytes, 0);
        assert!((0..50).all(|slot| slots.peek(slot).is_none()));
        assert_eq!(held.bytes()[999], 1);
        slots.insert(3, bytes(4));
        assert_eq!(slots.peek(3).unwrap().bytes()[0], 4);
        assert!(cache.stats().bytes > 1000 && cache.stats().budget_bytes == 200_000);
    }

    #[test]
    fn parts_of_a_unit_gather_until_it_is_there_whole() {
        let cache = Cache::new(1 << 20);
        let slots = cache.slots(4);
        let part = |fill: u8| vec![fill; 100];
        slots.insert_part(1, 500, &part(5));
        slots.insert_part(1, 100, &part(1));
        let held = slots.insert_part(1, 300, &part(3));
        slots.insert_part(1, 300, &part(3));
        {
            let pin = cache.pin();
            let frame = slots.look(1, &pin).unwrap();
            assert_eq!((frame.whole(), frame.len()), (None, 300));
            for (at, fill) in [(100, 1), (300, 3), (500, 5)] {
                assert_eq!(frame.part(at).unwrap(), part(fill));
            }
            assert!(frame.part(101).is_none() && frame.part(0).is_none());
        }
        let of_parts = cache.stats().bytes;
        assert!((300..1000).contains(&of_parts), "{of_parts}");
        slots.insert(1, bytes(9));
        assert_eq!(slots.insert_part(1, 100, &part(1)).whole(), Some(&*bytes(9)));
        assert_eq!(held.part(500).unwrap(), part(5), "whoever holds it reads on");
        drop(slots);
        assert_eq!(cache.stats().bytes, 0);
    }

    #[test]
    fn the_budget_holds_for_parts() {
        let cache = Cache::new(20_000);
        let slots = cache.slots(100);
        for n in 0..2000 {
            slots.insert_part(n * 7 % 100, n / 100 * 50, &[1; 50]);
            assert!(cache.stats().bytes <= 20_000);
        }
        cache.set_budget(0);
        assert_eq!(cache.stats().bytes, 0);
    }

    #[test]
    fn frames_in_use_survive_a_scan_of_others() {
        let cache = Cache::new(200_000);
        let slots = cache.slots(10_000);
        for slot in 0..50 {
            slots.insert(slot, bytes(1));
        }
        for _ in 0..3 {
            let pin = cache.pin();
            assert!((0..50).all(|slot| slots.get(slot, &pin).is_some()));
        }
        for slot in 50..10_000 {
            slots.insert(slot, bytes(2));
        }
        let kept = (0..50).filter(|slot| slots.peek(*slot).is_some()).count();
        assert_eq!(kept, 50);
    }

    #[test]
    fn a_frame_that_comes_back_enters_the_main_queue() {
        let cache = Cache::new(50_000);
        let slots = cache.slots(10_000);
        let mut slot = 1;
        slots.insert(0, bytes(1));
        while slots.peek(0).is_some() {
            slots.insert(slot, bytes(2));
            slot += 1;
        }
        slots.insert(0, bytes(1));
        for other in slot..slot + 30 {
            slots.insert(other, bytes(2));
        }
        assert!(slots.peek(0).is_some());
    }

    #[test]
    fn entries_of_dropped_runs_are_swept_out() {
        let cache = Cache::new(1 << 30);
        for _ in 0..200 {
            let slots = cache.slots(100);
            (0..100).for_each(|slot| drop(slots.insert(slot, bytes(3))));
        }
        let queues = cache.queues.lock();
        assert!(queues.small.len() + queues.main.len() < 2000);
    }

    #[test]
    fn threads_that_read_and_replace_see_whole_frames() {
        let cache = Cache::new(30_000);
        let slots = Arc::new(cache.slots(40));
        let threads: Vec<_> = (0..4u8)
            .map(|thread| {
                let (cache, slots) = (Arc::clone(&cache), Arc::clone(&slots));
                crate::io::thread::spawn("reader", move || {
                    for round in 0..5_000usize {
                        let slot = (round * 7 + usize::from(thread)) % 40;
                        let (pin, others) = (cache.pin(), (slot + 1) % 40);
                        let insert = || pin.keep(slots.insert(slot, bytes(slot as u8)));
                        let frame = slots.get(slot, &pin).unwrap_or_else(insert);
                        // Others come and go while the pin holds.
                        slots.insert(others, bytes(others as u8));
                        let counted = slots.peek(slot);
                        assert!(frame.bytes().iter().all(|byte| usize::from(*byte) == slot));
                        drop(pin);
                        assert!(counted.is_none_or(|frame| usize::from(frame.bytes()[999]) == slot));
                    }
                })
                .unwrap()
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        drop(slots);
        assert_eq!(cache.stats().bytes, 0);
    }
}
