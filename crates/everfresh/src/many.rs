//! Many keys in one lookup: one call for all that is missing, one behind the reader's back for all that is stale.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::cache::Cache;
use crate::drive::drive;
use crate::engine::{Engine, Hasher, Key, Value};
use crate::error::{Error, Failure, LoadError};
use crate::event::{Event, Outcome, RefreshStatus};
use crate::flight::{Joined, Leader, Purpose, Wait};
use crate::landing::Origin;
use crate::lifetime::Freshness;
use crate::load::{Load, Loaded};
use crate::moment::Moment;
use crate::obtain::Awaited;
use crate::pool::Permit;
use crate::spawn::Job;

/// Loads many keys at once; called for the missing ones here, and for the stale ones behind.
type Batch<K, V, E> = Arc<dyn Fn(Vec<K>) -> BatchFuture<K, V, E> + Send + Sync>;
type BatchFuture<K, V, E> = Pin<Box<dyn Future<Output = Result<HashMap<K, V>, E>> + Send>>;

/// What one pass over the keys finds.
struct Sorted<K: Key, V: Value, S: Hasher> {
    found: HashMap<K, V>,
    missing: Vec<Leader<K, V>>,
    /// Missing too, but somebody else loads them.
    awaited: Vec<(K, Wait<K, V>, u64)>,
    stale: Claims<K, V, S>,
}

impl<K: Key, V: Value, S: Hasher> Cache<K, V, S> {
    /// The values of many keys: `loader` is called once, here, for all that are missing and that nobody else is loading, and
    /// once behind for all that are stale.
    ///
    /// A key that `loader` returns nothing for is absent from the result, and what it returns beyond what it was asked for is
    /// left aside. Duplicates among the keys count once.
    ///
    /// # Errors
    /// [`LoadError::Load`] if the loader failed, even if other keys were found; those are in the cache.
    ///
    /// ```
    /// use everfresh::Cache;
    ///
    /// let cache: Cache<u32, String> = Cache::builder().capacity(100).build()?;
    /// let names = cache.get_many_or_load([1, 2, 3], |missing| {
    ///     Ok::<_, std::io::Error>(missing.into_iter().map(|id| (id, format!("user {id}"))))
    /// })?;
    /// assert_eq!(names[&2], "user 2");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get_many_or_load<F, R, E>(
        &self,
        keys: impl IntoIterator<Item = K>,
        loader: F,
    ) -> Result<HashMap<K, V>, LoadError<E>>
    where
        F: Fn(Vec<K>) -> Result<R, E> + Send + Sync + 'static,
        R: IntoIterator<Item = (K, V)>,
        E: Send + Sync + 'static,
    {
        let batch: Batch<K, V, E> = Arc::new(move |keys| {
            let made = loader(keys).map(|values| values.into_iter().collect());
            Box::pin(std::future::ready(made))
        });
        drive(self.engine.obtain_many(keys, batch, true))
    }

    /// As [`get_many_or_load`](Cache::get_many_or_load) in a task.
    ///
    /// # Errors
    /// As [`get_many_or_load`](Cache::get_many_or_load).
    pub async fn get_many_or_load_async<F, Fut, R, E>(
        &self,
        keys: impl IntoIterator<Item = K>,
        loader: F,
    ) -> Result<HashMap<K, V>, LoadError<E>>
    where
        F: Fn(Vec<K>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
        R: IntoIterator<Item = (K, V)>,
        E: Send + Sync + 'static,
    {
        let batch: Batch<K, V, E> = Arc::new(move |keys| {
            let later = loader(keys);
            Box::pin(async move { later.await.map(|values| values.into_iter().collect()) })
        });
        self.engine.obtain_many(keys, batch, false).await
    }
}

