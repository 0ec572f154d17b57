//! Random operations and random steps of the clock, against a small sequential reference. `EVERFRESH_CASES` runs more of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use everfresh::{
    Cache, Eviction, Job, Lifetime, Load, LoadError, Loaded, ManualClock, Outcome, RefreshStatus, Spawn, SpawnError,
    Task, Traits,
};
use proptest::prelude::*;

use crate::kit::{SECOND, poll_once};

type Key = u8;
type TagName = u8;

/// What a loader is going to answer.
#[derive(Clone, Debug)]
enum Plan {
    Value { tag: Option<TagName>, short: bool },
    Fails,
    Absent,
    NotModified,
}

#[derive(Clone, Debug)]
enum Op {
    Get(Key, Plan),
    /// In the blocking door; the same promise.
    GetBlocking(Key, Plan),
    Peek(Key),
    Insert(Key, Option<TagName>, bool),
    Remove(Key),
    Invalidate(Key),
    InvalidateTag(TagName),
    /// All keys of one parity.
    InvalidateMatching(bool),
    Clear,
    Expire(Key),
    ExpireTag(TagName),
    ExpireMatching(bool),
    ExpireAll,
    /// Asked for by hand.
    Refresh(Key, Plan),
    /// The refresh that has run for the n-th longest ends.
    Finish(usize),
    Advance(u8),
    Reclaim,
}

const KEYS: Key = 5;
const TAGS: TagName = 3;
const TTL: u64 = 10;
const STALE: u64 = 20;
const FALLBACK: u64 = 40;
const SHORT: u64 = 3;

fn plans() -> impl Strategy<Value = Plan> {
    prop_oneof![
        6 => (prop::option::of(0..TAGS), any::<bool>()).prop_map(|(tag, short)| Plan::Value { tag, short }),
        2 => Just(Plan::Fails),
        1 => Just(Plan::Absent),
        1 => Just(Plan::NotModified),
    ]
}

fn operations() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (0..KEYS, plans()).prop_map(|(key, plan)| Op::Get(key, plan)),
        6 => (0..KEYS, plans()).prop_map(|(key, plan)| Op::GetBlocking(key, plan)),
        3 => (0..KEYS).prop_map(Op::Peek),
        4 => (0..KEYS, prop::option::of(0..TAGS), any::<bool>()).prop_map(|(key, tag, short)| Op::Insert(key, tag, short)),
        1 => (0..KEYS).prop_map(Op::Remove),
        1 => (0..KEYS).prop_map(Op::Invalidate),
        2 => (0..TAGS).prop_map(Op::InvalidateTag),
        1 => any::<bool>().prop_map(Op::InvalidateMatching),
        1 => Just(Op::Clear),
        2 => (0..KEYS).prop_map(Op::Expire),
        1 => (0..TAGS).prop_map(Op::ExpireTag),
        1 => any::<bool>().prop_map(Op::ExpireMatching),
        1 => Just(Op::ExpireAll),
        2 => (0..KEYS, plans()).prop_map(|(key, plan)| Op::Refresh(key, plan)),
        7 => (0..4_usize).prop_map(Op::Finish),
        8 => (1..16_u8).prop_map(Op::Advance),
        1 => Just(Op::Reclaim),
    ]
}

/// Keeps background work, and ends it in whatever order it is told.
#[derive(Clone, Default)]
struct Bench(Arc<Mutex<Vec<Task>>>);

impl Bench {
    fn finish(&self, at: usize) {
        let mut task = self.0.lock().unwrap().remove(at);
        assert!(poll_once(task.as_mut()).is_ready());
    }
}

impl Spawn for Bench {
    fn spawn_job(&self, job: Job) -> Result<(), SpawnError> {
        self.spawn_task(Box::pin(async move { job() }))
    }

    fn spawn_task(&self, task: Task) -> Result<(), SpawnError> {
        self.0.lock().unwrap().push(task);
        Ok(())
    }
}

/// One value of the reference.
#[derive(Clone, Debug)]
struct Held {
    value: u64,
    tags: BTreeSet<TagName>,
    short: bool,
    fresh_until: u64,
    /// The refresh that it waits for.
    claimed_by: Option<u64>,
}

