//! Where writers take empty nodes from, and leave what they have taken out: one place for each few threads, whatever the shard.
//!
//! A node is filled by the processor that emptied it a while ago, and what a thread has removed is looked through by itself. Were it kept
//! with the shards, each write would fetch a line or two from the cache of whichever processor was at that shard before.
#![allow(unsafe_code, reason = "fills nodes, which are pointers")]

use std::mem::needs_drop;
use std::sync::Arc;

use crate::entry::Entry;
use crate::store::barrier::Stamp;
use crate::store::ground::Ground;
use crate::store::hazard::Guarded;
use crate::store::lock::{Guard, Lock};
use crate::store::slab::{Depot, Node, Remaining};
use crate::sync::{AtomicBool, AtomicUsize, Ordering};
use crate::thread::current_thread;

/// Yards for each thread that can run at once, so that two that do seldom share one.
const YARDS_A_THREAD: usize = 2;
const MOST_YARDS: usize = 64;
/// Lots of empty nodes that a yard keeps. What is more goes to the depot: else a thread that only removes would gather all memory, and
/// those that only put would take more and more.
const MOST_LOTS: usize = 8;

pub(super) struct Yards<K, V> {
    yards: Box<[Yard<K, V>]>,
    /// How many of them have had garbage.
    used: AtomicUsize,
    /// How many shards share them.
    shards: usize,
    /// Removed entries are dropped as soon as nobody reads them.
    pub(super) prompt: bool,
    /// Garbage of a yard that costs more than this is dropped at once, by whoever made it.
    pub(super) most_garbage: u64,
    /// An entry that is or was in this store has [something apart](Entry::has_something_apart), or may have by now.
    something_apart: AtomicBool,
    /// Last, so that it is dropped last: the memory of all that is in the yards.
    depot: Depot<K, V>,
}

// SAFETY: entries are dropped by whichever thread is last (Send), and looked at by none but who drops them. All pointers within are to
// memory of the depot.
unsafe impl<K: Send, V: Send> Sync for Yards<K, V> {}
// SAFETY: as above; moving them moves the entries that wait there.
unsafe impl<K: Send, V: Send> Send for Yards<K, V> {}

/// One of them, on lines of its own.
#[repr(align(128))]
pub(super) struct Yard<K, V> {
    pub(super) stock: Lock<Stock<K, V>>,
    /// Removed entries that are not dropped yet; counted where they are dropped promptly.
    pub(super) waiting: AtomicUsize,
}

/// What is in a yard. What every write changes stands in the line of the lock.
#[repr(C)]
pub(super) struct Stock<K, V> {
    /// Empty nodes; the last one is filled next.
    spare: Vec<Node<K, V>>,
    pub(super) garbage: Garbage<K, V>,
    /// How much garbage may lie around before somebody looks again.
    pub(super) collect_at: usize,
    /// It has had garbage, and is counted.
    is_used: bool,
    /// The entries of the shard that was written last: what garbage is measured by.
    pub(super) len: usize,
    pub(super) guarded: Guarded,
}

/// Removed entries that are not dropped yet: readers may still reach them.
#[repr(C)]
pub(super) struct Garbage<K, V> {
    /// The latest.
    pub(super) fresh: Vec<Node<K, V>>,
    /// What came together since it was last looked through.
    pub(super) cost: u64,
    /// Those removed before `since`: when a barrier has passed since then, hazards tell who still reads them.
    pub(super) aging: Vec<Node<K, V>>,
    pub(super) since: Stamp,
}

impl<K, V> Garbage<K, V> {
    fn new() -> Garbage<K, V> {
        Garbage { fresh: Vec::new(), aging: Vec::new(), since: Stamp::default(), cost: 0 }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.fresh.len() + self.aging.len()
    }

    /// Whether a barrier has passed for all that is aging.
    pub(super) fn is_ripe(&self) -> bool {
        self.since.is_passed()
    }

    /// All that is fresh begins to age; what aged already begins anew.
    pub(super) fn age(&mut self) {
        if self.fresh.is_empty() {
            return;
        }
        if self.aging.is_empty() {
            std::mem::swap(&mut self.aging, &mut self.fresh);
        } else {
            self.aging.append(&mut self.fresh);
        }
        self.since = Stamp::now();
    }
}

impl<K, V> Yards<K, V> {
    /// For so many shards. `most_garbage` is what all garbage may cost together.
    pub(super) fn new(ground: Arc<Ground>, shards: usize, prompt: bool, most_garbage: u64) -> Yards<K, V> {
        let threads = std::thread::available_parallelism().map_or(8, usize::from);
        // Who waits for a removed entry to be dropped has one place to look.
        let most = if prompt { 1 } else { shards };
        let count = (YARDS_A_THREAD * threads).next_power_of_two().min(MOST_YARDS).min(most);
        let yard = |_| Yard {
            stock: Lock::new(Stock {
                spare: Vec::new(),
                garbage: Garbage::new(),
                collect_at: 0,
                is_used: false,
                len: 0,
                guarded: Guarded::default(),
            }),
            waiting: AtomicUsize::new(0),
        };
        Yards {
            yards: (0..count).map(yard).collect(),
            used: AtomicUsize::new(0),
            shards,
            prompt,
            most_garbage: if most_garbage == u64::MAX { u64::MAX } else { most_garbage / count as u64 },
            something_apart: AtomicBool::new(false),
            depot: Depot::new(ground),
        }
    }

