//! L: what a cached function does when its body fails, panics, hangs, or calls itself.

use std::fmt;
use std::io;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use everfresh::{LoadError, ManualClock, Outcome, cache_data};

use crate::kit::{Count, Gate, MINUTE, SECOND, within_a_minute};

/// How many failed: an error of the kind that libraries have, neither `Clone` nor made from anything.
#[derive(Debug, PartialEq)]
enum Broken {
    Own(u32),
    Shared(u32),
    GaveUp(bool),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Broken {}

impl From<LoadError<Broken>> for Broken {
    fn from(error: LoadError<Broken>) -> Broken {
        match error {
            LoadError::Load(shared) => match *shared {
                Broken::Own(number) | Broken::Shared(number) => Broken::Shared(number),
                Broken::GaveUp(timeout) => Broken::GaveUp(timeout),
            },
            other => Broken::GaveUp(other.is_timeout()),
        }
    }
}

#[test]
fn l7_errors_are_never_stored() {
    static RUN: AtomicU32 = AtomicU32::new(0);
    #[cache_data]
    fn second_time_lucky(id: u32) -> Result<u32, Broken> {
        match RUN.fetch_add(1, Ordering::SeqCst) {
            0 => Err(Broken::Own(0)),
            run => Ok(run),
        }
    }
    assert_eq!(second_time_lucky(1), Err(Broken::Own(0)), "the only caller gets its own error back");
    assert_eq!((second_time_lucky(1), second_time_lucky(1)), (Ok(1), Ok(1)));
    assert_eq!(second_time_lucky::stats().failed, 1);
}

/// One in five found the worker still holding it, and then it was shared with nobody.
#[test]
fn the_only_caller_gets_its_own_error_back_from_a_worker_too() {
    #[cache_data(timeout = "1h")]
    fn fails(id: u32) -> Result<u32, Box<dyn std::error::Error + Send + Sync>> {
        Err(Box::new(Broken::Own(id)))
    }
    let (told, waits) = std::sync::mpsc::channel::<()>();
    let waits = std::sync::Mutex::new(waits);
    let _subscription = fails::subscribe(move |event| {
        if let everfresh::Event::Load { .. } = event {
            // The worker is not done with the load until its caller has the error.
            let _ = waits.lock().unwrap().recv();
        }
    });
    let error = fails(7).unwrap_err();
    drop(told);
    assert_eq!(error.downcast_ref::<Broken>(), Some(&Broken::Own(7)));
}

#[test]
fn an_error_that_is_remembered_is_shared_with_the_next_and_is_nobodys_own() {
    #[cache_data(negative_ttl = "1h")]
    fn fails(id: u32) -> Result<u32, Box<dyn std::error::Error + Send + Sync>> {
        Err(Box::new(Broken::Own(id)))
    }
    for _ in 0..2 {
        let error = fails(7).unwrap_err();
        assert_eq!((error.downcast_ref::<Broken>(), error.to_string()), (None, "Own(7)".to_owned()));
    }
}

#[test]
fn l2_all_who_wait_get_the_error_of_the_one_run() {
    static RUNS: LazyLock<Count> = LazyLock::new(Count::default);
    static ASKED: LazyLock<Count> = LazyLock::new(Count::default);
    static GATE: LazyLock<Gate> = LazyLock::new(Gate::default);
    #[cache_data]
    fn fails(id: u32) -> Result<u32, Broken> {
        RUNS.add();
        GATE.pass();
        Err(Broken::Own(7))
    }
    within_a_minute(|| {
        let leader = thread::spawn(|| fails(1));
        RUNS.reach(1);
        let waiters: Vec<_> = (0..8)
            .map(|_| {
                thread::spawn(|| {
                    ASKED.add();
                    fails(1)
                })
            })
            .collect();
        ASKED.reach(8);
        GATE.open();
        let mut results = vec![leader.join().unwrap()];
        results.extend(waiters.into_iter().map(|waiter| waiter.join().unwrap()));
        // Who comes after the run ended runs again; nobody else does.
        let told = results.iter().filter(|result| matches!(result, Err(Broken::Own(7) | Broken::Shared(7)))).count();
        assert_eq!(told, 9);
        assert_eq!(fails::stats().failed, 9);
        assert_eq!(RUNS.get() as u64, fails::stats().loads.failed);
    });
}

#[test]
fn errors_that_can_be_cloned_boxed_or_wrapped_need_nothing() {
    #[cache_data]
    fn cloned(id: u32) -> Result<u32, String> {
        Err(format!("no {id}"))
    }
    #[cache_data]
    fn boxed(id: u32) -> Result<u32, Box<dyn std::error::Error + Send + Sync>> {
        Err(format!("no {id}").into())
    }
    #[cache_data]
    fn file(id: u32) -> io::Result<u32> {
        Err(io::Error::new(io::ErrorKind::NotFound, format!("no {id}")))
    }
    #[cache_data(map_error = |error| error.to_string().len())]
    fn mapped(id: u32) -> Result<u32, usize> {
        Err(id as usize)
    }
    #[cache_data(map_error = |error| error.to_string().len(), negative_ttl = "1h")]
    fn mapped_and_kept(id: u32) -> Result<u32, usize> {
        Err(id as usize)
    }
    type Short = Result<u32, String>;
    #[cache_data(fallible)]
    fn aliased(id: u32) -> Short {
        cloned(id)
    }
    assert_eq!(cloned(1), Err("no 1".to_owned()));
    assert_eq!(boxed(1).unwrap_err().to_string(), "no 1");
    let error = file(1).unwrap_err();
    assert_eq!((error.kind(), error.to_string()), (io::ErrorKind::NotFound, "no 1".to_owned()));
    assert_eq!(mapped(10), Err(10), "nobody shares it");
    assert_eq!((mapped_and_kept(10), mapped_and_kept(10)), (Err(2), Err(2)));
    assert_eq!((aliased(2), aliased::peek(2)), (Err("no 2".to_owned()), None));
}

#[test]
fn negative_ttl_remembers_an_error_or_nothing_for_a_while() {
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
    static RUN: AtomicU32 = AtomicU32::new(0);
    #[cache_data(ttl = "1h", negative_ttl = "5s", clock = CLOCK.clone())]
    fn failing(id: u32) -> Result<u32, String> {
        Err(RUN.fetch_add(1, Ordering::SeqCst).to_string())
    }
    #[cache_data(ttl = "1h", negative_ttl = "5s", clock = CLOCK.clone())]
    fn found(id: u32) -> Option<u32> {
        RUN.fetch_add(1, Ordering::SeqCst);
        (id > 0).then_some(id)
    }
    #[cache_data(ttl = "1h", clock = CLOCK.clone())]
    fn always(id: u32) -> Option<u32> {
        RUN.fetch_add(1, Ordering::SeqCst);
        None
    }
    assert_eq!((failing(1), failing(1)), (Err("0".to_owned()), Err("0".to_owned())));
    assert_eq!((found(0), found(1), found(0), found(1), RUN.load(Ordering::SeqCst)), (None, Some(1), None, Some(1), 3));
    assert_eq!((always(1), always(1), RUN.load(Ordering::SeqCst)), (None, None, 4));
    CLOCK.advance(5 * SECOND);
    assert_eq!((failing(1), found(0), found(1), always(1)), (Err("4".to_owned()), None, Some(1), None));
    assert_eq!(RUN.load(Ordering::SeqCst), 6, "an absence is asked for again, what is there is not");
}

#[test]
fn stale_if_error_serves_the_old_value_after_a_failure() {
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
    static FAILS: AtomicU32 = AtomicU32::new(0);
    #[cache_data(ttl = "1m", stale_if_error = "1h", clock = CLOCK.clone())]
    fn shaky(id: u32) -> Result<u32, String> {
        if FAILS.load(Ordering::SeqCst) == 0 { Ok(id) } else { Err("down".to_owned()) }
    }
    assert_eq!(shaky(1), Ok(1));
    FAILS.store(1, Ordering::SeqCst);
    CLOCK.advance(2 * MINUTE);
    let fallback = shaky::answer(1).unwrap();
    assert_eq!((fallback.value, fallback.outcome), (1, Outcome::Fallback));
    CLOCK.advance(60 * MINUTE);
    assert_eq!(shaky(1), Err("down".to_owned()));
}

#[test]
fn l3_a_panic_reaches_its_caller_is_not_stored_and_frees_the_key() {
    static RUN: AtomicU32 = AtomicU32::new(0);
    #[cache_data]
    fn first_panics(id: u32) -> u32 {
        match RUN.fetch_add(1, Ordering::SeqCst) {
            0 => panic!("the first run"),
            run => run,
        }
    }
    let panic = catch_unwind(|| first_panics(1)).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"the first run"));
    assert_eq!((first_panics(1), first_panics(1)), (1, 1));
}

