//! Behind a cache: the hazards of `reference` systems, a test each (numbers as in the notes on pyresilience, §11).

use std::sync::Arc;

use everfresh::{Cache, Lifetime, TokioClock};
use everfresh_resilience::{Bulkhead, CircuitBreaker, Error, RateLimit, Registry, Retry, Timeout};
use futures_util::{future::join_all, poll};

use crate::support::*;

const TRICE: Retry = Retry::attempts(3).base(SECOND).without_jitter();

fn key() -> String {
    "a".to_owned()
}

/// Hazards 1 and 14: no single flight for tasks; misses counted per waiter.
#[tokio::test(start_paused = true)]
async fn a_hundred_callers_of_a_cold_key_make_one_run() {
    let (calls, ear) = (Calls::default(), Ear::default());
    let policy = builder().retry(TRICE).timeout(MINUTE).listener(ear.listener()).cache(cache()).build().unwrap();
    let key = key();
    for round in 1..=2 {
        let values = join_all((0..100).map(|_| policy.call(&key, calls.slow(SECOND)))).await;
        assert!(values.into_iter().all(|value| value.unwrap() == round));
        assert_eq!(calls.count() as u32, round);
        let names = ear.names();
        let count = |name| names.iter().filter(|it| **it == name).count();
        assert_eq!((count("cache_miss"), count("cache_coalesced"), count("success")), (1, 99, 1));
        // Past every window, for a second round at expiry.
        tokio::time::advance(20 * MINUTE).await;
    }
}

/// Hazard 1, on a runtime of several threads, with callers that come at any time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_tasks_on_many_threads_make_one_run() {
    for _ in 0..50 {
        let cache: Cache<String, u32> = Cache::builder().capacity(10).build().unwrap();
        let policy = Plain::builder().retry(TRICE).timeout(MINUTE).cache(cache).build().unwrap();
        let calls = Calls::default();
        let callers: Vec<_> = (0..100)
            .map(|_| {
                let (policy, calls) = (policy.clone(), calls.clone());
                tokio::spawn(async move {
                    let function = move || {
                        let number = calls.one_more() as u32;
                        async move {
                            tokio::task::yield_now().await;
                            Ok(number)
                        }
                    };
                    policy.call(&"a".to_owned(), function).await.unwrap()
                })
            })
            .collect();
        for caller in callers {
            assert_eq!(caller.await.unwrap(), 1);
        }
        assert_eq!(calls.count(), 1);
    }
}

/// Hazard 1, stale: one refresh, nobody waits.
#[tokio::test(start_paused = true)]
async fn a_hundred_callers_of_a_stale_key_start_one_refresh() {
    let calls = Calls::default();
    let policy = builder().cache(cache()).build().unwrap();
    let key = key();
    policy.call(&key, calls.numbered()).await.unwrap();
    tokio::time::advance(MINUTE).await;
    let (values, took) = timed(join_all((0..100).map(|_| policy.call(&key, calls.slow(SECOND))))).await;
    assert!(values.into_iter().all(|value| value.unwrap() == 1));
    assert_eq!(took, ms(0));
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(calls.count(), 2);
    assert_eq!(policy.call(&key, calls.numbered()).await.unwrap(), 2);
}

/// Hazard 2: eight callers of a failing function, one after the other.
#[tokio::test(start_paused = true)]
async fn a_failure_is_shared_by_all_who_waited() {
    let (calls, ear) = (Calls::default(), Ear::default());
    let policy = builder().retry(TRICE).listener(ear.listener()).cache(cache()).build().unwrap();
    let key = key();
    let function = || {
        let calls = calls.clone();
        move || {
            let number = calls.one_more() as u32;
            async move {
                tokio::time::sleep(ms(100)).await;
                Err(Broken(number))
            }
        }
    };
    let (results, took) = timed(join_all((0..8).map(|_| policy.call(&key, function())))).await;
    assert_eq!((calls.count(), took), (3, ms(100 + 1000 + 100 + 2000 + 100)), "three attempts of one call");
    let first = Arc::clone(results[0].as_ref().unwrap_err());
    assert!(matches!(*first, Error::Inner(Broken(3))));
    assert!(results.iter().all(|result| Arc::ptr_eq(result.as_ref().unwrap_err(), &first)));
    let names = ear.names();
    let count = |name| names.iter().filter(|it| **it == name).count();
    assert_eq!(
        (count("cache_miss"), count("cache_coalesced")),
        (1, 7),
        "seven waited, and none of them is told to have missed"
    );
}

