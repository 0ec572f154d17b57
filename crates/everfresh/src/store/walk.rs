//! Going through all entries, some at a time, with no lock held while anyone looks at them.

use std::hash::{BuildHasher, Hash};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::entry::Entry;
use crate::moment::Moment;
use crate::store::guard::{Judgement, Ref, Removed};
use crate::store::hazard::Hazard;
use crate::store::map::Store;
use crate::store::shard::Shard;
use crate::store::state::State;
use crate::store::table::{Place, Table};

/// How many entries are looked at between two locks, or a few more.
const SLICE: usize = 32;
/// How many buckets are searched for due entries between two locks.
const STRETCH: usize = 512;

impl<K: Hash + Eq, V, S: BuildHasher + 'static> Store<K, V, S> {
    /// Asks `judge` about each entry whose noted deadline is at or before `due` ([`Moment::NEVER`]: about all), with no
    /// lock held, and hands those it condemns to `condemned`. An entry may be judged again if its shard grows meanwhile.
    /// Drops what waits for readers to leave. A destructor that panics does not keep it from the others.
    pub(crate) fn sweep(
        &self,
        due: Moment,
        mut judge: impl FnMut(&Entry<K, V>) -> Judgement,
        mut condemned: impl FnMut(Removed<'_, K, V>),
    ) {
        for shard in &self.shards {
            let mut at = 0;
            let mut buckets = 0;
            loop {
                let slice = self.slice(shard, due, &mut at, &mut buckets);
                let Some(slice) = slice else { break };
                self.judge(shard, slice, &mut judge, &mut condemned);
            }
            shard.lock().lines.find_soonest();
        }
        for yard in self.yards.all() {
            contained(|| self.yards.collect_all(yard));
        }
    }

    /// The next entries to judge; `None` at the end. Begins anew when the table has grown.
    fn slice<'s>(
        &self,
        shard: &'s Shard<K, V>,
        due: Moment,
        at: &mut usize,
        buckets: &mut usize,
    ) -> Option<Vec<(Place, Ref<'s, K, V>)>> {
        let mut state = shard.lock();
        let State { reach, lines, .. } = &mut *state;
        let table = shard.table(reach)?;
        if table.buckets() != *buckets {
            *buckets = table.buckets();
            *at = 0;
        }
        if at == buckets {
            return None;
        }
        let mut slice = Vec::new();
        let end = (*at + STRETCH).min(*buckets);
        while *at < end && slice.len() < SLICE {
            let mask = if due == Moment::NEVER { u16::MAX } else { lines.nearly_due(*at, due) };
            for place in table.taken_in(*at).filter(|place| mask >> place.slot() & 1 != 0) {
                slice.extend(guarded(shard, table, place).map(|entry| (place, entry)));
            }
            *at += 1;
        }
        Some(slice)
    }

    fn judge(
        &self,
        shard: &Shard<K, V>,
        slice: Vec<(Place, Ref<'_, K, V>)>,
        judge: &mut impl FnMut(&Entry<K, V>) -> Judgement,
        condemned: &mut impl FnMut(Removed<'_, K, V>),
    ) {
        let mut extended = Vec::new();
        for (place, entry) in slice {
            match judge(&entry) {
                // The end of a guard may drop what was removed meanwhile.
                Judgement::Keep => contained(|| drop(entry)),
                Judgement::KeepUntil(deadline) => extended.push((place, entry, deadline)),
                Judgement::Remove => contained(|| {
                    if let Some(removed) = self.remove_exact(&entry) {
                        drop(entry);
                        condemned(removed);
                    }
                }),
            }
        }
        if extended.is_empty() {
            return;
        }
        let mut state = shard.lock();
        let State { reach, lines, .. } = &mut *state;
        if let Some(table) = shard.table(reach) {
            for (place, entry, deadline) in &extended {
                // If the table has grown meanwhile, the next sweep asks again.
                if place.bucket() < table.buckets() && table.node(*place) == Some(entry.node()) {
                    lines.set_deadline(table.buckets(), *place, *deadline);
                }
            }
        }
        drop(state);
        extended.into_iter().for_each(|kept| contained(|| drop(kept)));
    }

    /// Notes when an entry ends, if it is still there.
    pub(crate) fn note_deadline(&self, entry: &Ref<'_, K, V>, deadline: Moment) {
        let hash = self.hash(&entry.key);
        let shard = &self.shards[self.index(hash)];
        let mut state = shard.lock();
        let place = shard.locate(&state.reach, hash, |other| entry.is_same(other)).map(|found| found.0);
        let State { reach, lines, .. } = &mut *state;
        if let (Some(place), Some(table)) = (place, shard.table(reach)) {
            lines.set_deadline(table.buckets(), place, deadline);
        }
    }

    /// Whether any entry ends at some time; `true` also if one did that has gone since the last sweep.
    pub(crate) fn has_deadlines(&self) -> bool {
        self.shards.iter().any(|shard| shard.lock().lines.have_any())
    }

    /// All entries, each guarded while it is out. An entry that is there throughout comes exactly once; of those that
    /// come and go meanwhile, any.
    pub(crate) fn iter(&self) -> Iter<'_, K, V, S> {
        Iter { store: self, shard: 0, from: 0, buckets: 0, ready: Vec::new() }
    }
}

