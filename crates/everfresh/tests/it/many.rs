//! Many keys in one lookup: one call of the loader for all that is missing, one behind for all that is stale.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use everfresh::{Builder, Cache, Ending, Lifetime, LoadError, ManualClock, Outcome, RefreshStatus};

use crate::kit::{Count, Gate, Hand, MINUTE, SECOND, poll_once, within_a_minute};
use crate::support::{Dropping, Log, Told, ends};

/// What the loader was asked for, call by call.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<Vec<u32>>>>);

impl Asked {
    fn note(&self, keys: &[u32]) {
        let mut keys = keys.to_vec();
        keys.sort_unstable();
        self.0.lock().unwrap().push(keys);
    }

    fn take(&self) -> Vec<Vec<u32>> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn cache(clock: &ManualClock, hand: &Hand) -> Cache<u32, u64> {
    Cache::builder()
        .capacity(100)
        .lifetime(Lifetime::ttl(10 * SECOND).stale_while_revalidate(10 * SECOND).stale_if_error(MINUTE))
        .clock(clock.clone())
        .spawner(hand.clone())
        .build()
        .unwrap()
}

type Values = Vec<(u32, u64)>;

/// A loader that answers ten times the key and notes what it was asked for.
fn tenfold(asked: &Asked) -> impl Fn(Vec<u32>) -> Result<Values, &'static str> + Send + Sync + 'static + use<> {
    let asked = asked.clone();
    move |keys| {
        asked.note(&keys);
        Ok(keys.into_iter().map(|key| (key, u64::from(key) * 10)).collect())
    }
}

fn sorted(found: HashMap<u32, u64>) -> Values {
    let mut found: Values = found.into_iter().collect();
    found.sort_unstable();
    found
}

#[test]
fn l1_all_that_is_missing_is_asked_for_in_one_call() {
    let (clock, hand, asked) = (ManualClock::new(), Hand::default(), Asked::default());
    let cache = cache(&clock, &hand);
    cache.insert(2, 99);
    let found = cache.get_many_or_load([1, 2, 3, 1, 2], tenfold(&asked)).unwrap();
    assert_eq!(sorted(found), [(1, 10), (2, 99), (3, 30)]);
    assert_eq!(asked.take(), [vec![1, 3]]);
    let again = cache.get_many_or_load([1, 2, 3], tenfold(&asked)).unwrap();
    assert_eq!((again.len(), asked.take().len()), (3, 0));
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.loaded, stats.lookups(), ends(stats.loads)), (4, 2, 6, 2));
    assert!(cache.get_many_or_load([], tenfold(&asked)).unwrap().is_empty());
    assert!(asked.take().is_empty(), "nothing is no reason to call");
}

#[test]
fn what_the_loader_does_not_return_is_absent_and_what_it_returns_beyond_is_left_aside() {
    let cache: Cache<u32, u64> = Cache::builder().capacity(100).build().unwrap();
    let found = cache.get_many_or_load([1, 2], |_| Ok::<_, &str>([(1, 10), (7, 70)])).unwrap();
    assert_eq!(sorted(found), [(1, 10)]);
    assert_eq!((cache.peek(&2), cache.peek(&7), cache.len()), (None, None, 1));
    assert_eq!((cache.stats().loaded, cache.stats().failed, cache.stats().loads.absent), (1, 1, 1));
}

#[test]
fn r1_all_that_is_stale_comes_at_once_and_is_refreshed_in_one_call_behind() {
    let (clock, hand, asked) = (ManualClock::new(), Hand::default(), Asked::default());
    let cache = cache(&clock, &hand);
    let log = Log::of(&cache);
    (1..=3).for_each(|key| cache.insert(key, 1));
    clock.advance(10 * SECOND);
    cache.insert(3, 1);
    let found = cache.get_many_or_load([1, 2, 3, 4], tenfold(&asked)).unwrap();
    assert_eq!(sorted(found), [(1, 1), (2, 1), (3, 1), (4, 40)]);
    assert_eq!(asked.take(), [vec![4]]);
    assert_eq!((hand.asked(), log.count(&Told::RefreshStarted)), (1, 2));
    let again = cache.get_many_or_load([1, 2], tenfold(&asked)).unwrap();
    assert_eq!((again.len(), hand.asked()), (2, 1), "they are being refreshed already");
    hand.run();
    assert_eq!(asked.take(), [vec![1, 2]]);
    assert_eq!((cache.get(&1), cache.get(&2)), (Some(10), Some(20)));
    let stats = cache.stats();
    assert_eq!((stats.refreshes_started, stats.refreshes.stored, stats.refreshes_skipped.already_running), (2, 2, 2));
}

