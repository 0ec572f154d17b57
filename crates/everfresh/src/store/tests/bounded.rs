use std::hash::RandomState;

use super::*;
use crate::store::guard::PushedOut;

#[test]
fn a_store_of_two_keeps_two() {
    for eviction in [Eviction::S3Fifo, Eviction::Lru] {
        let store = Store::new(settings(Bound::Entries(2), eviction), RandomState::new());
        put(&store, 1, 10);
        put(&store, 2, 20);
        assert_eq!((get(&store, 1), get(&store, 2)), (Some(10), Some(20)));
        let seen = put(&store, 3, 30).into_seen();
        assert_eq!(seen.pushed_out.len(), 1);
        drop(seen);
        assert_eq!(store.len(), 2);
        assert_eq!(get(&store, 3), Some(30));
        store.validate();
    }
}

#[test]
fn a_store_of_none_refuses_all() {
    let store = Store::new(settings(Bound::Entries(0), Eviction::S3Fifo), RandomState::new());
    assert!(put(&store, 1, 10).into_seen().refused.is_some());
    assert_eq!((store.len(), get(&store, 1)), (0, None));
}

#[test]
fn every_capacity_is_filled_to_the_last_entry_whatever_the_keys() {
    fn check<S: BuildHasher + Default + 'static>(capacity: usize) {
        for eviction in [Eviction::S3Fifo, Eviction::Lru] {
            let store = Store::new(settings(Bound::Entries(capacity), eviction), S::default());
            for key in 0..capacity as u64 {
                assert!(put(&store, key, key).into_seen().pushed_out.is_empty());
            }
            assert_eq!(store.len(), capacity);
            assert!((0..capacity as u64).all(|key| get(&store, key) == Some(key)));
            for key in 0..capacity as u64 / 4 + 3 {
                assert_eq!(put(&store, u64::MAX - key, 0).into_seen().pushed_out.len(), 1);
            }
            assert_eq!(store.len(), capacity);
            store.validate();
        }
    }
    let most = if cfg!(miri) { 40 } else { 1_100 };
    for capacity in [1, 2, 3, 7, 14, 15, 16, 31, 64, 100, 1_000, 1_024, 1_100].into_iter().filter(|&c| c <= most) {
        check::<RandomState>(capacity);
        check::<PoorHash<{ u64::MAX }>>(capacity);
    }
    for capacity in [16, 100, 300].into_iter().filter(|&c| c <= most) {
        check::<PoorHash<1>>(capacity);
        check::<PoorHash<5>>(capacity);
    }
}

#[test]
#[cfg_attr(miri, ignore = "too many entries")]
fn a_large_store_is_filled_to_the_last_entry_and_never_beyond() {
    for keys in [0..40_000_u64, 7_000_000..7_040_000] {
        let store = Store::new(settings(Bound::Entries(30_000), Eviction::S3Fifo), RandomState::new());
        for (count, key) in keys.enumerate() {
            put(&store, key, key);
            assert_eq!(store.len(), (count + 1).min(30_000));
        }
        store.validate();
    }
}

#[test]
#[cfg_attr(miri, ignore = "too many entries")]
fn room_moves_to_the_shards_that_need_it() {
    let store = Store::new(settings(Bound::Entries(4_096), Eviction::S3Fifo), RandomState::new());
    let (mine, others): (Vec<_>, Vec<_>) = (0..80_000_u64).partition(|key| store.index(store.hash(key)) == 0);
    for &key in &others[..4_096] {
        put(&store, key, key);
    }
    assert_eq!(store.len(), 4_096);
    for &key in &mine[..4_096] {
        put(&store, key, key);
        assert_eq!(store.len(), 4_096);
    }
    assert!(store.shards[0].lock().len >= 700, "one shard of four got {}", store.shards[0].lock().len);
    store.validate();
    // And a shard may hold all of it.
    for key in others {
        let hash = store.hash(&key);
        store.remove(hash, &key);
    }
    for &key in &mine[..4_096] {
        put(&store, key, key);
    }
    assert!(mine[..4_096].iter().all(|&key| get(&store, key) == Some(key)));
    store.validate();
}

#[test]
fn the_weight_never_exceeds_its_bound_and_heavy_entries_push_out_many() {
    for eviction in [Eviction::S3Fifo, Eviction::Lru] {
        let store = Store::new(settings(Bound::Weight(1_000), eviction), RandomState::new());
        for key in 0..100_u64 {
            store.insert(store.hash(&key), entry(key, 0_u64), (10, Moment::NEVER), START);
        }
        assert_eq!((store.len(), store.weight()), (100, 1_000));
        let hash = store.hash(&100_u64);
        let insertion = store.insert(hash, entry(100, 0), (995, Moment::NEVER), START);
        let pushed_out = insertion.into_seen().pushed_out;
        assert_eq!(pushed_out.len(), 100);
        assert!(pushed_out.into_iter().all(|(_, why)| why == PushedOut::Evicted));
        assert_eq!((store.len(), store.weight()), (1, 995));
        store.validate();
    }
}

