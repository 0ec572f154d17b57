//! Loading keys before anybody asks (contract R7).

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use everfresh::{Cache, Lifetime, ManualClock, Outcome, RefreshPool, RefreshStatus};

use crate::kit::{Count, Gate, Hand, MINUTE, SECOND, poll_once, within_a_minute};

#[test]
fn r7_warm_loads_what_is_not_fresh_and_says_how_much_is_there() {
    within_a_minute(|| {
        let loads = Count::default();
        let counted = loads.clone();
        let clock = ManualClock::new();
        let cache: Cache<u32, u64> = Cache::builder()
            .capacity(100)
            .lifetime(Lifetime::ttl(10 * SECOND).stale_while_revalidate(MINUTE))
            .loader(move |key: &u32| {
                counted.add();
                if *key == 13 { Err(std::io::Error::other("unlucky")) } else { Ok(u64::from(*key)) }
            })
            .max_refreshes(2)
            .clock(clock.clone())
            .build()
            .unwrap();
        assert_eq!(cache.warm(0..20), 19, "more keys than may be refreshed at once");
        assert_eq!((loads.get(), cache.len()), (20, 19));
        assert_eq!(cache.warm(0..10), 10);
        assert_eq!(loads.get(), 20, "all fresh");
        // A worker may still hold its place in the pool.
        cache.settle();
        clock.advance(10 * SECOND);
        assert_eq!(cache.warm([1, 2, 2]), 3);
        assert!((22..=23).contains(&loads.get()), "stale ones are renewed");
        assert_eq!(cache.lookup(&1).peek().unwrap().outcome, Outcome::Hit);
        assert_eq!(cache.stats().lookups(), 0, "warming is no lookup");
    });
}

#[test]
fn r7_warm_without_workers_returns_instead_of_waiting() {
    within_a_minute(|| {
        let none: Cache<u32, u64> =
            Cache::builder().capacity(10).loader(|key: &u32| u64::from(*key)).max_refreshes(0).build().unwrap();
        assert_eq!(none.warm(0..5), 0);
        assert_eq!(none.stats().refreshes_skipped.saturated, 5);
        let unloadable: Cache<u32, u64> = Cache::builder().capacity(10).build().unwrap();
        unloadable.insert(1, 1);
        assert_eq!(unloadable.warm(0..5), 1);
        assert_eq!(unloadable.stats().refreshes_skipped.no_loader, 4);
    });
}

#[tokio::test]
async fn r7_warm_in_a_task() {
    let cache: Cache<u32, u64> = Cache::builder()
        .capacity(10)
        .async_loader(|key: u32| async move {
            tokio::task::yield_now().await;
            Ok::<_, std::io::Error>(u64::from(key))
        })
        .max_refreshes(1)
        .build()
        .unwrap();
    assert_eq!(cache.warm_async(0..5).await, 5);
    assert_eq!(cache.get(&4), Some(4));
}

#[test]
fn r7_a_schedule_renews_used_or_not_until_it_is_dropped() {
    within_a_minute(|| {
        let (often, seldom) = (Count::default(), Count::default());
        let (by_one, by_two) = (often.clone(), seldom.clone());
        let clock = ManualClock::new();
        let cache: Cache<u32, u64> = Cache::builder()
            .capacity(10)
            .lifetime(Lifetime::ttl(MINUTE))
            .loader(move |key: &u32| if *key == 1 { by_one.add() as u64 } else { by_two.add() as u64 })
            .clock(clock.clone())
            .build()
            .unwrap();
        let schedule = cache.refresh_every(10 * SECOND, [1]);
        often.reach(1);
        for round in 2..6 {
            clock.advance(10 * SECOND);
            often.reach(round);
        }
        drop(schedule);
        let others = cache.refresh_every(10 * SECOND, [2]);
        for round in 1..6 {
            seldom.reach(round);
            clock.advance(10 * SECOND);
        }
        seldom.reach(6);
        assert!(often.get() <= 6, "a round that had begun may end, no other begins");
        assert_eq!(cache.close(MINUTE), 0);
        drop(others);
    });
}

#[test]
fn r7_a_schedule_without_an_interval_goes_round_once_a_millisecond() {
    within_a_minute(|| {
        let (clock, loads) = (ManualClock::new(), Count::default());
        let counted = loads.clone();
        let cache: Cache<u32, u64> =
            Cache::builder().capacity(10).clock(clock.clone()).loader(move |_| counted.add() as u64).build().unwrap();
        let _schedule = cache.refresh_every(Duration::ZERO, [1]);
        cache.settle();
        clock.advance(Duration::from_millis(1));
        cache.settle();
        assert_eq!(loads.get(), 2);
    });
}

