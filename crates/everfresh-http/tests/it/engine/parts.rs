//! RFC 9111 §3.3, §3.4: parts in the store, and what is done to make them whole.

use everfresh_http::Outcome;
use http::request;

use super::kit::{Origin, Pipe, Said, World, once, read, settle, shared, text, whole};

const BODY: &str = "0123456789";

/// Answers ranges of the form `first-` or `first-last` of a body under a tag, unless `If-Range` names another.
fn ranges(asked: &request::Parts, tag: &str, body: &str) -> Said {
    let field = |name: &str| asked.headers.get(name).map(|value| value.to_str().expect("text").to_owned());
    let same = field("if-range").is_none_or(|wanted| wanted == tag);
    let with = [("etag", tag), ("cache-control", "max-age=60")];
    let Some(range) = field("range").filter(|_| same) else { return Ok(text(200, &with, body)) };
    let (first, last) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')).expect("a range");
    let first: usize = first.parse().expect("a number");
    let last = last.parse().unwrap_or(body.len() - 1);
    let told = format!("bytes {first}-{last}/{}", body.len());
    Ok(text(206, &[with[0], with[1], ("content-range", &told)], &body[first..=last]))
}

#[tokio::test]
async fn of_a_stored_part_only_the_rest_is_asked_for_and_the_whole_is_served() {
    for (part, rest) in [("bytes=0-3", "bytes=4-"), ("bytes=6-9", "bytes=0-5")] {
        let world = World::new(shared(), Origin::new(|_, asked| ranges(asked, "\"1\"", BODY)));
        world.get_with("/a", &[("range", part)]).await;
        let got = world.get("/a").await;
        assert_eq!((got.status, got.brief().as_str()), (200, "miss 0123456789"), "{part}");
        assert_eq!(got.field("cache-status"), "everfresh; fwd=partial; fwd-status=200; stored; ttl=60");
        assert_eq!((got.field("content-length"), got.field("content-range")), ("10", ""));
        let sent = world.origin.last().headers;
        assert!(sent["range"] == rest && sent["if-range"] == "\"1\"", "{sent:?}");
        assert_eq!(world.get("/a").await.brief(), "hit 0123456789");
        assert_eq!(world.get_with("/a", &[("range", "bytes=2-7")]).await.brief(), "hit 234567");
        assert_eq!(world.origin.count(), 2);
    }
}

#[tokio::test]
async fn has_it_changed_meanwhile_the_new_whole_comes() {
    let world = World::new(
        shared(),
        Origin::new(
            |count, asked| if count == 0 { ranges(asked, "\"1\"", BODY) } else { ranges(asked, "\"2\"", "new") },
        ),
    );
    world.get_with("/a", &[("range", "bytes=0-3")]).await;
    assert_eq!(world.get("/a").await.brief(), "miss new");
    assert_eq!(world.get("/a").await.brief(), "hit new");
    assert_eq!(world.origin.count(), 2);
}

#[tokio::test]
async fn a_rest_of_another_representation_is_not_joined_but_asked_for_as_a_whole() {
    // An origin that does not know If-Range.
    let origin = Origin::new(|count, asked| {
        let mut asked = asked.clone();
        asked.headers.remove("if-range");
        ranges(&asked, if count == 0 { "\"1\"" } else { "\"2\"" }, if count == 0 { BODY } else { "abcdefghij" })
    });
    let world = World::new(shared(), origin);
    world.get_with("/a", &[("range", "bytes=0-3")]).await;
    assert_eq!(world.get("/a").await.brief(), "miss abcdefghij");
    assert!(!world.origin.last().headers.contains_key("range"));
    assert_eq!(world.origin.count(), 3);
}

#[tokio::test]
async fn without_a_strong_tag_or_for_another_variant_nothing_is_completed() {
    for (with, ask) in [
        (&[("etag", "W/\"1\""), ("vary", "x-who")][..], &[("x-who", "me")][..]),
        (&[("vary", "x-who")], &[("x-who", "me")]),
        (&[("etag", "\"1\""), ("vary", "x-who")], &[("x-who", "you")]),
    ] {
        let origin = Origin::new(move |_, asked| {
            let mut all = vec![("cache-control", "max-age=60")];
            all.extend(with);
            if asked.headers.contains_key("range") {
                all.push(("content-range", "bytes 0-3/10"));
                return Ok(text(206, &all, "0123"));
            }
            Ok(text(200, &all, BODY))
        });
        let world = World::new(shared(), origin);
        world.get_with("/a", &[("range", "bytes=0-3"), ("x-who", "me")]).await;
        assert_eq!(world.get_with("/a", ask).await.body, BODY, "{with:?}");
        assert!(!world.origin.last().headers.contains_key("range"), "{with:?}");
    }
}

