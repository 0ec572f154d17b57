//! Trying again: what, how often, after which pause.

use std::time::Duration;

use everfresh_resilience::{Error, Event, Exhausted, Retry, Timeout};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn pauses_grow_up_to_the_longest() {
    let (calls, ear) = (Calls::default(), Ear::default());
    let retry = Retry::attempts(6).base(SECOND).factor(3.0).max_delay(10 * SECOND).without_jitter();
    let policy = builder().retry(retry).listener(ear.listener()).build().unwrap();
    let (result, took) = timed(policy.call(calls.failing())).await;
    assert!(matches!(result, Err(Error::Inner(Broken(6)))), "the last error");
    assert_eq!((calls.count(), took), (6, (1 + 3 + 9 + 10 + 10) * SECOND));
    let heard = ear.take();
    assert_eq!(heard[1], Event::Retry { attempt: 2, pause: 3 * SECOND });
    assert_eq!(heard[5], Event::RetryExhausted { attempts: 6, why: Exhausted::Attempts });
    assert_eq!(heard[6], Event::Failure { took, attempts: 6 });
}

#[tokio::test(start_paused = true)]
async fn full_jitter_draws_from_nothing_to_the_whole_pause() {
    let ear = Ear::default();
    let policy = builder().retry(Retry::attempts(2).base(SECOND)).listener(ear.listener()).build().unwrap();
    let mut pauses = vec![];
    for _ in 0..400 {
        policy.call(Calls::default().failing()).await.unwrap_err();
        pauses.extend(ear.take().iter().filter_map(|event| match event {
            Event::Retry { pause, .. } => Some(*pause),
            _ => None,
        }));
    }
    assert_eq!(pauses.len(), 400);
    assert!(pauses.iter().all(|pause| *pause <= SECOND));
    let mean = pauses.iter().sum::<Duration>() / 400;
    assert!(mean > ms(400) && mean < ms(600), "evenly: {mean:?}");
    assert!(pauses.iter().any(|pause| *pause < ms(100)) && pauses.iter().any(|pause| *pause > ms(900)));
}

#[tokio::test(start_paused = true)]
async fn only_what_the_predicate_asks_for_is_tried_again() {
    let policy = builder()
        .retry(Retry::attempts(3))
        .retry_if(|result| matches!(result, Err(Broken(503)) | Ok(0)))
        .build()
        .unwrap();
    let calls = Calls::default();
    let count = |code: Result<u32, Broken>| {
        let (calls, policy) = (calls.clone(), policy.clone());
        async move {
            let before = calls.count();
            let result = policy
                .call(|| {
                    calls.one_more();
                    async move { code }
                })
                .await;
            (result, calls.count() - before)
        }
    };
    assert!(matches!(count(Err(Broken(404))).await, (Err(Error::Inner(Broken(404))), 1)));
    assert!(matches!(count(Err(Broken(503))).await, (Err(Error::Inner(Broken(503))), 3)));
    assert!(matches!(count(Ok(5)).await, (Ok(5), 1)));
    assert!(matches!(count(Ok(0)).await, (Ok(0), 3)), "rejected to the last, and returned all the same");
}

#[tokio::test(start_paused = true)]
async fn a_hint_is_the_pause_and_one_too_long_ends_the_attempts() {
    let ear = Ear::default();
    let policy = builder()
        .retry(Retry::attempts(3).max_delay(MINUTE))
        .delay_hint(|result| result.as_ref().err().map(|broken| Duration::from_secs(broken.0.into())))
        .listener(ear.listener())
        .build()
        .unwrap();
    let (_, took) = timed(policy.call(|| async { Err(Broken(7)) })).await;
    assert_eq!(took, 14 * SECOND, "neither shortened nor drawn by lot");
    ear.take();
    let (result, took) = timed(policy.call(|| async { Err(Broken(61)) })).await;
    assert!(matches!(result, Err(Error::Inner(Broken(61)))));
    assert_eq!(took, Duration::ZERO);
    assert_eq!(ear.take()[0], Event::RetryExhausted { attempts: 1, why: Exhausted::Hint });
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_took_too_long_is_tried_again() {
    let calls = Calls::default();
    let policy = builder()
        .retry(Retry::attempts(2).base(SECOND).without_jitter())
        .timeout(Timeout::per_attempt(SECOND))
        .build()
        .unwrap();
    let result = policy
        .call(|| {
            let takes = if calls.one_more() == 1 { MINUTE } else { ms(10) };
            async move {
                tokio::time::sleep(takes).await;
                Ok(1)
            }
        })
        .await;
    assert_eq!(result.unwrap(), 1);
    assert_eq!(calls.count(), 2);
}

#[test]
fn settings_that_cannot_work_are_refused() {
    for retry in [
        Retry::attempts(0),
        Retry::attempts(2).factor(0.5),
        Retry::attempts(2).factor(f64::INFINITY),
        Retry::attempts(2).base(MINUTE).max_delay(SECOND),
    ] {
        assert!(Plain::builder().retry(retry).build().is_err(), "{retry:?}");
    }
    assert!(Plain::builder().timeout(Duration::ZERO).build().is_err());
    assert!(Plain::builder().delay_hint(|_| None).build().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_function_may_borrow_from_its_caller() {
    let policy = builder().retry(Retry::attempts(3)).build().unwrap();
    let mut tried = Vec::new();
    let word = String::from("abc");
    let result = policy
        .call(|| {
            tried.push(word.len() as u32);
            let word = &word;
            async move { if word.is_empty() { Ok(0) } else { Err(Broken(word.len() as u32)) } }
        })
        .await;
    assert!(matches!(result, Err(Error::Inner(Broken(3)))));
    assert_eq!(tried, [3, 3, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_pause_of_zero_stays_zero_however_often_it_is_multiplied() {
    let calls = Calls::default();
    // The factor to the power of 1,024 is infinite.
    let retry = Retry::attempts(1200).base(Duration::ZERO).without_jitter();
    let policy = builder().retry(retry).build().unwrap();
    let (_, took) = timed(policy.call(calls.failing())).await;
    assert_eq!((calls.count(), took), (1200, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_would_outlast_the_whole_call_is_not_begun() {
    let (calls, ear) = (Calls::default(), Ear::default());
    let policy = builder()
        .retry(Retry::attempts(3).base(SECOND).factor(3.0).without_jitter())
        .timeout(Timeout::whole(4 * SECOND))
        .listener(ear.listener())
        .build()
        .unwrap();
    let (result, took) = timed(policy.call(calls.failing())).await;
    assert!(matches!(result, Err(Error::Inner(Broken(2)))), "the error at hand");
    assert_eq!((took, calls.count()), (SECOND, 2));
    assert!(ear.take().contains(&Event::RetryExhausted { attempts: 2, why: Exhausted::Time }));
}
