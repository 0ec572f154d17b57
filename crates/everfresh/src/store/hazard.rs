//! Who is reading what: so that nobody frees what somebody still reads.
//!
//! Hazard pointers (Michael 2004), for the entries of all stores. Each thread has a record with a few slots. A reader
//! puts the address of the entry that it found into a slot, and looks whether the entry is still where it found it; if so,
//! the entry is not freed before the slot is emptied.
//!
//! Why it holds. The reader stores the address (1), then loads the pointer again (2). A writer overwrites the pointer (3),
//! lets a heavy [`barrier`](super::barrier) pass, then looks at all slots (4). The barrier puts a fence between (1) and
//! (2), or the reader has one of its own there, so that one order of all four exists: either (1) comes before (4), and the
//! writer sees the address, or (3) comes before (2), and the reader sees that the entry is gone. A barrier of somebody else
//! will do, and (3) needs no fence of its own: who overwrote the pointer puts the entry into a yard after that, and the moment since
//! which a barrier counts is taken under the yard's lock, by a step in the one sequence of all barriers, so (3) happens before the barrier.
//!
//! A writer that sees another address in a slot, or none, frees what the slot guarded before. So every store to a slot that has
//! guarded anything releases, and every look acquires: what was read through the guard was read before it is freed.
#![allow(unsafe_code, reason = "records live for ever and are reached through raw pointers")]

use std::cell::Cell;
use std::ptr;

use crate::store::barrier::{announce, announce_cheaply, is_cheap};
use crate::sync::{AtomicPtr, AtomicUsize, Ordering, plain_thread_local};
use crate::thread::{SHARED, current_thread};

/// Slots in the record itself; a thread that holds more at once gets further ones.
const INLINE: usize = 4;
const FURTHER: usize = 16;

const FREE: usize = 0;
const OWNED: usize = 1;
/// Claimed for one search by a thread that is past the end of its thread-locals.
const BORROWED: usize = 2;

/// What one guard protects, by address; zero is nothing. Only the thread that took the slot writes it.
struct Slot(AtomicUsize);

impl Slot {
    fn new() -> Slot {
        Slot(AtomicUsize::new(0))
    }

    /// Whether the owner of the record may take it.
    #[inline]
    fn is_free(&self) -> bool {
        // Acquire: pairs with the Release of an earlier owner that let go late.
        self.0.load(Ordering::Acquire) == 0
    }
}

/// The slots of one thread. Records are never freed: an ended thread's record goes to the next new thread.
#[repr(C, align(128))]
struct Record {
    slots: [Slot; INLINE],
    state: AtomicUsize,
    thread: AtomicUsize,
    further: AtomicPtr<Chunk>,
    next: AtomicPtr<Record>,
}

struct Chunk {
    slots: [Slot; FURTHER],
    next: AtomicPtr<Chunk>,
}

impl Record {
    fn new(state: usize) -> Record {
        Record {
            slots: std::array::from_fn(|_| Slot::new()),
            state: AtomicUsize::new(state),
            thread: AtomicUsize::new(SHARED),
            further: AtomicPtr::new(ptr::null_mut()),
            next: AtomicPtr::new(ptr::null_mut()),
        }
    }

