//! S3-FIFO within the buckets: which entry goes when room is needed.
//!
//! New entries are in the small part, and move to the main part if they were used; what falls out of the small part
//! leaves a print of its hash behind (a ghost), and goes straight to the main part when it comes again. The main part is
//! a queue whose head gets another round for each use. Instead of two lists there are ages and marks in the buckets, and
//! the candidates are the entries of the bucket that needs room, and of one other where those are few.

use std::sync::Arc;

use crate::store::ages::{Ages, joined, of_bucket};
use crate::store::ahead::prefetch;
use crate::store::clock::Clock;
use crate::store::ground::{Ground, Plot};
use crate::store::table::{Head, MOST_USES, Place, Table};
use crate::store::tags::Slots;

/// Prints kept for each bucket: about as many as it holds entries.
const GHOSTS: usize = 15;
/// Where a line of ghosts keeps the place of its oldest.
const CURSOR: usize = 15;
/// The small part is too large when it is more than one in so many: of a bucket it is one entry, or two if that is nearly full.
const SHARE: u32 = 14;
/// Rounds that a search for the entry to go makes at most.
const ROUNDS: u8 = 2 * MOST_USES + 2;

/// What is noted of each bucket, in a cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line {
    /// When each entry came to its part.
    times: [u16; 16],
    /// Prints of what left the small part lately, and the place of the oldest.
    ghosts: [u16; 16],
}

impl Line {
    #[inline]
    fn remember(&mut self, print: u16) {
        let cursor = usize::from(self.ghosts[CURSOR]) % GHOSTS;
        self.ghosts[cursor] = print;
        self.ghosts[CURSOR] = ((cursor + 1) % GHOSTS) as u16;
    }

    /// Whether there is a ghost with this print, which is one no longer.
    #[inline]
    fn recall(&mut self, print: u16) -> bool {
        let ghost = Slots(equal_to(&self.ghosts, print) & ((1 << GHOSTS) - 1)).next();
        if let Some(ghost) = ghost {
            self.ghosts[ghost] = 0;
        }
        ghost.is_some()
    }
}

pub(super) struct Queues(Plot<Line>);

impl Queues {
    pub(super) fn new(ground: &Arc<Ground>, buckets: usize) -> Queues {
        Queues(Plot::new(ground, buckets, || Line { times: [0; 16], ghosts: [0; 16] }))
    }

    /// What is noted of a bucket, in bytes.
    pub(super) fn bytes_of_bucket() -> usize {
        size_of::<Line>()
    }

    pub(super) fn adopt(&mut self, place: Place, before: &Queues, from: Place, later: impl Fn(u16) -> u16) {
        self.0[place.bucket()].times[place.slot()] = later(before.0[from.bucket()].times[from.slot()]);
    }

    /// Notes a new entry. Returns whether its key left the small part not long ago.
    #[inline]
    pub(super) fn arrive(&mut self, place: Place, home: usize, print: u16, now: u16) -> bool {
        self.0[place.bucket()].times[place.slot()] = now;
        self.0[home].recall(print)
    }

    /// Notes a new entry in the place of one that goes, in the home of both; `gone` is the print of that one, if it is to be remembered.
    /// Returns what [`arrive`](Queues::arrive) does.
    #[inline]
    pub(super) fn succeed(&mut self, place: Place, gone: Option<u16>, print: u16, now: u16) -> bool {
        let line = &mut self.0[place.bucket()];
        if let Some(gone) = gone {
            line.remember(gone);
        }
        line.times[place.slot()] = now;
        line.recall(print)
    }

    #[inline]
    pub(super) fn prefetch(&self, bucket: usize) {
        prefetch(&self.0[bucket]);
    }

    #[inline]
    pub(super) fn remember(&mut self, bucket: usize, print: u16) {
        self.0[bucket].remember(print);
    }

