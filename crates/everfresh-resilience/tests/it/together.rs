//! All layers at once, as people use them, and the sets of them as their table says.

use everfresh::{Cache, Lifetime};
use everfresh_resilience::*;
use futures_util::poll;
use proptest::prelude::*;

use crate::support::*;

/// Every layer, none of which is in the way of a call that goes well.
fn all() -> Builder<u32, Broken> {
    builder()
        .circuit_breaker(CircuitBreaker::consecutive(3).open_for(MINUTE))
        .rate_limit(RateLimit::new(100, SECOND))
        .bulkhead(Bulkhead::new(2))
        .retry(Retry::attempts(3).base(SECOND).without_jitter())
        .retry_if(|result| !matches!(result, Ok(value) if *value != 0))
        .retry_budget(&RetryBudget::new(100, 0.0))
        .timeout(Timeout::per_attempt(10 * SECOND).and_whole(MINUTE))
        .hedge(Hedge::after(5 * SECOND))
        .fallback(|_| Some(99))
}

#[tokio::test(start_paused = true)]
async fn what_goes_well_is_told_as_one_success() {
    let (calls, ear) = (Calls::default(), Ear::default());
    let policy = all().listener(ear.listener()).build().unwrap();
    assert_eq!(policy.call(calls.numbered()).await.unwrap(), 1);
    assert_eq!((calls.count(), ear.names()), (1, vec!["success"]));
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_tried_again_opens_the_circuit_and_falls_back_in_that_order() {
    let (calls, ear) = (Calls::default(), Ear::default());
    let policy = all().listener(ear.listener()).build().unwrap();
    let (value, took) = timed(policy.call(calls.failing())).await;
    assert_eq!((value.unwrap(), calls.count(), took), (99, 3, 3 * SECOND));
    assert_eq!(ear.names(), ["retry", "retry", "circuit_opened", "retry_exhausted", "failure", "fallback_used"]);
    assert_eq!(policy.call(calls.failing()).await.unwrap(), 99);
    assert_eq!((calls.count(), ear.names()), (3, vec!["circuit_rejected", "failure", "fallback_used"]));
}

#[tokio::test(start_paused = true)]
async fn what_hangs_is_hedged_timed_out_and_tried_again_within_the_whole_time() {
    let (calls, ear) = (Calls::default(), Ear::default());
    let policy = all().listener(ear.listener()).build().unwrap();
    let (value, took) = timed(policy.call(calls.slow(10 * MINUTE))).await;
    assert_eq!((value.unwrap(), calls.count(), took), (99, 6, 33 * SECOND));
    let told = ["hedged", "timeout", "retry", "hedged", "timeout", "retry", "hedged", "timeout", "circuit_opened"];
    assert_eq!(ear.names(), [&told[..], &["retry_exhausted", "failure", "fallback_used"]].concat());
}

#[tokio::test(start_paused = true)]
async fn a_place_is_given_back_also_after_a_value_that_is_rejected_and_the_last_one_is_returned() {
    let policy = all().build().unwrap();
    let mut pausing = std::pin::pin!(policy.call(|| async { Ok(0) }));
    assert!(poll!(&mut pausing).is_pending());
    assert_eq!((policy.health().bulkhead.unwrap().running, policy.health().in_flight), (0, 1));
    assert_eq!(pausing.await.unwrap(), 0, "no fallback: there is a value");
    assert_eq!(policy.health().circuit.unwrap().state, CircuitState::Open, "each of them was a failure");
}

#[tokio::test(start_paused = true)]
async fn the_fallback_hears_the_error_at_hand_where_others_opened_the_circuit_during_the_pause() {
    let heard = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let hears = std::sync::Arc::clone(&heard);
    let policy = all().fallback(move |error| {
        hears.lock().unwrap().push(error.to_string());
        Some(7)
    });
    let policy = policy.build().unwrap();
    let mut pausing = std::pin::pin!(policy.call(|| async { Err(Broken(1)) }));
    assert!(poll!(&mut pausing).is_pending());
    assert_eq!(policy.call(|| async { Err(Broken(2)) }).await.unwrap(), 7);
    assert_eq!(pausing.await.unwrap(), 7);
    let mut heard = heard.lock().unwrap().clone();
    heard.sort();
    assert_eq!(heard, ["broken 1", "broken 2"]);
}

#[test]
fn the_presets_are_what_their_table_says() {
    let breaker = |failures, seconds, successes| {
        Some(CircuitBreaker::consecutive(failures).open_for(seconds * SECOND).close_after(successes))
    };
    let retry = |attempts, base, factor, longest| {
        Some(Retry::attempts(attempts).base(base).factor(factor).max_delay(longest * SECOND))
    };
    let each = |seconds| Some(Timeout::per_attempt(seconds * SECOND));
    for (preset, timeout, tries, opens) in [
        (presets::http(), each(10), retry(3, ms(500), 2.0, 30), breaker(5, 30, 2)),
        (presets::db(), each(30), retry(2, SECOND, 1.5, 10), breaker(3, 60, 1)),
        (presets::queue(), each(15), retry(5, 2 * SECOND, 2.0, 60), breaker(10, 60, 3)),
        (presets::llm(), each(60), retry(4, SECOND, 2.0, 60), breaker(5, 30, 2)),
        (presets::strict(), each(5), Some(Retry::attempts(1)), breaker(3, 60, 1)),
    ] {
        assert_eq!((preset.timeout, preset.retry, preset.circuit_breaker), (timeout, tries, opens));
        assert_eq!(preset.hedge, None);
        let besides = (preset.rate_limit, preset.bulkhead);
        match preset {
            _ if preset == presets::db() => assert_eq!(besides, (None, Some(Bulkhead::new(10).max_wait(5 * SECOND)))),
            _ if preset == presets::llm() => {
                assert_eq!(besides, (Some(RateLimit::new(60, MINUTE).max_wait(MINUTE)), None));
            }
            _ => assert_eq!(besides, (None, None)),
        }
    }
}

/// What one caller does: when it comes, how its function goes, and when it walks away.
fn callers() -> impl Strategy<Value = Vec<(u64, u8, u64, u64)>> {
    proptest::collection::vec((0..4_000_u64, 0..5_u8, 0..3_000_u64, 0..6_000_u64), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whoever_walks_away_in_whatever_state_leaves_nothing_behind(callers in callers()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let budget = RetryBudget::new(20, 1.0);
            let breaker = CircuitBreaker::consecutive(4).open_for(2 * SECOND).probes(2).close_after(1);
            let policy = builder()
                .circuit_breaker(breaker)
                .rate_limit(RateLimit::new(10, SECOND).max_wait(SECOND))
                .bulkhead(Bulkhead::new(2).max_wait(SECOND).max_waiting(5))
                .retry(Retry::attempts(3).base(ms(200)))
                .retry_budget(&budget)
                .timeout(Timeout::per_attempt(SECOND).and_whole(3 * SECOND))
                .hedge(Hedge::after(ms(300)))
                .build()
                .unwrap();
            let tasks: Vec<_> = callers.into_iter().map(|(comes, kind, takes, walks)| {
                let policy = policy.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(ms(comes)).await;
                    let call = policy.call(move || async move {
                        tokio::time::sleep(ms(takes)).await;
                        match kind {
                            0 => panic!("as told"),
                            1 | 2 => Err(Broken(1)),
                            _ => Ok(1),
                        }
                    });
                    let _ = tokio::time::timeout(ms(walks), call).await;
                })
            }).collect();
            for task in tasks {
                let _ = task.await;
            }
            tokio::time::sleep(MINUTE).await;
            let health = policy.health();
            let bulkhead = health.bulkhead.unwrap();
            assert_eq!((health.in_flight, bulkhead.running, bulkhead.waiting), (0, 0, 0));
            assert_eq!(policy.call(|| async { Ok(7) }).await.unwrap(), 7, "and the next is let through");
            assert_eq!(policy.health().circuit.unwrap().state, CircuitState::Closed);
            assert_eq!(policy.close(MINUTE).await, 0);
        });
    }

    #[test]
    fn also_behind_a_cache_with_a_fallback_that_takes_its_time(callers in callers()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let lifetime = Lifetime::ttl(SECOND).stale_while_revalidate(SECOND).stale_if_error(4 * SECOND);
            let cache = Cache::<u32, u32>::builder().capacity(100).lifetime(lifetime).negative_ttl(ms(300));
            let policy = builder()
                .circuit_breaker(CircuitBreaker::consecutive(4).open_for(2 * SECOND).close_after(1))
                .bulkhead(Bulkhead::new(2).max_wait(SECOND))
                .retry(Retry::attempts(2).base(ms(200)))
                .timeout(Timeout::per_attempt(SECOND).and_whole(2 * SECOND))
                .fallback_async(|error| {
                    let refused = error.is_refusal();
                    async move {
                        tokio::time::sleep(ms(500)).await;
                        refused.then_some(99)
                    }
                })
                .cache(cache.clock(everfresh::TokioClock::new()).build().unwrap())
                .build()
                .unwrap();
            let tasks: Vec<_> = callers.into_iter().map(|(comes, kind, takes, walks)| {
                let policy = policy.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(ms(comes)).await;
                    let key = comes as u32 % 3;
                    let call = policy.call(&key, move || async move {
                        tokio::time::sleep(ms(takes)).await;
                        match kind {
                            0 => panic!("as told"),
                            1 | 2 => Err(Broken(1)),
                            _ => Ok(1),
                        }
                    });
                    if let Ok(Ok(value)) = tokio::time::timeout(ms(walks), call).await {
                        assert!(value == 1 || value == 99);
                    }
                })
            }).collect();
            for task in tasks {
                let _ = task.await;
            }
            tokio::time::sleep(MINUTE).await;
            let health = policy.health();
            let bulkhead = health.bulkhead.unwrap();
            assert_eq!((health.in_flight, bulkhead.running, bulkhead.waiting), (0, 0, 0));
            for key in 0..3 {
                assert_eq!(policy.call(&key, || async { Ok(7) }).await.unwrap(), 7, "and the next is let through");
            }
            assert_eq!((policy.close(MINUTE).await, policy.cache().close_async(MINUTE).await), (0, 0));
        });
    }
}
