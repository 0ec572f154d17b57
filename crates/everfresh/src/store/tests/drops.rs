use std::hash::RandomState;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicU64, Ordering};
use std::thread;

use super::*;
use crate::entry::Extra;
use crate::store::bound::Permit;
use crate::store::retire::BATCH;

/// Counts how many of its kind live; says so if one dies twice.
#[derive(Debug)]
struct Counted {
    alive: Arc<AtomicIsize>,
    here: Box<u64>,
}

impl Counted {
    fn new(alive: &Arc<AtomicIsize>, number: u64) -> Counted {
        alive.fetch_add(1, Ordering::Relaxed);
        Counted { alive: alive.clone(), here: Box::new(number) }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        assert_ne!(*self.here, u64::MAX, "dropped twice");
        *self.here = u64::MAX;
        assert!(self.alive.fetch_sub(1, Ordering::Relaxed) > 0);
    }
}

fn filled(settings: Settings, alive: &Arc<AtomicIsize>, keys: u64) -> Store<u64, Counted, RandomState> {
    let store = Store::new(settings, RandomState::new());
    for key in 0..keys {
        store.insert(store.hash(&key), entry(key, Counted::new(alive, key)), (1, Moment::NEVER), START);
    }
    store
}

#[test]
fn every_value_is_dropped_exactly_once() {
    let keys = if cfg!(miri) { 60 } else { 5_000 };
    for bound in [Bound::Unbounded, Bound::Entries(50), Bound::Weight(2_000)] {
        for prompt_drop in [false, true] {
            let alive = Arc::new(AtomicIsize::new(0));
            let store = filled(Settings { prompt_drop, ..settings(bound, Eviction::S3Fifo) }, &alive, keys);
            for key in 0..keys / 3 {
                store.remove(store.hash(&key), &key);
            }
            assert!(alive.load(Ordering::Relaxed) >= store.len() as isize);
            drop(store);
            assert_eq!(alive.load(Ordering::Relaxed), 0);
        }
    }
}

#[test]
fn where_weights_count_what_was_removed_and_not_dropped_is_a_small_part_of_the_bound() {
    const BOUND: u64 = 1 << 20;
    for weight in [1 << 8, 1 << 12, 1 << 14, 1 << 16, 1 << 19] {
        let alive = Arc::new(AtomicIsize::new(0));
        let settings = settings(Bound::Weight(BOUND), Eviction::S3Fifo);
        let store = Store::new(settings, RandomState::new());
        // What one writer has just taken out is dropped by the next one, unless it is heavy by itself.
        let most = BOUND + BOUND / 32 + BOUND / 32;
        let held = |alive: &AtomicIsize| alive.load(Ordering::Relaxed) as u64 * weight;
        for key in 0..1_000_u64 {
            let new = entry(key, Counted::new(&alive, key));
            if key % 2 == 0 {
                drop(store.insert(store.hash(&key), new, (weight, Moment::NEVER), START));
            } else {
                store.put(store.hash(&key), new, (weight, Moment::NEVER), START, &mut Insertion::nothing(false));
            }
            assert!(held(&alive) <= most, "{} of {weight} each", alive.load(Ordering::Relaxed));
        }
        let last = 999;
        for turn in 0..100 {
            let new = entry(last, Counted::new(&alive, turn));
            store.put(store.hash(&last), new, (weight, Moment::NEVER), START, &mut Insertion::nothing(turn % 2 == 0));
            assert!(held(&alive) <= most, "{} of {weight} each", alive.load(Ordering::Relaxed));
        }
        for key in 0..1_000_u64 {
            drop(store.remove(store.hash(&key), &key));
        }
        assert!(held(&alive) <= BOUND / 32 + BOUND / 32, "{} of {weight} each", alive.load(Ordering::Relaxed));
    }
}

#[test]
fn with_prompt_drops_nothing_outlives_its_removal_but_what_is_read() {
    let alive = Arc::new(AtomicIsize::new(0));
    let settings = Settings { prompt_drop: true, ..settings(Bound::Entries(10), Eviction::S3Fifo) };
    let store = filled(settings, &alive, 30);
    assert_eq!(alive.load(Ordering::Relaxed), 10);
    let held: Vec<_> = store.iter().take(3).collect();
    for found in &held {
        drop(store.remove_exact(found));
    }
    assert_eq!(alive.load(Ordering::Relaxed), 10);
    assert_eq!(store.len(), 7);
    let values: Vec<_> = held.iter().map(|found| *found.value.here).collect();
    assert!(values.iter().all(|&value| value < 30));
    for (left, found) in held.into_iter().enumerate() {
        drop(found);
        assert_eq!(alive.load(Ordering::Relaxed), 9 - left as isize);
    }
}

