//! Which slots of one bucket or two came how long ago: all compared at once.

use crate::store::table::Place;

/// The slots of so many buckets, two at most, as one set.
#[inline]
pub(super) fn joined<const N: usize>(slots: [u16; N]) -> u32 {
    const { assert!(N == 1 || N == 2) }
    slots.iter().rev().fold(0, |all, slots| all << 16 | u32::from(*slots))
}

/// Those of the first bucket, or of the second.
#[inline]
pub(super) fn of_bucket(slots: u32, index: usize) -> u16 {
    (slots >> (16 * index)) as u16
}

/// One of the slots.
#[derive(Clone, Copy)]
pub(super) struct Oldest {
    slot: usize,
    pub(super) age: Age,
}

impl Oldest {
    #[inline]
    pub(super) fn place<const N: usize>(&self, buckets: [usize; N]) -> Place {
        Place::new(buckets[self.slot / 16 % N], self.slot % 16)
    }
}

/// Greater the longer ago, over all that sixteen bits can tell; from the least number on, for processors compare those with a sign.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Age(i16);

/// Younger than all.
const NOBODY: i16 = i16::MIN;

/// What time it would be for it to come out as an [`Age`] by subtraction alone.
#[inline]
fn shifted(now: u16) -> i16 {
    (now ^ 1 << 15) as i16
}

#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
pub(super) use at_once::Ages;
#[cfg(not(all(target_arch = "x86_64", target_feature = "sse2", not(miri))))]
pub(super) use in_turn::Ages;

#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
#[allow(unsafe_code, reason = "the intrinsics; SSE2 is part of the target")]
mod at_once {
    use std::arch::x86_64::*;

    use super::{Age, NOBODY, Oldest, of_bucket, shifted};

    /// Eight slots in each, twice for a bucket.
    #[derive(Clone, Copy)]
    pub(in crate::store) struct Ages<const N: usize>([[__m128i; 2]; N]);

    impl<const N: usize> Ages<N> {
        #[inline]
        pub(in crate::store) fn of(times: [&[u16; 16]; N], now: u16) -> Ages<N> {
            // SAFETY: SSE2 is there by the cfg above; each load is within sixteen times.
            let of_eight = |times: &[u16; 16], eight: usize| unsafe {
                let times = _mm_loadu_si128(times.as_ptr().add(eight * 8).cast());
                _mm_max_epi16(_mm_sub_epi16(_mm_set1_epi16(shifted(now)), times), _mm_set1_epi16(NOBODY + 1))
            };
            Ages(times.map(|times| [of_eight(times, 0), of_eight(times, 1)]))
        }

        /// The oldest of the chosen.
        #[inline]
        pub(in crate::store) fn oldest(self, chosen: u32) -> Option<Oldest> {
            // SAFETY: SSE2 is there by the cfg above; no pointers are involved.
            unsafe {
                let bits = [
                    _mm_setr_epi16(1, 2, 4, 8, 16, 32, 64, 128),
                    _mm_setr_epi16(1 << 8, 1 << 9, 1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14, i16::MIN),
                ];
                let of_chosen = |bucket: usize, eight: usize| {
                    let (chosen, bits) = (_mm_set1_epi16(of_bucket(chosen, bucket) as i16), bits[eight]);
                    let chosen = _mm_cmpeq_epi16(_mm_and_si128(chosen, bits), bits);
                    // At most what is greater than all, or what is less.
                    _mm_min_epi16(self.0[bucket][eight], _mm_xor_si128(chosen, _mm_set1_epi16(NOBODY)))
                };
                let ages: [_; N] = std::array::from_fn(|bucket| [of_chosen(bucket, 0), of_chosen(bucket, 1)]);
                let most = ages.map(|[one, two]| _mm_max_epi16(one, two));
                let most = _mm_max_epi16(most[0], most[N - 1]);
                let most = _mm_max_epi16(most, _mm_shuffle_epi32::<0b01_00_11_10>(most));
                let most = _mm_max_epi16(most, _mm_shuffle_epi32::<0b10_11_00_01>(most));
                let turned = _mm_shufflehi_epi16::<0b10_11_00_01>(_mm_shufflelo_epi16::<0b10_11_00_01>(most));
                let most = _mm_max_epi16(most, turned);
                let age = _mm_cvtsi128_si32(most) as i16;
                let slots = gathered(ages.map(|eights| eights.map(|ages| _mm_cmpeq_epi16(ages, most))));
                (age != NOBODY).then(|| Oldest { slot: slots.trailing_zeros() as usize, age: Age(age) })
            }
        }