    pub(super) fn all(&self) -> &[Yard<K, V>] {
        &self.yards
    }

    /// The yard of this thread, locked. That lock comes after those of shards, where both are held, and no code of the user's runs under it.
    #[inline]
    pub(super) fn enter(&self) -> Inside<'_, K, V> {
        self.enter_one(self.own())
    }

    #[inline]
    pub(super) fn own(&self) -> &Yard<K, V> {
        // As many as a power of two.
        &self.yards[current_thread() & (self.yards.len() - 1)]
    }

    #[inline]
    pub(super) fn enter_one<'y>(&'y self, yard: &'y Yard<K, V>) -> Inside<'y, K, V> {
        Inside { yards: self, yard, stock: yard.stock.lock() }
    }

    /// Tells that an entry of this store is going to have [something apart](Entry::has_something_apart). To be told before it has that,
    /// by who has a guard of it until then.
    pub(super) fn note_something_apart(&self) {
        if !self.something_apart.load(Ordering::Relaxed) {
            // Release: see `reuse_ripe`.
            self.something_apart.store(true, Ordering::Release);
        }
    }

    /// Whether an entry of these may have anything to drop.
    #[inline]
    pub(super) fn drops_anything(&self) -> bool {
        // Acquire: see `reuse_ripe`.
        needs_drop::<K>() || needs_drop::<V>() || self.something_apart.load(Ordering::Acquire)
    }

    pub(super) fn weights_count(&self) -> bool {
        self.most_garbage != u64::MAX
    }

    /// How many nodes there are, taken or empty.
    #[cfg(test)]
    pub(super) fn nodes(&self) -> usize {
        self.depot.nodes()
    }
}

/// A yard, with its lock held.
pub(super) struct Inside<'y, K, V> {
    pub(super) yards: &'y Yards<K, V>,
    pub(super) yard: &'y Yard<K, V>,
    pub(super) stock: Guard<'y, Stock<K, V>>,
}

impl<'y, K, V> Inside<'y, K, V> {
    /// Puts the entry into an empty node, and asks for the next one.
    #[inline]
    pub(super) fn fill(&mut self, entry: Entry<K, V>) -> Node<K, V> {
        if entry.has_something_apart() {
            self.yards.note_something_apart();
        }
        let spare = &mut self.stock.spare;
        let node = match spare.pop() {
            Some(node) => node,
            None => self.yards.depot.supply(spare),
        };
        if let Some(next) = spare.last() {
            next.prefetch();
        }
        // SAFETY: an empty node holds nothing that matters, and belongs to us alone.
        unsafe { node.as_raw().write(entry) };
        node
    }

    /// Puts a node among the garbage, after its slot was overwritten with the lock of its shard held, which has `len` entries.
    #[inline]
    pub(super) fn discard(&mut self, node: Node<K, V>, cost: u64, len: usize) {
        let stock = &mut *self.stock;
        stock.len = len;
        let garbage = &mut stock.garbage;
        garbage.fresh.push(node);
        // Where nothing is too much, it need not be written.
        if self.yards.weights_count() {
            garbage.cost = garbage.cost.saturating_add(cost);
        }
        if self.yards.prompt {
            // SeqCst: counted before the look at the hazards; see `let_go_promptly`.
            self.yard.waiting.store(garbage.len(), Ordering::SeqCst);
        }
    }

    /// Takes empty nodes back.
    ///
    /// # Safety
    /// Each is here once, nobody can reach it any more, and what was in it is dropped or has nothing to drop.
    pub(super) unsafe fn take_back(&mut self, nodes: impl IntoIterator<Item = Node<K, V>>) {
        let spare = &mut self.stock.spare;
        spare.extend(nodes);
        if spare.len() > MOST_LOTS * Depot::<K, V>::LOT {
            self.yards.depot.take_surplus(spare);
        }
    }

    /// The entries that are this yard's share, about: all that were ever used have the same one.
    pub(super) fn share(&mut self) -> usize {
        if !std::mem::replace(&mut self.stock.is_used, true) {
            self.yards.used.fetch_add(1, Ordering::Relaxed);
        }
        self.stock.len.saturating_mul(self.yards.shards) / self.yards.used.load(Ordering::Relaxed)
    }
}

impl<K, V> Drop for Yard<K, V> {
    fn drop(&mut self) {
        let mut stock = self.stock.lock();
        let mut left = std::mem::take(&mut stock.garbage.fresh);
        left.append(&mut stock.garbage.aging);
        drop(stock);
        // SAFETY: all guards borrow the store, which ends. Each was put among the garbage once, and its memory goes after this.
        drop(unsafe { Remaining::new(left) });
    }
}
