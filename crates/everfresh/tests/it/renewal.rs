//! Odd ends of refreshes: overtaken, panicking, not modified, rejected.

use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use everfresh::{
    Cache, Ending, Eviction, Lifetime, Load, Loaded, ManualClock, NotStored, Outcome, RefreshPool, RefreshStatus,
    Traits,
};

use crate::kit::{Count, Hand, MINUTE, SECOND, poll_once};
use crate::support::{Bench, Fragile, Log, Told, bench, ends};

/// Refreshes a key with a value of 3, of which something panics, and leaves it backing off.
fn panics_of_three(Bench { clock, hand, cache }: &Bench) {
    cache.insert(1, 1);
    clock.advance(10 * SECOND);
    assert_eq!(cache.lookup(&1).load(|| 3_u64).unwrap().refresh, RefreshStatus::Started);
    hand.run();
    let answer = cache.lookup(&1).load(|| 2_u64).unwrap();
    assert_eq!((answer.value, answer.refresh), (1, RefreshStatus::BackingOff));
    assert_eq!((cache.stats().refreshes.panicked, ends(cache.stats().refreshes)), (1, 1));
}

#[test]
fn r3_a_panic_of_store_if_in_a_refresh_is_a_failure_like_any_other() {
    let bench = bench(|it| {
        it.store_if(|value| {
            assert!(*value != 3, "told to");
            true
        })
    });
    panics_of_three(&bench);
    let Bench { clock, hand, cache } = bench;
    clock.advance(SECOND);
    assert_eq!(cache.lookup(&1).load(|| 2_u64).unwrap().refresh, RefreshStatus::Started);
    hand.run();
    assert_eq!(cache.get(&1), Some(2));
}

#[test]
fn r3_a_panic_of_the_weigher_in_a_refresh_is_a_failure_like_any_other() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let cache: Cache<u32, u64> = Cache::builder()
        .weight_capacity(10)
        .weigher(|_, value| if *value == 3 { panic!("told to") } else { 1 })
        .lifetime(Lifetime::ttl(10 * SECOND).stale_while_revalidate(100 * SECOND))
        .clock(clock.clone())
        .spawner(hand.clone())
        .build()
        .unwrap();
    let bench = Bench { clock, hand, cache };
    panics_of_three(&bench);
    let Bench { cache, .. } = bench;
    // In the foreground the panic is the caller's, and the load has an end, too.
    assert!(catch_unwind(AssertUnwindSafe(|| cache.get_or_load(&2, || 3_u64))).is_err());
    assert_eq!((cache.stats().loads.panicked, cache.get_or_load(&2, || 4_u64).unwrap()), (1, 4));
}

#[test]
fn r4_what_befalls_other_keys_or_the_new_value_alone_leaves_the_entry_free_to_be_refreshed() {
    type Befall = fn(&Cache<u32, u64>);
    let cases: [(&str, Befall, Loaded<u64>, RefreshStatus); 3] = [
        (
            "a predicate that strikes other keys",
            |cache| cache.invalidate_matching(|key, _| *key == 2),
            Loaded::new(5),
            RefreshStatus::Started,
        ),
        (
            "a tag of the new value alone",
            |cache| cache.invalidate_tag("new"),
            Loaded::new(5).tag("new"),
            RefreshStatus::Started,
        ),
        ("nothing, but it is too heavy", |_| {}, Loaded::new(5).weight(1_000), RefreshStatus::Started),
    ];
    for (name, befall, loaded, expected) in cases {
        let (clock, hand) = (ManualClock::new(), Hand::default());
        let cache: Cache<u32, u64> = Cache::builder()
            .weight_capacity(100)
            .lifetime(Lifetime::ttl(10 * SECOND).stale_while_revalidate(100 * SECOND))
            .refresh_timeout(None)
            .clock(clock.clone())
            .spawner(hand.clone())
            .build()
            .unwrap();
        cache.insert(1, 1);
        cache.insert(2, 2);
        clock.advance(10 * SECOND);
        assert_eq!(cache.lookup(&1).load(move || loaded).unwrap().refresh, RefreshStatus::Started);
        befall(&cache);
        hand.run();
        assert_eq!(ends(cache.stats().refreshes), 1, "{name}");
        if cache.contains(&1) {
            let answer = cache.lookup(&1).load(|| 7_u64).unwrap();
            assert_eq!((answer.value, answer.refresh), (1, expected), "{name}");
            hand.run();
            assert_eq!(cache.get(&1), Some(7), "{name}");
        } else {
            assert!(name.contains("heavy"), "{name}");
        }
    }
}

