//! S1: the second level beneath a flight, never in the way; and what invalidation owes to it (I1).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use everfresh::{
    BoxError, Cache, Clock, Ending, LevelFuture, Lifetime, Load, Loaded, ManualClock, Outcome, Previous, SecondLevel,
    Spawn, Traits,
};

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

    fn put<'a>(&'a self, key: &'a u32, loaded: &'a Loaded<u64>, _begun_ago: Duration) -> LevelFuture<'a, ()> {
        self.answer(format!("put {key}"), |held| drop(held.insert(*key, loaded.clone())))
    }

    fn remove<'a>(&'a self, key: &'a u32) -> LevelFuture<'a, ()> {
        self.answer(format!("remove {key}"), |held| drop(held.remove(key)))
    }

    fn remove_tag<'a>(&'a self, tag: &'a str) -> LevelFuture<'a, ()> {
        let bears = |loaded: &Loaded<u64>| loaded.traits().own_tags().iter().any(|other| &**other == tag);
        self.answer(format!("remove tag {tag}"), |held| held.retain(|_, loaded| !bears(loaded)))
    }

    fn clear(&self) -> LevelFuture<'_, ()> {
        self.answer("clear".to_owned(), HashMap::clear)
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
    let unservable = || Loaded::new(9_u64).lifetime(Lifetime::ttl(Duration::ZERO));
    assert_eq!(cache.lookup(&1).bypass().load(unservable).unwrap().value, 9);
    assert_eq!(fake.asked(), ["remove 1"], "what is there is older");
}

#[test]
fn s1_r9_what_still_holds_is_renewed_in_the_second_level_as_it_was_loaded() {
    let (clock, hand, fake) = (ManualClock::new(), Hand::default(), Fake::default());
    let cache = cache(&fake, &clock, &hand);
    let lifetime = Lifetime::ttl(5 * SECOND).stale_while_revalidate(MINUTE);
    cache.get_or_load(&1, move || Loaded::new(7).lifetime(lifetime).tag("odd").tag("prime").token("v1")).unwrap();
    assert_eq!(fake.asked(), ["get 1", "put 1"]);
    clock.advance(6 * SECOND);
    let before = fake.0.held.lock().unwrap().remove(&1).unwrap();
    assert_eq!(cache.get_or_load(&1, || Load::NotModified).unwrap(), 7);
    hand.run();
    assert_eq!(cache.stats().refreshes.not_modified, 1);
    assert_eq!(fake.asked(), ["put 1"], "else it would end there while it lives on here");
    let after = fake.0.held.lock().unwrap().remove(&1).unwrap();
    assert_eq!(after.value(), before.value());
    let told = |loaded: &Loaded<u64>| {
        let traits = loaded.traits();
        (traits.own_lifetime(), traits.own_tags().to_vec(), traits.own_token().cloned())
    };
    assert_eq!(told(&after), told(&before));
    assert_eq!(told(&after).0, Some(lifetime));
    // Struck while it was asked for: it goes no further.
    clock.advance(6 * SECOND);
    let same = cache.clone();
    cache
        .get_or_load(&1, move || {
            same.invalidate_tag("odd");
            Load::<u64>::NotModified
        })
        .unwrap();
    hand.run();
    assert!(!fake.holds(1));
    assert!(!fake.asked().contains(&"put 1".to_owned()));
    // Of what is not there it says nothing: that is an absence.
    assert!(cache.get_or_load(&2, || Load::<u64>::NotModified).unwrap_err().is_absent());
    assert_eq!(fake.asked(), ["get 2", "remove 2"]);
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
        fn put<'a>(&'a self, key: &'a u32, loaded: &'a Loaded<u64>, begun_ago: Duration) -> LevelFuture<'a, ()> {
            self.0.put(key, loaded, begun_ago)
        }
        fn remove<'a>(&'a self, key: &'a u32) -> LevelFuture<'a, ()> {
            self.0.remove(key)
        }
        fn remove_tag<'a>(&'a self, tag: &'a str) -> LevelFuture<'a, ()> {
            self.0.remove_tag(tag)
        }
        fn clear(&self) -> LevelFuture<'_, ()> {
            self.0.clear()
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

/// Its name, how it is done, and what it comes to beneath.
type Strike = (&'static str, fn(&Cache<u32, u64>), &'static str);

/// All ways to make a key unservable, or stale, with what the second level is told of it. Key 1 bears the tag "tag".
fn strikes() -> [Strike; 9] {
    [
        ("remove", |cache| assert!(cache.remove(&1).is_none_or(|old| old == 7)), "remove 1"),
        ("invalidate", |cache| cache.invalidate(&1), "remove 1"),
        ("invalidate_tag", |cache| cache.invalidate_tag("tag"), "remove tag tag"),
        ("invalidate_matching", |cache| cache.invalidate_matching(|key, _| *key == 1), "clear"),
        ("clear", |cache| cache.clear(), "clear"),
        ("expire", |cache| cache.expire(&1), "remove 1"),
        ("expire_tag", |cache| cache.expire_tag("tag"), "remove tag tag"),
        ("expire_matching", |cache| cache.expire_matching(|key, _| *key == 1), "clear"),
        ("expire_all", |cache| cache.expire_all(), "clear"),
    ]
}

