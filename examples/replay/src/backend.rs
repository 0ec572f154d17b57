//! The backend behind the caches: how long a call takes, when it fails, and how many run at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::units::{Latency, Stretch};

/// How the backend behaves.
#[derive(Clone, Debug)]
pub(crate) struct Behaviour {
    pub(crate) latency: Latency,
    /// A call that begins in one of these fails.
    pub(crate) outages: Vec<Stretch>,
    /// How long a call takes to fail in an outage: seldom is a failure quick, think of connect timeouts.
    pub(crate) fail_after: Duration,
    /// The share of the other calls that fail as well, after the usual time.
    pub(crate) error_rate: f64,
    pub(crate) seed: u64,
}

/// One backend, which counts what it is asked.
pub(crate) struct Backend {
    behaviour: Behaviour,
    chance: Mutex<fastrand::Rng>,
    calls: AtomicU64,
    failed: AtomicU64,
    running: AtomicU64,
    peak: AtomicU64,
    /// Calls begun in each of equal parts of the span.
    by_slot: Vec<AtomicU64>,
    span: Duration,
}

/// What the backend was asked in all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Load {
    pub(crate) calls: u64,
    pub(crate) failed: u64,
    pub(crate) peak: u64,
    pub(crate) by_slot: Vec<u64>,
}

/// A value of the backend: nothing but when it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Made {
    pub(crate) at: Duration,
}

/// The backend's error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Unreachable;

/// A call that runs; dropped, it has ended.
pub(crate) struct Call {
    backend: Arc<Backend>,
    pub(crate) takes: Duration,
    fails: bool,
}

impl Backend {
    pub(crate) fn new(behaviour: Behaviour, span: Duration, slots: usize) -> Arc<Backend> {
        Arc::new(Backend {
            chance: Mutex::new(fastrand::Rng::with_seed(behaviour.seed)),
            behaviour,
            calls: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            running: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            by_slot: (0..slots).map(|_| AtomicU64::new(0)).collect(),
            span,
        })
    }

    /// Takes a call on, `now` after the start.
    pub(crate) fn begin(self: &Arc<Self>, now: Duration) -> Call {
        let behaviour = &self.behaviour;
        let out = behaviour.outages.iter().any(|outage| outage.holds(now));
        let (takes, unlucky) = {
            let mut chance = self.chance.lock().unwrap_or_else(PoisonError::into_inner);
            (behaviour.latency.draw(|| chance.f64()), chance.f64() < behaviour.error_rate)
        };
        // All of these are counts for a report that is read after the last call has ended: Relaxed.
        self.calls.fetch_add(1, Ordering::Relaxed);
        let running = self.running.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak.fetch_max(running, Ordering::Relaxed);
        if let Some(slot) = self.by_slot.get(slot_of(now, self.span, self.by_slot.len())) {
            slot.fetch_add(1, Ordering::Relaxed);
        }
        Call { backend: Arc::clone(self), takes: if out { behaviour.fail_after } else { takes }, fails: out || unlucky }
    }

    pub(crate) fn load(&self) -> Load {
        Load {
            calls: self.calls.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            peak: self.peak.load(Ordering::Relaxed),
            by_slot: self.by_slot.iter().map(|slot| slot.load(Ordering::Relaxed)).collect(),
        }
    }
}

impl Call {
    /// The answer, `now` after the start, when the time that the call takes is over.
    pub(crate) fn end(self, now: Duration) -> Result<Made, Unreachable> {
        if self.fails {
            self.backend.failed.fetch_add(1, Ordering::Relaxed);
            return Err(Unreachable);
        }
        Ok(Made { at: now })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.backend.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// In which of `slots` equal parts of the span a moment lies; what comes after the span belongs to the last.
pub(crate) fn slot_of(now: Duration, span: Duration, slots: usize) -> usize {
    let slot = now.as_nanos() * slots as u128 / span.as_nanos().max(1);
    (slot as usize).min(slots.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn backend(error_rate: f64) -> Arc<Backend> {
        let latency = Latency { mean: Duration::from_millis(50), spread: Duration::ZERO };
        let outages = vec![Stretch { from: 10 * SECOND, to: 20 * SECOND }];
        Backend::new(Behaviour { latency, outages, fail_after: SECOND, error_rate, seed: 1 }, 100 * SECOND, 10)
    }

    #[test]
    fn calls_that_begin_in_an_outage_fail_and_take_their_time_for_it() {
        let backend = backend(0.0);
        let good = backend.begin(9 * SECOND);
        assert_eq!(good.takes, Duration::from_millis(50));
        assert_eq!(good.end(11 * SECOND), Ok(Made { at: 11 * SECOND }), "it had begun before");
        let bad = backend.begin(10 * SECOND);
        assert_eq!(bad.takes, SECOND);
        assert_eq!(bad.end(11 * SECOND), Err(Unreachable));
        assert!(backend.begin(20 * SECOND).end(21 * SECOND).is_ok());
        let load = backend.load();
        assert_eq!((load.calls, load.failed, load.peak), (3, 1, 1));
        assert_eq!(load.by_slot[..3], [1, 1, 1]);
    }

    #[test]
    fn the_peak_is_how_many_ran_at_once() {
        let backend = backend(0.0);
        let (one, two) = (backend.begin(SECOND), backend.begin(SECOND));
        drop(one);
        drop(backend.begin(SECOND));
        drop(two);
        assert_eq!(backend.load().peak, 2);
    }

    #[test]
    fn the_error_rate_is_kept_on_average() {
        let backend = backend(0.25);
        for _ in 0..10_000 {
            let _ = backend.begin(SECOND).end(SECOND);
        }
        let failed = backend.load().failed;
        assert!((2_300..2_700).contains(&failed), "{failed}");
    }
}
