//! RFC 9110 §13, §14: 304, 206 and 416 answered from what is stored.

use everfresh_http::rfc9111::{Meta, Rules, Served, evaluate};
use http::HeaderMap;

use crate::world::{Fields, date, get, request, response, store, stored};

/// Ten bytes, `0123456789`.
const BODY: &[u8] = b"0123456789";

fn ten(with: Fields<'_>) -> Meta {
    let mut all = vec![("cache-control", "max-age=60"), ("content-length", "10"), ("content-type", "text/plain")];
    all.extend(with);
    stored(&Rules::shared(), &all)
}

fn told(served: Served) -> String {
    let text = |headers: &HeaderMap, name: &str| headers[name].to_str().expect("text").to_owned();
    match served {
        Served::Full => "200".into(),
        Served::NotModified(_) => "304".into(),
        Served::Partial { body, headers } => {
            let bytes = &BODY[body.start as usize..body.end as usize];
            assert_eq!(text(&headers, "content-length"), bytes.len().to_string());
            format!("{} {}", text(&headers, "content-range"), String::from_utf8_lossy(bytes))
        }
        Served::RangeNotSatisfiable(headers) => format!("416 {}", text(&headers, "content-range")),
        Served::Multipart(parts) => format!("{} parts", parts.parts.len()),
        Served::NotHere => "not here".into(),
        _ => "?".into(),
    }
}

#[test]
fn a_client_that_has_it_is_told_so() {
    let (then, before, after, far) = (date(-1000), date(-1001), date(-999), date(0));
    let strong: Fields<'_> = &[("etag", "\"a\""), ("last-modified", &then)];
    let weak: Fields<'_> = &[("etag", "W/\"a\"")];
    let dated: Fields<'_> = &[("last-modified", &then)];
    let cases: &[(Fields<'_>, Fields<'_>, &str)] = &[
        (strong, &[], "200"),
        (strong, &[("if-none-match", "\"a\"")], "304"),
        (strong, &[("if-none-match", "W/\"a\"")], "304"),
        (weak, &[("if-none-match", "\"a\"")], "304"),
        (strong, &[("if-none-match", "*")], "304"),
        (dated, &[("if-none-match", "*")], "304"),
        (strong, &[("if-none-match", "\"b\"")], "200"),
        (strong, &[("if-none-match", "\"b\", \"x,\", W/\"a\"")], "304"),
        (strong, &[("if-none-match", "\"b\""), ("if-none-match", "\"a\"")], "304"),
        (strong, &[("if-none-match", "\"b\",,\"a\"")], "304"),
        // A comma within a tag is the tag's; a list that cannot be read lists nothing.
        (&[("etag", "\"x,y\"")], &[("if-none-match", "\"x,y\"")], "304"),
        (strong, &[("if-none-match", "\"a\" \"b\"")], "200"),
        (strong, &[("if-none-match", "a")], "200"),
        (strong, &[("if-none-match", "\"a")], "200"),
        (strong, &[("if-none-match", "w/\"a\"")], "200"),
        (dated, &[("if-none-match", "\"a\"")], "200"),
        (&[("etag", "\"caf\u{e9}\"")], &[("if-none-match", "\"caf\u{e9}\"")], "304"),
        (&[("etag", "\"caf\u{e9}\"")], &[("if-none-match", "\"caf\u{e8}\"")], "200"),
        // If-None-Match goes before If-Modified-Since.
        (strong, &[("if-none-match", "\"b\""), ("if-modified-since", &then)], "200"),
        (dated, &[("if-modified-since", &then)], "304"),
        (dated, &[("if-modified-since", &after)], "304"),
        (dated, &[("if-modified-since", &before)], "200"),
        (dated, &[("if-modified-since", "yesterday")], "200"),
        (dated, &[("if-modified-since", &then), ("if-modified-since", &after)], "200"),
        // Without Last-Modified its Date counts.
        (weak, &[("if-modified-since", &far)], "304"),
        (weak, &[("if-modified-since", &after)], "200"),
    ];
    for (with, asked, expected) in cases {
        assert_eq!(told(evaluate(&get(asked), &ten(with), Some(10))), *expected, "{with:?}: {asked:?}");
    }
}

