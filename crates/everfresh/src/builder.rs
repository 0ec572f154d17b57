//! Every choice that a cache offers, its default, and its check.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::time::Duration;

use crate::cache::Cache;
use crate::clock::{Clock, Timepiece};
use crate::dice::Dice;
use crate::engine::{Engine, Hasher, Key, PlainlyStale, Policy, StoreIf, Value, Weigher};
use crate::error::Error;
use crate::event::Listeners;
use crate::flight::Flights;
use crate::history::History;
use crate::housekeeper::Purpose;
use crate::ledger::Ledger;
use crate::level::SecondLevel;
use crate::lifetime::Lifetime;
use crate::load::{IntoLoad, Previous};
use crate::loader::{BoxError, WideLoader};
use crate::moment::saturating_nanos;
use crate::pool::{Background, RefreshPool};
use crate::spawn::{Spawn, Workers};
use crate::stats::Counters;
use crate::store::{Bound, Eviction, Settings, Store};
use crate::ticks;

const DEFAULT_MAX_REFRESHES: usize = 4;
const DEFAULT_REFRESH_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
const LONGEST_BACKOFF: Duration = Duration::from_secs(86_400);
/// A life so long that what the estimate of the time may be off by is less than a thousandth of it.
const LONG: Duration = ticks::GUARD.saturating_mul(1_000);

/// Configures a [`Cache`]; made by [`Cache::builder`].
///
/// One of [`capacity`](Builder::capacity), [`weight_capacity`](Builder::weight_capacity) and
/// [`unbounded`](Builder::unbounded) has to be chosen; all else has a default. Nonsense is refused by
/// [`build`](Builder::build), with the cure in the message.
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder<K, V, S = ahash::RandomState> {
    bound: Option<Bound>,
    bound_given_twice: bool,
    eviction: Eviction,
    prompt_drop: bool,
    lifetime: Lifetime,
    refresh_ahead: Option<f64>,
    early_refresh: Option<f64>,
    weigher: Option<Box<Weigher<K, V>>>,
    store_if: Option<Box<StoreIf<V>>>,
    negative_ttl: Option<Duration>,
    load_timeout: Option<Duration>,
    refresh_timeout: Option<Duration>,
    soft_timeout: Option<Duration>,
    wait_at_most: Option<Duration>,
    outlasts_others: bool,
    max_waiters: usize,
    backoff: (Duration, Duration),
    max_refreshes: Option<usize>,
    spawner: Option<Box<dyn FnOnce(usize) -> RefreshPool + Send + Sync>>,
    pool: Option<RefreshPool>,
    clock: Timepiece,
    seed: Option<u64>,
    loader: Option<WideLoader<K, V>>,
    second_level: Option<Arc<dyn SecondLevel<K, V>>>,
    hasher: S,
    of: PhantomData<fn() -> (K, V)>,
}

impl<K: Key, V: Value> Cache<K, V> {
    /// A cache to be configured.
    pub fn builder() -> Builder<K, V> {
        Builder {
            bound: None,
            bound_given_twice: false,
            eviction: Eviction::default(),
            prompt_drop: false,
            lifetime: Lifetime::forever(),
            refresh_ahead: None,
            early_refresh: None,
            weigher: None,
            store_if: None,
            negative_ttl: None,
            load_timeout: None,
            refresh_timeout: Some(DEFAULT_REFRESH_TIMEOUT),
            soft_timeout: None,
            wait_at_most: None,
            outlasts_others: false,
            max_waiters: usize::MAX,
            backoff: DEFAULT_BACKOFF,
            max_refreshes: None,
            spawner: None,
            pool: None,
            clock: Timepiece::System,
            seed: None,
            loader: None,
            second_level: None,
            hasher: ahash::RandomState::new(),
            of: PhantomData,
        }
    }
}

/// Room.
impl<K: Key, V: Value, S: Hasher> Builder<K, V, S> {
    /// Holds at most so many entries, after every operation and from whatever thread (contract M1); at least 1. In a
    /// cache of up to 1,024 none has to go before there are so many. Besides, about a tenth as many, or some dozens, may have left
    /// and not be dropped yet, and what somebody is copying; [`prompt_drop`](Builder::prompt_drop) drops each at once.
    pub fn capacity(self, entries: usize) -> Self {
        self.bounded(Bound::Entries(entries))
    }