impl<K: Key, V: Value, S: Hasher> Engine<K, V, S> {
    async fn obtain_many<E: Send + Sync + 'static>(
        self: &Arc<Self>,
        keys: impl IntoIterator<Item = K>,
        batch: Batch<K, V, E>,
        blocking: bool,
    ) -> Result<HashMap<K, V>, LoadError<E>> {
        let Sorted { mut found, missing, awaited, stale } = self.sort(keys)?;
        self.refresh_many(stale, &batch, blocking);
        if !missing.is_empty() {
            self.load_many(missing, &batch, &mut found).await?;
        }
        // Only now: whoever loads those may be waiting for what was just landed here.
        for (key, wait, join_point) in awaited {
            let until = self.policy.wait_at_most.map_or(Moment::NEVER, |bound| self.clock.now().after(bound));
            let (outcome, result) = match self.await_landing(wait, join_point, until).await {
                Awaited::Value { value, .. } => (Outcome::Coalesced, Ok(Some(value))),
                Awaited::Absent => (Outcome::Failed, Ok(None)),
                Awaited::Failed(failure) => (Outcome::Failed, Err(failure.to_load_error())),
                Awaited::TimedOut => (Outcome::Failed, Err(Error::TIMED_OUT.into())),
                // Counted by its own turn.
                Awaited::StartOver => {
                    let again = Box::pin(self.obtain_many([key.clone()], Arc::clone(&batch), blocking)).await?;
                    found.extend(again);
                    continue;
                }
            };
            self.conclude(Some(&key), outcome, None, RefreshStatus::NotNeeded);
            if let Some(value) = result? {
                found.insert(key, value);
            }
        }
        Ok(found)
    }

    /// Serves what can be served, and takes the lead for the rest where nobody has it.
    fn sort<E>(self: &Arc<Self>, keys: impl IntoIterator<Item = K>) -> Result<Sorted<K, V, S>, LoadError<E>> {
        let stale = Claims { engine: Arc::clone(self), leaders: Vec::new(), permit: None };
        let mut sorted = Sorted { found: HashMap::new(), missing: Vec::new(), awaited: Vec::new(), stale };
        let mut seen = std::collections::HashSet::new();
        for key in keys {
            if !seen.insert(key.clone()) {
                continue;
            }
            let hash = self.store.hash(&key);
            let now = self.clock.now();
            if self.serve_one(hash, &key, now, &mut sorted) {
                continue;
            }
            let deadline = self.policy.load_timeout.map_or(Moment::NEVER, |bound| now.after(bound));
            match self.begin(hash, &key, Purpose::Load, now, deadline) {
                // It may have landed between the look and the taking of the lead.
                Joined::Lead(leader) if self.serve_one(hash, &key, now, &mut sorted) => drop(leader),
                Joined::Lead(leader) => sorted.missing.push(leader),
                Joined::Wait { wait, join_point } => sorted.awaited.push((key, wait, join_point)),
                Joined::Full => return Err(Error::OVERLOADED.into()),
                Joined::Recursive => return Err(Error::RECURSIVE.into()),
            }
        }
        Ok(sorted)
    }

    fn serve_one(self: &Arc<Self>, hash: u64, key: &K, now: Moment, sorted: &mut Sorted<K, V, S>) -> bool {
        let Some(entry) = self.store.find(hash, key) else { return false };
        let stage = self.stage(&entry, now);
        let (outcome, refresh) = match stage.freshness {
            Freshness::Fresh => (Outcome::Hit, RefreshStatus::NotNeeded),
            Freshness::Stale => {
                let status = self.claim_for_batch(hash, &entry, now, &mut sorted.stale);
                self.counters.refresh_status(status);
                (Outcome::Stale, status)
            }
            Freshness::Fallback | Freshness::Expired => return false,
        };
        if let Some(idle) = entry.extra.as_ref().and_then(|extra| extra.idle.as_ref()) {
            idle.touch(now);
        }
        sorted.found.insert(key.clone(), entry.value.clone());
        self.conclude(Some(key), outcome, Some(now.since(entry.loaded_at)), refresh);
        true
    }

    /// Stamps a stale entry as being refreshed and begins its flight, to be run with others.
    fn claim_for_batch(
        self: &Arc<Self>,
        hash: u64,
        entry: &crate::entry::Entry<K, V>,
        now: Moment,
        stale: &mut Claims<K, V, S>,
    ) -> RefreshStatus {
        let deadline = self.refresh_deadline(now);
        let before = match self.claim(hash, entry, now, deadline) {
            Ok(before) => before,
            Err(status) => return status,
        };
        if stale.permit.is_none() {
            stale.permit = self.pool.acquire(&self.clock, deadline);
        }
        if stale.permit.is_none() {
            entry.set_attempt(before);
            return RefreshStatus::Saturated;
        }
        match self.begin(hash, &entry.key, Purpose::Refresh, now, deadline) {
            Joined::Lead(leader) => {
                leader.flight().note_claim(entry, entry.attempt());
                stale.leaders.push(leader);
                RefreshStatus::Started
            }
            _ => {
                entry.set_attempt(before);
                RefreshStatus::AlreadyRunning
            }
        }
    }

    async fn load_many<E: Send + Sync + 'static>(
        self: &Arc<Self>,
        leaders: Vec<Leader<K, V>>,
        batch: &Batch<K, V, E>,
        found: &mut HashMap<K, V>,
    ) -> Result<(), LoadError<E>> {
        let keys: Vec<K> = leaders.iter().map(|leader| leader.flight().key.clone()).collect();
        let led: Vec<_> = leaders.iter().map(|leader| Arc::clone(leader.flight())).collect();
        let made = crate::flight::leading_all(&led, batch(keys)).await;
        match made {
            Ok(mut values) => {
                for leader in leaders {
                    let key = leader.flight().key.clone();
                    let value = values.remove(&key);
                    let outcome = if value.is_some() { Outcome::Loaded } else { Outcome::Failed };
                    let load = value.map_or(Load::Absent, |value| Load::Loaded(Loaded::new(value)));
                    if let Some(value) = self.land(leader, Ok(load), Origin::Loader).value {
                        found.insert(key.clone(), value);
                    }
                    self.conclude(Some(&key), outcome, None, RefreshStatus::NotNeeded);
                }
                Ok(())
            }
            Err(error) => {
                let error = Arc::new(error);
                for leader in leaders {
                    let key = leader.flight().key.clone();
                    self.land(leader, Err(Failure::shared(Arc::clone(&error))), Origin::Loader);
                    let left = self.what_is_left(self.store.hash(&key), &key);
                    let outcome = if left.is_some() { Outcome::Fallback } else { Outcome::Failed };
                    self.conclude(Some(&key), outcome, left.as_ref().map(|left| left.age), RefreshStatus::NotNeeded);
                    if let Some(left) = left {
                        found.insert(key, left.value);
                    }
                }
                if led.iter().all(|flight| found.contains_key(&flight.key)) {
                    return Ok(());
                }
                Err(LoadError::Load(error))
            }
        }
    }

    /// One refresh for all of them: one place in the pool, one call of the loader.
    fn refresh_many<E: Send + Sync + 'static>(
        self: &Arc<Self>,
        claims: Claims<K, V, S>,
        batch: &Batch<K, V, E>,
        blocking: bool,
    ) {
        if claims.leaders.is_empty() {
            return;
        }
        for leader in &claims.leaders {
            self.listeners.tell(&Event::RefreshStarted { key: &leader.flight().key });
        }
        let batch = Arc::clone(batch);
        let running = self.background.begin();
        let work = async move {
            let _running = running;
            claims.run(batch).await;
        };
        let started = if blocking {
            let job: Job = Box::new(move || drive(work));
            self.pool.spawner().spawn_job(job)
        } else {
            self.pool.spawner().spawn_task(Box::pin(work))
        };
        if let Err(error) = started {
            self.note_unavailable(self.clock.now(), &error);
        }
    }
}