#[test]
fn r4_every_refresh_that_was_started_has_one_end_however_it_was_overtaken() {
    type Befall = fn(&Cache<u32, u64>);
    let befalls: [(&str, Befall); 8] = [
        ("insert", |cache| cache.insert(1, 9)),
        ("remove", |cache| assert!(cache.remove(&1).is_some())),
        ("invalidate", |cache| cache.invalidate(&1)),
        ("clear", |cache| cache.clear()),
        ("tag", |cache| cache.invalidate_tag("tag")),
        ("predicate", |cache| cache.invalidate_matching(|_, _| true)),
        ("expire", |cache| cache.expire(&1)),
        ("eviction", |cache| (10..30).for_each(|key| cache.insert(key, 0))),
    ];
    for (name, befall) in befalls {
        for how in ["well", "badly", "panicking", "too late", "dropped"] {
            let Bench { clock, hand, cache } = bench(|it| it.eviction(Eviction::Lru).refresh_timeout(5 * SECOND));
            cache.insert_with(1, 1, Traits::new().tag("tag"));
            clock.advance(10 * SECOND);
            let gate = Arc::new(tokio::sync::Notify::new());
            let opened = Arc::clone(&gate);
            let mut read = Box::pin(cache.lookup(&1).load_async(move || async move {
                opened.notified().await;
                match how {
                    "well" => Ok(2_u64),
                    "badly" => Err("bad"),
                    _ => panic!("told to"),
                }
            }));
            assert!(poll_once(read.as_mut()).is_ready());
            drop(read);
            hand.run();
            befall(&cache);
            match how {
                "too late" => clock.advance(5 * SECOND),
                "dropped" => hand.drop_all(),
                _ => gate.notify_one(),
            }
            hand.run();
            let stats = cache.stats();
            assert_eq!(
                (stats.refreshes_started, ends(stats.refreshes)),
                (1, 1),
                "{name}, {how}: {:?}",
                stats.refreshes
            );
            assert_eq!(cache.close(Duration::ZERO), 0, "{name}, {how}");
        }
    }
}

#[test]
fn r9_not_modified_about_a_value_that_went_meanwhile_still_reaches_who_waited() {
    type Befall = fn(&Cache<u32, u64>);
    let befalls: [(&str, Befall); 3] = [
        ("remove", |cache| assert!(cache.remove(&1).is_some())),
        ("clear", |cache| cache.clear()),
        ("eviction", |cache| (10..30).for_each(|key| cache.insert(key, 0))),
    ];
    for (name, befall) in befalls {
        let Bench { clock, cache, .. } = bench(|it| {
            it.eviction(Eviction::Lru).negative_ttl(MINUTE).lifetime(Lifetime::ttl(10 * SECOND).stale_if_error(MINUTE))
        });
        cache.insert(1, 1);
        clock.advance(20 * SECOND);
        let gate = Arc::new(tokio::sync::Notify::new());
        let opened = Arc::clone(&gate);
        let mut caller = Box::pin(cache.lookup(&1).load_async_with(move |previous| async move {
            assert!(previous.is_some());
            opened.notified().await;
            Load::<u64>::NotModified
        }));
        let mut waiter = Box::pin(cache.get_or_load_async(&1, || async { 3_u64 }));
        assert!(poll_once(caller.as_mut()).is_pending() && poll_once(waiter.as_mut()).is_pending());
        befall(&cache);
        gate.notify_one();
        let Poll::Ready(got) = poll_once(caller.as_mut()) else { panic!("it waits on") };
        assert_eq!(got.map(|answer| answer.value).ok(), Some(1), "{name}: its loader said that the value still holds");
        assert!(matches!(poll_once(waiter.as_mut()), Poll::Ready(Ok(1))), "{name}: and so it does for who waited");
        let why = cache.stats().not_stored;
        assert_eq!((why.overtaken, why.entry_gone), if name == "eviction" { (0, 1) } else { (1, 0) }, "{name}");
        assert_eq!(cache.peek(&1), None, "{name}: but it is not stored again");
        assert_eq!(cache.lookup(&1).load(|| 2_u64).unwrap().value, 2, "{name}: nor is its absence remembered");
    }
}

