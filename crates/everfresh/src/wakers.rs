//! Who waits for something that ends once, and is woken then.

use std::task::Waker;

use slab::Slab;

use crate::sync::raced::{Mutex, lock};

/// Room for so many is made when the first one comes, and so many times as much when that is full: whoever comes to a stampede is
/// seldom the last.
const FIRST: usize = 64;
const GROWTH: usize = 4;

/// The wakers of those who wait, until the end.
pub(crate) struct Wakers(Mutex<Option<Slab<Waker>>>);

impl Wakers {
    pub(crate) fn new() -> Wakers {
        Wakers(Mutex::new(Some(Slab::new())))
    }

    /// Notes a waker, or another one at the `place` where it has one already. `None` if the end has come meanwhile.
    pub(crate) fn note(&self, place: &mut Option<usize>, waker: &Waker) -> Option<()> {
        let mut waiting = lock(&self.0);
        let now = waiting.as_mut()?;
        let replaced = match place.map(|place| &mut now[place]) {
            Some(noted) if noted.will_wake(waker) => None,
            Some(noted) => Some(std::mem::replace(noted, waker.clone())),
            None => {
                if now.len() == now.capacity() {
                    now.reserve_exact((now.len() * (GROWTH - 1)).max(FIRST));
                }
                *place = Some(now.insert(waker.clone()));
                None
            }
        };
        // Not under the lock: it may be the last that knows of a task.
        drop(waiting);
        drop(replaced);
        Some(())
    }

    /// Forgets the waker at a place, if the end has not come.
    pub(crate) fn forget(&self, place: usize) {
        let forgotten = lock(&self.0).as_mut().and_then(|waiting| waiting.try_remove(place));
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
        wakers.forget(3);
        wakers.end(|| ());
        assert_eq!(one.0.load(Ordering::Relaxed), 19);
        drop(waker);
        assert_eq!(Arc::strong_count(&one), 1, "no waker stays behind");
    }
}
