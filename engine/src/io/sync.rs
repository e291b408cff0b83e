/*!
Locks and condition variables.

They are the standard library's, except that a guard comes back directly: a thread that panicked while holding a lock
does not make it unusable, because a panic in the engine is a bug that has poisoned the database by other means.

Inside a simulation, taking and letting go of a lock and notifying are points where other threads may go first. Only one
thread runs at a time there, so a lock is taken by trying: if another has it, the thread blocks on the lock's address
until it is let go. Nothing is spurious but what the seed says.
*/
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "what the rest of the engine uses instead is made of these"
)]

use super::sim::scheduler::{self, Context, Wait};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{PoisonError, TryLockError, TryLockResult};
use std::time::Duration;

/// Mutual exclusion around a value.
#[derive(Default)]
pub struct Mutex<T> {
    inner: std::sync::Mutex<T>,
}

/// The right to use a [`Mutex`]'s value until it is dropped.
#[must_use = "the lock is let go at once"]
pub struct MutexGuard<'a, T> {
    // Dropped before `release`, which tells those who wait.
    inner: std::sync::MutexGuard<'a, T>,
    lock: &'a Mutex<T>,
    release: Release,
}

impl<T> Mutex<T> {
    /// A lock that nobody holds.
    pub const fn new(value: T) -> Self {
        Mutex { inner: std::sync::Mutex::new(value) }
    }

    /// Waits for the lock and takes it. Not reentrant.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        match scheduler::current() {
            None => self.guard(self.inner.lock().unwrap_or_else(PoisonError::into_inner)),
            Some(context) => {
                context.point();
                self.guard(take(&context, self.address(), || self.inner.try_lock()))
            }
        }
    }

    /// Takes the lock if nobody holds it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        if let Some(context) = scheduler::current() {
            context.point();
        }
        unless_held(self.inner.try_lock()).map(|inner| self.guard(inner))
    }

    /// The value, without locking: nobody else can have it.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.inner.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn guard<'a>(&'a self, inner: std::sync::MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        MutexGuard { inner, lock: self, release: Release { address: self.address() } }
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mutex")
    }
}

/// Tells a simulation, when it is dropped, that the lock at an address was let go.
struct Release {
    address: usize,
}

impl Drop for Release {
    fn drop(&mut self) {
        if let Some(context) = scheduler::current() {
            context.wake_all_and_point(Wait::Lock(self.address));
        }
    }
}

/// Takes a lock inside a simulation.
fn take<G>(context: &Context, address: usize, try_take: impl Fn() -> TryLockResult<G>) -> G {
    loop {
        if let Some(guard) = unless_held(try_take()) {
            return guard;
        }
        context.block(Wait::Lock(address), None);
    }
}

fn unless_held<G>(outcome: TryLockResult<G>) -> Option<G> {
    match outcome {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Many readers or one writer of a value.
#[derive(Default)]
pub struct RwLock<T> {
    inner: std::sync::RwLock<T>,
}

/// The right to read a [`RwLock`]'s value until it is dropped.
#[must_use = "the lock is let go at once"]
pub struct RwLockReadGuard<'a, T> {
    // Dropped before `_release`, which tells those who wait.
    inner: std::sync::RwLockReadGuard<'a, T>,
    _release: Release,
}

/// The right to change a [`RwLock`]'s value until it is dropped.
#[must_use = "the lock is let go at once"]
pub struct RwLockWriteGuard<'a, T> {
    // Dropped before `_release`, which tells those who wait.
    inner: std::sync::RwLockWriteGuard<'a, T>,
    _release: Release,
}

impl<T> RwLock<T> {
    /// A lock that nobody holds.
    pub const fn new(value: T) -> Self {
        RwLock { inner: std::sync::RwLock::new(value) }
    }

