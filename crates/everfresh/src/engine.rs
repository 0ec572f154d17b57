//! What a cache is made of, and the small steps that lookups, loads and refreshes are told in.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::{Estimate, Glimpse, Timepiece};
use crate::dice::Dice;
use crate::entry::{Attempt, Entry, Extra, Idle};
use crate::error::Failure;
use crate::event::{Cause, Event, Listeners, NotStored, Outcome, RefreshStatus};
use crate::flight::{Flight, Flights};
use crate::history::{Began, History, Standing, Tag};
use crate::housekeeper::Purpose;
use crate::ledger::Ledger;
use crate::level::SecondLevel;
use crate::lifetime::{Freshness, Life, Lifetime, Windows};
use crate::load::{Previous, Traits};
use crate::loader::WideLoader;
use crate::moment::{Moment, saturating_nanos};
use crate::pool::{Background, RefreshPool};
use crate::stats::Counters;
use crate::store::{Insertion, PushedOut, Removed, Seen, Store, Unseen};

/// What a key must be able to do.
pub trait Key: Hash + Eq + Clone + Send + Sync + 'static {}
impl<K: Hash + Eq + Clone + Send + Sync + 'static> Key for K {}

/// What a value must be able to do.
pub trait Value: Clone + Send + Sync + 'static {}
impl<V: Clone + Send + Sync + 'static> Value for V {}

/// What a hasher must be able to do.
pub trait Hasher: BuildHasher + Clone + Send + Sync + 'static {}
impl<S: BuildHasher + Clone + Send + Sync + 'static> Hasher for S {}

pub(crate) type Weigher<K, V> = dyn Fn(&K, &V) -> u64 + Send + Sync;
pub(crate) type StoreIf<V> = dyn Fn(&V) -> bool + Send + Sync;

/// Every choice of the builder that is asked for later.
pub(crate) struct Policy<K, V> {
    pub(crate) lifetime: Lifetime,
    pub(crate) windows: Windows,
    /// For how long a value without a lifetime of its own is fresh.
    pub(crate) life: Life,
    /// For so many nanoseconds such a value is fresh and nobody has to look closer, whatever its lot; all there are is for ever.
    pub(crate) plainly_fresh: u64,
    pub(crate) plainly_stale: PlainlyStale,
    /// Whether an estimate of the time is good enough to count a life from.
    pub(crate) lives_long: bool,
    /// Nanoseconds before the end of freshness at which a hit wants a closer look: for refreshing ahead.
    pub(crate) look_ahead: u64,
    pub(crate) refresh_ahead: Option<f64>,
    pub(crate) early_refresh: Option<f64>,
    pub(crate) weigher: Option<Box<Weigher<K, V>>>,
    pub(crate) store_if: Option<Box<StoreIf<V>>>,
    pub(crate) negative_ttl: Option<Duration>,
    pub(crate) load_timeout: Option<Duration>,
    pub(crate) refresh_timeout: Option<Duration>,
    pub(crate) soft_timeout: Option<Duration>,
    pub(crate) wait_at_most: Option<Duration>,
    pub(crate) outlasts_others: bool,
    pub(crate) max_waiters: usize,
    pub(crate) backoff: (Duration, Duration),
}

/// The ages at the latest moment of a [`Glimpse`] of which a value without a lifetime of its own is stale then and at the earliest,
/// whatever its lot: from this one on, so many nanoseconds. Both together are at most half of all time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PlainlyStale {
    pub(crate) from: u64,
    pub(crate) span: u64,
}

impl PlainlyStale {
    const NEVER: PlainlyStale = PlainlyStale { from: 0, span: 0 };