#[test]
fn r7_a_schedule_does_not_wait_for_the_destructors_of_another_cache() {
    struct Lingering {
        begins: Count,
        may_end: Gate,
    }
    impl Drop for Lingering {
        fn drop(&mut self) {
            self.begins.add();
            self.may_end.pass();
        }
    }
    within_a_minute(|| {
        let (begins, may_end, loads) = (Count::default(), Gate::default(), Count::default());
        let lingering: Cache<u32, Arc<Lingering>> = Cache::builder().capacity(10).build().unwrap();
        lingering.insert(1, Arc::new(Lingering { begins: begins.clone(), may_end: may_end.clone() }));
        lingering.clear();
        begins.reach(1);
        let counted = loads.clone();
        let cache: Cache<u32, u64> =
            Cache::builder().capacity(10).loader(move |_: &u32| counted.add() as u64).build().unwrap();
        let schedule = cache.refresh_every(60 * MINUTE, [7]);
        loads.reach(1);
        drop(schedule);
        may_end.open();
    });
}

#[test]
fn r7_a_schedule_does_not_keep_its_cache_alive() {
    struct Alive(Arc<Count>);
    impl Drop for Alive {
        fn drop(&mut self) {
            self.0.add();
        }
    }
    within_a_minute(|| {
        let gone = Arc::new(Count::default());
        let alive = Alive(Arc::clone(&gone));
        let clock = ManualClock::new();
        let loaded = Count::default();
        let told = loaded.clone();
        let cache: Cache<u32, u64> = Cache::builder()
            .capacity(10)
            .loader(move |_: &u32| {
                let _alive = &alive;
                told.add() as u64
            })
            .clock(clock.clone())
            .build()
            .unwrap();
        cache.refresh_every(10 * SECOND, [1]).forever();
        loaded.reach(1);
        drop(cache);
        // Dropped with the last of the cache, wherever that happens.
        gone.reach(1);
    });
}

/// One that loads with its own loader, in a pool of one place that others may have.
fn in_one_place(clock: &ManualClock, hand: &Hand) -> (Cache<u32, u64>, Cache<u32, u64>) {
    let pool = RefreshPool::with_spawner(1, hand.clone());
    let make = || {
        Cache::builder()
            .capacity(10)
            .async_loader(|key: u32| async move { u64::from(key) })
            .refresh_pool(pool.clone())
            .clock(clock.clone())
    };
    (make().build().unwrap(), make().refresh_timeout(None).build().unwrap())
}

/// Begins a refresh that runs when the hand is told.
fn take_the_place(cache: &Cache<u32, u64>) {
    let begun = cache.refresh(&7);
    assert_eq!(begun.status(), RefreshStatus::Started);
}

#[test]
fn r7_warm_waits_for_a_place_that_somebody_else_has() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let (cache, other) = in_one_place(&clock, &hand);
    take_the_place(&other);
    let mut warming = Box::pin(cache.warm_async([1, 2]));
    assert!(poll_once(warming.as_mut()).is_pending());
    hand.run();
    assert!(poll_once(warming.as_mut()).is_pending());
    hand.run();
    assert!(poll_once(warming.as_mut()).is_pending());
    hand.run();
    assert_eq!(poll_once(warming.as_mut()), Poll::Ready(2));
}

#[test]
fn r7_warm_gives_up_on_places_that_nobody_gives_back_once_for_all_keys() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let (cache, other) = in_one_place(&clock, &hand);
    take_the_place(&other);
    let mut warming = Box::pin(cache.warm_async(1..=5));
    assert!(poll_once(warming.as_mut()).is_pending());
    clock.advance(29 * SECOND);
    assert!(poll_once(warming.as_mut()).is_pending());
    clock.advance(SECOND);
    assert_eq!(poll_once(warming.as_mut()), Poll::Ready(0));
}

#[test]
fn r7_warm_takes_the_place_of_a_refresh_that_hangs() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let (other, cache) = in_one_place(&clock, &hand);
    take_the_place(&other);
    let mut warming = Box::pin(cache.warm_async([1]));
    assert!(poll_once(warming.as_mut()).is_pending());
    clock.advance(MINUTE);
    assert!(poll_once(warming.as_mut()).is_pending(), "it has the place now");
    hand.run();
    assert_eq!(poll_once(warming.as_mut()), Poll::Ready(1));
}

