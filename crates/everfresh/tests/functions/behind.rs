//! What runs behind a caller of a function: with arguments that it was lent, in and out of runtimes, against clears.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::Poll;

use everfresh::{Ending, ManualClock, Outcome, RefreshPool, RefreshStatus, Workers, cache_data};
use futures_util::future::FutureExt;

use crate::kit::{Hand, MINUTE, poll_once, within_a_minute};

/// Cheap to hand on, as pools are.
#[derive(Clone)]
struct Pool(u32);

#[test]
fn what_the_foreground_is_lent_can_be_taken_along_when_asked() {
    #[cache_data(skip(pool))]
    fn lent(pool: &Pool, id: u32) -> u32 {
        pool.0 + id
    }
    #[cache_data]
    fn given(_pool: Pool, _trace: String, text: &str) -> u32 {
        _pool.0 + text.len() as u32
    }
    #[cache_data]
    fn of_any<T: Clone + Into<u64> + Send + Sync + 'static>(_base: &T, id: u64) -> u64 {
        _base.clone().into() + id
    }
    assert_eq!((lent(&Pool(1), 1), lent::warm(&Pool(1), [1, 2, 3]), lent::peek(3)), (2, 3, Some(4)));
    assert_eq!((lent::refresh(&Pool(5), 1).wait(), lent(&Pool(9), 1)), (Some(Ending::Stored), 6));
    assert_eq!((given::warm(Pool(1), String::new(), ["a", "bb"]), given::peek("bb")), (2, Some(3)));
    assert_eq!((given::refresh(Pool(4), String::new(), "a").wait(), given::peek("a")), (Some(Ending::Stored), Some(5)));
    assert_eq!((of_any::warm(&7_u32, [1]), of_any::peek::<u32>(1), of_any::peek::<u8>(1)), (1, Some(8), None));
}

#[tokio::test]
async fn also_of_an_asynchronous_function() {
    #[cache_data(skip(pool))]
    async fn lent(pool: &Pool, id: u32) -> Result<u32, String> {
        tokio::task::yield_now().await;
        Ok(pool.0 + id)
    }
    assert_eq!((lent::warm(&Pool(1), [1, 2]).await, lent(&Pool(9), 2).await), (2, Ok(3)));
    assert_eq!((lent::refresh(&Pool(5), 1).await, lent(&Pool(9), 1).await), (Some(Ending::Stored), Ok(6)));
}

#[test]
fn what_cannot_be_taken_along_can_still_be_lent() {
    struct Connection(AtomicU32);
    #[cache_data(skip(connection, by))]
    fn row(connection: &Connection, by: &dyn Fn(u32) -> u32, _words: &[&str], id: u32) -> u32 {
        by(connection.0.fetch_add(1, Ordering::Relaxed)) + id
    }
    let connection = Connection(AtomicU32::new(1));
    assert_eq!((row(&connection, &|it| it * 10, &["a"], 1), row(&connection, &|it| it, &[], 1)), (11, 11));
}

/// A refresh that was overtaken by a clear does not keep the next caller waiting, and what becomes of it is nobody's affair.
#[test]
fn i1_after_a_clear_during_a_refresh_the_next_call_runs_at_once_and_pays_for_nothing() {
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
    static HAND: LazyLock<Hand> = LazyLock::new(Hand::default);
    static FAILS: AtomicBool = AtomicBool::new(false);
    static RUNS: AtomicU32 = AtomicU32::new(0);
    #[cache_data(ttl = "1m", refresh = "background", clock = CLOCK.clone(), pool = RefreshPool::with_spawner(4, HAND.clone()))]
    fn run(id: u32) -> Result<u32, String> {
        let run = RUNS.fetch_add(1, Ordering::SeqCst);
        if FAILS.swap(false, Ordering::SeqCst) { Err("down".into()) } else { Ok(run) }
    }
    assert_eq!(run(1), Ok(0));
    CLOCK.advance(MINUTE);
    let waits = run::refresh(1);
    assert_eq!(waits.status(), RefreshStatus::Started);
    run::clear();
    let answer = run::answer(1).unwrap();
    assert_eq!(
        (answer.value, answer.outcome),
        (1, Outcome::Loaded),
        "made here, while the refresh still waits for its turn"
    );
    FAILS.store(true, Ordering::SeqCst);
    HAND.run();
    assert_eq!((run(1), run::stats().loads.discarded + run::stats().refreshes.discarded), (Ok(1), 1));
    drop(waits);
    // The failure of what was overtaken holds nothing up.
    CLOCK.advance(MINUTE);
    assert_eq!(run::answer(1).unwrap().refresh, RefreshStatus::Started);
    HAND.run();
    assert_eq!(run(1), Ok(3));
}

