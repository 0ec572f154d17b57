//! A request that is not answered from the cache, and what it changes in it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{Method, Response, request};
use http_body::Body as _;

use super::answer::Outcome;
use super::body::Body;
use super::event::HttpEvent;
use super::fetch::{FetchError, Incoming};
use super::flight::{Asks, Flight, Force, Role};
use super::inner::{Inner, group_tag};
use super::key::{self, head_of};
use super::lead::{Elsewhere, Led, Sent};
use super::pump::Around;
use super::serve::{Told, forwarded_by};
use crate::rfc9111::{self, Bypass, Meta};

/// A request on its way past the cache.
pub(crate) struct Passing {
    inner: Arc<Inner>,
    asked: request::Parts,
    why: Bypass,
    asked_at: SystemTime,
    began: Duration,
    /// What its answer would be stored as: a POST's may stand for a GET's (RFC 9110 §9.3.3).
    stands_for: Option<StandsFor>,
}

/// A flight that nobody joins before its head has come, so that what is purged meanwhile is known.
struct StandsFor {
    get: request::Parts,
    flight: Arc<Flight>,
}

impl Inner {
    /// The answer to who wants only what is stored, and asks in a way that nothing stored answers (RFC 9111 §5.2.1.7);
    /// what only the origin can do it is still asked for.
    pub(crate) fn refused(&self, parts: &request::Parts, why: Bypass) -> Option<Response<Body>> {
        let refused = why != Bypass::Method && self.rules.only_if_cached(parts);
        refused.then(|| self.gateway_timeout(&self.key(parts)))
    }
}

impl Passing {
    pub(crate) fn new(inner: &Arc<Inner>, parts: &request::Parts, why: Bypass) -> Self {
        let asked = head_of(parts);
        let began = inner.time.elapsed();
        let stands_for = (parts.method == Method::POST).then(|| {
            let mut get = head_of(parts);
            get.method = Method::GET;
            let patience = inner.settings.patience;
            let asks =
                Asks { parts: &get, vary: None, now: began, patience, alone: true, shared: false, credentials: None };
            match inner.shelf.flights.enter(&inner.key(&get), &asks, || false) {
                Role::Lead(flight, _) => Some(StandsFor { get, flight }),
                _ => None,
            }
        });
        let asked_at = inner.time.now();
        Self { inner: Arc::clone(inner), asked, why, asked_at, began, stands_for: stands_for.flatten() }
    }

    /// What it makes invalid is purged (RFC 9111 §4.4, RFC 9875 §3); then its response is stored, if it may be.
    pub(crate) fn ended(mut self, result: Result<Incoming, FetchError>) -> Result<Response<Body>, FetchError> {
        let key = self.inner.key(&self.asked);
        let (head, body) = result?.into_parts();
        self.invalidate(&head);
        let mut told = Told::new(Outcome::Bypass(self.why));
        told.forwarded = Some(forwarded_by(self.why));
        told.status = Some(head.status);
        let stored_as = self.stored_as(&head).filter(|_| body.size_hint().lower() <= self.inner.settings.max_body);
        let Some((meta, StandsFor { get, flight })) = stored_as else {
            let mut response = Response::from_parts(head, Body::through(body));
            self.inner.stamp(&key, &mut response, None, told);
            return Ok(response);
        };
        match self.inner.fill(flight, Sent::of(get), (head, body), meta, self.began, None, Around::default()) {
            Led::Head { head, meta, reader, .. } => {
                told.stored = true;
                Ok(self.inner.serve_own(&key, &self.asked, (head, meta, reader), true, told))
            }
            _ => Err(FetchError::new("the runtime that carried this body has ended")),
        }
    }

    fn invalidate(&self, head: &http::response::Parts) {
        let (inner, asked) = (&self.inner, &self.asked);
        let own = self.stands_for.as_ref().map(|stands| &stands.flight);
        // Had the client below not followed a redirect, that would be the answer, and name what is changed besides.
        let redirect = head.extensions.get::<Elsewhere>().map(Elsewhere::redirect);
        for uri in rfc9111::invalidated_by(asked, redirect.as_ref().unwrap_or(head)) {
            // RFC 9111 §4.4 means the resource, in whatever form it is asked for.
            for (at, form) in key::forms(&uri, &asked.headers).into_iter().enumerate() {
                let key = inner.key(&form);
                if inner.shelf.purge(&key, Force::Remove, own) || at == 0 {
                    inner.teller.tell(&HttpEvent::Purged { what: &key });
                }
            }
        }
        for group in rfc9111::invalidated_groups(asked, head) {
            for form in key::forms(&asked.uri, &asked.headers) {
                let tag = group_tag(&key::origin(&form.uri, &form.headers), &group);
                inner.shelf.purge_tag(&tag, Force::Remove, own);
            }
            inner.teller.tell(&HttpEvent::Purged { what: &group });
        }
    }

    /// What is remembered of the response, if it may be stored, and as what.
    fn stored_as(&mut self, head: &http::response::Parts) -> Option<(Meta, StandsFor)> {
        let stands_for = self.stands_for.as_ref()?;
        if stands_for.flight.strikes().on(&[]).is_some() || head.extensions.get::<Elsewhere>().is_some() {
            return None;
        }
        let meta = self.inner.rules.may_store(&self.asked, head, self.asked_at, self.inner.time.now()).ok()?;
        Some((meta, self.stands_for.take()?))
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        if let Some(stands_for) = &self.stands_for {
            self.inner.shelf.flights.leave(&stands_for.flight);
        }
    }
}
