//! `Cache<K, V>`: the one handle to a cache.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::beneath::Enough;
use crate::coalesce::{Answer, Bounds, Later, Waiting};
use crate::drive::{drive, in_a_runtime};
use crate::engine::{Doubt, Engine, Hasher, Key, Value};
use crate::entry::Entry;
use crate::error::{Error, LoadError};
use crate::event::{Cause, Event, NotStored, Outcome, RefreshStatus, Subscription};
use crate::handle::Refreshing;
use crate::hit::{AtOnce, Plainly};
use crate::key::AsKey;
use crate::ledger::Strike;
use crate::lifetime::Freshness;
use crate::load::{IntoLoad, Traits};
use crate::loader::{Async, Blocking, BoxError};
use crate::moment::Moment;
use crate::stats::Stats;
use crate::store::{Bound, Glance, Insertion, Judgement};

/// A bounded concurrent cache in which no reader waits for a refresh.
///
/// Clones are handles to the same cache; it ends with the last of them, without waiting for work in the background.
///
/// Values are cloned out, so that each caller owns what it gets; to share one, make `V` an [`Arc`]. Keys are compared in
/// full, and looked up by any borrowed form ([`AsKey`]).
///
/// ```
/// use std::time::Duration;
/// use everfresh::{Cache, Lifetime};
///
/// fn fetch(symbol: &str) -> Result<u32, std::io::Error> {
///     Ok(symbol.len() as u32)
/// }
///
/// let cache: Cache<String, u32> = Cache::builder()
///     .capacity(10_000)
///     .lifetime(Lifetime::ttl(Duration::from_secs(60)).stale_while_revalidate(Duration::from_secs(300)))
///     .build()?;
/// let price = cache.get_or_load("AAPL", || fetch("AAPL"))?;
/// assert_eq!(price, 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Cache<K, V, S = ahash::RandomState> {
    pub(crate) engine: Arc<Engine<K, V, S>>,
}

/// Whatever of the user's panics while the cache is at work leaves it whole (contract L3).
impl<K, V, S> UnwindSafe for Cache<K, V, S> {}
/// As above.
impl<K, V, S> RefUnwindSafe for Cache<K, V, S> {}

impl<K, V, S> Clone for Cache<K, V, S> {
    fn clone(&self) -> Cache<K, V, S> {
        Cache { engine: Arc::clone(&self.engine) }
    }
}

impl<K, V, S> fmt::Debug for Cache<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").finish_non_exhaustive()
    }
}

/// Looking and loading.
impl<K: Key, V: Value, S: Hasher> Cache<K, V, S> {
    /// The value of a key, fresh or stale.
    ///
    /// A stale value comes at once; with a loader of the cache's own ([`loader`](crate::Builder::loader)) it is refreshed
    /// behind, and a missing one is loaded here. `None` if there is nothing to serve and nothing could be loaded, as on a thread
    /// of a runtime if the loader is asynchronous; [`try_get`](Cache::try_get) tells why.
    #[inline(always)]
    pub fn get<Q: AsKey<K> + ?Sized>(&self, key: &Q) -> Option<V> {
        let hash = self.hash(key);
        match self.engine.get_plainly(hash, key) {
            Plainly::Value(value) => Some(value),
            Plainly::Found(found, doubt) => self.get_less_plainly(key, found, doubt),
            Plainly::Absent => self.get_nothing(key),
            Plainly::Unknown => self.get_slowly(key),
        }
    }

    #[inline(never)]
    fn get_less_plainly<Q: AsKey<K> + ?Sized>(&self, key: &Q, found: Glance<'_, K, V>, doubt: Doubt) -> Option<V> {
        match self.engine.look_closely(found, doubt) {
            None => self.get_slowly(key),
            some => some,
        }
    }

    /// There is no entry; without a loader that is all.
    #[inline(never)]
    fn get_nothing<Q: AsKey<K> + ?Sized>(&self, key: &Q) -> Option<V> {
        if self.engine.loader.is_some() {
            return self.get_slowly(key);
        }
        self.engine.conclude(None, Outcome::Miss, None, RefreshStatus::NotNeeded);
        None
    }

