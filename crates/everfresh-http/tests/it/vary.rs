//! RFC 9111 §4.1: which variant a request selects.

use everfresh_http::rfc9111::{Rules, WhyNot, select};

use crate::world::{Fields, date, fields, get, request, response, store, why_not};

#[test]
fn a_variant_is_selected_by_what_its_vary_names() {
    // Vary, what was asked, what is asked, selected
    type Case<'a> = (&'a str, Fields<'a>, Fields<'a>, bool);
    let cases: &[Case<'_>] = &[
        ("", &[], &[("foo", "1")], true),
        ("Foo", &[("foo", "1")], &[("foo", "1")], true),
        ("Foo", &[("foo", "1")], &[("foo", "2")], false),
        ("Foo", &[("foo", "1")], &[], false),
        ("Foo", &[], &[("foo", "1")], false),
        ("Foo", &[], &[], true),
        ("Foo", &[("foo", "")], &[], false),
        ("Foo", &[("foo", "1"), ("other", "1")], &[("foo", "1"), ("other", "2")], true),
        ("Foo, Bar", &[("foo", "1"), ("bar", "a")], &[("bar", "a"), ("foo", "1")], true),
        ("Foo, Bar", &[("foo", "1"), ("bar", "a")], &[("foo", "1"), ("bar", "b")], false),
        ("Foo, Bar", &[("foo", "1"), ("bar", "a")], &[("foo", "1")], false),
        // Values are never run together: A: xy, B: z is not A: x, B: yz.
        ("Foo, Bar", &[("foo", "xy"), ("bar", "z")], &[("foo", "x"), ("bar", "yz")], false),
        // Several lines are one list; white space around its commas means nothing.
        ("Foo", &[("foo", "1, 2")], &[("foo", "1"), ("foo", "2")], true),
        ("Foo", &[("foo", "1,2")], &[("foo", " 1, 2 ")], true),
        ("Foo", &[("foo", "1, 2")], &[("foo", "2, 1")], false),
        ("Foo", &[("foo", "a")], &[("foo", "A")], false),
        ("Foo", &[("foo", "\"a, b\"")], &[("foo", "\"a,b\"")], false),
        // What is no list, as a cookie, may have another meaning with another comma.
        ("Cookie", &[("cookie", "cart=1,,2")], &[("cookie", "cart=1,2")], false),
        ("Foo", &[("foo", "a")], &[("foo", "a,")], false),
        ("Foo", &[("foo", "")], &[("foo", ",")], false),
        ("Accept", &[("accept", "a/b,, c/d,")], &[("accept", "a/b,c/d")], true),
        // Weights order preferences, not their place; names compare without case.
        ("Accept-Language", &[("accept-language", "en, de")], &[("accept-language", "de, en")], true),
        ("Accept-Language", &[("accept-language", "en, de")], &[("accept-language", "eN, De")], true),
        ("Accept-Language", &[("accept-language", "en, de")], &[("accept-language", " en ,   de")], true),
        ("Accept-Language", &[("accept-language", "en;q=0.5, de")], &[("accept-language", "de, en ; q=0.5")], true),
        ("Accept-Language", &[("accept-language", "en;q=0.5, de")], &[("accept-language", "en, de;q=0.5")], false),
        ("Accept-Language", &[("accept-language", "en us")], &[("accept-language", "enus")], false),
        (
            "Accept-Encoding",
            &[("accept-encoding", "gzip, br")],
            &[("accept-encoding", "br"), ("accept-encoding", "gzip")],
            true,
        ),
        ("Accept-Encoding", &[("accept-encoding", "gzip")], &[("accept-encoding", "br")], false),
        ("Accept", &[("accept", "Text/HTML;v=A")], &[("accept", "text/html;v=A")], true),
        ("Accept", &[("accept", "text/html;v=A")], &[("accept", "text/html;v=a")], false),
    ];
    for (vary, then, now, selected) in cases {
        let came = response(200, &[("cache-control", "max-age=60"), ("vary", vary)]);
        let meta = store(&Rules::shared(), &get(then), &came).expect("stored");
        assert_eq!(meta.matches(&fields(now)), *selected, "Vary: {vary}; {then:?} against {now:?}");
        let (then, now) = (meta.vary().key(&fields(then)), meta.vary().key(&fields(now)));
        assert_eq!(then == now, *selected, "the key says the same: Vary: {vary}");
    }
}

