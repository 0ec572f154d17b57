//! What the other modules leave out: odd ends of flights, odd moments, odd places of user code.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use everfresh::{
    Cache, Cause, Ending, Event, Eviction, Lifetime, Load, LoadError, Loaded, ManualClock, Outcome, RefreshStatus,
    Traits,
};

use crate::kit::{Count, Gate, Hand, MINUTE, SECOND, poll_once, within_a_minute};
use crate::support::{Dropping, Log, Probe, Told, crowd, ends};

struct Bench {
    clock: ManualClock,
    hand: Hand,
    cache: Cache<u32, u64>,
}

fn bench(change: impl FnOnce(everfresh::Builder<u32, u64>) -> everfresh::Builder<u32, u64>) -> Bench {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let builder = Cache::builder()
        .capacity(10)
        .lifetime(Lifetime::ttl(10 * SECOND).stale_while_revalidate(100 * SECOND))
        .clock(clock.clone())
        .spawner(hand.clone());
    let cache = change(builder).build().unwrap();
    Bench { clock, hand, cache }
}

#[test]
fn l1_everybody_who_met_the_flight_of_a_key_shares_it_threads_and_tasks_of_two_runtimes() {
    within_a_minute(|| {
        let cache: Cache<u32, u64> = Cache::builder().capacity(10).build().unwrap();
        let (loads, compared, gate) = (Count::default(), Count::default(), Gate::default());
        let load = {
            let (loads, gate) = (loads.clone(), gate.clone());
            move || {
                loads.add();
                gate.pass();
                3_u64
            }
        };
        let threads = {
            let (cache, compared, load) = (cache.clone(), compared.clone(), load.clone());
            crowd(334, move |_| cache.get_or_load(&Probe(1, &compared), load.clone()).unwrap())
        };
        let runtimes = [true, false].map(|multi| {
            let (cache, compared, load) = (cache.clone(), compared.clone(), load.clone());
            std::thread::spawn(move || {
                let runtime = match multi {
                    true => tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap(),
                    false => tokio::runtime::Builder::new_current_thread().build().unwrap(),
                };
                runtime.block_on(async move {
                    let mut callers = tokio::task::JoinSet::new();
                    for _ in 0..333 {
                        let (cache, compared, load) = (cache.clone(), compared.clone(), load.clone());
                        callers.spawn(async move {
                            let probe = Probe(1, &compared);
                            let loader = move || async move { tokio::task::spawn_blocking(load).await.unwrap() };
                            cache.get_or_load_async(&probe, loader).await.unwrap()
                        });
                    }
                    callers.join_all().await
                })
            })
        });
        // Whoever compared the key with the flight's did so under the table's lock, and has joined.
        compared.reach(999);
        gate.open();
        let mut values = threads.join();
        values.extend(runtimes.into_iter().flat_map(|runtime| runtime.join().unwrap()));
        assert!(values.len() == 1_000 && values.iter().all(|value| *value == 3));
        let stats = cache.stats();
        assert_eq!((loads.get(), stats.loaded, stats.coalesced), (1, 1, 999));
    });
}

#[test]
fn l2_a_hundred_threads_that_wait_for_a_failing_loader_get_the_one_error_and_not_copies() {
    within_a_minute(|| {
        let cache: Cache<u32, u64> = Cache::builder().capacity(10).build().unwrap();
        let (loads, compared, gate) = (Count::default(), Count::default(), Gate::default());
        let callers = {
            let (cache, loads, compared, gate) = (cache.clone(), loads.clone(), compared.clone(), gate.clone());
            crowd(101, move |_| {
                let (loads, gate) = (loads.clone(), gate.clone());
                cache.get_or_load(&Probe(1, &compared), move || {
                    loads.add();
                    gate.pass();
                    Err::<u64, _>(String::from("bad"))
                })
            })
        };
        compared.reach(100);
        gate.open();
        let error = |result| match result {
            Err(LoadError::Load(error)) => error,
            other => panic!("{other:?}"),
        };
        let errors: Vec<Arc<String>> = callers.join().into_iter().map(error).collect();
        assert!(errors.iter().all(|error| Arc::ptr_eq(error, &errors[0])));
        assert_eq!((loads.get(), cache.stats().failed, cache.stats().loads.failed), (1, 101, 1));
    });
}

#[test]
fn l3_of_a_hundred_threads_whose_leader_panics_one_leads_next() {
    within_a_minute(|| {
        let cache: Cache<u32, u64> = Cache::builder().capacity(10).build().unwrap();
        let (loads, compared, gate) = (Count::default(), Count::default(), Gate::default());
        let callers = {
            let (cache, loads, compared, gate) = (cache.clone(), loads.clone(), compared.clone(), gate.clone());
            crowd(100, move |_| {
                let (loads, gate) = (loads.clone(), gate.clone());
                catch_unwind(AssertUnwindSafe(|| {
                    cache.get_or_load(&Probe(1, &compared), move || {
                        let first = loads.add() == 1;
                        gate.pass();
                        assert!(!first, "told to");
                        6_u64
                    })
                }))
            })
        };
        compared.reach(99);
        gate.open();
        let results = callers.join();
        assert_eq!(results.iter().filter(|result| result.is_err()).count(), 1, "only its own caller sees the panic");
        assert!(results.into_iter().flatten().all(|value| value.unwrap() == 6));
        let loads_ended = cache.stats().loads;
        assert_eq!((loads.get(), loads_ended.panicked, loads_ended.stored), (2, 1, 1));
    });
}