#[test]
fn r3_a_failing_call_behind_keeps_the_old_values_and_backs_off_for_each() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let cache = cache(&clock, &hand);
    (1..=2).for_each(|key| cache.insert(key, 1));
    clock.advance(10 * SECOND);
    for panics in [false, true] {
        let found = cache.get_many_or_load([1, 2], move |_| {
            assert!(!panics, "told to");
            Err::<Values, _>("bad")
        });
        assert_eq!(found.unwrap().len(), 2);
        hand.run();
        for key in [1, 2] {
            let answer = cache.lookup(&key).load(|| 0_u64).unwrap();
            assert_eq!((answer.value, answer.refresh), (1, RefreshStatus::BackingOff));
        }
        clock.advance(3 * SECOND);
    }
    assert_eq!((cache.stats().refreshes.failed, cache.stats().refreshes.panicked), (2, 2));
}

#[test]
fn r2_a_full_pool_and_a_spawner_that_refuses_are_no_reason_to_wait() {
    let (clock, hand, asked) = (ManualClock::new(), Hand::default(), Asked::default());
    let cache: Cache<u32, u64> = Cache::builder()
        .capacity(100)
        .lifetime(Lifetime::ttl(10 * SECOND).stale_while_revalidate(MINUTE))
        .max_refreshes(1)
        .clock(clock.clone())
        .spawner(hand.clone())
        .build()
        .unwrap();
    (1..=3).for_each(|key| cache.insert(key, 1));
    clock.advance(10 * SECOND);
    assert_eq!(cache.lookup(&3).load(|| 2_u64).unwrap().refresh, RefreshStatus::Started);
    assert_eq!(cache.get_many_or_load([1, 2], tenfold(&asked)).unwrap().len(), 2);
    assert_eq!(cache.stats().refreshes_skipped.saturated, 2);
    hand.run();
    hand.refuse(true);
    assert_eq!(cache.get_many_or_load([1, 2], tenfold(&asked)).unwrap().len(), 2);
    hand.refuse(false);
    assert_eq!(cache.lookup(&1).load(|| 0_u64).unwrap().refresh, RefreshStatus::Unavailable, "a pause of five seconds");
    clock.advance(5 * SECOND);
    assert_eq!(cache.get_many_or_load([1, 2], tenfold(&asked)).unwrap().len(), 2);
    hand.run();
    assert_eq!((cache.get(&1), cache.get(&2)), (Some(10), Some(20)), "one place in the pool is enough for all");
}

#[test]
fn l4_a_call_behind_that_hangs_past_its_deadline_frees_its_keys() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let cache = {
        let builder = Cache::builder().capacity(100).refresh_timeout(5 * SECOND);
        builder
            .lifetime(Lifetime::ttl(10 * SECOND).stale_while_revalidate(MINUTE))
            .clock(clock.clone())
            .spawner(hand.clone())
            .build()
            .unwrap()
    };
    (1..=2).for_each(|key: u32| cache.insert(key, 1_u64));
    clock.advance(10 * SECOND);
    let mut reading =
        Box::pin(cache.get_many_or_load_async([1, 2], |_| std::future::pending::<Result<Values, &str>>()));
    assert!(matches!(poll_once(reading.as_mut()), Poll::Ready(Ok(found)) if found.len() == 2));
    hand.run();
    clock.advance(5 * SECOND);
    hand.run();
    assert_eq!((hand.waiting(), cache.stats().refreshes.timed_out), (0, 2));
    clock.advance(2 * SECOND);
    assert_eq!(cache.lookup(&1).load(|| 5_u64).unwrap().refresh, RefreshStatus::Started);
}

#[test]
fn r4_a_call_behind_that_was_overtaken_is_counted_as_discarded_however_it_ends() {
    for hangs in [false, true] {
        let (clock, hand) = (ManualClock::new(), Hand::default());
        let cache = cache(&clock, &hand);
        (1..=2).for_each(|key| cache.insert(key, 1));
        clock.advance(10 * SECOND);
        let mut reading = Box::pin(cache.get_many_or_load_async([1, 2], move |keys: Vec<u32>| async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            Ok::<Values, &str>(keys.into_iter().map(|key| (key, 2)).collect())
        }));
        assert!(poll_once(reading.as_mut()).is_ready());
        drop(reading);
        cache.insert(1, 7);
        hand.run();
        clock.advance(31 * SECOND);
        hand.run();
        let refreshes = cache.stats().refreshes;
        assert_eq!(ends(refreshes), 2, "each that was started has one end: {refreshes:?} (hangs: {hangs})");
        assert_eq!(refreshes.discarded, 1);
    }
}