#[test]
fn a_star_anywhere_selects_nothing() {
    for vary in [&["*"][..], &["*, *"], &["*", "*"], &[", *"], &["", "*"], &["*, Foo"], &["Foo, *"], &["Foo", ",,*,"]] {
        let mut with: Vec<_> = vary.iter().map(|line| ("vary", *line)).collect();
        with.push(("cache-control", "max-age=60"));
        assert_eq!(why_not(&Rules::shared(), &[], 200, &with), Some(WhyNot::VaryStar), "{vary:?}");
    }
}

#[test]
fn vary_is_bounded() {
    let names = (0..10_000).map(|at| format!("x-{at}")).collect::<Vec<_>>().join(",");
    let with = [("cache-control", "max-age=60"), ("vary", names.as_str())];
    assert_eq!(why_not(&Rules::shared(), &[], 200, &with), Some(WhyNot::VaryTooWide));
    let same = vec!["foo"; 10_000].join(",");
    assert_eq!(why_not(&Rules::shared(), &[], 200, &[("cache-control", "max-age=60"), ("vary", &same)]), None);
}

#[test]
fn of_several_that_match_the_latest_is_selected() {
    let rules = Rules::shared();
    let variant = |seconds: i64, foo: &str| {
        let came = response(200, &[("cache-control", "max-age=900"), ("vary", "foo"), ("date", &date(seconds))]);
        store(&rules, &get(&[("foo", foo)]), &came).expect("stored")
    };
    let all = [variant(-9, "1"), variant(-3, "1"), variant(-5, "1"), variant(0, "2")];
    assert_eq!(select(&all, &fields(&[("foo", "1")])), Some(1));
    assert_eq!(select(&all, &fields(&[("foo", "2")])), Some(3));
    assert_eq!(select(&all, &fields(&[])), None);
    assert!(all[0].vary().is_same(all[1].vary()) && !all[0].vary().is_same(all[3].vary()));
}

/// RFC 9111 §4.1: a server that leaves `Vary` out of its default response made everybody have that.
#[test]
fn what_has_a_vary_is_selected_before_a_later_one_without() {
    let rules = Rules::shared();
    let variant = |seconds: i64, vary: &str| {
        let came = response(200, &[("cache-control", "max-age=900"), ("vary", vary), ("date", &date(seconds))]);
        store(&rules, &get(&[("accept-language", "de")]), &came).expect("stored")
    };
    let all = [variant(-9, "accept-language"), variant(-5, "accept-language"), variant(0, "")];
    assert_eq!(select(&all, &fields(&[("accept-language", "de")])), Some(1));
    assert_eq!(select(&all, &fields(&[("accept-language", "fr")])), Some(2));
}

#[test]
fn nothing_takes_the_place_of_what_could_serve_more() {
    let rules = Rules::shared();
    let of = |method: &str, status, place: &str, vary: &str| {
        let asked = request(method, "https://example.com/a", &[("range", "bytes=0-1"), ("foo", "1")]);
        let with = [("cache-control", "max-age=60"), ("content-range", place), ("vary", vary)];
        store(&rules, &asked, &response(status, &with)).expect("stored")
    };
    let all =
        [of("GET", 200, "", ""), of("HEAD", 200, "", ""), of("GET", 206, "bytes 0-1/9", ""), of("GET", 200, "", "foo")];
    let replaces = all.each_ref().map(|one| all.each_ref().map(|other| one.replaces(other)));
    let expected = [
        [true, true, true, false],
        [false, true, false, false],
        [false, false, true, false],
        [false, false, false, true],
    ];
    assert_eq!(replaces, expected);
}

#[test]
fn what_is_stored_of_a_request_keeps_nothing_of_what_it_was_read_into() {
    let read = bytes::Bytes::from(vec![b'a'; 8192]);
    let mut asked = get(&[]);
    asked.headers.insert("foo", http::HeaderValue::from_maybe_shared(read.slice(..10)).expect("a value"));
    let came = response(200, &[("cache-control", "max-age=9"), ("vary", "Foo")]);
    let stored = store(&Rules::shared(), &asked, &came).expect("stored");
    drop(asked);
    assert!(read.is_unique());
    assert_eq!(stored.vary().fields().map(|(_, value)| value.as_bytes()).collect::<Vec<_>>(), [b"aaaaaaaaaa"]);
}
