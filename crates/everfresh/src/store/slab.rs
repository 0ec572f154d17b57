//! The memory of a shard's entries: taken in blocks, used again entry by entry, returned with the store.
#![allow(unsafe_code, reason = "entries are written, read and dropped in place, outside of any lock")]

use std::mem::{MaybeUninit, needs_drop, size_of};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use crate::entry::Entry;
use crate::store::ahead::prefetch;
use crate::store::ground::{Ground, LINE, Plot};
use crate::sync::{AtomicBool, AtomicPtr, Ordering};

/// The size at which blocks stop growing, in bytes.
const BLOCK: usize = 8 << 10;
const FIRST: usize = 8;

/// The place of an entry in a slab. Who may look at the entry is the caller's to know.
pub(super) struct Node<K, V>(NonNull<Entry<K, V>>);

impl<K, V> Clone for Node<K, V> {
    #[inline]
    fn clone(&self) -> Node<K, V> {
        *self
    }
}

impl<K, V> Copy for Node<K, V> {}

impl<K, V> PartialEq for Node<K, V> {
    #[inline]
    fn eq(&self, other: &Node<K, V>) -> bool {
        self.0 == other.0
    }
}

impl<K, V> Node<K, V> {
    #[inline]
    pub(super) fn from_raw(pointer: *mut Entry<K, V>) -> Option<Node<K, V>> {
        NonNull::new(pointer).map(Node)
    }

    #[inline]
    pub(super) fn as_raw(self) -> *mut Entry<K, V> {
        self.0.as_ptr()
    }

    #[inline]
    pub(super) fn address(self) -> usize {
        self.0.as_ptr().addr()
    }

    /// Asks for all of it, which may lie in two lines of the processor's cache.
    #[inline]
    fn prefetch(self) {
        let bytes = self.0.cast::<MaybeUninit<u8>>();
        let size = size_of::<Entry<K, V>>();
        // SAFETY: within the node; asked for, not read.
        unsafe {
            prefetch(bytes.as_ref());
            // Blocks begin where a line does.
            if !LINE.is_multiple_of(size) {
                prefetch(bytes.add(size - 1).as_ref());
            }
        }
    }

    /// # Safety
    /// The node holds an entry, and that entry is not dropped within `'a`: a hazard guards it, or the lock of its shard
    /// is held, or it was taken out and not retired yet.
    #[inline]
    pub(super) unsafe fn entry<'a>(self) -> &'a Entry<K, V> {
        // SAFETY: by the contract above.
        unsafe { self.0.as_ref() }
    }
}

/// The nodes of a shard; lives behind its lock.
pub(super) struct Slab<K, V> {
    /// Empty nodes; the last one is filled next.
    spare: Vec<Node<K, V>>,
    /// Nodes taken from the pool, linked through their memory, to be filled when there are no others.
    linked: Option<Node<K, V>>,
    /// An entry of the store has [something apart](Entry::has_something_apart), or had.
    something_apart: Arc<AtomicBool>,
    /// Apart, for few writes need them.
    blocks: Box<Blocks<K, V>>,
}

/// The memory of all nodes.
struct Blocks<K, V> {
    ground: Arc<Ground>,
    blocks: Vec<Plot<MaybeUninit<Entry<K, V>>>>,
    /// How many nodes of the last block have been handed out.
    used: usize,
}

/// Emptied nodes on their way back; anyone may put, only the holder of the shard's lock takes.
pub(super) struct Pool<K, V> {
    first: AtomicPtr<Entry<K, V>>,
}

impl<K, V> Pool<K, V> {
    pub(super) fn new() -> Pool<K, V> {
        Pool { first: AtomicPtr::new(ptr::null_mut()) }
    }
}

impl<K, V> Slab<K, V> {
    pub(super) fn new(ground: Arc<Ground>, something_apart: Arc<AtomicBool>) -> Slab<K, V> {
        Slab {
            spare: Vec::new(),
            linked: None,
            something_apart,
            blocks: Box::new(Blocks { ground, blocks: Vec::new(), used: 0 }),
        }
    }

    /// Puts the entry into a free node, and asks for the next one.
    #[inline]
    pub(super) fn fill(&mut self, pool: &Pool<K, V>, entry: Entry<K, V>) -> Node<K, V> {
        if entry.has_something_apart() {
            self.note_something_apart();
        }
        let Some(node) = self.spare.pop().or_else(|| self.unlink(pool)) else { return self.blocks.fill_new(entry) };
        // SAFETY: an empty node holds nothing that matters, and belongs to us alone.
        unsafe { node.as_raw().write(entry) };
        self.prefetch();
        node
    }

    /// Asks for the node that is filled next.
    #[inline]
    pub(super) fn prefetch(&self) {
        if let Some(next) = self.spare.last().or(self.linked.as_ref()) {
            next.prefetch();
        }
    }