/// Seven, under a tag.
fn seven() -> Loaded<u64> {
    Loaded::new(7).tag("tag")
}

/// Pushes key 1 out.
fn evict(cache: &Cache<u32, u64>) {
    (10..12).for_each(|key| cache.insert(key, 0));
    assert_eq!(cache.peek(&1), None);
}

#[test]
fn i1_a_miss_right_after_an_invalidation_does_not_read_the_old_value_from_the_second_level() {
    for (name, strike, told) in strikes() {
        for before in [false, true] {
            let (clock, hand, fake) = (ManualClock::new(), Hand::default(), Fake::default());
            let cache = cache(&fake, &clock, &hand);
            assert_eq!(cache.get_or_load(&1, seven).unwrap(), 7);
            // Whether it is struck when it is here, or when it has been pushed out.
            if before {
                evict(&cache);
            }
            strike(&cache);
            if !before {
                evict(&cache);
            }
            let answer = cache.lookup(&1).load(|| 8_u64).unwrap();
            assert_eq!((answer.value, answer.outcome), (8, Outcome::Loaded), "{name}: nothing was told yet");
            hand.run();
            assert!(fake.asked().contains(&told.to_owned()), "{name}");
            assert!(fake.0.held.lock().unwrap().get(&1).is_none_or(|held| *held.value() == 8), "{name}");
            evict(&cache);
            assert_eq!(cache.get_or_load(&1, || 8_u64).unwrap(), 8, "{name}: nor afterwards");
        }
    }
}

#[test]
fn i1_what_was_inserted_is_not_followed_by_the_older_value_of_the_second_level() {
    for runs in [false, true] {
        let (clock, hand, fake) = (ManualClock::new(), Hand::default(), Fake::default());
        let cache = cache(&fake, &clock, &hand);
        assert_eq!(cache.get_or_load(&1, seven).unwrap(), 7);
        cache.insert(1, 9);
        if runs {
            hand.run();
            assert!(!fake.holds(1));
        }
        evict(&cache);
        assert_eq!(cache.get_or_load(&1, || 10_u64).unwrap(), 10, "7 is older than what was inserted");
    }
}

#[test]
fn i1_what_was_overtaken_while_it_was_loaded_does_not_come_back_from_the_second_level() {
    for (name, strike, _) in strikes() {
        let (clock, hand, fake) = (ManualClock::new(), Hand::default(), Fake::default());
        let cache = cache(&fake, &clock, &hand);
        let gate = Arc::new(tokio::sync::Notify::new());
        let opened = Arc::clone(&gate);
        let mut caller = Box::pin(cache.get_or_load_async(&1, move || async move {
            opened.notified().await;
            seven()
        }));
        assert!(poll_once(caller.as_mut()).is_pending());
        strike(&cache);
        hand.run();
        gate.notify_one();
        assert!(matches!(poll_once(caller.as_mut()), Poll::Ready(Ok(7))), "{name}: who waited gets it");
        drop(caller);
        hand.run();
        evict(&cache);
        assert_eq!(cache.get_or_load(&1, || 8_u64).unwrap(), 8, "{name}");
    }
}

/// A second level of which each `put` and `remove` waits to be let through; what is put there is there once it was let through.
#[derive(Clone, Default)]
struct Slow {
    fake: Fake,
    puts: Arc<tokio::sync::Notify>,
    /// Key 9 waits for this when it is asked for.
    nine: Arc<tokio::sync::Notify>,
}

impl SecondLevel<u32, u64> for Slow {
    fn get<'a>(&'a self, key: &'a u32) -> LevelFuture<'a, Option<Loaded<u64>>> {
        Box::pin(async move {
            if *key == 9 {
                self.nine.notified().await;
            }
            self.fake.get(key).await
        })
    }
    fn put<'a>(&'a self, key: &'a u32, loaded: &'a Loaded<u64>, begun_ago: Duration) -> LevelFuture<'a, ()> {
        Box::pin(async move {
            self.puts.notified().await;
            self.fake.put(key, loaded, begun_ago).await
        })
    }
    fn remove<'a>(&'a self, key: &'a u32) -> LevelFuture<'a, ()> {
        self.fake.remove(key)
    }
    fn remove_tag<'a>(&'a self, tag: &'a str) -> LevelFuture<'a, ()> {
        self.fake.remove_tag(tag)
    }
    fn clear(&self) -> LevelFuture<'_, ()> {
        self.fake.clear()
    }
}

