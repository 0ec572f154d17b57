//! The function that is called: begun anew for every attempt, in the caller's task, on its thread, or on a worker.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::bulkhead::Place;
use crate::front::Around;

/// Something that can be begun again and again.
pub(crate) trait Work<V, E> {
    type Attempt: Future<Output = Result<V, E>>;

    /// Begins an attempt, which may hold on to a part in the place for longer than its caller waits.
    fn begin(&mut self, place: Option<&mut Place<'_>>) -> Self::Attempt;

    /// How often the function has been called, where that may be later than the beginning of an attempt, or never.
    fn calls(&self) -> Option<usize> {
        None
    }
}

/// A closure that returns a future.
pub(crate) struct Task<F>(pub(crate) F);

impl<V, E, F, Fut> Work<V, E> for Task<F>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<V, E>>,
{
    type Attempt = Fut;

    fn begin(&mut self, _place: Option<&mut Place<'_>>) -> Fut {
        (self.0)()
    }
}

/// A closure that blocks, called on the caller's thread.
pub(crate) struct Here<F>(pub(crate) F);

impl<V, E, F: FnMut() -> Result<V, E>> Work<V, E> for Here<F> {
    type Attempt = std::future::Ready<Result<V, E>>;

    fn begin(&mut self, _place: Option<&mut Place<'_>>) -> Self::Attempt {
        std::future::ready((self.0)())
    }
}

/// A closure that blocks, called on a worker, from which the caller can walk away.
pub(crate) struct Elsewhere<F> {
    function: Arc<F>,
    /// What stands around it there.
    around: Option<Around>,
    /// How often a worker has called it.
    calls: Arc<AtomicUsize>,
}

impl<F> Elsewhere<F> {
    pub(crate) fn new(function: F, around: Option<Around>) -> Elsewhere<F> {
        Elsewhere { function: Arc::new(function), around, calls: Arc::default() }
    }
}

impl<V, E, F> Work<V, E> for Elsewhere<F>
where
    V: Send + 'static,
    E: Send + 'static,
    F: Fn() -> Result<V, E> + Send + Sync + 'static,
{
    type Attempt = OnWorker<V, E>;

    fn begin(&mut self, place: Option<&mut Place<'_>>) -> Self::Attempt {
        let (function, around, calls) = (Arc::clone(&self.function), self.around.clone(), Arc::clone(&self.calls));
        let held = place.map(Place::share);
        let work = move || {
            calls.fetch_add(1, Ordering::Relaxed);
            // Until the function has really ended, whoever waits for it or not.
            let _held = held;
            let mut made = None;
            if let Some(around) = around {
                around(&mut || made = Some(function()));
            }
            made.unwrap_or_else(|| function())
        };
        #[cfg(feature = "tracing")]
        let work = crate::trace::in_this_span(work);
        OnWorker(blocking::unblock(work))
    }

    fn calls(&self) -> Option<usize> {
        Some(self.calls.load(Ordering::Relaxed))
    }
}

/// A function that runs on a worker. Dropped before it has begun it never runs; else it runs to its end.
pub(crate) struct OnWorker<V, E>(blocking::Task<Result<V, E>>);

impl<V, E> Future for OnWorker<V, E> {
    type Output = Result<V, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<V, E>> {
        Pin::new(&mut self.0).poll(cx)
    }
}