#[test]
fn garbage_stays_below_its_bound_and_a_sweep_drops_it() {
    for (entries, keys) in if cfg!(miri) { [(30, 100), (100, 300)] } else { [(100, 10_000), (40_000, 120_000)] } {
        let alive = Arc::new(AtomicIsize::new(0));
        let store = filled(settings(Bound::Entries(entries), Eviction::S3Fifo), &alive, keys);
        // As the builder's `capacity` has it.
        let most = entries + (entries / 10).max(24);
        assert!(alive.load(Ordering::Relaxed) <= most as isize, "{alive:?} of {entries}");
        store.sweep(START, |_| unreachable!("nothing is due"), |_| {});
        assert_eq!(alive.load(Ordering::Relaxed), entries as isize);
    }
}

#[test]
fn no_writer_drops_many_values_for_the_others() {
    let (entries, keys) = if cfg!(miri) { (100, 300) } else { (40_000, 120_000) };
    // One batch for each look at the garbage; where entries are handed out there are two. Where weights count all goes at once: three
    // steps, one more while another thread raises a barrier, and what was left of one.
    let ways =
        [(Bound::Entries(entries), false, 1), (Bound::Entries(entries), true, 2), (Bound::Weight(40_000), false, 5)];
    for (bound, wanted, batches) in ways {
        let alive = Arc::new(AtomicIsize::new(0));
        let store = Store::new(settings(bound, Eviction::S3Fifo), RandomState::new());
        for key in 0..keys {
            let new = entry(key, Counted::new(&alive, key));
            let before = alive.load(Ordering::Relaxed);
            store.put(store.hash(&key), new, (1, Moment::NEVER), START, &mut Insertion::nothing(wanted));
            let dropped = before - alive.load(Ordering::Relaxed);
            assert!(dropped <= (batches * BATCH) as isize, "{dropped} at once of {bound:?}");
        }
    }
}

#[test]
fn garbage_stays_near_its_bound_when_writers_overtake_each_other() {
    let (threads, keys) = if cfg!(miri) { (2, 100) } else { (2, 500_000) };
    let alive = Arc::new(AtomicIsize::new(0));
    let store = Store::new(settings(Bound::Entries(100), Eviction::S3Fifo), RandomState::new());
    thread::scope(|scope| {
        let writers: Vec<_> = (0..threads)
            .map(|thread| {
                let (store, alive) = (&store, &alive);
                scope.spawn(move || {
                    for key in (0..keys).map(|key| key * threads + thread) {
                        let new = entry(key, Counted::new(alive, key));
                        store.put(store.hash(&key), new, (1, Moment::NEVER), START, &mut Insertion::nothing(false));
                        let living = alive.load(Ordering::Relaxed);
                        assert!(living <= 400, "{living} of 100");
                    }
                })
            })
            .collect();
        join(writers);
    });
}

#[test]
fn what_has_nothing_to_drop_is_used_again_but_not_while_somebody_reads_it() {
    let (entries, keys) = if cfg!(miri) { (100, 600) } else { (40_000, 200_000) };
    let store = Store::new(settings(Bound::Entries(entries), Eviction::S3Fifo), RandomState::new());
    let quietly = |key: u64, value: u64| {
        let mut insertion = Insertion::nothing(false);
        store.put(store.hash(&key), entry(key, value), (1, Moment::NEVER), START, &mut insertion);
    };
    let mut held = Vec::new();
    for key in 0..keys {
        quietly(key, key);
        if key % 1_000 == 0 {
            held.push((key, store.find(store.hash(&key), &key).unwrap()));
            quietly(key, key + 1);
        }
        // One key's value is replaced for each new key.
        quietly(keys + key % 7, key);
    }
    for (key, found) in held {
        assert_eq!((found.key, found.value), (key, key), "it was read all the time");
    }
    store.validate();
    let nodes: usize = store.yards.nodes();
    // As the builder's `capacity` has it, those that were read, and what is left of the last block of each shard.
    let most = entries + (entries / 10).max(24) + keys as usize / 1_000 + store.shards.len() * 256;
    assert!(nodes <= most, "{nodes} nodes for {entries} entries");
}

