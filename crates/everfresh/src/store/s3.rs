//! S3-FIFO within the buckets: which entry goes when room is needed.
//!
//! New entries are in the small part, and move to the main part if they were used; what falls out of the small part
//! leaves a print of its hash behind (a ghost), and goes straight to the main part when it comes again. The main part is
//! a queue whose head gets another round for each use. Instead of two lists there are ages and marks in the buckets, and
//! the candidates are the entries of the bucket that needs room and of one other.

use std::sync::Arc;

use crate::store::ahead::prefetch;
use crate::store::clock::Clock;
use crate::store::ground::{Ground, Plot};
use crate::store::table::{Head, MOST_USES, Place, Table};
use crate::store::tags::Slots;

/// Prints kept for each bucket: about as many as it holds entries.
const GHOSTS: usize = 15;
/// Where a line of ghosts keeps the place of its oldest.
const CURSOR: usize = 15;
/// Rounds that a search for the entry to go makes at most.
const ROUNDS: u8 = 2 * MOST_USES + 2;
/// All ages from here on are told as the same.
const OLDEST: u16 = 0xFFE;

/// What is noted of each bucket, in a cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line {
    /// When each entry came to its part.
    times: [u16; 16],
    /// Prints of what left the small part lately, and the place of the oldest.
    ghosts: [u16; 16],
}

pub(super) struct Queues(Plot<Line>);

/// One slot of two buckets.
#[derive(Clone, Copy)]
struct Oldest {
    index: usize,
    slot: usize,
    /// As [`age_of`] tells it.
    age: u16,
}

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
        let ghosts = &mut self.0[home].ghosts;
        let mut same = Slots(equal_to(ghosts, print) & ((1 << GHOSTS) - 1));
        let ghost = same.next();
        if let Some(ghost) = ghost {
            ghosts[ghost] = 0;
        }
        ghost.is_some()
    }

    #[inline]
    pub(super) fn prefetch(&self, bucket: usize) {
        prefetch(&self.0[bucket]);
    }

    #[inline]
    pub(super) fn remember(&mut self, bucket: usize, print: u16) {
        let ghosts = &mut self.0[bucket].ghosts;
        let cursor = usize::from(ghosts[CURSOR]) % GHOSTS;
        ghosts[cursor] = print;
        ghosts[CURSOR] = ((cursor + 1) % GHOSTS) as u16;
    }

    /// The entry to go: of these two buckets, but not `spared`. `None` if they hold nothing else.
    pub(super) fn victim<K, V>(
        &mut self,
        clock: &Clock,
        table: &Table<K, V>,
        [own, other]: [usize; 2],
        spared: Option<Place>,
    ) -> Option<Place> {
        let now = clock.now();
        let buckets = [own, other];
        let heads = [table.head(own), table.head(other)];
        let spared = |bucket| spared.filter(|place| place.bucket() == bucket).map_or(0, |place| 1 << place.slot());
        let taken = |head: &Head| head.tags.seen().taken().0;
        let of_other = if own == other { 0 } else { taken(heads[1]) & !spared(other) };
        let live = [taken(heads[0]) & !spared(own), of_other];
        let count = ones(live);
        if count == 0 {
            return None;
        }
        // Each round without a victim takes a use from all that have one, or all of them out of the small part. Readers may count
        // uses meanwhile, so the rounds are bounded.
        for _ in 0..ROUNDS {
            let main = [heads[0].main() & live[0], heads[1].main() & live[1]];
            let small = [live[0] & !main[0], live[1] & !main[1]];
            let small_count = ones(small);
            // The small part has a tenth as its share.
            let from_small = small_count * 10 > count || small_count == count;
            let queue = if from_small { small } else { main };
            let used = [heads[0].used() & queue[0], heads[1].used() & queue[1]];
            let oldest = self.oldest(buckets, [queue[0] & !used[0], queue[1] & !used[1]], now);
            if ones(used) > 0 {
                // Who was used and is older would have been asked before: he goes to the main part, or to its end. All at once, also
                // if the small part has less than its share then.
                let age = oldest.map_or(0, |oldest| oldest.age);
                for index in [0, 1] {
                    let older = self.renew(buckets[index], used[index], age, now);
                    match (older, from_small) {
                        (0, _) => {}
                        (_, true) => heads[index].promote(older),
                        (_, false) => heads[index].use_up(older),
                    }
                }
            }
            if let Some(oldest) = oldest {
                return Some(Place::new(buckets[oldest.index], oldest.slot));
            }
        }
        self.oldest(buckets, live, now).map(|oldest| Place::new(buckets[oldest.index], oldest.slot))
    }

    /// Has those of the chosen slots that are older than this come to their part now. Returns which.
    #[inline]
    fn renew(&mut self, bucket: usize, chosen: u16, age: u16, now: u16) -> u16 {
        let times = &mut self.0[bucket].times;
        let older = chosen & older_than(times, age, now);
        for slot in Slots(older) {
            times[slot & 0xF] = now;
        }
        older
    }

    /// The oldest of the chosen slots of two buckets.
    #[inline]
    fn oldest(&self, buckets: [usize; 2], chosen: [u16; 2], now: u16) -> Option<Oldest> {
        let one = oldest_of(&self.0[buckets[0]].times, chosen[0], now);
        let two = oldest_of(&self.0[buckets[1]].times, chosen[1], now);
        let (index, oldest) = if two >> 4 > one >> 4 { (1, two) } else { (0, one) };
        (oldest != 0).then_some(Oldest { index, slot: usize::from(oldest & 0xF), age: oldest >> 4 })
    }
}