    /// Holds entries whose weights add up to at most this, in the weigher's unit; give a [`weigher`](Builder::weigher) with it,
    /// or each entry weighs 1. What weighs more alone is not stored, which listeners and [`Stats`](crate::Stats) tell. Values that
    /// have left and are not dropped yet weigh at most a thirty-second of this, besides those that somebody is copying.
    pub fn weight_capacity(self, weight: u64) -> Self {
        self.bounded(Bound::Weight(weight))
    }

    /// Holds whatever it is given: for keys that are known to be few.
    pub fn unbounded(self) -> Self {
        self.bounded(Bound::Unbounded)
    }

    fn bounded(mut self, bound: Bound) -> Self {
        self.bound_given_twice = self.bound.is_some();
        self.bound = Some(bound);
        self
    }

    /// Says what an entry weighs, in a unit of your choice: bytes, rows. Runs once for each value that is stored, and for one of
    /// which a loader says that it holds still, outside of all locks (contract M5); a value that brings a
    /// [weight](crate::Loaded::weight) of its own is not weighed.
    pub fn weigher(mut self, weigher: impl Fn(&K, &V) -> u64 + Send + Sync + 'static) -> Self {
        self.weigher = Some(Box::new(weigher));
        self
    }

    /// Who has to go when there is no room; [`Eviction::S3Fifo`] by default.
    pub fn eviction(mut self, eviction: Eviction) -> Self {
        self.eviction = eviction;
        self
    }

    /// Drops each value at once when it has left and no reader is copying it, instead of many together; for values that hold
    /// a resource, or much memory. Each such drop waits for all threads of the process to pass a fence, which takes
    /// microseconds. Off by default.
    pub fn prompt_drop(mut self, prompt: bool) -> Self {
        self.prompt_drop = prompt;
        self
    }

    /// Hashes keys with another hasher than the default, a seeded [`ahash`]. A weak one costs time and never an entry: keys are
    /// compared in full (contract V3). Keys that strangers choose want one with a seed.
    pub fn hasher<T: Hasher>(self, hasher: T) -> Builder<K, V, T> {
        Builder {
            bound: self.bound,
            bound_given_twice: self.bound_given_twice,
            eviction: self.eviction,
            prompt_drop: self.prompt_drop,
            lifetime: self.lifetime,
            refresh_ahead: self.refresh_ahead,
            early_refresh: self.early_refresh,
            weigher: self.weigher,
            store_if: self.store_if,
            negative_ttl: self.negative_ttl,
            load_timeout: self.load_timeout,
            refresh_timeout: self.refresh_timeout,
            soft_timeout: self.soft_timeout,
            wait_at_most: self.wait_at_most,
            outlasts_others: self.outlasts_others,
            max_waiters: self.max_waiters,
            backoff: self.backoff,
            max_refreshes: self.max_refreshes,
            spawner: self.spawner,
            pool: self.pool,
            clock: self.clock,
            seed: self.seed,
            loader: self.loader,
            second_level: self.second_level,
            hasher,
            of: PhantomData,
        }
    }
}

/// Time.
impl<K: Key, V: Value, S: Hasher> Builder<K, V, S> {
    /// How long values live, unless they bring a lifetime of their own; [`Lifetime::forever`] by default.
    pub fn lifetime(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Starts a refresh on the first access after this fraction of the ttl, while the value is still fresh; 0.8 means in the
    /// last fifth. Off by default (contract R6).
    pub fn refresh_ahead(mut self, fraction: f64) -> Self {
        self.refresh_ahead = Some(fraction);
        self
    }

    /// Starts a refresh on an access before the end of the ttl by lot: the nearer the end and the longer the load takes, the
    /// likelier (XFetch). 1.0 is the usual `beta`, more is earlier. Off by default (contract R6).
    pub fn early_refresh(mut self, beta: f64) -> Self {
        self.early_refresh = Some(beta);
        self
    }

    /// Reads time from another clock than [`SystemClock`](crate::SystemClock).
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Timepiece::Other(Arc::new(clock));
        self
    }