#[test]
fn r3_a_refresh_that_panics_keeps_the_old_value_and_is_left_alone_for_a_while() {
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
    static HAND: LazyLock<Hand> = LazyLock::new(Hand::default);
    static PANICS: AtomicBool = AtomicBool::new(false);
    #[cache_data(ttl = "1m", refresh = "background", clock = CLOCK.clone(), pool = RefreshPool::with_spawner(4, HAND.clone()))]
    fn shaky(id: u32) -> u32 {
        assert!(!PANICS.load(Ordering::SeqCst), "once");
        id
    }
    assert_eq!(shaky(1), 1);
    CLOCK.advance(MINUTE);
    PANICS.store(true, Ordering::SeqCst);
    assert_eq!(shaky::answer(1).refresh, RefreshStatus::Started);
    HAND.run();
    let answer = shaky::answer(1);
    assert_eq!((answer.value, answer.outcome, answer.refresh), (1, Outcome::Stale, RefreshStatus::BackingOff));
    assert_eq!(shaky::stats().refreshes.panicked, 1);
}

#[test]
fn a_value_that_expires_while_it_is_refreshed_is_not_made_twice() {
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
    static HAND: LazyLock<Hand> = LazyLock::new(Hand::default);
    static RUNS: AtomicU32 = AtomicU32::new(0);
    #[cache_data(ttl = "1m", refresh = "background", clock = CLOCK.clone(), pool = RefreshPool::with_spawner(4, HAND.clone()))]
    fn run() -> u32 {
        RUNS.fetch_add(1, Ordering::SeqCst)
    }
    within_a_minute(|| {
        assert_eq!(run(), 0);
        CLOCK.advance(MINUTE + MINUTE * 9 / 10);
        assert_eq!(run::answer().refresh, RefreshStatus::Started);
        // Sooner than a refresh is given up.
        CLOCK.advance(MINUTE / 10);
        let late = std::thread::spawn(run::answer);
        // Whether the late caller comes before or after the end of the refresh: it gets what that has made.
        HAND.run();
        let late = late.join().unwrap();
        assert_eq!((late.value, RUNS.load(Ordering::SeqCst)), (1, 2));
    });
}

/// It panicked: a function that cannot fail was told of a timeout that nobody had set.
#[test]
fn l4_who_waits_for_a_run_behind_that_is_given_up_runs_the_function_itself() {
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
    static HAND: LazyLock<Hand> = LazyLock::new(Hand::default);
    static RUNS: AtomicU32 = AtomicU32::new(0);
    #[cache_data(ttl = "1m", refresh = "background", clock = CLOCK.clone(), pool = RefreshPool::with_spawner(4, HAND.clone()))]
    async fn task() -> u32 {
        RUNS.fetch_add(1, Ordering::SeqCst)
    }
    #[cache_data(ttl = "1m", refresh = "background", clock = CLOCK.clone(), pool = RefreshPool::with_spawner(4, HAND.clone()))]
    fn blocking() -> u32 {
        RUNS.fetch_add(1, Ordering::SeqCst)
    }
    #[cache_data(ttl = "1m", refresh = "background", clock = CLOCK.clone(), pool = RefreshPool::with_spawner(4, HAND.clone()))]
    fn fallible() -> Result<u32, String> {
        Ok(RUNS.fetch_add(1, Ordering::SeqCst))
    }
    within_a_minute(|| {
        assert_eq!((task().now_or_never(), blocking(), fallible()), (Some(0), 1, Ok(2)));
        CLOCK.advance(MINUTE * 19 / 10);
        let started = [task::answer().now_or_never().unwrap(), blocking::answer(), fallible::answer().unwrap()];
        assert!(started.iter().all(|answer| answer.refresh == RefreshStatus::Started));
        // Their refreshes never begin, and are given up after half a minute.
        CLOCK.advance(MINUTE / 10);
        let mut waiting = Box::pin(task());
        assert!(poll_once(waiting.as_mut()).is_pending());
        let threads = [std::thread::spawn(blocking), std::thread::spawn(|| fallible().unwrap())];
        CLOCK.advance(MINUTE / 2);
        let Poll::Ready(own) = poll_once(waiting.as_mut()) else { panic!("it waits for what was given up") };
        assert!(threads.into_iter().all(|thread| thread.join().unwrap() > 2));
        assert_eq!((RUNS.load(Ordering::SeqCst), task::stats().refreshes.timed_out), (6, 1));
        HAND.run();
        assert_eq!((RUNS.load(Ordering::SeqCst), task::peek()), (6, Some(own)), "what comes late is not begun");
    });
}

