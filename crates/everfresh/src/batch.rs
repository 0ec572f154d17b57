//! Flights that one call of a loader is to end, here or behind.

use std::collections::HashMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;

use crate::beneath::{Enough, Telling};
use crate::drive::drive;
use crate::engine::{Engine, Hasher, Key, Value};
use crate::error::Failure;
use crate::event::Ending;
use crate::flight::{Flight, Leader, Purpose};
use crate::landing::{Landed, Origin};
use crate::leading::{Inside, leading_all};
use crate::load::{Load, Loaded};
use crate::moment::Moment;
use crate::pool::{Permit, Running};
use crate::refresh::{Unpanicking, first_of};

/// Loads many keys at once; called for the missing ones here, and for the stale ones behind.
pub(crate) type Batch<K, V, E> = Arc<dyn Fn(Vec<K>) -> BatchFuture<K, V, E> + Send + Sync>;
type BatchFuture<K, V, E> = Pin<Box<dyn Future<Output = Result<HashMap<K, V>, E>> + Send>>;

impl<K: Key, V: Value, S: Hasher> Engine<K, V, S> {
    /// Hands flights over to a worker or a runtime; `false` if there is none.
    pub(crate) fn start_many<E: Send + Sync + 'static>(
        self: &Arc<Self>,
        mut led: Led<K, V, S>,
        batch: &Batch<K, V, E>,
        blocking: bool,
    ) -> bool {
        let one_of_two = Arc::new(AtomicBool::new(false));
        led.one_of_two = Some(Arc::clone(&one_of_two));
        led.running.get_or_insert_with(|| self.background.begin());
        let flights = led.flights.clone();
        let work = led.run(Arc::clone(batch));
        #[cfg(feature = "tracing")]
        let work = tracing::Instrument::instrument(work, crate::trace::background_span());
        let taken = if blocking {
            self.pool.spawner().spawn_job(Box::new(move || drive(work)))
        } else {
            self.pool.spawner().spawn_task(Box::pin(work))
        };
        match taken {
            Ok(()) if one_of_two.swap(true, Ordering::AcqRel) => {
                flights.iter().for_each(|flight| self.note_dropped(flight));
            }
            Ok(()) => self.told_unavailable.store(false, Ordering::Relaxed),
            Err(ref error) => self.note_unavailable(self.clock.now(), error),
        }
        taken.is_ok()
    }
}

/// How one flight of many has ended.
pub(crate) struct Ended<K: Key, V: Value, S: Hasher> {
    pub(crate) flight: Arc<Flight<K, V>>,
    pub(crate) value: Option<V>,
    pub(crate) origin: Origin,
    ending: Ending,
    telling: Option<Telling<K, V, S>>,
}

/// What the second level has of all that is loaded, with so much of its life as is left of it when the last answer has come.
pub(crate) async fn ask_beneath<K: Key, V: Value, S: Hasher>(
    engine: &Arc<Engine<K, V, S>>,
    flights: &[Arc<Flight<K, V>>],
) -> HashMap<K, Loaded<V>> {
    if engine.second_level.is_none() {
        return HashMap::new();
    }
    let loads = flights.iter().filter(|flight| flight.purpose == Purpose::Load);
    let asked = loads.map(|flight| async move {
        let found = engine.ask_second_level(flight, Enough::Stale).await?;
        Some((flight, found, engine.clock.now()))
    });
    // From inside, as below: who is told that it failed may ask for a key, and so may a key when it is copied.
    let answers = leading_all(flights, join_all(asked)).await;
    let _inside = Inside::enter(flights);
    let now = engine.clock.now();
    let of_now = |(flight, mut found, given): (&Arc<Flight<K, V>>, Loaded<V>, Moment)| {
        if let Some(left) = &mut found.traits.lifetime {
            *left = left.later(now.since(given));
            // What was enough when it was given may be over by now (contract T1).
            if !Enough::Stale.takes(*left) {
                return None;
            }
        }
        Some((flight.key.clone(), found))
    };
    answers.into_iter().flatten().filter_map(of_now).collect()
}

/// What the loader makes of all the keys, for those who want an error of its own kind.
pub(crate) type MadeOfMany<K, V, E> = Result<HashMap<K, V>, Arc<E>>;

