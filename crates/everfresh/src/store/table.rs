//! The index of a shard: buckets of fifteen slots, read without a lock, written under one.
#![allow(unsafe_code, reason = "the read path looks up its bucket without a second check of the bounds")]

use std::sync::Arc;

use crate::entry::Entry;
use crate::store::ahead::prefetch;
use crate::store::ground::{Ground, Plot};
use crate::store::slab::Node;
use crate::store::tags::{Tags, WAYS};
use crate::sync::{AtomicPtr, AtomicU16, AtomicU64, Ordering};

/// Uses that are counted of an entry, at most.
pub(super) const MOST_USES: u8 = 2;
const USES: u8 = 0b11;
const MAIN: u8 = 0b100;
const HASH_SHIFT: u32 = 3;

/// The marks of a bucket are rows of sixteen bits, with one bit for each slot. Of so many uses: the row that every hit looks at is the
/// one at the lowest end.
const ROWS_OF_USES: [usize; MOST_USES as usize] = [ONE_USE, ALL_USES];
const ONE_USE: usize = 16;
const ALL_USES: usize = 0;
/// Part of the main queue.
const MAIN_ROW: usize = 32;
const HASH_BITS: usize = 4;
const HASH: u64 = (1 << HASH_BITS) - 1;
/// Where these bits begin in the hash: above the tag.
const HASH_FROM: u32 = 8;

/// What a search looks at first; two of them share a cache line.
#[repr(C, align(32))]
pub(super) struct Head {
    pub(super) tags: Tags,
    /// In rows: used once, more often; part of the main queue. Readers count uses here without a lock, so one may be lost or may
    /// strike the slot's next entry, and what a writer notes in that very moment may be undone: it is advice to the policy and
    /// nothing else.
    marks: AtomicU64,
    /// Four bits of the hash for each slot.
    prints: AtomicU64,
}

/// Where the entries are: the next two lines.
#[repr(C, align(64))]
struct Places<K, V> {
    nodes: [AtomicPtr<Entry<K, V>>; WAYS],
    /// Which slots hold entries whose home is another bucket; written and read under the lock.
    foreign: AtomicU16,
}

const HEAD: u64 = size_of::<Head>() as u64;
const _: () = assert!(HEAD.is_power_of_two() && size_of::<Places<u8, u8>>().is_multiple_of(size_of::<Head>()));

/// One bucket as a search sees it.
pub(super) struct Bucket<'t, K, V> {
    pub(super) head: &'t Head,
    places: &'t Places<K, V>,
}

impl<K, V> Bucket<'_, K, V> {
    /// Asks for all that a writer needs of it.
    #[inline]
    pub(super) fn prefetch(&self) {
        prefetch(self.head);
        self.prefetch_nodes();
    }

    /// Asks for where its entries are, while it is not known which one it is going to be.
    #[inline(always)]
    pub(super) fn prefetch_nodes(&self) {
        prefetch(&self.places.nodes[0]);
        prefetch(&self.places.nodes[8]);
    }

    // SeqCst: (2) in the domain's reasoning.
    #[inline(always)]
    pub(super) fn node(&self, slot: usize) -> Option<Node<K, V>> {
        Node::from_raw(self.places.nodes[slot].load(Ordering::SeqCst))
    }

    /// Puts a node, or nothing, and returns what was there. Only under the lock.
    #[inline]
    pub(super) fn set_node(&self, slot: usize, node: Option<Node<K, V>>) -> Option<Node<K, V>> {
        let slot = &self.places.nodes[slot];
        let raw = node.map_or(std::ptr::null_mut(), Node::as_raw);
        let before = slot.load(Ordering::Relaxed);
        // Release: (3) in the domain's reasoning. It happens before any barrier that its garbage waits for.
        slot.store(raw, Ordering::Release);
        Node::from_raw(before)
    }

    #[inline]
    pub(super) fn is_foreign(&self, slot: usize) -> bool {
        self.places.foreign.load(Ordering::Relaxed) >> slot & 1 != 0
    }

    fn set_foreign(&self, slot: usize, foreign: bool) {
        let mask = &self.places.foreign;
        let bit = 1 << slot;
        let others = mask.load(Ordering::Relaxed) & !bit;
        mask.store(others | if foreign { bit } else { 0 }, Ordering::Relaxed);
    }
}

/// One slot of a table, in one word: the slot in the lowest four bits, above it the bucket.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place(u32);

