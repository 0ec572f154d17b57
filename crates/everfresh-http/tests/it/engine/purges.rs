//! Purges win over what is in flight.

use everfresh_http::HttpCache;
use http::Uri;

use super::kit::{Origin, Pipe, World, once, read, settle, shared, text, until, whole};

const MINUTE: &[(&str, &str)] = &[("cache-control", "max-age=60, stale-while-revalidate=60")];
const TAGGED: &[(&str, &str)] = &[
    ("cache-control", "max-age=60, stale-while-revalidate=60"),
    ("cache-groups", "\"shop\""),
    ("surrogate-key", "red blue"),
];

fn uri(path: &str) -> Uri {
    format!("https://example.com{path}").parse().expect("a URI")
}

fn tagged() -> World {
    World::new(shared().tag_fields([http::HeaderName::from_static("surrogate-key")]), Origin::counting(TAGGED))
}

type Purge = fn(&HttpCache);

const PURGES: [(&str, Purge); 6] = [
    ("uri", |cache| {
        cache.purge(&uri("/a"));
    }),
    ("key", |cache| {
        cache.purge_key("https://example.com/a");
    }),
    ("prefix", |cache| cache.purge_prefix("https://example.com/")),
    ("group", |cache| cache.purge_group(&uri("/"), "shop")),
    ("tag", |cache| cache.purge_tag("blue")),
    ("all", HttpCache::purge_all),
];

const EXPIRIES: [(&str, Purge); 6] = [
    ("uri", |cache| {
        cache.expire(&uri("/a"));
    }),
    ("key", |cache| {
        cache.expire_key("https://example.com/a");
    }),
    ("prefix", |cache| cache.expire_prefix("https://example.com/")),
    ("group", |cache| cache.expire_group(&uri("/"), "shop")),
    ("tag", |cache| cache.expire_tag("blue")),
    ("all", HttpCache::expire_all),
];

#[tokio::test]
async fn a_purge_makes_unservable_and_an_expiry_makes_stale() {
    for (name, purge) in PURGES {
        let world = tagged();
        world.get("/a").await;
        purge(&world.cache);
        assert_eq!(world.get("/a").await.brief(), "miss 1", "{name}");
    }
    for (name, expire) in EXPIRIES {
        let world = tagged();
        world.get("/a").await;
        world.advance(2);
        expire(&world.cache);
        let stale = world.get("/a").await;
        assert_eq!((stale.brief().as_str(), stale.field("age")), ("stale 0", "2"), "{name}");
        world.refreshed(1).await;
        assert_eq!(world.get("/a").await.brief(), "hit 1", "{name}");
    }
}

#[tokio::test]
async fn what_was_made_stale_is_given_to_nobody_who_names_an_age() {
    let world = World::new(shared(), Origin::counting(&[("cache-control", "max-age=60, stale-while-revalidate=60")]));
    world.get("/a").await;
    world.cache.expire(&uri("/a"));
    assert_eq!(world.get_with("/a", &[("cache-control", "max-age=30")]).await.body, "1");
    world.cache.expire(&uri("/a"));
    assert_eq!(world.get_with("/a", &[("cache-control", "max-age=30, max-stale")]).await.brief(), "stale 1");
}

#[tokio::test]
async fn a_head_without_validators_makes_nothing_fresh_that_was_expired() {
    for (validator, third) in [(None, "2"), (Some(("etag", "\"1\"")), "0")] {
        let with: Vec<_> = [("cache-control", "max-age=60")].into_iter().chain(validator).collect();
        let origin = Origin::new(move |count, asked| {
            let body = if asked.method == "HEAD" { String::new() } else { count.to_string() };
            Ok(text(200, &with, &body))
        });
        let world = World::new(shared(), origin);
        world.get("/a").await;
        world.cache.expire(&uri("/a"));
        read(world.ask("HEAD", "/a", &[]).await.expect("a response")).await;
        assert_eq!(world.get("/a").await.body, third, "{validator:?}");
    }
}

#[tokio::test]
async fn a_purge_leaves_others_alone() {
    let world = tagged();
    world.get("/a").await;
    world.cache.purge(&uri("/b"));
    world.cache.purge_prefix("https://example.com/b");
    world.cache.purge_group(&"https://example.org/".parse().expect("a URI"), "shop");
    world.cache.purge_tag("green");
    world.cache.expire_tag("green");
    assert_eq!(world.get("/a").await.brief(), "hit 0");
}

