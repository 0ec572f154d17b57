//! The caches that are measured, all behind one small trait.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use ahash::RandomState;
use everfresh::{Cache, Lifetime};

pub type Key = u64;

/// A cache of `V` by `u64`, as far as the workloads need it. The loops over keys are part of the trait, so that they are
/// compiled for each peer and no call through a table stands between them and the cache.
pub trait Peer<V: Value>: Send + Sync {
    fn get(&self, key: Key) -> Option<V>;
    fn insert(&self, key: Key, value: V);
    /// Its own way to load what is missing, if it has one.
    fn get_or_load(&self, _key: Key, _value: V) -> Option<V> {
        None
    }
    /// Entries held.
    fn len(&self) -> usize;

    /// Reads all; how many were there.
    fn read_all(&self, keys: &[Key]) -> usize {
        keys.iter().filter(|key| black_box(self.get(**key)).is_some()).count()
    }

    /// Every fourth key is written, whatever it is; the others are read.
    fn mix_all(&self, keys: &[Key]) -> usize {
        let mut hits = 0;
        for (turn, key) in keys.iter().enumerate() {
            if turn % 4 == 0 {
                self.insert(*key, V::from(*key));
            } else {
                hits += usize::from(black_box(self.get(*key)).is_some());
            }
        }
        hits
    }

    /// Reads all, and writes what is missing.
    fn read_through_all(&self, keys: &[Key]) -> usize {
        let mut hits = 0;
        for key in keys {
            match black_box(self.get(*key)) {
                Some(_) => hits += 1,
                None => self.insert(*key, V::from(*key)),
            }
        }
        hits
    }

    /// The same by its own loading call.
    fn load_all(&self, keys: &[Key]) -> usize {
        keys.iter().filter(|key| black_box(self.get_or_load(**key, V::from(**key))).is_some()).count()
    }

    /// Writes all.
    fn write_all(&self, keys: &[Key]) -> usize {
        keys.iter().for_each(|key| self.insert(*key, V::from(*key)));
        keys.len()
    }
}

/// What a value must be able to do for all peers.
pub trait Value: Clone + Send + Sync + From<u64> + 'static {}
impl<V: Clone + Send + Sync + From<u64> + 'static> Value for V {}

const HOUR: Duration = Duration::from_secs(3600);

pub const BOUNDED: &[&str] = &["everfresh", "quick_cache", "moka", "foyer-s3fifo", "fibre", "cached", "lru"];
pub const ALL: &[&str] =
    &["everfresh", "papaya", "quick_cache", "scc", "moka", "foyer-s3fifo", "fibre", "fibre-swr", "cached"];

/// A peer by name; `None` for a name that nobody has.
pub fn make<V: Value>(name: &str, capacity: usize) -> Option<Box<dyn Peer<V>>> {
    let hasher = RandomState::new();
    Some(match name {
        "everfresh" => Box::new(Everfresh(
            Cache::builder().capacity(capacity).lifetime(Lifetime::ttl(HOUR)).hasher(hasher).build().ok()?,
        )),
        "everfresh-lru" => Box::new(Everfresh(
            Cache::builder().capacity(capacity).eviction(everfresh::Eviction::Lru).hasher(hasher).build().ok()?,
        )),
        "papaya" => Box::new(papaya::HashMap::with_hasher(hasher)),
        "quick_cache" => Box::new(quick_cache::sync::Cache::<Key, V, _, _>::with(
            capacity,
            capacity as u64,
            quick_cache::UnitWeighter,
            hasher,
            quick_cache::sync::DefaultLifecycle::default(),
        )),
        "scc" => Box::new(scc::HashCache::with_capacity_and_hasher(capacity, capacity, hasher)),
        "moka" => Box::new(
            moka::sync::Cache::builder().max_capacity(capacity as u64).time_to_live(HOUR).build_with_hasher(hasher),
        ),
        "foyer-s3fifo" => Box::new(
            foyer::CacheBuilder::new(capacity)
                .with_eviction_config(foyer::S3FifoConfig::default())
                .with_hash_builder(hasher)
                .build(),
        ),
        "fibre" => Box::new(Fibre(
            fibre_cache::CacheBuilder::<Key, V, RandomState>::default()
                .capacity(capacity as u64)
                .time_to_live(HOUR)
                .build()
                .ok()?,
        )),
        "fibre-swr" => Box::new(FibreSwr(
            fibre_cache::CacheBuilder::<Key, V, RandomState>::default()
                .capacity(capacity as u64)
                .time_to_live(HOUR)
                .stale_while_revalidate(HOUR)
                .loader(|_| unreachable!("all keys of this row are there"))
                .build()
                .ok()?,
        )),
        "cached" => Box::new(cached::ShardedLruCache::new(capacity)),
        "lru" => Box::new(Lru(std::sync::Mutex::new(lru::LruCache::with_hasher(
            std::num::NonZeroUsize::new(capacity)?,
            hasher,
        )))),
        _ => return None,
    })
}