#[test]
fn i1_what_was_on_its_way_to_the_second_level_when_it_was_struck_does_not_stay_there() {
    for (name, strike, _) in strikes() {
        for dropped in [false, true] {
            let (clock, hand, slow) = (ManualClock::new(), Hand::default(), Slow::default());
            let cache: Cache<u32, u64> = Cache::builder()
                .capacity(2)
                .eviction(everfresh::Eviction::Lru)
                .second_level(slow.clone())
                .clock(clock)
                .spawner(hand.clone())
                .build()
                .unwrap();
            let mut caller = Box::pin(cache.get_or_load_async(&1, || async { seven() }));
            assert!(poll_once(caller.as_mut()).is_pending());
            assert_eq!(cache.peek(&1), Some(7), "{name}: it is here, and on its way there");
            strike(&cache);
            hand.run();
            if dropped {
                drop(caller);
            } else {
                slow.puts.notify_one();
                assert!(matches!(poll_once(caller.as_mut()), Poll::Ready(Ok(7))), "{name}");
                assert!(slow.fake.holds(1), "{name}: the late one came last");
            }
            evict(&cache);
            slow.puts.notify_one();
            assert_eq!(cache.get_or_load(&1, || 8_u64).unwrap(), 8, "{name}: it is not asked before it has forgotten");
            hand.run();
            assert!(slow.fake.0.held.lock().unwrap().get(&1).is_none_or(|held| *held.value() == 8), "{name}");
        }
    }
}

#[test]
fn i1_a_second_level_that_could_not_be_told_is_told_again_before_it_is_asked() {
    for (name, strike, told) in strikes() {
        let (clock, hand, fake) = (ManualClock::new(), Hand::default(), Fake::default());
        let cache = cache(&fake, &clock, &hand);
        assert_eq!(cache.get_or_load(&1, seven).unwrap(), 7);
        evict(&cache);
        hand.run();
        fake.asked();
        fake.0.fails.store(true, Ordering::SeqCst);
        strike(&cache);
        hand.run();
        assert_eq!(fake.asked(), [told], "{name}");
        assert_eq!(cache.stats().level_failures, 1, "{name}");
        fake.0.fails.store(false, Ordering::SeqCst);
        let answer = cache.lookup(&1).load(|| 8_u64).unwrap();
        assert_eq!((answer.value, answer.outcome), (8, Outcome::Loaded), "{name}: it still holds the old one");
        hand.run();
        assert!(fake.asked().contains(&told.to_owned()), "{name}: told again");
        evict(&cache);
        hand.run();
        cache.get_or_load(&1, || 9_u64).unwrap();
        assert!(fake.asked().contains(&"get 1".to_owned()), "{name}: it may be asked again");
    }
}

#[test]
fn i1_what_a_failed_put_leaves_in_the_second_level_is_not_served() {
    let (clock, hand, fake) = (ManualClock::new(), Hand::default(), Fake::default());
    let cache = cache(&fake, &clock, &hand);
    assert_eq!(cache.get_or_load(&1, seven).unwrap(), 7);
    clock.advance(10 * SECOND);
    fake.0.fails.store(true, Ordering::SeqCst);
    assert_eq!(cache.get_or_load(&1, || 8_u64).unwrap(), 7);
    hand.run();
    assert_eq!(cache.get(&1), Some(8), "refreshed here, and there the old one is left");
    fake.0.fails.store(false, Ordering::SeqCst);
    evict(&cache);
    assert_eq!(cache.get_or_load(&1, || 9_u64).unwrap(), 9);
}

#[test]
fn i2_a_cleared_cache_is_not_filled_again_from_its_second_level() {
    for (name, strike, _) in strikes().into_iter().filter(|(.., told)| *told != "remove 1") {
        let (clock, hand, fake) = (ManualClock::new(), Hand::default(), Fake::default());
        let cache = cache(&fake, &clock, &hand);
        assert_eq!(cache.get_or_load(&1, seven).unwrap(), 7);
        assert_eq!(cache.get_or_load(&2, || 2_u64).unwrap(), 2);
        strike(&cache);
        hand.run();
        assert!(!fake.holds(1), "after {name}");
        assert_eq!(fake.holds(2), name.ends_with("_tag"), "after {name}");
        evict(&cache);
        assert_eq!(cache.get_or_load(&1, || 8_u64).unwrap(), 8, "after {name}");
        assert_eq!(
            cache.get_or_load(&2, || 3_u64).unwrap(),
            if name.ends_with("_tag") { 2 } else { 3 },
            "after {name}"
        );
    }
}

#[test]
fn i2_while_a_tag_is_owed_to_the_second_level_others_are_asked_for_and_what_bears_it_is_not_taken() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let fake = Fake::with(1, Loaded::new(7).tag("tag"));
    fake.0.held.lock().unwrap().insert(2, Loaded::new(2).tag("other"));
    let cache = cache(&fake, &clock, &hand);
    cache.invalidate_tag("tag");
    assert_eq!(cache.get_or_load(&1, || 8_u64).unwrap(), 8);
    assert_eq!(cache.lookup(&2).load(|| 3_u64).unwrap().outcome, Outcome::SecondLevel);
}