#[tokio::test]
async fn a_purge_beats_a_fetch_that_is_under_way_before_and_after_its_head() {
    for (name, purge) in PURGES {
        for after_head in [false, true] {
            let (pipe, body) = Pipe::new();
            let body = once(body);
            let origin = Origin::new(move |count, _| {
                Ok(if count == 0 { whole(200, TAGGED, body()) } else { text(200, TAGGED, "new") })
            });
            let world = World::new(shared().tag_fields([http::HeaderName::from_static("surrogate-key")]), origin);
            world.origin.hold();
            let client = world.spawn_get("/a", &[]);
            world.asked(1).await;
            if after_head {
                world.origin.let_through(1);
                settle().await;
            }
            purge(&world.cache);
            world.origin.let_through(9);
            pipe.send("old");
            drop(pipe);
            assert_eq!(client.await.expect("an answer").body, "old", "who waited still gets it: {name}");
            let next = world.get("/a").await;
            assert_eq!(next.brief(), "miss new", "{name}, after head: {after_head}");
        }
    }
}

#[tokio::test]
async fn a_purge_beats_a_refresh_that_is_under_way() {
    for (name, purge) in PURGES {
        let world = tagged();
        world.get("/a").await;
        world.advance(61);
        world.origin.hold();
        assert_eq!(world.get("/a").await.brief(), "stale 0");
        world.asked(2).await;
        purge(&world.cache);
        world.origin.let_through(9);
        world.refreshed(1).await;
        assert_eq!(world.get("/a").await.brief(), "miss 2", "{name}");
    }
}

#[tokio::test]
async fn an_expiry_reaches_what_is_under_way() {
    for (name, expire) in EXPIRIES {
        let world = tagged();
        world.origin.hold();
        let client = world.spawn_get("/a", &[]);
        world.asked(1).await;
        expire(&world.cache);
        world.origin.let_through(9);
        client.await.expect("an answer");
        world.advance(2);
        assert_eq!(world.get("/a").await.brief(), "stale 0", "{name}");
    }
}

#[tokio::test]
async fn all_variants_go_with_their_key() {
    let with: &[_] = &[("cache-control", "max-age=60"), ("vary", "x-who")];
    let world = World::new(shared(), Origin::counting(with));
    for who in ["1", "2"] {
        world.get_with("/a", &[("x-who", who)]).await;
    }
    assert!(world.cache.purge(&uri("/a")) && !world.cache.purge(&uri("/a")));
    for who in ["1", "2"] {
        assert_eq!(world.get_with("/a", &[("x-who", who)]).await.outcome().name(), "miss");
    }
}

#[tokio::test]
async fn revalidating_now_renews_each_variant() {
    let with: &[_] = &[("cache-control", "max-age=60"), ("vary", "x-who"), ("etag", "\"1\"")];
    let world = World::new(shared(), Origin::counting(with));
    for who in ["1", "2"] {
        world.get_with("/a", &[("x-who", who)]).await;
    }
    let endings = world.cache.revalidate(&uri("/a"), world.origin.fetch()).await;
    assert_eq!(endings, [everfresh_http::engine::RefreshEnding::Replaced; 2]);
    assert_eq!(world.origin.last().headers["if-none-match"], "\"1\"");
    assert_eq!(world.get_with("/a", &[("x-who", "1")]).await.brief(), "hit 2");
    assert!(world.cache.revalidate(&uri("/nothing"), world.origin.fetch()).await.is_empty());
}

#[tokio::test]
async fn revalidating_by_prefix_tag_and_group_renews_what_they_name_and_nothing_else() {
    let origin = Origin::new(|count, asked| {
        let mut with = TAGGED.to_vec();
        if asked.uri.path() == "/plain" {
            with.truncate(1);
        }
        Ok(text(200, &with, &count.to_string()))
    });
    let world = World::new(shared().tag_fields([http::HeaderName::from_static("surrogate-key")]), origin);
    let (cache, fetch) = (&world.cache, || world.origin.fetch());
    for path in ["/a", "/plain"] {
        world.get(path).await;
    }
    let one = [everfresh_http::engine::RefreshEnding::Replaced];
    assert_eq!(cache.revalidate_prefix("https://example.com/a", fetch()).await, one);
    assert_eq!(world.get("/a").await.brief(), "hit 2");
    assert_eq!(cache.revalidate_tag("blue", fetch()).await, one);
    assert_eq!(world.get("/a").await.brief(), "hit 3");
    assert_eq!(cache.revalidate_group(&uri("/"), "shop", fetch()).await, one);
    assert_eq!(world.get("/a").await.brief(), "hit 4");
    assert_eq!(world.origin.last().uri, uri("/a"));
    assert!(cache.revalidate_tag("green", fetch()).await.is_empty());
    assert!(
        cache.revalidate_group(&"https://other.example/".parse().expect("a URI"), "shop", fetch()).await.is_empty()
    );
    assert_eq!(world.get("/plain").await.brief(), "hit 1");
}

