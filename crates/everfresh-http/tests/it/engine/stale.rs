//! Stale answers at once, one refresh behind, and what if that fails.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everfresh::RefreshStatus;
use everfresh_http::engine::{HttpEvent, RefreshEnding};
use everfresh_http::{HttpCache, Outcome, RefreshAction, StaleContext};

use super::kit::{Origin, Pipe, World, once, settle, shared, text, until, whole};

const WINDOW: &[(&str, &str)] = &[("cache-control", "max-age=60, stale-while-revalidate=600"), ("etag", "\"1\"")];

fn second() -> Duration {
    Duration::from_secs(1)
}

async fn stale_world(builder: everfresh_http::HttpCacheBuilder, origin: Origin) -> World {
    let world = World::new(builder, origin);
    world.get("/a").await;
    world.advance(70);
    world
}

fn endings(
    builder: everfresh_http::HttpCacheBuilder,
) -> (everfresh_http::HttpCacheBuilder, Arc<Mutex<Vec<RefreshEnding>>>) {
    let seen: Arc<Mutex<Vec<RefreshEnding>>> = Arc::default();
    let log = Arc::clone(&seen);
    let builder = builder.on_event(move |event| {
        if let HttpEvent::Refreshed { ending, .. } = event {
            log.lock().expect("the log").push(*ending);
        }
    });
    (builder, seen)
}

#[tokio::test]
async fn a_thousand_stale_hits_of_a_hung_origin_wait_for_nobody_and_ask_once() {
    let world = stale_world(shared(), Origin::counting(WINDOW)).await;
    world.origin.hold();
    for _ in 0..1000 {
        let got = world.get("/a").await;
        assert_eq!((got.brief().as_str(), got.field("age")), ("stale 0", "70"));
    }
    world.asked(2).await;
    settle().await;
    assert_eq!(world.origin.count(), 2);
    assert_eq!(world.get("/a").await.field("cache-status"), "everfresh; hit; ttl=-10");
    assert_eq!(world.get("/a").await.answer.refresh, Some(RefreshStatus::AlreadyRunning));
    world.origin.let_through(1);
    world.refreshed(1).await;
    assert_eq!(world.get("/a").await.brief(), "hit 1");
}

#[tokio::test]
async fn a_refresh_asks_with_what_vary_names_and_validators_and_with_nobodys_credentials() {
    let with: &[_] =
        &[("cache-control", "max-age=60, stale-while-revalidate=600"), ("etag", "\"1\""), ("vary", "accept")];
    let world = World::new(shared(), Origin::counting(with));
    let asked: &[_] = &[("accept", "text/html"), ("cookie", "secret"), ("user-agent", "curl"), ("host", "example.com")];
    world.get_with("/a", asked).await;
    world.advance(70);
    world.get_with("/a", asked).await;
    world.asked(2).await;
    let sent = world.origin.last().headers;
    let mut names: Vec<_> = sent.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "host", "if-none-match"]);
}

#[tokio::test]
async fn a_private_cache_refreshes_with_its_users_own_request() {
    let world = World::new(HttpCache::builder().private(), Origin::counting(WINDOW));
    let asked: &[_] = &[("authorization", "me"), ("user-agent", "curl"), ("cache-control", "max-stale=1000")];
    world.get_with("/a", asked).await;
    world.advance(70);
    world.get_with("/a", asked).await;
    world.asked(2).await;
    let sent = world.origin.last().headers;
    assert_eq!(
        (&sent["authorization"], &sent["if-none-match"]),
        (&"me".parse().expect("a value"), &"\"1\"".parse().expect("a value"))
    );
    assert!(!sent.contains_key("cache-control"));
}

#[tokio::test]
async fn a_response_to_credentials_is_refreshed_only_with_some_and_where_sharing_is_allowed() {
    let with: &[_] = &[("cache-control", "public, max-age=60, stale-while-revalidate=600")];
    let (builder, seen) = endings(shared());
    let world = World::new(builder, Origin::counting(with));
    world.get_with("/a", &[("authorization", "alice")]).await;
    world.advance(70);
    assert_eq!(world.get("/a").await.brief(), "stale 0");
    world.refreshed(1).await;
    assert_eq!((seen.lock().expect("the log").as_slice(), world.origin.count()), (&[RefreshEnding::Skipped][..], 1));
    world.advance(2);
    assert_eq!(world.get_with("/a", &[("authorization", "bob")]).await.brief(), "stale 0");
    world.asked(2).await;
    assert_eq!(world.origin.last().headers["authorization"], "bob");
}

#[tokio::test]
async fn max_age_0_is_refreshed_at_most_once_in_an_interval() {
    let with: &[_] = &[("cache-control", "max-age=0, stale-while-revalidate=600")];
    let world = World::new(shared().min_refresh_interval(5 * second()), Origin::counting(with));
    world.get("/a").await;
    for at in 1..=50 {
        world.advance(1);
        for _ in 0..10 {
            assert_eq!(world.get("/a").await.outcome(), Outcome::Stale, "without a validator too");
        }
        settle().await;
        assert!(world.origin.count() <= 2 + at / 5, "{} requests after {at} s", world.origin.count());
    }
    assert!(world.origin.count() >= 9);
}

