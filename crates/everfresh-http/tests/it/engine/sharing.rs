//! Who has an answer that another asked for, and who has it not; and that a wave stays one request.

use everfresh_http::Outcome;
use http::Uri;

use super::kit::{Origin, Pipe, World, once, settle, shared, text, whole};
use crate::world::Fields;

fn uri(path: &str) -> Uri {
    format!("https://example.com{path}").parse().expect("a URI")
}

/// What each of fifty got who asked while the origin was held.
async fn wave(world: &World, with: impl Fn(usize) -> Fields<'static>) -> Vec<String> {
    let all: Vec<_> = (0..50).map(|at| world.spawn_get("/a", with(at))).collect();
    settle().await;
    world.origin.let_through(99);
    let mut got = Vec::new();
    for one in all {
        got.push(one.await.expect("an answer").body);
    }
    got.dedup();
    got
}

#[tokio::test]
async fn a_304_that_may_not_be_kept_is_for_the_one_who_asked() {
    for (field, value) in [
        ("cache-control", "private, max-age=60"),
        ("cache-control", "no-store, max-age=60"),
        ("vary", "*"),
        ("cdn-cache-control", "private, max-age=60"),
    ] {
        let origin = Origin::new(move |count, _| {
            Ok(match count {
                0 => text(200, &[("cache-control", "max-age=9"), ("etag", "\"1\"")], "old"),
                1 => {
                    let own = [("cache-control", "max-age=60"), ("set-cookie", "id=first"), ("etag", "\"1\"")];
                    let mut fields = own.to_vec();
                    fields.retain(|(name, _)| *name != field);
                    fields.push((field, value));
                    text(304, &fields, "")
                }
                _ => text(200, &[(field, value)], &count.to_string()),
            })
        });
        let world = World::new(shared(), origin);
        world.get("/a").await;
        world.advance(10);
        world.origin.hold();
        let first = world.spawn_get("/a", &[]);
        world.asked(2).await;
        let second = world.spawn_get("/a", &[]);
        settle().await;
        world.origin.let_through(9);
        let (first, second) = (first.await.expect("an answer"), second.await.expect("an answer"));
        assert_eq!((first.brief().as_str(), first.field("set-cookie")), ("revalidated old", "id=first"), "{value}");
        assert!(!first.field("cache-status").contains("stored"), "{value}: {first:?}");
        assert_eq!((second.body.as_str(), second.field("set-cookie")), ("2", ""), "{field}: {value}");
    }
}

#[tokio::test]
async fn a_field_of_a_304_that_is_not_to_be_kept_reaches_the_one_who_asked_and_nobody_else() {
    for control in ["max-age=9, no-cache=\"set-cookie, x-own\"", "max-age=9, private=\"set-cookie, x-own\""] {
        let origin = Origin::new(move |count, asked| {
            let id = format!("id={count}");
            let with = [("cache-control", control), ("etag", "\"1\""), ("set-cookie", &id), ("set-cookie", "b=2")];
            let known = asked.headers.contains_key("if-none-match");
            Ok(text(if known { 304 } else { 200 }, &with, if known { "" } else { "body" }))
        });
        let world = World::new(shared(), origin);
        let cookies = |got: &super::kit::Got| got.headers.get_all("set-cookie").iter().cloned().collect::<Vec<_>>();
        for round in ["id=0", "id=1", "id=2"] {
            assert_eq!(cookies(&world.get("/a").await), [round, "b=2"], "{control}");
            let hit = world.get("/a").await;
            assert_eq!((hit.brief().as_str(), cookies(&hit).len()), ("hit body", 0), "{control}");
            world.advance(10);
        }
        // Also to one who has it himself.
        let got = world.get_with("/a", &[("if-none-match", "\"1\"")]).await;
        assert_eq!((got.status, cookies(&got).len()), (304, 2), "{control}");
        // And where it was the first to ask, and the 304 is ours.
        world.cache.purge_all();
        let first = world.get_with("/a", &[("if-none-match", "\"1\"")]).await;
        assert_eq!((first.status, cookies(&first).len()), (304, 2), "{control}");
    }
}

#[tokio::test]
async fn one_with_credentials_neither_holds_up_a_wave_without_nor_lets_it_go_apart() {
    let origin = Origin::new(|count, asked| {
        let who = if asked.headers.contains_key("authorization") { "own" } else { "all" };
        Ok(text(200, &[("cache-control", "max-age=60")], &format!("{who} {count}")))
    });
    let world = World::new(shared(), origin);
    world.origin.hold();
    let own = world.spawn_get("/a", &[("authorization", "Basic eA==")]);
    world.asked(1).await;
    assert_eq!(wave(&world, |_| &[]).await, ["all 1"]);
    assert_eq!(own.await.expect("an answer").body, "own 0");
    assert_eq!(world.origin.count(), 2);
    // Nor does his answer, which nobody may share, set the next wave apart.
    world.cache.purge(&uri("/a"));
    world.get_with("/a", &[("authorization", "Basic eA==")]).await;
    world.origin.hold_again();
    assert_eq!(wave(&world, |_| &[]).await, ["all 3"]);
    assert_eq!(world.origin.count(), 4);
}

