//! T and R: how long a value of a function lives, and who renews it.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;
use std::time::Duration;

use everfresh::{Ending, ManualClock, Outcome, RefreshPool, RefreshStatus, cache_data};

use crate::kit::{Count, Gate, Hand, MINUTE, SECOND, within_a_minute};

#[test]
fn t1_in_the_background_the_window_is_as_long_as_the_ttl_and_not_a_nanosecond_longer() {
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
    static HAND: LazyLock<Hand> = LazyLock::new(Hand::default);
    static RUN: AtomicU32 = AtomicU32::new(0);
    #[cache_data(ttl = "1m", refresh = "background", clock = CLOCK.clone(),
                 pool = RefreshPool::with_spawner(4, HAND.clone()))]
    fn quote(symbol: &str) -> u32 {
        RUN.fetch_add(1, Ordering::SeqCst)
    }
    let outcome = || quote::answer("AAPL").outcome;
    assert_eq!(outcome(), Outcome::Loaded);
    CLOCK.advance(MINUTE - Duration::from_nanos(1));
    assert_eq!(outcome(), Outcome::Hit);
    CLOCK.advance(Duration::from_nanos(1));
    let stale = quote::answer("AAPL");
    assert_eq!((stale.value, stale.outcome, stale.refresh), (0, Outcome::Stale, RefreshStatus::Started));
    CLOCK.advance(MINUTE - Duration::from_nanos(1));
    assert_eq!((outcome(), quote("AAPL")), (Outcome::Stale, 0));
    CLOCK.advance(Duration::from_nanos(1));
    HAND.drop_all();
    assert_eq!((outcome(), RUN.load(Ordering::SeqCst)), (Outcome::Loaded, 2));
}

#[test]
fn t2_life_counts_from_the_end_of_the_refresh() {
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
    static HAND: LazyLock<Hand> = LazyLock::new(Hand::default);
    #[cache_data(ttl = "10s", stale_while_revalidate = "1m", clock = CLOCK.clone(),
                 pool = RefreshPool::with_spawner(4, HAND.clone()))]
    fn now() -> Duration {
        use everfresh::Clock;
        CLOCK.now()
    }
    let first = now();
    CLOCK.advance(15 * SECOND);
    assert_eq!(now(), first);
    CLOCK.advance(5 * SECOND);
    HAND.run();
    CLOCK.advance(10 * SECOND - Duration::from_nanos(1));
    let hit = now::answer();
    assert_eq!((hit.outcome, hit.value), (Outcome::Hit, first + 20 * SECOND));
}

#[test]
fn in_the_foreground_the_caller_waits_and_may_lend_what_nobody_owns() {
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
    static RUN: AtomicU32 = AtomicU32::new(0);
    #[cache_data(ttl = "1s", refresh = "foreground", clock = CLOCK.clone(), skip(seen))]
    fn count(seen: &Mutex<Vec<u32>>) -> u32 {
        let run = RUN.fetch_add(1, Ordering::SeqCst);
        seen.lock().unwrap().push(run);
        run
    }
    let seen = Mutex::default();
    assert_eq!((count(&seen), count(&seen)), (0, 0));
    CLOCK.advance(SECOND);
    assert_eq!((count(&seen), count(&seen)), (1, 1));
    assert_eq!(seen.into_inner().unwrap(), [0, 1]);
}

#[test]
fn a_path_to_a_duration_is_a_duration() {
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
    const HALF: Duration = Duration::from_millis(500);
    #[cache_data(ttl = HALF, clock = CLOCK.clone())]
    fn short() -> u32 {
        1
    }
    #[cache_data(ttl = "1h 30m", jitter = 0.5, clock = CLOCK.clone())]
    fn shortened() -> u32 {
        1
    }
    #[cache_data(ttl = "2m", time_to_idle = "30s", clock = CLOCK.clone())]
    fn idle() -> u32 {
        1
    }
    short();
    shortened();
    idle();
    CLOCK.advance(HALF);
    assert_eq!((short::answer().outcome, idle::answer().outcome), (Outcome::Loaded, Outcome::Hit));
    CLOCK.advance(31 * SECOND);
    assert_eq!((shortened::answer().outcome, idle::answer().outcome), (Outcome::Hit, Outcome::Loaded));
    CLOCK.advance(90 * MINUTE);
    assert_eq!(shortened::answer().outcome, Outcome::Loaded);
}

#[test]
fn r1_fifty_stale_callers_get_the_old_value_and_start_one_refresh() {
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
    static RUNS: LazyLock<Count> = LazyLock::new(Count::default);
    static GATE: LazyLock<Gate> = LazyLock::new(Gate::default);
    #[cache_data(ttl = "1m", refresh = "background", clock = CLOCK.clone())]
    fn slow(id: u32) -> usize {
        let run = RUNS.add();
        if run > 1 {
            GATE.pass();
        }
        run
    }
    within_a_minute(|| {
        assert_eq!(slow(1), 1);
        CLOCK.advance(MINUTE);
        let callers: Vec<_> = (0..50).map(|_| thread::spawn(|| slow(2 - 1))).collect();
        assert!(callers.into_iter().all(|caller| caller.join().unwrap() == 1));
        GATE.open();
        RUNS.reach(2);
        // Whoever asks for a refresh joins the one that runs, or finds it done.
        let _ = slow::refresh(1).wait();
        assert!(slow(1) >= 2);
        assert_eq!((slow::stats().refreshes_started >= 1, slow::stats().stale), (true, 50));
    });
}

