//! The fallback that takes its time: only for its caller, bounded by nobody, drained by `close`.

use everfresh_resilience::{Bulkhead, CircuitBreaker, Error, Event};
use futures_util::poll;

use crate::support::*;

/// Asks another backend, but only for the first failure.
fn elsewhere() -> everfresh_resilience::Builder<u32, Broken> {
    builder().fallback_async(|error| {
        let first = matches!(error, Error::Inner(Broken(1)) | Error::CircuitOpen { .. });
        async move {
            tokio::time::sleep(SECOND).await;
            first.then_some(99)
        }
    })
}

#[tokio::test(start_paused = true)]
async fn it_may_wait_and_may_let_the_error_through() {
    let (calls, ear) = (Calls::default(), Ear::default());
    let policy = elsewhere().circuit_breaker(CircuitBreaker::consecutive(2)).listener(ear.listener()).build().unwrap();
    let (value, took) = timed(policy.call(calls.failing())).await;
    assert_eq!((value.unwrap(), took), (99, SECOND));
    assert_eq!(ear.names(), ["failure", "fallback_used"]);
    let (let_through, took) = timed(policy.call(calls.failing())).await;
    assert!(matches!(let_through, Err(Error::Inner(Broken(2)))) && took == SECOND);
    assert!(!ear.names().contains(&"fallback_used"));
    assert_eq!(policy.call(calls.numbered()).await.unwrap(), 99, "for a refusal, too");
    assert_eq!(calls.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn behind_a_cache_it_is_each_callers_own_and_never_stored() {
    let (calls, ear) = (Calls::default(), Ear::default());
    let policy = elsewhere().listener(ear.listener()).cache(cache()).build().unwrap();
    let key = "a".to_owned();
    let failing = || {
        let calls = calls.clone();
        move || {
            let number = calls.one_more() as u32;
            async move {
                tokio::time::sleep(ms(1)).await;
                Err(Broken(number))
            }
        }
    };
    let (one, other) = tokio::join!(policy.call(&key, failing()), policy.call(&key, failing()));
    assert_eq!((one.unwrap(), other.unwrap(), calls.count()), (99, 99, 1));
    assert_eq!(ear.take().iter().filter(|event| **event == Event::FallbackUsed).count(), 2);
    assert_eq!(policy.cache().peek(&key), None);
    // A refresh that fails does not ask it.
    policy.cache().insert(key.clone(), 7);
    tokio::time::advance(MINUTE).await;
    let again = Calls::default();
    assert_eq!(policy.call(&key, again.failing()).await.unwrap(), 7);
    tokio::time::sleep(MINUTE).await;
    assert_eq!((again.count(), policy.cache().peek(&key)), (1, Some(7)));
    assert!(!ear.names().contains(&"fallback_used"));
}

#[tokio::test(start_paused = true)]
async fn it_is_under_way_until_it_has_ended() {
    let policy = elsewhere().build().unwrap();
    let calls = Calls::default();
    let mut call = std::pin::pin!(policy.call(calls.failing()));
    assert!(poll!(&mut call).is_pending());
    assert_eq!(policy.health().in_flight, 1);
    let (left, answered) = tokio::join!(policy.close(MINUTE), call);
    assert_eq!((left, answered.unwrap()), (0, 99));
}

#[test]
fn a_thread_waits_for_it() {
    let policy = Plain::builder().fallback_async(|_| futures_util::future::ready(Some(5))).build().unwrap();
    assert_eq!(policy.call_blocking(|| Err(Broken(1))).unwrap(), 5);
}

#[test]
fn a_call_can_move_between_threads_although_its_error_cannot_be_shared() {
    fn moves<T: Send>(_: &T) {}
    let policy = everfresh_resilience::Policy::<u32, std::cell::Cell<u32>>::builder()
        .fallback_async(|_| std::future::ready(Some(1)))
        .build()
        .unwrap();
    let call = policy.call(|| std::future::ready(Err(std::cell::Cell::new(1))));
    moves(&call);
    assert_eq!(futures_util::FutureExt::now_or_never(call).unwrap().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_panics_leaves_nothing_behind() {
    let policy = builder().bulkhead(Bulkhead::new(1)).fallback(|_| panic!("as told")).build().unwrap();
    let other = policy.clone();
    tokio::spawn(async move { other.call(Calls::default().failing()).await }).await.unwrap_err();
    let health = policy.health();
    assert_eq!((health.bulkhead.unwrap().running, health.in_flight), (0, 0));
    assert!(policy.call(Calls::default().numbered()).await.is_ok());
}