#[test]
fn l2_a_failing_call_gives_its_error_and_what_can_be_served_instead() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let cache = cache(&clock, &hand);
    cache.insert(1, 1);
    clock.advance(30 * SECOND);
    let found = cache.get_many_or_load([1], |_| Err::<Values, _>("bad")).unwrap();
    assert_eq!(found[&1], 1, "within the error window");
    let error = cache.get_many_or_load([1, 2], |_| Err::<Values, _>("bad")).unwrap_err();
    assert_eq!(error.load_error(), Some(&"bad"));
    assert_eq!(cache.stats().fallback, 2);
    cache.insert(3, 3);
    assert!(cache.get_many_or_load([3, 4], |_| Err::<Values, _>("bad")).is_err());
    assert_eq!(cache.get(&3), Some(3));
}

#[test]
fn l1_keys_that_somebody_else_loads_are_waited_for() {
    within_a_minute(|| {
        let cache: Cache<u32, u64> = Cache::builder().capacity(100).build().unwrap();
        let (gate, began, asked) = (Gate::default(), Count::default(), Asked::default());
        let leader = {
            let (cache, gate, began) = (cache.clone(), gate.clone(), began.clone());
            std::thread::spawn(move || {
                cache.get_or_load(&1, move || {
                    began.add();
                    gate.pass();
                    5_u64
                })
            })
        };
        began.reach(1);
        let many = {
            let (cache, asked, gate) = (cache.clone(), asked.clone(), gate.clone());
            std::thread::spawn(move || {
                let tenfold = tenfold(&asked);
                cache.get_many_or_load([1, 2], move |keys| {
                    gate.open();
                    tenfold(keys)
                })
            })
        };
        assert_eq!(sorted(many.join().unwrap().unwrap()), [(1, 5), (2, 20)]);
        assert_eq!(asked.take(), [vec![2]]);
        assert_eq!(leader.join().unwrap().unwrap(), 5);
        assert_eq!(cache.stats().coalesced, 1);
    });
}

#[test]
fn l1_two_calls_for_overlapping_keys_do_not_wait_for_each_other_in_a_circle() {
    within_a_minute(|| {
        for _ in 0..50 {
            let cache: Cache<u32, u64> = Cache::builder().capacity(100).build().unwrap();
            let loads = Count::default();
            let threads: Vec<_> = [[1, 2, 3, 4], [4, 3, 2, 1], [3, 1, 4, 2]]
                .map(|keys| {
                    let (cache, loads) = (cache.clone(), loads.clone());
                    std::thread::spawn(move || {
                        cache
                            .get_many_or_load(keys, move |keys| {
                                keys.iter().for_each(|_| {
                                    loads.add();
                                });
                                Ok::<Values, &str>(keys.into_iter().map(|key| (key, u64::from(key))).collect())
                            })
                            .unwrap()
                    })
                })
                .into_iter()
                .collect();
            for thread in threads {
                assert_eq!(sorted(thread.join().unwrap()), [(1, 1), (2, 2), (3, 3), (4, 4)]);
            }
            assert_eq!(loads.get(), 4, "each key once");
        }
    });
}

#[test]
fn i1_what_was_invalidated_while_many_were_loaded_is_not_stored() {
    let cache: Cache<u32, u64> = Cache::builder().capacity(100).build().unwrap();
    let inner = cache.clone();
    let found = cache.get_many_or_load([1, 2], move |keys| {
        inner.invalidate(&1);
        Ok::<Values, &str>(keys.into_iter().map(|key| (key, 5)).collect())
    });
    assert_eq!(sorted(found.unwrap()), [(1, 5), (2, 5)], "who waited gets it");
    assert_eq!((cache.get(&1), cache.get(&2)), (None, Some(5)));
}

