//! A policy lives in the time that it was given, wherever it is called from.

use std::sync::Arc;
use std::sync::mpsc;
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

use everfresh_resilience::{Clock, Error, ManualClock, Retry, TokioClock};

use crate::support::*;

#[tokio::test(start_paused = true)]
async fn a_paused_runtimes_time_is_the_same_in_tasks_and_outside() {
    let clock = TokioClock::new();
    tokio::time::advance(60 * MINUTE).await;
    let everywhere = |clock: TokioClock| thread::spawn(move || clock.now()).join().unwrap();
    assert_eq!(clock.now(), 60 * MINUTE);
    assert_eq!(everywhere(clock.clone()), 60 * MINUTE);
    let inside = clock.clone();
    let in_a_task = tokio::spawn(async move { inside.now() });
    assert_eq!(in_a_task.await.unwrap(), 60 * MINUTE);
}

#[test]
fn a_runtimes_time_can_be_read_and_waited_for_on_a_thread_of_no_runtime() {
    for mut runtime in [tokio::runtime::Builder::new_current_thread(), tokio::runtime::Builder::new_multi_thread()] {
        let runtime = runtime.enable_time().worker_threads(1).build().unwrap();
        let policy = runtime.block_on(async {
            let retry = Retry::attempts(2).base(ms(1)).without_jitter();
            Plain::builder().clock(TokioClock::new()).retry(retry).timeout(MINUTE).build().unwrap()
        });
        // Somebody has to turn a runtime of one thread.
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        thread::scope(|scope| {
            scope.spawn(|| runtime.block_on(stopped));
            let policy = policy.clone();
            let ended = scope.spawn(move || policy.call_blocking(|| Err(Broken(1)))).join().unwrap();
            assert!(matches!(ended, Err(Error::Inner(Broken(1)))));
            stop.send(()).unwrap();
        });
    }
}

#[tokio::test]
async fn a_timer_of_the_runtime_needs_no_runtime_where_it_is_polled() {
    let policy = builder().timeout(ms(1)).build().unwrap();
    let mut hung = Box::pin(policy.call(std::future::pending));
    // First polled outside of every runtime, then awaited inside.
    thread::scope(|scope| scope.spawn(|| assert!(at_once(hung.as_mut()).is_none())).join().unwrap());
    let ended = hung.await;
    assert!(matches!(ended, Err(Error::TimedOut { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_moment_beyond_all_time_never_comes() {
    let policy = builder().timeout(Duration::MAX).build().unwrap();
    let (result, took) = timed(policy.call(Calls::default().slow(60 * MINUTE))).await;
    assert_eq!((result.unwrap(), took), (1, 60 * MINUTE));
}

/// A task that looks at the clock when the last waker of it is gone.
struct Leaves(ManualClock, mpsc::Sender<()>);

impl Wake for Leaves {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Leaves {
    fn drop(&mut self) {
        let _next = self.0.next_wake();
        self.1.send(()).unwrap();
    }
}

#[test]
fn a_task_that_ends_with_its_last_waker_may_look_at_the_clock_that_it_slept_by() {
    let (clock, (leaves, left)) = (ManualClock::new(), mpsc::channel());
    let inside = clock.clone();
    // On a thread of its own: one that hangs fails the test nevertheless.
    let sleeper = thread::spawn(move || {
        let waker = || Waker::from(Arc::new(Leaves(inside.clone(), leaves.clone())));
        let mut sleep = inside.sleep_until(SECOND);
        for _ in 0..2 {
            assert!(sleep.as_mut().poll(&mut Context::from_waker(&waker())).is_pending());
        }
        drop(sleep);
    });
    for _ in 0..2 {
        left.recv_timeout(MINUTE).expect("a waker that is replaced is let go, and so is the last");
    }
    sleeper.join().unwrap();
    assert_eq!(clock.next_wake(), None);
}
