//! Whole exchanges made of fields that a fuzzer chooses: nothing served is past every lifetime, window and wish.
#![no_main]

use std::time::{Duration, SystemTime};

use everfresh_http::rfc9111::{RequestControl, Reuse, Rules, Served, evaluate};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};

/// `name: value` lines; those that are no fields are left out.
fn fields(text: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in text.split(|&byte| byte == b'\n').take(64) {
        let Some(at) = line.iter().position(|&byte| byte == b':') else { continue };
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&line[..at]), HeaderValue::from_bytes(&line[at + 1..])) {
            headers.append(name, value);
        }
    }
    headers
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let [status, later, rest @ ..] = data else { return };
    let mut parts = rest.split(|&byte| byte == 0);
    let mut next = || fields(parts.next().unwrap_or_default());
    let (mut first, ()) = Request::get("https://example.com/a").body(()).expect("a request").into_parts();
    let (mut response, ()) = Response::new(()).into_parts();
    let mut second = first.clone();
    (first.headers, response.headers, second.headers) = (next(), next(), next());
    response.status = StatusCode::from_u16(100 + u16::from(*status) * 2).expect("a status");
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    let now = start + Duration::from_secs(u64::from(*later));
    for rules in [Rules::shared(), Rules::private()] {
        let Ok(meta) = rules.may_store(&first, &response, start, start) else { continue };
        let control = meta.control();
        let asked = RequestControl::parse(&second.headers);
        match rules.reuse(&second, &meta, now) {
            Reuse::Fresh { .. } => {
                assert!(meta.is_fresh(now) && !control.no_cache() && !asked.no_cache);
                assert!(!(rules.is_shared() && control.is_private()));
            }
            Reuse::Stale { .. } => {
                assert!(!control.no_cache() && !control.must_revalidate() && !asked.no_cache);
                assert!(!(rules.is_shared() && (control.proxy_revalidate() || control.s_maxage().is_some())));
                assert!(!meta.stale_while_revalidate().is_zero() || asked.max_stale.is_some());
            }
            _ => {}
        }
        match evaluate(&second, &meta, Some(10)) {
            Served::Partial { body, .. } => assert!(body.start < body.end),
            Served::Multipart(message) => assert!(message.parts.len() > 1),
            _ => {}
        }
    }
});