#[test]
fn m3_many_strikes_at_once_are_told_one_by_one_or_as_one() {
    for (many, told) in [(1_000_u32, 1_000), (100_000, 1)] {
        let (clock, hand, fake) = (ManualClock::new(), Hand::default(), Fake::default());
        let cache = cache(&fake, &clock, &hand);
        (0..many).for_each(|key| cache.invalidate(&key));
        (0..many.min(1_000)).for_each(|key| cache.invalidate(&key));
        hand.run();
        let asked = fake.asked();
        assert!(asked.len() >= told && asked.len() <= many as usize / 2 + 500 + 1, "{} calls", asked.len());
        assert_eq!(asked.iter().filter(|asked| *asked == "clear").count(), usize::from(many > 1_000));
        cache.get_or_load(&7, || 1_u64).unwrap();
        assert_eq!(fake.asked(), ["get 7", "put 7"], "all is told, and nothing is owed");
    }
}

#[test]
fn i1_while_a_value_is_on_its_way_to_the_second_level_the_older_one_there_is_not_asked_for() {
    let (hand, slow) = (Hand::default(), Slow::default());
    slow.fake.0.held.lock().unwrap().insert(1, Loaded::new(6));
    let cache: Cache<u32, u64> = Cache::builder()
        .capacity(2)
        .eviction(everfresh::Eviction::Lru)
        .second_level(slow.clone())
        .spawner(hand.clone())
        .build()
        .unwrap();
    assert_eq!(cache.get_or_load(&1, || 7_u64).unwrap(), 6);
    let _ = cache.refresh_with_async(&1, || async { 8_u64 });
    hand.run();
    assert_eq!(cache.peek(&1), Some(8), "it is here, and on its way there");
    evict(&cache);
    assert_eq!(cache.peek(&1), None);
    let mut caller = Box::pin(cache.get_or_load_async(&1, || async { 9_u64 }));
    let _ = poll_once(caller.as_mut());
    assert_eq!(cache.peek(&1), Some(9), "6 is older than 8");
}

#[test]
fn m1_what_was_too_heavy_to_be_kept_here_does_not_leave_the_older_value_there() {
    let (hand, fake) = (Hand::default(), Fake::with(1, Loaded::new(6)));
    let cache: Cache<u32, u64> =
        Cache::builder().weight_capacity(10).second_level(fake.clone()).spawner(hand.clone()).build().unwrap();
    assert_eq!(cache.get_or_load(&1, || 7_u64).unwrap(), 6);
    let _ = cache.refresh_with(&1, || Loaded::new(8_u64).weight(100));
    hand.run();
    assert_eq!(cache.peek(&1), None, "it was replaced by what cannot be kept");
    assert!(!fake.holds(1), "and so it is there");
}

#[test]
fn l7_what_store_if_rejects_is_not_given_to_the_second_level() {
    let fake = Fake::default();
    let cache: Cache<u32, u64> =
        Cache::builder().capacity(10).store_if(|value| *value != 7).second_level(fake.clone()).build().unwrap();
    assert_eq!(cache.get_or_load(&1, seven).unwrap(), 7);
    assert!(!fake.holds(1), "rejected values are never stored, there neither");
    assert_eq!(cache.get_or_load(&1, || 8_u64).unwrap(), 8);
    assert!(fake.holds(1));
}

#[test]
fn l7_what_store_if_rejects_is_not_taken_from_the_second_level() {
    for many in [false, true] {
        let (fake, asked) = (Fake::with(1, seven()), Count::default());
        let counted = asked.clone();
        let store_if = move |value: &u64| {
            counted.add();
            *value != 7
        };
        let cache: Cache<u32, u64> =
            Cache::builder().capacity(10).store_if(store_if).second_level(fake.clone()).build().unwrap();
        let got = match many {
            true => cache.get_many_or_load([1], |_| Ok::<_, &str>([(1, 8)])).unwrap()[&1],
            false => cache.get_or_load(&1, || 8_u64).unwrap(),
        };
        assert_eq!((got, cache.peek(&1)), (8, Some(8)), "many: {many}");
        assert_eq!(*fake.0.held.lock().unwrap()[&1].value(), 8, "and so it is there");
        assert_eq!((asked.get(), cache.stats().second_level), (2, 0), "each of the two is looked at once");
        // What passes is not looked at twice.
        fake.0.held.lock().unwrap().insert(2, Loaded::new(9));
        assert_eq!((cache.get_or_load(&2, || 0_u64).unwrap(), asked.get()), (9, 3));
    }
}

#[test]
fn t5_what_is_put_there_says_how_long_it_lives() {
    let (clock, hand, fake) = (ManualClock::new(), Hand::default(), Fake::default());
    let cache = cache(&fake, &clock, &hand);
    cache.get_or_load(&1, seven).unwrap();
    cache.get_or_load(&2, || Loaded::new(2).lifetime(Lifetime::ttl(SECOND)).token("two")).unwrap();
    let held = fake.0.held.lock().unwrap();
    let traits = |key: u32| held[&key].traits().clone();
    assert_eq!(traits(1).own_lifetime().unwrap().time_to_live(), Some(10 * SECOND), "the cache's");
    assert_eq!(traits(2).own_lifetime(), Some(Lifetime::ttl(SECOND)), "its own");
    assert_eq!((traits(2).own_token().map(|token| &**token), traits(2).own_weight()), (Some("two"), None));
    let (value, _) = Loaded::with_traits(*held[&1].value(), traits(1)).into_parts();
    assert_eq!(value, 7);
}

