//! An insertion: the key is looked for, room is made, the entry put or replaced.
//!
//! What is usual goes one straight way. What is rare stands apart from it: an entry that is too heavy, or costs more or less than the one
//! that it replaces, and room that is all in the hands of other writers.

use std::hash::{BuildHasher, Hash};

use crate::entry::Entry;
use crate::moment::Moment;
use crate::store::bound::Permit;
use crate::store::guard::Insertion;
use crate::store::map::Store;
use crate::store::shard::Shard;
use crate::store::state::State;
use crate::store::table::Place;
use crate::store::writer::{Chosen, Terms};
use crate::sync::{Ordering, yield_now};

/// What is asked for.
#[derive(Clone, Copy)]
struct Asked {
    hash: u64,
    terms: Terms,
    now: Moment,
}

/// What became of it.
enum Tried {
    Done,
    NotAdmitted,
    NoRoom,
}

/// What came of the search for room in the own shard.
enum Room {
    /// The entry is in.
    Taken,
    /// So many units have become free.
    Made(u64),
    Nowhere,
}

/// One try, with the lock of its shard held.
struct Try<'t, 's, K, V> {
    shard: &'s Shard<K, V>,
    state: &'t mut State<K, V>,
    asked: Asked,
    offered: &'t mut Option<Entry<K, V>>,
    insertion: &'t mut Insertion<'s, K, V>,
}

impl<'s, K, V> Try<'_, 's, K, V> {
    /// For what is rare and stands apart: were this one pointed at there, all of it would have to be in memory.
    #[inline(always)]
    fn lent(&mut self) -> Try<'_, 's, K, V> {
        let Try { shard, state, asked, offered, insertion } = self;
        Try { shard, state, asked: *asked, offered, insertion }
    }
}