/// Hazard 3: ten thousand failures left ten thousand locks.
#[tokio::test(start_paused = true)]
async fn failures_leave_nothing_behind() {
    let policy = builder().cache(cache()).build().unwrap();
    for number in 0..10_000_u32 {
        policy.call(&number.to_string(), || async { Err(Broken(0)) }).await.unwrap_err();
    }
    assert_eq!((policy.cache().len(), policy.health().in_flight), (0, 0));
}

/// Hazards 3 and 4: cancelled and panicking leaders.
#[tokio::test(start_paused = true)]
async fn a_leader_that_goes_away_or_panics_hands_over() {
    let calls = Calls::default();
    let policy = builder().cache(cache()).build().unwrap();
    let key = key();
    let mut leader = Box::pin(policy.call(&key, calls.slow(SECOND)));
    assert!(poll!(&mut leader).is_pending());
    let mut waiter = Box::pin(policy.call(&key, calls.slow(SECOND)));
    assert!(poll!(&mut waiter).is_pending());
    drop(leader);
    assert_eq!(waiter.await.unwrap(), 2);
    assert_eq!((calls.count(), policy.health().in_flight), (2, 0));

    let panicking = policy.clone();
    let panicked = tokio::spawn(async move {
        let function = || async { panic!("on purpose") };
        panicking.call(&"b".to_owned(), function).await
    });
    assert!(panicked.await.is_err());
    assert_eq!(policy.call(&"b".to_owned(), calls.numbered()).await.unwrap(), 3);
    assert_eq!(policy.health().in_flight, 0);
}

/// Hazard 5: waiting was outside of every timeout.
#[tokio::test(start_paused = true)]
async fn waiting_for_anothers_load_is_bounded_too() {
    let cache: Cache<String, u32> =
        Cache::builder().capacity(10).wait_at_most(SECOND).clock(TokioClock::new()).build().unwrap();
    let policy = builder().cache(cache).build().unwrap();
    let key = key();
    let (results, took) = timed(join_all((0..6).map(|_| policy.call(&key, Calls::default().slow(MINUTE))))).await;
    assert_eq!(took, SECOND);
    for result in results {
        let error = result.unwrap_err();
        let Error::Front(front) = &*error else { panic!("{error:?}") };
        assert!(front.downcast_ref::<everfresh::Error>().unwrap().is_timeout());
    }
}

/// Hazard 6: the same key from inside its own load.
#[tokio::test(start_paused = true)]
async fn a_function_that_asks_for_its_own_key_is_told() {
    let policy = builder().cache(cache()).build().unwrap();
    let inner = policy.clone();
    let function = move || {
        let inner = inner.clone();
        async move {
            let error = inner.call(&"a".to_owned(), || async { Ok(1) }).await.unwrap_err();
            assert!(matches!(&*error, Error::Front(_)));
            Err(Broken(6))
        }
    };
    assert!(matches!(*policy.call(&key(), function).await.unwrap_err(), Error::Inner(Broken(6))));
}

