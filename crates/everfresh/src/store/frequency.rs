//! Small caches: who leaves the small part gets into the main part only if its key came clearly more often.
//!
//! As in [`s3`](super::s3) there is a small part that all new entries pass through and a main part. Whose turn has come in
//! the small part meets an entry that is seldom used in the main part, and takes its place only if it is ahead by more
//! than one use (the admission of TinyLFU, Einziger, Friedman, Manes 2017, with a margin). So a loop over more keys than
//! fit keeps a part of them instead of none, and keys at the turn of a scan, which come twice in a row, do not push out the
//! others. The counts of keys that are not here are kept in a sketch; all counts are halved from time to time, rounded up
//! for those who are in: of two that come as often, the one that is here stays.

use crate::store::ages::Ages;
use crate::store::clock::Clock;
use crate::store::counts::{CHOSEN, Least, add, chosen, least};
use crate::store::need::Need;
use crate::store::table::{Place, Table};
use crate::store::waiting::{Waiter, Waiting};

/// The small part, in hundredths of the cache: enough for keys that come again soon, as each entry passes through all of it.
const SMALL: usize = 6;
/// By how much an entry must be ahead.
const MARGIN: u8 = 1;
/// Counts end here.
const MOST: u8 = 15;
/// All counts are halved after so many uses for each entry that fits.
const MEMORY: usize = 20;
/// But not sooner than this: a loop may be many times as long as what fits.
const SHORTEST: usize = 2048;
/// Counters that a shard of middling size has in all.
const COUNTERS: usize = 1 << 13;

/// In the small part, in the main part: one of both for a slot that is taken.
const WAITS: u8 = 0x40;
const MAIN: u8 = CHOSEN;

pub(super) struct Frequency {
    /// Entries that the shard is to hold.
    capacity: usize,
    /// For each slot a count, and which part the entry is in.
    counts: Vec<[u8; 16]>,
    /// When it came to its part.
    times: Vec<[u16; 16]>,
    main: usize,
    /// The small part.
    waiting: Waiting,
    /// The bucket that is looked at next besides the one that needs room: by chance.
    other: usize,
    /// An entry had to go since the last one came.
    made_room: bool,
    sketch: Sketch,
    /// Uses since the counts were halved.
    uses: usize,
}

impl Frequency {
    pub(super) fn new(capacity: usize) -> Frequency {
        Frequency {
            capacity,
            counts: Vec::new(),
            times: Vec::new(),
            main: 0,
            waiting: Waiting::default(),
            other: 0,
            made_room: false,
            sketch: Sketch::new(0),
            uses: 0,
        }
    }

    pub(super) fn for_buckets(&self, buckets: usize) -> Frequency {
        let (counts, times) = (vec![[0; 16]; buckets], vec![[0; 16]; buckets]);
        let (waiting, sketch) = (Waiting::default(), Sketch::new(buckets));
        Frequency { counts, times, main: 0, waiting, sketch, ..*self }
    }

    pub(super) fn adopt(&mut self, place: Place, before: &Frequency, from: Place, later: impl Fn(u16) -> u16) {
        let count = before.counts[from.bucket()][from.slot()];
        self.settle(place, count, later(before.times[from.bucket()][from.slot()]));
    }

    /// All entries were adopted, in whatever order.
    pub(super) fn grown(&mut self, now: u16) {
        self.waiting.sort(now);
    }

    #[inline(never)]
    pub(super) fn arrive(&mut self, place: Place, home: usize, print: u16, now: u16) {
        let count = (self.sketch.count(home, print) + 1).min(MOST);
        self.sketch.raise(home, print, count);
        // While there is room, entries come to stay: else a loop would find nothing that lasts.
        let room = !std::mem::take(&mut self.made_room);
        let main = room && self.main + self.small() < self.capacity;
        self.settle(place, count | if main { MAIN } else { WAITS }, now);
        self.count_uses(1);
    }

