//! What is being fetched: one flight per URI and variant; others wait for it, and purges strike it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use http::header::{AUTHORIZATION, COOKIE, HeaderMap};
use http::{Method, StatusCode, request};
use tokio::sync::watch;

use super::fetch::FetchError;
use super::fill::Fill;
use super::page::{Stored, Target};
use crate::rfc9111::{Extent, Meta, Vary};

/// How far a flight has come.
#[derive(Clone)]
pub(crate) enum Phase {
    /// No answer yet.
    Pending,
    /// A response that is being stored; its body is on the way.
    Filling(Meta, Arc<Fill>),
    /// A 304: what is stored holds.
    Renewed(Arc<Stored>),
    /// A response that cannot be shared: those who wait fetch for themselves.
    Released,
    /// The origin answered with a failure while something is stored; whether to a refresh, that is to nobody.
    OriginFailed(StatusCode, bool),
    /// The origin answered with a failure that is stored nowhere; those who wait for it now have it, too.
    Failing(Meta, Arc<Fill>),
    /// No response.
    Failed(FetchError),
    /// Its leader is gone; somebody else leads.
    Abandoned,
    /// Its leader could not use the answer, which was about nothing that is stored; whoever leads asks without conditions.
    Unusable,
}

/// One request to the origin.
pub(crate) struct Flight {
    pub(crate) key: Arc<str>,
    /// As it was asked: those who ask the same may wait for it.
    asked: request::Parts,
    /// Whether it asks on behalf of anybody who asks the same; not so with a range of its own.
    shared: AtomicBool,
    credentials: Option<bool>,
    phase: watch::Sender<Phase>,
    /// When it last got on, in nanoseconds of the engine's clock.
    progress: AtomicU64,
    /// Goes on although nobody waits.
    kept: AtomicBool,
    strikes: Mutex<Strikes>,
    /// Those of its answer, once there is one that others may have.
    tags: OnceLock<Box<[Arc<str>]>>,
}

/// What was purged while it was under way.
#[derive(Default, Clone)]
pub(crate) struct Strikes {
    hard: bool,
    soft: bool,
    tags: Vec<(Arc<str>, Force)>,
}

/// How a purge works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Force {
    /// Never served again.
    Remove,
    /// Stale from now on.
    Expire,
}

impl Strikes {
    /// What befell a response with these tags.
    pub(crate) fn on(&self, tags: &[Arc<str>]) -> Option<Force> {
        let with = |force| self.tags.iter().any(|(tag, by)| *by == force && tags.contains(tag));
        if self.hard || with(Force::Remove) {
            return Some(Force::Remove);
        }
        (self.soft || with(Force::Expire)).then_some(Force::Expire)
    }
}

