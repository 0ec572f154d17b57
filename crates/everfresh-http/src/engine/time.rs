//! Wall-clock time that a test can move.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use everfresh::{Clock, Sleep, SystemClock};

/// Time as the engine sees it: the dates of HTTP need a wall clock, deadlines a clock that can be waited for.
#[derive(Clone)]
pub(crate) enum Time {
    /// The system's wall clock; deadlines by its monotonic clock.
    System,
    /// Another clock, and the date at its origin.
    Other(Arc<dyn Clock>, SystemTime),
}

impl Time {
    pub(crate) fn now(&self) -> SystemTime {
        match self {
            Self::System => SystemTime::now(),
            Self::Other(clock, origin) => origin.checked_add(clock.now()).unwrap_or(*origin),
        }
    }

    /// Time since the clock's origin; never goes back.
    pub(crate) fn elapsed(&self) -> Duration {
        match self {
            Self::System => SystemClock.now(),
            Self::Other(clock, _) => clock.now(),
        }
    }

    pub(crate) fn sleep(&self, span: Duration) -> Sleep {
        match self {
            Self::System => SystemClock.sleep_until(SystemClock.now().saturating_add(span)),
            Self::Other(clock, _) => clock.sleep_until(clock.now().saturating_add(span)),
        }
    }
}

/// The store's clock is the engine's.
impl Clock for Time {
    fn now(&self) -> Duration {
        self.elapsed()
    }

    fn sleep_until(&self, at: Duration) -> Sleep {
        self.sleep(at.saturating_sub(self.elapsed()))
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Time").field(&self.now()).finish()
    }
}