    /// The entry to go: of these buckets, which differ, but not `spared`. `None` if they hold nothing else.
    pub(super) fn victim<const N: usize, K, V>(
        &mut self,
        clock: &Clock,
        table: &Table<K, V>,
        buckets: [usize; N],
        spared: Option<Place>,
    ) -> Option<Place> {
        let now = clock.now();
        let heads = buckets.map(|bucket| table.head(bucket));
        let mut taken = heads.map(|head| head.tags.seen().taken().0);
        if let Some(place) = spared {
            (0..N)
                .filter(|&index| buckets[index] == place.bucket())
                .for_each(|index| taken[index] &= !(1 << place.slot()));
        }
        let live = joined(taken);
        if live == 0 {
            return None;
        }
        // Each round without a victim takes a use from all that have one, or all of them out of the small part. Readers may count
        // uses meanwhile, so the rounds are bounded.
        for _ in 0..ROUNDS {
            let main = joined(heads.map(Head::main)) & live;
            let small = live & !main;
            let [small_count, count] = counts([small, live]);
            let from_small = small_count * SHARE > count || main == 0;
            let queue = if from_small { small } else { main };
            let used = joined(heads.map(Head::used)) & queue;
            let ages = self.ages(buckets, now);
            let oldest = ages.oldest(queue & !used);
            if used != 0 {
                // Who was used and is older would have been asked before: he goes to the main part, or to its end. All at once, also
                // if the small part has less than its share then.
                let older = used & oldest.map_or(used, |oldest| ages.older_than(oldest.age));
                for index in 0..N {
                    match (of_bucket(older, index), from_small) {
                        (0, _) => continue,
                        (older, true) => heads[index].promote(older),
                        (older, false) => heads[index].use_up(older),
                    }
                    self.renew(buckets[index], of_bucket(older, index), now);
                }
            }
            if let Some(oldest) = oldest {
                return Some(oldest.place(buckets));
            }
        }
        Some(self.ages(buckets, now).oldest(live)?.place(buckets))
    }

    fn ages<const N: usize>(&self, buckets: [usize; N], now: u16) -> Ages<N> {
        Ages::of(buckets.map(|bucket| &self.0[bucket].times), now)
    }

    /// These have come to their part now.
    #[inline]
    fn renew(&mut self, bucket: usize, slots: u16, now: u16) {
        let times = &mut self.0[bucket].times;
        for slot in Slots(slots) {
            times[slot & 0xF] = now;
        }
    }
}

/// How many are in each of two sets: at once, for not every processor that this is built for counts them by itself.
#[inline]
fn counts([one, two]: [u32; 2]) -> [u32; 2] {
    let mut sums = u64::from(one) | u64::from(two) << 32;
    sums -= sums >> 1 & 0x5555_5555_5555_5555;
    sums = (sums & 0x3333_3333_3333_3333) + (sums >> 2 & 0x3333_3333_3333_3333);
    sums = (sums + (sums >> 4)) & 0x0F0F_0F0F_0F0F_0F0F;
    // The uppermost byte of each half is the sum of that half.
    sums = sums.wrapping_mul(0x0101_0101);
    [(sums >> 24) as u32 & 0xFF, (sums >> 56) as u32]
}

/// Which of these are `wanted`.
#[inline]
fn equal_to(all: &[u16; 16], wanted: u16) -> u16 {
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
    return equal_at_once(all, wanted);
    #[cfg(not(all(target_arch = "x86_64", target_feature = "sse2", not(miri))))]
    return equal_in_turn(all, wanted);
}

#[cfg_attr(all(target_arch = "x86_64", target_feature = "sse2", not(miri)), allow(dead_code))]
#[inline]
fn equal_in_turn(all: &[u16; 16], wanted: u16) -> u16 {
    (0..16).fold(0, |equal, index| equal | u16::from(all[index] == wanted) << index)
}

