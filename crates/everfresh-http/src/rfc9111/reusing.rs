//! When a stored response answers a request (RFC 9111 §4, §4.2.4, §5.2.1).

use std::fmt;
use std::time::{Duration, SystemTime};

use http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, IF_MATCH, IF_UNMODIFIED_SINCE, TRANSFER_ENCODING, UPGRADE};
use http::{Method, StatusCode, request};

use super::control::RequestControl;
use super::meta::{Extent, Meta};
use super::range;
use super::rules::Rules;

/// Why a request goes past the cache; the response to it may still be stored ([`Rules::may_store`] decides).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Bypass {
    /// Only GET and HEAD are answered from a cache (RFC 9111 §4); unsafe methods also invalidate (§4.4).
    Method,
    /// The request says `no-store` (RFC 9111 §5.2.1.5).
    NoStore,
    /// The request has a body, which no stored response answers (RFC 9110 §9.3.1).
    Content,
    /// The request asks for another protocol (RFC 9110 §7.8).
    Upgrade,
    /// `If-Match` and `If-Unmodified-Since` are for the origin to judge (RFC 9111 §4.3.2).
    Precondition,
    /// A `Range` in units other than bytes, which only the origin knows (RFC 9110 §14.2).
    Range,
}

/// What is to be done with a stored response for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reuse {
    /// Serve it: it is fresh (RFC 9111 §4.2).
    Fresh {
        /// Its age, for `Age`.
        age: Duration,
        /// How long it stays fresh.
        ttl: Duration,
    },
    /// Serve it although it is stale (RFC 9111 §4.2.4).
    Stale {
        /// Its age, for `Age`.
        age: Duration,
        /// How long it has been stale.
        stale_for: Duration,
        /// Who allowed it.
        by: StaleBy,
        /// Whether it is to be refreshed in the background (RFC 5861 §3).
        refresh: bool,
        /// How much of the window is left.
        remaining: Duration,
    },
    /// Ask the origin first (RFC 9111 §4.3), with [`conditional`](super::conditional) fields.
    Revalidate {
        /// Its age.
        age: Duration,
        /// What asks for it.
        why: WhyRevalidate,
        /// Whether it may be served should the origin fail, as of now; see [`Rules::may_serve_on_error`].
        fallback: bool,
    },
    /// It cannot answer this request at all: fetch as if nothing were stored.
    Unusable(Unusable),
    /// The origin would have to be asked, and the client forbids it: answer 504 (RFC 9111 §5.2.1.7).
    GatewayTimeout,
}

/// Who allows a stale response to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StaleBy {
    /// stale-while-revalidate: the origin, or the operator's default (RFC 5861 §3).
    Window,
    /// The client's `max-stale` (RFC 9111 §5.2.1.2).
    MaxStale,
}

/// What asks for validation before a stored response is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WhyRevalidate {
    /// It is stale and past its window (RFC 9111 §4.2).
    Stale,
    /// The response says `no-cache` (RFC 9111 §5.2.2.4).
    NoCache,
    /// It is stale, and `must-revalidate`, `proxy-revalidate` or `s-maxage` forbids stale ones (RFC 9111 §4.2.4).
    MustRevalidate,
    /// The request says `no-cache` or `Pragma: no-cache` (RFC 9111 §5.2.1.4, §5.4).
    RequestNoCache,
    /// It is older than the request's `max-age`, or stale and no `max-stale` beside that allows it (RFC 9111 §5.2.1.1).
    RequestMaxAge,
    /// It does not stay fresh as long as the request's `min-fresh` asks (RFC 9111 §5.2.1.3).
    RequestMinFresh,
}

/// Why a stored response cannot answer a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unusable {
    /// Stored for a method that does not answer this one (RFC 9111 §4).
    Method,
    /// The request selects another variant (RFC 9111 §4.1).
    Vary,
    /// Fetched with credentials and not to be shared (RFC 9111 §3.5).
    Authorization,
    /// Only a part is stored, and not the one asked for (RFC 9111 §3.3).
    Part,
}

