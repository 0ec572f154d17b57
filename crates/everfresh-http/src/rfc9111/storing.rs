//! Which responses may be stored, and what of them (RFC 9111 §3, §3.1, §3.5).

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{
    AGE, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_LOCATION, DATE, ETAG, EXPIRES, HeaderMap, HeaderName,
    HeaderValue, LAST_MODIFIED, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, RANGE, SET_COOKIE, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{Method, StatusCode, request, response};

use super::control::{RequestControl, ResponseControl, may_be_left_out};
use super::fields::{EntityTag, list, put, valid_date};
use super::freshness::{is_heuristic_status, lifetime};
use super::meta::{Extent, Meta, Stored};
use super::reusing::Failure;
use super::rules::{Choices, Rules};
use super::vary::{Unselectable, Vary};
use super::{age, groups, invalidation, range, stale, targeted};

/// Why a response may not be stored; each names its clause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WhyNot {
    /// The method is neither GET nor HEAD, nor a POST whose response says what it represents (RFC 9111 §3, RFC 9110
    /// §9.3.3).
    Method,
    /// The status is not final, or is one whose caching is not understood (RFC 9111 §3).
    Status,
    /// The request says `no-store` (RFC 9111 §5.2.1.5).
    RequestNoStore,
    /// The response says `no-store` (RFC 9111 §5.2.2.5).
    NoStore,
    /// The response says `must-understand`, and its status is not understood (RFC 9111 §5.2.2.3).
    MustUnderstand,
    /// The response says `private`, and the cache is shared (RFC 9111 §5.2.2.7).
    Private,
    /// The request was authorized, and the response does not allow sharing (RFC 9111 §3.5).
    Authorization,
    /// Nothing in the response allows storing it (RFC 9111 §3, last condition).
    NotAllowed,
    /// `Vary: *`: no request would ever select it (RFC 9111 §4.1).
    VaryStar,
    /// `Vary` names more fields than [`Rules::max_vary_fields`].
    VaryTooWide,
    /// `Vary` names something that is no field (RFC 9111 §4.1, read conservatively).
    VaryMalformed,
    /// A part that cannot be placed: no single valid `Content-Range` (RFC 9111 §3.3).
    Part,
    /// It may be stored but never served: stale from birth, without validator and without a window.
    Useless,
}

impl WhyNot {
    /// The clause, for logs.
    pub fn clause(self) -> &'static str {
        match self {
            Self::Method | Self::Status | Self::NotAllowed => "RFC 9111 §3",
            Self::RequestNoStore => "RFC 9111 §5.2.1.5",
            Self::NoStore => "RFC 9111 §5.2.2.5",
            Self::MustUnderstand => "RFC 9111 §5.2.2.3",
            Self::Private => "RFC 9111 §5.2.2.7",
            Self::Authorization => "RFC 9111 §3.5",
            Self::VaryStar | Self::VaryTooWide | Self::VaryMalformed => "RFC 9111 §4.1",
            Self::Part => "RFC 9111 §3.3",
            Self::Useless => "RFC 9111 §4",
        }
    }
}

impl fmt::Display for WhyNot {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Method => "responses to this method are not stored",
            Self::Status => "responses with this status are not stored",
            Self::RequestNoStore => "the request says no-store",
            Self::NoStore => "the response says no-store",
            Self::MustUnderstand => "the response says must-understand, its status is not understood",
            Self::Private => "the response is private, the cache is shared",
            Self::Authorization => "the request was authorized, the response does not allow sharing",
            Self::NotAllowed => "nothing in the response allows storing it",
            Self::VaryStar => "the response varies on everything",
            Self::VaryTooWide => "the response varies on too many fields",
            Self::VaryMalformed => "Vary names something that is no field",
            Self::Part => "the part has no single valid Content-Range",
            Self::Useless => "stale from birth, without validator and without a window",
        };
        write!(out, "{text} ({})", self.clause())
    }
}

