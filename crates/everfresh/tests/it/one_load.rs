//! L1-L8: one load per key, and nobody who waits is forgotten.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use everfresh::{Cache, Event, Lifetime, Load, LoadError, ManualClock, Outcome};

use crate::kit::{Count, Gate, Hand, MINUTE, SECOND, poll_once, within_a_minute};

fn plain() -> Cache<u32, u64> {
    Cache::builder().capacity(10).build().unwrap()
}

fn with_windows(clock: &ManualClock) -> Cache<u32, u64> {
    Cache::builder()
        .capacity(10)
        .lifetime(Lifetime::ttl(MINUTE).stale_while_revalidate(MINUTE))
        .clock(clock.clone())
        .build()
        .unwrap()
}

/// A thousand threads and tasks ask for a key whose loader is held until all of them are there or have been served.
fn thousand(cache: &Cache<u32, u64>, threads: usize, tasks: usize, workers: usize) -> (usize, Vec<u64>) {
    let (loads, asked, gate) = (Count::default(), Count::default(), Gate::default());
    let values = thread::scope(|scope| {
        let callers: Vec<_> = (0..threads)
            .map(|_| {
                let (cache, loads, asked, gate) = (cache.clone(), loads.clone(), asked.clone(), gate.clone());
                thread::Builder::new()
                    .stack_size(128 << 10)
                    .spawn_scoped(scope, move || {
                        asked.add();
                        let load = move || {
                            loads.add();
                            gate.pass();
                            2_u64
                        };
                        cache.get_or_load(&1, load).unwrap()
                    })
                    .unwrap()
            })
            .collect();
        let runtime = scope.spawn(|| {
            let mut builder = match workers {
                0 => tokio::runtime::Builder::new_current_thread(),
                _ => tokio::runtime::Builder::new_multi_thread(),
            };
            let runtime = builder.worker_threads(workers.max(1)).enable_all().build().unwrap();
            runtime.block_on(async {
                let mut callers = tokio::task::JoinSet::new();
                for _ in 0..tasks {
                    let (cache, loads, asked, gate) = (cache.clone(), loads.clone(), asked.clone(), gate.clone());
                    callers.spawn(async move {
                        asked.add();
                        let load = move || {
                            loads.add();
                            async move {
                                // A blocking gate belongs on a blocking thread.
                                tokio::task::spawn_blocking(move || gate.pass()).await.unwrap();
                                2_u64
                            }
                        };
                        cache.get_or_load_async(&1, load).await.unwrap()
                    });
                }
                callers.join_all().await
            })
        });
        asked.reach(threads + tasks);
        gate.open();
        let mut values: Vec<u64> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
        values.extend(runtime.join().unwrap());
        values
    });
    (loads.get(), values)
}

#[test]
fn l1_a_thousand_callers_of_a_cold_key_load_it_once_whoever_they_are() {
    for (threads, tasks, workers) in [(1_000, 0, 0), (0, 1_000, 0), (0, 1_000, 2), (500, 500, 2)] {
        let (loads, values) = thousand(&plain(), threads, tasks, workers);
        assert_eq!((loads, values.len()), (1, 1_000));
        assert!(values.iter().all(|value| *value == 2));
    }
}

#[test]
fn l1_a_thousand_callers_of_an_expired_key_load_it_once() {
    for (threads, tasks, workers) in [(1_000, 0, 0), (0, 1_000, 0), (500, 500, 2)] {
        let clock = ManualClock::new();
        let cache = with_windows(&clock);
        cache.insert(1, 1);
        clock.advance(2 * MINUTE);
        let (loads, values) = thousand(&cache, threads, tasks, workers);
        assert_eq!(loads, 1);
        assert!(values.iter().all(|value| *value == 2));
    }
}

