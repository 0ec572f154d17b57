use std::collections::HashMap;
use std::hash::RandomState;

use super::*;

/// Random calls against a map that forgets whatever the store says it pushed out.
fn compare<S: BuildHasher + Default + 'static>(bound: Bound, eviction: Eviction, seed: u64, rounds: u64) {
    let store = Store::new(Settings { prompt_drop: seed.is_multiple_of(2), ..settings(bound, eviction) }, S::default());
    let mut model = HashMap::new();
    let mut dice = Dice::new(seed);
    let keys = 1 + dice.below(120);
    for round in 0..rounds {
        let key = dice.below(keys);
        let hash = store.hash(&key);
        let weight = 1 + dice.below(9);
        let now = Moment::from_nanos(round << 27);
        match dice.below(10) {
            0..=2 => assert_eq!(get(&store, key), model.get(&key).map(|&(value, _)| value)),
            3 => {
                let found = store.find(hash, &key);
                drop(put(&store, key + 1_000, round));
                model.insert(key + 1_000, (round, 1));
                model.retain(|key, _| store.peek(store.hash(key), key).is_some());
                if let Some(found) = found {
                    assert_eq!(found.key, key);
                    assert_eq!(store.remove_exact(&found).is_some(), model.remove(&key).is_some());
                }
            }
            4 => {
                let removed = store.remove(hash, &key).map(|removed| removed.value);
                assert_eq!(removed, model.remove(&key).map(|(value, _)| value));
            }
            _ => {
                let deadline = if dice.below(2) == 0 { Moment::NEVER } else { Moment::from_nanos((round + 40) << 27) };
                let insertion = store.insert(hash, entry(key, round), (weight, deadline), now).into_seen();
                let heavy = matches!(bound, Bound::Weight(most) if weight > most) || bound == Bound::Entries(0);
                assert_eq!(insertion.refused.is_some(), heavy);
                let old = model.remove(&key).map(|(value, _)| value);
                assert_eq!(insertion.replaced.as_ref().map(|old| old.value), old);
                if insertion.refused.is_none() {
                    model.insert(key, (round, weight));
                }
                for (gone, _) in insertion.pushed_out {
                    assert_eq!(model.remove(&gone.key).map(|(value, _)| value), Some(gone.value));
                }
            }
        }
        store.validate();
        assert_eq!(store.len(), model.len());
        if matches!(bound, Bound::Weight(_)) {
            assert_eq!(store.weight(), model.values().map(|&(_, weight)| weight).sum::<u64>());
        }
    }
    let mut all: Vec<_> = store.iter().map(|entry| (entry.key, entry.value)).collect();
    let mut expected: Vec<_> = model.into_iter().map(|(key, (value, _))| (key, value)).collect();
    all.sort_unstable();
    expected.sort_unstable();
    assert_eq!(all, expected);
}

#[test]
fn the_store_is_a_map_that_tells_what_it_forgets() {
    let (seeds, rounds) = if cfg!(miri) { (1, 60) } else { (6, 300) };
    for seed in 0..seeds {
        for eviction in [Eviction::S3Fifo, Eviction::Lru] {
            for bound in [
                Bound::Unbounded,
                Bound::Entries(1),
                Bound::Entries(20),
                Bound::Entries(70),
                Bound::Weight(5),
                Bound::Weight(200),
                Bound::Weight(1_100),
            ] {
                compare::<RandomState>(bound, eviction, seed, rounds);
                compare::<PoorHash<1>>(bound, eviction, seed, rounds / 4);
                compare::<PoorHash<4>>(bound, eviction, seed, rounds / 4);
            }
        }
    }
}
