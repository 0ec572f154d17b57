//! Threads and tasks that read through every door, while others strike in every way, over a second level and loaders that fail:
//! whatever anybody gets was made after the last strike that had ended when he asked (contract I1 to I4, S1). `EVERFRESH_CASES`
//! runs more of it.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use everfresh::{
    Answer, BoxError, Cache, Eviction, Hasher, LevelFuture, Lifetime, Load, LoadError, Loaded, Lookup, ManualClock,
    Outcome, Previous, SecondLevel, Traits,
};
use tokio::task::{JoinHandle, yield_now};

use crate::kit::within_a_minute;

const KEYS: u64 = 48;
/// What is loaded or inserted for these always has its tag; the others are also loaded many at once, which gives no tags.
const TAGGED: Range<u64> = KEYS / 2..KEYS;
const READS: usize = 250;

/// A key and its version.
type Value = (u64, u64);

fn tag(key: u64) -> String {
    format!("tag {}", key % 5)
}

fn millis(less_than: u64) -> Duration {
    Duration::from_millis(fastrand::u64(..less_than))
}

fn chance(percent: u8) -> bool {
    fastrand::u8(..100) < percent
}

/// Some are much asked for.
fn some_key() -> u64 {
    let (hot, tagged) = (chance(60), fastrand::bool());
    fastrand::u64(..if hot { 2 } else { KEYS / 2 }) + if tagged { TAGGED.start } else { 0 }
}

/// Lets other tasks run, and now and then other threads, less often than that; or for once so long that much happens meanwhile.
async fn turns(less_than: u32) {
    let less_than = if chance(10) { 40 * less_than } else { less_than };
    for _ in 0..fastrand::u32(..less_than) {
        yield_now().await;
        if chance(20) {
            thread::yield_now();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A second level that takes its time and fails now and then, before or after it did what it was asked for.
#[derive(Clone, Default)]
struct Shelf {
    held: Arc<Mutex<HashMap<u64, Loaded<Value>>>>,
    fails: Arc<AtomicBool>,
}

impl Shelf {
    fn may_fail(&self) -> Result<(), BoxError> {
        match fastrand::u8(..30) {
            0 | 1 if self.fails.load(SeqCst) => Err("out of order".into()),
            2 if self.fails.load(SeqCst) => resume_unwind(Box::new("the shelf fell")),
            _ => Ok(()),
        }
    }

    fn answer<'a, T: Send + 'a>(
        &'a self,
        work: impl FnOnce(&mut HashMap<u64, Loaded<Value>>) -> T + Send + 'a,
    ) -> LevelFuture<'a, T> {
        Box::pin(async move {
            turns(12).await;
            self.may_fail()?;
            let answer = work(&mut lock(&self.held));
            turns(12).await;
            self.may_fail().map(|()| answer)
        })
    }
}

impl SecondLevel<u64, Value> for Shelf {
    fn get<'a>(&'a self, key: &'a u64) -> LevelFuture<'a, Option<Loaded<Value>>> {
        self.answer(|held| held.get(key).cloned())
    }

    fn put<'a>(&'a self, key: &'a u64, loaded: &'a Loaded<Value>, _begun_ago: Duration) -> LevelFuture<'a, ()> {
        self.answer(|held| drop(held.insert(*key, loaded.clone())))
    }

    fn remove<'a>(&'a self, key: &'a u64) -> LevelFuture<'a, ()> {
        self.answer(|held| drop(held.remove(key)))
    }

    fn remove_tag<'a>(&'a self, tag: &'a str) -> LevelFuture<'a, ()> {
        self.answer(move |held| held.retain(|_, loaded| !loaded.traits().own_tags().iter().any(|own| &**own == tag)))
    }

    fn clear(&self) -> LevelFuture<'_, ()> {
        self.answer(HashMap::clear)
    }
}

/// What is behind the cache: a version is taken when a load begins.
#[derive(Clone)]
struct Source {
    versions: Arc<AtomicU64>,
    /// It may answer that the old value still holds.
    revalidates: bool,
}

impl Source {
    fn version(&self) -> u64 {
        self.versions.fetch_add(1, SeqCst)
    }