pub(crate) async fn load_all<K: Key, V: Value, E>(
    flights: &[Arc<Flight<K, V>>],
    batch: &Batch<K, V, E>,
) -> MadeOfMany<K, V, E> {
    if flights.is_empty() {
        return Ok(HashMap::new());
    }
    // The loader is called from inside, so that it is told when it asks for one of its own keys (contract L8); and the keys
    // are copied there, as that is the user's code, too.
    let keys = || flights.iter().map(|flight| flight.key.clone()).collect();
    leading_all(flights, async { batch(keys()).await }).await.map_err(Arc::new)
}

pub(crate) async fn tell_all<K: Key, V: Value, S: Hasher>(landed: Vec<Ended<K, V, S>>) {
    let told = landed.into_iter().filter_map(|ended| Some(ended.telling?.send(ended.ending)));
    let _: Vec<()> = join_all(told).await;
}

/// Flights that one call of the loader is to end; dropped before that, their keys are free again (contract L3).
pub(crate) struct Led<K: Key, V: Value, S: Hasher> {
    engine: Arc<Engine<K, V, S>>,
    pub(crate) flights: Vec<Arc<Flight<K, V>>>,
    /// As long as `flights` until they are landed.
    pub(crate) leaders: Vec<Leader<K, V>>,
    /// For each, whether there is an old value to fall back on.
    pub(crate) old: Vec<bool>,
    pub(crate) any_old: bool,
    /// If it runs behind: the spawner took it, or it was dropped before its end; the second of the two to happen tells.
    one_of_two: Option<Arc<AtomicBool>>,
    /// One place in the pool for all of them.
    pub(crate) permit: Option<Permit>,
    pub(crate) running: Option<Running>,
}

impl<K: Key, V: Value, S: Hasher> Led<K, V, S> {
    pub(crate) fn new(engine: &Arc<Engine<K, V, S>>) -> Led<K, V, S> {
        Led {
            engine: Arc::clone(engine),
            flights: Vec::new(),
            leaders: Vec::new(),
            old: Vec::new(),
            any_old: false,
            one_of_two: None,
            permit: None,
            running: None,
        }
    }

    #[must_use = "dropped too early, who asks for the key from here waits for ever"]
    pub(crate) fn take_on(&mut self, leader: Leader<K, V>, old: bool) -> Inside {
        let inside = Inside::enter(std::slice::from_ref(leader.flight()));
        self.flights.push(Arc::clone(leader.flight()));
        self.leaders.push(leader);
        self.old.push(old);
        self.any_old |= old;
        inside
    }

    /// What has been overtaken before it began is not begun, unless somebody waits for it.
    fn skip_those_for_nobody(&mut self) {
        let is_for_nobody = |leader: &mut Leader<K, V>| self.engine.is_for_nobody(leader.flight());
        let skipped: Vec<_> = self.leaders.extract_if(.., is_for_nobody).collect();
        if !skipped.is_empty() {
            // Whoever is told of one of them and asks for another would wait for this thread.
            let _inside = Inside::enter(&self.flights);
            self.flights = self.leaders.iter().map(|leader| Arc::clone(leader.flight())).collect();
            skipped.into_iter().for_each(|leader| self.engine.skip(leader));
        }
    }

