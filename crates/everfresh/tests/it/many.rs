//! Many keys in one lookup: one call of the loader for all that is missing, one behind for all that is stale.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use everfresh::{Cache, Lifetime, LoadError, ManualClock, RefreshStatus};

use crate::kit::{Count, Gate, Hand, MINUTE, SECOND, poll_once, within_a_minute};
use crate::support::{Log, Told, ends};

/// What the loader was asked for, call by call.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<Vec<u32>>>>);

impl Asked {
    fn note(&self, keys: &[u32]) {
        let mut keys = keys.to_vec();
        keys.sort_unstable();
        self.0.lock().unwrap().push(keys);
    }

    fn take(&self) -> Vec<Vec<u32>> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn cache(clock: &ManualClock, hand: &Hand) -> Cache<u32, u64> {
    Cache::builder()
        .capacity(100)
        .lifetime(Lifetime::ttl(10 * SECOND).stale_while_revalidate(10 * SECOND).stale_if_error(MINUTE))
        .clock(clock.clone())
        .spawner(hand.clone())
        .build()
        .unwrap()
}

type Values = Vec<(u32, u64)>;

/// A loader that answers ten times the key and notes what it was asked for.
fn tenfold(asked: &Asked) -> impl Fn(Vec<u32>) -> Result<Values, &'static str> + Send + Sync + 'static + use<> {
    let asked = asked.clone();
    move |keys| {
        asked.note(&keys);
        Ok(keys.into_iter().map(|key| (key, u64::from(key) * 10)).collect())
    }
}

fn sorted(found: HashMap<u32, u64>) -> Values {
    let mut found: Values = found.into_iter().collect();
    found.sort_unstable();
    found
}

#[test]
fn l1_all_that_is_missing_is_asked_for_in_one_call() {
    let (clock, hand, asked) = (ManualClock::new(), Hand::default(), Asked::default());
    let cache = cache(&clock, &hand);
    cache.insert(2, 99);
    let found = cache.get_many_or_load([1, 2, 3, 1, 2], tenfold(&asked)).unwrap();
    assert_eq!(sorted(found), [(1, 10), (2, 99), (3, 30)]);
    assert_eq!(asked.take(), [vec![1, 3]]);
    let again = cache.get_many_or_load([1, 2, 3], tenfold(&asked)).unwrap();
    assert_eq!((again.len(), asked.take().len()), (3, 0));
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.loaded, stats.lookups(), ends(stats.loads)), (4, 2, 6, 2));
    assert!(cache.get_many_or_load([], tenfold(&asked)).unwrap().is_empty());
    assert!(asked.take().is_empty(), "nothing is no reason to call");
}

#[test]
fn what_the_loader_does_not_return_is_absent_and_what_it_returns_beyond_is_left_aside() {
    let cache: Cache<u32, u64> = Cache::builder().capacity(100).build().unwrap();
    let found = cache.get_many_or_load([1, 2], |_| Ok::<_, &str>([(1, 10), (7, 70)])).unwrap();
    assert_eq!(sorted(found), [(1, 10)]);
    assert_eq!((cache.peek(&2), cache.peek(&7), cache.len()), (None, None, 1));
    assert_eq!((cache.stats().loaded, cache.stats().failed, cache.stats().loads.absent), (1, 1, 1));
}

#[test]
fn r1_all_that_is_stale_comes_at_once_and_is_refreshed_in_one_call_behind() {
    let (clock, hand, asked) = (ManualClock::new(), Hand::default(), Asked::default());
    let cache = cache(&clock, &hand);
    let log = Log::of(&cache);
    (1..=3).for_each(|key| cache.insert(key, 1));
    clock.advance(10 * SECOND);
    cache.insert(3, 1);
    let found = cache.get_many_or_load([1, 2, 3, 4], tenfold(&asked)).unwrap();
    assert_eq!(sorted(found), [(1, 1), (2, 1), (3, 1), (4, 40)]);
    assert_eq!(asked.take(), [vec![4]]);
    assert_eq!((hand.asked(), log.count(&Told::RefreshStarted)), (1, 2));
    let again = cache.get_many_or_load([1, 2], tenfold(&asked)).unwrap();
    assert_eq!((again.len(), hand.asked()), (2, 1), "they are being refreshed already");
    hand.run();
    assert_eq!(asked.take(), [vec![1, 2]]);
    assert_eq!((cache.get(&1), cache.get(&2)), (Some(10), Some(20)));
    let stats = cache.stats();
    assert_eq!((stats.refreshes_started, stats.refreshes.stored, stats.refreshes_skipped.already_running), (2, 2, 2));
}