    /// Notes an entry in its part.
    fn settle(&mut self, place: Place, count: u8, since: u16) {
        self.counts[place.bucket()][place.slot()] = count;
        self.times[place.bucket()][place.slot()] = since;
        if count & MAIN != 0 {
            self.main += 1;
        } else {
            let waits = waits(&self.counts, &self.times);
            self.waiting.push(Waiter { place, since }, waits);
        }
    }

    #[inline(never)]
    pub(super) fn leave(&mut self, place: Place, home: usize, print: u16, uses: u8, evicted: bool) {
        let count = std::mem::take(&mut self.counts[place.bucket()][place.slot()]);
        if count & MAIN != 0 {
            self.main -= 1;
        } else {
            self.waiting.forget_one();
        }
        if evicted {
            self.made_room = true;
            self.sketch.raise(home, print, ((count & MOST) + uses).min(MOST));
        }
    }

    fn small(&self) -> usize {
        self.capacity * SMALL / 100
    }

    fn count_uses(&mut self, uses: usize) {
        self.uses += uses;
        if self.uses >= (MEMORY * self.capacity).max(SHORTEST) {
            self.uses = 0;
            self.sketch.halve();
            for count in self.counts.iter_mut().flatten() {
                *count = (*count & !MOST) | (((*count & MOST) + u8::from(*count & MAIN != 0)) / 2);
            }
        }
    }

    /// The entry to go.
    #[inline(never)]
    pub(super) fn victim<K, V>(&mut self, clock: &mut Clock, table: &Table<K, V>, need: Need) -> Option<Place> {
        let mut other = self.other.min(table.buckets() - 1);
        self.other = clock.below(table.buckets());
        let crowded = need.len - self.main > self.small();
        let first = self.waiting.first(need.spared, waits(&self.counts, &self.times));
        let mut least = self.least(clock, table, [need.home, other], need.spared);
        if first.is_none() && least.is_none() {
            // Both were empty; some other bucket is not.
            least = (0..table.buckets()).find_map(|_| {
                other = table.after(other);
                self.least(clock, table, [other, other], need.spared)
            });
        }
        let (Some(first), Some(least)) = (first, least) else { return first.or(least.map(|least| least.place)) };
        if !crowded {
            return Some(least.place);
        }
        let count = self.take_uses(table, first);
        if count <= least.count + MARGIN {
            return Some(first);
        }
        self.counts[first.bucket()][first.slot()] ^= MAIN | WAITS;
        self.times[first.bucket()][first.slot()] = clock.now();
        self.main += 1;
        self.waiting.forget_one();
        Some(least.place)
    }

    pub(super) fn looks_next_at(&self) -> usize {
        self.other
    }

    /// The least frequent of the main part, the oldest of them: in these buckets, but not `spared`.
    fn least<K, V>(
        &mut self,
        clock: &Clock,
        table: &Table<K, V>,
        buckets: [usize; 2],
        spared: Option<Place>,
    ) -> Option<Candidate> {
        let [own, other] = buckets;
        self.take_uses_of_main(table, own);
        self.take_uses_of_main(table, other);
        // It is not in the main part while the others are compared.
        let hidden = spared.map(|place| std::mem::take(&mut self.counts[place.bucket()][place.slot()]));
        let least = least([&self.counts[own], &self.counts[other]]);
        if let (Some(place), Some(count)) = (spared, hidden) {
            self.counts[place.bucket()][place.slot()] = count;
        }
        let Least { count, slots } = least?;
        let ages = Ages::of([&self.times[own], &self.times[other]], clock.now());
        Some(Candidate { place: ages.oldest(slots)?.place(buckets), count })
    }

    /// Moves the uses that readers counted to the counts of a bucket's entries in the main part.
    #[inline]
    fn take_uses_of_main<K, V>(&mut self, table: &Table<K, V>, bucket: usize) {
        let head = table.head(bucket);
        let counts = &mut self.counts[bucket];
        let main = chosen(counts);
        let [once, again] = head.all_used().map(|used| used & main);
        if once != 0 {
            add(counts, [once, again]);
            self.uses += (once.count_ones() + again.count_ones()) as usize;
            head.forget_uses(once);
        }
    }

