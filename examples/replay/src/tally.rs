//! What is counted and measured of one contestant: outcomes, waiting, age, and how these went over the day.

use std::time::Duration;

use everfresh::Outcome;

use crate::backend::{Load, slot_of};
use crate::waits::Waits;

/// How one request was answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Served {
    pub(crate) outcome: Outcome,
    /// When the value was made, if there was one.
    pub(crate) made: Option<Duration>,
}

/// How many requests had which outcome; they add up to the requests.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Outcomes {
    pub(crate) fresh: u64,
    pub(crate) stale: u64,
    pub(crate) loaded: u64,
    pub(crate) coalesced: u64,
    pub(crate) fallback: u64,
    pub(crate) failed: u64,
}

/// A part of the span.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Slot {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) wait: Waits,
}

/// What one contestant's readers saw.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Tally {
    pub(crate) outcomes: Outcomes,
    pub(crate) wait: Waits,
    /// Requests that did not wait at all: answered in the very moment (virtual time) or within a millisecond (real time).
    pub(crate) at_once: u64,
    /// The greatest age of a value at the moment at which it was served.
    pub(crate) oldest: Duration,
    /// Requests that found no free thread before the end (`--live` only).
    pub(crate) unserved: u64,
    pub(crate) slots: Vec<Slot>,
    span: Duration,
    counts_as_at_once: Duration,
}

/// One contestant's whole result.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Score {
    pub(crate) name: &'static str,
    pub(crate) tally: Tally,
    pub(crate) load: Load,
}

impl Outcomes {
    pub(crate) fn sum(self) -> u64 {
        self.fresh + self.stale + self.loaded + self.coalesced + self.fallback + self.failed
    }

    fn count(&mut self, outcome: Outcome) {
        *match outcome {
            Outcome::Hit => &mut self.fresh,
            Outcome::Stale => &mut self.stale,
            Outcome::Coalesced => &mut self.coalesced,
            Outcome::Fallback => &mut self.fallback,
            Outcome::Loaded | Outcome::Revalidated | Outcome::Bypass | Outcome::SecondLevel => &mut self.loaded,
            _ => &mut self.failed,
        } += 1;
    }

    fn add(&mut self, other: Outcomes) {
        self.fresh += other.fresh;
        self.stale += other.stale;
        self.loaded += other.loaded;
        self.coalesced += other.coalesced;
        self.fallback += other.fallback;
        self.failed += other.failed;
    }
}

impl Tally {
    pub(crate) fn new(span: Duration, slots: usize, counts_as_at_once: Duration) -> Tally {
        let slot = Slot { requests: 0, errors: 0, wait: Waits::new(2) };
        Tally {
            outcomes: Outcomes::default(),
            wait: Waits::new(3),
            at_once: 0,
            oldest: Duration::ZERO,
            unserved: 0,
            slots: vec![slot; slots],
            span,
            counts_as_at_once,
        }
    }

    /// One request, from its arrival to its answer.
    pub(crate) fn record(&mut self, came: Duration, answered: Duration, served: Served) {
        let wait = answered.saturating_sub(came);
        self.outcomes.count(served.outcome);
        self.at_once += u64::from(wait <= self.counts_as_at_once && served.outcome != Outcome::Failed);
        self.wait.record(wait);
        if let Some(made) = served.made {
            self.oldest = self.oldest.max(answered.saturating_sub(made));
        }
        let index = slot_of(came, self.span, self.slots.len());
        if let Some(slot) = self.slots.get_mut(index) {
            slot.requests += 1;
            slot.errors += u64::from(served.outcome == Outcome::Failed);
            slot.wait.record(wait);
        }
    }

    pub(crate) fn absorb(&mut self, other: &Tally) {
        self.outcomes.add(other.outcomes);
        self.at_once += other.at_once;
        self.oldest = self.oldest.max(other.oldest);
        self.unserved += other.unserved;
        self.wait.absorb(&other.wait);
        for (own, other) in self.slots.iter_mut().zip(&other.slots) {
            own.requests += other.requests;
            own.errors += other.errors;
            own.wait.absorb(&other.wait);
        }
    }

    pub(crate) fn requests(&self) -> u64 {
        self.outcomes.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn every_request_is_counted_once_and_in_its_slot() {
        let mut tally = Tally::new(100 * MS, 10, Duration::ZERO);
        tally.record(5 * MS, 5 * MS, Served { outcome: Outcome::Hit, made: Some(MS) });
        tally.record(95 * MS, 145 * MS, Served { outcome: Outcome::Loaded, made: Some(145 * MS) });
        tally.record(95 * MS, 96 * MS, Served { outcome: Outcome::Failed, made: None });
        assert_eq!((tally.requests(), tally.at_once, tally.oldest), (3, 1, 4 * MS));
        assert_eq!((tally.slots[0].requests, tally.slots[9].requests, tally.slots[9].errors), (1, 2, 1));
        assert_eq!((tally.wait.quantile(0.0), tally.wait.longest()), (Duration::ZERO, 50 * MS));
    }

    #[test]
    fn tallies_of_threads_add_up() {
        let mut one = Tally::new(100 * MS, 10, Duration::ZERO);
        one.record(MS, 3 * MS, Served { outcome: Outcome::Loaded, made: None });
        let mut sum = one.clone();
        sum.absorb(&one);
        assert_eq!((sum.requests(), sum.slots[0].requests), (2, 2));
        assert_eq!((sum.slots[0].wait.mean(), sum.wait.mean()), (2 * MS, 2 * MS));
    }
}