#[tokio::test]
async fn what_credentials_bring_takes_nothing_from_those_without() {
    for (status, control) in [(200, "private"), (200, "no-store"), (401, "no-store"), (200, "max-age=0")] {
        let origin = Origin::new(move |count, asked| {
            let own = asked.headers.contains_key("authorization");
            let (status, control) = if own { (status, control) } else { (200, "max-age=9") };
            Ok(text(status, &[("cache-control", control), ("etag", &format!("\"{own}\""))], &count.to_string()))
        });
        let world = World::new(shared(), origin);
        let credentials: Fields<'static> = &[("authorization", "Basic eA==")];
        world.get_with("/a", credentials).await;
        world.origin.hold();
        assert_eq!(wave(&world, |_| &[]).await, ["1"], "{status} {control}");
        // Nor is what is stored for all over when somebody has another answer.
        world.advance(10);
        world.get_with("/a", credentials).await;
        assert_eq!(world.cache.inspect(&uri("/a")).expect("stored").variants, 1, "{status} {control}");
        world.origin.hold_again();
        assert_eq!(wave(&world, |_| &[]).await, ["3"], "{status} {control}");
    }
}

#[tokio::test]
async fn those_with_credentials_are_one_request_where_the_answer_is_for_all() {
    let origin = Origin::counting(&[("cache-control", "public, max-age=60")]);
    let world = World::new(shared(), origin);
    world.origin.hold();
    let who: [Fields<'static>; 2] = [&[("authorization", "Basic eA==")], &[("authorization", "Basic eQ==")]];
    assert_eq!(wave(&world, |at| who[at % 2]).await, ["0"]);
    assert_eq!(world.origin.count(), 1);
}

#[tokio::test]
async fn while_a_part_comes_those_who_want_the_whole_are_one_request() {
    let (pipe, body) = Pipe::new();
    let body = once(body);
    let origin = Origin::new(move |count, asked| {
        let with = [("cache-control", "max-age=60"), ("etag", "\"1\"")];
        Ok(if asked.headers.contains_key("range") {
            whole(206, &[with[0], with[1], ("content-range", "bytes 0-3/10")], body())
        } else {
            text(200, &with, &count.to_string())
        })
    });
    let world = World::new(shared(), origin);
    let part = world.spawn_get("/a", &[("range", "bytes=0-3")]);
    world.asked(1).await;
    assert!(pipe.send("01"));
    settle().await;
    world.origin.hold();
    assert_eq!(wave(&world, |_| &[]).await, ["1"]);
    assert!(pipe.send("23"));
    drop(pipe);
    assert_eq!(part.await.expect("an answer").body, "0123");
    assert_eq!(world.origin.count(), 2);
}

#[tokio::test]
async fn a_304_about_another_variant_answers_all_who_asked_the_same() {
    let origin = Origin::new(|_, asked| {
        let with = [("cache-control", "max-age=60"), ("etag", "\"1\""), ("vary", "accept-language")];
        Ok(text(if asked.headers.contains_key("if-none-match") { 304 } else { 200 }, &with, "all"))
    });
    let world = World::new(shared(), origin);
    world.get_with("/a", &[("accept-language", "de")]).await;
    world.origin.hold();
    assert_eq!(wave(&world, |_| &[("accept-language", "fr")]).await, ["all"]);
    assert_eq!(world.origin.count(), 2);
}

#[tokio::test]
async fn a_stored_part_that_is_all_there_is_answers_and_breaks_no_request_for_the_whole() {
    for told in ["bytes 0-9/10", "bytes 0-9/*"] {
        let origin = Origin::new(move |_, asked| {
            let with = [("cache-control", "max-age=60"), ("etag", "\"1\"")];
            Ok(match asked.headers.get("range").map(|range| range.to_str().expect("text")) {
                Some("bytes=0-") => text(206, &[with[0], with[1], ("content-range", told)], "0123456789"),
                Some(_) => text(416, &[("content-range", "bytes */10")], ""),
                None => text(200, &with, "0123456789"),
            })
        });
        let world = World::new(shared(), origin);
        let got = world.get_with("/a", &[("range", "bytes=0-")]).await;
        assert_eq!((got.status, got.body.as_str()), (206, "0123456789"));
        let got = world.get("/a").await;
        assert_eq!((got.status, got.body.as_str()), (200, "0123456789"), "{told}");
        assert_eq!(world.get("/a").await.brief(), "hit 0123456789");
    }
}

#[tokio::test]
async fn a_head_asked_before_an_expiry_makes_nothing_fresh_after_it() {
    let origin = Origin::new(|_, _| Ok(text(200, &[("cache-control", "max-age=60"), ("etag", "\"1\"")], "")));
    let world = World::new(shared(), origin);
    world.get("/a").await;
    world.advance(70);
    world.origin.hold();
    let own = world.clone();
    let head = tokio::spawn(async move { own.ask("HEAD", "/a", &[]).await.expect("a response").status() });
    world.asked(2).await;
    assert!(world.cache.expire(&uri("/a")));
    world.origin.let_through(9);
    assert_eq!(head.await.expect("an answer"), 200);
    settle().await;
    assert_ne!(world.get("/a").await.outcome(), Outcome::Hit);
}

#[tokio::test]
async fn what_was_expired_stands_in_no_longer_than_its_window() {
    let origin = Origin::new(|count, _| {
        let with = [("cache-control", "max-age=3600, stale-if-error=60")];
        if count == 0 { Ok(text(200, &with, "old")) } else { Ok(text(503, &[], "down")) }
    });
    let world = World::new(shared(), origin);
    world.get("/a").await;
    assert!(world.cache.expire(&uri("/a")));
    world.advance(59);
    assert_eq!(world.get("/a").await.brief(), "fallback old");
    world.advance(2);
    assert_eq!(world.get("/a").await.body, "down");
}

#[tokio::test]
async fn a_purge_of_a_tag_that_a_304_takes_away_wins() {
    let origin = Origin::new(|count, _| {
        let tag = if count == 0 { "old" } else { "new" };
        let with = [("cache-control", "max-age=9"), ("etag", "\"1\""), ("cache-tag", tag)];
        Ok(text(if count == 1 { 304 } else { 200 }, &with, &count.to_string()))
    });
    let world = World::new(shared().tag_fields([http::HeaderName::from_static("cache-tag")]), origin);
    world.get("/a").await;
    world.advance(10);
    world.origin.hold();
    let got = world.spawn_get("/a", &[]);
    world.asked(2).await;
    world.cache.purge_tag("old");
    world.origin.let_through(9);
    assert_eq!(got.await.expect("an answer").body, "0", "who waited still gets it");
    assert_eq!(world.get("/a").await.brief(), "miss 2");
}

#[tokio::test]
async fn an_answer_with_a_cookie_is_shared_only_where_the_origin_says_for_how_long() {
    let modified = crate::world::date(-100_000);
    for (control, shared_by) in [("", false), ("public", true), ("max-age=60", true)] {
        let modified = modified.clone();
        let origin = Origin::new(move |count, _| {
            let mut with = vec![("last-modified", modified.as_str()), ("set-cookie", "id=1")];
            with.extend((!control.is_empty()).then_some(("cache-control", control)));
            Ok(text(200, &with, &count.to_string()))
        });
        let world = World::new(shared(), origin);
        world.get("/a").await;
        let second = world.get("/a").await;
        assert_eq!(second.outcome() == Outcome::Hit, shared_by, "{control}");
        assert!(!world.origin.last().headers.contains_key("if-modified-since"), "{control}");
    }
}

#[tokio::test]
async fn what_was_stored_for_credentials_is_over_once_an_answer_for_them_is_not_for_all() {
    // What came first may be shared with all although it came for credentials (RFC 9111 §3.5); what comes later may not.
    let alice: Fields<'static> = &[("authorization", "alice"), ("cache-control", "no-cache")];
    let origin = Origin::new(|count, _| {
        let control = if count == 0 { "public, max-age=60" } else { "max-age=60" };
        Ok(text(200, &[("cache-control", control)], &count.to_string()))
    });
    let world = World::new(shared(), origin);
    world.get_with("/a", alice).await;
    assert_eq!(world.get("/a").await.brief(), "hit 0");
    assert_eq!(world.get_with("/a", alice).await.body, "1");
    assert_eq!(world.get("/a").await.brief(), "miss 2");
    // Of what came for nobody's credentials it says nothing.
    assert_eq!(world.get_with("/a", alice).await.body, "3");
    assert_eq!(world.get("/a").await.brief(), "hit 2");
}

#[tokio::test]
async fn a_304_for_somebodys_credentials_leaves_what_is_stored_for_all() {
    let origin = Origin::new(|count, asked| {
        let with = [("cache-control", "max-age=9, stale-if-error=60"), ("etag", "\"1\"")];
        Ok(match count {
            0 => text(200, &with, "for all"),
            1 if asked.headers.contains_key("authorization") => text(304, &with, ""),
            _ => text(500, &[], "down"),
        })
    });
    let world = World::new(shared(), origin);
    world.get("/a").await;
    world.advance(10);
    assert_eq!(world.get_with("/a", &[("authorization", "alice")]).await.brief(), "revalidated for all");
    let got = world.get("/a").await;
    assert_eq!(world.origin.last().headers["if-none-match"], "\"1\"");
    assert_eq!(got.brief(), "fallback for all");
}