#[tokio::test]
async fn many_in_a_task() {
    let cache: Cache<u32, u64> = Cache::builder().capacity(100).build().unwrap();
    let found = cache
        .get_many_or_load_async(0..50, |keys: Vec<u32>| async move {
            tokio::task::yield_now().await;
            Ok::<_, &str>(keys.into_iter().map(|key| (key, u64::from(key))))
        })
        .await
        .unwrap();
    assert_eq!(found.len(), 50);
    let error = cache.get_many_or_load_async([1, 60], |_| async { Err::<Values, _>("bad") }).await.unwrap_err();
    assert!(matches!(error, LoadError::Load(error) if *error == "bad"));
    assert_eq!(cache.stats().lookups(), 52);
}

#[test]
fn l7_store_if_weights_and_bounds_hold_for_many() {
    let cache: Cache<u32, u64> = Cache::builder()
        .weight_capacity(100)
        .weigher(|_, value| *value)
        .store_if(|value| *value != 13)
        .build()
        .unwrap();
    let found = cache.get_many_or_load([1, 2, 3], |_| Ok::<_, &str>([(1, 13), (2, 101), (3, 50)])).unwrap();
    assert_eq!(found.len(), 3, "all reach their caller");
    assert_eq!((cache.peek(&1), cache.peek(&2), cache.peek(&3)), (None, None, Some(50)));
    assert_eq!((cache.stats().not_stored.rejected, cache.stats().not_stored.too_heavy), (1, 1));
}

#[test]
fn l3_a_call_that_panics_or_is_dropped_frees_all_its_keys() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let cache = cache(&clock, &hand);
    let log = Log::of(&cache);
    let panicking = || cache.get_many_or_load([1, 2], |_| -> Result<Values, &str> { panic!("told to") });
    assert!(catch_unwind(AssertUnwindSafe(panicking)).is_err());
    let mut dropped =
        Box::pin(cache.get_many_or_load_async([1, 2], |_| std::future::pending::<Result<Values, &str>>()));
    assert!(poll_once(dropped.as_mut()).is_pending());
    let mut waiter = Box::pin(cache.get_many_or_load_async([2], |_| async { Ok::<_, &str>([(2, 7)]) }));
    assert!(poll_once(waiter.as_mut()).is_pending(), "somebody loads it");
    drop(dropped);
    assert!(matches!(poll_once(waiter.as_mut()), Poll::Ready(Ok(found)) if found[&2] == 7), "it leads next");
    assert_eq!(cache.get_or_load(&1, || 8_u64).unwrap(), 8);
    let loads = cache.stats().loads;
    assert_eq!((loads.panicked, loads.abandoned, loads.stored), (2, 2, 2), "every load has an end");
    assert_eq!((log.count(&Told::Load(Ending::Panicked)), log.count(&Told::Load(Ending::Abandoned))), (2, 2));
}

#[test]
fn l3_a_panic_of_the_weigher_leaves_no_key_of_a_call_behind() {
    let cache: Cache<u32, u64> = Cache::builder()
        .weight_capacity(10)
        .weigher(|_, value| if *value == 3 { panic!("told to") } else { 1 })
        .build()
        .unwrap();
    let load = || cache.get_many_or_load([1, 2, 3, 4], |_| Ok::<_, &str>([(1, 1), (2, 2), (3, 3), (4, 4)]));
    assert!(catch_unwind(AssertUnwindSafe(load)).is_err());
    assert_eq!((ends(cache.stats().loads), cache.stats().loads.panicked), (4, 2), "3, and 4 which came after it");
    let found =
        cache.get_many_or_load([1, 2, 3, 4], |keys| Ok::<Values, &str>(keys.into_iter().map(|key| (key, 9)).collect()));
    assert_eq!(sorted(found.unwrap()), [(1, 1), (2, 2), (3, 9), (4, 9)]);
}

