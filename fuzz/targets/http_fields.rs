//! Bytes as the value of a field that the rules of HTTP caching read; the first byte says of which, or of all.
#![no_main]

use everfresh_http::rfc9111::{EntityTag, RequestControl, ResponseControl, Rules, groups, parse_date};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};

const READ: [&str; 19] = [
    "cache-control",
    "pragma",
    "vary",
    "age",
    "date",
    "expires",
    "last-modified",
    "etag",
    "connection",
    "content-length",
    "content-range",
    "cdn-cache-control",
    "cache-groups",
    "cache-group-invalidation",
    "location",
    "content-location",
    "if-none-match",
    "if-modified-since",
    "range",
];

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let [which, data @ ..] = data else { return };
    // Two lines of the same field, so that joining them is tried too.
    let lines: Vec<_> =
        data.splitn(2, |&byte| byte == b'\n').filter_map(|it| HeaderValue::from_bytes(it).ok()).collect();
    lines.iter().for_each(|line| drop((parse_date(line), EntityTag::parse(line))));
    let one = READ.get(usize::from(*which)..=usize::from(*which));
    let mut headers = HeaderMap::new();
    for name in one.unwrap_or(&READ) {
        for line in &lines {
            headers.append(HeaderName::from_static(name), line.clone());
        }
    }
    drop((RequestControl::parse(&headers), ResponseControl::parse(&headers), groups(&headers)));
    exchange(headers);
});

/// The fields on both sides of one exchange, through every rule.
fn exchange(headers: HeaderMap) {
    use everfresh_http::rfc9111::{conditional, evaluate, invalidated_by, invalidated_groups, refreshing, validated};
    let (mut request, ()) = Request::get("https://example.com/a/b?q").body(()).expect("a request").into_parts();
    let (mut response, ()) = Response::new(()).into_parts();
    request.headers = headers.clone();
    response.headers = headers;
    let now = std::time::SystemTime::UNIX_EPOCH;
    for rules in [Rules::shared(), Rules::private()] {
        let _ = rules.bypass(&request);
        let mut plain = response.clone();
        plain.headers.append("cache-control", HeaderValue::from_static("max-age=60"));
        plain.headers.append("etag", HeaderValue::from_static("\"a\""));
        for response in [&response, &plain] {
            let Ok(meta) = rules.may_store(&request, response, now, now) else { continue };
            let _ = (rules.reuse(&request, &meta, now), evaluate(&request, &meta, Some(10)), meta.servable_until());
            let _ = (conditional(&request, &[&meta]), refreshing(&meta), validated(&[&meta], response));
            let _ = rules.freshen(&meta, &request, response, now, now);
        }
    }
    request.method = Method::PUT;
    drop((invalidated_by(&request, &response), invalidated_groups(&request, &response)));
}
