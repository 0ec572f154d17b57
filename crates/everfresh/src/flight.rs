//! One load per key; the others wait for it, threads and tasks alike.
//!
//! A flight is the running load of a key, whoever started it: a miss, a refresh, `warm`. It is in the table from its start
//! until it lands, or until something newer overtakes it (then it is *fenced*: those who wait still get its result, but it is
//! not stored). A thread that waits is a task whose waker unparks it, so there is one kind of waiting.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use hashbrown::HashTable;

use crate::entry::{Attempt, Entry};
use crate::error::Failure;
use crate::event::Ending;
use crate::given::{Handed, Landing};
use crate::history::Began;
use crate::key::AsKey;
use crate::leading::is_led_from_here;
use crate::moment::Moment;
use crate::sync::raced::{AtomicBool, AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering, lock};
use crate::wakers::{Place, Wakers};

/// Why a flight was started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// Somebody needs the value now.
    Load,
    /// An entry is to be renewed behind its readers.
    Refresh,
}

/// The running load of one key. What each of those changes who come to wait stands first, where the count of those who share it
/// stands, too: in one line of the processor's cache, or two.
#[repr(C)]
pub(crate) struct Flight<K, V> {
    /// How many wait: who came upon it; and apart who watches it, as the one who had it begun behind and who has a handle. Grows only
    /// while the flight is in the table, under the table's lock.
    waits: [AtomicUsize; 2],
    /// Who waits, until it has ended.
    waiting: Wakers,
    /// What those who wait get; there before any of them is woken, so that they need no lock to see it.
    end: OnceLock<End<V>>,
    /// After this it is given up, whoever notices first.
    pub(crate) deadline: Moment,
    pub(crate) began: Began,
    /// A miss waits for this refresh: its result counts as that of a load.
    adopted: AtomicBool,
    /// Taken out of the table before it landed: its result is not stored.
    fenced: AtomicBool,
    /// Its deadline ended it; what its loader still brings counts no more.
    timed_out: AtomicBool,
    /// Its end is decided, and those who wait are about to get it: no deadline ends it any more.
    lands: AtomicBool,
    pub(crate) hash: u64,
    pub(crate) key: K,
    pub(crate) purpose: Purpose,
    pub(crate) started: Moment,
    /// The key was declared stale while it ran, at that moment; `u64::MAX` if not.
    expired_at: AtomicU64,
    /// The entry that this is to renew, by the end of its load, and how it was stamped for that.
    pub(crate) claim: OnceLock<(Moment, Attempt)>,
    /// How it ended; known before anybody who waits is woken.
    ending: OnceLock<Ending>,
    /// The old value that its loader was shown, and may say of that it still holds.
    shown: OnceLock<V>,
}

enum End<V> {
    Landed(Landing<V>),
    /// The leader is gone without a result; whoever waited starts over.
    Vacated,
}

impl<K, V> Flight<K, V> {
    fn new(key: K, hash: u64, purpose: Purpose, began: Began, started: Moment, deadline: Moment) -> Flight<K, V> {
        Flight {
            key,
            hash,
            purpose,
            began,
            started,
            deadline,
            adopted: AtomicBool::new(false),
            fenced: AtomicBool::new(false),
            timed_out: AtomicBool::new(false),
            lands: AtomicBool::new(false),
            expired_at: AtomicU64::new(u64::MAX),
            waits: [AtomicUsize::new(0), AtomicUsize::new(0)],
            claim: OnceLock::new(),
            ending: OnceLock::new(),
            shown: OnceLock::new(),
            end: OnceLock::new(),
            waiting: Wakers::new(),
        }
    }

    /// Notes which entry was stamped for this flight.
    pub(crate) fn note_claim<K2, V2>(&self, entry: &Entry<K2, V2>, attempt: Attempt) {
        let _ = self.claim.set((entry.loaded_at(), attempt));
    }

    /// If the entry is the one that was stamped for this flight, and still is, the stamp is taken off: the flight has ended
    /// without replacing it.
    pub(crate) fn release_claim<K2, V2>(&self, entry: &Entry<K2, V2>) {
        if let Some(&(loaded_at, attempt)) = self.claim.get()
            && entry.loaded_at() == loaded_at
        {
            entry.change_attempt(attempt, Attempt::failed(attempt.failures, loaded_at));
        }
    }