#[test]
fn l5_a_key_that_others_load_in_vain_falls_back_like_any_other() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let cache = cache(&clock, &hand);
    cache.insert(1, 1);
    clock.advance(30 * SECOND);
    let gate = Arc::new(tokio::sync::Notify::new());
    let opened = Arc::clone(&gate);
    let mut other = Box::pin(cache.lookup(&1).load_async(move || async move {
        opened.notified().await;
        Err::<u64, _>("bad")
    }));
    assert!(poll_once(other.as_mut()).is_pending());
    let mut many = Box::pin(cache.get_many_or_load_async([1, 2], |keys: Vec<u32>| async move {
        assert_eq!(keys, [2], "somebody else loads the other");
        Ok::<_, &str>([(2, 20)])
    }));
    assert!(poll_once(many.as_mut()).is_pending());
    gate.notify_one();
    assert!(poll_once(other.as_mut()).is_ready());
    let Poll::Ready(found) = poll_once(many.as_mut()) else { panic!("it waits on") };
    assert_eq!(sorted(found.expect("the old value may be served after a failure")), [(1, 1), (2, 20)]);
    assert_eq!(cache.stats().fallback, 2);
    // And one that nobody holds anything of is an error, after all others were seen to.
    let mut failing = Box::pin(cache.get_many_or_load_async([3], |_| async {
        tokio::task::yield_now().await;
        Err::<Values, _>("bad")
    }));
    assert!(poll_once(failing.as_mut()).is_pending());
    let mut many = Box::pin(cache.get_many_or_load_async([3, 4], |_| async { Ok::<_, &str>([(4, 40)]) }));
    assert!(poll_once(many.as_mut()).is_pending());
    assert!(poll_once(failing.as_mut()).is_ready());
    assert!(matches!(poll_once(many.as_mut()), Poll::Ready(Err(error)) if error.load_error() == Some(&"bad")));
    assert_eq!(cache.get(&4), Some(40));
    let stats = cache.stats();
    assert_eq!((stats.failed, stats.lookups()), (2, 1 + 2 + 1 + 2 + 1));
}

#[test]
fn l5_wait_at_most_bounds_the_whole_call_and_not_each_key_anew() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let cache: Cache<u32, u64> = Cache::builder()
        .capacity(100)
        .wait_at_most(10 * SECOND)
        .clock(clock.clone())
        .spawner(hand.clone())
        .build()
        .unwrap();
    let hung = |key: u32| {
        let cache = cache.clone();
        let mut load = Box::pin(async move { cache.get_or_load_async(&key, std::future::pending::<u64>).await });
        assert!(poll_once(load.as_mut()).is_pending());
        load
    };
    let _others = [hung(1), hung(2)];
    let mut many =
        Box::pin(cache.get_many_or_load_async([1, 2, 3], |_| std::future::pending::<Result<Values, &str>>()));
    assert!(poll_once(many.as_mut()).is_pending());
    hand.run();
    clock.advance(9 * SECOND);
    assert!(poll_once(many.as_mut()).is_pending());
    clock.advance(SECOND);
    let Poll::Ready(got) = poll_once(many.as_mut()) else { panic!("ten seconds are over") };
    assert!(matches!(got, Err(LoadError::Cache(error)) if error.is_timeout()));
    assert_eq!(cache.stats().failed, 3);
}

#[test]
fn l4_l5_l6_bounds_on_time_hold_for_the_caller_who_asks_for_many() {
    // Which bound, whether there is an old value of key 1, after how long the caller is free, and with what.
    type Bound = fn(Builder<u32, u64>) -> Builder<u32, u64>;
    let bounds: [(&str, Bound, u32); 3] = [
        ("wait_at_most", |it| it.wait_at_most(5 * SECOND), 5),
        ("load_timeout", |it| it.load_timeout(7 * SECOND), 7),
        ("soft_timeout", |it| it.soft_timeout(3 * SECOND), 3),
    ];
    for (name, bound, seconds) in bounds {
        for ends_later in [false, true] {
            let (clock, hand) = (ManualClock::new(), Hand::default());
            let builder = Cache::builder()
                .capacity(100)
                .lifetime(Lifetime::ttl(10 * SECOND).stale_if_error(10 * MINUTE))
                .clock(clock.clone())
                .spawner(hand.clone());
            let cache = bound(builder).build().unwrap();
            cache.insert(1, 1);
            clock.advance(20 * SECOND);
            let gate = Arc::new(tokio::sync::Notify::new());
            let opened = Arc::clone(&gate);
            let keys = if name == "soft_timeout" { vec![1] } else { vec![1, 2] };
            let mut many = Box::pin(cache.get_many_or_load_async(keys, move |keys: Vec<u32>| {
                let opened = Arc::clone(&opened);
                async move {
                    opened.notified().await;
                    Ok::<Values, &str>(keys.into_iter().map(|key| (key, 2)).collect())
                }
            }));
            assert!(poll_once(many.as_mut()).is_pending());
            hand.run();
            clock.advance((seconds - 1) * SECOND);
            assert!(poll_once(many.as_mut()).is_pending(), "{name}");
            clock.advance(SECOND);
            let Poll::Ready(got) = poll_once(many.as_mut()) else { panic!("{name} does not bound the caller") };
            match name {
                "soft_timeout" => assert_eq!(got.unwrap()[&1], 1, "the old one"),
                _ => assert!(matches!(got, Err(LoadError::Cache(error)) if error.is_timeout()), "{name}: key 2"),
            }
            assert_eq!(cache.stats().fallback, 1, "{name}");
            drop(many);
            if ends_later {
                gate.notify_one();
                hand.run();
                let stored = if name == "load_timeout" { None } else { Some(2) };
                assert_eq!(cache.lookup(&1).peek().map(|answer| answer.value), stored.or(Some(1)), "{name}");
            } else {
                hand.drop_all();
            }
            let loads = cache.stats().loads;
            assert_eq!(ends(loads), if name == "soft_timeout" { 1 } else { 2 }, "{name}: {loads:?}");
            assert_eq!(cache.close(std::time::Duration::ZERO), 0, "{name}");
        }
    }
}

