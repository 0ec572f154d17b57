//! The doors: what a builder refuses and how it says so, loaders of the whole cache, and what a lookup may ask for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use everfresh::{
    Builder, Cache, Ending, Lifetime, Load, LoadError, Loaded, ManualClock, Outcome, RefreshPool, RefreshStatus,
    Workers,
};
use futures_util::task::AtomicWaker;

use crate::kit::{Count, Gate, Hand, MINUTE, SECOND, poll_once, within_a_minute};

type Change = fn(Builder<u32, u64>) -> Builder<u32, u64>;

#[test]
fn t3_a_wrong_choice_is_refused_with_its_cure() {
    const TTL: Lifetime = Lifetime::ttl(SECOND);
    let refused: [(Change, &[&str]); 24] = [
        (|it| it, &["capacity", "unbounded"]),
        (|it| it.capacity(0), &["zero", "at least 1"]),
        (|it| it.weight_capacity(0), &["zero", "at least 1"]),
        (|it| it.capacity(1).unbounded(), &["only one", "leave"]),
        (|it| it.capacity(1).weight_capacity(1), &["only one", "leave"]),
        (|it| it.capacity(1).capacity(2).capacity(3), &["only one", "leave"]),
        (|it| it.capacity(1).weigher(|_, _| 1), &["weigher", "weight_capacity"]),
        (|it| it.capacity(1).lifetime(Lifetime::ttl(Duration::ZERO)), &["ttl", "Lifetime::forever()"]),
        (|it| it.capacity(1).lifetime(TTL.time_to_idle(Duration::ZERO)), &["time_to_idle", "leave it out"]),
        (|it| it.capacity(1).lifetime(TTL.jitter(1.0)), &["jitter", "0.0", "1.0"]),
        (|it| it.capacity(1).lifetime(TTL.jitter(-0.1)), &["jitter", "-0.1"]),
        (|it| it.capacity(1).lifetime(TTL.jitter(f64::NAN)), &["jitter", "NaN"]),
        (|it| it.capacity(1).lifetime(TTL).refresh_ahead(0.0), &["refresh_ahead", "0.0", "1.0"]),
        (|it| it.capacity(1).lifetime(TTL).refresh_ahead(1.0), &["refresh_ahead", "0.0", "1.0"]),
        (|it| it.capacity(1).lifetime(TTL).refresh_ahead(f64::NAN), &["refresh_ahead", "0.0", "1.0"]),
        (|it| it.capacity(1).lifetime(TTL).early_refresh(0.0), &["early_refresh", "1.0"]),
        (|it| it.capacity(1).lifetime(TTL).early_refresh(f64::INFINITY), &["early_refresh", "finite"]),
        (|it| it.capacity(1).refresh_ahead(0.5), &["ttl", "Lifetime::ttl"]),
        (|it| it.capacity(1).load_timeout(Duration::ZERO), &["zero", "leave it out"]),
        (|it| it.capacity(1).refresh_timeout(Duration::ZERO), &["zero", "leave it out"]),
        (|it| it.capacity(1).wait_at_most(Duration::ZERO), &["zero", "leave it out"]),
        (|it| it.capacity(1).negative_ttl(Duration::ZERO), &["negative_ttl", "leave it out"]),
        (|it| it.capacity(1).backoff(2 * SECOND, SECOND), &["backoff", "base <= max"]),
        (
            |it| it.capacity(1).refresh_pool(RefreshPool::new(1)).max_refreshes(2),
            &["refresh_pool", "leave max_refreshes"],
        ),
    ];
    for (number, (change, words)) in refused.iter().enumerate() {
        let error = change(Cache::builder()).build().expect_err(&format!("case {number}"));
        assert!(error.is_config() && !error.is_timeout(), "case {number}");
        let message = error.to_string();
        assert!(words.iter().all(|word| message.contains(word)), "case {number}: {message}");
        assert!(format!("{error:?}").contains(&message));
    }
    let more: [Change; 4] = [
        |it| it.capacity(1).soft_timeout(Duration::ZERO),
        |it| it.capacity(1).backoff(SECOND, Duration::MAX),
        |it| it.capacity(1).refresh_pool(RefreshPool::new(1)).spawner(Workers::new()),
        |it| it.capacity(1).lifetime(Lifetime::forever().time_to_idle(SECOND)).early_refresh(-1.0),
    ];
    assert!(more.iter().all(|change| change(Cache::builder()).build().is_err_and(|error| error.is_config())));
}

