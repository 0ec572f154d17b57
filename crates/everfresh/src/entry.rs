//! A value with its stamps: what one slot of the store holds.

use std::mem::needs_drop;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::birth::Birth;
use crate::event::RefreshStatus;
use crate::history::{Began, Tag, short};
use crate::lifetime::{Life, Lifetime};
use crate::moment::Moment;

/// One cached value. Key and value are fixed at birth; a new value is a new entry.
///
/// It is as small as it can be: where key and value are a word each, four entries share two lines of the processor's cache and none
/// lies in both.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Entry<K, V> {
    /// When the load that made the value ended. Apart from that, where there is such: the end of freshness that is its own, and what is
    /// extra.
    birth: Birth<Extra>,
    /// The epoch in which that load began, as [`short`] has it.
    epoch: AtomicU16,
    /// By how much the jitter has shortened its life; see [`Life`].
    lot: u16,
    attempt: AtomicU32,
    pub(crate) key: K,
    pub(crate) value: V,
}

/// What only some entries have: those with traits of their own.
#[derive(Debug, Default)]
pub(crate) struct Extra {
    /// A lifetime of its own, instead of the cache's.
    pub(crate) lifetime: Option<Lifetime>,
    /// That is what was left of one whose length nobody here knows.
    pub(crate) is_rest: bool,
    /// A weight of its own, instead of the weigher's.
    pub(crate) weight: Option<u64>,
    /// Ends a value that nobody has read for so long.
    pub(crate) idle: Option<Idle>,
    pub(crate) tags: Box<[Arc<Tag>]>,
    /// Where in the history of tags the load began.
    pub(crate) tag_point: u64,
    pub(crate) token: Option<Arc<str>>,
    /// How long the load took, in nanoseconds; kept only for probabilistic early refresh.
    pub(crate) load_took: u64,
}

/// The time-to-idle bound and the last use.
#[derive(Debug)]
pub(crate) struct Idle {
    pub(crate) time_to_idle: Duration,
    pub(crate) last_used: AtomicU64,
}

impl<K, V> Entry<K, V> {
    /// Whether dropping it does anything.
    #[inline]
    pub(crate) fn needs_drop(&self) -> bool {
        needs_drop::<K>() || needs_drop::<V>() || self.has_something_apart()
    }

    /// Whether it has memory besides its own, by which it may be dropped only.
    #[inline]
    pub(crate) fn has_something_apart(&self) -> bool {
        self.birth.plainly_at().is_none()
    }

    /// One that is fresh for as long as its cache has it for this lot.
    #[inline]
    pub(crate) fn plain(key: K, value: V, loaded_at: Moment, (life, lot): (Life, u16), began: Began) -> Entry<K, V> {
        let birth = match loaded_at <= Birth::<Extra>::LATEST {
            true => Birth::plain(loaded_at),
            false => Birth::with(loaded_at, life.end(loaded_at, lot), None),
        };
        Entry { birth, epoch: AtomicU16::new(short(began.epoch)), lot, attempt: AtomicU32::new(0), key, value }
    }

    /// One that has an end of freshness of its own.
    pub(crate) fn with(
        key: K,
        value: V,
        (loaded_at, fresh_until): (Moment, Moment),
        began: Began,
        extra: Extra,
    ) -> Entry<K, V> {
        let birth = Birth::with(loaded_at, fresh_until, Some(extra));
        Entry { birth, epoch: AtomicU16::new(short(began.epoch)), lot: 0, attempt: AtomicU32::new(0), key, value }
    }

    /// When the load that made the value ended.
    #[inline]
    pub(crate) fn loaded_at(&self) -> Moment {
        self.birth.at()
    }

    #[inline]
    pub(crate) fn extra(&self) -> Option<&Extra> {
        self.birth.apart()?.more()
    }

    /// The epoch in which the load began, as [`short`] has it.
    #[inline(always)]
    pub(crate) fn epoch(&self) -> u16 {
        // Acquire: pairs with the Release in `settle`.
        self.epoch.load(Ordering::Acquire)
    }

    /// From now on it is as if the load had begun in that epoch. What befell it before is to be noted in its own time first.
    pub(crate) fn settle(&self, epoch: u16) {
        // Release: who sees this sees that time.
        self.epoch.store(epoch, Ordering::Release);
    }

    /// When the load ended, if that and the cache's lifetime is all there is to know of its end.
    #[inline(always)]
    pub(crate) fn plainly_loaded_at(&self) -> Option<Moment> {
        self.birth.plainly_at()
    }

    /// The end of freshness, in a cache with this life.
    #[inline]
    pub(crate) fn fresh_until(&self, life: Life) -> Moment {
        match self.birth.apart() {
            None => life.end(self.birth.at(), self.lot),
            Some(apart) => apart.fresh_until(),
        }
    }

