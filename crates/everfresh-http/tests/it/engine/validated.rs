//! RFC 9111 §4.3.4: which of several stored responses a 304 lets answer.

use everfresh_http::Outcome;

use super::kit::{Origin, World, read, settle, shared, text, until};
use crate::world::{Fields, date};

const WEAK: (&str, &str) = ("etag", "W/\"1\"");
const STRONG: (&str, &str) = ("etag", "\"1\"");
const MODIFIED: (&str, &str) = ("last-modified", "Sun, 06 Nov 1994 08:00:00 GMT");

/// Answers by the field that it varies on, dated by the number of the request, all under the same validators.
fn varying(on: &'static str, validators: Fields<'static>, coded: bool) -> Origin {
    Origin::new(move |count, asked| {
        let now = date(20 * count as i64);
        let mut with = vec![("cache-control", "max-age=10"), ("vary", on), ("date", &now)];
        with.extend(validators);
        let chosen = asked.headers.get(on).map_or("", |value| value.to_str().expect("text")).to_owned();
        let asks = |name| asked.headers.get(name).is_some_and(|sent| validators.iter().any(|(_, own)| sent == own));
        if asks("if-none-match") || asks("if-modified-since") {
            return Ok(text(304, &with, ""));
        }
        if coded && !chosen.is_empty() {
            with.push(("content-encoding", &chosen));
        }
        Ok(text(200, &with, &format!("{chosen} body")))
    })
}

#[tokio::test]
async fn a_304_answers_with_what_the_request_selects_although_others_have_its_validators() {
    for (on, values) in [("accept-language", ["de", "fr"]), ("accept-encoding", ["", "gzip"])] {
        for validators in [&[WEAK][..], &[MODIFIED], &[WEAK, MODIFIED]] {
            let world = World::new(shared(), varying(on, validators, on == "accept-encoding"));
            for value in values {
                world.get_with("/a", &[(on, value)]).await;
                world.advance(20);
            }
            for value in values {
                let got = world.get_with("/a", &[(on, value)]).await;
                assert_eq!(got.brief(), format!("revalidated {value} body"), "{on} {validators:?}");
                assert_eq!(got.headers.contains_key("content-encoding"), value == "gzip", "{validators:?}");
            }
        }
    }
}

/// RFC 9111 §4.1: what the origin has chosen for a request, it has chosen for those that ask the same.
#[tokio::test]
async fn a_variant_that_a_304_chose_is_a_hit_for_the_next_who_asks_so() {
    let vary = ("vary", "accept-language");
    let origin = Origin::new(move |_, asked| {
        let with = [("cache-control", "max-age=60"), vary, STRONG, ("surrogate-key", "all")];
        let known = asked.headers.get("if-none-match").is_some_and(|tag| tag == "\"1\"");
        Ok(text(if known { 304 } else { 200 }, &with, &"all".repeat(1000)))
    });
    let builder = || shared().tag_fields([http::HeaderName::from_static("surrogate-key")]);
    let world = World::new(builder(), origin.clone());
    let ask = async |language: &'static str| world.get_with("/a", &[("accept-language", language)]).await.outcome();
    assert_eq!(ask("de").await, Outcome::Miss);
    let weight = world.cache.stats().weight;
    for language in ["de-AT", "fr", "x"] {
        assert_eq!(ask(language).await, Outcome::Revalidated, "{language}");
        assert_eq!(ask(language).await, Outcome::Hit, "{language}");
    }
    assert_eq!((ask("de").await, world.origin.count()), (Outcome::Hit, 4));
    assert!(world.cache.stats().weight < 4 * weight - 2 * 3000, "they have one body");
    world.cache.purge_tag("all");
    assert_eq!(ask("fr").await, Outcome::Miss);
    assert_eq!(ask("de").await, Outcome::Revalidated);

    // Nothing of it is there if it was purged meanwhile.
    let world = World::new(builder(), origin);
    world.get_with("/a", &[("accept-language", "de")]).await;
    world.origin.hold();
    let got = world.spawn_get("/a", &[("accept-language", "fr")]);
    until(|| world.origin.count() == 6 + 2).await;
    world.cache.purge_tag("all");
    world.origin.let_through(9);
    assert_eq!(got.await.expect("an answer").outcome(), Outcome::Revalidated);
    assert_eq!(world.cache.stats().pages, 0);
}

#[tokio::test]
async fn a_tag_that_other_codings_may_share_is_not_offered_for_them() {
    for validators in [&[WEAK][..], &[STRONG]] {
        let world = World::new(shared(), varying("accept-encoding", validators, true));
        world.get_with("/a", &[("accept-encoding", "gzip")]).await;
        let got = world.get("/a").await;
        assert_eq!((got.brief().as_str(), got.field("content-encoding")), ("miss  body", ""), "{validators:?}");
    }
}

