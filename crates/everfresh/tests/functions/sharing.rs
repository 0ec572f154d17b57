//! V2: resources are shared, asked whether they are still good, and released once.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;

use everfresh::{ManualClock, NotStored, Outcome, RefreshPool, RefreshStatus, Shared, cache_resource};

use crate::kit::{Count, Gate, Hand, MINUTE, SECOND, within_a_minute};

/// A connection that notes its end.
#[derive(Debug)]
struct Db {
    number: u32,
    alive: Arc<AtomicBool>,
    closed: &'static Mutex<Vec<u32>>,
}

impl Db {
    fn open(counter: &AtomicU32, closed: &'static Mutex<Vec<u32>>) -> Db {
        let number = counter.fetch_add(1, Ordering::SeqCst);
        Db { number, alive: Arc::new(AtomicBool::new(true)), closed }
    }

    fn is_alive(&self) -> bool {
        self.alive.load(Ordering::SeqCst)
    }

    fn close(&self) {
        self.closed.lock().unwrap().push(self.number);
    }

    fn end(self) {
        self.close();
    }
}

#[test]
fn v2_callers_share_one_and_it_is_closed_once_when_nobody_holds_it() {
    static OPENED: AtomicU32 = AtomicU32::new(0);
    static CLOSED: Mutex<Vec<u32>> = Mutex::new(Vec::new());
    #[cache_resource(on_release = Db::close)]
    fn db(url: &str) -> Result<Db, String> {
        Ok(Db::open(&OPENED, &CLOSED))
    }
    let (one, other) = (db("a").unwrap(), db("a").unwrap());
    assert!(Shared::ptr_eq(&one, &other));
    db::clear();
    assert_eq!((db::stats().entries, CLOSED.lock().unwrap().len()), (0, 0), "it is held");
    drop(one);
    assert_eq!((other.number, CLOSED.lock().unwrap().len()), (0, 0));
    drop(other);
    assert_eq!(*CLOSED.lock().unwrap(), [0]);
    assert_eq!(db("a").unwrap().number, 1);
    db::clear_for("a");
    assert_eq!(*CLOSED.lock().unwrap(), [0, 1], "nobody held it");
}

#[test]
fn v2_released_once_for_each_way_out() {
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
    static HAND: LazyLock<Hand> = LazyLock::new(Hand::default);
    static OPENED: AtomicU32 = AtomicU32::new(0);
    static CLOSED: Mutex<Vec<u32>> = Mutex::new(Vec::new());
    #[cache_resource(ttl = "1m", refresh = "background", capacity = 2, eviction = "lru", on_release = Db::end,
                     clock = CLOCK.clone(), pool = RefreshPool::with_spawner(4, HAND.clone()))]
    fn db(url: u32) -> Db {
        Db::open(&OPENED, &CLOSED)
    }
    let closed = || CLOSED.lock().unwrap().clone();
    (db(1).number, db(2).number, db(3).number);
    assert_eq!(closed(), [0], "evicted");
    CLOCK.advance(MINUTE);
    assert_eq!(db::answer(2).refresh, RefreshStatus::Started);
    HAND.run();
    assert_eq!((closed(), db(2).number), (vec![0, 1], 3), "replaced by its refresh");
    CLOCK.advance(MINUTE);
    assert_eq!(closed(), [0, 1, 2], "expired");
    let waits = db::refresh(2);
    assert_eq!(waits.status(), RefreshStatus::Started);
    db::clear_for(2);
    assert_eq!(closed(), [0, 1, 2, 3], "cleared");
    HAND.run();
    drop(waits);
    assert_eq!(
        (closed(), db::stats().not_stored.overtaken),
        (vec![0, 1, 2, 3, 4], 1),
        "made by a refresh that was overtaken"
    );
    assert_eq!(NotStored::Overtaken.name(), "overtaken");
}

