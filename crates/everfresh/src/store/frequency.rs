//! Small caches: who leaves the small part gets into the main part only if its key came clearly more often.
//!
//! As in [`s3`](super::s3) there is a small part that all new entries pass through and a main part. What the small part
//! gives up meets the least frequent entry of the main part, and takes its place only if it is ahead by more than one use
//! (the admission of TinyLFU, Einziger, Friedman, Manes 2017, with a margin). So a loop over more keys than fit keeps a
//! part of them instead of none, and keys at the turn of a scan, which come twice in a row, do not push out the others.
//! The counts of keys that are not here are kept in a sketch; all counts are halved from time to time.

use crate::store::clock::Clock;
use crate::store::policy::Need;
use crate::store::table::{Place, Table};

/// The small part, in hundredths of the cache.
const SMALL: usize = 13;
/// By how much an entry must be ahead.
const MARGIN: u8 = 1;
/// Counts end here.
const MOST: u8 = 15;
/// All counts are halved after so many uses for each entry that fits.
const MEMORY: usize = 20;
/// But not sooner than this: a loop may be many times as long as what fits.
const SHORTEST: usize = 4096;
/// Counters that a table of middling size has in all.
const COUNTERS: usize = 1 << 16;
/// Buckets that are searched for an entry of the small part.
const SEARCHED: usize = 6;

const MAIN: u8 = 0x80;

pub(super) struct Frequency {
    /// Entries that the shard is to hold.
    capacity: usize,
    /// For each slot a count, and whether the entry is in the main part.
    counts: Vec<[u8; 16]>,
    /// When it came to its part.
    times: Vec<[u16; 16]>,
    main: usize,
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
            made_room: false,
            sketch: Sketch::new(0),
            uses: 0,
        }
    }

    pub(super) fn for_buckets(&self, buckets: usize) -> Frequency {
        let sketch = Sketch::new(buckets);
        Frequency { counts: vec![[0; 16]; buckets], times: vec![[0; 16]; buckets], main: 0, sketch, ..*self }
    }

    pub(super) fn adopt(&mut self, place: Place, before: &Frequency, from: Place, later: impl Fn(u16) -> u16) {
        let count = before.counts[from.bucket()][from.slot()];
        self.counts[place.bucket()][place.slot()] = count;
        self.times[place.bucket()][place.slot()] = later(before.times[from.bucket()][from.slot()]);
        self.main += usize::from(count & MAIN != 0);
    }

    pub(super) fn arrive(&mut self, place: Place, home: usize, print: u16, now: u16) {
        let count = (self.sketch.count(home, print) + 1).min(MOST);
        self.sketch.raise(home, print, count);
        // While there is room, entries come to stay: else a loop would find nothing that lasts.
        let room = !std::mem::take(&mut self.made_room);
        let main = room && self.main + self.small() < self.capacity;
        self.main += usize::from(main);
        self.counts[place.bucket()][place.slot()] = count | if main { MAIN } else { 0 };
        self.times[place.bucket()][place.slot()] = now;
        self.count_uses(1);
    }

    pub(super) fn leave(&mut self, place: Place, home: usize, print: u16, uses: u8, evicted: bool) {
        let count = std::mem::take(&mut self.counts[place.bucket()][place.slot()]);
        self.main -= usize::from(count & MAIN != 0);
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
                *count = (*count & MAIN) | ((*count & MOST) / 2);
            }
        }
    }

    /// The entry to go.
    pub(super) fn victim<K, V>(&mut self, clock: &mut Clock, table: &Table<K, V>, need: Need) -> Option<Place> {
        let crowded = need.len - self.main > self.small();
        let mut candidates = Candidates::default();
        self.consider(&mut candidates, clock, table, need.home, need.spared);
        let all = table.buckets() <= SEARCHED;
        let mut bucket = need.home;
        for step in 1..if all { table.buckets() } else { SEARCHED + table.buckets() } {
            let enough = candidates.small.is_some() || !crowded && candidates.main.is_some();
            if step > 1 && (enough || step >= SEARCHED && candidates.main.is_some()) {
                break;
            }
            // The others in turn if they are few or nothing was found by chance, else some.
            bucket = if all || step > SEARCHED { table.after(bucket) } else { clock.below(table.buckets()) };
            if bucket != need.home || all {
                self.consider(&mut candidates, clock, table, bucket, need.spared);
            }
        }
        let (small, main) = (candidates.small, candidates.main);
        match (small, main) {
            (Some(small), Some(main)) if crowded => {
                let count = self.take_uses(table, small.place);
                if count <= main.count + MARGIN {
                    return Some(small.place);
                }
                self.counts[small.place.bucket()][small.place.slot()] |= MAIN;
                self.main += 1;
                self.times[small.place.bucket()][small.place.slot()] = clock.now();
                Some(main.place)
            }
            (Some(small), None) => Some(small.place),
            (_, main) => main.map(|main| main.place),
        }
    }

    /// Looks for the oldest entry of the small part and the least frequent of the main one.
    fn consider<K, V>(
        &mut self,
        candidates: &mut Candidates,
        clock: &Clock,
        table: &Table<K, V>,
        bucket: usize,
        spared: Option<Place>,
    ) {
        for place in table.taken_in(bucket).filter(|&place| spared != Some(place)) {
            let age = clock.now().wrapping_sub(self.times[bucket][place.slot()]);
            let main = self.counts[bucket][place.slot()] & MAIN != 0;
            if main {
                let count = self.take_uses(table, place);
                if candidates.main.is_none_or(|best| (count, best.age) < (best.count, age)) {
                    candidates.main = Some(Candidate { place, age, count });
                }
            } else if candidates.small.is_none_or(|best| age > best.age) {
                candidates.small = Some(Candidate { place, age, count: 0 });
            }
        }
    }

    /// Moves the uses that readers counted to the count, and returns that.
    fn take_uses<K, V>(&mut self, table: &Table<K, V>, place: Place) -> u8 {
        let head = table.head(place.bucket());
        let mark = head.mark(place.slot());
        let uses = mark.uses();
        let count = &mut self.counts[place.bucket()][place.slot()];
        let sum = ((*count & MOST) + uses).min(MOST);
        if uses > 0 {
            *count = (*count & MAIN) | sum;
            head.set_mark(place.slot(), mark.with_uses(0));
            self.uses += usize::from(uses);
        }
        sum
    }

    /// Panics with what is wrong.
    #[cfg(any(test, everfresh_fuzz))]
    pub(super) fn validate<K, V>(&self, table: &Table<K, V>) {
        let in_main = |count: &u8| count & MAIN != 0;
        assert_eq!(self.main, self.counts.iter().flatten().filter(|count| in_main(count)).count(), "the main part");
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
    age: u16,
    count: u8,
}

#[derive(Default)]
struct Candidates {
    small: Option<Candidate>,
    main: Option<Candidate>,
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
