//! What was invalidated when: makes clearing all, or a tag, one step at the call and exact at the read (contract I3).
//!
//! Every load notes at which point of the history it began. An entry is judged, when it is read, by what came after.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::moment::Moment;
use crate::sync::lock_plainly as lock;

/// Where in the history a load began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Began {
    /// Counts what befell all entries at once.
    pub(crate) epoch: u64,
    /// Counts what befell tags.
    pub(crate) tag_point: u64,
}

/// What the history says of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    Good,
    /// Declared stale at that moment.
    StaleSince(Moment),
    /// Invalidated: never served again.
    Gone,
}

impl Standing {
    /// The worse of two.
    pub(crate) fn and(self, other: Standing) -> Standing {
        match (self, other) {
            (Standing::Gone, _) | (_, Standing::Gone) => Standing::Gone,
            (Standing::StaleSince(one), Standing::StaleSince(two)) => Standing::StaleSince(one.min(two)),
            (Standing::StaleSince(since), Standing::Good) | (Standing::Good, Standing::StaleSince(since)) => {
                Standing::StaleSince(since)
            }
            (Standing::Good, Standing::Good) => Standing::Good,
        }
    }
}

/// How much of an epoch entries note.
pub(crate) const EPOCH_BITS: u32 = u16::BITS;

/// What began so many epochs ago is told to be old.
const OLD: u64 = 1 << (EPOCH_BITS - 3);

/// After so many epochs all that is old has to be settled: so what is not has half of all that can be told to spare, for strikes that
/// come in the meantime.
const SETTLE_EVERY: u64 = 1 << (EPOCH_BITS - 2);

/// In the word of the current epoch: no entry notes that.
const CLOSER: u64 = 1 << EPOCH_BITS;

/// An epoch as entries note it.
#[inline(always)]
pub(crate) fn short(epoch: u64) -> u16 {
    epoch as u16
}

/// The word of an epoch, and the epoch of a word.
fn word_of(epoch: u64) -> u64 {
    epoch >> EPOCH_BITS << 32 | epoch & (CLOSER - 1)
}

fn whole(word: u64) -> u64 {
    word >> 32 << EPOCH_BITS | word & (CLOSER - 1)
}

/// More calls of `expire` than this are remembered as one, from the earlier moment on.
const REMEMBERED: usize = 64;

/// Tags that no entry has are forgotten when there are this many of them and as many as there are in use.
const IDLE_TAGS: usize = 256;

/// The invalidations of one scope: of everything, or of one tag.
#[derive(Debug, Default)]
struct Marks {
    /// What began before this point is gone.
    gone_before: AtomicU64,
    any_expired: AtomicBool,
    /// Points at which all was declared stale, and when; ascending.
    expired: Mutex<Vec<(u64, Moment)>>,
}

impl Marks {
    fn standing(&self, began: u64) -> Standing {
        // Acquire: pairs with the Release in `invalidate`; whoever learnt of the invalidation sees it.
        if began < self.gone_before.load(Ordering::Acquire) {
            return Standing::Gone;
        }
        if !self.any_expired.load(Ordering::Acquire) {
            return Standing::Good;
        }
        let expired = lock(&self.expired);
        match expired.iter().find(|&&(point, _)| began < point) {
            Some(&(_, at)) => Standing::StaleSince(at),
            None => Standing::Good,
        }
    }

    /// Whether anything was ever invalidated or declared stale here.
    fn is_struck(&self) -> bool {
        self.gone_before.load(Ordering::Acquire) > 0 || self.any_expired.load(Ordering::Acquire)
    }

    fn invalidate(&self, point: u64) {
        self.gone_before.fetch_max(point, Ordering::Release);
        let mut expired = lock(&self.expired);
        // What was declared stale before is gone now; these marks speak of nobody any more.
        expired.retain(|&(earlier, _)| earlier > point);
        self.any_expired.store(!expired.is_empty(), Ordering::Release);
    }

