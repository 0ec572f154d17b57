use std::hash::RandomState;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;

const ROUNDS: u64 = if cfg!(miri) { 60 } else { 60_000 };

fn storm(bound: Bound, eviction: Eviction, keys: u64, most: u64) {
    let store = Store::<u64, u64, _>::new(settings(bound, eviction), RandomState::new());
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..3)
            .map(|seed| {
                let store = &store;
                scope.spawn(move || {
                    let mut dice = Dice::new(seed);
                    for round in 0..ROUNDS {
                        let key = dice.below(keys);
                        let hash = store.hash(&key);
                        match dice.below(8) {
                            0 => drop(store.remove(hash, &key)),
                            1 | 2 => drop(put(store, key, key << 20 | round)),
                            3 => {
                                let weight = 1 + dice.below(5);
                                drop(store.insert(hash, entry(key, key << 20), (weight, Moment::NEVER), START));
                            }
                            _ => {
                                if let Some(found) = store.find(hash, &key) {
                                    assert_eq!((found.key, found.value >> 20), (key, key));
                                }
                            }
                        }
                    }
                })
            })
            .collect();
        let (store, over) = (&store, &over);
        let watcher = scope.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                assert!(store.weight() <= most, "{} of {most}", store.weight());
                assert!(store.iter().count() as u64 <= most.saturating_add(keys));
                thread::yield_now();
            }
        });
        let results: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        over.store(true, Ordering::Relaxed);
        results.into_iter().for_each(|result| result.unwrap());
        join([watcher]);
    });
    store.validate();
}

#[test]
fn the_bound_holds_at_every_instant_under_many_threads() {
    storm(Bound::Entries(3), Eviction::S3Fifo, 10, 3);
    storm(Bound::Entries(500), Eviction::S3Fifo, 900, 500);
    storm(Bound::Entries(3_000), Eviction::S3Fifo, 20_000, 3_000);
    storm(Bound::Entries(100), Eviction::Lru, 300, 100);
    storm(Bound::Weight(300), Eviction::S3Fifo, 500, 300);
    storm(Bound::Weight(4_000), Eviction::S3Fifo, 30_000, 4_000);
    storm(Bound::Unbounded, Eviction::S3Fifo, 40_000, u64::MAX);
}

#[test]
fn a_key_that_is_always_there_is_always_found_while_its_shard_grows() {
    let store = Store::<u64, u64, _>::new(settings(Bound::Unbounded, Eviction::S3Fifo), RandomState::new());
    let steady = if cfg!(miri) { 5 } else { 300 };
    for key in 0..steady {
        put(&store, key, 0);
    }
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers = [(); 2].map(|()| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    assert!((0..steady).all(|key| get(&store, key).is_some()));
                }
            })
        });
        let writer = scope.spawn(|| {
            for key in 0..if cfg!(miri) { 200 } else { 200_000 } {
                put(&store, 1_000 + key, 1);
                put(&store, key % steady, key);
            }
        });
        let result = writer.join();
        over.store(true, Ordering::Relaxed);
        result.unwrap();
        join(readers);
    });
    store.validate();
}

#[test]
fn threads_that_come_and_go_share_a_few_records() {
    let store = Store::<u64, u64, _>::new(settings(Bound::Entries(10), Eviction::S3Fifo), RandomState::new());
    put(&store, 1, 1);
    for _ in 0..if cfg!(miri) { 5 } else { 100 } {
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let many: Vec<_> = (0..40).map(|_| store.find(store.hash(&1_u64), &1_u64).unwrap()).collect();
                assert!(many.iter().all(|found| found.value == 1));
            });
            join([reader]);
        });
    }
}

#[test]
fn the_destructors_of_a_thread_may_read_and_write() {
    struct Late(std::sync::Arc<Store<u64, u64, RandomState>>);
    impl Drop for Late {
        fn drop(&mut self) {
            assert_eq!(get(&self.0, 1), Some(1));
            put(&self.0, 2, 2);
        }
    }
    thread_local! { static LATE: std::cell::RefCell<Option<Late>> = const { std::cell::RefCell::new(None) }; }
    let store = std::sync::Arc::new(Store::new(settings(Bound::Entries(10), Eviction::S3Fifo), RandomState::new()));
    put(&store, 1, 1);
    let theirs = store.clone();
    thread::spawn(move || {
        LATE.with(|late| *late.borrow_mut() = Some(Late(theirs.clone())));
        assert_eq!(get(&theirs, 1), Some(1));
    })
    .join()
    .unwrap();
    assert_eq!(get(&store, 2), Some(2));
}