#[test]
#[cfg_attr(miri, ignore = "too many entries")]
fn in_a_table_that_is_nearly_empty_nobody_stays_for_ever() {
    let store = Store::new(settings(Bound::Weight(1_000), Eviction::S3Fifo), RandomState::new());
    // A table that once held many, and now eight.
    for key in 0..10_000_u64 {
        store.insert(store.hash(&key), entry(key, 0_u64), (0, Moment::NEVER), START);
    }
    (0..10_000_u64).for_each(|key| drop(store.remove(store.hash(&key), &key)));
    for key in 0..1_000_u64 {
        store.insert(store.hash(&key), entry(key, 0), (125, Moment::NEVER), START);
    }
    assert_eq!((store.len(), store.weight()), (8, 1_000));
    let oldest = store.iter().map(|entry| entry.key).min().unwrap();
    assert!(oldest > 600, "nobody has asked for {oldest}");
}

#[test]
fn an_entry_heavier_than_the_bound_is_given_back_and_its_key_is_gone() {
    let store = Store::new(settings(Bound::Weight(100), Eviction::S3Fifo), RandomState::new());
    let hash = store.hash(&1_u64);
    store.insert(hash, entry(1_u64, 1_u64), (100, Moment::NEVER), START);
    let insertion = store.insert(hash, entry(1, 2), (101, Moment::NEVER), START);
    let seen = insertion.into_seen();
    assert_eq!(seen.refused.map(|entry| entry.value), Some(2));
    assert_eq!(seen.replaced.as_ref().map(|removed| removed.value), Some(1));
    assert!(seen.pushed_out.is_empty());
    assert_eq!((store.len(), store.weight()), (0, 0));
}

#[test]
fn a_replacement_pays_only_the_difference() {
    let store = Store::new(settings(Bound::Weight(10), Eviction::S3Fifo), RandomState::new());
    let insert = |key: u64, weight| {
        let insertion = store.insert(store.hash(&key), entry(key, weight), (weight, Moment::NEVER), START);
        (insertion.into_seen().pushed_out.len(), store.weight())
    };
    assert_eq!(insert(1, 6), (0, 6));
    assert_eq!(insert(2, 4), (0, 10));
    assert_eq!(insert(1, 5), (0, 9));
    assert_eq!(insert(1, 6), (0, 10));
    assert_eq!(insert(1, 10), (1, 10));
    assert_eq!(insert(1, 0), (0, 0));
    store.validate();
}

#[test]
fn entries_that_are_over_go_before_all_others() {
    use std::time::Duration;
    let at = |secs| Moment::from(Duration::from_secs(secs));
    let store = Store::new(settings(Bound::Entries(10), Eviction::S3Fifo), RandomState::new());
    for key in 0..10_u64 {
        let deadline = if key % 2 == 0 { at(10) } else { at(1_000) };
        store.insert(store.hash(&key), entry(key, key), (1, deadline), START);
    }
    for key in 100..105_u64 {
        let insertion = store.insert(store.hash(&key), entry(key, key), (1, Moment::NEVER), at(20));
        let (gone, why) = insertion.into_seen().pushed_out.into_iter().next().unwrap();
        assert_eq!((gone.key % 2, why), (0, PushedOut::Expired));
    }
    let insertion = store.insert(store.hash(&200_u64), entry(200, 0), (1, Moment::NEVER), at(20));
    assert_eq!(insertion.into_seen().pushed_out.into_iter().next().unwrap().1, PushedOut::Evicted);
}

#[test]
fn an_entry_is_put_only_if_it_is_admitted() {
    let store = Store::new(settings(Bound::Entries(4), Eviction::S3Fifo), RandomState::new());
    let hash = store.hash(&1_u64);
    let (mut new, terms) = (Some(entry(1_u64, 1_u64)), (1, Moment::NEVER));
    let mut insertion = Insertion::nothing(true);
    assert!(!store.put_if_admitted(hash, &mut new, terms, START, &mut insertion, |current| current.is_some()));
    assert_eq!(new.map(|entry| entry.value), Some(1));
    put(&store, 1, 2);
    let admitted = store.put_if_admitted(hash, &mut Some(entry(1, 3)), terms, START, &mut insertion, |current| {
        current.is_some_and(|entry| entry.value == 2)
    });
    assert!(admitted);
    assert_eq!(insertion.into_seen().replaced.map(|old| old.value), Some(2));
    assert_eq!(get(&store, 1), Some(3));
}

