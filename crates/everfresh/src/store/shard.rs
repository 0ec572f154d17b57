//! One part of the store: a table that readers search without a lock, and the lock that its writers share.
#![allow(unsafe_code, reason = "the table and its entries are reached through pointers that a hazard guards")]

use std::ptr;

use crate::entry::Entry;
use crate::key::AsKey;
use crate::store::guard::Ref;
use crate::store::hazard::Hazard;
use crate::store::slab::Pool;
use crate::store::state::{Reach, State};
use crate::store::table::{Place, Table};
use crate::store::tags::tag;
use crate::sync::{AtomicPtr, AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering, lock, try_lock};

#[repr(align(128))]
pub(super) struct Shard<K, V> {
    /// Null until the first entry. Written under the lock.
    table: AtomicPtr<Table<K, V>>,
    /// Removed entries are dropped as soon as nobody reads them.
    pub(super) prompt: bool,
    /// Entries cost something.
    pub(super) bounded: bool,
    /// Removed entries that are not dropped yet.
    pub(super) waiting: AtomicUsize,
    pub(super) len: AtomicUsize,
    pub(super) pool: Pool<K, V>,
    state: Mutex<State<K, V>>,
    /// Counts uses where their exact order is kept.
    pub(super) uses: Option<Box<Uses>>,
}

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
    pub(super) fn new(state: State<K, V>, prompt: bool, bounded: bool, exact_order: bool) -> Shard<K, V> {
        Shard {
            table: AtomicPtr::new(ptr::null_mut()),
            prompt,
            bounded,
            waiting: AtomicUsize::new(0),
            len: AtomicUsize::new(0),
            pool: Pool::new(),
            state: Mutex::new(state),
            uses: exact_order.then(|| Box::new(Uses(AtomicU64::new(1)))),
        }
    }

    /// What a hazard holds to guard all of this shard.
    #[inline]
    pub(super) fn address(&self) -> usize {
        ptr::from_ref(self).addr()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State<K, V>> {
        lock(&self.state)
    }

    pub(super) fn try_lock(&self) -> Option<MutexGuard<'_, State<K, V>>> {
        try_lock(&self.state)
    }

    /// The lock-free read.
    #[inline]
    pub(super) fn find<Q: AsKey<K> + ?Sized>(&self, hash: u64, key: &Q, touch: bool) -> Option<Ref<'_, K, V>> {
        let wanted = tag(hash);
        let hazard = Hazard::guard_all(self.address());
        'table: loop {
            let current = self.table.load(Ordering::SeqCst);
            // SAFETY: loaded after the hazard guarded the shard, so it is not freed before the hazard lets go of both the
            // shard and the table.
            let table = unsafe { current.as_ref() };
            let Some(table) = table else { break };
            let mut bucket = table.home(hash);
            for _ in 0..table.buckets() {
                let head = table.head(bucket);
                let seen = head.tags.seen();
                for slot in seen.matching(wanted) {
                    let place = Place::new(bucket, slot);
                    let Some(node) = table.node(place) else { continue };
                    hazard.narrow(node.address(), current.addr());
                    // SAFETY: loaded from a slot of a guarded shard, and the hazard has guarded it ever since.
                    let entry = unsafe { node.entry() };
                    if key.is(&entry.key) {
                        if touch {
                            self.touch(table, place);
                        }
                        hazard.leave_table();
                        return Some(Ref::new(node, hazard, self));
                    }
                    hazard.widen(self.address());
                    if self.table.load(Ordering::SeqCst) != current {
                        continue 'table;
                    }
                }
                if seen.passed_by() == 0 {
                    break 'table;
                }
                bucket = table.after(bucket);
            }
            break;
        }
        self.let_go(hazard);
        None
    }

    #[inline]
    fn touch(&self, table: &Table<K, V>, place: Place) {
        match &self.uses {
            None => table.head(place.bucket()).touch(place.slot()),
            // Relaxed: of two uses at once either may be the later one; one before the next is seen by the lock's holder
            // as any other write of this thread is.
            Some(uses) => table.stamp(place).store(uses.next(), Ordering::Relaxed),
        }
    }

    /// Ends a guard; if removed entries wait for readers to leave, it may have been the last.
    #[inline]
    pub(super) fn let_go(&self, hazard: Hazard) {
        if !self.prompt {
            return;
        }
        // SeqCst both: whoever found this guard in its way had counted the waiting entry before it looked.
        hazard.release_ordered();
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.collect_all();
        }
    }

    /// The table as the holder of the lock sees it.
    #[inline]
    pub(super) fn table<'l>(&self, _locked: &'l Reach<K, V>) -> Option<&'l Table<K, V>> {
        // SAFETY: tables are freed only with the lock held and after another has taken their place; both need it
        // mutably, which the borrow rules out.
        unsafe { self.table.load(Ordering::Relaxed).as_ref() }
    }

    /// The entry in a slot as the holder of the lock sees it.
    #[inline]
    pub(super) fn entry<'l>(&self, locked: &'l Reach<K, V>, place: Place) -> Option<&'l Entry<K, V>> {
        let node = self.table(locked)?.node(place)?;
        // SAFETY: entries in a slot are not retired, and to take one out needs it mutably.
        Some(unsafe { node.entry() })
    }

    /// Puts a new table in the place of the current one, which waits until no reader can be in it.
    pub(super) fn publish(&self, locked: &mut Reach<K, V>, table: Box<Table<K, V>>) {
        let before = self.table.load(Ordering::Relaxed);
        locked.old_tables.reserve(1);
        // SeqCst: (3) in the domain's reasoning; also publishes what the table holds.
        self.table.store(Box::into_raw(table), Ordering::SeqCst);
        if !before.is_null() {
            locked.old_tables.push(before);
        }
        self.free_tables(locked);
    }

    /// Frees old tables unless a reader may be in them.
    pub(super) fn free_tables(&self, locked: &mut Reach<K, V>) {
        if locked.old_tables.is_empty() {
            return;
        }
        let Reach { old_tables, guarded, .. } = locked;
        crate::store::hazard::domain().look(guarded);
        if !guarded.has(self.address()) {
            old_tables.retain(|&table| {
                let read = guarded.has(table.addr());
                if !read {
                    // SAFETY: made by `Box::into_raw` in `publish`, unreachable since, and no hazard guards it. It holds
                    // pointers only, so no code of the user runs.
                    drop(unsafe { Box::from_raw(table) });
                }
                read
            });
        }
    }
}

