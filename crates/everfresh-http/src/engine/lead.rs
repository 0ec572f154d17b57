//! One request to the origin, and what becomes of its answer.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderMap, HeaderValue, Method, StatusCode, request, response};
use http_body::Body as _;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::sync::oneshot;

use super::answer::Uncacheable;
use super::event::{HttpEvent, RefreshEnding};
use super::fetch::{BoxError, FetchError, Fetching, Incoming};
use super::fill::{Fill, Reader};
use super::flight::{Flight, Phase};
use super::inner::{Inner, Permit};
use super::page::Stored;
use super::pump::{Around, Pump};
use crate::rfc9111::{self, Extent, Failure, HeadUpdate, Meta, Reuse, Source, WhyNot};

/// What is asked of the origin, and on behalf of what.
pub(crate) struct Sent {
    pub(crate) parts: request::Parts,
    /// The stored response that the request selects.
    pub(crate) old: Option<Arc<Stored>>,
    /// The same, where a part of it is asked for as the client does, and the answer says nothing of the whole.
    pub(crate) beside: Option<Arc<Stored>>,
    /// Those whose validators it names, the selected one first.
    pub(crate) named: Vec<Arc<Stored>>,
    /// The stored part of which it asks for the rest (RFC 9111 §3.4).
    pub(crate) part: Option<Arc<Stored>>,
    /// Whether the conditions in it are ours.
    pub(crate) conditional: bool,
    /// Behind a reader's back.
    pub(crate) refresh: bool,
}

impl Sent {
    /// On behalf of nothing that is stored.
    pub(crate) fn of(parts: request::Parts) -> Sent {
        Sent { parts, old: None, beside: None, named: Vec::new(), part: None, conditional: false, refresh: false }
    }

    /// What stands in, or may once more, should the origin fail.
    fn kept(&self) -> Option<&Arc<Stored>> {
        self.old.as_ref().or(self.beside.as_ref())
    }
}

/// What the leader of a flight is told.
pub(crate) enum Led {
    /// A response that is being stored, a reader of its body, and how the storing ends.
    Head { head: response::Parts, meta: Meta, reader: Reader, done: oneshot::Receiver<RefreshEnding> },
    /// What is stored holds; these fields are for the one who asked.
    Renewed { stored: Arc<Stored>, own: HeaderMap, ending: RefreshEnding },
    /// A response for the leader alone.
    Own { response: Incoming, why: Uncacheable },
    /// A failure, which those who wait for it read, too.
    Failing { head: response::Parts, meta: Meta, reader: Reader },
    /// No response.
    Failed(FetchError),
    /// A 304 that is about nothing that is stored.
    Unusable,
    /// No response within the deadline.
    TimedOut,
    /// Nobody wanted it any more.
    Unwanted,
    /// The fetch panicked.
    Panicked(Box<dyn Any + Send>),
}

/// Marks a response that is another URL's: the client below followed a redirect, of which nothing is known here but where
/// it led to.
#[cfg_attr(not(feature = "reqwest-middleware"), allow(dead_code))]
#[derive(Clone, Debug)]
pub(crate) struct Elsewhere(pub(crate) Option<HeaderValue>);

impl Elsewhere {
    /// What the request itself was answered with, as far as that is known.
    pub(crate) fn redirect(&self) -> response::Parts {
        let mut head = http::Response::new(()).into_parts().0;
        head.status = StatusCode::SEE_OTHER;
        self.0.clone().map(|to| head.headers.insert(LOCATION, to));
        head
    }
}

/// Frees the flight of a leader that goes away.
struct Abandon<'a>(&'a Inner, &'a Arc<Flight>);

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        if matches!(self.1.phase(), Phase::Pending) {
            self.0.close(self.1, Phase::Abandoned);
        }
    }
}

