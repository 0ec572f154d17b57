//! M1, M2, M4, M5: the bound holds, the right one has to go, and no user code runs under a lock. M3 is in `allocations.rs`.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use everfresh::{Cache, Cause, Event, Eviction, Lifetime, ManualClock, Traits};

use crate::kit::{Count, Hand, MINUTE, within_a_minute};

#[test]
fn m1_a_cache_of_two_keeps_two() {
    for eviction in [Eviction::S3Fifo, Eviction::Lru] {
        let cache: Cache<u32, u64> = Cache::builder().capacity(2).eviction(eviction).build().unwrap();
        cache.insert(1, 1);
        cache.insert(2, 2);
        assert_eq!((cache.get(&1), cache.get(&2)), (Some(1), Some(2)));
        cache.insert(3, 3);
        assert_eq!(cache.len(), 2);
        assert!(cache.contains(&3));
    }
}

#[test]
fn m1_a_small_cache_holds_as_many_as_it_says() {
    for capacity in [1, 3, 15, 16, 17, 100, 1_000, 1_024] {
        let cache: Cache<usize, usize> = Cache::builder().capacity(capacity).build().unwrap();
        (0..capacity).for_each(|key| cache.insert(key, key));
        assert_eq!(cache.len(), capacity);
        assert!((0..capacity).all(|key| cache.get(&key) == Some(key)), "of {capacity}");
    }
}

#[test]
fn m1_the_bound_holds_after_every_operation_of_many_threads() {
    for capacity in [7, 5_000] {
        let cache: Cache<u64, u64> = Cache::builder().capacity(capacity).build().unwrap();
        thread::scope(|scope| {
            for thread in 0..4 {
                let cache = &cache;
                scope.spawn(move || {
                    let mut dice = fastrand::Rng::with_seed(thread);
                    for _ in 0..20_000 {
                        cache.insert(dice.u64(0..20_000), 1);
                        assert!(cache.stats().entries <= capacity);
                    }
                });
            }
        });
        assert_eq!(cache.len(), capacity, "and all of the room is used");
    }
}

#[test]
fn m1_weights_add_up_and_what_is_too_heavy_is_told() {
    let cache: Cache<u32, String> =
        Cache::builder().weight_capacity(10).weigher(|_, value: &String| value.len() as u64).build().unwrap();
    cache.insert(1, "aaaa".into());
    cache.insert(2, "bbbb".into());
    assert_eq!(cache.weight(), 8);
    cache.insert(3, "cccccc".into());
    assert!(cache.weight() <= 10 && cache.contains(&3));
    cache.insert(3, "x".repeat(11));
    assert!(!cache.contains(&3), "the old value of the key is not left standing");
    assert_eq!(cache.stats().not_stored.too_heavy, 1);
    cache.insert_with(4, "dd".into(), Traits::new().weight(10));
    assert_eq!((cache.weight(), cache.len()), (10, 1), "its own weight counts");
}

/// The textbook list: front is the oldest.
#[derive(Default)]
struct List(std::collections::VecDeque<u32>);

impl List {
    fn uses(&mut self, key: u32, capacity: usize) -> bool {
        let known = self.0.iter().position(|other| *other == key);
        if let Some(at) = known {
            self.0.remove(at);
        } else if self.0.len() == capacity {
            self.0.pop_front();
        }
        self.0.push_back(key);
        known.is_some()
    }
}

#[test]
fn m2_lru_hits_exactly_when_a_list_does_reads_and_writes_counting() {
    for capacity in [1, 2, 10, 100] {
        let cache: Cache<u32, u64> = Cache::builder().capacity(capacity).eviction(Eviction::Lru).build().unwrap();
        let mut list = List::default();
        let mut dice = fastrand::Rng::with_seed(capacity as u64);
        for round in 0..20_000 {
            let key = (dice.f64() * dice.f64() * 3.0 * capacity as f64) as u32;
            let hit = cache.get(&key).is_some();
            if !hit {
                cache.insert(key, round);
            }
            assert_eq!(hit, list.uses(key, capacity), "in round {round} at capacity {capacity}");
        }
    }
}

