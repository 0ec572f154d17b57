//! What a 304 or a HEAD changes in stored responses (RFC 9111 §3.2, §4.3.4, §4.3.5).

use std::collections::HashSet;
use std::time::SystemTime;

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, HeaderMap, HeaderName,
    HeaderValue, LAST_MODIFIED, SET_COOKIE,
};
use http::{Method, StatusCode, request, response};

use super::control::{RequestControl, may_be_left_out};
use super::fields::{EntityTag, add, is_content_digest, list, parse_date, replace};
use super::meta::{Extent, Meta};
use super::rules::Rules;
use super::storing::{Draft, WhyNot, content_length, is_for_all, is_hop_by_hop};

/// A stored response after its update.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Freshened {
    /// What to serve now.
    pub meta: Meta,
    /// Whether it may be kept; if not, the stored response is to be dropped after this answer.
    pub keep: Result<(), WhyNot>,
}

/// What a HEAD response means for a stored GET response.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum HeadUpdate {
    /// It says nothing of the stored response.
    Nothing,
    /// The stored response is still the current one; keep this in its place and answer with its fields (RFC 9111
    /// §4.3.5).
    Updated(Freshened),
    /// The representation has changed: the stored response is to count as stale (RFC 9111 §4.3.5).
    Changed,
}

/// Which of the stored responses a 304 says are still good; their places in the sequence (RFC 9111 §4.3.4).
///
/// `stored` are those whose validators were sent by [`conditional`](super::conditional): the one that the request selects,
/// and of the others none but those with a strong tag and without a coding; the rest may share a weak tag or a date with
/// it, and be another language or an empty HEAD. With a strong validator all that have the same one; with a weak one, or
/// where none has the strong one, the latest that has it as a weak one; without any, or where one tag alone was asked
/// about, the only one there is. None of them: the 304 cannot be used, fetch unconditionally.
pub fn validated(stored: &[&Meta], not_modified: &response::Parts) -> Vec<usize> {
    validated_as(stored, not_modified, |_| true)
}

/// As [`validated`], for a request with these fields: weak tags and dates, which several variants may share, speak only of
/// what it selects (RFC 9111 §4.3.4: of those that could have been chosen for it).
pub(crate) fn validated_for(asked: &HeaderMap, stored: &[&Meta], not_modified: &response::Parts) -> Vec<usize> {
    validated_as(stored, not_modified, |meta| meta.matches(asked))
}

fn validated_as(stored: &[&Meta], not_modified: &response::Parts, selects: impl Fn(&Meta) -> bool) -> Vec<usize> {
    let headers = &not_modified.headers;
    let latest = |matches: &dyn Fn(&Meta) -> bool| {
        let matching = stored.iter().enumerate().filter(|(_, meta)| matches(meta) && selects(meta));
        matching.max_by_key(|(_, meta)| (meta.date(), meta.response_time())).map(|(at, _)| at).into_iter().collect()
    };
    // A 304 to a question that named one tag and nothing else can only answer that tag, even if it carries another:
    // servers that compress behind their validators do. Had a date been asked too, it might answer the date alone, and
    // §4.3.4 holds to the letter.
    if let [only] = stored
        && only.etag().is_some()
        && only.last_modified().is_none()
    {
        return vec![0];
    }
    // What is no tag says nothing; it was not asked about either.
    if let Some(tag) = headers.get(ETAG).and_then(EntityTag::parse) {
        let equal = |(_, meta): &(usize, &&Meta)| meta.etag().is_some_and(|own| own.strongly_equals(&tag));
        let strong: Vec<usize> = stored.iter().enumerate().filter(equal).map(|(at, _)| at).collect();
        if strong.iter().any(|&at| selects(stored[at])) {
            return strong;
        }
        // Servers that compress send a weak tag, compare weakly (RFC 9110 §13.1.2) and then name the strong one that they made
        // it from. Of what the request selects it says that the tag we named holds, and not that another coding does.
        let mut all: Vec<usize> = latest(&|meta| meta.etag().is_some_and(|own| own.weakly_equals(&tag)));
        all.extend(strong);
        return all;
    }
    if let Some(value) = headers.get(LAST_MODIFIED) {
        let Some(date) = parse_date(value) else { return Vec::new() };
        return latest(&|meta| meta.last_modified() == Some(date));
    }
    // §4.3.4, last: no validator in the 304. Where one stored response was asked about, no other can be meant, also if
    // it has a validator: a 304 to If-Modified-Since need not repeat Last-Modified (RFC 9110 §15.4.5).
    if stored.len() == 1 { vec![0] } else { Vec::new() }
}

