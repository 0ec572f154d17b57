//! `HttpCache`: the story of one request.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::{AUTHORIZATION, RANGE};
use http::{Request, Response, StatusCode, request};
use tokio::sync::{oneshot, watch};

use super::answer::{Outcome, Uncacheable, Why};
use super::body::Body;
use super::event::{HttpEvent, RefreshEnding};
use super::fetch::{Fetch, FetchError, Origin, Way, erase, sending};
use super::flight::{Asks, Flight, Phase, Role};
use super::inner::{Ask, Inner};
use super::key::head_of;
use super::lead::{Led, Sent};
use super::page::{Page, Stored};
use super::passing::Passing;
use super::serve::Told;
use crate::rfc9111::{self, Bypass, Failure, Forwarded, RequestControl, Reuse, Unusable, Vary};

/// An HTTP cache: one bounded store, and the story of every request over it.
///
/// Knows no framework: [`respond`](Self::respond) takes a request and a function that reaches the origin. Clones are
/// handles to the same cache. The adapters of this crate are thin layers over it.
#[derive(Clone, Debug)]
pub struct HttpCache {
    pub(crate) inner: Arc<Inner>,
}

/// A stored response, and what is to be done with it.
struct Found {
    stored: Arc<Stored>,
    reuse: Reuse,
    now: SystemTime,
}

impl HttpCache {
    /// Answers a request: from the store, from a fetch that is under way, or by `fetch`.
    ///
    /// `fetch` runs in a task of its own, so that others may wait for it when this caller goes away; without anybody who
    /// waits it is dropped. Requests that the cache has no part in ([`Rules::bypass`](rfc9111::Rules::bypass), or any with
    /// a body) are fetched here, and invalidate what RFC 9111 §4.4 says.
    ///
    /// # Errors
    /// The error of the fetch, if nothing stored may stand in. Nothing that befalls the store is an error here.
    ///
    /// # Panics
    /// If `fetch` panics, the panic goes on to the one who led; somebody who waited leads next.
    pub async fn respond<B, F>(&self, request: Request<B>, fetch: F) -> Result<Response<Body>, FetchError>
    where
        B: http_body::Body + Default + Send + 'static,
        F: Fetch<B>,
    {
        let (parts, body) = request.into_parts();
        match self.inner.fresh(&parts, &body) {
            Some(response) => Ok(response),
            // Boxed: what a fetch needs is large, and a hit would carry it about.
            None => Box::pin(self.respond_slowly(Request::from_parts(parts, body), fetch)).await,
        }
    }

    /// As [`respond`](Self::respond), where nothing fresh is stored.
    pub(crate) async fn respond_slowly<B, F>(&self, request: Request<B>, fetch: F) -> Result<Response<Body>, FetchError>
    where
        B: http_body::Body + Default + Send + 'static,
        F: Fetch<B>,
    {
        let (parts, body) = request.into_parts();
        if let Some(why) = self.inner.bypass(&parts, &body) {
            if let Some(refused) = self.inner.refused(&parts, why) {
                return Ok(refused);
            }
            let passing = Passing::new(&self.inner, &parts, why);
            let result = sending(fetch, Request::from_parts(parts, body)).await;
            return passing.ended(result);
        }
        let ask = Ask { key: self.inner.key(&parts), parts };
        Arc::clone(&self.inner).obtain(ask, Way::Owned(erase(fetch))).await
    }

    /// As [`respond`](Self::respond) with a fetch that borrows, and so can only run here: it ends when this caller goes
    /// away, and somebody who waited leads next. `behind` does the background's work; without it nothing stale is
    /// served that would have to be refreshed.
    #[cfg(feature = "reqwest-middleware")]
    pub(crate) async fn respond_here<'a>(
        &self,
        parts: request::Parts,
        fetch: Box<dyn Fn(request::Parts) -> super::fetch::Fetching<'a> + Send + 'a>,
        behind: Option<Box<dyn Origin>>,
    ) -> Result<Response<Body>, FetchError> {
        let ask = Ask { key: self.inner.key(&parts), parts };
        Arc::clone(&self.inner).obtain(ask, Way::Borrowed { fetch, behind }).await
    }
}