#[test]
fn m2_the_default_policy_keeps_a_part_of_a_loop_and_finds_what_comes_again_soon() {
    let read_through = |cache: &Cache<u64, u64>, key: u64| match cache.get(&key) {
        Some(_) => 1,
        None => {
            cache.insert(key, key);
            0
        }
    };
    let cache: Cache<u64, u64> = Cache::builder().capacity(1000).build().unwrap();
    let hits: u32 = (0..40_000).map(|turn| read_through(&cache, turn % 2000)).sum();
    assert!(hits > 14_000, "half of the loop fits, a list of the last used ones would find none: {hits} of 40,000");

    // What has been there before is all in the main part; each of these comes twice, and never again.
    let again: u32 = (1_000_000..1_020_000)
        .map(|turn| {
            read_through(&cache, turn);
            if turn < 1_000_020 { 0 } else { read_through(&cache, turn - 20) }
        })
        .sum();
    assert!(again > 19_900, "it is found in the small part: {again} of 19,980");
}

/// Clocks that were started just now, and with the Unix epoch.
fn clocks() -> [ManualClock; 2] {
    [0, 1_760_000_000].map(|seconds| {
        let clock = ManualClock::new();
        clock.advance(Duration::from_secs(seconds));
        clock
    })
}

#[test]
fn m2_expired_entries_go_first() {
    for (eviction, clock) in
        [Eviction::S3Fifo, Eviction::Lru].into_iter().flat_map(|it| clocks().map(|clock| (it, clock)))
    {
        let cache: Cache<u32, u64> = Cache::builder()
            .capacity(4)
            .eviction(eviction)
            .lifetime(Lifetime::ttl(60 * MINUTE))
            .clock(clock.clone())
            .build()
            .unwrap();
        (0..3).for_each(|key| cache.insert(key, 1));
        cache.insert_with(3, 1, Lifetime::ttl(MINUTE));
        // The one that has expired was used last.
        (0..4).for_each(|key| assert!(cache.get(&key).is_some()));
        clock.advance(2 * MINUTE);
        cache.insert(4, 1);
        assert!((0..3).all(|key| cache.contains(&key)), "{eviction:?} pushed out one that lives");
    }
}

#[test]
fn m4_expired_entries_are_reclaimed_though_nobody_touches_them() {
    for clock in clocks() {
        let cache: Cache<u32, u64> =
            Cache::builder().capacity(100).lifetime(Lifetime::ttl(MINUTE)).clock(clock.clone()).build().unwrap();
        let gone = Count::default();
        let counted = gone.clone();
        cache
            .subscribe(move |event| {
                if let Event::Left { cause: Cause::Expired, .. } = event {
                    counted.add();
                }
            })
            .forever();
        (0..100).for_each(|key| cache.insert(key, 1));
        // A quarter of the lifetime later at the latest.
        for _ in 0..5 {
            clock.advance(MINUTE / 4);
        }
        gone.reach(100);
        assert_eq!((cache.len(), cache.stats().left.expired), (0, 100));
    }
}

#[test]
fn m4_what_a_loader_brought_and_what_is_remembered_of_failures_is_reclaimed_too() {
    let clock = ManualClock::new();
    let cache: Cache<u32, Arc<()>> = Cache::builder()
        .capacity(100)
        .lifetime(Lifetime::ttl(MINUTE))
        .negative_ttl(MINUTE)
        .clock(clock.clone())
        .build()
        .unwrap();
    let turn = || (0..5).for_each(|_| clock.advance(MINUTE / 4));
    let (value, error) = (Arc::new(()), Arc::new(()));
    for key in 0..3 {
        let value = Arc::clone(&value);
        cache.get_or_load(&key, move || value).unwrap();
    }
    turn();
    assert_eq!((cache.len(), Arc::strong_count(&value)), (0, 1), "loaded one by one");
    let many = Arc::clone(&value);
    drop(cache.get_many_or_load(0..3, move |keys| {
        Ok::<_, ()>(keys.into_iter().map(|key| (key, Arc::clone(&many))).collect::<Vec<_>>())
    }));
    assert_eq!(cache.len(), 3);
    turn();
    assert_eq!((cache.len(), Arc::strong_count(&value)), (0, 1), "loaded at once");
    let failure = Arc::clone(&error);
    assert!(cache.get_or_load(&7, move || Err::<Arc<()>, _>(failure)).is_err());
    assert_eq!(Arc::strong_count(&error), 2, "it is remembered");
    turn();
    assert_eq!(Arc::strong_count(&error), 1, "a remembered error");
}

