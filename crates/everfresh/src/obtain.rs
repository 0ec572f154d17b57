//! The story of one lookup that may load: look, join or lead, wait no longer than told, and serve the old value if that is
//! better than nothing. Both doors come through here; a thread drives the same steps that a task does.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::beneath::Enough;
use crate::coalesce::{Answer, Awaited, Bounds, Later, Obtained};
use crate::engine::{Engine, Hasher, Key, Negative, Stage, Value};
use crate::entry::Entry;
use crate::error::{Error, Failure, LoadError};
use crate::event::{Cause, Ending, Outcome, RefreshStatus};
use crate::flight::{Flight, Joined, Leader, Purpose};
use crate::key::AsKey;
use crate::landing::{Landed, Origin};
use crate::leading::{Inside, leading};
use crate::lifetime::Freshness;
use crate::load::{IntoLoad, Load, Previous};
use crate::loader::{Async, BoxError, Gate, Loader, Made, WideLoader};
use crate::moment::Moment;
use crate::store::Ref;

/// What an entry gives to a lookup.
enum Served<V> {
    Now(Answer<V>),
    /// Not yet: a load comes first, and this entry is served if it fails.
    IfAllElseFails,
    Nothing,
}

impl<K: Key, V: Value, S: Hasher> Engine<K, V, S> {
    /// A lookup that loads what it cannot serve.
    pub(crate) async fn obtain<Q, L>(
        self: &Arc<Self>,
        hash: u64,
        key: &Q,
        bounds: Bounds,
        loader: L,
    ) -> Result<Answer<V>, LoadError<L::Error>>
    where
        Q: AsKey<K> + ?Sized,
        L: Loader<K, V>,
    {
        self.obtain_or_why(hash, key, bounds, loader).await.map_err(|(Gave::Up(error) | Gave::Remembered(error))| error)
    }

    /// As [`obtain`](Engine::obtain), and tells a remembered error from one of now.
    pub(crate) async fn obtain_or_why<Q, L>(
        self: &Arc<Self>,
        hash: u64,
        key: &Q,
        bounds: Bounds,
        loader: L,
    ) -> Result<Answer<V>, Gave<L::Error>>
    where
        Q: AsKey<K> + ?Sized,
        L: Loader<K, V>,
    {
        let result = self.try_obtain(hash, key, bounds, loader).await;
        self.conclude_obtained(&result);
        result
    }

    fn conclude_obtained<E>(&self, result: &Result<Answer<V>, Gave<E>>) {
        match result {
            Ok(answer) => self.conclude(None, answer.outcome, Some(answer.age), answer.refresh),
            Err(Gave::Up(_)) => self.conclude(None, Outcome::Failed, None, RefreshStatus::NotNeeded),
            Err(Gave::Remembered(_)) => self.conclude(None, Outcome::Negative, None, RefreshStatus::NotNeeded),
        }
    }

    /// The lead of a load, for a lookup without bounds of its own, if there is nothing here that it would have to look at before.
    fn take_lead<Q: AsKey<K> + ?Sized>(self: &Arc<Self>, hash: u64, key: &Q, bounds: &Bounds) -> Option<Leader<K, V>> {
        let bound = bounds.bypass || bounds.elsewhere || bounds.wait_at_most.or(bounds.load_timeout).is_some();
        if bound || self.negatives.is_some() || self.second_level.is_some() || self.store.peek(hash, key).is_some() {
            return None;
        }
        match self.begin(hash, key, Purpose::Load, self.clock.now(), Moment::NEVER) {
            Joined::Lead(leader) if !self.landed_meanwhile(hash, key) => Some(leader),
            _ => None,
        }
    }

