//! What went wrong in caches before this one, each hazard by its number: a fault that the gem faraday-http-cache has or
//! had, or that its background refresh invites. The gem stores in Ruby objects or JSON and may be given a store that
//! fails; 14 and 18 say what stands for that here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use everfresh_http::engine::{HttpEvent, NotLanded, Uncacheable};
use everfresh_http::rfc9111::{Bypass, Forwarded, WhyNot};
use everfresh_http::{HttpCache, HttpCacheBuilder, Outcome, RefreshAction};

use super::kit::{Origin, World, once, settle, shared, text, until, whole};
use crate::world::{Fields, date};

const SWR: &[(&str, &str)] = &[("cache-control", "max-age=60, stale-while-revalidate=600"), ("etag", "\"1\"")];

fn private() -> HttpCacheBuilder {
    HttpCache::builder().private()
}

/// What a second request gets so many seconds after the first.
async fn second(builder: HttpCacheBuilder, with: Fields<'static>, after: u64) -> String {
    let world = World::new(builder, Origin::counting(with));
    world.get("/a").await;
    world.advance(after);
    world.get("/a").await.brief()
}

async fn stale(builder: HttpCacheBuilder, origin: Origin) -> World {
    let world = World::new(builder, origin);
    world.get("/a").await;
    world.advance(70);
    world
}

#[tokio::test]
async fn hazard_01_a_thousand_stale_hits_are_one_refresh_and_one_call_of_the_hook() {
    let calls = Arc::new(AtomicUsize::new(0));
    let own = Arc::clone(&calls);
    let builder = shared().on_stale(move |_| {
        own.fetch_add(1, Ordering::SeqCst);
        RefreshAction::Refresh
    });
    let world = stale(builder, Origin::counting(SWR)).await;
    world.origin.hold();
    for _ in 0..1000 {
        assert_eq!(world.get("/a").await.outcome(), Outcome::Stale);
    }
    world.asked(2).await;
    assert_eq!((world.origin.count(), calls.load(Ordering::SeqCst)), (2, 1));
}

#[tokio::test]
async fn hazard_02_a_hook_that_blocks_holds_up_no_answer() {
    let (begun, on) = (Arc::new(AtomicUsize::new(0)), Arc::new(std::sync::Barrier::new(2)));
    let (own, wait) = (Arc::clone(&begun), Arc::clone(&on));
    let builder = shared().on_stale(move |_| {
        own.fetch_add(1, Ordering::SeqCst);
        wait.wait();
        RefreshAction::Skip
    });
    let world = stale(builder, Origin::counting(SWR)).await;
    assert_eq!(world.get("/a").await.outcome(), Outcome::Stale);
    until(|| begun.load(Ordering::SeqCst) == 1).await;
    assert_eq!(world.get("/a").await.outcome(), Outcome::Stale, "while the hook stands still");
    tokio::task::spawn_blocking(move || on.wait()).await.expect("let go");
    world.refreshed(1).await;
}

#[tokio::test]
async fn hazard_03_a_panic_in_the_hook_is_told_and_the_slot_is_free_again() {
    let told = Arc::new(AtomicUsize::new(0));
    let own = Arc::clone(&told);
    let builder = shared().on_stale(|_| panic!("on purpose")).on_event(move |event| {
        own.fetch_add(usize::from(matches!(event, HttpEvent::HookPanicked { .. })), Ordering::SeqCst);
    });
    let world = stale(builder, Origin::counting(SWR)).await;
    for round in 1..3 {
        assert_eq!(world.get("/a").await.outcome(), Outcome::Stale);
        world.refreshed(round).await;
        assert_eq!(told.load(Ordering::SeqCst) as u64, round);
        world.advance(70);
    }
}

#[tokio::test]
async fn hazard_04_a_refresh_does_not_go_through_the_cache_again() {
    let world = stale(shared(), Origin::counting(SWR)).await;
    world.get("/a").await;
    world.refreshed(1).await;
    let stats = world.cache.stats();
    assert_eq!((stats.requests(), stats.fetches, world.origin.count()), (2, 2, 2));
}

#[tokio::test]
async fn hazard_05_max_age_0_with_a_window_is_refreshed_once_an_interval() {
    let with = &[("cache-control", "max-age=0, stale-while-revalidate=60")];
    let world = World::new(shared().min_refresh_interval(Duration::from_secs(5)), Origin::counting(with));
    for _ in 0..20 {
        world.get("/a").await;
        settle().await;
        world.advance(1);
    }
    assert!((4..=5).contains(&world.origin.count()), "{} requests in 20 s", world.origin.count());
}