    #[inline(always)]
    fn free_slot(&'static self) -> &'static Slot {
        if self.slots[0].is_free() {
            return &self.slots[0];
        }
        self.other_free_slot()
    }

    #[cold]
    #[inline(never)]
    fn other_free_slot(&'static self) -> &'static Slot {
        if let Some(slot) = self.slots[1..].iter().find(|slot| slot.is_free()) {
            return slot;
        }
        let mut end = &self.further;
        loop {
            // SAFETY: chunks are leaked when they are linked, so what is linked lives for ever.
            let chunk: Option<&'static Chunk> = unsafe { end.load(Ordering::Acquire).as_ref() };
            let Some(chunk) = chunk else { break };
            if let Some(slot) = chunk.slots.iter().find(|slot| slot.is_free()) {
                return slot;
            }
            end = &chunk.next;
        }
        let chunk: &'static Chunk = Box::leak(Box::new(Chunk {
            slots: std::array::from_fn(|_| Slot::new()),
            next: AtomicPtr::new(ptr::null_mut()),
        }));
        // Release: pairs with the Acquire of those who look at all slots. SeqCst, because that look must not miss the
        // chunk if it does not come before the guard that will be stored in it.
        end.store(ptr::from_ref(chunk).cast_mut(), Ordering::SeqCst);
        &chunk.slots[0]
    }

    fn for_each(&self, look: &mut impl FnMut(&Slot)) {
        self.slots.iter().for_each(&mut *look);
        let mut next = self.further.load(Ordering::SeqCst);
        // SAFETY: as in `other_free_slot`.
        while let Some(chunk) = unsafe { next.as_ref() } {
            chunk.slots.iter().for_each(&mut *look);
            next = chunk.next.load(Ordering::SeqCst);
        }
    }
}

/// All records.
pub(super) struct Domain {
    first: AtomicPtr<Record>,
}

impl Domain {
    #[cfg(not(everfresh_loom))]
    const fn new() -> Domain {
        Domain { first: AtomicPtr::new(ptr::null_mut()) }
    }

    #[cfg(everfresh_loom)]
    fn new() -> Domain {
        Domain { first: AtomicPtr::new(ptr::null_mut()) }
    }

    /// The first free record, or a new one at the end.
    fn claim(&self, state: usize) -> &'static Record {
        let mut end = &self.first;
        let mut fresh: *mut Record = ptr::null_mut();
        loop {
            let mut here = end.load(Ordering::SeqCst);
            if here.is_null() {
                if fresh.is_null() {
                    fresh = Box::into_raw(Box::new(Record::new(state)));
                }
                // SeqCst: as with chunks, a look at all slots must not miss it.
                match end.compare_exchange(ptr::null_mut(), fresh, Ordering::SeqCst, Ordering::SeqCst) {
                    // SAFETY: just made, and never freed from here on.
                    Ok(_) => return unsafe { &*fresh },
                    Err(other) => here = other,
                }
            }
            // SAFETY: linked records are never freed.
            let record: &'static Record = unsafe { &*here };
            // Acquire: pairs with the Release in `give_back`.
            if record.state.load(Ordering::Relaxed) == FREE
                && record.state.compare_exchange(FREE, state, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                if !fresh.is_null() {
                    // SAFETY: made above and never shared.
                    drop(unsafe { Box::from_raw(fresh) });
                }
                return record;
            }
            end = &record.next;
        }
    }

    /// Notes all that is guarded now.
    pub(super) fn look(&self, guarded: &mut Guarded) {
        guarded.clear();
        // SeqCst fence and loads: (4) in the text above. A heavy barrier has passed since the pointers in question were
        // overwritten.
        #[cfg(everfresh_loom)]
        crate::sync::fence(Ordering::SeqCst);
        let mut next = self.first.load(Ordering::SeqCst);
        // SAFETY: linked records are never freed.
        while let Some(record) = unsafe { next.as_ref() } {
            record.for_each(&mut |slot| {
                let address = slot.0.load(Ordering::SeqCst);
                if address != 0 {
                    guarded.add(address);
                }
            });
            next = record.next.load(Ordering::SeqCst);
        }
        guarded.sort();
    }
}

/// Addresses that were guarded at some moment of a look.
#[derive(Default)]
pub(super) struct Guarded {
    addresses: Vec<usize>,
}

impl Guarded {
    fn clear(&mut self) {
        self.addresses.clear();
    }

    fn add(&mut self, address: usize) {
        self.addresses.push(address);
    }

    fn sort(&mut self) {
        self.addresses.sort_unstable();
    }

