//! Waiting for a load that somebody else has begun.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::beneath::Enough;
use crate::engine::{Engine, Hasher, Key, Value};
use crate::error::{Error, Failure, LoadError};
use crate::event::{Outcome, RefreshStatus};
use crate::flight::{Wait, Waited};
use crate::given::Landing;
use crate::key::AsKey;
use crate::moment::Moment;
use crate::refresh::wait_until;

/// What a lookup came to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Answer<V> {
    /// The value.
    pub value: V,
    /// What the lookup was.
    pub outcome: Outcome,
    /// The time since the load that made the value ended.
    pub age: Duration,
    /// What became of the refresh that a stale value wants.
    pub refresh: RefreshStatus,
}

/// How a lookup that may load ends.
pub(crate) type Obtained<V, E> = Result<Answer<V>, LoadError<E>>;

/// Such a lookup on its way.
pub(crate) type Later<'a, V, E> = Pin<Box<dyn Future<Output = Obtained<V, E>> + Send + 'a>>;

/// The bounds that one lookup sets for itself, or takes from the cache.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) max_stale: Option<Duration>,
    pub(crate) wait_at_most: Option<Duration>,
    pub(crate) soft_timeout: Option<Duration>,
    pub(crate) load_timeout: Option<Duration>,
    pub(crate) bypass: bool,
    /// Never load on the calling thread: its loader belongs to a runtime.
    pub(crate) elsewhere: bool,
    /// The caller is told how old the value is.
    pub(crate) aged: bool,
}

pub(crate) enum Awaited<V> {
    Value { value: V, loaded_at: Moment, from_second_level: bool },
    Failed(Failure),
    Absent,
    TimedOut,
    StartOver,
}

/// How a lookup may wait for somebody else's load.
#[derive(Clone, Copy)]
pub(crate) struct Waiting {
    /// To wait without an end is what it wants.
    pub(crate) may: bool,
    pub(crate) aged: bool,
    /// There was no entry a moment ago.
    pub(crate) absent: bool,
}

impl Bounds {
    /// What of the second level will do for such a lookup. How long a value there has been stale is not known.
    pub(crate) fn enough(&self) -> Enough {
        match (self.bypass, self.max_stale) {
            (true, _) => Enough::Nothing,
            (false, Some(_)) => Enough::Fresh,
            (false, None) => Enough::Stale,
        }
    }

    #[inline]
    pub(crate) fn of_waiting(&self) -> Waiting {
        let may = self.enough() == Enough::Stale && self.wait_at_most.is_none();
        Waiting { may, aged: self.aged, absent: false }
    }
}

impl<K: Key, V: Value, S: Hasher> Engine<K, V, S> {
    /// What a load brings that somebody else has begun, for one who finds nothing else and sets no bound to the waiting, as most
    /// of a stampede does. For all others, the whole way.
    pub(crate) fn coalesce_or<'a, Q, E, W>(
        &'a self,
        hash: u64,
        key: &Q,
        waiting: Waiting,
        whole_way: W,
    ) -> Coalescing<'a, K, V, S, E, W>
    where
        Q: AsKey<K> + ?Sized,
        E: Send + Sync + 'static,
        W: FnOnce() -> Later<'a, V, E>,
    {
        let joined = if waiting.may { self.join_running(hash, key, waiting.absent) } else { None };
        match joined {
            Some((wait, join_point)) => {
                let whole_way = Some(whole_way);
                Coalescing::Waits(Waits { engine: self, wait, join_point, aged: waiting.aged, whole_way })
            }
            None => Coalescing::IsOnItsWay(whole_way()),
        }
    }

    /// What a caller gets who waited for a load that ran already. `None`: nothing, and the lookup takes the whole way.
    fn coalesced<E: Send + Sync + 'static>(
        &self,
        waited: Waited<K, V>,
        join_point: u64,
        aged: bool,
    ) -> Option<Obtained<V, E>> {
        let ended = match Awaited::of(waited, join_point) {
            Awaited::Value { value, loaded_at, .. } => {
                let age = self.age_told(aged, loaded_at);
                Ok(Answer { value, outcome: Outcome::Coalesced, age, refresh: RefreshStatus::NotNeeded })
            }
            Awaited::Failed(failure) => Err(failure.to_load_error()),
            Awaited::Absent => Err(Error::ABSENT.into()),
            Awaited::TimedOut if self.policy.outlasts_others => return None,
            Awaited::TimedOut => Err(Error::TIMED_OUT.into()),
            Awaited::StartOver => return None,
        };
        match &ended {
            Ok(answer) => self.conclude(None, answer.outcome, Some(answer.age), answer.refresh),
            Err(_) => self.conclude(None, Outcome::Failed, None, RefreshStatus::NotNeeded),
        }
        Some(ended)
    }

    /// A place among those who wait for a load that runs already, and the point at which the caller came. `None` says nothing.
    fn join_running<Q: AsKey<K> + ?Sized>(&self, hash: u64, key: &Q, absent: bool) -> Option<(Wait<K, V>, u64)> {
        if self.negatives.is_some() || !self.flights.may_run(hash) || !absent && self.store.peek(hash, key).is_some() {
            return None;
        }
        let join_point = self.history.now().tag_point;
        let still_good = |began| !self.history.is_cleared(began);
        let wait = self.flights.join_running(hash, key, self.policy.max_waiters, still_good)?;
        Some((wait, join_point))
    }

    /// How old a value is, as far as anybody is told.
    pub(crate) fn age_told(&self, aged: bool, loaded_at: Moment) -> Duration {
        let told = aged || self.listeners.any();
        if told { self.clock.now().since(loaded_at) } else { Duration::ZERO }
    }

    /// Waits for a landing that is good for one who joined at `join_point`; `None` if there is none `until` then.
    pub(crate) async fn await_landing(
        &self,
        wait: &mut Wait<K, V>,
        join_point: u64,
        until: Moment,
    ) -> Option<Awaited<V>> {
        Some(Awaited::of(wait_until(self, wait, until).await?, join_point))
    }
}

