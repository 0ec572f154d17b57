//! S3-FIFO within the buckets: which entry goes when room is needed.
//!
//! New entries are in the small part, and move to the main part at their second use; what falls out of the small part
//! leaves a print of its hash behind (a ghost), and goes straight to the main part when it comes again. The main part is
//! a queue whose head gets another round for each use. Instead of two lists there are ages and marks in the buckets, and
//! the candidates are the entries of the bucket that needs room and of one other.

use crate::store::clock::Clock;
use crate::store::table::{Place, Table};
use crate::store::tags::WAYS;

/// Prints kept for each bucket: about as many as it holds entries.
const GHOSTS: usize = 15;
/// Where a line of ghosts keeps the place of its oldest.
const CURSOR: usize = 15;
/// Uses that lead from the small part to the main one.
const PROMOTE_AT: u8 = 2;

/// What left the small part of each bucket lately.
pub(super) struct Ghosts(Vec<[u16; 16]>);

impl Ghosts {
    pub(super) fn new(buckets: usize) -> Ghosts {
        Ghosts(vec![[0; 16]; buckets])
    }

    /// Whether a key with this print left the small part of this bucket not long ago; then it is forgotten.
    pub(super) fn recall(&mut self, bucket: usize, print: u16) -> bool {
        let Some(line) = self.0.get_mut(bucket) else { return false };
        match line[..GHOSTS].iter_mut().find(|ghost| **ghost == print) {
            Some(ghost) => {
                *ghost = 0;
                true
            }
            None => false,
        }
    }

    pub(super) fn remember(&mut self, bucket: usize, print: u16) {
        if let Some(line) = self.0.get_mut(bucket) {
            let cursor = usize::from(line[CURSOR]) % GHOSTS;
            line[cursor] = print;
            line[CURSOR] = ((cursor + 1) % GHOSTS) as u16;
        }
    }

    /// The entry to go: of these two buckets, but not `spared`. `None` if they hold nothing else.
    pub(super) fn victim<K, V>(
        &mut self,
        clock: &Clock,
        table: &Table<K, V>,
        buckets: [usize; 2],
        spared: Option<Place>,
    ) -> Option<Place> {
        let mut candidates = Candidates::of(table, buckets, spared, clock.now());
        // Readers may count uses meanwhile; this many rounds are more than all uses that were there at the beginning.
        for _ in 0..4 * candidates.count + 1 {
            let next = if candidates.small_is_over() { candidates.oldest(false) } else { candidates.oldest(true) };
            let index = next.or_else(|| candidates.oldest(false))?;
            let candidate = &mut candidates.list[index];
            let (bucket, slot) = (candidate.place.bucket(), candidate.place.slot());
            let head = table.head(bucket);
            let mark = head.mark(slot);
            let uses = mark.uses();
            if !candidate.main && uses >= PROMOTE_AT {
                head.set_mark(slot, mark.promoted());
                candidate.main = true;
                candidates.small -= 1;
            } else if candidate.main && uses > 0 {
                head.set_mark(slot, mark.with_uses(uses - 1));
            } else {
                return Some(candidate.place);
            }
            candidate.age = 0;
            head.set_age(slot, clock.now());
        }
        candidates.oldest(true).or_else(|| candidates.oldest(false)).map(|index| candidates.list[index].place)
    }
}

#[derive(Clone, Copy)]
struct Candidate {
    place: Place,
    main: bool,
    age: u16,
}

struct Candidates {
    list: [Candidate; 2 * WAYS],
    count: usize,
    small: usize,
}

impl Candidates {
    fn of<K, V>(table: &Table<K, V>, [own, other]: [usize; 2], spared: Option<Place>, now: u16) -> Candidates {
        let none = Candidate { place: Place::new(0, 0), main: false, age: 0 };
        let mut found = Candidates { list: [none; 2 * WAYS], count: 0, small: 0 };
        for bucket in [own, other] {
            let head = table.head(bucket);
            for place in table.taken_in(bucket) {
                if spared == Some(place) {
                    continue;
                }
                let main = head.mark(place.slot()).is_main();
                let age = now.wrapping_sub(head.age(place.slot()));
                found.list[found.count] = Candidate { place, main, age };
                found.count += 1;
                found.small += usize::from(!main);
            }
            if own == other {
                break;
            }
        }
        found
    }

    /// Whether the small part has more than its share, about a tenth.
    fn small_is_over(&self) -> bool {
        self.small * 10 > self.count
    }

    fn oldest(&self, main: bool) -> Option<usize> {
        let mut oldest: Option<usize> = None;
        for (index, candidate) in self.list[..self.count].iter().enumerate() {
            if candidate.main == main && oldest.is_none_or(|oldest| candidate.age > self.list[oldest].age) {
                oldest = Some(index);
            }
        }
        oldest
    }
}
