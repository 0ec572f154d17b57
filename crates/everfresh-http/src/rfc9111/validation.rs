//! The request that asks whether stored responses still hold (RFC 9111 §4.3.1).

use http::header::{
    CONTENT_ENCODING, HeaderMap, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
};
use http::{Method, request};

use super::fields::{add, put};
use super::meta::{Extent, Meta};

/// The most entity tags sent in one `If-None-Match`.
const MOST_TAGS: usize = 32;

/// The fields of the request that asks whether what is stored still holds; the client's own conditions and ranges are
/// replaced (RFC 9111 §4.3.1).
///
/// `stored` are the stored responses of the same URI, the one that the request selects first, if there is one: its
/// date is sent as `If-Modified-Since`. Strong entity tags of the others are sent too, so that the origin can say which of
/// them answers this request; those of partial responses are not, as a 304 could not be served from them, nor those of
/// a coding that the request does not select. `None` if nothing stored has a validator to ask by: fetch unconditionally.
pub fn conditional(request: &request::Parts, stored: &[&Meta]) -> Option<HeaderMap> {
    let mut headers = request.headers.clone();
    strip_conditions(&mut headers);
    let nameable = |meta: &Meta| may_be_named(meta, &request.headers, &request.method);
    add_conditions(&mut headers, &request.headers, nameable, stored).then_some(headers)
}

/// The fields of a request that refreshes a stored response on nobody's behalf: those that `Vary` nominated, as they
/// were, its validators (RFC 9111 §4.3.1), and of a part its range: the whole, which nobody asked for, may be far larger.
///
/// It carries no credentials unless `Vary` nominates them; method and URI are those it was stored for.
pub fn refreshing(meta: &Meta) -> HeaderMap {
    let mut nominated = HeaderMap::new();
    meta.vary().fields().for_each(|(name, value)| add(&mut nominated, name, value));
    renewing(&nominated, meta)
}

/// As [`refreshing`], with these fields beside.
pub(crate) fn renewing(asked: &HeaderMap, meta: &Meta) -> HeaderMap {
    let mut headers = asked.clone();
    strip_conditions(&mut headers);
    let part = match meta.extent() {
        Extent::Partial { range, .. } => HeaderValue::try_from(format!("bytes={}-{}", range.start(), range.end())).ok(),
        Extent::Complete(_) => None,
    };
    // RFC 9110 §13.2.2: If-None-Match is judged before Range, so a 304 says of the part, too, that it holds.
    let nameable = |own: &Meta| may_be_named(own, asked, own.method()) || (part.is_some() && own.matches(asked));
    add_conditions(&mut headers, asked, nameable, &[meta]);
    if let Some(part) = part {
        put(&mut headers, RANGE, part);
    }
    headers
}

/// Takes the client's conditions and ranges out, so that the whole response comes and can be stored (RFC 9110 §13.1,
/// §14.2).
pub fn strip_conditions(headers: &mut HeaderMap) {
    for name in [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE, IF_RANGE, RANGE] {
        headers.remove(name);
    }
}

/// Whether a 304 to a request with these fields may be answered from it, so that its validators are worth naming.
///
/// It must leave something to serve: a whole body, unless none is asked for. And it must say that this is what the
/// request selects: of another variant only a strong tag does (RFC 9110 §8.8.1). A weak one may be that of all codings
/// of a page, and in practice so may a strong one, where a server compresses behind its validators.
pub(crate) fn may_be_named(meta: &Meta, asked: &HeaderMap, method: &Method) -> bool {
    let whole =
        matches!(meta.extent(), Extent::Complete(_)) && (meta.method() != Method::HEAD || method == Method::HEAD);
    let says_which = || meta.etag().is_some_and(|tag| !tag.is_weak()) && !meta.headers().contains_key(CONTENT_ENCODING);
    whole && (meta.matches(asked) || says_which())
}

fn add_conditions(
    headers: &mut HeaderMap,
    asked: &HeaderMap,
    nameable: impl Fn(&Meta) -> bool,
    stored: &[&Meta],
) -> bool {
    let mut tags: Vec<&HeaderValue> = Vec::new();
    for meta in stored.iter().filter(|meta| nameable(meta)) {
        if let Some(tag) = meta.etag().map(|tag| tag.value()).filter(|tag| !tags.contains(tag)) {
            tags.push(tag);
        }
        if tags.len() == MOST_TAGS {
            break;
        }
    }
    let joined = tags.iter().map(|tag| tag.as_bytes()).collect::<Vec<_>>().join(&b", "[..]);
    if let Some(value) = HeaderValue::from_bytes(&joined).ok().filter(|_| !tags.is_empty()) {
        put(headers, IF_NONE_MATCH, value);
    }
    // §4.3.1: Last-Modified only of the one that the request selects; it says nothing of other variants.
    let selected = stored.first().filter(|meta| nameable(meta) && meta.matches(asked));
    let modified = selected.filter(|meta| meta.last_modified().is_some());
    if let Some(value) = modified.and_then(|meta| meta.headers().get(LAST_MODIFIED)) {
        put(headers, IF_MODIFIED_SINCE, value.clone());
    }
    headers.contains_key(IF_NONE_MATCH) || headers.contains_key(IF_MODIFIED_SINCE)
}
