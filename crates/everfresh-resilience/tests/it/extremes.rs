//! The smallest and the largest that can be written: refused with the cure, or done without a panic.

use std::sync::Arc;
use std::time::Duration;

use everfresh_resilience::{
    Bulkhead, CircuitBreaker, Clock, ConfigError, Error, Hedge, ManualClock, RateLimit, Retry, RetryBudget,
    SystemClock, Timeout, TokioClock,
};

use crate::support::{Broken, MINUTE, Plain, SECOND, at_once};

fn refused(built: Result<Plain, ConfigError>, cure: &str) {
    let told = built.expect_err(cure).to_string();
    assert!(told.contains(cure), "{told}");
}

#[test]
fn what_would_be_done_silently_otherwise_is_refused_with_the_cure() {
    let breaker = |breaker| Plain::builder().circuit_breaker(breaker).build();
    refused(breaker(CircuitBreaker::consecutive(5).minimum_calls(20)), "CircuitBreaker::rate(threshold, window)");
    refused(breaker(CircuitBreaker::rate(0.5, 10).slow_calls(Duration::ZERO, 0.5)), "above zero");
    refused(Plain::builder().bulkhead(Bulkhead::new(1).max_waiting(5)).build(), "max_wait");
    refused(Plain::builder().bulkhead(Bulkhead::new(usize::MAX)).build(), "leave it out");
    let number = f64::NAN;
    refused(breaker(CircuitBreaker::rate(number, 10)), "above 0 and at most 1");
    refused(breaker(CircuitBreaker::rate(0.5, 10).slow_calls(SECOND, number)), "above 0 and at most 1");
    refused(Plain::builder().retry(Retry::attempts(2).factor(number)).build(), "at least 1");
    refused(Plain::builder().retry(Retry::attempts(2)).retry_budget(&RetryBudget::new(1, number)).build(), "finite");
}

/// A policy in which everything is as large as can be written.
fn largest(clock: impl Clock) -> Plain {
    let breaker = CircuitBreaker::rate(1.0, u32::MAX)
        .minimum_calls(1)
        .slow_calls(Duration::MAX, 1.0)
        .open_for(Duration::MAX)
        .close_after(u32::MAX)
        .probes(u32::MAX);
    let retry = Retry::attempts(u32::MAX).base(Duration::MAX).factor(f64::MAX).max_delay(Duration::MAX);
    Plain::builder()
        .circuit_breaker(breaker)
        .rate_limit(RateLimit::new(u32::MAX, Duration::from_secs(u64::from(u32::MAX))).burst(9).max_wait(Duration::MAX))
        .bulkhead(Bulkhead::new(usize::MAX >> 3).max_wait(Duration::MAX).max_waiting(usize::MAX))
        .retry(retry.without_jitter())
        .retry_if(|result| result.is_err())
        .failure_if(|_| false)
        .delay_hint(|_| Some(Duration::MAX))
        .retry_budget(&RetryBudget::new(u32::MAX, f64::MAX).per_call(f64::MAX))
        .timeout(Timeout::per_attempt(Duration::MAX).and_whole(Duration::MAX))
        .hedge(Hedge::after(Duration::MAX))
        .clock(clock)
        .build()
        .unwrap()
}

#[tokio::test]
async fn the_largest_of_everything_panics_nowhere() {
    let clock = ManualClock::new();
    let policies = [largest(SystemClock), largest(TokioClock::new()), largest(clock.clone())];
    for policy in &policies {
        assert_eq!(policy.call(|| async { Ok(1) }).await.unwrap(), 1);
        assert!(at_once(policy.call(std::future::pending)).is_none());
        // The pause is for ever; if that is more than the whole call may take, it is not begun.
        let paused = at_once(policy.call(|| async { Err(Broken(1)) }));
        assert!(paused.is_none_or(|ended| matches!(ended, Err(Error::Inner(Broken(1))))));
        let mut under_way = Box::pin(policy.call(std::future::pending));
        assert!(at_once(under_way.as_mut()).is_none());
        assert!(at_once(policy.close(Duration::MAX)).is_none(), "it waits for as long as it takes");
    }
    clock.advance(Duration::MAX);
    assert!(at_once(policies[2].close(Duration::MAX)) == Some(0));
}

#[tokio::test]
async fn waits_without_end_are_waits() {
    let clock = ManualClock::new();
    let clocks: [Arc<dyn Fn() -> everfresh_resilience::Builder<u32, Broken>>; 3] = [
        Arc::new(|| Plain::builder().clock(SystemClock)),
        Arc::new(|| Plain::builder().clock(TokioClock::new())),
        Arc::new(move || Plain::builder().clock(clock.clone())),
    ];
    for builder in clocks {
        let limit = RateLimit::new(1, 1000 * MINUTE).max_wait(Duration::MAX);
        let policy = builder().rate_limit(limit).bulkhead(Bulkhead::new(1).max_wait(Duration::MAX)).build().unwrap();
        let mut running = Box::pin(policy.call(std::future::pending));
        assert!(at_once(running.as_mut()).is_none());
        assert!(at_once(policy.call(|| async { Ok(1) })).is_none());
        let policy = builder().bulkhead(Bulkhead::new(1).max_wait(Duration::MAX)).build().unwrap();
        let mut running = Box::pin(policy.call(std::future::pending));
        assert!(at_once(running.as_mut()).is_none());
        assert!(at_once(policy.call(|| async { Ok(1) })).is_none());
    }
}