/// Panics when it is dropped, if it is told to.
struct Fragile(bool);

impl Drop for Fragile {
    fn drop(&mut self) {
        assert!(!self.0, "told to");
    }
}

#[test]
fn l3_a_drop_that_panics_while_a_load_lands_leaves_nobody_waiting() {
    let cache: Cache<u32, Arc<Fragile>> = Cache::builder().capacity(1).prompt_drop(true).build().unwrap();
    cache.insert(1, Arc::new(Fragile(true)));
    let gate = Arc::new(tokio::sync::Notify::new());
    let opened = Arc::clone(&gate);
    let mut leads = Box::pin(cache.get_or_load_async(&2, move || async move {
        opened.notified().await;
        Arc::new(Fragile(false))
    }));
    let mut waits = Box::pin(cache.get_or_load_async(&2, || async { Arc::new(Fragile(false)) }));
    assert!(poll_once(leads.as_mut()).is_pending() && poll_once(waits.as_mut()).is_pending());
    gate.notify_one();
    // What has to go for the new value panics.
    assert!(catch_unwind(AssertUnwindSafe(|| poll_once(leads.as_mut()).is_ready())).is_err());
    assert!(matches!(poll_once(waits.as_mut()), Poll::Ready(Ok(_))), "it still waits for who is gone");
}

#[test]
fn m4_a_drop_that_panics_while_room_is_given_back_ends_nothing() {
    for prompt in [true, false] {
        let clock = ManualClock::new();
        let cache: Cache<u32, Arc<Fragile>> = Cache::builder()
            .capacity(100)
            .prompt_drop(prompt)
            .lifetime(Lifetime::ttl(MINUTE))
            .clock(clock.clone())
            .build()
            .unwrap();
        let later = || (0..5).for_each(|_| clock.advance(MINUTE / 4));
        for round in 0..3 {
            let values: Vec<_> = (0..10).map(|key| Arc::new(Fragile(key == 5))).collect();
            let left: Vec<_> = values.iter().map(Arc::downgrade).collect();
            (0..).zip(values).for_each(|(key, value)| cache.insert(key, value));
            match round {
                0 | 1 => later(),
                _ => cache.clear(),
            }
            clock.advance(Duration::from_nanos(1));
            assert_eq!(cache.stats().entries, 0, "round {round}, prompt: {prompt}");
            assert!(left.iter().all(|value| value.strong_count() == 0), "round {round}, prompt: {prompt}");
        }
    }
}

#[test]
fn l3_a_stale_key_whose_foreground_load_went_away_can_be_refreshed_at_once() {
    for panics in [false, true] {
        let Bench { clock, hand, cache } = bench(|it| it.refresh_timeout(None).backoff(Duration::ZERO, Duration::ZERO));
        cache.insert(1, 1);
        clock.advance(10 * SECOND);
        let gate = Arc::new(tokio::sync::Notify::new());
        let opened = Arc::clone(&gate);
        let mut bypass = Box::pin(cache.lookup(&1).bypass().load_async(move || async move {
            opened.notified().await;
            assert!(!panics, "told to");
            2_u64
        }));
        assert!(poll_once(bypass.as_mut()).is_pending());
        let meanwhile = cache.lookup(&1).load(|| 3_u64).unwrap();
        assert_eq!((meanwhile.value, meanwhile.refresh), (1, RefreshStatus::AlreadyRunning));
        if panics {
            gate.notify_one();
            assert!(catch_unwind(AssertUnwindSafe(|| poll_once(bypass.as_mut()))).is_err());
        }
        drop(bypass);
        let after = cache.lookup(&1).load(|| 3_u64).unwrap();
        assert_eq!((after.value, after.refresh), (1, RefreshStatus::Started), "nobody loads it (panicked: {panics})");
        hand.run();
        assert_eq!(cache.get(&1), Some(3));
    }
}

#[test]
fn l4_a_bounded_load_whose_work_is_dropped_is_not_called_a_panic() {
    let cache: Cache<u32, u64> = Cache::builder().capacity(10).load_timeout(MINUTE).spawner(Dropping).build().unwrap();
    let error = cache.get_or_load(&1, || 1_u64).unwrap_err();
    assert!(!error.is_panic(), "nothing panicked: {error}");
    assert_eq!((cache.stats().loads.abandoned, cache.stats().loads.panicked), (1, 0));
}

#[test]
fn l4_a_load_is_not_given_up_for_a_refresh_of_its_key_that_hung_before() {
    let Bench { clock, hand, cache } = bench(|it| it.refresh_timeout(SECOND));
    cache.insert(1, 1);
    clock.advance(10 * SECOND);
    assert_eq!(cache.lookup(&1).load(|| 2_u64).unwrap().refresh, RefreshStatus::Started);
    // It strikes nothing, but what runs is not to be stored: the key is free to be loaded.
    cache.invalidate_matching(|_, _| false);
    let gate = Arc::new(tokio::sync::Notify::new());
    let opened = Arc::clone(&gate);
    let mut load = Box::pin(cache.lookup(&1).bypass().load_async(move || async move {
        opened.notified().await;
        3_u64
    }));
    assert!(poll_once(load.as_mut()).is_pending());
    clock.advance(2 * SECOND);
    let meanwhile = cache.lookup(&1).load(|| 4_u64).unwrap();
    assert_eq!((meanwhile.value, meanwhile.refresh), (1, RefreshStatus::BackingOff), "the refresh has hung");
    gate.notify_one();
    assert!(matches!(poll_once(load.as_mut()), Poll::Ready(Ok(answer)) if answer.value == 3));
    assert_eq!((cache.peek(&1), cache.stats().loads.timed_out), (Some(3), 0), "the load had no deadline");
    hand.run();
    assert_eq!(cache.peek(&1), Some(3));
}

