//! From "taken out" to "dropped": removed entries wait until nobody reads them.
#![allow(unsafe_code, reason = "drops entries in place, once nobody reads them any more")]

use std::ptr;

use crate::store::barrier::heavy;
use crate::store::hazard::{Hazard, domain};
use crate::store::slab::Node;
use crate::store::yard::{Inside, Stock, Yard, Yards};
use crate::sync::Ordering;

/// Removed entries after which it is looked whether a barrier has passed: a fortieth of the yard's share, but at least so many and at
/// most so many. Where weights count a step is a batch at most, for all that has become free is dropped at once then.
const STEP: usize = 6;
const LONGEST_STEP: usize = 1024;
/// So many steps before a yard raises a barrier itself; one more while somebody else is at it. A tenth of all entries, that is.
const MOST_STEPS: usize = 3;

impl<K, V> Inside<'_, K, V> {
    /// Whether enough garbage has come together to be looked through.
    #[inline]
    pub(super) fn is_due(&self) -> bool {
        let fresh = self.stock.garbage.fresh.len();
        fresh >= self.stock.collect_at || self.yards.prompt && fresh > 0 || self.has_much()
    }

    /// Whether the garbage costs so much that nobody else's barrier is to be waited for.
    #[inline]
    fn has_much(&self) -> bool {
        self.stock.garbage.cost > self.yards.most_garbage
    }

    /// So many removed entries are a step.
    fn step(&mut self) -> usize {
        let longest = if self.yards.weights_count() { BATCH } else { LONGEST_STEP };
        (self.share() / 40).clamp(STEP, longest)
    }

    /// What is due where there is nothing to drop. Returns whether there is more, which whoever lets go of all locks is to look through.
    #[inline(never)]
    pub(super) fn is_still_due(&mut self) -> bool {
        self.reuse_ripe();
        self.is_due()
    }

    /// Takes garbage back that is ripe and that nobody reads, where there is nothing to drop: under the lock, for no code of the user's
    /// runs.
    fn reuse_ripe(&mut self) {
        let Stock { garbage, guarded, .. } = &mut *self.stock;
        if self.yards.prompt || self.yards.drops_anything() || garbage.aging.is_empty() || !garbage.is_ripe() {
            return;
        }
        domain().look(guarded);
        // Again: who gave one of these something apart had told so before, and has let go of it since, or guards it now. If the former,
        // the look has seen that, so that this comes after it.
        if self.yards.drops_anything() {
            return;
        }
        let mut kept = guarded.take_from(&mut garbage.aging, Node::address);
        let mut free = std::mem::take(&mut garbage.aging);
        // SAFETY: each was put among the garbage once, after its slot was overwritten, and leaves the garbage here. A barrier has passed
        // since, no hazard guards it, and none that comes will hold: its reader would look again. And there is nothing to drop.
        unsafe { self.take_back(free.drain(..)) };
        // Its memory serves again.
        free.append(&mut kept);
        self.stock.garbage.aging = free;
        self.begin_anew();
    }

    /// All that was ripe is gone but what is read; the rest begins to age.
    fn begin_anew(&mut self) {
        let garbage = &mut self.stock.garbage;
        garbage.age();
        if garbage.len() == 0 {
            garbage.cost = 0;
        }
        self.stock.collect_at = self.step();
    }

    /// Takes nodes that nobody reads from the ripe garbage.
    fn collect(&mut self, unreachable: &mut Unreachable<'_, K, V>) {
        let Stock { garbage, guarded, .. } = &mut *self.stock;
        domain().look(guarded);
        let mut index = garbage.aging.len();
        while index > 0 && !unreachable.is_full() {
            index -= 1;
            if !guarded.has(garbage.aging[index].address()) {
                let node = garbage.aging.swap_remove(index);
                // SAFETY: it was put among the garbage once, after its slot was overwritten, and it leaves the garbage
                // here. A barrier has passed since, no hazard guards it, and none that comes will hold: its reader would
                // look again.
                unsafe { unreachable.add(node) };
            }
        }
        if self.yards.prompt {
            self.yard.waiting.store(garbage.len(), Ordering::SeqCst);
        }
    }
}

impl<K, V> Yards<K, V> {
    /// Puts a node among the garbage that no slot names any more.
    pub(super) fn retire(&self, node: Node<K, V>, cost: u64) {
        let mut inside = self.enter();
        let len = inside.stock.len;
        inside.discard(node, cost, len);
        drop(inside);
        self.tidy();
    }

    /// Ends a guard; if removed entries wait for readers to leave, it may have been the last.
    #[inline(never)]
    pub(super) fn let_go_promptly(&self, hazard: Hazard) {
        // SeqCst both: whoever found this guard in its way had counted the waiting entry before it looked.
        hazard.release_ordered();
        for yard in self.all() {
            if yard.waiting.load(Ordering::SeqCst) > 0 {
                self.collect_all(yard);
            }
        }
    }

    /// Ends the guard of who took an entry out. A heavy one does not wait for the next writer.
    pub(super) fn let_go_of_removed(&self, hazard: Hazard, cost: u64) {
        if self.prompt {
            self.let_go_promptly(hazard);
            return;
        }
        drop(hazard);
        if cost > self.most_garbage {
            self.collect_all(self.own());
        } else {
            self.tidy();
        }
    }