#[test]
fn a_refresh_uses_the_skipped_arguments_of_the_call_that_started_it() {
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
    static HAND: LazyLock<Hand> = LazyLock::new(Hand::default);
    #[derive(Clone)]
    struct Pool(&'static str);
    #[cache_data(ttl = "1m", refresh = "background", skip(pool, suffix), clock = CLOCK.clone(),
                 pool = RefreshPool::with_spawner(4, HAND.clone()))]
    fn served_by(pool: &Pool, id: u32, suffix: String) -> String {
        format!("{}{id}{suffix}", pool.0)
    }
    assert_eq!(served_by(&Pool("a"), 1, "x".into()), "a1x");
    CLOCK.advance(MINUTE);
    assert_eq!(served_by(&Pool("b"), 1, "y".into()), "a1x");
    assert_eq!(served_by(&Pool("c"), 1, "z".into()), "a1x");
    HAND.run();
    assert_eq!(served_by(&Pool("d"), 1, String::new()), "b1y");
    assert_eq!(HAND.waiting(), 0);
}

#[test]
fn a_method_in_the_background_holds_self_only_while_it_runs() {
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
    static HAND: LazyLock<Hand> = LazyLock::new(Hand::default);
    #[derive(Clone)]
    struct Client {
        runs: Arc<AtomicUsize>,
    }
    impl Client {
        #[cache_data(ttl = "1m", refresh = "background", clock = CLOCK.clone(),
                     pool = RefreshPool::with_spawner(4, HAND.clone()))]
        fn fetch(&self, path: &str) -> usize {
            self.runs.fetch_add(1, Ordering::SeqCst) + path.len()
        }
    }
    let client = Client { runs: Arc::default() };
    assert_eq!(client.fetch("abc"), 3);
    assert_eq!(Arc::strong_count(&client.runs), 1);
    CLOCK.advance(MINUTE);
    assert_eq!((client.fetch("abc"), Arc::strong_count(&client.runs)), (3, 2));
    HAND.run();
    assert_eq!((client.fetch("abc"), Arc::strong_count(&client.runs)), (4, 1));
}

#[test]
fn r2_a_full_pool_skips_and_the_next_caller_tries_again() {
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
    static HAND: LazyLock<Hand> = LazyLock::new(Hand::default);
    #[cache_data(ttl = "1m", stale_while_revalidate = "1h", clock = CLOCK.clone(),
                 pool = RefreshPool::with_spawner(1, HAND.clone()))]
    fn echo(id: u32) -> u32 {
        id
    }
    #[cache_data(ttl = "1m", refresh = "background", max_refreshes = 0, clock = CLOCK.clone())]
    fn never(id: u32) -> u32 {
        id
    }
    (echo(1), echo(2), never(1));
    CLOCK.advance(MINUTE);
    assert_eq!(echo::answer(1).refresh, RefreshStatus::Started);
    assert_eq!(echo::answer(2).refresh, RefreshStatus::Saturated);
    HAND.run();
    assert_eq!(echo::answer(2).refresh, RefreshStatus::Started);
    HAND.run();
    assert_eq!((echo::answer(2).outcome, echo::stats().refreshes_skipped.saturated), (Outcome::Hit, 1));
    let never_refreshed = never::answer(1);
    assert_eq!((never_refreshed.outcome, never_refreshed.refresh), (Outcome::Stale, RefreshStatus::Saturated));
    CLOCK.advance(MINUTE);
    assert_eq!(never::answer(1).outcome, Outcome::Loaded);
}

#[test]
fn r3_a_failed_refresh_keeps_the_old_value_and_a_load_in_the_foreground_forgives() {
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
    static HAND: LazyLock<Hand> = LazyLock::new(Hand::default);
    static FAILS: AtomicU32 = AtomicU32::new(0);
    #[cache_data(ttl = "1m", refresh = "background", clock = CLOCK.clone(),
                 pool = RefreshPool::with_spawner(4, HAND.clone()))]
    fn shaky(id: u32) -> Result<u32, String> {
        match FAILS.load(Ordering::SeqCst) {
            0 => Ok(id),
            1 => Err("down".to_owned()),
            _ => panic!("worse"),
        }
    }
    for how in [1, 2] {
        FAILS.store(0, Ordering::SeqCst);
        assert_eq!(shaky(1), Ok(1));
        CLOCK.advance(MINUTE);
        FAILS.store(how, Ordering::SeqCst);
        assert_eq!(shaky::answer(1).unwrap().refresh, RefreshStatus::Started);
        HAND.run();
        let after = shaky::answer(1).unwrap();
        assert_eq!((after.value, after.refresh), (1, RefreshStatus::BackingOff));
        CLOCK.advance(MINUTE);
        FAILS.store(0, Ordering::SeqCst);
        assert_eq!(shaky::answer(1).unwrap().outcome, Outcome::Loaded);
        CLOCK.advance(MINUTE);
        assert_eq!(shaky::answer(1).unwrap().refresh, RefreshStatus::Started);
        HAND.run();
    }
    assert_eq!((shaky::stats().refreshes.failed, shaky::stats().refreshes.panicked), (1, 1));
}