#[tokio::test]
async fn hazard_06_a_failed_refresh_overwrites_nothing_shortens_no_window_and_backs_off() {
    let origin = Origin::new(|count, _| Ok(text(if count == 0 { 200 } else { 503 }, SWR, &count.to_string())));
    let world = stale(shared().backoff(Duration::from_secs(8), Duration::from_secs(60)), origin).await;
    for _ in 0..10 {
        assert_eq!(world.get("/a").await.brief(), "stale 0");
        settle().await;
    }
    assert_eq!(world.origin.count(), 2);
    world.advance(589);
    assert_eq!(world.get("/a").await.brief(), "stale 0", "659 s old, of 660");
}

#[tokio::test]
async fn hazard_07_a_window_alone_makes_a_response_worth_storing() {
    let with = &[("cache-control", "max-age=0, stale-while-revalidate=60")];
    assert_eq!(second(shared(), with, 59).await, "stale 0");
}

#[tokio::test]
async fn hazard_08_expires_counts_from_date_and_age_is_not_taken_off_twice() {
    let (dated, until) = (date(0), date(100));
    let with: Fields<'static> =
        vec![("date", &*Box::leak(dated.into_boxed_str())), ("expires", &*Box::leak(until.into_boxed_str()))].leak();
    assert_eq!(second(shared(), with, 60).await, "hit 0");
    assert_eq!(second(shared(), with, 99).await, "hit 0");
    assert_eq!(second(shared(), with, 100).await, "uncacheable 1", "it came stale");
}

#[tokio::test]
async fn hazard_09_an_age_that_came_along_is_counted_once() {
    let with = &[("cache-control", "max-age=60, stale-while-revalidate=30"), ("age", "50")];
    assert_eq!(second(shared(), with, 9).await, "hit 0");
    assert_eq!(second(shared(), with, 10).await, "stale 0");
    assert_eq!(second(shared(), with, 39).await, "stale 0");
    assert_eq!(second(shared(), with, 40).await, "miss 1");
}

#[tokio::test]
async fn hazard_10_what_forbids_stale_responses_forbids_the_window() {
    let forbidding: [Fields<'static>; 3] = [
        &[("cache-control", "max-age=60, stale-while-revalidate=60, must-revalidate")],
        &[("cache-control", "max-age=60, stale-while-revalidate=60, proxy-revalidate")],
        &[("cache-control", "s-maxage=60, stale-while-revalidate=60")],
    ];
    for with in forbidding {
        assert_eq!(second(shared(), with, 70).await, "miss 1", "{with:?}");
    }
    let rules = everfresh_http::rfc9111::Rules::shared().stale_despite_s_maxage(true);
    assert_eq!(second(HttpCache::builder().rules(rules), forbidding[2], 70).await, "stale 0", "the switch");
}

#[tokio::test]
async fn hazard_11_s_maxage_is_nothing_to_a_private_cache() {
    let with = &[("cache-control", "s-maxage=600, max-age=10")];
    assert_eq!(second(private(), with, 20).await, "miss 1");
    assert_eq!(second(shared(), with, 20).await, "hit 0");
}

#[tokio::test]
async fn hazard_12_a_comma_within_quotes_parts_nothing() {
    let with = &[
        ("cache-control", "no-cache=\"set-cookie, x-b\", max-age=60"),
        ("set-cookie", "a=b"),
        ("x-b", "1"),
        ("x-c", "2"),
    ];
    let world = World::new(shared(), Origin::counting(with));
    assert_eq!(world.get("/a").await.field("set-cookie"), "a=b");
    let hit = world.get("/a").await;
    assert_eq!((hit.brief().as_str(), hit.field("set-cookie"), hit.field("x-b")), ("hit 0", "", ""));
    assert_eq!((hit.field("x-c"), hit.field("cache-control")), ("2", with[0].1));
}

#[tokio::test]
async fn hazard_13_what_came_for_credentials_is_nobody_elses_and_no_refresh_borrows_them() {
    let mine: Fields<'static> = &[("authorization", "me")];
    let world = World::new(shared(), Origin::counting(SWR));
    let first = world.get_with("/a", mine).await;
    assert_eq!(first.outcome(), Outcome::Uncacheable(Uncacheable::Rule(WhyNot::Authorization)));
    assert_eq!(world.get_with("/a", &[("authorization", "you")]).await.body, "1");
    // Public: stored, and refreshed only by somebody's own credentials.
    let with = &[("cache-control", "public, max-age=60, stale-while-revalidate=600")];
    let world = World::new(shared(), Origin::counting(with));
    world.get_with("/a", mine).await;
    world.advance(70);
    assert_eq!(world.get("/a").await.outcome(), Outcome::Stale);
    settle().await;
    assert_eq!(world.origin.count(), 1, "without credentials nothing is asked");
}