#[test]
fn r9_not_modified_is_about_the_value_that_was_shown_and_not_about_a_newer_one() {
    let Bench { clock, cache, .. } = bench(|it| it.lifetime(Lifetime::ttl(10 * SECOND).stale_if_error(MINUTE)));
    cache.insert(1, 1);
    clock.advance(20 * SECOND);
    let gate = Arc::new(tokio::sync::Notify::new());
    let opened = Arc::clone(&gate);
    let mut caller = Box::pin(cache.lookup(&1).load_async_with(move |previous| async move {
        assert_eq!(previous.map(|previous| previous.value), Some(1));
        opened.notified().await;
        Load::<u64>::NotModified
    }));
    assert!(poll_once(caller.as_mut()).is_pending());
    cache.insert(1, 2);
    gate.notify_one();
    let Poll::Ready(got) = poll_once(caller.as_mut()) else { panic!("it waits on") };
    assert_eq!(got.map(|answer| answer.value).ok(), Some(1), "nobody asked whether the newer one still holds");
    assert_eq!(cache.peek(&1), Some(2));
}

#[test]
fn r1_a_stale_hit_runs_no_code_of_the_user_but_clone() {
    static CLONES: Count2 = Count2::new();
    struct Value(u64);
    impl Clone for Value {
        fn clone(&self) -> Value {
            CLONES.add();
            Value(self.0)
        }
    }
    let other = Arc::new(AtomicBool::new(false));
    let (by_weigher, by_store_if) = (Arc::clone(&other), Arc::clone(&other));
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let cache: Cache<u32, Value> = Cache::builder()
        .weight_capacity(10)
        .weigher(move |_, _| {
            by_weigher.store(true, Ordering::SeqCst);
            1
        })
        .store_if(move |_| {
            by_store_if.store(true, Ordering::SeqCst);
            true
        })
        .lifetime(Lifetime::ttl(SECOND).stale_while_revalidate(MINUTE))
        .clock(clock.clone())
        .spawner(hand.clone())
        .build()
        .unwrap();
    cache.insert(1, Value(1));
    clock.advance(SECOND);
    other.store(false, Ordering::SeqCst);
    CLONES.reset();
    let loaded = Arc::clone(&other);
    let answer = cache.lookup(&1).load(move || {
        loaded.store(true, Ordering::SeqCst);
        Value(2)
    });
    let answer = answer.unwrap();
    assert_eq!((answer.value.0, answer.refresh), (1, RefreshStatus::Started));
    assert!(!other.load(Ordering::SeqCst), "not the loader, the weigher, nor store_if");
    assert_eq!(CLONES.get(), 1);
    hand.run();
    assert!(other.load(Ordering::SeqCst));
}

/// A count that can be a static.
struct Count2(std::sync::atomic::AtomicUsize);