#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
#[inline]
#[allow(unsafe_code, reason = "the intrinsics; SSE2 is part of the target")]
fn equal_at_once(all: &[u16; 16], wanted: u16) -> u16 {
    use std::arch::x86_64::*;
    // SAFETY: SSE2 is there by the cfg above; both loads are within the sixteen numbers.
    unsafe {
        let equal = |half: usize| {
            _mm_cmpeq_epi16(_mm_loadu_si128(all.as_ptr().add(8 * half).cast()), _mm_set1_epi16(wanted as i16))
        };
        _mm_movemask_epi8(_mm_packs_epi16(equal(0), equal(1))) as u16
    }
}

#[cfg(all(test, not(everfresh_loom)))]
mod tests {
    use super::*;

    #[test]
    fn two_sets_are_counted_at_once() {
        let sets = (0..10_000_u32).map(|turn| turn.wrapping_mul(0x9E37_79B9)).chain([0, u32::MAX]);
        for (one, two) in sets.clone().zip(sets.skip(1).chain([u32::MAX])) {
            assert_eq!(counts([one, two]), [one.count_ones(), two.count_ones()]);
        }
    }

    #[test]
    fn every_way_to_compare_finds_the_equal_ones() {
        let all = std::array::from_fn(|index| [7, 0, u16::MAX, 1 << 15, 7][index % 5]);
        for wanted in [0, 1, 7, 1 << 15, u16::MAX] {
            assert_eq!(equal_to(&all, wanted), equal_in_turn(&all, wanted));
        }
        assert_eq!(equal_in_turn(&all, 7), 0b1100_0110_0011_0001);
    }

    /// A bucket of entries with these slots and uses, of which each came a while after the one before.
    fn bucket(queues: &mut Queues, uses: &[(usize, usize)]) -> (Table<u64, u64>, Clock) {
        let table = Table::new(&Ground::new(), 1, false);
        let mut clock = Clock::new(1);
        for &(slot, uses) in uses {
            table.head(0).tags.set(slot, 1);
            queues.arrive(Place::new(0, slot), 0, 1, clock.arrive());
            (0..uses).for_each(|_| table.head(0).touch(slot));
        }
        (table, clock)
    }

    #[test]
    fn who_was_used_goes_to_the_main_part_before_an_unused_one_goes() {
        let mut queues = Queues::new(&Ground::new(), 1);
        let (table, clock) = bucket(&mut queues, &[(3, 1), (7, 2), (5, 0), (2, 1), (9, 0)]);
        let victim = queues.victim(&clock, &table, [0], None);
        assert_eq!(victim, Some(Place::new(0, 5)), "the oldest that was not used");
        assert_eq!(table.head(0).main(), 1 << 3 | 1 << 7, "those before it, and no other");
        assert_eq!(table.head(0).used(), 1 << 2, "their uses are spent");
        assert_eq!(queues.victim(&clock, &table, [0], Some(Place::new(0, 5))), Some(Place::new(0, 9)));
    }

    #[test]
    fn there_is_a_victim_also_where_all_were_used_and_none_where_there_is_nothing() {
        let mut queues = Queues::new(&Ground::new(), 1);
        for main in [0, 1 << 3 | 1 << 7, 1 << 3 | 1 << 7 | 1 << 5] {
            let (table, clock) = bucket(&mut queues, &[(3, 2), (7, 2), (5, 2)]);
            table.head(0).promote(main);
            [3, 7, 5].iter().for_each(|&slot| (0..2).for_each(|_| table.head(0).touch(slot)));
            assert_eq!(table.head(0).used(), 1 << 3 | 1 << 7 | 1 << 5);
            assert!(queues.victim(&clock, &table, [0], None).is_some_and(|place| [3, 5, 7].contains(&place.slot())));
        }
        let (table, clock) = bucket(&mut queues, &[(3, 2)]);
        assert_eq!(queues.victim(&clock, &table, [0], Some(Place::new(0, 3))), None, "it is spared");
        assert_eq!(table.head(0).used(), 1 << 3, "and stays as it is");
    }