/// One running refresh of the reference.
#[derive(Clone, Debug)]
struct Flight {
    id: u64,
    key: Key,
    plan: Plan,
    value: u64,
    /// It still is what a miss joins, and its result is stored.
    in_table: bool,
    /// It was begun for an entry, and is stored only over that.
    over_entry: bool,
    /// A miss waits for it: it is stored like a load.
    adopted: bool,
    expired: bool,
    /// The tags that were invalidated, and those declared stale, since it began.
    struck: BTreeSet<TagName>,
    staled: BTreeSet<TagName>,
}

#[derive(Default)]
struct Model {
    now: u64,
    held: BTreeMap<Key, Held>,
    flights: Vec<Flight>,
    /// Least recently used first.
    uses: Vec<Key>,
    capacity: Option<usize>,
    next: u64,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Life {
    Fresh,
    Stale,
    Fallback,
    Expired,
}

impl Model {
    fn life(&self, held: &Held) -> Life {
        let (stale, fallback) = self.windows(held.short);
        match self.now {
            now if now < held.fresh_until => Life::Fresh,
            now if now < held.fresh_until + stale => Life::Stale,
            now if now < held.fresh_until + fallback => Life::Fallback,
            _ => Life::Expired,
        }
    }

    /// A bounded cache never lets values expire here: which of two expired ones makes room first is nobody's promise.
    fn windows(&self, short: bool) -> (u64, u64) {
        match (self.capacity, short) {
            (Some(_), _) => (u64::MAX / 4, 0),
            (None, true) => (0, 0),
            (None, false) => (STALE, FALLBACK),
        }
    }

    fn lifetime(&self, short: bool) -> Lifetime {
        let (stale, fallback) = self.windows(short);
        Lifetime::ttl(SECOND * if short { SHORT } else { TTL } as u32)
            .stale_while_revalidate(Duration::from_secs(stale.min(1 << 32)))
            .stale_if_error(Duration::from_secs(fallback))
    }

    fn servable(&self, key: Key) -> Option<(u64, Life)> {
        let held = self.held.get(&key)?;
        let life = self.life(held);
        (life != Life::Expired).then_some((held.value, life))
    }

    fn used(&mut self, key: Key) {
        self.uses.retain(|other| *other != key);
        self.uses.push(key);
    }

    fn store(&mut self, key: Key, value: u64, tag: Option<TagName>, short: bool, stale_at_once: bool) -> bool {
        let fresh_until = if stale_at_once { self.now } else { self.now + if short { SHORT } else { TTL } };
        let held = Held { value, tags: tag.into_iter().collect(), short, fresh_until, claimed_by: None };
        if self.life(&held) == Life::Expired {
            // What it was to replace is older still.
            self.held.remove(&key);
            return false;
        }
        self.held.insert(key, held);
        self.used(key);
        self.uses.retain(|key| self.held.contains_key(key));
        if self.capacity.is_some_and(|capacity| self.held.len() > capacity) {
            let gone = self.uses.remove(0);
            self.held.remove(&gone);
        }
        true
    }

    fn take_out(&mut self, key: Key) {
        self.held.remove(&key);
        self.fence(|flight| flight.key == key);
    }

    fn fence(&mut self, which: impl Fn(&Flight) -> bool) {
        self.flights.iter_mut().filter(|flight| which(flight)).for_each(|flight| flight.in_table = false);
    }

    fn joinable(&self, key: Key) -> Option<usize> {
        self.flights.iter().position(|flight| flight.key == key && flight.in_table)
    }

    fn expire(&mut self, which: impl Fn(Key, &Held) -> bool) {
        for (key, held) in &mut self.held {
            if which(*key, held) {
                held.fresh_until = held.fresh_until.min(self.now);
            }
        }
    }

    /// What a stale reader's wish, or one by hand, comes to; begins the flight if it starts one.
    fn refresh(&mut self, key: Key, plan: &Plan, value: u64) -> RefreshStatus {
        let over_entry = self.held.contains_key(&key);
        let claimed = self.held.get(&key).is_some_and(|held| held.claimed_by.is_some());
        if claimed {
            return RefreshStatus::AlreadyRunning;
        }
        if let Some(at) = self.joinable(key) {
            // Somebody wants it though its entry is gone: a miss adopts it.
            self.flights[at].adopted |= !over_entry;
            return RefreshStatus::AlreadyRunning;
        }
        self.next += 1;
        let id = self.next;
        if let Some(held) = self.held.get_mut(&key) {
            held.claimed_by = Some(id);
        }
        self.flights.push(Flight {
            id,
            key,
            plan: plan.clone(),
            value,
            in_table: true,
            over_entry,
            adopted: false,
            expired: false,
            struck: BTreeSet::new(),
            staled: BTreeSet::new(),
        });
        RefreshStatus::Started
    }

