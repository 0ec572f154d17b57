//! How many calls are under way, whether more may come, and waiting until none is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::clock::Timepiece;

/// The count in the upper bits, whether closed in the lowest: one step decides both.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    word: AtomicUsize,
    idle: Notify,
}

const CLOSED: usize = 1;
const ONE: usize = 2;

impl InFlight {
    /// Counts a call, unless closed.
    #[inline]
    pub(crate) fn enter(&self) -> Option<Under<'_>> {
        let before = self.word.fetch_add(ONE, Ordering::AcqRel);
        let under = Under(self);
        (before & CLOSED == 0).then_some(under)
    }

    /// Counts what still belongs to a call that was let in, or was refused.
    pub(crate) fn enter_anyway(&self) -> Under<'_> {
        self.word.fetch_add(ONE, Ordering::AcqRel);
        Under(self)
    }

    pub(crate) fn count(&self) -> usize {
        self.word.load(Ordering::Acquire) / ONE
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.word.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Lets no more calls in, and waits until those under way have ended, but no longer than told; how many are left.
    pub(crate) async fn close(&self, clock: &Timepiece, deadline: std::time::Duration) -> usize {
        self.word.fetch_or(CLOSED, Ordering::AcqRel);
        let drained = std::pin::pin!(async {
            loop {
                let mut idle = std::pin::pin!(self.idle.notified());
                // Registered before the look, so that an end in between is not missed.
                idle.as_mut().enable();
                if self.count() == 0 {
                    return;
                }
                idle.await;
            }
        });
        let _ = clock.within(clock.now(), Some(deadline), drained).await;
        self.count()
    }
}

/// A call under way that may outlive whoever made it.
pub(crate) struct Counted(Arc<InFlight>);

impl Counted {
    /// Counted, though it may be refused later on.
    pub(crate) fn enter(in_flight: &Arc<InFlight>) -> Counted {
        std::mem::forget(in_flight.enter_anyway());
        Counted(Arc::clone(in_flight))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        drop(Under(&self.0));
    }
}

/// A call under way.
pub(crate) struct Under<'a>(&'a InFlight);

impl Drop for Under<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.0.word.fetch_sub(ONE, Ordering::AcqRel) == ONE | CLOSED {
            self.0.idle.notify_waiters();
        }
    }
}