#[test]
fn l8_a_loader_that_waits_for_a_refresh_of_its_own_key_does_not_hang() {
    within_a_minute(|| {
        let cache: Cache<u32, u64> = Cache::builder().capacity(10).build().unwrap();
        let inner = cache.clone();
        let value = cache.get_or_load(&1, move || {
            let refreshing = inner.refresh_with(&1, || 0_u64);
            assert_eq!(refreshing.status(), RefreshStatus::AlreadyRunning);
            assert_eq!(refreshing.wait(), None, "it cannot wait for itself");
            5_u64
        });
        assert_eq!(value.unwrap(), 5);
    });
}

/// A cache whose third value makes `place` panic.
fn panics_in(place: &'static str) -> Bench {
    bench(|it| match place {
        "store_if" => it.store_if(|value| {
            assert!(*value != 3, "told to");
            true
        }),
        _ => it,
    })
}

#[test]
fn r3_a_panic_of_store_if_in_a_refresh_is_a_failure_like_any_other() {
    let Bench { clock, hand, cache } = panics_in("store_if");
    cache.insert(1, 1);
    clock.advance(10 * SECOND);
    assert_eq!(cache.lookup(&1).load(|| 3_u64).unwrap().refresh, RefreshStatus::Started);
    hand.run();
    let answer = cache.lookup(&1).load(|| 2_u64).unwrap();
    assert_eq!((answer.value, answer.refresh), (1, RefreshStatus::BackingOff));
    assert_eq!((cache.stats().refreshes.panicked, ends(cache.stats().refreshes)), (1, 1));
    clock.advance(SECOND);
    assert_eq!(cache.lookup(&1).load(|| 2_u64).unwrap().refresh, RefreshStatus::Started);
    hand.run();
    assert_eq!(cache.get(&1), Some(2));
}

#[test]
fn r3_a_panic_of_the_weigher_in_a_refresh_is_a_failure_like_any_other() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let cache: Cache<u32, u64> = Cache::builder()
        .weight_capacity(10)
        .weigher(|_, value| if *value == 3 { panic!("told to") } else { 1 })
        .lifetime(Lifetime::ttl(10 * SECOND).stale_while_revalidate(100 * SECOND))
        .clock(clock.clone())
        .spawner(hand.clone())
        .build()
        .unwrap();
    cache.insert(1, 1);
    clock.advance(10 * SECOND);
    assert_eq!(cache.lookup(&1).load(|| 3_u64).unwrap().refresh, RefreshStatus::Started);
    hand.run();
    let answer = cache.lookup(&1).load(|| 2_u64).unwrap();
    assert_eq!((answer.value, answer.refresh), (1, RefreshStatus::BackingOff));
    assert_eq!((cache.stats().refreshes.panicked, ends(cache.stats().refreshes)), (1, 1));
    // In the foreground the panic is the caller's, and the load has an end, too.
    assert!(catch_unwind(AssertUnwindSafe(|| cache.get_or_load(&2, || 3_u64))).is_err());
    assert_eq!((cache.stats().loads.panicked, cache.get_or_load(&2, || 4_u64).unwrap()), (1, 4));
}

#[test]
fn r4_what_befalls_other_keys_or_the_new_value_alone_leaves_the_entry_free_to_be_refreshed() {
    type Befall = fn(&Cache<u32, u64>);
    let cases: [(&str, Befall, Loaded<u64>, RefreshStatus); 3] = [
        (
            "a predicate that strikes other keys",
            |cache| cache.invalidate_matching(|key, _| *key == 2),
            Loaded::new(5),
            RefreshStatus::Started,
        ),
        (
            "a tag of the new value alone",
            |cache| cache.invalidate_tag("new"),
            Loaded::new(5).tag("new"),
            RefreshStatus::Started,
        ),
        ("nothing, but it is too heavy", |_| {}, Loaded::new(5).weight(1_000), RefreshStatus::Started),
    ];
    for (name, befall, loaded, expected) in cases {
        let (clock, hand) = (ManualClock::new(), Hand::default());
        let cache: Cache<u32, u64> = Cache::builder()
            .weight_capacity(100)
            .lifetime(Lifetime::ttl(10 * SECOND).stale_while_revalidate(100 * SECOND))
            .refresh_timeout(None)
            .clock(clock.clone())
            .spawner(hand.clone())
            .build()
            .unwrap();
        cache.insert(1, 1);
        cache.insert(2, 2);
        clock.advance(10 * SECOND);
        assert_eq!(cache.lookup(&1).load(move || loaded).unwrap().refresh, RefreshStatus::Started);
        befall(&cache);
        hand.run();
        assert_eq!(ends(cache.stats().refreshes), 1, "{name}");
        if cache.contains(&1) {
            let answer = cache.lookup(&1).load(|| 7_u64).unwrap();
            assert_eq!((answer.value, answer.refresh), (1, expected), "{name}");
            hand.run();
            assert_eq!(cache.get(&1), Some(7), "{name}");
        } else {
            assert!(name.contains("heavy"), "{name}");
        }
    }
}