    /// The same of one entry, whose count is returned.
    fn take_uses<K, V>(&mut self, table: &Table<K, V>, place: Place) -> u8 {
        let head = table.head(place.bucket());
        let uses = head.mark(place.slot()).uses();
        let count = &mut self.counts[place.bucket()][place.slot()];
        *count = (*count & !MOST) | ((*count & MOST) + uses).min(MOST);
        self.uses += usize::from(uses);
        head.forget_uses(1 << place.slot());
        *count & MOST
    }

    /// Panics with what is wrong.
    #[cfg(any(test, everfresh_fuzz))]
    pub(super) fn validate<K, V>(&self, table: &Table<K, V>) {
        let in_main = |count: &u8| count & MAIN != 0;
        assert_eq!(self.main, self.counts.iter().flatten().filter(|count| in_main(count)).count(), "the main part");
        let waits = |place: &Place| self.counts[place.bucket()][place.slot()] & WAITS != 0;
        self.waiting.validate(table.taken().filter(waits));
        for (bucket, counts) in self.counts.iter().enumerate() {
            for slot in table.head(bucket).tags.seen().free() {
                assert_eq!(counts[slot], 0, "a free slot has a count");
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Candidate {
    place: Place,
    count: u8,
}

/// Whether a waiter still waits.
fn waits(counts: &[[u8; 16]], times: &[[u16; 16]]) -> impl Fn(Waiter) -> bool {
    move |Waiter { place, since }| {
        counts[place.bucket()][place.slot()] & WAITS != 0 && times[place.bucket()][place.slot()] == since
    }
}

/// About how often keys came, in two counters of four bits for each: the smaller one is nearer to the truth.
struct Sketch {
    counters: Vec<u8>,
    /// Counters of each bucket, a power of two.
    width: usize,
}

impl Sketch {
    fn new(buckets: usize) -> Sketch {
        // More for each key when there are few: then a mistake weighs more, and memory less.
        let each = COUNTERS.div_ceil(buckets.max(1)).next_power_of_two();
        let width = if buckets == 0 { 0 } else { each.clamp(256, 2048) };
        Sketch { counters: vec![0; buckets * width / 2], width }
    }

    fn places(&self, bucket: usize, print: u16) -> [(usize, u32); 2] {
        let mixed = (u64::from(print) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        [mixed >> 48, mixed >> 32].map(|bits| {
            let counter = bits as usize & (self.width - 1);
            ((bucket * self.width + counter) / 2, (counter % 2 * 4) as u32)
        })
    }

    fn count(&self, bucket: usize, print: u16) -> u8 {
        let [one, two] = self.places(bucket, print).map(|(byte, shift)| self.counters[byte] >> shift & 0xF);
        one.min(two)
    }

    /// Makes the count at least this.
    fn raise(&mut self, bucket: usize, print: u16, count: u8) {
        debug_assert!(count <= MOST);
        for (byte, shift) in self.places(bucket, print) {
            let both = &mut self.counters[byte];
            if *both >> shift & 0xF < count {
                *both = *both & !(0xF << shift) | count << shift;
            }
        }
    }

    fn halve(&mut self) {
        for both in &mut self.counters {
            *both = *both >> 1 & 0x77;
        }
    }
}

#[cfg(all(test, not(everfresh_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_sketch_never_counts_too_little() {
        let mut sketch = Sketch::new(3);
        for print in 1..500_u16 {
            sketch.raise(1, print, (print % 16) as u8);
        }
        assert!((1..500_u16).all(|print| sketch.count(1, print) >= (print % 16) as u8));
        assert!((1..500_u16).all(|print| sketch.count(0, print) == 0));
        let exact = (1..500_u16).filter(|&print| sketch.count(1, print) == (print % 16) as u8).count();
        assert!(exact > 400, "{exact} of 499 are exact");
        sketch.halve();
        assert!((1..500_u16).all(|print| sketch.count(1, print) >= (print % 16) as u8 / 2));
    }
}