/// How old is what came at that time, in twelve bits: all greater ages are the same, and none is zero.
#[cfg_attr(all(target_arch = "x86_64", target_feature = "sse2", not(miri)), allow(dead_code))]
#[inline]
fn age_of(time: u16, now: u16) -> u16 {
    now.wrapping_sub(time).min(OLDEST) + 1
}

/// As [`age_of`], of eight.
#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
#[inline]
#[allow(unsafe_code, reason = "the intrinsics; SSE2 is part of the target")]
fn ages_of(times: std::arch::x86_64::__m128i, now: u16) -> std::arch::x86_64::__m128i {
    use std::arch::x86_64::*;
    // SAFETY: SSE2 is there by the cfg above.
    unsafe {
        let ages = _mm_sub_epi16(_mm_set1_epi16(now as i16), times);
        let beyond = _mm_subs_epu16(ages, _mm_set1_epi16(OLDEST as i16));
        _mm_add_epi16(_mm_sub_epi16(ages, beyond), _mm_set1_epi16(1))
    }
}

/// Which are of a greater age than this.
#[inline]
fn older_than(times: &[u16; 16], age: u16, now: u16) -> u16 {
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
    return older_at_once(times, age, now);
    #[cfg(not(all(target_arch = "x86_64", target_feature = "sse2", not(miri))))]
    return older_in_turn(times, age, now);
}

#[cfg_attr(all(target_arch = "x86_64", target_feature = "sse2", not(miri)), allow(dead_code))]
#[inline]
fn older_in_turn(times: &[u16; 16], age: u16, now: u16) -> u16 {
    (0..16).fold(0, |older, slot| older | u16::from(age_of(times[slot], now) > age) << slot)
}

#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
#[inline]
#[allow(unsafe_code, reason = "the intrinsics; SSE2 is part of the target")]
fn older_at_once(times: &[u16; 16], age: u16, now: u16) -> u16 {
    use std::arch::x86_64::*;
    // SAFETY: SSE2 is there by the cfg above; both loads are within the sixteen times.
    unsafe {
        let older = |half: usize| {
            let times = _mm_loadu_si128(times.as_ptr().add(8 * half).cast());
            _mm_cmpgt_epi16(ages_of(times, now), _mm_set1_epi16(age as i16))
        };
        _mm_movemask_epi8(_mm_packs_epi16(older(0), older(1))) as u16
    }
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

/// How many slots of both.
#[inline]
fn ones(slots: [u16; 2]) -> u32 {
    (u32::from(slots[0]) << 16 | u32::from(slots[1])).count_ones()
}

/// The greatest age of the chosen slots, with its slot in the lowest four bits; zero if none is chosen.
#[inline]
fn oldest_of(times: &[u16; 16], chosen: u16, now: u16) -> u16 {
    #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
    return oldest_at_once(times, chosen, now);
    #[cfg(not(all(target_arch = "x86_64", target_feature = "sse2", not(miri))))]
    return oldest_in_turn(times, chosen, now);
}

#[cfg_attr(all(target_arch = "x86_64", target_feature = "sse2", not(miri)), allow(dead_code))]
#[inline]
fn oldest_in_turn(times: &[u16; 16], chosen: u16, now: u16) -> u16 {
    let mut oldest = 0;
    for slot in Slots(chosen) {
        oldest = oldest.max(age_of(times[slot & 0xF], now) << 4 | slot as u16);
    }
    oldest
}

#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
#[inline]
#[allow(unsafe_code, reason = "the intrinsics; SSE2 is part of the target")]
fn oldest_at_once(times: &[u16; 16], chosen: u16, now: u16) -> u16 {
    use std::arch::x86_64::*;
    // SAFETY: SSE2 is there by the cfg above; both loads are within the sixteen times.
    unsafe {
        let greater = |one, two| _mm_add_epi16(one, _mm_subs_epu16(two, one));
        let ages = |half: usize, slots: __m128i, bits: __m128i| {
            let ages = ages_of(_mm_loadu_si128(times.as_ptr().add(8 * half).cast()), now);
            let chosen = _mm_cmpeq_epi16(_mm_and_si128(_mm_set1_epi16(chosen as i16), bits), bits);
            _mm_and_si128(_mm_or_si128(_mm_slli_epi16::<4>(ages), slots), chosen)
        };
        let low = ages(0, _mm_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7), _mm_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128));
        let slots = _mm_setr_epi16(8, 9, 10, 11, 12, 13, 14, 15);
        let high = ages(1, slots, _mm_setr_epi16(256, 512, 1024, 2048, 4096, 8192, 16384, i16::MIN));
        let most = greater(low, high);
        let most = greater(most, _mm_shuffle_epi32::<0b01_00_11_10>(most));
        let most = greater(most, _mm_shuffle_epi32::<0b10_11_00_01>(most));
        let most = _mm_cvtsi128_si32(most) as u32;
        (most as u16).max((most >> 16) as u16)
    }
}