    fn made(&self, key: u64, version: u64, previous: bool) -> Result<Load<Value>, io::Error> {
        match fastrand::u8(..100) {
            0..6 => Err(io::Error::other("out of order")),
            6..8 => resume_unwind(Box::new("the source fell")),
            8..11 => Ok(Load::Absent),
            11..20 if previous && self.revalidates => Ok(Load::NotModified),
            _ => Ok(Loaded::with_traits((key, version), traits(key)).into()),
        }
    }

    fn load(&self, key: u64, previous: Option<Previous<Value>>) -> Result<Load<Value>, io::Error> {
        let version = self.version();
        (0..fastrand::u32(..8)).for_each(|_| thread::yield_now());
        self.made(key, version, previous.is_some())
    }

    async fn load_later(self, key: u64, previous: Option<Previous<Value>>) -> Result<Load<Value>, io::Error> {
        let version = self.version();
        turns(20).await;
        self.made(key, version, previous.is_some())
    }

    fn load_many(&self, keys: Vec<u64>) -> Result<Vec<(u64, Value)>, io::Error> {
        let version = self.version();
        (0..fastrand::u32(..8)).for_each(|_| thread::yield_now());
        match fastrand::u8(..20) {
            0 => Err(io::Error::other("out of order")),
            1 => resume_unwind(Box::new("the source fell")),
            _ => Ok(keys.into_iter().filter(|_| !chance(5)).map(|key| (key, (key, version))).collect()),
        }
    }
}

fn traits(key: u64) -> Traits {
    let own = Traits::new();
    let own = if chance(20) { own.lifetime(lifetime(fastrand::u64(1..40))) } else { own };
    if TAGGED.contains(&key) || chance(50) { own.tag(tag(key)) } else { own }
}

fn lifetime(millis: u64) -> Lifetime {
    let ttl = Duration::from_millis(millis);
    Lifetime::ttl(ttl).stale_while_revalidate(2 * ttl).stale_if_error(10 * ttl)
}

/// What a key's versions must be at least.
#[derive(Default)]
struct Floor {
    /// To be served at all.
    any: AtomicU64,
    /// To be served as fresh.
    fresh: AtomicU64,
}

#[derive(Clone, Copy, PartialEq)]
enum Strength {
    Invalidates,
    Expires,
}

struct World {
    cache: Cache<u64, Value>,
    clock: ManualClock,
    source: Source,
    shelf: Shelf,
    floors: Vec<Floor>,
    /// Inserts that have begun and not ended, as keys and versions: a strike that meanwhile ends need not have struck them.
    inserts: Mutex<BTreeSet<(u64, u64)>>,
    complaints: Mutex<Vec<String>>,
    /// Who goes on reading, and is struck at.
    readers: AtomicUsize,
    reads: AtomicUsize,
    /// How many percent of the strikes are of all.
    wide: u8,
    /// Less than so many reads between two strikes of one.
    pace: usize,
}

impl World {
    fn new(seed: u64) -> Arc<World> {
        let clock = ManualClock::new();
        let source = Source { versions: Arc::default(), revalidates: seed.is_multiple_of(3) };
        let shelf = Shelf::default();
        shelf.fails.store(chance(70), SeqCst);
        let capacity = [3, 8, 20, 1000][(seed % 4) as usize];
        let builder = Cache::builder().capacity(capacity).clock(clock.clone()).lifetime(lifetime(20)).seed(seed);
        let builder = if chance(30) { builder.eviction(Eviction::Lru) } else { builder };
        let builder = if chance(50) { builder.negative_ttl(Duration::from_millis(5)) } else { builder };
        let builder = if chance(30) { builder.refresh_ahead(0.8) } else { builder };
        let builder = if seed.is_multiple_of(5) { builder } else { builder.second_level(shelf.clone()) };
        let own = source.clone();
        let builder = match chance(50) {
            true => builder.loader_with(move |key: &u64, previous| own.load(*key, previous)),
            false => builder.async_loader_with(move |key, previous| own.clone().load_later(key, previous)),
        };
        let cache = builder.build().unwrap();
        let floors = (0..KEYS).map(|_| Floor::default()).collect();
        Arc::new(World {
            cache,
            clock,
            source,
            shelf,
            floors,
            inserts: Mutex::default(),
            complaints: Mutex::default(),
            readers: AtomicUsize::new(5),
            reads: AtomicUsize::new(0),
            wide: [0, 1, 5][fastrand::usize(..3)],
            pace: [3, 20][fastrand::usize(..2)],
        })
    }