    /// As [`obtain`](Engine::obtain) for the asynchronous door.
    pub(crate) fn obtain_later<'a, Q, F, Fut, const PREVIOUS: bool>(
        self: &'a Arc<Self>,
        hash: u64,
        key: &'a Q,
        bounds: Bounds,
        loader: Async<F, PREVIOUS>,
    ) -> impl Future<Output = Obtained<V, <Fut::Output as IntoLoad<V>>::Error>> + Send + 'a
    where
        Q: AsKey<K> + Sync + ?Sized,
        F: FnOnce(Option<Previous<V>>) -> Fut + Send + 'static,
        Fut: Future<Output: IntoLoad<V>> + Send + 'static,
    {
        self.coalesce_or(hash, key, bounds.of_waiting(), move || self.set_out(hash, key, bounds, loader))
    }

    /// The way of a lookup that has not found what it may serve, and nobody to wait for: mostly there is nothing to look at, and it
    /// leads. Then its future holds the load and little else: at each step that a loader takes, its task comes through all the
    /// futures around it.
    pub(crate) fn set_out<'a, Q, F, Fut, const PREVIOUS: bool>(
        self: &'a Arc<Self>,
        hash: u64,
        key: &'a Q,
        bounds: Bounds,
        loader: Async<F, PREVIOUS>,
    ) -> Later<'a, V, <Fut::Output as IntoLoad<V>>::Error>
    where
        Q: AsKey<K> + Sync + ?Sized,
        F: FnOnce(Option<Previous<V>>) -> Fut + Send + 'static,
        Fut: Future<Output: IntoLoad<V>> + Send + 'static,
    {
        match self.take_lead(hash, key, &bounds) {
            Some(leader) => Box::pin(self.lead_alone(leader, loader, key)),
            None => Box::pin(self.obtain(hash, key, bounds, loader)),
        }
    }

    /// As [`obtain_later`](Engine::obtain_later), by the cache's own loader.
    pub(crate) fn obtain_widely<'a, Q: AsKey<K> + Sync + ?Sized>(
        self: &'a Arc<Self>,
        hash: u64,
        key: &'a Q,
        bounds: Bounds,
        loader: WideLoader<K, V>,
    ) -> impl Future<Output = Obtained<V, BoxError>> + Send + 'a {
        // As `set_out`, in full: only of a loader whose type is known does the compiler know that its futures are `Send`.
        let whole_way = move || -> Later<'a, V, BoxError> {
            match self.take_lead(hash, key, &bounds) {
                Some(leader) => Box::pin(self.lead_alone(leader, loader, key)),
                None => Box::pin(self.obtain(hash, key, bounds, loader)),
            }
        };
        self.coalesce_or(hash, key, bounds.of_waiting(), whole_way)
    }

    async fn try_obtain<Q, L>(
        self: &Arc<Self>,
        hash: u64,
        key: &Q,
        bounds: Bounds,
        loader: L,
    ) -> Result<Answer<V>, Gave<L::Error>>
    where
        Q: AsKey<K> + ?Sized,
        L: Loader<K, V>,
    {
        let begun = self.clock.now();
        let give_up_at = bounds.wait_at_most.map_or(Moment::NEVER, |bound| begun.after(bound));
        let mut loader = Some(loader);
        let mut now = begun;
        loop {
            let gate = loader.as_ref().and_then(Loader::gate);
            let mut old = Old::None;
            if !bounds.bypass {
                match self.serve(hash, key, bounds.max_stale, &mut loader) {
                    Served::Now(answer) => return Ok(answer),
                    Served::IfAllElseFails => {
                        old = Old::ServeIfAllElseFails { max_stale: bounds.max_stale, gate };
                    }
                    Served::Nothing => {
                        if let Some(error) = self.remembered(hash, key) {
                            return Err(Gave::Remembered(error));
                        }
                    }
                }
            }
            let deadline = bounds.load_timeout.map_or(Moment::NEVER, |bound| now.after(bound));
            let patience = match (&old, bounds.soft_timeout) {
                (Old::ServeIfAllElseFails { .. }, Some(soft)) => give_up_at.min(begun.after(soft)),
                _ => give_up_at,
            };
            let (mut wait, join_point, own) = match self.begin(hash, key, Purpose::Load, now, deadline) {
                Joined::Full => return self.fall_back(hash, key, old, Error::OVERLOADED.into()),
                Joined::Recursive => return Err(Gave::Up(Error::RECURSIVE.into())),
                Joined::Wait { wait, join_point } => (wait, join_point, false),
                Joined::Lead(leader) => {
                    if !bounds.bypass && self.landed_meanwhile(hash, key) {
                        drop(leader);
                        now = self.clock.now();
                        continue;
                    }
                    let Some(taken) = loader.take() else { return Err(Gave::Up(Error::PANICKED.into())) };
                    let in_a_hurry = patience != Moment::NEVER || deadline != Moment::NEVER;
                    if !(in_a_hurry || bounds.elsewhere) || !taken.can_detach() {
                        return self.lead(leader, taken, key, old, bounds).await;
                    }
                    let began = leader.flight().began;
                    let wait = leader.wait();
                    let running = self.background.begin();
                    match taken.detach().map(|it| self.run_behind(leader, it, bounds.enough(), None, running)) {
                        Ok(Ok(())) => (wait, began.tag_point, true),
                        Ok(Err(error)) => {
                            self.note_unavailable(now, &error);
                            return self.fall_back(hash, key, old, Error::UNAVAILABLE.into());
                        }
                        Err(_) => return self.fall_back(hash, key, old, Error::NO_LOADER.into()),
                    }
                }
            };
            let flight = own.then(|| Arc::clone(wait.flight()));
            let holds = || flight.as_ref().is_some_and(|flight| flight.ending() == Some(Ending::NotModified));
            let mut awaited = self.await_landing(&mut wait, join_point, patience).await;
            if awaited.is_none() && patience < give_up_at {
                if let Some(left) = self.what_is_left_of(hash, key, &old) {
                    return Ok(left);
                }
                // What was better than waiting any longer has gone meanwhile.
                awaited = self.await_landing(&mut wait, join_point, give_up_at).await;
            }
            drop(wait);
            match awaited.unwrap_or(Awaited::TimedOut) {
                // It was held already, which would not do, or may have been stale for too long.
                Awaited::Value { from_second_level: true, .. } if !own && bounds.enough() != Enough::Stale => {
                    now = self.clock.now();
                }
                Awaited::Value { value, loaded_at, from_second_level } => {
                    let outcome = match (bounds.bypass, own, from_second_level) {
                        (true, ..) => Outcome::Bypass,
                        (_, false, _) => Outcome::Coalesced,
                        (_, true, true) => Outcome::SecondLevel,
                        (_, true, false) if holds() => Outcome::Revalidated,
                        (_, true, false) => Outcome::Loaded,
                    };
                    let age = self.age_told(bounds.aged, loaded_at);
                    return Ok(Answer { value, outcome, age, refresh: RefreshStatus::NotNeeded });
                }
                Awaited::Failed(failure) => return self.fall_back(hash, key, old, failure.to_load_error()),
                Awaited::Absent => return Err(Gave::Up(Error::ABSENT.into())),
                Awaited::TimedOut if !own && self.policy.outlasts_others => now = self.clock.now(),
                Awaited::TimedOut => return self.fall_back(hash, key, old, Error::TIMED_OUT.into()),
                Awaited::StartOver => match flight {
                    Some(flight) => return self.fall_back(hash, key, old, not_run(&flight).into()),
                    None => now = self.clock.now(),
                },
            }
        }
    }

    /// What the store holds of a key, and a refresh if that wants one.
    fn serve<Q, L>(
        self: &Arc<Self>,
        hash: u64,
        key: &Q,
        max_stale: Option<Duration>,
        loader: &mut Option<L>,
    ) -> Served<V>
    where
        Q: AsKey<K> + ?Sized,
        L: Loader<K, V>,
    {
        let Some(found) = self.store.find(hash, key) else { return Served::Nothing };
        let now = self.clock.now();
        let stage = self.stage(&found, now);
        let gate = loader.as_ref().and_then(Loader::gate);
        if stage.freshness != Freshness::Expired && gate.is_some_and(|gate| !gate(&found.value)) {
            self.refuse(&found);
            return Served::Nothing;
        }
        let age = now.since(found.loaded_at());
        let serve = |outcome, refresh| {
            found.touch(now);
            Served::Now(Answer { value: found.value.clone(), outcome, age, refresh })
        };
        let mut refresh = || {
            self.refresh(hash, &found, now, None, || loader.take().map_or(Err(RefreshStatus::NoLoader), Loader::detach))
        };
        match stage.freshness {
            Freshness::Fresh if self.wants_early_refresh(&found, stage, now) => {
                let status = refresh();
                serve(Outcome::Hit, status)
            }
            Freshness::Fresh => serve(Outcome::Hit, RefreshStatus::NotNeeded),
            Freshness::Stale if !self.is_too_stale(&found, stage, now, max_stale) => {
                let status = refresh();
                serve(Outcome::Stale, status)
            }
            Freshness::Fallback if self.is_backing_off(&found, now) && max_stale.is_none() => {
                self.counters.refresh_status(RefreshStatus::BackingOff);
                serve(Outcome::Fallback, RefreshStatus::BackingOff)
            }
            Freshness::Fallback if !self.is_too_stale(&found, stage, now, max_stale) => Served::IfAllElseFails,
            _ => Served::Nothing,
        }
    }

    /// Removes what may not be served, and only that very one: not what somebody else has put in its place meanwhile.
    pub(crate) fn refuse(&self, found: &Ref<'_, K, V>) {
        if let Some(gone) = self.store.remove_exact(found) {
            self.depart(gone, Cause::Invalidated);
        }
    }

    /// A lookup that never loads, for a cache without a loader of its own.
    pub(crate) fn look<Q: AsKey<K> + ?Sized>(
        self: &Arc<Self>,
        hash: u64,
        key: &Q,
        max_stale: Option<Duration>,
    ) -> Option<Answer<V>> {
        let mut loader = self.loader.clone();
        let served = self.serve(hash, key, max_stale, &mut loader);
        match served {
            Served::Now(answer) => Some(answer),
            // Nobody can load here: what is good enough after a failure is good enough now.
            Served::IfAllElseFails => self.what_is_left(hash, key, max_stale, None),
            Served::Nothing => None,
        }
    }

    pub(crate) fn is_backing_off(&self, entry: &Entry<K, V>, now: Moment) -> bool {
        let attempt = entry.attempt();
        !attempt.running && attempt.failures > 0 && attempt.until > now
    }

    /// Whether a flight has landed between the look and the taking of the lead.
    pub(crate) fn landed_meanwhile<Q: AsKey<K> + ?Sized>(&self, hash: u64, key: &Q) -> bool {
        let Some(found) = self.store.peek(hash, key) else {
            return self.negatives.as_ref().is_some_and(|negatives| negatives.peek(hash, key).is_some())
                && self.remembered::<Q, std::convert::Infallible>(hash, key).is_some();
        };
        let stage: Stage = self.stage(&found, self.clock.now());
        stage.freshness == Freshness::Fresh
    }

    pub(crate) fn remembered<Q: AsKey<K> + ?Sized, E: Send + Sync + 'static>(
        &self,
        hash: u64,
        key: &Q,
    ) -> Option<LoadError<E>> {
        let found = self.negatives.as_ref()?.find(hash, key)?;
        let cleared = found.epoch() != self.history.epoch();
        if cleared || self.clock.now() >= self.end_of_negative(&found) {
            return None;
        }
        Some(match &found.value {
            Negative::Failed(failure) => failure.to_load_error(),
            Negative::Absent => Error::ABSENT.into(),
        })
    }

    /// Loads here and now, in the caller's own time.
    async fn lead<Q: AsKey<K> + ?Sized, L: Loader<K, V>>(
        self: &Arc<Self>,
        leader: Leader<K, V>,
        loader: L,
        key: &Q,
        old: Old<V>,
        bounds: Bounds,
    ) -> Result<Answer<V>, Gave<L::Error>> {
        let flight = Arc::clone(leader.flight());
        let mut unfinished = Unfinished { engine: self, flight: Arc::clone(&flight), leader: Some(leader) };
        let (made, origin) = self.make_by(&flight, bounds.enough(), self.run(loader, &flight)).await;
        let (made, error) = shared::<K, V, L>(made);
        let telling = self.telling(&flight, &made, origin);
        let landed = self.land(unfinished.leader(), made, origin);
        let told = telling.map(|telling| telling.send(landed.ending));
        drop(unfinished);
        if let Some(told) = told {
            told.await;
        }
        if let Some(error) = error {
            return self.fall_back(flight.hash, key, old, LoadError::Load(error));
        }
        let mut answer = answer_of(landed, origin)?;
        if bounds.bypass {
            answer.outcome = Outcome::Bypass;
        }
        Ok(answer)
    }

    /// As [`lead`](Engine::lead), and the whole of a lookup, where there is no second level and nothing old.
    async fn lead_alone<Q: AsKey<K> + ?Sized, L: Loader<K, V>>(
        self: &Arc<Self>,
        leader: Leader<K, V>,
        loader: L,
        key: &Q,
    ) -> Obtained<V, L::Error> {
        let flight = Arc::clone(leader.flight());
        let mut unfinished = Unfinished { engine: self, flight: Arc::clone(&flight), leader: Some(leader) };
        // As `run`, without a future around the loader's.
        let previous = {
            let _inside = Inside::enter(std::slice::from_ref(&flight));
            self.shown_to(&loader, &flight)
        };
        let (made, error) = shared::<K, V, L>(leading(&flight, loader.run(&flight.key, previous)).await);
        let landed = self.land(unfinished.leader(), made, Origin::Loader);
        drop(unfinished);
        let result = match error {
            Some(error) => self.fall_back(flight.hash, key, Old::None, LoadError::Load(error)),
            None => answer_of(landed, Origin::Loader),
        };
        self.conclude_obtained(&result);
        result.map_err(|(Gave::Up(error) | Gave::Remembered(error))| error)
    }

    /// What the loader makes for a flight, shown what there was if it wants that.
    async fn run<L: Loader<K, V>>(&self, loader: L, flight: &Flight<K, V>) -> Made<V, L::Error> {
        let previous = self.shown_to(&loader, flight);
        loader.run(&flight.key, previous).await
    }

    fn shown_to<L: Loader<K, V>>(&self, loader: &L, flight: &Flight<K, V>) -> Option<Previous<V>> {
        if loader.wants_previous() { self.previous(flight) } else { None }
    }

    /// The old value if there still is one that may be served after a failure, else the error. It is looked up again: what
    /// was invalidated while the load ran is not served.
    fn fall_back<Q: AsKey<K> + ?Sized, E>(
        &self,
        hash: u64,
        key: &Q,
        old: Old<V>,
        error: LoadError<E>,
    ) -> Result<Answer<V>, Gave<E>> {
        self.what_is_left_of(hash, key, &old).ok_or(Gave::Up(error))
    }

    fn what_is_left_of<Q: AsKey<K> + ?Sized>(&self, hash: u64, key: &Q, old: &Old<V>) -> Option<Answer<V>> {
        match *old {
            Old::ServeIfAllElseFails { max_stale, gate } => self.what_is_left(hash, key, max_stale, gate),
            Old::None => None,
        }
    }

    /// What may be served after a failure, and is: that counts as a read.
    pub(crate) fn what_is_left<Q: AsKey<K> + ?Sized>(
        &self,
        hash: u64,
        key: &Q,
        max_stale: Option<Duration>,
        gate: Option<Gate<V>>,
    ) -> Option<Answer<V>> {
        let found = self.store.peek(hash, key)?;
        let now = self.clock.now();
        let stage = self.stage(&found, now);
        if stage.freshness == Freshness::Expired || self.is_too_stale(&found, stage, now, max_stale) {
            return None;
        }
        // It may have gone bad while the load ran that failed.
        if gate.is_some_and(|gate| !gate(&found.value)) {
            self.refuse(&found);
            return None;
        }
        found.touch(now);
        Some(Answer {
            value: found.value.clone(),
            outcome: Outcome::Fallback,
            age: now.since(found.loaded_at()),
            refresh: RefreshStatus::NotNeeded,
        })
    }
}

