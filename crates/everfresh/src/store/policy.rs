//! Which entry goes when room is needed: one of three ways, told apart here and nowhere else.

use std::sync::Arc;

use crate::store::clock::Clock;
use crate::store::frequency::Frequency;
use crate::store::ground::Ground;
use crate::store::lru::Order;
use crate::store::need::Need;
use crate::store::s3::Queues;
use crate::store::table::{Mark, Place, Table};
use crate::store::tags::{WAYS, tag};
use crate::sync::Ordering;

/// A bucket that holds so many makes its own room: that many are enough to find one among them that is worth little.
const ENOUGH: usize = 12;

pub(super) enum Policy {
    S3Fifo(Queues),
    /// The same for caches that are small enough to remember how often keys came.
    Frequency(Frequency),
    Lru(Order),
}

impl Policy {
    /// Notes an entry that is being put. `stamp` is its use, where exact uses are kept; `len` counts it already.
    #[inline]
    pub(super) fn arrive<K, V>(
        &mut self,
        clock: &mut Clock,
        table: &Table<K, V>,
        (place, home): (Place, usize),
        hash: u64,
        stamp: u64,
        len: usize,
    ) {
        let head = table.head(place.bucket());
        let fresh = Mark::new(hash, false);
        let print = fresh.print(tag(hash));
        let now = clock.arrive();
        let mark = match self {
            Policy::S3Fifo(queues) => Mark::new(hash, queues.arrive(place, home, print, now)),
            Policy::Frequency(frequency) => {
                frequency.arrive(place, home, print, now);
                fresh
            }
            Policy::Lru(order) => {
                table.stamp(place).store(stamp, Ordering::Relaxed);
                order.add(place, stamp, len);
                fresh
            }
        };
        head.set_mark(place.slot(), mark);
    }

    /// Notes an entry that takes the place of one that goes, in the home of both: as [`leave`](Policy::leave) and then
    /// [`arrive`](Policy::arrive).
    #[inline]
    pub(super) fn succeed<K, V>(
        &mut self,
        clock: &mut Clock,
        table: &Table<K, V>,
        (place, evicted): (Place, bool),
        hash: u64,
        stamp: u64,
        len: usize,
    ) {
        let home = place.bucket();
        let Policy::S3Fifo(queues) = self else {
            self.leave(table, place, home, evicted);
            return self.arrive(clock, table, (place, home), hash, stamp, len);
        };
        let head = table.head(home);
        let mark = head.mark(place.slot());
        let gone = (evicted && !mark.is_main()).then(|| mark.print(head.tags.seen().at(place.slot())));
        let print = Mark::new(hash, false).print(tag(hash));
        let main = queues.succeed(place, gone, print, clock.arrive());
        head.set_mark(place.slot(), Mark::new(hash, main));
    }

    /// Forgets the entry in a slot that is about to become empty; remembers its key if it had to make room.
    #[inline(always)]
    pub(super) fn leave<K, V>(&mut self, table: &Table<K, V>, place: Place, home: usize, evicted: bool) {
        let head = table.head(place.bucket());
        let mark = head.mark(place.slot());
        let print = mark.print(head.tags.seen().at(place.slot()));
        match self {
            Policy::S3Fifo(queues) if evicted && !mark.is_main() => queues.remember(home, print),
            Policy::S3Fifo(_) => {}
            Policy::Frequency(frequency) => frequency.leave(place, home, print, mark.uses(), evicted),
            Policy::Lru(order) => order.forget(place),
        }
    }

    /// Asks for what [`Policy::victim`] is going to look at.
    #[inline]
    pub(super) fn prefetch(&self, bucket: usize) {
        match self {
            Policy::S3Fifo(queues) => queues.prefetch(bucket),
            Policy::Frequency(_) | Policy::Lru(_) => {}
        }
    }

    /// The bucket that the next [`Policy::victim`] is going to look at besides the one that needs room, if that is chosen by now.
    #[inline]
    pub(super) fn looks_next_at(&self) -> Option<usize> {
        match self {
            Policy::Frequency(frequency) => Some(frequency.looks_next_at()),
            Policy::S3Fifo(_) | Policy::Lru(_) => None,
        }
    }

    #[inline]
    pub(super) fn victim<K, V>(&mut self, clock: &mut Clock, table: &Table<K, V>, need: Need) -> Option<Place> {
        match self {
            Policy::Lru(order) => order.oldest(table, need.spared),
            Policy::S3Fifo(queues) => {
                let free = table.head(need.home).tags.seen().free().0;
                if free.count_ones() as usize <= WAYS - ENOUGH {
                    return queues.victim(clock, table, [need.home], need.spared);
                }
                // From the one on that chance names, so that all are met alike: one that is not the own one, and not empty.
                let mut other = clock.below(table.buckets());
                (0..=table.buckets()).find_map(|_| {
                    other = table.after(other);
                    match other == need.home {
                        true => queues.victim(clock, table, [need.home], need.spared),
                        false => queues.victim(clock, table, [need.home, other], need.spared),
                    }
                })
            }
            Policy::Frequency(frequency) => frequency.victim(clock, table, need),
        }
    }

    /// The same for a table of another size, still without its entries.
    pub(super) fn for_buckets(&self, ground: &Arc<Ground>, buckets: usize) -> Policy {
        match self {
            Policy::S3Fifo(_) => Policy::S3Fifo(Queues::new(ground, buckets)),
            Policy::Frequency(frequency) => Policy::Frequency(frequency.for_buckets(buckets)),
            Policy::Lru(_) => Policy::Lru(Order::default()),
        }
    }

    /// Takes over what `before` knows of an entry; `later` makes an old time a new one.
    pub(super) fn adopt(&mut self, place: Place, before: &Policy, from: Place, later: impl Fn(u16) -> u16) {
        match (self, before) {
            (Policy::S3Fifo(queues), Policy::S3Fifo(before)) => queues.adopt(place, before, from, later),
            (Policy::Frequency(frequency), Policy::Frequency(before)) => frequency.adopt(place, before, from, later),
            _ => {}
        }
    }

    /// All entries are in the new table.
    pub(super) fn grown<K, V>(&mut self, table: &Table<K, V>, clock: &Clock) {
        match self {
            Policy::S3Fifo(_) => {}
            Policy::Frequency(frequency) => frequency.grown(clock.now()),
            Policy::Lru(order) => order.rebuild(table),
        }
    }

    /// Panics with what is wrong.
    #[cfg(any(test, everfresh_fuzz))]
    pub(super) fn validate<K, V>(&self, table: &Table<K, V>) {
        match self {
            Policy::S3Fifo(_) => {}
            Policy::Frequency(frequency) => frequency.validate(table),
            Policy::Lru(order) => order.validate(table),
        }
    }
}