#[test]
fn refreshing_ahead_without_a_ttl_is_refused_also_when_there_are_windows() {
    let built = Cache::<u32, u64>::builder()
        .capacity(1)
        .lifetime(Lifetime::forever().stale_while_revalidate(SECOND))
        .refresh_ahead(0.5)
        .build();
    assert!(built.is_err_and(|error| error.is_config()), "there is no ttl to be ahead of");
}

#[test]
fn what_is_right_is_not_refused() {
    let right: [Change; 8] = [
        |it| it.capacity(1),
        |it| it.weight_capacity(u64::MAX).weigher(|_, value| *value),
        |it| it.unbounded().lifetime(Lifetime::ttl(Duration::from_secs(86_400)).jitter(0.999)),
        |it| it.capacity(usize::MAX),
        |it| it.capacity(1).refresh_timeout(None).max_refreshes(0),
        |it| it.capacity(1).max_waiters(0),
        |it| it.capacity(1).backoff(Duration::ZERO, Duration::ZERO),
        |it| it.capacity(1).lifetime(Lifetime::ttl(SECOND)).refresh_ahead(0.01).early_refresh(1e9),
    ];
    for (number, change) in right.iter().enumerate() {
        let cache = change(Cache::builder()).build().unwrap_or_else(|error| panic!("case {number}: {error}"));
        cache.insert(1, 1);
        assert_eq!(cache.peek(&1), Some(1), "case {number}");
    }
}

#[test]
fn get_is_complete_with_a_loader_of_the_caches_own() {
    let loads = Count::default();
    let counted = loads.clone();
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let cache: Cache<u32, u64> = Cache::builder()
        .capacity(10)
        .lifetime(Lifetime::ttl(10 * SECOND).stale_while_revalidate(10 * SECOND))
        .loader(move |key: &u32| {
            let round = counted.add() as u64;
            if *key == 9 { Err(std::io::Error::other("nine")) } else { Ok(u64::from(*key) * 100 + round) }
        })
        .clock(clock.clone())
        .spawner(hand.clone())
        .build()
        .unwrap();
    assert_eq!((cache.get(&1), cache.get(&1), cache.try_get(&1).unwrap()), (Some(101), Some(101), 101));
    assert_eq!(cache.get(&9), None);
    let error = cache.try_get(&9).unwrap_err();
    assert_eq!(error.load_error().unwrap().to_string(), "nine");
    assert_eq!(loads.get(), 3);
    clock.advance(10 * SECOND);
    assert_eq!(cache.get(&1), Some(101), "stale, and at once");
    hand.run();
    assert_eq!(cache.get(&1), Some(104), "refreshed behind");
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.loaded, stats.stale, stats.failed, stats.misses), (3, 1, 1, 2, 0));
}

#[test]
fn without_a_loader_get_finds_or_misses_and_try_get_says_what_is_lacking() {
    let clock = ManualClock::new();
    let cache: Cache<u32, u64> = Cache::builder()
        .capacity(10)
        .lifetime(Lifetime::ttl(SECOND).stale_while_revalidate(SECOND).stale_if_error(MINUTE))
        .clock(clock.clone())
        .build()
        .unwrap();
    assert_eq!(cache.get(&1), None);
    let error = cache.try_get(&1).unwrap_err();
    assert!(error.to_string().contains("builder"), "{error}");
    cache.insert(1, 1);
    clock.advance(SECOND);
    assert_eq!(cache.get(&1), Some(1), "stale is served, though nobody can refresh it");
    assert_eq!(cache.stats().refreshes_skipped.no_loader, 1);
    clock.advance(SECOND);
    assert_eq!(cache.get(&1), Some(1), "nobody can load: what is good after a failure is good now");
    let stats = cache.stats();
    assert_eq!((stats.misses, stats.stale, stats.fallback), (1, 1, 1));
}

