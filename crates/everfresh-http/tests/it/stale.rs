//! RFC 9111 §4.2.4 and RFC 5861: when a stale response stands in.

use everfresh_http::rfc9111::{Failure, Reuse, Rules};
use http::StatusCode;

use crate::world::{Fields, at, get, secs, stored};

const GONE: Failure = Failure::Unreachable;

fn status(code: u16) -> Failure {
    Failure::Status(StatusCode::from_u16(code).expect("a status"))
}

#[test]
fn stale_if_error_stands_in_for_errors_within_its_window() {
    let rules = Rules::shared();
    let meta = stored(&rules, &[("cache-control", "max-age=60, stale-if-error=30")]);
    let may = |failure, later| rules.may_serve_on_error(&get(&[]), &meta, failure, at(later));
    for failure in [GONE, status(500), status(502), status(503), status(504)] {
        assert!(may(failure, 60) && may(failure, 89) && !may(failure, 90), "{failure:?}");
    }
    for code in [200, 304, 400, 404, 408, 429, 501, 505, 599] {
        assert!(!may(status(code), 61), "{code}");
    }
    // It is a fallback, not a licence: the origin is asked first, and the caller told that it may fall back.
    let Reuse::Revalidate { fallback: true, .. } = rules.reuse(&get(&[]), &meta, at(61)) else { panic!("asked first") };
}

#[test]
fn the_prohibitions_hold_for_both_windows_and_every_client() {
    let windows = "stale-while-revalidate=900, stale-if-error=900";
    let operator = |rules: Rules| {
        rules
            .default_stale_while_revalidate(secs(900))
            .default_stale_if_error(secs(900))
            .stale_when_disconnected(secs(900))
    };
    for (word, shared_too, private_too) in [
        ("no-cache", true, true),
        ("must-revalidate", true, true),
        ("proxy-revalidate", true, false),
        ("s-maxage=60", true, false),
        ("foo", false, false),
    ] {
        for (rules, forbidden) in [(operator(Rules::shared()), shared_too), (operator(Rules::private()), private_too)] {
            for control in [format!("max-age=60, {word}, {windows}"), format!("max-age=60, {word}")] {
                let meta = stored(&rules, &[("etag", "\"a\""), ("cache-control", &control)]);
                for asked in [&[][..], &[("cache-control", "max-stale, stale-if-error=900")]] {
                    let reuse = rules.reuse(&get(asked), &meta, at(70));
                    assert_eq!(
                        matches!(reuse, Reuse::Revalidate { fallback: false, .. }),
                        forbidden,
                        "{control}: {reuse:?}"
                    );
                    assert_eq!(rules.may_serve_on_error(&get(asked), &meta, GONE, at(70)), !forbidden, "{control}");
                }
            }
        }
    }
}

#[test]
fn s_maxage_with_windows_is_the_operators_choice() {
    let with = [("cache-control", "s-maxage=60, stale-while-revalidate=30, stale-if-error=90")];
    let strict = stored(&Rules::shared(), &with);
    assert_eq!((strict.stale_while_revalidate(), strict.stale_if_error()), (secs(0), secs(0)));
    let rules = Rules::shared().stale_despite_s_maxage(true);
    let meta = stored(&rules, &with);
    assert_eq!((meta.stale_while_revalidate(), meta.stale_if_error()), (secs(30), secs(90)));
    assert!(matches!(rules.reuse(&get(&[]), &meta, at(61)), Reuse::Stale { .. }));
    // Only s-maxage is set aside.
    let meta = stored(&rules, &[("cache-control", "s-maxage=60, must-revalidate, stale-while-revalidate=30")]);
    assert!(matches!(rules.reuse(&get(&[]), &meta, at(61)), Reuse::Revalidate { .. }));
}