    #[cold]
    #[inline(never)]
    fn get_slowly<Q: AsKey<K> + ?Sized>(&self, key: &Q) -> Option<V> {
        let hash = self.hash(key);
        if self.engine.loader.is_some() {
            return self.load_widely(hash, key).ok();
        }
        match self.engine.look(hash, key, None) {
            Some(answer) => {
                self.engine.conclude(None, answer.outcome, Some(answer.age), answer.refresh);
                Some(answer.value)
            }
            None => {
                self.engine.conclude(None, Outcome::Miss, None, RefreshStatus::NotNeeded);
                None
            }
        }
    }

    /// As [`get`](Cache::get) with the cache's own loader, and the reason if there is no value.
    ///
    /// # Errors
    /// [`LoadError::Load`] with the loader's error; [`LoadError::Cache`] if the cache has no loader, a bound was reached, or
    /// the loader is asynchronous and this thread belongs to a runtime of tokio, also as one of its threads for blocking
    /// work: [`get_async`](Cache::get_async) is for there.
    pub fn try_get<Q: AsKey<K> + ?Sized>(&self, key: &Q) -> Result<V, LoadError<BoxError>> {
        let hash = self.hash(key);
        if let Some(value) = self.engine.get_at_once(hash, key).value() {
            return Ok(value);
        }
        self.load_widely(hash, key)
    }

    fn load_widely<Q: AsKey<K> + ?Sized>(&self, hash: u64, key: &Q) -> Result<V, LoadError<BoxError>> {
        let Some(loader) = self.engine.loader.clone() else { return Err(self.refused(Error::NO_LOADER)) };
        let mut bounds = self.bounds();
        if loader.is_async() {
            if in_a_runtime() {
                let Some(answer) = self.engine.look(hash, key, None) else {
                    return Err(self.refused(Error::WRONG_DOOR));
                };
                self.engine.conclude(None, answer.outcome, Some(answer.age), answer.refresh);
                return Ok(answer.value);
            }
            bounds.elsewhere = true;
        }
        drive(self.engine.obtain(hash, key, bounds, loader)).map(|answer| answer.value)
    }

    /// A lookup that ends before it begins has an outcome, too.
    fn refused(&self, error: Error) -> LoadError<BoxError> {
        self.engine.conclude(None, Outcome::Failed, None, RefreshStatus::NotNeeded);
        error.into()
    }

    /// As [`try_get`](Cache::try_get) for a cache with an asynchronous loader of its own.
    ///
    /// # Errors
    /// As [`try_get`](Cache::try_get).
    pub async fn get_async<Q: AsKey<K> + Sync + ?Sized>(&self, key: &Q) -> Result<V, LoadError<BoxError>> {
        let hash = self.hash(key);
        if let Some(value) = self.engine.get_at_once(hash, key).value() {
            return Ok(value);
        }
        let Some(loader) = self.engine.loader.clone() else { return Err(self.refused(Error::NO_LOADER)) };
        Ok(self.engine.obtain_widely(hash, key, self.bounds(), loader).await?.value)
    }

    /// The value of a key; if there is none to serve, `loader` makes it here, once for everybody who asks meanwhile.
    ///
    /// A stale value comes at once, and `loader` runs behind. That is why it must own what it needs; see
    /// [`Lookup::load_inline`](crate::Lookup::load_inline) for one that borrows.
    ///
    /// # Errors
    /// [`LoadError::Load`] with the loader's error if that failed and there is nothing to serve instead;
    /// [`LoadError::Cache`] if a bound was reached, the loader found nothing, or it asked for its own key.
    ///
    /// # Panics
    /// If the loader panics on this thread, the panic goes on to the caller; another caller who waited leads next.
    #[inline]
    pub fn get_or_load<Q, F, R>(&self, key: &Q, loader: F) -> Result<V, LoadError<R::Error>>
    where
        Q: AsKey<K> + ?Sized,
        F: FnOnce() -> R + Send + 'static,
        R: IntoLoad<V>,
    {
        let hash = self.hash(key);
        if let Some(value) = self.engine.get_at_once(hash, key).value() {
            return Ok(value);
        }
        let loader = Blocking::<_, false>(move |_| loader());
        Ok(drive(self.engine.obtain(hash, key, self.bounds(), loader))?.value)
    }

