//! When an entry was loaded, and what only some entries have, in one word.
#![allow(unsafe_code, reason = "one word is a moment or a pointer, which halves what most entries need for both")]

use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::moment::Moment;

/// Of a word that is a pointer; an address has no such bit.
const APART: u64 = 1;

/// The moment of a load. Where there is more to know than that, all of it lies apart, from the beginning or from some time on;
/// what lies apart stays there.
pub(crate) struct Birth<T> {
    /// Twice the moment, or the address of what lies apart and [`APART`].
    word: AtomicU64,
    _owned: PhantomData<Box<Apart<T>>>,
}

/// What lies apart.
pub(crate) struct Apart<T> {
    at: Moment,
    /// The end of freshness, which may come nearer.
    fresh_until: AtomicU64,
    more: Option<T>,
}

impl<T> Apart<T> {
    #[inline]
    pub(crate) fn fresh_until(&self) -> Moment {
        Moment::from_nanos(self.fresh_until.load(Ordering::Relaxed))
    }

    /// Ends freshness at that moment, if it does not end before.
    pub(crate) fn end_by(&self, moment: Moment) {
        self.fresh_until.fetch_min(moment.nanos(), Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn more(&self) -> Option<&T> {
        self.more.as_ref()
    }
}

impl<T> Birth<T> {
    /// The last moment that a plain one can tell.
    pub(crate) const LATEST: Moment = Moment::from_nanos(u64::MAX >> 1);

    /// One of which nothing is known but the moment; it is not after [`LATEST`](Birth::LATEST).
    #[inline]
    pub(crate) fn plain(at: Moment) -> Birth<T> {
        debug_assert!(at <= Birth::<T>::LATEST);
        Birth { word: AtomicU64::new(at.nanos() << 1), _owned: PhantomData }
    }

    pub(crate) fn with(at: Moment, fresh_until: Moment, more: Option<T>) -> Birth<T> {
        let apart = Apart { at, fresh_until: AtomicU64::new(fresh_until.nanos()), more };
        Birth { word: AtomicU64::new(word_of(Box::into_raw(Box::new(apart)))), _owned: PhantomData }
    }

    /// The moment, if there is no more to know.
    #[inline(always)]
    pub(crate) fn plainly_at(&self) -> Option<Moment> {
        let word = self.word.load(Ordering::Relaxed);
        if word & APART == 0 { Some(Moment::from_nanos(word >> 1)) } else { None }
    }

    /// The moment, or what lies apart.
    #[inline]
    fn look(&self) -> Result<Moment, &Apart<T>> {
        // Acquire: pairs with the Release in `apart_by`.
        let word = self.word.load(Ordering::Acquire);
        if word & APART == 0 {
            return Ok(Moment::from_nanos(word >> 1));
        }
        // SAFETY: the word is the pointer, to what lives as long as `self`, and gives out shared references only.
        Err(unsafe { &*pointer_of(word) })
    }

    #[inline]
    pub(crate) fn at(&self) -> Moment {
        self.look().unwrap_or_else(|apart| apart.at)
    }

    #[inline]
    pub(crate) fn apart(&self) -> Option<&Apart<T>> {
        self.look().err()
    }

    /// What lies apart; where nothing does, from now on the end of freshness, which is then so much as `fresh_until` tells of the moment.
    pub(crate) fn apart_by(&self, fresh_until: impl FnOnce(Moment) -> Moment) -> &Apart<T> {
        let at = match self.look() {
            Ok(at) => at,
            Err(apart) => return apart,
        };
        let apart = Apart { at, fresh_until: AtomicU64::new(fresh_until(at).nanos()), more: None };
        let made = Box::into_raw(Box::new(apart));
        // Release: who follows the pointer sees what it names. Acquire: so does who comes second.
        let before = self.word.compare_exchange(at.nanos() << 1, word_of(made), Ordering::Release, Ordering::Acquire);
        let made = match before {
            Ok(_) => made,
            Err(other) => {
                // SAFETY: made above, and nobody else has it.
                drop(unsafe { Box::from_raw(made) });
                pointer_of(other)
            }
        };
        // SAFETY: what the word names now, as in `look`.
        unsafe { &*made }
    }
}

fn word_of<T>(apart: *mut Apart<T>) -> u64 {
    apart.expose_provenance() as u64 | APART
}

fn pointer_of<T>(word: u64) -> *mut Apart<T> {
    std::ptr::with_exposed_provenance_mut((word & !APART) as usize)
}

impl<T> Drop for Birth<T> {
    #[inline]
    fn drop(&mut self) {
        let word = *self.word.get_mut();
        if word & APART != 0 {
            // SAFETY: the word is the pointer; it came from a `Box`, and is not used again.
            drop(unsafe { Box::from_raw(pointer_of::<T>(word)) });
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Birth<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let apart = self.apart();
        f.debug_struct("Birth")
            .field("at", &self.at())
            .field("fresh_until", &apart.map(Apart::fresh_until))
            .field("more", &apart.and_then(Apart::more))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Barrier};
    use std::thread;

    use super::*;

    fn at(nanos: u64) -> Moment {
        Moment::from_nanos(nanos)
    }

    #[test]
    fn it_takes_eight_bytes_whatever_there_may_be_more() {
        assert_eq!((size_of::<Birth<[u64; 9]>>(), align_of::<Birth<[u64; 9]>>()), (8, 8));
    }

    #[test]
    fn what_is_put_in_comes_out_and_is_dropped_once() {
        for moment in [at(0), at(1), Birth::<Arc<str>>::LATEST] {
            let plain = Birth::<Arc<str>>::plain(moment);
            assert_eq!((plain.at(), plain.plainly_at()), (moment, Some(moment)));
            assert!(plain.apart().is_none());
        }

        let more: Arc<str> = "more".into();
        let rich = Birth::with(Moment::NEVER, at(7), Some(Arc::clone(&more)));
        assert_eq!((rich.at(), rich.plainly_at()), (Moment::NEVER, None));
        let apart = rich.apart().unwrap();
        assert_eq!((apart.fresh_until(), apart.more()), (at(7), Some(&more)));
        assert_eq!(Arc::strong_count(&more), 2);
        drop(rich);
        assert_eq!(Arc::strong_count(&more), 1);
    }

    #[test]
    fn the_end_of_freshness_comes_nearer_and_never_goes_away_again() {
        let birth = Birth::<()>::plain(at(3));
        assert_eq!(birth.apart_by(|moment| moment.after_nanos(10)).fresh_until(), at(13));
        assert_eq!((birth.at(), birth.plainly_at()), (at(3), None));
        birth.apart_by(|_| panic!("that is known already")).end_by(at(5));
        birth.apart_by(|_| panic!("that is known already")).end_by(at(9));
        assert_eq!(birth.apart().map(Apart::fresh_until), Some(at(5)));
    }

    #[test]
    fn of_two_who_part_it_at_once_both_have_their_say() {
        for round in 0..if cfg!(miri) { 10 } else { 500 } {
            let (birth, start) = (Birth::<()>::plain(at(round)), Barrier::new(3));
            thread::scope(|scope| {
                let both = [20, 10].map(|end| {
                    let (birth, start) = (&birth, &start);
                    scope.spawn(move || {
                        start.wait();
                        birth.apart_by(|moment| moment.after_nanos(1_000)).end_by(at(round + end));
                    })
                });
                start.wait();
                let seen = birth.apart().map_or(at(round + 1_000), Apart::fresh_until);
                assert!([10, 20, 1_000].map(|end| at(round + end)).contains(&seen));
                assert_eq!(birth.at(), at(round));
                both.into_iter().for_each(|thread| thread.join().unwrap());
            });
            assert_eq!(birth.apart().map(Apart::fresh_until), Some(at(round + 10)));
        }
    }
}
