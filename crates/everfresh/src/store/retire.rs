//! From "taken out" to "dropped": removed entries wait until nobody reads them.
#![allow(unsafe_code, reason = "states to the slab that nobody reads an entry any more")]

use crate::store::barrier::heavy;
use crate::store::hazard::domain;
use crate::store::lock::Guard;
use crate::store::shard::Shard;
use crate::store::slab::{BATCH, Node, Unreachable};
use crate::store::state::{Reach, State};
use crate::sync::Ordering;

/// Removed entries after which it is looked whether a barrier has passed: a thirty-second of the shard, but at least so many and at most
/// so many. Where weights count a step is a batch at most, for all that has become free is dropped at once then.
const STEP: usize = 8;
const LONGEST_STEP: usize = 256;
/// So many steps before a shard raises a barrier itself; one more while somebody else is at it.
const MOST_STEPS: usize = 2;

impl<K, V> Shard<K, V> {
    /// Puts a node among the garbage. With the lock held, and after its slot was overwritten.
    #[inline]
    pub(super) fn discard(&self, state: &mut State<K, V>, node: Node<K, V>, cost: u64) {
        let garbage = &mut state.reach.garbage;
        garbage.fresh.push(node);
        // Where nothing is too much, it need not be written.
        if self.weights_count() {
            garbage.cost = garbage.cost.saturating_add(cost);
        }
        if self.prompt {
            // SeqCst: counted before the look at the hazards; see `let_go`.
            self.waiting.store(state.reach.garbage.len(), Ordering::SeqCst);
        }
    }

    /// Puts a node among the garbage that no slot names any more.
    pub(super) fn retire(&self, node: Node<K, V>, cost: u64) {
        let mut state = self.lock();
        self.discard(&mut state, node, cost);
        drop(state);
        self.tidy();
    }

    /// Whether enough garbage has come together to be looked through.
    #[inline]
    pub(super) fn is_due(&self, state: &State<K, V>) -> bool {
        let fresh = state.reach.garbage.fresh.len();
        fresh >= state.reach.collect_at || self.prompt && fresh > 0 || self.has_much(state)
    }

    /// Takes garbage back that is ripe and that nobody reads, where there is nothing to drop: under the lock, for no code of the user's
    /// runs.
    #[inline(never)]
    pub(super) fn reuse_ripe(&self, state: &mut State<K, V>) {
        let State { slab, reach: Reach { garbage, guarded, .. }, .. } = state;
        if self.prompt || slab.drops_anything() || garbage.aging.is_empty() || !garbage.is_ripe() {
            return;
        }
        domain().look(guarded);
        // Again: who gave one of these something apart had told so before, and has let go of it since, or guards it now. If the former,
        // the look has seen that, so that this comes after it.
        if slab.drops_anything() {
            return;
        }
        let mut kept = guarded.take_from(&mut garbage.aging, Node::address);
        // SAFETY: each was put among the garbage once, after its slot was overwritten, and leaves the garbage here. A barrier has
        // passed since, no hazard guards it, and none that comes will hold: its reader would look again.
        unsafe { slab.reuse(&mut garbage.aging) };
        garbage.aging.append(&mut kept);
        self.begin_anew(state);
    }

    /// Drops garbage if enough has come together. Runs user code.
    #[inline(never)]
    pub(super) fn tidy(&self) {
        let state = self.lock();
        if !self.is_due(&state) {
            return;
        }
        if self.prompt {
            drop(state);
            self.collect_all();
        } else {
            self.look_through(state);
        }
    }

    /// Whether the garbage costs so much that nobody else's barrier is to be waited for.
    #[inline]
    pub(super) fn has_much(&self, state: &State<K, V>) -> bool {
        state.reach.garbage.cost > self.most_garbage
    }

    fn look_through<'s>(&'s self, mut state: Guard<'s, State<K, V>>) {
        let reach = &mut state.reach;
        if reach.garbage.aging.is_empty() {
            reach.garbage.age();
        }
        let much = self.has_much(&state);
        if much || !state.reach.garbage.is_ripe() {
            let step = self.step(&state);
            let garbage = &mut state.reach.garbage;
            let others = garbage.since.is_being_passed();
            if garbage.len() < (MOST_STEPS + usize::from(others)) * step && !much {
                state.reach.collect_at = garbage.fresh.len() + step;
                return;
            }
            // Nobody else's barrier has passed meanwhile: it is this one's turn, for all stores. What another one is to free is not made
            // younger, or that one were for nothing.
            if much || !others {
                garbage.age();
                garbage.cost = 0;
            }
            state.reach.collect_at = garbage.fresh.len() + step;
            drop(state);
            heavy();
            state = self.lock();
        }
        self.drop_ripe(state, self.weights_count());
    }

    fn weights_count(&self) -> bool {
        self.most_garbage != u64::MAX
    }

    /// So many removed entries are a step.
    fn step(&self, state: &State<K, V>) -> usize {
        let longest = if self.weights_count() { BATCH } else { LONGEST_STEP };
        (state.len / 32).clamp(STEP, longest)
    }

    /// Drops what is ripe and nobody reads: some of it or all, so that no writer has to drop hundreds of values for others. The rest
    /// begins to age.
    fn drop_ripe<'s>(&'s self, mut state: Guard<'s, State<K, V>>, all: bool) {
        self.reuse_ripe(&mut state);
        let mut more = true;
        while more && state.reach.garbage.is_ripe() {
            let mut unreachable = Unreachable::none(&self.pool);
            self.collect(&mut state, &mut unreachable);
            more = unreachable.is_full();
            if !more {
                self.begin_anew(&mut state);
            } else if !all {
                // The next writer goes on.
                state.reach.collect_at = state.reach.garbage.fresh.len();
                more = false;
            }
            drop(state);
            drop(unreachable);
            if !more {
                return;
            }
            state = self.lock();
        }
    }

    /// All that was ripe is gone but what is read; the rest begins to age.
    fn begin_anew(&self, state: &mut State<K, V>) {
        let garbage = &mut state.reach.garbage;
        garbage.age();
        if garbage.len() == 0 {
            garbage.cost = 0;
        }
        state.reach.collect_at = self.step(state);
    }

    /// Takes nodes that nobody reads from the ripe garbage.
    fn collect<'s>(&'s self, state: &mut State<K, V>, unreachable: &mut Unreachable<'s, K, V>) {
        let Reach { garbage, guarded, .. } = &mut state.reach;
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
        if self.prompt {
            self.waiting.store(garbage.len(), Ordering::SeqCst);
        }
    }

    /// Drops all garbage that nobody reads.
    pub(super) fn collect_all(&self) {
        let mut state = self.lock();
        state.reach.garbage.age();
        if !state.reach.garbage.aging.is_empty() && !state.reach.garbage.is_ripe() {
            drop(state);
            heavy();
            state = self.lock();
        }
        self.drop_ripe(state, true);
    }
}
