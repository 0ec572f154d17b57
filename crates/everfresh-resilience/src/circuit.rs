//! The circuit breaker: a backend that fails is left alone for a while, then tried with a few calls.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::ConfigError;

/// When a circuit opens, for how long, and what closes it again.
///
/// ```
/// use std::time::Duration;
/// use everfresh_resilience::CircuitBreaker;
///
/// let by_count = CircuitBreaker::consecutive(5).open_for(Duration::from_secs(30));
/// let by_rate = CircuitBreaker::rate(0.5, 100).minimum_calls(20).slow_calls(Duration::from_secs(2), 0.8);
/// # let _ = (by_count, by_rate);
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct CircuitBreaker {
    opens: Opens,
    pub(crate) slow: Option<Slow>,
    open_for: Duration,
    close_after: u32,
    probes: u32,
    /// `minimum_calls` was given to one that opens by count.
    has_needless_minimum: bool,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Opens {
    Consecutive(u32),
    Rate { threshold: f64, window: u32, minimum: u32 },
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Slow {
    pub(crate) longer_than: Duration,
    rate: f64,
}

impl CircuitBreaker {
    /// Opens after so many failed attempts in a row; for 30 s, then one probe at a time, and two successes close it.
    pub const fn consecutive(failures: u32) -> CircuitBreaker {
        CircuitBreaker {
            opens: Opens::Consecutive(failures),
            slow: None,
            open_for: Duration::from_secs(30),
            close_after: 2,
            probes: 1,
            has_needless_minimum: false,
        }
    }

    /// Opens when at least this fraction of the last `window` attempts failed, once the window is full; else as
    /// [`consecutive`](CircuitBreaker::consecutive).
    pub const fn rate(threshold: f64, window: u32) -> CircuitBreaker {
        let opens = Opens::Rate { threshold, window, minimum: window };
        CircuitBreaker { opens, ..CircuitBreaker::consecutive(1) }
    }

    /// Judges the rate from so many attempts on, before the window is full. Only for a breaker by rate.
    pub const fn minimum_calls(self, minimum: u32) -> CircuitBreaker {
        match self.opens {
            Opens::Rate { threshold, window, .. } => {
                CircuitBreaker { opens: Opens::Rate { threshold, window, minimum }, ..self }
            }
            Opens::Consecutive(_) => CircuitBreaker { has_needless_minimum: true, ..self },
        }
    }

    /// Opens, too, when at least this fraction of the window took longer than `longer_than`. Only for a breaker by
    /// rate. A probe that is slow counts as failed.
    pub const fn slow_calls(self, longer_than: Duration, rate: f64) -> CircuitBreaker {
        CircuitBreaker { slow: Some(Slow { longer_than, rate }), ..self }
    }

    /// How long the circuit stays open before probes are let through.
    pub const fn open_for(self, open_for: Duration) -> CircuitBreaker {
        CircuitBreaker { open_for, ..self }
    }

    /// How many probes must succeed to close it. One that fails opens it again.
    pub const fn close_after(self, successes: u32) -> CircuitBreaker {
        CircuitBreaker { close_after: successes, ..self }
    }

    /// How many probes may run at once while it is half-open. When none of them ends for as long as the circuit stays
    /// open, they are given up and as many others are let through; one that ends after that still counts, so that a
    /// backend which takes longer than that for every call is not kept from closing it.
    pub const fn probes(self, probes: u32) -> CircuitBreaker {
        CircuitBreaker { probes, ..self }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let share = |rate: f64| rate > 0.0 && rate <= 1.0;
        match self.opens {
            Opens::Consecutive(failures) => {
                ConfigError::refuse(failures == 0, "a circuit breaker needs at least one failure to open")?;
                ConfigError::refuse(
                    self.slow.is_some(),
                    "slow calls are judged by their rate; use CircuitBreaker::rate(threshold, window)",
                )?;
                ConfigError::refuse(
                    self.has_needless_minimum,
                    "minimum_calls is of a rate; use CircuitBreaker::rate(threshold, window), or leave it out",
                )?;
            }
            Opens::Rate { threshold, window, minimum } => {
                ConfigError::refuse(!share(threshold), "a failure rate is above 0 and at most 1")?;
                ConfigError::refuse(
                    window == 0 || minimum == 0 || minimum > window,
                    "minimum_calls is at least 1 and at most the window; enlarge the window",
                )?;
            }
        }
        ConfigError::refuse(self.slow.is_some_and(|slow| !share(slow.rate)), "a slow rate is above 0 and at most 1")?;
        ConfigError::refuse(
            self.slow.is_some_and(|slow| slow.longer_than.is_zero()),
            "every call takes longer than nothing; what is slow has to be above zero",
        )?;
        ConfigError::refuse(
            self.close_after == 0 || self.probes == 0 || self.open_for == Duration::ZERO,
            "open_for, close_after and probes have to be above zero",
        )
    }
}

/// Where a circuit stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CircuitState {
    /// Calls go through.
    Closed,
    /// Calls are refused.
    Open,
    /// A few calls go through to see how it goes.
    HalfOpen,
}

/// A circuit as it stands, for a health report.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub struct CircuitHealth {
    /// Where it stands.
    pub state: CircuitState,
    /// Failures in a row, or in the window, of a closed circuit.
    pub failures: u32,
    /// How long it stays open; zero otherwise.
    pub retry_after: Duration,
}