impl fmt::Display for Bypass {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Method => "only GET and HEAD are answered from the cache (RFC 9111 §4)",
            Self::NoStore => "the request says no-store (RFC 9111 §5.2.1.5)",
            Self::Content => "the request has a body (RFC 9110 §9.3.1)",
            Self::Upgrade => "the request asks for another protocol (RFC 9110 §7.8)",
            Self::Precondition => "the precondition is for the origin to judge (RFC 9111 §4.3.2)",
            Self::Range => "the range is not in bytes (RFC 9110 §14.2)",
        })
    }
}

impl fmt::Display for WhyRevalidate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Stale => "stale (RFC 9111 §4.2)",
            Self::NoCache => "the response says no-cache (RFC 9111 §5.2.2.4)",
            Self::MustRevalidate => "stale, and the response forbids stale ones (RFC 9111 §4.2.4)",
            Self::RequestNoCache => "the request says no-cache (RFC 9111 §5.2.1.4)",
            Self::RequestMaxAge => "older than the request's max-age, or stale (RFC 9111 §5.2.1.1)",
            Self::RequestMinFresh => "not as long fresh as the request's min-fresh (RFC 9111 §5.2.1.3)",
        })
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Method => "stored for another method (RFC 9111 §4)",
            Self::Vary => "another variant is selected (RFC 9111 §4.1)",
            Self::Authorization => "fetched with credentials and not to be shared (RFC 9111 §3.5)",
            Self::Part => "only another part is stored (RFC 9111 §3.3)",
        })
    }
}

/// How the origin failed (RFC 5861 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// It could not be reached, broke off, or took too long.
    Unreachable,
    /// It answered with this status.
    Status(StatusCode),
}

impl Failure {
    /// Whether it is an error in the sense of stale-if-error: 500, 502, 503, 504, or no answer (RFC 5861 §4).
    pub fn is_error(self) -> bool {
        match self {
            Self::Unreachable => true,
            Self::Status(status) => matches!(status.as_u16(), 500 | 502 | 503 | 504),
        }
    }

    /// Whether it says that a server is in trouble, and nothing of the resource: any 5xx, those of content networks (520 to
    /// 530) too, but 501, which is an answer to the method.
    pub(crate) fn is_trouble(self) -> bool {
        match self {
            Self::Unreachable => true,
            Self::Status(status) => status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED,
        }
    }

    /// Whether it speaks of the request, or of a server in trouble (RFC 9111 §4.3.3: any 5xx), and not of what is stored: a
    /// refresh that gets one has failed.
    pub(crate) fn is_refusal(self) -> bool {
        let of_the_request = |status: StatusCode| matches!(status.as_u16(), 400 | 401 | 403 | 407 | 408 | 421 | 429);
        self.is_trouble() || matches!(self, Self::Status(status) if of_the_request(status))
    }

    /// How long past its lifetime a stored response may stand in for an origin that failed like this, whoever asks.
    pub(crate) fn window(self, meta: &Meta) -> Duration {
        let apart = if self == Self::Unreachable { meta.0.apart } else { Duration::ZERO };
        meta.0.sie.max(apart)
    }
}

/// Whether no field of a request asks anything of a cache: no directive, condition, range, content or other protocol.
///
/// The rules about a request look at these fields alone, so one pass over the few fields that it has stands for a dozen
/// lookups.
pub(crate) fn is_plain(headers: &HeaderMap) -> bool {
    let heeded = |name: &HeaderName| {
        matches!(
            name.as_str(),
            "cache-control"
                | "pragma"
                | "range"
                | "if-range"
                | "if-none-match"
                | "if-modified-since"
                | "if-match"
                | "if-unmodified-since"
                | "content-length"
                | "transfer-encoding"
                | "upgrade"
        )
    };
    !headers.keys().any(heeded)
}

impl RequestControl {
    /// What in it asks for nothing stale, whoever else allows it (RFC 9111 §5.2.1.1, §5.2.1.3).
    pub(crate) fn wants_nothing_stale(&self) -> Option<WhyRevalidate> {
        if self.max_age.is_some() && self.max_stale.is_none() {
            return Some(WhyRevalidate::RequestMaxAge);
        }
        self.min_fresh.map(|_| WhyRevalidate::RequestMinFresh)
    }
}