impl Inner {
    pub(crate) fn bypass<B: http_body::Body>(&self, parts: &request::Parts, body: &B) -> Option<Bypass> {
        let empty = body.is_end_stream() || body.size_hint().exact() == Some(0);
        self.rules.bypass(parts).or_else(|| (!empty).then_some(Bypass::Content))
    }

    /// The stored response that a request selects (RFC 9111 §4, §4.1), or why there is none.
    fn look(&self, page: Option<&Page>, parts: &request::Parts) -> Result<Found, Forwarded> {
        let Some(page) = page.filter(|page| !page.variants.is_empty()) else { return Err(Forwarded::UriMiss) };
        let mut missed = Forwarded::VaryMiss;
        let mut found: Option<Found> = None;
        let asked = self.rules.asked(&parts.headers);
        let (wall, elapsed) = (self.time.now(), self.time.elapsed());
        for stored in &page.variants {
            let now = stored.moment(wall, elapsed);
            match self.judge_as(parts, &asked, stored, now) {
                Reuse::Unusable(Unusable::Part) => missed = Forwarded::Partial,
                Reuse::Unusable(Unusable::Vary) => {}
                Reuse::Unusable(_) => missed = Forwarded::Miss,
                reuse => {
                    if found.as_ref().is_none_or(|best| best.stored.meta.rank() <= stored.meta.rank()) {
                        found = Some(Found { stored: Arc::clone(stored), reuse, now });
                    }
                }
            }
        }
        found.ok_or(missed)
    }

    /// The answer that is stored and fresh: it needs no task, no fetch and no runtime.
    pub(crate) fn fresh<B: http_body::Body>(&self, parts: &request::Parts, body: &B) -> Option<Response<Body>> {
        if self.bypass(parts, body).is_some() {
            return None;
        }
        self.with_key(parts, |key| {
            let page = self.shelf.page(key)?;
            let found = self.look(Some(&page), parts).ok()?;
            matches!(found.reuse, Reuse::Fresh { .. }).then(|| self.serve_fresh(key, parts, &found)).flatten()
        })
    }

    fn serve_fresh(&self, key: &str, parts: &request::Parts, found: &Found) -> Option<Response<Body>> {
        let mut told = Told::new(Outcome::Hit);
        told.now = Some(found.now);
        self.serve(key, parts, &found.stored, told)
    }

    fn serve_found(
        self: &Arc<Self>,
        ask: &Ask,
        found: &Found,
        behind: impl FnOnce() -> Option<Box<dyn Origin>>,
    ) -> Option<Response<Body>> {
        let stored = &found.stored;
        match found.reuse {
            Reuse::Fresh { .. } => self.serve_fresh(&ask.key, &ask.parts, found),
            Reuse::Stale { age, stale_for, refresh, remaining, .. } => {
                let mut told = Told::new(Outcome::Stale);
                told.now = Some(found.now);
                if refresh {
                    let origin = behind();
                    if origin.is_none() && self.settings.on_stale.is_none() {
                        return None;
                    }
                    let status = self.refresh_behind(ask, stored, (age, stale_for, remaining), origin);
                    told.refresh = Some(status);
                    self.teller.tell(&HttpEvent::Refresh { key: &ask.key, status });
                }
                self.serve(&ask.key, &ask.parts, stored, told)
            }
            _ => None,
        }
    }

