//! What becomes of the result of a load: stored, or not and why; and what everybody who waited is given.
//!
//! The install itself happens under the flight table's lock, so that nothing can overtake it between the look and the write
//! (contract I1, R4). All user code runs before or after.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::engine::{Engine, Hasher, Key, Negative, Value};
use crate::entry::Entry;
use crate::error::Failure;
use crate::event::{Cause, Ending, Event, NotStored};
use crate::flight::{Flight, Leader, Purpose};
use crate::given::{Handed, Landing};
use crate::history::{History, Standing, Tag};
use crate::housekeeper;
use crate::key::AsKey;
use crate::leading::Inside;
use crate::lifetime::{Freshness, Life};
use crate::load::{Load, Loaded, Traits};
use crate::moment::Moment;
use crate::store::{Insertion, Ref};

/// How a flight ended, for the one who led it.
pub(crate) struct Landed<V> {
    pub(crate) ending: Ending,
    /// What it made, stored or not.
    pub(crate) value: Option<V>,
}

/// Where a made value came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Origin {
    Loader,
    SecondLevel,
}

impl<K: Key, V: Value, S: Hasher> Engine<K, V, S> {
    /// Ends a flight with what its loader answered.
    ///
    /// If the user's weigher, predicate, clone or drop panics on what had been loaded, that is how it ended.
    pub(crate) fn land(
        self: &Arc<Self>,
        leader: Leader<K, V>,
        made: Result<Load<V>, Failure>,
        origin: Origin,
    ) -> Landed<V> {
        let flight = Arc::clone(leader.flight());
        let mut unlanded = Unlanded { engine: self, leader: Some(leader) };
        // A clone, weigher or predicate that asks for the key it is called for waits for itself, as its loader would.
        let _inside = Inside::enter(std::slice::from_ref(&flight));
        let now = self.clock.now();
        let leader = unlanded.leader();
        let landed = match made {
            Ok(Load::Loaded(loaded)) => self.land_value(leader, &flight, loaded, now, origin),
            Ok(Load::NotModified) => self.land_unmodified(leader, &flight, now),
            Ok(Load::Absent) => self.land_absent(leader, &flight, now),
            Err(failure) => self.land_failure(leader, &flight, failure, now),
        };
        drop(unlanded.leader.take());
        self.release_claim(&flight);
        self.report(&flight, landed.ending, now);
        housekeeper::try_again();
        landed
    }

    fn release_claim(&self, flight: &Flight<K, V>) {
        if flight.purpose == Purpose::Refresh
            && let Some(entry) = self.store.peek(flight.hash, &flight.key)
        {
            // Nothing to release if it was replaced, or left alone after a failure.
            flight.release_claim(&entry);
        }
    }

    /// Ends a flight whose loader panicked: those who waited start over, and the entry is left alone for a while.
    pub(crate) fn land_panic(&self, leader: Leader<K, V>) {
        let flight = Arc::clone(leader.flight());
        let now = self.clock.now();
        flight.note_ending(Ending::Panicked);
        drop(leader.vacate(|good| self.note_failure(&flight, good, now)));
        self.report(&flight, Ending::Panicked, now);
    }

    fn land_value(
        self: &Arc<Self>,
        leader: &mut Leader<K, V>,
        flight: &Flight<K, V>,
        loaded: Loaded<V>,
        now: Moment,
        origin: Origin,
    ) -> Landed<V> {
        let Loaded { value, traits } = loaded;
        let copy = value.clone();
        let tags: Vec<_> = traits.tags.clone();
        // What the second level gave was looked at when it was taken.
        let stored = match origin == Origin::SecondLevel || self.is_storable(&value) {
            true => self.store_value(leader, flight, value, traits, now),
            false => {
                drop(leader.land(|good| self.note_failure(flight, good, now)));
                Err(NotStored::Rejected)
            }
        };
        let ending = stored.map_or_else(Ending::Discarded, |()| Ending::Stored);
        flight.note_ending(ending);
        if flight.is_awaited() {
            let good_for_all = is_good_for_all(flight, self.history.tags(&tags, flight.began).as_deref());
            let from_second_level = origin == Origin::SecondLevel;
            flight.settle(Landing::Value { value: copy.clone(), loaded_at: now, good_for_all, from_second_level });
        }
        if let Err(why) = stored {
            self.tell_not_stored(&flight.key, why);
        }
        Landed { ending, value: Some(copy) }
    }

