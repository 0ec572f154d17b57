//! Races between loads, refreshes and invalidations, under a model checker that tries many interleavings.
//!
//! `RUSTFLAGS="--cfg everfresh_shuttle" cargo test --test races`; the number of rounds is `EVERFRESH_ROUNDS`.
#![cfg(everfresh_shuttle)]

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use everfresh::{
    Cache, Job, LevelFuture, Lifetime, LoadError, Loaded, ManualClock, RefreshPool, RefreshStatus, SecondLevel, Spawn,
    SpawnError, Task,
};
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

/// A second level in memory, at whose doors others may overtake.
#[derive(Clone, Default)]
struct Beneath(Arc<shuttle::sync::Mutex<Option<u64>>>);

impl SecondLevel<u32, u64> for Beneath {
    fn get<'a>(&'a self, _key: &'a u32) -> LevelFuture<'a, Option<Loaded<u64>>> {
        Box::pin(async move { Ok(self.0.lock().unwrap().map(|value| Loaded::new(value).tag("tag"))) })
    }
    fn put<'a>(&'a self, _key: &'a u32, loaded: &'a Loaded<u64>, _begun_ago: Duration) -> LevelFuture<'a, ()> {
        Box::pin(async move {
            shuttle::future::yield_now().await;
            *self.0.lock().unwrap() = Some(*loaded.value());
            Ok(())
        })
    }
    fn remove<'a>(&'a self, _key: &'a u32) -> LevelFuture<'a, ()> {
        Box::pin(async move {
            *self.0.lock().unwrap() = None;
            Ok(())
        })
    }
    fn remove_tag<'a>(&'a self, _tag: &'a str) -> LevelFuture<'a, ()> {
        self.remove(&0)
    }
    fn clear(&self) -> LevelFuture<'_, ()> {
        self.remove(&0)
    }
}

#[test]
fn i1_nothing_that_an_invalidation_overtook_stays_in_the_second_level_or_comes_from_it() {
    type Strike = fn(&Cache<u32, u64>);
    let strikes: [Strike; 3] = [|it| it.invalidate(&1), |it| it.invalidate_tag("tag"), |it| it.clear()];
    // What is there at first is asked for; where there is nothing, what was loaded is put there.
    for (strike, there) in strikes.into_iter().flat_map(|strike| [(strike, Some(1)), (strike, None)]) {
        explore(move || {
            let beneath = Beneath(Arc::new(shuttle::sync::Mutex::new(there)));
            let cache: Cache<u32, u64> = Cache::builder()
                .capacity(4)
                .second_level(beneath.clone())
                .clock(ManualClock::new())
                .spawner(Modelled)
                .build()
                .unwrap();
            let source = Arc::new(AtomicU64::new(1));
            let read = {
                let source = Arc::clone(&source);
                move |cache: &Cache<u32, u64>| {
                    let source = Arc::clone(&source);
                    let load = move || Loaded::new(source.load(Ordering::SeqCst)).tag("tag");
                    cache.get_or_load(&1, load).unwrap()
                }
            };
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    let (cache, read) = (cache.clone(), read.clone());
                    thread::spawn(move || {
                        read(&cache);
                    })
                })
                .collect();
            let striker = {
                let (cache, source, read) = (cache.clone(), Arc::clone(&source), read.clone());
                thread::spawn(move || {
                    source.store(2, Ordering::SeqCst);
                    strike(&cache);
                    assert_eq!(read(&cache), 2, "asked after the invalidation");
                })
            };
            readers.into_iter().for_each(|reader| reader.join().unwrap());
            striker.join().unwrap();
            cache.settle();
            let left = *beneath.0.lock().unwrap();
            assert!(left.is_none_or(|left| left == 2), "the old value is left beneath");
            assert_eq!(read(&cache), 2);
        });
    }
}

#[test]
fn r7_who_is_told_that_a_refresh_runs_already_may_wait_for_it() {
    explore(|| {
        let clock = ManualClock::new();
        let pool = RefreshPool::with_spawner(1, Modelled);
        let make = || -> Cache<u32, u64> {
            Cache::builder()
                .capacity(4)
                .loader(|key: &u32| u64::from(*key))
                .refresh_pool(pool.clone())
                .clock(clock.clone())
                .build()
                .unwrap()
        };
        let (cache, other) = (make(), make());
        let takes_the_place = thread::spawn(move || drop(other.refresh(&7)));
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let cache = cache.clone();
                thread::spawn(move || {
                    let renewing = cache.refresh(&1);
                    if matches!(renewing.status(), RefreshStatus::Started | RefreshStatus::AlreadyRunning) {
                        let _ = renewing.wait();
                        assert_eq!(cache.peek(&1), Some(1), "it was given up, and nobody was told");
                    }
                })
            })
            .collect();
        takes_the_place.join().unwrap();
        callers.into_iter().for_each(|caller| caller.join().unwrap());
    });
}

#[test]
fn r4_a_refresh_replaces_the_entry_that_started_it_and_no_insert_of_meanwhile() {
    explore(|| {
        let clock = ManualClock::new();
        let cache = cache(&clock);
        cache.insert(1, 0);
        clock.advance(Duration::from_secs(1));
        let reader = {
            let cache = cache.clone();
            thread::spawn(move || cache.get_or_load(&1, || 5_u64).unwrap())
        };
        cache.insert(1, 10);
        let read = reader.join().unwrap();
        cache.settle();
        assert!(read == 0 || read == 10);
        assert_eq!(cache.peek(&1), Some(10));
    });
}