    /// The answer that may need the origin.
    pub(crate) async fn obtain(self: Arc<Self>, ask: Ask, way: Way<'_>) -> Result<Response<Body>, FetchError> {
        let asked = RequestControl::parse(&ask.parts.headers);
        let ranged = ask.parts.headers.contains_key(RANGE);
        // Who asks for more than what is stored has it from the origin itself.
        let mut alone = ranged || (asked.no_cache && !self.rules.choices().ignore_request_no_cache);
        let mut unconditional = false;
        let mut hint: Option<Vary> = None;
        loop {
            let page = self.shelf.page(&ask.key);
            let found = self.look(page.as_deref(), &ask.parts);
            if let Ok(found) = &found
                && let Some(response) = self.serve_found(&ask, found, || way.behind())
            {
                return Ok(response);
            }
            if asked.only_if_cached {
                return Ok(self.gateway_timeout(&ask.key));
            }
            let (found, missed) = match found {
                Ok(found) => (Some(found), Forwarded::Miss),
                Err(missed) => (None, missed),
            };
            let plan = Plan::new(found, missed);
            // Has the origin just failed, nobody who has something to fall back on waits for it to fail again.
            if plan.fallback
                && let Some(failure) = plan.old.as_ref().and_then(|old| old.left_alone(|| self.time.elapsed()))
                && let Some(response) = self.stand_in(&ask, &plan, Told::fallback(Why::Failed(failure)))
            {
                return Ok(response);
            }
            let credentials = self.rules.is_shared().then(|| ask.parts.headers.contains_key(AUTHORIZATION));
            let passes = self.shelf.passes(&ask.key, credentials == Some(true));
            // Of what was stored although it came for credentials the origin has said that it is for all.
            let credentials = credentials.filter(|_| !plan.old.as_ref().is_some_and(|old| old.meta.is_authorized()));
            let verbatim = ranged || (passes && plan.old.is_none());
            let vary = hint.take().or_else(|| Some(page.as_ref()?.variants.last()?.meta.vary().clone()));
            let role = {
                let asks = Asks {
                    parts: &ask.parts,
                    vary: vary.as_ref(),
                    now: self.time.elapsed(),
                    patience: self.settings.patience,
                    alone: alone || passes,
                    shared: !verbatim && !asked.no_store,
                    credentials,
                };
                let changed = || match (&page, self.shelf.peek(&ask.key)) {
                    (Some(seen), Some(now)) => !Arc::ptr_eq(seen, &now),
                    (None, Some(_)) => true,
                    (_, None) => false,
                };
                self.shelf.flights.enter(&ask.key, &asks, changed)
            };
            match role {
                Role::Again => {}
                Role::Join(flight, watch, struck) => {
                    self.teller.waited();
                    let phase = self.await_phase(&flight, watch, &plan).await;
                    if flight.was_struck_before(struck) {
                        continue;
                    }
                    match self.joined(&ask, &plan, &flight, phase) {
                        Joined::Serve(response) => return Ok(*response),
                        Joined::Fail(error) => return Err(error),
                        Joined::Again { vary, alone: own } => {
                            hint = vary;
                            alone |= own;
                        }
                        Joined::AgainUnconditionally => unconditional = true,
                    }
                }
                Role::Lead(flight, watch) => {
                    let page = page.as_deref().filter(|_| !unconditional);
                    let sent = self.sent(&ask, &plan, page, verbatim);
                    let conditional = sent.conditional;
                    match self.led(flight, watch, sent, &way, &plan).await {
                        Ok(led) => match self.conclude(&ask, &plan, led, verbatim, conditional)? {
                            Some(response) => return Ok(response),
                            None => unconditional = true,
                        },
                        Err(TookTooLong) => {
                            if let Some(response) = self.fall_back(&ask, &plan, Why::Slow, None) {
                                return Ok(response);
                            }
                        }
                    }
                }
            }
        }
    }

    /// Waits until a flight has an answer; with something to fall back on no longer than `soft_timeout`.
    async fn await_phase(&self, flight: &Arc<Flight>, mut watch: watch::Receiver<Phase>, plan: &Plan) -> Option<Phase> {
        let ahead = async {
            let came = watch.wait_for(|phase| !matches!(phase, Phase::Pending)).await;
            came.map_or(Phase::Abandoned, |phase| phase.clone())
        };
        match self.settings.soft_timeout.filter(|_| plan.fallback) {
            None => Some(ahead.await),
            Some(limit) => tokio::select! {
                biased;
                phase = ahead => Some(phase),
                () = self.time.sleep(limit) => {
                    flight.keep();
                    None
                }
            },
        }
    }