    /// Whether a value may be stored; runs the user's predicate.
    pub(crate) fn is_storable(&self, value: &V) -> bool {
        self.policy.store_if.as_ref().is_none_or(|store_if| store_if(value))
    }

    fn store_value(
        self: &Arc<Self>,
        leader: &mut Leader<K, V>,
        flight: &Flight<K, V>,
        value: V,
        traits: Traits,
        now: Moment,
    ) -> Result<(), NotStored> {
        let weight = self.weigh(&flight.key, &value, traits.weight);
        let took = now.since(flight.started);
        let Some(tags) = self.history.tags(&traits.tags, flight.began) else {
            leader.land(|_| ());
            return Err(NotStored::Overtaken);
        };
        // Not dropped under the lock, whatever happens there.
        let mut entry = Some(self.entry(flight.key.clone(), value, traits, tags, flight.began, (now, took)));
        let mut insertion = Insertion::nothing(self.listeners.any());
        let (mut older, mut superseded) = (None, None);
        let installed = leader.land(|good| {
            let installed = self.install(flight, good, &mut entry, (weight, now), &mut insertion);
            if installed == Err(NotStored::NotServable) {
                // Nobody may have it who did not ask for it, but what it was to replace is older still.
                older = self.store.peek_locked(flight.hash, &flight.key);
                let meant = older.as_ref().filter(|older| self.may_replace(flight, older, now));
                superseded = meant.and_then(|older| self.store.remove_exact(older));
            }
            installed
        });
        if let Some(superseded) = superseded {
            self.depart(superseded, Cause::Replaced);
        }
        drop(older);
        if installed.is_ok() {
            self.forget_negative(flight.hash, &flight.key);
        }
        let too_heavy = self.settle_quietly(insertion);
        if installed? != Moment::NEVER {
            self.keep_reclaiming();
        }
        if too_heavy { Err(NotStored::TooHeavy) } else { Ok(()) }
    }