#[tokio::test]
async fn an_unsafe_request_purges_its_target_and_what_it_names_of_its_own_origin() {
    let origin = Origin::new(|_, asked| {
        if asked.method != "POST" {
            return Ok(text(200, MINUTE, "x"));
        }
        let location = asked.headers["x-location"].to_str().expect("text");
        let status = asked.headers["x-status"].to_str().expect("text").parse().expect("a status");
        Ok(text(status, &[("location", location)], ""))
    });
    let world = World::new(shared(), origin);
    let cases = [
        ("200", "/other", true, true),
        ("303", "other", true, true),
        ("200", "https://example.com/other", true, true),
        ("200", "https://elsewhere.com/other", true, false),
        ("500", "/other", false, false),
        ("404", "/other", false, false),
    ];
    for (status, location, target, other) in cases {
        world.get("/a").await;
        world.get("/other").await;
        let posted = world.ask("POST", "/a", &[("x-location", location), ("x-status", status)]).await;
        assert_eq!(read(posted.expect("a response")).await.outcome().name(), "bypass");
        assert_eq!(world.get("/a").await.outcome().name() == "miss", target, "{status} {location}");
        assert_eq!(world.get("/other").await.outcome().name() == "miss", other, "{status} {location}");
    }
}

#[tokio::test]
async fn an_unsafe_request_purges_the_groups_that_its_response_names() {
    let origin = Origin::new(|_, asked| {
        let with: &[_] = if asked.method == "POST" { &[("cache-group-invalidation", "\"shop\"")] } else { TAGGED };
        Ok(text(200, with, "x"))
    });
    let world = World::new(shared(), origin);
    world.get("/a").await;
    read(world.ask("POST", "/b", &[]).await.expect("a response")).await;
    assert_eq!(world.get("/a").await.outcome().name(), "miss");
}

#[tokio::test]
async fn what_a_post_changed_is_not_stored_from_before_it() {
    let world = World::new(shared(), Origin::counting(MINUTE));
    world.origin.hold();
    let before = world.spawn_get("/a", &[]);
    world.asked(1).await;
    let own = world.clone();
    let post = tokio::spawn(async move { own.ask("POST", "/a", &[]).await.map(|_| ()) });
    world.asked(2).await;
    // The GET's answer is as old as the GET: whichever comes first.
    world.origin.let_through(9);
    before.await.expect("an answer");
    post.await.expect("an end").expect("an answer");
    until(|| world.cache.stats().in_flight == 0).await;
    assert_eq!(world.get("/a").await.brief(), "miss 2");
}

#[tokio::test]
async fn the_keys_of_a_group_are_those_with_its_tag_or_in_a_cache_group_of_its_name() {
    let world = tagged();
    world.get("/a").await;
    for (name, found) in [("shop", 1), ("red", 1), ("blue", 1), ("sho", 0), ("red blue", 0), ("https://example.com", 0)]
    {
        assert_eq!(world.cache.keys_in_group(name).len(), found, "{name}");
    }
    assert_eq!(world.cache.keys_in_group("shop"), ["https://example.com/a"]);
}

#[tokio::test]
async fn who_asks_after_a_purge_has_no_answer_that_was_asked_for_before_it() {
    let purges: [fn(&World); 5] = [
        |world| assert!(!world.cache.purge(&uri("/a"))),
        |world| assert!(!world.cache.expire(&uri("/a"))),
        |world| world.cache.purge_prefix("https://example.com/"),
        |world| world.cache.purge_all(),
        |world| world.cache.purge_tag("t"),
    ];
    for (at, purge) in purges.into_iter().enumerate() {
        for head_has_come in [false, true] {
            let (pipe, body) = Pipe::new();
            let body = once(body);
            let origin = Origin::new(move |count, _| {
                let with = [("cache-control", "max-age=60"), ("cache-tag", "t")];
                Ok(if count == 0 { whole(200, &with, body()) } else { text(200, &with, "new") })
            });
            let world = World::new(shared().tag_fields([http::HeaderName::from_static("cache-tag")]), origin);
            world.origin.hold();
            if head_has_come {
                world.origin.let_through(1);
            }
            let before = world.spawn_get("/a", &[]);
            world.asked(1).await;
            settle().await;
            purge(&world);
            let after = world.spawn_get("/a", &[]);
            settle().await;
            world.origin.let_through(9);
            assert!(pipe.send("old"));
            drop(pipe);
            assert_eq!(before.await.expect("an answer").body, "old");
            assert_eq!(after.await.expect("an answer").body, "new", "{at}, {head_has_come}");
            // And those who come then wait for what was asked for last.
            assert_eq!((world.get("/a").await.body.as_str(), world.origin.count()), ("new", 2));
        }
    }
}

