//! Requests that come back to the proxy that sent them: an origin's name leads here, perhaps by way of others.

use std::hash::{BuildHasher, RandomState};

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Who passed a request on (RFC 8586): nobody takes it out, as they may `Via`.
const PASSED_ON: HeaderName = HeaderName::from_static("cdn-loop");

/// As often may a request come by with targets that differ: one that passes through several servers behind the same proxy
/// does, and one in a circle that makes it longer each time, too.
const MOST: usize = 16;

/// What this proxy, since it was started, writes on what it asks an origin for.
#[derive(Debug, Default)]
pub(crate) struct Mark(RandomState);

impl Mark {
    /// Notes that this was asked for.
    pub(crate) fn put(&self, headers: &mut HeaderMap, asked: &str) {
        let mark = format!("{}; asked={:016x}", self.own(), self.0.hash_one(asked));
        if let Ok(mark) = HeaderValue::try_from(mark) {
            // A map of fields that is full goes without.
            let _ = headers.try_append(PASSED_ON, mark);
        }
    }

    /// Whether a request is one that this proxy itself made when it was asked for the same, or that goes round and round.
    ///
    /// Another target is none of it: a server may answer with what it asks this proxy for.
    pub(crate) fn was_here(&self, headers: &HeaderMap, asked: impl FnOnce() -> String) -> bool {
        if !headers.contains_key(PASSED_ON) {
            return false;
        }
        let (own, asked) = (self.own(), format!("asked={:016x}", self.0.hash_one(asked())));
        let lines = headers.get_all(PASSED_ON).iter().filter_map(|line| line.to_str().ok());
        let by_this = lines.flat_map(|line| line.split(',')).filter(|mark| mark.contains(&own));
        let (times, same) = by_this.fold((0, false), |(times, same), mark| (times + 1, same || mark.contains(&asked)));
        same || times >= MOST
    }

    fn own(&self) -> String {
        format!("everfresh; id={:016x}", self.0.hash_one("everfresh"))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::{MOST, Mark};

    #[test]
    fn a_mark_is_of_one_proxy_and_one_target() {
        let (one, other) = (Mark::default(), Mark::default());
        let mut headers = HeaderMap::new();
        assert!(!one.was_here(&headers, || "GET http://a/".into()));
        one.put(&mut headers, "GET http://a/");
        assert!(one.was_here(&headers, || "GET http://a/".into()));
        assert!(
            !one.was_here(&headers, || "HEAD http://a/".into()) && !one.was_here(&headers, || "GET http://b/".into())
        );
        assert!(!other.was_here(&headers, || "GET http://a/".into()));
        for time in 1..MOST {
            assert!(!one.was_here(&headers, || "GET http://b/".into()));
            one.put(&mut headers, &format!("GET http://a/{time}"));
        }
        assert!(
            one.was_here(&headers, || "GET http://b/".into()) && !other.was_here(&headers, || "GET http://b/".into())
        );
    }
}
