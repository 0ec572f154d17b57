//! S1: the second level beneath a flight, never in the way; and what invalidation owes to it (I1).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use everfresh::{BoxError, Cache, Ending, LevelFuture, Lifetime, Loaded, ManualClock, Outcome, SecondLevel, Traits};

use crate::kit::{Count, Hand, MINUTE, SECOND, poll_once};
use crate::support::{Log, Told};

/// A second level in memory, which can fail and remembers what it was asked.
#[derive(Clone, Default)]
struct Fake(Arc<Inner>);

#[derive(Default)]
struct Inner {
    held: Mutex<HashMap<u32, Loaded<u64>>>,
    asked: Mutex<Vec<String>>,
    fails: AtomicBool,
}

impl Fake {
    fn with(key: u32, loaded: Loaded<u64>) -> Fake {
        let fake = Fake::default();
        fake.0.held.lock().unwrap().insert(key, loaded);
        fake
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.0.asked.lock().unwrap())
    }

    fn holds(&self, key: u32) -> bool {
        self.0.held.lock().unwrap().contains_key(&key)
    }

    fn answer<T: Send + 'static>(
        &self,
        asked: String,
        answer: impl FnOnce(&mut HashMap<u32, Loaded<u64>>) -> T,
    ) -> LevelFuture<'static, T> {
        self.0.asked.lock().unwrap().push(asked);
        if self.0.fails.load(Ordering::SeqCst) {
            return Box::pin(std::future::ready(Err(BoxError::from("out of order"))));
        }
        Box::pin(std::future::ready(Ok(answer(&mut self.0.held.lock().unwrap()))))
    }
}

impl SecondLevel<u32, u64> for Fake {
    fn get<'a>(&'a self, key: &'a u32) -> LevelFuture<'a, Option<Loaded<u64>>> {
        self.answer(format!("get {key}"), |held| held.get(key).cloned())
    }

    fn put<'a>(&'a self, key: &'a u32, loaded: &'a Loaded<u64>) -> LevelFuture<'a, ()> {
        self.answer(format!("put {key}"), |held| drop(held.insert(*key, loaded.clone())))
    }

    fn remove<'a>(&'a self, key: &'a u32) -> LevelFuture<'a, ()> {
        self.answer(format!("remove {key}"), |held| drop(held.remove(key)))
    }
}

fn cache(fake: &Fake, clock: &ManualClock, hand: &Hand) -> Cache<u32, u64> {
    Cache::builder()
        .capacity(2)
        .eviction(everfresh::Eviction::Lru)
        .lifetime(Lifetime::ttl(10 * SECOND).stale_while_revalidate(MINUTE))
        .second_level(fake.clone())
        .clock(clock.clone())
        .spawner(hand.clone())
        .build()
        .unwrap()
}

#[test]
fn s1_a_miss_asks_the_second_level_before_the_loader() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let fake = Fake::with(1, Loaded::new(5).lifetime(Lifetime::ttl(3 * SECOND)));
    let cache = cache(&fake, &clock, &hand);
    let answer = cache.lookup(&1).load(|| panic!("not asked for") as u64).unwrap();
    assert_eq!((answer.value, answer.outcome), (5, Outcome::SecondLevel));
    assert_eq!(fake.asked(), ["get 1"], "what came from there is not sent back");
    assert_eq!(cache.lookup(&1).load(|| 0_u64).unwrap().outcome, Outcome::Hit);
    assert!(fake.asked().is_empty(), "a hit asks nobody");
    clock.advance(3 * SECOND);
    assert_eq!(cache.peek(&1), None, "it lived as long as it brought along, and no longer");
    assert_eq!((cache.stats().second_level, cache.stats().level_failures), (1, 0));
}

#[test]
fn s1_what_the_loader_made_is_told_to_the_second_level() {
    let (clock, hand, fake) = (ManualClock::new(), Hand::default(), Fake::default());
    let cache = cache(&fake, &clock, &hand);
    assert_eq!(cache.lookup(&1).load(|| 7_u64).unwrap().outcome, Outcome::Loaded);
    assert_eq!(fake.asked(), ["get 1", "put 1"]);
    clock.advance(10 * SECOND);
    assert_eq!(cache.get_or_load(&1, || 8_u64).unwrap(), 7);
    hand.run();
    assert_eq!(fake.asked(), ["put 1"], "a refresh is there to ask the loader, and tells what it got");
    assert_eq!(fake.0.held.lock().unwrap().len(), 1);
    assert!(cache.get_or_load(&2, || Err::<u64, _>("bad")).is_err());
    assert_eq!(fake.asked(), ["get 2"]);
    assert!(cache.get_or_load(&2, || None::<u64>).unwrap_err().is_absent());
    assert_eq!(fake.asked(), ["get 2", "remove 2"], "found absent");
}

