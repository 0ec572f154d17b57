//! The rate limit: so many calls in so long, evenly, with a burst.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::num::NonZeroU32;
use std::task::{Poll, Waker};
use std::time::Duration;

use governor::clock::Clock as Governed;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::clock::{Sleep, Timepiece};
use crate::error::ConfigError;
use crate::line::{Line, Stand};

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
    /// So many calls in `per` in the long run, all of which may come at once; a call that finds no room is refused at once.
    ///
    /// What a burst has used comes back one by one, so after a pause up to twice as many begin within `per`. Where that is
    /// too many, as with a quota that is counted strictly, give a smaller [`burst`](RateLimit::burst).
    pub const fn new(calls: u32, per: Duration) -> RateLimit {
        RateLimit { calls, per, burst: calls, max_wait: Duration::ZERO }
    }

    /// How many may begin at once after a pause.
    pub const fn burst(self, burst: u32) -> RateLimit {
        RateLimit { burst, ..self }
    }

    /// Waits for room, but no longer than this, and behind those who came before; a future that is not polled is passed
    /// over a few milliseconds after there is room for it.
    pub const fn max_wait(self, max_wait: Duration) -> RateLimit {
        RateLimit { max_wait, ..self }
    }

    fn quota(&self) -> Result<Quota, ConfigError> {
        let burst = NonZeroU32::new(self.burst).filter(|_| self.calls > 0 && !self.per.is_zero());
        let burst =
            burst.ok_or_else(|| ConfigError::new("calls, span and burst of a rate limit have to be above zero"))?;
        let cure = "a rate limit of more than one call in a nanosecond limits nothing; leave it out";
        let period = self.per / self.calls;
        let quota = Quota::with_period(period).ok_or_else(|| ConfigError::new(cure))?;
        ConfigError::refuse(
            period.saturating_mul(self.burst) > LONGEST_REFILL,
            "a burst that takes more than a hundred years to come back is as good as none; lower it, or the span",
        )?;
        Ok(quota.allow_burst(burst))
    }
}

const YEAR: Duration = Duration::from_secs(31_556_952);
/// The limiter adds this to the time it is, in nanoseconds of which 64 bits hold 584 years.
const LONGEST_REFILL: Duration = YEAR.saturating_mul(100);
/// Where the limiter's time stands still, so that both have room.
const END_OF_TIME: Duration = YEAR.saturating_mul(400);

/// A rate limit that runs.
pub(crate) struct Limiter {
    pub(crate) settings: RateLimit,
    limiter: RateLimiter<NotKeyed, InMemoryState, Noted, NoOpMiddleware<Nanos>>,
    clock: Timepiece,
    line: Line,
}

/// How it goes on with somebody in the line.
enum Step {
    /// What time it has become; or how long until there is room.
    Ended(Result<Duration, Duration>),
    WaitUntil(Duration),
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
        Nanos::from(NOTED.get().min(END_OF_TIME))
    }
}

impl Limiter {
    pub(crate) fn new(settings: RateLimit, clock: Timepiece) -> Result<Limiter, ConfigError> {
        NOTED.set(clock.now());
        let limiter = RateLimiter::direct_with_clock(settings.quota()?, Noted);
        Ok(Limiter { settings, limiter, clock, line: Line::default() })
    }

    /// Takes the room for one call if nobody waits for it; or says when there may be some at the earliest.
    #[inline]
    pub(crate) fn try_enter(&self, now: Duration) -> Result<(), Duration> {
        if self.line.is_empty() { self.check(now) } else { Err(now) }
    }

    /// Waits for the room for one call that had none when it began, at the earliest then, behind all who came before;
    /// what time it has become. The error is how long until there is room.
    pub(crate) async fn enter(&self, began: Duration, earliest: Duration) -> Result<Duration, Duration> {
        let give_up_at = began.saturating_add(self.settings.max_wait);
        if earliest > give_up_at {
            return Err(earliest.saturating_sub(began));
        }
        let stand = self.line.join(&self.clock);
        let mut sleeping: Option<(Duration, Sleep)> = None;
        poll_fn(|cx| {
            loop {
                let until = match self.step(&stand, cx.waker(), give_up_at) {
                    Step::Ended(result) => return Poll::Ready(result),
                    Step::WaitUntil(until) => until,
                };
                let mut sleep = match sleeping.take() {
                    Some((at, sleep)) if at == until => sleep,
                    _ => self.clock.sleep_until(until),
                };
                if sleep.as_mut().poll(cx).is_pending() {
                    sleeping = Some((until, sleep));
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    /// What somebody in the line does when it is awake.
    fn step(&self, stand: &Stand<'_>, waker: &Waker, give_up_at: Duration) -> Step {
        let now = self.clock.now();
        let period = self.settings.per / self.settings.calls;
        let Err(behind) = stand.look(now, waker) else {
            return match self.check(now) {
                Ok(()) => Step::Ended(Ok(now)),
                Err(earliest) if earliest > give_up_at => Step::Ended(Err(earliest.saturating_sub(now))),
                Err(earliest) => {
                    stand.goes_at(earliest);
                    Step::WaitUntil(earliest)
                }
            };
        };
        if now >= give_up_at {
            // The first takes the room that there is; of the others, who came before gives up before.
            return Step::Ended(Err(behind.turn_at.saturating_sub(now).saturating_add(period)));
        }
        // If all goes well, those ahead are gone by then, and it has been woken before.
        let others = period.saturating_mul(u32::try_from(behind.ahead - 1).unwrap_or(u32::MAX));
        Step::WaitUntil(behind.overdue_at.saturating_add(others).min(give_up_at))
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
