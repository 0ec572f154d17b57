//! Calls are counted; a policy that is closed refuses new ones by name and drains the others.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use everfresh_resilience::{Error, Retry};
use futures_util::poll;

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn close_refuses_new_calls_and_waits_for_those_under_way() {
    let policy = builder().retry(Retry::attempts(3)).build().unwrap();
    let mut call = Box::pin(policy.call(Calls::default().slow(2 * SECOND)));
    assert!(poll!(&mut call).is_pending());
    assert_eq!(policy.health().in_flight, 1);
    let (closing, call) = tokio::join!(timed(policy.close(MINUTE)), call);
    assert_eq!(closing, (0, 2 * SECOND));
    assert_eq!(call.unwrap(), 1);
    let calls = Calls::default();
    assert!(matches!(policy.call(calls.numbered()).await, Err(Error::Closed)));
    assert!(matches!(policy.clone().call(calls.numbered()).await, Err(Error::Closed)), "for all handles");
    assert_eq!((calls.count(), policy.health().in_flight), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn close_waits_no_longer_than_told_and_says_how_many_are_left() {
    let policy = builder().build().unwrap();
    let mut hung: Vec<_> = (0..3).map(|_| Box::pin(policy.call(std::future::pending))).collect();
    for call in &mut hung {
        assert!(poll!(call).is_pending());
    }
    assert_eq!(timed(policy.close(SECOND)).await, (3, SECOND));
    drop(hung);
    assert_eq!(timed(policy.close(SECOND)).await, (0, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_closed_policy_still_serves_what_its_cache_has_and_starts_no_refresh() {
    let (calls, ear) = (Calls::default(), Ear::default());
    let policy = builder().listener(ear.listener()).cache(cache()).build().unwrap();
    let key = "a".to_owned();
    policy.call(&key, calls.numbered()).await.unwrap();
    assert_eq!(policy.close(SECOND).await, 0);
    assert_eq!(policy.call(&key, calls.numbered()).await.unwrap(), 1);
    tokio::time::advance(MINUTE).await;
    ear.take();
    assert_eq!(policy.call(&key, calls.numbered()).await.unwrap(), 1);
    assert_eq!(ear.names(), ["cache_stale", "refresh_refused"]);
    let missing = policy.call(&"b".to_owned(), calls.numbered()).await.unwrap_err();
    assert!(matches!(*missing, Error::Closed));
    assert_eq!(calls.count(), 1);
}

#[test]
fn a_thread_closes_too() {
    let policy = Plain::builder().build().unwrap();
    assert_eq!(policy.call_blocking(|| Ok(1)).unwrap(), 1);
    assert_eq!(policy.close_blocking(SECOND), 0);
    assert!(matches!(policy.call_blocking(|| Ok(1)), Err(Error::Closed)));
}

#[test]
fn a_call_is_under_way_until_its_fallback_has_answered() {
    let (left, this) = (Arc::new(AtomicUsize::new(usize::MAX)), Arc::new(OnceLock::<Plain>::new()));
    let (told, there) = (Arc::clone(&left), Arc::clone(&this));
    let policy = Plain::builder()
        .fallback_async(|_| async { Some(1) })
        .listener(move |_, event| {
            if event.name() == "failure" {
                // The function has ended; the fallback is still to come.
                told.store(there.get().unwrap().close_blocking(Duration::ZERO), Ordering::SeqCst);
            }
        })
        .build()
        .unwrap();
    this.set(policy.clone()).unwrap();
    assert_eq!(policy.call_blocking(|| Err(Broken(1))).unwrap(), 1);
    assert_eq!((left.load(Ordering::SeqCst), policy.health().in_flight), (1, 0));
}

/// What `close` finds left when the function of a call behind a cache has ended; its fallback is still to come.
fn left_when_the_load_has_ended(call: impl FnOnce(&Cached) -> u32) -> (usize, usize) {
    let (left, this) = (Arc::new(AtomicUsize::new(usize::MAX)), Arc::new(OnceLock::<Cached>::new()));
    let (told, there) = (Arc::clone(&left), Arc::clone(&this));
    let policy = Plain::builder()
        .fallback_async(|_| async { Some(1) })
        .listener(move |_, event| {
            if event.name() == "cache_miss" {
                told.store(there.get().unwrap().close_blocking(Duration::ZERO), Ordering::SeqCst);
            }
        })
        .cache(everfresh::Cache::builder().capacity(10).build().unwrap())
        .build()
        .unwrap();
    this.set(policy.clone()).unwrap();
    assert_eq!(call(&policy), 1);
    (left.load(Ordering::SeqCst), policy.health().in_flight)
}

#[test]
fn a_call_behind_a_cache_is_under_way_until_its_fallback_has_answered() {
    let key = "a".to_owned();
    let thread = |policy: &Cached| policy.call_blocking(&key, || Err(Broken(1))).unwrap();
    assert_eq!(left_when_the_load_has_ended(thread), (1, 0));
    let task = |policy: &Cached| at_once(policy.call(&key, Calls::default().failing())).unwrap().unwrap();
    assert_eq!(left_when_the_load_has_ended(task), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_behind_a_cache_is_one_call_with_its_load() {
    let policy = builder().fallback_async(|_| async { Some(9) }).cache(cache()).build().unwrap();
    let key = "a".to_owned();
    let mut call = Box::pin(policy.call(&key, Calls::default().slow(SECOND)));
    assert!(poll!(&mut call).is_pending());
    assert_eq!(policy.health().in_flight, 1);
    let (closing, call) = tokio::join!(timed(policy.close(MINUTE)), call);
    assert_eq!((closing, call.unwrap()), ((0, SECOND), 1));
    // Closed means closed, with the fallback's word for it.
    let calls = Calls::default();
    assert_eq!(policy.call(&"b".to_owned(), calls.numbered()).await.unwrap(), 9);
    assert_eq!((calls.count(), policy.health().in_flight), (0, 0));
}