impl Count2 {
    const fn new() -> Count2 {
        Count2(std::sync::atomic::AtomicUsize::new(0))
    }
    fn add(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
    fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
    fn reset(&self) {
        self.0.store(0, Ordering::SeqCst);
    }
}

#[test]
fn r8_after_close_lookups_go_on_and_nothing_is_started_behind() {
    let Bench { clock, hand, cache } = bench(|it| it);
    let log = Log::of(&cache);
    cache.insert(1, 1);
    clock.advance(10 * SECOND);
    assert_eq!(cache.close(MINUTE), 0);
    let answer = cache.lookup(&1).load(|| 2_u64).unwrap();
    assert_eq!((answer.value, answer.outcome, answer.refresh), (1, Outcome::Stale, RefreshStatus::Unavailable));
    assert_eq!(cache.refresh_with(&2, || 2_u64).status(), RefreshStatus::Unavailable);
    assert_eq!(cache.get_many_or_load([1], |_| Ok::<[(u32, u64); 0], &str>([])).unwrap().len(), 1);
    assert_eq!(hand.asked(), 0);
    assert_eq!(cache.get_or_load(&3, || 3_u64).unwrap(), 3, "a load in the foreground goes on");
    assert_eq!((log.count(&Told::Load(Ending::Stored)), log.count(&Told::RefreshStarted)), (1, 0));
    assert_eq!(log.count(&Told::Unavailable), 0, "closing is no lack of workers");
    assert!(log.all().len() >= 4);
}

/// A key that does something when it is copied next.
#[derive(PartialEq, Eq, Hash)]
struct Copied(u32);

thread_local! {
    static WHEN_COPIED: Cell<Option<Box<dyn FnOnce()>>> = const { Cell::new(None) };
}

impl Clone for Copied {
    fn clone(&self) -> Copied {
        if let Some(act) = WHEN_COPIED.take() {
            act();
        }
        Copied(self.0)
    }
}

#[test]
fn r8_what_was_about_to_begin_when_the_cache_was_closed_does_not_begin() {
    type Door = fn(&Cache<Copied, u64>) -> RefreshStatus;
    let doors: [Door; 3] = [
        |cache| cache.refresh_with(&Copied(1), || 2_u64).status(),
        |cache| cache.refresh_with(&Copied(9), || 2_u64).status(),
        |cache| {
            let stale = cache.get_many_or_load([Copied(1)], |_| Ok::<_, &str>([(Copied(1), 2)])).unwrap();
            assert_eq!(stale[&Copied(1)], 1);
            RefreshStatus::Unavailable
        },
    ];
    for door in doors {
        let (clock, hand) = (ManualClock::new(), Hand::default());
        let lifetime = Lifetime::ttl(SECOND).stale_while_revalidate(MINUTE);
        let cache: Cache<Copied, u64> = Cache::builder()
            .capacity(10)
            .lifetime(lifetime)
            .clock(clock.clone())
            .spawner(hand.clone())
            .build()
            .unwrap();
        cache.insert(Copied(1), 1);
        clock.advance(SECOND);
        let (closed, left) = (cache.clone(), Count::default());
        let counted = left.clone();
        WHEN_COPIED.set(Some(Box::new(move || {
            assert_eq!(closed.close(MINUTE), 0, "nothing has begun");
            counted.add();
        })));
        assert_eq!(door(&cache), RefreshStatus::Unavailable);
        assert_eq!((left.get(), hand.asked()), (1, 0));
        assert_eq!((cache.stats().refreshes_started, cache.stats().refreshes_skipped.unavailable), (0, 1));
        assert_eq!(cache.peek(&Copied(1)), Some(1));
    }
}

#[test]
fn r4_a_panic_after_a_refresh_that_was_overtaken_sets_no_pause() {
    let Bench { clock, hand, cache } = bench(|it| {
        it.backoff(60 * MINUTE, 60 * MINUTE).store_if(|value| {
            assert!(*value != 3, "told to");
            true
        })
    });
    cache.insert(1, 1);
    clock.advance(10 * SECOND);
    assert_eq!(cache.lookup(&1).load(|| 3_u64).unwrap().refresh, RefreshStatus::Started);
    cache.insert(1, 50);
    hand.run();
    clock.advance(10 * SECOND);
    let answer = cache.lookup(&1).load(|| 2_u64).unwrap();
    assert_eq!((answer.value, answer.refresh), (50, RefreshStatus::Started), "it was not what was to be renewed");
}

#[test]
fn r3_a_refresh_whose_value_store_if_rejects_leaves_the_key_alone_for_a_while() {
    let Bench { clock, hand, cache } = bench(|it| it.store_if(|value| *value != 13));
    cache.insert(1, 1);
    clock.advance(10 * SECOND);
    assert_eq!(cache.lookup(&1).load(|| 13_u64).unwrap().refresh, RefreshStatus::Started);
    hand.run();
    let answer = cache.lookup(&1).load(|| 2_u64).unwrap();
    assert_eq!((answer.value, answer.refresh), (1, RefreshStatus::BackingOff));
}

#[test]
fn r4_a_tag_of_the_entry_that_is_struck_discards_its_refresh_though_the_new_value_does_not_bear_it() {
    let Bench { clock, hand, cache } = bench(|it| it);
    cache.insert_with(1, 1, Traits::new().tag("tag"));
    clock.advance(10 * SECOND);
    assert_eq!(cache.lookup(&1).load(|| 2_u64).unwrap().refresh, RefreshStatus::Started);
    cache.invalidate_tag("tag");
    hand.run();
    assert_eq!((cache.peek(&1), cache.stats().refreshes.discarded), (None, 1));
}

#[test]
fn r3_a_drop_that_panics_after_a_refresh_has_ended_is_no_second_end() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let cache: Cache<u32, Arc<Fragile>> = Cache::builder()
        .capacity(10)
        .store_if(|value: &Arc<Fragile>| !value.0)
        .lifetime(Lifetime::ttl(10 * SECOND).stale_while_revalidate(MINUTE))
        .clock(clock.clone())
        .spawner(hand.clone())
        .build()
        .unwrap();
    cache.insert(1, Arc::new(Fragile(false)));
    clock.advance(10 * SECOND);
    // It is rejected, and nobody else holds it.
    assert!(cache.get_or_load(&1, || Arc::new(Fragile(true))).is_ok());
    hand.run();
    let refreshes = cache.stats().refreshes;
    assert_eq!((refreshes.discarded, ends(refreshes)), (1, 1));
}