    pub(crate) fn of(lifetime: &Lifetime) -> PlainlyStale {
        let life = lifetime.life();
        let (Some(shortest), from) = (life.shortest(), life.longest()) else { return PlainlyStale::NEVER };
        if from > u64::MAX / 4 {
            return PlainlyStale::NEVER;
        }
        let stale = lifetime.windows().stale.min(u64::MAX / 4);
        let late = saturating_nanos(Glimpse::LATE);
        let from = from + late;
        PlainlyStale { from, span: (shortest + stale).saturating_sub(from) }
    }
}

impl<K, V> Policy<K, V> {
    /// Whether an entry without traits has nothing extra.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.lifetime.idle_bound().is_none() && self.early_refresh.is_none()
    }
}

/// A remembered error or absence.
#[derive(Clone)]
pub(crate) enum Negative {
    Failed(Failure),
    Absent,
}

pub(crate) struct Engine<K, V, S> {
    pub(crate) store: Store<K, V, S>,
    pub(crate) negatives: Option<Store<K, Negative, S>>,
    pub(crate) flights: Arc<Flights<K, V>>,
    pub(crate) history: History,
    pub(crate) counters: Counters,
    pub(crate) listeners: Arc<Listeners<K, V>>,
    pub(crate) clock: Timepiece,
    pub(crate) dice: Dice,
    pub(crate) policy: Policy<K, V>,
    pub(crate) pool: RefreshPool,
    pub(crate) background: Arc<Background>,
    pub(crate) loader: Option<WideLoader<K, V>>,
    pub(crate) second_level: Option<Arc<dyn SecondLevel<K, V>>>,
    pub(crate) ledger: Ledger<K>,
    pub(crate) closed: AtomicBool,
    /// Counts the attempts to renew an entry.
    pub(crate) claims: AtomicU32,
    /// No worker could be had; tried again from this moment on.
    pub(crate) unavailable_until: AtomicU64,
    pub(crate) told_unavailable: AtomicBool,
    /// How often entries were invalidated by tag or all at once.
    pub(crate) strikes: AtomicU64,
    /// How many of those strikes came before a sweep that has given back the room of what they struck.
    pub(crate) swept: AtomicU64,
    /// A sweep after a strike is due, and has not begun.
    pub(crate) sweep_is_due: AtomicBool,
    /// Somebody reclaims expired entries already.
    pub(crate) reclaiming: AtomicBool,
    /// Why chores are done for this cache.
    pub(crate) purpose: Purpose,
}

/// What is still to be served of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stage {
    pub(crate) freshness: Freshness,
    /// When it was or will be stale: its own time, or when it was declared so.
    pub(crate) fresh_until: Moment,
    /// Invalidated, not merely too old.
    pub(crate) gone: bool,
}

/// Why an entry is not known to be fresh at the first look.
#[derive(Clone, Copy)]
pub(crate) enum Doubt {
    /// A plain one, to which nobody listens, whose age may be up to so many nanoseconds; and the glimpse of the time that tells it.
    Age(u64, Glimpse),
    Other,
}

impl Doubt {
    /// What the time is, if it was asked for.
    pub(crate) fn glimpse(self) -> Glimpse {
        match self {
            Doubt::Age(_, glimpse) => glimpse,
            Doubt::Other => Glimpse::NONE,
        }
    }
}

impl<K: Key, V: Value, S: Hasher> Engine<K, V, S> {
    /// The one check that nearly every hit needs: an entry without traits, of this epoch, and far from its end, in a cache on the
    /// system's clock to which nobody listens: then it is fresh. Else nothing is said, but why.
    #[inline(always)]
    pub(crate) fn check_plainly(&self, entry: &Entry<K, V>) -> Result<(), Doubt> {
        if u32::from(entry.epoch()) != self.history.epoch_of_plain_hits() {
            return Err(Doubt::Other);
        }
        let Some(loaded_at) = entry.plainly_loaded_at() else { return Err(Doubt::Other) };
        if self.policy.plainly_fresh == u64::MAX {
            return Ok(());
        }
        let Some(glimpse) = Glimpse::of_system() else { return Err(Doubt::Other) };
        let age = glimpse.age_of(loaded_at);
        if age < self.policy.plainly_fresh { Ok(()) } else { Err(Doubt::Age(age, glimpse)) }
    }