/// Hazard 7: what was invalidated came back.
#[tokio::test(start_paused = true)]
async fn an_invalidation_beats_the_load_that_is_under_way() {
    let calls = Calls::default();
    let policy = builder().retry(TRICE).cache(cache()).build().unwrap();
    let key = key();
    let mut old = Box::pin(policy.call(&key, calls.slow(SECOND)));
    assert!(poll!(&mut old).is_pending());
    policy.cache().invalidate(&key);
    assert_eq!(old.await.unwrap(), 1);
    assert_eq!(policy.cache().get(&key), None);
    assert_eq!(policy.call(&key, calls.numbered()).await.unwrap(), 2);
}

/// Hazard 8: fallback values and rejected results were stored for a whole ttl.
#[tokio::test(start_paused = true)]
async fn neither_a_fallbacks_value_nor_a_rejected_one_is_stored() {
    let calls = Calls::default();
    let policy = builder()
        .retry(TRICE)
        .retry_if(|result| !matches!(result, Ok(value) if *value > 6))
        .fallback(|_| Some(1000))
        .cache(cache())
        .build()
        .unwrap();
    let key = key();
    assert_eq!(policy.call(&key, calls.failing()).await.unwrap(), 1000);
    assert_eq!(policy.cache().get(&key), None);
    assert_eq!(policy.call(&key, calls.numbered()).await.unwrap(), 6, "rejected three times, returned, not stored");
    assert_eq!(policy.cache().get(&key), None);
    assert_eq!(policy.call(&key, calls.numbered()).await.unwrap(), 7);
    assert_eq!(policy.cache().get(&key), Some(7));
}

/// Hazard 8 again: those who wait for a load that is rejected get the value, too.
#[tokio::test(start_paused = true)]
async fn a_rejected_value_reaches_all_who_waited() {
    let calls = Calls::default();
    let policy = builder().retry_if(|_| true).cache(cache()).build().unwrap();
    let key = key();
    let values = join_all((0..5).map(|_| policy.call(&key, calls.slow(SECOND)))).await;
    assert!(values.into_iter().all(|value| value.unwrap() == 1));
    assert_eq!(calls.count(), 1);
    assert!(policy.cache().is_empty());
}

/// Hazards 9 and 11: keys by `repr`, and 1 == 1.0 == True. Typed keys have neither.
#[tokio::test(start_paused = true)]
async fn keys_are_typed_and_compared_in_full() {
    type Key = (Vec<u8>, String, String);
    let cache: Cache<Key, u32> = Cache::builder().capacity(10).build().unwrap();
    let policy = builder().cache(cache).build().unwrap();
    let calls = Calls::default();
    let one = (vec![], "0|E:1".to_owned(), String::new());
    let other = (vec![], "0".to_owned(), "E:1".to_owned());
    let (mut zeros, ones) = (vec![0_u8; 5000], (vec![0_u8; 5000], String::new(), String::new()));
    zeros[2500] = 1;
    for (number, key) in [one, other, (zeros, String::new(), String::new()), ones].iter().enumerate() {
        assert_eq!(policy.call(key, calls.numbered()).await.unwrap(), number as u32 + 1);
    }
}

/// Hazard 10: a registry that shared a cache gave one function another's values.
#[tokio::test(start_paused = true)]
async fn a_registry_shares_circuits_and_never_a_cache() {
    let registry = Registry::with_clock(TokioClock::new());
    let make = || {
        let breaker = CircuitBreaker::consecutive(1);
        Plain::builder().registry(&registry, "backend").circuit_breaker(breaker).cache(cache()).build().unwrap()
    };
    let (users, orders) = (make(), make());
    let key = "1".to_owned();
    assert_eq!(users.call(&key, || async { Ok(10) }).await.unwrap(), 10);
    assert_eq!(orders.call(&key, || async { Ok(20) }).await.unwrap(), 20);
    users.call(&"2".to_owned(), || async { Err(Broken(1)) }).await.unwrap_err();
    let refused = orders.call(&"2".to_owned(), || async { Ok(20) }).await.unwrap_err();
    assert!(matches!(*refused, Error::CircuitOpen { .. }));
    assert_eq!(orders.call(&key, || async { Ok(21) }).await.unwrap(), 20);
}