/// Sites purge by tag with each edit: what is fetched of other pages meanwhile stays one request for all who want it.
#[tokio::test]
async fn a_purge_of_a_tag_ends_no_waiting_for_what_turns_out_not_to_have_it() {
    for (status, first) in [(200, 0), (304, 1), (503, 0)] {
        let origin = Origin::new(move |count, _| {
            let with = [("cache-control", "max-age=60"), ("cache-tag", "mine"), ("etag", "\"1\"")];
            Ok(text(if count == first { status } else { 200 }, &with[usize::from(status == 503)..], &count.to_string()))
        });
        let world = World::new(shared().tag_fields([http::HeaderName::from_static("cache-tag")]), origin);
        if status == 304 {
            world.get("/a").await;
            world.advance(70);
        }
        world.origin.hold();
        let mut all = vec![world.spawn_get("/a", &[])];
        world.asked(first + 1).await;
        for tag in ["one", "two", "three"] {
            world.cache.purge_tag(tag);
            all.push(world.spawn_get("/a", &[]));
            settle().await;
        }
        world.origin.let_through(9);
        for got in all {
            assert_eq!(got.await.expect("an answer").body, "0", "{status}");
        }
        assert_eq!(world.origin.count(), first + 1, "{status}");
    }
}

/// As above, with the tag that it has, or had before a 304 took it away: between two others, and seen in the answer alone.
#[tokio::test]
async fn who_waits_since_a_purge_of_a_tag_that_it_has_is_given_what_was_asked_for_after_it() {
    for status in [200, 304, 503] {
        let first = usize::from(status == 304);
        let origin = Origin::new(move |count, _| {
            let tag = if status == 304 && count == first { "other" } else { "mine" };
            let with = [("cache-control", "max-age=60"), ("cache-tag", tag), ("etag", "\"1\"")];
            let (status, body) = if count == first { (status, "old") } else { (200, "new") };
            let body = if count < first { "old" } else { body };
            Ok(text(status, &with[usize::from(status == 503)..], body))
        });
        let world = World::new(shared().tag_fields([http::HeaderName::from_static("cache-tag")]), origin);
        if status == 304 {
            world.get("/a").await;
            world.advance(70);
        }
        world.origin.hold();
        let before = world.spawn_get("/a", &[]);
        world.asked(first + 1).await;
        world.cache.purge_tag("one");
        let between = world.spawn_get("/a", &[]);
        settle().await;
        world.cache.purge_tag("mine");
        let after: Vec<_> = (0..5).map(|_| world.spawn_get("/a", &[])).collect();
        settle().await;
        world.cache.purge_tag("two");
        settle().await;
        world.origin.let_through(9);
        assert_eq!(before.await.expect("an answer").body, "old", "{status}");
        assert_eq!(between.await.expect("an answer").body, "old", "{status}");
        for got in after {
            assert_eq!(got.await.expect("an answer").body, "new", "{status}");
        }
        assert_eq!(world.origin.count(), first + 2, "{status}");
    }
}

#[tokio::test]
async fn each_word_of_a_tag_field_purges_however_many_and_in_whatever_tongue() {
    let words = (0..1000).map(|number| format!("tag-{number}")).collect::<Vec<_>>().join(" ");
    let origin = Origin::new(move |count, _| {
        let with = [("cache-control", "max-age=60"), ("surrogate-key", words.as_str()), ("surrogate-key", "größe")];
        Ok(text(200, &with, &count.to_string()))
    });
    let world = World::new(shared().tag_fields([http::HeaderName::from_static("surrogate-key")]), origin);
    for (asked, tag) in (0..).zip(["tag-0", "tag-999", "größe"]) {
        assert_eq!(world.get("/a").await.brief(), format!("miss {asked}"));
        world.cache.purge_tag(tag);
    }
    assert_eq!(world.get("/a").await.brief(), "miss 3");
}

#[tokio::test]
async fn a_word_of_no_utf_8_takes_no_other_tag_of_its_line_along() {
    let origin = Origin::new(|count, _| {
        let mut response = text(200, MINUTE, &count.to_string());
        let value = http::HeaderValue::from_bytes(b"red \xff,blue").expect("a value");
        response.headers_mut().insert("surrogate-key", value);
        Ok(response)
    });
    let world = World::new(shared().tag_fields([http::HeaderName::from_static("surrogate-key")]), origin);
    for (count, tag) in ["red", "blue"].iter().enumerate() {
        assert_eq!(world.get("/a").await.brief(), format!("miss {count}"));
        world.cache.purge_tag(tag);
    }
    assert_eq!(world.get("/a").await.brief(), "miss 2");
}
