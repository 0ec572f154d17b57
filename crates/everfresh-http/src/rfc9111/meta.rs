//! What is remembered of a stored response: everything parsed once, when it is stored.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::ETAG;
use http::{HeaderMap, Method, StatusCode};

use super::age;
use super::control::ResponseControl;
use super::fields::{EntityTag, detach};
use super::freshness::Origin;
use super::vary::Vary;

/// A stored response without its body (RFC 9111 §2); cheap to clone.
///
/// Made by [`Rules::may_store`](super::Rules::may_store), remade by [`Rules::freshen`](super::Rules::freshen) and the
/// like. All that later decisions need is parsed once here, so that a hit parses nothing but the request.
#[derive(Clone, Debug)]
pub struct Meta(pub(crate) Arc<Stored>);

#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) method: Method,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) request_time: SystemTime,
    pub(crate) response_time: SystemTime,
    pub(crate) vary: Vary,
    pub(crate) control: ResponseControl,
    pub(crate) date: SystemTime,
    pub(crate) dated: bool,
    pub(crate) initial_age: Duration,
    pub(crate) lifetime: Duration,
    pub(crate) origin: Origin,
    pub(crate) forbids_stale: bool,
    /// Nobody has said that it may be given to others than the one who asked.
    pub(crate) silent: bool,
    pub(crate) swr: Duration,
    pub(crate) sie: Duration,
    /// How long it may stand in while the origin cannot be reached.
    pub(crate) apart: Duration,
    pub(crate) authorized: bool,
    pub(crate) shareable: bool,
    pub(crate) etag: Option<EntityTag>,
    pub(crate) last_modified: Option<SystemTime>,
    pub(crate) extent: Extent,
    pub(crate) groups: Arc<[Box<str>]>,
}

/// How much of the representation is stored (RFC 9111 §3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Extent {
    /// All of it; its length once it is known.
    Complete(Option<u64>),
    /// One range of it, from a 206.
    Partial {
        /// First and last byte position.
        range: RangeInclusive<u64>,
        /// The length of the whole representation, if the origin told it.
        complete: Option<u64>,
    },
}

impl Meta {
    /// GET or HEAD: the method whose responses it stands for, and by which it is validated.
    ///
    /// A response to POST that is stored (RFC 9110 §9.3.3) stands for one to GET.
    pub fn method(&self) -> &Method {
        &self.0.method
    }

    /// The status to serve it with.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The fields to serve it with, but for `Age` and `Cache-Status`.
    ///
    /// Without the fields of the connection, without those that `no-cache="…"` or (in a shared cache) `private="…"`
    /// name, and always with a `Date` (RFC 9111 §3.1, RFC 9110 §6.6.1).
    pub fn headers(&self) -> &HeaderMap {
        &self.0.headers
    }

    /// When the request was sent.
    pub fn request_time(&self) -> SystemTime {
        self.0.request_time
    }

    /// When the response came.
    pub fn response_time(&self) -> SystemTime {
        self.0.response_time
    }

    /// The origin's `Date`, or when the response came if it had none.
    pub fn date(&self) -> SystemTime {
        self.0.date
    }

    /// How old it is now (RFC 9111 §4.2.3).
    ///
    /// A clock that was set back makes nothing younger than it was when it came.
    pub fn age(&self, now: SystemTime) -> Duration {
        age::current_age(self.0.initial_age, self.0.response_time, now)
    }

    /// How long it is fresh, counted from its origination (RFC 9111 §4.2.1).
    pub fn lifetime(&self) -> Duration {
        self.0.lifetime
    }

    /// With the greater of its own age and another's.
    pub(crate) fn at_least_as_old_as(mut self, other: &Self) -> Self {
        let age = self.0.initial_age.max(other.0.initial_age);
        if age > self.0.initial_age {
            Arc::make_mut(&mut self.0).initial_age = age;
        }
        self
    }

    /// With field values of its own: those of a client are views into its read buffer, which would live as long as they.
    pub(crate) fn detached(mut self) -> Self {
        let stored = Arc::make_mut(&mut self.0);
        stored.headers.values_mut().for_each(detach);
        stored.etag = stored.etag.as_ref().and_then(|_| EntityTag::parse(stored.headers.get(ETAG)?));
        self
    }

    /// What the lifetime was taken from (RFC 9111 §4.2.1).
    pub fn lifetime_origin(&self) -> Origin {
        self.0.origin
    }

    /// Whether its age is within its lifetime; says nothing of `no-cache` (RFC 9111 §4.2).
    pub fn is_fresh(&self, now: SystemTime) -> bool {
        self.age(now) < self.0.lifetime
    }

    /// Past this moment nothing ever serves it without asking the origin, nor as a fallback; it is then only worth its
    /// validator. `None` if it lies beyond what a clock can say.
    ///
    /// A client's own `max-stale` or `stale-if-error` may still allow it after that.
    pub fn servable_until(&self) -> Option<SystemTime> {
        let window = self.0.swr.max(self.0.sie).max(self.0.apart);
        let left = self.0.lifetime.saturating_add(window).saturating_sub(self.0.initial_age);
        self.0.response_time.checked_add(left)
    }

    /// The window of stale-while-revalidate that holds for it, defaults, caps and prohibitions applied; zero if none.
    pub fn stale_while_revalidate(&self) -> Duration {
        self.0.swr
    }

    /// The window of stale-if-error that holds for it, defaults, caps and prohibitions applied; zero if none.
    pub fn stale_if_error(&self) -> Duration {
        self.0.sie
    }

    /// The directives that hold for it, from a targeted field or `Cache-Control`.
    pub fn control(&self) -> &ResponseControl {
        &self.0.control
    }

    /// Its entity tag, if it has a valid one.
    pub fn etag(&self) -> Option<&EntityTag> {
        self.0.etag.as_ref()
    }

    /// Its `Last-Modified`, if it has a valid one.
    pub fn last_modified(&self) -> Option<SystemTime> {
        self.0.last_modified
    }

    /// Whether the origin can be asked if it still holds (RFC 9111 §4.3.1).
    pub fn has_validator(&self) -> bool {
        self.0.etag.is_some() || self.0.last_modified.is_some()
    }

    /// What of the request selected it (RFC 9111 §4.1).
    pub fn vary(&self) -> &Vary {
        &self.0.vary
    }

    /// Whether the request that fetched it carried `Authorization` (RFC 9111 §3.5).
    pub fn is_authorized(&self) -> bool {
        self.0.authorized
    }

    /// The cache groups it belongs to (RFC 9875 §2).
    pub fn groups(&self) -> &[Box<str>] {
        &self.0.groups
    }

    /// How much of the representation it is.
    pub fn extent(&self) -> &Extent {
        &self.0.extent
    }

    /// States how many bytes its body really has, now that all of it came.
    ///
    /// `None` if that contradicts its `Content-Length` or `Content-Range`: such a body is truncated or misframed and
    /// must not be kept as what it claims to be (RFC 9111 §3.3).
    pub fn with_body_length(&self, length: u64) -> Option<Self> {
        let mut stored = (*self.0).clone();
        match &self.0.extent {
            Extent::Complete(Some(claimed)) if *claimed != length && self.0.method != Method::HEAD => return None,
            Extent::Partial { range, .. } if (range.end() - range.start()).checked_add(1) != Some(length) => {
                return None;
            }
            Extent::Complete(_) => stored.extent = Extent::Complete(Some(length)),
            Extent::Partial { .. } => {}
        }
        Some(Self(Arc::new(stored)))
    }
}
