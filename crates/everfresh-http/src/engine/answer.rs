//! What the cache tells of an answer, and what a refresh is asked.

use std::fmt;
use std::time::Duration;

use everfresh::RefreshStatus;
use http::{HeaderMap, Method, StatusCode, Uri};

use crate::rfc9111::{Bypass, Failure, Forwarded, Meta, WhyNot, WhyRevalidate};

/// What became of one request; every request has exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// Served from the store, fresh.
    Hit,
    /// Served from the store at once although stale (RFC 5861 §3, RFC 9111 §5.2.1.2).
    Stale,
    /// The origin said that the stored response still holds (RFC 9111 §4.3.3).
    Revalidated,
    /// The origin was asked whether the stored response still holds, and sent another (RFC 9111 §4.3.3).
    Replaced,
    /// Nothing stored could be used; fetched, and being stored.
    Miss,
    /// Served from a fetch that somebody else had begun.
    Coalesced,
    /// The origin failed or was too slow, and a stored response stood in (RFC 5861 §4).
    Fallback,
    /// Fetched, and not stored.
    Uncacheable(Uncacheable),
    /// The cache had no part in it.
    Bypass(Bypass),
}

impl Outcome {
    /// The name in lower case, as metrics and logs use it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
            Self::Replaced => "replaced",
            Self::Miss => "miss",
            Self::Coalesced => "coalesced",
            Self::Fallback => "fallback",
            Self::Uncacheable(_) => "uncacheable",
            Self::Bypass(_) => "bypass",
        }
    }

    /// All names, in the order of [`HttpStats::outcomes`](super::HttpStats::outcomes).
    pub const NAMES: [&'static str; 9] =
        ["hit", "stale", "revalidated", "replaced", "miss", "coalesced", "fallback", "uncacheable", "bypass"];

    pub(crate) fn index(self) -> usize {
        match self {
            Self::Hit => 0,
            Self::Stale => 1,
            Self::Revalidated => 2,
            Self::Replaced => 3,
            Self::Miss => 4,
            Self::Coalesced => 5,
            Self::Fallback => 6,
            Self::Uncacheable(_) => 7,
            Self::Bypass(_) => 8,
        }
    }
}

/// Why a response that was fetched is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Uncacheable {
    /// The rules forbid it.
    Rule(WhyNot),
    /// Its body is larger than `max_body`.
    TooLarge,
    /// The origin failed (5xx, but 501): what is stored is kept, and those who waited for the same have the same answer.
    OriginFailed(StatusCode),
    /// A 304 without anything stored that it could be about; the client's own condition was sent on.
    NotModified,
    /// It is another URL's: the client below the cache followed a redirect.
    Redirected,
    /// The client wants only what is stored, and nothing stored answers it (RFC 9111 §5.2.1.7): 504.
    OnlyIfCached,
}

impl fmt::Display for Uncacheable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(why) => why.fmt(out),
            Self::TooLarge => out.write_str("the body is larger than max_body"),
            Self::OriginFailed(status) => write!(out, "the origin answered {}", status.as_u16()),
            Self::NotModified => out.write_str("a 304 to the client's own condition"),
            Self::Redirected => out.write_str("it came by a redirect, from another URL"),
            Self::OnlyIfCached => out.write_str("only-if-cached, and nothing stored answers it (RFC 9111 §5.2.1.7)"),
        }
    }
}

/// Why an answer was what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// Why the origin had to be asked.
    Forwarded(Forwarded),
    /// Why what is stored had to be validated.
    Revalidate(WhyRevalidate),
    /// How the origin failed.
    Failed(Failure),
    /// The origin took longer than `soft_timeout`.
    Slow,
}

impl fmt::Display for Why {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forwarded(why) => out.write_str(why.as_str()),
            Self::Revalidate(why) => why.fmt(out),
            Self::Failed(Failure::Unreachable) => out.write_str("the origin could not be reached"),
            Self::Failed(Failure::Status(status)) => write!(out, "the origin answered {}", status.as_u16()),
            Self::Slow => out.write_str("the origin took longer than soft_timeout"),
        }
    }
}

/// What the cache did for a response; put into its extensions.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CacheAnswer {
    /// What became of the request.
    pub outcome: Outcome,
    /// How old the response is (RFC 9111 §4.2.3); `None` for one that the cache knows nothing of.
    pub age: Option<Duration>,
    /// Why, where the outcome does not say it.
    pub why: Option<Why>,
    /// What became of the refresh that a stale response wants. [`AlreadyRunning`](RefreshStatus::AlreadyRunning) is told
    /// also within [`min_refresh_interval`](crate::HttpCacheBuilder::min_refresh_interval) of the last one, and
    /// [`BackingOff`](RefreshStatus::BackingOff) also while one runs whose forerunner failed.
    pub refresh: Option<RefreshStatus>,
}

/// What is to become of a refresh that a stale answer wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefreshAction {
    /// The cache does it, in the background.
    #[default]
    Refresh,
    /// Nobody does it now; asked again after `min_refresh_interval`.
    Skip,
    /// Somebody else does it, by a request with `Cache-Control: no-cache` through the cache, or by
    /// [`HttpCache::revalidate`](super::HttpCache::revalidate); asked again after `refresh_timeout` if nothing came.
    Handled,
}

/// A stale answer that wants a refresh, as `on_stale` is told of it.
#[derive(Debug)]
#[non_exhaustive]
pub struct StaleContext<'a> {
    /// The key under which it is stored.
    pub key: &'a str,
    /// The method of the request that was answered.
    pub method: &'a Method,
    /// The target of the request that was answered.
    pub uri: &'a Uri,
    /// The fields of the request that was answered; they may hold credentials.
    pub headers: &'a HeaderMap,
    /// What was served.
    pub stored: &'a Meta,
    /// Its age when it was served.
    pub age: Duration,
    /// For how long it had been stale then.
    pub stale_for: Duration,
    /// How much was left of the window then.
    pub remaining: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_is_counted_under_its_name() {
        let all = [
            Outcome::Hit,
            Outcome::Stale,
            Outcome::Revalidated,
            Outcome::Replaced,
            Outcome::Miss,
            Outcome::Coalesced,
            Outcome::Fallback,
            Outcome::Uncacheable(Uncacheable::TooLarge),
            Outcome::Bypass(Bypass::Method),
        ];
        assert_eq!(all.map(|outcome| Outcome::NAMES[outcome.index()]), all.map(Outcome::name));
        assert_eq!(all.map(Outcome::name), Outcome::NAMES);
    }
}