#[test]
fn loader_with_sees_what_there_was() {
    let clock = ManualClock::new();
    let cache: Cache<u32, u64> = Cache::builder()
        .capacity(10)
        .lifetime(Lifetime::ttl(SECOND).stale_if_error(MINUTE))
        .loader_with(|_: &u32, previous: Option<everfresh::Previous<u64>>| match previous {
            None => Ok::<_, std::io::Error>(Load::from(Loaded::new(1).token("first"))),
            Some(previous) if previous.token.as_deref() == Some("first") && previous.value == 1 => {
                Ok(Load::NotModified)
            }
            Some(_) => Ok(Load::Absent),
        })
        .clock(clock.clone())
        .build()
        .unwrap();
    assert_eq!(cache.get(&1), Some(1));
    clock.advance(2 * SECOND);
    assert_eq!(cache.get(&1), Some(1));
    assert_eq!((cache.stats().revalidated, cache.stats().loads.not_modified), (1, 1));
    assert_eq!(cache.peek(&1), Some(1));
    cache.insert(1, 5);
    clock.advance(2 * SECOND);
    assert!(cache.try_get(&1).unwrap_err().is_absent());
    assert_eq!(cache.peek(&1), None);
}

#[test]
fn an_asynchronous_loader_serves_both_doors() {
    within_a_minute(|| {
        let cache: Cache<u32, u64> = Cache::builder()
            .capacity(10)
            .async_loader(|key: u32| async move { Ok::<_, std::io::Error>(u64::from(key) + 1) })
            .build()
            .unwrap();
        assert_eq!(cache.get(&1), Some(2), "a plain thread may wait");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            assert_eq!(cache.get_async(&2).await.unwrap(), 3);
            assert_eq!(cache.get_async(&2).await.unwrap(), 3);
            assert_eq!(cache.get(&2), Some(3), "a hit needs no waiting");
            let error = cache.try_get(&3).unwrap_err();
            assert!(error.to_string().contains("async call"), "{error}");
            assert_eq!(cache.get(&3), None);
        });
        assert_eq!(cache.stats().lookups(), 6, "every lookup has an outcome, also at the wrong door");
    });
}

#[test]
fn l3_a_runtime_of_one_thread_that_nobody_drives_holds_up_no_caller() {
    within_a_minute(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (clock, at_home) = (ManualClock::new(), runtime.handle().id());
        let cache: Cache<u32, u64> = {
            let _within = runtime.enter();
            Cache::builder()
                .capacity(10)
                .lifetime(Lifetime::ttl(SECOND).stale_while_revalidate(MINUTE))
                .clock(clock.clone())
                .async_loader(move |key: u32| async move {
                    assert_eq!(tokio::runtime::Handle::current().id(), at_home, "timers are those of the home");
                    tokio::task::yield_now().await;
                    u64::from(key)
                })
                .build()
                .unwrap()
        };
        assert_eq!(cache.try_get(&1).unwrap(), 1);
        assert_eq!(cache.warm([2]), 1);
        cache.insert(1, 7);
        clock.advance(SECOND);
        assert_eq!(cache.get(&1), Some(7));
        cache.settle();
        assert_eq!(cache.get(&1), Some(1), "refreshed");
        assert_eq!(cache.close(MINUTE), 0);
    });
}