    /// As [`get_or_load`](Cache::get_or_load) in a task: the same flight, the same rules.
    ///
    /// The loader's future runs in the calling task. If that task is dropped, one of those who wait leads next.
    ///
    /// # Errors
    /// As [`get_or_load`](Cache::get_or_load).
    #[allow(clippy::manual_async_fn, reason = "callers must not have to prove that it is Send")]
    pub fn get_or_load_async<Q, F, Fut>(
        &self,
        key: &Q,
        loader: F,
    ) -> impl Future<Output = Result<V, LoadError<<Fut::Output as IntoLoad<V>>::Error>>> + Send
    where
        Q: AsKey<K> + Sync + ?Sized,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output: IntoLoad<V>> + Send + 'static,
    {
        async move {
            let hash = self.hash(key);
            let looked = self.engine.get_at_once(hash, key);
            let absent = matches!(looked, AtOnce::Absent);
            if let Some(value) = looked.value() {
                return Ok(value);
            }
            let loader = Async::<_, false>(move |_| loader());
            // As `obtain_later`, with bounds that need not be carried while waiting.
            let whole_way = move || -> Later<'_, V, _> { self.engine.set_out(hash, key, self.bounds(), loader) };
            let waiting = Waiting { absent, ..self.bounds().of_waiting() };
            Ok(self.engine.coalesce_or(hash, key, waiting, whole_way).await?.value)
        }
    }

    /// What the cache holds and may serve, fresh, stale or as a fallback: without loading, refreshing, counting, or making
    /// it look used.
    pub fn peek<Q: AsKey<K> + ?Sized>(&self, key: &Q) -> Option<V> {
        self.peek_answer(key, None).map(|answer| answer.value)
    }

    /// Whether there is a value that may be served, fresh, stale or as a fallback.
    pub fn contains<Q: AsKey<K> + ?Sized>(&self, key: &Q) -> bool {
        self.engine
            .store
            .peek(self.hash(key), key)
            .is_some_and(|found| self.engine.stage(&found, self.engine.clock.now()).freshness != Freshness::Expired)
    }

    pub(crate) fn peek_answer<Q: AsKey<K> + ?Sized>(&self, key: &Q, max_stale: Option<Duration>) -> Option<Answer<V>> {
        let found = self.engine.store.peek(self.hash(key), key)?;
        let now = self.engine.clock.now();
        let stage = self.engine.stage(&found, now);
        let too_stale = self.engine.is_too_stale(&found, stage, now, max_stale);
        let outcome = match stage.freshness {
            Freshness::Fresh => Outcome::Hit,
            Freshness::Stale if !too_stale => Outcome::Stale,
            Freshness::Fallback if !too_stale => Outcome::Fallback,
            _ => return None,
        };
        let age = now.since(found.loaded_at());
        Some(Answer { value: found.value.clone(), outcome, age, refresh: RefreshStatus::NotNeeded })
    }

    #[inline]
    pub(crate) fn hash<Q: AsKey<K> + ?Sized>(&self, key: &Q) -> u64 {
        self.engine.store.hash(key)
    }

    pub(crate) fn bounds(&self) -> Bounds {
        let policy = &self.engine.policy;
        Bounds {
            max_stale: None,
            wait_at_most: policy.wait_at_most,
            soft_timeout: policy.soft_timeout,
            load_timeout: policy.load_timeout,
            bypass: false,
            elsewhere: false,
            aged: false,
        }
    }
}

/// Writing and invalidating.
impl<K: Key, V: Value, S: Hasher> Cache<K, V, S> {
    /// Puts a value, with the cache's lifetime; whatever load of the key is running will not overwrite it (contract I1).
    ///
    /// Where the ttl is 25 seconds or more, or there is none, its age is counted from up to a tick of the system's clock before
    /// the call. A value heavier than the whole cache may be is not stored, which listeners and [`stats`](Cache::stats) tell.
    pub fn insert(&self, key: K, value: V) {
        let engine = &self.engine;
        if !engine.policy.is_plain() || engine.second_level.is_some() {
            return self.insert_with(key, value, Traits::new());
        }
        let hash = self.hash(&key);
        engine.store.prepare(hash);
        let weight = engine.weigh(&key, &value, None);
        engine.flights.fence(hash, &key);
        let now = engine.time_of_writing();
        let entry = engine.plain_entry(key, value, engine.history.now(), now);
        self.put(hash, entry, weight, now);
    }

