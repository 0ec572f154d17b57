//! Parts of a representation, and how they become whole (RFC 9111 §3.3, §3.4).

use std::ops::Range;

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderValue, IF_RANGE, RANGE};
use http::{Method, StatusCode, request};

use super::fields::{add, put, replace, without_content_digests};
use super::meta::{Extent, Meta};
use super::rules::Rules;
use super::storing::Draft;
use super::validation::strip_conditions;

/// The fields of a request for what is missing of a stored part, where it can be completed (RFC 9111 §3.4).
///
/// Asks for the bytes behind it, or before it if it is the end, and with `If-Range`: should the representation have
/// changed, the whole of the new one comes; if there is no more than is stored, 416: then ask for the whole. `None` if
/// nothing is missing, it lacks a strong validator, is missing bytes
/// on both sides, or the request asks for ranges itself.
pub fn completion(request: &request::Parts, meta: &Meta) -> Option<HeaderMap> {
    let Extent::Partial { range, complete } = meta.extent() else { return None };
    if request.method != Method::GET || request.headers.contains_key(RANGE) {
        return None;
    }
    let tag = meta.etag().filter(|tag| !tag.is_weak())?;
    let missing = match (*range.start(), *range.end(), *complete) {
        // All of it is there: behind its end there is nothing to ask for.
        (0, last, Some(complete)) if last.checked_add(1) == Some(complete) => return None,
        (0, last, _) => format!("bytes={}-", last.checked_add(1)?),
        (first, last, Some(complete)) if last.checked_add(1) == Some(complete) => format!("bytes=0-{}", first - 1),
        _ => return None,
    };
    let mut headers = request.headers.clone();
    strip_conditions(&mut headers);
    put(&mut headers, RANGE, HeaderValue::try_from(missing).ok()?);
    put(&mut headers, IF_RANGE, tag.value().clone());
    Some(headers)
}

/// Where the bytes of a combined body come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// The part that was stored before.
    Stored,
    /// The part that came now.
    New,
}

/// Two parts made one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Combined {
    /// What to store: a 200 if nothing is missing any more, else a longer 206.
    pub meta: Meta,
    /// Its body: these ranges of the two bodies, one after the other.
    pub pieces: Vec<(Source, Range<u64>)>,
}

/// Joins a stored part and one that came now, if both are of the same representation and touch (RFC 9111 §3.4).
///
/// `new` is what [`Rules::may_store`] made of the 206. Both need the same strong entity tag; the fields of the new one
/// prevail. `None` if they cannot be joined: the new one then stands for itself.
pub fn combine(rules: &Rules, stored: &Meta, new: &Meta) -> Option<Combined> {
    let (Extent::Partial { range: old, complete: told }, Extent::Partial { range: came, complete }) =
        (stored.extent(), new.extent())
    else {
        return None;
    };
    // §3.4: only with the same strong validator.
    if !stored.etag()?.strongly_equals(new.etag()?) || !stored.vary().is_same(new.vary()) {
        return None;
    }
    if complete.is_some() && told.is_some() && complete != told {
        return None;
    }
    let complete = complete.or(*told);
    let length = |range: &std::ops::RangeInclusive<u64>| range.end() - range.start() + 1;
    // Bytes that both have are taken from the new one.
    let pieces = if old.start() <= came.start() && *came.start() <= old.end().saturating_add(1) {
        let mut pieces = vec![(Source::Stored, 0..came.start() - old.start()), (Source::New, 0..length(came))];
        if old.end() > came.end() {
            pieces.push((Source::Stored, came.end() - old.start() + 1..length(old)));
        }
        pieces
    } else if came.start() < old.start() && *old.start() <= came.end().saturating_add(1) {
        let mut pieces = vec![(Source::New, 0..length(came))];
        if old.end() > came.end() {
            pieces.push((Source::Stored, came.end() + 1 - old.start()..length(old)));
        }
        pieces
    } else {
        return None;
    };
    let pieces: Vec<_> = pieces.into_iter().filter(|(_, range)| !range.is_empty()).collect();
    let (first, last) = (*old.start().min(came.start()), *old.end().max(came.end()));

    let mut headers = stored.headers().clone();
    for name in new.headers().keys() {
        replace(&mut headers, name, new.headers());
    }
    if pieces.iter().any(|(source, _)| *source == Source::Stored) {
        without_content_digests(&mut headers);
    }
    let whole = first == 0 && last.checked_add(1) == complete;
    put(&mut headers, CONTENT_LENGTH, HeaderValue::from(last - first + 1));
    let (status, extent) = if whole {
        headers.remove(CONTENT_RANGE);
        (StatusCode::OK, Extent::Complete(complete))
    } else {
        let told = complete.map_or_else(|| "*".to_owned(), |length| length.to_string());
        put(&mut headers, CONTENT_RANGE, HeaderValue::try_from(format!("bytes {first}-{last}/{told}")).ok()?);
        (StatusCode::PARTIAL_CONTENT, Extent::Partial { range: first..=last, complete })
    };
    let mut asked = HeaderMap::new();
    new.vary().fields().for_each(|(name, value)| add(&mut asked, name, value));
    let draft = Draft {
        method: new.method().clone(),
        status,
        extent,
        authorized: stored.is_authorized() || new.is_authorized(),
        request: &asked,
        headers,
        request_time: new.request_time(),
        response_time: new.response_time(),
    };
    let (meta, verdict) = rules.describe(draft);
    verdict.ok()?;
    // The new part's Age was counted when it was stored and is gone from its fields.
    let meta = meta.at_least_as_old_as(new);
    Some(Combined { meta, pieces })
}
