//! A body on its way from the origin into the store, past those who read it.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use everfresh::Sleep;
use http::Method;
use http_body::{Body as _, Frame};
use http_body_util::combinators::UnsyncBoxBody;

use super::answer::Uncacheable;
use super::event::{HttpEvent, RefreshEnding};
use super::fetch::BoxError;
use super::fill::{BodyError, Fill, Room};
use super::flight::Flight;
use super::inner::{Inner, Permit};
use super::page::Stored;
use super::shelf::{NotLanded, truncated};
use crate::rfc9111::{Extent, Failure, Meta};

impl Inner {
    /// Its responses cannot be shared: for a while nobody waits for another's.
    ///
    /// What came for credentials says nothing of what comes without any: an origin that answers each user for himself
    /// would else have nobody else wait, either.
    pub(crate) fn pass(&self, flight: &Flight, why: Uncacheable) {
        let key = &*flight.key;
        self.shelf.remember_pass(key, self.is_of_credentials(flight));
        self.teller.tell(&HttpEvent::Passes { key, why });
    }

    /// Whether its answer may be for somebody's credentials alone (RFC 9111 §3.5).
    pub(crate) fn is_of_credentials(&self, flight: &Flight) -> bool {
        self.rules.is_shared() && flight.has_credentials()
    }

    /// Stores what a flight brought, and tells it.
    pub(crate) fn land(
        &self,
        flight: &Flight,
        new: Arc<Stored>,
        old: Option<&Arc<Stored>>,
        only_if_there: bool,
    ) -> Result<Arc<Stored>, NotLanded> {
        match self.shelf.land(flight, new, old, only_if_there) {
            Ok(stored) => {
                let bytes = stored.body.length();
                self.teller.tell(&HttpEvent::Stored { key: &flight.key, bytes });
                Ok(stored)
            }
            Err(why) => {
                self.teller.tell(&HttpEvent::NotStored { key: &flight.key, why });
                if why == NotLanded::TooHeavy {
                    self.pass(flight, Uncacheable::TooLarge);
                }
                Err(why)
            }
        }
    }
}

/// Carries a body from the origin into the store and past its readers.
pub(crate) struct Pump {
    pub(crate) inner: Arc<Inner>,
    pub(crate) flight: Arc<Flight>,
    pub(crate) fill: Arc<Fill>,
    pub(crate) body: UnsyncBoxBody<Bytes, BoxError>,
    pub(crate) meta: Meta,
    pub(crate) tags: Box<[Arc<str>]>,
    pub(crate) old: Option<Arc<Stored>>,
    pub(crate) refresh: bool,
    /// Not for a failure, which only passes.
    pub(crate) stores: bool,
    pub(crate) around: Around,
    pub(crate) began: Duration,
    /// When the head came, by the engine's clock: from then on it ages.
    pub(crate) came: Duration,
    pub(crate) ended: bool,
    /// It took out what it could not take the place of.
    pub(crate) outdated: bool,
    /// Its place among the refreshes, given back when it has had its time: a body that trickles holds up no other.
    pub(crate) permit: Option<Permit>,
}

/// What is stored already of the body that comes: these bytes before it and after it.
#[derive(Default)]
pub(crate) struct Around {
    pub(crate) before: Vec<Bytes>,
    pub(crate) after: Vec<Bytes>,
    /// How many bytes those before it are.
    pub(crate) stored_before: u64,
}

enum Step {
    Frame(Option<Result<Frame<Bytes>, BoxError>>),
    Deserted,
    Stalled,
}

