//! RFC 9111 §4 and §5.2.1: which stored response answers which request.

use everfresh_http::rfc9111::{Bypass, Reuse, Rules, StaleBy, Unusable, WhyRevalidate};

use crate::world::{Fields, at, get, request, response, secs, store, stored};

fn word(reuse: &Reuse) -> &'static str {
    match reuse {
        Reuse::Fresh { .. } => "fresh",
        Reuse::Stale { by: StaleBy::Window, refresh: true, .. } => "window",
        Reuse::Stale { by: StaleBy::MaxStale, refresh: false, .. } => "max-stale",
        Reuse::Revalidate { why, .. } => match why {
            WhyRevalidate::Stale => "stale",
            WhyRevalidate::NoCache => "no-cache",
            WhyRevalidate::MustRevalidate => "must",
            WhyRevalidate::RequestNoCache => "asked no-cache",
            WhyRevalidate::RequestMaxAge => "asked max-age",
            WhyRevalidate::RequestMinFresh => "asked min-fresh",
            _ => "?",
        },
        Reuse::Unusable(Unusable::Method) => "method",
        Reuse::Unusable(Unusable::Vary) => "vary",
        Reuse::Unusable(Unusable::Authorization) => "authorization",
        Reuse::Unusable(Unusable::Part) => "part",
        Reuse::GatewayTimeout => "504",
        _ => "?",
    }
}

