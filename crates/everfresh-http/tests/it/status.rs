//! RFC 9211: telling what the cache did.

use everfresh_http::rfc9111::{CacheStatus, Forwarded, Reuse, Rules};
use http::StatusCode;

use crate::world::{at, fields, get, stored};

#[test]
fn each_outcome_is_told_in_the_words_of_the_rfc() {
    use Forwarded::*;
    for (told, expected) in [
        (CacheStatus::hit("everfresh"), "everfresh; hit"),
        (CacheStatus::hit("everfresh").ttl(-412), "everfresh; hit; ttl=-412"),
        (CacheStatus::forwarded("ExampleCache", UriMiss).stored(), "ExampleCache; fwd=uri-miss; stored"),
        (CacheStatus::forwarded("everfresh", VaryMiss).collapsed(true), "everfresh; fwd=vary-miss; collapsed"),
        (CacheStatus::forwarded("everfresh", Miss).collapsed(false), "everfresh; fwd=miss; collapsed=?0"),
        (
            CacheStatus::forwarded("everfresh", Stale).fwd_status(StatusCode::NOT_MODIFIED).stored().ttl(60),
            "everfresh; fwd=stale; fwd-status=304; stored; ttl=60",
        ),
        (CacheStatus::forwarded("everfresh", Bypass).detail("range"), "everfresh; fwd=bypass; detail=range"),
        (CacheStatus::forwarded("my cache", Method), "\"my cache\"; fwd=method"),
        (CacheStatus::forwarded("everfresh", Request).key("GET /a\"b"), "everfresh; fwd=request; key=\"GET /a\\\"b\""),
        (
            CacheStatus::forwarded("everfresh", Partial).detail("caf\u{e9}\r\n"),
            "everfresh; fwd=partial; detail=\"caf???\"",
        ),
        (CacheStatus::hit("9").ttl(i64::MAX), "\"9\"; hit; ttl=999999999999999"),
        (CacheStatus::hit(""), "\"\"; hit"),
        // What is said of forwarding is not said of a hit.
        (CacheStatus::hit("c").stored().collapsed(true).fwd_status(StatusCode::OK), "c; hit"),
    ] {
        assert_eq!(told.value(), expected);
    }
}

#[test]
fn what_nearer_caches_said_stays_before_it() {
    let mut headers = fields(&[("cache-status", "origin; hit")]);
    CacheStatus::hit("everfresh").append_to(&mut headers);
    let all: Vec<_> = headers.get_all("cache-status").iter().collect();
    assert_eq!(all, ["origin; hit", "everfresh; hit"]);
}

#[test]
fn each_answer_of_the_rules_has_its_word() {
    let rules = Rules::shared();
    let meta = stored(&rules, &[("cache-control", "max-age=60, stale-while-revalidate=10"), ("vary", "foo")]);
    let told = |asked, later| {
        let reuse: Reuse = rules.reuse(&get(asked), &meta, at(later));
        (reuse.forwarded(), reuse.ttl_seconds())
    };
    assert_eq!(told(&[], 10), (None, Some(50)));
    assert_eq!(told(&[], 65), (None, Some(-5)));
    assert_eq!(told(&[], 75), (Some(Forwarded::Stale), None));
    assert_eq!(told(&[("cache-control", "no-cache")], 10), (Some(Forwarded::Request), None));
    assert_eq!(told(&[("foo", "1")], 10), (Some(Forwarded::VaryMiss), None));
}
