//! Sixteen bytes that say which slots of a bucket are worth a look.

use crate::sync::{AtomicU64, Ordering};

/// Slots in a bucket. The sixteenth byte counts the entries that had to pass this bucket by.
pub(super) const WAYS: usize = 15;

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// A byte for each slot: zero if it is free, else eight bits of its key's hash.
#[repr(align(16))]
pub(super) struct Tags([AtomicU64; 2]);

/// The tags of a bucket as they were at one moment (each half for itself).
#[derive(Clone, Copy)]
pub(super) struct Seen([u64; 2]);

/// The tag of a key: never zero.
#[inline]
pub(super) fn tag(hash: u64) -> u8 {
    (hash as u8).max(1)
}

impl Tags {
    pub(super) fn new() -> Tags {
        Tags([AtomicU64::new(0), AtomicU64::new(0)])
    }

    #[inline]
    pub(super) fn seen(&self) -> Seen {
        // Acquire: pairs with the Release in `set`; a tag that is seen finds the pointer that was put before it.
        Seen([self.0[0].load(Ordering::Acquire), self.0[1].load(Ordering::Acquire)])
    }

    /// The slots with this byte, perhaps with a few others; as [`seen`](Tags::seen) and [`matching`](Seen::matching), in one
    /// instruction where the processor has it.
    #[inline(always)]
    pub(super) fn matching(&self, byte: u8) -> Slots {
        #[cfg(all(
            target_arch = "x86_64",
            target_feature = "sse2",
            not(any(miri, everfresh_loom, target_abi = "x32"))
        ))]
        return Slots(self.matching_in_memory(byte));
        #[cfg(not(all(
            target_arch = "x86_64",
            target_feature = "sse2",
            not(any(miri, everfresh_loom, target_abi = "x32"))
        )))]
        return self.seen().matching(byte);
    }

    #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(any(miri, everfresh_loom, target_abi = "x32"))))]
    #[inline(always)]
    #[allow(unsafe_code, reason = "the intrinsics, and one instruction that reads what others write meanwhile")]
    fn matching_in_memory(&self, byte: u8) -> u16 {
        use std::arch::asm;
        use std::arch::x86_64::{_mm_movemask_epi8, _mm_set1_epi8};
        // SAFETY: SSE2 is there by the cfg above, and the tags are aligned as it wants. What it does to them are two loads of
        // eight bytes, which on this processor acquire, and each of which is whole.
        let mask = unsafe {
            let mut bytes = _mm_set1_epi8(byte as i8);
            asm!("pcmpeqb {bytes}, xmmword ptr [{tags}]",
                bytes = inout(xmm_reg) bytes, tags = in(reg) self, options(nostack, preserves_flags));
            _mm_movemask_epi8(bytes)
        };
        mask as u16 & 0x7FFF
    }

    /// How many entries were put further on because this bucket was full.
    #[inline]
    pub(super) fn passed_by(&self) -> u8 {
        self.seen().passed_by()
    }

    /// Writes one byte; only the holder of the shard's lock does.
    pub(super) fn set(&self, slot: usize, byte: u8) {
        let half = &self.0[slot / 8];
        let shift = slot % 8 * 8;
        let word = half.load(Ordering::Relaxed) & !(0xFF << shift) | u64::from(byte) << shift;
        half.store(word, Ordering::Release);
    }

    /// Notes that one more entry of this bucket, or of one before it, lives further on. At 255 the count sticks.
    pub(super) fn pass_by(&self) {
        self.set(WAYS, self.seen().passed_by().saturating_add(1));
    }

    /// Takes one [`Tags::pass_by`] back.
    pub(super) fn come_back(&self) {
        let count = self.seen().passed_by();
        debug_assert!(count > 0, "an entry left a path that it never took");
        if count < u8::MAX {
            self.set(WAYS, count.saturating_sub(1));
        }
    }
}

impl Seen {
    #[inline]
    pub(super) fn at(self, slot: usize) -> u8 {
        (self.0[slot / 8] >> (slot % 8 * 8)) as u8
    }

    /// How many entries were put further on because this bucket was full.
    #[inline]
    pub(super) fn passed_by(self) -> u8 {
        self.at(WAYS)
    }

    /// The slots with this tag, perhaps with a few others.
    #[inline]
    pub(super) fn matching(self, tag: u8) -> Slots {
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
        return Slots(self.matching_sse2(tag));
        #[cfg(not(all(target_arch = "x86_64", target_feature = "sse2", not(miri))))]
        return Slots(self.matching_words(tag));
    }

    #[inline]
    pub(super) fn free(self) -> Slots {
        Slots(!self.taken().0 & 0x7FFF)
    }

    /// The slots that hold an entry.
    #[inline]
    pub(super) fn taken(self) -> Slots {
        Slots(!self.exactly_zero() & 0x7FFF)
    }