#[test]
fn r4_every_refresh_that_was_started_has_one_end_however_it_was_overtaken() {
    type Befall = fn(&Cache<u32, u64>);
    let befalls: [(&str, Befall); 8] = [
        ("insert", |cache| cache.insert(1, 9)),
        ("remove", |cache| assert!(cache.remove(&1).is_some())),
        ("invalidate", |cache| cache.invalidate(&1)),
        ("clear", |cache| cache.clear()),
        ("tag", |cache| cache.invalidate_tag("tag")),
        ("predicate", |cache| cache.invalidate_matching(|_, _| true)),
        ("expire", |cache| cache.expire(&1)),
        ("eviction", |cache| (10..30).for_each(|key| cache.insert(key, 0))),
    ];
    for (name, befall) in befalls {
        for how in ["well", "badly", "panicking", "too late", "dropped"] {
            let Bench { clock, hand, cache } = bench(|it| it.eviction(Eviction::Lru).refresh_timeout(5 * SECOND));
            cache.insert_with(1, 1, Traits::new().tag("tag"));
            clock.advance(10 * SECOND);
            let gate = Arc::new(tokio::sync::Notify::new());
            let opened = Arc::clone(&gate);
            let mut read = Box::pin(cache.lookup(&1).load_async(move || async move {
                opened.notified().await;
                match how {
                    "well" => Ok(2_u64),
                    "badly" => Err("bad"),
                    _ => panic!("told to"),
                }
            }));
            assert!(poll_once(read.as_mut()).is_ready());
            drop(read);
            hand.run();
            befall(&cache);
            match how {
                "too late" => clock.advance(5 * SECOND),
                "dropped" => hand.drop_all(),
                _ => gate.notify_one(),
            }
            hand.run();
            let stats = cache.stats();
            assert_eq!(
                (stats.refreshes_started, ends(stats.refreshes)),
                (1, 1),
                "{name}, {how}: {:?}",
                stats.refreshes
            );
            assert_eq!(cache.close(Duration::ZERO), 0, "{name}, {how}");
        }
    }
}

#[test]
fn r9_not_modified_about_a_value_that_went_meanwhile_still_reaches_who_waited() {
    type Befall = fn(&Cache<u32, u64>);
    let befalls: [(&str, Befall); 3] = [
        ("remove", |cache| assert!(cache.remove(&1).is_some())),
        ("clear", |cache| cache.clear()),
        ("eviction", |cache| (10..30).for_each(|key| cache.insert(key, 0))),
    ];
    for (name, befall) in befalls {
        let Bench { clock, cache, .. } = bench(|it| {
            it.eviction(Eviction::Lru).negative_ttl(MINUTE).lifetime(Lifetime::ttl(10 * SECOND).stale_if_error(MINUTE))
        });
        cache.insert(1, 1);
        clock.advance(20 * SECOND);
        let gate = Arc::new(tokio::sync::Notify::new());
        let opened = Arc::clone(&gate);
        let mut caller = Box::pin(cache.lookup(&1).load_async_with(move |previous| async move {
            assert!(previous.is_some());
            opened.notified().await;
            Load::<u64>::NotModified
        }));
        let mut waiter = Box::pin(cache.get_or_load_async(&1, || async { 3_u64 }));
        assert!(poll_once(caller.as_mut()).is_pending() && poll_once(waiter.as_mut()).is_pending());
        befall(&cache);
        gate.notify_one();
        let Poll::Ready(got) = poll_once(caller.as_mut()) else { panic!("it waits on") };
        assert_eq!(got.map(|answer| answer.value).ok(), Some(1), "{name}: its loader said that the value still holds");
        assert!(matches!(poll_once(waiter.as_mut()), Poll::Ready(Ok(1))), "{name}: and so it does for who waited");
        let why = cache.stats().not_stored;
        assert_eq!((why.overtaken, why.entry_gone), if name == "eviction" { (0, 1) } else { (1, 0) }, "{name}");
        assert_eq!(cache.peek(&1), None, "{name}: but it is not stored again");
        assert_eq!(cache.lookup(&1).load(|| 2_u64).unwrap().value, 2, "{name}: nor is its absence remembered");
    }
}

#[test]
fn r9_not_modified_is_about_the_value_that_was_shown_and_not_about_a_newer_one() {
    let Bench { clock, cache, .. } = bench(|it| it.lifetime(Lifetime::ttl(10 * SECOND).stale_if_error(MINUTE)));
    cache.insert(1, 1);
    clock.advance(20 * SECOND);
    let gate = Arc::new(tokio::sync::Notify::new());
    let opened = Arc::clone(&gate);
    let mut caller = Box::pin(cache.lookup(&1).load_async_with(move |previous| async move {
        assert_eq!(previous.map(|previous| previous.value), Some(1));
        opened.notified().await;
        Load::<u64>::NotModified
    }));
    assert!(poll_once(caller.as_mut()).is_pending());
    cache.insert(1, 2);
    gate.notify_one();
    let Poll::Ready(got) = poll_once(caller.as_mut()) else { panic!("it waits on") };
    assert_eq!(got.map(|answer| answer.value).ok(), Some(1), "nobody asked whether the newer one still holds");
    assert_eq!(cache.peek(&1), Some(2));
}