    fn expire(&self, point: u64, at: Moment) {
        let mut expired = lock(&self.expired);
        if expired.len() >= REMEMBERED {
            // Whoever began between the two is then stale from the earlier moment: never served longer than it may be.
            expired[1].1 = expired[0].1;
            expired.remove(0);
        }
        let place = expired.partition_point(|&(earlier, _)| earlier < point);
        expired.insert(place, (point, at));
        self.any_expired.store(true, Ordering::Release);
    }
}

/// A tag that is in use; entries hold it, so that reading them needs no look-up of the name.
#[derive(Debug)]
pub(crate) struct Tag {
    pub(crate) name: Arc<str>,
    marks: Marks,
}

/// The history of one cache.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// The current epoch: its lowest [`EPOCH_BITS`], perhaps [`CLOSER`], and the rest in the upper half.
    epoch: AtomicU64,
    /// In this epoch all entries were last looked at: what was old then has been given a younger stamp since, or is gone.
    settled: AtomicU64,
    all: Marks,
    tag_point: AtomicU64,
    tags: Mutex<Tags>,
}

#[derive(Debug, Default)]
struct Tags {
    named: HashMap<Arc<str>, Arc<Tag>>,
    /// What began before this point and brings a tag that is not in `named` counts as gone: the tag may be a forgotten one.
    forgotten: u64,
    sweep_at: usize,
}

impl History {
    /// Where a load that begins now stands.
    pub(crate) fn now(&self) -> Began {
        Began { epoch: self.whole_epoch(), tag_point: self.tag_point.load(Ordering::Acquire) }
    }

    /// The current epoch as entries note it.
    #[inline(always)]
    pub(crate) fn epoch(&self) -> u16 {
        short(self.epoch.load(Ordering::Acquire))
    }

    /// The same, unless hits are to be [looked at more closely](History::look_closer): then what no entry notes.
    #[inline(always)]
    pub(crate) fn epoch_of_plain_hits(&self) -> u32 {
        self.epoch.load(Ordering::Acquire) as u32
    }

    /// From now on no hit is a plain one.
    pub(crate) fn look_closer(&self) {
        self.epoch.fetch_or(CLOSER, Ordering::AcqRel);
    }

    pub(crate) fn looks_closer(&self) -> bool {
        self.epoch.load(Ordering::Acquire) & CLOSER != 0
    }

    /// Takes [`look_closer`](History::look_closer) back.
    pub(crate) fn look_plainly(&self) {
        self.epoch.fetch_and(!CLOSER, Ordering::AcqRel);
    }

    pub(crate) fn whole_epoch(&self) -> u64 {
        whole(self.epoch.load(Ordering::Acquire))
    }

    /// Begins the next epoch, and returns it.
    fn advance(&self) -> u64 {
        let next = |word| Some(word_of(whole(word) + 1) | word & CLOSER);
        let before = self.epoch.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        whole(before.unwrap_or_else(|unchanged| unchanged)) + 1
    }

    /// Makes everything unservable whose load began before. Returns whether so many epochs have passed that all entries must
    /// be [settled](History::note_settled) before short stamps become ambiguous.
    pub(crate) fn invalidate_all(&self) -> bool {
        let point = self.advance();
        self.all.invalidate(point);
        self.wants_settling(point)
    }

    /// Makes everything stale whose load began before; as [`invalidate_all`](History::invalidate_all) otherwise.
    pub(crate) fn expire_all(&self, now: Moment) -> bool {
        let point = self.advance();
        self.all.expire(point, now);
        self.wants_settling(point)
    }

    fn wants_settling(&self, point: u64) -> bool {
        point.saturating_sub(self.settled.load(Ordering::Acquire)) >= SETTLE_EVERY
    }

    /// Notes that since `epoch` all entries were looked at which had been there, and what was [old](History::is_old) of them has gone, or
    /// has a younger stamp.
    pub(crate) fn note_settled(&self, epoch: u64) {
        self.settled.fetch_max(epoch, Ordering::AcqRel);
    }

