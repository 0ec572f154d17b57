//! Handles to work in the background: one to wait on, one that ends it.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::drive::drive;
use crate::engine::{Engine, Hasher, Key, Value};
use crate::event::{Ending, RefreshStatus};
use crate::flight::Wait;
use crate::moment::Moment;
use crate::pool::Background;
use crate::refresh::wait_until;

/// What became of a refresh that was asked for, and a way to wait for its end: `.wait()` on a thread, `.await` in a task.
///
/// Dropping it disturbs nobody.
#[must_use = "it says whether the refresh was started"]
pub struct Refreshing<K, V, S> {
    engine: Arc<Engine<K, V, S>>,
    status: RefreshStatus,
    wait: Option<Wait<K, V>>,
}

impl<K: Key, V: Value, S: Hasher> Refreshing<K, V, S> {
    pub(crate) fn new(engine: &Arc<Engine<K, V, S>>, status: RefreshStatus, wait: Option<Wait<K, V>>) -> Self {
        Refreshing { engine: Arc::clone(engine), status, wait }
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
}

impl<K: Key, V: Value, S: Hasher> IntoFuture for Refreshing<K, V, S> {
    type Output = Option<Ending>;
    type IntoFuture = Pin<Box<dyn Future<Output = Option<Ending>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let wait = self.wait?;
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

/// Completes when a cache has nothing running in the background.
pub(crate) struct Drained(pub(crate) Arc<Background>);

impl Future for Drained {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.0.is_idle_or_wakes(cx.waker()) { Poll::Ready(()) } else { Poll::Pending }
    }
}