#[test]
fn s1_many_ask_the_second_level_before_the_loader_and_tell_it_afterwards() {
    for bounded in [false, true] {
        let fake = Fake::with(1, seven());
        let builder = Cache::builder().capacity(10).second_level(fake.clone());
        let builder = if bounded { builder.load_timeout(MINUTE) } else { builder };
        let cache = builder.build().unwrap();
        let found = cache.get_many_or_load([1, 2, 3], |keys| {
            assert_eq!(keys, [2, 3]);
            Ok::<_, &str>([(2, 20)])
        });
        let found = found.unwrap();
        assert_eq!((found.len(), found[&1], found[&2]), (2, 7, 20));
        cache.settle();
        assert_eq!(fake.asked(), ["get 1", "get 2", "get 3", "put 2", "remove 3"]);
        let stats = cache.stats();
        assert_eq!((stats.second_level, stats.loaded, stats.loads.stored, stats.loads.absent), (1, 1, 2, 1));
        cache.clear();
        cache.settle();
        assert!(!fake.holds(1) && !fake.holds(2));
    }
}

#[test]
fn t4_what_the_second_level_gives_of_many_lives_no_longer_because_another_answer_takes_its_time() {
    let clock = ManualClock::new();
    let lifetime = Lifetime::ttl(3 * SECOND).stale_while_revalidate(4 * SECOND);
    for (waits, then) in [(2, Outcome::Hit), (4, Outcome::Stale)] {
        let slow = Slow { fake: Fake::with(1, Loaded::new(5).lifetime(lifetime)), ..Slow::default() };
        let cache: Cache<u32, u64> =
            Cache::builder().capacity(10).second_level(slow.clone()).clock(clock.clone()).build().unwrap();
        let mut many = Box::pin(cache.get_many_or_load_async([1, 9], async |_| Ok::<_, &str>([(9, 6_u64)])));
        assert!(poll_once(many.as_mut()).is_pending());
        clock.advance(waits * SECOND);
        slow.nine.notify_one();
        // The loader's value is on its way there.
        assert!(poll_once(many.as_mut()).is_pending());
        assert_eq!(cache.lookup(&1).peek().unwrap().outcome, then, "after {waits} s");
        clock.advance(SECOND);
        assert_eq!(cache.lookup(&1).peek().unwrap().outcome, Outcome::Stale, "a second later");
        slow.puts.notify_one();
        let Poll::Ready(Ok(found)) = poll_once(many.as_mut()) else { panic!("it has ended") };
        assert_eq!((found[&1], found[&9]), (5, 6));
    }
}

#[test]
fn t1_what_ended_while_the_second_level_was_asked_for_others_is_loaded_with_them() {
    let clock = ManualClock::new();
    let windows = Lifetime::ttl(SECOND).stale_while_revalidate(SECOND).stale_if_error(MINUTE);
    // Over by then, or to be served only after a failure.
    for lifetime in [Lifetime::ttl(SECOND), windows] {
        let slow = Slow { fake: Fake::with(1, Loaded::new(5).lifetime(lifetime)), ..Slow::default() };
        let cache: Cache<u32, u64> =
            Cache::builder().capacity(10).second_level(slow.clone()).clock(clock.clone()).build().unwrap();
        let loader = async |keys: Vec<u32>| {
            assert_eq!(keys, [1, 9]);
            Ok::<_, &str>([(1, 50), (9, 60)])
        };
        let mut many = Box::pin(cache.get_many_or_load_async([1, 9], loader));
        assert!(poll_once(many.as_mut()).is_pending());
        clock.advance(2 * SECOND);
        slow.nine.notify_one();
        assert!(poll_once(many.as_mut()).is_pending());
        slow.puts.notify_waiters();
        let Poll::Ready(Ok(found)) = poll_once(many.as_mut()) else { panic!("it has ended") };
        assert_eq!((found[&1], found[&9]), (50, 60));
        let stats = cache.stats();
        assert_eq!((stats.second_level, stats.loads.stored, stats.loads.discarded), (0, 2, 0));
    }
}

