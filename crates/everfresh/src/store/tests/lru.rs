use std::collections::{BTreeMap, HashMap};
use std::hash::RandomState;

use super::*;

/// The least recently used order, kept the plain way.
#[derive(Default)]
struct Reference {
    stamps: HashMap<u64, u64>,
    order: BTreeMap<u64, u64>,
    clock: u64,
}

impl Reference {
    fn touch(&mut self, key: u64) -> bool {
        let Some(stamp) = self.stamps.get_mut(&key) else { return false };
        self.order.remove(stamp);
        self.clock += 1;
        *stamp = self.clock;
        self.order.insert(self.clock, key);
        true
    }

    fn insert(&mut self, key: u64, capacity: usize) -> Option<u64> {
        if self.touch(key) {
            return None;
        }
        let mut gone = None;
        if self.stamps.len() == capacity {
            gone = self.order.pop_first().map(|(_, key)| key);
            self.stamps.remove(&gone.unwrap());
        }
        self.clock += 1;
        self.stamps.insert(key, self.clock);
        self.order.insert(self.clock, key);
        gone
    }

    fn remove(&mut self, key: u64) {
        if let Some(stamp) = self.stamps.remove(&key) {
            self.order.remove(&stamp);
        }
    }
}

#[test]
fn lru_pushes_out_exactly_what_a_list_would() {
    let rounds = if cfg!(miri) { 400 } else { 30_000 };
    for capacity in [1, 2, 5, 40, 333, 2_500] {
        let store = Store::new(settings(Bound::Entries(capacity), Eviction::Lru), RandomState::new());
        let mut reference = Reference::default();
        let mut dice = Dice::new(capacity as u64);
        for round in 0..rounds {
            // Squared, so that some keys are much more frequent than others.
            let key = (dice.below(60) * dice.below(60)) * capacity as u64 / 700;
            match dice.below(20) {
                0 => {
                    store.remove(store.hash(&key), &key);
                    reference.remove(key);
                }
                1..=3 => {
                    let gone =
                        put(&store, key, round).into_seen().pushed_out.into_iter().next().map(|(gone, _)| gone.key);
                    assert_eq!(gone, reference.insert(key, capacity));
                }
                4 => assert_eq!(store.peek(store.hash(&key), &key).is_some(), reference.stamps.contains_key(&key)),
                _ => {
                    let hit = reference.touch(key);
                    assert_eq!(get(&store, key).is_some(), hit);
                    if !hit {
                        let gone =
                            put(&store, key, round).into_seen().pushed_out.into_iter().next().map(|(gone, _)| gone.key);
                        assert_eq!(gone, reference.insert(key, capacity));
                    }
                }
            }
            if round % 1_000 == 0 {
                store.validate();
            }
        }
    }
}
