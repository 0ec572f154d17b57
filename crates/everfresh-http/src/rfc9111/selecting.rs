//! Which stored variant a request selects, and which takes another's place (RFC 9111 §4.1).

use std::time::SystemTime;

use http::Method;
use http::header::HeaderMap;

use super::meta::{Extent, Meta};

impl Meta {
    /// Whether a request with these fields selects this stored response (RFC 9111 §4.1).
    pub fn matches(&self, request: &HeaderMap) -> bool {
        self.0.vary.matches(request)
    }

    /// Which of several that match is selected: the greatest. The latest `Date` (RFC 9111 §4), but whatever has a `Vary` before
    /// what has none: servers leave it out of what they send to who asks for nothing in particular (§4.1).
    pub(crate) fn rank(&self) -> (bool, SystemTime, SystemTime) {
        (!self.0.vary.is_empty(), self.0.date, self.0.response_time)
    }

    /// Whether it takes another's place in the store: both answer the same requests, and nothing that the other could
    /// serve is lost (RFC 9111 §4, §3.3).
    ///
    /// A HEAD never takes the place of a GET, nor a part that of a whole; parts of one representation are to be joined
    /// by [`combine`](super::combine) first.
    pub fn replaces(&self, other: &Self) -> bool {
        let whole = |meta: &Self| matches!(meta.extent(), Extent::Complete(_));
        self.0.vary.is_same(&other.0.vary)
            && (self.method() == Method::GET || other.method() == Method::HEAD)
            && (whole(self) || !whole(other))
    }
}

/// The stored response that a request with these fields selects: of those that match, the one with the latest `Date`
/// (RFC 9111 §4), those with a `Vary` before those without (§4.1); its place in the sequence.
pub fn select<'a>(stored: impl IntoIterator<Item = &'a Meta>, request: &HeaderMap) -> Option<usize> {
    let matching = stored.into_iter().enumerate().filter(|(_, meta)| meta.matches(request));
    matching.max_by_key(|(_, meta)| meta.rank()).map(|(at, _)| at)
}