#[test]
fn l1_a_thousand_readers_of_a_stale_key_do_not_wait_for_its_one_refresh() {
    for workers in [0, 2] {
        let clock = ManualClock::new();
        let cache = with_windows(&clock);
        cache.insert(1, 1);
        clock.advance(MINUTE);
        let (loads, held) = (Count::default(), Gate::default());
        let runtime = match workers {
            0 => tokio::runtime::Builder::new_current_thread().build().unwrap(),
            _ => tokio::runtime::Builder::new_multi_thread().worker_threads(workers).build().unwrap(),
        };
        let values: Vec<u64> = thread::scope(|scope| {
            let threads: Vec<_> = (0..50)
                .map(|_| {
                    let (cache, loads, held) = (cache.clone(), loads.clone(), held.clone());
                    scope.spawn(move || {
                        let read = || {
                            let (loads, held) = (loads.clone(), held.clone());
                            let load = move || {
                                loads.add();
                                held.pass();
                                2_u64
                            };
                            cache.get_or_load(&1, load).unwrap()
                        };
                        (0..10).map(|_| read()).collect::<Vec<_>>()
                    })
                })
                .collect();
            let mut values: Vec<u64> = runtime.block_on(async {
                let mut values = Vec::new();
                for _ in 0..500 {
                    let loads = loads.clone();
                    let load = move || {
                        loads.add();
                        std::future::pending::<u64>()
                    };
                    values.push(cache.get_or_load_async(&1, load).await.unwrap());
                }
                values
            });
            values.extend(threads.into_iter().flat_map(|reader| reader.join().unwrap()));
            values
        });
        // All were served, and the refresh is still held.
        assert_eq!(values, vec![1; 1_000]);
        assert!(loads.get() <= 1, "{} refreshes", loads.get());
        held.open();
    }
}

#[test]
fn l1_a_miss_that_meets_a_refresh_adopts_its_result() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let cache: Cache<u32, u64> = Cache::builder()
        .capacity(10)
        .lifetime(Lifetime::ttl(MINUTE).stale_while_revalidate(SECOND))
        .refresh_timeout(None)
        .clock(clock.clone())
        .spawner(hand.clone())
        .build()
        .unwrap();
    cache.insert(1, 1);
    clock.advance(MINUTE);
    assert_eq!(cache.get_or_load(&1, || 2_u64).unwrap(), 1);
    clock.advance(MINUTE);
    let mut miss = Box::pin(cache.lookup(&1).load_async(|| async { panic!("a second load") as u64 }));
    assert!(poll_once(miss.as_mut()).is_pending());
    hand.run();
    let Poll::Ready(Ok(answer)) = poll_once(miss.as_mut()) else { panic!("the refresh has ended") };
    assert_eq!((answer.value, answer.outcome), (2, Outcome::Coalesced));
    assert_eq!(cache.get(&1), Some(2));
}