#[test]
fn r7_a_loader_that_warms_other_keys_does_not_wait_for_its_own_place() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let cache: Cache<u32, u64> = Cache::builder()
        .capacity(10)
        .loader(|key: &u32| u64::from(*key))
        .max_refreshes(1)
        .clock(clock)
        .spawner(hand.clone())
        .build()
        .unwrap();
    let theirs = cache.clone();
    let begun = cache.refresh_with(&1, move || theirs.warm([2, 3]) as u64);
    assert_eq!(begun.status(), RefreshStatus::Started);
    within_a_minute(move || hand.run());
    assert_eq!(cache.peek(&1), Some(0), "there was no place for them");
}

#[test]
fn r7_who_waits_to_warm_is_told_when_more_may_be_refreshed_at_once() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let pool = RefreshPool::with_spawner(1, hand.clone());
    let cache: Cache<u32, u64> = Cache::builder()
        .capacity(10)
        .loader(|key: &u32| u64::from(*key))
        .refresh_pool(pool.clone())
        .clock(clock)
        .build()
        .unwrap();
    let woken = Arc::new(Count::default());
    struct Told(Arc<Count>);
    impl std::task::Wake for Told {
        fn wake(self: Arc<Self>) {
            self.0.add();
        }
    }
    take_the_place(&cache);
    let mut warming = Box::pin(cache.warm_async([1]));
    let waker = Arc::new(Told(Arc::clone(&woken))).into();
    assert!(warming.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending());
    assert_eq!(woken.get(), 0);
    pool.set_max_refreshes(2);
    assert_eq!(woken.get(), 1);
    assert!(poll_once(warming.as_mut()).is_pending());
    hand.run();
    assert_eq!(poll_once(warming.as_mut()), Poll::Ready(1));
}

#[test]
fn m3_who_no_longer_waits_for_the_background_leaves_nothing_with_it() {
    struct Nobody;
    impl std::task::Wake for Nobody {
        fn wake(self: Arc<Self>) {}
    }
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let (cache, other) = in_one_place(&clock, &hand);
    take_the_place(&other);
    let task = Arc::new(Nobody);
    let waker = std::task::Waker::from(Arc::clone(&task));
    for _ in 0..3 {
        let mut warming = Box::pin(cache.warm_async([1]));
        let mut settling = Box::pin(other.settle_async());
        let mut context = std::task::Context::from_waker(&waker);
        assert!(warming.as_mut().poll(&mut context).is_pending() && settling.as_mut().poll(&mut context).is_pending());
        assert!(warming.as_mut().poll(&mut context).is_pending() && settling.as_mut().poll(&mut context).is_pending());
    }
    drop(waker);
    assert_eq!(Arc::strong_count(&task), 1, "the task is gone, and is to be woken");
    // Nor do they take away what has come in their place since.
    let mut cancelled = Box::pin(cache.warm_async([1]));
    assert!(poll_once(cancelled.as_mut()).is_pending());
    hand.run();
    let [mut waits, woken] = [Box::pin(cache.warm_async([1])), Box::pin(cache.warm_async([2]))];
    assert!(poll_once(waits.as_mut()).is_pending());
    drop((cancelled, woken));
    hand.run();
    assert_eq!(poll_once(waits.as_mut()), Poll::Ready(1));
}

/// Asks for the size of the pool whenever it is asked for the time.
#[derive(Clone)]
struct Asking(ManualClock, RefreshPool);

impl everfresh::Clock for Asking {
    fn now(&self) -> Duration {
        let _running = self.1.running();
        self.0.now()
    }

    fn sleep_until(&self, at: Duration) -> everfresh::Sleep {
        self.0.sleep_until(at)
    }
}