    /// Strikes, and raises the floors of the keys concerned to what there was when that began.
    fn strike(&self, strength: Strength, keys: impl IntoIterator<Item = u64>, strike: impl FnOnce()) {
        let now = self.source.version();
        let floors: Vec<(u64, u64)> = {
            let inserts = lock(&self.inserts);
            keys.into_iter().map(|key| (key, oldest(&inserts, key).min(now))).collect()
        };
        strike();
        self.raise(strength, &floors);
    }

    fn insert(&self, key: u64) {
        let (version, floor) = {
            let mut inserts = lock(&self.inserts);
            let version = self.source.version();
            inserts.insert((key, version));
            (version, oldest(&inserts, key))
        };
        match TAGGED.contains(&key) || chance(50) {
            true => self.cache.insert_with(key, (key, version), traits(key)),
            false => self.cache.insert(key, (key, version)),
        }
        lock(&self.inserts).remove(&(key, version));
        self.raise(Strength::Invalidates, &[(key, floor)]);
    }

    fn raise(&self, strength: Strength, floors: &[(u64, u64)]) {
        for &(key, floor) in floors {
            self.floors[key as usize].fresh.fetch_max(floor, SeqCst);
            if strength == Strength::Invalidates {
                self.floors[key as usize].any.fetch_max(floor, SeqCst);
            }
        }
    }

    fn strike_somehow(&self) {
        use Strength::{Expires, Invalidates};
        let (cache, key) = (&self.cache, some_key());
        let bears = || TAGGED.filter(|other| other % 5 == key % 5);
        let third = |other: &u64| other % 3 == key % 3;
        // After one of all, nothing is asked beneath for a while.
        match if chance(self.wide) { 20 + fastrand::u8(..4) } else { fastrand::u8(..20) } {
            0..4 => self.insert(key),
            4..8 => self.strike(Invalidates, [key], || cache.invalidate(&key)),
            8 => self.strike(Invalidates, [key], || _ = cache.remove(&key)),
            9..12 => self.strike(Invalidates, bears(), || cache.invalidate_tag(&tag(key))),
            12..14 => self.strike(Expires, [key], || cache.expire(&key)),
            14..16 => self.strike(Expires, bears(), || cache.expire_tag(&tag(key))),
            16 => cache.reclaim(),
            17..20 => self.clock.advance(millis(20)),
            20 => {
                self.strike(Invalidates, (0..KEYS).filter(third), || cache.invalidate_matching(|other, _| third(other)))
            }
            21 => self.strike(Invalidates, 0..KEYS, || cache.clear()),
            22 => self.strike(Expires, (0..KEYS).filter(third), || cache.expire_matching(|other, _| third(other))),
            _ => self.strike(Expires, 0..KEYS, || cache.expire_all()),
        }
    }

    /// Strikes while anybody reads: again when a few more have read.
    fn strike_on(&self) {
        while self.readers.load(SeqCst) > 0 {
            self.strike_somehow();
            let enough = self.reads.load(SeqCst) + fastrand::usize(..self.pace);
            while self.reads.load(SeqCst) < enough && self.readers.load(SeqCst) > 0 {
                thread::yield_now();
            }
        }
    }

    /// The floors of a key, taken before it is asked for.
    fn floor(&self, key: u64) -> Floor {
        let Floor { any, fresh } = &self.floors[key as usize];
        Floor { any: any.load(SeqCst).into(), fresh: fresh.load(SeqCst).into() }
    }

    fn floors(&self) -> Vec<Floor> {
        (0..KEYS).map(|key| self.floor(key)).collect()
    }

