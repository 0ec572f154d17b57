//! The bulkhead: so many calls at once, so that one slow backend does not take all of the program's hands.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::Timepiece;
use crate::error::ConfigError;

/// How many calls may run at once, and how many may wait how long for a place.
///
/// During a pause between two attempts a call gives its place back. Those who wait are served in the order in which
/// they came.
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

    /// Lets no more than so many wait; one more is refused at once.
    pub const fn max_waiting(self, max_waiting: usize) -> Bulkhead {
        Bulkhead { max_waiting, ..self }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        ConfigError::refuse(
            self.places == 0 || self.places > Semaphore::MAX_PERMITS,
            "a bulkhead has at least one place; leave it out for no bound",
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
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Places {
    pub(crate) fn new(settings: Bulkhead) -> Places {
        Places { settings, free: Arc::new(Semaphore::new(settings.places)), waiting: AtomicUsize::new(0) }
    }

    /// Takes a place; whether that took a wait. `None` if there was none to be had.
    pub(crate) async fn enter(&self, clock: &Timepiece) -> Option<(Place, bool)> {
        if let Ok(place) = Arc::clone(&self.free).try_acquire_owned() {
            return Some((Place(Held::Alone(place)), false));
        }
        if self.settings.max_wait.is_zero() {
            return None;
        }
        let _waiting = Waiting::enter(&self.waiting, self.settings.max_waiting)?;
        let give_up_at = clock.now().saturating_add(self.settings.max_wait);
        let place = clock.before(give_up_at, Arc::clone(&self.free).acquire_owned()).await?.ok()?;
        Some((Place(Held::Alone(place)), true))
    }

    pub(crate) fn health(&self) -> BulkheadHealth {
        let places = self.settings.places;
        let running = places.saturating_sub(self.free.available_permits());
        BulkheadHealth { running, waiting: self.waiting.load(Ordering::Relaxed), places }
    }
}

/// A place that is taken, until the last who shares it lets go.
#[derive(Debug)]
pub(crate) struct Place(Held);

#[derive(Debug)]
enum Held {
    Alone(OwnedSemaphorePermit),
    Shared(Arc<OwnedSemaphorePermit>),
    Moving,
}

impl Place {
    /// A part in the place for work that may go on behind its caller.
    pub(crate) fn share(&mut self) -> Option<Arc<OwnedSemaphorePermit>> {
        let shared = match std::mem::replace(&mut self.0, Held::Moving) {
            Held::Alone(place) => Arc::new(place),
            Held::Shared(place) => place,
            Held::Moving => return None,
        };
        self.0 = Held::Shared(Arc::clone(&shared));
        Some(shared)
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize, most: usize) -> Option<Waiting<'a>> {
        let guard = Waiting(count);
        (count.fetch_add(1, Ordering::Relaxed) < most).then_some(guard)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