    /// Has hits looked at plainly again, once nobody listens any longer.
    #[cold]
    #[inline(never)]
    pub(crate) fn look_plainly_if_may(&self) {
        if self.clock.is_system() {
            self.listeners.if_none(|| self.history.look_plainly());
        }
    }

    /// Nothing but its own time decides.
    #[inline(always)]
    fn is_plain(&self, entry: &Entry<K, V>) -> bool {
        entry.epoch() == self.history.epoch() && entry.extra().is_none()
    }

    /// What a lookup of an entry is that is certainly fresh, or certainly stale while nobody has to start a refresh, and why
    /// not, as far as the time that was asked for tells. `None` says nothing.
    #[inline]
    pub(crate) fn judge_closely(&self, entry: &Entry<K, V>, glimpse: Glimpse) -> Option<(Outcome, RefreshStatus)> {
        if !self.is_plain(entry) {
            return None;
        }
        let fresh_until = self.fresh_until(entry);
        if fresh_until == Moment::NEVER {
            return Some((Outcome::Hit, RefreshStatus::NotNeeded));
        }
        self.judge_by(entry, fresh_until, self.clock.estimate(glimpse))
    }

    /// As [`judge_closely`](Engine::judge_closely), of a plain entry whose time is bounded.
    #[inline]
    pub(crate) fn judge_by(
        &self,
        entry: &Entry<K, V>,
        fresh_until: Moment,
        mut estimate: Estimate,
    ) -> Option<(Outcome, RefreshStatus)> {
        let asked_until = Moment::from_nanos(fresh_until.nanos().saturating_sub(self.policy.look_ahead));
        loop {
            let (earliest, latest) = estimate.bounds();
            if latest < asked_until {
                return Some((Outcome::Hit, RefreshStatus::NotNeeded));
            }
            if earliest >= asked_until {
                let times = (entry.loaded_at(), fresh_until);
                let status = self.is_stale_and_left_alone(entry, times, (earliest, latest));
                if status.is_some() || estimate.is_good() {
                    return Some((Outcome::Stale, status?));
                }
            }
            estimate = self.clock.estimate_better(estimate);
        }
    }

    /// The check that nearly every stale hit needs, of an entry whose age [`check_plainly`](Engine::check_plainly) doubts:
    /// certainly stale, and nobody has to start a refresh. `None` says nothing.
    #[inline(always)]
    pub(crate) fn is_plainly_stale(&self, entry: &Entry<K, V>, age: u64) -> Option<RefreshStatus> {
        let PlainlyStale { from, span } = self.policy.plainly_stale;
        // One comparison: what is too young, or was loaded after the glimpse, comes out as very much.
        if age.wrapping_sub(from) < span { entry.is_left_alone_at(age) } else { None }
    }

    /// Why nobody has to start a refresh of a plain entry that is stale, at a time between these.
    #[inline(always)]
    fn is_stale_and_left_alone(
        &self,
        entry: &Entry<K, V>,
        (loaded_at, fresh_until): (Moment, Moment),
        (earliest, latest): (Moment, Moment),
    ) -> Option<RefreshStatus> {
        if earliest < fresh_until || !self.policy.windows.is_stale_at(fresh_until, latest) {
            return None;
        }
        entry.is_left_alone_at(latest.nanos().wrapping_sub(loaded_at.nanos()))
    }

    /// Which life an entry is in, with all that befell it.
    pub(crate) fn stage(&self, entry: &Entry<K, V>, now: Moment) -> Stage {
        let standing = match entry.epoch() == self.history.epoch() {
            true => Standing::Good,
            false => self.history.standing_of_epoch(entry.epoch()),
        };
        self.stage_of(entry, standing, now)
    }