#[tokio::test]
async fn a_304_renews_the_old_body() {
    let origin = Origin::new(|count, _| {
        Ok(text(if count == 0 { 200 } else { 304 }, WINDOW, if count == 0 { "body" } else { "" }))
    });
    let (builder, seen) = endings(shared());
    let world = stale_world(builder, origin).await;
    world.get("/a").await;
    world.refreshed(1).await;
    assert_eq!(world.get("/a").await.brief(), "hit body");
    assert_eq!(seen.lock().expect("the log").as_slice(), [RefreshEnding::Renewed]);
}

#[tokio::test]
async fn failures_keep_the_old_one_and_back_off() {
    for failure in ["500", "502", "503", "504", "429", "403", "error", "panic", "truncated"] {
        let origin = Origin::new(move |count, _| match (count, failure) {
            (0, _) => Ok(text(200, WINDOW, "old")),
            (_, "error") => Err("refused".to_owned()),
            (_, "panic") => panic!("on purpose"),
            (_, "truncated") => Ok(text(200, &[("content-length", "9"), WINDOW[0]], "short")),
            (_, status) => Ok(text(status.parse().expect("a status"), &[("cache-control", "max-age=9")], "failed")),
        });
        let world = stale_world(shared().backoff(8 * second(), 60 * second()), origin).await;
        assert_eq!(world.get("/a").await.brief(), "stale old", "{failure}");
        world.refreshed(1).await;
        for _ in 0..20 {
            let got = world.get("/a").await;
            assert_eq!(
                (got.brief().as_str(), got.answer.refresh),
                ("stale old", Some(RefreshStatus::BackingOff)),
                "{failure}"
            );
        }
        assert_eq!(world.origin.count(), 2, "{failure}");
        world.advance(9);
        world.get("/a").await;
        world.asked(3).await;
    }
}

#[tokio::test]
async fn a_refresh_that_hangs_is_given_up_and_frees_its_place() {
    let (builder, seen) = endings(shared().refresh_timeout(10 * second()));
    let world = stale_world(builder, Origin::counting(WINDOW)).await;
    world.origin.hold();
    world.get("/a").await;
    world.asked(2).await;
    settle().await;
    world.advance(11);
    world.refreshed(1).await;
    assert_eq!(seen.lock().expect("the log").as_slice(), [RefreshEnding::TimedOut]);
    world.advance(60);
    world.origin.let_through(9);
    world.get("/a").await;
    world.refreshed(2).await;
    assert_eq!(world.get("/a").await.outcome(), Outcome::Hit);
}

#[tokio::test]
async fn a_refresh_whose_answer_may_not_be_stored_drops_the_old_one() {
    let origin = Origin::new(|count, _| {
        Ok(text(200, if count == 0 { WINDOW } else { &[("cache-control", "no-store")] }, &count.to_string()))
    });
    let world = stale_world(shared(), origin).await;
    assert_eq!(world.get("/a").await.brief(), "stale 0");
    world.refreshed(1).await;
    assert_eq!(world.get("/a").await.brief(), "uncacheable 2");
}

#[tokio::test]
async fn refreshes_are_bounded_and_what_is_beyond_is_served_stale() {
    let world = World::new(shared().max_refreshes(1), Origin::counting(WINDOW));
    world.get("/a").await;
    world.get("/b").await;
    world.advance(70);
    world.origin.hold();
    assert_eq!(world.get("/a").await.answer.refresh, Some(RefreshStatus::Started));
    assert_eq!(world.get("/b").await.answer.refresh, Some(RefreshStatus::Saturated));
    world.asked(3).await;
    world.origin.let_through(9);
    world.refreshed(1).await;
    until(|| world.cache.stats().in_flight == 0).await;
    assert_eq!(world.get("/b").await.answer.refresh, Some(RefreshStatus::Started));
}

#[tokio::test]
async fn on_stale_is_asked_once_a_refresh_off_the_readers_path_and_decides() {
    for (action, count) in [(RefreshAction::Refresh, 2), (RefreshAction::Skip, 1), (RefreshAction::Handled, 1)] {
        let calls = Arc::new(AtomicUsize::new(0));
        let (log, reader) = (Arc::clone(&calls), std::thread::current().id());
        let builder = shared().on_stale(move |cx: &StaleContext<'_>| {
            assert_ne!(std::thread::current().id(), reader, "on the reader's thread");
            assert_eq!((cx.key, cx.age.as_secs(), cx.stale_for.as_secs()), ("https://example.com/a", 70, 10));
            assert_eq!((cx.remaining.as_secs(), cx.uri.path()), (590, "/a"));
            log.fetch_add(1, Ordering::SeqCst);
            action
        });
        let world = stale_world(builder, Origin::counting(WINDOW)).await;
        for _ in 0..20 {
            assert_eq!(world.get("/a").await.brief(), "stale 0");
        }
        world.refreshed(1).await;
        assert_eq!((calls.load(Ordering::SeqCst), world.origin.count()), (1, count), "{action:?}");
    }
}

