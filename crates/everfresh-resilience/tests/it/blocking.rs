//! Threads have the same layers; what a timeout cannot do there is told by tests, too.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use everfresh::Cache;
use everfresh_resilience::{Behind, Builder, Bulkhead, CircuitBreaker, Error, Hedge, ManualClock, RateLimit, Retry};
use futures_util::poll;

use crate::support::*;

/// Moves the clock to whatever is waited for next, until told to stop.
fn moving<T>(clock: &ManualClock, work: impl FnOnce() -> T) -> T {
    let (stop, stopped) = mpsc::channel::<()>();
    let clock = clock.clone();
    thread::scope(|scope| {
        scope.spawn(move || {
            while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
                let now = everfresh_resilience::Clock::now(&clock);
                match clock.next_wake() {
                    Some(at) => clock.advance(at.saturating_sub(now)),
                    None => thread::yield_now(),
                }
            }
        });
        let made = work();
        drop(stop);
        made
    })
}

#[test]
fn a_thread_retries_in_the_policys_time() {
    let (clock, calls) = (ManualClock::new(), Calls::default());
    let retry = Retry::attempts(4).base(60 * MINUTE).factor(2.0).max_delay(1000 * MINUTE).without_jitter();
    let policy = Plain::builder().retry(retry).clock(clock.clone()).build().unwrap();
    let counted = calls.clone();
    let result = moving(&clock, || policy.call_blocking(move || Err(Broken(counted.one_more() as u32))));
    assert!(matches!(result, Err(Error::Inner(Broken(4)))));
    assert_eq!(everfresh_resilience::Clock::now(&clock), 7 * 60 * MINUTE);
}

#[test]
fn without_a_timeout_the_function_runs_on_its_callers_thread() {
    let policy = Policy2::builder().retry(Retry::attempts(2)).build().unwrap();
    let here = thread::current().id();
    assert_eq!(policy.call_blocking(move || Ok::<_, Broken>(thread::current().id())).unwrap(), here);
    let policy = Policy2::builder().timeout(MINUTE).build().unwrap();
    assert_ne!(policy.call_blocking(move || Ok::<_, Broken>(thread::current().id())).unwrap(), here);
}

type Policy2 = everfresh_resilience::Policy<thread::ThreadId, Broken>;

#[test]
fn a_caller_walks_away_in_time_and_the_function_keeps_its_place_until_it_ends() {
    let clock = ManualClock::new();
    let policy = Plain::builder().timeout(SECOND).bulkhead(Bulkhead::new(1)).clock(clock.clone()).build().unwrap();
    let (begin, began) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let gate = Mutex::new((begin, released));
    let caller = policy.clone();
    let caller = thread::spawn(move || {
        caller.call_blocking(move || {
            let gate = gate.lock().unwrap();
            gate.0.send(()).unwrap();
            gate.1.recv().unwrap();
            Ok(1)
        })
    });
    began.recv().unwrap();
    while clock.next_wake().is_none() {
        thread::yield_now();
    }
    clock.advance(SECOND);
    assert!(matches!(caller.join().unwrap(), Err(Error::TimedOut { after: SECOND, called: true })));
    assert_eq!(policy.health().in_flight, 0);
    assert!(matches!(policy.call_blocking(|| Ok(2)), Err(Error::BulkheadFull)), "it still runs");
    release.send(()).unwrap();
    while policy.health().bulkhead.unwrap().running == 1 {
        thread::yield_now();
    }
    assert_eq!(policy.call_blocking(|| Ok(2)).unwrap(), 2);
}

#[test]
fn many_slow_functions_do_not_queue_behind_each_other_in_their_callers_time() {
    // Upstream's pool of four made the fifth caller time out in the queue.
    let policy = Plain::builder().timeout(MINUTE).build().unwrap();
    let barrier = Arc::new(std::sync::Barrier::new(16));
    thread::scope(|scope| {
        let callers: Vec<_> = (0..16)
            .map(|_| {
                let (policy, barrier) = (policy.clone(), Arc::clone(&barrier));
                scope.spawn(move || {
                    policy.call_blocking(move || {
                        barrier.wait();
                        Ok(1)
                    })
                })
            })
            .collect();
        assert!(callers.into_iter().all(|caller| caller.join().unwrap().is_ok()));
    });
}