#[test]
fn what_the_request_says_is_heeded() {
    let rules = Rules::shared();
    // stored Cache-Control, seconds later, request fields, what is done
    type Case<'a> = (&'a str, u64, Fields<'a>, &'a str);
    let cases: &[Case<'_>] = &[
        ("max-age=60", 0, &[], "fresh"),
        ("max-age=60", 59, &[], "fresh"),
        ("max-age=60", 60, &[], "stale"),
        ("max-age=60", 10, &[("cache-control", "no-cache")], "asked no-cache"),
        ("max-age=60", 10, &[("pragma", "no-cache")], "asked no-cache"),
        ("max-age=60", 10, &[("pragma", "foo, No-Cache")], "asked no-cache"),
        ("max-age=60", 10, &[("pragma", "foo")], "fresh"),
        ("max-age=60", 10, &[("pragma", "no-cache"), ("cache-control", "max-age=20")], "fresh"),
        ("max-age=60", 10, &[("cache-control", "max-age=0")], "asked max-age"),
        ("max-age=60", 10, &[("cache-control", "max-age=9")], "asked max-age"),
        ("max-age=60", 10, &[("cache-control", "max-age=10")], "fresh"),
        ("max-age=60", 10, &[("cache-control", "max-age=what")], "asked max-age"),
        ("max-age=60", 10, &[("cache-control", "max-age=90, max-age=5")], "asked max-age"),
        ("max-age=60", 10, &[("cache-control", "min-fresh=50")], "fresh"),
        ("max-age=60", 10, &[("cache-control", "min-fresh=51")], "asked min-fresh"),
        ("max-age=60", 10, &[("cache-control", "min-fresh=what")], "asked min-fresh"),
        ("max-age=60", 70, &[("cache-control", "max-stale")], "max-stale"),
        ("max-age=60", 70, &[("cache-control", "max-stale=10")], "max-stale"),
        ("max-age=60", 71, &[("cache-control", "max-stale=10")], "stale"),
        ("max-age=60", 60, &[("cache-control", "max-stale=0")], "stale"),
        ("max-age=60", 70, &[("cache-control", "max-stale=what")], "stale"),
        ("max-age=60", 70, &[("cache-control", "max-stale=900, max-stale=5")], "stale"),
        ("max-age=60", 10, &[("cache-control", "only-if-cached")], "fresh"),
        ("max-age=60", 70, &[("cache-control", "only-if-cached")], "504"),
        ("max-age=60", 70, &[("cache-control", "only-if-cached, max-stale=10")], "max-stale"),
        ("max-age=60", 10, &[("cache-control", "only-if-cached, no-cache")], "504"),
        ("max-age=60, no-cache", 10, &[], "no-cache"),
        ("max-age=60, no-cache", 10, &[("cache-control", "max-stale")], "no-cache"),
        ("max-age=60, must-revalidate", 59, &[], "fresh"),
        ("max-age=60, must-revalidate", 60, &[("cache-control", "max-stale")], "must"),
        ("max-age=60, proxy-revalidate", 60, &[("cache-control", "max-stale")], "must"),
        ("s-maxage=60", 60, &[("cache-control", "max-stale")], "must"),
        ("max-age=60, immutable", 59, &[], "fresh"),
        ("max-age=60, immutable", 60, &[], "stale"),
        ("max-age=60, immutable", 59, &[("cache-control", "max-age=0")], "fresh"),
        ("max-age=60, immutable", 60, &[("cache-control", "max-age=0")], "asked max-age"),
        ("max-age=60, immutable", 59, &[("cache-control", "max-age=0, no-cache")], "asked no-cache"),
        ("max-age=60, stale-while-revalidate=30", 60, &[], "window"),
        ("max-age=60, stale-while-revalidate=30", 89, &[], "window"),
        ("max-age=60, stale-while-revalidate=30", 90, &[], "stale"),
        ("max-age=60, stale-while-revalidate=30", 70, &[("cache-control", "max-age=5")], "asked max-age"),
        ("max-age=60, stale-while-revalidate=30", 70, &[("cache-control", "min-fresh=5")], "asked min-fresh"),
        // Who names an age wants nothing stale, unless max-stale says so.
        ("max-age=60, stale-while-revalidate=30", 70, &[("cache-control", "max-age=90")], "asked max-age"),
        ("max-age=60, stale-while-revalidate=30", 70, &[("cache-control", "min-fresh=0")], "asked min-fresh"),
        ("max-age=60, stale-while-revalidate=30", 70, &[("cache-control", "max-age=90, max-stale=20")], "window"),
        ("max-age=60", 70, &[("cache-control", "max-age=90, max-stale=20")], "max-stale"),
        ("max-age=60", 75, &[("cache-control", "max-age=70, max-stale=20")], "asked max-age"),
        ("max-age=60", 59, &[("cache-control", "max-age=59")], "fresh"),
        ("max-age=60, stale-while-revalidate=30", 95, &[("cache-control", "max-stale")], "max-stale"),
        ("max-age=60", 10, &[("cache-control", "nothing-to-see-here")], "fresh"),
    ];
    for (control, later, asked, done) in cases {
        let meta = stored(&rules, &[("etag", "\"a\""), ("cache-control", control)]);
        assert_eq!(word(&rules.reuse(&get(asked), &meta, at(*later))), *done, "{control} after {later}: {asked:?}");
    }
}

#[test]
fn a_private_cache_is_not_bound_by_what_is_said_to_shared_ones() {
    let rules = Rules::private();
    let asked = get(&[("cache-control", "max-stale")]);
    for control in ["max-age=60, proxy-revalidate", "max-age=60, s-maxage=1", "private, max-age=60"] {
        let meta = stored(&rules, &[("cache-control", control)]);
        assert_eq!(word(&rules.reuse(&get(&[]), &meta, at(59))), "fresh", "{control}");
        assert_eq!(word(&rules.reuse(&asked, &meta, at(60))), "max-stale", "{control}");
    }
}

#[test]
fn an_operator_may_spare_the_origin_the_clients_reloads() {
    let rules = Rules::shared().ignore_request_no_cache(true);
    let meta = stored(&rules, &[("cache-control", "max-age=60")]);
    for asked in ["no-cache", "max-age=0", "min-fresh=90"] {
        assert_eq!(word(&rules.reuse(&get(&[("cache-control", asked)]), &meta, at(9))), "fresh", "{asked}");
    }
    assert_eq!(word(&rules.reuse(&get(&[("cache-control", "only-if-cached")]), &meta, at(60))), "504");
}

