//! The lock of a shard, or of a yard: taken by one atomic step, let go by a plain store.
//!
//! Whoever lets go of a lock has to learn whether somebody waits for it. With a step that does both, as other locks have it, each writer
//! waits until all that it has written has arrived, which takes longer than the rest of the step. Here he stores, and then looks;
//! and whoever is about to sleep says so, and lets a [`heavy`] barrier pass before he looks for the last time. So either the one sees
//! the other waiting, or the other sees that the lock is free: the barrier puts a fence between the store and the look of the first.
#![allow(unsafe_code, reason = "a lock gives out what it guards")]

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use crate::store::barrier::{heavy, is_cheap, light};
use crate::sync::{AtomicBool, AtomicU32, Condvar, Mutex, Ordering, lock, spin_loop, wait, yield_now};

/// It is looked so often whether the lock is free before anybody sleeps: at first with ever longer pauses, then after whoever else
/// wants the processor. All of that takes about as long as the barrier before a sleep.
const PAUSES: u32 = if cfg!(everfresh_loom) { 0 } else { 4 };
const YIELDS: u32 = if cfg!(everfresh_loom) { 0 } else { 30 };
/// Who was woken so often in vain is given the lock by whoever has it.
const PATIENCE: u32 = if cfg!(everfresh_loom) { 1 } else { 2 };

/// What it guards stands behind its own first words; what only those need who sleep comes last.
#[repr(C)]
pub(super) struct Lock<T> {
    held: AtomicBool,
    /// How many sleep, or are about to.
    waiting: AtomicU32,
    value: UnsafeCell<T>,
    queue: Mutex<Queue>,
    freed: Condvar,
}

#[derive(Default)]
struct Queue {
    /// How many of them have lost their patience.
    impatient: usize,
    /// The lock is held, by the first of them who sees this.
    is_handed: bool,
}

// SAFETY: as any lock, it gives out what it guards to one thread at a time.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    pub(super) fn new(value: T) -> Lock<T> {
        // So that who lets go need not do more than he must.
        is_cheap();
        Lock {
            held: AtomicBool::new(false),
            waiting: AtomicU32::new(0),
            value: UnsafeCell::new(value),
            queue: Mutex::new(Queue::default()),
            freed: Condvar::new(),
        }
    }

    #[inline]
    pub(super) fn lock(&self) -> Guard<'_, T> {
        if !self.take() {
            self.take_slowly();
        }
        Guard { lock: self, _stays_on_its_thread: PhantomData }
    }

    /// As [`lock`](Lock::lock); `None` where it would wait.
    #[inline]
    pub(super) fn try_lock(&self) -> Option<Guard<'_, T>> {
        self.take().then(|| Guard { lock: self, _stays_on_its_thread: PhantomData })
    }

    #[inline]
    fn take(&self) -> bool {
        // Acquire: pairs with the Release of who let go. Who finds it held leaves it alone, so that nothing comes between that and letting go.
        self.held.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[cold]
    #[inline(never)]
    fn take_slowly(&self) {
        for round in 0..PAUSES + YIELDS {
            if round < PAUSES {
                (0..1 << round).for_each(|_| spin_loop())
            } else {
                yield_now()
            }
            if !self.held.load(Ordering::Relaxed) && self.take() {
                return;
            }
        }
        // SeqCst, and the barrier: see above.
        self.waiting.fetch_add(1, Ordering::SeqCst);
        if heavy() {
            self.sleep_until_taken();
        } else {
            // Nobody may see it.
            while !self.take() {
                yield_now();
            }
        }
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    fn sleep_until_taken(&self) {
        let mut queue = lock(&self.queue);
        let mut woken = 0;
        while !std::mem::take(&mut queue.is_handed) && !self.take() {
            if woken == PATIENCE {
                queue.impatient += 1;
            }
            woken += 1;
            queue = wait(&self.freed, queue);
        }
        if woken > PATIENCE {
            queue.impatient -= 1;
        }
    }

    #[inline]
    fn let_go(&self) {
        self.held.store(false, Ordering::Release);
        light();
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.wake_one();
        }
    }

    #[cold]
    #[inline(never)]
    fn wake_one(&self) {
        let mut queue = lock(&self.queue);
        // If another one was faster, he is the next to come by here.
        if queue.impatient > 0 && self.take() {
            queue.is_handed = true;
        }
        drop(queue);
        self.freed.notify_one();
    }
}

/// Lets go of the lock when it is dropped.
pub(super) struct Guard<'l, T> {
    lock: &'l Lock<T>,
    _stays_on_its_thread: PhantomData<*const ()>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the lock is held by who has this.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.let_go();
    }
}

#[cfg(all(test, not(everfresh_loom)))]
mod tests {
    use std::thread;

    use super::*;
    use crate::store::tests::join;

    #[test]
    fn one_at_a_time_however_many_want_it() {
        let (threads, rounds) = if cfg!(miri) { (3, 20) } else { (16, 5_000) };
        let counted = Lock::new((0, false));
        thread::scope(|scope| {
            let count = || {
                for round in 0..rounds {
                    let mut guard = counted.lock();
                    assert!(!std::mem::replace(&mut guard.1, true), "two at a time");
                    guard.0 += 1;
                    if round % 64 == 0 {
                        // Long enough that others go to sleep.
                        (0..20).for_each(|_| thread::yield_now());
                    }
                    guard.1 = false;
                }
            };
            let all: Vec<_> = (0..threads).map(|_| scope.spawn(count)).collect();
            join(all);
        });
        let guard = counted.lock();
        assert_eq!(guard.0, threads * rounds);
        assert!(counted.try_lock().is_none());
        drop(guard);
        assert!(counted.try_lock().is_some());
        assert_eq!(counted.waiting.load(Ordering::Relaxed), 0);
        assert_eq!(lock(&counted.queue).impatient, 0);
    }

    #[test]
    fn who_has_lost_his_patience_is_given_the_lock() {
        let lock = Lock::new(());
        let guard = lock.lock();
        thread::scope(|scope| {
            let sleeper = scope.spawn(|| drop(lock.lock()));
            // Asleep, and impatient at once.
            while lock.waiting.load(Ordering::Relaxed) == 0 {
                thread::yield_now();
            }
            crate::sync::lock(&lock.queue).impatient += 1;
            drop(guard);
            join([sleeper]);
            crate::sync::lock(&lock.queue).impatient -= 1;
        });
        assert!(lock.try_lock().is_some(), "nobody has it any more");
    }

    #[test]
    fn what_panics_lets_go() {
        let lock = Lock::new(1);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _guard = lock.lock();
            panic!("under the lock");
        }));
        assert!(panicked.is_err());
        assert_eq!(*lock.lock(), 1);
    }
}

#[cfg(all(test, everfresh_loom))]
mod raced {
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    use super::Lock;

    #[test]
    fn nobody_sleeps_for_ever_and_no_two_have_it() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let counted = Arc::new(Lock::new(UnsafeCell::new(0)));
            let others: Vec<_> = (0..2)
                .map(|_| {
                    let counted = counted.clone();
                    thread::spawn(move || count(&counted))
                })
                .collect();
            count(&counted);
            others.into_iter().for_each(|other| other.join().unwrap());
            counted.lock().with(|value| {
                // SAFETY: what is being proved.
                assert_eq!(unsafe { *value }, 3);
            });
        });
    }

    fn count(counted: &Lock<UnsafeCell<u32>>) {
        counted.lock().with_mut(|value| {
            // SAFETY: what is being proved; the checker tells of two at a time.
            unsafe { *value += 1 };
        });
    }
}