#[test]
fn a_panic_reaches_the_caller_and_frees_what_the_call_held() {
    let clock = ManualClock::new();
    for timeout in [None, Some(MINUTE)] {
        let breaker = CircuitBreaker::consecutive(2);
        let mut builder = Plain::builder().bulkhead(Bulkhead::new(1)).circuit_breaker(breaker).clock(clock.clone());
        if let Some(timeout) = timeout {
            builder = builder.timeout(timeout);
        }
        let policy = builder.build().unwrap();
        let guarded = policy.clone();
        let panicked = thread::spawn(move || guarded.call_blocking(|| panic!("on purpose"))).join();
        assert!(panicked.is_err());
        assert_eq!((policy.health().in_flight, policy.health().circuit.unwrap().failures), (0, 1));
        while policy.health().bulkhead.unwrap().running == 1 {
            thread::yield_now();
        }
        assert_eq!(policy.call_blocking(|| Ok(1)).unwrap(), 1);
    }
}

#[tokio::test]
async fn threads_and_tasks_share_circuit_limit_and_places() {
    let policy = Plain::builder()
        .circuit_breaker(CircuitBreaker::consecutive(2))
        .rate_limit(RateLimit::new(4, 60 * MINUTE))
        .bulkhead(Bulkhead::new(1))
        .clock(ManualClock::new())
        .build()
        .unwrap();
    let mut task = Box::pin(policy.call(std::future::pending));
    assert!(poll!(&mut task).is_pending());
    assert!(matches!(policy.call_blocking(|| Ok(1)), Err(Error::BulkheadFull)));
    drop(task);
    policy.call_blocking(|| Err(Broken(1))).unwrap_err();
    policy.call(|| async { Err(Broken(2)) }).await.unwrap_err();
    assert!(matches!(policy.call_blocking(|| Ok(1)), Err(Error::CircuitOpen { .. })));
}

#[test]
fn threads_share_one_load_behind_a_cache() {
    let cache: Cache<String, u32> = Cache::builder().capacity(10).build().unwrap();
    let policy = Plain::builder().retry(Retry::attempts(2).base(Duration::ZERO)).cache(cache).build().unwrap();
    let calls = Calls::default();
    let start = std::sync::Barrier::new(20);
    let values: Vec<u32> = thread::scope(|scope| {
        let callers: Vec<_> = (0..20)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    let calls = calls.clone();
                    policy
                        .call_blocking(&"a".to_owned(), move || match calls.one_more() {
                            1 => Err(Broken(1)),
                            number => Ok(number as u32),
                        })
                        .unwrap()
                })
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    assert_eq!((values, calls.count()), (vec![2; 20], 2), "one load of two attempts");
}

fn in_front() -> Builder<u32, Broken, Behind<Cache<String, u32>>> {
    Plain::builder().cache(Cache::builder().capacity(10).build().unwrap())
}

/// It ran on a worker then, which nobody knew to be inside the load: each waited for the other, without a timeout for ever (contract L8).
#[test]
fn a_function_on_a_worker_that_asks_for_its_own_key_is_told() {
    let never = ManualClock::new();
    for policy in [in_front().hedge(Hedge::after(SECOND)), in_front().timeout(SECOND)] {
        let policy = policy.clock(never.clone()).build().unwrap();
        let (inside, key) = (policy.clone(), "a".to_owned());
        let told = policy.call_blocking(&"a".to_owned(), move || {
            assert_eq!(inside.call_blocking(&"b".to_owned(), || Ok(2)).unwrap(), 2, "another key is another load");
            let error = inside.call_blocking(&key, || Ok(1)).unwrap_err();
            Err(Broken(error.to_string().contains("asked the cache for the same key").into()))
        });
        assert!(matches!(*told.unwrap_err(), Error::Inner(Broken(1))));
        assert_eq!(policy.call_blocking(&"a".to_owned(), || Ok(3)).unwrap(), 3);
    }
}

#[test]
fn a_function_whose_caller_has_walked_away_is_inside_of_no_load_any_more() {
    let clock = ManualClock::new();
    let policy = in_front().timeout(SECOND).clock(clock.clone()).build().unwrap();
    let ((left, has_left), (told, hears)) = (mpsc::channel::<()>(), mpsc::channel());
    let (begins, has_begun) = mpsc::channel();
    let (inside, has_left) = (policy.clone(), Mutex::new(has_left));
    thread::scope(|scope| {
        let caller = scope.spawn(|| {
            policy.call_blocking(&"a".to_owned(), move || {
                begins.send(()).unwrap();
                has_left.lock().unwrap().recv().unwrap_err();
                told.send(inside.call_blocking(&"a".to_owned(), || Ok(7)).ok()).unwrap();
                Ok(1)
            })
        });
        // One that has not begun in time never does.
        has_begun.recv().unwrap();
        let walked = moving(&clock, || caller.join().unwrap());
        assert!(walked.unwrap_err().is_timeout());
    });
    drop(left);
    assert_eq!(hears.recv().unwrap(), Some(7));
    assert_eq!(policy.cache().get("a"), Some(7));
}
