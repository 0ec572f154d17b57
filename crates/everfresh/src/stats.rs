//! Counters that cost a hit next to nothing, and the snapshot that users read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::available_parallelism;

use crate::event::{Cause, Ending, NotStored, Outcome, RefreshStatus};
use crate::thread::current_thread;

const OUTCOMES: usize = Outcome::ALL.len();
const CAUSES: usize = Cause::ALL.len();
const STATUSES: usize = RefreshStatus::NotNeeded as usize + 1;
/// What counts as an outcome and as a status.
const STALE_AND_RUNNING: usize = OUTCOMES + CAUSES + STATUSES;
const STALE_AND_BACKING_OFF: usize = STALE_AND_RUNNING + 1;
const HOT: usize = STALE_AND_BACKING_OFF + 1;

/// Threads that have counts of their own, at least: also on a small machine a program has some that only wait.
const FEWEST_STRIPES: usize = 16;
const MOST_STRIPES: usize = 128;

/// What many threads count at once, a line for each of them.
#[repr(align(128))]
#[derive(Default)]
struct Stripe {
    counts: [AtomicU64; HOT],
}

/// The counters of one cache.
pub(crate) struct Counters {
    /// One for each of the first threads.
    stripes: Box<[Stripe]>,
    /// For all others.
    shared: Box<Stripe>,
    loads: Endings,
    refreshes: Endings,
    not_stored: [AtomicU64; 5],
    level_failures: AtomicU64,
}

/// The counts that only the calling thread writes.
pub(crate) struct OwnCounts<'c>(&'c Stripe);

