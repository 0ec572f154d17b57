//! RFC 9111 §3.3, §3.4: parts of a representation, and how they become whole.

use everfresh_http::rfc9111::{Extent, Meta, Reuse, Rules, Served, Source, Unusable, combine, completion, evaluate};

use crate::world::{Fields, at, fields, get, response, secs, store, stored};

const BODY: &[u8] = b"0123456789";

fn part(range: &str, with: Fields<'_>) -> Meta {
    let mut all = vec![("cache-control", "max-age=60"), ("content-range", range)];
    all.extend(with);
    store(&Rules::shared(), &get(&[("range", "bytes=0-")]), &response(206, &all)).expect("stored")
}

fn bounds(meta: &Meta) -> (usize, usize) {
    match meta.extent() {
        Extent::Partial { range, .. } => (*range.start() as usize, *range.end() as usize + 1),
        _ => (0, 10),
    }
}

#[test]
fn a_part_answers_what_lies_within_it() {
    let rules = Rules::shared();
    for (stored, asked, expected) in [
        ("bytes 4-8/10", &[("range", "bytes=4-8")][..], Some("45678")),
        ("bytes 4-8/10", &[("range", "bytes=6-7")], Some("67")),
        ("bytes 4-8/10", &[("range", "bytes=6-9")], None),
        ("bytes 4-8/10", &[("range", "bytes=3-5")], None),
        ("bytes 4-8/10", &[("range", "bytes=6-")], None),
        ("bytes 4-9/10", &[("range", "bytes=6-")], Some("6789")),
        ("bytes 4-9/10", &[("range", "bytes=-3")], Some("789")),
        ("bytes 4-9/10", &[("range", "bytes=-7")], None),
        ("bytes 4-9/10", &[("range", "bytes=6-99")], Some("6789")),
        ("bytes 4-9/*", &[("range", "bytes=6-8")], Some("678")),
        ("bytes 4-9/*", &[("range", "bytes=6-")], None),
        ("bytes 4-9/*", &[("range", "bytes=-1")], None),
        ("bytes 4-9/10", &[("range", "bytes=20-")], None),
        ("bytes 4-9/10", &[], None),
        ("bytes 0-9/10", &[], None),
        ("bytes 4-8/10", &[("range", "bytes=4-5"), ("if-range", "\"b\"")], None),
    ] {
        let meta = part(stored, &[("etag", "\"a\"")]);
        let offset = bounds(&meta).0;
        match (rules.reuse(&get(asked), &meta, at(1)), evaluate(&get(asked), &meta, None)) {
            (Reuse::Fresh { .. }, Served::Partial { body, headers }) => {
                let bytes = &BODY[offset + body.start as usize..offset + body.end as usize];
                assert_eq!(Some(std::str::from_utf8(bytes).expect("text")), expected, "{stored}: {asked:?}");
                assert_eq!(headers["content-length"], bytes.len().to_string().as_str());
            }
            (Reuse::Unusable(Unusable::Part), Served::NotHere) => assert_eq!(expected, None, "{stored}: {asked:?}"),
            other => panic!("{stored}: {asked:?}: {other:?}"),
        }
    }
}

#[test]
fn a_part_is_not_sent_over_and_over_in_one_answer() {
    let meta = part("bytes 0-8/10", &[]);
    let told = |range: &str| match evaluate(&get(&[("range", range)]), &meta, None) {
        Served::Partial { body, .. } => vec![body],
        Served::Multipart(message) => message.parts.into_iter().map(|part| part.body).collect(),
        Served::NotHere => Vec::new(),
        other => panic!("{other:?}"),
    };
    assert_eq!(told("bytes=0-3,5-8"), [0..4, 5..9]);
    assert_eq!(told("bytes=5-8,0-3"), [5..9, 0..4]);
    assert_eq!(told("bytes=0-8,0-8,0-8,0-8").len(), 1);
    for range in ["bytes=0-8,1-8,2-8,3-8", "bytes=0-8,3-4,0-8"] {
        assert!(told(range).is_empty(), "{range}");
    }
}

#[test]
fn what_is_missing_is_asked_for_with_the_strong_tag() {
    let tag = [("etag", "\"a\"")];
    let asks = |meta: &Meta| completion(&get(&[("accept", "*/*"), ("if-none-match", "\"z\"")]), meta);
    let expected = |range| Some(fields(&[("accept", "*/*"), ("range", range), ("if-range", "\"a\"")]));
    assert_eq!(asks(&part("bytes 0-4/10", &tag)), expected("bytes=5-"));
    assert_eq!(asks(&part("bytes 0-4/*", &tag)), expected("bytes=5-"));
    assert_eq!(asks(&part("bytes 5-9/10", &tag)), expected("bytes=0-4"));
    assert_eq!(asks(&part("bytes 5-8/10", &tag)), None);
    assert_eq!(asks(&part("bytes 0-4/10", &[("etag", "W/\"a\"")])), None);
    assert_eq!(asks(&part("bytes 0-4/10", &[])), None);
    assert_eq!(asks(&stored(&Rules::shared(), &[("cache-control", "max-age=60"), ("etag", "\"a\"")])), None);
    assert_eq!(completion(&get(&[("range", "bytes=0-1")]), &part("bytes 0-4/10", &tag)), None);
}