#[tokio::test]
async fn a_hook_that_blocks_delays_nobody_and_one_that_panics_is_told() {
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let told = Arc::new(AtomicUsize::new(0));
    let log = Arc::clone(&told);
    let builder = shared()
        .on_stale(move |_: &StaleContext<'_>| {
            gate.lock().expect("the gate").recv().expect("opened");
            panic!("on purpose")
        })
        .on_event(move |event| {
            if matches!(event, HttpEvent::HookPanicked { .. }) {
                log.fetch_add(1, Ordering::SeqCst);
            }
        });
    let world = stale_world(builder, Origin::counting(WINDOW)).await;
    for _ in 0..20 {
        assert_eq!(world.get("/a").await.brief(), "stale 0");
    }
    open.send(()).expect("the hook");
    world.refreshed(1).await;
    assert_eq!((told.load(Ordering::SeqCst), world.get("/a").await.brief()), (1, "hit 1".to_owned()));
}

#[tokio::test]
async fn a_slow_origin_is_waited_for_no_longer_than_soft_timeout_and_goes_on() {
    let with: &[_] = &[("cache-control", "max-age=60, stale-if-error=600"), ("etag", "\"1\"")];
    let world = World::new(shared().soft_timeout(2 * second()), Origin::counting(with));
    world.get("/a").await;
    world.advance(70);
    world.origin.hold();
    let slow = world.spawn_get("/a", &[]);
    world.asked(2).await;
    settle().await;
    world.advance(2);
    let got = slow.await.expect("an answer");
    assert_eq!(got.brief(), "fallback 0");
    assert!(got.field("cache-status").contains("fwd=stale"), "{got:?}");
    world.origin.let_through(1);
    until(|| world.cache.stats().in_flight == 0).await;
    assert_eq!(world.get("/a").await.brief(), "hit 1");
}

#[tokio::test]
async fn l4_a_refresh_whose_body_trickles_gives_its_place_to_others() {
    let (pipe, body) = Pipe::new();
    let body = once(body);
    let origin = Origin::new(move |count, asked| {
        let trickles = count > 1 && asked.uri.path() == "/slow";
        Ok(if trickles { whole(200, WINDOW, body()) } else { text(200, WINDOW, &count.to_string()) })
    });
    let world = World::new(shared().max_refreshes(1), origin);
    world.get("/slow").await;
    world.get("/other").await;
    world.advance(70);
    assert_eq!(world.get("/slow").await.answer.refresh, Some(RefreshStatus::Started));
    world.asked(3).await;
    for _ in 0..3 {
        assert_eq!(world.get("/other").await.answer.refresh, Some(RefreshStatus::Saturated));
        world.advance(10);
        pipe.send("a byte ");
        settle().await;
    }
    until(|| world.cache.stats().refreshing == 0).await;
    assert_eq!(world.get("/other").await.answer.refresh, Some(RefreshStatus::Started));
    world.refreshed(1).await;
    assert_eq!(world.get("/other").await.brief(), "hit 3");
    // What trickles still comes.
    drop(pipe);
    until(|| world.cache.stats().in_flight == 0).await;
    assert_eq!(world.get("/slow").await.brief(), "hit a byte a byte a byte ");
}

#[tokio::test]
async fn a_miss_that_meets_a_refresh_adopts_its_result() {
    let with: &[_] = &[("cache-control", "max-age=60, stale-while-revalidate=60")];
    let world = World::new(shared(), Origin::counting(with));
    world.get("/a").await;
    world.advance(70);
    world.origin.hold();
    world.get("/a").await;
    world.asked(2).await;
    let late = world.spawn_get("/a", &[("cache-control", "max-age=10")]);
    until(|| world.cache.stats().waited == 1).await;
    world.origin.let_through(1);
    assert_eq!(late.await.expect("an answer").brief(), "coalesced 1");
}

#[tokio::test]
async fn vary_that_changes_with_a_304_moves_the_variant() {
    let origin = Origin::new(|count, _| {
        let with: &[_] =
            &[("cache-control", "max-age=60, stale-while-revalidate=600"), ("etag", "\"1\""), ("vary", "x-who")];
        Ok(if count == 0 { text(200, WINDOW, "0") } else { text(if count == 1 { 304 } else { 200 }, with, "1") })
    });
    let world = World::new(HttpCache::builder().private(), origin);
    let one: &[_] = &[("x-who", "1")];
    world.get_with("/a", one).await;
    world.advance(70);
    assert_eq!(world.get_with("/a", one).await.brief(), "stale 0");
    world.refreshed(1).await;
    assert_eq!(world.get_with("/a", one).await.brief(), "hit 0");
    assert_ne!(world.get_with("/a", &[("x-who", "2")]).await.outcome(), Outcome::Hit);
}
