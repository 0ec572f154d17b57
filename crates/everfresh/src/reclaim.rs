//! Giving back the room of entries that will not be served again, also when nobody touches them (contract M4).

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::engine::{Engine, Hasher, Key, Negative, Value};
use crate::entry::Entry;
use crate::event::Cause;
use crate::housekeeper::{self, Watch};
use crate::lifetime::Freshness;
use crate::moment::Moment;
use crate::store::{Judgement, Ref};

const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(60);

impl<K: Key, V: Value, S: Hasher> Engine<K, V, S> {
    /// Removes what is past every window or was invalidated; `due` narrows the search to entries noted to end by then.
    pub(crate) fn sweep(&self, due: Moment) {
        let now = self.clock.now();
        let epoch = self.history.whole_epoch();
        if due == Moment::NEVER {
            // Before the first look: what is struck while the sweep is under way needs another one.
            self.sweep_is_due.store(false, Ordering::Release);
            // Whoever lands later sees this epoch, and has noted what befell him before.
            self.flights.wait_for_landings();
        }
        let strikes = self.strikes.load(Ordering::Acquire);
        let judge = |entry: &Entry<K, V>| {
            // Before the look at what befell it.
            let (is_old, stamp) = (self.history.is_old(entry.epoch()), self.history.settled_stamp());
            let stage = self.stage(entry, now);
            if stage.gone {
                return Judgement::Remove;
            }
            if is_old {
                // Stale by its own time from now on; and what strikes everything later still strikes it.
                self.expire(entry, stage.fresh_until);
                entry.settle(stamp);
            }
            if stage.freshness != Freshness::Expired {
                self.cut_pause(entry, stage.fresh_until);
                return Judgement::KeepUntil(self.end(entry, stage.fresh_until));
            }
            let attempt = entry.attempt();
            // While its refresh runs, the entry is what the result is for.
            if attempt.running && attempt.until > now { Judgement::Keep } else { Judgement::Remove }
        };
        self.store.sweep(due, judge, |gone| {
            let cause = if self.stage(&gone, now).gone { Cause::Invalidated } else { Cause::Expired };
            self.depart(gone, cause);
        });
        if let Some(negatives) = &self.negatives {
            let judge = |entry: &Entry<K, Negative>| {
                let over = now >= self.end_of_negative(entry) || entry.epoch() != self.history.epoch();
                if over { Judgement::Remove } else { Judgement::Keep }
            };
            negatives.sweep(due, judge, |gone| drop(gone));
        }
        if due == Moment::NEVER {
            // Release: whoever sees it sees the store without what was struck.
            self.swept.fetch_max(strikes, Ordering::Release);
            self.history.note_settled(epoch);
        }
    }

    /// How often expired entries are looked for.
    fn reclaim_period(&self) -> Duration {
        let lifetime = &self.policy.lifetime;
        let shortest = [lifetime.time_to_live(), lifetime.idle_bound()].into_iter().flatten().min();
        match shortest {
            Some(life) => (life / 4).clamp(SOONEST, LATEST),
            None => 10 * SOONEST,
        }
    }

    /// Nothing here ends at some time.
    fn has_nothing_to_reclaim(&self) -> bool {
        let nothing_ends = self.store.len() == 0 || !self.store.has_deadlines();
        nothing_ends && self.negatives.as_ref().is_none_or(|negatives| negatives.len() == 0)
    }

    /// Sees to it that an entry that was expired by hand is reclaimed at its end, which has come nearer.
    pub(crate) fn reclaim_sooner(self: &Arc<Self>, expired: &Ref<'_, K, V>, now: Moment) {
        let stage = self.stage(expired, now);
        self.store.note_deadline(expired, self.end(expired, stage.fresh_until));
        self.keep_reclaiming();
    }

    /// Looks at all, and sees to it that what ends later is reclaimed then.
    fn sweep_all(self: &Arc<Self>) {
        self.sweep(Moment::NEVER);
        if self.store.has_deadlines() {
            self.keep_reclaiming();
        }
    }

    /// Sees to it that somebody looks for expired entries while there are entries that can expire.
    #[inline]
    pub(crate) fn keep_reclaiming(self: &Arc<Self>) {
        if !self.reclaiming.load(Ordering::Relaxed) {
            self.begin_reclaiming();
        }
    }

    #[inline(never)]
    fn begin_reclaiming(self: &Arc<Self>) {
        if self.reclaiming.swap(true, Ordering::AcqRel) {
            return;
        }
        let engine = Arc::downgrade(self);
        if !housekeeper::take_on(Box::pin(reclaim(engine, self.purpose.watch())), &self.clock) {
            self.reclaiming.store(false, Ordering::Release);
        }
    }

    /// Gives back what was struck in one step, and notes the new ends of what was expired in one: soon and on another thread, or
    /// when the clock is moved next if that is done by hand; here, if no thread can be had.
    pub(crate) fn sweep_soon(self: &Arc<Self>) {
        self.strikes.fetch_add(1, Ordering::AcqRel);
        if self.sweep_is_due.swap(true, Ordering::AcqRel) {
            // That one looks at everything after this.
            return;
        }
        let engine = Arc::downgrade(self);
        let (clock, watch) = (self.clock.clone(), self.purpose.watch());
        let chore = async move {
            if clock.moves_by_hand()
                && !watch.sleep(clock.sleep_until(clock.now().after(Duration::from_nanos(1)))).await
            {
                return;
            }
            if let Some(engine) = engine.upgrade() {
                engine.sweep_all();
            }
        };
        let taken = housekeeper::take_on(Box::pin(chore), &self.clock);
        if !taken {
            self.sweep_all();
        }
    }

    /// As [`sweep_soon`](Engine::sweep_soon), here and now.
    pub(crate) fn sweep_at_once(&self) {
        self.strikes.fetch_add(1, Ordering::AcqRel);
        self.sweep(Moment::NEVER);
    }
}

/// Ends with the chore: if that panics, as a clock of the user's may, the next insertion begins another.
struct Reclaiming<K: Key, V: Value, S: Hasher>(Weak<Engine<K, V, S>>);

impl<K: Key, V: Value, S: Hasher> Drop for Reclaiming<K, V, S> {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(engine) = self.0.upgrade()
        {
            engine.reclaiming.store(false, Ordering::Release);
        }
    }
}

async fn reclaim<K: Key, V: Value, S: Hasher>(engine: Weak<Engine<K, V, S>>, watch: Watch) {
    let _reclaiming = Reclaiming(Weak::clone(&engine));
    loop {
        let sleep = {
            let Some(engine) = engine.upgrade() else { return };
            let now = engine.clock.now();
            engine.sweep(now);
            if engine.has_nothing_to_reclaim() {
                engine.reclaiming.store(false, Ordering::Release);
                // What was inserted just before that store found somebody reclaiming, and started nobody.
                if engine.has_nothing_to_reclaim() || engine.reclaiming.swap(true, Ordering::AcqRel) {
                    return;
                }
            }
            engine.clock.sleep_until(now.after(engine.reclaim_period()))
        };
        if !watch.sleep(sleep).await {
            return;
        }
    }
}