/// Nothing is ever read back from bytes: a body that looks like a stored object of the gem is a body.
#[tokio::test]
async fn hazard_14_stored_bytes_are_never_interpreted() {
    const GADGET: &str = "{\"json_class\":\"String\",\"raw\":[1]}";
    let world = World::new(shared(), Origin::new(|_, _| Ok(text(200, SWR, GADGET))));
    world.get("/a").await;
    assert_eq!(world.get("/a").await.brief(), format!("hit {GADGET}"));
}

#[tokio::test]
async fn hazard_15_values_of_vary_never_run_together() {
    let with = &[("cache-control", "max-age=60"), ("vary", "x-a, x-b")];
    let world = World::new(shared(), Origin::counting(with));
    assert_eq!(world.get_with("/a", &[("x-a", "xy"), ("x-b", "z")]).await.body, "0");
    assert_eq!(world.get_with("/a", &[("x-a", "x"), ("x-b", "yz")]).await.body, "1");
}

#[tokio::test]
async fn hazard_16_variants_that_are_written_at_once_are_all_kept() {
    let with = &[("cache-control", "max-age=60"), ("vary", "x-who")];
    let world = World::new(shared(), Origin::counting(with));
    world.origin.hold();
    let who: Vec<Fields<'static>> = (0..10).map(|who| &*vec![("x-who", &*who.to_string().leak())].leak()).collect();
    let all: Vec<_> = who.iter().map(|who| world.spawn_get("/a", who)).collect();
    world.asked(1).await;
    world.origin.let_through(10);
    for got in all {
        got.await.expect("an answer");
    }
    for who in who {
        assert_eq!(world.get_with("/a", who).await.outcome(), Outcome::Hit);
    }
}

#[tokio::test]
async fn hazard_17_only_what_succeeded_invalidates_and_only_its_own_origin() {
    let origin = Origin::new(|count, asked| {
        let to = asked.headers.get("x-to").map_or("", |to| to.to_str().expect("text"));
        let status = if asked.uri.path() == "/fails" { 500 } else { 200 };
        Ok(text(status, &[("cache-control", "max-age=60"), ("location", to)], &count.to_string()))
    });
    let world = World::new(shared(), origin);
    world.get("/fails/../a").await;
    world.get("/a").await;
    for (path, to, outcome) in [
        ("/fails", "/a", "hit"),
        ("/b", "https://evil.example/a", "hit"),
        ("/b", "a", "miss"),
        ("/b", "https://example.com/a", "miss"),
    ] {
        world.ask("POST", path, &[("x-to", to)]).await.expect("a response");
        assert_eq!(world.get("/a").await.outcome().name(), outcome, "{path} {to}");
    }
}

/// The store is memory and cannot fail to read; what it cannot take is told, and the request is answered.
#[tokio::test]
async fn hazard_18_store_trouble_is_never_the_requests_trouble() {
    let refused = Arc::new(AtomicUsize::new(0));
    let own = Arc::clone(&refused);
    let builder = shared().capacity_bytes(1000).max_body(900).on_event(move |event| {
        let heavy = matches!(event, HttpEvent::NotStored { why: NotLanded::TooHeavy, .. });
        own.fetch_add(usize::from(heavy), Ordering::SeqCst);
    });
    let world = World::new(builder, Origin::new(|_, _| Ok(text(200, SWR, &"x".repeat(800)))));
    assert_eq!(world.get("/a").await.body.len(), 800);
    assert_eq!((refused.load(Ordering::SeqCst), world.cache.stats().pages), (1, 0));
}

#[tokio::test]
async fn hazard_19_a_refresh_from_before_a_post_is_not_stored_after_it() {
    let world = stale(shared(), Origin::counting(SWR)).await;
    world.origin.hold();
    world.get("/a").await;
    world.asked(2).await;
    let own = world.clone();
    let post = tokio::spawn(async move { own.ask("POST", "/a", &[]).await.map(drop) });
    world.asked(3).await;
    world.origin.let_through(9);
    post.await.expect("an end").expect("an answer");
    world.refreshed(1).await;
    assert_eq!(world.get("/a").await.brief(), "miss 3");
}

