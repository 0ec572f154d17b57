//! 304, 206 and 416 answered from what is stored (RFC 9110 §13, §14; RFC 9111 §4.3.2).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, EXPIRES,
    HeaderMap, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use http::{Method, StatusCode, request, response};

use super::fields::{DateField, EntityTag, date_field, put, without_content_digests};
use super::meta::{Extent, Meta};
use super::range::{self, Ranges};
use super::reusing;

/// What a stored response becomes for a request (RFC 9110 §13.2.2).
///
/// The fields given are those to send, but for `Age` and `Cache-Status`; ranges are offsets into the stored body.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Served {
    /// All that is stored, with [`Meta::status`] and [`Meta::headers`].
    Full,
    /// 304 with these fields and no body (RFC 9110 §15.4.5).
    NotModified(HeaderMap),
    /// 206 with these fields and this range of the stored body (RFC 9110 §15.3.7.1).
    Partial {
        /// Where the bytes stand in the stored body.
        body: Range<u64>,
        /// The fields, `Content-Range` and `Content-Length` among them.
        headers: HeaderMap,
    },
    /// 206 of several parts (RFC 9110 §15.3.7.2).
    Multipart(Multipart),
    /// 416 with these fields and no body (RFC 9110 §15.5.17).
    RangeNotSatisfiable(HeaderMap),
    /// What is stored is a part, and not the one asked for; or its length is not known yet: ask the origin.
    NotHere,
}

/// A 206 of several parts: their heads and ranges in turn, then the closing line (RFC 9110 §14.6).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Multipart {
    /// The fields, `Content-Type: multipart/byteranges` and `Content-Length` among them.
    pub headers: HeaderMap,
    /// The parts, in the order to send.
    pub parts: Vec<Part>,
    /// What follows the last part.
    pub closing: String,
}

/// One part of a [`Multipart`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Part {
    /// The boundary and the part's own fields, to send before its bytes.
    pub head: String,
    /// Where its bytes stand in the stored body.
    pub body: Range<u64>,
}

/// What a stored response becomes for a request that [`Rules::reuse`](super::Rules::reuse) lets it answer: 304 where
/// the client has it already, 206 where it asks for ranges, else the whole (RFC 9110 §13.2.2, RFC 9111 §4.3.2).
///
/// `If-Match` and `If-Unmodified-Since` are not judged: RFC 9111 §4.3.2 leaves them to the origin, and
/// [`Rules::bypass`](super::Rules::bypass) sends them there; so there is no 412. `body_length` is the length of the
/// stored body, if it is known; without it, ranges of a whole response are ignored and the whole is served.
pub fn evaluate(request: &request::Parts, meta: &Meta, body_length: Option<u64>) -> Served {
    let asked = &request.headers;
    if reusing::is_plain(asked) && matches!(meta.extent(), Extent::Complete(_)) {
        return Served::Full;
    }
    let read = request.method == Method::GET || request.method == Method::HEAD;
    // RFC 9110 §13.2.1: preconditions count only where the answer without them would be 2xx.
    if read && meta.status().is_success() {
        if asked.contains_key(IF_NONE_MATCH) {
            // §13.1.2, §13.1.3: If-Modified-Since does not count beside If-None-Match.
            if EntityTag::is_listed_in(asked.get_all(IF_NONE_MATCH), meta.etag()) {
                return Served::NotModified(not_modified(meta));
            }
        } else if modified_since(asked, meta) == Some(false) {
            return Served::NotModified(not_modified(meta));
        }
    }
    let ranged = request.method == Method::GET && range::if_range_holds(asked, meta);
    let ranges = if ranged { range::parse(asked) } else { None };
    match (meta.extent(), ranges) {
        (Extent::Complete(_), Some(ranges)) if meta.status() == StatusCode::OK => match body_length {
            Some(length) => of_whole(meta, &ranges, length),
            None => Served::Full,
        },
        (Extent::Complete(_), _) => Served::Full,
        (Extent::Partial { range: part, complete }, Some(ranges)) => {
            let found = ranges.as_slice().iter().map(|asked| range::in_part(*asked, part, *complete));
            match found.collect::<Option<Vec<_>>>() {
                Some(mut found) => {
                    found.dedup();
                    // There is no whole to serve instead: what it makes of such a question is the origin's choice.
                    if overlap(&found) { Served::NotHere } else { parts(meta, found, *part.start(), *complete) }
                }
                None => Served::NotHere,
            }
        }
        (Extent::Partial { .. }, None) => Served::NotHere,
    }
}

/// The fields of a 304 in place of a response that is not stored, if the request says that its client has that already:
/// its conditions were not sent on (RFC 9110 §13.2.2).
pub(crate) fn known_already(request: &request::Parts, response: &response::Parts) -> Option<HeaderMap> {
    let (asked, headers) = (&request.headers, &response.headers);
    let read = request.method == Method::GET || request.method == Method::HEAD;
    if !read || !response.status.is_success() {
        return None;
    }
    let etag = headers.get(ETAG).and_then(EntityTag::parse);
    let known = if asked.contains_key(IF_NONE_MATCH) {
        EntityTag::is_listed_in(asked.get_all(IF_NONE_MATCH), etag.as_ref())
    } else {
        match (date_field(asked, &IF_MODIFIED_SINCE), date_field(headers, &LAST_MODIFIED)) {
            (DateField::Valid(since), DateField::Valid(modified)) => modified <= since,
            _ => false,
        }
    };
    known.then(|| without_content(headers.clone(), etag.is_some()))
}