#[test]
fn parts_that_touch_become_longer_or_whole() {
    let rules = Rules::shared();
    let ranges = [(0, 4), (5, 9), (3, 6), (0, 9), (7, 9), (2, 2), (0, 0), (4, 9)];
    for old in ranges {
        for new in ranges {
            let name = |(first, last)| format!("bytes {first}-{last}/10");
            let (stored, came) = (part(&name(old), &[("etag", "\"a\"")]), part(&name(new), &[("etag", "\"a\"")]));
            let touch = old.0 <= new.1 + 1 && new.0 <= old.1 + 1;
            let Some(both) = combine(&rules, &stored, &came) else {
                assert!(!touch, "{old:?} {new:?}");
                continue;
            };
            assert!(touch, "{old:?} {new:?}");
            let mut body = Vec::new();
            for (source, piece) in &both.pieces {
                let (start, end) = bounds(if *source == Source::Stored { &stored } else { &came });
                body.extend_from_slice(&BODY[start..end][piece.start as usize..piece.end as usize]);
            }
            let (start, end) = (old.0.min(new.0), old.1.max(new.1) + 1);
            assert_eq!(body, &BODY[start..end], "{old:?} {new:?}: {:?}", both.pieces);
            assert_eq!(both.meta.headers()["content-length"], (end - start).to_string().as_str());
            let whole = (start, end) == (0, 10);
            assert_eq!(both.meta.status(), if whole { 200 } else { 206 });
            assert_eq!(both.meta.headers().contains_key("content-range"), !whole);
        }
    }
}

#[test]
fn parts_of_different_representations_are_never_joined() {
    let rules = Rules::shared();
    let first = |with| part("bytes 0-4/10", with);
    let second = |range, with| part(range, with);
    let joined = |one: &Meta, two: &Meta| combine(&rules, one, two).is_some();
    let tag: Fields<'_> = &[("etag", "\"a\"")];
    assert!(joined(&first(tag), &second("bytes 5-9/10", tag)));
    assert!(joined(&first(tag), &second("bytes 5-9/*", tag)));
    assert!(!joined(&first(tag), &second("bytes 5-9/10", &[("etag", "\"b\"")])));
    assert!(!joined(&first(tag), &second("bytes 5-9/11", tag)));
    assert!(!joined(&first(&[("etag", "W/\"a\"")]), &second("bytes 5-9/10", &[("etag", "W/\"a\"")])));
    assert!(!joined(&first(&[]), &second("bytes 5-9/10", &[])));
    assert!(!joined(&first(tag), &second("bytes 5-9/10", &[("etag", "\"a\""), ("vary", "foo")])));
    assert!(!joined(&first(tag), &stored(&rules, tag)));
}

#[test]
fn the_digest_of_a_part_is_not_that_of_what_it_is_joined_to() {
    let rules = Rules::shared();
    let with = |range| part(range, &[("etag", "\"a\""), ("content-digest", range), ("content-md5", range)]);
    let first = with("bytes 0-4/10");
    for rest in ["bytes 5-9/10", "bytes 3-6/10"] {
        let headers = combine(&rules, &first, &with(rest)).expect("joined").meta.headers().clone();
        assert!(!headers.contains_key("content-digest") && !headers.contains_key("content-md5"), "{rest}");
    }
    // One that holds all of the other stands for itself.
    let all = combine(&rules, &first, &with("bytes 0-9/10")).expect("joined").meta;
    assert_eq!(all.headers()["content-digest"], "bytes 0-9/10");
    // Of a stored part its own digest goes with all of it, and with nothing less.
    for (range, kept) in [("bytes=0-4", true), ("bytes=0-3", false)] {
        let Served::Partial { headers, .. } = evaluate(&get(&[("range", range)]), &first, None) else { panic!("206") };
        assert_eq!(headers.contains_key("content-digest"), kept, "{range}");
    }
}

#[test]
fn the_new_parts_fields_prevail_and_its_age_stays() {
    let rules = Rules::shared();
    let stored = part("bytes 0-4/10", &[("etag", "\"a\""), ("x-a", "1"), ("x-b", "1")]);
    let came = part("bytes 5-9/10", &[("etag", "\"a\""), ("x-a", "2"), ("age", "7")]);
    let both = combine(&rules, &stored, &came).expect("joined").meta;
    assert_eq!((both.headers()["x-a"].as_bytes(), both.headers()["x-b"].as_bytes()), (&b"2"[..], &b"1"[..]));
    assert_eq!(both.age(at(1)), secs(8));
    assert_eq!(*both.extent(), Extent::Complete(Some(10)));
}
