//! RFC 9111 §3: what may be stored, and what of it.

use everfresh_http::rfc9111::{Extent, Rules, WhyNot};

use crate::world::{Fields, date, fields, get, request, response, secs, start, store, stored, why_not};

#[test]
fn each_condition_has_its_clause() {
    use WhyNot::*;
    let (shared, private) = (Rules::shared(), Rules::private());
    // request fields, status, response fields, refused by a shared cache, by a private one
    type Case<'a> = (Fields<'a>, u16, Fields<'a>, Option<WhyNot>, Option<WhyNot>);
    let cases: &[Case<'_>] = &[
        (&[], 200, &[("cache-control", "max-age=60")], None, None),
        (&[], 200, &[("cache-control", "no-store")], Some(NoStore), Some(NoStore)),
        (&[], 200, &[("cache-control", "nO-StOrE, max-age=60")], Some(NoStore), Some(NoStore)),
        (&[], 200, &[("cache-control", "max-age=60"), ("cache-control", "no-store")], Some(NoStore), Some(NoStore)),
        (&[], 200, &[("cache-control", "no-store=\"x\", max-age=60")], Some(NoStore), Some(NoStore)),
        (
            &[("cache-control", "no-store")],
            200,
            &[("cache-control", "max-age=60")],
            Some(RequestNoStore),
            Some(RequestNoStore),
        ),
        (&[], 200, &[("cache-control", "private, max-age=60")], Some(Private), None),
        (&[], 200, &[("cache-control", "private=\"x-a\", max-age=60")], None, None),
        (&[], 200, &[("cache-control", "private=\"x-a\", private, max-age=60")], Some(Private), None),
        (&[], 200, &[("cache-control", "private=\"not a name\", max-age=60")], Some(Private), None),
        (&[], 200, &[("cache-control", "private=\"\", max-age=60")], Some(Private), None),
        // §3.5
        (&[("authorization", "x")], 200, &[("cache-control", "max-age=60")], Some(Authorization), None),
        (&[("authorization", "x")], 200, &[("cache-control", "public, max-age=60")], None, None),
        (&[("authorization", "x")], 200, &[("cache-control", "must-revalidate, max-age=60")], None, None),
        (&[("authorization", "x")], 200, &[("cache-control", "s-maxage=60")], None, Some(Useless)),
        (
            &[("authorization", "x")],
            200,
            &[("cache-control", "proxy-revalidate, max-age=60")],
            Some(Authorization),
            None,
        ),
        // §5.2.2.3
        (&[], 200, &[("cache-control", "must-understand, no-store, max-age=60")], None, None),
        (
            &[],
            299,
            &[("cache-control", "must-understand, no-store, max-age=60")],
            Some(MustUnderstand),
            Some(MustUnderstand),
        ),
        (&[], 299, &[("cache-control", "must-understand, max-age=60")], Some(MustUnderstand), Some(MustUnderstand)),
        (&[], 299, &[("cache-control", "max-age=60")], None, None),
        // Final statuses that are not heuristically cacheable need permission.
        (&[], 503, &[("cache-control", "max-age=60")], None, None),
        (&[], 503, &[("etag", "\"a\"")], Some(NotAllowed), Some(NotAllowed)),
        (&[], 302, &[("etag", "\"a\""), ("cache-control", "public")], None, None),
        (&[], 302, &[("etag", "\"a\""), ("cache-control", "private")], Some(Private), None),
        (&[], 302, &[("etag", "\"a\""), ("expires", "0")], None, None),
        (&[], 302, &[("etag", "\"a\""), ("cache-control", "s-maxage=1")], None, Some(NotAllowed)),
        (&[], 103, &[("cache-control", "max-age=60")], Some(Status), Some(Status)),
        (&[], 304, &[("cache-control", "max-age=60")], Some(Status), Some(Status)),
        (&[], 412, &[("cache-control", "max-age=60")], Some(Status), Some(Status)),
        (&[("range", "bytes=9-")], 416, &[("cache-control", "max-age=60")], Some(Status), Some(Status)),
        // What could never be served is not kept.
        (&[], 200, &[], Some(Useless), Some(Useless)),
        (&[], 200, &[("cache-control", "max-age=0")], Some(Useless), Some(Useless)),
        (&[], 200, &[("cache-control", "no-cache, max-age=60")], Some(Useless), Some(Useless)),
        (&[], 200, &[("cache-control", "max-age=60"), ("age", "60")], Some(Useless), Some(Useless)),
        (&[], 200, &[("cache-control", "max-age=0"), ("etag", "\"a\"")], None, None),
        (&[], 200, &[("cache-control", "no-cache"), ("etag", "W/\"a\"")], None, None),
        // A window is a use, also without a validator.
        (&[], 200, &[("cache-control", "max-age=0, stale-while-revalidate=60")], None, None),
        (&[], 200, &[("cache-control", "max-age=0, stale-if-error=60")], None, None),
        (&[], 200, &[("cache-control", "max-age=0, must-revalidate, stale-if-error=60")], Some(Useless), Some(Useless)),
        (&[], 200, &[("cache-control", "max-age=60"), ("vary", "*")], Some(VaryStar), Some(VaryStar)),
        (&[], 200, &[("cache-control", "max-age=60"), ("vary", "a b")], Some(VaryMalformed), Some(VaryMalformed)),
        // §3.3
        (&[], 206, &[("cache-control", "max-age=60"), ("content-range", "bytes 0-1/9")], Some(Part), Some(Part)),
        (
            &[("range", "bytes=0-1")],
            206,
            &[("cache-control", "max-age=60"), ("content-range", "bytes 0-1/9")],
            None,
            None,
        ),
        (&[("range", "bytes=0-1")], 206, &[("cache-control", "max-age=60")], Some(Part), Some(Part)),
        (
            &[("range", "bytes=0-1")],
            206,
            &[("cache-control", "max-age=60"), ("content-range", "bytes 1-0/9")],
            Some(Part),
            Some(Part),
        ),
        (
            &[("range", "bytes=0-1")],
            206,
            &[("cache-control", "max-age=60"), ("content-range", "bytes 0-9/9")],
            Some(Part),
            Some(Part),
        ),
        (
            &[("range", "bytes=0-1")],
            206,
            &[("cache-control", "max-age=60"), ("content-range", "lines 0-1/9")],
            Some(Part),
            Some(Part),
        ),
    ];
    for (asked, status, with, by_shared, by_private) in cases {
        assert_eq!(why_not(&shared, asked, *status, with), *by_shared, "shared: {asked:?} {status} {with:?}");
        assert_eq!(why_not(&private, asked, *status, with), *by_private, "private: {asked:?} {status} {with:?}");
    }
}

