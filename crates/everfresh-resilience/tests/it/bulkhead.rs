//! So many at once, and so many waiting.

use everfresh_resilience::{Bulkhead, Error};
use futures_util::{future::join_all, poll};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn no_more_run_than_there_are_places() {
    let policy = builder().bulkhead(Bulkhead::new(3).max_wait(MINUTE)).build().unwrap();
    let (running, most) = (Calls::default(), std::sync::atomic::AtomicUsize::new(0));
    let now = std::sync::atomic::AtomicUsize::new(0);
    let calls = (0..20).map(|_| {
        policy.call(|| {
            running.one_more();
            let at_once = now.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
            most.fetch_max(at_once, std::sync::atomic::Ordering::SeqCst);
            let now = &now;
            async move {
                tokio::time::sleep(SECOND).await;
                now.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                Ok(0)
            }
        })
    });
    let (results, took) = timed(join_all(calls)).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!((running.count(), most.into_inner(), took), (20, 3, 7 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn waiting_is_bounded_in_time_and_in_number() {
    let bulkhead = Bulkhead::new(1).max_wait(5 * SECOND).max_waiting(2);
    let policy = builder().bulkhead(bulkhead).build().unwrap();
    let mut first = Box::pin(policy.call(Calls::default().slow(MINUTE)));
    assert!(poll!(&mut first).is_pending());
    let mut waiting: Vec<_> = (0..2).map(|_| Box::pin(policy.call(Calls::default().numbered()))).collect();
    for call in &mut waiting {
        assert!(poll!(call).is_pending());
    }
    assert_eq!(policy.health().bulkhead.unwrap().waiting, 2);
    assert!(matches!(at_once(policy.call(Calls::default().numbered())), Some(Err(Error::BulkheadFull))));
    let (results, took) = timed(join_all(waiting)).await;
    assert!(results.iter().all(|result| matches!(result, Err(Error::BulkheadFull))));
    assert_eq!(took, 5 * SECOND);
    assert_eq!(policy.health().bulkhead.unwrap().waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_goes_away_leaves_its_place() {
    let policy = builder().bulkhead(Bulkhead::new(1)).build().unwrap();
    let mut first = Box::pin(policy.call(std::future::pending));
    assert!(poll!(&mut first).is_pending());
    assert!(policy.call(Calls::default().numbered()).await.is_err());
    drop(first);
    assert!(policy.call(Calls::default().numbered()).await.is_ok());
}

#[test]
fn a_bulkhead_without_places_is_refused() {
    assert!(Plain::builder().bulkhead(Bulkhead::new(0)).build().is_err());
}
