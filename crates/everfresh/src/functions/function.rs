//! One cached function: its cache, its name, and the ways into it that the macros write.

use std::fmt;
use std::future::Future;

use crate::builder::Builder;
use crate::cache::Cache;
use crate::coalesce::{Answer, Bounds, Later};
use crate::drive::drive;
use crate::engine::{Key, Value};
use crate::error::LoadError;
use crate::event::{Event, Outcome, RefreshStatus, Subscription};
use crate::functions::gate::Gated;
use crate::functions::registry::{Kind, registry, runtime};
use crate::handle::{Asked, Refreshing, refresh_all};
use crate::hit::AtOnce;
use crate::key::AsKey;
use crate::load::{IntoLoad, Loaded, Previous};
use crate::loader::{Async, Blocking, Detached, Gate, Loader, Made};
use crate::stats::Stats;

/// The cache behind one function that is marked `#[cache_data]` or `#[cache_resource]`: what its `handle()` returns.
///
/// Keys are the arguments that are not skipped, in their owned forms: nothing for none, the argument itself for one, a tuple
/// for more. The companions of the function take its arguments instead and are handier; this is for everything else.
pub struct CachedFunction<K, V> {
    name: &'static str,
    kind: Kind,
    cache: Cache<K, V>,
    /// What a value has to pass before it is served, after the one who made it had it.
    gate: Option<Gate<V>>,
}

impl<K: Key, V: Value> CachedFunction<K, V> {
    /// Written by the macros: makes the cache at the first call, and enters it in the registry.
    ///
    /// # Panics
    /// If the choices make no sense and could not be refused at compile time; the message names the cure.
    #[doc(hidden)]
    pub fn new(
        kind: Kind,
        name: &'static str,
        choose: impl FnOnce(Builder<K, V>) -> Builder<K, V>,
    ) -> CachedFunction<K, V> {
        let builder = Cache::builder().refresh_pool(runtime().pool()).outlasts_others();
        let cache = match choose(builder).build() {
            Ok(cache) => cache,
            Err(error) => panic!("the cached function {name} cannot have these arguments: {error}"),
        };
        registry().enter(kind, name, &cache);
        CachedFunction { name, kind, cache, gate: None }
    }

    /// Written by the macros: asked before each serve.
    #[doc(hidden)]
    #[must_use]
    pub fn validate(self, gate: fn(&V) -> bool) -> CachedFunction<K, V> {
        CachedFunction { gate: Some(gate), ..self }
    }

    /// The name: where the function stands, unless it was given another one.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its cache, with all that a cache can do. It does not ask `validate`.
    pub fn cache(&self) -> &Cache<K, V> {
        &self.cache
    }

    /// Forgets everything; what is being loaded is not stored (contract I1).
    pub fn clear(&self) {
        match self.kind {
            Kind::Data | Kind::Cache => self.cache.clear(),
            // Resources are given back now, and by nobody else, who might still be at it when this returns.
            Kind::Resource => self.cache.clear_at_once(),
        }
    }

    /// Forgets one key; if it is being loaded, the result is not stored (contract I1).
    pub fn clear_for<Q: AsKey<K> + ?Sized>(&self, key: &Q) {
        self.cache.invalidate(key);
    }

    /// Makes everything stale: the next reader of each gets the old value once more if a window allows.
    pub fn expire(&self) {
        self.cache.expire_all();
    }

    /// Makes one key stale: its next reader gets the old value once more if a window allows.
    pub fn expire_for<Q: AsKey<K> + ?Sized>(&self, key: &Q) {
        self.cache.expire(key);
    }

    /// What may be served, without loading, counting or refreshing anything.
    pub fn peek<Q: AsKey<K> + ?Sized>(&self, key: &Q) -> Option<V> {
        self.cache.peek(key).filter(|value| self.passes(value))
    }

    /// A snapshot of its counters.
    pub fn stats(&self) -> Stats {
        self.cache.stats()
    }