impl Rules {
    /// Whether the response may be stored, and what of it is remembered (RFC 9111 §3).
    ///
    /// `request` is the request as it was sent to the origin, `request_time` when it was sent, `response_time` when the
    /// head of the response came. The body is not looked at: once it is whole, [`Meta::with_body_length`] says whether
    /// it is what the head claimed.
    ///
    /// # Errors
    /// The clause that forbids it, the first that applies.
    pub fn may_store(
        &self,
        request: &request::Parts,
        response: &response::Parts,
        request_time: SystemTime,
        response_time: SystemTime,
    ) -> Result<Meta, WhyNot> {
        let asked = RequestControl::parse(&request.headers);
        // §3: neither request nor response says no-store.
        if asked.no_store {
            return Err(WhyNot::RequestNoStore);
        }
        let draft = self.draft(request, response, request_time, response_time)?;
        let (meta, verdict) = self.describe(draft);
        verdict.map(|()| meta)
    }

    /// Whether a failure (5xx, but 501) may also be given to those who wait for the same at this moment, and what
    /// of it is remembered for that; it is not to be stored.
    ///
    /// For a response that may not be stored only because it names no lifetime, or none that is left. A failure that
    /// forbids storing or sharing, or that sets a cookie in a shared cache, is for its one client.
    pub fn may_share_failure(
        &self,
        request: &request::Parts,
        response: &response::Parts,
        request_time: SystemTime,
        response_time: SystemTime,
    ) -> Option<Meta> {
        let cookie = self.is_shared() && response.headers.contains_key(SET_COOKIE);
        let asked = RequestControl::parse(&request.headers);
        if !Failure::Status(response.status).is_trouble() || asked.no_store || cookie {
            return None;
        }
        let draft = self.draft(request, response, request_time, response_time).ok()?;
        Vary::of(&response.headers, &request.headers, self.choices().max_vary_fields).ok()?;
        let (meta, verdict) = self.describe(draft);
        matches!(verdict, Ok(()) | Err(WhyNot::NotAllowed | WhyNot::Useless)).then_some(meta)
    }

