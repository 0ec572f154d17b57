//! The store as a fuzzer sees it: bytes in, operations out, checked against a map and against its own structure.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

use crate::entry::Entry;
use crate::history::Began;
use crate::lifetime::Life;
use crate::moment::Moment;
use crate::store::{Bound, Eviction, Judgement, Settings, Store};

/// A hasher as poor as the input wants it: only some bits of the key count.
#[derive(Clone)]
struct Masked(u64);

struct MaskedHasher {
    mask: u64,
    state: u64,
}

impl BuildHasher for Masked {
    type Hasher = MaskedHasher;

    fn build_hasher(&self) -> MaskedHasher {
        MaskedHasher { mask: self.0, state: 0 }
    }
}

impl Hasher for MaskedHasher {
    fn finish(&self) -> u64 {
        (self.state & self.mask).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.state = self.state << 8 | u64::from(*byte);
        }
    }
}

/// Runs the operations that `data` spells, with a full check after each.
///
/// # Panics
/// If the store and the map that it is compared with disagree, or the store's structure is broken.
pub fn store(data: &[u8]) {
    let mut bytes = data.iter().copied();
    let mut next = || bytes.next();
    let (Some(shape), Some(size), Some(mask)) = (next(), next(), next()) else { return };
    let bound = match shape % 3 {
        0 => Bound::Entries(1 + usize::from(size)),
        1 => Bound::Weight(1 + u64::from(size)),
        _ => Bound::Unbounded,
    };
    let eviction = if shape & 4 == 0 { Eviction::S3Fifo } else { Eviction::Lru };
    let settings = Settings { bound, eviction, prompt_drop: shape & 8 != 0, since: Moment::default() };
    let store: Store<u16, u64, Masked> = Store::new(settings, Masked(u64::from(mask)));
    let mut map: HashMap<u16, u64> = HashMap::new();
    let mut round = 0_u64;
    while let (Some(operation), Some(key), Some(argument)) = (next(), next(), next()) {
        round += 1;
        let key = u16::from(key) | u16::from(operation >> 4) << 8;
        let hash = store.hash(&key);
        let now = Moment::from_nanos(round << 28);
        match operation & 7 {
            0 | 1 => assert_eq!(store.find(hash, &key).map(|found| found.value), map.get(&key).copied()),
            2 => assert_eq!(store.remove(hash, &key).map(|gone| gone.value), map.remove(&key)),
            3 => {
                let found = store.peek(hash, &key);
                let gone = found.as_ref().and_then(|found| store.remove_exact(found));
                assert_eq!(gone.map(|gone| gone.value), map.remove(&key));
            }
            4 => store.sweep(
                if argument & 1 == 0 { Moment::NEVER } else { now },
                |entry| match (entry.key % 7, argument % 5) {
                    (0, _) => Judgement::Remove,
                    (1, 0) => Judgement::KeepUntil(now),
                    _ => Judgement::Keep,
                },
                |gone| assert_eq!(map.remove(&gone.key), Some(gone.value)),
            ),
            _ => {
                let deadline = match argument & 3 {
                    0 => Moment::NEVER,
                    wait => Moment::from_nanos((round + u64::from(wait) * 8) << 28),
                };
                let began = Began { epoch: 0, tag_point: 0 };
                let entry = Entry::plain(key, round, now, (Life::FOREVER, 0), began);
                let insertion = store.insert(hash, entry, (u64::from(argument >> 2), deadline), now).into_seen();
                assert_eq!(insertion.replaced.as_ref().map(|old| old.value), map.remove(&key));
                if insertion.refused.is_none() {
                    map.insert(key, round);
                }
                for (gone, _) in insertion.pushed_out {
                    assert_eq!(map.remove(&gone.key), Some(gone.value));
                }
            }
        }
        store.validate();
        assert_eq!(store.len(), map.len());
    }
}
