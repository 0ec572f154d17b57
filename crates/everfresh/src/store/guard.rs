//! What the store hands out: entries that stay where they are for as long as somebody looks at them.
#![allow(unsafe_code, reason = "a guard is a pointer with the reason why it may be read")]

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr;

use crate::entry::Entry;
use crate::store::hazard::{Hazard, Quick};
use crate::store::shard::Shard;
use crate::store::slab::Node;
use crate::store::yard::Yards;

/// An entry that was found. It may live while the user's code runs and calls the same cache; it stays on its thread.
pub(crate) struct Ref<'s, K, V> {
    node: Node<K, V>,
    hazard: ManuallyDrop<Hazard>,
    shard: &'s Shard<K, V>,
    _stays_on_its_thread: PhantomData<*const ()>,
}

impl<'s, K, V> Ref<'s, K, V> {
    #[inline]
    pub(super) fn new(node: Node<K, V>, hazard: Hazard, shard: &'s Shard<K, V>) -> Ref<'s, K, V> {
        Ref { node, hazard: ManuallyDrop::new(hazard), shard, _stays_on_its_thread: PhantomData }
    }

    /// Whether this is that very entry, not only one of the same key.
    pub(super) fn is_same(&self, other: &Entry<K, V>) -> bool {
        ptr::eq(self.node.as_raw(), other)
    }

    #[inline]
    pub(super) fn node(&self) -> Node<K, V> {
        self.node
    }
}

impl<K, V> Deref for Ref<'_, K, V> {
    type Target = Entry<K, V>;

    #[inline]
    fn deref(&self) -> &Entry<K, V> {
        // SAFETY: the hazard has guarded the entry since it was found.
        unsafe { self.node.entry() }
    }
}

impl<K, V> Drop for Ref<'_, K, V> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: taken here only, and not used afterwards.
        let hazard = unsafe { ManuallyDrop::take(&mut self.hazard) };
        self.shard.let_go(hazard);
    }
}

/// An entry that a glance found: as [`Ref`], for a moment and with less to carry.
pub(crate) struct Glance<'s, K, V> {
    node: Node<K, V>,
    hazard: Quick,
    _stays_on_its_thread: PhantomData<(*const (), &'s ())>,
}

/// What a glance at a key brings.
pub(crate) enum Glanced<'s, K, V> {
    Found(Glance<'s, K, V>),
    Absent,
    /// A longer look will tell.
    Unknown,
}

impl<K, V> Glance<'_, K, V> {
    #[inline(always)]
    pub(super) fn new(node: Node<K, V>, hazard: Quick) -> Self {
        Glance { node, hazard, _stays_on_its_thread: PhantomData }
    }

    /// The number of this thread, as [`crate::thread::current_thread`] has it, from what is at hand.
    #[inline(always)]
    pub(crate) fn thread(&self) -> usize {
        self.hazard.thread()
    }
}

impl<K, V> Deref for Glance<'_, K, V> {
    type Target = Entry<K, V>;

    #[inline(always)]
    fn deref(&self) -> &Entry<K, V> {
        // SAFETY: the hazard has guarded the entry since it was found.
        unsafe { self.node.entry() }
    }
}

/// An entry that this caller took out of the store. Others may still read it; it is dropped after the last of them.
///
/// Dropping this may drop others that were removed before: user code, which must not run under a lock.
pub(crate) struct Removed<'s, K, V> {
    node: Node<K, V>,
    /// With a hazard, the entry is among the garbage already and this guards it; else dropping this puts it there.
    hazard: Option<Hazard>,
    yards: &'s Yards<K, V>,
    cost: u64,
    _stays_on_its_thread: PhantomData<*const ()>,
}

impl<'s, K, V> Removed<'s, K, V> {
    pub(super) fn new(
        node: Node<K, V>,
        hazard: Option<Hazard>,
        yards: &'s Yards<K, V>,
        cost: u64,
    ) -> Removed<'s, K, V> {
        Removed { node, hazard, yards, cost, _stays_on_its_thread: PhantomData }
    }
}