    fn check(&self, door: &str, key: u64, floor: &Floor, (named, version): Value) {
        let any = floor.any.load(SeqCst);
        if named != key || version < any {
            lock(&self.complaints).push(format!("{door}: key {key} at least {any}, got {version} of key {named}"));
        }
    }

    fn check_answer(&self, door: &str, key: u64, floor: &Floor, answer: &Answer<Value>) {
        self.check(door, key, floor, answer.value);
        let (fresh, version) = (floor.fresh.load(SeqCst), answer.value.1);
        // One that was found to still hold is fresh again, whatever its version.
        if answer.outcome == Outcome::Hit && version < fresh && !self.source.revalidates {
            lock(&self.complaints).push(format!("{door}: key {key} expired at {fresh}, got {version} as fresh"));
        }
    }

    fn read_somehow(&self) {
        let asked = Asked::new(self, some_key());
        let Asked { world: World { cache, source, .. }, key, .. } = asked;
        let (source, lookup) = (source.clone(), bounded(cache.lookup(&key)));
        match fastrand::u8(..16) {
            0 | 1 => asked.valued("get", cache.get(&key)),
            2..5 => asked.valued("get_or_load", cache.get_or_load(&key, move || source.load(key, None)).ok()),
            5 | 6 => asked.answered("load", lookup.load(move || source.load(key, None))),
            7 | 8 => asked.answered("load_with", lookup.load_with(move |previous| source.load(key, previous))),
            9 => asked.answered("load_inline", lookup.load_inline(|previous| source.load(key, previous))),
            10 => asked.valued("try_get", cache.try_get(&key).ok()),
            11 => asked.answered("peek", lookup.peek().ok_or(())),
            12 => {
                let floors = self.floors();
                cache.entries().into_iter().for_each(|(key, value)| {
                    self.check("entries", key, &floors[key as usize], value);
                });
            }
            13 => {
                let floors = self.floors();
                let found = cache.get_many_or_load(some_untagged(), move |keys| source.load_many(keys));
                self.check_many("get_many_or_load", &floors, found);
            }
            14 => drop(cache.refresh_with(&key, move || source.load(key, None))),
            _ => drop(cache.warm([some_key(), some_key(), some_key()])),
        }
    }

    fn check_many(&self, door: &str, floors: &[Floor], found: Result<HashMap<u64, Value>, LoadError<io::Error>>) {
        for (key, value) in found.into_iter().flatten() {
            self.check(door, key, &floors[key as usize], value);
        }
    }

    async fn read_later(&self) {
        let asked = Asked::new(self, some_key());
        let Asked { world: World { cache, source, .. }, key, .. } = asked;
        let (source, lookup) = (source.clone(), bounded(cache.lookup(&key)));
        match fastrand::u8(..10) {
            0..3 => {
                let loaded = cache.get_or_load_async(&key, move || source.load_later(key, None)).await;
                asked.valued("get_or_load_async", loaded.ok());
            }
            3 | 4 => asked.answered("load_async", lookup.load_async(move || source.load_later(key, None)).await),
            5 | 6 => {
                let answer = lookup.load_async_with(move |previous| source.load_later(key, previous)).await;
                asked.answered("load_async_with", answer);
            }
            7 => asked.valued("get_async", cache.get_async(&key).await.ok()),
            8 => {
                let floors = self.floors();
                let load = move |keys| {
                    let source = source.clone();
                    async move {
                        turns(8).await;
                        source.load_many(keys)
                    }
                };
                let found = cache.get_many_or_load_async(some_untagged(), load).await;
                self.check_many("get_many_or_load_async", &floors, found);
            }
            _ => match chance(50) {
                true => drop(cache.refresh_with_async(&key, move || source.load_later(key, None))),
                false => drop(cache.warm_async([some_key(), some_key(), some_key()]).await),
            },
        }
    }
}

/// What somebody is about to ask for, and what he may get at least.
struct Asked<'a> {
    world: &'a World,
    key: u64,
    floor: Floor,
}

