//! Who asks for a key from inside its own load, and is told instead of waiting for itself (contract L8, M5, O3).

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everfresh::{BoxError, Builder, Cache, Event, LevelFuture, Lifetime, Loaded, ManualClock, SecondLevel};

use crate::kit::{Hand, MINUTE, SECOND, poll_once, within_a_minute};

/// Has each listener that is told of `trigger` ask for `key`, once; what it was answered.
fn asks(
    cache: &Cache<u32, u64>,
    trigger: impl Fn(&Event<'_, u32, u64>) -> bool + Send + Sync + 'static,
    key: u32,
) -> Arc<Mutex<Option<Result<u64, bool>>>> {
    let answered = Arc::new(Mutex::new(None));
    let (answer, asked, inner) = (Arc::clone(&answered), AtomicBool::new(false), cache.clone());
    let listener = move |event: &Event<'_, u32, u64>| {
        if trigger(event) && !asked.swap(true, Ordering::SeqCst) {
            let got = inner.lookup(&key).bypass().load(|| 70).map(|got| got.value);
            *answer.lock().unwrap() = Some(got.map_err(|error| error.is_recursive()));
        }
    };
    cache.subscribe(listener).forever();
    answered
}

fn of_two(keys: Vec<u32>) -> Result<Vec<(u32, u64)>, &'static str> {
    Ok(keys.into_iter().map(|key| (key, u64::from(key))).collect())
}

#[test]
fn m5_a_listener_that_is_told_of_one_of_many_may_ask_for_another() {
    within_a_minute(|| {
        let cache: Cache<u32, u64> = Cache::builder().capacity(10).build().unwrap();
        let answered = asks(&cache, |event| matches!(event, Event::Load { key: 1, .. }), 2);
        assert_eq!(cache.get_many_or_load([1, 2], of_two).unwrap().len(), 2);
        assert_eq!(*answered.lock().unwrap(), Some(Err(true)), "2 is made, and on its way into the cache");
    });
}

#[test]
fn m5_a_listener_that_is_told_of_a_hit_among_many_may_ask_for_one_that_is_missing() {
    within_a_minute(|| {
        let cache: Cache<u32, u64> = Cache::builder().capacity(10).build().unwrap();
        cache.insert(2, 2);
        let answered = asks(&cache, |event| matches!(event, Event::Lookup { key: Some(2), .. }), 1);
        assert_eq!(cache.get_many_or_load([1, 2], of_two).unwrap().len(), 2);
        assert_eq!(*answered.lock().unwrap(), Some(Err(true)));
    });
}

