//! The entries of the small part, in the order in which they came.

use std::cmp::Reverse;
use std::collections::VecDeque;

use crate::store::table::Place;

/// A queue from whose middle nothing is taken: what left its place is void, and goes when it comes up or when there is
/// more void than not.
#[derive(Default)]
pub(super) struct Waiting {
    queue: VecDeque<Waiter>,
    /// How many are not void.
    len: usize,
}

#[derive(Clone, Copy)]
pub(super) struct Waiter {
    pub(super) place: Place,
    /// When it came; the next entry in the same place has another time.
    pub(super) since: u16,
}

impl Waiting {
    #[inline]
    pub(super) fn push(&mut self, waiter: Waiter, waits: impl Fn(Waiter) -> bool) {
        self.queue.push_back(waiter);
        self.len += 1;
        if self.queue.len() > 2 * self.len + 64 {
            self.queue.retain(|waiter| waits(*waiter));
        }
    }

    /// One that waited has gone, or waits no longer.
    #[inline]
    pub(super) fn forget_one(&mut self) {
        self.len -= 1;
    }

    /// Who has waited longest, but not `spared`; stays in the queue.
    #[inline]
    pub(super) fn first(&mut self, spared: Option<Place>, waits: impl Fn(Waiter) -> bool) -> Option<Place> {
        loop {
            let first = *self.queue.front()?;
            if !waits(first) {
                self.queue.pop_front();
            } else if spared != Some(first.place) {
                return Some(first.place);
            } else {
                return self.queue.iter().skip(1).find(|waiter| waits(**waiter)).map(|waiter| waiter.place);
            }
        }
    }

    /// Brings into their order those that were pushed in another one.
    pub(super) fn sort(&mut self, now: u16) {
        self.queue.make_contiguous().sort_by_key(|waiter| Reverse(now.wrapping_sub(waiter.since)));
    }

    /// Panics unless all of these wait here.
    #[cfg(any(test, everfresh_fuzz))]
    pub(super) fn validate(&self, all: impl Iterator<Item = Place>) {
        let mut len = 0;
        for place in all {
            assert!(self.queue.iter().any(|waiter| waiter.place == place), "an entry that does not wait");
            len += 1;
        }
        assert_eq!(self.len, len, "how many wait");
    }
}

#[cfg(all(test, not(everfresh_loom)))]
mod tests {
    use super::*;

    fn waiter(slot: usize, since: u16) -> Waiter {
        Waiter { place: Place::new(0, slot), since }
    }

    #[test]
    fn the_first_is_who_came_first_and_still_waits() {
        let mut waiting = Waiting::default();
        (0..4).for_each(|slot| waiting.push(waiter(slot, slot as u16), |_| true));
        assert_eq!(waiting.first(None, |_| true), Some(Place::new(0, 0)));
        assert_eq!(waiting.first(Some(Place::new(0, 0)), |_| true), Some(Place::new(0, 1)), "one is spared");
        waiting.forget_one();
        assert_eq!(waiting.first(None, |one| one.since > 1), Some(Place::new(0, 2)));
        assert_eq!(waiting.first(None, |_| false), None);
    }

    #[test]
    fn what_is_void_does_not_add_up() {
        let mut waiting = Waiting::default();
        for time in 0..10_000 {
            waiting.push(waiter(0, time), |one| one.since == time);
            waiting.forget_one();
        }
        assert!(waiting.queue.len() <= 66, "{}", waiting.queue.len());
    }

    #[test]
    fn the_order_holds_when_the_time_has_wrapped() {
        let mut waiting = Waiting::default();
        [(1, 2), (2, 65_000), (3, 65_534)]
            .iter()
            .for_each(|&(slot, since)| waiting.push(waiter(slot, since), |_| true));
        waiting.sort(5);
        let order: Vec<_> = waiting.queue.iter().map(|one| one.place.slot()).collect();
        assert_eq!(order, [2, 3, 1]);
    }
}
