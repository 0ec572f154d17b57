//! What an entry knows of its beginning, and what only some entries have, in twelve bytes.
#![allow(unsafe_code, reason = "one word is a moment or a pointer, which halves what most entries need for both")]

use std::fmt;

use crate::moment::Moment;

/// The bits of a [`Birth`]'s number.
pub(crate) const NUMBER_BITS: u32 = 31;

const APART: u32 = 1 << NUMBER_BITS;

/// A moment and a number; where there is more to know, that and the moment lie apart. Fixed once it is made.
#[repr(C, packed(4))]
pub(crate) struct Birth<T> {
    word: Word<T>,
    /// The number, and above it [`APART`] if the word is a pointer.
    stamp: u32,
}

#[derive(Clone, Copy)]
union Word<T> {
    at: Moment,
    /// From a `Box` that nobody else has.
    apart: *const (Moment, T),
}

// SAFETY: it owns a `T`, and gives out shared references to it and nothing else.
unsafe impl<T: Send> Send for Birth<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Birth<T> {}

impl<T> Birth<T> {
    /// Of `number` only [`NUMBER_BITS`] are kept.
    #[inline]
    pub(crate) fn new(number: u32, at: Moment, more: Option<T>) -> Birth<T> {
        let number = number & !APART;
        match more {
            None => Birth { word: Word { at }, stamp: number },
            Some(more) => Birth { word: Word { apart: Box::into_raw(Box::new((at, more))) }, stamp: number | APART },
        }
    }

    #[inline]
    pub(crate) fn number(&self) -> u32 {
        self.stamp & !APART
    }

    /// Whether it has this number, of [`NUMBER_BITS`], and nothing more.
    #[inline(always)]
    pub(crate) fn is_plain_of(&self, number: u32) -> bool {
        self.stamp == number
    }

    #[inline]
    pub(crate) fn at(&self) -> Moment {
        match self.apart() {
            Some((at, _)) => *at,
            // SAFETY: not apart, so the word is the moment.
            None => unsafe { self.word.at },
        }
    }

    /// As [`at`](Birth::at), of one of which is known that it has nothing more; of another some number.
    #[inline]
    pub(crate) fn at_of_plain(&self) -> Moment {
        debug_assert!(self.stamp & APART == 0, "it has more");
        // SAFETY: whichever of the two the word is, its bits are a number.
        unsafe { self.word.at }
    }

    #[inline]
    pub(crate) fn more(&self) -> Option<&T> {
        self.apart().map(|(_, more)| more)
    }

    #[inline]
    fn apart(&self) -> Option<&(Moment, T)> {
        if self.stamp & APART == 0 {
            return None;
        }
        // SAFETY: the word is the pointer, to what lives for as long as `self`, and is not changed.
        Some(unsafe { &*self.word.apart })
    }
}

impl<T> Drop for Birth<T> {
    #[inline]
    fn drop(&mut self) {
        if self.stamp & APART != 0 {
            // SAFETY: the word is the pointer; it came from a `Box`, and is not used again.
            drop(unsafe { Box::from_raw(self.word.apart.cast_mut()) });
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Birth<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Birth")
            .field("number", &self.number())
            .field("at", &self.at())
            .field("more", &self.more())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn it_takes_twelve_bytes_whatever_there_may_be_more() {
        assert_eq!((size_of::<Birth<[u64; 9]>>(), align_of::<Birth<[u64; 9]>>()), (12, 4));
    }

    #[test]
    fn what_is_put_in_comes_out_and_is_dropped_once() {
        let (number, at) = (u32::MAX >> 1, Moment::NEVER);
        let plain = Birth::<Arc<str>>::new(number, at, None);
        assert!(plain.is_plain_of(number) && !plain.is_plain_of(1));
        assert_eq!((plain.number(), plain.at(), plain.at_of_plain(), plain.more()), (number, at, at, None));

        let more: Arc<str> = "more".into();
        let rich = Birth::new(u32::MAX, at, Some(Arc::clone(&more)));
        assert!(!rich.is_plain_of(number));
        assert_eq!((rich.number(), rich.at(), rich.more()), (number, at, Some(&more)));
        assert_eq!(Arc::strong_count(&more), 2);
        drop(rich);
        assert_eq!(Arc::strong_count(&more), 1);
    }
}