#[test]
fn v2_validate_is_asked_before_each_serve_and_what_fails_is_made_anew() {
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
    static HAND: LazyLock<Hand> = LazyLock::new(Hand::default);
    static OPENED: AtomicU32 = AtomicU32::new(0);
    static CLOSED: Mutex<Vec<u32>> = Mutex::new(Vec::new());
    static ASKED: AtomicU32 = AtomicU32::new(0);
    fn is_good(db: &Db) -> bool {
        ASKED.fetch_add(1, Ordering::SeqCst);
        db.is_alive()
    }
    #[cache_resource(ttl = "1m", refresh = "background", validate = is_good, on_release = Db::close, clock = CLOCK.clone(),
                     pool = RefreshPool::with_spawner(4, HAND.clone()))]
    fn db(url: &str) -> Db {
        Db::open(&OPENED, &CLOSED)
    }
    let alive = Arc::clone(&db("a").alive);
    assert_eq!(
        (db("a").number, db("a").number, ASKED.load(Ordering::SeqCst)),
        (0, 0, 2),
        "not asked of what was just made"
    );
    alive.store(false, Ordering::SeqCst);
    let answer = db::answer("a");
    assert_eq!((answer.value.number, answer.outcome, db::stats().left.invalidated), (1, Outcome::Loaded, 1));
    assert_eq!(*CLOSED.lock().unwrap(), [0]);
    // Stale and not valid: the caller waits for a new one, and nothing is refreshed.
    answer.value.alive.store(false, Ordering::SeqCst);
    drop(answer);
    CLOCK.advance(MINUTE);
    let answer = db::answer("a");
    assert_eq!((answer.value.number, answer.outcome, HAND.asked()), (2, Outcome::Loaded, 0));
    // Stale and valid: served at once.
    CLOCK.advance(MINUTE);
    assert_eq!((db::answer("a").outcome, HAND.asked()), (Outcome::Stale, 1));
    HAND.drop_all();
}

#[test]
fn what_validate_refuses_is_made_once_for_all_who_find_it() {
    static OPENED: AtomicU32 = AtomicU32::new(0);
    static CLOSED: Mutex<Vec<u32>> = Mutex::new(Vec::new());
    static GATE: LazyLock<Gate> = LazyLock::new(Gate::default);
    static FOUND: LazyLock<Count> = LazyLock::new(Count::default);
    fn is_good(db: &Db) -> bool {
        let alive = db.is_alive();
        if !alive {
            FOUND.add();
            GATE.pass();
        }
        alive
    }
    #[cache_resource(validate = is_good, on_release = Db::close)]
    fn db() -> Db {
        Db::open(&OPENED, &CLOSED)
    }
    within_a_minute(|| {
        db().alive.store(false, Ordering::SeqCst);
        let callers: Vec<_> = (0..8).map(|_| thread::spawn(|| db().number)).collect();
        FOUND.reach(8);
        GATE.open();
        // All eight saw the dead one; each removes only that, not what the first of them has put in its place.
        assert!(callers.into_iter().all(|caller| caller.join().unwrap() == 1));
        assert_eq!((OPENED.load(Ordering::SeqCst), CLOSED.lock().unwrap().clone()), (2, vec![0]));
    });
}

#[test]
fn a_validate_that_panics_reaches_its_caller_and_removes_nothing() {
    static PANICS: AtomicBool = AtomicBool::new(false);
    #[cache_resource(validate = |_| !PANICS.load(Ordering::SeqCst) || panic!("asked too much"))]
    fn number() -> u32 {
        7
    }
    assert_eq!((*number(), *number()), (7, 7));
    PANICS.store(true, Ordering::SeqCst);
    assert!(std::panic::catch_unwind(number).is_err());
    PANICS.store(false, Ordering::SeqCst);
    assert_eq!((*number(), number::stats().loads.stored), (7, 1));
}

#[test]
fn v2_what_nobody_holds_is_released_before_clear_returns() {
    static RELEASED: AtomicU32 = AtomicU32::new(0);
    #[cache_resource(name = "released_by_clear", on_release = count)]
    fn number() -> u32 {
        7
    }
    fn count(_: u32) {
        // As long as a sweep of somebody else would need to be still at it.
        (0..100).for_each(|_| thread::yield_now());
        RELEASED.fetch_add(1, Ordering::SeqCst);
    }
    for times in 1..=200 {
        number();
        match everfresh::registry().get("released_by_clear").filter(|_| times % 2 == 0) {
            Some(registered) => registered.clear(),
            None => number::clear(),
        }
        assert_eq!(RELEASED.load(Ordering::SeqCst), times);
    }
}