#[tokio::test]
async fn what_a_rest_says_behind_its_bytes_is_not_said_of_the_whole() {
    let (pipe, body) = Pipe::new();
    assert!(pipe.send("456789"));
    pipe.trailers(crate::world::fields(&[("content-digest", "of the rest")]));
    drop(pipe);
    let rest = once(body);
    let origin = Origin::new(move |count, asked| match count {
        0 => ranges(asked, "\"1\"", BODY),
        _ => Ok(whole(206, &[("etag", "\"1\""), ("content-range", "bytes 4-9/10")], rest())),
    });
    let world = World::new(shared(), origin);
    world.get_with("/a", &[("range", "bytes=0-3")]).await;
    for outcome in ["miss", "hit"] {
        let response = world.ask("GET", "/a", &[]).await.expect("a response");
        let all = http_body_util::BodyExt::collect(response.into_body()).await.expect("whole");
        assert!(all.trailers().is_none(), "{outcome}: {:?}", all.trailers());
        assert_eq!(all.to_bytes(), BODY, "{outcome}");
    }
}

#[tokio::test]
async fn all_who_ask_while_a_part_is_completed_read_the_same_whole() {
    let world = World::new(shared(), Origin::new(|_, asked| ranges(asked, "\"1\"", BODY)));
    world.get_with("/a", &[("range", "bytes=6-9")]).await;
    world.origin.hold();
    let all: Vec<_> = (0..20).map(|_| world.spawn_get("/a", &[])).collect();
    world.asked(2).await;
    settle().await;
    world.origin.let_through(1);
    for got in all {
        assert_eq!(got.await.expect("an answer").body, BODY);
    }
    assert_eq!(world.origin.count(), 2);
}

#[tokio::test]
async fn a_rest_that_is_cut_short_makes_nothing_whole() {
    for (part, told, rest) in [("bytes=0-3", "bytes 4-9/10", "45"), ("bytes=6-9", "bytes 0-5/10", "01")] {
        let origin = Origin::new(move |count, asked| {
            if count != 1 {
                return ranges(asked, "\"1\"", BODY);
            }
            Ok(text(206, &[("etag", "\"1\""), ("cache-control", "max-age=60"), ("content-range", told)], rest))
        });
        let world = World::new(shared(), origin);
        world.get_with("/a", &[("range", part)]).await;
        let response = world.ask("GET", "/a", &[]).await.expect("a response");
        let body = http_body_util::BodyExt::collect(response.into_body()).await;
        assert!(body.is_err(), "it ends as what it is: broken");
        // The part is still there, and what comes now is whole.
        assert_eq!(world.get_with("/a", &[("range", part)]).await.outcome(), Outcome::Hit);
        assert_eq!(world.get("/a").await.body, BODY);
    }
}

#[tokio::test]
async fn a_part_that_is_not_as_long_as_its_content_range_says_is_passed_on_and_not_stored() {
    let origin = Origin::new(|_, _| {
        Ok(text(206, &[("cache-control", "max-age=60"), ("content-range", "bytes 4-9/10")], "45678"))
    });
    let world = World::new(shared(), origin);
    for count in 1..3 {
        let response = world.ask("GET", "/a", &[("range", "bytes=-5")]).await.expect("a response");
        let hint = http_body::Body::size_hint(response.body());
        assert_eq!(hint.exact(), None, "a server that believes it would break the connection off");
        let got = read(response).await;
        assert_eq!((got.status, got.body.as_str(), world.origin.count()), (206, "45678", count));
    }
    assert_eq!(world.cache.stats().pages, 0);
}

#[tokio::test]
async fn a_purge_while_a_part_is_completed_wins() {
    let (pipe, body) = Pipe::new();
    let give = once(body);
    let with = [("etag", "\"1\""), ("cache-control", "max-age=60"), ("content-range", "bytes 4-9/10")];
    let origin = Origin::new(move |count, asked| match count {
        1 => Ok(whole(206, &with, give())),
        _ => ranges(asked, "\"1\"", BODY),
    });
    let world = World::new(shared(), origin);
    world.get_with("/a", &[("range", "bytes=0-3")]).await;
    let reading = world.spawn_get("/a", &[]);
    world.asked(2).await;
    pipe.send("456");
    settle().await;
    world.cache.purge(&"https://example.com/a".parse().expect("a URI"));
    pipe.send("789");
    drop(pipe);
    assert_eq!(reading.await.expect("an answer").body, BODY);
    settle().await;
    assert_eq!(world.get("/a").await.outcome(), Outcome::Miss);
    assert!(!world.origin.last().headers.contains_key("range"));
}