#[test]
fn the_origins_word_goes_before_the_default_and_the_cap_before_both() {
    let rules = Rules::shared()
        .default_stale_while_revalidate(secs(10))
        .default_stale_if_error(secs(20))
        .max_stale_while_revalidate(secs(100))
        .max_stale_if_error(secs(200));
    for (control, swr, sie) in [
        ("max-age=60", 10, 20),
        ("max-age=60, stale-while-revalidate=0, stale-if-error=0", 0, 0),
        ("max-age=60, stale-while-revalidate=50, stale-if-error=60", 50, 60),
        ("max-age=60, stale-while-revalidate=500, stale-if-error=600", 100, 200),
        ("max-age=60, stale-while-revalidate, stale-if-error", 0, 0),
        ("max-age=60, stale-while-revalidate=what, stale-if-error=-1", 0, 0),
        ("max-age=60, stale-while-revalidate=50, stale-while-revalidate=60", 0, 20),
    ] {
        let meta = stored(&rules, &[("cache-control", control)]);
        assert_eq!((meta.stale_while_revalidate(), meta.stale_if_error()), (secs(swr), secs(sie)), "{control}");
    }
}

#[test]
fn a_client_may_allow_a_fallback_itself() {
    let rules = Rules::private().max_stale_if_error(secs(50));
    let meta = stored(&rules, &[("cache-control", "max-age=60")]);
    let may = |asked: Fields<'_>, later| rules.may_serve_on_error(&get(asked), &meta, status(503), at(later));
    assert!(!may(&[], 61));
    assert!(may(&[("cache-control", "stale-if-error=30")], 89) && !may(&[("cache-control", "stale-if-error=30")], 90));
    assert!(!may(&[("cache-control", "stale-if-error=900")], 110), "the operator's cap holds");
    assert!(!may(&[("cache-control", "stale-if-error=30, no-cache")], 61));
}

#[test]
fn a_disconnected_cache_may_be_told_to_go_on() {
    let rules = Rules::shared().stale_when_disconnected(secs(100));
    let meta = stored(&rules, &[("cache-control", "max-age=60")]);
    let may = |failure, later| rules.may_serve_on_error(&get(&[]), &meta, failure, at(later));
    assert!(may(GONE, 159) && !may(GONE, 160));
    assert!(!may(status(503), 61), "an answer is no disconnection");
    assert_eq!(meta.servable_until(), Some(at(160)));
}

/// Whose it is, and that it may be another's, is for its origin to say, in whatever way, or for the operator of a cache.
#[test]
fn a_shared_cache_serves_nothing_stale_of_which_nobody_has_said_that_it_may_be_kept() {
    let tag = ("etag", "\"1\"");
    let said: [(Fields<'_>, bool); 6] = [
        (&[tag], false),
        (&[tag, ("cache-control", "public")], true),
        (&[tag, ("cache-control", "max-age=0")], true),
        (&[tag, ("cache-control", "stale-if-error=0")], true),
        (&[tag, ("expires", "0")], true),
        (&[tag, ("last-modified", "Sun, 06 Nov 1994 08:00:00 GMT")], true),
    ];
    for (with, may) in said {
        let disconnected = |rules: Rules| rules.stale_when_disconnected(secs(10_000_000)).heuristic_cap(secs(1));
        let rules = disconnected(Rules::shared());
        let meta = stored(&rules, with);
        assert_eq!(rules.may_serve_on_error(&get(&[]), &meta, GONE, at(9)), may, "{with:?}");
        let asked: [Fields<'_>; 3] = [&[("cache-control", "max-stale")], &[("cache-control", "max-stale=60")], &[]];
        for asked in asked {
            let stale = matches!(rules.reuse(&get(asked), &meta, at(9)), Reuse::Stale { .. });
            assert_eq!(stale, may && !asked.is_empty(), "{with:?} {asked:?}");
        }
        let client = get(&[("cache-control", "stale-if-error=60")]);
        assert_eq!(rules.may_serve_on_error(&client, &meta, status(503), at(9)), may, "{with:?}");
        // Its own user may have it, and all of whom the operator says so.
        let private = disconnected(Rules::private());
        assert!(private.may_serve_on_error(&get(&[]), &stored(&private, with), GONE, at(9)), "{with:?}");
        let operator = Rules::shared().default_stale_while_revalidate(secs(60)).default_stale_if_error(secs(60));
        let meta = stored(&operator, with);
        assert!(may || operator.may_serve_on_error(&get(&[]), &meta, status(503), at(9)), "{with:?}");
    }
}