    /// The same, if nothing else decides it.
    #[inline]
    pub(crate) fn plainly_fresh_until(&self, life: Life) -> Option<Moment> {
        Some(life.end(self.plainly_loaded_at()?, self.lot))
    }

    /// Makes it stale from `now` on, if it is not already. A store that has it is to be told first (`note_something_apart`).
    pub(crate) fn expire(&self, now: Moment, life: Life) {
        self.birth.apart_by(|loaded_at| life.end(loaded_at, self.lot)).end_by(now);
    }

    /// Whether an entry whose last deadline was noted as `deadline` is over at `now`, a later use considered.
    pub(crate) fn is_over(&self, deadline: Moment, now: Moment) -> bool {
        now >= deadline && self.idle_until().is_none_or(|idle_until| now >= idle_until)
    }

    /// The moment at which it has been idle for too long, if it has such a bound.
    pub(crate) fn idle_until(&self) -> Option<Moment> {
        self.extra()?.idle.as_ref().map(Idle::ends)
    }

    /// Notes a read, if the time without one is bounded.
    pub(crate) fn touch(&self, now: Moment) {
        if let Some(idle) = self.extra().and_then(|extra| extra.idle.as_ref()) {
            idle.touch(now);
        }
    }

    /// The attempt to renew it: running, failed, or none.
    pub(crate) fn attempt(&self) -> Attempt {
        Attempt::unpack(self.attempt.load(Ordering::Acquire), self.loaded_at())
    }

    /// Why nobody has to begin another attempt at this age, in nanoseconds since the load ended.
    #[inline]
    pub(crate) fn is_left_alone_at(&self, age: u64) -> Option<RefreshStatus> {
        let word = self.attempt.load(Ordering::Acquire);
        // In ages, of which no sum can overflow. Before its load, which is no age at all, it would be the longest, and nothing is said.
        let end = unfloat(word & END, PAUSE_BITS);
        let (status, end) = match word >> 31 == 1 {
            true => (RefreshStatus::AlreadyRunning, end - rounding(end)),
            false => (RefreshStatus::BackingOff, end),
        };
        (end > age).then_some(status)
    }

    /// Puts `next` in the place of `current`; `false` if another thread was first.
    pub(crate) fn change_attempt(&self, current: Attempt, next: Attempt) -> bool {
        let word = self.attempt.load(Ordering::Acquire);
        Attempt::unpack(word, self.loaded_at()) == current
            && self
                .attempt
                .compare_exchange(word, next.pack(self.loaded_at()), Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
    }

    /// Whether a running attempt may be over already, as its end is told too late: its flight knows it exactly.
    pub(crate) fn may_be_over(&self, attempt: Attempt, now: Moment) -> bool {
        let end = attempt.until.nanos().saturating_sub(self.loaded_at().nanos());
        attempt.running && attempt.until.since(now) <= Duration::from_nanos(rounding(end))
    }

    /// The end of a pause from `now` on, no later than `latest`: not so short that packing it would lose most of it.
    pub(crate) fn end_of_pause(&self, now: Moment, pause: Duration, latest: Moment) -> Moment {
        let until = now.after(pause).min(latest);
        let lost = Duration::from_nanos(until.nanos().saturating_sub(self.loaded_at().nanos()) >> (PAUSE_BITS - 1));
        if pause.is_zero() || pause >= 2 * lost { until } else { until.after(lost).min(latest) }
    }

    pub(crate) fn set_attempt(&self, next: Attempt) {
        self.attempt.store(next.pack(self.loaded_at()), Ordering::Release);
    }
}

impl Idle {
    pub(crate) fn new(time_to_idle: Duration, now: Moment) -> Idle {
        Idle { time_to_idle, last_used: AtomicU64::new(now.nanos()) }
    }

    fn touch(&self, now: Moment) {
        self.last_used.fetch_max(now.nanos(), Ordering::Relaxed);
    }

    fn ends(&self) -> Moment {
        Moment::from_nanos(self.last_used.load(Ordering::Relaxed)).after(self.time_to_idle)
    }
}

/// Where the renewal of an entry stands; lives and dies with the entry (contract M3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Attempt {
    /// One is running, until then at the latest.
    pub(crate) running: bool,
    /// How many failed in a row; 31 stands for more.
    pub(crate) failures: u32,
    /// The end of the running one, or of the pause after a failed one.
    pub(crate) until: Moment,
    /// Tells a running one from another that began at the same moment, on an entry that another has replaced meanwhile.
    number: u32,
}

impl Attempt {
    pub(crate) const MAX_FAILURES: u32 = 31;

    /// Only the lowest bits of `number` count.
    pub(crate) fn running(failures: u32, until: Moment, number: u32) -> Attempt {
        Attempt { running: true, failures, until, number: number & NUMBER }
    }

    /// None at all, if `failures` is zero; `until` is no later than the load of the entry then.
    pub(crate) fn failed(failures: u32, until: Moment) -> Attempt {
        Attempt { running: false, failures: failures.min(Attempt::MAX_FAILURES), until, number: 0 }
    }

