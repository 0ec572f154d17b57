//! The memory of a store's entries: taken in blocks, used again entry by entry, returned with the store.
#![allow(unsafe_code, reason = "entries are written, read and dropped in place, outside of any lock")]

use std::mem::{ManuallyDrop, MaybeUninit, size_of};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use crate::entry::Entry;
use crate::store::ahead::prefetch;
use crate::store::ground::{Ground, LINE, Plot};
use crate::sync::{Mutex, lock};

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
    pub(super) fn prefetch(self) {
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

/// The nodes of a store that are in no yard, and the memory of all.
pub(super) struct Depot<K, V>(Mutex<Stores<K, V>>);

struct Stores<K, V> {
    ground: Arc<Ground>,
    blocks: Vec<Plot<MaybeUninit<Entry<K, V>>>>,
    /// Empty ones that yards had too many of.
    spare: Vec<Node<K, V>>,
}

impl<K, V> Depot<K, V> {
    /// So many nodes change hands at once: those of a block of the final size.
    pub(super) const LOT: usize = if BLOCK > size_of::<Entry<K, V>>() { BLOCK / size_of::<Entry<K, V>>() } else { 1 };

    pub(super) fn new(ground: Arc<Ground>) -> Depot<K, V> {
        Depot(Mutex::new(Stores { ground, blocks: Vec::new(), spare: Vec::new() }))
    }

    /// Gives out an empty node, and puts some more into `spare`.
    #[cold]
    #[inline(never)]
    pub(super) fn supply(&self, spare: &mut Vec<Node<K, V>>) -> Node<K, V> {
        let mut stores = lock(&self.0);
        if let Some(node) = stores.spare.pop() {
            let from = stores.spare.len().saturating_sub(Self::LOT);
            spare.extend(stores.spare.drain(from..));
            return node;
        }
        let nodes = stores.blocks.last().map_or(FIRST, |block| block.len() * 2).min(Self::LOT);
        let block = Plot::bare(&stores.ground, nodes);
        let start = block.start();
        stores.blocks.push(block);
        // SAFETY: within the block, and each is handed out once.
        let node = |index| Node(unsafe { start.add(index) }.cast());
        // The first one is filled first.
        spare.extend((1..nodes).rev().map(node));
        node(0)
    }

    /// Takes all but some of these, the latest.
    #[cold]
    #[inline(never)]
    pub(super) fn take_surplus(&self, spare: &mut Vec<Node<K, V>>) {
        let surplus = spare.len().saturating_sub(Self::LOT);
        lock(&self.0).spare.extend(spare.drain(..surplus));
    }

    /// How many nodes there are, taken or empty.
    #[cfg(test)]
    pub(super) fn nodes(&self) -> usize {
        lock(&self.0).blocks.iter().map(Plot::len).sum()
    }
}

/// The entries that are left at the end. If a destructor panics, the others are dropped nevertheless.
pub(super) struct Remaining<K, V> {
    nodes: Vec<Node<K, V>>,
}

impl<K, V> Remaining<K, V> {
    /// # Safety
    /// Each node is there once, it holds an entry, and nobody else can reach it, from now on and for ever.
    pub(super) unsafe fn new(nodes: Vec<Node<K, V>>) -> Remaining<K, V> {
        Remaining { nodes }
    }
}

impl<K, V> Drop for Remaining<K, V> {
    fn drop(&mut self) {
        while let Some(node) = self.nodes.pop() {
            let rest = Remaining { nodes: std::mem::take(&mut self.nodes) };
            // SAFETY: by the contract of `new`.
            unsafe { ptr::drop_in_place(node.as_raw()) };
            let mut rest = ManuallyDrop::new(rest);
            self.nodes = std::mem::take(&mut rest.nodes);
        }
    }
}