#[test]
fn r4_what_was_cleared_or_evicted_while_it_was_refreshed_stays_away() {
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
    static HAND: LazyLock<Hand> = LazyLock::new(Hand::default);
    #[cache_data(ttl = "1m", refresh = "background", capacity = 2, eviction = "lru", clock = CLOCK.clone(),
                 pool = RefreshPool::with_spawner(4, HAND.clone()))]
    fn echo(id: u32) -> u32 {
        id
    }
    let ways: [fn(); 3] = [|| echo::clear(), || echo::clear_for(1), || assert_eq!(echo(2) + echo(3), 5)];
    for (round, take_away) in ways.into_iter().enumerate() {
        echo::clear();
        echo(1);
        CLOCK.advance(MINUTE);
        assert_eq!(echo::answer(1).refresh, RefreshStatus::Started);
        take_away();
        HAND.run();
        assert_eq!((echo::peek(1), echo::stats().refreshes.discarded), (None, round as u64 + 1));
    }
}

#[test]
fn r6_refresh_ahead_starts_before_the_end() {
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
    static HAND: LazyLock<Hand> = LazyLock::new(Hand::default);
    #[cache_data(ttl = "100s", refresh_ahead = 0.8, clock = CLOCK.clone(),
                 pool = RefreshPool::with_spawner(4, HAND.clone()))]
    fn ahead(id: u32) -> u32 {
        id
    }
    ahead(1);
    CLOCK.advance(79 * SECOND);
    assert_eq!(ahead::answer(1).refresh, RefreshStatus::NotNeeded);
    CLOCK.advance(2 * SECOND);
    let early = ahead::answer(1);
    assert_eq!((early.outcome, early.refresh), (Outcome::Hit, RefreshStatus::Started));
    HAND.drop_all();
}

#[test]
fn r7_expire_lets_the_next_caller_have_the_old_value_once_more() {
    static HAND: LazyLock<Hand> = LazyLock::new(Hand::default);
    static RUN: AtomicU32 = AtomicU32::new(0);
    #[cache_data(ttl = "1h", refresh = "background", pool = RefreshPool::with_spawner(4, HAND.clone()))]
    fn run(id: &str) -> u32 {
        RUN.fetch_add(1, Ordering::SeqCst)
    }
    assert_eq!(run("a"), 0);
    run::expire_for("a");
    assert_eq!((run::answer("a").outcome, HAND.waiting()), (Outcome::Stale, 1));
    HAND.run();
    assert_eq!(run("a"), 1);
    run::expire();
    assert_eq!((run("a"), HAND.waiting()), (1, 1));
    HAND.run();
    assert_eq!(run("a"), 2);
}

#[test]
fn warming_loads_what_is_missing_and_counts_what_can_be_served() {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    #[cache_data(skip(base), max_refreshes = 2, refresh = "background", ttl = "1h")]
    fn odd(base: &Arc<u32>, id: u32) -> Result<u32, String> {
        RUNS.fetch_add(1, Ordering::SeqCst);
        if id % 2 == 1 { Ok(**base + id) } else { Err("even".to_owned()) }
    }
    let base = Arc::new(10);
    assert_eq!(odd(&base, 1), Ok(11));
    assert_eq!(odd::warm(&base, 1..=9), 5);
    assert_eq!((RUNS.load(Ordering::SeqCst), odd::stats().entries), (9, 5));
    assert_eq!(odd::refresh(&base, 4).wait(), Some(Ending::Failed));
}

#[tokio::test]
async fn an_asynchronous_function_is_refreshed_on_the_runtime() {
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
    static DONE: LazyLock<tokio::sync::Semaphore> = LazyLock::new(|| tokio::sync::Semaphore::new(0));
    static RUN: AtomicU32 = AtomicU32::new(0);
    #[derive(Clone)]
    struct Pool;
    #[cache_data(ttl = "1m", refresh = "background", skip(_pool), clock = CLOCK.clone())]
    async fn fetch(_pool: &Pool, path: &str) -> Result<u32, Arc<std::io::Error>> {
        tokio::task::yield_now().await;
        DONE.add_permits(path.len());
        Ok(RUN.fetch_add(1, Ordering::SeqCst))
    }
    assert_eq!(fetch(&Pool, "a").await.unwrap(), 0);
    CLOCK.advance(MINUTE);
    let stale = fetch::answer(&Pool, "a").await.unwrap();
    assert_eq!((stale.value, stale.refresh), (0, RefreshStatus::Started));
    let _ = DONE.acquire_many(2).await.unwrap();
    let _: Option<Ending> = fetch::refresh(&Pool, "a").await;
    assert!(fetch(&Pool, "a").await.unwrap() >= 1);
    assert_eq!(fetch::warm(&Pool, ["a", "b"]).await, 2);
}
