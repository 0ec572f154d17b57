//! What is stored, and how it is served.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use everfresh_http::engine::{KeptBody, RefreshEnding, Uncacheable};
use everfresh_http::rfc9111::{Bypass, WhyNot};
use everfresh_http::{HttpCache, Outcome};
use http::HeaderValue;
use http_body_util::{BodyExt, Full};

use super::kit::{Origin, Pipe, World, once, read, settle, shared, text, until, whole};

const MINUTE: &[(&str, &str)] = &[("cache-control", "max-age=60")];

#[tokio::test]
async fn a_miss_is_stored_and_then_a_hit_until_its_lifetime_ends() {
    let world = World::new(shared(), Origin::counting(MINUTE));
    let first = world.get("/a").await;
    assert_eq!(first.brief(), "miss 0");
    assert_eq!(first.field("cache-status"), "everfresh; fwd=uri-miss; fwd-status=200; stored; ttl=60");
    world.advance(59);
    let hit = world.get("/a").await;
    assert_eq!((hit.brief().as_str(), hit.field("age")), ("hit 0", "59"));
    assert_eq!(hit.field("cache-status"), "everfresh; hit; ttl=1");
    world.advance(1);
    assert_eq!(world.get("/a").await.brief(), "miss 1");
}

#[tokio::test]
async fn a_hit_shares_the_stored_bytes() {
    let world = World::new(shared(), Origin::counting(MINUTE));
    world.get("/a").await;
    let mut at = Vec::new();
    for _ in 0..2 {
        let mut body = world.ask("GET", "/a", &[]).await.expect("a response").into_body();
        at.push(body.frame().await.expect("a frame").expect("fine").into_data().expect("data").as_ptr());
    }
    assert_eq!(at[0], at[1], "the body was copied");
}

#[tokio::test]
async fn a_body_is_kept_where_its_keeper_says_and_weighs_what_it_takes_there() {
    const KEPT: &[u8] = b"0 kept elsewhere";
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let keeping = shared().body_keeper(move |pieces| {
        counted.fetch_add(1, Ordering::SeqCst);
        let whole = pieces.concat();
        match whole.as_slice() {
            b"kept" => Some(KeptBody { bytes: Bytes::from_static(&KEPT[2..6]), room: 10_000 }),
            b"wrong" => Some(KeptBody { bytes: Bytes::from_static(b"too long"), room: 8 }),
            b"panic" => panic!("a keeper that fails"),
            _ => None,
        }
    });
    let origin = Origin::new(|_, asked| Ok(text(200, MINUTE, &asked.uri.path()[1..])));
    let world = World::new(keeping, origin);
    world.get("/kept").await;
    let kept = world.cache.stats().weight;
    assert!(kept > 10_000, "{kept}");
    for path in ["/wrong", "/panic", "/other"] {
        world.get(path).await;
    }
    assert!(world.cache.stats().weight - kept < 10_000, "what is not kept elsewhere weighs as ever");
    for path in ["/kept", "/wrong", "/panic", "/other"] {
        assert_eq!(world.get(path).await.brief(), format!("hit {}", &path[1..]));
    }
    let mut body = world.ask("GET", "/kept", &[]).await.expect("a response").into_body();
    let bytes = body.frame().await.expect("a frame").expect("fine").into_data().expect("data");
    assert_eq!(bytes.as_ptr(), KEPT[2..].as_ptr(), "the body was copied");
    assert_eq!(asked.load(Ordering::SeqCst), 4, "once for each body that is stored");
}

#[tokio::test]
async fn a_request_without_directives_is_answered_as_one_whose_fields_ask_for_nothing() {
    // A directive that nobody knows (RFC 9111 §5.2.3) takes the long way through all rules.
    let unknown = ("cache-control", "unknown");
    for (vary, language) in [("accept", "en"), ("accept-language", "de")] {
        let fields =
            [("cache-control", "max-age=60"), ("vary", vary), ("cache-status", "other; hit"), ("etag", "\"1\"")];
        let world = World::new(shared(), Origin::new(move |count, _| Ok(text(200, &fields, &count.to_string()))));
        world.get_with("/a", &[("accept-language", "de")]).await;
        world.advance(7);
        for method in ["GET", "HEAD"] {
            let plain = world.ask(method, "/a", &[("accept-language", language)]).await.expect("an answer");
            let long = world.ask(method, "/a", &[("accept-language", language), unknown]).await.expect("an answer");
            let (plain, long) = (read(plain).await, read(long).await);
            assert_eq!((plain.outcome(), long.outcome()), (Outcome::Hit, Outcome::Hit));
            assert_eq!((plain.status, &plain.body, &plain.headers), (long.status, &long.body, &long.headers));
            assert_eq!(plain.field("age"), "7");
        }
    }
}