/// Claimed entries whose batch has not run; dropped without running, they are free again.
struct Claims<K: Key, V: Value, S: Hasher> {
    engine: Arc<Engine<K, V, S>>,
    leaders: Vec<Leader<K, V>>,
    /// One place in the pool for all of them.
    permit: Option<Permit>,
}

impl<K: Key, V: Value, S: Hasher> Claims<K, V, S> {
    async fn run<E: Send + Sync + 'static>(mut self, batch: Batch<K, V, E>) {
        let engine = Arc::clone(&self.engine);
        let keys: Vec<K> = self.leaders.iter().map(|leader| leader.flight().key.clone()).collect();
        let led: Vec<_> = self.leaders.iter().map(|leader| Arc::clone(leader.flight())).collect();
        let deadline = led.first().map_or(Moment::NEVER, |flight| flight.deadline);
        let later = crate::refresh::Unpanicking(Box::pin(async move { batch(keys).await }));
        let made =
            crate::refresh::first_of(crate::flight::leading_all(&led, later), engine.clock.sleep_until(deadline)).await;
        let leaders = std::mem::take(&mut self.leaders);
        match made {
            Some(Ok(Ok(mut values))) => {
                for leader in leaders {
                    let load = match values.remove(&leader.flight().key) {
                        Some(value) => Load::Loaded(Loaded::new(value)),
                        None => Load::Absent,
                    };
                    engine.land(leader, Ok(load), Origin::Loader);
                }
            }
            Some(Ok(Err(error))) => {
                let error = Arc::new(error);
                for leader in leaders {
                    engine.land(leader, Err(Failure::shared(Arc::clone(&error))), Origin::Loader);
                }
            }
            Some(Err(_panic)) => leaders.into_iter().for_each(|leader| engine.land_panic(leader)),
            None => led.iter().for_each(|flight| engine.give_up_in_time(flight)),
        }
    }
}

impl<K: Key, V: Value, S: Hasher> Drop for Claims<K, V, S> {
    fn drop(&mut self) {
        for leader in self.leaders.drain(..) {
            self.engine.give_up(leader);
        }
    }
}