    fn draft<'a>(
        &self,
        request: &'a request::Parts,
        response: &response::Parts,
        request_time: SystemTime,
        response_time: SystemTime,
    ) -> Result<Draft<'a>, WhyNot> {
        Ok(Draft {
            method: self.method(request, response)?,
            status: response.status,
            extent: extent(request, response)?,
            authorized: request.headers.contains_key(AUTHORIZATION),
            request: &request.headers,
            headers: response.headers.clone(),
            request_time,
            response_time,
        })
    }

    /// §3: the method is understood. POST only with explicit freshness and a Content-Location that is its own target
    /// (RFC 9110 §9.3.3).
    fn method(&self, request: &request::Parts, response: &response::Parts) -> Result<Method, WhyNot> {
        if request.method == Method::GET || request.method == Method::HEAD {
            return Ok(request.method.clone());
        }
        let explicit = || {
            let (control, targeted) = targeted::governing(self.choices(), &response.headers);
            control.max_age().is_some()
                || (self.is_shared() && control.s_maxage().is_some())
                || (!targeted && response.headers.contains_key(EXPIRES))
        };
        let own = || invalidation::names_itself(request, &response.headers, &CONTENT_LOCATION);
        if request.method == Method::POST && response.status.is_success() && explicit() && own() {
            // What it holds is what a GET would have brought; so it is validated and refreshed by one.
            return Ok(Method::GET);
        }
        Err(WhyNot::Method)
    }

    /// What is to be known of a response, new, freshened or combined; and everything of §3 but the request's own
    /// wishes.
    pub(crate) fn describe(&self, draft: Draft<'_>) -> (Meta, Result<(), WhyNot>) {
        let choices = self.choices();
        let Draft { method, status, extent, authorized, request, mut headers, request_time, response_time } = draft;
        let (control, targeted) = targeted::governing(choices, &headers);
        let shareable = allows_sharing(&control);
        let allowed = may(choices, &control, targeted, status, &headers, authorized && !shareable);
        let vary = Vary::of(&headers, request, choices.max_vary_fields);
        let (vary, selectable) = match vary {
            Ok(vary) => (vary, Ok(())),
            Err(Unselectable::Star) => (Vary::default(), Err(WhyNot::VaryStar)),
            Err(Unselectable::TooMany) => (Vary::default(), Err(WhyNot::VaryTooWide)),
            Err(Unselectable::Malformed) => (Vary::default(), Err(WhyNot::VaryMalformed)),
        };

        let date = valid_date(&headers, &DATE);
        let dated = date.is_some();
        let initial_age = age::initial_age(&headers, date.unwrap_or(response_time), request_time, response_time);
        let date = match date {
            Some(date) => date,
            // RFC 9110 §6.6.1: a recipient with a clock adds the Date that is missing.
            None => {
                put(&mut headers, DATE, date_value(response_time));
                response_time
            }
        };
        let last_modified = valid_date(&headers, &LAST_MODIFIED);
        let (lifetime, origin) = lifetime(choices, &control, targeted, status, &headers, date, last_modified);
        let forbids_stale = stale::is_forbidden(choices, &control);
        let silent = stale::is_silent(choices, &control, origin);
        let windows = stale::windows(choices, &control, forbids_stale, silent);
        strip(&mut headers, &control, choices.shared);
        let etag = single(&headers, &ETAG).and_then(EntityTag::parse);
        if last_modified.is_none() {
            headers.remove(LAST_MODIFIED);
        }
        // A qualified no-cache may have named the validator itself.
        let last_modified = last_modified.filter(|_| headers.contains_key(LAST_MODIFIED));
        let useful = etag.is_some()
            || last_modified.is_some()
            || (!control.no_cache.is_whole() && lifetime.saturating_add(windows.widest()) > initial_age);
        let useful = if useful { Ok(()) } else { Err(WhyNot::Useless) };
        let groups = groups::groups(&headers).into();
        // Each answer is a copy with `Age` and `Cache-Status`: with room in the index no copy rebuilds it. A map that is as
        // full as can be goes without.
        drop(headers.try_reserve(2));
        let meta = Meta(Arc::new(Stored {
            method,
            status,
            headers,
            request_time,
            response_time,
            vary,
            control,
            date,
            dated,
            initial_age,
            lifetime,
            origin,
            forbids_stale,
            silent,
            swr: windows.swr,
            sie: windows.sie,
            apart: windows.apart,
            authorized,
            shareable,
            etag,
            last_modified,
            extent,
            groups,
        }));
        (meta, allowed.and(selectable).and(useful))
    }
}

/// What is about to be remembered.
pub(crate) struct Draft<'a> {
    pub(crate) method: Method,
    pub(crate) status: StatusCode,
    pub(crate) extent: Extent,
    pub(crate) authorized: bool,
    pub(crate) request: &'a HeaderMap,
    pub(crate) headers: HeaderMap,
    pub(crate) request_time: SystemTime,
    pub(crate) response_time: SystemTime,
}

fn may(
    choices: &Choices,
    control: &ResponseControl,
    targeted: bool,
    status: StatusCode,
    headers: &HeaderMap,
    unshareable: bool,
) -> Result<(), WhyNot> {
    // §3: the status is final; and answers to a request's own conditions say nothing of the resource.
    let conditional = [StatusCode::NOT_MODIFIED, StatusCode::PRECONDITION_FAILED, StatusCode::RANGE_NOT_SATISFIABLE];
    if status.is_informational() || conditional.contains(&status) {
        return Err(WhyNot::Status);
    }
    let understood = choices.understood.contains(&status);
    // §5.2.2.3: must-understand asks for an understood status, and then puts no-store out of force.
    if control.must_understand && !understood {
        return Err(WhyNot::MustUnderstand);
    }
    if control.no_store && !control.must_understand {
        return Err(WhyNot::NoStore);
    }
    // §3: 206 only where partial responses are understood; §3.3 is.
    if choices.shared && control.private.is_whole() {
        return Err(WhyNot::Private);
    }
    if choices.shared && unshareable {
        return Err(WhyNot::Authorization);
    }
    // §7.3: a cookie is no bar to what the origin says is for all; where it says nothing, §4.2.2 obliges nobody to guess,
    // and a guess would give one client's session to all.
    let guessed_cookie = choices.shared && headers.contains_key(SET_COOKIE);
    // §3, last: at least one of public, private (unshared), Expires, max-age, s-maxage (shared), a cacheable status.
    let allowed = control.public
        || (!choices.shared && control.private != Default::default())
        || (!targeted && headers.contains_key(EXPIRES))
        || control.max_age().is_some()
        || (choices.shared && control.s_maxage().is_some())
        || (is_heuristic_status(status) && !guessed_cookie);
    if allowed { Ok(()) } else { Err(WhyNot::NotAllowed) }
}