#[test]
fn an_asynchronous_loader_is_told_what_there_was_too() {
    let clock = ManualClock::new();
    let cache: Cache<u32, u64> = Cache::builder()
        .capacity(10)
        .lifetime(Lifetime::ttl(SECOND).stale_if_error(MINUTE))
        .async_loader_with(|_: u32, previous: Option<everfresh::Previous<u64>>| async move {
            Ok::<_, std::io::Error>(previous.map_or(1, |previous| previous.value + previous.age.as_secs()))
        })
        .clock(clock.clone())
        .build()
        .unwrap();
    let get = || {
        let got = poll_once(std::pin::pin!(cache.get_async(&1)));
        assert!(got.is_ready());
        cache.peek(&1)
    };
    assert_eq!(get(), Some(1));
    clock.advance(5 * SECOND);
    assert_eq!(get(), Some(6));
}

#[test]
fn a_loader_may_return_a_value_an_option_a_result_or_more() {
    let cache: Cache<u32, String> = Cache::builder().capacity(100).build().unwrap();
    let text = |text: &str| text.to_owned();
    assert_eq!(cache.get_or_load(&1, || "a".to_owned()).unwrap(), text("a"));
    assert_eq!(cache.get_or_load(&2, || Some("b".to_owned())).unwrap(), text("b"));
    assert_eq!(cache.get_or_load(&3, || Ok::<_, u8>("c".to_owned())).unwrap(), text("c"));
    assert_eq!(cache.get_or_load(&4, || Ok::<_, u8>(Some("d".to_owned()))).unwrap(), text("d"));
    assert_eq!(cache.get_or_load(&5, || Loaded::new("e".to_owned())).unwrap(), text("e"));
    assert_eq!(cache.get_or_load(&6, || Ok::<_, u8>(Loaded::new("f".to_owned()))).unwrap(), text("f"));
    assert_eq!(cache.get_or_load(&7, || Load::Loaded(Loaded::new("g".to_owned()))).unwrap(), text("g"));
    assert!(cache.get_or_load(&8, || None::<String>).unwrap_err().is_absent());
    assert!(cache.get_or_load(&8, || Ok::<_, u8>(None::<String>)).unwrap_err().is_absent());
    assert!(cache.get_or_load(&8, || Load::<String>::Absent).unwrap_err().is_absent());
    assert!(cache.get_or_load(&8, || Load::<String>::NotModified).unwrap_err().is_absent());
    assert!(matches!(cache.get_or_load(&8, || Err::<String, u8>(3)), Err(LoadError::Load(error)) if *error == 3));
    assert_eq!(cache.len(), 7);
}

#[test]
fn a_loader_that_borrows_runs_here_and_starts_no_refresh() {
    let clock = ManualClock::new();
    let cache: Cache<u32, usize> = Cache::builder()
        .capacity(10)
        .lifetime(Lifetime::ttl(SECOND).stale_while_revalidate(SECOND))
        .clock(clock.clone())
        .build()
        .unwrap();
    let text = String::from("borrowed");
    let answer = cache.lookup(&1).load_inline(|previous| {
        assert!(previous.is_none());
        text.len()
    });
    assert_eq!(answer.unwrap().value, 8);
    clock.advance(SECOND);
    let answer = cache.lookup(&1).load_inline(|_| text.len() + 1).unwrap();
    assert_eq!((answer.value, answer.outcome, answer.refresh), (8, Outcome::Stale, RefreshStatus::NoLoader));
    clock.advance(SECOND);
    let answer = cache.lookup(&1).load_inline(|_| text.len() + 2).unwrap();
    assert_eq!((answer.value, answer.outcome), (10, Outcome::Loaded));
}

#[test]
fn max_stale_narrows_what_is_served_without_waiting() {
    let clock = ManualClock::new();
    let cache: Cache<u32, u64> = Cache::builder()
        .capacity(10)
        .lifetime(Lifetime::ttl(10 * SECOND).stale_while_revalidate(MINUTE).stale_if_error(10 * MINUTE))
        .clock(clock.clone())
        .max_refreshes(0)
        .build()
        .unwrap();
    cache.insert(1, 1);
    clock.advance(15 * SECOND);
    let narrow = || cache.lookup(&1).max_stale(5 * SECOND);
    assert_eq!(narrow().peek().unwrap().outcome, Outcome::Stale, "just at the bound");
    assert_eq!(narrow().load(|| 2_u64).unwrap().outcome, Outcome::Stale);
    clock.advance(Duration::from_nanos(1));
    assert!(narrow().peek().is_none());
    assert!(narrow().load_inline(|_| Err::<u64, _>("bad")).is_err(), "not even after a failure");
    assert_eq!(cache.lookup(&1).peek().unwrap().value, 1, "others may still have it");
    assert_eq!(cache.lookup(&1).max_stale(Duration::ZERO).load_inline(|_| 3_u64).unwrap().value, 3);
    assert_eq!(cache.lookup(&1).max_stale(Duration::ZERO).load(|| 4_u64).unwrap().outcome, Outcome::Hit);
}

