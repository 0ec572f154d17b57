//! The second level beneath a flight: asked before the loader, told after it, and never in the way (contract S1).

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::thread::panicking;

use futures_util::FutureExt;

use crate::engine::{Engine, Hasher, Key, Value};
use crate::error::Failure;
use crate::event::{Ending, Event, NotStored};
use crate::flight::Flight;
use crate::history::{History, Standing};
use crate::landing::Origin;
use crate::leading::{Inside, leading};
use crate::ledger::Strike;
use crate::level::LevelFuture;
use crate::lifetime::{Freshness, Lifetime};
use crate::load::{Load, Loaded, Traits};
use crate::loader::{BoxError, Made};
use crate::moment::Moment;
use crate::pool::Running;

/// What a load may take from the second level instead of asking its loader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Enough {
    Nothing,
    Fresh,
    /// Also what is stale and may be served at once; but nothing that may be served only after a failure (contract T1).
    Stale,
}

impl Enough {
    /// Whether what has so much left of its life is enough.
    pub(crate) fn takes(self, left: Lifetime) -> bool {
        let windows = left.windows();
        match windows.judge(left.life().end(Moment::default(), 0), Moment::default()) {
            Freshness::Fresh => self != Enough::Nothing,
            Freshness::Stale => self == Enough::Stale,
            Freshness::Fallback | Freshness::Expired => false,
        }
    }
}

impl<K: Key, V: Value, S: Hasher> Engine<K, V, S> {
    /// Makes the value of a flight: asks the second level first, if anything there is `enough`, then `loader`. For a refresh, which is
    /// there to ask the loader, nothing is.
    pub(crate) async fn make_by<E>(
        self: &Arc<Self>,
        flight: &Arc<Flight<K, V>>,
        enough: Enough,
        loader: impl Future<Output = Made<V, E>>,
    ) -> (Made<V, E>, Origin) {
        // The second level from inside, too: who is told that it failed may ask for the key.
        let made = async {
            match self.ask_second_level(flight, enough).await {
                Some(found) => (Ok(Load::Loaded(found)), Origin::SecondLevel),
                None => (loader.await, Origin::Loader),
            }
        };
        leading(flight, made).await
    }

    /// What the second level has of the key of a flight, if it is enough.
    pub(crate) async fn ask_second_level(self: &Arc<Self>, flight: &Flight<K, V>, enough: Enough) -> Option<Loaded<V>> {
        let level = self.second_level.as_ref().filter(|_| enough != Enough::Nothing)?;
        if self.ledger.is_stalled() {
            self.start_paying();
        }
        let struck = self.ledger.may_ask(flight.hash)?;
        match unpanicking(|| level.get(&flight.key)).await {
            Ok(found) => {
                let mut found = found.filter(|found| !found.traits.tags.iter().any(|tag| struck.contains(tag)))?;
                if !enough.takes(found.traits.lifetime.unwrap_or(self.policy.lifetime))
                    || !self.is_storable(&found.value)
                {
                    return None;
                }
                found.traits.is_rest = found.traits.lifetime.is_some_and(|left| left.time_to_live().is_some());
                Some(found)
            }
            Err(error) => {
                self.note_level_failure(Some(&flight.key), &error);
                None
            }
        }
    }

    /// What there will be to tell the second level; from before the landing, so that whatever overtakes it is noticed.
    pub(crate) fn telling(
        self: &Arc<Self>,
        flight: &Arc<Flight<K, V>>,
        made: &Result<Load<V>, Failure>,
        origin: Origin,
    ) -> Option<Telling<K, V, S>> {
        if self.second_level.is_none() || origin == Origin::SecondLevel {
            return None;
        }
        // A clone that asks for the key it is called for waits for itself, as its loader would.
        let _inside = Inside::enter(std::slice::from_ref(flight));
        let mut loaded = match made {
            Ok(Load::Loaded(loaded)) => Some(loaded.clone()),
            Ok(Load::NotModified) => self.what_still_holds(flight),
            Ok(Load::Absent) => None,
            Err(_) => return None,
        };
        if let Some(loaded) = &mut loaded {
            loaded.traits.lifetime.get_or_insert(self.policy.lifetime);
        }
        let tags = loaded.as_ref().map_or(&[][..], |loaded| &loaded.traits.tags);
        let put = self.ledger.begin_put(flight.hash, tags);
        let (engine, flight) = (Arc::clone(self), Arc::clone(flight));
        Some(Telling { engine, flight, put, loaded, sent: false, arrived: false })
    }