#[test]
fn s1_what_the_second_level_has_of_many_waits_for_no_loader() {
    for bounded in [false, true] {
        let (clock, hand) = (ManualClock::new(), Hand::default());
        let fake = Fake::with(1, Loaded::new(5).lifetime(Lifetime::ttl(3 * SECOND)));
        let mut builder = Cache::builder().capacity(10).second_level(fake).clock(clock.clone()).spawner(hand.clone());
        if bounded {
            builder = builder.load_timeout(4 * SECOND);
        }
        let cache: Cache<u32, u64> = builder.build().unwrap();
        let mut many = Box::pin(cache.get_many_or_load_async([1, 2, 3], async |keys| {
            let mut keys: Vec<u32> = keys;
            keys.sort_unstable();
            assert_eq!(keys, [2, 3]);
            std::future::pending::<Result<Vec<(u32, u64)>, &str>>().await
        }));
        assert!(poll_once(many.as_mut()).is_pending());
        hand.run();
        let mut other = Box::pin(cache.get_or_load_async(&1, async || 8_u64));
        assert!(matches!(poll_once(other.as_mut()), Poll::Ready(Ok(5))), "bounded: {bounded}");
        clock.advance(3 * SECOND);
        assert_eq!(cache.peek(&1), None, "it had no more than that to live");
        clock.advance(SECOND);
        hand.run();
        match poll_once(many.as_mut()) {
            Poll::Ready(timed_out) => assert!(bounded && timed_out.unwrap_err().is_timeout()),
            Poll::Pending => assert!(!bounded),
        }
        drop(many);
        let loads = cache.stats().loads;
        assert_eq!((loads.stored, loads.timed_out + loads.abandoned), (1, 2), "{loads:?}");
        assert_eq!(hand.waiting(), 0, "nothing is left of it");
    }
}

#[test]
fn i1_clearing_again_before_it_was_told_is_told_and_owed_once() {
    for many in [0, 100_000] {
        let (clock, hand, fake) = (ManualClock::new(), Hand::default(), Fake::default());
        let cache = cache(&fake, &clock, &hand);
        cache.clear();
        cache.clear();
        // Too many to be told one by one: that is all again.
        (0..many).for_each(|key| cache.invalidate(&key));
        hand.run();
        let cleared = fake.asked().iter().filter(|asked| *asked == "clear").count();
        assert_eq!(cleared, 1, "after {many} more");
        cache.get_or_load(&7, || 1_u64).unwrap();
        assert_eq!(fake.asked(), ["get 7", "put 7"], "nothing is owed after {many} more");
    }
}

#[test]
fn i1_a_tag_that_is_struck_again_before_it_was_told_is_told_and_owed_once() {
    let (clock, hand, fake) = (ManualClock::new(), Hand::default(), Fake::with(1, seven()));
    let cache = cache(&fake, &clock, &hand);
    cache.invalidate_tag("tag");
    cache.invalidate_tag("tag");
    hand.run();
    assert_eq!(fake.asked(), ["remove tag tag"]);
    fake.0.held.lock().unwrap().insert(1, seven());
    assert_eq!(cache.lookup(&1).load(|| 8_u64).unwrap().outcome, Outcome::SecondLevel, "another node has put it since");
}

#[test]
fn i1_what_is_owed_is_told_though_the_work_that_was_to_tell_it_was_dropped() {
    for (name, strike, told) in strikes() {
        let (clock, hand, fake) = (ManualClock::new(), Hand::default(), Fake::default());
        let cache = cache(&fake, &clock, &hand);
        assert_eq!(cache.get_or_load(&1, seven).unwrap(), 7);
        evict(&cache);
        hand.run();
        fake.asked();
        strike(&cache);
        hand.drop_all();
        assert_eq!(cache.get_or_load(&1, || 8_u64).unwrap(), 8, "{name}: it still holds the old one");
        assert!(!fake.asked().contains(&told.to_owned()), "{name}");
        hand.run();
        assert!(fake.asked().contains(&told.to_owned()), "{name}: whoever asks sees to it that it is told");
        // And whoever strikes next finds nobody telling.
        cache.invalidate(&3);
        hand.run();
        assert_eq!(fake.asked(), ["remove 3"], "{name}");
    }
}

#[test]
fn r7_warm_waits_for_a_place_that_is_given_back_after_the_refresh_has_ended() {
    let (clock, hand, slow) = (ManualClock::new(), Hand::default(), Slow::default());
    let cache: Cache<u32, u64> = Cache::builder()
        .capacity(10)
        .async_loader(|key: u32| async move { u64::from(key) })
        .max_refreshes(1)
        .second_level(slow.clone())
        .clock(clock.clone())
        .spawner(hand.clone())
        .build()
        .unwrap();
    let mut warming = Box::pin(cache.warm_async(1..=3));
    for key in 1..=3 {
        assert!(poll_once(warming.as_mut()).is_pending());
        hand.run();
        assert_eq!(cache.peek(&key), Some(u64::from(key)));
        if key == 3 {
            break;
        }
        assert!(poll_once(warming.as_mut()).is_pending(), "the second level is being told, in the only place");
        if key == 2 {
            // Its time is over, and its place is given to the next, whatever its worker does.
            clock.advance(30 * SECOND);
        } else {
            slow.puts.notify_one();
            hand.run();
        }
    }
    assert!(
        matches!(poll_once(warming.as_mut()), Poll::Ready(3)),
        "all of them, and nobody needs the last one's place"
    );
}