    /// Runs behind the callers, to the end or to the deadline.
    async fn run<E: Send + Sync + 'static>(mut self, batch: Batch<K, V, E>) {
        self.skip_those_for_nobody();
        if self.leaders.is_empty() {
            return;
        }
        let engine = Arc::clone(&self.engine);
        let deadline = self.flights.iter().map(|flight| flight.deadline).min().unwrap_or(Moment::NEVER);
        if engine.second_level.is_some() {
            let (engine, flights) = (Arc::clone(&engine), self.flights.clone());
            let asked = self.within(deadline, async move { ask_beneath(&engine, &flights).await }).await;
            let Some(found) = asked else { return };
            if catch_unwind(AssertUnwindSafe(|| self.land_found(found))).is_err() {
                return self.panicked();
            }
        }
        let flights = self.flights.clone();
        let loaded = self.within(deadline, async move { load_all(&flights, &batch).await }).await;
        let Some(made) = loaded else { return };
        match catch_unwind(AssertUnwindSafe(|| self.land(made))) {
            Ok(landed) => {
                let _ = first_of(tell_all(landed), engine.clock.sleep_until(deadline)).await;
            }
            Err(_panic) => self.panicked(),
        }
    }

    /// What the work comes to; `None` if it panics or is not done in time, and so its flights have ended.
    async fn within<T>(&mut self, deadline: Moment, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let mut work = Unpanicking(Box::pin(work));
        match first_of(&mut work, self.engine.clock.sleep_until(deadline)).await {
            Some(Ok(done)) => return Some(done),
            Some(Err(_panicked)) => self.panicked(),
            None => {
                let _inside = Inside::enter(&self.flights);
                self.flights.iter().for_each(|flight| self.engine.give_up_in_time(flight));
                self.leaders.clear();
                work.give_up();
            }
        }
        None
    }

    /// Lands what the second level had, before the loader is called for the rest: nobody waits for that who need not, and no
    /// value is given a longer life than is left of it.
    pub(crate) fn land_found(&mut self, mut found: HashMap<K, Loaded<V>>) -> Vec<Ended<K, V, S>> {
        if found.is_empty() {
            return Vec::new();
        }
        // As in `land`.
        let _inside = Inside::enter(&self.flights);
        self.leaders.reverse();
        self.leaders.sort_by_cached_key(|leader| found.contains_key(&leader.flight().key));
        let mut landed = Vec::with_capacity(found.len());
        while let Some(found) = self.leaders.last().and_then(|leader| found.remove(&leader.flight().key)) {
            landed.extend(self.land_last(Ok(Load::Loaded(found)), Origin::SecondLevel));
        }
        self.leaders.reverse();
        self.flights = self.leaders.iter().map(|leader| Arc::clone(leader.flight())).collect();
        landed
    }

    pub(crate) fn land<E: Send + Sync + 'static>(&mut self, mut made: MadeOfMany<K, V, E>) -> Vec<Ended<K, V, S>> {
        // Whoever is told of the first of them, or copies its value, and asks for the last would wait for this thread.
        let _inside = Inside::enter(&self.flights);
        let mut landed = Vec::with_capacity(self.leaders.len());
        self.leaders.reverse();
        while let Some(leader) = self.leaders.last() {
            let load = match &mut made {
                Ok(values) => {
                    let value = values.remove(&leader.flight().key);
                    Ok(value.map_or(Load::Absent, |value| Load::Loaded(Loaded::new(value))))
                }
                Err(error) => Err(Failure::shared(Arc::clone(error))),
            };
            landed.extend(self.land_last(load, Origin::Loader));
        }
        landed
    }

    fn land_last(&mut self, load: Result<Load<V>, Failure>, origin: Origin) -> Option<Ended<K, V, S>> {
        let flight = Arc::clone(self.leaders.last()?.flight());
        let telling = self.engine.telling(&flight, &load, origin);
        let Landed { ending, value } = self.engine.land(self.leaders.pop()?, load, origin);
        Some(Ended { flight, value, origin, ending, telling })
    }

    fn panicked(&mut self) {
        let _inside = Inside::enter(&self.flights);
        self.leaders.drain(..).for_each(|leader| self.engine.land_panic(leader));
    }
}

impl<K: Key, V: Value, S: Hasher> Drop for Led<K, V, S> {
    fn drop(&mut self) {
        let left: Vec<_> = self.leaders.drain(..).collect();
        if left.is_empty() {
            return;
        }
        let flights: Vec<_> = left.iter().map(|leader| Arc::clone(leader.flight())).collect();
        let now = self.engine.clock.now();
        let in_front = self.one_of_two.is_none();
        let ending = if in_front && std::thread::panicking() { Ending::Panicked } else { Ending::Abandoned };
        flights.iter().for_each(|flight| flight.note_ending(ending));
        left.into_iter().for_each(|leader| self.engine.give_up(leader));
        match &self.one_of_two {
            Some(one_of_two) => {
                if one_of_two.swap(true, Ordering::AcqRel) {
                    flights.iter().for_each(|flight| self.engine.note_dropped(flight));
                }
            }
            None => {
                // Of a refresh nobody has heard that it began.
                let begun = flights.iter().filter(|flight| flight.purpose == Purpose::Load);
                begun.for_each(|flight| self.engine.report(flight, ending, now));
            }
        }
    }
}
