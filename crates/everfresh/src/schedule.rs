//! Loading keys before anybody asks: once, or again and again.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::beneath::Enough;
use crate::cache::Cache;
use crate::drive::drive;
use crate::engine::{Hasher, Key, Value};
use crate::event::Outcome;
use crate::handle::{Asked, refresh_all};
use crate::housekeeper::{self, Purpose};
use crate::refresh::first_of;
use crate::spawn::SpawnError;

const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// Refreshes keys on a schedule until it is dropped.
#[must_use = "dropping a schedule ends it; keep it, or call `forever`"]
pub struct Schedule {
    purpose: Purpose,
}

impl Schedule {
    /// Goes on for as long as the cache lives. A round that is under way when the last handle to it goes is gone through to its last
    /// key, unless the cache was [closed](Cache::close) before.
    pub fn forever(self) {
        self.purpose.for_ever();
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schedule").finish_non_exhaustive()
    }
}

impl<K: Key, V: Value, S: Hasher> Cache<K, V, S> {
    /// Loads, with the cache's own loader and in the background, those of the keys that have no fresh value; as many at once
    /// as may be refreshed at once, and returns when all have ended (contract R7). For a key that has no value at all here, a fresh
    /// one of the second level will do.
    ///
    /// Where the pool is full it waits for a place, whoever has it; once none has come free for 30 seconds, keys that find none are
    /// left out. Inside of a loader it does not wait for places of others: that loader's own may be among them.
    ///
    /// Returns how many of the keys have a value that may be served afterwards; one that is given twice counts twice. It blocks; in a
    /// task use [`warm_async`](Cache::warm_async).
    pub fn warm(&self, keys: impl IntoIterator<Item = K>) -> usize {
        drive(self.warm_async(keys))
    }

    /// As [`warm`](Cache::warm) in a task.
    pub async fn warm_async(&self, keys: impl IntoIterator<Item = K>) -> usize {
        let keys: Vec<K> = keys.into_iter().collect();
        let is_fresh = |key: &&K| self.peek_answer(*key, None).is_some_and(|answer| answer.outcome == Outcome::Hit);
        let wanted = keys.iter().filter(|key| !is_fresh(key));
        refresh_all(wanted, |key| self.engine.refresh_widely(key, Enough::Fresh), Asked::ByCaller).await;
        keys.iter().filter(|key| self.contains(*key)).count()
    }

    /// Refreshes the keys with the cache's own loader now and then again after each `interval`, used or not, until the
    /// schedule is dropped (contract R7). All go through the pool of refreshes, for whose places it waits as [`warm`](Cache::warm)
    /// does; a round that takes longer than the interval delays the next, and one that is under way when the schedule is dropped
    /// begins nothing more. An interval below a millisecond counts as one.
    ///
    /// The schedules of all caches are gone through by one thread: a listener that takes its time over what they begin holds them up.
    /// If no thread can be had for it now, that is told as [`RefreshUnavailable`](crate::Event::RefreshUnavailable), and it begins
    /// when one can.
    pub fn refresh_every(&self, interval: Duration, keys: impl IntoIterator<Item = K>) -> Schedule {
        let keys: Vec<K> = keys.into_iter().collect();
        let purpose = Purpose::default();
        let schedule = purpose.watch();
        let engine = Arc::downgrade(&self.engine);
        let watch = self.engine.purpose.watch();
        let chore = async move {
            loop {
                let (began, clock) = {
                    let Some(engine) = engine.upgrade() else { return };
                    if schedule.is_over() || engine.is_closed() {
                        return;
                    }
                    let (began, clock) = (engine.clock.now(), engine.clock.clone());
                    let cache = Cache { engine };
                    refresh_all(keys.iter(), |key| cache.refresh(key), Asked::BySchedule(&schedule)).await;
                    (began, clock)
                };
                let sleep = watch.sleep(clock.sleep_until(began.after(interval.max(SHORTEST_INTERVAL))));
                if first_of(sleep, schedule.end()).await != Some(true) {
                    return;
                }
            }
        };
        if !housekeeper::take_on_schedule(Box::pin(chore), &self.engine.clock) {
            self.engine.tell_unavailable(&SpawnError::new(
                "no thread could be started for a schedule; it begins when one can",
            ));
        }
        Schedule { purpose }
    }
}