impl Rules {
    /// The stored response as a 304 updates it (RFC 9111 §3.2, §4.3.4).
    ///
    /// `request` is the request that was sent to validate it. Fields of the 304 replace stored ones, but for those that
    /// describe the stored body; age, lifetime, windows and `Vary` are worked out anew. [`validated`] says which stored
    /// responses a 304 is about.
    pub fn freshen(
        &self,
        meta: &Meta,
        request: &request::Parts,
        not_modified: &response::Parts,
        request_time: SystemTime,
        response_time: SystemTime,
    ) -> Freshened {
        let headers = self.merged(meta, &not_modified.headers);
        self.updated(meta, request, headers, request_time, response_time)
    }

    /// As [`freshen`](Self::freshen), as what answers requests like this one: the origin has named a variant that was
    /// stored for others (RFC 9111 §4.1).
    pub(crate) fn freshen_for(
        &self,
        meta: &Meta,
        request: &request::Parts,
        not_modified: &response::Parts,
        request_time: SystemTime,
        response_time: SystemTime,
    ) -> Freshened {
        let headers = self.merged(meta, &not_modified.headers);
        self.updated_as(meta, request, &request.headers, headers, (request_time, response_time))
    }

    /// What a response says to the one who asked and to nobody after him: the fields that `no-cache="…"` or, in a shared cache,
    /// `private="…"` names (RFC 9111 §5.2.2.4, §5.2.2.7), and a cookie that is [one client's](Self::sets_own_cookie).
    pub(crate) fn said_to_one(&self, meta: &Meta, came: &response::Parts) -> HeaderMap {
        let control = meta.control();
        let private = if self.is_shared() { control.private.fields() } else { &[] };
        let mut said = HeaderMap::new();
        for name in control.no_cache.fields().iter().chain(private).filter(|name| !is_hop_by_hop(name)) {
            replace(&mut said, name, &came.headers);
        }
        if self.sets_own_cookie(meta, &came.headers) {
            replace(&mut said, &SET_COOKIE, &came.headers);
        }
        said
    }

    /// Whether an update sets a cookie where none is stored, and does not say itself that others may have it (RFC 9111 §7.3):
    /// the lifetime of what is stored was told of an answer without a cookie, if it was told by the origin at all.
    fn sets_own_cookie(&self, meta: &Meta, came: &HeaderMap) -> bool {
        self.is_shared()
            && came.contains_key(SET_COOKIE)
            && !meta.headers().contains_key(SET_COOKIE)
            && !is_for_all(self.choices(), came)
    }

    /// §3.2: each field of the new response replaces the stored ones of its name, but for those it must not change.
    fn merged(&self, meta: &Meta, new: &HeaderMap) -> HeaderMap {
        let mut headers = meta.headers().clone();
        let connection: HashSet<HeaderName> =
            list(new.get_all(CONNECTION).iter()).filter_map(|name| HeaderName::from_bytes(name).ok()).collect();
        let own_cookie = self.sets_own_cookie(meta, new);
        // RFC 9110 §6.6.1: without a Date of its own, the new response is dated when it came, not when the stored one was.
        headers.remove(DATE);
        for name in new.keys() {
            let own = is_hop_by_hop(name) || (connection.contains(name) && may_be_left_out(name));
            // The 304 may know the stored tag as a weak one; the stored bytes keep the tag they came with.
            let tagged = *name == ETAG && meta.etag().is_some();
            if own || tagged || describes_body(name) || (own_cookie && *name == SET_COOKIE) {
                continue;
            }
            replace(&mut headers, name, new);
        }
        headers
    }

