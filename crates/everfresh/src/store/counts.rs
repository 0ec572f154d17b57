//! Which slots of two buckets are used least: all compared at once.

/// Of these, the count is told in the other bits of the byte.
pub(super) const CHOSEN: u8 = 0x80;
const COUNT: u8 = 0xF;

/// The least count of the chosen, and those that have it, as [`both`](super::ages::both) has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Least {
    pub(super) count: u8,
    pub(super) slots: u32,
}

#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
pub(super) use at_once::{add, chosen, least};
#[cfg(not(all(target_arch = "x86_64", target_feature = "sse2", not(miri))))]
pub(super) use in_turn::{add, chosen, least};

#[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
#[allow(unsafe_code, reason = "the intrinsics; SSE2 is part of the target")]
mod at_once {
    use std::arch::x86_64::*;

    use super::{COUNT, Least};

    /// A bit for each chosen slot.
    #[inline]
    pub(in crate::store) fn chosen(counts: &[u8; 16]) -> u16 {
        // SAFETY: SSE2 is there by the cfg above; the load is of all sixteen.
        unsafe { _mm_movemask_epi8(_mm_loadu_si128(counts.as_ptr().cast())) as u16 }
    }

    /// Adds one for each of these sets that a slot is in; a count ends at the most that there is room for.
    #[inline]
    pub(in crate::store) fn add(counts: &mut [u8; 16], sets: [u16; 2]) {
        // SAFETY: SSE2 is there by the cfg above; the load and the store are of all sixteen.
        unsafe {
            let place = counts.as_mut_ptr().cast();
            let before = _mm_loadu_si128(place);
            let most = _mm_set1_epi8(COUNT as i8);
            let mut sum = _mm_and_si128(before, most);
            for set in sets {
                // A byte of all ones, which is one less than nothing, for each bit.
                let bits = _mm_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
                let half = |eight: u16| (u64::from(eight & 0xFF) * 0x0101_0101_0101_0101) as i64;
                let spread = _mm_and_si128(_mm_set_epi64x(half(set >> 8), half(set)), bits);
                sum = _mm_sub_epi8(sum, _mm_cmpeq_epi8(spread, bits));
            }
            let rest = _mm_andnot_si128(most, before);
            _mm_storeu_si128(place, _mm_or_si128(rest, _mm_min_epu8(sum, most)));
        }
    }

    #[inline]
    pub(in crate::store) fn least(counts: [&[u8; 16]; 2]) -> Option<Least> {
        // SAFETY: SSE2 is there by the cfg above; each load is of all sixteen.
        unsafe {
            // What is not chosen is more than all.
            let all = counts.map(|counts| {
                let counts = _mm_loadu_si128(counts.as_ptr().cast());
                let others = _mm_cmpgt_epi8(counts, _mm_set1_epi8(-1));
                _mm_or_si128(_mm_and_si128(counts, _mm_set1_epi8(COUNT as i8)), others)
            });
            let few = _mm_min_epu8(all[0], all[1]);
            let few = _mm_min_epu8(few, _mm_srli_si128::<8>(few));
            let few = _mm_min_epu8(few, _mm_srli_si128::<4>(few));
            let few = _mm_min_epu8(few, _mm_srli_si128::<2>(few));
            let few = _mm_min_epu8(few, _mm_srli_si128::<1>(few));
            let count = _mm_cvtsi128_si32(few) as u8;
            let [one, two] = all.map(|all| _mm_movemask_epi8(_mm_cmpeq_epi8(all, _mm_set1_epi8(count as i8))) as u32);
            (count <= COUNT).then_some(Least { count, slots: one | two << 16 })
        }
    }
}

#[cfg_attr(all(target_arch = "x86_64", target_feature = "sse2", not(miri)), allow(dead_code))]
mod in_turn {
    use super::{CHOSEN, COUNT, Least};
    use crate::store::ages::joined;

    pub(in crate::store) fn chosen(counts: &[u8; 16]) -> u16 {
        (0..16).fold(0, |chosen, slot| chosen | u16::from(counts[slot] & CHOSEN != 0) << slot)
    }

    pub(in crate::store) fn add(counts: &mut [u8; 16], sets: [u16; 2]) {
        for (slot, count) in counts.iter_mut().enumerate() {
            let more = sets.iter().filter(|&set| set >> slot & 1 != 0).count() as u8;
            *count = *count & !COUNT | ((*count & COUNT) + more).min(COUNT);
        }
    }

    pub(in crate::store) fn least(counts: [&[u8; 16]; 2]) -> Option<Least> {
        let all = counts.into_iter().flatten();
        let count = all.filter(|&count| count & CHOSEN != 0).map(|count| count & COUNT).min()?;
        let equal = |counts: &[u8; 16]| {
            (0..16).fold(0, |equal, slot| {
                let is = counts[slot] & CHOSEN != 0 && counts[slot] & COUNT == count;
                equal | u16::from(is) << slot
            })
        };
        Some(Least { count, slots: joined(counts.map(equal)) })
    }
}

#[cfg(all(test, not(everfresh_loom)))]
mod tests {
    use super::*;

    #[test]
    fn both_ways_find_the_same() {
        let mut number = 1_u64;
        let mut next = || {
            number = number.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
            (number >> 56) as u8
        };
        for round in 0..2_000 {
            let mut counts = [[0_u8; 16]; 2];
            for count in counts.iter_mut().flatten() {
                // Many, few, or none are chosen.
                let part = if next() % 16 < (round % 17) as u8 { CHOSEN } else { 0x40 };
                *count = if next() % 4 == 0 { 0 } else { part | next() & COUNT };
            }
            let [one, two] = &counts;
            assert_eq!(least([one, two]), in_turn::least([one, two]), "{counts:?}");
            assert_eq!(chosen(one), in_turn::chosen(one));
            if let Some(least) = least([one, two]) {
                let has = |slot: usize| counts[slot / 16][slot % 16];
                assert!((0..32).all(|slot| has(slot) < CHOSEN || has(slot) & COUNT >= least.count));
                assert!((0..32).all(|slot| (least.slots >> slot & 1 == 1) == (has(slot) == CHOSEN | least.count)));
            }
        }
        assert_eq!(least([&[0x4F; 16], &[0; 16]]), None);
    }

    #[test]
    fn what_is_added_ends_at_the_most() {
        let before = std::array::from_fn(|slot| [0x80, 0x4E, 0x8F, 0x0D, 0x87][slot % 5]);
        for sets in [[0, 0], [u16::MAX, 0], [0x8001, 0xFFFF], [0x5A3C, 0x1234]] {
            let (mut at_once, mut in_turn) = (before, before);
            add(&mut at_once, sets);
            in_turn::add(&mut in_turn, sets);
            assert_eq!(at_once, in_turn);
            let more = |slot: usize| sets.iter().filter(|set| *set >> slot & 1 == 1).count() as u8;
            assert!((0..16).all(|slot| at_once[slot] & COUNT == ((before[slot] & COUNT) + more(slot)).min(COUNT)));
            assert!((0..16).all(|slot| at_once[slot] & !COUNT == before[slot] & !COUNT));
        }
    }
}
