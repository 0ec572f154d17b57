//! Many keys in one lookup: one call for all that is missing, one behind the reader's back for all that is stale.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::batch::{Batch, Ended, Led, ask_beneath, load_all, tell_all};
use crate::cache::Cache;
use crate::coalesce::Awaited;
use crate::drive::drive;
use crate::engine::{Engine, Hasher, Key, Value};
use crate::entry::Entry;
use crate::error::{Error, LoadError};
use crate::event::{Event, Outcome, RefreshStatus};
use crate::flight::{Joined, Leader, Purpose, Wait};
use crate::landing::Origin;
use crate::leading::Inside;
use crate::lifetime::Freshness;
use crate::moment::Moment;
use crate::obtain::not_run;

/// What one pass over the keys finds, beside what is served at once.
struct Sorted<K: Key, V: Value, S: Hasher> {
    missing: Led<K, V, S>,
    /// Missing too, but somebody else loads them.
    awaited: Vec<Awaiting<K, V>>,
    stale: Led<K, V, S>,
    /// What was served of the stale ones, to be told when it is known what became of their refresh.
    served: Vec<(K, Outcome, Duration)>,
    /// Until the flights that were taken on are handed over, listeners and copies that ask for them would wait for this very call.
    inside: Vec<Inside>,
}

/// A key that is waited for.
struct Awaiting<K, V> {
    key: K,
    hash: u64,
    wait: Wait<K, V>,
    join_point: u64,
    /// This very call loads it.
    own: bool,
    /// There is an old value to fall back on.
    old: bool,
}

/// What a lookup of many has come to so far.
struct Tally<K, V, E> {
    found: HashMap<K, V>,
    /// The first one.
    error: Option<LoadError<E>>,
}