    /// What a HEAD response means for a stored GET response that the same request selects (RFC 9111 §4.3.5).
    ///
    /// Only an answer of 200 tells: with the same validators it updates, with others or another length it says that the
    /// stored response is out of date. Without any validator it says nothing more: that nothing differs of nothing proves no
    /// body, which would else be kept fresh for ever by whoever asks with HEAD.
    pub fn update_from_head(
        &self,
        meta: &Meta,
        request: &request::Parts,
        response: &response::Parts,
        request_time: SystemTime,
        response_time: SystemTime,
    ) -> HeadUpdate {
        let fits = request.method == Method::HEAD && meta.method() != Method::HEAD && meta.matches(&request.headers);
        if !fits || response.status != StatusCode::OK || meta.status() != StatusCode::OK {
            return HeadUpdate::Nothing;
        }
        let same = |name: &HeaderName, equal: fn(&HeaderValue, &HeaderValue) -> bool| {
            match (response.headers.get(name), meta.headers().get(name)) {
                (Some(new), Some(old)) => equal(new, old),
                // §4.3.5 speaks of fields that the HEAD response has.
                (None, _) => true,
                (Some(_), None) => false,
            }
        };
        let length = match (content_length(&response.headers), meta.extent()) {
            (Some(new), Extent::Complete(Some(old))) => new == *old,
            (Some(new), Extent::Partial { complete: Some(old), .. }) => new == *old,
            _ => true,
        };
        if !same(&ETAG, |new, old| new == old) || !same(&LAST_MODIFIED, |new, old| new == old) || !length {
            return HeadUpdate::Changed;
        }
        if ![ETAG, LAST_MODIFIED].iter().any(|name| response.headers.contains_key(name)) {
            return HeadUpdate::Nothing;
        }
        let headers = self.merged(meta, &response.headers);
        HeadUpdate::Updated(self.updated(meta, request, headers, request_time, response_time))
    }

    fn updated(
        &self,
        meta: &Meta,
        request: &request::Parts,
        headers: HeaderMap,
        request_time: SystemTime,
        response_time: SystemTime,
    ) -> Freshened {
        let asked = nominated(meta, &request.headers);
        self.updated_as(meta, request, &asked, headers, (request_time, response_time))
    }

    /// `asked` are the fields that select it from now on.
    fn updated_as(
        &self,
        meta: &Meta,
        request: &request::Parts,
        asked: &HeaderMap,
        headers: HeaderMap,
        (request_time, response_time): (SystemTime, SystemTime),
    ) -> Freshened {
        let old = &*meta.0;
        let draft = Draft {
            method: old.method.clone(),
            status: old.status,
            extent: old.extent.clone(),
            authorized: old.authorized || request.headers.contains_key(AUTHORIZATION),
            request: asked,
            headers,
            request_time,
            response_time,
        };
        let forbidden = RequestControl::parse(&request.headers).no_store.then_some(WhyNot::RequestNoStore);
        let (meta, verdict) = self.describe(draft);
        // What may not be kept answers this request once more, validated as it is, and is gone.
        Freshened { meta, keep: verdict.and(forbidden.map_or(Ok(()), Err)) }
    }
}

/// The request's fields, with those that selected the stored response as they were then: another spelling of the same
/// variant must not move it, and a variant that the origin chose for this request stays what it was stored for.
pub(crate) fn nominated(meta: &Meta, request: &HeaderMap) -> HeaderMap {
    let mut headers = request.clone();
    meta.vary().names().for_each(|name| drop(headers.remove(name)));
    meta.vary().fields().for_each(|(name, value)| add(&mut headers, name, value));
    headers
}

/// §3.2: Content-Length must not be updated; Content-Encoding, Content-Range and digests belong to the bytes as stored.
fn describes_body(name: &HeaderName) -> bool {
    [CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_RANGE].contains(name) || *name == "digest" || is_content_digest(name)
}