#[tokio::test]
async fn a_304_to_a_get_is_never_answered_from_a_head() {
    for validator in [WEAK, STRONG, MODIFIED] {
        let origin = Origin::new(move |count, asked| {
            let now = date(20 * count as i64);
            let with = [("cache-control", "max-age=10"), validator, ("date", &now), ("content-length", "10")];
            let known = ["if-none-match", "if-modified-since"].iter().any(|name| asked.headers.contains_key(*name));
            Ok(match asked.method.as_str() {
                // It knows no conditions there, as many do.
                "HEAD" => text(200, &with, ""),
                _ if known => text(304, &with[..3], ""),
                _ => text(200, &with, "0123456789"),
            })
        });
        let world = World::new(shared(), origin);
        world.get("/a").await;
        world.advance(20);
        read(world.ask("HEAD", "/a", &[]).await.expect("a response")).await;
        settle().await;
        world.advance(20);
        assert_eq!(world.get("/a").await.brief(), "revalidated 0123456789", "{validator:?}");
        let hit = world.get("/a").await;
        assert_eq!((hit.outcome(), hit.body.as_str()), (Outcome::Hit, "0123456789"), "{validator:?}");
    }
}

/// nginx weakens the tag of what it compresses and compares weakly, but names the strong one in its 304; others send tags without
/// quotes. Each renewal was two requests, and a refresh behind a reader never came to an end.
#[tokio::test]
async fn a_304_that_spells_the_tag_in_its_own_way_renews_what_was_asked_about() {
    for (told, said) in [("W/\"1\"", "\"1\""), ("1", "1")] {
        let origin = Origin::new(move |count, asked| {
            let control = ("cache-control", "max-age=10, stale-while-revalidate=15");
            let with = |tag| [control, ("etag", tag), MODIFIED];
            let known = asked.headers.get("if-modified-since").is_some_and(|since| since == MODIFIED.1);
            Ok(if known { text(304, &with(said), "") } else { text(200, &with(told), &count.to_string()) })
        });
        let world = World::new(shared(), origin);
        world.get("/a").await;
        world.advance(30);
        assert_eq!((world.get("/a").await.brief().as_str(), world.origin.count()), ("revalidated 0", 2), "{said}");
        world.advance(15);
        assert_eq!(world.get("/a").await.outcome(), Outcome::Stale);
        world.refreshed(1).await;
        let got = world.get("/a").await;
        assert_eq!((got.brief().as_str(), got.field("etag"), world.origin.count()), ("hit 0", told, 3), "{said}");
    }
}

#[tokio::test]
async fn a_304_that_names_the_strong_tag_gives_no_other_coding_to_who_has_one() {
    let origin = Origin::new(|_, asked| {
        let zipped = asked.headers.contains_key("accept-encoding");
        let mut with = vec![("cache-control", "max-age=10"), ("vary", "accept-encoding"), MODIFIED];
        if asked.headers.get("if-none-match").is_some() {
            with.push(STRONG);
            return Ok(text(304, &with, ""));
        }
        with.extend(if zipped { &[WEAK, ("content-encoding", "gzip")][..] } else { &[STRONG] });
        Ok(text(200, &with, if zipped { "zipped" } else { "plain" }))
    });
    let world = World::new(shared(), origin);
    let gzip = &[("accept-encoding", "gzip")];
    world.get_with("/a", gzip).await;
    world.get("/a").await;
    world.advance(20);
    let got = world.get_with("/a", gzip).await;
    assert_eq!((got.brief().as_str(), got.field("content-encoding")), ("revalidated zipped", "gzip"));
    assert_eq!(world.get_with("/a", gzip).await.brief(), "hit zipped");
    assert_eq!(world.get("/a").await.brief(), "revalidated plain");
}

/// As where a server answers by the date alone, or compresses behind its tags and lets others through.
#[tokio::test]
async fn a_304_that_is_about_something_else_costs_one_request_more_for_all_and_ends_no_refresh() {
    let origin = Origin::new(|count, asked| {
        let control = ("cache-control", "max-age=10, stale-while-revalidate=15");
        let known = asked.headers.contains_key("if-none-match");
        let with = |tag| [control, ("etag", tag), MODIFIED];
        Ok(if known { text(304, &with("\"2\""), "") } else { text(200, &with("\"1\""), &count.to_string()) })
    });
    let world = World::new(shared(), origin);
    world.get("/a").await;
    world.advance(30);
    world.origin.hold();
    let all: Vec<_> = (0..20).map(|_| world.spawn_get("/a", &[])).collect();
    until(|| world.cache.stats().waited == 19).await;
    world.origin.let_through(usize::MAX >> 4);
    for got in all {
        assert_eq!(got.await.expect("an answer").body, "2");
    }
    assert_eq!(world.origin.count(), 3);
    world.advance(15);
    assert_eq!(world.get("/a").await.outcome(), Outcome::Stale);
    world.refreshed(1).await;
    assert_eq!((world.get("/a").await.brief().as_str(), world.origin.count()), ("hit 4", 5));
}
