//! From what is stored, or on its way there, to an answer.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use everfresh::RefreshStatus;
use http::header::{AGE, CONTENT_LENGTH, HeaderMap, RETRY_AFTER};
use http::{HeaderValue, Method, Response, StatusCode, request};

use super::answer::{CacheAnswer, Outcome, Uncacheable, Why};
use super::body::Body;
use super::event::HttpEvent;
use super::fetch::Incoming;
use super::fill::Reader;
use super::inner::Inner;
use super::page::Stored;
use crate::rfc9111::{self, Bypass, CacheStatus, Extent, Forwarded, Meta, Served};

/// What is to be told of an answer.
pub(crate) struct Told {
    pub(crate) outcome: Outcome,
    pub(crate) why: Option<Why>,
    pub(crate) refresh: Option<RefreshStatus>,
    pub(crate) forwarded: Option<Forwarded>,
    pub(crate) status: Option<StatusCode>,
    pub(crate) stored: bool,
    /// When it was judged; without it the clock is read.
    pub(crate) now: Option<SystemTime>,
}

impl Told {
    pub(crate) fn new(outcome: Outcome) -> Self {
        Self { outcome, why: None, refresh: None, forwarded: None, status: None, stored: false, now: None }
    }

    /// Of what stands in; without the origin being asked as it has failed before.
    pub(crate) fn fallback(why: Why) -> Self {
        Self { why: Some(why), ..Self::new(Outcome::Fallback) }
    }
}

impl Inner {
    /// The answer that a stored response makes; `None` if it does not hold the part that is asked for.
    pub(crate) fn serve(
        &self,
        key: &str,
        parts: &request::Parts,
        stored: &Arc<Stored>,
        told: Told,
    ) -> Option<Response<Body>> {
        let (meta, body) = (&stored.meta, &stored.body);
        let (status, headers, body) = match rfc9111::evaluate(parts, meta, Some(body.length())) {
            Served::Full if parts.method == Method::HEAD => (meta.status(), fields_for_head(stored), Body::withheld()),
            Served::Full => (meta.status(), meta.headers().clone(), Body::stored(body.clone())),
            Served::NotModified(headers) => (StatusCode::NOT_MODIFIED, headers, Body::empty()),
            Served::Partial { body: range, headers } => {
                (StatusCode::PARTIAL_CONTENT, headers, Body::range(body, range))
            }
            Served::Multipart(multipart) => {
                let mut pieces = Vec::with_capacity(2 * multipart.parts.len() + 1);
                for part in multipart.parts {
                    pieces.push(Bytes::from(part.head));
                    pieces.extend(body.slices(part.body));
                }
                pieces.push(Bytes::from(multipart.closing));
                (StatusCode::PARTIAL_CONTENT, multipart.headers, Body::pieces(pieces))
            }
            Served::RangeNotSatisfiable(headers) => (StatusCode::RANGE_NOT_SATISFIABLE, headers, Body::empty()),
            Served::NotHere => return None,
        };
        stored.hit();
        self.teller.count_from_store(http_body::Body::size_hint(&body).lower());
        let expired = stored.expired_for(|| self.time.elapsed());
        Some(self.finish(key, status, headers, body, Some((meta, expired)), told))
    }

    /// As [`serve`](Self::serve) to the one who had it validated, with what the origin said to him alone.
    pub(crate) fn serve_renewed(
        &self,
        key: &str,
        parts: &request::Parts,
        stored: &Arc<Stored>,
        own: &HeaderMap,
        told: Told,
    ) -> Option<Response<Body>> {
        let mut response = self.serve(key, parts, stored, told)?;
        append(response.headers_mut(), own);
        Some(response)
    }

    /// The answer from a body that is on its way into the store, to somebody who joined.
    pub(crate) fn serve_joined(
        &self,
        key: &str,
        parts: &request::Parts,
        meta: &Meta,
        reader: Reader,
        told: Told,
    ) -> Response<Body> {
        let (status, headers, body) = match rfc9111::evaluate(parts, meta, None) {
            Served::NotModified(headers) => (StatusCode::NOT_MODIFIED, headers, Body::empty()),
            _ => (meta.status(), meta.headers().clone(), joined_body(parts, meta, reader)),
        };
        self.finish(key, status, headers, body, Some((meta, None)), told)
    }

    /// The answer to the one who fetched it: the origin's own head, but for the client's conditions, which are judged
    /// here as they were not sent on.
    pub(crate) fn serve_own(
        &self,
        key: &str,
        parts: &request::Parts,
        (head, meta, reader): (http::response::Parts, Meta, Reader),
        verbatim: bool,
        told: Told,
    ) -> Response<Body> {
        let served = if verbatim { Served::Full } else { rfc9111::evaluate(parts, &meta, None) };
        if let Served::NotModified(mut headers) = served {
            append(&mut headers, &self.rules.said_to_one(&meta, &head));
            return self.finish(key, StatusCode::NOT_MODIFIED, headers, Body::empty(), Some((&meta, None)), told);
        }
        let body = joined_body(parts, &meta, reader);
        let mut response = self.finish(key, head.status, head.headers, body, Some((&meta, None)), told);
        *response.version_mut() = head.version;
        let answer = response.extensions_mut().remove::<CacheAnswer>();
        *response.extensions_mut() = head.extensions;
        answer.map(|answer| response.extensions_mut().insert(answer));
        response
    }

