//! Short words for requests, responses and moments.

use std::time::{Duration, SystemTime};

use everfresh_http::rfc9111::{Meta, Rules, WhyNot};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, request, response};
use proptest::test_runner::Config;

pub(crate) type Fields<'a> = &'a [(&'a str, &'a str)];

/// The moment from which the tests count: Sun, 06 Nov 1994 08:49:37 GMT.
pub(crate) fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)
}

pub(crate) fn at(seconds: u64) -> SystemTime {
    start() + secs(seconds)
}

/// An HTTP date so many seconds from the start.
pub(crate) fn date(seconds: i64) -> String {
    let apart = secs(seconds.unsigned_abs());
    httpdate::fmt_http_date(if seconds < 0 { start() - apart } else { start() + apart })
}

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn fields(fields: Fields<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).expect("a name"),
            HeaderValue::from_bytes(value.as_bytes()).expect("a value"),
        );
    }
    headers
}

pub(crate) fn request(method: &str, uri: &str, with: Fields<'_>) -> request::Parts {
    let mut parts = Request::builder().method(method).uri(uri).body(()).expect("a request").into_parts().0;
    parts.headers = fields(with);
    parts
}

pub(crate) fn get(with: Fields<'_>) -> request::Parts {
    request("GET", "https://example.com/a/page?q=1", with)
}

pub(crate) fn response(status: u16, with: Fields<'_>) -> response::Parts {
    let mut parts = Response::new(()).into_parts().0;
    parts.status = StatusCode::from_u16(status).expect("a status");
    parts.headers = fields(with);
    parts
}

/// What is stored of a response that came at the start, as fast as light.
pub(crate) fn store(rules: &Rules, asked: &request::Parts, came: &response::Parts) -> Result<Meta, WhyNot> {
    rules.may_store(asked, came, start(), start())
}

/// A 200 to a plain GET.
pub(crate) fn stored(rules: &Rules, with: Fields<'_>) -> Meta {
    store(rules, &get(&[]), &response(200, with)).expect("stored")
}

pub(crate) fn why_not(rules: &Rules, asked: Fields<'_>, status: u16, with: Fields<'_>) -> Option<WhyNot> {
    store(rules, &get(asked), &response(status, with)).err()
}

/// How many random cases: `EVERFRESH_CASES`, else what a moment allows.
pub(crate) fn cases() -> Config {
    let cases = std::env::var("EVERFRESH_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2_000);
    Config { cases, failure_persistence: None, ..Config::default() }
}
