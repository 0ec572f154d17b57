//! The rate limit: so many calls in so long, evenly, with a burst.

use std::cell::Cell;
use std::fmt;
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::clock::Clock as Governed;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::sync::Semaphore;

use crate::clock::Timepiece;
use crate::error::ConfigError;
use crate::waiting::Waiting;

/// How many calls may begin in a span of time.
///
/// A burst of them may begin at once; after that one begins every `per / calls`. Each call counts once, however often
/// it is retried.
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

    /// Waits for room, but no longer than this, and behind those who came before.
    pub const fn max_wait(self, max_wait: Duration) -> RateLimit {
        RateLimit { max_wait, ..self }
    }

    fn quota(&self) -> Result<Quota, ConfigError> {
        let burst = NonZeroU32::new(self.burst).filter(|_| self.calls > 0 && !self.per.is_zero());
        let burst =
            burst.ok_or_else(|| ConfigError::new("calls, span and burst of a rate limit have to be above zero"))?;
        let cure = "a rate limit of more than one call in a nanosecond limits nothing; leave it out";
        let quota = Quota::with_period(self.per / self.calls).ok_or_else(|| ConfigError::new(cure))?;
        Ok(quota.allow_burst(burst))
    }
}

/// A rate limit that runs.
pub(crate) struct Limiter {
    pub(crate) settings: RateLimit,
    limiter: RateLimiter<NotKeyed, InMemoryState, Noted, NoOpMiddleware<Nanos>>,
    clock: Timepiece,
    /// The one whose turn it is to wait for room; the others wait for their turn.
    turn: Semaphore,
    waiting: AtomicUsize,
    /// When there is room for the one whose turn it is.
    room_at: Mutex<Duration>,
}

/// The time as the rate limiter reads it: what the caller has just read, for reading it is dearer than the rest of the
/// check.
#[derive(Clone)]
struct Noted;

thread_local! {
    static NOTED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

impl Governed for Noted {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        NOTED.get().into()
    }
}

impl Limiter {
    pub(crate) fn new(settings: RateLimit, clock: Timepiece) -> Result<Limiter, ConfigError> {
        NOTED.set(clock.now());
        let limiter = RateLimiter::direct_with_clock(settings.quota()?, Noted);
        let (turn, waiting, room_at) = (Semaphore::new(1), AtomicUsize::new(0), Mutex::default());
        Ok(Limiter { settings, limiter, clock, turn, waiting, room_at })
    }

    /// Takes the room for one call if nobody waits for it; or says when there may be some at the earliest.
    #[inline]
    pub(crate) fn try_enter(&self, now: Duration) -> Result<(), Duration> {
        match self.waiting.load(Ordering::Relaxed) {
            0 => self.check(now),
            _ => Err(now),
        }
    }

    /// Waits for the room for one call that had none when it began, at the earliest then, behind all who came before;
    /// what time it has become. The error is how long until there is room.
    pub(crate) async fn enter(&self, began: Duration, earliest: Duration) -> Result<Duration, Duration> {
        let max_wait = self.settings.max_wait;
        let give_up_at = began.saturating_add(max_wait);
        if earliest > give_up_at {
            return Err(earliest.saturating_sub(began));
        }
        let _waiting = Waiting::enter(&self.waiting, usize::MAX);
        let Some(_turn) = self.clock.within(began, Some(max_wait), pin!(self.turn.acquire())).await else {
            let room_at = *self.room_at.lock().unwrap_or_else(PoisonError::into_inner);
            return Err(room_at.saturating_sub(self.clock.now()));
        };
        loop {
            let now = self.clock.now();
            let Err(earliest) = self.check(now) else { return Ok(now) };
            if earliest > give_up_at {
                return Err(earliest.saturating_sub(now));
            }
            *self.room_at.lock().unwrap_or_else(PoisonError::into_inner) = earliest;
            self.clock.sleep_until(earliest).await;
        }
    }

    /// Takes the room for one call, or says when there is some at the earliest.
    #[inline]
    fn check(&self, now: Duration) -> Result<(), Duration> {
        NOTED.set(now);
        self.limiter.check().map_err(|not_until| not_until.earliest_possible().into())
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Limiter").field(&self.settings).finish()
    }
}