impl<K, V> Deref for Removed<'_, K, V> {
    type Target = Entry<K, V>;

    #[inline]
    fn deref(&self) -> &Entry<K, V> {
        // SAFETY: the hazard guards it, or it is not retired before this is dropped.
        unsafe { self.node.entry() }
    }
}

impl<K, V> Drop for Removed<'_, K, V> {
    fn drop(&mut self) {
        match self.hazard.take() {
            Some(hazard) => self.yards.let_go_of_removed(hazard, self.cost),
            None => self.yards.retire(self.node, self.cost),
        }
    }
}

/// Why the policy put an entry out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PushedOut {
    Evicted,
    Expired,
}

/// What [`sweep`](super::Store::sweep) shall do with an entry.
pub(crate) enum Judgement {
    Keep,
    /// Keep it, and note this as its deadline.
    KeepUntil(crate::moment::Moment),
    Remove,
}

/// What an insertion did besides. Small, for most did nothing that anybody wants to see.
///
/// Dropping it drops removed entries, if enough have come together: user code, which must not run under a lock.
pub(crate) struct Insertion<'s, K, V> {
    wanted: bool,
    /// Those that nobody wanted to see.
    pub(crate) unseen: Unseen,
    pub(crate) seen: Option<Box<Seen<'s, K, V>>>,
    due: Option<Due<'s, K, V>>,
}

/// There is garbage that somebody has to look through.
struct Due<'s, K, V>(&'s Yards<K, V>);

impl<K, V> Drop for Due<'_, K, V> {
    fn drop(&mut self) {
        self.0.tidy();
    }
}

/// What came out of an insertion.
pub(crate) struct Seen<'s, K, V> {
    /// What was there under that key.
    pub(crate) replaced: Option<Removed<'s, K, V>>,
    /// What had to make room, in this order.
    pub(crate) pushed_out: Vec<(Removed<'s, K, V>, PushedOut)>,
    /// The entry that was to be inserted, if it is heavier than the bound.
    pub(crate) refused: Option<Entry<K, V>>,
}

impl<'s, K, V> Insertion<'s, K, V> {
    /// Nothing yet. What goes is handed out if it is `wanted`, else only counted.
    #[inline]
    pub(crate) fn nothing(wanted: bool) -> Insertion<'s, K, V> {
        Insertion { wanted, unseen: Unseen::default(), seen: None, due: None }
    }

    #[inline]
    pub(super) fn are_departures_wanted(&self) -> bool {
        self.wanted
    }

    pub(super) fn see(&mut self) -> &mut Seen<'s, K, V> {
        self.seen.get_or_insert_with(|| Box::new(Seen::nothing()))
    }

    /// Notes that the garbage of this thread's yard is to be looked through, by who drops this.
    #[cold]
    pub(super) fn note_due(&mut self, yards: &'s Yards<K, V>) {
        self.due.get_or_insert_with(|| Due(yards));
    }

    /// What is there to be seen.
    #[cfg(any(test, everfresh_fuzz))]
    pub(crate) fn into_seen(self) -> Seen<'s, K, V> {
        self.seen.map_or_else(Seen::nothing, |seen| *seen)
    }

    /// Whether the entry was too heavy.
    pub(crate) fn is_refused(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.refused.is_some())
    }

    #[inline]
    pub(super) fn count(&mut self, why: PushedOut) {
        match why {
            PushedOut::Evicted => self.unseen.evicted += 1,
            PushedOut::Expired => self.unseen.expired += 1,
        }
    }
}

impl<K, V> Seen<'_, K, V> {
    fn nothing() -> Self {
        Seen { replaced: None, pushed_out: Vec::new(), refused: None }
    }
}

/// How many entries an insertion took out without handing them out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Unseen {
    pub(crate) replaced: u32,
    pub(crate) evicted: u32,
    pub(crate) expired: u32,
}