    /// Waits until nobody writes. Not reentrant: a second `read` on the same thread may wait for ever.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        let inner = match scheduler::current() {
            None => self.inner.read().unwrap_or_else(PoisonError::into_inner),
            Some(context) => {
                context.point();
                take(&context, self.address(), || self.inner.try_read())
            }
        };
        RwLockReadGuard { inner, _release: Release { address: self.address() } }
    }

    /// Waits until nobody reads or writes. Not reentrant.
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        let inner = match scheduler::current() {
            None => self.inner.write().unwrap_or_else(PoisonError::into_inner),
            Some(context) => {
                context.point();
                take(&context, self.address(), || self.inner.try_write())
            }
        };
        RwLockWriteGuard { inner, _release: Release { address: self.address() } }
    }

    /// The value, without locking: nobody else can have it.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.inner.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

impl<T> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for RwLockWriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RwLock")
    }
}

/// Lets threads that hold a [`Mutex`] wait until another says that its value changed.
///
/// To notify when nobody waits is nearly free: the standard library's makes a system call of it. Who changes the value under the
/// lock and notifies then misses nobody: those who found it unchanged were counted before they let the lock go.
#[derive(Default)]
pub struct Condvar {
    inner: std::sync::Condvar,
    /// Threads that wait, counted while they hold the lock.
    waiting: AtomicUsize,
}

impl Condvar {
    /// A condition that nobody waits for.
    pub const fn new() -> Self {
        Condvar { inner: std::sync::Condvar::new(), waiting: AtomicUsize::new(0) }
    }

    /// Lets the lock go, waits to be notified, and takes it again. May come back without having been notified.
    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        match scheduler::current() {
            None => {
                let MutexGuard { inner, lock, release } = guard;
                self.waiting.fetch_add(1, Ordering::SeqCst);
                let inner = self.inner.wait(inner).unwrap_or_else(PoisonError::into_inner);
                self.waiting.fetch_sub(1, Ordering::SeqCst);
                MutexGuard { inner, lock, release }
            }
            Some(context) => self.wait_simulated(&context, guard, None).0,
        }
    }

    /// As [`Condvar::wait`], for at most `timeout`; `true` if that passed.
    pub fn wait_timeout<'a, T>(&self, guard: MutexGuard<'a, T>, timeout: Duration) -> (MutexGuard<'a, T>, bool) {
        match scheduler::current() {
            None => {
                let MutexGuard { inner, lock, release } = guard;
                self.waiting.fetch_add(1, Ordering::SeqCst);
                let waited = self.inner.wait_timeout(inner, timeout);
                self.waiting.fetch_sub(1, Ordering::SeqCst);
                let (inner, outcome) = waited.unwrap_or_else(PoisonError::into_inner);
                (MutexGuard { inner, lock, release }, outcome.timed_out())
            }
            Some(context) => self.wait_simulated(&context, guard, Some(timeout)),
        }
    }

    fn wait_simulated<'a, T>(
        &self,
        context: &Context,
        guard: MutexGuard<'a, T>,
        timeout: Option<Duration>,
    ) -> (MutexGuard<'a, T>, bool) {
        let MutexGuard { inner, lock, release } = guard;
        drop(inner);
        context.wake_all(Wait::Lock(release.address));
        let timed_out = context.block(Wait::Condition(self.address()), timeout);
        let inner = take(context, release.address, || lock.inner.try_lock());
        (MutexGuard { inner, lock, release }, timed_out)
    }

    /// Wakes one of those who wait.
    pub fn notify_one(&self) {
        match scheduler::current() {
            None if self.waiting.load(Ordering::SeqCst) == 0 => {}
            None => self.inner.notify_one(),
            Some(context) => {
                context.point();
                context.wake_one(Wait::Condition(self.address()));
            }
        }
    }

    /// Wakes all who wait.
    pub fn notify_all(&self) {
        match scheduler::current() {
            None if self.waiting.load(Ordering::SeqCst) == 0 => {}
            None => self.inner.notify_all(),
            Some(context) => {
                context.point();
                context.wake_all(Wait::Condition(self.address()));
            }
        }
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Condvar")
    }
}

