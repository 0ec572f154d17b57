//! The store: shards, and the one bound over them all.
#![allow(unsafe_code, reason = "the read path picks its shard without a check of the bounds")]

use std::any::TypeId;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use crate::entry::Entry;
use crate::key::AsKey;
use crate::store::bound::{Account, Bound, Eviction, Settings};
use crate::store::frequency::Frequency;
use crate::store::ground::Ground;
use crate::store::guard::{Glanced, Ref, Removed};
use crate::store::hazard::Hazard;
use crate::store::lru::Order;
use crate::store::policy::Policy;
use crate::store::s3::Queues;
use crate::store::shard::{Choices, Shard};
use crate::store::state::{Lines, State};
use crate::store::table::{Place, Table};
use crate::store::writer::Sizing;
use crate::store::yard::Yards;
use crate::sync::Ordering;

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
    pub(super) poor: u64,
    pub(super) sizing: Sizing,
    pub(super) yards: Arc<Yards<K, V>>,
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
            Bound::Entries(entries) if entries <= MOST_COUNTED && !exact_order => {
                Sizing::for_few_entries(entries.div_ceil(shards))
            }
            Bound::Entries(entries) => Sizing::for_entries(entries.div_ceil(shards)),
            Bound::Weight(_) | Bound::Unbounded => Sizing::unknown(),
        };
        let bounded = settings.bound != Bound::Unbounded;
        let most_garbage = if account.is_weighted() { account.limit() / MOST_GARBAGE } else { u64::MAX };
        let ground = match settings.bound {
            Bound::Entries(entries) => {
                let bucket = Table::<K, V>::bytes_of_bucket() + Queues::bytes_of_bucket() + Lines::bytes_of_bucket();
                let tables = sizing.target.saturating_mul(shards).saturating_mul(bucket);
                Ground::for_bytes(entries.saturating_mul(size_of::<Entry<K, V>>()).saturating_add(tables))
            }
            Bound::Weight(_) | Bound::Unbounded => Ground::new(),
        };
        let yards = Arc::new(Yards::new(Arc::clone(&ground), shards, settings.prompt_drop, most_garbage));
        let shard = |index: usize| {
            let seed = (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let policy = match settings.bound {
                _ if exact_order => Policy::Lru(Order::default()),
                Bound::Entries(entries) if entries <= MOST_COUNTED => {
                    Policy::Frequency(Frequency::new(entries.div_ceil(shards)))
                }
                _ => Policy::S3Fifo(Queues::new(&ground, 0)),
            };
            let state = State::new(Arc::clone(&ground), account.is_weighted(), settings.since, policy, seed);
            Shard::new(state, Arc::clone(&yards), Choices { bounded, exact_order })
        };
        let shards: Box<[_]> = (0..shards).map(shard).collect();
        let share = account.limit() / shards.len() as u64;
        let poor = if shards.len() > 1 { share - share / 4 } else { 0 };
        Store { mask: shards.len() - 1, poor, shards, yards, account, sizing, hasher }
    }

    /// Tells that an entry of this store is going to have [something apart](Entry::has_something_apart). To be told before it has that,
    /// by who has a guard of it until then.
    pub(crate) fn note_something_apart(&self) {
        self.yards.note_something_apart();
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
    pub(super) fn shard(&self, hash: u64) -> &Shard<K, V> {
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
        Some(shard.hand_out(&mut self.yards.enter(), node, cost, state.len))
    }
}