impl<'a> Asked<'a> {
    fn new(world: &'a World, key: u64) -> Asked<'a> {
        Asked { world, key, floor: world.floor(key) }
    }

    fn valued(&self, door: &str, value: Option<Value>) {
        value.into_iter().for_each(|value| self.world.check(door, self.key, &self.floor, value));
    }

    fn answered<E>(&self, door: &str, answer: Result<Answer<Value>, E>) {
        answer.iter().for_each(|answer| self.world.check_answer(door, self.key, &self.floor, answer));
    }
}

/// Says more than which key, now and then.
fn bounded<S: Hasher>(mut lookup: Lookup<'_, u64, Value, S, u64>) -> Lookup<'_, u64, Value, S, u64> {
    if chance(20) {
        lookup = lookup.max_stale(millis(30));
    }
    if chance(15) {
        lookup = lookup.bypass();
    }
    if chance(15) {
        lookup = lookup.soft_timeout(millis(5)).wait_at_most(millis(20));
    }
    lookup
}

/// The version of the oldest insert of a key that has not ended.
fn oldest(inserts: &BTreeSet<(u64, u64)>, key: u64) -> u64 {
    inserts.range((key, 0)..=(key, u64::MAX)).next().map_or(u64::MAX, |&(_, version)| version)
}

fn some_untagged() -> [u64; 3] {
    [(); 3].map(|()| some_key() % TAGGED.start)
}

/// Reads in tasks of their own, each of which may panic, or be dropped at any moment.
async fn read_in_tasks(world: Arc<World>) {
    for _ in 0..READS {
        world.reads.fetch_add(1, SeqCst);
        let one = Arc::clone(&world);
        let task: JoinHandle<()> = tokio::spawn(async move { one.read_later().await });
        if chance(15) {
            turns(30).await;
            task.abort();
        }
        let _panicked_or_dropped = task.await;
    }
    world.readers.fetch_sub(1, SeqCst);
}

fn storm(seed: u64, runtime: &tokio::runtime::Runtime) {
    fastrand::seed(seed);
    let world = World::new(seed);
    let (mut tasks, mut threads) = (Vec::new(), Vec::new());
    for person in 0..7 {
        let one = Arc::clone(&world);
        let handle = runtime.handle().clone();
        match person {
            0..2 => threads.push(thread::spawn(move || {
                fastrand::seed(seed << 8 | person);
                one.strike_on();
            })),
            // The second of them inside a runtime, into which what goes on behind goes as well.
            2..4 => threads.push(thread::spawn(move || {
                let _inside = (person == 3).then(|| handle.enter());
                fastrand::seed(seed << 8 | person);
                for _ in 0..READS {
                    one.reads.fetch_add(1, SeqCst);
                    let _the_source_fell = catch_unwind(AssertUnwindSafe(|| one.read_somehow()));
                }
                one.readers.fetch_sub(1, SeqCst);
            })),
            _ => tasks.push(runtime.spawn(read_in_tasks(one))),
        }
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    tasks.into_iter().for_each(|task| runtime.block_on(task).unwrap());
    // The second level works again, and is told of one more strike: with it, of all.
    world.shelf.fails.store(false, SeqCst);
    world.cache.settle();
    world.cache.invalidate(&KEYS);
    world.cache.settle();
    for (key, loaded) in lock(&world.shelf.held).iter() {
        world.check("the second level in the end", *key, &world.floor(*key), *loaded.value());
    }
    // And nothing is left behind that would be in the way of a load.
    lock(&world.shelf.held).clear();
    world.clock.advance(Duration::from_secs(60));
    for key in 0..KEYS {
        let version = world.source.version();
        assert_eq!(world.cache.get_or_load(&key, move || (key, version)).ok(), Some((key, version)), "seed {seed}");
    }
    let complaints = lock(&world.complaints);
    assert!(complaints.is_empty(), "seed {seed}: {} of them, {:#?}", complaints.len(), complaints.first());
}

#[test]
fn i1_nobody_gets_what_was_struck_before_he_asked() {
    let cases: u64 = std::env::var("EVERFRESH_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let runtime = Arc::new(runtime);
    for seed in 0..cases.div_ceil(50) {
        let runtime = Arc::clone(&runtime);
        within_a_minute(move || storm(seed, &runtime));
    }
}