#[test]
fn m1_a_value_that_still_holds_but_became_too_heavy_leaves_and_is_told() {
    let heavy = Arc::new(AtomicU64::new(10));
    let weight = Arc::clone(&heavy);
    let clock = ManualClock::new();
    let builder = Cache::builder().weight_capacity(100).weigher(move |_, _| weight.load(Ordering::Relaxed));
    let lifetime = Lifetime::ttl(10 * SECOND).stale_if_error(MINUTE);
    let cache: Cache<u32, u64> = builder.lifetime(lifetime).clock(clock.clone()).build().unwrap();
    cache.insert(1, 1);
    clock.advance(20 * SECOND);
    heavy.store(101, Ordering::Relaxed);
    assert_eq!(cache.get_or_load(&1, || Load::<u64>::NotModified).unwrap(), 1, "the caller gets it");
    let stats = cache.stats();
    assert_eq!((stats.entries, stats.weight, stats.left.replaced), (0, 0, 1));
    assert_eq!((stats.not_stored.too_heavy, stats.loads.discarded, stats.loads.not_modified), (1, 1, 0));
}

#[test]
fn i1_an_insert_too_heavy_to_be_kept_takes_the_old_value_with_it() {
    let cache: Cache<u32, u64> = Cache::builder().weight_capacity(100).weigher(|_, value| *value).build().unwrap();
    let log = Log::of(&cache);
    cache.insert(1, 10);
    cache.insert(1, 101);
    assert_eq!(cache.get(&1), None, "10 is older than what was inserted after it");
    assert_eq!((cache.weight(), log.count(&Told::Left(Cause::Replaced))), (0, 1));
    cache.insert(1, 100);
    assert_eq!((cache.get(&1), cache.weight()), (Some(100), 100));
}

#[test]
fn i1_who_comes_after_an_invalidation_does_not_join_the_load_that_began_before() {
    type Befall = fn(&Cache<u32, u64>);
    let befalls: [(&str, Befall); 5] = [
        ("remove", |cache| assert_eq!(cache.remove(&1), None)),
        ("invalidate", |cache| cache.invalidate(&1)),
        ("clear", |cache| cache.clear()),
        ("tag", |cache| cache.invalidate_tag("tag")),
        ("predicate", |cache| cache.invalidate_matching(|_, _| true)),
    ];
    for (name, befall) in befalls {
        let Bench { cache, .. } = bench(|it| it);
        let gate = Arc::new(tokio::sync::Notify::new());
        let opened = Arc::clone(&gate);
        let mut before = Box::pin(cache.get_or_load_async(&1, move || async move {
            opened.notified().await;
            Loaded::new(1_u64).tag("tag")
        }));
        let mut waiter = Box::pin(cache.get_or_load_async(&1, || async { 0_u64 }));
        assert!(poll_once(before.as_mut()).is_pending() && poll_once(waiter.as_mut()).is_pending());
        befall(&cache);
        let mut after = Box::pin(cache.get_or_load_async(&1, || async { 2_u64 }));
        // A tag is known only when the value is there: then whoever came later starts over.
        let early = poll_once(after.as_mut());
        assert_eq!(early.is_ready(), name != "tag", "{name}");
        gate.notify_one();
        assert!(matches!(poll_once(before.as_mut()), Poll::Ready(Ok(1))), "{name}");
        assert!(matches!(poll_once(waiter.as_mut()), Poll::Ready(Ok(1))), "{name}: who waited before gets it");
        let late = if early.is_ready() { early } else { poll_once(after.as_mut()) };
        assert!(matches!(late, Poll::Ready(Ok(2))), "{name}");
        assert_eq!(cache.get(&1), Some(2), "{name}");
    }
}

#[test]
fn i2_invalidate_and_expire_by_key_tag_predicate_and_all() {
    type Strike = fn(&Cache<u32, u64>);
    // Key 1 bears tag a, 2 bears b, 3 both, 4 none. Which of them are struck, and are they gone or merely stale?
    let strikes: [(&str, Strike, [bool; 4], bool); 8] = [
        ("invalidate", |cache| cache.invalidate(&2), [false, true, false, false], true),
        ("invalidate_tag", |cache| cache.invalidate_tag("a"), [true, false, true, false], true),
        (
            "invalidate_matching",
            |cache| cache.invalidate_matching(|key, value| key + *value as u32 > 15),
            [false, false, false, true],
            true,
        ),
        ("clear", |cache| cache.clear(), [true; 4], true),
        ("expire", |cache| cache.expire(&2), [false, true, false, false], false),
        ("expire_tag", |cache| cache.expire_tag("b"), [false, true, true, false], false),
        ("expire_matching", |cache| cache.expire_matching(|key, _| key % 2 == 0), [false, true, false, true], false),
        ("expire_all", |cache| cache.expire_all(), [true; 4], false),
    ];
    for (name, strike, struck, gone) in strikes {
        for window in [false, true] {
            let lifetime = Lifetime::forever();
            let lifetime = if window { lifetime.stale_while_revalidate(MINUTE) } else { lifetime };
            let Bench { cache, hand, .. } = bench(|it| it.lifetime(lifetime));
            cache.insert_with(1, 1, Traits::new().tag("a"));
            cache.insert_with(2, 2, Traits::new().tag("b"));
            cache.insert_with(3, 3, Traits::new().tags(["a", "b"]));
            cache.insert(4, 12);
            strike(&cache);
            for (key, struck) in (1..5).zip(struck) {
                let old = if key == 4 { 12 } else { u64::from(key) };
                let answer = cache.lookup(&key).load(|| 99_u64).unwrap();
                let expected = match (struck, gone || !window) {
                    (false, _) => (old, Outcome::Hit, RefreshStatus::NotNeeded),
                    (true, true) => (99, Outcome::Loaded, RefreshStatus::NotNeeded),
                    (true, false) => (old, Outcome::Stale, RefreshStatus::Started),
                };
                assert_eq!(
                    (answer.value, answer.outcome, answer.refresh),
                    expected,
                    "{name}, key {key}, window {window}"
                );
            }
            hand.run();
            for (key, struck) in (1..5).zip(struck) {
                let answer = cache.lookup(&key).peek().unwrap();
                assert_eq!((answer.outcome, answer.value == 99), (Outcome::Hit, struck), "{name}, key {key}");
            }
        }
    }
}