    /// Puts a value with a lifetime, weight, tags or token of its own.
    pub fn insert_with(&self, key: K, value: V, traits: impl Into<Traits>) {
        let engine = &self.engine;
        let traits = traits.into();
        let hash = self.hash(&key);
        engine.store.prepare(hash);
        let weight = engine.weigh(&key, &value, traits.weight);
        let _told_beneath = engine.strike_beneath(|| Strike::Key(hash, key.clone()));
        engine.flights.fence(hash, &key);
        let now = engine.clock.now();
        let (began, tags) = loop {
            let began = engine.history.now();
            // Not there only if tags were forgotten in this very moment.
            if let Some(tags) = engine.history.tags(&traits.tags, began) {
                break (began, tags);
            }
        };
        let entry = engine.entry(key, value, traits, tags, began, (now, Duration::ZERO));
        self.put(hash, entry, weight, now);
    }

    #[inline]
    fn put(&self, hash: u64, entry: Entry<K, V>, weight: u64, now: Moment) {
        let engine = &self.engine;
        engine.forget_negative(hash, &entry.key);
        let deadline = engine.deadline(&entry);
        if deadline <= now {
            if let Some(gone) = engine.store.remove(hash, &entry.key) {
                engine.depart(gone, Cause::Replaced);
            }
            engine.tell_not_stored(&entry.key, NotStored::NotServable);
            return;
        }
        let mut insertion = Insertion::nothing(engine.listeners.any());
        engine.store.put(hash, entry, (weight, deadline), now, &mut insertion);
        engine.settle_insertion(&mut insertion, Cause::Replaced);
        if deadline != Moment::NEVER {
            engine.keep_reclaiming();
        }
    }

    /// Takes a value out and returns it if it may still be served.
    pub fn remove<Q: AsKey<K> + ?Sized>(&self, key: &Q) -> Option<V> {
        let hash = self.hash(key);
        let gone = self.take_out(hash, key)?;
        let stage = self.engine.stage(&gone, self.engine.clock.now());
        // It has left, also if its copy panics.
        let value =
            (stage.freshness != Freshness::Expired).then(|| catch_unwind(AssertUnwindSafe(|| gone.value.clone())));
        self.engine.depart(gone, Cause::Removed);
        value.map(|copied| copied.unwrap_or_else(|panic| resume_unwind(panic)))
    }

    /// Makes a key unservable from now on; whatever load of it is running will not be stored (contract I1, I2).
    pub fn invalidate<Q: AsKey<K> + ?Sized>(&self, key: &Q) {
        let hash = self.hash(key);
        if let Some(gone) = self.take_out(hash, key) {
            self.engine.depart(gone, Cause::Invalidated);
        }
    }

    /// Makes unservable all that has the tag; one step, whatever the number of entries (contract I3).
    pub fn invalidate_tag(&self, tag: &str) {
        let _told_beneath = self.engine.strike_beneath(|| Strike::Tag(tag.into()));
        self.engine.history.invalidate_tag(tag);
        self.engine.sweep_soon();
    }

    /// Makes unservable all for which `matches` holds, after looking at every entry; loads that are running are not stored.
    pub fn invalidate_matching(&self, mut matches: impl FnMut(&K, &V) -> bool) {
        let _told_beneath = self.engine.strike_beneath(|| Strike::All);
        self.engine.flights.fence_all();
        self.forget_negatives();
        self.engine.store.sweep(
            Moment::NEVER,
            |entry| if matches(&entry.key, &entry.value) { Judgement::Remove } else { Judgement::Keep },
            |gone| self.engine.depart(gone, Cause::Invalidated),
        );
    }

    /// Makes everything unservable; one step, whatever the number of entries (contract I3). Their room is given back soon.
    pub fn clear(&self) {
        let _told_beneath = self.engine.strike_beneath(|| Strike::All);
        if self.engine.history.invalidate_all() {
            self.engine.sweep_at_once();
        } else {
            self.engine.sweep_soon();
        }
    }