struct Everfresh<V>(Cache<Key, V, RandomState>);

impl<V: Value> Peer<V> for Everfresh<V> {
    fn get(&self, key: Key) -> Option<V> {
        self.0.get(&key)
    }
    fn insert(&self, key: Key, value: V) {
        self.0.insert(key, value);
    }
    fn get_or_load(&self, key: Key, value: V) -> Option<V> {
        self.0.get_or_load(&key, move || value).ok()
    }
    fn len(&self) -> usize {
        self.0.len()
    }
}

impl<V: Value> Peer<V> for papaya::HashMap<Key, V, RandomState> {
    fn get(&self, key: Key) -> Option<V> {
        self.pin().get(&key).cloned()
    }
    fn insert(&self, key: Key, value: V) {
        self.pin().insert(key, value);
    }
    fn len(&self) -> usize {
        self.pin().len()
    }
}

impl<V: Value> Peer<V> for quick_cache::sync::Cache<Key, V, quick_cache::UnitWeighter, RandomState> {
    fn get(&self, key: Key) -> Option<V> {
        quick_cache::sync::Cache::get(self, &key)
    }
    fn insert(&self, key: Key, value: V) {
        quick_cache::sync::Cache::insert(self, key, value);
    }
    fn get_or_load(&self, key: Key, value: V) -> Option<V> {
        self.get_or_insert_with(&key, || Ok::<V, ()>(value)).ok()
    }
    fn len(&self) -> usize {
        quick_cache::sync::Cache::len(self)
    }
}

impl<V: Value> Peer<V> for scc::HashCache<Key, V, RandomState> {
    fn get(&self, key: Key) -> Option<V> {
        self.read_sync(&key, |_, value| value.clone())
    }
    fn insert(&self, key: Key, value: V) {
        match self.entry_sync(key) {
            scc::hash_cache::Entry::Occupied(mut found) => {
                found.put(value);
            }
            scc::hash_cache::Entry::Vacant(free) => {
                drop(free.put_entry(value));
            }
        }
    }
    fn len(&self) -> usize {
        scc::HashCache::len(self)
    }
}

impl<V: Value> Peer<V> for moka::sync::Cache<Key, V, RandomState> {
    fn get(&self, key: Key) -> Option<V> {
        moka::sync::Cache::get(self, &key)
    }
    fn insert(&self, key: Key, value: V) {
        moka::sync::Cache::insert(self, key, value);
    }
    fn get_or_load(&self, key: Key, value: V) -> Option<V> {
        Some(self.get_with(key, || value))
    }
    fn len(&self) -> usize {
        self.run_pending_tasks();
        self.entry_count() as usize
    }
}

impl<V: Value> Peer<V> for foyer::Cache<Key, V, RandomState> {
    fn get(&self, key: Key) -> Option<V> {
        foyer::Cache::get(self, &key).map(|entry| entry.value().clone())
    }
    fn insert(&self, key: Key, value: V) {
        drop(foyer::Cache::insert(self, key, value));
    }
    fn len(&self) -> usize {
        self.usage()
    }
}

struct Fibre<V: Send + Sync + 'static>(fibre_cache::Cache<Key, V, RandomState>);

impl<V: Value> Peer<V> for Fibre<V> {
    fn get(&self, key: Key) -> Option<V> {
        self.0.fetch(&key).map(|value| V::clone(&value))
    }
    fn insert(&self, key: Key, value: V) {
        self.0.insert(key, value, 1);
    }
    fn len(&self) -> usize {
        self.0.metrics().current_cost as usize
    }
}

/// Its path that can serve stale, which checks the time exactly.
struct FibreSwr<V: Send + Sync + 'static>(fibre_cache::Cache<Key, V, RandomState>);