#[test]
fn m4_what_was_expired_by_hand_is_reclaimed_at_its_new_end_and_not_before() {
    type Way = fn(&Cache<u32, u64>);
    let ways: [(&str, Way); 4] = [
        ("by key", |cache| (0..10).for_each(|key| cache.expire(&key))),
        ("by tag", |cache| cache.expire_tag("t")),
        ("by predicate", |cache| cache.expire_matching(|key, _| *key < 10)),
        ("all", |cache| cache.expire_all()),
    ];
    for lifetime in [Lifetime::forever(), Lifetime::ttl(10_000 * MINUTE)] {
        for (name, expire) in ways {
            let clock = ManualClock::new();
            let cache: Cache<u32, u64> = Cache::builder()
                .capacity(100)
                .lifetime(lifetime.stale_while_revalidate(5 * MINUTE))
                .clock(clock.clone())
                .build()
                .unwrap();
            (0..10).for_each(|key| cache.insert_with(key, 1, Traits::new().tag("t")));
            clock.advance(MINUTE);
            expire(&cache);
            (0..4).for_each(|_| clock.advance(MINUTE));
            assert_eq!(cache.stats().entries, 10, "{name}: it may still be served");
            (0..20).for_each(|_| clock.advance(MINUTE / 6));
            assert_eq!(cache.stats().entries, 0, "{name}, {lifetime:?}");
            // Nobody looks any more where there is nothing to look for.
            cache.insert_with(11, 1, Traits::new().lifetime(Lifetime::forever()));
            clock.advance(10_000 * MINUTE);
            (0..3).for_each(|_| clock.advance(MINUTE));
            assert_eq!(clock.next_wake(), None, "{name}, {lifetime:?}");
        }
    }
}

#[test]
fn m4_what_may_still_be_served_is_not_reclaimed_before_the_longer_window_ends() {
    for (stale, fallback) in [(10, 0), (0, 10), (10, 3), (3, 10)] {
        let clock = ManualClock::new();
        let lifetime = Lifetime::ttl(MINUTE).stale_while_revalidate(stale * MINUTE).stale_if_error(fallback * MINUTE);
        let cache: Cache<u32, u64> =
            Cache::builder().capacity(100).lifetime(lifetime).max_refreshes(0).clock(clock.clone()).build().unwrap();
        (0..100).for_each(|key| cache.insert(key, 1));
        for _ in 0..4 * 11 - 1 {
            clock.advance(MINUTE / 4);
        }
        assert_eq!((cache.len(), cache.stats().left.expired), (100, 0), "{stale} and {fallback} minutes");
        assert!((0..100).all(|key| cache.contains(&key)));
        // Nor does one go as if it were over when there is no room.
        cache.insert(100, 1);
        assert_eq!((cache.stats().left.evicted, cache.stats().left.expired), (1, 0), "{stale} and {fallback} minutes");
        for _ in 0..4 {
            clock.advance(MINUTE / 4);
        }
        assert_eq!((cache.len(), cache.stats().left.expired), (1, 99), "{stale} and {fallback} minutes");
    }
}

#[tokio::test(start_paused = true)]
async fn m4_under_a_runtimes_time_too() {
    let cache: Cache<u32, u64> = Cache::builder()
        .capacity(100)
        .lifetime(Lifetime::ttl(MINUTE))
        .clock(everfresh::TokioClock::new())
        .build()
        .unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    cache
        .subscribe(move |event| {
            if let Event::Left { cause: Cause::Expired, .. } = event {
                let _ = tell.send(());
            }
        })
        .forever();
    cache.insert(1, 1);
    // The paused runtime jumps from one moment that somebody waits for to the next.
    told.recv().await.unwrap();
    assert_eq!(cache.len(), 0);
}

#[test]
fn m4_what_an_invalidation_struck_is_reclaimed_and_does_not_count_before() {
    let cache: Cache<u32, u64> = Cache::builder().capacity(100).build().unwrap();
    let gone = Count::default();
    let counted = gone.clone();
    cache
        .subscribe(move |event| {
            if let Event::Left { cause: Cause::Invalidated, .. } = event {
                counted.add();
            }
        })
        .forever();
    (0..50).for_each(|key| cache.insert(key, 1));
    (50..100).for_each(|key| cache.insert_with(key, 1, Traits::new().tag("t")));
    cache.invalidate_tag("t");
    assert_eq!(cache.len(), 50);
    cache.clear();
    assert!(cache.is_empty());
    gone.reach(100);
}

