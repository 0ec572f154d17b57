//! Hostile fields: never a panic, never more than linear work.

use std::time::SystemTime;

use everfresh_http::rfc9111::{
    RequestControl, ResponseControl, Rules, conditional, evaluate, groups, invalidated_by, invalidated_groups,
    refreshing, validated,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use proptest::prelude::*;

use crate::world::{at, cases, get, request, response, start};

const NAMES: &[&str] = &[
    "cache-control",
    "vary",
    "age",
    "date",
    "expires",
    "last-modified",
    "etag",
    "content-length",
    "content-range",
    "pragma",
    "connection",
    "cdn-cache-control",
    "cache-groups",
    "cache-group-invalidation",
    "location",
    "content-location",
    "if-none-match",
    "if-modified-since",
    "if-range",
    "range",
    "authorization",
    "accept-language",
    "host",
];

const PIECES: &[&str] = &[
    "max-age",
    "s-maxage",
    "=",
    "=",
    "\"",
    ",",
    ",",
    " ",
    "\t",
    "-",
    "0",
    "1",
    "99999999999999999999",
    "no-store",
    "no-cache",
    "private",
    "must-understand",
    "stale-while-revalidate",
    "*",
    "W/",
    "\"a\"",
    "bytes",
    "bytes=",
    "/",
    "..",
    "://",
    "http",
    "example.com",
    "#",
    "?",
    ";",
    "\\",
    "(",
    ")",
    "Sun, 06 Nov 1994 08:49:37 GMT",
    "\u{e9}",
    "foo",
    "only-if-cached",
    "[",
    "@",
    ":",
];

fn value() -> impl Strategy<Value = HeaderValue> {
    let pieces =
        prop::collection::vec(prop::sample::select(PIECES), 0..12).prop_map(|pieces| pieces.concat().into_bytes());
    prop_oneof![4 => pieces, 1 => prop::collection::vec(prop_oneof![0x20_u8..0x7f, 0x80_u8..=0xff, Just(b'\t')], 0..40)]
        .prop_filter_map("a value", |bytes| HeaderValue::from_bytes(&bytes).ok())
}

fn headers() -> impl Strategy<Value = HeaderMap> {
    prop::collection::vec((prop::sample::select(NAMES), value()), 0..12).prop_map(|all| {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(HeaderName::from_static(name), value);
        }
        headers
    })
}

fn moment() -> impl Strategy<Value = SystemTime> {
    prop_oneof![(0_u64..2000).prop_map(at), Just(SystemTime::UNIX_EPOCH), (0_u64..1 << 40).prop_map(at)]
}

proptest! {
    #![proptest_config(cases())]
    #[test]
    fn nothing_panics(
        asked in headers(),
        came in headers(),
        again in headers(),
        status in 100_u16..1000,
        method in prop::sample::select(&["GET", "HEAD", "POST", "DELETE"][..]),
        moments in (moment(), moment(), moment()),
        length in any::<Option<u64>>(),
    ) {
        let mut question = request(method, "https://example.com/a/b?q", &[]);
        question.headers = asked;
        let mut answer = response(200, &[]);
        answer.status = StatusCode::from_u16(status).expect("a status");
        answer.headers = came;
        let mut not_modified = response(304, &[]);
        not_modified.headers = again;
        for rules in [Rules::shared(), Rules::private()] {
            rules.bypass(&question);
            invalidated_by(&question, &answer);
            invalidated_groups(&question, &answer);
            groups(&answer.headers);
            let Ok(meta) = rules.may_store(&question, &answer, moments.0, moments.1) else { continue };
            let mut other = get(&[]);
            other.headers = not_modified.headers.clone();
            for asked in [&question, &other] {
                rules.reuse(asked, &meta, moments.2);
                evaluate(asked, &meta, length);
                conditional(asked, &[&meta]);
            }
            let _ = (refreshing(&meta), meta.servable_until(), validated(&[&meta], &not_modified));
            let fresh = rules.freshen(&meta, &question, &not_modified, moments.1, moments.2).meta;
            rules.reuse(&question, &fresh, moments.0);
            let mut head = question.clone();
            head.method = Method::HEAD;
            rules.update_from_head(&meta, &head, &answer, moments.0, moments.1);
        }
    }
}

#[test]
fn ten_thousand_directives_cost_ten_thousand_directives() {
    let directives =
        ["max-age=60", "no-cache=\"x-a, x-b\"", "foo=\"bar, baz\"", "private=\"x-c\"", "\"", ",", "=", "max-age="];
    for directive in directives {
        let line = vec![directive; 10_000].join(",");
        let mut came = response(200, &[("etag", "\"a\""), ("cache-control", &line)]);
        ResponseControl::parse(&came.headers);
        RequestControl::parse(&came.headers);
        let _ = Rules::shared().may_store(&get(&[]), &came, start(), start());
        came.headers.insert("vary", HeaderValue::try_from(vec!["foo"; 10_000].join(",")).expect("a value"));
        came.headers.insert("cdn-cache-control", HeaderValue::try_from(line).expect("a value"));
        let _ = Rules::shared().may_store(&get(&[]), &came, start(), start());
    }
    let tags = vec!["\"b\""; 10_000].join(",");
    let meta = crate::world::stored(&Rules::shared(), &[("etag", "\"a\""), ("cache-control", "max-age=60")]);
    evaluate(&get(&[("if-none-match", &tags)]), &meta, Some(10));
    evaluate(&get(&[("range", &format!("bytes={}", vec!["0-1"; 10_000].join(",")))]), &meta, Some(10));
}

#[test]
fn a_message_as_full_as_can_be_is_no_trouble() {
    let mut came = response(200, &[("etag", "\"a\""), ("cache-control", "max-age=60"), ("vary", "foo")]);
    let mut at = 0;
    while came
        .headers
        .try_append(HeaderName::try_from(format!("x-{at}")).expect("a name"), HeaderValue::from(1))
        .is_ok()
    {
        at += 1;
    }
    let rules = Rules::shared();
    let meta = rules.may_store(&get(&[]), &came, start(), start()).expect("stored");
    let mut again = response(304, &[("x-more", "1")]);
    again.headers.insert("x-still-more", HeaderValue::from(1));
    let fresh = rules.freshen(&meta, &get(&[("foo", "1")]), &again, start(), start()).meta;
    evaluate(&get(&[("range", "bytes=0-1,3-4")]), &fresh, Some(10));
    evaluate(&get(&[("range", "bytes=90-")]), &fresh, Some(10));
}
