//! Panics of the user's code at odd moments: what is known of them, and what they leave behind.

use std::future::{Future, IntoFuture};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use std::time::Duration;

use everfresh::{
    Cache, Cause, Ending, Event, LevelFuture, Lifetime, Loaded, ManualClock, Outcome, RefreshStatus, SecondLevel,
};

use crate::kit::{Hand, MINUTE, SECOND, poll_once};
use crate::support::{self, Bench, bench, ends};

/// Asks for the end of a refresh as soon as it is woken, on the thread that wakes it.
struct AsksAtOnce {
    refreshing: Mutex<Option<Watching>>,
    told: Mutex<Option<Option<Ending>>>,
}

type Watching = Pin<Box<dyn Future<Output = Option<Ending>> + Send>>;

impl Wake for AsksAtOnce {
    fn wake(self: Arc<Self>) {
        let Some(mut refreshing) = self.refreshing.lock().unwrap().take() else { return };
        if let Poll::Ready(ending) = refreshing.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            *self.told.lock().unwrap() = Some(ending);
        }
    }
}

#[test]
fn r7_who_watches_a_refresh_is_told_that_store_if_panicked() {
    let Bench { clock, hand, cache } = bench(|it| it.store_if(|_| panic!("told to")));
    cache.insert(1, 1);
    clock.advance(10 * SECOND);
    let asks = Arc::new(AsksAtOnce { refreshing: Mutex::default(), told: Mutex::default() });
    let waker = Waker::from(Arc::clone(&asks));
    let mut refreshing = cache.refresh_with(&1, || 3_u64).into_future();
    assert!(refreshing.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    *asks.refreshing.lock().unwrap() = Some(refreshing);
    hand.run();
    assert_eq!(*asks.told.lock().unwrap(), Some(Some(Ending::Panicked)), "known before anybody is woken");
}

#[test]
fn i2_a_predicate_that_panics_leaves_no_error_remembered() {
    for name in ["invalidate", "expire"] {
        let cache: Cache<u32, u64> = Cache::builder().capacity(10).negative_ttl(MINUTE).build().unwrap();
        cache.insert(2, 2);
        assert!(cache.get_or_load(&1, || Err::<u64, _>("down")).is_err());
        let struck = catch_unwind(AssertUnwindSafe(|| match name {
            "invalidate" => cache.invalidate_matching(|_, _| panic!("told to")),
            _ => cache.expire_matching(|_, _| panic!("told to")),
        }));
        assert!(struck.is_err());
        assert_eq!(cache.get_or_load(&1, || Ok::<_, &str>(1)).unwrap(), 1, "{name}");
    }
}

#[test]
fn l3_who_watches_a_call_for_many_is_told_that_its_loader_panicked() {
    let cache: Cache<u32, u64> = Cache::builder().capacity(10).build().unwrap();
    let (inner, watching) = (cache.clone(), Arc::new(Mutex::new(None)));
    let watched = Arc::clone(&watching);
    let called = catch_unwind(AssertUnwindSafe(|| {
        cache.get_many_or_load([1], move |_| -> Result<[(u32, u64); 0], &'static str> {
            let inner = inner.clone();
            let elsewhere = std::thread::spawn(move || inner.refresh_with(&1, || 0_u64));
            *watched.lock().unwrap() = Some(elsewhere.join().unwrap());
            panic!("told to")
        })
    }));
    assert!(called.is_err());
    let refreshing = watching.lock().unwrap().take().unwrap();
    assert_eq!((refreshing.status(), refreshing.wait()), (RefreshStatus::AlreadyRunning, Some(Ending::Panicked)));
}

/// A 13 can be copied once, and no more.
#[derive(Debug)]
struct Fragile(u64, Arc<AtomicBool>);

impl Clone for Fragile {
    fn clone(&self) -> Fragile {
        assert!(self.0 != 13 || !self.1.swap(true, Ordering::SeqCst), "told to");
        Fragile(self.0, Arc::clone(&self.1))
    }
}