impl Pump {
    pub(crate) async fn run(mut self) -> RefreshEnding {
        let mut trailers = None;
        let late = self.inner.settings.refresh_timeout.saturating_sub(self.came.saturating_sub(self.began));
        let mut late = self.permit.is_some().then(|| self.inner.time.sleep(late));
        for bytes in std::mem::take(&mut self.around.before) {
            self.push(bytes);
        }
        loop {
            match self.step(&mut late).await {
                Step::Deserted => {
                    self.stop(BodyError::new("nobody reads it"));
                    return self.unstored();
                }
                Step::Stalled => {
                    self.stop(BodyError::new("the origin stopped in the middle of the body"));
                    return RefreshEnding::TimedOut;
                }
                Step::Frame(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        self.flight.progressed(self.inner.time.elapsed());
                        self.push(data);
                    }
                    Err(frame) => trailers = frame.into_trailers().ok(),
                },
                Step::Frame(Some(Err(error))) => {
                    self.stop(BodyError::of(&*error));
                    return RefreshEnding::Failed;
                }
                Step::Frame(None) => return self.end(trailers),
            }
        }
    }

    fn push(&mut self, bytes: Bytes) {
        if !self.fill.push(bytes) && self.stores {
            self.inner.pass(&self.flight, Uncacheable::TooLarge);
            self.outdate();
            self.inner.shelf.flights.leave(&self.flight);
        }
    }

    /// It is too large to be stored, and what is stored is over all the same: others have had the new one.
    fn outdate(&mut self) {
        let status = self.meta.status();
        let is_own = self.inner.is_of_credentials(&self.flight);
        let is_over = |old: &Stored| (!is_own || old.meta.is_authorized()) && !Failure::Status(status).is_refusal();
        self.outdated |= self.inner.shelf.outdate(&self.flight.key, &self.meta, self.old.as_ref(), is_over);
    }

    /// How it ended for those who wanted it stored.
    fn unstored(&self) -> RefreshEnding {
        if self.outdated { RefreshEnding::Dropped } else { RefreshEnding::Discarded }
    }

    /// The next frame, once there is room for it. Without readers the origin may not stand still for ever.
    async fn step(&mut self, late: &mut Option<Sleep>) -> Step {
        let mut stalled = None;
        poll_fn(|cx| {
            if late.as_mut().is_some_and(|late| late.as_mut().poll(cx).is_ready()) {
                (self.permit, *late) = (None, None);
            }
            match self.fill.poll_room(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Room::Deserted) => return Poll::Ready(Step::Deserted),
                Poll::Ready(Room::Read) => stalled = None,
                Poll::Ready(Room::Unread) => {
                    let stalled =
                        stalled.get_or_insert_with(|| self.inner.time.sleep(self.inner.settings.refresh_timeout));
                    if Pin::new(stalled).poll(cx).is_ready() {
                        return Poll::Ready(Step::Stalled);
                    }
                }
            }
            Pin::new(&mut self.body).poll_frame(cx).map(Step::Frame)
        })
        .await
    }

    /// Ends the readers' bodies with an error; nothing is stored.
    fn stop(&mut self, why: BodyError) {
        self.ended = true;
        self.inner.shelf.flights.leave(&self.flight);
        self.fill.end_broken(why);
    }

    /// The body came whole, as it seems: store it first, then tell its readers.
    fn end(&mut self, trailers: Option<http::HeaderMap>) -> RefreshEnding {
        let around = std::mem::take(&mut self.around);
        self.inner.teller.count_from_origin(self.fill.length().saturating_sub(around.stored_before));
        if !self.stores {
            return self.pass_on(trailers);
        }
        let after: u64 = around.after.iter().map(|bytes| bytes.len() as u64).sum();
        if after > 0 && *self.meta.extent() != Extent::Complete(Some(self.fill.length().saturating_add(after))) {
            // What would follow now would stand in the wrong place.
            self.stop(truncated());
            return RefreshEnding::Failed;
        }
        // What a part says behind its bytes, such as their digest, it does not say of the whole (RFC 9530 §2).
        let trailers = trailers.filter(|_| around.stored_before == 0 && after == 0);
        around.after.into_iter().for_each(|bytes| self.push(bytes));
        let head = *self.meta.method() == Method::HEAD;
        let whole = if head { Some(self.meta.clone()) } else { self.meta.with_body_length(self.fill.length()) };
        let Some(meta) = whole else {
            // What is no longer than its framing says, and is not what its Content-Range says, is passed on as it came.
            if around.stored_before == 0 && matches!(self.meta.extent(), Extent::Partial { .. }) {
                self.inner.teller.tell(&HttpEvent::NotStored { key: &self.flight.key, why: NotLanded::Misfit });
                return self.pass_on(trailers);
            }
            // RFC 9111 §3.3: a body that is shorter than its head says is not what it claims to be.
            self.stop(truncated());
            return RefreshEnding::Failed;
        };
        let landed = self.fill.all().map(|chunks| {
            let body = self.inner.stored_body(&chunks, trailers.clone());
            let new = Stored::new(self.flight.target(), meta, body, std::mem::take(&mut self.tags));
            let new = Arc::new(new.made_at(self.came));
            new.refresh_not_before(self.began.saturating_add(self.inner.settings.min_refresh_interval));
            self.inner.land(&self.flight, new, self.old.as_ref(), self.refresh)
        });
        if let Some(Err(NotLanded::TooHeavy)) = landed {
            self.outdate();
        }
        self.ended = true;
        self.inner.shelf.flights.leave(&self.flight);
        self.fill.end_whole(trailers);
        if let Some(Ok(_)) = landed { RefreshEnding::Replaced } else { self.unstored() }
    }

    /// The end of a body that is not to be stored.
    fn pass_on(&mut self, trailers: Option<http::HeaderMap>) -> RefreshEnding {
        self.ended = true;
        self.inner.shelf.flights.leave(&self.flight);
        self.fill.end_whole(trailers);
        RefreshEnding::Failed
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        if !self.ended {
            self.stop(BodyError::new("the runtime that carried this body has ended"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use everfresh::{Clock, ManualClock};
    use http::{Request, Response};
    use http_body_util::{BodyExt, StreamBody};

    use super::super::HttpCache;
    use super::super::flight::{Asks, Role};
    use super::super::lead::{Led, Sent};
    use super::*;
    use crate::rfc9111::Reuse;

    #[tokio::test]
    async fn a_wall_clock_that_is_set_back_does_not_take_from_an_age_what_the_body_took() {
        let (clock, origin) = (ManualClock::new(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000));
        let cache = HttpCache::builder().private().clock(clock.clone(), origin).build().expect("a cache");
        let inner = &cache.inner;
        // The head came when the wall clock was an hour ahead of what it is now.
        let then = origin + Duration::from_secs(3600);
        let asked = Request::get("http://a/").body(()).expect("a request").into_parts().0;
        let came = Response::builder().header("cache-control", "max-age=60").body(()).expect("a response");
        let came = came.into_parts().0;
        let meta = inner.rules.may_store(&asked, &came, then, then).expect("stored");
        let (now, patience) = (clock.now(), Duration::from_secs(9));
        let asks = Asks { parts: &asked, vary: None, now, patience, alone: true, shared: false, credentials: None };
        let key = inner.key(&asked);
        let Role::Lead(flight, _) = inner.shelf.flights.enter(&key, &asks, || false) else {
            panic!("nobody else asks")
        };
        let (send, mut receive) = tokio::sync::mpsc::unbounded_channel::<Result<Frame<Bytes>, BoxError>>();
        let body = StreamBody::new(futures_util::stream::poll_fn(move |cx| receive.poll_recv(cx))).boxed_unsync();
        let led = inner.fill(flight, Sent::of(asked.clone()), (came, body), meta, now, None, Around::default());
        let Led::Head { done, reader, .. } = led else { panic!("a head came") };
        clock.advance(Duration::from_secs(40));
        drop(send);
        assert_eq!(done.await, Ok(RefreshEnding::Replaced));
        drop(reader);
        let page = inner.shelf.peek(&key).expect("stored");
        clock.advance(Duration::from_secs(19));
        assert!(matches!(inner.judge(&asked, &page.variants[0]), Reuse::Fresh { .. }));
        clock.advance(Duration::from_secs(1));
        assert!(matches!(inner.judge(&asked, &page.variants[0]), Reuse::Revalidate { .. }));
    }
}
