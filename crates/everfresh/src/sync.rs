//! The atomics, locks and thread-locals of the standard library, or those of the model checker under test.

#[cfg(everfresh_loom)]
pub(crate) use loom::{
    hint::spin_loop,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
    sync::{Condvar, Mutex, MutexGuard},
    thread::yield_now,
};

#[cfg(not(everfresh_loom))]
pub(crate) use std::{
    hint::spin_loop,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
    thread::yield_now,
};

#[cfg(not(everfresh_loom))]
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};

/// A thread-local whose first value is a constant, so that reading it needs no look at whether it is there.
macro_rules! plain_thread_local {
    ($(#[$meta:meta])* static $name:ident: $kind:ty = $first:expr) => {
        #[cfg(everfresh_loom)]
        loom::thread_local! { $(#[$meta])* static $name: $kind = $first; }
        #[cfg(not(everfresh_loom))]
        std::thread_local! { $(#[$meta])* static $name: $kind = const { $first }; }
    };
}
pub(crate) use plain_thread_local;

/// The guard of a lock, also of one whose holder panicked: what it guards is valid between any two steps.
#[cfg(not(everfresh_loom))]
#[inline]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

/// Lets go of the lock until somebody gives notice.
#[cfg(not(everfresh_loom))]
pub(crate) fn wait<'l, T>(condvar: &Condvar, mut guard: MutexGuard<'l, T>) -> MutexGuard<'l, T> {
    condvar.wait(&mut guard);
    guard
}

#[cfg(everfresh_loom)]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(everfresh_loom)]
pub(crate) fn wait<'l, T>(condvar: &Condvar, guard: MutexGuard<'l, T>) -> MutexGuard<'l, T> {
    condvar.wait(guard).unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// What the flights are made of, which a second model checker drives; the store keeps its own, as its statics outlive a round.
pub(crate) mod raced {
    #[cfg(not(everfresh_shuttle))]
    pub(crate) use parking_lot::{Mutex, MutexGuard};
    #[cfg(everfresh_shuttle)]
    pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
    #[cfg(everfresh_shuttle)]
    pub(crate) use shuttle::sync::{Mutex, MutexGuard};
    #[cfg(everfresh_shuttle)]
    pub(crate) use shuttle::thread_local;
    #[cfg(not(everfresh_shuttle))]
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
    #[cfg(not(everfresh_shuttle))]
    pub(crate) use std::thread_local;

    /// As [`lock`](super::lock).
    #[cfg(not(everfresh_shuttle))]
    #[inline]
    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock()
    }

    #[cfg(everfresh_shuttle)]
    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// As [`lock`], for a lock that is the standard library's under a model checker, too.
pub(crate) fn lock_plainly<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
