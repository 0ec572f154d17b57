//! The content of a request on its way to an origin: who is waited for, what it died of, and what of it may have to go out once more.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep_until};

use crate::body::{Body, BoxError, empty};
use crate::trouble::{Trouble, of_the_client};

/// So much of a request's content is kept until the origin has begun to answer, so that it can go out once more.
const MOST_KEPT: usize = 64 << 10;

/// Whose turn it is while a request goes out: the client's, who has to send more of its content and is watched for that,
/// or the origin's.
pub(crate) struct Turn(Arc<Mutex<Sending>>);

struct Sending {
    /// What has not gone out yet.
    rest: Body,
    /// There is no rest any more.
    is_over: bool,
    /// What has gone out; `None` if that is too much to be kept, or is not to be.
    gone: Option<Vec<u8>>,
    /// How often it has gone out before.
    attempt: u32,
    /// The answer has begun.
    is_heard: bool,
    /// Since when it is the origin's turn.
    since: Option<Instant>,
    /// What the client's content died of.
    broke: Option<Trouble>,
}

impl Turn {
    /// Hands out the request in a form that tells whose turn it is. With `kept`, it can [go out again](Turn::again).
    pub(crate) fn of(request: Request<Body>, kept: bool) -> (Request<Body>, Turn) {
        let (head, rest) = request.into_parts();
        let is_over = rest.is_end_stream();
        let gone = kept.then(Vec::new);
        let sending =
            Sending { rest, is_over, gone, attempt: 0, is_heard: false, since: Some(Instant::now()), broke: None };
        let turn = Turn(Arc::new(Mutex::new(sending)));
        let content = if is_over { empty() } else { turn.content(0) };
        (Request::from_parts(head, content), turn)
    }

    fn content(&self, attempt: u32) -> Body {
        InTurns { sending: Arc::clone(&self.0), attempt, sent: 0 }.boxed_unsync()
    }

    /// The content from its beginning, if all that has gone out is kept. What went out before ends with an error, should anybody
    /// still ask for it.
    pub(crate) fn again(&self) -> Option<Body> {
        let mut sending = self.sending();
        if sending.gone.is_none() || sending.is_heard || sending.broke.is_some() {
            return None;
        }
        sending.attempt += 1;
        let attempt = sending.attempt;
        drop(sending);
        Some(self.content(attempt))
    }

    /// The origin has begun to answer: nothing goes out again.
    pub(crate) fn is_heard(&self) {
        let mut sending = self.sending();
        sending.is_heard = true;
        // A second attempt may not have repeated all of it yet.
        if sending.attempt == 0 {
            sending.gone = None;
        }
    }

    /// What the client's content died of.
    pub(crate) fn broke(&self) -> Option<Trouble> {
        self.sending().broke.take()
    }

    /// Ends when it has been the origin's for so long, or when all is over: then it is late whose turn it is.
    pub(crate) async fn is_late(&self, patience: Duration, until: Instant) -> Trouble {
        loop {
            let (now, since) = (Instant::now(), self.sending().since);
            // Should it become the origin's meanwhile, then no sooner than now.
            let due = since.unwrap_or(now) + patience;
            if due.min(until) <= now {
                return if since.is_some() { Trouble::Late } else { Trouble::Stalled };
            }
            sleep_until(due.min(until)).await;
        }
    }

    fn sending(&self) -> MutexGuard<'_, Sending> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sending {
    /// The next of what is left.
    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.rest).poll_frame(context);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(frame))) => self.keep(frame),
            Poll::Ready(Some(Err(error))) => self.broke = Some(of_the_client(&**error)),
            Poll::Ready(None) => self.is_over = true,
        }
        polled
    }

    fn keep(&mut self, frame: &Frame<Bytes>) {
        let Some(gone) = &mut self.gone else { return };
        match frame.data_ref() {
            // A copy, though it costs one: of content in small pieces each would hold on to all that was read with it.
            Some(data) if !self.is_heard && gone.len() + data.len() <= MOST_KEPT => gone.extend_from_slice(data),
            // Trailers come after all of the content.
            _ => self.gone = None,
        }
    }

    /// What an attempt has still to repeat, after so many bytes.
    fn repeated(&self, sent: usize) -> &[u8] {
        self.gone.as_deref().and_then(|gone| gone.get(sent..)).unwrap_or_default()
    }
}

