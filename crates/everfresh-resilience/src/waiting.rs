//! How many wait: each is a guard that counts for as long as it is there.

use std::sync::atomic::{AtomicUsize, Ordering};

/// One more who waits.
pub(crate) struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    /// Counted, unless so many are waiting already.
    pub(crate) fn enter(count: &'a AtomicUsize, most: usize) -> Option<Waiting<'a>> {
        let guard = Waiting(count);
        (count.fetch_add(1, Ordering::Relaxed) < most).then_some(guard)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
