//! What the store promises, checked from outside; what its parts promise is checked next to them.

mod bounded;
mod drops;
mod glances;
mod lru;
mod model;
mod stress;
mod walks;

use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::thread::ScopedJoinHandle;

use crate::entry::Entry;
use crate::history::Began;
use crate::lifetime::Life;
use crate::moment::Moment;
use crate::store::bound::{Bound, Eviction, Settings};
use crate::store::guard::Insertion;
use crate::store::map::Store;

pub(super) const START: Moment = Moment::from_nanos(0);

/// An entry with nothing but a key and a value.
pub(super) fn entry<K, V>(key: K, value: V) -> Entry<K, V> {
    Entry::plain(key, value, START, (Life::FOREVER, 0), Began { epoch: 0, tag_point: 0 })
}

pub(super) fn settings(bound: Bound, eviction: Eviction) -> Settings {
    Settings { bound, eviction, prompt_drop: false, since: Moment::default() }
}

pub(super) fn put<S: BuildHasher + 'static>(
    store: &Store<u64, u64, S>,
    key: u64,
    value: u64,
) -> Insertion<'_, u64, u64> {
    store.insert(store.hash(&key), entry(key, value), (1, Moment::NEVER), START)
}

pub(super) fn get<S: BuildHasher + 'static>(store: &Store<u64, u64, S>, key: u64) -> Option<u64> {
    store.find(store.hash(&key), &key).map(|found| found.value)
}

/// Waits for threads in so many words: that their scope waits for them, too, is done inside std, where the thread sanitizer
/// does not see it.
pub(super) fn join<'s>(threads: impl IntoIterator<Item = ScopedJoinHandle<'s, ()>>) {
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Some numbers, the same in each run.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}

/// A hasher that knows only so many hashes.
#[derive(Default, Clone)]
pub(super) struct Poor<const HASHES: u64>(u64);

pub(super) type PoorHash<const HASHES: u64> = BuildHasherDefault<Poor<HASHES>>;

impl<const HASHES: u64> Hasher for Poor<HASHES> {
    fn finish(&self) -> u64 {
        self.0 % HASHES
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0.rotate_left(8) ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
    }
}
