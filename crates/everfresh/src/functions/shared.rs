//! A resource that callers share, released once when nobody holds it.

use std::fmt;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// One resource in the hands of all who asked for it; what a `#[cache_resource]` function returns.
///
/// A clone is another handle to the same resource. It is released once, when it has left the cache for whatever cause *and*
/// its last holder has let go (contract V2); a panic of the release is contained.
pub struct Shared<T> {
    held: Arc<Held<T>>,
}

struct Held<T> {
    /// There until it is released.
    value: Option<T>,
    release: Option<fn(T)>,
}

impl<T> Shared<T> {
    /// A resource that is dropped when nobody holds it.
    pub fn new(value: T) -> Shared<T> {
        Shared { held: Arc::new(Held { value: Some(value), release: None }) }
    }

    /// A resource that is given to `release` when nobody holds it.
    pub fn with_release(value: T, release: fn(T)) -> Shared<T> {
        Shared { held: Arc::new(Held { value: Some(value), release: Some(release) }) }
    }

    /// Whether both are handles to the same resource.
    pub fn ptr_eq(one: &Shared<T>, other: &Shared<T>) -> bool {
        Arc::ptr_eq(&one.held, &other.held)
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Shared<T> {
        Shared { held: Arc::clone(&self.held) }
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.held.value {
            Some(value) => value,
            None => unreachable!("the value is taken only when the last handle is gone"),
        }
    }
}

impl<T> AsRef<T> for Shared<T> {
    fn as_ref(&self) -> &T {
        self
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Display> fmt::Display for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        if let (Some(value), Some(release)) = (self.value.take(), self.release) {
            // Whoever let go last may be unwinding, or be the cache's own housekeeping. The panic hook has told it.
            let _ = catch_unwind(AssertUnwindSafe(|| release(value)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    static RELEASED: AtomicUsize = AtomicUsize::new(0);

    #[test]
    fn v2_a_resource_is_released_once_when_its_last_holder_lets_go() {
        let first = Shared::with_release(7_u32, |value| {
            RELEASED.fetch_add(value as usize, Ordering::SeqCst);
            panic!("a release that panics disturbs nobody");
        });
        let second = first.clone();
        assert!(Shared::ptr_eq(&first, &second));
        drop(first);
        assert_eq!((RELEASED.load(Ordering::SeqCst), *second), (0, 7));
        drop(second);
        assert_eq!(RELEASED.load(Ordering::SeqCst), 7);
    }
}
