//! From "taken out" to "dropped": removed entries wait until nobody reads them.
#![allow(unsafe_code, reason = "states to the slab that nobody reads an entry any more")]

use crate::store::hazard::domain;
use crate::store::shard::Shard;
use crate::store::slab::{BATCH, Node, Unreachable};
use crate::store::state::{Reach, State};
use crate::sync::{MutexGuard, Ordering};

impl<K, V> Shard<K, V> {
    /// Puts a node among the garbage. With the lock held, and after its slot was overwritten.
    #[inline]
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
    #[inline]
    pub(super) fn unlock(&self, mut state: MutexGuard<'_, State<K, V>>) {
        if state.reach.garbage.len() < state.reach.collect_at {
            return;
        }
        let mut unreachable = Unreachable::none(&self.pool);
        self.collect(&mut state, &mut unreachable);
        // Less in small shards, and not again at once when most of it is being read.
        state.reach.collect_at = state.reach.garbage.len() + (state.len / 16).clamp(4, BATCH);
        drop(state);
        drop(unreachable);
    }

    /// Takes nodes that nobody reads from the garbage.
    fn collect<'s>(&'s self, state: &mut State<K, V>, unreachable: &mut Unreachable<'s, K, V>) {
        let Reach { garbage, guarded, .. } = &mut state.reach;
        domain().look(guarded);
        garbage.retain(|&node| {
            let stays = unreachable.is_full() || guarded.has(node.address());
            if !stays {
                // SAFETY: it was put among the garbage once, after its slot was overwritten, and it leaves the garbage
                // here. No hazard guards it, and none that comes will hold: its reader would look again.
                unsafe { unreachable.add(node) };
            }
            stays
        });
        if self.prompt {
            self.waiting.store(garbage.len(), Ordering::SeqCst);
        }
    }

    /// Drops all garbage that nobody reads.
    pub(super) fn collect_all(&self) {
        loop {
            let mut state = self.lock();
            if state.reach.garbage.is_empty() {
                return;
            }
            let mut unreachable = Unreachable::none(&self.pool);
            self.collect(&mut state, &mut unreachable);
            drop(state);
            let more = unreachable.is_full();
            drop(unreachable);
            if !more {
                return;
            }
        }
    }
}