/// Buckets that a place can name: more than four thousand million slots.
const MOST_BUCKETS: usize = 1 << 28;

impl Place {
    #[inline]
    pub(super) fn new(bucket: usize, slot: usize) -> Place {
        debug_assert!(bucket < MOST_BUCKETS && slot < WAYS);
        Place((bucket as u32) << 4 | slot as u32)
    }

    #[inline]
    pub(super) fn bucket(self) -> usize {
        (self.0 >> 4) as usize
    }

    #[inline]
    pub(super) fn slot(self) -> usize {
        (self.0 & 0xF) as usize
    }
}

#[repr(align(64))]
pub(super) struct Table<K, V> {
    heads: Plot<Head>,
    places: Plot<Places<K, V>>,
    /// The last use of each entry; empty unless the order of uses is kept exactly.
    stamps: Plot<[AtomicU64; WAYS]>,
}

impl Head {
    fn new() -> Head {
        Head { tags: Tags::new(), marks: AtomicU64::new(0), prints: AtomicU64::new(0) }
    }

    /// Counts a use; writes nothing when there is nothing left to count.
    // Relaxed, here and below: see `marks`.
    #[inline(always)]
    pub(super) fn touch(&self, slot: usize) {
        let marks = self.marks.load(Ordering::Relaxed);
        if marks >> (ALL_USES + slot) & 1 == 0 {
            let fewer = ROWS_OF_USES.iter().find(|&&row| marks >> (row + slot) & 1 == 0);
            // A plain store: what somebody else notes of the bucket at this very moment is worth less than an exchange by each use.
            self.marks.store(marks | 1 << (fewer.unwrap_or(&ALL_USES) + slot), Ordering::Relaxed);
        }
    }

    #[inline]
    pub(super) fn mark(&self, slot: usize) -> Mark {
        let marks = self.marks.load(Ordering::Relaxed);
        let hash = self.prints.load(Ordering::Relaxed) >> (slot * HASH_BITS) & HASH;
        let main = marks >> (MAIN_ROW + slot) & 1;
        Mark((hash << HASH_SHIFT) as u8 | (main << 2) as u8 | uses(marks, slot))
    }

    /// Whether what is noted of the hash in this slot is that of this one: of one in sixteen others it is, too. Told by the holder of
    /// the shard's lock; so who has the tag by chance need not be looked at, far away.
    #[inline]
    pub(super) fn may_be(&self, slot: usize, hash: u64) -> bool {
        (self.prints.load(Ordering::Relaxed) >> (slot * HASH_BITS) ^ hash >> HASH_FROM) & HASH == 0
    }

    /// Only the holder of the shard's lock does.
    #[inline]
    pub(super) fn set_mark(&self, slot: usize, mark: Mark) {
        let marks = self.marks.load(Ordering::Relaxed);
        let others = marks & !(EVERY_ROW << slot);
        let main = u64::from(mark.is_main()) << MAIN_ROW;
        self.marks.store(others | (USED[usize::from(mark.uses())] | main) << slot, Ordering::Relaxed);
        let from = slot * HASH_BITS;
        let others = self.prints.load(Ordering::Relaxed) & !(HASH << from);
        self.prints.store(others | u64::from(mark.0 >> HASH_SHIFT) << from, Ordering::Relaxed);
    }

    /// The slots of which a use is counted; free slots may be among them.
    #[inline]
    pub(super) fn used(&self) -> u16 {
        row(self.marks.load(Ordering::Relaxed), ONE_USE)
    }

    /// The same, and those of which a second one is counted, too.
    #[inline]
    pub(super) fn all_used(&self) -> [u16; 2] {
        let marks = self.marks.load(Ordering::Relaxed);
        [row(marks, ONE_USE), row(marks, ALL_USES)]
    }

    /// These are of the main part from now on, and have no use. Only the holder of the shard's lock does.
    #[inline]
    pub(super) fn promote(&self, slots: u16) {
        let marks = self.marks.load(Ordering::Relaxed);
        let slots = u64::from(slots);
        self.marks.store(marks & !(slots << ONE_USE | slots << ALL_USES) | slots << MAIN_ROW, Ordering::Relaxed);
    }

    /// None of these has a use from now on. Only the holder of the shard's lock does.
    #[inline]
    pub(super) fn forget_uses(&self, slots: u16) {
        let marks = self.marks.load(Ordering::Relaxed);
        let slots = u64::from(slots);
        self.marks.store(marks & !(slots << ONE_USE | slots << ALL_USES), Ordering::Relaxed);
    }

