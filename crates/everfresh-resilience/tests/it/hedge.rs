//! A second call beside one that takes long.

use everfresh_resilience::{Error, Hedge, Retry};

use crate::support::*;

/// A function whose first call takes a minute, and each other so long.
fn first_is_slow(calls: &Calls, others: u64) -> impl FnMut() -> tokio::task::JoinHandle<Result<u32, Broken>> + use<> {
    let calls = calls.clone();
    move || {
        let number = calls.one_more() as u32;
        let takes = if number == 1 { MINUTE } else { ms(others) };
        tokio::spawn(async move {
            tokio::time::sleep(takes).await;
            Ok(number)
        })
    }
}

#[tokio::test(start_paused = true)]
async fn the_second_call_wins_where_the_first_is_slow() {
    let (calls, ear) = (Calls::default(), Ear::default());
    let policy = builder().hedge(Hedge::after(SECOND)).listener(ear.listener()).build().unwrap();
    let mut function = first_is_slow(&calls, 500);
    let (result, took) = timed(policy.call(|| {
        let call = function();
        async move { call.await.unwrap() }
    }))
    .await;
    assert_eq!((result.unwrap(), took), (2, ms(1500)));
    assert_eq!(ear.names(), ["hedged", "success"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_quick_or_fails_quickly_is_not_hedged() {
    let calls = Calls::default();
    let policy = builder().hedge(Hedge::after(SECOND)).build().unwrap();
    policy.call(calls.slow(ms(999))).await.unwrap();
    assert!(matches!(policy.call(calls.failing()).await, Err(Error::Inner(Broken(2)))));
    assert_eq!(calls.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failure_waits_for_the_others_and_the_last_one_counts() {
    let calls = Calls::default();
    let policy = builder().hedge(Hedge::after(SECOND).up_to(2)).build().unwrap();
    // Ends after 2.5, 2.0 and 3.0 s of the whole: failure, failure, value.
    let takes = [2500, 1000, 1000];
    let function = |good_from: usize| {
        let calls = calls.clone();
        move || {
            let number = calls.one_more();
            let turn = (number - 1) % 3;
            async move {
                tokio::time::sleep(ms(takes[turn])).await;
                if turn >= good_from { Ok(number as u32) } else { Err(Broken(number as u32)) }
            }
        }
    };
    let (result, took) = timed(policy.call(function(2))).await;
    assert_eq!((result.unwrap(), took), (3, 3 * SECOND));
    let (result, took) = timed(policy.call(function(3))).await;
    assert!(matches!(result, Err(Error::Inner(Broken(6)))));
    assert_eq!(took, 3 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn an_attempts_time_bounds_its_hedges_too_and_each_attempt_has_its_own() {
    let calls = Calls::default();
    let policy = builder()
        .hedge(Hedge::after(SECOND))
        .timeout(3 * SECOND)
        .retry(Retry::attempts(2).base(SECOND).without_jitter())
        .build()
        .unwrap();
    let (result, took) = timed(policy.call(calls.slow(MINUTE))).await;
    assert!(matches!(result, Err(Error::TimedOut { .. })));
    assert_eq!((calls.count(), took), (4, 7 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_call_and_its_hedges_are_one_attempt_in_one_place() {
    let calls = Calls::default();
    let policy = builder()
        .circuit_breaker(everfresh_resilience::CircuitBreaker::consecutive(2))
        .rate_limit(everfresh_resilience::RateLimit::new(1, MINUTE))
        .bulkhead(everfresh_resilience::Bulkhead::new(1))
        .hedge(Hedge::after(SECOND).up_to(2))
        .build()
        .unwrap();
    let failing = || {
        calls.one_more();
        async {
            tokio::time::sleep(10 * SECOND).await;
            Err(Broken(1))
        }
    };
    assert!(policy.call(failing).await.is_err());
    assert_eq!(calls.count(), 3);
    let circuit = policy.health().circuit.unwrap();
    assert_eq!(circuit.state, everfresh_resilience::CircuitState::Closed, "three failures, one attempt");
}