/// Calls the cache from its drop.
struct Meddler {
    cache: Arc<OnceLock<Cache<u32, Arc<Meddler>>>>,
    dropped: Count,
}

impl Drop for Meddler {
    fn drop(&mut self) {
        if let Some(cache) = self.cache.get() {
            let _ = cache.get(&7);
            cache.invalidate(&8);
            let _ = cache.len();
        }
        self.dropped.add();
    }
}

#[test]
fn m5_a_values_drop_may_call_the_same_cache() {
    within_a_minute(|| {
        let (home, dropped) = (Arc::new(OnceLock::new()), Count::default());
        let cache: Cache<u32, Arc<Meddler>> = Cache::builder().capacity(3).prompt_drop(true).build().unwrap();
        home.set(cache.clone()).ok().unwrap();
        let value = || Arc::new(Meddler { cache: Arc::clone(&home), dropped: dropped.clone() });
        (0..20).for_each(|key| cache.insert(key, value()));
        cache.insert(19, value());
        cache.invalidate(&19);
        cache.clear();
        cache.reclaim();
        cache.insert(1, value());
        drop(cache.remove(&1));
        // Whatever left is gone, though no other thread came by.
        cache.reclaim();
        assert_eq!(dropped.get(), 22);
    });
}

/// Calls the cache from its drop, for so many keys that it meets whatever the cache has locked.
#[derive(Debug)]
struct Restless(Arc<OnceLock<Cache<u32, Arc<Restless>>>>);

impl Drop for Restless {
    fn drop(&mut self) {
        if let Some(cache) = self.0.get() {
            (0..64).for_each(|key| cache.invalidate(&key));
            let _ = cache.get(&1);
        }
    }
}

#[test]
fn m5_a_values_drop_may_call_the_same_cache_when_a_load_ends() {
    for prompt in [false, true] {
        within_a_minute(move || {
            let home = Arc::new(OnceLock::new());
            let cache: Cache<u32, Arc<Restless>> =
                Cache::builder().capacity(8).prompt_drop(prompt).negative_ttl(MINUTE).build().unwrap();
            home.set(cache.clone()).ok().unwrap();
            let value = || Arc::new(Restless(Arc::clone(&home)));
            for key in 0..400 {
                let value = value();
                let ended = match key % 4 {
                    0 | 1 => cache.get_or_load(&key, move || value).is_ok(),
                    2 => cache.get_or_load(&key, || None::<Arc<Restless>>).is_ok(),
                    _ => cache.get_or_load(&key, move || Err::<Arc<Restless>, _>(value)).is_ok(),
                };
                assert_eq!(ended, key % 4 < 2);
            }
            cache.clear();
        });
    }
}

/// So many that some look like keys that are there, until they are compared.
const FAILING: Range<u32> = 10_000..10_600;

/// Tells that loads shall fail, and hears that they have.
type Talk = (Sender<()>, Receiver<()>);

/// The first that is dropped waits until many loads have failed; the others meddle with their keys.
struct Sore {
    home: Arc<OnceLock<Cache<u32, Arc<Sore>>>>,
    first: Arc<Mutex<Option<Talk>>>,
}

impl Drop for Sore {
    fn drop(&mut self) {
        let first = self.first.lock().unwrap().take();
        match (first, self.home.get()) {
            (Some((fail, failed)), _) => {
                fail.send(()).unwrap();
                failed.recv().unwrap();
            }
            (None, Some(cache)) => FAILING.for_each(|key| cache.invalidate(&key)),
            (None, None) => {}
        }
    }
}

#[test]
fn m5_a_values_drop_may_call_the_same_cache_while_loads_fail() {
    for eviction in [Eviction::S3Fifo, Eviction::Lru] {
        within_a_minute(move || {
            let home = Arc::new(OnceLock::new());
            let cache: Cache<u32, Arc<Sore>> =
                Cache::builder().weight_capacity(1_000).eviction(eviction).prompt_drop(true).build().unwrap();
            home.set(cache.clone()).ok().unwrap();
            let first = Arc::default();
            let value = || Arc::new(Sore { home: Arc::clone(&home), first: Arc::clone(&first) });
            (0..1_000).for_each(|key| cache.insert(key, value()));
            let ((fail, to_fail), (failed, all_failed)) = (channel(), channel());
            let ((begin, begun), to_fail) = (channel(), Mutex::new(to_fail));
            let theirs = cache.clone();
            let loads = thread::spawn(move || {
                let ended = theirs.get_many_or_load(FAILING, move |_| {
                    begin.send(()).unwrap();
                    to_fail.lock().unwrap().recv().unwrap();
                    Err::<Vec<(u32, Arc<Sore>)>, _>("down")
                });
                assert!(ended.is_err());
                failed.send(()).unwrap();
            });
            begun.recv().unwrap();
            *first.lock().unwrap() = Some((fail, all_failed));
            // So many leave at once that some still wait while the first of them is dropped.
            cache.insert_with(1_000, value(), Traits::new().weight(100));
            loads.join().unwrap();
            cache.clear();
        });
    }
}

