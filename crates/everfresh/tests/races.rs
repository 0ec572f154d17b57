//! Races between loads, refreshes and invalidations, under a model checker that tries many interleavings.
//!
//! `RUSTFLAGS="--cfg everfresh_shuttle" cargo test --test races`; the number of rounds is `EVERFRESH_ROUNDS`.
#![cfg(everfresh_shuttle)]

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use everfresh::{Cache, Job, Lifetime, LoadError, ManualClock, Spawn, SpawnError, Task};
use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::thread;

/// Runs the work on threads of the model checker.
struct Modelled;

impl Spawn for Modelled {
    fn spawn_job(&self, job: Job) -> Result<(), SpawnError> {
        drop(thread::spawn(job));
        Ok(())
    }

    fn spawn_task(&self, task: Task) -> Result<(), SpawnError> {
        drop(thread::spawn(move || shuttle::future::block_on(task)));
        Ok(())
    }
}

fn explore(round: impl Fn() + Send + Sync + 'static) {
    let rounds = std::env::var("EVERFRESH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(2_000);
    shuttle::check_random(round, rounds);
}

fn cache(clock: &ManualClock) -> Cache<u32, u64> {
    let second = Duration::from_secs(1);
    Cache::builder()
        .capacity(4)
        .lifetime(Lifetime::ttl(second).stale_while_revalidate(10 * second))
        .clock(clock.clone())
        .spawner(Modelled)
        .build()
        .unwrap()
}

/// What is behind the cache: a number that only grows.
#[derive(Clone, Default)]
struct Source(Arc<AtomicU64>);

impl Source {
    fn read(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn change(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }
}

#[test]
fn l1_callers_of_a_cold_key_load_it_once() {
    explore(|| {
        let cache = cache(&ManualClock::new());
        let loads = Source::default();
        let callers: Vec<_> = (0..3)
            .map(|_| {
                let (cache, loads) = (cache.clone(), loads.clone());
                thread::spawn(move || cache.get_or_load(&1, move || loads.change()).unwrap())
            })
            .collect();
        for caller in callers {
            assert_eq!(caller.join().unwrap(), 1);
        }
        assert_eq!(loads.read(), 1);
    });
}

#[test]
fn i1_no_load_that_began_before_an_invalidation_is_served_after_it() {
    explore(|| {
        let cache = cache(&ManualClock::new());
        let source = Source::default();
        let loader = {
            let (cache, source) = (cache.clone(), source.clone());
            thread::spawn(move || cache.get_or_load(&1, move || source.read()).unwrap())
        };
        let changer = {
            let (cache, source) = (cache.clone(), source.clone());
            thread::spawn(move || {
                let changed = source.change();
                cache.invalidate(&1);
                assert!(cache.get_or_load(&1, move || source.read()).unwrap() >= changed);
            })
        };
        loader.join().unwrap();
        changer.join().unwrap();
        assert_ne!(cache.get(&1), Some(0));
    });
}

#[test]
fn i3_no_load_that_began_before_a_clear_is_served_after_it() {
    explore(|| {
        let cache = cache(&ManualClock::new());
        let source = Source::default();
        let loader = {
            let (cache, source) = (cache.clone(), source.clone());
            thread::spawn(move || cache.get_or_load(&1, move || source.read()).unwrap())
        };
        let changed = source.change();
        cache.clear();
        let again = source.clone();
        assert!(cache.get_or_load(&1, move || again.read()).unwrap() >= changed);
        loader.join().unwrap();
        assert_ne!(cache.get(&1), Some(0));
    });
}

#[test]
fn i1_an_insert_beats_a_refresh_in_flight() {
    explore(|| {
        let clock = ManualClock::new();
        let cache = cache(&clock);
        cache.insert(1, 10);
        clock.advance(Duration::from_secs(1));
        assert_eq!(cache.get_or_load(&1, || 11_u64).unwrap(), 10);
        cache.insert(1, 20);
        assert_eq!(cache.close(Duration::from_secs(1)), 0);
        assert_eq!(cache.get(&1), Some(20));
    });
}

#[test]
fn r1_many_readers_of_a_stale_key_start_one_refresh() {
    explore(|| {
        let clock = ManualClock::new();
        let cache = cache(&clock);
        cache.insert(1, 10);
        clock.advance(Duration::from_secs(1));
        let loads = Source::default();
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let (cache, loads) = (cache.clone(), loads.clone());
                thread::spawn(move || cache.get_or_load(&1, move || loads.change() + 10).unwrap())
            })
            .collect();
        for reader in readers {
            let value = reader.join().unwrap();
            assert!(value == 10 || value == 11);
        }
        assert_eq!(cache.close(Duration::from_secs(1)), 0);
        assert_eq!(loads.read(), 1);
        assert_eq!(cache.get(&1), Some(11));
    });
}

#[test]
fn l2_everybody_who_joined_a_failing_load_gets_its_error() {
    explore(|| {
        let cache = cache(&ManualClock::new());
        let loads = Source::default();
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let (cache, loads) = (cache.clone(), loads.clone());
                thread::spawn(move || cache.get_or_load(&1, move || Err::<u64, _>(loads.change())).unwrap_err())
            })
            .collect();
        let mut seen = 0;
        for caller in callers {
            let LoadError::Load(error) = caller.join().unwrap() else { panic!("not the loader's error") };
            seen = seen.max(*error);
        }
        assert_eq!(loads.read(), seen, "no load failed unseen");
    });
}

#[test]
fn l3_a_waiter_takes_over_from_a_leader_that_went_away() {
    explore(|| {
        let cache = cache(&ManualClock::new());
        let abandoned = {
            let cache = cache.clone();
            thread::spawn(move || {
                let mut load = Box::pin(cache.get_or_load_async(&1, std::future::pending::<u64>));
                let _ = load.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                thread::yield_now();
            })
        };
        let waiter = {
            let cache = cache.clone();
            thread::spawn(move || cache.get_or_load(&1, || 7_u64).unwrap())
        };
        assert_eq!(waiter.join().unwrap(), 7);
        abandoned.join().unwrap();
        assert_eq!(cache.get(&1), Some(7));
    });
}
