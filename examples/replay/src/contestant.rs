//! The three that are compared, each with its two doors: how it answers one request.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use everfresh::{Builder, Cache, Clock, Error, Lifetime, LoadError, Outcome};

use crate::backend::{Made, Unreachable};
use crate::tally::Served;

/// The same on every run, so that the same entries are evicted.
type Fixed = ahash::RandomState;

/// A cache that is being given its clock and the like.
pub(crate) type Equipped = Builder<u64, Made, Fixed>;

/// What the caches may do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    pub(crate) capacity: usize,
    pub(crate) ttl: Duration,
    pub(crate) stale_while_revalidate: Duration,
    pub(crate) stale_if_error: Duration,
    pub(crate) soft_timeout: Option<Duration>,
    pub(crate) max_refreshes: usize,
    /// Whether the TTL cache joins loads of one key.
    pub(crate) coalesce: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    NoCache,
    TtlCache,
    Everfresh,
}

impl Kind {
    pub(crate) const ALL: [Kind; 3] = [Kind::NoCache, Kind::TtlCache, Kind::Everfresh];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Kind::NoCache => "no cache",
            Kind::TtlCache => "ttl cache",
            Kind::Everfresh => "everfresh",
        }
    }
}

/// One of the three, with its cache if it has one.
#[derive(Clone)]
pub(crate) enum Contestant {
    /// Every request calls the backend.
    NoCache,
    /// What people write: look; if it is not there or too old, call the backend and put the answer in. It has the room and
    /// the eviction of everfresh, so that only the difference in waiting is compared.
    Ttl(Cache<u64, Made, Fixed>),
    /// The same with one load per key.
    TtlCoalescing(Cache<u64, Made, Fixed>),
    Everfresh(Cache<u64, Made, Fixed>),
}

impl Contestant {
    /// `equip` gives the cache its clock and its spawner.
    pub(crate) fn new(
        kind: Kind,
        policy: Policy,
        equip: impl FnOnce(Equipped) -> Equipped,
    ) -> Result<Contestant, Error> {
        let builder = Cache::builder().capacity(policy.capacity).hasher(Fixed::with_seeds(1, 2, 3, 4));
        let mut builder = equip(builder).max_refreshes(policy.max_refreshes);
        let lifetime = Lifetime::ttl(policy.ttl);
        Ok(match kind {
            Kind::NoCache => Contestant::NoCache,
            Kind::TtlCache if policy.coalesce => Contestant::TtlCoalescing(builder.lifetime(lifetime).build()?),
            Kind::TtlCache => Contestant::Ttl(builder.lifetime(lifetime).build()?),
            Kind::Everfresh => {
                let (stale, error) = (policy.stale_while_revalidate, policy.stale_if_error);
                if let Some(bound) = policy.soft_timeout {
                    builder = builder.soft_timeout(bound);
                }
                let lifetime = lifetime.stale_while_revalidate(stale).stale_if_error(error);
                Contestant::Everfresh(builder.lifetime(lifetime).build()?)
            }
        })
    }

    /// Answers a request in a task.
    pub(crate) async fn serve_async<F, Fut>(&self, key: u64, call: F) -> Served
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Made, Unreachable>> + Send + 'static,
    {
        match self {
            Contestant::NoCache => loaded(call().await),
            Contestant::Ttl(cache) => match cache.get(&key) {
                Some(made) => Served { outcome: Outcome::Hit, made: Some(made.at) },
                None => loaded(call().await.inspect(|&made| cache.insert(key, made))),
            },
            Contestant::TtlCoalescing(cache) | Contestant::Everfresh(cache) => {
                answered(cache.lookup(&key).load_async(call).await)
            }
        }
    }

    /// Answers a request on a thread.
    pub(crate) fn serve(&self, key: u64, call: impl FnOnce() -> Result<Made, Unreachable> + Send + 'static) -> Served {
        match self {
            Contestant::NoCache => loaded(call()),
            Contestant::Ttl(cache) => match cache.get(&key) {
                Some(made) => Served { outcome: Outcome::Hit, made: Some(made.at) },
                None => loaded(call().inspect(|&made| cache.insert(key, made))),
            },
            Contestant::TtlCoalescing(cache) | Contestant::Everfresh(cache) => answered(cache.lookup(&key).load(call)),
        }
    }

    /// Gives back what has expired, as the cache's housekeeper does in real time.
    pub(crate) fn reclaim(&self) {
        match self {
            Contestant::NoCache => {}
            Contestant::Ttl(cache) | Contestant::TtlCoalescing(cache) | Contestant::Everfresh(cache) => cache.reclaim(),
        }
    }
}

fn loaded(made: Result<Made, Unreachable>) -> Served {
    match made {
        Ok(made) => Served { outcome: Outcome::Loaded, made: Some(made.at) },
        Err(Unreachable) => Served { outcome: Outcome::Failed, made: None },
    }
}

fn answered(answer: Result<everfresh::Answer<Made>, LoadError<Unreachable>>) -> Served {
    match answer {
        Ok(answer) => Served { outcome: answer.outcome, made: Some(answer.value.at) },
        Err(_) => Served { outcome: Outcome::Failed, made: None },
    }
}

/// A call of the backend in a task: it sleeps on the clock for as long as it takes.
pub(crate) async fn call_async(backend: Arc<crate::backend::Backend>, clock: impl Clock) -> Result<Made, Unreachable> {
    let began = clock.now();
    let call = backend.begin(began);
    clock.sleep_until(began + call.takes).await;
    call.end(clock.now())
}
