//! A cheap estimate of the system's time, good far from a deadline; near one the exact clock decides.
//!
//! `Instant::now` costs more than the rest of a hit. The processor's tick counter costs a fraction of it, but must not be
//! trusted for long: it is anchored against `Instant` at least once a second, every anchoring checks it, and the first
//! check that fails turns it off for good. Whoever asks [`is_cheaply_before`] gets `true` only when the deadline is further
//! away than [`GUARD`], many times what the estimate can be wrong by between two anchorings.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A deadline nearer than this is left to the exact clock.
pub(crate) const GUARD: Duration = Duration::from_millis(10);

/// How long the first stretch is from which the length of a tick is measured.
const CALIBRATION: u64 = 20_000_000;

/// Nanoseconds after which the estimate has to be anchored anew.
const ANCHOR_EVERY: u64 = 1_000_000_000;

/// The estimate may be off by this much at an anchoring before it is given up.
const TOLERANCE: u64 = 2_000_000;

static TICKS: Ticks = Ticks::new();

/// Nanoseconds since the first use of this function, read from the exact clock.
pub(crate) fn exact_nanos() -> u64 {
    TICKS.exact()
}

/// Whether `nanos` is certainly not reached yet by so many nanoseconds, and the estimate is enough to know that; `false`
/// says nothing.
#[inline(always)]
pub(crate) fn is_cheaply_before(nanos: u64, by: u64) -> bool {
    TICKS.surely_before(nanos, by)
}

/// Nanoseconds by the estimate, which may be off by [`GUARD`]; `None` while it cannot be trusted.
#[inline]
pub(crate) fn about() -> Option<u64> {
    TICKS.estimate()
}

/// Aligned away from its neighbours: readers share the line, an anchoring writes it a few times a second at most.
#[repr(align(128))]
struct Ticks {
    anchored_at: AtomicU64,
    /// Ticks after an anchoring in which the estimate holds; zero while there is none.
    trusted_for: AtomicU64,
    /// No moment from here on is reached while the latest anchoring is trusted.
    not_reached: AtomicU64,
    /// Nanoseconds at tick zero, wrapping.
    offset: AtomicU64,
    /// Nanoseconds a tick, with 32 binary places.
    scale: AtomicU64,
    origin: OnceLock<Origin>,
}

struct Origin {
    instant: Instant,
    tick: u64,
}

impl Ticks {
    const fn new() -> Ticks {
        Ticks {
            anchored_at: AtomicU64::new(0),
            trusted_for: AtomicU64::new(0),
            not_reached: AtomicU64::new(u64::MAX),
            offset: AtomicU64::new(0),
            scale: AtomicU64::new(0),
            origin: OnceLock::new(),
        }
    }

    fn origin(&self) -> &Origin {
        self.origin.get_or_init(|| {
            if !counter::is_steady() {
                self.scale.store(GIVEN_UP, Ordering::Relaxed);
            }
            Origin { instant: Instant::now(), tick: counter::read().unwrap_or(0) }
        })
    }

    /// The check that nearly every hit ends with: no arithmetic but two comparisons.
    #[inline(always)]
    fn surely_before(&self, nanos: u64, by: u64) -> bool {
        let Some(tick) = counter::read() else { return false };
        // Acquire: pairs with the Release in `anchor`, so that what is read below is at least as new as this anchoring.
        let anchored_at = self.anchored_at.load(Ordering::Acquire);
        tick.wrapping_sub(anchored_at) < self.trusted_for.load(Ordering::Relaxed)
            && nanos > self.not_reached.load(Ordering::Relaxed).wrapping_add(by)
    }

    fn estimate(&self) -> Option<u64> {
        let tick = counter::read()?;
        // Acquire: as above.
        let anchored_at = self.anchored_at.load(Ordering::Acquire);
        if tick.wrapping_sub(anchored_at) >= self.trusted_for.load(Ordering::Relaxed) {
            return None;
        }
        Some(scaled(tick, self.scale.load(Ordering::Relaxed)).wrapping_add(self.offset.load(Ordering::Relaxed)))
    }

    fn exact(&self) -> u64 {
        let origin = self.origin();
        let before = counter::read();
        let elapsed = origin.instant.elapsed();
        let now = elapsed.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(elapsed.subsec_nanos()));
        if let Some(before) = before {
            let since = before.wrapping_sub(self.anchored_at.load(Ordering::Relaxed));
            // A quarter of the trusted stretch, so that a busy process never runs out of it.
            if since >= self.trusted_for.load(Ordering::Relaxed) / 4 {
                self.anchor(before, now);
            }
        }
        now
    }

    #[cold]
    fn anchor(&self, before: u64, now: u64) {
        let scale = self.scale.load(Ordering::Relaxed);
        if scale == GIVEN_UP {
            return;
        }
        if scale == 0 {
            self.calibrate(before, now);
            return;
        }
        if self.trusted_for.load(Ordering::Relaxed) == 0 {
            // Another thread is calibrating this very moment.
            return;
        }
        if was_put_aside(before) {
            return;
        }
        let estimate = scaled(before, scale).wrapping_add(self.offset.load(Ordering::Relaxed));
        if estimate.abs_diff(now) > TOLERANCE {
            self.trusted_for.store(0, Ordering::Relaxed);
            self.scale.store(GIVEN_UP, Ordering::Relaxed);
            return;
        }
        self.set_anchor(before, now, scale);
    }

    fn set_anchor(&self, tick: u64, now: u64, scale: u64) {
        let guard = GUARD.as_nanos() as u64;
        self.offset.store(now.wrapping_sub(scaled(tick, scale)), Ordering::Relaxed);
        self.not_reached.store(now.saturating_add(ANCHOR_EVERY).saturating_add(guard), Ordering::Relaxed);
        // Release: pairs with the Acquire in `surely_before` and `estimate`.
        self.anchored_at.store(tick, Ordering::Release);
    }

    fn calibrate(&self, tick: u64, now: u64) {
        let ticks = tick.wrapping_sub(self.origin().tick);
        if now < CALIBRATION || ticks == 0 || was_put_aside(tick) {
            return;
        }
        let scale = ((u128::from(now) << 32) / u128::from(ticks)) as u64;
        // Only one thread may set the three words that belong together.
        if scale == 0 || self.scale.compare_exchange(0, scale, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        self.set_anchor(tick, now, scale);
        let trusted_for = (u128::from(ANCHOR_EVERY) << 32) / u128::from(scale);
        self.trusted_for.store(trusted_for as u64, Ordering::Release);
    }
}

