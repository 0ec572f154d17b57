//! What reaches all cached functions of a process at once; a binary of its own, and one test after the other.
#![cfg(feature = "macros")]
#![allow(missing_docs, reason = "tests")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use everfresh::{ManualClock, RefreshStatus, Shared, cache_data, cache_resource};

const MINUTE: Duration = Duration::from_secs(60);

static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
static RELEASED: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// A function whose runs end when they are told to.
static ENDS: Mutex<Option<mpsc::Receiver<u32>>> = Mutex::new(None);

#[cache_data(ttl = "1m", stale_while_revalidate = "1h", clock = CLOCK.clone())]
fn told(key: &str) -> u32 {
    match &*ENDS.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(ends) => ends.recv().unwrap(),
        None => key.len() as u32,
    }
}

#[cache_data(ttl = "1m", stale_while_revalidate = "1h", clock = CLOCK.clone())]
fn echo(number: u32) -> u32 {
    number
}

#[cache_resource(on_release = |number: u32| RELEASED.lock().unwrap().push(number))]
fn resource(number: u32) -> u32 {
    number
}

fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn all_data_and_all_resources_are_cleared_apart() {
    let _turn = alone();
    static RUN: AtomicU32 = AtomicU32::new(0);
    #[cache_data]
    fn run() -> u32 {
        RUN.fetch_add(1, Ordering::SeqCst)
    }
    let (number, held) = (run(), resource(1));
    assert_eq!((number, echo(1), *resource(2)), (0, 1, 2));
    everfresh::data::clear_all();
    assert_eq!((echo::peek(1), run::peek(), resource::stats().entries), (None, None, 2));
    assert_eq!(run(), 1);
    everfresh::resource::clear_all();
    assert_eq!((run::peek(), resource::stats().entries), (Some(1), 0));
    assert_eq!(*RELEASED.lock().unwrap(), [2], "one is held");
    drop(held);
    assert_eq!(*RELEASED.lock().unwrap(), [2, 1]);
    assert!(Shared::ptr_eq(&resource(1), &resource(1)));
    everfresh::data::expire_all();
    everfresh::resource::expire_all();
    assert_eq!((run(), echo::stats().entries), (2, 0), "no window allows the old value once more");
}

#[test]
fn one_pool_serves_all_functions_and_closing_drains_it() {
    let _turn = alone();
    let (end, ends) = mpsc::channel();
    everfresh::runtime().max_refreshes(1);
    assert_eq!((told("abc"), echo(1)), (3, 1));
    *ENDS.lock().unwrap() = Some(ends);
    CLOCK.advance(MINUTE);
    assert_eq!(told::answer("abc").refresh, RefreshStatus::Started);
    assert_eq!(echo::answer(1).refresh, RefreshStatus::Saturated, "the one place is taken by another function");
    assert_eq!(everfresh::runtime().pool().running(), 1);

    assert_eq!(everfresh::close(Duration::ZERO), 1, "it says what it left running");
    end.send(7).unwrap();
    assert_eq!(everfresh::close(Duration::MAX), 0);
    assert_eq!(told("abc"), 7);

    // Closed: calls go on, nothing runs behind them.
    CLOCK.advance(2 * MINUTE);
    assert_eq!(told::answer("abc").refresh, RefreshStatus::Unavailable);
    assert_eq!(echo(2), 2);
    everfresh::runtime().max_refreshes(4);
    assert_eq!(everfresh::runtime().pool().max_refreshes(), 4);
}
