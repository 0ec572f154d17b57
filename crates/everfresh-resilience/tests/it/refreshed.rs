//! A refresh goes through all layers but the fallback (hazards 8, 15 and 16).

use everfresh_resilience::{Bulkhead, CircuitBreaker, CircuitState, RateLimit, Retry};

use crate::support::*;

fn key() -> String {
    "a".to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_fails_keeps_the_old_value_and_never_the_fallbacks() {
    let (calls, ear) = (Calls::default(), Ear::default());
    let policy = builder()
        .retry(Retry::attempts(3).base(ms(10)).without_jitter())
        .fallback(|_| Some(1000))
        .listener(ear.listener())
        .cache(cache())
        .build()
        .unwrap();
    policy.call(&key(), calls.numbered()).await.unwrap();
    tokio::time::advance(MINUTE).await;
    ear.take();
    assert_eq!(policy.call(&key(), calls.failing()).await.unwrap(), 1);
    tokio::time::sleep(SECOND).await;
    assert_eq!(calls.count(), 4, "three attempts, behind");
    let names = ear.names();
    assert!(!names.contains(&"fallback_used") && names.contains(&"retry_exhausted"), "{names:?}");
    assert_eq!(policy.call(&key(), calls.failing()).await.unwrap(), 1);
    assert_eq!(policy.cache().peek(&key()), Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_is_rejected_keeps_the_old_value() {
    let policy = builder().retry_if(|result| matches!(result, Ok(2))).cache(cache()).build().unwrap();
    let calls = Calls::default();
    policy.call(&key(), calls.numbered()).await.unwrap();
    tokio::time::advance(MINUTE).await;
    assert_eq!(policy.call(&key(), calls.numbered()).await.unwrap(), 1);
    tokio::time::sleep(ms(1)).await;
    assert_eq!((calls.count(), policy.cache().peek(&key())), (2, Some(1)));
}

#[tokio::test(start_paused = true)]
async fn with_an_open_circuit_no_refresh_is_started_and_the_stale_value_stays() {
    let (calls, ear) = (Calls::default(), Ear::default());
    let breaker = CircuitBreaker::consecutive(1).open_for(5 * MINUTE).close_after(1);
    let policy = builder().circuit_breaker(breaker).listener(ear.listener()).cache(cache()).build().unwrap();
    policy.call(&key(), calls.numbered()).await.unwrap();
    tokio::time::advance(MINUTE).await;
    policy.call(&"b".to_owned(), calls.failing()).await.unwrap_err();
    ear.take();
    let before = policy.cache().stats();
    for _ in 0..10 {
        assert_eq!(at_once(policy.call(&key(), calls.numbered())).unwrap().unwrap(), 1);
        assert_eq!(policy.call_blocking(&key(), || Ok(99)).unwrap(), 1, "the thread's door, too");
    }
    tokio::time::sleep(SECOND).await;
    assert_eq!(calls.count(), 2);
    assert_eq!(ear.names(), [["cache_stale", "refresh_refused"]; 20].concat());
    let after = policy.cache().stats();
    assert_eq!(after.refreshes_started, before.refreshes_started);
    let (skipped, skipped_before) = (after.refreshes_skipped, before.refreshes_skipped);
    assert_eq!(skipped.refused, skipped_before.refused + 20, "counted by its name");
    assert_eq!(skipped.no_loader, skipped_before.no_loader);
    assert_eq!(after.refreshes.failed, before.refreshes.failed, "nothing failed, so nothing backs off");

    // When the circuit is due, the next stale hit brings the probe that closes it.
    tokio::time::advance(5 * MINUTE).await;
    assert_eq!(policy.call(&key(), calls.numbered()).await.unwrap(), 1);
    tokio::time::sleep(ms(1)).await;
    assert_eq!(policy.health().circuit.unwrap().state, CircuitState::Closed);
    assert_eq!(policy.call(&key(), calls.numbered()).await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_takes_its_turn_at_the_rate_limit_and_its_place_in_the_bulkhead() {
    let calls = Calls::default();
    let policy =
        builder().rate_limit(RateLimit::new(2, 60 * MINUTE)).bulkhead(Bulkhead::new(1)).cache(cache()).build().unwrap();
    policy.call(&key(), calls.numbered()).await.unwrap();
    tokio::time::advance(MINUTE).await;
    policy.call(&key(), calls.slow(SECOND)).await.unwrap();
    tokio::time::sleep(ms(1)).await;
    let health = policy.health();
    assert_eq!((health.bulkhead.unwrap().running, health.in_flight), (1, 1), "the refresh is counted");
    tokio::time::sleep(SECOND).await;
    assert_eq!(policy.call(&key(), calls.numbered()).await.unwrap(), 2);
    // The limit is spent: the next refresh fails, and the value stays.
    tokio::time::advance(MINUTE).await;
    policy.call(&key(), calls.numbered()).await.unwrap();
    tokio::time::sleep(ms(1)).await;
    assert_eq!((calls.count(), policy.cache().peek(&key())), (2, Some(2)));
}

#[tokio::test(start_paused = true)]
async fn a_refresh_has_the_timeout_and_is_drained_by_close() {
    let (calls, ear) = (Calls::default(), Ear::default());
    let policy = builder().timeout(2 * SECOND).listener(ear.listener()).cache(cache()).build().unwrap();
    policy.call(&key(), calls.numbered()).await.unwrap();
    tokio::time::advance(MINUTE).await;
    policy.call(&key(), calls.slow(MINUTE)).await.unwrap();
    tokio::time::sleep(ms(1)).await;
    let (left, took) = timed(policy.close(MINUTE)).await;
    assert_eq!((left, took), (0, ms(1999)));
    assert!(ear.names().contains(&"timeout"));
}

#[tokio::test(start_paused = true)]
async fn a_missing_key_under_an_open_circuit_fails_at_once_and_leaves_nothing_behind() {
    let policy = builder().circuit_breaker(CircuitBreaker::consecutive(1)).cache(cache()).build().unwrap();
    policy.call(&"b".to_owned(), Calls::default().failing()).await.unwrap_err();
    for _ in 0..3 {
        let refused = at_once(policy.call(&key(), Calls::default().numbered())).unwrap().unwrap_err();
        assert!(refused.is_refusal() && refused.retry_after().is_some());
    }
    assert_eq!(policy.health().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn only_a_refresh_that_was_about_to_start_is_told_as_refused() {
    let (calls, ear) = (Calls::default(), Ear::default());
    let breaker = CircuitBreaker::consecutive(1).open_for(5 * MINUTE);
    let policy = builder().circuit_breaker(breaker).listener(ear.listener()).cache(cache()).build().unwrap();
    policy.call(&key(), calls.numbered()).await.unwrap();
    tokio::time::advance(MINUTE).await;
    policy.call(&key(), calls.slow(MINUTE)).await.unwrap();
    tokio::time::sleep(ms(1)).await;
    policy.call(&"b".to_owned(), calls.failing()).await.unwrap_err();
    ear.take();
    policy.call(&key(), calls.numbered()).await.unwrap();
    assert_eq!(ear.names(), ["cache_stale"], "its refresh is under way, open circuit or not");
    assert_eq!(policy.cache().stats().refreshes_skipped.already_running, 1);
}