const GIVEN_UP: u64 = u64::MAX;

/// Whether so many ticks have passed since that the exact time read meanwhile need not belong to them: the thread was put
/// aside between the two readings. The next caller does better.
fn was_put_aside(before: u64) -> bool {
    counter::read().is_none_or(|after| after.wrapping_sub(before) > 100_000)
}

#[inline]
fn scaled(ticks: u64, scale: u64) -> u64 {
    ((u128::from(ticks) * u128::from(scale)) >> 32) as u64
}

/// The processor's tick counter, where it is known to run evenly.
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod counter {
    #![allow(unsafe_code)]

    #[inline(always)]
    pub(super) fn read() -> Option<u64> {
        // SAFETY: every x86-64 processor has the instruction; an operating system that forbids it is not one we run on.
        Some(unsafe { core::arch::x86_64::_rdtsc() })
    }

    /// Whether the counter runs at one speed in all power states, and the system itself tells its time by it.
    pub(super) fn is_steady() -> bool {
        #[allow(unused_unsafe)]
        // SAFETY: leaf 0x8000_0000 exists on every x86-64 processor and says which further leaves do.
        let invariant = unsafe {
            core::arch::x86_64::__cpuid(0x8000_0000).eax >= 0x8000_0007
                && core::arch::x86_64::__cpuid(0x8000_0007).edx & (1 << 8) != 0
        };
        invariant && chosen_by_the_system()
    }

    #[cfg(target_os = "linux")]
    fn chosen_by_the_system() -> bool {
        std::fs::read_to_string("/sys/devices/system/clocksource/clocksource0/current_clocksource")
            .is_ok_and(|source| source.trim() == "tsc")
    }

    #[cfg(not(target_os = "linux"))]
    fn chosen_by_the_system() -> bool {
        true
    }
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
mod counter {
    #[inline]
    pub(super) fn read() -> Option<u64> {
        None
    }

    pub(super) fn is_steady() -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its first tick was so many ticks ago.
    fn by_hand(ticks_ago: u64) -> Option<(Ticks, u64)> {
        let tick = counter::read()?;
        let ticks = Ticks::new();
        ticks.origin.get_or_init(|| Origin { instant: Instant::now(), tick: tick - ticks_ago });
        Some((ticks, tick))
    }

    #[test]
    fn the_length_of_a_tick_comes_from_the_first_stretch_that_is_long_enough() {
        let Some((ticks, tick)) = by_hand(50_000_000) else { return };
        ticks.calibrate(tick, 10_000_000);
        assert_eq!(ticks.scale.load(Ordering::Relaxed), 0, "10 ms are too short a stretch");
        while ticks.scale.load(Ordering::Relaxed) == 0 {
            let Some(tick) = counter::read() else { return };
            ticks.calibrate(tick, (tick - ticks.origin().tick) * 2 / 5);
        }
        let scale = ticks.scale.load(Ordering::Relaxed);
        assert!(scaled(2_500_000, scale).abs_diff(1_000_000) <= 1, "2.5 ticks a nanosecond");
    }

    #[test]
    fn an_estimate_that_went_wrong_is_given_up_for_good() {
        let Some((ticks, _)) = by_hand(50_000_000) else { return };
        while ticks.scale.load(Ordering::Relaxed) == 0 {
            let Some(tick) = counter::read() else { return };
            ticks.calibrate(tick, (tick - ticks.origin().tick) * 2 / 5);
        }
        while ticks.scale.load(Ordering::Relaxed) != GIVEN_UP {
            let Some(tick) = counter::read() else { return };
            ticks.anchor(tick, 3_000_000_000);
        }
        assert!(ticks.estimate().is_none());
        assert!(!ticks.surely_before(u64::MAX, 0));
    }

    #[test]
    fn the_estimate_stays_within_the_guard_of_the_exact_time() {
        while exact_nanos() < 2 * CALIBRATION {
            std::hint::spin_loop();
        }
        for _ in 0..10_000 {
            let before = exact_nanos();
            let Some(estimate) = TICKS.estimate() else { continue };
            let after = exact_nanos();
            let guard = GUARD.as_nanos() as u64;
            assert!(before.saturating_sub(guard) < estimate && estimate < after + guard);
        }
    }

    #[test]
    fn a_deadline_inside_the_guard_is_left_to_the_exact_clock() {
        while exact_nanos() < 2 * CALIBRATION {
            std::hint::spin_loop();
        }
        let now = exact_nanos();
        assert!(!is_cheaply_before(now, 0));
        let hour = 3_600_000_000_000;
        if about().is_some() {
            assert!(is_cheaply_before(now + hour, 0) && !is_cheaply_before(now + hour, hour));
        }
    }
}
