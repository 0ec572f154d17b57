//! How long a value lives, and in which of its lives it is: pure arithmetic of (lifetime, stamps, now).

use std::time::Duration;

use crate::error::Error;
use crate::moment::{Moment, saturating_nanos};

/// How long a value is fresh, and how long an old one may still be served.
///
/// ```text
///  load ends          ttl            ttl + stale_while_revalidate        ttl + stale_if_error
///     |----- Fresh -----|----------- Stale ------------|------ Fallback --------|  Expired
/// ```
///
/// Both windows start where `ttl` ends and do not depend on each other (contract T1). Arithmetic saturates: a sum beyond
/// 584 years means for ever.
///
/// ```
/// use std::time::Duration;
/// use everfresh::Lifetime;
///
/// let minute = Duration::from_secs(60);
/// let lifetime = Lifetime::ttl(minute)
///     .stale_while_revalidate(5 * minute)
///     .stale_if_error(60 * minute)
///     .jitter(0.1);
/// assert_eq!(lifetime.time_to_live(), Some(minute));
/// ```
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Lifetime {
    ttl: Option<Duration>,
    stale_while_revalidate: Duration,
    stale_if_error: Duration,
    time_to_idle: Option<Duration>,
    jitter: f64,
}

impl Lifetime {
    /// Never stale, unless it is expired by hand.
    pub const fn forever() -> Lifetime {
        Lifetime {
            ttl: None,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            time_to_idle: None,
            jitter: 0.0,
        }
    }

    /// Fresh for `ttl` after the load that made the value ended.
    ///
    /// Zero is refused as a cache's own lifetime; for a single value it means stale from birth.
    pub const fn ttl(ttl: Duration) -> Lifetime {
        Lifetime { ttl: Some(ttl), ..Lifetime::forever() }
    }

    /// After `ttl`, serves the old value at once for so long, while one refresh runs behind (RFC 5861 §3).
    pub const fn stale_while_revalidate(self, window: Duration) -> Lifetime {
        Lifetime { stale_while_revalidate: window, ..self }
    }

    /// After `ttl`, serves the old value for so long if a load fails (RFC 5861 §4).
    pub const fn stale_if_error(self, window: Duration) -> Lifetime {
        Lifetime { stale_if_error: window, ..self }
    }

    /// Ends a value that nobody has read for so long, whatever the other bounds say; with each refresh, also one that says that the value
    /// holds still, that time begins anew.
    pub const fn time_to_idle(self, bound: Duration) -> Lifetime {
        Lifetime { time_to_idle: Some(bound), ..self }
    }

    /// Shortens each `ttl` by a random part of up to this fraction, so that what was loaded together does not end together.
    pub const fn jitter(self, fraction: f64) -> Lifetime {
        Lifetime { jitter: fraction, ..self }
    }

    /// The time for which a value is fresh; `None` is for ever.
    pub const fn time_to_live(&self) -> Option<Duration> {
        self.ttl
    }

    /// The bound on the time without a read, if there is one.
    pub const fn idle_bound(&self) -> Option<Duration> {
        self.time_to_idle
    }

    /// The window in which an old value is served at once while it is refreshed.
    pub const fn stale_window(&self) -> Duration {
        self.stale_while_revalidate
    }

    /// The window in which an old value is served if a load fails.
    pub const fn error_window(&self) -> Duration {
        self.stale_if_error
    }

    /// What is wrong with it as the lifetime of a whole cache.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.ttl == Some(Duration::ZERO) {
            return Err(Error::config(
                "a ttl of zero would make every value stale at birth; use Lifetime::forever() for values that never \
                 become stale, or a ttl of at least 1 ns",
            ));
        }
        if self.time_to_idle == Some(Duration::ZERO) {
            return Err(Error::config(
                "a time_to_idle of zero would end every value at once; leave it out for no bound",
            ));
        }
        if !(0.0..1.0).contains(&self.jitter) {
            return Err(Error::config(format!(
                "jitter is the fraction by which lives are shortened, from 0.0 up to but not including 1.0; it is {}",
                self.jitter
            )));
        }
        Ok(())
    }

    pub(crate) fn is_stale_from_birth(&self) -> bool {
        self.ttl == Some(Duration::ZERO)
    }

    /// What is left of it so much later.
    pub(crate) fn later(self, by: Duration) -> Lifetime {
        let Some(ttl) = self.ttl else { return self };
        let stale_for = by.saturating_sub(ttl);
        Lifetime {
            ttl: Some(ttl.saturating_sub(by)),
            stale_while_revalidate: self.stale_while_revalidate.saturating_sub(stale_for),
            stale_if_error: self.stale_if_error.saturating_sub(stale_for),
            ..self
        }
    }

    pub(crate) fn windows(&self) -> Windows {
        Windows {
            stale: saturating_nanos(self.stale_while_revalidate),
            fallback: saturating_nanos(self.stale_if_error),
        }
    }

    /// For how long its values are fresh.
    pub(crate) fn life(&self) -> Life {
        let Some(longest) = self.ttl.map(saturating_nanos).filter(|&nanos| nanos != u64::MAX) else {
            return Life::FOREVER;
        };
        let cut = (longest as f64 * self.jitter.clamp(0.0, 1.0)) as u64;
        Life { longest, cut: cut.min(longest) }
    }
}