    /// Says how it ended, before those who wait are woken. Only the first word counts.
    pub(crate) fn note_ending(&self, ending: Ending) {
        let _ = self.ending.set(ending);
    }

    /// How it ended, if it has.
    pub(crate) fn ending(&self) -> Option<Ending> {
        self.ending.get().copied()
    }

    /// Notes the old value that its loader is shown.
    pub(crate) fn note_shown(&self, value: V) {
        let _ = self.shown.set(value);
    }

    /// The old value that its loader was shown.
    pub(crate) fn shown(&self) -> Option<&V> {
        self.shown.get()
    }

    /// A miss waits for it. Under the table's lock; a line that all share is not written again for nothing.
    fn adopt(&self) {
        if !self.adopted.load(Ordering::Relaxed) {
            self.adopted.store(true, Ordering::Release);
        }
    }

    pub(crate) fn is_adopted(&self) -> bool {
        self.adopted.load(Ordering::Acquire)
    }

    /// Whether something newer overtook it. Certain only under the table's lock; a hint elsewhere.
    pub(crate) fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::Acquire)
    }

    /// Whether its deadline ended it.
    pub(crate) fn is_timed_out(&self) -> bool {
        self.timed_out.load(Ordering::Acquire)
    }

    /// When the key was declared stale while the flight was running.
    pub(crate) fn expired_at(&self) -> Option<Moment> {
        match self.expired_at.load(Ordering::Acquire) {
            u64::MAX => None,
            nanos => Some(Moment::from_nanos(nanos)),
        }
    }

    /// How many came upon it and wait, or have waited until its end. Once it is out of the table this only falls, by those who
    /// give up.
    pub(crate) fn waiters(&self) -> usize {
        self.waits[0].load(Ordering::Acquire)
    }

    /// As [`waiters`](Flight::waiters), with those who watch.
    fn all_who_wait(&self) -> usize {
        self.waits.iter().map(|waits| waits.load(Ordering::Acquire)).sum()
    }

    /// Whether those who waited have been given its end; for nobody it need not be noted.
    pub(crate) fn has_ended(&self) -> bool {
        self.end.get().is_some()
    }

    pub(crate) fn is_awaited(&self) -> bool {
        self.all_who_wait() > 0
    }

    /// Gives its landing to everybody who waits. Only the first landing counts.
    pub(crate) fn settle(&self, landing: Landing<V>) {
        self.finish(End::Landed(landing));
    }

    fn finish(&self, end: End<V>) {
        drop(self.waiting.end(|| self.end.set(end)));
    }
}

/// How a flight ended for one who waited.
pub(crate) enum Waited<K, V> {
    Landed(Landed<K, V>),
    /// Without a result: start over.
    Vacated,
}

/// A flight that has landed.
pub(crate) struct Landed<K, V>(Arc<Flight<K, V>>);

impl<K, V> Landed<K, V> {
    pub(crate) fn landing(&self) -> &Landing<V> {
        match self.0.end.get() {
            Some(End::Landed(landing)) => landing,
            _ => unreachable!("it has landed, and no end is ever changed"),
        }
    }

    /// Whether any tag was invalidated after the load began, and before who joined at `join_point`.
    pub(crate) fn is_overtaken_for(&self, join_point: u64) -> bool {
        join_point > self.0.began.tag_point
    }

    /// The error, for one of those who waited. How many they are is certain: nobody joins what has landed.
    pub(crate) fn failure(&self, handed: &Handed) -> Option<Failure> {
        handed.failure(self.0.all_who_wait() == 1)
    }
}

/// Waits for the end of a flight; dropping it disturbs nobody (contract L3).
pub(crate) struct Wait<K, V> {
    /// There until the end was seen.
    flight: Option<Arc<Flight<K, V>>>,
    /// Where its waker is, while it has one there.
    place: Option<Place>,
    /// It takes no place among those that `max_waiters` bounds.
    watches: bool,
}

impl<K, V> Wait<K, V> {
    /// Only under the table's lock, while the flight is in the table: afterwards the number of those who wait only falls.
    fn on(flight: &Arc<Flight<K, V>>, watches: bool) -> Wait<K, V> {
        flight.waits[usize::from(watches)].fetch_add(1, Ordering::AcqRel);
        Wait { flight: Some(Arc::clone(flight)), place: None, watches }
    }

    /// What it waits for, before the end was seen.
    pub(crate) fn flight(&self) -> &Arc<Flight<K, V>> {
        match &self.flight {
            Some(flight) => flight,
            None => unreachable!("nobody asks after the end"),
        }
    }
}

