//! Telling what the cache did (RFC 9211).

use std::fmt::{self, Write as _};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};

use super::reusing::{Reuse, Unusable, WhyRevalidate};

/// The field's name, `Cache-Status`.
const NAME: HeaderName = HeaderName::from_static("cache-status");

/// RFC 9651 §3.3.1: an Integer has at most 15 digits.
const MOST_INTEGER: i64 = 999_999_999_999_999;

/// Why a request was forwarded to the origin (RFC 9211 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Forwarded {
    /// The cache is set up not to handle it.
    Bypass,
    /// Its method is not answered from the cache.
    Method,
    /// Nothing is stored for its URI.
    UriMiss,
    /// Something is stored for its URI, but no variant that it selects.
    VaryMiss,
    /// Nothing that is stored fits; which kind of miss is not known.
    Miss,
    /// What is stored is fresh, but the client asked for more than that.
    Request,
    /// What is stored is stale.
    Stale,
    /// Only a part of what is asked for is stored.
    Partial,
}

impl Forwarded {
    /// The token of RFC 9211 §2.2.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Miss => "miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

impl Reuse {
    /// What `Cache-Status` calls it if the request is forwarded; `None` for what is served (RFC 9211 §2.2).
    pub fn forwarded(&self) -> Option<Forwarded> {
        match self {
            Self::Fresh { .. } | Self::Stale { .. } | Self::GatewayTimeout => None,
            Self::Revalidate { why, .. } => Some(match why {
                WhyRevalidate::Stale | WhyRevalidate::NoCache | WhyRevalidate::MustRevalidate => Forwarded::Stale,
                WhyRevalidate::RequestNoCache | WhyRevalidate::RequestMaxAge | WhyRevalidate::RequestMinFresh => {
                    Forwarded::Request
                }
            }),
            Self::Unusable(Unusable::Vary) => Some(Forwarded::VaryMiss),
            Self::Unusable(Unusable::Part) => Some(Forwarded::Partial),
            Self::Unusable(Unusable::Method | Unusable::Authorization) => Some(Forwarded::Miss),
        }
    }

    /// The `ttl` of `Cache-Status`: whole seconds that it stays fresh, negative for what is stale (RFC 9211 §2.4).
    pub fn ttl_seconds(&self) -> Option<i64> {
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        match self {
            Self::Fresh { ttl, .. } => Some(seconds(*ttl)),
            Self::Stale { stale_for, .. } => Some(-seconds(*stale_for)),
            Self::Revalidate { .. } | Self::Unusable(_) | Self::GatewayTimeout => None,
        }
    }
}

/// What one cache did for one request: a member of `Cache-Status` (RFC 9211 §2).
///
/// Made by [`CacheStatus::hit`] or [`CacheStatus::forwarded`], so that it is never both; parameters are added by the
/// methods.
#[derive(Clone, Debug)]
pub struct CacheStatus {
    cache: String,
    forwarded: Option<Forwarded>,
    answered: Option<StatusCode>,
    ttl: Option<i64>,
    stored: bool,
    collapsed: Option<bool>,
    key: Option<String>,
    detail: Option<String>,
}

impl CacheStatus {
    /// Answered from the store, stale ones included (RFC 9211 §2.1). `cache` names this cache.
    pub fn hit(cache: &str) -> Self {
        Self::new(cache, None)
    }

    /// Forwarded to the origin (RFC 9211 §2.2). `cache` names this cache.
    pub fn forwarded(cache: &str, why: Forwarded) -> Self {
        Self::new(cache, Some(why))
    }

    fn new(cache: &str, forwarded: Option<Forwarded>) -> Self {
        Self {
            cache: cache.to_owned(),
            forwarded,
            answered: None,
            ttl: None,
            stored: false,
            collapsed: None,
            key: None,
            detail: None,
        }
    }

    /// The status that the origin answered with, said where it was forwarded (RFC 9211 §2.3).
    pub fn fwd_status(mut self, status: StatusCode) -> Self {
        self.answered = Some(status);
        self
    }

    /// The seconds that it stays fresh; negative for what is stale (RFC 9211 §2.4).
    pub fn ttl(mut self, seconds: i64) -> Self {
        self.ttl = Some(seconds);
        self
    }

    /// That the answer was stored (RFC 9211 §2.5).
    pub fn stored(mut self) -> Self {
        self.stored = true;
        self
    }

