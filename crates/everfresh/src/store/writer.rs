//! What is done to a shard with its lock held: put, replace, take out, make room, grow.

use crate::entry::Entry;
use crate::moment::Moment;
use crate::store::ahead::prefetch;
use crate::store::guard::{Insertion, PushedOut, Removed};
use crate::store::hazard::Hazard;
use crate::store::need::Need;
use crate::store::shard::Shard;
use crate::store::slab::Node;
use crate::store::state::{Reach, State};
use crate::store::table::{Place, Table};
use crate::store::tags::{WAYS, tag};
use crate::store::yard::Inside;
use crate::sync::Ordering;

/// How much larger the next table is where the final size is known.
const STEP: usize = 10;

/// Removed entries that one insertion guards with hazards.
const FEW: usize = 2;

/// How large the tables of a store's shards become.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizing {
    /// Buckets that a full shard needs, if that is known.
    pub(super) target: usize,
}

impl Sizing {
    /// For a shard that will hold `entries`, with a tenth of the slots to spare.
    pub(super) fn for_entries(entries: usize) -> Sizing {
        Sizing { target: entries.saturating_mul(10).div_ceil(9 * WAYS).max(1) }
    }

    /// For one of a cache that is small: with three tenths, for room counts less there than the way to the next bucket.
    pub(super) fn for_few_entries(entries: usize) -> Sizing {
        Sizing { target: entries.saturating_mul(10).div_ceil(7 * WAYS).max(1) }
    }

    pub(super) fn unknown() -> Sizing {
        Sizing { target: usize::MAX }
    }

    /// The entries that a table may hold before it must grow. A table of the final size is filled further, for it is
    /// only by chance that a shard needs more than its share.
    fn room(self, buckets: usize) -> usize {
        let slots = buckets * WAYS;
        if buckets < self.target { slots * 7 / 8 } else { slots * 31 / 32 }
    }

    fn next(self, buckets: usize) -> usize {
        if buckets >= self.target {
            buckets + buckets / 4 + 1
        } else if self.target == usize::MAX {
            (buckets * 2).max(1)
        } else {
            // In few steps, each ten times the one before, for old tables are kept.
            let mut next = self.target;
            while next / STEP > buckets {
                next /= STEP;
            }
            next.max(1)
        }
    }
}

/// What is to be noted of an entry besides.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    pub(super) weight: u64,
    pub(super) cost: u64,
    pub(super) deadline: Moment,
}

/// An entry that is to make room.
#[derive(Clone, Copy)]
pub(super) struct Chosen {
    place: Place,
    pub(super) cost: u64,
    why: PushedOut,
}

/// An entry that was taken out to make room, and the units that this freed.
pub(super) struct Evicted<K, V> {
    pub(super) node: Node<K, V>,
    pub(super) cost: u64,
    pub(super) why: PushedOut,
}

impl<K, V> Shard<K, V> {
    /// Asks for the memory that an insertion is going to need of the key's own bucket.
    #[inline]
    pub(super) fn prepare(&self, state: &State<K, V>, hash: u64) {
        if let Some(table) = self.table(&state.reach) {
            let home = table.home(hash);
            state.policy.prefetch(home);
            state.lines.prefetch(home);
        }
    }

    /// As far as that can be done without the lock.
    #[inline]
    pub(super) fn prepare_unlocked(&self, hash: u64) {
        prefetch(&self.state);
        if let Some(table) = self.current() {
            table.bucket(hash).prefetch();
        }
    }

