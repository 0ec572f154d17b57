//! Hostile fields: never a panic, never more than linear work.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use everfresh_http::rfc9111::{
    RequestControl, Rules, Served, WhyNot, conditional, evaluate, groups, invalidated_by, invalidated_groups,
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

/// Every reading of a field that could be long, of a value made of so many pieces.
fn read_all(piece: &str, count: usize) {
    let line = HeaderValue::try_from(vec![piece; count].join(",")).expect("a value");
    let meta = crate::world::stored(&Rules::shared(), &[("etag", "\"a\""), ("cache-control", "max-age=60")]);
    let fields = [
        "age",
        "cache-control",
        "cache-group-invalidation",
        "cache-groups",
        "cdn-cache-control",
        "connection",
        "content-length",
        "content-range",
        "date",
        "etag",
        "expires",
        "last-modified",
        "location",
        "vary",
    ];
    for name in fields {
        let mut came = response(200, &[("etag", "\"a\"")]);
        came.headers.insert(name, line.clone());
        let _ = Rules::shared().may_store(&get(&[]), &came, start(), start());
        invalidated_by(&request("POST", "https://example.com/a", &[]), &came);
        invalidated_groups(&request("POST", "https://example.com/a", &[]), &came);
        validated(&[&meta], &came);
    }
    for name in ["accept", "cache-control", "if-modified-since", "if-none-match", "if-range", "pragma", "range"] {
        let mut asked = get(&[]);
        asked.headers.insert(name, line.clone());
        Rules::shared().reuse(&asked, &meta, start());
        evaluate(&asked, &meta, Some(10));
    }
    let mut asked = get(&[]);
    asked.headers.insert("accept", line);
    let varies = response(200, &[("cache-control", "max-age=60"), ("vary", "accept")]);
    let meta = Rules::shared().may_store(&asked, &varies, start(), start()).expect("stored");
    assert!(meta.matches(&asked.headers));
}

/// The time that this thread has worked, which a busy machine does not lengthen; where that is not told, the time.
fn worked() -> Duration {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = told.split(' ').next().and_then(|nanos| nanos.parse().ok()).map(Duration::from_nanos);
    nanos.unwrap_or_else(|| BEGAN.get_or_init(Instant::now).elapsed())
}

/// One field of sixteen times the length takes about as long as sixteen fields, where anything quadratic takes sixteen
/// times as long.
#[test]
fn the_time_for_hostile_fields_grows_with_their_length_and_not_with_its_square() {
    let best = |piece: &str, count: usize, times: usize| {
        let round = || {
            let began = worked();
            (0..times).for_each(|_| read_all(piece, count));
            worked().saturating_sub(began)
        };
        (0..3).map(|_| round()).min().expect("a round").max(Duration::from_millis(4))
    };
    for piece in
        ["max-age=60", "no-cache=\"x-a, x-b\"", "foo=\"bar, baz\"", "\"", ",", "=", "\"b\"", "0-1", "a;q=1", "../a"]
    {
        let (few, many) = (best(piece, 1_000, 16), best(piece, 16_000, 1));
        assert!(many < few * 6, "{piece}: {few:?} for sixteen, and {many:?} for one of their length");
    }
}

#[test]
fn a_value_of_a_mebibyte_and_ten_thousand_directives_are_read_to_their_end() {
    let noise = |count| vec!["foo=\"bar, baz\""; count].join(",");
    for count in [10_000, (1 << 20) / 15] {
        let line = format!("{}, max-age=60, no-store", noise(count));
        assert_eq!(
            crate::world::why_not(&Rules::shared(), &[], 200, &[("cache-control", &line)]),
            Some(WhyNot::NoStore)
        );
        let line = format!("{}, max-age=60", noise(count));
        assert_eq!(crate::world::stored(&Rules::shared(), &[("cache-control", &line)]).lifetime().as_secs(), 60);
        assert!(
            RequestControl::parse(&crate::world::fields(&[("cache-control", &format!("{line}, no-cache"))])).no_cache
        );
    }
    let meta = crate::world::stored(&Rules::shared(), &[("etag", "\"a\""), ("cache-control", "max-age=60")]);
    let tags = format!("{}, \"a\"", vec!["\"b\""; 10_000].join(","));
    assert!(matches!(evaluate(&get(&[("if-none-match", &tags)]), &meta, Some(10)), Served::NotModified(_)));
    // Too many ranges are no ranges, and too wide a Vary is not stored.
    let ranges = format!("bytes={}", vec!["0-1"; 10_000].join(","));
    assert_eq!(evaluate(&get(&[("range", &ranges)]), &meta, Some(10)), Served::Full);
    let wide = (0..10_000).map(|at| format!("x-{at}")).collect::<Vec<_>>().join(",");
    let why = crate::world::why_not(&Rules::shared(), &[], 200, &[("cache-control", "max-age=60"), ("vary", &wide)]);
    assert_eq!(why, Some(WhyNot::VaryTooWide));
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