    /// The value of which a loader says that it still holds, as it was loaded.
    fn what_still_holds(&self, flight: &Flight<K, V>) -> Option<Loaded<V>> {
        // Of one that was invalidated nothing is told: then the load ends as an absence, or is discarded.
        let old = self.store.peek(flight.hash, &flight.key)?;
        let traits = old.extra().map_or_else(Traits::new, |extra| Traits {
            lifetime: extra.lifetime,
            is_rest: extra.is_rest,
            weight: extra.weight,
            tags: extra.tags.iter().map(|tag| Arc::clone(&tag.name)).collect(),
            token: extra.token.clone(),
        });
        Some(Loaded::with_traits(old.value.clone(), traits))
    }

    /// Begins an invalidation, before its first step in this process; the second level, if there is one, is told when the result is
    /// dropped, after its last.
    #[inline]
    pub(crate) fn strike_beneath(self: &Arc<Self>, strike: impl FnOnce() -> Strike<K>) -> Option<Striking<K, V, S>> {
        self.second_level.as_ref()?;
        let strike = strike();
        self.ledger.open(&strike);
        Some(Striking { owed: Some((Arc::clone(self), strike)) })
    }

    /// Whether a value, its key, a tag of it, or all was declared stale while it was loaded: there is no word for that beneath.
    fn is_stale_from_birth(&self, flight: &Flight<K, V>, loaded: &Loaded<V>) -> bool {
        let began = flight.began;
        flight.expired_at().is_some()
            || self.history.standing(began) != Standing::Good
            || self
                .history
                .tags(&loaded.traits.tags, began)
                .is_none_or(|tags| History::standing_of_tags(&tags, began.tag_point) != Standing::Good)
    }

    /// Tells the second level in the background what it is owed.
    fn start_paying(self: &Arc<Self>) {
        let paying = Paying { engine: Arc::clone(self), strike: None, _running: self.background.begin() };
        if let Err(error) = self.pool.spawner().spawn_task(Box::pin(paying.run())) {
            self.note_unavailable(self.clock.now(), &error);
        }
    }

    fn note_level_failure(&self, key: Option<&K>, error: &BoxError) {
        self.counters.level_failed();
        self.listeners.tell(&Event::LevelFailed { key, reason: &error.to_string() });
    }
}

/// A panic of the second level is a failure of it: it is not in the way of a loader that works (contract S1).
///
/// Boxed once more, so that only those who have a second level pay for the room.
fn unpanicking<'a, T: Send + 'a>(call: impl FnOnce() -> LevelFuture<'a, T> + Send + 'a) -> LevelFuture<'a, T> {
    let answer = AssertUnwindSafe(async move { call().await }).catch_unwind();
    Box::pin(answer.map(|answer| answer.unwrap_or_else(|panic| Err(words_of(&*panic).into()))))
}

fn words_of(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    words.map_or_else(|| "the second level panicked".to_owned(), |words| format!("the second level panicked: {words}"))
}

/// The telling of one load, on its way.
pub(crate) type Told = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What the second level is to be told of one load. Dropped before that is done, it sees to it that no doubtful value stays there.
pub(crate) struct Telling<K: Key, V: Value, S: Hasher> {
    engine: Arc<Engine<K, V, S>>,
    flight: Arc<Flight<K, V>>,
    put: u64,
    /// `None` if there is no such value.
    loaded: Option<Loaded<V>>,
    sent: bool,
    arrived: bool,
}

impl<K: Key, V: Value, S: Hasher> Telling<K, V, S> {
    /// Boxed, so that only those who have a second level pay for the room that this takes in their futures.
    pub(crate) fn send(self, ending: Ending) -> Told {
        Box::pin(self.send_now(ending))
    }

