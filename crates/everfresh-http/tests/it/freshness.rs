//! RFC 9111 §4.2: how long a response stays fresh, how old it is.

use std::time::Duration;

use everfresh_http::rfc9111::{Origin, Rules, age_field};
use http::HeaderValue;

use crate::world::{Fields, at, date, get, response, secs, start, store, stored};

#[test]
fn the_lifetime_is_taken_from_the_first_that_tells_it() {
    use Origin::*;
    let (past, soon, late, long_ago) = (date(-10), date(50), date(100), date(-1000));
    let tag = ("etag", "\"a\"");
    type Case<'a> = (Fields<'a>, (u64, Origin), (u64, Origin));
    let cases: &[Case<'_>] = &[
        (&[tag, ("cache-control", "max-age=60, s-maxage=30")], (30, SMaxage), (60, MaxAge)),
        (&[tag, ("cache-control", "s-maxage=30")], (30, SMaxage), (0, Nothing)),
        (&[tag, ("cache-control", "max-age=60"), ("expires", &late)], (60, MaxAge), (60, MaxAge)),
        (&[tag, ("cache-control", "max-age=0"), ("expires", &late)], (0, MaxAge), (0, MaxAge)),
        (&[tag, ("expires", &late), ("date", &soon)], (50, Expires), (50, Expires)),
        (&[tag, ("expires", &late)], (100, Expires), (100, Expires)),
        (&[tag, ("expires", &past)], (0, Expires), (0, Expires)),
        (&[tag, ("expires", "0"), ("last-modified", &long_ago)], (0, Expires), (0, Expires)),
        (&[tag, ("expires", &late), ("expires", &late)], (100, Expires), (100, Expires)),
        (&[tag, ("expires", &late), ("expires", &soon)], (0, Expires), (0, Expires)),
        (
            &[tag, ("expires", "Thursday, 18-Aug-50 02:01:18 GMT"), ("date", "Thursday, 18-Aug-50 02:01:08 GMT")],
            (10, Expires),
            (10, Expires),
        ),
        (
            &[tag, ("expires", "Mon Aug  8 02:01:18 2050"), ("date", "Mon, 08 Aug 2050 02:01:08 GMT")],
            (10, Expires),
            (10, Expires),
        ),
        (&[tag, ("last-modified", &long_ago)], (100, Heuristic), (100, Heuristic)),
        (&[tag, ("last-modified", &late)], (0, Nothing), (0, Nothing)),
        (&[tag], (0, Nothing), (0, Nothing)),
    ];
    for (with, by_shared, by_private) in cases {
        for (rules, (seconds, origin)) in [(Rules::shared(), by_shared), (Rules::private(), by_private)] {
            let meta = stored(&rules, with);
            assert_eq!((meta.lifetime(), meta.lifetime_origin()), (secs(*seconds), *origin), "{with:?}");
        }
    }
}

#[test]
fn max_age_is_read_strictly() {
    for (control, seconds) in [
        ("max-age=3600", 3600),
        ("MaX-aGe=3600", 3600),
        ("max-age=\"3600\"", 3600),
        ("max-age=003600", 3600),
        ("max-age=2147483647", 2_147_483_647),
        ("max-age=2147483648", 2_147_483_648),
        ("max-age=99999999999999999999999999", 2_147_483_648),
        ("foo=bar, max-age=3600", 3600),
        ("max-age=3600,, ,", 3600),
        ("max-age=3600, max-age=3600", 3600),
        // What cannot be read, and what contradicts itself, is stale.
        ("max-age='3600'", 0),
        ("max-age=3600.0", 0),
        ("max-age=-3600", 0),
        ("max-age=+3600", 0),
        ("max-age=a100", 0),
        ("max-age=100a", 0),
        ("max-age=1 00", 0),
        ("max-age =3600", 0),
        ("max-age= 3600", 0),
        ("max-age=", 0),
        ("max-age", 0),
        ("max-age=\"\"", 0),
        ("max-age=3600, max-age=60", 0),
        ("max-age=60, max-age=3600", 0),
        ("max-age=\"36\\00\"", 0),
        // In a quoted string it says nothing.
        ("foo=\"max-age=3600\", max-age=1", 1),
        ("max-age=1, foo=\"max-age=3600\"", 1),
        ("foo=\"bar, max-age=3600\"", 0),
        ("foo=\"\\\", max-age=3600\"", 0),
    ] {
        let meta = stored(&Rules::shared(), &[("etag", "\"a\""), ("cache-control", control)]);
        assert_eq!(meta.lifetime(), secs(seconds), "{control}");
    }
    let lines = [("etag", "\"a\""), ("cache-control", "max-age=3600"), ("cache-control", "max-age=1")];
    assert_eq!(stored(&Rules::shared(), &lines).lifetime(), secs(0));
}