    /// Decides all chances of this cache, which shorten lives ([`Lifetime::jitter`]) and pauses ([`backoff`](Builder::backoff))
    /// and cast the lots of [`early_refresh`](Builder::early_refresh): for tests and simulations that are to come out the same
    /// each time. Without it, they differ each time.
    ///
    /// Who is evicted by [`Eviction::S3Fifo`] depends on the hashes of keys, too: give a [`hasher`](Builder::hasher) with a seed
    /// for that.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Gives up a load in the foreground after so long: its key is free, those who wait get a timeout error or an old value.
    /// No limit by default (contract L4). With a limit, loads run on a worker and their caller waits.
    pub fn load_timeout(mut self, bound: Duration) -> Self {
        self.load_timeout = Some(bound);
        self
    }

    /// Gives up a refresh after so long; `None` for never, 30 s by default (contract L4).
    ///
    /// An asynchronous refresh is dropped at that moment. One on a thread cannot be stopped: it is given up when somebody who
    /// waits for it, or the next one to ask for its key, sees that the time has passed; a full pool gives its place away when
    /// the next refresh wants one. Until then [`Stats`](crate::Stats) do not count it as timed out. It blocks no reader.
    pub fn refresh_timeout(mut self, bound: impl Into<Option<Duration>>) -> Self {
        self.refresh_timeout = bound.into();
        self
    }

    /// Who waits for a refresh that is given up loads by itself, where no bound on loads is set: for callers who could not be told
    /// of a timeout.
    #[cfg(feature = "macros")]
    pub(crate) fn outlasts_others(mut self) -> Self {
        self.outlasts_others = true;
        self
    }

    /// With a value at hand that may be served after a failure, nobody waits longer than this for a better one (contract L6).
    pub fn soft_timeout(mut self, bound: Duration) -> Self {
        self.soft_timeout = Some(bound);
        self
    }

    /// Nobody waits longer than this for a load, his own or another's (contract L5).
    pub fn wait_at_most(mut self, bound: Duration) -> Self {
        self.wait_at_most = Some(bound);
        self
    }

    /// At most so many wait for one load, besides the one who loads; the next gets an error at once, or an old value
    /// (contract L5). Any number by default.
    pub fn max_waiters(mut self, waiters: usize) -> Self {
        self.max_waiters = waiters;
        self
    }
}

/// Loading and refreshing.
impl<K: Key, V: Value, S: Hasher> Builder<K, V, S> {
    /// Loads every key with this function, so that [`get`](Cache::get) is complete without a closure. A cache has one loader,
    /// of whatever kind: the last one given.
    pub fn loader<F, R>(mut self, load: F) -> Self
    where
        F: Fn(&K) -> R + Send + Sync + 'static,
        R: IntoLoad<V, Error: Into<BoxError>>,
    {
        self.loader = Some(WideLoader::blocking(false, move |key, _| load(key)));
        self
    }

    /// As [`loader`](Builder::loader), and the function is told what the cache still has (contract R9).
    pub fn loader_with<F, R>(mut self, load: F) -> Self
    where
        F: Fn(&K, Option<Previous<V>>) -> R + Send + Sync + 'static,
        R: IntoLoad<V, Error: Into<BoxError>>,
    {
        self.loader = Some(WideLoader::blocking(true, load));
        self
    }

    /// Loads every key with this asynchronous function; see [`get_async`](Cache::get_async).
    pub fn async_loader<F, Fut>(mut self, load: F) -> Self
    where
        F: Fn(K) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoLoad<V, Error: Into<BoxError>>> + Send + 'static,
    {
        self.loader = Some(WideLoader::asynchronous(false, move |key, _| load(key)));
        self
    }

    /// As [`async_loader`](Builder::async_loader), and the function is told what the cache still has (contract R9).
    pub fn async_loader_with<F, Fut>(mut self, load: F) -> Self
    where
        F: Fn(K, Option<Previous<V>>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoLoad<V, Error: Into<BoxError>>> + Send + 'static,
    {
        self.loader = Some(WideLoader::asynchronous(true, load));
        self
    }

    /// Stores only values for which this holds; others reach their callers and are forgotten (contract L7). Of the second level
    /// no others are taken.
    pub fn store_if(mut self, store_if: impl Fn(&V) -> bool + Send + Sync + 'static) -> Self {
        self.store_if = Some(Box::new(store_if));
        self
    }

    /// Remembers an error or an absence for so long, and answers with it instead of loading again. Off by default
    /// (contract L7). Whatever is said of its key ends it, and so does what strikes by a predicate, or everything; tags do not,
    /// for it bears none. They are kept beside the entries, at most 1,024 of them or as many as `capacity` has room for.
    pub fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.negative_ttl = Some(ttl);
        self
    }