#[tokio::test]
async fn l3_a_caller_who_walks_away_frees_the_key() {
    static RUN: AtomicU32 = AtomicU32::new(0);
    #[cache_data]
    async fn first_hangs(id: u32) -> u32 {
        match RUN.fetch_add(1, Ordering::SeqCst) {
            0 => std::future::pending().await,
            run => run,
        }
    }
    let mut first = Box::pin(first_hangs(1));
    assert!(crate::kit::poll_once(first.as_mut()).is_pending());
    let mut waiter = Box::pin(first_hangs(1));
    assert!(crate::kit::poll_once(waiter.as_mut()).is_pending());
    drop(first);
    assert_eq!((waiter.await, RUN.load(Ordering::SeqCst)), (1, 2));
}

#[test]
fn l4_a_timeout_ends_the_wait_and_is_told_in_the_functions_own_error() {
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
    static STARTED: LazyLock<Count> = LazyLock::new(Count::default);
    static GATE: LazyLock<Gate> = LazyLock::new(Gate::default);
    #[cache_data(timeout = "30s", clock = CLOCK.clone())]
    fn hangs(id: u32) -> io::Result<u32> {
        STARTED.add();
        GATE.pass();
        Ok(id)
    }
    #[cache_data(timeout = "30s", clock = CLOCK.clone())]
    fn told(id: u32) -> Result<u32, Broken> {
        STARTED.add();
        GATE.pass();
        Ok(1)
    }
    within_a_minute(|| {
        let one = thread::spawn(|| hangs(1));
        let other = thread::spawn(|| told(1));
        STARTED.reach(2);
        CLOCK.advance(Duration::from_secs(30));
        assert_eq!(one.join().unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(other.join().unwrap(), Err(Broken::GaveUp(true)));
        GATE.open();
        assert_eq!(hangs(2).unwrap(), 2);
    });
}

#[test]
fn l4_a_panic_on_a_worker_is_told_as_an_error() {
    #[cache_data(timeout = "1h")]
    fn panics(id: u32) -> Result<u32, Broken> {
        panic!("on a worker")
    }
    assert_eq!(panics(1), Err(Broken::GaveUp(false)));
}

#[test]
fn l8_a_function_may_call_itself_for_another_key_and_is_told_for_the_same() {
    #[cache_data]
    fn fibonacci(n: u64) -> u64 {
        if n < 2 { n } else { fibonacci(n - 1) + fibonacci(n - 2) }
    }
    #[cache_data]
    fn itself(n: u64) -> Result<u64, Broken> {
        itself(n)
    }
    #[cache_data]
    fn for_ever(n: u64) -> u64 {
        for_ever(n) + 1
    }
    assert_eq!((fibonacci(30), fibonacci::stats().loads.stored), (832_040, 31));
    assert_eq!(itself(1), Err(Broken::GaveUp(false)));
    let panic = catch_unwind(|| for_ever(1)).unwrap_err();
    let words = panic.downcast_ref::<String>().unwrap();
    assert!(words.contains("the loader of this key asked the cache for the same key"), "{words}");
}

#[tokio::test]
async fn l8_also_in_a_task() {
    #[cache_data]
    async fn itself(n: u64) -> Result<u64, Arc<Broken>> {
        if n > 1 { Box::pin(itself(n - 1)).await } else { Ok(n) }
    }
    #[cache_data(map_error = |error: LoadError<Broken>| Broken::from(error))]
    async fn same(n: u64) -> Result<u64, Broken> {
        Box::pin(same(n)).await
    }
    assert_eq!(itself(5).await.unwrap(), 1);
    assert_eq!(same(1).await, Err(Broken::GaveUp(false)));
}

#[test]
fn cached_functions_may_call_each_other() {
    #[cache_data]
    fn inner(id: u32) -> u32 {
        id + 1
    }
    #[cache_data]
    fn outer(id: u32) -> u32 {
        inner(id) * 10
    }
    assert_eq!((outer(1), outer(1), inner(1)), (20, 20, 2));
    inner::clear();
    assert_eq!((outer(1), inner::stats().loads.stored), (20, 1), "the outer value stands on its own");
}

#[test]
fn l1_an_unwarmed_crowd_runs_the_body_once() {
    static RUNS: LazyLock<Count> = LazyLock::new(Count::default);
    static GATE: LazyLock<Gate> = LazyLock::new(Gate::default);
    #[cache_data]
    fn slow(id: u32) -> u32 {
        RUNS.add();
        GATE.pass();
        id
    }
    within_a_minute(|| {
        let asked = Count::default();
        let callers: Vec<_> = (0..50)
            .map(|_| {
                let asked = asked.clone();
                thread::spawn(move || {
                    asked.add();
                    slow(3)
                })
            })
            .collect();
        asked.reach(50);
        RUNS.reach(1);
        GATE.open();
        assert!(callers.into_iter().all(|caller| caller.join().unwrap() == 3));
        assert_eq!((RUNS.get(), slow::stats().loads.stored), (1, 1));
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_tasks_on_two_runtimes_share_one_run() {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    static GATE: LazyLock<tokio::sync::Semaphore> = LazyLock::new(|| tokio::sync::Semaphore::new(0));
    static STARTED: LazyLock<Count> = LazyLock::new(Count::default);
    #[cache_data]
    async fn slow(id: u32) -> u32 {
        RUNS.fetch_add(1, Ordering::SeqCst);
        STARTED.add();
        let _ = GATE.acquire().await;
        id
    }
    let here = tokio::spawn(slow(1));
    let there = thread::spawn(|| {
        STARTED.reach(1);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut waiting = Box::pin(slow(1));
        let pending = runtime.block_on(async { crate::kit::poll_once(waiting.as_mut()).is_pending() });
        GATE.add_permits(1);
        (pending, runtime.block_on(waiting))
    });
    assert_eq!(here.await.unwrap(), 1);
    assert_eq!(there.join().unwrap(), (true, 1));
    assert_eq!(RUNS.load(Ordering::SeqCst), 1);
}

#[test]
fn i1_what_was_cleared_while_it_ran_reaches_its_caller_and_is_not_stored() {
    static RUNS: LazyLock<Count> = LazyLock::new(Count::default);
    static GATE: LazyLock<Gate> = LazyLock::new(Gate::default);
    #[cache_data]
    fn slow(id: u32) -> (u32, usize) {
        let run = RUNS.add();
        if run <= 2 {
            GATE.pass();
        }
        (id, run)
    }
    within_a_minute(|| {
        let (one, two) = (thread::spawn(|| slow(1)), thread::spawn(|| slow(2)));
        RUNS.reach(2);
        slow::clear_for(1);
        GATE.open();
        assert_eq!((one.join().unwrap().0, two.join().unwrap().0), (1, 2));
        assert_eq!((slow::peek(1), slow::peek(2).map(|it| it.0)), (None, Some(2)), "another key keeps its load");
        assert_eq!((slow(1), slow::stats().loads.discarded), ((1, 3), 1));
    });
}

#[test]
fn i1_also_when_all_was_cleared() {
    static RUNS: LazyLock<Count> = LazyLock::new(Count::default);
    static GATE: LazyLock<Gate> = LazyLock::new(Gate::default);
    #[cache_data]
    fn slow(id: u32) -> usize {
        let run = RUNS.add();
        if run == 1 {
            GATE.pass();
        }
        run
    }
    within_a_minute(|| {
        let one = thread::spawn(|| slow(1));
        RUNS.reach(1);
        slow::clear();
        GATE.open();
        assert_eq!((one.join().unwrap(), slow::peek(1), slow(1), slow(1)), (1, None, 2, 2));
    });
}

#[test]
fn many_threads_may_call_and_clear_at_once() {
    #[cache_data(capacity = 16)]
    fn square(n: u32) -> u32 {
        n * n
    }
    thread::scope(|scope| {
        for thread in 0..50_u32 {
            scope.spawn(move || {
                for n in 0..100 {
                    assert_eq!(square(n % 20), (n % 20) * (n % 20));
                    match (thread + n) % 40 {
                        0 => square::clear(),
                        1 => square::clear_for(n % 20),
                        _ => {}
                    }
                }
            });
        }
    });
    let stats = square::stats();
    assert_eq!((stats.lookups(), stats.entries <= 16), (5000, true));
}

/// Behind a name it cannot be seen when it is compiled.
const NOTHING: usize = 0;

#[cache_data(capacity = NOTHING)]
fn kept_nowhere(id: u32) -> u32 {
    id
}

/// The second call read that something "has previously been poisoned".
#[test]
fn a_choice_that_cannot_work_is_told_in_words_at_each_call() {
    for _ in 0..2 {
        let told = std::panic::catch_unwind(|| kept_nowhere(1)).unwrap_err();
        let told = told.downcast_ref::<String>().unwrap();
        assert!(told.contains("errors::kept_nowhere cannot have these arguments: "), "{told}");
    }
}