impl<V: Value> Peer<V> for FibreSwr<V> {
    fn get(&self, key: Key) -> Option<V> {
        Some(V::clone(&self.0.fetch_with(&key)))
    }
    fn insert(&self, key: Key, value: V) {
        self.0.insert(key, value, 1);
    }
    fn len(&self) -> usize {
        self.0.metrics().current_cost as usize
    }
}

impl<V: Value> Peer<V> for cached::ShardedLruCache<Key, V> {
    fn get(&self, key: Key) -> Option<V> {
        cached::ShardedLruCache::get(self, &key)
    }
    fn insert(&self, key: Key, value: V) {
        self.set(key, value);
    }
    fn get_or_load(&self, key: Key, value: V) -> Option<V> {
        Some(self.get_or_set_with(key, || value))
    }
    fn len(&self) -> usize {
        cached::ShardedLruCache::len(self)
    }
}

/// Exact least-recently-used behind one lock.
struct Lru<V>(std::sync::Mutex<lru::LruCache<Key, V, RandomState>>);

impl<V: Value> Peer<V> for Lru<V> {
    fn get(&self, key: Key) -> Option<V> {
        self.0.lock().expect("no panic inside").get(&key).cloned()
    }
    fn insert(&self, key: Key, value: V) {
        self.0.lock().expect("no panic inside").put(key, value);
    }
    fn len(&self) -> usize {
        self.0.lock().expect("no panic inside").len()
    }
}

/// Strings to shared bytes, looked up by `&str`.
pub trait StrPeer: Send + Sync {
    fn get(&self, key: &str) -> Option<Arc<[u8; 256]>>;
    fn insert(&self, key: String, value: Arc<[u8; 256]>);

    /// Reads all; how many were there.
    fn read_all(&self, names: &[String], keys: &[Key]) -> usize {
        keys.iter().filter(|key| black_box(self.get(&names[**key as usize])).is_some()).count()
    }
}

pub const STRINGS: &[&str] = &["everfresh", "papaya", "quick_cache", "moka"];

pub fn make_str(name: &str, capacity: usize) -> Option<Box<dyn StrPeer>> {
    let hasher = RandomState::new();
    Some(match name {
        "everfresh" => Box::new(StrEverfresh(
            Cache::builder().capacity(capacity).lifetime(Lifetime::ttl(HOUR)).hasher(hasher).build().ok()?,
        )),
        "papaya" => Box::new(papaya::HashMap::with_hasher(hasher)),
        "quick_cache" => Box::new(quick_cache::sync::Cache::<String, Arc<[u8; 256]>, _, _>::with(
            capacity,
            capacity as u64,
            quick_cache::UnitWeighter,
            hasher,
            quick_cache::sync::DefaultLifecycle::default(),
        )),
        "moka" => Box::new(
            moka::sync::Cache::builder().max_capacity(capacity as u64).time_to_live(HOUR).build_with_hasher(hasher),
        ),
        _ => return None,
    })
}

struct StrEverfresh(Cache<String, Arc<[u8; 256]>, RandomState>);

impl StrPeer for StrEverfresh {
    fn get(&self, key: &str) -> Option<Arc<[u8; 256]>> {
        self.0.get(key)
    }
    fn insert(&self, key: String, value: Arc<[u8; 256]>) {
        self.0.insert(key, value);
    }
}

impl StrPeer for papaya::HashMap<String, Arc<[u8; 256]>, RandomState> {
    fn get(&self, key: &str) -> Option<Arc<[u8; 256]>> {
        self.pin().get(key).cloned()
    }
    fn insert(&self, key: String, value: Arc<[u8; 256]>) {
        self.pin().insert(key, value);
    }
}

impl StrPeer for quick_cache::sync::Cache<String, Arc<[u8; 256]>, quick_cache::UnitWeighter, RandomState> {
    fn get(&self, key: &str) -> Option<Arc<[u8; 256]>> {
        quick_cache::sync::Cache::get(self, key)
    }
    fn insert(&self, key: String, value: Arc<[u8; 256]>) {
        quick_cache::sync::Cache::insert(self, key, value);
    }
}

impl StrPeer for moka::sync::Cache<String, Arc<[u8; 256]>, RandomState> {
    fn get(&self, key: &str) -> Option<Arc<[u8; 256]>> {
        moka::sync::Cache::get(self, key)
    }
    fn insert(&self, key: String, value: Arc<[u8; 256]>) {
        moka::sync::Cache::insert(self, key, value);
    }
}