#[test]
fn l4_a_run_behind_may_take_as_long_as_its_function_says() {
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
    static HAND: LazyLock<Hand> = LazyLock::new(Hand::default);
    static RUNS: AtomicU32 = AtomicU32::new(0);
    fn report(read: fn() -> u32) -> u32 {
        let run = RUNS.fetch_add(1, Ordering::SeqCst);
        if run > 3 {
            CLOCK.advance(MINUTE);
            // Of a run on a thread it is seen by the next reader that its time is over.
            std::thread::spawn(read).join().unwrap();
        }
        run
    }
    #[cache_data(ttl = "1h", refresh = "background", clock = CLOCK.clone(), pool = RefreshPool::with_spawner(4, HAND.clone()))]
    fn unsaid() -> u32 {
        report(unsaid)
    }
    #[cache_data(
        ttl = "1h", refresh = "background", refresh_timeout = "5m",
        clock = CLOCK.clone(), pool = RefreshPool::with_spawner(4, HAND.clone())
    )]
    fn said() -> u32 {
        report(said)
    }
    #[cache_data(
        ttl = "1h", refresh = "background", timeout = "10s", refresh_timeout = "5m",
        clock = CLOCK.clone(), pool = RefreshPool::with_spawner(4, HAND.clone())
    )]
    fn said_beside(id: u32) -> std::io::Result<u32> {
        Ok(report(|| said_beside(1).unwrap()))
    }
    let first = (unsaid(), said());
    let bounded = std::thread::spawn(|| said_beside(1).unwrap());
    while !bounded.is_finished() {
        HAND.run();
    }
    assert_eq!((first, bounded.join().unwrap()), ((0, 1), 2));
    RUNS.store(4, Ordering::SeqCst);
    CLOCK.advance(60 * MINUTE);
    assert_eq!((unsaid(), said(), said_beside(1).unwrap()), (0, 1, 2));
    HAND.run();
    assert_eq!(RUNS.load(Ordering::SeqCst), 7);
    assert_eq!(unsaid::peek(), Some(0), "given up after half a minute");
    assert!(said::peek() > Some(3) && said_beside::peek(1) > Some(3));
}

#[tokio::test]
async fn a_blocking_function_may_be_called_in_a_runtime_of_one_thread() {
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
    static RUNS: AtomicU32 = AtomicU32::new(0);
    #[cache_data(ttl = "1m", refresh = "background", timeout = "1h", clock = CLOCK.clone())]
    fn run(id: u32) -> std::io::Result<u32> {
        Ok(RUNS.fetch_add(1, Ordering::SeqCst))
    }
    assert_eq!(run(1).unwrap(), 0);
    CLOCK.advance(MINUTE);
    assert_eq!(run::answer(1).unwrap().refresh, RefreshStatus::Started);
    let _ = run::refresh(1).await;
    assert!(run(1).unwrap() >= 1);
    assert_eq!(run::warm([1, 2, 3]), 3);
}

/// The first runtime of a process, as that of the first of many tests, may be gone long before its last function.
#[test]
fn r2_an_asynchronous_function_outlives_the_runtime_in_which_its_workers_were_made() {
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
    static RUNS: AtomicU32 = AtomicU32::new(0);
    static GONE: LazyLock<Workers> = LazyLock::new(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _inside = runtime.enter();
        Workers::new()
    });
    #[cache_data(ttl = "1m", refresh = "background", clock = CLOCK.clone(), pool = RefreshPool::with_spawner(4, GONE.clone()))]
    async fn run(id: u32) -> Arc<u32> {
        Arc::new(RUNS.fetch_add(1, Ordering::SeqCst))
    }
    within_a_minute(|| {
        run(1).now_or_never().unwrap();
        CLOCK.advance(MINUTE);
        let stale = run::answer(1).now_or_never().unwrap();
        assert_eq!((*stale.value, stale.outcome, stale.refresh), (0, Outcome::Stale, RefreshStatus::Started));
        let _ = run::refresh(1).wait();
        assert!(*run(1).now_or_never().unwrap() >= 1);
    });
}