#[test]
fn s1_a_panic_after_a_value_was_stored_leaves_no_older_one_in_the_second_level() {
    let (clock, hand, fake) = (ManualClock::new(), Hand::default(), Fake::default());
    let cache: Cache<u32, u64> = Cache::builder()
        .weight_capacity(10)
        .weigher(|_, value| {
            assert!(*value != 13, "told to");
            1
        })
        .lifetime(Lifetime::ttl(10 * SECOND).stale_while_revalidate(MINUTE))
        .second_level(fake.clone())
        .clock(clock.clone())
        .spawner(hand.clone())
        .build()
        .unwrap();
    for key in [1, 2] {
        cache.get_or_load(&key, seven).unwrap();
    }
    clock.advance(10 * SECOND);
    let stale = cache.get_many_or_load([1, 2], |_| Ok::<_, &str>([(1, 8), (2, 13)])).unwrap();
    assert_eq!(stale[&1], 7);
    hand.run();
    assert_eq!((cache.peek(&1), cache.peek(&2)), (Some(8), Some(7)), "one was stored, and the other panicked");
    assert!(fake.0.held.lock().unwrap().get(&1).is_none_or(|held| *held.value() == 8), "not the one before");
}

#[test]
fn s1_a_lookup_that_goes_past_the_cache_goes_past_the_second_level_too() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    for bound in [None, Some(MINUTE)] {
        let fake = Fake::with(1, Loaded::new(5));
        let cache = cache(&fake, &clock, &hand);
        let mut lookup = cache.lookup(&1).bypass();
        if let Some(bound) = bound {
            lookup = lookup.wait_at_most(bound);
        }
        let mut answer = Box::pin(lookup.load_async(|| async { 6_u64 }));
        let answer = match poll_once(answer.as_mut()) {
            Poll::Ready(answer) => answer,
            Poll::Pending => {
                hand.run();
                let Poll::Ready(answer) = poll_once(answer.as_mut()) else { panic!("it has run") };
                answer
            }
        };
        assert_eq!((answer.as_ref().unwrap().value, answer.unwrap().outcome), (6, Outcome::Bypass));
        assert_eq!(fake.asked(), ["put 1"]);
    }
}

#[test]
fn s1_r9_what_is_left_of_a_life_does_not_begin_anew() {
    let (clock, hand, fake) = (ManualClock::new(), Hand::default(), Fake::default());
    let node = cache(&fake, &clock, &hand);
    // Another node had loaded it seven seconds ago, to be fresh for ten.
    let rest = Lifetime::ttl(3 * SECOND).stale_while_revalidate(MINUTE);
    fake.0.held.lock().unwrap().insert(1, Loaded::new(7).lifetime(rest).token("v1"));
    assert_eq!(node.lookup(&1).load(|| 0_u64).unwrap().outcome, Outcome::SecondLevel);
    let load = |previous: Option<Previous<u64>>| match previous {
        Some(previous) => {
            assert_eq!(previous.token.as_deref(), Some("v1"));
            Load::NotModified
        }
        None => Loaded::new(7).token("v1").into(),
    };
    for after in [3 * SECOND, 10 * SECOND] {
        clock.advance(after);
        assert_eq!(node.lookup(&1).load_with(load).unwrap().outcome, Outcome::Stale);
        hand.run();
        clock.advance(9 * SECOND);
        assert_eq!(node.lookup(&1).load_with(load).unwrap().outcome, Outcome::Hit, "it lives for ten seconds again");
        let told = fake.0.held.lock().unwrap()[&1].traits().own_lifetime().unwrap();
        assert_eq!(told.time_to_live(), Some(10 * SECOND), "and so beneath");
        clock.advance(SECOND);
        assert_eq!(node.lookup(&1).load_with(load).unwrap().outcome, Outcome::Stale);
        hand.run();
    }
    assert_eq!((node.stats().refreshes.stored, node.stats().refreshes.not_modified), (1, 3));
}

#[test]
fn s1_t1_what_may_be_served_only_after_a_failure_comes_after_the_loader_also_from_beneath() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let over = Lifetime::ttl(Duration::ZERO);
    let load = |cache: &Cache<u32, u64>| {
        let answer = cache.lookup(&1).load(|| 8_u64).unwrap();
        (answer.value, answer.outcome)
    };
    let fake = Fake::with(1, Loaded::new(7).lifetime(over.stale_if_error(MINUTE)));
    assert_eq!(
        load(&cache(&fake, &clock, &hand)),
        (8, Outcome::Loaded),
        "it was served for as long as that window went"
    );
    let many = cache(&Fake::with(1, Loaded::new(7).lifetime(over.stale_if_error(MINUTE))), &clock, &hand);
    assert_eq!(many.get_many_or_load([1], |_| Ok::<_, &str>([(1, 8)])).unwrap()[&1], 8);
    let fake = Fake::with(1, Loaded::new(7).lifetime(over.stale_while_revalidate(MINUTE)));
    assert_eq!(load(&cache(&fake, &clock, &hand)), (7, Outcome::SecondLevel), "stale, and served at once");
}