/// Runs what may drop entries. Whoever sweeps has others to attend to; that one panicked has been told where panics are told.
fn contained(work: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(work));
}

/// An entry in a slot, with a hazard of its own.
fn guarded<'s, K, V>(shard: &'s Shard<K, V>, table: &Table<K, V>, place: Place) -> Option<Ref<'s, K, V>> {
    let node = table.node(place)?;
    Some(Ref::new(node, Hazard::guard_locked(node.address()), shard))
}

/// Goes through the buckets in the order of the hashes that belong there, which growth does not change.
pub(crate) struct Iter<'s, K, V, S> {
    store: &'s Store<K, V, S>,
    shard: usize,
    /// The positions of all that came already are below this one.
    from: u64,
    /// The size of the table that `from` was the beginning of a bucket of.
    buckets: usize,
    ready: Vec<Ref<'s, K, V>>,
}

/// The 32 bits of a hash that decide the bucket.
fn position(hash: u64) -> u64 {
    u64::from((hash >> 16) as u32)
}

const END: u64 = 1 << 32;

impl<'s, K: Hash + Eq, V, S: BuildHasher + 'static> Iter<'s, K, V, S> {
    /// Takes all entries that belong to the next bucket; moves on to the next shard after the last.
    fn take_bucket(&mut self) {
        let store = self.store;
        let shard = &store.shards[self.shard];
        let state = shard.lock();
        let table = shard.table(&state.reach);
        let (Some(table), true) = (table, self.from < END) else {
            self.shard += 1;
            (self.from, self.buckets) = (0, 0);
            return;
        };
        let home = table.home(self.from << 16);
        let grown = self.buckets != table.buckets();
        let belongs = |place: Place| {
            if !grown && home == place.bucket() {
                return !table.is_foreign(place);
            }
            let Some(entry) = shard.entry(&state.reach, place) else { return false };
            let hash = store.hash(&entry.key);
            table.home(hash) == home && position(hash) >= self.from
        };
        let mut bucket = home;
        for _ in 0..table.buckets() {
            for place in table.taken_in(bucket).filter(|&place| belongs(place)) {
                self.ready.extend(guarded(shard, table, place));
            }
            if table.head(bucket).tags.seen().passed_by() == 0 {
                break;
            }
            bucket = table.after(bucket);
        }
        self.from = ((home as u64 + 1) << 32).div_ceil(table.buckets() as u64);
        self.buckets = table.buckets();
    }
}

impl<'s, K: Hash + Eq, V, S: BuildHasher + 'static> Iterator for Iter<'s, K, V, S> {
    type Item = Ref<'s, K, V>;

    fn next(&mut self) -> Option<Ref<'s, K, V>> {
        while self.ready.is_empty() {
            if self.shard == self.store.shards.len() {
                return None;
            }
            self.take_bucket();
        }
        self.ready.pop()
    }
}