#[test]
fn r2_a_clock_may_ask_for_the_pool_whose_refreshes_it_bounds() {
    within_a_minute(|| {
        let (clock, hand) = (ManualClock::new(), Hand::default());
        let pool = RefreshPool::with_spawner(1, hand.clone());
        let cache: Cache<u32, u64> = Cache::builder()
            .capacity(10)
            .loader(|key: &u32| u64::from(*key))
            .refresh_pool(pool.clone())
            .clock(Asking(clock.clone(), pool.clone()))
            .build()
            .unwrap();
        take_the_place(&cache);
        assert_eq!(cache.refresh(&1).status(), RefreshStatus::Saturated);
        let mut warming = Box::pin(cache.warm_async([1]));
        assert!(poll_once(warming.as_mut()).is_pending());
        clock.advance(MINUTE);
        assert_eq!(cache.refresh(&2).status(), RefreshStatus::Started, "the one that hangs gives its place up");
        assert_eq!(pool.running(), 2);
        hand.run();
        clock.advance(MINUTE);
        assert!(poll_once(warming.as_mut()).is_pending());
        hand.run();
        assert_eq!((poll_once(warming.as_mut()), pool.running()), (Poll::Ready(1), 0));
    });
}

#[test]
fn r7_warm_does_not_wait_where_nothing_may_be_refreshed_any_more() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let (cache, other) = in_one_place(&clock, &hand);
    take_the_place(&other);
    let mut warming = Box::pin(cache.warm_async([1, 2]));
    assert!(poll_once(warming.as_mut()).is_pending());
    assert_eq!(cache.close(Duration::ZERO), 0, "what others run is not its own");
    assert_eq!(poll_once(warming.as_mut()), Poll::Ready(0), "it was closed");

    let pool = RefreshPool::with_spawner(1, hand.clone());
    let cache: Cache<u32, u64> = Cache::builder()
        .capacity(100)
        .loader(|key: &u32| u64::from(*key))
        .refresh_pool(pool.clone())
        .clock(clock)
        .build()
        .unwrap();
    take_the_place(&cache);
    let mut warming = Box::pin(cache.warm_async([1, 2]));
    assert!(poll_once(warming.as_mut()).is_pending());
    pool.set_max_refreshes(0);
    assert_eq!(poll_once(warming.as_mut()), Poll::Ready(0), "refreshes were forbidden");
}

/// One that loads in a pool of one place and notes which keys.
fn noting_loads(clock: &ManualClock, hand: &Hand) -> (Cache<u32, u64>, Arc<Mutex<Vec<u32>>>) {
    let loaded: Arc<Mutex<Vec<u32>>> = Arc::default();
    let noted = Arc::clone(&loaded);
    let cache = Cache::builder()
        .capacity(100)
        .loader(move |key: &u32| {
            noted.lock().unwrap().push(*key);
            u64::from(*key)
        })
        .max_refreshes(1)
        .clock(clock.clone())
        .spawner(hand.clone())
        .build()
        .unwrap();
    (cache, loaded)
}

#[test]
fn r7_a_schedule_that_is_dropped_in_the_middle_of_a_round_begins_no_more() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let (cache, loaded) = noting_loads(&clock, &hand);
    let schedule = cache.refresh_every(MINUTE, 0..10);
    hand.run();
    assert_eq!(*loaded.lock().unwrap(), [0]);
    drop(schedule);
    while hand.waiting() > 0 {
        hand.run();
    }
    assert!(loaded.lock().unwrap().len() <= 2, "only what had begun: {loaded:?}");
}

#[test]
fn r7_a_round_that_begins_where_the_last_refresh_of_another_ends_leaves_no_key_out() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let (cache, loaded) = noting_loads(&clock, &hand);
    let _schedule = cache.refresh_every(SECOND, [1, 2]);
    // By hand the chore is done by whoever wakes it: here by the one who lands the last value, and still has its place.
    clock.advance(2 * SECOND);
    while hand.waiting() > 0 {
        hand.run();
    }
    assert_eq!(*loaded.lock().unwrap(), [1, 2, 1, 2]);
}

#[test]
fn m3_a_schedule_that_is_dropped_leaves_nothing_behind_until_its_next_round() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let cache: Cache<Arc<str>, u64> =
        Cache::builder().capacity(10).loader(|_| 1_u64).clock(clock.clone()).spawner(hand.clone()).build().unwrap();
    let key: Arc<str> = "key".into();
    let schedule = cache.refresh_every(60 * MINUTE, [Arc::clone(&key)]);
    hand.run();
    cache.invalidate(&key);
    cache.reclaim();
    assert_eq!(clock.next_wake(), Some(60 * MINUTE));
    drop(schedule);
    assert_eq!((Arc::strong_count(&key), clock.next_wake()), (1, None), "its keys, and one who sleeps");
}