/// With ten minutes in which the old value may be served after a failure.
fn five_seconds_past_a_ttl_of_ten() -> (ManualClock, Cache<u32, u64>) {
    let clock = ManualClock::new();
    let cache: Cache<u32, u64> = Cache::builder()
        .capacity(10)
        .lifetime(Lifetime::ttl(10 * SECOND).stale_if_error(10 * MINUTE))
        .clock(clock.clone())
        .build()
        .unwrap();
    cache.insert(1, 1);
    clock.advance(15 * SECOND);
    (clock, cache)
}

#[test]
fn with_max_stale_a_load_comes_first_also_while_its_key_is_left_alone() {
    let (_, cache) = five_seconds_past_a_ttl_of_ten();
    let fails = || Err::<u64, _>("down");
    assert_eq!(cache.get_or_load(&1, fails).unwrap(), 1);
    assert_eq!(cache.get_or_load(&1, || 2_u64).unwrap(), 1, "it is left alone");
    assert_eq!(cache.lookup(&1).max_stale(MINUTE).load(|| 3_u64).unwrap().value, 3);
}

#[test]
fn max_stale_holds_at_the_end_of_a_failing_load_too() {
    let (clock, cache) = five_seconds_past_a_ttl_of_ten();
    let slowly = |took| {
        cache.lookup(&1).max_stale(10 * SECOND).load_inline(|_| {
            clock.advance(took);
            Err::<u64, _>("down")
        })
    };
    assert_eq!(slowly(5 * SECOND).unwrap().outcome, Outcome::Fallback, "just at the bound");
    assert!(slowly(Duration::from_nanos(1)).is_err(), "beyond it when the load had failed");
    assert_eq!(cache.get(&1), Some(1), "others may still have it");
}

#[test]
fn bypass_loads_whatever_there_is_and_stores_it() {
    let cache: Cache<u32, u64> = Cache::builder().capacity(10).build().unwrap();
    cache.insert(1, 1);
    let answer = cache.lookup(&1).bypass().load(|| 2_u64).unwrap();
    assert_eq!((answer.value, answer.outcome), (2, Outcome::Bypass));
    assert_eq!(cache.get(&1), Some(2));
    assert!(cache.lookup(&1).bypass().load(|| Err::<u64, _>("bad")).is_err(), "it asked for a load, not for the old");
    assert_eq!(cache.get(&1), Some(2));
    assert_eq!(cache.stats().bypass, 1);
}

#[test]
fn peek_and_contains_and_entries_change_nothing() {
    let clock = ManualClock::new();
    let cache: Cache<u32, u64> = Cache::builder()
        .capacity(2)
        .eviction(everfresh::Eviction::Lru)
        .lifetime(Lifetime::ttl(10 * SECOND).stale_while_revalidate(10 * SECOND))
        .clock(clock.clone())
        .build()
        .unwrap();
    cache.insert(1, 1);
    cache.insert(2, 2);
    assert_eq!((cache.peek(&1), cache.contains(&1), cache.peek(&3), cache.contains(&3)), (Some(1), true, None, false));
    assert_eq!(cache.lookup(&1).peek().unwrap().age, Duration::ZERO);
    let mut entries = cache.entries();
    entries.sort_unstable();
    assert_eq!(entries, [(1, 1), (2, 2)]);
    cache.insert(3, 3);
    assert!(!cache.contains(&1), "to look is not to use");
    clock.advance(15 * SECOND);
    assert_eq!((cache.peek(&2), cache.entries().len()), (Some(2), 2), "stale ones may be served");
    clock.advance(5 * SECOND);
    assert_eq!((cache.peek(&2), cache.entries().len()), (None, 0));
    assert_eq!(cache.stats().lookups(), 0);
    assert_eq!(cache.stats().refreshes_started, 0);
}

