//! The system's time: exact, and a cheap estimate that is good far from a deadline.
//!
//! Reading the exact clock costs more than the rest of a hit. Linux keeps a copy of the same clock that it writes at each
//! of its ticks: reading that takes a few loads, it is never early, and late by a tick. A deadline that is further away than
//! [`GUARD`], which is more than twice the longest tick that Linux can be built with, is certainly not reached. Elsewhere
//! there is no estimate, and every question goes to the exact clock.

use std::time::Duration;

use system::{coarse, exact};

/// A deadline nearer than this is left to the exact clock.
pub(crate) const GUARD: Duration = Duration::from_millis(25);

/// Nanoseconds since some moment before the process asked for the first time, read from the exact clock.
#[inline]
pub(crate) fn exact_nanos() -> u64 {
    exact()
}

/// Nanoseconds by the estimate, which may be off by [`GUARD`]; `None` where there is none.
#[inline(always)]
pub(crate) fn about() -> Option<u64> {
    coarse()
}

/// The clock that `Instant` reads, too: not set by anybody, and still while the machine sleeps.
#[cfg(all(target_os = "linux", not(miri)))]
mod system {
    use rustix::time::{ClockId, clock_gettime};

    #[inline(always)]
    pub(super) fn exact() -> u64 {
        nanos(ClockId::Monotonic)
    }

    #[inline(always)]
    pub(super) fn coarse() -> Option<u64> {
        Some(nanos(ClockId::MonotonicCoarse))
    }

    #[inline(always)]
    fn nanos(clock: ClockId) -> u64 {
        let time = clock_gettime(clock);
        (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
    }
}

#[cfg(not(all(target_os = "linux", not(miri))))]
mod system {
    use std::sync::OnceLock;
    use std::time::Instant;

    static ORIGIN: OnceLock<Instant> = OnceLock::new();

    pub(super) fn exact() -> u64 {
        let elapsed = ORIGIN.get_or_init(Instant::now).elapsed();
        elapsed.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(elapsed.subsec_nanos()))
    }

    #[inline(always)]
    pub(super) fn coarse() -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t4_the_estimate_is_never_early_and_late_by_less_than_the_guard() {
        let mut latest = 0;
        for _ in 0..100_000 {
            let before = exact_nanos();
            let Some(estimate) = about() else { return };
            assert!(estimate <= exact_nanos(), "early");
            latest = latest.max(before.saturating_sub(estimate));
        }
        assert!(u128::from(latest) < GUARD.as_nanos(), "late by {latest} ns");
    }
}
