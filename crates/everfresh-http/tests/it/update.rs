//! RFC 9111 §3.2, §4.3.4, §4.3.5: what a 304 or a HEAD changes.

use everfresh_http::rfc9111::{HeadUpdate, Meta, Rules, WhyNot, validated};

use crate::world::{Fields, at, date, fields, get, request, response, secs, store, stored};

fn not_modified(meta: &Meta, with: Fields<'_>) -> (Meta, Result<(), WhyNot>) {
    let freshened = Rules::shared().freshen(meta, &get(&[]), &response(304, with), at(100), at(100));
    (freshened.meta, freshened.keep)
}

#[test]
fn a_304_makes_it_young_again() {
    let meta = stored(&Rules::shared(), &[("cache-control", "max-age=60"), ("etag", "\"a\""), ("age", "30")]);
    for (with, age, lifetime) in [
        (&[][..], 0, 60),
        (&[("age", "5")], 5, 60),
        (&[("date", &*date(90))], 10, 60),
        (&[("cache-control", "max-age=10")], 0, 10),
    ] {
        let (fresh, keep) = not_modified(&meta, with);
        assert_eq!((fresh.age(at(100)), fresh.lifetime(), keep), (secs(age), secs(lifetime), Ok(())), "{with:?}");
    }
    // Without a Date of its own it is dated when it came.
    assert_eq!(not_modified(&meta, &[]).0.headers()["date"], date(100).as_str());
}

#[test]
fn the_fields_of_a_304_replace_stored_ones_but_not_those_of_the_body() {
    let meta = stored(
        &Rules::shared(),
        &[
            ("cache-control", "max-age=60"),
            ("etag", "\"a\""),
            ("x-kept", "1"),
            ("x-new", "1"),
            ("x-new", "2"),
            ("content-length", "5"),
            ("content-encoding", "gzip"),
            ("content-type", "text/plain"),
            ("content-md5", "m"),
            ("set-cookie", "a=b"),
        ],
    );
    let (fresh, _) = not_modified(
        &meta,
        &[
            ("etag", "W/\"a\""),
            ("x-new", "3"),
            ("x-added", "1"),
            ("content-length", "0"),
            ("content-encoding", "br"),
            ("content-range", "bytes 0-1/2"),
            ("content-type", "text/html"),
            ("content-md5", "n"),
            ("set-cookie", "a=c"),
            ("connection", "x-hop, date"),
            ("x-hop", "1"),
            ("transfer-encoding", "chunked"),
            ("date", &date(100)),
        ],
    );
    let expected = fields(&[
        ("cache-control", "max-age=60"),
        ("etag", "\"a\""),
        ("x-kept", "1"),
        ("x-new", "3"),
        ("x-added", "1"),
        ("content-length", "5"),
        ("content-encoding", "gzip"),
        ("content-type", "text/html"),
        ("content-md5", "m"),
        ("set-cookie", "a=c"),
        ("date", &date(100)),
    ]);
    assert_eq!(*fresh.headers(), expected);
}

#[test]
fn a_cookie_of_a_304_is_for_the_one_who_asked_unless_the_origin_says_otherwise() {
    let cookie = ("set-cookie", "session=alice");
    let seen = |rules: &Rules, stored_with: Fields<'_>, told: Fields<'_>| {
        let meta = stored(rules, stored_with);
        let came = response(304, told);
        let fresh = rules.freshen(&meta, &request("GET", "https://example.com/a", &[]), &came, at(100), at(100));
        assert_eq!(fresh.keep, Ok(()));
        fresh.meta.headers().contains_key("set-cookie")
    };
    let (shared, private) = (Rules::shared(), Rules::private());
    let plain: Fields<'_> = &[("cache-control", "max-age=60"), ("etag", "\"a\"")];
    // Told by the origin, or in its place by an operator: of an answer without a cookie.
    assert!(!seen(&shared, plain, &[cookie]));
    assert!(!seen(&shared, plain, &[cookie, ("cache-control", "stale-while-revalidate=9")]));
    let guessed = &[("last-modified", &*date(-100_000)), ("etag", "\"a\"")];
    assert!(!seen(&shared, guessed, &[cookie]));
    for lifetime in [("cache-control", "max-age=9"), ("cache-control", "public"), ("expires", &*date(160))] {
        assert!(seen(&shared, plain, &[cookie, lifetime]), "{lifetime:?}");
    }
    assert!(seen(&shared, &[plain[0], plain[1], ("set-cookie", "a=b")], &[cookie]), "cookies are for all there");
    assert!(seen(&private, plain, &[cookie]));
}

#[test]
fn a_304_may_end_the_storing() {
    let meta = stored(&Rules::shared(), &[("cache-control", "max-age=60"), ("etag", "\"a\"")]);
    for (control, why) in [("no-store", WhyNot::NoStore), ("private", WhyNot::Private)] {
        let (fresh, keep) = not_modified(&meta, &[("cache-control", control)]);
        assert_eq!((keep, fresh.age(at(100))), (Err(why), secs(0)), "{control}");
    }
    let asked = get(&[("cache-control", "no-store")]);
    let kept = Rules::shared().freshen(&meta, &asked, &response(304, &[]), at(1), at(1)).keep;
    assert_eq!(kept, Err(WhyNot::RequestNoStore));
}

