//! Asking for memory before it is needed, so that several waits become one.
#![allow(unsafe_code, reason = "the intrinsic; a prefetch reads nothing that the program can see")]

/// Asks for the cache line in which this begins.
#[inline]
pub(super) fn prefetch<T>(what: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch is a hint about an address; it has no effect on what the program does.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(what).cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = what;
}