    /// Under the flight table's lock: no user code here but `Eq` and `Hash`. What is not stored stays where it is `offered`. When
    /// it is stored, that is until this moment at most.
    fn install<'s>(
        &'s self,
        flight: &Flight<K, V>,
        good: bool,
        offered: &mut Option<Entry<K, V>>,
        (weight, now): (u64, Moment),
        insertion: &mut Insertion<'s, K, V>,
    ) -> Result<Moment, NotStored> {
        let Some(entry) = offered.as_ref().filter(|_| good) else { return Err(NotStored::Overtaken) };
        self.note_what_befell(flight, entry, now)?;
        let deadline = self.deadline(entry);
        let admitted =
            self.store.put_if_admitted(flight.hash, offered, (weight, deadline), now, insertion, |current| {
                current.map_or(takes_any_place(flight), |current| self.may_replace(flight, current, now))
            });
        if admitted { Ok(deadline) } else { Err(NotStored::EntryGone) }
    }

    /// Whether what a flight brings may take the place of what is there.
    fn may_replace(&self, flight: &Flight<K, V>, current: &Entry<K, V>, now: Moment) -> bool {
        takes_any_place(flight) || is_meant(flight, current) && !self.stage(current, now).gone
    }

    /// Notes in an entry that is about to be stored what befell it while it was loaded; or says why it is not stored then.
    fn note_what_befell(&self, flight: &Flight<K, V>, entry: &Entry<K, V>, now: Moment) -> Result<(), NotStored> {
        if flight.expired_at().is_some() {
            entry.expire(now, self.policy.life);
        }
        // Before the look at what befell it.
        let settled = self.history.is_long_ago(flight.began).then(|| self.history.settled_stamp());
        let stage = self.stage_since(entry, flight.began, now);
        if stage.gone {
            return Err(NotStored::Overtaken);
        }
        // Its end is noted in the store by its own time, and the sweep that looks at all for what was struck may be over.
        if stage.fresh_until < self.fresh_until(entry) {
            entry.expire(stage.fresh_until, self.policy.life);
        }
        if let Some(stamp) = settled {
            // That of its load would be taken for a later one.
            entry.settle(stamp);
        }
        if stage.freshness == Freshness::Expired { Err(NotStored::NotServable) } else { Ok(()) }
    }

    fn land_unmodified(self: &Arc<Self>, leader: &mut Leader<K, V>, flight: &Flight<K, V>, now: Moment) -> Landed<V> {
        let old = self.store.peek(flight.hash, &flight.key).filter(|old| !self.stage(old, now).gone);
        // If it was overtaken, what is there now is newer than what its loader was shown.
        let is_newer = |old: &Entry<K, V>| flight.shown().is_some() && (flight.is_fenced() || !is_meant(flight, old));
        let Some(old) = old.filter(|old| !is_newer(old)) else {
            return match flight.shown() {
                Some(shown) => self.land_unmodified_but_gone(leader, flight, shown, now),
                None => self.land_absent(leader, flight, now),
            };
        };
        let value = old.value.clone();
        let renewed = self.renewed(&old, flight.began, now, now.since(flight.started));
        let own_weight = renewed.extra().and_then(|extra| extra.weight);
        let weight = self.weigh(&renewed.key, &renewed.value, own_weight);
        // Not dropped under the lock, whatever happens there.
        let mut offered = Some(renewed);
        let mut insertion = Insertion::nothing(self.listeners.any());
        let installed = leader.land(|good| {
            let Some(renewed) = offered.as_ref().filter(|_| good) else { return Err(NotStored::Overtaken) };
            self.note_what_befell(flight, renewed, now)?;
            let terms = (weight, self.deadline(renewed));
            let admitted =
                self.store.put_if_admitted(flight.hash, &mut offered, terms, now, &mut insertion, |current| {
                    current.is_some_and(|current| std::ptr::eq(current, &raw const *old))
                });
            if admitted { Ok(()) } else { Err(NotStored::EntryGone) }
        });
        if installed.is_ok() && !insertion.is_refused() {
            // The same value lives on: nothing was replaced.
            insertion.unseen.replaced = 0;
            drop(insertion.seen.as_mut().and_then(|seen| seen.replaced.take()));
        }
        if installed.is_ok() {
            self.forget_negative(flight.hash, &flight.key);
        }
        let too_heavy = self.settle_quietly(insertion);
        let not_stored = match installed {
            Ok(()) => too_heavy.then_some(NotStored::TooHeavy),
            Err(why) => Some(why),
        };
        let ending = not_stored.map_or(Ending::NotModified, Ending::Discarded);
        flight.note_ending(ending);
        if flight.is_awaited() {
            // What is stored again was not struck.
            let (value, good_for_all) = (value.clone(), installed.is_ok());
            flight.settle(Landing::Value { value, loaded_at: now, good_for_all, from_second_level: false });
        }
        if let Some(why) = not_stored {
            self.tell_not_stored(&flight.key, why);
        }
        Landed { ending, value: Some(value) }
    }

    /// The value that still holds has left meanwhile: whoever waited gets it, and it is not stored again.
    fn land_unmodified_but_gone(
        &self,
        leader: &mut Leader<K, V>,
        flight: &Flight<K, V>,
        shown: &V,
        now: Moment,
    ) -> Landed<V> {
        let value = shown.clone();
        let why = leader.land(|good| {
            let overtaken = !good || self.history.is_cleared(flight.began);
            if overtaken { NotStored::Overtaken } else { NotStored::EntryGone }
        });
        let ending = Ending::Discarded(why);
        flight.note_ending(ending);
        if flight.is_awaited() {
            // Its tags are gone with it.
            let value = value.clone();
            flight.settle(Landing::Value { value, loaded_at: now, good_for_all: false, from_second_level: false });
        }
        self.tell_not_stored(&flight.key, why);
        Landed { ending, value: Some(value) }
    }

    fn land_absent(self: &Arc<Self>, leader: &mut Leader<K, V>, flight: &Flight<K, V>, now: Moment) -> Landed<V> {
        let mut negative = self.negative(flight, Negative::Absent, now);
        let (mut removed, mut insertion) = (None, Insertion::nothing(true));
        let mut looked_at = None;
        let good = leader.land(|good| {
            looked_at = self.store.peek_locked(flight.hash, &flight.key);
            let good = good && looked_at.as_ref().is_none_or(|found| is_meant(flight, found));
            if good {
                // No other one than that: an insertion may be on its way.
                removed = looked_at.as_ref().and_then(|found| self.store.remove_exact(found));
                self.remember(flight, &mut negative, now, &mut insertion);
            }
            good
        });
        if good && self.negatives.is_some() {
            self.keep_reclaiming();
        }
        if let Some(removed) = removed {
            self.depart(removed, Cause::Removed);
        }
        drop((looked_at, insertion));
        let ending = if good { Ending::Absent } else { Ending::Discarded(NotStored::Overtaken) };
        flight.note_ending(ending);
        flight.settle(Landing::Absent);
        Landed { ending, value: None }
    }

    fn land_failure(
        self: &Arc<Self>,
        leader: &mut Leader<K, V>,
        flight: &Flight<K, V>,
        failure: Failure,
        now: Moment,
    ) -> Landed<V> {
        let mut negative = match failure.is_passing {
            true => None,
            false => self.negative(flight, Negative::Failed(failure.clone()), now),
        };
        let (mut looked_at, mut insertion) = (None, Insertion::nothing(true));
        let (good, remembered) = leader.land(|good| {
            let (entry, kept) = self.note_failure(flight, good, now);
            looked_at = entry;
            // What can still be served instead is better than a remembered error.
            let remembered = good && !kept && self.remember(flight, &mut negative, now, &mut insertion);
            (good, remembered)
        });
        if remembered {
            self.keep_reclaiming();
        }
        drop((looked_at, insertion, negative));
        let ending = if good { Ending::Failed } else { Ending::Discarded(NotStored::Overtaken) };
        flight.note_ending(ending);
        flight.settle(Landing::Failed(Handed::new(failure)));
        Landed { ending, value: None }
    }

    /// The entry that a failed attempt was for is left alone for a while. Whether there is one that can still be served; and
    /// its guard, which must not end under a lock.
    fn note_failure(&self, flight: &Flight<K, V>, good: bool, now: Moment) -> (Option<Ref<'_, K, V>>, bool) {
        let found = if good { self.store.peek_locked(flight.hash, &flight.key) } else { None };
        let servable = found.as_ref().is_some_and(|entry| {
            let stage = self.stage(entry, now);
            self.back_off(entry, stage.fresh_until, now);
            stage.freshness != Freshness::Expired
        });
        (found, servable)
    }

    /// What may be remembered of a load, if the cache does that. Made and dropped outside of the lock, as the clone and the drop
    /// of a key are the user's code.
    fn negative(&self, flight: &Flight<K, V>, negative: Negative, now: Moment) -> Option<Entry<K, Negative>> {
        let life = Life::of(self.policy.negative_ttl?);
        Some(Entry::plain(flight.key.clone(), negative, now, (life, 0), flight.began))
    }

    /// Under the flight table's lock. `false` if there is nothing to remember, or it is stale already: no window lets an error be
    /// served then.
    fn remember<'s>(
        &'s self,
        flight: &Flight<K, V>,
        offered: &mut Option<Entry<K, Negative>>,
        now: Moment,
        insertion: &mut Insertion<'s, K, Negative>,
    ) -> bool {
        let (Some(negatives), Some(entry)) = (&self.negatives, offered.as_ref()) else { return false };
        if flight.expired_at().is_some() || self.history.standing(flight.began) != Standing::Good {
            return false;
        }
        let terms = (1, self.end_of_negative(entry));
        negatives.put_if_admitted(flight.hash, offered, terms, now, insertion, |_| true)
    }

    /// What is remembered of an earlier load of the key is over.
    #[inline(always)]
    pub(crate) fn forget_negative<Q: AsKey<K> + ?Sized>(&self, hash: u64, key: &Q) {
        if self.negatives.is_some() {
            self.forget_any_negative(hash, key);
        }
    }

    #[inline(never)]
    fn forget_any_negative<Q: AsKey<K> + ?Sized>(&self, hash: u64, key: &Q) {
        if let Some(negatives) = &self.negatives {
            drop(negatives.remove(hash, key));
        }
    }

    /// As [`settle_insertion`](Engine::settle_insertion), but that an entry is too heavy is not told: it is returned.
    fn settle_quietly(&self, mut insertion: Insertion<'_, K, V>) -> bool {
        let too_heavy = insertion.is_refused();
        drop(insertion.seen.as_mut().and_then(|seen| seen.refused.take()));
        self.settle_insertion(&mut insertion, Cause::Replaced);
        too_heavy
    }

    /// Ends a flight whose deadline has passed; its key is free, and its late result will change nothing (contract L4).
    pub(crate) fn time_out(&self, flight: &Arc<Flight<K, V>>) {
        self.ended_in_time(flight);
    }

    /// As [`time_out`](Engine::time_out), by the one who runs it and drops it now: counted also if it had been overtaken.
    pub(crate) fn give_up_in_time(&self, flight: &Arc<Flight<K, V>>) {
        if !self.ended_in_time(flight) {
            self.report(flight, Ending::Discarded(NotStored::Overtaken), self.clock.now());
        }
    }

    fn ended_in_time(&self, flight: &Arc<Flight<K, V>>) -> bool {
        if !self.flights.time_out(flight) {
            return false;
        }
        let now = self.clock.now();
        if let Some(entry) = self.store.peek(flight.hash, &flight.key) {
            self.back_off(&entry, self.stage(&entry, now).fresh_until, now);
        }
        self.count_ending(flight, Ending::TimedOut, now.since(flight.started));
        true
    }

    /// Counts and tells the end of a flight that was not already counted as timed out.
    pub(crate) fn report(&self, flight: &Flight<K, V>, ending: Ending, now: Moment) {
        if !flight.is_timed_out() {
            self.count_ending(flight, ending, now.since(flight.started));
        }
    }

    fn count_ending(&self, flight: &Flight<K, V>, ending: Ending, took: Duration) {
        let (key, waiters) = (&flight.key, flight.waiters());
        match flight.purpose {
            Purpose::Load => {
                self.counters.load_ended(ending);
                self.listeners.tell(&Event::Load { key, ending, took, waiters });
            }
            Purpose::Refresh => {
                self.counters.refresh_ended(ending);
                self.listeners.tell(&Event::Refresh { key, ending, took, waiters });
            }
        }
    }
}

