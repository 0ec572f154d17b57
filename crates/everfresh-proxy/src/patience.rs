//! How long a client's connection may go on without being of use: without a request, or with answers that it does not take.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Instant;

/// A short while without a request at first, longer once it has been of use; and while an answer runs, no longer than
/// `idle` with nothing of it taken that is there. Over HTTP/2 a client says itself how much it takes: then nobody waits for
/// the system.
pub(crate) struct Patience {
    /// Requests whose answer has not been handed over whole.
    running: AtomicUsize,
    /// Those of them whose client has to wait for us, or for the origin.
    working: AtomicUsize,
    pub(crate) refused: AtomicBool,
    /// A head has come that names a length and a coding.
    pub(crate) ambiguous: AtomicBool,
    /// It speaks another protocol, without requests: whoever joined it to its other side is patient in his own way.
    pub(crate) upgraded: AtomicBool,
    /// It is HTTP/2, which can say that it ends.
    pub(crate) is_two: AtomicBool,
    /// It has been without a request for too long, and that is to be said.
    pub(crate) over: AtomicBool,
    /// Requests so far.
    pub(crate) asked: AtomicUsize,
    /// Since when the client has taken nothing, and how long it may be without a request.
    since: Mutex<(Instant, Duration)>,
    keep_alive: Duration,
    idle: Duration,
}

impl Patience {
    pub(crate) fn new(head: Duration, keep_alive: Duration, idle: Duration) -> Self {
        let [running, working, asked] = [(); 3].map(|()| AtomicUsize::new(0));
        let [refused, ambiguous, upgraded, is_two, over] = [(); 5].map(|()| AtomicBool::new(false));
        let since = Mutex::new((Instant::now(), head));
        Self { running, working, refused, ambiguous, upgraded, is_two, over, asked, since, keep_alive, idle }
    }

    /// When to give up, if it is the client's turn.
    pub(crate) fn until(&self) -> Option<Instant> {
        let (since, most) = *self.since.lock().unwrap_or_else(PoisonError::into_inner);
        match (self.is_running(), self.working.load(Ordering::Acquire)) {
            (false, _) => Some(since + most),
            (true, 0) => Some(since + self.idle),
            (true, _) => None,
        }
    }

    /// Whether an answer is owed, or runs.
    pub(crate) fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire) > 0
    }

    /// The client has taken something.
    pub(crate) fn goes_on(&self) {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).0 = Instant::now();
    }
}

/// A request runs on the connection until this is dropped.
pub(crate) struct Busy {
    patience: Arc<Patience>,
    working: bool,
}

impl Busy {
    pub(crate) fn new(patience: &Arc<Patience>) -> Self {
        // Release: these pair with the Acquire in until() and is_running(), as do those in drop() and works().
        patience.working.fetch_add(1, Ordering::Release);
        patience.running.fetch_add(1, Ordering::Release);
        // Relaxed: read by the same task.
        patience.asked.fetch_add(1, Ordering::Relaxed);
        Self { patience: Arc::clone(patience), working: true }
    }

    pub(crate) fn patience(&self) -> &Patience {
        &self.patience
    }

    /// Whether the client waits for us now, or we for the client.
    fn works(&mut self, working: bool) {
        if !working {
            self.patience.goes_on();
        }
        match (std::mem::replace(&mut self.working, working), working) {
            (false, true) => drop(self.patience.working.fetch_add(1, Ordering::Release)),
            (true, false) => drop(self.patience.working.fetch_sub(1, Ordering::Release)),
            _ => {}
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let now = (Instant::now(), self.patience.keep_alive);
        *self.patience.since.lock().unwrap_or_else(PoisonError::into_inner) = now;
        if self.working {
            self.patience.working.fetch_sub(1, Ordering::Release);
        }
        self.patience.running.fetch_sub(1, Ordering::Release);
    }
}

/// The body of an answer, which notes whether there is something for the client to take.
pub(crate) struct Taken<B> {
    inner: B,
    busy: Option<Busy>,
}

impl<B: HttpBody> Taken<B> {
    pub(crate) fn new(inner: B, mut busy: Busy) -> Self {
        busy.works(false);
        // Without a body it is answered.
        let busy = (!inner.is_end_stream()).then_some(busy);
        Self { inner, busy }
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for Taken<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        if let Some(busy) = &mut self.busy {
            busy.works(polled.is_pending());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Channel};

    use super::*;

    const SPAN: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn only_while_it_is_the_clients_turn_is_there_an_end_to_patience() {
        let patience = Arc::new(Patience::new(SPAN, 3 * SPAN, 2 * SPAN));
        let began = Instant::now();
        assert_eq!(patience.until(), Some(began + SPAN), "for a first request");
        let busy = Busy::new(&patience);
        assert_eq!(patience.until(), None, "the answer is not there");
        let (mut sender, body) = Channel::<Bytes>::new(9);
        let mut taken = Taken::new(body, busy);
        assert_eq!(patience.until(), Some(began + 2 * SPAN), "its head is");
        for _ in 0..2 {
            sender.send_data(Bytes::from_static(b"piece")).await.expect("sent");
            tokio::time::advance(SPAN).await;
            taken.frame().await.expect("a frame").expect("a piece");
            assert_eq!(patience.until(), Some(Instant::now() + 2 * SPAN), "there may be more");
            let none =
                std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut taken).poll_frame(context).is_pending()));
            assert!(none.await);
            assert_eq!(patience.until(), None, "nothing of it is there to be taken");
        }
        drop(taken);
        assert_eq!(patience.until(), Some(Instant::now() + 3 * SPAN), "for another request");
    }
}