/// What a step of the machine did to the circuit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    Opened,
    HalfOpened,
    Closed,
}

/// A circuit that runs. Closed, a call costs one atomic read here, and a success another.
///
/// Its *era* changes whenever its state does, so that a call which ends in a later era than it began in says nothing. It
/// changes, too, when probes are given up, who then hold no place any more; what they say counts as long as it is
/// half-open.
#[derive(Debug)]
pub(crate) struct Circuit {
    pub(crate) settings: CircuitBreaker,
    /// The era above, the state in the lowest two bits; written under the lock only.
    word: AtomicU64,
    /// Failures in a row of the era; what counts if the circuit opens by count.
    in_a_row: AtomicU32,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    open_until: Duration,
    window: Window,
    probing: u32,
    succeeded: u32,
    last_probe: Duration,
    /// The word with which it has become half-open.
    half_open_since: u64,
}

impl Inner {
    /// When probes of which none has ended are given up.
    fn given_up_at(&self, settings: &CircuitBreaker) -> Duration {
        self.last_probe.saturating_add(settings.open_for)
    }
}

const CLOSED: u64 = 0;
const OPEN: u64 = 1;
const HALF_OPEN: u64 = 2;
const STATE: u64 = 3;

impl Circuit {
    pub(crate) fn new(settings: CircuitBreaker) -> Circuit {
        let window = match settings.opens {
            Opens::Consecutive(_) => 0,
            Opens::Rate { window, .. } => window,
        };
        let inner = Inner {
            open_until: Duration::ZERO,
            window: Window::new(window),
            probing: 0,
            succeeded: 0,
            last_probe: Duration::ZERO,
            half_open_since: 0,
        };
        Circuit { settings, word: AtomicU64::new(CLOSED), in_a_row: AtomicU32::new(0), inner: Mutex::new(inner) }
    }

    /// Lets a call through, or says how long not to.
    #[inline]
    pub(crate) fn admit(&self, now: Duration) -> Result<(Permit<'_>, Option<Change>), Duration> {
        // Acquire: pairs with the Release in `turn`.
        let word = self.word.load(Ordering::Acquire);
        if word & STATE == CLOSED {
            return Ok((Permit { circuit: self, word }, None));
        }
        self.admit_probe(now)
    }

    #[cold]
    fn admit_probe(&self, now: Duration) -> Result<(Permit<'_>, Option<Change>), Duration> {
        let mut inner = self.lock();
        let mut change = None;
        match self.word.load(Ordering::Acquire) & STATE {
            CLOSED => {}
            OPEN if now < inner.open_until => return Err(inner.open_until - now),
            OPEN => {
                inner.half_open_since = self.turn(&mut inner, HALF_OPEN);
                change = Some(Change::HalfOpened);
            }
            _ if inner.probing < self.settings.probes => {}
            // None of them has ended for so long that they are given up: a hung probe must not keep the circuit
            // half-open.
            _ if now >= inner.given_up_at(&self.settings) => {
                let succeeded = inner.succeeded;
                self.turn(&mut inner, HALF_OPEN);
                inner.succeeded = succeeded;
            }
            _ => return Err(Duration::ZERO),
        }
        let word = self.word.load(Ordering::Acquire);
        if word & STATE == HALF_OPEN {
            inner.probing += 1;
            inner.last_probe = now;
        }
        Ok((Permit { circuit: self, word }, change))
    }

    /// Whether a call would be refused now, without asking for a permit: how long not to come.
    pub(crate) fn refuses(&self, now: Duration) -> Option<Duration> {
        if self.word.load(Ordering::Acquire) & STATE == CLOSED {
            return None;
        }
        let inner = self.lock();
        match self.word.load(Ordering::Acquire) & STATE {
            OPEN if now < inner.open_until => Some(inner.open_until - now),
            HALF_OPEN if inner.probing >= self.settings.probes && now < inner.given_up_at(&self.settings) => {
                Some(Duration::ZERO)
            }
            _ => None,
        }
    }