#[test]
fn only_that_very_entry_is_removed() {
    let store = Store::new(settings(Bound::Unbounded, Eviction::S3Fifo), RandomState::new());
    put(&store, 1, 1);
    let hash = store.hash(&1_u64);
    let found = store.find(hash, &1).unwrap();
    put(&store, 1, 1);
    assert!(store.remove_exact(&found).is_none());
    let found = store.find(hash, &1).unwrap();
    assert_eq!(store.remove_exact(&found).map(|removed| removed.value), Some(1));
    assert!(store.remove_exact(&found).is_none());
    assert_eq!((found.value, store.len()), (1, 0));
}

#[test]
fn a_large_capacity_takes_no_memory_before_it_is_used() {
    let store = Store::new(settings(Bound::Entries(10_000_000), Eviction::S3Fifo), RandomState::new());
    for key in 0..3 {
        put(&store, key, key);
    }
    let nodes: usize = store.yards.nodes();
    assert!(nodes <= 24, "{nodes} nodes for three entries");
    assert!(store.shards.iter().all(|shard| {
        let state = shard.lock();
        shard.table(&state.reach).is_none_or(|table| table.buckets() < 10)
    }));
}

#[test]
fn one_pass_over_many_keys_does_not_push_out_what_is_in_use() {
    let store = Store::new(settings(Bound::Entries(200), Eviction::S3Fifo), RandomState::new());
    for key in 0..100 {
        put(&store, key, key);
    }
    for _ in 0..3 {
        (0..100).for_each(|key| assert_eq!(get(&store, key), Some(key)));
    }
    for key in 1_000..if cfg!(miri) { 1_300 } else { 5_000 } {
        put(&store, key, key);
    }
    let kept = (0..100).filter(|&key| get(&store, key).is_some()).count();
    assert!(kept >= 95, "{kept} of 100 were kept");
}

#[test]
fn a_panic_in_a_key_leaves_the_store_as_it_was() {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    thread_local! { static ANGRY: Cell<bool> = const { Cell::new(false) }; }
    #[derive(Debug, Clone, Eq)]
    struct Moody(u64);
    impl PartialEq for Moody {
        fn eq(&self, other: &Moody) -> bool {
            assert!(!ANGRY.with(Cell::get), "not now");
            self.0 == other.0
        }
    }
    impl std::hash::Hash for Moody {
        fn hash<H: Hasher>(&self, state: &mut H) {
            assert!(!ANGRY.with(Cell::get), "not now");
            self.0.hash(state);
        }
    }
    let store = Store::new(settings(Bound::Entries(100), Eviction::S3Fifo), RandomState::new());
    for key in 0..100 {
        let hash = store.hash(&Moody(key));
        store.insert(hash, entry(Moody(key), key), (1, Moment::NEVER), START);
        let other = store.hash(&Moody(key / 2));
        ANGRY.with(|angry| angry.set(true));
        let calm = catch_unwind(AssertUnwindSafe(|| {
            store.insert(other, entry(Moody(key / 2), key), (1, Moment::NEVER), START);
        }));
        let calm_too = catch_unwind(AssertUnwindSafe(|| drop(store.remove(hash, &Moody(key)))));
        let and_this = catch_unwind(AssertUnwindSafe(|| store.find(hash, &Moody(key)).is_some()));
        ANGRY.with(|angry| angry.set(false));
        assert!(calm.is_err() && calm_too.is_err() && and_this.is_err());
        store.validate();
    }
    assert_eq!(store.len(), 100);
}

#[test]
fn a_panic_in_a_hash_while_the_table_grows_takes_no_room() {
    use std::cell::Cell;
    use std::hash::Hasher;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    thread_local! { static ANGRY: Cell<bool> = const { Cell::new(false) }; }
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Moody(u64);
    impl std::hash::Hash for Moody {
        fn hash<H: Hasher>(&self, state: &mut H) {
            assert!(!ANGRY.with(Cell::get), "not now");
            self.0.hash(state);
        }
    }
    for eviction in [Eviction::S3Fifo, Eviction::Lru] {
        let store = Store::new(settings(Bound::Entries(1_000), eviction), RandomState::new());
        let mut panics = 0;
        for key in 0..1_000 {
            let hash = store.hash(&Moody(key));
            ANGRY.with(|angry| angry.set(true));
            let result = catch_unwind(AssertUnwindSafe(|| {
                store.insert(hash, entry(Moody(key), key), (1, Moment::NEVER), START);
            }));
            ANGRY.with(|angry| angry.set(false));
            if result.is_err() {
                panics += 1;
                assert_eq!(store.len() as u64, key, "what was not put is not there");
                store.insert(hash, entry(Moody(key), key), (1, Moment::NEVER), START);
            }
            store.validate();
        }
        assert!(panics > 0);
        assert_eq!(store.len(), 1_000);
    }
}
