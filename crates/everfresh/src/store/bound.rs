//! How much the store may hold, and the one account that all shards draw on.

use crate::moment::Moment;
use crate::sync::{AtomicU64, Ordering};

/// What limits the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    Entries(usize),
    Weight(u64),
    Unbounded,
}

/// Which entry makes room when the cache is full.
///
/// Entries that have expired go before others, as far as who makes room finds them: what expired within the last 0.3 s may not be
/// known as such, and in a cache of more than some hundred entries it is not searched as a whole, but near the new entry and in
/// one more place by chance. Where half of 100,000 entries had expired, 994 of 1,000 that went were of those.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Eviction {
    /// New entries prove themselves in a small part of the cache before they may stay: the idea of S3-FIFO (Yang,
    /// Zhang, Qiu, Yue, Rashmi: "FIFO queues are all you need for cache eviction", SOSP 2023). One pass over many keys
    /// does not push out what is in use, and reads write nothing once an entry is known to be popular.
    ///
    /// A cache of up to 16,384 entries ([`capacity`](crate::Builder::capacity)) also remembers how often keys came that it no
    /// longer holds, and a new entry stays only if its key came clearly more often than that of the entry that would have to
    /// go (the admission of TinyLFU: Einziger, Friedman, Manes 2017). An entry that was just put may thus be the next to go;
    /// it is there at least until something else is put.
    #[default]
    S3Fifo,
    /// Exactly the least recently used entry of the whole cache; reads and writes are uses. Each read writes a stamp,
    /// and all writers share one lock: choose it where the order must be predictable.
    Lru,
}

/// What a store is made for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) bound: Bound,
    pub(crate) eviction: Eviction,
    /// Drop a removed value as soon as nobody reads it, instead of some at a time.
    pub(crate) prompt_drop: bool,
    /// When it begins: deadlines are kept with full precision for 36 years from then on.
    pub(crate) since: Moment,
}

/// The units that are taken: entries or weight. Never more than the bound, at any instant.
///
/// A unit is taken before the entry that needs it can be found, and given back after its entry has become unfindable.
pub(super) struct Account {
    bound: Bound,
    limit: u64,
    taken: AtomicU64,
}

impl Account {
    pub(super) fn new(bound: Bound) -> Account {
        let limit = match bound {
            Bound::Entries(entries) => u64::try_from(entries).unwrap_or(u64::MAX),
            Bound::Weight(weight) => weight,
            Bound::Unbounded => u64::MAX,
        };
        Account { bound, limit, taken: AtomicU64::new(0) }
    }

    pub(super) fn bound(&self) -> Bound {
        self.bound
    }

    /// What an entry of this weight costs; nothing where there is no bound.
    pub(super) fn cost(&self, weight: u64) -> u64 {
        match self.bound {
            Bound::Entries(_) => 1,
            Bound::Weight(_) => weight,
            Bound::Unbounded => 0,
        }
    }

    #[inline]
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    pub(super) fn is_weighted(&self) -> bool {
        matches!(self.bound, Bound::Weight(_))
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Takes all of `units`, or none.
    // Relaxed throughout: the number is its own truth; entries are published by other atomics.
    #[inline]
    fn try_take(&self, units: u64) -> bool {
        let limit = self.limit();
        let mut taken = self.taken.load(Ordering::Relaxed);
        loop {
            let Some(sum) = taken.checked_add(units).filter(|&sum| sum <= limit) else { return false };
            match self.taken.compare_exchange_weak(taken, sum, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => taken = now,
            }
        }
    }

    #[inline]
    pub(super) fn give_back(&self, units: u64) {
        if units > 0 {
            let before = self.taken.fetch_sub(units, Ordering::Relaxed);
            debug_assert!(before >= units, "more given back than was taken");
        }
    }
}

/// Units in a writer's hand; what is left at the end goes back.
pub(super) struct Permit<'s> {
    account: &'s Account,
    units: u64,
}

impl<'s> Permit<'s> {
    pub(super) fn empty(account: &'s Account) -> Permit<'s> {
        Permit { account, units: 0 }
    }

    /// Whether the hand holds `units`, filled up from what is free if need be.
    #[inline]
    pub(super) fn reaches(&mut self, units: u64) -> bool {
        if self.units < units && self.account.try_take(units - self.units) {
            self.units = units;
        }
        self.units >= units
    }

    /// Puts the units of an entry that became unfindable into the hand.
    pub(super) fn add(&mut self, units: u64) {
        self.units += units;
    }

    /// Leaves `units` with the entry that is about to be published.
    pub(super) fn spend(&mut self, units: u64) {
        debug_assert!(self.units >= units, "spent what was not there");
        self.units -= units;
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.account.give_back(self.units);
    }
}