#[test]
fn a_304_has_what_updates_a_copy_and_nothing_of_the_body() {
    let meta = ten(&[
        ("etag", "\"a\""),
        ("last-modified", &date(-9)),
        ("vary", "foo"),
        ("content-location", "/b"),
        ("expires", "0"),
    ]);
    let Served::NotModified(headers) = evaluate(&get(&[("if-none-match", "\"a\"")]), &meta, Some(10)) else {
        panic!("304")
    };
    let mut names: Vec<_> = headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["cache-control", "content-location", "date", "etag", "expires", "vary"]);
}

#[test]
fn preconditions_count_only_for_what_would_succeed() {
    let came = response(404, &[("cache-control", "max-age=60"), ("etag", "\"a\"")]);
    let meta = store(&Rules::shared(), &get(&[]), &came).expect("stored");
    assert_eq!(told(evaluate(&get(&[("if-none-match", "\"a\""), ("range", "bytes=0-1")]), &meta, Some(10))), "200");
}

#[test]
fn ranges_are_cut_from_the_whole() {
    for (range, expected) in [
        ("bytes=0-1", "bytes 0-1/10 01"),
        ("BYTES = 0 - 1 ", "bytes 0-1/10 01"),
        ("bytes=1-", "bytes 1-9/10 123456789"),
        ("bytes=-1", "bytes 9-9/10 9"),
        ("bytes=-99", "bytes 0-9/10 0123456789"),
        ("bytes=0-99", "bytes 0-9/10 0123456789"),
        ("bytes=9-9", "bytes 9-9/10 9"),
        ("bytes=0-99999999999999999999999999999", "bytes 0-9/10 0123456789"),
        ("bytes=10-", "416 bytes */10"),
        ("bytes=99999999999999999999999999999-", "416 bytes */10"),
        ("bytes=-0", "416 bytes */10"),
        ("bytes=20-30,40-50", "416 bytes */10"),
        ("bytes=0-1,40-50", "bytes 0-1/10 01"),
        ("bytes=0-1,3-4", "2 parts"),
        ("bytes=8-9,0-1", "2 parts"),
        // Malformed ranges, overlapping ones and too many of them are ignored (§14.2).
        ("bytes=1-0", "200"),
        ("bytes=", "200"),
        ("bytes", "200"),
        ("bytes=a-b", "200"),
        ("bytes=-", "200"),
        ("bytes=--1", "200"),
        ("bytes=0-5,3-9", "200"),
        ("bytes=0-0,2-2,4-4,6-6,8-8,0-0,2-2,4-4,6-6,8-8,0-0,2-2,4-4,6-6,8-8,0-0,2-2", "200"),
    ] {
        assert_eq!(told(evaluate(&get(&[("range", range)]), &ten(&[]), Some(10))), expected, "{range}");
    }
    let head = request("HEAD", "https://example.com/a", &[("range", "bytes=0-1")]);
    assert_eq!(told(evaluate(&head, &ten(&[]), Some(10))), "200");
    assert_eq!(told(evaluate(&get(&[("range", "bytes=0-1")]), &ten(&[]), None)), "200", "length not known yet");
    assert_eq!(told(evaluate(&get(&[("range", "bytes=0-1"), ("range", "bytes=3-4")]), &ten(&[]), Some(10))), "200");
    assert_eq!(told(evaluate(&get(&[("range", "bytes=0-")]), &ten(&[]), Some(0))), "416 bytes */0");
}