#[test]
fn a_304_may_change_what_it_varies_on() {
    let rules = Rules::shared();
    let came = response(200, &[("cache-control", "max-age=60"), ("etag", "\"a\""), ("vary", "foo")]);
    let meta = store(&rules, &get(&[("foo", "1, 2"), ("bar", "x")]), &came).expect("stored");
    let asked = get(&[("foo", "1,2"), ("bar", "y")]);
    let fresh = rules.freshen(&meta, &asked, &response(304, &[("vary", "foo, bar")]), at(1), at(1)).meta;
    assert!(fresh.matches(&fields(&[("foo", "1, 2"), ("bar", "y")])));
    assert!(!fresh.matches(&fields(&[("foo", "1, 2"), ("bar", "x")])));
    assert_eq!(fresh.headers()["vary"], "foo, bar");
    let (_, keep) = not_modified(&meta, &[("vary", "*")]);
    assert_eq!(keep, Err(WhyNot::VaryStar));
}

#[test]
fn a_304_says_which_of_the_stored_ones_it_means() {
    let with = |tag: Fields<'_>, dated: i64| {
        let date = date(dated);
        let mut all = vec![("cache-control", "max-age=60"), ("date", date.as_str())];
        all.extend(tag);
        stored(&Rules::shared(), &all)
    };
    let modified = date(-1000);
    let all = [
        with(&[("etag", "\"a\"")], 0),
        with(&[("etag", "\"a\"")], -9),
        with(&[("etag", "W/\"w\"")], -9),
        with(&[("etag", "W/\"w\"")], -3),
        with(&[("last-modified", &modified)], -5),
        with(&[], 0),
    ];
    let all: Vec<_> = all.iter().collect();
    let means = |fields: Fields<'_>| validated(&all, &response(304, fields));
    assert_eq!(means(&[("etag", "\"a\"")]), [0, 1], "a strong tag: all that have it");
    assert_eq!(means(&[("etag", "W/\"w\"")]), [3], "a weak tag: the latest");
    assert_eq!(means(&[("etag", "W/\"a\"")]), [0]);
    assert_eq!(means(&[("etag", "\"w\"")]), [3], "a strong tag that none has: the latest that has it as a weak one");
    assert_eq!(means(&[("etag", "\"z\"")]), [0; 0]);
    assert_eq!(means(&[("etag", "torn")]), [0; 0], "as without any");
    assert_eq!(validated(&all[4..5], &response(304, &[("etag", "torn")])), [0]);
    assert_eq!(means(&[("last-modified", &modified)]), [4]);
    assert_eq!(means(&[("last-modified", &date(-7))]), [0; 0]);
    assert_eq!(means(&[]), [0; 0], "nothing says which");
    assert_eq!(validated(&all[..1], &response(304, &[])), [0], "only one was asked about");
    assert_eq!(validated(&all[..1], &response(304, &[("etag", "\"z\"")])), [0], "its tag alone was asked about");
    let dated = with(&[("etag", "\"a\""), ("last-modified", &modified)], 0);
    assert_eq!(validated(&[&dated], &response(304, &[("etag", "\"z\"")])), [0; 0], "it may have answered the date");
}

#[test]
fn a_head_updates_or_outdates_what_is_stored() {
    let rules = Rules::shared();
    let modified = date(-1000);
    let uri = "https://example.com/a";
    let base = [
        ("cache-control", "max-age=60"),
        ("etag", "\"a\""),
        ("last-modified", modified.as_str()),
        ("content-length", "5"),
        ("x-kept", "1"),
    ];
    let meta = store(&rules, &request("GET", uri, &[]), &response(200, &base)).expect("stored");
    let head = request("HEAD", uri, &[]);
    let told = |status, with: Fields<'_>| match rules.update_from_head(
        &meta,
        &head,
        &response(status, with),
        at(100),
        at(100),
    ) {
        HeadUpdate::Nothing => "nothing",
        HeadUpdate::Changed => "changed",
        HeadUpdate::Updated(fresh) => {
            assert_eq!((fresh.keep, fresh.meta.headers()["x-kept"].to_str().ok()), (Ok(()), Some("1")));
            assert!(fresh.meta.is_fresh(at(159)));
            "updated"
        }
        _ => "?",
    };
    // Of a body it says nothing then: whoever asks so often would keep it fresh for ever (contract T2).
    assert_eq!(told(200, &[]), "nothing");
    assert_eq!(told(200, &[("content-length", "5")]), "nothing");
    assert_eq!(told(200, &[("etag", "\"a\"")]), "updated");
    assert_eq!(told(200, &[("last-modified", &modified)]), "updated");
    assert_eq!(told(200, &[("etag", "\"a\""), ("content-length", "5"), ("last-modified", &modified)]), "updated");
    assert_eq!(told(200, &[("etag", "\"b\"")]), "changed");
    assert_eq!(told(200, &[("etag", "W/\"a\"")]), "changed");
    assert_eq!(told(200, &[("content-length", "6")]), "changed");
    assert_eq!(told(200, &[("last-modified", &date(-7))]), "changed");
    assert_eq!(told(410, &[]), "nothing");
    assert_eq!(told(503, &[]), "nothing");
    assert!(matches!(
        rules.update_from_head(&meta, &request("GET", uri, &[]), &response(200, &[]), at(1), at(1)),
        HeadUpdate::Nothing
    ));
}