    /// At most so many refreshes run at once; 4 by default, 0 for none ever (contract R2).
    pub fn max_refreshes(mut self, refreshes: usize) -> Self {
        self.max_refreshes = Some(refreshes);
        self
    }

    /// Runs background work with this spawner; [`Workers`] by default.
    pub fn spawner(mut self, spawner: impl Spawn) -> Self {
        self.spawner = Some(Box::new(move |max| RefreshPool::with_spawner(max, spawner)));
        self
    }

    /// Shares a pool of refreshes with other caches; it brings its own spawner and bound.
    pub fn refresh_pool(mut self, pool: RefreshPool) -> Self {
        self.pool = Some(pool);
        self
    }

    /// How long a key is left alone after a failed refresh: `base` at first, doubled by each further failure up to `max`, less
    /// a random part of up to a half, and never longer than a quarter of the time that the old value may still be served.
    /// 1 s and 60 s by default, a day at most; zero and zero for no pause (contract R3).
    pub fn backoff(mut self, base: Duration, max: Duration) -> Self {
        self.backoff = (base, max);
        self
    }

    /// Asks this before a loader, and tells it what the loader made and what was invalidated (contract S1); see
    /// [`SecondLevel`].
    pub fn second_level(mut self, level: impl SecondLevel<K, V>) -> Self {
        self.second_level = Some(Arc::new(level));
        self
    }
}

/// The end.
impl<K: Key, V: Value, S: Hasher> Builder<K, V, S> {
    /// The cache.
    ///
    /// # Errors
    /// An [`Error`] with [`is_config`](Error::is_config) if the choices make no sense; its message names the cure.
    pub fn build(self) -> Result<Cache<K, V, S>, Error> {
        let bound = self.check()?;
        let since = self.clock.now();
        let negatives = self.negative_ttl.map(|_| {
            let most = match bound {
                Bound::Entries(entries) => entries.min(1024),
                Bound::Weight(_) | Bound::Unbounded => 1024,
            };
            let (bound, eviction) = (Bound::Entries(most), Eviction::default());
            let settings = Settings { bound, eviction, prompt_drop: false, since };
            Store::new(settings, self.hasher.clone())
        });
        if self.lifetime.time_to_live().is_some() {
            self.clock.get_ready();
        }
        let settings = Settings { bound, eviction: self.eviction, prompt_drop: self.prompt_drop, since };
        let max_refreshes = self.max_refreshes.unwrap_or(DEFAULT_MAX_REFRESHES);
        let pool = match (self.pool, self.spawner) {
            (Some(pool), _) => pool,
            (None, Some(make)) => make(max_refreshes),
            (None, None) => RefreshPool::with_spawner(max_refreshes, Workers::new()),
        };
        let policy = Policy {
            windows: self.lifetime.windows(),
            life: self.lifetime.life(),
            plainly_stale: PlainlyStale::of(&self.lifetime),
            plainly_fresh: plainly_fresh(&self.lifetime, self.refresh_ahead),
            lives_long: self.lifetime.time_to_live().is_none_or(|ttl| ttl >= LONG),
            look_ahead: look_ahead(&self.lifetime, self.refresh_ahead),
            lifetime: self.lifetime,
            refresh_ahead: self.refresh_ahead,
            early_refresh: self.early_refresh,
            weigher: self.weigher,
            store_if: self.store_if,
            negative_ttl: self.negative_ttl,
            load_timeout: self.load_timeout,
            refresh_timeout: self.refresh_timeout,
            soft_timeout: self.soft_timeout,
            wait_at_most: self.wait_at_most,
            outlasts_others: self.outlasts_others && self.load_timeout.is_none(),
            max_waiters: self.max_waiters,
            backoff: self.backoff,
        };
        let history = History::default();
        if !self.clock.is_system() {
            history.look_closer();
        }
        Ok(Cache {
            engine: Arc::new(Engine {
                store: Store::new(settings, self.hasher),
                negatives,
                flights: Flights::new(),
                history,
                counters: Counters::new(),
                listeners: Arc::new(Listeners::new()),
                clock: self.clock,
                dice: Dice::new(self.seed),
                policy,
                pool,
                background: Arc::new(Background::default()),
                loader: self.loader,
                second_level: self.second_level,
                ledger: Ledger::default(),
                closed: AtomicBool::new(false),
                claims: AtomicU32::new(0),
                unavailable_until: AtomicU64::new(0),
                told_unavailable: AtomicBool::new(false),
                strikes: AtomicU64::new(0),
                swept: AtomicU64::new(0),
                sweep_is_due: AtomicBool::new(false),
                reclaiming: AtomicBool::new(false),
                purpose: Purpose::default(),
            }),
        })
    }

