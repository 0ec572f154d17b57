//! An origin that fails: how often it is asked, and what those get who ask.

use std::time::Duration;

use everfresh_http::engine::{Uncacheable, Why};
use everfresh_http::rfc9111::{Failure, Rules};
use everfresh_http::{HttpCache, Outcome};
use futures_util::future::join_all;
use http::StatusCode;

use super::kit::{Got, Origin, Pipe, World, once, read, settle, shared, text, whole};
use crate::world::Fields;

const SIE: &[(&str, &str)] = &[("cache-control", "max-age=10, stale-if-error=1000"), ("etag", "\"1\"")];

/// So many at once, of whom the first is let through to the origin once all of them wait.
async fn wave(world: &World, count: usize) -> Vec<Got> {
    let before = world.origin.count();
    let all: Vec<_> = (0..count).map(|_| world.spawn_get("/a", &[])).collect();
    world.asked(before + 1).await;
    settle().await;
    world.origin.let_through(count);
    let got = join_all(all).await.into_iter().map(|got| got.expect("an answer")).collect();
    world.origin.hold_again();
    got
}

fn failing(with: &'static [(&'static str, &'static str)]) -> World {
    let origin = Origin::new(move |count, _| Ok(text(503, with, &count.to_string())));
    let world = World::new(shared(), origin);
    world.origin.hold();
    world
}