#[test]
fn clones_are_handles_to_one_cache_and_all_of_it_can_be_printed() {
    let cache: Cache<u32, u64> = Cache::builder().weight_capacity(100).weigher(|_, value| *value).build().unwrap();
    let other = cache.clone();
    other.insert(1, 30);
    assert_eq!((cache.get(&1), cache.weight(), cache.len(), cache.is_empty()), (Some(30), 30, 1, false));
    assert_eq!((cache.stats().capacity, cache.stats().weight, cache.stats().entries), (Some(100), 30, 1));
    assert_eq!(Cache::<u32, u32>::builder().unbounded().build().unwrap().stats().capacity, None);
    let printed = format!(
        "{cache:?} {:?} {:?} {:?} {:?}",
        cache.lookup(&1),
        Cache::<u32, u32>::builder(),
        RefreshPool::new(3),
        cache.refresh(&1),
    );
    assert!(printed.contains("Cache") && printed.contains("max: 3") && printed.contains("NoLoader"), "{printed}");
}

#[test]
fn errors_are_errors_and_small() {
    fn is_error<T: std::error::Error + Clone + Send + Sync + 'static>(_: &T) {}
    let error = Cache::<u32, u64>::builder().build().unwrap_err();
    is_error(&error);
    assert!(size_of::<everfresh::Error>() <= 32);
    let cache: Cache<u32, u64> = Cache::builder().capacity(1).build().unwrap();
    let error: LoadError<std::io::Error> =
        cache.get_or_load(&1, || Err::<u64, _>(std::io::Error::other("why"))).unwrap_err();
    is_error(&error);
    let boxed: Box<dyn std::error::Error + Send + Sync> = error.into();
    assert_eq!(boxed.to_string(), "why");
}

#[test]
fn r7_a_refresh_handle_can_be_awaited() {
    let hand = Hand::default();
    let cache: Cache<u32, u64> = Cache::builder().capacity(10).spawner(hand.clone()).build().unwrap();
    let refreshing = cache.refresh_with_async(&1, || async { 5_u64 });
    assert_eq!(refreshing.status(), RefreshStatus::Started);
    let mut waiting = std::future::IntoFuture::into_future(refreshing);
    assert!(poll_once(waiting.as_mut()).is_pending());
    hand.run();
    assert!(matches!(poll_once(waiting.as_mut()), std::task::Poll::Ready(Some(Ending::Stored))));
    assert_eq!(cache.get(&1), Some(5));
}

#[test]
fn settling_waits_for_all_that_runs_behind_and_ends_nothing() {
    within_a_minute(|| {
        let cache: Cache<u32, u64> = Cache::builder().capacity(100).build().unwrap();
        cache.settle();
        for round in 0..50 {
            let gate = Gate::default();
            for key in 0..4 {
                let gate = gate.clone();
                let load = move || {
                    gate.pass();
                    round
                };
                assert_eq!(cache.refresh_with(&key, load).status(), RefreshStatus::Started);
            }
            let settled = {
                let cache = cache.clone();
                std::thread::spawn(move || cache.settle())
            };
            assert!(!settled.is_finished());
            gate.open();
            settled.join().unwrap();
            assert!((0..4).all(|key| cache.get(&key) == Some(round)));
        }
    });
}

