//! The store: shards, and the one bound over them all.
#![allow(unsafe_code, reason = "the read path picks its shard without a check of the bounds")]

use std::any::TypeId;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use crate::entry::Entry;
use crate::key::AsKey;
use crate::moment::Moment;
use crate::store::bound::{Account, Bound, Eviction, Permit, Settings};
use crate::store::frequency::Frequency;
use crate::store::ground::Ground;
use crate::store::guard::{Glanced, Insertion, Ref, Removed};
use crate::store::hazard::Hazard;
use crate::store::lru::Order;
use crate::store::policy::Policy;
use crate::store::s3::Queues;
use crate::store::shard::{Choices, Shard};
use crate::store::state::{Lines, State};
use crate::store::table::{Place, Table};
use crate::store::writer::{Asked, Sizing, Terms, Tried};
use crate::sync::{Ordering, yield_now};

/// Up to here the store is one shard, so that its order of eviction is that of the whole.
const ONE_SHARD: u64 = 1024;
/// Shards for each thread that can run at once: few enough that what a writer needs of them stays in its caches, and so
/// many that two writers seldom meet.
const SHARDS_A_THREAD: usize = 8;
const MOST_SHARDS: usize = 256;
/// Up to here it is remembered how often keys came: loops over a little more than fits are common in front of small
/// caches, and what a count costs does not matter yet. In larger ones it gains nothing, and more is in flux.
const MOST_COUNTED: usize = 16 << 10;
/// Where weights count, what was removed and not yet dropped is at most one part in so many of the bound, and what is read.
const MOST_GARBAGE: u64 = 32;

pub(crate) struct Store<K, V, S> {
    pub(super) shards: Box<[Shard<K, V>]>,
    pub(super) account: Account,
    /// One less than the number of shards, which is a power of two.
    mask: usize,
    /// A shard that holds less looks for room elsewhere first.
    poor: u64,
    sizing: Sizing,
    hasher: S,
}