        /// Which are older.
        #[inline]
        pub(in crate::store) fn older_than(self, age: Age) -> u32 {
            // SAFETY: SSE2 is there by the cfg above; no pointers are involved.
            gathered(self.0.map(|eights| eights.map(|ages| unsafe { _mm_cmpgt_epi16(ages, _mm_set1_epi16(age.0)) })))
        }
    }

    /// A bit for each slot, of what is all ones or all zeros.
    #[inline]
    fn gathered<const N: usize>(buckets: [[__m128i; 2]; N]) -> u32 {
        // SAFETY: SSE2 is there by the cfg above; no pointers are involved.
        super::joined(buckets.map(|[one, two]| unsafe { _mm_movemask_epi8(_mm_packs_epi16(one, two)) as u16 }))
    }
}

#[cfg(any(test, not(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))))]
mod in_turn {
    use super::{Age, NOBODY, Oldest, shifted};

    #[derive(Clone, Copy)]
    pub(in crate::store) struct Ages<const N: usize>([[i16; 16]; N]);

    impl<const N: usize> Ages<N> {
        pub(in crate::store) fn of(times: [&[u16; 16]; N], now: u16) -> Ages<N> {
            let of_one = |time: u16| shifted(now).wrapping_sub(time as i16).max(NOBODY + 1);
            Ages(times.map(|times| times.map(of_one)))
        }

        /// The oldest of the chosen.
        pub(in crate::store) fn oldest(self, chosen: u32) -> Option<Oldest> {
            let ages = self.0.as_flattened();
            let slots = (0..16 * N).rev().filter(|slot| chosen >> slot & 1 != 0);
            slots.max_by_key(|&slot| ages[slot]).map(|slot| Oldest { slot, age: Age(ages[slot]) })
        }

        /// Which are older.
        pub(in crate::store) fn older_than(self, age: Age) -> u32 {
            let ages = self.0.as_flattened();
            (0..16 * N).fold(0, |older, slot| older | u32::from(ages[slot] > age.0) << slot)
        }
    }
}

#[cfg(all(test, not(everfresh_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_the_chosen_is_found_also_when_the_time_has_wrapped() {
        let times: [[u16; 16]; 2] = std::array::from_fn(|bucket| {
            std::array::from_fn(|slot| 65_520_u16.wrapping_add(((bucket * 16 + slot) * 7 % 31) as u16))
        });
        let lines = [&times[0], &times[1]];
        for now in [15_u16, 300, 40_000, 65_519] {
            let (ages, slowly) = (Ages::of(lines, now), in_turn::Ages::of(lines, now));
            for turn in 0..50_000_u32 {
                let chosen = turn.wrapping_mul(0x9E37_79B9);
                let age = |slot: usize| now.wrapping_sub(times[slot / 16][slot % 16]);
                let expected = (0..32).filter(|slot| chosen >> slot & 1 != 0).map(age).max();
                let found = ages.oldest(chosen);
                assert_eq!(found.as_ref().map(|oldest| age(oldest.slot)), expected);
                let likewise = slowly.oldest(chosen);
                assert_eq!(
                    found.as_ref().map(|oldest| (oldest.slot, oldest.age)),
                    likewise.map(|oldest| (oldest.slot, oldest.age))
                );
                let Some(oldest) = found else { continue };
                assert!(chosen >> oldest.slot & 1 != 0);
                let older =
                    (0..32).filter(|&slot| age(slot) > age(oldest.slot)).fold(0, |older, slot| older | 1 << slot);
                assert_eq!((ages.older_than(oldest.age), slowly.older_than(oldest.age)), (older, older));
                assert_eq!(older & chosen, 0, "nobody of the chosen is older than the oldest");
                let (first, slowly) = (Ages::of([lines[0]], now), in_turn::Ages::of([lines[0]], now));
                let (found, likewise) = (first.oldest(chosen & 0xFFFF), slowly.oldest(chosen & 0xFFFF));
                assert_eq!(found.map(|one| (one.slot, one.age)), likewise.map(|one| (one.slot, one.age)));
                assert_eq!(
                    (first.older_than(oldest.age), slowly.older_than(oldest.age)),
                    (older & 0xFFFF, older & 0xFFFF)
                );
            }
        }
    }

    #[test]
    fn slots_of_both_buckets_are_one_set() {
        let slots = joined([0x7001, 0x0103]);
        assert_eq!((of_bucket(slots, 0), of_bucket(slots, 1)), (0x7001, 0x0103));
        assert_eq!(joined([0x7001]), 0x7001);
        let place = |slot| Oldest { slot, age: Age(0) }.place([7, 9]);
        assert_eq!((place(14), place(16)), (Place::new(7, 14), Place::new(9, 0)));
        assert_eq!(Oldest { slot: 14, age: Age(0) }.place([7]), Place::new(7, 14));
    }
}
