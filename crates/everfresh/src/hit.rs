//! The read path of a value that is there: found, judged, cloned, counted; no load, and no start of a refresh.

use crate::clock::Glimpse;
use crate::engine::{Doubt, Engine, Hasher, Key, Value};
use crate::entry::Entry;
use crate::event::{Event, Outcome, RefreshStatus};
use crate::key::AsKey;
use crate::store::{Glance, Glanced};

/// What the first look at a key brings.
pub(crate) enum Plainly<'c, K, V> {
    Value(V),
    /// There is an entry, which wants a closer look, and why.
    Found(Glance<'c, K, V>, Doubt),
    /// There is none.
    Absent,
    Unknown,
}

/// What a look at a key brings that must not take long.
pub(crate) enum AtOnce<V> {
    Value(V),
    /// There is no entry.
    Absent,
    Unknown,
}

impl<V> AtOnce<V> {
    #[inline(always)]
    pub(crate) fn value(self) -> Option<V> {
        match self {
            AtOnce::Value(value) => Some(value),
            AtOnce::Absent | AtOnce::Unknown => None,
        }
    }
}

impl<K: Key, V: Value, S: Hasher> Engine<K, V, S> {
    /// The whole of nearly every lookup. What it calls in the good case is the value's clone and nothing else, so that the
    /// rest stays in registers.
    #[inline(always)]
    pub(crate) fn get_plainly<Q: AsKey<K> + ?Sized>(&self, hash: u64, key: &Q) -> Plainly<'_, K, V> {
        let found = match self.store.glance(hash, key) {
            Glanced::Found(found) => found,
            Glanced::Absent => return Plainly::Absent,
            Glanced::Unknown => return Plainly::Unknown,
        };
        if let Err(doubt) = self.check_plainly(&found) {
            return Plainly::Found(found, doubt);
        }
        let Some(mut counts) = self.counters.of_thread(found.thread()) else {
            return Plainly::Found(found, Doubt::Other);
        };
        let value = found.value.clone();
        counts.outcome(Outcome::Hit);
        Plainly::Value(value)
    }

    /// A value that wants neither a load nor the start of a refresh.
    #[inline(always)]
    pub(crate) fn get_at_once<Q: AsKey<K> + ?Sized>(&self, hash: u64, key: &Q) -> AtOnce<V> {
        match self.get_plainly(hash, key) {
            Plainly::Value(value) => AtOnce::Value(value),
            Plainly::Found(found, doubt) => self.look_closely(found, doubt).map_or(AtOnce::Unknown, AtOnce::Value),
            Plainly::Absent => AtOnce::Absent,
            Plainly::Unknown => AtOnce::Unknown,
        }
    }

    /// The value if it is certainly fresh, or certainly stale and being renewed or left alone. `None` says nothing.
    #[inline(always)]
    pub(crate) fn look_closely(&self, found: Glance<'_, K, V>, doubt: Doubt) -> Option<V> {
        match self.get_plainly_stale(&found, doubt) {
            None => self.look_more_closely(found, doubt.glimpse()),
            some => some,
        }
    }

    /// As [`get_plainly`](Engine::get_plainly), of nearly every value that is stale.
    #[inline(always)]
    fn get_plainly_stale(&self, found: &Glance<'_, K, V>, doubt: Doubt) -> Option<V> {
        let Doubt::Age(age, _) = doubt else { return None };
        let status = self.is_plainly_stale(found, age)?;
        let mut counts = self.counters.of_thread(found.thread())?;
        let value = found.value.clone();
        counts.stale_and_left_alone(status);
        Some(value)
    }

    #[inline(never)]
    fn look_more_closely(&self, found: Glance<'_, K, V>, glimpse: Glimpse) -> Option<V> {
        let judged = self.judge_found(&found, glimpse)?;
        Some(self.give(&found, judged))
    }

    /// The value if it is certainly fresh; `None` says nothing.
    #[cfg(feature = "resilience")]
    #[inline]
    pub(crate) fn get_fresh<Q: AsKey<K> + ?Sized>(&self, hash: u64, key: &Q) -> Option<V> {
        match self.get_plainly(hash, key) {
            Plainly::Value(value) => Some(value),
            Plainly::Found(found, doubt) => self.look_if_fresh(found, doubt.glimpse()),
            Plainly::Absent | Plainly::Unknown => None,
        }
    }

    /// As [`look_closely`](Engine::look_closely), of a value that is not stale.
    #[cfg(feature = "resilience")]
    #[inline(never)]
    fn look_if_fresh(&self, found: Glance<'_, K, V>, glimpse: Glimpse) -> Option<V> {
        let judged = self.judge_found(&found, glimpse).filter(|(outcome, _)| *outcome == Outcome::Hit)?;
        Some(self.give(&found, judged))
    }

    /// Whether what was found is fresh, beyond doubt. `false` says nothing.
    #[inline]
    pub(crate) fn is_fresh(&self, found: &Entry<K, V>) -> bool {
        match self.check_plainly(found) {
            Ok(()) => true,
            Err(doubt) => self.is_fresh_at_a_closer_look(found, doubt.glimpse()),
        }
    }

    #[inline(never)]
    fn is_fresh_at_a_closer_look(&self, found: &Entry<K, V>, glimpse: Glimpse) -> bool {
        self.judge_found(found, glimpse).is_some_and(|(outcome, _)| outcome == Outcome::Hit)
    }

    #[inline]
    fn judge_found(&self, found: &Entry<K, V>, glimpse: Glimpse) -> Option<(Outcome, RefreshStatus)> {
        if self.history.looks_closer() {
            self.look_plainly_if_may();
        }
        self.judge_closely(found, glimpse)
    }

    /// The value of a lookup that is over, counted and told.
    #[inline]
    fn give(&self, found: &Glance<'_, K, V>, (outcome, status): (Outcome, RefreshStatus)) -> V {
        let value = found.value.clone();
        match self.counters.of_thread(found.thread()) {
            Some(mut counts) => counts.lookup(outcome, status),
            None => {
                self.counters.outcome(outcome);
                if outcome == Outcome::Stale {
                    self.counters.refresh_status(status);
                }
            }
        }
        if self.listeners.any() {
            self.tell(found, outcome, status);
        }
        value
    }

    #[cold]
    #[inline(never)]
    fn tell(&self, found: &Entry<K, V>, outcome: Outcome, refresh: RefreshStatus) {
        let age = Some(self.clock.now().since(found.loaded_at()));
        let key = Some(&found.key);
        self.listeners.tell(&Event::Lookup { key, outcome, age, refresh });
    }
}
