//! Odd ends of loads: whose leader panics, goes away or hangs, and who waits for them.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use everfresh::{Cache, Cause, Ending, Event, Eviction, Lifetime, LoadError, ManualClock, RefreshStatus, Traits};

use crate::kit::{Count, Gate, Hand, MINUTE, SECOND, poll_once, within_a_minute};
use crate::support::{Bench, Dropping, Fragile, Probe, bench, crowd};

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
fn m4_a_drop_that_panics_while_an_entry_is_looked_at_ends_nothing() {
    for prompt in [true, false] {
        let clock = ManualClock::new();
        let cache: Cache<u32, Arc<Fragile>> = Cache::builder()
            .capacity(100)
            .prompt_drop(prompt)
            .lifetime(Lifetime::forever().time_to_idle(10 * SECOND))
            .clock(clock.clone())
            .build()
            .unwrap();
        // While the entries of a bucket are looked at, the listener takes out one that is looked at later.
        let inside = cache.clone();
        cache
            .subscribe(move |event| {
                if let Event::Left { key: 1, cause: Cause::Expired, .. } = event {
                    inside.invalidate(&3);
                }
            })
            .forever();
        (1..5).for_each(|key| cache.insert(key, Arc::new(Fragile(key == 3))));
        clock.advance(6 * SECOND);
        for key in 2..5 {
            assert!(cache.contains(&key), "the others are over later");
            drop(cache.get(&key));
        }
        clock.advance(5 * SECOND);
        (100..110).for_each(|key| cache.insert(key, Arc::new(Fragile(false))));
        (0..60).for_each(|_| clock.advance(SECOND));
        assert_eq!(cache.stats().entries, 0, "prompt: {prompt}");
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
fn l6_who_has_lost_the_old_value_at_the_soft_timeout_waits_on_as_if_there_had_been_none() {
    type Loss = fn(&Cache<u32, u64>, &ManualClock);
    let losses: [(&str, Loss); 3] = [
        ("invalidated", |cache, _| cache.invalidate_tag("tag")),
        ("removed", |cache, _| cache.invalidate_matching(|_, _| true)),
        ("too old", |_, clock| clock.advance(MINUTE)),
    ];
    for (name, lose) in losses {
        for (bound, ends) in [(None, "never"), (Some(10 * MINUTE), "in ten minutes")] {
            let (clock, hand) = (ManualClock::new(), Hand::default());
            let mut builder = Cache::<u32, u64>::builder().capacity(10).soft_timeout(MINUTE);
            if let Some(bound) = bound {
                builder = builder.wait_at_most(bound);
            }
            let cache = builder
                .lifetime(Lifetime::ttl(MINUTE).stale_if_error(2 * MINUTE))
                .clock(clock.clone())
                .spawner(hand.clone())
                .build()
                .unwrap();
            (1..=2).for_each(|key| cache.insert_with(key, 1, Traits::new().tag("tag")));
            clock.advance(2 * MINUTE + SECOND);
            let mut one = Box::pin(cache.get_or_load_async(&1, || async { 2 }));
            let mut many = Box::pin(cache.get_many_or_load_async([2], |_| async { Ok::<_, &str>(vec![(2, 2)]) }));
            assert!(poll_once(one.as_mut()).is_pending() && poll_once(many.as_mut()).is_pending());
            lose(&cache, &clock);
            clock.advance(MINUTE);
            assert!(poll_once(one.as_mut()).is_pending(), "{name}, waits {ends}");
            assert!(poll_once(many.as_mut()).is_pending(), "{name}, waits {ends}");
            hand.run();
            assert!(matches!(poll_once(one.as_mut()), Poll::Ready(Ok(2))), "{name}, waits {ends}");
            let Poll::Ready(Ok(many)) = poll_once(many.as_mut()) else { panic!("{name}, waits {ends}") };
            assert_eq!(many[&2], 2);
        }
    }
}

#[test]
fn l5_who_leads_a_bounded_load_is_none_of_those_who_wait_for_it() {
    for bypass in [false, true] {
        let (clock, hand) = (ManualClock::new(), Hand::default());
        let cache: Cache<u32, u64> = Cache::builder()
            .capacity(10)
            .max_waiters(1)
            .load_timeout(MINUTE)
            .clock(clock)
            .spawner(hand.clone())
            .build()
            .unwrap();
        let lookup = || if bypass { cache.lookup(&1).bypass() } else { cache.lookup(&1) };
        let mut leads = Box::pin(lookup().load_async(|| async { 1 }));
        assert!(poll_once(leads.as_mut()).is_pending());
        let mut waits = Box::pin(lookup().load_async(|| async { 2 }));
        assert!(poll_once(waits.as_mut()).is_pending(), "one may wait beside the one who leads");
        let mut one_more = Box::pin(lookup().load_async(|| async { 3 }));
        assert!(matches!(poll_once(one_more.as_mut()), Poll::Ready(Err(error)) if error.is_overloaded()));
        drop(leads);
        let mut one_more = Box::pin(lookup().load_async(|| async { 3 }));
        assert!(matches!(poll_once(one_more.as_mut()), Poll::Ready(Err(error)) if error.is_overloaded()));
        drop(waits);
        let mut waits = Box::pin(lookup().load_async(|| async { 2 }));
        assert!(poll_once(waits.as_mut()).is_pending(), "one has gone, so there is room for one");
        hand.run();
        assert!(matches!(poll_once(waits.as_mut()), Poll::Ready(Ok(answer)) if answer.value == 1));
    }
}

#[test]
fn l5_a_handle_to_a_refresh_takes_no_place_among_those_who_wait() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let cache: Cache<u32, u64> =
        Cache::builder().capacity(10).max_waiters(1).clock(clock).spawner(hand.clone()).build().unwrap();
    let begun = cache.refresh_with(&1, || 1);
    let watched = cache.refresh_with(&1, || 1);
    assert_eq!((begun.status(), watched.status()), (RefreshStatus::Started, RefreshStatus::AlreadyRunning));
    let mut waits = Box::pin(cache.get_or_load_async(&1, || async { 2 }));
    assert!(poll_once(waits.as_mut()).is_pending());
    hand.run();
    assert!(matches!(poll_once(waits.as_mut()), Poll::Ready(Ok(1))));
    assert_eq!((begun.wait(), watched.wait()), (Some(Ending::Stored), Some(Ending::Stored)));
}

/// Does something when it is dropped.
struct AtItsEnd(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Drop for AtItsEnd {
    fn drop(&mut self) {
        if let Some(act) = self.0.take() {
            act();
        }
    }
}

fn step<F: Future>(task: &Mutex<Pin<Box<F>>>) -> Poll<F::Output> {
    poll_once(task.lock().unwrap().as_mut())
}

#[test]
fn l4_a_value_that_was_stored_in_time_reaches_those_who_wait_though_the_deadline_passes_while_it_lands() {
    type Value = Arc<AtItsEnd>;
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let cache: Cache<u32, Value> = Cache::builder()
        .capacity(1)
        .eviction(Eviction::Lru)
        .prompt_drop(true)
        .load_timeout(MINUTE)
        .clock(clock.clone())
        .spawner(hand.clone())
        .build()
        .unwrap();
    let ask = || {
        let cache = cache.clone();
        async move { cache.get_or_load_async(&2, || async { Arc::new(AtItsEnd(None)) }).await.map(drop) }
    };
    let waits: Vec<_> = (0..2).map(|_| Mutex::new(Box::pin(ask()))).collect();
    let waits = Arc::new(waits);
    assert!(waits.iter().all(|wait| step(wait).is_pending()));
    // What has to go for the new value takes its time.
    let (late, theirs) = (Arc::new(Mutex::new(Vec::new())), Arc::downgrade(&waits));
    let (lates, time) = (Arc::clone(&late), clock.clone());
    let act = move || {
        time.advance(MINUTE);
        let waits = theirs.upgrade().unwrap();
        lates.lock().unwrap().extend(waits.iter().map(step));
    };
    cache.insert(1, Arc::new(AtItsEnd(Some(Box::new(act)))));
    hand.run();
    assert!(cache.peek(&2).is_some() && cache.stats().loads.stored == 1 && late.lock().unwrap().len() == 2);
    assert!(late.lock().unwrap().iter().all(Poll::is_pending), "{late:?}");
    assert!(waits.iter().all(|wait| matches!(step(wait), Poll::Ready(Ok(())))));
}