#[test]
fn what_one_thread_puts_and_another_one_removes_is_used_again() {
    let (rounds, each) = if cfg!(miri) { (4, 40) } else { (300, 1_000) };
    let store = Store::new(settings(Bound::Unbounded, Eviction::S3Fifo), RandomState::new());
    let keys = |round: u64| round * each..(round + 1) * each;
    // Even while the one puts, odd while the other removes; the channels of std are not seen by the thread sanitizer.
    let turn = AtomicU64::new(0);
    let take_turns = |first: u64, work: &dyn Fn(u64)| {
        for round in 0..rounds {
            while turn.load(Ordering::Acquire) != 2 * round + first {
                thread::yield_now();
            }
            keys(round).for_each(work);
            turn.fetch_add(1, Ordering::Release);
        }
    };
    thread::scope(|scope| {
        let (store, take_turns) = (&store, &take_turns);
        let putter = scope.spawn(|| take_turns(0, &|key| drop(put(store, key, key))));
        let remover = scope.spawn(|| take_turns(1, &|key| drop(store.remove(store.hash(&key), &key))));
        join([putter, remover]);
    });
    assert_eq!(store.len(), 0);
    let nodes = store.yards.nodes() as u64;
    assert!(nodes <= 10 * each.max(256), "{nodes} nodes for {each} entries at a time");
}

#[test]
fn one_entry_that_has_something_to_drop_has_it_dropped_among_many_that_have_not() {
    let token: Arc<str> = "token".into();
    let store = Store::new(settings(Bound::Entries(100), Eviction::S3Fifo), RandomState::new());
    for key in 0..if cfg!(miri) { 400_u64 } else { 10_000 } {
        let new = match key % 50 {
            49 => {
                let extra = Extra { token: Some(Arc::clone(&token)), ..Extra::default() };
                Entry::with(key, key, (START, Moment::NEVER), Began { epoch: 0, tag_point: 0 }, extra)
            }
            _ => entry(key, key),
        };
        store.put(store.hash(&key), new, (1, Moment::NEVER), START, &mut Insertion::nothing(false));
    }
    let living = Arc::strong_count(&token) - 1;
    assert!(living <= 124 / 50 + 24, "{living} of those in a cache of 100");
    drop(store);
    assert_eq!(Arc::strong_count(&token), 1);
}

#[test]
fn a_destructor_may_call_the_same_store() {
    struct Meddler {
        store: std::sync::Weak<Store<u64, Meddler, RandomState>>,
    }
    impl Drop for Meddler {
        fn drop(&mut self) {
            if let Some(store) = self.store.upgrade() {
                let own = store.find(store.hash(&1_u64), &1_u64);
                drop(store.remove(store.hash(&2_u64), &2_u64));
                drop(own);
            }
        }
    }
    for prompt_drop in [false, true] {
        let settings = Settings { prompt_drop, ..settings(Bound::Entries(8), Eviction::S3Fifo) };
        let store = Arc::new(Store::new(settings, RandomState::new()));
        for key in 0..if cfg!(miri) { 40_u64 } else { 400 } {
            let meddler = Meddler { store: Arc::downgrade(&store) };
            store.insert(store.hash(&(key % 20)), entry(key % 20, meddler), (1, Moment::NEVER), START);
        }
        store.validate();
    }
}

#[test]
fn a_destructor_that_panics_takes_no_other_value_with_it() {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    struct Fragile(Counted, bool);
    impl Drop for Fragile {
        fn drop(&mut self) {
            assert!(!self.1, "broken");
            let _ = &self.0;
        }
    }
    let alive = Arc::new(AtomicIsize::new(0));
    let store = Store::new(settings(Bound::Entries(50), Eviction::S3Fifo), RandomState::new());
    let mut panics = 0;
    for key in 0..200_u64 {
        let value = Fragile(Counted::new(&alive, key), key == 30);
        let hash = store.hash(&key);
        let result = catch_unwind(AssertUnwindSafe(|| {
            store.insert(hash, entry(key, value), (1, Moment::NEVER), START);
        }));
        panics += u32::from(result.is_err());
        store.validate();
    }
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(store)));
    assert_eq!(panics + u32::from(dropped.is_err()), 1);
    assert_eq!(alive.load(Ordering::Relaxed), 0);
}