/// A key whose comparison panics while it is told to: once, or again and again.
#[derive(Clone)]
struct Touchy(u32, Arc<Mutex<Option<bool>>>);

impl PartialEq for Touchy {
    fn eq(&self, other: &Touchy) -> bool {
        let told = {
            let mut told = self.1.lock().unwrap();
            let now = *told;
            *told = now.filter(|again| *again);
            now
        };
        assert!(told.is_none(), "told to");
        self.0 == other.0
    }
}

impl Eq for Touchy {}

impl std::hash::Hash for Touchy {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// A value that invalidates its key when it is dropped.
#[derive(Clone)]
struct Last(Option<(Cache<Touchy, Last>, Touchy)>);

impl Drop for Last {
    fn drop(&mut self) {
        if let Some((cache, key)) = self.0.take() {
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cache.invalidate(&key)));
        }
    }
}

#[test]
fn m5_a_values_drop_may_call_the_same_cache_also_when_a_comparison_of_keys_panics_as_a_load_ends() {
    for again in [false, true] {
        within_a_minute(move || {
            let cache: Cache<Touchy, Last> = Cache::builder().capacity(10).build().unwrap();
            let told = Arc::new(Mutex::new(None));
            let key = Touchy(1, Arc::clone(&told));
            cache.insert(key.clone(), Last(None));
            let (inner, inner_key, tell) = (cache.clone(), key.clone(), Arc::clone(&told));
            let load = || {
                cache.lookup(&key).bypass().load(move || {
                    *tell.lock().unwrap() = Some(again);
                    Last(Some((inner, inner_key)))
                })
            };
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(load)).is_err());
            *told.lock().unwrap() = None;
            assert!(cache.get_or_load(&key, || Last(None)).is_ok());
        });
    }
}

#[test]
fn m5_loader_listener_weigher_and_predicates_may_call_the_same_cache() {
    within_a_minute(|| {
        let home: Arc<OnceLock<Cache<u32, u64>>> = Arc::default();
        let meddle = {
            let home = Arc::clone(&home);
            let inside = Arc::new(AtomicBool::new(false));
            move || {
                // Once deep is enough.
                if let Some(cache) = home.get()
                    && !inside.swap(true, Ordering::SeqCst)
                {
                    let _ = cache.get(&1_000);
                    cache.insert(1_001, 1);
                    cache.invalidate(&1_001);
                    inside.store(false, Ordering::SeqCst);
                }
            }
        };
        let (weigh, check) = (meddle.clone(), meddle.clone());
        let cache: Cache<u32, u64> = Cache::builder()
            .weight_capacity(10)
            .weigher(move |_, _| {
                weigh();
                1
            })
            .store_if(move |_| {
                check();
                true
            })
            .build()
            .unwrap();
        home.set(cache.clone()).ok().unwrap();
        let listen = meddle.clone();
        cache.subscribe(move |_| listen()).forever();
        for key in 0..50 {
            let load = meddle.clone();
            let loader = move || {
                load();
                1_u64
            };
            assert_eq!(cache.get_or_load(&key, loader).unwrap(), 1);
        }
        let judge = meddle.clone();
        cache.invalidate_matching(|_, _| {
            judge();
            true
        });
        let judge = meddle.clone();
        cache.insert(1, 1);
        cache.expire_matching(|_, _| {
            judge();
            true
        });
    });
}

/// Calls the cache while it is being copied.
struct Copied(Arc<OnceLock<Cache<u32, Copied>>>);

impl Clone for Copied {
    fn clone(&self) -> Copied {
        if let Some(cache) = self.0.get() {
            cache.invalidate(&2);
            cache.insert(3, Copied(Arc::default()));
            assert!(cache.contains(&3));
        }
        Copied(Arc::clone(&self.0))
    }
}

