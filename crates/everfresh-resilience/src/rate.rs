//! The rate limit: so many calls in so long, evenly, with a burst.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as Governed, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::clock::Timepiece;
use crate::error::ConfigError;

/// How many calls may begin in a span of time.
///
/// A burst of them may begin at once; after that one begins every `per / calls`. Each call counts once, however often it is
/// retried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RateLimit {
    calls: u32,
    per: Duration,
    burst: u32,
    max_wait: Duration,
}

impl RateLimit {
    /// At most so many calls in `per`, all of which may come at once; a call that finds no room is refused at once.
    pub const fn new(calls: u32, per: Duration) -> RateLimit {
        RateLimit { calls, per, burst: calls, max_wait: Duration::ZERO }
    }

    /// How many may begin at once after a pause.
    pub const fn burst(self, burst: u32) -> RateLimit {
        RateLimit { burst, ..self }
    }

    /// Waits for room, but no longer than this.
    pub const fn max_wait(self, max_wait: Duration) -> RateLimit {
        RateLimit { max_wait, ..self }
    }

    fn quota(&self) -> Result<Quota, ConfigError> {
        let quota = self.per.checked_div(self.calls).and_then(Quota::with_period).zip(NonZeroU32::new(self.burst));
        match quota {
            Some((quota, burst)) => Ok(quota.allow_burst(burst)),
            None => Err(ConfigError::new("calls, span and burst of a rate limit have to be above zero")),
        }
    }
}

/// A rate limit that runs.
pub(crate) struct Limiter {
    pub(crate) settings: RateLimit,
    limiter: RateLimiter<NotKeyed, InMemoryState, Metronome, NoOpMiddleware<Nanos>>,
    clock: Timepiece,
}

/// The policy's time as the rate limiter reads it.
#[derive(Clone)]
struct Metronome(Timepiece);

impl Governed for Metronome {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.now().into()
    }
}

impl Limiter {
    pub(crate) fn new(settings: RateLimit, clock: Timepiece) -> Result<Limiter, ConfigError> {
        let limiter = RateLimiter::direct_with_clock(settings.quota()?, Metronome(clock.clone()));
        Ok(Limiter { settings, limiter, clock })
    }

    /// Takes the room for one call; whether that took a wait.
    pub(crate) async fn enter(&self) -> Result<bool, Duration> {
        let Err(not_until) = self.limiter.check() else { return Ok(false) };
        let mut earliest = not_until.earliest_possible();
        let give_up_at: Nanos = self.clock.now().saturating_add(self.settings.max_wait).into();
        loop {
            let now: Nanos = self.clock.now().into();
            let wait: Duration = earliest.duration_since(now).into();
            if earliest > give_up_at {
                return Err(wait);
            }
            self.clock.sleep_until(earliest.into()).await;
            match self.limiter.check() {
                Ok(()) => return Ok(true),
                Err(not_until) => earliest = not_until.earliest_possible(),
            }
        }
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Limiter").field(&self.settings).finish()
    }
}