    /// Whether what began in `epoch`, a short stamp, would be taken for something younger one day, if it kept that.
    pub(crate) fn is_old(&self, epoch: u16) -> bool {
        u64::from(self.epoch().wrapping_sub(epoch)) >= OLD
    }

    /// The stamp for what is old, once it ends by its own time: so young that it is not taken for something younger before it is old
    /// again, and so old that whatever befell all by then has been noted.
    pub(crate) fn settled_stamp(&self) -> u16 {
        self.epoch().wrapping_sub((OLD / 2) as u16)
    }

    /// Whether what began there is [old](History::is_old), or older than a short stamp can tell.
    pub(crate) fn is_long_ago(&self, began: Began) -> bool {
        self.whole_epoch().saturating_sub(began.epoch) >= OLD
    }

    /// The standing of what began in `epoch`, a short stamp.
    #[cold]
    pub(crate) fn standing_of_epoch(&self, epoch: u16) -> Standing {
        let current = self.whole_epoch();
        let behind = short(current).wrapping_sub(epoch);
        self.all.standing(current.saturating_sub(u64::from(behind)))
    }

    /// The standing of what began there and has no tags.
    pub(crate) fn standing(&self, began: Began) -> Standing {
        self.all.standing(began.epoch)
    }

    pub(crate) fn standing_of_tags(tags: &[Arc<Tag>], began: u64) -> Standing {
        tags.iter().fold(Standing::Good, |standing, tag| standing.and(tag.marks.standing(began)))
    }

    /// Whether one of these tags was invalidated after what began at that point of their history.
    pub(crate) fn is_struck_since(tags: &[Arc<Tag>], began: u64) -> bool {
        tags.iter().any(|tag| began < tag.marks.gone_before.load(Ordering::Acquire))
    }

    /// Whether what began there has been invalidated with everything else since.
    pub(crate) fn is_cleared(&self, began: Began) -> bool {
        began.epoch < self.all.gone_before.load(Ordering::Acquire)
    }

    /// As if so much had befallen all entries as makes this the current epoch.
    #[cfg(test)]
    pub(crate) fn skip_to(&self, epoch: u64) {
        self.epoch.store(word_of(epoch) | self.epoch.load(Ordering::Acquire) & CLOSER, Ordering::Release);
    }

    /// The tags by name, for what began at `began`; `None` if one of them may have been invalidated since and forgotten.
    pub(crate) fn tags(&self, names: &[Arc<str>], began: Began) -> Option<Box<[Arc<Tag>]>> {
        if names.is_empty() {
            return Some(Box::default());
        }
        let mut tags = lock(&self.tags);
        let found = names.iter().map(|name| tags.of(name, Some(began.tag_point))).collect();
        if tags.is_crowded() {
            // Tags that were never struck leave no trace behind; the others do, so they stay while they are few.
            tags.named.retain(|_, tag| Arc::strong_count(tag) > 1 || tag.marks.is_struck());
            if 2 * tags.named.len() > tags.limit() {
                tags.forget_all_idle(self.tag_point.fetch_add(1, Ordering::AcqRel) + 1);
            }
            tags.shrink();
        }
        found
    }

    /// Makes unservable whatever has the tag and began before.
    pub(crate) fn invalidate_tag(&self, name: &str) {
        let mut tags = lock(&self.tags);
        let point = self.tag_point.fetch_add(1, Ordering::AcqRel) + 1;
        if let Some(tag) = tags.of(&Arc::from(name), None) {
            tag.marks.invalidate(point);
        }
        tags.forget_idle(point);
    }

    /// Makes stale whatever has the tag and began before.
    pub(crate) fn expire_tag(&self, name: &str, now: Moment) {
        let mut tags = lock(&self.tags);
        let point = self.tag_point.fetch_add(1, Ordering::AcqRel) + 1;
        if let Some(tag) = tags.of(&Arc::from(name), None) {
            tag.marks.expire(point, now);
        }
        tags.forget_idle(point);
    }
}