/// Hazard 12: the cache kept its callers alive.
#[tokio::test(start_paused = true)]
async fn nothing_of_a_call_is_kept_when_it_has_ended() {
    let policy = builder().retry(TRICE).timeout(SECOND).cache(cache()).build().unwrap();
    let service = Arc::new(());
    let held = Arc::clone(&service);
    let function = move || {
        let _service = &held;
        async { Ok(1) }
    };
    policy.call(&key(), function).await.unwrap();
    assert_eq!(Arc::strong_count(&service), 1);
}

/// Hazard 13: changing what one caller got changed it for all.
#[tokio::test(start_paused = true)]
async fn each_caller_owns_what_it_gets() {
    let cache: Cache<String, Vec<u32>> = Cache::builder().capacity(10).build().unwrap();
    let policy = everfresh_resilience::Policy::<Vec<u32>, Broken>::builder().cache(cache).build().unwrap();
    let mut mine = policy.call(&key(), || async { Ok(vec![1]) }).await.unwrap();
    mine.push(2);
    assert_eq!(policy.call(&key(), || async { Ok(vec![]) }).await.unwrap(), [1]);
}

/// Hazard 14: a miss counted twice, and a waiter as a miss and a hit.
#[tokio::test(start_paused = true)]
async fn one_lookup_counts_once() {
    let policy = builder().cache(cache()).build().unwrap();
    let (calls, key) = (Calls::default(), key());
    join_all((0..4).map(|_| policy.call(&key, calls.slow(SECOND)))).await;
    policy.call(&key, calls.numbered()).await.unwrap();
    let stats = policy.cache().stats();
    assert_eq!((stats.loaded, stats.coalesced, stats.hits, stats.lookups()), (1, 3, 1, 5));
}

/// Hazard 17: what expired stayed until somebody asked for it.
#[tokio::test(start_paused = true)]
async fn what_has_expired_gives_its_room_back() {
    let policy = builder().cache(cache()).build().unwrap();
    for number in 0..50_u32 {
        policy.call(&number.to_string(), move || async move { Ok(number) }).await.unwrap();
    }
    tokio::time::advance(20 * MINUTE).await;
    policy.cache().reclaim();
    assert!(policy.cache().is_empty());
}

/// Hazard 21: a fallback that was asked for one error answered for all, and a missing one with nothing.
#[tokio::test(start_paused = true)]
async fn a_fallback_answers_for_what_it_was_asked_for() {
    let calls = Calls::default();
    let policy = builder()
        .circuit_breaker(CircuitBreaker::consecutive(1))
        .fallback(|error| matches!(error, Error::Inner(_)).then_some(9))
        .cache(cache())
        .build()
        .unwrap();
    assert_eq!(policy.call(&key(), calls.failing()).await.unwrap(), 9);
    assert!(matches!(*policy.call(&key(), calls.failing()).await.unwrap_err(), Error::CircuitOpen { .. }));
    let without = builder().circuit_breaker(CircuitBreaker::consecutive(1)).cache(cache()).build().unwrap();
    without.call(&key(), calls.failing()).await.unwrap_err();
    assert!(matches!(*without.call(&key(), calls.failing()).await.unwrap_err(), Error::CircuitOpen { .. }));
}

#[tokio::test(start_paused = true)]
async fn an_old_value_within_stale_if_error_comes_before_the_fallback() {
    let lifetime = Lifetime::ttl(MINUTE).stale_if_error(10 * MINUTE);
    let cache: Cache<String, u32> =
        Cache::builder().capacity(10).lifetime(lifetime).clock(TokioClock::new()).build().unwrap();
    let ear = Ear::default();
    let policy = builder().fallback(|_| Some(1000)).listener(ear.listener()).cache(cache).build().unwrap();
    let calls = Calls::default();
    policy.call(&key(), calls.numbered()).await.unwrap();
    tokio::time::advance(MINUTE).await;
    ear.take();
    assert_eq!(policy.call(&key(), calls.failing()).await.unwrap(), 1);
    assert_eq!(ear.names(), ["failure", "cache_fallback"]);
    tokio::time::advance(20 * MINUTE).await;
    assert_eq!(policy.call(&key(), calls.failing()).await.unwrap(), 1000);
}