#[test]
fn if_range_needs_the_very_same_strong_validator() {
    let (then, late) = (date(-1000), date(0));
    for (with, if_range, expected) in [
        (&[("etag", "\"a\"")][..], "\"a\"", "bytes 0-1/10 01"),
        (&[("etag", "\"a\"")], "\"b\"", "200"),
        (&[("etag", "\"a\"")], "W/\"a\"", "200"),
        (&[("etag", "W/\"a\"")], "W/\"a\"", "200"),
        (&[("last-modified", &then), ("date", &late)], &then, "bytes 0-1/10 01"),
        (&[("last-modified", &then), ("date", &late)], &late, "200"),
        // A date as young as the response itself, or without a Date to tell, is weak.
        (&[("last-modified", &late), ("date", &late)], &late, "200"),
        (&[("last-modified", &then)], &then, "200"),
        (&[], "nonsense", "200"),
    ] {
        let asked = get(&[("range", "bytes=0-1"), ("if-range", if_range)]);
        assert_eq!(told(evaluate(&asked, &ten(with), Some(10))), expected, "{with:?}: {if_range}");
    }
}

#[test]
fn a_precondition_goes_before_a_range() {
    let meta = ten(&[("etag", "\"a\"")]);
    let asked = get(&[("range", "bytes=0-1"), ("if-none-match", "\"a\"")]);
    assert_eq!(told(evaluate(&asked, &meta, Some(10))), "304");
}

#[test]
fn several_ranges_make_a_message_of_the_length_it_says() {
    let Served::Multipart(message) = evaluate(&get(&[("range", "bytes=8-,0-1")]), &ten(&[]), Some(10)) else {
        panic!("several parts")
    };
    let mut body = String::new();
    for part in &message.parts {
        body += &part.head;
        body += std::str::from_utf8(&BODY[part.body.start as usize..part.body.end as usize]).expect("text");
    }
    body += &message.closing;
    assert_eq!(message.headers["content-length"], body.len().to_string().as_str());
    let kind = message.headers["content-type"].to_str().expect("text");
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").expect("a boundary");
    let part = |place: &str, bytes: &str| {
        format!("--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes {place}/10\r\n\r\n{bytes}\r\n")
    };
    let expected = format!("{}{}--{boundary}--\r\n", part("8-9", "89"), part("0-1", "01"));
    assert_eq!(body, expected);
    assert!(!message.headers.contains_key("content-range"));
}

#[test]
fn a_digest_of_the_content_goes_only_with_that_very_content() {
    let meta = ten(&[("etag", "\"a\""), ("content-digest", "d"), ("content-md5", "m"), ("repr-digest", "r")]);
    for (asked, kept) in [
        (("range", "bytes=0-3"), false),
        (("range", "bytes=0-1,8-9"), false),
        (("range", "bytes=99-"), false),
        (("if-none-match", "\"a\""), false),
        (("range", "bytes=0-"), true),
    ] {
        let headers = match evaluate(&get(&[asked]), &meta, Some(10)) {
            Served::NotModified(headers) | Served::RangeNotSatisfiable(headers) => headers,
            Served::Partial { headers, .. } => headers,
            Served::Multipart(message) => message.headers,
            other => panic!("{asked:?}: {other:?}"),
        };
        let has = |name| headers.contains_key(name);
        assert_eq!((has("content-digest"), has("content-md5")), (kept, kept), "{asked:?}");
        assert!(has("repr-digest"), "that of the representation holds whatever of it is sent: {asked:?}");
    }
}

#[test]
fn a_416_is_not_kept_by_a_cache_behind_us() {
    let meta = ten(&[("expires", &date(9)), ("cdn-cache-control", "max-age=60")]);
    let Served::RangeNotSatisfiable(headers) = evaluate(&get(&[("range", "bytes=99-")]), &meta, Some(10)) else {
        panic!("416")
    };
    assert_eq!(
        (&headers["cache-control"], &headers["content-length"]),
        (&"no-store".parse().expect("v"), &"0".parse().expect("v"))
    );
    assert!(!headers.contains_key("expires") && !headers.contains_key("cdn-cache-control"));
}