#[test]
fn l2_a_failing_loader_with_a_hundred_waiters_runs_once_and_all_get_its_error() {
    let cache = plain();
    let (loads, asked, gate) = (Count::default(), Count::default(), Gate::default());
    let errors: Vec<LoadError<String>> = thread::scope(|scope| {
        let callers: Vec<_> = (0..101)
            .map(|_| {
                scope.spawn(|| {
                    let (loads, gate) = (loads.clone(), gate.clone());
                    let load = move || {
                        loads.add();
                        gate.pass();
                        Err::<u64, _>("down".to_owned())
                    };
                    asked.add();
                    cache.get_or_load(&1, load).unwrap_err()
                })
            })
            .collect();
        asked.reach(101);
        // All but the leader wait for the one flight, or will find it: it is held until then.
        loads.reach(1);
        while cache.stats().lookups() > 0 {}
        gate.open();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    let distinct: std::collections::HashSet<_> =
        errors.iter().map(|error| std::ptr::from_ref(error.load_error().unwrap()).addr()).collect();
    assert_eq!(distinct.len(), loads.get(), "whoever shared a load shares its error");
    assert!(errors.iter().all(|error| error.load_error().unwrap() == "down"));
}

#[test]
fn l2_waiters_in_tasks_share_one_error_exactly() {
    let cache = plain();
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    let _subscription = cache.subscribe(move |event| {
        if let Event::Load { waiters, .. } = event {
            heard.lock().unwrap().push(*waiters);
        }
    });
    let loads = Count::default();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let mut callers: Vec<_> = (0..101)
        .map(|_| {
            let (loads, gate) = (loads.clone(), Arc::clone(&gate));
            let load = move || async move {
                loads.add();
                gate.acquire().await.unwrap().forget();
                Err::<u64, _>("down")
            };
            Box::pin(cache.get_or_load_async(&1, load))
        })
        .collect();
    assert!(callers.iter_mut().all(|caller| poll_once(caller.as_mut()).is_pending()));
    drop(callers.pop());
    gate.add_permits(1);
    let mut seen = Vec::new();
    for caller in &mut callers {
        let Poll::Ready(Err(LoadError::Load(error))) = poll_once(caller.as_mut()) else { panic!("it has failed") };
        seen.push(error);
    }
    assert_eq!(loads.get(), 1);
    assert!(seen.iter().all(|error| Arc::ptr_eq(error, &seen[0])));
    assert_eq!(*told.lock().unwrap(), [99], "as many waited for it to the end");
}

#[test]
fn l2_a_waiter_with_another_error_type_is_told_whose_error_it_was() {
    let cache = plain();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let held = Arc::clone(&gate);
    let mut leader = Box::pin(cache.get_or_load_async(&1, move || async move {
        held.acquire().await.unwrap().forget();
        Err::<u64, _>(17_u8)
    }));
    assert!(poll_once(leader.as_mut()).is_pending());
    let mut waiter = Box::pin(cache.get_or_load_async(&1, || async { Err::<u64, _>("other") }));
    assert!(poll_once(waiter.as_mut()).is_pending());
    gate.add_permits(1);
    assert!(poll_once(leader.as_mut()).is_ready());
    let Poll::Ready(Err(error)) = poll_once(waiter.as_mut()) else { panic!("it has failed") };
    assert!(error.to_string().contains("u8"), "{error}");
}

#[test]
fn l3_a_leader_that_panics_hands_over_to_one_who_waits() {
    within_a_minute(|| {
        let cache = plain();
        let (inside, gate) = (Count::default(), Gate::default());
        thread::scope(|scope| {
            let leader = {
                let (cache, inside, gate) = (cache.clone(), inside.clone(), gate.clone());
                scope.spawn(move || {
                    let load = move || -> u64 {
                        inside.add();
                        gate.pass();
                        panic!("told to")
                    };
                    catch_unwind(AssertUnwindSafe(|| cache.get_or_load(&1, load))).is_err()
                })
            };
            inside.reach(1);
            let mut waiter = Box::pin(cache.lookup(&1).load_async(|| async { 5_u64 }));
            assert!(poll_once(waiter.as_mut()).is_pending());
            gate.open();
            assert!(leader.join().unwrap(), "the panic goes on to the leader's caller");
            let Poll::Ready(Ok(answer)) = poll_once(waiter.as_mut()) else { panic!("the waiter hangs") };
            assert_eq!((answer.value, answer.outcome), (5, Outcome::Loaded));
        });
        assert_eq!(cache.stats().loads.panicked, 1);
    });
}

#[test]
fn l3_a_leader_that_is_dropped_frees_the_slot_and_a_dropped_waiter_disturbs_nobody() {
    let cache = plain();
    let mut leader = Box::pin(cache.get_or_load_async(&1, std::future::pending::<u64>));
    assert!(poll_once(leader.as_mut()).is_pending());
    let mut gone = Box::pin(cache.get_or_load_async(&1, || async { 6_u64 }));
    let mut next = Box::pin(cache.get_or_load_async(&1, || async { 7_u64 }));
    assert!(poll_once(gone.as_mut()).is_pending());
    assert!(poll_once(next.as_mut()).is_pending());
    drop(gone);
    drop(leader);
    assert_eq!(cache.stats().loads.abandoned, 1);
    assert!(matches!(poll_once(next.as_mut()), Poll::Ready(Ok(7))));
}

#[test]
fn l4_a_hung_load_frees_its_key_at_its_deadline_and_its_late_result_is_fenced() {
    within_a_minute(|| {
        let clock = ManualClock::new();
        let cache: Cache<u32, u64> =
            Cache::builder().capacity(10).load_timeout(SECOND).clock(clock.clone()).build().unwrap();
        let (inside, gate) = (Count::default(), Gate::default());
        let hung = {
            let (cache, inside, gate) = (cache.clone(), inside.clone(), gate.clone());
            thread::spawn(move || {
                let load = move || {
                    inside.add();
                    gate.pass();
                    1_u64
                };
                cache.get_or_load(&1, load)
            })
        };
        inside.reach(1);
        let mut waiter = Box::pin(cache.get_or_load_async(&1, || async { 2_u64 }));
        assert!(poll_once(waiter.as_mut()).is_pending());
        clock.advance(SECOND);
        assert!(hung.join().unwrap().unwrap_err().is_timeout(), "the caller of the hung load");
        let Poll::Ready(Err(error)) = poll_once(waiter.as_mut()) else { panic!("the waiter hangs") };
        assert!(error.is_timeout());
        // The key is free at once, while the hung loader is still inside.
        cache.insert(1, 3);
        gate.open();
        assert_eq!(cache.close(MINUTE), 0);
        assert_eq!(cache.get(&1), Some(3));
        assert_eq!(cache.stats().loads.timed_out, 1);
    });
}

#[test]
fn l4_at_its_deadline_to_the_nanosecond_a_load_is_over() {
    for wait_at_most in [None, Some(SECOND)] {
        let (clock, hand) = (ManualClock::new(), Hand::default());
        let mut builder =
            Cache::<u32, u64>::builder().capacity(10).load_timeout(SECOND).clock(clock.clone()).spawner(hand.clone());
        if let Some(bound) = wait_at_most {
            builder = builder.wait_at_most(bound);
        }
        let cache = builder.build().unwrap();
        let mut hung = Box::pin(cache.get_or_load_async(&1, || async { 1_u64 }));
        assert!(poll_once(hung.as_mut()).is_pending());
        clock.advance(SECOND);
        if wait_at_most.is_some() {
            // Its waiter's own time is over in the same moment.
            assert!(matches!(poll_once(hung.as_mut()), Poll::Ready(Err(error)) if error.is_timeout()));
            assert_eq!(cache.stats().loads.timed_out, 1);
        }
        let mut next = Box::pin(cache.get_or_load_async(&1, || async { 2_u64 }));
        assert!(poll_once(next.as_mut()).is_pending());
        hand.run();
        assert!(matches!(poll_once(next.as_mut()), Poll::Ready(Ok(2))), "it led, and did not join what is over");
    }
}

#[test]
fn l4_a_task_that_waits_for_a_hung_refresh_is_told_at_its_deadline() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let cache: Cache<u32, u64> =
        Cache::builder().capacity(10).clock(clock.clone()).spawner(hand.clone()).build().unwrap();
    let _hung = cache.refresh_with(&1, || 1_u64);
    let mut waits = Box::pin(cache.get_or_load_async(&1, || async { 2_u64 }));
    assert!(poll_once(waits.as_mut()).is_pending());
    clock.advance(30 * SECOND);
    assert!(matches!(poll_once(waits.as_mut()), Poll::Ready(Err(error)) if error.is_timeout()));
}

#[test]
fn l5_waiting_has_a_bound_of_its_own_and_the_load_goes_on() {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let cache: Cache<u32, u64> =
        Cache::builder().capacity(10).clock(clock.clone()).spawner(hand.clone()).build().unwrap();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let held = Arc::clone(&gate);
    let load = move || async move {
        held.acquire().await.unwrap().forget();
        5_u64
    };
    let mut caller = Box::pin(cache.lookup(&1).wait_at_most(SECOND).load_async(load));
    assert!(poll_once(caller.as_mut()).is_pending());
    hand.run();
    clock.advance(SECOND - Duration::from_nanos(1));
    assert!(poll_once(caller.as_mut()).is_pending());
    clock.advance(Duration::from_nanos(1));
    let Poll::Ready(Err(error)) = poll_once(caller.as_mut()) else { panic!("it waits too long") };
    assert!(error.is_timeout());
    gate.add_permits(1);
    hand.run();
    assert_eq!(cache.get(&1), Some(5), "what was loaded too late for one is there for the next");
}

#[test]
fn l5_more_than_max_waiters_are_turned_away() {
    let cache: Cache<u32, u64> = Cache::builder().capacity(10).max_waiters(2).build().unwrap();
    let mut leader = Box::pin(cache.get_or_load_async(&1, std::future::pending::<u64>));
    assert!(poll_once(leader.as_mut()).is_pending());
    let mut waiters: Vec<_> = (0..2).map(|_| Box::pin(cache.get_or_load_async(&1, || async { 2_u64 }))).collect();
    assert!(waiters.iter_mut().all(|waiter| poll_once(waiter.as_mut()).is_pending()));
    assert!(cache.get_or_load(&1, || 3_u64).unwrap_err().is_overloaded());
    let mut one_more = Box::pin(cache.get_or_load_async(&1, || async { 3_u64 }));
    assert!(matches!(poll_once(one_more.as_mut()), Poll::Ready(Err(error)) if error.is_overloaded()), "a task");
    waiters.pop();
    let mut third = Box::pin(cache.get_or_load_async(&1, || async { 4_u64 }));
    assert!(poll_once(third.as_mut()).is_pending(), "one has gone, so there is room for one");
}

/// Nobody waits for longer than the bound while the old value may be served.
fn with_an_old_value(soft_timeout: Duration) -> (ManualClock, Hand, Cache<u32, u64>) {
    let (clock, hand) = (ManualClock::new(), Hand::default());
    let cache: Cache<u32, u64> = Cache::builder()
        .capacity(10)
        .lifetime(Lifetime::ttl(MINUTE).stale_if_error(60 * MINUTE))
        .soft_timeout(soft_timeout)
        .clock(clock.clone())
        .spawner(hand.clone())
        .build()
        .unwrap();
    cache.insert(1, 1);
    clock.advance(2 * MINUTE);
    (clock, hand, cache)
}

#[test]
fn l6_with_an_old_value_at_hand_nobody_waits_longer_than_the_soft_timeout() {
    let (clock, hand, cache) = with_an_old_value(SECOND);
    let mut reader = Box::pin(cache.lookup(&1).load_async(|| async { 2_u64 }));
    assert!(poll_once(reader.as_mut()).is_pending());
    clock.advance(SECOND);
    let Poll::Ready(Ok(answer)) = poll_once(reader.as_mut()) else { panic!("it waits too long") };
    assert_eq!((answer.value, answer.outcome), (1, Outcome::Fallback));
    hand.run();
    assert_eq!(cache.get(&1), Some(2), "the load went on behind");
}

#[test]
fn l6_the_soft_timeout_does_not_begin_anew_when_a_leader_goes() {
    let (clock, _hand, cache) = with_an_old_value(2 * SECOND);
    let mut leader = Box::pin(cache.lookup(&1).bypass().load_async(std::future::pending::<u64>));
    assert!(poll_once(leader.as_mut()).is_pending());
    let mut reader = Box::pin(cache.lookup(&1).load_async(|| async { 2_u64 }));
    assert!(poll_once(reader.as_mut()).is_pending());
    clock.advance(SECOND);
    drop(leader);
    assert!(poll_once(reader.as_mut()).is_pending(), "now it leads");
    clock.advance(SECOND);
    assert!(matches!(poll_once(reader.as_mut()), Poll::Ready(Ok(answer)) if answer.value == 1), "it waits too long");
}

/// A key for whose owned form somebody else fails to load it first.
struct Late<'c>(u32, &'c Cache<u32, u64>);