/// Whether a response says itself, in a shared cache, that others may have it: by a lifetime, or `public`.
pub(crate) fn is_for_all(choices: &Choices, headers: &HeaderMap) -> bool {
    let (control, targeted) = targeted::governing(choices, headers);
    control.public
        || control.max_age().is_some()
        || control.s_maxage().is_some()
        || (!targeted && headers.contains_key(EXPIRES))
}

/// §3.5: what lets a shared cache reuse a response to an authorized request.
fn allows_sharing(control: &ResponseControl) -> bool {
    control.must_revalidate || control.public || control.s_maxage().is_some()
}

/// Fields of one connection, not of the response (§3.1; RFC 9110 §7.6.1, §11.7).
pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
    [CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE].contains(name)
        || ["keep-alive", "proxy-connection", "proxy-authentication-info"].contains(&name.as_str())
}

/// §3.1: what is not stored of the fields.
fn strip(headers: &mut HeaderMap, control: &ResponseControl, shared: bool) {
    let named: Vec<HeaderName> =
        list(headers.get_all(CONNECTION).iter()).filter_map(|name| HeaderName::from_bytes(name).ok()).collect();
    for name in named {
        // What is meant for every recipient is never the connection's, whatever a sender says (RFC 9110 §7.6.1).
        if may_be_left_out(&name) {
            headers.remove(name);
        }
    }
    let gone: Vec<HeaderName> = headers.keys().filter(|name| is_hop_by_hop(name)).cloned().collect();
    gone.into_iter().for_each(|name| drop(headers.remove(name)));
    // §5.2.2.4: fields that a qualified no-cache names are not served without asking; they are not kept at all.
    control.no_cache.fields().iter().for_each(|name| drop(headers.remove(name)));
    // §5.2.2.7: fields that a qualified private names are not for a shared cache.
    if shared {
        control.private.fields().iter().for_each(|name| drop(headers.remove(name)));
    }
    // §5.1: Age is made anew for each response that is served; §4.2.3 has already counted it.
    headers.remove(AGE);
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    lines.next().filter(|_| lines.next().is_none())
}

pub(crate) fn date_value(time: SystemTime) -> HeaderValue {
    // `httpdate` panics outside the years 1970 to 9999.
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    let text = httpdate::fmt_http_date(time.clamp(SystemTime::UNIX_EPOCH, last));
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}

fn extent(request: &request::Parts, response: &response::Parts) -> Result<Extent, WhyNot> {
    if response.status == StatusCode::NO_CONTENT {
        // RFC 9110 §8.6: it has no content and must not tell a length; one that does is not short of so much.
        return Ok(Extent::Complete(None));
    }
    if response.status != StatusCode::PARTIAL_CONTENT {
        return Ok(Extent::Complete(content_length(&response.headers)));
    }
    // §3.3: only a single part that was asked for by bytes can be placed.
    if request.method != Method::GET || !request.headers.contains_key(RANGE) {
        return Err(WhyNot::Part);
    }
    let (range, complete) = range::content_range(&response.headers).ok_or(WhyNot::Part)?;
    Ok(Extent::Partial { range, complete })
}

/// RFC 9110 §8.6: digits, or the same digits repeated as a list; anything else tells nothing.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    let mut lengths = list(headers.get_all(CONTENT_LENGTH).iter()).map(range::digits);
    let first = lengths.next()??;
    lengths.all(|other| other == Some(first)).then_some(first)
}