#[test]
fn s1_one_flight_asks_the_second_level_once_for_all() {
    let (clock, hand, fake) = (ManualClock::new(), Hand::default(), Fake::with(1, Loaded::new(5)));
    struct Slow(Fake, Arc<tokio::sync::Notify>);
    impl SecondLevel<u32, u64> for Slow {
        fn get<'a>(&'a self, key: &'a u32) -> LevelFuture<'a, Option<Loaded<u64>>> {
            Box::pin(async move {
                self.1.notified().await;
                self.0.get(key).await
            })
        }
        fn put<'a>(&'a self, key: &'a u32, loaded: &'a Loaded<u64>) -> LevelFuture<'a, ()> {
            self.0.put(key, loaded)
        }
        fn remove<'a>(&'a self, key: &'a u32) -> LevelFuture<'a, ()> {
            self.0.remove(key)
        }
    }
    let gate = Arc::new(tokio::sync::Notify::new());
    let cache: Cache<u32, u64> = Cache::builder()
        .capacity(10)
        .second_level(Slow(fake.clone(), Arc::clone(&gate)))
        .clock(clock)
        .spawner(hand)
        .build()
        .unwrap();
    let mut callers: Vec<_> = (0..10).map(|_| Box::pin(cache.lookup(&1).load_async(|| async { 0_u64 }))).collect();
    assert!(callers.iter_mut().all(|caller| poll_once(caller.as_mut()).is_pending()));
    gate.notify_one();
    let outcomes: Vec<_> = callers
        .iter_mut()
        .map(|caller| match poll_once(caller.as_mut()) {
            std::task::Poll::Ready(Ok(answer)) => (answer.value, answer.outcome),
            _ => panic!("it waits on"),
        })
        .collect();
    assert_eq!(outcomes[0], (5, Outcome::SecondLevel));
    assert!(outcomes[1..].iter().all(|outcome| *outcome == (5, Outcome::Coalesced)));
    assert_eq!(fake.asked(), ["get 1"]);
}

#[test]
fn s1_a_failing_second_level_is_counted_and_told_and_nobody_else_notices() {
    let (clock, hand, fake) = (ManualClock::new(), Hand::default(), Fake::default());
    fake.0.fails.store(true, Ordering::SeqCst);
    let cache = cache(&fake, &clock, &hand);
    let log = Log::of(&cache);
    let answer = cache.lookup(&1).load(|| 7_u64).unwrap();
    assert_eq!((answer.value, answer.outcome), (7, Outcome::Loaded));
    assert_eq!((cache.stats().level_failures, log.count(&Told::LevelFailed)), (2, 2), "get and put");
    clock.advance(10 * SECOND);
    assert_eq!(cache.get_or_load(&1, || 8_u64).unwrap(), 7);
    hand.run();
    assert_eq!(log.count(&Told::Refresh(Ending::Stored)), 1);
    assert_eq!(cache.get(&1), Some(8));
    cache.invalidate(&1);
    hand.run();
    assert_eq!(cache.stats().level_failures, 4);
    assert_eq!(cache.get(&1), None);
}

#[test]
fn i1_what_was_removed_or_invalidated_does_not_come_back_from_the_second_level() {
    for by_remove in [false, true] {
        let (clock, hand, fake) = (ManualClock::new(), Hand::default(), Fake::default());
        let cache = cache(&fake, &clock, &hand);
        assert_eq!(cache.get_or_load(&1, || 7_u64).unwrap(), 7);
        if by_remove {
            assert_eq!(cache.remove(&1), Some(7));
        } else {
            cache.invalidate(&1);
        }
        hand.run();
        assert!(!fake.holds(1));
        assert_eq!(cache.lookup(&1).load(|| 8_u64).unwrap().outcome, Outcome::Loaded);
    }
}

#[test]
fn s1_a_value_from_the_second_level_keeps_its_tags_and_token() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let fake = Fake::with(1, Loaded::new(5).tag("tag").token("five"));
    let cache = cache(&fake, &clock, &hand);
    assert_eq!(cache.get_or_load(&1, || 0_u64).unwrap(), 5);
    clock.advance(10 * SECOND);
    let seen = Count::default();
    let saw = seen.clone();
    let answer = cache.lookup(&1).load_with(move |previous| {
        assert_eq!(previous.unwrap().token.as_deref(), Some("five"));
        saw.add();
        6_u64
    });
    assert_eq!(answer.unwrap().outcome, Outcome::Stale);
    hand.run();
    assert_eq!((seen.get(), cache.get(&1)), (1, Some(6)));
    cache.insert_with(2, 2, Traits::new().tag("tag"));
    cache.invalidate_tag("tag");
    assert_eq!((cache.peek(&1), cache.peek(&2)), (Some(6), None), "the new value bears no tag");
}