/// A lookup that waits for somebody else's load, or has set out by itself. Each task of a stampede carries one, so it is no larger
/// than it must be: what it is made of stands in it once, which an `async` function's arguments do not.
pub(crate) enum Coalescing<'a, K: Key, V: Value, S: Hasher, E, W> {
    Waits(Waits<'a, K, V, S, W>),
    /// Boxed: a future that awaits it need not know what is inside, which the compiler could not always prove to be `Send` there, and
    /// does not grow by it.
    IsOnItsWay(Later<'a, V, E>),
}

pub(crate) struct Waits<'a, K: Key, V: Value, S: Hasher, W> {
    engine: &'a Engine<K, V, S>,
    wait: Wait<K, V>,
    join_point: u64,
    aged: bool,
    /// There until it is set out on.
    whole_way: Option<W>,
}

/// Nothing in it is pinned but what is in the box.
impl<K: Key, V: Value, S: Hasher, E, W> Unpin for Coalescing<'_, K, V, S, E, W> {}

impl<'a, K, V, S, E, W> Future for Coalescing<'a, K, V, S, E, W>
where
    K: Key,
    V: Value,
    S: Hasher,
    E: Send + Sync + 'static,
    W: FnOnce() -> Later<'a, V, E>,
{
    type Output = Obtained<V, E>;

    // A loader's task comes through here at each of its steps.
    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Obtained<V, E>> {
        let waits = match &mut *self {
            Coalescing::IsOnItsWay(later) => return later.as_mut().poll(cx),
            Coalescing::Waits(waits) => waits,
        };
        if let Some(ended) = ready!(waits.poll(cx)) {
            return Poll::Ready(ended);
        }
        // There, for a wait ends once.
        let Some(whole_way) = waits.whole_way.take() else { return Poll::Pending };
        let mut later = whole_way();
        let polled = later.as_mut().poll(cx);
        *self = Coalescing::IsOnItsWay(later);
        polled
    }
}

impl<K: Key, V: Value, S: Hasher, W> Waits<'_, K, V, S, W> {
    /// What came of it, if anything that ends the lookup.
    #[inline(never)]
    fn poll<E: Send + Sync + 'static>(&mut self, cx: &mut Context<'_>) -> Poll<Option<Obtained<V, E>>> {
        let waited = ready!(Pin::new(&mut self.wait).poll(cx));
        Poll::Ready(self.engine.coalesced(waited, self.join_point, self.aged))
    }
}

impl<V: Value> Awaited<V> {
    /// What the end of a flight is to one who joined it at `join_point`.
    fn of<K>(waited: Waited<K, V>, join_point: u64) -> Awaited<V> {
        let Waited::Landed(landed) = waited else { return Awaited::StartOver };
        match landed.landing() {
            Landing::Value { good_for_all: false, .. } if landed.is_overtaken_for(join_point) => Awaited::StartOver,
            Landing::Value { value, loaded_at, from_second_level, .. } => {
                Awaited::Value { value: value.clone(), loaded_at: *loaded_at, from_second_level: *from_second_level }
            }
            Landing::Failed(handed) => landed.failure(handed).map_or(Awaited::StartOver, Awaited::Failed),
            Landing::Absent => Awaited::Absent,
            Landing::TimedOut => Awaited::TimedOut,
        }
    }
}