#[test]
fn l4_many_that_block_are_loaded_on_a_worker_when_their_time_is_bounded() {
    within_a_minute(|| {
        let cache: Cache<u32, u64> = Cache::builder().capacity(100).load_timeout(MINUTE).build().unwrap();
        let here = std::thread::current().id();
        let found = cache.get_many_or_load([1, 2], move |keys| {
            assert_ne!(std::thread::current().id(), here);
            Ok::<Values, &str>(keys.into_iter().map(|key| (key, 5)).collect())
        });
        assert_eq!(sorted(found.unwrap()), [(1, 5), (2, 5)]);
        // The worker counts what it has brought after it has told those who wait.
        while cache.stats().loads.stored < 2 {
            std::thread::yield_now();
        }
        assert_eq!((cache.stats().loaded, cache.stats().loads.stored), (2, 2));
        let error = cache.get_many_or_load([3], |_| Err::<Values, _>("bad")).unwrap_err();
        assert_eq!(error.load_error(), Some(&"bad"));
        let error = cache.get_many_or_load([3], |_| -> Result<Values, &str> { panic!("told to") }).unwrap_err();
        assert!(matches!(error, LoadError::Cache(error) if error.is_panic()));
    });
    let refusing = Hand::default();
    refusing.refuse(true);
    for cache in [
        Cache::builder().capacity(100).load_timeout(MINUTE).spawner(refusing).build().unwrap(),
        Cache::builder().capacity(100).load_timeout(MINUTE).spawner(Dropping).build().unwrap(),
    ] {
        let cache: Cache<u32, u64> = cache;
        let error = cache.get_many_or_load([1, 2], |_| Ok::<Values, &str>(vec![])).unwrap_err();
        assert!(!matches!(error, LoadError::Load(_)) && !error.is_absent(), "{error}");
        assert_eq!((cache.stats().failed, cache.stats().loads.panicked), (2, 0));
    }
}

#[test]
fn l7_what_is_remembered_of_a_key_holds_for_many_too() {
    let (clock, hand, asked) = (ManualClock::new(), Hand::default(), Asked::default());
    let cache: Cache<u32, u64> =
        Cache::builder().capacity(100).negative_ttl(10 * SECOND).clock(clock.clone()).spawner(hand).build().unwrap();
    assert!(cache.get_or_load(&1, || None::<u64>).unwrap_err().is_absent());
    let found = cache.get_many_or_load([1, 2], tenfold(&asked)).unwrap();
    assert_eq!(sorted(found), [(2, 20)], "its absence is known");
    assert!(cache.get_or_load(&3, || Err::<u64, _>("bad")).is_err());
    let error = cache.get_many_or_load([3, 4], tenfold(&asked)).unwrap_err();
    assert_eq!(error.load_error(), Some(&"bad"));
    assert_eq!(asked.take(), [vec![2], vec![4]]);
    assert_eq!((cache.stats().negative, cache.get(&4)), (2, Some(40)));
    clock.advance(10 * SECOND);
    assert_eq!(cache.get_many_or_load([1, 3], tenfold(&asked)).unwrap().len(), 2);
    assert_eq!(asked.take(), [vec![1, 3]]);
    // And what a call for many learnt is remembered.
    assert!(cache.get_many_or_load([5], |_| Ok::<Values, &str>(vec![])).unwrap().is_empty());
    assert!(cache.get_or_load(&5, || 5_u64).unwrap_err().is_absent());
}