    pub(crate) fn health(&self, now: Duration) -> CircuitHealth {
        let inner = self.lock();
        let state = match self.word.load(Ordering::Acquire) & STATE {
            CLOSED => CircuitState::Closed,
            OPEN => CircuitState::Open,
            _ => CircuitState::HalfOpen,
        };
        let failures = match (state, self.settings.opens) {
            (CircuitState::Closed, Opens::Consecutive(_)) => self.in_a_row.load(Ordering::Relaxed),
            (CircuitState::Closed, Opens::Rate { .. }) => inner.window.failed,
            _ => 0,
        };
        let retry_after = match state {
            CircuitState::Open => inner.open_until.saturating_sub(now),
            _ => Duration::ZERO,
        };
        CircuitHealth { state, failures, retry_after }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new era in a state; its word.
    fn turn(&self, inner: &mut Inner, state: u64) -> u64 {
        inner.window.clear();
        inner.probing = 0;
        inner.succeeded = 0;
        self.in_a_row.store(0, Ordering::Relaxed);
        let era = self.word.load(Ordering::Relaxed) / (STATE + 1);
        // Release: pairs with the Acquire in `admit` and `note`; what belongs to the new era is set before it begins.
        let word = (era + 1) * (STATE + 1) + state;
        self.word.store(word, Ordering::Release);
        word
    }

    fn open(&self, inner: &mut Inner, now: Duration) -> Option<Change> {
        self.turn(inner, OPEN);
        inner.open_until = now.saturating_add(self.settings.open_for);
        Some(Change::Opened)
    }

    #[inline]
    fn note(&self, word: u64, failed: bool, slow: bool, now: impl FnOnce() -> Duration) -> Option<Change> {
        let by_count = matches!(self.settings.opens, Opens::Consecutive(_));
        if by_count && !failed && word & STATE == CLOSED {
            if self.word.load(Ordering::Acquire) == word && self.in_a_row.load(Ordering::Relaxed) != 0 {
                self.in_a_row.store(0, Ordering::Relaxed);
            }
            return None;
        }
        self.note_slowly(word, failed, slow, now)
    }

    fn note_slowly(&self, word: u64, failed: bool, slow: bool, now: impl FnOnce() -> Duration) -> Option<Change> {
        let mut inner = self.lock();
        let current = self.word.load(Ordering::Acquire);
        let is_of_a_probe = current & STATE == HALF_OPEN && word >= inner.half_open_since;
        if current != word && !is_of_a_probe {
            return None;
        }
        if is_of_a_probe {
            if failed || slow {
                return self.open(&mut inner, now());
            }
            inner.succeeded += 1;
            if inner.succeeded < self.settings.close_after {
                return None;
            }
            self.turn(&mut inner, CLOSED);
            return Some(Change::Closed);
        }
        let opens = match self.settings.opens {
            Opens::Consecutive(threshold) => {
                failed && self.in_a_row.fetch_add(1, Ordering::Relaxed).saturating_add(1) >= threshold
            }
            Opens::Rate { threshold, minimum, .. } => {
                inner.window.push(failed, slow);
                let seen = f64::from(inner.window.seen());
                // Divided, not multiplied: 7 of 100 are 0.07 to the last bit, and 0.07 times 100 is a little more than 7.
                let above = |count: u32, rate: f64| f64::from(count) / seen >= rate;
                inner.window.seen() >= minimum
                    && (above(inner.window.failed, threshold)
                        || self.settings.slow.is_some_and(|it| above(inner.window.slow, it.rate)))
            }
        };
        if opens { self.open(&mut inner, now()) } else { None }
    }
}

/// The right to call, of one era. Given back when it is dropped; what is dropped without a word says nothing.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    circuit: &'a Circuit,
    word: u64,
}

impl Permit<'_> {
    /// Tells how an attempt went.
    #[inline]
    pub(crate) fn note(&self, failed: bool, slow: bool, now: impl FnOnce() -> Duration) -> Option<Change> {
        self.circuit.note(self.word, failed, slow, now)
    }

    /// Whether the circuit is still in the era of this permit; if not, another permit is needed to go on.
    pub(crate) fn holds(&self) -> bool {
        self.circuit.word.load(Ordering::Acquire) == self.word
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.word & STATE == HALF_OPEN {
            let mut inner = self.circuit.lock();
            if self.circuit.word.load(Ordering::Acquire) == self.word {
                inner.probing = inner.probing.saturating_sub(1);
            }
        }
    }
}

/// How the last so many attempts went.
#[derive(Debug)]
struct Window {
    marks: Vec<u8>,
    size: usize,
    next: usize,
    failed: u32,
    slow: u32,
}

const FAILED: u8 = 1;
const SLOW: u8 = 2;

impl Window {
    fn new(size: u32) -> Window {
        Window { marks: Vec::new(), size: size as usize, next: 0, failed: 0, slow: 0 }
    }

    fn seen(&self) -> u32 {
        // At most `size`, which came from a u32.
        self.marks.len() as u32
    }

    fn push(&mut self, failed: bool, slow: bool) {
        let mark = if failed { FAILED } else { 0 } | if slow { SLOW } else { 0 };
        if self.marks.len() < self.size {
            self.marks.push(mark);
        } else {
            let old = std::mem::replace(&mut self.marks[self.next], mark);
            self.failed -= u32::from(old & FAILED != 0);
            self.slow -= u32::from(old & SLOW != 0);
            self.next = (self.next + 1) % self.size;
        }
        self.failed += u32::from(failed);
        self.slow += u32::from(slow);
    }

    fn clear(&mut self) {
        self.marks.clear();
        (self.next, self.failed, self.slow) = (0, 0, 0);
    }
}