impl<K, V> Future for Wait<K, V> {
    type Output = Waited<K, V>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Waited<K, V>> {
        let Wait { flight, place, .. } = &mut *self;
        let Some(waited_for) = flight else { return Poll::Pending };
        if waited_for.end.get().is_none() && waited_for.waiting.note(place, cx.waker()).is_some() {
            return Poll::Pending;
        }
        self.place = None;
        let Some(flight) = self.flight.take() else { return Poll::Pending };
        Poll::Ready(match flight.end.get() {
            Some(End::Landed(_)) => Waited::Landed(Landed(flight)),
            _ => Waited::Vacated,
        })
    }
}

impl<K, V> Drop for Wait<K, V> {
    fn drop(&mut self) {
        let Some(flight) = &self.flight else { return };
        flight.waits[usize::from(self.watches)].fetch_sub(1, Ordering::AcqRel);
        if let Some(place) = self.place {
            flight.waiting.forget(place);
        }
    }
}

/// What somebody who needs a key finds.
pub(crate) enum Joined<K, V> {
    /// Nobody loads it: the caller does, and must end the flight.
    Lead(Leader<K, V>),
    /// Somebody does; `join_point` is where in the history of tags the caller came.
    Wait { wait: Wait<K, V>, join_point: u64 },
    /// Enough wait already.
    Full,
    /// The caller *is* its loader.
    Recursive,
}

/// What whoever wants to begin a flight brings along.
pub(crate) struct Plan {
    pub(crate) hash: u64,
    pub(crate) purpose: Purpose,
    pub(crate) began: Began,
    pub(crate) started: Moment,
    pub(crate) deadline: Moment,
}

/// All flights of one cache, by key.
pub(crate) struct Flights<K, V> {
    shards: [Shard<K, V>; SHARDS],
}

#[repr(align(64))]
struct Shard<K, V> {
    /// Flights in the table: lets a write that overtakes nobody pass without the lock.
    len: AtomicUsize,
    table: Mutex<HashTable<Arc<Flight<K, V>>>>,
}

const SHARDS: usize = 16;

impl<K, V> Flights<K, V> {
    pub(crate) fn new() -> Arc<Flights<K, V>> {
        let shard = |_| Shard { len: AtomicUsize::new(0), table: Mutex::new(HashTable::new()) };
        Arc::new(Flights { shards: std::array::from_fn(shard) })
    }

    #[inline]
    fn shard(&self, hash: u64) -> &Shard<K, V> {
        // Not the bits that the table uses.
        &self.shards[(hash >> 20) as usize % SHARDS]
    }

    /// Joins the flight of a key, or begins it. `still_good` says whether what began there may be served to one who comes now;
    /// `on_overdue` ends a flight whose deadline has passed.
    pub(crate) fn join<Q: AsKey<K> + ?Sized>(
        self: &Arc<Self>,
        key: &Q,
        plan: Plan,
        max_waiters: usize,
        still_good: impl Fn(Began) -> bool,
        on_overdue: impl Fn(&Arc<Flight<K, V>>),
    ) -> Joined<K, V> {
        let shard = self.shard(plan.hash);
        // Made outside of the lock, for making a key is the user's code; at once where it is certain to be needed.
        let begin =
            || Arc::new(Flight::new(key.to_key(), plan.hash, plan.purpose, plan.began, plan.started, plan.deadline));
        let mut fresh = (shard.len.load(Ordering::Relaxed) == 0).then(begin);
        loop {
            let mut table = shard.lock();
            if let Some(found) = table.find(plan.hash, |flight| key.is(&flight.key)) {
                let flight = Arc::clone(found);
                if plan.started >= flight.deadline {
                    drop(table);
                    on_overdue(&flight);
                    continue;
                }
                if !still_good(flight.began) {
                    shard.take_out(&mut table, &flight);
                    flight.fenced.store(true, Ordering::Release);
                    continue;
                }
                if is_led_from_here(&flight) {
                    return Joined::Recursive;
                }
                if flight.waiters() >= max_waiters {
                    return Joined::Full;
                }
                let wait = Wait::on(&flight, false);
                if plan.purpose == Purpose::Load {
                    flight.adopt();
                }
                drop(table);
                drop(fresh);
                return Joined::Wait { wait, join_point: plan.began.tag_point };
            }
            match fresh.take() {
                Some(flight) => {
                    let flight: Arc<Flight<K, V>> = flight;
                    table.insert_unique(plan.hash, Arc::clone(&flight), |flight| flight.hash);
                    // Release: pairs with the Acquire in `fence`; a write that comes after sees that there is something to fence.
                    shard.len.store(table.len(), Ordering::Release);
                    drop(table);
                    return Joined::Lead(Leader { flights: Arc::clone(self), flight, landed: false });
                }
                None => {
                    drop(table);
                    fresh = Some(begin());
                }
            }
        }
    }

