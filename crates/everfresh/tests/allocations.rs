//! What a cache allocates: nothing at a hit, and nothing that outlives its entry (M3), counted by the allocator itself.
#![allow(missing_docs, unsafe_code, reason = "an allocator that counts is the only witness")]
#![cfg(not(any(everfresh_shuttle, everfresh_loom)))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use everfresh::{
    Builder, Cache, Eviction, Job, Lifetime, ManualClock, Outcome, RefreshStatus, Spawn, SpawnError, Task, Traits,
};

/// Counts what this thread allocates, and what all of them hold.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static HELD: AtomicIsize = AtomicIsize::new(0);

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        HELD.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// How often `work` allocates on this thread.
fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

/// Bytes that the whole process holds; so these tests go one after the other.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn held() -> isize {
    HELD.load(Ordering::Relaxed)
}

/// The keys that pass through a cache of ten.
const MANY: u64 = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };

/// What may be held beyond ten entries' memory: tables that do not shrink below a first size, tags that are remembered a while.
const SLACK: isize = 256 << 10;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_witness_sees_what_it_should() {
    let _turn = alone();
    let mut kept = Vec::new();
    let before = held();
    // Much more than what threads that are just ending give back meanwhile.
    assert_eq!(allocations(|| kept = vec![1_u8; 10_000_000]), 1);
    assert!(held() - before >= 9_000_000);
    assert_eq!(allocations(|| assert_eq!(kept[0], 1)), 0);
}

#[test]
fn a_hit_allocates_nothing() {
    let _turn = alone();
    for eviction in [Eviction::S3Fifo, Eviction::Lru] {
        for lifetime in [Lifetime::forever(), Lifetime::ttl(3600 * SECOND).stale_while_revalidate(SECOND)] {
            let cache: Cache<u64, u64> =
                Cache::builder().capacity(100).eviction(eviction).lifetime(lifetime).build().unwrap();
            cache.insert(7, 70);
            // The first of a thread makes its place among the readers.
            assert_eq!(cache.get(&7), Some(70));
            let work = || {
                for _ in 0..1_000 {
                    assert_eq!(cache.get(&7), Some(70));
                    assert_eq!(cache.get_or_load(&7, || 0_u64).unwrap(), 70);
                    let answer = cache.lookup(&7).load(|| 0_u64).unwrap();
                    assert_eq!(answer.outcome, Outcome::Hit);
                    assert_eq!(cache.peek(&7), Some(70));
                    assert!(cache.contains(&7));
                    assert_eq!(cache.lookup(&7).max_stale(SECOND).peek().unwrap().value, 70);
                    assert_eq!(cache.get(&8), None);
                }
            };
            assert_eq!(allocations(work), 0, "{eviction:?}, {lifetime:?}");
        }
    }
}

#[test]
fn a_hit_by_a_borrowed_key_allocates_nothing() {
    let _turn = alone();
    let cache: Cache<String, Arc<[u8; 256]>> =
        Cache::builder().capacity(100).lifetime(Lifetime::ttl(3600 * SECOND)).build().unwrap();
    let key = "a key that is too long for any small-string trick to hide it";
    cache.insert(key.to_owned(), Arc::new([1; 256]));
    assert!(cache.get(key).is_some());
    let work = || {
        for _ in 0..1_000 {
            assert_eq!(cache.get(key).unwrap()[0], 1);
            assert_eq!(cache.get_or_load(key, || Arc::new([0; 256])).unwrap()[0], 1);
            assert_eq!(cache.lookup(key).load(|| Arc::new([0; 256])).unwrap().value[0], 1);
        }
    };
    assert_eq!(allocations(work), 0);
}

#[test]
fn a_hit_through_the_asynchronous_door_allocates_nothing() {
    let _turn = alone();
    let cache: Cache<u64, u64> = Cache::builder().capacity(100).build().unwrap();
    cache.insert(1, 10);
    assert_eq!(cache.get(&1), Some(10));
    let work = || {
        for _ in 0..1_000 {
            let mut hit = std::pin::pin!(cache.get_or_load_async(&1, || async { 0_u64 }));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(matches!(hit.as_mut().poll(&mut context), std::task::Poll::Ready(Ok(10))));
        }
    };
    assert_eq!(allocations(work), 0);
}

