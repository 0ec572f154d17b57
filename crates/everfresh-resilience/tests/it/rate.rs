//! So many calls in so long.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use everfresh_resilience::{Error, ManualClock, RateLimit};
use futures_util::{future::join_all, poll};

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

/// They panicked, and without overflow checks limited something else.
#[test]
fn a_limit_beyond_all_time_is_refused_and_time_that_is_beyond_ends_nothing() {
    const DAY: Duration = Duration::from_secs(86_400);
    for limit in [
        RateLimit::new(1, Duration::MAX),
        RateLimit::new(1, DAY).burst(100_000),
        RateLimit::new(u32::MAX, Duration::MAX),
        RateLimit::new(1, DAY).burst(u32::MAX),
    ] {
        let refused = Plain::builder().rate_limit(limit).build().unwrap_err();
        assert!(refused.to_string().contains("lower it"), "{limit:?}: {refused}");
    }
    let clock = ManualClock::new();
    let century = RateLimit::new(1, DAY).burst(36_500);
    let policy = Plain::builder().rate_limit(century).clock(clock.clone()).build().unwrap();
    for by in [Duration::ZERO, DAY, 200_000 * DAY, Duration::MAX] {
        clock.advance(by);
        policy.call_blocking(|| Ok(1)).unwrap();
    }
}