    /// Whether there may be a flight of a key with this hash. One that has just begun may be missed.
    #[inline]
    pub(crate) fn may_run(&self, hash: u64) -> bool {
        self.shard(hash).len.load(Ordering::Relaxed) > 0
    }

    /// Joins the flight of a key, if one is running that has no deadline and that the caller may wait for.
    pub(crate) fn join_running<Q: AsKey<K> + ?Sized>(
        &self,
        hash: u64,
        key: &Q,
        max_waiters: usize,
        still_good: impl Fn(Began) -> bool,
    ) -> Option<Wait<K, V>> {
        let table = self.shard(hash).lock();
        let flight = table.find(hash, |flight| key.is(&flight.key))?;
        let may = flight.deadline == Moment::NEVER && still_good(flight.began) && flight.waiters() < max_waiters;
        if !may || is_led_from_here(flight) {
            return None;
        }
        flight.adopt();
        Some(Wait::on(flight, false))
    }

    /// The flight of a key, if one is running.
    pub(crate) fn find<Q: AsKey<K> + ?Sized>(&self, hash: u64, key: &Q) -> Option<Arc<Flight<K, V>>> {
        let shard = self.shard(hash);
        if shard.len.load(Ordering::Acquire) == 0 {
            return None;
        }
        shard.lock().find(hash, |flight| key.is(&flight.key)).map(Arc::clone)
    }

    /// Waits for the flight of a key, if one is running and the caller is not its loader, who would wait for itself.
    pub(crate) fn watch<Q: AsKey<K> + ?Sized>(&self, hash: u64, key: &Q) -> Option<Wait<K, V>> {
        let shard = self.shard(hash);
        let table = shard.lock();
        let flight = table.find(hash, |flight| key.is(&flight.key)).filter(|flight| !is_led_from_here(flight))?;
        Some(Wait::on(flight, true))
    }

    /// Something newer than any running load of the key is about to be written (contract I1).
    #[inline]
    pub(crate) fn fence<Q: AsKey<K> + ?Sized>(&self, hash: u64, key: &Q) {
        let shard = self.shard(hash);
        // Acquire: pairs with the Release in `join`.
        if shard.len.load(Ordering::Acquire) > 0 {
            self.fence_if_there(hash, key);
        }
    }

    #[inline(never)]
    fn fence_if_there<Q: AsKey<K> + ?Sized>(&self, hash: u64, key: &Q) {
        let shard = self.shard(hash);
        let fenced = {
            let mut table = shard.lock();
            match table.find(hash, |flight| key.is(&flight.key)).map(Arc::clone) {
                Some(flight) => {
                    shard.take_out(&mut table, &flight);
                    flight.fenced.store(true, Ordering::Release);
                    Some(flight)
                }
                None => None,
            }
        };
        drop(fenced);
    }

    /// As [`fence`](Flights::fence), for every key.
    pub(crate) fn fence_all(&self) {
        for shard in &self.shards {
            let fenced: Vec<_> = {
                let mut table = shard.lock();
                let fenced = table.drain().collect();
                shard.len.store(0, Ordering::Release);
                for flight in &fenced {
                    let flight: &Arc<Flight<K, V>> = flight;
                    flight.fenced.store(true, Ordering::Release);
                }
                fenced
            };
            drop(fenced);
        }
    }

    /// The key is declared stale: what a running load brings is stale from then on.
    pub(crate) fn mark_expired<Q: AsKey<K> + ?Sized>(&self, hash: u64, key: &Q, now: Moment) {
        if let Some(flight) = self.find(hash, key) {
            flight.expired_at.fetch_min(now.nanos(), Ordering::AcqRel);
        }
    }