impl Flight {
    pub(crate) fn set(&self, phase: Phase, now: Duration) {
        self.progressed(now);
        // Those who wait see the last phase; a purge in between changes nothing for them.
        self.phase.send_replace(phase);
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    pub(crate) fn waiters(&self) -> usize {
        self.phase.receiver_count()
    }

    pub(crate) fn progressed(&self, now: Duration) {
        self.progress.store(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Lets it go on although nobody waits for it.
    pub(crate) fn keep(&self) {
        self.kept.store(true, Ordering::Release);
    }

    /// From now on anybody who asks the same may wait for it.
    pub(crate) fn share(&self) {
        self.shared.store(true, Ordering::Release);
    }

    pub(crate) fn target(&self) -> Target {
        Target::of(&self.asked)
    }

    pub(crate) fn has_credentials(&self) -> bool {
        self.asked.headers.contains_key(AUTHORIZATION)
    }

    /// Whether it was asked with a cookie, and these fields have not the same.
    pub(crate) fn has_anothers_cookie(&self, headers: &HeaderMap) -> bool {
        let own = &self.asked.headers;
        own.contains_key(COOKIE) && !own.get_all(COOKIE).iter().eq(headers.get_all(COOKIE))
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.shared.load(Ordering::Acquire)
    }

    /// Completes when nobody waits for it any more, and it is not to go on all the same.
    pub(crate) async fn unwanted(&self) {
        self.phase.closed().await;
        // Acquire: pairs with the Release in `keep`, which comes before its caller stops waiting.
        if self.kept.load(Ordering::Acquire) {
            std::future::pending::<()>().await;
        }
    }

    pub(crate) fn strikes(&self) -> Strikes {
        self.strikes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// States which tags its answer has, before that is told.
    pub(crate) fn tagged(&self, tags: impl FnOnce() -> Box<[Arc<str>]>) {
        self.tags.get_or_init(tags);
    }

    /// Whether its answer is nothing for who comes now. Of an answer that has not come nobody knows its tags: then the one
    /// who waits asks again ([`was_struck_before`](Self::was_struck_before)).
    fn is_struck(&self) -> bool {
        let strikes = self.strikes.lock().unwrap_or_else(PoisonError::into_inner);
        strikes.on(self.tags.get().map_or(&[], |tags| tags)).is_some()
    }

    /// How many purges of tags have befallen it.
    fn struck(&self) -> usize {
        self.strikes.lock().unwrap_or_else(PoisonError::into_inner).tags.len()
    }

    /// Whether one of the first so many purges of tags was about its answer: then that is nothing for who came after
    /// them.
    pub(crate) fn was_struck_before(&self, struck: usize) -> bool {
        let Some(tags) = self.tags.get().filter(|_| struck > 0) else { return false };
        let strikes = self.strikes.lock().unwrap_or_else(PoisonError::into_inner);
        strikes.tags.iter().take(struck).any(|(tag, _)| tags.contains(tag))
    }

    fn strike(&self, force: Force, tag: Option<&Arc<str>>) {
        let mut strikes = self.strikes.lock().unwrap_or_else(PoisonError::into_inner);
        match (tag, force) {
            (Some(tag), force) => strikes.tags.push((Arc::clone(tag), force)),
            (None, Force::Remove) => strikes.hard = true,
            (None, Force::Expire) => strikes.soft = true,
        }
    }

    /// Whether it was asked for as this request asks, in all that `Vary` names.
    pub(crate) fn is_asked_as(&self, parts: &request::Parts, vary: &Vary) -> bool {
        vary.key(&parts.headers) == vary.key(&self.asked.headers)
    }

    /// Whether a request like this may wait for it.
    fn fits(&self, asks: &Asks<'_>) -> bool {
        // Whoever comes after a purge has nothing that was asked for before it (contract I1).
        if self.is_struck() {
            return false;
        }
        let late = asks.now.saturating_sub(Duration::from_nanos(self.progress.load(Ordering::Relaxed)));
        if !self.is_shared() || late > asks.patience {
            return false;
        }
        // What a GET brings answers a HEAD, but not the other way round (RFC 9111 §4).
        if self.asked.method != asks.parts.method && asks.parts.method != Method::HEAD {
            return false;
        }
        match &*self.phase.borrow() {
            // Whether an answer to credentials is for all (RFC 9111 §3.5) is known when it has come.
            Phase::Pending => {
                self.credentials.zip(asks.credentials).is_none_or(|(own, others)| own == others)
                    && asks.vary.is_none_or(|vary| self.is_asked_as(asks.parts, vary))
            }
            // A part answers nobody who may wait for another.
            Phase::Filling(meta, _) => {
                matches!(meta.extent(), Extent::Complete(_)) && meta.matches(&asks.parts.headers)
            }
            Phase::Renewed(stored) => stored.meta.matches(&asks.parts.headers),
            _ => false,
        }
    }
}

/// Who asks, and what is known of how the origin's answers vary.
pub(crate) struct Asks<'a> {
    pub(crate) parts: &'a request::Parts,
    pub(crate) vary: Option<&'a Vary>,
    pub(crate) now: Duration,
    /// A flight that has not got on for longer than this is waited for no more.
    pub(crate) patience: Duration,
    /// Waits for nobody.
    pub(crate) alone: bool,
    /// Others may wait for it.
    pub(crate) shared: bool,
    /// Whether it has credentials that its answer may be for alone; `None` where that cannot be.
    pub(crate) credentials: Option<bool>,
}

/// What a request finds when it has to ask the origin.
pub(crate) enum Role {
    /// Somebody asks already; and how many purges of tags have befallen that.
    Join(Arc<Flight>, watch::Receiver<Phase>, usize),
    /// It asks itself.
    Lead(Arc<Flight>, watch::Receiver<Phase>),
    /// The store has changed meanwhile: look again.
    Again,
}

/// All that is being fetched.
#[derive(Default)]
pub(crate) struct Flights(Mutex<HashMap<Arc<str>, Vec<Arc<Flight>>>>);

impl Flights {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Vec<Arc<Flight>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins a flight, or begins one. `changed` says, under the lock, whether the store is not what the caller saw: a
    /// flight stores first and leaves the table then, so that nobody misses both.
    pub(crate) fn enter(&self, key: &str, asks: &Asks<'_>, changed: impl FnOnce() -> bool) -> Role {
        let mut table = self.lock();
        let found = table.get(key).filter(|_| !asks.alone);
        if let Some(flight) = found.and_then(|list| list.iter().find(|flight| flight.fits(asks))) {
            return Role::Join(Arc::clone(flight), flight.watch(), flight.struck());
        }
        if changed() {
            return Role::Again;
        }
        let key: Arc<str> = table.get_key_value(key).map_or_else(|| key.into(), |(key, _)| Arc::clone(key));
        let (phase, watch) = watch::channel(Phase::Pending);
        let flight = Arc::new(Flight {
            key: Arc::clone(&key),
            asked: asks.parts.clone(),
            shared: AtomicBool::new(asks.shared),
            credentials: asks.credentials,
            phase,
            progress: AtomicU64::new(0),
            kept: AtomicBool::new(false),
            strikes: Mutex::default(),
            tags: OnceLock::new(),
        });
        flight.progressed(asks.now);
        table.entry(key).or_default().push(Arc::clone(&flight));
        Role::Lead(flight, watch)
    }

    /// Takes a flight out; whoever comes now finds the store as it left it.
    pub(crate) fn leave(&self, flight: &Arc<Flight>) {
        let mut table = self.lock();
        if let Some(list) = table.get_mut(&flight.key) {
            list.retain(|other| !Arc::ptr_eq(other, flight));
            if list.is_empty() {
                table.remove(&flight.key);
            }
        }
    }

    pub(crate) fn strike(&self, force: Force, tag: Option<&Arc<str>>, mut matches: impl FnMut(&Flight) -> bool) {
        for flight in self.lock().values().flatten().filter(|flight| matches(flight)) {
            flight.strike(force, tag);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().values().map(Vec::len).sum()
    }
}