    /// Leads a flight: in a task of its own, or here if its fetch borrows.
    fn led<'a>(
        self: &Arc<Self>,
        flight: Arc<Flight>,
        watch: watch::Receiver<Phase>,
        sent: Sent,
        way: &Way<'a>,
        plan: &Plan,
    ) -> impl Future<Output = Result<Led, TookTooLong>> + Send + use<'a> {
        let limit = self.settings.soft_timeout.filter(|_| plan.fallback);
        let inner = Arc::clone(self);
        let parts = sent.parts.clone();
        let (here, spawned) = match way {
            Way::Owned(origin) => {
                let fetching = origin.fetch(parts);
                let (tell, told) = oneshot::channel();
                let leading = Arc::clone(self).lead(Arc::clone(&flight), sent, fetching, None, None);
                let task = Box::pin(async move { drop(tell.send(leading.await)) });
                (None, Some((self.spawner.spawn_task(task).is_ok(), told)))
            }
            Way::Borrowed { fetch, .. } => {
                (Some(Arc::clone(self).lead(Arc::clone(&flight), sent, fetch(parts), None, None)), None)
            }
        };
        async move {
            let ahead = async {
                match (here, spawned) {
                    (Some(here), _) => here.await,
                    (None, Some((_, told))) => told.await.unwrap_or(Led::Unwanted),
                    (None, None) => Led::Unwanted,
                }
            };
            let led = match limit {
                None => Ok(ahead.await),
                Some(limit) => tokio::select! {
                    biased;
                    led = ahead => Ok(led),
                    () = inner.time.sleep(limit) => {
                        flight.keep();
                        Err(TookTooLong)
                    }
                },
            };
            drop(watch);
            led
        }
    }

    /// What is sent to the origin for this request.
    fn sent(&self, ask: &Ask, plan: &Plan, page: Option<&Page>, verbatim: bool) -> Sent {
        let mut sent = Sent { old: plan.old.clone(), ..Sent::of(ask.parts.clone()) };
        if verbatim {
            sent.beside = sent.old.take();
            return sent;
        }
        rfc9111::strip_conditions(&mut sent.parts.headers);
        let parts = page.iter().flat_map(|page| &page.variants).filter(|_| plan.old.is_none());
        if let Some((part, headers)) = parts.filter_map(|part| Some((part, self.rest_of(ask, part)?))).next_back() {
            sent.parts.headers = headers;
            sent.part = Some(Arc::clone(part));
            return sent;
        }
        if let Some(page) = page {
            let others = page.variants.iter().filter(|own| !plan.old.as_ref().is_some_and(|old| Arc::ptr_eq(own, old)));
            let named = plan.old.iter().chain(others).filter(|own| own.may_be_named(&ask.parts));
            sent.named = named.cloned().collect();
            let metas: Vec<_> = sent.named.iter().map(|stored| &stored.meta).collect();
            if let Some(headers) = rfc9111::conditional(&sent.parts, &metas) {
                sent.parts.headers = headers;
                sent.conditional = true;
            }
        }
        sent
    }

    /// The fields of a request for what is missing of a stored part, if this request selects it (RFC 9111 §3.4).
    fn rest_of(&self, ask: &Ask, part: &Stored) -> Option<http::HeaderMap> {
        let selected = part.meta.matches(&ask.parts.headers)
            && part.expired_for(|| self.time.elapsed()).is_none()
            && !matches!(
                self.rules.reuse(&ask.parts, &part.meta, self.time.now()),
                Reuse::Unusable(Unusable::Authorization)
            );
        selected.then(|| rfc9111::completion(&ask.parts, &part.meta)).flatten()
    }

    /// What becomes of one who waited.
    fn joined(&self, ask: &Ask, plan: &Plan, flight: &Flight, phase: Option<Phase>) -> Joined {
        let again = |alone: bool| Joined::Again { vary: None, alone };
        let serve = |response| Joined::Serve(Box::new(response));
        let told = || {
            let mut told = Told::new(Outcome::Coalesced);
            told.forwarded = Some(plan.forwarded);
            told.why = plan.why;
            told
        };
        match phase {
            None => self.fall_back(ask, plan, Why::Slow, None).map_or_else(|| again(false), serve),
            Some(Phase::Filling(meta, fill)) => {
                if !meta.matches(&ask.parts.headers) {
                    return Joined::Again { vary: Some(meta.vary().clone()), alone: false };
                }
                let fits = matches!(
                    self.rules.reuse(&ask.parts, &meta, self.time.now()),
                    Reuse::Fresh { .. } | Reuse::Stale { .. }
                );
                match fill.join().filter(|_| fits) {
                    Some(reader) => serve(self.serve_joined(&ask.key, &ask.parts, &meta, reader, told())),
                    None => again(true),
                }
            }
            Some(Phase::Renewed(stored)) => {
                // The origin may have chosen another variant than was asked for (RFC 9111 §4.1); it chose for all who ask
                // the same.
                let chosen = flight.is_asked_as(&ask.parts, stored.meta.vary());
                let mut parts = head_of(&ask.parts);
                if chosen {
                    parts.headers = rfc9111::nominated(&stored.meta, &parts.headers);
                }
                let fits = matches!(self.judge(&parts, &stored), Reuse::Fresh { .. } | Reuse::Stale { .. });
                let served = fits.then(|| self.serve(&ask.key, &ask.parts, &stored, told())).flatten();
                served.map_or_else(|| again(stored.meta.matches(&parts.headers)), serve)
            }
            Some(Phase::Released) => again(true),
            Some(Phase::OriginFailed(status, refresh)) => {
                let served = self.fall_back(ask, plan, Why::Failed(Failure::Status(status)), Some(status));
                // After a refresh one of those who waited asks for all of them.
                served.map_or_else(|| again(!refresh), serve)
            }
            Some(Phase::Failing(meta, fill)) => {
                let status = meta.status();
                if let Some(response) = self.fall_back(ask, plan, Why::Failed(Failure::Status(status)), Some(status)) {
                    return serve(response);
                }
                if self.rules.is_shared() && flight.has_anothers_cookie(&ask.parts.headers) {
                    return serve(self.serve_failure(&ask.key, &meta, told()));
                }
                match fill.join().filter(|_| meta.matches(&ask.parts.headers)) {
                    Some(reader) => {
                        let mut told = told();
                        told.status = Some(status);
                        serve(self.serve_joined(&ask.key, &ask.parts, &meta, reader, told))
                    }
                    None => again(true),
                }
            }
            Some(Phase::Failed(error)) => {
                let served = self.fall_back(ask, plan, Why::Failed(Failure::Unreachable), None);
                served.map_or(Joined::Fail(error), serve)
            }
            Some(Phase::Unusable) => Joined::AgainUnconditionally,
            Some(Phase::Abandoned | Phase::Pending) => again(false),
        }
    }

    /// What is stored, in place of what the origin failed to say (RFC 5861 §4).
    fn fall_back(&self, ask: &Ask, plan: &Plan, why: Why, status: Option<StatusCode>) -> Option<Response<Body>> {
        self.stand_in(ask, plan, Told { forwarded: Some(plan.forwarded), status, ..Told::fallback(why) })
    }

    fn stand_in(&self, ask: &Ask, plan: &Plan, mut told: Told) -> Option<Response<Body>> {
        let old = plan.old.as_ref()?;
        let failure = match told.why {
            Some(Why::Failed(failure)) => failure,
            _ => Failure::Unreachable,
        };
        let allowed = || self.rules.may_stand_in(&ask.parts, &old.meta, failure, self.stale_for(old));
        if !plan.in_window && !allowed() {
            return None;
        }
        told.now = Some(self.moment_of(old));
        self.serve(&ask.key, &ask.parts, old, told)
    }

    /// What becomes of one who led; `None`: to be asked again without conditions.
    fn conclude(
        &self,
        ask: &Ask,
        plan: &Plan,
        led: Led,
        verbatim: bool,
        conditional: bool,
    ) -> Result<Option<Response<Body>>, FetchError> {
        let told = |outcome| {
            let mut told = Told::new(outcome);
            told.forwarded = Some(plan.forwarded);
            told.why = plan.why;
            told
        };
        match led {
            Led::Head { head, meta, reader, .. } => {
                let replaced = plan.old.is_some() && conditional;
                let mut told = told(if replaced { Outcome::Replaced } else { Outcome::Miss });
                told.status = Some(head.status);
                told.stored = true;
                Ok(Some(self.serve_own(&ask.key, &ask.parts, (head, meta, reader), verbatim, told)))
            }
            Led::Renewed { stored, own, ending } => {
                let mut told = told(Outcome::Revalidated);
                told.status = Some(StatusCode::NOT_MODIFIED);
                told.stored = ending == RefreshEnding::Renewed;
                Ok(self.serve_renewed(&ask.key, &ask.parts, &stored, &own, told))
            }
            Led::Own { response, why } => {
                let status = response.status();
                if let Uncacheable::OriginFailed(status) = why {
                    let failed = Why::Failed(Failure::Status(status));
                    if let Some(response) = self.fall_back(ask, plan, failed, Some(status)) {
                        return Ok(Some(response));
                    }
                }
                let mut told = told(Outcome::Uncacheable(why));
                told.status = Some(status);
                Ok(Some(self.serve_through(&ask.key, &ask.parts, response, verbatim, told)))
            }
            Led::Failing { head, meta, reader } => {
                let status = head.status;
                if let Some(response) = self.fall_back(ask, plan, Why::Failed(Failure::Status(status)), Some(status)) {
                    return Ok(Some(response));
                }
                let mut told = told(Outcome::Uncacheable(Uncacheable::OriginFailed(status)));
                told.status = Some(status);
                Ok(Some(self.serve_own(&ask.key, &ask.parts, (head, meta, reader), verbatim, told)))
            }
            Led::Failed(error) => {
                let why = Why::Failed(Failure::Unreachable);
                self.fall_back(ask, plan, why, None).map(Some).ok_or(error)
            }
            Led::Unusable => Ok(None),
            Led::Panicked(panic) => resume_unwind(panic),
            Led::TimedOut | Led::Unwanted => {
                let gone = "the task that carried this request has ended";
                let why = Why::Failed(Failure::Unreachable);
                self.fall_back(ask, plan, why, None).map(Some).ok_or_else(|| FetchError::new(gone))
            }
        }
    }
}