#[test]
fn what_is_served_says_how_old_and_how_long() {
    let rules = Rules::shared();
    let meta = stored(&rules, &[("cache-control", "max-age=60, stale-while-revalidate=30"), ("age", "5")]);
    assert_eq!(rules.reuse(&get(&[]), &meta, at(10)), Reuse::Fresh { age: secs(15), ttl: secs(45) });
    let stale =
        Reuse::Stale { age: secs(70), stale_for: secs(10), by: StaleBy::Window, refresh: true, remaining: secs(20) };
    assert_eq!(rules.reuse(&get(&[]), &meta, at(65)), stale);
    assert_eq!(meta.servable_until(), Some(at(85)));
}

#[test]
fn the_method_must_fit() {
    let rules = Rules::shared();
    let came = response(200, &[("cache-control", "max-age=60")]);
    let uri = "https://example.com/a";
    let of = |method: &str| store(&rules, &request(method, uri, &[]), &came).expect("stored");
    for (asked, stored, done) in [
        ("GET", "GET", "fresh"),
        ("HEAD", "GET", "fresh"),
        ("HEAD", "HEAD", "fresh"),
        ("GET", "HEAD", "method"),
        ("POST", "GET", "method"),
    ] {
        assert_eq!(word(&rules.reuse(&request(asked, uri, &[]), &of(stored), at(1))), done, "{asked} of {stored}");
    }
}

#[test]
fn what_was_fetched_with_credentials_is_not_shared() {
    // Stored by a private cache, then asked of a shared one over the same store.
    let came = response(200, &[("cache-control", "max-age=60")]);
    let meta = store(&Rules::private(), &get(&[("authorization", "x")]), &came).expect("stored");
    assert!(meta.is_authorized());
    assert_eq!(word(&Rules::shared().reuse(&get(&[]), &meta, at(1))), "authorization");
    assert_eq!(word(&Rules::private().reuse(&get(&[]), &meta, at(1))), "fresh");
    // Without credentials it is anyone's, also of those who send some.
    let meta = stored(&Rules::shared(), &[("cache-control", "max-age=60")]);
    assert_eq!(word(&Rules::shared().reuse(&get(&[("authorization", "x")]), &meta, at(1))), "fresh");
}

#[test]
fn some_requests_are_not_for_a_cache() {
    let rules = Rules::shared();
    let uri = "https://example.com/a";
    type Case<'a> = (&'a str, Fields<'a>, Option<Bypass>);
    let cases: &[Case<'_>] = &[
        ("GET", &[], None),
        ("HEAD", &[], None),
        ("POST", &[], Some(Bypass::Method)),
        ("OPTIONS", &[], Some(Bypass::Method)),
        ("FOO", &[], Some(Bypass::Method)),
        ("GET", &[("cache-control", "no-store")], Some(Bypass::NoStore)),
        ("GET", &[("content-length", "0")], None),
        ("GET", &[("content-length", "1")], Some(Bypass::Content)),
        ("GET", &[("transfer-encoding", "chunked")], Some(Bypass::Content)),
        ("GET", &[("upgrade", "websocket")], Some(Bypass::Upgrade)),
        ("GET", &[("if-match", "\"a\"")], Some(Bypass::Precondition)),
        ("GET", &[("if-unmodified-since", "x")], Some(Bypass::Precondition)),
        ("GET", &[("if-none-match", "\"a\"")], None),
        ("GET", &[("range", "bytes=0-1")], None),
        ("GET", &[("range", "bytes=what")], None),
        ("GET", &[("range", "lines=0-1")], Some(Bypass::Range)),
        ("HEAD", &[("range", "lines=0-1")], None),
        ("GET", &[("authorization", "x"), ("cookie", "a=b")], None),
    ];
    for (method, with, why) in cases {
        assert_eq!(rules.bypass(&request(method, uri, with)), *why, "{method} {with:?}");
    }
    assert!(rules.only_if_cached(&get(&[("cache-control", "foo, only-if-cached")])));
    assert!(!rules.only_if_cached(&get(&[])));
}