impl Rules {
    /// Why this request is never answered from the cache, if so.
    ///
    /// Looks at the request alone; [`Rules::reuse`] then asks whether a stored response fits. A GET or HEAD that goes past
    /// although it says [`only_if_cached`](Rules::only_if_cached) is to be answered with 504.
    pub fn bypass(&self, request: &request::Parts) -> Option<Bypass> {
        if request.method != Method::GET && request.method != Method::HEAD {
            return Some(Bypass::Method);
        }
        let headers = &request.headers;
        if is_plain(headers) {
            return None;
        }
        let has = |name| headers.contains_key(name);
        if RequestControl::parse(headers).no_store {
            return Some(Bypass::NoStore);
        }
        if has(TRANSFER_ENCODING) || headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0") {
            return Some(Bypass::Content);
        }
        if has(UPGRADE) {
            return Some(Bypass::Upgrade);
        }
        if has(IF_MATCH) || has(IF_UNMODIFIED_SINCE) {
            return Some(Bypass::Precondition);
        }
        // RFC 9110 §14.2: Range counts for GET only.
        if request.method == Method::GET && range::is_foreign(headers) {
            return Some(Bypass::Range);
        }
        None
    }

    /// Whether the client wants nothing but what is stored: answer 504 where nothing is (RFC 9111 §5.2.1.7).
    pub fn only_if_cached(&self, request: &request::Parts) -> bool {
        RequestControl::parse(&request.headers).only_if_cached
    }

    /// What is to be done with a stored response for this request (RFC 9111 §4).
    ///
    /// For a request that [`Rules::bypass`] let through, and a stored response of the same URI. Where nothing stored is
    /// usable, [`Rules::only_if_cached`] says whether to fetch at all. Whether the answer is
    /// then the whole response, a part or a 304 says [`evaluate`](super::evaluate).
    pub fn reuse(&self, request: &request::Parts, meta: &Meta, now: SystemTime) -> Reuse {
        self.reuse_as(request, &self.asked(&request.headers), meta, now)
    }

    /// As [`reuse`](Self::reuse), with what the request asks read before: once for all variants.
    pub(crate) fn reuse_as(
        &self,
        request: &request::Parts,
        asked: &RequestControl,
        meta: &Meta,
        now: SystemTime,
    ) -> Reuse {
        if let Err(why) = self.usable(request, meta) {
            return Reuse::Unusable(why);
        }
        let stored = &*meta.0;
        let age = meta.age(now);
        let why = match self.unless_asked(asked, meta, age) {
            Ok(reuse) => return reuse,
            Err(why) => why,
        };
        if asked.only_if_cached {
            return Reuse::GatewayTimeout;
        }
        let stale_for = age.saturating_sub(stored.lifetime);
        Reuse::Revalidate { age, why, fallback: self.fallback(asked, meta, stale_for, Failure::Unreachable) }
    }

    fn unless_asked(&self, asked: &RequestControl, meta: &Meta, age: Duration) -> Result<Reuse, WhyRevalidate> {
        let stored = &*meta.0;
        // §5.2.2.4: no-cache is never served without asking.
        if stored.control.no_cache.is_whole() {
            return Err(WhyRevalidate::NoCache);
        }
        // §5.2.1.4
        if asked.no_cache {
            return Err(WhyRevalidate::RequestNoCache);
        }
        let fresh = age < stored.lifetime;
        // §5.2.1.1: not older than that. RFC 8246 §2: for a reload nobody asks about what never changes; no-cache, above,
        // insists.
        let settled = fresh && stored.control.immutable;
        if asked.max_age.is_some_and(|most| age > most) && !settled {
            return Err(WhyRevalidate::RequestMaxAge);
        }
        let ttl = stored.lifetime.saturating_sub(age);
        // §5.2.1.3
        if asked.min_fresh.is_some_and(|least| ttl < least) {
            return Err(WhyRevalidate::RequestMinFresh);
        }
        // §4.2: freshness_lifetime > current_age
        if fresh {
            return Ok(Reuse::Fresh { age, ttl });
        }
        // §4.2.4
        if stored.forbids_stale {
            return Err(WhyRevalidate::MustRevalidate);
        }
        if let Some(why) = asked.wants_nothing_stale() {
            return Err(why);
        }
        let stale_for = age.saturating_sub(stored.lifetime);
        // RFC 5861 §3
        if stale_for < stored.swr {
            let remaining = stored.swr.saturating_sub(stale_for);
            return Ok(Reuse::Stale { age, stale_for, by: StaleBy::Window, refresh: true, remaining });
        }
        // §5.2.1.2
        if let Some(most) = asked.max_stale.filter(|&most| !stored.silent && !most.is_zero() && stale_for <= most) {
            let remaining = most.saturating_sub(stale_for);
            return Ok(Reuse::Stale { age, stale_for, by: StaleBy::MaxStale, refresh: false, remaining });
        }
        Err(WhyRevalidate::Stale)
    }

    /// Whether a stored response may stand in after the origin failed (RFC 5861 §4, RFC 9111 §4.2.4).
    ///
    /// Never past `no-cache`, `must-revalidate`, `proxy-revalidate` or (but for
    /// [`Rules::stale_despite_s_maxage`]) `s-maxage`, nor for a request that says `no-cache`.
    pub fn may_serve_on_error(&self, request: &request::Parts, meta: &Meta, failure: Failure, now: SystemTime) -> bool {
        self.may_stand_in(request, meta, failure, meta.age(now).saturating_sub(meta.0.lifetime))
    }

    /// As [`may_serve_on_error`](Self::may_serve_on_error), for what has been stale for so long.
    pub(crate) fn may_stand_in(
        &self,
        request: &request::Parts,
        meta: &Meta,
        failure: Failure,
        stale_for: Duration,
    ) -> bool {
        self.usable(request, meta).is_ok() && self.fallback(&self.asked(&request.headers), meta, stale_for, failure)
    }

    pub(crate) fn fallback(&self, asked: &RequestControl, meta: &Meta, stale_for: Duration, failure: Failure) -> bool {
        let (choices, stored) = (self.choices(), &*meta.0);
        if stored.forbids_stale || asked.no_cache || !failure.is_error() {
            return false;
        }
        // What nobody has said may be kept is not the client's to ask for.
        let client = asked.stale_if_error.filter(|_| !stored.silent).unwrap_or_default().min(choices.max_sie);
        let max_stale = asked.max_stale.filter(|_| !stored.silent);
        stale_for < failure.window(meta).max(client) || max_stale.is_some_and(|most| stale_for < most)
    }

    /// What the request asks, as far as the operator lets it.
    pub(crate) fn asked(&self, headers: &HeaderMap) -> RequestControl {
        if is_plain(headers) {
            return RequestControl::default();
        }
        let mut asked = RequestControl::parse(headers);
        if self.choices().ignore_request_no_cache {
            asked.no_cache = false;
            asked.max_age = None;
            asked.min_fresh = None;
        }
        asked
    }

    fn usable(&self, request: &request::Parts, meta: &Meta) -> Result<(), Unusable> {
        let stored = &*meta.0;
        // §4: the method of the stored response allows it; a HEAD has no body to give, a GET answers a HEAD.
        let fits = match request.method {
            Method::GET => stored.method != Method::HEAD,
            Method::HEAD => true,
            _ => false,
        };
        if !fits {
            return Err(Unusable::Method);
        }
        if !meta.matches(&request.headers) {
            return Err(Unusable::Vary);
        }
        // §3.5, asked again on the way out: a private cache's store may have been handed to a shared one.
        if self.choices().shared && stored.authorized && !stored.shareable {
            return Err(Unusable::Authorization);
        }
        // §3.3: a part answers only requests that lie within it.
        if let Extent::Partial { range, complete } = &stored.extent
            && (request.method != Method::GET || !range::lies_within(request, meta, range, *complete))
        {
            return Err(Unusable::Part);
        }
        Ok(())
    }
}