#[tokio::test]
async fn a_wave_of_requests_of_a_cold_url_is_one_failure_of_the_origin_and_the_next_wave_asks_again() {
    let world = failing(&[]);
    for round in 0..3 {
        let all = wave(&world, 100).await;
        assert_eq!(world.origin.count(), round + 1);
        let own = Outcome::Uncacheable(Uncacheable::OriginFailed(StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(all.iter().filter(|got| got.outcome() == own).count(), 1);
        assert_eq!(all.iter().filter(|got| got.outcome() == Outcome::Coalesced).count(), 99);
        assert!(all.iter().all(|got| got.status == 503 && got.body == round.to_string()));
    }
    assert_eq!(world.cache.stats().pages, 0);
}

#[tokio::test]
async fn a_failure_that_is_for_its_one_client_is_shared_with_nobody() {
    let who: [&'static [(&'static str, &'static str)]; 4] = [
        &[("cache-control", "no-store")],
        &[("cache-control", "private")],
        &[("vary", "*")],
        &[("set-cookie", "who=you")],
    ];
    for with in who {
        let world = failing(with);
        let mut bodies: Vec<_> = wave(&world, 5).await.into_iter().map(|got| got.body).collect();
        bodies.sort();
        assert_eq!(bodies, ["0", "1", "2", "3", "4"], "{with:?}");
    }
}

#[tokio::test]
async fn a_failure_goes_only_to_those_whom_its_vary_selects() {
    let world = failing(&[("vary", "x-who")]);
    let (one, two) = (world.spawn_get("/a", &[("x-who", "1")]), world.spawn_get("/a", &[("x-who", "2")]));
    world.asked(1).await;
    settle().await;
    world.origin.let_through(2);
    let (one, two) = (one.await.expect("an answer"), two.await.expect("an answer"));
    assert_eq!((one.body.as_str(), two.body.as_str(), world.origin.count()), ("0", "1", 2));
}

#[tokio::test]
async fn after_an_outage_the_first_good_answer_is_shared_at_once() {
    let minute = &[("cache-control", "max-age=60")];
    let origin = Origin::new(move |count, _| match count {
        0 => Ok(text(503, &[], "down")),
        _ => Ok(text(200, minute, "up")),
    });
    let world = World::new(shared(), origin);
    world.origin.hold();
    assert!(wave(&world, 10).await.iter().all(|got| got.status == 503));
    assert!(wave(&world, 10).await.iter().all(|got| got.body == "up"), "nobody remembers it as uncacheable");
    assert_eq!(world.origin.count(), 2);
}

#[tokio::test]
async fn a_wave_past_every_window_is_one_failure_and_what_is_stored_is_kept() {
    let origin = Origin::new(|count, _| match count {
        1 => Ok(text(500, &[], "down")),
        _ => Ok(text(200, SIE, &count.to_string())),
    });
    let world = World::new(shared(), origin);
    world.get("/a").await;
    world.advance(2000);
    world.origin.hold();
    let all = wave(&world, 10).await;
    assert!(all.iter().all(|got| (got.status, got.body.as_str()) == (500, "down")));
    assert_eq!((world.origin.count(), world.cache.stats().pages), (2, 1));
}

/// Whatever its number: also those of content networks, whose own origin is in trouble. 501 is an answer.
#[tokio::test]
async fn any_status_of_a_server_in_trouble_is_shared_with_those_who_wait_and_remembered_by_nobody() {
    for status in [505, 507, 520, 522, 530] {
        let origin = Origin::new(move |count, _| match count {
            0 => Ok(text(status, &[], "down")),
            _ => Ok(text(200, &[("cache-control", "max-age=60")], "up")),
        });
        let world = World::new(shared(), origin);
        world.origin.hold();
        let all = wave(&world, 10).await;
        assert!(all.iter().all(|got| (got.status, got.body.as_str()) == (status, "down")), "{status}");
        world.origin.hold_again();
        assert!(wave(&world, 10).await.iter().all(|got| got.body == "up"), "{status}");
        assert_eq!(world.origin.count(), 2, "{status}");
    }
}

#[tokio::test]
async fn a_long_failure_streams_to_all_who_wait() {
    let (pipe, body) = Pipe::new();
    let give = once(body);
    let world = World::new(shared(), Origin::new(move |_, _| Ok(whole(500, &[], give()))));
    world.origin.hold();
    let all: Vec<_> = (0..3).map(|_| world.spawn_get("/a", &[])).collect();
    world.asked(1).await;
    settle().await;
    world.origin.let_through(1);
    pipe.send("so ");
    settle().await;
    pipe.send("sorry");
    drop(pipe);
    for got in all {
        assert_eq!(got.await.expect("an answer").body, "so sorry");
    }
    assert_eq!(world.origin.count(), 1);
}

/// By a cookie, or by the key of an API, it may be one user's: others had it in an outage, and whenever they asked with
/// `max-stale`.
#[tokio::test]
async fn what_says_nothing_of_its_life_is_given_to_nobody_unasked_in_a_shared_cache() {
    for with in [&[][..], &[("etag", "\"1\"")], &[("cache-control", "no-transform"), ("etag", "\"1\"")]] {
        let origin = Origin::new(move |count, asked| match count {
            0 => Ok(text(200, with, "alice")),
            1 if asked.headers.contains_key("if-none-match") => Ok(text(304, with, "")),
            1 => Ok(text(200, with, "alice")),
            _ => Err("away".to_owned()),
        });
        let rules = Rules::shared().stale_when_disconnected(Duration::from_secs(86_400));
        let world = World::new(HttpCache::builder().rules(rules), origin);
        assert_eq!(world.get_with("/a", &[("cookie", "alice")]).await.body, "alice");
        let again = world.get_with("/a", &[("cookie", "alice")]).await;
        assert_eq!(again.outcome() == Outcome::Revalidated, !with.is_empty(), "what has a validator is asked about");
        for asked in ["no-transform", "max-stale", "max-stale=1000", "stale-if-error=1000"] {
            assert!(world.ask("GET", "/a", &[("cache-control", asked)]).await.is_err(), "{with:?} {asked}");
        }
    }
}

/// Contract T1: a reader who has something to fall back on does not repeat a failure.
#[tokio::test]
async fn in_the_window_of_stale_if_error_an_origin_that_failed_is_left_alone_for_a_while() {
    for failure in [Some(503), None] {
        let origin = Origin::new(move |count, _| match (count, failure) {
            (0, _) => Ok(text(200, SIE, "old")),
            (1 | 2, Some(status)) => Ok(text(status, &[], "down")),
            (1 | 2, None) => Err("refused".to_owned()),
            _ => Ok(text(200, SIE, "new")),
        });
        let second = Duration::from_secs(1);
        let world = World::new(shared().backoff(8 * second, 60 * second), origin);
        world.get("/a").await;
        world.advance(20);
        for count in 0..20 {
            let got = world.get("/a").await;
            assert_eq!((got.brief().as_str(), world.origin.count()), ("fallback old", 2));
            // RFC 9211 §2.1: who was not forwarded is told so.
            let told = if count == 0 { "everfresh; fwd=stale; " } else { "everfresh; hit; ttl=-10; detail=" };
            assert!(got.field("cache-status").starts_with(told), "{}", got.field("cache-status"));
            let failed = failure.map_or(Failure::Unreachable, |_| Failure::Status(StatusCode::SERVICE_UNAVAILABLE));
            assert_eq!(got.answer.why, Some(Why::Failed(failed)));
        }
        // The pause is between a half of the base and the base; the second is twice as long.
        world.advance(9);
        assert_eq!((world.get("/a").await.brief().as_str(), world.origin.count()), ("fallback old", 3));
        world.advance(7);
        assert_eq!((world.get("/a").await.brief().as_str(), world.origin.count()), ("fallback old", 3));
        world.advance(10);
        assert_eq!(world.get("/a").await.brief(), "replaced new");
        assert_eq!(world.get("/a").await.brief(), "hit new");
    }
}

#[tokio::test]
async fn who_reads_in_parts_leaves_an_origin_that_failed_alone_too_and_takes_nothing_from_the_whole() {
    // The last says for how long it wants to be left alone, and may be stored for that.
    let failures: [Option<Fields<'static>>; 3] = [None, Some(&[]), Some(&[("cache-control", "max-age=60")])];
    for failure in failures {
        let origin = Origin::new(move |count, _| match (count, failure) {
            (0, _) => Ok(text(200, SIE, "0123456789")),
            (_, Some(with)) => Ok(text(503, with, "down")),
            (_, None) => Err("refused".to_owned()),
        });
        let world = World::new(shared().backoff(Duration::from_secs(8), Duration::from_secs(8)), origin);
        world.get("/a").await;
        world.advance(20);
        for (range, part) in [("bytes=0-3", "0123"), ("bytes=4-7", "4567"), ("bytes=8-", "89")] {
            let got = world.get_with("/a", &[("range", range)]).await;
            assert_eq!((got.status, got.brief()), (206, format!("fallback {part}")), "{failure:?}");
        }
        assert_eq!(world.get("/a").await.brief(), "fallback 0123456789", "{failure:?}");
        assert_eq!(world.origin.count(), 2, "{failure:?}");
    }
}

#[tokio::test]
async fn no_5xx_takes_away_what_is_stored() {
    for status in [505, 507, 520, 522, 599] {
        let origin = Origin::new(move |count, _| {
            let both = "max-age=10, stale-while-revalidate=10, stale-if-error=1000";
            Ok(match count {
                0 => text(200, &[("cache-control", both), ("etag", "\"1\"")], "old"),
                1 | 2 => text(status, &[], "in trouble"),
                _ => text(503, &[], "down"),
            })
        });
        let world = World::new(shared().backoff(Duration::from_secs(2), Duration::from_secs(2)), origin);
        world.get("/a").await;
        world.advance(11);
        assert_eq!(world.get("/a").await.brief(), "stale old");
        world.refreshed(1).await;
        assert_eq!(world.get("/a").await.brief(), "stale old", "{status}");
        assert_eq!(world.origin.count(), 2, "the origin is left alone for a while: {status}");
        // It is no error of RFC 5861 §4, so it is passed on where somebody waits for it; and what is stored stays.
        world.advance(15);
        assert_eq!(world.get("/a").await.brief(), "uncacheable in trouble", "{status}");
        assert_eq!(world.get("/a").await.brief(), "fallback old", "{status}");
    }
}

#[tokio::test]
async fn what_a_head_says_is_changed_still_stands_in_for_an_origin_that_fails() {
    // The last two know nothing of HEAD; the one may be stored, the other not.
    const CHANGED: &[(&str, &str)] = &[SIE[0], ("etag", "\"2\"")];
    for (status, fields) in [(200, CHANGED), (405, CHANGED), (405, &[])] {
        let origin = Origin::new(move |count, asked| {
            Ok(match count {
                0 => text(200, SIE, "old"),
                _ if asked.method == "HEAD" => text(status, fields, ""),
                _ => text(503, &[], "failing"),
            })
        });
        let world = World::new(shared(), origin);
        world.get("/a").await;
        world.advance(20);
        for _ in 0..2 {
            assert_eq!(read(world.ask("HEAD", "/a", &[]).await.expect("a response")).await.status, status);
        }
        assert_eq!(world.get("/a").await.brief(), "fallback old", "{status} {fields:?}");
    }
}

#[tokio::test]
async fn who_may_not_fall_back_asks_the_origin_although_it_has_just_failed() {
    let origin = Origin::new(|count, _| match count {
        1 => Ok(text(503, &[], "down")),
        _ => Ok(text(200, SIE, &count.to_string())),
    });
    let world = World::new(shared(), origin);
    world.get("/a").await;
    world.advance(20);
    assert_eq!(world.get("/a").await.brief(), "fallback 0");
    assert_eq!(world.get_with("/a", &[("cache-control", "no-cache")]).await.brief(), "replaced 2");
}

#[tokio::test]
async fn those_who_joined_a_refresh_that_failed_ask_once_for_all() {
    let origin = Origin::new(|count, _| match count {
        0 => Ok(text(200, &[("cache-control", "max-age=10, stale-while-revalidate=20")], "old")),
        _ => Ok(text(503, &[], &count.to_string())),
    });
    let world = World::new(shared(), origin);
    world.get("/a").await;
    world.advance(15);
    world.origin.hold();
    assert_eq!(world.get("/a").await.brief(), "stale old");
    world.asked(2).await;
    world.advance(20);
    let all: Vec<_> = (0..10).map(|_| world.spawn_get("/a", &[])).collect();
    settle().await;
    world.origin.let_through(1);
    world.asked(3).await;
    settle().await;
    world.origin.let_through(1);
    for got in all {
        assert_eq!(got.await.expect("an answer").body, "2");
    }
    assert_eq!(world.origin.count(), 3);
}

/// Each second one reader waited until an origin that is away was found to be away once more.
#[tokio::test]
async fn an_origin_that_is_away_is_left_alone_for_longer_each_time_also_without_stale_if_error() {
    let origin = Origin::new(|count, _| match count {
        0 => Ok(text(200, &[("cache-control", "max-age=10"), ("etag", "\"1\"")], "old")),
        _ => Err("away".to_owned()),
    });
    let rules = Rules::shared().stale_when_disconnected(Duration::from_secs(86_400));
    let world = World::new(HttpCache::builder().rules(rules), origin);
    world.get("/a").await;
    world.advance(20);
    for _ in 0..600 {
        assert_eq!(world.get("/a").await.brief(), "fallback old");
        world.advance(1);
    }
    // Doubled up to a minute, less up to a half: 600 seconds are 15 to 26 of them.
    assert!(world.origin.count() < 30, "{} requests", world.origin.count());
}