    #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
    #[inline]
    #[allow(unsafe_code, reason = "the intrinsics; SSE2 is part of the target")]
    fn matching_sse2(self, tag: u8) -> u16 {
        use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8};
        // SAFETY: SSE2 is there by the cfg above; no pointers are involved.
        let mask = unsafe {
            let tags = _mm_set_epi64x(self.0[1] as i64, self.0[0] as i64);
            _mm_movemask_epi8(_mm_cmpeq_epi8(tags, _mm_set1_epi8(tag as i8)))
        };
        mask as u16 & 0x7FFF
    }

    /// The same with plain words. A byte after a matching one may match, too; the key tells.
    #[cfg_attr(all(target_arch = "x86_64", target_feature = "sse2", not(miri)), allow(dead_code))]
    #[inline]
    fn matching_words(self, tag: u8) -> u16 {
        let halves = self.0.map(|word| {
            let differ = word ^ (LOW * u64::from(tag));
            gather(differ.wrapping_sub(LOW) & !differ & HIGH)
        });
        (u16::from(halves[0]) | u16::from(halves[1]) << 8) & 0x7FFF
    }

    #[inline]
    fn exactly_zero(self) -> u16 {
        #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
        return self.matching_sse2(0);
        #[cfg(not(all(target_arch = "x86_64", target_feature = "sse2", not(miri))))]
        return self.exactly_zero_words();
    }

    #[cfg_attr(all(target_arch = "x86_64", target_feature = "sse2", not(miri)), allow(dead_code))]
    #[inline]
    fn exactly_zero_words(self) -> u16 {
        // The sum of the low seven bits and 0x7F reaches the top bit unless they are all zero; no carry leaves a byte.
        let zero = |word: u64| gather(!(((word & !HIGH) + !HIGH) | word));
        u16::from(zero(self.0[0])) | u16::from(zero(self.0[1])) << 8
    }
}

/// The top bits of eight bytes as one byte; the other bits do not matter.
#[inline]
fn gather(tops: u64) -> u8 {
    ((tops >> 7 & LOW).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8
}

/// Numbers of slots, lowest first.
#[derive(Clone, Copy)]
pub(super) struct Slots(pub(super) u16);

impl Iterator for Slots {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let slot = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(slot)
    }
}

#[cfg(all(test, not(everfresh_loom)))]
mod tests {
    use super::*;

    fn filled(seed: u64) -> (Tags, [u8; 16]) {
        let tags = Tags::new();
        let mut bytes = [0; 16];
        let mut state = seed;
        for (slot, byte) in bytes.iter_mut().enumerate() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = [0, 1, 2, 0x7F, 0x80, 0x81, 0xFE, 0xFF][(state >> 60) as usize & 7];
            tags.set(slot, *byte);
        }
        (tags, bytes)
    }

    #[test]
    fn every_way_to_compare_finds_every_equal_tag() {
        for seed in 0..2_000 {
            let (tags, bytes) = filled(seed);
            let seen = tags.seen();
            for tag in [1, 2, 0x7F, 0x80, 0x81, 0xFE, 0xFF] {
                let equal = (0..WAYS).filter(|&slot| bytes[slot] == tag).fold(0u16, |mask, slot| mask | 1 << slot);
                assert_eq!(seen.matching_words(tag) & equal, equal);
                assert_eq!(seen.matching(tag).0 & equal, equal);
                assert_eq!(tags.matching(tag).0 & equal, equal);
                #[cfg(all(target_arch = "x86_64", target_feature = "sse2", not(miri)))]
                assert_eq!([seen.matching_sse2(tag), tags.matching_in_memory(tag)], [equal; 2]);
            }
        }
    }

    #[test]
    fn free_and_taken_slots_are_told_exactly() {
        for seed in 0..2_000 {
            let (tags, bytes) = filled(seed);
            let seen = tags.seen();
            let free: Vec<_> = seen.free().collect();
            assert_eq!(free, (0..WAYS).filter(|&slot| bytes[slot] == 0).collect::<Vec<_>>());
            assert_eq!(seen.exactly_zero_words() & 0x7FFF, seen.free().0);
            assert_eq!(seen.taken().0.count_ones() as usize, WAYS - free.len());
            assert_eq!(seen.passed_by(), bytes[15]);
        }
    }

    #[test]
    fn the_count_of_passers_by_sticks_at_its_end() {
        let tags = Tags::new();
        tags.pass_by();
        tags.pass_by();
        tags.come_back();
        assert_eq!(tags.seen().passed_by(), 1);
        for _ in 0..300 {
            tags.pass_by();
        }
        for _ in 0..300 {
            tags.come_back();
        }
        assert_eq!(tags.seen().passed_by(), 255);
    }
}