impl std::hash::Hash for Late<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl everfresh::AsKey<u32> for Late<'_> {
    fn is(&self, key: &u32) -> bool {
        self.0 == *key
    }

    fn to_key(&self) -> u32 {
        assert!(self.1.get_or_load(&self.0, || Err::<u64, _>("down")).is_err());
        self.0
    }
}

#[test]
fn l7_an_error_that_is_remembered_between_the_look_and_the_load_is_answered() {
    let cache: Cache<u32, u64> = Cache::builder().capacity(10).negative_ttl(MINUTE).build().unwrap();
    let loads = Count::default();
    let counted = loads.clone();
    let load = move || {
        counted.add();
        1_u64
    };
    assert!(cache.get_or_load(&Late(1, &cache), load).is_err());
    assert_eq!((loads.get(), cache.stats().negative), (0, 1));
}

#[test]
fn l7_an_error_is_not_remembered_beside_a_value_nor_longer_than_one_that_was_loaded_since() {
    let clock = ManualClock::new();
    let cache: Cache<u32, u64> = Cache::builder()
        .capacity(10)
        .lifetime(Lifetime::ttl(MINUTE).stale_if_error(MINUTE))
        .negative_ttl(60 * MINUTE)
        .clock(clock.clone())
        .build()
        .unwrap();
    cache.insert(1, 1);
    clock.advance(90 * SECOND);
    assert_eq!(cache.get_or_load(&1, || Err::<u64, _>("down")).unwrap(), 1);
    clock.advance(MINUTE);
    assert_eq!(cache.get_or_load(&1, || 2_u64).unwrap(), 2, "there was something better than the error");
    assert!(cache.get_or_load(&2, || Err::<u64, _>("down")).is_err());
    assert_eq!(cache.lookup(&2).bypass().load(|| 3_u64).unwrap().value, 3);
    clock.advance(3 * MINUTE);
    assert_eq!(cache.get_or_load(&2, || 4_u64).unwrap(), 4, "the error was before the value");
}