impl OwnCounts<'_> {
    #[inline(always)]
    pub(crate) fn outcome(&mut self, outcome: Outcome) {
        self.count(outcome as usize, 1);
    }

    /// An outcome, and what became of the refresh that a stale one wants.
    #[inline]
    pub(crate) fn lookup(&mut self, outcome: Outcome, status: RefreshStatus) {
        self.outcome(outcome);
        if outcome == Outcome::Stale {
            self.count(OUTCOMES + CAUSES + status as usize, 1);
        }
    }

    /// A stale lookup of a key that is being renewed, or left alone after a failure: in one step, as most are such.
    #[inline(always)]
    pub(crate) fn stale_and_left_alone(&mut self, status: RefreshStatus) {
        match status {
            RefreshStatus::AlreadyRunning => self.count(STALE_AND_RUNNING, 1),
            RefreshStatus::BackingOff => self.count(STALE_AND_BACKING_OFF, 1),
            _ => self.lookup(Outcome::Stale, status),
        }
    }

    #[inline(always)]
    fn count(&mut self, index: usize, more: u64) {
        // No other write comes between.
        let count = &self.0.counts[index];
        count.store(count.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Endings {
    stored: AtomicU64,
    not_modified: AtomicU64,
    absent: AtomicU64,
    discarded: AtomicU64,
    failed: AtomicU64,
    panicked: AtomicU64,
    timed_out: AtomicU64,
    abandoned: AtomicU64,
}

impl Counters {
    pub(crate) fn new() -> Counters {
        let threads = available_parallelism().map_or(4, usize::from);
        Counters {
            stripes: (0..(2 * threads).clamp(FEWEST_STRIPES, MOST_STRIPES)).map(|_| Stripe::default()).collect(),
            shared: Box::default(),
            loads: Endings::default(),
            refreshes: Endings::default(),
            not_stored: Default::default(),
            level_failures: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(crate) fn outcome(&self, outcome: Outcome) {
        self.count_hot(outcome as usize, 1);
    }

    #[inline]
    pub(crate) fn left(&self, cause: Cause) {
        self.count_hot(OUTCOMES + cause as usize, 1);
    }

    /// As [`left`](Counters::left), for several.
    #[inline]
    pub(crate) fn many_left(&self, cause: Cause, count: u32) {
        if count > 0 {
            self.count_hot(OUTCOMES + cause as usize, u64::from(count));
        }
    }

    pub(crate) fn refresh_status(&self, status: RefreshStatus) {
        self.count_hot(OUTCOMES + CAUSES + status as usize, 1);
    }

    /// The counts of a thread that knows its number, if it has some of its own.
    #[inline(always)]
    pub(crate) fn of_thread(&self, thread: usize) -> Option<OwnCounts<'_>> {
        self.stripes.get(thread).map(OwnCounts)
    }

    #[inline]
    fn count_hot(&self, index: usize, more: u64) {
        match self.of_thread(current_thread()) {
            Some(mut own) => own.count(index, more),
            None => _ = self.shared.counts[index].fetch_add(more, Ordering::Relaxed),
        }
    }

    pub(crate) fn load_ended(&self, ending: Ending) {
        self.loads.count(ending);
    }

    pub(crate) fn refresh_ended(&self, ending: Ending) {
        self.refreshes.count(ending);
    }

    pub(crate) fn not_stored(&self, why: NotStored) {
        self.not_stored[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn level_failed(&self) {
        self.level_failures.fetch_add(1, Ordering::Relaxed);
    }

    fn sum(&self, index: usize) -> u64 {
        self.stripes.iter().chain([&*self.shared]).map(|stripe| stripe.counts[index].load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn snapshot(&self, entries: usize, weight: u64, capacity: Option<u64>) -> Stats {
        let outcome = |outcome: Outcome| self.sum(outcome as usize);
        let cause = |cause: Cause| self.sum(OUTCOMES + cause as usize);
        let status = |status: RefreshStatus| self.sum(OUTCOMES + CAUSES + status as usize);
        let (running, backing_off) = (self.sum(STALE_AND_RUNNING), self.sum(STALE_AND_BACKING_OFF));
        let not_stored = |why: NotStored| self.not_stored[why as usize].load(Ordering::Relaxed);
        Stats {
            hits: outcome(Outcome::Hit),
            stale: outcome(Outcome::Stale) + running + backing_off,
            loaded: outcome(Outcome::Loaded),
            coalesced: outcome(Outcome::Coalesced),
            revalidated: outcome(Outcome::Revalidated),
            fallback: outcome(Outcome::Fallback),
            bypass: outcome(Outcome::Bypass),
            second_level: outcome(Outcome::SecondLevel),
            negative: outcome(Outcome::Negative),
            misses: outcome(Outcome::Miss),
            failed: outcome(Outcome::Failed),
            loads: self.loads.snapshot(),
            refreshes: self.refreshes.snapshot(),
            refreshes_started: status(RefreshStatus::Started),
            refreshes_skipped: Skipped {
                already_running: status(RefreshStatus::AlreadyRunning) + running,
                backing_off: status(RefreshStatus::BackingOff) + backing_off,
                saturated: status(RefreshStatus::Saturated),
                unavailable: status(RefreshStatus::Unavailable),
                no_loader: status(RefreshStatus::NoLoader),
                refused: status(RefreshStatus::Refused),
            },
            left: Left {
                evicted: cause(Cause::Evicted),
                expired: cause(Cause::Expired),
                replaced: cause(Cause::Replaced),
                removed: cause(Cause::Removed),
                invalidated: cause(Cause::Invalidated),
            },
            not_stored: Unstored {
                overtaken: not_stored(NotStored::Overtaken),
                entry_gone: not_stored(NotStored::EntryGone),
                too_heavy: not_stored(NotStored::TooHeavy),
                rejected: not_stored(NotStored::Rejected),
                not_servable: not_stored(NotStored::NotServable),
            },
            level_failures: self.level_failures.load(Ordering::Relaxed),
            entries,
            weight,
            capacity,
        }
    }
}

impl Endings {
    fn count(&self, ending: Ending) {
        let counter = match ending {
            Ending::Stored => &self.stored,
            Ending::NotModified => &self.not_modified,
            Ending::Absent => &self.absent,
            Ending::Discarded(_) => &self.discarded,
            Ending::Failed => &self.failed,
            Ending::Panicked => &self.panicked,
            Ending::TimedOut => &self.timed_out,
            Ending::Abandoned => &self.abandoned,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn snapshot(&self) -> Ended {
        Ended {
            stored: self.stored.load(Ordering::Relaxed),
            not_modified: self.not_modified.load(Ordering::Relaxed),
            absent: self.absent.load(Ordering::Relaxed),
            discarded: self.discarded.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            panicked: self.panicked.load(Ordering::Relaxed),
            timed_out: self.timed_out.load(Ordering::Relaxed),
            abandoned: self.abandoned.load(Ordering::Relaxed),
        }
    }
}

/// A snapshot of a cache's counters. Each counts from the birth of the cache.
///
/// Counters of different threads are read one after the other, so a snapshot taken while others work may be off by what
/// they do meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Lookups that were [`Outcome::Hit`].
    pub hits: u64,
    /// Lookups that were [`Outcome::Stale`].
    pub stale: u64,
    /// Lookups that were [`Outcome::Loaded`].
    pub loaded: u64,
    /// Lookups that were [`Outcome::Coalesced`].
    pub coalesced: u64,
    /// Lookups that were [`Outcome::Revalidated`].
    pub revalidated: u64,
    /// Lookups that were [`Outcome::Fallback`].
    pub fallback: u64,
    /// Lookups that were [`Outcome::Bypass`].
    pub bypass: u64,
    /// Lookups that were [`Outcome::SecondLevel`].
    pub second_level: u64,
    /// Lookups that were [`Outcome::Negative`].
    pub negative: u64,
    /// Lookups that were [`Outcome::Miss`].
    pub misses: u64,
    /// Lookups that were [`Outcome::Failed`].
    pub failed: u64,
    /// How loads ended, in the foreground and where [`refresh`](crate::Cache::refresh), [`warm`](crate::Cache::warm) or a schedule
    /// found no value.
    pub loads: Ended,
    /// How refreshes of values that are there ended.
    pub refreshes: Ended,
    /// Refreshes of values that are there that were started; each of them ends once.
    pub refreshes_started: u64,
    /// Refreshes that were wished for and not started, by reason.
    pub refreshes_skipped: Skipped,
    /// Entries that left, by cause.
    pub left: Left,
    /// Values that were made and not stored, by reason.
    pub not_stored: Unstored,
    /// Calls of the second level that failed.
    pub level_failures: u64,
    /// Entries held now, expired ones that are not reclaimed yet among them.
    pub entries: usize,
    /// The sum of the weights, as [`Cache::weight`](crate::Cache::weight) tells it.
    pub weight: u64,
    /// The bound on entries or weight; `None` if there is none.
    pub capacity: Option<u64>,
}

impl Stats {
    /// All lookups: the sum over the outcomes.
    pub fn lookups(&self) -> u64 {
        self.hits
            + self.stale
            + self.loaded
            + self.coalesced
            + self.revalidated
            + self.fallback
            + self.bypass
            + self.second_level
            + self.negative
            + self.misses
            + self.failed
    }

    /// The fraction of lookups that were served from memory at once, fresh or stale; 0 before the first lookup.
    pub fn hit_rate(&self) -> f64 {
        match self.lookups() {
            0 => 0.0,
            lookups => (self.hits + self.stale) as f64 / lookups as f64,
        }
    }
}

/// How loads, or refreshes, ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Ended {
    /// With a value that was stored.
    pub stored: u64,
    /// With the word that the old value still holds.
    pub not_modified: u64,
    /// With the word that there is no value.
    pub absent: u64,
    /// With a result that was not stored: neither a success nor a failure, but for one that `store_if` rejects, which
    /// sets a pause as a failure does.
    pub discarded: u64,
    /// With the loader's error.
    pub failed: u64,
    /// With a panic.
    pub panicked: u64,
    /// By their deadline.
    pub timed_out: u64,
    /// By being dropped.
    pub abandoned: u64,
}

/// Why refreshes were not started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Skipped {
    /// The key was being loaded already.
    pub already_running: u64,
    /// The last attempt had failed a short while ago.
    pub backing_off: u64,
    /// `max_refreshes` others were running. [`warm`](crate::Cache::warm) and schedules wait for places and ask again: each time they find
    /// none counts here.
    pub saturated: u64,
    /// No worker or runtime could be had, or the cache was closed.
    pub unavailable: u64,
    /// Nobody had said how to load the key.
    pub no_loader: u64,
    /// The policy behind the cache would have refused the load.
    pub refused: u64,
}

/// Why entries left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Left {
    /// [`Cause::Evicted`].
    pub evicted: u64,
    /// [`Cause::Expired`].
    pub expired: u64,
    /// [`Cause::Replaced`].
    pub replaced: u64,
    /// [`Cause::Removed`].
    pub removed: u64,
    /// [`Cause::Invalidated`].
    pub invalidated: u64,
}

/// Why values were not stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Unstored {
    /// [`NotStored::Overtaken`].
    pub overtaken: u64,
    /// [`NotStored::EntryGone`].
    pub entry_gone: u64,
    /// [`NotStored::TooHeavy`].
    pub too_heavy: u64,
    /// [`NotStored::Rejected`].
    pub rejected: u64,
    /// [`NotStored::NotServable`].
    pub not_servable: u64,
}