#[test]
fn a_stale_hit_that_starts_no_refresh_allocates_nothing() {
    let _turn = alone();
    let clock = ManualClock::new();
    let cache: Cache<u64, u64> = Cache::builder()
        .capacity(100)
        .lifetime(Lifetime::ttl(SECOND).stale_while_revalidate(100 * SECOND))
        .max_refreshes(0)
        .clock(clock.clone())
        .build()
        .unwrap();
    cache.insert(1, 10);
    clock.advance(2 * SECOND);
    assert_eq!(cache.lookup(&1).load(|| 0_u64).unwrap().refresh, RefreshStatus::Saturated);
    let work = || {
        for _ in 0..1_000 {
            let answer = cache.lookup(&1).load(|| 0_u64).unwrap();
            assert_eq!((answer.value, answer.outcome), (10, Outcome::Stale));
            assert_eq!(cache.get(&1), Some(10));
        }
    };
    assert_eq!(allocations(work), 0);
}

#[test]
fn a_hit_of_an_entry_with_tags_and_a_lifetime_of_its_own_allocates_nothing() {
    let _turn = alone();
    let cache: Cache<u64, u64> = Cache::builder().capacity(100).build().unwrap();
    cache.insert_with(1, 10, Traits::new().tag("tag").lifetime(Lifetime::ttl(3600 * SECOND)).weight(1));
    assert_eq!(cache.get(&1), Some(10));
    let work = || (0..1_000).for_each(|_| assert_eq!(cache.get(&1), Some(10)));
    assert_eq!(allocations(work), 0);
}

/// Ten entries, then `each` for many keys, then ten entries again: as much is held as before.
fn leaves_nothing(
    name: &str,
    configure: impl FnOnce(Builder<u64, u64>) -> Builder<u64, u64>,
    each: impl Fn(&Cache<u64, u64>, u64),
) {
    let cache = configure(Cache::builder().capacity(10)).build().unwrap();
    // The first rounds bring threads, tables and thread-locals into being.
    (0..1_000).for_each(|key| each(&cache, key));
    let fill = || (0..10).for_each(|key| cache.insert(key, key));
    fill();
    cache.reclaim();
    let before = held();
    let mut most = before;
    for key in 1_000..1_000 + MANY {
        each(&cache, key);
        if key % 1_000 == 0 {
            most = most.max(held());
        }
    }
    fill();
    cache.reclaim();
    let at_most = before + SLACK;
    // The housekeeper may still have its last chores to do.
    let until = Instant::now() + 30 * SECOND;
    while held() > at_most && Instant::now() < until {
        std::thread::yield_now();
    }
    let after = held();
    assert!(after <= at_most, "{name}: {} KiB more than ten entries need", (after - before) >> 10);
    // Also on the way it is not the number of keys that counts.
    assert!(most - before <= 16 * SLACK, "{name}: {} KiB on the way", (most - before) >> 10);
    assert!(cache.len() <= 10);
}

#[test]
fn m3_keys_whose_loads_fail_leave_nothing_behind() {
    let _turn = alone();
    leaves_nothing(
        "failing",
        |builder| builder,
        |cache, key| {
            assert!(cache.get_or_load(&key, || Err::<u64, _>("bad")).is_err());
        },
    );
}

#[test]
fn m3_remembered_errors_are_bounded_too() {
    let _turn = alone();
    leaves_nothing(
        "remembered",
        |builder| builder.negative_ttl(3600 * SECOND),
        |cache, key| {
            assert!(cache.get_or_load(&key, || Err::<u64, _>("bad")).is_err());
        },
    );
}

#[test]
fn m3_keys_that_were_invalidated_leave_nothing_behind() {
    let _turn = alone();
    leaves_nothing(
        "invalidated",
        |builder| builder,
        |cache, key| {
            if key % 2 == 0 {
                cache.insert(key, key);
            }
            cache.invalidate(&key);
            cache.expire(&key);
            assert_eq!(cache.remove(&key), None);
        },
    );
}

#[test]
fn m3_keys_that_were_expired_leave_nothing_behind() {
    let _turn = alone();
    leaves_nothing(
        "expired",
        |builder| builder.lifetime(Lifetime::forever().stale_while_revalidate(SECOND)).clock(ManualClock::new()),
        |cache, key| {
            cache.insert(key, key);
            cache.expire(&key);
            assert_eq!(cache.lookup(&key).peek().map(|answer| answer.outcome), Some(Outcome::Stale));
        },
    );
}

#[test]
fn m3_keys_that_were_loaded_and_evicted_leave_nothing_behind() {
    let _turn = alone();
    leaves_nothing(
        "evicted",
        |builder| builder,
        |cache, key| {
            assert_eq!(cache.get_or_load(&key, move || key).unwrap(), key);
        },
    );
}

#[test]
fn m3_tags_that_were_used_and_invalidated_leave_nothing_behind() {
    let _turn = alone();
    leaves_nothing(
        "tags",
        |builder| builder,
        |cache, key| {
            cache.insert_with(key, key, Traits::new().tag(format!("tag {key}")));
            cache.invalidate_tag(&format!("tag {key}"));
        },
    );
}