#[test]
fn a_lookup_in_a_task_is_send_whatever_its_loader_is_made_of() {
    type Later = std::pin::Pin<Box<dyn Future<Output = Result<u64, everfresh::BoxError>> + Send>>;

    fn behind(cache: Cache<u64, u64>, key: u64, load: Box<dyn FnOnce() -> Later + Send>) -> Later {
        Box::pin(async move { Ok(cache.get_or_load_async(&key, load).await?) })
    }

    fn looked_up(cache: Cache<u64, u64>, key: u64, load: Box<dyn FnOnce() -> Later + Send>) -> Later {
        Box::pin(async move { Ok(cache.lookup(&key).load_async(load).await?.value) })
    }

    let cache = Cache::builder().capacity(10).build().unwrap();
    let load =
        |value: u64| -> Box<dyn FnOnce() -> Later + Send> { Box::new(move || Box::pin(async move { Ok(value) })) };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(runtime.block_on(behind(cache.clone(), 1, load(7))).unwrap(), 7);
    assert_eq!(runtime.block_on(looked_up(cache, 1, load(8))).unwrap(), 7);
}

/// A hasher with a shortcut for whole values, as some have for some types: it differs from type to type.
#[derive(Clone, Default)]
struct Shortcut(ahash::RandomState);

impl std::hash::BuildHasher for Shortcut {
    type Hasher = ahash::AHasher;

    fn build_hasher(&self) -> ahash::AHasher {
        self.0.build_hasher()
    }

    fn hash_one<T: std::hash::Hash>(&self, _: T) -> u64 {
        size_of::<T>() as u64
    }
}

#[test]
fn a_key_is_found_by_its_borrowed_form_whatever_shortcuts_the_hasher_has() {
    let cache: Cache<String, u64, Shortcut> =
        Cache::builder().capacity(10).hasher(Shortcut::default()).build().unwrap();
    cache.insert("a".to_owned(), 1);
    assert_eq!(cache.get("a"), Some(1));
}

#[test]
fn r2_work_that_is_polled_on_a_worker_goes_on_though_code_in_it_has_blocked_and_taken_a_wake() {
    within_a_minute(|| {
        let cache: Cache<u32, u64> = Cache::builder().capacity(10).refresh_timeout(None).build().unwrap();
        let load = || async {
            let bell = Arc::new((AtomicBool::new(false), AtomicWaker::new()));
            let heard = std::future::poll_fn(|cx| {
                bell.1.register(cx.waker());
                if bell.0.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
            });
            let blocks = async {
                let rings = Arc::clone(&bell);
                let ringing = std::thread::spawn(move || {
                    rings.0.store(true, Ordering::SeqCst);
                    rings.1.wake();
                });
                ringing.join().unwrap();
                // As does whatever waits for something else on this thread, a channel or another lookup: it has what it waited for, and
                // the thread's token is gone.
                std::thread::current().unpark();
                std::thread::park();
            };
            futures_util::future::join(heard, blocks).await;
            7_u64
        };
        assert_eq!(cache.refresh_with_async(&1, load).wait(), Some(Ending::Stored));
        assert_eq!(cache.get(&1), Some(7));
    });
}

#[test]
fn a_builder_may_be_kept_across_an_await_of_a_task() {
    fn is_kept_by_a_task(_: &(impl Future<Output = ()> + Send)) {}
    fn is_shared_by_threads(_: &(impl Send + Sync)) {}
    let later = async {
        let builder = Cache::<u32, u64>::builder().spawner(everfresh::Workers::new());
        tokio::task::yield_now().await; // its capacity is read from a file
        builder.capacity(10).build().unwrap();
    };
    is_kept_by_a_task(&later);
    is_shared_by_threads(&Cache::<u32, u64>::builder());
}

#[test]
fn l3_a_cache_may_be_used_across_a_panic_that_is_caught() {
    let (cache, pool) = (Cache::<String, u64>::builder().capacity(10).build().unwrap(), RefreshPool::new(1));
    let panicked = std::panic::catch_unwind(|| {
        assert_eq!(pool.max_refreshes(), 1);
        cache.get_or_load("a", || -> u64 { panic!("the loader") })
    });
    assert!(panicked.is_err());
    assert_eq!(cache.get_or_load("a", || 1_u64).unwrap(), 1);
}