impl<K: Hash + Eq, V, S: BuildHasher + 'static> Store<K, V, S> {
    /// Puts or replaces; `terms` are the weight, and the moment after which the entry may be thrown out before others. What had
    /// to go is handed out.
    #[cfg(any(test, everfresh_fuzz))]
    pub(crate) fn insert(
        &self,
        hash: u64,
        entry: Entry<K, V>,
        terms: (u64, Moment),
        now: Moment,
    ) -> Insertion<'_, K, V> {
        let mut insertion = Insertion::nothing(true);
        self.put(hash, entry, terms, now, &mut insertion);
        insertion
    }

    /// As [`Store::insert`]; what had to go is handed out if `insertion` wants it, else only counted, which takes less.
    #[inline]
    pub(crate) fn put<'s>(
        &'s self,
        hash: u64,
        entry: Entry<K, V>,
        terms: (u64, Moment),
        now: Moment,
        insertion: &mut Insertion<'s, K, V>,
    ) {
        let admitted = self.put_if_admitted(hash, &mut Some(entry), terms, now, insertion, |_| true);
        debug_assert!(admitted, "everybody is");
    }

    /// As [`Store::put`], if `admit` agrees to what is there under the key now; else `false`, and the entry stays where it is
    /// `offered`. So it does also if the user's `Eq` or `Hash` panics: who holds a lock drops it later. `admit` is asked with the
    /// shard's lock held; again, if the lock had to be given up for want of room. So also one that is not admitted in the end may
    /// have pushed others out. One that is too heavy is admitted, and among what is seen.
    #[inline(always)]
    pub(crate) fn put_if_admitted<'s>(
        &'s self,
        hash: u64,
        offered: &mut Option<Entry<K, V>>,
        (weight, deadline): (u64, Moment),
        now: Moment,
        insertion: &mut Insertion<'s, K, V>,
        mut admit: impl FnMut(Option<&Entry<K, V>>) -> bool,
    ) -> bool {
        let terms = Terms { weight, cost: self.account.cost(weight), deadline };
        let asked = Asked { hash, terms, now };
        match self.try_to_put(asked, offered, insertion, &mut admit) {
            Tried::Done => true,
            Tried::NotAdmitted => false,
            Tried::NoRoom => self.put_when_there_is_room(asked, offered, insertion, &mut admit),
        }
    }

    /// All room is in the hands of other writers. What this one held has gone back, so that one of them gets on.
    #[cold]
    #[inline(never)]
    fn put_when_there_is_room<'s>(
        &'s self,
        asked: Asked,
        offered: &mut Option<Entry<K, V>>,
        insertion: &mut Insertion<'s, K, V>,
        admit: &mut impl FnMut(Option<&Entry<K, V>>) -> bool,
    ) -> bool {
        loop {
            yield_now();
            match self.try_to_put(asked, offered, insertion, admit) {
                Tried::Done => return true,
                Tried::NotAdmitted => return false,
                Tried::NoRoom => {}
            }
        }
    }

    #[inline(always)]
    fn try_to_put<'s>(
        &'s self,
        asked: Asked,
        offered: &mut Option<Entry<K, V>>,
        insertion: &mut Insertion<'s, K, V>,
        admit: &mut impl FnMut(Option<&Entry<K, V>>) -> bool,
    ) -> Tried {
        let shard = self.shard(asked.hash);
        let mut state = shard.lock();
        shard.prepare(&state, asked.hash);
        let is_of_this_key = |other: &Entry<K, V>| offered.as_ref().is_some_and(|new| new.key == other.key);
        let found = shard.locate(&state.reach, asked.hash, is_of_this_key);
        let admitted = admit(found.map(|(_, entry)| entry));
        let found = found.map(|(place, _)| place);
        let mut this = Try { shard, state: &mut state, asked, offered, insertion };
        match found {
            _ if !admitted => Tried::NotAdmitted,
            _ if asked.terms.cost > self.account.limit() => self.refuse(this.lent(), found),
            None => self.put_new(&mut this),
            Some(place) => self.put_instead(&mut this, place),
        }
    }

    /// Hands back what is too heavy, and takes out what it was to replace.
    #[cold]
    #[inline(never)]
    fn refuse<'s>(&'s self, this: Try<'_, 's, K, V>, found: Option<Place>) -> Tried {
        if let Some(place) = found {
            this.insertion.see().replaced = self.take(this.shard, this.state, place);
        }
        this.insertion.see().refused = this.offered.take();
        Tried::Done
    }

    /// Puts an entry whose key is not there.
    #[inline(always)]
    fn put_new<'s>(&'s self, this: &mut Try<'_, 's, K, V>) -> Tried {
        let Asked { hash, terms, .. } = this.asked;
        let mut permit = Permit::empty(&self.account);
        while !permit.reaches(terms.cost) {
            let room = match self.is_poor(this) {
                true => self.make_room(this, None),
                false => match self.put_in_exchange(this) {
                    Room::Taken => return Tried::Done,
                    Room::Made(units) => Some(units),
                    Room::Nowhere => self.make_room_elsewhere(this.lent()),
                },
            };
            match room {
                Some(units) => permit.add(units),
                None => return Tried::NoRoom,
            }
        }
        this.shard.make_place(this.state, self.sizing, &|key: &K| self.hash(key));
        let Some(entry) = this.offered.take() else { return Tried::NotAdmitted };
        this.shard.put(this.state, &mut this.shard.yards.enter(), hash, entry, terms);
        permit.spend(terms.cost);
        Tried::Done
    }

    /// Puts an entry whose key is not there in exchange for the one that is to go, if that costs as much: straight into its place if
    /// it can. Else only makes room for it.
    #[inline(always)]
    fn put_in_exchange<'s>(&'s self, this: &mut Try<'_, 's, K, V>) -> Room {
        let Asked { hash, terms, now } = this.asked;
        let Try { shard, .. } = *this;
        let Some(chosen) = shard.choose(this.state, hash, None, now) else { return Room::Nowhere };
        let equal = chosen.cost == terms.cost;
        if equal
            && shard.is_place_for(this.state, chosen, hash)
            && let Some(entry) = this.offered.take()
        {
            let mut yard = shard.yards.enter();
            if let Some(evicted) = shard.put_in_place_of(this.state, &mut yard, chosen, hash, entry, terms) {
                shard.depart(&mut yard, evicted, this.state.len, this.insertion);
            }
            shard.leave(yard, this.insertion);
            return Room::Taken;
        }
        let Some(evicted) = shard.evict(this.state, chosen, &|key| self.hash(key)) else { return Room::Nowhere };
        let mut yard = shard.yards.enter();
        let units = shard.depart(&mut yard, evicted, this.state.len, this.insertion);
        let place = equal && !shard.is_to_grow(this.state, self.sizing);
        let room = match if place { this.offered.take() } else { None } {
            Some(entry) => {
                shard.put(this.state, &mut yard, hash, entry, terms);
                Room::Taken
            }
            None => Room::Made(units),
        };
        shard.leave(yard, this.insertion);
        room
    }

    /// Takes the chosen entry out; returns the units that this freed.
    #[inline]
    fn evict<'s>(
        &'s self,
        shard: &'s Shard<K, V>,
        state: &mut State<K, V>,
        chosen: Chosen,
        insertion: &mut Insertion<'s, K, V>,
    ) -> Option<u64> {
        let evicted = shard.evict(state, chosen, &|key| self.hash(key))?;
        let mut yard = shard.yards.enter();
        let units = shard.depart(&mut yard, evicted, state.len, insertion);
        shard.leave(yard, insertion);
        Some(units)
    }

    /// Puts an entry in the place of the one that its key has.
    #[inline(always)]
    fn put_instead<'s>(&'s self, this: &mut Try<'_, 's, K, V>, place: Place) -> Tried {
        let Asked { terms, .. } = this.asked;
        let old_cost = this.shard.cost_at(this.state, place);
        // It goes back when the older entry has gone.
        let left = match old_cost == terms.cost {
            true => Some(Permit::empty(&self.account)),
            false => self.permit_to_replace(this.lent(), place, old_cost),
        };
        let Some(_left) = left else { return Tried::NoRoom };
        let Some(entry) = this.offered.take() else { return Tried::NotAdmitted };
        let mut yard = this.shard.yards.enter();
        if let Some(old) = this.shard.replace(this.state, &mut yard, place, entry, terms, old_cost) {
            let len = this.state.len;
            if this.insertion.are_departures_wanted() {
                this.insertion.see().replaced = Some(this.shard.hand_out(&mut yard, old, old_cost, len));
            } else {
                yard.discard(old, old_cost, len);
                this.insertion.unseen.replaced = 1;
            }
        }
        this.shard.leave(yard, this.insertion);
        Tried::Done
    }

    /// What is to be given back when the older entry has gone, if there is room for what the new one costs more.
    #[inline(never)]
    fn permit_to_replace<'s>(&'s self, mut this: Try<'_, 's, K, V>, place: Place, old_cost: u64) -> Option<Permit<'s>> {
        let cost = this.asked.terms.cost;
        let need = cost.saturating_sub(old_cost);
        let mut permit = Permit::empty(&self.account);
        while !permit.reaches(need) {
            permit.add(self.make_room(&mut this, Some(place))?);
        }
        permit.spend(need);
        permit.add(old_cost.saturating_sub(cost));
        Some(permit)
    }

    /// Makes room: in the shard whose lock is held if it has its share of the cache, else in another one. Returns the
    /// units that this freed.
    #[inline(always)]
    fn make_room<'s>(&'s self, this: &mut Try<'_, 's, K, V>, spared: Option<Place>) -> Option<u64> {
        let Asked { hash, now, .. } = this.asked;
        let poor = self.is_poor(this);
        if poor && let Some(units) = self.make_room_elsewhere(this.lent()) {
            return Some(units);
        }
        if let Some(chosen) = this.shard.choose(this.state, hash, spared, now)
            && let Some(units) = self.evict(this.shard, this.state, chosen, this.insertion)
        {
            return Some(units);
        }
        if poor { None } else { self.make_room_elsewhere(this.lent()) }
    }

    /// Whether the shard has less than its share of the cache.
    #[inline]
    fn is_poor(&self, this: &Try<'_, '_, K, V>) -> bool {
        this.state.held < self.poor
    }

    /// Makes room in another shard than the one whose lock is held: so this one never waits for another lock.
    #[inline(never)]
    fn make_room_elsewhere<'s>(&'s self, this: Try<'_, 's, K, V>) -> Option<u64> {
        let count = self.shards.len();
        let chance = &mut this.state.clock;
        let (one, two) = (chance.below(count), chance.below(count));
        let len = |index: usize| self.shards[index].len.load(Ordering::Relaxed);
        let first = if len(one) < len(two) { two } else { one };
        for step in 0..count {
            let shard = &self.shards[(first + step) % count];
            if std::ptr::eq(shard, this.shard) || shard.len.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let Some(mut state) = shard.try_lock() else { continue };
            let hash = (chance.below(1 << 31) as u64) << 17;
            if let Some(chosen) = shard.choose(&mut state, hash, None, this.asked.now)
                && let Some(units) = self.evict(shard, &mut state, chosen, this.insertion)
            {
                return Some(units);
            }
        }
        None
    }
}
