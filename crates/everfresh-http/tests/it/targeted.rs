//! RFC 9213: directives for one class of caches.

use everfresh_http::rfc9111::{Origin, Rules, WhyNot};
use http::HeaderName;

use crate::world::{Fields, date, get, response, secs, store};

const FIELD: &str = "cdn-cache-control";

fn told(rules: &Rules, with: Fields<'_>) -> Result<u64, WhyNot> {
    store(rules, &get(&[]), &response(200, with)).map(|meta| meta.lifetime().as_secs())
}

#[test]
fn a_targeted_field_puts_cache_control_and_expires_out_of_force() {
    let (past, late) = (date(-100), date(100));
    let cases: &[(Fields<'_>, Result<u64, WhyNot>)] = &[
        (&[(FIELD, "max-age=3600")], Ok(3600)),
        (&[(FIELD, "max-age=2147483648")], Ok(2_147_483_648)),
        (&[(FIELD, "max-age=99999999999")], Ok(2_147_483_648)),
        (&[(FIELD, "max-age=0")], Err(WhyNot::Useless)),
        (&[(FIELD, "foobar, max-age=3600")], Ok(3600)),
        (&[(FIELD, "foobar"), (FIELD, "max-age=3600")], Ok(3600)),
        (&[(FIELD, "max-age=3600;p=1")], Ok(3600)),
        (&[(FIELD, "max-age=3600"), ("expires", &past)], Ok(3600)),
        (&[(FIELD, "max-age=3600"), ("expires", "0")], Ok(3600)),
        (&[(FIELD, "max-age=0"), ("expires", &late)], Err(WhyNot::Useless)),
        (&[(FIELD, "foo"), ("expires", &late)], Err(WhyNot::Useless)),
        (&[(FIELD, "max-age=3600"), ("cache-control", "max-age=1")], Ok(3600)),
        (&[(FIELD, "max-age=1"), ("cache-control", "max-age=3600")], Ok(1)),
        (&[(FIELD, "private"), ("cache-control", "max-age=3600")], Err(WhyNot::Private)),
        (&[(FIELD, "no-store"), ("cache-control", "max-age=3600")], Err(WhyNot::NoStore)),
        (&[(FIELD, "no-cache"), ("cache-control", "max-age=3600")], Err(WhyNot::Useless)),
        (&[(FIELD, "max-age=3600"), ("cache-control", "no-store")], Ok(3600)),
        // An empty or invalid field is as if absent.
        (&[(FIELD, ""), ("cache-control", "max-age=60")], Ok(60)),
        (&[(FIELD, "max-age=3600, &&&&&"), ("cache-control", "no-store")], Err(WhyNot::NoStore)),
        (&[(FIELD, "max-age=3600, &&&&&"), ("cache-control", "max-age=60")], Ok(60)),
        (&[(FIELD, "MaX-aGe=3600"), ("cache-control", "max-age=60")], Ok(60)),
        (&[(FIELD, "max-age =3600"), ("cache-control", "max-age=60")], Ok(60)),
        (&[(FIELD, "max-age= 3600"), ("cache-control", "max-age=60")], Ok(60)),
        (&[(FIELD, "max-age=9999999999999999"), ("cache-control", "max-age=60")], Ok(60)),
        // A member of the wrong type gives nothing, and hides no prohibition.
        (&[(FIELD, "max-age=\"3600\""), ("cache-control", "no-store")], Err(WhyNot::Useless)),
        (&[(FIELD, "max-age=3600.5")], Err(WhyNot::Useless)),
        (&[(FIELD, "max-age=-1")], Err(WhyNot::Useless)),
        (&[(FIELD, "max-age=(1 2)")], Err(WhyNot::Useless)),
        (&[(FIELD, "max-age")], Err(WhyNot::Useless)),
        (&[(FIELD, "max-age=60, no-store=1")], Err(WhyNot::NoStore)),
        (&[(FIELD, "max-age=60, no-store=(a)")], Err(WhyNot::NoStore)),
        (&[(FIELD, "max-age=60, no-store=?0")], Ok(60)),
        (&[(FIELD, "max-age=60, private=\"x-a\"")], Ok(60)),
        // The last of two members of a name counts (RFC 9651 §3.2).
        (&[(FIELD, "max-age=1, max-age=60")], Ok(60)),
    ];
    for (with, expected) in cases {
        assert_eq!(told(&Rules::shared(), with), *expected, "{with:?}");
    }
}

#[test]
fn a_private_cache_heeds_no_field_meant_for_others() {
    let with = [(FIELD, "max-age=3600"), ("cache-control", "max-age=60")];
    assert_eq!(told(&Rules::private(), &with), Ok(60));
}

#[test]
fn the_first_of_the_list_that_is_there_wins() {
    let own = HeaderName::from_static("everfresh-cache-control");
    let rules = Rules::shared().targets([own, HeaderName::from_static(FIELD)]);
    let with = [("cache-control", "max-age=1"), (FIELD, "max-age=2"), ("everfresh-cache-control", "max-age=3")];
    assert_eq!(told(&rules, &with), Ok(3));
    assert_eq!(told(&rules, &with[..2]), Ok(2));
    assert_eq!(told(&rules, &with[..1]), Ok(1));
    assert_eq!(told(&rules.targets([]), &with), Ok(1));
}

#[test]
fn the_fields_are_passed_on_as_they_came() {
    let with = [(FIELD, "max-age=3600"), ("cache-control", "max-age=1"), ("expires", "0")];
    let meta = store(&Rules::shared(), &get(&[]), &response(200, &with)).expect("stored");
    assert!(with.iter().all(|(name, value)| meta.headers()[*name] == *value));
    assert_eq!((meta.lifetime(), meta.lifetime_origin()), (secs(3600), Origin::MaxAge));
}