#[tokio::test]
async fn an_expired_response_is_validated_and_renewed_by_a_304() {
    let origin = Origin::new(|count, asked| {
        if asked.headers.get("if-none-match").is_some_and(|tag| tag == "\"1\"") {
            return Ok(text(304, &[("etag", "\"1\""), ("cache-control", "max-age=60"), ("x-n", "new")], ""));
        }
        Ok(text(200, &[("etag", "\"1\""), ("cache-control", "max-age=60")], &count.to_string()))
    });
    let world = World::new(shared(), origin);
    world.get("/a").await;
    world.advance(61);
    let again = world.get("/a").await;
    assert_eq!((again.brief().as_str(), again.status, again.field("x-n")), ("revalidated 0", 200, "new"));
    assert_eq!(again.field("cache-status"), "everfresh; fwd=stale; fwd-status=304; stored; ttl=60");
    assert_eq!(world.get("/a").await.brief(), "hit 0");
}

#[tokio::test]
async fn what_is_stale_is_not_told_as_fresh_whatever_the_client_asks_for() {
    for (after, expired, asked, told) in [
        (5, false, "no-cache", "request"),
        (5, false, "max-age=1", "request"),
        (5, false, "min-fresh=6", "request"),
        (10, false, "no-cache", "stale"),
        (10, false, "max-age=0", "stale"),
        (10, false, "min-fresh=1", "stale"),
        (5, true, "no-cache", "stale"),
    ] {
        let world = World::new(shared(), Origin::counting(&[("cache-control", "max-age=10"), ("etag", "\"1\"")]));
        world.get("/a").await;
        world.advance(after);
        if expired {
            world.cache.expire_all();
        }
        let got = world.get_with("/a", &[("cache-control", asked)]).await;
        let status = format!("everfresh; fwd={told}; fwd-status=200; stored; ttl=10");
        assert_eq!(got.field("cache-status"), status, "{asked} after {after} s");
    }
}

#[tokio::test]
async fn an_expired_response_is_replaced_by_a_200() {
    let origin = Origin::counting(&[("etag", "\"1\""), ("cache-control", "max-age=60")]);
    let world = World::new(shared(), origin);
    world.get("/a").await;
    world.advance(61);
    assert_eq!(world.get("/a").await.brief(), "replaced 1");
    assert_eq!(world.get("/a").await.brief(), "hit 1");
}

#[tokio::test]
async fn a_client_with_its_own_copy_gets_304_and_one_with_a_range_206() {
    let with: &[_] = &[("etag", "\"1\""), ("cache-control", "max-age=60")];
    let world = World::new(shared(), Origin::new(move |_, _| Ok(text(200, with, "0123456789"))));
    let first = world.get_with("/a", &[("if-none-match", "\"1\"")]).await;
    assert_eq!((first.status, first.body.as_str()), (304, ""), "its condition was judged here");
    assert!(world.origin.last().headers.get("if-none-match").is_none(), "and the whole was fetched");
    until(|| world.cache.stats().pages == 1).await;
    assert_eq!(world.get_with("/a", &[("if-none-match", "\"1\"")]).await.status, 304);
    let part = world.get_with("/a", &[("range", "bytes=2-4")]).await;
    assert_eq!((part.status, part.body.as_str(), part.field("content-range")), (206, "234", "bytes 2-4/10"));
    let parts = world.get_with("/a", &[("range", "bytes=0-1,8-9")]).await;
    assert!(parts.status == 206 && parts.body.contains("01") && parts.body.contains("89"));
    assert_eq!(world.origin.count(), 1);
    let head = read(world.ask("HEAD", "/a", &[]).await.expect("a response")).await;
    assert_eq!((head.brief().as_str(), world.origin.count()), ("hit ", 1));
}