/// Whether a value with these tags is good for all who wait; `None` if they are not known any more. Else, as nobody knows when the
/// first strike was since the load began, whoever joined after any tag was struck, this one or another, asks anew.
fn is_good_for_all<K, V>(flight: &Flight<K, V>, tags: Option<&[Arc<Tag>]>) -> bool {
    tags.is_some_and(|tags| !History::is_struck_since(tags, flight.began.tag_point))
}

/// Whether somebody waits for what a flight brings, so that it takes the place of whatever is there.
fn takes_any_place<K, V>(flight: &Flight<K, V>) -> bool {
    flight.purpose == Purpose::Load || flight.is_adopted()
}

/// Whether a flight may change what is there now. A refresh may only change the entry that started it (contract R4): an insertion
/// fences the flights that it finds, and one may begin after that, while the old entry is still there.
fn is_meant<K, V>(flight: &Flight<K, V>, current: &Entry<K, V>) -> bool {
    let is_claimed = |&(loaded_at, attempt): &_| current.loaded_at() == loaded_at && current.attempt() == attempt;
    takes_any_place(flight) || flight.claim.get().is_some_and(is_claimed)
}

/// A flight that is about to land. Dropped with its leader, that is: by a panic, it ends as that.
struct Unlanded<'e, K: Key, V: Value, S: Hasher> {
    engine: &'e Engine<K, V, S>,
    leader: Option<Leader<K, V>>,
}

impl<K: Key, V: Value, S: Hasher> Unlanded<'_, K, V, S> {
    fn leader(&mut self) -> &mut Leader<K, V> {
        match &mut self.leader {
            Some(leader) => leader,
            None => unreachable!("the leader is taken once it has landed"),
        }
    }
}

impl<K: Key, V: Value, S: Hasher> Drop for Unlanded<'_, K, V, S> {
    fn drop(&mut self) {
        let Some(leader) = self.leader.take() else { return };
        let flight = Arc::clone(leader.flight());
        // Contained, for this is part of that panic still: a second one would end the process.
        let _ = catch_unwind(AssertUnwindSafe(|| match flight.ending() {
            None => self.engine.land_panic(leader),
            // It had landed, and then a drop of the user's panicked.
            Some(ending) => {
                drop(leader);
                self.engine.release_claim(&flight);
                self.engine.report(&flight, ending, self.engine.clock.now());
            }
        }));
    }
}
