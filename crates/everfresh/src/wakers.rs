//! Who waits for something, and is woken then: for what ends once, or comes again and again.

use std::num::NonZeroU32;
use std::task::Waker;

use slab::Slab;

use crate::sync::raced::{Mutex, lock};

/// Room for so many is made when the first one comes, and so many times as much when that is full: whoever comes to a stampede is
/// seldom the last.
const FIRST: usize = 64;
const GROWTH: usize = 4;

/// Where a waker is noted. In half a word, for each task of a stampede carries one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place(NonZeroU32);

impl Place {
    fn of(index: usize) -> Place {
        let place = u32::try_from(index + 1).ok().and_then(NonZeroU32::new);
        Place(place.expect("four thousand million tasks wait for one key"))
    }

    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// The wakers of those who wait, until the end.
pub(crate) struct Wakers(Mutex<Option<Slab<Waker>>>);

impl Wakers {
    pub(crate) fn new() -> Wakers {
        Wakers(Mutex::new(Some(Slab::new())))
    }

    /// Notes a waker, or another one at the `place` where it has one already. `None` if the end has come meanwhile.
    pub(crate) fn note(&self, place: &mut Option<Place>, waker: &Waker) -> Option<()> {
        let mut waiting = lock(&self.0);
        let now = waiting.as_mut()?;
        let replaced = match place.map(|place| &mut now[place.index()]) {
            Some(noted) if noted.will_wake(waker) => None,
            Some(noted) => Some(std::mem::replace(noted, waker.clone())),
            None => {
                if now.len() == now.capacity() {
                    now.reserve_exact((now.len() * (GROWTH - 1)).max(FIRST));
                }
                *place = Some(Place::of(now.insert(waker.clone())));
                None
            }
        };
        // Not under the lock: it may be the last that knows of a task.
        drop(waiting);
        drop(replaced);
        Some(())
    }

    /// Forgets the waker at a place, if the end has not come.
    pub(crate) fn forget(&self, place: Place) {
        let forgotten = lock(&self.0).as_mut().and_then(|waiting| waiting.try_remove(place.index()));
        drop(forgotten);
    }

    /// Wakes everybody, once `note_end` has noted the end: under the lock, so that whoever finds that nobody waits any more finds
    /// the end.
    pub(crate) fn end<R>(&self, note_end: impl FnOnce() -> R) -> R {
        let (waiting, noted) = {
            let mut waiting = lock(&self.0);
            let noted = note_end();
            (waiting.take(), noted)
        };
        for (_, waker) in waiting.into_iter().flatten() {
            waker.wake();
        }
        noted
    }
}

/// The wakers of those who wait for what comes again and again, under the lock of whoever has it. What is taken out of it is to be
/// dropped after that lock: it may be the last that knows of a task.
#[derive(Default)]
pub(crate) struct Line {
    next: u64,
    waiting: Vec<(u64, Waker)>,
}

impl Line {
    /// Notes a waker under a `number`, which no other ever has, or in the place of the one that stands there already.
    #[must_use]
    pub(crate) fn note(&mut self, number: &mut Option<u64>, waker: Waker) -> Option<Waker> {
        let number = *number.get_or_insert_with(|| {
            self.next += 1;
            self.next
        });
        match self.waiting.iter_mut().find(|(other, _)| *other == number) {
            Some((_, noted)) => Some(std::mem::replace(noted, waker)),
            None => {
                self.waiting.push((number, waker));
                None
            }
        }
    }

    /// Takes out what stands under a number, if anything does.
    #[must_use]
    pub(crate) fn forget(&mut self, number: u64) -> Option<Waker> {
        let at = self.waiting.iter().position(|(other, _)| *other == number)?;
        Some(self.waiting.swap_remove(at).1)
    }

    /// Takes out all of them, to be woken.
    #[must_use]
    pub(crate) fn take(&mut self) -> Woken {
        Woken(std::mem::take(&mut self.waiting))
    }
}

/// Those whose turn has come.
pub(crate) struct Woken(Vec<(u64, Waker)>);

impl Woken {
    pub(crate) fn wake(self) {
        self.0.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

#[cfg(all(test, not(everfresh_shuttle)))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn whoever_waits_at_the_end_is_woken_once_and_nobody_after_it() {
        let (one, other) = (Arc::new(Counting::default()), Arc::new(Counting::default()));
        let (waker, others) = (Waker::from(Arc::clone(&one)), Waker::from(Arc::clone(&other)));
        let wakers = Wakers::new();
        let mut places = vec![None; 100];
        for place in &mut places {
            assert_eq!(wakers.note(place, &waker), Some(()));
        }
        assert_eq!(wakers.note(&mut places[7], &others), Some(()), "from another task now");
        assert_eq!(wakers.note(&mut places[8], &waker), Some(()), "as before");
        places[20..].iter().flatten().for_each(|&place| wakers.forget(place));
        assert_eq!(wakers.end(|| "noted"), "noted");
        assert_eq!((one.0.load(Ordering::Relaxed), other.0.load(Ordering::Relaxed)), (19, 1));
        assert_eq!(wakers.note(&mut None, &waker), None);
        wakers.forget(Place::of(3));
        wakers.end(|| ());
        assert_eq!(one.0.load(Ordering::Relaxed), 19);
        drop(waker);
        assert_eq!(Arc::strong_count(&one), 1, "no waker stays behind");
    }
}