#[test]
fn what_a_burst_used_comes_back_one_by_one() {
    let clock = ManualClock::new();
    for (burst, begun_within_a_second) in [(10, 19), (1, 10)] {
        let limit = RateLimit::new(10, SECOND).burst(burst);
        let policy = Plain::builder().rate_limit(limit).clock(clock.clone()).build().unwrap();
        let begins = |_: &u32| {
            let begun = policy.call_blocking(|| Ok(1)).is_ok();
            clock.advance(ms(1));
            begun
        };
        assert_eq!((0..1000).filter(begins).count(), begun_within_a_second);
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_not_overtaken_by_those_who_come_later() {
    let policy = builder().rate_limit(RateLimit::new(1, SECOND).max_wait(3 * SECOND)).build().unwrap();
    policy.call(Calls::default().numbered()).await.unwrap();
    let mut first = Box::pin(policy.call(Calls::default().numbered()));
    assert!(poll!(&mut first).is_pending());
    tokio::time::advance(SECOND).await;
    // Somebody who comes just when there is room, before the first is awake.
    let mut second = Box::pin(policy.call(Calls::default().numbered()));
    assert!(poll!(&mut second).is_pending());
    assert!(matches!(poll!(&mut first), Poll::Ready(Ok(1))));
    // Who goes away while waiting leaves its turn to the next.
    let mut third = Box::pin(policy.call(Calls::default().numbered()));
    assert!(poll!(&mut third).is_pending());
    assert!(poll!(&mut second).is_pending());
    drop(second);
    assert_eq!(timed(third).await.1, SECOND);
    // And when all are gone, there is room as before.
    tokio::time::advance(SECOND).await;
    assert!(matches!(at_once(policy.call(Calls::default().numbered())), Some(Ok(1))));
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_for_its_turn_is_told_when_there_is_room() {
    let policy = builder().rate_limit(RateLimit::new(1, 10 * SECOND).max_wait(12 * SECOND)).build().unwrap();
    policy.call(Calls::default().numbered()).await.unwrap();
    let mut first = Box::pin(policy.call(Calls::default().numbered()));
    assert!(poll!(&mut first).is_pending());
    let (refused, took) = timed(async { tokio::join!(policy.call(Calls::default().numbered()), first) }).await;
    assert!(refused.1.is_ok() && took == 10 * SECOND, "{took:?}");
    assert_eq!(refused.0.unwrap_err().retry_after(), Some(10 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn who_waits_and_is_not_polled_holds_up_nobody() {
    let policy = builder().rate_limit(RateLimit::new(1, SECOND).max_wait(MINUTE)).build().unwrap();
    let waiting = || policy.call(Calls::default().numbered());
    let began = tokio::time::Instant::now();
    waiting().await.unwrap();
    let mut left: Vec<_> = (0..2).map(|_| Box::pin(waiting())).collect();
    for future in &mut left {
        assert!(poll!(future).is_pending());
    }
    let mut ended = Vec::new();
    let note = |name: &'static str| {
        let call = waiting();
        async move {
            call.await.unwrap();
            (name, began.elapsed())
        }
    };
    let mut others: futures_util::stream::FuturesUnordered<_> =
        ["first", "second", "third"].map(note).into_iter().collect();
    let all = async {
        while let Some(other) = futures_util::StreamExt::next(&mut others).await {
            ended.push(other);
        }
    };
    tokio::time::timeout(MINUTE / 2, all).await.unwrap();
    assert_eq!(ended.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["first", "second", "third"]);
    // Each of the two has its time, and a little more.
    assert!(ended[0].1 <= 2 * SECOND + ms(50) && ended[2].1 <= 4 * SECOND + ms(50), "{ended:?}");
    // Who looks again is the first again.
    let mut last = Box::pin(waiting());
    assert!(poll!(&mut last).is_pending() && poll!(&mut left[0]).is_pending());
    tokio::time::advance(SECOND + ms(5)).await;
    assert!(poll!(&mut last).is_pending());
    assert!(matches!(poll!(&mut left[0]), Poll::Ready(Ok(1))));
    let took = timed(&mut last).await.1;
    assert!(took <= SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn who_is_not_polled_is_passed_over_a_little_after_there_is_room() {
    let policy = builder().rate_limit(RateLimit::new(1, 10 * SECOND).max_wait(MINUTE)).build().unwrap();
    policy.call(Calls::default().numbered()).await.unwrap();
    let mut left = Box::pin(policy.call(Calls::default().numbered()));
    assert!(poll!(&mut left).is_pending());
    let (called, took) = timed(policy.call(Calls::default().numbered())).await;
    assert!(called.is_ok() && took >= 10 * SECOND && took <= 10 * SECOND + ms(50), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_in_the_line_is_never_told_that_there_is_room_now() {
    let policy = builder().rate_limit(RateLimit::new(1, 10 * SECOND).max_wait(10 * SECOND)).build().unwrap();
    policy.call(Calls::default().numbered()).await.unwrap();
    let mut first = Box::pin(policy.call(Calls::default().numbered()));
    assert!(poll!(&mut first).is_pending());
    let (refused, took) = timed(policy.call(Calls::default().numbered())).await;
    assert_eq!((refused.unwrap_err().retry_after(), took), (Some(10 * SECOND), 10 * SECOND));
    assert!(matches!(poll!(&mut first), Poll::Ready(Ok(1))));
}

/// It hung, and everybody after it: with the waker the task went, and with the task its place, all under one lock.
#[test]
fn who_is_passed_over_and_known_to_its_waker_alone_goes_without_harm() {
    type Task = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;
    struct Forgotten(Mutex<Option<Task>>);
    impl Wake for Forgotten {
        fn wake(self: Arc<Self>) {}
    }
    let clock = ManualClock::new();
    let limit = RateLimit::new(1, SECOND).max_wait(MINUTE);
    let policy = Plain::builder().clock(clock.clone()).rate_limit(limit).build().unwrap();
    policy.call_blocking(|| Ok(0)).unwrap();
    let (calling, gone) = (policy.clone(), Arc::new(()));
    let told = Arc::downgrade(&gone);
    let task: Task = Box::pin(async move {
        let _gone = gone;
        drop(calling.call(|| async { Ok(1) }).await);
    });
    let forgotten = Arc::new(Forgotten(Mutex::new(Some(task))));
    let waker = Waker::from(Arc::clone(&forgotten));
    let polled = forgotten.0.lock().unwrap().as_mut().map(|task| task.as_mut().poll(&mut Context::from_waker(&waker)));
    assert_eq!(polled, Some(Poll::Pending));
    drop((waker, forgotten));
    let (answer, answered) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut next = pin!(policy.call(|| async { Ok(2) }));
        let mut look = || next.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(look().is_pending());
        clock.advance(2 * SECOND);
        answer.send(look()).unwrap();
    });
    assert!(matches!(answered.recv_timeout(MINUTE), Ok(Poll::Ready(Ok(2)))));
    assert_eq!(told.strong_count(), 0);
}
