//! A point in a cache's own time, in whole nanoseconds.

use std::time::Duration;

/// Nanoseconds since the origin of the cache's clock. All arithmetic saturates (contract T3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(crate) struct Moment(u64);

impl Moment {
    /// Never reached: 584 years after the origin.
    pub(crate) const NEVER: Moment = Moment(u64::MAX);

    pub(crate) const fn from_nanos(nanos: u64) -> Moment {
        Moment(nanos)
    }

    pub(crate) const fn nanos(self) -> u64 {
        self.0
    }

    /// The moment `span` later; anything beyond the range is [`Moment::NEVER`].
    #[inline]
    pub(crate) fn after(self, span: Duration) -> Moment {
        self.after_nanos(saturating_nanos(span))
    }

    /// As [`after`](Moment::after).
    #[inline]
    pub(crate) fn after_nanos(self, nanos: u64) -> Moment {
        Moment(self.0.saturating_add(nanos))
    }

    /// The time from `earlier` until this moment; zero if `earlier` is later.
    pub(crate) fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl From<Duration> for Moment {
    fn from(since_origin: Duration) -> Moment {
        Moment(saturating_nanos(since_origin))
    }
}

/// Whole nanoseconds of a duration, `u64::MAX` when there are more.
#[inline]
pub(crate) fn saturating_nanos(span: Duration) -> u64 {
    span.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(span.subsec_nanos()))
}
