use std::collections::HashMap;
use std::hash::RandomState;
use std::thread;
use std::time::Duration;

use super::*;
use crate::store::guard::Judgement;

fn at(secs: u64) -> Moment {
    Moment::from(Duration::from_secs(secs))
}

#[test]
fn a_sweep_asks_only_about_what_is_due() {
    let store = Store::new(settings(Bound::Unbounded, Eviction::S3Fifo), RandomState::new());
    for key in 0..100_u64 {
        store.insert(store.hash(&key), entry(key, key), (1, at(key)), START);
    }
    let mut asked = Vec::new();
    let mut gone = Vec::new();
    let judge = |entry: &Entry<u64, u64>| {
        asked.push(entry.key);
        if entry.key.is_multiple_of(2) { Judgement::Remove } else { Judgement::KeepUntil(at(80)) }
    };
    store.sweep(at(49), judge, |removed| gone.push(removed.key));
    asked.sort_unstable();
    gone.sort_unstable();
    assert_eq!(asked, (0..50).collect::<Vec<_>>());
    assert_eq!(gone, (0..50).step_by(2).collect::<Vec<_>>());
    let mut later = 0;
    store.sweep(
        at(79),
        |_| {
            later += 1;
            Judgement::Keep
        },
        |_| unreachable!("all are kept"),
    );
    assert_eq!(later, 30);
    store.validate();
}

#[test]
fn a_sweep_of_all_asks_about_each_and_the_judge_may_call_the_store() {
    for bound in [Bound::Unbounded, Bound::Entries(200)] {
        let store = Store::new(settings(bound, Eviction::S3Fifo), RandomState::new());
        let keys = 100;
        for key in 0..keys {
            put(&store, key, key);
        }
        let mut asked = 0;
        let judge = |entry: &Entry<u64, u64>| {
            asked += 1;
            assert_eq!(get(&store, entry.key), Some(entry.value));
            if entry.key.is_multiple_of(3) {
                put(&store, entry.key, 7);
            }
            if entry.key.is_multiple_of(2) { Judgement::Remove } else { Judgement::Keep }
        };
        let mut gone = Vec::new();
        store.sweep(Moment::NEVER, judge, |removed| gone.push(removed.key));
        assert!(asked >= keys);
        // What was replaced while it was judged is another entry, and stays.
        assert!(gone.iter().all(|key| key % 2 == 0 && key % 3 != 0), "{gone:?}");
        assert_eq!(store.len() + gone.len(), keys as usize);
        store.validate();
    }
}

#[test]
fn an_iteration_meets_each_entry_once() {
    fn check<S: BuildHasher + Default + 'static>(keys: u64) {
        let store = Store::new(settings(Bound::Unbounded, Eviction::S3Fifo), S::default());
        for key in 0..keys {
            put(&store, key, key);
        }
        let mut seen: Vec<_> = store.iter().map(|entry| entry.key).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..keys).collect::<Vec<_>>());
    }
    check::<RandomState>(0);
    check::<RandomState>(1);
    check::<RandomState>(if cfg!(miri) { 100 } else { 30_000 });
    check::<PoorHash<1>>(100);
    check::<PoorHash<7>>(100);
}

#[test]
fn an_iteration_meets_what_is_there_throughout_exactly_once_while_the_store_grows() {
    let (steady, rounds) = if cfg!(miri) { (30_u64, 2) } else { (2_000, 30) };
    for round in 0..rounds {
        let store = Store::<u64, u64, _>::new(settings(Bound::Unbounded, Eviction::S3Fifo), RandomState::new());
        for key in 0..steady {
            put(&store, key, 0);
        }
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut dice = Dice::new(round);
                for key in 0..steady * 10 {
                    put(&store, 1_000_000 + key, 1);
                    put(&store, dice.below(steady), 2);
                }
            });
            let mut seen = HashMap::new();
            for found in store.iter() {
                *seen.entry(found.key).or_insert(0) += 1;
            }
            for key in 0..steady {
                assert_eq!(seen.get(&key), Some(&1), "key {key}");
            }
            join([writer]);
        });
    }
}

#[test]
fn an_iteration_that_is_interleaved_with_growth_meets_each_steady_entry_once() {
    let store = Store::<u64, u64, _>::new(settings(Bound::Entries(1_000), Eviction::S3Fifo), RandomState::new());
    for key in 0..100 {
        put(&store, key, 0);
    }
    let mut seen = HashMap::new();
    let mut next = 1_000;
    for found in store.iter() {
        *seen.entry(found.key).or_insert(0) += 1;
        if next < 1_850 {
            for _ in 0..9 {
                put(&store, next, 1);
                next += 1;
            }
        }
    }
    assert!((0..100).all(|key| seen.get(&key) == Some(&1)));
}