#[test]
fn l7_errors_and_rejected_values_are_never_stored() {
    let cache: Cache<u32, u64> = Cache::builder().capacity(10).store_if(|value| *value != 13).build().unwrap();
    assert!(cache.get_or_load(&1, || Err::<u64, _>("down")).is_err());
    assert_eq!(cache.get_or_load(&2, || 13_u64).unwrap(), 13, "the caller gets it");
    assert!(!cache.contains(&1) && !cache.contains(&2));
    assert_eq!(cache.stats().not_stored.rejected, 1);
    assert_eq!(cache.get_or_load(&2, || 14_u64).unwrap(), 14);
}

#[test]
fn l7_negative_ttl_remembers_an_error_or_an_absence_for_a_while() {
    let clock = ManualClock::new();
    let cache: Cache<u32, u64> =
        Cache::builder().capacity(10).negative_ttl(SECOND).clock(clock.clone()).build().unwrap();
    let loads = Count::default();
    let fail = |loads: &Count| {
        let loads = loads.clone();
        move || {
            loads.add();
            Err::<u64, _>("down")
        }
    };
    for _ in 0..3 {
        assert_eq!(cache.get_or_load(&1, fail(&loads)).unwrap_err().load_error(), Some(&"down"));
    }
    assert_eq!((loads.get(), cache.stats().negative), (1, 2));
    assert!(cache.get_or_load(&2, || None::<u64>).unwrap_err().is_absent());
    assert!(cache.get_or_load(&2, || 5_u64).unwrap_err().is_absent());
    clock.advance(SECOND);
    assert!(cache.get_or_load(&1, fail(&loads)).is_err());
    assert_eq!(loads.get(), 2);
    // Whatever speaks of the key afterwards makes it forgotten.
    cache.insert(1, 7);
    assert_eq!(cache.get_or_load(&1, fail(&loads)).unwrap(), 7);
    assert_eq!(cache.get_or_load(&2, || 5_u64).unwrap(), 5);
    assert!(cache.get_or_load(&3, || None::<u64>).is_err());
    cache.invalidate(&3);
    assert_eq!(cache.get_or_load(&3, || 6_u64).unwrap(), 6);
    assert!(cache.get_or_load(&4, || None::<u64>).is_err());
    cache.clear();
    assert_eq!(cache.get_or_load(&4, || 8_u64).unwrap(), 8);
}