    /// Drops garbage of this thread's yard if enough has come together. Runs user code.
    #[inline(never)]
    pub(super) fn tidy(&self) {
        let inside = self.enter();
        if !inside.is_due() {
            return;
        }
        if self.prompt {
            let yard = inside.yard;
            drop(inside);
            self.collect_all(yard);
        } else {
            self.look_through(inside);
        }
    }

    fn look_through<'y>(&'y self, mut inside: Inside<'y, K, V>) {
        let yard = inside.yard;
        if inside.stock.garbage.aging.is_empty() {
            inside.stock.garbage.age();
        }
        let much = inside.has_much();
        if much || !inside.stock.garbage.is_ripe() {
            let step = inside.step();
            let Stock { garbage, collect_at, .. } = &mut *inside.stock;
            let others = garbage.since.is_being_passed();
            if garbage.len() < (MOST_STEPS + usize::from(others)) * step && !much {
                *collect_at = garbage.fresh.len() + step;
                return;
            }
            // Nobody else's barrier has passed meanwhile: it is this one's turn, for all stores. What another one is to free is not made
            // younger, or that one were for nothing.
            if much || !others {
                garbage.age();
                garbage.cost = 0;
            }
            *collect_at = garbage.fresh.len() + step;
            drop(inside);
            heavy();
            inside = self.enter_one(yard);
        }
        self.drop_ripe(inside, self.weights_count());
    }

    /// Drops what is ripe and nobody reads: some of it or all, so that no writer has to drop hundreds of values for others. The rest
    /// begins to age.
    fn drop_ripe<'y>(&'y self, mut inside: Inside<'y, K, V>, all: bool) {
        let yard = inside.yard;
        inside.reuse_ripe();
        let mut more = true;
        while more && inside.stock.garbage.is_ripe() {
            let mut unreachable = Unreachable::none(self);
            inside.collect(&mut unreachable);
            more = unreachable.is_full();
            if !more {
                inside.begin_anew();
            } else if !all {
                // The next writer goes on.
                inside.stock.collect_at = inside.stock.garbage.fresh.len();
                more = false;
            }
            drop(inside);
            drop(unreachable);
            if !more {
                return;
            }
            inside = self.enter_one(yard);
        }
    }

    /// Drops all garbage of a yard that nobody reads.
    pub(super) fn collect_all(&self, yard: &Yard<K, V>) {
        let mut inside = self.enter_one(yard);
        inside.stock.garbage.age();
        if !inside.stock.garbage.aging.is_empty() && !inside.stock.garbage.is_ripe() {
            drop(inside);
            heavy();
            inside = self.enter_one(yard);
        }
        self.drop_ripe(inside, true);
    }
}

/// How many nodes are emptied at a time.
pub(super) const BATCH: usize = 32;

/// Nodes that nobody can reach any more. Dropping it drops their entries, then returns the nodes to the yard of this thread: to be done
/// with no lock held, for it runs the user's code.
pub(super) struct Unreachable<'s, K, V> {
    nodes: [Option<Node<K, V>>; BATCH],
    count: usize,
    yards: &'s Yards<K, V>,
}

impl<'s, K, V> Unreachable<'s, K, V> {
    pub(super) fn none(yards: &'s Yards<K, V>) -> Unreachable<'s, K, V> {
        Unreachable { nodes: [None; BATCH], count: 0, yards }
    }

    pub(super) fn is_full(&self) -> bool {
        self.count == BATCH
    }

    /// # Safety
    /// The node holds an entry, no slot of a table that is in use names it, no hazard guards it, and it is put here once.
    pub(super) unsafe fn add(&mut self, node: Node<K, V>) {
        debug_assert!(!self.is_full());
        node.prefetch();
        self.nodes[self.count] = Some(node);
        self.count += 1;
    }
}

impl<K, V> Drop for Unreachable<'_, K, V> {
    fn drop(&mut self) {
        if self.count == 0 {
            return;
        }
        let mut emptied = Emptied { nodes: [None; BATCH], count: 0, yards: self.yards };
        while self.count > 0 {
            self.count -= 1;
            let Some(node) = self.nodes[self.count].take() else { continue };
            // SAFETY: by the contract of `add` we alone know the node, and it holds an entry.
            if unsafe { node.entry() }.needs_drop() {
                // If a destructor of the user panics, this goes on with the others.
                let rest = Rest(self);
                // SAFETY: as above.
                unsafe { ptr::drop_in_place(node.as_raw()) };
                std::mem::forget(rest);
            }
            emptied.add(node);
        }
    }
}

struct Rest<'r, 's, K, V>(&'r mut Unreachable<'s, K, V>);

impl<K, V> Drop for Rest<'_, '_, K, V> {
    fn drop(&mut self) {
        let rest = Unreachable { nodes: self.0.nodes, count: self.0.count, yards: self.0.yards };
        self.0.count = 0;
        drop(rest);
    }
}

/// Nodes whose entries were dropped; returns them when dropped.
struct Emptied<'s, K, V> {
    nodes: [Option<Node<K, V>>; BATCH],
    count: usize,
    yards: &'s Yards<K, V>,
}

impl<K, V> Emptied<'_, K, V> {
    fn add(&mut self, node: Node<K, V>) {
        self.nodes[self.count] = Some(node);
        self.count += 1;
    }
}

impl<K, V> Drop for Emptied<'_, K, V> {
    fn drop(&mut self) {
        if self.count > 0 {
            // SAFETY: they came from an `Unreachable`, each once, after their entries were dropped.
            unsafe { self.yards.enter().take_back(self.nodes.iter().copied().flatten()) };
        }
    }
}
