//! One part of the store: a table that readers reach without a lock, and the lock that its writers share.
#![allow(unsafe_code, reason = "tables and entries are reached through pointers")]

use std::ptr;
use std::sync::Arc;

use crate::entry::Entry;
use crate::store::hazard::Hazard;
use crate::store::lock::{Guard, Lock};
use crate::store::slab::Remaining;
use crate::store::state::{Reach, State};
use crate::store::table::{Bucket, Place, Table};
use crate::store::yard::Yards;
use crate::sync::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

#[repr(C, align(128))]
pub(super) struct Shard<K, V> {
    /// The table, where a reader has nothing to do but read: uses are not kept exactly, and nobody waits for him to drop what
    /// was removed. Else null.
    plainly_read: AtomicPtr<Table<K, V>>,
    /// Null until the first entry. Both are written under the lock.
    table: AtomicPtr<Table<K, V>>,
    /// Counts uses where their exact order is kept.
    pub(super) uses: Option<Box<Uses>>,
    /// Removed entries are dropped as soon as nobody reads them.
    pub(super) prompt: bool,
    /// Entries cost something.
    pub(super) bounded: bool,
    /// Where its nodes come from, and go to.
    pub(super) yards: Arc<Yards<K, V>>,
    /// What follows is written often, on lines that readers have no need of.
    _apart: Apart,
    pub(super) state: Lock<State<K, V>>,
    pub(super) len: AtomicUsize,
}

/// What a store chooses for its shards.
pub(super) struct Choices {
    pub(super) bounded: bool,
    pub(super) exact_order: bool,
}

/// Begins a new line.
#[repr(align(64))]
struct Apart;

// SAFETY: entries are shared with all readers (Sync) and dropped by whichever thread is last (Send). All pointers within
// are to memory that the shard owns.
unsafe impl<K: Send + Sync, V: Send + Sync> Sync for Shard<K, V> {}
// SAFETY: as above; moving the shard moves its entries.
unsafe impl<K: Send, V: Send> Send for Shard<K, V> {}

/// A line of its own: all readers write it.
#[repr(align(128))]
pub(super) struct Uses(AtomicU64);

impl Uses {
    /// Later than all before. Relaxed: only the numbers count.
    #[inline]
    pub(super) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

impl<K, V> Shard<K, V> {
    pub(super) fn new(state: State<K, V>, yards: Arc<Yards<K, V>>, choices: Choices) -> Shard<K, V> {
        Shard {
            plainly_read: AtomicPtr::new(ptr::null_mut()),
            table: AtomicPtr::new(ptr::null_mut()),
            prompt: yards.prompt,
            bounded: choices.bounded,
            yards,
            _apart: Apart,
            state: Lock::new(state),
            len: AtomicUsize::new(0),
            uses: choices.exact_order.then(|| Box::new(Uses(AtomicU64::new(1)))),
        }
    }

    pub(super) fn lock(&self) -> Guard<'_, State<K, V>> {
        self.state.lock()
    }

    pub(super) fn try_lock(&self) -> Option<Guard<'_, State<K, V>>> {
        self.state.try_lock()
    }

    /// As [`current`](Shard::current), for who does nothing but read; `None` also where that is not enough.
    #[inline(always)]
    pub(super) fn plainly_read(&self) -> Option<&Table<K, V>> {
        // SeqCst: as in `current`.
        let table = self.plainly_read.load(Ordering::SeqCst);
        // SAFETY: as in `current`.
        unsafe { table.as_ref() }
    }

    /// The table of now, which may be an old one a moment later.
    #[inline(always)]
    pub(super) fn current(&self) -> Option<&Table<K, V>> {
        // SeqCst: also pairs with the store in `publish`, so that the table is seen as it was built.
        let table = self.table.load(Ordering::SeqCst);
        // SAFETY: tables are freed with the shard only.
        unsafe { table.as_ref() }
    }

    // SeqCst: pairs with the store in `publish`, which comes before the old one is vacated.
    #[inline]
    pub(super) fn is_current(&self, table: &Table<K, V>) -> bool {
        ptr::eq(self.table.load(Ordering::SeqCst), table)
    }

    /// Ends a guard; if removed entries wait for readers to leave, it may have been the last.
    #[inline(always)]
    pub(super) fn let_go(&self, hazard: Hazard) {
        if self.prompt {
            self.yards.let_go_promptly(hazard);
        }
    }

    /// The table as the holder of the lock sees it: no other takes its place meanwhile.
    #[inline]
    pub(super) fn table<'l>(&'l self, _locked: &'l Reach<K, V>) -> Option<&'l Table<K, V>> {
        // SAFETY: tables are freed with the shard only.
        unsafe { self.table.load(Ordering::Relaxed).as_ref() }
    }

    /// The entry in a slot as the holder of the lock sees it.
    #[inline]
    pub(super) fn entry<'l>(&'l self, locked: &'l Reach<K, V>, place: Place) -> Option<&'l Entry<K, V>> {
        self.entry_in(locked, &self.table(locked)?.at(place.bucket()), place.slot())
    }

    /// The same where the bucket is at hand.
    #[inline]
    pub(super) fn entry_in<'l>(
        &'l self,
        _locked: &'l Reach<K, V>,
        bucket: &Bucket<'l, K, V>,
        slot: usize,
    ) -> Option<&'l Entry<K, V>> {
        let node = bucket.node(slot)?;
        // SAFETY: entries in a slot are not retired, and to take one out needs `Reach` mutably; what was outgrown has none in its slots.
        Some(unsafe { node.entry() })
    }

    /// Puts a new table in the place of the current one. Readers may be in that, so it is kept, vacated: it held pointers only, and
    /// all of them together are smaller than the one in use.
    pub(super) fn publish(&self, locked: &mut Reach<K, V>, table: Box<Table<K, V>>) {
        let before = self.table.load(Ordering::Relaxed);
        locked.old_tables.reserve(1);
        // SeqCst: also publishes what the table holds.
        let table = Box::into_raw(table);
        if !self.prompt && self.uses.is_none() {
            self.plainly_read.store(table, Ordering::SeqCst);
        }
        self.table.store(table, Ordering::SeqCst);
        // SAFETY: made by `Box::into_raw`, and freed with the shard only.
        if let Some(old) = unsafe { before.as_ref() } {
            old.vacate();
            locked.old_tables.push(before);
        }
    }
}

impl<K, V> Drop for Shard<K, V> {
    fn drop(&mut self) {
        let table = self.table.load(Ordering::Relaxed);
        let mut state = self.lock();
        let old_tables = std::mem::take(&mut state.reach.old_tables);
        drop(state);
        for table in old_tables {
            // SAFETY: nobody can be reading: all guards borrow the store. Made by `Box::into_raw`.
            drop(unsafe { Box::from_raw(table) });
        }
        if !table.is_null() {
            // SAFETY: as above.
            let table = unsafe { Box::from_raw(table) };
            // SAFETY: as above; what is in a slot is nowhere else.
            drop(unsafe { Remaining::new(table.taken().filter_map(|place| table.node(place)).collect()) });
        }
    }
}