/// A request's content, which notes whether its client or its origin is waited for, and what it died of.
struct InTurns {
    sending: Arc<Mutex<Sending>>,
    attempt: u32,
    /// How many bytes of it this attempt has sent.
    sent: usize,
}

impl InTurns {
    fn sending(&self) -> MutexGuard<'_, Sending> {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl http_body::Body for InTurns {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let mut sending = this.sending.lock().unwrap_or_else(PoisonError::into_inner);
        if sending.attempt != this.attempt {
            return Poll::Ready(Some(Err("it goes out once more".into())));
        }
        let polled = match sending.repeated(this.sent) {
            [] if sending.is_over => Poll::Ready(None),
            [] => sending.poll_rest(context),
            repeated => Poll::Ready(Some(Ok(Frame::data(Bytes::copy_from_slice(repeated))))),
        };
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            this.sent += frame.data_ref().map_or(0, Bytes::len);
        }
        sending.since = polled.is_ready().then(Instant::now);
        polled
    }

    fn is_end_stream(&self) -> bool {
        let sending = self.sending();
        sending.repeated(self.sent).is_empty() && (sending.is_over || sending.rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let sending = self.sending();
        let repeated = sending.repeated(self.sent).len();
        let rest = if sending.is_over { SizeHint::with_exact(0) } else { sending.rest.size_hint() };
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(repeated as u64));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(repeated as u64));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http_body_util::channel::Channel;

    use super::*;
    use crate::body::full;

    fn going_out(content: Body) -> (Body, Turn) {
        let (request, turn) = Turn::of(Request::new(content), true);
        (request.into_body(), turn)
    }

    #[tokio::test]
    async fn what_has_gone_out_goes_out_again_and_the_first_attempt_gets_no_more() {
        let (mut first, turn) = going_out(full("content"));
        assert_eq!(first.frame().await.expect("a frame").expect("content").into_data().expect("data"), "content");
        let mut second = turn.again().expect("it was kept");
        assert_eq!((second.size_hint().exact(), second.is_end_stream()), (Some(7), false));
        assert!(first.frame().await.expect("a frame").is_err(), "it would take away what the second is to send");
        // The answer may begin before all has gone out.
        turn.is_heard();
        assert_eq!(second.frame().await.expect("a frame").expect("content").into_data().expect("data"), "content");
        assert_eq!((second.size_hint().exact(), second.is_end_stream()), (Some(0), true));
        assert!(second.frame().await.is_none());
        assert!(turn.again().is_none(), "the answer has begun");
    }

    #[tokio::test]
    async fn an_attempt_repeats_what_went_out_in_pieces_and_goes_on_with_the_rest() {
        let (mut pieces, content) = Channel::<Bytes, BoxError>::new(4);
        for piece in ["in", "", " many ", "pieces"] {
            pieces.send_data(piece.into()).await.expect("there is room");
        }
        drop(pieces);
        let (mut first, turn) = going_out(content.boxed_unsync());
        for _ in 0..3 {
            first.frame().await.expect("a frame").expect("content");
        }
        let mut second = turn.again().expect("it was kept");
        assert_eq!(second.frame().await.expect("a frame").expect("content").into_data().expect("data"), "in many ");
        // A third one begins before the second has ended.
        let third = turn.again().expect("it was kept");
        assert_eq!(third.collect().await.expect("content").to_bytes(), "in many pieces");
    }

    #[tokio::test]
    async fn what_cannot_be_kept_whole_does_not_go_out_again() {
        let (content, turn) = going_out(full(vec![0; MOST_KEPT]));
        content.collect().await.expect("content");
        assert!(turn.again().is_some());
        turn.is_heard();
        assert!(turn.again().is_none(), "the answer has begun");
        let (content, turn) = going_out(full(vec![0; MOST_KEPT + 1]));
        content.collect().await.expect("content");
        assert!(turn.again().is_none(), "it is too long");
        let trailers = async { Some(Ok(HeaderMap::new())) };
        let (content, turn) = going_out(full("content").with_trailers(trailers).boxed_unsync());
        content.collect().await.expect("content");
        assert!(turn.again().is_none(), "it had trailers");
    }
}