    /// The same of one whose load began then, which tells more than the entry has noted of it.
    pub(crate) fn stage_since(&self, entry: &Entry<K, V>, began: Began, now: Moment) -> Stage {
        self.stage_of(entry, self.history.standing(began), now)
    }

    fn stage_of(&self, entry: &Entry<K, V>, mut standing: Standing, now: Moment) -> Stage {
        if let Some(extra) = entry.extra()
            && !extra.tags.is_empty()
        {
            standing = standing.and(History::standing_of_tags(&extra.tags, extra.tag_point));
        }
        let fresh_until = match standing {
            Standing::Good => self.fresh_until(entry),
            Standing::StaleSince(since) => self.fresh_until(entry).min(since.max(entry.loaded_at())),
            Standing::Gone => {
                return Stage { freshness: Freshness::Expired, fresh_until: entry.loaded_at(), gone: true };
            }
        };
        let idle = entry.idle_until().is_some_and(|idle_until| now >= idle_until);
        let freshness = if idle { Freshness::Expired } else { self.windows(entry).judge(fresh_until, now) };
        Stage { freshness, fresh_until, gone: false }
    }

    /// Whether what is not fresh has been stale for longer than a lookup takes, or nobody knows for how long: what came from the
    /// second level as stale had been for some time.
    pub(crate) fn is_too_stale(
        &self,
        entry: &Entry<K, V>,
        stage: Stage,
        now: Moment,
        max_stale: Option<Duration>,
    ) -> bool {
        let Some(bound) = max_stale else { return false };
        let was_fresh = |extra: &Extra| !extra.is_rest || extra.lifetime.is_none_or(|rest| !rest.is_stale_from_birth());
        now.since(stage.fresh_until) > bound || !entry.extra().is_none_or(was_fresh)
    }

    pub(crate) fn windows(&self, entry: &Entry<K, V>) -> Windows {
        match entry.extra().and_then(|extra| extra.lifetime) {
            Some(own) => own.windows(),
            None => self.policy.windows,
        }
    }

    /// How many entries there are, without those that an invalidation has struck but no sweep has met yet.
    pub(crate) fn len(&self) -> usize {
        // Acquire: pairs with the Release in `sweep`.
        if self.swept.load(Ordering::Acquire) == self.strikes.load(Ordering::Acquire) {
            return self.store.len();
        }
        let now = self.clock.now();
        self.store.iter().filter(|entry| !self.stage(entry, now).gone).count()
    }

    /// Declares an entry of the store stale from a moment on.
    pub(crate) fn expire(&self, entry: &Entry<K, V>, from: Moment) {
        if self.fresh_until(entry) <= from {
            return;
        }
        self.store.note_something_apart();
        entry.expire(from, self.policy.life);
        self.cut_pause(entry, from);
    }

    /// If an entry that is stale from a moment on is left alone after a failure, that was measured by a life that is over now: the pause
    /// is never longer than a quarter of the window that begins (contract R3).
    pub(crate) fn cut_pause(&self, entry: &Entry<K, V>, stale_from: Moment) {
        let attempt = entry.attempt();
        if attempt.running || attempt.failures == 0 {
            return;
        }
        let windows = self.windows(entry);
        let window = if windows.stale > 0 { windows.stale } else { windows.fallback };
        let latest = stale_from.after_nanos(window / 4);
        if attempt.until > latest {
            entry.change_attempt(attempt, Attempt::failed(attempt.failures, latest));
        }
    }

    /// What the loader of a flight may look at, whatever its age, unless it was invalidated, or it is not known how long it would
    /// live if it still held: what is left of a life gets shorter from one node of a fleet to the next.
    pub(crate) fn previous(&self, flight: &Flight<K, V>) -> Option<Previous<V>> {
        let found = self.store.peek(flight.hash, &flight.key)?;
        let now = self.clock.now();
        if self.stage(&found, now).gone || found.extra().is_some_and(|extra| extra.is_rest) {
            return None;
        }
        flight.note_shown(found.value.clone());
        Some(Previous {
            value: found.value.clone(),
            age: now.since(found.loaded_at()),
            token: found.extra().and_then(|extra| extra.token.clone()),
        })
    }