    /// A flight ends. Whether the value that it made was overtaken by an invalidation of its tag.
    fn finish(&mut self, at: usize) -> bool {
        let flight = self.flights.remove(at);
        let mut struck = false;
        match flight.plan {
            _ if !flight.in_table => {}
            Plan::Value { tag, short } => {
                struck = tag.is_some_and(|tag| flight.struck.contains(&tag));
                let there = self.held.contains_key(&flight.key);
                if !struck && (there || flight.adopted || !flight.over_entry) {
                    let stale = flight.expired || tag.is_some_and(|tag| flight.staled.contains(&tag));
                    self.store(flight.key, flight.value, tag, short, stale);
                }
            }
            Plan::Absent => drop(self.held.remove(&flight.key)),
            Plan::Fails | Plan::NotModified => {}
        }
        if let Some(held) = self.held.get_mut(&flight.key)
            && held.claimed_by == Some(flight.id)
        {
            held.claimed_by = None;
        }
        struck
    }
}

struct Run {
    cache: Cache<Key, u64>,
    clock: ManualClock,
    bench: Bench,
    model: Model,
    values: u64,
}

fn answer(plan: &Plan, value: u64, lifetime: impl Fn(bool) -> Lifetime) -> Result<Load<u64>, &'static str> {
    match plan {
        Plan::Value { tag, short } => {
            Ok(Loaded::new(value).lifetime(lifetime(*short)).tags(tag.map(|tag| format!("tag {tag}"))).into())
        }
        Plan::Fails => Err("bad"),
        Plan::Absent => Ok(Load::Absent),
        Plan::NotModified => Err("bad"),
    }
}

impl Run {
    fn new(capacity: Option<usize>) -> Run {
        let (clock, bench) = (ManualClock::new(), Bench::default());
        let model = Model { capacity, ..Model::default() };
        let builder = Cache::builder().eviction(Eviction::Lru).lifetime(model.lifetime(false));
        let builder = match capacity {
            Some(capacity) => builder.capacity(capacity),
            None => builder.unbounded(),
        };
        let cache = builder
            .clock(clock.clone())
            .spawner(bench.clone())
            .max_refreshes(1_000)
            .refresh_timeout(None)
            // No pause after a failure: how long one is, is left to chance.
            .backoff(Duration::ZERO, Duration::ZERO)
            .build()
            .unwrap();
        Run { cache, clock, bench, model, values: 0 }
    }