/// Its condition was taken out to fetch what all may have; that it turned out to be for nobody else changes nothing for it.
#[tokio::test]
async fn a_client_with_its_own_copy_gets_304_of_what_is_not_stored_too() {
    let copies: [(&str, &str); 2] =
        [("if-none-match", "\"1\""), ("if-modified-since", "Sun, 06 Nov 1994 08:00:00 GMT")];
    for control in ["no-store", "private", "max-age=60"] {
        for copy in copies {
            let with = [
                ("cache-control", control),
                ("etag", "\"1\""),
                ("last-modified", "Sun, 06 Nov 1994 08:00:00 GMT"),
                ("set-cookie", "id=1"),
                ("content-type", "text/plain"),
            ];
            let origin = Origin::new(move |_, asked| {
                let known = copies.iter().any(|(name, _)| asked.headers.contains_key(*name));
                Ok(if known { text(304, &with, "") } else { text(200, &with, "a large body") })
            });
            let world = World::new(shared().max_body(5), origin);
            for _ in 0..2 {
                let got = world.get_with("/a", &[copy]).await;
                assert_eq!((got.status, got.body.as_str()), (304, ""), "{control} {copy:?}");
                assert_eq!((got.field("etag"), got.field("set-cookie")), ("\"1\"", "id=1"), "{control}");
            }
            let other = world.get_with("/a", &[("if-none-match", "\"2\"")]).await;
            assert!(matches!(other.status, 200 | 304), "the origin's own word");
            assert_eq!(world.get("/a").await.body, "a large body");
            assert_eq!(world.cache.stats().pages, 0);
        }
    }
}

/// RFC 9110 §13.2.1: a condition is about an answer that succeeds.
#[tokio::test]
async fn an_error_with_the_tag_that_the_client_has_stays_an_error() {
    for (control, asked) in [("no-store", 2), ("max-age=60", 1)] {
        let with = [("cache-control", control), ("etag", "\"1\"")];
        let world = World::new(shared(), Origin::new(move |_, _| Ok(text(404, &with, "none"))));
        for _ in 0..2 {
            let got = world.get_with("/a", &[("if-none-match", "\"1\"")]).await;
            assert_eq!((got.status, got.body.as_str()), (404, "none"), "{control}");
            let wanted = usize::from(control != "no-store");
            until(|| world.cache.stats().pages == wanted).await;
        }
        assert_eq!(world.origin.count(), asked, "{control}");
    }
}

#[tokio::test]
async fn parts_are_stored_and_joined() {
    let origin = Origin::new(|_, asked| {
        let whole = "0123456789";
        let range = asked.headers.get("range").map(|range| range.to_str().expect("text").to_owned());
        let with = |range: &str| {
            vec![
                ("etag", "\"1\"".to_owned()),
                ("cache-control", "max-age=60".to_owned()),
                ("content-range", range.to_owned()),
            ]
        };
        let (range, body) = match range.as_deref() {
            Some("bytes=0-4") => (with("bytes 0-4/10"), &whole[..5]),
            Some("bytes=5-9") => (with("bytes 5-9/10"), &whole[5..]),
            other => panic!("asked for {other:?}"),
        };
        let range: Vec<(&str, &str)> = range.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Ok(text(206, &range, body))
    });
    let world = World::new(shared(), origin);
    assert_eq!(world.get_with("/a", &[("range", "bytes=0-4")]).await.body, "01234");
    assert_eq!(world.get_with("/a", &[("range", "bytes=1-3")]).await.brief(), "hit 123");
    assert_eq!(world.get_with("/a", &[("range", "bytes=5-9")]).await.body, "56789");
    assert_eq!(world.get("/a").await.brief(), "hit 0123456789");
    assert_eq!(world.origin.count(), 2);
}

#[tokio::test]
async fn variants_are_apart_and_bounded() {
    let with: &[_] = &[("cache-control", "max-age=60"), ("vary", "x-who, x-what")];
    let world = World::new(shared().max_variants(2), Origin::counting(with));
    // ByVary of the gem runs values together: "xy" + "z" is not "x" + "yz".
    assert_eq!(world.get_with("/a", &[("x-who", "xy"), ("x-what", "z")]).await.brief(), "miss 0");
    assert_eq!(world.get_with("/a", &[("x-who", "x"), ("x-what", "yz")]).await.brief(), "miss 1");
    assert_eq!(world.get_with("/a", &[("x-who", "xy"), ("x-what", "z")]).await.brief(), "hit 0");
    world.advance(1);
    let third = world.get_with("/a", &[("x-who", "3")]).await;
    assert!(third.field("cache-status").contains("fwd=vary-miss"), "{third:?}");
    let page = world.cache.inspect(&"https://example.com/a".parse().expect("a URI")).expect("a page");
    assert_eq!(page.variants, 2);
}

