//! The exact order of uses: which entry was used longest ago.
//!
//! A read only writes its stamp next to the entry. The heap knows for each entry a stamp that it once had; when the
//! earliest comes up and its entry has been used since, it goes back with the stamp of now. So what comes up unchanged
//! is the least recently used of all.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::store::table::{Place, Table};
use crate::store::tags::WAYS;
use crate::sync::Ordering;

#[derive(Default)]
pub(super) struct Order {
    heap: BinaryHeap<Reverse<Known>>,
    /// The stamp by which the heap knows the entry of each slot; zero for none. Others in the heap are void.
    known: Vec<[u64; WAYS]>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
struct Known {
    stamp: u64,
    place: Place,
}

impl Order {
    /// The order of all that a new table holds.
    pub(super) fn rebuild<K, V>(&mut self, table: &Table<K, V>) {
        self.known = vec![[0; WAYS]; table.buckets()];
        let mut all = Vec::with_capacity(table.buckets() * WAYS);
        for place in table.taken() {
            let stamp = table.stamp(place).load(Ordering::Relaxed);
            self.known[place.bucket()][place.slot()] = stamp;
            all.push(Reverse(Known { stamp, place }));
        }
        self.heap = BinaryHeap::from(all);
    }

    /// A new entry is in this place.
    pub(super) fn add(&mut self, place: Place, stamp: u64, len: usize) {
        self.known[place.bucket()][place.slot()] = stamp;
        self.heap.push(Reverse(Known { stamp, place }));
        if self.heap.len() > 2 * len + 64 {
            let known = &self.known;
            self.heap.retain(|Reverse(item)| known[item.place.bucket()][item.place.slot()] == item.stamp);
        }
    }

    pub(super) fn forget(&mut self, place: Place) {
        self.known[place.bucket()][place.slot()] = 0;
    }

    /// The least recently used entry but `spared`. It stays in the order until it is forgotten.
    pub(super) fn oldest<K, V>(&mut self, table: &Table<K, V>, spared: Option<Place>) -> Option<Place> {
        let mut set_aside = None;
        let oldest = loop {
            let Some(Reverse(item)) = self.heap.pop() else { break None };
            let place = item.place;
            let known = &mut self.known[place.bucket()][place.slot()];
            if *known != item.stamp {
                continue;
            }
            let stamp = table.stamp(place).load(Ordering::Relaxed);
            if stamp != item.stamp {
                *known = stamp;
                self.heap.push(Reverse(Known { stamp, ..item }));
            } else if spared == Some(place) {
                set_aside = Some(item);
            } else {
                self.heap.push(Reverse(item));
                break Some(place);
            }
        };
        if let Some(item) = set_aside {
            self.heap.push(Reverse(item));
        }
        oldest
    }

    #[cfg(any(test, everfresh_fuzz))]
    /// Panics unless every entry is known exactly once.
    pub(super) fn validate<K, V>(&self, table: &Table<K, V>) {
        let mut valid = 0;
        for Reverse(item) in &self.heap {
            valid += usize::from(self.known[item.place.bucket()][item.place.slot()] == item.stamp);
        }
        let taken = table.taken().count();
        assert_eq!(valid, taken, "the heap knows each entry once");
        for place in table.taken() {
            assert_ne!(self.known[place.bucket()][place.slot()], 0, "an entry that the heap does not know");
        }
    }
}
