//! S3-FIFO within the buckets: which entry goes when room is needed.
//!
//! New entries are in the small part, and move to the main part at their second use; what falls out of the small part
//! leaves a print of its hash behind (a ghost), and goes straight to the main part when it comes again. The main part is
//! a queue whose head gets another round for each use. Instead of two lists there are ages and marks in the buckets, and
//! the candidates are the entries of the bucket that needs room and of one other.

use crate::store::ahead::prefetch;
use crate::store::clock::Clock;
use crate::store::table::{Place, Table};

/// Prints kept for each bucket: about as many as it holds entries.
const GHOSTS: usize = 15;
/// Where a line of ghosts keeps the place of its oldest.
const CURSOR: usize = 15;
/// Uses that lead from the small part to the main one.
const PROMOTE_AT: u8 = 2;

/// What is noted of each bucket, in a cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line {
    /// When each entry came to its part.
    times: [u16; 16],
    /// Prints of what left the small part lately, and the place of the oldest.
    ghosts: [u16; 16],
}

pub(super) struct Queues(Vec<Line>);

impl Queues {
    pub(super) fn new(buckets: usize) -> Queues {
        Queues(vec![Line { times: [0; 16], ghosts: [0; 16] }; buckets])
    }

    pub(super) fn adopt(&mut self, place: Place, before: &Queues, from: Place, later: impl Fn(u16) -> u16) {
        self.0[place.bucket()].times[place.slot()] = later(before.0[from.bucket()].times[from.slot()]);
    }

    /// Notes a new entry. Returns whether its key left the small part not long ago.
    pub(super) fn arrive(&mut self, place: Place, home: usize, print: u16, now: u16) -> bool {
        self.0[place.bucket()].times[place.slot()] = now;
        let ghosts = &mut self.0[home].ghosts;
        // All are compared, so that they can be at once.
        let same = (0..GHOSTS).fold(0_u16, |same, ghost| same | u16::from(ghosts[ghost] == print) << ghost);
        if same != 0 {
            ghosts[same.trailing_zeros() as usize] = 0;
        }
        same != 0
    }

    #[inline]
    pub(super) fn prefetch(&self, bucket: usize) {
        prefetch(&self.0[bucket]);
    }

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
        let buckets = if own == other { [own, own] } else { [own, other] };
        let mut live = buckets.map(|bucket| {
            let spared = spared.filter(|place| place.bucket() == bucket).map_or(0, |place| 1 << place.slot());
            table.head(bucket).tags.seen().taken().0 & !spared
        });
        if own == other {
            live[1] = 0;
        }
        let count = live[0].count_ones() + live[1].count_ones();
        let mut main = [0, 1].map(|index: usize| table.head(buckets[index]).main() & live[index]);
        // Readers may count uses meanwhile; this many rounds are more than all uses that were there at the beginning.
        for _ in 0..4 * count {
            let small = [live[0] & !main[0], live[1] & !main[1]];
            let small_count = small[0].count_ones() + small[1].count_ones();
            // The small part has a tenth as its share.
            let from_small = small_count * 10 > count || small_count == count;
            let (index, slot) = self.oldest(buckets, if from_small { small } else { main }, now)?;
            let head = table.head(buckets[index]);
            let mark = head.mark(slot);
            if from_small && mark.uses() >= PROMOTE_AT {
                head.set_mark(slot, mark.promoted());
                main[index] |= 1 << slot;
            } else if !from_small && mark.uses() > 0 {
                head.set_mark(slot, mark.with_uses(mark.uses() - 1));
            } else {
                return Some(Place::new(buckets[index], slot));
            }
            self.0[buckets[index]].times[slot] = now;
        }
        self.oldest(buckets, live, now).map(|(index, slot)| Place::new(buckets[index], slot))
    }

    /// The oldest of the chosen slots of two buckets.
    fn oldest(&self, buckets: [usize; 2], chosen: [u16; 2], now: u16) -> Option<(usize, usize)> {
        if chosen == [0, 0] {
            return None;
        }
        // Age above place in one number, for all slots, so that the search has no branches.
        let mut oldest = -1;
        for index in 0..2 {
            let times = &self.0[buckets[index]].times;
            for (slot, &time) in times.iter().enumerate() {
                let counts = i32::from(chosen[index] >> slot & 1) - 1;
                let age = i32::from(now.wrapping_sub(time));
                oldest = oldest.max((age << 5 | (index << 4 | slot) as i32) | counts);
            }
        }
        Some((oldest as usize >> 4 & 1, oldest as usize & 0xF))
    }
}