#[test]
fn m3_tags_that_were_only_used_leave_nothing_behind() {
    let _turn = alone();
    leaves_nothing(
        "tags",
        |builder| builder,
        |cache, key| {
            cache.insert_with(key, key, Traits::new().tag(format!("tag {key}")));
        },
    );
}

#[test]
fn m3_refreshes_that_fail_leave_nothing_behind() {
    let _turn = alone();
    let clock = ManualClock::new();
    let moved = clock.clone();
    leaves_nothing(
        "refreshes",
        move |builder| {
            builder.lifetime(Lifetime::ttl(SECOND).stale_while_revalidate(10 * SECOND)).clock(clock).spawner(AtOnce)
        },
        move |cache, key| {
            cache.insert(key, key);
            moved.advance(SECOND);
            assert_eq!(cache.get_or_load(&key, || Err::<u64, _>("bad")).unwrap(), key);
        },
    );
}

/// A spawner that breaks the rule not to run work on the caller's thread, for a test that wants no other.
struct AtOnce;

impl Spawn for AtOnce {
    fn spawn_job(&self, job: Job) -> Result<(), SpawnError> {
        job();
        Ok(())
    }

    fn spawn_task(&self, _task: Task) -> Result<(), SpawnError> {
        Err(SpawnError::new("only jobs"))
    }
}

#[cfg(feature = "macros")]
#[test]
fn a_hit_of_a_cached_function_allocates_nothing_whatever_its_key_is_made_of() {
    #[everfresh::cache_data(ttl = "1h", refresh = "background")]
    fn of_all(name: &str, parts: &[u64], path: &std::path::Path, owned: u32) -> u64 {
        name.len() as u64 + parts.iter().sum::<u64>() + path.as_os_str().len() as u64 + u64::from(owned)
    }
    #[everfresh::cache_data]
    async fn later(name: &str) -> Result<usize, String> {
        Ok(name.len())
    }
    #[everfresh::cache_data]
    fn of_type<T: std::hash::Hash + Eq + Clone + Send + Sync + 'static>(value: &T) -> usize {
        size_of_val(value)
    }
    #[everfresh::cache_resource(validate = |_| true)]
    fn shared(name: &str) -> String {
        name.to_owned()
    }
    #[everfresh::cache_data]
    fn of_text(text: &str) -> usize {
        text.len()
    }
    #[everfresh::cache_data]
    fn of_path(path: &std::path::Path) -> usize {
        path.as_os_str().len()
    }
    #[everfresh::cache_data]
    fn of_parts(parts: &[u64]) -> usize {
        parts.len()
    }
    #[everfresh::cache_data]
    fn of_three(a: u32, b: (u8, char), c: [u16; 2]) -> u32 {
        a + u32::from(b.0) + u32::from(c[0])
    }
    struct Client(u32);
    impl Client {
        #[everfresh::cache_data(key = (self.0, id))]
        fn by_key(&self, id: u32) -> u32 {
            self.0 + id
        }
    }
    let _turn = alone();
    type Call = (&'static str, fn());
    let calls: [Call; 9] = [
        ("text", || assert_eq!(of_text("AAPL"), 4)),
        ("path", || assert_eq!(of_path(std::path::Path::new("/a")), 2)),
        ("parts", || assert_eq!(of_parts(&[1, 2]), 2)),
        ("three", || assert_eq!(of_three(1, (1, 'a'), [1, 2]), 3)),
        ("key of its own", || assert_eq!(Client(1).by_key(2), 3)),
        ("borrowed parts", || assert_eq!(of_all("AAPL", &[1, 2], std::path::Path::new("/a"), 4), 13)),
        ("generic", || assert_eq!(of_type(&1_u32) + of_type(&1_u8), 5)),
        ("asynchronous", || {
            let mut later = std::pin::pin!(later("AAPL"));
            let polled = later.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
            assert!(matches!(polled, std::task::Poll::Ready(Ok(4))));
        }),
        ("resource", || assert_eq!(shared("a").len(), 1)),
    ];
    for (name, call) in calls {
        // The first hit of a thread gives it its place among the readers.
        call();
        call();
        assert_eq!(allocations(call), 0, "{name}");
    }
    // Nor are there keys that are harder to find.
    for key in 0..1_000 {
        let call = || assert_eq!(of_all("AAPL", &[1, 2], std::path::Path::new("/a"), key), 9 + u64::from(key));
        call();
        assert_eq!(allocations(call), 0, "{key}");
    }
}