#[tokio::test]
async fn a_default_response_without_vary_takes_nothing_from_who_has_his_own() {
    let origin = Origin::new(|_, asked| {
        Ok(match asked.headers.get("accept-language") {
            Some(_) => text(200, &[("cache-control", "max-age=60"), ("vary", "accept-language")], "deutsch"),
            None => text(200, &[("cache-control", "max-age=60")], "default"),
        })
    });
    let world = World::new(shared(), origin);
    let german = &[("accept-language", "de")];
    assert_eq!(world.get_with("/a", german).await.brief(), "miss deutsch");
    world.advance(30);
    assert_eq!(world.get("/a").await.brief(), "miss default");
    assert_eq!(world.get_with("/a", german).await.brief(), "hit deutsch");
    world.advance(45);
    assert_eq!(world.get_with("/a", german).await.body, "deutsch", "asked for anew");
    assert_eq!(world.get_with("/a", german).await.brief(), "hit deutsch");
    assert_eq!(world.get("/a").await.brief(), "hit default");
}

#[tokio::test]
async fn variants_written_at_once_are_all_kept() {
    let with: &[_] = &[("cache-control", "max-age=60"), ("vary", "x-who")];
    let world = World::new(shared(), Origin::counting(with));
    world.origin.hold();
    let who: [&'static [(&str, &str)]; 5] =
        [&[("x-who", "1")], &[("x-who", "2")], &[("x-who", "3")], &[("x-who", "4")], &[("x-who", "5")]];
    let all: Vec<_> = who.into_iter().map(|who| world.spawn_get("/a", who)).collect();
    world.asked(1).await;
    world.origin.let_through(5);
    for got in all {
        got.await.expect("an answer");
    }
    assert_eq!(world.origin.count(), 5);
    for who in who {
        assert_eq!(world.get_with("/a", who).await.outcome(), Outcome::Hit);
    }
}

#[tokio::test]
async fn what_may_not_be_stored_says_why() {
    let world = World::new(shared(), Origin::counting(&[("cache-control", "no-store")]));
    assert_eq!(world.get("/a").await.outcome(), Outcome::Uncacheable(Uncacheable::Rule(WhyNot::NoStore)));
    let world = World::new(shared(), Origin::counting(&[("cache-control", "private, max-age=60")]));
    assert_eq!(world.get("/a").await.outcome(), Outcome::Uncacheable(Uncacheable::Rule(WhyNot::Private)));
    assert_eq!(
        world.get_with("/a", &[("cache-control", "no-store")]).await.outcome(),
        Outcome::Bypass(Bypass::NoStore)
    );
    let world =
        World::new(HttpCache::builder().private(), Origin::counting(&[("cache-control", "private, max-age=60")]));
    assert_eq!(world.get("/a").await.outcome(), Outcome::Miss);
}

#[tokio::test]
async fn a_shared_cache_gives_nobody_what_was_fetched_with_anothers_credentials() {
    let world = World::new(shared(), Origin::counting(MINUTE));
    let alice: &[_] = &[("authorization", "alice")];
    assert_eq!(
        world.get_with("/a", alice).await.outcome(),
        Outcome::Uncacheable(Uncacheable::Rule(WhyNot::Authorization))
    );
    assert_eq!(world.get_with("/a", &[("authorization", "bob")]).await.body, "1");
    assert_eq!(world.get("/a").await.body, "2");
}

#[tokio::test]
async fn a_body_beyond_max_body_is_passed_on_and_not_stored() {
    for told in [true, false] {
        let origin = Origin::new(move |_, _| {
            let (pipe, body) = Pipe::new();
            pipe.send("12345");
            pipe.send("67890");
            let with: &[_] = if told { &[("content-length", "10"), MINUTE[0]] } else { MINUTE };
            let body = if told { text(200, &[], "1234567890").into_body() } else { body };
            Ok(whole(200, with, body))
        });
        let world = World::new(shared().max_body(8), origin);
        assert_eq!(world.get("/a").await.body, "1234567890");
        assert_eq!(world.get("/a").await.body, "1234567890");
        assert_eq!((world.origin.count(), world.cache.stats().pages), (2, 0));
    }
}

#[tokio::test]
async fn a_truncated_body_is_never_stored_as_whole() {
    for ending in ["error", "short"] {
        let origin = Origin::new(move |_, _| {
            let (pipe, body) = Pipe::new();
            pipe.send("12345");
            if ending == "error" {
                pipe.fail();
            }
            Ok(whole(200, &[("content-length", "10"), MINUTE[0]], body))
        });
        let world = World::new(shared(), origin);
        let body = world.ask("GET", "/a", &[]).await.expect("a head").into_body();
        assert!(body.collect().await.is_err(), "the reader is told");
        assert_eq!(world.cache.stats().pages, 0);
    }
}

#[tokio::test]
async fn a_204_has_no_body_whatever_length_it_tells() {
    for method in ["GET", "HEAD"] {
        let world = World::new(shared(), Origin::new(|_, _| Ok(text(204, &[("content-length", "5"), MINUTE[0]], ""))));
        for outcome in [Outcome::Miss, Outcome::Hit] {
            let got = read(world.ask(method, "/a", &[]).await.expect("a response")).await;
            assert_eq!((got.status, got.outcome()), (204, outcome), "{method}");
        }
    }
}

#[tokio::test]
async fn trailers_are_stored_and_served() {
    let (pipe, body) = Pipe::new();
    pipe.send("body");
    pipe.trailers(crate::world::fields(&[("x-sum", "42")]));
    drop(pipe);
    let body = once(body);
    let world = World::new(shared(), Origin::new(move |_, _| Ok(whole(200, MINUTE, body()))));
    for outcome in ["miss", "hit"] {
        let response = world.ask("GET", "/a", &[]).await.expect("a response");
        let collected = response.into_body().collect().await.expect("whole");
        assert_eq!(collected.trailers().expect("trailers")["x-sum"], "42", "{outcome}");
    }
    assert_eq!(world.origin.count(), 1);
}

#[tokio::test]
async fn only_if_cached_never_asks_the_origin() {
    let world = World::new(shared(), Origin::counting(MINUTE));
    let only: &[_] = &[("cache-control", "only-if-cached")];
    assert_eq!((world.get_with("/a", only).await.status, world.origin.count()), (504, 0));
    world.get("/a").await;
    assert_eq!(world.get_with("/a", only).await.brief(), "hit 0");
    // What goes past the cache for another reason is not sent, either.
    for own in [
        ("cache-control", "no-store"),
        ("if-match", "\"1\""),
        ("if-unmodified-since", "0"),
        ("range", "rows=0-1"),
        ("upgrade", "h2c"),
    ] {
        for method in ["GET", "HEAD"] {
            if (method, own.0) == ("HEAD", "range") {
                continue;
            }
            let got = world.ask(method, "/a", &[only[0], own]).await.expect("a response");
            assert_eq!(got.status(), 504, "{method} {own:?}");
        }
    }
    assert_eq!(world.origin.count(), 1);
    // A write is none of the cache's business.
    assert_eq!(world.ask("PUT", "/a", only).await.expect("a response").status(), 200);
}

#[tokio::test]
async fn the_error_of_a_fetch_reaches_its_caller() {
    let world = World::new(shared(), Origin::new(|_, _| Err("refused".to_owned())));
    assert_eq!(world.ask("GET", "/a", &[]).await.expect_err("an error"), "refused");
    assert_eq!(world.cache.stats().fetches_failed, 1);
}

#[tokio::test]
async fn what_is_too_heavy_for_the_store_is_still_served() {
    let world = World::new(
        shared().capacity_bytes(900).max_body(500),
        Origin::new(|_, _| Ok(text(200, MINUTE, &"x".repeat(400)))),
    );
    for _ in 0..3 {
        assert_eq!(world.get("/a").await.body.len(), 400);
    }
    assert_eq!(world.cache.stats().pages, 0);
}

#[tokio::test]
async fn a_client_that_goes_away_alone_takes_its_request_along() {
    let world = World::new(shared(), Origin::counting(MINUTE));
    world.origin.hold();
    let client = world.spawn_get("/a", &[]);
    world.asked(1).await;
    client.abort();
    until(|| world.origin.dropped.load(Ordering::SeqCst) == 1).await;
    settle().await;
    assert_eq!(world.cache.stats().in_flight, 0);
}

#[tokio::test]
async fn the_counters_add_up() {
    let world = World::new(shared(), Origin::counting(MINUTE));
    for path in ["/a", "/a", "/b", "/a"] {
        world.get(path).await;
    }
    let stats = world.cache.stats();
    assert_eq!((stats.requests(), stats.outcome("hit"), stats.outcome("miss"), stats.fetches), (4, 2, 2, 2));
    assert_eq!((stats.pages, stats.bytes_from_store, stats.bytes_from_origin), (2, 2, 2));
    assert_eq!((stats.fetches_failed, stats.origin_latency.total()), (0, 2), "both answered");
    assert!((stats.hit_rate() - 0.5).abs() < f64::EPSILON);
    let hottest = world.cache.hottest(1);
    assert_eq!((hottest[0].key.as_str(), hottest[0].hits), ("https://example.com/a", 2));
    assert!(world.cache.stalest(9).is_empty());
    world.advance(70);
    assert_eq!(world.cache.stalest(9).len(), 0, "without a validator nothing is kept past its life");
}

/// Also by what is found out only when all of it has come.
#[tokio::test]
async fn what_cannot_be_stored_ends_what_it_would_have_replaced() {
    const STALE: &[(&str, &str)] = &[("cache-control", "max-age=60, stale-while-revalidate=600, stale-if-error=600")];
    let heavy = || shared().capacity_bytes(20_000).max_body(19_990);
    for (builder, length) in [(shared().max_body(100), 101), (heavy(), 19_980)] {
        let origin = Origin::new(move |count, _| {
            let body = if count == 0 { "old".to_owned() } else { "n".repeat(length) };
            let (pipe, came) = Pipe::new();
            pipe.send(body.leak());
            Ok(whole(200, STALE, came))
        });
        let world = World::new(builder, origin);
        assert_eq!(world.get("/a").await.brief(), "miss old");
        world.advance(70);
        assert_eq!(world.get("/a").await.brief(), "stale old");
        until(|| world.cache.stats().refreshes.iter().sum::<u64>() == 1).await;
        let dropped = world.cache.stats().refreshes[RefreshEnding::Dropped as usize];
        assert_eq!((dropped, world.cache.stats().pages), (1, 0), "{length}");
        assert_eq!(world.get("/a").await.body.len(), length);
    }
}

/// One client's error page, or login, is not another's.
#[tokio::test]
async fn a_failure_that_came_for_a_cookie_is_told_to_others_without_its_words() {
    let origin = Origin::new(|_, asked| {
        let cookie = asked.headers.get("cookie").and_then(|it| it.to_str().ok()).unwrap_or("nobody");
        Ok(text(500, &[("retry-after", "7"), ("x-own", cookie)], &format!("sorry, {cookie}")))
    });
    let world = World::new(shared(), origin);
    const ALICE: &[(&str, &str)] = &[("cookie", "user=alice")];
    const BOB: &[(&str, &str)] = &[("cookie", "user=bob")];
    for (waiter, told) in [(BOB, ""), (&[], ""), (ALICE, "sorry, user=alice")] {
        world.origin.hold_again();
        let before = (world.origin.count(), world.cache.stats().waited);
        let first = world.spawn_get("/a", ALICE);
        world.asked(before.0 + 1).await;
        let second = world.spawn_get("/a", waiter);
        until(|| world.cache.stats().waited == before.1 + 1).await;
        world.origin.let_through(1);
        assert_eq!(first.await.expect("an answer").body, "sorry, user=alice");
        let got = second.await.expect("an answer");
        assert_eq!((got.status, &*got.body, got.field("retry-after")), (500, told, "7"), "{waiter:?}");
        assert_eq!((got.headers.contains_key("x-own"), got.outcome()), (!told.is_empty(), Outcome::Coalesced));
        assert_eq!(world.origin.count(), before.0 + 1);
    }
}

#[tokio::test]
async fn a_cookie_that_comes_with_a_304_is_for_the_one_who_asked() {
    let with: &[_] = &[("cache-control", "max-age=60"), ("etag", "\"1\"")];
    let origin = Origin::new(|count, _| {
        Ok(if count == 0 { text(200, with, "page") } else { text(304, &[("set-cookie", "session=alice")], "") })
    });
    let world = World::new(shared(), origin);
    world.get("/a").await;
    world.advance(70);
    let alice = world.get("/a").await;
    assert_eq!((alice.body.as_str(), alice.field("set-cookie")), ("page", "session=alice"));
    let bob = world.get("/a").await;
    assert_eq!((bob.brief().as_str(), bob.headers.contains_key("set-cookie")), ("hit page", false));
}

#[tokio::test]
async fn a_head_that_proves_nothing_keeps_nothing_alive() {
    let world = World::new(shared(), Origin::counting(MINUTE));
    world.get("/a").await;
    world.advance(70);
    let head = world.ask("HEAD", "/a", &[]).await.expect("a response");
    assert_eq!(head.status(), 200);
    assert_eq!(world.get("/a").await.body, "2");
}

#[test]
fn nonsense_is_refused_with_the_cure() {
    let message = |builder: everfresh_http::HttpCacheBuilder| builder.build().expect_err("refused").to_string();
    assert!(message(HttpCache::builder()).contains("shared()"));
    assert!(message(shared().capacity_bytes(0)).contains("capacity_bytes"));
    assert!(message(shared().max_body(11).capacity_bytes(10)).contains("lower max_body"));
    assert!(message(shared().max_variants(0)).contains("at least 1"));
    let second = std::time::Duration::from_secs(1);
    assert!(message(shared().backoff(2 * second, second)).contains("exchange"));
}

/// It was refused, for a `max_body` that nobody had chosen.
#[tokio::test]
async fn a_small_capacity_lowers_a_max_body_that_nobody_chose() {
    let most: usize = 1 << 20;
    for (length, pages) in [(most / 2, 1), (most + 1, 0)] {
        let body = "x".repeat(length);
        let world =
            World::new(shared().capacity_bytes(most as u64), Origin::new(move |_, _| Ok(text(200, MINUTE, &body))));
        assert_eq!(world.get("/a").await.body.len(), length);
        assert_eq!(world.cache.stats().pages, pages, "{length} bytes");
    }
}

/// The fields of a client are views into its read buffer, which may be far larger.
#[tokio::test]
async fn what_is_stored_keeps_no_buffer_of_a_connection_alive() {
    struct Buffer(Arc<AtomicUsize>, Vec<u8>);
    impl AsRef<[u8]> for Buffer {
        fn as_ref(&self) -> &[u8] {
            &self.1
        }
    }
    impl Drop for Buffer {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let freed = Arc::new(AtomicUsize::new(0));
    let own = Arc::clone(&freed);
    let origin = Origin::new(move |count, _| {
        let buffer = Bytes::from_owner(Buffer(Arc::clone(&own), b"\"1\"max-age=60x-whobody".to_vec()));
        let view = |range| HeaderValue::from_maybe_shared(buffer.slice(range)).expect("a value");
        let body = Full::new(buffer.slice(19..)).map_err(|never| match never {}).boxed_unsync();
        let mut response = whole(if count == 0 { 200 } else { 304 }, &[], body);
        response.headers_mut().insert("etag", view(0..3));
        response.headers_mut().insert("cache-control", view(3..13));
        response.headers_mut().insert("vary", view(13..18));
        Ok(response)
    });
    let world = World::new(shared(), origin);
    for (round, outcome) in [(1, "miss"), (2, "revalidated")] {
        let got = world.get_with("/a", &[("x-who", "me")]).await;
        assert_eq!(got.outcome().name(), outcome);
        drop(got);
        until(|| world.cache.stats().in_flight == 0).await;
        until(|| freed.load(Ordering::SeqCst) == round).await;
        world.advance(70);
    }
    assert_eq!(world.cache.stats().pages, 1);
}

#[tokio::test]
async fn what_is_evicted_gives_its_memory_back_at_once() {
    let thousand = "x".repeat(1000);
    let origin = Origin::new(move |_, _| Ok(text(200, &[("cache-control", "max-age=60")], &thousand)));
    let world = World::new(shared().capacity_bytes(20_000).max_body(2000), origin);
    let mut held = Vec::new();
    for number in 0..300 {
        let path = format!("/{number}");
        world.get(&path).await;
        settle().await;
        let mut body = world.ask("GET", &path, &[]).await.expect("a response").into_body();
        held.push(body.frame().await.expect("a frame").expect("fine").into_data().expect("data"));
    }
    // Whoever holds the bytes of a hit alone holds what the store has let go of.
    let stored = held.iter().filter(|bytes| !bytes.is_unique()).count();
    assert!((5..=20).contains(&stored), "{stored} bodies of 1,000 bytes where 20,000 bytes may be stored");
}