    async fn send_now(mut self, ending: Ending) {
        match ending {
            Ending::Stored | Ending::NotModified => {}
            Ending::Absent => self.loaded = None,
            // Here it has taken the place of what there was, and there it has to.
            Ending::Discarded(NotStored::TooHeavy | NotStored::NotServable) => self.loaded = None,
            _ => return,
        }
        let engine = Arc::clone(&self.engine);
        if self.loaded.as_ref().is_some_and(|loaded| engine.is_stale_from_birth(&self.flight, loaded)) {
            self.loaded = None;
        }
        let Some(level) = &engine.second_level else { return };
        if engine.ledger.is_spoiled(self.flight.hash, self.put) {
            return;
        }
        self.sent = true;
        let key = &self.flight.key;
        let told = match &self.loaded {
            Some(loaded) => {
                let begun_ago = engine.clock.now().since(self.flight.started);
                unpanicking(|| level.put(key, loaded, begun_ago)).await
            }
            None => unpanicking(|| level.remove(key)).await,
        };
        match told {
            Ok(()) => self.arrived = true,
            Err(error) => engine.note_level_failure(Some(key), &error),
        }
    }
}

impl<K: Key, V: Value, S: Hasher> Drop for Telling<K, V, S> {
    fn drop(&mut self) {
        let Telling { engine, flight, .. } = self;
        // By a panic: it is not known what it had changed here already.
        let in_doubt = self.sent || panicking();
        if !engine.ledger.end_put(flight.hash, self.put, in_doubt, self.arrived) {
            return;
        }
        // Contained, for this may be part of that panic: a second one would end the process. Then it stays owed, and nobody asks there.
        let Ok(key) = catch_unwind(AssertUnwindSafe(|| flight.key.clone())) else { return };
        if engine.ledger.due(Strike::Key(flight.hash, key)) {
            engine.start_paying();
        }
    }
}

/// An invalidation that is under way in this process.
pub(crate) struct Striking<K: Key, V: Value, S: Hasher> {
    /// Until it is paid.
    owed: Option<Owed<K, V, S>>,
}

type Owed<K, V, S> = (Arc<Engine<K, V, S>>, Strike<K>);

impl<K: Key, V: Value, S: Hasher> Drop for Striking<K, V, S> {
    fn drop(&mut self) {
        if let Some((engine, strike)) = self.owed.take()
            && engine.ledger.due(strike)
        {
            engine.start_paying();
        }
    }
}

/// Whoever tells the second level what it is owed; it stops at the first failure.
struct Paying<K: Key, V: Value, S: Hasher> {
    engine: Arc<Engine<K, V, S>>,
    /// The strike that it is being told of.
    strike: Option<Strike<K>>,
    _running: Running,
}

impl<K: Key, V: Value, S: Hasher> Paying<K, V, S> {
    async fn run(mut self) {
        let engine = Arc::clone(&self.engine);
        let Some(level) = &engine.second_level else { return };
        loop {
            self.strike = engine.ledger.next();
            let (key, told) = match &self.strike {
                Some(Strike::Key(_, key)) => (Some(key), unpanicking(|| level.remove(key)).await),
                Some(Strike::Tag(tag)) => (None, unpanicking(|| level.remove_tag(tag)).await),
                Some(Strike::All) => (None, unpanicking(|| level.clear()).await),
                None => return,
            };
            if let Err(error) = told {
                engine.note_level_failure(key, &error);
                return;
            }
            if let Some(strike) = self.strike.take() {
                engine.ledger.paid(&strike);
            }
        }
    }
}

impl<K: Key, V: Value, S: Hasher> Drop for Paying<K, V, S> {
    fn drop(&mut self) {
        match self.strike.take() {
            Some(strike) => self.engine.ledger.unpaid(strike),
            // Dropped before it began; or relieved already, and then another who began since may get company, which does no harm:
            // no strike is told by two.
            None => self.engine.ledger.relieve(),
        }
    }
}
