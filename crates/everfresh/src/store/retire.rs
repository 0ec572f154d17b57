//! From "taken out" to "dropped": removed entries wait until nobody reads them.
#![allow(unsafe_code, reason = "states to the slab that nobody reads an entry any more")]

use crate::store::hazard::domain;
use crate::store::shard::Shard;
use crate::store::slab::{BATCH, Node, Unreachable};
use crate::store::state::State;
use crate::sync::{MutexGuard, Ordering, yield_now};

/// So much garbage that a writer waits for searches to end. What a search guards besides its entry, it guards for some
/// nanoseconds, and no code of the user runs meanwhile.
const MOST: usize = 8 * BATCH;

/// How often to wait for a search that happens to run, before its entries are left to the next one who passes by.
const PATIENCE: usize = 64;

impl<K, V> Shard<K, V> {
    /// Puts a node among the garbage. With the lock held, and after its slot was overwritten.
    pub(super) fn discard(&self, state: &mut State<K, V>, node: Node<K, V>) {
        state.reach.garbage.push(node);
        if self.prompt {
            // SeqCst: counted before the look at the hazards; see `let_go`.
            self.waiting.store(state.reach.garbage.len(), Ordering::SeqCst);
        }
    }

    /// Puts a node among the garbage that no slot names any more.
    pub(super) fn retire(&self, node: Node<K, V>) {
        let mut state = self.lock();
        self.discard(&mut state, node);
        if self.prompt {
            drop(state);
            self.collect_all();
        } else {
            self.unlock(state);
        }
    }

    /// Lets go of the lock, and drops a batch of garbage if one has come together. No code of the user runs before.
    pub(super) fn unlock(&self, mut state: MutexGuard<'_, State<K, V>>) {
        if state.reach.garbage.len() < state.reach.collect_at {
            return;
        }
        let mut unreachable = Unreachable::none(&self.pool);
        let in_the_way = self.collect(&mut state, &mut unreachable);
        let left = state.reach.garbage.len();
        // Less in small shards, and not again at once when most of it is being read.
        state.reach.collect_at = left + (state.len / 16).clamp(4, BATCH);
        drop(state);
        drop(unreachable);
        if in_the_way && left >= MOST {
            self.collect_all();
        }
    }

    /// Takes nodes that nobody reads from the garbage. Returns whether a search that runs stood in the way.
    fn collect<'s>(&'s self, state: &mut State<K, V>, unreachable: &mut Unreachable<'s, K, V>) -> bool {
        let reach = &mut state.reach;
        domain().look(&mut reach.guarded);
        if reach.guarded.has(self.address()) {
            return true;
        }
        let guarded = &reach.guarded;
        reach.garbage.retain(|&node| {
            let stays = unreachable.is_full() || guarded.has(node.address());
            if !stays {
                // SAFETY: it was put among the garbage once, after its slot was overwritten; tables that still name it
                // are read under a guard of the whole shard, and there was none, nor one of this node. It leaves the
                // garbage here.
                unsafe { unreachable.add(node) };
            }
            stays
        });
        if self.prompt {
            self.waiting.store(reach.garbage.len(), Ordering::SeqCst);
        }
        self.free_tables(reach);
        false
    }

    /// Drops all garbage that nobody reads.
    pub(super) fn collect_all(&self) {
        let mut patience = PATIENCE;
        loop {
            let mut state = self.lock();
            if state.reach.garbage.is_empty() && state.reach.old_tables.is_empty() {
                return;
            }
            let mut unreachable = Unreachable::none(&self.pool);
            let in_the_way = self.collect(&mut state, &mut unreachable);
            let more = !state.reach.garbage.is_empty();
            drop(state);
            let full = unreachable.is_full();
            drop(unreachable);
            if in_the_way && patience > 0 {
                patience -= 1;
                yield_now();
            } else if !(full && more) {
                return;
            }
        }
    }
}