#[test]
fn only_get_and_head_are_stored_and_a_post_that_says_what_it_is() {
    let rules = Rules::shared();
    let fresh = response(200, &[("cache-control", "max-age=60")]);
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "POST", "FOO"] {
        let asked = request(method, "https://example.com/a", &[]);
        assert_eq!(store(&rules, &asked, &fresh).err(), Some(WhyNot::Method), "{method}");
    }
    assert!(store(&rules, &request("HEAD", "https://example.com/a", &[]), &fresh).is_ok());

    let post = request("POST", "https://example.com/a", &[]);
    let named = |place: &str, control: &str| {
        store(&rules, &post, &response(200, &[("cache-control", control), ("content-location", place)])).err()
    };
    assert_eq!(named("/a", "max-age=60"), None);
    let came = response(200, &[("cache-control", "max-age=60"), ("content-location", "/a")]);
    assert_eq!(*store(&rules, &post, &came).expect("stored").method(), "GET", "what a GET would have brought");
    assert_eq!(named("https://EXAMPLE.com:443/a", "max-age=60"), None);
    assert_eq!(named("/b", "max-age=60"), Some(WhyNot::Method));
    assert_eq!(named("https://example.net/a", "max-age=60"), Some(WhyNot::Method));
    assert_eq!(named("/a", "public"), Some(WhyNot::Method));
}

