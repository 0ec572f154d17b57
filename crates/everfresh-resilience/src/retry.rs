//! Trying again: how often, after which pause, and no more than a shared budget allows.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::error::ConfigError;

/// How often to try, and how long to pause between: exponentially longer, with full jitter.
///
/// The pause after attempt *n* is drawn evenly between zero and `min(max_delay, base × factorⁿ⁻¹)`, so that callers who
/// failed together do not come back together.
///
/// ```
/// use std::time::Duration;
/// use everfresh_resilience::Retry;
///
/// let retry = Retry::attempts(4).base(Duration::from_millis(200)).max_delay(Duration::from_secs(10));
/// # let _ = retry;
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Retry {
    pub(crate) attempts: u32,
    base: Duration,
    factor: f64,
    pub(crate) max_delay: Duration,
    jitter: bool,
}

impl Retry {
    /// At most so many attempts, the first included; pauses from half a second, doubling, up to 30 s.
    pub const fn attempts(attempts: u32) -> Retry {
        Retry {
            attempts,
            base: Duration::from_millis(500),
            factor: 2.0,
            max_delay: Duration::from_secs(30),
            jitter: true,
        }
    }

    /// The longest pause after the first attempt.
    pub const fn base(self, base: Duration) -> Retry {
        Retry { base, ..self }
    }

    /// How much longer the pause becomes with each attempt; at least 1.
    pub const fn factor(self, factor: f64) -> Retry {
        Retry { factor, ..self }
    }

    /// The longest pause at all. A delay that is asked for (`delay_hint`) and longer than this ends the attempts.
    pub const fn max_delay(self, max_delay: Duration) -> Retry {
        Retry { max_delay, ..self }
    }

    /// Pauses in full, without jitter: for tests, and for a caller that is alone.
    pub const fn without_jitter(self) -> Retry {
        Retry { jitter: false, ..self }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        ConfigError::refuse(self.attempts == 0, "zero attempts call nothing; Retry::attempts(1) is a single try")?;
        ConfigError::refuse(
            !(self.factor >= 1.0 && self.factor.is_finite()),
            "the factor of a retry has to be at least 1; 1.0 pauses evenly",
        )?;
        ConfigError::refuse(self.base > self.max_delay, "base has to be at most max_delay; raise max_delay")
    }

    /// The pause after an attempt, counted from 1.
    pub(crate) fn pause(&self, attempt: u32) -> Duration {
        let steps = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let longest = self.max_delay.as_secs_f64();
        // Nothing times infinity would not be a number, and then the longest.
        let grown = if self.base.is_zero() { 0.0 } else { self.base.as_secs_f64() * self.factor.powi(steps) };
        let seconds = grown.min(longest);
        let share = if self.jitter { fastrand::f64() } else { 1.0 };
        Duration::try_from_secs_f64(seconds * share).unwrap_or(self.max_delay)
    }
}

/// A bound on the retries of many policies together: when everything fails, retries must not multiply the load.
///
/// Clones are handles to the same budget. Each retry, and each hedge, takes one; a retry that is not made after its pause
/// gives it back. Time adds `per_second`, and each call that reaches the function can add a fraction
/// ([`per_call`](RetryBudget::per_call)). Policies that share one should share a clock, too.
#[derive(Clone, Debug)]
pub struct RetryBudget {
    shared: Arc<Mutex<Purse>>,
    max: f64,
    per_second: f64,
    per_call: f64,
    /// A rate was given that is none.
    is_wrong: bool,
}

#[derive(Debug)]
struct Purse {
    left: f64,
    counted_at: Duration,
}

impl RetryBudget {
    /// A budget of `max` retries, full, to which time adds `per_second`.
    ///
    /// Zero retries, and a rate that is negative or infinite, are refused when a policy is built with it.
    pub fn new(max: u32, per_second: f64) -> RetryBudget {
        let max = f64::from(max);
        let shared = Arc::new(Mutex::new(Purse { left: max, counted_at: Duration::ZERO }));
        RetryBudget { shared, max, per_second, per_call: 0.0, is_wrong: max == 0.0 || !is_rate(per_second) }
    }

    /// What each call adds, say 0.1 for one retry in ten calls; none unless told. One that a layer refuses adds nothing: the
    /// backend has not seen it.
    ///
    /// A fraction that is negative or infinite is refused when a policy is built with it.
    pub fn per_call(self, fraction: f64) -> RetryBudget {
        RetryBudget { per_call: fraction, is_wrong: self.is_wrong || !is_rate(fraction), ..self }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let cure = "a retry budget has at least one retry, and what refills it is a finite number, 0.0 for nothing";
        ConfigError::refuse(self.is_wrong, cure)
    }

    /// How many retries are left, as of the last time that somebody asked for one.
    pub fn left(&self) -> u32 {
        // Never negative, and never above a u32.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).left as u32
    }

    pub(crate) fn note_call(&self, now: Duration) {
        if self.per_call > 0.0 {
            self.change(now, self.per_call);
        }
    }

    /// One retry, if there is one.
    pub(crate) fn take(&self, now: Duration) -> Option<Taken<'_>> {
        self.change(now, -1.0).then(|| Taken(Some(self)))
    }

    fn give_back(&self) {
        let mut purse = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        purse.left = (purse.left + 1.0).min(self.max);
    }

    fn change(&self, now: Duration, by: f64) -> bool {
        let mut purse = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_sub(purse.counted_at).as_secs_f64();
        purse.counted_at = purse.counted_at.max(now);
        let left = (purse.left + passed * self.per_second).min(self.max);
        // What many small parts add up to is a whole, whatever the rounding.
        let enough = left + by >= -1e-9;
        purse.left = if enough { (left + by).clamp(0.0, self.max) } else { left };
        enough
    }
}

/// One retry out of a budget, which is given back unless the attempt begins.
#[derive(Debug)]
pub(crate) struct Taken<'a>(Option<&'a RetryBudget>);

impl<'a> Taken<'a> {
    /// Out of no budget.
    pub(crate) const FREE: Taken<'a> = Taken(None);

    /// The attempt begins.
    pub(crate) fn spend(mut self) {
        self.0 = None;
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(budget) = self.0 {
            budget.give_back();
        }
    }
}

fn is_rate(rate: f64) -> bool {
    rate.is_finite() && rate >= 0.0
}