#[test]
fn l8_a_call_that_asks_for_one_of_its_own_keys_is_told() {
    within_a_minute(|| {
        for bounded in [false, true] {
            let builder = Cache::builder().capacity(100);
            let builder = if bounded { builder.load_timeout(MINUTE) } else { builder };
            let cache: Cache<u32, u64> = builder.build().unwrap();
            let inner = cache.clone();
            let found = cache.get_many_or_load([1, 2], move |keys| {
                assert!(inner.get_or_load(&keys[0], || 0_u64).unwrap_err().is_recursive());
                let error = inner.get_many_or_load([keys[1], 3], |_| Ok::<_, &str>([(3, 3)])).unwrap_err();
                assert!(matches!(error, LoadError::Cache(error) if error.is_recursive()));
                Ok::<Values, &str>(keys.into_iter().map(|key| (key, 5)).collect())
            });
            assert_eq!(sorted(found.unwrap()), [(1, 5), (2, 5)]);
            assert_eq!(cache.get(&3), Some(3), "what it may ask for it gets");
        }
    });
}

#[test]
fn o2_a_fallback_served_in_a_pause_is_counted_as_backing_off_by_one_and_by_many() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let cache = cache(&clock, &hand);
    (1..=2).for_each(|key| cache.insert(key, 1));
    clock.advance(30 * SECOND);
    assert_eq!(cache.get_many_or_load([1, 2], |_| Err::<Values, _>("bad")).unwrap().len(), 2);
    assert_eq!(cache.stats().refreshes_skipped.backing_off, 0, "these were tried");
    let found = cache.get_many_or_load([1, 2], |_| -> Result<Values, &str> { panic!("the keys are left alone") });
    assert_eq!(found.unwrap().len(), 2);
    let answer = cache.lookup(&1).load(|| 2_u64).unwrap();
    assert_eq!((answer.outcome, answer.refresh), (Outcome::Fallback, RefreshStatus::BackingOff));
    assert_eq!((cache.stats().fallback, cache.stats().refreshes_skipped.backing_off), (5, 3));
}

#[test]
fn r6_many_are_refreshed_ahead_too() {
    let (clock, hand, asked) = (ManualClock::new(), Hand::default(), Asked::default());
    let cache: Cache<u32, u64> = Cache::builder()
        .capacity(100)
        .lifetime(Lifetime::ttl(10 * SECOND))
        .refresh_ahead(0.5)
        .clock(clock.clone())
        .spawner(hand.clone())
        .build()
        .unwrap();
    cache.insert(1, 1);
    clock.advance(5 * SECOND);
    assert_eq!(cache.get_many_or_load([1], tenfold(&asked)).unwrap()[&1], 1);
    hand.run();
    assert_eq!((cache.get(&1), cache.stats().hits, asked.take()), (Some(10), 2, vec![vec![1]]));
}

#[test]
fn r2_a_refresh_of_many_that_no_worker_takes_was_not_started() {
    let (clock, hand, asked) = (ManualClock::new(), Hand::default(), Asked::default());
    let cache = cache(&clock, &hand);
    let log = Log::of(&cache);
    (1..=2).for_each(|key| cache.insert(key, 1));
    clock.advance(10 * SECOND);
    hand.refuse(true);
    assert_eq!(cache.get_many_or_load([1, 2], tenfold(&asked)).unwrap().len(), 2);
    let stats = cache.stats();
    assert_eq!((stats.refreshes_started, stats.refreshes_skipped.unavailable, ends(stats.refreshes)), (0, 2, 0));
    assert_eq!(log.count(&Told::Lookup(Outcome::Stale, RefreshStatus::Unavailable)), 2);
    assert_eq!((log.count(&Told::RefreshStarted), log.count(&Told::Unavailable)), (0, 1));
}

/// What somebody else does meanwhile, and how many copies of keys are made before that.
type Meanwhile = Arc<Mutex<Option<(usize, Box<dyn FnOnce() + Send>)>>>;

/// A key that tells when it is copied.
struct Copied(u32, Meanwhile);

impl Clone for Copied {
    fn clone(&self) -> Copied {
        let due = {
            let mut meanwhile = self.1.lock().unwrap();
            match &mut *meanwhile {
                Some((copies, _)) if *copies > 1 => {
                    *copies -= 1;
                    None
                }
                due => due.take(),
            }
        };
        if let Some((_, act)) = due {
            act();
        }
        Copied(self.0, Arc::clone(&self.1))
    }
}

impl PartialEq for Copied {
    fn eq(&self, other: &Copied) -> bool {
        self.0 == other.0
    }
}

impl Eq for Copied {}