    #[test]
    fn the_oldest_of_two_buckets_goes_and_those_before_it_are_promoted_in_both() {
        let mut queues = Queues::new(&Ground::new(), 2);
        let table = Table::<u64, u64>::new(&Ground::new(), 2, false);
        let mut clock = Clock::new(1);
        for (bucket, slot, used) in [(1, 4, true), (0, 4, true), (1, 6, false), (0, 9, false), (0, 2, true)] {
            table.head(bucket).tags.set(slot, 1);
            queues.arrive(Place::new(bucket, slot), bucket, 1, clock.arrive());
            if used {
                table.head(bucket).touch(slot);
            }
        }
        assert_eq!(queues.victim(&clock, &table, [0, 1], None), Some(Place::new(1, 6)));
        assert_eq!((table.head(0).main(), table.head(1).main()), (1 << 4, 1 << 4));
        assert_eq!((table.head(0).used(), table.head(1).used()), (1 << 2, 0));
    }

    #[test]
    fn in_the_main_part_each_use_is_another_round() {
        let mut queues = Queues::new(&Ground::new(), 1);
        let (table, mut clock) = bucket(&mut queues, &[(3, 0), (7, 0), (5, 0)]);
        let head = table.head(0);
        head.promote(1 << 3 | 1 << 5 | 1 << 7);
        [(3, 2), (7, 1), (5, 2)].iter().for_each(|&(slot, uses)| (0..uses).for_each(|_| head.touch(slot)));
        clock.arrive();
        assert_eq!(queues.victim(&clock, &table, [0], None), Some(Place::new(0, 7)), "used up before the others");
        assert_eq!((head.used(), head.main()), (1 << 3 | 1 << 5, 1 << 3 | 1 << 5 | 1 << 7));
        head.tags.set(7, 0);
        assert_eq!(queues.victim(&clock, &table, [0], Some(Place::new(0, 3))), Some(Place::new(0, 5)));
        assert_eq!(queues.victim(&clock, &table, [0], None), Some(Place::new(0, 5)));
    }

    #[test]
    fn who_takes_the_place_of_another_is_noted_as_if_that_one_had_left_before() {
        let mut both = [Queues::new(&Ground::new(), 2), Queues::new(&Ground::new(), 2)];
        let mut ghosts = 0;
        for turn in 0..10_000_u32 {
            let chance = turn.wrapping_mul(0x9E37_79B9) >> 8;
            let (place, now) = (Place::new(1, chance as usize % 15), turn as u16);
            let (gone, print) =
                ((chance >> 4 & 1 == 0).then_some(1 + (chance >> 5 & 31) as u16), 1 + (chance >> 10 & 31) as u16);
            let [at_once, in_turn] = &mut both;
            gone.into_iter().for_each(|gone| in_turn.remember(1, gone));
            let ghost = in_turn.arrive(place, 1, print, now);
            assert_eq!(at_once.succeed(place, gone, print, now), ghost);
            ghosts += u32::from(ghost);
            let [at_once, in_turn] = both.each_ref().map(|queues| &queues.0[1]);
            assert_eq!((at_once.times, at_once.ghosts), (in_turn.times, in_turn.ghosts));
        }
        assert!((1_000..9_000).contains(&ghosts), "{ghosts} of ten thousand");
    }

    #[test]
    fn a_ghost_is_recalled_once_and_forgotten_after_fifteen_others() {
        let mut queues = Queues::new(&Ground::new(), 2);
        let place = Place::new(1, 3);
        queues.remember(1, 77);
        assert!(!queues.arrive(place, 0, 77, 0), "another bucket's ghost");
        assert!(queues.arrive(place, 1, 77, 0));
        assert!(!queues.arrive(place, 1, 77, 0));
        queues.remember(1, 77);
        (100..115).for_each(|print| queues.remember(1, print));
        assert!(!queues.arrive(place, 1, 77, 0));
        assert!(queues.arrive(place, 1, 100, 0));
    }
}
