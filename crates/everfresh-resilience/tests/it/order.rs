//! cache → circuit breaker → rate limit → bulkhead → retry → timeout → function → fallback: each pair in its order.

use everfresh_resilience::{Bulkhead, CircuitBreaker, CircuitState, Error, RateLimit, Retry, Timeout};
use futures_util::poll;

use crate::support::*;

const BREAKER: CircuitBreaker = CircuitBreaker::consecutive(1).open_for(MINUTE);
const RETRY: Retry = Retry::attempts(3).base(SECOND).factor(1.0).without_jitter();

/// A circuit that one failure opened.
async fn open(policy: &Plain) {
    policy.call(Calls::default().failing()).await.unwrap_err();
    assert_eq!(policy.health().circuit.unwrap().state, CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn a_hit_fresh_or_stale_touches_no_layer() {
    let (calls, ear) = (Calls::default(), Ear::default());
    let policy = builder()
        .circuit_breaker(BREAKER)
        .rate_limit(RateLimit::new(1, MINUTE))
        .bulkhead(Bulkhead::new(1))
        .retry(RETRY)
        .timeout(SECOND)
        .fallback(|_| Some(0))
        .listener(ear.listener())
        .cache(cache())
        .build()
        .unwrap();
    let key = "a".to_owned();
    assert_eq!(policy.call(&key, calls.numbered()).await.unwrap(), 1);
    assert_eq!(ear.names(), ["success", "cache_miss"]);
    for _ in 0..10 {
        assert_eq!(policy.call(&key, calls.numbered()).await.unwrap(), 1);
    }
    assert_eq!(ear.names(), ["cache_hit"; 10]);
    // Stale; the one call of the minute is spent on the refresh, and readers never notice.
    tokio::time::advance(MINUTE).await;
    for _ in 0..10 {
        assert_eq!(at_once(policy.call(&key, calls.numbered())).unwrap().unwrap(), 1);
    }
    assert_eq!(ear.names(), ["cache_stale"; 10]);
    assert_eq!(policy.health().bulkhead.unwrap().running, 0);
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_takes_nothing_of_the_rate_limit() {
    let calls = Calls::default();
    let policy = builder().circuit_breaker(BREAKER).rate_limit(RateLimit::new(2, 10 * MINUTE)).build().unwrap();
    open(&policy).await;
    for _ in 0..5 {
        assert!(matches!(policy.call(calls.numbered()).await, Err(Error::CircuitOpen { .. })));
    }
    tokio::time::advance(MINUTE).await;
    assert_eq!(policy.call(calls.numbered()).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_is_told_before_a_full_bulkhead() {
    let policy = builder().circuit_breaker(BREAKER).bulkhead(Bulkhead::new(2)).build().unwrap();
    let calls = Calls::default();
    let mut first = std::pin::pin!(policy.call(calls.slow(MINUTE)));
    assert!(poll!(&mut first).is_pending());
    open(&policy).await;
    assert!(matches!(policy.call(calls.numbered()).await, Err(Error::CircuitOpen { .. })));
    assert_eq!(policy.health().bulkhead.unwrap().running, 1);
}

#[tokio::test(start_paused = true)]
async fn a_circuit_that_opens_ends_the_retries_and_a_refusal_is_not_retried() {
    let (calls, ear) = (Calls::default(), Ear::default());
    let breaker = CircuitBreaker::consecutive(2).open_for(MINUTE);
    let policy = builder().circuit_breaker(breaker).retry(RETRY).listener(ear.listener()).build().unwrap();
    assert!(matches!(policy.call(calls.failing()).await, Err(Error::Inner(Broken(2)))));
    assert_eq!(ear.names(), ["retry", "circuit_opened", "retry_exhausted", "failure"]);
    let (refused, took) = timed(policy.call(calls.failing())).await;
    assert!(matches!(refused, Err(Error::CircuitOpen { .. })));
    assert_eq!((calls.count(), took), (2, ms(0)));
}

#[tokio::test(start_paused = true)]
async fn a_timeout_counts_with_the_circuit_each_or_whole() {
    for timeout in [Timeout::per_attempt(SECOND), Timeout::whole(SECOND)] {
        let policy = builder().circuit_breaker(BREAKER).timeout(timeout).build().unwrap();
        let result = policy.call(Calls::default().slow(MINUTE)).await;
        assert!(matches!(result, Err(Error::TimedOut { after: SECOND, called: true })));
        assert_eq!(policy.health().circuit.unwrap().state, CircuitState::Open);
    }
}

#[tokio::test(start_paused = true)]
async fn what_limits_and_bulkheads_refuse_is_no_failure_of_the_backend() {
    let policy = builder()
        .circuit_breaker(BREAKER)
        .rate_limit(RateLimit::new(2, MINUTE))
        .bulkhead(Bulkhead::new(1))
        .build()
        .unwrap();
    let mut first = std::pin::pin!(policy.call(Calls::default().slow(SECOND)));
    assert!(poll!(&mut first).is_pending());
    assert!(matches!(policy.call(Calls::default().numbered()).await, Err(Error::BulkheadFull)));
    assert!(matches!(policy.call(Calls::default().numbered()).await, Err(Error::RateLimited { .. })));
    assert_eq!(policy.health().circuit.unwrap().state, CircuitState::Closed);
    assert_eq!(first.await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_refuses_before_the_bulkhead_is_asked() {
    let bulkhead = Bulkhead::new(1).max_wait(MINUTE);
    let policy = builder().rate_limit(RateLimit::new(1, MINUTE)).bulkhead(bulkhead).build().unwrap();
    let mut first = std::pin::pin!(policy.call(Calls::default().slow(SECOND)));
    assert!(poll!(&mut first).is_pending());
    let second = at_once(policy.call(Calls::default().numbered())).unwrap();
    assert!(matches!(second, Err(Error::RateLimited { .. })));
    assert_eq!(policy.health().bulkhead.unwrap().waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn all_attempts_of_a_call_take_one_of_the_rate_limit() {
    let calls = Calls::default();
    let policy = builder().rate_limit(RateLimit::new(2, 10 * MINUTE)).retry(RETRY).build().unwrap();
    policy.call(calls.failing()).await.unwrap_err();
    assert_eq!(calls.count(), 3);
    assert_eq!(policy.call(calls.numbered()).await.unwrap(), 4);
    let (refused, took) = timed(policy.call(calls.numbered())).await;
    assert!(matches!(refused, Err(Error::RateLimited { .. })));
    assert_eq!((calls.count(), took), (4, ms(0)), "a refusal is not retried");
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_the_rate_limit_is_in_the_whole_time_and_not_in_an_attempts() {
    let limit = RateLimit::new(1, 10 * SECOND).max_wait(MINUTE);
    let each = builder().rate_limit(limit).timeout(SECOND).build().unwrap();
    each.call(Calls::default().numbered()).await.unwrap();
    let (result, took) = timed(each.call(Calls::default().slow(ms(500)))).await;
    assert_eq!((result.unwrap(), took), (1, ms(10_500)));

    let whole = builder().rate_limit(limit).timeout(Timeout::whole(SECOND)).build().unwrap();
    whole.call(Calls::default().numbered()).await.unwrap();
    let (result, took) = timed(whole.call(Calls::default().numbered())).await;
    assert!(matches!(result, Err(Error::TimedOut { called: false, .. })));
    assert_eq!(took, SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_place_is_given_back_during_the_pause_of_a_retry() {
    let calls = Calls::default();
    let policy = builder().bulkhead(Bulkhead::new(1)).retry(RETRY).build().unwrap();
    let mut pausing = std::pin::pin!(policy.call(calls.failing()));
    assert!(poll!(&mut pausing).is_pending());
    assert_eq!(policy.health().bulkhead.unwrap().running, 0);
    assert_eq!(policy.call(calls.numbered()).await.unwrap(), 2);
    assert!(matches!(pausing.await, Err(Error::Inner(Broken(4)))));
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_finds_no_place_again_ends_with_the_error_at_hand() {
    let (calls, ear) = (Calls::default(), Ear::default());
    let policy = builder().bulkhead(Bulkhead::new(1)).retry(RETRY).listener(ear.listener()).build().unwrap();
    let mut pausing = std::pin::pin!(policy.call(calls.failing()));
    assert!(poll!(&mut pausing).is_pending());
    let mut other = std::pin::pin!(policy.call(calls.slow(MINUTE)));
    assert!(poll!(&mut other).is_pending());
    assert!(matches!(pausing.await, Err(Error::Inner(Broken(1)))));
    assert_eq!(ear.names(), ["retry", "bulkhead_rejected", "retry_exhausted", "failure"]);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_bulkhead_is_not_retried() {
    let policy = builder().bulkhead(Bulkhead::new(1)).retry(RETRY).build().unwrap();
    let mut first = std::pin::pin!(policy.call(Calls::default().slow(MINUTE)));
    assert!(poll!(&mut first).is_pending());
    assert!(matches!(at_once(policy.call(Calls::default().numbered())), Some(Err(Error::BulkheadFull))));
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_a_place_is_in_the_whole_time_and_not_in_an_attempts() {
    let bulkhead = Bulkhead::new(1).max_wait(MINUTE);
    let policy = builder().bulkhead(bulkhead).timeout(4 * SECOND).build().unwrap();
    let mut first = std::pin::pin!(policy.call(Calls::default().slow(3 * SECOND)));
    assert!(poll!(&mut first).is_pending());
    let second = policy.call(Calls::default().slow(3 * SECOND));
    let (((first, second), took), _) = (timed(async { tokio::join!(first, second) }).await, ());
    assert_eq!((first.unwrap(), second.unwrap(), took), (1, 1, 6 * SECOND));

    let policy = builder().bulkhead(bulkhead).timeout(Timeout::whole(4 * SECOND)).build().unwrap();
    let mut first = std::pin::pin!(policy.call(Calls::default().slow(3 * SECOND)));
    assert!(poll!(&mut first).is_pending());
    let (first, second) = tokio::join!(first, policy.call(Calls::default().slow(3 * SECOND)));
    assert_eq!(first.unwrap(), 1);
    assert!(matches!(second, Err(Error::TimedOut { called: true, .. })), "it had a place for the last second");

    let mut first = std::pin::pin!(policy.call(Calls::default().slow(MINUTE)));
    assert!(poll!(&mut first).is_pending());
    let calls = Calls::default();
    let second = policy.call(calls.numbered()).await;
    assert!(matches!(second, Err(Error::TimedOut { called: false, .. })), "and not: the backend was slow");
    assert!(matches!(first.await, Err(Error::TimedOut { called: true, .. })));
    assert_eq!(calls.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn each_attempt_has_its_own_time_and_all_of_them_the_whole() {
    let calls = Calls::default();
    let policy = builder().retry(RETRY).timeout(2 * SECOND).build().unwrap();
    let (result, took) = timed(policy.call(calls.slow(MINUTE))).await;
    assert!(matches!(result, Err(Error::TimedOut { after, .. }) if after == 2 * SECOND));
    assert_eq!((calls.count(), took), (3, 8 * SECOND));

    let bounds = Timeout::per_attempt(2 * SECOND).and_whole(4 * SECOND);
    let policy = builder().retry(RETRY).timeout(bounds).build().unwrap();
    let (result, took) = timed(policy.call(Calls::default().slow(MINUTE))).await;
    assert!(matches!(result, Err(Error::TimedOut { after, .. }) if after == 4 * SECOND));
    assert_eq!(took, 4 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn the_fallback_answers_for_every_layer_that_it_knows_and_for_no_other() {
    let answer = |error: &Error<Broken>| match error {
        Error::CircuitOpen { .. } => Some(101),
        Error::RateLimited { .. } => Some(102),
        Error::BulkheadFull => Some(103),
        Error::TimedOut { .. } => Some(104),
        Error::Inner(Broken(7)) => Some(105),
        _ => None,
    };
    let calls = Calls::default();
    let policy = builder().circuit_breaker(BREAKER).fallback(answer).build().unwrap();
    assert!(matches!(policy.call(calls.failing()).await, Err(Error::Inner(Broken(1)))), "not for this error");
    assert_eq!(policy.call(calls.failing()).await.unwrap(), 101);
    let policy = builder().rate_limit(RateLimit::new(1, MINUTE)).fallback(answer).build().unwrap();
    policy.call(calls.numbered()).await.unwrap();
    assert_eq!(policy.call(calls.numbered()).await.unwrap(), 102);
    let policy = builder().bulkhead(Bulkhead::new(1)).fallback(answer).build().unwrap();
    let mut first = std::pin::pin!(policy.call(calls.slow(SECOND)));
    assert!(poll!(&mut first).is_pending());
    assert_eq!(policy.call(calls.numbered()).await.unwrap(), 103);
    let policy = builder().retry(RETRY).timeout(SECOND).fallback(answer).build().unwrap();
    let (result, took) = timed(policy.call(Calls::default().slow(MINUTE))).await;
    assert_eq!((result.unwrap(), took), (104, 5 * SECOND), "after all attempts");
    assert_eq!(policy.call(|| async { Err(Broken(7)) }).await.unwrap(), 105);
}

/// The timeline of the guide page `layers`, hour by hour.
#[tokio::test(start_paused = true)]
async fn the_timeline_of_the_guide() {
    let policy = builder()
        .circuit_breaker(CircuitBreaker::consecutive(3).open_for(30 * SECOND))
        .bulkhead(Bulkhead::new(1))
        .retry(Retry::attempts(2).base(SECOND).without_jitter())
        .timeout(2 * SECOND)
        .build()
        .unwrap();
    let began = tokio::time::Instant::now();
    let at = |millis| tokio::time::sleep_until(began + ms(millis));
    let a = async {
        let result = policy.call(std::future::pending).await;
        assert!(matches!(result, Err(Error::TimedOut { .. })));
        assert_eq!(began.elapsed(), ms(3000));
    };
    let b = async {
        tokio::task::yield_now().await;
        assert!(matches!(policy.call(std::future::pending).await, Err(Error::BulkheadFull)));
        at(2500).await;
        let result = policy.call(std::future::pending).await;
        assert!(matches!(result, Err(Error::TimedOut { .. })));
        assert_eq!(began.elapsed(), ms(7500));
    };
    tokio::join!(a, b);
    at(8000).await;
    let refused = policy.call(std::future::pending).await.unwrap_err();
    assert_eq!(refused.retry_after(), Some(ms(29_500)));
    at(37_500).await;
    let mut probe = Box::pin(policy.call(std::future::pending));
    assert!(poll!(&mut probe).is_pending());
    let refused = policy.call(std::future::pending).await;
    assert!(matches!(refused, Err(Error::CircuitOpen { retry_after }) if retry_after.is_zero()));
}

#[tokio::test(start_paused = true)]
async fn a_circuit_that_others_opened_during_the_pause_ends_the_attempts_with_the_error_at_hand() {
    let (calls, ear) = (Calls::default(), Ear::default());
    let breaker = CircuitBreaker::consecutive(3).open_for(MINUTE);
    let policy = builder().circuit_breaker(breaker).retry(RETRY).listener(ear.listener()).build().unwrap();
    let mut pausing = std::pin::pin!(policy.call(calls.failing()));
    assert!(poll!(&mut pausing).is_pending());
    let mut other = std::pin::pin!(policy.call(calls.failing()));
    assert!(poll!(&mut other).is_pending());
    assert!(poll!(std::pin::pin!(policy.call(calls.failing()))).is_ready(), "its first attempt is the third failure");
    assert_eq!(policy.health().circuit.unwrap().state, CircuitState::Open);
    assert!(matches!(pausing.await, Err(Error::Inner(Broken(1)))));
    assert!(matches!(other.await, Err(Error::Inner(Broken(2)))));
    assert_eq!(calls.count(), 3);
}

/// It was let through before the circuit opened, and its turn or its place came after that.
#[tokio::test(start_paused = true)]
async fn who_waited_while_the_circuit_opened_is_refused_and_does_not_call() {
    for waits in [
        builder().bulkhead(Bulkhead::new(1).max_wait(MINUTE)),
        builder().rate_limit(RateLimit::new(1, SECOND).max_wait(MINUTE)),
    ] {
        let (calls, ear) = (Calls::default(), Ear::default());
        let policy = waits.circuit_breaker(BREAKER).listener(ear.listener()).build().unwrap();
        let mut first = std::pin::pin!(policy.call(|| async {
            tokio::time::sleep(ms(900)).await;
            Err(Broken(1))
        }));
        assert!(poll!(&mut first).is_pending());
        let (failed, waited) = tokio::join!(first, timed(policy.call(calls.numbered())));
        assert!(matches!(failed, Err(Error::Inner(Broken(1)))));
        let (refused, took) = waited;
        assert_eq!(refused.unwrap_err().retry_after(), Some(MINUTE + ms(900) - took), "{took:?}");
        assert_eq!(calls.count(), 0, "the backend is left alone");
        assert_eq!(ear.names(), ["circuit_opened", "failure", "circuit_rejected", "failure"]);
        assert_eq!(policy.health().bulkhead.map_or(0, |bulkhead| bulkhead.running), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_place_between_attempts_while_the_circuit_opens_ends_with_the_error_at_hand() {
    let (calls, ear) = (Calls::default(), Ear::default());
    let policy = builder()
        .circuit_breaker(CircuitBreaker::consecutive(2).open_for(MINUTE))
        .bulkhead(Bulkhead::new(1).max_wait(MINUTE))
        .retry(RETRY)
        .retry_if(|result| matches!(result, Err(Broken(1))))
        .listener(ear.listener())
        .build()
        .unwrap();
    let mut pausing = std::pin::pin!(policy.call(calls.failing()));
    assert!(poll!(&mut pausing).is_pending());
    let other = policy.call(|| async {
        tokio::time::sleep(2 * SECOND).await;
        Err(Broken(2))
    });
    let (other, paused) = tokio::join!(other, pausing);
    assert!(matches!((other, paused), (Err(Error::Inner(Broken(2))), Err(Error::Inner(Broken(1))))));
    assert_eq!(calls.count(), 1);
    assert_eq!(ear.names(), ["retry", "circuit_opened", "failure", "circuit_rejected", "retry_exhausted", "failure"]);
}