    /// One of those that came back to the pool. They are looked at one by one, for there may be many.
    #[inline]
    fn unlink(&mut self, pool: &Pool<K, V>) -> Option<Node<K, V>> {
        let node = match self.linked {
            Some(node) => node,
            // Acquire: pairs with the Release in `Emptied::drop`. All at once, so no node comes back in between.
            None => Node::from_raw(pool.first.swap(ptr::null_mut(), Ordering::Acquire))?,
        };
        // SAFETY: an emptied node holds nothing but the link, written when it was emptied, and belongs to us alone.
        self.linked = Node::from_raw(unsafe { node.as_raw().cast::<*mut Entry<K, V>>().read() });
        Some(node)
    }

    #[cold]
    fn note_something_apart(&self) {
        self.something_apart.store(true, Ordering::Release);
    }

    /// Whether an entry of these may have anything to drop.
    #[inline]
    pub(super) fn drops_anything(&self) -> bool {
        // Acquire: see `Shard::reuse_ripe`.
        needs_drop::<K>() || needs_drop::<V>() || self.something_apart.load(Ordering::Acquire)
    }

    /// Takes these back; nothing is left of them.
    ///
    /// # Safety
    /// The nodes hold entries of this slab, which [drops nothing](Slab::drops_anything), and satisfy what
    /// [`Unreachable::add`] asks for.
    pub(super) unsafe fn reuse(&mut self, nodes: &mut Vec<Node<K, V>>) {
        self.spare.append(nodes);
    }

    /// How many nodes there are, taken or free.
    #[cfg(test)]
    pub(super) fn nodes(&self) -> usize {
        self.blocks.blocks.iter().map(Plot::len).sum()
    }
}

impl<K, V> Blocks<K, V> {
    #[inline(never)]
    fn fill_new(&mut self, entry: Entry<K, V>) -> Node<K, V> {
        if self.blocks.last().is_none_or(|block| self.used == block.len()) {
            let most = (BLOCK / size_of::<Entry<K, V>>()).max(1);
            let nodes = self.blocks.last().map_or(FIRST, |block| block.len() * 2).min(most);
            self.blocks.push(Plot::bare(&self.ground, nodes));
            self.used = 0;
        }
        let block = &self.blocks[self.blocks.len() - 1];
        debug_assert!(self.used < block.len());
        // SAFETY: within the last block, and never handed out before.
        let place = unsafe { block.start().add(self.used).cast::<Entry<K, V>>() };
        self.used += 1;
        // SAFETY: as above; blocks are made for entries, so it is aligned.
        unsafe { place.write(entry) };
        Node(place)
    }
}

/// How many nodes are emptied at a time.
pub(super) const BATCH: usize = 32;

/// Nodes that nobody can reach any more. Dropping it drops their entries, then returns the nodes to the pool: to be done
/// with no lock held, for it runs the user's code.
pub(super) struct Unreachable<'s, K, V> {
    nodes: [Option<Node<K, V>>; BATCH],
    count: usize,
    pool: &'s Pool<K, V>,
}

impl<'s, K, V> Unreachable<'s, K, V> {
    pub(super) fn none(pool: &'s Pool<K, V>) -> Unreachable<'s, K, V> {
        Unreachable { nodes: [None; BATCH], count: 0, pool }
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
        let mut emptied = Emptied { first: ptr::null_mut(), last: ptr::null_mut(), pool: self.pool };
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
        let rest = Unreachable { nodes: self.0.nodes, count: self.0.count, pool: self.0.pool };
        self.0.count = 0;
        drop(rest);
    }
}

/// A chain of emptied nodes; returns them to the pool when dropped.
struct Emptied<'s, K, V> {
    first: *mut Entry<K, V>,
    last: *mut Entry<K, V>,
    pool: &'s Pool<K, V>,
}

impl<K, V> Emptied<'_, K, V> {
    fn add(&mut self, node: Node<K, V>) {
        // SAFETY: the node is ours and empty; an entry has room for a pointer, and is aligned for one.
        unsafe { node.as_raw().cast::<*mut Entry<K, V>>().write(self.first) };
        self.first = node.as_raw();
        if self.last.is_null() {
            self.last = node.as_raw();
        }
    }
}

impl<K, V> Drop for Emptied<'_, K, V> {
    fn drop(&mut self) {
        if self.last.is_null() {
            return;
        }
        let mut head = self.pool.first.load(Ordering::Relaxed);
        loop {
            // SAFETY: the last node of our own chain.
            unsafe { self.last.cast::<*mut Entry<K, V>>().write(head) };
            // Release: pairs with the Acquire in `fill`; what was in the nodes is gone before they are used again.
            match self.pool.first.compare_exchange_weak(head, self.first, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }
}