/// For how long values are fresh: all of them for as long, or each for as long as its lot has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Life {
    /// In nanoseconds; all that there are is for ever.
    longest: u64,
    /// What the worst lot takes from it, nearly: it has one part of 65,536 of that less.
    cut: u64,
}

impl Life {
    pub(crate) const FOREVER: Life = Life { longest: u64::MAX, cut: 0 };

    /// The life of what is fresh for so long.
    pub(crate) fn of(ttl: Duration) -> Life {
        Life { longest: saturating_nanos(ttl), cut: 0 }
    }

    /// A lot by chance, which is asked where it has a say: for a number in [0, 1).
    #[inline]
    pub(crate) fn draw(self, chance: impl FnOnce() -> f64) -> u16 {
        if self.cut == 0 { 0 } else { (chance() * 65_536.0) as u16 }
    }

    /// The end of freshness of a value with this lot whose load ended at `loaded_at`.
    #[inline]
    pub(crate) fn end(self, loaded_at: Moment, lot: u16) -> Moment {
        // Nearly always the first: nobody waits for the product then.
        let cut = if lot == 0 { 0 } else { ((u128::from(self.cut) * u128::from(lot)) >> 16) as u64 };
        loaded_at.after_nanos(self.longest - cut)
    }

    /// For so many nanoseconds at most, all that there are if for ever.
    pub(crate) fn longest(self) -> u64 {
        self.longest
    }

    /// For so many nanoseconds values are fresh whatever their lot; `None` if for ever.
    pub(crate) fn shortest(self) -> Option<u64> {
        (self != Life::FOREVER).then_some(self.longest - self.cut)
    }
}

/// The lives of a value, in the words of RFC 9111 §4.2 and RFC 5861.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Freshness {
    /// Within its ttl: served.
    Fresh,
    /// Past its ttl, within `stale_while_revalidate`: served at once, and refreshed behind.
    Stale,
    /// Within `stale_if_error` only: loaded first, and served if that fails.
    Fallback,
    /// Past every window: never served.
    Expired,
}

/// The two windows after the end of freshness, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Windows {
    pub(crate) stale: u64,
    pub(crate) fallback: u64,
}

impl Windows {
    pub(crate) fn judge(self, fresh_until: Moment, now: Moment) -> Freshness {
        if fresh_until == Moment::NEVER || now < fresh_until {
            Freshness::Fresh
        } else if now < self.stale_until(fresh_until) {
            Freshness::Stale
        } else if now < self.fallback_until(fresh_until) {
            Freshness::Fallback
        } else {
            Freshness::Expired
        }
    }

    /// Whether what has stopped being fresh is still stale at `now`, which is not before.
    #[inline]
    pub(crate) fn is_stale_at(self, fresh_until: Moment, now: Moment) -> bool {
        now.nanos().wrapping_sub(fresh_until.nanos()) < self.stale
    }

    pub(crate) fn stale_until(self, fresh_until: Moment) -> Moment {
        fresh_until.after_nanos(self.stale)
    }

    pub(crate) fn fallback_until(self, fresh_until: Moment) -> Moment {
        fresh_until.after_nanos(self.fallback)
    }