#[cfg(all(test, not(everfresh_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_the_chosen_is_found_also_when_the_time_has_wrapped() {
        let mut times = [0; 16];
        for (slot, time) in times.iter_mut().enumerate() {
            *time = 65_530_u16.wrapping_add((slot * 7 % 15) as u16);
        }
        for now in [9_u16, 300] {
            for chosen in 0..0x7FFF_u16 {
                let expected =
                    (0..15).filter(|slot| chosen >> slot & 1 != 0).max_by_key(|&slot| now.wrapping_sub(times[slot]));
                let found = oldest_of(&times, chosen, now);
                assert_eq!(found, oldest_in_turn(&times, chosen, now));
                assert_eq!((found != 0).then_some(usize::from(found & 0xF)), expected);
                let older = older_than(&times, found >> 4, now);
                assert_eq!(older, older_in_turn(&times, found >> 4, now));
                assert_eq!(older & chosen, 0, "nobody of the chosen is older than the oldest");
                if let Some(slot) = expected {
                    let is_older = |one: &usize| now.wrapping_sub(times[*one]) > now.wrapping_sub(times[slot]);
                    let expected = (0..16).filter(is_older).fold(0, |older, slot| older | 1 << slot);
                    assert_eq!(older, expected);
                }
            }
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
        let victim = queues.victim(&clock, &table, [0, 0], None);
        assert_eq!(victim, Some(Place::new(0, 5)), "the oldest that was not used");
        assert_eq!(table.head(0).main(), 1 << 3 | 1 << 7, "those before it, and no other");
        assert_eq!(table.head(0).used(), 1 << 2, "their uses are spent");
        assert_eq!(queues.victim(&clock, &table, [0, 0], Some(Place::new(0, 5))), Some(Place::new(0, 9)));
    }

    #[test]
    fn there_is_a_victim_also_where_all_were_used_and_none_where_there_is_nothing() {
        let mut queues = Queues::new(&Ground::new(), 1);
        for main in [0, 1 << 3 | 1 << 7, 1 << 3 | 1 << 7 | 1 << 5] {
            let (table, clock) = bucket(&mut queues, &[(3, 2), (7, 2), (5, 2)]);
            table.head(0).promote(main);
            [3, 7, 5].iter().for_each(|&slot| (0..2).for_each(|_| table.head(0).touch(slot)));
            assert_eq!(table.head(0).used(), 1 << 3 | 1 << 7 | 1 << 5);
            assert!(queues.victim(&clock, &table, [0, 0], None).is_some_and(|place| [3, 5, 7].contains(&place.slot())));
        }
        let (table, clock) = bucket(&mut queues, &[(3, 2)]);
        assert_eq!(queues.victim(&clock, &table, [0, 0], Some(Place::new(0, 3))), None, "it is spared");
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
        assert_eq!(queues.victim(&clock, &table, [0, 0], None), Some(Place::new(0, 7)), "used up before the others");
        assert_eq!((head.used(), head.main()), (1 << 3 | 1 << 5, 1 << 3 | 1 << 5 | 1 << 7));
        head.tags.set(7, 0);
        assert_eq!(queues.victim(&clock, &table, [0, 0], Some(Place::new(0, 3))), Some(Place::new(0, 5)));
        assert_eq!(queues.victim(&clock, &table, [0, 0], None), Some(Place::new(0, 5)));
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
