use std::hash::RandomState;

use super::*;
use crate::store::guard::Glanced;

/// What a glance says of a key; `None` if it says nothing.
fn glance<S: BuildHasher + 'static>(store: &Store<u64, u64, S>, key: u64) -> Option<Option<u64>> {
    match store.glance(store.hash(&key), &key) {
        Glanced::Found(found) => Some(Some(found.value)),
        Glanced::Absent => Some(None),
        Glanced::Unknown => None,
    }
}

/// Glances at all keys of a store that is as full as it gets; returns how often that told something.
fn check<S: BuildHasher + Default + 'static>(entries: u64) -> usize {
    let store = Store::new(settings(Bound::Entries(entries as usize), Eviction::S3Fifo), S::default());
    (0..entries).for_each(|key| drop(put(&store, key, key)));
    // Some leave holes behind, also in buckets that others had to pass by.
    for key in (0..entries).step_by(7) {
        drop(store.remove(store.hash(&key), &key));
    }
    let told = |key: u64| {
        let there = (key < entries && !key.is_multiple_of(7)).then_some(key);
        let told = glance(&store, key);
        assert!(told.is_none_or(|told| told == there), "{told:?} of {key}");
        told.is_some()
    };
    (0..2 * entries).filter(|&key| told(key)).count()
}

#[test]
fn a_glance_says_nothing_rather_than_what_is_wrong() {
    let (stores, entries) = if cfg!(miri) { (2, 40) } else { (60, 1_000) };
    let told: usize = (0..stores).map(|_| check::<RandomState>(entries)).sum();
    assert!(told as u64 > stores * entries, "a glance told something {told} times");
    check::<PoorHash<1>>(40);
    check::<PoorHash<40>>(100);
}

#[test]
fn keys_that_look_alike_are_told_apart_at_a_glance() {
    let store = Store::new(settings(Bound::Entries(10), Eviction::S3Fifo), PoorHash::<40>::default());
    let one = (0..1_000).map(|key: u64| store.hash(&key)).find(|hash| hash & 0xFF != 0).unwrap();
    let alike: Vec<u64> = (0..1_000).filter(|key| store.hash(key) == one).take(9).collect();
    alike[..8].iter().for_each(|&key| drop(put(&store, key, key)));
    // A thread's first read is never a glance.
    assert_eq!(get(&store, alike[0]), Some(alike[0]));
    for &key in &alike[..8] {
        assert_eq!(glance(&store, key), Some(Some(key)));
    }
    assert_eq!(glance(&store, alike[8]), Some(None));
}

#[test]
fn where_a_read_has_more_to_do_a_glance_says_nothing() {
    for (eviction, prompt_drop) in [(Eviction::Lru, false), (Eviction::S3Fifo, true)] {
        let store = Store::new(Settings { prompt_drop, ..settings(Bound::Entries(10), eviction) }, RandomState::new());
        put(&store, 1, 1);
        assert_eq!((glance(&store, 1), glance(&store, 2)), (None, None));
    }
}