    /// What a value weighs; runs the user's weigher.
    pub(crate) fn weigh(&self, key: &K, value: &V, own: Option<u64>) -> u64 {
        own.unwrap_or_else(|| self.policy.weigher.as_ref().map_or(1, |weigh| weigh(key, value)))
    }

    /// The time from which the life of a value is counted that is put without traits. Where that life is long, the estimate will
    /// do: it is never later than the time, so nothing is fresh for longer than it may be (contract T2).
    #[inline]
    pub(crate) fn time_of_writing(&self) -> Moment {
        if self.policy.lives_long { self.clock.about() } else { self.clock.now() }
    }

    /// The entry for a value without traits, where [`Policy::is_plain`] holds.
    #[inline]
    pub(crate) fn plain_entry(&self, key: K, value: V, began: Began, now: Moment) -> Entry<K, V> {
        let life = self.policy.life;
        Entry::plain(key, value, now, (life, life.draw(|| self.dice.throw())), began)
    }

    /// The entry for a value whose load ended now.
    pub(crate) fn entry(
        &self,
        key: K,
        value: V,
        traits: Traits,
        tags: Box<[Arc<Tag>]>,
        began: Began,
        (now, load_took): (Moment, Duration),
    ) -> Entry<K, V> {
        if traits.are_none() && self.policy.is_plain() {
            return self.plain_entry(key, value, began, now);
        }
        let lifetime = traits.lifetime.unwrap_or(self.policy.lifetime);
        let extra = Extra {
            lifetime: traits.lifetime,
            is_rest: traits.is_rest,
            weight: traits.weight,
            idle: lifetime.idle_bound().map(|bound| Idle::new(bound, now)),
            tags,
            tag_point: began.tag_point,
            token: traits.token,
            load_took: u64::try_from(load_took.as_nanos()).unwrap_or(u64::MAX),
        };
        Entry::with(key, value, (now, self.end_of_a(lifetime, now)), began, extra)
    }

    /// The entry for a value that still holds: the same, and its life starts anew.
    pub(crate) fn renewed(&self, old: &Entry<K, V>, began: Began, now: Moment, load_took: Duration) -> Entry<K, V> {
        let (key, value) = (old.key.clone(), old.value.clone());
        let Some(extra) = old.extra() else { return self.plain_entry(key, value, began, now) };
        let lifetime = extra.lifetime.unwrap_or(self.policy.lifetime);
        let extra = Extra {
            lifetime: extra.lifetime,
            is_rest: extra.is_rest,
            weight: extra.weight,
            idle: lifetime.idle_bound().map(|bound| Idle::new(bound, now)),
            tags: extra.tags.clone(),
            tag_point: began.tag_point,
            token: extra.token.clone(),
            load_took: u64::try_from(load_took.as_nanos()).unwrap_or(u64::MAX),
        };
        Entry::with(key, value, (now, self.end_of_a(lifetime, now)), began, extra)
    }

    /// The end of freshness of a value with this lifetime that was loaded at `loaded_at`.
    fn end_of_a(&self, lifetime: Lifetime, loaded_at: Moment) -> Moment {
        let life = lifetime.life();
        life.end(loaded_at, life.draw(|| self.dice.throw()))
    }

    /// The end of freshness of an entry by its own time, whatever befell it with others.
    #[inline]
    pub(crate) fn fresh_until(&self, entry: &Entry<K, V>) -> Moment {
        entry.fresh_until(self.policy.life)
    }

    /// From when on the store may throw an entry out first.
    #[inline(always)]
    pub(crate) fn deadline(&self, entry: &Entry<K, V>) -> Moment {
        match entry.plainly_fresh_until(self.policy.life) {
            Some(fresh_until) => self.policy.windows.end(fresh_until),
            None => self.end(entry, self.fresh_until(entry)),
        }
    }