    /// As [`mark_expired`](Flights::mark_expired), for every key.
    pub(crate) fn mark_all_expired(&self, now: Moment) {
        for shard in &self.shards {
            for flight in shard.lock().iter() {
                flight.expired_at.fetch_min(now.nanos(), Ordering::AcqRel);
            }
        }
    }

    /// Waits for those that are landing in this moment.
    pub(crate) fn wait_for_landings(&self) {
        self.shards.iter().for_each(|shard| drop(shard.lock()));
    }

    /// Ends a flight whose deadline has passed, unless it is landing in this moment. `true` for the one caller who did it.
    pub(crate) fn time_out(&self, flight: &Arc<Flight<K, V>>) -> bool {
        let shard = self.shard(flight.hash);
        let ended = {
            let mut table = shard.lock();
            if flight.lands.load(Ordering::Relaxed) {
                return false;
            }
            let ended = shard.take_out(&mut table, flight);
            flight.fenced.store(true, Ordering::Release);
            if ended {
                flight.timed_out.store(true, Ordering::Release);
            }
            ended
        };
        flight.note_ending(Ending::TimedOut);
        flight.settle(Landing::TimedOut);
        ended
    }
}

impl<K, V> Shard<K, V> {
    fn lock(&self) -> MutexGuard<'_, HashTable<Arc<Flight<K, V>>>> {
        lock(&self.table)
    }

    fn take_out(&self, table: &mut HashTable<Arc<Flight<K, V>>>, flight: &Arc<Flight<K, V>>) -> bool {
        let taken = Self::take_out_quietly(table, flight);
        if taken {
            self.note_len(table);
        }
        taken
    }

    /// Leaves `len` as it is. The flight itself is still held by the caller: no key is dropped under the lock.
    fn take_out_quietly(table: &mut HashTable<Arc<Flight<K, V>>>, flight: &Arc<Flight<K, V>>) -> bool {
        table.find_entry(flight.hash, |other| Arc::ptr_eq(other, flight)).map(|found| found.remove()).is_ok()
    }

    fn note_len(&self, table: &mut HashTable<Arc<Flight<K, V>>>) {
        // Release: pairs with the Acquire in `fence`.
        self.len.store(table.len(), Ordering::Release);
        // The room of a stampede that is over is given back (contract M3).
        if table.is_empty() && table.capacity() > 64 {
            *table = HashTable::new();
        }
    }
}

/// The right to land a flight. Dropped without landing, it frees the slot and lets the others start over (contract L3).
pub(crate) struct Leader<K, V> {
    flights: Arc<Flights<K, V>>,
    flight: Arc<Flight<K, V>>,
    landed: bool,
}

impl<K, V> Leader<K, V> {
    pub(crate) fn flight(&self) -> &Arc<Flight<K, V>> {
        &self.flight
    }

    /// Waits for the flight that is about to be led by somebody else.
    pub(crate) fn wait(&self) -> Wait<K, V> {
        Wait::on(&self.flight, true)
    }

    /// Ends the flight: `install` runs under the table's lock, told whether the flight still may change anything; nobody can
    /// overtake it in between. It must not run user code.
    pub(crate) fn land<R>(&mut self, install: impl FnOnce(bool) -> R) -> R {
        let shard = self.flights.shard(self.flight.hash);
        let mut table = shard.lock();
        let taken = Shard::take_out_quietly(&mut table, &self.flight);
        self.landed = true;
        // Relaxed: under the table's lock, as where it is read.
        self.flight.lands.store(true, Ordering::Relaxed);
        // Nor may it change anything a second time, after a panic at the first.
        let result = install(taken && !self.flight.is_fenced());
        if taken {
            // Only now: until the install is done, a write that comes after must find that there is something to wait for.
            shard.note_len(&mut table);
        }
        result
    }

    /// Ends the flight without a result: the others start over. `note` runs under the table's lock, as in
    /// [`land`](Leader::land).
    pub(crate) fn vacate<R>(mut self, note: impl FnOnce(bool) -> R) -> R {
        let noted = self.land(note);
        self.flight.finish(End::Vacated);
        noted
    }
}

impl<K, V> Drop for Leader<K, V> {
    fn drop(&mut self) {
        if !self.landed {
            self.land(|_| ());
            self.flight.finish(End::Vacated);
        } else if self.flight.is_awaited() && self.flight.end.get().is_none() {
            // What came out at the landing panicked when it was dropped, before those who wait were told.
            self.flight.finish(End::Vacated);
        }
    }
}