    /// Takes those out of `all` that are guarded, each of which is there once.
    pub(super) fn take_from<T: Copy>(&self, all: &mut Vec<T>, address: impl Fn(T) -> usize) -> Vec<T> {
        let mut taken = Vec::new();
        for &guarded in &self.addresses {
            if let Some(at) = all.iter().position(|&one| address(one) == guarded) {
                taken.push(all.swap_remove(at));
            }
        }
        taken
    }

    #[inline]
    pub(super) fn has(&self, address: usize) -> bool {
        if self.addresses.len() <= 8 {
            return self.addresses.contains(&address);
        }
        self.addresses.binary_search(&address).is_ok()
    }
}

#[cfg(not(everfresh_loom))]
static DOMAIN: Domain = Domain::new();
#[cfg(everfresh_loom)]
loom::lazy_static! {
    static ref DOMAIN: Domain = Domain::new();
}

/// The domain of all stores: addresses do not collide, and one record per thread is enough.
pub(super) fn domain() -> &'static Domain {
    #[cfg(not(everfresh_loom))]
    return &DOMAIN;
    #[cfg(everfresh_loom)]
    return &*DOMAIN;
}

plain_thread_local! {
    static RECORD: Cell<Option<&'static Record>> = Cell::new(None)
}
plain_thread_local! {
    /// The same for those who announce as cheaply as can be; not there where the kernel is unwilling.
    static QUICK: Cell<Option<&'static Record>> = Cell::new(None)
}
plain_thread_local! {
    static ENDED: Cell<bool> = Cell::new(false)
}

#[cfg(not(everfresh_loom))]
std::thread_local! {
    static LEASE: Lease = Lease::take();
}
#[cfg(everfresh_loom)]
loom::thread_local! {
    static LEASE: Lease = Lease::take();
}

/// Gives the record of a thread back at its end.
struct Lease(&'static Record);

impl Lease {
    fn take() -> Lease {
        let record = domain().claim(OWNED);
        record.thread.store(current_thread(), Ordering::Relaxed);
        Lease(record)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        #[cfg(not(everfresh_loom))]
        {
            RECORD.with(|record| record.set(None));
            QUICK.with(|record| record.set(None));
            ENDED.with(|ended| ended.set(true));
        }
        give_back(self.0);
    }
}

/// A slot that is still taken (by a guard in another thread-local) stays taken: the next owner sees that and leaves it.
fn give_back(record: &'static Record) {
    record.thread.store(SHARED, Ordering::Relaxed);
    // Release: pairs with the Acquire in `claim`.
    record.state.store(FREE, Ordering::Release);
}

#[inline]
fn own_record() -> &'static Record {
    match RECORD.with(Cell::get) {
        Some(record) => record,
        None => first_use(),
    }
}

#[cold]
#[inline(never)]
fn first_use() -> &'static Record {
    if !ENDED.with(Cell::get)
        && let Ok(record) = LEASE.try_with(|lease| lease.0)
    {
        RECORD.with(|own| own.set(Some(record)));
        if is_cheap() {
            QUICK.with(|own| own.set(Some(record)));
        }
        return record;
    }
    domain().claim(BORROWED)
}

/// A slot of the calling thread that guards something; empties it when dropped. Stays on its thread.
pub(super) struct Hazard {
    slot: &'static Slot,
    record: &'static Record,
}

impl Hazard {
    /// Guards what is at this address, if it is not too late: the caller looks again at where it found it.
    #[inline(always)]
    pub(super) fn guard(address: usize) -> Hazard {
        let record = own_record();
        let hazard = Hazard { slot: record.free_slot(), record };
        hazard.move_to(address);
        hazard
    }

    /// Guards something that cannot be freed right now: because the caller holds the lock of its shard, or has taken it out and not
    /// yet put it among the garbage.
    #[inline]
    pub(super) fn guard_locked(address: usize) -> Hazard {
        let record = own_record();
        let slot = record.free_slot();
        // Release is enough: whoever takes it out does so under the same lock, and it is freed after that.
        slot.0.store(address, Ordering::Release);
        Hazard { slot, record }
    }