    fn loader(
        &mut self,
        plan: &Plan,
    ) -> (u64, impl FnOnce() -> Result<Load<u64>, &'static str> + Send + 'static + use<>) {
        self.values += 1;
        let (value, plan) = (self.values, plan.clone());
        let (long, short) = (self.model.lifetime(false), self.model.lifetime(true));
        (value, move || answer(&plan, value, |is_short| if is_short { short } else { long }))
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::Get(key, plan) => self.get(*key, plan, false),
            Op::GetBlocking(key, plan) => self.get(*key, plan, true),
            Op::Peek(key) => {
                let life = |outcome| match outcome {
                    Outcome::Hit => Life::Fresh,
                    Outcome::Stale => Life::Stale,
                    Outcome::Fallback => Life::Fallback,
                    _ => Life::Expired,
                };
                let peeked = self.cache.lookup(key).peek().map(|answer| (answer.value, life(answer.outcome)));
                assert_eq!(peeked, self.model.servable(*key));
            }
            Op::Insert(key, tag, short) => {
                self.values += 1;
                let traits =
                    Traits::new().lifetime(self.model.lifetime(*short)).tags(tag.map(|tag| format!("tag {tag}")));
                self.cache.insert_with(*key, self.values, traits);
                self.model.fence(|flight| flight.key == *key);
                self.model.store(*key, self.values, *tag, *short, false);
            }
            Op::Remove(key) => {
                let servable = self.model.servable(*key).map(|(value, _)| value);
                assert_eq!(self.cache.remove(key), servable);
                self.model.take_out(*key);
            }
            Op::Invalidate(key) => {
                self.cache.invalidate(key);
                self.model.take_out(*key);
            }
            Op::InvalidateTag(tag) => {
                self.cache.invalidate_tag(&format!("tag {tag}"));
                self.model.held.retain(|_, held| !held.tags.contains(tag));
                self.model.flights.iter_mut().for_each(|flight| {
                    flight.struck.insert(*tag);
                });
                self.settle();
            }
            Op::InvalidateMatching(odd) => {
                self.cache.invalidate_matching(|key, _| (key % 2 == 1) == *odd);
                self.model.held.retain(|key, _| (key % 2 == 1) != *odd);
                self.model.fence(|_| true);
            }
            Op::Clear => {
                self.cache.clear();
                assert!(self.cache.entries().is_empty());
                self.model.held.clear();
                self.model.fence(|_| true);
                self.settle();
            }
            Op::Expire(key) => {
                self.cache.expire(key);
                self.model.expire(|other, _| other == *key);
                if let Some(at) = self.model.joinable(*key) {
                    self.model.flights[at].expired = true;
                }
            }
            Op::ExpireTag(tag) => {
                self.cache.expire_tag(&format!("tag {tag}"));
                self.model.expire(|_, held| held.tags.contains(tag));
                self.model.flights.iter_mut().for_each(|flight| {
                    flight.staled.insert(*tag);
                });
            }
            Op::ExpireMatching(odd) => {
                let matches = |key: Key| (key % 2 == 1) == *odd;
                self.reclaim();
                self.cache.expire_matching(|key, _| matches(*key));
                self.model.expire(|key, _| matches(key));
                let struck = |flight: &&mut Flight| flight.in_table;
                self.model.flights.iter_mut().filter(struck).for_each(|flight| flight.expired = true);
            }
            Op::ExpireAll => {
                self.cache.expire_all();
                self.model.expire(|_, _| true);
                self.model.flights.iter_mut().for_each(|flight| flight.expired = true);
            }
            Op::Refresh(key, plan) => {
                let (value, load) = self.loader(plan);
                self.reclaim();
                let refreshing = self.cache.refresh_with(key, load);
                assert_eq!(refreshing.status(), self.model.refresh(*key, plan, value));
            }
            Op::Finish(nth) => {
                if let Some(at) = (!self.model.flights.is_empty()).then(|| nth % self.model.flights.len()) {
                    self.bench.finish(at);
                    self.model.finish(at);
                }
            }
            Op::Advance(seconds) => {
                self.clock.advance(SECOND * u32::from(*seconds));
                self.model.now += u64::from(*seconds);
            }
            Op::Reclaim => self.reclaim(),
        }
        self.compare();
    }

    /// Whether an expired entry is still there when nobody looks is not promised; after this none is, unless its refresh runs.
    fn reclaim(&mut self) {
        self.cache.reclaim();
        let over = |model: &Model, held: &Held| held.claimed_by.is_none() && model.life(held) == Life::Expired;
        let gone: Vec<Key> =
            self.model.held.iter().filter(|(_, held)| over(&self.model, held)).map(|(key, _)| *key).collect();
        gone.iter().for_each(|key| drop(self.model.held.remove(key)));
        assert!(self.cache.len() <= self.model.held.len());
    }

    /// The room of what was invalidated is given back behind; where room is short it matters when.
    fn settle(&self) {
        if self.model.capacity.is_some() {
            self.cache.reclaim();
        }
    }

    fn get(&mut self, key: Key, plan: &Plan, blocking: bool) {
        let (value, load) = self.loader(plan);
        let servable = self.model.servable(key);
        if let Some((old, life @ (Life::Fresh | Life::Stale))) = servable {
            self.model.used(key);
            let got = match blocking {
                true => self.cache.lookup(&key).load(load).unwrap(),
                false => {
                    let loading = self.cache.lookup(&key).load_async(move || async move { load() });
                    let Poll::Ready(got) = poll_once(std::pin::pin!(loading)) else { panic!("a hit that waits") };
                    got.unwrap()
                }
            };
            let expected = match life {
                Life::Fresh => (Outcome::Hit, RefreshStatus::NotNeeded),
                _ => (Outcome::Stale, self.model.refresh(key, plan, value)),
            };
            assert_eq!((got.value, (got.outcome, got.refresh)), (old, expected));
            return;
        }
        // A miss, or a fallback: it loads, or joins who does.
        let cache = self.cache.clone();
        let mut loading = Box::pin(async move { cache.lookup(&key).load_async(move || async move { load() }).await });
        let mut polled = poll_once(loading.as_mut());
        let joined = self.model.joinable(key);
        assert_eq!(polled.is_pending(), joined.is_some(), "whether it joins a flight");
        let mut expected = None;
        if let Some(at) = joined {
            self.model.flights[at].adopted = true;
            let flight = self.model.flights[at].clone();
            self.bench.finish(at);
            let struck = self.model.finish(at);
            polled = poll_once(loading.as_mut());
            let left = self.model.servable(key).map(|(value, _)| (value, Outcome::Fallback)).ok_or(true);
            expected = match flight.plan {
                // It came after the invalidation of a tag that the value bears: that value is not for it.
                Plan::Value { .. } if struck => None,
                Plan::Value { .. } => Some(Ok((flight.value, Outcome::Coalesced))),
                Plan::Absent => Some(Err(false)),
                Plan::Fails | Plan::NotModified => Some(if servable.is_some() { left } else { Err(true) }),
            };
        }
        let expected = expected.unwrap_or_else(|| match plan {
            Plan::Value { tag, short } => {
                self.model.store(key, value, *tag, *short, false);
                Ok((value, Outcome::Loaded))
            }
            Plan::Absent => {
                self.model.held.remove(&key);
                Err(false)
            }
            Plan::Fails | Plan::NotModified => {
                if let Some(held) = self.model.held.get_mut(&key) {
                    held.claimed_by = None;
                }
                self.model.servable(key).map(|(value, _)| (value, Outcome::Fallback)).ok_or(true)
            }
        });
        let Poll::Ready(got) = polled else { panic!("it waits on") };
        let got = got.map(|answer| (answer.value, answer.outcome)).map_err(|error| match error {
            LoadError::Load(error) => {
                assert_eq!(*error, "bad");
                true
            }
            other => {
                assert!(other.is_absent(), "{other}");
                false
            }
        });
        assert_eq!(got, expected);
    }

    fn compare(&self) {
        for key in 0..KEYS {
            assert_eq!(self.cache.peek(&key), self.model.servable(key).map(|(value, _)| value), "key {key}");
            assert_eq!(self.cache.contains(&key), self.model.servable(key).is_some());
        }
        let mut entries = self.cache.entries();
        entries.sort_unstable();
        let servable = |key| self.model.servable(key).map(|(value, _)| (key, value));
        assert_eq!(entries, (0..KEYS).filter_map(servable).collect::<Vec<_>>());
        assert!(self.cache.len() >= entries.len());
        if let Some(capacity) = self.model.capacity {
            assert!(self.cache.len() <= capacity);
        }
        assert_eq!(self.bench.0.lock().unwrap().len(), self.model.flights.len(), "running refreshes");
    }
}