#[test]
fn r2_a_panic_after_a_refresh_has_ended_leaves_no_claim_behind() {
    let (clock, hand, copied) = (ManualClock::new(), Hand::default(), Arc::new(AtomicBool::new(false)));
    let cache: Cache<u32, Fragile> = Cache::builder()
        .capacity(10)
        .lifetime(Lifetime::ttl(10 * SECOND).stale_while_revalidate(100 * SECOND))
        .clock(clock.clone())
        .spawner(hand.clone())
        .build()
        .unwrap();
    cache.insert(1, Fragile(1, Arc::clone(&copied)));
    clock.advance(10 * SECOND);
    let of_no_use = Loaded::new(Fragile(13, Arc::clone(&copied))).tag("struck");
    let refreshing = cache.refresh_with(&1, move || of_no_use);
    assert_eq!(refreshing.status(), RefreshStatus::Started);
    cache.invalidate_tag("struck");
    hand.run();
    assert!(copied.load(Ordering::SeqCst));
    let ending = Ending::Discarded(everfresh::NotStored::Overtaken);
    assert_eq!(
        (refreshing.wait(), ends(cache.stats().refreshes)),
        (Some(ending), 1),
        "it had ended, and is counted once"
    );
    let again = Fragile(2, copied);
    assert_eq!(cache.lookup(&1).load(move || again).unwrap().refresh, RefreshStatus::Started);
}

#[test]
fn o2_what_was_removed_has_left_though_its_copy_panics() {
    let cache: Cache<u32, Fragile> = Cache::builder().capacity(10).build().unwrap();
    let log = support::Log::of(&cache);
    cache.insert(1, Fragile(13, Arc::default()));
    assert_eq!(cache.get(&1).map(|value| value.0), Some(13));
    assert!(catch_unwind(AssertUnwindSafe(|| cache.remove(&1))).is_err());
    assert_eq!((cache.len(), cache.stats().left.removed), (0, 1));
    assert_eq!(log.count(&support::Told::Left(Cause::Removed)), 1);
}

/// A key whose copying panics, as long as it is told to.
#[derive(PartialEq, Eq, Hash, Debug)]
struct Key(u32);

static KEYS_PANIC: AtomicBool = AtomicBool::new(false);

impl Clone for Key {
    fn clone(&self) -> Key {
        assert!(!KEYS_PANIC.load(Ordering::SeqCst), "told to");
        Key(self.0)
    }
}

#[test]
fn r2_a_key_whose_clone_panics_when_its_refresh_begins_can_be_refreshed_later() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let cache: Cache<Key, u64> = Cache::builder()
        .capacity(10)
        .lifetime(Lifetime::ttl(10 * SECOND).stale_while_revalidate(100 * SECOND))
        .refresh_timeout(None)
        .clock(clock.clone())
        .spawner(hand.clone())
        .build()
        .unwrap();
    cache.insert(Key(1), 1);
    clock.advance(10 * SECOND);
    KEYS_PANIC.store(true, Ordering::SeqCst);
    assert!(catch_unwind(AssertUnwindSafe(|| cache.get_or_load(&Key(1), || 2_u64))).is_err());
    KEYS_PANIC.store(false, Ordering::SeqCst);
    let begun = cache.lookup(&Key(1)).load(|| 2_u64).unwrap().refresh;
    assert_eq!(begun, RefreshStatus::Started, "it looked as if its refresh ran, for ever");
    hand.run();
    assert_eq!(cache.get(&Key(1)), Some(2));
}

#[test]
fn l4_a_loader_that_panics_when_it_is_dropped_at_its_deadline_has_timed_out() {
    for many in [false, true] {
        let Bench { clock, hand, cache } = bench(|it| it.load_timeout(SECOND));
        let hangs = || {
            let held = support::Fragile(true);
            async move {
                let _held = held;
                std::future::pending::<u64>().await
            }
        };
        let mut waits: Pin<Box<dyn Future<Output = bool>>> = match many {
            true => Box::pin(async {
                let load = move |_| async move { Ok::<_, &str>([(1, hangs().await)]) };
                cache.get_many_or_load_async([1], load).await.is_err_and(|error| error.is_timeout())
            }),
            false => {
                Box::pin(async { cache.get_or_load_async(&1, hangs).await.is_err_and(|error| error.is_timeout()) })
            }
        };
        assert!(poll_once(waits.as_mut()).is_pending());
        hand.run();
        clock.advance(SECOND);
        hand.run();
        assert_eq!(poll_once(waits.as_mut()), Poll::Ready(true), "many: {many}");
        let ended = cache.stats().loads;
        assert_eq!((ended.timed_out, ended.abandoned, hand.waiting()), (1, 0, 0), "many: {many}");
        assert_eq!(cache.refresh_with(&2, || 2_u64).status(), RefreshStatus::Started, "others go on");
    }
}