impl<K: Key, V: Value, S: Hasher> Cache<K, V, S> {
    /// The values of many keys: `loader` is called once, here, for all that are missing and that nobody else is loading, and
    /// once behind for all that are stale.
    ///
    /// A key that `loader` returns nothing for is absent from the result, and what it returns beyond what it was asked for is
    /// left aside. Duplicates among the keys count once. With a bound on time (`load_timeout`, `wait_at_most`, or `soft_timeout`
    /// and an old value), `loader` runs on a worker, and the bound holds for the whole call.
    ///
    /// Each value has the cache's own lifetime and weight, and no tags; where they differ, put them one by one
    /// ([`insert_with`](Cache::insert_with)).
    ///
    /// # Errors
    /// [`LoadError`] if a key has no value because its load failed, here, elsewhere or a while ago and that is remembered, or
    /// because a bound was reached; even if other keys were found, which are in the cache. An old value that may be served
    /// after a failure is none.
    ///
    /// # Panics
    /// If the loader panics on this thread, the panic goes on to the caller.
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
        let begun = self.clock.now();
        let give_up_at = self.policy.wait_at_most.map_or(Moment::NEVER, |bound| begun.after(bound));
        let soft = self.policy.soft_timeout.map(|bound| give_up_at.min(begun.after(bound)));
        let mut tally = Tally { found: HashMap::new(), error: None };
        let mut seen = HashSet::new();
        let mut keys: Vec<K> = keys.into_iter().filter(|key| seen.insert(key.clone())).collect();
        drop(seen);
        while !keys.is_empty() {
            let sorted = self.sort(std::mem::take(&mut keys), &mut tally);
            let Sorted { missing, mut awaited, stale, served, inside } = sorted;
            self.refresh_many(stale, served, &batch, blocking);
            let bounded = give_up_at != Moment::NEVER || self.policy.load_timeout.is_some();
            let mut to_load = Some(missing).filter(|missing| !missing.leaders.is_empty());
            if let Some(missing) = to_load.take_if(|missing| bounded || (soft.is_some() && missing.any_old)) {
                awaited.splice(0..0, self.load_many_behind(missing, &batch, blocking, &mut tally));
            }
            drop(inside);
            if let Some(missing) = to_load {
                self.load_many(missing, &batch, &mut tally).await;
            }
            // Only now: whoever loads those may be waiting for what was just landed here.
            for Awaiting { key, hash, mut wait, join_point, own, old } in awaited {
                let until = if old { soft.unwrap_or(give_up_at) } else { give_up_at };
                let flight = Arc::clone(wait.flight());
                let mut ended = self.await_landing(&mut wait, join_point, until).await;
                // What was better than waiting any longer may have gone meanwhile.
                if ended.is_none() && until < give_up_at && self.what_is_left(hash, &key, None, None).is_none() {
                    ended = self.await_landing(&mut wait, join_point, give_up_at).await;
                }
                drop(wait);
                let error = match ended.unwrap_or(Awaited::TimedOut) {
                    Awaited::Value { value, loaded_at, from_second_level } => {
                        let outcome = match (own, from_second_level) {
                            (false, _) => Outcome::Coalesced,
                            (true, true) => Outcome::SecondLevel,
                            (true, false) => Outcome::Loaded,
                        };
                        let age = Some(self.age_told(false, loaded_at));
                        self.conclude(Some(&key), outcome, age, RefreshStatus::NotNeeded);
                        tally.found.insert(key, value);
                        continue;
                    }
                    Awaited::Absent => {
                        self.conclude(Some(&key), Outcome::Failed, None, RefreshStatus::NotNeeded);
                        continue;
                    }
                    Awaited::StartOver if !own => {
                        keys.push(key);
                        continue;
                    }
                    Awaited::StartOver => not_run(&flight).into(),
                    Awaited::Failed(failure) => failure.to_load_error(),
                    Awaited::TimedOut => Error::TIMED_OUT.into(),
                };
                self.fall_back_of_many(hash, key, error, &mut tally);
            }
        }
        tally.error.map_or(Ok(tally.found), Err)
    }

    /// Serves what can be served, and takes the lead for the rest where nobody has it.
    fn sort<E: Send + Sync + 'static>(self: &Arc<Self>, keys: Vec<K>, tally: &mut Tally<K, V, E>) -> Sorted<K, V, S> {
        let mut sorted = Sorted {
            missing: Led::new(self),
            awaited: Vec::new(),
            stale: Led::new(self),
            served: Vec::new(),
            inside: Vec::new(),
        };
        for key in keys {
            let hash = self.store.hash(&key);
            loop {
                let now = self.clock.now();
                let old = match self.serve_one(hash, &key, now, &mut sorted, tally) {
                    Served::Now => break,
                    Served::IfAllElseFails => true,
                    Served::Nothing => false,
                };
                if !old && let Some(error) = self.remembered::<K, E>(hash, &key) {
                    self.conclude(Some(&key), Outcome::Negative, None, RefreshStatus::NotNeeded);
                    // That there is no such value is no error of a call for many.
                    if !error.is_absent() {
                        tally.error.get_or_insert(error);
                    }
                    break;
                }
                let deadline = self.policy.load_timeout.map_or(Moment::NEVER, |bound| now.after(bound));
                match self.begin(hash, &key, Purpose::Load, now, deadline) {
                    Joined::Lead(leader) if self.landed_meanwhile(hash, &key) => {
                        drop(leader);
                        continue;
                    }
                    Joined::Lead(leader) => sorted.inside.push(sorted.missing.take_on(leader, old)),
                    Joined::Wait { wait, join_point } => {
                        sorted.awaited.push(Awaiting { key, hash, wait, join_point, own: false, old });
                    }
                    Joined::Full => self.fall_back_of_many(hash, key, Error::OVERLOADED.into(), tally),
                    Joined::Recursive => {
                        self.conclude(Some(&key), Outcome::Failed, None, RefreshStatus::NotNeeded);
                        tally.error.get_or_insert(Error::RECURSIVE.into());
                    }
                }
                break;
            }
        }
        sorted
    }

    fn serve_one<E>(
        self: &Arc<Self>,
        hash: u64,
        key: &K,
        now: Moment,
        sorted: &mut Sorted<K, V, S>,
        tally: &mut Tally<K, V, E>,
    ) -> Served {
        let Some(entry) = self.store.find(hash, key) else { return Served::Nothing };
        let stage = self.stage(&entry, now);
        let (outcome, refresh) = match stage.freshness {
            Freshness::Fresh if self.wants_early_refresh(&entry, stage, now) => {
                (Outcome::Hit, self.claim_for_batch(hash, &entry, now, sorted))
            }
            Freshness::Fresh => (Outcome::Hit, RefreshStatus::NotNeeded),
            Freshness::Stale => (Outcome::Stale, self.claim_for_batch(hash, &entry, now, sorted)),
            Freshness::Fallback if self.is_backing_off(&entry, now) => (Outcome::Fallback, RefreshStatus::BackingOff),
            Freshness::Fallback => return Served::IfAllElseFails,
            Freshness::Expired => return Served::Nothing,
        };
        entry.touch(now);
        tally.found.insert(key.clone(), entry.value.clone());
        let age = now.since(entry.loaded_at());
        match refresh {
            RefreshStatus::Started => sorted.served.push((key.clone(), outcome, age)),
            RefreshStatus::NotNeeded => self.conclude(Some(key), outcome, Some(age), refresh),
            _ => {
                self.counters.refresh_status(refresh);
                self.conclude(Some(key), outcome, Some(age), refresh);
            }
        }
        Served::Now
    }

    /// The old value, if there still is one that may be served after a failure, else the error.
    fn fall_back_of_many<E>(&self, hash: u64, key: K, error: LoadError<E>, tally: &mut Tally<K, V, E>) {
        let left = self.what_is_left(hash, &key, None, None);
        let outcome = if left.is_some() { Outcome::Fallback } else { Outcome::Failed };
        self.conclude(Some(&key), outcome, left.as_ref().map(|left| left.age), RefreshStatus::NotNeeded);
        match left {
            Some(left) => drop(tally.found.insert(key, left.value)),
            None => drop(tally.error.get_or_insert(error)),
        }
    }

    /// Stamps a stale entry as being refreshed and begins its flight, to be run with others.
    fn claim_for_batch(
        self: &Arc<Self>,
        hash: u64,
        entry: &Entry<K, V>,
        now: Moment,
        Sorted { stale, inside, .. }: &mut Sorted<K, V, S>,
    ) -> RefreshStatus {
        let deadline = self.refresh_deadline(now);
        let claim = match self.claim(hash, entry, now, deadline) {
            Ok(claim) => claim,
            Err(status) => return status,
        };
        if stale.permit.is_none() {
            stale.permit = self.pool.acquire(&self.clock, deadline);
        }
        if stale.permit.is_none() {
            return RefreshStatus::Saturated;
        }
        match self.begin(hash, &entry.key, Purpose::Refresh, now, deadline) {
            Joined::Lead(leader) => {
                leader.flight().note_claim(entry, entry.attempt());
                inside.push(stale.take_on(leader, true));
                claim.hand_over();
                RefreshStatus::Started
            }
            _ => RefreshStatus::AlreadyRunning,
        }
    }

    /// Loads here and now, in the caller's own time.
    async fn load_many<E: Send + Sync + 'static>(
        self: &Arc<Self>,
        mut led: Led<K, V, S>,
        batch: &Batch<K, V, E>,
        tally: &mut Tally<K, V, E>,
    ) {
        let found = ask_beneath(self, &led.flights).await;
        let mut landed = led.land_found(found);
        let made = load_all(&led.flights, batch).await;
        let error = made.as_ref().err().map(Arc::clone);
        landed.extend(led.land(made));
        for Ended { flight, value, origin, .. } in &landed {
            let key = flight.key.clone();
            let outcome = match (value, origin) {
                (Some(_), Origin::SecondLevel) => Outcome::SecondLevel,
                (Some(_), Origin::Loader) => Outcome::Loaded,
                (None, _) => match &error {
                    Some(error) => {
                        self.fall_back_of_many(flight.hash, key, LoadError::Load(Arc::clone(error)), tally);
                        continue;
                    }
                    None => Outcome::Failed,
                },
            };
            self.conclude(Some(&key), outcome, value.as_ref().map(|_| Duration::ZERO), RefreshStatus::NotNeeded);
            if let Some(value) = value {
                tally.found.insert(key, value.clone());
            }
        }
        tell_all(landed).await;
    }

    /// Loads on a worker or in a task of its own; returns what to wait for.
    fn load_many_behind<E: Send + Sync + 'static>(
        self: &Arc<Self>,
        led: Led<K, V, S>,
        batch: &Batch<K, V, E>,
        blocking: bool,
        tally: &mut Tally<K, V, E>,
    ) -> Vec<Awaiting<K, V>> {
        let awaiting = |(leader, &old): (&Leader<K, V>, &bool)| {
            let flight = leader.flight();
            let (key, hash, join_point) = (flight.key.clone(), flight.hash, flight.began.tag_point);
            Awaiting { key, hash, wait: leader.wait(), join_point, own: true, old }
        };
        let awaited: Vec<_> = led.leaders.iter().zip(&led.old).map(awaiting).collect();
        if self.start_many(led, batch, blocking) {
            return awaited;
        }
        for Awaiting { key, hash, .. } in awaited {
            self.fall_back_of_many(hash, key, Error::UNAVAILABLE.into(), tally);
        }
        Vec::new()
    }

    /// One refresh for all of them: one place in the pool, one call of the loader.
    fn refresh_many<E: Send + Sync + 'static>(
        self: &Arc<Self>,
        mut led: Led<K, V, S>,
        served: Vec<(K, Outcome, Duration)>,
        batch: &Batch<K, V, E>,
        blocking: bool,
    ) {
        if led.leaders.is_empty() {
            return;
        }
        led.running = Some(self.background.begin());
        // As for one: nothing begins to run that who closes the cache does not wait for.
        let started = !self.is_closed() && self.start_many(led, batch, blocking);
        let status = if started { RefreshStatus::Started } else { RefreshStatus::Unavailable };
        for (key, outcome, age) in served {
            self.counters.refresh_status(status);
            if started {
                self.listeners.tell(&Event::RefreshStarted { key: &key });
            }
            self.conclude(Some(&key), outcome, Some(age), status);
        }
    }
}

/// What an entry gives to a lookup of many.
enum Served {
    Now,
    /// Not yet: a load comes first, and this entry is served if it fails.
    IfAllElseFails,
    Nothing,
}