    /// As [`deadline`](Engine::deadline), where it is fresh until then and no longer.
    pub(crate) fn end(&self, entry: &Entry<K, V>, fresh_until: Moment) -> Moment {
        let end = self.windows(entry).end(fresh_until);
        entry.idle_until().map_or(end, |idle_until| end.min(idle_until))
    }

    /// The end of what is remembered of a failure or an absence.
    pub(crate) fn end_of_negative(&self, entry: &Entry<K, Negative>) -> Moment {
        entry.fresh_until(self.policy.negative_ttl.map_or(Life::FOREVER, Life::of))
    }

    /// Counts and tells what an insertion pushed out or replaced, and lets go of it.
    #[inline(always)]
    pub(crate) fn settle_insertion(&self, insertion: &mut Insertion<'_, K, V>, replaced: Cause) {
        let Unseen { replaced: old, evicted, expired } = insertion.unseen;
        self.counters.many_left(replaced, old);
        self.counters.many_left(Cause::Evicted, evicted);
        self.counters.many_left(Cause::Expired, expired);
        if let Some(seen) = insertion.seen.take() {
            self.settle_seen(*seen, replaced);
        }
    }

    #[cold]
    #[inline(never)]
    fn settle_seen(&self, seen: Seen<'_, K, V>, replaced: Cause) {
        if let Some(old) = seen.replaced {
            self.depart(old, replaced);
        }
        for (gone, why) in seen.pushed_out {
            let cause = match why {
                PushedOut::Evicted => Cause::Evicted,
                PushedOut::Expired => Cause::Expired,
            };
            self.depart(gone, cause);
        }
        if let Some(refused) = seen.refused {
            self.tell_not_stored(&refused.key, NotStored::TooHeavy);
        }
    }

    /// Counts and tells that an entry left, and lets go of it.
    pub(crate) fn depart(&self, gone: Removed<'_, K, V>, cause: Cause) {
        self.counters.left(cause);
        if self.listeners.any() {
            self.listeners.tell(&Event::Left { key: &gone.key, value: &gone.value, cause });
        }
    }

    pub(crate) fn tell_not_stored(&self, key: &K, why: NotStored) {
        self.counters.not_stored(why);
        self.listeners.tell(&Event::NotStored { key, why });
    }

    /// Counts and tells the one outcome of a lookup (contract O1).
    #[inline]
    pub(crate) fn conclude(&self, key: Option<&K>, outcome: Outcome, age: Option<Duration>, refresh: RefreshStatus) {
        self.counters.outcome(outcome);
        if self.listeners.any() {
            self.listeners.tell(&Event::Lookup { key, outcome, age, refresh });
        }
    }

    /// How long to leave a key alone after its load failed `failures` times in a row: exponential with jitter, and never
    /// longer than a quarter of the time that the old value may still be served (contract R3).
    pub(crate) fn back_off(&self, entry: &Entry<K, V>, fresh_until: Moment, now: Moment) {
        let failures = entry.attempt().failures + 1;
        let windows = self.windows(entry);
        let servable_until = match windows.judge(fresh_until, now) {
            // Without a stale window that is the end of freshness: from then on readers wait for a load.
            Freshness::Fresh | Freshness::Stale => windows.stale_until(fresh_until),
            Freshness::Fallback | Freshness::Expired => windows.fallback_until(fresh_until),
        };
        let left = servable_until.since(now);
        let (base, max) = self.policy.backoff;
        let doubled = base.saturating_mul(1 << (failures - 1).min(30));
        let jittered = doubled.min(max).mul_f64(0.5 + self.dice.throw() / 2.0);
        entry.set_attempt(Attempt::failed(failures, entry.end_of_pause(now, jittered, now.after(left / 4))));
    }
}
