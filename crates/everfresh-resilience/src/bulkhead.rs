//! The bulkhead: so many calls at once, so that one slow backend does not take all of the program's hands.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::clock::Timepiece;
use crate::error::ConfigError;
use crate::waiting::Waiting;

/// How many calls may run at once, and how many may wait how long for a place.
///
/// During a pause between two attempts a call gives its place back. Those who wait are served in the order in which
/// they came. A future that is not polled keeps the place that it has, or is given, until it is dropped: drive each to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bulkhead {
    places: usize,
    max_wait: Duration,
    max_waiting: usize,
}

impl Bulkhead {
    /// At most so many calls at once; one that finds no place is refused at once.
    pub const fn new(places: usize) -> Bulkhead {
        Bulkhead { places, max_wait: Duration::ZERO, max_waiting: usize::MAX }
    }

    /// Waits for a place, but no longer than this.
    pub const fn max_wait(self, max_wait: Duration) -> Bulkhead {
        Bulkhead { max_wait, ..self }
    }

    /// Lets no more than so many wait; one more is refused at once. Only with [`max_wait`](Bulkhead::max_wait).
    pub const fn max_waiting(self, max_waiting: usize) -> Bulkhead {
        Bulkhead { max_waiting, ..self }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        ConfigError::refuse(
            self.places == 0 || self.places > Semaphore::MAX_PERMITS,
            "a bulkhead has at least one place; leave it out for no bound",
        )?;
        ConfigError::refuse(
            self.max_wait.is_zero() && self.max_waiting != usize::MAX,
            "without max_wait nobody waits; say for how long, or leave max_waiting out",
        )
    }
}

/// A bulkhead as it stands, for a health report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct BulkheadHealth {
    /// How many calls run.
    pub running: usize,
    /// How many wait for a place.
    pub waiting: usize,
    /// How many may run at once.
    pub places: usize,
}

/// A bulkhead that runs.
#[derive(Debug)]
pub(crate) struct Places {
    pub(crate) settings: Bulkhead,
    free: Semaphore,
    waiting: AtomicUsize,
}

impl Places {
    pub(crate) fn new(settings: Bulkhead) -> Places {
        Places { settings, free: Semaphore::new(settings.places), waiting: AtomicUsize::new(0) }
    }

    /// Takes a place that is free, and that nobody waits for.
    #[inline]
    pub(crate) fn try_enter(self: &Arc<Self>) -> Option<Place<'_>> {
        self.free.try_acquire().ok()?.forget();
        Some(Place { places: self, shared: None })
    }

    /// Waits for a place. `None` if there was none to be had.
    pub(crate) async fn enter(self: &Arc<Self>, clock: &Timepiece) -> Option<Place<'_>> {
        if self.settings.max_wait.is_zero() {
            return None;
        }
        let _waiting = Waiting::enter(&self.waiting, self.settings.max_waiting)?;
        let free = clock.within(clock.now(), Some(self.settings.max_wait), pin!(self.free.acquire())).await?;
        free.ok()?.forget();
        Some(Place { places: self, shared: None })
    }

    pub(crate) fn health(&self) -> BulkheadHealth {
        let places = self.settings.places;
        let running = places.saturating_sub(self.free.available_permits());
        BulkheadHealth { running, waiting: self.waiting.load(Ordering::Relaxed), places }
    }
}

/// A place that is taken, until the last who shares it lets go.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    places: &'a Arc<Places>,
    shared: Option<Arc<Part>>,
}

impl Place<'_> {
    /// A part in the place for work that may go on behind its caller.
    pub(crate) fn share(&mut self) -> Arc<Part> {
        Arc::clone(self.shared.get_or_insert_with(|| Arc::new(Part(Arc::clone(self.places)))))
    }
}

impl Drop for Place<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.shared.is_none() {
            self.places.free.add_permits(1);
        }
    }
}

/// A place in the hands of several, which the last of them gives back.
#[derive(Debug)]
pub(crate) struct Part(Arc<Places>);

impl Drop for Part {
    fn drop(&mut self) {
        self.0.free.add_permits(1);
    }
}