#[test]
fn heuristics_need_a_cacheable_status_or_public() {
    let modified = date(-1000);
    for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
        let came = response(status, &[("last-modified", &modified)]);
        assert_eq!(store(&Rules::shared(), &get(&[]), &came).expect("stored").lifetime(), secs(100), "{status}");
    }
    for status in [201, 202, 302, 303, 307, 400, 403, 500, 502, 503, 504, 599] {
        let came = response(status, &[("last-modified", &modified)]);
        assert!(store(&Rules::shared(), &get(&[]), &came).is_err(), "{status}");
        let came = response(status, &[("last-modified", &modified), ("cache-control", "public")]);
        assert_eq!(store(&Rules::shared(), &get(&[]), &came).expect("stored").lifetime(), secs(100), "{status}");
    }
}

#[test]
fn the_heuristic_is_the_operators_choice() {
    let with = [("last-modified", &*date(-1000))];
    assert_eq!(stored(&Rules::shared().heuristic_fraction(0.5), &with).lifetime(), secs(500));
    assert_eq!(stored(&Rules::shared().heuristic_fraction(0.0), &with).lifetime(), secs(0));
    assert_eq!(stored(&Rules::shared().heuristic_fraction(f64::NAN), &with).lifetime(), secs(0));
    assert_eq!(stored(&Rules::shared().heuristic_fraction(7.0), &with).lifetime(), secs(1000));
    assert_eq!(stored(&Rules::shared().heuristic_cap(secs(9)), &with).lifetime(), secs(9));
    let old = [("last-modified", "Thu, 01 Jan 1970 00:00:00 GMT")];
    assert_eq!(stored(&Rules::shared(), &old).lifetime(), secs(24 * 60 * 60));
}

#[test]
fn age_counts_the_way_and_the_stay_once() {
    let rules = Rules::shared();
    // Age, Date, delay of the response, age when it came
    for (age, dated, delay, expected) in [
        (0, 0, 0, 0),
        (50, 0, 0, 50),
        (0, -40, 0, 40),
        (50, -40, 0, 50),
        (30, -40, 0, 40),
        (30, 0, 5, 35),
        (0, 100, 0, 0),
        (30, -33, 5, 38),
    ] {
        let came =
            response(200, &[("cache-control", "max-age=900"), ("age", &age.to_string()), ("date", &date(dated))]);
        let meta = rules.may_store(&get(&[]), &came, start(), at(delay)).expect("stored");
        assert_eq!(meta.age(at(delay)), secs(expected), "Age: {age}, Date: {dated}, delay {delay}");
        assert_eq!(meta.age(at(delay + 7)), secs(expected + 7));
        // A clock set back makes nothing younger.
        assert_eq!(meta.age(start() - secs(1000)), secs(expected));
    }
    // Age 50 and max-age 60, with the Date of its origination: 10 seconds are left, counted once.
    let came = response(200, &[("cache-control", "max-age=60"), ("age", "50"), ("date", &date(-50))]);
    let meta = rules.may_store(&get(&[]), &came, start(), start()).expect("stored");
    assert!(meta.is_fresh(at(9)) && !meta.is_fresh(at(10)));
    // Expires - Date, not Expires - now.
    let came = response(200, &[("expires", &date(60)), ("date", &date(-40))]);
    let meta = rules.may_store(&get(&[]), &came, start(), start()).expect("stored");
    assert!(meta.is_fresh(at(59)) && !meta.is_fresh(at(60)));
}

#[test]
fn the_first_member_of_age_counts_and_what_is_no_number_is_ignored() {
    for (ages, expected) in [
        (&["7200, 0"][..], 7200),
        (&["0, 7200"], 0),
        (&["7200", "0"], 7200),
        (&["0", "7200"], 0),
        (&["abc"], 0),
        (&["-7200"], 0),
        (&["7200.0"], 0),
        (&["7200;foo=bar"], 0),
        (&[""], 0),
        (&["2147483649"], 2_147_483_648),
        (&["99999999999999999999999"], 2_147_483_648),
    ] {
        let mut with: Vec<_> = ages.iter().map(|age| ("age", *age)).collect();
        with.extend([("etag", "\"a\""), ("cache-control", "max-age=3600")]);
        assert_eq!(stored(&Rules::shared(), &with).age(start()), secs(expected), "{ages:?}");
    }
}

#[test]
fn the_age_that_is_sent_is_whole_seconds_and_bounded() {
    assert_eq!(age_field(Duration::from_millis(1999)), HeaderValue::from(1));
    assert_eq!(age_field(Duration::MAX), HeaderValue::from(2_147_483_648_u64));
}