fn cases() -> ProptestConfig {
    let cases = std::env::var("EVERFRESH_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1_000);
    ProptestConfig { cases, max_shrink_iters: 20_000, failure_persistence: None, ..ProptestConfig::default() }
}

/// Two entries of one key that were loaded at the same moment are two: what the refresh of the first leaves behind when it
/// ends does not touch the second, whose own refresh runs.
#[test]
fn r2_a_refresh_that_was_overtaken_gives_up_no_other_entrys_claim() {
    let value = |short| Plan::Value { tag: None, short };
    let ops = [
        Op::GetBlocking(2, value(false)),
        Op::Refresh(0, value(false)),
        Op::ExpireAll,
        Op::GetBlocking(2, value(false)),
        Op::InvalidateMatching(false),
        Op::GetBlocking(2, value(true)),
        Op::Advance(3),
        Op::GetBlocking(2, value(false)),
        Op::Finish(1),
        Op::InvalidateMatching(true),
        Op::Get(2, value(false)),
    ];
    let mut run = Run::new(Some(2));
    ops.iter().for_each(|op| run.step(op));
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn an_unbounded_cache_does_what_the_reference_does(ops in prop::collection::vec(operations(), 1..60)) {
        let mut run = Run::new(None);
        ops.iter().for_each(|op| run.step(op));
    }

    #[test]
    fn a_small_cache_with_lru_does_what_the_reference_does(capacity in 1..5_usize, ops in prop::collection::vec(operations(), 1..60)) {
        let mut run = Run::new(Some(capacity));
        ops.iter().for_each(|op| run.step(op));
    }
}