impl<K, V> Drop for Shard<K, V> {
    fn drop(&mut self) {
        let table = self.table.load(Ordering::Relaxed);
        let mut state = self.lock();
        let mut left = std::mem::take(&mut state.reach.garbage);
        let old_tables = std::mem::take(&mut state.reach.old_tables);
        drop(state);
        for table in old_tables {
            // SAFETY: nobody can be reading: all guards borrow the store. Made by `Box::into_raw`.
            drop(unsafe { Box::from_raw(table) });
        }
        if !table.is_null() {
            // SAFETY: as above.
            let table = unsafe { Box::from_raw(table) };
            left.extend(table.taken().filter_map(|place| table.node(place)));
        }
        drop(Remaining { nodes: left });
    }
}

/// The entries that are left at the end. If a destructor panics, the others are dropped nevertheless.
struct Remaining<K, V> {
    nodes: Vec<crate::store::slab::Node<K, V>>,
}

impl<K, V> Drop for Remaining<K, V> {
    fn drop(&mut self) {
        while let Some(node) = self.nodes.pop() {
            let rest = Remaining { nodes: std::mem::take(&mut self.nodes) };
            // SAFETY: each node is in the list once, it holds an entry, and nobody else can reach it.
            unsafe { ptr::drop_in_place(node.as_raw()) };
            let mut rest = std::mem::ManuallyDrop::new(rest);
            self.nodes = std::mem::take(&mut rest.nodes);
        }
    }
}