    /// As [`clear`](Cache::clear), and what nobody else holds is dropped before it returns.
    #[cfg(feature = "macros")]
    pub(crate) fn clear_at_once(&self) {
        let _told_beneath = self.engine.strike_beneath(|| Strike::All);
        self.engine.history.invalidate_all();
        self.engine.sweep_at_once();
    }

    /// Makes a key stale from now on: the next reader gets the old value and starts a refresh, if the lifetime has a window
    /// (contract I2). It ends no pause after a failure, but cuts it to a quarter of that window.
    pub fn expire<Q: AsKey<K> + ?Sized>(&self, key: &Q) {
        let hash = self.hash(key);
        let _told_beneath = self.engine.strike_beneath(|| Strike::Key(hash, key.to_key()));
        let now = self.engine.clock.now();
        self.engine.flights.mark_expired(hash, key, now);
        self.engine.forget_negative(hash, key);
        if let Some(found) = self.engine.store.peek(hash, key) {
            self.engine.expire(&found, now);
            self.engine.reclaim_sooner(&found, now);
        }
    }

    /// Makes stale all that has the tag; one step, whatever the number of entries.
    pub fn expire_tag(&self, tag: &str) {
        let _told_beneath = self.engine.strike_beneath(|| Strike::Tag(tag.into()));
        self.engine.history.expire_tag(tag, self.engine.clock.now());
        self.engine.sweep_soon();
    }

    /// Makes stale all for which `matches` holds, after looking at every entry; what running loads bring is stale, too.
    pub fn expire_matching(&self, mut matches: impl FnMut(&K, &V) -> bool) {
        let _told_beneath = self.engine.strike_beneath(|| Strike::All);
        let now = self.engine.clock.now();
        self.engine.flights.mark_all_expired(now);
        self.forget_negatives();
        for found in self.engine.store.iter() {
            if matches(&found.key, &found.value) {
                self.engine.expire(&found, now);
                self.engine.reclaim_sooner(&found, now);
            }
        }
    }

    /// Makes everything stale; one step, whatever the number of entries.
    pub fn expire_all(&self) {
        let _told_beneath = self.engine.strike_beneath(|| Strike::All);
        if self.engine.history.expire_all(self.engine.clock.now()) {
            self.engine.sweep(Moment::NEVER);
        }
        self.engine.sweep_soon();
    }

    fn take_out<Q: AsKey<K> + ?Sized>(&self, hash: u64, key: &Q) -> Option<crate::store::Removed<'_, K, V>> {
        let _told_beneath = self.engine.strike_beneath(|| Strike::Key(hash, key.to_key()));
        self.engine.flights.fence(hash, key);
        self.engine.forget_negative(hash, key);
        self.engine.store.remove(hash, key)
    }

    /// A predicate cannot be asked about an error or an absence: all that are remembered are forgotten.
    fn forget_negatives(&self) {
        if let Some(negatives) = &self.engine.negatives {
            negatives.sweep(Moment::NEVER, |_| Judgement::Remove, |gone| drop(gone));
        }
    }
}

/// Refreshing by hand, watching, ending.
impl<K: Key, V: Value, S: Hasher> Cache<K, V, S> {
    /// Starts a refresh of a key with the cache's own loader, stale or not, stored or not (contract R7).
    ///
    /// The handle says what became of it, and waits for its end if it runs.
    pub fn refresh<Q: AsKey<K> + ?Sized>(&self, key: &Q) -> Refreshing<K, V, S> {
        self.engine.refresh_widely(key, Enough::Nothing)
    }

    /// Starts a refresh of a key with a loader of this call's own, stale or not, stored or not.
    pub fn refresh_with<Q, F, R>(&self, key: &Q, loader: F) -> Refreshing<K, V, S>
    where
        Q: AsKey<K> + ?Sized,
        F: FnOnce() -> R + Send + 'static,
        R: IntoLoad<V>,
    {
        self.engine.refresh_on_demand(key, Blocking::<_, false>(move |_| loader()), Enough::Nothing)
    }

    /// As [`refresh_with`](Cache::refresh_with) with an asynchronous loader.
    pub fn refresh_with_async<Q, F, Fut>(&self, key: &Q, loader: F) -> Refreshing<K, V, S>
    where
        Q: AsKey<K> + ?Sized,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output: IntoLoad<V>> + Send + 'static,
    {
        self.engine.refresh_on_demand(key, Async::<_, false>(move |_| loader()), Enough::Nothing)
    }