    /// One word: 1 bit running, 5 bits failures, and `until` as an age of the entry in a floating-point form of 26 bits. That of a
    /// pause is exact to two millionths of that age, and rounded down, for it must not outlast its bound. That of a running attempt
    /// is rounded up by a thirty-thousandth at most, or 31 nanoseconds: its number stands in the lowest four bits, so
    /// that whoever reads the age need not ask whose it is.
    fn pack(self, loaded_at: Moment) -> u32 {
        let age = self.until.nanos().saturating_sub(loaded_at.nanos());
        let end = match self.running {
            true => {
                let rounded = age.div_ceil(1 << NUMBER_BITS).min(LONGEST_RUNNING);
                float(rounded, RUNNING_BITS, true) << NUMBER_BITS | self.number
            }
            false => float(age, PAUSE_BITS, false),
        };
        u32::from(self.running) << 31 | self.failures.min(Attempt::MAX_FAILURES) << 26 | end
    }

    fn unpack(word: u32, loaded_at: Moment) -> Attempt {
        let (running, end) = (word >> 31 == 1, word & END);
        Attempt {
            running,
            failures: word >> 26 & Attempt::MAX_FAILURES,
            until: Moment::from_nanos(loaded_at.nanos().saturating_add(unfloat(end, PAUSE_BITS))),
            number: if running { end & NUMBER } else { 0 },
        }
    }
}

const END: u32 = (1 << 26) - 1;
const NUMBER_BITS: u32 = 4;
const NUMBER: u32 = (1 << NUMBER_BITS) - 1;
/// Bits of the mantissas; six more are the exponent's.
const PAUSE_BITS: u32 = 20;
const RUNNING_BITS: u32 = PAUSE_BITS - NUMBER_BITS;
/// In units of `1 << NUMBER_BITS` nanoseconds: the largest that is told without an overflow.
const LONGEST_RUNNING: u64 = ((1 << RUNNING_BITS) - 1) << (64 - RUNNING_BITS - NUMBER_BITS);

/// By how much at most an end of a running attempt is told too late, but for some nanoseconds.
#[inline]
fn rounding(end: u64) -> u64 {
    end >> (RUNNING_BITS - 1)
}

/// `mantissa << exponent`, with so many bits and six. The largest there is stands for all above, too.
fn float(number: u64, bits: u32, round_up: bool) -> u32 {
    let exponent = (64 - number.leading_zeros()).saturating_sub(bits);
    let mantissa = number >> exponent;
    let lost = number & ((1 << exponent) - 1) != 0;
    let packed = exponent << bits | mantissa as u32;
    // One more in the mantissa's last place carries over into the exponent as it should: 2^20 · 2^e is 2^19 · 2^(e+1), and
    // reads as such only when the mantissa is put back by half.
    match (lost && round_up, mantissa + 1 == 1 << bits) {
        (false, _) => packed,
        (true, false) => packed + 1,
        (true, true) if exponent == 64 - bits => packed,
        (true, true) => (exponent + 1) << bits | 1 << (bits - 1),
    }
}

#[inline]
fn unfloat(packed: u32, bits: u32) -> u64 {
    let mantissa = u64::from(packed & ((1 << bits) - 1));
    mantissa << (packed >> bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_takes_two_words_more_than_its_key_and_its_value() {
        assert_eq!(size_of::<Entry<u64, u64>>(), 32);
    }

    #[test]
    fn an_attempt_survives_its_packing_nearly() {
        let loaded_at = Moment::from_nanos(123_456_789);
        for shift in 0..64 {
            for number in [1_u64 << shift, (1 << shift) | 1, u64::MAX >> shift, u64::MAX >> shift & !15] {
                let until = Moment::from_nanos(loaded_at.nanos().saturating_add(number));
                let age = until.nanos() - loaded_at.nanos();
                let paused = Attempt::unpack(Attempt::failed(3, until).pack(loaded_at), loaded_at);
                assert!(!paused.running && paused.failures == 3);
                assert!(paused.until <= until && until.nanos() - paused.until.nanos() <= age >> 19, "{number}");
                let running = Attempt::unpack(Attempt::running(31, until, 21).pack(loaded_at), loaded_at);
                assert!(running.running && running.failures == 31 && running.number == 5);
                assert!(running.until.nanos().saturating_sub(until.nanos()) <= (age >> 13).max(31), "{number}");
                // What is later than all that can be told is told as the latest.
                assert!(running.until >= until.min(Moment::from_nanos(u64::MAX << (64 - RUNNING_BITS))), "{number}");
            }
        }
    }

    #[test]
    fn no_attempt_is_the_zero_word() {
        let none = Attempt::unpack(0, Moment::from_nanos(9));
        assert_eq!(none, Attempt { running: false, failures: 0, until: Moment::from_nanos(9), number: 0 });
    }
}