/// Whether it was modified since the date that the request names; `None` if that cannot be told (RFC 9110 §13.1.3).
fn modified_since(asked: &HeaderMap, meta: &Meta) -> Option<bool> {
    let DateField::Valid(since) = date_field(asked, &IF_MODIFIED_SINCE) else { return None };
    // RFC 9111 §4.3.2: without Last-Modified its Date counts, or when it came.
    Some(meta.last_modified().unwrap_or(meta.date()) > since)
}

fn not_modified(meta: &Meta) -> HeaderMap {
    without_content(meta.headers().clone(), meta.etag().is_some())
}

/// RFC 9110 §15.4.5: what would guide the update of the client's own copy, and nothing of the body.
fn without_content(mut headers: HeaderMap, tagged: bool) -> HeaderMap {
    for name in [CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_RANGE, CONTENT_TYPE] {
        headers.remove(name);
    }
    without_content_digests(&mut headers);
    if tagged {
        // §15.4.5: other metadata only where there is no entity tag.
        headers.remove(LAST_MODIFIED);
    }
    headers
}

fn of_whole(meta: &Meta, ranges: &Ranges, length: u64) -> Served {
    let mut found: Vec<_> = ranges.as_slice().iter().filter_map(|asked| asked.within(length)).collect();
    if found.is_empty() {
        // RFC 9110 §14.4: an unsatisfied range tells the length.
        let mut headers = meta.headers().clone();
        for name in [CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, EXPIRES, ETAG, LAST_MODIFIED] {
            headers.remove(name);
        }
        headers.remove("cdn-cache-control");
        without_content_digests(&mut headers);
        // The lifetime of the whole is not that of this answer: a cache behind us must not keep it for the URI.
        put(&mut headers, CACHE_CONTROL, HeaderValue::from_static("no-store"));
        put(&mut headers, CONTENT_RANGE, text(format!("bytes */{length}")));
        put(&mut headers, CONTENT_LENGTH, HeaderValue::from(0));
        return Served::RangeNotSatisfiable(headers);
    }
    found.dedup();
    // The whole answers them as well.
    if overlap(&found) {
        return Served::Full;
    }
    parts(meta, found, 0, Some(length))
}

/// RFC 9110 §14.2, §17.15: overlapping ranges may be an attack.
fn overlap(found: &[RangeInclusive<u64>]) -> bool {
    let mut sorted: Vec<_> = found.iter().map(|range| (*range.start(), *range.end())).collect();
    sorted.sort_unstable();
    sorted.windows(2).any(|pair| pair[1].0 <= pair[0].1)
}

/// The 206 for these positions, of a stored body whose first byte stands at `offset` of the representation.
fn parts(meta: &Meta, found: Vec<RangeInclusive<u64>>, offset: u64, complete: Option<u64>) -> Served {
    let mut headers = meta.headers().clone();
    headers.remove(CONTENT_RANGE);
    if !is_all_that_is_stored(meta, &found, complete) {
        without_content_digests(&mut headers);
    }
    let place = |range: &RangeInclusive<u64>| {
        let complete = complete.map_or_else(|| "*".to_owned(), |length| length.to_string());
        format!("bytes {}-{}/{complete}", range.start(), range.end())
    };
    let body = |range: &RangeInclusive<u64>| range.start() - offset..range.end() - offset + 1;
    if let [range] = found.as_slice() {
        put(&mut headers, CONTENT_RANGE, text(place(range)));
        put(&mut headers, CONTENT_LENGTH, HeaderValue::from(range.end() - range.start() + 1));
        return Served::Partial { body: body(range), headers };
    }
    let boundary = boundary(meta, &found);
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok().map(str::to_owned));
    let heads = found.iter().enumerate().map(|(at, range)| {
        let first = if at == 0 { "" } else { "\r\n" };
        let kind = kind.as_deref().map_or_else(String::new, |kind| format!("Content-Type: {kind}\r\n"));
        let head = format!("{first}--{boundary}\r\n{kind}Content-Range: {}\r\n\r\n", place(range));
        Part { head, body: body(range) }
    });
    let parts: Vec<Part> = heads.collect();
    let closing = format!("\r\n--{boundary}--\r\n");
    let bytes = parts.iter().map(|part| part.head.len() as u64 + (part.body.end - part.body.start)).sum::<u64>();
    put(&mut headers, CONTENT_TYPE, text(format!("multipart/byteranges; boundary={boundary}")));
    put(&mut headers, CONTENT_LENGTH, HeaderValue::from(bytes + closing.len() as u64));
    Served::Multipart(Multipart { headers, parts, closing })
}

/// Whether these are the very bytes that came, in one range.
fn is_all_that_is_stored(meta: &Meta, found: &[RangeInclusive<u64>], complete: Option<u64>) -> bool {
    match (meta.extent(), found) {
        (Extent::Partial { range, .. }, [only]) => range == only,
        (Extent::Complete(_), [only]) => *only.start() == 0 && only.end().checked_add(1) == complete,
        _ => false,
    }
}

/// A boundary that does not depend on a random number: the same question gets the same answer.
fn boundary(meta: &Meta, found: &[RangeInclusive<u64>]) -> String {
    let mut hasher = DefaultHasher::new();
    meta.response_time().hash(&mut hasher);
    meta.etag().map(|tag| tag.value().as_bytes()).hash(&mut hasher);
    found.hash(&mut hasher);
    format!("everfresh-{:016x}", hasher.finish())
}

fn text(value: String) -> HeaderValue {
    HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static(""))
}

impl Meta {
    /// RFC 9110 §8.8.2.2: a date is a strong validator if it lies at least a second before the response's own.
    pub(crate) fn last_modified_is_strong(&self) -> bool {
        self.0.dated
            && self.last_modified().is_some_and(|modified| {
                self.date().duration_since(modified).is_ok_and(|apart| apart >= Duration::from_secs(1))
            })
    }
}