#[test]
fn r2_a_bound_that_was_lowered_holds_also_while_what_ran_before_hangs() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let pool = RefreshPool::with_spawner(4, hand);
    let cache: Cache<u32, u64> = Cache::builder()
        .capacity(100)
        .loader(|key: &u32| u64::from(*key))
        .refresh_pool(pool.clone())
        .clock(clock.clone())
        .build()
        .unwrap();
    let begin = |key: u32| cache.refresh(&key).status();
    (0..4).for_each(|key| assert_eq!(begin(key), RefreshStatus::Started));
    pool.set_max_refreshes(1);
    clock.advance(MINUTE);
    assert_eq!(begin(10), RefreshStatus::Started, "those four hang");
    assert_eq!(begin(11), RefreshStatus::Saturated, "and one runs");
}

#[test]
fn r3_a_pause_is_never_longer_than_a_quarter_of_the_window_that_begins_when_its_key_is_expired() {
    type Expire = fn(&Cache<u32, u64>);
    let ways: [(&str, Expire); 4] = [
        ("key", |cache| cache.expire(&1)),
        ("tag", |cache| cache.expire_tag("tag")),
        ("predicate", |cache| cache.expire_matching(|_, _| true)),
        ("all", |cache| cache.expire_all()),
    ];
    let windows = [
        (Lifetime::ttl(MINUTE).stale_while_revalidate(8 * SECOND), RefreshStatus::Started),
        (Lifetime::ttl(MINUTE).stale_if_error(8 * SECOND), RefreshStatus::NotNeeded),
    ];
    for (name, expire) in ways {
        for (lifetime, tries) in windows {
            let Bench { clock, hand, cache } =
                bench(|it| it.lifetime(lifetime).refresh_ahead(0.1).backoff(60 * MINUTE, 60 * MINUTE));
            let read = || cache.lookup(&1).load(|| Err::<u64, _>("down")).unwrap().refresh;
            cache.insert_with(1, 1, Traits::new().tag("tag"));
            clock.advance(10 * SECOND);
            assert_eq!(read(), RefreshStatus::Started);
            hand.run();
            expire(&cache);
            clock.advance(2 * SECOND - Duration::from_millis(1));
            assert_eq!(read(), RefreshStatus::BackingOff, "{name}, {lifetime:?}");
            clock.advance(Duration::from_millis(1));
            assert_eq!(read(), tries, "{name}, {lifetime:?}: of the window of eight seconds two are over");
        }
    }
}