    fn check(&self) -> Result<Bound, Error> {
        let bound = self.bound.ok_or_else(|| {
            Error::config("a cache needs a bound: choose capacity(entries), weight_capacity(weight), or unbounded()")
        })?;
        let refuse = |wrong: bool, message: &'static str| if wrong { Err(Error::config(message)) } else { Ok(()) };
        refuse(
            self.bound_given_twice,
            "only one of capacity, weight_capacity and unbounded can hold; leave the others out",
        )?;
        refuse(
            matches!(bound, Bound::Entries(0) | Bound::Weight(0)),
            "a capacity of zero would hold nothing; give at least 1, or do without the cache",
        )?;
        refuse(
            self.weigher.is_some() && !matches!(bound, Bound::Weight(_)),
            "a weigher counts only with weight_capacity(weight); choose that, or leave the weigher out",
        )?;
        self.lifetime.check()?;
        let fraction = |fraction: Option<f64>| fraction.is_some_and(|it| !(it > 0.0 && it < 1.0));
        refuse(
            fraction(self.refresh_ahead),
            "refresh_ahead is the fraction of the ttl after which a refresh may start: above 0.0 and below 1.0",
        )?;
        refuse(
            self.early_refresh.is_some_and(|beta| !(beta > 0.0 && beta.is_finite())),
            "early_refresh is the beta of XFetch: above 0.0 and finite; 1.0 is usual",
        )?;
        refuse(
            (self.refresh_ahead.is_some() || self.early_refresh.is_some()) && self.lifetime.time_to_live().is_none(),
            "refreshing ahead needs a ttl to be ahead of; give lifetime(Lifetime::ttl(..))",
        )?;
        let zero = |bound: Option<Duration>| bound == Some(Duration::ZERO);
        refuse(
            zero(self.load_timeout) || zero(self.refresh_timeout) || zero(self.soft_timeout) || zero(self.wait_at_most),
            "a timeout of zero would end every load before it begins; leave it out for no limit",
        )?;
        refuse(zero(self.negative_ttl), "a negative_ttl of zero remembers nothing; leave it out")?;
        refuse(
            self.backoff.0 > self.backoff.1 || self.backoff.1 > LONGEST_BACKOFF,
            "backoff(base, max) needs base <= max, and max of a day at most",
        )?;
        refuse(
            self.pool.is_some() && (self.max_refreshes.is_some() || self.spawner.is_some()),
            "a shared refresh_pool has its own bound and spawner; leave max_refreshes and spawner out",
        )?;
        Ok(bound)
    }
}

/// For how long after its load a hit on a value without a lifetime of its own need not look closer: at most a quarter of all time, unless
/// that is for ever.
fn plainly_fresh(lifetime: &Lifetime, refresh_ahead: Option<f64>) -> u64 {
    let all = lifetime.life().shortest();
    all.map_or(u64::MAX, |all| all.saturating_sub(look_ahead(lifetime, refresh_ahead)).min(u64::MAX / 4))
}

/// How long before the end of freshness a hit has to look closer: at most a quarter of all time, so that it can be added to
/// any moment that comes.
fn look_ahead(lifetime: &Lifetime, refresh_ahead: Option<f64>) -> u64 {
    match (lifetime.time_to_live(), refresh_ahead) {
        (Some(ttl), Some(fraction)) => {
            ((saturating_nanos(ttl) as f64 * (1.0 - fraction)).ceil() as u64).min(u64::MAX / 4)
        }
        _ => 0,
    }
}

impl<K, V, S> fmt::Debug for Builder<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("bound", &self.bound).field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}