    /// The answer to the one who fetched it, of which nothing is stored; with his conditions as above.
    pub(crate) fn serve_through(
        &self,
        key: &str,
        parts: &request::Parts,
        response: Incoming,
        verbatim: bool,
        told: Told,
    ) -> Response<Body> {
        let (mut head, body) = response.into_parts();
        let known = if verbatim { None } else { rfc9111::known_already(parts, &head) };
        let body = match known {
            Some(headers) => {
                (head.status, head.headers) = (StatusCode::NOT_MODIFIED, headers);
                Body::empty()
            }
            None => Body::through(body),
        };
        let mut response = Response::from_parts(head, body);
        self.stamp(key, &mut response, None, told);
        response
    }

    /// Stamps an answer with what the cache did, tells it, and lets it go.
    pub(crate) fn finish(
        &self,
        key: &str,
        status: StatusCode,
        headers: HeaderMap,
        body: Body,
        known: Option<(&Meta, Option<Duration>)>,
        told: Told,
    ) -> Response<Body> {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        self.stamp(key, &mut response, known, told);
        response
    }

    pub(crate) fn stamp<B>(
        &self,
        key: &str,
        response: &mut Response<B>,
        known: Option<(&Meta, Option<Duration>)>,
        told: Told,
    ) {
        let age = known.map(|(meta, _)| meta.age(told.now.unwrap_or_else(|| self.time.now())));
        let own = matches!(told.outcome, Outcome::Miss | Outcome::Replaced | Outcome::Bypass(_));
        if let Some(age) = age.filter(|age| !own || age.as_secs() > 0) {
            // A map of fields that is full goes without.
            drop(response.headers_mut().try_insert(AGE, rfc9111::age_field(age)));
        }
        let ttl = known.zip(age).map(|((meta, expired), age)| self.ttl(meta, age, expired));
        match (told.outcome, told.forwarded, ttl) {
            // Nothing else is told of these.
            (Outcome::Hit | Outcome::Stale, None, Some(ttl)) => {
                self.hit_status.append_to(response.headers_mut(), ttl);
            }
            _ => self.status(&told, ttl).append_to(response.headers_mut()),
        }
        let answer = CacheAnswer { outcome: told.outcome, age, why: told.why, refresh: told.refresh };
        self.teller.tell(&HttpEvent::Answered { key, status: response.status(), answer: &answer });
        response.extensions_mut().insert(answer);
    }

    /// What `Cache-Status` says of it.
    fn status(&self, told: &Told, ttl: Option<i64>) -> CacheStatus {
        let mut status = match told.forwarded {
            Some(why) => CacheStatus::forwarded(&self.settings.name, why),
            None => CacheStatus::hit(&self.settings.name),
        };
        if let Some(came) = told.status {
            status = status.fwd_status(came);
        }
        if told.stored {
            status = status.stored();
        }
        if let Some(ttl) = ttl {
            status = status.ttl(ttl);
        }
        let detail: Option<String> = match (told.outcome, told.why) {
            (Outcome::Coalesced, _) => {
                status = status.collapsed(true);
                None
            }
            (Outcome::Uncacheable(why), _) => Some(why.to_string()),
            (Outcome::Bypass(why), _) => Some(why.to_string()),
            (Outcome::Fallback, Some(why)) => Some(why.to_string()),
            _ => None,
        };
        if let Some(detail) = detail {
            // A field is ASCII; the sign of a section would be a question mark.
            status = status.detail(&detail.replace('§', "section "));
        }
        status
    }

    /// That the origin failed, without a word of what it said: that may be for the one client whose cookie was sent.
    pub(crate) fn serve_failure(&self, key: &str, meta: &Meta, mut told: Told) -> Response<Body> {
        told.status = Some(meta.status());
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(after) = meta.headers().get(RETRY_AFTER) {
            headers.insert(RETRY_AFTER, after.clone());
        }
        self.finish(key, meta.status(), headers, Body::empty(), None, told)
    }

    /// 504: the client wants only what is stored (RFC 9111 §5.2.1.7).
    pub(crate) fn gateway_timeout(&self, key: &str) -> Response<Body> {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let mut told = Told::new(Outcome::Uncacheable(Uncacheable::OnlyIfCached));
        // Nothing was forwarded, and nothing served: RFC 9211 has no better word than that it missed.
        told.forwarded = Some(Forwarded::Miss);
        self.finish(key, StatusCode::GATEWAY_TIMEOUT, headers, Body::empty(), None, told)
    }
}

fn append(headers: &mut HeaderMap, more: &HeaderMap) {
    for (name, value) in more {
        // A map of fields that is full goes without.
        drop(headers.try_append(name, value.clone()));
    }
}

/// What a HEAD is told of a stored response: with the length of the body that a GET has, where it says none itself, as
/// servers else tell what they see, which is no body (RFC 9110 §8.6).
fn fields_for_head(stored: &Stored) -> HeaderMap {
    let mut headers = stored.meta.headers().clone();
    let known = *stored.meta.method() != Method::HEAD && stored.meta.status() != StatusCode::NO_CONTENT;
    if known && !headers.contains_key(CONTENT_LENGTH) {
        drop(headers.try_insert(CONTENT_LENGTH, HeaderValue::from(stored.body.length())));
    }
    headers
}

fn joined_body(parts: &request::Parts, meta: &Meta, reader: Reader) -> Body {
    if parts.method == Method::HEAD {
        return Body::withheld();
    }
    let length = match meta.extent() {
        Extent::Complete(length) => *length,
        // What its Content-Range says may be wrong; its framing is not.
        Extent::Partial { .. } => {
            let length = meta.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
            length.and_then(|length| length.parse().ok())
        }
    };
    Body::joined(reader, length)
}

/// How a bypass is told in `Cache-Status` (RFC 9211 §2.2).
pub(crate) fn forwarded_by(why: Bypass) -> Forwarded {
    match why {
        Bypass::Method => Forwarded::Method,
        Bypass::NoStore => Forwarded::Request,
        _ => Forwarded::Bypass,
    }
}