    /// Guards something else from now on.
    #[inline]
    pub(super) fn move_to(&self, address: usize) {
        debug_assert_ne!(address, 0);
        // (1) in the text above.
        announce(&self.slot.0, address);
    }

    /// As drop, but ordered before what the caller loads next.
    #[inline]
    pub(super) fn release_ordered(self) {
        self.slot.0.store(0, Ordering::SeqCst);
        #[cfg(everfresh_loom)]
        crate::sync::fence(Ordering::SeqCst);
    }
}

impl Drop for Hazard {
    #[inline]
    fn drop(&mut self) {
        // Release: pairs with the look; all use of the entry came before.
        self.slot.0.store(0, Ordering::Release);
        if self.record.state.load(Ordering::Relaxed) == BORROWED {
            give_back(self.record);
        }
    }
}

/// A hazard in the first slot of the thread's own record: all that nearly every read needs.
pub(super) struct Quick {
    record: &'static Record,
}

impl Quick {
    /// As [`Hazard::guard`]; `None` if that takes more than a moment.
    #[inline(always)]
    pub(super) fn guard(address: usize) -> Option<Quick> {
        let record = QUICK.with(Cell::get)?;
        if !record.slots[0].is_free() {
            return None;
        }
        // (1) in the text above.
        announce_cheaply(&record.slots[0].0, address);
        Some(Quick { record })
    }

    /// The number of the calling thread.
    #[inline(always)]
    pub(super) fn thread(&self) -> usize {
        self.record.thread.load(Ordering::Relaxed)
    }
}

impl Drop for Quick {
    #[inline(always)]
    fn drop(&mut self) {
        // Release: pairs with the look; all use of the entry came before.
        self.record.slots[0].0.store(0, Ordering::Release);
    }
}

#[cfg(all(test, everfresh_loom))]
mod tests {
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    /// Two things of which one is current: a reader that found the first must not see it freed.
    struct Things {
        current: AtomicUsize,
        cells: [UnsafeCell<usize>; 2],
    }

    impl Things {
        fn read(&self) {
            let found = self.current.load(Ordering::SeqCst);
            let hazard = Hazard::guard(found);
            if self.current.load(Ordering::SeqCst) == found {
                // SAFETY: what is being proved; loom reports it if the other thread writes meanwhile.
                let value = self.cells[found - 1].with(|cell| unsafe { *cell });
                assert_eq!(value, found);
            }
            drop(hazard);
        }

        fn replace_and_free(&self) {
            self.current.store(2, Ordering::SeqCst);
            let mut guarded = Guarded::default();
            domain().look(&mut guarded);
            if !guarded.has(1) {
                // SAFETY: as above.
                self.cells[0].with_mut(|cell| unsafe { *cell = 0 });
            }
        }
    }

    fn things() -> Arc<Things> {
        Arc::new(Things { current: AtomicUsize::new(1), cells: [UnsafeCell::new(1), UnsafeCell::new(2)] })
    }

    #[test]
    fn what_a_reader_guards_is_not_freed_under_it() {
        loom::model(|| {
            let things = things();
            let theirs = things.clone();
            let reader = thread::spawn(move || theirs.read());
            things.replace_and_free();
            reader.join().unwrap();
        });
    }

    #[test]
    fn what_one_of_two_readers_guards_is_not_freed() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let things = things();
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    let theirs = things.clone();
                    thread::spawn(move || theirs.read())
                })
                .collect();
            things.replace_and_free();
            readers.into_iter().for_each(|reader| reader.join().unwrap());
        });
    }

    #[test]
    fn a_record_that_was_given_back_guards_for_its_next_owner() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let things = things();
            let theirs = things.clone();
            thread::spawn(|| drop(Hazard::guard(7))).join().unwrap();
            let reader = thread::spawn(move || theirs.read());
            things.replace_and_free();
            reader.join().unwrap();
        });
    }
}