    /// Gets every event from now on, after the fact and outside of all locks, on the thread on which it happened.
    ///
    /// A listener may call the cache. It should be quick: whoever caused the event waits for it. Its panics are contained.
    pub fn subscribe(&self, listener: impl Fn(&Event<'_, K, V>) + Send + Sync + 'static) -> Subscription {
        let subscription = self.engine.listeners.subscribe(Arc::new(listener));
        self.engine.history.look_closer();
        subscription
    }

    /// A snapshot of the counters.
    pub fn stats(&self) -> Stats {
        let capacity = match self.engine.store.bound() {
            Bound::Entries(entries) => Some(entries as u64),
            Bound::Weight(weight) => Some(weight),
            Bound::Unbounded => None,
        };
        self.engine.counters.snapshot(self.engine.len(), self.engine.store.weight(), capacity)
    }

    /// How many entries there are. Expired ones count until their room is given back, which happens behind the caller's back
    /// within a quarter of the ttl, or of a shorter `time_to_idle`, at least a second and at most a minute;
    /// [`reclaim`](Cache::reclaim) does it at once. After an invalidation or expiry by tag or of all, until a sweep has been
    /// through them, this looks at every entry.
    pub fn len(&self) -> usize {
        self.engine.len()
    }

    /// Whether no entry takes room; see [`len`](Cache::len).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sum of the weights of all entries; where neither a weigher nor the value says another, each weighs 1. What was
    /// invalidated by tag or with all weighs, unlike in [`len`](Cache::len), until a sweep has given its room back, and so does
    /// what has expired; [`reclaim`](Cache::reclaim) does it at once.
    pub fn weight(&self) -> u64 {
        self.engine.store.weight()
    }

    /// Gives back the room of all that has expired or was invalidated, now and on this thread.
    pub fn reclaim(&self) {
        self.engine.sweep(Moment::NEVER);
    }

    /// Copies of all that may be served now; what comes or goes meanwhile may or may not be among them.
    pub fn entries(&self) -> Vec<(K, V)> {
        let now = self.engine.clock.now();
        self.engine
            .store
            .iter()
            .filter(|found| self.engine.stage(found, now).freshness != Freshness::Expired)
            .map(|found| (found.key.clone(), found.value.clone()))
            .collect()
    }

    /// Waits until nothing runs in the background that lookups, refreshes or invalidations of this cache have started: for tests,
    /// and before looking at what they have left. It ends nothing; what others start meanwhile is waited for, too. The
    /// housekeeping that gives room back is not: [`reclaim`](Cache::reclaim) does its work at once.
    ///
    /// It blocks; in a task use [`settle_async`](Cache::settle_async). Called by a loader that runs in the background, or by a
    /// listener that is told there of its end, it would wait for itself.
    ///
    /// ```
    /// # use everfresh::Cache;
    /// # let cache: Cache<u32, u32> = Cache::builder().capacity(10).build()?;
    /// let _ = cache.refresh_with(&1, || 7);
    /// cache.settle();
    /// assert_eq!(cache.get(&1), Some(7));
    /// # Ok::<(), everfresh::Error>(())
    /// ```
    pub fn settle(&self) {
        drive(self.settle_async());
    }

    /// As [`settle`](Cache::settle) in a task.
    pub async fn settle_async(&self) {
        self.engine.background.drained().await;
    }

    /// Starts no more work in the background, waits until what runs has ended or `deadline` has passed, and says how much it
    /// left running (contract R8). Lookups go on as before.
    ///
    /// It blocks; in a task use [`close_async`](Cache::close_async).
    pub fn close(&self, deadline: Duration) -> usize {
        drive(self.close_async(deadline))
    }

    /// As [`close`](Cache::close) in a task.
    pub async fn close_async(&self, deadline: Duration) -> usize {
        self.engine.closed.store(true, Ordering::Release);
        self.engine.pool.wake_who_waits();
        let until = self.engine.clock.now().after(deadline);
        let drained = self.engine.background.drained();
        let _ = crate::refresh::first_of(drained, self.engine.clock.sleep_until(until)).await;
        self.engine.background.running()
    }
}