#[test]
fn r3_a_failing_call_behind_keeps_the_old_values_and_backs_off_for_each() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let cache = cache(&clock, &hand);
    (1..=2).for_each(|key| cache.insert(key, 1));
    clock.advance(10 * SECOND);
    for panics in [false, true] {
        let found = cache.get_many_or_load([1, 2], move |_| {
            assert!(!panics, "told to");
            Err::<Values, _>("bad")
        });
        assert_eq!(found.unwrap().len(), 2);
        hand.run();
        for key in [1, 2] {
            let answer = cache.lookup(&key).load(|| 0_u64).unwrap();
            assert_eq!((answer.value, answer.refresh), (1, RefreshStatus::BackingOff));
        }
        clock.advance(3 * SECOND);
    }
    assert_eq!((cache.stats().refreshes.failed, cache.stats().refreshes.panicked), (2, 2));
}

#[test]
fn r2_a_full_pool_and_a_spawner_that_refuses_are_no_reason_to_wait() {
    let (clock, hand, asked) = (ManualClock::new(), Hand::default(), Asked::default());
    let cache: Cache<u32, u64> = Cache::builder()
        .capacity(100)
        .lifetime(Lifetime::ttl(10 * SECOND).stale_while_revalidate(MINUTE))
        .max_refreshes(1)
        .clock(clock.clone())
        .spawner(hand.clone())
        .build()
        .unwrap();
    (1..=3).for_each(|key| cache.insert(key, 1));
    clock.advance(10 * SECOND);
    assert_eq!(cache.lookup(&3).load(|| 2_u64).unwrap().refresh, RefreshStatus::Started);
    assert_eq!(cache.get_many_or_load([1, 2], tenfold(&asked)).unwrap().len(), 2);
    assert_eq!(cache.stats().refreshes_skipped.saturated, 2);
    hand.run();
    hand.refuse(true);
    assert_eq!(cache.get_many_or_load([1, 2], tenfold(&asked)).unwrap().len(), 2);
    hand.refuse(false);
    assert_eq!(cache.lookup(&1).load(|| 0_u64).unwrap().refresh, RefreshStatus::Unavailable, "a pause of five seconds");
    clock.advance(5 * SECOND);
    assert_eq!(cache.get_many_or_load([1, 2], tenfold(&asked)).unwrap().len(), 2);
    hand.run();
    assert_eq!((cache.get(&1), cache.get(&2)), (Some(10), Some(20)), "one place in the pool is enough for all");
}

#[test]
fn l4_a_call_behind_that_hangs_past_its_deadline_frees_its_keys() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let cache = {
        let builder = Cache::builder().capacity(100).refresh_timeout(5 * SECOND);
        builder
            .lifetime(Lifetime::ttl(10 * SECOND).stale_while_revalidate(MINUTE))
            .clock(clock.clone())
            .spawner(hand.clone())
            .build()
            .unwrap()
    };
    (1..=2).for_each(|key: u32| cache.insert(key, 1_u64));
    clock.advance(10 * SECOND);
    let mut reading =
        Box::pin(cache.get_many_or_load_async([1, 2], |_| std::future::pending::<Result<Values, &str>>()));
    assert!(matches!(poll_once(reading.as_mut()), Poll::Ready(Ok(found)) if found.len() == 2));
    hand.run();
    clock.advance(5 * SECOND);
    hand.run();
    assert_eq!((hand.waiting(), cache.stats().refreshes.timed_out), (0, 2));
    clock.advance(2 * SECOND);
    assert_eq!(cache.lookup(&1).load(|| 5_u64).unwrap().refresh, RefreshStatus::Started);
}

#[test]
fn r4_a_call_behind_that_was_overtaken_is_counted_as_discarded_however_it_ends() {
    for hangs in [false, true] {
        let (clock, hand) = (ManualClock::new(), Hand::default());
        let cache = cache(&clock, &hand);
        (1..=2).for_each(|key| cache.insert(key, 1));
        clock.advance(10 * SECOND);
        let mut reading = Box::pin(cache.get_many_or_load_async([1, 2], move |keys: Vec<u32>| async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            Ok::<Values, &str>(keys.into_iter().map(|key| (key, 2)).collect())
        }));
        assert!(poll_once(reading.as_mut()).is_ready());
        drop(reading);
        cache.insert(1, 7);
        hand.run();
        clock.advance(31 * SECOND);
        hand.run();
        let refreshes = cache.stats().refreshes;
        assert_eq!(ends(refreshes), 2, "each that was started has one end: {refreshes:?} (hangs: {hangs})");
        assert_eq!(refreshes.discarded, 1);
    }
}