    /// Where the key is, and its entry; runs the user's `Eq`.
    #[inline]
    pub(super) fn locate<'l>(
        &'l self,
        reach: &'l Reach<K, V>,
        hash: u64,
        is: impl Fn(&Entry<K, V>) -> bool,
    ) -> Option<(Place, &'l Entry<K, V>)> {
        let table = self.table(reach)?;
        let wanted = tag(hash);
        let mut bucket = table.home(hash);
        for _ in 0..table.buckets() {
            let found = table.at(bucket);
            for slot in found.head.tags.matching(wanted) {
                if found.head.may_be(slot, hash)
                    && let Some(entry) = self.entry_in(reach, &found, slot)
                    && is(entry)
                {
                    return Some((Place::new(bucket, slot), entry));
                }
            }
            if found.head.tags.passed_by() == 0 {
                return None;
            }
            bucket = table.after(bucket);
        }
        None
    }

    /// Sees to it that there is a slot for one entry more. May run the user's `Hash`, before anything is changed.
    #[inline]
    pub(super) fn make_place(&self, state: &mut State<K, V>, sizing: Sizing, hash_of: &impl Fn(&K) -> u64) {
        if self.is_to_grow(state, sizing) {
            let buckets = self.table(&state.reach).map_or(0, Table::buckets);
            self.grow(state, sizing.next(buckets), hash_of);
        }
    }

    /// Whether there is no slot for one entry more, or soon will be none.
    #[inline]
    pub(super) fn is_to_grow(&self, state: &State<K, V>, sizing: Sizing) -> bool {
        state.len >= sizing.room(self.table(&state.reach).map_or(0, Table::buckets))
    }

    /// Puts an entry whose key is not there yet, where there is a slot for it.
    #[inline]
    pub(super) fn put(
        &self,
        state: &mut State<K, V>,
        yard: &mut Inside<'_, K, V>,
        hash: u64,
        entry: Entry<K, V>,
        terms: Terms,
    ) {
        let Some(table) = self.table(&state.reach) else { return };
        let home = table.home(hash);
        let Some(place) = table.free_place(home) else { return };
        let node = yard.fill(entry);
        state.lines.set_weight(place, terms.weight);
        state.lines.set_deadline(table.buckets(), place, terms.deadline);
        state.len += 1;
        state.held += terms.cost;
        let stamp = self.uses.as_ref().map_or(0, |uses| uses.next());
        state.policy.arrive(&mut state.clock, table, (place, home), hash, stamp, state.len);
        table.fill(place, home, tag(hash), node);
        self.len.store(state.len, Ordering::Relaxed);
    }

    /// Puts an entry in the place of an older one of the same key, and returns that one's node, not yet discarded.
    #[inline]
    pub(super) fn replace(
        &self,
        state: &mut State<K, V>,
        yard: &mut Inside<'_, K, V>,
        place: Place,
        entry: Entry<K, V>,
        terms: Terms,
        old_cost: u64,
    ) -> Option<Node<K, V>> {
        let table = self.table(&state.reach)?;
        let node = yard.fill(entry);
        let bucket = table.at(place.bucket());
        match &self.uses {
            None => bucket.head.touch(place.slot()),
            Some(uses) => table.stamp(place).store(uses.next(), Ordering::Relaxed),
        }
        state.lines.set_weight(place, terms.weight);
        state.lines.set_deadline(table.buckets(), place, terms.deadline);
        state.held = state.held - old_cost + terms.cost;
        bucket.set_node(place.slot(), Some(node))
    }

    /// Takes an entry out; returns its node, not yet discarded. May run the user's `Hash`, before anything is changed.
    #[inline]
    pub(super) fn take_out(
        &self,
        state: &mut State<K, V>,
        place: Place,
        cost: u64,
        evicted: bool,
        hash_of: &impl Fn(&K) -> u64,
    ) -> Option<Node<K, V>> {
        let home = self.home_of(&state.reach, place, hash_of)?;
        let table = self.table(&state.reach)?;
        state.policy.leave(table, place, home, evicted);
        let node = table.empty(place, home);
        state.lines.forget(place);
        state.len -= 1;
        state.held -= cost;
        self.len.store(state.len, Ordering::Relaxed);
        node
    }

    #[inline]
    pub(super) fn home_of(&self, reach: &Reach<K, V>, place: Place, hash_of: &impl Fn(&K) -> u64) -> Option<usize> {
        let table = self.table(reach)?;
        if !table.is_foreign(place) {
            return Some(place.bucket());
        }
        let entry = self.entry(reach, place)?;
        Some(table.home(hash_of(&entry.key)))
    }

    /// What is to go for the sake of a key with this hash: an entry that is over, or the one that the policy gives up first; `spared`
    /// stays.
    #[inline]
    pub(super) fn choose(
        &self,
        state: &mut State<K, V>,
        hash: u64,
        spared: Option<Place>,
        now: Moment,
    ) -> Option<Chosen> {
        let table = self.table(&state.reach)?;
        if state.len == usize::from(spared.is_some()) {
            return None;
        }
        let home = table.home(hash);
        let expired = match state.lines.may_be_due(now) {
            true => self.expired(state, home, spared, now),
            false => None,
        };
        let (place, why) = match expired {
            Some(place) => (place, PushedOut::Expired),
            None => {
                let table = self.table(&state.reach)?;
                let need = Need { home, spared, len: state.len };
                let place = state.policy.victim(&mut state.clock, table, need)?;
                if let Some(next) = state.policy.looks_next_at() {
                    table.at(next).prefetch();
                    state.lines.prefetch(next);
                }
                (place, PushedOut::Evicted)
            }
        };
        Some(Chosen { place, cost: self.cost_at(state, place), why })
    }

    /// Takes out what is to go for the sake of a key with this hash.
    #[inline]
    pub(super) fn evict(
        &self,
        state: &mut State<K, V>,
        Chosen { place, cost, why }: Chosen,
        hash_of: &impl Fn(&K) -> u64,
    ) -> Option<Evicted<K, V>> {
        let node = self.take_out(state, place, cost, why == PushedOut::Evicted, hash_of)?;
        Some(Evicted { node, cost, why })
    }

    /// Whether a new entry of this hash may just take the place of the chosen one: both are at home in the same bucket.
    #[inline]
    pub(super) fn is_place_for(&self, state: &State<K, V>, chosen: Chosen, hash: u64) -> bool {
        let at_home =
            |table: &Table<K, V>| chosen.place.bucket() == table.home(hash) && !table.is_foreign(chosen.place);
        self.table(&state.reach).is_some_and(at_home)
    }

    /// Puts an entry whose key is not there yet in the [place of the chosen one](Shard::is_place_for), which is taken out: as if one
    /// after the other, but in one go, which is what most insertions in a full cache do.
    #[inline]
    pub(super) fn put_in_place_of(
        &self,
        state: &mut State<K, V>,
        yard: &mut Inside<'_, K, V>,
        Chosen { place, cost, why }: Chosen,
        hash: u64,
        entry: Entry<K, V>,
        terms: Terms,
    ) -> Option<Evicted<K, V>> {
        let table = self.table(&state.reach)?;
        let node = yard.fill(entry);
        let stamp = self.uses.as_ref().map_or(0, |uses| uses.next());
        let change = (place, why == PushedOut::Evicted);
        state.policy.succeed(&mut state.clock, table, change, hash, stamp, state.len);
        state.lines.set_weight(place, terms.weight);
        state.lines.set_deadline(table.buckets(), place, terms.deadline);
        state.held = state.held - cost + terms.cost;
        let node = table.exchange(place, tag(hash), node)?;
        Some(Evicted { node, cost, why })
    }

    /// What the entry in this place costs.
    #[inline]
    pub(super) fn cost_at(&self, state: &State<K, V>, place: Place) -> u64 {
        state.lines.weight(place) * u64::from(self.bounded)
    }

    /// An entry that is over: of this bucket or of another one, by chance; of all buckets if there are only a few.
    #[inline(never)]
    fn expired(&self, state: &mut State<K, V>, home: usize, spared: Option<Place>, now: Moment) -> Option<Place> {
        let table = self.table(&state.reach)?;
        let all = if table.buckets() <= 8 { table.buckets() } else { 0 };
        for bucket in [home, state.clock.below(table.buckets())].into_iter().chain(0..all) {
            let mut due = state.lines.due(bucket, now);
            while due != 0 {
                let place = Place::new(bucket, due.trailing_zeros() as usize);
                due &= due - 1;
                if spared != Some(place)
                    && let Some(entry) = self.entry(&state.reach, place)
                    && entry.is_over(state.lines.deadline(place), now)
                {
                    return Some(place);
                }
            }
        }
        None
    }

    /// Makes the table larger. Readers go on in the old one until the new one is complete.
    #[cold]
    #[inline(never)]
    pub(super) fn grow(&self, state: &mut State<K, V>, buckets: usize, hash_of: &impl Fn(&K) -> u64) {
        let table = Box::new(Table::new(&state.ground, buckets, self.uses.is_some()));
        let mut lines = state.lines.resized(buckets);
        let (clock, shift) = state.clock.for_buckets(buckets);
        let mut policy = state.policy.for_buckets(&state.ground, buckets);
        if let Some(old) = self.table(&state.reach) {
            for from in old.taken() {
                let (Some(node), Some(entry)) = (old.node(from), self.entry(&state.reach, from)) else { continue };
                let hash = hash_of(&entry.key);
                let home = table.home(hash);
                let Some(to) = table.free_place(home) else { return };
                let (old_head, head) = (old.head(from.bucket()), table.head(to.bucket()));
                head.set_mark(to.slot(), old_head.mark(from.slot()));
                lines.adopt(to, &state.lines, from);
                let later = |time| clock.now().wrapping_sub(state.clock.now().wrapping_sub(time) >> shift);
                policy.adopt(to, &state.policy, from, later);
                if table.is_stamped() {
                    let stamp = old.stamp(from).load(Ordering::Relaxed);
                    table.stamp(to).store(stamp, Ordering::Relaxed);
                }
                table.fill(to, home, tag(hash), node);
            }
        }
        state.lines = lines;
        state.clock = clock;
        policy.grown(&table, &state.clock);
        state.policy = policy;
        self.publish(&mut state.reach, table);
    }

    /// Leaves the yard; sees to the garbage, or notes for who is about to let go of all locks that it is to be looked through then.
    #[inline(always)]
    pub(super) fn leave<'s>(&'s self, mut yard: Inside<'_, K, V>, insertion: &mut Insertion<'s, K, V>) {
        if yard.is_due() && yard.is_still_due() {
            insertion.note_due(&self.yards);
        }
    }

    /// Hands out a node that was taken out: as garbage that a hazard of the caller guards. `len` is what the shard holds.
    #[inline]
    pub(super) fn hand_out(
        &self,
        yard: &mut Inside<'_, K, V>,
        node: Node<K, V>,
        cost: u64,
        len: usize,
    ) -> Removed<'_, K, V> {
        let hazard = Hazard::guard_locked(node.address());
        yard.discard(node, cost, len);
        Removed::new(node, Some(hazard), &self.yards, cost)
    }

    /// Hands out an entry that had to make room; returns the units that this freed. Only the first few have hazards:
    /// where a heavy entry displaces many light ones, the others become garbage one by one when they are dropped.
    #[inline]
    pub(super) fn depart<'s>(
        &'s self,
        yard: &mut Inside<'_, K, V>,
        evicted: Evicted<K, V>,
        len: usize,
        insertion: &mut Insertion<'s, K, V>,
    ) -> u64 {
        if !insertion.are_departures_wanted() {
            yard.discard(evicted.node, evicted.cost, len);
            insertion.count(evicted.why);
            return evicted.cost;
        }
        self.depart_seen(yard, evicted, len, insertion)
    }

    #[inline(never)]
    fn depart_seen<'s>(
        &'s self,
        yard: &mut Inside<'_, K, V>,
        Evicted { node, cost, why }: Evicted<K, V>,
        len: usize,
        insertion: &mut Insertion<'s, K, V>,
    ) -> u64 {
        let pushed_out = &mut insertion.see().pushed_out;
        let few = pushed_out.len() < FEW;
        let removed =
            if few { self.hand_out(yard, node, cost, len) } else { Removed::new(node, None, &self.yards, cost) };
        pushed_out.push((removed, why));
        cost
    }
}

#[cfg(all(test, not(everfresh_loom)))]
mod tests {
    use super::*;

    #[test]
    fn tables_grow_to_their_final_size_in_few_steps_and_old_ones_are_small() {
        for entries in [1, 5, 100, 1_024, 15_625, 156_250, 10_000_000] {
            let sizing = Sizing::for_entries(entries);
            let mut sizes = vec![sizing.next(0)];
            while sizes[sizes.len() - 1] < sizing.target {
                sizes.push(sizing.next(sizes[sizes.len() - 1]));
            }
            assert!(sizes.is_sorted() && sizes.len() <= 8, "{sizes:?}");
            assert_eq!(sizes.pop(), Some(sizing.target));
            assert!(sizes.iter().sum::<usize>() * 8 <= sizing.target, "{sizes:?} before {}", sizing.target);
            assert!(sizing.room(sizing.target) >= entries, "{entries} entries in {} buckets", sizing.target);
            assert!(sizing.next(sizing.target) > sizing.target);
        }
    }
}
