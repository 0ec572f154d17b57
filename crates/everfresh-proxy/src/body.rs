//! Bodies as the proxy passes them on: boxed, bounded in time, and holding what must last as long as they do.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use tokio::time::{Instant, Sleep, sleep};

/// What went wrong with a body or an exchange.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The one body type of the proxy.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A body without content.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body whose bytes are there already.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// The other side began a body and then sent nothing for too long.
#[derive(Clone, Copy, Debug)]
pub struct Stalled;

impl fmt::Display for Stalled {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the other side sent nothing for too long")
    }
}

impl std::error::Error for Stalled {}

/// An error with all that is beneath it, as a line of the log has it.
pub(crate) fn whole(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut beneath = error.source();
    while let Some(error) = beneath {
        text.extend([": ", &error.to_string()]);
        beneath = error.source();
    }
    text
}

/// Ends with an error when no frame came for so long; keeps `held` until the body is dropped.
pub struct Watched<B, H> {
    inner: B,
    idle: Duration,
    until: Option<Instant>,
    /// Set up when there is something to wait for: a body from the store never has.
    sleep: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    _held: H,
}

impl<B, H> Watched<B, H> {
    /// Watches `inner`: `idle` between two frames, `until` for the whole of it.
    pub fn new(inner: B, idle: Duration, until: Option<Instant>, held: H) -> Self {
        Self { inner, idle, until, sleep: None, waiting: false, _held: held }
    }
}

impl<B, H> HttpBody for Watched<B, H>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
    H: Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(context) {
            this.waiting = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let sleep = this.sleep.get_or_insert_with(|| Box::pin(sleep(this.idle)));
        if !this.waiting {
            this.waiting = true;
            let soonest = Instant::now() + this.idle;
            sleep.as_mut().reset(this.until.map_or(soonest, |until| until.min(soonest)));
        }
        ready!(sleep.as_mut().poll(context));
        Poll::Ready(Some(Err(Stalled.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