#[test]
fn i2_a_value_that_still_holds_is_stale_if_it_was_expired_meanwhile() {
    let Bench { clock, hand, cache } = bench(|it| it);
    cache.insert(1, 1);
    clock.advance(10 * SECOND);
    let _ = cache.lookup(&1).load_with(|_| Load::<u64>::NotModified).unwrap();
    cache.expire(&1);
    hand.run();
    assert_eq!(cache.stats().refreshes.not_modified, 1);
    let after = cache.lookup(&1).peek().map(|answer| (answer.outcome, answer.age));
    assert_eq!(after, Some((Outcome::Stale, Duration::ZERO)));
}

#[test]
fn i3_who_comes_after_a_tag_was_struck_and_forgotten_is_not_given_what_bears_it() {
    let Bench { cache, .. } = bench(|it| it);
    let gate = Arc::new(tokio::sync::Notify::new());
    let opened = Arc::clone(&gate);
    let mut leads = Box::pin(cache.get_or_load_async(&1, move || async move {
        opened.notified().await;
        Loaded::new(1_u64).tag("tag 7")
    }));
    let mut before = Box::pin(cache.get_or_load_async(&1, || async { 3_u64 }));
    assert!(poll_once(leads.as_mut()).is_pending() && poll_once(before.as_mut()).is_pending());
    (0..1_000).for_each(|number| cache.invalidate_tag(&format!("tag {number}")));
    let mut waits = Box::pin(cache.get_or_load_async(&1, || async { 2_u64 }));
    assert!(poll_once(waits.as_mut()).is_pending());
    gate.notify_one();
    assert!(matches!(poll_once(leads.as_mut()), Poll::Ready(Ok(1))));
    assert!(matches!(poll_once(before.as_mut()), Poll::Ready(Ok(1))), "it came before the strike");
    assert!(matches!(poll_once(waits.as_mut()), Poll::Ready(Ok(2))), "it came after the strike");
}

#[test]
fn i3_what_is_made_after_a_strike_is_not_touched_by_it() {
    let Bench { cache, .. } = bench(|it| it);
    for _ in 0..300 {
        cache.invalidate_tag("tag");
        cache.clear();
        cache.insert_with(1, 1, Traits::new().tag("tag"));
        assert_eq!(cache.get(&1), Some(1));
        cache.expire_tag("tag");
        assert_eq!(cache.lookup(&1).peek().unwrap().outcome, Outcome::Stale);
        cache.insert_with(1, 2, Traits::new().tag("tag"));
        assert_eq!(cache.lookup(&1).peek().unwrap().outcome, Outcome::Hit);
    }
}

#[test]
fn i3_a_cleared_cache_is_empty_also_to_those_who_watch_it_being_swept() {
    within_a_minute(|| {
        let cache: Cache<u32, u64> = Cache::builder().capacity(1_000).build().unwrap();
        (0..1_000).for_each(|key| cache.insert(key, 1));
        let (seen, gone) = (Arc::new(Mutex::new(Vec::new())), Count::default());
        let (lens, left, watched) = (Arc::clone(&seen), gone.clone(), cache.clone());
        cache
            .subscribe(move |event: &Event<'_, u32, u64>| {
                if let Event::Left { .. } = event {
                    lens.lock().unwrap().push(watched.len());
                    left.add();
                }
            })
            .forever();
        cache.clear();
        assert_eq!((cache.len(), cache.is_empty(), cache.stats().entries), (0, true, 0));
        gone.reach(1_000);
        let seen = seen.lock().unwrap();
        assert!(seen.iter().all(|len| *len == 0), "as many as {:?} while it was swept", seen.iter().max());
    });
}

#[test]
fn t2_reading_many_at_once_is_a_read_too() {
    let Bench { clock, cache, .. } = bench(|it| it.lifetime(Lifetime::forever().time_to_idle(10 * SECOND)));
    cache.insert(1, 1);
    for _ in 0..3 {
        clock.advance(9 * SECOND);
        let found = cache.get_many_or_load([1], |_| Ok::<[(u32, u64); 0], &str>([])).unwrap();
        assert_eq!(found.get(&1), Some(&1));
    }
}

#[test]
fn r1_a_stale_hit_runs_no_code_of_the_user_but_clone() {
    static CLONES: Count2 = Count2::new();
    struct Value(u64);
    impl Clone for Value {
        fn clone(&self) -> Value {
            CLONES.add();
            Value(self.0)
        }
    }
    let other = Arc::new(AtomicBool::new(false));
    let (by_weigher, by_store_if) = (Arc::clone(&other), Arc::clone(&other));
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let cache: Cache<u32, Value> = Cache::builder()
        .weight_capacity(10)
        .weigher(move |_, _| {
            by_weigher.store(true, Ordering::SeqCst);
            1
        })
        .store_if(move |_| {
            by_store_if.store(true, Ordering::SeqCst);
            true
        })
        .lifetime(Lifetime::ttl(SECOND).stale_while_revalidate(MINUTE))
        .clock(clock.clone())
        .spawner(hand.clone())
        .build()
        .unwrap();
    cache.insert(1, Value(1));
    clock.advance(SECOND);
    other.store(false, Ordering::SeqCst);
    CLONES.reset();
    let loaded = Arc::clone(&other);
    let answer = cache.lookup(&1).load(move || {
        loaded.store(true, Ordering::SeqCst);
        Value(2)
    });
    let answer = answer.unwrap();
    assert_eq!((answer.value.0, answer.refresh), (1, RefreshStatus::Started));
    assert!(!other.load(Ordering::SeqCst), "not the loader, the weigher, nor store_if");
    assert_eq!(CLONES.get(), 1);
    hand.run();
    assert!(other.load(Ordering::SeqCst));
}