#[test]
fn s1_a_bound_on_staleness_holds_also_for_what_is_beneath() {
    let (clock, hand, fake) = (ManualClock::new(), Hand::default(), Fake::default());
    let cache = cache(&fake, &clock, &hand);
    cache.get_or_load(&1, || 7_u64).unwrap();
    clock.advance(30 * SECOND);
    let rest = Lifetime::ttl(Duration::ZERO).stale_while_revalidate(40 * SECOND);
    fake.0.held.lock().unwrap().insert(1, Loaded::new(7).lifetime(rest));
    let answer = cache.lookup(&1).max_stale(5 * SECOND).load(|| 8_u64).unwrap();
    assert_eq!((answer.value, answer.outcome), (8, Outcome::Loaded), "it has been stale for 20 seconds there, too");
}

#[test]
fn s1_a_bound_on_staleness_holds_for_what_others_have_taken_from_beneath() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let rest = Lifetime::ttl(Duration::ZERO).stale_while_revalidate(40 * SECOND);
    let cache = cache(&Fake::with(1, Loaded::new(7).lifetime(rest)), &clock, &hand);
    let strict = || cache.lookup(&1).max_stale(5 * SECOND);
    assert_eq!(cache.lookup(&1).load(|| 8_u64).unwrap().outcome, Outcome::SecondLevel);
    assert_eq!(cache.peek(&1), Some(7));
    assert!(strict().peek().is_none(), "nobody knows for how long it has been stale");
    assert!(strict().load(|| Err::<u64, _>("down")).is_err());
    assert_eq!(strict().load(|| 8_u64).unwrap().value, 8);

    let fake = Fake::with(1, Loaded::new(7).lifetime(rest));
    let cache = self::cache(&fake, &clock, &hand);
    let mut first = Box::pin(cache.lookup(&1).load_timeout(MINUTE).load_async(|| async { 8_u64 }));
    assert!(poll_once(first.as_mut()).is_pending());
    let mut strict = Box::pin(cache.lookup(&1).max_stale(5 * SECOND).load_async(|| async { 9_u64 }));
    assert!(poll_once(strict.as_mut()).is_pending());
    hand.run();
    assert!(matches!(poll_once(first.as_mut()), Poll::Ready(Ok(answer)) if answer.value == 7));
    assert!(matches!(poll_once(strict.as_mut()), Poll::Ready(Ok(answer)) if answer.value == 9));
    assert_eq!(cache.peek(&1), Some(9));
}

#[test]
fn s1_r7_a_refresh_on_demand_asks_the_loader_also_where_only_the_second_level_has_the_key() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let rest = Lifetime::ttl(Duration::ZERO).stale_while_revalidate(MINUTE);
    let fake = Fake::with(1, Loaded::new(5).lifetime(Lifetime::ttl(3 * SECOND)));
    fake.0.held.lock().unwrap().extend([(2, Loaded::new(5)), (3, Loaded::new(5).lifetime(rest))]);
    let cache: Cache<u32, u64> = Cache::builder()
        .capacity(10)
        .loader(|_| 8_u64)
        .second_level(fake.clone())
        .clock(clock)
        .spawner(hand.clone())
        .build()
        .unwrap();
    let renewing = cache.refresh(&1);
    hand.run();
    assert_eq!((renewing.wait(), cache.peek(&1)), (Some(Ending::Stored), Some(8)));
    assert_eq!(fake.asked(), ["put 1"]);
    let mut warming = Box::pin(cache.warm_async([2, 3]));
    assert!(poll_once(warming.as_mut()).is_pending());
    hand.run();
    assert_eq!(poll_once(warming.as_mut()), Poll::Ready(2));
    assert_eq!((cache.peek(&2), cache.peek(&3)), (Some(5), Some(8)), "to warm, what is fresh there will do");
}

#[test]
fn a_clock_a_level_and_a_spawner_may_be_shared_or_chosen_at_run_time() {
    let (clock, hand, fake) = (ManualClock::new(), Hand::default(), Fake::default());
    let moves: Arc<dyn Clock> = Arc::new(clock.clone());
    let level: Arc<dyn SecondLevel<u32, u64>> = Arc::new(fake.clone());
    let spawner: Arc<dyn Spawn> = Arc::new(hand.clone());
    let build = || {
        let builder = Cache::<u32, u64>::builder().capacity(10).lifetime(Lifetime::ttl(MINUTE));
        builder
            .clock(Arc::clone(&moves))
            .second_level(Arc::clone(&level))
            .spawner(Arc::clone(&spawner))
            .build()
            .unwrap()
    };
    let cache = build();
    assert_eq!(cache.get_or_load(&1, || 7_u64).unwrap(), 7);
    assert_eq!(build().get_or_load(&1, || -> u64 { unreachable!("the level has it") }).unwrap(), 7);
    assert_eq!(fake.asked(), ["get 1", "put 1", "get 1"]);
    let told = |strike: &str| {
        hand.run();
        assert_eq!(fake.asked(), [strike]);
    };
    cache.invalidate(&1);
    told("remove 1");
    cache.invalidate_tag("t");
    told("remove tag t");
    cache.clear();
    told("clear");
    cache.insert(2, 8);
    clock.advance(MINUTE);
    assert_eq!(cache.get(&2), None);
}