#[test]
fn m5_a_release_may_call_the_same_function_and_may_panic() {
    static RELEASED: AtomicU32 = AtomicU32::new(0);
    #[cache_resource(capacity = 1, eviction = "lru", on_release = again)]
    fn number(n: u32) -> u32 {
        n
    }
    fn again(n: u32) {
        RELEASED.fetch_add(1, Ordering::SeqCst);
        assert_eq!(number::stats().capacity, Some(1));
        assert!(number::peek(n).is_none());
        panic!("contained");
    }
    within_a_minute(|| {
        assert_eq!((*number(1), *number(2)), (1, 2));
        assert_eq!((*number(2), RELEASED.load(Ordering::SeqCst)), (2, 1));
        number::clear();
        assert_eq!(RELEASED.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn a_failed_load_shares_nothing_and_a_mutex_is_shared_state() {
    static FAILS: AtomicBool = AtomicBool::new(true);
    #[cache_resource]
    fn counter(name: &str) -> std::io::Result<Mutex<u32>> {
        match FAILS.swap(false, Ordering::SeqCst) {
            true => Err(std::io::ErrorKind::AddrInUse.into()),
            false => Ok(Mutex::new(0)),
        }
    }
    assert_eq!(counter("a").unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    *counter("a").unwrap().lock().unwrap() += 2;
    assert_eq!(*counter("a").unwrap().lock().unwrap(), 2);
}

#[tokio::test]
async fn asynchronous_resources_are_shared_too() {
    static OPENED: AtomicU32 = AtomicU32::new(0);
    static CLOSED: Mutex<Vec<u32>> = Mutex::new(Vec::new());
    #[cache_resource(ttl = "30m", refresh = "background", validate = Db::is_alive, on_release = Db::close)]
    async fn db(url: &str) -> Result<Db, String> {
        tokio::task::yield_now().await;
        Ok(Db::open(&OPENED, &CLOSED))
    }
    let (one, other) = tokio::join!(db("a"), db("a"));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert!(Shared::ptr_eq(&one, &other) && Shared::ptr_eq(&one, &db("a").await.unwrap()));
    one.alive.store(false, Ordering::SeqCst);
    assert_eq!((db("a").await.unwrap().number, CLOSED.lock().unwrap().len()), (1, 0));
    drop((one, other));
    assert_eq!(*CLOSED.lock().unwrap(), [0]);
}

#[test]
fn a_resource_can_be_a_method_and_live_for_a_while() {
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
    struct Client {
        base: String,
    }
    impl Client {
        #[cache_resource(ttl = "1s", key: String = format!("{}{path}", self.base), clock = CLOCK.clone())]
        fn session(&self, path: &str) -> String {
            format!("{}{path}", self.base)
        }
    }
    let client = Client { base: "http://".to_owned() };
    let one = client.session("a");
    assert!(Shared::ptr_eq(&one, &client.session("a")));
    CLOCK.advance(SECOND);
    let other = client.session("a");
    assert_eq!((Shared::ptr_eq(&one, &other), &**one, &**other), (false, "http://a", "http://a"));
}

/// What is served is what was judged: not what has come in its place between the two.
#[test]
fn v2_what_comes_in_place_of_a_judged_one_is_judged_too() {
    static OPENED: AtomicU32 = AtomicU32::new(0);
    static CLOSED: Mutex<Vec<u32>> = Mutex::new(Vec::new());
    static MEDDLES: AtomicBool = AtomicBool::new(false);
    fn is_good(db: &Db) -> bool {
        if MEDDLES.swap(false, Ordering::SeqCst) {
            // While number 0 is judged, somebody replaces it by one that dies at once.
            session::clear();
            session().alive.store(false, Ordering::SeqCst);
        }
        db.is_alive()
    }
    #[cache_resource(validate = is_good, on_release = Db::close)]
    fn session() -> Db {
        Db::open(&OPENED, &CLOSED)
    }
    within_a_minute(|| {
        let first = session();
        MEDDLES.store(true, Ordering::SeqCst);
        assert_eq!(session().number, 0, "the one that was judged, and found good");
        assert_eq!(session().number, 2, "the dead one is served to nobody");
        // The thread that reclaims may be looking at what was cleared.
        let closed = |count| {
            while CLOSED.lock().unwrap().len() < count {
                std::thread::yield_now();
            }
            CLOSED.lock().unwrap().clone()
        };
        assert_eq!(closed(1), [1]);
        drop(first);
        assert_eq!(closed(2), [1, 0]);
    });
}

#[test]
fn v2_what_is_refused_is_neither_looked_at_nor_counted_as_warm_nor_served_after_a_failure() {
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
    static OPENED: AtomicU32 = AtomicU32::new(0);
    static CLOSED: Mutex<Vec<u32>> = Mutex::new(Vec::new());
    static FAILS: AtomicBool = AtomicBool::new(false);
    #[cache_resource(ttl = "1m", stale_if_error = "1h", validate = Db::is_alive, on_release = Db::close, clock = CLOCK.clone())]
    fn db(url: &str) -> Result<Db, String> {
        if FAILS.load(Ordering::SeqCst) { Err("down".to_owned()) } else { Ok(Db::open(&OPENED, &CLOSED)) }
    }
    let kill = |db: Shared<Db>| db.alive.store(false, Ordering::SeqCst);
    kill(db("a").unwrap());
    assert!(db::peek("a").is_none() && db::handle().peek("a").is_none());
    assert_eq!((db::warm(["a"]), db::peek("a").unwrap().number), (1, 1));
    // The worker that has warmed it may not have let go of it yet.
    db::handle().cache().settle();
    CLOCK.advance(MINUTE);
    FAILS.store(true, Ordering::SeqCst);
    let answer = db::answer("a").unwrap();
    assert_eq!((answer.value.number, answer.outcome), (1, Outcome::Fallback), "good enough after a failure");
    kill(answer.value);
    CLOCK.advance(MINUTE);
    assert_eq!(db("a").unwrap_err(), "down", "a dead one is not");
    assert_eq!(*CLOSED.lock().unwrap(), [0, 1]);
}

#[test]
fn v2_what_dies_while_a_load_fails_is_not_served_instead() {
    static CLOCK: LazyLock<ManualClock> = LazyLock::new(ManualClock::new);
    static OPENED: AtomicU32 = AtomicU32::new(0);
    static CLOSED: Mutex<Vec<u32>> = Mutex::new(Vec::new());
    #[cache_resource(ttl = "1m", stale_if_error = "1h", validate = Db::is_alive, on_release = Db::close, clock = CLOCK.clone())]
    fn db(url: &str) -> Result<Db, String> {
        if let Some(old) = db::peek(url) {
            // The server goes down with all its connections.
            old.alive.store(false, Ordering::SeqCst);
            return Err("down".to_owned());
        }
        Ok(Db::open(&OPENED, &CLOSED))
    }
    assert_eq!(db("a").unwrap().number, 0);
    CLOCK.advance(MINUTE);
    assert_eq!(db("a").unwrap_err(), "down", "it was alive before, and is not now");
    assert_eq!(*CLOSED.lock().unwrap(), [0]);
}

#[test]
fn v2_what_was_cleared_while_it_was_opened_reaches_its_caller_and_is_released_after_him() {
    static OPENED: AtomicU32 = AtomicU32::new(0);
    static CLOSED: Mutex<Vec<u32>> = Mutex::new(Vec::new());
    #[cache_resource(on_release = Db::close)]
    fn db(url: &str) -> Db {
        if OPENED.load(Ordering::SeqCst) == 0 {
            db::clear();
        }
        Db::open(&OPENED, &CLOSED)
    }
    let mine = db("a");
    assert_eq!((mine.number, db::peek("a").is_none(), CLOSED.lock().unwrap().len()), (0, true, 0));
    assert_eq!(db("a").number, 1);
    drop(mine);
    assert_eq!(*CLOSED.lock().unwrap(), [0]);
}

#[test]
fn v2_a_release_that_panics_at_eviction_or_clear_disturbs_nobody_and_the_rest_is_released() {
    static RELEASED: AtomicU32 = AtomicU32::new(0);
    fn fail(number: &u32) {
        RELEASED.fetch_add(1, Ordering::SeqCst);
        panic!("cannot close {number}");
    }
    #[cache_resource(capacity = 2, eviction = "lru", on_release = fail)]
    fn number(n: u32) -> u32 {
        n
    }
    assert_eq!((*number(1), *number(2), *number(3)), (1, 2, 3));
    assert_eq!(RELEASED.load(Ordering::SeqCst), 1);
    number::clear();
    // What was cleared may be released by the thread that reclaims, which nobody waits for.
    within_a_minute(|| {
        while RELEASED.load(Ordering::SeqCst) < 3 {
            std::thread::yield_now();
        }
    });
    assert_eq!((RELEASED.load(Ordering::SeqCst), *number(4)), (3, 4));
}

/// With `validate` beside it the weigher's type was taken for that of what is kept, and nothing compiled.
#[test]
fn a_resource_may_be_weighed_and_chosen_and_validated() {
    #[cache_resource(
        ttl = "1h", weight_capacity = 1000, weigher = |it| it.len() as u64, store_if = |it| !it.is_empty(),
        validate = |it| it.len() < 100, on_release = drop
    )]
    fn block(size: usize) -> Result<Vec<u8>, String> {
        Ok(vec![0; size])
    }
    assert_eq!((block(10).unwrap().len(), block(0).unwrap().len(), block::stats().weight), (10, 0, 10));
    assert_eq!((block(100).unwrap().len(), block::peek(100).is_none()), (100, true));
}
