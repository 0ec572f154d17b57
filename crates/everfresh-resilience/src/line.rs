//! A line of those who wait for the same thing: who came first goes first, unless it stays away when it is its turn.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use crate::clock::Timepiece;

/// How long the others wait for one whose turn it is. A future that nobody polls must not hold up those behind it.
const PATIENCE: Duration = Duration::from_millis(10);

#[derive(Default)]
pub(crate) struct Line {
    places: Mutex<Places>,
    length: AtomicUsize,
}

#[derive(Default)]
struct Places {
    last_number: u64,
    /// By their numbers, which are given in the order in which they came. A waker that goes is dropped when the lock is not held: it may
    /// be the last that knows of a task, and with the task goes its own place.
    waiting: VecDeque<(u64, Waker)>,
    /// When the first may go, as far as it is known.
    turn_at: Duration,
    /// When the first has stayed away for too long.
    overdue_at: Duration,
}

/// Where one stands that is not the first.
pub(crate) struct Behind {
    pub(crate) ahead: usize,
    /// When the first may go, as far as it is known.
    pub(crate) turn_at: Duration,
    /// When the first has stayed away for too long.
    pub(crate) overdue_at: Duration,
}

impl Line {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.length.load(Ordering::Relaxed) == 0
    }

    /// One more, behind all others; it stands there from its first look.
    pub(crate) fn join<'a>(&'a self, clock: &'a Timepiece) -> Stand<'a> {
        let mut places = self.places();
        places.last_number += 1;
        Stand { line: self, clock, number: places.last_number }
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, places: &Places) {
        self.length.store(places.waiting.len(), Ordering::Relaxed);
    }
}

/// What is to be done when the lock is not held any more.
#[derive(Default)]
struct Left {
    /// Who stands in the line no longer.
    gone: Option<(u64, Waker)>,
    /// Who is to be woken, for it is its turn.
    next: Option<Waker>,
}

impl Places {
    /// Takes the first away.
    fn next(&mut self, now: Duration) -> Left {
        let gone = self.waiting.pop_front();
        self.overdue_at = self.turn_at.max(now).saturating_add(PATIENCE);
        Left { gone, next: self.waiting.front().map(|(_, waker)| waker.clone()) }
    }
}

/// A place in a line.
pub(crate) struct Stand<'a> {
    line: &'a Line,
    clock: &'a Timepiece,
    number: u64,
}

impl Stand<'_> {
    /// Whether it is its turn; if not, it is woken when it is. A first that is overdue is passed over, and will be the
    /// first again when it looks.
    pub(crate) fn look(&self, now: Duration, waker: &Waker) -> Result<(), Behind> {
        let own = waker.clone();
        let mut places = self.line.places();
        let mut replaced = None;
        let mut ahead = match places.waiting.binary_search_by_key(&self.number, |(number, _)| *number) {
            Ok(ahead) => {
                replaced = Some(std::mem::replace(&mut places.waiting[ahead].1, own));
                ahead
            }
            Err(ahead) => {
                places.waiting.insert(ahead, (self.number, own));
                if ahead == 0 {
                    places.overdue_at = places.turn_at.max(now).saturating_add(PATIENCE);
                }
                ahead
            }
        };
        let mut left = Left::default();
        if ahead > 0 && now >= places.overdue_at {
            left = places.next(now);
            ahead -= 1;
        }
        self.line.note(&places);
        let behind = Behind { ahead, turn_at: places.turn_at, overdue_at: places.overdue_at };
        drop(places);
        drop((replaced, left.gone));
        if ahead == 0 {
            return Ok(());
        }
        left.next.into_iter().for_each(Waker::wake);
        Err(behind)
    }

    /// It is the first, and may go then.
    pub(crate) fn goes_at(&self, turn_at: Duration) {
        let mut places = self.line.places();
        places.turn_at = turn_at;
        places.overdue_at = turn_at.saturating_add(PATIENCE);
    }
}

impl Drop for Stand<'_> {
    fn drop(&mut self) {
        let mut places = self.line.places();
        let left = match places.waiting.binary_search_by_key(&self.number, |(number, _)| *number) {
            Ok(0) => places.next(self.clock.now()),
            Ok(ahead) => Left { gone: places.waiting.remove(ahead), next: None },
            Err(_) => Left::default(),
        };
        self.line.note(&places);
        drop(places);
        drop(left.gone);
        left.next.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn a_first_that_stays_away_is_passed_over_and_is_first_again_when_it_looks() {
        let (line, hands) = (Line::default(), ManualClock::new());
        let clock = Timepiece::of(hands.clone());
        let [first, second, third] = [(); 3].map(|()| line.join(&clock));
        let look = |stand: &Stand<'_>| {
            stand.look(clock.now(), Waker::noop()).map_err(|behind| (behind.ahead, behind.overdue_at))
        };
        assert_eq!(look(&first), Ok(()));
        assert_eq!(look(&second), Err((1, PATIENCE)));
        // Who comes later does not give the first one more time.
        hands.advance(PATIENCE - MILLISECOND);
        assert_eq!(look(&third), Err((2, PATIENCE)));
        hands.advance(MILLISECOND);
        assert_eq!(look(&second), Ok(()));
        assert_eq!(look(&third), Err((1, PATIENCE * 2)));
        // It has its place before them, and as much time as any first.
        hands.advance(MILLISECOND);
        assert_eq!(look(&first), Ok(()));
        assert_eq!(look(&second), Err((1, PATIENCE * 2 + MILLISECOND)));
        hands.advance(MILLISECOND);
        drop(first);
        assert_eq!(look(&second), Ok(()));
        assert_eq!(look(&third), Err((1, PATIENCE * 2 + MILLISECOND * 2)));
    }
}