#[test]
fn o1_a_panic_before_a_refresh_of_many_has_started_is_no_end_of_one() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let cache: Cache<u32, Fragile> = Cache::builder()
        .capacity(10)
        .lifetime(Lifetime::ttl(SECOND).stale_while_revalidate(MINUTE))
        .clock(clock.clone())
        .spawner(hand.clone())
        .build()
        .unwrap();
    let panics = Arc::new(AtomicBool::new(true));
    cache.insert(1, Fragile(13, Arc::clone(&panics)));
    clock.advance(SECOND);
    let read = || {
        let fresh = |_| Ok::<_, &str>([(1, Fragile(1, Arc::default()))]);
        catch_unwind(AssertUnwindSafe(|| cache.get_many_or_load([1], fresh).unwrap()[&1].0))
    };
    let counted = || (cache.stats().refreshes_started, ends(cache.stats().refreshes));
    assert!(read().is_err(), "the copy for the reader");
    assert_eq!((counted(), hand.waiting()), ((0, 0), 0));
    panics.store(false, Ordering::SeqCst);
    assert!(matches!(read(), Ok(13)), "the next one starts it");
    hand.run();
    assert_eq!(counted(), (1, 1));
    assert!(matches!(read(), Ok(1)));
}

/// A second level that panics, for as long as it is told to: when it is called, or when its future is polled.
#[derive(Clone, Default)]
struct Brittle(Arc<Mutex<Option<When>>>);

#[derive(Clone, Copy, PartialEq)]
enum When {
    Called,
    Polled,
}

impl Brittle {
    fn answer<T: Send + 'static>(&self, answer: T) -> LevelFuture<'static, T> {
        let when = *self.0.lock().unwrap();
        assert!(when != Some(When::Called), "told to");
        Box::pin(async move {
            assert!(when != Some(When::Polled), "told to");
            Ok(answer)
        })
    }
}

impl SecondLevel<u32, u64> for Brittle {
    fn get<'a>(&'a self, _key: &'a u32) -> LevelFuture<'a, Option<Loaded<u64>>> {
        self.answer(None)
    }
    fn put<'a>(&'a self, _key: &'a u32, _loaded: &'a Loaded<u64>, _begun_ago: Duration) -> LevelFuture<'a, ()> {
        self.answer(())
    }
    fn remove<'a>(&'a self, _key: &'a u32) -> LevelFuture<'a, ()> {
        self.answer(())
    }
    fn remove_tag<'a>(&'a self, _tag: &'a str) -> LevelFuture<'a, ()> {
        self.answer(())
    }
    fn clear(&self) -> LevelFuture<'_, ()> {
        self.answer(())
    }
}

#[test]
fn s1_a_second_level_that_panics_is_in_nobodys_way() {
    for when in [When::Called, When::Polled] {
        let (level, clock, hand) = (Brittle::default(), ManualClock::new(), Hand::default());
        let cache: Cache<u32, u64> = Cache::builder()
            .capacity(10)
            .lifetime(Lifetime::ttl(10 * SECOND).stale_while_revalidate(MINUTE))
            .second_level(level.clone())
            .clock(clock.clone())
            .spawner(hand.clone())
            .build()
            .unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let words = Arc::clone(&told);
        let _subscription = cache.subscribe(move |event| {
            if let Event::LevelFailed { reason, .. } = event {
                words.lock().unwrap().push((*reason).to_owned());
            }
        });
        *level.0.lock().unwrap() = Some(when);

        assert_eq!(cache.lookup(&1).load(|| 7_u64).unwrap().outcome, Outcome::Loaded);
        assert_eq!(
            cache.get_many_or_load([2, 3], |keys| Ok::<_, &str>(keys.into_iter().map(|key| (key, 7)))).unwrap().len(),
            2
        );
        assert_eq!((cache.peek(&1), cache.peek(&2), cache.peek(&3)), (Some(7), Some(7), Some(7)));
        assert_eq!(cache.stats().level_failures, 6, "to get and to put each of the three");
        assert_eq!(*told.lock().unwrap(), ["the second level panicked: told to"; 6], "and not that a loader did");

        clock.advance(10 * SECOND);
        assert_eq!(cache.get_or_load(&1, || 8_u64).unwrap(), 7, "stale");
        hand.run();
        assert_eq!((cache.peek(&1), cache.stats().refreshes.stored), (Some(8), 1));

        cache.invalidate(&1);
        hand.run();
        let failures = cache.stats().level_failures;
        assert!(failures > 6, "what it could not be told is counted, too");
        *level.0.lock().unwrap() = None;
        cache.get_or_load(&1, || 9_u64).unwrap();
        hand.run();
        cache.settle();
        assert_eq!(
            (cache.peek(&1), cache.stats().level_failures),
            (Some(9), failures),
            "and told when it can be again"
        );
    }
}