/// Nobody asked for the whole, which may be a film; and where it is too large to be stored, the part went with it.
#[tokio::test]
async fn a_stale_part_is_refreshed_as_the_part_that_it_is() {
    // What the origin says to the refresh: it holds; the part has changed; it heeds conditions on no part; it is shorter now.
    for (then, told, want) in
        [(304, "", "hit 0123"), (206, "\"2\"", "hit abcd"), (206, "\"1\"", "hit 0123"), (416, "", "miss 0123")]
    {
        for private in [false, true] {
            let origin = Origin::new(move |count, asked| {
                let control = ("cache-control", "max-age=10, stale-while-revalidate=100");
                let range = asked.headers.get("range").expect("a range, and not all of it");
                assert_eq!(range, "bytes=0-3");
                let (etag, body) = if told == "\"2\"" && count > 0 { ("\"2\"", "abcd") } else { ("\"1\"", "0123") };
                assert_eq!(asked.headers.contains_key("if-none-match"), count == 1);
                let with = [control, ("etag", etag), ("content-range", "bytes 0-3/1000000000")];
                Ok(match (count, then) {
                    (1, 304) => text(304, &[control, ("etag", "\"1\"")], ""),
                    (1, 416) => text(416, &[("content-range", "bytes */2")], ""),
                    _ => text(206, &with, body),
                })
            });
            let builder = if private { everfresh_http::HttpCache::builder().private() } else { shared() };
            let world = World::new(builder, origin);
            let ask = async || world.get_with("/a", &[("range", "bytes=0-3")]).await;
            ask().await;
            world.advance(20);
            assert_eq!(ask().await.brief(), "stale 0123");
            world.refreshed(1).await;
            assert_eq!(ask().await.brief(), want, "{then} {told}");
        }
    }
}

#[tokio::test]
async fn who_wants_the_whole_does_not_wait_for_the_refresh_of_a_part() {
    let world = World::new(
        shared(),
        Origin::new(|_, asked| {
            let mut said = ranges(asked, "\"1\"", BODY)?;
            let control = http::HeaderValue::from_static("max-age=10, stale-while-revalidate=100");
            said.headers_mut().insert("cache-control", control);
            Ok(said)
        }),
    );
    world.get_with("/a", &[("range", "bytes=2-5")]).await;
    world.advance(20);
    world.origin.hold();
    assert_eq!(world.get_with("/a", &[("range", "bytes=2-5")]).await.brief(), "stale 2345");
    world.asked(2).await;
    let whole = world.spawn_get("/a", &[]);
    world.asked(3).await;
    world.origin.let_through(9);
    assert_eq!(whole.await.expect("an answer").brief(), "miss 0123456789");
}

/// Contract I1, I2: what was asked for before an expiry is not fresh after it, also where it is joined to what is stored.
#[tokio::test]
async fn an_expiry_while_a_part_comes_reaches_what_it_is_joined_to() {
    let world = World::new(shared(), Origin::new(|_, asked| ranges(asked, "\"1\"", BODY)));
    world.get_with("/a", &[("range", "bytes=0-4")]).await;
    world.origin.hold();
    let part = world.spawn_get("/a", &[("range", "bytes=5-9")]);
    world.asked(2).await;
    assert!(world.cache.expire(&"https://example.com/a".parse().expect("a URI")));
    world.origin.let_through(9);
    assert_eq!(part.await.expect("an answer").body, "56789");
    for _ in 0..2 {
        world.get_with("/a", &[("range", "bytes=1-2")]).await;
    }
    assert_eq!(world.origin.count(), 3);
}

/// A film that is watched in parts would fill the store, and be copied with each of them.
#[tokio::test]
async fn parts_are_joined_to_nothing_larger_than_the_largest_body() {
    for (most, joined) in [(10, true), (9, false)] {
        let world = World::new(shared().max_body(most), Origin::new(|_, asked| ranges(asked, "\"1\"", BODY)));
        world.get_with("/a", &[("range", "bytes=0-4")]).await;
        world.get_with("/a", &[("range", "bytes=5-9")]).await;
        assert_eq!(world.get_with("/a", &[("range", "bytes=6-7")]).await.brief(), "hit 67");
        let first = world.get_with("/a", &[("range", "bytes=1-2")]).await;
        assert_eq!((first.body.as_str(), first.outcome() == Outcome::Hit), ("12", joined), "{most}");
    }
}
