//! What a rule of the operator's makes of a request's key, and of an answer that says nothing itself.

use std::time::Duration;

use http::Response;
use http::header::{CACHE_CONTROL, EXPIRES, HeaderMap, HeaderName, HeaderValue, SET_COOKIE, VARY};

use crate::config::{RuleSettings, Span};

/// Governs caches such as this one in place of `Cache-Control` (RFC 9213).
const CDN: HeaderName = HeaderName::from_static("cdn-cache-control");

/// Gives a response what the operator's rule says for those that say nothing themselves.
pub(crate) fn adopt<B>(rule: &RuleSettings, ttl: Option<Span>, answer: &mut Response<B>) {
    // An error without a lifetime of its own is not for the next reader, who may have asked for nothing wrong.
    let may_be_kept = [200, 203, 204, 206, 300, 301, 308].contains(&answer.status().as_u16());
    let headers = answer.headers_mut();
    if let Some(most) = rule.max_vary {
        let names = headers.get_all(VARY).iter().flat_map(|line| line.as_bytes().split(|&it| it == b','));
        if names.count() > most {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            headers.remove(CDN);
            return;
        }
    }
    let governed = headers.contains_key(CDN);
    let lives = |headers: &HeaderMap| headers.contains_key(CACHE_CONTROL) || headers.contains_key(EXPIRES);
    let silent = may_be_kept && !governed && !lives(headers);
    if let Some(ttl) = ttl.filter(|_| silent && !headers.contains_key(SET_COOKIE)) {
        add_directive(headers, CACHE_CONTROL, "max-age", ttl.get());
    }
    let fields = [lives(headers).then_some(CACHE_CONTROL), governed.then_some(CDN)];
    let windows = [("stale-while-revalidate", rule.stale_while_revalidate), ("stale-if-error", rule.stale_if_error)];
    for field in fields.into_iter().flatten() {
        for (directive, window) in windows {
            if let Some(window) = window.filter(|_| !has(headers, &field, directive)) {
                add_directive(headers, field.clone(), directive, window.get());
            }
        }
    }
}

fn has(headers: &HeaderMap, field: &HeaderName, directive: &str) -> bool {
    let mut lines = headers.get_all(field).iter().filter_map(|line| line.to_str().ok());
    lines.any(|line| line.to_ascii_lowercase().contains(directive))
}

fn add_directive(headers: &mut HeaderMap, field: HeaderName, directive: &str, time: Duration) {
    if let Ok(value) = HeaderValue::try_from(format!("{directive}={}", time.as_secs())) {
        headers.append(field, value);
    }
}

/// The values of the fields that the operator put into the key, each with its length, so that none runs into another.
pub(crate) fn key_parts(rule: &RuleSettings, headers: &HeaderMap) -> String {
    use std::fmt::Write as _;
    let mut key = String::new();
    for field in &rule.key_headers {
        let values: Vec<String> =
            headers.get_all(field.name()).iter().map(|value| value.as_bytes().escape_ascii().to_string()).collect();
        let joined = values.join(",");
        let _ = write!(key, " {}={}:{joined}", field.name(), joined.len());
    }
    key
}