/// Whether an old value is to be served after a failure.
enum Old<V> {
    None,
    /// If it is not too stale by then, and passes.
    ServeIfAllElseFails {
        max_stale: Option<Duration>,
        gate: Option<Gate<V>>,
    },
}

/// Why a load that ran behind its caller has left nothing to wait for.
pub(crate) fn not_run<K, V>(flight: &Flight<K, V>) -> Error {
    if flight.ending() == Some(Ending::Abandoned) { Error::UNAVAILABLE } else { Error::PANICKED }
}

/// Why there is no answer.
pub(crate) enum Gave<E> {
    Up(LoadError<E>),
    /// It was known before the lookup began.
    Remembered(LoadError<E>),
}

/// What a loader made, and its error as its own caller is given it.
type Told<V, E> = (Result<Load<V>, Failure>, Option<Arc<E>>);

/// An error of a loader as all who wait are given it, and as its own caller is.
fn shared<K, V, L: Loader<K, V>>(made: Made<V, L::Error>) -> Told<V, L::Error> {
    match made {
        Ok(load) => (Ok(load), None),
        Err(error) => {
            let error = Arc::new(error);
            (Err(Failure::shared(Arc::clone(&error)).passing(L::is_passing(&error))), Some(error))
        }
    }
}

/// What the leader of a flight is given that has not failed.
fn answer_of<V, E>(landed: Landed<V>, origin: Origin) -> Result<Answer<V>, Gave<E>> {
    let Some(value) = landed.value else { return Err(Gave::Up(Error::ABSENT.into())) };
    let outcome = match (origin, landed.ending) {
        (Origin::SecondLevel, _) => Outcome::SecondLevel,
        (_, Ending::NotModified) => Outcome::Revalidated,
        _ => Outcome::Loaded,
    };
    Ok(Answer { value, outcome, age: Duration::ZERO, refresh: RefreshStatus::NotNeeded })
}

/// A load in the foreground that has not ended: counts it when it is dropped or unwound.
struct Unfinished<'a, K: Key, V: Value, S: Hasher> {
    engine: &'a Engine<K, V, S>,
    flight: Arc<Flight<K, V>>,
    /// There until the flight is landed.
    leader: Option<Leader<K, V>>,
}

impl<K: Key, V: Value, S: Hasher> Unfinished<'_, K, V, S> {
    fn leader(&mut self) -> Leader<K, V> {
        match self.leader.take() {
            Some(leader) => leader,
            None => unreachable!("the leader is taken once, to land the flight"),
        }
    }
}

impl<K: Key, V: Value, S: Hasher> Drop for Unfinished<'_, K, V, S> {
    fn drop(&mut self) {
        if let Some(leader) = self.leader.take() {
            let ending = if std::thread::panicking() { Ending::Panicked } else { Ending::Abandoned };
            self.flight.note_ending(ending);
            drop(leader);
            self.engine.report(&self.flight, ending, self.engine.clock.now());
        }
    }
}