#[tokio::test]
async fn hazard_20_past_the_window_the_reader_waits_and_a_failure_reaches_him_unless_stale_if_error_says_otherwise() {
    let failing = |with: Fields<'static>| {
        Origin::new(move |count, _| if count == 0 { Ok(text(200, with, "old")) } else { Err("down".to_owned()) })
    };
    let world = World::new(shared(), failing(SWR));
    world.get("/a").await;
    world.advance(660);
    assert_eq!(world.ask("GET", "/a", &[]).await.expect_err("no answer"), "down");
    let world = World::new(shared().default_stale_if_error(Duration::from_secs(3600)), failing(SWR));
    world.get("/a").await;
    world.advance(660);
    assert_eq!(world.get("/a").await.brief(), "fallback old");
}

#[tokio::test]
async fn hazard_21_windows_end_on_the_very_instant_and_ages_are_whole_seconds() {
    let with = &[("cache-control", "max-age=10, stale-while-revalidate=10")];
    let world = World::new(shared().max_refreshes(0), Origin::counting(with));
    world.get("/a").await;
    for (millis, outcome, age) in [(9_999, "hit", "9"), (1, "stale", "10"), (9_999, "stale", "19"), (1, "miss", "")] {
        world.clock.advance(Duration::from_millis(millis));
        let got = world.get("/a").await;
        assert_eq!((got.outcome().name(), got.field("age")), (outcome, age), "after {millis} ms");
    }
}

#[tokio::test]
async fn hazard_22_nobody_can_change_the_bytes_that_another_reads() {
    use http_body_util::BodyExt;
    let world = World::new(shared(), Origin::counting(SWR));
    world.get("/a").await;
    let body = world.ask("GET", "/a", &[]).await.expect("a response").into_body();
    let mut own: Vec<u8> = body.collect().await.expect("whole").to_bytes().into();
    own.fill(b'!');
    assert_eq!(world.get("/a").await.brief(), "hit 0");
}

#[tokio::test]
async fn hazard_23_a_304_that_changes_vary_moves_the_variant() {
    let origin = Origin::new(|count, _| match count {
        0 => Ok(text(200, &[("cache-control", "max-age=10"), ("etag", "\"1\"")], "0")),
        1 => Ok(text(304, &[("cache-control", "max-age=60"), ("etag", "\"1\""), ("vary", "x-who")], "")),
        _ => Ok(text(200, &[("cache-control", "max-age=60"), ("vary", "x-who")], "other")),
    });
    let world = World::new(shared(), origin);
    world.get_with("/a", &[("x-who", "me")]).await;
    world.advance(20);
    assert_eq!(world.get_with("/a", &[("x-who", "me")]).await.brief(), "revalidated 0");
    assert_eq!(world.get_with("/a", &[("x-who", "you")]).await.body, "other");
    assert_eq!(world.get_with("/a", &[("x-who", "me")]).await.brief(), "hit 0");
}

#[tokio::test]
async fn hazard_24_the_outcome_and_why_are_both_told() {
    let world = World::new(shared(), Origin::counting(&[("cache-control", "no-store")]));
    let got = world.get("/a").await;
    assert_eq!(got.outcome(), Outcome::Uncacheable(Uncacheable::Rule(WhyNot::NoStore)));
    assert_eq!(got.answer.why.map(|why| why.to_string()), Some(Forwarded::UriMiss.as_str().to_owned()));
    assert!(got.field("cache-status").contains("fwd=uri-miss; fwd-status=200; detail="), "{got:?}");
    let post = world.ask("POST", "/a", &[]).await.expect("a response");
    let answer = post.extensions().get::<everfresh_http::CacheAnswer>().expect("told");
    assert_eq!(answer.outcome, Outcome::Bypass(Bypass::Method));
    // A body that breaks off after its head is no hit later.
    let (pipe, body) = super::kit::Pipe::new();
    let give = once(body);
    let world = World::new(
        shared(),
        Origin::new(move |count, _| match count {
            0 => Ok(whole(200, SWR, give())),
            _ => Ok(text(200, SWR, "whole")),
        }),
    );
    pipe.fail();
    let broken = world.ask("GET", "/a", &[]).await.expect("a head").into_body();
    assert!(http_body_util::BodyExt::collect(broken).await.is_err());
    assert_eq!(world.get("/a").await.brief(), "miss whole");
}