impl<K, V, S> Store<K, V, S> {
    pub(crate) fn new(settings: Settings, hasher: S) -> Store<K, V, S> {
        let account = Account::new(settings.bound);
        let exact_order = settings.eviction == Eviction::Lru;
        let threads = std::thread::available_parallelism().map_or(8, usize::from);
        let most_shards = (SHARDS_A_THREAD * threads).next_power_of_two().min(MOST_SHARDS);
        let shards = match settings.bound {
            _ if exact_order => 1,
            _ if account.limit() <= ONE_SHARD => 1,
            Bound::Entries(entries) => (entries / 1024).next_power_of_two().clamp(2, most_shards),
            Bound::Weight(_) | Bound::Unbounded => most_shards,
        };
        let sizing = match settings.bound {
            Bound::Entries(entries) => Sizing::for_entries(entries.div_ceil(shards)),
            Bound::Weight(_) | Bound::Unbounded => Sizing::unknown(),
        };
        let bounded = settings.bound != Bound::Unbounded;
        let most_garbage =
            if account.is_weighted() { account.limit() / MOST_GARBAGE / shards as u64 } else { u64::MAX };
        let ground = match settings.bound {
            Bound::Entries(entries) => {
                let bucket = Table::<K, V>::bytes_of_bucket() + Queues::bytes_of_bucket() + Lines::bytes_of_bucket();
                let tables = sizing.target.saturating_mul(shards).saturating_mul(bucket);
                Ground::for_bytes(entries.saturating_mul(size_of::<Entry<K, V>>()).saturating_add(tables))
            }
            Bound::Weight(_) | Bound::Unbounded => Ground::new(),
        };
        let shard = |index: usize| {
            let seed = (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let policy = match settings.bound {
                _ if exact_order => Policy::Lru(Order::default()),
                Bound::Entries(entries) if entries <= MOST_COUNTED => {
                    Policy::Frequency(Frequency::new(entries.div_ceil(shards)))
                }
                _ => Policy::S3Fifo(Queues::new(&ground, 0)),
            };
            let state = State::new(Arc::clone(&ground), account.is_weighted(), policy, seed);
            Shard::new(state, Choices { prompt: settings.prompt_drop, bounded, exact_order, most_garbage })
        };
        let shards: Box<[_]> = (0..shards).map(shard).collect();
        let share = account.limit() / shards.len() as u64;
        let poor = if shards.len() > 1 { share - share / 4 } else { 0 };
        Store { mask: shards.len() - 1, poor, shards, account, sizing, hasher }
    }

    /// Entries, those included that are just being put.
    pub(crate) fn len(&self) -> usize {
        match self.account.bound() {
            Bound::Entries(_) => usize::try_from(self.account.taken()).unwrap_or(usize::MAX),
            Bound::Weight(_) | Bound::Unbounded => {
                self.shards.iter().map(|shard| shard.len.load(Ordering::Relaxed)).sum()
            }
        }
    }

    /// The weight of all entries; one for each where weights do not count.
    pub(crate) fn weight(&self) -> u64 {
        if self.account.is_weighted() { self.account.taken() } else { self.len() as u64 }
    }

    pub(crate) fn bound(&self) -> Bound {
        self.account.bound()
    }
}

impl<K: Hash + Eq, V, S: BuildHasher + 'static> Store<K, V, S> {
    /// The hash that all other methods want. Spread, unless it is known to be: so that a weak hasher costs no more than it
    /// must.
    #[allow(clippy::manual_hash_one, reason = "see within")]
    #[inline]
    pub(crate) fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        // Not by `hash_one`: a hasher may have a way of its own there for some types, as `ahash` has where it can specialize, and a
        // key and its borrowed form must hash alike whatever their types are.
        let mut hasher = self.hasher.build_hasher();
        key.hash(&mut hasher);
        let hash = hasher.finish();
        if TypeId::of::<S>() == TypeId::of::<ahash::RandomState>() {
            return hash;
        }
        let product = u128::from(hash) * 0x9E37_79B9_7F4A_7C15_u128;
        (product >> 64) as u64 ^ product as u64
    }

    #[inline]
    pub(super) fn index(&self, hash: u64) -> usize {
        (hash >> 52) as usize & self.mask
    }

    #[inline(always)]
    fn shard(&self, hash: u64) -> &Shard<K, V> {
        // SAFETY: the mask is one less than the number of shards.
        unsafe { self.shards.get_unchecked(self.index(hash)) }
    }

    /// The lock-free read in its likely course; what it does not find, [`Store::find`] may. Counts as a use.
    #[inline(always)]
    pub(crate) fn glance<Q: AsKey<K> + ?Sized>(&self, hash: u64, key: &Q) -> Glanced<'_, K, V> {
        self.shard(hash).glance(hash, key)
    }

    /// The lock-free read. Counts as a use.
    #[inline]
    pub(crate) fn find<Q: AsKey<K> + ?Sized>(&self, hash: u64, key: &Q) -> Option<Ref<'_, K, V>> {
        self.shard(hash).find(hash, key, true)
    }

    /// As [`Store::find`], but no use is counted.
    #[inline]
    pub(crate) fn peek<Q: AsKey<K> + ?Sized>(&self, hash: u64, key: &Q) -> Option<Ref<'_, K, V>> {
        self.shard(hash).find(hash, key, false)
    }

    /// As [`Store::peek`], under the shard's lock: nothing is dropped on the way, for who holds another lock meanwhile.
    pub(crate) fn peek_locked<Q: AsKey<K> + ?Sized>(&self, hash: u64, key: &Q) -> Option<Ref<'_, K, V>> {
        let shard = self.shard(hash);
        let state = shard.lock();
        let (place, _) = shard.locate(&state.reach, hash, |entry| key.is(&entry.key))?;
        let node = shard.table(&state.reach)?.node(place)?;
        Some(Ref::new(node, Hazard::guard_locked(node.address()), shard))
    }

    /// Asks for the memory that a write of this key is going to need.
    #[inline]
    pub(crate) fn prepare(&self, hash: u64) {
        self.shard(hash).prepare_unlocked(hash);
    }

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
        match self.try_to_put(&asked, offered, insertion, &mut admit) {
            Tried::Done => true,
            Tried::NotAdmitted => false,
            Tried::NoRoom => self.put_when_room_is(&asked, offered, insertion, &mut admit),
        }
    }

    /// All room is in the hands of other writers. What this one held has gone back, so that one of them gets on.
    #[cold]
    #[inline(never)]
    fn put_when_room_is<'s>(
        &'s self,
        asked: &Asked,
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
        asked: &Asked,
        offered: &mut Option<Entry<K, V>>,
        insertion: &mut Insertion<'s, K, V>,
        admit: &mut impl FnMut(Option<&Entry<K, V>>) -> bool,
    ) -> Tried {
        let &Asked { hash, terms, .. } = asked;
        let shard = self.shard(hash);
        let mut state = shard.lock();
        shard.prepare(&state, hash);
        let is_of_this_key = |other: &Entry<K, V>| offered.as_ref().is_some_and(|new| new.key == other.key);
        let found = shard.locate(&state.reach, hash, is_of_this_key);
        let admitted = admit(found.map(|(_, entry)| entry));
        let tried = match found.map(|(place, _)| place) {
            _ if !admitted => Tried::NotAdmitted,
            found if terms.cost > self.account.limit() => self.refuse(shard, &mut state, found, offered, insertion),
            None => self.put_new(shard, &mut state, asked, offered, insertion),
            Some(place) => self.put_instead(shard, &mut state, asked, place, offered, insertion),
        };
        // Also what went in an earlier turn is not left lying about.
        shard.leave(&mut state, insertion);
        tried
    }

    /// Hands back what is too heavy, and takes out what it was to replace.
    #[cold]
    #[inline(never)]
    fn refuse<'s>(
        &'s self,
        shard: &'s Shard<K, V>,
        state: &mut State<K, V>,
        found: Option<Place>,
        offered: &mut Option<Entry<K, V>>,
        insertion: &mut Insertion<'s, K, V>,
    ) -> Tried {
        if let Some(place) = found {
            insertion.see().replaced = self.take(shard, state, place);
        }
        insertion.see().refused = offered.take();
        Tried::Done
    }

    /// Puts an entry whose key is not there.
    #[inline(always)]
    fn put_new<'s>(
        &'s self,
        shard: &'s Shard<K, V>,
        state: &mut State<K, V>,
        asked: &Asked,
        offered: &mut Option<Entry<K, V>>,
        insertion: &mut Insertion<'s, K, V>,
    ) -> Tried {
        let mut permit = Permit::empty(&self.account);
        while !permit.reaches(asked.terms.cost) {
            match self.make_room(shard, state, asked, None, insertion) {
                Some(units) => permit.add(units),
                None => return Tried::NoRoom,
            }
        }
        shard.make_place(state, self.sizing, &|key: &K| self.hash(key));
        let Some(entry) = offered.take() else { return Tried::NotAdmitted };
        shard.put(state, asked.hash, entry, asked.terms);
        permit.spend(asked.terms.cost);
        Tried::Done
    }

    /// Puts an entry in the place of the one that its key has.
    #[inline(always)]
    fn put_instead<'s>(
        &'s self,
        shard: &'s Shard<K, V>,
        state: &mut State<K, V>,
        asked: &Asked,
        place: Place,
        offered: &mut Option<Entry<K, V>>,
        insertion: &mut Insertion<'s, K, V>,
    ) -> Tried {
        let old_cost = shard.cost_at(state, place);
        // What is left of it goes back when the older entry has gone.
        let permit = match old_cost == asked.terms.cost {
            true => Some(Permit::empty(&self.account)),
            false => self.permit_to_replace(shard, state, asked, (place, old_cost), insertion),
        };
        if permit.is_none() {
            return Tried::NoRoom;
        }
        let Some(entry) = offered.take() else { return Tried::NotAdmitted };
        if let Some(old) = shard.replace(state, place, entry, asked.terms, old_cost) {
            if insertion.are_departures_wanted() {
                insertion.see().replaced = Some(shard.hand_out(state, old, old_cost));
            } else {
                shard.discard(state, old, old_cost);
                insertion.unseen.replaced = 1;
            }
        }
        Tried::Done
    }

    /// What is to be given back when the older entry has gone, if there is room for what the new one costs more.
    #[inline(never)]
    fn permit_to_replace<'s>(
        &'s self,
        shard: &'s Shard<K, V>,
        state: &mut State<K, V>,
        asked: &Asked,
        (place, old_cost): (Place, u64),
        insertion: &mut Insertion<'s, K, V>,
    ) -> Option<Permit<'s>> {
        let need = asked.terms.cost.saturating_sub(old_cost);
        let mut permit = Permit::empty(&self.account);
        while !permit.reaches(need) {
            permit.add(self.make_room_beside(shard, state, asked, place, insertion)?);
        }
        permit.spend(need);
        permit.add(old_cost.saturating_sub(asked.terms.cost));
        Some(permit)
    }

    /// Removes the entry of this key. Nothing is dropped before what it returns is.
    pub(crate) fn remove<Q: AsKey<K> + ?Sized>(&self, hash: u64, key: &Q) -> Option<Removed<'_, K, V>> {
        let shard = self.shard(hash);
        let mut state = shard.lock();
        let place = shard.locate(&state.reach, hash, |entry| key.is(&entry.key)).map(|found| found.0);
        place.and_then(|place| self.take(shard, &mut state, place))
    }

    /// Removes the entry if it is still that very one, not only one of the same key.
    pub(crate) fn remove_exact(&self, found: &Ref<'_, K, V>) -> Option<Removed<'_, K, V>> {
        let hash = self.hash(&found.key);
        let shard = self.shard(hash);
        let mut state = shard.lock();
        let place = shard.locate(&state.reach, hash, |entry| found.is_same(entry)).map(|found| found.0);
        place.and_then(|place| self.take(shard, &mut state, place))
    }

    /// Takes an entry out and gives back what it cost.
    pub(super) fn take<'s>(
        &self,
        shard: &'s Shard<K, V>,
        state: &mut State<K, V>,
        place: Place,
    ) -> Option<Removed<'s, K, V>> {
        let cost = shard.cost_at(state, place);
        let node = shard.take_out(state, place, cost, false, &|key| self.hash(key))?;
        self.account.give_back(cost);
        Some(shard.hand_out(state, node, cost))
    }

    /// Makes room: in the shard whose lock is held if it has its share of the cache, else in another one. Returns the
    /// units that this freed.
    #[inline(always)]
    fn make_room<'s>(
        &'s self,
        shard: &'s Shard<K, V>,
        state: &mut State<K, V>,
        asked: &Asked,
        spared: Option<Place>,
        insertion: &mut Insertion<'s, K, V>,
    ) -> Option<u64> {
        let &Asked { hash, now, .. } = asked;
        let poor = state.held < self.poor;
        if poor && let Some(units) = self.make_room_elsewhere(shard, state, now, insertion) {
            return Some(units);
        }
        if let Some(evicted) = shard.evict(state, hash, spared, now, &|key| self.hash(key)) {
            return Some(shard.depart(state, evicted, insertion));
        }
        if poor { None } else { self.make_room_elsewhere(shard, state, now, insertion) }
    }

    /// As [`make_room`](Store::make_room), but for this entry.
    #[inline(never)]
    fn make_room_beside<'s>(
        &'s self,
        shard: &'s Shard<K, V>,
        state: &mut State<K, V>,
        asked: &Asked,
        spared: Place,
        insertion: &mut Insertion<'s, K, V>,
    ) -> Option<u64> {
        self.make_room(shard, state, asked, Some(spared), insertion)
    }

    /// Makes room in a shard other than `own`, whose lock is held: so this one never waits for another lock.
    #[inline(never)]
    fn make_room_elsewhere<'s>(
        &'s self,
        own: &'s Shard<K, V>,
        own_state: &mut State<K, V>,
        now: Moment,
        insertion: &mut Insertion<'s, K, V>,
    ) -> Option<u64> {
        let count = self.shards.len();
        let (one, two) = (own_state.clock.below(count), own_state.clock.below(count));
        let len = |index: usize| self.shards[index].len.load(Ordering::Relaxed);
        let first = if len(one) < len(two) { two } else { one };
        for step in 0..count {
            let shard = &self.shards[(first + step) % count];
            if std::ptr::eq(shard, own) || shard.len.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let Some(mut state) = shard.try_lock() else { continue };
            let hash = (own_state.clock.below(1 << 31) as u64) << 17;
            if let Some(evicted) = shard.evict(&mut state, hash, None, now, &|key| self.hash(key)) {
                let units = shard.depart(&mut state, evicted, insertion);
                shard.leave(&mut state, insertion);
                return Some(units);
            }
        }
        None
    }
}