    /// The end of the longer window: from then on the value is expired.
    pub(crate) fn end(self, fresh_until: Moment) -> Moment {
        fresh_until.after_nanos(self.stale.max(self.fallback))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn t1_what_is_left_later_ends_when_the_whole_ends() {
        let whole = Lifetime::ttl(2 * SECOND).stale_while_revalidate(SECOND).stale_if_error(5 * SECOND);
        assert_eq!(whole.later(Duration::ZERO), whole);
        assert_eq!(whole.later(SECOND), Lifetime { ttl: Some(SECOND), ..whole });
        let stale = Lifetime::ttl(Duration::ZERO).stale_while_revalidate(SECOND / 2).stale_if_error(9 * SECOND / 2);
        assert_eq!(whole.later(5 * SECOND / 2), stale);
        assert_eq!(whole.later(Duration::MAX), Lifetime::ttl(Duration::ZERO));
        assert_eq!(Lifetime::forever().later(SECOND), Lifetime::forever());
    }

    #[test]
    fn t1_each_life_ends_at_its_own_boundary_and_not_a_nanosecond_later() {
        let windows = Lifetime::ttl(SECOND).stale_while_revalidate(2 * SECOND).stale_if_error(5 * SECOND).windows();
        let fresh_until = Moment::default().after(SECOND);
        let at = |nanos| windows.judge(fresh_until, Moment::from_nanos(nanos));
        assert_eq!(at(999_999_999), Freshness::Fresh);
        assert_eq!(at(1_000_000_000), Freshness::Stale);
        assert_eq!(at(2_999_999_999), Freshness::Stale);
        assert_eq!(at(3_000_000_000), Freshness::Fallback);
        assert_eq!(at(5_999_999_999), Freshness::Fallback);
        assert_eq!(at(6_000_000_000), Freshness::Expired);
    }

    #[test]
    fn t1_the_windows_do_not_depend_on_each_other() {
        let long_stale = Lifetime::ttl(SECOND).stale_while_revalidate(5 * SECOND).stale_if_error(2 * SECOND).windows();
        let fresh_until = Moment::default().after(SECOND);
        assert_eq!(long_stale.judge(fresh_until, Moment::from_nanos(5_999_999_999)), Freshness::Stale);
        assert_eq!(long_stale.judge(fresh_until, Moment::from_nanos(6_000_000_000)), Freshness::Expired);
    }

    #[test]
    fn t3_arithmetic_saturates_at_both_ends() {
        let windows = Lifetime::ttl(SECOND).stale_while_revalidate(Duration::MAX).windows();
        assert_eq!(windows.judge(Moment::from_nanos(5), Moment::from_nanos(u64::MAX - 1)), Freshness::Stale);
        let billion_years = Duration::from_secs(1_000_000_000 * 365 * 86_400);
        for lifetime in [Lifetime::ttl(billion_years), Lifetime::ttl(billion_years).jitter(0.9), Lifetime::forever()] {
            let life = lifetime.life();
            assert_eq!((life, life.shortest()), (Life::FOREVER, None));
            for lot in [0, u16::MAX] {
                assert_eq!(life.end(Moment::from_nanos(u64::MAX - 3), lot), Moment::NEVER);
                assert_eq!(windows.judge(life.end(Moment::default(), lot), Moment::NEVER), Freshness::Fresh);
            }
        }
        let one = Lifetime::ttl(Duration::from_nanos(1)).life();
        assert_eq!(one.end(Moment::from_nanos(7), 0), Moment::from_nanos(8));
        let longest = Lifetime::ttl(Duration::from_nanos(u64::MAX - 1)).jitter(0.5).life();
        assert_eq!(longest.end(Moment::from_nanos(9), 0), Moment::NEVER);
        assert!(longest.end(Moment::default(), u16::MAX) > Moment::from_nanos(u64::MAX / 2));
    }

    #[test]
    fn t5_jitter_shortens_and_never_lengthens() {
        let life = Lifetime::ttl(10 * SECOND).jitter(0.2).life();
        let end = |chance| life.end(Moment::default(), life.draw(|| chance));
        assert_eq!(end(0.0), Moment::default().after(10 * SECOND));
        assert_eq!(end(0.5), Moment::default().after(9 * SECOND));
        let shortest = Moment::default().after_nanos(life.shortest().unwrap());
        assert_eq!(shortest, Moment::default().after(8 * SECOND));
        let almost = end(0.999_999);
        assert!(almost > shortest && almost < shortest.after(SECOND / 10_000));
        let whole = Lifetime::ttl(Duration::from_nanos(1)).jitter(0.999).life();
        assert_eq!(whole.end(Moment::default(), u16::MAX), Moment::from_nanos(1), "at least that is left");
    }
}