impl Hash for Copied {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

#[test]
fn l1_a_key_that_somebody_loads_between_the_look_and_the_flight_of_many_is_not_loaded_again() {
    // The first copy is made before the look, the second for the flight that is about to begin, the third for the loader.
    for (copies, asked_for) in [(1, 0), (2, 0), (3, 1)] {
        for fails in [false, true] {
            let cache: Cache<Copied, u64> = Cache::builder().capacity(10).negative_ttl(MINUTE).build().unwrap();
            let (meanwhile, loads) = (Meanwhile::default(), Count::default());
            let key = Copied(1, Arc::clone(&meanwhile));
            let (other, theirs) = (cache.clone(), Copied(1, Meanwhile::default()));
            let act = move || {
                // Whoever leads already is the one who is asked.
                let load = other.get_or_load(&theirs, move || if fails { Err("bad") } else { Ok(7_u64) });
                assert_eq!(load.is_err(), fails || asked_for == 1);
            };
            *meanwhile.lock().unwrap() = Some((copies, Box::new(act)));
            let counted = loads.clone();
            let found = cache.get_many_or_load([key], move |keys| {
                counted.add();
                Ok::<_, &str>(keys.into_iter().map(|key| (key, 8)).collect::<Vec<_>>())
            });
            assert_eq!(loads.get(), asked_for, "after {copies} copies, fails: {fails}");
            match (asked_for, fails) {
                (0, true) => assert_eq!(found.err().and_then(|error| error.load_error().copied()), Some("bad")),
                _ => assert_eq!(found.ok().unwrap().into_values().collect::<Vec<_>>(), [7 + asked_for as u64]),
            }
            assert!(meanwhile.lock().unwrap().is_none(), "it was copied so often");
        }
    }
}

#[test]
fn r3_a_claim_for_a_refresh_of_many_is_given_back_where_somebody_loads_the_key_already() {
    let (clock, hand, asked) = (ManualClock::new(), Hand::default(), Asked::default());
    let cache = cache(&clock, &hand);
    (1..=2).for_each(|key| cache.insert(key, 1));
    clock.advance(10 * SECOND);
    let mut bypass = Box::pin(cache.lookup(&1).bypass().load_async(std::future::pending::<u64>));
    assert!(poll_once(bypass.as_mut()).is_pending());
    assert_eq!(cache.get_many_or_load([1, 2], tenfold(&asked)).unwrap().len(), 2);
    let stats = cache.stats();
    assert_eq!((stats.refreshes_started, stats.refreshes_skipped.already_running), (1, 1));
    drop(bypass);
    hand.run();
    assert_eq!(asked.take(), [vec![2]]);
    let answer = cache.lookup(&1).load(|| 5_u64).unwrap();
    assert_eq!((answer.value, answer.refresh), (1, RefreshStatus::Started), "nobody loads it any more");
}

#[test]
fn r2_a_refresh_of_many_whose_work_is_dropped_has_ended_and_its_keys_are_free_after_a_pause() {
    for at_once in [false, true] {
        let (clock, hand, asked) = (ManualClock::new(), Hand::default(), Asked::default());
        let builder = Cache::builder()
            .capacity(100)
            .lifetime(Lifetime::ttl(10 * SECOND).stale_while_revalidate(MINUTE))
            .clock(clock.clone());
        let builder = if at_once { builder.spawner(Dropping) } else { builder.spawner(hand.clone()) };
        let cache: Cache<u32, u64> = builder.build().unwrap();
        let log = Log::of(&cache);
        (1..=2).for_each(|key| cache.insert(key, 1));
        clock.advance(10 * SECOND);
        for round in 1..=2 {
            assert_eq!(cache.get_many_or_load([1, 2], tenfold(&asked)).unwrap().len(), 2);
            hand.drop_all();
            let stats = cache.stats();
            let started = (stats.refreshes_started, stats.refreshes.abandoned, ends(stats.refreshes));
            assert_eq!(started, (2 * round, 2 * round, 2 * round), "dropped at once: {at_once}");
            assert_eq!(log.count(&Told::Refresh(Ending::Abandoned)), 2 * round as usize);
            let meanwhile = cache.lookup(&1).load(|| 5_u64).unwrap();
            assert_eq!(
                (meanwhile.value, meanwhile.refresh),
                (1, RefreshStatus::Unavailable),
                "a pause of five seconds"
            );
            clock.advance(5 * SECOND);
        }
        assert!(asked.take().is_empty());
        // Unless it was taken in between, that is told once.
        assert_eq!(log.count(&Told::Unavailable), if at_once { 1 } else { 2 });
    }
}
