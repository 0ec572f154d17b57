//! What the holder of a shard's lock knows: all that readers do not need.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use crate::moment::Moment;
use crate::store::ahead::prefetch;
use crate::store::clock::Clock;
use crate::store::ground::{Ground, Plot};
use crate::store::policy::Policy;
use crate::store::table::{Place, Table};
use crate::store::tags::WAYS;

/// What every write changes stands together, in the line of the lock or the next one: when writers of two processors take turns,
/// each line that the other one has changed comes from its cache.
#[repr(C)]
pub(super) struct State<K, V> {
    pub(super) len: usize,
    /// The costs of all entries here.
    pub(super) held: u64,
    pub(super) reach: Reach<K, V>,
    pub(super) clock: Clock,
    pub(super) policy: Policy,
    pub(super) lines: Lines,
    pub(super) ground: Arc<Ground>,
}

/// What readers may still reach although it is no longer in use. Entries are borrowed from this, so that none is taken out, and freed,
/// while the holder of the lock looks at it.
pub(super) struct Reach<K, V> {
    pub(super) old_tables: Vec<*mut Table<K, V>>,
}

impl<K, V> State<K, V> {
    pub(super) fn new(ground: Arc<Ground>, weighted: bool, since: Moment, policy: Policy, seed: u64) -> State<K, V> {
        State {
            reach: Reach { old_tables: Vec::new() },
            lines: Lines::new(Arc::clone(&ground), weighted, since),
            clock: Clock::new(seed),
            policy,
            held: 0,
            len: 0,
            ground,
        }
    }
}

/// What is noted for each slot of the table, a line for each bucket and kind.
pub(super) struct Lines {
    ground: Arc<Ground>,
    /// Empty until the first entry with a deadline comes.
    deadlines: Plot<Deadlines>,
    /// Empty unless the bound is a weight.
    weights: Plot<[u64; WAYS]>,
    weighted: bool,
    /// No deadline comes before this one.
    soonest: u32,
    /// Deadlines are counted from here.
    since: Moment,
}

/// The deadlines of a bucket, and the soonest of them.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Deadlines([u32; 16]);

impl Deadlines {
    fn none() -> Deadlines {
        Deadlines([NEVER; 16])
    }
}

impl Deref for Deadlines {
    type Target = [u32; 16];

    #[inline]
    fn deref(&self) -> &[u32; 16] {
        &self.0
    }
}

impl DerefMut for Deadlines {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u32; 16] {
        &mut self.0
    }
}

/// No deadline.
const NEVER: u32 = u32::MAX;
/// Deadlines are kept in units of 2^28 ns, a quarter of a second, for 36 years; later ones are none.
const UNIT: u32 = 28;
/// The place of a line's earliest deadline, or of an earlier time.
const SOONEST: usize = 15;

impl Lines {
    pub(super) fn new(ground: Arc<Ground>, weighted: bool, since: Moment) -> Lines {
        Lines { ground, deadlines: Plot::empty(), weights: Plot::empty(), weighted, soonest: NEVER, since }
    }

    /// A deadline as it is kept: rounded up, so that nothing is called over too early.
    #[inline]
    fn coarse(&self, deadline: Moment) -> u32 {
        let units = self.nanos_until(deadline).div_ceil(1 << UNIT);
        u32::try_from(units).unwrap_or(NEVER)
    }

    /// The units that have passed.
    #[inline]
    fn passed(&self, now: Moment) -> u32 {
        // One less than `NEVER`, so that a deadline that will not come is not met at the end of time.
        u32::try_from(self.nanos_until(now) >> UNIT).unwrap_or(NEVER).min(NEVER - 1)
    }

    #[inline]
    fn nanos_until(&self, moment: Moment) -> u64 {
        moment.nanos().saturating_sub(self.since.nanos())
    }

    fn moment(&self, units: u32) -> Moment {
        if units == NEVER { Moment::NEVER } else { self.since.after(Duration::from_nanos(u64::from(units) << UNIT)) }
    }

    /// What the deadlines of a bucket take, in bytes.
    pub(super) fn bytes_of_bucket() -> usize {
        size_of::<Deadlines>()
    }

    /// Asks for what is noted of a bucket.
    #[inline]
    pub(super) fn prefetch(&self, bucket: usize) {
        if let Some(line) = self.deadlines.get(bucket) {
            prefetch(line);
        }
    }

    pub(super) fn deadline(&self, place: Place) -> Moment {
        self.deadlines.get(place.bucket()).map_or(Moment::NEVER, |line| self.moment(line[place.slot()]))
    }

    /// Whether any entry may be over at `now`.
    #[inline]
    pub(super) fn may_be_due(&self, now: Moment) -> bool {
        self.soonest <= self.passed(now)
    }

    /// Whether there is any deadline, or was since [`find_soonest`](Lines::find_soonest).
    pub(super) fn have_any(&self) -> bool {
        self.soonest != NEVER
    }

    /// Looks anew what the soonest deadline is.
    pub(super) fn find_soonest(&mut self) {
        self.soonest = self.deadlines.iter().map(|line| line[SOONEST]).min().unwrap_or(NEVER);
    }

    pub(super) fn weight(&self, place: Place) -> u64 {
        self.weights.get(place.bucket()).map_or(1, |line| line[place.slot()])
    }

    pub(super) fn set_weight(&mut self, place: Place, weight: u64) {
        if self.weighted {
            self.weights[place.bucket()][place.slot()] = weight;
        }
    }

