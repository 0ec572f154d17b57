//! The lock-free read: a glance in its likely course, and the whole course.
#![allow(unsafe_code, reason = "entries are reached through pointers that a hazard guards")]

use crate::key::AsKey;
use crate::store::guard::{Glance, Glanced, Ref};
use crate::store::hazard::{Hazard, Quick};
use crate::store::shard::Shard;
use crate::store::table::{Place, Table};
use crate::store::tags::tag;
use crate::sync::Ordering;

impl<K, V> Shard<K, V> {
    /// The likely course of a lock-free read: the key is in its own bucket, and nobody interferes.
    #[inline(always)]
    pub(super) fn glance<Q: AsKey<K> + ?Sized>(&self, hash: u64, key: &Q) -> Glanced<'_, K, V> {
        let Some(table) = self.plainly_read() else { return Glanced::Unknown };
        let bucket = table.bucket(hash);
        bucket.prefetch_nodes();
        // Not the tag but its byte of the hash: where they differ, a free slot matches, and this is over.
        for slot in bucket.head.tags.matching(hash as u8) {
            let Some(node) = bucket.node(slot) else { return Glanced::Unknown };
            let Some(hazard) = Quick::guard(node.address()) else { return Glanced::Unknown };
            // SeqCst: as in `find`.
            if bucket.node(slot) != Some(node) {
                return Glanced::Unknown;
            }
            // SAFETY: as in `find`.
            let entry = unsafe { node.entry() };
            if key.is(&entry.key) {
                bucket.head.touch(slot);
                return Glanced::Found(Glance::new(node, hazard));
            }
        }
        // Looked at later than the tags: if an entry has left that had passed by, its key was absent then.
        let absent = bucket.head.tags.passed_by() == 0 && hash as u8 == tag(hash);
        if absent { Glanced::Absent } else { Glanced::Unknown }
    }

    /// The whole course of a lock-free read, whatever happens meanwhile.
    #[inline(never)]
    pub(super) fn find<Q: AsKey<K> + ?Sized>(&self, hash: u64, key: &Q, touch: bool) -> Option<Ref<'_, K, V>> {
        let wanted = tag(hash);
        let mut hazard: Option<Hazard> = None;
        'table: while let Some(table) = self.current() {
            let mut bucket = table.home(hash);
            for _ in 0..table.buckets() {
                let seen = table.head(bucket).tags.seen();
                for slot in seen.matching(wanted) {
                    let place = Place::new(bucket, slot);
                    let Some(node) = table.node(place) else { continue };
                    match &hazard {
                        None => hazard = Some(Hazard::guard(node.address())),
                        Some(hazard) => hazard.move_to(node.address()),
                    }
                    // Another entry may have come in its place, or this table been vacated. SeqCst: (2) in the domain's
                    // reasoning.
                    if table.node(place) != Some(node) {
                        continue 'table;
                    }
                    // SAFETY: the hazard was in place when the entry was in the slot, so whoever takes it out from then on,
                    // of this slot or of one of a later table, finds the hazard before freeing it.
                    let entry = unsafe { node.entry() };
                    if key.is(&entry.key)
                        && let Some(hazard) = hazard.take()
                    {
                        if touch {
                            self.touch(table, place);
                        }
                        return Some(Ref::new(node, hazard, self));
                    }
                }
                if seen.passed_by() == 0 {
                    break;
                }
                bucket = table.after(bucket);
            }
            // Where the tags of an old table lead there is nothing.
            if self.is_current(table) {
                break;
            }
        }
        if let Some(hazard) = hazard {
            self.let_go(hazard);
        }
        None
    }

    #[inline]
    fn touch(&self, table: &Table<K, V>, place: Place) {
        match self.uses {
            None => table.head(place.bucket()).touch(place.slot()),
            Some(_) => self.touch_exactly(table, place),
        }
    }

    #[inline(never)]
    fn touch_exactly(&self, table: &Table<K, V>, place: Place) {
        if let Some(uses) = &self.uses {
            // Relaxed: of two uses at once either may be the later one; one before the next is seen by the lock's holder as
            // any other write of this thread is.
            table.stamp(place).store(uses.next(), Ordering::Relaxed);
        }
    }
}