impl Tags {
    fn of(&mut self, name: &Arc<str>, began: Option<u64>) -> Option<Arc<Tag>> {
        if let Some(tag) = self.named.get(name) {
            return Some(Arc::clone(tag));
        }
        if began.is_some_and(|began| began < self.forgotten) {
            return None;
        }
        let tag = Arc::new(Tag { name: Arc::clone(name), marks: Marks::default() });
        self.named.insert(Arc::clone(name), Arc::clone(&tag));
        Some(tag)
    }

    /// Keeps the number of names in proportion to the tags that entries have (contract M3).
    fn forget_idle(&mut self, point: u64) {
        if self.is_crowded() {
            self.forget_all_idle(point);
            self.shrink();
        }
    }

    fn forget_all_idle(&mut self, point: u64) {
        self.named.retain(|_, tag| Arc::strong_count(tag) > 1);
        self.forgotten = point;
    }

    fn limit(&self) -> usize {
        self.sweep_at.max(IDLE_TAGS)
    }

    fn is_crowded(&self) -> bool {
        self.named.len() >= self.limit()
    }

    fn shrink(&mut self) {
        self.named.shrink_to(2 * IDLE_TAGS.max(self.named.len()));
        self.sweep_at = 2 * self.named.len() + IDLE_TAGS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Moment {
        Moment::from_nanos(nanos)
    }

    fn standing(history: &History, began: Began, tags: &[Arc<Tag>]) -> Standing {
        history.standing(began).and(History::standing_of_tags(tags, began.tag_point))
    }

    #[test]
    fn what_began_before_an_invalidation_is_gone_and_what_began_after_is_good() {
        let history = History::default();
        let before = history.now();
        history.invalidate_all();
        assert_eq!(standing(&history, before, &[]), Standing::Gone);
        assert_eq!(standing(&history, history.now(), &[]), Standing::Good);
    }

    #[test]
    fn a_second_expiry_does_not_move_the_first() {
        let history = History::default();
        let first = history.now();
        history.expire_all(at(10));
        let second = history.now();
        history.expire_all(at(20));
        assert_eq!(standing(&history, first, &[]), Standing::StaleSince(at(10)));
        assert_eq!(standing(&history, second, &[]), Standing::StaleSince(at(20)));
        assert_eq!(standing(&history, history.now(), &[]), Standing::Good);
        history.invalidate_all();
        assert_eq!(standing(&history, second, &[]), Standing::Gone);
    }

    #[test]
    fn more_expiries_than_are_remembered_never_lengthen_a_life() {
        let history = History::default();
        let mut begun = Vec::new();
        for step in 0..200 {
            begun.push(history.now());
            history.expire_all(at(step));
        }
        for (step, began) in begun.into_iter().enumerate() {
            let Standing::StaleSince(since) = standing(&history, began, &[]) else {
                panic!("step {step} is not stale")
            };
            assert!(since <= at(step as u64));
        }
    }

    #[test]
    fn a_short_stamp_is_told_from_its_epoch() {
        let history = History::default();
        let old = history.epoch();
        history.expire_all(at(1));
        assert_eq!(history.standing_of_epoch(old), Standing::StaleSince(at(1)));
        assert_eq!(history.standing_of_epoch(history.epoch()), Standing::Good);
    }

    #[test]
    fn an_epoch_stands_in_its_word_whether_hits_are_looked_at_closely_or_not() {
        let history = History::default();
        for epoch in [0, 5, (1 << EPOCH_BITS) - 1, 1 << EPOCH_BITS, (1 << 40) - 1] {
            history.skip_to(epoch);
            assert_eq!((history.now().epoch, history.epoch()), (epoch, short(epoch)));
            assert_eq!(history.epoch_of_plain_hits(), u32::from(short(epoch)));
            history.look_closer();
            assert_eq!((history.now().epoch, history.epoch()), (epoch, short(epoch)));
            assert!(history.epoch_of_plain_hits() > u32::from(u16::MAX), "what no entry has noted");
            history.expire_all(at(1));
            assert!(history.looks_closer());
            history.look_plainly();
            assert_eq!(history.now().epoch, epoch + 1);
            assert_eq!(history.epoch_of_plain_hits(), u32::from(short(epoch + 1)));
        }
    }

    #[test]
    fn i3_a_tag_strikes_only_what_has_it_and_began_before() {
        let history = History::default();
        let began = history.now();
        let names = [Arc::from("a"), Arc::from("b")];
        let tags = history.tags(&names, began).unwrap();
        assert_eq!(standing(&history, began, &tags), Standing::Good);
        history.expire_tag("b", at(5));
        assert_eq!(standing(&history, began, &tags), Standing::StaleSince(at(5)));
        assert_eq!(standing(&history, began, &tags[..1]), Standing::Good);
        history.invalidate_tag("a");
        assert_eq!(standing(&history, began, &tags), Standing::Gone);
        assert_eq!(standing(&history, history.now(), &tags), Standing::Good);
    }

    #[test]
    fn m3_tags_that_nobody_has_are_forgotten_and_what_they_struck_stays_struck() {
        let history = History::default();
        let began = history.now();
        let kept = history.tags(&[Arc::from("kept")], began).unwrap();
        for number in 0..100_000 {
            history.invalidate_tag(&format!("tag {number}"));
        }
        assert!(history.tags.lock().unwrap().named.len() <= 3 * IDLE_TAGS);
        assert!(history.tags(&[Arc::from("tag 7")], began).is_none(), "its invalidation was forgotten, not undone");
        assert!(history.tags(&[Arc::from("tag 7")], history.now()).is_some());
        assert_eq!(standing(&history, began, &kept), Standing::Good);
    }

    #[test]
    fn i3_a_strike_is_not_forgotten_for_the_sake_of_tags_that_were_never_struck() {
        let history = History::default();
        let began = history.now();
        history.invalidate_tag("struck");
        for number in 0..10 * IDLE_TAGS {
            drop(history.tags(&[Arc::from(format!("tag {number}"))], history.now()));
        }
        assert!(history.tags.lock().unwrap().named.len() <= 3 * IDLE_TAGS);
        let stands = history.tags(&[Arc::from("struck")], began).map(|tags| standing(&history, began, &tags));
        assert!(stands.is_none_or(|stands| stands == Standing::Gone), "{stands:?}");
    }

    #[test]
    fn i3_an_invalidation_ends_the_marks_of_what_it_struck_and_of_nothing_else() {
        let marks = Marks::default();
        marks.expire(1, at(10));
        marks.expire(2, at(20));
        // Whoever came to the third point first may be the last to note it.
        marks.expire(4, at(40));
        marks.invalidate(3);
        assert_eq!(*marks.expired.lock().unwrap(), [(4, at(40))], "the others speak of what is gone");
        assert_eq!(marks.standing(2), Standing::Gone);
        assert_eq!(marks.standing(3), Standing::StaleSince(at(40)));
        assert_eq!(marks.standing(4), Standing::Good);
        marks.invalidate(5);
        assert!(!marks.any_expired.load(Ordering::Relaxed), "readers need not look for marks where there are none");
        assert!(marks.is_struck());
        marks.invalidate(1);
        assert_eq!(marks.standing(4), Standing::Gone, "an earlier point that is noted late gives nothing back");
    }

    #[test]
    fn i2_expiries_that_are_noted_out_of_their_order_strike_as_if_they_were_not() {
        let marks = Marks::default();
        assert!(!marks.is_struck());
        marks.expire(2, at(20));
        assert!(marks.is_struck());
        marks.expire(1, at(10));
        assert_eq!(marks.standing(0), Standing::StaleSince(at(10)));
        assert_eq!(marks.standing(1), Standing::StaleSince(at(20)));
        assert_eq!(marks.standing(2), Standing::Good);
    }
}
