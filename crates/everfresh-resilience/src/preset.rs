//! Choices as plain values: what a policy is made of, and sets that fit common backends.

use std::time::Duration;

use crate::bulkhead::Bulkhead;
use crate::circuit::CircuitBreaker;
use crate::error::ConfigError;
use crate::rate::RateLimit;
use crate::retry::Retry;
use crate::timeout::{Hedge, Timeout};

/// Which layers a policy has. All fields may be changed; what is `None` is left out.
///
/// ```
/// use std::time::Duration;
/// use everfresh_resilience::{Policy, presets};
///
/// let mut preset = presets::http();
/// preset.timeout = Some(Duration::from_secs(3).into());
/// preset.bulkhead = None;
/// let policy = Policy::<String, std::io::Error>::builder().preset(preset).build()?;
/// # let _ = policy;
/// # Ok::<(), everfresh_resilience::ConfigError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug, Default)]
#[non_exhaustive]
pub struct Preset {
    /// When to leave the backend alone.
    pub circuit_breaker: Option<CircuitBreaker>,
    /// How many calls may begin in a span of time.
    pub rate_limit: Option<RateLimit>,
    /// How many calls may run at once.
    pub bulkhead: Option<Bulkhead>,
    /// How often to try, and how long to pause between.
    pub retry: Option<Retry>,
    /// How long it may take.
    pub timeout: Option<Timeout>,
    /// When to start another call beside one that takes long.
    pub hedge: Option<Hedge>,
}

impl Preset {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        self.circuit_breaker.iter().try_for_each(CircuitBreaker::check)?;
        self.bulkhead.iter().try_for_each(Bulkhead::check)?;
        self.retry.iter().try_for_each(Retry::check)?;
        self.timeout.iter().try_for_each(Timeout::check)?;
        self.hedge.iter().try_for_each(Hedge::check)
    }
}

/// Sets of layers for common backends; take one and change what does not fit.
///
/// | | timeout of an attempt | attempts; pauses from, factor, up to | breaker: failures in a row, open for, successes to close | besides |
/// |---|---|---|---|---|
/// | [`http`](presets::http) | 10 s | 3; 0.5 s, 2, 30 s | 5, 30 s, 2 | |
/// | [`db`](presets::db) | 30 s | 2; 1 s, 1.5, 10 s | 3, 60 s, 1 | 10 at once, waiting 5 s |
/// | [`queue`](presets::queue) | 15 s | 5; 2 s, 2, 60 s | 10, 60 s, 3 | |
/// | [`llm`](presets::llm) | 60 s | 4; 1 s, 2, 60 s | 5, 30 s, 2 | 60 calls a minute, waiting up to 60 s |
/// | [`strict`](presets::strict) | 5 s | 1 | 3, 60 s, 1 | |
pub mod presets {
    use super::{Bulkhead, CircuitBreaker, Duration, Preset, RateLimit, Retry, Timeout};

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const fn of(timeout: u64, retry: Retry, breaker: CircuitBreaker) -> Preset {
        Preset {
            circuit_breaker: Some(breaker),
            rate_limit: None,
            bulkhead: None,
            retry: Some(retry),
            timeout: Some(Timeout::per_attempt(seconds(timeout))),
            hedge: None,
        }
    }

    /// An HTTP service.
    pub const fn http() -> Preset {
        let retry = Retry::attempts(3).base(Duration::from_millis(500)).max_delay(seconds(30));
        of(10, retry, CircuitBreaker::consecutive(5).open_for(seconds(30)).close_after(2))
    }

    /// A database: few retries, a bounded number of connections.
    pub const fn db() -> Preset {
        let retry = Retry::attempts(2).base(seconds(1)).factor(1.5).max_delay(seconds(10));
        let mut preset = of(30, retry, CircuitBreaker::consecutive(3).open_for(seconds(60)).close_after(1));
        preset.bulkhead = Some(Bulkhead::new(10).max_wait(seconds(5)));
        preset
    }

    /// A message queue: patient.
    pub const fn queue() -> Preset {
        let retry = Retry::attempts(5).base(seconds(2)).max_delay(seconds(60));
        of(15, retry, CircuitBreaker::consecutive(10).open_for(seconds(60)).close_after(3))
    }

    /// A language model behind an API: slow, and limited by the minute. Give it the `Retry-After` of its answers by
    /// `delay_hint`.
    pub const fn llm() -> Preset {
        let retry = Retry::attempts(4).base(seconds(1)).max_delay(seconds(60));
        let mut preset = of(60, retry, CircuitBreaker::consecutive(5).open_for(seconds(30)).close_after(2));
        preset.rate_limit = Some(RateLimit::new(60, seconds(60)).max_wait(seconds(60)));
        preset
    }

    /// Fail fast: one attempt, five seconds.
    pub const fn strict() -> Preset {
        of(5, Retry::attempts(1), CircuitBreaker::consecutive(3).open_for(seconds(60)).close_after(1))
    }
}