#[test]
fn l7_a_value_that_still_holds_ends_what_is_remembered_of_an_earlier_failure() {
    let clock = ManualClock::new();
    let lifetime = Lifetime::ttl(10 * SECOND);
    let cache: Cache<u32, u64> = Cache::builder()
        .capacity(10)
        .lifetime(lifetime)
        .negative_ttl(30 * SECOND)
        .clock(clock.clone())
        .build()
        .unwrap();
    cache.insert(0, 1);
    clock.advance(SECOND);
    cache.insert(1, 7);
    clock.advance(9 * SECOND);
    // Over, but its room has not been given back.
    clock.advance(SECOND);
    assert!(cache.get_or_load(&1, || Err::<u64, _>("down")).is_err());
    let renewed = cache.lookup(&1).bypass().load_with(|previous| {
        assert_eq!(previous.unwrap().value, 7);
        Load::NotModified
    });
    assert_eq!(renewed.unwrap().value, 7);
    assert_eq!(cache.get_or_load(&1, || 8_u64).unwrap(), 7);
    clock.advance(10 * SECOND);
    assert_eq!(cache.get_or_load(&1, || 9_u64).unwrap(), 9, "the last load was no failure");
}

#[test]
fn l8_a_loader_that_asks_for_its_own_key_is_told() {
    within_a_minute(|| {
        let cache = plain();
        let inner = cache.clone();
        let outer =
            cache.get_or_load(&1, move || inner.get_or_load(&1, || 1_u64).map_err(|error| error.is_recursive()));
        assert_eq!(outer.unwrap_err().load_error(), Some(&true));
        let inner = cache.clone();
        let other = cache.get_or_load(&1, move || inner.get_or_load(&2, || 2_u64).map(|value| value + 1));
        assert_eq!(other.unwrap(), 3, "another key is no recursion");
    });
}