    #[inline]
    pub(super) fn set_deadline(&mut self, buckets: usize, place: Place, deadline: Moment) {
        let units = self.coarse(deadline);
        let Some(line) = self.deadlines.get_mut(place.bucket()) else {
            if units != NEVER {
                self.begin_deadlines(buckets);
                self.set_deadline(buckets, place, deadline);
            }
            return;
        };
        line[place.slot()] = units;
        line[SOONEST] = line[SOONEST].min(units);
        // Seldom, and then it need not be written.
        if units < self.soonest {
            self.soonest = units;
        }
    }

    #[cold]
    #[inline(never)]
    fn begin_deadlines(&mut self, buckets: usize) {
        self.deadlines = Plot::new(&self.ground, buckets, Deadlines::none);
    }

    /// The slots of a bucket whose deadline has come.
    #[inline]
    pub(super) fn due(&mut self, bucket: usize, now: Moment) -> u16 {
        self.due_in_units(bucket, self.passed(now))
    }

    /// As [`Lines::due`], with those of the next quarter of a second: none is missed.
    pub(super) fn nearly_due(&mut self, bucket: usize, now: Moment) -> u16 {
        self.due_in_units(bucket, self.coarse(now).min(NEVER - 1))
    }

    #[inline]
    fn due_in_units(&mut self, bucket: usize, now: u32) -> u16 {
        let Some(line) = self.deadlines.get_mut(bucket) else { return 0 };
        if line[SOONEST] > now {
            return 0;
        }
        line[SOONEST] = line[..WAYS].iter().copied().min().unwrap_or(NEVER);
        (0..WAYS).filter(|&slot| line[slot] <= now).fold(0, |due, slot| due | 1 << slot)
    }

    /// Nothing is noted of a slot that became empty.
    pub(super) fn forget(&mut self, place: Place) {
        if let Some(line) = self.deadlines.get_mut(place.bucket()) {
            line[place.slot()] = NEVER;
        }
        if let Some(line) = self.weights.get_mut(place.bucket()) {
            line[place.slot()] = 0;
        }
    }

    /// Lines of the same kinds for a table of another size.
    pub(super) fn resized(&self, buckets: usize) -> Lines {
        let deadlines = if self.deadlines.is_empty() { 0 } else { buckets };
        let weights = if self.weighted { buckets } else { 0 };
        Lines {
            ground: Arc::clone(&self.ground),
            deadlines: Plot::new(&self.ground, deadlines, Deadlines::none),
            weights: Plot::new(&self.ground, weights, || [0; WAYS]),
            weighted: self.weighted,
            soonest: self.soonest,
            since: self.since,
        }
    }

    /// Takes over what `other` notes of its place.
    pub(super) fn adopt(&mut self, place: Place, other: &Lines, others_place: Place) {
        if let Some(line) = other.deadlines.get(others_place.bucket()) {
            let deadline = line[others_place.slot()];
            let own = &mut self.deadlines[place.bucket()];
            own[place.slot()] = deadline;
            own[SOONEST] = own[SOONEST].min(deadline);
        }
        if self.weighted {
            self.weights[place.bucket()][place.slot()] = other.weight(others_place);
        }
    }

    #[cfg(any(test, everfresh_fuzz))]
    /// Panics if a line does not fit what the table holds.
    pub(super) fn validate(&self, buckets: usize, taken: impl Fn(Place) -> bool) {
        assert!(self.deadlines.is_empty() || self.deadlines.len() == buckets, "a deadline line for each bucket");
        assert!(!self.weighted || self.weights.len() == buckets, "a weight line for each bucket");
        for (bucket, line) in self.deadlines.iter().enumerate() {
            assert!(self.soonest <= line[SOONEST], "bucket {bucket} has an earlier deadline than all");
            for slot in 0..WAYS {
                assert!(line[SOONEST] <= line[slot], "bucket {bucket} has an earlier deadline than its soonest");
                assert!(line[slot] == NEVER || taken(Place::new(bucket, slot)), "a free slot has a deadline");
            }
        }
    }
}

#[cfg(all(test, not(everfresh_loom)))]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from(Duration::from_millis(millis))
    }

    #[test]
    fn a_deadline_is_never_kept_as_an_earlier_one() {
        // A clock may count from a beginning long before the store's.
        for since in [0, 1, 1_760_000_000_000] {
            let lines = Lines::new(Ground::new(), false, at(since));
            for millis in [0, 1, 268, 269, 1_000, 86_400_000, 1 << 39] {
                let kept = lines.moment(lines.coarse(at(since + millis)));
                assert!(kept >= at(since + millis));
                assert!(kept.since(at(since + millis)) < Duration::from_millis(269), "{millis} ms after {since}");
            }
            assert!(lines.moment(lines.coarse(at(since + (1 << 41)))) == Moment::NEVER, "in more than 36 years");
            assert_eq!(lines.moment(lines.coarse(Moment::NEVER)), Moment::NEVER);
        }
    }

    #[test]
    fn only_slots_whose_deadline_has_passed_are_due() {
        let mut lines = Lines::new(Ground::new(), false, Moment::default());
        lines.set_deadline(2, Place::new(1, 3), Moment::NEVER);
        assert!(lines.deadlines.is_empty(), "no deadline needs no line");
        lines.set_deadline(2, Place::new(1, 3), at(5_000));
        lines.set_deadline(2, Place::new(1, 7), at(1_000));
        assert_eq!(lines.due(1, at(999)), 0);
        assert_eq!(lines.due(1, at(1_300)), 1 << 7);
        assert_eq!(lines.due(1, at(5_300)), 1 << 7 | 1 << 3);
        lines.forget(Place::new(1, 7));
        assert_eq!(lines.due(1, at(5_300)), 1 << 3);
        assert_eq!(lines.due(0, Moment::NEVER), 0);
    }
}