/// A count that can be a static.
struct Count2(std::sync::atomic::AtomicUsize);

impl Count2 {
    const fn new() -> Count2 {
        Count2(std::sync::atomic::AtomicUsize::new(0))
    }
    fn add(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
    fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
    fn reset(&self) {
        self.0.store(0, Ordering::SeqCst);
    }
}

#[test]
fn r8_after_close_lookups_go_on_and_nothing_is_started_behind() {
    let Bench { clock, hand, cache } = bench(|it| it);
    let log = Log::of(&cache);
    cache.insert(1, 1);
    clock.advance(10 * SECOND);
    assert_eq!(cache.close(MINUTE), 0);
    let answer = cache.lookup(&1).load(|| 2_u64).unwrap();
    assert_eq!((answer.value, answer.outcome, answer.refresh), (1, Outcome::Stale, RefreshStatus::Unavailable));
    assert_eq!(cache.refresh_with(&2, || 2_u64).status(), RefreshStatus::Unavailable);
    assert_eq!(cache.get_many_or_load([1], |_| Ok::<[(u32, u64); 0], &str>([])).unwrap().len(), 1);
    assert_eq!(hand.asked(), 0);
    assert_eq!(cache.get_or_load(&3, || 3_u64).unwrap(), 3, "a load in the foreground goes on");
    assert_eq!((log.count(&Told::Load(Ending::Stored)), log.count(&Told::RefreshStarted)), (1, 0));
    assert_eq!(log.count(&Told::Unavailable), 0, "closing is no lack of workers");
    assert!(log.all().len() >= 4);
}

#[test]
fn r4_a_panic_after_a_refresh_that_was_overtaken_sets_no_pause() {
    let Bench { clock, hand, cache } = bench(|it| {
        it.backoff(60 * MINUTE, 60 * MINUTE).store_if(|value| {
            assert!(*value != 3, "told to");
            true
        })
    });
    cache.insert(1, 1);
    clock.advance(10 * SECOND);
    assert_eq!(cache.lookup(&1).load(|| 3_u64).unwrap().refresh, RefreshStatus::Started);
    cache.insert(1, 50);
    hand.run();
    clock.advance(10 * SECOND);
    let answer = cache.lookup(&1).load(|| 2_u64).unwrap();
    assert_eq!((answer.value, answer.refresh), (50, RefreshStatus::Started), "it was not what was to be renewed");
}

#[test]
fn r3_a_refresh_whose_value_store_if_rejects_leaves_the_key_alone_for_a_while() {
    let Bench { clock, hand, cache } = bench(|it| it.store_if(|value| *value != 13));
    cache.insert(1, 1);
    clock.advance(10 * SECOND);
    assert_eq!(cache.lookup(&1).load(|| 13_u64).unwrap().refresh, RefreshStatus::Started);
    hand.run();
    let answer = cache.lookup(&1).load(|| 2_u64).unwrap();
    assert_eq!((answer.value, answer.refresh), (1, RefreshStatus::BackingOff));
}

#[test]
fn t5_what_a_loader_brings_and_nobody_may_serve_is_not_stored_and_told() {
    let Bench { cache, .. } = bench(|it| it);
    let log = Log::of(&cache);
    let stale_from_birth = || Loaded::new(1_u64).lifetime(Lifetime::ttl(Duration::ZERO));
    assert_eq!(cache.get_or_load(&1, stale_from_birth).unwrap(), 1, "the caller gets it");
    assert_eq!((cache.stats().entries, cache.stats().not_stored.not_servable), (0, 1));
    assert_eq!(log.count(&Told::Load(Ending::Discarded(everfresh::NotStored::NotServable))), 1);
}

#[test]
fn l1_a_miss_that_adopts_the_refresh_of_an_evicted_entry_has_its_result_stored() {
    for adopted in [false, true] {
        let Bench { clock, hand, cache } = bench(|it| it.eviction(Eviction::Lru));
        cache.insert(1, 1);
        clock.advance(10 * SECOND);
        assert_eq!(cache.get_or_load(&1, || 2_u64).unwrap(), 1);
        (10..30).for_each(|key| cache.insert(key, 0));
        let mut miss = Box::pin(cache.get_or_load_async(&1, || async { 3_u64 }));
        if adopted {
            assert!(poll_once(miss.as_mut()).is_pending());
        }
        hand.run();
        assert_eq!(cache.peek(&1), adopted.then_some(2), "adopted: {adopted}");
    }
}

#[test]
fn i1_what_was_struck_while_it_was_loaded_takes_no_room_and_is_told_to_be_overtaken() {
    type Strike = fn(&Cache<u32, u64>);
    let strikes: [(&str, Strike); 2] = [("clear", |cache| cache.clear()), ("tag", |cache| cache.invalidate_tag("tag"))];
    for (name, strike) in strikes {
        let Bench { cache, .. } = bench(|it| it);
        let inner = cache.clone();
        let load = move || {
            strike(&inner);
            Loaded::new(1_u64).tag("tag")
        };
        assert_eq!(cache.get_or_load(&1, load).unwrap(), 1);
        let stats = cache.stats();
        assert_eq!((stats.weight, stats.loads.stored, stats.not_stored.overtaken), (0, 0, 1), "{name}");
    }
}

#[test]
fn r4_a_tag_of_the_entry_that_is_struck_discards_its_refresh_though_the_new_value_does_not_bear_it() {
    let Bench { clock, hand, cache } = bench(|it| it);
    cache.insert_with(1, 1, Traits::new().tag("tag"));
    clock.advance(10 * SECOND);
    assert_eq!(cache.lookup(&1).load(|| 2_u64).unwrap().refresh, RefreshStatus::Started);
    cache.invalidate_tag("tag");
    hand.run();
    assert_eq!((cache.peek(&1), cache.stats().refreshes.discarded), (None, 1));
}

#[test]
fn i1_an_absence_that_was_overtaken_takes_nothing_newer_away() {
    let Bench { cache, .. } = bench(|it| it.negative_ttl(MINUTE));
    cache.insert(1, 1);
    let inner = cache.clone();
    let load = move || {
        inner.insert(1, 2);
        None::<u64>
    };
    assert!(cache.lookup(&1).bypass().load(load).unwrap_err().is_absent());
    assert_eq!((cache.get(&1), cache.stats().loads.discarded), (Some(2), 1));
}

#[test]
fn l7_an_error_is_remembered_beside_a_value_that_has_expired_and_is_not_yet_reclaimed() {
    let Bench { clock, cache, .. } = bench(|it| it.lifetime(Lifetime::ttl(10 * SECOND)).negative_ttl(MINUTE));
    cache.insert(1, 1);
    // Room is given back every two and a half seconds, or when the clock is moved.
    clock.advance(9 * SECOND);
    clock.advance(SECOND);
    assert!(cache.stats().entries == 1 && cache.get_or_load(&1, || Err::<u64, _>("bad")).is_err());
    assert!(cache.get_or_load(&1, || 2_u64).is_err());
    assert_eq!(cache.stats().negative, 1);
}

#[test]
fn m4_a_remembered_absence_is_reclaimed_though_nobody_touches_it() {
    let clock = ManualClock::new();
    let cache: Cache<Arc<u32>, u64> =
        Cache::builder().capacity(10).negative_ttl(MINUTE).clock(clock.clone()).build().unwrap();
    let key = Arc::new(1);
    assert!(cache.get_or_load(&key, || None::<u64>).is_err());
    assert_eq!(Arc::strong_count(&key), 2, "it is remembered");
    (0..20).for_each(|_| clock.advance(MINUTE / 10));
    assert_eq!(Arc::strong_count(&key), 1);
}

#[test]
fn i1_what_still_holds_is_not_stored_if_it_is_struck_or_pushed_out_while_it_is_weighed() {
    type Befall = fn(&Cache<u32, u64>);
    let befalls: [(&str, Befall); 3] = [
        ("clear", |cache| cache.clear()),
        ("insert", |cache| cache.insert_with(1, 2, Traits::new().weight(1))),
        ("eviction", |cache| cache.insert_with(2, 2, Traits::new().weight(10))),
    ];
    for (name, befall) in befalls {
        let befalls_now = Arc::new(Mutex::new(None::<Cache<u32, u64>>));
        let told = Arc::clone(&befalls_now);
        let clock = ManualClock::new();
        let cache: Cache<u32, u64> = Cache::builder()
            .weight_capacity(10)
            .eviction(Eviction::Lru)
            .weigher(move |_, _| {
                let cache = told.lock().unwrap().take();
                cache.iter().for_each(befall);
                1
            })
            .lifetime(Lifetime::ttl(10 * SECOND).stale_if_error(MINUTE))
            .clock(clock.clone())
            .build()
            .unwrap();
        cache.insert(1, 1);
        clock.advance(10 * SECOND);
        *befalls_now.lock().unwrap() = Some(cache.clone());
        assert_eq!(cache.get_or_load(&1, || Load::<u64>::NotModified).unwrap(), 1, "{name}: the caller gets it");
        assert_eq!(cache.peek(&1), (name == "insert").then_some(2), "{name}");
        let stats = cache.stats();
        assert_eq!((stats.loads.not_modified, stats.loads.discarded), (0, 1), "{name}");
        assert_eq!(
            (stats.not_stored.overtaken, stats.not_stored.entry_gone),
            if name == "eviction" { (0, 1) } else { (1, 0) }
        );
    }
}

#[test]
fn r3_a_drop_that_panics_after_a_refresh_has_ended_is_no_second_end() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let cache: Cache<u32, Arc<Fragile>> = Cache::builder()
        .capacity(10)
        .store_if(|value: &Arc<Fragile>| !value.0)
        .lifetime(Lifetime::ttl(10 * SECOND).stale_while_revalidate(MINUTE))
        .clock(clock.clone())
        .spawner(hand.clone())
        .build()
        .unwrap();
    cache.insert(1, Arc::new(Fragile(false)));
    clock.advance(10 * SECOND);
    // It is rejected, and nobody else holds it.
    assert!(cache.get_or_load(&1, || Arc::new(Fragile(true))).is_ok());
    hand.run();
    let refreshes = cache.stats().refreshes;
    assert_eq!((refreshes.discarded, ends(refreshes)), (1, 1));
}
