//! A shard's own time, which goes by arrivals, and its chance.

use crate::store::tags::WAYS;

pub(super) struct Clock {
    arrivals: u64,
    /// Arrivals per unit of age, as a power of two: as many entries as there are take some five hundred units, so that sixteen bits
    /// of age reach back over a hundred generations of them.
    shift: u32,
    chance: u64,
}

impl Clock {
    pub(super) fn new(seed: u64) -> Clock {
        Clock { arrivals: 0, shift: 0, chance: seed | 1 }
    }

    /// The clock for a table of this many buckets, and by how much ages in the old units are to be shifted.
    pub(super) fn for_buckets(&self, buckets: usize) -> (Clock, u32) {
        let shift = (buckets * WAYS / 512).checked_ilog2().unwrap_or(0).max(self.shift);
        (Clock { shift, ..*self }, shift - self.shift)
    }

    #[inline]
    pub(super) fn now(&self) -> u16 {
        (self.arrivals >> self.shift) as u16
    }

    /// Counts an arrival and returns its time.
    #[inline]
    pub(super) fn arrive(&mut self) -> u16 {
        self.arrivals += 1;
        self.now()
    }

    /// Some number below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        // xorshift64*, Vigna 2016.
        self.chance ^= self.chance >> 12;
        self.chance ^= self.chance << 25;
        self.chance ^= self.chance >> 27;
        let number = self.chance.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
        ((number * end as u64) >> 32) as usize
    }
}