    /// Takes a use from each of these. Only the holder of the shard's lock does.
    #[inline]
    pub(super) fn use_up(&self, slots: u16) {
        let marks = self.marks.load(Ordering::Relaxed);
        let (all, slots) = (marks >> ALL_USES, u64::from(slots));
        self.marks.store(marks & !((slots & all) << ALL_USES | (slots & !all) << ONE_USE), Ordering::Relaxed);
    }

    /// The slots that are marked as of the main part; free slots may be among them.
    #[inline]
    pub(super) fn main(&self) -> u16 {
        row(self.marks.load(Ordering::Relaxed), MAIN_ROW)
    }
}

const EVERY_ROW: u64 = USED[MOST_USES as usize] | 1 << MAIN_ROW;

/// What the first slot has in its rows after so many uses.
const USED: [u64; MOST_USES as usize + 1] = {
    let [once, more] = ROWS_OF_USES;
    [0, 1 << once, 1 << once | 1 << more]
};

/// One row of the marks.
#[inline]
fn row(marks: u64, row: usize) -> u16 {
    (marks >> row) as u16 & ((1 << WAYS) - 1)
}

#[inline]
fn uses(marks: u64, slot: usize) -> u8 {
    (marks >> slot & USED[MOST_USES as usize]).count_ones() as u8
}

/// What the policy knows of one entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark(u8);

impl Mark {
    #[inline]
    pub(super) fn new(hash: u64, main: bool) -> Mark {
        let rest = (hash >> HASH_FROM) as u8 & HASH as u8;
        Mark(rest << HASH_SHIFT | if main { MAIN } else { 0 })
    }

    #[inline]
    pub(super) fn uses(self) -> u8 {
        self.0 & USES
    }

    #[inline]
    pub(super) fn is_main(self) -> bool {
        self.0 & MAIN != 0
    }

    /// Twelve bits of the hash, with those of the tag; never zero.
    #[inline]
    pub(super) fn print(self, tag: u8) -> u16 {
        u16::from(self.0 >> HASH_SHIFT) << 8 | u16::from(tag)
    }
}

impl<K, V> Table<K, V> {
    pub(super) fn new(ground: &Arc<Ground>, buckets: usize, stamped: bool) -> Table<K, V> {
        let places = || Places {
            nodes: std::array::from_fn(|_| AtomicPtr::new(std::ptr::null_mut())),
            foreign: AtomicU16::new(0),
        };
        assert!(buckets <= MOST_BUCKETS, "a shard of more than four thousand million entries");
        let stamped = if stamped { buckets } else { 0 };
        Table {
            heads: Plot::new(ground, buckets, Head::new),
            places: Plot::new(ground, buckets, places),
            stamps: Plot::new(ground, stamped, || std::array::from_fn(|_| AtomicU64::new(0))),
        }
    }

    /// What a bucket takes, in bytes.
    pub(super) fn bytes_of_bucket() -> usize {
        size_of::<Head>() + size_of::<Places<K, V>>()
    }

    #[inline]
    pub(super) fn buckets(&self) -> usize {
        self.heads.len()
    }

    /// The bucket that a key belongs to; monotone in the hash's bits 16 to 47, for any number of buckets.
    #[inline]
    pub(super) fn home(&self, hash: u64) -> usize {
        let position = u64::from((hash >> 16) as u32);
        ((position * self.heads.len() as u64) >> 32) as usize
    }