#[test]
fn m5_a_values_clone_may_call_the_same_cache() {
    within_a_minute(|| {
        let home = Arc::new(OnceLock::new());
        let cache: Cache<u32, Copied> = Cache::builder().capacity(10).build().unwrap();
        home.set(cache.clone()).ok().unwrap();
        cache.insert(1, Copied(Arc::clone(&home)));
        for _ in 0..100 {
            assert!(cache.get(&1).is_some());
            let value = Copied(Arc::clone(&home));
            assert!(cache.get_or_load(&2, move || value).is_ok());
        }
    });
}

#[test]
fn m5_a_refresh_may_call_the_same_cache() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let cache: Cache<u32, u64> = Cache::builder()
        .capacity(10)
        .lifetime(Lifetime::ttl(MINUTE).stale_while_revalidate(MINUTE))
        .clock(clock.clone())
        .spawner(hand.clone())
        .build()
        .unwrap();
    cache.insert(1, 1);
    clock.advance(MINUTE);
    let own = cache.clone();
    let load = move || {
        own.insert(2, 2);
        own.get(&2).unwrap() + own.get(&1).unwrap()
    };
    assert_eq!(cache.get_or_load(&1, load).unwrap(), 1);
    hand.run();
    assert_eq!(cache.get(&1), Some(3));
}

#[test]
fn i2_m4_what_is_remembered_of_failures_ends_with_everything_and_its_room_is_given_back() {
    type Strike = fn(&Cache<u32, u64>);
    let strikes: [(&str, Strike); 4] = [
        ("clear", |cache| cache.clear()),
        ("expire_all", |cache| cache.expire_all()),
        ("invalidate_matching", |cache| cache.invalidate_matching(|_, _| true)),
        ("expire_matching", |cache| cache.expire_matching(|_, _| true)),
    ];
    for (name, strike) in strikes {
        let clock = ManualClock::new();
        let cache: Cache<u32, u64> =
            Cache::builder().capacity(100).negative_ttl(60 * MINUTE).clock(clock.clone()).build().unwrap();
        let error = Arc::new(());
        for key in 1..=2 {
            let failure = Arc::clone(&error);
            assert!(cache.get_or_load(&key, move || Err::<u64, _>(failure)).is_err());
        }
        assert!(cache.get_or_load(&1, || 1_u64).is_err() && Arc::strong_count(&error) == 3, "it is remembered");
        strike(&cache);
        assert_eq!(cache.get_or_load(&1, || 1_u64).ok(), Some(1), "{name}");
        clock.advance(std::time::Duration::from_nanos(1));
        assert_eq!(Arc::strong_count(&error), 1, "{name}: an error that is not answered any more takes room");
    }
}

#[test]
fn m4_what_ends_is_looked_for_as_often_as_the_shorter_bound_of_the_cache_asks() {
    let second = MINUTE / 60;
    let long = 1_000 * MINUTE;
    // The lifetime of the cache, that of the entry, when the entry ends, and by when its room is given back.
    let cases = [
        (Lifetime::ttl(8 * second), None, 8 * second, 10 * second),
        (Lifetime::ttl(long).time_to_idle(8 * second), None, 8 * second, 10 * second),
        (Lifetime::ttl(8 * second).time_to_idle(long), None, 8 * second, 10 * second),
        (Lifetime::forever().time_to_idle(4 * second), None, 4 * second, 5 * second),
        (Lifetime::ttl(2 * second), None, 2 * second, 3 * second),
        (Lifetime::ttl(2 * long), Some(Lifetime::ttl(second)), second, MINUTE),
        (Lifetime::forever(), Some(Lifetime::ttl(11 * second)), 11 * second, 20 * second),
    ];
    for (lifetime, own, end, latest) in cases {
        let clock = ManualClock::new();
        let cache: Cache<u32, u64> =
            Cache::builder().capacity(100).lifetime(lifetime).clock(clock.clone()).build().unwrap();
        cache.insert_with(1, 1, own.map_or_else(Traits::new, Traits::from));
        let mut lived = 0;
        while cache.stats().entries > 0 {
            clock.advance(second / 4);
            lived += 1;
            assert!(lived * second / 4 <= latest, "{lifetime:?}, {own:?}");
        }
        assert!(lived * second / 4 >= end, "{lifetime:?}, {own:?}");
    }
}
