//! So many calls in so long.

use std::time::Duration;

use everfresh_resilience::{Error, RateLimit};
use futures_util::future::join_all;

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn a_burst_and_then_one_by_one() {
    let policy = builder().rate_limit(RateLimit::new(60, MINUTE).burst(3)).build().unwrap();
    let calls = Calls::default();
    for _ in 0..3 {
        policy.call(calls.numbered()).await.unwrap();
    }
    let refused = policy.call(calls.numbered()).await.unwrap_err();
    assert_eq!(refused.retry_after(), Some(SECOND));
    tokio::time::advance(SECOND).await;
    policy.call(calls.numbered()).await.unwrap();
    assert!(matches!(policy.call(calls.numbered()).await, Err(Error::RateLimited { .. })));
    // An hour later: a burst again, no more.
    tokio::time::advance(60 * MINUTE).await;
    let results = join_all((0..10).map(|_| policy.call(calls.numbered()))).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 3);
}

#[tokio::test(start_paused = true)]
async fn it_waits_for_room_no_longer_than_told() {
    let policy = builder().rate_limit(RateLimit::new(1, SECOND).max_wait(3 * SECOND)).build().unwrap();
    let (results, took) = timed(join_all((0..10).map(|_| policy.call(Calls::default().numbered())))).await;
    let done = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(done, 4, "one at once, three within three seconds");
    assert!(took <= 3 * SECOND, "{took:?}");
}

#[test]
fn a_limit_of_nothing_is_refused() {
    for limit in [RateLimit::new(0, SECOND), RateLimit::new(1, Duration::ZERO), RateLimit::new(1, SECOND).burst(0)] {
        let refused = Plain::builder().rate_limit(limit).build().unwrap_err();
        assert!(refused.to_string().contains("above zero"), "{limit:?}: {refused}");
    }
    let refused = Plain::builder().rate_limit(RateLimit::new(u32::MAX, SECOND)).build().unwrap_err();
    assert!(refused.to_string().contains("leave it out"), "{refused}");
}