    /// All that a search for a key looks at first.
    #[inline(always)]
    pub(super) fn bucket(&self, hash: u64) -> Bucket<'_, K, V> {
        // As `home`, in bytes: the heads are that far from their start, the places so many times as far from theirs.
        let position = u64::from((hash >> 16) as u32);
        let head = (position * self.heads.len() as u64) >> (32 - HEAD.ilog2()) & !(HEAD - 1);
        let head = head as usize;
        debug_assert_eq!(head, self.home(hash) * HEAD as usize);
        // SAFETY: there are as many of both as `buckets` says, and a home is below that number.
        unsafe {
            Bucket {
                head: &*self.heads.as_ptr().byte_add(head),
                places: &*self.places.as_ptr().byte_add(head * (size_of::<Places<K, V>>() / size_of::<Head>())),
            }
        }
    }

    /// The same of a bucket with this number.
    #[inline]
    pub(super) fn at(&self, bucket: usize) -> Bucket<'_, K, V> {
        let head = &self.heads[bucket];
        // SAFETY: there are as many of both.
        let places = unsafe { self.places.get_unchecked(bucket) };
        Bucket { head, places }
    }

    /// Where an entry goes for which `bucket` has no room.
    #[inline]
    pub(super) fn after(&self, bucket: usize) -> usize {
        if bucket + 1 == self.heads.len() { 0 } else { bucket + 1 }
    }

    #[inline]
    pub(super) fn head(&self, bucket: usize) -> &Head {
        &self.heads[bucket]
    }

    #[inline]
    pub(super) fn is_stamped(&self) -> bool {
        !self.stamps.is_empty()
    }

    #[inline]
    pub(super) fn stamp(&self, place: Place) -> &AtomicU64 {
        &self.stamps[place.bucket()][place.slot()]
    }

    #[inline]
    pub(super) fn node(&self, place: Place) -> Option<Node<K, V>> {
        self.at(place.bucket()).node(place.slot())
    }

    pub(super) fn is_foreign(&self, place: Place) -> bool {
        self.at(place.bucket()).is_foreign(place.slot())
    }

    /// The first free slot on the way that starts at `home`.
    #[inline]
    pub(super) fn free_place(&self, home: usize) -> Option<Place> {
        let mut bucket = home;
        for _ in 0..self.buckets() {
            if let Some(slot) = self.head(bucket).tags.seen().free().next() {
                return Some(Place::new(bucket, slot));
            }
            bucket = self.after(bucket);
        }
        None
    }

    /// Takes a free place into use. The pointer first, then the tag by which it is found.
    #[inline]
    pub(super) fn fill(&self, place: Place, home: usize, tag: u8, node: Node<K, V>) {
        let mut bucket = home;
        while bucket != place.bucket() {
            self.head(bucket).tags.pass_by();
            bucket = self.after(bucket);
        }
        let own = self.at(place.bucket());
        if home != place.bucket() {
            own.set_foreign(place.slot(), true);
        }
        let slot = &own.places.nodes[place.slot()];
        debug_assert!(slot.load(Ordering::Relaxed).is_null(), "a free slot held a node");
        // Release: pairs with the load in `node`; nothing is overwritten that somebody might be reading.
        slot.store(node.as_raw(), Ordering::Release);
        own.head.tags.set(place.slot(), tag);
    }

    /// Puts a node in the place of another one, whose home this bucket is as well, and returns that one. The pointer first, as in
    /// [`fill`](Table::fill): who looks for the other key meanwhile finds an entry that is not its own.
    #[inline]
    pub(super) fn exchange(&self, place: Place, tag: u8, node: Node<K, V>) -> Option<Node<K, V>> {
        let own = self.at(place.bucket());
        let before = own.set_node(place.slot(), Some(node));
        own.head.tags.set(place.slot(), tag);
        before
    }

    /// Empties a place. `home` is the bucket where its key belongs.
    #[inline]
    pub(super) fn empty(&self, place: Place, home: usize) -> Option<Node<K, V>> {
        let own = self.at(place.bucket());
        let node = own.set_node(place.slot(), None);
        own.head.tags.set(place.slot(), 0);
        let mut bucket = home;
        while bucket != place.bucket() {
            self.head(bucket).tags.come_back();
            bucket = self.after(bucket);
        }
        if home != place.bucket() {
            own.set_foreign(place.slot(), false);
        }
        node
    }

    /// Takes all pointers out once another table is the current one: so whoever finds one in its slot can rely on that. The tags
    /// stay, and lead those who are still searching here to empty slots.
    pub(super) fn vacate(&self) {
        for slot in self.places.iter().flat_map(|places| &places.nodes) {
            // Release: (3) in the domain's reasoning, as in `set_node`, and after the other table was published.
            slot.store(std::ptr::null_mut(), Ordering::Release);
        }
    }

    /// All places that hold an entry. Only under the lock.
    pub(super) fn taken(&self) -> impl Iterator<Item = Place> + '_ {
        (0..self.buckets()).flat_map(move |bucket| self.taken_in(bucket))
    }

    pub(super) fn taken_in(&self, bucket: usize) -> impl Iterator<Item = Place> + use<K, V> {
        self.head(bucket).tags.seen().taken().map(move |slot| Place::new(bucket, slot))
    }
}