#[test]
fn threads_that_read_write_and_remove_drop_every_value_once() {
    let rounds = if cfg!(miri) { 40 } else { 20_000 };
    for prompt_drop in [false, true] {
        let alive = Arc::new(AtomicIsize::new(0));
        let settings = Settings { prompt_drop, ..settings(Bound::Entries(64), Eviction::S3Fifo) };
        let store = Store::<u64, Counted, _>::new(settings, RandomState::new());
        thread::scope(|scope| {
            let threads = [0, 1, 2, 3].map(|seed| {
                let (store, alive) = (&store, &alive);
                scope.spawn(move || {
                    let mut dice = Dice::new(seed + 7);
                    for _ in 0..rounds {
                        let key = dice.below(150);
                        let hash = store.hash(&key);
                        match dice.below(4) {
                            0 => drop(store.remove(hash, &key)),
                            1 => drop(store.insert(
                                hash,
                                entry(key, Counted::new(alive, key)),
                                (1, Moment::NEVER),
                                START,
                            )),
                            _ => {
                                if let Some(found) = store.find(hash, &key) {
                                    assert_eq!((found.key, *found.value.here), (key, key));
                                }
                            }
                        }
                    }
                })
            });
            join(threads);
        });
        store.validate();
        if prompt_drop {
            // What the last readers left behind goes with the next writer.
            store.insert(store.hash(&0_u64), entry(0, Counted::new(&alive, 0)), (1, Moment::NEVER), START);
            assert_eq!(alive.load(Ordering::Relaxed), store.len() as isize);
        }
        drop(store);
        assert_eq!(alive.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn with_prompt_drops_what_made_room_in_another_shard_is_dropped_too() {
    for wanted in [false, true] {
        let alive = Arc::new(AtomicIsize::new(0));
        let settings = Settings { prompt_drop: true, ..settings(Bound::Entries(2_048), Eviction::S3Fifo) };
        let store = Store::new(settings, RandomState::new());
        let of_shard = |key: &u64| store.index(store.hash(key));
        let keys_of = |shard: usize| (0_u64..).filter(move |key| of_shard(key) == shard);
        for key in keys_of(0).take(2_048).collect::<Vec<_>>() {
            drop(store.insert(store.hash(&key), entry(key, Counted::new(&alive, key)), (1, Moment::NEVER), START));
        }
        // Another shard has nothing yet: what makes room there is in the first one.
        for key in keys_of(1).take(20).collect::<Vec<_>>() {
            let new = entry(key, Counted::new(&alive, key));
            store.put(store.hash(&key), new, (1, Moment::NEVER), START, &mut Insertion::nothing(wanted));
            assert_eq!((alive.load(Ordering::Relaxed), store.len()), (2_048, 2_048));
        }
    }
}

#[test]
fn with_prompt_drops_what_a_writer_pushed_out_goes_although_it_is_not_admitted_in_the_end() {
    for wanted in [false, true] {
        let alive = Arc::new(AtomicIsize::new(0));
        let settings = Settings { prompt_drop: true, ..settings(Bound::Weight(10), Eviction::S3Fifo) };
        let store = Store::new(settings, RandomState::new());
        drop(store.insert(store.hash(&1), entry(1_u64, Counted::new(&alive, 1)), (4, Moment::NEVER), START));
        // The rest is in the hands of another writer, so that there is not enough even when all has made room.
        let mut others = Permit::empty(&store.account);
        assert!(others.reaches(6));
        let mut turns = 0;
        let mut new = Some(entry(2, Counted::new(&alive, 2)));
        let mut insertion = Insertion::nothing(wanted);
        let admitted =
            store.put_if_admitted(store.hash(&2), &mut new, (8, Moment::NEVER), START, &mut insertion, |_| {
                turns += 1;
                turns == 1
            });
        assert!(!admitted && new.is_some());
        drop(new);
        let seen = insertion.seen.as_ref().map_or(0, |seen| seen.pushed_out.len());
        assert_eq!((turns, seen + insertion.unseen.evicted as usize), (2, 1));
        drop(insertion);
        assert_eq!((alive.load(Ordering::Relaxed), store.len()), (0, 0));
    }
}