#[test]
fn m5_a_listener_that_is_told_of_a_refresh_of_many_may_ask_for_what_is_missing_and_what_is_stale() {
    type Trigger = fn(&Event<'_, u32, u64>) -> bool;
    let triggers: [Trigger; 2] =
        [|event| matches!(event, Event::RefreshStarted { .. }), |event| matches!(event, Event::Refresh { .. })];
    for trigger in triggers {
        for asked in [1, 2, 3] {
            within_a_minute(move || {
                let clock = ManualClock::new();
                let cache: Cache<u32, u64> = Cache::builder()
                    .capacity(10)
                    .lifetime(Lifetime::ttl(SECOND).stale_while_revalidate(MINUTE))
                    .clock(clock.clone())
                    .build()
                    .unwrap();
                [2, 3].into_iter().for_each(|key| cache.insert(key, 0));
                clock.advance(2 * SECOND);
                let answered = asks(&cache, trigger, asked);
                assert_eq!(cache.get_many_or_load([1, 2, 3], of_two).unwrap().len(), 3);
                cache.settle();
                assert!(answered.lock().unwrap().is_some());
            });
        }
    }
}

#[test]
fn m5_a_listener_that_is_told_of_a_panic_of_many_may_ask_for_another() {
    within_a_minute(|| {
        let cache: Cache<u32, u64> = Cache::builder().capacity(10).load_timeout(MINUTE).build().unwrap();
        let answered = asks(&cache, |event| matches!(event, Event::Load { key: 1, .. }), 2);
        let failed = cache.get_many_or_load([1, 2], |_| -> Result<Vec<(u32, u64)>, ()> { panic!("told to") });
        assert!(failed.unwrap_err().is_panic());
        cache.settle();
        assert!(answered.lock().unwrap().is_some());
    });
}

/// A second level that is out of order.
struct Broken;

impl SecondLevel<u32, u64> for Broken {
    fn get<'a>(&'a self, _key: &'a u32) -> LevelFuture<'a, Option<Loaded<u64>>> {
        Box::pin(async { Err(BoxError::from("down")) })
    }

    fn put<'a>(&'a self, _key: &'a u32, _loaded: &'a Loaded<u64>, _begun_ago: Duration) -> LevelFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn remove<'a>(&'a self, _key: &'a u32) -> LevelFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn remove_tag<'a>(&'a self, _tag: &'a str) -> LevelFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn clear(&self) -> LevelFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

#[test]
fn m5_a_listener_that_is_told_that_the_second_level_failed_may_ask_for_the_key() {
    let calls: [fn(&Cache<u32, u64>); 2] = [
        |cache| assert_eq!(cache.get_or_load(&1, || 1).unwrap(), 1),
        |cache| assert_eq!(cache.get_many_or_load([2, 1], of_two).unwrap()[&1], 1),
    ];
    type Bound = fn(Builder<u32, u64>) -> Builder<u32, u64>;
    let bounds: [Bound; 2] = [|it| it, |it| it.load_timeout(MINUTE)];
    for call in calls {
        for bounded in bounds {
            within_a_minute(move || {
                let cache = bounded(Cache::builder().capacity(10).second_level(Broken)).build().unwrap();
                let answered = asks(&cache, |event| matches!(event, Event::LevelFailed { .. }), 1);
                call(&cache);
                assert_eq!(*answered.lock().unwrap(), Some(Err(true)));
            });
        }
    }
}

/// Asks for its own key when it is dropped; whether it was told that it is inside of that key's load.
struct AsksAtItsEnd(Cache<u32, u64>, Arc<Mutex<Option<Result<u64, bool>>>>);

impl Drop for AsksAtItsEnd {
    fn drop(&mut self) {
        let got = self.0.lookup(&1).bypass().load(|| 70).map(|got| got.value);
        *self.1.lock().unwrap() = Some(got.map_err(|error| error.is_recursive()));
    }
}

#[test]
fn l8_a_loader_that_asks_for_its_own_key_when_it_is_cancelled_is_told() {
    for (many, ends) in [false, true].into_iter().flat_map(|many| [(many, "by its caller"), (many, "by its runtime")]) {
        within_a_minute(move || {
            let (clock, hand, answered) = (ManualClock::new(), Hand::default(), Arc::default());
            let builder = Cache::builder().capacity(10).clock(clock).spawner(hand.clone());
            let builder = if ends == "by its runtime" { builder.load_timeout(SECOND) } else { builder };
            let cache: Cache<u32, u64> = builder.build().unwrap();
            let (inner, answer) = (cache.clone(), Arc::clone(&answered));
            let never = move || {
                let asks = AsksAtItsEnd(inner.clone(), Arc::clone(&answer));
                async move {
                    let _asks = asks;
                    std::future::pending::<()>().await;
                }
            };
            let mut load: Pin<Box<dyn Future<Output = ()>>> = match many {
                true => Box::pin(async {
                    let of_two = move |_| {
                        let never = never();
                        async move {
                            never.await;
                            Ok::<_, &str>([(1, 1), (2, 2)])
                        }
                    };
                    drop(cache.get_many_or_load_async([2, 1], of_two).await);
                }),
                false => Box::pin(async {
                    let one = move || {
                        let never = never();
                        async move {
                            never.await;
                            1_u64
                        }
                    };
                    drop(cache.get_or_load_async(&1, one).await);
                }),
            };
            assert!(poll_once(load.as_mut()).is_pending());
            hand.run();
            hand.drop_all();
            drop(load);
            assert_eq!(*answered.lock().unwrap(), Some(Err(true)), "many: {many}, ended {ends}");
            assert_eq!(cache.lookup(&1).load_inline(|_| 5_u64).unwrap().value, 5, "its key is free");
        });
    }
}