#[test]
fn l2_a_failing_call_gives_its_error_and_what_can_be_served_instead() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let cache = cache(&clock, &hand);
    cache.insert(1, 1);
    clock.advance(30 * SECOND);
    let found = cache.get_many_or_load([1], |_| Err::<Values, _>("bad")).unwrap();
    assert_eq!(found[&1], 1, "within the error window");
    let error = cache.get_many_or_load([1, 2], |_| Err::<Values, _>("bad")).unwrap_err();
    assert_eq!(error.load_error(), Some(&"bad"));
    assert_eq!(cache.stats().fallback, 2);
    cache.insert(3, 3);
    assert!(cache.get_many_or_load([3, 4], |_| Err::<Values, _>("bad")).is_err());
    assert_eq!(cache.get(&3), Some(3));
}

#[test]
fn l1_keys_that_somebody_else_loads_are_waited_for() {
    within_a_minute(|| {
        let cache: Cache<u32, u64> = Cache::builder().capacity(100).build().unwrap();
        let (gate, began, asked) = (Gate::default(), Count::default(), Asked::default());
        let leader = {
            let (cache, gate, began) = (cache.clone(), gate.clone(), began.clone());
            std::thread::spawn(move || {
                cache.get_or_load(&1, move || {
                    began.add();
                    gate.pass();
                    5_u64
                })
            })
        };
        began.reach(1);
        let many = {
            let (cache, asked, gate) = (cache.clone(), asked.clone(), gate.clone());
            std::thread::spawn(move || {
                let tenfold = tenfold(&asked);
                cache.get_many_or_load([1, 2], move |keys| {
                    gate.open();
                    tenfold(keys)
                })
            })
        };
        assert_eq!(sorted(many.join().unwrap().unwrap()), [(1, 5), (2, 20)]);
        assert_eq!(asked.take(), [vec![2]]);
        assert_eq!(leader.join().unwrap().unwrap(), 5);
        assert_eq!(cache.stats().coalesced, 1);
    });
}

#[test]
fn l1_two_calls_for_overlapping_keys_do_not_wait_for_each_other_in_a_circle() {
    within_a_minute(|| {
        for _ in 0..50 {
            let cache: Cache<u32, u64> = Cache::builder().capacity(100).build().unwrap();
            let loads = Count::default();
            let threads: Vec<_> = [[1, 2, 3, 4], [4, 3, 2, 1], [3, 1, 4, 2]]
                .map(|keys| {
                    let (cache, loads) = (cache.clone(), loads.clone());
                    std::thread::spawn(move || {
                        cache
                            .get_many_or_load(keys, move |keys| {
                                keys.iter().for_each(|_| {
                                    loads.add();
                                });
                                Ok::<Values, &str>(keys.into_iter().map(|key| (key, u64::from(key))).collect())
                            })
                            .unwrap()
                    })
                })
                .into_iter()
                .collect();
            for thread in threads {
                assert_eq!(sorted(thread.join().unwrap()), [(1, 1), (2, 2), (3, 3), (4, 4)]);
            }
            assert_eq!(loads.get(), 4, "each key once");
        }
    });
}

#[test]
fn i1_what_was_invalidated_while_many_were_loaded_is_not_stored() {
    let cache: Cache<u32, u64> = Cache::builder().capacity(100).build().unwrap();
    let inner = cache.clone();
    let found = cache.get_many_or_load([1, 2], move |keys| {
        inner.invalidate(&1);
        Ok::<Values, &str>(keys.into_iter().map(|key| (key, 5)).collect())
    });
    assert_eq!(sorted(found.unwrap()), [(1, 5), (2, 5)], "who waited gets it");
    assert_eq!((cache.get(&1), cache.get(&2)), (None, Some(5)));
}

#[tokio::test]
async fn many_in_a_task() {
    let cache: Cache<u32, u64> = Cache::builder().capacity(100).build().unwrap();
    let found = cache
        .get_many_or_load_async(0..50, |keys: Vec<u32>| async move {
            tokio::task::yield_now().await;
            Ok::<_, &str>(keys.into_iter().map(|key| (key, u64::from(key))))
        })
        .await
        .unwrap();
    assert_eq!(found.len(), 50);
    let error = cache.get_many_or_load_async([1, 60], |_| async { Err::<Values, _>("bad") }).await.unwrap_err();
    assert!(matches!(error, LoadError::Load(error) if *error == "bad"));
    assert_eq!(cache.stats().lookups(), 52);
}

#[test]
fn l7_store_if_weights_and_bounds_hold_for_many() {
    let cache: Cache<u32, u64> = Cache::builder()
        .weight_capacity(100)
        .weigher(|_, value| *value)
        .store_if(|value| *value != 13)
        .build()
        .unwrap();
    let found = cache.get_many_or_load([1, 2, 3], |_| Ok::<_, &str>([(1, 13), (2, 101), (3, 50)])).unwrap();
    assert_eq!(found.len(), 3, "all reach their caller");
    assert_eq!((cache.peek(&1), cache.peek(&2), cache.peek(&3)), (None, None, Some(50)));
    assert_eq!((cache.stats().not_stored.rejected, cache.stats().not_stored.too_heavy), (1, 1));
}