    /// Whether the request joined another's forward request (RFC 9211 §2.6).
    pub fn collapsed(mut self, yes: bool) -> Self {
        self.collapsed = Some(yes);
        self
    }

    /// The key of the stored response (RFC 9211 §2.7).
    pub fn key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    /// A word of one's own (RFC 9211 §2.8).
    pub fn detail(mut self, detail: &str) -> Self {
        self.detail = Some(detail.to_owned());
        self
    }

    /// The value of the field, of this cache alone.
    pub fn value(&self) -> HeaderValue {
        HeaderValue::try_from(self.to_string()).unwrap_or(HeaderValue::from_static("unknown"))
    }

    /// Appends it to what caches nearer to the origin said (RFC 9211 §2: the last member is the nearest to the user).
    pub fn append_to(&self, headers: &mut HeaderMap) {
        drop(headers.try_append(NAME, self.value()));
    }
}

/// The members of one cache that say `hit`, but for their `ttl` written once.
#[derive(Debug)]
pub(crate) struct HitStatus(String);

impl HitStatus {
    pub(crate) fn new(cache: &str) -> Self {
        Self(format!("{}; ttl=", CacheStatus::hit(cache)))
    }

    /// As [`CacheStatus::hit`] with [`ttl`](CacheStatus::ttl), in one allocation.
    pub(crate) fn append_to(&self, headers: &mut HeaderMap, seconds: i64) {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(seconds.clamp(-MOST_INTEGER, MOST_INTEGER));
        let mut text = Vec::with_capacity(self.0.len() + digits.len());
        text.extend_from_slice(self.0.as_bytes());
        text.extend_from_slice(digits.as_bytes());
        let value = HeaderValue::from_maybe_shared(Bytes::from(text));
        drop(headers.try_append(NAME, value.unwrap_or(HeaderValue::from_static("unknown"))));
    }
}

impl fmt::Display for CacheStatus {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        token_or_string(out, &self.cache)?;
        match self.forwarded {
            None => out.write_str("; hit")?,
            Some(why) => write!(out, "; fwd={}", why.as_str())?,
        }
        // RFC 9211 §2.3, §2.5, §2.6 speak of forwarded requests only.
        if self.forwarded.is_some() {
            if let Some(status) = self.answered {
                write!(out, "; fwd-status={}", status.as_u16())?;
            }
            if self.stored {
                out.write_str("; stored")?;
            }
            match self.collapsed {
                Some(true) => out.write_str("; collapsed")?,
                Some(false) => out.write_str("; collapsed=?0")?,
                None => {}
            }
        }
        if let Some(seconds) = self.ttl {
            write!(out, "; ttl={}", seconds.clamp(-MOST_INTEGER, MOST_INTEGER))?;
        }
        if let Some(key) = &self.key {
            out.write_str("; key=")?;
            string(out, key)?;
        }
        if let Some(detail) = &self.detail {
            out.write_str("; detail=")?;
            token_or_string(out, detail)?;
        }
        Ok(())
    }
}

/// A Token where it can be one, else a String (RFC 9651 §3.3.3, §3.3.4).
fn token_or_string(out: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let follows = |it: char| it.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~:/".contains(it);
    if text.starts_with(|it: char| it.is_ascii_alphabetic() || it == '*') && text.chars().all(follows) {
        return out.write_str(text);
    }
    string(out, text)
}

/// What a String cannot hold becomes `?` (RFC 9651 §3.3.3: printable ASCII only).
fn string(out: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    out.write_char('"')?;
    for it in text.chars() {
        match it {
            '"' | '\\' => write!(out, "\\{it}")?,
            ' '..='~' => out.write_char(it)?,
            _ => out.write_char('?')?,
        }
    }
    out.write_char('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hit_is_told_in_the_same_words_whichever_way_it_is_written() {
        for cache in ["everfresh", "my cache", "quo\"te", "ümlaut"] {
            for ttl in [0, 1, -1, 59, 1 << 31, i64::MAX, i64::MIN] {
                let (mut short, mut long) = (HeaderMap::new(), HeaderMap::new());
                HitStatus::new(cache).append_to(&mut short, ttl);
                CacheStatus::hit(cache).ttl(ttl).append_to(&mut long);
                assert_eq!(short, long);
            }
        }
    }
}