    /// Gets every event of this function from now on; see [`Cache::subscribe`].
    pub fn subscribe(&self, listener: impl Fn(&Event<'_, K, V>) + Send + Sync + 'static) -> Subscription {
        self.cache.subscribe(listener)
    }

    /// The fresh value that most calls find. Whoever does not get it has to make the owned key, so one key in 256, which a glance
    /// does not find, is looked for once more.
    #[doc(hidden)]
    #[inline]
    pub fn hit<Q: AsKey<K> + ?Sized>(&self, key: &Q) -> Option<V> {
        if self.gate.is_none() {
            match self.cache.engine.get_at_once(self.cache.hash(key), key) {
                AtOnce::Value(value) => return Some(value),
                AtOnce::Absent => return None,
                AtOnce::Unknown => {}
            }
        }
        self.hit_that_passes(key)
    }

    #[inline(never)]
    fn hit_that_passes<Q: AsKey<K> + ?Sized>(&self, key: &Q) -> Option<V> {
        let engine = &self.cache.engine;
        let found = engine.store.find(self.cache.hash(key), key)?;
        if !engine.is_fresh(&found) {
            return None;
        }
        if !self.passes(&found.value) {
            engine.refuse(&found);
            return None;
        }
        let age = engine.clock.now().since(found.loaded_at());
        engine.conclude(Some(&found.key), Outcome::Hit, Some(age), RefreshStatus::NotNeeded);
        Some(found.value.clone())
    }

    fn passes(&self, value: &V) -> bool {
        self.gate.is_none_or(|gate| gate(value))
    }

    /// Loads on this thread with a loader that may borrow; nothing runs behind.
    #[doc(hidden)]
    pub fn answer_here<Q, F, E>(&self, key: &Q, load: F) -> Result<Answer<V>, LoadError<E>>
    where
        Q: AsKey<K> + ?Sized,
        F: FnOnce() -> Result<Loaded<V>, E>,
        E: Send + Sync + 'static,
    {
        let (cache, gate) = (&self.cache, self.gate);
        let loader = Gated { loader: Here(move || std::future::ready(load())), gate };
        drive(cache.engine.obtain(cache.hash(key), key, aged(cache), loader))
    }

    /// As `answer_here` in a task.
    #[doc(hidden)]
    pub async fn answer_here_async<Q, F, Fut, E>(&self, key: &Q, load: F) -> Result<Answer<V>, LoadError<E>>
    where
        Q: AsKey<K> + ?Sized,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<Loaded<V>, E>>,
        E: Send + Sync + 'static,
    {
        let (cache, gate) = (&self.cache, self.gate);
        let loader = Gated { loader: Here(load), gate };
        cache.engine.obtain(cache.hash(key), key, aged(cache), loader).await
    }

    /// Loads with a loader that owns what it needs, and refreshes with it what is stale.
    #[doc(hidden)]
    pub fn answer<Q, F, E>(&self, key: &Q, load: F) -> Result<Answer<V>, LoadError<E>>
    where
        Q: AsKey<K> + ?Sized,
        F: FnOnce() -> Result<Loaded<V>, E> + Send + 'static,
        E: Send + Sync + 'static,
    {
        let (cache, gate) = (&self.cache, self.gate);
        if gate.is_none() {
            return cache.lookup(key).load(load);
        }
        let loader = Gated { loader: Blocking::<_, false>(move |_| load()), gate };
        drive(cache.engine.obtain(cache.hash(key), key, aged(cache), loader))
    }

    /// As `answer` in a task.
    #[doc(hidden)]
    pub async fn answer_async<Q, F, Fut, E>(&self, key: &Q, load: F) -> Result<Answer<V>, LoadError<E>>
    where
        Q: AsKey<K> + Sync + ?Sized,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        let (cache, gate) = (&self.cache, self.gate);
        if gate.is_none() {
            return cache.lookup(key).load_async(load).await;
        }
        let loader = Gated { loader: Async::<_, false>(move |_| load()), gate };
        let later: Later<'_, V, E> = Box::pin(cache.engine.obtain(cache.hash(key), key, aged(cache), loader));
        later.await
    }

    /// Loads those keys that have no fresh value, as many at once as the pool has room for; returns how many of all have a
    /// value that may be served afterwards.
    #[doc(hidden)]
    pub fn warm(
        &self,
        keys: impl IntoIterator<Item = K>,
        refresh: impl Fn(&K) -> Refreshing<K, V, ahash::RandomState>,
    ) -> usize {
        drive(self.warm_async(keys, refresh))
    }

    /// As `warm` in a task.
    #[doc(hidden)]
    pub async fn warm_async(
        &self,
        keys: impl IntoIterator<Item = K>,
        refresh: impl Fn(&K) -> Refreshing<K, V, ahash::RandomState>,
    ) -> usize {
        let keys: Vec<K> = keys.into_iter().collect();
        let is_fresh = |key: &K| {
            let held = self.cache.peek_answer(key, None);
            held.is_some_and(|held| held.outcome == Outcome::Hit && self.passes(&held.value))
        };
        refresh_all(keys.iter().filter(|key| !is_fresh(key)), refresh, Asked::ByCaller).await;
        keys.iter().filter(|key| self.peek(*key).is_some()).count()
    }
}

/// The bounds of a call that may be asked how old its value is.
fn aged<K: Key, V: Value>(cache: &Cache<K, V>) -> Bounds {
    Bounds { aged: true, ..cache.bounds() }
}

impl<K, V> fmt::Debug for CachedFunction<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedFunction").field("name", &self.name).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// A loader that runs in the caller's own thread or task, and may borrow from it.
struct Here<F>(F);

impl<K, V, F, Fut, E> Loader<K, V> for Here<F>
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = Result<Loaded<V>, E>>,
    E: Send + Sync + 'static,
{
    type Error = E;

    fn wants_previous(&self) -> bool {
        false
    }

    async fn run(self, _key: &K, _previous: Option<Previous<V>>) -> Made<V, E> {
        (self.0)().await.into_load()
    }

    fn can_detach(&self) -> bool {
        false
    }

    fn detach(self) -> Result<Detached<K, V>, RefreshStatus> {
        Err(RefreshStatus::NoLoader)
    }
}
