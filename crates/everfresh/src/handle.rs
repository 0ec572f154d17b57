//! Handles to work in the background: one to wait on, one that ends it.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use crate::beneath::Enough;
use crate::drive::drive;
use crate::engine::{Engine, Hasher, Key, Value};
use crate::event::{Ending, RefreshStatus};
use crate::flight::Wait;
use crate::housekeeper::Watch;
use crate::key::AsKey;
use crate::leading::leads_any_from_here;
use crate::loader::Loader;
use crate::moment::Moment;
use crate::refresh::{first_of, wait_until};

/// How long it is waited for a place in the pool, at most.
const PATIENCE: Duration = Duration::from_secs(30);

/// What became of a refresh that was asked for, and a way to wait for its end: `.wait()` on a thread, `.await` in a task.
///
/// Dropping it disturbs nobody.
#[must_use = "it says whether the refresh was started"]
pub struct Refreshing<K, V, S> {
    engine: Arc<Engine<K, V, S>>,
    status: RefreshStatus,
    watched: Option<Wait<K, V>>,
}

impl<K: Key, V: Value, S: Hasher> Refreshing<K, V, S> {
    pub(crate) fn new(engine: &Arc<Engine<K, V, S>>, status: RefreshStatus, watched: Option<Wait<K, V>>) -> Self {
        Refreshing { engine: Arc::clone(engine), status, watched }
    }

    pub(crate) fn not_started(engine: &Arc<Engine<K, V, S>>, status: RefreshStatus) -> Self {
        engine.counters.refresh_status(status);
        Refreshing::new(engine, status, None)
    }

    /// Whether it was started, and why not.
    pub fn status(&self) -> RefreshStatus {
        self.status
    }

    /// Blocks until the refresh that was started, or that was running already, has ended. `None` if there is none.
    ///
    /// The end may be counted and told a moment later; [`Cache::settle`](crate::Cache::settle) waits for that, too.
    pub fn wait(self) -> Option<Ending> {
        drive(self.into_future())
    }

    /// Whether it was started or met, and has not ended.
    fn is_running(&self) -> bool {
        self.watched.as_ref().is_some_and(|wait| wait.flight().ending().is_none())
    }

    /// Waits until the pool, which was full, may have room again; `false` if it has not had any for too long.
    async fn wait_for_room(&self, until: Moment) -> bool {
        let (pool, clock) = (&self.engine.pool, &self.engine.clock);
        let now = clock.now();
        let one_hangs = pool.until_one_hangs().map_or(until, |left| now.after(left).min(until));
        let _ = first_of(pin!(pool.room(&self.engine.closed)), clock.sleep_until(one_hangs)).await;
        now < until
    }
}

impl<K: Key, V: Value, S: Hasher> IntoFuture for Refreshing<K, V, S> {
    type Output = Option<Ending>;
    type IntoFuture = Pin<Box<dyn Future<Output = Option<Ending>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let mut wait = self.watched?;
            let flight = Arc::clone(wait.flight());
            wait_until(&self.engine, &mut wait, Moment::NEVER).await;
            flight.ending()
        })
    }
}

impl<K, V, S> fmt::Debug for Refreshing<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refreshing").field("status", &self.status).finish_non_exhaustive()
    }
}

impl<K: Key, V: Value, S: Hasher> Engine<K, V, S> {
    /// Starts a refresh of a key, stale or not, stored or not; if it is not, what the second level has may be `enough`.
    pub(crate) fn refresh_on_demand<Q: AsKey<K> + ?Sized>(
        self: &Arc<Self>,
        key: &Q,
        loader: impl Loader<K, V>,
        enough: Enough,
    ) -> Refreshing<K, V, S> {
        let (hash, now) = (self.store.hash(key), self.clock.now());
        let mut watched = None;
        let found = self.store.peek(hash, key).filter(|found| !self.stage(found, now).gone);
        let status = match found {
            Some(found) => self.refresh(hash, &found, now, Some(&mut watched), || loader.detach()),
            None => {
                let status = self.load_behind(hash, key, now, enough, &mut watched, || loader.detach());
                // What was started is a load, and is counted as one when it ends.
                if status != RefreshStatus::Started {
                    self.counters.refresh_status(status);
                }
                status
            }
        };
        if status == RefreshStatus::AlreadyRunning {
            watched = self.flights.watch(hash, key);
        }
        Refreshing::new(self, status, watched)
    }

    /// As [`refresh_on_demand`](Engine::refresh_on_demand), by the cache's own loader.
    pub(crate) fn refresh_widely<Q: AsKey<K> + ?Sized>(
        self: &Arc<Self>,
        key: &Q,
        enough: Enough,
    ) -> Refreshing<K, V, S> {
        match self.loader.clone() {
            Some(loader) => self.refresh_on_demand(key, loader, enough),
            None => Refreshing::not_started(self, RefreshStatus::NoLoader),
        }
    }
}

/// Who wants many keys refreshed.
#[derive(Clone, Copy)]
pub(crate) enum Asked<'a> {
    /// Somebody who waits for it.
    ByCaller,
    /// A schedule, for as long as it lasts. Whichever thread its chore is on, it is in nobody's loader.
    BySchedule(&'a Watch),
}

impl Asked<'_> {
    fn is_over(self) -> bool {
        matches!(self, Asked::BySchedule(schedule) if schedule.is_over())
    }

    fn is_inside_a_loader(self) -> bool {
        matches!(self, Asked::ByCaller) && leads_any_from_here()
    }
}

/// Begins a refresh of each key, and returns when all have ended. Where the pool is full, waits for a place, whoever has them; but
/// once none has come for [`PATIENCE`], keys that find none are left out.
pub(crate) async fn refresh_all<'k, K: Key, V: Value, S: Hasher>(
    keys: impl Iterator<Item = &'k K>,
    refresh: impl Fn(&K) -> Refreshing<K, V, S>,
    asked: Asked<'_>,
) {
    let mut running = VecDeque::new();
    let mut patient = true;
    'keys: for key in keys {
        if asked.is_over() {
            break;
        }
        let mut refreshing = refresh(key);
        let give_up_at = refreshing.engine.clock.now().after(PATIENCE);
        while refreshing.status() == RefreshStatus::Saturated && patient && refreshing.engine.pool.max_refreshes() > 0 {
            while running.front().is_some_and(|first: &Refreshing<K, V, S>| !first.is_running()) {
                running.pop_front();
            }
            // Inside of a loader: it may be that one whose place everybody waits for.
            if running.is_empty() && asked.is_inside_a_loader() {
                break;
            }
            patient = refreshing.wait_for_room(give_up_at).await;
            if asked.is_over() {
                break 'keys;
            }
            refreshing = refresh(key);
        }
        if matches!(refreshing.status(), RefreshStatus::Started | RefreshStatus::AlreadyRunning) {
            running.push_back(refreshing);
        }
    }
    for refreshing in running {
        refreshing.await;
    }
}