/// A loader that makes 2, and counts how often.
fn two_counted(loads: &Count) -> impl Fn() -> u64 + Clone + Send + Sync + 'static {
    let loads = loads.clone();
    move || {
        loads.add();
        2
    }
}

#[test]
fn r4_what_is_overtaken_before_it_began_and_nobody_waits_for_is_not_begun() {
    type Overtake = fn(&Cache<u32, u64>);
    let overtakes: [Overtake; 4] = [
        |cache| cache.insert(1, 5),
        |cache| cache.invalidate(&1),
        |cache| cache.clear(),
        |cache| cache.invalidate_matching(|_, _| true),
    ];
    for (round, overtake) in overtakes.into_iter().enumerate() {
        for way in ["thread", "task", "many"] {
            let Bench { clock, hand, cache } = bench(|it| it);
            let loads = Count::default();
            let load = two_counted(&loads);
            cache.insert(1, 1);
            clock.advance(10 * SECOND);
            let begin = || match way {
                "thread" => cache.get_or_load(&1, load.clone()).unwrap(),
                "task" => {
                    let load = load.clone();
                    let mut read = Box::pin(cache.get_or_load_async(&1, || async move { load() }));
                    let Poll::Ready(Ok(value)) = poll_once(read.as_mut()) else { panic!("a stale hit waits") };
                    value
                }
                _ => {
                    let load = load.clone();
                    cache.get_many_or_load([1], move |_| Ok::<_, &str>([(1, load())])).unwrap()[&1]
                }
            };
            assert_eq!((begin(), hand.waiting()), (1, 1));
            overtake(&cache);
            hand.run();
            let (refreshes, now) = (cache.stats().refreshes, cache.peek(&1));
            assert_eq!((loads.get(), refreshes.discarded), (0, 1), "{way}, round {round}");
            assert_eq!((now, hand.waiting()), ((round == 0).then_some(5), 0), "{way}, round {round}");
        }
    }
}

#[test]
fn i1_what_is_overtaken_before_it_began_and_somebody_waits_for_is_made() {
    for waits in ["a handle", "a miss"] {
        let Bench { clock, hand, cache } = bench(|it| it);
        cache.insert(1, 1);
        clock.advance(10 * SECOND);
        let refreshing = cache.refresh_with(&1, || 2_u64);
        if waits == "a handle" {
            cache.insert(1, 5);
            hand.run();
            assert!(matches!(refreshing.wait(), Some(Ending::Discarded(NotStored::Overtaken))));
            continue;
        }
        drop(refreshing);
        let mut miss = Box::pin(cache.lookup(&1).bypass().load_async(|| async { 3_u64 }));
        assert!(poll_once(miss.as_mut()).is_pending());
        cache.insert(1, 5);
        hand.run();
        assert!(matches!(poll_once(miss.as_mut()), Poll::Ready(Ok(answer)) if answer.value == 2));
        assert_eq!(cache.peek(&1), Some(5));
    }
}

#[test]
fn l4_a_load_whose_deadline_has_passed_before_it_began_is_not_begun() {
    for many in [false, true] {
        let Bench { clock, hand, cache } = bench(|it| it.load_timeout(SECOND));
        let loads = Count::default();
        let load = two_counted(&loads);
        let mut waits: std::pin::Pin<Box<dyn Future<Output = bool>>> = match many {
            true => Box::pin(async {
                let load = move |_| {
                    let load = load.clone();
                    async move { Ok::<_, &str>([(1, load())]) }
                };
                cache.get_many_or_load_async([1], load).await.is_err_and(|error| error.is_timeout())
            }),
            false => Box::pin(async {
                let load = || async move { load() };
                cache.get_or_load_async(&1, load).await.is_err_and(|error| error.is_timeout())
            }),
        };
        assert!(poll_once(waits.as_mut()).is_pending());
        clock.advance(SECOND);
        assert_eq!(poll_once(waits.as_mut()), Poll::Ready(true));
        hand.run();
        let ended = cache.stats().loads;
        assert_eq!((loads.get(), ended.timed_out, ended.discarded), (0, 1, 0), "many: {many}");
    }
}
