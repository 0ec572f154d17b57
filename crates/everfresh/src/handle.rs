//! Handles to work in the background: one to wait on, one that ends it.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::drive::drive;
use crate::engine::{Engine, Hasher, Key, Value};
use crate::event::{Ending, RefreshStatus};
use crate::moment::Moment;
use crate::pool::Background;
use crate::refresh::{Watched, first_of, wait_until};

/// How long it is waited for a place whose refresh has ended, at most: a second level that hangs keeps it.
const LONGEST_LEAVE: Duration = Duration::from_secs(30);

/// What became of a refresh that was asked for, and a way to wait for its end: `.wait()` on a thread, `.await` in a task.
///
/// Dropping it disturbs nobody.
#[must_use = "it says whether the refresh was started"]
pub struct Refreshing<K, V, S> {
    engine: Arc<Engine<K, V, S>>,
    status: RefreshStatus,
    watched: Option<Watched<K, V>>,
}

impl<K: Key, V: Value, S: Hasher> Refreshing<K, V, S> {
    pub(crate) fn new(engine: &Arc<Engine<K, V, S>>, status: RefreshStatus, watched: Option<Watched<K, V>>) -> Self {
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
    pub fn wait(self) -> Option<Ending> {
        drive(self.into_future())
    }

    /// Waits until the refresh has ended, and until others may have its place in the pool: its worker gives that back last.
    pub(crate) async fn leave(mut self) {
        let engine = Arc::clone(&self.engine);
        let place = self.watched.as_mut().and_then(|watched| watched.place.take());
        self.await;
        if let Some(place) = place {
            let enough = engine.clock.now().after(LONGEST_LEAVE);
            let given_away = engine.clock.sleep_until(place.deadline().min(enough));
            let _ = first_of(place, given_away).await;
        }
    }
}

impl<K: Key, V: Value, S: Hasher> IntoFuture for Refreshing<K, V, S> {
    type Output = Option<Ending>;
    type IntoFuture = Pin<Box<dyn Future<Output = Option<Ending>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let wait = self.watched?.wait;
            let flight = Arc::clone(wait.flight());
            wait_until(&self.engine, wait, Moment::NEVER).await;
            flight.ending()
        })
    }
}

impl<K, V, S> fmt::Debug for Refreshing<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refreshing").field("status", &self.status).finish_non_exhaustive()
    }
}

/// Begins a refresh of each key, and waits for a place in the pool as long as it is full of those that were begun here. Returns when
/// all have ended.
pub(crate) async fn refresh_all<'k, K: Key, V: Value, S: Hasher>(
    keys: impl Iterator<Item = &'k K>,
    refresh: impl Fn(&K) -> Refreshing<K, V, S>,
) {
    let mut running = VecDeque::new();
    for key in keys {
        let mut refreshing = refresh(key);
        while refreshing.status() == RefreshStatus::Saturated
            && let Some(first) = running.pop_front()
        {
            Refreshing::leave(first).await;
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

/// Completes when a cache has nothing running in the background.
pub(crate) struct Drained(pub(crate) Arc<Background>);

impl Future for Drained {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.0.is_idle_or_wakes(cx.waker()) { Poll::Ready(()) } else { Poll::Pending }
    }
}