/// The origin took longer than `soft_timeout`.
struct TookTooLong;

/// What a request that has to ask the origin knows before.
struct Plan {
    old: Option<Arc<Stored>>,
    /// Within its window it needs no leave to stand in.
    in_window: bool,
    fallback: bool,
    forwarded: Forwarded,
    why: Option<Why>,
}

impl Plan {
    fn new(found: Option<Found>, missed: Forwarded) -> Self {
        match found {
            Some(Found { stored, reuse: Reuse::Revalidate { why, fallback, .. }, now }) => {
                use rfc9111::WhyRevalidate as By;
                let more = matches!(why, By::RequestNoCache | By::RequestMaxAge | By::RequestMinFresh);
                // RFC 9211 §2.2: `request` is said of what is fresh.
                let forwarded = if more && stored.is_fresh(now) { Forwarded::Request } else { Forwarded::Stale };
                Self { old: Some(stored), in_window: false, fallback, forwarded, why: Some(Why::Revalidate(why)) }
            }
            // Within its window, but nobody is there to refresh it behind: asked for first.
            Some(Found { stored, reuse: Reuse::Stale { .. }, .. }) => {
                Self { old: Some(stored), in_window: true, fallback: true, forwarded: Forwarded::Stale, why: None }
            }
            Some(_) | None => Self {
                old: None,
                in_window: false,
                fallback: false,
                forwarded: missed,
                why: Some(Why::Forwarded(missed)),
            },
        }
    }
}