#[test]
fn the_fields_of_the_connection_are_not_stored() {
    let meta = stored(
        &Rules::shared(),
        &[
            ("cache-control", "max-age=60"),
            ("connection", "x-hop, Keep-Alive"),
            ("connection", "cache-control"),
            ("x-hop", "1"),
            ("keep-alive", "1"),
            ("transfer-encoding", "chunked"),
            ("te", "1"),
            ("upgrade", "1"),
            ("proxy-authenticate", "1"),
            ("proxy-authentication-info", "1"),
            ("proxy-authorization", "1"),
            ("proxy-connection", "1"),
            ("age", "5"),
            ("x-kept", "1"),
            ("x-kept", "2"),
            ("set-cookie", "a=b"),
        ],
    );
    let expected = fields(&[
        ("cache-control", "max-age=60"),
        ("x-kept", "1"),
        ("x-kept", "2"),
        ("set-cookie", "a=b"),
        ("date", &date(0)),
    ]);
    assert_eq!(*meta.headers(), expected);
    assert_eq!(meta.age(start()), secs(5));
}

#[test]
fn fields_that_a_qualified_directive_names_are_not_kept() {
    let with = [
        ("cache-control", "max-age=60, no-cache=\"X-A, x-b\", private=\"x-c\""),
        ("x-a", "1"),
        ("x-b", "1"),
        ("x-c", "1"),
    ];
    let shared = stored(&Rules::shared(), &with);
    assert!(["x-a", "x-b", "x-c"].iter().all(|name| !shared.headers().contains_key(*name)));
    let private = stored(&Rules::private(), &with);
    assert!(!private.headers().contains_key("x-a") && private.headers().contains_key("x-c"));
    assert!(shared.is_fresh(start()));
    // Written back as it came: nobody behind us reads a mangled directive.
    assert_eq!(shared.headers()["cache-control"], "max-age=60, no-cache=\"X-A, x-b\", private=\"x-c\"");
}

#[test]
fn a_qualified_directive_that_names_what_a_cache_needs_means_the_whole_response() {
    let rules = Rules::shared();
    assert_eq!(why_not(&rules, &[], 200, &[("cache-control", "max-age=60, private=\"vary\"")]), Some(WhyNot::Private));
    assert_eq!(why_not(&rules, &[], 200, &[("cache-control", "max-age=60, no-cache=\"date\"")]), Some(WhyNot::Useless));
}

#[test]
fn a_missing_date_is_the_moment_it_came() {
    for with in [&[("cache-control", "max-age=60")][..], &[("cache-control", "max-age=60"), ("date", "yesterday")]] {
        assert_eq!(stored(&Rules::shared(), with).headers()["date"], date(0).as_str());
    }
}

#[test]
fn a_body_of_another_length_is_not_what_the_head_claimed() {
    let rules = Rules::shared();
    let whole = stored(&rules, &[("cache-control", "max-age=60"), ("content-length", "10")]);
    assert_eq!(*whole.with_body_length(10).expect("whole").extent(), Extent::Complete(Some(10)));
    assert!(whole.with_body_length(9).is_none());
    let unknown = stored(&rules, &[("cache-control", "max-age=60")]);
    assert_eq!(*unknown.extent(), Extent::Complete(None));
    assert_eq!(*unknown.with_body_length(9).expect("whole").extent(), Extent::Complete(Some(9)));
    let part = response(206, &[("cache-control", "max-age=60"), ("content-range", "bytes 4-9/10")]);
    let part = store(&rules, &get(&[("range", "bytes=4-")]), &part).expect("stored");
    assert!(part.with_body_length(6).is_some() && part.with_body_length(5).is_none());
}

#[test]
fn content_lengths_that_contradict_each_other_tell_nothing() {
    for (lengths, known) in [(["5", "5"], Some(5)), (["5", "6"], None), (["5", "x"], None)] {
        let with = [("cache-control", "max-age=60"), ("content-length", lengths[0]), ("content-length", lengths[1])];
        assert_eq!(*stored(&Rules::shared(), &with).extent(), Extent::Complete(known));
    }
}

#[test]
fn a_validator_that_may_not_be_kept_is_none() {
    let (modified, control) = (date(-9), "max-age=60, no-cache=\"etag, last-modified\"");
    let meta = stored(&Rules::shared(), &[("cache-control", control), ("etag", "\"a\""), ("last-modified", &modified)]);
    assert!(!meta.has_validator() && meta.is_fresh(start()));
}
