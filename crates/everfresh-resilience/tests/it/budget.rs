//! The retry budget: shared, refilled by time and by calls, never overdrawn.

use std::time::Duration;

use everfresh_resilience::{Builder, Bulkhead, CircuitBreaker, Hedge, ManualClock, RateLimit, Retry, RetryBudget};
use futures_util::poll;
use proptest::prelude::*;

use crate::support::*;

const AT_ONCE: Retry = Retry::attempts(2).base(Duration::ZERO).without_jitter();

#[tokio::test(start_paused = true)]
async fn policies_that_share_a_budget_retry_no_more_than_it_has() {
    let budget = RetryBudget::new(3, 1.0);
    let (calls, ear) = (Calls::default(), Ear::default());
    let make = || builder().retry(AT_ONCE).retry_budget(&budget).listener(ear.listener()).build().unwrap();
    let (one, other) = (make(), make());
    for _ in 0..5 {
        one.call(calls.failing()).await.unwrap_err();
        other.call(calls.failing()).await.unwrap_err();
    }
    assert_eq!(calls.count(), 13, "ten calls, three retries");
    assert_eq!(budget.left(), 0);
    assert!(ear.names().contains(&"retry_exhausted"));
    tokio::time::advance(2 * SECOND).await;
    for _ in 0..5 {
        one.call(calls.failing()).await.unwrap_err();
    }
    assert_eq!(calls.count(), 20, "five calls, two retries");
}

#[tokio::test(start_paused = true)]
async fn each_call_can_add_a_fraction_of_a_retry() {
    let budget = RetryBudget::new(1, 0.0).per_call(0.1);
    let calls = Calls::default();
    let policy = builder().retry(AT_ONCE).retry_budget(&budget).build().unwrap();
    for _ in 0..101 {
        policy.call(calls.failing()).await.unwrap_err();
    }
    // The first call finds the budget full; ten more calls are worth one retry, ten times.
    assert_eq!(calls.count(), 101 + 1 + 10);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_refused_adds_nothing() {
    type Refusing = fn(Builder<u32, Broken>) -> Builder<u32, Broken>;
    let layers: [Refusing; 3] = [
        |it| it.circuit_breaker(CircuitBreaker::consecutive(2)),
        |it| it.rate_limit(RateLimit::new(1, MINUTE)),
        |it| it.bulkhead(Bulkhead::new(1)),
    ];
    for (number, refusing) in layers.into_iter().enumerate() {
        let budget = RetryBudget::new(2, 0.0).per_call(0.5);
        let policy = refusing(builder().retry(AT_ONCE).retry_budget(&budget)).build().unwrap();
        policy.call(Calls::default().failing()).await.unwrap_err();
        let mut running = Box::pin(policy.call(Calls::default().slow(MINUTE)));
        let _ = poll!(&mut running);
        assert_eq!(budget.left(), 1, "layer {number}");
        for _ in 0..10 {
            assert!(policy.call(Calls::default().failing()).await.unwrap_err().is_refusal());
        }
        assert_eq!(budget.left(), 1, "layer {number}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hedge_takes_from_the_budget_too() {
    let budget = RetryBudget::new(1, 0.0);
    let calls = Calls::default();
    let policy = builder().hedge(Hedge::after(SECOND)).retry_budget(&budget).build().unwrap();
    policy.call(calls.slow(MINUTE)).await.unwrap();
    assert_eq!(calls.count(), 2);
    policy.call(calls.slow(MINUTE)).await.unwrap();
    assert_eq!(calls.count(), 3);
}

#[test]
fn a_budget_without_retries_is_refused() {
    assert!(Plain::builder().retry_budget(&RetryBudget::new(1, 1.0)).build().is_err());
}

#[test]
fn a_budget_that_cannot_work_is_refused_with_the_cure() {
    let wrong = [
        RetryBudget::new(0, 1.0),
        RetryBudget::new(1, -1.0),
        RetryBudget::new(1, f64::NAN),
        RetryBudget::new(1, 1.0).per_call(f64::INFINITY),
    ];
    for budget in wrong {
        let told = Plain::builder().retry(AT_ONCE).retry_budget(&budget).build().unwrap_err().to_string();
        assert!(told.contains("0.0 for nothing"), "{told}");
    }
}

proptest! {
    #[test]
    fn it_is_a_bucket_of_whole_thousandths(
        max in 1..10_u32,
        per_second in 0..5_u32,
        tenths_a_call in 0..10_u32,
        steps in proptest::collection::vec((any::<bool>(), 0..1500_u64), 1..200),
    ) {
        let clock = ManualClock::new();
        let budget = RetryBudget::new(max, f64::from(per_second)).per_call(f64::from(tenths_a_call) / 10.0);
        let policy = Plain::builder().retry(AT_ONCE).retry_budget(&budget).clock(clock.clone()).build().unwrap();
        // Thousandths of a retry.
        let full = u64::from(max) * 1000;
        let mut bucket = full;
        for (good, millis) in steps {
            clock.advance(ms(millis));
            bucket = (bucket + millis * u64::from(per_second) + u64::from(tenths_a_call) * 100).min(full);
            let calls = Calls::default();
            let allowed = bucket >= 1000;
            if good {
                prop_assert!(at_once(policy.call(calls.numbered())).unwrap().is_ok());
                prop_assert_eq!(calls.count(), 1);
            } else {
                prop_assert!(at_once(policy.call(calls.failing())).unwrap().is_err());
                prop_assert_eq!(calls.count(), if allowed { 2 } else { 1 });
                bucket -= if allowed { 1000 } else { 0 };
            }
            prop_assert!(budget.left() <= max);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_is_not_made_costs_nothing() {
    let (budget, calls) = (RetryBudget::new(5, 0.0), Calls::default());
    let policy = builder()
        .bulkhead(Bulkhead::new(1))
        .retry(Retry::attempts(2).base(SECOND).without_jitter())
        .retry_budget(&budget)
        .build()
        .unwrap();
    let mut pausing = Box::pin(policy.call(calls.failing()));
    assert!(poll!(&mut pausing).is_pending());
    assert_eq!(budget.left(), 4, "meant for the retry after the pause");
    drop(pausing);
    assert_eq!(budget.left(), 5, "the caller has gone");
    let mut pausing = Box::pin(policy.call(calls.failing()));
    assert!(poll!(&mut pausing).is_pending());
    let mut other = std::pin::pin!(policy.call(calls.slow(MINUTE)));
    assert!(poll!(&mut other).is_pending());
    pausing.await.unwrap_err();
    assert_eq!((calls.count(), budget.left()), (3, 5), "there was no place again");
}