enum Joined {
    Serve(Box<Response<Body>>),
    Fail(FetchError),
    Again { vary: Option<Vary>, alone: bool },
    AgainUnconditionally,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use everfresh::{Clock, ManualClock};

    use super::super::page::{StoredBody, Target};
    use super::*;

    #[test]
    fn a_wall_clock_that_is_set_back_keeps_nothing_fresh_for_longer() {
        let (clock, origin) = (ManualClock::new(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000));
        let cache = HttpCache::builder().private().clock(clock.clone(), origin).build().expect("a cache");
        // It came when the wall clock was an hour ahead of what it is now.
        let then = origin + Duration::from_secs(3600);
        let asked = Request::get("http://a/").body(()).expect("a request").into_parts().0;
        let with = Response::builder().header("cache-control", "max-age=60, stale-if-error=60").header("etag", "\"1\"");
        let came = with.body(()).expect("a response").into_parts().0;
        let meta = cache.inner.rules.may_store(&asked, &came, then, then).expect("stored");
        let stored = Stored::new(Target::default(), meta, StoredBody::default(), Box::default());
        let stored = stored.made_at(clock.now());
        clock.advance(Duration::from_secs(59));
        assert!(matches!(cache.inner.judge(&asked, &stored), Reuse::Fresh { .. }));
        clock.advance(Duration::from_secs(1));
        assert!(matches!(cache.inner.judge(&asked, &stored), Reuse::Revalidate { fallback: true, .. }));
        clock.advance(Duration::from_secs(60));
        assert!(matches!(cache.inner.judge(&asked, &stored), Reuse::Revalidate { fallback: false, .. }));
        assert_eq!(cache.inner.stale_for(&stored), Duration::from_secs(60));
    }
}