/// A future whose panic is a value.
async fn contained<T>(future: impl Future<Output = T>) -> Result<T, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    poll_fn(|cx: &mut Context<'_>| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

/// Whether a HEAD was sent where a GET's response is stored.
fn is_head_of(sent: &Sent, old: &Meta) -> bool {
    sent.parts.method == Method::HEAD && *old.method() != Method::HEAD
}

/// Whether an answer is about HEAD alone, of which the origin knows nothing, and not about what a GET stored.
fn refuses_head(sent: &Sent, old: &Meta, status: StatusCode) -> bool {
    is_head_of(sent, old) && is_refusal_of_method(status)
}

fn is_refusal_of_method(status: StatusCode) -> bool {
    matches!(status, StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED)
}

impl Inner {
    /// Ends a flight: it leaves the table, and those who wait are told.
    fn close(&self, flight: &Arc<Flight>, phase: Phase) {
        self.shelf.flights.leave(flight);
        flight.set(phase, self.time.elapsed());
    }

    /// Asks the origin and decides what its answer is worth.
    pub(crate) async fn lead(
        self: Arc<Self>,
        flight: Arc<Flight>,
        sent: Sent,
        fetching: Fetching<'_>,
        deadline: Option<Duration>,
        permit: Option<Permit>,
    ) -> Led {
        let _abandon = Abandon(&self, &flight);
        let (asked_at, began) = (self.time.now(), self.time.elapsed());
        let late = async {
            match deadline {
                Some(deadline) => self.time.sleep(deadline).await,
                None => std::future::pending().await,
            }
        };
        let result = tokio::select! {
            biased;
            result = contained(fetching) => Some(result),
            () = late => None,
            () = flight.unwanted() => return Led::Unwanted,
        };
        let came = self.time.now();
        let took = self.time.elapsed().saturating_sub(began);
        let status = match &result {
            Some(Ok(Ok(response))) => Some(response.status()),
            _ => None,
        };
        let (key, refresh, waiters) = (&*flight.key, sent.refresh, flight.waiters());
        self.teller.tell(&HttpEvent::Fetched { key, refresh, status, took, waiters });
        let response = match result {
            None => {
                self.close(&flight, Phase::Abandoned);
                return Led::TimedOut;
            }
            Some(Err(panic)) => {
                self.close(&flight, Phase::Abandoned);
                return Led::Panicked(panic);
            }
            Some(Ok(Err(error))) => {
                self.left_alone(&sent, Failure::Unreachable);
                self.close(&flight, Phase::Failed(error.clone()));
                return Led::Failed(error);
            }
            Some(Ok(Ok(response))) => response,
        };
        let (head, body) = response.into_parts();
        let elsewhere = head.extensions.get::<Elsewhere>().is_some();
        let ours = matches!(head.status, StatusCode::NOT_MODIFIED if sent.conditional)
            || (sent.part.is_some() && head.status == StatusCode::PARTIAL_CONTENT);
        if elsewhere && ours {
            // What another URL says of our validators says nothing of what is stored.
            self.close(&flight, Phase::Unusable);
            return Led::Unusable;
        }
        if head.status == StatusCode::NOT_MODIFIED && sent.conditional {
            return self.renewed(&flight, &sent, &head, asked_at, came, began);
        }
        let is_error = Failure::Status(head.status).is_error();
        if sent.kept().is_some() && (is_error || (refresh && Failure::Status(head.status).is_refusal())) {
            self.left_alone(&sent, Failure::Status(head.status));
            return self.failed(&flight, &sent, (head, body), asked_at, came);
        }
        if let Some(part) = &sent.part
            && head.status == StatusCode::PARTIAL_CONTENT
        {
            return match self.completed(part, &sent.parts, &head, (asked_at, came)) {
                Some((head, meta, around)) => {
                    self.fill(flight.clone(), sent, (head, body), meta, began, permit, around)
                }
                None => {
                    self.close(&flight, Phase::Unusable);
                    Led::Unusable
                }
            };
        }
        // The range was ours: there is no more than is stored, or the origin does not know If-Range.
        if sent.part.is_some() && head.status == StatusCode::RANGE_NOT_SATISFIABLE {
            self.close(&flight, Phase::Unusable);
            return Led::Unusable;
        }
        let verdict = self.rules.may_store(&sent.parts, &head, asked_at, came).map_err(Uncacheable::Rule);
        let verdict = if elsewhere { Err(Uncacheable::Redirected) } else { verdict };
        if Failure::Status(head.status).is_trouble() && verdict.is_err() {
            return self.failed(&flight, &sent, (head, body), asked_at, came);
        }
        let too_large = body.size_hint().lower() > self.settings.max_body;
        let verdict = verdict.and_then(|meta| if too_large { Err(Uncacheable::TooLarge) } else { Ok(meta) });
        match verdict {
            Ok(meta) => self.fill(flight.clone(), sent, (head, body), meta, began, permit, Around::default()),
            Err(why) => {
                self.release(&flight, &sent, head.status, why);
                let own = matches!(why, Uncacheable::Rule(WhyNot::Status)) && head.status == StatusCode::NOT_MODIFIED;
                let why = if own { Uncacheable::NotModified } else { why };
                Led::Own { response: Incoming::from_parts(head, body), why }
            }
        }
    }

    /// The origin failed while something is stored: it is left alone for a while (contract R3, T1). A refresh notes that
    /// itself, as it knows of failures that come later.
    fn left_alone(&self, sent: &Sent, failure: Failure) {
        if let Some(old) = sent.kept().filter(|_| !sent.refresh) {
            self.note_failure(old, failure);
        }
    }

    /// A failure that is not to be stored. Those who wait for it now have it, too, unless it forbids that: one request
    /// asks for a wave of them. Who comes later asks again.
    fn failed(
        self: &Arc<Self>,
        flight: &Arc<Flight>,
        sent: &Sent,
        (head, body): (response::Parts, UnsyncBoxBody<Bytes, BoxError>),
        asked_at: SystemTime,
        came: SystemTime,
    ) -> Led {
        let why = Uncacheable::OriginFailed(head.status);
        // From here on nobody joins; who has joined is counted.
        self.shelf.flights.leave(flight);
        let alone = sent.refresh || flight.waiters() < 2 || !flight.is_shared();
        let shared = (!alone).then(|| self.rules.may_share_failure(&sent.parts, &head, asked_at, came)).flatten();
        let fill = Fill::new(self.settings.max_body, self.settings.read_ahead);
        let (Some(meta), Some(reader)) = (shared, fill.join()) else {
            let passed = if sent.kept().is_some() {
                Phase::OriginFailed(head.status, sent.refresh)
            } else {
                let verdict = self.rules.may_store(&sent.parts, &head, asked_at, came);
                if let Err(why @ (WhyNot::NoStore | WhyNot::Private | WhyNot::VaryStar)) = verdict {
                    self.pass(flight, Uncacheable::Rule(why));
                }
                Phase::Released
            };
            self.close(flight, passed);
            return Led::Own { response: Incoming::from_parts(head, body), why };
        };
        flight.tagged(|| self.tags(&sent.parts, &head.headers, &meta));
        flight.set(Phase::Failing(meta.clone(), Arc::clone(&fill)), self.time.elapsed());
        let pump = Pump {
            inner: Arc::clone(self),
            flight: Arc::clone(flight),
            fill,
            body,
            meta: meta.clone(),
            tags: Box::default(),
            old: None,
            refresh: false,
            stores: false,
            around: Around::default(),
            began: self.time.elapsed(),
            came: self.time.elapsed(),
            ended: false,
            outdated: false,
            permit: None,
        };
        let _ = self.spawner.spawn_task(Box::pin(async move {
            pump.run().await;
        }));
        Led::Failing { head, meta, reader }
    }

    /// The head of the whole that a part which came makes of the one that is stored, and the stored bytes around it
    /// (RFC 9111 §3.4). `None` if the two do not fit.
    fn completed(
        &self,
        part: &Arc<Stored>,
        asked: &request::Parts,
        head: &response::Parts,
        (asked_at, came_at): (SystemTime, SystemTime),
    ) -> Option<(response::Parts, Meta, Around)> {
        let new = self.rules.may_store(asked, head, asked_at, came_at).ok()?;
        let combined = rfc9111::combine(&self.rules, &part.meta, &new)?;
        if !matches!(combined.meta.extent(), Extent::Complete(Some(_))) {
            return None;
        }
        let mut around = Around::default();
        let mut came = false;
        for (source, range) in combined.pieces {
            match source {
                Source::New => came = true,
                Source::Stored if came => around.after.extend(part.body.slices(range)),
                Source::Stored => {
                    around.stored_before = range.end - range.start;
                    around.before = part.body.slices(range);
                }
            }
        }
        let mut whole = http::Response::new(()).into_parts().0;
        whole.status = combined.meta.status();
        whole.version = head.version;
        whole.headers = combined.meta.headers().clone();
        Some((whole, combined.meta, around))
    }

    /// A response that cannot be shared: those who wait fetch for themselves, and so does for a while who comes later.
    fn release(&self, flight: &Arc<Flight>, sent: &Sent, status: StatusCode, why: Uncacheable) {
        // What somebody's credentials bring says nothing of what is for all, unless that came for credentials, too.
        let is_own = self.is_of_credentials(flight);
        let is_over = |old: &&Arc<Stored>| {
            (!is_own || old.meta.is_authorized())
                && !Failure::Status(status).is_refusal()
                && !refuses_head(sent, &old.meta, status)
        };
        if let Some(old) = sent.old.as_ref().filter(is_over) {
            // The origin has another answer now; what it said before is over.
            self.shelf.drop_variant(&flight.key, old);
        }
        // An answer to a range, a condition or a HEAD of one client says nothing of what others will be told.
        let rule =
            matches!(why, Uncacheable::Rule(WhyNot::RequestNoStore | WhyNot::Method | WhyNot::Part | WhyNot::Status));
        let of_the_request = rule || (sent.parts.method == Method::HEAD && is_refusal_of_method(status));
        if !of_the_request {
            self.pass(flight, why);
        }
        self.close(flight, Phase::Released);
    }

    /// 304 (RFC 9111 §4.3.4).
    fn renewed(
        &self,
        flight: &Arc<Flight>,
        sent: &Sent,
        head: &response::Parts,
        asked_at: SystemTime,
        came: SystemTime,
        began: Duration,
    ) -> Led {
        let metas: Vec<&Meta> = sent.named.iter().map(|old| &old.meta).collect();
        let about = rfc9111::validated_for(&sent.parts.headers, &metas, head)
            .into_iter()
            .min()
            .and_then(|at| sent.named.get(at));
        let Some(old) = about else {
            self.close(flight, Phase::Unusable);
            return Led::Unusable;
        };
        let fresh = self.rules.freshen(&old.meta, &sent.parts, head, asked_at, came);
        let own = self.rules.said_to_one(&fresh.meta, head);
        let tags = self.tags(&sent.parts, fresh.meta.headers(), &fresh.meta);
        let new = Stored::new(old.target.clone(), fresh.meta, old.body.clone(), tags);
        let new = Arc::new(new.made_at(self.time.elapsed()));
        new.refresh_not_before(began.saturating_add(self.settings.min_refresh_interval));
        // For somebody's credentials; of what is for all it says nothing.
        let is_own = self.is_of_credentials(flight) && !old.meta.is_authorized();
        let landed = match fresh.keep {
            Ok(()) => self.land(flight, Arc::clone(&new), Some(old), sent.refresh).ok(),
            Err(_) if is_own => None,
            Err(_) => {
                self.shelf.drop_variant(&flight.key, old);
                None
            }
        };
        if let Some(landed) = landed.as_ref().filter(|_| !old.meta.matches(&sent.parts.headers)) {
            // The origin chose what was stored for others: so it has for the next who asks like this.
            let chosen = self.rules.freshen_for(&old.meta, &sent.parts, head, asked_at, came);
            if chosen.keep.is_ok() {
                self.shelf.land_beside(flight, landed, chosen.meta);
            }
        }
        let ending = match (&landed, fresh.keep) {
            (Some(_), _) => RefreshEnding::Renewed,
            (None, Err(_)) if !is_own => RefreshEnding::Dropped,
            (None, _) => RefreshEnding::Discarded,
        };
        let stored = landed.unwrap_or(new);
        // Its body is what it was under the old ones.
        flight.tagged(|| stored.tags.iter().chain(&old.tags).cloned().collect());
        let phase = match fresh.keep {
            Ok(()) => {
                // Of what was stored for others it says nothing in which way they ask.
                if stored.meta.matches(&sent.parts.headers) {
                    self.note_reuse(flight, &sent.parts, &stored.meta);
                }
                Phase::Renewed(Arc::clone(&stored))
            }
            // What may not be kept is for the one who asked.
            Err(why) => {
                if why != WhyNot::RequestNoStore {
                    self.pass(flight, Uncacheable::Rule(why));
                }
                Phase::Released
            }
        };
        self.close(flight, phase);
        Led::Renewed { stored, own, ending }
    }

    /// Whether those who wait may have what came for another, and remembers it for those who come: stale from birth and with
    /// no window nobody but the one who asked may have it unasked (RFC 9111 §4).
    fn note_reuse(&self, flight: &Flight, asked: &request::Parts, meta: &Meta) -> bool {
        let key = &flight.key;
        let reuse = self.rules.reuse(&plain(asked), meta, self.time.now());
        let reusable = matches!(reuse, Reuse::Fresh { .. } | Reuse::Stale { .. });
        if reusable {
            self.shelf.forget_pass(key, meta.is_authorized());
        } else if !self.shelf.passes(key, self.is_of_credentials(flight)) {
            self.pass(flight, Uncacheable::Rule(WhyNot::Useless));
        }
        reusable
    }

    /// A response that is to be stored: its body comes in a task of its own, whoever reads it.
    #[expect(clippy::too_many_arguments, reason = "what a body on its way needs is many things")]
    pub(crate) fn fill(
        self: &Arc<Self>,
        flight: Arc<Flight>,
        sent: Sent,
        (head, body): (response::Parts, UnsyncBoxBody<Bytes, BoxError>),
        meta: Meta,
        began: Duration,
        permit: Option<Permit>,
        around: Around,
    ) -> Led {
        let came = self.time.elapsed();
        let fill = Fill::new(self.settings.max_body, self.settings.read_ahead);
        let Some(reader) = fill.join() else { return Led::Unwanted };
        let reusable = self.note_reuse(&flight, &sent.parts, &meta);
        if sent.parts.method == Method::HEAD {
            self.shelf.update(&flight, |old| {
                match self.rules.update_from_head(old, &sent.parts, &head, meta.request_time(), meta.response_time()) {
                    HeadUpdate::Nothing => None,
                    HeadUpdate::Updated(fresh) => Some(Some(fresh.meta)),
                    HeadUpdate::Changed => Some(None),
                }
            });
        }
        let tags = self.tags(&sent.parts, &head.headers, &meta);
        if reusable {
            flight.share();
        }
        flight.tagged(|| tags.clone());
        flight.set(Phase::Filling(meta.clone(), Arc::clone(&fill)), self.time.elapsed());
        let (tell, done) = oneshot::channel();
        let pump = Pump {
            inner: Arc::clone(self),
            flight,
            fill,
            body,
            meta: meta.clone(),
            tags,
            // What a GET stored, and this 200 has no body for, stays: stale as it may be, it still stands in (RFC 9111 §4.3.5).
            old: sent.old.clone().filter(|old| {
                let bare = meta.status() == StatusCode::OK && is_head_of(&sent, &old.meta);
                !bare && !refuses_head(&sent, &old.meta, meta.status())
            }),
            refresh: sent.refresh,
            stores: true,
            around,
            began,
            came,
            ended: false,
            outdated: false,
            permit,
        };
        let task = Box::pin(async move {
            let ending = pump.run().await;
            let _ = tell.send(ending);
        });
        // Refused only where no thread can be had: the pump is dropped and its readers are told.
        let _ = self.spawner.spawn_task(task);
        Led::Head { head, meta, reader, done }
    }
}

/// The request as anybody asks it, without directives of its own.
fn plain(parts: &request::Parts) -> request::Parts {
    let mut plain = parts.clone();
    plain.headers.remove(http::header::CACHE_CONTROL);
    plain.headers.remove(http::header::PRAGMA);
    plain
}