fn remembering() -> Cache<String, u32> {
    Cache::builder().capacity(100).negative_ttl(10 * MINUTE).clock(TokioClock::new()).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_error_that_the_cache_remembers_is_told_as_that() {
    let (calls, ear) = (Calls::default(), Ear::default());
    let policy = builder().listener(ear.listener()).cache(remembering()).build().unwrap();
    let key = "a".to_owned();
    for told in [vec!["failure", "cache_miss"], vec!["cache_negative"]] {
        assert!(matches!(*policy.call(&key, calls.failing()).await.unwrap_err(), Error::Inner(Broken(1))));
        assert_eq!(ear.names(), told);
    }
    assert!(policy.call_blocking(&key, || Ok(2)).is_err());
    assert_eq!((ear.names(), calls.count()), (vec!["cache_negative"], 1));
    tokio::time::advance(10 * MINUTE).await;
    assert_eq!(policy.call(&key, calls.numbered()).await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_nothing_about_the_key_and_is_not_remembered() {
    let calls = Calls::default();
    let policy = builder().rate_limit(RateLimit::new(1, SECOND)).cache(remembering()).build().unwrap();
    policy.call(&"a".to_owned(), calls.numbered()).await.unwrap();
    let (refused, key) = ("b".to_owned(), "b".to_owned());
    assert!(matches!(*policy.call(&refused, calls.numbered()).await.unwrap_err(), Error::RateLimited { .. }));
    tokio::time::advance(SECOND).await;
    assert_eq!(policy.call(&key, calls.numbered()).await.unwrap(), 2);
    // Nor where the load runs behind a caller whose patience has an end, or on a thread.
    let cache: Cache<String, u32> = Cache::builder()
        .capacity(100)
        .negative_ttl(10 * MINUTE)
        .wait_at_most(MINUTE)
        .clock(TokioClock::new())
        .build()
        .unwrap();
    let policy = builder().rate_limit(RateLimit::new(1, SECOND)).cache(cache).build().unwrap();
    policy.call(&"a".to_owned(), calls.numbered()).await.unwrap();
    assert!(matches!(*policy.call(&key, calls.numbered()).await.unwrap_err(), Error::RateLimited { .. }));
    tokio::time::advance(SECOND).await;
    assert_eq!(policy.call(&key, calls.numbered()).await.unwrap(), 4);
    let clock = everfresh_resilience::ManualClock::new();
    let cache: Cache<String, u32> = Cache::builder().capacity(100).negative_ttl(10 * MINUTE).build().unwrap();
    let limit = RateLimit::new(1, SECOND);
    let policy = Plain::builder().rate_limit(limit).clock(clock.clone()).cache(cache).build().unwrap();
    policy.call_blocking(&"a".to_owned(), || Ok(1)).unwrap();
    assert!(matches!(*policy.call_blocking(&key, || Ok(1)).unwrap_err(), Error::RateLimited { .. }));
    clock.advance(SECOND);
    assert_eq!(policy.call_blocking(&key, || Ok(5)).unwrap(), 5);
}

#[tokio::test(start_paused = true)]
async fn time_that_ran_out_before_the_function_was_called_is_not_remembered() {
    let queues = [
        builder().bulkhead(Bulkhead::new(1).max_wait(10 * SECOND)),
        builder().rate_limit(RateLimit::new(1, 5 * SECOND).max_wait(10 * SECOND)),
    ];
    for queue in queues {
        let policy = queue.timeout(Timeout::whole(2 * SECOND)).cache(remembering()).build().unwrap();
        let (calls, busy, key) = (Calls::default(), "busy".to_owned(), "a".to_owned());
        let mut other = Box::pin(policy.call(&busy, std::future::pending));
        assert!(poll!(&mut other).is_pending());
        assert!(policy.call(&key, calls.numbered()).await.unwrap_err().is_timeout());
        drop(other);
        tokio::time::advance(5 * SECOND).await;
        assert_eq!(policy.call(&key, calls.slow(SECOND)).await.unwrap(), 1);
        // If the function was at work it is a word about the key.
        tokio::time::advance(20 * MINUTE).await;
        for _ in 0..2 {
            assert!(policy.call(&busy, calls.slow(MINUTE)).await.unwrap_err().is_timeout());
        }
        assert_eq!(calls.count(), 2, "remembered");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejected_value_is_not_remembered_either() {
    let calls = Calls::default();
    let policy = builder().retry_if(|it| matches!(it, Ok(1))).cache(remembering()).build().unwrap();
    let key = "a".to_owned();
    assert_eq!(policy.call(&key, calls.numbered()).await.unwrap(), 1, "rejected, and returned all the same");
    assert_eq!(policy.call(&key, calls.numbered()).await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_for_anothers_call_is_told_as_one_who_waited() {
    let (calls, ear) = (Calls::default(), Ear::default());
    let cache: Cache<String, u32> =
        Cache::builder().capacity(100).wait_at_most(SECOND).clock(TokioClock::new()).build().unwrap();
    let policy = builder().listener(ear.listener()).cache(cache).build().unwrap();
    let key = "a".to_owned();
    let both = tokio::join!(policy.call(&key, calls.slow(MINUTE)), policy.call(&key, calls.slow(MINUTE)));
    assert!(matches!(*both.0.unwrap_err(), Error::Front(_)) && matches!(*both.1.unwrap_err(), Error::Front(_)));
    let mut names = ear.names();
    names.sort_unstable();
    assert_eq!((calls.count(), names), (1, vec!["cache_coalesced", "cache_miss"]));
}

#[tokio::test(start_paused = true)]
async fn who_waited_for_nobody_is_not_told_as_one_who_waited() {
    let (calls, ear) = (Calls::default(), Ear::default());
    let cache: Cache<String, u32> = Cache::builder().capacity(100).max_waiters(1).build().unwrap();
    let policy = builder().listener(ear.listener()).cache(cache).build().unwrap();
    let key = key();
    let mut both: Vec<_> = (0..2).map(|_| Box::pin(policy.call(&key, calls.slow(SECOND)))).collect();
    for call in &mut both {
        assert!(poll!(call).is_pending());
    }
    assert!(matches!(*policy.call(&key, calls.numbered()).await.unwrap_err(), Error::Front(_)), "no room to wait in");
    assert_eq!(ear.names(), ["cache_miss"]);
    assert!(join_all(both).await.into_iter().all(|result| result.is_ok()));
    assert!(ear.names().contains(&"cache_coalesced"));
    let inner = policy.clone();
    let recursive = move || {
        let inner = inner.clone();
        async move {
            assert!(inner.call(&"b".to_owned(), || async { Ok(1) }).await.is_err());
            Ok(2)
        }
    };
    policy.call(&"b".to_owned(), recursive).await.unwrap();
    assert_eq!(ear.names(), ["cache_miss", "success", "cache_miss"]);
    // On a thread, too; there the function waits for nobody either.
    let inner = policy.clone();
    let recursive = move || Ok(u32::from(inner.call_blocking(&"c".to_owned(), || Ok(1)).is_err()));
    assert_eq!(policy.call_blocking(&"c".to_owned(), recursive).unwrap(), 1);
    assert_eq!(ear.names(), ["cache_miss", "success", "cache_miss"]);
}