/// The first thing that went wrong, if any did. To ask costs no lock as long as none did.
#[derive(Debug, Default)]
pub struct FirstFailure {
    cause: Mutex<Option<String>>,
    is_set: AtomicBool,
}

impl FirstFailure {
    /// Remembers `cause`, unless something went wrong before.
    pub fn note(&self, cause: impl FnOnce() -> String) {
        self.cause.lock().get_or_insert_with(cause);
        self.is_set.store(true, Ordering::Release);
    }

    /// Whether something went wrong.
    pub fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Acquire)
    }

    /// What went wrong first.
    pub fn cause(&self) -> Option<String> {
        match self.is_set() {
            true => self.cause.lock().clone(),
            false => None,
        }
    }
}

/// A value that is made once, by whoever first asks for it.
///
/// Unlike the standard `OnceLock`, making it may fail, and is tried again by the next who asks; and it may lock, wait
/// and read files without stopping a simulation.
pub struct OnceCell<T> {
    value: std::sync::OnceLock<T>,
    making: Mutex<()>,
}

impl<T> OnceCell<T> {
    /// Not made yet.
    pub const fn new() -> Self {
        OnceCell { value: std::sync::OnceLock::new(), making: Mutex::new(()) }
    }

    /// The value, if it was made.
    pub fn get(&self) -> Option<&T> {
        self.value.get()
    }

    /// The value, made by `make` if nobody has; others who ask meanwhile wait.
    pub fn get_or_try_init<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        if let Some(value) = self.value.get() {
            return Ok(value);
        }
        let _making = self.making.lock();
        if let Some(value) = self.value.get() {
            return Ok(value);
        }
        let value = make()?;
        Ok(self.value.get_or_init(|| value))
    }
}

impl<T> Default for OnceCell<T> {
    fn default() -> Self {
        OnceCell::new()
    }
}

impl<T> fmt::Debug for OnceCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.value.get().is_some() { "OnceCell(made)" } else { "OnceCell(empty)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::thread;
    use std::sync::Arc;

    #[test]
    fn locks_exclude_real_threads_too() {
        let shared = Arc::new((Mutex::new(0), RwLock::new(0)));
        let add = |shared: Arc<(Mutex<u64>, RwLock<u64>)>| {
            move || {
                for _ in 0..1000 {
                    *shared.0.lock() += 1;
                    *shared.1.write() += 1;
                }
            }
        };
        let threads = [0, 1, 2].map(|_| thread::spawn("adder", add(Arc::clone(&shared))).unwrap());
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!((*shared.0.lock(), *shared.1.read()), (3000, 3000));
        let held = shared.0.lock();
        assert!(shared.0.try_lock().is_none());
        drop(held);
        assert!(shared.0.try_lock().is_some());
    }

    #[test]
    fn a_condition_wakes_a_real_thread_and_times_out() {
        let shared = Arc::new((Mutex::new(false), Condvar::new()));
        let other = Arc::clone(&shared);
        let waker = thread::spawn("waker", move || {
            *other.0.lock() = true;
            other.1.notify_all();
        });
        let mut done = shared.0.lock();
        while !*done {
            done = shared.1.wait(done);
        }
        waker.unwrap().join().unwrap();
        assert!(shared.1.wait_timeout(done, Duration::from_millis(1)).1);
    }

    #[test]
    fn a_panic_under_a_lock_leaves_it_usable() {
        let shared = Arc::new((Mutex::new(1), RwLock::new(2)));
        let other = Arc::clone(&shared);
        let thread = thread::spawn("bad", move || {
            let _guards = (other.0.lock(), other.1.write());
            panic!("on purpose");
        });
        assert!(thread.unwrap().join().is_err());
        assert_eq!((*shared.0.lock(), *shared.1.read()), (1, 2));
        assert!(shared.0.try_lock().is_some());
    }
}