#[tokio::test]
async fn l8_a_task_that_asks_for_its_own_key_is_told() {
    let cache = plain();
    let inner = cache.clone();
    let outer = cache.get_or_load_async(&1, move || async move {
        tokio::task::yield_now().await;
        inner.get_or_load_async(&1, || async { 1_u64 }).await.map_err(|error| error.is_recursive())
    });
    assert_eq!(outer.await.unwrap_err().load_error(), Some(&true));
}

#[test]
fn i2_l7_an_error_is_not_remembered_beyond_the_moment_at_which_its_key_is_expired() {
    type Strike = fn(&Cache<u32, u64>);
    let strikes: [(&str, Strike); 7] = [
        ("invalidate", |cache| cache.invalidate(&1)),
        ("clear", |cache| cache.clear()),
        ("invalidate_matching", |cache| cache.invalidate_matching(|_, _| false)),
        ("expire", |cache| cache.expire(&1)),
        ("expire_all", |cache| cache.expire_all()),
        ("expire_matching", |cache| cache.expire_matching(|_, _| false)),
        ("insert", |cache| {
            cache.insert(1, 1);
            cache.invalidate(&1);
        }),
    ];
    for (name, strike) in strikes {
        for meanwhile in [false, true] {
            for absent in [false, true] {
                let cache: Cache<u32, u64> =
                    Cache::builder().capacity(10).negative_ttl(MINUTE).clock(ManualClock::new()).build().unwrap();
                let gate = Arc::new(tokio::sync::Notify::new());
                let opened = Arc::clone(&gate);
                let mut caller = Box::pin(cache.get_or_load_async(&1, move || async move {
                    opened.notified().await;
                    if absent { Ok(None::<u64>) } else { Err("bad") }
                }));
                assert!(poll_once(caller.as_mut()).is_pending());
                if meanwhile {
                    strike(&cache);
                }
                gate.notify_one();
                assert!(matches!(poll_once(caller.as_mut()), Poll::Ready(Err(_))));
                if !meanwhile {
                    assert!(cache.get_or_load(&1, || 2_u64).is_err(), "it is remembered");
                    strike(&cache);
                }
                assert_eq!(cache.get_or_load(&1, || 2_u64).ok(), Some(2), "{name}, meanwhile: {meanwhile}");
            }
        }
    }
}
